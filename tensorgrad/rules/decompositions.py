"""Solving, inverting and decomposing matrices.

All functions take stacks of matrices. Unless a docstring names another source, the formulas are
those of Giles, "Collected matrix derivative results for forward and reverse mode" (2008), with
transposes that are adjoints for complex matrices.

Some derivatives do not exist, such as that of an eigenvector of a repeated eigenvalue. They are NaN
where the loss uses the eigenvector, and 0 where it does not: eigenvalues alone always have a
derivative. Complex vectors have a phase, which LAPACK chooses: where that makes a certain component
real, they have a derivative. Else it is NaN where the loss depends on the phase.
"""

import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..engine.arrays import conjugated
from ..engine.custom import differentiable
from ..engine.modes import plain
from ..engine.registry import composite, rule, shown_as
from ..engine.tensor import asarray
from ..errors import NoRuleError
from .reductions import MISSING


def _adjoint(x: Any) -> Any:
    return conjugated(x).mT


def _eye(like: Any) -> Any:
    return np.eye(like.shape[-1], dtype=like.dtype)


def _divided(x: Any, divisor: Any, used: Any) -> Any:
    """`x / divisor`; where the divisor is zero, NaN if the loss uses the vector, else 0."""
    undetermined = np.where(used, np.nan, np.inf).astype(divisor.dtype)
    return x / np.where(divisor == 0, undetermined, divisor)


def _pairs(used: Any) -> Any:
    """For which pairs of different columns the loss uses at least one of the two."""
    different = ~np.eye(used.shape[-1], dtype=bool)
    return (used[..., None, :] | used[..., :, None]) & different


def _phased(g: Any, v: Any, along: Any, fixed: Any) -> Any:
    """The cotangent of complex vectors, the columns of v, each with a component that stays real.

    `fixed` has True at that component, and `along` the part of g along each vector. If no component
    fixes the phase, the cotangent is NaN, unless the loss does not depend on the phase.
    """
    if v.dtype.kind != "c" or not v.shape[-1]:
        return g
    precision = np.finfo(v.dtype).eps
    component = np.sum(np.where(fixed, v, 0), axis=-2, keepdims=True)
    size = np.absolute(component)
    known = (size > precision**0.5) & (np.absolute(np.imag(component)) < 64 * precision)
    turning = np.imag(along)
    rounding = precision**0.5 * np.sum(np.absolute(g), axis=-2, keepdims=True)
    lost = np.where(np.absolute(turning) > rounding, np.nan, 0)
    turn = np.where(known, turning / np.where(known, np.real(component), 1), lost)
    return g - 1j * np.where(fixed | np.isnan(turn), turn, 0)


def _row(v: Any, i: int) -> Any:
    """A mask of one row of a matrix."""
    return (np.arange(v.shape[-2]) == i)[:, None]


# -- inverses and linear equations


rule(np.linalg.inv, lambda g, y, _a: -(y.mT @ g @ y.mT))


def inverse(a: Any) -> Any:
    """`np.linalg.inv`, but NaN, and no error, for a singular matrix.

    >>> from tensorgrad.rules.decompositions import inverse
    >>> inverse(np.array([[[2.0]], [[0.0]]])).ravel()
    array([0.5, nan])
    """
    singular = (np.linalg.slogdet(a)[1] == -np.inf)[..., None, None]
    return np.where(singular, np.nan, np.linalg.inv(np.where(singular, _eye(a), a)))


def _solve_back_b(g: Any, _x: Any, a: Any, _b: Any) -> Any:
    if _b.ndim == 1:
        return np.linalg.solve(a.mT, g[..., None])[..., 0]
    return np.linalg.solve(a.mT, g)


def _solve_back_a(g: Any, x: Any, a: Any, _b: Any) -> Any:
    h = _solve_back_b(g, x, a, _b)
    return -(h[..., :, None] * x[..., None, :] if _b.ndim == 1 else h @ x.mT)


rule(np.linalg.solve, _solve_back_a, _solve_back_b)


