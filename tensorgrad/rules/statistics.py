"""Averages, order statistics and covariances."""

import warnings
from functools import partial
from typing import Any

import numpy as np

from ..engine.dispatch import apply
from ..engine.modes import plain
from ..engine.registry import composite, rule, shown_as
from ..engine.tensor import Tensor, asarray
from ..engine.typing import Axis, Function
from ..errors import OR_DETACH, NoRuleError
from .indexing import spread
from .reductions import axes_of, from_rows, rows_of

# -- averages


@composite(np.average)
def _average(
    a: Any,
    axis: Axis = None,
    weights: Any = None,
    returned: bool = False,
    *,
    keepdims: bool = False,
) -> Any:
    a = asarray(a)
    if weights is None:
        average = np.mean(a, axis, keepdims=keepdims)
        total = asarray(np.full(average.shape, a.size / average.size, average.dtype))
    else:
        weights = _along(asarray(weights), a, axis)
        dtype = np.result_type(a.dtype, weights.dtype, *["f8"] * (a.dtype.kind in "biu"))
        total = np.sum(weights, axis, dtype, keepdims=keepdims)
        if np.any(total == 0):
            raise ZeroDivisionError("average: the weights sum to zero")
        average = np.sum(a.astype(dtype) * weights.astype(dtype), axis, keepdims=keepdims) / total
    return (average, np.broadcast_to(total, average.shape).copy()) if returned else average


def _along(weights: Any, a: Any, axis: Axis) -> Any:
    """Reshape weights, one for each element of `a` or along some axes, to broadcast with `a`."""
    if weights.shape == a.shape:
        return weights
    if axis is None:
        raise TypeError(
            f"average: weights of shape {weights.shape} for shape {a.shape}: pass the axis"
        )
    axes = axes_of(a, axis)
    if weights.shape != tuple([a.shape[i] for i in axes]):
        raise ValueError(
            f"average: weights of shape {weights.shape} do not fit axes {axes} of shape {a.shape}"
        )
    shape = [n if i in axes else 1 for i, n in enumerate(a.shape)]
    return np.transpose(weights, np.argsort(axes)).reshape(shape)


# -- order statistics


@shown_as("median or quantile")
def order_statistic(x: Any, *q: Any, fun: Function, **options: Any) -> Any:
    """`np.median`, `np.quantile`, or a function like them."""
    return fun(x, *q, **options)


def _order_statistic_back(
    g: Any, _y: Any, x: Any, *q: Any, fun: Function, axis: Axis, **options: Any
) -> Any:
    """Share the cotangent between the two sorted elements that the result lies between.

    Equal elements keep their order. The position of the result among the sorted elements, a whole
    number or a fraction, is found with the same function: it is the statistic of the elements'
    positions 0, 1, ... That holds for every method. A result that is NaN belongs to the last
    element, a NaN.
    """
    if not x.size:
        return np.zeros_like(g, shape=x.shape)
    axes = axes_of(x, axis)
    rows = rows_of(x, axes)
    slices, length = rows.shape
    order = np.argsort(rows, axis=1, kind="stable")
    origins = rows_of(np.arange(1, x.size + 1).reshape(x.shape), axes)
    origins = np.take_along_axis(origins, order, axis=1)
    missing = np.isnan(rows)
    missing = missing & ~np.all(missing, axis=1, keepdims=True)  # all: NumPy warns
    ranks = np.where(missing, np.nan, np.argsort(order, axis=1))
    position = fun(from_rows(ranks, axes, x.shape), *q, axis=axis, **options)
    position = np.where(np.isnan(position), length - 1, position).reshape(-1, slices)
    low = np.floor(position).astype(np.intp)
    share = (position - low).astype(g.dtype)
    g, each = g.reshape(share.shape), np.arange(slices)
    lower, upper = origins[each, low], origins[each, np.minimum(low + 1, length - 1)]
    return spread(g * (1 - share), lower, x.shape) + spread(g * share, upper, x.shape)


rule(order_statistic, _order_statistic_back)


def _median(
    fun: Function,
    a: Any,
    axis: Axis = None,
    _out: None = None,
    overwrite_input: bool = False,  # noqa: ARG001 (it only permits that)
    keepdims: bool = False,
) -> Any:
    return apply(order_statistic, (a,), {"fun": fun, "axis": axis, "keepdims": keepdims})


