"""SciPy's special functions; imported when one of them is first called on a tracked tensor."""

import importlib
import inspect
import math
from typing import Any

import numpy as np

from .. import graph, special
from ..graph import Function

sp: Any = importlib.import_module("scipy.special")

_ROOT_PI = math.sqrt(math.pi)
_ROOT_2PI = math.sqrt(2 * math.pi)


def rule(fun: Function, *vjps: Function | None) -> None:
    """Set the derivatives of a function, which are as silent as SciPy's functions."""
    quiet = np.errstate(all="ignore")
    graph.rule(inspect.unwrap(fun), *(vjp and quiet(vjp) for vjp in vjps))


for _ours in (
    special.entr, special.expit, special.log_expit, special.logit, special.xlog1py, special.xlogy,
):  # fmt: skip
    graph.rule(inspect.unwrap(getattr(sp, _ours.__name__)), *graph.RULES[_ours].vjps)


# -- the error function and the normal distribution


def _bell(x: Any) -> Any:
    """The derivative of erf."""
    return 2 / _ROOT_PI * np.exp(-x * x)


def _erfcx_back(g: Any, _y: Any, x: Any) -> Any:
    x = x.astype(np.float64)  # the difference below cancels all but a fraction 1 / (2 x**2)
    near = x < 20
    v = 0.5 / np.square(np.where(near, 20, x))
    series: Any = 0.0
    for n in range(13, 0, -2):  # DLMF 7.12.1
        series = n * v * (1 - series)
    product = x * sp.erfcx(np.where(near, x, 20))
    return g * (2 * np.where(near, product - 1 / _ROOT_PI, -series / _ROOT_PI))


rule(sp.erf, lambda g, _y, x: g * _bell(x))
rule(sp.erfc, lambda g, _y, x: -g * _bell(x))
rule(sp.erfcx, _erfcx_back)
rule(sp.erfinv, lambda g, y, _x: g / _bell(y))
rule(sp.erfcinv, lambda g, y, _x: -g / _bell(y))
rule(sp.ndtr, lambda g, _y, x: g * (np.exp(-0.5 * x * x) / _ROOT_2PI))
rule(sp.log_ndtr, lambda g, _y, x: g * (math.sqrt(2 / math.pi) / sp.erfcx(-x / math.sqrt(2))))
rule(sp.ndtri, lambda g, y, _x: g * (np.exp(0.5 * y * y) * _ROOT_2PI))


# -- the gamma function

rule(sp.gamma, lambda g, y, x: g * y * sp.psi(x))
rule(sp.gammaln, lambda g, _y, x: g * sp.psi(x))
rule(sp.psi, lambda g, _y, x: g * special.polygamma(1, x))
rule(sp.beta, lambda g, z, a, b: g * z * (sp.psi(a) - sp.psi(a + b)),
              lambda g, z, a, b: g * z * (sp.psi(b) - sp.psi(a + b)))  # fmt: skip
rule(sp.betaln, lambda g, _z, a, b: g * (sp.psi(a) - sp.psi(a + b)),
                lambda g, _z, a, b: g * (sp.psi(b) - sp.psi(a + b)))  # fmt: skip


def _gammainc_back(g: Any, _z: Any, a: Any, x: Any) -> Any:
    return g * np.exp(special.xlogy(a - 1.0, x) - x - sp.gammaln(a))


def _betainc_back(g: Any, _z: Any, a: Any, b: Any, x: Any) -> Any:
    return g * np.exp(special.xlogy(a - 1.0, x) + special.xlog1py(b - 1.0, -x) - sp.betaln(a, b))


rule(sp.gammainc, None, _gammainc_back)
rule(sp.gammaincc, None, lambda g, _z, a, x: -_gammainc_back(g, _z, a, x))
rule(sp.betainc, None, None, _betainc_back)


# -- exponential integrals and relative entropy

rule(sp.expi, lambda g, _y, x: g * (np.exp(x) / x))
rule(sp.exp1, lambda g, _y, x: -g * (np.exp(-x) / x))
rule(
    sp.rel_entr,
    lambda g, _z, x, y: g * (np.log(x / y) + 1),
    lambda g, _z, x, y: -g * special.ratio(x, y),
)
rule(
    sp.kl_div,
    lambda g, _z, x, y: g * np.log(x / y),
    lambda g, _z, x, y: g * (1 - special.ratio(x, y)),
)


# -- Bessel functions, by their argument (DLMF 10.6.1 and 10.29.1)

rule(sp.j0, lambda g, _y, x: -g * sp.j1(x))
rule(sp.y0, lambda g, _y, x: -g * sp.y1(x))
rule(sp.i0, lambda g, _y, x: g * sp.i1(x))
rule(sp.k0, lambda g, _y, x: -g * sp.k1(x))
rule(sp.j1, lambda g, _y, x: g * (0.5 * (sp.j0(x) - sp.jv(2, x))))
rule(sp.y1, lambda g, _y, x: g * (0.5 * (sp.y0(x) - sp.yv(2, x))))
rule(sp.i1, lambda g, _y, x: g * (0.5 * (sp.i0(x) + sp.iv(2, x))))
rule(sp.k1, lambda g, _y, x: -g * (0.5 * (sp.k0(x) + sp.kv(2, x))))
rule(sp.jv, None, lambda g, _y, v, x: g * (0.5 * (sp.jv(v - 1.0, x) - sp.jv(v + 1.0, x))))
rule(sp.yv, None, lambda g, _y, v, x: g * (0.5 * (sp.yv(v - 1.0, x) - sp.yv(v + 1.0, x))))
rule(sp.iv, None, lambda g, _y, v, x: g * (0.5 * (sp.iv(v - 1.0, x) + sp.iv(v + 1.0, x))))
rule(sp.kv, None, lambda g, _y, v, x: -g * (0.5 * (sp.kv(v - 1.0, x) + sp.kv(v + 1.0, x))))

# Those scaled by exp(-|x|) have a corner at 0.
rule(sp.i0e, lambda g, y, x: g * (sp.i1e(x) - np.sign(x) * y))
rule(sp.i1e, lambda g, y, x: g * (0.5 * (sp.i0e(x) + sp.ive(2, x)) - np.sign(x) * y))
rule(
    sp.ive,
    None,
    lambda g, y, v, x: g * (0.5 * (sp.ive(v - 1.0, x) + sp.ive(v + 1.0, x)) - np.sign(x) * y),
)
