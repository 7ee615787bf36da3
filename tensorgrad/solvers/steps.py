"""The steps of a Runge-Kutta method of SciPy's, as they were taken."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.modes import plain
from ..engine.typing import Array
from ..mapping import vmap
from .captured import Captured, Recording

_MAX_DENSE = 16  # unknowns; with more, products with Jacobians take less time than the Jacobians


def recorded_at(f: Captured, t: Array, y: Array) -> Recording | None:
    """A recorded call of f for many times and states at once; None if f decides by values."""
    together = Captured(f.name, vmap(f))
    together.sources = f.sources
    try:
        return Recording(together, [t, y])
    except TypeError:
        return None


class Tableau:
    """The coefficients of an explicit Runge-Kutta method of SciPy's.

    A step of size h from (t, y) has the stages K_r = f(t + c_r h, y + h sum_j a_rj K_j). It ends at
    y + h sum_r b_r K_r; the solution at t + x h, within it, is y + h sum_r weights_r(x) K_r.
    """

    def __init__(self, method: Any) -> None:
        stages = method.n_stages
        extra = getattr(method, "A_EXTRA", np.zeros((0, 0)))
        rows = stages + 1 + len(extra)
        self.a = np.zeros((rows, rows))
        self.a[:stages, : method.A.shape[1]] = method.A
        self.a[stages, :stages] = method.B
        self.a[stages + 1 :, : extra.shape[1]] = extra
        self.b = self.a[stages]
        self.c = np.concatenate([method.C, [1.0], getattr(method, "C_EXTRA", ())])
        self.stages = stages
        self._method = method

    def weights(self, x: Any) -> Any:
        """The weights of the stages at fractions x of a step, of shape `x.shape + (stages,)`."""
        x = np.reshape(x, (-1, 1))
        if hasattr(self._method, "D"):  # DOP853's polynomial, in the form of its authors
            first, last = np.eye(len(self.b))[[0, self.stages]]
            rows = np.stack([self.b, first - self.b, 2 * self.b - first - last, *self._method.D])
            total: Any = np.zeros((1, len(self.b)))
            for i, row in enumerate(rows[::-1]):
                total = (total + row) * (x if i % 2 == 0 else 1 - x)
            return total
        p = self._method.P
        return x ** np.arange(1.0, p.shape[1] + 1) @ p.T


@dataclass
class Steps:
    """The steps that a solver has taken: times and states at their ends, and the stages.

    With `t_eval`, results are interpolated at these times; without, they are the states.
    """

    t: list[float]
    y: list[Array]
    k: list[Array]
    t_eval: Array | None

    def located(self) -> tuple[Array, Array]:
        """The step that each time of `t_eval` lies in, and the fraction of it before that time."""
        t = np.array(self.t)
        direction = np.sign(t[-1] - t[0])
        step = np.maximum(np.searchsorted(t * direction, self.t_eval * direction) - 1, 0)
        return step, (self.t_eval - t[step]) / (t[step + 1] - t[step])


def recorder(method: Any, steps: Steps) -> Any:
    """A class of solvers that writes down the steps of a method of SciPy's."""

    class Recorder(method):  # type: ignore[misc]
        def step(self) -> Any:
            message = super().step()
            if self.status != "failed" and self.t != self.t_old:
                steps.t.append(self.t)
                steps.y.append(self.y)
                more = len(getattr(self, "A_EXTRA", ()))  # stages that interpolation alone uses
                steps.k.append(np.concatenate([self.K, np.repeat(self.K[:1], more, axis=0)]))
            return message

        def dense_output(self) -> Any:
            solution = super().dense_output()
            if steps.k and hasattr(self, "K_extended"):
                steps.k[-1] = self.K_extended.copy()
            return solution

    return Recorder


