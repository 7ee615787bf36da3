"""Horizontal fusion: the same call on several small arrays as one, on arrays side by side.

What the layers of a small network do alike, such as the slopes of their activations, then costs one
call's overhead, a quarter of a microsecond, instead of one for each layer.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..functions import part
from ..ir import Call, Home, Program, Storage, Value, new_value, values_in, view
from ..ops import is_elementwise, takes_out

SMALL = 1 << 13  # bytes of each array, at most


class _Bundle(NamedTuple):
    """One array in which others lie, and what the elements behind some of those are, if any are."""

    whole: Value
    padding: np.generic | None


def fuse_horizontally(program: Program) -> Program:
    """Put calls of element-wise functions together that differ in one small array.

        a = tanh(x)              xy = [x, y]
        b = tanh(y)              ab = tanh(xy)
                                 a, b = parts of ab

    The first of them takes along those whose operands are there before it.
    """
    calls, makers = program.calls, program.makers()
    taken = program.written().union(v.storage for v in program.outputs)
    operands = _operands(program, taken)
    kinds = {call: _kind(call, operand) for call, operand in operands.items()}
    readers: dict[Value, list[Call]] = defaultdict(list)
    for call, operand in operands.items():
        readers[operand].append(call)
    ready: dict[Hashable, list[Call]] = defaultdict(
        list
    )  # by kinds, those whose operands are there
    alone: set[Hashable] = set()  # kinds of which a call went without others: so do those after it
    numbers = {call: i for i, call in enumerate(calls)}
    bundles = _Bundles()
    left: list[Call] = []
    joined: set[Call] = set()
    for call in calls:
        if call in joined:
            continue
        made, group = [call], [call]
        if call in operands and kinds[call] not in alone:
            group = sorted({call, *ready.pop(kinds[call], ())}, key=numbers.__getitem__)
            values = tuple(operands[c] for c in group)
            free = all(_can_move(makers[v]) and v.storage not in taken for v in values)
            if bundles.can_join(group, values, free):
                joined.update(group)
                made = bundles.joined(group, values)
            else:
                alone.add(kinds[call])
                group = [call]
        left += made
        for reader in (reader for c in group for r in c.results for reader in readers[r]):
            ready[kinds[reader]].append(reader)
    return program._replace(calls=left).substituted(bundles.moved)


def _operands(program: Program, taken: Collection[Storage]) -> dict[Call, Value]:
    """The only operand of each call that may be joined with others; no result is `taken`."""
    makers, written = program.makers(), program.written()
    return {
        call: operand
        for call in program.calls
        if (operand := _operand(call)) in makers
        and operand.storage not in written
        and call.results[0].storage not in taken
    }


def _kind(call: Call, operand: Value) -> Hashable:
    """What calls have in common that can be made as one."""
    others = tuple(
        (a.dtype, a.array.tobytes()) if isinstance(a, Value) else (type(a), repr(a))
        for a in call.args
        if a is not operand
    )
    position = [*call.args].index(operand)
    errors = tuple((call.errors or {}).items())
    return call.fun, position, others, operand.dtype, call.results[0].dtype, errors


def _can_move(maker: Call) -> bool:
    """Whether what a call makes may lie elsewhere."""
    return takes_out(maker)


class _Bundles:
    """Values that lie side by side in one array each; `moved` has each of them in its place."""

    def __init__(self) -> None:
        self.moved: dict[Value, Value] = {}
        self._bundles: dict[tuple[Value, ...], _Bundle] = {}

    def can_join(self, group: Sequence[Call], operands: tuple[Value, ...], free: bool) -> bool:
        """Whether calls of a kind can be made as one; `free` operands can still lie elsewhere."""
        free = free and self.moved.keys().isdisjoint(operands)
        if not len({*operands}) == len(group) > 1 or not (free or operands in self._bundles):
            return False
        try:
            _padding_after(group[0], operands[0], self._padding(operands))
        except FloatingPointError:
            return False
        return True

    def joined(self, group: Sequence[Call], operands: tuple[Value, ...]) -> list[Call]:
        """One call for all of a group, and the views that are its results."""
        first, padding = group[0], self._padding(operands)
        if operands not in self._bundles:
            whole = self._side_by_side(operands, [v.storage.nbytes // v.itemsize for v in operands])
            self._bundles[operands] = _Bundle(whole, padding)
        given = self._bundles[operands].whole
        results = tuple(call.results[0] for call in group)
        starts = [_start(self.moved[v]) for v in operands]
        whole = self._side_by_side(results, np.diff([*starts, given.size]).tolist())
        self._bundles[results] = _Bundle(whole, _padding_after(first, operands[0], padding))
        args = tuple(given if a is operands[0] else a for a in first.args)
        errors, location = first.errors, first.location
        calls = [Call("pure", first.fun, args, results=(whole,), location=location, errors=errors)]
        for result in results:
            where = _start(self.moved[result]), result.shape, result.order
            calls.append(Call("view", part, (whole, *where), results=(result,), location=location))
        return calls

    def _padding(self, operands: tuple[Value, ...]) -> np.generic | None:
        """The number behind some of the arrays, or None."""
        if operands in self._bundles:
            return self._bundles[operands].padding
        return next((v.dtype.type(1) for v in operands if v.storage.home == "padded"), None)

    def _side_by_side(self, values: Sequence[Value], sizes: Iterable[int]) -> Value:
        """Put values into one new array, each after the one before; return that array.

        `sizes` are the elements for each: with the ones that follow, which calls go through, too.
        """
        starts = [*itertools.accumulate(sizes, initial=0)]
        padded = any(v.storage.home == "padded" for v in values)
        home: Home = "padded" if padded else "temporary"
        whole = new_value((starts.pop(),), values[0].dtype, home=home)
        for v, start in zip(values, starts, strict=True):
            self.moved[v] = v.placed(view(part, whole, start, v.shape, v.order))
        return whole


def _padding_after(call: Call, operand: Value, padding: np.generic | None) -> np.generic | None:
    """What an element-wise call makes of the number behind its operand."""
    if padding is None:
        return None
    args = [
        a if not isinstance(a, Value) else padding if a is operand else a.array for a in call.args
    ]
    with np.errstate(all="raise"):
        result: np.generic = call.fun(*args)
    return result


def _operand(call: Call) -> Value | None:
    """The only array that a small element-wise call reads, beside constants of one element."""
    if not is_elementwise(call) or call.kind != "pure":
        return None
    arrays = [v for v in values_in(call.args) if not (v.is_constant and v.size == 1)]
    if call.kwargs or len(call.results) != 1 or len(set(arrays)) != 1 or call.fun.nout != 1:
        return None
    operand, (result,) = arrays[0], call.results
    small = operand.size > 1 and max(operand.nbytes, result.nbytes) <= SMALL
    plain = (
        operand.storage.home in ("temporary", "padded")
        and result.storage.home == "temporary"
        and operand.is_contiguous
        and operand.order == result.order
    )
    whole = result.is_whole
    return operand if small and plain and whole and operand.shape == result.shape else None


def _start(value: Value) -> int:
    """Where a value starts in the array that it lies in, in elements."""
    return value.offset // value.dtype.itemsize
