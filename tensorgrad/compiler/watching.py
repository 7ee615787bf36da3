"""What a function could change that no trace shows: Python's variables, attributes, containers."""

from __future__ import annotations

import contextlib
import dis
import functools
import operator
import os
import random
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..engine.views import owner_of
from ..errors import TraceError
from ..structure import CONTAINERS
from .program import PACKAGE, make_writeable

# Whose changes the library itself brings into the program: optimizers and schedules.
_FOLLOWED = f"{__package__.partition('.')[0]}.optim."
# Where the code of the standard library is, and that of installed packages.
_LIBRARIES = (
    os.path.join(os.path.dirname(os.__file__), ""),
    os.path.join(os.path.dirname(os.path.dirname(np.__file__)), ""),
)
_COMPARING = ("builtins", "numpy")
_FEW = 16  # items, more of which would take too long to compare
_SEQUENCES: tuple[Any, ...] = (list, tuple, deque, bytearray)
_SETS: tuple[Any, ...] = (set, frozenset)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype)


class Watch:
    """All that is within reach of a function and its arguments, as it is now.

    `tensors` are the tensors among it, `modules` the modules and their parts with what these hold,
    `variables` conditions, as of a trace, that the function's variables are the same, `protected`
    the plain arrays that `protect` makes read-only. `restore` makes everything else what it was;
    `require_unchanged` raises a TraceError for what a compiled call could not repeat.
    """

    def __init__(self, *roots: Any) -> None:
        self.tensors: list[Tensor] = []
        self.modules: list[tuple[Any, dict[Any, Any]]] = []
        self.variables: list[tuple[str, tuple[Any, ...]]] = []
        self._holders: list[tuple[str, Any, dict[Any, Any], bool]] = []
        self.protected: list[Array] = []
        self._iterators: list[tuple[str, Any, Any]] = []
        self._objects: list[Any] = []
        self._codes: list[CodeType] = []  # of the user's functions
        self._names: set[str] = set()  # that they mention
        self._generators: list[tuple[str, np.random.Generator, Any]] = []
        self._seen: dict[int, Any] = {}
        for root in roots:
            self._visit(root, "", True)
        self._randoms = _global_random_states()
        self._require_same_attributes()

    def _require_same_attributes(self) -> None:
        """Of plain objects, what the code mentions counts."""
        for thing in self._objects:
            for name, part in (attributes_of(thing) or {}).items():
                if name in self._names and _is_read_plainly(thing, name):
                    same = "==" if _is_plain(part) else "is"
                    self.variables.append((f"{{}}.{name} {same} {{}}", (thing, part)))

    def _visit(self, thing: Any, path: str, users: bool, inside: bool = False) -> None:
        """Note a thing, and go on to what it holds.

        `users` says whether only the user's code would change it, and `inside` whether it is a part
        of a module.
        """
        kind = type(thing)
        if _is(thing, _PLAIN) or id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if _is(thing, Tensor):
            self.tensors.append(thing)
        elif _is(thing, np.ndarray):
            owner = owner_of(thing)  # without one of its own, an array stays read-only
            if users and thing.flags.writeable and owner.flags.writeable and owner.flags.owndata:
                self.protected.append(thing)
        elif "numpy.random" in sys.modules and _is(thing, np.random.Generator):
            self._generators.append((path, thing, thing.bit_generator.state))
        elif _is(thing, MethodType):
            self._visit(thing.__self__, path, users)
            self._visit(thing.__func__, path, users)
        elif _is(thing, functools.partial):
            self._visit((thing.func, thing.args, thing.keywords), path, users)
        elif _is(thing, FunctionType):
            self._visit_function(thing, users)
        elif any("__next__" in vars(base) for base in kind.__mro__):
            if users:
                self._iterators.append((path, thing, _progress(thing)))
        elif _is(thing, type):
            for base in thing.__mro__:
                for part in vars(base).values():
                    part = _function_of(part)
                    if _is(part, FunctionType):
                        self._visit(part, base.__name__, users)
        elif _module_of(kind).startswith(__package__):  # the plans of another function
            self._visit((attributes_of(thing) or {}).get("__wrapped__"), path, users)
        elif _is(thing, (ModuleType, CodeType)):
            return
        elif (held := _held(thing)) is not None:
            self._visit(kind, path, users)
            users = users and not _module_of(kind).startswith(_FOLLOWED)
            self._holders.append((path, thing, held, users))
            attributes = attributes_of(thing)
            if _is(thing, (Mapping, list, set)) and attributes is not None:
                others = _Attributes(thing)
                self._holders.append((path, others, _held(others) or {}, users))
            is_module = _is(thing, tuple(CONTAINERS))
            if users and attributes is not None and not is_module and not _is(thing, Mapping):
                self._objects.append(thing)
            inside = is_module or (inside and _is(thing, (list, tuple, Mapping)))
            if inside:
                self.modules.append((thing, held))
            for name, part in held.items():
                self._visit(part, _joined(path, thing, name), users, inside)

    def _visit_function(self, function: FunctionType, users: bool) -> None:
        file = function.__code__.co_filename
        ours = file.startswith(PACKAGE)  # which may be installed among the libraries
        if file.startswith(_LIBRARIES) and not ours:
            return
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            self._visit(wrapped, "", users)
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
        for name, cell in cells.items():
            held = _held(cell) or {}
            self._holders.append((name, cell, held, users and not ours))
            if held and not ours:
                content = held["cell_contents"]
                self.variables.append(("{}.cell_contents is {}", (cell, content)))
                self._require_same_items(content)
            self._visit(held.get("cell_contents"), name, users)
        for default in (function.__defaults__ or (), function.__kwdefaults__ or {}):
            self._visit(default, function.__name__, users)
        if ours:
            return
        codes = [*_codes(function.__code__)]
        self._codes += codes
        names = {name for code in codes for name in code.co_names}
        self._names |= names
        if vars(function):
            self._holders.append((function.__name__, function, dict(vars(function)), users))
        variables = _Globals(function.__globals__, names)
        self._holders.append(("", variables, _held(variables) or {}, users))
        for name, part in (_held(variables) or {}).items():
            self._visit(part, name, users)
            if not _is_librarys(part):
                same = "{}.get({}) is {}"
                self.variables.append((same, (function.__globals__, name, part)))
                self._require_same_items(part)

    def _require_same_items(self, variable: Any) -> None:
        """Of a variable that is a list or dict of numbers and texts, these count."""
        kind: Any = type(variable)
        if kind.__eq__ in (list.__eq__, dict.__eq__):
            held = _held(variable) or {}
            if len(held) <= _FEW and all(map(_is_plain, held.values())):
                same = [*held.values()] if _is(variable, list) else held
                self.variables.append(("{} == {}", (variable, same)))

    def protect(self) -> None:
        """Make plain arrays read-only: a compiled function cannot repeat what changes one."""
        theirs = {id(owner_of(t._array)) for t in self.tensors if type(t._array) is np.ndarray}
        self.protected = [a for a in self.protected if id(owner_of(a)) not in theirs]
        for array in self.protected:
            array.flags.writeable = False

    def require_unchanged(self, drawn: set[int]) -> None:
        """Raise a TraceError if something has changed; `drawn` generators may have moved on."""
        for path, holder, before, users in self._holders:
            for name in _changes(holder, before) if users else ():
                what = _joined(path, holder, name)
                raise TraceError(
                    f"{self._line(what)}the function changes {what}, which is Python's, and would "
                    "not change in compiled calls: keep it in a tensor, return it, or change it "
                    "outside of the compiled function"
                )
        for path, iterator, progress in self._iterators:
            if _progress(iterator) != progress:
                raise TraceError(
                    f"{self._line(path)}the function takes items from {path or 'an iterator'}, "
                    "which would not move on in compiled calls: take them outside and pass them as "
                    "arguments"
                )
        for path, rng, state in self._generators:
            if id(rng) not in drawn and not _is_same(rng.bit_generator.state, state):
                raise TraceError(
                    f"{self._line(path)}the function draws random numbers from "
                    f"{path or 'a generator'}, which would be the same in every compiled call: use "
                    "tensorgrad.nn.dropout, or draw them outside and pass them as an argument"
                )
        if not _is_same(_global_random_states(), self._randoms):
            raise TraceError(
                "the function draws random numbers from the global generator, which would be the "
                "same in every compiled call: draw them outside and pass them as an argument"
            )

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
            if not _is_same(_held(holder), before):
                _put_back(holder, before)
        for _, rng, state in self._generators:
            rng.bit_generator.state = state
        python, legacy = self._randoms
        random.setstate(python)
        if legacy is not None:
            np.random.set_state(legacy)  # noqa: NPY002 (somebody may still use it)


