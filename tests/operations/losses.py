"""Losses."""

from typing import Any

import numpy as np

from tensorgrad import nn

from .row import *

SAME: list[Any] = [((), ()), ((0,), (0,)), ((2, 3), (2, 3))]
SOME: list[Any] = [((1,), (1,)), ((2, 3), (2, 3))]  # whose mean exists
probabilities = Domain(grid(1 / 16, 15 / 16))
CLASSES = np.array([[2, 0], [1, -100]])
WEIGHT = np.array([0.5, 2.0, 1.0])


def of_classes(loss: Any, **options: Any) -> Any:
    """A loss of scores of 3 classes: (n, 3), (3,), (2, 3, 2), for classes that are always the same."""

    def f(x: Any) -> Any:
        shape = x.shape[:1][: x.ndim - 1] + x.shape[2:]
        return loss(x, np.resize(CLASSES, shape), **options)

    return f


SCORES: list[Any] = [(3,), (2, 3), (2, 3, 2)]
NONE = [*SCORES, (0, 3)]

ROWS = [
    # distances
    Op("mse_loss", nn.mse_loss, reals, reals, shapes=SOME),
    Op("mse_loss sum", lambda x, t: nn.mse_loss(x, t, "sum"), reals, reals, shapes=SAME),
    Op("l1_loss", lambda x, t: nn.l1_loss(x, t, "none"), distinct, halfway, shapes=SAME, analytic=False),
    Op("huber_loss", lambda x, t: nn.huber_loss(x, t, "none"), reals, halfway, shapes=SAME, analytic=False),
    Op("huber_loss delta", lambda x, t: nn.huber_loss(x, t, delta=0.5), reals, halfway, shapes=SOME, analytic=False),
    Op("smooth_l1_loss", lambda x, t: nn.smooth_l1_loss(x, t, "sum", beta=0.25), reals, halfway, shapes=SAME, analytic=False),
    Op("smooth_l1_loss 0", lambda x, t: nn.smooth_l1_loss(x, t, beta=0), reals, halfway, shapes=SOME, analytic=False),
    # one of several classes
    Op("cross_entropy", of_classes(nn.cross_entropy), reals, shapes=SCORES),
    Op("cross_entropy sum", of_classes(nn.cross_entropy, reduction="sum", ignore_index=1), reals, shapes=[(0, 3), (2, 3)]),
    Op("cross_entropy squared", lambda x: np.square(of_classes(nn.cross_entropy, reduction="none")(x)), reals, shapes=SCORES),
    Op("cross_entropy none", of_classes(nn.cross_entropy, reduction="none", weight=WEIGHT), reals, shapes=NONE),
    Op("cross_entropy weight", of_classes(nn.cross_entropy, weight=WEIGHT), reals, shapes=SCORES),
    Op("cross_entropy smooth", of_classes(nn.cross_entropy, weight=WEIGHT, label_smoothing=0.25), reals, shapes=SCORES),
    Op("cross_entropy smooth none", of_classes(nn.cross_entropy, reduction="none", label_smoothing=0.25), reals, shapes=NONE),
    Op("cross_entropy probabilities", nn.cross_entropy, reals, positive, shapes=[((3,), (3,)), ((2, 3), (2, 3)), ((2, 3, 2), (2, 3, 2))], analytic=False),
    Op("cross_entropy probabilities smooth", lambda x, p: nn.cross_entropy(x, p, WEIGHT, -100, "none", 0.25), reals, positive, shapes=[((3,), (3,)), ((0, 3), (0, 3)), ((2, 3, 1), (2, 3, 1))], analytic=False),
    Op("nll_loss", of_classes(nn.nll_loss), reals, shapes=SCORES),
    Op("nll_loss none", of_classes(nn.nll_loss, reduction="none", weight=WEIGHT), reals, shapes=NONE),
    Op("nll_loss weight", of_classes(nn.nll_loss, weight=WEIGHT), reals, shapes=SCORES),
    # yes or no
    Op("binary_cross_entropy", nn.binary_cross_entropy, probabilities, probabilities, shapes=SOME),
    Op("binary_cross_entropy weight", lambda p, t: nn.binary_cross_entropy(p, t, [0.5], "none"), probabilities, probabilities, shapes=SAME[1:]),
    Op("binary_cross_entropy_with_logits", nn.binary_cross_entropy_with_logits, nonzero, probabilities, shapes=SOME, analytic=False),
    Op("binary_cross_entropy_with_logits weights", lambda x, t: nn.binary_cross_entropy_with_logits(x, t, [0.5], "none", [2.0]), nonzero, probabilities, shapes=SAME[1:], analytic=False),
    Op("binary_cross_entropy_with_logits by weights", lambda x, w: nn.binary_cross_entropy_with_logits(x, np.full(x.shape, 0.25, x.dtype), w, "none", w), nonzero, positive, shapes=SAME[1:], analytic=False),
    Op("hinge_loss", lambda x: nn.hinge_loss(x, np.resize([1, -1], x.shape), "none"), halfway, shapes=[(), (0,), (2, 3)], analytic=False),
    # distributions and directions
    Op("kl_div", nn.kl_div, reals, positive, shapes=SOME),
    Op("kl_div log", lambda x, t: nn.kl_div(x, t, "none", log_target=True), reals, reals, shapes=SAME),
    Op("kl_div batchmean", lambda x, t: nn.kl_div(x, t, "batchmean"), reals, positive, shapes=SOME),
    Op("cosine_similarity", nn.cosine_similarity, nonzero, nonzero, shapes=[((2, 3), (2, 3)), ((1, 3), (2, 3)), ((2, 0), (2, 0))], analytic=False),
    Op("cosine_similarity axis", lambda x, y: nn.cosine_similarity(x, y, axis=0), nonzero, nonzero, shapes=[((3,), (3,)), ((3, 2), (3, 1))], analytic=False),
    Op("cosine_embedding_loss", lambda x, y: nn.cosine_embedding_loss(x, y, np.resize([1, -1], len(x)), margin=-2.0), nonzero, nonzero, shapes=[((2, 3), (2, 3))], analytic=False),
]  # fmt: skip
