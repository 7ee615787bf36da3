"""An optimizer whose steps use the gradients of several processes, by MPI."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..engine.arrays import aligned, working_dtype
from ..engine.modes import mode, plain
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..errors import AnomalyError, TensorgradError
from ..mpi import GATHER, STEP, meet, mpi
from .base import Optimizer
from .flat import BLOCK, bounds, real_dtype, views


class DriftError(TensorgradError, RuntimeError):
    """The parameters of a rank differ from those of the first rank."""


class DistributedOptimizer:
    """An optimizer whose steps use the gradients of all ranks: their mean over samples.

    `step(samples)` averages the gradients, each weighted by how many samples it is the mean of, in
    one Allreduce; without `samples`, all ranks count alike. Then the optimizer takes its step,
    which is the same on every rank. It can be a part of a compiled function. Other attributes are
    those of the optimizer. The averages stay in `grad` until the next step overwrites them.

    In the first step, after every `check_every` ones, and in `check()`, the ranks compare checksums
    of their parameters: DriftError names the rank and the parameter that differ. AnomalyError, on
    all ranks, names the rank whose gradient is not finite.

    To clip gradients, call `average(samples)`, then `tg.optim.clip_grad_norm`, and then
    `optimizer.step()` of the optimizer itself. To accumulate gradients of several batches, with
    `samples` in them all on this rank, call `(loss * len(x) / samples).backward()` for each batch,
    and then `step(samples)`.
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
        self._gradients = _Gradients(optimizer._parameters())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["optimizer"], name)

    def step(self, samples: int = 1) -> None:
        """Average the gradients over all ranks, and take a step."""
        self.average(samples)
        self.optimizer.step()

    def check(self) -> None:
        """Raise a DriftError, on all ranks, unless they have the same parameters."""
        meet(self.comm, GATHER)
        self._require_alike([plain(p) for p in self.optimizer._parameters()])

    def average(self, samples: int = 1) -> None:
        """Replace the gradients by their means over all ranks, each weighted by its samples.

        Where no rank has a gradient, none is made.
        """
        if samples < 0:
            raise ValueError(f"DistributedOptimizer: {samples} samples are less than none")
        parameters = self.optimizer._parameters()
        if not self._gradients.are_of(parameters):
            self._gradients = _Gradients(parameters)
        gradients, interpreter = self._gradients, mode.get().interpreter
        interpreter.effect(_Weigh(self.comm, gradients, samples), writes=[gradients.weight])
        weight = interpreter.state(gradients.weight)
        for p, view in zip(parameters, gradients.views):
            if p.grad is None:
                interpreter.state(view)[...] = 0
            else:
                np.multiply(p.grad, weight, out=interpreter.state(view))
        arrays = [interpreter.array(p) for p in parameters]
        average = _Average(self, gradients, [p.grad is not None for p in parameters])
        interpreter.effect(average, *arrays, writes=[gradients.vector])
        for p, view, is_there in zip(parameters, gradients.views, average.everywhere):
            if is_there and p._node is not None:
                mean = interpreter.state(view)
                interpreter.set_grad(p._node, mean.astype(p.dtype, copy=False))

    def _require_alike(self, parameters: Sequence[Array]) -> None:
        """Raise a DriftError unless all ranks have the same parameters."""
        sums = [checksum(a) for a in parameters]
        everyones = self.comm.allgather(sums)
        for rank, others in enumerate(everyones):
            if others != everyones[0]:
                pairs = enumerate(zip(others, everyones[0]))
                i = next((i for i, (a, b) in pairs if a != b), len(others))
                raise DriftError(
                    f"DistributedOptimizer: after {self._steps} steps, parameter {i} of "
                    f"rank {rank} differs from that of rank 0: call broadcast(model, comm) before "
                    "the first step, and change parameters by step() alone"
                )

    def __repr__(self) -> str:
        return f"DistributedOptimizer({self.optimizer!r}, {self.comm.size} ranks)"


