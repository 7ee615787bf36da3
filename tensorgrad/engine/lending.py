"""Detect elements written into arrays that users hold while a graph needs them.

`tensor.data` is the tensor's array itself. Assigning it marks a leaf as changed, but writing one of
its elements runs no code of ours. So when a user reads an array that a graph needs, its elements
are copied. They are compared when a leaf is used again, and when a backward pass reaches the node.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np


class Loan(NamedTuple):
    """An array of a node, and the elements that operations on the node have used."""

    node: weakref.ref[Any]
    array: Any
    elements: Any


loans: dict[int, Loan] = {}
"""The loans by the id of the node: nearly always none, so that the check costs nothing."""


def lend(tensor: Any) -> None:
    """Note that a user reads the array of a tensor; its views too, if graphs need them."""
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
        is_noted = key in loans and loans[key].array is array
        if needed and not is_noted and type(array) is np.ndarray:
            loans[key] = Loan(weakref.ref(node, _forgotten(key)), array, array.copy("K"))


def _forgotten(key: int) -> Callable[[Any], Any]:
    return lambda _: loans.pop(key, None)


def settle() -> None:
    """Forget the loans that no graph needs any more."""
    for key, loan in loans.copy().items():  # a list of pairs wakes the collector, which frees nodes
        node: Any = loan.node()
        if node is None or not (references(node) > UNUSED if node.rule is None else node.has_graph):
            loans.pop(key, None)


def written(node: Any) -> Loan | None:
    """The loan of a node's array, if an element was written since operations used the node."""
    loan = loans.get(id(node))
    return None if loan is None or _same_bytes(loan.array, loan.elements) else loan


def _same_bytes(a: Any, b: Any) -> bool:
    """Whether two arrays are equal; a NaN equals itself, and -0.0 is not 0.0."""
    if a.nbytes <= 1 << 12:  # a tenth of the time
        return a.tobytes() == b.tobytes()  # type: ignore[no-any-return]
    bits = f"u{a.itemsize}" if a.itemsize <= 8 else f"V{a.itemsize}"
    return np.array_equal(a.view(bits), b.view(bits))


def use(nodes: Sequence[Any]) -> None:
    """Note that an operation uses nodes: earlier uses of a changed leaf become stale."""
    for node in nodes:
        if node is not None and node.rule is None and (loan := written(node)) is not None:
            node.touch()
            loans[id(node)] = loan._replace(elements=loan.array.copy("K"))


references = sys.getrefcount


def _references_where_only_a_tensor_refers() -> int:
    tensor = SimpleNamespace(node=object())
    node = tensor.node
    return references(node)


UNUSED = _references_where_only_a_tensor_refers()
