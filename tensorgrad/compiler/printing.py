"""A program as text: one line for each call, with names for values that are given once."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np

from ..engine.registry import name_of
from .program import Call, Program, Value, mapped

_LETTERS = {"input": "a", "state": "s", "constant": "c"}  # of other values, "v"


class _Name(str):
    """A text that stands for itself, without quotation marks."""

    __slots__ = ()
    __repr__ = str.__str__


class Names:
    """The names of a program's values: a0, s0, c0 ... for those from outside, v0 ... for others."""

    def __init__(self, program: Program) -> None:
        self.given: dict[Value, _Name] = {}
        self.made = {r for call in program.calls for r in call.results}
        self._numbers = {letter: itertools.count() for letter in (*_LETTERS.values(), "v")}

    def name(self, value: Value) -> _Name:
        """The name of a value; of a constant number, that number."""
        if value.is_constant and value.size == 1:
            return _Name(f"{value.array.item()!r}")
        if value not in self.given:
            letter = "v" if value in self.made else _LETTERS.get(value.storage.home, "v")
            self.given[value] = _Name(f"{letter}{next(self._numbers[letter])}")
        return self.given[value]

    def shown(self, argument: Any) -> str:
        """An argument, in which names stand for values."""
        named = mapped(argument, (Value, np.ndarray), lambda v: self._named(v))
        return "..." if named is ... else repr(named)

    def _named(self, part: Any) -> _Name:
        return self.name(part) if isinstance(part, Value) else _Name(f"array{[*part.shape]}")

    def line(self, call: Call) -> str:
        """A call: what it makes, of what shape and dtype, by which function."""
        args = [*map(self.shown, call.args)]
        args += [f"{key}={self.shown(value)}" for key, value in call.kwargs.items()]
        made = ", ".join(f"{self.name(r)}: {spec(r)}" for r in call.results)
        made += ", ".join(map(self.name, call.writes))
        return f"{made}{' = ' if made else ''}{name_of(call.fun)}({', '.join(args)})"


def spec(value: Value) -> str:
    """The dtype and the shape of a value."""
    return f"{_name_of_dtype(value.dtype)}{[*value.shape]}"


_name_of_dtype = functools.cache(str)  # NumPy takes 5 us


def text_of(program: Program) -> str:
    """What a program reads from outside, its calls with the user's lines, and what it returns."""
    names = Names(program)
    lines = [(names.line(call), call.place) for call in program.calls]
    outputs = ", ".join(map(names.name, program.outputs))
    given = [
        f"{value.storage.home} {name}: {spec(value)}"
        for value, name in names.given.items()
        if value not in names.made
    ]
    width = min(80, max((len(line) for line, _ in lines), default=0))
    places = [f"  # {place}" if place != "?" else "" for _, place in lines]
    calls = [f"{line:{width}}{place}".rstrip() for (line, _), place in zip(lines, places)]
    return "\n".join([*given, *calls, f"return {outputs}".rstrip()])