def unchanged(holders: Iterable[tuple[Any, dict[Any, Any]]]) -> bool:
    """Whether all of these hold what they did."""
    return all(not [*_changes(holder, before)] for holder, before in holders)


def _changes(holder: Any, before: dict[Any, Any]) -> Iterator[Any]:
    """The names of attributes or items of an object that have changed."""
    after = _held(holder) or {}
    if not _is_same(after, before):
        classes = () if attributes_of(holder) is None else type(holder).__mro__
        for name in {**before, **after}:
            default = next((vars(kind)[name] for kind in classes if name in vars(kind)), _MISSING)
            if not _is_same(before.get(name, default), after.get(name, default)):
                yield name


_MISSING = object()


class _Globals(dict[str, Any]):
    """Some of the global variables of a module."""

    def __init__(self, variables: dict[str, Any], names: set[str]) -> None:
        super().__init__()
        self.variables = variables
        self.names = names


def _is(thing: Any, kinds: type | tuple[type, ...]) -> bool:
    """`isinstance` without the thing's own `__class__`, which may run any code."""
    return issubclass(type(thing), kinds)


def _is_plain(thing: Any) -> bool:
    """Whether a thing is a number or text that compares like Python's and NumPy's."""
    return _is(thing, _PLAIN) and _module_of(type(thing)).partition(".")[0] in _COMPARING


