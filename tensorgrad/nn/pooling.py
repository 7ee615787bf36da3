"""Pooling along the last axes of arrays of shape (n, channels, *sizes) or (channels, *sizes).

Names, parameters and their order are PyTorch's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.arrays import working_dtype
from ..engine.custom import differentiable
from ..engine.modes import plain
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..rules.selection import attains, masked
from .module import are_sizes, as_input
from .windows import Size, Windows, check_fit, sizes_of, windows_of

# -- sums over windows, and their pullback

# With `which`, an array of numbers, only the element at the position of that number in each window
# counts, so that the same two operations are the derivatives of max pooling.


def _counted(a: Any, which: Any, number: int) -> Any:
    return a if which is None else masked(a, which == number)


def _window_sums_back(g: Any, _y: Any, _x: Any, which: Any, windows: Windows) -> Any:
    return _spread(g, which, _x.shape, windows)


@differentiable(_window_sums_back, form="linear")
@shown_as("avg_pool1d, avg_pool2d or avg_pool3d")
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
@shown_as("avg_pool1d, avg_pool2d or avg_pool3d")
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
@shown_as("max_pool1d, max_pool2d or max_pool3d")
def _maxima(x: Any, windows: Windows) -> Any:
    outputs = windows.outputs(x.shape[-len(windows.kernel) :])
    x = windows.padded(x, _least(x.dtype))
    first, *others = [x[(..., *windows.elements(p, outputs))] for p in windows.positions()]
    return functools.reduce(lambda y, part: np.maximum(y, part, out=y), others, first.copy("K"))


# -- the places of maxima

# Where the places are asked for, or windows differ in size, the elements of all windows are copied,
# and the first largest of each is selected. Elsewhere, `_maxima` takes less time and memory.


def _places(who: Any, windows: Windows, sizes: Sequence[int]) -> list[Any]:
    """For each axis, the places of the elements of windows, shape (outputs, kernel).

    Places in the padding are replaced by the next ones in the window that are not.
    """
    places = []
    for n, m, k, s, (before, _), d in zip(sizes, windows.outputs(sizes), *windows, strict=True):
        start = np.arange(m)[:, np.newaxis] * s - before
        first, last = np.maximum(-(start // d), 0), np.minimum((n - 1 - start) // d, k - 1)
        if np.any(first > last):
            raise ValueError(f"{who}: a window of {windows.kernel} has no element but padding")
        places.append(start + np.clip(np.arange(k), first, last) * d)
    return places


def _parts(n: int, m: int) -> tuple[Any, Any]:
    """The first places of m parts along an axis of n elements, and those after their last ones."""
    numbers = np.arange(m)
    return numbers * n // m, -((numbers + 1) * -n // m)


def _flat(places: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Places along each axis as indices of a flattened input, shape (windows, elements)."""
    flat: Any = 0
    axes = len(places)
    for axis, (place, n) in enumerate(zip(places, sizes)):
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = place.shape
        flat = flat * n + place.reshape(shape)
    return flat.reshape(math.prod(map(len, places)), -1)


def _first_largest(x: Any, places: Sequence[Any]) -> tuple[Any, Any]:
    """The first largest element of each window, and its index in the flattened input."""
    axes = len(places)
    lead, sizes = x.shape[:-axes], x.shape[-axes:]
    x = x.reshape(*lead, math.prod(sizes))
    index = _flat(places, sizes)
    number = np.argmax(np.take(x, index, -1), -1, keepdims=True)
    index = index.reshape(*[1] * len(lead), *index.shape)
    index = np.take_along_axis(index, number, -1)[..., 0]
    shape = *lead, *map(len, places)
    return np.take_along_axis(x, index, -1).reshape(shape), index.reshape(shape)


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


def max_pool(who: Any, axes: int, x: Any, *parameters: Any, return_indices: bool = False) -> Any:
    """The largest elements of windows; `who` is the function or layer that errors name."""
    x, _, windows = _checked(who, axes, x, *parameters)
    if return_indices:
        return _first_largest(x, _places(who, windows, x.shape[-axes:]))
    return _maxima(x, windows)


def avg_pool(
    who: Any,
    axes: int,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None = None,
) -> Any:
    """The means of windows; `who` is the function or layer that errors name."""
    x, windows, extended = _checked(who, axes, x, kernel_size, stride, padding, 1, ceil_mode)
    sums = _window_sums(x, None, extended)
    if divisor == 0:
        raise ValueError(f"{who}: divisor_override=0; pass another number")
    if divisor is not None:
        return sums / divisor
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
    return_indices: bool = False,
) -> Any:
    """Return the largest element in each window of signals: `max_pool2d` along one axis.

    >>> tg.nn.max_pool1d(np.array([[1.0, 5.0, 2.0, 3.0]]), 2)
    array([[5., 3.]])
    """
    parameters = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool("max_pool1d", 1, x, *parameters, return_indices=return_indices)


