"""Activations: functions of a tensor or an array, element by element. Tanh is `numpy.tanh`.

Names, parameters and the derivatives at kinks are those of `torch.nn.functional`; `dim` is called
`axis`.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from .. import special
from ..data import RNG
from ..engine.custom import differentiable
from ..engine.modes import plain
from ..engine.randomness import draw_uniform
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..engine.typing import Axis
from ..guide import guided
from ..rules.selection import masked
from ..special import expit as sigmoid, log_expit as log_sigmoid, logsumexp, magnitude, silent
from .module import as_input, floating

Activation: TypeAlias = Callable[[Any], Any]

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "celu",
    "elu",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanhshrink",
    "threshold",
]


def identity(x: Any) -> Tensor:
    """Return `x` as it is: no activation."""
    return x


# -- piecewise linear


@differentiable(lambda g, y, _x: masked(g, y != 0), form="elementwise")
def relu(x: Any) -> Tensor:
    """Return the larger of `x` and 0; at 0 the derivative is 0.

    >>> tg.nn.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return np.maximum(x, 0)


def _leaky_relu_back(g: Any, _y: Any, x: Any, negative_slope: float = 0.01) -> Any:
    positive = x > 0
    return masked(g, positive) + negative_slope * masked(g, ~positive)


@differentiable(_leaky_relu_back, form="elementwise")
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """Return `x` above 0 and `negative_slope * x` below; at 0 the derivative is `negative_slope`.

    >>> tg.nn.leaky_relu(np.array([-100.0, 0.0, 2.0]))
    array([-1.,  0.,  2.])
    """
    return np.maximum(x, 0) + negative_slope * np.minimum(x, 0)


def rrelu(
    x: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, rng: RNG = None
) -> Tensor:
    """Return `leaky_relu` with a slope of (lower + upper) / 2; in training, with random slopes.

    With `training`, each element has a slope that is uniform in the range `lower` to `upper`. `rng`
    is a NumPy Generator, which advances, or a seed. Xu and others, Empirical Evaluation of
    Rectified Activations in Convolutional Network, 2015. Raises ValueError for an empty range.

    >>> tg.nn.rrelu(np.array([-1.0, 2.0]), 0.25, 0.5)
    array([-0.375,  2.   ])
    """
    if not lower <= upper:
        raise ValueError(f"rrelu: lower={lower} is greater than upper={upper}")
    x = as_input(x)
    if not training:
        return leaky_relu(x, (lower + upper) / 2)
    slopes = lower + (upper - lower) * draw_uniform(rng, x.shape, np.float64)
    return x * np.where(plain(x) > 0, 1, slopes).astype(floating(x.dtype))


