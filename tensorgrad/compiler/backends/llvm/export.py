"""Ahead of time: a program as an object file, which needs neither Python nor NumPy.

All calls have to be kernels. The function of the object file gets the arguments and the results of
the program as pointers. Arrays from outside lie in the object file, or in one block of memory that
is an argument, too; temporary arrays lie in static memory.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from llvmlite import ir

from ....engine.arrays import ALIGNMENT
from ....engine.registry import name_of
from ....errors import TraceError
from ...buffers import Buffers, rounded
from ...ir import Call, Program, Storage, Value, new_value
from ...passes import ALGEBRAIC
from . import runtime
from .bodies import Unknown
from .failures import address_of
from .kernels import Check, Draw, Guard
from .lowering import kernel_of, lower
from .segments import DONE, Bodies, at

_POINTER, _BYTE, _INT = ir.PointerType(), ir.IntType(8), ir.IntType(32)
# Functions that code may call: of C, and of a compiler's library, which begin with underscores.
_CALLED = re.compile(
    r"(?<![\w.%$])_?((?:fma|floor|ceil|trunc|roundeven|sqrt)f?|mem(?:cpy|set|move)|__\w+)\b"
)
_NO_CODE = re.compile(r'"[^"\n]*"|^\s*\..*$', re.MULTILINE)  # names of kernels, and directives


class Exported(NamedTuple):
    """An object file, and what its user has to know.

    `weights` is the block of memory that the function gets as its last argument, and `places` says
    where arrays lie in it. `scratch` is the number of bytes of static memory; `calls` are functions
    of other libraries. Where there are `checks`, at these lines, the function returns an int: 0,
    or 1 if one of them fails.
    """

    code: bytes
    weights: bytes
    places: Mapping[Value, int]
    scratch: int
    calls: Sequence[str]
    checks: Sequence[str]


def results_apart(program: Program) -> Program:
    """The program, each of whose results fills memory of its own, by rows: a pass."""
    makers, counts = program.makers(), Counter(v.storage for v in program.outputs)
    calls, outputs = [*program.calls], list[Value]()
    for v in program.outputs:
        is_alone = v in makers and makers[v].kind == "pure" and counts[v.storage] == 1
        if not (is_alone and v.is_whole and v.is_c_contiguous):
            copy = new_value(v.shape, v.dtype, location=v.location)
            calls.append(Call("pure", np.copy, (v,), results=[copy], location=v.location))
            v = copy
        outputs.append(v)
    return program._replace(calls=calls, outputs=outputs)


PASSES = (*ALGEBRAIC, results_apart, lower)


def export(
    program: Program, name: str, target: runtime.Target, weights_inside: bool, threads: bool
) -> Exported:
    """Make an object file of a program that has gone through the PASSES for a target.

    With `threads`, each thread has static memory of its own.
    """
    calls = _kernels(program)
    buffers = Buffers(calls, {*calls}, program.outputs, (), {v.storage for v in program.outputs})
    outside = _used(calls)
    states = {s: u for s, u in outside.items() if s.home == "state"}
    block = _Block({} if weights_inside else states)
    bodies = _Bodies(buffers, {s: u for s, u in outside.items() if s not in block.starts})
    values = [*program.inputs, *program.outputs]
    with runtime.made_for(target):
        body = bodies.body("body", calls, [*values, *block.firsts])
    checks = dict.fromkeys(c.location for c in calls if isinstance(c.fun, (Check, Guard)))
    _add_function(bodies.module, name, body, len(values), block, bool(checks))
    scratch = _settle(bodies.module, threads)
    code, assembly = runtime.compiled_for(bodies.module, target)
    called = sorted({*_CALLED.findall(_NO_CODE.sub("", assembly))})
    return Exported(code, block.content, block.places(calls), scratch, called, [*checks])


def _kernels(program: Program) -> list[Call]:
    """The calls as kernels, or a TraceError is raised, which names the line and the cure."""
    calls = list[Call]()
    for call in program.calls:
        if call.kind == "view":
            continue
        try:
            calls.append(kernel_of(call))
        except Unknown as unknown:
            name = name_of(call.fun)
            reasons = [r for r in program.remarks if f" {name} at {call.location}: " in r]
            reason = reasons[0].rpartition(": ")[2] if reasons else str(unknown)
            raise TraceError(
                f"export: {name} at {call.location} cannot become native code: {reason}. Leave it "
                "out of the function: compute it before, and pass the result, or afterwards"
            ) from None
        _require_forward(calls[-1])
    return calls


def _require_forward(call: Call) -> None:
    """Raise a TraceError if a kernel does what only Python's process can."""
    if isinstance(call.fun, Draw):
        what, cure = "random numbers are drawn", "or draw them outside and pass them"
    elif any(v.storage.home == "state" for v in call.changes):
        what, cure = "an array from outside is changed", "or return the new one"
    else:
        return
    raise TraceError(
        f"export: {call.location}: {what}, which cannot be exported: call eval() on the network "
        f"before lower(), {cure}"
    )