@composite(np.linalg.tensorsolve)
def _tensorsolve(a: Any, b: Any, axes: Sequence[int] | None = None) -> Any:
    a, b = asarray(a), asarray(b)
    if axes is not None:
        a = np.transpose(a, [*(i for i in range(a.ndim) if i not in axes), *axes])
    shape = a.shape[b.ndim - a.ndim :]
    size = math.prod(shape)
    return np.linalg.solve(a.reshape(size, size), b.reshape(-1)).reshape(shape)


@composite(np.linalg.tensorinv)
def _tensorinv(a: Any, ind: int = 2) -> Any:
    if ind <= 0:
        raise ValueError(f"tensorinv: ind must be positive, not {ind}")
    rows = math.prod(a.shape[:ind])
    matrix = a.reshape(rows, math.prod(a.shape[ind:]))
    return np.linalg.inv(matrix).reshape(a.shape[ind:] + a.shape[:ind])


@composite(np.linalg.matrix_power)
def _matrix_power(a: Any, n: int) -> Any:
    identity = np.linalg.matrix_power(plain(a), 0)  # NumPy checks the shape
    n = operator.index(n)
    if n == 0:
        return np.where(False, a, identity)  # tracked, as a**0 is
    base, n = (np.linalg.inv(a), -n) if n < 0 else (a, n)
    if n == 3:  # NumPy's order of the products, here and below
        return base @ base @ base
    power = None
    while True:
        n, odd = divmod(n, 2)
        if odd:
            power = base if power is None else power @ base
        if not n:
            return power
        base = base @ base


def _pinv_back(g: Any, y: Any, a: Any, *_options: Any) -> Any:
    h, adjoint = g.mT, np.conjugate(y).mT
    rows = (h - a @ (y @ h)) @ (y @ adjoint)
    columns = (adjoint @ y) @ (h - (h @ y) @ a)
    return np.conjugate(rows + columns) - y.mT @ g @ y.mT


@differentiable(_pinv_back)
def pinv(a: Any, rcond: Any, hermitian: bool, rtol: Any) -> Any:
    """`np.linalg.pinv` of matrices of constant rank.

    Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems
    whose variables separate" (1973), equation 4.12.
    """
    return np.linalg.pinv(a, rcond, hermitian, rtol=rtol)


def _truncated_pinv_back(g: Any, _y: Any, a: Any, cutoff: Any, *_options: Any) -> Any:
    h = g.mT
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    uh, v = np.conjugate(u.mT), np.conjugate(vh.mT)
    kept = s > _threshold(s, cutoff)
    inverses = np.where(kept, 1 / np.where(kept, s, 1), 0)[..., None, :]
    remaining = np.where(kept, 0, s)[..., None, :]
    one_kept = kept[..., :, None] ^ kept[..., None, :]
    gaps = np.absolute(s[..., :, None] ** 2 - s[..., None, :] ** 2)
    weights = np.where(one_kept, 1 / np.where(one_kept, gaps, 1), 0)
    ratios = inverses.mT * remaining + remaining.mT * inverses
    e = uh @ h @ v
    eh = np.conjugate(e.mT)
    inner = weights * (e + ratios * eh) - inverses.mT * eh * inverses
    rows = (h @ v - u @ e) * inverses**2 @ vh
    columns = u * inverses**2 @ (uh @ h - e @ vh)
    return np.conjugate(u @ inner @ vh + rows + columns)


@differentiable(_truncated_pinv_back)
@shown_as("pinv")
def truncated_pinv(a: Any, cutoff: Any, hermitian: bool) -> Any:
    """`np.linalg.pinv` with a relative cutoff that drops nonzero singular values.

    With `a = u @ diag(s) @ vh`, it is `v @ diag(f(s)) @ uh`, where `f` is `1 / s` above the cutoff
    and 0 below. The derivative has the divided differences of `f` at pairs of singular values:
    Noferini, "A formula for the Frechet derivative of a generalized matrix function" (2017). It is
    finite at equal singular values, unless they are on both sides of the cutoff.
    """
    return np.linalg.pinv(a, cutoff, hermitian)


