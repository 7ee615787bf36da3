"""Segments: runs of kernels that become one native function, which Python calls.

The addresses of arrays that stay where they are lie in the code. Other arrays are arguments. They
must lie in memory as the values did while tracing: else the function does nothing, and returns
False.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from llvmlite import ir

from ....engine.typing import Array, Function
from ...program import Call, Storage, Value
from . import matrices, nests, products, runtime
from .kernels import Kernel, Nest
from .loops import INDEX

_POINTER = ir.PointerType()
_BYTE = ir.IntType(8)
_DATA = object.__basicsize__  # bytes from the start of an array to its fields, on 64 bits
_STRIDES = _DATA + 24


class NativeFunction(NamedTuple):
    """A function of the module that makes a run of kernels, and one that does so many times.

    `arguments` are the values that Python passes, `written` the numbers of those that change.
    """

    name: str
    loop: str
    arguments: Sequence[Value]
    written: frozenset[int]

    def laid_out(self, plain: Function) -> Function:
        """The same for arrays that lie in memory in another way."""

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
        self, name: str, calls: Sequence[Call], roots: Mapping[Storage, Value]
    ) -> NativeFunction:
        """Add the function of a run of kernels. `roots` are the values that are arguments."""
        values = [v for call in calls for v in call.fun.pointers]
        arguments = [*dict.fromkeys(roots[v.storage] for v in values if v.storage in roots)]
        changed = {v.storage for call in calls for v in call.fun.written}
        body = self._body(f"{name}.body", calls, arguments)
        self._add_call(name, body, arguments)
        self._add_loop(f"{name}_loop", body)
        written = frozenset(i for i, v in enumerate(arguments) if v.storage in changed)
        return NativeFunction(name, f"{name}_loop", arguments, written)

    def _add_call(self, name: str, body: ir.Function, arguments: Sequence[Value]) -> None:
        builder, given = runtime.builtin_function(self.module, name)
        pointers = []
        for i, v in enumerate(arguments):
            array = builder.load(_at(builder, given, 8 * i), typ=_POINTER)
            for test in _other_layout(builder, array, v):
                with builder.if_then(test, likely=False):
                    builder.ret(_reference(builder, False))
            pointers.append(_field(builder, array, _DATA))
        builder.call(body, pointers)
        builder.ret(_reference(builder, True))

    def _add_loop(self, name: str, body: ir.Function) -> None:
        """Add `name(table, copies, start, count)`, which makes steps.

        For each argument, the table has the address of an array with those of all steps, and the
        bytes from one step to the next; and for each of the copies that a step ends with, the
        address of what is copied, that of an array for all steps, the bytes from one step to the
        next, and the number of bytes to copy.
        """
        builder, given = runtime.builtin_function(self.module, name)
        array, *numbers = [builder.load(_at(builder, given, 8 * i), typ=_POINTER) for i in range(4)]
        table = _field(builder, array, _DATA)
        copies, start, count = [
            runtime.c_api(builder, "PyLong_AsSsize_t", INDEX, number) for number in numbers
        ]

        def entry(row: ir.Value, i: int) -> ir.Value:
            return builder.load(_at(builder, row, 8 * i), typ=INDEX)

        def pointer(address: ir.Value, stride: ir.Value, step: ir.Value) -> ir.Value:
            return builder.inttoptr(builder.add(address, builder.mul(stride, step)), _POINTER)

        def copy(k: ir.Value, step: ir.Value) -> None:
            row = builder.gep(table, [builder.mul(k, INDEX(32))], source_etype=_BYTE)
            row = _at(builder, row, 16 * len(body.args))
            source = builder.inttoptr(entry(row, 0), _POINTER)
            target = pointer(entry(row, 1), entry(row, 2), step)
            kind = ir.FunctionType(ir.VoidType(), [_POINTER, _POINTER, INDEX, ir.IntType(1)])
            memcpy = "llvm.memcpy.p0.p0.i64"
            fun = self.module.globals.get(memcpy) or ir.Function(self.module, kind, memcpy)
            builder.call(fun, [target, source, entry(row, 3), ir.IntType(1)(0)])

        def step(done: ir.Value) -> None:
            index = builder.add(start, done)
            places = [
                pointer(entry(table, 2 * i), entry(table, 2 * i + 1), index)
                for i in range(len(body.args))
            ]
            builder.call(body, places)
            _counted(builder, copies, lambda k: copy(k, index))

        with runtime.without_gil(builder):
            _counted(builder, count, step)
        builder.ret(_reference(builder, True))

    def _body(self, name: str, calls: Sequence[Call], arguments: Sequence[Value]) -> ir.Function:
        """A function of pointers to the arguments."""
        kind = ir.FunctionType(ir.VoidType(), [_POINTER] * len(arguments))
        function = ir.Function(self.module, kind, name)
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block())
        starts = {v.storage: (p, v.offset) for v, p in zip(arguments, function.args, strict=True)}

        def pointer_to(v: Value) -> ir.Value:
            if v.storage in starts:
                pointer, offset = starts[v.storage]
                return _at(builder, pointer, v.offset - offset)
            return INDEX(self._address_of(v)).inttoptr(_POINTER)

        for call in calls:
            builder.call(self._kernel(call.fun), [pointer_to(v) for v in call.fun.pointers])
        builder.ret_void()
        return function

    def _kernel(self, kernel: Kernel) -> ir.Function:
        """The function of a kernel."""
        key = kernel.key
        if key not in self._kernels:
            kind = ir.FunctionType(ir.VoidType(), [_POINTER] * len(kernel.pointers))
            name = f"{kernel.__name__}.{len(self._kernels)}"
            function = self._kernels[key] = ir.Function(self.module, kind, name)
            function.linkage = "internal"
            builder = ir.IRBuilder(function.append_basic_block())
            if isinstance(kernel, Nest):
                nests.emit(builder, kernel, function.args)
            else:
                operands = kernel.left, kernel.right, kernel.result
                a, b, c = (
                    matrices.Matrix(pointer, *operand)
                    for pointer, operand in zip(function.args, operands, strict=True)
                )
                products.emit(builder, a, b, c, kernel.dtype)
            builder.ret_void()
        return self._kernels[key]


def _counted(builder: ir.IRBuilder, count: ir.Value, body: Callable[[ir.Value], None]) -> None:
    """Write `for i in range(count): body(i)`."""
    before = builder.block
    head, inside, end = (builder.append_basic_block(name) for name in ("head", "inside", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(INDEX)
    index.add_incoming(INDEX(0), before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, end)
    builder.position_at_end(inside)
    body(index)
    index.add_incoming(builder.add(index, INDEX(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(end)


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


def _reference(builder: ir.IRBuilder, thing: bool) -> ir.Value:
    """A new reference to True or False."""
    value = INDEX(id(thing)).inttoptr(_POINTER)
    runtime.c_api(builder, "Py_IncRef", ir.VoidType(), value)
    return value


# -- arrays


def address_of(array: Array) -> int:
    """The address of an array's first element."""
    address: int = array.__array_interface__["data"][0]
    return address


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
