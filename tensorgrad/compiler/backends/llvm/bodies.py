"""What a call computes for each index of a shape: the first half of lowering."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ....engine.interpreter import Requirement, Timetable
from ....engine.registry import name_of
from ....engine.typing import Function
from ...functions import array_of, assign_at, getitem, power, spread
from ...ir import Call, Storage, Value, dense_strides, values_in, viewed
from ...ops import fits, op_of, takes_out, ufunc_dtypes
from . import products, registers
from .kernels import (
    Check,
    Draw,
    DType,
    Guard,
    Matrix,
    Product,
)

Labels: TypeAlias = Sequence[Any]  # of axes, as for `np.einsum`
_NUMBERS: Mapping[Function, np.ufunc] = {
    operator.add: np.add, operator.sub: np.subtract, operator.mul: np.multiply,
    operator.truediv: np.divide, operator.gt: np.greater, power: np.power, math.sqrt: np.sqrt,
}  # fmt: skip
_REDUCED = frozenset({np.add, np.multiply, np.maximum, np.minimum, np.logaddexp})
_ACCUMULATED: Mapping[Function, np.ufunc] = {
    np.cumsum: np.add, np.ndarray.cumsum: np.add, np.cumprod: np.multiply,
    np.ndarray.cumprod: np.multiply,
}  # fmt: skip
_OF_BOOLS: Mapping[Function, np.ufunc] = {np.logical_or: np.maximum, np.logical_and: np.minimum}
_ERRORS = frozenset({"ignore", "warn"})  # of NumPy's settings, those that let native code run


class Place(NamedTuple):
    """Elements of a storage: where a value lies, along the axes of a nest."""

    storage: Storage
    offset: int
    strides: tuple[int, ...]
    dtype: DType


class Unknown(Exception):  # noqa: N818 (no error: the call stays as it is)
    """Native code does not know how to make a call; the message says why."""


class Index(NamedTuple):
    """Indices that choose elements along an axis of a size, `step` elements of memory apart.

    The strides of the indices are those along the axes of a nest.
    """

    value: Value
    strides: tuple[int, ...]
    size: int
    step: int
    axis: int

    @property
    def place(self) -> Place:
        """Where the indices lie."""
        return Place(self.value.storage, self.value.offset, self.strides, self.value.dtype)


class Indexed(NamedTuple):
    """Elements of a value that indices choose along some of its axes.

    The strides are those of the other axes, along the axes of a nest.
    """

    value: Value
    strides: tuple[int, ...]
    indices: tuple[Index, ...]
    clips: bool = False

    @property
    def place(self) -> Place:
        """Where the elements lie: anywhere in the value."""
        return Place(self.value.storage, self.value.offset, (), self.value.dtype)


@dataclass(frozen=True, eq=False)
class Body:
    """What a call computes for each index of a shape: `fun` of the operands, in a dtype.

    The result is written to `target`, or combined along `axes`.
    """

    shape: tuple[int, ...]
    fun: Function | None  # None: the operand as it is
    operands: Sequence[Any]
    dtypes: Sequence[DType]  # in which it computes: of the operands, and of the result
    target: Value
    reduce: np.ufunc | None = None
    axes: tuple[int, ...] = ()
    scatter: Indexed | None = None  # of the target, with which `reduce` combines the result
    sequence: int | None = None  # an axis along which an index needs the result of the one before

    @functools.cached_property
    def reads(self) -> list[Value]:
        """The values that it reads."""
        found: list[Value] = []
        for a in (*self.operands, self.scatter):
            if isinstance(a, Indexed):
                found += [a.value, *(index.value for index in a.indices)]
            elif isinstance(a, Value) and number_of(a) is None:
                found.append(a)
        return found

    @functools.cached_property
    def place(self) -> Place:
        """Where the result lies along the axes of a nest; its shape may lack reduced axes."""
        v = self.target
        if self.scatter is not None:
            return self.scatter.place
        if self.reduce is None:
            return place_of(v, self.shape)
        size = v.dtype.itemsize
        if v.ndim == len(self.shape):
            strides = [0 if i in self.axes else s // size for i, s in enumerate(v.strides)]
        else:
            left = iter(v.strides)
            strides = [0 if i in self.axes else next(left) // size for i in range(len(self.shape))]
        strides = [0 if n == 1 else s for n, s in zip(self.shape, strides)]
        return Place(v.storage, v.offset, tuple(strides), v.dtype)


# -- places


def place_of(v: Value, shape: tuple[int, ...]) -> Place:
    """Where an operand lies along the axes of a nest, to whose shape it is broadcast."""
    strides = (0,) * (len(shape) - len(v.shape)) + _strides(v)
    return Place(v.storage, v.offset, strides, v.dtype)


def number_of(a: Any) -> Any:
    """An operand that is the same number in each call, or None."""
    if isinstance(a, Value):
        is_same = a.is_constant and (a.size == 1 or (a.size and not any(a.strides)))
        return a.array.flat[0] if is_same else None
    if isinstance(a, (bool, int, float, np.generic)):
        return a
    if isinstance(a, np.ndarray) and a.ndim == 0:
        return a[()]
    return None


# -- calls


def part_of(call: Call) -> Product | Guard | Check | Draw | list[Body]:
    """What a call computes, or Unknown is raised."""
    if call.kind == "effect" and call.results:
        return _draw(call)
    if isinstance(call.fun, Requirement):
        return _check(call)
    if call.kind == "guard" and registers.is_register(call.args[0].dtype):
        return Guard(call.args[0], call.args[1], [call])
    if isinstance(call.fun, Timetable):
        raise Unknown("it calls Python, in a loop once for many steps")
    if call.kind not in ("pure", "write"):
        raise Unknown("it calls Python")
    if call.errors and not _ERRORS.issuperset(call.errors.values()):
        raise Unknown("floating-point errors are not ignored")
    if op_of(call.fun).pattern == "join":
        return [*map(_checked, _joined(call))]
    if call.fun in _ACCUMULATED or name_of(call.fun).endswith(".accumulate"):
        return [*map(_checked, _accumulated(call))]
    product = _product(call)
    return [body_of(call)] if product is None else product


def body_of(call: Call) -> Body:
    """What a call computes for each index, or Unknown is raised."""
    return _checked(_found(call))


def _checked(body: Body) -> Body:
    """The body, if native code knows its functions and dtypes; or Unknown is raised."""
    for v in (body.target, *body.reads):
        reason = _why_not(v.dtype, v.strides)
        if reason is not None:
            raise Unknown(reason)
    for a in body.operands:
        if not isinstance(a, (Value, Indexed)) and number_of(a) is None:
            raise Unknown(f"an operand is a {type(a).__name__}")
    if body.fun is not None and not registers.is_known(body.fun, tuple(body.dtypes[:-1])):
        raise Unknown(f"native code does not know it for {body.dtypes[0]}")
    if not math.prod(body.shape):
        raise Unknown("there are no elements")
    if body.sequence is None and _reads_what_it_writes(body):
        raise Unknown("it reads elements that it writes for other indices")
    return body


@functools.lru_cache(maxsize=1 << 12)
def _why_not(dtype: DType, strides: tuple[int, ...]) -> str | None:
    """Why native code does not know arrays with such elements, or None where it does."""
    if not registers.is_register(dtype):
        return f"it computes in {dtype}"
    if any(stride % dtype.itemsize for stride in strides):
        return "an array lies between elements of another dtype"
    return None


def _reads_what_it_writes(body: Body) -> bool:
    """Whether an index may need what another one changes: NumPy copies such an operand first."""
    scattered = None if body.scatter is None else body.scatter.value
    for v in body.reads:
        if v is not scattered and overlap(v, body.target):
            is_operand = any(v is a for a in body.operands)
            if not is_operand or place_of(v, body.shape) != body.place:
                return True
    return False


def overlap(v: Value, other: Value) -> bool:
    """Whether two values may share memory."""
    if v.storage is not other.storage:
        return False
    (low, high), (start, stop) = v.bounds, other.bounds
    return start < high and low < stop


def _found(call: Call) -> Body:
    fun, args = call.fun, call.args
    if fun is assign_at:
        return _assignment(call)
    if (isinstance(fun, np.ufunc) and fun.signature is None) or fun in _NUMBERS:
        return _elementwise(call, _NUMBERS.get(fun, fun))
    owner = getattr(fun, "__self__", None)
    if isinstance(owner, np.ufunc) and name_of(fun).endswith(".at"):
        return _scattered(call, owner)
    if len(call.results) != 1 or len(call.returned) != 1 or call.target is not None:
        raise Unknown("native code does not know it")
    (result,) = call.results
    if fun is getitem and not values_in(args[1]):
        return _copy(_part(*args), result)
    if fun in _MAKERS:
        return _MAKERS[fun](call, result)
    if isinstance(owner, np.ufunc) and name_of(fun).endswith(".reduce"):
        return _reduction(call, owner)
    pattern = op_of(fun).pattern
    if pattern == "fill":
        given = (*args[1:2], 0)[0] if fun is np.full_like else int(fun is np.ones_like)
        return _copy(call.kwargs.get("fill_value", given), result)
    first = args[0] if args else None
    if fun is np.einsum:
        return _contracted(call, result)
    if pattern == "reshape" and isinstance(first, Value) and takes_out(call):
        if not result.is_c_contiguous:
            raise Unknown("the result does not lie by rows")
        strides = dense_strides(first.shape, result.itemsize, range(first.ndim))
        return _copy(first, replace(result, shape=first.shape, strides=strides))
    is_like = isinstance(first, Value) and first.shape == result.shape
    if fun in (array_of, spread) or (pattern == "copy" and is_like):
        return _copy(first, result)
    if fun in (np.dot, np.inner) and all(isinstance(a, Value) and a.ndim == 1 for a in args[:2]):
        x, y = args
        if x.dtype == y.dtype == result.dtype:
            return Body(x.shape, np.multiply, (x, y), (x.dtype,) * 3, result, np.add, (0,))
    if pattern == "product" and len(args) == 2 and not call.kwargs.keys() - {"order"}:
        return _small_product(call, result)
    if pattern == "select" and len(args) == 3 and not call.kwargs:
        dtypes = (np.dtype(bool), result.dtype, result.dtype, result.dtype)
        return Body(result.shape, np.where, args, dtypes, result)
    raise Unknown("native code does not know it")


def _clipped(call: Call, result: Value) -> Body:
    given = dict(zip(("a", "a_min", "a_max"), call.args)) | {**call.kwargs}
    least, most = given.pop("a_min", None), given.pop("a_max", None)
    least, most = given.pop("min", least), given.pop("max", most)
    x = given.pop("a")
    if any(v is not None for v in given.values()) or not all(
        bound is None or fits(bound, result.dtype) for bound in (least, most)
    ):
        raise Unknown("native code does not know it with such arguments")
    bounds = [bound for bound in (least, most) if bound is not None]
    fun = np.clip if len(bounds) > 1 else np.maximum if most is None else np.minimum
    operands = (x, *bounds)
    return Body(result.shape, fun, operands, (result.dtype,) * (len(operands) + 1), result)


def _joined(call: Call) -> list[Body]:
    """The copies that put arrays side by side."""
    arrays, *others = call.args
    given = {"axis": 0} | dict(zip(("axis",), others)) | {**call.kwargs}
    listed = isinstance(arrays, (list, tuple)) and all(isinstance(a, Value) for a in arrays)
    if given.keys() != {"axis"} or given["axis"] is None or not listed:
        raise Unknown("native code does not know it with such arguments")
    (result,), start = call.results, 0
    axis = given["axis"] % result.ndim
    stacks = call.fun is np.stack
    bodies = []
    for a in arrays:
        strides = [s for i, s in enumerate(result.strides) if not (stacks and i == axis)]
        offset = result.offset + start * result.strides[axis]
        part = replace(result, shape=a.shape, strides=tuple(strides), offset=offset)
        bodies += [_copy(a, part)] if a.size else []
        start += 1 if stacks else a.shape[axis]
    if not bodies:
        raise Unknown("there are no elements")
    return bodies


def _contracted(call: Call, result: Value) -> Body:
    """`np.einsum` of one or two arrays, unless it is a product of large matrices."""
    labels, arrays, kept = _terms(call.args)
    dtype = call.kwargs.get("dtype", result.dtype)
    alike = all(isinstance(a, Value) and a.dtype == result.dtype == dtype for a in arrays)
    if call.kwargs.keys() - {"dtype"} or not alike or len(arrays) > 2:
        raise Unknown("native code does not know it with such arguments")
    if any(len({*term}) < len(term) for term in (*labels, kept)):
        raise Unknown("an axis is named twice")
    sizes = {k: n for term, a in zip(labels, arrays, strict=True) for k, n in zip(term, a.shape)}
    order = [*kept, *(k for k in sizes if k not in kept)]
    shape = tuple(sizes[k] for k in order)
    if math.prod(shape) > max(1 << 12, 2 * max(a.size for a in (*arrays, result))):
        raise Unknown("it is a product of matrices")
    operands = [_along(a, term, order) for a, term in zip(arrays, labels, strict=True)]
    fun = np.multiply if len(arrays) == 2 else None
    dtypes = (result.dtype,) * (len(arrays) + 1)
    axes = tuple(range(len(kept), len(order)))
    return Body(shape, fun, operands, dtypes, result, np.add if axes else None, axes)


def _small_product(call: Call, result: Value) -> Body:
    """A product of two matrices, or of vectors, of any dtypes, if it is small."""
    x, y = call.args
    if not all(isinstance(v, Value) and 0 < v.ndim < 3 for v in (x, y)):
        raise Unknown("native code does not know it with such arguments")
    if call.fun is np.inner and y.ndim == 2:
        y = y.transposed()
    labels = "mk"[2 - x.ndim :], "kn"[: y.ndim]
    kept = [k for term in labels for k in term if k != "k"]
    order = [*kept, "k"]
    sizes = {k: n for term, v in zip(labels, (x, y)) for k, n in zip(term, v.shape)}
    shape = tuple(sizes[k] for k in order)
    if math.prod(shape) > 1 << 14:
        raise Unknown("it is a large product of numbers of such dtypes")
    operands = [_along(v, term, order) for v, term in zip((x, y), labels)]
    dtypes = (result.dtype,) * 3
    return Body(shape, np.multiply, operands, dtypes, result, np.add, (len(kept),))


def _terms(args: Sequence[Any]) -> tuple[list[Labels], list[Any], Labels]:
    """The labels of each array's axes, the arrays, and the labels of the result's axes."""
    if isinstance(args[0], str):
        terms, arrow, kept = args[0].replace(" ", "").partition("->")
        if not arrow or "." in terms:
            raise Unknown("native code does not know it with such arguments")
        return [*terms.split(",")], [*args[1:]], kept
    if len(args) % 2 == 0:
        raise Unknown("native code does not know it with such arguments")
    return [*args[1:-1:2]], [*args[:-1:2]], args[-1]


def _along(v: Value, labels: Labels, order: Labels) -> Value:
    """A view whose axes are in an order of labels; those that it lacks have one index."""
    axes = {k: (n, s) for k, n, s in zip(labels, v.shape, v.strides, strict=True)}
    pairs = [axes.get(k, (1, 0)) for k in order]
    return replace(v, shape=tuple(n for n, _ in pairs), strides=tuple(s for _, s in pairs))


def _draw(call: Call) -> Draw:
    """Random numbers of a generator of NumPy's."""
    (result,), owner = call.results, getattr(call.fun, "__self__", None)
    if not isinstance(owner, np.random.Generator) or name_of(call.fun) != "random":
        raise Unknown("it calls Python")
    if not (result.is_c_contiguous and result.dtype.char in "fd" and result.size):
        raise Unknown("native code does not know it with such arguments")
    return Draw(owner, result, [call])


