"""Losses with a margin: of scores of classes, of ranks, and of distances and angles of vectors.

A term is 0 where the prediction is right by at least the margin. Names, parameters, defaults and
formulas are those of `torch.nn.functional`; `dim` is called `axis`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..data import check_classes
from ..engine.interpreter import Requirement
from ..engine.modes import mode, plain
from ..engine.tensor import Tensor
from ..guide import guided
from .activations import log_sigmoid, relu, softplus
from .class_losses import class_weight
from .losses import Reduction, pair_of, reduced
from .module import as_input

# -- two classes, and ranks


def hinge_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """Return the mean of max(0, 1 - target * prediction).

    Each target is a class, -1 or 1. A loss is 0 where the prediction has the sign of the target and
    an absolute value of at least 1. Raises ValueError for two different shapes, and for other
    targets.

    >>> tg.nn.hinge_loss(np.array([-3.0, 0.5]), [-1, 1])
    np.float64(0.25)
    """
    prediction, target = pair_of("hinge_loss", prediction, target)
    _require_signs("hinge_loss", plain(target))
    return reduced(relu(1 - target * prediction), reduction)


def _require_signs(name: str, target: Any) -> None:
    def check(target: Any) -> None:
        if not np.all(np.abs(target) == 1):
            raise ValueError(
                f"{name}: a target other than -1 and 1; for classes 0 and 1, use 2 * target - 1"
            )

    requirement = Requirement(check, lambda t: (abs(t) >= 1) & (abs(t) <= 1))
    mode.get().interpreter.effect(requirement, target)


def soft_margin_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """Return the mean of log(1 + exp(-target * prediction)), for targets -1 and 1.

    Raises ValueError for two different shapes, and for other targets.

    >>> tg.nn.soft_margin_loss(np.array([0.0, 1000.0]), [1, -1], reduction="none")
    array([6.93147181e-01, 1.00000000e+03])
    """
    prediction, target = pair_of("soft_margin_loss", prediction, target)
    _require_signs("soft_margin_loss", plain(target))
    return reduced(softplus(-target * prediction), reduction)


def hinge_embedding_loss(
    prediction: Any, target: Any, margin: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Return the mean of the distances of target 1, and of max(0, margin - distance) of target -1.

    The prediction holds distances of pairs: alike for target 1, different for -1. Raises ValueError
    for two different shapes, and for other targets.

    >>> tg.nn.hinge_embedding_loss(np.array([0.25, 0.25, 2.0]), [1, -1, -1], reduction="none")
    array([0.25, 0.75, 0.  ])
    """
    prediction, target = pair_of("hinge_embedding_loss", prediction, target)
    _require_signs("hinge_embedding_loss", plain(target))
    return reduced(np.where(target == 1, prediction, relu(margin - prediction)), reduction)


