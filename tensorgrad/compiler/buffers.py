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
from ..engine.interpreter import Requirement
from ..engine.typing import Array
from .functions import assign_at, getitem
from .ir import Call, Order, Storage, Value, array_in, values_in, viewed
from .ops import is_elementwise
from .strides import bounds_of

K = TypeVar("K", bound=Hashable)
FEW = 1 << 10  # spans: more are not compared in pairs, which would take too long


class Buffers:
    """Memory for the storages of a program, the same in each call.

    `array_of` has the arrays of temporary values, and of padded ones, which have memory of their
    own. It has none for what is new in each call, a local variable. `offsets` says where temporary
    storages lie in one block of memory, `peak_bytes` what all of them take, and `lower_bound` what
    is in use at the same time, at most. `calls` are those left to be made: without copies whose
    source is made where it is to go.

    `takes_out` are the calls that write their results into arrays that are there already, except
    for those in `fresh` memory, which is new in each call. `held` values stay as they are until the
    next call, those `apart` until they are made again.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        takes_out: Collection[Call],
        held: Collection[Value],
        apart: Collection[Value],
        fresh: Collection[Storage],
    ) -> None:
        self.takes_out, self.fresh = takes_out, fresh
        results = (r for c in calls if c in takes_out for r in c.results)
        made = {r: r.storage.home for r in results if r.storage not in fresh}
        homes = {r.storage: home for r, home in made.items()}
        kept, separate = {v.storage for v in held}, {v.storage for v in apart}
        destinations = _destinations(calls, made, kept, separate)
        copies = {call for _, call in destinations.values()}
        self.calls = [call for call in calls if call not in copies]
        temporary = {s for s, home in homes.items() if home == "temporary"}
        spans = _lifetimes(self.calls, temporary - separate - destinations.keys(), kept)
        groups = _taken_over(self.calls, made, spans, kept)
        whole: dict[Storage, Span] = {}
        for storage, (start, stop) in spans.items():
            group = groups.get(storage, storage)
            size, first, last = whole.get(group, Span(0, start, stop))
            whole[group] = Span(max(size, storage.nbytes), min(first, start), max(last, stop))
        offsets, total = packed(whole)
        block = aligned(total, np.uint8)
        self.offsets = {s: offsets[groups.get(s, s)] for s in spans}
        # By storage, the memory that it lies in, and the byte at which it starts there.
        self._places = {s: (block, offset) for s, offset in self.offsets.items()}
        self._places |= {s: (_memory(p), p.offset) for s, (p, _) in destinations.items()}
        padded = {r.storage: r.dtype for r, home in made.items() if home == "padded"}
        alone = {*separate.intersection(homes), *padded}
        self._places |= {s: (aligned(s.nbytes, np.uint8), 0) for s in alone}
        for s, dtype in padded.items():
            self._places[s][0].view(dtype)[...] = 1
        self._arrays: dict[Hashable, Array] = {}
        extra = sum(s.nbytes for s in alone)
        self.peak_bytes = total + extra
        self.lower_bound = lower_bound(whole.values()) + extra

    def array_of(self, value: Value) -> Array | None:
        """The array of a value, or None if it is new in each call.

        It is one object for all values that are alike: for two of the same memory, NumPy's ufuncs
        take twice the time, to make sure of it.
        """
        if value.storage not in self._places:
            return None
        memory, start = self._places[value.storage]
        key = id(memory), start + value.offset, value.shape, value.strides, value.dtype
        if key not in self._arrays:
            self._arrays[key] = array_in(memory, value, start)
        return self._arrays[key]


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
    made: Collection[Value],
    kept: Collection[Storage],
    separate: Collection[Storage],
) -> dict[Storage, tuple[Value, Call]]:
    """Storages that can lie right where a later call copies them to; and that call, now needless.

    Nobody may use that part of the state from when the storage is made until it would be copied,
    nor write there as long as the storage is read.
    """
    makers = {r: i for i, call in enumerate(calls) for r in call.results if r in made}
    last = {v.storage: i for i, call in enumerate(calls) for v in call.reads}
    last |= dict.fromkeys(kept, len(calls))
    barred = {v.storage for call in calls for v in call.changes}.union(separate)
    uses, writes = _Uses(), _Uses()
    for i, call in enumerate(calls):
        uses.add(i, *call.reads, *call.results)
        writes.add(i, *call.changes)
        if call.kind == "effect" and not call.results and not isinstance(call.fun, Requirement):
            uses.add_all(i)
    found: dict[Storage, tuple[Value, Call]] = {}
    for i, call in enumerate(calls):
        place = _destination(call)
        if place is None:
            continue
        value: Value = call.args[2]
        source = value.storage
        if (
            value in makers
            and value.is_whole
            and source.home == "temporary"
            and source not in barred
            and source not in found
            and not uses.touch(place, makers[value], i)
            and not writes.touch(place, i + 1, last[source] + 1)
        ):
            found[source] = place, call
    return found


def _destination(call: Call) -> Value | None:
    """The part of a state to which a call copies a value that could be made there."""
    if call.fun is not assign_at:
        return None
    target, index, value = call.args
    if not isinstance(value, Value) or values_in(index) or target.storage.home != "state":
        return None
    place, *_ = viewed(getitem, (target, index))
    if place is None or (place.shape, place.dtype) != (value.shape, value.dtype):
        return None
    by_rows = place.is_c_contiguous and value.is_c_contiguous
    by_columns = place.is_f_contiguous and value.is_f_contiguous
    return place if by_rows or by_columns else None


class _Uses:
    """The addresses of states that calls use, by the numbers of the calls."""

    def __init__(self) -> None:
        self._uses: list[tuple[int, float, float]] = []
        self._starts: dict[Storage, int] = {}

    def add(self, number: int, *values: Value) -> None:
        """Note that a call uses values, as far as they are states."""
        for v in values:
            if v.storage.home == "state":
                self._uses.append((number, *self._addresses(v)))

    def add_all(self, number: int) -> None:
        """Note that a call may use all states."""
        self._uses.append((number, 0, math.inf))

    def touch(self, place: Value, start: int, stop: int) -> bool:
        """Whether a call with a number from `start` to `stop` may use what lies at a place."""
        first, last = (bisect_left(self._uses, i, key=itemgetter(0)) for i in (start, stop))
        low, high = self._addresses(place)
        return any(a < high and low < b for _, a, b in self._uses[first:last])

    def _addresses(self, v: Value) -> tuple[int, int]:
        """The first address of a state, and the one after its last."""
        start = self._starts.get(v.storage)
        if start is None:
            start = self._starts[v.storage] = bounds_of(_memory(v))[0]
        low, high = v.bounds
        return start + low, start + high


def _memory(v: Value) -> Array:
    """The array that owns the memory of a state."""
    assert v.storage.array is not None
    return v.storage.array


def _taken_over(
    calls: Sequence[Call],
    made: Collection[Value],
    spans: Mapping[Storage, tuple[int, int]],
    kept: Collection[Storage],
) -> dict[Storage, Storage]:
    """The storages that element-wise calls make in place of one that dies, and which these are."""
    groups: dict[Storage, Storage] = {}
    for i, call in enumerate(calls):
        if not (is_elementwise(call) and call.results and call.results[0].storage in spans):
            continue
        result, reads = call.results[0], call.reads
        # In place, NumPy takes more than twice the time for a single element.
        if result not in made or not result.is_whole or result.size == 1:
            continue
        for v in reads:
            if (
                v in made
                and v.storage in spans
                and v.storage not in kept
                and spans[v.storage][1] == i
                and v.is_whole
                and _is_laid_out_like(result, v)
                and all(w is v or w.storage is not v.storage for w in reads)
            ):
                groups[result.storage] = groups.get(v.storage, v.storage)
                break
    return groups


def _is_laid_out_like(a: Value, b: Value) -> bool:
    return (a.shape, a.strides, a.itemsize) == (b.shape, b.strides, b.itemsize)


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

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> None:
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
