"""Running sums and products, differences, and integrals of samples."""

from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..engine.arrays import working_dtype
from ..engine.dispatch import apply
from ..engine.registry import composite, rule
from ..engine.tensor import asarray
from ..engine.typing import Axis, Function
from .indexing import along_axis
from .reductions import MISSING, without_nan
from .selection import attains

_add: Function = np.add.accumulate
_multiply: Function = np.multiply.accumulate


# -- running sums, products and extrema


def suffix_sums(terms: Any, factors: Any) -> Any:
    """Return s with `s[i] = terms[i] + factors[i] * s[i + 1]`, along the first axis.

    Each iteration doubles the number of terms in each sum (W. D. Hillis and G. L. Steele, "Data
    parallel algorithms", 1986), so it takes few operations on whole arrays, and no division.
    """
    sums, step = terms, 1
    while step < len(terms):
        sums = np.concatenate([sums[:-step] + factors * sums[step:], sums[-step:]])
        factors = factors[:-step] * factors[step:]
        step *= 2
    return sums


def _accumulated_sum_back(g: Any, _y: Any, _x: Any, *, axis: int = 0, **_dtype: Any) -> Any:
    backwards = along_axis(axis % g.ndim, slice(None, None, -1))
    dtype = working_dtype(g.dtype)
    return np.add.accumulate(g[backwards], axis=axis, dtype=dtype)[backwards]


def _accumulated_product_back(g: Any, y: Any, x: Any, *, axis: int = 0, **_dtype: Any) -> Any:
    """`g[i] + x[i+1] * (g[i+1] + x[i+2] * (...))`, times the product of the elements before i."""
    if not x.size:
        return g
    dtype = working_dtype(g.dtype)
    g, y, x = (np.moveaxis(a, axis, 0).astype(dtype) for a in (g, y, x))
    before = np.concatenate([np.ones((1, *x.shape[1:]), dtype), y[:-1]])
    return np.moveaxis(before * suffix_sums(g, x[1:]), 0, axis)


def _accumulated_extremum_back(g: Any, y: Any, x: Any, *, axis: int = 0, dtype: Any = None) -> Any:
    """Each result's cotangent is shared equally by the elements so far that attain it."""
    if not x.size:
        return g
    g, y, x = (np.moveaxis(a, axis, 0) for a in (g, y, x if dtype is None else x.astype(y.dtype)))
    chosen = attains(x, y)
    same = (y[1:] == y[:-1]) | (y[:-1] != y[:-1])  # the result did not change
    new = np.concatenate([np.ones((1, *x.shape[1:]), bool), ~same])
    total = np.add.accumulate(chosen, dtype=np.intp)
    count = total - np.maximum.accumulate(np.where(new, total - 1, 0))
    shares = suffix_sums((g / count).astype(g.dtype), same.astype(g.dtype))
    return np.moveaxis(np.where(chosen, shares, 0), 0, axis)


rule(_add, _accumulated_sum_back, form="linear")
rule(_multiply, _accumulated_product_back)
rule(np.maximum.accumulate, _accumulated_extremum_back)
rule(np.minimum.accumulate, _accumulated_extremum_back)


def _cumulative(
    accumulate: Function, a: Any, axis: int | None = None, dtype: Any = None, _out: None = None
) -> Any:
    if axis is None or not a.ndim:
        a, axis = np.ravel(a), axis or 0
    return apply(accumulate, (a,), {"axis": axis, "dtype": dtype})


def _cumulative_of_all(
    accumulate: Function,
    x: Any,
    /,
    *,
    axis: int | None = None,
    dtype: Any = None,
    include_initial: bool = False,
) -> Any:
    if axis is None and x.ndim > 1:
        raise ValueError(f"a cumulative function of an array of shape {x.shape} needs an axis")
    result = _cumulative(accumulate, x, axis, dtype)
    if not include_initial:
        return result
    axis = normalize_axis_index(axis or 0, result.ndim)
    shape = [1 if i == axis else n for i, n in enumerate(result.shape)]
    identity = accumulate.__self__.identity  # type: ignore[attr-defined]
    return np.concatenate([np.full(shape, identity, result.dtype), result], axis=axis)


composite(np.cumsum)(partial(_cumulative, _add))
composite(np.cumprod)(partial(_cumulative, _multiply))
composite(np.cumulative_sum)(partial(_cumulative_of_all, _add))
composite(np.cumulative_prod)(partial(_cumulative_of_all, _multiply))
composite(np.nancumsum)(partial(without_nan, np.cumsum, 0))
composite(np.nancumprod)(partial(without_nan, np.cumprod, 1))


# -- differences


