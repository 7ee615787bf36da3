"""Distributions: values against SciPy's, the bounds of supports, and wrong parameters."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.scipy import stats

from .oracles import leaf

INF, NAN = np.inf, np.nan
POINTS = np.array([-3, -0.7, 0, 0.3, 0.9, 1, 2.5, 7, INF, -INF, NAN])
WHOLE = np.array([-2, -1, 0, 1, 2, 3, 5, 6, 9, 0.5, 1.5, -0.5, 4.7, NAN])
SHAPES: dict[str, tuple[float, ...]] = {
    "t": (2.5,), "gamma": (1.75,), "beta": (1.5, 2.5), "chi2": (3,), "lognorm": (0.75,),
    "weibull_min": (1.5,),
}  # fmt: skip
DISCRETE: dict[str, list[tuple[float, ...]]] = {
    "poisson": [(2.5,), (0,), (-1,)],
    "binom": [(5, 0.25), (5, 0), (5.0, 1), (5, 1.5)],
    "nbinom": [(2.5, 0.25), (2, 1), (2, 0)],
    "geom": [(0.25,), (1,), (0,)],
    "bernoulli": [(0.25,), (0,), (1,), (2,)],
}
VECTORS = {"dirichlet", "multivariate_normal"}
CONTINUOUS = [name for name in stats.__all__ if name not in VECTORS | DISCRETE.keys()]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_families_are_scipys(name: str) -> None:
    scipys = getattr(pytest.importorskip("scipy.stats"), name)
    ours, shapes = getattr(stats, name), SHAPES.get(name, ())
    wrong = tuple(-1.0 for _ in shapes)
    for parameters in shapes, (*shapes, 0.5, 2), (*shapes, 0.5, -2.0), (*wrong, 0.5, 2.0):
        for method in "logpdf", "pdf", "cdf", "logcdf", "sf", "logsf", "ppf":
            x = np.array([-1, 0, 0.125, 0.5, 0.9, 1, 2]) if method == "ppf" else POINTS
            with np.errstate(all="ignore"):
                expected = getattr(scipys, method)(x, *parameters)
            actual = getattr(ours, method)(x, *parameters)
            # SciPy's logarithms of probabilities near 1 have fewer digits
            assert_allclose(
                actual, expected, rtol=1e-4 if method.startswith("log") else 1e-9, atol=1e-15
            )
            assert_allclose(actual[3:7], expected[3:7], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_families_are_scipys(name: str) -> None:
    scipys = getattr(pytest.importorskip("scipy.stats"), name)
    for parameters in DISCRETE[name]:
        for method in "logpmf", "pmf", "cdf", "logcdf", "sf", "logsf":
            for loc in 0, 1:
                with np.errstate(all="ignore"):
                    expected = getattr(scipys, method)(WHOLE, *parameters, loc)
                    if method == "logcdf":  # SciPy's is not always NaN for wrong parameters
                        expected = np.log(scipys.cdf(WHOLE, *parameters, loc))
                actual = getattr(getattr(stats, name), method)(WHOLE, *parameters, loc)
                assert_allclose(actual, expected, rtol=1e-9, atol=1e-15)


def test_distributions_of_vectors_are_scipys() -> None:
    scipys = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    for cov in a @ a.T + np.eye(3), 2.0, np.array([1.0, 2, 3]):
        for method in "logpdf", "pdf":
            ours, theirs = (getattr(s.multivariate_normal, method) for s in (stats, scipys))
            assert_allclose(ours(x, x[0], cov), theirs(x, x[0], cov))
    alpha = np.array([1.0, 2, 3])
    p = rng.dirichlet(alpha, 5).T
    for rows in 3, 2:
        assert_allclose(stats.dirichlet.pdf(p[:rows], alpha), scipys.dirichlet.pdf(p[:rows], alpha))


def test_parameters_by_name_and_by_position() -> None:
    expected = stats.gamma.logpdf(2.0, 1.5, 0.5, 2)
    assert stats.gamma.logpdf(2.0, a=1.5, loc=0.5, scale=2) == expected
    assert stats.gamma.logpdf([2.0], 1.5, scale=2, loc=0.5) == [expected]
    assert stats.poisson.logpmf(2, mu=1.5) == stats.poisson.logpmf(3, 1.5, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_parameters_that_are_numbers_keep_the_dtype(dtype: Any) -> None:
    x = np.array([0.25, 0.5], dtype)
    for name in CONTINUOUS:
        shapes = SHAPES.get(name, ())
        assert getattr(stats, name).logpdf(x, *shapes, 0.125, 2).dtype == dtype


@pytest.mark.parametrize("name", ["expon", "lognorm", "uniform", "weibull_min"])
def test_outside_of_the_support_gradients_are_zero(name: str) -> None:
    x, scale = leaf([-1.0, 0.5]), leaf(2.0)
    shapes = SHAPES.get(name, ())
    family = getattr(stats, name)
    assert family.logpdf(x, *shapes, 0, scale).data[0] == -INF
    for method in family.pdf, family.cdf, family.sf, family.logsf:
        x.grad = None
        np.sum(method(x, *shapes, 0, scale)).backward()
        assert x.grad is not None and x.grad[0] == 0 and np.isfinite(x.grad).all()
    assert np.isfinite(scale.grad)


def test_far_out_logarithms_keep_their_digits() -> None:
    assert_allclose(stats.norm.logsf(40.0), -804.608442013754)
    assert_allclose(stats.logistic.logcdf(-1000.0), -1000)
    assert_allclose(stats.gumbel_l.logcdf(4.0), -np.exp(-np.exp(4.0)))
    assert_array_equal(tg.elementwise_grad(stats.norm.logsf)(np.array([-50.0, 0])).round(6),
                       [0, -0.797885])  # fmt: skip


def test_the_most_likely_parameters_are_found_by_gradients() -> None:
    x = np.array([1.0, 2.0, 4.0, 5.0])
    slope = tg.grad(lambda m, s: np.sum(stats.norm.logpdf(x, m, s)), (0, 1))
    assert_allclose(slope(x.mean(), x.std()), (0, 0), atol=1e-14)
    p = np.mean(x) / 10
    slopes = tg.grad(lambda p: np.sum(stats.binom.logpmf(x, 10, p)))(p)
    assert_allclose(slopes, 0, atol=1e-12)


def test_the_gradient_by_a_covariance_is_symmetric() -> None:
    cov = np.array([[2.0, 0.5], [0.5, 1.0]])
    x = np.array([1.0, -1.0])
    inverse = np.linalg.inv(cov)
    expected = (inverse @ np.outer(x, x) @ inverse - inverse) / 2
    found = tg.grad(lambda c: stats.multivariate_normal.logpdf(x, cov=c))(cov)
    assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: stats.gamma.logpdf(1.0), TypeError, r"gamma.logpdf: missing .* 'a', of \(a,"),
        (lambda: stats.norm.cdf(1.0, mean=0), TypeError, r"norm.cdf: got .*'mean', of \(loc=0, sc"),
        (lambda: stats.poisson.logpmf(1, 2, 0, 1), TypeError, r"too many .* of \(mu, loc=0\)"),
        (lambda: stats.multivariate_normal.logpdf(np.ones(3), cov=np.eye(2)), ValueError,
         r"x of shape \(3,\) has no covariance of shape \(2, 2\)"),
        (lambda: stats.dirichlet.logpdf(np.ones(4), np.ones(3)), ValueError,
         r"x of shape \(4,\) does not match alpha of shape \(3,\)"),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong(call: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_shapes_without_a_derivative_are_refused_by_name() -> None:
    pytest.importorskip("scipy")
    with pytest.raises(tg.NoRuleError, match="gammainc has no derivative for its argument 0"):
        stats.gamma.cdf(1.0, leaf(2.0))
