"""exp, log, tanh ...: straight-line code for all lanes at once, at most 2 ulp from the right value.

Each function takes `Lanes` of float32 or float64. Unless a comment says otherwise, the coefficients
are those of the polynomial with the least largest error, found by Remez' algorithm in 50 digits.
The usual steps are explained in Muller, Elementary Functions, 3rd edition, 2016.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .lanes import Lanes, polynomial, select


class Format(NamedTuple):
    """What functions need of a binary floating-point format."""

    mantissa: int  # bits that are stored
    bias: int  # of the exponent
    tiny: float  # the least normal number
    ln2: tuple[
        float, float
    ]  # in two parts; integers of the exponent's size times the first are exact
    exp_range: tuple[float, float]  # beyond, exp is 0 or inf
    expm1_least: float  # below, expm1 is -1
    tanh_most: float  # above, tanh is 1
    expm1: tuple[float, ...]  # (expm1(r) - r) / r**2 for |r| < log(2) / 2
    # For tanh: the parts of log(2) / 2, and (expm1(2r) / 2 - r) / r**2 for |r| < log(2) / 4.
    half_ln2: tuple[float, ...]
    half_of_expm1: tuple[float, ...]
    log: tuple[float, ...]  # (log((1 + s) / (1 - s)) - 2s) / s**3 of s**2, s < 0.1716


# Errors, relative to expm1 twice and log: 2**-32, 2**-26 and 2**-30; 2**-61, 2**-61 and 2**-66.
_EXPM1 = (  # of float64
    0.5, 0.16666666666666677, 0.0416666666666667, 0.008333333333321615, 0.0013888888888866837,
    0.00019841269886158858, 2.480158736055928e-05, 2.755724418157606e-06, 2.755724275669488e-07,
    2.5109045013822063e-08, 2.0924444311397754e-09,
)  # fmt: skip
FORMATS = {
    32: Format(
        mantissa=23,
        bias=127,
        tiny=2.0**-126,
        ln2=(0.693145751953125, 1.4286068203094172e-06),
        exp_range=(-104.0, 89.0),
        expm1_least=-18.0,
        tanh_most=9.02,
        expm1=(0.5, 0.1666666716337204, 0.04166635498404503, 0.008333273231983185,
               0.0013941014185547829, 0.0001991426688618958),
        half_ln2=(0.3465735912322998,),  # the integer is at most 26
        half_of_expm1=(1.0, 0.6666617393493652, 0.3333302438259125, 0.13386531174182892,
                       0.04462872073054314),
        log=(0.6666677594184875, 0.3997752368450165, 0.298723042011261),
    ),
    64: Format(
        mantissa=52,
        bias=1023,
        tiny=2.0**-1022,
        ln2=(0.6931471803691238, 1.9082149292705877e-10),
        exp_range=(-746.0, 710.0),
        expm1_least=-38.0,
        tanh_most=19.07,
        expm1=_EXPM1,
        half_ln2=(0.3465735901845619, 9.541074646352939e-11),
        half_of_expm1=tuple(2.0 ** (i + 1) * c for i, c in enumerate(_EXPM1)),
        log=(2 / 3, 0.40000000000002256, 0.28571428570099056, 0.22222222520102075,
             0.1818178434488593, 0.15386758613830137, 0.13256782742585485, 0.13196694603594258),
    ),
}  # fmt: skip


def _format(x: Lanes) -> Format:
    return FORMATS[x.bits]


# -- exponentials


def nearest_integer(x: Lanes, factor: float, offset: int = 0) -> tuple[Lanes, Lanes]:
    """The integer k next to x * factor, as a float, and integers whose lowest bits are k + offset.

    A number is rounded to an integer by adding one so large that the mantissa has no fraction.
    """
    large = 1.5 * 2.0 ** _format(x).mantissa + offset
    shifted = x.times_plus(factor, large)
    return shifted - large, shifted.as_integers()


def _halved(x: Lanes, offset: int) -> tuple[Lanes, Lanes]:
    """x = k * log(2) + r, |r| <= log(2) / 2: r, and integers whose lowest bits are k + offset."""
    f = _format(x)
    k, bits = nearest_integer(x, 1 / math.log(2), offset)
    r = k.times_plus(-f.ln2[1], k.times_plus(-f.ln2[0], x))
    return r, bits


def _power_of_2(exponent: Lanes) -> Lanes:
    """2**k, where the lowest bits of an integer are k + bias, and the next ones are 0."""
    return (exponent << (23 if exponent.bits == 32 else 52)).as_floats()


def _rest_of_expm1(r: Lanes) -> Lanes:
    """expm1(r) - r."""
    return polynomial(r, _format(r).expm1) * (r * r)


def _times_power_of_2(y: Lanes, exponent: Lanes) -> Lanes:
    """y * 2**k, where the lowest bits of an integer are k + 2 * bias.

    It is multiplied in two steps, as 2**k may be infinite or denormal where the product is not.
    """
    half = exponent >> 1
    return y * _power_of_2(half) * _power_of_2(exponent - half)


def exp(x: Lanes) -> Lanes:
    """The exponential function."""
    f = _format(x)
    least, most = f.exp_range
    r, k = _halved(x.at_most(most).at_least(least), 2 * f.bias)
    return _times_power_of_2(1 + (r + _rest_of_expm1(r)), k)


def exp2(x: Lanes) -> Lanes:
    """2**x."""
    f = _format(x)
    x = x.at_most(f.bias + 2.0).at_least(-f.bias - f.mantissa - 2.0)
    k, bits = nearest_integer(x, 1, 2 * f.bias)
    r = (x - k) * math.log(2)
    return _times_power_of_2(1 + (r + _rest_of_expm1(r)), bits)


def _scaled_sum(power: Lanes, r: Lanes, rest: Lanes, start: Lanes) -> Lanes:
    """power * (r + rest) + start, where `rest` is small beside r.

    In float64, what rounding takes from start + power * r is added; float32 is right without.
    """
    main = power.times_plus(r, start)
    if r.bits == 32:
        return power.times_plus(rest, main)
    return main + power.times_plus(rest, power.times_plus(r, start - main))


def expm1(x: Lanes) -> Lanes:
    """exp(x) - 1, also where that is near 0."""
    f = _format(x)
    limited = x.at_most(f.exp_range[1]).at_least(f.expm1_least)
    r, k = _halved(limited, f.bias - 1)
    half = _power_of_2(k)  # half of 2**k, which may be infinite
    y = 2 * _scaled_sum(half, r, _rest_of_expm1(r), half - 0.5)
    return select(abs(x) < 2.0 ** -(f.mantissa + 2), x, y)


def tanh(x: Lanes) -> Lanes:
    """The hyperbolic tangent: q = h / (1 + h) with h = expm1(2 * abs(x)) / 2.

    Where h is small, it is h - h * q, in which the rounding error of 1 + h does not matter.
    """
    f = _format(x)
    r = abs(x).at_most(f.tanh_most)
    k, bits = nearest_integer(r, 2 / math.log(2), f.bias)
    for part in f.half_ln2:
        r = k.times_plus(-part, r)
    power = _power_of_2(bits)
    rest = polynomial(r, f.half_of_expm1) * (r * r)
    h = _scaled_sum(power, r, rest, power.times_plus(0.5, -0.5))
    q = h / (1 + h)
    return select(h < 0.5, (-h).times_plus(q, h), q).with_sign_of(x)


def _half_of_exp(x: Lanes) -> Lanes:
    """exp(x) / 2 for x >= 0, which is finite for somewhat larger numbers than exp(x)."""
    f = _format(x)
    r, k = _halved(x.at_most(f.exp_range[1] + 1), 2 * f.bias - 1)
    return _times_power_of_2(1 + (r + _rest_of_expm1(r)), k)


def cosh(x: Lanes) -> Lanes:
    """The hyperbolic cosine."""
    half = _half_of_exp(abs(x))
    return half + 0.25 / half


def sinh(x: Lanes) -> Lanes:
    """The hyperbolic sine: its series near 0."""
    z = abs(x)
    half = _half_of_exp(z)
    square = x * x
    terms = range(3, 13 if x.bits == 32 else 21, 2)
    series = polynomial(square, [1 / math.factorial(n) for n in terms])
    return select(z < 1, (x * square).times_plus(series, x), (half - 0.25 / half).with_sign_of(x))


# -- logarithms


def _split(x: Lanes) -> tuple[Lanes, Lanes]:
    """x = 2**k * (1 + f) with 1 + f from sqrt(1/2) to sqrt(2): k and f, for positive normal x."""
    f = _format(x)
    one, low = f.bias << f.mantissa, x.like(math.sqrt(0.5)).as_integers()
    shifted = x.as_integers() + (one - low)
    large = 2.0**f.mantissa
    k = ((shifted >> f.mantissa) | x.like(large).as_integers()).as_floats() - (large + f.bias)
    fraction = (shifted & ((1 << f.mantissa) - 1)) + low
    return k, fraction.as_floats() - 1


def _log_of(k: Lanes, f: Lanes, correction: Lanes | None = None) -> Lanes:
    """k * log(2) + log(1 + f) + correction, of which k * log(2) + f are added last."""
    high, low = _format(f).ln2
    s = f / (f + 2)
    z = s * s
    half = 0.5 * f * f
    rest = k * low if correction is None else k.times_plus(low, correction)
    rest = s.times_plus(half + z * polynomial(z, _format(f).log), rest)
    return k.times_plus(high, f - (half - rest))


def _normal_split(x: Lanes) -> tuple[Lanes, Lanes]:
    """The same for all positive finite numbers."""
    f = _format(x)
    denormal = x < f.tiny
    k, fraction = _split(select(denormal, x * 2.0**f.mantissa, x))
    return select(denormal, k - f.mantissa, k), fraction


def log(x: Lanes) -> Lanes:
    """The natural logarithm."""
    return _log_at_limits(x, _log_of(*_normal_split(x)), x)


def _log_at_limits(x: Lanes, y: Lanes, at_infinity: Lanes) -> Lanes:
    """The logarithm `y` of `x`, which is right for positive finite numbers."""
    y = select(x < math.inf, y, at_infinity)
    return select(x > 0, y, select(x.compare("==", 0), x.like(-math.inf), math.nan))


def log1p(x: Lanes) -> Lanes:
    """log(1 + x), also where that is near 0; what rounding takes from 1 + x is added again."""
    return _log1p_of_sum(x, x.like(0.0))


def _log1p_of_sum(x: Lanes, low: Lanes) -> Lanes:
    """log1p(x + low), where `low` is small beside x."""
    u = 1 + x
    added = u - 1
    lost = (1 - (u - added)) + (x - added) + low
    y = _log_of(*_split(u), lost / u)
    return _log_at_limits(u, y.with_sign_of(x), x)


def arcsinh(x: Lanes) -> Lanes:
    """The inverse of the hyperbolic sine: log1p(z + z**2 / (1 + sqrt(1 + z**2))) of z = abs(x)."""
    if x.bits == 32:
        return arcsinh(x.widened()).narrowed()
    z = abs(x)
    small = z.at_most(2.0**30)
    square = small * small
    total = fast_sum(small, square / (1 + (1 + square).intrinsic("sqrt")))
    y = _log1p_of_sum(*total)
    y = select(z > 2.0**29, log(z) + math.log(2), y)
    return select(z < 1e-8, z, y).with_sign_of(x)


def arccosh(x: Lanes) -> Lanes:
    """The inverse of the hyperbolic cosine: log1p(t + sqrt(2t + t**2)) of t = x - 1."""
    if x.bits == 32:
        return arccosh(x.widened()).narrowed()
    t = x.at_most(2.0**30) - 1
    root = t.times_plus(t, 2 * t).intrinsic("sqrt")
    y = _log1p_of_sum(*fast_sum(root, t))
    y = select(x > 2.0**29, log(x) + math.log(2), y)
    return select(x < 1, math.nan, y)


def cbrt(x: Lanes) -> Lanes:
    """The cube root: exp(log(z) / 3) of z = abs(x), improved by a step of Newton's method."""
    if x.bits == 32:
        z = abs(x).widened()
        y = exp(log(z) / 3).narrowed()
    else:
        tiny = abs(x) < 2.0**-900
        z = select(tiny, abs(x) * 2.0**162, abs(x))
        root = exp(log(z) / 3)
        square = root * root
        root = root - (square.times_plus(root, -z)) / (3 * square)
        y = select(tiny, root * 2.0**-54, root)
    is_limit = abs(x).compare("==", 0) | ~(abs(x) < math.inf)
    return select(is_limit, x, y.with_sign_of(x))


