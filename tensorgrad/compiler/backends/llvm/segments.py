"""Segments: runs of kernels that become one native function, which Python calls.

The addresses of arrays that stay where they are lie in the code. Other arrays are arguments. They
must lie in memory as the values did while tracing: else the function does nothing, and returns
False; and else True. Of some it tests, too, that they are arrays of the right shape and dtype, and
lie apart from what it changes. Where a guard does not hold, it raises Diverged. Where elements do
not fulfil a requirement, it returns False, too, and `Failures` know of which check: what came
before has changed then, and must not be done again.
"""

from __future__ import annotations

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from ....engine.typing import Array, Function
from ...ir import Call, Diverged, Storage, Value
from . import contractions, matrices, nests, products, random, runtime
from .failures import Failures, address_of, copied, is_like, laid_out
from .kernels import Check, Contraction, Draw, Guard, Kernel, Nest, Product
from .lanes import Lanes, constant
from .loops import INDEX, all_lanes, loop, vector_type
from .registers import cast, memory_kind

_POINTER = ir.PointerType()
_BYTE = ir.IntType(8)
_DATA = object.__basicsize__  # bytes from the start of an array to its fields, on 64 bits
_TYPE, _NDIM, _SHAPE, _STRIDES, _DTYPE = (_DATA + offset for offset in (-8, 8, 16, 24, 40))
LONG = 1 << 18  # operations on elements, some 20 us: others threads may run during more than that
MANY = 64  # kernels, from which on the code that calls them is not optimised: it takes too long
# How the code of a function ends.
_STATUS = ir.IntType(8)
DONE, DIVERGED, FAILED = range(3)


class Span(NamedTuple):
    """The address of the first byte of some memory, and the one after the last."""

    start: int
    stop: int


class NativeFunction(NamedTuple):
    """A function of the module that makes a run of kernels, and one that does so many times.

    `arguments` are the values that Python passes: it tests those `tested` itself. `written` are the
    numbers of those that change.
    """

    name: str
    loop: str
    arguments: Sequence[Value]
    tested: Collection[Value]
    written: frozenset[int]

    def otherwise(self, plain: Function, failures: Failures) -> Function:
        """What is to be done where the function returns False.

        It raises the error of a check, or Diverged where an argument has another shape or dtype. Or
        else it makes the kernels for arrays as they lie in memory: for copies of those that are
        tested, as they may lie where the function writes.
        """

        def native(*arrays: Array) -> None:
            failures.raise_last(self.arguments, arrays)
            pairs = [*zip(arrays, self.arguments, strict=True)]
            if not all(is_like(a, v) for a, v in pairs if v in self.tested):
                raise Diverged
            copies = [copied(a, v) if v in self.tested else laid_out(a, v) for a, v in pairs]
            if not plain(*copies):
                failures.raise_last(self.arguments, copies)
            for i in self.written:
                arrays[i][...] = copies[i]

        return native


