"""Metrics of predictions: functions of a prediction and a target, for `fit` and `evaluate`.

`fit` and `evaluate` take the mean of a metric over batches, each weighted by its samples. That is
exact for a mean over samples, such as `accuracy`. Others, such as `r2` and `f1`, are an
`ExactMetric`: what it counts in each batch is put together first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.modes import plain
from ..engine.tensor import Tensor
from ..engine.typing import Array


def as_array(value: Any) -> Any:
    """The array of a tensor or of anything that NumPy converts."""
    return plain(value) if isinstance(value, Tensor) else np.asarray(value)


class ExactMetric:
    """A metric that is exact over several batches.

    `state(prediction, target)` is what is known after one batch, an array; `merge(a, b)` is that
    after two, by default their sum; and `value(state)` is the metric. Called with a prediction and
    a target, it is the metric of these.

    >>> largest = tg.training.ExactMetric(
    ...     "largest_error",
    ...     state=lambda prediction, target: np.max(np.abs(prediction - target)),
    ...     merge=np.maximum,
    ... )
    >>> largest(np.array([1.0, 2.0]), np.array([1.5, 2.0]))
    0.5
    """

    def __init__(
        self,
        name: str,
        state: Callable[[Any, Any], Any],
        value: Callable[[Any], Any] = float,
        merge: Callable[[Any, Any], Any] = np.add,
    ) -> None:
        self.__name__ = name
        self.state, self.value, self.merge = state, value, merge

    def __call__(self, prediction: Any, target: Any) -> float:
        """Return the metric of these samples."""
        return float(self.value(self.state(as_array(prediction), as_array(target))))

    def __repr__(self) -> str:
        return f"ExactMetric({self.__name__!r})"


# -- of classes


def accuracy(prediction: Any, target: Any) -> float:
    """Return the fraction of samples whose class has the largest score.

    The prediction has shape (n, C) or (n, C, d1, ...), the target (n,) or (n, d1, ...). Raises
    ValueError for other shapes.

    >>> tg.training.accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    scores, target = _scores("accuracy", prediction, target)
    return float(np.mean(np.argmax(scores, axis=1) == target))


def top_k_accuracy(prediction: Any, target: Any, k: int = 5) -> float:
    """Return the fraction of samples whose class has one of the k largest scores.

    Shapes are those of `accuracy`. Of equal scores, those that come first count as larger. In `fit`
    and `evaluate`, set k by `functools.partial`.

    >>> scores = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
    >>> tg.training.top_k_accuracy(scores, np.array([2, 1]), k=2)
    0.5
    """
    scores, target = _scores("top_k_accuracy", prediction, target)
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"top_k_accuracy: k={k} is not from 1 to {scores.shape[1]}, the classes")
    best = np.argsort(-scores, axis=1, kind="stable").take(range(k), axis=1)
    return float(np.mean(np.any(best == np.expand_dims(target, 1), axis=1)))


def binary_accuracy(prediction: Any, target: Any) -> float:
    """Return the fraction of scores that are positive where the target is, and else not.

    Targets are 0 and 1, -1 and 1, or booleans, of the shape of the scores. Scores are logits: of
    probabilities, subtract 0.5. Raises ValueError for different shapes.

    >>> tg.training.binary_accuracy(np.array([2.0, -0.1, 0.3]), np.array([1, 0, 0])) == 2 / 3
    True
    """
    scores, target = _alike("binary_accuracy", prediction, target)
    return float(np.mean((scores > 0) == (target > 0)))


def confusion_matrix(prediction: Any, target: Any) -> Array:
    """Return how many samples of each class (a row) were taken for which class (a column).

    Shapes are those of `accuracy`. The result has shape (C, C) and dtype int64.

    >>> scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    >>> tg.training.confusion_matrix(scores, np.array([1, 1, 1]))
    array([[0, 0],
           [1, 2]])
    """
    return _confusion("confusion_matrix", prediction, target)


def _confusion(name: str, prediction: Any, target: Any) -> Array:
    scores, target = _scores(name, prediction, target)
    classes = scores.shape[1]
    if target.size and not (target.min() >= 0 and target.max() < classes):
        raise ValueError(
            f"{name}: the target has classes from {target.min()} to {target.max()}, but there are "
            f"scores of {classes}"
        )
    pairs = classes * target.ravel().astype(int) + np.argmax(scores, axis=1).ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


_CLASSES = """

Shapes are those of `accuracy`. Classes that neither the prediction nor the target has are left out;
one that only the other of them has counts as 0. Raises ValueError for other shapes, and for classes
without a score.
"""


