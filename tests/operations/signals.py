"""Fourier transforms, convolution, interpolation and polynomials."""

from typing import Any

import numpy as np

from .row import *

POINTS = np.array([-3.0, -1.03, 0.26, 2.52, 4.0])
FILTER = np.exp(1j * np.arange(5.0))
LINES: list[Any] = [(1,), (4,), (5,), (2, 3), (0, 2)]
COEFFICIENTS: list[Any] = [((4,), (3,)), ((3,), (3,)), ((1,), (4,)), ((), (2,))]
LONGER: list[Any] = [
    ((4,), (3,)),
    ((5,), (2,)),
    ((3,), (3,)),
    ((1,), (3,)),
    ((2,), (5,)),
    ((4,), (6,)),
]
FACTORS: list[Any] = [*LONGER, ((), (3,)), ((), ())]


def both(z: Any) -> Any:
    """The real and the imaginary part of complex numbers, each with a part in the result."""
    return np.real(z) * 0.75 + np.imag(z)


def spectral(transform: Any) -> list[Op]:
    """The rows of a transform of real numbers that has complex ones as its result."""
    name = transform.__name__

    def row(title: str, fun: Any, shapes: Any) -> Op:
        return Op(f"{name} {title}", fun, reals, shapes=shapes, analytic=False)

    return [
        row("", lambda x: both(transform(x)), LINES),
        row("n=3", lambda x: both(transform(x, 3)), [(1,), (2,), (3,), (5,), (2, 4)]),
        row("n=4", lambda x: both(transform(x, n=4, norm="ortho")), [(3,), (6,)]),
        row("axis", lambda x: both(transform(x, axis=0, norm="forward")), [(3, 2), (2, 1, 2)]),
    ]


def hermitian(transform: Any) -> list[Op]:
    """The rows of a transform of complex numbers that has real ones as its result."""
    name = transform.__name__

    def row(title: str, fun: Any, shapes: Any) -> Op:
        pairs = [(shape, shape) for shape in shapes]
        return Op(f"{name} {title}", fun, reals, reals, shapes=pairs, analytic=False)

    return [
        row("", lambda x, y: transform(x + 1j * y), [(2,), (4,), (2, 3)]),
        row("n=1", lambda x, y: transform(x + 1j * y, n=1), [(2,)]),
        row("n=5", lambda x, y: transform(x + 1j * y, 5), [(2,), (3,), (4,)]),
        row("n=6", lambda x, y: transform(x + 1j * y, n=6, norm="ortho"), [(3,), (4,), (5,)]),
        row("axis", lambda x, y: transform(x + 1j * y, axis=0, norm="forward"), [(3, 2)]),
    ]


