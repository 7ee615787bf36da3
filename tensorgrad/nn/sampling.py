"""Sampling of signals, images and volumes at other places: `interpolate`, `grid_sample`.

Names, parameters and their order are PyTorch's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.batching import per_sample
from ..engine.modes import plain
from ..engine.tensor import Tensor
from .module import Module, as_input, called, floating
from .padding import check_mode
from .pooling import means_of_parts
from .windows import Size, sizes_of

# The number of sizes that each mode of `interpolate` is for.
_MODES = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "trilinear": (3,),
    "bicubic": (2,),
    "area": (1, 2, 3),
}
_SMOOTH = "linear", "bilinear", "trilinear", "bicubic"


def _cubic_weights(t: Any) -> list[Any]:
    """The weights of four neighbours, for a place at t in [0, 1) between the middle ones.

    Those of cubic convolution with a = -0.75: R. Keys, "Cubic convolution interpolation for digital
    image processing", IEEE Transactions on Acoustics, Speech, and Signal Processing 29 (1981).
    """
    a = -0.75

    def outer(s: Any) -> Any:  # at a distance s of 1 to 2
        return ((a * s - 5 * a) * s + 8 * a) * s - 4 * a

    def inner(s: Any) -> Any:  # of 0 to 1
        return ((a + 2) * s - (a + 3)) * s * s + 1

    return [outer(t + 1), inner(t), inner(1 - t), outer(2 - t)]


# -- interpolation


def _places(n: int, m: int, scale: float | None, align_corners: bool) -> Any:
    """The places along an axis of n elements that m elements come from."""
    if align_corners:
        return np.arange(m) * ((n - 1) / max(m - 1, 1))
    return (np.arange(m) + 0.5) * (n / m if scale is None else 1 / scale) - 0.5


def _taps(n: int, m: int, scale: float | None, mode: str, align_corners: bool) -> list[Any]:
    """Pairs of indices along an axis of n elements and weights, for each of m elements."""
    if mode.startswith("nearest"):
        half = 0.5 if mode == "nearest-exact" else 0.0
        places = (np.arange(m) + half) * (n / m if scale is None else 1 / scale)
        return [(np.minimum(places.astype(int), n - 1), None)]
    places = _places(n, m, scale, align_corners)
    if mode == "bicubic":
        first = np.floor(places).astype(int)
        weights = _cubic_weights(places - first)
        return [(np.clip(first + i, 0, n - 1), w) for i, w in enumerate(weights, -1)]
    places = np.maximum(places, 0)
    first = np.minimum(places.astype(int), n - 1)
    t = places - first
    return [(first, 1 - t), (np.minimum(first + 1, n - 1), t)]


def _resampled(x: Any, axis: int, taps: Sequence[Any]) -> Any:
    """The sums of the elements at indices along an axis, times their weights."""
    parts = []
    for index, weight in taps:
        part = np.take(x, index, axis)
        if weight is not None:
            weight = weight if x.dtype.kind in "biu" else weight.astype(x.dtype)
            part = part * weight.reshape(-1, *[1] * (-axis - 1))
        parts.append(part)
    return sum(parts[1:], parts[0])


def interpolate(
    x: Any,
    size: Size | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Return signals, images or volumes of another size.

    `x` has shape (n, channels, *sizes). The result has the sizes `size`, or the integer parts of
    the input's sizes times `scale_factor`; each is one number, or one for each axis. An element has
    the value of the nearest one ("nearest": of the one before, as PyTorch rounds; "nearest-exact"),
    is interpolated between neighbours ("linear", "bilinear" and "trilinear", for 1, 2 and 3 sizes,
    and "bicubic"), or is the mean of the part of the input that it covers ("area").

    Elements are areas, and the input's edges are the result's edges. With `align_corners`, elements
    are points, and the input's first and last ones are the result's. With `recompute_scale_factor`,
    places are computed from the sizes instead of from `scale_factor`. `antialias` must be False:
    to make images smaller, "area" takes all of their elements into account.

    >>> tg.nn.interpolate(np.array([[[1.0, 3.0]]]), 4)
    array([[[1., 1., 3., 3.]]])
    >>> tg.nn.interpolate(np.array([[[1.0, 3.0]]]), scale_factor=2, mode="linear")
    array([[[1. , 1.5, 2.5, 3. ]]])
    """
    options = size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    return _interpolate("interpolate", x, *options)


