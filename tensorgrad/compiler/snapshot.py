"""What a function could change that no trace shows: Python's variables, attributes, containers."""

from __future__ import annotations

import dis
import functools
import operator
import random
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..engine.views import is_writeable, owner_of
from ..errors import TraceError
from .ir import PACKAGE, make_writeable
from .objects import (
    Attributes,
    Variables,
    attributes_of,
    function_of,
    has_type,
    is_librarys,
    is_plain,
    module_of,
    parts_of,
    same,
    same_parts,
)

# Whose changes the library itself brings into the program: optimizers and schedules.
FOLLOWED = f"{__package__.partition('.')[0]}.optim."


class Snapshot:
    """All that is within reach of a function and its arguments, as it is now.

    `tensors` are the tensors among it, `protected` the plain arrays that `protect` makes read-only.
    `restore` makes everything else what it was; `require_unchanged` raises a TraceError for what a
    compiled call could not repeat.
    """

    def __init__(self, *roots: Any) -> None:
        self.tensors: list[Tensor] = []
        self.protected: list[Array] = []
        self._holders: list[tuple[str, Any, dict[Any, Any], bool]] = []
        self._followed: list[tuple[str, Any, dict[Any, Any]]] = []
        self._iterators: list[tuple[str, Any, Any]] = []
        self._codes: list[CodeType] = []  # of the user's functions
        self._generators: list[tuple[str, np.random.Generator, Any]] = []
        self._seen: dict[int, Any] = {}
        for root in roots:
            self._visit(root, "", True)
        self._randoms = _global_random_states()

    def before(self) -> dict[int, dict[Any, Any]]:
        """What optimizers and schedules, and what they hold, held; by their ids."""
        return {id(holder): held for _, holder, held, users in self._holders if not users}

    def labels(self) -> list[tuple[str, Array]]:
        """The arrays in reach and those of tensors, each with an expression for it."""
        found = [
            (_joined(path, holder, name), part._array if has_type(part, Tensor) else part)
            for path, holder, held, _ in self._holders
            for name, part in held.items()
        ]
        return [(label, array) for label, array in found if type(array) is np.ndarray]

    def moved(self) -> list[tuple[Any, dict[Any, Any]]]:
        """The optimizers and schedules, and what they hold, that have changed, as they were."""
        first = self.before()
        holders = [holder for _, holder, _ in self._followed]
        return [(h, first[id(h)]) for h in holders if not same_parts(h, first[id(h)])]

    def _visit(self, thing: Any, path: str, users: bool) -> None:
        """Note a thing, and go on to what it holds.

        `users` says whether only the user's code would change it.
        """
        kind = type(thing)
        if id(thing) in self._seen or is_plain(thing):
            return
        self._seen[id(thing)] = thing
        if kind is FunctionType:  # most things are, and it has no subclasses
            self._visit_function(thing, users)
        elif has_type(thing, Tensor):
            self.tensors.append(thing)
        elif has_type(thing, np.ndarray):
            owner = owner_of(thing)  # without one of its own, an array stays read-only
            if users and is_writeable(thing) and is_writeable(owner) and owner.flags.owndata:
                self.protected.append(thing)
        elif "numpy.random" in sys.modules and has_type(thing, np.random.Generator):
            self._generators.append((path, thing, thing.bit_generator.state))
        elif has_type(thing, MethodType):
            self._visit(thing.__self__, path, users)
            self._visit(thing.__func__, path, users)
        elif has_type(thing, functools.partial):
            self._visit((thing.func, thing.args, thing.keywords), path, users)
        elif any("__next__" in vars(base) for base in kind.__mro__):
            if users:
                self._iterators.append((path, thing, _progress(thing)))
        elif has_type(thing, type):
            for base in thing.__mro__:
                for part in vars(base).values():
                    function = part if type(part) is FunctionType else function_of(part)
                    if type(function) is FunctionType:
                        self._visit(function, base.__name__, users)
        elif module_of(kind).startswith(__package__):  # the plans of another function
            self._visit((attributes_of(thing) or {}).get("__wrapped__"), path, users)
        elif has_type(thing, (ModuleType, CodeType)):
            return
        elif (held := parts_of(thing)) is not None:
            self._visit_holder(thing, held, path, users)

    def _visit_holder(self, thing: Any, held: dict[Any, Any], path: str, users: bool) -> None:
        kind = type(thing)
        self._visit(kind, path, users)
        users = users and not module_of(kind).startswith(FOLLOWED)
        self._holders.append((path, thing, held, users))
        home = module_of(kind)
        if home.startswith(FOLLOWED) and home != f"{FOLLOWED}flat":  # which counts the steps
            self._followed.append((path, thing, held))
        attributes = attributes_of(thing)
        if has_type(thing, (Mapping, list, set)) and attributes is not None:
            others = Attributes(thing)
            self._holders.append((path, others, parts_of(others) or {}, users))
        for name, part in held.items():
            self._visit(part, _joined(path, thing, name), users)

    def _visit_function(self, function: FunctionType, users: bool) -> None:
        ours = function.__code__.co_filename.startswith(PACKAGE)
        if is_librarys(function) and not ours:
            return
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            self._visit(wrapped, "", users)
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
        for name, cell in cells.items():
            held = parts_of(cell) or {}
            self._holders.append((name, cell, held, users and not ours))
            self._visit(held.get("cell_contents"), name, users)
        for default in (function.__defaults__ or (), function.__kwdefaults__ or {}):
            self._visit(default, function.__name__, users)
        if ours:
            return
        codes = [*_codes(function.__code__)]
        self._codes += codes
        names = {name for code in codes for name in code.co_names}
        if vars(function):
            self._holders.append((function.__name__, function, dict(vars(function)), users))
        self._visit_variables(function.__globals__, names, "", users, set())

    def _visit_variables(
        self, variables: dict[str, Any], names: set[str], path: str, users: bool, seen: set[int]
    ) -> None:
        """Note the variables of a module that a function mentions, and of modules among them."""
        seen.add(id(variables))
        held = Variables(variables, names)
        self._holders.append((path, held, parts_of(held) or {}, users))
        for name, part in (parts_of(held) or {}).items():
            self._visit(part, _joined(path, held, name), users)
            if has_type(part, ModuleType) and not is_librarys(part):
                more = attributes_of(part) or {}
                if id(more) not in seen:
                    self._visit_variables(more, names, _joined(path, held, name), users, seen)

    def protect(self) -> None:
        """Make plain arrays read-only: a compiled function cannot repeat what changes one."""
        theirs = {id(owner_of(t._array)) for t in self.tensors if type(t._array) is np.ndarray}
        self.protected = [a for a in self.protected if id(owner_of(a)) not in theirs]
        for array in self.protected:
            array.flags.writeable = False

    def require_unchanged(self, drawn: set[int]) -> None:
        """Raise a TraceError if something has changed; `drawn` generators may have moved on."""
        for path, holder, before, users in self._holders:
            if users:
                self._require_same(path, holder, before)
        self.require_followed()
        for path, iterator, progress in self._iterators:
            if _progress(iterator) != progress:
                raise TraceError(
                    f"{self._line(path)}the function takes items from {path or 'an iterator'}, "
                    "which would not move on in compiled calls: take them outside and pass them as "
                    "arguments"
                )
        for path, rng, state in self._generators:
            if id(rng) not in drawn and not _equal(rng.bit_generator.state, state):
                raise TraceError(
                    f"{self._line(path)}the function draws random numbers from "
                    f"{path or 'a generator'}, which would be the same in every compiled call: use "
                    "tensorgrad.nn.dropout, or draw them outside and pass them as an argument"
                )
        if not _equal(_global_random_states(), self._randoms):
            raise TraceError(
                f"{self._line('random')}the function draws random numbers from the global "
                "generator, which would be the same in every compiled call: draw them outside and "
                "pass them as an argument"
            )

    def _require_same(self, path: str, holder: Any, before: dict[Any, Any]) -> None:
        for name in _changes(holder, before):
            what = _joined(path, holder, name)
            raise TraceError(
                f"{self._line(what)}the function changes {what}, which is Python's, and would not "
                "change in compiled calls: keep it in a tensor, return it, or change it outside of "
                "the compiled function"
            )

    def require_followed(self) -> None:
        """Raise a TraceError if the user's code has changed an optimizer or a schedule."""
        for path, holder, before in self._followed:
            self._require_same(path, holder, before)

    def note_followed(self) -> None:
        """Take the optimizers and schedules as they are now, after a change that is repeated."""
        self._followed = [(path, h, parts_of(h) or {}) for path, h, _ in self._followed]

    def _line(self, path: str) -> str:
        """Where the user's code stores or names a thing, as "file:line: ", or "" if unknown."""
        *_, name = re.findall(r"\w+", re.sub(r"\[.*?\]", "", path)) or [None]
        mentions = [
            (not mention.opname.startswith("STORE"), code.co_filename, mention.positions.lineno)
            for code in self._codes
            if code.co_name != "__init__"
            for mention in dis.get_instructions(code)
            if mention.argval == name and mention.positions and mention.positions.lineno
        ]
        _, file, line = min(mentions, default=(False, "", 0))
        return f"{file}:{line}: " if name and file else ""

    def restore(self) -> None:
        """Put everything back that Python code has changed."""
        make_writeable(self.protected)
        for _, holder, before, _ in self._holders:
            if not same_parts(holder, before):
                _put_back(holder, before)
        for _, rng, state in self._generators:
            rng.bit_generator.state = state
        python, legacy = self._randoms
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002 (somebody may still use it)