def arctanh(x: Lanes) -> Lanes:
    """The inverse of the hyperbolic tangent; NaN beyond 1 and -1."""
    z = abs(x)
    return (0.5 * log1p((z + z) / (1 - z))).with_sign_of(x)


def logaddexp2(x: Lanes, y: Lanes) -> Lanes:
    """log2(2**x + 2**y), by the formula that NumPy has."""
    greater = select((x > y) | x.is_nan(), x, y)
    total = greater + log1p(exp2(-abs(x - y))) * (1 / math.log(2))
    return select(x.compare("==", y), x + 1, total)


def logaddexp(x: Lanes, y: Lanes) -> Lanes:
    """log(exp(x) + exp(y)), by the formula that NumPy has."""
    greater = select((x > y) | x.is_nan(), x, y)
    total = greater + log1p(exp(-abs(x - y)))
    return select(x.compare("==", y), x + math.log(2), total)


# -- logarithms and powers with a rounding error far below that of the format


class Pair(NamedTuple):
    """The sum of two numbers, of which the second is the rounding error of the first."""

    high: Lanes
    low: Lanes


def product(x: Lanes, y: Lanes) -> Pair:
    """x * y, exactly."""
    high = x * y
    return Pair(high, x.times_plus(y, -high))


def fast_sum(x: Lanes, y: Lanes) -> Pair:
    """x + y, exactly if the first is 0 or not the smaller one (Dekker, 1971)."""
    high = x + y
    return Pair(high, y - (high - x))


