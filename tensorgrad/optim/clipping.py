"""Gradient clipping, by the norm or element by element."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..engine.graph import Node
from ..engine.interpreter import Requirement, Tracing
from ..engine.modes import mode
from ..engine.tensor import Tensor
from ..engine.typing import Array
from .flat import distinct


def _gradients(parameters: Iterable[Tensor] | Tensor, name: str) -> dict[Node, Any]:
    tensors = [parameters] if isinstance(parameters, Tensor) else parameters
    pairs = [(p._node, p.grad) for p in distinct(tensors, name)]
    return {node: g for node, g in pairs if node is not None and g is not None}


def _sizes(g: Any) -> Any:
    """The absolute values of complex numbers, of which norms are made; real ones as they are."""
    return np.absolute(g) if g.dtype.kind == "c" else g


def clip_grad_norm(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = True,
) -> Any:
    """Scale all gradients, as one vector, to a norm of at most `max_norm`; return the old norm.

    They are scaled in place, by max_norm / (norm + 1e-6) where that is less than 1, as in PyTorch.
    `norm_type` is the order of the norm, `math.inf` for the largest absolute value. Parameters
    without a gradient are skipped. If the norm is infinite or NaN, raises FloatingPointError and
    changes nothing, unless `error_if_nonfinite` is false. In a compiled function the norm is an
    array.

    >>> p = tg.Tensor([0.0, 0.0], requires_grad=True)
    >>> p.grad = [3.0, 4.0]
    >>> tg.optim.clip_grad_norm([p], max_norm=1.0)
    5.0
    >>> p.grad.round(5)
    array([0.6, 0.8])
    """
    if not (max_norm >= 0 and norm_type > 0):
        raise ValueError(
            f"clip_grad_norm: max_norm {max_norm} must not be negative, "
            f"and norm_type {norm_type} must be positive"
        )
    gradients = _gradients(parameters, "clip_grad_norm")
    if not gradients:
        return 0.0
    interpreter = mode.get().interpreter
    if isinstance(interpreter, Tracing):
        return _trace_clipping(interpreter, gradients, max_norm, norm_type, error_if_nonfinite)
    flat = [_sizes(g).ravel(order="K") for g in gradients.values()]
    together = np.concatenate(flat, dtype=np.float64)  # squares of float32 overflow
    with np.errstate(over="ignore"):
        first = float(np.linalg.norm(together, norm_type)) if together.size else 0.0
    norm = _checked_norm(first, together, norm_type, error_if_nonfinite)
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:
        for g in gradients.values():
            g *= scale
    return norm


def _trace_clipping(
    trace: Tracing,
    gradients: dict[Node, Any],
    max_norm: float,
    norm_type: float,
    error_if_nonfinite: bool,
) -> Any:
    """Record the same in the compiled program, which replaces the gradients."""
    sizes = [_sizes(g).ravel(order="K") for g in gradients.values()]
    flat = [a.astype(np.float64, copy=False) for a in sizes]
    together: Any = np.concatenate(flat) if len(flat) > 1 else flat[0]
    overflows = norm_type not in (1, 2, math.inf) or (
        norm_type == 2 and any(a.dtype.itemsize == 8 for a in sizes)
    )
    norm: Any = np.zeros(())
    if together.size:
        with np.errstate(over="ignore"):
            norm = (_scaled_norm if overflows else _norm)(together, norm_type)
    if error_if_nonfinite:
        trace.effect(_FINITE, norm)
    scale = np.minimum(max_norm / (norm + 1e-6), 1.0)
    for node, g in gradients.items():
        trace.set_grad(node, g * scale.astype(g.dtype))
    return norm


def _norm(x: Any, order: float) -> Any:
    """The norm of a traced vector, by functions that native code knows."""
    if order == 2:
        return np.sqrt(x.dot(x))
    sizes = np.absolute(x)
    return np.max(sizes) if order == math.inf else np.sum(sizes**order) ** (1 / order)


def _scaled_norm(x: Any, order: float) -> Any:
    """The same, where powers of the elements can overflow: those of x / unit cannot."""
    unit = np.minimum(np.maximum(np.max(np.absolute(x)), _LIMITS.tiny), _LIMITS.max)
    return unit * _norm(x / unit, order)


def _require_finite(norm: Any) -> None:
    """Raise FloatingPointError unless the norm is finite."""
    if not math.isfinite(norm):
        raise FloatingPointError(
            f"clip_grad_norm: the norm of the gradients is {float(norm)}; they were not changed: "
            "find the cause with detect_anomaly(), or pass error_if_nonfinite=False"
        )


_FINITE = Requirement(_require_finite, lambda norm: abs(norm) < math.inf)
_LIMITS = np.finfo(np.float64)


def _checked_norm(norm: float, x: Array, order: float, error_if_nonfinite: bool) -> float:
    """The norm of `x`, computed again from a scaled vector if the powers have overflowed."""
    if math.isinf(norm):
        largest = float(np.max(np.absolute(x)))
        if not math.isinf(largest):
            norm = largest * float(np.linalg.norm(x / largest, order))
    if error_if_nonfinite:
        _require_finite(norm)
    return norm


def clip_grad_value(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Clip each element of the gradients, in place, to the range -clip_value to clip_value.

    Of complex numbers, the real and the imaginary part.

    >>> p = tg.Tensor([0.0, 0.0], requires_grad=True)
    >>> p.grad = [3.0, -0.5]
    >>> tg.optim.clip_grad_value([p], 1.0)
    >>> p.grad
    array([ 1. , -0.5])
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value: clip_value {clip_value} must not be negative")
    interpreter = mode.get().interpreter
    for node, g in _gradients(parameters, "clip_grad_value").items():
        if isinstance(interpreter, Tracing):
            clipped = [np.minimum(np.maximum(part, -clip_value), clip_value) for part in _parts(g)]
            interpreter.set_grad(node, clipped[0] + 1j * clipped[1] if clipped[1:] else clipped[0])
            continue
        for part in _parts(g):
            np.clip(part, -clip_value, clip_value, out=part)


def _parts(g: Any) -> list[Any]:
    return [np.real(g), np.imag(g)] if g.dtype.kind == "c" else [g]
