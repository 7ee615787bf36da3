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
    log: tuple[float, ...]  # (log((1 + s) / (1 - s)) - 2s) / s**3, in s**2, s < 0.1716


# Errors, relative to expm1 and log: 2**-32 and 2**-30, 2**-61 and 2**-59.
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
        expm1=(0.5, 0.16666666666666677, 0.0416666666666667, 0.008333333333321615,
               0.0013888888888866837, 0.00019841269886158858, 2.480158736055928e-05,
               2.755724418157606e-06, 2.755724275669488e-07, 2.5109045013822063e-08,
               2.0924444311397754e-09),
        log=(0.6666666666666734, 0.39999999999414476, 0.2857142874248635, 0.2222219855715683,
             0.18183565465422238, 0.15314013855765177, 0.1479638819503736),
    ),
}  # fmt: skip


def _format(x: Lanes) -> Format:
    return FORMATS[x.bits]


# -- exponentials


def _halved(x: Lanes, offset: int) -> tuple[Lanes, Lanes]:
    """x = k * log(2) + r with |r| <= log(2) / 2: r, and integers whose lowest bits are k + offset.

    A number is rounded to an integer by adding one so large that the mantissa has no fraction.
    """
    f = _format(x)
    large = 1.5 * 2.0**f.mantissa + offset
    shifted = x.times_plus(1 / math.log(2), large)
    k = shifted - large
    r = k.times_plus(-f.ln2[1], k.times_plus(-f.ln2[0], x))
    return r, shifted.as_integers()


def _power_of_2(exponent: Lanes) -> Lanes:
    """2**k, where the lowest bits of an integer are k + bias, and the next ones are 0."""
    return (exponent << (23 if exponent.bits == 32 else 52)).as_floats()


def _rest_of_expm1(r: Lanes) -> Lanes:
    """expm1(r) - r."""
    return polynomial(r, _format(r).expm1) * (r * r)


def exp(x: Lanes) -> Lanes:
    """The exponential function.

    The result is multiplied by 2**k in two steps, as 2**k itself may be infinite or denormal.
    """
    f = _format(x)
    least, most = f.exp_range
    r, k = _halved(x.at_most(most).at_least(least), 2 * f.bias)
    half = k >> 1
    return (1 + (r + _rest_of_expm1(r))) * _power_of_2(half) * _power_of_2(k - half)


def _half_of_expm1(x: Lanes) -> Lanes:
    """(exp(x) - 1) / 2, for x of at most 1 more than the logarithm of the largest number.

    With m = 2**k / 2, it is m * (exp(r) - 1) + (m - 1/2), of which m - 1/2 + m * r is the main
    part. In float64, what rounding takes from it is added to the rest; float32 is right to 1.6 ulp
    without.
    """
    r, k = _halved(x, _format(x).bias - 1)
    m = _power_of_2(k)
    rest = _rest_of_expm1(r)
    start = m - 0.5
    main = m.times_plus(r, start)
    if x.bits == 32:
        return m.times_plus(rest, main)
    return main + m.times_plus(rest, m.times_plus(r, start - main))


def expm1(x: Lanes) -> Lanes:
    """exp(x) - 1, also where that is near 0."""
    f = _format(x)
    y = 2 * _half_of_expm1(x.at_most(f.exp_range[1]).at_least(f.expm1_least))
    return select(abs(x) < 2.0 ** -(f.mantissa + 2), x, y)


def tanh(x: Lanes) -> Lanes:
    """The hyperbolic tangent: q = h / (1 + h) with h = expm1(2 * abs(x)) / 2.

    Where h is small, it is h - h * q, in which the rounding error of 1 + h does not matter.
    """
    z = abs(x).at_most(_format(x).tanh_most)
    h = _half_of_expm1(z + z)
    q = h / (1 + h)
    return select(h < 0.5, (-h).times_plus(q, h), q).with_sign_of(x)


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


def log(x: Lanes) -> Lanes:
    """The natural logarithm."""
    f = _format(x)
    denormal = x < f.tiny
    k, fraction = _split(select(denormal, x * 2.0**f.mantissa, x))
    y = _log_of(select(denormal, k - f.mantissa, k), fraction)
    return _log_at_limits(x, y)


def _log_at_limits(x: Lanes, y: Lanes) -> Lanes:
    """The logarithm `y` of `x`, which is right for positive finite numbers."""
    y = select(x < math.inf, y, x)
    return select(x > 0, y, select(x.compare("==", 0), x.like(-math.inf), math.nan))
