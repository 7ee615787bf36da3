"""Buffer assignment: which memory each array of a program lies in.

Arrays that are needed at different times share memory, element-wise calls work in place where an
operand dies, and large results get memory that nobody has any more.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import compress
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from ..engine.arrays import ALIGNMENT, aligned
from ..engine.typing import Array
from .functions import assign_at
from .program import Call, Storage, Value, values_in

K = TypeVar("K", bound=Hashable)
FEW = 1 << 10  # spans: more are not compared in pairs, which would take too long


class Buffers:
    """Arrays for the storages of a program that stay the same from call to call.

    `arrays` has those of temporary storages, and padded ones, which have memory of their own; what
    it lacks is new at each call, a local variable. `offsets` says where the temporary ones lie in
    one block of memory, `peak_bytes` what all of them take, and `lower_bound` what is in use at the
    same time, at most. `calls` are those left to be made: without copies whose source is made where
    it is to go.

    `takes_out` are the calls that write their results into arrays that are there already. `held`
    values stay as they are until the next call, those `apart` until they are made again.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        takes_out: Collection[Call],
        held: Collection[Value],
        apart: Collection[Value],
    ) -> None:
        self.takes_out = takes_out
        makers = {r.storage: c for c in calls for r in c.results if c in takes_out}
        kept = {v.storage for v in held}
        separate = {v.storage for v in apart}
        self.arrays, copies = _destinations(calls, makers, kept, separate)
        self.calls = [call for call in calls if call not in copies]
        temporary = {
            s for s in makers if s.home == "temporary" and not (s in self.arrays or s in separate)
        }
        spans = _lifetimes(self.calls, temporary, kept)
        groups = _taken_over(self.calls, takes_out, spans, kept)
        whole: dict[Storage, Span] = {}
        for storage, (start, stop) in spans.items():
            group = groups.get(storage, storage)
            size, first, last = whole.get(group, Span(0, start, stop))
            size = max(size, storage.owner.nbytes)
            whole[group] = Span(size, min(first, start), max(last, stop))
        offsets, total = packed(whole)
        block = aligned(total, np.uint8)
        self.offsets = {s: offsets[groups.get(s, s)] for s in spans}
        # One object for all arrays that are alike: for two of the same memory, NumPy's ufuncs take
        # twice the time, to make sure of it.
        alike: dict[Any, Array] = {}
        for s, offset in self.offsets.items():
            key = offset, s.owner.shape, s.owner.strides, s.owner.dtype
            self.arrays[s] = alike.setdefault(key, _like(s.owner, block, offset))
        padded = [s for s in makers if s.home == "padded"]
        for s in [*separate.intersection(makers), *padded]:
            self.arrays[s] = _like(s.owner, aligned(s.owner.nbytes, np.uint8), 0)
        for s in padded:
            self.arrays[s][...] = 1
        extra = sum(s.owner.nbytes for s in [*separate, *padded])
        self.peak_bytes = total + extra
        self.lower_bound = lower_bound(whole.values()) + extra

    def array_of(self, value: Value) -> Array | None:
        """The array of a value, which lies in that of its storage as it did while tracing."""
        whole = self.arrays.get(value.storage)
        if whole is None or value.array is value.storage.owner:
            return whole
        start = value.array.ctypes.data - value.storage.owner.ctypes.data
        memory = whole.ravel("K")  # a view, as there are no gaps
        return np.ndarray(value.shape, value.dtype, memory, start, value.array.strides)


def _lifetimes(
    calls: Sequence[Call], storages: Collection[Storage], kept: Collection[Storage]
) -> dict[Storage, tuple[int, int]]:
    """The numbers of the first and the last call that use each storage; what is kept lives on."""
    spans: dict[Storage, tuple[int, int]] = {}
    for i, call in enumerate(calls):
        for v in (*call.reads, *call.results):
            if v.storage in storages:
                spans[v.storage] = spans.get(v.storage, (i, i))[0], i
    for storage in spans.keys() & kept:
        spans[storage] = spans[storage][0], len(calls)
    return spans


