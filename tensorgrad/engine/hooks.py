"""Hooks of tensors: functions that see, and may replace, a gradient on its way back."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np

from .arrays import as_array
from .dispatch import apply
from .graph import Node
from .interpreter import eager, epoch
from .modes import mode, plain
from .registry import Rule, Together, shown_as

Hook: TypeAlias = Callable[[Any], Any]


class RemovableHandle:
    """What a function that registers a hook returns: `remove()` takes the hook away again.

    As a context manager, it does so at the end of the `with` block.
    """

    def __init__(self, remove: Callable[[], None]) -> None:
        self._remove = remove

    def remove(self) -> None:
        """Take the hook away; the second time, nothing happens."""
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


class LeafHooks:
    """What counts the changes of the hooks of leaves, on which compiled functions rely."""

    version = 0


leaf_hooks = LeafHooks()
hooked: dict[weakref.ref[Node], dict[int, Hook]] = {}
"""The hooks of the tensors that have some, by references to their nodes."""
_numbers = itertools.count()


def _forget(reference: weakref.ref[Node]) -> None:
    hooked.pop(reference, None)


def add_hook(node: Node, hook: Hook) -> RemovableHandle:
    """Call `hook` with each gradient of a tensor, from now on."""
    number, reference, is_leaf = next(_numbers), weakref.ref(node, _forget), node.rule is None
    hooked.setdefault(reference, {})[number] = hook
    _count_change(is_leaf)

    def remove() -> None:
        hooks = hooked.get(reference, {})
        if hooks.pop(number, None) is not None:
            if not hooks:
                del hooked[reference]
            _count_change(is_leaf)

    return RemovableHandle(remove)


def _count_change(is_leaf: bool) -> None:
    if is_leaf:
        leaf_hooks.version += 1
        epoch[0] += 1


def nodes_with_hooks() -> set[Node]:
    """Return the nodes of the tensors that have hooks."""
    return {node for reference in [*hooked] if (node := reference()) is not None}


def after_hooks(node: Node, g: Any, targets: Collection[Node]) -> Any:
    """Return what the hooks of a tensor make of its gradient.

    Hooks of a leaf see only the gradients that it gets.
    """
    if node.rule is None and node not in targets:
        return g
    if node.rule is None and mode.get().interpreter is not eager:
        mode.get().interpreter.require_eager(
            "a hook of a leaf was registered outside of the function: register it on a tensor that "
            "the function computes, or change the gradient after backward()"
        )
    for hook in [*hooked.get(weakref.ref(node), {}).values()]:
        # The array may also be the gradient of another tensor: nobody may write into it.
        new = hook(g.copy() if type(g) is np.ndarray else g)
        if new is not None:
            g = _replacement(new, g, node)
    return g


def _replacement(new: Any, g: Any, node: Node) -> Any:
    if not hasattr(new, "shape") or not hasattr(g, "_node"):
        new = as_array(plain(new), "hook")
    if new.shape != g.shape:
        raise ValueError(
            f"a hook returned a gradient of shape {new.shape} for a {node}; it must return one of "
            f"shape {g.shape}, or None"
        )
    return np.array(new, node.dtype) if type(new) is np.ndarray else new.astype(node.dtype)


def tied(tensors: Sequence[Any], back: Callable[[tuple[Any, ...]], Sequence[Any]]) -> list[Any]:
    """Return the same tensors, behind one node whose gradients, a tuple, `back` may replace."""

    @shown_as("hook")
    def same(*arrays: Any) -> Any:
        return arrays

    def vjp(g: Any, _out: Any, *_arrays: Any) -> Any:
        return back(g)

    same.tensorgrad_rule = Rule(same, Together(vjp, len(tensors)), views=True)  # type: ignore[attr-defined]
    return list(apply(same, tuple(tensors)))