def _check(call: Call) -> Check:
    """What must hold for all elements of some arrays."""
    if not all(isinstance(a, Value) and registers.is_register(a.dtype) for a in call.args):
        raise Unknown("it calls Python")
    return Check(call.args, call.fun, [call])


def _taken(call: Call, result: Value) -> Body:
    """Elements that arrays of indices choose: one along an axis, or some along the first axes."""
    given: dict[str, Any] = {"axis": None, "out": None, "mode": "raise"}
    x, index, *others = call.args
    given |= dict(zip(("axis", "out", "mode"), others)) | {**call.kwargs}
    if given["out"] is not None or given["mode"] == "wrap":
        raise Unknown("native code does not know it with such arguments")
    axis = given["axis"]
    if call.fun is getitem:
        return _copy(_chosen(x, index if isinstance(index, tuple) else (index,)), result)
    if axis is None and x.ndim != 1:
        if not x.is_c_contiguous:
            raise Unknown("it chooses elements of an array that is not contiguous")
        x = replace(x, shape=(x.size,), strides=(x.itemsize,))
    return _copy(
        _chosen(x, (index,), (axis or 0) % max(x.ndim, 1), given["mode"] == "clip"), result
    )


def _chosen(x: Value, indices: Sequence[Any], axis: int = 0, clips: bool = False) -> Indexed:
    """The elements that indices, broadcast to one shape, choose along the axes from one on."""
    if not indices or not all(map(_is_index, indices)) or len(indices) > x.ndim:
        raise Unknown("it chooses elements by something other than arrays of integers")
    stop = axis + len(indices)
    if not all(x.shape[axis:stop]):
        raise Unknown("there are no elements")
    steps, shape = _strides(x), np.broadcast_shapes(*(index.shape for index in indices))
    if len(indices) > 1 and min(steps) < 0:
        raise Unknown("it chooses elements of an array whose axes are reversed")
    before, after = (0,) * axis, (0,) * (x.ndim - stop)
    found = [
        Index(i, (*before, *place_of(i, shape).strides, *after), x.shape[k], steps[k], k)
        for k, i in enumerate(indices, axis)
    ]
    return Indexed(x, (*steps[:axis], *(0 for _ in shape), *steps[stop:]), tuple(found), clips)


