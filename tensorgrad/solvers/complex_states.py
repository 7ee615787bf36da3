"""Complex states for solvers of real ones: their real and imaginary parts, along a last axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.tensor import Tensor, asarray
from ..tree import leaves
from .captured import returned

Function = Callable[..., Any]


def parts_of(z: Any) -> Any:
    """The real and the imaginary part, along a last axis of length 2."""
    if not hasattr(z, "__array_function__"):
        has_tensors = any(isinstance(part, Tensor) for part in leaves(z))
        z = asarray(z) if has_tensors else np.asarray(z)
    return np.stack([np.real(z), np.imag(z)], axis=-1)


def from_parts(x: Any, axis: int = -1) -> Any:
    """The complex numbers with these parts along an axis of length 2."""
    return np.take(x, 0, axis) + 1j * np.take(x, 1, axis)


def solve_complex(solve_ivp: Function, fun: Function, y0: Any, options: dict[str, Any]) -> Any:
    """Solve for a complex state by `solve_ivp` for real ones; `options` are all other arguments."""
    if options.get("jac") is not None:
        raise TypeError("solve_ivp: leave out jac= where y0 is complex: it is found from fun")
    if options.get("dense_output"):
        raise TypeError(
            "solve_ivp: where y0 is complex, pass the times in t_eval in place of dense_output=True"
        )
    if np.ndim(atol := options.get("atol", 0.0)):
        options["atol"] = np.repeat(np.ravel(atol), 2)

    def of_parts(f: Function) -> Function:
        return lambda t, x, *args: f(t, from_parts(x), *args)

    def slope(t: Any, x: Any, *args: Any) -> Any:
        return parts_of(returned("solve_ivp", fun(t, from_parts(x), *args)))

    def event_of_parts(event: Function) -> Function:
        on_parts = of_parts(event)
        vars(on_parts).update(getattr(event, "__dict__", {}))
        return on_parts

    events = options.get("events")
    if events is not None:
        is_one = callable(events)
        options["events"] = event_of_parts(events) if is_one else [*map(event_of_parts, events)]
    found = solve_ivp(slope, y0=parts_of(y0), **options)
    found.y = from_parts(found.y, axis=-2)
    if found.y_events is not None:
        found.y_events = [from_parts(y.reshape(len(y), -1, 2)) for y in found.y_events]
    return found
