"""What a call of a compiled function leaves behind: what it returns, and gradients of leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.graph import Node
from ..engine.registry import NO_KWARGS
from ..engine.tensor import Tensor
from ..engine.variable import tensor_of
from ..errors import GraphError, TraceError
from ..tree import TreeDef, flatten, is_stateful
from .ir import Program, Value
from .objects import attributes_of
from .printing import Labels
from .tracer import Tracer
from .tracing import Trace


class Output(NamedTuple):
    """One leaf of what the function returns: a value; or, without one, the object itself.

    A value is returned as a new `leaf`: a tensor, with that node, or an array.
    """

    leaf: Any
    value: Value | None
    node: Node | None = None

    def traced(self, trace: Trace) -> Any:
        """The leaf as it is in the traced call."""
        if self.value is None:
            return self.leaf
        array = trace.arrays[self.value].copy("K")
        return tensor_of(array, self.node) if self.leaf is Tensor else array


class Results(NamedTuple):
    """What a call leaves behind: the leaves and the structure of what it returns, and gradients."""

    outputs: Sequence[Output]
    structure: TreeDef
    gradients: Mapping[Node, Value | None]

    def traced(self, trace: Trace) -> Any:
        """What the traced call returns."""
        return self.structure.unflatten(output.traced(trace) for output in self.outputs)

    @property
    def returned(self) -> list[Value]:
        """The values among the outputs."""
        return [o.value for o in self.outputs if o.value is not None]

    @property
    def set_gradients(self) -> list[Value]:
        """The values among the gradients."""
        return [v for v in self.gradients.values() if v is not None]

    @property
    def values(self) -> list[Value]:
        """The values among outputs and gradients."""
        return [*self.returned, *self.set_gradients]

    def replaced(self, values: Sequence[Value]) -> Results:
        """The same with others in place of its values."""
        same = dict(zip(self.values, values, strict=True))
        return Results(
            [o._replace(value=o.value and same[o.value]) for o in self.outputs],
            self.structure,
            {node: v and same[v] for node, v in self.gradients.items()},
        )


class Source(NamedTuple):
    """What is exported: a function as it was traced, and what the user calls its parts."""

    function: str
    program: Program
    results: Results
    parameters: Sequence[str]
    labels: Labels


def outputs_of(trace: Trace, y: Any, outside: Iterable[Tensor]) -> tuple[list[Output], TreeDef]:
    """The leaves of what a function returns, and their structure.

    `outside` are tensors that the function has not made.
    """
    leaves, structure = flatten(y, is_stateful)
    own = {id(t) for t in outside}
    return [_output(trace, leaf, own) for leaf in leaves], structure


def _output(trace: Trace, leaf: Any, own: set[int]) -> Output:
    """What a leaf of the result is in later calls: a copy of an array, or the object itself.

    `own` are the ids of tensors that live outside of the function.
    """
    if id(leaf) in own:
        return Output(leaf, None)
    kind = type(leaf)  # an attribute of the leaf itself may raise any error
    if not issubclass(kind, (Tensor, Tracer, np.ndarray)):
        is_set = issubclass(kind, (set, frozenset))
        inside = leaf if is_set else (attributes_of(leaf) or {}).values()
        plain = (part._array if type(part) is Tensor else part for part in inside)
        if any(type(part) is Tracer for part in plain):
            raise TraceError(
                f"a compiled function cannot return arrays in a {kind.__name__}: return them in "
                "a tuple, list or dict, or register the class with tensorgrad.tree.register"
            )
        return Output(leaf, None)
    if not isinstance(leaf, Tensor):
        return Output(np.ndarray, trace.value(leaf))
    node, value = leaf._node, trace.value(leaf._array)
    return Output(Tensor, value, _unrecorded(node) if node is not None and node.has_graph else None)


class _Unrecorded(Node):
    """The node of a result whose graph ended with the compiled call."""

    __slots__ = ()
    has_graph = False

    @property
    def parents(self) -> Any:  # type: ignore[override]
        raise GraphError(
            "backward: a result of a compiled function has no graph: call backward(), or take the "
            "gradient, inside of the function that is compiled"
        )


def _unrecorded(node: Node) -> Node:
    new: Node = object.__new__(_Unrecorded)
    for name in ("shape", "dtype", "rule", "serial"):
        setattr(new, name, getattr(node, name))
    new.args, new.kwargs, new.out = (), NO_KWARGS, None  # nothing of the trace lives on
    new.grad, new.keeps_grad = None, False
    return new


class Stacked:
    """Results of `count` calls, with the calls along a first axis."""

    def __init__(self, count: int) -> None:
        self.arrays: list[Any] = []
        self._count = count

    def put(self, i: int, result: Any) -> None:
        """Take the result of a call; from the first one, the structure and the shapes."""
        leaves, structure = flatten(result, is_stateful)
        if not self.arrays:
            self._structure, self._leaves = structure, leaves
            for leaf in leaves:
                a = leaf.data if isinstance(leaf, Tensor) else np.asarray(leaf)
                self.arrays.append(np.empty((self._count, *a.shape), a.dtype))
        for array, leaf in zip(self.arrays, leaves, strict=True):
            array[i] = leaf.data if isinstance(leaf, Tensor) else leaf

    def stacked(self) -> Any:
        """The results, tensors where those of a call are."""
        return self._like_a_call(self.arrays)

    def item(self, i: int) -> Any:
        """The result of one call."""
        return self._like_a_call([array[i, ...] for array in self.arrays])

    def _like_a_call(self, arrays: Iterable[Any]) -> Any:
        return self._structure.unflatten(
            tensor_of(array, None) if isinstance(leaf, Tensor) else array
            for array, leaf in zip(arrays, self._leaves, strict=True)
        )
