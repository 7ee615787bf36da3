"""Convolution along the last axes of arrays of shape (n, channels, *sizes), of any number of axes.

Names, parameters and their order are PyTorch's.

With the input x, the weight w and the cotangent g of the output, `sum(g * convolve(x, w))` is
linear in each of g, x and w. Its derivatives by these three are the convolution and its two
pullbacks. A derivative of one of the three is always another one of them, so the three rules below
hold at every order. The pullback to the input is the transposed convolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..engine.arrays import working_dtype
from ..engine.custom import differentiable
from ..engine.modes import is_traced, mode
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from .module import as_input, floating
from .windows import Padding, Size, Windows, check_fit, sizes_of, windows_of

# The number of elements copied for one matrix product, few enough for the cache. Without blocks, a
# depthwise convolution of 32 images, 64 channels of 28x28 in float32, takes 1.4 times as long.
_BLOCK = 1 << 19

_NAMES = "conv1d, conv2d or conv3d"
_TRANSPOSED_NAMES = "conv_transpose1d, conv_transpose2d or conv_transpose3d"


# -- the three derivatives of sum(g * convolve(x, w))


def _zeros(shape: tuple[int, ...], dtype: Any, *operands: Any) -> Any:
    """Zeros to write a result into, which are traced if an operand is."""
    traced = [a for a in operands if type(a) is not np.ndarray]
    if not (traced and is_traced()):
        return np.zeros(shape, dtype)  # faster than zeros_like, which fills the memory
    return np.zeros_like(traced[0], dtype, "C", shape=shape)


def _unstacked(kernel: Sequence[int], channels: int, nout: int) -> int:
    """The number of axes of the windows whose positions are not stacked in `_columns`.

    Positions along the others, the last ones, become rows of a matrix, which takes one copy for
    each of them. Each position along the axes before is a product of its own, which takes one
    addition to the output. Copies cost less while they have fewer rows than the output.
    """
    axes = len(kernel) - 1
    while axes and channels * math.prod(kernel[axes:]) < nout:
        axes -= 1
    return axes


def _matrices(w: Any, groups: int, axes: int) -> Any:
    """Weights (nout, channels, *kernel) as matrices for the rows of `_columns`.

    The shape is (positions, groups, nout of a group, channels * other positions), with the
    positions along so many axes, and along the others.
    """
    nout, channels, *kernel = w.shape
    split = math.prod(kernel[:axes]), math.prod(kernel[axes:])
    w = w.reshape(groups, nout // groups, channels, *split).transpose(3, 0, 1, 2, 4)
    return w.copy().reshape(split[0], groups, nout // groups, channels * split[1])


def _columns(
    x: Any, windows: Windows, groups: int, axes: int
) -> Iterator[tuple[slice, Iterator[Any]]]:
    """The windows of one block of samples after another, as columns of matrices ("im2col").

    Each item is the slice of the samples, and for each position along the first `axes` an array of
    shape (samples, groups, rows, columns) with a column for each window, and a row for each channel
    and position along the other axes.
    """
    n, channels, *sizes = x.shape
    outputs = windows.outputs(sizes)
    padded = [size + sum(pad) for size, pad in zip(sizes, windows.padding)]
    rows = channels // groups * math.prod(windows.kernel[axes:])
    shape = groups, rows, *padded[:axes], *outputs[axes:]
    length = max(1, _BLOCK // math.prod(shape))
    for start in range(0, n, length):
        block = windows.padded(x[start : start + length])
        args = block, windows, outputs, axes
        view = mode.get().interpreter.call_whole(_window_view, *args)
        columns = view.copy().reshape(len(block), *shape)  # also where reshape would not copy
        yield slice(start, start + len(block)), _slices(columns, windows, outputs, axes)


def _slices(columns: Any, windows: Windows, outputs: Sequence[int], axes: int) -> Iterator[Any]:
    for position in windows.positions(axes):
        part = columns[:, :, :, *windows.elements(position, outputs)]
        yield part.reshape(*part.shape[:3], math.prod(outputs))


def _window_view(x: Any, windows: Windows, outputs: Sequence[int], axes: int) -> Any:
    """A view of padded samples, with the windows along the axes from number `axes` on.

    Its shape is (n, channels, *kernel from axes on, *sizes up to axes, *outputs from axes on).
    """
    strides = x.strides[2:]
    over = [a * b for a, b in zip(strides, windows.stride)]
    within = [a * b for a, b in zip(strides, windows.dilation)]
    shape = *x.shape[:2], *windows.kernel[axes:], *x.shape[2 : 2 + axes], *outputs[axes:]
    return as_strided(x, shape, (*x.strides[:2], *within[axes:], *strides[:axes], *over[axes:]))


def _correlated(x: Any, w: Any, windows: Windows, groups: int) -> Any:
    """The sums of x * w over positions and channels."""
    dtype = np.result_type(x.dtype, w.dtype)
    working = working_dtype(dtype)
    outputs = windows.outputs(x.shape[2:])
    y = _zeros((len(x), groups, len(w) // groups, math.prod(outputs)), working, x, w)
    axes = _unstacked(windows.kernel, w.shape[1], y.shape[2])
    matrices = _matrices(w.astype(working, copy=False), groups, axes)
    for part, columns in _columns(x, windows, groups, axes):
        out = np.matmul(matrices[0], next(columns), out=y[part])
        for i, rows in enumerate(columns, 1):
            out += matrices[i] @ rows
    return y.reshape(len(x), len(w), *outputs).astype(dtype, copy=False)


def _by_input(g: Any, _y: Any, _x: Any, w: Any, _bias: Any, *how: Any) -> Any:
    return _input_back(g, w, _x.shape, *how)


def _by_weight(g: Any, _y: Any, x: Any, _w: Any, _bias: Any, *how: Any) -> Any:
    return _weight_back(g, x, *how)


def _by_bias(g: Any, _y: Any, _x: Any, _w: Any, _bias: Any, *_how: Any) -> Any:
    dtype = working_dtype(g.dtype)
    return np.einsum(g, range(g.ndim), [1], dtype=dtype)  # a quarter of the time of np.sum


@differentiable(_by_input, _by_weight, _by_bias)
@shown_as(_NAMES)
def _convolved(x: Any, w: Any, bias: Any, windows: Windows, groups: int) -> Any:
    """The sums of x * w over positions and channels, plus the bias, an array or the number 0."""
    y = _correlated(x, w, windows, groups)
    if np.ndim(bias):
        bias = bias.reshape(-1, *[1] * len(windows.kernel))
        return np.add(y, bias, out=y if np.result_type(y, bias) == y.dtype else None)
    return y


def _input_back_by_output(g: Any, _x: Any, _y: Any, w: Any, _shape: Any, *how: Any) -> Any:
    return _convolved(g, w, 0, *how)


def _input_back_by_weight(g: Any, _x: Any, y: Any, _w: Any, _shape: Any, *how: Any) -> Any:
    return _weight_back(y, g, *how)


@differentiable(_input_back_by_output, _input_back_by_weight, form="multilinear")
@shown_as(_TRANSPOSED_NAMES)
def _input_back(y: Any, w: Any, shape: tuple[int, ...], windows: Windows, groups: int) -> Any:
    """The cotangent of the input, of this shape, from that of the output, y."""
    n, nout, *outputs = y.shape
    sizes, channels = shape[2:], w.shape[1]
    if max(windows.stride) == 1:  # it is the convolution with the reversed weight
        w = w.reshape(groups, nout // groups, *w.shape[1:]).swapaxes(1, 2)
        w = w[(..., *[slice(None, None, -1)] * len(sizes))]
        w = w.reshape(groups * channels, nout // groups, *windows.kernel)
        return _correlated(y, w, windows.reversed(sizes, outputs), groups)
    dtype = np.result_type(y.dtype, w.dtype)
    working = working_dtype(dtype)
    padded = [size + a + max(b, 0) for size, (a, b) in zip(sizes, windows.padding)]
    x = _zeros((n, groups, channels, *padded), working, y, w)
    rows = y.reshape(n, groups, nout // groups, math.prod(outputs)).astype(working, copy=False)
    matrices = _matrices(w, groups, len(sizes))
    for i, position in enumerate(windows.positions()):
        share = matrices[i].mT @ rows
        x[(..., *windows.elements(position, outputs))] += share.reshape(*x.shape[:3], *outputs)
    x = x.reshape(n, groups * channels, *padded)
    return x[windows.inside(sizes)].astype(dtype, copy=False)


def _weight_back_by_output(g: Any, _w: Any, _y: Any, x: Any, *how: Any) -> Any:
    return _convolved(x, g, 0, *how)


def _weight_back_by_input(g: Any, _w: Any, y: Any, _x: Any, *how: Any) -> Any:
    return _input_back(y, g, _x.shape, *how)


@differentiable(_weight_back_by_output, _weight_back_by_input, form="multilinear")
@shown_as(_NAMES)
def _weight_back(y: Any, x: Any, windows: Windows, groups: int) -> Any:
    """The cotangent of the weight, from that of the output, y."""
    dtype = np.result_type(y.dtype, x.dtype)
    working = working_dtype(dtype)
    n, nout, *outputs = y.shape
    channels = x.shape[1] // groups
    axes = _unstacked(windows.kernel, channels, nout // groups)
    apart, stacked = math.prod(windows.kernel[:axes]), math.prod(windows.kernel[axes:])
    w = _zeros((apart, groups, channels * stacked, nout // groups), working, y, x)
    y = y.reshape(n, groups, nout // groups, math.prod(outputs)).astype(working, copy=False)
    for part, columns in _columns(x, windows, groups, axes):
        for i, rows in enumerate(columns):
            w[i] += (rows @ y[part].mT).sum(axis=0)
    w = w.reshape(apart, groups, channels, stacked, nout // groups)
    w = w.transpose(1, 4, 2, 0, 3).reshape(nout, channels, *windows.kernel)
    return w.astype(dtype, copy=False)


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


def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Return the cross-correlation of volumes with a weight: `conv2d` along three axes.

    `x` has shape (n, channels, depth, height, width), or (channels, depth, height, width) for one
    sample, and `weight` shape (nout, channels / groups, slices, rows, columns).

    >>> tg.nn.conv3d(np.ones((1, 2, 2, 3)), np.ones((1, 1, 2, 2, 2)))
    array([[[[8., 8.]]]])
    """
    return _conv("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


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
    weight = _checked_weight(name, axes, weight, groups, "output")
    windows = windows_of(name, axes, weight.shape[2:], stride, padding, dilation)
    return convolve(name, x, weight, bias, windows, groups)


def _checked_weight(name: str, axes: int, weight: Any, groups: int, side: str) -> Any:
    weight = as_input(weight)
    if weight.ndim != axes + 2:
        raise ValueError(f"{name}: a weight of shape {weight.shape}; it must have {axes + 2} axes")
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"{name}: {weight.shape[0]} {side} channels for {groups} groups")
    return weight


