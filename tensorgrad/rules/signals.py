"""Fourier transforms, convolution, interpolation and polynomials."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy import fft

from ..engine.custom import differentiable
from ..engine.dispatch import apply
from ..engine.modes import plain
from ..engine.registry import composite, rule
from ..engine.tensor import asarray
from ..engine.typing import Function
from .indexing import scatter

# -- Fourier transforms

Norm: TypeAlias = Literal["backward", "ortho", "forward"] | None


def _resized(x: Any, shape: tuple[int, ...]) -> Any:
    """Crop an array, or pad it with zeros at the end, to a shape."""
    if x.shape == shape:
        return x
    index = tuple([slice(min(pair)) for pair in zip(x.shape, shape, strict=True)])
    return scatter(x[index], index, shape)


def _multiplicity(g: Any, axis: int) -> Any:
    """How many of the n elements of a Hermitian spectrum each of the first n // 2 + 1 stands for.

    Two: itself and its conjugate at the other end. One: the first, and for even n the middle one.
    """
    n = g.shape[axis]
    counts = np.full(n // 2 + 1, 2, np.int8)
    counts[[0] if n % 2 else [0, -1]] = 1
    return np.expand_dims(counts, [i for i in range(g.ndim) if i != axis % g.ndim])


def _define_full(transform: Function, back: Function) -> None:
    """Set the derivative of a linear transform of n elements, whose transpose is `back`."""

    def vjp(
        g: Any, _y: Any, _x: Any, n: int | None = None, axis: int = -1, norm: Norm = None
    ) -> Any:
        return _resized(back(g, _x.shape[axis] if n is None else n, axis, norm), _x.shape)

    rule(transform, vjp, form="linear")


def _define_half(transform: Function, back: Function) -> None:
    """Set the derivative of a transform from half of a Hermitian spectrum to n real elements."""

    def vjp(
        g: Any, _y: Any, _x: Any, _n: int | None = None, axis: int = -1, norm: Norm = None
    ) -> Any:
        return _resized(back(g, None, axis, norm) * _multiplicity(g, axis), _x.shape)

    rule(transform, vjp, form="linear")


_define_full(fft.fft, fft.fft)
_define_full(fft.ifft, fft.ifft)
_define_full(fft.rfft, fft.fft)  # the elements that rfft drops have cotangents 0, which fft pads
_define_full(fft.ihfft, fft.ifft)
_define_half(fft.irfft, fft.ihfft)
_define_half(fft.hfft, fft.rfft)

rule(fft.fftshift, lambda g, _y, _x, axes=None: fft.ifftshift(g, axes), form="linear")
rule(fft.ifftshift, lambda g, _y, _x, axes=None: fft.fftshift(g, axes), form="linear")


def _lengths(
    a: Any, s: Sequence[int | None] | None, axes: Sequence[int] | None
) -> list[tuple[int, int]]:
    """The length and the axis of each one-dimensional transform, by NumPy's parameters."""
    if axes is None:
        axes = range(-(a.ndim if s is None else len(s)), 0)
    s = [None] * len(axes) if s is None else s
    return [
        (a.shape[axis] if n in (None, -1) else n, axis) for n, axis in zip(s, axes, strict=True)
    ]


@composite(fft.fftn)
def _fftn(a: Any, s: Any = None, axes: Any = None, norm: Norm = None) -> Any:
    for n, axis in reversed(_lengths(a, s, axes)):
        a = fft.fft(a, n, axis, norm)
    return a


@composite(fft.ifftn)
def _ifftn(a: Any, s: Any = None, axes: Any = None, norm: Norm = None) -> Any:
    for n, axis in reversed(_lengths(a, s, axes)):
        a = fft.ifft(a, n, axis, norm)
    return a