@composite(np.diff)
def _diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = MISSING, append: Any = MISSING) -> Any:
    a = asarray(a)
    if n == 0:
        return a
    if n < 0:
        raise ValueError(f"diff: the order n={n} must not be negative")
    if a.ndim == 0:
        raise ValueError("diff of a 0-d array: it needs at least one axis")
    axis = normalize_axis_index(axis, a.ndim)
    edges = [None if e is MISSING else asarray(e) for e in (prepend, append)]
    single = tuple([1 if i == axis else k for i, k in enumerate(a.shape)])
    before, after = (e if e is None or e.ndim else np.broadcast_to(e, single) for e in edges)
    parts = [part for part in (before, a, after) if part is not None]
    a = np.concatenate(parts, axis=axis) if len(parts) > 1 else a
    for _ in range(n):
        a = a[along_axis(axis, slice(1, None))] - a[along_axis(axis, slice(-1))]
    return a


@composite(np.ediff1d)
def _ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    ary = asarray(ary)
    parts = [np.diff(np.ravel(ary))]
    for position, name, edge in (0, "to_begin", to_begin), (2, "to_end", to_end):
        if edge is not None:
            edge = asarray(edge)
            if not np.can_cast(edge.dtype, ary.dtype, "same_kind"):
                raise TypeError(f"ediff1d: cannot cast {name} from {edge.dtype} to {ary.dtype}")
            parts.insert(position, np.ravel(edge).astype(ary.dtype))
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


@composite(np.gradient)
def _gradient(f: Any, *varargs: Any, axis: Axis = None, edge_order: int = 1) -> Any:
    f = asarray(f)
    if f.dtype.kind not in "fc":
        f = f.astype(np.float64)
    axes = tuple(range(f.ndim)) if axis is None else normalize_axis_tuple(axis, f.ndim)
    if edge_order > 2:
        raise ValueError(f"gradient: edge_order={edge_order} must be 1 or 2")
    spacings = varargs or (1.0,)
    if len(spacings) == 1 and np.ndim(spacings[0]) == 0:
        spacings *= len(axes)
    if len(spacings) != len(axes):
        raise TypeError(f"gradient: {len(spacings)} spacings for {len(axes)} axes")
    slopes = []
    for i, spacing in zip(axes, spacings, strict=True):
        if f.shape[i] < edge_order + 1:
            raise ValueError(
                f"gradient: axis {i} of shape {f.shape} is too short for edge_order={edge_order}"
            )
        moved = np.moveaxis(f, i, 0)
        slope = _slope(moved, _steps(spacing, moved.shape), edge_order)
        slopes.append(np.moveaxis(slope.astype(f.dtype), 0, i))
    return slopes[0] if len(slopes) == 1 else tuple(slopes)


def _steps(spacing: Any, shape: tuple[int, ...]) -> Any:
    """The distance of samples along the first axis: one number, or a column of distances."""
    if np.ndim(spacing) == 0:
        return spacing
    points = asarray(spacing)
    if points.shape != shape[:1]:
        raise ValueError(f"gradient: coordinates of shape {points.shape} for {shape[0]} samples")
    steps = np.diff(points if points.dtype.kind in "fc" else points.astype(np.float64))
    if not points.requires_grad and np.all(steps == steps[0]):
        return steps[0]  # NumPy then uses the formulas for equal distances
    return steps.reshape(-1, *(1 for _ in shape[1:]))


def _slope(f: Any, h: Any, edge_order: int) -> Any:
    """The derivative along the first axis: the formulas of `numpy.gradient`, term by term.

    They are finite differences of second order inside, and of order `edge_order` at the ends.
    """
    uniform = np.ndim(h) == 0
    if uniform:
        h_first = h_last = h
        inner = (f[2:] - f[:-2]) / (2.0 * h)
        left, right = (-1.5 / h, 2.0 / h, -0.5 / h), (0.5 / h, -2.0 / h, 1.5 / h)
    else:
        h_first, h_last = h[:1], h[-1:]
        a, b = h[:-1], h[1:]
        inner = (
            -b / (a * (a + b)) * f[:-2] + (b - a) / (a * b) * f[1:-1] + a / (b * (a + b)) * f[2:]
        )
    if edge_order == 1:
        first, last = (f[1:2] - f[:1]) / h_first, (f[-1:] - f[-2:-1]) / h_last
    else:
        if not uniform:
            a, b = h[:1], h[1:2]
            left = -(2.0 * a + b) / (a * (a + b)), (a + b) / (a * b), -a / (b * (a + b))
            a, b = h[-2:-1], h[-1:]
            right = b / (a * (a + b)), -(b + a) / (a * b), (2.0 * b + a) / (b * (a + b))
        first = left[0] * f[:1] + left[1] * f[1:2] + left[2] * f[2:3]
        last = right[0] * f[-3:-2] + right[1] * f[-2:-1] + right[2] * f[-1:]
    return np.concatenate([first, inner, last])


@composite(np.trapezoid)
def _trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = asarray(y)
    i = normalize_axis_index(axis, y.ndim)
    if x is not None:
        x = asarray(x)
        dx = np.diff(x, axis=-1 if x.ndim == 1 else axis)
        if x.ndim == 1:
            dx = dx.reshape([-1 if j == i else 1 for j in range(y.ndim)])
    pairs = y[along_axis(i, slice(1, None))] + y[along_axis(i, slice(-1))]
    return np.sum(dx * pairs / 2.0, axis)