def _interpolate(
    who: Any,
    x: Any,
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: bool | None,
    recompute_scale_factor: bool | None,
    antialias: bool = False,
) -> Any:
    x = as_input(x)
    axes = x.ndim - 2
    check_mode(who, "mode", mode, _MODES)
    if axes not in _MODES[mode]:
        needed = " or ".join(f"{count + 2}" for count in _MODES[mode])
        raise ValueError(
            f"{who}: an input of shape {x.shape} for mode={mode!r}; it must have {needed} axes, "
            "samples and channels first"
        )
    if antialias:
        raise ValueError(f"{who}: there is no antialias=True; mode='area' averages what it covers")
    if align_corners is not None and mode not in _SMOOTH:
        raise ValueError(f"{who}: align_corners is for the modes {', '.join(_SMOOTH)}")
    sizes, scales = _sizes_and_scales(who, x.shape[2:], size, scale_factor)
    if recompute_scale_factor:
        scales = [None] * axes
    if mode == "area":
        return means_of_parts(x, sizes)
    for axis, (m, scale) in enumerate(zip(sizes, scales), -axes):
        x = _resampled(x, axis, _taps(x.shape[axis], m, scale, mode, bool(align_corners)))
    return x


def _sizes_and_scales(
    who: Any, sizes: Sequence[int], size: Any, scale_factor: Any
) -> tuple[Sequence[int], list[Any]]:
    axes = len(sizes)
    if (size is None) == (scale_factor is None) or 0 in sizes:
        raise ValueError(
            f"{who}: size={size} and scale_factor={scale_factor} for an input of sizes "
            f"{tuple(sizes)}; pass one of the two, and an input with elements"
        )
    if size is not None:
        return sizes_of(who, axes, "size", size, 1), [None] * axes
    scales = [scale_factor] * axes if np.ndim(scale_factor) == 0 else [*scale_factor]
    if len(scales) != axes or not all(
        isinstance(s, (int, float, np.number)) and n * s >= 1 for n, s in zip(sizes, scales)
    ):
        raise ValueError(
            f"{who}: scale_factor={scale_factor} for an input of sizes {tuple(sizes)}; pass a "
            f"number, or {axes} of them, that leave at least one element"
        )
    return [math.floor(n * s) for n, s in zip(sizes, scales)], scales


# -- sampling at the places of a grid


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Return the places that affine maps take those of an image or a volume to.

    `theta` has shape (n, 2, 3) for a `size` of (n, channels, height, width), or (n, 3, 4) for one
    of (n, channels, depth, height, width); the result has shape (n, *sizes, 2 or 3), and is the
    grid that `grid_sample` needs. Its coordinates, x first, are in [-1, 1] inside of the image,
    whose outermost elements have their edges at -1 and 1, or, with `align_corners`, their centres.

    >>> identity = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> tg.nn.affine_grid(identity, (1, 1, 1, 2))
    array([[[[-0.5,  0. ],
             [ 0.5,  0. ]]]])
    """
    theta = as_input(theta)
    axes, sizes = len(size) - 2, tuple(size)[2:]
    if axes not in (2, 3) or theta.shape != (size[0], axes, axes + 1) or min(size) < 1:
        raise ValueError(
            f"affine_grid: theta of shape {theta.shape} for size={tuple(size)}; pass (n, 2, 3) for "
            "(n, channels, height, width), or (n, 3, 4) for (n, channels, depth, height, width)"
        )
    places = [_centres(n, align_corners) for n in reversed(sizes)]
    grid = np.meshgrid(*reversed(places), indexing="ij")[::-1]
    points = np.stack([*grid, np.ones(sizes)], -1).astype(floating(theta.dtype))
    y = points.reshape(1, -1, axes + 1) @ theta.swapaxes(1, 2)
    return y.reshape(size[0], *sizes, axes)


def _centres(n: int, align_corners: bool) -> Any:
    """The coordinates of the centres of n elements, where the image is from -1 to 1."""
    if align_corners:
        return np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    return (2 * np.arange(n) + 1) / n - 1


@per_sample
def grid_sample(
    x: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Return the values of images or volumes at the places of a grid.

    `x` has shape (n, channels, height, width) and `grid` (n, rows, columns, 2), or `x` has a depth
    before the height and `grid` (n, slices, rows, columns, 3); the result has shape (n, channels,
    rows, columns), or with slices. The grid has the coordinates that `affine_grid` returns, the
    last axis of the image first. `mode` is "bilinear" (of volumes, it is trilinear), "nearest" or,
    for images, "bicubic". Outside, values are 0 with the `padding_mode` "zeros", those of the
    nearest place inside with "border", and of the mirrored image with "reflection".

    The derivative by the grid is that of the polynomial between the elements: it is one-sided where
    a place is that of an element.

    >>> image = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> tg.nn.grid_sample(image, np.array([[[[-0.5, -0.5], [0.0, 0.5]]]]))
    array([[[[0. , 2.5]]]])
    """
    x, grid = as_input(x), as_input(grid)
    axes = x.ndim - 2
    check_mode("grid_sample", "mode", mode, ("bilinear", "nearest", "bicubic"))
    check_mode("grid_sample", "padding_mode", padding_mode, ("zeros", "border", "reflection"))
    expected = axes in (2, 3) and grid.ndim == axes + 2
    if not expected or grid.shape[:: axes + 1] != (len(x), axes) or 0 in x.shape[2:]:
        raise ValueError(
            f"grid_sample: an input of shape {x.shape} and a grid of shape {grid.shape}; pass "
            "(n, channels, height, width) and (n, rows, columns, 2), or (n, channels, depth, "
            "height, width) and (n, slices, rows, columns, 3)"
        )
    if mode == "bicubic" and axes == 3:
        raise ValueError("grid_sample: mode='bicubic' is for images, not for volumes")
    neighbours = [
        _neighbours(grid[..., axes - 1 - axis], n, mode, padding_mode, bool(align_corners))
        for axis, n in enumerate(x.shape[2:])
    ]
    return _weighted(x, neighbours)


