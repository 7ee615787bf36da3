"""Special functions in plain NumPy, under SciPy's names, for when SciPy is not installed.

Arrays must have a floating dtype; everything is computed in float64. The relative error is at most
4 * 2**-52, with these exceptions. Near the zeros of `gammaln`, `digamma` and `polygamma` at
negative numbers, the error is relative to the terms that cancel there. That of `betaln` is relative
to its terms `gammaln`, and that of `beta` to 1 + abs(betaln). `special` makes operations of these
functions; their derivatives are in `rules/special.py`.

The coefficients in `_FITTED` were computed for this library with mpmath in 60 digits. Each is a
quotient of two polynomials that equals the function at as many points as it has coefficients. The
points are the Chebyshev points of the interval, mapped, for example by a logarithm, so that they
are denser where the function bends more. Between the points, the relative error is below 5e-17. The
other coefficients are those of series in the Digital Library of Mathematical Functions (DLMF),
https://dlmf.nist.gov.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "beta",
    "betaln",
    "digamma",
    "erf",
    "erfc",
    "erfcinv",
    "erfcx",
    "erfinv",
    "gamma",
    "gammaln",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "log_ndtr",
    "ndtr",
    "ndtri",
    "psi",
    "rgamma",
]

_ROOT_2 = math.sqrt(2)
_HALF_ROOT_2 = math.sqrt(0.5)
_ROOT_PI = math.sqrt(math.pi)
_LOG_ROOT_2PI = math.log(2 * math.pi) / 2

# Numerators and denominators, lowest power first.
_FITTED = {
    "erfcx": (  # a function of x from 0 to infinity
        (1.0, 2.4476224235593778, 2.95754126678082, 2.2878172531491066, 1.2449264860276257,
         0.496202881330291, 0.14665358595096778, 0.03180944834139292, 0.004871520088777491,
         0.0004801270329063535, 2.3519478642197267e-05),
        (1.0, 3.576001590654894, 5.992626963176017, 6.2260238619844905, 4.467672273444533,
         2.33227793520689, 0.9072615960142152, 0.26423314184183905, 0.056806280712097174,
         0.008655388136362479, 0.0008510030083987058, 4.1687190490652585e-05),
    ),
    "erfinv": (  # over x, of 0.85**2 - x**2 from 0 on
        (1.1975323115670913, 13.683859314656285, 61.41637969366996, 137.72640201044342,
         162.61712225534532, 97.94895363042787, 26.855101578975184, 2.5696214622588287,
         0.037993566856456856),
        (1.0, 12.178028373008194, 59.0566835076671, 145.84429531753796, 194.95093157545497,
         138.7377673926367, 48.34717690692476, 6.834949630741363, 0.2462435761505205),
    ),
    "erfcinv near": (  # of sqrt(-log(p)) - 1.375 from 0 to 3.625
        (1.0154672744298159, 3.5935771926646405, 5.424313070501302, 4.529870449609086,
         2.2622085563793366, 0.6793625150330843, 0.1167990590268545, 0.010161596870386284,
         0.00032447800564584713),
        (1.0, 2.522693398899525, 2.74121303677381, 1.6227964907238768, 0.5516614099306657,
         0.10419878668128359, 0.00971915475572484, 0.0003244309372556781, 4.973137260684769e-10),
    ),
    "erfcinv far": (  # of sqrt(-log(p)) - 5 from 0 to 22.5
        (4.779384858633335, 4.531287802169798, 1.7801177726393898, 0.3739440031999192,
         0.04521292681600233, 0.0031528064812250583, 0.00012016214087930085, 2.1944157971405974e-06,
         1.3861182810015312e-08),
        (1.0, 0.7337067884769481, 0.21579398244233783, 0.032367275761478645, 0.0026100050035506,
         0.00010958063884172051, 2.12513914752617e-06, 1.3861115239250039e-08,
         1.2937293163095783e-16),
    ),
    "gamma": (  # of x - 1 from 0 to 2
        (1.0, 0.5597378819940056, 0.2526782282063424, 0.06853064011698419, 0.01695892210922205,
         0.002770180331927695, 0.0004635917905087376, 4.0247553725728683e-05,
         5.078276141022565e-06),
        (1.0, 1.1369535468955256, -0.0801103695875567, -0.19474196602739463, 0.033817917602984866,
         0.008018474727587124, -0.0030998275477711864, 0.00036232328686158587,
         -1.53289713793618e-05),
    ),
    "gammaln": (  # over (x - 1) * (x - 2), of x - 1 from 0 to 2
        (0.5772156649015329, 1.5930554067194358, 1.6596754813460193, 0.813562034495222,
         0.19056654572162146, 0.019173400032158124, 0.0006065842500000079, 1.3265900306073563e-06),
        (1.0, 3.1847832396503137, 3.9592024305925455, 2.4335513258541672, 0.7735070497055994,
         0.12138476845433316, 0.008105914433131278, 0.00015658624604444223),
    ),
    "digamma": (  # over x - its root, of x - 0.5 from 0 to 2.5
        (2.041851487905516, 4.619582744804255, 3.7927316523600387, 1.4798545259762466,
         0.29464395417780237, 0.029308445325539098, 0.0012950362347580343, 1.8452041182643835e-05,
         1.5608280060111162e-08),
        (1.0, 3.7358046962700255, 4.6084250771667365, 2.6342162304304235, 0.7798072056537247,
         0.12199512876773287, 0.009604132936766305, 0.0003292989144226125, 3.3634445657997122e-06),
    ),
}  # fmt: skip
_DIGAMMA_ROOT = 1.4616321449683622, 9.5499954299656977e-17  # in two parts

_BERNOULLI = (  # B_2, B_4 ...
    1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798,
    -174611 / 330, 854513 / 138,
)  # fmt: skip


def _polynomials(x: Any, *coefficients: Sequence[float]) -> list[Any]:
    """The values of polynomials with these coefficients, lowest power first.

    Horner's rule is applied to every fourth term, so that fewer rounding errors accumulate.
    """
    square = x * x
    fourth = square * square
    values = []
    for each in coefficients:
        parts = []
        for i in range(4):
            *rest, y = each[i::4]
            for c in reversed(rest):
                y = y * fourth + c
            parts.append(y)
        values.append((parts[0] + parts[1] * x) + (parts[2] + parts[3] * x) * square)
    return values


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    return _polynomials(x, coefficients)[0]


def _fitted(name: str, x: Any) -> Any:
    above, below = _polynomials(x, *_FITTED[name])
    return above / below


_BLOCK = 8192  # elements: a dozen such arrays fit in the cache


def _in_double(fun: Callable[..., Any]) -> Any:
    """Make a function of float64 arrays accept arrays of any real floating dtype.

    If the first array is large and the others are numbers, it is computed block by block, in less
    than half of the time.
    """

    @functools.wraps(fun)
    def computed(x: Any, *others: Any) -> Any:
        dtype = np.result_type(x, *others)
        if dtype.kind == "c":
            raise TypeError(
                f"{fun.__name__} of complex numbers needs scipy: python -m pip install scipy"
            )
        x, *rest = (
            a.astype(np.float64, copy=False) if hasattr(a, "astype") else a for a in (x, *others)
        )
        if type(x) is not np.ndarray or x.size <= _BLOCK or any(map(np.ndim, rest)):
            return fun(x, *rest).astype(dtype, copy=False)
        flat, out = x.reshape(-1), np.empty(x.size, dtype)
        for i in range(0, x.size, _BLOCK):
            out[i : i + _BLOCK] = fun(flat[i : i + _BLOCK], *rest)
        return out.reshape(x.shape)

    return computed


# -- the error function and the normal distribution


def _lost(x: Any, square: Any) -> Any:
    """The rounding error of `square`, which is x * x: the exact value minus the rounded one."""
    short = x.astype(np.float32).astype(np.float64)  # few bits, so that its square is exact
    return (short * short - square) + (x - short) * (x + short)


def _bell(x: Any, scale: float) -> Any:
    """exp(scale * x**2), corrected for the rounding error of x**2, which exp would enlarge."""
    square = x * x
    y = np.exp(scale * square)
    return y + y * (scale * _lost(x, square))


# The Taylor series of erf(x) / x, in x**2 (DLMF 7.6.1).
_ERF_SERIES = [2 / _ROOT_PI * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(13)]


@_in_double
def erf(x: Any) -> Any:
    """The error function."""
    z = np.minimum(np.absolute(x), 6)
    far = np.copysign(1 - _bell(z, -1) * _fitted("erfcx", z), x)
    return np.where(z < 0.5, x * _polynomial(_ERF_SERIES, z * z), far)


@_in_double
def erfc(x: Any) -> Any:
    """1 - erf(x)."""
    z = np.minimum(np.absolute(x), 28)
    y = _bell(z, -1) * _fitted("erfcx", z)
    return np.where(x < 0, 2 - y, y)


@_in_double
def erfcx(x: Any) -> Any:
    """exp(x**2) * erfc(x)."""
    z = np.absolute(x)
    y = np.where(z < 1e20, _fitted("erfcx", np.minimum(z, 1e20)), 1 / (_ROOT_PI * z))
    below = np.where(z < 27, 2 * _bell(np.minimum(z, 27), 1) - y, np.inf)
    return np.where(x < 0, below, y)


def _upper(z: Any) -> Any:
    """The probability that a standard normal variable is greater than z >= 0."""
    return 0.5 * _bell(z, -0.5) * _fitted("erfcx", z * _HALF_ROOT_2)


@_in_double
def ndtr(x: Any) -> Any:
    """The probability that a standard normal variable is less than x."""
    upper = _upper(np.minimum(np.absolute(x), 40))
    return np.where(x < 0, upper, 1 - upper)


@_in_double
def log_ndtr(x: Any) -> Any:
    """log(ndtr(x))."""
    z = np.absolute(x)
    below = np.log(0.5 * _fitted("erfcx", np.minimum(z, 1e20) * _HALF_ROOT_2)) - 0.5 * x * x
    return np.where(x < 0, below, np.log1p(-_upper(np.minimum(z, 40))))


def _erfcinv_tail(p: Any) -> Any:
    """`erfcinv` of p from 0 to 0.15."""
    r = np.sqrt(-np.log(p))
    y = np.where(r < 5, _fitted("erfcinv near", r - 1.375), _fitted("erfcinv far", r - 5))
    return np.where(r < 28, y, r)  # infinite at 0


def _erfinv_middle(x: Any) -> Any:
    return x * _fitted("erfinv", 0.7225 - x * x)


@_in_double
def erfinv(x: Any) -> Any:
    """The y for which erf(y) = x."""
    z = np.absolute(x)
    return np.where(z < 0.85, _erfinv_middle(x), np.copysign(_erfcinv_tail(1 - z), x))


@_in_double
def erfcinv(p: Any) -> Any:
    """The y for which erfc(y) = p."""
    tail = np.where(p < 1, _erfcinv_tail(p), -_erfcinv_tail(2 - p))
    return np.where(np.absolute(1 - p) < 0.85, _erfinv_middle(1 - p), tail)


@_in_double
def ndtri(p: Any) -> Any:
    """The y for which ndtr(y) = p."""
    return 0 - _ROOT_2 * erfcinv(2 * p)


# -- the gamma function


def _reduced(x: Any) -> tuple[Any, Any, Any]:
    """Return t, a and b such that gamma(x) = gamma(2 + t) * a / b, for x from -0.5 to 8.

    t is between -1 and 1, and exact; a and b are products of exact numbers.
    """
    t = np.where(x < 0.5, x, np.where(x < 1, x - 1, np.where(x < 3, x - 2, x - np.floor(x))))
    a: Any = 1.0
    for k in range(1, 6):
        a = a * np.where(x - k < 2, 1, x - k)
    return t, a, np.where(x < 0.5, x * (1 + x), np.where(x < 1, x, 1))


def _stirling(x: Any) -> Any:
    """log(gamma(x)) - ((x - 1/2) * log(x) - x + log(2 * pi) / 2) for x >= 8 (DLMF 5.11.1)."""
    terms = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI, 1)]
    return _polynomial(terms, 1 / (x * x)) / x


def _sin_pi(x: Any) -> Any:
    """sin(pi * x), exactly 0 at integers."""
    nearest = np.rint(x)
    return np.sin(np.pi * (x - nearest)) * (1 - 2 * np.absolute(np.fmod(nearest, 2)))


@_in_double
def gamma(x: Any) -> Any:
    """The gamma function."""
    y = np.where(x < -0.5, -x, x)
    t, a, b = _reduced(np.minimum(y, 8))
    large = np.minimum(y, 200)
    root = np.power(large, 0.5 * large - 0.25)  # its square might overflow
    rest = root * np.exp(-large) * np.exp(_LOG_ROOT_2PI + _stirling(large))
    small = y < 8
    first, second = np.where(small, a / b, root), np.where(small, _fitted("gamma", t + 1), rest)
    sine = _sin_pi(y)
    reflected = np.where(sine == 0, np.nan, -np.pi / (y * sine)) / second / first
    return np.where(x < -0.5, reflected, first * second)


@_in_double
def gammasgn(x: Any) -> Any:
    """The sign of `gamma`, NaN at its poles below 0."""
    whole = np.floor(x)
    sign = np.where((x > 0) | (np.fmod(whole, 2) == 0), 1, -1)
    sign = np.where((x < 0) & (whole == x), np.nan, sign)
    return np.where(x == 0, np.copysign(1, x), np.where(np.isnan(x), x, sign))


@_in_double
def rgamma(x: Any) -> Any:
    """1 / gamma(x), which is 0 at the poles of `gamma`."""
    return np.where((x < 0) & (np.rint(x) == x), 0, 1 / gamma(x))


@_in_double
def gammaln(x: Any) -> Any:
    """The logarithm of the absolute value of `gamma`."""
    y = np.where(x < -0.5, -x, x)
    t, a, b = _reduced(np.minimum(y, 8))
    near = t * (t + 1) * _fitted("gammaln", t + 1)
    near = near + np.where(y < 1, -np.log(np.absolute(b)), np.log(a))
    far = (y - 0.5) * (np.log(y) - 1) + (_LOG_ROOT_2PI - 0.5) + _stirling(y)
    out = np.where(y < 8, near, far)
    sine = np.absolute(_sin_pi(y))
    reflected = np.where(sine == 0, np.inf, np.log(np.pi / (y * sine)) - out)
    out = np.where(x < -0.5, reflected, out)
    return np.where(np.absolute(x) == np.inf, x, out)


@_in_double
def digamma(x: Any) -> Any:
    """The derivative of log(gamma(x))."""
    y = np.where(x < -0.5, -x, x)
    t = np.where(y < 1, y, np.where(y < 3, y - 1, y - np.floor(y) + 1))
    near = ((1 + t - _DIGAMMA_ROOT[0]) - _DIGAMMA_ROOT[1]) * _fitted("digamma", t + 0.5)
    near = near - np.where(y < 1, 1 / y, 0)
    for k in range(1, 8):
        near = near + np.where(y - k < 2, 0, 1 / (y - k))
    terms = [b / (2 * k) for k, b in enumerate(_BERNOULLI, 1)]  # DLMF 5.11.2
    v = 1 / (y * y)
    far = np.log(y) - 0.5 / y - v * _polynomial(terms, v)
    out = np.where(y < 10, near, far)
    beside = y - np.rint(y)
    reflected = np.where(beside == 0, np.nan, out + 1 / y + np.pi / np.tan(np.pi * beside))
    return np.where(x < -0.5, reflected, out)


psi = digamma


def _zeta(s: Any, q: Any) -> Any:
    """Hurwitz's zeta function, the sum of (q + k)**-s for k = 0, 1 ..., for q > 0.

    The first terms, and the Euler-Maclaurin formula for the others, as in Johansson, "Rigorous
    high-precision computation of the Hurwitz zeta function and its derivatives" (2015).
    """
    count = 10
    total = 0.0
    for k in range(count):
        total = total + np.power(q + k, -s)
    x = q + count
    power = np.power(x, -s)
    total = total + np.power(x, 1 - s) / (s - 1) + 0.5 * power
    factor = power * s / x
    for k, b in enumerate(_BERNOULLI, 1):
        total = total + factor * (b / math.factorial(2 * k))
        factor = factor * ((s + 2 * k - 1) * (s + 2 * k) / (x * x))
    return total


@_in_double
def polygamma(n: Any, x: Any) -> Any:
    """The n-th derivative of `digamma`, by Hurwitz's zeta function (DLMF 25.11.12)."""
    s = n + 1
    above = np.floor(x) + 1 - x
    # A negative x adds finitely many terms (x + k)**-s with x + k < 0: a difference of two sums.
    sign = np.where(np.fmod(n, 2) == 0, -1, 1)
    start = np.where(x < 0, x - np.floor(x), x)
    total = _zeta(s, start)
    mirrored = total + sign * (_zeta(s, above) - _zeta(s, 1 - x))
    total = np.where(x < 0, mirrored, total)
    return np.where(n == 0, digamma(x), sign * gamma(s) * total)