class Bodies(ABC):
    """The code of runs of kernels. Kernels that differ in addresses alone share it."""

    def __init__(self) -> None:
        self.module = ir.Module("program")
        self._kernels: dict[Hashable, ir.Function] = {}

    @abstractmethod
    def pointer_to(self, builder: ir.IRBuilder, v: Value) -> ir.Value:
        """A pointer to a value that is no argument."""

    @abstractmethod
    def note_failure(self, builder: ir.IRBuilder, check: Check) -> None:
        """Write what is to be done before a function whose check fails returns."""

    def body(self, name: str, calls: Sequence[Call], arguments: Sequence[Value]) -> ir.Function:
        """A function of pointers to the arguments, which returns a status."""
        kind = ir.FunctionType(_STATUS, [_POINTER] * len(arguments))
        function = ir.Function(self.module, kind, name)
        function.linkage = "internal"
        if len(calls) > MANY:  # it only passes addresses on
            function.attributes.update({"noinline", "optnone"})
        builder = ir.IRBuilder(function.append_basic_block())
        starts = {v.storage: (p, v.offset) for v, p in zip(arguments, function.args, strict=True)}

        def pointer_to(v: Value) -> ir.Value:
            if v.storage in starts:
                pointer, offset = starts[v.storage]
                return at(builder, pointer, v.offset - offset)
            return self.pointer_to(builder, v)

        for i, call in enumerate(calls, 1):
            if i % MANY == 0:  # long blocks take longer to compile
                following = builder.append_basic_block()
                builder.branch(following)
                builder.position_at_end(following)
            pointers = [pointer_to(v) for v in call.fun.pointers]
            holds = builder.call(self._kernel(call.fun), pointers)
            if isinstance(call.fun, (Guard, Check)):
                with builder.if_then(builder.not_(holds), likely=False):
                    if isinstance(call.fun, Check):
                        self.note_failure(builder, call.fun)
                    builder.ret(_STATUS(DIVERGED if isinstance(call.fun, Guard) else FAILED))
        builder.ret(_STATUS(DONE))
        return function

    def _kernel(self, kernel: Kernel) -> ir.Function:
        """The function of a kernel."""
        key = kernel.key
        if key not in self._kernels:
            tests = isinstance(kernel, (Guard, Check))
            result = ir.IntType(1) if tests else ir.VoidType()
            kind = ir.FunctionType(result, [_POINTER] * len(kernel.pointers))
            name = f"{kernel.__name__}.{len(self._kernels)}"
            function = self._kernels[key] = ir.Function(self.module, kind, name)
            function.linkage = "internal"
            builder = ir.IRBuilder(function.append_basic_block())
            value = _written(builder, kernel, function.args)
            builder.ret_void() if value is None else builder.ret(value)
        return self._kernels[key]


class Module(Bodies):
    """The code of functions that Python calls. `address_of` finds values that stay in place."""

    def __init__(self, address_of: Callable[[Value], int]) -> None:
        super().__init__()
        self.failures = Failures(address_of)
        self._address_of = address_of

    def pointer_to(self, _builder: ir.IRBuilder, v: Value) -> ir.Value:
        """A pointer to a value that stays where it is."""
        return _pointer(self._address_of(v))

    def note_failure(self, builder: ir.IRBuilder, check: Check) -> None:
        """Write the number of the check to where Python finds it."""
        number = INDEX(self.failures.number_of(check))
        builder.store(number, _pointer(address_of(self.failures.last)))

    def add(
        self,
        name: str,
        calls: Sequence[Call],
        roots: Mapping[Storage, Value],
        loops: bool,
        tested: Mapping[Value, Sequence[Span]] = {},
    ) -> NativeFunction:
        """Add the function of a run of kernels, and if it `loops`, one that makes many steps.

        `roots` are the values that are arguments, `tested` those that it has to test, and the
        memory that they must not lie in.
        """
        values = [v for call in calls for v in call.fun.pointers]
        arguments = [*dict.fromkeys(roots[v.storage] for v in values if v.storage in roots)]
        changed = {v.storage for call in calls for v in call.fun.written}
        tested = {v: tested[v] for v in arguments if v in tested}
        body = self.body(f"{name}.body", calls, arguments)
        is_long = sum(call.fun.operations for call in calls) > LONG
        self._add_call(name, body, arguments, tested, is_long)
        loop_name = f"{name}_loop" if loops else ""
        if loops:
            self._add_loop(loop_name, body)
        written = frozenset(i for i, v in enumerate(arguments) if v.storage in changed)
        return NativeFunction(name, loop_name, arguments, tested, written)

    def _add_call(
        self,
        name: str,
        body: ir.Function,
        arguments: Sequence[Value],
        tested: Mapping[Value, Sequence[Span]],
        is_long: bool,
    ) -> None:
        builder, given = runtime.builtin_function(self.module, name)
        other = builder.append_basic_block("other")
        with builder.goto_block(other):
            builder.ret(_reference(builder, False))
        pointers = []
        for i, v in enumerate(arguments):
            array = builder.load(at(builder, given, 8 * i), typ=_POINTER)
            if v in tested:
                _require_like(builder, array, v, other)
            _go_unless(builder, _other_layout(builder, array, v), other)
            pointers.append(_field(builder, array, _DATA))
            _go_unless(builder, _overlaps(builder, pointers[-1], v, tested.get(v, ())), other)
        with runtime.without_gil(builder) if is_long else contextlib.nullcontext():
            status = builder.call(body, pointers)
        _go_unless(builder, [_is(builder, status, FAILED)], other)
        with builder.if_then(_is(builder, status, DIVERGED), likely=False):
            runtime.c_api(builder, "PyErr_SetNone", ir.VoidType(), _object(Diverged))
            builder.ret(_POINTER(None))
        builder.ret(_reference(builder, True))

    def _add_loop(self, name: str, body: ir.Function) -> None:
        """Add `name(count, *arrays)`, which makes steps, and returns how many.

        It ends early before a step whose guards do not hold, or in one whose check fails. For each
        argument there is an array with those of all steps. Then come pairs of arrays for the copies
        that a step ends with, from a row of the first one to a row of the second. The rows of one
        are all the same: its stride is 0, and that of the other the size of a row.
        """
        builder, given = runtime.builtin_function(self.module, name)
        number = builder.load(given, typ=_POINTER)
        count = runtime.c_api(builder, "PyLong_AsSsize_t", INDEX, number)
        size = 1 + len(body.args)
        rows = [_Rows(builder, at(builder, given, 8 * i)) for i in range(1, size)]
        pairs = at(builder, given, 8 * size)
        copies = builder.lshr(builder.sub(builder.function.args[2], INDEX(size)), INDEX(1))

        def step(index: ir.Value) -> ir.Value:
            status = builder.call(body, [row.at(index) for row in rows])
            goes_on = _is(builder, status, DONE)
            with builder.if_then(goes_on):
                _counted(builder, copies, lambda k: _write_copy(builder, pairs, k, index))
            return goes_on

        with runtime.without_gil(builder):
            steps = _counted(builder, count, step)
        builder.ret(runtime.c_api(builder, "PyLong_FromSsize_t", _POINTER, steps))