def attributes_of(thing: Any) -> dict[str, Any] | None:
    """The `__dict__` of an object, without running code of its class."""
    try:
        attributes = object.__getattribute__(thing, "__dict__")
    except Exception:
        return None
    return attributes if _is(attributes, dict) else None


def _is_read_plainly(thing: Any, name: str) -> bool:
    """Whether `thing.name` is the stored attribute, so that each call can check it."""
    try:
        return getattr(thing, name) is (attributes_of(thing) or {})[name]
    except Exception:
        return False


def _module_of(kind: Any) -> str:
    """The name of the module in which a class or a function was defined."""
    return str(getattr(kind, "__module__", None))


def _is_librarys(thing: Any) -> bool:
    """Whether a thing is a module, or the code of one that nobody changes."""
    if _is(thing, (ModuleType, BuiltinFunctionType)):
        return True
    if not _is(thing, (type, FunctionType)):
        return False
    module = attributes_of(sys.modules.get(_module_of(thing))) or {}
    return str(module.get("__file__") or PACKAGE).startswith((*_LIBRARIES, PACKAGE))


def _function_of(part: Any) -> Any:
    """The function of a method or property of a class."""
    if _is(part, (staticmethod, classmethod)):
        return part.__func__
    if _is(part, functools.cached_property):
        return part.func
    return part.fget if _is(part, property) else part


