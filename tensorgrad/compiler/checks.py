"""Checks that Python's state is what it was: expressions, compiled into one function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any, NamedTuple

from .objects import has_type, is_value, same


class _Check(NamedTuple):
    """An expression that must be true, and what to say if it is not."""

    expression: str
    what: str


class Checks:
    """Expressions that must be true for a program to hold.

    Things stand in an expression for its gaps, `{}`. Some checks are `settled`: whatever changes
    their values counts that in `epoch`.
    """

    def __init__(self) -> None:
        self._each: dict[_Check, None] = {}  # in each call, and those after `epoch` has grown
        self._settled: dict[_Check, None] = {}
        # By the id of a module's variables: these, and the checks of some of them.
        self._variables: dict[int, tuple[dict[str, Any], list[_Check]]] = {}
        self._cells: dict[str, CellType] = {}
        self._names: dict[int, str] = {}

    def test(self, expression: str, *things: Any, settled: bool = False) -> None:
        """Require that an expression is true."""
        self._add(expression.format(*map(self._name, things)), expression, things, settled)

    def require(self, expression: str, value: Any, *things: Any, settled: bool = False) -> None:
        """Require that an expression is the same value, or an equal number or text."""
        text = self._is(expression.format(*map(self._name, things)), value)
        self._add(text, expression, things, settled)

    def require_variable(self, variables: dict[str, Any], name: str, value: Any) -> None:
        """Require that a global variable is the same value."""
        _, checks = self._variables.setdefault(id(variables), (variables, []))
        is_plain = name.isidentifier()  # unlike those that pytest adds to a test module
        text = name if is_plain else f"{self._name(variables)}[{name!r}]"
        checks.append(_Check(self._is(text, value), name))

    def require_content(self, cell: CellType, name: str, value: Any) -> None:
        """Require that a variable of an outer function is the same value."""
        own = self._new_name(cell)
        self._each[_Check(self._is(own, value), name)] = None

    def function(self) -> Callable[[], bool]:
        """A function that makes the checks, but those that are settled.

        It lies in the user's own module, and so looks its variables up in the fastest way.
        """
        *others, (variables, own) = sorted(
            [({}, []), *self._variables.values()], key=lambda scope: len(scope[1])
        )
        tests = [check.expression for check in (*own, *self._each)]
        for more, checks in others:
            if checks:
                made = _defined([check.expression for check in checks], more, self._cells)
                tests.append(f"{self._name(made)}()")
        return _defined(tests, variables, self._cells)

    def settled(self) -> Callable[[], bool]:
        """A function that makes the checks that are settled."""
        contents = {name: cell.cell_contents for name, cell in self._cells.items()}
        return _defined([check.expression for check in self._settled], contents, {})

    def changed(self) -> str | None:
        """What has changed, of all that is checked: the first that is found."""
        scopes = [*self._variables.values(), ({}, [*self._each, *self._settled])]
        for variables, checks in scopes:
            for check in checks:
                if not _defined([check.expression], variables, self._cells)():
                    return check.what
        return None

    def _add(self, text: str, expression: str, things: tuple[Any, ...], settled: bool) -> None:
        if expression.startswith("{}("):  # a function that compares
            what = f"what a {_shown(things[:2][-1])} holds"
        elif expression.startswith("[*"):
            what = f"the keys of a {_shown(things[0])}"
        else:
            what = expression.format(*map(_shown, things))
        checks = self._settled if settled else self._each
        checks[_Check(text, what)] = None

    def _is(self, text: str, value: Any) -> str:
        expected = self._name(value)
        equal = f" or {self._name(same)}({text}, {expected})" if is_value(value) else ""
        return f"{text} is {expected}{equal}"

    def _name(self, thing: Any) -> str:
        """The name of a thing in the expressions."""
        if id(thing) not in self._names:
            self._names[id(thing)] = self._new_name(CellType(thing))  # which keeps it, and its id
        return self._names[id(thing)]

    def _new_name(self, cell: CellType) -> str:
        name = f"_guarded_{len(self._cells)}"
        self._cells[name] = cell
        return name


def _shown(thing: Any) -> str:
    """A short text for a thing: the name of a function or a class, or else of its class."""
    return thing.__name__ if has_type(thing, (type, FunctionType)) else type(thing).__name__


def _defined(
    tests: Iterable[str], variables: dict[str, Any], cells: Mapping[str, CellType]
) -> FunctionType:
    """A function with these global variables and cells that says whether all tests are true."""
    text = " and ".join(f"({test})" for test in tests) or "True"
    names = sorted(cells.keys() & {*re.findall(r"\w+", text)})
    source = (
        f"def make({', '.join(names)}):\n def guard():\n  try:\n   return {text}\n"
        "  except Exception:\n   return False\n return guard"
    )
    made: dict[str, Any] = {}
    exec(compile(source, __file__, "exec"), made)
    (code,) = (c for c in made["make"].__code__.co_consts if isinstance(c, CodeType))
    closure = tuple(cells[name] for name in code.co_freevars)
    return FunctionType(code, variables, "guard", None, closure)