def _threshold(s: Any, cutoff: Any) -> Any:
    return np.asarray(cutoff)[..., None] * np.max(s, axis=-1, keepdims=True, initial=0)


def _truncates(s: Any, cutoff: Any) -> bool:
    """Whether a cutoff drops singular values other than zeros."""
    dropped = s <= _threshold(s, cutoff)
    return bool(np.any(dropped & (s > _threshold(s, np.finfo(s.dtype).eps ** 0.75))))


@composite(np.linalg.pinv)
def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = MISSING) -> Any:
    if hermitian:
        a = mirrored(a, "L")
    cutoff = rtol if rcond is None else rcond
    chosen = cutoff is not MISSING and cutoff is not None  # NumPy's default drops only zeros
    if chosen and _truncates(np.linalg.svdvals(plain(a)), cutoff):
        return truncated_pinv(a, cutoff, hermitian)
    return pinv(a, rcond, hermitian, rtol)


def _columns(v: Any) -> Any:
    return v if v.ndim == 2 else v[:, None]


def _lstsq_back(i: int, g: Any, out: Any, a: Any, b: Any, rcond: float) -> Any:
    gx, x = _columns(conjugated(g[0])), _columns(out[0])
    y = np.linalg.pinv(a, rcond)
    residual = _columns(b) - a @ x
    h = _adjoint(y) @ gx
    if g[1].size:
        h = h + 2 * g[1] * residual
    if i == 1:
        return conjugated(h.reshape(b.shape))
    solution = residual @ _adjoint(y @ h) + _adjoint(y) @ x @ _adjoint(gx - y @ (a @ gx))
    return conjugated(solution - h @ _adjoint(x)) + _singular_values_back(g[3], None, a)


@differentiable(partial(_lstsq_back, 0), partial(_lstsq_back, 1))
def lstsq(a: Any, b: Any, rcond: float) -> Any:
    """`np.linalg.lstsq` of a matrix of constant rank: `pinv(a) @ b`, and NumPy's other results."""
    return np.linalg.lstsq(a, b, rcond)


def _truncated_lstsq_back_a(g: Any, _x: Any, a: Any, b: Any, rcond: float) -> Any:
    return _truncated_pinv_back(_columns(g) @ _columns(b).mT, None, a, rcond)


def _truncated_lstsq_back_b(g: Any, _x: Any, a: Any, b: Any, rcond: float) -> Any:
    return (np.linalg.pinv(a, rcond).mT @ _columns(g)).reshape(b.shape)


@differentiable(_truncated_lstsq_back_a, _truncated_lstsq_back_b)
@shown_as("lstsq")
def truncated_lstsq(a: Any, b: Any, rcond: float) -> Any:
    """The solution of `np.linalg.lstsq` with an rcond that drops nonzero singular values."""
    return np.linalg.lstsq(a, b, rcond)[0]


@composite(np.linalg.lstsq)
def _lstsq(a: Any, b: Any, rcond: float | None = None) -> Any:
    a, b = asarray(a), asarray(b)
    if rcond is None:
        rcond = float(np.finfo(float).eps) * max(a.shape[-2:])
    elif not 0 < rcond < 1:  # LAPACK then uses its own precision
        rcond = float(np.finfo(float).epsneg)
    results = lstsq(a, b, rcond)
    if _truncates(plain(results[3]), rcond):
        return (truncated_lstsq(a, b, rcond), *results[1:])
    return results


# -- determinants


def _slogdet_back(g: Any, out: Any, a: Any) -> Any:
    weight = g[1]
    if a.dtype.kind == "c":
        weight = weight + 1j * np.imag(g[0] * out[0])
    return weight[..., None, None] * inverse(a).mT


rule(np.linalg.slogdet, _slogdet_back)