def require_seeds(lines: Sequence[str]) -> None:
    """Raise a TraceError if the system was asked for random numbers, at these lines."""
    if lines:
        raise TraceError(
            f"{lines[0]}: random numbers without a seed would be the same in every compiled call: "
            "use tensorgrad.nn.dropout, or draw them outside and pass them as an argument"
        )


def _changes(holder: Any, before: dict[Any, Any]) -> list[Any]:
    """The names of attributes or items of an object that have changed."""
    if same_parts(holder, before):
        return []
    after = parts_of(holder) or {}
    classes = () if attributes_of(holder) is None else type(holder).__mro__
    changed = []
    for name in {**before, **after}:
        default = next((vars(kind)[name] for kind in classes if name in vars(kind)), _MISSING)
        if not same(before.get(name, default), after.get(name, default)):
            changed.append(name)
    if not changed and before.keys() == after.keys():  # they come in another order
        return [next(a for a, b in zip(before, after) if not same(a, b))]
    return changed


_MISSING = object()


def _progress(iterator: Any) -> Any:
    """How far an iterator has got, as far as one can know without taking an item."""
    try:
        frame = getattr(iterator, "gi_frame", None)
        if frame is not None:
            return frame.f_lasti, {name: id(value) for name, value in frame.f_locals.items()}
        return operator.length_hint(iterator, -1), repr(iterator)
    except Exception:  # the user's own iterator, which cannot tell
        return None


