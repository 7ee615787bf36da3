"""Fourier transforms, convolution, interpolation and polynomials."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import fft

from ..errors import NoRuleError
from ..graph import Function, composite, rule
from ..tensor import Axis, apply
from .indexing import scatter

# -- Fourier transforms


def _resized(x: Any, shape: tuple[int, ...]) -> Any:
    """The array `x` cut, or continued with zeros, to a shape."""
    if x.shape == shape:
        return x
    index = tuple([slice(min(pair)) for pair in zip(x.shape, shape, strict=True)])
    return scatter(x[index], index, shape)


def _multiplicity(g: Any, axis: int) -> Any:
    """How many elements of a spectrum of n each of the first n // 2 + 1 stands for.

    Two, itself and the conjugate at the other end, except the first and the middle one of even n.
    """
    n = g.shape[axis]
    counts = np.full(n // 2 + 1, 2, np.int8)
    counts[[0] if n % 2 else [0, -1]] = 1
    return np.expand_dims(counts, [i for i in range(g.ndim) if i != axis % g.ndim])


def _spectral(transform: Function, back: Function) -> None:
    """Set the derivative of a transform of n elements: it is linear, and `back` its transpose."""

    def vjp(
        g: Any, _y: Any, _x: Any, n: int | None = None, axis: int = -1, norm: str | None = None
    ) -> Any:
        return _resized(back(g, _x.shape[axis] if n is None else n, axis, norm), _x.shape)

    rule(transform, vjp, form="linear")


def _hermitian(transform: Function, back: Function) -> None:
    """Set the derivative of a transform to n real elements, from the first half of n."""

    def vjp(
        g: Any, _y: Any, _x: Any, _n: int | None = None, axis: int = -1, norm: str | None = None
    ) -> Any:
        return _resized(back(g, None, axis, norm) * _multiplicity(g, axis), _x.shape)

    rule(transform, vjp, form="linear")


_spectral(fft.fft, fft.fft)
_spectral(fft.ifft, fft.ifft)
_spectral(fft.rfft, fft.fft)  # what rfft leaves out has the cotangent zero, which fft fills in
_spectral(fft.ihfft, fft.ifft)
_hermitian(fft.irfft, fft.ihfft)
_hermitian(fft.hfft, fft.rfft)

rule(fft.fftshift, lambda g, _y, _x, axes=None: fft.ifftshift(g, axes), form="linear")
rule(fft.ifftshift, lambda g, _y, _x, axes=None: fft.fftshift(g, axes), form="linear")


def _lengths(
    a: Any, s: Sequence[int | None] | None, axes: Sequence[int] | None
) -> list[tuple[int, int]]:
    """The length and the axis of each transform, as NumPy's functions of several axes take them."""
    if axes is None:
        axes = range(-(a.ndim if s is None else len(s)), 0)
    s = s or [None] * len(axes)
    return [
        (a.shape[axis] if n in (None, -1) else n, axis) for n, axis in zip(s, axes, strict=True)
    ]


@composite(fft.fftn)
def _fftn(a: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    for n, axis in reversed(_lengths(a, s, axes)):
        a = fft.fft(a, n, axis, norm)
    return a


@composite(fft.ifftn)
def _ifftn(a: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    for n, axis in reversed(_lengths(a, s, axes)):
        a = fft.ifft(a, n, axis, norm)
    return a


@composite(fft.rfftn)
def _rfftn(a: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    *others, (n, axis) = _lengths(a, s, axes)
    a = fft.rfft(a, n, axis, norm)
    for n, axis in reversed(others):
        a = fft.fft(a, n, axis, norm)
    return a


@composite(fft.irfftn)
def _irfftn(a: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    *others, (last, axis) = _lengths(a, s, axes)
    for n, other in others:
        a = fft.ifft(a, n, other, norm)
    return fft.irfft(a, None if s is None else last, axis, norm)


def _planar(two: Function, several: Function) -> None:
    @composite(two)
    def _(a: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Any:
        return several(a, s, axes, norm)


_planar(fft.fft2, fft.fftn)
_planar(fft.ifft2, fft.ifftn)
_planar(fft.rfft2, fft.rfftn)
_planar(fft.irfft2, fft.irfftn)

# -- convolution


def _whole(g: Any, a: Any, v: Any) -> Any:
    """The cotangent of the full convolution of `a` and `v`, of which the result was the middle."""
    size = np.size(a) + np.size(v) - 1
    start = (size - len(g)) // 2
    return scatter(g, slice(start, start + len(g)), (size,))


def _convolve_back(g: Any, a: Any, v: Any) -> Any:
    return np.correlate(_whole(g, a, v), np.conjugate(np.ravel(v)), "valid")


