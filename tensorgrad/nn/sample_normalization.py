"""Normalization of each sample by itself: over groups of channels, single channels, neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..engine.modes import plain
from ..engine.tensor import Tensor
from .module import Module, as_input, called, require_sizes
from .normalization import ByChannel, affine_along, parameters_of, standardized, update


def group_norm(
    x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) in each group of channels, times weight, plus bias.

    `x` has shape (n, channels, *sizes); weight and bias have shape (channels,). The channels are
    divided into `num_groups` groups of equal size; each sample has statistics of its own. Wu and
    He, Group Normalization, 2018. Raises ValueError for other shapes.

    >>> tg.nn.group_norm(np.array([[1.0, 3.0, 0.0, 8.0]]), 2, eps=0)
    array([[-1.,  1., -1.,  1.]])
    """
    return _group_norm("group_norm", x, num_groups, weight, bias, eps)


def _group_norm(who: Any, x: Any, groups: int, weight: Any, bias: Any, eps: float) -> Any:
    x = as_input(x, getattr(weight, "dtype", None))
    if x.ndim < 2 or groups < 1 or x.shape[1] % groups:
        raise ValueError(
            f"{who}: an input of shape {x.shape}; it must be (n, channels, *sizes), with a number "
            f"of channels that num_groups={groups} divides"
        )
    weight, bias = parameters_of(who, x, x.shape[1:2], weight=weight, bias=bias)
    n, channels, *sizes = x.shape
    grouped = x.reshape(n, groups, channels // groups, *sizes)
    y = standardized(grouped, tuple(range(2, grouped.ndim)), eps)[0].reshape(x.shape)
    return affine_along(y, weight, bias, (0, *range(2, x.ndim)))


class GroupNorm(Module):
    """A layer that computes `group_norm`. Its weight starts as ones, and its bias as zeros.

    >>> layer = tg.nn.GroupNorm(2, 4)
    >>> layer, layer(np.ones((3, 4, 5))).shape
    (GroupNorm(2, 4), (3, 4, 5))
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> None:
        require_sizes("GroupNorm", num_groups, num_channels)
        if num_channels % num_groups:
            raise ValueError(
                f"GroupNorm({num_groups}, {num_channels}): the number of groups must divide the "
                "number of channels"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        ones = np.ones(num_channels)
        self.weight = Tensor(ones, dtype, requires_grad=True) if affine else None
        self.bias = Tensor(0 * ones, dtype, requires_grad=True) if affine else None

    def __call__(self, x: Any) -> Tensor:
        """Return the input, of shape (n, num_channels, *sizes), normalized."""
        x = as_input(x, None if self.weight is None else self.weight.dtype)
        if x.shape[1:2] != (self.num_channels,):
            raise ValueError(
                f"{self}: an input of shape {x.shape}; it must be (n, {self.num_channels}, *sizes)"
            )
        return _group_norm(self, x, self.num_groups, self.weight, self.bias, self.eps)

    def __repr__(self) -> str:
        affine = self.weight is not None
        return called(self, self.num_groups, self.num_channels, eps=self.eps, affine=affine)


def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) in each channel of each sample.

    `x` has shape (n, channels, *sizes). The result is multiplied by `weight`, and `bias` is added:
    both have shape (channels,). With `use_input_stats`, the running statistics are updated in
    place, by the means over the samples; without it, they normalize. Ulyanov, Vedaldi and
    Lempitsky, Instance Normalization, 2016. Raises ValueError for other shapes.

    >>> tg.nn.instance_norm(np.array([[[1.0, 3.0], [0.0, 8.0]]]), eps=0)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    running = running_mean, running_var
    return _instance_norm(
        "instance_norm", as_input(x), running, weight, bias, use_input_stats, momentum, eps
    )


def _instance_norm(
    who: Any,
    x: Any,
    running: tuple[Any, Any],
    weight: Any,
    bias: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
) -> Any:
    if x.ndim < 3:
        raise ValueError(f"{who}: an input of shape {x.shape}; it must be (n, channels, *sizes)")
    weight, bias = parameters_of(who, x, x.shape[1:2], weight=weight, bias=bias)
    own, axes = tuple(range(2, x.ndim)), (0, *range(2, x.ndim))
    mean, variance = running
    if not use_input_stats:
        if mean is None:
            raise ValueError(f"{who}: without use_input_stats, pass running_mean and running_var")
        scale = (variance + eps) ** -0.5
        return affine_along(affine_along(x, scale, -mean * scale, axes), weight, bias, axes)
    count = x.size // max(x.shape[0] * x.shape[1], 1)
    if count < 2:
        raise ValueError(
            f"{who}: an input of shape {x.shape} has {count} values per channel of a sample, too "
            "few for a variance"
        )
    y, batch_mean, batch_variance = standardized(x, own, eps)
    if mean is not None:
        update(mean, np.mean(plain(batch_mean), axis=0), momentum)
        unbiased = count / (count - 1) * plain(batch_variance)
        update(variance, np.mean(unbiased, axis=0), momentum)
    return affine_along(y, weight, bias, axes)


class _InstanceNorm(ByChannel):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: DTypeLike = np.float64,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def __call__(self, x: Any) -> Tensor:
        """Return the input, of shape (n, num_features, *sizes), normalized."""
        x = self._input(x)
        momentum = 0.0 if self.momentum is None else self.momentum  # as in PyTorch
        own = self.training or self.running_mean is None
        running = self.running_mean, self.running_var
        return _instance_norm(self, x, running, self.weight, self.bias, own, momentum, self.eps)


class InstanceNorm1d(_InstanceNorm):
    """A layer that computes `instance_norm` of inputs (n, num_features, length).

    With `affine`, it has a weight, which starts as ones, and a bias, as zeros. With
    `track_running_stats`, running statistics are updated in training, and normalize after `eval()`.

    >>> tg.nn.InstanceNorm1d(2)(np.arange(8.0).reshape(1, 2, 4)).shape
    (1, 2, 4)
    """

    ranks = (3,)


class InstanceNorm2d(_InstanceNorm):
    """A layer that computes `instance_norm` of inputs (n, num_features, height, width).

    The parameters are those of `InstanceNorm1d`.

    >>> tg.nn.InstanceNorm2d(2)(np.arange(8.0).reshape(1, 2, 2, 2)).shape
    (1, 2, 2, 2)
    """

    ranks = (4,)


class InstanceNorm3d(_InstanceNorm):
    """A layer that computes `instance_norm` of inputs (n, num_features, depth, height, width).

    The parameters are those of `InstanceNorm1d`.

    >>> tg.nn.InstanceNorm3d(1)(np.arange(8.0).reshape(1, 1, 2, 2, 2)).shape
    (1, 1, 2, 2, 2)
    """

    ranks = (5,)


def local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Return x / (k + alpha * mean) ** beta, with the mean of x² over `size` neighbouring channels.

    `x` has shape (n, channels, *sizes). There are size // 2 neighbours before a channel, and
    (size - 1) // 2 after it; those beyond the first and the last channel count as 0. Krizhevsky,
    Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, 2012.

    >>> tg.nn.local_response_norm(np.array([[[1.0], [2.0]]]), 2, alpha=2.0, beta=1.0)[0, :, 0]
    array([0.5       , 0.33333333])
    """
    x = as_input(x)
    if x.ndim < 3 or size < 1:
        raise ValueError(
            f"local_response_norm: an input of shape {x.shape} and size={size}: they must be "
            "(n, channels, *sizes), and at least 1"
        )
    around = [(0, 0)] * x.ndim
    around[1] = (size // 2, (size - 1) // 2)
    squares = np.pad(np.square(x), around)
    channels = x.shape[1]
    total = sum(squares[:, i : i + channels] for i in range(size))
    return x / (k + alpha / size * total) ** beta


class LocalResponseNorm(Module):
    """A layer that computes `local_response_norm`.

    >>> tg.nn.LocalResponseNorm(2)
    LocalResponseNorm(2)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        require_sizes("LocalResponseNorm", size)
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def __call__(self, x: Any) -> Tensor:
        """Return the input, of shape (n, channels, *sizes), normalized."""
        return local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def __repr__(self) -> str:
        return called(self, self.size, alpha=self.alpha, beta=self.beta, k=self.k)