# -- memory


class _Used(NamedTuple):
    """The bytes of an array from outside that a program uses: of what lies in a storage."""

    first: Value  # any that lies there
    start: int
    stop: int

    @property
    def content(self) -> bytes:
        """The bytes as they are now."""
        address = address_of(self.first.array) - self.first.offset + self.start
        return ctypes.string_at(address, self.stop - self.start)


def _used(calls: Iterable[Call]) -> dict[Storage, _Used]:
    """What calls use of arrays from outside."""
    found: dict[Storage, _Used] = {}
    for v in (v for call in calls for v in call.fun.pointers if v.storage.array is not None):
        first, start, stop = found.get(v.storage, _Used(v, *v.bounds))
        found[v.storage] = _Used(first, min(start, v.bounds[0]), max(stop, v.bounds[1]))
    return found


class _Block:
    """Arrays from outside, one after another in a block of memory."""

    def __init__(self, used: Mapping[Storage, _Used]) -> None:
        self.content = b""
        self.starts: dict[Storage, int] = {}  # of the storage, which begins before what is used
        for storage, u in used.items():
            self.starts[storage] = len(self.content) - u.start
            self.content += u.content.ljust(rounded(u.stop - u.start), b"\0")
        self.firsts = [u.first for u in used.values()]

    def place(self, v: Value) -> int:
        """The number of the first byte of a value."""
        return self.starts[v.storage] + v.offset

    def places(self, calls: Iterable[Call]) -> dict[Value, int]:
        """Those of the values that calls use, in their order, and each of them once."""
        values = [v for call in calls for v in call.fun.pointers if v.storage in self.starts]
        by_place = {(self.place(v), v.shape, v.strides): v for v in values}
        return {by_place[key]: key[0] for key in sorted(by_place)}


class _Bodies(Bodies):
    """Code where values that are no arguments lie in memory of the module."""

    def __init__(self, buffers: Buffers, constants: Mapping[Storage, _Used]) -> None:
        super().__init__()
        self._buffers, self._constants = buffers, constants

    def note_failure(self, builder: ir.IRBuilder, check: Check) -> None:
        """Write nothing: the function returns 1."""

    def pointer_to(self, builder: ir.IRBuilder, v: Value) -> ir.Value:
        """A pointer to a value's first element."""
        used = self._constants.get(v.storage)
        if used is None:
            offset = self._buffers.offsets[v.storage]
            memory = _memory(builder.module, "scratch", bytes(self._buffers.peak_bytes), False)
        else:
            number = [*self._constants].index(v.storage)
            offset = -used.start
            memory = _memory(builder.module, f"array.{number}", used.content, True)
        return at(builder, memory, offset + v.offset)


def _memory(module: ir.Module, name: str, content: bytes, is_constant: bool) -> ir.GlobalVariable:
    """The memory of a name."""
    memory = module.globals.get(name)
    if memory is None:
        kind = ir.ArrayType(_BYTE, len(content))
        memory = ir.GlobalVariable(module, kind, name)
        memory.type = _POINTER  # llvmlite gives globals a pointer type of their own
        memory.linkage, memory.align = "internal", ALIGNMENT
        memory.global_constant = is_constant
        memory.initializer = ir.Constant(kind, bytearray(content) if is_constant else None)
    return memory


def _settle(module: ir.Module, threads: bool) -> int:
    """Let each of the `threads` have memory of its own; return the number of its bytes."""
    count = 0
    for function in module.functions:
        if not function.is_declaration:
            function.attributes.add("nounwind")
    for memory in module.global_values:
        if isinstance(memory, ir.GlobalVariable) and not memory.global_constant:
            memory.storage_class = "thread_local" if threads else ""
            kind = memory.value_type
            count += kind.count * {_BYTE: 1, ir.FloatType(): 4, ir.DoubleType(): 8}[kind.element]
    return count


# -- the function


def _add_function(
    module: ir.Module, name: str, body: ir.Function, count: int, block: _Block, checks: bool
) -> None:
    """Add the function that C calls: with `count` pointers, and one to a block that is used."""
    given = [_POINTER] * (count + bool(block.firsts))
    function = ir.Function(module, ir.FunctionType(_INT if checks else ir.VoidType(), given), name)
    builder = ir.IRBuilder(function.append_basic_block())
    pointers = [*function.args[:count]]
    pointers += [at(builder, function.args[-1], block.place(v)) for v in block.firsts]
    status = builder.call(body, pointers)
    if checks:
        builder.ret(builder.zext(builder.icmp_unsigned("!=", status, status.type(DONE)), _INT))
    else:
        builder.ret_void()
