"""Bessel functions, and the derivatives of the two that NumPy has: `np.i0` and `np.sinc`."""

import math
from typing import Any

import numpy as np

from .. import approximations
from ..engine.custom import differentiable
from ..engine.registry import rule, shown_as
from ..special import silent

# -- spherical Bessel functions; sinc(x) is the one of order 0, of pi * x (DLMF 10.49.3)


def _spherical_bessel_back(g: Any, _y: Any, u: Any, n: int) -> Any:
    """DLMF 10.51.2, first line."""
    lower = n * spherical_bessel(u, n - 1) if n else 0
    return g * ((lower - (n + 1) * spherical_bessel(u, n + 1)) / (2 * n + 1))


@differentiable(_spherical_bessel_back, form="elementwise")
@shown_as("sinc")
def spherical_bessel(u: Any, n: int) -> Any:
    """The spherical Bessel function of the first kind of order n, which is sin(u) / u for n = 0.

    Its derivatives are spherical Bessel functions too, so all of them keep their digits at 0. The
    power series DLMF 10.53.1 for small u, else the recurrence relation 10.51.1.

    >>> from tensorgrad.rules.bessel import spherical_bessel
    >>> spherical_bessel(np.array([0.0, 1e-9]), 1) * 3
    array([0.e+00, 1.e-09])
    """
    near = np.absolute(u) < math.sqrt(4 * n + 6)  # where each term is smaller than the last
    half = np.where(near, u * u * -0.5, 0)
    term = np.where(near, u, 0) ** n / math.prod(range(1, 2 * n + 2, 2))
    series = term
    for k in range(1, 20):  # each term is at most 1 / k of the last
        term = term * half / (k * (2 * n + 2 * k + 1))
        series = series + term
    far = np.where(near, 1, u)
    last, bessel = np.cos(far) / far, np.sin(far) / far
    for k in range(n):
        last, bessel = bessel, (2 * k + 1) / far * bessel - last
    return np.where(near, series, bessel)


rule(
    np.sinc,
    lambda g, _y, x: g * (spherical_bessel(x * math.pi, 1) * -math.pi),
    form="elementwise",
)

# -- modified Bessel functions of the first kind


def _bessel_i_back(g: Any, y: Any, x: Any, n: int, scaled: bool = False) -> Any:
    slope = (bessel_i(x, n - 1, scaled) + bessel_i(x, n + 1, scaled)) / 2  # DLMF 10.29.1
    return g * (slope - np.sign(x) * y if scaled else slope)


@silent(_bessel_i_back)
@shown_as("i0")
def bessel_i(x: Any, n: int, scaled: bool = False) -> Any:
    """The modified Bessel function of the first kind of integer order n.

    If it is scaled, it is divided by exp(|x|), and has a corner at 0 unless it is 0 there.

    >>> from tensorgrad.rules.bessel import bessel_i
    >>> bessel_i(np.array([0.0, 1.0]), 1).round(6)
    array([0.      , 0.565159])
    """
    return approximations.bessel_i(x, n, scaled)


rule(np.i0, lambda g, _y, x: g * bessel_i(x, 1), form="elementwise")
