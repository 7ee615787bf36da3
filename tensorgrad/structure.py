"""Nested lists, tuples, dicts and modules of arrays, taken apart and put together again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .engine.tensor import Tensor


@dataclass(slots=True)
class Structure:
    """What is left of a nested value when its leaves are taken out; equal for equal nesting.

    `kind` is the type of the container, `keys` name its parts; of a leaf, both are None.
    """

    kind: type | None = None
    keys: tuple[Any, ...] | None = None
    parts: tuple[Structure, ...] = ()
    make: Callable[[list[Any]], Any] = field(default=list, compare=False, repr=False)

    def build(self, leaves: Iterable[Any]) -> Any:
        """The nested value that has these leaves."""
        leaves = iter(leaves)
        if self.kind is None:
            return next(leaves)
        return self.make([part.build(leaves) for part in self.parts])

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        parts = zip(self.keys or (), self.parts, strict=True)
        return f"{self.kind.__name__}({', '.join(f'{key}={part}' for key, part in parts)})"


LEAF = Structure()

# For each further type of container: the named parts of one, and a copy of it with other parts.
Parts = Callable[[Any], dict[str, Any]]
Copy = Callable[[Any, list[Any]], Any]
CONTAINERS: dict[type, tuple[Parts, Copy]] = {}


def flatten(
    value: Any, name: str, anything: bool = False, modules: bool = True
) -> tuple[list[Any], Structure]:
    """The leaves of a nested value, in order, and its structure.

    Leaves are arrays, tensors and numbers, or `anything`: without that, a TypeError names `name`.
    None has no leaves. Modules are taken apart, too, or else are leaves themselves.
    """
    leaves: list[Any] = []
    containers = CONTAINERS if modules else {}
    return leaves, _take_apart(value, None if anything else name, leaves, containers)


def _take_apart(
    value: Any, name: str | None, leaves: list[Any], containers: dict[type, tuple[Parts, Copy]]
) -> Structure:
    kind = type(value)
    if issubclass(kind, (Tensor, np.ndarray, np.generic, int, float, complex)):
        leaves.append(value)
        return LEAF
    keys: Iterable[Any]
    values: Iterable[Any]
    make: Callable[[list[Any]], Any]
    if issubclass(kind, (list, tuple)):
        names = getattr(value, "_fields", None)
        keys, values = names or range(len(value)), value
        make = kind if names is None else lambda parts: kind(*parts)
    elif issubclass(kind, dict):
        keys = list(value)
        values, make = value.values(), lambda parts: kind(zip(keys, parts, strict=True))
    elif value is None:
        keys, values, make = (), (), lambda _: None
    else:
        for container, (parts_of, copy) in containers.items():
            if issubclass(kind, container):
                keys = parts_of(value)
                values, make = keys.values(), functools.partial(copy, value)
                break
        else:
            if name is None or hasattr(value, "__array__"):
                leaves.append(value)
                return LEAF
            raise TypeError(
                f"{name}: {kind.__name__} is neither an array, a tensor or a number, nor a list, "
                "tuple, dict or module of them"
            )
    parts = tuple([_take_apart(v, name, leaves, containers) for v in values])
    return Structure(kind, tuple(keys), parts, make)
