"""Products of arrays."""

import operator

import numpy as np

from tensorgrad.rules.linear_algebra import affine

from .row import *

PRODUCTS: list[Any] = [
    ((), ()), ((), (2, 3)), ((3,), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)),
    ((2, 3), (3, 4)), ((2, 3), (4, 3, 2)), ((2, 1, 3), (3, 2)), ((2, 2, 3), (2, 3, 1)),
    ((0, 3), (3, 2)), ((2, 0), (0, 3)),
]  # fmt: skip
PRODUCTS_OF_STACKS: list[Any] = [
    ((2, 3), (3,)), ((2, 3), (2, 2, 3)), ((2, 1, 2, 3), (4, 3)), ((0, 3), (3,)), ((2, 0), (0,)),
]  # fmt: skip
ANY_TWO: list[Any] = [((), ()), ((), (2,)), ((2, 3), (2,)), ((2,), (1, 2, 2)), ((0, 2), (2, 1))]
IN_SPACE: list[Any] = [((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 1, 3)), ((0, 3), (1, 3))]


def einsum(subscripts: str, *shapes: Any, **options: Any) -> Op:
    """A row, with one shape or one tuple of shapes of the operands, or several."""
    name = " ".join(["einsum", subscripts, *options])
    count = subscripts.partition("->")[0].count(",") + 1
    return Op(
        name,
        lambda *operands: np.einsum(subscripts, *operands, **options),
        *[reals] * count,
        shapes=shapes,
    )


