"""Products of matrices and vectors."""

import math
from typing import Any

import numpy as np

from ..graph import rule
from ..tensor import differentiable


def _rows(a: Any) -> Any:
    """The array as a matrix: all axes but the last become one."""
    return a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _matmul_left(g: Any, _z: Any, _x: Any, y: Any) -> Any:
    if y.ndim == 1:
        return g[..., None] * y
    if _x.ndim == 1:
        return (y @ g[..., None])[..., 0]
    return g @ y.mT


def _matmul_right(g: Any, _z: Any, x: Any, _y: Any) -> Any:
    if x.ndim == 1:
        return g[..., None] * x if _y.ndim == 1 else x[:, None] * g[..., None, :]
    if _y.ndim == 1:
        return (x.mT @ g[..., None])[..., 0]
    if _y.ndim == 2:  # one product, rather than a stack of them and its sum
        return _rows(x).mT @ _rows(g)
    return x.mT @ g


rule(np.matmul, _matmul_left, _matmul_right)


def _inner_left(g: Any, _z: Any, _x: Any, y: Any) -> Any:
    if getattr(y, "ndim", 0) == 2 and _x.ndim:
        return g @ y
    if not (_x.ndim and np.ndim(y)):
        return g * y
    rows = _rows(y)
    return (g.reshape(math.prod(_x.shape[:-1]), len(rows)) @ rows).reshape(_x.shape)


def _inner_right(g: Any, _z: Any, x: Any, _y: Any) -> Any:
    if _y.ndim == 2 and getattr(x, "ndim", 0) == 2:
        return g.mT @ x
    if not (np.ndim(x) and _y.ndim):
        return g * x
    rows = _rows(x)
    return (g.reshape(len(rows), math.prod(_y.shape[:-1])).mT @ rows).reshape(_y.shape)


rule(np.inner, _inner_left, _inner_right)


@differentiable(
    lambda g, _z, _x, weight, _bias: _inner_left(g, _z, _x, weight),
    lambda g, _z, x, _weight, _bias: _inner_right(g, _z, x, _weight),
    lambda g, _z, _x, _weight, _bias: g,
)
def affine(x: Any, weight: Any, bias: Any) -> Any:
    """Return `inner(x, weight) + bias`: what a layer computes, as one operation.

    `weight` has shape (nout, nin) or (nin,), `bias` (nout,) or (), and `x` (..., nin).

    >>> from tensorgrad.rules.linear_algebra import affine
    >>> affine(np.ones(2), np.ones((3, 2)), np.zeros(3))
    array([2., 2., 2.])
    """
    return np.inner(x, weight) + bias
