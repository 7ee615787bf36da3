"""Element-wise functions where a row of the table cannot go: kinks, infinities, digits, errors."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import GraphError, NoRuleError

from .oracles import backward, central_differences, leaf

INF, NAN = np.inf, np.nan


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("fun", "args", "gradients"),
    [
        (np.sqrt, [[0.0, -0.0, INF]], [[INF, INF, 0]]),
        (np.cbrt, [[0.0, -0.0, INF]], [[INF, INF, 0]]),
        (np.arcsin, [[1.0, -1.0]], [[INF, INF]]),
        (np.arccos, [[1.0, -1.0]], [[-INF, -INF]]),
        (np.arctanh, [[1.0, -1.0]], [[INF, INF]]),
        (np.arccosh, [[1.0, INF]], [[INF, 0]]),
        (np.arctan, [[1e300, INF, -INF]], [[0, 0, 0]]),
        (np.tanh, [[INF, -INF, 1000.0]], [[0, 0, 0]]),
        (np.log1p, [[-1.0, -2.0, INF]], [[INF, -1, 0]]),
        (np.exp2, [[-INF, INF]], [[0, INF]]),
        (np.sinc, [[0.0]], [[0]]),
        (np.i0, [[0.0, INF, -INF]], [[0, INF, -INF]]),
        # lengths and angles
        (np.fabs, [[0.0, -0.0, -INF]], [[0, 0, -1]]),
        (lambda x: np.abs((1 + 1j) * x), [[0.0]], [[0]]),
        (lambda x: np.angle((1 + 1j) * x), [[0.0]], [[0]]),
        (np.hypot, [[0.0, 3.0, 1.0], [0.0, 0.0, INF]], [[0, 1, 0], [0, 0, NAN]]),
        (np.arctan2, [[0.0, 1.0, INF, INF], [0.0, INF, 1.0, INF]], [[0, 0, 0, 0], [0, 0, 0, 0]]),
        (np.arctan2, [[0.0, -0.0], [-2.0, -2.0]], [[-0.5, -0.5], [0, 0]]),
        # exponents
        (np.power, [[INF, NAN, -0.0], [-1.0, 0.0, 0.5]], [[0, 0, INF], [0, NAN, 0]]),
        (np.power, [[0.5, 2.0], [INF, -INF]], [[0, 0], [0, 0]]),
        (np.power, [[1.0, 1.0, NAN], [INF, -INF, -INF]], [[INF, -INF, NAN], [0, 0, NAN]]),
        (np.float_power, [[0.0, 0.0], [0.0, -1.0]], [[0, -INF], [0, -INF]]),
        (np.logaddexp, [[INF, 1.0, -INF, 800.0], [1.0, INF, 0.0, -800.0]],
         [[1, 0, 0, 1], [0, 1, 1, 0]]),
        (np.logaddexp2, [[INF, -INF], [1.0, 0.0]], [[1, 0], [0, 1]]),
        (np.logaddexp, [[INF, -INF], [INF, -INF]], [[NAN, NAN], [NAN, NAN]]),
        # choices
        (np.fmax, [[NAN, 1.0, NAN, 2.0], [1.0, NAN, NAN, 2.0]],
         [[0, 1, 0.5, 0.5], [1, 0, 0.5, 0.5]]),
        (np.fmin, [[NAN, 1.0, INF], [1.0, 2.0, INF]], [[0, 1, 0.5], [1, 0, 0.5]]),
        (lambda x: np.clip(x, -1, 1), [[-2.0, -1.0, 0.0, 1.0, INF, NAN]], [[0, 1, 1, 1, 0, 1]]),
        (lambda x: np.clip(x, 0, 0), [[-1.0, 0.0, 1.0]], [[0, 0, 0]]),
        (lambda x: np.clip(x, [0, -1], [0, 1]), [[0.0, 1.0]], [[0, 1]]),
        (np.clip, [[-2.0, -1.0, 0.0, 1.0, 2.0], [-1.0] * 5, [1.0] * 5],
         [[0, 1, 1, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]),
        (np.clip, [[0.0, -1.0], [1.0, 1.0], [-1.0, -1.0]], [[0, 0], [0, 0], [1, 1]]),
        (np.clip, [[0.0, 0.0], [NAN, -1.0], [1.0, NAN]], [[0, 0], [1, 0], [0, 1]]),
        (np.nan_to_num, [[NAN, INF, -INF, 1.0]], [[0, 0, 0, 1]]),
        (lambda x: np.abs(np.nan_to_num(x + complex(0, NAN))), [[-2.0, INF]], [[-1, 0]]),
        (lambda x: np.where(x, x * x, 1), [[0.0, 3.0, NAN]], [[0, 6, NAN]]),
        (lambda c, x: np.where(c, x, 1), [[0.0, 3.0], [1.0, 2.0]], [[0, 0], [0, 1]]),
        # steps
        (np.copysign, [[0.0, 2.0, -2.0], [-1.0, -1.0, -0.0]], [[0, -1, 1], [0, 0, 0]]),
        (np.heaviside, [[-1.0, 0.0, 2.0], [0.5, 0.5, 0.5]], [[0, 0, 0], [0, 1, 0]]),
        (np.nextafter, [[1.0], [2.0]], [[1], [0]]),
        (np.remainder, [[1.0, -1.0], [INF, INF]], [[1, 1], [0, 1]]),
        (np.fmod, [[5.5, -5.5, 1.0], [2.0, 2.0, INF]], [[1, 1, 1], [-2, 2, 0]]),
        # 0.3 goes into this number twice, although their quotient rounds to 3
        (np.fmod, [[0.8999999999999999], [0.3]], [[1], [-2]]),
        (np.remainder, [[0.8999999999999999], [0.3]], [[1], [-2]]),
        (lambda x: np.frexp(x)[0], [[6.0, -0.25]], [[0.125, 2]]),
        (lambda x: np.modf(x)[0], [[2.5, -2.5]], [[1, 1]]),
        (lambda x: np.unwrap(x), [[0.0, 7.0]], [[1, 1]]),
    ],
)  # fmt: skip
def test_value_without_a_derivative(fun: Any, args: list[Any], gradients: list[Any]) -> None:
    leaves = [leaf(a) for a in args]
    out = fun(*leaves)
    assert_array_equal(out.data, fun(*map(np.asarray, args)))
    out.backward(np.ones(out.shape))
    for x, expected in zip(leaves, gradients, strict=True):
        assert_array_equal(x.grad, expected)


@pytest.mark.parametrize(
    ("fun", "args", "gradient"),
    [
        (np.sinc, [1e-6], -(math.pi**2) * 1e-6 / 3 * (1 - math.pi**2 * 1e-12 / 10)),
        (np.sinc, [1e-200], -(math.pi**2) * 1e-200 / 3),
        (np.sinc, [0.75], -math.sqrt(0.5) / 0.75 * (1 + 4 / (3 * math.pi))),
        (tg.grad(np.sinc), [0.0], -(math.pi**2) / 3),
        (tg.grad(tg.grad(tg.grad(np.sinc))), [0.0], math.pi**4 / 5),
        (np.i0, [1.0], 0.5651591039924851),
        (np.i0, [1e-9], 5e-10),
        (tg.grad(np.i0), [0.0], 0.5),
        (np.expm1, [-40.0], math.exp(-40)),
        (np.log1p, [1e-20], 1.0),
        (np.arcsin, [1 - 2.0**-53], 2.0**26),
        (np.arctanh, [1 - 2.0**-53], 2.0**52),
        (np.arccosh, [1 + 2.0**-52], 2.0**25.5),
        (np.arcsinh, [1e300], 1e-300),
        (np.arctan2, [1e300, 1e-300], 1e-900),
        (np.arctan2, [1e-300, 3e-300], 3e299),
        (np.hypot, [3e300, 4e300], 0.6),
        (np.logaddexp, [-30.0, 0.0], math.exp(-30) / (1 + math.exp(-30))),
    ],
)
def test_digits(fun: Any, args: list[float], gradient: float) -> None:
    """The derivative by the first argument, where a plainer formula would lose digits."""
    assert_allclose(tg.grad(fun)(*args), gradient, rtol=1e-12)


HOLOMORPHIC = [
    np.positive, np.negative, np.square, np.reciprocal, np.sqrt, np.exp, np.exp2, np.expm1,
    np.log, np.log2, np.log10, np.log1p, np.sin, np.cos, np.tan, np.arcsin, np.arccos, np.arctan,
    np.sinh, np.cosh, np.tanh, np.arcsinh, np.arccosh, np.arctanh, np.sinc,
]  # fmt: skip


@pytest.mark.parametrize(
    "fun", [*HOLOMORPHIC, np.conjugate, np.sign, np.absolute, np.angle, np.nan_to_num]
)
def test_complex_numbers_on_the_way_to_a_real_result(fun: Any) -> None:
    """In all quadrants, inside and outside the unit circle: the first and second derivative."""
    x, y = np.array([0.5, -0.75, 1.5, -2.25]), np.array([0.25, 1.5, -0.5, -1.25])

    def f(x: Any, y: Any) -> Any:
        z = fun(x + 1j * y)
        return np.sum(np.real(z) * [1.0, 2, -1, 0.5] + np.imag(z) * [0.5, -1, 2, 1])

    def slopes(x: Any, y: Any) -> Any:
        by_x, by_y = tg.grad(f, (0, 1))(x, y)
        return np.sum(by_x * [1.0, -0.5, 2, 1]) + np.sum(by_y * [0.5, 1, 1, -1])

    for function, tolerance in (f, 1e-8), (slopes, 1e-6):
        for i, g in enumerate(tg.grad(function, (0, 1))(x, y)):
            numeric = central_differences(lambda *a: np.asarray(function(*a)), [x, y], i)  # noqa: B023
            assert_allclose(g, numeric, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("fun", [np.power, np.true_divide, np.multiply, np.where])
def test_two_complex_numbers(fun: Any) -> None:
    pair = [np.array([0.5, -0.75]), np.array([0.25, -1.5])]
    call = (lambda a, b: np.where([True, False], a, b)) if fun is np.where else fun

    def f(x: Any, y: Any) -> Any:
        z = call(x + 0.5j, (y + 1j) * x)
        return np.real(z) + 2 * np.imag(z)

    seed = np.array([1.0, -0.5])
    _, leaves = backward(f, pair, (0, 1), seed)
    for i, x in enumerate(leaves):
        numeric = central_differences(lambda *a: np.sum(f(*a) * seed), pair, i)
        assert_allclose(x.grad, numeric, rtol=1e-8, atol=1e-8)


def test_a_negative_number_with_a_complex_exponent() -> None:
    _, (p,) = backward(lambda p: np.real((-2.0) ** (1j * p)), [np.array(0.5)], (0,), 1.0)
    numeric = central_differences(lambda p: np.real((-2.0 + 0j) ** (1j * p)), [np.array(0.5)], 0)
    assert_allclose(p.grad, numeric, rtol=1e-8)


# -- parts without a derivative, assignment, and calls that are refused


def test_parts_that_are_steps_are_untracked() -> None:
    x = leaf([2.5, 0.0, -6.0])
    for steps, expected in [
        (np.modf(x)[1], [2, 0, -6]),
        (np.frexp(x)[1], [2, 0, 3]),
        (np.sign(x), [1, 0, -1]),
        (np.where(x)[0], [0, 2]),
        (divmod(x, 2)[0], [1, 0, -3]),
    ]:
        assert not steps.requires_grad
        assert_array_equal(steps.data, expected)


def test_nan_to_num_in_place_gives_the_handle_a_new_value() -> None:
    x = leaf([1.0, 2.0])
    y = x + np.array([0.0, INF])
    before = y.data
    assert np.nan_to_num(y, copy=False, posinf=5.0) is y
    assert_array_equal(y.data, [1, 5])
    assert_array_equal(before, [1, INF])
    np.sum(y).backward()
    assert_array_equal(x.grad, [1, 0])
    with pytest.raises(GraphError, match="in place"):
        np.nan_to_num(x, copy=False)


def test_calls_that_are_refused() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match="a_min and a_max, or min and max"):
        np.clip(x, 0, 1, max=2)
    with pytest.raises(NoRuleError, match="nan_to_num has no derivative for its argument 1"):
        np.nan_to_num(x, nan=leaf(1.0))
    with pytest.raises(NoRuleError, match="signature"):
        np.sin(x, signature="d->d")
    with pytest.raises(TypeError, match="cast"):
        np.multiply(x, 2, dtype=np.int64)
    with pytest.raises(NoRuleError, match="ldexp"):
        np.ldexp(x, x)


def test_reductions_without_a_derivative() -> None:
    for x in leaf([1.0, 0.0]), leaf(np.zeros(0)):
        for ufunc in np.logical_and, np.logical_or:
            out = ufunc.reduce(x, keepdims=True)
            assert not out.requires_grad
            assert out.dtype == bool
            assert_array_equal(out.data, ufunc.reduce(x.data, keepdims=True))
    with pytest.raises(ValueError, match="no identity"):
        np.subtract.reduce(leaf(np.zeros(0)))
    assert_array_equal(np.subtract.reduce(leaf(3.0)).data, 3)
