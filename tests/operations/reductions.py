"""Sums, extrema and other functions that shorten arrays."""

import numpy as np

from .row import *

ROWS = [
    # reductions
    Op("sum", np.sum, reals),
    Op(".sum()", lambda x: x.sum(), reals),
    Op("sum axis 0", lambda x: np.sum(x, axis=0), reals, shapes=[(), (3,), (2, 3), (0, 2), (2, 0)]),
    Op("sum axis -1", lambda x: np.sum(x, -1), reals, shapes=[(), (3,), (2, 3), (2, 0, 3)]),
    Op("sum axes", lambda x: np.sum(x, axis=(0, -1)), reals, shapes=[(2, 3), (2, 3, 2), (2, 0, 3)]),
    Op("sum axis ()", lambda x: np.sum(x, axis=()), reals),
    Op("sum keepdims", lambda x: np.sum(x, keepdims=True), reals),
    Op("sum axis 1 keepdims", lambda x: np.sum(x, 1, keepdims=True), reals, shapes=MATRICES),
    Op("sum dtype", lambda x: np.sum(x, dtype=np.float64), reals, analytic=False),
    Op("add.reduce", np.add.reduce, reals, shapes=[(), (3,), (2, 3), (0, 2)]),
    Op("add.reduce axis", lambda x: np.add.reduce(x, (0, 2)), reals, shapes=CUBES),
    Op("mean", np.mean, reals, shapes=[(), (3,), (2, 3)]),
    Op(".mean()", lambda x: x.mean(), reals, shapes=[(), (3,), (2, 3)]),
    Op("mean axis 0", lambda x: np.mean(x, axis=0), reals, shapes=[(3,), (2, 3), (2, 0)]),
    Op("mean axes", lambda x: x.mean(axis=(-1, 0), keepdims=True), reals, shapes=CUBES),
    Op("mean dtype", lambda x: np.mean(x, 0, np.float64), reals, shapes=VECTORS, analytic=False),
    Op("max", np.max, distinct, shapes=[(), (3,), (2, 3), (2, 3, 2)]),
    Op("amax", np.amax, distinct, shapes=MATRICES),
    Op(".max()", lambda x: x.max(), distinct, shapes=VECTORS),
    Op("max axis 0", lambda x: np.max(x, axis=0), distinct, shapes=[(), (3,), (2, 3), (2, 0)]),
    Op("max axes", lambda x: np.max(x, axis=(0, -1)), distinct, shapes=CUBES),
    Op("max keepdims", lambda x: x.max(axis=-1, keepdims=True), distinct, shapes=CUBES),
    Op("min", np.min, distinct, shapes=[(), (3,), (2, 3), (2, 3, 2)]),
    Op("amin", np.amin, distinct, shapes=MATRICES),
    Op(".min()", lambda x: x.min(), distinct, shapes=VECTORS),
    Op("min axis -1", lambda x: np.min(x, -1), distinct, shapes=[(3,), (2, 3), (0, 2)]),
    Op("min axes keepdims", lambda x: np.min(x, (1, 2), keepdims=True), distinct, shapes=CUBES),
    Op("maximum.reduce", np.maximum.reduce, distinct, shapes=[(), (3,), (2, 3)]),
    Op("minimum.reduce", lambda x: np.minimum.reduce(x, axis=1), distinct, shapes=MATRICES),
]  # fmt: skip
