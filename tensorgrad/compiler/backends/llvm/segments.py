"""Segments: runs of kernels that become one native function, which Python calls.

The addresses of arrays that stay where they are lie in the code. Other arrays are arguments. They
must lie in memory as the values did while tracing: else the function does nothing, and returns
False; and else True. Where a guard does not hold, it raises Diverged, and where an index is out of
bounds, an IndexError: what came before has changed then, and must not be done again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from llvmlite import ir

from ....engine.typing import Array, Function
from ...ir import Call, Diverged, Storage, Value
from . import matrices, nests, products, random, runtime
from .kernels import BoundsCheck, Draw, Guard, Kernel, Nest, Product
from .lanes import constant
from .loops import INDEX, loop
from .registers import memory_kind

_POINTER = ir.PointerType()
_BYTE = ir.IntType(8)
_DATA = object.__basicsize__  # bytes from the start of an array to its fields, on 64 bits
_STRIDES = _DATA + 24
LONG = 1 << 18  # operations on elements, some 20 us: others threads may run during more than that
# How the code of a function ends.
_STATUS = ir.IntType(8)
DONE, DIVERGED, OUT_OF_BOUNDS = range(3)


class NativeFunction(NamedTuple):
    """A function of the module that makes a run of kernels, and one that does so many times.

    `arguments` are the values that Python passes, `written` the numbers of those that change.
    """

    name: str
    loop: str
    arguments: Sequence[Value]
    written: frozenset[int]

    def laid_out(self, plain: Function) -> Function:
        """The same for arrays that lie in memory in any way."""

        def native(*arrays: Array) -> None:
            copies = [laid_out(a, v) for a, v in zip(arrays, self.arguments, strict=True)]
            plain(*copies)
            for i in self.written:
                arrays[i][...] = copies[i]

        return native


class Module:
    """The code of functions. Kernels that differ in addresses alone share it."""

    def __init__(self, address_of: Callable[[Value], int]) -> None:
        self.module = ir.Module("program")
        self._address_of = address_of
        self._kernels: dict[Hashable, ir.Function] = {}

    def add(
        self, name: str, calls: Sequence[Call], roots: Mapping[Storage, Value], loops: bool
    ) -> NativeFunction:
        """Add the function of a run of kernels, and if it `loops`, one that makes many steps.

        `roots` are the values that are arguments.
        """
        values = [v for call in calls for v in call.fun.pointers]
        arguments = [*dict.fromkeys(roots[v.storage] for v in values if v.storage in roots)]
        changed = {v.storage for call in calls for v in call.fun.written}
        body = self._body(f"{name}.body", calls, arguments)
        is_long = sum(call.fun.operations for call in calls) > LONG
        checks = [call.location for call in calls if isinstance(call.fun, BoundsCheck)]
        places = ", ".join(dict.fromkeys(checks))  # the calls that choose elements by indices
        self._add_call(name, body, arguments, is_long, places)
        loop_name = f"{name}_loop" if loops else ""
        if loops:
            self._add_loop(loop_name, body, places)
        written = frozenset(i for i, v in enumerate(arguments) if v.storage in changed)
        return NativeFunction(name, loop_name, arguments, written)

    def _add_call(
        self, name: str, body: ir.Function, arguments: Sequence[Value], is_long: bool, places: str
    ) -> None:
        builder, given = runtime.builtin_function(self.module, name)
        pointers = []
        for i, v in enumerate(arguments):
            array = builder.load(_at(builder, given, 8 * i), typ=_POINTER)
            for test in _other_layout(builder, array, v):
                with builder.if_then(test, likely=False):
                    builder.ret(_reference(builder, False))
            pointers.append(_field(builder, array, _DATA))
        with runtime.without_gil(builder) if is_long else contextlib.nullcontext():
            status = builder.call(body, pointers)
        _raise_index_error(builder, status, places)
        with builder.if_then(_is(builder, status, DIVERGED), likely=False):
            runtime.c_api(builder, "PyErr_SetNone", ir.VoidType(), _object(Diverged))
            builder.ret(_POINTER(None))
        builder.ret(_reference(builder, True))

    def _add_loop(self, name: str, body: ir.Function, places: str) -> None:
        """Add `name(start, count, *arrays)`, which makes steps, and returns how many.

        It ends early before a step whose guards do not hold. For each argument there is an array
        with those of all steps. Then come pairs for the copies that a step ends with: an array, and
        one in C order with its copies of all steps.
        """
        builder, given = runtime.builtin_function(self.module, name)
        objects = [builder.load(_at(builder, given, 8 * i), typ=_POINTER) for i in range(2)]
        start, count = [
            runtime.c_api(builder, "PyLong_AsSsize_t", INDEX, number) for number in objects
        ]
        size = len(body.args)
        rows = [_Rows(builder, _at(builder, given, 8 * i)) for i in range(2, 2 + size)]
        pairs = _at(builder, given, 8 * (2 + size))
        copies = builder.lshr(builder.sub(builder.function.args[2], INDEX(2 + size)), INDEX(1))
        end = builder.alloca(_STATUS)
        builder.store(_STATUS(DONE), end)

        def step(done: ir.Value) -> ir.Value:
            index = builder.add(start, done)
            status = builder.call(body, [row.at(index) for row in rows])
            builder.store(status, end)
            goes_on = _is(builder, status, DONE)
            with builder.if_then(goes_on):
                _counted(builder, copies, lambda k: _write_copy(builder, pairs, k, index))
            return goes_on

        with runtime.without_gil(builder):
            steps = _counted(builder, count, step)
        _raise_index_error(builder, builder.load(end, typ=_STATUS), places)
        builder.ret(runtime.c_api(builder, "PyLong_FromSsize_t", _POINTER, steps))

    def _body(self, name: str, calls: Sequence[Call], arguments: Sequence[Value]) -> ir.Function:
        """A function of pointers to the arguments, which returns a status."""
        kind = ir.FunctionType(_STATUS, [_POINTER] * len(arguments))
        function = ir.Function(self.module, kind, name)
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block())
        starts = {v.storage: (p, v.offset) for v, p in zip(arguments, function.args, strict=True)}

        def pointer_to(v: Value) -> ir.Value:
            if v.storage in starts:
                pointer, offset = starts[v.storage]
                return _at(builder, pointer, v.offset - offset)
            return self._fixed(v)

        for call in calls:
            pointers = [pointer_to(v) for v in call.fun.pointers]
            holds = builder.call(self._kernel(call.fun), pointers)
            if isinstance(call.fun, (Guard, BoundsCheck)):
                with builder.if_then(builder.not_(holds), likely=False):
                    is_guard = isinstance(call.fun, Guard)
                    builder.ret(_STATUS(DIVERGED if is_guard else OUT_OF_BOUNDS))
        builder.ret(_STATUS(DONE))
        return function

    def _fixed(self, v: Value) -> ir.Value:
        """A pointer to a value that stays where it is."""
        return INDEX(self._address_of(v)).inttoptr(_POINTER)

    def _kernel(self, kernel: Kernel) -> ir.Function:
        """The function of a kernel."""
        key = kernel.key
        if key not in self._kernels:
            tests = isinstance(kernel, (Guard, BoundsCheck))
            result = ir.IntType(1) if tests else ir.VoidType()
            kind = ir.FunctionType(result, [_POINTER] * len(kernel.pointers))
            name = f"{kernel.__name__}.{len(self._kernels)}"
            function = self._kernels[key] = ir.Function(self.module, kind, name)
            function.linkage = "internal"
            builder = ir.IRBuilder(function.append_basic_block())
            value = _written(builder, kernel, function.args)
            builder.ret_void() if value is None else builder.ret(value)
        return self._kernels[key]


def _written(
    builder: ir.IRBuilder, kernel: Kernel, pointers: Sequence[ir.Value]
) -> ir.Value | None:
    """Write the code of a kernel; return the result of a test."""
    if isinstance(kernel, Nest):
        nests.emit(builder, kernel, pointers)
    elif isinstance(kernel, Product):
        _write_products(builder, kernel, pointers, 0)
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
        return _bounds_hold(builder, kernel, pointers[0])
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


def _bounds_hold(builder: ir.IRBuilder, check: BoundsCheck, pointer: ir.Value) -> ir.Value:
    """Whether all indices are of elements that an axis has."""
    (v,) = check.pointers
    kind = memory_kind(v.dtype)
    low = 0 if v.dtype.kind == "u" else -check.size
    is_less = builder.icmp_unsigned if v.dtype.kind == "u" else builder.icmp_signed

    def inside(axis: int, pointer: ir.Value, holds: Sequence[ir.Value]) -> Sequence[ir.Value]:
        if axis == v.ndim:
            index = builder.load(pointer, align=v.itemsize, typ=kind)
            in_bounds = is_less("<", index, kind(check.size))
            if low:
                in_bounds = builder.and_(in_bounds, is_less(">=", index, kind(low)))
            return [builder.and_(holds[0], in_bounds)]

        def body(i: ir.Value, holds: Sequence[ir.Value]) -> Sequence[ir.Value]:
            offset = builder.mul(i, INDEX(v.strides[axis]))
            return inside(axis + 1, builder.gep(pointer, [offset], source_etype=_BYTE), holds)

        return loop(builder, v.shape[axis], 1, holds, body)

    (result,) = inside(0, pointer, [ir.IntType(1)(1)])
    return result


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
    """Write the copy of an array to a row of the other one of a pair; go on then."""
    pair = builder.gep(pairs, [builder.mul(k, INDEX(16))], source_etype=_BYTE)
    source = _field(builder, builder.load(pair, typ=_POINTER), _DATA)
    target = _Rows(builder, _at(builder, pair, 8))
    never = ir.IntType(1)(0)  # volatile
    kind = ir.FunctionType(ir.VoidType(), [_POINTER, _POINTER, INDEX, never.type])
    name = "llvm.memcpy.p0.p0.i64"
    memcpy = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(memcpy, [target.at(step), source, target.stride, never])
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


def _other_layout(builder: ir.IRBuilder, array: ir.Value, v: Value) -> list[ir.Value]:
    """Tests that are true where an array's strides or alignment are not those of a value."""
    strides = _field(builder, array, _STRIDES)
    tests = []
    for i, (n, stride) in enumerate(zip(v.shape, v.strides, strict=True)):
        if n > 1:
            found = builder.load(_at(builder, strides, 8 * i), typ=INDEX)
            tests.append(builder.icmp_unsigned("!=", found, INDEX(stride)))
    if v.dtype.alignment > 1:
        address = builder.ptrtoint(_field(builder, array, _DATA), INDEX)
        rest = builder.and_(address, INDEX(v.dtype.alignment - 1))
        tests.append(builder.icmp_unsigned("!=", rest, INDEX(0)))
    return tests


