"""What Python's objects hold, found without running the code of their classes."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import sys
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from types import CellType, FunctionType, MemberDescriptorType
from typing import Any

import numpy as np

from .ir import PACKAGE

# Where the code of the standard library is, and that of installed packages.
_LIBRARIES = (
    os.path.join(os.path.dirname(os.__file__), ""),
    os.path.join(os.path.dirname(os.path.dirname(np.__file__)), ""),
    "<frozen ",
)
_HEAP_TYPE = 1 << 9  # a class that is no static one of C
_COMPARING = ("builtins", "numpy")
_SEQUENCES: tuple[Any, ...] = (list, tuple, deque, bytearray)
_SETS: tuple[Any, ...] = (set, frozenset)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype)


def has_type(thing: Any, kinds: type | tuple[type, ...]) -> bool:
    """`isinstance` without the thing's own `__class__`, which may run any code."""
    return issubclass(type(thing), kinds)


def is_plain(thing: Any) -> bool:
    """Whether a thing is a number or text that compares like Python's and NumPy's."""
    return has_type(thing, _PLAIN) and module_of(type(thing)).partition(".")[0] in _COMPARING


def is_value(thing: Any) -> bool:
    """Whether a thing is a number, a text, or a tuple of such: an equal one is as good."""
    return all(map(is_value, thing)) if type(thing) is tuple else is_plain(thing)


def same(a: Any, b: Any) -> bool:
    """Whether a thing is another one, or an equal number or text of the same type."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return len(a) == len(b) and all(map(same, a, b))
    if not is_plain(a):
        return False
    return repr(a) == repr(b) if has_type(a, (float, complex, np.generic)) else bool(a == b)


def same_items(things: Collection[Any], before: Sequence[Any]) -> bool:
    """Whether these are the same things in the same order, numbers and texts by value."""
    return len(things) == len(before) and (
        all(map(operator.is_, things, before)) or all(map(same, things, before))
    )


def same_parts(thing: Any, before: Mapping[Any, Any]) -> bool:
    """Whether a thing holds what it did, in the same order."""
    now = parts_of(thing) or {}
    return same_items(now, [*before]) and same_items(now.values(), [*before.values()])


def same_elements(a: Any, before: Any) -> bool:
    """Whether an array has the shape, the dtype and the elements that it had."""
    if (a.shape, a.dtype) != (before.shape, before.dtype):
        return False
    bits = f"u{a.itemsize}" if a.itemsize in (1, 2, 4, 8) else f"V{a.itemsize}"
    return np.array_equal(a.view(bits), before.view(bits))


def attributes_of(thing: Any) -> dict[str, Any] | None:
    """The `__dict__` of an object, without running code of its class."""
    try:
        attributes = object.__getattribute__(thing, "__dict__")
    except Exception:
        return None
    return attributes if has_type(attributes, dict) else None


def slots_of(thing: Any) -> dict[str, Any]:
    """The values in the slots of an object."""
    held = {}
    for kind in type(thing).__mro__:
        if "__slots__" in vars(kind):
            for name, slot in vars(kind).items():
                if has_type(slot, MemberDescriptorType):
                    with contextlib.suppress(AttributeError):  # empty
                        held[name] = slot.__get__(thing)
    return held


def parts_of(thing: Any) -> dict[Any, Any] | None:
    """What a thing holds, by name, or None if that cannot be changed."""
    try:
        return _parts(thing)
    except Exception:  # from code of its class
        return attributes_of(thing)


def _parts(thing: Any) -> dict[Any, Any] | None:
    if has_type(thing, Variables):
        return {name: thing.variables[name] for name in thing.names if name in thing.variables}
    if has_type(thing, CellType):
        try:
            return {"cell_contents": thing.cell_contents}
        except ValueError:  # empty
            return {}
    for kind in _SEQUENCES:
        if has_type(thing, kind):
            return dict(enumerate(kind.__iter__(thing)))
    if has_type(thing, Mapping):
        return dict.copy(thing) if has_type(thing, dict) else dict(thing)
    if has_type(thing, Attributes):
        return dict(attributes_of(thing.container) or {})
    for kind in _SETS:
        if has_type(thing, kind):
            return dict.fromkeys(kind.__iter__(thing))
    attributes, slots = attributes_of(thing), slots_of(thing)
    return None if attributes is None and not slots else (attributes or {}) | slots


class Variables:
    """Some of the global variables of a module."""

    def __init__(self, variables: dict[str, Any], names: set[str]) -> None:
        self.variables = variables
        self.names = names


class Attributes:
    """What a list, set or dict holds beside its items."""

    def __init__(self, container: Any) -> None:
        self.container = container


def module_of(kind: Any) -> str:
    """The name of the module in which a class or a function was defined."""
    return str(getattr(kind, "__module__", None))


def is_installed(file: str) -> bool:
    """Whether code in this file is Python's, an installed package's, or this library's."""
    return file.startswith((*_LIBRARIES, PACKAGE))


def is_librarys(thing: Any) -> bool:
    """Whether a module, class or function is Python's, or that of an installed package."""
    if has_type(thing, FunctionType):
        return is_installed(thing.__code__.co_filename)
    if has_type(thing, type):
        if not thing.__flags__ & _HEAP_TYPE:
            return True
        name = module_of(thing)
        thing = None if name in ("__main__", "builtins") else sys.modules.get(name)
    module = attributes_of(thing) or {}
    if module.get("__file__") is not None:
        return is_installed(str(module["__file__"]))
    return getattr(module.get("__spec__"), "origin", None) in ("built-in", "frozen")


def function_of(part: Any) -> Any:
    """The function of a method or property of a class."""
    if has_type(part, (staticmethod, classmethod)):
        return part.__func__
    if has_type(part, functools.cached_property):
        return part.func
    return part.fget if has_type(part, property) else part
