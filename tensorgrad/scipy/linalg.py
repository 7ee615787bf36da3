"""Linear algebra that NumPy lacks, under the names of `scipy.linalg`.

All functions take stacks of matrices, whose other axes broadcast. `numpy.linalg` has the others.

>>> tg.grad(lambda t: np.sum(tg.scipy.linalg.expm(t * np.array([[0, 1], [-1, 0]]))))(0.0)
array(0.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.custom import differentiable
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..engine.typing import Function
from ..errors import optional
from ..guide import of_module
from .operands import each_matrix, operand, require_square

__all__ = [
    "block_diag",
    "cho_factor",
    "cho_solve",
    "cholesky",
    "expm",
    "logm",
    "lu",
    "lu_factor",
    "lu_solve",
    "solve_continuous_lyapunov",
    "solve_sylvester",
    "solve_triangular",
    "sqrtm",
    "toeplitz",
]


def __dir__() -> list[str]:
    return __all__


__getattr__ = of_module(__name__)


def _scipys(name: str, *stacks: Any, **options: Any) -> Any:
    """The results of SciPy's function of that name, of each matrix of the stacks."""
    fun = getattr(optional("scipy.linalg", f"scipy.linalg.{name}"), name)
    return each_matrix(lambda *matrices: fun(*matrices, **options), *stacks)


# -- functions of a matrix


def _in_direction(fun: Function, a: Any, direction: Any) -> Any:
    """The derivative of a function of a matrix, as a block of its value at a matrix of blocks.

    Higham, "Functions of Matrices" (2008), equation 3.16.
    """
    upper = np.concatenate([a, direction], axis=-1)
    lower = np.concatenate([np.zeros_like(direction), a], axis=-1)
    n = a.shape[-1]
    return fun(np.concatenate([upper, lower], axis=-2))[..., :n, n:]


def _expm_back(g: Any, _y: Any, a: Any) -> Any:
    return _in_direction(expm, a.mT, g)


def _expm_forward(tangents: Any, _y: Any, a: Any) -> Any:
    return _in_direction(expm, a, tangents[0])


def _logm_back(g: Any, _y: Any, a: Any) -> Any:
    return _in_direction(logm, a.mT, g)


def _logm_forward(tangents: Any, _y: Any, a: Any) -> Any:
    return _in_direction(logm, a, tangents[0])


def _sqrtm_back(g: Any, y: Any, _a: Any) -> Any:
    return solve_sylvester(y.mT, y.mT, g)


@differentiable(_expm_back, jvp=_expm_forward)
def expm(a: Any) -> Tensor:
    """Return the exponential of a square matrix.

    >>> tg.scipy.linalg.expm(np.zeros((2, 2)))
    array([[1., 0.],
           [0., 1.]])
    """
    return _of_square("expm", a)  # type: ignore[no-any-return]


@differentiable(_logm_back, jvp=_logm_forward)
def logm(a: Any) -> Tensor:
    """Return the logarithm of a square matrix, the inverse of `expm`.

    It is complex if the matrix has negative eigenvalues.

    >>> tg.scipy.linalg.logm(np.diag([1.0, np.e])).round(8) + 0.0
    array([[0., 0.],
           [0., 1.]])
    """
    state = np.random.get_state()  # noqa: NPY002 (SciPy's estimates of norms change it)
    try:
        return _of_square("logm", a)  # type: ignore[no-any-return]
    finally:
        np.random.set_state(state)  # noqa: NPY002


@differentiable(_sqrtm_back)
def sqrtm(a: Any) -> Tensor:
    """Return the square root of a square matrix, as `sqrtm(a) @ sqrtm(a)` is `a`.

    It is complex if the matrix has negative eigenvalues. A singular matrix has no derivative.

    >>> tg.scipy.linalg.sqrtm(np.diag([4.0, 9.0]))
    array([[2., 0.],
           [0., 3.]])
    """
    return _of_square("sqrtm", a)  # type: ignore[no-any-return]


def _of_square(name: str, a: Any) -> Any:
    a = np.asarray(a)
    require_square(name, a)
    return _scipys(name, a)


# -- equations


def _sylvester_back(g: Any, x: Any, a: Any, b: Any, _q: Any) -> Any:
    h = solve_sylvester(a.mT, b.mT, g)
    return -(h @ x.mT), -(x.mT @ h), h


