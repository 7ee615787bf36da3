"""sin, cos, arctan ...: code for all lanes at once, at most 2 ulp from the right value.

The coefficients are those of the polynomials with the least largest error, found by Remez'
algorithm in 50 digits.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir

from .elementary import Pair, fast_sum, nearest_integer, product
from .lanes import Lanes, each_lane, polynomial, select, select_rare


class _Constants(NamedTuple):
    """What depends on the format; polynomials are in the square of the argument."""

    half_pi: tuple[float, float]  # pi / 2, and the rounding error of that
    sin: tuple[float, ...]  # (sin(r) - r) / r**3 for r < pi / 4
    cos: tuple[float, ...]  # (cos(r) - 1 + r**2 / 2) / r**4 for r < pi / 4
    arctan: tuple[float, ...]  # (arctan(t) - t) / t**3 for t < tan(pi / 6)
    arcsin: tuple[float, ...]  # (arcsin(t) - t) / t**3 for t < 1 / 2


# Errors, relative to the functions: 2**-28, 2**-33, 2**-29 and 2**-28; 2**-58, 2**-64, 2**-65 and
# 2**-60.
_CONSTANTS = {
    32: _Constants(
        half_pi=(1.5707963705062866, -4.371139000186241e-08),
        sin=(-0.16666655242443085, 0.008332176133990288, -0.0001951697195181623),
        cos=(0.04166664555668831, -0.0013887365348637104, 2.4438122636638582e-05),
        arctan=(-0.3333330452442169, 0.19998274743556976, -0.1425064653158188, 0.1077740266919136,
                -0.0742008239030838, 0.03150815889239311),
        arcsin=(0.16666753590106964, 0.07495235651731491, 0.04547807201743126,
                0.024142028763890266, 0.042229216545820236),
    ),
    64: _Constants(
        half_pi=(1.5707963267948966, 6.123233995736766e-17),
        sin=(-0.16666666666666632, 0.008333333333322385, -0.00019841269829780917,
             2.755731368136535e-06, -2.505075629042883e-08, 1.589668103760214e-10),
        cos=(0.0416666666666666, -0.001388888888887407, 2.4801587289445897e-05,
             -2.755731434116317e-07, 2.087572167276918e-09, -1.1359561121343134e-11),
        arctan=(-0.3333333333333333, 0.1999999999999895, -0.14285714285598206, 0.11111111104610485,
                -0.09090908873735794, 0.07692302955925648, -0.06666595373203946,
                0.05881585282768483, -0.05257108498670088, 0.047265464596709765,
                -0.04193631610501881, 0.03498422215026091, -0.02492281592933121,
                0.01285321996834309, -0.0034352953107553603),
        arcsin=(0.16666666666666763, 0.074999999999701, 0.04464285717528514, 0.030381942675315788,
                0.022372215905007372, 0.017351595515269342, 0.013981018356215139,
                0.01139729452315729, 0.0107893128313658, 0.003672216558559873,
                0.02179057086125238, -0.02111661216886081, 0.032702095669718045),
    ),
}  # fmt: skip

# pi / 2 in three parts, each of which is the rounding error of those before.
_HALF_PI = 1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33
# Beyond, many multiples of pi / 2 have to be subtracted with more digits than three parts have.
_LARGE = 2.0**30


# -- sine and cosine


def sin(x: Lanes) -> Lanes:
    """The sine."""
    return _circular("sin", x, 0)


def cos(x: Lanes) -> Lanes:
    """The cosine, which is the sine a quarter turn further."""
    return _circular("cos", x, 1)


def _circular(name: str, x: Lanes, quarters: int) -> Lanes:
    """The sine of x + quarters * pi / 2, by that of abs(x); `quarters` is 0 or 1."""
    z = abs(x)
    k, r = _rest_of_quarters(z)

    def of_quarters(k: Lanes, r: Pair) -> Lanes:
        return _sine_of_quarters(k + quarters, r)

    def large() -> Lanes:
        double = z if z.bits == 64 else z.widened()
        y = each_lane(f"{name}_of_large", lambda x: _of_large(x, of_quarters), double)
        return y if z.bits == 64 else y.narrowed()

    y = select_rare(z >= _LARGE, large, of_quarters(k, r))
    y = select(z < math.inf, y, math.nan)
    return y if quarters else (y.as_integers() ^ (x.as_integers() & _sign_bit(x))).as_floats()


def tan(x: Lanes) -> Lanes:
    """The tangent."""
    if x.bits == 32:
        return tan(x.widened()).narrowed()
    z = abs(x)
    k, r = _rest_of_quarters(z)

    def large() -> Lanes:
        return each_lane("tan_of_large", lambda x: _of_large(x, _tangent_of_quarters), z)

    y = select_rare(z >= _LARGE, large, _tangent_of_quarters(k, r))
    y = select(z < math.inf, y, math.nan)
    return (y.as_integers() ^ (x.as_integers() & _sign_bit(x))).as_floats()


def _sign_bit(x: Lanes) -> int:
    return -(1 << (x.bits - 1))


def _rest_of_quarters(z: Lanes) -> tuple[Lanes, Pair]:
    """z = k * pi / 2 + r for 0 <= z < 2**30: integers whose lowest bits are those of k, and r."""
    high, middle, low = _HALF_PI
    if z.bits == 32:
        double = z.widened()
        k, bits = nearest_integer(double, 1 / high)
        rest = (-k).times_plus(middle, (-k).times_plus(high, double)).narrowed()
        return bits.resized(32), Pair(rest, rest.like(0.0))
    k, bits = nearest_integer(z, 1 / high)
    first, first_low = product(k, k.like(high))
    second, second_low = product(k, k.like(middle))
    r = fast_sum(z - first, -first_low)  # z - first is exact
    r_high = r.high - second
    back = r_high - r.high
    lost = (r.high - (r_high - back)) - (second + back)
    return bits, fast_sum(r_high, r.low + lost - second_low - k * low)


def _sine_and_cosine(r: Pair) -> tuple[Pair, Pair]:
    """Both of r, from -pi / 4 to pi / 4, as sums that are not rounded yet."""
    c = _CONSTANTS[r.high.bits]
    z = r.high * r.high
    sine = Pair(r.high, (r.high * z).times_plus(polynomial(z, c.sin), r.low))
    half = 0.5 * z
    main = 1 - half
    rest = (z * z).times_plus(polynomial(z, c.cos), (1 - main) - half - r.high * r.low)
    return sine, Pair(main, rest)


def _sine_of_quarters(k: Lanes, r: Pair) -> Lanes:
    """sin(k * pi / 2 + r), where only the lowest bits of the integers matter."""
    sine, cosine = _sine_and_cosine(r)
    y = select((k & 1).compare("==", 0), sine.high + sine.low, cosine.high + cosine.low)
    return (y.as_integers() ^ ((k & 2) << (r.high.bits - 2))).as_floats()


def _tangent_of_quarters(k: Lanes, r: Pair) -> Lanes:
    """tan(k * pi / 2 + r): of the quotient, what its rounding has lost is added."""
    sine, cosine = (fast_sum(*pair) for pair in _sine_and_cosine(r))
    is_even = (k & 1).compare("==", 0)
    n, n_low = (select(is_even, s, -c) for s, c in zip(sine, cosine))
    d, d_low = (select(is_even, c, s) for s, c in zip(sine, cosine))
    y = n / d
    lost = (-y).times_plus(d, n) + (n_low - y * d_low)
    return select(abs(y) < math.inf, y + lost / d, y)


@functools.cache
def _bits_of_two_over_pi(count: int) -> int:
    """floor(2**count * 2 / pi), by Machin's formula for pi / 4."""
    one = 1 << (count + 64)

    def arccot(n: int) -> int:
        total, term, i = 0, one // n, 1
        while term:
            total += term // i if i % 4 == 1 else -(term // i)
            term //= n * n
            i += 2
        return total

    quarter = 4 * arccot(5) - arccot(239)
    return (one << count) // (2 * quarter)