def convolve(who: Any, x: Any, weight: Any, bias: Any, windows: Windows, groups: int) -> Any:
    """Convolve samples, or one sample; `who` is the function or layer that errors name."""
    x = as_input(x, floating(weight.dtype))
    if x.ndim == len(windows.kernel) + 1:
        return convolve(who, x[np.newaxis], weight, bias, windows, groups)[0]
    _check_samples(who, x, weight.shape[1] * groups, len(windows.kernel))
    check_fit(who, windows, x.shape)
    bias = _checked_bias(who, bias, len(weight), weight.dtype)
    return _convolved(x, weight, bias, windows, groups)


def _check_samples(who: Any, x: Any, channels: int, axes: int) -> None:
    if x.ndim != axes + 2 or x.shape[1] != channels:
        sizes = ("length",) if axes == 1 else ("depth", "height", "width")[-axes:]
        raise ValueError(
            f"{who}: an input of shape {x.shape}; pass one of shape "
            f"({', '.join(('n', str(channels), *sizes))}), or one sample without the n"
        )


def _checked_bias(who: Any, bias: Any, nout: int, dtype: Any) -> Any:
    bias = 0 if bias is None else as_input(bias, floating(dtype))
    if np.ndim(bias) and bias.shape != (nout,):
        raise ValueError(f"{who}: a bias of shape {bias.shape}, not {(nout,)}")
    return bias


