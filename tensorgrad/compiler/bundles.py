"""The same call on several small arrays as one, on arrays that lie side by side.

What the layers of a small network do alike, such as the slopes of their activations, then costs one
call's overhead, a quarter of a microsecond, instead of one for each layer.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

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


def bundled(calls: Sequence[Call], kept: Collection[Value]) -> list[Call]:
    """With calls of element-wise functions that differ in one small array put together."""
    calls = [*calls]
    bundles: dict[tuple[Value, ...], _Bundle] = {}
    taken = {v.storage for v in kept}
    while group := _group(calls, bundles, taken):
        operands = tuple(v for call in group if (v := _operand(call)) is not None)
        padding = _padding(operands, bundles)
        if operands not in bundles:
            whole = _side_by_side(operands, [v.storage.owner.size for v in operands])
            bundles[operands] = _Bundle(whole, padding)
        given = bundles[operands].whole
        results = tuple(call.results[0] for call in group)
        starts = [*map(_start, operands), given.size]
        whole = _side_by_side(results, np.diff(starts))
        bundles[results] = _Bundle(whole, _padding_after(group[0], padding))
        args = tuple(given if a is operands[0] else a for a in group[0].args)
        first = group[0]
        joined = Call("pure", first.fun, args, results=(whole,), place=first.place)
        joined.errors, whole.call = first.errors, joined
        parts = []
        for result in results:
            where = (_start(result), result.shape, order_of(result.array))
            view = Call("view", part, (whole, *where), results=(result,))
            result.call, view.place = view, first.place
            parts.append(view)
        i = calls.index(first)
        rest = [call for call in calls[i + 1 :] if call not in group]
        calls = [*views_settled([*calls[:i], joined, *parts, *rest])]
    return calls


def _group(
    calls: Sequence[Call], bundles: Mapping[tuple[Value, ...], _Bundle], taken: Collection[Storage]
) -> list[Call]:
    """The first calls that can be made as one, or none."""
    alike: dict[Any, list[Call]] = defaultdict(list)
    made: dict[Value, int] = {r: i for i, call in enumerate(calls) for r in call.results}
    placed = {v for values in bundles for v in values}
    for i, call in enumerate(calls):
        operand = _operand(call)
        if operand is None or call.results[0].storage in taken:
            continue
        others = tuple(
            (a.dtype, a.array.tobytes()) if isinstance(a, Value) else (type(a), repr(a))
            for a in call.args
            if a is not operand
        )
        position = call.args.index(operand)
        errors = tuple((call.errors or {}).items())
        group = alike[call.fun, position, others, operand.dtype, call.results[0].dtype, errors]
        if not group or made.get(operand, i) < calls.index(group[0]):
            group.append(call)
    for group in alike.values():
        operands = tuple(v for call in group if (v := _operand(call)) is not None)
        free = all(
            v.storage not in taken
            and v not in placed
            and v.call is not None
            and v.call.kind != "view"
            and spelling(v.call) is not None
            for v in operands
        )
        distinct = len(set(operands)) == len(group) > 1
        if distinct and (operands in bundles or free):
            try:
                _padding_after(group[0], _padding(operands, bundles))
            except FloatingPointError:
                continue
            return group
    return []


def _padding(operands: tuple[Value, ...], bundles: Mapping[tuple[Value, ...], _Bundle]) -> Any:
    """The number behind some of the arrays, or None."""
    if operands in bundles:
        return bundles[operands].padding
    return next((v.dtype.type(1) for v in operands if v.storage.home == "padded"), None)


def _padding_after(call: Call, padding: Any) -> Any:
    """What an element-wise call makes of the number behind its operand."""
    if padding is None:
        return None
    operand = _operand(call)
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
