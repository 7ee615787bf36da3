"""Element-wise functions. In a vjp, `g` is the cotangent of the output `z` or `y`."""

import math
from typing import Any

import numpy as np

from ..engine.custom import differentiable
from ..engine.dispatch import apply
from ..engine.mutation import become
from ..engine.registry import composite, in_place, rule, shown_as
from ..engine.tensor import Tensor
from ..engine.typing import Function
from ..special import expit
from .selection import attains, attains_ignoring_nan, masked


def _zero(g: Any, _z: Any, *_args: Any) -> Any:
    """The cotangent of an argument that the result does not depend on, or only in steps."""
    return np.zeros_like(g)


rule(np.positive, lambda g, _y, _x: g)
rule(np.negative, lambda g, _y, _x: -g)
rule(np.copy, lambda g, _y, _x, *_order: g, form="linear")
rule(np.astype, lambda g, _y, _x, _dtype, **_copy: g, form="linear", views=True)

rule(np.add, lambda g, _z, _x, _y: g, lambda g, _z, _x, _y: g)
rule(np.subtract, lambda g, _z, _x, _y: g, lambda g, _z, _x, _y: -g)
rule(np.multiply, lambda g, _z, _x, y: g * y, lambda g, _z, x, _y: g * x)
rule(np.true_divide, lambda g, _z, _x, y: g / y, lambda g, z, _x, y: -g * z / y)
rule(np.remainder, lambda g, _z, _x, _y: g, lambda g, _z, x, y: -g * np.floor_divide(x, y))
# Not np.trunc(x / y): the quotient may have been rounded up to an integer.
rule(np.fmod, lambda g, _z, _x, _y: g, lambda g, z, x, y: -g * np.rint((x - z) / y))


@composite(np.divmod)
def _divmod(x: Any, y: Any) -> Any:
    return np.floor_divide(x, y), np.remainder(x, y)


# -- powers, exponentials and logarithms

_LN2, _LN10 = math.log(2), math.log(10)

rule(np.reciprocal, lambda g, y, _x: -g * y * y)
rule(np.square, lambda g, _y, x: (g + g) * x)
rule(np.sqrt, lambda g, y, _x: g * 0.5 / (y + 0))  # sqrt(-0.0) is -0.0, but the slope there is +inf
rule(np.cbrt, lambda g, y, _x: g / (3 * y * y))
rule(np.exp, lambda g, y, _x: g * y)
rule(np.exp2, lambda g, y, _x: g * y * _LN2)
rule(np.expm1, lambda g, _y, x: g * np.exp(x))
rule(np.log, lambda g, _y, x: g / x)
rule(np.log2, lambda g, _y, x: g / (x * _LN2))
rule(np.log10, lambda g, _y, x: g / (x * _LN10))
rule(np.log1p, lambda g, _y, x: g / (1 + x))


def _power_base(g: Any, _z: Any, x: Any, p: Any) -> Any:
    if isinstance(p, (int, float)):
        if math.isfinite(p):
            return g * (p * x ** (p - 1)) if p else np.zeros_like(x)
        p = np.asarray(p, x.dtype)
    # Powers that are constant in x: x**0, where x**-1 is infinite or NaN (elsewhere, the factor p
    # makes the slope 0), x**inf for |x| < 1, and x**-inf for larger x.
    flat = (p == 0) & ~(np.absolute(x) > 0)
    if not np.iscomplexobj(p):
        flat = flat | np.isinf(p) & np.where(p > 0, np.absolute(x) < 1, np.absolute(x) > 1)
    slope = np.where(flat, 0, p) * x ** np.where(flat, 1, p - 1.0)  # 1.0: an unsigned 0 - 1 is 255
    return g * np.where(flat, 0, slope)


def _power_exponent(g: Any, z: Any, x: Any, p: Any) -> Any:
    if z.dtype.kind == "c":
        return g * np.where(z == 0, 0, z * np.log(x if np.iscomplexobj(x) else x + 0j))
    # At x = 0, the limits: 0**p and its derivative are 0 for p > 0, and infinite for p < 0.
    at_zero = np.where(p < 0, -np.inf, np.zeros_like(z))
    log = np.where(x < 0, np.nan, np.log(np.where(x <= 0, 1, x)))
    return g * np.where(x == 0, at_zero, np.where(z == 0, 0, z * log))


