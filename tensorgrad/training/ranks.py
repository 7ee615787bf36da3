"""The processes that train a model together."""

from __future__ import annotations

from typing import Any

from .. import mpi
from ..data import Batches
from ..nn import Module
from ..optim import Optimizer
from ..parallel import (
    DistributedOptimizer,
    Share,
    broadcast,
    broadcast_buffers,
    require_same,
    shard,
)


class Ranks:
    """The ranks of an MPI communicator or, without one, this process alone."""

    def __init__(self, caller: str, comm: Any = None) -> None:
        if not (comm is None or hasattr(comm, "Allreduce")):
            raise TypeError(
                f"{caller}: comm must be a communicator of MPI, such as tg.parallel.world(), not a "
                f"{type(comm).__name__}"
            )
        self._caller, self._comm = caller, comm
        self._optimizer: DistributedOptimizer | None = None
        self.are_many = comm is not None and comm.size > 1
        self.is_first = comm is None or comm.rank == 0
        if self.are_many:
            mpi.end_together(comm)

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, on each of them."""
        return mpi.gather(self._comm, value) if self.are_many else [value]

    def require_alike(self, **options: Any) -> None:
        """Raise a ValueError, on all ranks, unless all call with the same options."""
        if self.are_many:
            mpi.require_alike(self._comm, options, self._caller, "pass the same on every rank")

    def start(self, model: Module, optimizer: Optimizer) -> None:
        """Begin to train the first rank's model on all ranks."""
        if self.are_many:
            broadcast(model, self._comm)
            self._optimizer = DistributedOptimizer(optimizer, self._comm)

    def share(self, data: Any) -> Any:
        """This rank's batches of a training: all ranks have the same number of them."""
        if not self.are_many:
            return data
        if isinstance(data, Batches) and not isinstance(data, Share):
            return shard(data, self._comm)
        length = len(data) if hasattr(data, "__len__") else None
        self.require_alike(**{"the number of batches": length})
        if length is None:
            raise ValueError(f"{self._caller}: with comm=, the data needs a length")
        return data

    def share_to_evaluate(self, data: Any) -> Any:
        """This rank's batches of an evaluation, which may be fewer than those of another one."""
        if not self.are_many or isinstance(data, Share) or not isinstance(data, Batches):
            return data
        require_same(data, self._comm)
        return Share(data, self._comm)

    def average(self, samples: int) -> None:
        """Replace the gradients by their means over the samples of all ranks."""
        if self._optimizer is not None:
            self._optimizer.average(samples)

    def check(self) -> None:
        """Raise a DriftError, on all ranks, unless they have the same parameters."""
        if self._optimizer is not None:
            self._optimizer.check()

    def share_buffers(self, model: Module) -> None:
        """Give all ranks the first one's running statistics."""
        if self.are_many:
            broadcast_buffers(model, self._comm)
