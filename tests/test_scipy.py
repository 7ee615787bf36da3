"""SciPy's functions on tensors: values against SciPy's own, errors, and what needs no SciPy."""

import importlib
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.scipy import interpolate, linalg, signal, sparse

from .oracles import leaf

scipy_linalg = pytest.importorskip("scipy.linalg")

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 2))
C = A + 1j * RNG.normal(size=(4, 4))
POSITIVE = C @ C.conj().T


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("expm", (C,), {}),
        ("expm", (np.eye(2, dtype=int),), {}),
        ("logm", (C,), {}),
        ("sqrtm", (POSITIVE,), {}),
        ("sqrtm", (-np.eye(2),), {}),
        ("solve_sylvester", (C, C[:2, :2], C[:, :2]), {}),
        ("solve_continuous_lyapunov", (C, A), {}),
        *(("solve_triangular", (C, B), {"trans": t, "lower": low, "unit_diagonal": low is unit})
          for t in (0, 1, "C") for low in (True, False) for unit in (True, False)),
        ("solve_triangular", (A, B[:, 0]), {}),
        ("cholesky", (POSITIVE,), {"lower": True}),
        ("cholesky", (POSITIVE,), {}),
        *(("lu_factor", (a,), {}) for a in (C, A[:2], A[:, :3])),
        *(("lu", (a,), {name: True}) for a in (C, A[:2], A[:, :3])
          for name in ("permute_l", "p_indices", "check_finite")),
        ("toeplitz", (C[0], A[1, :3]), {}),
        ("toeplitz", (C[0],), {}),
        ("block_diag", (A, [1.0, 2.0], 3.0, B), {}),
        ("block_diag", (), {}),
    ],
)  # fmt: skip
def test_values_are_scipys(name: str, args: Any, options: Any) -> None:
    expected = getattr(scipy_linalg, name)(*args, **options)
    options.pop("check_finite", None)
    actual = getattr(linalg, name)(*args, **options)
    parts = actual if isinstance(actual, tuple) else (actual,)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    for found, part in zip(parts, wanted, strict=True):
        assert found.dtype.kind == part.dtype.kind
        assert_allclose(found, part, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("trans", [0, 1, 2])
@pytest.mark.parametrize("lower", [True, False])
def test_systems_are_solved_from_their_factors(trans: int, lower: bool) -> None:
    for b in B, B[:, 0]:
        x = linalg.lu_solve(scipy_linalg.lu_factor(C), b, trans)
        assert_allclose(x, scipy_linalg.lu_solve(scipy_linalg.lu_factor(C), b, trans))
        x = linalg.cho_solve(scipy_linalg.cho_factor(POSITIVE, lower), b)
        assert_allclose(x, np.linalg.solve(POSITIVE, b), rtol=1e-9)


def test_the_other_triangle_is_not_read() -> None:
    a = leaf(np.array([[2.0, 1.0], [np.nan, 4.0]]))
    x = linalg.solve_triangular(a, [4.0, 8.0])
    assert_array_equal(x.data, [1, 2])
    np.sum(x).backward()
    assert a.grad is not None and a.grad[1, 0] == 0 and np.isfinite(a.grad).all()


def test_logm_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    linalg.logm(np.eye(3) + A[:3, :3] ** 2)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linalg.expm(B), r"expm: pass square matrices, not shape \(4, 2\)"),
        (lambda: linalg.sqrtm(np.ones(3)), r"sqrtm: pass square matrices, not shape \(3,\)"),
        (lambda: linalg.lu(1.0), r"lu_factor: pass a matrix, not an array of shape \(\)"),
        (lambda: linalg.solve_sylvester(A, A, B), r"do not match: \(4, 4\), \(4, 4\), \(4, 2\)"),
        (lambda: linalg.solve_triangular(A, B, 3), "trans=3 must be 0, 1, 2, 'N', 'T' or 'C'"),
        (lambda: linalg.solve_triangular(A, B[:3]), r"shapes \(4, 4\) and \(3, 2\) do not match"),
        (lambda: linalg.toeplitz(A), r"toeplitz: pass vectors, not shapes \(4, 4\)"),
        (lambda: linalg.block_diag(np.ones((2, 2, 2))), r"block_diag: .* shape \(2, 2, 2\)"),
        (lambda: linalg.solve_triangular(np.zeros((2, 2)), [1.0, 2]), "singular matrix"),
    ],
)
def test_errors_name_what_is_wrong(call: Any, message: str) -> None:
    with pytest.raises((ValueError, np.linalg.LinAlgError), match=message):
        call()


