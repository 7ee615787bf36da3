"""Norms of vectors and matrices, and products of many matrices."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..engine.custom import differentiable
from ..engine.registry import composite, shown_as
from ..engine.typing import Axis
from .decompositions import inverse
from .reductions import axes_of, joined, keep_axes


def _norm_back(g: Any, y: Any, x: Any, _ord: Any, axis: Axis, _keepdims: bool) -> Any:
    g, y = keep_axes(g, x, axis), keep_axes(y, x, axis)
    return np.conjugate(x) * np.where(y == 0, 0, g / np.where(y == 0, 1, y))


@differentiable(_norm_back)
@shown_as("norm")
def euclidean_norm(x: Any, order: Any, axis: Axis, keepdims: bool) -> Any:
    """`np.linalg.norm` of the orders that are the square root of a sum of squares."""
    return np.linalg.norm(x, order, axis, keepdims)


def _power_norm_back(g: Any, y: Any, x: Any, order: float, axis: Axis, _keepdims: bool) -> Any:
    g, y = keep_axes(g, x, axis), keep_axes(y, x, axis)
    flat = (x == 0) | (y == 0)
    return np.where(flat, 0, g * np.where(flat, 1, x / np.where(y == 0, 1, y)) ** (order - 1))


@differentiable(_power_norm_back)
@shown_as("norm")
def power_norm(x: Any, order: float, axis: Axis, keepdims: bool) -> Any:
    """`np.linalg.norm` of vectors of non-negative numbers, of an order other than 0 and infinity.

    At an element that is zero, the derivative is 0.
    """
    return np.linalg.norm(x, order, axis, keepdims)


def _of_sums(extremum: Callable[..., Any], inner: int) -> Callable[[Any], Any]:
    """A norm of matrices: the extremum of the sums of absolute values along one axis."""
    return lambda x: extremum(np.sum(np.absolute(x), axis=inner), axis=-1)


_largest = partial(np.max, initial=0)
_VECTOR_NORMS: dict[Any, Callable[..., Any]] = {1: np.sum, np.inf: _largest, -np.inf: np.min}
_MATRIX_NORMS: dict[Any, Callable[..., Any]] = {
    1: _of_sums(_largest, -2),
    -1: _of_sums(np.min, -2),
    np.inf: _of_sums(_largest, -1),
    -np.inf: _of_sums(np.min, -1),
    2: lambda x: _largest(np.linalg.svdvals(x), axis=-1),
    -2: lambda x: np.min(np.linalg.svdvals(x), axis=-1),
    "nuc": lambda x: np.sum(np.linalg.svdvals(x), axis=-1),
}


@composite(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002
    axes = axes_of(x, axis)
    kind = len(axes)
    euclidean = {1: (None, 2), 2: (None, "fro", "f")}.get(kind, ())
    if ord in euclidean or (ord is None and axis is None):
        return euclidean_norm(x, ord, axis, keepdims)
    if kind == 1 and ord in _VECTOR_NORMS:
        return _VECTOR_NORMS[ord](np.absolute(x), axis=axes, keepdims=keepdims)
    if kind == 1 and ord != 0 and not isinstance(ord, str):
        return power_norm(np.absolute(x), ord, axis, keepdims)
    if kind == 2 and ord in _MATRIX_NORMS:
        norms = _MATRIX_NORMS[ord](np.moveaxis(x, axes, (-2, -1)))
        return keep_axes(norms, x, axes) if keepdims else norms
    return np.linalg.norm(x.detach(), ord, axis, keepdims)  # a count, or NumPy's error


@composite(np.linalg.vector_norm)
def _vector_norm(x: Any, *, axis: Axis = None, keepdims: bool = False, ord: Any = 2) -> Any:  # noqa: A002
    axes = axes_of(x, axis) if isinstance(axis, tuple) or axis is None else (axis,)
    if len(axes) == 1:
        rows, along = x, axes[0]
    else:
        rows, along = joined(x, axes), 0
    norms = np.linalg.norm(rows, ord, along)
    return keep_axes(norms, x, axes) if keepdims else norms


@composite(np.linalg.matrix_norm)
def _matrix_norm(x: Any, *, keepdims: bool = False, ord: Any = "fro") -> Any:  # noqa: A002
    return np.linalg.norm(x, ord, (-2, -1), keepdims)


@composite(np.linalg.cond)
def _cond(x: Any, p: Any = None) -> Any:
    if x.ndim > 1 and 0 in x.shape[-2:]:
        raise np.linalg.LinAlgError("cond is not defined on empty matrices")
    with np.errstate(all="ignore"):
        if p in (None, 2, -2):
            s = np.linalg.svdvals(x)
            number = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
        else:
            number = np.linalg.norm(x, p, (-2, -1)) * np.linalg.norm(inverse(x), p, (-2, -1))
    singular = np.isnan(number) & ~np.any(np.isnan(x), axis=(-2, -1))
    return np.where(singular, np.inf, number)


# -- products of many matrices


def _multi_dot_back(i: int, g: Any, _y: Any, *arrays: Any) -> Any:
    matrices = list(arrays)
    if arrays[0].ndim == 1:
        matrices[0] = arrays[0][None, :]
    if arrays[-1].ndim == 1:
        matrices[-1] = arrays[-1][:, None]
    before, after = ([m.T for m in reversed(part)] for part in (matrices[:i], matrices[i + 1 :]))
    g = g.reshape(len(matrices[0]), matrices[-1].shape[1])
    return np.linalg.multi_dot([*before, g, *after]).reshape(arrays[i].shape)


@differentiable(each=_multi_dot_back, form="multilinear")
def multi_dot(*arrays: Any) -> Any:
    """`np.linalg.multi_dot` of three or more arrays, each an argument."""
    return np.linalg.multi_dot(arrays)


@composite(np.linalg.multi_dot, of_sequences=True)
def _multi_dot(arrays: Sequence[Any]) -> Any:
    return np.dot(*arrays) if len(arrays) == 2 else multi_dot(*arrays)
