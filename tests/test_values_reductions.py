"""Reductions, cumulative functions and statistics where a derivative does not exist, and at zeros.

Also: what they refuse.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.errors import NoRuleError

from .oracles import leaf

INF, NAN = np.inf, np.nan
MASK = np.array([True, False, True])
ROWS = np.array([[2.0, NAN, 1.0], [NAN, NAN, NAN]])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("fun", "args", "gradients"),
    [
        # products with zeros: exact, since nothing is divided
        (np.prod, [[0.0, 2.0, 3.0]], [[6, 0, 0]]),
        (np.prod, [[0.0, 2.0, 0.0]], [[0, 0, 0]]),
        (np.prod, [[[0.0, 2.0], [3.0, 4.0]]], [[[24, 0], [0, 0]]]),
        (np.prod, [[2.0, INF]], [[INF, 2]]),
        (lambda x: np.prod(x, initial=5.0, where=MASK), [[0.0, 0.0, 3.0]], [[15, 0, 0]]),
        (lambda x: np.prod(x, initial=0.0), [[1.0, 2.0]], [[0, 0]]),
        (np.multiply.reduce, [[0.0, 3.0]], [[3, 0]]),
        (np.nanprod, [[NAN, 0.0, 3.0]], [[0, 3, 0]]),
        (np.cumprod, [[2.0, 0.0, 3.0, 4.0]], [[1, 2 + 6 + 24, 0, 0]]),
        (np.cumprod, [[0.0, 0.0, 3.0]], [[1, 0, 0]]),
        (np.cumprod, [[0.0, 2.0, 3.0]], [[9, 0, 0]]),
        (np.nancumprod, [[NAN, 0.0, 3.0]], [[0, 4, 0]]),
        # NaN, infinities and masks
        (np.sum, [[NAN, 1.0]], [[1, 1]]),
        (np.nansum, [[NAN, 1.0]], [[0, 1]]),
        (np.nancumsum, [[NAN, 1.0]], [[0, 1]]),
        (np.nanmean, [[NAN, 1.0, 2.0]], [[0, 0.5, 0.5]]),
        (lambda x: np.nanmean(x, axis=1), [ROWS], [[[0.5, 0, 0.5], [0, 0, 0]]]),
        (lambda x: np.nanmean(x, where=MASK), [[NAN, 1.0, 2.0]], [[0, 0, 1]]),
        (lambda x: np.mean(x, where=np.array(False)), [[1.0, 2.0]], [[0, 0]]),
        (lambda x: np.sum(x, where=[True, False]), [[1.0, NAN]], [[1, 0]]),
        (lambda x: np.sum(x, where=x > 1), [[1.0, 2.0]], [[0, 1]]),
        (lambda x: np.mean(x, where=x > 1), [[1.0, 2.0]], [[0, 1]]),
        (lambda x: np.var(x, where=x > 0), [[1.0, 3.0, -5.0]], [[-1, 1, 0]]),
        # a spread of nothing
        (np.std, [[2.0]], [[0]]),
        (np.std, [[0.1, 0.1, 0.1, 0.1]], [[0, 0, 0, 0]]),
        (np.std, [2.0], [0]),
        (lambda x: np.std(x, axis=1), [[[3.0, 3.0], [1.0, 3.0]]], [[[0, 0], [-0.5, 0.5]]]),
        (np.nanstd, [[NAN, 3.0, 3.0]], [[0, 0, 0]]),
        (np.nanvar, [[NAN, 1.0, 3.0]], [[0, -1, 1]]),
        (
            lambda x: np.nanvar(x, axis=1),
            [ROWS],
            [[[0.5, 0, -0.5], [0, 0, 0]]],
        ),
        (lambda x: np.nanvar(x, where=x < 9), [[1.0, NAN, 3.0, 9.0]], [[-1, 0, 1, 0]]),
        (lambda x: np.var(x, ddof=1), [[2.0]], [[NAN]]),
        (lambda x: np.var(x, ddof=3), [[1.0, 3.0]], [[-INF, INF]]),
        (lambda x: np.std(x, ddof=1), [[2.0]], [[NAN]]),
        (np.var, [[NAN, 1.0]], [[NAN, NAN]]),
        (np.var, [np.zeros(0)], [np.zeros(0)]),
        # ties of extrema, with a bound and among NaN
        (lambda x: np.max(x, initial=3.0), [[3.0, 1.0, 3.0]], [[1 / 3, 0, 1 / 3]]),
        (lambda x: np.max(x, initial=4.0), [[3.0, 1.0]], [[0, 0]]),
        (lambda x: np.max(x, initial=NAN), [[3.0, NAN]], [[0, 0.5]]),
        (lambda x: np.max(x, initial=0.0, where=MASK), [[3.0, 5.0, 3.0]], [[0.5, 0, 0.5]]),
        (lambda x: np.min(x, axis=0, initial=2.0), [[[3.0, 2.0, 1.0]]], [[[0, 0.5, 1]]]),
        (np.ptp, [[1.0, 2.0, 2.0]], [[-1, 0.5, 0.5]]),
        (np.ptp, [[2.0, 2.0]], [[0, 0]]),
        (np.nanmax, [[NAN, 2.0, 2.0, 1.0]], [[0, 0.5, 0.5, 0]]),
        (lambda x: np.nanmin(x, axis=1), [ROWS], [[[0, 0, 1], [1 / 3, 1 / 3, 1 / 3]]]),
        (lambda x: np.nanmax(x, initial=2.0, where=MASK), [[NAN, 9.0, 2.0]], [[0, 0, 0.5]]),
        (np.fmax.reduce, [[NAN, 1.0]], [[0, 1]]),
        (np.fmin.reduce, [[NAN, NAN]], [[0.5, 0.5]]),
        (np.fmin.reduce, [[NAN, 1.0]], [[0, 1]]),
        (np.maximum.accumulate, [[3.0, 1.0, 3.0, 5.0]], [[2.5, 0, 0.5, 1]]),
        (np.maximum.accumulate, [[1.0, NAN, 5.0, NAN]], [[1, 2.5, 0, 0.5]]),
        (np.minimum.accumulate, [[3.0, 3.0, 1.0]], [[1.5, 0.5, 1]]),
        # logarithms of sums
        (np.logaddexp.reduce, [[1e4, 1e4]], [[0.5, 0.5]]),
        (np.logaddexp.reduce, [[1e4, -1e4, -INF]], [[1, 0, 0]]),
        (np.logaddexp.reduce, [[-INF, -INF]], [[NAN, NAN]]),
        # order statistics: equal elements in the order they have; NaN to the NaN that sorts last
        (np.median, [[2.0, 1.0, 2.0]], [[1, 0, 0]]),
        (np.median, [[1.0, 1.0, 1.0, 1.0]], [[0, 0.5, 0.5, 0]]),
        (np.median, [np.arange(99.0) % 3], [np.eye(99)[49]]),
        (np.median, [[NAN, 1.0, 2.0]], [[1, 0, 0]]),
        (np.median, [[INF, 1.0, INF]], [[1, 0, 0]]),
        (np.median, [np.zeros((0, 2))], [np.zeros((0, 2))]),
        (np.nanmedian, [[NAN, 1.0, 2.0]], [[0, 0.5, 0.5]]),
        (lambda x: np.nanmedian(x, axis=1), [ROWS], [[[0.5, 0, 0.5], [0, 1, 0]]]),
        (lambda x: np.quantile(x, 0.75), [[1.0, 3.0, NAN]], [[0, 0, 1]]),
        (lambda x: np.quantile(x, tg.Tensor(0.75)), [[1.0, 3.0, NAN]], [[0, 0, 1]]),
        (lambda x: np.quantile(x, [0.0, 1.0]), [[1.0, 3.0, 2.0]], [[1, 1, 0]]),
        (lambda x: np.nanquantile(x, 0.25), [[1.0, NAN, 3.0]], [[0.75, 0, 0.25]]),
        (lambda x: np.nanpercentile(x, [100], axis=0), [[1.0, NAN, 3.0]], [[0, 0, 1]]),
        (
            lambda x, w: np.quantile(x, 0.5, weights=w, method="inverted_cdf"),
            [[1.0, 2.0, 3.0], [1.0, 1.0, 5.0]],
            [[0, 0, 1], None],
        ),
        # correlations at their bounds, and of a constant
        (lambda x: np.corrcoef(x)[0, 0], [[[1.0, 2.0, 4.0], [1.0, 0.0, 1.0]]], [np.zeros((2, 3))]),
        (np.corrcoef, [[1.0, 2.0]], [[0, 0]]),
        (np.corrcoef, [[[1.0, 1.0], [1.0, 3.0]]], [np.full((2, 2), NAN)]),
        (np.cov, [[2.0]], [[NAN]]),
        (np.trapezoid, [[1.0], [2.0]], [[0], [0]]),
    ],
)
def test_value_without_a_derivative(fun: Any, args: list[Any], gradients: list[Any]) -> None:
    leaves = [leaf(a) for a in args]
    out = fun(*leaves)
    assert_array_equal(out.data, fun(*map(np.asarray, args)))
    out.backward(np.ones(out.shape))
    for x, expected in zip(leaves, gradients, strict=True):
        if expected is None:
            assert x.grad is None
        else:
            assert_allclose(x.grad, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fun", [np.prod, lambda x: np.cumprod(x)[-1]])
@pytest.mark.parametrize("x", [[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [2.0, 3.0, 4.0]])
def test_second_and_third_derivatives_of_products_with_zeros(fun: Any, x: list[float]) -> None:
    a, b, c = x
    assert_array_equal(tg.hessian(fun)(np.array(x)), [[0, c, b], [c, 0, a], [b, a, 0]])
    third = tg.jacobian(tg.hessian(fun))(np.array(x))
    permutations = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    assert_array_equal(np.argwhere(third), permutations)
    assert_array_equal(third[third != 0], np.ones(6))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 100])
def test_running_products_of_any_length(n: int) -> None:
    rng = np.random.default_rng(n)
    x, g = (
        leaf(rng.choice([0.0, 0.5, -1.5, 2.0], (n, 2), p=[0.1, 0.3, 0.3, 0.3])),
        rng.normal(size=(n, 2)),
    )
    np.cumprod(x, axis=0).backward(g)
    expected = np.zeros((n, 2))
    for i in range(n):  # y is linear in each element: its slope is y with that element 1, and 0
        one, zero = x.data.copy(), x.data.copy()
        one[i], zero[i] = 1, 0
        expected[i] = np.sum(g * (np.cumprod(one, 0) - np.cumprod(zero, 0)), axis=0)
    assert_allclose(x.grad, expected, rtol=1e-9, atol=1e-12)


def test_float16_gradients_add_up_in_float32() -> None:
    x = leaf(np.full(4096, 0.25), np.float16)
    np.cumsum(x)[-4000:].backward(np.full(4000, 1.0, np.float16))
    assert x.grad is not None and x.grad[0] == 4000  # by ones, a float16 comes to 2048
    x = leaf(np.ones(3000), np.float16)
    np.var(x, mean=np.float16(0)).backward(np.float16(3000))
    assert_array_equal(x.grad, np.full(3000, 2, np.float16))


@pytest.mark.parametrize(
    "fun",
    [
        np.sum, np.prod, np.mean, np.var, np.std, np.max, np.ptp, np.cumsum, np.cumprod, np.nansum,
        np.nanmean, np.nanvar, np.nanstd, np.nanmax, np.median, np.nanmedian, np.average,
        np.gradient, np.trapezoid, np.diff, np.logaddexp.reduce, np.maximum.accumulate,
        lambda x: np.quantile(x, 0.3), lambda x: np.nanpercentile(x, 30), np.corrcoef,
        lambda x: np.sum(x, initial=0.1), lambda x: np.max(x, initial=0.1),
        lambda x: np.mean(x, where=MASK), lambda x: np.var(x, where=MASK),
    ],
)  # fmt: skip
def test_float32_stays_float32(fun: Callable[[Any], Any]) -> None:
    values = np.array([0.1, 0.7, 0.3], np.float32)
    x = leaf(values, np.float32)
    out = fun(x)
    assert_array_equal(out.data, fun(values))
    assert out.dtype == fun(values).dtype
    out.backward(np.ones(out.shape, out.dtype))
    assert x.grad is not None and x.grad.dtype == np.float32


def test_a_tie_with_a_float32_bound() -> None:
    x = leaf([0.1, 0.0], np.float32)
    np.max(x, initial=0.1).backward()
    assert_array_equal(x.grad, [0.5, 0])


@pytest.mark.parametrize(
    ("fun", "x", "message"),
    [
        (np.nanmean, [NAN], "Mean of empty slice"),
        (np.nanvar, [NAN], "Degrees of freedom"),
        (np.nanmax, [NAN], "All-NaN"),
        (np.nanmedian, [NAN], "All-NaN"),
        (lambda x: np.nanquantile(x, 0.5), [NAN], "All-NaN"),
        (lambda x: np.var(x, ddof=1), [1.0], "Degrees of freedom"),
        (np.cov, [1.0], "Degrees of freedom"),
    ],
)
def test_numpys_warnings(fun: Callable[[Any], Any], x: list[float], message: str) -> None:
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        out = fun(leaf(x))
    assert [str(w.message) for w in caught if message in str(w.message)]
    with warnings.catch_warnings(record=True) as again, np.errstate(all="ignore"):
        out.backward()
    assert not again


def test_backward_raises_no_floating_point_error() -> None:
    with np.errstate(all="raise"):
        for fun in np.std, np.nanstd, np.median, np.logaddexp.reduce, np.prod, np.cumprod:
            out = fun(leaf([0.0, 0.0, 0.0]))
            out.backward(np.ones(out.shape))
        with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="empty slice"):
            mean = np.mean(leaf([1.0]), where=np.array(False))
        mean.backward()


@pytest.mark.parametrize("fun", [np.median, np.nanmedian, lambda x, **o: np.quantile(x, 0.5, **o)])
def test_overwrite_input_overwrites_nothing(fun: Any) -> None:
    x = leaf([3.0, 1.0, 2.0])
    assert fun(x, overwrite_input=True) == 2
    assert_array_equal(x.data, [3, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: np.nanquantile(x, x[0]), NoRuleError, "nanquantile has a derivative for q with"),
        (lambda x: np.quantile([1.0, 2.0], x, method="hazen"), NoRuleError, "for q with method="),
        (lambda x: np.nanquantile(x, [[0.5]], axis=()), NoRuleError, "pass a q with one axis"),
        (lambda x: np.max(x, initial=x[0]), TypeError, "requires grad"),
        (lambda x: np.sum(x, initial=x[0]), TypeError, "requires grad"),
        (lambda x: np.var(x, ddof=1, correction=1), ValueError, "not both"),
        (lambda x: np.cumulative_sum(x[None]), ValueError, "axis"),
        (lambda x: np.diff(x, n=-1), ValueError, "n=-1"),
        (lambda x: np.diff(x[0]), ValueError, "0-d"),
        (lambda x: np.ediff1d([1, 2], to_end=x), TypeError, "cannot cast to_end"),
        (lambda x: np.gradient(x[:1]), ValueError, "too short"),
        (lambda x: np.gradient(x, edge_order=3), ValueError, "edge_order=3 must be 1 or 2"),
        (lambda x: np.gradient(x, 1.0, 2.0), TypeError, "2 spacings for 1 axes"),
        (lambda x: np.gradient(x, [0.0, 1.0, 2.0]), ValueError, "3,.* 2 samples"),
        (lambda x: np.average(x, weights=[1.0, -1.0]), ZeroDivisionError, "zero"),
        (lambda x: np.average(x, weights=[1.0]), TypeError, "pass the axis"),
        (lambda x: np.average(x, axis=0, weights=[1.0]), ValueError, "do not fit"),
        (lambda x: np.cov(x[None, None]), ValueError, "more than 2 axes"),
        (lambda x: np.cov(x, ddof=0.5), ValueError, "integer"),
        (lambda x: np.cov(x, fweights=[0.5, 1]), TypeError, "integers"),
        (lambda x: np.cov(x, aweights=[1]), RuntimeError, "2 observations"),
        (lambda x: np.cov(x, aweights=-x), ValueError, "negative"),
    ],
)
def test_refusals(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(leaf([1.0, 2.0]))


def test_the_reduction_of_one_element_to_a_bool() -> None:
    for where in True, np.array([True]):
        assert np.logical_or.reduce(leaf([2.0]), where=where).dtype == bool


@pytest.mark.parametrize("fun", [np.nanmax, np.ptp, np.max, np.fmax.reduce])
def test_the_extremum_of_nothing_is_an_error(fun: Any) -> None:
    with pytest.raises(ValueError, match="zero-size"):
        fun(leaf(np.zeros(0)))