def _taken_along(call: Call, result: Value) -> Body:
    """For each index, the element in its own row along an axis."""
    given = {"axis": -1} | dict(zip(("arr", "indices", "axis"), call.args)) | {**call.kwargs}
    x, index, axis = given["arr"], given["indices"], given["axis"]
    if axis is None or not _is_index(index) or index.ndim != x.ndim or not x.size:
        raise Unknown("native code does not know it with such arguments")
    axis, steps = axis % x.ndim, _strides(x)
    chosen = Index(index, place_of(index, result.shape).strides, x.shape[axis], steps[axis], axis)
    return _copy(Indexed(x, (*steps[:axis], 0, *steps[axis + 1 :]), (chosen,)), result)


def _scattered(call: Call, fun: np.ufunc) -> Body:
    """`fun.at(target, index, value)` for arrays of indices, of the first axes."""
    target, index, value = call.args
    if fun not in (np.add, np.subtract):
        raise Unknown("native code does not know it")
    place = _chosen(target, index if isinstance(index, tuple) else (index,))
    count = len(place.indices)
    shape = np.broadcast_shapes(*(i.value.shape for i in place.indices))
    dtypes = (target.dtype, target.dtype)
    return Body((*shape, *target.shape[count:]), None, (value,), dtypes, target, fun, scatter=place)


