"""Generated data sets."""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from tensorgrad.data import moons


def test_moons_lie_on_two_half_circles() -> None:
    points, classes = moons(50, noise=0.0, rng=0)
    assert (points.shape, classes.shape, points.dtype) == ((50, 2), (50,), np.float64)
    assert_array_equal(classes, np.arange(50) % 2)
    upper, lower = points[classes == 0], points[classes == 1] - (1, 0.5)
    assert_allclose(np.linalg.norm(upper, axis=1), 1)
    assert_allclose(np.linalg.norm(lower, axis=1), 1)
    assert upper[:, 1].min() >= 0 >= lower[:, 1].max()
    assert (np.ptp(upper[:, 0]), np.ptp(lower[:, 0])) > (1.5, 1.5)


def test_moons_are_random_as_asked() -> None:
    assert_array_equal(moons(10, rng=3)[0], moons(10, rng=np.random.default_rng(3))[0])
    assert not np.array_equal(moons(10, rng=3)[0], moons(10, rng=4)[0])
    clean, noisy = moons(2000, noise=0.0, rng=0)[0], moons(2000, noise=0.2, rng=0)[0]
    assert_allclose(np.std(noisy - clean, axis=0), 0.2, rtol=0.1)
