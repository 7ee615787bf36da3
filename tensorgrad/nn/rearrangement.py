"""Rearrangement of elements: windows as columns and back, pixels to channels and back.

Names, parameters and their order are PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.arrays import working_dtype
from ..engine.custom import differentiable
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from .module import Module, as_input, called, require_count
from .windows import Size, Windows, check_fit, sizes_of, windows_of

# -- the two derivatives of each other


def _unfolded_back(g: Any, _y: Any, _x: Any, windows: Windows) -> Any:
    return _folded(g, _x.shape[2:], windows)


@differentiable(_unfolded_back, form="linear")
@shown_as("unfold")
def _unfolded(x: Any, windows: Windows) -> Any:
    """The elements of all windows: shape (n, channels, positions, *outputs)."""
    outputs = windows.outputs(x.shape[2:])
    x = windows.padded(x)
    parts = [x[(..., *windows.elements(position, outputs))] for position in windows.positions()]
    return np.stack(parts, axis=2)


def _folded_back(g: Any, _x: Any, _y: Any, _sizes: Any, windows: Windows) -> Any:
    return _unfolded(g, windows)


@differentiable(_folded_back, form="linear")
@shown_as("fold")
def _folded(y: Any, sizes: tuple[int, ...], windows: Windows) -> Any:
    """The sums of the elements of all windows at each place of an input of these sizes."""
    outputs = y.shape[3:]
    padded = [n + sum(pad) for n, pad in zip(sizes, windows.padding)]
    dtype = working_dtype(y.dtype)
    x: Any = np.zeros_like(y, dtype, "C", shape=(*y.shape[:2], *padded))
    for i, position in enumerate(windows.positions()):
        x[(..., *windows.elements(position, outputs))] += y[:, :, i]
    return x[windows.inside(sizes)].astype(y.dtype, copy=False)


# -- as functions


def unfold(
    x: Any, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """Return the windows of images as columns ("im2col").

    `x` has shape (n, channels, height, width), or (channels, height, width) for one sample, and the
    result (n, channels * rows * columns, windows), with the windows in C order.

    >>> tg.nn.unfold(np.arange(9.0).reshape(1, 3, 3), 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    return _unfold("unfold", x, kernel_size, dilation, padding, stride)


def _unfold(who: Any, x: Any, *parameters: Any) -> Any:
    kernel_size, dilation, padding, stride = parameters
    x = as_input(x)
    if x.ndim == 3:
        return _unfold(who, x[np.newaxis], *parameters)[0]
    windows = windows_of(who, 2, kernel_size, stride, padding, dilation)
    if x.ndim != 4:
        raise ValueError(
            f"{who}: an input of shape {x.shape}; pass one of shape (n, channels, height, width), "
            "or one sample without the n"
        )
    check_fit(who, windows, x.shape)
    y = _unfolded(x, windows)
    return y.reshape(y.shape[0], y.shape[1] * y.shape[2], y.shape[3] * y.shape[4])


def fold(
    x: Any,
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Tensor:
    """Return images that are the sums of windows: the transpose of `unfold`.

    `x` has shape (n, channels * rows * columns, windows), or that of one sample without the n, and
    the result (n, channels, *output_size).

    >>> windows = tg.nn.unfold(np.ones((1, 3, 3)), 2)
    >>> tg.nn.fold(windows, 3, 2)
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    return _fold("fold", x, output_size, kernel_size, dilation, padding, stride)


def _fold(who: Any, x: Any, *parameters: Any) -> Any:
    output_size, kernel_size, dilation, padding, stride = parameters
    x = as_input(x)
    if x.ndim == 2:
        return _fold(who, x[np.newaxis], *parameters)[0]
    sizes = sizes_of(who, 2, "output_size", output_size, 1)
    windows = windows_of(who, 2, kernel_size, stride, padding, dilation)
    check_fit(who, windows, sizes)
    outputs, positions = windows.outputs(sizes), math.prod(windows.kernel)
    if x.ndim != 3 or x.shape[1] % positions or x.shape[2] != math.prod(outputs):
        raise ValueError(
            f"{who}: an input of shape {x.shape}; for output_size={sizes} and windows of "
            f"{windows.kernel}, pass one of shape (n, a multiple of {positions}, "
            f"{math.prod(outputs)}), or one sample without the n"
        )
    x = x.reshape(x.shape[0], x.shape[1] // positions, positions, *outputs)
    return _folded(x, sizes, windows)


def pixel_shuffle(x: Any, upscale_factor: int) -> Tensor:
    """Return images whose pixels are made of channels: `upscale_factor` times as high and as wide.

    The input has shape (..., channels * upscale_factor**2, height, width).

    >>> tg.nn.pixel_shuffle(np.arange(4.0).reshape(4, 1, 1), 2)
    array([[[0., 1.],
            [2., 3.]]])
    """
    return _pixel_shuffle("pixel_shuffle", x, upscale_factor)


def _pixel_shuffle(who: Any, x: Any, r: int) -> Any:
    x = as_input(x)
    require_count(who, "upscale_factor", r)
    if x.ndim < 3 or x.shape[-3] % r**2:
        raise ValueError(
            f"{who}: an input of shape {x.shape} for upscale_factor={r}; pass one of shape (..., "
            f"a multiple of {r}**2 channels, height, width)"
        )
    *lead, channels, height, width = x.shape
    x = x.reshape(*lead, channels // r**2, r, r, height, width)
    n = len(lead)
    x = x.transpose(*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, channels // r**2, height * r, width * r)


def pixel_unshuffle(x: Any, downscale_factor: int) -> Tensor:
    """Return images whose pixels became channels: the inverse of `pixel_shuffle`.

    >>> tg.nn.pixel_unshuffle(np.arange(4.0).reshape(1, 2, 2), 2).ravel()
    array([0., 1., 2., 3.])
    """
    return _pixel_unshuffle("pixel_unshuffle", x, downscale_factor)


def _pixel_unshuffle(who: Any, x: Any, r: int) -> Any:
    x = as_input(x)
    require_count(who, "downscale_factor", r)
    if x.ndim < 3 or x.shape[-1] % r or x.shape[-2] % r:
        raise ValueError(
            f"{who}: an input of shape {x.shape} for downscale_factor={r}; pass one of shape (..., "
            f"channels, height, width), with multiples of {r} as height and width"
        )
    *lead, channels, height, width = x.shape
    x = x.reshape(*lead, channels, height // r, r, width // r, r)
    n = len(lead)
    x = x.transpose(*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    return x.reshape(*lead, channels * r**2, height // r, width // r)


def channel_shuffle(x: Any, groups: int) -> Tensor:
    """Return the channels of all groups in turns: the first of each, the second of each, ...

    The input has shape (n, channels, *sizes), with a multiple of `groups` channels.

    >>> tg.nn.channel_shuffle(np.arange(4.0).reshape(1, 4, 1), 2).ravel()
    array([0., 2., 1., 3.])
    """
    return _channel_shuffle("channel_shuffle", x, groups)


def _channel_shuffle(who: Any, x: Any, groups: int) -> Any:
    x = as_input(x)
    require_count(who, "groups", groups)
    if x.ndim < 3 or x.shape[1] % groups:
        raise ValueError(
            f"{who}: an input of shape {x.shape} for groups={groups}; pass one of shape (n, "
            f"a multiple of {groups} channels, *sizes)"
        )
    n, channels, *sizes = x.shape
    grouped = x.reshape(n, groups, channels // groups, *sizes)
    return grouped.swapaxes(1, 2).reshape(x.shape)


# -- as layers


class Unfold(Module):
    """A layer that computes `unfold`.

    >>> tg.nn.Unfold(2)(np.ones((5, 3, 4, 4))).shape
    (5, 12, 9)
    """

    def __init__(
        self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
    ) -> None:
        windows_of("Unfold", 2, kernel_size, stride, padding, dilation)
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def __call__(self, x: Any) -> Tensor:
        """Return the windows as columns."""
        return _unfold(self, x, self.kernel_size, self.dilation, self.padding, self.stride)

    def __repr__(self) -> str:
        return called(
            self,
            self.kernel_size,
            dilation=self.dilation,
            padding=self.padding,
            stride=self.stride,
        )


class Fold(Module):
    """A layer that computes `fold`.

    >>> tg.nn.Fold(4, 2)(np.ones((5, 12, 9))).shape
    (5, 3, 4, 4)
    """

    def __init__(
        self,
        output_size: Size,
        kernel_size: Size,
        dilation: Size = 1,
        padding: Size = 0,
        stride: Size = 1,
    ) -> None:
        windows_of("Fold", 2, kernel_size, stride, padding, dilation)
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def __call__(self, x: Any) -> Tensor:
        """Return the sums of the windows."""
        sizes = self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        return _fold(self, x, *sizes)

    def __repr__(self) -> str:
        return called(
            self,
            self.output_size,
            self.kernel_size,
            dilation=self.dilation,
            padding=self.padding,
            stride=self.stride,
        )


class PixelShuffle(Module):
    """A layer that computes `pixel_shuffle`.

    >>> tg.nn.PixelShuffle(2)(np.ones((5, 12, 4, 4))).shape
    (5, 3, 8, 8)
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def __call__(self, x: Any) -> Tensor:
        """Return the larger images."""
        return _pixel_shuffle(self, x, self.upscale_factor)

    def __repr__(self) -> str:
        return called(self, self.upscale_factor)


class PixelUnshuffle(Module):
    """A layer that computes `pixel_unshuffle`.

    >>> tg.nn.PixelUnshuffle(2)(np.ones((5, 3, 8, 8))).shape
    (5, 12, 4, 4)
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def __call__(self, x: Any) -> Tensor:
        """Return the smaller images."""
        return _pixel_unshuffle(self, x, self.downscale_factor)

    def __repr__(self) -> str:
        return called(self, self.downscale_factor)


class ChannelShuffle(Module):
    """A layer that computes `channel_shuffle`.

    >>> tg.nn.ChannelShuffle(2)(np.ones((5, 4, 8))).shape
    (5, 4, 8)
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def __call__(self, x: Any) -> Tensor:
        """Return the channels in another order."""
        return _channel_shuffle(self, x, self.groups)

    def __repr__(self) -> str:
        return called(self, self.groups)
