"""Cotangents of the solution of an initial value problem, carried back to its start.

The discrete adjoint differentiates the steps of a Runge-Kutta method as they were taken. The
continuous one solves the adjoint equation a' = -(df/dy)^T a backward in time, along the solution
that the solver interpolates, so that it suits any method, and stiff equations. Gradients by what f
uses are integrals along the solution in both: all their terms are carried back in one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.typing import Array, Function
from ..mapping import vmap
from .captured import Captured, Recording

_MAX_DENSE = 16  # unknowns; with more, products with Jacobians take less time than the Jacobians
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)


def recorded_at(f: Captured, t: Array, y: Array) -> Recording | None:
    """A recorded call of f for many times and states at once; None if f decides by values."""
    together = Captured(f.name, vmap(f))
    together.sources = f.sources
    try:
        return Recording(together, [t, y])
    except TypeError:
        return None


def pull_to_sources(f: Captured, t: Array, y: Array, g: Array) -> list[Any]:
    """The cotangents of the sources of f, from those of its values at many times and states."""
    if not f.sources:
        return []
    together = recorded_at(f, t, y)
    if together is not None:
        return together.pull_to_sources(g)
    parts = [Recording(f, point).pull_to_sources(row) for *point, row in zip(t, y, g)]
    return [np.sum(part, axis=0) for part in zip(*parts)]


# -- the discrete adjoint


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


def discrete(f: Captured, tableau: Tableau, steps: Steps, g: Array) -> tuple[Array, list[Any]]:
    """The cotangents of the first state and of the sources of f, from those of the results.

    A result has its own column in `g`.
    """
    if not steps.k:
        return np.sum(g, axis=1), [np.zeros(node.shape, node.dtype) for node in f.sources]
    stages = _Stages(f, tableau, steps)
    direct, of_stages = np.zeros_like(stages.ends), np.zeros_like(stages.y)
    if steps.t_eval is None:
        direct += g.T
    else:
        step, x = steps.located()
        np.add.at(direct, step, g.T)
        weights = stages.h[step, None] * tableau.weights(x)
        np.add.at(of_stages, step, weights[:, :, None] * g.T[:, None])
    count = stages.y.shape[-1]
    if count <= _MAX_DENSE:
        together = recorded_at(f, stages.t.ravel(), stages.y.reshape(-1, count))
        if together is not None:
            return _by_jacobians(stages, together, direct, of_stages)
    return _by_products(stages, direct, of_stages)


class _Stages:
    """All stages of all steps: their times and states, of shapes (steps, stages, ...)."""

    def __init__(self, f: Captured, tableau: Tableau, steps: Steps) -> None:
        rows = tableau.stages if steps.t_eval is None else len(tableau.b)
        a, self.f = tableau.a[:rows, :rows], f
        self.h, self.ends = np.diff(steps.t), np.array(steps.y)
        self.a = self.h[:, None, None] * a
        self.b = self.h[:, None, None] * tableau.b[:rows, None]
        self.t = np.array(steps.t)[:-1, None] + self.h[:, None] * tableau.c[:rows]
        self.y = self.ends[:-1, None] + self.a @ np.array(steps.k)[:, :rows]

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


def _by_jacobians(
    stages: _Stages, together: Recording, direct: Array, of_stages: Array
) -> tuple[Array, list[Any]]:
    """The cotangents, by the Jacobians at all stages, which are computed at once."""
    count = direct.shape[1]
    units = np.eye(count)
    rows = [together.pull(np.broadcast_to(unit, (stages.t.size, count))) for unit in units]
    jacobians = np.stack(rows, axis=1).reshape(*stages.t.shape, count, count)

    def pull(r: int, share: Array) -> Array:
        return (share[..., None, :] @ jacobians[:, r])[..., 0, :]  # type: ignore[no-any-return]

    through = units[:, None] + stages.back(units[:, None, None] * stages.b, pull)
    states = direct.copy()
    states[:-1] += stages.back(of_stages.copy(), pull)
    for i in reversed(range(len(stages.t))):
        states[i] += states[i + 1] @ through[:, i]
    of_stages += stages.b * states[1:, None]
    stages.back(of_stages, pull)
    return states[0], together.pull_to_sources(of_stages.reshape(-1, count))


def _by_products(stages: _Stages, direct: Array, of_stages: Array) -> tuple[Array, list[Any]]:
    """The cotangents, by products with the Jacobian at one stage after another."""
    state = direct[-1]
    for i in reversed(range(len(stages.t))):

        def pull(r: int, share: Array, i: int = i) -> Array:
            if not share.any():
                return np.zeros_like(share)
            call = Recording(stages.f, [stages.t[i, r], stages.y[i, r]])
            return call.pull(share)  # type: ignore[no-any-return]

        of_stages[i] += stages.b[i] * state
        state = state + direct[i] + stages.back(of_stages[i], pull, i)
    count = stages.y.shape[-1]
    points = stages.t.ravel(), stages.y.reshape(-1, count), of_stages.reshape(-1, count)
    return state, pull_to_sources(stages.f, *points)


def replayed(
    f: Captured, tableau: Tableau, steps: Steps, y: Any, t0: Any, t1: Any, t_eval: Any = None
) -> Any:
    """The results, computed again in operations on tensors, which have derivatives of every order.

    Steps take the same shares of the time from t0 to t1 as before.
    """
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


# -- the continuous adjoint


def continuous(
    f: Captured, solution: Function, t: Array, t0: float, g: Array, solve: Function
) -> tuple[Array, list[Any]]:
    """The cotangents of the state at t0 and of the sources of f; those of the results are `g`.

    `solution(t)` is the state at a time; `solve(fun, t_span, a, jac)` solves the adjoint equation.
    """

    def slope(t: float, a: Array) -> Array:
        return -Recording(f, [t, solution(t)]).pull(a)  # type: ignore[no-any-return]

    def jac(t: float, _a: Array) -> Array:
        return -f.jacobian(t, solution(t)).T

    a = np.zeros_like(g[:, 0])
    parts = []
    for end, start, column in zip(t[::-1], [*t[-2::-1], t0], g.T[::-1]):
        a = a + column
        if start != end:
            found = solve(slope, (end, start), a, jac)
            a = found.y[:, -1]
            parts.append(_quadrature(found))
    if not parts:
        return a, [np.zeros(node.shape, node.dtype) for node in f.sources]
    times, cotangents = map(np.concatenate, zip(*parts))
    return a, pull_to_sources(f, times, solution(times).T, cotangents)


def _quadrature(adjoint: Any) -> tuple[Array, Array]:
    """Times, and the cotangents of f there: an adjoint with the weights of Gauss and Legendre."""
    half = -np.diff(adjoint.t)[:, None] / 2
    times = (adjoint.t[:-1, None] - half * (1 - _NODES)).ravel()
    return times, (half * _WEIGHTS).reshape(-1, 1) * adjoint.sol(times).T