def _written(
    builder: ir.IRBuilder, kernel: Kernel, pointers: Sequence[ir.Value]
) -> ir.Value | None:
    """Write the code of a kernel; return the result of a test."""
    if isinstance(kernel, Nest):
        nests.emit(builder, kernel, pointers)
    elif isinstance(kernel, Product):
        _write_products(builder, kernel, pointers, 0)
    elif isinstance(kernel, Contraction):
        contractions.emit(builder, kernel, pointers)
    elif isinstance(kernel, Guard):
        (v,) = kernel.pointers
        value = builder.load(pointers[0], align=v.itemsize, typ=memory_kind(v.dtype))
        zero = constant(value.type, 0)
        is_true = builder.fcmp_unordered if v.dtype.kind == "f" else builder.icmp_unsigned
        return is_true("!=" if kernel.decision else "==", value, zero)
    elif isinstance(kernel, Draw):
        (v,) = kernel.pointers
        random.emit(builder, kernel.generator, pointers[0], v.size, v.dtype)
    else:
        return _all_hold(builder, kernel, pointers)
    return None


def _write_products(
    builder: ir.IRBuilder, kernel: Product, pointers: Sequence[ir.Value], axis: int
) -> None:
    """Write the products of a stack along its axes, from one on."""
    if axis == len(kernel.batch):
        operands = kernel.left, kernel.right, kernel.result
        a, b, c = (
            matrices.Matrix(pointer, *operand)
            for pointer, operand in zip(pointers, operands, strict=True)
        )
        products.emit(builder, a, b, c, kernel.dtype)
        return

    def body(i: ir.Value, _carried: Sequence[ir.Value]) -> Sequence[ir.Value]:
        offsets = [builder.mul(i, INDEX(steps[axis])) for steps in kernel.steps]
        element = memory_kind(kernel.dtype)
        moved = [
            builder.gep(pointer, [offset], source_etype=element)
            for pointer, offset in zip(pointers, offsets, strict=True)
        ]
        _write_products(builder, kernel, moved, axis + 1)
        return []

    loop(builder, kernel.batch[axis], 1, [], body)


def _all_hold(builder: ir.IRBuilder, check: Check, pointers: Sequence[ir.Value]) -> ir.Value:
    """Whether all elements fulfil a requirement."""
    holds: ir.Value = ir.IntType(1)(1)
    for v, pointer in zip(check.pointers, pointers, strict=True):
        if v.is_contiguous:
            found = _dense_hold(builder, check, v, pointer)
        else:
            found = _strided_hold(builder, check, v, pointer)
        holds = builder.and_(holds, found)
    return holds


