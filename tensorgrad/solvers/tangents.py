"""Tangents of the solution of an initial value problem, carried forward from its start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.typing import Array, Function
from .captured import Captured, Recording
from .steps import Stages


def discrete(stages: Stages, count: int, of_start: Any, of_sources: Sequence[Any]) -> Any:
    """The tangents of the `count` results, from those of the first state and of the sources of f.

    They are the derivatives of the steps as they were taken. A result has its own column.
    """
    if not stages.h.size:
        return np.stack([of_start] * count, axis=1)
    forward = _by_products if stages.jacobians is None else _by_jacobians
    states, slopes = forward(stages, of_start, of_sources)
    if stages.located is None:
        return np.transpose(states)
    step, weights = stages.located
    return np.transpose(states[step] + np.sum(weights[:, :, None] * slopes[step], axis=1))


def _by_jacobians(stages: Stages, of_start: Any, of_sources: Sequence[Any]) -> tuple[Any, Any]:
    """The tangents of the states at the ends of all steps, and of the slopes at all stages.

    The slopes of a step are `through` times the tangent of its first state, plus `driven`.
    """
    assert stages.jacobians is not None
    assert stages.together is not None
    by_sources = np.reshape(stages.together.push(None, of_sources), stages.y.shape)
    unit = np.eye(stages.y.shape[-1])
    through: list[Any] = []
    driven: list[Any] = []
    for r in range(stages.t.shape[1]):
        a, jacobian = stages.a[:, r, :r], stages.jacobians[:, r]
        into = sum([a[:, j, None, None] * through[j] for j in range(r)], start=unit)
        through.append(jacobian @ into)
        moved = sum([a[:, j, None] * driven[j] for j in range(r)], start=np.zeros(len(unit)))
        driven.append(
            by_sources[:, r] + np.sum(jacobian * moved[:, None], axis=-1) if r else by_sources[:, r]
        )
    all_through, all_driven = np.stack(through, axis=1), np.stack(driven, axis=1)
    step = unit + np.sum(stages.b[..., None] * all_through, axis=1)
    shift = np.sum(stages.b * all_driven, axis=1)
    states = [of_start]
    for i in range(len(step)):
        states.append(step[i] @ states[-1] + shift[i])
    ends = np.stack(states)
    slopes = np.sum(all_through * ends[:-1][:, None, None], axis=-1) + all_driven
    return ends, slopes


def _by_products(stages: Stages, of_start: Any, of_sources: Sequence[Any]) -> tuple[Any, Any]:
    """The same, by products with the Jacobian at one stage after another."""
    states, slopes = [of_start], []
    for i in range(len(stages.t)):
        k: list[Any] = []
        for r in range(stages.t.shape[1]):
            at = states[-1] + stages.a[i, r, :r] @ np.stack(k) if r else states[-1]
            k.append(Recording(stages.f, [stages.t[i, r], stages.y[i, r]]).push(at, of_sources))
        slopes.append(np.stack(k))
        states.append(states[-1] + np.sum(stages.b[i] * slopes[-1], axis=0))
    return np.stack(states), np.stack(slopes)


def continuous(
    f: Captured, solution: Function, solve: Function, of_start: Array, of_sources: Sequence[Any]
) -> Any:
    """The tangents of the results, from those of the start and of the sources of f.

    They solve d' = (df/dy) d + (df/dp) dp; `solve(fun, d, jac)` does so, for
    the times of the results.
    """

    def slope(t: float, d: Array) -> Array:
        return Recording(f, [t, solution(t)]).push(d, of_sources)  # type: ignore[no-any-return]

    def jac(t: float, _d: Array) -> Array:
        return f.jacobian(t, solution(t))

    return solve(slope, of_start, jac)
