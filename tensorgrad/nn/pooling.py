"""Pooling along the last axes of arrays of shape (n, channels, *sizes), or (channels, *sizes).

Names, parameters and their order are PyTorch's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..graph import shown_as
from ..rules.selection import attains, masked
from ..tensor import Tensor, differentiable, plain
from .convolution import Size, Windows, check_fit, windows_of
from .module import Module, as_input, called

# -- sums over windows, and their pullback

# Where `which` is given, of each output's window only the position of that number counts.


def _chosen(a: Any, which: Any, number: int) -> Any:
    return a if which is None else masked(a, which == number)


def _gathered_back(g: Any, _y: Any, _x: Any, which: Any, windows: Windows) -> Any:
    return _spread(g, which, _x.shape, windows)


@differentiable(_gathered_back, form="linear")
@shown_as("avg_pool1d or avg_pool2d")
def _gathered(x: Any, which: Any, windows: Windows) -> Any:
    outputs = windows.outputs(x.shape[-len(windows.kernel) :])
    x = windows.padded(x)
    return functools.reduce(
        np.add,
        [
            _chosen(x[(..., *windows.seen(position, outputs))], which, i)
            for i, position in enumerate(windows.positions())
        ],
    )


def _spread_back(g: Any, _x: Any, _y: Any, which: Any, _shape: Any, windows: Windows) -> Any:
    return _gathered(g, which, windows)


@differentiable(_spread_back, form="linear")
@shown_as("avg_pool1d or avg_pool2d")
def _spread(y: Any, which: Any, shape: tuple[int, ...], windows: Windows) -> Any:
    axes = len(windows.kernel)
    sizes, outputs = shape[-axes:], y.shape[-axes:]
    padded = [n + sum(pad) for n, pad in zip(sizes, windows.padding)]
    wide = np.result_type(y.dtype, np.float32)
    x: Any = np.zeros_like(y, wide, shape=(*shape[:-axes], *padded))
    for i, position in enumerate(windows.positions()):
        x[(..., *windows.seen(position, outputs))] += _chosen(y, which, i)
    return x[windows.inside(sizes)].astype(y.dtype, copy=False)


def _first_maximum(y: Any, x: Any, windows: Windows) -> Any:
    """The number of the position in each window at which its maximum, or a NaN, is first.

    It is how many positions come before: none, or one more than come before among those behind it.
    """
    y, x = plain(y), plain(x)
    x = windows.padded(x, _least(x.dtype))
    outputs = y.shape[-len(windows.kernel) :]
    numbers = np.min_scalar_type(math.prod(windows.kernel))
    before: Any = np.zeros_like(y, numbers, subok=False)
    for position in reversed([*windows.positions()][:-1]):
        part = x[(..., *windows.seen(position, outputs))]
        before += 1
        before *= ~attains(part, y)
    return before


def _least(dtype: np.dtype[Any]) -> float:
    """What is larger than no number of this dtype."""
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
    first, *others = [x[(..., *windows.seen(p, outputs))] for p in windows.positions()]
    return functools.reduce(lambda y, part: np.maximum(y, part, out=y), others, first.copy("K"))


# -- as functions


def _covering(windows: Windows, sizes: Sequence[int]) -> Windows:
    """The windows with more padding behind: for a last one that begins before the input ends."""
    padding = []
    for n, k, s, (before, behind), d in zip(sizes, *windows, strict=True):
        reach, length = d * (k - 1) + 1, before + n + behind
        last = min(-((reach - length) // s), (before + n - 1) // s) * s
        padding.append((before, behind + max(0, last + reach - length)))
    return windows._replace(padding=tuple(padding))


def _pooling(
    who: Any,
    axes: int,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
) -> tuple[Any, Windows, Windows]:
    """The input as an array, the windows as described, and as `ceil_mode` makes them."""
    stride = kernel_size if stride is None else stride
    windows = windows_of(who, axes, kernel_size, stride, padding, dilation)
    if any(2 * before > k for (before, _), k in zip(windows.padding, windows.kernel)):
        raise ValueError(f"{who}: padding={padding} is more than half of kernel_size={kernel_size}")
    x = as_input(x)
    if x.ndim not in (axes + 1, axes + 2):
        raise ValueError(
            f"{who}: an input of shape {x.shape}; it must have {axes + 2} axes, samples and "
            f"channels first, or one sample {axes + 1}"
        )
    covering = _covering(windows, x.shape[-axes:]) if ceil_mode else windows
    check_fit(who, covering, x.shape)
    return x, windows, covering


def _max_pool(
    who: Any,
    axes: int,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
) -> Any:
    x, _, windows = _pooling(who, axes, x, kernel_size, stride, padding, dilation, ceil_mode)
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
    x, windows, covering = _pooling(who, axes, x, kernel_size, stride, padding, 1, ceil_mode)
    sums = _gathered(x, None, covering)
    if covering == windows and (count_include_pad or not any(map(any, windows.padding))):
        return sums / math.prod(windows.kernel)
    counted = np.ones(x.shape[-axes:], x.dtype)
    if count_include_pad:
        counted = windows.padded(counted, 1)
        beyond = [(0, b[1] - a[1]) for a, b in zip(windows.padding, covering.padding)]
        covering = covering._replace(padding=tuple(beyond))
    return sums / _gathered(counted, None, covering)


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
    `kernel_size` are `stride` apart, by default the kernel's size. Padding adds what is never the
    largest. With `ceil_mode`, a last window that begins inside may reach beyond the end. The
    gradient goes to the first of equal elements, as in PyTorch.

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
    include = count_include_pad
    return _avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, include)


def avg_pool2d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of each window of images.

    Shapes and parameters are those of `max_pool2d`. Padding adds zeros; with `count_include_pad`
    they count as elements.

    >>> tg.nn.avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    >>> tg.nn.avg_pool2d(np.ones((1, 2, 2)), 2, padding=1, count_include_pad=False)
    array([[[1., 1.],
            [1., 1.]]])
    """
    include = count_include_pad
    return _avg_pool("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, include)


def adaptive_avg_pool1d(x: Any, output_size: int | None) -> Tensor:
    """Return the means of `output_size` parts of signals, which overlap where sizes do not divide.

    >>> tg.nn.adaptive_avg_pool1d(np.array([[1.0, 5.0, 3.0]]), 2)
    array([[3., 4.]])
    """
    return _adaptive("adaptive_avg_pool1d", 1, x, output_size)


def adaptive_avg_pool2d(x: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Return the means of parts of images, `output_size` along each axis; None keeps a size.

    Part i of m along an axis of length n is from floor(i * n / m) to ceil((i + 1) * n / m).

    >>> tg.nn.adaptive_avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 1)
    array([[[7.5]]])
    """
    return _adaptive("adaptive_avg_pool2d", 2, x, output_size)


def _adaptive(who: str, axes: int, x: Any, output_size: Any) -> Any:
    x = as_input(x)
    sizes = x.shape[-axes:]
    wanted = (output_size,) * axes if np.ndim(output_size) == 0 else tuple(output_size)
    if len(wanted) != axes or any(m is not None and m < 1 for m in wanted) or 0 in sizes:
        raise ValueError(
            f"{who}: output_size={output_size} for an input of shape {x.shape}; pass an integer "
            f"or None, or {axes} of them, and sizes of 1 or more"
        )
    outputs = [n if m is None else m for m, n in zip(wanted, sizes)]
    for axis, m in enumerate(outputs, -axes):
        x = _means(x, axis, m)
    return x


def _means(x: Any, axis: int, m: int) -> Any:
    """The means of m parts of an axis."""
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


class AdaptiveAvgPool1d(Module):
    """A layer that computes `adaptive_avg_pool1d`.

    >>> tg.nn.AdaptiveAvgPool1d(1)(np.ones((5, 3, 8))).shape
    (5, 3, 1)
    """

    def __init__(self, output_size: int | None) -> None:
        self.output_size = output_size

    def __call__(self, x: Any) -> Tensor:
        """Return the means of the parts."""
        return adaptive_avg_pool1d(x, self.output_size)

    def __repr__(self) -> str:
        return called(self, self.output_size)


class AdaptiveAvgPool2d(Module):
    """A layer that computes `adaptive_avg_pool2d`.

    >>> tg.nn.AdaptiveAvgPool2d((1, None))(np.ones((5, 3, 8, 8))).shape
    (5, 3, 1, 8)
    """

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        self.output_size = output_size

    def __call__(self, x: Any) -> Tensor:
        """Return the means of the parts."""
        return adaptive_avg_pool2d(x, self.output_size)

    def __repr__(self) -> str:
        return called(self, self.output_size)
