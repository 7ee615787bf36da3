"""Layers of convolution and of transposed convolution.

Names, parameters and their order are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ..data import RNG
from ..engine.tensor import Tensor
from .convolution import convolve, convolve_transposed, transposed_windows
from .module import Module, are_sizes, as_input, called, floating, uniform
from .padding import MODES, check_mode
from .windows import Padding, Size, sizes_of, windows_of


def _check_channels(name: str, nin: int, nout: int, groups: int) -> None:
    if not are_sizes(nin, nout, groups) or nin % groups or nout % groups:
        raise ValueError(f"{name}: channels must be positive multiples of groups={groups}")


class _Conv(Module):
    """A convolution layer; weight and bias start uniform in +-1/sqrt(elements of one window)."""

    axes: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        name = f"{type(self).__name__}({in_channels}, {out_channels})"
        _check_channels(name, in_channels, out_channels, groups)
        check_mode(name, "padding_mode", padding_mode, _PADDING_MODES)
        self.windows = windows_of(name, self.axes, kernel_size, stride, padding, dilation)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.padding_mode = padding_mode
        shape = (out_channels, in_channels // groups, *self.windows.kernel)
        bound = math.prod(shape[1:]) ** -0.5
        rng = np.random.default_rng(rng)
        self.weight = uniform(rng, bound, shape, dtype)
        self.bias = uniform(rng, bound, shape[:1], dtype) if bias else None

    def __call__(self, x: Any) -> Tensor:
        """Return the output for samples, shape (n, channels, *sizes), or for one."""
        windows = self.windows
        if self.padding_mode != "zeros":
            x = as_input(x, floating(self.weight.dtype))
            widths = [(0, 0)] * (x.ndim - self.axes) + [*windows.padding]
            x = np.pad(x, widths, MODES[self.padding_mode])  # type: ignore[call-overload]
            windows = windows._replace(padding=((0, 0),) * self.axes)
        return convolve(self, x, self.weight, self.bias, windows, self.groups)

    def __repr__(self) -> str:
        nout, channels, *kernel = self.weight.shape
        return called(
            self,
            channels * self.groups,
            nout,
            f"kernel_size={tuple(kernel)}",
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias is not None,
            padding_mode=self.padding_mode,
        )


_PADDING_MODES = ("zeros", *[mode for mode in MODES if mode != "constant"])


class Conv1d(_Conv):
    """A layer that computes `conv1d` with its weight and bias.

    The weight has shape (out_channels, in_channels / groups, kernel_size), the bias
    (out_channels,). Both start uniform in +-1/sqrt(in_channels / groups * kernel_size); `rng` is a
    NumPy Generator or a seed. The other parameters are PyTorch's; `padding_mode` is "zeros", or
    "reflect", "replicate" or "circular", as of `pad`.

    >>> tg.nn.Conv1d(3, 8, 5, padding="same")(np.ones((2, 3, 10))).shape
    (2, 8, 10)
    """

    axes = 1


class Conv2d(_Conv):
    """A layer that computes `conv2d` with its weight and bias.

    The weight has shape (out_channels, in_channels / groups, rows, columns), the bias
    (out_channels,). Both start uniform in +-1/sqrt(in_channels / groups * rows * columns); `rng` is
    a NumPy Generator or a seed. The other parameters are PyTorch's; `padding_mode` is "zeros", or
    "reflect", "replicate" or "circular", as of `pad`.

    >>> layer = tg.nn.Conv2d(1, 8, 3, stride=2, padding=1)
    >>> layer, layer(np.ones((5, 1, 28, 28))).shape
    (Conv2d(1, 8, kernel_size=(3, 3), stride=2, padding=1), (5, 8, 14, 14))
    """

    axes = 2


class Conv3d(_Conv):
    """A layer that computes `conv3d` with its weight and bias.

    The weight has shape (out_channels, in_channels / groups, slices, rows, columns), the bias
    (out_channels,). Both start as those of `Conv2d`, whose parameters it has.

    >>> tg.nn.Conv3d(2, 4, 3)(np.ones((5, 2, 6, 8, 8))).shape
    (5, 4, 4, 6, 6)
    """

    axes = 3


class _ConvTranspose(Module):
    """A layer of transposed convolution."""

    axes: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        name = f"{type(self).__name__}({in_channels}, {out_channels})"
        _check_channels(name, in_channels, out_channels, groups)
        kernel = sizes_of(name, self.axes, "kernel_size", kernel_size, 1)
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding
        self.groups = groups
        self.dilation = dilation
        parameters = stride, padding, output_padding, dilation
        self.windows = transposed_windows(name, self.axes, kernel, *parameters)
        shape = (in_channels, out_channels // groups, *kernel)
        bound = math.prod(shape[1:]) ** -0.5
        rng = np.random.default_rng(rng)
        self.weight = uniform(rng, bound, shape, dtype)
        self.bias = uniform(rng, bound, (out_channels,), dtype) if bias else None

    def __call__(self, x: Any, output_size: Sequence[int] | None = None) -> Tensor:
        """Return the output for samples, shape (n, channels, *sizes), or for one.

        Of the sizes with the same input, for which convolutions with a stride have the same output,
        `output_size` chooses another one than `output_padding`.
        """
        windows = self.windows if output_size is None else self._of_size(x, output_size)
        return convolve_transposed(self, x, self.weight, self.bias, windows, self.groups)

    def _of_size(self, x: Any, output_size: Sequence[int]) -> Any:
        kernel = self.windows.kernel
        parameters = self.stride, self.padding, 0, self.dilation
        windows = transposed_windows(self, self.axes, kernel, *parameters)
        least = windows.inputs(np.shape(x)[-self.axes :])
        sizes = tuple(output_size)[-self.axes :]
        more = [size - a for size, a in zip(sizes, least)]
        if len(more) != self.axes or any(not 0 <= e < s for e, s in zip(more, windows.stride)):
            most = tuple([a + s - 1 for a, s in zip(least, windows.stride)])
            raise ValueError(
                f"{self}: output_size={output_size} for an input of shape {np.shape(x)}; pass "
                f"sizes from {least} to {most}"
            )
        return transposed_windows(
            self, self.axes, kernel, self.stride, self.padding, more, self.dilation
        )

    def __repr__(self) -> str:
        nin, channels, *kernel = self.weight.shape
        return called(
            self,
            nin,
            channels * self.groups,
            f"kernel_size={tuple(kernel)}",
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
            bias=self.bias is not None,
            dilation=self.dilation,
        )


class ConvTranspose1d(_ConvTranspose):
    """A layer that computes `conv_transpose1d` with its weight and bias.

    The weight has shape (in_channels, out_channels / groups, kernel_size), the bias
    (out_channels,). Both start uniform in +-1/sqrt(out_channels / groups * kernel_size); `rng` is a
    NumPy Generator or a seed. The other parameters are PyTorch's.

    >>> tg.nn.ConvTranspose1d(3, 8, 4, stride=2, padding=1)(np.ones((2, 3, 10))).shape
    (2, 8, 20)
    """

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """A layer that computes `conv_transpose2d` with its weight and bias.

    The weight has shape (in_channels, out_channels / groups, rows, columns), the bias
    (out_channels,). Both start uniform in +-1/sqrt(out_channels / groups * rows * columns); `rng`
    is a NumPy Generator or a seed. The other parameters are PyTorch's.

    >>> layer = tg.nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1)
    >>> x = np.ones((5, 8, 14, 14))
    >>> layer(x).shape, layer(x, output_size=(28, 28)).shape
    ((5, 1, 27, 27), (5, 1, 28, 28))
    """

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """A layer that computes `conv_transpose3d` with its weight and bias.

    The weight has shape (in_channels, out_channels / groups, slices, rows, columns), the bias
    (out_channels,). Both start as those of `ConvTranspose2d`, whose parameters it has.

    >>> tg.nn.ConvTranspose3d(4, 2, 2, stride=2)(np.ones((5, 4, 3, 4, 4))).shape
    (5, 2, 6, 8, 8)
    """

    axes = 3