ROWS = [
    # products
    Op("@", operator.matmul, reals, reals, shapes=[
        ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((1, 3), (3, 1)),
        ((3,), (4, 3, 2)), ((4, 2, 3), (3,)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)),
        ((4, 2, 3), (4, 3, 2)), ((2, 1, 2, 3), (5, 3, 2)), ((1, 2, 3), (4, 3, 2)),
        ((3,), (2, 1, 3, 2)),
        ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0,), (0,)), ((0, 2, 3), (3,)),
    ]),
    Op("matmul", np.matmul, reals, reals, shapes=[((2, 3), (3, 2)), ((3,), (3,))]),
    Op("matmul axes", lambda x, y: np.matmul(x, y, axes=[(0, 2), (1, 0), (-1, 0)]), reals, reals,
       shapes=[((2, 4, 3), (2, 3)), ((2, 1, 3), (2, 3, 2)), ((0, 1, 3), (1, 3))]),
    Op("matmul dtype", lambda x, y: np.matmul(x, y, dtype=np.float64), reals, reals,
       shapes=[((2, 3), (3,))], analytic=False),
    Op("linalg.matmul", np.linalg.matmul, reals, reals, shapes=[((2, 3), (3, 2))]),
    Op("array @ x", lambda x: np.ones((2, 3)) @ x, reals, shapes=[(3,), (3, 2), (4, 3, 2)]),
    Op("list @ x", lambda x: [1.0, 2.0, 3.0] @ x, reals, shapes=[(3,), (3, 2)]),
    Op("x @ x", lambda x: x @ x, reals, shapes=[(3,), (2, 2), (3, 2, 2)]),
    Op("x @ x.T", lambda x: x @ x.T, reals, shapes=[(3,), (2, 3)]),
    Op("inner", np.inner, reals, reals, shapes=[
        ((), ()), ((), (3,)), ((2, 3), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 3)),
        ((2, 3), (4, 3)), ((2, 4, 3), (5, 3)), ((5, 3), (2, 4, 3)), ((0, 3), (2, 3)),
        ((2, 0), (3, 0)),
    ]),
    Op("affine", affine, reals, reals, reals, shapes=[
        ((3,), (2, 3), (2,)), ((4, 3), (2, 3), (2,)), ((2, 4, 3), (2, 3), (2,)), ((3,), (3,), ()),
        ((4, 3), (3,), ()), ((0, 3), (2, 3), (2,)), ((1, 2), (1, 2), (1,)), ((2, 0), (3, 0), (3,)),
    ]),
    Op("inner(x, 2)", lambda x: np.inner(x, 2), reals),
    Op("inner(2.5, x)", lambda x: np.inner(2.5, x), reals),
    Op("dot", np.dot, reals, reals, shapes=PRODUCTS),
    Op(".dot(array)", lambda x: x.dot(np.arange(6.0).reshape(3, 2)), reals, shapes=[(3,), (2, 3)]),
    Op("dot(2, x)", lambda x: np.dot(2, x), reals, shapes=[(), (2, 3)]),
    # vdot conjugates its first argument, and the complex step is one of that argument
    Op("vdot", np.vdot, reals, reals, analytic=False, shapes=[
        ((), ()), ((3,), (3,)), ((2, 3), (3, 2)), ((2, 3), (6,)), ((0,), (2, 0)),
    ]),
    Op("outer", np.outer, reals, reals, shapes=ANY_TWO),
    Op("linalg.outer", np.linalg.outer, reals, reals, shapes=[((2,), (3,)), ((0,), (1,))]),
    Op("kron", np.kron, reals, reals, shapes=ANY_TWO),
    Op("cross", np.cross, reals, reals, shapes=IN_SPACE),
    Op("cross axes", lambda x, y: np.cross(x, y, 0, 1, 0), reals, reals,
       shapes=[((3,), (2, 3)), ((3, 2), (2, 3, 2)), ((3, 0), (0, 3))]),
    Op("cross axis", lambda x, y: np.cross(x, y, axis=-2), reals, reals,
       shapes=[((3, 2), (3, 2)), ((2, 3, 1), (3, 2))]),
    Op("linalg.cross", np.linalg.cross, reals, reals, shapes=IN_SPACE),
    Op("linalg.cross axis", lambda x, y: np.linalg.cross(x, y, axis=0), reals, reals,
       shapes=[((3, 2), (3, 2))]),
    Op("trace", np.trace, reals, shapes=[(2, 3), (3, 3, 2), (0, 2)]),
    Op("trace offset", lambda x: x.trace(1, axis1=-1, axis2=0), reals, shapes=[(2, 3), (2, 2, 3)]),
    Op("trace dtype", lambda x: np.trace(x, dtype=np.float64), reals, shapes=[(2, 2)],
       analytic=False),
    Op("linalg.trace", np.linalg.trace, reals, shapes=[(2, 3), (3, 2, 2)]),
    Op("linalg.trace offset", lambda x: np.linalg.trace(x, offset=-1), reals, shapes=[(3, 3, 2)]),

    # stacks of vectors; the first one is conjugated
    Op("vecdot", np.vecdot, reals, reals, analytic=False, shapes=[
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 1, 3)), ((2, 1, 3), (2, 3)), ((0, 3), (3,)),
        ((2, 0), (2, 0)),
    ]),
    Op("vecdot axis", lambda x, y: np.vecdot(x, y, axis=0), reals, reals, analytic=False,
       shapes=[((3,), (3, 2)), ((3, 2), (3, 2, 2))]),
    Op("vecdot keepdims", lambda x, y: np.vecdot(x, y, axis=0, keepdims=True), reals, reals,
       shapes=[((3,), (3,)), ((3, 2), (3, 1))], analytic=False),
    Op("vecdot axes", lambda x, y: np.vecdot(x, y, axes=[0, -1]), reals, reals, analytic=False,
       shapes=[((3, 2), (3,)), ((3,), (2, 3))]),
    Op("linalg.vecdot", np.linalg.vecdot, reals, reals, analytic=False, shapes=[((2, 3), (2, 3))]),
    Op("linalg.vecdot axis", lambda x, y: np.linalg.vecdot(x, y, axis=0), reals, reals,
       shapes=[((3, 2), (3, 1))], analytic=False),

    # sums over axes
    Op("tensordot", np.tensordot, reals, reals,
       shapes=[((2, 3), (2, 3)), ((2, 2, 3), (2, 3, 1)), ((0, 3), (0, 3))]),
    Op("tensordot 0", lambda x, y: np.tensordot(x, y, 0), reals, reals, shapes=ANY_TWO),
    Op("tensordot 1", lambda x, y: np.tensordot(x, y, axes=1), reals, reals,
       shapes=[((3,), (3,)), ((2, 3), (3, 2, 2)), ((2, 0), (0, 3))]),
    Op("tensordot axes", lambda x, y: np.tensordot(x, y, ([0, -1], [2, 0])), reals, reals,
       shapes=[((2, 3), (3, 1, 2)), ((2, 2, 3), (3, 2, 2))]),
    Op("tensordot axis", lambda x, y: np.tensordot(x, y, (-1, 0)), reals, reals,
       shapes=[((2, 3), (3,)), ((3,), (3, 2))]),
    Op("linalg.tensordot", lambda x, y: np.linalg.tensordot(x, y, axes=1), reals, reals,
       shapes=[((2, 3), (3, 2))]),
    einsum("i->", (3,), (0,)),
    einsum("ij->ji", (2, 3), (2, 0)),
    einsum("ij -> j", (2, 3), (0, 2)),
    einsum("ba", (2, 3)),
    einsum("ii", (3, 3), (1, 1), (0, 0)),
    einsum("ii->i", (3, 3), (0, 0)),
    einsum("iji->j", (2, 3, 2)),
    einsum("iijj->ij", (2, 2, 3, 3), (2, 2, 0, 0)),
    einsum("iii", (2, 2, 2)),
    einsum("...", (), (2, 3)),
    einsum("...i->i...", (3,), (2, 1, 3)),
    einsum("i...i->...", (2, 3, 2)),
    einsum(",", ((), ())),
    einsum("i,->i", ((3,), ()), ((0,), ())),
    einsum("i,i", ((3,), (3,)), ((1,), (3,)), ((0,), (0,)), ((1,), (0,))),
    einsum("i,j", ((2,), (3,))),
    einsum("ij,jk", ((2, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 1), (3, 2)), ((2, 3), (1, 2))),
    einsum("ij,jk->ki", ((2, 3), (3, 2))),
    einsum("ij,k->k", ((2, 3), (2,)), ((2, 0), (2,))),
    einsum("ij,kl->", ((2, 3), (2, 1))),
    einsum("ii,i->i", ((3, 3), (3,)), ((1, 1), (3,)), ((3, 3), (1,))),
    einsum("iij,jk->k", ((2, 2, 3), (3, 2))),
    einsum("...ij,...jk->...ik", ((2, 3), (3, 2)), ((4, 2, 3), (1, 3, 2)), ((2, 3), (2, 1, 3, 2))),
    einsum("...i,...i", ((2, 3), (3,)), ((2, 1, 3), (4, 1)), ((0, 3), (1, 3))),
    einsum("i...,i...->...", ((3, 2), (3,)), ((3,), (3, 1, 2))),
    einsum("ij,jk,k->i", ((2, 3), (3, 2), (2,)), ((2, 0), (0, 2), (2,))),
    einsum("ij,jk,kl->il", ((2, 3), (3, 2), (2, 2)), optimize=True),
    einsum("aab,bc,c...->a...", ((2, 2, 3), (3, 2), (2, 2)), optimize="optimal"),
    einsum("...i->i", (2, 3), optimize=True),  # sums over the ellipsis, which optimize=False bars
    einsum("ij,j", ((2, 3), (3,)), optimize=["einsum_path", (0, 1)]),
    Op("einsum dtype", lambda x, y: np.einsum("i,i", x, y, dtype=np.float64), reals, reals,
       shapes=[((3,), (3,))], analytic=False),
    Op("einsum order", lambda x: np.einsum("ij->ji", x, order="C", casting="safe"), reals,
       shapes=MATRICES),
    Op("einsum axes", lambda x, y: np.einsum(x, [0, 1], y, [1, 30], [30, 0]), reals, reals,
       shapes=[((2, 3), (3, 2))]),
    Op("einsum axes of a diagonal", lambda x: np.einsum(x, [7, 7]), reals, shapes=[(3, 3)]),
    Op("einsum axes ...", lambda x: np.einsum(x, [..., 1, 0]), reals, shapes=[(2, 3), (2, 1, 3)]),
    Op("einsum of an array", lambda x: np.einsum("ij,j", np.arange(6).reshape(2, 3), x), reals,
       shapes=VECTORS[:1]),
    Op("einsum of x twice", lambda x: np.einsum("ij,jk->ik", x, x), reals, shapes=[(2, 2)]),
    Op("bincount", lambda w: np.bincount([2, 0, 2], weights=w), reals, shapes=[(3,)],
       analytic=False),
    Op("bincount minlength", lambda w: np.bincount(np.array([3, 1]), w, 6), reals, shapes=[(2,)],
       analytic=False),
]  # fmt: skip

if hasattr(np, "matvec"):  # since NumPy 2.2
    ROWS += [
        Op("matvec", np.matvec, reals, reals, shapes=PRODUCTS_OF_STACKS),
        Op("matvec axes", lambda x, y: np.matvec(x, y, axes=[(1, 0), 0, 0]), reals, reals,
           shapes=[((3, 2), (3, 2))]),
        Op("vecmat", lambda x, y: np.vecmat(y, np.swapaxes(x, -1, -2)), reals, reals,
           shapes=PRODUCTS_OF_STACKS, analytic=False),
    ]  # fmt: skip
