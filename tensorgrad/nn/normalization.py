"""Normalization: activations of mean 0 and variance 1, over a batch or over features."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import DTypeLike

from ..engine.arrays import working_dtype
from ..engine.custom import differentiable
from ..engine.modes import plain
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from .module import Module, as_input, called, floating, require_sizes

Axes: TypeAlias = tuple[int, ...]


def _sum(axes: Axes, *arrays: Any, keepdims: bool = False) -> Any:
    """Sum the product of arrays of one shape over axes, without an array for the product."""
    every = range(arrays[0].ndim)
    summed = normalize_axis_tuple(axes, len(every))
    terms = [term for a in arrays for term in (a, every)]
    dtype = working_dtype(*[a.dtype for a in arrays])
    total = np.einsum(*terms, [i for i in every if i not in summed], dtype=dtype)
    return np.expand_dims(total, axes) if keepdims else total


def _standardized_back(g: Any, results: Any, _x: Any, axes: Axes, eps: float) -> Any:
    g, g_mean, g_variance = g
    y, _, variance = results
    count = math.prod([y.shape[i] for i in axes])
    scale = (variance + eps) ** -0.5
    along_y = scale * _sum(axes, g, y, keepdims=True) - 2 * g_variance / scale
    along_one = scale * _sum(axes, g, keepdims=True) - g_mean
    return scale * g - along_y / count * y - along_one / count


@differentiable(_standardized_back)
@shown_as("batch_norm or layer_norm")
def standardized(x: Any, axes: Axes, eps: float) -> tuple[Any, Any, Any]:
    """(x - mean) / sqrt(variance + eps), and mean and variance, with `axes` of length 1."""
    wide = x.astype(working_dtype(x.dtype), copy=False)
    count = math.prod([x.shape[i] for i in axes])
    mean = _sum(axes, wide, keepdims=True) / count
    y = wide - mean
    variance = _sum(axes, y, y, keepdims=True) / count
    y *= (variance + eps) ** -0.5
    return y.astype(floating(x.dtype), copy=False), mean, variance


def _along(weight: Any, axes: Axes) -> Any:
    """The weight with `axes` of length 1 inserted; a number stays as it is."""
    return np.expand_dims(weight, axes) if np.ndim(weight) else weight


@differentiable(
    lambda g, _z, _y, weight, _bias, axes: g * _along(weight, axes),
    lambda g, _z, y, _weight, _bias, axes: _sum(axes, g, y),
    lambda g, _z, _y, _weight, _bias, axes: _sum(axes, g),
)
@shown_as("batch_norm or layer_norm")
def _scaled(y: Any, weight: Any, bias: Any, axes: Axes) -> Any:
    """weight * y + bias. Weight and bias are numbers, or have the axes of y without `axes`."""
    dtype = np.result_type(y, weight, bias)
    z = np.multiply(y, _along(weight, axes), dtype=dtype)
    z += _along(bias, axes)
    return z


def affine_along(y: Any, weight: Any, bias: Any, axes: Axes) -> Any:
    """weight * y + bias, where None stands for 1 and 0; they have the axes of y without `axes`."""
    if weight is None and bias is None:
        return y
    return _scaled(y, 1.0 if weight is None else weight, 0.0 if bias is None else bias, axes)


def parameters_of(who: Any, x: Any, shape: tuple[int, ...], **values: Any) -> list[Any]:
    """The values as arrays, which must have this shape; None stays None."""
    arrays = {
        name: None if value is None else as_input(value, floating(x.dtype))
        for name, value in values.items()
    }
    for name, array in arrays.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{who}: a {name} of shape {array.shape}; it must be {shape}")
    return [*arrays.values()]


def layer_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) over the last axes of `x`, times weight, plus bias.

    `normalized_shape` is the shape of these axes, and the shape of weight and bias. The variance is
    the biased one, divided by the number of elements. Ba, Kiros and Hinton, Layer Normalization,
    2016. Raises ValueError for other shapes.

    >>> tg.nn.layer_norm(np.array([[1.0, 3.0], [0.0, 8.0]]), 2, eps=0)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    return _layer_norm("layer_norm", x, _shape_of(normalized_shape), weight, bias, eps)


def _shape_of(sizes: int | Sequence[int]) -> tuple[int, ...]:
    return tuple([operator.index(n) for n in np.atleast_1d(sizes)])


def _ending_in(who: Any, x: Any, shape: tuple[int, ...], weight: Any) -> Any:
    """The input as an array whose last axes have this shape."""
    x = as_input(x, getattr(weight, "dtype", None))
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(
            f"{who}: an input of shape {x.shape}; the shape of its last axes must be {shape}"
        )
    return x


def _shown(shape: tuple[int, ...]) -> Any:
    return shape[0] if len(shape) == 1 else shape


def _layer_norm(
    who: Any, x: Any, shape: tuple[int, ...], weight: Any, bias: Any, eps: float
) -> Any:
    x = _ending_in(who, x, shape, weight)
    weight, bias = parameters_of(who, x, shape, weight=weight, bias=bias)
    y = standardized(x, tuple(range(-len(shape), 0)), eps)[0]
    return affine_along(y, weight, bias, tuple(range(x.ndim - len(shape))))


class LayerNorm(Module):
    """A layer that computes `layer_norm`. Its weight starts as ones, and its bias as zeros.

    `normalized_shape` is the shape of the last axes of an input.

    >>> layer = tg.nn.LayerNorm(4)
    >>> layer, layer(np.ones((3, 4))).shape
    (LayerNorm(4), (3, 4))
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> None:
        require_sizes(type(self).__name__, *np.ravel(normalized_shape).tolist())
        self.normalized_shape = _shape_of(normalized_shape)
        self.eps = eps
        self.weight = self.bias = None
        if elementwise_affine:
            ones = np.ones(self.normalized_shape)
            self.weight = Tensor(ones, dtype, requires_grad=True)
            self.bias = Tensor(0 * ones, dtype, requires_grad=True) if bias else None

    def __call__(self, x: Any) -> Tensor:
        """Return the input, of any shape that ends in `normalized_shape`, normalized."""
        return _layer_norm(self, x, self.normalized_shape, self.weight, self.bias, self.eps)

    def __repr__(self) -> str:
        affine = self.weight is not None
        return called(
            self,
            _shown(self.normalized_shape),
            eps=self.eps,
            elementwise_affine=affine,
            bias=not affine or self.bias is not None,
        )