@differentiable(together=_sylvester_back)
def solve_sylvester(a: Any, b: Any, q: Any) -> Tensor:
    """Return the solution x of `a @ x + x @ b = q`; `a` and `b` are square.

    >>> tg.scipy.linalg.solve_sylvester(np.eye(2), 2 * np.eye(1), np.full((2, 1), 6.0))
    array([[2.],
           [2.]])
    """
    a, b, q = map(np.asarray, (a, b, q))
    require_square("solve_sylvester", a, b)
    if q.shape[-2:] != (a.shape[-1], b.shape[-1]):
        shapes = f"{a.shape}, {b.shape}, {q.shape}"
        raise ValueError(f"solve_sylvester: the shapes of a, b and q do not match: {shapes}")
    return _scipys("solve_sylvester", a, b, q)  # type: ignore[no-any-return]


def solve_continuous_lyapunov(a: Any, q: Any) -> Tensor:
    """Return the solution x of `a @ x + x @ a.conj().mT = q`.

    >>> tg.scipy.linalg.solve_continuous_lyapunov(np.eye(2), 2 * np.eye(2))
    array([[1., 0.],
           [0., 1.]])
    """
    a = operand(a, "solve_continuous_lyapunov")
    return solve_sylvester(a, np.conjugate(a).mT, q)


def _triangular_back(
    g: Any, x: Any, a: Any, _b: Any, lower: Any = False, unit_diagonal: Any = False
) -> Any:
    h = _triangular(a.mT, g, not lower, unit_diagonal)
    part = np.tril if lower else np.triu
    return -part(h @ x.mT, (-1 if lower else 1) * bool(unit_diagonal)), h


@differentiable(together=_triangular_back)
@shown_as("solve_triangular")
def _triangular(a: Any, b: Any, lower: Any = False, unit_diagonal: Any = False) -> Any:
    return _scipys(
        "solve_triangular", a, b, lower=lower, unit_diagonal=unit_diagonal, check_finite=False
    )


def solve_triangular(
    a: Any, b: Any, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False
) -> Tensor:
    """Return the solution x of `a @ x = b` for a triangular matrix: upper, unless `lower`.

    `trans` 1 or "T" takes the transpose of `a`, and 2 or "C" its adjoint. The other triangle is not
    read, nor the diagonal if it is a `unit_diagonal`: derivatives by them are 0. `b` is a vector or
    a matrix.

    >>> tg.scipy.linalg.solve_triangular(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([4.0, 2.0]))
    array([1., 2.])
    """
    a, b = operand(a, "solve_triangular"), operand(b, "solve_triangular")
    require_square("solve_triangular", a)
    transposed = {0: 0, "N": 0, 1: 1, "T": 1, 2: 2, "C": 2}.get(trans)
    if transposed is None:
        raise ValueError(f"solve_triangular: trans={trans!r} must be 0, 1, 2, 'N', 'T' or 'C'")
    if b.ndim == 0 or b.shape[-1 if b.ndim == 1 else -2] != a.shape[-1]:
        raise ValueError(f"solve_triangular: shapes {a.shape} and {b.shape} do not match")
    if transposed:
        a, lower = a.mT if transposed == 1 else np.conjugate(a).mT, not lower
    if b.ndim == 1:
        return _triangular(a, b[:, None], lower, unit_diagonal)[..., 0]  # type: ignore[no-any-return]
    return _triangular(a, b, lower, unit_diagonal)  # type: ignore[no-any-return]


# -- Cholesky's factorization


def cholesky(a: Any, lower: bool = False) -> Tensor:
    """Return the triangular factor of a positive definite matrix: upper, unless `lower`.

    Only that triangle of the matrix is read, and has a gradient, as in `np.linalg.cholesky`.

    >>> tg.scipy.linalg.cholesky(np.array([[4.0, 2.0], [2.0, 10.0]]))
    array([[2., 1.],
           [0., 3.]])
    """
    return np.linalg.cholesky(a, upper=not lower)  # type: ignore[return-value]


def cho_factor(a: Any, lower: bool = False) -> tuple[Tensor, bool]:
    """Return the factor `cholesky(a, lower)` for `cho_solve`, and `lower`.

    >>> factor = tg.scipy.linalg.cho_factor(np.diag([4.0, 9.0]))
    >>> tg.scipy.linalg.cho_solve(factor, np.array([4.0, 18.0]))
    array([1., 2.])
    """
    return cholesky(a, lower), lower


