"""The graph: a `Node` is one recorded operation; it refers to those that it was computed from."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import GraphError
from .arrays import Spec
from .batching import Batch, Level, levels_of
from .exposed import exposed, note_use, was_written
from .registry import NO_KWARGS, PART, Rule
from .typing import Array, Line

_ndarray, _new = np.ndarray, object.__new__
now = itertools.count(1).__next__
"""Return a serial number that is greater than those of all nodes so far."""
_by_serial = operator.attrgetter("serial")


def note_levels(node: Node, array: Any) -> None:
    """Note of which batches the output of a node is one."""
    if type(array) is Batch:
        node.levels = tuple(levels_of(array))


class Node(Spec):
    """One recorded operation, or a leaf (`rule` None), made by `node_of`.

    As a `Spec`, it describes its own output.

    `args` are the operation's arguments; a `Spec` replaces each array that the rule does not read.
    `out` is the output if the rule reads it. A node never refers to its own tensor, so that
    dropping the last tensor frees the graph at once. `parents` is None after the graph was freed.
    Serial numbers grow in the order of computation: a leaf younger than an operation on it has had
    its data changed since. `line` is where the user called the operation: the code, and the
    position in it. `retained` exists once a backward pass went through the node without freeing
    it. `out` of a leaf is None, or the view of an optimizer's vector in which its data must stay.
    `levels` exists if the output is a `Batch`: of which it is one.
    """

    __slots__ = (
        "__weakref__", "args", "grad", "keeps_grad", "kwargs", "levels", "line", "out", "parents",
        "retained", "rule", "serial",
    )  # fmt: skip
    rule: Rule | None
    parents: Sequence[Node | None] | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    out: Any
    serial: int
    grad: Array | None
    keeps_grad: bool
    levels: Collection[Level]
    line: Line
    retained: bool

    def __str__(self) -> str:
        where = f", called at {self.place}" if hasattr(self, "line") else ""
        return f"{self.name} ({super().__str__()}{where})"

    @property
    def name(self) -> str:
        """The name of the operation; of a part of several results, that of the call."""
        if self.rule is PART and self.parents and self.parents[0]:
            return self.parents[0].name
        return "leaf" if self.rule is None else self.rule.name

    @property
    def place(self) -> str:
        """The file and the line of the call, or `"?"`."""
        if not hasattr(self, "line"):
            return "?"
        code, position = self.line
        return f"{code.co_filename}:{[*code.co_positions()][position // 2][0]}"

    @property
    def passed(self) -> bool:
        """Whether a backward pass went through the node of a computed tensor."""
        return not self.has_graph or hasattr(self, "retained")

    def touch(self) -> None:
        """Make a leaf younger than every operation on it: its data has changed."""
        self.serial = now()

    @property
    def has_graph(self) -> bool:
        """Whether its graph has not been freed."""
        return self.parents is not None

    @property
    def leads_to_leaves(self) -> bool:
        """Whether a gradient can pass through it to leaves: no part of its graph was freed."""
        found = [self]
        seen = {self}
        for node in found:
            if not node.has_graph:
                return False
            new = {parent for parent in node.parents or () if parent is not None} - seen
            seen |= new
            found += new
        return True

    def free(self) -> None:
        """Drop everything that the backward pass needed."""
        self.parents = self.out = None
        self.args = ()
        self.kwargs = NO_KWARGS


def node_of(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rule: Rule | None = None,
    parents: Sequence[Node | None] = (),
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] = NO_KWARGS,
    out: Any = None,
) -> Node:
    """Make a node; by default, that of a leaf. A call of the class would take a third longer."""
    if exposed:
        note_use(parents)
    node = _new(Node)
    node.shape = shape
    node.dtype = dtype
    node.rule = rule
    node.parents = parents
    node.args = args
    node.kwargs = kwargs
    node.out = out
    node.serial = now()
    node.grad = None
    node.keeps_grad = rule is None
    return node


def ancestors(*roots: Node, since: int = 0) -> list[Node]:
    """Return the nodes that the roots were computed from, and the roots, newest first.

    Nodes older than the serial number `since` are found, but not what they were computed from.
    """
    seen = set(roots)
    found = list(seen)
    for node in found:
        serial = node.serial
        if serial < since:
            continue
        if node.parents is None:
            raise GraphError(
                f"backward: the graph at {node} was freed by an earlier backward(), or by one that "
                "failed; pass retain_graph=True to the earlier one to use the graph again"
            )
        for parent in node.parents:
            if parent is None:
                continue
            if parent.serial > serial:
                raise GraphError(
                    f"backward: the data of a leaf tensor, {parent}, was changed after {node} was "
                    "computed from it, so the gradient would be wrong: change it after backward(), "
                    "or compute the output again"
                )
            if parent not in seen:
                seen.add(parent)
                found.append(parent)
    if exposed:
        for node in found:
            require_unwritten(node, "backward")
    found.sort(key=_by_serial, reverse=True)
    return found


def require_unwritten(node: Node, name: str) -> None:
    """Raise if the user wrote an element into an array that the graph needs."""
    if was_written(node):
        what = "leaf tensor" if node.rule is None else "computed tensor"
        cure = (
            "change it after backward(), or compute the output again"
            if node.rule is None
            else "write into the tensor itself, or into a copy of its data"
        )
        raise GraphError(
            f"{name}: elements of the data of a {what}, {node}, were changed after it was used, so "
            f"the gradient would be wrong: {cure}"
        )