def _neighbours(g: Any, n: int, mode: str, padding_mode: str, align_corners: bool) -> list[Any]:
    """Pairs of indices and weights along an axis of n elements, for coordinates in [-1, 1]."""
    places = (g + 1) * ((n - 1) / 2) if align_corners else ((g + 1) * n - 1) / 2
    # The places outside are moved inside; of cubic interpolation, those of each neighbour.
    if mode != "bicubic":
        places = _inside(places, n, padding_mode, align_corners)
    if mode == "nearest":
        return [_neighbour(np.rint(plain(places)), 1.0, n, padding_mode)]
    first = np.floor(plain(places))
    t = places - first
    if mode == "bilinear":
        pairs = [(first, 1 - t), (first + 1, t)]
        return [_neighbour(place, weight, n, padding_mode) for place, weight in pairs]
    return [
        _neighbour(_inside(first + i, n, padding_mode, align_corners), weight, n, padding_mode)
        for i, weight in enumerate(_cubic_weights(t), -1)
    ]


def _inside(places: Any, n: int, padding_mode: str, align_corners: bool) -> Any:
    """The places along an axis, moved to the image as the padding mode says."""
    if padding_mode == "zeros":
        return places
    if padding_mode == "reflection":
        low, length = (0.0, n - 1) if align_corners else (-0.5, n)
        if length == 0:
            return places * 0
        from_low = np.abs(places - low)
        turns = np.floor(plain(from_low) / length)
        within = from_low - turns * length
        places = np.where(turns % 2 == 0, within, length - within) + low
    return np.clip(places, 0, n - 1)


def _neighbour(place: Any, weight: Any, n: int, padding_mode: str) -> tuple[Any, Any]:
    """The index at a whole-numbered place, and its weight: 0 outside of the image."""
    index = np.clip(place, 0, n - 1).astype(int)
    if padding_mode != "zeros":
        return index, weight
    return index, np.where(index == place, weight, 0)


def _weighted(x: Any, neighbours: Sequence[Sequence[Any]]) -> Any:
    """The sums of the elements at all combinations of indices, times the products of weights."""
    sample = np.arange(len(x)).reshape(-1, *[1] * len(neighbours))
    pixels = np.moveaxis(x, 1, -1)
    total: Any = 0
    for combination in itertools.product(*neighbours):
        weight = math.prod(weight for _, weight in combination)
        values = pixels[(sample, *[index for index, _ in combination])]
        total = total + values * (weight if np.ndim(weight) == 0 else weight[..., np.newaxis])
    return np.moveaxis(total, -1, 1)


# -- as layers


class Upsample(Module):
    """A layer that computes `interpolate`.

    >>> tg.nn.Upsample(scale_factor=2, mode="bilinear")(np.ones((5, 3, 8, 8))).shape
    (5, 3, 16, 16)
    """

    def __init__(
        self,
        size: Size | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        check_mode("Upsample", "mode", mode, _MODES)
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def __call__(self, x: Any) -> Tensor:
        """Return signals, images or volumes of another size."""
        how = self.mode, self.align_corners, self.recompute_scale_factor
        return _interpolate(self, x, self.size, self.scale_factor, *how)

    def __repr__(self) -> str:
        return called(self, **vars(self))


class _UpsamplingOfImages(Upsample):
    how: ClassVar[tuple[Any, ...]]

    def __init__(
        self, size: Size | None = None, scale_factor: float | Sequence[float] | None = None
    ) -> None:
        super().__init__(size, scale_factor, *self.how)

    def __repr__(self) -> str:
        return called(self, size=self.size, scale_factor=self.scale_factor)


class UpsamplingNearest2d(_UpsamplingOfImages):
    """A layer that computes `interpolate` of images with the mode "nearest".

    >>> tg.nn.UpsamplingNearest2d(4)(np.ones((5, 3, 2, 2))).shape
    (5, 3, 4, 4)
    """

    how = ("nearest",)


class UpsamplingBilinear2d(_UpsamplingOfImages):
    """A layer that computes `interpolate` of images, "bilinear" with `align_corners`.

    >>> tg.nn.UpsamplingBilinear2d(4)(np.ones((5, 3, 2, 2))).shape
    (5, 3, 4, 4)
    """

    how = "bilinear", True
