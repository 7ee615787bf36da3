"""Reductions. A vjp returns the cotangent with the reduced axes as axes of length 1."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..engine.arrays import working_dtype
from ..engine.dispatch import apply
from ..engine.modes import plain
from ..engine.operands import as_operand
from ..engine.registry import composite, rule, shown_as
from ..engine.typing import Axis, Function
from ..special import softmax
from .selection import attains, attains_ignoring_nan

_add: Function = np.add.reduce
_multiply: Function = np.multiply.reduce
_maximum: Function = np.maximum.reduce
_minimum: Function = np.minimum.reduce

MISSING: Any = np._NoValue  # NumPy's default for parameters where None means something


def axes_of(x: Any, axis: Axis) -> tuple[int, ...]:
    """The axes that a reduction of `x` along `axis` reduces, counted from 0."""
    if axis is None or not x.ndim:
        return tuple(range(x.ndim))
    return normalize_axis_tuple(axis, x.ndim)


def rows_of(x: Any, axes: Sequence[int]) -> Any:
    """Reshape an array into a matrix: each slice along `axes` becomes a row.

    It must have elements.
    """
    length = math.prod(x.shape[i] for i in axes)
    return np.moveaxis(x, axes, range(-len(axes), 0)).reshape(x.size // length, length)


def joined(x: Any, axes: Sequence[int]) -> Any:
    """Join the axes into one axis, and make it the first."""
    rest = [n for i, n in enumerate(x.shape) if i not in axes]
    count = math.prod(x.shape[i] for i in axes)
    return np.moveaxis(x, axes, range(len(axes))).reshape(count, *rest)


def from_rows(rows: Any, axes: Sequence[int], shape: Sequence[int]) -> Any:
    """Undo `rows_of`: reshape rows along `axes` into an array of this shape."""
    rest = [n for i, n in enumerate(shape) if i not in axes]
    moved = rows.reshape([*rest, *(shape[i] for i in axes)])
    return np.moveaxis(moved, range(-len(axes), 0), axes)


def keep_axes(reduced: Any, x: Any, axis: Axis) -> Any:
    """Restore the axes along which `x` was reduced, with length 1: the result broadcasts with `x`.

    It does so without them if `axis` is None, for all axes.
    """
    if axis is None or reduced.ndim == x.ndim:
        return reduced
    axes = axes_of(x, axis)
    return reduced.reshape([1 if i in axes else n for i, n in enumerate(x.shape)])


def _selected(g: Any, where: Any) -> Any:
    return g if where is True else np.where(where, g, 0)


# -- sums and products


def _sum_back(
    g: Any, _y: Any, _x: Any, *, axis: Axis = 0, where: Any = True, **_options: Any
) -> Any:
    return _selected(keep_axes(g, _x, axis), where)


rule(_add, _sum_back, form="linear")


@shown_as("sum")
def total(x: Any) -> Any:
    """The sum of all elements: `np.sum` without parameters, the most common call."""
    return _add(x, axis=None)


rule(total, lambda g, _y, _x: g, form="linear")


def _product_back(
    g: Any,
    _y: Any,
    x: Any,
    *,
    axis: Axis = 0,
    initial: Any = None,
    where: Any = True,
    **_options: Any,
) -> Any:
    """The product of all other elements: those before times those after, without a division."""
    if not x.size:
        return np.zeros_like(g, shape=x.shape)
    axes = axes_of(x, axis)
    rows = rows_of(x if where is True else np.where(where, x, 1), axes)
    one = np.ones((len(rows), 1), working_dtype(g.dtype))
    before = np.multiply.accumulate(np.concatenate([one, rows[:, :-1]], axis=1), axis=1)
    after = np.multiply.accumulate(np.concatenate([one, rows[:, :0:-1]], axis=1), axis=1)[:, ::-1]
    g = keep_axes(g if initial is None else g * initial, x, axis)
    return _selected(g * from_rows(before * after, axes, x.shape), where)


rule(_multiply, _product_back)


def _log_sum_back(unit: float) -> Function:
    """The vjp of the logarithm of a sum of exp(x * unit): each element's share in that sum."""

    def vjp(
        g: Any,
        y: Any,
        x: Any,
        *,
        axis: Axis = 0,
        initial: Any = None,
        where: Any = True,
        **_options: Any,
    ) -> Any:
        x = (x if where is True else np.where(where, x, -np.inf)) * unit
        if initial is None and x.size:  # exp(x - y) would lose digits where both are large
            shares = softmax(x, axes_of(x, axis))
        else:
            shares = np.exp(x - keep_axes(y, x, axis) * unit)
        return keep_axes(g, x, axis) * shares

    return vjp