@composite(fft.rfftn)
def _rfftn(a: Any, s: Any = None, axes: Any = None, norm: Norm = None) -> Any:
    *others, (n, axis) = _lengths(a, s, axes)
    a = fft.rfft(a, n, axis, norm)
    for n, axis in reversed(others):
        a = fft.fft(a, n, axis, norm)
    return a


@composite(fft.irfftn)
def _irfftn(a: Any, s: Any = None, axes: Any = None, norm: Norm = None) -> Any:
    *others, (last, axis) = _lengths(a, s, axes)
    for n, other in others:
        a = fft.ifft(a, n, other, norm)
    return fft.irfft(a, None if s is None else last, axis, norm)


def _define_2d(fun: Function, of_n_axes: Function) -> None:
    @composite(fun)
    def _(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Norm = None) -> Any:
        return of_n_axes(a, s, axes, norm)


_define_2d(fft.fft2, fft.fftn)
_define_2d(fft.ifft2, fft.ifftn)
_define_2d(fft.rfft2, fft.rfftn)
_define_2d(fft.irfft2, fft.irfftn)

# -- convolution


def _convolve_back(g: Any, size: int, other: Any) -> Any:
    """The cotangent of one operand; the result was the middle of a full convolution of `size`."""
    start = (size - len(g)) // 2
    whole = scatter(g, slice(start, start + len(g)), (size,))
    return np.correlate(whole, np.conjugate(np.ravel(other)), "valid")


rule(
    np.convolve,
    lambda g, _z, _a, v, _mode="full": _convolve_back(g, _a.size + np.size(v) - 1, v),
    lambda g, _z, a, _v, _mode="full": _convolve_back(g, np.size(a) + _v.size - 1, a),
    form="multilinear",
)


@composite(np.correlate)
def _correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    if len(v) > len(a):
        return np.convolve(np.conjugate(v), a[::-1], mode)[::-1]
    return np.convolve(a, np.conjugate(v)[::-1], mode)


# -- interpolation


def interp(x: Any, xp: Any, fp: Any, left: Any, right: Any) -> Any:
    """`np.interp` of float64 arrays, without a period."""
    return np.interp(x, xp, fp, left, right)


def _interp_back_x(g: Any, _z: Any, x: Any, xp: Any, fp: Any, *_left_and_right: Any) -> Any:
    """At a sample, where two slopes meet, the number between them that is closest to 0."""
    widths = xp[1:] - xp[:-1]
    slopes = (fp[1:] - fp[:-1]) / np.where(widths == 0, 1, widths)
    slopes = np.concatenate([[0.0], slopes, [0.0]])
    before, after = (slopes[np.asarray(np.searchsorted(xp, x, side))] for side in ("left", "right"))
    smaller = np.where(np.absolute(before) < np.absolute(after), before, after)
    return g * np.where(before * after <= 0, 0, smaller)


def _interp_back_fp(g: Any, _z: Any, x: Any, xp: Any, _fp: Any, left: Any, right: Any) -> Any:
    g = g if left is None else np.where(x < xp[0], 0, g)
    g = g if right is None else np.where(x > xp[-1], 0, g)
    # The sample before x, at most the last but one; of a single sample, -1 and 0 are both ends.
    i = np.clip(np.asarray(np.searchsorted(xp, x, "right")) - 1, 0, len(xp) - 2)
    width = xp[i + 1] - xp[i]
    weight = np.clip((x - xp[i]) / np.where(width == 0, 1, width), 0, 1)
    return scatter(g * (1 - weight), i, _fp.shape) + scatter(g * weight, i + 1, _fp.shape)


def _interp_back_xp(g: Any, _z: Any, x: Any, xp: Any, fp: Any, left: Any, right: Any) -> Any:
    # Moving a sample to the right by d lowers the line there by d times the slope.
    return -_interp_back_fp(_interp_back_x(g, _z, x, xp, fp), _z, x, xp, fp, left, right)


rule(interp, _interp_back_x, _interp_back_xp, _interp_back_fp)