for _power in np.power, np.float_power:
    rule(_power, _power_base, _power_exponent)


@np.errstate(invalid="ignore")
def _share(x: Any, y: Any) -> Any:
    """The derivative of z = logaddexp(x, y) by x, NaN if both are infinite.

    It is exp(x - z), which would lose digits where x and z are large.
    """
    return expit(x - y)


rule(
    np.logaddexp,
    lambda g, _z, x, y: g * _share(x, y),
    lambda g, _z, x, y: g * _share(y, x),
)
rule(
    np.logaddexp2,
    lambda g, _z, x, y: g * _share(x * _LN2, y * _LN2),
    lambda g, _z, x, y: g * _share(y * _LN2, x * _LN2),
)

# -- trigonometric and hyperbolic functions

_DEGREE = math.pi / 180

for _to_radians in np.deg2rad, np.radians:
    rule(_to_radians, lambda g, _y, _x: g * _DEGREE)
for _to_degrees in np.rad2deg, np.degrees:
    rule(_to_degrees, lambda g, _y, _x: g / _DEGREE)

rule(np.sin, lambda g, _y, x: g * np.cos(x))
rule(np.cos, lambda g, _y, x: -g * np.sin(x))
rule(np.tan, lambda g, y, _x: g * (1 + y * y))
# Two roots: sqrt(1 - x * x) loses digits near 1, and takes the wrong branch for complex x.
rule(np.arcsin, lambda g, _y, x: g / (np.sqrt(1 - x) * np.sqrt(1 + x)))
rule(np.arccos, lambda g, _y, x: -g / (np.sqrt(1 - x) * np.sqrt(1 + x)))
rule(np.arctan, lambda g, _y, x: g / (1 + x * x))
rule(np.sinh, lambda g, _y, x: g * np.cosh(x))
rule(np.cosh, lambda g, _y, x: g * np.sinh(x))
rule(np.tanh, lambda g, y, _x: g * (1 - y * y))
rule(np.arcsinh, lambda g, y, _x: g / np.cosh(y))  # cosh(y) is sqrt(1 + x * x), without overflow
rule(np.arccosh, lambda g, _y, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1)))
rule(np.arctanh, lambda g, _y, x: g / ((1 - x) * (1 + x)))


def _or_one(length: Any) -> Any:
    """A divisor with its zeros replaced by ones, as the numerator is zero there too."""
    return np.where(length == 0, 1, length)


def _arctan2_back(g: Any, side: Any, y: Any, x: Any) -> Any:
    """The cotangent of one side of a triangle, from the other side with its sign."""
    r = _or_one(np.hypot(y, x))
    return g * (np.where(np.isinf(r), 0, side) / r / r)  # r * r could overflow


rule(
    np.hypot,
    lambda g, z, x, _y: g * (x / _or_one(z)),
    lambda g, z, _x, y: g * (y / _or_one(z)),
)
rule(
    np.arctan2,
    lambda g, _z, y, x: _arctan2_back(g, x, y, x),
    lambda g, _z, y, x: _arctan2_back(g, -y, y, x),
)

rule(np.unwrap, lambda g, _y, _p, *_discont_and_axis, **_period: g, form="elementwise")

# -- complex numbers, and signs


def _absolute_back(g: Any, _y: Any, x: Any) -> Any:
    if x.dtype.kind == "c":
        return g * np.conjugate(x) / _or_one(np.absolute(x))
    return g * np.sign(x)


for _length in np.absolute, np.fabs:
    rule(_length, _absolute_back)
rule(np.real, lambda g, _y, _z: g, form="linear", views=True)
rule(np.imag, lambda g, _y, _z: g * -1j, form="linear", views=True)
rule(np.conjugate, lambda g, _y, _z: np.conjugate(g))


@composite(np.angle)
def _angle(z: Any, deg: bool = False) -> Any:
    angle = np.arctan2(np.imag(z), np.real(z))
    return angle * (180 / math.pi) if deg else angle


@composite(np.real_if_close)
def _real_if_close(a: Any, tol: float = 100) -> Any:
    return a if np.iscomplexobj(np.real_if_close(a.detach(), tol)) else np.real(a)


@composite(np.sign)
def _sign(x: Any) -> Any:
    if x.dtype.kind != "c":
        return np.sign(x.detach())
    size = np.absolute(x)
    return np.where(size == 0, 0, x / _or_one(size))


