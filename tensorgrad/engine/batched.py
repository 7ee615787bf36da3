"""NumPy's functions of all samples at once: what a `Batch` does in one call.

Each function here takes the level, and then the arguments of a call for one sample, in which the
level's batches stand for arrays. It raises NotBatchedError for arguments that it does not know.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from .batching import AT_ONCE, Batch, Level, NotBatchedError, ndim_of
from .primitives import alias, assign, reshape
from .registry import signature
from .typing import Function

Batched = Callable[..., Any]


def _whole(fun: Function) -> Batched:
    """A function that does the same to an array with one more axis in front."""
    return lambda level, x, *args, **kwargs: level.batch(
        fun(_owned(level, x, *args, *kwargs.values()).arrays, *args, **kwargs)
    )


def _owned(level: Level, x: Any, *others: Any) -> Batch:
    """The first argument, if it is the only batch of the level."""
    if not level.owns(x) or any(map(level.owns, others)):
        raise NotBatchedError("several batches")
    return x  # type: ignore[no-any-return]


# -- products


def _matmul(level: Level, x: Any, y: Any, **options: Any) -> Any:
    if not options.keys() <= {"order", "dtype", "casting"}:
        raise NotBatchedError("axes of a product")
    if not (ndim_of(x) and ndim_of(y)):
        raise ValueError(
            f"matmul: takes arrays of one axis at least, not of shapes {np.shape(x)} and "
            f"{np.shape(y)}: use numpy.multiply"
        )
    row, column = ndim_of(x) == 1, ndim_of(y) == 1
    if not level.owns(y) and ndim_of(y) <= 2 and (row or ndim_of(x) == 2):
        arrays = x.arrays  # one product of matrices for all samples
        if type(arrays) is type(y) is np.ndarray and arrays.ndim == 2 and not options:
            return level.batch(arrays.dot(y))  # in a third of the time, if they are small
        return level.batch(np.matmul(arrays, y, **options))
    x = x[None, :] if row else x
    y = y[:, None] if column else y
    x, y = level.aligned([x, y])
    if x.shape[-1] == 1 == y.shape[-2] and not options.keys() - {"order"}:
        out = _outer(x[..., 0], y[..., 0, :])
    else:
        out = np.matmul(x, y, **options)
    out = out[..., 0, :] if row else out
    return level.batch(out[..., 0] if column else out)


def outer(x: Any, y: Any) -> Any:
    """Return the outer product of a vector and the last axis of `y`."""
    if type(x) is type(y) is Batch and x.level is y.level and x.ndim == y.ndim == 1:
        return x.level.batch(_outer(x.arrays, y.arrays))
    return x[:, None] * y[..., None, :]


def _outer(x: Any, y: Any) -> Any:
    """The outer products of stacked vectors, which `np.matmul` would compute slowly."""
    if type(x) is type(y) is np.ndarray and x.ndim == y.ndim == 2 and x.dtype.kind == "f":
        return np.einsum("ni,nj->nij", x, y)  # two thirds of the time of a multiplication
    return x[..., :, None] * y[..., None, :]


def _dot(level: Level, x: Any, y: Any) -> Any:
    if not (ndim_of(x) and ndim_of(y)):
        return x * y
    if ndim_of(x) > 2 or ndim_of(y) > 2:
        raise NotBatchedError("a product of stacks")
    return _matmul(level, x, y)


def _inner(level: Level, x: Any, y: Any) -> Any:
    if not (ndim_of(x) and ndim_of(y)):
        return x * y
    return _dot(level, x, np.transpose(y) if ndim_of(y) < 3 else y)


def _solve(level: Level, a: Any, b: Any) -> Any:
    vector = ndim_of(b) == 1
    z = np.linalg.solve(*level.aligned([a, b[:, None] if vector else b]))
    return level.batch(z[..., 0] if vector else z)


def _einsum(level: Level, subscripts: Any, *operands: Any, **options: Any) -> Any:
    if not isinstance(subscripts, str):
        raise NotBatchedError("lists of axes")
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    used = set(inputs + output)
    new = next((c for c in "BNSZbnszAXYaxy" if c not in used), None)
    if new is None or not arrow:
        raise NotBatchedError("no result named, or no letter left")
    terms = [
        new + term if level.owns(a) else term
        for term, a in zip(inputs.split(","), operands, strict=True)
    ]
    arrays = [a.arrays if level.owns(a) else a for a in operands]
    return level.batch(np.einsum(f"{','.join(terms)}->{new}{output}", *arrays, **options))


# -- along axes


def _from_the_end(axis: Any, ndim: int) -> Any:
    """Axes as negative numbers, which do not change when an axis is added in front."""
    if np.iterable(axis):
        return tuple([_from_the_end(i, ndim) for i in axis])
    return normalize_axis_index(axis, ndim) - ndim


def reduced(fun: Function) -> Batched:
    """`ufunc.reduce`."""

    def batched(level: Level, x: Any, axis: Any = 0, *args: Any, **kwargs: Any) -> Any:
        arrays = _owned(level, x, *args, *kwargs.values()).arrays
        axes = range(x.ndim) if axis is None or not x.ndim else normalize_axis_tuple(axis, x.ndim)
        return level.batch(fun(arrays, tuple([i + 1 for i in axes]), *args, **kwargs))

    return batched


def accumulated(fun: Function) -> Batched:
    """`ufunc.accumulate`."""

    def batched(level: Level, x: Any, axis: Any = 0, **kwargs: Any) -> Any:
        arrays = _owned(level, x, *kwargs.values()).arrays
        return level.batch(fun(arrays, axis=_from_the_end(axis, x.ndim), **kwargs))

    return batched


def _along(fun: Function, none: str = "refused") -> Batched:
    """A function along one or more axes.

    `none` says what axis=None stands for: "all" axes, the "flat" array, or is "refused".
    """
    of = signature(fun)

    def batched(level: Level, *args: Any, **kwargs: Any) -> Any:
        call = of.bind(*args, **kwargs)
        call.apply_defaults()
        x, *others = call.args
        arrays = _owned(level, x, *others, *call.kwargs.values()).arrays
        axis = call.arguments["axis"]
        if not x.ndim or (axis is None and none == "refused"):
            raise NotBatchedError(f"{fun.__name__} without an axis")
        if axis is None and none == "flat":
            if call.arguments.get("keepdims") not in (None, False, np._NoValue):
                raise NotBatchedError(f"{fun.__name__} of all elements with keepdims")
            arrays, axis = arrays.reshape(len(arrays), -1), 0
        axis = range(x.ndim) if axis is None else axis
        call.arguments["axis"] = _from_the_end(axis, arrays.ndim - 1)
        return level.batch(fun(arrays, *call.args[1:], **call.kwargs))

    return batched


def _diff(level: Level, x: Any, n: int = 1, axis: int = -1, **ends: Any) -> Any:
    if ends or not x.ndim:
        raise NotBatchedError("ends of their own")
    return level.batch(np.diff(x.arrays, n, _from_the_end(axis, x.ndim)))


# -- stacks of matrices


def _stack(fun: Function) -> Batched:
    """A function of the last two axes, of a matrix at least, which returns one array or several."""

    def batched(level: Level, x: Any, *args: Any, **kwargs: Any) -> Any:
        arrays = _owned(level, x, *args, *kwargs.values()).arrays
        if x.ndim < 2:
            raise NotBatchedError(f"{fun.__name__} of vectors")
        out = fun(arrays, *args, **kwargs)
        if not isinstance(out, tuple):
            return level.batch(out)
        parts = map(level.batch, out)
        return type(out)(*parts) if hasattr(out, "_fields") else tuple(parts)

    return batched


# -- joining


def _joined(join: Function, more: int) -> Batched:
    def batched(level: Level, arrays: Any, axis: Any = 0, **options: Any) -> Any:
        if axis is None or not isinstance(arrays, (list, tuple)):
            raise NotBatchedError(f"{join.__name__} of flattened arrays")
        axis = _from_the_end(axis, ndim_of(arrays[0]) + more)
        return level.batch(join([*map(level.stacked, arrays)], axis, **options))

    return batched


# -- shapes


def _tuple(shape: Any) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)


def _reshape(level: Level, x: Any, shape: Any, order: Any = "C", copy: Any = None) -> Batch:
    if order != "C" or copy:
        raise NotBatchedError("another order")
    shape = _tuple(shape)
    if -1 in shape:
        known = -int(np.prod(shape))
        if not known or x.size % known:
            raise ValueError(f"cannot reshape array of size {x.size} into shape {shape}")
        shape = tuple([x.size // known if n == -1 else n for n in shape])
    return level.batch(x.arrays.reshape(level.count, *shape))


def _transpose(level: Level, x: Any, axes: Any = None) -> Batch:
    axes = range(x.ndim)[::-1] if axes is None else normalize_axis_tuple(axes, x.ndim)
    return level.batch(np.transpose(x.arrays, (0, *[i + 1 for i in axes])))


def _swapaxes(level: Level, x: Any, i: int, j: int) -> Any:
    axes = normalize_axis_tuple((i, j), x.ndim, allow_duplicate=True)
    return level.batch(np.swapaxes(x.arrays, *[k + 1 for k in axes]))


def _moveaxis(level: Level, x: Any, source: Any, destination: Any) -> Any:
    source, destination = (
        [i + 1 for i in normalize_axis_tuple(axes, x.ndim)] for axes in (source, destination)
    )
    return level.batch(np.moveaxis(x.arrays, source, destination))


def _expand_dims(level: Level, x: Any, axis: Any) -> Any:
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    axes = normalize_axis_tuple(axis, x.ndim + count)
    return level.batch(np.expand_dims(x.arrays, tuple([i + 1 for i in axes])))


def _unstack(level: Level, x: Any, /, *, axis: Any = 0) -> Any:
    rows = np.moveaxis(x.arrays, normalize_axis_index(axis, x.ndim) + 1, 0)
    return tuple(map(level.batch, rows))


def _broadcast_to(level: Level, x: Any, shape: Any) -> Any:
    shape = _tuple(shape)
    (arrays,) = level.aligned([x], len(shape))
    return level.batch(np.broadcast_to(arrays, (level.count, *shape)))


def _like(fun: Function) -> Batched:
    def batched(level: Level, x: Any, *args: Any, shape: Any = None, **kwargs: Any) -> Any:
        _owned(level, x, *args)
        shape = None if shape is None else (level.count, *_tuple(shape))
        return level.batch(fun(x.arrays, *args, shape=shape, **kwargs))

    return batched


# -- elements by index


def _front(level: Level, index: Any) -> tuple[Any, ...]:
    """The index into all arrays at once that does the same as `index` into each array."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = numbers = 0
    for part in parts:
        if level.owns(part):
            return _own_elements(level, parts)
        arrays += isinstance(part, (np.ndarray, list, Batch))
        numbers += isinstance(part, (int, np.integer))
        if isinstance(part, (bool, np.bool_)):
            raise NotBatchedError("a truth value adds an axis")
    if arrays > 1 or (arrays and numbers):
        raise NotBatchedError("axes of several arrays and numbers may move to the front")
    return (slice(None), *parts)


