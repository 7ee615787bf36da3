"""What every ufunc has in common: keywords and methods."""

import warnings
from typing import Any

import numpy as np

from .row import *

MASK = np.array([[True, False, True], [False, False, True]])


def masked(x: Any) -> Any:
    """The logarithm where the mask is true; elsewhere NumPy leaves what was in memory, and warns."""
    with warnings.catch_warnings(action="ignore"):
        return np.where(MASK, np.log(np.abs(x), where=MASK), x)


ROWS = [
    Op("where=", masked, nonzero, shapes=[(), (3,), (2, 3)], analytic=False),
    Op("dtype=", lambda x: np.multiply(x, 3, dtype=np.float64), reals, analytic=False),
    Op("dtype= and casting=", lambda x: np.true_divide(x, 3, dtype="f8", casting="unsafe"), reals, analytic=False),
    Op("casting=, order=, subok=", lambda x: np.multiply(x, x, casting="safe", order="F", subok=False), reals),
    Op("multiply.outer", np.multiply.outer, reals, reals, shapes=[((), ()), ((2,), (3,)), ((2, 3), (0,)), ((1, 2), (2, 2))]),
    Op("true_divide.reduce", lambda x: np.true_divide.reduce(x, axis=-1), nonzero, shapes=[(3,), (2, 3)]),
    Op("subtract.reduce keepdims", lambda x: np.subtract.reduce(x, axis=0, keepdims=True), reals, shapes=[(3,), (2, 3)]),
    Op("subtract.accumulate", lambda x: np.subtract.accumulate(x, axis=1), reals, shapes=MATRICES),
    Op("true_divide.accumulate", np.true_divide.accumulate, nonzero, shapes=[(3,), (2, 3), (0, 2)]),
    Op("logaddexp.accumulate", np.logaddexp.accumulate, reals, shapes=[(1,), (5,), (3, 2)], analytic=False),
    Op("maximum.reduceat", lambda x: np.maximum.reduceat(x, [0, 2, 1]), distinct, shapes=[(5,), (3, 2)], analytic=False),
    Op("hypot.reduceat", lambda x: np.hypot.reduceat(x, [1, 3]), nonzero, shapes=[(5,), (6, 2)], analytic=False),
    Op("add.reduceat", lambda x: np.add.reduceat(x, [0, 2, 2, 1]), reals, shapes=[(3,), (4, 2)]),
    Op("multiply.reduceat axis", lambda x: np.multiply.reduceat(x, [1, 0], axis=1), reals, shapes=[(2, 3), (1, 2, 2)]),
    Op("hypot.reduce", np.hypot.reduce, nonzero, shapes=[(1,), (3, 2), (0, 2)], analytic=False),
    Op("hypot.reduce of several axes", lambda x: np.hypot.reduce(x, axis=None, keepdims=True, initial=0.5, where=MASK), nonzero,
       shapes=[(2, 3)], analytic=False),
    Op("subtract.reduce where", lambda x: np.subtract.reduce(x, initial=0.5, where=MASK), reals, shapes=[(2, 3)]),
]  # fmt: skip
