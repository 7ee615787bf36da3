"""Lowering: the calls of a program become kernels, as far as native code knows how.

Element-wise calls over one shape go into one loop nest, together with broadcasts and views, which
are strides there, and with reductions of what the nest computes. What else there is remains a call.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ....engine.registry import name_of
from ....engine.typing import Function
from ...functions import array_of, assign_at, getitem, power, spread
from ...ops import op_of
from ...program import Call, Program, Storage, Value, values_in, viewed
from . import products, registers
from .kernels import (
    Access,
    BoundsCheck,
    Cast,
    DType,
    Gather,
    Guard,
    Instruction,
    Kernel,
    Load,
    Matrix,
    Nest,
    Number,
    Operation,
    Product,
    Reduction,
    Scatter,
    Store,
)

_NUMBERS: Mapping[Function, np.ufunc] = {
    operator.add: np.add, operator.sub: np.subtract, operator.mul: np.multiply,
    operator.truediv: np.divide, operator.gt: np.greater, power: np.power, math.sqrt: np.sqrt,
}  # fmt: skip
_REDUCED = frozenset({np.add, np.multiply, np.maximum, np.minimum})
_ERRORS = frozenset({"ignore", "warn"})  # of NumPy's settings, those that let native code run


class Place(NamedTuple):
    """Elements of a storage: where a value lies, along the axes of a nest."""

    storage: Storage
    offset: int
    strides: tuple[int, ...]
    dtype: DType


class Unknown(Exception):  # noqa: N818 (no error: the call stays as it is)
    """Native code does not know how to make a call; the message says why."""


class Indexed(NamedTuple):
    """Elements of a value that indices choose along one of its axes, of a size.

    They are `step` elements of memory apart. The strides are those of the other axes, and of the
    indices, along the axes of a nest.
    """

    value: Value
    strides: tuple[int, ...]
    chosen: Value
    chosen_strides: tuple[int, ...]
    size: int
    step: int
    clips: bool = False

    @property
    def place(self) -> Place:
        """Where the elements lie: anywhere in the value."""
        return Place(self.value.storage, self.value.offset, (), self.value.dtype)

    @property
    def chosen_place(self) -> Place:
        """Where the indices lie."""
        return Place(
            self.chosen.storage, self.chosen.offset, self.chosen_strides, self.chosen.dtype
        )


class Body(NamedTuple):
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

    @property
    def reads(self) -> list[Value]:
        """The values that it reads."""
        found: list[Value] = []
        for a in (*self.operands, self.scatter):
            if isinstance(a, Indexed):
                found += [a.value, a.chosen]
            elif isinstance(a, Value) and not _is_number(a):
                found.append(a)
        return found


def lower(program: Program) -> Program:
    """The program with kernels in place of calls, as far as native code knows how."""
    lowering = _Lowering(program.outputs)
    for call in program.calls:
        lowering.add(call)
    return program._replace(calls=lowering.calls(), remarks=(*program.remarks, *lowering.remarks))


def is_of_floats(call: Call, floats: Container[Value]) -> bool:
    """Whether a call reads what another one, made by Python, returns as a number of Python's."""
    return any(v in floats for v in call.reads)


def kernel_of(call: Call) -> Call:
    """A call as a kernel of its own; if it stays a call, Unknown is raised, which says why."""
    if isinstance(call.fun, (Nest, Product, Guard, BoundsCheck)):
        return call
    if call.fun is not assign_at:
        raise Unknown("native code does not know it")
    body = _body(call)
    item = _Item(call, Nest(body.shape))
    _Builder(item).add(call, body)
    return _kernel_call(item, set())


