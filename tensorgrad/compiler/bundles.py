"""The same call on several small arrays as one, on arrays that lie side by side.

What the layers of a small network do alike, such as the slopes of their activations, then costs one
call's overhead, a quarter of a microsecond, instead of one for each layer.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..engine.arrays import order_of
from .functions import part
from .program import Call, Storage, Value, values_in, views_settled
from .spelling import spelling

SMALL = 1 << 13  # bytes of each array, at most


class _Bundle(NamedTuple):
    """One array in which others lie, and what the elements behind some of those are, if any are."""

    whole: Value
    padding: Any


_Bundles: TypeAlias = dict[tuple[Value, ...], _Bundle]


def bundled(calls: Sequence[Call], kept: Iterable[Value]) -> list[Call]:
    """With calls of element-wise functions that differ in one small array put together.

        a = tanh(x)              xy = [x, y]
        b = tanh(y)              ab = tanh(xy)
                                 a, b = parts of ab

    The first of them takes along those whose operands are there before it.
    """
    taken = {v.storage for v in kept}
    operands = {
        call: operand
        for call in calls
        if (operand := _operand(call)) is not None and call.results[0].storage not in taken
    }
    kinds = {call: _kind(call, operand) for call, operand in operands.items()}
    readers: dict[Value, list[Call]] = defaultdict(list)
    for call, operand in operands.items():
        readers[operand].append(call)
    ready: dict[Any, list[Call]] = defaultdict(list)  # by kinds, those whose operands are there
    alone: set[Any] = set()  # kinds of which a call went without others: so do those after it
    numbers = {call: i for i, call in enumerate(calls)}
    bundles: _Bundles = {}
    placed: set[Value] = set()  # in bundles
    left: list[Call] = []
    joined: set[Call] = set()
    for call in calls:
        if call in joined:
            continue
        made, group = [call], [call]
        if call in operands and kinds[call] not in alone:
            group = sorted(ready.pop(kinds[call]), key=numbers.__getitem__)
            values = tuple(operands[c] for c in group)
            free = placed.isdisjoint(values) and all(_is_free(v, taken) for v in values)
            if _is_one(group, values, bundles, free):
                joined.update(group)
                made = _joined(group, values, bundles)
                placed.update(values, (c.results[0] for c in group))
            else:
                alone.add(kinds[call])
                group = [call]
        left += made
        for reader in (reader for c in group for r in c.results for reader in readers[r]):
            ready[kinds[reader]].append(reader)
    return [*views_settled(left)]


def _kind(call: Call, operand: Value) -> Any:
    """What calls have in common that can be made as one."""
    others = tuple(
        (a.dtype, a.array.tobytes()) if isinstance(a, Value) else (type(a), repr(a))
        for a in call.args
        if a is not operand
    )
    position = [*call.args].index(operand)
    errors = tuple((call.errors or {}).items())
    return call.fun, position, others, operand.dtype, call.results[0].dtype, errors


def _is_free(operand: Value, taken: Collection[Storage]) -> bool:
    """Whether a value may lie elsewhere."""
    return (
        operand.storage not in taken
        and operand.call is not None
        and operand.call.kind != "view"
        and spelling(operand.call) is not None
    )


def _is_one(
    group: Sequence[Call], operands: tuple[Value, ...], bundles: _Bundles, free: bool
) -> bool:
    """Whether calls of a kind can be made as one, if `free` operands can lie side by side."""
    if not len({*operands}) == len(group) > 1 or not (free or operands in bundles):
        return False
    try:
        _padding_after(group[0], operands[0], _padding(operands, bundles))
    except FloatingPointError:
        return False
    return True


def _joined(group: Sequence[Call], operands: tuple[Value, ...], bundles: _Bundles) -> list[Call]:
    """One call for all of a group, and the views that are its results."""
    first, padding = group[0], _padding(operands, bundles)
    if operands not in bundles:
        whole = _side_by_side(operands, [v.storage.owner.size for v in operands])
        bundles[operands] = _Bundle(whole, padding)
    given = bundles[operands].whole
    results = tuple(call.results[0] for call in group)
    whole = _side_by_side(results, np.diff([*map(_start, operands), given.size]))
    bundles[results] = _Bundle(whole, _padding_after(first, operands[0], padding))
    args = tuple(given if a is operands[0] else a for a in first.args)
    joined = Call("pure", first.fun, args, results=(whole,), place=first.place)
    joined.errors, whole.call = first.errors, joined
    parts = []
    for result in results:
        where = (_start(result), result.shape, order_of(result.array))
        result.call = Call("view", part, (whole, *where), results=(result,), place=first.place)
        parts.append(result.call)
    return [joined, *parts]


def _padding(operands: tuple[Value, ...], bundles: _Bundles) -> Any:
    """The number behind some of the arrays, or None."""
    if operands in bundles:
        return bundles[operands].padding
    return next((v.dtype.type(1) for v in operands if v.storage.home == "padded"), None)


def _padding_after(call: Call, operand: Value, padding: Any) -> Any:
    """What an element-wise call makes of the number behind its operand."""
    if padding is None:
        return None
    args = [
        a if not isinstance(a, Value) else padding if a is operand else a.array for a in call.args
    ]
    with np.errstate(all="raise"):
        return call.fun(*args)


def _operand(call: Call) -> Value | None:
    """The only array that a small element-wise call reads, beside constants of one element."""
    if not call.is_elementwise or call.kind != "pure":
        return None
    arrays = [v for v in values_in(call.args) if not (v.is_constant and v.size == 1)]
    if call.kwargs or len(call.results) != 1 or len(set(arrays)) != 1 or call.fun.nout != 1:
        return None
    operand, (result,) = arrays[0], call.results
    small = operand.size > 1 and max(operand.nbytes, result.nbytes) <= SMALL
    plain = (
        operand.storage.home in ("temporary", "padded")
        and result.storage.home == "temporary"
        and not (operand.storage.writes or result.storage.writes)
        and operand.array.flags.forc
        and order_of(operand.array) == order_of(result.array)
    )
    whole = result.array is result.storage.owner
    made = operand.call is not None and operand.shape == result.shape
    return operand if small and plain and whole and made else None


def _side_by_side(values: Sequence[Value], sizes: Iterable[int]) -> Value:
    """Put values into one new array, each after the one before; return that array.

    `sizes` are the elements for each: with the ones that follow, which the calls go through, too.
    """
    starts = [*itertools.accumulate(sizes, initial=0)]
    array = np.ones(starts.pop(), values[0].dtype)
    padded = any(v.storage.home == "padded" for v in values)
    storage = Storage("padded" if padded else "temporary", array)
    for v, start in zip(values, starts, strict=True):
        v.array, v.storage = part(array, start, v.shape, order_of(v.array)), storage
    return Value(array, storage)


def _start(value: Value) -> int:
    """Where a value starts in the array that it lies in, in elements."""
    start: int = value.array.ctypes.data - value.storage.owner.ctypes.data
    return start // value.dtype.itemsize