def _at(builder: ir.IRBuilder, pointer: ir.Value, offset: int) -> ir.Value:
    return builder.gep(pointer, [INDEX(offset)], source_etype=_BYTE) if offset else pointer


def _field(builder: ir.IRBuilder, array: ir.Value, offset: int) -> ir.Value:
    """A pointer that is a field of an array."""
    return builder.load(_at(builder, array, offset), typ=_POINTER)


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


def _raise_index_error(builder: ir.IRBuilder, status: ir.Value, places: str) -> None:
    """Raise an IndexError, which names the places, if a status says so."""
    if not places:
        return
    text = bytearray(f"an index is out of bounds for an array: {places}\0".encode(errors="replace"))
    message = ir.Constant(ir.ArrayType(_BYTE, len(text)), text)
    name = builder.module.get_unique_name("message")
    memory = ir.GlobalVariable(builder.module, message.type, name)
    memory.linkage, memory.global_constant, memory.initializer = "internal", True, message
    with builder.if_then(_is(builder, status, OUT_OF_BOUNDS), likely=False):
        error = _object(IndexError)
        runtime.c_api(builder, "PyErr_SetString", ir.VoidType(), error, memory)
        builder.ret(_POINTER(None))


# -- arrays


def address_of(array: Array) -> int:
    """The address of an array's first element."""
    return int(array.ctypes.data)


def laid_out(array: Array, v: Value) -> Array:
    """The array, or a copy that lies in memory as a value does."""
    return rows_laid_out(array[np.newaxis], v)[0, ...]


def rows_laid_out(array: Array, v: Value) -> Array:
    """An array each of whose rows lies in memory as a value does: the array itself, or a copy."""
    pairs = zip(v.shape, array.strides[1:], v.strides, strict=True)
    if all(a == b for n, a, b in pairs if n > 1) and array.flags.aligned:
        return array
    low, high = v.bounds
    size = high - low + -(high - low) % v.itemsize
    memory = np.empty(len(array) * size, np.uint8)
    strides = (size, *v.strides)
    copy: Array = np.ndarray(array.shape, v.dtype, memory, v.offset - low, strides)
    copy[...] = array
    return copy
