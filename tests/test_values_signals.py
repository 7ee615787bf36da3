"""Transforms, interpolation and polynomials where a row of the table cannot go."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import NoRuleError

from .oracles import central_differences, leaf

NAN = np.nan


@pytest.mark.parametrize(
    ("fun", "args", "gradients"),
    [
        # between two slopes the one of least norm; constant beyond the ends
        (lambda x: np.interp(x, [0, 1, 2, 3], [0, 1, 0, 2.5]), [[1.0, 2.0]], [[0, 0]]),
        (lambda x: np.interp(x, [0, 1, 2], [0, 1, 4]), [[1.0, 0.5, 1.5]], [[1, 1, 3]]),
        (lambda x: np.interp(x, [0, 1, 2], [4, 1, 0]), [[1.0, 0.0, 2.0]], [[-1, 0, 0]]),
        (lambda x: np.interp(x, [0, 1], [4, 1]), [[-1.0, 5.0, np.inf]], [[0, 0, 0]]),
        (lambda f: np.interp([0, 1, 2, 1], [0, 1, 2], f), [[5.0, 6.0, 7.0]], [[1, 2, 1]]),
        (lambda f: np.interp([-1, 5], [0, 1, 2], f, left=0), [[5.0, 6.0, 7.0]], [[0, 0, 1]]),
        (lambda f: np.interp([0, 2], [0, 1, 2], f, 9, 9), [[5.0, 6.0, 7.0]], [[1, 0, 1]]),
        (lambda f: np.interp([1], [0, 1, 1, 2], f), [[1.0, 2.0, 3.0, 4.0]], [[0, 0, 1, 0]]),
        # a polynomial of fewer coefficients, as leading zeros do not count
        (lambda p: np.polymul(p, [0, 0, 2, 1]), [[0.0, 3.0]], [[0, 3]]),
        (lambda p: np.polymul(p, [2]), [[0.0, 0.0]], [[0, 2]]),
        (lambda u: np.polydiv(u, [1.0, 1.0])[1], [[1.0, 2.0, 3.0]], [[1, -1, 1]]),
        (lambda x: np.vander(x), [[0.0, 0.0]], [[1, 1]]),
        (lambda x: np.polyval([3.0, 2.0, 1.0], x), [[0.0]], [[2]]),
        (lambda p: np.polyder(p, 0) * 2, [[1.0, 2.0]], [[2, 2]]),
    ],
)
def test_value_without_a_row(fun: Any, args: list[Any], gradients: list[Any]) -> None:
    leaves = [leaf(a) for a in args]
    out = fun(*leaves)
    assert_array_equal(out.data, fun(*map(np.asarray, args)))
    out.backward(np.ones(out.shape))
    for x, expected in zip(leaves, gradients, strict=True):
        assert_array_equal(x.grad, expected)


@pytest.mark.parametrize("n", [None, 1, 2, 3, 6, 7])
@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_the_back_of_a_transform_is_its_transpose(n: Any, norm: Any, size: int) -> None:
    """The gradient of a linear function of a real array is its matrix, transposed."""
    rng = np.random.default_rng(0)
    transforms: list[Any] = [np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.ihfft]
    if n or size > 1:
        transforms += [np.fft.irfft, np.fft.hfft]
    for transform in transforms:
        matrix = np.stack([transform(row, n, norm=norm) for row in np.eye(size)])
        w = rng.normal(size=matrix.shape[1]) + 1j * rng.normal(size=matrix.shape[1])
        x = leaf(rng.normal(size=size))
        np.sum(np.real(transform(x, n, norm=norm) * w)).backward()
        assert_allclose(x.grad, np.real(matrix @ w), rtol=1e-12, atol=1e-12)


def test_a_complex_array_through_a_real_transform() -> None:
    """The imaginary parts of what stands for itself do not count; all others do."""
    parts = [np.arange(1.0, 4.0), np.arange(3.0, 6.0)]

    def f(x: Any, y: Any) -> Any:
        return np.sum(np.fft.irfft(x + 1j * y, 4) ** 2 * [1.0, 2, 3, 4])

    for i, g in enumerate(tg.grad(f, (0, 1))(*parts)):
        assert_allclose(g, central_differences(f, parts, i), rtol=1e-8, atol=1e-8)


def test_correlate_of_two_complex_arrays() -> None:
    parts = [np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.5, 1.5])]
    for first, second in (0, 1), (1, 0):

        def f(*args: Any) -> Any:
            z = [a * (1 + 0.5j) + 1j for a in args]
            c = np.correlate(z[first], z[second], "full")  # noqa: B023
            return np.sum(np.real(c) ** 2 + 3 * np.imag(c))

        for i, g in enumerate(tg.grad(f, (0, 1))(*parts)):
            assert_allclose(g, central_differences(f, parts, i), rtol=1e-8, atol=1e-8)


def test_roots_solve_their_polynomial() -> None:
    p = leaf([2.0, -6.0, 4.0])
    np.max(np.roots(p)).backward()  # 2, where the slope is 2: dr = -(4, 2, 1) / 2
    assert_allclose(p.grad, [-2, -1, -0.5], rtol=1e-12)


def test_polyfit() -> None:
    points = [np.array([0.5, -1.0, 2.0, 1.5]), np.array([1.0, 3.0, -2.0, 0.5])]
    weights = np.array([1.0, 0.5, 2.0, 1.0])

    def f(x: Any, y: Any) -> Any:
        columns = np.stack([y, 2 * y], axis=1)
        weighted = np.polyfit(x, y, 2, w=weights * x**2)
        return np.sum(np.polyfit(x, columns, 1) * [1.0, 2]) + np.sum(weighted * [1.0, 2, 3])

    value, gradients = tg.value_and_grad(f, (0, 1))(*points)
    assert_allclose(value, f(*points), rtol=1e-12)
    for i, g in enumerate(gradients):
        assert_allclose(g, central_differences(f, points, i), rtol=1e-7, atol=1e-7)
    with pytest.warns(np.exceptions.RankWarning):
        np.polyfit([1, 1], leaf([1.0, 2.0]), 1)


def test_calls_that_are_refused() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(NoRuleError, match="interp has no derivative for its argument 3"):
        np.interp(x, [0, 1], [2, 3], left=leaf(1.0))
    with pytest.raises(ValueError, match="period must not be 0"):
        np.interp(x, [0, 1], [2, 3], period=0)
    with pytest.raises(ValueError, match="square"):
        np.poly(leaf(np.ones((2, 3))))
    with pytest.raises(ValueError, match="negative"):
        np.polyder(x, -1)
    with pytest.raises(ValueError, match="negative"):
        np.polyint(x, -1)
    with pytest.raises(ValueError, match="2 constants"):
        np.polyint(x, 3, [1, 2])
    with pytest.raises(ValueError, match="empty"):
        np.convolve(x, [])
    with pytest.raises(NoRuleError, match="full"):
        np.polyfit(x, [1, 2], 1, full=True)
    with pytest.raises(TypeError, match="out"):
        np.fft.fft(x, out=np.zeros(2, complex))