def _precise_log(x: Lanes) -> tuple[Lanes, Pair]:
    """log(x) = k * log(2) + a pair: k and the pair, of float64 with a relative error of 2**-65.

    The terms up to s**3 of log((1 + s) / (1 - s)) are computed in pairs.
    """
    f = _format(x)
    k, fraction = _normal_split(x)
    divisor = fast_sum(x.like(2.0), fraction)
    s = fraction / divisor.high
    s_low = ((-s).times_plus(divisor.high, fraction) - s * divisor.low) / divisor.high
    z, z_low = product(s, s)
    z_low = (s + s).times_plus(s_low, z_low)
    third = fast_sum(x.like(2 / 3), z * polynomial(z, f.log[1:]))
    third_low = third.low + 3.700743415417188e-17  # 2/3 is that much more than its float64
    t, t_low = product(z, third.high)
    t_low = t_low + z.times_plus(third_low, z_low * third.high)
    u, u_low = product(s, t)
    u_low = u_low + s.times_plus(t_low, s_low * t)
    total = fast_sum(s + s, u)
    return k, fast_sum(total.high, total.low + (s_low + s_low + u_low))


def _log_to_base(x: Lanes, factor: tuple[float, float], of_2: tuple[float, float]) -> Lanes:
    """log(x) times a factor in two parts, where log(2) times it is also given in two parts.

    The first part of the latter has so few bits that integers of the exponent's size times it are
    exact.
    """
    if x.bits == 32:
        return (log(x.widened()) * factor[0]).narrowed()
    k, (high, low) = _precise_log(x)
    scaled, scaled_low = product(high, high.like(factor[0]))
    scaled_low = scaled_low + high.times_plus(factor[1], low * factor[0])
    total = fast_sum(k * of_2[0], scaled)
    y = total.high + (total.low + k.times_plus(of_2[1], scaled_low))
    return _log_at_limits(x, y, x)


