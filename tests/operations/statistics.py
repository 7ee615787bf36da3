"""Averages, order statistics and covariances."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .row import *

COUNTS = np.array([1, 2, 1, 3])
METHODS = [
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf",
    "hazen", "weibull", "linear", "median_unbiased", "normal_unbiased", "lower", "higher",
    "midpoint", "nearest",
]  # fmt: skip


def both(average: Any) -> Any:
    """The average and the sum of weights, in one array."""
    return np.stack(average)


def quantile(method: str) -> Callable[[Any], Any]:
    return partial(np.quantile, q=[0.1, 0.4, 0.77], method=method)


ROWS = [
    # averages
    Op("average", np.average, reals, shapes=[(), (3,), (2, 3)]),
    Op("average axis", lambda x: both(np.average(x, axis=(0, -1), returned=True, keepdims=True)),
       reals, shapes=CUBES),
    Op("average weights", lambda x, w: both(np.average(x, weights=w, returned=True)), reals,
       positive, shapes=[((3,), (3,)), ((2, 3), (2, 3))]),
    Op("average weights of an axis", lambda x, w: both(np.average(x, 1, w, True)), reals, positive,
       shapes=[((2, 3), (3,)), ((0, 3), (3,))]),
    Op("average weights of axes", lambda x, w: np.average(x, (2, 0), w, keepdims=True), reals,
       positive, shapes=[((2, 3, 4), (4, 2))]),
    Op("average of integers", lambda w: np.average([1, 2, 4], weights=w), positive, shapes=[(3,)]),
    Op("average list", lambda x: np.average(x, weights=[1, 2, 3], axis=-1), reals, shapes=[(2, 3)]),
    # order statistics
    Op("median", np.median, distinct, shapes=[(), (3,), (2, 3)], analytic=False),
    Op("median axis", lambda x: np.median(x, axis=0), distinct, shapes=[(4,), (3, 2), (2, 0)],
       analytic=False),
    Op("median axes", lambda x: np.median(x, (-1, 0), keepdims=True), distinct, shapes=CUBES,
       analytic=False),
    Op("nanmedian", lambda x: np.nanmedian(x, axis=1), distinct, shapes=[(2, 3), (2, 4)],
       analytic=False),
    *(Op(f"quantile {m}", quantile(m), distinct, shapes=[(1,), (6,)],
         analytic=False) for m in METHODS),
    Op("quantile by q", lambda x, q: np.quantile(x, q, 0), distinct, Domain((0.1875, 0.6875, 0.875)),
       shapes=[((6,), ()), ((6, 2), (2,)), ((1,), (1,))], analytic=False),
    Op("percentile by q", lambda q: np.percentile([[1.0, 4.0, 2.0], [5.0, 0.0, 9.0]], 100 * q, axis=None), Domain((0.125, 0.875)),
       shapes=[(), (2,)], analytic=False),
    Op("quantile axis", lambda x: np.quantile(x, 0.3, axis=-1), distinct,
       shapes=[(4,), (2, 3), (0, 2)], analytic=False),
    Op("quantile axes", lambda x: np.quantile(x, [[0.3, 1.0]], axis=(0, 2), keepdims=True),
       distinct, shapes=CUBES, analytic=False),
    Op("quantile weights",
       lambda x: np.quantile(x, [0.4, 0.9], 0, method="inverted_cdf", weights=COUNTS), distinct,
       shapes=[(4,), (4, 2)], analytic=False),
    Op("percentile", lambda x: np.percentile(x, (30, 77), 0, None, True), distinct,
       shapes=[(4,), (3, 2)], analytic=False),
    Op("nanquantile", lambda x: np.nanquantile(x, [0.3, 0.5], axis=(0, 1)), distinct,
       shapes=[(2, 3)], analytic=False),
    Op("nanpercentile", lambda x: np.nanpercentile(x, 30, axis=0, method="hazen", keepdims=True),
       distinct, shapes=[(3, 2)], analytic=False),
    # covariances
    Op("cov", np.cov, reals, shapes=[(3,), (2, 3), (0, 3)], analytic=False),
    Op("cov y", lambda x, y: np.cov(x, y, bias=True), reals, reals,
       shapes=[((3,), (3,)), ((2, 3), (1, 3))], analytic=False),
    Op("cov columns", lambda x, y: np.cov(x, y, rowvar=False, ddof=0), reals, reals,
       shapes=[((3, 2), (3,)), ((3, 1), (3, 2))], analytic=False),
    Op("cov weights", lambda x, w: np.cov(x, fweights=COUNTS, aweights=w), reals, positive,
       shapes=[((4,), (4,)), ((2, 4), (4,))], analytic=False),
    Op("cov aweights", lambda x, w: np.cov(x, aweights=w, ddof=0), reals, positive,
       shapes=[((2, 4), (4,))], analytic=False),
    Op("cov fweights", lambda x: np.cov(x, fweights=COUNTS), reals, shapes=[(2, 4)],
       analytic=False),
    Op("cov of complex", lambda x: np.real(np.cov([1 + 2j, 1j] * x + 0.5 * x * x, aweights=[1, 2])),
       reals, shapes=[(2,), (2, 2)], analytic=False),
    Op("corrcoef", np.corrcoef, distinct, shapes=[(2, 3), (3, 4)], analytic=False),
    Op("corrcoef of complex", lambda x: np.imag(np.corrcoef(x + 1j * x * x)), distinct, shapes=[(2, 3)],
       analytic=False),
    Op("corrcoef y", lambda x, y: np.corrcoef(x, y, rowvar=False), distinct, halfway,
       shapes=[((3, 1), (3,)), ((3,), (3,))], analytic=False),
]  # fmt: skip
