"""Which memory each array of a program lies in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..engine.arrays import aligned
from ..engine.typing import Array
from .functions import assign_at
from .memory import Span, lifetimes, lower_bound, packed
from .program import Call, Storage, Value, values_in
from .spelling import Spelling


class Layout:
    """Arrays for the storages of a program that stay the same from call to call.

    `arrays` has those of temporary storages, and padded ones, which have memory of their own; what
    it lacks is new at each call, a local variable. `offsets` says where the temporary ones lie in
    one block of memory, `peak_bytes` what all of them take, and `lower_bound` what is in use at the
    same time, at most. `calls` are those left to be made: without copies whose source is made where
    it is to go.

    `held` values stay as they are until the next call, those `apart` until they are made again.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        spellings: Mapping[Call, Spelling],
        held: Collection[Value],
        apart: Collection[Value],
    ) -> None:
        makers = {r.storage: c for c in calls for r in c.results if r.call is c and c in spellings}
        kept = {v.storage for v in held}
        separate = {v.storage for v in apart}
        self.arrays, copies = _destinations(calls, makers, kept, separate)
        self.calls = [call for call in calls if call not in copies]
        temporary = [
            s for s in makers if s.home == "temporary" and not (s in self.arrays or s in separate)
        ]
        uses = [
            {v.storage for v in [*c.reads, *c.results]}.intersection(temporary) for c in self.calls
        ]
        spans = lifetimes(uses, kept)
        groups = _taken_over(self.calls, spellings, spans, kept)
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


def _destinations(
    calls: Sequence[Call],
    makers: Mapping[Storage, Call],
    kept: Collection[Storage],
    separate: Collection[Storage],
) -> tuple[dict[Storage, Array], set[Call]]:
    """Arrays made at once where a later call would copy them to; and those calls, now needless."""
    arrays: dict[Storage, Array] = {}
    needless: set[Call] = set()
    numbers = {call: i for i, call in enumerate(calls)}
    last = {s: i for i, call in enumerate(calls) for s in {v.storage for v in call.reads}}
    last |= dict.fromkeys(kept, len(calls))
    for i, call in enumerate(calls):
        if call.fun is not assign_at or not isinstance(call.args[2], Value):
            continue
        target, index, value = call.args
        source = value.storage
        if (
            any(True for _ in values_in((index,)))
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
        start = numbers[makers[source]]
        if any(_touches(c, place) for c in calls[start:i]) or any(
            c.target is not None and _shares(c.target, place)
            for c in calls[i + 1 : last[source] + 1]
        ):
            continue
        arrays[source] = place
        needless.add(call)
    return arrays, needless


def _touches(call: Call, place: Array) -> bool:
    """Whether a call may use what lies at a place of the state."""
    if call.kind == "host" and call.fun is not bool and not call.results:
        return True
    return any(_shares(v, place) for v in [*call.reads, *call.results])


def _shares(value: Value, place: Array) -> bool:
    return value.storage.home == "state" and np.may_share_memory(value.array, place)


def _taken_over(
    calls: Sequence[Call],
    spellings: Mapping[Call, Spelling],
    spans: Mapping[Storage, tuple[int, int]],
    kept: Collection[Storage],
) -> dict[Storage, Storage]:
    """The storages that element-wise calls make in place of one that dies, and which these are."""
    groups: dict[Storage, Storage] = {}
    for i, call in enumerate(calls):
        if not call.is_elementwise or call not in spellings or call.results[0].storage not in spans:
            continue
        (result,), reads = call.results, [*values_in((call.args, call.kwargs))]
        # In place, NumPy takes more than twice the time for a single element.
        if result.array is not result.storage.owner or result.size == 1:
            continue
        for v in reads:
            if (
                v.storage in spans
                and v.storage not in kept
                and spans[v.storage][1] == i
                and v.array is v.storage.owner
                and _is_laid_out_like(result.array, v.array)
                and all(w is v or w.storage is not v.storage for w in reads)
            ):
                groups[result.storage] = groups.get(v.storage, v.storage)
                break
    return groups


def _is_laid_out_like(a: Array, b: Array) -> bool:
    return (a.shape, a.strides, a.itemsize) == (b.shape, b.strides, b.itemsize)


def _like(array: Array, block: Array, offset: int) -> Array:
    """An array in a block of memory, with its axes in the order of another one's in memory."""
    order = sorted(range(array.ndim), key=lambda i: -abs(array.strides[i]))
    shape = [array.shape[i] for i in order]
    if not array.nbytes:
        return np.empty(array.shape, array.dtype)
    return np.ndarray(shape, array.dtype, block, offset).transpose(np.argsort(order))
