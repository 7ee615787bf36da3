"""Rows for functions of many samples."""

from typing import Any

import numpy as np

import tensorgrad as tg

from .row import MATRICES, Op, reals


def _loss(w: Any, x: Any) -> Any:
    return np.tanh(np.dot(w, x)) ** 2


ROWS = [
    Op("vmap", tg.vmap(lambda x: np.sin(x) * x[0]), reals, shapes=MATRICES),
    Op(
        "vmap of columns, into rows",
        lambda x, y: tg.vmap(lambda a, b: np.outer(a, b) * y[0], (1, 0), 1)(x, y),
        reals,
        reals,
        shapes=[((2, 3), (3, 2)), ((1, 2), (2, 1))],
    ),
    Op(
        "vmap of vmap",
        lambda x, y: tg.vmap(tg.vmap(lambda a, b: np.dot(a, b) ** 2, (None, 0)), (0, None))(x, y),
        reals,
        reals,
        shapes=[((2, 3), (4, 3)), ((1, 1), (2, 1))],
    ),
    Op(
        "vmap of grad",
        lambda w, x: tg.vmap(tg.grad(_loss), (None, 0))(*map(tg.asarray, (w, x))),
        reals,
        reals,
        shapes=[((3,), (2, 3)), ((1,), (3, 1))],
        analytic=False,
    ),
]
