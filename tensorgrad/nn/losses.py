"""Losses: functions of predictions and targets that training minimizes.

Names, parameters, defaults and formulas are those of `torch.nn.functional`; `dim` is called `axis`.
Arguments are tensors, arrays or lists. `reduction` is "mean", "sum", or "none", which returns the
loss of each element or sample. A term with probability or weight 0 is 0, even if its logarithm or
its loss is infinite.
"""

import functools
import math
from typing import Any, Literal, TypeAlias

import numpy as np

from ..data import check_classes, one_hot, within
from ..engine.batching import Batch
from ..engine.custom import differentiable
from ..engine.interpreter import Requirement
from ..engine.modes import is_traced, mode, plain
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..rules.indexing import scatter
from ..special import magnitude, silent
from .activations import log_softmax, sigmoid, softmax
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


def _product(share: Any, x: Any) -> Any:
    """share * x, but 0 where share is 0 and x is infinite."""
    return np.where((share == 0) & (x == x), 0, share * x)


@silent(lambda g, _z, _share, x: g * x, lambda g, _z, share, _x: g * share)
@shown_as("multiply")
def _weighted(share: Any, x: Any) -> Any:
    return _product(share, x)


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


# -- several classes


def cross_entropy(
    prediction: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean of -log(softmax(prediction)) at the class of the target.

    The prediction holds logits of C classes: shape (n, C), (C,) or (n, C, d1, ...). A target of
    integers holds classes from 0 to C - 1: shape (n,), () or (n, d1, ...). Samples with the class
    `ignore_index` are ignored. A floating target holds the probability of every class, in the shape
    of the prediction. `label_smoothing` is the part of the target's probability that is distributed
    equally over all classes. `weight`, shape (C,), holds a weight for each class; for a target of
    integers, the mean is then the weighted mean. Large logits do not overflow. Raises IndexError
    for a class out of range, and ValueError for shapes that do not match.

    >>> scores = np.array([[0.0, 0.0], [1e4, -1e4]])
    >>> tg.nn.cross_entropy(scores, [1, 1], reduction="none")
    array([6.93147181e-01, 2.00000000e+04])
    >>> print(f"{tg.nn.cross_entropy(scores[:1], [[0.25, 0.75]]):.4f}")
    0.6931
    """
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing of {label_smoothing}, not from 0 to 1")
    scores, target, weight = _by_class("cross_entropy", prediction, target, weight)
    if target.dtype.kind == "f":
        if ignore_index >= 0:
            raise ValueError(
                f"cross_entropy: ignore_index={ignore_index} is for a target of classes, but this "
                "one holds probabilities: set the weight of the class to 0"
            )
        p = _smoothed(target, label_smoothing)
        return reduced(_expected_loss(scores, p, weight), reduction)
    samples = _samples("cross_entropy", scores, target, weight, ignore_index)
    scores, classes, weights, known = samples
    total = 1 if reduction != "mean" else len(classes) if weights is None else np.sum(weights)
    if label_smoothing:
        p = _smoothed(one_hot(classes, scores.shape[-1], scores.dtype), label_smoothing)
        losses = _expected_loss(scores, p, weight)
        if known is not None and _keeps_all(known):
            losses = losses * known
        losses = losses if reduction == "none" else np.sum(losses) / total
    else:
        axis = () if reduction == "none" else None
        losses = _class_loss(scores, classes, weights, total, axis)
    return _restored(losses, known, target.shape) if reduction == "none" else losses


def _smoothed(p: Any, label_smoothing: float) -> Any:
    return (1 - label_smoothing) * p + label_smoothing / p.shape[-1]


def _class_loss_back(
    g: Any, _y: Any, x: Any, classes: Any, weights: Any, total: Any, _axis: Any
) -> Any:
    return _class_error(x, (g if weights is None else g * weights) / total, classes)


@silent(_class_loss_back, form=None)
@shown_as("cross_entropy")
def _class_loss(x: Any, classes: Any, weights: Any, total: Any, axis: Any) -> Any:
    x = x - np.maximum.reduce(x, axis=1, keepdims=True)
    chosen = x.take(_flat_indices(x, classes), mode="clip")  # classes have been checked
    losses = np.log(np.add.reduce(np.exp(x), axis=1)) - chosen
    if weights is None:
        return np.add.reduce(losses, axis=axis) / total
    return _weighted_sum(weights, losses, axis) / total


def _weighted_sum(weights: Any, losses: Any, axis: Any) -> Any:
    if axis is None and not _keeps_all(weights):
        total = np.add.reduce(weights * losses)
        if total == total:  # no infinite loss has the weight 0
            return total
    return np.add.reduce(_product(weights, losses), axis=axis)


def _flat_indices(x: Any, classes: Any) -> Any:
    """The indices of the classes in the flat scores, three times faster than a pair of indices."""
    return classes + _starts(*x.shape)


@functools.lru_cache(maxsize=16)
def _starts(rows: int, length: int) -> Any:
    starts = np.arange(rows) * length
    starts.flags.writeable = False
    return starts


def _class_error_back(g: Any, _y: Any, x: Any, scale: Any, _classes: Any) -> Any:
    p, g = softmax(x), g * np.expand_dims(scale, -1)
    return p * (g - np.sum(g * p, axis=1, keepdims=True))


def _class_error_back_scale(g: Any, _y: Any, x: Any, _scale: Any, classes: Any) -> Any:
    return np.sum(g * _class_error(x, 1, classes), axis=1)


@silent(_class_error_back, _class_error_back_scale, form=None)
@shown_as("cross_entropy")
def _class_error(x: Any, scale: Any, classes: Any) -> Any:
    """The gradient of the losses, scale * (softmax(x) - one_hot(classes))."""
    error = np.exp(x - np.maximum.reduce(x, axis=1, keepdims=True))
    scales = np.expand_dims(scale / np.add.reduce(error, axis=1), -1)
    # A compiled function reuses the exponentials of the loss, if these are not overwritten.
    error = np.multiply(error, scales, out=None if is_traced() else error)
    flat = error.reshape(-1)
    np.subtract.at(flat, _flat_indices(x, classes), scale)
    return flat.reshape(x.shape)


def _expected_loss(scores: Any, p: Any, weight: Any) -> Any:
    """The sum of -log(softmax(scores)) over all classes, weighted by the target probabilities p."""
    return _soft_loss(scores, p if weight is None else weight * p)


def _soft_loss_back(g: Any, _y: Any, x: Any, p: Any) -> Any:
    return np.expand_dims(g, -1) * (softmax(x) * np.sum(p, axis=-1, keepdims=True) - p)


def _soft_loss_back_target(g: Any, _y: Any, x: Any, _p: Any) -> Any:
    return -np.expand_dims(g, -1) * log_softmax(x)


@silent(_soft_loss_back, _soft_loss_back_target, form=None)
@shown_as("cross_entropy")
def _soft_loss(x: Any, p: Any) -> Any:
    return -np.sum(_product(p, log_softmax(x)), axis=-1)


def nll_loss(
    prediction: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the mean of minus the prediction at the class of the target.

    The prediction holds logarithms of probabilities, as from `log_softmax(x, axis=1)`. All else is
    as in `cross_entropy` with a target of integers.

    >>> tg.nn.nll_loss(np.log([[0.5, 0.5], [0.25, 0.75]]), [0, 0], reduction="none")
    array([0.69314718, 1.38629436])
    """
    check_reduction(reduction)
    scores, target, weight = _by_class("nll_loss", prediction, target, weight)
    if target.dtype.kind == "f":
        raise TypeError("nll_loss: the target must hold classes: use target.astype(int)")
    scores, classes, weights, known = _samples("nll_loss", scores, target, weight, ignore_index)
    losses = _picked_loss(scores, classes, 1 if weights is None else weights)
    if reduction == "mean" and weights is not None:
        return np.sum(losses) / np.sum(weights)
    losses = reduced(losses, reduction)
    return _restored(losses, known, target.shape) if reduction == "none" else losses


def _picked_loss_back(g: Any, _y: Any, _x: Any, classes: Any, weights: Any) -> Any:
    return scatter(-g * weights, (np.arange(len(classes)), classes), _x.shape)


@silent(_picked_loss_back, form=None)
@shown_as("nll_loss")
def _picked_loss(x: Any, classes: Any, weights: Any) -> Any:
    return -_product(weights, x.take(_flat_indices(x, classes), mode="clip"))  # see _class_loss


def _by_class(name: str, prediction: Any, target: Any, weight: Any) -> tuple[Any, Any, Any]:
    """The scores and the target with the classes on the last axis, and the weight; all checked."""
    scores, target = as_input(prediction), as_input(target)
    of_probabilities = _check_target(name, scores, target)
    if weight is not None:
        weight = class_weight(name, weight, scores)
    if scores.ndim > 2:
        scores = np.moveaxis(scores, 1, -1)
        target = np.moveaxis(target, 1, -1) if of_probabilities else target
    return scores, target if of_probabilities else plain(target), weight


def _check_target(name: str, scores: Any, target: Any) -> bool:
    """Check dtype and shapes; return whether the target holds probabilities, and not classes."""
    if not scores.ndim:
        raise ValueError(f"{name}: a prediction of shape (): it must have an axis of classes")
    kind = target.dtype.kind
    if kind not in "iuf":
        cure = "np.unique(target, return_inverse=True)[1]" if kind in "OUT" else ""
        raise TypeError(
            f"{name}: a target of dtype {target.dtype}; use {cure or 'target.astype(int)'}"
        )
    classes_shape = scores.shape[:1][: scores.ndim - 1] + scores.shape[2:]
    expected = scores.shape if kind == "f" else classes_shape
    if target.shape != expected:
        raise ValueError(
            f"{name}: a prediction of shape {scores.shape} needs a target of "
            f"{'probabilities' if kind == 'f' else 'classes'} of shape {expected}, not "
            f"{target.shape}"
            + "; classes must be integers: use target.astype(int)" * (kind == "f")
            + "; probabilities must be floating: use target.astype(float)"
            * (target.shape == scores.shape)
        )
    return kind == "f"


def class_weight(name: str, weight: Any, scores: Any) -> Any:
    """A weight for each class, in the dtype of the scores, or a ValueError for another shape."""
    dtype, count = floating(scores.dtype), scores.shape[min(1, scores.ndim - 1)]
    weight = as_input(weight, dtype)
    if isinstance(weight, np.ndarray):
        weight = mode.get().interpreter.state(weight)  # an array that each call reads again
    weight = weight.astype(dtype, copy=False)
    if weight.shape != (count,):
        raise ValueError(f"{name}: a weight of shape {weight.shape} for {count} classes")
    return weight


def _samples(
    name: str, scores: Any, classes: Any, weight: Any, ignore_index: int
) -> tuple[Any, Any, Any, Any]:
    """Drop the ignored samples; return scores (n, C), classes (n,), weights, and which were kept.

    The weights are None if all are 1, and the last result is None if all samples were kept. In a
    compiled function and in a vmap, where shapes are fixed, all samples are kept, and ignored ones
    get weight 0.
    """
    count, known = scores.shape[-1], None
    classes = classes.astype(np.intp, copy=False)
    keeps_all = _keeps_all(classes)
    if isinstance(classes, Batch) or 0 <= ignore_index < count or not within(classes, count):
        known = classes != ignore_index
        if keeps_all:
            scores = np.where(known[..., None], scores, 0)
            classes = np.where(known, classes, 0)
        elif known.all():
            known = None
        else:
            scores, classes = scores[known], classes[known]
        check_classes(name, classes, count)
    if scores.ndim != 2:
        scores, classes = scores.reshape(-1, count), classes.reshape(-1)
    weights = None if weight is None else np.take(weight, classes, mode="clip")
    if keeps_all and known is not None:
        known = known.reshape(-1).astype(floating(scores.dtype))
        weights = known if weights is None else weights * known
    return scores, classes, weights, known


def _keeps_all(classes: Any) -> bool:
    """Whether no shape may depend on elements."""
    return is_traced() or isinstance(classes, Batch)


def _restored(losses: Any, known: Any, shape: tuple[int, ...]) -> Any:
    """The losses of all samples; those of ignored samples are 0."""
    every = known is None or _keeps_all(known)
    return losses.reshape(shape) if every else scatter(losses, known, shape)


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
    return g * _product(t, _minus_logs(x)[0])


@silent(_logit_loss_back, _logit_loss_back_target, _logit_loss_back_positive)
@shown_as("binary_cross_entropy_with_logits")
def _logit_loss(x: Any, t: Any, positive: Any) -> Any:
    yes, no = _minus_logs(x)
    return _product(positive * t, yes) + _product(1 - t, no)


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
    return g * _product(np.exp(t), 1 + _log_difference(x, t))


@silent(lambda g, _y, _x, t: -g * np.exp(t), _log_divergence_back_target)
@shown_as("kl_div")
def _log_divergence(x: Any, t: Any) -> Any:
    return _product(np.exp(t), _log_difference(x, t))


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
