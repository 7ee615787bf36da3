"""Batches of sequences of several lengths, in arrays of the longest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from .module import as_input


class Steps:
    """The steps of sequences of several lengths, in arrays of shape (length, batch, features)."""

    def __init__(self, length: int, lengths: Any) -> None:
        self._last = (lengths - 1)[None, :, None]
        step = np.arange(length)[:, None, None]
        self._are_there = step <= self._last
        self._flipped = np.where(self._are_there, self._last - step, step)

    def cut(self, x: Any, value: float = 0) -> Any:
        """This value in place of what comes after the last steps."""
        return np.where(self._are_there, x, value)

    def flipped(self, x: Any) -> Any:
        """Each sequence from its last step to its first one."""
        return np.take_along_axis(x, self._flipped, 0)

    def last(self, x: Any) -> Any:
        """The last step of each sequence."""
        return np.take_along_axis(x, self._last, 0)[0]


def pad_sequence(
    sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0
) -> Tensor:
    """Stack sequences of several lengths, with `padding_value` after the end of the shorter ones.

    Shapes (length, ...) give (longest, batch, ...) or, with `batch_first`, (batch, longest, ...).
    The layers here take the lengths themselves as `lengths=`.

    >>> tg.nn.pad_sequence([np.array([1.0, 2.0, 3.0]), np.array([4.0])], batch_first=True)
    array([[1., 2., 3.],
           [4., 0., 0.]])
    """
    arrays = [as_input(x) for x in sequences]
    shapes = [x.shape for x in arrays]
    if not arrays or () in shapes or len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(
            f"pad_sequence: sequences of shapes {shapes}; they must be (length, ...), alike but "
            "for the length, and at least one"
        )
    longest = max(map(len, arrays))
    padded: Any = [
        np.pad(x, [(0, longest - len(x)), *[(0, 0)] * (x.ndim - 1)], constant_values=padding_value)
        for x in arrays
    ]
    stacked: Any = np.stack(padded, axis=0 if batch_first else 1)
    return stacked
