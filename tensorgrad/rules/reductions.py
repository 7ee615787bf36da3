"""Reductions. A vjp returns the cotangent with the reduced axes as axes of length 1."""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..graph import Function, composite, rule
from ..tensor import Axis, apply

_add: Function = np.add.reduce
_maximum: Function = np.maximum.reduce
_minimum: Function = np.minimum.reduce


def _keep_axes(reduced: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """Give the result of reducing `x` its reduced axes back, as axes of length 1."""
    if keepdims or axis is None or not x.ndim:
        return reduced
    axes = normalize_axis_tuple(axis, x.ndim)
    return reduced.reshape([1 if i in axes else n for i, n in enumerate(x.shape)])


rule(
    _add,
    lambda g, _y, _x, axis=0, dtype=None, keepdims=False: (  # noqa: ARG005 (NumPy's name)
        _keep_axes(g, _x, axis, keepdims)
    ),
)


def _mean_back(g: Any, _y: Any, _x: Any, axis: Axis, _dtype: Any, keepdims: bool) -> Any:
    return _keep_axes(g, _x, axis, keepdims) * (max(_y.size, 1) / max(_x.size, 1))


def mean(a: Any, axis: Axis, dtype: Any, keepdims: bool) -> Any:
    """`np.mean` of an array."""
    if axis is None and dtype is None and a.size and a.dtype.char in "fd":
        return _add(a, axis=None, keepdims=keepdims) / a.size  # np.mean's way, in half its time
    return np.mean(a, axis=axis, dtype=dtype, keepdims=keepdims)


rule(mean, _mean_back)


@composite(np.mean)
def _mean(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    return apply(mean, (a, axis, dtype, keepdims))


def _extremum(g: Any, y: Any, x: Any, axis: Axis = 0, keepdims: bool = False) -> Any:
    # The elements that equal the extremum, or the NaNs that became it, share equally.
    chosen = (x == _keep_axes(y, x, axis, keepdims)) | (x != x)
    count = _add(chosen, axis=axis, keepdims=True, dtype=np.result_type(g.dtype, np.float32))
    return np.where(chosen, _keep_axes(g, x, axis, keepdims) / count, 0)


rule(_maximum, _extremum)
rule(_minimum, _extremum)


@composite(np.sum)
def _sum(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    return apply(_add, (a,), {"axis": axis, "dtype": dtype, "keepdims": keepdims})


@composite(np.max)
@composite(np.amax)
def _max(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return apply(_maximum, (a,), {"axis": axis, "keepdims": keepdims})


@composite(np.min)
@composite(np.amin)
def _min(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return apply(_minimum, (a,), {"axis": axis, "keepdims": keepdims})