def _of_confusion(name: str, value: Callable[[Array, Array, Array], Any], doc: str) -> ExactMetric:
    """A metric of the counts, by class: of samples rightly found, of all found, and of all."""

    def mean(matrix: Array) -> Any:
        right, found, of_class = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
        occurs = (found > 0) | (of_class > 0)
        return np.mean(value(right[occurs], found[occurs], of_class[occurs]))

    metric = ExactMetric(name, functools.partial(_confusion, name), mean)
    metric.__doc__ = doc + _CLASSES
    return metric


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


precision = _of_confusion(
    "precision",
    lambda right, found, _: _share(right, found),
    "The fraction of samples taken for a class that are of it: the mean over classes.",
)
recall = _of_confusion(
    "recall",
    lambda right, _, of_class: _share(right, of_class),
    "The fraction of the samples of a class that are found: the mean over classes.",
)
f1 = _of_confusion(
    "f1",
    lambda right, found, of_class: _share(2 * right, found + of_class),
    "The harmonic mean of precision and recall of each class: the mean over classes.",
)


# -- of numbers


def mean_absolute_error(prediction: Any, target: Any) -> float:
    """Return the mean of the absolute differences; both have the same shape.

    >>> tg.training.mean_absolute_error(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    1.0
    """
    found, target = _alike("mean_absolute_error", prediction, target)
    return float(np.mean(np.abs(found - target)))


def mean_squared_error(prediction: Any, target: Any) -> float:
    """Return the mean of the squared differences; both have the same shape.

    >>> tg.training.mean_squared_error(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    2.0
    """
    found, target = _alike("mean_squared_error", prediction, target)
    return float(np.mean(np.square(found - target)))


def _squares(prediction: Any, target: Any) -> Array:
    found, target = _alike("root_mean_squared_error", prediction, target)
    return np.array([target.size, np.sum(np.square(found - target))])


root_mean_squared_error = ExactMetric(
    "root_mean_squared_error", _squares, lambda state: np.sqrt(state[1] / state[0])
)
root_mean_squared_error.__doc__ = """The root of the mean of the squared differences.

Both have the same shape, or ValueError is raised. Over batches, the mean is that of all samples.
"""


def _r2_state(prediction: Any, target: Any) -> Array:
    """Rows of counts, means, and sums of squares around them, and of squared errors, by output."""
    found, target = as_array(prediction), as_array(target)
    if found.shape != target.shape or target.ndim not in (1, 2) or not len(target):
        raise ValueError(
            f"r2: a target of shape {target.shape} for a prediction of shape {found.shape}: both "
            "must have the same shape, (n,) or (n, outputs), with a sample at least"
        )
    found, target = (np.asarray(a.reshape(len(a), -1), float) for a in (found, target))
    mean = np.mean(target, axis=0)
    spread = np.sum(np.square(target - mean), axis=0)
    count = np.full(mean.shape, len(target))
    return np.array([count, mean, spread, np.sum(np.square(target - found), axis=0)])


def _r2_merge(a: Array, b: Array) -> Array:
    """The state of both: Chan, Golub and LeVeque, 1983, formula 1.5."""
    count = a[0] + b[0]
    apart = b[1] - a[1]
    mean = a[1] + apart * b[0] / count
    spread = a[2] + b[2] + np.square(apart) * a[0] * b[0] / count
    return np.array([count, mean, spread, a[3] + b[3]])


def _r2_value(state: Array) -> Any:
    count, _, total, rest = state
    if count[0] < 2:
        raise ValueError("r2: one sample has no spread: pass at least two")
    share = np.divide(rest, total, out=np.asarray(rest > 0, float), where=total > 0)
    return np.mean(1 - share)


r2 = ExactMetric("r2", _r2_state, _r2_value, _r2_merge)
r2.__doc__ = """The score R²: 1 - sum((target - prediction)²) / sum((target - m)²).

m is the mean of the targets, whose shape (n,) or (n, outputs) is that of the predictions; of
several outputs, it is the mean. A constant target gives 1 if the prediction is exact, else 0.
Raises ValueError for different shapes, or fewer than two samples in all.
"""


# -- checks


def _scores(name: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    """The scores of all classes, and the classes, as arrays of shapes that fit."""
    scores, target = as_array(prediction), as_array(target)
    if scores.ndim < 2:
        raise ValueError(
            f"{name}: the prediction must be the scores of all classes, of shape (n, C), not "
            f"{scores.shape}; for one score s per sample, pass np.stack([-s, s], 1), or use "
            "binary_accuracy"
        )
    expected = (scores.shape[0], *scores.shape[2:])
    if expected != target.shape:
        raise ValueError(
            f"{name}: a target of shape {target.shape} for a prediction of shape "
            f"{scores.shape}: it must be classes, of shape {expected}"
        )
    return scores, target


def _alike(name: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    found, target = as_array(prediction), as_array(target)
    if found.shape != target.shape:
        raise ValueError(
            f"{name}: a target of shape {target.shape} for a prediction of shape {found.shape}: "
            "both must have the same shape"
        )
    return found, target
