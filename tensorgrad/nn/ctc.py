"""The loss of connectionist temporal classification, for sequences that are not aligned.

Graves and others, Connectionist Temporal Classification, 2006. The names are theirs: the forward
variable of a step and a label is the logarithm of the probability of all paths that lead there; the
backward variable, of all that lead on from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.custom import differentiable
from ..engine.modes import mode, plain
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from .losses import Reduction, check_reduction
from .module import as_input, floating
from .recurrent import run_steps

_NEVER = -1e30  # the logarithm of no probability: finite, so that derivatives are, too


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Return minus the logarithm of the probability that each input has its target as its labels.

    `log_probs` are logarithms of the probabilities of the classes at each step, shape (T, n,
    classes), as `log_softmax` gives them. The labels of a path through the steps are its classes
    without repetitions in a row, and then without `blank`. `targets`, integers, have shape (n, S),
    or all are one after another in one axis. `input_lengths` and `target_lengths`, shape (n,), say
    how many steps and labels of each are used. One sequence has the shapes (T, classes), (S,), ()
    and ().

    With the reduction "mean", each loss is divided by its number of labels first. A target that
    is too long for its input gives infinity or, with `zero_infinity`, 0; its derivative is 0.

    >>> steps = np.log([[[0.5, 0.5]], [[0.5, 0.5]]])  # of one sequence: blank, or class 1
    >>> loss = tg.nn.ctc_loss(steps, [[1]], [2], [1])
    >>> np.exp(-loss)  # by the paths (1, 1), (1, blank) and (blank, 1)
    np.float64(0.75)
    """
    check_reduction(reduction)
    x = as_input(log_probs)
    targets, input_lengths, target_lengths = [
        as_input(plain(a)) for a in (targets, input_lengths, target_lengths)
    ]
    single = x.ndim == 2
    if single:
        x, targets = x[:, None], targets[None]
        input_lengths, target_lengths = input_lengths.reshape(-1), target_lengths.reshape(-1)
    _require_shapes(x, targets, input_lengths, target_lengths, blank)
    if targets.ndim == 1:
        targets = _rows_of(targets, target_lengths)
    mode.get().interpreter.effect(_checking(x.shape, blank), targets, input_lengths, target_lengths)
    x = x.astype(np.result_type(floating(x.dtype), np.float32))
    losses = _losses(x, targets, input_lengths, target_lengths, blank)
    if zero_infinity:
        losses = np.where(np.isinf(plain(losses)), 0, losses)
    if reduction == "mean":
        return np.mean(losses / np.maximum(target_lengths, 1).astype(losses.dtype))
    if reduction == "sum":
        return np.sum(losses)
    return losses[0] if single else losses


def _require_shapes(
    x: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int
) -> None:
    integers = all(a.dtype.kind in "iu" for a in (targets, input_lengths, target_lengths))
    count = x.shape[1:2]
    if not (
        x.ndim == 3
        and x.shape[0]
        and integers
        and input_lengths.shape == target_lengths.shape == count
        and (targets.ndim == 1 or targets.shape[:-1] == count)
    ):
        shapes = [a.shape for a in (x, targets, input_lengths, target_lengths)]
        raise ValueError(
            f"ctc_loss: log_probs, targets and lengths of shapes {shapes}; they must be (T, n, "
            "classes), (n, S), (n,) and (n,), and all but the first of integers"
        )
    if not 0 <= blank < x.shape[2]:
        raise ValueError(f"ctc_loss: blank={blank} is not one of {x.shape[2]} classes")


def _rows_of(targets: Any, lengths: Any) -> Any:
    """The targets that come one after another, as rows; what is behind their ends is not used."""
    if int(np.sum(lengths)) != len(targets):
        raise ValueError(
            f"ctc_loss: {len(targets)} targets for target_lengths that sum to {np.sum(lengths)}"
        )
    steps = np.arange(int(np.max(lengths, initial=0)))
    starts = np.cumsum(lengths) - lengths
    return targets[np.minimum(starts[:, None] + steps, max(len(targets) - 1, 0))]


