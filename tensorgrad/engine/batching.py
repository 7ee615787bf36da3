"""`Batch`: many arrays that NumPy code treats as one, to carry many derivatives in one pass."""
# ruff: noqa: D102 (the attributes of a batch are those of an array)

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple
from numpy.lib.mixins import NDArrayOperatorsMixin

from .. import tree
from .frames import PACKAGE
from .registry import RULES, signature
from .typing import Array, Function


class NotBatchedError(TypeError, AttributeError):
    """An operation does not work on a batch: apply it to the arrays one by one."""


class Batch(NDArrayOperatorsMixin):
    """Arrays of one shape, stacked along the first axis of `arrays`.

    Its shape is that of one array, and NumPy functions are applied to each array: to all at once if
    they are element-wise or in the table below, else one by one.
    """

    __slots__ = ("arrays",)

    def __init__(self, arrays: Array) -> None:
        self.arrays = arrays

    @property
    def shape(self) -> tuple[int, ...]:
        return self.arrays.shape[1:]

    @property
    def ndim(self) -> int:
        return self.arrays.ndim - 1

    @property
    def size(self) -> int:
        return self.arrays.size // max(len(self.arrays), 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays.dtype

    @property
    def base(self) -> None:
        """None, as for an array that owns its memory."""

    @property
    def T(self) -> Batch:
        return _transpose(self)

    @property
    def mT(self) -> Batch:
        return Batch(self.arrays.mT)

    @property
    def real(self) -> Batch:
        return Batch(self.arrays.real)

    def reshape(self, *shape: Any) -> Batch:
        return _reshape(self, shape[0] if len(shape) == 1 else shape)

    def ravel(self) -> Batch:
        return self.reshape(-1)

    def astype(self, dtype: Any, copy: bool = True) -> Batch:
        return Batch(self.arrays.astype(dtype, copy=copy))

    def copy(self) -> Batch:
        return Batch(self.arrays.copy())

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return np.add.reduce(self, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        try:
            return Batch(self.arrays[_inner(index)])
        except NotBatchedError:
            return _one_by_one(operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        index = _inner(index)
        if isinstance(value, Batch):
            (value,) = _aligned([value], self.arrays[index].ndim - 1)
        self.arrays[index] = value

    def _refuse(self, *_args: Any, **_kwargs: Any) -> Any:
        raise NotBatchedError("a batch is neither an array nor a number")

    __array__ = __bool__ = __index__ = __int__ = __float__ = __complex__ = _refuse

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and ufunc.signature is None and not kwargs:
            out = ufunc(*_aligned(inputs))
            return tuple(map(Batch, out)) if isinstance(out, tuple) else Batch(out)
        if ufunc is np.matmul and not kwargs:
            return _matmul(*inputs)
        fun = getattr(ufunc, method)
        if method == "at":
            x, index, *values = inputs
            if not isinstance(x, Batch):
                raise NotBatchedError("many values for one array")
            values = _aligned(values, x[index].ndim)
            return fun(x.arrays, _inner(index), *values)
        try:
            return BY_METHOD[method](fun, *inputs, **kwargs)
        except (KeyError, NotBatchedError):
            return _one_by_one(fun, inputs, kwargs)

    def __array_function__(self, fun: Function, types: Any, args: Any, kwargs: Any) -> Any:
        return call(fun, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        raise NotBatchedError(f"a batch has no attribute {name!r}")


def call(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function that is not a ufunc, with batches among its arguments."""
    if fun in RULES and RULES[fun].form == "elementwise":
        return Batch(fun(*_aligned(args), **kwargs))
    batched = BATCHED.get(fun)
    if batched is None and getattr(fun, "__module__", "").startswith(f"{PACKAGE}."):
        batched = getattr(fun, "__wrapped__", None)  # the body of our own operation is NumPy code
    if batched is not None:
        with contextlib.suppress(NotBatchedError):
            return batched(*args, **kwargs)
    return _one_by_one(fun, args, kwargs)


def _ndim(value: Any) -> int:
    kind = type(value)
    if kind is Batch:
        return value.arrays.ndim - 1  # type: ignore[no-any-return]
    return value.ndim if kind is np.ndarray else np.ndim(value)


def _inner(index: Any) -> tuple[Any, ...]:
    """The index into all arrays at once that does the same as `index` into each array."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = numbers = 0
    for part in parts:
        arrays += isinstance(part, (np.ndarray, list))
        numbers += isinstance(part, (int, np.integer))
        if isinstance(part, (bool, np.bool_)):
            raise NotBatchedError("a truth value adds an axis")
    if arrays > 1 or (arrays and numbers):
        raise NotBatchedError("axes of several arrays and numbers may move to the front")
    return (slice(None), *parts)


def _aligned(values: Sequence[Any], ndim: int = 0) -> list[Any]:
    """The values, with arrays in place of batches, so that they broadcast as single arrays do.

    The arrays get new axes after that of the batch: as many axes as the value with the most axes
    has, and at least `ndim`.
    """
    ndim = max(ndim, *map(_ndim, values)) + 1
    aligned = []
    for value in values:
        if type(value) is Batch:
            value = value.arrays
            if value.ndim != ndim:
                value = value.reshape(len(value), *(1,) * (ndim - value.ndim), *value.shape[1:])
        aligned.append(value)
    return aligned


def _one_by_one(fun: Function, args: Sequence[Any], kwargs: Any) -> Any:
    """Call `fun` for each array of the batches, and stack the results."""
    leaves, structure = tree.flatten((tuple(args), dict(kwargs)))
    count = _count(leaves)
    if not count:
        raise NotBatchedError("an empty batch")
    results = []
    for i in range(count):
        items = [leaf.arrays[i] if isinstance(leaf, Batch) else leaf for leaf in leaves]
        args, kwargs = structure.unflatten(items)
        results.append(fun(*args, **kwargs))
    return tree.map(lambda *parts: Batch(np.stack(parts)), *results)


def _count(values: Sequence[Any]) -> int:
    """The number of arrays in the first batch among the values, or 0."""
    batches = (leaf for leaf in tree.leaves(values) if isinstance(leaf, Batch))
    return next((len(batch.arrays) for batch in batches), 0)


# -- functions that work on a whole batch at once


def _matmul(x: Any, y: Any) -> Any:
    row, column = _ndim(x) == 1, _ndim(y) == 1
    x = x[None, :] if row else x
    y = y[:, None] if column else y
    out = np.matmul(*_aligned([x, y]))
    out = out[..., 0, :] if row else out
    return Batch(out[..., 0] if column else out)


def _reduced(fun: Function, x: Any, axis: Any = 0, **kwargs: Any) -> Any:
    axes = range(x.ndim) if axis is None or not x.ndim else normalize_axis_tuple(axis, x.ndim)
    return Batch(fun(x.arrays, axis=tuple([i + 1 for i in axes]), **kwargs))


def _accumulated(fun: Function, x: Any, axis: Any = 0, **kwargs: Any) -> Any:
    return Batch(fun(x.arrays, axis=_from_the_end(axis, x.ndim), **kwargs))


def _from_the_end(axis: Any, ndim: int) -> Any:
    """Axes as negative numbers, which do not change when an axis is added in front."""
    if np.iterable(axis):
        return tuple([_from_the_end(i, ndim) for i in axis])
    return normalize_axis_index(axis, ndim) - ndim


def _along(fun: Function, whole: bool = False) -> Callable[..., Any]:
    """A function along one or more axes; with `whole`, axis=None stands for all axes."""
    of = signature(fun)

    def batched(*args: Any, **kwargs: Any) -> Any:
        call = of.bind(*args, **kwargs)
        call.apply_defaults()
        x, *others = call.args
        axis = call.arguments["axis"]
        if not isinstance(x, Batch) or _count(others) or (axis is None and not whole):
            raise NotBatchedError(f"{fun.__name__} with these arguments")
        call.arguments["axis"] = _from_the_end(range(x.ndim) if axis is None else axis, x.ndim)
        return Batch(fun(x.arrays, *call.args[1:], **call.kwargs))

    return batched


def _matrices(fun: Function) -> Callable[..., Any]:
    """A function of the last two axes."""

    def batched(x: Any, *args: Any, **kwargs: Any) -> Any:
        if x.ndim < 2:
            raise NotBatchedError(f"{fun.__name__} of vectors")
        return Batch(fun(x.arrays, *args, **kwargs))

    return batched


def _together(arrays: Sequence[Any]) -> list[Array]:
    """The arrays of batches, and plain arrays repeated as often, to be joined."""
    count = _count(arrays)
    return [
        a.arrays if isinstance(a, Batch) else np.broadcast_to(a, (count, *np.shape(a)))
        for a in arrays
    ]


def _joined(join: Function, more: int) -> Callable[..., Any]:
    def batched(arrays: Any, axis: Any = 0, **options: Any) -> Any:
        if axis is None or not isinstance(arrays, (list, tuple)):
            raise NotBatchedError(f"{join.__name__} of flattened arrays")
        axis = _from_the_end(axis, _ndim(arrays[0]) + more)
        return Batch(join(_together(arrays), axis, **options))

    return batched


def _dot(x: Any, y: Any) -> Any:
    if not (_ndim(x) and _ndim(y)):
        return x * y
    if _ndim(x) > 2 or _ndim(y) > 2:
        raise NotBatchedError("a product of stacks")
    return _matmul(x, y)


def _solve(a: Any, b: Any) -> Any:
    vector = _ndim(b) == 1
    z = np.linalg.solve(*_aligned([a, b[:, None] if vector else b]))
    return Batch(z[..., 0] if vector else z)


def _reshape(x: Any, shape: Any) -> Batch:
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if -1 in shape:
        known = -int(np.prod(shape))
        shape = tuple([x.size // known if n == -1 else n for n in shape])
    return Batch(x.arrays.reshape(len(x.arrays), *shape))


def _transpose(x: Any, axes: Any = None) -> Batch:
    axes = range(x.ndim)[::-1] if axes is None else normalize_axis_tuple(axes, x.ndim)
    return Batch(np.transpose(x.arrays, (0, *[i + 1 for i in axes])))


def _swapaxes(x: Any, i: int, j: int) -> Any:
    axes = normalize_axis_tuple((i, j), x.ndim, allow_duplicate=True)
    return Batch(np.swapaxes(x.arrays, *[k + 1 for k in axes]))


def _moveaxis(x: Any, source: Any, destination: Any) -> Any:
    source, destination = (
        [i + 1 for i in normalize_axis_tuple(axes, x.ndim)] for axes in (source, destination)
    )
    return Batch(np.moveaxis(x.arrays, source, destination))


def _expand_dims(x: Any, axis: Any) -> Any:
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    axes = normalize_axis_tuple(axis, x.ndim + count)
    return Batch(np.expand_dims(x.arrays, tuple([i + 1 for i in axes])))


def _broadcast_to(x: Any, shape: Any) -> Any:
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    (arrays,) = _aligned([x], len(shape))
    return Batch(np.broadcast_to(arrays, (len(arrays), *shape)))


def _inner_product(x: Any, y: Any) -> Any:
    if not (_ndim(x) and _ndim(y)):
        return x * y
    return _dot(x, np.transpose(y) if _ndim(y) < 3 else y)


def _full_like(fun: Function) -> Callable[..., Any]:
    def batched(x: Any, dtype: Any = None, shape: Any = None, **kwargs: Any) -> Any:
        shape = None if shape is None else (len(x.arrays), *shape)
        return Batch(fun(x.arrays, dtype=dtype, shape=shape, **kwargs))

    return batched


def _whole(fun: Function) -> Callable[..., Any]:
    return lambda x, *args, **kwargs: Batch(fun(x.arrays, *args, **kwargs))


BY_METHOD = {"reduce": _reduced, "accumulate": _accumulated}
BATCHED: dict[Function, Callable[..., Any]] = {
    np.concatenate: _joined(np.concatenate, 0),
    np.stack: _joined(np.stack, 1),
    np.dot: _dot,
    np.linalg.solve: _solve,
    **{f: _along(f, whole=True) for f in (np.sum, np.mean, np.any, np.flip)},
    **{f: _along(f) for f in (np.take, np.roll, np.repeat, np.fft.fft, np.fft.ifft)},
    **{f: _along(f) for f in (np.fft.rfft, np.fft.irfft, np.fft.hfft, np.fft.ihfft)},
    **{f: _matrices(f) for f in (np.tril, np.triu)},
    np.reshape: _reshape,
    np.transpose: _transpose,
    np.swapaxes: _swapaxes,
    np.moveaxis: _moveaxis,
    np.expand_dims: _expand_dims,
    np.broadcast_to: _broadcast_to,
    np.inner: _inner_product,
    np.zeros_like: _full_like(np.zeros_like),
    np.matrix_transpose: lambda x: x.mT,
    np.real: _whole(np.real),
    np.imag: _whole(np.imag),
    np.astype: _whole(np.astype),
    np.copy: _whole(np.copy),
    np.shape: operator.attrgetter("shape"),
    np.ndim: operator.attrgetter("ndim"),
    np.size: operator.attrgetter("size"),
    np.iscomplexobj: lambda x: np.iscomplexobj(x.arrays),
}
