"""Sorting, searching and selecting."""

from typing import Any

import numpy as np

from .row import *

MASK = np.array([[True, False, True], [False, False, True]])
SORTED: list[Any] = [(4,), (2, 3), (3, 2, 2), (0,), (2, 0)]


def sorted_in_place(x: Any) -> Any:
    """The array itself, after `x.sort()`."""
    x.sort()
    return x


ROWS = [
    # sorting
    Op("sort", np.sort, distinct, shapes=SORTED, analytic=False),
    Op("sort axis", lambda x: np.sort(x, axis=0, kind="stable"), distinct, shapes=SORTED,
       analytic=False),
    Op("sort axis None", lambda x: np.sort(x, None), distinct, analytic=False),
    Op("sort stable", lambda x: np.sort(x, stable=True), distinct, shapes=[(3,)], analytic=False),
    Op("sort_complex", lambda x: np.real(np.sort_complex(x)), distinct, shapes=[(3,)],
       analytic=False),
    Op("partition", lambda x: np.partition(x, 1), distinct, shapes=[(5,), (2, 3), (0, 2)],
       analytic=False),
    Op("partition axis", lambda x: np.partition(x, [0, -1], axis=0), distinct,
       shapes=[(4,), (3, 2)], analytic=False),
    Op("partition axis None", lambda x: np.partition(x, 0, axis=None), distinct,
       shapes=[(), (2, 3)], analytic=False),
    Op("in place sort", lambda x: sorted_in_place(x * 1), distinct, shapes=[(3,), (2, 3)],
       analytic=False),
    # sets
    Op("unique", np.unique, distinct, analytic=False),
    Op("unique of repeats", lambda x: np.unique(np.stack([x, x + 8])), distinct, shapes=[(2, 2)],
       analytic=False),
    Op("unique counts", lambda x: np.unique(x, return_index=True, return_counts=True)[0], distinct,
       shapes=[(3,), (2, 2)], analytic=False),
    Op("unique axis", lambda x: np.unique(x, axis=1, return_inverse=True)[0], distinct,
       shapes=[(2, 3), (2, 2, 2)], analytic=False),
    Op("unique_values", np.unique_values, distinct, shapes=[(3,), (2, 2), (0,)], analytic=False),
    Op("unique_all", lambda x: np.unique_all(x).values, distinct, shapes=[(3,), (2, 2)],
       analytic=False),
    Op("unique_counts", lambda x: np.unique_counts(x).values, distinct, shapes=[(3,), (2, 2)],
       analytic=False),
    Op("unique_inverse", lambda x: np.unique_inverse(x).values, distinct, shapes=[(3,), (2, 2)],
       analytic=False),
    Op("union1d", np.union1d, distinct, halfway, shapes=[((3,), (2,)), ((2, 2), ()), ((0,), (2,))],
       analytic=False),
    Op("intersect1d", lambda x: np.intersect1d(x + 1, np.flip(x) + 1, return_indices=True)[0],
       distinct, shapes=[(3,), (2, 2)], analytic=False),
    Op("setdiff1d", lambda x: np.setdiff1d(x, x[:1]), distinct, shapes=[(3,), (2, 2)],
       analytic=False),
    Op("setxor1d", np.setxor1d, distinct, halfway, shapes=[((3,), (2,)), ((2, 2), (0,))],
       analytic=False),
    # choices
    Op("select", lambda x, y: np.select([x > 0, y > 0], [x * y, y], 0.5), nonzero, nonzero,
       analytic=False),
    Op("select default", lambda x, y: np.select([MASK, ~MASK[0]], [x + y, 1.0], default=y), reals,
       reals,
       shapes=[((), ()), ((2, 3), (3,)), ((3,), (2, 1))]),
    Op("choose", lambda x, y: np.choose([[0, 1, 1], [2, 0, 1]], [x, y, 1.5]), reals, reals,
       shapes=[((), ()), ((2, 3), (3,)), ((3,), (4, 2, 1)), ((3,), (0, 1, 1))]),
    Op("choose wrap", lambda x, y: np.choose([3, -1, 0], [x, y], mode="wrap"), reals, reals,
       shapes=[((3,), ())]),
    Op("choose clip", lambda x: np.choose([3, -1, 0], x, mode="clip"), reals,
       shapes=[(2,), (2, 3), (1, 3)]),
    Op("piecewise",
       lambda x: np.piecewise(x, [x < -1.03, x > 1.03], [lambda v, p: v * p, lambda v, p: v**p, 3.0], 2),
       nonzero, shapes=[(), (3,), (2, 3)], analytic=False),
    Op("piecewise overlapping", lambda x: np.piecewise(x, [x < 1.03, x > 0.03], [np.exp, np.sum]),
       distinct, shapes=[(3,), (2, 3)], analytic=False),
    Op("piecewise one condition", lambda x: np.piecewise(x, x > 0, [np.square, np.negative]),
       nonzero, shapes=[(3,)], analytic=False),
]  # fmt: skip
