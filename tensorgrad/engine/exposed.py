"""Detect elements that users write into a tensor's array while a graph needs it.

`tensor.data` is the tensor's array itself. Assigning it marks a leaf as changed, but a write to one
of its elements runs no code of ours. So when a user reads an array that a graph needs, its elements
are copied. They are compared when a leaf is used again, and when a backward pass reaches the node.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np


class Exposed(NamedTuple):
    """An array that a user has read, its node, and the elements that operations have used."""

    node: weakref.ref[Any]
    array: Any
    elements: Any


exposed: dict[int, Exposed] = {}
"""The exposed arrays by the id of the node. It is nearly always empty: then nothing is compared."""


def expose(tensor: Any) -> None:
    """Note that a user reads the array of a tensor, and with it the arrays of its views."""
    for other in (tensor, *[reference() for reference in tensor._family or ()]):
        node = None if other is None else other._node
        if node is None:
            continue
        array = other._array
        if node.rule is None:
            needed = references(node) > UNUSED
        else:
            needed = node.has_graph and references(array) > UNUSED
        key = id(node)
        is_noted = key in exposed and exposed[key].array is array
        if needed and not is_noted and type(array) is np.ndarray:
            exposed[key] = Exposed(weakref.ref(node, _forget(key)), array, array.copy("K"))


def _forget(key: int) -> Callable[[Any], Any]:
    return lambda _: exposed.pop(key, None)


def forget_unused() -> None:
    """Forget the exposed arrays that no graph needs any longer."""
    # Not list(exposed.items()): its pairs may start a garbage collection, which frees nodes.
    for key, entry in exposed.copy().items():
        node: Any = entry.node()
        if node is None or not (references(node) > UNUSED if node.rule is None else node.has_graph):
            exposed.pop(key, None)


def was_written(node: Any) -> bool:
    """Return whether an element of a node's array was written since operations used it."""
    entry = exposed.get(id(node))
    return entry is not None and not _same_bytes(entry.array, entry.elements)


def _same_bytes(a: Any, b: Any) -> bool:
    """Return whether two arrays are equal; a NaN equals itself, and -0.0 is not 0.0."""
    if a.nbytes <= 1 << 12:  # a tenth of the time
        return a.tobytes() == b.tobytes()  # type: ignore[no-any-return]
    bits = f"u{a.itemsize}" if a.itemsize <= 8 else f"V{a.itemsize}"
    return np.array_equal(a.view(bits), b.view(bits))


def note_use(nodes: Sequence[Any]) -> None:
    """Note that an operation uses nodes: earlier uses of a leaf that was written become stale."""
    for node in nodes:
        if node is not None and node.rule is None and was_written(node):
            node.touch()
            entry = exposed[id(node)]
            exposed[id(node)] = entry._replace(elements=entry.array.copy("K"))


references = sys.getrefcount


def _references_of_an_unused_attribute() -> int:
    tensor = SimpleNamespace(node=object())
    node = tensor.node
    return references(node)


UNUSED = _references_of_an_unused_attribute()
"""The references to a node or an array that only its tensor and a local variable refer to."""