rule(np.logaddexp.reduce, _log_sum_back(1.0))
rule(np.logaddexp2.reduce, _log_sum_back(math.log(2)))


# -- extrema


def _extremum_back(
    attained: Function,
    g: Any,
    y: Any,
    x: Any,
    *,
    axis: Axis = 0,
    dtype: Any = None,
    initial: Any = None,
    where: Any = True,
    **_options: Any,
) -> Any:
    """The elements that attain the extremum share the cotangent equally."""
    if dtype is not None:
        x = x.astype(y.dtype)
    g, y = (keep_axes(a, x, axis) for a in (g, y))
    chosen = attained(x, y) if where is True else attained(x, y) & where
    count = _add(chosen, axis=axis, keepdims=True, dtype=working_dtype(g.dtype))
    if initial is not None:
        count = count + attained(np.asarray(initial, y.dtype), y)
    return np.where(chosen, g / count, 0)


rule(_maximum, partial(_extremum_back, attains))
rule(_minimum, partial(_extremum_back, attains))
rule(np.fmax.reduce, partial(_extremum_back, attains_ignoring_nan))
rule(np.fmin.reduce, partial(_extremum_back, attains_ignoring_nan))


def _nan_extremum_back(
    g: Any,
    y: Any,
    x: Any,
    axis: Axis = None,
    _out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    options = {"axis": axis, "keepdims": keepdims, "initial": initial, "where": where}
    return _extremum_back(attains_ignoring_nan, g, y, x, **options)


rule(np.nanmax, _nan_extremum_back)
rule(np.nanmin, _nan_extremum_back)


# -- means


def _count(x: Any, y: Any, axis: Axis, where: Any, dtype: Any) -> Any:
    """The number of elements of `x` that were reduced to each element of `y`."""
    if where is True:
        return np.asarray(x.size / max(y.size, 1), dtype)
    return _add(np.broadcast_to(where, x.shape), axis=axis, dtype=dtype, keepdims=True)


def _mean_back(
    g: Any,
    _y: Any,
    _x: Any,
    axis: Axis = None,
    _dtype: Any = None,
    _keepdims: bool = False,
    where: Any = True,
) -> Any:
    g = keep_axes(g, _x, axis)
    if where is True and g.dtype.char in "fd":
        return g / max(_x.size // max(_y.size, 1), 1)
    count = _count(_x, _y, axis, where, working_dtype(g.dtype))
    return _selected(g / np.maximum(count, 1), where)


def mean(
    a: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False, where: Any = True
) -> Any:
    """`np.mean` of an array."""
    if axis is None and dtype is None and where is True and a.size and a.dtype.char in "fd":
        return _add(a, axis=None, keepdims=keepdims) / a.size  # the same, in half of the time
    return np.mean(a, axis=axis, dtype=dtype, keepdims=keepdims, where=where)


rule(mean, _mean_back, form="linear")


def _nanmean_back(
    g: Any,
    _y: Any,
    x: Any,
    axis: Axis = None,
    dtype: Any = None,
    _out: None = None,
    keepdims: bool = False,
    *,
    where: Any = True,
) -> Any:
    return _mean_back(g, _y, x, axis, dtype, keepdims, (x == x) & where)


rule(np.nanmean, _nanmean_back)


@shown_as("std or var")
def dispersion(a: Any, *mean: Any, fun: Function, **options: Any) -> Any:
    """`np.var`, `std`, `nanvar` or `nanstd`, with the mean as an optional second array."""
    return fun(a, **options, **dict(zip(("mean",), mean)))


def _dispersion_back(
    g: Any,
    y: Any,
    x: Any,
    *mean: Any,
    fun: Function,
    axis: Axis,
    ddof: float,
    where: Any,
    **_options: Any,
) -> Any:
    """The cotangent of `x`. The mean adds nothing, as the deviations from it sum to 0."""
    if fun in (np.nanvar, np.nanstd):
        where = (x == x) & where
    dtype = working_dtype(x.dtype, g.dtype)
    count = _count(x, y, axis, where, dtype)

    def centered(a: Any) -> Any:
        total = _add(a, axis=axis, dtype=dtype, keepdims=True, where=where)
        return _selected(a - total / np.maximum(count, 1), where)

    deviations = _selected(x - mean[0], where) if mean else centered(x)
    if fun in (np.std, np.nanstd):
        flat = y == 0
        g = np.where(flat, 0, g * 0.5 / np.where(flat, 1, y))
        if not mean:  # again, as deviations may be as small as the rounding error of the mean
            deviations = centered(deviations)
    if x.dtype.kind == "c":
        deviations = np.conjugate(deviations)
    freedom = np.maximum(count - ddof, 0)
    return _selected(keep_axes(g + g, x, axis) * deviations / freedom, where)


def _dispersion_back_mean(g: Any, y: Any, x: Any, mean: Any, **options: Any) -> Any:
    return -_dispersion_back(g, y, x, mean, **options)


rule(dispersion, _dispersion_back, _dispersion_back_mean)


# -- NumPy's functions, in terms of those above


def _keywords(initial: Any, where: Any, **options: Any) -> dict[str, Any]:
    """The keywords of a ufunc's `reduce` as plain arrays, without those that are missing."""
    if initial is not MISSING:
        options["initial"] = initial if initial is None else np.asarray(initial)
    if where is not True:
        options["where"] = plain(as_operand(where, "where"))
    return options


def _total(
    reduce: Function,
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    _out: None = None,
    keepdims: bool = False,
    initial: Any = MISSING,
    where: Any = True,
) -> Any:
    everything = axis is None and initial is MISSING and where is True
    if everything and reduce is _add and dtype is None and not keepdims:
        return apply(total, (a,))
    options = _keywords(initial, where, axis=axis)
    if keepdims:
        options["keepdims"] = keepdims
    if dtype is not None:
        options["dtype"] = dtype
    return apply(reduce, (a,), options)


def _extreme(
    reduce: Function,
    a: Any,
    axis: Axis = None,
    _out: None = None,
    keepdims: bool = False,
    initial: Any = MISSING,
    where: Any = True,
) -> Any:
    return apply(reduce, (a,), _keywords(initial, where, axis=axis, keepdims=keepdims))


composite(np.sum)(partial(_total, _add))
composite(np.prod)(partial(_total, _multiply))
composite(np.max, np.amax)(partial(_extreme, _maximum))
composite(np.min, np.amin)(partial(_extreme, _minimum))


@composite(np.ptp)
def _ptp(a: Any, axis: Axis = None, _out: None = None, keepdims: bool = False) -> Any:
    return np.max(a, axis, keepdims=keepdims) - np.min(a, axis, keepdims=keepdims)


@composite(np.mean)
def _mean(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    _out: None = None,
    keepdims: bool = False,
    *,
    where: Any = True,
) -> Any:
    simple = axis is dtype is None and not keepdims and where is True
    return apply(mean, (a,) if simple else (a, axis, dtype, keepdims, where))


def _dispersion(
    fun: Function,
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    _out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    mean: Any = MISSING,
    correction: Any = MISSING,
) -> Any:
    if correction is not MISSING:
        if ddof != 0:
            raise ValueError(f"{fun.__name__}: pass ddof={ddof} or correction, not both")
        ddof = correction
    arrays = (a,) if mean is MISSING else (a, mean)
    options = _keywords(MISSING, where, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)
    return apply(dispersion, arrays, {"fun": fun, "where": True, **options})


for _fun in (np.var, np.std, np.nanvar, np.nanstd):
    composite(_fun)(partial(_dispersion, _fun))


def without_nan(fun: Function, filler: float, a: Any, *args: Any, **kwargs: Any) -> Any:
    """Call `fun` on the array with NaNs replaced by a number."""
    return fun(np.where(np.isnan(a), filler, a), *args, **kwargs)


composite(np.nansum)(partial(without_nan, np.sum, 0))
composite(np.nanprod)(partial(without_nan, np.prod, 1))