def log2(x: Lanes) -> Lanes:
    """The logarithm to the base 2."""
    return _log_to_base(x, (1.4426950408889634, 2.0355273740931033e-17), (1.0, 0.0))


def log10(x: Lanes) -> Lanes:
    """The logarithm to the base 10."""
    of_2 = 0.3010299955494702, 1.1451100898021838e-10
    return _log_to_base(x, (0.4342944819032518, 1.098319650216765e-17), of_2)


def power(x: Lanes, y: Lanes) -> Lanes:
    """x**y, at the limits as C's pow has it."""
    base = abs(x)
    if x.bits == 32:
        z = exp(y.widened() * log(base.widened())).narrowed()
    else:
        z = _precise_power(base, y)
    # A base of 1 has 1 even for infinite exponents, and one of -1.
    z = select(base.compare("==", 1) & y.compare("==", y), 1, z)
    half = y * 0.5
    whole = y.intrinsic("trunc").compare("==", y)
    odd = whole & half.intrinsic("trunc").compare("!=", half)
    z = select(odd, z.with_sign_of(x), z)
    z = select((x < 0) & (x > -math.inf) & ~whole, math.nan, z)
    return select(x.compare("==", 1) | y.compare("==", 0), 1, z)


class Scaled(NamedTuple):
    """A sum times 2**k, for integers whose lowest bits are k + 2 * bias."""

    high: Lanes
    low: Lanes
    exponent: Lanes

    def times(self, factor: Pair) -> Lanes:
        """The product with a pair, rounded once but for what is small."""
        rest = self.low.times_plus(factor.high, self.high * factor.low)
        return _times_power_of_2(self.high.times_plus(factor.high, rest), self.exponent)


