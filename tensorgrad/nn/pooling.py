"""Pooling along the last axes of arrays of shape (n, channels, *sizes) or (channels, *sizes).

Names, parameters and their order are PyTorch's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.arrays import working_dtype
from ..engine.custom import differentiable
from ..engine.modes import plain
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..rules.selection import attains, masked
from .module import Module, as_input, called
from .windows import Size, Windows, check_fit, windows_of

# -- sums over windows, and their pullback

# With `which`, an array of numbers, only the element at the position of that number in each window
# counts, so that the same two operations are the derivatives of max pooling.


def _counted(a: Any, which: Any, number: int) -> Any:
    return a if which is None else masked(a, which == number)


def _window_sums_back(g: Any, _y: Any, _x: Any, which: Any, windows: Windows) -> Any:
    return _spread(g, which, _x.shape, windows)


@differentiable(_window_sums_back, form="linear")
@shown_as("avg_pool1d or avg_pool2d")
def _window_sums(x: Any, which: Any, windows: Windows) -> Any:
    outputs = windows.outputs(x.shape[-len(windows.kernel) :])
    x = windows.padded(x)
    return functools.reduce(
        np.add,
        [
            _counted(x[(..., *windows.elements(position, outputs))], which, i)
            for i, position in enumerate(windows.positions())
        ],
    )


def _spread_back(g: Any, _x: Any, _y: Any, which: Any, _shape: Any, windows: Windows) -> Any:
    return _window_sums(g, which, windows)


@differentiable(_spread_back, form="linear")
@shown_as("avg_pool1d or avg_pool2d")
def _spread(y: Any, which: Any, shape: tuple[int, ...], windows: Windows) -> Any:
    axes = len(windows.kernel)
    sizes, outputs = shape[-axes:], y.shape[-axes:]
    padded = [n + sum(pad) for n, pad in zip(sizes, windows.padding)]
    dtype = working_dtype(y.dtype)
    x: Any = np.zeros_like(y, dtype, shape=(*shape[:-axes], *padded))
    for i, position in enumerate(windows.positions()):
        x[(..., *windows.elements(position, outputs))] += _counted(y, which, i)
    return x[windows.inside(sizes)].astype(y.dtype, copy=False)


def _first_maximum(y: Any, x: Any, windows: Windows) -> Any:
    """The number of the first position in each window that attains the maximum y.

    It is the number of positions before it, which is counted from the last position to the first:
    0 where a position attains the maximum, else one more than counted so far.
    """
    y, x = plain(y), plain(x)
    x = windows.padded(x, _least(x.dtype))
    outputs = y.shape[-len(windows.kernel) :]
    dtype = np.min_scalar_type(math.prod(windows.kernel))
    before: Any = np.zeros_like(y, dtype, subok=False)
    for position in reversed([*windows.positions()][:-1]):
        part = x[(..., *windows.elements(position, outputs))]
        before += 1
        before *= ~attains(part, y)
    return before


def _least(dtype: np.dtype[Any]) -> float:
    """The least number of a dtype."""
    if dtype.kind in "bu":
        return 0
    return np.iinfo(dtype).min if dtype.kind == "i" else -np.inf


def _maxima_back(g: Any, y: Any, x: Any, windows: Windows) -> Any:
    return _spread(g, _first_maximum(y, x, windows), x.shape, windows)


@differentiable(_maxima_back)
@shown_as("max_pool1d or max_pool2d")
def _maxima(x: Any, windows: Windows) -> Any:
    outputs = windows.outputs(x.shape[-len(windows.kernel) :])
    x = windows.padded(x, _least(x.dtype))
    first, *others = [x[(..., *windows.elements(p, outputs))] for p in windows.positions()]
    return functools.reduce(lambda y, part: np.maximum(y, part, out=y), others, first.copy("K"))


# -- as functions


def _extended(windows: Windows, sizes: Sequence[int]) -> Windows:
    """The windows of `ceil_mode`: more padding at the end, for a last one that starts inside."""
    padding = []
    for n, k, s, (before, after), d in zip(sizes, *windows, strict=True):
        reach, length = d * (k - 1) + 1, before + n + after
        last = min(-((reach - length) // s), (before + n - 1) // s) * s
        padding.append((before, after + max(0, last + reach - length)))
    return windows._replace(padding=tuple(padding))


def _checked(
    who: Any,
    axes: int,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
) -> tuple[Any, Windows, Windows]:
    """The input as an array, the windows of the parameters, and those extended by `ceil_mode`."""
    stride = kernel_size if stride is None else stride
    windows = windows_of(who, axes, kernel_size, stride, padding, dilation)
    if any(2 * before > k for (before, _), k in zip(windows.padding, windows.kernel)):
        raise ValueError(f"{who}: padding={padding} is more than half of kernel_size={kernel_size}")
    x = as_input(x)
    if x.ndim not in (axes + 1, axes + 2):
        raise ValueError(
            f"{who}: an input of shape {x.shape}; it must have {axes + 2} axes, samples and "
            f"channels first, or {axes + 1} for one sample"
        )
    extended = _extended(windows, x.shape[-axes:]) if ceil_mode else windows
    check_fit(who, extended, x.shape)
    return x, windows, extended


def _max_pool(who: Any, axes: int, x: Any, *parameters: Any) -> Any:
    x, _, windows = _checked(who, axes, x, *parameters)
    return _maxima(x, windows)


def _avg_pool(
    who: Any,
    axes: int,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Any:
    x, windows, extended = _checked(who, axes, x, kernel_size, stride, padding, 1, ceil_mode)
    sums = _window_sums(x, None, extended)
    if extended == windows and (count_include_pad or not any(map(any, windows.padding))):
        return sums / math.prod(windows.kernel)
    ones = np.ones(x.shape[-axes:], x.dtype)
    if count_include_pad:
        ones = windows.padded(ones, 1)
        beyond = [(0, b[1] - a[1]) for a, b in zip(windows.padding, extended.padding)]
        extended = extended._replace(padding=tuple(beyond))
    return sums / _window_sums(ones, None, extended)


def max_pool1d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the largest element in each window of signals: `max_pool2d` along one axis.

    >>> tg.nn.max_pool1d(np.array([[1.0, 5.0, 2.0, 3.0]]), 2)
    array([[5., 3.]])
    """
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the largest element in each window of images.

    `x` has shape (n, channels, height, width) or (channels, height, width). Windows of
    `kernel_size` are `stride` apart, by default the kernel's size. Padding is never the largest
    element. With `ceil_mode`, the last window may reach beyond the end of the input if it starts
    inside. The gradient goes to the first of equal elements, as in PyTorch.

    >>> tg.nn.max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 5.,  7.],
            [13., 15.]]])
    """
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool1d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of each window of signals: `avg_pool2d` along one axis.

    >>> tg.nn.avg_pool1d(np.array([[1.0, 5.0, 2.0, 3.0]]), 2)
    array([[3. , 2.5]])
    """
    parameters = kernel_size, stride, padding, ceil_mode, count_include_pad
    return _avg_pool("avg_pool1d", 1, x, *parameters)


