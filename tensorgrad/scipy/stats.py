"""Distributions, under the names of `scipy.stats`, with derivatives by points and parameters.

`tg.scipy.stats.norm.logpdf(x, loc, scale)` is SciPy's, for tensors. Most functions need no SciPy:
`cdf` and `sf` do, and `ppf`, of the families t, gamma, chi2, beta, poisson, binom and nbinom.

>>> x = np.array([1.0, 2.0, 6.0])
>>> tg.grad(lambda mean: np.sum(tg.scipy.stats.norm.logpdf(x, mean, 1.0)))(3.0)  # at its maximum
array(0.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import special as sp
from ..engine.tensor import Tensor
from ..guide import of_module
from .distributions import Continuous, Discrete, constant, within
from .operands import operand

__all__ = [
    "bernoulli",
    "beta",
    "binom",
    "cauchy",
    "chi2",
    "dirichlet",
    "expon",
    "gamma",
    "geom",
    "gumbel_l",
    "gumbel_r",
    "laplace",
    "logistic",
    "lognorm",
    "multivariate_normal",
    "nbinom",
    "norm",
    "poisson",
    "t",
    "uniform",
    "weibull_min",
]


def __dir__() -> list[str]:
    return __all__


__getattr__ = of_module(__name__)

_LOG_2 = math.log(2)
_LOG_2PI = math.log(2 * math.pi)


# -- on all real numbers


class Norm(Continuous):
    """The normal distribution, with the mean `loc` and the standard deviation `scale`."""

    def _logpdf(self, x: Any) -> Any:
        return -0.5 * x * x - 0.5 * _LOG_2PI

    def _cdf(self, x: Any) -> Any:
        return sp.ndtr(x)

    def _sf(self, x: Any) -> Any:
        return sp.ndtr(-x)

    def _logcdf(self, x: Any) -> Any:
        return sp.log_ndtr(x)

    def _logsf(self, x: Any) -> Any:
        return sp.log_ndtr(-x)

    def _ppf(self, q: Any) -> Any:
        return sp.ndtri(q)


class T(Continuous):
    """Student's t distribution with `df` degrees of freedom, by which `cdf` has no derivative."""

    shapes = ("df",)

    def _logpdf(self, x: Any, df: Any) -> Any:
        def total(df: Any) -> Any:
            ratio = sp.gammaln((df + 1) / 2) - sp.gammaln(df / 2)
            return 0.5 * np.log(df * math.pi) - ratio

        return -(df + 1) / 2 * np.log1p(x * x / df) - constant(total, df)

    def _cdf(self, x: Any, df: Any) -> Any:
        return sp.stdtr(df, x)

    def _sf(self, x: Any, df: Any) -> Any:
        return sp.stdtr(df, -x)

    def _ppf(self, q: Any, df: Any) -> Any:
        return np.where(q == 0, -math.inf, sp.stdtrit(df, q))


class Laplace(Continuous):
    """The Laplace distribution, exp(-|x|) / 2."""

    def _logpdf(self, x: Any) -> Any:
        return -np.abs(x) - _LOG_2

    def _cdf(self, x: Any) -> Any:
        tail = 0.5 * np.exp(-np.abs(x))
        return np.where(x > 0, 1 - tail, tail)

    def _sf(self, x: Any) -> Any:
        return self._cdf(-x)

    def _logcdf(self, x: Any) -> Any:
        outer = self._logpdf(x)
        return np.where(x > 0, np.log1p(-np.exp(outer)), outer)

    def _logsf(self, x: Any) -> Any:
        return self._logcdf(-x)

    def _ppf(self, q: Any) -> Any:
        return np.where(q < 0.5, np.log(2 * q), -np.log(2 * (1 - q)))


class Logistic(Continuous):
    """The logistic distribution, whose `cdf` is `expit`."""

    def _logpdf(self, x: Any) -> Any:
        return sp.log_expit(x) + sp.log_expit(-x)

    def _cdf(self, x: Any) -> Any:
        return sp.expit(x)

    def _sf(self, x: Any) -> Any:
        return sp.expit(-x)

    def _logcdf(self, x: Any) -> Any:
        return sp.log_expit(x)

    def _logsf(self, x: Any) -> Any:
        return sp.log_expit(-x)

    def _ppf(self, q: Any) -> Any:
        return sp.logit(q)


