"""Interpolation, under the names of `scipy.interpolate`. `np.interp` is the linear one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.modes import plain
from ..engine.tensor import Tensor
from ..engine.typing import Function
from ..guide import of_module
from .operands import operand

__all__ = ["CubicSpline"]


def __dir__() -> list[str]:
    return __all__


__getattr__ = of_module(__name__)


def _joined(*parts: Any) -> Any:
    return np.concatenate([part.reshape(-1) for part in parts])


class CubicSpline:
    """The piecewise cubic function through the points (x, y), with two continuous derivatives.

    `x` is an increasing vector of n >= 2 numbers, and `y` has shape (n, ...). `bc_type` says what
    holds at both ends: "not-a-knot" (the first two pieces are one polynomial, and so are the last
    two; needs n >= 4), "natural" (the second derivative is 0) or "clamped" (the first is 0).
    Beyond its ends, the spline continues the first and the last piece. It takes a dense system of n
    equations. There are derivatives by points, values and knots. It needs no SciPy.

    >>> spline = tg.scipy.interpolate.CubicSpline(np.arange(5.0), np.arange(5.0) ** 3)
    >>> spline(2.5), spline(2.5, 1)
    (array(15.625), array(18.75))
    """

    def __init__(self, x: Any, y: Any, bc_type: str = "not-a-knot") -> None:
        self.x, self.y = operand(x, "CubicSpline"), operand(y, "CubicSpline")
        if self.x.ndim != 1 or self.y.ndim == 0 or len(self.x) != len(self.y):
            raise ValueError(
                f"CubicSpline: pass n knots and n values, not shapes {self.x.shape}, {self.y.shape}"
            )
        least = 4 if bc_type == "not-a-knot" else 2
        if len(self.x) < least:
            raise ValueError(f"CubicSpline: bc_type={bc_type!r} needs {least} points or more")
        knots = plain(self.x)
        if type(knots) is np.ndarray and not np.all(knots[1:] > knots[:-1]):
            raise ValueError("CubicSpline: x must be increasing")
        if bc_type not in _ENDS:
            raise ValueError(f"CubicSpline: bc_type={bc_type!r} must be one of {', '.join(_ENDS)}")
        self._set_pieces(_ENDS[bc_type])

    def _set_pieces(self, end: Function) -> None:
        """The coefficients of each piece, in powers of the distance to its first knot.

        The slopes at the knots solve a tridiagonal system: De Boor, "A Practical Guide to Splines"
        (1978), chapter 4.
        """
        values = self.y.reshape(len(self.x), -1)
        h = np.diff(self.x)
        wide = h[:, None]
        secants = np.diff(values, axis=0) / wide
        first, last = end(h, secants), end(np.flip(h), np.flip(secants, 0))
        matrix = (
            np.diag(_joined(first[0], 2 * (h[:-1] + h[1:]), last[0]))
            + np.diag(_joined(first[1], h[:-1]), 1)
            + np.diag(_joined(h[1:], last[1]), -1)
        )
        inner = 3 * (wide[1:] * secants[:-1] + wide[:-1] * secants[1:])
        slopes = np.linalg.solve(matrix, np.concatenate([first[2][None], inner, last[2][None]]))
        bend = (slopes[:-1] + slopes[1:] - 2 * secants) / wide
        self._pieces = values[:-1], slopes[:-1], (secants - slopes[:-1]) / wide - bend, bend / wide

    def __call__(self, x: Any, nu: int = 0) -> Tensor:
        """Return the values at the points `x`, or the `nu`-th derivatives there."""
        x = operand(x, "CubicSpline")
        piece = np.clip(np.searchsorted(self.x, x, side="right") - 1, 0, len(self.x) - 2)
        u = (x - self.x[piece])[..., None]
        a, b, c, d = (coefficients[piece] for coefficients in self._pieces)
        if nu == 0:
            value = a + u * (b + u * (c + u * d))
        elif nu == 1:
            value = b + u * (2 * c + u * 3 * d)
        elif nu == 2:
            value = 2 * c + u * 6 * d
        else:
            value = 6 * d if nu == 3 else 0 * d
        return value.reshape(x.shape + self.y.shape[1:])  # type: ignore[no-any-return]


# What holds at the first knot: a * slope + b * (the next slope) = c, as a, b and c.


def _not_a_knot(h: Any, secants: Any) -> tuple[Any, Any, Any]:
    both = h[0] + h[1]
    right = ((h[0] + 2 * both) * h[1] * secants[0] + h[0] * h[0] * secants[1]) / both
    return h[1], both, right


def _natural(h: Any, secants: Any) -> tuple[Any, Any, Any]:
    return np.full_like(h[0], 2), np.ones_like(h[0]), 3 * secants[0]


def _clamped(h: Any, secants: Any) -> tuple[Any, Any, Any]:
    return np.ones_like(h[0]), np.zeros_like(h[0]), np.zeros_like(secants[0])


_ENDS = {"not-a-knot": _not_a_knot, "natural": _natural, "clamped": _clamped}