def exp_of_sum(high: Lanes, low: Lanes) -> Scaled:
    """exp(high + low) of float64, where the second is small beside the first."""
    f = _format(high)
    least, most = f.exp_range
    r, bits = _halved(high.at_most(most).at_least(least), 2 * f.bias)
    # Where the first is far out of range, the second is large or NaN.
    r, rest = fast_sum(r, select(abs(high) < -least, low, 0))
    total = fast_sum(r.like(1.0), r)
    return Scaled(total.high, total.low + (_rest_of_expm1(r) + rest), bits)


def _precise_power(base: Lanes, y: Lanes) -> Lanes:
    """base**y of float64, for base >= 0."""
    f = _format(y)
    k, fraction = _precise_log(base)
    log_2 = fast_sum(k * f.ln2[0], fraction.high)
    log_high, log_low = fast_sum(log_2.high, log_2.low + k.times_plus(f.ln2[1], fraction.low))
    log_high = _log_at_limits(base, log_high, base)
    high = y * log_high
    low = y.times_plus(log_high, -high) + y * log_low
    z = exp_of_sum(high, low)
    return _times_power_of_2(z.high + z.low, z.exponent)


def hypot(x: Lanes, y: Lanes) -> Lanes:
    """sqrt(x**2 + y**2), scaled by a power of 2 where the squares leave the range of numbers."""
    if x.bits == 32:
        return hypot(x.widened(), y.widened()).narrowed()
    x, y = abs(x), abs(y)
    longer, shorter = select(x > y, x, y), select(x > y, y, x)
    large, small = longer > 2.0**500, longer < 2.0**-450
    scale = select(large, x.like(2.0**-600), select(small, x.like(2.0**600), 1))
    back = select(large, x.like(2.0**600), select(small, x.like(2.0**-600), 1))
    longer, shorter = longer * scale, shorter * scale
    z = longer.times_plus(longer, shorter * shorter).intrinsic("sqrt") * back
    return select(x.compare("==", math.inf) | y.compare("==", math.inf), math.inf, z)