class Cauchy(Continuous):
    """The Cauchy distribution, 1 / (pi (1 + x**2))."""

    def _logpdf(self, x: Any) -> Any:
        return -math.log(math.pi) - np.log1p(x * x)

    def _cdf(self, x: Any) -> Any:
        return np.arctan2(1.0, -x) / math.pi

    def _sf(self, x: Any) -> Any:
        return np.arctan2(1.0, x) / math.pi

    def _ppf(self, q: Any) -> Any:
        return -np.cos(math.pi * q) / np.sin(math.pi * np.where(q < 0.5, q, 1 - q))


class Gumbel_R(Continuous):  # noqa: N801
    """The right-skewed Gumbel distribution, of a maximum."""

    def _logpdf(self, x: Any) -> Any:
        return -x - np.exp(-x)

    def _cdf(self, x: Any) -> Any:
        return np.exp(-np.exp(-x))

    def _sf(self, x: Any) -> Any:
        return -np.expm1(-np.exp(-x))

    def _logcdf(self, x: Any) -> Any:
        return -np.exp(-x)

    def _ppf(self, q: Any) -> Any:
        return -np.log(-np.log(q))


class Gumbel_L(Continuous):  # noqa: N801
    """The left-skewed Gumbel distribution, of a minimum."""

    def _logpdf(self, x: Any) -> Any:
        return x - np.exp(x)

    def _cdf(self, x: Any) -> Any:
        return -np.expm1(-np.exp(x))

    def _sf(self, x: Any) -> Any:
        return np.exp(-np.exp(x))

    def _logsf(self, x: Any) -> Any:
        return -np.exp(x)

    def _ppf(self, q: Any) -> Any:
        return np.log(-np.log1p(-q))


# -- on positive numbers


class Expon(Continuous):
    """The exponential distribution, exp(-x)."""

    support = (0.0, math.inf)

    def _logpdf(self, x: Any) -> Any:
        return -x

    def _cdf(self, x: Any) -> Any:
        return -np.expm1(-x)

    def _sf(self, x: Any) -> Any:
        return np.exp(-x)

    def _logsf(self, x: Any) -> Any:
        return -x

    def _ppf(self, q: Any) -> Any:
        return -np.log1p(-q)


class Gamma(Continuous):
    """The gamma distribution of shape `a`, by which `cdf` has no derivative."""

    shapes = ("a",)
    support = (0.0, math.inf)

    def _logpdf(self, x: Any, a: Any) -> Any:
        return sp.xlogy(a - 1, x) - x - constant(sp.gammaln, a)

    def _cdf(self, x: Any, a: Any) -> Any:
        return sp.gammainc(a, x)

    def _sf(self, x: Any, a: Any) -> Any:
        return sp.gammaincc(a, x)

    def _ppf(self, q: Any, a: Any) -> Any:
        return sp.gammaincinv(a, q)


class Chi2(Gamma):
    """The chi-squared distribution with `df` degrees of freedom: gamma of df / 2, with scale 2."""

    shapes = ("df",)

    def _logpdf(self, x: Any, df: Any) -> Any:
        return super()._logpdf(x / 2, df / 2) - _LOG_2

    def _cdf(self, x: Any, df: Any) -> Any:
        return super()._cdf(x / 2, df / 2)

    def _sf(self, x: Any, df: Any) -> Any:
        return super()._sf(x / 2, df / 2)

    def _ppf(self, q: Any, df: Any) -> Any:
        return 2 * super()._ppf(q, df / 2)


class Lognorm(Continuous):
    """The distribution of exp(s * z), where z is normal."""

    shapes = ("s",)
    support = (0.0, math.inf)
    closed = False

    def _logpdf(self, x: Any, s: Any) -> Any:
        logarithm = np.log(x)
        return norm._logpdf(logarithm / s) - constant(np.log, s) - logarithm

    def _cdf(self, x: Any, s: Any) -> Any:
        return sp.ndtr(np.log(x) / s)

    def _sf(self, x: Any, s: Any) -> Any:
        return sp.ndtr(-np.log(x) / s)

    def _logcdf(self, x: Any, s: Any) -> Any:
        return sp.log_ndtr(np.log(x) / s)

    def _logsf(self, x: Any, s: Any) -> Any:
        return sp.log_ndtr(-np.log(x) / s)

    def _ppf(self, q: Any, s: Any) -> Any:
        return np.exp(s * sp.ndtri(q))


