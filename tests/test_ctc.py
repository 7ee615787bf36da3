"""The loss of connectionist temporal classification: over all paths, as PyTorch's, and errors."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn

from .oracles import assert_same, leaf

SCORES = np.random.default_rng(0).normal(size=(4, 3, 3))
TARGETS = np.array([[1, 2, 0], [2, 2, 9], [-1, 0, 0]])
LENGTHS = np.array([4, 3, 2]), np.array([2, 2, 0])


def log_probs(scores: Any = SCORES) -> Any:
    return nn.log_softmax(scores)


def by_paths(x: Any, target: list[int], blank: int = 0) -> float:
    """The definition: the sum over all paths of one sequence, (T, classes), one by one."""
    total = 0.0
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        labels = [c for c, _ in itertools.groupby(path) if c != blank]
        if labels == target:
            total += np.exp(sum(x[t, c] for t, c in enumerate(path)))
    return -np.log(total) if total else np.inf


def test_the_loss_is_the_sum_over_all_paths() -> None:
    x = log_probs()
    expected = [
        by_paths(x[:steps, i], TARGETS[i, :labels].tolist())
        for i, (steps, labels) in enumerate(zip(*LENGTHS, strict=True))
    ]
    losses = nn.ctc_loss(x, TARGETS, *LENGTHS, reduction="none")
    assert_allclose(losses, expected, rtol=1e-12)
    assert_allclose(nn.ctc_loss(x, TARGETS, *LENGTHS, reduction="sum"), sum(expected))
    mean = np.mean(np.array(expected) / [2, 2, 1])
    assert_allclose(nn.ctc_loss(x, TARGETS, *LENGTHS), mean)
    assert_allclose(nn.ctc_loss(x, [1, 2, 2, 2], *LENGTHS), mean)
    assert_allclose(nn.ctc_loss(x[:, 0], [1, 2], 4, 2, reduction="none"), expected[0])
    other = nn.ctc_loss(x[:, 0], [0, 1], 4, 2, blank=2, reduction="none")
    assert_allclose(other, by_paths(x[:, 0], [0, 1], blank=2))


def test_gradients_of_every_order_compiled_and_for_each_sample() -> None:
    def f(scores: Any) -> Any:
        return nn.ctc_loss(log_probs(scores), TARGETS, *LENGTHS, reduction="none")

    assert tg.gradcheck(f, [SCORES], order=2)
    assert tg.gradcheck(lambda x: nn.ctc_loss(x, TARGETS, *LENGTHS), [log_probs()], order=2)
    compiled = tg.compile(tg.value_and_grad(lambda x, n: nn.ctc_loss(log_probs(x), TARGETS, *n)))
    for steps in LENGTHS[0], np.array([2, 4, 1]):
        lengths = steps, LENGTHS[1]
        expected = tg.value_and_grad(lambda x, n=lengths: nn.ctc_loss(log_probs(x), TARGETS, *n))
        assert_same(compiled(SCORES, lengths), expected(SCORES))
    many = np.stack([SCORES, 2 * SCORES])
    assert_allclose(tg.vmap(f)(many), [f(scores) for scores in many], rtol=1e-12)
    many = tg.vmap(tg.grad(lambda x: np.sum(f(x))))(many)
    assert_allclose(many[0], tg.grad(lambda x: np.sum(f(x)))(SCORES), rtol=1e-10, atol=1e-12)


def test_a_target_too_long_is_infinite_with_a_derivative_of_zero() -> None:
    for zero in False, True:
        x = leaf(SCORES)
        losses = nn.ctc_loss(log_probs(x), [[1, 1, 1]] * 3, [4, 4, 4], [3, 2, 1], 0, "none", zero)
        assert losses.data[0] == (0 if zero else np.inf)
        np.sum(losses[1:] if not zero else losses).backward()
        assert not x.grad[:, 0].any() and x.grad[:, 1:].all()


def test_steps_without_probability_and_float32() -> None:
    with np.errstate(all="ignore"):
        x = leaf(np.log(np.array([[[1, 0]], [[0, 1]], [[0.5, 0.5]]], np.float32)), np.float32)
    loss = nn.ctc_loss(x, [[1]], [3], [1])
    assert loss.dtype == np.float32
    assert_allclose(loss.data, 0, atol=1e-6)
    loss.backward()
    assert np.isfinite(x.grad).all()
    assert nn.ctc_loss(x.data.astype(np.float16), [[1]], [3], [1]).dtype == np.float32


def test_a_long_sequence_is_a_loop_when_compiled() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(300, 2, 5)), rng.integers(1, 5, size=(2, 20))

    def f(scores: Any) -> Any:
        return nn.ctc_loss(log_probs(scores), targets, [300, 250], [20, 15])

    assert_same(tg.compile(tg.value_and_grad(f))(scores), tg.value_and_grad(f)(scores))


def test_the_loss_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    scores, targets = rng.normal(size=(12, 4, 6)), rng.integers(1, 6, size=(4, 5))
    lengths = [12, 9, 12, 5], [5, 3, 1, 0]
    for reduction in "mean", "sum", "none":
        x, theirs = leaf(scores), torch.tensor(scores, requires_grad=True)
        expected = torch.nn.functional.ctc_loss(
            theirs.log_softmax(2), torch.tensor(targets), *map(torch.tensor, lengths),
            reduction=reduction,
        )  # fmt: skip
        loss = nn.ctc_loss(log_probs(x), targets, *lengths, reduction=reduction)  # type: ignore[arg-type]
        assert_allclose(loss.data, expected.detach(), rtol=1e-10)
        np.sum(loss).backward()
        expected.sum().backward()
        assert_allclose(x.grad, theirs.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((TARGETS[:2], *LENGTHS), {}, ValueError, r"of shapes \[\(4, 3, 3\), \(2, 3\)"),
        ((TARGETS * 1.0, *LENGTHS), {}, ValueError, "of integers"),
        ((TARGETS, LENGTHS[0], [2, 2]), {}, ValueError, r"\(2,\)"),
        ((TARGETS, *LENGTHS), {"blank": 3}, ValueError, "blank=3 is not one of 3"),
        ((TARGETS, *LENGTHS), {"reduction": "max"}, ValueError, "not 'max'"),
        ((TARGETS, [5, 1, 1], LENGTHS[1]), {}, ValueError, "input_lengths .* 0 to 4"),
        ((TARGETS, LENGTHS[0], [4, 1, 1]), {}, ValueError, "target_lengths .* 0 to 3"),
        (([1, 2], *LENGTHS), {}, ValueError, "2 targets for target_lengths that sum to 4"),
        ((TARGETS, LENGTHS[0], [3, 2, 0]), {}, IndexError, "from 0 to 2 of 3 .* 0 is blank"),
        ((TARGETS, LENGTHS[0], [2, 3, 0]), {}, IndexError, "from 1 to 9"),
    ],
)
def test_errors_say_what_must_be(arguments: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        nn.ctc_loss(log_probs(), *arguments, **options)


def test_no_targets_at_all() -> None:
    losses = nn.ctc_loss(log_probs(), np.zeros((3, 0), int), LENGTHS[0], [0, 0, 0], 0, "none")
    each = [by_paths(log_probs()[:n, i], []) for i, n in enumerate(LENGTHS[0])]
    assert_allclose(losses, each)
    assert_array_equal(nn.ctc_loss(log_probs(), TARGETS, [0, 0, 0], [0, 0, 0], 0, "none"), 0)
