"""Bodies of compiled loops and conditions: programs of their own, and their derivatives."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Sequence
from types import CellType, FunctionType
from typing import Any

import numpy as np

from .engine.arrays import as_array, spec_of
from .engine.backward import backpropagate, saved
from .engine.batching import NotBatchedError, enter, leave, levels_of
from .engine.dispatch import apply, parts_of, revive
from .engine.frames import users_line
from .engine.graph import Node, ancestors, node_of, now
from .engine.interpreter import Body, Tracing
from .engine.modes import enable_grad, mode, plain
from .engine.primitives import alias
from .engine.registry import RULES, Rule, Together, rule_of
from .engine.tensor import Tensor
from .engine.typing import Function
from .engine.variable import tensor_of
from .errors import GraphError
from .tree import TreeDef, flatten, require_arrays


def as_of_now(f: Any, known: dict[Function, Function] | None = None) -> Any:
    """The function with the variables that it has now, and so the functions among these.

    The body is traced again for its derivative, when a Python loop may have changed them.
    """
    known = {} if known is None else known
    if not isinstance(f, FunctionType) or f.__closure__ is None or rule_of(f):
        return f
    if f not in known:
        cells = tuple([CellType() for _ in f.__closure__])
        same = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, cells)
        same.__kwdefaults__ = f.__kwdefaults__
        known[f] = same
        vars(same).update({name: as_of_now(value, known) for name, value in vars(f).items()})
        for own, cell in zip(cells, f.__closure__):
            with contextlib.suppress(ValueError):  # it is not assigned yet
                own.cell_contents = as_of_now(cell.cell_contents, known)
    return known[f]


def sources_of(results: Iterable[Any], start: int) -> list[Node]:
    """The nodes older than `start` from which results were computed, in a fixed order."""
    roots = [y._node for y in results if isinstance(y, Tensor) and y._node is not None]
    return [node for node in ancestors(*roots, since=start) if node.serial < start]


class TracedBody:
    """A function that is traced as a program of its own, and its pullback.

    It takes the leaves of its arguments, and returns those of its result; `leaves` are examples of
    which numbers are fixed. Once it is traced, `sources` are the nodes that it uses from outside,
    `treedef` and `is_tensor` describe its result.
    """

    def __init__(self, name: str, f: Function, leaves: Sequence[Any], arguments: TreeDef) -> None:
        self.name = name
        self.sources: list[Node] = []
        self.treedef = arguments
        self.is_tensor: list[bool] = []
        self._f = f
        self._arguments = arguments
        self._leaves = [leaf if is_number(leaf) else None for leaf in leaves]
        self._are_tensors = [isinstance(a, Tensor) for a in leaves if not is_number(a)]
        self._pinned: dict[int, Any] = {}
        self._change: Callable[[], str | None] = lambda: None

    def __call__(self, arrays: Iterable[Any]) -> list[Any]:
        """Call the function on the leaves of its arguments."""
        given = iter(arrays)
        leaves = [next(given) if leaf is None else leaf for leaf in self._leaves]
        results, self.treedef = flatten(self._f(*self._arguments.unflatten(leaves)))
        require_arrays(results, self.treedef, self.name, "result{}".format, "leave it out")
        return [as_array(y, self.name) for y in results]

    def traced(self, trace: Tracing, examples: Sequence[Any]) -> Body:
        """The program, for arguments like the examples."""

        def run(*arrays: Any) -> list[Any]:
            pairs = zip(arrays, self._are_tensors, strict=True)
            start = now()
            results = self([tensor_of(a, None) if is_tensor else a for a, is_tensor in pairs])
            self.sources = sources_of(results, start)
            self.is_tensor = [isinstance(y, Tensor) for y in results]
            return [*map(plain, results)]

        return trace.body(run, examples, self._pinned)

    def watch(self, program: Body, used: Sequence[Function]) -> None:
        """Let the derivative require that what the user's functions have read stays as it is."""
        if used:
            self._change = program.change_since(*used)

    def pull(
        self, arrays: Sequence[Any], cotangents: Sequence[Any], recorded: bool
    ) -> tuple[list[Any], list[Any]]:
        """The cotangents of the arguments and of the sources, given those of the results.

        None stands for the cotangent of an array that has none, and for zeros.
        """
        if (change := self._change()) is not None:
            raise GraphError(
                f"{self.name}: {change} has changed before the derivative is computed, where a "
                "compiled function traces the body again: change a copy"
            )
        inputs = [fresh(a) if a.dtype.kind in "fc" else a for a in arrays]
        ends: list[Any] = [x._node if x.dtype.kind in "fc" else None for x in inputs]
        start = now()
        with enable_grad():
            results = self(inputs)
        seeds: dict[Node, Any] = {}
        for y, g in zip(results, cotangents, strict=True):
            if g is not None and isinstance(y, Tensor) and y._node is not None:
                seeds[y._node] = seeds[y._node] + g if y._node in seeds else g
        targets: set[Any] = {*ends, *self.sources} - {None}
        nodes = ancestors(*seeds, since=start)
        if any(node.serial < start and node not in targets for node in nodes):
            raise GraphError(
                f"{self.name}: the function uses other tensors for the derivative than before: "
                "what it uses must not change until then"
            )
        operands = revive if recorded else saved
        found = backpropagate(nodes, seeds, targets, operands=operands, since=start)
        return [found.get(end) for end in ends], [found.get(node) for node in self.sources]