def _own_elements(level: Level, parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index where each sample has integers of its own, for its first axes."""
    count = next((i for i, part in enumerate(parts) if not hasattr(part, "dtype")), len(parts))
    simple = all(p is ... or isinstance(p, slice) for p in parts[count:])
    if not (count and simple) or any(p.dtype.kind == "b" for p in parts[:count]):
        raise NotBatchedError("an index of different arrays, or of truth values")
    ndim = max(map(ndim_of, parts[:count]))
    samples = np.arange(level.count).reshape(-1, *(1,) * ndim)
    return (samples, *level.aligned(parts[:count], ndim), *parts[count:])


def _getitem(level: Level, x: Any, index: Any) -> Any:
    where = _front(level, index)
    if level.owns(x):
        return level.batch(x.arrays[where])
    return level.batch(x[where[1:]])


def _setitem(level: Level, x: Any, index: Any, value: Any) -> None:
    where = _front(level, index)
    if level.owns(value):
        extra = value.ndim - (x.arrays[where].ndim - 1)
        if extra > 0:
            raise NotBatchedError("axes of length 1 that the assignment ignores")
        (value,) = level.aligned([value], value.ndim - extra)
    x.arrays[where] = value


def _assign(level: Level, x: Any, value: Any, index: Any) -> Any:
    out = level.batch(level.stacked(x).copy())
    _setitem(level, out, index, value)
    return out


def _at(ufunc: np.ufunc) -> Batched:
    def batched(level: Level, x: Any, index: Any, value: Any) -> None:
        where = _front(level, index)
        (value,) = level.aligned([value], x.arrays[where].ndim - 1)
        ufunc.at(x.arrays, where, value)

    return batched


def _take(
    level: Level, x: Any, indices: Any, axis: Any = None, _out: None = None, mode: Any = "raise"
) -> Any:
    if not level.owns(indices):
        return _TAKE(level, x, indices, axis, mode=mode)
    if level.owns(x):
        if axis is not None or mode == "wrap":
            raise NotBatchedError("elements of each sample along an axis")
        if mode == "clip":
            indices = np.clip(indices, 0, x.size - 1)
        return x.reshape(-1)[indices]
    if axis not in (None, 0):
        raise NotBatchedError("elements along an axis, at indices of each sample")
    return level.batch(np.take(x, indices.arrays, axis, mode=mode))


def _dtype(value: Any) -> Any:
    return value.dtype if isinstance(value, Batch) else value


# -- the table

_REDUCTIONS = (
    np.sum, np.mean, np.any, np.all, np.prod, np.max, np.min, np.std, np.var, np.ptp, np.median,
    np.flip, np.nansum, np.nanmean, np.nanprod, np.nanmax, np.nanmin, np.nanstd, np.nanvar,
    np.count_nonzero,
)  # fmt: skip
_FLAT = (
    np.argmax, np.argmin, np.cumsum, np.cumprod, np.sort, np.argsort, np.repeat,
    np.nancumsum, np.nancumprod,
)  # fmt: skip
_ALONG = (
    np.roll, np.unwrap, np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.irfft, np.fft.hfft,
    np.fft.ihfft,
)  # fmt: skip
_STACKS = (
    np.tril, np.triu, np.linalg.det, np.linalg.inv, np.linalg.slogdet, np.linalg.cholesky,
    np.linalg.eigh, np.linalg.eigvalsh, np.linalg.eig, np.linalg.svd, np.linalg.svdvals,
    np.linalg.qr, np.linalg.matrix_power, np.linalg.pinv, np.matrix_transpose,
)  # fmt: skip
_LIKE = (np.zeros_like, np.ones_like, np.empty_like, np.full_like)
_WHOLE = (np.real, np.imag, np.astype, np.copy, np.round, np.nan_to_num, np.angle, alias)


_UFUNCS = {fun for fun in vars(np).values() if isinstance(fun, np.ufunc)}

_TAKE = _along(np.take, "flat")
_TABLE: dict[Function, Batched] = {
    **{ufunc.reduce: reduced(ufunc.reduce) for ufunc in _UFUNCS},
    **{ufunc.accumulate: accumulated(ufunc.accumulate) for ufunc in _UFUNCS},
    **{fun: _along(fun, "all") for fun in _REDUCTIONS},
    **{fun: _along(fun, "flat") for fun in _FLAT},
    **{fun: _along(fun) for fun in _ALONG},
    **{fun: _stack(fun) for fun in _STACKS},
    **{fun: _like(fun) for fun in _LIKE},
    **{fun: _whole(fun) for fun in _WHOLE},
    np.matmul: _matmul,
    np.dot: _dot,
    np.inner: _inner,
    np.diff: _diff,
    np.einsum: _einsum,
    np.linalg.solve: _solve,
    np.concatenate: _joined(np.concatenate, 0),
    np.stack: _joined(np.stack, 1),
    np.reshape: _reshape,
    reshape: _reshape,
    np.transpose: _transpose,
    np.swapaxes: _swapaxes,
    np.moveaxis: _moveaxis,
    np.expand_dims: _expand_dims,
    np.unstack: _unstack,
    np.broadcast_to: _broadcast_to,
    operator.getitem: _getitem,
    operator.setitem: _setitem,
    assign: _assign,
    np.add.at: _at(np.add),
    np.subtract.at: _at(np.subtract),
    np.take: _take,
    np.shape: lambda _level, x: x.shape,
    np.ndim: lambda _level, x: x.ndim,
    np.size: lambda _level, x: x.size,
    np.iscomplexobj: lambda _level, x: x.dtype.kind == "c",
    np.isrealobj: lambda _level, x: x.dtype.kind != "c",
    np.result_type: lambda _level, *values: np.result_type(*map(_dtype, values)),
    np.can_cast: lambda _level, x, *to: np.can_cast(_dtype(x), *to),
}
AT_ONCE.update(_TABLE)
