"""Convolution along the last axes of arrays of shape (n, channels, *sizes).

Names, parameters and their order are PyTorch's.

With x the input, w the weights and y the output, `sum(g * convolve(x, w))` is linear in each of g,
x and w. The three derivatives of this number are the convolution and its two pullbacks; whatever
is derived from one of them is another one, so that the three rules below hold at every order.
The arrays that they compute have the channels innermost in memory, as matrix products want them.
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
from ..graph import mode, shown_as
from ..tensor import Tensor, differentiable
from .module import Module, as_input, called, floating, uniform

Size: TypeAlias = int | Sequence[int]
Padding: TypeAlias = Size | Literal["same", "valid"]

# Elements copied for one matrix product, so that they stay in the cache: with all at once, a
# convolution of 16 images, from 64 to 64 channels of 32x32 in float32, takes 1.4 times as long.
_BLOCK = 1 << 18


class Windows(NamedTuple):
    """What the outputs see, along each axis of an input that is continued by `padding` zeros.

    Position k of the window of output p is at `p * stride + k * dilation` there.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    def outputs(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many windows there are along each axis of an input."""
        return tuple(
            [
                (n + sum(pad) - d * (k - 1) - 1) // s + 1
                for n, k, s, pad, d in zip(sizes, *self, strict=True)
            ]
        )

    def positions(self) -> Iterator[tuple[int, ...]]:
        """The positions in a window, in C order."""
        return itertools.product(*map(range, self.kernel))

    def seen(self, position: Sequence[int], outputs: Sequence[int]) -> tuple[slice, ...]:
        """The elements that are at this position of the windows of all outputs."""
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
        """The index of an input in the padded one."""
        return (..., *[slice(pad[0], pad[0] + n) for n, pad in zip(sizes, self.padding)])


def windows_of(
    who: Any, count: int, kernel: Size, stride: Size, padding: Padding, dilation: Size
) -> Windows:
    """The windows that parameters of one number, or of one for each of `count` axes, describe."""

    def sizes(name: str, value: Any, least: int) -> tuple[int, ...]:
        values = (value,) * count if np.ndim(value) == 0 else tuple(value)
        if len(values) != count or min(map(operator.index, values)) < least:
            raise ValueError(
                f"{who}: {name}={value!r}; pass an integer, at least {least}, or {count} of them"
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


# -- the three derivatives of the trilinear form


def _grouped(a: Any, groups: int) -> Any:
    """A view of (n, channels, *sizes) as (groups, n, *sizes, channels of one group)."""
    n, channels, *sizes = a.shape
    a = a.reshape(n, groups, channels // groups, *sizes)
    return a.transpose(1, 0, *range(3, a.ndim), 2)


def _zeros(shape: tuple[int, ...], dtype: Any, *operands: Any) -> Any:
    """Zeros to write results into; in a compiled function traced ones, as an operand is there."""
    traced = [a for a in operands if type(a) is not np.ndarray]
    if mode.get().trace is None or not traced:
        return np.zeros(shape, dtype)  # memory that nobody fills before it is used
    return np.zeros_like(traced[0], dtype, "C", shape=shape)


def _new(
    n: int, sizes: Sequence[int], groups: int, channels: int, dtype: Any, *operands: Any
) -> tuple[Any, Any]:
    """Zeros of shape (n, channels, *sizes), with the channels innermost; and them `_grouped`."""
    a = _zeros((n, *sizes, channels), dtype, *operands)
    a = a.transpose(0, -1, *range(1, a.ndim - 1))
    return a, _grouped(a, groups)


def _matrices(w: Any, groups: int) -> Any:
    """Weights (nout, channels, *kernel) as (groups, 1, positions by channels, nout of a group)."""
    nout, channels, *kernel = w.shape
    w = w.reshape(groups, nout // groups, channels, *kernel)
    w = w.transpose(0, *range(3, w.ndim), 2, 1)
    return w.reshape(groups, 1, math.prod(kernel) * channels, nout // groups)


def _columns(x: Any, windows: Windows, groups: int) -> Iterator[tuple[slice, Any]]:
    """What the outputs see, as matrices: a row for each output, in it positions by channels.

    For one block of samples after another, in shape (groups, matrices, rows, columns).
    """
    outputs = windows.outputs(x.shape[2:])
    x = _grouped(windows.padded(x), groups)
    channels = x.shape[-1]
    rows, width = math.prod(outputs), math.prod(windows.kernel) * channels
    trace = mode.get().trace
    *_, step, channel = (x if trace is None else trace.value(x).array).strides
    # Of the two orders, the one in which longer runs are copied.
    rows_innermost = channel > step and outputs[-1] > windows.kernel[-1] * channels
    length = max(1, _BLOCK // (groups * rows * width))
    for start in range(0, x.shape[1], length):
        block = x[:, start : start + length]
        n = block.shape[1]
        how = windows, outputs, rows_innermost
        seen = _seen(block, *how) if trace is None else trace.record(_seen, (block, *how))
        if rows_innermost:
            yield slice(start, start + n), seen.reshape(groups, n, width, rows).mT
        else:
            yield slice(start, start + n), seen.reshape(groups, 1, n * rows, width)


def _seen(x: Any, windows: Windows, outputs: Sequence[int], rows_innermost: bool) -> Any:
    """A view of samples, (groups, n, *sizes, channels), of what all outputs see in them.

    Its shape is (groups, n, *kernel, channels, *outputs), or (groups, n, *outputs, *kernel,
    channels).
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
    dtype = np.result_type(g.dtype, np.float32)
    return np.einsum(g, range(g.ndim), [1], dtype=dtype)  # a quarter of add.reduce's time


@differentiable(_by_input, _by_weight, _by_bias)
@shown_as("conv1d or conv2d")
def _convolved(x: Any, w: Any, bias: Any, windows: Windows, groups: int) -> Any:
    """The sums of x * w over positions and channels, plus a bias, which may be the number 0."""
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
    """The cotangent of the input, given that of the output, y."""
    n, channels, *sizes = shape
    outputs = y.shape[2:]
    dtype = np.result_type(y.dtype, w.dtype)
    padded = [size + sum(pad) for size, pad in zip(sizes, windows.padding)]
    x, grouped = _new(n, padded, groups, channels, np.result_type(dtype, np.float32), y, w)
    rows = _grouped(y, groups).reshape(groups, n * math.prod(outputs), len(w) // groups)
    matrices = _matrices(w, groups).reshape(groups, -1, w.shape[1], rows.shape[-1])
    for i, position in enumerate(windows.positions()):
        share = rows @ matrices[:, i].mT
        seen = grouped[(slice(None), slice(None), *windows.seen(position, outputs))]
        seen += share.reshape(seen.shape)
    return x[windows.inside(sizes)].astype(dtype, copy=False)


def _weight_back_by_output(g: Any, _w: Any, _y: Any, x: Any, *how: Any) -> Any:
    return _convolved(x, g, 0, *how)


def _weight_back_by_input(g: Any, _w: Any, y: Any, _x: Any, *how: Any) -> Any:
    return _input_back(y, g, _x.shape, *how)


@differentiable(_weight_back_by_output, _weight_back_by_input, form="multilinear")
@shown_as("conv1d or conv2d")
def _weight_back(y: Any, x: Any, windows: Windows, groups: int) -> Any:
    """The cotangent of the weights, given that of the output, y."""
    dtype = np.result_type(y.dtype, x.dtype)
    nout, channels = y.shape[1] // groups, x.shape[1] // groups
    width = math.prod(windows.kernel) * channels
    w = _zeros((groups, width, nout), np.result_type(dtype, np.float32), y, x)
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
    """Return the cross-correlation of signals with weights: `conv2d` along one axis.

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
    """Return the cross-correlation of images with weights.

    `x` has shape (n, channels, height, width), or (channels, height, width) for one sample, and
    `weight` shape (nout, channels / groups, rows, columns). Output channel o at (i, j) is bias[o]
    plus the sum over c, k and l of weight[o, c, k, l] times the input's channel c at
    (i * stride + k * dilation - padding, j * stride + l * dilation - padding), which is 0 outside.

    `padding` is a number of zeros on both sides, "valid" for none, or "same", with stride 1, for
    an output of the input's size. With `groups`, the channels fall into so many parts, each with
    its share of the outputs.

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
    """Convolve samples, or one sample, for `who`, whom errors name."""
    x = as_input(x, floating(weight.dtype))
    axes = len(windows.kernel)
    if x.ndim == axes + 1:
        return convolve(who, x[np.newaxis], weight, bias, windows, groups)[0]
    channels = weight.shape[1] * groups
    if x.ndim != axes + 2 or x.shape[1] != channels:
        sizes = ("length",) if axes == 1 else ("height", "width")
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
    """Raise a ValueError if there is no room in an input for one window."""
    if min(windows.outputs(shape[-len(windows.kernel) :])) < 1:
        raise ValueError(
            f"{who}: an input of shape {shape} is smaller than one window, of {windows.kernel} "
            f"with dilation {windows.dilation}, also with the padding {windows.padding}: "
            "pass larger ones, or more padding"
        )


# -- as layers


class _Conv(Module):
    """A convolution whose weights and biases start uniform in +-1/sqrt(inputs of one output)."""

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
            raise ValueError(f"{name}: channels must be multiples of groups={groups}, from 1 on")
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
    NumPy Generator or a seed. Parameters are those of PyTorch's, with padding by zeros.

    >>> tg.nn.Conv1d(3, 8, 5, padding="same")(np.ones((2, 3, 10))).shape
    (2, 8, 10)
    """

    axes = 1


class Conv2d(_Conv):
    """A layer that computes `conv2d` with its weight and bias.

    The weight has shape (out_channels, in_channels / groups, rows, columns), the bias
    (out_channels,). Both start uniform in +-1/sqrt(in_channels / groups * rows * columns); `rng` is
    a NumPy Generator or a seed. Parameters are those of PyTorch's, with padding by zeros.

    >>> layer = tg.nn.Conv2d(1, 8, 3, stride=2, padding=1)
    >>> layer, layer(np.ones((5, 1, 28, 28))).shape
    (Conv2d(1, 8, kernel_size=(3, 3), stride=2, padding=1), (5, 8, 14, 14))
    """

    axes = 2
