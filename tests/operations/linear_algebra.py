"""Products of matrices and vectors."""

import operator

import numpy as np

import tensorgrad as tg
from tensorgrad.rules.linear_algebra import affine

from .row import *

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
    Op("mse_loss", tg.nn.mse_loss, reals, reals, shapes=[
        ((), ()), ((3,), (3,)), ((2, 3), (2, 3)),
    ]),
]  # fmt: skip
