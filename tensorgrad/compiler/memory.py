"""Memory that is used again: arrays packed into one block, and large ones given away."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..engine.arrays import ALIGNMENT
from ..engine.typing import Array

K = TypeVar("K", bound=Hashable)


class Span(NamedTuple):
    """How many bytes are needed, from the call with the number `start` to the one with `stop`."""

    size: int
    start: int
    stop: int


def lifetimes(uses: Sequence[Iterable[K]], kept: Collection[K]) -> dict[K, tuple[int, int]]:
    """The numbers of the first and the last call that use each key; what is kept lives longer."""
    spans: dict[K, tuple[int, int]] = {}
    for i, keys in enumerate(uses):
        for key in keys:
            spans[key] = spans.get(key, (i, i))[0], i
    return {
        key: (start, len(uses) if key in kept else stop) for key, (start, stop) in spans.items()
    }


def packed(spans: Mapping[K, Span]) -> tuple[dict[K, int], int]:
    """An offset for each of the spans, and the number of bytes in all.

    Spans that share a call do not overlap. The larger come first, each to the lowest gap that fits:
    Pisarchyk and Lee, Efficient memory management for deep neural net inference, 2020.
    """
    placed: list[tuple[int, int, Span]] = []  # in the order of their offsets
    offsets: dict[K, int] = {}
    for key, span in sorted(spans.items(), key=lambda item: -item[1].size):
        size, offset = rounded(span.size), 0
        for begin, end, other in placed:
            if other.start <= span.stop and span.start <= other.stop:
                if offset + size <= begin:
                    break
                offset = max(offset, end)
        offsets[key] = offset
        placed.append((offset, offset + size, span))
        placed.sort(key=lambda item: item[:2])
    return offsets, max((end for _, end, _ in placed), default=0)


def rounded(size: int) -> int:
    """The number of bytes, up to the next cache line."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def lower_bound(spans: Iterable[Span]) -> int:
    """The largest number of bytes that are needed at the same time."""
    changes: dict[int, int] = {}
    for span in spans:
        changes[span.start] = changes.get(span.start, 0) + rounded(span.size)
        changes[span.stop + 1] = changes.get(span.stop + 1, 0) - rounded(span.size)
    most = current = 0
    for _, change in sorted(changes.items()):
        current += change
        most = max(most, current)
    return most


class Recycled:
    """New arrays of one kind, in memory of earlier ones that nobody refers to any more.

    The system fills memory with zeros, page by page, when it is first touched: to multiply into
    40 MB takes 8 ms there, and 6 where they lie already. Every reference to the elements, by a view
    or whatever else, is a reference to the owner of their memory, and these are counted.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], order: Any) -> None:
        self._shape = shape
        self._dtype = dtype
        self._order = order
        self._owners: list[Array] = []

    def __call__(self) -> Array:
        """Return an array, whatever its elements."""
        owners, self._owners = self._owners, []  # a finalizer may call this in between
        used = [count != _ALONE for count in map(sys.getrefcount, owners)]
        free = [owner for owner, is_used in zip(owners, used, strict=True) if not is_used]
        size = math.prod(self._shape) * self._dtype.itemsize
        owner = free[0] if free else np.empty(size + ALIGNMENT, np.uint8)
        # Of those in use only the last: after `y = f(x)` that is the next to become free.
        self._owners = [*[*compress(owners, used)][-1:], owner]
        start = -owner.ctypes.data % ALIGNMENT
        return np.ndarray(self._shape, self._dtype, owner, start, order=self._order)


# What is counted of an object to which only one list refers. No count is certain, and none is this
# one, where threads run in parallel.
_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
_ALONE = next(map(sys.getrefcount, [object()])) if _GIL else -1