# -- the beta function


def _shrinkage(a: Any, b: Any) -> Any:
    """log(gamma(b) / gamma(a + b)) + a * log(a + b) for b >= 8."""
    return a - (b - 0.5) * np.log1p(a / b) + _stirling(b) - _stirling(a + b)


def _limits(a: Any, b: Any) -> tuple[Any, Any, Any, Any]:
    """The smaller number, the larger one, a sign, and `beta` where it is 0 or infinite, else NaN.

    For an integer a <= 0, the limit is infinite, unless b is an integer with 0 < b <= -a: then it
    is (-1)**b * beta(1 - a - b, b).
    """
    a, b = np.minimum(a, b), np.maximum(a, b)
    pole = (a <= 0) & (np.rint(a) == a)
    finite = pole & (np.rint(b) == b) & (b > 0) & (a + b < 1)
    limit = np.where(pole & ~finite, np.inf, np.where((b == np.inf) & (a > 0), 0, np.nan))
    sign = np.where(finite & (np.fmod(b, 2) != 0), -1, 1)
    a = np.where(finite, 1 - a - b, a)
    return np.minimum(a, b), np.maximum(a, b), sign, limit


@_in_double
def beta(a: Any, b: Any) -> Any:
    """gamma(a) * gamma(b) / gamma(a + b)."""
    a, b, sign, limit = _limits(a, b)
    total = a + b
    near = gamma(a) * (gamma(b) * rgamma(total))
    middle = gamma(a) * np.power(total, -a) * np.exp(_shrinkage(a, b))
    far = gammasgn(a) * gammasgn(b) * gammasgn(total) * np.exp(betaln(a, b))
    y = np.where((a > 0) & (a < 8), middle, far)
    y = sign * np.where((a > -100) & (b < 8), near, y)
    return np.where(np.isnan(limit), y, limit)


