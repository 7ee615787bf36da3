"""A program as text, one line for each call.

float64 unless noted
input a0: [5, 3]
state s0: [4, 3]                # net.layers[0].weight
v0: [5, 4] = inner(a0, s0)      # train.py:12
v1: int64[5] = argmax(v0, axis=1)  # train.py:13
s0[...] = v0                    # train.py:14
return v1
"""

from __future__ import annotations

import functools
import itertools
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..engine.registry import name_of
from ..engine.typing import Array
from .functions import Attribute, assign_at, getitem
from .ir import Call, Program, Value, mapped
from .strides import bounds_of

Labels: TypeAlias = Sequence[tuple[str, Array]]
"""Arrays from outside of a program, each with an expression for it in the user's code."""

_LETTERS = {"input": "a", "state": "s", "constant": "c"}  # of other values, "v"
_WIDTH = 60  # columns: places and labels are aligned up to here


class _Text(str):
    """A text that is printed without quotation marks."""

    __slots__ = ()
    __repr__ = str.__str__


class Names:
    """The names of a program's values: a0, s0, c0 ... for those from outside, v0 ... for others."""

    def __init__(self, program: Program) -> None:
        self.given: dict[Value, _Text] = {}
        self.made = {r for call in program.calls for r in call.results}
        self._numbers = {letter: itertools.count() for letter in (*_LETTERS.values(), "v")}
        dtypes = Counter(v.dtype for call in program.calls for v in (*call.results, *call.reads))
        dtypes.update(v.dtype for v in program.outputs)
        self.usual = max(dtypes, key=lambda dtype: dtypes[dtype], default=np.dtype(float))

    def name(self, value: Value) -> _Text:
        """The name of a value; of a constant number, that number."""
        if value.is_constant and value.size == 1:
            return _Text(f"{value.array.item()!r}")
        if value not in self.given:
            letter = "v" if value in self.made else _LETTERS.get(value.storage.home, "v")
            self.given[value] = _Text(f"{letter}{next(self._numbers[letter])}")
        return self.given[value]

    def typed(self, value: Value) -> str:
        """The name and the shape of a value; its dtype and its order, if they are not usual."""
        dtype = "" if value.dtype == self.usual else _name_of_dtype(value.dtype)
        order = " by columns" if value.order == "F" else ""
        return f"{self.name(value)}: {dtype}{[*value.shape]}{order}"

    def shown(self, argument: Any) -> str:
        """An argument, in which names stand for values."""
        named = mapped(argument, (Value, np.ndarray), self._named)
        return "..." if named is ... else repr(named)

    def _named(self, part: Any) -> _Text:
        return self.name(part) if isinstance(part, Value) else _Text(f"array{[*part.shape]}")

    def line(self, call: Call) -> str:
        """A call: what it makes, of what shape and dtype, by which function."""
        expression = self._expression(call)  # whose values get their names first
        made = ", ".join(map(self.typed, call.results))
        made += ", ".join(map(self.name, call.writes))
        return f"{made} = {expression}" if made else expression

    def _expression(self, call: Call) -> str:
        fun, args = call.fun, [*map(self.shown, call.args)]
        if isinstance(fun, Attribute):
            return f"{args[0]}.{name_of(fun)}"
        if fun is getitem or fun is assign_at:
            value = "" if fun is getitem else f" = {args[2]}"
            return f"{args[0]}[{self._index(call.args[1])}]{value}"
        if fun is bool:
            return f"require bool({args[0]}) is {args[1]}"
        args += [f"{k}={self.shown(v)}" for k, v in call.kwargs.items() if not _is_default(k, v)]
        return f"{name_of(fun)}({', '.join(args)})"

    def _index(self, index: Any) -> str:
        if isinstance(index, tuple) and index:
            return ", ".join(map(self._index, index)) + "," * (len(index) == 1)
        if isinstance(index, slice):
            start, stop, step = (
                "" if part is None else self.shown(part)
                for part in (index.start, index.stop, index.step)
            )
            return f"{start}:{stop}" + (f":{step}" if step else "")
        return self.shown(index)


def _is_default(key: str, value: Any) -> bool:
    """Whether an option can be left out; `axis=None` is a default of some functions only."""
    return (value is None and key != "axis") or (value is False and key == "keepdims")


def spec(value: Value) -> str:
    """The dtype and the shape of a value."""
    return f"{_name_of_dtype(value.dtype)}{[*value.shape]}"


_name_of_dtype = functools.cache(str)  # NumPy takes 5 us


def text_of(program: Program, labels: Labels = ()) -> str:
    """What a program reads from outside, its calls with the user's lines, and what it returns."""
    names = Names(program)
    calls = [(names.line(call), os.path.basename(call.location)) for call in program.calls]
    outputs = ", ".join(map(names.name, program.outputs))
    outside = [
        (
            f"{value.storage.home} {names.typed(value)}",
            label_of(value, labels) or _residents(value, program, names),
        )
        for value in [*names.given]
        if value not in names.made
    ]
    lines = [*outside, *calls]
    width = min(_WIDTH, max((len(line) for line, _ in lines), default=0))
    return "\n".join([
        f"{names.usual} unless noted",
        *(f"{line:{width}}  # {note}" if note not in ("", "?") else line for line, note in lines),
        f"return {outputs}".rstrip(),
    ])  # fmt: skip


def _residents(value: Value, program: Program, names: Names) -> str:
    """For a vector of several results side by side, which no call makes: what these are."""
    if value.storage.home not in ("temporary", "padded"):
        return ""
    calls = [call for call in program.calls if call.kind != "view"]
    inside = [r for call in calls for r in call.results if r.storage is value.storage]
    return f"{', '.join(map(names.name, inside))} side by side"


def label_of(value: Value, labels: Labels) -> str:
    """What the user calls a state: an array in the same memory, those in it, or one around it."""
    if value.storage.home != "state" or not value.size:
        return ""
    low, high = bounds_of(value.array)
    ordered = sorted(labels, key=lambda label: ("._" in label[0], len(label[0])))
    inside: dict[tuple[int, int], str] = {}
    around: dict[int, str] = {}
    for label, array in ordered:
        start, stop = bounds_of(array)
        if low <= start < stop <= high and "._" not in label:
            inside.setdefault((start, stop), label)
        if start <= low < high <= stop:
            around.setdefault(stop - start, label)
    if high - low in around and (around[high - low] in inside.values() or not inside):
        return around[high - low]
    parts = [inside[bounds] for bounds in sorted(inside)]
    if parts:
        return ", ".join(parts[:3]) + (f" and {len(parts) - 3} more" if len(parts) > 3 else "")
    return f"a part of {around[min(around)]}" if around else ""
