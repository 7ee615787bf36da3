"""The derivatives of SciPy's special functions, and of the approximations that replace them.

This module is imported when such a function is first called on a tracked tensor, or is first
looked up in `special`. Formulas are those of the Digital Library of Mathematical Functions (DLMF),
https://dlmf.nist.gov, where a comment gives their number, or follow from the definition.
"""

import importlib
import inspect
import math
from typing import Any

import numpy as np

from .. import approximations, special as sp
from ..engine import registry
from ..engine.typing import Function
from ..errors import NoRuleError
from .bessel import bessel_i

scipy: Any
try:
    scipy = importlib.import_module("scipy.special")
except ImportError:
    scipy = None

_ROOT_PI = math.sqrt(math.pi)
_ROOT_2PI = math.sqrt(2 * math.pi)


def rule(name: str, *vjps: Function | None) -> None:
    """Set the derivatives of a function by its name, which compute without warnings, as it does.

    Without SciPy, functions that have no approximation are skipped.
    """
    quiet = np.errstate(all="ignore")
    if scipy is not None:
        fun = inspect.unwrap(getattr(scipy, name))
    elif name in approximations.__all__:
        fun = getattr(sp, name)
    else:
        return
    registry.rule(fun, *(vjp and quiet(vjp) for vjp in vjps))


for _own in (  # SciPy's functions of the same names have the same derivatives
    sp.entr, sp.expit, sp.kl_div, sp.log_expit, sp.logit, sp.rel_entr, sp.xlog1py, sp.xlogy,
):  # fmt: skip
    rule(_own.__name__, *registry.RULES[_own].vjps)


# -- the error function and the normal distribution


def _bell(x: Any) -> Any:
    """The derivative of erf."""
    return 2 / _ROOT_PI * np.exp(-x * x)


def _erfcx_back(g: Any, _y: Any, x: Any) -> Any:
    if x.dtype.kind == "c":
        return g * (2 * (x * sp.erfcx(x) - 1 / _ROOT_PI))
    x = x.astype(np.float64)  # the difference below cancels: a part 1 / (2 x**2) remains
    near = x < 12
    v = 0.5 / np.square(np.where(near, 12, x))
    series: Any = 0.0
    for n in range(21, 0, -2):  # DLMF 7.12.1
        series = n * v * (1 - series)
    product = x * sp.erfcx(np.where(near, x, 12))
    return g * (2 * np.where(near, product - 1 / _ROOT_PI, -series / _ROOT_PI))


rule("erf", lambda g, _y, x: g * _bell(x))
rule("erfc", lambda g, _y, x: -g * _bell(x))
rule("erfcx", _erfcx_back)
rule("erfi", lambda g, _y, x: g * (2 / _ROOT_PI * np.exp(x * x)))
rule("dawsn", lambda g, y, x: g * (1 - 2 * x * y))
rule("erfinv", lambda g, y, _x: g / _bell(y))
rule("erfcinv", lambda g, y, _x: -g / _bell(y))
rule("ndtr", lambda g, _y, x: g * (np.exp(-0.5 * x * x) / _ROOT_2PI))
rule("log_ndtr", lambda g, _y, x: g * (math.sqrt(2 / math.pi) / sp.erfcx(-x / math.sqrt(2))))
rule("ndtri", lambda g, y, _x: g * (np.exp(0.5 * y * y) * _ROOT_2PI))
rule("ndtri_exp", lambda g, y, x: g * (np.exp(x + 0.5 * y * y) * _ROOT_2PI))


# -- the gamma function, and functions of it (psi: DLMF 5.2.2)


def _rgamma_back(g: Any, y: Any, x: Any) -> Any:
    """By the reflection formula, DLMF 5.5.3, where x < 0.5: gamma has its poles there."""
    reflect = x < 0.5
    mirror, x = np.where(reflect, 1 - x, 1), np.where(reflect, 1, x)
    angle = math.pi * mirror
    wave = np.sin(angle) * sp.psi(mirror) / math.pi + np.cos(angle)
    return g * np.where(reflect, -sp.gamma(mirror) * wave, -y * sp.psi(x))


rule("gamma", lambda g, y, x: g * y * sp.psi(x))
rule("gammaln", lambda g, _y, x: g * sp.psi(x))
rule("loggamma", lambda g, _y, x: g * sp.psi(x))
rule("rgamma", _rgamma_back)
rule("psi", lambda g, _y, x: g * sp.polygamma(1, x))
rule("beta", lambda g, z, a, b: g * z * (sp.psi(a) - sp.psi(a + b)),
             lambda g, z, a, b: g * z * (sp.psi(b) - sp.psi(a + b)))  # fmt: skip
rule("betaln", lambda g, _z, a, b: g * (sp.psi(a) - sp.psi(a + b)),
               lambda g, _z, a, b: g * (sp.psi(b) - sp.psi(a + b)))  # fmt: skip
rule("poch", lambda g, z, a, m: g * z * (sp.psi(a + m) - sp.psi(a)),
             lambda g, z, a, m: g * z * sp.psi(a + m))  # fmt: skip
rule("binom", lambda g, z, n, k: g * z * (sp.psi(n + 1.0) - sp.psi(n - k + 1.0)),
              lambda g, z, n, k: g * z * (sp.psi(n - k + 1.0) - sp.psi(k + 1.0)))  # fmt: skip
if scipy is not None:
    registry.piecewise_constant(scipy.gammasgn)


