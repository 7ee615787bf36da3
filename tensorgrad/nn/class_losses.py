"""Losses of scores of several classes: cross entropy, and the negative log likelihood.

Names, parameters, defaults and formulas are those of `torch.nn.functional`.
"""

import functools
from typing import Any

import numpy as np

from ..data import check_classes, one_hot, within
from ..engine.batching import Batch
from ..engine.modes import is_traced, mode, plain
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..rules.indexing import scatter
from ..special import silent
from .activations import log_softmax, softmax
from .losses import Reduction, check_reduction, product, reduced
from .module import as_input, floating


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
    return np.add.reduce(product(weights, losses), axis=axis)


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
    return -np.sum(product(p, log_softmax(x)), axis=-1)


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
    return -product(weights, x.take(_flat_indices(x, classes), mode="clip"))  # see _class_loss


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