def _destinations(
    calls: Sequence[Call],
    makers: Mapping[Storage, Call],
    kept: Collection[Storage],
    separate: Collection[Storage],
) -> tuple[dict[Storage, Array], set[Call]]:
    """Arrays made at once where a later call would copy them to; and those calls, now needless."""
    arrays: dict[Storage, Array] = {}
    needless: set[Call] = set()
    numbers: dict[Call, int] = {}
    last: dict[Storage, int] = {}
    uses: list[tuple[int, Array | None]] = []  # of the state, in order; None may be all of it
    writes: list[tuple[int, Array]] = []
    for i, call in enumerate(calls):
        numbers[call] = i
        last |= dict.fromkeys((v.storage for v in call.reads), i)
        state = [v.array for v in (*call.reads, *call.results) if v.storage.home == "state"]
        uses += [(i, array) for array in state]
        if call.kind == "effect" and not call.results:
            uses.append((i, None))
        if call.target is not None and call.target.storage.home == "state":
            writes.append((i, call.target.array))
    last |= dict.fromkeys(kept, len(calls))
    for i, call in enumerate(calls):
        if call.fun is not assign_at or not isinstance(call.args[2], Value):
            continue
        target, index, value = call.args
        source = value.storage
        if (
            values_in(index)
            or target.storage.home != "state"
            or source.home != "temporary"
            or source.writes
            or source in arrays
            or source in separate
            or source not in makers
            or value.array is not source.owner
        ):
            continue
        place = target.array[index]
        if not (
            isinstance(place, np.ndarray)
            and np.may_share_memory(place, target.array)
            and (place.shape, place.dtype) == (value.shape, value.dtype)
            and (
                (place.flags.c_contiguous and value.array.flags.c_contiguous)
                or (place.flags.f_contiguous and value.array.flags.f_contiguous)
            )
        ):
            continue
        if _touches(uses, place, numbers[makers[source]], i) or _touches(
            writes, place, i + 1, last[source] + 1
        ):
            continue
        arrays[source] = place
        needless.add(call)
    return arrays, needless


def _touches(uses: Sequence[tuple[int, Array | None]], place: Array, start: int, stop: int) -> bool:
    """Whether a call with a number from `start` to `stop` may use what lies at a place."""
    low, high = (bisect_left(uses, i, key=itemgetter(0)) for i in (start, stop))
    return any(a is None or np.may_share_memory(a, place) for _, a in uses[low:high])


def _taken_over(
    calls: Sequence[Call],
    takes_out: Collection[Call],
    spans: Mapping[Storage, tuple[int, int]],
    kept: Collection[Storage],
) -> dict[Storage, Storage]:
    """The storages that element-wise calls make in place of one that dies, and which these are."""
    groups: dict[Storage, Storage] = {}
    for i, call in enumerate(calls):
        if not call.is_elementwise or call not in takes_out or call.results[0].storage not in spans:
            continue
        (result,), reads = call.results, call.reads
        # In place, NumPy takes more than twice the time for a single element.
        if result.array is not result.storage.owner or result.size == 1:
            continue
        for v in reads:
            if (
                v.storage in spans
                and v.storage not in kept
                and spans[v.storage][1] == i
                and v.array is v.storage.owner
                and _is_laid_out_like(result, v)
                and all(w is v or w.storage is not v.storage for w in reads)
            ):
                groups[result.storage] = groups.get(v.storage, v.storage)
                break
    return groups


def _is_laid_out_like(a: Value, b: Value) -> bool:
    return (a.shape, a.strides, a.itemsize) == (b.shape, b.strides, b.itemsize)


def _like(array: Array, block: Array, offset: int) -> Array:
    """An array in a block of memory, with its axes in the order of another one's in memory."""
    order = sorted(range(array.ndim), key=lambda i: -abs(array.strides[i]))
    shape = [array.shape[i] for i in order]
    if not array.nbytes:
        return np.empty(array.shape, array.dtype)
    return np.ndarray(shape, array.dtype, block, offset).transpose(np.argsort(order))


# -- packing


class Span(NamedTuple):
    """How many bytes are needed, from the call with the number `start` to the one with `stop`."""

    size: int
    start: int
    stop: int


