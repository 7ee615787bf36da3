"""Running sums and products, differences, and integrals of samples."""

from typing import Any

import numpy as np

from .row import *

POINTS = np.array([0.0, 1.0, 3.0, 3.5])
SERIES: list[Any] = [(), (1,), (3,), (2, 3), (0,)]

ROWS = [
    # running sums, products and extrema
    Op("cumsum", np.cumsum, reals, shapes=SERIES),
    Op("cumsum axis", lambda x: x.cumsum(axis=-2), reals, shapes=[(2, 3), (2, 3, 2), (2, 0)]),
    Op("cumsum dtype", lambda x: np.cumsum(x, 0, np.float64), reals, shapes=[(3,)], analytic=False),
    Op("cumulative_sum", lambda x: np.cumulative_sum(x, axis=-1, include_initial=True), reals,
       shapes=[(3,), (2, 3), (2, 0)]),
    Op("cumulative_sum 1-d", np.cumulative_sum, reals, shapes=[(), (3,)]),
    Op("add.accumulate", np.add.accumulate, reals, shapes=[(3,), (2, 3), (0, 2)]),
    Op("nancumsum", np.nancumsum, reals, shapes=[(2, 3)]),
    Op("cumprod", np.cumprod, reals, shapes=[*SERIES, (5,)]),
    Op("cumprod axis", lambda x: x.cumprod(0), reals, shapes=[(3,), (4, 2), (2, 0)]),
    Op("cumprod of zeros", lambda x: np.cumprod(x * [0.0, 1.0, 0.0, 1.0], -1), reals,
       shapes=[(4,), (2, 4)]),
    Op("cumulative_prod", lambda x: np.cumulative_prod(x, axis=0, include_initial=True), reals,
       shapes=[(3,), (2, 3), (0, 2)]),
    Op("multiply.accumulate", lambda x: np.multiply.accumulate(x, axis=1), reals,
       shapes=[(2, 3), (2, 0)]),
    Op("nancumprod", lambda x: np.nancumprod(x, axis=-1), reals, shapes=[(2, 3)]),
    Op("maximum.accumulate", np.maximum.accumulate, distinct, shapes=[(0,), (5,), (3, 2)],
       analytic=False),
    Op("minimum.accumulate", lambda x: np.minimum.accumulate(x, axis=-1), distinct,
       shapes=[(5,), (2, 3)], analytic=False),
    # differences
    Op("diff", np.diff, reals, shapes=[(3,), (2, 3), (1,), (0,)]),
    Op("diff n", lambda x: np.diff(x, 2, axis=0), reals, shapes=[(4,), (3, 2), (1,)]),
    Op("diff 0", lambda x: np.diff(x, n=0) * 1, reals, shapes=[(), (3,)]),
    Op("diff prepend", lambda x, p: np.diff(x, prepend=p, append=1.5), reals, reals,
       shapes=[((3,), ()), ((2, 3), (2, 2)), ((0,), (1,))]),
    Op("diff append", lambda x, p: np.diff(x, axis=0, append=p), reals, reals,
       shapes=[((3,), (2,)), ((2, 3), ())]),
    Op("ediff1d", np.ediff1d, reals, shapes=[(), (3,), (2, 3), (0,)]),
    Op("ediff1d ends", lambda x, e: np.ediff1d(x, to_end=e, to_begin=1), reals, reals,
       shapes=[((3,), ()), ((2, 2), (2, 1))]),
    Op("ediff1d begin", lambda x, b: np.ediff1d(x, to_begin=b), reals, reals,
       shapes=[((3,), (2,))]),
    Op("gradient", np.gradient, reals, shapes=[(2,), (5,)]),
    Op("gradient of axes", lambda x: np.stack(np.gradient(x, 0.5, axis=(1, 0), edge_order=2)),
       reals, shapes=[(3, 4)]),
    Op("gradient points", lambda x: np.gradient(x, POINTS, axis=-1), reals, shapes=[(4,), (2, 4)]),
    Op("gradient spacing", lambda x, h: np.gradient(x, h, edge_order=2), reals, positive,
       shapes=[((3,), ()), ((4,), ())]),
    Op("gradient at points", lambda x, h: np.gradient(x, 8 * POINTS + h, edge_order=2), reals,
       positive, shapes=[((4,), (4,))]),
    Op("gradient at points, edge", lambda x, h: np.gradient(x, 8 * POINTS + h), reals, positive,
       shapes=[((4,), (4,))]),
    Op("trapezoid", np.trapezoid, reals, shapes=[(3,), (2, 3), (1,), (0,)]),
    Op("trapezoid dx", lambda y, h: np.trapezoid(y, dx=h, axis=0), reals, reals,
       shapes=[((3,), ()), ((3, 2), ())]),
    Op("trapezoid x", np.trapezoid, reals, reals,
       shapes=[((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 3))]),
    Op("trapezoid axis", lambda y, x: np.trapezoid(y, x, axis=0), reals, reals,
       shapes=[((3, 2), (3,)), ((3, 2), (3, 2))]),
]  # fmt: skip
