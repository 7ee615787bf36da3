"""Distances of all pairs of points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.custom import differentiable
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from .module import as_input, floating

_BLOCK = 1 << 18  # elements of differences that are computed at once


def cdist(x1: Any, x2: Any, p: float = 2.0) -> Tensor:
    """Return the norm of order `p` of each point of `x1` minus each point of `x2`.

    Shapes (..., m, d) and (..., n, d) give (..., m, n). Where two points are equal, the derivative
    is 0. The memory that `p=2` takes does not grow with d.

    >>> tg.nn.cdist(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 4.0]]))
    array([[4.],
           [5.]])
    """
    x1 = as_input(x1)
    x2 = as_input(x2, x1.dtype)
    dtype = floating(np.result_type(x1.dtype, x2.dtype))
    x1, x2 = [x if x.dtype == dtype else x.astype(dtype) for x in (x1, x2)]
    if min(x1.ndim, x2.ndim) < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ValueError(
            f"cdist: shapes {x1.shape} and {x2.shape}; they must be (..., m, d) and (..., n, d)"
        )
    if not p >= 0:
        raise ValueError(f"cdist: p={p} is not the order of a norm: it must be at least 0")
    if p == 2 and dtype.kind == "f":
        return _euclidean(x1, x2)
    difference = x1[..., :, None, :] - x2[..., None, :, :]
    if p == 0:
        return np.sum(difference != 0, axis=-1).astype(dtype)
    return np.linalg.norm(difference, p, axis=-1)


def pdist(x: Any, p: float = 2.0) -> Tensor:
    """Return the distances of all pairs of rows of `x`, shape (n, d): shape (n * (n - 1) / 2,).

    The pairs are (0, 1), (0, 2), ..., (1, 2), ... All else is as in `cdist`.

    >>> tg.nn.pdist(np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
    array([3., 4., 5.])
    """
    x = as_input(x)
    if x.ndim != 2:
        raise ValueError(f"pdist: an input of shape {x.shape}; it must be (n, d)")
    return cdist(x, x, p)[np.triu_indices(len(x), 1)]


def _euclidean_back(g: Any, d: Any, x1: Any, x2: Any) -> Any:
    share = np.where(d > 0, g / np.where(d > 0, d, 1), 0)
    # Differences from the mean: fewer digits cancel.
    center = np.sum(x2, axis=-2, keepdims=True) / max(x2.shape[-2], 1)
    x1, x2 = x1 - center, x2 - center
    of_x1 = x1 * np.sum(share, axis=-1)[..., None] - share @ x2
    of_x2 = x2 * np.sum(share, axis=-2)[..., None] - share.mT @ x1
    return of_x1, of_x2


@differentiable(together=_euclidean_back)
@shown_as("cdist")
def _euclidean(x1: Any, x2: Any) -> Any:
    """The distances, from differences, so that no digits cancel; in blocks of rows of `x1`."""
    batch = math.prod(np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2]))
    rows = max(_BLOCK // max(batch * x2.shape[-2] * x2.shape[-1], 1), 1)
    parts = []
    for start in range(0, max(x1.shape[-2], 1), rows):
        difference = x1[..., start : start + rows, None, :] - x2[..., None, :, :]
        parts.append(np.sqrt(np.sum(difference * difference, axis=-1)))
    return np.concatenate(parts, axis=-2) if len(parts) > 1 else parts[0]
