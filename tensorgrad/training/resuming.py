"""The checkpoints of a training, from which it can be resumed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import Any

from ..storage import Checkpoint
from ..storage.atomic import PathLike
from ..storage.nesting import has_state
from .evaluation import Means
from .ranks import Ranks


@dataclass
class Position:
    """The number of finished epochs, of all steps, and of the steps in the current epoch."""

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0

    def count(self, steps: int) -> None:
        """Count further steps of the current epoch."""
        self.step += steps
        self.step_in_epoch += steps


class Saves:
    """Saves the state of a training, if there is a checkpoint, and resumes from it.

    The state is not saved while `half_done` is true: during a step, and at the end of an epoch. The
    first rank saves it; all ranks resume from it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | PathLike | None,
        every: int | timedelta | None,
        position: Position,
        means: Means,
        ranks: Ranks,
    ) -> None:
        self.half_done = False
        self._means, self._ranks = means, ranks
        self._checkpoint, self._every = checkpoint, every
        self._position, self._saved = position, replace(position)
        self._time = time.monotonic()

    def resume(self, parts: dict[str, Any]) -> None:
        """Restore these parts from the newest state, if there is one; save them from now on."""
        if self._checkpoint is None:
            return
        checkpoint = self._checkpoint
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(checkpoint)
        for name in checkpoint.objects.keys() & parts.keys():
            if checkpoint.objects[name] is not parts[name]:
                raise ValueError(f"fit: {name!r} in the checkpoint is not the object passed to fit")
        objects = checkpoint.objects | parts
        self._checkpoint = Checkpoint(checkpoint.directory, checkpoint.keep, **objects)
        self._checkpoint.load()
        steps = self._ranks.gather(self._position.step)
        if len(set(steps)) > 1:
            raise ValueError(
                f"fit: the ranks would resume from different steps, {steps}: the checkpoint must "
                "be in a folder that all ranks can read"
            )
        if not self._ranks.is_first:
            self._means.clear()
        self._saved = replace(self._position)

    def steps_until_due(self) -> int:
        """The number of steps after which the state is due to be saved, if steps decide that."""
        if not isinstance(self._every, int):
            return sys.maxsize
        return self._every - self._position.step % self._every

    def after_step(self) -> None:
        """Save the state if it is due after this step."""
        if isinstance(self._every, int):
            is_due = self._position.step % self._every == 0
        else:
            is_due = self._is_time()
        if is_due:
            self._save()

    def after_epoch(self) -> None:
        """Save the state if it is due after this epoch."""
        if self._every is None or self._is_time():
            self._save()

    def at_end(self) -> None:
        """Save the last state, unless it is saved or incomplete."""
        if not self.half_done and self._saved != self._position:
            self._save()

    def _is_time(self) -> bool:
        every = self._every
        return (
            isinstance(every, timedelta) and time.monotonic() - self._time >= every.total_seconds()
        )

    def _save(self) -> None:
        if isinstance(self._checkpoint, Checkpoint):
            self._means.move_to_first(self._ranks)
            if self._ranks.is_first:
                self._checkpoint.save(self._position.step)
        self._saved = replace(self._position)
        self._time = time.monotonic()


def require_every(checkpoint: Any, every: int | timedelta | None, ranks: Ranks) -> None:
    """Raise an error if these options of `fit` do not fit together."""
    if every is None:
        return
    if checkpoint is None:
        raise ValueError("fit: checkpoint_every= needs checkpoint=, the folder to save in")
    if isinstance(every, bool) or not isinstance(every, (int, timedelta)):
        raise TypeError(
            f"fit: checkpoint_every must be a number of steps or a timedelta, not {every!r}"
        )
    if isinstance(every, timedelta) and ranks.are_many:
        raise ValueError(
            "fit: with comm=, checkpoint_every must be a number of steps, as all save together"
        )
    if not (every > timedelta() if isinstance(every, timedelta) else every >= 1):
        raise ValueError(f"fit: checkpoint_every must be positive, not {every!r}")


def with_state(value: Any) -> Any:
    """The value, or the object whose method it is, if that has a state; else None."""
    value = getattr(value, "__self__", value)
    return value if has_state(value) else None


def number_of_steps(data: Any, epochs: int) -> int | None:
    """The number of steps in so many epochs, or None if the data has no length."""
    try:
        return epochs * len(data)
    except TypeError:
        return None


def remaining(data: Iterable[Any], taken: int) -> Iterable[Any]:
    """The batches of the current epoch after the first `taken` ones."""
    if not has_state(data):
        return islice(data, taken, None) if taken else data
    is_over = taken and taken == number_of_steps(data, 1)
    return () if is_over else data  # which continues by itself
