"""Packing arrays into one block of memory, in which those that die make room for others."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ..graph import ALIGNMENT

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
