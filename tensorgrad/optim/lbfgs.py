"""A quasi-Newton method, through SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.modes import enable_grad, mode
from ..engine.typing import Array
from ..errors import optional
from .base import Optimizer, Options, Parameters
from .flat import Flat


class LBFGS(Optimizer):
    """The L-BFGS method, for small problems whose loss is not random. It calls SciPy.

    `step` takes a closure that calls `zero_grad()`, computes the loss, calls its `backward()`, and
    returns the loss. A step makes up to `max_iter` iterations, each with a line search that ends
    where the strong Wolfe conditions hold, and calls the closure up to `max_eval` times, by default
    1.25 * `max_iter`. It ends early if no element of the gradient exceeds `tolerance_grad`, or if
    the loss falls by less than `tolerance_change` times the larger of its absolute value and 1.
    Each step starts with an empty history, which then holds up to `history_size` iterations. `lr`
    exists for compatibility with PyTorch, and must be 1. All parameters must be in one group; their
    dtypes may differ, and SciPy computes in float64. Needs SciPy. Byrd, Lu, Nocedal and Zhu, A
    limited memory algorithm for bound constrained optimization, 1995.

    >>> p = tg.Tensor([-1.0, 2.0], requires_grad=True)
    >>> optimizer = tg.optim.LBFGS([p], max_iter=100)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item()
    104.0
    >>> p.data.round(4)
    array([1., 1.])
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = "strong_wolfe",
    ) -> None:
        if lr != 1 or line_search_fn != "strong_wolfe":
            raise ValueError(
                f"LBFGS: lr={lr}, line_search_fn={line_search_fn!r}: SciPy's line search, "
                '"strong_wolfe", chooses the length of a step: leave both out'
            )
        super().__init__(
            params,
            max_iter=max_iter,
            max_eval=max_iter * 5 // 4 if max_eval is None else max_eval,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            history_size=history_size,
        )

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add the group of all parameters; a second one raises ValueError."""
        if self.param_groups:
            raise ValueError("LBFGS: all parameters must be in one group")
        super().add_param_group(group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Minimize the loss that `closure` returns; return its first result."""
        mode.get().interpreter.require_eager(
            "LBFGS: a step cannot be compiled, because the values decide how often SciPy calls "
            "the closure: compile the closure, and call step() outside compiled functions"
        )
        if closure is None:
            raise TypeError("LBFGS: step() needs a closure that computes the loss and gradients")
        minimize = optional("scipy.optimize", "LBFGS").minimize
        (o,), (flats,) = self.param_groups, self._flats
        losses = []

        def evaluate(x: Array) -> tuple[float, Array]:
            _write(flats, x)
            with enable_grad():
                loss = closure()
            losses.append(loss)
            return float(loss.item() if hasattr(loss, "item") else loss), _gradient(flats)

        for flat in flats:
            flat.adopt()
        x = np.concatenate([flat.data for flat in flats], dtype=np.float64)
        try:
            x = minimize(evaluate, x, method="L-BFGS-B", jac=True, options=_options(o)).x
        finally:  # after an exception, x is still the start
            _write(flats, x)
        return losses[0]


def _options(o: Options) -> dict[str, Any]:
    return {
        "maxiter": o["max_iter"],
        "maxfun": o["max_eval"],
        "gtol": o["tolerance_grad"],
        "ftol": o["tolerance_change"],
        "maxcor": o["history_size"],
    }


def _write(flats: list[Flat], x: Array) -> None:
    start = 0
    for flat in flats:
        flat.data[...] = x[start : start + flat.size]
        start += flat.size
        flat.touch()


def _gradient(flats: list[Flat]) -> Array:
    for flat in flats:
        flat.grad[...] = 0
        flat.gather()
    return np.concatenate([flat.grad for flat in flats], dtype=np.float64)