rule(np.copysign, lambda g, _z, x, y: g * np.sign(x) * np.copysign(1, y), _zero)
rule(np.heaviside, _zero, lambda g, _z, x, _h: np.where(x == 0, g, 0))

# -- the parts of a floating-point number


@differentiable(lambda g, _y, _x: g, form="elementwise")
@shown_as("modf")
def fraction(x: Any) -> Any:
    """The fractional part, with the sign of `x`.

    >>> from tensorgrad.rules.elementwise import fraction
    >>> fraction(np.array([1.25, -1.25]))
    array([ 0.25, -0.25])
    """
    return np.modf(x)[0]


@composite(np.modf)
def _modf(x: Any) -> Any:
    return fraction(x), np.trunc(x)


@composite(np.frexp)
def _frexp(x: Any) -> Any:
    exponent = np.frexp(x.detach())[1]
    return np.ldexp(x, -exponent), exponent


rule(np.ldexp, lambda g, _z, _x, n: np.ldexp(g, n), None)
rule(np.nextafter, lambda g, _z, _x, _y: g, _zero)

# -- choices


def _extremum_rule(fun: np.ufunc, attained: Function) -> None:
    def vjp(g: Any, z: Any, x: Any, y: Any) -> Any:
        """The cotangent of x: `g` where x alone attains the extremum z, half of it at a tie."""
        return masked(g, attained(x, z)) / (attained(y, z) + np.int8(1))

    rule(fun, vjp, lambda g, z, x, y: vjp(g, z, y, x))


_extremum_rule(np.maximum, attains)
_extremum_rule(np.minimum, attains)
_extremum_rule(np.fmax, attains_ignoring_nan)
_extremum_rule(np.fmin, attains_ignoring_nan)

rule(
    np.where,
    _zero,
    lambda g, _z, condition, _x, _y: masked(g, np.not_equal(condition, 0)),
    lambda g, _z, condition, _x, _y: masked(g, np.equal(condition, 0)),
    form="elementwise",
)


def _bounded(extremum: Function) -> Function:
    """An operation that clips `x` at one bound; at the bound, the derivative by `x` is 1."""

    def clip(x: Any, bound: Any) -> Any:
        return extremum(x, bound)

    rule(
        clip,
        lambda g, z, x, _bound: masked(g, attains(x, z)),
        lambda g, z, x, _bound: masked(g, ~attains(x, z)),
        form="elementwise",
    )
    return clip


_at_least, _at_most = _bounded(np.maximum), _bounded(np.minimum)


@composite(np.clip)
def _clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    _out: None = None,
    *,
    min: Any = None,  # noqa: A002 (NumPy's name)
    max: Any = None,  # noqa: A002
) -> Any:
    if (a_min is not None or a_max is not None) and (min is not None or max is not None):
        raise ValueError("clip: pass a_min and a_max, or min and max, not both")
    low, high = a_min if min is None else min, a_max if max is None else max
    if low is None and high is None:
        return np.positive(a)
    a = a if low is None else apply(_at_least, (a, low))
    a = a if high is None else apply(_at_most, (a, high))
    if low is not None and high is not None and np.any(np.equal(low, high)):
        tracked = [b for b in (low, high) if isinstance(b, Tensor) and b.requires_grad]
        return a if tracked else np.where(np.equal(low, high), a.detach(), a)  # constant there
    return a


@differentiable(lambda g, _y, x, *_replacements: np.where(np.isfinite(x), g, 0), form="elementwise")
@shown_as("nan_to_num")
def finite(x: Any, nan: Any, posinf: Any, neginf: Any) -> Any:
    """`np.nan_to_num` of an array of real numbers.

    >>> from tensorgrad.rules.elementwise import finite
    >>> finite(np.array([1.0, np.nan, np.inf]), 0.0, 9.0, None)
    array([1., 0., 9.])
    """
    return np.nan_to_num(x, True, nan, posinf, neginf)


@in_place(np.nan_to_num)
def _nan_to_num(
    x: Tensor, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Tensor:
    parts = [np.real(x), np.imag(x)] if x.dtype.kind == "c" else [x]
    real, *imag = [finite(part, nan, posinf, neginf) for part in parts]
    result = real + 1j * imag[0] if imag else real
    return result if copy else become(x, np.positive, (result,))