def _gammainc_slope(a: Any, x: Any) -> Any:
    """The derivative of the regularized incomplete gamma function, DLMF 8.8.13."""
    return np.exp(sp.xlogy(a - 1.0, x) - x - sp.gammaln(a))


def _betainc_slope(a: Any, b: Any, x: Any) -> Any:
    """The derivative of the regularized incomplete beta function, DLMF 8.17.1."""
    return np.exp(sp.xlogy(a - 1.0, x) + sp.xlog1py(b - 1.0, -x) - sp.betaln(a, b))


rule("gammainc", None, lambda g, _z, a, x: g * _gammainc_slope(a, x))
rule("gammaincc", None, lambda g, _z, a, x: -g * _gammainc_slope(a, x))
rule("gammaincinv", None, lambda g, z, a, _p: g / _gammainc_slope(a, z))
rule("gammainccinv", None, lambda g, z, a, _p: -g / _gammainc_slope(a, z))
rule("betainc", None, None, lambda g, _z, a, b, x: g * _betainc_slope(a, b, x))
rule("betaincc", None, None, lambda g, _z, a, b, x: -g * _betainc_slope(a, b, x))
rule("betaincinv", None, None, lambda g, z, a, b, _p: g / _betainc_slope(a, b, z))
rule("betainccinv", None, None, lambda g, z, a, b, _p: -g / _betainc_slope(a, b, z))


def _t_density(df: Any, x: Any) -> Any:
    """The density of Student's t distribution, the derivative of stdtr: DLMF 8.17.1."""
    power = (df + 1) / 2 * np.log1p(x * x / df) + 0.5 * np.log(df)
    return np.exp(-power - sp.betaln(df / 2, 0.5))


rule("stdtr", None, lambda g, _y, df, x: g * _t_density(df, x))
rule("stdtrit", None, lambda g, y, df, _p: g / _t_density(df, y))


# -- exponentials, and their integrals (DLMF 6.2 and 8.19.13)

rule("expm1", lambda g, y, _x: g * (y + 1))
rule("exp2", lambda g, y, _x: g * (y * math.log(2)))
rule("exp10", lambda g, y, _x: g * (y * math.log(10)))
rule("log1p", lambda g, _y, x: g / (x + 1))
rule("cbrt", lambda g, y, _x: g / (3 * y * y))
rule("expi", lambda g, _y, x: g * (np.exp(x) / x))
rule("exp1", lambda g, _y, x: -g * (np.exp(-x) / x))
rule("expn", None, lambda g, _y, n, x: -g * scipy.expn(n - 1, x))
rule("sici", lambda g, _y, x: g[0] * np.sinc(x / math.pi) + g[1] * (np.cos(x) / x))
rule("shichi", lambda g, _y, x: g[0] * (np.sinh(x) / x) + g[1] * (np.cosh(x) / x))


# -- Bessel functions: derivatives by the argument (DLMF 10.6.1 and 10.29.1)


def _mean(fun: Function, order: Any, x: Any) -> Any:
    """The mean of the functions of the orders before and after."""
    return 0.5 * (fun(order - 1.0, x) + fun(order + 1.0, x))


def _half_difference(fun: Function, order: Any, x: Any) -> Any:
    return 0.5 * (fun(order - 1.0, x) - fun(order + 1.0, x))


rule("j0", lambda g, _y, x: -g * sp.j1(x))
rule("y0", lambda g, _y, x: -g * sp.y1(x))
rule("i0", lambda g, _y, x: g * sp.i1(x))
rule("k0", lambda g, _y, x: -g * sp.k1(x))
rule("j1", lambda g, _y, x: g * (0.5 * (sp.j0(x) - sp.jv(2, x))))
rule("y1", lambda g, _y, x: g * (0.5 * (sp.y0(x) - sp.yv(2, x))))
rule("i1", lambda g, _y, x: g * (0.5 * (sp.i0(x) + bessel_i(x, 2))))
rule("k1", lambda g, _y, x: -g * (0.5 * (sp.k0(x) + sp.kv(2, x))))
rule("jv", None, lambda g, _y, v, x: g * _half_difference(sp.jv, v, x))
rule("yv", None, lambda g, _y, v, x: g * _half_difference(sp.yv, v, x))
rule("yn", None, lambda g, _y, n, x: g * _half_difference(sp.yv, n, x))
rule("iv", None, lambda g, _y, v, x: g * _mean(sp.iv, v, x))
rule("kv", None, lambda g, _y, v, x: -g * _mean(sp.kv, v, x))
rule("kn", None, lambda g, _y, n, x: -g * _mean(sp.kv, n, x))

# I scaled by exp(-|x|), which has a corner at 0, and K scaled by exp(x).


def _ive_back(g: Any, y: Any, v: Any, x: Any) -> Any:
    if x.dtype.kind == "c":
        raise NoRuleError(
            "ive of complex numbers is scaled by exp(-|x.real|), and has no derivative rule: use iv"
        )
    return g * (_mean(sp.ive, v, x) - np.sign(x) * y)


rule("i0e", lambda g, y, x: g * (sp.i1e(x) - np.sign(x) * y))
rule("i1e", lambda g, y, x: g * (0.5 * (sp.i0e(x) + bessel_i(x, 2, True)) - np.sign(x) * y))
rule("ive", None, _ive_back)
rule("k0e", lambda g, y, x: g * (y - scipy.k1e(x)))
rule("k1e", lambda g, y, x: g * (y - 0.5 * (scipy.k0e(x) + scipy.kve(2, x))))
rule("kve", None, lambda g, y, v, x: g * (y - _mean(scipy.kve, v, x)))