def cho_solve(c_and_lower: tuple[Any, bool], b: Any) -> Tensor:
    """Return the solution x of `a @ x = b` from what `cho_factor(a)` returned."""
    c, lower = c_and_lower
    y = solve_triangular(c, b, 0 if lower else 2, lower)
    return solve_triangular(c, y, 2 if lower else 0, lower)


# -- LU factorization


def _factors(lu: Any) -> tuple[Any, Any]:
    """The factors L and U from the matrix that has both."""
    m, n = lu.shape[-2:]
    k = min(m, n)
    return np.tril(lu[..., :k], -1) + np.eye(m, k, dtype=lu.dtype), np.triu(lu[..., :k, :])


def _lu_back(g: Any, out: Any, _a: Any) -> Any:
    """From the derivative of a square matrix, as its factors determine the other columns or rows.

    They are U's columns `L**-1 @ a`, or L's rows `a @ U**-1`.
    """
    (lower, upper), (m, n) = _factors(out[0]), _a.shape[-2:]
    k = min(m, n)
    g_lower, g_upper = g[0][..., :k], g[0][..., :k, :]
    first_lower, first_upper = lower[..., :k, :], upper[..., :k]

    def by_lower(x: Any) -> Any:  # L.mT**-1 @ x
        return solve_triangular(first_lower, x, 1, lower=True, unit_diagonal=True)

    def by_upper(x: Any) -> Any:  # x @ U.mT**-1
        return solve_triangular(first_upper, x.mT).mT

    g_first_lower, g_first_upper = g_lower[..., :k, :], g_upper[..., :k]
    if m > k:
        others = by_upper(g_lower[..., k:, :])
        g_first_upper = g_first_upper - lower[..., k:, :].mT @ others
    elif n > k:
        others = by_lower(g_upper[..., k:])
        g_first_lower = g_first_lower - others @ upper[..., k:].mT
    strict = np.tril(first_lower.mT @ g_first_lower, -1)
    rows = by_upper(by_lower(strict + np.triu(g_first_upper @ first_upper.mT)))
    if m != n:
        rows = np.concatenate([rows, others], axis=-2 if m > k else -1)
    return _rows(rows, np.argsort(out[2], axis=-1))


@differentiable(_lu_back)
@shown_as("lu or lu_factor")
def _lu(a: Any) -> tuple[Any, Any, Any]:
    """Both factors in one matrix, LAPACK's pivots, and the order of the rows that they make.

    De Hoog, Anderssen and Lukas, "Differentiation of matrix functionals using triangular
    factorization" (2011).
    """
    a = np.asarray(a)
    if a.ndim < 2:
        raise np.linalg.LinAlgError(f"lu_factor: pass a matrix, not an array of shape {a.shape}")
    lu, pivots = _scipys("lu_factor", a, check_finite=False)
    return lu, pivots, _order(pivots, a.shape[-2])


@differentiable(None)
@shown_as("lu_solve")
def _order(pivots: Any, count: Any) -> Any:
    """The order of `count` rows after each one was swapped with its pivot, one after another."""
    pivots = np.asarray(pivots)
    order = np.tile(np.arange(count), (*pivots.shape[:-1], 1))
    for rows, swaps in zip(order.reshape(-1, count), pivots.reshape(-1, pivots.shape[-1])):
        for i, j in enumerate(swaps):
            rows[[i, j]] = rows[[j, i]]
    return order


def lu_factor(a: Any) -> tuple[Tensor, Tensor]:
    """Return L and U in one matrix, without the diagonal of L, and the pivots, for `lu_solve`.

    >>> lu, pivots = tg.scipy.linalg.lu_factor(np.array([[1.0, 2.0], [2.0, 6.0]]))
    >>> lu, pivots
    (array([[ 2. ,  6. ],
           [ 0.5, -1. ]]), array([1, 1], dtype=int32))
    """
    lu, pivots, _ = _lu(operand(a, "lu_factor"))
    return lu, pivots


