"""Products of arrays where a row of the table cannot go: infinities, complex operands, errors."""

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg

from .oracles import central_differences, leaf

INF = np.inf


@pytest.mark.parametrize(
    ("fun", "args", "gradients"),
    [
        # a cotangent that is infinite stays where it belongs
        (lambda x: np.einsum("ii->i", x) * [INF, 1.0], [np.ones((2, 2))], [[[INF, 0], [0, 1]]]),
        (lambda x: np.einsum("ij->i", x) * INF, [np.ones((1, 2))], [[[INF, INF]]]),
        (lambda x: np.trace(x) * INF, [np.ones((2, 2))], [[[INF, 0], [0, INF]]]),
        (np.outer, [[1.0, INF], [2.0]], [[2, 2], [INF]]),
        # integers and booleans as the other operand
        (lambda x: np.einsum("i,i", x, [1, 2]), [[1.0, 1.0]], [[1, 2]]),
        (lambda x: np.einsum("i,", x, 2), [[1.0, 1.0]], [[2, 2]]),
        (lambda x: np.dot(np.array([True, False]), x), [[1.0, 1.0]], [[1, 0]]),
        (lambda x: np.dot([[1, 2], [3, 4]], x), [[1.0, 1.0]], [[4, 6]]),
        (lambda x: np.kron([1, 2], x), [[1.0, 1.0]], [[3, 3]]),
        (lambda x: np.cross([1, 2, 3], x), [[1.0, 1.0, 1.0]], [[1, -2, 1]]),
        (lambda x: np.tensordot([1, 2], x, 1), [[1.0, 1.0]], [[1, 2]]),
        (lambda x: np.outer(2, x), [[1.0, 1.0]], [[2, 2]]),
        (lambda x: np.vdot([1, 2], x), [[1.0, 1.0]], [[1, 2]]),
    ],
)
def test_value_without_a_row(fun: Any, args: list[Any], gradients: list[Any]) -> None:
    leaves = [leaf(a) for a in args]
    out = fun(*leaves)
    with np.errstate(invalid="ignore"):
        assert_array_equal(out.data, fun(*map(np.asarray, args)))
    out.backward(np.ones(out.shape))
    for x, expected in zip(leaves, gradients, strict=True):
        assert_array_equal(x.grad, expected)


SQUARE, VECTOR = (3, 3), (3,)
CONJUGATING = [(np.vdot, SQUARE, SQUARE), (np.vecdot, SQUARE, VECTOR)]
if hasattr(np, "vecmat"):  # since NumPy 2.2
    CONJUGATING += [(np.vecmat, VECTOR, SQUARE), (np.matvec, SQUARE, VECTOR)]


@pytest.mark.parametrize(
    ("fun", "left", "right"),
    [
        *CONJUGATING,
        (np.linalg.vecdot, SQUARE, SQUARE),
        (np.matmul, SQUARE, VECTOR),
        (np.matmul, VECTOR, SQUARE),
        (np.inner, SQUARE, SQUARE),
        (np.dot, VECTOR, SQUARE),
        (np.outer, VECTOR, VECTOR),
        (np.kron, SQUARE, VECTOR),
        (np.cross, SQUARE, VECTOR),
        (np.tensordot, SQUARE, SQUARE),
        (lambda x, y: np.einsum("ii,ij->j", x, y), SQUARE, SQUARE),
        (lambda x, y: np.trace(x) * np.trace(y), SQUARE, SQUARE),
    ],
)
def test_complex_operands(fun: Any, left: Any, right: Any) -> None:
    """The real part of a product of complex arrays, by the real parts of its operands."""
    rng = np.random.default_rng(0)
    shapes = left, right, left, right
    x, y, c, d = (rng.normal(size=shape) for shape in shapes)
    w = rng.normal(size=np.shape(fun(x, y))) * (1 + 2j)

    def loss(x: Any, y: Any) -> Any:
        return np.real(np.sum(w * fun(x + 1j * c, (2 - 1j) * y + d)))

    for i, actual in enumerate(tg.grad(loss, (0, 1))(x, y)):
        assert_allclose(actual, central_differences(loss, [x, y], i), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shapes", [((2,), (2,)), ((2,), (3,)), ((4, 2), (1, 2)), ((3,), (4, 2))])
def test_cross_of_two_components_as_long_as_numpy_has_it(shapes: Any) -> None:
    x, y = (np.random.default_rng(0).normal(size=shape) for shape in shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            value = np.cross(x, y)
        except ValueError:
            with pytest.raises(ValueError, match="dimension"):
                np.cross(leaf(x), y)
            return
        out = np.cross(*(leaves := (leaf(x), leaf(y))))
        numeric = [central_differences(lambda *a: np.sum(np.cross(*a)), [x, y], i) for i in (0, 1)]
    assert_array_equal(out.data, value)
    out.backward(np.ones(out.shape))  # NumPy's warning is the user's alone
    for tensor, expected in zip(leaves, numeric, strict=True):
        assert_allclose(tensor.grad, expected, rtol=1e-7, atol=1e-9)


X, V = np.ones((2, 3)), np.ones(3)


@pytest.mark.parametrize(
    ("fun", "error"),
    [
        (lambda x: np.einsum("ij,jk", x, x), ValueError),
        (lambda x: np.einsum("ii", x), ValueError),
        (lambda x: np.einsum("ijk", x), ValueError),
        (lambda x: np.einsum("...j->j", np.ones((2, 2)) @ x), ValueError),
        (lambda x: np.einsum(x, [-1, 0]), ValueError),
        (lambda x: np.einsum(x, [0, 52]), ValueError),
        (lambda x: np.einsum("ij,j", x), ValueError),
        (lambda x: np.einsum("i?", x), ValueError),
        (lambda x: np.einsum("ij", x, where=True), TypeError),
        (lambda x: np.tensordot(x, x, 1), ValueError),
        (lambda x: np.tensordot(x, x, ([0], [0, 1])), ValueError),
        (lambda x: np.tensordot(x, x, 3), IndexError),
        (lambda x: np.dot(x, x), ValueError),
        (lambda x: np.vdot(x, V), ValueError),
        (lambda x: np.cross(x, [1.0]), ValueError),
        (lambda x: np.linalg.cross(x[:, :2], x[:, :2]), ValueError),
        (lambda x: np.linalg.outer(x, V), ValueError),
        (lambda x: np.trace(x[0]), ValueError),
        (lambda x: np.vecdot(x, np.ones(2)), ValueError),
        (lambda x: np.vecdot(x, x, axis=2), ValueError),
        (lambda x: np.vecdot(x, x, axis=0, axes=[0, 0]), TypeError),
        (lambda x: np.vecdot(x, x, where=True), TypeError),
        (lambda x: np.matmul(x, V, axis=0), TypeError),
        (lambda x: np.matmul(x, V, keepdims=True), TypeError),
        (lambda x: np.matmul(x, x, axes=[(0, 1), (1, 0)]), ValueError),
        (lambda x: np.matmul(x, 2.0), ValueError),
    ],
)
def test_what_numpy_refuses_is_refused(fun: Any, error: Any) -> None:
    with pytest.raises(error):
        fun(X)
    with pytest.raises((error, tg.NoRuleError)):
        fun(leaf(X))