def own(name: str) -> Any:
    return importlib.import_module(f"scipy.{name}")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda t: own("linalg").expm(t), "linalg.expm"),
        (lambda t: own("linalg").solve_triangular(t, t), "linalg.solve_triangular"),
        (lambda t: own("linalg").block_diag(t, t), "linalg.block_diag"),
        (lambda t: own("sparse").csr_array(np.eye(2)) @ t, "sparse.matmul"),
        (lambda t: own("interpolate").CubicSpline([0, 1], t), "interpolate.CubicSpline"),
        (lambda t: own("signal").lfilter(t[0], t[0], t), "signal.lfilter"),
        (lambda t: own("stats").norm.logpdf(t, 1.0), "stats.norm.logpdf"),
        (lambda t: own("stats").norm(t, 1.0).cdf(1.0), "stats.norm.cdf"),
        (lambda t: own("stats").poisson.logpmf(1, t), "stats.poisson.logpmf"),
        (lambda t: own("stats").multivariate_normal.logpdf(t[0], cov=t),
         "stats.multivariate_normal.logpdf"),
    ],
)  # fmt: skip
def test_scipys_own_functions_refuse_tensors_and_name_ours(call: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"Instead of SciPy's .* call tensorgrad.scipy.{name}. "):
        call(leaf(np.eye(2) + 1))


def test_missing_names_say_where_the_function_is() -> None:
    with pytest.raises(AttributeError, match=r"use tg\.scipy\.linalg\.expm$"):
        _ = tg.expm  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve", "correlate", "fftconvolve"])
def test_convolutions_are_scipys(name: str, mode: Any) -> None:
    for x, y in (A, B), (C[0], A[0, :2]), (A[0, :3], C[0]):
        expected = getattr(own("signal"), name)(x, y[: len(x)] if x.ndim > 1 else y, mode)
        actual = getattr(signal, name)(x, y[: len(x)] if x.ndim > 1 else y, mode)
        assert_allclose(actual, expected, atol=1e-12)


def test_filters_are_scipys() -> None:
    for b, a, x, axis in (A[0], C[1], B, 0), ([1.0, 2.0], 2.0, B, 1), (0.5, [2.0, 1.0], A[0], -1):
        expected = own("signal").lfilter(np.atleast_1d(b), np.atleast_1d(a), x, axis)
        assert_allclose(signal.lfilter(b, a, x, axis), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: signal.convolve(A, B[0]), r"equally many axes, not shapes \(4, 4\) and \(2,\)"),
        (lambda: signal.convolve([1.0], []), r"with elements .* \(1,\) and \(0,\)"),
        (lambda: signal.convolve(A[:3], B, "valid"), r"shapes are \(3, 4\) and \(4, 2\)"),
        (lambda: signal.convolve(A, A, "half"), "mode='half' must be 'full', 'same' or 'valid'"),  # type: ignore[arg-type]
        (lambda: signal.lfilter([], 1.0, B), r"lfilter: .* not shapes \(0,\), \(1,\), \(4, 2\)"),
    ],
)
def test_errors_of_signals_name_what_is_wrong(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_sparse_products_of_all_formats() -> None:
    dense = A * (A > 0)
    for kind in "csr_array", "coo_array", "csc_matrix", "bsr_array":
        matrix = getattr(own("sparse"), kind)(dense)
        for x in B, B[:, 0]:
            assert_allclose(sparse.matmul(matrix, x), dense @ x)
            assert_allclose(sparse.matmul(x.T, matrix), x.T @ dense)


def test_errors_of_sparse_products() -> None:
    matrix = own("sparse").csr_array(A)
    with pytest.raises(TypeError, match=r"must be a sparse matrix of SciPy's, .* not ndarray and"):
        sparse.matmul(A, B)
    with pytest.raises(ValueError, match=r"sparse.matmul: shapes \(4, 4\) and \(3,\) do not"):
        sparse.matmul(matrix, np.ones(3))
    with pytest.raises(tg.PrecedenceError, match=r"call tensorgrad\.scipy\.sparse\.matmul, or"):
        leaf(A) @ matrix


@pytest.mark.parametrize("bc_type", ["not-a-knot", "natural", "clamped"])
def test_splines_are_scipys(bc_type: str) -> None:
    x, points = np.array([0.0, 0.5, 2.0, 3.0, 3.5]), np.linspace(-1, 5, 13)
    for y in RNG.normal(size=5), RNG.normal(size=(5, 2, 3)):
        ours = interpolate.CubicSpline(x, y, bc_type)
        theirs = own("interpolate").CubicSpline(x, y, bc_type=bc_type)
        for nu in range(5):
            assert_allclose(ours(points, nu), theirs(points, nu), rtol=1e-9, atol=1e-9)
        assert_allclose(ours(x[1]), y[1])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((A, A), r"n knots and n values, not shapes \(4, 4\), \(4, 4\)"),
        (([0, 1], [1, 2]), "bc_type='not-a-knot' needs 4 points or more"),
        (([0, 1, 1], [1, 2, 3], "natural"), "x must be increasing"),
        (([0, 1], [1, 2], "periodic"), "'periodic' must be one of not-a-knot, natural, clamped"),
    ],
)
def test_errors_of_splines_name_what_is_wrong(args: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interpolate.CubicSpline(*args)


def test_special_functions_are_imported_as_from_scipy() -> None:
    from tensorgrad.scipy.special import gammaln

    assert gammaln is tg.special.gammaln
