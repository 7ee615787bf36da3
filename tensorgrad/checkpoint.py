"""Trading time for memory: recompute in the backward pass instead of keeping."""

from __future__ import annotations

import functools
import zlib
from typing import Any, NamedTuple

import numpy as np

from .engine.arrays import Spec
from .engine.backward import backpropagate, saved
from .engine.batching import without_levels
from .engine.dispatch import apply, parts_of, revive
from .engine.families import relate
from .engine.graph import Node, ancestors, node_of, now
from .engine.modes import enable_grad, is_traced, mode, plain
from .engine.primitives import alias
from .engine.registry import Rule, Together, name_of
from .engine.tensor import Tensor
from .engine.typing import F, Function
from .engine.variable import tensor_of
from .errors import GraphError
from .tree import TreeDef, flatten, is_stateful, require_arrays


def checkpoint(f: F) -> F:
    """Return a function like `f` whose intermediate results are not kept for the backward pass.

    The backward pass computes them again. Results are tensors, or trees of them. Gradients also
    reach tensors that `f` uses from outside. `f` must return the same results when it is called
    again: otherwise, as with a random generator that has changed, a GraphError is raised.

    >>> block = tg.checkpoint(lambda x: np.tanh(np.exp(np.tanh(x))))
    >>> tg.grad(block)(0.5) == tg.grad(lambda x: np.tanh(np.exp(np.tanh(x))))(0.5)
    np.True_
    """

    @functools.wraps(f)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if is_traced() or not mode.get().recording:
            return f(*args, **kwargs)  # a compiled function plans its memory by itself
        again = _as_of_now(f, args, kwargs)
        start = now()
        outputs, structure, tracked = _outputs(functools.partial(f, *args, **kwargs))
        if not tracked:
            return structure.unflatten(outputs)
        replay = _Replay(f, again, start, tracked)
        call = node_of(
            (),
            np.dtype(float),
            Rule(f, Together(replay, len(replay.sources))),
            replay.sources,
            out=tuple([Spec(y.shape, y.dtype) for y in tracked]),
        )
        detached = parts_of(call, tuple([plain(y) for y in tracked]))
        for part, y in zip(detached, filter(_is_tracked, outputs), strict=True):
            if y._family is not None:
                relate(part, (y,))
        detached = iter(detached)
        return structure.unflatten(next(detached) if _is_tracked(y) else y for y in outputs)

    return checkpointed  # type: ignore[return-value]


class _Replay:
    """The derivative of a checkpointed call: runs it again, and carries cotangents back through it.

    `sources` are the nodes that the call used, as arguments or from outside.
    """

    def __init__(self, f: Function, run: Function, start: int, outputs: list[Tensor]) -> None:
        self.run = run
        self.name = name_of(f)
        nodes = ancestors(*_roots(outputs), since=start)
        self.sources = [node for node in nodes if node.serial < start]
        self.sums = [_checksum(y) for y in outputs]

    def __call__(self, g: tuple[Any, ...], _out: Any) -> list[Any]:
        """The cotangents of the sources."""
        start = now()
        with enable_grad():
            _, _, outputs = _outputs(self.run)
        if [_checksum(y) for y in outputs] != self.sums:
            raise GraphError(
                f"checkpoint: {self.name} computed something else the second time: it must not "
                "depend on anything that has changed, such as a random generator"
            )
        nodes = ancestors(*_roots(outputs), since=start)
        recorded = any(isinstance(share, Tensor) for share in g)
        seeds = dict(zip(_roots(outputs), g, strict=True))  # each output has a node of its own
        operands = revive if recorded else saved
        # A source may have been computed from another one, which is not a part of this call.
        found = backpropagate(nodes, seeds, self.sources, operands=operands, since=start)
        return [found.get(s, np.zeros(s.shape, s.dtype)) for s in self.sources]


class _State(NamedTuple):
    """The value of a tensor."""

    array: Any
    node: Node | None


def _as_of_now(f: Function, args: Any, kwargs: Any) -> Function:
    """The same call, to be made later with the present values of tensors among the arguments."""
    leaves, structure = flatten((args, kwargs), is_stateful)
    states = [
        _State(t._array, t._node)
        if isinstance(t, Tensor) and not (t.is_leaf and t.requires_grad)
        else t
        for t in leaves
    ]
    del args, kwargs, leaves  # a graph must not refer to tensors that may later hold its results

    def again() -> Any:
        args, kwargs = structure.unflatten(
            tensor_of(*state) if isinstance(state, _State) else state for state in states
        )
        return f(*args, **kwargs)

    return again


def _outputs(run: Function) -> tuple[list[Any], TreeDef, list[Tensor]]:
    """The leaves of the results, their structure, and the tracked leaves with nodes of this run."""
    leaves, structure = flatten(run())
    require_arrays(leaves, structure, "checkpoint", "output{}".format, "leave it out")
    return leaves, structure, [apply(alias, (y,)) for y in filter(_is_tracked, leaves)]


def _is_tracked(y: Any) -> bool:
    return isinstance(y, Tensor) and y.requires_grad


def _roots(tensors: list[Tensor]) -> list[Node]:
    return [y._node for y in tensors if y._node is not None]


def _checksum(y: Tensor) -> int:
    return zlib.crc32(np.ascontiguousarray(without_levels(plain(y))).tobytes())