def avg_pool2d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of each window of images.

    Shapes and parameters are those of `max_pool2d`. Padding adds zeros, which are counted as
    elements with `count_include_pad`.

    >>> tg.nn.avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    >>> tg.nn.avg_pool2d(np.ones((1, 2, 2)), 2, padding=1, count_include_pad=False)
    array([[[1., 1.],
            [1., 1.]]])
    """
    parameters = kernel_size, stride, padding, ceil_mode, count_include_pad
    return _avg_pool("avg_pool2d", 2, x, *parameters)


def adaptive_avg_pool1d(x: Any, output_size: int | None) -> Tensor:
    """Return the means of `output_size` parts of signals: `adaptive_avg_pool2d` along one axis.

    >>> tg.nn.adaptive_avg_pool1d(np.array([[1.0, 5.0, 3.0]]), 2)
    array([[3., 4.]])
    """
    return _adaptive("adaptive_avg_pool1d", 1, x, output_size)


def adaptive_avg_pool2d(x: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Return the means of parts of images: `output_size` parts along each axis, None for all.

    Part i of m along an axis of length n is from floor(i * n / m) to ceil((i + 1) * n / m), so
    parts overlap if m does not divide n.

    >>> tg.nn.adaptive_avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 1)
    array([[[7.5]]])
    """
    return _adaptive("adaptive_avg_pool2d", 2, x, output_size)


