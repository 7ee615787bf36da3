"""Gradients kept within bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..graph import Array
from ..tensor import Tensor
from .flat import distinct


def _gradients(parameters: Iterable[Tensor] | Tensor, name: str) -> list[Array]:
    tensors = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in distinct(tensors, name) if p.grad is not None]


def clip_grad_norm(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = True,
) -> float:
    """Scale all gradients, as one vector, down to a norm of at most `max_norm`; return their norm.

    In place, by max_norm / (norm + 1e-6) where that is less than 1, as PyTorch does. `norm_type` is
    the order of the norm, `math.inf` for the largest absolute value. Parameters without a gradient
    are left out. Raises FloatingPointError, and leaves the gradients as they were, if the norm is
    infinite or NaN, unless `error_if_nonfinite` is false.

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
    together = np.concatenate(gradients, axis=None, dtype=np.float64)  # squares of float32 overflow
    norm = _norm(together, norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise FloatingPointError(
            f"clip_grad_norm: the norm of the gradients is {norm}, and they were left as they are: "
            "find the cause with detect_anomaly(), or pass error_if_nonfinite=False"
        )
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:
        for g in gradients:
            g *= scale
    return norm


def _norm(x: Array, order: float) -> float:
    """The norm of a vector; where its powers overflow, that of a scaled one."""
    if not x.size:
        return 0.0
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(x, order))
    largest = float(np.max(np.absolute(x))) if math.isinf(norm) else math.inf
    return norm if math.isinf(largest) else largest * float(np.linalg.norm(x / largest, order))


def clip_grad_value(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Clip each element of the gradients, in place, to between -clip_value and clip_value.

    >>> p = tg.Tensor([0.0, 0.0], requires_grad=True)
    >>> p.grad = [3.0, -0.5]
    >>> tg.optim.clip_grad_value([p], 1.0)
    >>> p.grad
    array([ 1. , -0.5])
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value: clip_value must not be negative, as {clip_value} is")
    for g in _gradients(parameters, "clip_grad_value"):
        np.clip(g, -clip_value, clip_value, out=g)