def _dense_hold(builder: ir.IRBuilder, check: Check, v: Value, pointer: ir.Value) -> ir.Value:
    """The same of elements side by side: as many at once as a vector has."""
    lanes = runtime.host().lanes(np.dtype(np.int64) if v.dtype.kind in "biu" else v.dtype)
    whole = v.size - v.size % lanes
    holds: ir.Value = ir.IntType(1)(1)
    for start, stop, width in ((0, whole, lanes), (whole, v.size, 1)):
        first = at(builder, pointer, start * v.itemsize)
        truth = vector_type(ir.IntType(1), width)

        def body(
            i: ir.Value, found: Sequence[ir.Value], first: ir.Value = first, width: int = width
        ) -> Sequence[ir.Value]:
            place = builder.gep(first, [i], source_etype=memory_kind(v.dtype))
            return [builder.and_(found[0], _holds(builder, check, v.dtype, place, width))]

        (found,) = loop(builder, stop - start, width, [constant(truth, 1)], body)
        holds = builder.and_(holds, all_lanes(builder, found))
    return holds


def _strided_hold(builder: ir.IRBuilder, check: Check, v: Value, pointer: ir.Value) -> ir.Value:
    """The same of elements one by one."""

    def inside(axis: int, pointer: ir.Value, holds: Sequence[ir.Value]) -> Sequence[ir.Value]:
        if axis == v.ndim:
            return [builder.and_(holds[0], _holds(builder, check, v.dtype, pointer, 1))]

        def body(i: ir.Value, holds: Sequence[ir.Value]) -> Sequence[ir.Value]:
            offset = builder.mul(i, INDEX(v.strides[axis]))
            return inside(axis + 1, builder.gep(pointer, [offset], source_etype=_BYTE), holds)

        return loop(builder, v.shape[axis], 1, holds, body)

    (result,) = inside(0, pointer, [ir.IntType(1)(1)])
    return result


def _holds(
    builder: ir.IRBuilder, check: Check, dtype: np.dtype[Any], place: ir.Value, lanes: int
) -> ir.Value:
    """Whether a vector of elements fulfils a requirement; whole numbers are compared as int64."""
    kind = vector_type(memory_kind(dtype), lanes)
    elements = builder.load(place, align=dtype.itemsize, typ=kind)
    if dtype.kind in "iu":
        elements = cast(builder, elements, dtype, np.dtype(np.int64))
    return check.requirement.holds(Lanes(builder, elements)).value


class _Rows:
    """The rows of an array, a pointer to which is given."""

    def __init__(self, builder: ir.IRBuilder, given: ir.Value) -> None:
        self._builder = builder
        array = builder.load(given, typ=_POINTER)
        self._first = _field(builder, array, _DATA)
        self.stride = builder.load(_field(builder, array, _STRIDES), typ=INDEX)

    def at(self, index: ir.Value) -> ir.Value:
        """A pointer to a row."""
        offset = self._builder.mul(self.stride, index)
        return self._builder.gep(self._first, [offset], source_etype=_BYTE)


def _write_copy(builder: ir.IRBuilder, pairs: ir.Value, k: ir.Value, step: ir.Value) -> ir.Value:
    """Write the copy of a row of an array to a row of the other one of a pair; go on then."""
    pair = builder.gep(pairs, [builder.mul(k, INDEX(16))], source_etype=_BYTE)
    source, target = _Rows(builder, pair), _Rows(builder, at(builder, pair, 8))
    stride = builder.or_(source.stride, target.stride)
    is_backward = builder.icmp_signed("<", stride, INDEX(0))
    size = builder.select(is_backward, builder.neg(stride), stride)
    never = ir.IntType(1)(0)  # volatile
    kind = ir.FunctionType(ir.VoidType(), [_POINTER, _POINTER, INDEX, never.type])
    name = "llvm.memcpy.p0.p0.i64"
    memcpy = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(memcpy, [target.at(step), source.at(step), size, never])
    return ir.IntType(1)(1)