_MAKERS: Mapping[Function, Callable[[Call, Value], Body]] = {
    np.clip: _clipped, np.ndarray.clip: _clipped, np.take_along_axis: _taken_along,
    np.take: _taken, np.ndarray.take: _taken, getitem: _taken,
}  # fmt: skip


def _is_index(index: Any) -> bool:
    return isinstance(index, Value) and index.dtype.kind in "iu"


def _strides(v: Value) -> tuple[int, ...]:
    """The elements from one index to the next; 0 for an axis with a single one."""
    return _steps(v.shape, v.strides, v.dtype.itemsize)


@functools.lru_cache(maxsize=1 << 12)
def _steps(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(0 if n == 1 else s // itemsize for n, s in zip(shape, strides, strict=True))


def _copy(source: Any, target: Value) -> Body:
    return Body(target.shape, None, (source,), (target.dtype, target.dtype), target)


def _elementwise(call: Call, fun: Any) -> Body:
    if fun.nout != 1 or call.kwargs.keys() - {"out", "dtype"}:
        raise Unknown("native code does not know it")
    args = call.args[: fun.nin]
    try:
        dtypes = ufunc_dtypes(fun, args, call.kwargs.get("dtype"))
    except TypeError as error:
        raise Unknown(str(error)) from None
    if not all(map(fits, args, dtypes)):
        raise Unknown("it compares with a number that the dtype does not hold")
    target = call.results[0] if call.results else call.target
    assert target is not None
    return Body(target.shape, fun, args, dtypes, target)


def _assignment(call: Call) -> Body:
    array, index, value = call.args
    if values_in(index) or not (isinstance(value, Value) or number_of(value) is not None):
        raise Unknown("it assigns to chosen elements")
    target = _part(array, index)
    if isinstance(value, Value) and value.ndim > target.ndim:
        raise Unknown("it assigns an array with more axes")
    return _copy(value, target)


def _part(v: Value, index: Any) -> Value:
    """A part of a value by basic indexing, as a value."""
    if index is ... or (isinstance(index, tuple) and not index):
        return v
    whole = index if isinstance(index, tuple) else (index,)
    if not any(i is ... for i in whole):  # so that an element is a view, too
        whole = (*whole, ...)
    part, *_ = viewed(getitem, (v, whole))
    if part is None:
        raise Unknown("it chooses elements by something other than numbers and slices")
    return part


def _reduction(call: Call, fun: np.ufunc) -> Body:
    given: dict[str, Any] = {"axis": 0, "dtype": None, "out": None, "keepdims": False}
    given |= dict(zip(("array", "axis", "dtype", "out", "keepdims"), call.args)) | {**call.kwargs}
    x, axis, (result,) = given.pop("array"), given.pop("axis"), call.results
    dtype, _keepdims = given.pop("dtype") or result.dtype, given.pop("keepdims")
    starts_low = fun is np.maximum and given.get("initial") == -np.inf  # as without any
    given["initial"] = None if starts_low else given.get("initial")
    if result.dtype.kind == "b":
        fun = _OF_BOOLS.get(fun, fun)
    if fun not in _REDUCED or any(v is not None for v in given.values()):
        raise Unknown("native code does not know it")
    if not isinstance(x, Value) or dtype != result.dtype:
        raise Unknown(f"it adds up in {dtype}")
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    dtypes = (result.dtype, result.dtype)
    return Body(x.shape, None, (x,), dtypes, result, fun, tuple(i % x.ndim for i in axes if x.ndim))


def _accumulated(call: Call) -> list[Body]:
    """The first elements, and then a function of the result so far and the next element."""
    owner = getattr(call.fun, "__self__", None)
    fun = _ACCUMULATED.get(call.fun, owner)
    given = {"axis": 0 if isinstance(owner, np.ufunc) else None, "dtype": None, "out": None}
    given |= dict(zip(("a", "axis", "dtype", "out"), call.args)) | {**call.kwargs}
    x, axis = given.pop("a", given.pop("array", None)), given.pop("axis")
    if len(call.results) != 1 or given.pop("out") is not None or not isinstance(x, Value):
        raise Unknown("native code does not know it with such arguments")
    (result,) = call.results
    dtype = given.pop("dtype")
    if given or (dtype is not None and dtype != result.dtype) or (axis is None and x.ndim != 1):
        raise Unknown("native code does not know it with such arguments")
    axis = (axis or 0) % x.ndim
    if not x.size:
        raise Unknown("there are no elements")

    def part(v: Value, start: int | None, stop: int | None) -> Value:
        return _part(v, (*[slice(None)] * axis, slice(start, stop)))

    first = _copy(part(x, 0, 1), part(result, 0, 1))
    if x.shape[axis] == 1:
        return [first]
    target, operands = part(result, 1, None), (part(result, 0, -1), part(x, 1, None))
    dtypes = (result.dtype,) * 3
    return [first, Body(target.shape, fun, operands, dtypes, target, sequence=axis)]


def _product(call: Call) -> Product | None:
    """A product of matrices, or of a matrix and a vector, or a stack of products, if it pays."""
    if (
        op_of(call.fun).pattern != "product"
        or call.kwargs.keys() - {"order", "out"}
        or len(call.args) != 2
    ):
        return None
    x, y = call.args
    result = call.results[0] if call.results else call.target
    assert result is not None
    values = x, y, result
    if not all(isinstance(v, Value) and v.dtype == result.dtype for v in values):
        return None
    is_stack = x.ndim > 2 or y.ndim > 2
    if result.dtype.char not in "fd" or not x.ndim or not y.ndim or x.ndim == y.ndim == 1:
        return None
    if is_stack and (call.fun is not np.matmul or min(x.ndim, y.ndim) < 2):
        return None
    batch = result.shape[:-2] if is_stack else ()
    steps = tuple(_strides_in_stack(v, len(batch)) for v in values)
    left, right = _matrix(x, as_row=True), _matrix(y, as_row=False)
    if call.fun is np.inner and y.ndim == 2:
        right = Matrix(right.shape[::-1], right.strides[::-1])
    (m, k), (_, n) = left.shape, right.shape
    made = _matrix(result, as_row=x.ndim == 1)
    if not all(itertools.chain(left.shape, right.shape, batch)):
        raise Unknown("there are no elements")
    if call.target is not None and any(overlap(v, result) for v in (x, y)):
        raise Unknown("it reads elements that it writes for other indices")
    if not products.pays(m, k, n, result.dtype):
        raise Unknown(f"BLAS multiplies ({m}, {k}) and ({k}, {n}) as fast")
    return Product(left, right, made, values, batch, steps)


def _strides_in_stack(v: Value, count: int) -> tuple[int, ...]:
    """The elements between the matrices of a stack, along so many axes."""
    steps = _strides(v)[:-2] if count else ()
    return (*[0] * (count - len(steps)), *steps)


def _matrix(v: Value, as_row: bool) -> Matrix:
    strides = [stride // v.dtype.itemsize for stride in v.strides]
    if v.ndim >= 2:
        return Matrix((v.shape[-2], v.shape[-1]), (strides[-2], strides[-1]))
    size, stride = v.shape[0], strides[0]
    return Matrix((1, size), (0, stride)) if as_row else Matrix((size, 1), (stride, 0))
