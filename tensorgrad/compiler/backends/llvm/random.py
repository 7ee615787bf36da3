"""A NumPy generator's random numbers in native code: the same bits, and the same state afterwards.

The code calls the functions of the bit generator, whose addresses NumPy gives. The steps of PCG64,
which `np.random.default_rng` makes, are written out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from .loops import INDEX

_I32, _I64, _I128 = ir.IntType(32), ir.IntType(64), ir.IntType(128)
_FLOAT, _DOUBLE, _POINTER = ir.FloatType(), ir.DoubleType(), ir.PointerType()
# O'Neill, PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random
# Number Generation, 2014: the factor of the step of 128 bits.
_PCG_FACTOR = 0x2360ED051FC65DA44385DF649FCCF645


def emit(
    builder: ir.IRBuilder,
    generator: np.random.Generator,
    pointer: ir.Value,
    count: int,
    dtype: Any,
) -> None:
    """Write `generator.random(count, dtype, out)`, where `out` begins at a pointer.

    The dtype is float32 or float64. The code has the address of the generator's state: whoever runs
    it keeps the generator alive, and holds `generator.bit_generator.lock` meanwhile.
    """
    bits, single = generator.bit_generator, np.dtype(dtype) == np.float32
    state = INDEX(bits.ctypes.state_address).inttoptr(_POINTER)
    if _is_plain_pcg64(bits):
        draw = _floats_of_pcg64 if single else _doubles_of_pcg64
        draw(builder, state, pointer, count)
        return
    function = bits.ctypes.next_uint32 if single else bits.ctypes.next_double
    address = ctypes.cast(function, ctypes.c_void_p).value
    kind = ir.FunctionType(_I32 if single else _DOUBLE, [_POINTER])
    draw_next = builder.inttoptr(INDEX(address), kind.as_pointer())

    def body(index: ir.Value, _carried: Sequence[ir.Value]) -> Sequence[ir.Value]:
        number = builder.call(draw_next, [state])
        _store(builder, _float_of(builder, number) if single else number, pointer, index)
        return []

    _repeat(builder, INDEX(count), [], body)


def _repeat(
    builder: ir.IRBuilder,
    count: ir.Value,
    carried: Sequence[ir.Value],
    body: Callable[[ir.Value, Sequence[ir.Value]], Sequence[ir.Value]],
) -> Sequence[ir.Value]:
    """Write `for index in range(count): carried = body(index, carried)`; return what is carried."""
    before = builder.block
    head, inside, end = (builder.append_basic_block(name) for name in ("draws", "draw", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    index, *phis = (builder.phi(value.type) for value in (INDEX(0), *carried))
    builder.cbranch(builder.icmp_unsigned("<", index, count), inside, end)
    builder.position_at_end(inside)
    results = body(index, phis)
    following = builder.add(index, INDEX(1))
    for phi, first, next_ in zip((index, *phis), (INDEX(0), *carried), (following, *results)):
        phi.add_incoming(first, before)
        phi.add_incoming(next_, builder.block)
    builder.branch(head)
    builder.position_at_end(end)
    return phis


def _store(builder: ir.IRBuilder, number: ir.Value, pointer: ir.Value, index: ir.Value) -> None:
    at = builder.gep(pointer, [index], source_etype=number.type)
    builder.store(number, at, align=4 if number.type == _FLOAT else 8)


def _float_of(builder: ir.IRBuilder, bits: ir.Value) -> ir.Value:
    """The 24 highest of 32 bits, as a number from 0 to 1."""
    number = builder.uitofp(builder.lshr(bits, _I32(8)), _FLOAT)
    return builder.fmul(number, _FLOAT(2.0**-24))


def _double_of(builder: ir.IRBuilder, bits: ir.Value) -> ir.Value:
    """The 53 highest of 64 bits, as a number from 0 to 1."""
    number = builder.uitofp(builder.lshr(bits, _I64(11)), _DOUBLE)
    return builder.fmul(number, _DOUBLE(2.0**-53))


# -- PCG64. In memory, it is a pointer to two numbers of 128 bits, the state proper and the
# increment; a flag of 32 bits, whether half of the last 64 random bits is left for a float32; and
# that half.


def _is_plain_pcg64(bits: np.random.BitGenerator) -> bool:
    """Tell whether the memory of a bit generator has the state of a PCG64 where it is expected.

    It has not where NumPy was compiled without integers of 128 bits.
    """
    if type(bits) is not np.random.PCG64:
        return False
    with bits.lock:
        state, address = bits.state, bits.ctypes.state_address
        numbers = ctypes.c_void_p.from_address(address)
        found = ctypes.string_at(numbers, 32) + ctypes.string_at(address + 8, 8)
    expected = [
        *(int(state["state"][name]).to_bytes(16, "little") for name in ("state", "inc")),
        *(int(state[name]).to_bytes(4, "little") for name in ("has_uint32", "uinteger")),
    ]
    return found == b"".join(expected)


def _doubles_of_pcg64(
    builder: ir.IRBuilder, state: ir.Value, pointer: ir.Value, count: int
) -> None:
    def consume(index: ir.Value, bits: ir.Value) -> None:
        _store(builder, _double_of(builder, bits), pointer, index)

    _draw(builder, state, INDEX(count), _I64(0), consume)


def _floats_of_pcg64(builder: ir.IRBuilder, state: ir.Value, pointer: ir.Value, count: int) -> None:
    """Write the code that takes the half that is left, whole numbers, and a half of one more."""
    if not count:
        return
    flag, half = (builder.gep(state, [INDEX(n)], source_etype=_I32) for n in (2, 3))
    left = builder.load(half, typ=_I32)
    start = builder.zext(builder.load(flag, typ=_I32), INDEX)  # 1 if there is a half, or 0
    _store(builder, _float_of(builder, left), pointer, INDEX(0))  # replaced if there is none
    rest = builder.sub(INDEX(count), start)

    def consume(index: ir.Value, bits: ir.Value) -> None:
        at = builder.add(start, builder.shl(index, INDEX(1)))
        low, high = _halves(builder, bits)
        _store(builder, _float_of(builder, low), pointer, at)
        _store(builder, _float_of(builder, high), pointer, builder.add(at, INDEX(1)))

    def consume_half(_index: ir.Value, bits: ir.Value) -> None:
        _store(builder, _float_of(builder, _halves(builder, bits)[0]), pointer, INDEX(count - 1))

    last = builder.shl(builder.zext(left, _I64), _I64(32))
    last = _draw(builder, state, builder.lshr(rest, INDEX(1)), last, consume)
    odd = builder.and_(rest, INDEX(1))
    last = _draw(builder, state, odd, last, consume_half)
    builder.store(builder.trunc(odd, _I32), flag)
    builder.store(_halves(builder, last)[1], half)


def _draw(
    builder: ir.IRBuilder,
    state: ir.Value,
    count: ir.Value,
    last: ir.Value,
    consume: Callable[[ir.Value, ir.Value], None],
) -> ir.Value:
    """Draw numbers of 64 bits for `consume`; return the last one, or `last` if there is none.

    Four at a time do not wait for one another: k steps multiply the state by the k-th power of the
    factor, and add a multiple of the increment. That takes two thirds of the time.
    """
    numbers = builder.load(state, typ=_POINTER)
    second = builder.gep(numbers, [INDEX(1)], source_etype=_I128)
    current = builder.load(numbers, typ=_I128, align=8)
    increment = builder.load(second, typ=_I128, align=8)
    powers = [pow(_PCG_FACTOR, k, 1 << 128) for k in range(5)]
    added = [builder.mul(increment, _I128(sum(powers[:k]) % (1 << 128))) for k in range(5)]

    def steps(group: int, start: ir.Value) -> Callable[..., Sequence[ir.Value]]:
        def body(index: ir.Value, carried: Sequence[ir.Value]) -> Sequence[ir.Value]:
            following, bits = carried
            first = builder.add(start, builder.mul(index, INDEX(group)))
            for k in range(1, group + 1):
                following = builder.add(builder.mul(carried[0], _I128(powers[k])), added[k])
                bits = _output(builder, following)
                consume(builder.add(first, INDEX(k - 1)), bits)
            return following, bits

        return body

    groups = builder.lshr(count, INDEX(2))
    carried = _repeat(builder, groups, [current, last], steps(4, INDEX(0)))
    rest = builder.and_(count, INDEX(3))
    done = builder.sub(count, rest)
    current, last = _repeat(builder, rest, carried, steps(1, done))
    builder.store(current, numbers, align=8)
    return last


def _output(builder: ir.IRBuilder, state: ir.Value) -> ir.Value:
    """The 64 random bits of a state: its halves xored, and rotated by its highest 6 bits."""
    high = builder.trunc(builder.lshr(state, _I128(64)), _I64)
    mixed = builder.xor(high, builder.trunc(state, _I64))
    turns = builder.lshr(high, _I64(58))
    back = builder.and_(builder.sub(_I64(0), turns), _I64(63))
    return builder.or_(builder.lshr(mixed, turns), builder.shl(mixed, back))


def _halves(builder: ir.IRBuilder, bits: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return the lower and the higher 32 bits."""
    return builder.trunc(bits, _I32), builder.trunc(builder.lshr(bits, _I64(32)), _I32)
