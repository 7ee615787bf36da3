"""Cotangents of the solution of an initial value problem, carried back to its start.

The discrete adjoint differentiates the steps of a Runge-Kutta method as they were taken. The
continuous one solves the adjoint equation a' = -(df/dy)^T a backward in time, along the solution
that the solver interpolates, so that it suits any method, and stiff equations. Gradients by what f
uses are integrals along the solution in both: all their terms are carried back in one pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.typing import Array, Function
from .captured import Captured, Recording
from .steps import Stages, recorded_at

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)


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


def discrete(stages: Stages, g: Array) -> tuple[Array, list[Any]]:
    """The cotangents of the first state and of the sources of f, from those of the results.

    A result has its own column in `g`.
    """
    if not stages.h.size:
        zeros = [np.zeros(node.shape, node.dtype) for node in stages.f.sources]
        return np.sum(g, axis=1), zeros
    direct, of_stages = np.zeros_like(stages.ends), np.zeros_like(stages.y)
    if stages.located is None:
        direct += g.T
    else:
        step, weights = stages.located
        np.add.at(direct, step, g.T)
        np.add.at(of_stages, step, weights[:, :, None] * g.T[:, None])
    if stages.jacobians is not None:
        return _by_jacobians(stages, stages.jacobians, direct, of_stages)
    return _by_products(stages, direct, of_stages)


def _by_jacobians(
    stages: Stages, jacobians: Array, direct: Array, of_stages: Array
) -> tuple[Array, list[Any]]:
    """The cotangents, by the Jacobians at all stages."""
    units = np.eye(direct.shape[1])

    def pull(r: int, share: Array) -> Array:
        return (share[..., None, :] @ jacobians[:, r])[..., 0, :]

    through = units[:, None] + stages.back(units[:, None, None] * stages.b, pull)
    states = direct.copy()
    states[:-1] += stages.back(of_stages.copy(), pull)
    for i in reversed(range(len(stages.t))):
        states[i] += states[i + 1] @ through[:, i]
    of_stages += stages.b * states[1:, None]
    stages.back(of_stages, pull)
    return states[0], _pull_to_sources(stages, of_stages)


def _by_products(stages: Stages, direct: Array, of_stages: Array) -> tuple[Array, list[Any]]:
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
    return state, _pull_to_sources(stages, of_stages)


def _pull_to_sources(stages: Stages, of_stages: Array) -> list[Any]:
    count = of_stages.shape[-1]
    if not stages.f.sources:
        return []
    if stages.together is not None:
        return stages.together.pull_to_sources(of_stages.reshape(-1, count))
    points = stages.t.ravel(), stages.y.reshape(-1, count), of_stages.reshape(-1, count)
    return pull_to_sources(stages.f, *points)


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