def rms_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None
) -> Tensor:
    """Return x / sqrt(mean(x²) + eps) over the last axes of `x`, times weight.

    `normalized_shape` is the shape of these axes, and the shape of the weight. Without `eps`, it is
    the smallest relative step of the dtype. Zhang and Sennrich, Root Mean Square Layer
    Normalization, 2019. Raises ValueError for other shapes.

    >>> tg.nn.rms_norm(np.array([[1.0, 7.0], [2.0, 2.0]]), 2, eps=0)
    array([[0.2, 1.4],
           [1. , 1. ]])
    """
    return _rms_norm("rms_norm", x, _shape_of(normalized_shape), weight, eps)


def _rms_norm(who: Any, x: Any, shape: tuple[int, ...], weight: Any, eps: float | None) -> Any:
    x = _ending_in(who, x, shape, weight)
    (weight,) = parameters_of(who, x, shape, weight=weight)
    dtype = floating(x.dtype)
    wide = x.astype(working_dtype(dtype), copy=False)
    axes = tuple(range(-len(shape), 0))
    eps = np.finfo(dtype).eps if eps is None else eps
    scale = (np.mean(np.square(wide), axis=axes, keepdims=True) + eps) ** -0.5
    y = (wide * scale).astype(dtype, copy=False)
    return y if weight is None else y * weight