def lu_solve(lu_and_piv: tuple[Any, Any], b: Any, trans: int = 0) -> Tensor:
    """Return the solution x of `a @ x = b` from what `lu_factor(a)` returned.

    `trans=1` is for the transpose of `a`, and `trans=2` for its adjoint.

    >>> factors = tg.scipy.linalg.lu_factor(np.array([[1.0, 2.0], [2.0, 6.0]]))
    >>> tg.scipy.linalg.lu_solve(factors, np.array([5.0, 14.0]))
    array([1., 2.])
    """
    lu, pivots = (operand(x, "lu_solve") for x in lu_and_piv)
    b = operand(b, "lu_solve")
    require_square("lu_solve", lu)
    x = b[:, None] if b.ndim == 1 else b
    order = _order(pivots, lu.shape[-1])
    if trans:
        x = solve_triangular(lu, x, trans)
        x = solve_triangular(lu, x, trans, lower=True, unit_diagonal=True)
        x = _rows(x, np.argsort(order, axis=-1))
    else:
        x = solve_triangular(lu, _rows(x, order), lower=True, unit_diagonal=True)
        x = solve_triangular(lu, x)
    return x[..., 0] if b.ndim == 1 else x  # type: ignore[no-any-return]


def _rows(x: Any, order: Any) -> Any:
    """The rows of matrices, in an order for each of them."""
    stack = np.broadcast_shapes(x.shape[:-2], order.shape[:-1])
    x = np.broadcast_to(x, (*stack, *x.shape[-2:]))
    order = np.broadcast_to(order, (*stack, order.shape[-1]))
    return np.take_along_axis(x, order[..., None], axis=-2)


def lu(a: Any, permute_l: bool = False, p_indices: bool = False) -> tuple[Tensor, ...]:
    """Return a permutation matrix p and triangular factors l and u, so that `a = p @ l @ u`.

    With `permute_l`, return `p @ l` and u. With `p_indices`, p is an array of integers, so that
    `a = l[p] @ u`. The permutation has no derivative.

    >>> p, l, u = tg.scipy.linalg.lu(np.array([[1.0, 2.0], [2.0, 6.0]]))
    >>> p @ l @ u
    array([[1., 2.],
           [2., 6.]])
    """
    both, _, order = _lu(operand(a, "lu"))
    lower, upper = _factors(both)
    if permute_l:
        return _rows(lower, np.argsort(order, axis=-1)), upper
    if p_indices:
        return np.argsort(order, axis=-1), lower, upper  # type: ignore[return-value]
    permutation = (order[..., None] == np.arange(order.shape[-1])).astype(
        np.finfo(both.dtype).dtype
    )
    return permutation.mT, lower, upper


# -- matrices of parts


def toeplitz(c: Any, r: Any = None) -> Tensor:
    """Return the matrix with the first column `c` and the first row `r`, constant on diagonals.

    Without `r`, it is the conjugate of `c`. The first element of `r` is not read.

    >>> tg.scipy.linalg.toeplitz([1.0, 2.0, 3.0], [0.0, 4.0])
    array([[1., 4.],
           [2., 1.],
           [3., 2.]])
    """
    c = operand(c, "toeplitz")
    r = np.conjugate(c) if r is None else operand(r, "toeplitz")
    if c.ndim != 1 or r.ndim != 1:
        raise ValueError(f"toeplitz: pass vectors, not shapes {c.shape}, {r.shape}")
    values = np.concatenate([np.flip(c), r[1:]])
    return values[len(c) - 1 - np.arange(len(c))[:, None] + np.arange(len(r))]  # type: ignore[no-any-return]


def block_diag(*arrays: Any) -> Tensor:
    """Return the matrix with these blocks on its diagonal, and zeros elsewhere.

    A vector is a block of one row.

    >>> tg.scipy.linalg.block_diag([[1.0, 2.0]], 3.0)
    array([[1., 2., 0.],
           [0., 0., 3.]])
    """
    blocks = [np.atleast_2d(operand(a, "block_diag")) for a in arrays or [np.zeros((1, 0))]]
    for block in blocks:
        if block.ndim > 2:
            raise ValueError(f"block_diag: pass matrices, not an array of shape {block.shape}")
    ends = np.cumsum([block.shape[1] for block in blocks])
    return np.concatenate(  # type: ignore[return-value]
        [
            np.pad(block, ((0, 0), (end - block.shape[1], ends[-1] - end)))
            for block, end in zip(blocks, ends)
        ]
    )
