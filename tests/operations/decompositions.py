"""Solving, inverting and decomposing matrices, and their norms."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad.rules.decompositions import cofactors_back

from .row import *

SQUARES: list[Any] = [(2, 2), (2, 3, 3), (1, 1), (0, 2, 2), (0, 0)]
INF = np.inf
equal = Domain((0.5,))  # so that a matrix is symmetric, but its elements move one by one
distances = Domain(grid(0.25, 3) + grid(-2.96875, -0.25), distinct=True)  # also from each other


def row(
    name: str, fun: Callable[..., Any], *domains: Domain, shapes: Any, analytic: bool = False
) -> Op:
    """A row whose function takes float16 arrays too, which numpy.linalg refuses."""

    def lifted(*arrays: Any) -> Any:
        return fun(*(x * np.float32(1) for x in arrays))

    return Op(name, lifted, *domains, shapes=shapes, analytic=analytic)


def apart(x: Any) -> Any:
    """Matrices whose singular values and eigenvalues stay away from zero and from each other."""
    m, n = x.shape[-2:]
    return x / 32 + 1 / 8 + np.eye(m, n, dtype=np.float32) * np.arange(2, 2 + n, dtype=np.float32)


def symmetric(x: Any) -> Any:
    return apart(x) + apart(x).mT


def indefinite(x: Any) -> Any:
    return symmetric(x) - 5


def four(x: Any) -> Any:
    """An array whose elements make a matrix of four rows that can be inverted."""
    return apart(x.reshape(4, 4)).reshape(x.shape)


def spaced(x: Any) -> Any:
    """Negative numbers of which no two are near each other, and no two sums along an axis."""
    return x / 32 - np.arange(1, x.size + 1, dtype=np.float32).reshape(x.shape)


def joined(results: Any, *parts: int) -> Any:
    """The results of those numbers, as one array of one axis."""
    return np.concatenate([results[i].reshape(-1) for i in parts])


def turning(x: Any) -> Any:
    """Matrices with a pair of complex eigenvalues."""
    return apart(x) + 5 * (np.tri(x.shape[-1], k=-1) - np.tri(x.shape[-1], k=-1).T)


def real_and_imaginary(z: Any) -> Any:
    return np.concatenate([np.real(z), np.imag(z)])


def low_rank(x: Any) -> Any:
    """Matrices of rank 2 of the shape of x, of three columns or more."""
    return apart(x)[..., :2] @ apart(x[..., :2, :] + 1)


ROWS = [
    # inverses and linear equations
    row("inv", lambda x: np.linalg.inv(apart(x)), reals, shapes=SQUARES, analytic=True),
    row("solve", lambda x, y: np.linalg.solve(apart(x), y), reals, reals, shapes=[
        ((2, 2), (2,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((3, 3), (2, 3, 1)),
        ((2, 1, 2, 2), (3, 2, 2)), ((1, 1), (1, 0)), ((0, 0), (0,)), ((0, 2, 2), (2,)),
    ], analytic=True),
    row("solve(x, list)", lambda x: np.linalg.solve(apart(x), [1, 2]), reals, shapes=[(2, 2)],
        analytic=True),
    row("solve(list, x)", lambda x: np.linalg.solve([[2.0, 1], [0, 3]], x), reals,
        shapes=[(2,), (2, 3), (2, 2, 1)], analytic=True),
    row("solve(x, x)", lambda x: np.linalg.solve(apart(x), x), reals, shapes=[(2, 2), (2, 3, 3)],
        analytic=True),
    row("solve(complex, x)", lambda x: np.imag(np.linalg.solve([[2, 1j], [1, 3]], x)), reals,
        shapes=[(2,), (2, 3)]),
    row("solve(complex x, y)", lambda x, y: np.real(np.linalg.solve(apart(x) * (1 + 1j) + 1j, y)),
        reals, reals, shapes=[((2, 2), (2,))]),
    row("tensorsolve", lambda x, y: np.linalg.tensorsolve(four(x), y), reals, reals,
        shapes=[((2, 2, 4), (2, 2))], analytic=True),
    row("tensorsolve axes", lambda x, y: np.linalg.tensorsolve(four(x), y, axes=(0,)), reals, reals,
        shapes=[((4, 2, 2), (2, 2))], analytic=True),
    row("tensorinv", lambda x: np.linalg.tensorinv(four(x)), reals, shapes=[(2, 2, 4)],
        analytic=True),
    row("tensorinv ind", lambda x: np.linalg.tensorinv(four(x), ind=1), reals, shapes=[(4, 2, 2)],
        analytic=True),
    *(row(f"matrix_power {n}", lambda x, n=n: np.linalg.matrix_power(apart(x) / 4, n), reals,
          shapes=[(2, 2), (2, 1, 1), (0, 0)], analytic=True) for n in (0, 1, 3, 6, -2)),
    row("pinv", lambda x: np.linalg.pinv(apart(x)), reals,
        shapes=[(2, 2), (3, 2), (2, 2, 3), (0, 2), (2, 0)]),
    row("pinv of low rank", lambda x: np.linalg.pinv(low_rank(x), 1e-5), reals,
        shapes=[(3, 3), (2, 4, 3)]),
    row("pinv with a cutoff", lambda x: np.linalg.pinv(apart(x), 0.62), reals,
        shapes=[(3, 3), (2, 4, 3), (3, 4)]),
    row("pinv of symmetric with a cutoff",
        lambda x: np.linalg.pinv(symmetric(x), hermitian=True, rtol=0.62), reals, shapes=[(3, 3)]),
    row("pinv rtol", lambda x: np.linalg.pinv(symmetric(x), hermitian=True, rtol=None), reals,
        shapes=[(2, 2)]),
    row("lstsq", lambda x, y: np.linalg.lstsq(apart(x), y)[0], reals, reals, shapes=[
        ((3, 2), (3,)), ((4, 2), (4, 3)), ((2, 3), (2,)), ((2, 2), (2, 1)), ((2, 2), (2, 0)),
    ]),
    row("lstsq [0], [1], [3]", lambda x, y: joined(np.linalg.lstsq(apart(x), y, None), 0, 1, 3),
        reals, reals, shapes=[((3, 2), (3,)), ((3, 1), (3, 2))]),
    row("lstsq of low rank", lambda x, y: np.linalg.lstsq(low_rank(x), y, rcond=1e-5)[0],
        reals, reals, shapes=[((3, 3), (3,)), ((4, 3), (4, 2))]),
    row("lstsq with a cutoff", lambda x, y: np.linalg.lstsq(apart(x), y, 0.62)[0], reals, reals,
        shapes=[((3, 3), (3,)), ((4, 3), (4, 2)), ((3, 4), (3, 2))]),
    # determinants
    row("det", np.linalg.det, reals, shapes=SQUARES, analytic=True),
    row("det of low rank", lambda x: np.linalg.det(low_rank(x)), reals, shapes=[(3, 3), (2, 4, 4)],
        analytic=True),
    row("det of complex", lambda x: np.imag(np.linalg.det(x * (1 + 1j) + 1j)), reals,
        shapes=[(2, 2), (3, 3)]),
    row("cofactors_back", lambda x, y: cofactors_back(apart(x), y), reals, reals,
        shapes=[((2, 2), (2, 2)), ((3, 3), (3, 3)), ((1, 1), (1, 1))], analytic=True),
    row("slogdet [1]", lambda x: np.linalg.slogdet(-apart(x))[1], reals, shapes=SQUARES),
    row("slogdet of complex", lambda x: joined(np.linalg.slogdet(apart(x) * 1j + 1), 0, 1).real,
        reals, shapes=[(2, 2)]),
    # symmetric matrices
    row("cholesky", lambda x: np.linalg.cholesky(symmetric(x)), reals, shapes=SQUARES),
    row("cholesky upper", lambda x: np.linalg.cholesky(symmetric(x), upper=True), reals,
        shapes=[(2, 2), (2, 3, 3)]),
    row("cholesky of one triangle", lambda x: np.linalg.cholesky(apart(x)), distinct,
        shapes=[(3, 3)]),
    row("cholesky of equal triangles", lambda x: np.linalg.cholesky(apart(x)), equal,
        shapes=[(3, 3), (2, 2, 2)]),
    row("cholesky of complex",
        lambda x: real_and_imaginary(np.linalg.cholesky(apart(x) + 1j / 4 * x.mT)), reals,
        shapes=[(2, 2), (2, 3, 3)]),
    row("cholesky upper of complex",
        lambda x: real_and_imaginary(np.linalg.cholesky(apart(x) + 1j / 4 * x.mT, upper=True)),
        reals, shapes=[(2, 2)]),
    row("eigh", lambda x: joined(np.linalg.eigh(symmetric(x)), 0, 1), reals, shapes=SQUARES),
    row("eigh of upper triangle", lambda x: joined(np.linalg.eigh(apart(x), UPLO="U"), 0, 1),
        distinct, shapes=[(3, 3)]),
    row("eigh of equal triangles", lambda x: joined(np.linalg.eigh(apart(x)), 0, 1), equal,
        shapes=[(3, 3), (2, 2, 2)]),
    row("eigvalsh", lambda x: np.linalg.eigvalsh(symmetric(x)), reals, shapes=SQUARES),
    row("eigvalsh of upper triangle", lambda x: np.linalg.eigvalsh(apart(x), "u"), distinct,
        shapes=[(3, 3)]),
    # eigenvalues of any square matrix; from NumPy 2.5 on, real ones are complex numbers, too
    row("eig", lambda x: np.real(joined(np.linalg.eig(apart(x)), 0, 1)), reals, shapes=SQUARES),
    row("eigvals", lambda x: np.real(np.linalg.eigvals(apart(x))), reals, shapes=SQUARES),
    row("eig of complex", lambda x: real_and_imaginary(joined(np.linalg.eig(turning(x)), 0, 1)),
        reals, shapes=[(2, 2), (3, 3)]),
    row("eigvals of complex", lambda x: real_and_imaginary(np.linalg.eigvals(turning(x))), reals,
        shapes=[(2, 2), (3, 3)]),
    # singular values and orthogonal factors
    row("svd", lambda x: joined(np.linalg.svd(apart(x)), 0, 1, 2), reals,
        shapes=[(2, 2), (2, 3, 3), (3, 2), (2, 3), (1, 1), (0, 2, 2), (0, 0), (1, 0)]),
    row("svd full_matrices", lambda x: joined(np.linalg.svd(apart(x), False), 0, 1, 2),
        reals, shapes=[(4, 2), (2, 4), (2, 3, 1), (0, 2), (2, 0)]),
    row("svd hermitian", lambda x: joined(np.linalg.svd(indefinite(x), hermitian=True), 0, 1, 2),
        reals, shapes=[(3, 3)]),
    row("svd hermitian values", lambda x: np.linalg.svd(indefinite(x), True, False, True),
        reals, shapes=[(3, 3)]),
    row("svdvals", lambda x: np.linalg.svdvals(apart(x)), reals,
        shapes=[(2, 2), (2, 3, 2), (2, 3), (0, 2), (2, 0)]),
    row("qr", lambda x: joined(np.linalg.qr(apart(x)), 0, 1), reals,
        shapes=[(2, 2), (2, 3, 2), (2, 4), (1, 1), (0, 2), (2, 0), (0, 0)]),
    row("qr complete", lambda x: joined(np.linalg.qr(apart(x), mode="complete"), 0, 1), reals,
        shapes=[(2, 2), (3, 2), (2, 3)]),
    row("qr r", lambda x: np.linalg.qr(apart(x), "r"), reals, shapes=[(3, 2), (2, 3)]),
    # norms
    row("norm", np.linalg.norm, nonzero, shapes=[(), (3,), (2, 3), (2, 3, 2), (0,)]),
    row("norm keepdims", lambda x: np.linalg.norm(x, keepdims=True), nonzero,
        shapes=[(3,), (2, 3)]),
    *(row(f"norm {order}", lambda x, order=order: np.linalg.norm(x, order, axis=-1), distances,
         shapes=[(3,), (2, 3)])
      for order in (2, 1, INF, -INF, 3, 2.5, 0.5, -1, -2)),
    row("norm axis 0", lambda x: np.linalg.norm(x, 3, axis=0, keepdims=True), nonzero,
        shapes=[(3,), (2, 3), (2, 0)]),
    *(row(f"norm {order} of matrices", lambda x, order=order: np.linalg.norm(apart(x), order),
         distances, shapes=[(2, 2), (2, 3), (3, 1)])
      for order in ("fro", "nuc", 1, -1, 2, -2, INF, -INF)),
    row("norm 1 axes", lambda x: np.linalg.norm(spaced(x), 1, axis=(2, 0), keepdims=True), reals,
        shapes=[(2, 3, 2)]),
    row("norm nuc axes", lambda x: np.linalg.norm(x, "nuc", axis=(-1, 0)), distances,
        shapes=[(1, 3, 2), (2, 0, 1)]),
    row("vector_norm", np.linalg.vector_norm, nonzero, shapes=[(), (3,), (2, 3), (0,)]),
    row("vector_norm axes", lambda x: np.linalg.vector_norm(x, axis=(0, -1), keepdims=True, ord=3),
        nonzero, shapes=[(2, 3), (2, 3, 2)]),
    row("matrix_norm", np.linalg.matrix_norm, nonzero, shapes=[(2, 3), (2, 3, 2)]),
    row("matrix_norm 1", lambda x: np.linalg.matrix_norm(spaced(x), ord=1, keepdims=True), reals,
        shapes=[(2, 3), (2, 3, 2)]),
    *(row(f"cond {p}", lambda x, p=p: np.linalg.cond(apart(x), p), distances,
         shapes=[(2, 2), (2, 3, 3), (0, 2, 2)])
      for p in (None, -2, "fro", 1)),
    # products
    row("multi_dot of two", lambda x, y: np.linalg.multi_dot([x, y]), reals, reals,
        shapes=[((2, 3), (3, 2)), ((3,), (3,))], analytic=True),
    row("multi_dot of three", lambda x, y, z: np.linalg.multi_dot([x, y, z]), reals, reals, reals,
        shapes=[((2, 3), (3, 4), (4, 1)), ((3,), (3, 2), (2,)), ((2, 3), (3, 0), (0, 2)),
               ((2,), (2, 3), (3, 2)), ((2, 3), (3, 2), (2,))], analytic=True),
    row("multi_dot of four", lambda x, y: np.linalg.multi_dot([x, y, x, y]), reals, reals,
        shapes=[((2, 3), (3, 2))], analytic=True),
]  # fmt: skip