Packing: TypeAlias = tuple[list[int], int]  # the offset of each span, and the number of bytes


def packed(spans: Mapping[K, Span]) -> tuple[dict[K, int], int]:
    """An offset for each of the spans, and the number of bytes in all.

    Spans that share a call do not overlap. The best of several heuristics is taken.
    """
    given = [Span(rounded(size), start, stop) for size, start, stop in spans.values()]
    least = lower_bound(given)
    ways: list[Callable[[Sequence[Span]], Packing]] = [packed_in_order, packed_in_reverse]
    if len(given) <= FEW:
        ways.append(packed_by_size)
    best: Packing | None = None
    for way in ways:
        found = way(given)
        if best is None or found[1] < best[1]:
            best = found
        if best[1] == least:
            break
    assert best is not None
    return dict(zip(spans, best[0], strict=True)), best[1]


def packed_by_size(spans: Sequence[Span]) -> Packing:
    """The larger spans first, each to the lowest gap that fits; in quadratic time.

    Pisarchyk and Lee, Efficient memory management for deep neural net inference, 2020.
    """
    placed: list[tuple[int, int, int, int]] = []  # offset, end, start, stop: by offset
    offsets = [0] * len(spans)
    for i in sorted(range(len(spans)), key=lambda i: -spans[i].size):
        size, start, stop = spans[i]
        offset = 0
        for begin, end, first, last in placed:
            if first <= stop and start <= last:
                if offset + size <= begin:
                    break
                offset = max(offset, end)
        offsets[i] = offset
        insort(placed, (offset, offset + size, start, stop))
    return offsets, max((end for _, end, *_ in placed), default=0)


def packed_in_order(spans: Sequence[Span]) -> Packing:
    """Each span, as it starts, to the smallest gap that fits: linear scan, in O(n log n) time.

    Poletto and Sarkar, Linear scan register allocation, 1999. Where most arrays are of a few sizes,
    as in long programs, hardly a byte is lost.
    """
    by_start = sorted(range(len(spans)), key=lambda i: (spans[i].start, -spans[i].size))
    by_stop = sorted(range(len(spans)), key=lambda i: spans[i].stop)
    offsets, gaps, ended = [0] * len(spans), _Gaps(), 0
    for i in by_start:
        while spans[by_stop[ended]].stop < spans[i].start:
            gaps.give(offsets[by_stop[ended]], spans[by_stop[ended]].size)
            ended += 1
        offsets[i] = gaps.take(spans[i].size)
    return offsets, gaps.top


def packed_in_reverse(spans: Sequence[Span]) -> Packing:
    """The same from the last call to the first."""
    return packed_in_order([Span(size, -stop, -start) for size, start, stop in spans])


class _Gaps:
    """The gaps in a block of memory, up to its `top`, which moves up where none fits."""

    def __init__(self) -> None:
        self.top = 0
        self._sizes: list[tuple[int, int]] = []  # of the gaps, with their offsets, in order
        self._ends: dict[int, int] = {}  # by their starts
        self._starts: dict[int, int] = {}  # by their ends

    def take(self, size: int) -> int:
        """The start of the smallest gap of that size or more, which is no gap any more."""
        i = bisect_left(self._sizes, (size, 0))
        if not size:
            return 0
        if i < len(self._sizes):
            start = self._sizes[i][1]
        else:
            start = self._starts.get(self.top, self.top)
            self.top = start + size
        end = self._remove(start) if start in self._ends else start
        if start + size < end:
            self._add(start + size, end)
        return start

    def give(self, start: int, size: int) -> None:
        """Let there be a gap, joined with those around it."""
        if not size:
            return
        end = start + size
        if start in self._starts:
            start = self._starts[start]
            self._remove(start)
        if end in self._ends:
            end = self._remove(end)
        self._add(start, end)

    def _add(self, start: int, end: int) -> None:
        self._ends[start], self._starts[end] = end, start
        insort(self._sizes, (end - start, start))

    def _remove(self, start: int) -> int:
        """Forget a gap; return its end."""
        end = self._ends.pop(start)
        del self._starts[end]
        del self._sizes[bisect_left(self._sizes, (end - start, start))]
        return end


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


# -- results


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
