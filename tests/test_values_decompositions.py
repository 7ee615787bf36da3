"""Matrices at which a formula divides by zero, what is refused, and the conventions chosen."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tensorgrad as tg
from tensorgrad.errors import NoRuleError
from tensorgrad.rules.decompositions import cofactors

from .oracles import central_differences, leaf

EYE = np.eye(2)
DOUBLED = [[1.0, 2.0], [2.0, 4.0]]
ONE = [[2.0, 0, 0], [0, 0, 0], [0, 0, 0]]
NAN, INF = np.nan, np.inf


def total(x: Any) -> Any:
    return np.sum(np.stack([np.sum(part) for part in x]) if isinstance(x, tuple) else x)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("fun", "arg", "gradient"),
    [
        # determinants of singular matrices: the cofactors
        (np.linalg.det, DOUBLED, [[4, -2], [-2, 1]]),
        (np.linalg.det, [[0.0]], [[1]]),
        (np.linalg.det, np.zeros((2, 2)), np.zeros((2, 2))),
        (np.linalg.det, np.diag([2.0, 3, 0]), np.diag([0, 0, 6])),
        (np.linalg.det, ONE, np.zeros((3, 3))),
        (np.linalg.det, np.diag([1e200, 1e200]), np.diag([1e200, 1e200])),
        (np.linalg.det, np.full((2, 2), NAN), np.full((2, 2), NAN)),
        (lambda x: total(np.linalg.det(x)), [DOUBLED, EYE], [[[4, -2], [-2, 1]], EYE]),
        (lambda x: np.linalg.slogdet(x)[1], DOUBLED, np.full((2, 2), NAN)),
        (lambda x: np.linalg.slogdet(x)[0], EYE, np.zeros((2, 2))),
        # equal values: what uses the values alone has a derivative, as has u @ vh
        (lambda x: total(np.linalg.eigvalsh(x)), EYE, EYE),
        (lambda x: np.linalg.eigh(x)[0] @ [1.0, 1.0], EYE, EYE),
        (lambda x: total(np.linalg.eigh(x)[1]), EYE, np.full((2, 2), NAN)),
        (lambda x: np.real(total(np.linalg.eigvals(x))), EYE, EYE),
        (lambda x: total(np.linalg.svdvals(x)), EYE, EYE),
        (lambda x: total(np.linalg.svd(x)[1]), EYE, EYE),
        (lambda x: total(np.linalg.svd(x)[0]), EYE, np.full((2, 2), NAN)),
        (lambda x: np.linalg.svd(x)[0][0, 0], np.diag([3.0, 1, 1]), np.zeros((3, 3))),
        (lambda x: np.linalg.matrix_power(x, 0)[0, 0], [[INF, NAN], [0, 0]], np.zeros((2, 2))),
        # singular values of zero are kinks, as of the absolute value
        (lambda x: total(np.linalg.svdvals(x)), np.zeros((2, 3)), np.zeros((2, 3))),
        (lambda x: np.linalg.svdvals(x)[1], DOUBLED, np.zeros((2, 2))),
        (lambda x: np.linalg.norm(x, "nuc"), DOUBLED, np.array(DOUBLED) / 5),
        (lambda x: np.linalg.norm(x, "nuc"), np.zeros((2, 2)), np.zeros((2, 2))),
        (lambda x: np.linalg.norm(x, 2), EYE, EYE / 2),
        (lambda x: np.linalg.norm(x, -2), EYE, EYE / 2),
        # the other norms: 0 at the zero vector, and equal shares at a tie
        *((lambda x, order=order: np.linalg.norm(x, order), np.zeros(3), np.zeros(3))
          for order in (None, 2, 1, INF, -INF, 0, 3, 2.5, 1.5, 0.5, -1, -2)),
        *((lambda x, order=order: np.linalg.norm(x, order), np.zeros((2, 2)), np.zeros((2, 2)))
          for order in (None, "fro", 1, INF, -INF, -1, 2, -2)),
        (lambda x: np.linalg.norm(x, axis=1) @ [1.0, 1], [[0, 0], [3.0, 4]], [[0, 0], [0.6, 0.8]]),
        (lambda x: np.linalg.norm(x, INF), [1.0, -2, 2], [0, -0.5, 0.5]),
        (lambda x: np.linalg.norm(x, -INF), [-1.0, -2, 1], [-0.5, 0, 0.5]),
        (lambda x: np.linalg.norm(x, 1), [1.0, -2, 0], [1, -1, 0]),
        (lambda x: np.linalg.norm(x, 1.5), [4.0, 0], [1, 0]),
        (lambda x: np.linalg.norm(x, 0.5), [4.0, 0], [1, 0]),
        (lambda x: np.linalg.norm(x, -1), [4.0, 0], [0, 0]),
        (lambda x: np.linalg.norm(x, 1), [[1.0, -3], [2, 0]], [[0.5, -0.5], [0.5, 0]]),
        (lambda x: np.linalg.norm(x, INF), [[1.0, -3], [4, 0]], [[0.5, -0.5], [0.5, 0]]),
        (lambda x: np.linalg.norm(x), np.array(-2.0), -1),
        (lambda x: np.linalg.norm(x, INF), np.zeros(0), np.zeros(0)),
        (lambda x: np.linalg.norm(x, 2), np.zeros((0, 2)), np.zeros((0, 2))),
        # one triangle is read: it has the whole derivative, also where the matrix is symmetric
        (lambda x: np.linalg.eigvalsh(x)[0], [[1.0, 9], [0.5, 1]], [[0.5, 0], [-1, 0.5]]),
        (lambda x: np.linalg.eigvalsh(x, "U")[0], [[1.0, 0.5], [9, 1]], [[0.5, -1], [0, 0.5]]),
        (lambda x: np.linalg.eigvalsh(x)[0], [[1.0, 0.5], [0.5, 1]], [[0.5, 0], [-1, 0.5]]),
        (lambda x: np.linalg.cholesky(x)[1, 0], [[4.0, 2], [2, 5]], [[-0.125, 0], [0.5, 0]]),
    ],
)  # fmt: skip
def test_value(fun: Any, arg: Any, gradient: Any) -> None:
    x = leaf(arg)
    y = fun(x)
    assert_allclose(y.data, fun(np.asarray(arg, float)), rtol=1e-14)
    if y.requires_grad:
        y.backward()
    assert_allclose(0 if x.grad is None else x.grad, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "matrix",
    [DOUBLED, ONE, np.zeros((2, 2)), np.zeros((3, 3)), EYE, np.diag([2.0, 3, 0])],
)
def test_second_derivative_of_a_singular_determinant(matrix: Any) -> None:
    matrix = np.array(matrix)
    v = np.random.default_rng(0).normal(size=matrix.shape)

    slope = partial(along, np.linalg.det, v)
    assert_allclose(tg.grad(slope)(matrix), central_differences(slope, [matrix], 0), atol=1e-9)


def test_third_derivative_of_a_determinant() -> None:
    x, v = np.array([[3.0, 1, 0], [1, 4, 1], [0, 1, 5]]), np.diag([1.0, 2, 3]) + 1
    f: Any = np.linalg.det
    for _ in range(3):
        f = partial(along, f, v)
    assert_allclose(f(x), 6 * np.linalg.det(v), atol=1e-9)


def along(f: Any, v: Any, x: Any) -> Any:
    return np.sum(tg.grad(f)(x) * v)


@pytest.mark.parametrize("fun", [np.linalg.inv, np.linalg.cholesky])
def test_singular_matrices_are_numpys_error(fun: Any) -> None:
    with pytest.raises(np.linalg.LinAlgError):
        fun(leaf(np.zeros((2, 2))))


@pytest.mark.parametrize(
    ("fun", "shape"),
    [
        (np.linalg.cholesky, (3, 1)), (np.linalg.eigh, (3, 1)), (np.linalg.eigvalsh, (3,)),
        (lambda x: np.linalg.matrix_power(x, 2), (3, 1)), (np.linalg.cond, (0, 0)),
        (lambda x: np.linalg.norm(x, "fro"), (3,)), (lambda x: np.linalg.norm(x, 3), (2, 2)),
        (lambda x: np.linalg.norm(x, 2), ()),
        (lambda x: np.linalg.norm(x, axis=(0, 1, 2)), (1, 1, 1)),
        (lambda x: np.linalg.tensorinv(x, 0), (2, 2)),
    ],
)  # fmt: skip
def test_wrong_arguments_are_errors_as_numpys(fun: Any, shape: Any) -> None:
    for x in np.ones(shape), leaf(np.ones(shape)):
        with pytest.raises(ValueError):
            fun(x)


def test_refused() -> None:
    matrix = np.array([[2.0, 1.0], [0.0, 1.0]])
    with pytest.raises(NoRuleError):
        np.linalg.qr(leaf(matrix), "raw")


def test_a_cutoff_of_0_is_the_precision() -> None:
    def f(a: Any, rcond: float) -> Any:
        return total(np.linalg.lstsq(a, [1.0, 1.0], rcond)[0])

    a = np.array(DOUBLED)
    assert_allclose(tg.grad(f)(a, 0.0), tg.grad(f)(a, 1e-10), rtol=1e-12)


def test_a_basis_completed_at_will_has_no_derivative() -> None:
    rng = np.random.default_rng(0)
    x = leaf(rng.normal(size=(4, 2)))
    u, s, vh = np.linalg.svd(x)
    total((u[:, :2], s, vh)).backward(retain_graph=True)
    expected = tg.grad(lambda x: total(np.linalg.svd(x, full_matrices=False)))(x.data)
    assert_allclose(x.grad, expected, atol=1e-12)
    with pytest.raises(NoRuleError, match="full_matrices=False"):
        total(u).backward()
    with pytest.raises(NoRuleError, match="mode='reduced'"):
        total(np.linalg.qr(x, "complete")[0]).backward()


@pytest.mark.parametrize("fun", [np.linalg.eigvalsh, lambda x: np.linalg.svd(x)[1]])
def test_second_derivative_at_equal_values_is_nan(fun: Any) -> None:
    """It exists for some functions of them, but cannot be told from the formula."""
    second = tg.grad(partial(along, lambda x: np.sum(fun(x) ** 2), 1))(EYE)
    assert np.isnan(second).all()


@pytest.mark.parametrize(
    "fun", [np.linalg.svd, np.linalg.eigh, np.linalg.eig, np.linalg.slogdet, np.linalg.qr]
)
def test_named_tuples_stay(fun: Any) -> None:
    expected, actual = fun(EYE), fun(leaf(EYE))
    assert type(actual) is type(expected)
    assert all(type(part) is tg.Tensor for part in actual)


def test_rank_is_a_constant() -> None:
    assert np.linalg.matrix_rank(leaf(DOUBLED)) == 1


READ_ONE_TRIANGLE = [
    lambda x: np.linalg.cholesky(x), lambda x: np.linalg.cholesky(x, upper=True),
    lambda x: np.linalg.eigvalsh(x), lambda x: np.linalg.eigvalsh(x, "U"),
    lambda x: np.linalg.eigh(x)[0], lambda x: np.linalg.eigh(x, "U")[1] ** 2,
    lambda x: np.linalg.svd(x, hermitian=True)[1], lambda x: np.linalg.pinv(x, hermitian=True),
    lambda x: np.linalg.svd(x, compute_uv=False, hermitian=True),
]  # fmt: skip


@pytest.mark.parametrize("middle", [0.0, 1e-12, 0.3])
@pytest.mark.parametrize("fun", READ_ONE_TRIANGLE)
def test_a_convention_is_not_chosen_by_the_values(fun: Any, middle: float) -> None:
    """However a matrix is made, symmetric by chance or always, the derivative is exact."""
    weights = np.random.default_rng(0).normal(size=9)

    def loss(a: Any) -> Any:
        y = fun(a).reshape(-1)
        return y @ weights[: y.size]

    def filled(v: Any) -> Any:  # a number for each element that is read, or for both
        return np.diag(v[:3]) + np.tri(3, k=-1) * v[3:6] + np.tri(3, k=-1).T * v[6:]

    makers = [filled, lambda v: filled(v) + filled(v).T, lambda v: filled(v) @ filled(v).T]
    v = np.array([3.0, 5, 9, *[middle] * 6])
    for make in makers:
        actual = tg.grad(lambda v, make=make: loss(make(v)))(v)
        numeric = central_differences(lambda v, make=make: loss(make(v)), [v], 0)
        assert_allclose(actual, numeric, atol=1e-9)


def test_one_triangle_of_a_complex_matrix() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 3))

    def loss(x: Any) -> Any:  # the imaginary parts of the diagonal are not read
        return np.sum(np.linalg.eigvalsh(x + 1j * np.swapaxes(x, 1, 2)) * [1, 2, 4])

    assert_allclose(tg.grad(loss)(x), central_differences(loss, [x], 0), atol=1e-9)


def test_the_average_with_the_transpose_is_the_gradient_of_a_symmetric_matrix() -> None:
    a, weights = np.array([[4.0, 1], [1, 3]]), np.array([[1.0, 0], [2, 3]])

    def loss(a: Any) -> Any:
        return np.sum(np.linalg.cholesky(a) * weights)

    g = tg.grad(loss)(a)
    assert g[0, 1] == 0
    assert_allclose((g + g.T) / 2, tg.grad(lambda a: loss((a + a.T) / 2))(a))


def test_cofactors_of_many_matrices_of_any_rank() -> None:
    rng = np.random.default_rng(0)
    for n in 1, 2, 3, 5:
        for rank in range(n + 1):
            a = rng.normal(size=(4, n, rank)) @ rng.normal(size=(4, rank, n))
            keep = [[k for k in range(n) if k != i] for i in range(n)]
            minors = [[a[:, i][:, :, j] for j in keep] for i in keep]
            signs = (-1.0) ** np.add.outer(range(n), range(n))
            expected = np.moveaxis(signs[..., None] * np.linalg.det(minors), -1, 0)
            assert_allclose(cofactors(a), expected, atol=1e-12)
