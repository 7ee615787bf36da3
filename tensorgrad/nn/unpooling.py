"""Unpooling: maxima back at their places, which `return_indices` of max pooling returns.

Names, parameters and their order are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data import within
from ..engine.interpreter import Requirement
from ..engine.modes import mode, plain
from ..engine.tensor import Tensor
from .module import as_input
from .windows import Size, windows_of


def max_unpool1d(
    x: Any,
    indices: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Return signals with elements at these places, and zeros elsewhere: see `max_unpool2d`.

    >>> y, indices = tg.nn.max_pool1d(np.array([[1.0, 5.0, 4.0, 3.0]]), 2, return_indices=True)
    >>> tg.nn.max_unpool1d(y, indices, 2)
    array([[0., 5., 4., 0.]])
    """
    sizes = kernel_size, stride, padding, output_size
    return max_unpool("max_unpool1d", 1, x, indices, *sizes)


def max_unpool2d(
    x: Any,
    indices: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Return images with elements at these places, and zeros elsewhere.

    `x` and `indices` are what `max_pool2d` with these parameters returns with `return_indices`. The
    result is as large as the windows reach, or of `output_size`, which is less than one stride
    smaller or larger: inputs of several sizes have an output of the same size. Of elements with the
    same place, the last one is kept, and it alone has a gradient.

    >>> y, indices = tg.nn.max_pool2d(np.eye(2)[np.newaxis], 2, return_indices=True)
    >>> tg.nn.max_unpool2d(y, indices, 2)
    array([[[1., 0.],
            [0., 0.]]])
    """
    sizes = kernel_size, stride, padding, output_size
    return max_unpool("max_unpool2d", 2, x, indices, *sizes)


def max_unpool3d(
    x: Any,
    indices: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Return volumes with elements at these places, and zeros elsewhere: see `max_unpool2d`.

    >>> tg.nn.max_unpool3d(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1), int), 2).shape
    (1, 2, 2, 2)
    """
    sizes = kernel_size, stride, padding, output_size
    return max_unpool("max_unpool3d", 3, x, indices, *sizes)


def max_unpool(
    who: Any,
    axes: int,
    x: Any,
    indices: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    output_size: Sequence[int] | None,
) -> Any:
    """Elements at their places; `who` is the function or layer that errors name."""
    x, indices = as_input(x), as_input(plain(indices))
    if x.ndim not in (axes + 1, axes + 2) or x.shape != indices.shape:
        raise ValueError(
            f"{who}: an input of shape {x.shape} and indices of shape {indices.shape}; both must "
            f"have the shape that max_pool{axes}d returned"
        )
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{who}: indices of dtype {indices.dtype}; they must be integers")
    stride = kernel_size if stride is None else stride
    windows = windows_of(who, axes, kernel_size, stride, padding, 1)
    sizes = windows.inputs(x.shape[-axes:])
    if output_size is not None:
        wanted = tuple(output_size)[-axes:]
        steps = zip(wanted, sizes, windows.stride)
        if len(wanted) != axes or not all(abs(size - n) < s for size, n, s in steps):
            raise ValueError(
                f"{who}: output_size={tuple(output_size)}; pass sizes that differ from {sizes} by "
                f"less than the strides {windows.stride}"
            )
        sizes = wanted
    lead, count = x.shape[:-axes], math.prod(sizes)

    def check(indices: Any) -> None:
        if not within(indices, count):
            raise IndexError(
                f"{who}: indices from {indices.min()} to {indices.max()} for sizes of {sizes}; "
                "pass the parameters of max pooling, and as output_size the sizes of its input"
            )

    requirement = Requirement(check, lambda i: (i >= 0) & (i < count))
    mode.get().interpreter.effect(requirement, indices)
    flat = *lead, math.prod(x.shape[-axes:])
    y = np.zeros_like(x, shape=(*lead, count))
    np.put_along_axis(y, indices.reshape(flat), x.reshape(flat), -1)
    return y.reshape(*lead, *sizes)
