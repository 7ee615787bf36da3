"""Data sets, generated."""

from __future__ import annotations

import numpy as np

from .graph import Array


def moons(
    n: int, noise: float = 0.1, rng: np.random.Generator | int | None = None
) -> tuple[Array, Array]:
    """Return `n` points on two interleaved half circles, and the class of each.

    The points have shape (n, 2), dtype float64; the classes, 0 and 1 in turn, shape (n,). Class 0
    lies on the upper half of the unit circle, class 1 on the lower half of the unit circle around
    (1, 0.5). `noise` is the standard deviation of what is added to every coordinate; `rng` is a
    NumPy Generator or a seed.

    >>> points, classes = tg.data.moons(4, noise=0.0, rng=0)
    >>> classes
    array([0, 1, 0, 1])
    >>> np.hypot(*points[0]), np.hypot(*(points[1] - [1.0, 0.5]))
    (np.float64(1.0), np.float64(1.0))
    """
    rng = np.random.default_rng(rng)
    classes = np.arange(n) % 2
    angles = rng.uniform(0, np.pi, n)
    upper = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.where(classes[:, np.newaxis] == 0, upper, (1, 0.5) - upper)
    return points + rng.normal(0, noise, points.shape), classes