class _Lowering:
    def __init__(self, outputs: Sequence[Value]) -> None:
        self._outputs = outputs
        self._items: list[_Item] = []
        self._floor = 0  # nothing moves to before the item of this number
        self._fence = 0  # nor do element-wise calls, unless they can use registers there
        self._nests: dict[tuple[int, ...], list[int]] = {}
        self._floats: set[Value] = set()
        self.remarks: list[str] = []
        self._uses: dict[Storage, list[tuple[int, int, int, bool]]] = {}

    def add(self, call: Call) -> None:
        """Let a call be a part of a kernel, a kernel of its own, or what it is."""
        if call.kind == "view":
            self._items.append(_Item(call))
            return
        try:
            if is_of_floats(call, self._floats):
                raise Unknown("it reads a number of Python's")
            part = _part_of(call)
        except Unknown as reason:
            self.remarks.append(f"not native: {name_of(call.fun)} at {call.location}: {reason}")
            self._plain(call)
            return
        if isinstance(part, (Product, Guard)):
            self._append(_Item(call, part, [call]), part.loaded, part.written)
            self._fence = len(self._items)
            if isinstance(part, Guard):
                self._floor = len(self._items)
        elif _may_go(call):
            self._plain(call)
        else:
            self._put(call, part)

    def _plain(self, call: Call) -> None:
        if op_of(call.fun).pattern == "number":
            self._floats.update(call.results)
        self._append(_Item(call), call.reads, [*call.results, *call.changes])
        self._fence = len(self._items)
        if call.kind in ("effect", "guard"):
            self._floor = len(self._items)

    def _append(self, item: _Item, reads: Iterable[Value], writes: Iterable[Value]) -> None:
        self._items.append(item)
        self._note(len(self._items) - 1, reads, writes)

    def _note(self, number: int, reads: Iterable[Value], writes: Iterable[Value]) -> None:
        for values, is_write in ((reads, False), (writes, True)):
            for v in values:
                self._uses.setdefault(v.storage, []).append((number, *v.bounds, is_write))

    def _earliest(self, reads: Iterable[Value], writes: Iterable[Value]) -> int:
        """The number of the last item that what reads and writes so must not come before."""
        last = self._floor
        for values, is_write in ((reads, False), (writes, True)):
            for v in values:
                low, high = v.bounds
                for number, start, stop, writes_too in self._uses.get(v.storage, ()):
                    if number > last and (is_write or writes_too) and low < stop and start < high:
                        last = number
        return last

    def _put(self, call: Call, body: Body) -> None:
        """Put a body into the nest where it saves most, or into a new one."""
        for a in (*body.operands, body.scatter):
            if isinstance(a, Indexed) and not a.clips:
                check = BoundsCheck(a.chosen, a.size)
                self._append(_Item(call, check), check.loaded, ())
                self._floor = self._fence = len(self._items)
        reads = body.reads
        first = self._earliest(reads, [body.target])
        if body.reduce is None and body.shape:
            first = max(first, self._fence)
        for number in self._nests.get(body.shape, ())[-4:]:
            if number >= first and _Builder(self._items[number]).fits(body):
                break
        else:
            number = len(self._items)
            self._items.append(_Item(call, Nest(body.shape), []))
            self._nests.setdefault(body.shape, []).append(number)
        _Builder(self._items[number]).add(call, body)
        self._note(number, reads, [body.target])

    def calls(self) -> list[Call]:
        """The calls that there are in the end."""
        needed = {v.storage for v in self._outputs}
        for item in self._items:
            if item.kernel is not None:
                needed.update(v.storage for v in item.kernel.loaded)
            elif item.call.kind != "view":
                needed.update(v.storage for v in item.call.reads)
        calls: list[Call] = []
        named = {*self._outputs}  # values that Python's lines name
        for item in reversed(self._items):
            call = item.call
            if item.kernel is not None:
                call = _kernel_call(item, needed)
            elif call.kind == "view" and named.isdisjoint(call.results):
                continue
            else:
                named.update(call.reads)
            calls.append(call)
        return calls[::-1]


class _Item:
    """A call that stays, or a kernel, whose state while it grows is kept here."""

    def __init__(self, call: Call, kernel: Kernel | None = None, calls: Sequence[Call] = ()):
        self.call = call
        self.kernel = kernel
        self.calls = [*calls]
        self.registers: dict[Place | Instruction, int] = {}  # what is in them
        self.stores: dict[Place, Store] = {}
        self.written: dict[Place, Value] = {}
        self.read: dict[Place, Value] = {}


