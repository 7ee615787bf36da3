"""The walk back: `backpropagate` carries cotangents from the node of an output to the leaves.

Each node adds to the cotangents of its parents, by the rule that it refers to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from .arrays import as_array, unbroadcast
from .batching import Batch, NotBatchedError, levels_of, one_by_one
from .exposed import references
from .graph import Node
from .hooks import after_hooks, hooked, nodes_with_hooks
from .interpreter import eager
from .modes import Mode, mode
from .registry import PART, Rule, Together
from .typing import Function

_ndarray = np.ndarray
Operands: TypeAlias = Callable[[Node], tuple[Any, Sequence[Any]]]


def saved(node: Node) -> tuple[Any, Sequence[Any]]:
    """Return the output and the arguments that a node saved: arrays, or a `Spec` each."""
    return node if node.out is None else node.out, node.args


def backpropagate(
    nodes: Sequence[Node],
    seeds: Mapping[Node, Any],
    targets: Collection[Node],
    *,
    operands: Operands = saved,
    free: bool = False,
    since: int = 0,
) -> dict[Node, Any]:
    """Carry cotangents back through `nodes` (newest first); return those of the target nodes.

    The rules run on what `operands` returns for a node: by default, on the arrays that it saved; or
    on tensors, so that the results can be differentiated again. With `free`, each node is freed as
    soon as it has been visited. Target nodes older than `since` get a cotangent and pass none on.
    """
    cotangents: dict[Node, Any] = dict.fromkeys(nodes)
    cotangents.update(seeds)
    results: dict[Node, Any] = {}
    current = mode.get()
    with_hooks = nodes_with_hooks() if hooked else None
    for node in nodes:
        g = cotangents.pop(node)
        if g is not None:
            if with_hooks and node in with_hooks:
                g = after_hooks(node, g, targets)
            if node in targets:
                results[node] = g
                if node.serial < since:
                    continue
            if node.rule is PART:
                _collect_part(node, g, cotangents)
            elif node.rule is not None:
                try:
                    _pull(node, node.rule, g, cotangents, targets, operands, current)
                except Exception as error:
                    error.add_note(f"backward: in the derivative of {node}")
                    raise
        if free and node.rule is not None:
            node.free()
    return results


def _collect_part(node: Node, g: Any, cotangents: dict[Node, Any]) -> None:
    """Add the cotangent of one result of a call to those of the call: a dict by position."""
    (call,) = node.parents or ()
    if call in cotangents:
        parts = cotangents[call] = cotangents[call] or {}
        i = node.args[0]
        parts[i] = parts[i] + g if i in parts else g


def _pull(
    node: Node,
    rule: Rule,
    g: Any,
    cotangents: dict[Node, Any],
    targets: Collection[Node],
    operands: Operands,
    current: Mode,
) -> None:
    """Add the contributions of one node to the cotangents of its parents."""
    plain = operands is saved
    out: Any
    out, args = (node.out, node.args) if plain else operands(node)
    out = node if out is None else out
    if type(g) is dict:
        g = tuple([g[i] if i in g else np.zeros(o.shape, o.dtype) for i, o in enumerate(out)])
    kwargs, vjps, interpreter = node.kwargs, rule.vjps, current.interpreter
    if type(vjps) is Together:
        shares = _shares(interpreter.at(node, vjps.vjp), (g, out, *args), kwargs)
        vjps = tuple(map(_constantly, shares))
    for vjp, parent in zip(vjps, node.parents or ()):
        if vjp is None or parent is None or parent not in cotangents:
            continue
        if interpreter is not eager:  # its call would take 60 ns of a microsecond
            vjp = interpreter.at(node, vjp)
        try:
            share = vjp(g, out, *args, **kwargs) if kwargs else vjp(g, out, *args)
        except NotBatchedError:
            share = one_by_one(vjp, (g, out, *args), kwargs)
        if type(share) is not _ndarray:  # no variable holds it, as references are counted
            share = _arrived(share, parent, plain, rule.name)
        if share.shape != parent.shape or share.dtype is not parent.dtype:
            share = unbroadcast(share, parent)
        for hook in current.backward_hooks:
            hook(node, g, share)
        earlier = cotangents[parent]
        if earlier is not None:
            share = earlier + share
            if plain:
                share = _as_like(share, parent, rule.name)
        elif plain and parent in targets and (share.base is not None or references(share) > _OWN):
            share = share.copy()  # it may share another array's memory
        cotangents[parent] = share


def _shares(together: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the contributions to all parents, from one vjp."""
    try:
        return together(*args, **kwargs)
    except NotBatchedError:
        return one_by_one(together, args, kwargs)


def _as_like(total: Any, parent: Node, name: str) -> Any:
    """Return a sum of cotangents as an array of the dtype of the parent."""
    if type(total) is not _ndarray and type(total) is not Batch:
        total = as_array(total, name)
    return total if total.dtype is parent.dtype else total.astype(parent.dtype)


def _arrived(contribution: Any, parent: Node, plain: bool, name: str) -> Any:
    """Return what a rule returned as an array or, unless `plain`, as a tensor.

    Cotangents of samples are summed where the graph leads out of a `vmap`.
    """
    array = contribution
    if type(contribution) is not Batch:
        if plain or not hasattr(contribution, "shape"):
            contribution = as_array(getattr(contribution, "_array", contribution), name)
        array = getattr(contribution, "_array", contribution)
        if type(array) is _ndarray:
            return contribution
    for level in levels_of(array):
        if level.ended and level not in getattr(parent, "levels", ()):
            contribution = level.sum(contribution)
    return contribution


def of_leaf(leaf: Node, g: Any) -> Any:
    """Return the gradient of a leaf: summed over the samples of a running `vmap` around it."""
    for level in levels_of(g):
        if leaf.serial < level.serial and level not in getattr(leaf, "levels", ()):
            g = level.sum(g)
    return g


def _constantly(value: Any) -> Function:
    return lambda *_args, **_kwargs: value


def _references_to_a_new_array() -> int:
    contribution = np.empty(0)
    return references(contribution)


_OWN = _references_to_a_new_array()
