"""Many steps at once: which data allow it, and how many of them are taken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..data import Batches

MOMENT = 0.02  # seconds, after which Ctrl-C, the progress bar and checkpoints get their turn
CACHE = 1 << 22  # bytes of batches that are gathered at once, to be read soon after
GROWTH = 8  # while it is not yet known how long a step takes


def can_stack(data: Any) -> bool:
    """Whether stacks of the batches hold just what they do, and lie in memory as they do."""
    return isinstance(data, Batches) and data.is_tuple and all(map(_is_plain, data.arrays))


def _is_plain(a: Any) -> bool:
    return type(a) is np.ndarray and a.dtype.kind in "fciub" and a.flags.c_contiguous and a.size > 0


class Pace:
    """How many steps are taken at once: what takes a moment, at most `limit()`.

    Results do not depend on it.
    """

    def __init__(self, data: Any, limit: Callable[[], int]) -> None:
        self._data, self._limit = data, limit
        self._most = 1

    def __call__(self) -> int:
        """The number of the next steps."""
        sample = sum(a.nbytes // len(a) for a in self._data.arrays)
        fitting: int = CACHE // (sample * self._data.batch_size)
        return max(1, min(self._most, fitting, self._limit()))

    def note(self, steps: int, seconds: float) -> None:
        """Note how long steps have taken."""
        self._most = int(min(GROWTH * steps, MOMENT / max(seconds, 1e-9) * steps, sys.maxsize))
