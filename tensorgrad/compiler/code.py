"""Functions of Python, written line by line: their source, and what the names in it stand for."""

from __future__ import annotations

import builtins
import itertools
import keyword
import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Protocol

import numpy as np

from ..engine.registry import name_of
from ..engine.typing import Array, Function
from .ir import Value, values_in


class Native(Protocol):
    """Native code that lines of Python call: its intermediate representation, and as assembly."""

    ir: str

    @property
    def assembly(self) -> str:
        """The machine code, as text."""


class Code:
    """Lines of Python, and the objects that their names stand for; `native` is what they call.

    The `parameters` are the values a0, a1 ... that a call passes.
    """

    def __init__(self, names: Mapping[str, Any], parameters: Sequence[Value] = ()) -> None:
        self.names = dict(names)
        self.native: Native | None = None
        self.parameters = parameters
        self._by_id = {id(thing): name for name, thing in names.items()}
        self._numbers = itertools.count(1)
        self._values: dict[Value, str] = {}
        self._full: dict[Any, Array] = {}
        for i, v in enumerate(parameters):
            self.local(v, f"a{i}")

    def name(self, thing: Any, wish: str = "c") -> str:
        """A name for an object, always the same."""
        name = self._by_id.get(id(thing))
        if name is None:
            wish = wish if wish.isidentifier() else "c"
            name = wish = f"{wish}_" if _is_reserved(wish) else wish
            while name in self.names:
                name = f"{wish}_{next(self._numbers)}"
            self.names[name] = thing
            self._by_id[id(thing)] = name
        return name

    def bind(self, value: Value, array: Array) -> None:
        """Let a value be an array that stays where it is."""
        self._values[value] = self.name(array, "b")

    def local(self, value: Value, name: str | None = None) -> str:
        """Let a value be a local variable."""
        self._values[value] = name or f"v{len(self._values)}"
        return self._values[value]

    def knows(self, value: Value) -> bool:
        """Whether the value has a name."""
        return value in self._values

    def variables(self) -> list[Value]:
        """The values that are local variables."""
        return [v for v, name in self._values.items() if name not in self.names]

    def fixed(self, value: Value) -> Array | None:
        """The array that a value always is, or None."""
        return self.names.get(self._values[value])

    def text(self, part: Any) -> str:
        """An expression for an argument."""
        if isinstance(part, Value):
            return self._values[part]
        if part is None or part is ... or type(part) in (bool, int, str):
            return "..." if part is ... else repr(part)
        if type(part) is float and part - part == 0:
            return repr(part)
        if type(part) is slice:
            return f"slice({self.text(part.start)}, {self.text(part.stop)}, {self.text(part.step)})"
        if type(part) in (tuple, list) and values_in(part):
            inner = ", ".join(map(self.text, part))
            return f"[{inner}]" if type(part) is list else f"({inner},)"
        if type(part) is tuple and all(type(p) in (int, type(None)) for p in part):
            return repr(part)
        return self.name(part)

    def vector(self, array: str) -> str:
        """An expression for the elements of a contiguous array, in a row."""
        fixed = self.names.get(array)
        if fixed is None:
            return f"{array}.reshape(-1)"
        return array if fixed.ndim == 1 else self.name(fixed.reshape(-1), "row")

    def full(self, number: Any, like: Value) -> str:
        """A name for an array of a number, in the shape and dtype of a contiguous one."""
        key = like.shape, like.strides, like.dtype, repr(number)
        if key not in self._full:
            self._full[key] = np.full(like.shape, number, like.dtype, like.order)
        return self.name(self._full[key], "all")

    def call(self, fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """An expression for a call."""
        given = [*map(self.text, args), *(f"{k}={self.text(v)}" for k, v in kwargs.items())]
        return f"{self.function(fun)}({', '.join(given)})"

    def function(self, fun: Function) -> str:
        """A name for a function."""
        known = self._by_id.get(id(fun))
        return known or self.name(fun, re.sub(r"\W", "_", name_of(fun).strip("<>'_")))

    def attribute(self, value: Value, name: str) -> str:
        """An attribute of an array, or of its attribute: a view, or a method.

        If the array stays, it is looked up once.
        """
        array = self.fixed(value)
        if array is None:
            return f"{self.text(value)}.{name}"
        bound = f"{self.text(value)}_{name.replace('.', '_')}"
        self.names.setdefault(bound, attrgetter(name)(array))
        return bound

    def defined(self, source: str) -> Function:
        """The function that the source defines, with all names as its global variables."""
        made: dict[str, Function] = {}
        exec(
            source, {**self.names, "__name__": __name__}, made
        )  # many variables of a closure compile slowly
        return made.popitem()[1]


def function(name: str, parameters: Sequence[str], lines: Sequence[str]) -> str:
    """The source of a function."""
    return "\n".join([f"def {name}({', '.join(parameters)}):", *indented(lines or ["pass"])])


def indented(lines: Sequence[str]) -> list[str]:
    """The lines, one level further in."""
    return ["    " + line for line in lines]


def _is_reserved(name: str) -> bool:
    """Whether the lines of a program may use a name for something else."""
    names = r"[agitv]\d*|args[_\d]*|arrays|base|chain|high|low|results|start|stop|thread|times"
    local = re.fullmatch(names, name)
    return local is not None or keyword.iskeyword(name) or hasattr(builtins, name)
