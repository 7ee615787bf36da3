"""Losses: functions of predictions and targets that training minimizes.

Names, parameters, defaults and formulas are those of `torch.nn.functional`; `dim` is called `axis`.
Arguments are tensors, arrays or lists. `reduction` is "mean", "sum", or "none", which returns the
loss of each element or sample. A term with probability or weight 0 is 0, even if its logarithm or
its loss is infinite.
"""

import math
from typing import Any, Literal, TypeAlias

import numpy as np

from ..engine.custom import differentiable
from ..engine.interpreter import Requirement
from ..engine.modes import mode, plain
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..special import magnitude, silent
from .activations import sigmoid
from .module import as_input, floating

Reduction: TypeAlias = Literal["mean", "sum", "none"]


def reduced(losses: Any, reduction: str) -> Any:
    """The losses, their sum or their mean."""
    check_reduction(reduction)
    return losses if reduction == "none" else getattr(np, reduction)(losses)


def check_reduction(reduction: str) -> None:
    """Raise a ValueError for an unknown reduction."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", not {reduction!r}')


def pair_of(name: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    """A prediction and a target of the same shape, in a floating dtype; or raise a ValueError."""
    prediction = as_input(prediction)
    dtype = floating(prediction.dtype)
    target = as_input(target, dtype)
    if prediction.shape != target.shape:
        raise ValueError(
            f"{name}: a prediction of shape {prediction.shape} and a target of shape "
            f"{target.shape}: the shapes must be equal; reshape one of them"
        )
    return prediction, target.astype(dtype) if target.dtype.kind in "iub" else target


def product(share: Any, x: Any) -> Any:
    """share * x, but 0 where share is 0 and x is infinite."""
    return np.where((share == 0) & (x == x), 0, share * x)


@silent(lambda g, _z, _share, x: g * x, lambda g, _z, share, _x: g * share)
@shown_as("multiply")
def _weighted(share: Any, x: Any) -> Any:
    return product(share, x)


# -- regression


def mse_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """Return the mean squared difference.

    Raises ValueError for two different shapes, even if NumPy would broadcast them.

    >>> tg.nn.mse_loss(np.array([1.0, 2.0]), [1.0, 4.0])
    np.float64(2.0)
    """
    prediction, target = pair_of("mse_loss", prediction, target)
    if reduction == "mean":
        return _mean_square(prediction, target)
    return reduced(np.square(prediction - target), reduction)


def _mean_square_back(g: Any, _y: Any, x: Any, t: Any) -> Any:
    return g * (2 / max(x.size, 1)) * (x - t)


@differentiable(_mean_square_back, lambda g, _y, x, t: -_mean_square_back(g, _y, x, t))
@shown_as("mse_loss")
def _mean_square(x: Any, t: Any) -> Any:
    difference = x - t
    return np.mean(difference * difference)


def l1_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """Return the mean absolute difference; its derivative at a difference of 0 is 0.

    Raises ValueError for two different shapes.

    >>> tg.nn.l1_loss(np.array([1.0, 2.0]), [1.0, 4.0])
    np.float64(1.0)
    """
    prediction, target = pair_of("l1_loss", prediction, target)
    return reduced(np.absolute(prediction - target), reduction)


def huber_loss(
    prediction: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0
) -> Tensor:
    """Return the mean of d² / 2 for differences |d| <= delta, and delta * (|d| - delta / 2) beyond.

    So outliers have gradients of at most `delta`. Huber, Robust Estimation of a Location Parameter,
    1964. Raises ValueError for two different shapes.

    >>> tg.nn.huber_loss(np.array([1.0, 3.0]), [0.0, 0.0], reduction="none")
    array([0.5, 2.5])
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive, not {delta}")
    prediction, target = pair_of("huber_loss", prediction, target)
    return reduced(_huber(prediction - target, delta), reduction)


def _huber_back(g: Any, _y: Any, x: Any, delta: float) -> Any:
    if x.dtype.kind == "c":
        size = np.absolute(x)
        return g * np.conjugate(x) * np.where(size > delta, delta / np.maximum(size, delta), 1)
    return g * np.clip(x, -delta, delta)


@differentiable(_huber_back, form="elementwise")
@shown_as("huber_loss")
def _huber(x: Any, delta: float) -> Any:
    size = np.absolute(x)
    bent = np.minimum(size, delta)
    return bent * (size - 0.5 * bent)