def max_pool2d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the largest element in each window of images.

    `x` has shape (n, channels, height, width) or (channels, height, width). Windows of
    `kernel_size` are `stride` apart, by default the kernel's size. Padding is never the largest
    element. With `ceil_mode`, the last window may reach beyond the end of the input if it starts
    inside. The gradient goes to the first of equal elements, as in PyTorch. With `return_indices`,
    the result is a pair: the elements, and their indices in the flattened image.

    >>> tg.nn.max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 5.,  7.],
            [13., 15.]]])
    >>> tg.nn.max_pool2d(np.eye(2)[np.newaxis], 2, return_indices=True)
    (array([[[1.]]]), array([[[0]]]))
    """
    parameters = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool("max_pool2d", 2, x, *parameters, return_indices=return_indices)


def max_pool3d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the largest element in each window of volumes: `max_pool2d` along three axes.

    >>> tg.nn.max_pool3d(np.arange(16.0).reshape(1, 2, 2, 4), 2)
    array([[[[13., 15.]]]])
    """
    parameters = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool("max_pool3d", 3, x, *parameters, return_indices=return_indices)


def avg_pool1d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the mean of each window of signals: `avg_pool2d` along one axis.

    >>> tg.nn.avg_pool1d(np.array([[1.0, 5.0, 2.0, 3.0]]), 2)
    array([[3. , 2.5]])
    """
    parameters = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return avg_pool("avg_pool1d", 1, x, *parameters)


def avg_pool2d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the mean of each window of images.

    Shapes and parameters are those of `max_pool2d`. Padding adds zeros, which are counted as
    elements with `count_include_pad`. The sums are divided by `divisor_override`, if it is passed,
    instead of the number of elements.

    >>> tg.nn.avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    >>> tg.nn.avg_pool2d(np.ones((1, 2, 2)), 2, padding=1, count_include_pad=False)
    array([[[1., 1.],
            [1., 1.]]])
    """
    parameters = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return avg_pool("avg_pool2d", 2, x, *parameters)