class Weibull_Min(Continuous):  # noqa: N801
    """The Weibull distribution of shape `c`: sf is exp(-x**c)."""

    shapes = ("c",)
    support = (0.0, math.inf)

    def _logpdf(self, x: Any, c: Any) -> Any:
        return constant(np.log, c) + sp.xlogy(c - 1, x) - x**c

    def _cdf(self, x: Any, c: Any) -> Any:
        return -np.expm1(-(x**c))

    def _sf(self, x: Any, c: Any) -> Any:
        return np.exp(-(x**c))

    def _logsf(self, x: Any, c: Any) -> Any:
        return -(x**c)

    def _ppf(self, q: Any, c: Any) -> Any:
        return (-np.log1p(-q)) ** (1 / c)


# -- between bounds


class Uniform(Continuous):
    """The uniform distribution from `loc` to `loc + scale`."""

    support = (0.0, 1.0)

    def _logpdf(self, x: Any) -> Any:
        return x * 0.0

    def _cdf(self, x: Any) -> Any:
        return x * 1.0

    def _sf(self, x: Any) -> Any:
        return 1.0 - x

    def _ppf(self, q: Any) -> Any:
        return q


class Beta(Continuous):
    """The beta distribution of shapes `a` and `b`, by which `cdf` has no derivative."""

    shapes = ("a", "b")
    support = (0.0, 1.0)

    def _logpdf(self, x: Any, a: Any, b: Any) -> Any:
        return sp.xlogy(a - 1, x) + sp.xlog1py(b - 1, -x) - constant(sp.betaln, a, b)

    def _cdf(self, x: Any, a: Any, b: Any) -> Any:
        return sp.betainc(a, b, x)

    def _sf(self, x: Any, a: Any, b: Any) -> Any:
        return sp.betaincc(a, b, x)

    def _ppf(self, q: Any, a: Any, b: Any) -> Any:
        return sp.betaincinv(a, b, q)


# -- on whole numbers


class Poisson(Discrete):
    """The Poisson distribution with the mean `mu`."""

    shapes = ("mu",)

    def _range(self, mu: Any) -> tuple[Any, ...]:
        return (within(mu, -math.ulp(0.0)),)

    def _logpmf(self, k: Any, mu: Any) -> Any:
        return sp.xlogy(k, mu) - mu - sp.gammaln(k + 1)

    def _cdf(self, k: Any, mu: Any) -> Any:
        return sp.gammaincc(k + 1, mu)

    def _sf(self, k: Any, mu: Any) -> Any:
        return sp.gammainc(k + 1, mu)


def _probability(p: Any) -> Any:
    return within(p, -math.ulp(0.0), 1)


class Binom(Discrete):
    """The binomial distribution of `n` trials, each with the probability `p`."""

    shapes = ("n", "p")

    def _support(self, n: Any, _p: Any) -> tuple[Any, Any]:
        return 0, n

    def _range(self, n: Any, p: Any) -> tuple[Any, ...]:
        return within(n, -math.ulp(0.0)), _probability(p)

    def _logpmf(self, k: Any, n: Any, p: Any) -> Any:
        ways = -sp.betaln(n - k + 1, k + 1) - constant(np.log1p, n)
        return ways + sp.xlogy(k, p) + sp.xlog1py(n - k, -p)

    def _cdf(self, k: Any, n: Any, p: Any) -> Any:
        return sp.betaincc(k + 1, n - k, p)

    def _sf(self, k: Any, n: Any, p: Any) -> Any:
        return sp.betainc(k + 1, n - k, p)


class Bernoulli(Discrete):
    """One trial with the probability `p`."""

    shapes = ("p",)

    def _support(self, _p: Any) -> tuple[Any, Any]:
        return 0, 1

    def _range(self, p: Any) -> tuple[Any, ...]:
        return (_probability(p),)

    def _logpmf(self, k: Any, p: Any) -> Any:
        return sp.xlogy(k, p) + sp.xlog1py(1 - k, -p)

    def _cdf(self, k: Any, p: Any) -> Any:  # below 1, which is all that is asked for
        return 1 - p + 0 * k

    def _sf(self, k: Any, p: Any) -> Any:
        return p + 0 * k


class Nbinom(Discrete):
    """Failures before `n` successes, each with the probability `p`."""

    shapes = ("n", "p")

    def _range(self, n: Any, p: Any) -> tuple[Any, ...]:
        return within(n, 0), within(p, 0, 1)

    def _logpmf(self, k: Any, n: Any, p: Any) -> Any:
        ways = sp.gammaln(n + k) - sp.gammaln(k + 1) - constant(sp.gammaln, n)
        return ways + n * constant(np.log, p) + sp.xlog1py(k, -p)

    def _cdf(self, k: Any, n: Any, p: Any) -> Any:
        return sp.betainc(n, k + 1, p)

    def _sf(self, k: Any, n: Any, p: Any) -> Any:
        return sp.betaincc(n, k + 1, p)