def _word_of_two_over_pi(builder: ir.IRBuilder, index: ir.Value) -> Lanes:
    """Load 64 bits of 2 / pi from a table, which begins with 64 zeros."""
    i64, count = ir.IntType(64), 20
    table = builder.module.globals.get("two_over_pi")
    if table is None:
        bits = _bits_of_two_over_pi(64 * (count - 1))
        words = [bits >> (64 * (count - 1 - i)) & (1 << 64) - 1 for i in range(count)]
        table = ir.GlobalVariable(builder.module, ir.ArrayType(i64, count), "two_over_pi")
        table.initializer = ir.Constant(table.value_type, words)
        table.linkage, table.global_constant = "internal", True
    return Lanes(builder, builder.load(builder.gep(table, [index], source_etype=i64), typ=i64))


def _of_large(x: Lanes, of_quarters: Callable[[Lanes, Pair], Lanes]) -> Lanes:
    """`of_quarters(k, r)` of a scalar x = k * pi / 2 + r of float64, from 2**30 to infinity.

    x is an integer times 2**e. Of 2 / pi, the bits that times 2**e are multiples of 4 only add full
    turns; the 192 bits after them suffice, as no float64 is nearer to a multiple of pi / 2 than
    2**-62 (Payne and Hanek, Radian reduction for trigonometric functions, 1983).
    """
    builder, i128 = x.builder, ir.IntType(128)
    bits = x.as_integers()
    start = select(x >= _LARGE, (bits >> 52) - (1075 + 2 - 64), 0)
    index, shift = start >> 6, start & 63
    words = [_word_of_two_over_pi(builder, (index + i).value) for i in range(4)]
    integer, high, middle, low = (
        Lanes(builder, builder.zext(factor.value, i128))
        for factor in (
            bits & ((1 << 52) - 1) | (1 << 52),
            *(a.intrinsic("fshl", b, shift) for a, b in itertools.pairwise(words)),
        )
    )
    turn = ((integer * high) << 64) + integer * middle + ((integer * low) >> 64)  # 2**128 is 4
    k, shifted = (turn + (1 << 125)) >> 126, (turn + (1 << 125)) & ((1 << 126) - 1)
    # turn - k is the sum of three numbers of 42 bits, the first of which has a sign.
    parts = [((shifted >> n).resized(64) & ((1 << 42) - 1)) for n in (84, 42, 0)]
    parts[0] = parts[0] - (1 << 41)
    first, second, third = (p.as_numbers() * 2.0**-n for p, n in zip(parts, (42, 84, 126)))
    total = fast_sum(first, second)
    total = fast_sum(total.high, total.low + third)
    r, r_low = product(total.high, total.high.like(_HALF_PI[0]))
    r_low = total.low.times_plus(_HALF_PI[0], total.high.times_plus(_HALF_PI[1], r_low))
    return of_quarters(k.resized(64), Pair(r, r_low))