def avg_pool3d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the mean of each window of volumes: `avg_pool2d` along three axes.

    >>> tg.nn.avg_pool3d(np.arange(16.0).reshape(1, 2, 2, 4), 2)
    array([[[[6.5, 8.5]]]])
    """
    parameters = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return avg_pool("avg_pool3d", 3, x, *parameters)


def lp_pool1d(
    x: Any,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the power mean in each window of signals: `lp_pool2d` along one axis.

    >>> tg.nn.lp_pool1d(np.array([[3.0, 4.0, 0.0, 0.0]]), 2, 2)
    array([[5., 0.]])
    """
    return lp_pool("lp_pool1d", 1, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    x: Any,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the root of the sum of powers in each window of images.

    Shapes and parameters are those of `avg_pool2d`. With p = `norm_type`, it is the sum of x**p to
    the power 1/p: NaN where the sum is negative. Its derivative is 0 where the sum is 0.

    >>> tg.nn.lp_pool2d(np.ones((1, 4, 4)), 2, 2)
    array([[[2., 2.],
            [2., 2.]]])
    """
    return lp_pool("lp_pool2d", 2, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    x: Any,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the root of the sum of powers in each window of volumes: `lp_pool2d` along three axes.

    >>> tg.nn.lp_pool3d(np.ones((1, 2, 2, 2)), 3, 2)
    array([[[[2.]]]])
    """
    return lp_pool("lp_pool3d", 3, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool(
    who: Any,
    axes: int,
    x: Any,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None,
    ceil_mode: bool,
) -> Any:
    """The power means of windows; `who` is the function or layer that errors name."""
    if not 0 < norm_type < math.inf:
        raise ValueError(f"{who}: norm_type={norm_type}; pass a positive number")
    powers = as_input(x) ** norm_type
    count = math.prod(sizes_of(who, axes, "kernel_size", kernel_size, 1))
    sums = avg_pool(who, axes, powers, kernel_size, stride, 0, ceil_mode, True) * count
    is_zero = sums == 0
    return np.where(is_zero, 0, np.where(is_zero, 1, sums) ** (1 / norm_type))


def adaptive_avg_pool1d(x: Any, output_size: int | None) -> Tensor:
    """Return the means of `output_size` parts of signals: `adaptive_avg_pool2d` along one axis.

    >>> tg.nn.adaptive_avg_pool1d(np.array([[1.0, 5.0, 3.0]]), 2)
    array([[3., 4.]])
    """
    return adaptive_avg_pool("adaptive_avg_pool1d", 1, x, output_size)


def adaptive_avg_pool2d(x: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Return the means of parts of images: `output_size` parts along each axis, None for all.

    Part i of m along an axis of length n is from floor(i * n / m) to ceil((i + 1) * n / m), so
    parts overlap if m does not divide n.

    >>> tg.nn.adaptive_avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 1)
    array([[[7.5]]])
    """
    return adaptive_avg_pool("adaptive_avg_pool2d", 2, x, output_size)


def adaptive_avg_pool3d(x: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Return the means of parts of volumes: `adaptive_avg_pool2d` along three axes.

    >>> tg.nn.adaptive_avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), (2, 1, 1)).ravel()
    array([1.5, 5.5])
    """
    return adaptive_avg_pool("adaptive_avg_pool3d", 3, x, output_size)


def adaptive_max_pool1d(x: Any, output_size: int | None, return_indices: bool = False) -> Any:
    """Return the largest elements of parts of signals: `adaptive_max_pool2d` along one axis.

    >>> tg.nn.adaptive_max_pool1d(np.array([[1.0, 5.0, 3.0]]), 2)
    array([[5., 5.]])
    """
    return adaptive_max_pool("adaptive_max_pool1d", 1, x, output_size, return_indices)


def adaptive_max_pool2d(
    x: Any, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Any:
    """Return the largest elements of parts of images: those of `adaptive_avg_pool2d`.

    The gradient goes to the first of equal elements. With `return_indices`, the result is a pair:
    the elements, and their indices in the flattened image.

    >>> tg.nn.adaptive_max_pool2d(np.arange(16.0).reshape(1, 4, 4), (1, 2))
    array([[[13., 15.]]])
    """
    return adaptive_max_pool("adaptive_max_pool2d", 2, x, output_size, return_indices)


def adaptive_max_pool3d(
    x: Any, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Any:
    """Return the largest elements of parts of volumes: `adaptive_max_pool2d` along three axes.

    >>> tg.nn.adaptive_max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), (2, 1, 1)).ravel()
    array([3., 7.])
    """
    return adaptive_max_pool("adaptive_max_pool3d", 3, x, output_size, return_indices)


def _adaptive(who: Any, axes: int, x: Any, output_size: Any) -> tuple[Any, list[int]]:
    """The input as an array, and the number of parts along each axis."""
    x = as_input(x)
    if x.ndim not in (axes + 1, axes + 2):
        raise ValueError(
            f"{who}: an input of shape {x.shape} needs {axes + 1} or {axes + 2} axes: channels "
            f"and {axes} of lengths, and before them samples"
        )
    sizes = x.shape[-axes:]
    counts = (output_size,) * axes if np.ndim(output_size) == 0 else tuple(output_size)
    if len(counts) != axes or not are_sizes(*(m for m in counts if m is not None)) or 0 in sizes:
        raise ValueError(
            f"{who}: output_size={output_size} for an input of shape {x.shape}; pass a positive "
            f"integer or None, or {axes} of them, and an input with elements"
        )
    return x, [n if m is None else m for m, n in zip(counts, sizes)]


def adaptive_avg_pool(who: Any, axes: int, x: Any, output_size: Any) -> Any:
    """The means of parts; `who` is the function or layer that errors name."""
    return means_of_parts(*_adaptive(who, axes, x, output_size))


def means_of_parts(x: Any, counts: Sequence[int]) -> Any:
    """The means of so many parts along each of the last axes."""
    for axis, m in enumerate(counts, -len(counts)):
        columns = np.moveaxis(x, axis, -1)
        parts = zip(*_parts(x.shape[axis], m))
        means = [np.mean(columns[..., start:stop], axis=-1) for start, stop in parts]
        x = np.stack(means, axis=axis)
    return x


def adaptive_max_pool(
    who: Any, axes: int, x: Any, output_size: Any, return_indices: bool = False
) -> Any:
    """The largest elements of parts; `who` is the function or layer that errors name."""
    x, counts = _adaptive(who, axes, x, output_size)
    places = []
    for n, m in zip(x.shape[-axes:], counts):
        start, stop = _parts(n, m)
        steps = np.arange(np.max(stop - start))
        places.append(np.minimum(np.add.outer(start, steps), stop[:, np.newaxis] - 1))
    y, index = _first_largest(x, places)
    return (y, index) if return_indices else y
