"""SciPy's functions on tensors: linear algebra, distributions and signals."""

from importlib.util import find_spec
from typing import Any

import numpy as np

from tensorgrad.scipy import interpolate, linalg as la, signal as sg, sparse, stats as st

from .decompositions import row
from .row import *
from .special import probabilities

SCIPY = find_spec("scipy") is not None
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
if SCIPY:
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
        row("scipy cholesky", lambda a: la.cholesky(positive_definite(a)), reals, shapes=SQUARE,
           analytic=False),
        row("cho_solve", lambda a, b: la.cho_solve(la.cho_factor(positive_definite(a)), b),
           reals, reals, shapes=SYSTEMS, analytic=False),
        row("cho_solve lower",
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


def tails(family: Any, *parameters: Any) -> Any:
    """The functions of a family that are no densities, as a function of points between 0 and 1."""
    methods = [family.cdf, family.sf, family.logcdf, family.logsf]

    def of_points(x: Any) -> Any:
        values = [method(x, *parameters) for method in methods]
        if hasattr(family, "ppf"):
            values.append(family.ppf(x, *parameters))
        return np.stack(values)

    return of_points


def of_probability(family: Any, k: Any, *parameters: Any) -> Any:
    """The functions of a discrete family at points, as a function of its last parameter."""
    methods = [family.logpmf, family.cdf, family.sf, family.logcdf, family.logsf]
    return lambda p: np.stack([method(k, *parameters, p, 0) for method in methods])


inner = Domain(grid(1 / 8, 7 / 8, 1 / 8))


def spline(bc_type: str) -> Any:
    """A cubic spline by its knots, its values and the points."""

    def values(h: Any, y: Any, t: Any) -> Any:
        return interpolate.CubicSpline(np.cumsum(h), y, bc_type)(t)

    return values


KNOTS: list[Any] = [((4,), (4,), (2,)), ((5,), (5, 2), ())]
POINTS: list[Any] = [(), (2, 3), (0,)]
NO_SCIPY = ["norm", "logistic", "cauchy", "gumbel_r", "gumbel_l"]
ROWS += [
    *(Op(f"{name}.logpdf", getattr(st, name).logpdf, reals, reals, positive, analytic=False,
         shapes=[((), (), ()), ((3,), (2, 3), (2, 1))]) for name in NO_SCIPY),
    Op("laplace.logpdf", lambda x, s: st.laplace.logpdf(x, 0, s), nonzero, positive,
       analytic=False, shapes=[((2, 1), (3,))]),
    Op("uniform.logpdf", lambda x, s: st.uniform.logpdf(x, -0.125, s * 5.0), probabilities, positive,
       analytic=False, shapes=[((2, 1), (3,))]),
    Op("expon.logpdf", lambda x, s: st.expon.logpdf(x, scale=s), positive, positive,
       analytic=False, shapes=[((2, 1), (3,))]),
    Op("beta.logpdf", st.beta.logpdf, probabilities, positive, positive, analytic=False,
       shapes=[((), (), ()), ((3,), (2, 3), (2, 1))]),
    *(Op(f"{name}.logpdf", lambda x, a, s, name=name: getattr(st, name).logpdf(x, a, -0.125, s),
         positive, positive, positive, analytic=False, shapes=[((3,), (2, 3), (2, 1))])
      for name in ("t", "gamma", "chi2", "lognorm", "weibull_min")),
    *(Op(f"{name} tails", tails(getattr(st, name), *parameters), inner, shapes=POINTS,
         analytic=False)
      for name, *parameters in (
          *((name, 0.125, 2.0) for name in NO_SCIPY), ("expon",), ("uniform", -1.0, 3.0),
          ("lognorm", 0.75), ("weibull_min", 1.5),
      )),
    Op("laplace tails", tails(st.laplace), Domain((0.125, 0.375, 0.625, 0.875)), shapes=POINTS,
       analytic=False),
    *(Op(f"{name} of p", of_probability(getattr(st, name), k), inner,
         shapes=[(), (2, 3)], analytic=False)
      for name, k in (("geom", [1, 2, 4]), ("bernoulli", [0, 0, 0.0]))),
    Op("bernoulli.logpmf", lambda p: st.bernoulli.logpmf([0, 1, 0], p), probabilities,
       shapes=[(), (2, 3)], analytic=False),
    *(Op(f"{name}.logpmf", lambda n, p, f=family: f.logpmf([0, 1, 3], n + 4, p),
         positive, probabilities, shapes=[((2, 3), (3,))], analytic=False)
      for name, family in (("binom", st.binom), ("nbinom", st.nbinom))),
    Op("poisson.logpmf", lambda mu: st.poisson.logpmf([0, 1, 4], mu), positive,
       shapes=[(), (2, 3)], analytic=False),
    row("multivariate_normal.logpdf",
       lambda x, m, a: st.multivariate_normal.logpdf(x, m, positive_definite(a)),
       reals, reals, reals, shapes=[((4, 2), (2,), (2, 2)), ((3,), (2, 3), (2, 3, 3))],
       analytic=False),
    Op("dirichlet.logpdf", lambda x, a: st.dirichlet.logpdf(x / np.sum(x, axis=0), a), positive,
       positive, shapes=[((3,), (3,)), ((2, 4), (2,))], analytic=False),
]  # fmt: skip
ROWS += [
    row(f"CubicSpline {bc_type}", spline(bc_type), positive, reals, halfway, shapes=KNOTS)
    for bc_type in ("not-a-knot", "natural", "clamped")
]
if SCIPY:
    ROWS += [
        *(Op(f"{name} tails", tails(getattr(st, name), *parameters), inner, shapes=POINTS,
             analytic=False)
          for name, *parameters in (("t", 3.0), ("gamma", 1.5), ("chi2", 3.0), ("beta", 2.0, 1.5))),
        *(Op(f"{name} of p", of_probability(getattr(st, name), [0, 1, 3], *parameters), inner,
             shapes=[(), (2, 3)], analytic=False)
          for name, *parameters in (("poisson",), ("binom", 5), ("nbinom", 2.5))),
    ]  # fmt: skip

    LENGTHS: list[Any] = [((4,), (2,)), ((2,), (3,)), ((3, 2), (2, 2)), ((1,), (1,))]
    FILTERS: list[Any] = [((2,), (3,), (4,)), ((3,), (1,), (2, 3)), ((1,), (2,), (1,))]
    ROWS += [
        Op("scipy convolve", sg.convolve, reals, reals, shapes=LENGTHS),
        Op("scipy convolve same", lambda x, y: sg.convolve(x, y, "same", "direct"), reals, reals,
           shapes=LENGTHS),
        Op("scipy convolve valid", lambda x, y: sg.convolve(x, y, "valid", "direct"), reals, reals,
           shapes=LENGTHS),
        Op("scipy correlate", sg.correlate, reals, reals, shapes=LENGTHS, analytic=False),
        Op("fftconvolve", sg.fftconvolve, reals, reals, shapes=LENGTHS[:3], analytic=False),
        Op("lfilter", lambda b, a, x: sg.lfilter(b, a + 4, x), reals, reals, reals,
           shapes=FILTERS),
        Op("lfilter axis", lambda b, x: sg.lfilter(b, [2.0, 0.5], x, axis=0), reals, reals,
           shapes=[((2,), (3, 2))]),
    ]  # fmt: skip

    from scipy.sparse import csr_array

    SPARSE = csr_array(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, -3.0]]))
    ROWS += [
        Op("sparse @ x", lambda x: sparse.matmul(SPARSE, x), reals, shapes=[(3,), (3, 2)]),
        Op("x @ sparse", lambda x: sparse.matmul(x, SPARSE), reals, shapes=[(2,), (4, 2)]),
    ]