def _svd_of_square(a: Any) -> Any:
    """The conjugates of u and vh, the singular values, and the determinant of `u @ vh`.

    The singular values of a matrix with infinities or NaNs are NaN; NumPy would raise an error.
    """
    finite = np.all(np.isfinite(a), axis=(-2, -1))[..., None]
    u, s, vh = np.linalg.svd(np.where(finite[..., None], a, 0))
    phase = np.linalg.det(u @ vh)[..., None, None]
    return np.conjugate(u), np.where(finite, s, np.nan), np.conjugate(vh), phase


def _others(s: Any) -> Any:
    """The products of all elements but one, along the last axis."""
    one = np.ones_like(s[..., :1])
    before = np.cumprod(np.concatenate([one, s[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([one, s[..., :0:-1]], -1), -1)
    return before * after[..., ::-1]


def _cofactors_vjp(g: Any, _c: Any, a: Any) -> Any:
    return cofactors_back(a, g)


@differentiable(_cofactors_vjp)
@shown_as("det")
def cofactors(a: Any) -> Any:
    """The derivative of the determinant: the matrix of cofactors, of singular matrices too.

    With `a = u @ diag(s) @ vh`, it is `det(u @ vh) * u @ cofactors(diag(s)) @ vh`.

    >>> from tensorgrad.rules.decompositions import cofactors
    >>> cofactors(np.array([[1.0, 2.0], [2.0, 4.0]])).round(12)
    array([[ 4., -2.],
           [-2.,  1.]])
    """
    u, s, vh, phase = _svd_of_square(a)
    return phase * (u @ (_others(s)[..., None] * vh))


def _cofactors_back_left(h: Any, y: Any, a: Any, g: Any) -> Any:
    """The derivative of `y = (c * sum(g * c) - c @ g.mT @ c) / det(a)`, of nonsingular matrices."""

    def dot(x: Any, y: Any) -> Any:
        return np.sum(x * y, axis=(-2, -1), keepdims=True)

    c, d = cofactors(a), np.linalg.det(a)[..., None, None]
    gc = h * dot(g, c) + g * dot(h, c) - h @ c.mT @ g - g @ c.mT @ h
    return cofactors_back(a, gc / d) - c * dot(h, y) / d


def _cofactors_back_right(h: Any, _y: Any, a: Any, _g: Any) -> Any:
    return cofactors_back(a, h)


@differentiable(_cofactors_back_left, _cofactors_back_right)
@shown_as("det")
def cofactors_back(a: Any, g: Any) -> Any:
    """The derivative of `sum(g * cofactors(a))`, of singular matrices too.

    In a diagonal matrix, the cofactor of a diagonal element changes with every other diagonal
    element, and the cofactor of an element off the diagonal with the element mirrored to it: by
    the product of the remaining diagonal elements.
    """
    u, s, vh, phase = _svd_of_square(a)
    same = np.eye(s.shape[-1], dtype=bool)
    others = np.where(same, 0, _others(np.where(same, 1, s[..., None, :])))
    h = u.mT @ g @ vh.mT
    diagonal = others @ np.diagonal(h, axis1=-2, axis2=-1)[..., None]
    return phase * (u @ np.where(same, diagonal, -others * h.mT) @ vh)


rule(np.linalg.det, lambda g, _d, a: g[..., None, None] * cofactors(a))


# -- symmetric matrices


def _mirrored_back(g: Any, _y: Any, _a: Any, uplo: Any) -> Any:
    both = g + np.conjugate(g.mT)
    share = np.where(_triangle(g, uplo), 1 - np.eye(g.shape[-1]) / 2, 0)
    return both * share.astype(both.dtype)


def _triangle(a: Any, uplo: Any) -> Any:
    lower = np.tri(a.shape[-1], dtype=bool)
    return lower.T if uplo in "uU" else lower


@differentiable(_mirrored_back)
@shown_as("cholesky or eigh")
def mirrored(a: Any, uplo: Any) -> Any:
    """The symmetric or Hermitian matrix of which `a` holds one triangle, lower or upper.

    NumPy reads only that triangle, and of its diagonal only the real part. So an element in it
    stands for its mirror image too, and has the derivatives of both; the derivative by the other
    triangle is 0. That is exact however `a` was computed. The mean of the gradient and its adjoint
    is the gradient within the symmetric matrices.

    >>> from tensorgrad.rules.decompositions import mirrored
    >>> mirrored(np.array([[1.0, 9.0], [2.0, 3.0]]), "L")
    array([[1., 2.],
           [2., 3.]])
    """
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(f"pass a square matrix, not an array of shape {a.shape}")
    both = np.where(_triangle(a, uplo), a, _adjoint(a))
    return (
        np.where(np.eye(a.shape[-1], dtype=bool), np.real(a), both) if a.dtype.kind == "c" else both
    )


def _cholesky_back(g: Any, y: Any, _a: Any, upper: bool) -> Any:
    if upper:
        g, y = np.conjugate(g.mT), np.conjugate(y.mT)
    half = np.tri(y.shape[-1]) - np.eye(y.shape[-1]) / 2
    inner = np.linalg.solve(y.mT, half.astype(y.dtype) * (y.mT @ g))
    return np.linalg.solve(np.conjugate(y).mT, inner.mT).mT


@differentiable(_cholesky_back)
def cholesky(a: Any, upper: bool) -> Any:
    """`np.linalg.cholesky` of a symmetric matrix.

    Murray, "Differentiation of the Cholesky decomposition" (2016).
    """
    return np.linalg.cholesky(a, upper=upper)


@composite(np.linalg.cholesky)
def _cholesky(a: Any, *, upper: bool = False) -> Any:
    return cholesky(mirrored(a, "U" if upper else "L"), upper)


def _eigh_back(g: Any, out: Any, _a: Any, uplo: Any) -> Any:
    (gw, gv), (w, v) = g, out
    used = np.any(gv != 0, axis=-2)
    along = np.sum(gv * v, axis=-2, keepdims=True)
    first = 0 if uplo in "lL" else v.shape[-1] - 1  # LAPACK leaves this unit vector as it is
    x = v.mT @ _phased(gv, v, along, _row(v, first))
    skew = (x - _adjoint(x)) / 2
    turned = _divided(skew, w[..., None, :] - w[..., :, None], _pairs(used))
    return conjugated(v) @ (_eye(v) * gw[..., None, :] + turned) @ v.mT


@differentiable(_eigh_back)
def eigh(a: Any, uplo: Any) -> Any:
    """`np.linalg.eigh` of a symmetric or Hermitian matrix."""
    return np.linalg.eigh(a, uplo)


@composite(np.linalg.eigh)
def _eigh(a: Any, UPLO: Any = "L") -> Any:  # noqa: N803 (NumPy's name)
    return eigh(mirrored(a, UPLO), UPLO)


def _eigvalsh_back(g: Any, _w: Any, a: Any, uplo: Any) -> Any:
    v = np.linalg.eigh(a, uplo)[1]
    return (np.conjugate(v) * g[..., None, :]) @ v.mT


@differentiable(_eigvalsh_back)
def eigvalsh(a: Any, uplo: Any) -> Any:
    """`np.linalg.eigvalsh` of a symmetric matrix."""
    return np.linalg.eigvalsh(a, uplo)


@composite(np.linalg.eigvalsh)
def _eigvalsh(a: Any, UPLO: Any = "L") -> Any:  # noqa: N803 (NumPy's name)
    return eigvalsh(mirrored(a, UPLO), UPLO)


# -- eigenvalues of any square matrix


def _eig_back(g: Any, out: Any, _a: Any) -> Any:
    (gw, gv), (w, v) = g, out
    # LAPACK scales each vector to length 1, with a factor that makes its largest component real.
    along = np.sum(gv * v, axis=-2, keepdims=True)
    across = gv - np.conjugate(v) * np.real(along)
    if v.dtype.kind == "c" and v.shape[-1]:
        largest = np.argmax(np.absolute(v), axis=-2)[..., None, :]
        across = _phased(across, v, along, np.arange(v.shape[-2])[:, None] == largest)
    pairs = _pairs(np.any(gv != 0, axis=-2))
    turned = _divided(v.mT @ across, w[..., None, :] - w[..., :, None], pairs)
    return np.linalg.solve(v.mT, (_eye(v) * gw[..., None, :] + turned) @ v.mT)


rule(np.linalg.eig, _eig_back)


def _eigvals_back(g: Any, y: Any, a: Any) -> Any:
    w, v = np.linalg.eig(a)  # its order may differ from that of eigvals
    distance = np.absolute(w[..., :, None] - y[..., None, :])
    same = distance == np.min(distance, axis=-1, keepdims=True, initial=np.inf)
    g = (same / np.sum(same, axis=-1, keepdims=True)) @ g[..., None]
    return np.linalg.solve(v.mT, g * v.mT)


rule(np.linalg.eigvals, _eigvals_back)


# -- singular values and orthogonal factors


def _completed(g: Any, q: Any, count: int) -> Any:
    """The cotangent of the first `count` orthonormal columns of q.

    If one column remains, they determine it up to its phase, and its cotangent becomes theirs.
    """
    first, others, g_others = q[..., :count], q[..., count:], g[..., count:]
    if count and others.shape[-1] > 1 and np.any(g_others != 0):
        raise NoRuleError(
            f"svd or qr: the last {others.shape[-1]} columns of an orthonormal basis of shape "
            f"{q.shape} are not unique, so a loss that uses them has no derivative: "
            "pass full_matrices=False to svd, or mode='reduced' to qr"
        )
    g_others = _phased(g_others, others, _along(others, g_others), False)
    return g[..., :count] - others @ (_adjoint(g_others) @ first)


def _along(v: Any, g: Any) -> Any:
    """The part of each column of g along the same column of v, as a row."""
    return np.sum(conjugated(v) * g, axis=-2, keepdims=True)


def _svd_back(g: Any, out: Any, _a: Any, _full_matrices: bool) -> Any:
    u, s, v = out[0], out[1], _adjoint(out[2])
    m, n, count = u.shape[-2], v.shape[-2], s.shape[-1]
    gu, gv = _completed(conjugated(g[0]), u, count), _completed(g[2].mT, v, count)
    u, v = u[..., :count], v[..., :count]
    if u.dtype.kind == "c":  # a pair of vectors has one phase
        pair, g_pair = np.concatenate([u, v], -2), np.concatenate([gu, gv], -2)
        fixed = _row(pair, m if m >= n else 0)  # LAPACK leaves a unit vector on the shorter side
        g_pair = _phased(g_pair, pair, _along(pair, g_pair), fixed)
        gu, gv = g_pair[..., :m, :], g_pair[..., m:, :]
    used = np.any((gu != 0), axis=-2) | np.any((gv != 0), axis=-2)
    along_u, along_v = _adjoint(u) @ gu, _adjoint(v) @ gv
    x, y = along_u - _adjoint(along_u), along_v - _adjoint(along_v)
    pairs = _pairs(used)
    turned = _divided(x + y, s[..., None, :] - s[..., :, None], pairs)
    turned = turned + _divided(x - y, s[..., None, :] + s[..., :, None], pairs)
    inner = _eye(u) * _of_nonzero(g[1], s, m, n)[..., None, :] + turned / 2
    out = u @ inner @ _adjoint(v)
    if m > count:
        across = _divided(gu - u @ along_u, s[..., None, :], used[..., None, :])
        out = out + across @ _adjoint(v)
    if n > count:
        across = _divided(gv - v @ along_v, s[..., None, :], used[..., None, :])
        out = out + u @ _adjoint(across)
    return conjugated(out)


def _of_nonzero(g: Any, s: Any, m: int, n: int) -> Any:
    """The cotangent of the singular values of an (m, n) matrix: 0 for those that are zero.

    The subgradient of least norm there. Singular values within rounding errors count as zero.
    """
    precision = max(m, n) * float(np.finfo(float).eps)  # NumPy computes in double precision
    return np.where(s > precision * s[..., :1], g, 0)


@differentiable(_svd_back)
def svd(a: Any, full_matrices: bool) -> Any:
    """`np.linalg.svd`.

    Townsend, "Differentiating the singular value decomposition" (2016), with the quotients by
    `s_j**2 - s_i**2` split into partial fractions: that by `s_j + s_i` is finite at equal values.
    For complex matrices, Wan and Zhang, "Automatic differentiation for complex valued SVD" (2019):
    the vectors of a pair also turn against each other, as the diagonal of `x - y` says.
    """
    return np.linalg.svd(a, full_matrices)


def _hermitian_svd_back(g: Any, out: Any, _a: Any) -> Any:
    (gu, gs, gvh), (u, s, vh) = g, out
    signs = np.sign(np.real(np.sum(u * vh.mT, axis=-2)))
    gv = gu + _adjoint(gvh) * signs[..., None, :]
    return _eigh_back((gs * signs, gv), (s * signs, u), _a, "L")


@differentiable(_hermitian_svd_back)
@shown_as("svd")
def hermitian_svd(a: Any) -> Any:
    """`np.linalg.svd` of a symmetric or Hermitian matrix, computed by `eigh`."""
    return np.linalg.svd(a, hermitian=True)


def _singular_values_back(g: Any, _s: Any, a: Any) -> Any:
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return np.conjugate((u * _of_nonzero(g, s, *a.shape[-2:])[..., None, :]) @ vh)


@differentiable(_singular_values_back)
@shown_as("svd")
def singular_values(a: Any) -> Any:
    """`np.linalg.svdvals`."""
    return np.linalg.svd(a, compute_uv=False)


@composite(np.linalg.svd)
def _svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    if not compute_uv:
        if hermitian:
            return np.sort(np.absolute(np.linalg.eigvalsh(a)))[..., ::-1]
        return singular_values(a)
    return hermitian_svd(mirrored(a, "L")) if hermitian else svd(a, full_matrices)


@composite(np.linalg.svdvals)
def _svdvals(x: Any) -> Any:
    return singular_values(x)


def _qr_back(g: Any, out: Any, _a: Any, _mode: str) -> Any:
    count = min(out[0].shape[-2], out[1].shape[-1])
    gq, gr = _completed(conjugated(g[0]), out[0], count), conjugated(g[1])[..., :count, :]
    q, r = out[0][..., :count], out[1][..., :count, :]
    # In a wide matrix, the first columns determine q, and the others are q @ (the rest of r).
    gq = gq + q @ (r[..., count:] @ _adjoint(gr[..., count:]))
    r = r[..., :count]
    x = r @ _adjoint(gr[..., :count]) - _adjoint(gq) @ q
    symmetric = np.where(np.tri(count, dtype=bool), x, _adjoint(x))
    if x.dtype.kind == "c":  # LAPACK makes the diagonal of r real
        symmetric = (symmetric + _adjoint(symmetric)) / 2
    first = (gq + q @ symmetric) @ _adjoint(inverse(r))
    return conjugated(np.concatenate([first, q @ gr[..., count:]], -1))


@differentiable(_qr_back)
def qr(a: Any, mode: Any) -> Any:
    """`np.linalg.qr`, which returns q and r.

    Walter and Lehmann, "Algorithmic differentiation of linear algebra functions with application
    in optimum experimental design" (2010).
    """
    return np.linalg.qr(a, mode)


@composite(np.linalg.qr)
def _qr(a: Any, mode: str = "reduced") -> Any:
    if mode == "r":
        return qr(a, "reduced")[1]
    if mode not in ("reduced", "complete"):
        raise NoRuleError(f"qr has no derivative in mode {mode!r}: use reduced, complete or r")
    return qr(a, mode)
