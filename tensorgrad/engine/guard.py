"""Read-only operands: a way to find out who changes an array while a graph still needs it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from .graph import Node
from .modes import set_mode
from .typing import Array
from .views import is_writeable


def guard() -> set_mode:
    """Make arrays read-only while a graph that was recorded in this block uses their memory.

    Arrays used as operands are borrowed, not copied: changing one between the forward and the
    backward pass changes the gradient. In this block NumPy refuses such a change with a ValueError.
    Operands and results, also `.data` and `.numpy()` of tensors, are writeable again once every
    graph that uses their memory is freed. A view that was made of them earlier is not protected.
    The guarded arrays are kept alive by the graph.

    >>> a, x = np.ones(2), tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.guard():
    ...     loss = np.sum(a * x)
    >>> a[0] = 5.0
    Traceback (most recent call last):
    ValueError: assignment destination is read-only
    >>> loss.backward()
    >>> a[0] = 5.0
    """
    return set_mode(hooks=(_hold,))


def _hold(node: Node, arrays: Sequence[Any]) -> None:
    node.args = _Holding(node.args, [a for a in arrays if isinstance(a, np.ndarray)])


class _Holding(tuple[Any, ...]):
    """A node's arguments, which hold arrays read-only while they exist."""

    _arrays: list[Array]

    def __new__(cls, args: Sequence[Any], arrays: list[Array]) -> _Holding:
        holding = super().__new__(cls, args)
        holding._arrays = arrays
        for array in arrays:
            _lock(array)
        return holding

    def __del__(self) -> None:
        for array in self._arrays:
            _unlock(array)


# By the address of the array that owns the memory: how many hold it, and what became read-only.
_held: dict[int, tuple[int, list[Array]]] = {}
_changing = threading.RLock()


def _views(array: Array) -> list[Array]:
    """The array and what it is a view of, the owner of the memory first."""
    views = [array]
    while isinstance(views[0].base, np.ndarray):
        views.insert(0, views[0].base)
    return views


def _lock(array: Array) -> None:
    views = _views(array)
    with _changing:
        count, closed = _held.get(id(views[0]), (0, []))
        for view in views:
            is_foreign = view.base is None and not view.flags.owndata  # would remain read-only
            if is_writeable(view) and not is_foreign:
                view.flags.writeable = False
                closed.append(view)
        _held[id(views[0])] = count + 1, closed


def _unlock(array: Array) -> None:
    owner = id(_views(array)[0])
    with _changing:
        count, closed = _held.pop(owner)
        if count > 1:
            _held[owner] = count - 1, closed
        else:
            for view in closed:
                view.flags.writeable = True