@composite(np.interp)
def _interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    if np.iscomplexobj(fp):

        def part(of: Function) -> Any:
            bounds = (bound if bound is None else of(bound) for bound in (left, right))
            return np.interp(x, xp, of(fp), *bounds, period)  # type: ignore[call-overload]

        return part(np.real) + 1j * part(np.imag)
    x, xp, fp = (asarray(values, np.float64) for values in (x, xp, fp))
    if period is not None:
        if period == 0:
            raise ValueError("interp: period must not be 0")
        period, left, right = np.absolute(period), None, None
        x, xp = x % period, xp % period
        order = np.argsort(xp)
        xp, fp = xp[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
    return apply(interp, (x, xp, fp, left, right))


# -- polynomials: their coefficients, highest power first


@composite(np.polyval)
def _polyval(p: Any, x: Any) -> Any:
    p, x = asarray(p), asarray(x)
    y = np.zeros_like(x)
    for coefficient in p:
        y = y * x + coefficient
    return y


@composite(np.polyder)
def _polyder(p: Any, m: int = 1) -> Any:
    if m < 0:
        raise ValueError(f"polyder: the order {m} is negative; see polyint")
    for _ in range(m):
        p = p[:-1] * np.arange(len(p) - 1, 0, -1)
    return p


@composite(np.polyint)
def _polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    if m < 0:
        raise ValueError(f"polyint: the order {m} is negative; see polyder")
    constants = np.ravel(0.0 if k is None else k)
    if len(constants) == 1:
        constants = np.broadcast_to(constants, (m,))
    if len(constants) < m:
        raise ValueError(f"polyint: {len(constants)} constants k for the order {m}")
    for constant in constants[:m]:
        p = np.concatenate([p / np.arange(len(p), 0, -1), np.reshape(constant, (1,))])
    return p


def _aligned(*polynomials: Any) -> list[Any]:
    """The coefficients as vectors of equal length, padded with zeros in front."""
    vectors = [np.ravel(asarray(p)) for p in polynomials]
    length = max(map(len, vectors))
    return [np.concatenate([np.zeros(length - len(p), p.dtype), p]) for p in vectors]


@composite(np.polyadd)
def _polyadd(a1: Any, a2: Any) -> Any:
    return np.add(*_aligned(a1, a2))


@composite(np.polysub)
def _polysub(a1: Any, a2: Any) -> Any:
    return np.subtract(*_aligned(a1, a2))


def _without_zeros(p: Any) -> Any:
    """The coefficients without leading zeros, at least one."""
    p = np.ravel(asarray(p))
    return p[next((i for i, c in enumerate(p.numpy()) if c != 0), -1) :]


@composite(np.polymul)
def _polymul(a1: Any, a2: Any) -> Any:
    return np.convolve(_without_zeros(a1), _without_zeros(a2))


@composite(np.polydiv)
def _polydiv(u: Any, v: Any) -> Any:
    remainder, v = np.ravel(asarray(u)) + 0.0, np.ravel(asarray(v)) + 0.0
    quotient = []
    for k in range(len(remainder) - len(v) + 1):
        quotient.append(1.0 / v[0] * remainder[k])
        remainder[k : k + len(v)] -= quotient[-1] * v
    first = 0
    while first < len(remainder) - 1 and np.allclose(remainder[first], 0, rtol=1e-14):
        first += 1
    return np.stack(quotient) if quotient else np.zeros(1, remainder.dtype), remainder[first:]


def _roots_back(g: Any, r: Any, p: Any) -> Any:
    p = np.ravel(p)  # p(r) stays 0 as p changes by dp: p'(r) * dr = -dp(r)
    return -(g / np.polyval(np.polyder(p), r)) @ np.vander(r, len(p))


rule(np.roots, _roots_back)


@composite(np.poly)
def _poly(seq_of_zeros: Any) -> Any:
    if seq_of_zeros.ndim == 2:  # the characteristic polynomial
        seq_of_zeros = np.linalg.eigvals(seq_of_zeros)
    zeros = np.ravel(seq_of_zeros)
    zeros = zeros.astype(np.mintypecode(zeros.dtype.char))
    p = np.ones(1, zeros.dtype)
    for zero in zeros:
        p = np.convolve(p, np.stack([np.ones_like(zero), -zero]))
    each_has_its_conjugate = p.dtype.kind == "c" and np.isrealobj(np.poly(plain(zeros)))
    return np.real(p) if each_has_its_conjugate else p


def _vander_back(g: Any, _y: Any, x: Any, _n: int | None = None, increasing: bool = False) -> Any:
    powers = np.arange(g.shape[1])
    powers = powers if increasing else powers[::-1]
    return np.sum(g * powers * np.expand_dims(x, 1) ** np.maximum(powers - 1, 0), axis=1)


rule(np.vander, _vander_back)


@composite(np.polyfit)
def _polyfit(x: Any, y: Any, deg: int, rcond: float | None = None, *, w: Any = None) -> Any:
    x, y = asarray(x) + 0.0, asarray(y) + 0.0
    weights = 1.0 if w is None else np.reshape(asarray(w), (-1, 1))
    columns = np.vander(x, deg + 1) * weights
    scale = np.sqrt(np.sum(columns * columns, axis=0))
    values = y if w is None else (y.T * w).T
    rcond = len(x) * np.finfo(x.dtype).eps if rcond is None else rcond
    p, _, rank, _ = np.linalg.lstsq(columns / scale, values, rcond)
    if rank != deg + 1:
        message = "Polyfit may be poorly conditioned"
        warnings.warn(message, np.exceptions.RankWarning, stacklevel=2)
    return (p.T / scale).T


# -- ranges


def _weighted_points(g: Any, stop: bool, num: int, endpoint: bool, axis: int) -> Any:
    """The sum of the points' cotangents, weighted by how much each point moves with one end."""
    weights = np.linspace(0, 1, num, endpoint, dtype=g.dtype)
    return np.tensordot(weights if stop else 1 - weights, np.moveaxis(g, axis, 0), 1)


@differentiable(
    lambda g, _y, _a, _b, *options: _weighted_points(g, False, *options[:3]),
    lambda g, _y, _a, _b, *options: _weighted_points(g, True, *options[:3]),
    form="linear",
)
def linspace(start: Any, stop: Any, num: int, endpoint: bool, axis: int, dtype: Any) -> Any:
    """`np.linspace`, without the step."""
    return np.linspace(start, stop, num, endpoint, dtype=dtype, axis=axis)


@composite(np.linspace)
def _linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,  # noqa: ARG001 (there is only one)
) -> Any:
    points = linspace(start, stop, num, endpoint, axis, dtype)
    steps = num - 1 if endpoint else num
    return (points, (stop - start) / steps if steps else np.nan) if retstep else points


@composite(np.logspace)
def _logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    if np.ndim(base):
        shape = np.broadcast_shapes(np.shape(start), np.shape(stop), np.shape(base))
        start, stop = (np.broadcast_to(asarray(end), shape) for end in (start, stop))
        base = np.expand_dims(base, axis)
    powers = np.power(base, np.linspace(start, stop, num, endpoint, axis=axis))
    return powers if dtype is None else powers.astype(dtype)


@differentiable(
    lambda g, y, a, _b, *options: _weighted_points(g * y, False, *options[:3]) / a,
    lambda g, y, _a, b, *options: _weighted_points(g * y, True, *options[:3]) / b,
)
def geomspace(start: Any, stop: Any, num: int, endpoint: bool, axis: int, dtype: Any) -> Any:
    """`np.geomspace`: weighted geometric means of the two ends."""
    return np.geomspace(start, stop, num, endpoint, dtype, axis)


@composite(np.geomspace)
def _geomspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    return geomspace(start, stop, num, endpoint, axis, dtype)