def _counted(
    builder: ir.IRBuilder, count: ir.Value, body: Callable[[ir.Value], ir.Value]
) -> ir.Value:
    """Write `for i in range(count): if not body(i): break`; return the number of full rounds."""
    before = builder.block
    head, inside, end = (builder.append_basic_block(name) for name in ("head", "inside", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(INDEX)
    index.add_incoming(INDEX(0), before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, end)
    builder.position_at_end(inside)
    goes_on = body(index)
    following = builder.add(index, INDEX(1))
    index.add_incoming(following, builder.block)
    builder.cbranch(goes_on, head, end)
    builder.position_at_end(end)
    return index


def _go_unless(builder: ir.IRBuilder, tests: Sequence[ir.Value], other: ir.Block) -> None:
    """Go on unless one of some tests is true: then go to another block."""
    if tests:
        inside = builder.append_basic_block("inside")
        builder.cbranch(functools.reduce(builder.or_, tests), other, inside)
        builder.position_at_end(inside)


def _require_like(builder: ir.IRBuilder, thing: ir.Value, v: Value, other: ir.Block) -> None:
    """Go to another block unless an object is an array of a value's shape and dtype."""

    def differs(offset: int, expected: object) -> ir.Value:
        return builder.icmp_unsigned("!=", _field(builder, thing, offset), _object(expected))

    _go_unless(builder, [differs(_TYPE, np.ndarray)], other)
    size = ir.IntType(32)
    ndim = builder.load(at(builder, thing, _NDIM), typ=size)
    tests = [builder.icmp_unsigned("!=", ndim, size(v.ndim)), differs(_DTYPE, v.dtype)]
    _go_unless(builder, tests, other)
    shape = _field(builder, thing, _SHAPE)
    found = [builder.load(at(builder, shape, 8 * i), typ=INDEX) for i in range(v.ndim)]
    sizes = zip(found, v.shape, strict=True)
    _go_unless(builder, [builder.icmp_unsigned("!=", a, INDEX(n)) for a, n in sizes], other)


def _other_layout(builder: ir.IRBuilder, array: ir.Value, v: Value) -> list[ir.Value]:
    """Tests that are true where an array's strides or alignment are not those of a value."""
    strides = _field(builder, array, _STRIDES)
    tests = []
    for i, (n, stride) in enumerate(zip(v.shape, v.strides, strict=True)):
        if n > 1:
            found = builder.load(at(builder, strides, 8 * i), typ=INDEX)
            tests.append(builder.icmp_unsigned("!=", found, INDEX(stride)))
    if v.dtype.alignment > 1:
        address = builder.ptrtoint(_field(builder, array, _DATA), INDEX)
        rest = builder.and_(address, INDEX(v.dtype.alignment - 1))
        tests.append(builder.icmp_unsigned("!=", rest, INDEX(0)))
    return tests


def _overlaps(
    builder: ir.IRBuilder, pointer: ir.Value, v: Value, spans: Sequence[Span]
) -> list[ir.Value]:
    """Tests that are true where what lies at a pointer as a value does shares memory with spans."""
    low, high = (bound - v.offset for bound in v.bounds)
    first = builder.ptrtoint(pointer, INDEX)
    tests = []
    for start, stop in spans:  # `low` lies from `start - (high - low) + 1` to `stop - 1`
        distance = builder.sub(first, INDEX(start - high + 1))
        size = stop - start + high - low - 1
        tests.append(builder.icmp_unsigned("<", distance, INDEX(size)))
    return tests


@functools.lru_cache(maxsize=1 << 12)
def _pointer(address: int) -> ir.Constant:
    return INDEX(address).inttoptr(_POINTER)


def at(builder: ir.IRBuilder, pointer: ir.Value, offset: int) -> ir.Value:
    """A pointer so many bytes further."""
    return builder.gep(pointer, [INDEX(offset)], source_etype=_BYTE) if offset else pointer


def _field(builder: ir.IRBuilder, array: ir.Value, offset: int) -> ir.Value:
    """A pointer that is a field of an array."""
    return builder.load(at(builder, array, offset), typ=_POINTER)


def _object(thing: object) -> ir.Value:
    """A pointer to an object that always lives: True, a class ..."""
    return INDEX(id(thing)).inttoptr(_POINTER)


def _reference(builder: ir.IRBuilder, thing: object) -> ir.Value:
    """A new reference to an object that always lives."""
    value = _object(thing)
    runtime.c_api(builder, "Py_IncRef", ir.VoidType(), value)
    return value


def _is(builder: ir.IRBuilder, status: ir.Value, end: int) -> ir.Value:
    return builder.icmp_unsigned("==", status, _STATUS(end))