def _kernel_call(item: _Item, needed: set[Storage]) -> Call:
    """A kernel as a call. Results that nobody reads from memory are not stored."""
    kernel, first = item.kernel, (item.calls or [item.call])[0]
    assert kernel is not None
    kernel.calls = item.calls
    made = {r.storage: r for call in reversed(item.calls) for r in call.results}
    if isinstance(kernel, Nest):
        kernel.keep_stores(
            store
            for store in item.stores.values()
            if (storage := kernel.pointers[store.access.pointer].storage) not in made
            or storage in needed
        )
    written = dict.fromkeys(kernel.written)
    results = [*dict.fromkeys(made[v.storage] for v in written if v.storage in made)]
    writes = [v for v in written if v.storage not in made]
    reads = [*dict.fromkeys([*kernel.loaded, *writes])]
    return Call(
        "write" if writes else "pure",
        kernel,
        reads,
        results=results,
        location=first.location,
        writes=writes,
    )


class _Builder:
    """Adds to a nest."""

    def __init__(self, item: _Item) -> None:
        assert isinstance(item.kernel, Nest)
        self._item, self._nest = item, item.kernel

    def fits(self, body: Body) -> bool:
        """Whether the nest can do this too: no index needs what another one makes."""
        item, target = self._item, _target_place(body)
        written = [*item.written.items()]
        for a in (*body.operands, body.scatter):
            pairs: list[tuple[Place, Value]] = []
            if isinstance(a, Indexed):
                pairs = [(a.place, a.value), (a.chosen_place, a.chosen)]
            elif isinstance(a, Value):
                pairs = [(_place(a, body.shape), a)]
            for place, v in pairs:
                if place not in item.registers and _overlaps(place, v, written):
                    return False
        used = [*written, *item.read.items()]
        if body.reduce is None:
            used = [(place, v) for place, v in used if place != target]
        return not _overlaps(target, body.target, used)

    def add(self, call: Call, body: Body) -> None:
        """Add the instructions of a body."""
        *given, made = body.dtypes
        registers = tuple(
            self._operand(a, dtype, body.shape)
            for a, dtype in zip(body.operands, given, strict=True)
        )
        target, place = body.target, _target_place(body)
        if body.fun is None:
            (register,) = registers
        else:
            register = self._register(Operation(body.fun, registers, made))
        pointer = self._pointer(target)
        access = Access(pointer, target.dtype, place.strides)
        register = self._cast(register, target.dtype)
        if body.scatter is not None and body.reduce is not None:
            s = body.scatter
            index = self._index(s)
            access = Access(pointer, target.dtype, s.strides)
            scatter = Scatter(access, register, index, s.size, s.step, body.reduce)
            self._nest.scatters.append(scatter)
        elif body.reduce is not None:
            self._nest.reductions.append(Reduction(access, register, body.reduce, body.axes))
        else:
            self._item.stores[place] = Store(access, register)
            self._item.registers[place] = register
        self._item.written[place] = target
        self._item.calls.append(call)

    def _index(self, indexed: Indexed) -> int:
        """The register with an index."""
        register = self._loaded(indexed.chosen_place, indexed.chosen)
        return self._cast(register, np.dtype(np.int64))

    def _loaded(self, place: Place, v: Value) -> int:
        """The register with what lies at a place."""
        if place not in self._item.registers:
            access = Access(self._pointer(v), v.dtype, place.strides)
            self._nest.instructions.append(Load(access))
            self._item.registers[place] = len(self._nest.instructions) - 1
            self._item.read[place] = v
        return self._item.registers[place]

    def _operand(self, a: Any, dtype: DType, shape: tuple[int, ...]) -> int:
        if isinstance(a, Indexed):
            access = Access(self._pointer(a.value), a.value.dtype, a.strides)
            gather = Gather(access, self._index(a), a.size, a.step, a.clips)
            self._item.read[a.place] = a.value
            return self._cast(self._register(gather), dtype)
        number = _number(a)
        if number is not None:
            return self._register(Number(np.asarray(number, dtype).tobytes(), dtype))
        return self._cast(self._loaded(_place(a, shape), a), dtype)

    def _cast(self, register: int, dtype: DType) -> int:
        own = self._nest.instructions[register].dtype
        return register if own == dtype else self._register(Cast(register, dtype))

    def _register(self, instruction: Instruction) -> int:
        if instruction not in self._item.registers:
            self._nest.instructions.append(instruction)
            self._item.registers[instruction] = len(self._nest.instructions) - 1
        return self._item.registers[instruction]

    def _pointer(self, value: Value) -> int:
        if value not in self._nest.pointers:
            self._nest.pointers.append(value)
        return self._nest.pointers.index(value)


