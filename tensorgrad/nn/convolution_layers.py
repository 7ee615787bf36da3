"""Layers of convolution. Names, parameters and their order are PyTorch's."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ..data import RNG
from ..engine.tensor import Tensor
from .convolution import convolve
from .module import Module, called, uniform
from .windows import Padding, Size, windows_of


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
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        name = f"{type(self).__name__}({in_channels}, {out_channels})"
        if (
            min(in_channels, out_channels, groups) < 1
            or in_channels % groups
            or out_channels % groups
        ):
            raise ValueError(f"{name}: channels must be positive multiples of groups={groups}")
        self.windows = windows_of(name, self.axes, kernel_size, stride, padding, dilation)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        shape = (out_channels, in_channels // groups, *self.windows.kernel)
        bound = math.prod(shape[1:]) ** -0.5
        rng = np.random.default_rng(rng)
        self.weight = uniform(rng, bound, shape, dtype)
        self.bias = uniform(rng, bound, shape[:1], dtype) if bias else None

    def __call__(self, x: Any) -> Tensor:
        """Return the output for samples, shape (n, channels, *sizes), or for one."""
        return convolve(self, x, self.weight, self.bias, self.windows, self.groups)

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
        )


class Conv1d(_Conv):
    """A layer that computes `conv1d` with its weight and bias.

    The weight has shape (out_channels, in_channels / groups, kernel_size), the bias
    (out_channels,). Both start uniform in +-1/sqrt(in_channels / groups * kernel_size); `rng` is a
    NumPy Generator or a seed. The other parameters are PyTorch's; padding is always with zeros.

    >>> tg.nn.Conv1d(3, 8, 5, padding="same")(np.ones((2, 3, 10))).shape
    (2, 8, 10)
    """

    axes = 1


class Conv2d(_Conv):
    """A layer that computes `conv2d` with its weight and bias.

    The weight has shape (out_channels, in_channels / groups, rows, columns), the bias
    (out_channels,). Both start uniform in +-1/sqrt(in_channels / groups * rows * columns); `rng` is
    a NumPy Generator or a seed. The other parameters are PyTorch's; padding is always with zeros.

    >>> layer = tg.nn.Conv2d(1, 8, 3, stride=2, padding=1)
    >>> layer, layer(np.ones((5, 1, 28, 28))).shape
    (Conv2d(1, 8, kernel_size=(3, 3), stride=2, padding=1), (5, 8, 14, 14))
    """

    axes = 2