def margin_ranking_loss(
    x1: Any, x2: Any, target: Any, margin: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """Return the mean of max(0, margin - target * (x1 - x2)).

    A target of 1 says that `x1` is to be the larger one, and -1 that `x2` is. Raises ValueError for
    shapes that are not the same, and for other targets.

    >>> tg.nn.margin_ranking_loss(np.array([1.0, 1.0]), [3.0, 3.0], [1, -1], reduction="none")
    array([2., 0.])
    """
    x1, x2 = pair_of("margin_ranking_loss", x1, x2)
    difference, target = pair_of("margin_ranking_loss", x1 - x2, target)
    _require_signs("margin_ranking_loss", plain(target))
    return reduced(relu(margin - target * difference), reduction)


# -- several classes, and several labels


def multi_margin_loss(
    prediction: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the mean over samples of sum(max(0, margin - score + other) ** p) / C.

    `score` is that of the target's class, and the sum is over the other ones of C classes. The
    prediction has shape (n, C) or (C,), the target, of classes from 0 to C - 1, (n,) or (). `p` is
    1 or 2. `weight`, of shape (C,), multiplies the terms of each class of a target. Raises
    IndexError for a class out of range, and ValueError for shapes that do not match.

    >>> tg.nn.multi_margin_loss(np.array([[2.0, 1.5, -1.0]]), [0])
    np.float64(0.16666666666666666)
    """
    scores, classes = as_input(prediction), plain(as_input(target))
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: p must be 1 or 2, not {p!r}")
    if scores.ndim not in (1, 2) or classes.shape != scores.shape[:-1] or classes.dtype.kind == "f":
        raise ValueError(
            f"multi_margin_loss: a prediction of shape {scores.shape} and a target of shape "
            f"{classes.shape}, dtype {classes.dtype}: they must be (n, C) and (n,), or (C,) and "
            "(), and the target of integers"
        )
    count = scores.shape[-1]
    check_classes("multi_margin_loss", classes, count)
    own = np.take_along_axis(scores, classes[..., None], -1)
    terms = relu(margin - own + scores) ** p
    if weight is not None:
        terms = terms * class_weight("multi_margin_loss", weight, scores).take(classes)[..., None]
    others = np.where(np.arange(count) != classes[..., None], terms, 0)
    return reduced(np.sum(others, axis=-1) / count, reduction)


def multilabel_margin_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """Return the mean over samples of sum(max(0, 1 - score + other)) / C, over pairs of classes.

    `score` is that of a class of the target, `other` that of one of the other classes. Prediction
    and target have shape (n, C) or (C,). The target lists the classes of a sample; the first -1
    ends the list. Raises IndexError for a class out of range, ValueError for two different shapes.

    >>> scores = np.array([0.1, 0.2, 0.4, 0.8])
    >>> round(float(tg.nn.multilabel_margin_loss(scores, [3, 0, -1, 1])), 6)
    0.85
    """
    scores, listed = as_input(prediction), plain(as_input(target))
    if scores.ndim not in (1, 2) or listed.shape != scores.shape or listed.dtype.kind == "f":
        raise ValueError(
            f"multilabel_margin_loss: a prediction of shape {scores.shape} and a target of shape "
            f"{listed.shape}, dtype {listed.dtype}: both must be (n, C) or (C,), and the target of "
            "integers"
        )
    count = scores.shape[-1]
    is_listed = np.logical_and.accumulate(listed >= 0, axis=-1)
    classes = np.where(is_listed, listed, 0)
    check_classes("multilabel_margin_loss", classes, count)
    is_target = np.any(is_listed[..., None] & (classes[..., None] == np.arange(count)), axis=-2)
    own = np.take_along_axis(scores, classes, -1)
    terms = relu(1 - own[..., None] + scores[..., None, :])
    pairs = is_listed[..., None] & ~is_target[..., None, :]
    return reduced(np.sum(np.where(pairs, terms, 0), axis=(-2, -1)) / count, reduction)


def multilabel_soft_margin_loss(
    prediction: Any, target: Any, weight: Any = None, reduction: Reduction = "mean"
) -> Tensor:
    """Return the mean of -(t * log(sigmoid(x)) + (1 - t) * log(sigmoid(-x))) over labels.

    Prediction x and target t, of 0 and 1, have shape (n, C); "none" returns a loss for each sample.
    The terms are multiplied by `weight`, which broadcasts. Raises ValueError for two different
    shapes.

    >>> x = np.array([[0.0, 1000.0]])
    >>> print(f"{tg.nn.multilabel_soft_margin_loss(x, [[1.0, 1.0]]):.4f}")
    0.3466
    """
    x, t = pair_of("multilabel_soft_margin_loss", prediction, target)
    terms = -(t * log_sigmoid(x) + (1 - t) * log_sigmoid(-x))
    terms = terms if weight is None else terms * as_input(weight, terms.dtype)
    return reduced(np.mean(terms, axis=-1), reduction)


# -- distances of vectors, and angles between them


def _vectors(name: str, *arrays: Any) -> list[Any]:
    """Arrays of vectors that broadcast; or raise a ValueError."""
    arrays = tuple(map(as_input, arrays))
    shapes = [x.shape for x in arrays]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        shapes.append(())
    if () in shapes:
        raise ValueError(
            f"{name}: arrays of shapes {', '.join([str(x.shape) for x in arrays])}; pass vectors, "
            "whose shapes broadcast"
        )
    return [*arrays]


@guided
def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False
) -> Tensor:
    """Return the norm of order `p` of x1 - x2 + eps over the last axis; the arguments broadcast.

    `eps` is added to every element, as in PyTorch, so that there is a gradient where vectors are
    equal.

    >>> tg.nn.pairwise_distance(np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([0.0, 4.0]), eps=0)
    array([5., 4.])
    """
    x1, x2 = _vectors("pairwise_distance", x1, x2)
    return np.linalg.norm(x1 - x2 + eps, p, axis=-1, keepdims=keepdims)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the mean of max(0, d(anchor, positive) - d(anchor, negative) + margin).

    d is `pairwise_distance` with `p` and `eps`. The three have shape (n, d) or (d,). With `swap`,
    the smaller one of d(anchor, negative) and d(positive, negative) is taken. Balntas and others,
    Learning Local Feature Descriptors with Triplets and Shallow Convolutional Networks, 2016.

    >>> a, p, n = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([[0.0, 1.0]])
    >>> print(f"{tg.nn.triplet_margin_loss(a, p, n):.4f}")
    5.0000
    """

    def distance(x1: Any, x2: Any) -> Any:
        return pairwise_distance(x1, x2, p, eps)

    anchor, positive, negative = _vectors("triplet_margin_loss", anchor, positive, negative)
    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance, margin, swap, reduction
    )


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    distance_function: Callable[[Any, Any], Any] = pairwise_distance,
    margin: float = 1.0,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return `triplet_margin_loss` for a distance of your own, a function of two arrays.

    >>> a, p, n = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([[0.0, 1.0]])
    >>> def l1(x, y):
    ...     return np.sum(np.abs(x - y), axis=-1)
    >>> tg.nn.triplet_margin_with_distance_loss(a, p, n, l1)
    np.float64(7.0)
    """
    anchor, positive, negative = map(as_input, (anchor, positive, negative))
    near, far = distance_function(anchor, positive), distance_function(anchor, negative)
    if swap:
        far = np.minimum(far, distance_function(positive, negative))
    return reduced(relu(near - far + margin), reduction)


@guided
def cosine_similarity(x1: Any, x2: Any, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """Return the cosine of the angle between vectors along an axis, x1 @ x2 / (|x1| * |x2|).

    The arguments broadcast. Norms are at least `eps`, so that a zero vector gives 0.

    >>> tg.nn.cosine_similarity(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[2.0, 2.0]]))
    array([0.70710678, 0.        ])
    """
    x1, x2 = np.broadcast_arrays(*_vectors("cosine_similarity", x1, x2))
    axis = normalize_axis_index(axis, x1.ndim, "cosine_similarity")
    norms = [np.maximum(np.linalg.norm(x, axis=axis, keepdims=True), eps) for x in (x1, x2)]
    return np.sum((x1 / norms[0]) * (x2 / norms[1]), axis=axis)


def cosine_embedding_loss(
    x1: Any, x2: Any, target: Any, margin: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """Return the mean of 1 - cos for pairs of target 1, and of max(0, cos - margin) for target -1.

    The vectors have shape (n, d) or (d,), and the target (n,) or (). Raises ValueError for other
    shapes, and for other targets.

    >>> up, aside = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    >>> tg.nn.cosine_embedding_loss(up, aside, [1]), tg.nn.cosine_embedding_loss(up, up, [-1])
    (np.float64(1.0), np.float64(1.0))
    """
    x1, x2 = pair_of("cosine_embedding_loss", x1, x2)
    similarity, target = pair_of(
        "cosine_embedding_loss", cosine_similarity(x1, x2, axis=-1), target
    )
    _require_signs("cosine_embedding_loss", plain(target))
    losses = np.where(target == 1, 1 - similarity, relu(similarity - margin))
    return reduced(losses, reduction)