def fresh(a: Any) -> Any:
    """A tensor with the value of an array or tensor, and a new node."""
    if isinstance(a, Tensor) and a.requires_grad and mode.get().recording:
        return apply(alias, (a,))
    return tensor_of(plain(a), node_of(a.shape, a.dtype, RULES[alias]))


def sum_of(g: Any, share: Any) -> Any:
    """The sum of two cotangents, None standing for zeros."""
    return share if g is None else g if share is None else g + share


def or_zeros(g: Any, like: Any) -> Any:
    """The cotangent of an array, zeros instead of None."""
    return np.zeros(like.shape, like.dtype) if g is None else g


def of_floats(found: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """The cotangents of those arrays that have one; None for the others."""
    pairs = zip(found, arrays, strict=True)
    return [or_zeros(g, a) if a.dtype.kind in "fc" else None for g, a in pairs]


class Rows:
    """The rows of a Jacobian, whose cotangents a body carries back in one pass.

    Inside of the body, a cotangent is a batch; outside it is an array with an axis for the rows.
    """

    def __init__(self, cotangents: Sequence[Any], recorded: bool) -> None:
        levels = {level for g in cotangents for level in levels_of(plain(g))}
        if len(levels) > 1 or (levels and recorded):
            raise NotBatchedError("a loop or a condition in a compiled function")
        self._level = next(iter(levels), None)

    def inside(self, arrays: Iterable[Any], axis: int = 0) -> list[Any]:
        """Batches in place of arrays."""
        if self._level is None:
            return [*arrays]
        return [None if a is None else enter(a, self._level, axis) for a in arrays]

    def outside(self, batches: Iterable[Any], axis: int = 0) -> list[Any]:
        """Arrays in place of batches."""
        if self._level is None:
            return [*batches]
        return [None if a is None else leave(a, self._level, axis) for a in batches]


def unless_zero(g: Any) -> Any:
    """A cotangent, or None for zeros that a backward pass has filled in."""
    return None if type(g) is np.ndarray and not g.any() else g


class Call:
    """A call of a loop or a condition, which becomes a node if it is tracked.

    Its parents are the nodes that the body uses from outside, and those of the operands.
    """

    def __init__(self, name: str, sources: Sequence[Node], operands: Sequence[Any]) -> None:
        self.name = name
        self.parents = [*sources, *[a._node if isinstance(a, Tensor) else None for a in operands]]
        self.sources = sources
        self.is_tracked = mode.get().recording and any(self.parents)

    def results(
        self,
        results: Sequence[Any],
        kept: Sequence[Any],
        args: Sequence[Any],
        vjp: Function,
        jvp: Function | None = None,
    ) -> list[Any]:
        """The results, recorded if the call is tracked.

        `vjp(g, out, *args)` returns the cotangents of the parents; `g` are those of what is `kept`
        for it, which `out` begins with, and of the results. `args` are the operands, or specs of
        those that it does not read. `jvp(tangents, out, *args)` is a forward rule.
        """
        if not self.is_tracked:
            return [*results]

        def named(*args: Any) -> Any:
            return vjp(*args)

        named.__name__ = self.name
        arrays = [*map(plain, results)]
        call = node_of(
            (),
            np.dtype(float),
            Rule(named, Together(named, len(self.parents)), jvp=jvp),
            self.parents,
            [*self.sources, *args],
            out=(*kept, *map(spec_of, arrays)),
        )
        call.line = users_line(sys._getframe())
        return list(parts_of(call, (*kept, *arrays))[len(kept) :])


def is_recorded(*given: Sequence[Any]) -> bool:
    """Whether a derivative is computed with tensors, so that it can be differentiated again."""
    return any(isinstance(a, Tensor) for arrays in given for a in arrays)


def as_tensors(arrays: Sequence[Any], is_tensor: Sequence[bool]) -> list[Any]:
    """The arrays, untracked tensors in place of those that are to be ones."""
    return [tensor_of(a, None) if t else a for a, t in zip(arrays, is_tensor, strict=True)]


def is_number(leaf: Any) -> bool:
    """Whether it is a number of Python's, which has no dtype of its own."""
    return isinstance(leaf, (int, float, complex)) and not isinstance(leaf, np.generic)
