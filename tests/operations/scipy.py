"""SciPy's functions on tensors: linear algebra."""

from importlib.util import find_spec
from typing import Any

import numpy as np

from tensorgrad.scipy import linalg as la

from .row import *

SQUARE: list[Any] = [(2, 2), (1, 1), (2, 3, 3), (0, 2, 2)]
SYSTEMS: list[Any] = [((3, 3), (3,)), ((2, 2), (2, 3)), ((2, 2, 2), (2, 1)), ((1, 1), (2, 1, 2))]


def regular(a: Any) -> Any:
    """A matrix with eigenvalues away from 0 and from the negative numbers."""
    return a / 8 + 2 * np.eye(a.shape[-1])


def shuffled(a: Any) -> Any:
    """A matrix whose rows LAPACK swaps, by pivots that no rounding changes."""
    return a / 8 + 2 * np.eye(*a.shape[-2:])[::-1]


def positive_definite(a: Any) -> Any:
    return np.conjugate(regular(a)).mT @ regular(a)


# SciPy's Schur decomposition loses the small imaginary parts of the complex step: not analytic.
ROWS: list[Op] = []
if find_spec("scipy"):
    ROWS += [
        Op("expm", la.expm, reals, shapes=SQUARE),
        Op("logm", lambda a: la.logm(regular(a)), reals, shapes=SQUARE, analytic=False),
        Op("sqrtm", lambda a: la.sqrtm(regular(a)), reals, shapes=SQUARE, analytic=False),
        Op("solve_sylvester", lambda a, b, q: la.solve_sylvester(regular(a), regular(b), q),
           reals, reals, reals,
           shapes=[((2, 2), (3, 3), (2, 3)), ((1, 1), (2, 2), (3, 1, 2)), ((0, 2, 2), (1, 1), (2, 1))],
           analytic=False),
        Op("solve_continuous_lyapunov",
           lambda a, q: la.solve_continuous_lyapunov(regular(a), q), reals, reals,
           shapes=[((2, 2), (2, 2))], analytic=False),
        Op("solve_triangular", lambda a, b: la.solve_triangular(regular(a), b), reals, reals,
           shapes=SYSTEMS),
        Op("solve_triangular lower", lambda a, b: la.solve_triangular(
               regular(a), b, "T", lower=True, unit_diagonal=True), reals, reals, shapes=SYSTEMS),
        Op("solve_triangular adjoint", lambda a, b: la.solve_triangular(regular(a), b, 2),
           reals, reals, shapes=SYSTEMS[:2], analytic=False),
        Op("scipy cholesky", lambda a: la.cholesky(positive_definite(a)), reals, shapes=SQUARE,
           analytic=False),
        Op("cho_solve", lambda a, b: la.cho_solve(la.cho_factor(positive_definite(a)), b),
           reals, reals, shapes=SYSTEMS, analytic=False),
        Op("cho_solve lower",
           lambda a, b: la.cho_solve(la.cho_factor(positive_definite(a), lower=True), b),
           reals, reals, shapes=SYSTEMS[:2], analytic=False),
        Op("lu_factor", lambda a: la.lu_factor(shuffled(a))[0], reals,
           shapes=[(3, 3), (2, 4), (4, 2), (2, 2, 2), (0, 2, 2)]),
        Op("lu", lambda a: np.concatenate([la.lu(shuffled(a))[1], la.lu(shuffled(a))[2].mT], -2),
           reals, shapes=[(3, 3), (2, 3, 2)]),
        *(Op(f"lu_solve {trans}",
             lambda a, b, trans=trans: la.lu_solve(la.lu_factor(shuffled(a)), b, trans),
             reals, reals, shapes=SYSTEMS, analytic=trans != 2) for trans in range(3)),
    ]  # fmt: skip
ROWS += [
    Op("toeplitz", la.toeplitz, reals, reals, shapes=[((3,), (2,)), ((1,), (1,)), ((2,), (4,))]),
    Op("toeplitz symmetric", la.toeplitz, reals, shapes=[(3,), (1,)], analytic=False),
    Op("block_diag", la.block_diag, reals, reals, shapes=[((2, 1), (3,)), ((), (2, 2))]),
]