def smooth_l1_loss(
    prediction: Any, target: Any, reduction: Reduction = "mean", beta: float = 1.0
) -> Tensor:
    """Return the mean of d² / (2 * beta) for differences |d| <= beta, and |d| - beta / 2 beyond.

    It is `huber_loss` with delta=beta, divided by `beta`; with beta=0, it is `l1_loss`.

    >>> tg.nn.smooth_l1_loss(np.array([1.0, 3.0]), [0.0, 0.0], reduction="none", beta=2.0)
    array([0.25, 2.  ])
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must be at least 0, not {beta}")
    prediction, target = pair_of("smooth_l1_loss", prediction, target)
    if beta == 0:
        return l1_loss(prediction, target, reduction)
    return huber_loss(prediction, target, reduction, delta=beta) / beta


# -- two classes


def binary_cross_entropy(
    prediction: Any, target: Any, weight: Any = None, reduction: Reduction = "mean"
) -> Tensor:
    """Return the mean of -(t * log(p) + (1 - t) * log(1 - p)), for predictions p and targets t.

    Logarithms are at least -100, so that a certain but wrong prediction has the loss 100; in the
    derivative, the denominator p * (1 - p) is at least 1e-12. The losses are multiplied by
    `weight`, which broadcasts. For logits, `binary_cross_entropy_with_logits` is more precise.
    Raises ValueError for a prediction outside the range 0 to 1, and for two different shapes.

    >>> tg.nn.binary_cross_entropy(np.array([0.5, 0.0]), [1.0, 1.0], reduction="none")
    array([  0.69314718, 100.        ])
    """
    prediction, target = pair_of("binary_cross_entropy", prediction, target)
    requirement = Requirement(_check_probabilities, lambda p: ~((p < 0) | (p > 1)))
    mode.get().interpreter.effect(requirement, plain(prediction))
    losses = _binary_loss(prediction, target)
    losses = losses if weight is None else losses * as_input(weight, losses.dtype)
    return reduced(losses, reduction)


def _check_probabilities(prediction: Any) -> None:
    if np.any((prediction < 0) | (prediction > 1)):
        raise ValueError(
            "binary_cross_entropy: a prediction outside the range 0 to 1, which is no probability: "
            "for logits, use binary_cross_entropy_with_logits"
        )


def _clamped_logs(p: Any) -> tuple[Any, Any]:
    return np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)


def _binary_loss_back(g: Any, _y: Any, p: Any, t: Any) -> Any:
    return g * ((p - t) / np.maximum(p * (1 - p), 1e-12))


def _binary_loss_back_target(g: Any, _y: Any, p: Any, _t: Any) -> Any:
    yes, no = _clamped_logs(p)
    return g * (no - yes)


@silent(_binary_loss_back, _binary_loss_back_target)
@shown_as("binary_cross_entropy")
def _binary_loss(p: Any, t: Any) -> Any:
    yes, no = _clamped_logs(p)
    return -(t * yes + (1 - t) * no)


def binary_cross_entropy_with_logits(
    prediction: Any,
    target: Any,
    weight: Any = None,
    reduction: Reduction = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """Return `binary_cross_entropy` of the sigmoid of the prediction, without loss of precision.

    The term of target 1 is multiplied by `pos_weight`, and the loss by `weight`; both broadcast.
    Raises ValueError for two different shapes.

    >>> scores = np.array([0.0, -1e4])
    >>> tg.nn.binary_cross_entropy_with_logits(scores, [1.0, 1.0], reduction="none")
    array([6.93147181e-01, 1.00000000e+04])
    """
    prediction, target = pair_of("binary_cross_entropy_with_logits", prediction, target)
    positive = 1 if pos_weight is None else as_input(pos_weight, floating(prediction.dtype))
    losses = _logit_loss(prediction, target, positive)
    losses = losses if weight is None else _weighted(as_input(weight, losses.dtype), losses)
    return reduced(losses, reduction)


def _minus_logs(x: Any) -> tuple[Any, Any]:
    """Minus the logarithms of the sigmoids of x and of -x."""
    both = np.log1p(np.exp(-magnitude(x)))
    return both - np.minimum(x, 0), both + np.maximum(x, 0)


def _logit_loss_back(g: Any, _y: Any, x: Any, t: Any, positive: Any) -> Any:
    return g * ((1 - t) * sigmoid(x) - positive * t * sigmoid(-x))


def _logit_loss_back_target(g: Any, _y: Any, x: Any, _t: Any, positive: Any) -> Any:
    yes, no = _minus_logs(x)
    return g * (positive * yes - no)


def _logit_loss_back_positive(g: Any, _y: Any, x: Any, t: Any, _positive: Any) -> Any:
    return g * product(t, _minus_logs(x)[0])


@silent(_logit_loss_back, _logit_loss_back_target, _logit_loss_back_positive)
@shown_as("binary_cross_entropy_with_logits")
def _logit_loss(x: Any, t: Any, positive: Any) -> Any:
    yes, no = _minus_logs(x)
    return product(positive * t, yes) + product(1 - t, no)


# -- distributions


def kl_div(
    prediction: Any,
    target: Any,
    reduction: Literal["mean", "sum", "none", "batchmean"] = "mean",
    log_target: bool = False,
) -> Tensor:
    """Return the mean of the terms t * (log(t) - prediction) of the Kullback-Leibler divergence.

    The prediction holds logarithms of probabilities. The target, of the same shape, holds
    probabilities t, or with `log_target` their logarithms. The divergence of one sample is the sum
    of its terms: "batchmean" is the sum of all terms divided by the length of the first axis.
    Raises ValueError for two different shapes.

    >>> p, t = np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]])
    >>> print(f"{tg.nn.kl_div(np.log(p), t, reduction='batchmean'):.4f}")
    0.6931
    """
    prediction, target = pair_of("kl_div", prediction, target)
    losses = (_log_divergence if log_target else _divergence)(prediction, target)
    if reduction == "batchmean":
        return np.sum(losses) / len(losses)
    return reduced(losses, reduction)


@silent(lambda g, _y, _x, t: -g * t, lambda g, _y, x, t: g * (np.log(t) - x + 1))
@shown_as("kl_div")
def _divergence(x: Any, t: Any) -> Any:
    return np.where((t == 0) & (x == x), 0, t * (np.log(t) - x))


def _log_difference(x: Any, t: Any) -> Any:
    return np.where(t == -np.inf, 0, t - x)


def _log_divergence_back_target(g: Any, _y: Any, x: Any, t: Any) -> Any:
    return g * product(np.exp(t), 1 + _log_difference(x, t))


@silent(lambda g, _y, _x, t: -g * np.exp(t), _log_divergence_back_target)
@shown_as("kl_div")
def _log_divergence(x: Any, t: Any) -> Any:
    return product(np.exp(t), _log_difference(x, t))


def gaussian_nll_loss(
    prediction: Any,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the mean of (log(var) + (prediction - target)² / var) / 2.

    That is minus the logarithm of the density of a normal distribution at the target, without its
    constant; with `full`, the constant log(2 * pi) / 2 is added. `prediction` is the mean, `var`
    the variance: a number, or an array that broadcasts to the shape of the prediction. Variances
    below `eps` count as `eps`, and then have no gradient. Nix and Weigend, Estimating the Mean and
    Variance of the Target Probability Distribution, 1994. Raises ValueError for a negative variance
    and for shapes that do not match.

    >>> tg.nn.gaussian_nll_loss(np.array([1.0, 3.0]), [1.0, 1.0], 4.0, reduction="none")
    array([0.69314718, 1.19314718])
    """
    prediction, target = pair_of("gaussian_nll_loss", prediction, target)
    var = as_input(var, prediction.dtype)
    if np.broadcast_shapes(var.shape, prediction.shape) != prediction.shape:
        raise ValueError(
            f"gaussian_nll_loss: a variance of shape {var.shape} for a prediction of shape "
            f"{prediction.shape}: it must broadcast to that shape"
        )
    requirement = Requirement(_check_variance, lambda v: ~(v < 0))
    mode.get().interpreter.effect(requirement, plain(var))
    var = np.maximum(var, eps)
    losses = 0.5 * (np.log(var) + np.square(prediction - target) / var)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def _check_variance(var: Any) -> None:
    if np.any(var < 0):
        raise ValueError(
            "gaussian_nll_loss: a negative variance: pass the variance itself, as by softplus, not "
            "its logarithm"
        )


def poisson_nll_loss(
    prediction: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the mean of exp(prediction) - target * prediction, for counts as targets.

    That is minus the logarithm of the probability of a Poisson distribution, without log(target!).
    The prediction is the logarithm of its rate. Without `log_input`, it is the rate itself, and the
    term is prediction - target * log(prediction + eps). With `full`, Stirling's approximation of
    log(target!) is added for targets above 1. Raises ValueError for two different shapes.

    >>> tg.nn.poisson_nll_loss(np.array([0.0, 1.0]), [3.0, 0.0], reduction="none")
    array([1.        , 2.71828183])
    """
    prediction, target = pair_of("poisson_nll_loss", prediction, target)
    if log_input:
        losses = np.exp(prediction) - target * prediction
    else:
        losses = prediction - target * np.log(prediction + eps)
    if full:
        count = np.maximum(target, 1)  # whose logarithm is 0 where nothing is added
        rest = target * np.log(count) - target + 0.5 * np.log(2 * math.pi * count)
        losses = losses + np.where(target > 1, rest, 0)
    return reduced(losses, reduction)