def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """Return the transposed convolution of signals: `conv_transpose2d` along one axis.

    >>> tg.nn.conv_transpose1d([[1.0, 2.0]], [[[1.0, 1.0, 1.0]]], stride=2)
    array([[1., 1., 3., 2., 2.]])
    """
    parameters = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose1d", 1, x, weight, bias, *parameters)


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """Return the transposed convolution of images: what pulls gradients back through `conv2d`.

    `x` has shape (n, channels, height, width), or (channels, height, width) for one sample, and
    `weight` shape (channels, nout / groups, rows, columns). Each element of the input adds the
    weight, times the element, to the window of the output that `conv2d` with these parameters
    would compute the element from. The output has the size (height - 1) * stride - 2 * padding +
    dilation * (rows - 1) + output_padding + 1; `output_padding` is smaller than stride or dilation.

    >>> tg.nn.conv_transpose2d(np.ones((1, 2, 2)), np.ones((1, 1, 2, 2)))
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    parameters = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose2d", 2, x, weight, bias, *parameters)


def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """Return the transposed convolution of volumes: `conv_transpose2d` along three axes.

    >>> tg.nn.conv_transpose3d(np.ones((1, 1, 1, 2)), np.ones((1, 1, 1, 1, 2)))
    array([[[[1., 2., 1.]]]])
    """
    parameters = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose3d", 3, x, weight, bias, *parameters)


def _conv_transpose(
    name: str,
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
) -> Any:
    weight = _checked_weight(name, axes, weight, groups, "input")
    parameters = stride, padding, output_padding, dilation
    windows = transposed_windows(name, axes, weight.shape[2:], *parameters)
    return convolve_transposed(name, x, weight, bias, windows, groups)


def transposed_windows(
    who: Any,
    axes: int,
    kernel: Size,
    stride: Size,
    padding: Size,
    output_padding: Size,
    dilation: Size,
) -> Windows:
    """The windows in the output of a transposed convolution."""
    windows = windows_of(who, axes, kernel, stride, padding, dilation)
    if isinstance(padding, str):
        raise ValueError(f"{who}: padding={padding!r}; pass integers")
    more = sizes_of(who, axes, "output_padding", output_padding, 0)
    if any(e >= max(s, d) for e, s, d in zip(more, windows.stride, windows.dilation)):
        raise ValueError(
            f"{who}: output_padding={output_padding} must be less than stride={stride} or "
            f"dilation={dilation}"
        )
    pads = [(before, after - e) for (before, after), e in zip(windows.padding, more)]
    return windows._replace(padding=tuple(pads))


def convolve_transposed(
    who: Any, x: Any, weight: Any, bias: Any, windows: Windows, groups: int
) -> Any:
    """Convolve samples, or one sample, by the transpose of `convolve`."""
    x = as_input(x, floating(weight.dtype))
    axes = len(windows.kernel)
    if x.ndim == axes + 1:
        return convolve_transposed(who, x[np.newaxis], weight, bias, windows, groups)[0]
    _check_samples(who, x, len(weight), axes)
    sizes = windows.inputs(x.shape[2:])
    if min(sizes) < 1:
        raise ValueError(
            f"{who}: an input of shape {x.shape} gives sizes of {sizes}: pass a larger input or "
            "less padding"
        )
    nout = weight.shape[1] * groups
    bias = _checked_bias(who, bias, nout, weight.dtype)
    y = _input_back(x, weight, (len(x), nout, *sizes), windows, groups)
    return y + bias.reshape(-1, *[1] * axes) if np.ndim(bias) else y