class Geom(Discrete):
    """Trials up to the first success, each with the probability `p`."""

    shapes = ("p",)

    def _support(self, _p: Any) -> tuple[Any, Any]:
        return 1, math.inf

    def _range(self, p: Any) -> tuple[Any, ...]:
        return (within(p, 0, 1),)

    def _logpmf(self, k: Any, p: Any) -> Any:
        return sp.xlog1py(k - 1, -p) + constant(np.log, p)

    def _cdf(self, k: Any, p: Any) -> Any:
        return -np.expm1(self._logsf(k, p))

    def _sf(self, k: Any, p: Any) -> Any:
        return np.exp(self._logsf(k, p))

    def _logsf(self, k: Any, p: Any) -> Any:
        return sp.xlog1py(k, -p)


# -- of vectors


class MultivariateNormal:
    """The normal distribution of vectors."""

    def logpdf(self, x: Any, mean: Any = None, cov: Any = 1.0) -> Tensor:
        """Return the logarithm of the density at `x`, of shape (..., n).

        `cov` is a positive definite matrix, or a stack of them; or the variance of every component,
        or a vector of variances. The gradient by a matrix is symmetric. A LinAlgError is raised if
        it is not positive definite.

        >>> tg.scipy.stats.multivariate_normal.logpdf(np.zeros(2), cov=np.eye(2)).round(4)
        np.float64(-1.8379)
        """
        name = "multivariate_normal"
        x, cov = operand(x, name), operand(cov, name)
        if x.ndim == 0:
            x = x[None]
        if mean is not None:
            x = x - operand(mean, name)
        n = x.shape[-1]
        if cov.ndim < 2:
            cov = cov * np.eye(n)
        if cov.shape[-2:] != (n, n):
            raise ValueError(f"{name}: x of shape {x.shape} has no covariance of shape {cov.shape}")
        factor = np.linalg.cholesky((cov + cov.mT) / 2)
        white = np.linalg.solve(factor, x[..., None])[..., 0]
        spread = np.sum(np.log(np.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
        return -0.5 * (np.sum(white * white, axis=-1) + n * _LOG_2PI) - spread  # type: ignore[no-any-return]

    def pdf(self, x: Any, mean: Any = None, cov: Any = 1.0) -> Tensor:
        """Return the density at `x`."""
        return np.exp(self.logpdf(x, mean, cov))  # type: ignore[return-value]


class Dirichlet:
    """The distribution of n probabilities whose sum is 1."""

    def logpdf(self, x: Any, alpha: Any) -> Tensor:
        """Return the logarithm of the density at `x`, of shape (n,) or (n, ...): components first.

        `alpha` are n positive numbers. As in SciPy, the last of the probabilities may be left out.

        >>> tg.scipy.stats.dirichlet.logpdf(np.array([0.2, 0.8]), np.array([1.0, 1.0]))
        np.float64(0.0)
        """
        x, alpha = operand(x, "dirichlet"), operand(alpha, "dirichlet")
        if alpha.ndim != 1 or x.ndim == 0 or x.shape[0] not in (len(alpha), len(alpha) - 1):
            raise ValueError(
                f"dirichlet: x of shape {x.shape} does not match alpha of shape {alpha.shape}"
            )
        if len(x) < len(alpha):
            x = np.concatenate([x, 1 - np.sum(x, axis=0, keepdims=True)])
        alpha = within(alpha, 0)
        total = sp.gammaln(np.sum(alpha)) - np.sum(sp.gammaln(alpha))
        powers = alpha.reshape(-1, *(1,) * (x.ndim - 1)) - 1
        return total + np.sum(sp.xlogy(powers, x), axis=0)  # type: ignore[no-any-return]

    def pdf(self, x: Any, alpha: Any) -> Tensor:
        """Return the density at `x`."""
        return np.exp(self.logpdf(x, alpha))  # type: ignore[return-value]


norm, t, laplace, logistic, cauchy = Norm(), T(), Laplace(), Logistic(), Cauchy()
gumbel_r, gumbel_l = Gumbel_R(), Gumbel_L()
expon, gamma, chi2, lognorm, weibull_min = Expon(), Gamma(), Chi2(), Lognorm(), Weibull_Min()
uniform, beta = Uniform(), Beta()
poisson, binom, bernoulli, nbinom, geom = Poisson(), Binom(), Bernoulli(), Nbinom(), Geom()
multivariate_normal, dirichlet = MultivariateNormal(), Dirichlet()
