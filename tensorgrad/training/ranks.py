"""The processes that train a model together."""

from __future__ import annotations

from typing import Any

from ..data import Batches
from ..nn import Module
from ..optim import Optimizer
from ..parallel import (
    DistributedOptimizer,
    Share,
    broadcast,
    broadcast_buffers,
    end_all_on_error,
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
            end_all_on_error(comm)

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, on each of them."""
        return self._comm.allgather(value) if self.are_many else [value]

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
        lengths = self.gather(len(data) if hasattr(data, "__len__") else None)
        if None in lengths or len(set(lengths)) > 1:
            raise ValueError(
                f"{self._caller}: the ranks have {lengths} batches: with comm=, the data needs a "
                "length, the same on all ranks"
            )
        return data

    def share_to_evaluate(self, data: Any) -> Any:
        """This rank's batches of an evaluation, which may be fewer than those of another one."""
        is_whole = self.are_many and isinstance(data, Batches) and not isinstance(data, Share)
        return Share(data, self._comm) if is_whole else data

    def average(self, samples: int) -> None:
        """Replace the gradients by their means over the samples of all ranks."""
        if self._optimizer is not None:
            self._optimizer.average(samples)

    def share_buffers(self, model: Module) -> None:
        """Give all ranks the first one's running statistics."""
        if self.are_many:
            broadcast_buffers(model, self._comm)
