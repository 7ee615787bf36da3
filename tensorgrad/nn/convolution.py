"""Convolution along the last axes of arrays of shape (n, channels, *sizes), of any number of axes.

Names, parameters and their order are PyTorch's.

With the input x, the weight w and the cotangent g of the output, `sum(g * convolve(x, w))` is
linear in each of g, x and w. Its derivatives by these three are the convolution and its two
pullbacks. A derivative of one of the three is always another one of them, so the three rules below
hold at every order. The results have the channels innermost in memory, as matrix products need
them.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from ..data import RNG
from ..engine.arrays import working_dtype
from ..engine.custom import differentiable
from ..engine.modes import is_traced, mode
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..engine.views import concrete
from .module import Module, as_input, called, floating, uniform

Size: TypeAlias = int | Sequence[int]
Padding: TypeAlias = Size | Literal["same", "valid"]

# The number of elements copied for one matrix product, few enough for the cache. Without blocks, a
# convolution of 16 images, from 64 to 64 channels of 32x32 in float32, takes 1.4 times as long.
_BLOCK = 1 << 18


class Windows(NamedTuple):
    """The windows of a convolution or pooling: one number for each axis, or two of padding.

    Element k of the window of output p is at `p * stride + k * dilation` in the padded input.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    def outputs(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The number of windows along each axis of an input."""
        return tuple(
            [
                (n + sum(pad) - d * (k - 1) - 1) // s + 1
                for n, k, s, pad, d in zip(sizes, *self, strict=True)
            ]
        )

    def positions(self) -> Iterator[tuple[int, ...]]:
        """The positions of the elements in a window, in C order."""
        return itertools.product(*map(range, self.kernel))

    def elements(self, position: Sequence[int], outputs: Sequence[int]) -> tuple[slice, ...]:
        """The index of the elements at this position of every window, in the padded input."""
        return tuple(
            [
                slice(k * d, k * d + (p - 1) * s + 1, s)
                for k, p, s, d in zip(position, outputs, self.stride, self.dilation)
            ]
        )

    def padded(self, x: Any, fill: float = 0) -> Any:
        """The input with its padding."""
        if not any(map(any, self.padding)):
            return x
        lead = x.shape[: x.ndim - len(self.kernel)]
        sizes = x.shape[len(lead) :]
        shape = [n + sum(pad) for n, pad in zip(sizes, self.padding)]
        out = np.full_like(x, fill, shape=(*lead, *shape))
        out[self.inside(sizes)] = x
        return out

    def inside(self, sizes: Sequence[int]) -> tuple[Any, ...]:
        """The index of the input in the padded input."""
        return (..., *[slice(pad[0], pad[0] + n) for n, pad in zip(sizes, self.padding)])


def windows_of(
    who: Any, count: int, kernel: Size, stride: Size, padding: Padding, dilation: Size
) -> Windows:
    """Make windows from parameters that are one number, or one for each of `count` axes."""

    def sizes(name: str, value: Any, least: int) -> tuple[int, ...]:
        values = (value,) * count if np.ndim(value) == 0 else tuple(value)
        if len(values) != count or min(map(operator.index, values)) < least:
            raise ValueError(
                f"{who}: {name}={value!r}; pass an integer of at least {least}, or {count} of them"
            )
        return values

    kernel, stride = sizes("kernel_size", kernel, 1), sizes("stride", stride, 1)
    dilation = sizes("dilation", dilation, 1)
    if padding == "same":
        if max(stride) > 1:
            raise ValueError(f"{who}: padding='same' needs stride 1, not {stride}")
        totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
        pads = tuple([(total // 2, total - total // 2) for total in totals])
    elif isinstance(padding, str) and padding != "valid":
        raise ValueError(f"{who}: padding={padding!r}; pass 'same', 'valid' or integers")
    else:
        amounts = sizes("padding", 0 if isinstance(padding, str) else padding, 0)
        pads = tuple([(amount, amount) for amount in amounts])
    return Windows(kernel, stride, pads, dilation)


# -- the three derivatives of sum(g * convolve(x, w))


def _grouped(a: Any, groups: int) -> Any:
    """View (n, channels, *sizes) as (groups, n, *sizes, channels of one group)."""
    n, channels, *sizes = a.shape
    a = a.reshape(n, groups, channels // groups, *sizes)
    return a.transpose(1, 0, *range(3, a.ndim), 2)


def _zeros(shape: tuple[int, ...], dtype: Any, *operands: Any) -> Any:
    """Zeros to write a result into, which are traced if an operand is."""
    traced = [a for a in operands if type(a) is not np.ndarray]
    if not (traced and is_traced()):
        return np.zeros(shape, dtype)  # faster than zeros_like, which fills the memory
    return np.zeros_like(traced[0], dtype, "C", shape=shape)


def _new(
    n: int, sizes: Sequence[int], groups: int, channels: int, dtype: Any, *operands: Any
) -> tuple[Any, Any]:
    """Zeros of shape (n, channels, *sizes), channels innermost in memory; and their `_grouped`."""
    a = _zeros((n, *sizes, channels), dtype, *operands)
    a = a.transpose(0, -1, *range(1, a.ndim - 1))
    return a, _grouped(a, groups)


def _matrices(w: Any, groups: int) -> Any:
    """Weights (nout, channels, *kernel) as (groups, 1, positions * channels, nout of a group)."""
    nout, channels, *kernel = w.shape
    w = w.reshape(groups, nout // groups, channels, *kernel)
    w = w.transpose(0, *range(3, w.ndim), 2, 1)
    return w.reshape(groups, 1, math.prod(kernel) * channels, nout // groups)


def _columns(x: Any, windows: Windows, groups: int) -> Iterator[tuple[slice, Any]]:
    """The windows of one block of samples after another, as rows of matrices ("im2col").

    Each item is the slice of the samples, and an array of shape (groups, matrices, rows, columns)
    with a row for each window, and a column for each position and channel in it.
    """
    outputs = windows.outputs(x.shape[2:])
    x = _grouped(windows.padded(x), groups)
    channels = x.shape[-1]
    rows, width = math.prod(outputs), math.prod(windows.kernel) * channels
    *_, step, channel = concrete(x).strides
    # Copy in the order that has the longer contiguous runs.
    rows_innermost = channel > step and outputs[-1] > windows.kernel[-1] * channels
    length = max(1, _BLOCK // (groups * rows * width))
    for start in range(0, x.shape[1], length):
        block = x[:, start : start + length]
        n = block.shape[1]
        args = block, windows, outputs, rows_innermost
        view = mode.get().interpreter.call_whole(_window_view, *args)
        if rows_innermost:
            yield slice(start, start + n), view.reshape(groups, n, width, rows).mT
        else:
            yield slice(start, start + n), view.reshape(groups, 1, n * rows, width)


def _window_view(x: Any, windows: Windows, outputs: Sequence[int], rows_innermost: bool) -> Any:
    """A view of all windows of padded samples of shape (groups, n, *sizes, channels).

    Its shape is (groups, n, *kernel, channels, *outputs) with the rows innermost, else
    (groups, n, *outputs, *kernel, channels).
    """
    group, sample, *steps, channel = x.strides
    over = [a * b for a, b in zip(steps, windows.stride)]
    within = [a * b for a, b in zip(steps, windows.dilation)]
    window = [*windows.kernel, x.shape[-1]], [*within, channel]
    if rows_innermost:
        shape, strides = [*window[0], *outputs], [*window[1], *over]
    else:
        shape, strides = [*outputs, *window[0]], [*over, *window[1]]
    return as_strided(x, (*x.shape[:2], *shape), (group, sample, *strides))


def _by_input(g: Any, _y: Any, _x: Any, w: Any, _bias: Any, *how: Any) -> Any:
    return _input_back(g, w, _x.shape, *how)


def _by_weight(g: Any, _y: Any, x: Any, _w: Any, _bias: Any, *how: Any) -> Any:
    return _weight_back(g, x, *how)


def _by_bias(g: Any, _y: Any, _x: Any, _w: Any, _bias: Any, *_how: Any) -> Any:
    dtype = working_dtype(g.dtype)
    return np.einsum(g, range(g.ndim), [1], dtype=dtype)  # a quarter of the time of np.sum


@differentiable(_by_input, _by_weight, _by_bias)
@shown_as("conv1d or conv2d")
def _convolved(x: Any, w: Any, bias: Any, windows: Windows, groups: int) -> Any:
    """The sums of x * w over positions and channels, plus the bias, an array or the number 0."""
    dtype = np.result_type(x, w, bias)
    y, grouped = _new(x.shape[0], windows.outputs(x.shape[2:]), groups, len(w), dtype, x, w)
    matrices = _matrices(w, groups)
    for part, columns in _columns(x, windows, groups):
        out = grouped[:, part].reshape(*columns.shape[:3], matrices.shape[-1], copy=False)
        np.matmul(columns, matrices, out=out)
    if np.ndim(bias):
        y += bias.reshape(-1, *[1] * len(windows.kernel))
    return y


def _input_back_by_output(g: Any, _x: Any, _y: Any, w: Any, _shape: Any, *how: Any) -> Any:
    return _convolved(g, w, 0, *how)


def _input_back_by_weight(g: Any, _x: Any, y: Any, _w: Any, _shape: Any, *how: Any) -> Any:
    return _weight_back(y, g, *how)


@differentiable(_input_back_by_output, _input_back_by_weight, form="multilinear")
@shown_as("conv1d or conv2d")
def _input_back(y: Any, w: Any, shape: tuple[int, ...], windows: Windows, groups: int) -> Any:
    """The cotangent of the input, of this shape, from that of the output, y."""
    n, channels, *sizes = shape
    outputs = y.shape[2:]
    dtype = np.result_type(y.dtype, w.dtype)
    padded = [size + sum(pad) for size, pad in zip(sizes, windows.padding)]
    x, grouped = _new(n, padded, groups, channels, working_dtype(dtype), y, w)
    rows = _grouped(y, groups).reshape(groups, n * math.prod(outputs), len(w) // groups)
    matrices = _matrices(w, groups).reshape(groups, -1, w.shape[1], rows.shape[-1])
    for i, position in enumerate(windows.positions()):
        share = rows @ matrices[:, i].mT
        elements = grouped[(slice(None), slice(None), *windows.elements(position, outputs))]
        elements += share.reshape(elements.shape)
    return x[windows.inside(sizes)].astype(dtype, copy=False)


def _weight_back_by_output(g: Any, _w: Any, _y: Any, x: Any, *how: Any) -> Any:
    return _convolved(x, g, 0, *how)


def _weight_back_by_input(g: Any, _w: Any, y: Any, _x: Any, *how: Any) -> Any:
    return _input_back(y, g, _x.shape, *how)


@differentiable(_weight_back_by_output, _weight_back_by_input, form="multilinear")
@shown_as("conv1d or conv2d")
def _weight_back(y: Any, x: Any, windows: Windows, groups: int) -> Any:
    """The cotangent of the weight, from that of the output, y."""
    dtype = np.result_type(y.dtype, x.dtype)
    nout, channels = y.shape[1] // groups, x.shape[1] // groups
    width = math.prod(windows.kernel) * channels
    w = _zeros((groups, width, nout), working_dtype(dtype), y, x)
    rows = _grouped(y, groups)
    for part, columns in _columns(x, windows, groups):
        w += (columns.mT @ rows[:, part].reshape(*columns.shape[:3], nout)).sum(axis=1)
    w = w.reshape(groups, *windows.kernel, channels, nout)
    w = w.transpose(0, -1, -2, *range(1, w.ndim - 2)).astype(dtype)
    return w.reshape(groups * nout, channels, *windows.kernel)


# -- as functions


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Return the cross-correlation of signals with a weight: `conv2d` along one axis.

    `x` has shape (n, channels, length), or (channels, length) for one sample, and `weight` shape
    (nout, channels / groups, kernel_size).

    >>> tg.nn.conv1d([[1.0, 2.0, 4.0, 8.0]], [[[-1.0, 1.0]]])
    array([[1., 2., 4.]])
    """
    return _conv("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Return the cross-correlation of images with a weight.

    `x` has shape (n, channels, height, width), or (channels, height, width) for one sample, and
    `weight` shape (nout, channels / groups, rows, columns). Output channel o at (i, j) is bias[o]
    plus the sum over c, k and l of weight[o, c, k, l] times the input's channel c at
    (i * stride + k * dilation - padding, j * stride + l * dilation - padding), which is 0 outside.

    `padding` is the number of zeros on both sides, "valid" for none, or "same" for an output of the
    input's size, with stride 1. With `groups`, the input and output channels are divided into that
    many groups, and an output channel sees only the input channels of its group.

    >>> image = np.arange(9.0).reshape(1, 3, 3)
    >>> tg.nn.conv2d(image, np.ones((1, 1, 2, 2)), stride=2, padding=1)
    array([[[ 0.,  3.],
            [ 9., 24.]]])
    """
    return _conv("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def _conv(
    name: str,
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
) -> Any:
    weight = as_input(weight)
    if weight.ndim != axes + 2:
        raise ValueError(f"{name}: a weight of shape {weight.shape}; it must have {axes + 2} axes")
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"{name}: {weight.shape[0]} output channels for {groups} groups")
    windows = windows_of(name, axes, weight.shape[2:], stride, padding, dilation)
    return convolve(name, x, weight, bias, windows, groups)


def convolve(who: Any, x: Any, weight: Any, bias: Any, windows: Windows, groups: int) -> Any:
    """Convolve samples, or one sample; `who` is the function or layer that errors name."""
    x = as_input(x, floating(weight.dtype))
    axes = len(windows.kernel)
    if x.ndim == axes + 1:
        return convolve(who, x[np.newaxis], weight, bias, windows, groups)[0]
    channels = weight.shape[1] * groups
    if x.ndim != axes + 2 or x.shape[1] != channels:
        sizes = ("length",) if axes == 1 else ("depth", "height", "width")[-axes:]
        raise ValueError(
            f"{who}: an input of shape {x.shape}; pass one of shape "
            f"({', '.join(('n', str(channels), *sizes))}), or one sample without the n"
        )
    check_fit(who, windows, x.shape)
    bias = 0 if bias is None else as_input(bias, floating(weight.dtype))
    if np.ndim(bias) and bias.shape != weight.shape[:1]:
        raise ValueError(f"{who}: a bias of shape {bias.shape}, not {weight.shape[:1]}")
    return _convolved(x, weight, bias, windows, groups)


def check_fit(who: Any, windows: Windows, shape: tuple[int, ...]) -> None:
    """Raise a ValueError if an input is smaller than one window."""
    if min(windows.outputs(shape[-len(windows.kernel) :])) < 1:
        raise ValueError(
            f"{who}: an input of shape {shape}, with padding {windows.padding}, is smaller than "
            f"one window of {windows.kernel} with dilation {windows.dilation}: pass a larger input "
            "or more padding"
        )


# -- as layers


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