ROWS = [
    *(row for fun in (np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.ihfft) for row in spectral(fun)),
    *hermitian(np.fft.irfft),
    *hermitian(np.fft.hfft),
    Op("irfft of real numbers", np.fft.irfft, reals, shapes=[(3,), (2, 4)], analytic=False),
    *(
        Op(f"{fun.__name__} {title}", lambda x, f=fun, k=keywords: both(f(x, **k)), reals,
           shapes=shapes, analytic=False)
        for fun in (np.fft.fft2, np.fft.ifft2, np.fft.rfft2, np.fft.fftn, np.fft.ifftn, np.fft.rfftn)
        for title, keywords, shapes in [
            ("", {}, [(2, 3), (2, 1, 3)]),
            ("s, axes", {"s": (3, 2), "axes": (0, -1), "norm": "ortho"}, [(2, 4), (4, 1, 3)]),
        ]
    ),
    Op("fftn, an axis twice", lambda x: both(np.fft.fftn(x, axes=(0, 0))), reals, shapes=[(2, 3)], analytic=False),
    Op("irfft2", lambda x, y: np.fft.irfft2(x + 1j * y), reals, reals,
       shapes=[((2, 3), (2, 3)), ((3, 2), (3, 1))], analytic=False),
    Op("irfftn s, axes", lambda x, y: np.fft.irfftn(x + 1j * y, (3, 5), (1, 0), "forward"), reals, reals,
       shapes=[((3, 2), (3, 2)), ((2, 4, 2), (2, 4, 2))], analytic=False),
    Op("fftshift", np.fft.fftshift, reals, shapes=[(5,), (2, 3), (0,)]),
    Op("ifftshift axes", lambda x: np.fft.ifftshift(x, axes=(1,)), reals, shapes=[(2, 3), (1, 4)]),
    # from real numbers by complex ones to real ones
    Op("|fft|", lambda x: np.abs(np.fft.fft(x)), Domain((0.5, 1.25, 3.0, -2.0), True), shapes=[(3,), (4,)], analytic=False),
    Op("power spectrum", lambda x: np.abs(np.fft.rfft(x)) ** 2, distinct, shapes=[(4,), (2, 5)], analytic=False),
    Op("filter", lambda x: np.fft.irfft(np.fft.rfft(x) * FILTER, 8), reals, shapes=[(8,), (2, 8)], analytic=False),
    Op("circular convolution", lambda x, y: np.real(np.fft.ifft(np.fft.fft(x) * np.fft.fft(y))), reals, reals,
       shapes=[((4,), (4,)), ((2, 3), (3,))], analytic=False),
    # convolution
    Op("convolve", np.convolve, reals, reals, shapes=FACTORS),
    Op("convolve same", lambda a, v: np.convolve(a, v, "same"), reals, reals, shapes=LONGER),
    Op("convolve valid", lambda a, v: np.convolve(a, v, mode="valid"), reals, reals, shapes=LONGER),
    Op("convolve with a number", lambda a: np.convolve(a, 2.5), reals, shapes=[(3,)]),
    Op("convolve with complex numbers", lambda a: both(np.convolve(FILTER, a)), reals, shapes=[(2,), (7,)], analytic=False),
    Op("correlate", np.correlate, reals, reals, shapes=LONGER, analytic=False),
    Op("correlate same", lambda a, v: np.correlate(a, v, "same"), reals, reals, shapes=LONGER, analytic=False),
    Op("correlate full", lambda a, v: np.correlate(a, v, mode="full"), reals, reals, shapes=LONGER, analytic=False),
    Op("correlate with complex numbers", lambda a: both(np.correlate(a, FILTER, "full")), reals, shapes=[(2,), (7,)], analytic=False),
    # interpolation
    Op("interp", lambda x, fp: np.interp(x, POINTS, fp), reals, distinct, shapes=[((), (5,)), ((2, 3), (5,)), ((0,), (5,))], analytic=False),
    Op("interp by xp", lambda x, d, fp: np.interp(x, POINTS + d / 8, fp), Domain((-5.5, -2.0, 0.75, 1.5, 6.5)), reals, distinct,
       shapes=[((4,), (5,), (5,))], analytic=False),
    Op("interp left, right", lambda x, fp: np.interp(x, POINTS, fp, left=2, right=-1.5), Domain((-3.5, -2.0, 5.0)), distinct,
       shapes=[((4,), (5,))], analytic=False),
    Op("interp period", lambda x, fp: np.interp(x, [0.03, 5.01, 2.02], fp, period=-3.3), Domain((-3.5, -2.0, 0.25, 5.5)), distinct,
       shapes=[((4,), (3,)), ((), (3,))], analytic=False),
    Op("interp of one point", lambda x, fp: np.interp(x, [0.3], fp, right=5), reals, reals, shapes=[((4,), (1,))], analytic=False),
    Op("interp of complex numbers", lambda x: both(np.interp(x, POINTS, FILTER, left=2j)), Domain((-3.5, -2.0, 0.5)), shapes=[(3,)], analytic=False),
    # polynomials
    Op("polyval", np.polyval, reals, reals, shapes=[((4,), (2, 3)), ((3,), ()), ((2,), (0,))]),
    Op("polyval of lists", lambda p, x: np.polyval(p, [0.5, -1.0]) + np.polyval([1, 2, 3], x), reals, reals, shapes=[((3,), (2,))]),
    Op("polyder", np.polyder, reals, shapes=[(4,), (2,)]),
    Op("polyder m=2", lambda p: np.polyder(p, m=2), reals, shapes=[(4,)]),
    Op("polyint", np.polyint, reals, shapes=[(3,), (1,)]),
    Op("polyint m=2, k", lambda p: np.polyint(p, 2, [1.5, -1]) + np.polyint(p, 2, k=3), reals, shapes=[(3,)]),
    Op("polyadd", np.polyadd, reals, reals, shapes=COEFFICIENTS),
    Op("polysub", np.polysub, reals, reals, shapes=COEFFICIENTS),
    Op("polymul", np.polymul, nonzero, nonzero, shapes=COEFFICIENTS),
    Op("polymul, leading zero", lambda p, q: np.polymul(p * [0, 1, 1], q), nonzero, nonzero, shapes=[((3,), (2,))]),
    Op("polydiv", lambda u, v: np.concatenate(np.polydiv(u, v)), reals, divisors, shapes=[((4,), (2,)), ((3,), (1,))], analytic=False),
    Op("poly", np.poly, reals, shapes=[(3,), (1,)], analytic=False),
    Op("poly of pairs", lambda x: np.poly(x + np.array([2j, -2j])), Domain((0.5,)), shapes=[()], analytic=False),
    Op("poly of a matrix", lambda x: np.poly(x * 1.0 + np.array([[0.0, 9], [-8, 1]])), reals, shapes=[(2, 2)], analytic=False),
    Op("roots", lambda p: np.roots(p * np.float32(1)) ** 2, Domain((1.5, -4.0, 1.25, 0.5), True), shapes=[(1,), (2,)], analytic=False),
    Op("roots, real and complex", lambda x: both(np.sum(np.exp(np.roots(x * np.float32([0, 2, 1, 1, 0, -1]))))), Domain(grid(1, 1.5)), shapes=[()], analytic=False),
    Op("vander", np.vander, reals, shapes=[(3,), (1,), (0,)]),
    Op("vander N, increasing", lambda x: np.vander(x, 4, increasing=True), reals, shapes=[(3,), (0,)]),
    Op("vander N=0", lambda x: np.vander(x, N=0), reals, shapes=[(3,)]),
    # points in between
    Op("linspace", lambda x, y: np.linspace(x, y, 4), reals, reals, shapes=[((), ()), ((2,), ()), ((2, 1), (3,))]),
    Op("linspace no endpoint", lambda x: np.linspace(x, 2.0, 3, endpoint=False, axis=-1), reals, shapes=[(), (2,), (0,)]),
    Op("linspace step", lambda x: np.linspace(0, x, 3, retstep=True)[1], reals, shapes=[(), (2,)]),
    Op("linspace of one", lambda x: np.linspace(x, 1.0, 1), reals, shapes=[(), (2,)]),
    Op("logspace", lambda x, y: np.logspace(x, y, 3, base=2.0), reals, reals, shapes=[((), ()), ((2,), ())]),
    Op("logspace base", lambda x: np.logspace(0.0, 1.5, 3, base=x), positive, shapes=[(), (2,)]),
    Op("geomspace", lambda x, y: np.geomspace(x, y, 4), positive, positive, shapes=[((), ()), ((2,), (2,))]),
    Op("geomspace negative", lambda x: np.geomspace(-1.0, -x, 3, endpoint=False), positive, shapes=[(), (2,)]),
    Op("polyfit", lambda y: np.polyfit([0.0, 1.0, 2.0, 4.0], y * np.float32(1), 1), reals, shapes=[(4,), (4, 2)]),
]  # fmt: skip
