"""Differentiable special functions, under the names of `scipy.special`.

The functions with a docstring here need only NumPy. The others are SciPy's own functions, imported
when one of them is first used: `tg.special.erf` is `scipy.special.erf`, and both take tensors.
Without SciPy, the most common ones are computed in NumPy, to the same digits (see
`approximations`): beta, betaln, digamma (psi), erf, erfc, erfcinv, erfcx, erfinv, gamma, gammaln,
i0, i0e, i1, i1e, log_ndtr, ndtr, ndtri and rgamma. The others raise an ImportError that says what
to install. All return infinities and NaNs without warnings, as SciPy's functions do.

>>> x = tg.Tensor([0.0, 1000.0], requires_grad=True)
>>> tg.special.logsumexp(x)
Tensor(1000., requires_grad=True)
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import approximations
from .engine.arrays import sum_axes
from .engine.custom import differentiable
from .engine.registry import Form, shown_as
from .engine.tensor import Tensor
from .engine.typing import Axis, F, Function
from .errors import optional
from .guide import guided, of_module

__all__ = [
    "entr",
    "expit",
    "kl_div",
    "log_expit",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "polygamma",
    "rel_entr",
    "softmax",
    "xlog1py",
    "xlogy",
]

_SCIPYS = (
    "beta", "betainc", "betaincc", "betainccinv", "betaincinv", "betaln", "binom", "dawsn",
    "digamma", "erf", "erfc", "erfcinv", "erfcx", "erfi", "erfinv", "exp1", "exp10", "expi", "expn",
    "gamma", "gammainc", "gammaincc", "gammainccinv", "gammaincinv", "gammaln", "i0", "i0e", "i1",
    "i1e", "iv", "ive", "j0", "j1", "jv", "k0", "k0e", "k1", "k1e", "kn", "kv", "kve", "log_ndtr",
    "loggamma", "ndtr", "ndtri", "ndtri_exp", "poch", "psi", "rgamma", "shichi", "sici", "stdtr",
    "stdtrit", "y0", "y1", "yn", "yv",
)  # fmt: skip


_absent = of_module(__name__)


def __getattr__(name: str) -> Callable[..., Tensor]:
    """Look up a function in SciPy, or its approximation."""
    if name not in _SCIPYS:
        return _absent(name)
    found: Any
    try:
        found = inspect.unwrap(getattr(optional("scipy.special", name), name))
    except ImportError:
        if needs_scipy(name):
            raise
        found = _operation(getattr(approximations, name))
    globals()[name] = found
    importlib.import_module(f"{__package__}.rules.special")  # registers its derivatives
    return found


def __dir__() -> list[str]:
    return [*__all__, *_SCIPYS]


def needs_scipy(name: str) -> bool:
    """Return whether a function of this module needs SciPy.

    >>> tg.special.needs_scipy("jv"), tg.special.needs_scipy("erf")
    (True, False)
    """
    return name in _SCIPYS and name not in approximations.__all__


@functools.cache
def _operation(fun: F) -> F:
    """Make an approximation an operation; its derivatives are set in `rules.special`."""
    return silent(*[None] * len(inspect.signature(fun).parameters))(fun)


def silent(*vjps: Function | None, form: Form | None = "elementwise") -> Callable[[F], F]:
    """Make a function an operation, as `differentiable` does, that computes without warnings.

    If the result is right, an overflow or underflow of an intermediate result needs no warning. The
    same holds for the derivatives. The function receives its arrays in one floating dtype: float64
    for integers, and float32 for float16; the result is converted back to float16.
    """
    quiet = np.errstate(all="ignore")

    def decorate(fun: F) -> F:
        parameters = inspect.signature(fun)

        @functools.wraps(fun)
        def computed(*args: Any, **kwargs: Any) -> Any:
            if kwargs:
                bound = parameters.bind(*args, **kwargs)
                args, kwargs = bound.args, bound.kwargs
            arrays = [
                a if hasattr(a, "dtype") or isinstance(a, (int, float)) else np.asarray(a)
                for a in args[: len(vjps)]
            ]
            dtype = np.result_type(*arrays)
            work = np.float32 if dtype.char == "e" else np.result_type(dtype, 1.0)
            arrays = [
                a.astype(work, copy=False) if hasattr(a, "astype") else np.asarray(a, work)
                for a in arrays
            ]
            out = fun(*arrays, *args[len(vjps) :], **kwargs)
            return out.astype(dtype) if dtype.char == "e" else out

        quiet_vjps = [vjp and quiet(vjp) for vjp in vjps]
        return differentiable(*quiet_vjps, form=form)(quiet(computed))  # type: ignore[return-value]

    return decorate


# -- the logistic function


@silent(lambda g, y, _x: g * (y * (1 - y)))
def expit(x: Any) -> Tensor:
    """Return the logistic function, 1 / (1 + exp(-x)), which is also `tg.nn.sigmoid`.

    >>> tg.special.expit(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return 1 / (1 + np.exp(-x))


def magnitude(x: Any) -> Any:
    """Return `x` or `-x`, whichever has the larger real part: of real numbers, the absolute value.

    >>> from tensorgrad.special import magnitude
    >>> magnitude(np.array([-2.0, 3.0])), magnitude(np.array([-2.0 + 1j]))
    (array([2., 3.]), array([2.-1.j]))
    """
    return np.maximum(x, -x) if x.dtype.kind == "c" else np.absolute(x)


@silent(lambda g, _y, x: g * expit(-x))
def log_expit(x: Any) -> Tensor:
    """Return the logarithm of the logistic function, which is also `tg.nn.log_sigmoid`.

    >>> tg.special.log_expit(np.array([-1000.0, 1000.0]))
    array([-1000.,     0.])
    """
    return np.minimum(x, 0) - np.log1p(np.exp(-magnitude(x)))


@silent(lambda g, _y, x: g / (x * (1 - x)))
def logit(x: Any) -> Tensor:
    """Return log(x / (1 - x)), the inverse of `expit`: infinite at 0 and 1, NaN beyond.

    >>> tg.special.logit(np.array([0.0, 0.5, 1.0]))
    array([-inf,   0.,  inf])
    """
    # Around 1/2 the quotient is near 1, and rounding it would cost the logarithm its digits.
    middle = (x > 0.25) & (x < 0.75)
    return np.where(middle, 2 * np.arctanh(2 * x - 1), np.log(x / (1 - x)))


# -- products with a logarithm, and entropy


def ratio(x: Any, y: Any) -> Any:
    """The quotient x / y, with 0 / 0 = 0."""
    return x / np.where((x == 0) & ~(np.absolute(y) > 0), 1, y)


@silent(lambda g, _z, _x, y: g * np.log(y), lambda g, _z, x, y: g * ratio(x, y))
def xlogy(x: Any, y: Any) -> Tensor:
    """Return x * log(y), which is 0 for x = 0, unless y is NaN.

    The derivative by x is log(y) everywhere, -inf at y = 0. The derivative by y is 0 for x = 0.

    >>> tg.special.xlogy(np.array([0.0, 2.0]), np.array([0.0, 1.0]))
    array([0., 0.])
    """
    return np.where((x == 0) & (y == y), 0, x * np.log(y))  # type: ignore[return-value]


@silent(lambda g, _z, _x, y: g * np.log1p(y), lambda g, _z, x, y: g * ratio(x, 1 + y))
def xlog1py(x: Any, y: Any) -> Tensor:
    """Return x * log(1 + y), which is 0 for x = 0, unless y is NaN.

    The derivatives at x = 0 and y = -1 are like those of `xlogy`.

    >>> tg.special.xlog1py(np.array([0.0, 1.0]), np.array([-1.0, 1e-20]))
    array([0.e+00, 1.e-20])
    """
    return np.where((x == 0) & (y == y), 0, x * np.log1p(y))  # type: ignore[return-value]


@silent(lambda g, _y, x: -g * (np.log(x) + 1))
def entr(x: Any) -> Tensor:
    """Return the entropy -x * log(x), which is 0 at 0 and -inf below.

    >>> tg.special.entr(np.array([-1.0, 0.0, 1.0]))
    array([-inf,  -0.,  -0.])
    """
    return np.where(x < 0, -np.inf, -x * np.log(np.where(x == 0, 1, x)))  # type: ignore[return-value]


@silent(lambda g, _z, x, _y: g / x, lambda g, _z, _x, y: -g / y)
@shown_as("rel_entr")
def _log_ratio(x: Any, y: Any) -> Any:
    """log(x / y), exact where it is near 0, and where x / y overflows or underflows."""
    near, quotient = np.log1p((x - y) / y), x / y
    tiny = np.finfo(quotient.dtype).tiny
    plain = (quotient > tiny) & (quotient < np.inf)
    far = np.where(plain, np.log(quotient), np.log(x) - np.log(y))
    return np.where((quotient > 0.5) & (quotient < 2), near, far)


@silent(lambda g, _z, x, y: g * (_log_ratio(x, y) + 1), lambda g, _z, x, y: -g * ratio(x, y))
def rel_entr(x: Any, y: Any) -> Tensor:
    """Return x * log(x / y), which is 0 for x = 0 and y >= 0, and infinite for a negative number.

    The derivative by y is 0 for x = 0.

    >>> tg.special.rel_entr(np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0]))
    array([ 0.,  0., inf])
    """
    value = np.where(x == 0, 0, np.where((x > 0) & (y > 0), x * _log_ratio(x, y), np.inf))
    return np.where(np.isnan(x) | np.isnan(y), np.nan, np.where((x < 0) | (y < 0), np.inf, value))  # type: ignore[return-value]


@silent(lambda g, _z, x, y: g * _log_ratio(x, y), lambda g, _z, x, y: g * (1 - ratio(x, y)))
def kl_div(x: Any, y: Any) -> Tensor:
    """Return x * log(x / y) - x + y, the Kullback-Leibler divergence, which is never negative.

    >>> tg.special.kl_div(np.array([0.0, 1.0, 1.0]), np.array([0.5, 1.0, 0.0]))
    array([0.5, 0. , inf])
    """
    return rel_entr(x, y) - x + y


# -- sums of exponentials


def _sum(x: Any, axis: Axis) -> Any:
    return sum_axes(x, axis, keepdims=True)


def _largest(x: Any, axis: Axis) -> Any:
    return np.max(x, axis=axis, keepdims=True, initial=-np.inf)


@guided
@silent(lambda g, y, _x, axis=None: y * (g - _sum(g * y, axis)), form=None)
def softmax(x: Any, axis: Axis = None) -> Tensor:
    """Return exp(x) / sum(exp(x)), where the sum is over `axis`: an int, a tuple, or None for all.

    NaN if all terms of a sum are exp(-inf). `tg.nn.softmax` is the same over the last axis.

    >>> tg.special.softmax(np.array([1e4, 1e4, -1e4]))
    array([0.5, 0.5, 0. ])
    """
    terms = np.exp(x - _largest(x, axis))
    return terms / _sum(terms, axis)


@guided
@silent(lambda g, y, _x, axis=None: g - np.exp(y) * _sum(g, axis), form=None)
def log_softmax(x: Any, axis: Axis = None) -> Tensor:
    """Return the logarithm of `softmax`: x - logsumexp(x), over `axis`.

    `tg.nn.log_softmax` is the same over the last axis.

    >>> tg.special.log_softmax(np.array([1e4, -1e4]))
    array([     0., -20000.])
    """
    x = x - _largest(x, axis)
    return x - np.log(_sum(np.exp(x), axis))


@guided
def logsumexp(a: Any, axis: Axis = None, b: Any = None, keepdims: bool = False) -> Tensor:
    """Return log(sum(b * exp(a))), where the sum is over `axis`: an int, a tuple, or None for all.

    The weights `b` are 1 by default, may be negative, and broadcast with `a`. Elements with weight
    0 are ignored, even infinite ones. The result is -inf for an empty sum, NaN for a negative one.

    >>> tg.special.logsumexp(np.array([1e4, 1e4]), b=np.array([2, -1]))
    array(10000.)
    """
    if b is None:
        return _log_sum(a, axis, keepdims)
    return _log_weighted_sum(a, b, axis, keepdims)


def _weigh(b: Any, terms: Any) -> Any:
    return terms if b is None else b * np.where((b == 0) & ~np.isfinite(terms), 0, terms)


def _log_of_sum(a: Any, b: Any, axis: Axis, keepdims: bool) -> Any:
    top = _largest(a if b is None else np.where(b == 0, -np.inf, a), axis)
    top = np.where(np.isfinite(top), top, 0)
    y = np.log(_sum(_weigh(b, np.exp(a - top)), axis)) + top
    return y if keepdims else np.squeeze(y, axis)


def _terms(g: Any, y: Any, a: Any, b: Any, axis: Axis, keepdims: bool) -> Any:
    """The cotangent times exp(a - y)."""
    if axis is not None and not keepdims:
        g, y = np.expand_dims(g, axis), np.expand_dims(y, axis)
    terms = np.exp(a - y)
    # Their sum is 1, except for the rounding error of y, which for large y costs most digits.
    total = _sum(_weigh(b, terms), axis)
    return g * (terms / np.where(np.isfinite(y), total, 1))


@silent(lambda g, y, a, axis, keepdims: _terms(g, y, a, None, axis, keepdims), form=None)
@shown_as("logsumexp")
def _log_sum(a: Any, axis: Axis, keepdims: bool) -> Any:
    return _log_of_sum(a, None, axis, keepdims)


@silent(
    lambda g, y, a, b, axis, keepdims: _weigh(b, _terms(g, y, a, b, axis, keepdims)),
    lambda g, y, a, b, axis, keepdims: np.broadcast_to(
        _terms(g, y, a, b, axis, keepdims), np.broadcast_shapes(np.shape(a), np.shape(b))
    ),
    form=None,
)
@shown_as("logsumexp")
def _log_weighted_sum(a: Any, b: Any, axis: Axis, keepdims: bool) -> Any:
    return _log_of_sum(a, b, axis, keepdims)


# -- functions related to the gamma function


def multigammaln(a: Any, d: int) -> Tensor:
    """Return the logarithm of the multivariate gamma function of dimension `d`.

    log(pi) * d * (d - 1) / 4 + sum(gammaln(a - i / 2) for i in range(d)), DLMF 35.3.4, and NaN
    unless a > (d - 1) / 2.

    >>> tg.special.multigammaln(np.array([1.0, 2.0]), 1)
    array([0., 0.])
    """
    if np.size(d) != 1 or d < 1 or d != int(d):
        raise ValueError(f"multigammaln: d must be a positive integer, not {d!r}")
    a = a if hasattr(a, "dtype") else np.asarray(a)
    gammaln = __getattr__("gammaln")
    total: Any = d * (d - 1) / 4 * math.log(math.pi)
    for i in range(int(d)):
        total = total + np.where(2 * a > d - 1, gammaln(a - i / 2), np.nan)
    return total


def _polygamma_back(g: Any, _y: Any, n: Any, x: Any) -> Any:
    return g * polygamma(n + 1, x)


@silent(None, _polygamma_back)
def polygamma(n: Any, x: Any) -> Tensor:
    """Return the `n`-th derivative of `digamma` at `x`, where `n` are integers of 0 or more.

    >>> tg.grad(lambda x: tg.special.polygamma(0, x))(1.0)
    array(1.64493407)
    """
    try:
        return optional("scipy.special", "polygamma").polygamma(n, x)
    except ImportError:
        return approximations.polygamma(n, x)