@_in_double
def betaln(a: Any, b: Any) -> Any:
    """The logarithm of the absolute value of `beta`."""
    a, b, _, limit = _limits(a, b)
    total = a + b
    near = gammaln(a) + gammaln(b) - gammaln(total)
    middle = gammaln(a) + _shrinkage(a, b) - a * np.log(total)
    far = (
        _LOG_ROOT_2PI + _stirling(a) + _stirling(b) - _stirling(total) - 0.5 * np.log(total)
        - (a - 0.5) * np.log1p(b / a) - (b - 0.5) * np.log1p(a / b)
    )  # fmt: skip
    y = np.where((a <= 0) | (b < 8), near, np.where(a < 8, middle, far))
    return np.where(np.isnan(limit), y, np.log(limit))


# -- modified Bessel functions of the first kind


@_in_double
def bessel_i(x: Any, n: int, scaled: bool = False) -> Any:
    """The function of a small integer order n; if it is scaled, divided by exp(abs(x))."""
    n = abs(n)
    z = np.absolute(x)
    # The power series (DLMF 10.25.2) has no negative terms. From 20 on, the asymptotic expansion
    # (10.40.1), whose first 26 terms decrease.
    half = np.minimum(z, 20) / 2
    square = half * half
    series = [1 / (math.factorial(k) * math.factorial(k + n)) for k in range(42)]
    near = half**n * _polynomial(series, square)
    near = near + near * (_lost(half, square) / (1 + half))  # about the derivative by the square
    terms = [1.0]
    for k in range(1, 26):
        terms.append(-terms[-1] * (4 * n * n - (2 * k - 1) ** 2) / (8 * k))
    large = np.clip(z, 20, None if scaled else 1000)  # 1000: infinite in every precision
    far = _polynomial(terms, 1 / large) / (math.sqrt(2 * math.pi) * np.sqrt(large))
    if scaled:
        y = np.where(z < 20, near * np.exp(-2 * half), far)
    else:
        root = np.exp(large / 2)  # its square might overflow
        y = np.where(z < 20, near, far * root * root)
    return np.copysign(y, x) if n % 2 else y


def i0(x: Any) -> Any:
    """The modified Bessel function of the first kind of order 0."""
    return bessel_i(x, 0)


def i0e(x: Any) -> Any:
    """exp(-abs(x)) * i0(x)."""
    return bessel_i(x, 0, True)


def i1(x: Any) -> Any:
    """The modified Bessel function of the first kind of order 1."""
    return bessel_i(x, 1)


def i1e(x: Any) -> Any:
    """exp(-abs(x)) * i1(x)."""
    return bessel_i(x, 1, True)