def _put_back(holder: Any, before: dict[Any, Any]) -> None:
    if has_type(holder, Variables):
        for name in (parts_of(holder) or {}).keys() - before.keys():
            del holder.variables[name]
        holder.variables.update(before)
    elif has_type(holder, CellType):
        if before:
            holder.cell_contents = before["cell_contents"]
        else:
            del holder.cell_contents
    elif has_type(holder, Attributes):
        vars(holder.container).clear()
        vars(holder.container).update(before)
    elif has_type(holder, (list, bytearray)):
        holder[:] = before.values()
    elif has_type(holder, deque):
        holder.clear()
        holder.extend(before.values())
    elif has_type(holder, (MutableMapping, set)):
        holder.clear()
        holder.update(before)
    elif not has_type(holder, (tuple, frozenset, Mapping)):
        for name in (parts_of(holder) or {}).keys() - before.keys():
            object.__delattr__(holder, name)
        for name, part in before.items():
            object.__setattr__(holder, name, part)


def _joined(path: str, holder: Any, name: Any) -> str:
    if has_type(holder, (CellType, Variables)):
        return f"{path}.{name}" if path and has_type(holder, Variables) else path or str(name)
    if has_type(holder, (list, tuple, Mapping, set)):
        return f"{path}[{name!r}]"
    return f"{path}.{name}" if path else str(name)


def _equal(a: Any, b: Any) -> bool:
    """Whether two states of generators are equal."""
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return all(map(_equal, a, b)) if isinstance(a, tuple) else bool(a == b)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and those of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _global_random_states() -> tuple[Any, Any]:
    """The states of Python's and NumPy's global generators; the first call imports NumPy's."""
    return random.getstate(), np.random.get_state()  # noqa: NPY002