def _hardtanh_back(g: Any, _y: Any, x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    return masked(g, (x > min_val) & (x < max_val))


@differentiable(_hardtanh_back, form="elementwise")
def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """Return `x` clipped to the range `min_val` to `max_val`.

    At the bounds and beyond them the derivative is 0. Raises ValueError for an empty range.

    >>> tg.nn.hardtanh(np.array([-2.0, 0.5, 2.0]))
    array([-1. ,  0.5,  1. ])
    """
    if not min_val <= max_val:
        raise ValueError(f"hardtanh: min_val={min_val} is greater than max_val={max_val}")
    return np.minimum(np.maximum(x, min_val), max_val)


def relu6(x: Any) -> Tensor:
    """Return `hardtanh(x, 0, 6)`.

    >>> tg.nn.relu6(np.array([-2.0, 0.5, 8.0]))
    array([0. , 0.5, 6. ])
    """
    return hardtanh(x, 0, 6)


def hardsigmoid(x: Any) -> Tensor:
    """Return `x / 6 + 1 / 2` clipped to the range 0 to 1: a piecewise linear `sigmoid`.

    >>> tg.nn.hardsigmoid(np.array([-4.0, 0.0, 1.5]))
    array([0.  , 0.5 , 0.75])
    """
    return relu6(x + 3) / 6


def hardswish(x: Any) -> Tensor:
    """Return `x * hardsigmoid(x)`, an approximation of `silu`.

    >>> tg.nn.hardswish(np.array([-4.0, 0.0, 1.5]))
    array([-0.   ,  0.   ,  1.125])
    """
    return x * hardsigmoid(x)


def _threshold_back(g: Any, _y: Any, x: Any, threshold: float, _value: float) -> Any:
    return masked(g, ~(x <= threshold))


@differentiable(_threshold_back, form="elementwise")
def threshold(x: Any, threshold: float, value: float) -> Tensor:
    """Return `x` above the threshold, and `value` up to it, where the derivative is 0.

    >>> tg.nn.threshold(np.array([-1.0, 0.5, 2.0]), 0.5, 20.0)
    array([20., 20.,  2.])
    """
    y: Any = np.where(x <= threshold, value, x)
    return y


def _shrink_back(g: Any, _y: Any, x: Any, lambd: float = 0.5) -> Any:
    return masked(g, ~(np.absolute(x) <= lambd))


@differentiable(_shrink_back, form="elementwise")
def hardshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """Return `x`, but 0 where |x| <= lambd; there the derivative is 0.

    >>> tg.nn.hardshrink(np.array([-1.0, 0.5, 2.0]))
    array([-1.,  0.,  2.])
    """
    y: Any = np.where(np.absolute(x) <= lambd, 0, x)
    return y


@differentiable(_shrink_back, form="elementwise")
def softshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """Return `x` moved towards 0 by `lambd`, and 0 where |x| <= lambd; there the derivative is 0.

    >>> tg.nn.softshrink(np.array([-1.0, 0.25, 2.0]))
    array([-0.5,  0. ,  1.5])
    """
    if lambd < 0:
        raise ValueError(f"softshrink: lambd must be at least 0, not {lambd}")
    y: Any = np.where(np.absolute(x) <= lambd, 0, x - np.copysign(lambd, x))
    return y


def prelu(x: Any, weight: Any) -> Tensor:
    """Return `x` above 0 and `weight * x` below, where the weight is learned.

    The weight is one number, of shape () or (1,), or of shape (channels,), for an input of shape
    (n, channels, *sizes). He and others, Delving Deep into Rectifiers, 2015. Raises ValueError for
    other shapes.

    >>> tg.nn.prelu(np.array([[-2.0, 3.0], [-2.0, -2.0]]), np.array([0.5, 0.25]))
    array([[-1. ,  3. ],
           [-1. , -0.5]])
    """
    x, weight = as_input(x), as_input(weight)
    if weight.size != 1:
        if weight.ndim != 1 or x.ndim < 2 or weight.shape != x.shape[1:2]:
            raise ValueError(
                f"prelu: a weight of shape {weight.shape} for an input of shape {x.shape}: it must "
                "be one number, or one for each channel of an input (n, channels, *sizes)"
            )
        weight = weight.reshape(-1, *[1] * (x.ndim - 2))
    elif weight.ndim:
        weight = weight.reshape(())
    return np.maximum(x, 0) + weight * np.minimum(x, 0)


# -- exponentials


def _elu_back(g: Any, _y: Any, x: Any, alpha: float = 1.0) -> Any:
    positive = x > 0
    return g * (positive + alpha * np.exp(np.minimum(x, 0)) * ~positive)


@silent(_elu_back)
def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """Return `x` above 0 and `alpha * (exp(x) - 1)` below; at 0 the derivative is `alpha`.

    >>> tg.nn.elu(np.array([-1000.0, 0.0, 2.0]))
    array([-1.,  0.,  2.])
    """
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))


def selu(x: Any) -> Tensor:
    """Return `elu` scaled such that the mean stays near 0 and the variance near 1, layer by layer.

    Klambauer and others, Self-Normalizing Neural Networks, 2017.

    >>> tg.nn.selu(np.array([0.0, 1.0]))
    array([0.        , 1.05070099])
    """
    return 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)