def _progress(iterator: Any) -> Any:
    """How far an iterator has got, as far as one can know without taking an item."""
    try:
        frame = getattr(iterator, "gi_frame", None)
        if frame is not None:
            return frame.f_lasti, {name: id(value) for name, value in frame.f_locals.items()}
        return operator.length_hint(iterator, -1), repr(iterator)
    except Exception:  # the user's own iterator, which cannot tell
        return None


class _Attributes:
    """What a list, set or dict holds beside its items."""

    def __init__(self, container: Any) -> None:
        self.container = container


def _held(thing: Any) -> dict[Any, Any] | None:
    """What a thing holds, by name, or None if that cannot be changed."""
    try:
        return _parts(thing)
    except Exception:  # from code of its class
        return attributes_of(thing)


def _parts(thing: Any) -> dict[Any, Any] | None:
    if _is(thing, _Globals):
        return {name: thing.variables[name] for name in thing.names if name in thing.variables}
    if _is(thing, CellType):
        try:
            return {"cell_contents": thing.cell_contents}
        except ValueError:  # empty
            return {}
    for kind in _SEQUENCES:
        if _is(thing, kind):
            return dict(enumerate(kind.__iter__(thing)))
    if _is(thing, Mapping):
        return dict.copy(thing) if _is(thing, dict) else dict(thing)
    if _is(thing, _Attributes):
        return dict(attributes_of(thing.container) or {})
    for kind in _SETS:
        if _is(thing, kind):
            return dict.fromkeys(kind.__iter__(thing))
    attributes, slots = attributes_of(thing), _slots(thing)
    return None if attributes is None and not slots else (attributes or {}) | slots


def _slots(thing: Any) -> dict[str, Any]:
    """The values in the slots of an object."""
    held = {}
    for kind in type(thing).__mro__:
        if "__slots__" in vars(kind):
            for name, slot in vars(kind).items():
                if _is(slot, MemberDescriptorType):
                    with contextlib.suppress(AttributeError):  # empty
                        held[name] = slot.__get__(thing)
    return held


def _put_back(holder: Any, before: dict[Any, Any]) -> None:
    if _is(holder, _Globals):
        for name in (_held(holder) or {}).keys() - before.keys():
            del holder.variables[name]
        holder.variables.update(before)
    elif _is(holder, CellType):
        if before:
            holder.cell_contents = before["cell_contents"]
        else:
            del holder.cell_contents
    elif _is(holder, _Attributes):
        vars(holder.container).clear()
        vars(holder.container).update(before)
    elif _is(holder, (list, bytearray)):
        holder[:] = before.values()
    elif _is(holder, deque):
        holder.clear()
        holder.extend(before.values())
    elif _is(holder, (MutableMapping, set)):
        holder.clear()
        holder.update(before)
    elif not _is(holder, (tuple, frozenset, Mapping)):
        for name in (_held(holder) or {}).keys() - before.keys():
            object.__delattr__(holder, name)
        for name, part in before.items():
            object.__setattr__(holder, name, part)


def _joined(path: str, holder: Any, name: Any) -> str:
    if _is(holder, (CellType, _Globals)):
        return path or str(name)
    if _is(holder, (list, tuple, Mapping, set)):
        return f"{path}[{name!r}]"
    return f"{path}.{name}" if path else str(name)


def _is_same(a: Any, b: Any) -> bool:
    """Whether a thing is what it was: itself, or an equal number or text."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if _is(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if _is(a, (tuple, dict)):
        pairs = (a.items(), b.items()) if isinstance(a, dict) else (enumerate(a), enumerate(b))
        left, right = map(dict, pairs)
        return left.keys() == right.keys() and all(_is_same(left[k], right[k]) for k in left)
    return _is_plain(a) and bool(a == b or a != a)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and those of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _global_random_states() -> tuple[Any, Any]:
    legacy = np.random.get_state() if "numpy.random" in sys.modules else None  # noqa: NPY002
    return random.getstate(), legacy
