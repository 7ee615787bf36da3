"""Loops and conditions inside of `vmap`, where each sample has a decision of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from .engine.batching import Level, enter, leave
from .engine.modes import plain
from .engine.randomness import running
from .engine.tensor import asarray
from .engine.typing import Function
from .tree import map as tree_map


def while_of_all(loop: Function, cond: Function, body: Function, init: Any) -> Any:
    """Call a while loop that goes on as long as one sample does; the others keep their values.

    The samples are in the first axis of its value.
    """
    levels = running.get()
    for level in reversed(levels):
        cond, body, init = _while_of_all(cond, body, init, level)
    value = loop(cond, body, init)
    for level in levels:
        value = _enter(value, level)[1]
    return value


def _while_of_all(cond: Function, body: Function, init: Any, level: Level) -> Any:
    def goes_on(value: Any) -> Any:
        return np.reshape(plain(asarray(cond(value))), ())

    def step(state: Any) -> Any:
        goes, value = _enter(state, level)
        value = tree_map(lambda new, old: np.where(goes, new, old), body(value), value)
        return _leave((np.logical_and(goes, goes_on(value)), value), level)

    return lambda state: np.any(state[0]), step, _leave((goes_on(init), init), level)


def _leave(tree: Any, level: Level) -> Any:
    return tree_map(lambda a: leave(asarray(a), level, 0), tree)


def _enter(tree: Any, level: Level) -> Any:
    return tree_map(lambda a: enter(asarray(a), level, 0), tree)


def select(pred: Any, if_true: Any, if_false: Any) -> Any:
    """Return the leaves of one of two results, for each sample by its own decision."""
    pred = np.reshape(pred, ())
    return tree_map(lambda a, b: asarray(np.where(pred, a, b)), if_true, if_false)
