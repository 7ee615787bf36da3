"""Metrics: exact over batches, with clear refusals."""

import functools
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn, training

RNG = np.random.default_rng(0)
SCORES, CLASSES = RNG.normal(size=(50, 4)), RNG.integers(0, 4, 50)
OUTPUTS, TARGETS = RNG.normal(size=(2, 50, 4)) + 1e5
OF_CLASSES = [
    training.accuracy, training.precision, training.recall, training.f1,
    functools.partial(training.top_k_accuracy, k=2),
]  # fmt: skip
OF_NUMBERS = [
    training.mean_absolute_error, training.mean_squared_error, training.root_mean_squared_error,
    training.r2, training.binary_accuracy,
]  # fmt: skip


@pytest.mark.parametrize("metric", [*OF_CLASSES, *OF_NUMBERS], ids=str)
@pytest.mark.parametrize("size", [1, 7, 50])
def test_batches_give_the_metric_of_all_samples(metric: Any, size: int) -> None:
    x, y = (SCORES, CLASSES) if metric in OF_CLASSES else (OUTPUTS, TARGETS)
    loss = nn.cross_entropy if metric in OF_CLASSES else nn.mse_loss
    batches = tg.data.batches((x, y), size)
    found = training.evaluate(nn.Identity(), loss, batches, {"metric": metric})["metric"]
    assert found == pytest.approx(metric(x, y), rel=1e-9)
    assert isinstance(metric(tg.Tensor(x), y), float)


@pytest.mark.parametrize("compiled", [False, True])
def test_fit_has_exact_metrics_of_training_and_validation(compiled: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 4, rng=0))
    history = tg.fit(
        model,
        nn.cross_entropy,
        tg.data.batches((SCORES, CLASSES), 8),
        optimizer=tg.optim.SGD(model.parameters(), lr=0.0),
        epochs=2,
        validation=tg.data.batches((SCORES, CLASSES), 20),
        metrics=[training.f1],
        compile=compiled,
        progress=False,
    )
    expected = training.f1(model(SCORES), CLASSES)
    for column in "f1", "val_f1":
        assert history[column] == [pytest.approx(expected, rel=1e-12)] * 2


def test_counts_by_hand() -> None:
    scores = np.eye(3)[[0, 0, 1, 1, 1]]
    classes = np.array([0, 1, 1, 1, 0])
    assert training.confusion_matrix(scores, classes).tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert training.precision(scores, classes) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert training.recall(scores, classes) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert training.f1(scores, classes) == pytest.approx((2 / 4 + 4 / 6) / 2)
    ties = np.zeros((1, 3))
    assert training.top_k_accuracy(ties, np.array([1]), k=2) == 1
    assert training.top_k_accuracy(ties, np.array([2]), k=2) == 0


@pytest.mark.parametrize(
    ("metric", "prediction", "target", "message"),
    [
        (training.accuracy, (3,), (3,), r"accuracy: the prediction must be .*\(3,\); .*binary_acc"),
        (training.f1, (3, 2), (2,), r"f1: a target of shape \(2,\) .* of shape \(3,\)"),
        (training.top_k_accuracy, (3, 2), (3,), r"top_k_accuracy: k=5 is not from 1 to 2"),
        (training.binary_accuracy, (3, 1), (3,), r"binary_accuracy: a target of shape \(3,\)"),
        (training.mean_squared_error, (3, 1), (3,), r"mean_squared_error: .* the same shape"),
        (training.r2, (3, 1), (3,), r"r2: a target of shape \(3,\) for a prediction"),
        (training.r2, (1,), (1,), r"r2: one sample has no spread: pass at least two"),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    metric: Any, prediction: Any, target: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(np.zeros(prediction), np.zeros(target, int))


def test_classes_without_scores_are_named() -> None:
    with pytest.raises(ValueError, match=r"precision: the target has classes from 0 to 2, .* of 2"):
        training.precision(np.zeros((3, 2)), np.arange(3))


def test_a_metric_of_ones_own_is_exact() -> None:
    largest = training.ExactMetric("largest", lambda p, t: np.max(np.abs(p - t)), merge=np.maximum)
    batches = tg.data.batches((OUTPUTS, TARGETS), 7)
    found = training.evaluate(nn.Identity(), nn.mse_loss, batches, [largest])
    assert found["largest"] == np.max(np.abs(OUTPUTS - TARGETS))
