"""Dropout: in training, random elements or channels are set to a constant."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..data import RNG
from ..engine.randomness import draw_uniform
from ..engine.tensor import Tensor
from ..engine.typing import Function
from .module import Module, as_input, called, floating

# What SELU tends to for very small numbers: the value that alpha dropout sets.
_SATURATED = -1.7580993408473766


def dropout(x: Any, p: float = 0.5, training: bool = True, rng: RNG = None) -> Tensor:
    """Set each element of `x` to 0 with probability `p`, and divide the others by 1 - p.

    Without `training`, return `x` unchanged. `rng` is a NumPy Generator, which advances, or a seed.
    Which elements are dropped depends on the shape, but not on the dtype. Srivastava and others,
    Dropout, 2014.

    >>> tg.nn.dropout(np.ones(6), rng=1)
    array([0., 2., 2., 2., 0., 0.])
    """
    _require_probability("dropout", p)
    x = as_input(x)
    return _scaled(x, x.shape, p, rng) if training and p else x


def dropout1d(x: Any, p: float = 0.5, training: bool = True, rng: RNG = None) -> Tensor:
    """Set each channel of `x`, shape (n, channels, length), to 0 with probability `p`.

    The others are divided by 1 - p. One sample has shape (channels, length). All else is as in
    `dropout`. Tompson and others, Efficient Object Localization Using Convolutional Networks, 2015.

    >>> tg.nn.dropout1d(np.ones((1, 4, 2)), rng=1)
    array([[[0., 0.],
            [2., 2.],
            [2., 2.],
            [2., 2.]]])
    """
    return _of_channels("dropout1d", x, p, training, rng, {2: 1, 3: 2})


def dropout2d(x: Any, p: float = 0.5, training: bool = True, rng: RNG = None) -> Tensor:
    """Set each channel of `x`, shape (n, channels, height, width), to 0 with probability `p`.

    An input with three axes is (n, channels, length), as in PyTorch. All else is as in `dropout1d`.

    >>> np.unique(tg.nn.dropout2d(np.ones((2, 3, 4, 4)), rng=0).reshape(6, -1).sum(1))
    array([ 0., 32.])
    """
    return _of_channels("dropout2d", x, p, training, rng, {3: 2, 4: 2})


def dropout3d(x: Any, p: float = 0.5, training: bool = True, rng: RNG = None) -> Tensor:
    """Set each channel of `x`, (n, channels, depth, height, width), to 0 with probability `p`.

    One sample has four axes. All else is as in `dropout1d`.

    >>> np.unique(tg.nn.dropout3d(np.ones((2, 3, 2, 2, 2)), rng=0).reshape(6, -1).sum(1))
    array([ 0., 16.])
    """
    return _of_channels("dropout3d", x, p, training, rng, {4: 1, 5: 2})


def alpha_dropout(x: Any, p: float = 0.5, training: bool = False, rng: RNG = None) -> Tensor:
    """Set each element of `x` to about -1.758 with probability `p`, and then scale and shift all.

    As in PyTorch, `x` is returned unless `training` is passed. -1.758 is what `selu` tends to for
    small numbers. The mean and the deviation of the elements stay the same if they were 0 and 1.
    With `p=1`, all elements are 0. All else is as in `dropout`. Klambauer and others,
    Self-Normalizing Neural Networks, 2017.

    >>> tg.nn.alpha_dropout(np.ones(4), training=True, rng=1).round(3)
    array([-0.779,  1.666,  1.666,  1.666])
    """
    _require_probability("alpha_dropout", p)
    x = as_input(x)
    return _alpha(x, x.shape, p, rng) if training and p else x


def feature_alpha_dropout(
    x: Any, p: float = 0.5, training: bool = False, rng: RNG = None
) -> Tensor:
    """Compute `alpha_dropout` of each channel as a whole; `x` has shape (n, channels, ...).

    >>> tg.nn.feature_alpha_dropout(np.ones((1, 2, 2)), training=True, rng=1).round(3)
    array([[[-0.779, -0.779],
            [ 1.666,  1.666]]])
    """
    _require_probability("feature_alpha_dropout", p)
    x = as_input(x)
    if x.ndim < 2:
        raise ValueError(
            f"feature_alpha_dropout: an input of shape {x.shape}; it must be (n, channels, ...)"
        )
    return _alpha(x, (*x.shape[:2], *[1] * (x.ndim - 2)), p, rng) if training and p else x


def _require_probability(name: str, p: float) -> None:
    if not (isinstance(p, (int, float, np.number)) and 0 <= p <= 1):
        raise ValueError(f"{name}: p={p!r} is not a probability: it must be from 0 to 1")


def _scaled(x: Any, shape: tuple[int, ...], p: float, rng: RNG) -> Tensor:
    """`x`, some of whose parts, as many as `shape` has elements, are 0, and the others larger."""
    kept = draw_uniform(rng, shape, np.float32) >= p
    scale = np.asarray(1 / (1 - p) if p < 1 else 0, floating(x.dtype))
    return x * (kept * scale)


def _alpha(x: Any, shape: tuple[int, ...], p: float, rng: RNG) -> Tensor:
    if p == 1:
        return _scaled(x, shape, p, rng)
    kept = draw_uniform(rng, shape, np.float32) >= p
    scale = ((1 - p) * (1 + p * _SATURATED**2)) ** -0.5
    dtype = floating(x.dtype)
    shift = np.where(kept, dtype.type(0), dtype.type(scale * _SATURATED))
    return x * (kept * dtype.type(scale)) + (shift - dtype.type(scale * p * _SATURATED))


def _of_channels(
    name: str, x: Any, p: float, training: bool, rng: RNG, kept_axes: dict[int, int]
) -> Tensor:
    """Drop channels; `kept_axes` says how many axes come before those in a channel."""
    _require_probability(name, p)
    x = as_input(x)
    if x.ndim not in kept_axes:
        raise ValueError(
            f"{name}: an input of shape {x.shape}; it must have "
            f"{' or '.join(map(str, kept_axes))} axes"
        )
    count = kept_axes[x.ndim]
    shape = (*x.shape[:count], *[1] * (x.ndim - count))
    return _scaled(x, shape, p, rng) if training and p else x


class _Dropout(Module):
    drop: ClassVar[Function]

    def __init__(self, p: float = 0.5, rng: RNG = None) -> None:
        _require_probability(type(self).__name__, p)
        self.p = p
        self.rng = np.random.default_rng(rng)

    def __call__(self, x: Any) -> Tensor:
        """Return `x`, in training with some parts of it dropped."""
        return type(self).drop(x, self.p, self.training, self.rng)

    def __repr__(self) -> str:
        return called(self, self.p)


class Dropout(_Dropout):
    """A layer that computes `dropout` in training, and returns its input after `eval()`.

    `rng` is a NumPy Generator, which several layers may share, or a seed.

    >>> layer = tg.nn.Dropout(0.5, rng=1)
    >>> layer(np.ones(6)), layer.eval()(np.ones(6))
    (array([0., 2., 2., 2., 0., 0.]), array([1., 1., 1., 1., 1., 1.]))
    """

    drop = dropout


class Dropout1d(_Dropout):
    """A layer that computes `dropout1d` in training: see `Dropout`.

    >>> tg.nn.Dropout1d(0.25).eval()(np.ones((2, 3))).shape
    (2, 3)
    """

    drop = dropout1d


class Dropout2d(_Dropout):
    """A layer that computes `dropout2d` in training: see `Dropout`.

    >>> tg.nn.Dropout2d(0.25).eval()(np.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    drop = dropout2d


class Dropout3d(_Dropout):
    """A layer that computes `dropout3d` in training: see `Dropout`.

    >>> tg.nn.Dropout3d(0.25).eval()(np.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 4, 4, 4)
    """

    drop = dropout3d


class AlphaDropout(_Dropout):
    """A layer that computes `alpha_dropout` in training: see `Dropout`.

    >>> tg.nn.AlphaDropout(0.25).eval()(np.ones(3))
    array([1., 1., 1.])
    """

    drop = alpha_dropout


class FeatureAlphaDropout(_Dropout):
    """A layer that computes `feature_alpha_dropout` in training: see `Dropout`.

    >>> tg.nn.FeatureAlphaDropout(0.25).eval()(np.ones((2, 3)))[0]
    array([1., 1., 1.])
    """

    drop = feature_alpha_dropout