def replayed(
    f: Captured, tableau: Tableau, steps: Steps, y: Any, t0: Any, t1: Any, t_eval: Any = None
) -> Any:
    """The results, computed again in operations on tensors, which have derivatives of every order.

    Steps take the same shares of the time from t0 to t1 as before.
    """
    if not steps.k:
        return np.stack([y] * (2 if t_eval is None else t_eval.size), axis=1)
    rows = tableau.stages if t_eval is None else len(tableau.b)
    ends = np.array(steps.t)
    shares = (ends - ends[0]) / (ends[-1] - ends[0])
    located = None if t_eval is None else steps.located()[0]
    states, results = [y], []
    for i in range(len(steps.k)):
        t, h = t0 + shares[i] * (t1 - t0), (shares[i + 1] - shares[i]) * (t1 - t0)
        k: list[Any] = []
        for r in range(rows):
            at = y + h * (tableau.a[r, :r] @ np.stack(k)) if r else y
            k.append(f(t + tableau.c[r] * h, at))
        stages = np.stack(k)
        here = np.flatnonzero(located == i)
        if here.size:
            results.append(y + h * (tableau.weights((t_eval[here] - t) / h) @ stages))
        y = y + h * (tableau.b[:rows] @ stages)
        states.append(y)
    return np.stack(states, axis=1) if t_eval is None else np.concatenate(results).T


class Stages:
    """All stages of all steps: their times and states, of shapes (steps, stages, ...).

    `a` and `b` are those of the tableau, times the step. `located` are the step that each result
    lies in, and the weights of its stages; None if the results are the states.
    """

    def __init__(self, f: Captured, tableau: Tableau, steps: Steps) -> None:
        rows = tableau.stages if steps.t_eval is None else len(tableau.b)
        a, self.f = tableau.a[:rows, :rows], f
        self.h, self.ends = np.diff(steps.t), np.array(steps.y)
        self.a = self.h[:, None, None] * a
        self.b = self.h[:, None, None] * tableau.b[:rows, None]
        self.t = np.array(steps.t)[:-1, None] + self.h[:, None] * tableau.c[:rows]
        k = np.array(steps.k)[:, :rows] if steps.k else np.zeros((0, rows, self.ends.shape[1]))
        self.y = self.ends[:-1, None] + self.a @ k
        self._slopes = k[:, : tableau.stages]
        self.located: tuple[Array, Array] | None = None
        if steps.k and steps.t_eval is not None:
            step, x = steps.located()
            self.located = step, self.h[step, None] * tableau.weights(x)

    @functools.cached_property
    def together(self) -> Recording | None:
        """A recorded call of f for all stages at once, None if f decides by values.

        Raises a GraphError if f now has other values than when the steps were taken.
        """
        call = recorded_at(self.f, self.t.ravel(), self.y.reshape(-1, self.y.shape[-1]))
        if call is not None:
            before = self._slopes
            self.f.require_same(plain(call.y).reshape(self.y.shape)[:, : before.shape[1]], before)
        return call

    @functools.cached_property
    def jacobians(self) -> Array | None:
        """The Jacobians at all stages, None if they are not worth their time."""
        count = self.y.shape[-1]
        if count > _MAX_DENSE or self.together is None:
            return None
        shape = self.t.size, count
        rows = [self.together.pull(np.broadcast_to(unit, shape)) for unit in np.eye(count)]
        return np.stack(rows, axis=1).reshape(*self.t.shape, count, count)

    def back(self, g: Array, pull: Callable[[int, Array], Array], i: Any = slice(None)) -> Array:
        """The cotangent of the first state of step i, or of each step, from those of its stages.

        `pull(r, share)` carries the cotangent of stage r back to its state. In the end, `g` has the
        whole cotangent of each stage, with what later stages contribute.
        """
        total: Any = 0
        for r in reversed(range(self.t.shape[1])):
            share = pull(r, g[..., r, :])
            total = total + share
            g[..., :r, :] += self.a[i, r, :r, None] * share[..., None, :]
        return total  # type: ignore[no-any-return]
