"""Fourier transforms, convolution, interpolation and polynomials."""

from typing import Any

ROWS: list[Any] = []