def _quantile(
    fun: Function,
    a: Any,
    q: Any,
    axis: Axis = None,
    _out: None = None,
    overwrite_input: bool = False,  # noqa: ARG001
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    if isinstance(q, Tensor):
        if q.requires_grad:
            if method != "linear" or weights is not None or fun not in _UNITS:
                raise NoRuleError(
                    f"{fun.__name__} has a derivative for q with method='linear' alone, and "
                    f"without weights: pass numbers, {OR_DETACH}"
                )
            y = fun(a, plain(q), axis, method=method, keepdims=keepdims)
            shift = (q - plain(q)) / _UNITS[fun]  # zeros, with the derivative of q
            return y + shift.reshape(q.shape + (1,) * (y.ndim - q.ndim)) * _slope(
                a, plain(q) / _UNITS[fun], axis, y.shape
            )
        q = plain(q)
    several = axis is not None and np.size(axis) != 1
    if several and np.ndim(q) > 1 and fun in (np.nanquantile, np.nanpercentile):
        raise NoRuleError(  # NumPy 2.4 mixes up the axes of this result
            f"{fun.__name__} along axes {axis} has no derivative for q of shape {np.shape(q)}: "
            "pass a q with one axis"
        )
    options: dict[str, Any] = {"fun": fun, "axis": axis, "method": method, "keepdims": keepdims}
    if weights is not None:  # constants: they select an element, which does not depend on them
        options["weights"] = plain(asarray(weights))
    return apply(order_statistic, (a, q), options)


_UNITS: dict[Any, float] = {np.quantile: 1, np.percentile: 100}


def _slope(a: Any, q: Any, axis: Axis, shape: tuple[int, ...]) -> Any:
    """The derivative of linear quantiles: from one sorted element to the next, to the right."""
    a = asarray(a)
    rows = np.sort(rows_of(a, axes_of(a, axis)), axis=1)
    steps = rows.shape[1] - 1
    if not steps:
        return np.zeros(shape, a.dtype)
    low = np.clip(np.floor(q * steps).astype(np.intp), 0, steps - 1)
    return np.moveaxis((rows[:, low + 1] - rows[:, low]) * steps, 0, -1).reshape(shape)


for _fun in (np.median, np.nanmedian):
    composite(_fun)(partial(_median, _fun))
for _quantile_fun in (np.quantile, np.percentile, np.nanquantile, np.nanpercentile):
    composite(_quantile_fun)(partial(_quantile, _quantile_fun))


# -- covariances


@composite(np.cov)
def _cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    if ddof is None:
        ddof = 0 if bias else 1
    elif ddof != int(ddof):
        raise ValueError(f"cov: ddof={ddof} must be an integer")
    x = _variables(m, y, rowvar, dtype)
    if not len(x):
        return np.real(x @ x.T)
    weights = None
    if fweights is not None:
        weights = _observation_weights("fweights", fweights, x)
        if np.any(weights != np.round(weights)):
            raise TypeError("cov: fweights must be integers")
    if aweights is not None:
        aweights = _observation_weights("aweights", aweights, x)
        weights = aweights if weights is None else weights * aweights
    average, total = np.average(x, axis=1, weights=weights, returned=True)
    freedom = x.shape[1] if weights is None else total[0]
    if ddof and weights is not None and aweights is not None:
        freedom = freedom - ddof * np.sum(weights * aweights) / total[0]
    else:
        freedom = freedom - ddof
    if freedom <= 0:
        warnings.warn("Degrees of freedom <= 0 for slice", RuntimeWarning, stacklevel=2)
        freedom = 0.0
    x = x - average[:, None]
    other = x if weights is None else x * weights
    product = x @ (np.conjugate(other) if x.dtype.kind == "c" else other).T
    return np.squeeze((product * np.true_divide(1, freedom)).astype(product.dtype))


def _variables(m: Any, y: Any, rowvar: bool, dtype: Any) -> Any:
    """The variables of both arguments of `np.cov`, as rows of observations."""
    arrays = [asarray(v) for v in (m, y) if v is not None]
    if any(v.ndim > 2 for v in arrays):
        raise ValueError(f"cov: arrays of more than 2 axes: shapes {[v.shape for v in arrays]}")
    if dtype is None:
        dtype = np.result_type(*(v.dtype for v in arrays), np.float64)
    rows = [v.astype(dtype).reshape((1,) * (2 - v.ndim) + v.shape) for v in arrays]
    if not rowvar:
        transposed = [arrays[0].ndim == 2, *(len(other) != 1 for other in rows[1:])]
        rows = [v.T if t else v for v, t in zip(rows, transposed, strict=True)]
    return np.concatenate(rows) if len(rows[0]) and len(rows) > 1 else rows[0]


def _observation_weights(name: str, weights: Any, x: Any) -> Any:
    weights = asarray(weights).astype(np.float64)
    if weights.shape != x.shape[1:]:
        raise RuntimeError(f"cov: {name} of shape {weights.shape} for {x.shape[1]} observations")
    if np.any(weights < 0):
        raise ValueError(f"cov: {name} must not be negative")
    return weights


@composite(np.corrcoef)
def _corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = _cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    each = np.arange(len(c))
    deviation = np.sqrt(np.real(c[each, each]))
    c = c / deviation[:, None] / deviation[None, :]
    if c.dtype.kind == "c":
        return np.clip(np.real(c), -1, 1) + 1j * np.clip(np.imag(c), -1, 1)
    return np.clip(c, -1, 1)