class RMSNorm(Module):
    """A layer that computes `rms_norm`. Its weight starts as ones.

    `normalized_shape` is the shape of the last axes of an input.

    >>> layer = tg.nn.RMSNorm(4)
    >>> layer, layer(np.ones((3, 4))).shape
    (RMSNorm(4), (3, 4))
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> None:
        require_sizes(type(self).__name__, *np.ravel(normalized_shape).tolist())
        self.normalized_shape = _shape_of(normalized_shape)
        self.eps = eps
        ones = np.ones(self.normalized_shape)
        self.weight = Tensor(ones, dtype, requires_grad=True) if elementwise_affine else None

    def __call__(self, x: Any) -> Tensor:
        """Return the input, of any shape that ends in `normalized_shape`, normalized."""
        return _rms_norm(self, x, self.normalized_shape, self.weight, self.eps)

    def __repr__(self) -> str:
        affine = self.weight is not None
        return called(self, _shown(self.normalized_shape), eps=self.eps, elementwise_affine=affine)


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) in each channel, times weight, plus bias.

    `x` has shape (n, channels, *sizes); weight and bias have shape (channels,). With `training`, or
    without running statistics, the mean and the biased variance are those of the batch; otherwise
    they are `running_mean` and `running_var`. With `training`, these two, tensors or arrays, are
    updated in place: running += momentum * (batch - running), where the variance is the unbiased
    one. Ioffe and Szegedy, Batch Normalization, 2015.

    >>> tg.nn.batch_norm(np.array([[1.0, 0.0], [3.0, 8.0]]), training=True, eps=0)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    arguments = running_mean, running_var, weight, bias, training, momentum, eps
    return _batch_norm("batch_norm", as_input(x), *arguments)


def _batch_norm(
    who: Any,
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    if x.ndim < 2:
        raise ValueError(f"{who}: an input of shape {x.shape}; it must be (n, channels, *sizes)")
    weight, bias = parameters_of(who, x, x.shape[1:2], weight=weight, bias=bias)
    axes = (0, *range(2, x.ndim))
    if not training and running_mean is not None:
        scale = (running_var + eps) ** -0.5
        scale = scale if weight is None else scale * weight
        shift = -running_mean * scale
        return _scaled(x, scale, shift if bias is None else shift + bias, axes)
    count = x.size // max(x.shape[1], 1)
    if count < 2:
        raise ValueError(
            f"{who}: an input of shape {x.shape} has {count} values per channel, too few for a "
            "variance: pass a larger batch, or call eval()"
        )
    y, mean, variance = standardized(x, axes, eps)
    if training and running_mean is not None:
        update(running_mean, mean, momentum)
        update(running_var, count / (count - 1) * variance, momentum)
    return affine_along(y, weight, bias, axes)


def update(running: Any, batch: Any, momentum: float) -> None:
    """Move a running statistic towards that of a batch, in place."""
    mean, batch = plain(running), plain(batch).reshape(-1)
    mean += (momentum * (batch - mean)).astype(mean.dtype)


_SHAPES = {
    2: "(n, {})",
    3: "(n, {}, length)",
    4: "(n, {}, height, width)",
    5: "(n, {}, depth, height, width)",
}


class ByChannel(Module):
    """What the layers share that normalize each channel: parameters and running statistics."""

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")
    ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        dtype: DTypeLike,
    ) -> None:
        require_sizes(type(self).__name__, num_features)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        ones, zeros = np.ones(num_features), np.zeros(num_features)
        self.weight = Tensor(ones, dtype, requires_grad=True) if affine else None
        self.bias = Tensor(zeros, dtype, requires_grad=True) if affine else None
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if track_running_stats:
            self.running_mean, self.running_var = Tensor(zeros, dtype), Tensor(ones, dtype)
            self.num_batches_tracked = Tensor(0)

    def _input(self, x: Any) -> Any:
        """The input as an array, which must have the right shape."""
        x = as_input(x, None if self.weight is None else self.weight.dtype)
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            wanted = " or ".join([_SHAPES[rank].format(self.num_features) for rank in self.ranks])
            raise ValueError(f"{self}: an input of shape {x.shape}; it must be {wanted}")
        return x

    def __repr__(self) -> str:
        return called(
            self,
            self.num_features,
            eps=self.eps,
            momentum=self.momentum,
            affine=self.weight is not None,
            track_running_stats=self.running_mean is not None,
        )


class _BatchNorm(ByChannel):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def __call__(self, x: Any) -> Tensor:
        """Return the input, of shape (n, num_features, *sizes), normalized."""
        x = self._input(x)
        counter = self.num_batches_tracked if self.training else None
        momentum: Any = self.momentum
        if momentum is None:
            momentum = 0.0 if counter is None else 1 / (plain(counter) + 1)
        statistics = self.running_mean, self.running_var
        parameters = self.weight, self.bias
        y = _batch_norm(self, x, *statistics, *parameters, self.training, momentum, self.eps)
        if counter is not None:
            counter.data += 1
        return y


class BatchNorm1d(_BatchNorm):
    """A layer that computes `batch_norm` of inputs (n, num_features) or (n, num_features, length).

    The weight starts as ones and the bias as zeros. In training, the statistics of each batch
    normalize it, and update the running mean and variance with the factor `momentum`; if that is
    None, these are the means over all batches. After `eval()`, the running statistics normalize.
    Without `track_running_stats`, there are none, and those of the batch are used.

    >>> layer = tg.nn.BatchNorm1d(2, momentum=None)
    >>> layer([[1.0, 2.0], [3.0, 2.0]]).shape, layer.running_mean, layer.running_var
    ((2, 2), Tensor([2., 2.]), Tensor([2., 0.]))
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """A layer that computes `batch_norm` of inputs (n, num_features, height, width).

    The parameters are those of `BatchNorm1d`.

    >>> tg.nn.BatchNorm2d(3)(np.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """A layer that computes `batch_norm` of inputs (n, num_features, depth, height, width).

    The parameters are those of `BatchNorm1d`.

    >>> tg.nn.BatchNorm3d(3)(np.ones((2, 3, 2, 4, 4))).shape
    (2, 3, 2, 4, 4)
    """

    ranks = (5,)