# -- the inverse functions


def _arctan_of_quotient(y: Lanes, x: Lanes) -> Lanes:
    """arctan(y / x) for y, x >= 0; NaN if both are 0 or both infinite.

    Of the quotient and its reciprocal, it takes the smaller one, t; where t is greater than
    tan(pi / 6), arctan(t) is pi / 4 + arctan((t - 1) / (t + 1)).
    """
    c = _CONSTANTS[x.bits]
    high, low = c.half_pi
    steep = y > x
    n, d = select(steep, x, y), select(steep, y, x)
    middle = n > d * math.tan(math.pi / 6)
    t = select(middle, n - d, n) / select(middle, n + d, d)
    square = t * t
    rest = t * square * polynomial(square, c.arctan) + select(middle, x.like(low / 2), 0)
    angle = select(middle, x.like(high / 2), 0) + (t + rest)
    return select(steep, (high - angle) + low, angle)


def arctan(x: Lanes) -> Lanes:
    """The inverse of the tangent."""
    return _arctan_of_quotient(abs(x), x.like(1.0)).with_sign_of(x)


def arctan2(y: Lanes, x: Lanes) -> Lanes:
    """The angle of the point (x, y), from -pi to pi."""
    if x.bits == 32:
        return arctan2(y.widened(), x.widened()).narrowed()
    high, low = _CONSTANTS[x.bits].half_pi
    n, d = abs(y), abs(x)
    scale = select((n > 1e300) | (d > 1e300), x.like(2.0**-60), 1)  # as n + d may be infinite
    angle = select(n.compare("==", d), high / 2, _arctan_of_quotient(n * scale, d * scale))
    angle = select(n.compare("==", 0) & d.compare("==", 0), 0, angle)
    angle = select(x.as_integers() < 0, (2 * high - angle) + 2 * low, angle)
    return angle.with_sign_of(y)


def _arcsin_terms(x: Lanes) -> tuple[Lanes, Pair]:
    """Whether abs(x) < 1/2; then its arcsine, else half of its arccosine, as a sum.

    The half is arcsin(sqrt((1 - x) / 2)), where what is lost by rounding the root is added.
    """
    z = abs(x)
    small = z < 0.5
    square = select(small, z * z, (1 - z) * 0.5)
    root = square.intrinsic("sqrt")
    lost = (-root).times_plus(root, square) / (root + root).at_least(1e-30)
    t = select(small, z, root)
    rest = (t * square).times_plus(
        polynomial(square, _CONSTANTS[x.bits].arcsin), select(small, 0, lost)
    )
    return small, Pair(t, rest)


def arcsin(x: Lanes) -> Lanes:
    """The inverse of the sine; NaN beyond 1 and -1."""
    high, low = _CONSTANTS[x.bits].half_pi
    small, (t, rest) = _arcsin_terms(x)
    total = fast_sum(x.like(high), -2 * t)
    large = total.high + (total.low + (low - 2 * rest))
    return select(small, t + rest, large).with_sign_of(x)


def arccos(x: Lanes) -> Lanes:
    """The inverse of the cosine; NaN beyond 1 and -1."""
    high, low = _CONSTANTS[x.bits].half_pi
    small, (t, rest) = _arcsin_terms(x)
    t, rest = t.with_sign_of(x), select(x < 0, -rest, rest)
    total = fast_sum(x.like(high), -t)
    middle = total.high + (total.low + (low - rest))
    sides = 2 * (t + rest)
    sides = select(x < 0, (2 * high + sides) + 2 * low, sides)
    return select(small, middle, sides)
