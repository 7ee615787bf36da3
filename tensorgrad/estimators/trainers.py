"""Compiled training steps of the estimators, kept for the next fit of the same kind."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..compiler import Compiled, Supervisor, Turns
from ..compiler.passes import Pass, repeatable
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..optim import Adam, Optimizer
from ..optim.base import Number, Options, Parameters, State, arguments
from .network import Network

KEPT = 8  # trainers, and compiled steps of each
LARGE = 1 << 23  # bytes of weights, with which compiling takes little of the time of a fit


class Momentum(Optimizer):
    """SGD with the learning rate in the velocity: v = momentum * v - lr * g, then p += v.

    With a constant learning rate, it is `tg.optim.SGD`. With another, it is scikit-learn's.
    """

    vectors = ("velocity",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(**arguments(locals()))

    def _coefficients(self, o: Options) -> Sequence[float]:
        return o["lr"], o["momentum"]

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State,
        lr: Array, momentum: Array,
    ) -> None:  # fmt: skip
        v = state("velocity")
        v *= momentum
        g *= lr
        v -= g
        if o["nesterov"]:
            p += np.multiply(v, momentum, s)  # p = p + momentum * v - lr * g
            p -= g
        else:
            p += v


class AdamHat(Adam):
    """Adam with the epsilon of the last formulas in section 2 of its paper, as scikit-learn's."""

    def _coefficients_of_step(self, o: Options, n: Options, t: Number) -> Sequence[Number]:
        _, lr = super()._coefficients_of_step(o, n, t)
        return n["eps"], lr


class Steps(Supervisor):
    """Makes each run alike: native code is made if it saves time for so many calls.

    What is traced is undone, and then made by the plan, since that may round otherwise.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._traced: set[Any] = set()

    def has_run(self, key: Any) -> bool:
        """Return whether the call is to be undone and made by the plan: the first one."""
        is_first = key not in self._traced
        self._traced.add(key)
        return is_first

    def passes(self, passes: Sequence[Pass]) -> Sequence[Pass]:
        """Return the passes of a program, none of which measures times."""
        return repeatable(passes)

    def turns(self) -> Turns:
        """Return what decides about native code."""
        return Turns(self._number)


class Kind(NamedTuple):
    """What a compiled step depends on, but for the size of its batch."""

    network: Network
    dtype: str
    solver: str
    options: tuple[str, ...]  # of the solver, those that are not zero
    backend: str  # what the environment asks for


class Trainer:
    """The weights of a network, an optimizer, and their compiled steps."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        zeros = (np.zeros(shape, kind.dtype) for shape in kind.network.shapes)
        tensors = [Tensor(array, requires_grad=True) for array in zeros]
        half = len(tensors) // 2
        self._coefs, self._intercepts = tensors[:half], tensors[half:]
        solver = Momentum if kind.solver == "sgd" else AdamHat
        self.optimizer: Optimizer = solver(tensors)
        for tensor in tensors:
            tensor.grad = np.zeros_like(tensor.data)
        self.optimizer.step()  # makes the memory of its state, which compiled steps know
        self._compiled = functools.lru_cache(KEPT)(self._compile)

    def _compile(self, _batch_size: int, steps: int) -> Any:
        """A compiled step of its own for each size: one for many sizes would warn of them."""
        return Compiled(self._take, supervisor=Steps(steps)).function()

    def _take(self, *batch: Any) -> Any:
        loss, shown = self.kind.network.losses(self._coefs, self._intercepts, *batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return shown

    def start(self, coefs: Sequence[Array], intercepts: Sequence[Array]) -> None:
        """Take over weights."""
        for tensor, values in zip([*self._coefs, *self._intercepts], [*coefs, *intercepts]):
            tensor.data[...] = values

    def start_optimizer(self, state: Mapping[str, Any] | None, options: Mapping[str, Any]) -> None:
        """Continue from a state, or begin anew with options."""
        if state is None:
            # Zeros by name, so that the optimizer keeps the memory that the compiled step knows.
            state = self.optimizer.state_dict()
            for values in state["state"].values():
                values.update({name: np.zeros_like(x) for name, x in values.items()})
            for group in state["param_groups"]:
                group.update(options)
        self.optimizer.load_state_dict(state)

    @property
    def weights(self) -> tuple[list[Array], list[Array]]:
        """The coefs and intercepts, which steps overwrite."""
        return [w.data for w in self._coefs], [b.data for b in self._intercepts]

    def run(self, batches: Sequence[Any], steps: int) -> Array:
        """Take a step for each batch, an item of the arrays; return the losses.

        So many steps, with batches of this size, are to come in all. Those for a list of sparse
        samples are not compiled.
        """
        if isinstance(batches[0], list):
            return np.array([self._take(*batch).item() for batch in zip(*batches)])
        losses: Array = self._compiled(batches[0].shape[1], steps).scan(*batches)
        return losses


_kept: deque[Trainer] = deque(maxlen=KEPT)
_lock = threading.Lock()


@contextmanager
def borrowed(kind: Kind) -> Iterator[Trainer]:
    """A trainer of this kind, which nobody else has meanwhile: one of an earlier fit, or a new one.

    So a search over parameters, or a cross-validation, compiles one step. Those with large weights
    are not kept, for their memory.
    """
    with _lock:
        trainer = next((t for t in _kept if t.kind == kind), None)
        if trainer is not None:
            _kept.remove(trainer)
    trainer = trainer or Trainer(kind)
    yield trainer
    if sum(w.nbytes for w in chain(*trainer.weights)) <= LARGE:
        with _lock:
            _kept.append(trainer)