def _checking(shape: tuple[int, ...], blank: int) -> Any:
    length, _, classes = shape

    @shown_as("ctc_loss")
    def check(targets: Any, input_lengths: Any, target_lengths: Any) -> None:
        most = targets.shape[1]
        for name, lengths, end in (
            ("input_lengths", input_lengths, length), ("target_lengths", target_lengths, most),
        ):  # fmt: skip
            if np.any(lengths < 0) or np.any(lengths > end):
                raise ValueError(f"ctc_loss: {name} {lengths.tolist()}; they must be 0 to {end}")
        used = targets[np.arange(most) < target_lengths[:, None]]
        if np.any(used < 0) or np.any(used >= classes) or np.any(used == blank):
            raise IndexError(
                f"ctc_loss: targets from {used.min()} to {used.max()} of {classes} classes, of "
                f"which {blank} is blank: they must be other classes"
            )

    return check


def _losses(x: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int) -> Any:
    """The losses by the paths through the labels of each target, with blanks between them."""
    count, most = targets.shape
    used = np.arange(most) < target_lengths[:, None]
    spaced = np.stack([np.full((count, most), blank), np.where(used, targets, blank)], -1)
    labels = np.concatenate([spaced.reshape(count, 2 * most), np.full((count, 1), blank)], 1)
    others = np.concatenate([np.full((count, min(2, 2 * most + 1)), blank), labels[:, :-2]], 1)
    skips = (labels != blank) & (labels != others)
    ends = np.arange(2 * most + 1) - 2 * target_lengths[:, None]
    is_end = (ends == 0) | (ends == -1)
    is_step = (np.arange(len(x))[:, None] < input_lengths)[..., None]
    emitted = np.take_along_axis(x, np.broadcast_to(labels, (len(x), *labels.shape)), 2)
    return _path_losses(np.maximum(emitted, _NEVER), skips, is_end, is_step)


def _sum_of_paths(stay: Any, one: Any, two: Any) -> Any:
    return np.maximum(np.logaddexp(np.logaddexp(stay, one), two), _NEVER)


def _moved(a: Any, by: int) -> Any:
    """Along the labels, by so many to the right or, if negative, to the left."""
    size = a.shape[1]
    gap = np.full((a.shape[0], min(abs(by), size)), _NEVER, a.dtype)
    if by > 0:
        return np.concatenate([gap, a[:, : max(size - by, 0)]], 1)
    return np.concatenate([a[:, min(-by, size) :], gap], 1)


def _forward(emitted: Any, skips: Any, is_step: Any) -> Any:
    """The forward variables after each step, shape (T, n, labels)."""
    start = np.full(emitted.shape[1:], _NEVER, emitted.dtype)
    start[:, 0] = 0  # before the first step; from there, the second label is one move away

    def step(state: Any, items: Any) -> Any:
        a, (emitted, is_step) = state[0], items
        two = np.where(skips, _moved(a, 2), _NEVER)
        new = np.maximum(_sum_of_paths(a, _moved(a, 1), two) + emitted, _NEVER)
        new = np.where(is_step, new, a)
        return new, new

    return run_steps(step, (start,), (emitted, is_step))[1][0]


def _backward(emitted: Any, skips: Any, is_end: Any, is_step: Any) -> Any:
    """The backward variables after each step: without what that step emits."""
    start = np.where(is_end, 0, _NEVER).astype(emitted.dtype)

    def step(state: Any, items: Any) -> Any:
        b, (emitted, is_step) = state[0], items
        ahead = np.maximum(b + emitted, _NEVER)
        two = _moved(np.where(skips, ahead, _NEVER), -2)
        new = np.where(is_step, _sum_of_paths(ahead, _moved(ahead, -1), two), b)
        return new, b

    return run_steps(step, (start,), (emitted, is_step), reverse=True)[1][0]


def _path_losses_back(
    g: Any, losses: Any, emitted: Any, skips: Any, is_end: Any, is_step: Any
) -> Any:
    paths = _forward(emitted, skips, is_step) + _backward(emitted, skips, is_end, is_step)
    possible = np.isfinite(plain(losses))
    shares = np.exp(np.where(possible[:, None], paths + np.where(possible, losses, 0)[:, None], -1))
    return np.where(is_step & possible[:, None], -g[:, None] * shares, 0)


@differentiable(_path_losses_back)
@shown_as("ctc_loss")
def _path_losses(emitted: Any, skips: Any, is_end: Any, is_step: Any) -> Any:
    last = np.where(is_end, _forward(emitted, skips, is_step)[-1], _NEVER)
    total = np.logaddexp.reduce(last, axis=1)
    return np.where(total > _NEVER / 2, -total, np.inf)
