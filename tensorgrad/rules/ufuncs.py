"""The keywords and methods that all ufuncs share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..engine.dispatch import apply
from ..engine.modes import plain
from ..engine.primitives import assign
from ..engine.registry import CONSTANTS, RULES, composite, rule, shown_as
from ..engine.tensor import asarray
from ..engine.typing import Axis
from .cumulative import suffix_sums
from .indexing import scatter
from .reductions import joined, keep_axes


@composite(np.ufunc.__call__)
def _call(
    ufunc: np.ufunc,
    *inputs: Any,
    where: Any = True,
    dtype: Any = None,
    casting: Any = "same_kind",
    order: str = "K",
    subok: bool = True,
    **axes: Any,  # axes, axis and keepdims, of generalized ufuncs
) -> Any:
    del order, subok  # a result's memory layout is not observable, and its class is Tensor
    if dtype is not None or casting != "same_kind":
        any_inputs, outputs = (None,) * ufunc.nin, (dtype and np.dtype(dtype),) * ufunc.nout
        dtypes = ufunc.resolve_dtypes(
            (*map(_kind, inputs), *(None,) * ufunc.nout),
            signature=(*any_inputs, *outputs),
            casting=casting,
        )
        inputs = tuple([asarray(x).astype(d) for x, d in zip(inputs, dtypes)])
    if where is True:
        return apply(ufunc, inputs, axes)
    # Elements that are not selected are 0; NumPy leaves them uninitialized.
    shape = np.broadcast_shapes(*map(np.shape, inputs), np.shape(where))
    where = np.broadcast_to(plain(asarray(where)), shape)
    selected = [
        x if isinstance(x, (int, float, complex)) else np.broadcast_to(asarray(x), shape)[where]
        for x in inputs
    ]
    results = apply(ufunc, selected)

    def placed(result: Any) -> Any:
        return apply(assign, (np.zeros(shape, result.dtype), result, where))

    return tuple(map(placed, results)) if isinstance(results, tuple) else placed(results)


def _kind(x: Any) -> Any:
    """The type of a Python number, whose dtype the other operands decide, else the dtype."""
    return type(x) if type(x) in (int, float, complex) else asarray(x).dtype


@composite(np.ufunc.outer)
def _outer(ufunc: np.ufunc, x: Any, y: Any) -> Any:
    x, y = asarray(x), asarray(y)
    return apply(ufunc, (x.reshape(x.shape + (1,) * y.ndim), y))


@composite(np.ufunc.reduce)
def _reduce(
    ufunc: Any,
    x: Any,
    axis: Axis = 0,
    dtype: Any = None,
    _out: None = None,
    keepdims: bool = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    if ufunc in CONSTANTS:
        y = ufunc.reduce(x.detach(), axis, dtype, None, keepdims, initial, where)
        if y.size != x.size or y.dtype != x.dtype:  # else, reduced axes of length 1 copy elements
            return y
    x = asarray(x, dtype)
    axes = normalize_axis_tuple(range(x.ndim) if axis is None or not x.ndim else axis, x.ndim)
    values = joined(x, axes)
    start = ufunc.identity if initial is np._NoValue else initial
    if start is not None:
        total = np.sum(values[:0], axis=0) + start  # zeros, so that it has the shape and a graph
    elif where is not True or not len(values):
        raise ValueError(f"{ufunc.__name__}.reduce has no identity: pass an initial value")
    else:
        total, values = values[0], values[1:]
    if where is True:
        total = _running(ufunc, [total, *values])[-1]
    else:
        for value, chosen in zip(values, joined(np.broadcast_to(where, x.shape), axes)):
            total = np.where(chosen, apply(ufunc, (total, value)), total)
    return keep_axes(total, x, axes) if keepdims else total


@composite(np.ufunc.accumulate)
def _accumulate(ufunc: np.ufunc, x: Any, axis: int = 0, dtype: Any = None) -> Any:
    x = asarray(x, dtype)
    axis = normalize_axis_index(axis, x.ndim)
    if not x.shape[axis]:
        return x
    if ufunc not in RULES:
        return np.stack(_running(ufunc, list(np.moveaxis(x, axis, 0))), axis)
    return np.moveaxis(apply(accumulated, (np.moveaxis(x, axis, 0),), {"ufunc": ufunc}), 0, axis)


@shown_as("ufunc.accumulate")
def accumulated(x: Any, *, ufunc: np.ufunc) -> Any:
    """Return `ufunc.accumulate` along the first axis."""
    return ufunc.accumulate(x)


def _accumulated_back(g: Any, y: Any, x: Any, *, ufunc: np.ufunc) -> Any:
    return _chain_back(ufunc, g, y, x, np.arange(len(x)) == 0)


def _chain_back(ufunc: np.ufunc, g: Any, y: Any, x: Any, is_first: Any) -> Any:
    """The cotangent of x, where `y[i]` is `x[i]` if it is a first one, else `ufunc(y[i-1], x[i])`.

    All steps are computed at once.
    """
    by_y, by_x = [
        vjp(np.ones_like(y[1:]), y[1:], y[:-1], x[1:]) if vjp else np.zeros_like(y[1:])
        for vjp in RULES[ufunc].vjps
    ]
    inside = ~is_first[1:].reshape(-1, *[1] * (x.ndim - 1))
    sums = suffix_sums(g, np.where(inside, by_y, 0))
    return np.concatenate([sums[:1], sums[1:] * np.where(inside, by_x, 1)])


rule(accumulated, _accumulated_back)


@composite(np.ufunc.reduceat)
def _reduceat(ufunc: np.ufunc, x: Any, indices: Any, axis: int = 0, dtype: Any = None) -> Any:
    x = asarray(x, dtype)
    x = np.moveaxis(x, axis, 0)
    starts = np.asarray(indices)
    lengths = np.maximum(np.append(starts[1:], len(x)) - starts, 1)
    firsts = np.cumsum(lengths) - lengths  # of the pieces, one after the other
    x = x[np.arange(lengths.sum()) + np.repeat(starts - firsts, lengths)]
    return np.moveaxis(apply(of_pieces, (x,), {"ufunc": ufunc, "firsts": firsts}), 0, axis)


@shown_as("ufunc.reduceat")
def of_pieces(x: Any, *, ufunc: np.ufunc, firsts: Any) -> Any:
    """Return `ufunc.reduceat` of pieces along the first axis, which begin at `firsts`."""
    return ufunc.reduceat(x, firsts)


def _of_pieces_back(g: Any, _y: Any, x: Any, *, ufunc: np.ufunc, firsts: Any) -> Any:
    ends = np.append(firsts[1:], len(x))
    if ufunc is np.add:
        return np.repeat(g, ends - firsts, axis=0)
    is_first = np.isin(np.arange(len(x)), firsts)
    y = np.concatenate([ufunc.accumulate(x[i:j]) for i, j in zip(firsts, ends, strict=True)])
    return _chain_back(ufunc, scatter(g, ends - 1, x.shape), y, x, is_first)


rule(of_pieces, _of_pieces_back)


def _running(ufunc: np.ufunc, items: Sequence[Any]) -> list[Any]:
    """The results of reducing the first item, the first two, and so on."""
    totals = [items[0]]
    for item in items[1:]:
        totals.append(apply(ufunc, (totals[-1], item)))
    return totals