@silent(lambda g, _y, x, alpha=1.0: g * np.exp(np.minimum(x, 0) / alpha))
def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """Return `x` above 0 and `alpha * (exp(x / alpha) - 1)` below: an `elu` without a kink.

    >>> tg.nn.celu(np.array([-1000.0, 0.0, 2.0]), alpha=0.5)
    array([-0.5,  0. ,  2. ])
    """
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha)


@silent(lambda g, _y, x, beta=1.0: g * sigmoid(beta * x))
def softplus(x: Any, beta: float = 1.0) -> Tensor:
    """Return log(1 + exp(beta * x)) / beta, a smooth `relu`, without overflow.

    >>> tg.nn.softplus(np.array([-1000.0, 0.0, 1000.0]))
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    return np.maximum(x, 0) + np.log1p(np.exp(-magnitude(beta * x))) / beta


def _silu_back(g: Any, _y: Any, x: Any) -> Any:
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


@silent(_silu_back)
def silu(x: Any) -> Tensor:
    """Return `x * sigmoid(x)`, also known as swish.

    >>> tg.nn.silu(np.array([-1000.0, 0.0, 1000.0]))
    array([  -0.,    0., 1000.])
    """
    return x * sigmoid(x)


def mish(x: Any) -> Tensor:
    """Return `x * tanh(softplus(x))`.

    >>> tg.nn.mish(np.array([-1000.0, 0.0, 1000.0]))
    array([  -0.,    0., 1000.])
    """
    return x * np.tanh(softplus(x))


def gelu(x: Any, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """Return `x` times the probability that a standard normal variable is less than `x`.

    With `approximate="tanh"`, return x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2,
    which differs by less than 0.0005 and takes less time. Hendrycks and Gimpel, Gaussian Error
    Linear Units, 2016.

    >>> tg.nn.gelu(np.array([-1000.0, 0.0, 1.0]))
    array([-0.        ,  0.        ,  0.84134475])
    """
    return gelu_of(approximate)(x)


def gelu_of(approximate: str) -> Activation:
    """Return the function that `gelu` calls for this value of `approximate`."""
    functions = {"none": _gelu, "tanh": _gelu_by_tanh}
    if approximate not in functions:
        raise ValueError(f'gelu: approximate must be "none" or "tanh", not {approximate!r}')
    return functions[approximate]


def _gelu_back(g: Any, _y: Any, x: Any) -> Any:
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return g * (special.ndtr(x) + x * density).astype(x.dtype)  # SciPy has no float16


@silent(_gelu_back)
@shown_as("gelu")
def _gelu(x: Any) -> Any:
    return x * special.ndtr(x)


def _bend(x: Any) -> tuple[Any, Any]:
    """The argument u of the sigmoid, and x * du/dx; (1 + tanh(u / 2)) / 2 is sigmoid(u)."""
    x = np.maximum(np.minimum(x, 30), -30)  # beyond, the sigmoid is 0 or 1
    slope = 2 * math.sqrt(2 / math.pi)
    return slope * (x + 0.044715 * x * x * x), x * (slope * (1 + 3 * 0.044715 * x * x))


def _gelu_by_tanh_back(g: Any, _y: Any, x: Any) -> Any:
    u, x_times_slope = _bend(x)
    s = sigmoid(u)
    return g * (s * (1 + x_times_slope * (1 - s)))


@silent(_gelu_by_tanh_back)
@shown_as("gelu")
def _gelu_by_tanh(x: Any) -> Any:
    return x * sigmoid(_bend(x)[0])


def softsign(x: Any) -> Tensor:
    """Return `x / (1 + |x|)`.

    >>> tg.nn.softsign(np.array([-1.0, 0.0, 3.0]))
    array([-0.5 ,  0.  ,  0.75])
    """
    return x / (1 + np.absolute(x))


def tanhshrink(x: Any) -> Tensor:
    """Return `x - tanh(x)`.

    >>> tg.nn.tanhshrink(np.array([0.0, 1000.0]))
    array([  0., 999.])
    """
    return x - np.tanh(x)


# -- along an axis


@guided
def softmax(x: Any, axis: Axis = -1) -> Tensor:
    """Return exp(x) / sum(exp(x)), where the sum is over `axis`: an int, a tuple, or None for all.

    The result is NaN if all elements are -inf. `tg.special.softmax` is the same function, but sums
    over all axes by default.

    >>> tg.nn.softmax(np.array([[1e4, 1e4], [1e4, -1e4]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return special.softmax(x, axis)


@guided
def log_softmax(x: Any, axis: Axis = -1) -> Tensor:
    """Return the logarithm of `softmax`, x - logsumexp(x), over `axis`.

    `tg.special.log_softmax` is the same function, but sums over all axes by default.

    >>> tg.nn.log_softmax(np.array([[0.0, 0.0], [1e4, -1e4]]))
    array([[-6.93147181e-01, -6.93147181e-01],
           [ 0.00000000e+00, -2.00000000e+04]])
    """
    return special.log_softmax(x, axis)


@guided
def gumbel_softmax(
    logits: Any, tau: float = 1.0, hard: bool = False, axis: int = -1, rng: RNG = None
) -> Tensor:
    """Draw from a categorical distribution along an axis, as a differentiable `softmax`.

    `logits` are unnormalized logarithms of probabilities. Noise with a Gumbel distribution is added
    to them, and the softmax of the sum over the temperature `tau` is returned. With `hard`, it is
    rounded to a vector of zeros with a single 1, while the derivative stays that of the softmax.
    `rng` is a NumPy Generator, which advances, or a seed. Jang and others, Categorical
    Reparameterization with Gumbel-Softmax, 2017.

    >>> tg.nn.gumbel_softmax(np.log([0.1, 0.8, 0.1]), hard=True, rng=0)
    array([0., 1., 0.])
    """
    logits = as_input(logits)
    if not tau > 0:
        raise ValueError(f"gumbel_softmax: tau={tau} is not positive")
    dtype = floating(logits.dtype)
    drawn = np.maximum(draw_uniform(rng, logits.shape, np.float64), np.finfo(float).tiny)
    noise = -np.log(-np.log(drawn))
    soft: Any = softmax((logits + noise.astype(dtype)) / tau, axis)
    if not hard:
        return soft
    last = np.moveaxis(plain(soft), axis, -1)
    is_best = np.argmax(last, axis=-1)[..., None] == np.arange(last.shape[-1])
    rounded = np.moveaxis(is_best, -1, axis).astype(soft.dtype)
    return (soft - plain(soft)) + rounded


@guided
def softmin(x: Any, axis: Axis = -1) -> Tensor:
    """Return `softmax(-x)` over `axis`: the smallest elements get the largest shares.

    >>> tg.nn.softmin(np.array([0.0, 0.0, 1e4]))
    array([0.5, 0.5, 0. ])
    """
    return softmax(-1.0 * x, axis)  # unsigned integers have no negative


@guided
def glu(x: Any, axis: int = -1) -> Tensor:
    """Return a * sigmoid(b), where a and b are the two halves of `x` along `axis`.

    Dauphin and others, Language Modeling with Gated Convolutional Networks, 2017. Raises ValueError
    if the axis has an odd length.

    >>> tg.nn.glu(np.array([1.0, 2.0, 0.0, 1000.0]))
    array([0.5, 2. ])
    """
    x = as_input(x)
    axis = normalize_axis_index(axis, x.ndim, "glu")
    if x.shape[axis] % 2:
        raise ValueError(f"glu: axis {axis} of shape {x.shape} must have an even length")
    a: Any
    a, b = np.split(x, 2, axis)
    return a * sigmoid(b)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": np.tanh,
    "relu": relu,
    "sigmoid": sigmoid,
    "linear": identity,
    "gelu": gelu,
}


def activation_of(activation: str | Activation) -> Activation:
    """Return the function of that name in `ACTIVATIONS`; return a function unchanged."""
    if isinstance(activation, type):
        raise TypeError(f"activation is a class: make one, {activation.__name__}(), or use a name")
    if not isinstance(activation, str):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {activation!r}: use one of {[*ACTIVATIONS]}, or a function"
        )
    return ACTIVATIONS[activation]