def _adaptive(who: Any, axes: int, x: Any, output_size: Any) -> Any:
    x = as_input(x)
    if x.ndim <= axes:
        raise ValueError(
            f"{who}: an input of shape {x.shape} needs {axes + 1} or {axes + 2} axes: channels "
            f"and {axes} of lengths, and before them samples"
        )
    sizes = x.shape[-axes:]
    counts = (output_size,) * axes if np.ndim(output_size) == 0 else tuple(output_size)
    if len(counts) != axes or any(m is not None and m < 1 for m in counts) or 0 in sizes:
        raise ValueError(
            f"{who}: output_size={output_size} for an input of shape {x.shape}; pass a positive "
            f"integer or None, or {axes} of them, and an input with elements"
        )
    for axis, (m, n) in enumerate(zip(counts, sizes), -axes):
        x = _means(x, axis, n if m is None else m)
    return x


def _means(x: Any, axis: int, m: int) -> Any:
    """The means of m parts along an axis."""
    n, x = x.shape[axis], np.moveaxis(x, axis, -1)
    parts = [x[..., i * n // m : -((i + 1) * -n // m)] for i in range(m)]
    return np.stack([np.mean(part, axis=-1) for part in parts], axis=axis)


# -- as layers


_OPTIONS = "stride", "padding", "dilation", "ceil_mode", "count_include_pad"


class _Pool(Module):
    axes: ClassVar[int]

    def __init__(self, kernel_size: Size, stride: Size | None, padding: Size) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        windows_of(type(self).__name__, self.axes, kernel_size, self.stride, padding, 1)

    def __repr__(self) -> str:
        options = {name: vars(self)[name] for name in _OPTIONS if name in vars(self)}
        if self.stride == self.kernel_size:
            options["stride"] = None
        return called(self, self.kernel_size, **options)


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def __call__(self, x: Any) -> Tensor:
        """Return the largest element in each window."""
        sizes = self.kernel_size, self.stride, self.padding, self.dilation
        return _max_pool(self, self.axes, x, *sizes, self.ceil_mode)


class MaxPool1d(_MaxPool):
    """A layer that computes `max_pool1d`.

    >>> tg.nn.MaxPool1d(2)(np.ones((5, 3, 8))).shape
    (5, 3, 4)
    """

    axes = 1


class MaxPool2d(_MaxPool):
    """A layer that computes `max_pool2d`.

    >>> tg.nn.MaxPool2d(3, stride=2, padding=1)(np.ones((5, 3, 8, 8))).shape
    (5, 3, 4, 4)
    """

    axes = 2


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def __call__(self, x: Any) -> Tensor:
        """Return the mean of each window."""
        sizes = self.kernel_size, self.stride, self.padding
        return _avg_pool(self, self.axes, x, *sizes, self.ceil_mode, self.count_include_pad)


class AvgPool1d(_AvgPool):
    """A layer that computes `avg_pool1d`.

    >>> tg.nn.AvgPool1d(2)(np.ones((5, 3, 8))).shape
    (5, 3, 4)
    """

    axes = 1


class AvgPool2d(_AvgPool):
    """A layer that computes `avg_pool2d`.

    >>> tg.nn.AvgPool2d(2)(np.ones((5, 3, 8, 8))).shape
    (5, 3, 4, 4)
    """

    axes = 2


class _AdaptiveAvgPool(Module):
    axes: ClassVar[int]

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        self.output_size = output_size

    def __call__(self, x: Any) -> Tensor:
        """Return the means of the parts."""
        return _adaptive(self, self.axes, x, self.output_size)

    def __repr__(self) -> str:
        return called(self, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """A layer that computes `adaptive_avg_pool1d`.

    >>> tg.nn.AdaptiveAvgPool1d(1)(np.ones((5, 3, 8))).shape
    (5, 3, 1)
    """

    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """A layer that computes `adaptive_avg_pool2d`.

    >>> tg.nn.AdaptiveAvgPool2d((1, None))(np.ones((5, 3, 8, 8))).shape
    (5, 3, 1, 8)
    """

    axes = 2