class _Gradients:
    """The gradients of all parameters in one vector, which the ranks add up."""

    def __init__(self, parameters: list[Tensor]) -> None:
        arrays = [plain(p) for p in parameters]
        size = bounds(arrays)[-1]
        dtype = working_dtype(*{real_dtype(p.dtype) for p in parameters})
        self._parameters = parameters
        self.weight = np.zeros((), dtype)  # of this rank's gradients in the mean
        self.vector = aligned(size + len(arrays) + 1, dtype)
        self.numbers, counts = np.split(self.vector, [size])
        self.views = views(self.numbers, arrays)
        self.present = counts[:-1]  # on how many ranks each parameter has a gradient
        self.finite = counts[-1:]  # on how many ranks all gradients are finite

    def are_of(self, parameters: list[Tensor]) -> bool:
        """Whether they are the gradients of these parameters."""
        return [*map(id, parameters)] == [*map(id, self._parameters)]

    def blocks(self) -> Iterator[Array]:
        """Pieces of the numbers that fit into the cache."""
        for start in range(0, len(self.numbers), BLOCK):
            yield self.numbers[start : start + BLOCK]

    def broken(self, ranks: int) -> int | None:
        """The first gradient that is not finite, or would not be in a sum over all ranks."""
        squares = (float(np.vdot(block, block)) for block in self.blocks())
        if all(map(math.isfinite, squares)):
            return None
        with np.errstate(over="ignore"):
            finite = (bool(np.isfinite(view * ranks).all()) for view in self.views)
            return next((i for i, is_finite in enumerate(finite) if not is_finite), None)


class _Weigh:
    """Computes the weight of this rank's gradients: its part of the samples of all ranks."""

    __name__ = "weigh gradients"

    def __init__(self, comm: Any, gradients: _Gradients, samples: int) -> None:
        self._comm, self._gradients, self._samples = comm, gradients, samples

    def __call__(self) -> None:
        total = meet(self._comm, STEP, self._samples)
        if total == 0:
            raise ValueError("DistributedOptimizer: no rank has a sample")
        self._gradients.weight[...] = self._samples / total


class _Average:
    """Compares the parameters of all ranks, and adds up their gradients."""

    __name__ = "allreduce"

    def __init__(
        self, owner: DistributedOptimizer, gradients: _Gradients, present: Sequence[bool]
    ) -> None:
        self._owner, self._gradients, self._present = owner, gradients, present
        self.everywhere: list[bool] = []  # whether some rank has a gradient of each parameter

    def __call__(self, *parameters: Array) -> None:
        owner, gradients = self._owner, self._gradients
        if owner._steps % owner.check_every == 0:
            owner._require_alike(parameters)
        broken = gradients.broken(owner.comm.size)
        gradients.present[...] = self._present
        gradients.finite[...] = broken is None
        owner.comm.Allreduce(mpi().IN_PLACE, gradients.vector)
        if gradients.finite[0] < owner.comm.size:
            self._refuse(broken)
        everywhere = (gradients.present > 0).tolist()
        if self.everywhere not in ([], everywhere):
            raise ValueError(
                "DistributedOptimizer: other parameters have a gradient on some rank than when "
                "this step was compiled: do not compile it"
            )
        self.everywhere = everywhere
        owner._steps += 1

    def _refuse(self, broken: int | None) -> None:
        """Raise an AnomalyError that names the first gradient that is not finite."""
        everyones = enumerate(self._owner.comm.allgather(broken))
        rank, parameter = next((rank, i) for rank, i in everyones if i is not None)
        raise AnomalyError(
            f"DistributedOptimizer: a gradient is not finite: that of rank {rank}, of parameter "
            f"{parameter}; no rank took the step"
        )


def checksum(array: Array) -> int:
    """A number that differs, nearly always, where arrays do."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())