# -- places


def _overlaps(place: Place, v: Value, others: Iterable[tuple[Place, Value]]) -> bool:
    """Whether a value shares memory with others."""
    low, high = v.bounds
    spans = [w.bounds for other, w in others if other.storage is place.storage]
    return any(low < stop and start < high for start, stop in spans)


def _place(v: Value, shape: tuple[int, ...]) -> Place:
    """Where an operand lies along the axes of a nest, to whose shape it is broadcast."""
    strides = (*[0] * (len(shape) - v.ndim), *_strides(v))
    return Place(v.storage, v.offset, strides, v.dtype)


def _target_place(body: Body) -> Place:
    """Where the result lies along the axes of a nest; reduced axes may be missing in its shape."""
    v = body.target
    if body.scatter is not None:
        return body.scatter.place
    if body.reduce is None:
        return _place(v, body.shape)
    size = v.dtype.itemsize
    if v.ndim == len(body.shape):
        strides = [0 if i in body.axes else s // size for i, s in enumerate(v.strides)]
    else:
        left = iter(v.strides)
        strides = [0 if i in body.axes else next(left) // size for i in range(len(body.shape))]
    strides = [0 if n == 1 else s for n, s in zip(body.shape, strides)]
    return Place(v.storage, v.offset, tuple(strides), v.dtype)


def _is_number(a: Any) -> bool:
    return _number(a) is not None


def _number(a: Any) -> Any:
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


def _part_of(call: Call) -> Product | Guard | Body:
    """What a call computes, or Unknown is raised."""
    if call.kind == "guard" and registers.is_register(call.args[0].dtype):
        return Guard(call.args[0], call.args[1], [call])
    if call.kind not in ("pure", "write"):
        raise Unknown("it calls Python")
    if call.errors and not _ERRORS.issuperset(call.errors.values()):
        raise Unknown("floating-point errors are not ignored")
    return _product(call) or _body(call)


def _may_go(call: Call) -> bool:
    """Whether a copy into the state can be left out, if what it copies is made there at once."""
    if call.fun is not assign_at or not isinstance(call.args[2], Value):
        return False
    return call.args[2].storage.home == "temporary"


def _body(call: Call) -> Body:
    """What a call computes for each index, or Unknown is raised."""
    body = _found(call)
    for v in (body.target, *body.reads):
        if not registers.is_register(v.dtype):
            raise Unknown(f"it computes in {v.dtype}")
        if any(stride % v.dtype.itemsize for stride in v.strides):
            raise Unknown("an array lies between elements of another dtype")
    for a in body.operands:
        if not isinstance(a, (Value, Indexed)) and _number(a) is None:
            raise Unknown(f"an operand is a {type(a).__name__}")
    if body.fun is not None and not registers.is_known(body.fun, body.dtypes[:-1]):
        raise Unknown(f"native code does not know it for {body.dtypes[0]}")
    if not math.prod(body.shape):
        raise Unknown("there are no elements")
    return body


def _found(call: Call) -> Body:
    fun, args = call.fun, call.args
    if fun is assign_at:
        return _assignment(call)
    if isinstance(fun, np.ufunc) or fun in _NUMBERS:
        return _elementwise(call, _NUMBERS.get(fun, fun))
    owner = getattr(fun, "__self__", None)
    if isinstance(owner, np.ufunc) and name_of(fun).endswith(".at"):
        return _scattered(call, owner)
    if len(call.results) != 1 or len(call.returned) != 1 or call.target is not None:
        raise Unknown("native code does not know it")
    (result,) = call.results
    if fun in (np.take, np.ndarray.take, getitem):
        return _taken(call, result)
    if isinstance(owner, np.ufunc) and name_of(fun).endswith(".reduce"):
        return _reduction(call, owner)
    pattern = op_of(fun).pattern
    if pattern == "fill":
        given = (*args[1:2], 0)[0] if fun is np.full_like else int(fun is np.ones_like)
        return _copy(call.kwargs.get("fill_value", given), result)
    first = args[0] if args else None
    is_like = isinstance(first, Value) and first.shape == result.shape
    if fun in (array_of, spread) or (pattern == "copy" and is_like):
        return _copy(first, result)
    if fun in (np.dot, np.inner) and all(isinstance(a, Value) and a.ndim == 1 for a in args[:2]):
        x, y = args
        if x.dtype == y.dtype == result.dtype:
            return Body(x.shape, np.multiply, (x, y), (x.dtype,) * 3, result, np.add, (0,))
    if pattern == "select" and len(args) == 3 and not call.kwargs:
        dtypes = (np.dtype(bool), result.dtype, result.dtype, result.dtype)
        return Body(result.shape, np.where, args, dtypes, result)
    raise Unknown("native code does not know it")


def _taken(call: Call, result: Value) -> Body:
    """Elements that an array of indices chooses along one axis."""
    given: dict[str, Any] = {"axis": None, "out": None, "mode": "raise"}
    x, index, *others = call.args
    given |= dict(zip(("axis", "out", "mode"), others)) | {**call.kwargs}
    axis = given["axis"]
    if call.fun is getitem:
        axis, index = 0, index[0] if isinstance(index, tuple) and len(index) == 1 else index
    elif axis is None and x.ndim != 1:
        if not x.is_c_contiguous:
            raise Unknown("it chooses elements of an array that is not contiguous")
        x = replace(x, shape=(x.size,), strides=(x.itemsize,))
    axis = (axis or 0) % max(x.ndim, 1)
    if not _is_index(index) or given["out"] is not None or given["mode"] == "wrap":
        raise Unknown("it chooses elements by something other than one array of integers")
    if not x.ndim or not x.shape[axis]:
        raise Unknown("there are no elements")
    steps, chosen = _strides(x), _strides(index)
    strides = (*steps[:axis], *[0] * index.ndim, *steps[axis + 1 :])
    along = (*[0] * axis, *chosen, *[0] * (x.ndim - axis - 1))
    clips = given["mode"] == "clip"
    source = Indexed(x, strides, index, along, x.shape[axis], steps[axis], clips)
    return _copy(source, result)


def _scattered(call: Call, fun: np.ufunc) -> Body:
    """`fun.at(target, index, value)` for one array of indices, of the first axis."""
    target, index, value = call.args
    index = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    if fun not in (np.add, np.subtract) or not _is_index(index) or not target.size:
        raise Unknown("it chooses elements by something other than one array of integers")
    steps = _strides(target)
    strides = (*[0] * index.ndim, *steps[1:])
    along = (*_strides(index), *[0] * (target.ndim - 1))
    place = Indexed(target, strides, index, along, target.shape[0], steps[0])
    shape = (*index.shape, *target.shape[1:])
    dtypes = (target.dtype, target.dtype)
    return Body(shape, None, (value,), dtypes, target, fun, scatter=place)


def _is_index(index: Any) -> bool:
    return isinstance(index, Value) and index.dtype.kind in "iu"


def _strides(v: Value) -> list[int]:
    """The elements from one index to the next; 0 for an axis with a single one."""
    return [0 if n == 1 else s // v.itemsize for n, s in zip(v.shape, v.strides, strict=True)]


def _copy(source: Any, target: Value) -> Body:
    return Body(target.shape, None, (source,), (target.dtype, target.dtype), target)


def _elementwise(call: Call, fun: Any) -> Body:
    dtype = call.kwargs.get("dtype")
    if fun.nout != 1 or fun.signature is not None or call.kwargs.keys() - {"out", "dtype"}:
        raise Unknown("native code does not know it")
    weak = int, float
    args = call.args[: fun.nin]
    kinds = [type(a) if type(a) in weak else getattr(a, "dtype", None) or np.asarray(a).dtype
             for a in args]  # fmt: skip
    signature = {} if dtype is None else {"signature": (*[None] * len(args), np.dtype(dtype))}
    try:
        dtypes = fun.resolve_dtypes((*kinds, None), **signature)
    except TypeError as error:
        raise Unknown(str(error)) from None
    target = call.results[0] if call.results else call.target
    assert target is not None
    return Body(target.shape, fun, args, dtypes, target)


def _assignment(call: Call) -> Body:
    array, index, value = call.args
    if values_in(index) or not (isinstance(value, Value) or _number(value) is not None):
        raise Unknown("it assigns to chosen elements")
    target = _part(array, index)
    if isinstance(value, Value) and value.ndim > target.ndim:
        raise Unknown("it assigns an array with more axes")
    return _copy(value, target)


def _part(v: Value, index: Any) -> Value:
    """A part of a value by basic indexing, as a value."""
    if index is ... or (isinstance(index, tuple) and not index):
        return v
    part, *_ = viewed(getitem, (v, index))
    if part is None:
        raise Unknown("it assigns to chosen elements")
    return part


def _reduction(call: Call, fun: np.ufunc) -> Body:
    given: dict[str, Any] = {"axis": 0, "dtype": None, "out": None, "keepdims": False}
    given |= dict(zip(("array", "axis", "dtype", "out", "keepdims"), call.args)) | {**call.kwargs}
    x, axis, (result,) = given.pop("array"), given.pop("axis"), call.results
    dtype, _keepdims = given.pop("dtype") or result.dtype, given.pop("keepdims")
    if fun not in _REDUCED or any(v is not None for v in given.values()):
        raise Unknown("native code does not know it")
    if not isinstance(x, Value) or dtype != result.dtype:
        raise Unknown(f"it adds up in {dtype}")
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    dtypes = (result.dtype, result.dtype)
    return Body(x.shape, None, (x,), dtypes, result, fun, tuple(i % x.ndim for i in axes if x.ndim))


def _product(call: Call) -> Product | None:
    """A product of matrices, or of a matrix and a vector, if native code is fast at it."""
    if (
        op_of(call.fun).pattern != "product"
        or call.kwargs.keys() - {"order"}
        or len(call.args) != 2
    ):
        return None
    (result,) = call.results
    x, y = call.args
    values = x, y, result
    if not all(isinstance(v, Value) and v.dtype == result.dtype for v in values):
        return None
    if result.dtype.char not in "fd" or {x.ndim, y.ndim} not in ({2}, {1, 2}):
        return None
    left = _matrix(x, as_row=True)
    right = _matrix(y, as_row=False)
    if call.fun is np.inner and y.ndim == 2:
        right = Matrix(right.shape[::-1], right.strides[::-1])
    (m, k), (_, n) = left.shape, right.shape
    made = _matrix(result, as_row=x.ndim == 1)
    if not all(itertools.chain(left.shape, right.shape)):
        raise Unknown("there are no elements")
    if not products.pays(m, k, n, result.dtype):
        raise Unknown(f"BLAS multiplies ({m}, {k}) and ({k}, {n}) as fast")
    return Product(left, right, made, values)


def _matrix(v: Value, as_row: bool) -> Matrix:
    strides = [stride // v.dtype.itemsize for stride in v.strides]
    if v.ndim == 2:
        return Matrix((v.shape[0], v.shape[1]), (strides[0], strides[1]))
    size, stride = v.shape[0], strides[0]
    return Matrix((1, size), (0, stride)) if as_row else Matrix((size, 1), (stride, 0))
