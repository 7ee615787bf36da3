"""Quotients without a fraction, and remainders: the same bits as NumPy's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from llvmlite import ir

from .lanes import Lanes, outlined, select, select_rare
from .loops import loop


class _Reach(NamedTuple):
    """How the quotients of a format are divided into parts: each is less than 2**bits."""

    mantissa: int
    bits: int
    parts: int
    least: int  # 2**least is a normal number
    bias: int


_REACHES = {
    32: _Reach(mantissa=23, bits=20, parts=14, least=-126, bias=127),
    64: _Reach(mantissa=52, bits=48, parts=44, least=-1022, bias=1023),
}


class Division(NamedTuple):
    """The quotient, rounded towards negative infinity, and the remainder, of the divisor's sign."""

    quotient: Lanes
    remainder: Lanes


# -- of floating-point numbers


def _scaled(x: Lanes, exponent: Lanes) -> Lanes:
    """x * 2**exponent for an exponent of at least 0, in as many steps as the format needs."""
    reach = _REACHES[x.bits]
    steps = -(-reach.bits * reach.parts // reach.bias)
    for _ in range(steps):
        step = select(exponent > reach.bias, reach.bias, exponent)
        x = x * ((step + reach.bias) << reach.mantissa).as_floats()
        exponent = exponent - step
    return x


def _reduced(x: Lanes, y: Lanes) -> Lanes:
    """The remainder of x for y * 2**k, if the quotient is less than 2**mantissa: exactly.

    The rounded quotient may be greater than the right one by 1.
    """
    quotient = (x / y).intrinsic("trunc")
    rest = (-quotient).times_plus(y, x)
    return select(rest < 0, rest + y, rest)


def _rest_of_large(x: Lanes, y: Lanes) -> Lanes:
    """The remainder for x, y > 0 and any quotient, of which some bits are found at a time."""
    reach = _REACHES[x.bits]

    def step(index: ir.Value, carried: Sequence[ir.Value]) -> Sequence[ir.Value]:
        (rest,) = (Lanes(x.builder, value) for value in carried)
        part = Lanes(x.builder, index).resized(x.bits)
        exponent = (reach.parts - 1 - part) * reach.bits
        divisor = _scaled(y, exponent.repeated(x))
        return [select(divisor <= rest, _reduced(rest, divisor), rest).value]

    (rest,) = loop(x.builder, reach.parts, 1, [x.value], step)
    return Lanes(x.builder, rest)


def fmod(x: Lanes, y: Lanes) -> Lanes:
    """The remainder with the sign of x, as C's fmod has it; both are exact."""
    if not x.is_float:
        return _integer_fmod(x, y)
    a, b = abs(x), abs(y)
    is_large = ~(a / b < 2.0 ** _REACHES[x.bits].mantissa)
    rest = select_rare(is_large, lambda: outlined("rest", _rest_of_large, a, b), _reduced(a, b))
    rest = select(a < b, a, rest)
    rest = select((a < math.inf) & (b > 0), rest, math.nan)
    return select(y.is_nan(), y, rest.with_sign_of(x))


def _divided(x: Lanes, y: Lanes) -> Division:
    """Both, as NumPy computes them; the quotient of 0 is infinite, and the remainder NaN."""
    rest = fmod(x, y)
    quotient = (x - rest) / y
    differs = rest.compare("!=", 0) & ((y < 0) ^ (rest < 0))
    quotient = select(differs, quotient - 1, quotient)
    rest = select(rest.compare("==", 0), rest.like(0.0).with_sign_of(y), rest)
    rest = select(differs, rest + y, rest)
    whole = quotient.intrinsic("floor")
    whole = select(quotient - whole > 0.5, whole + 1, whole)
    exact = x / y
    whole = select(quotient.compare("==", 0), whole.like(0.0).with_sign_of(exact), whole)
    by_zero = y.compare("==", 0)
    return Division(select(by_zero, exact, whole), select(by_zero, math.nan, rest))


def remainder(x: Lanes, y: Lanes) -> Lanes:
    """The remainder with the sign of y, as Python's `%`."""
    return (_divided if x.is_float else _integers_divided)(x, y).remainder


def floor_divide(x: Lanes, y: Lanes) -> Lanes:
    """The quotient, rounded towards negative infinity, as Python's `//`."""
    return (_divided if x.is_float else _integers_divided)(x, y).quotient


# -- of integers with a sign


def _truncated(x: Lanes, y: Lanes) -> Division:
    """Both, the quotient rounded towards 0. By 0, both are 0; -x / -1 may wrap around."""
    zero, negative = y.compare("==", 0), y.compare("==", -1)
    divisor = select(zero | negative, 1, y)  # the processor refuses these
    quotient = select(negative, -x, select(zero, 0, x.divided_by(divisor)))
    return Division(quotient, select(zero, 0, x - quotient * y))


def _integer_fmod(x: Lanes, y: Lanes) -> Lanes:
    return _truncated(x, y).remainder


def _integers_divided(x: Lanes, y: Lanes) -> Division:
    quotient, rest = _truncated(x, y)
    differs = rest.compare("!=", 0) & ((y < 0) ^ (rest < 0))
    return Division(select(differs, quotient - 1, quotient), select(differs, rest + y, rest))
