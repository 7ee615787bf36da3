"""From tensors to the scalar engine: each operation done once more, number by number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.arrays import Spec
from ..engine.graph import Node
from ..engine.tensor import Tensor
from ..errors import GraphError
from ..nn import relu, sigmoid
from ..scalar import Value
from .recorded import Names, Recorded

LIMIT = 2000  # numbers


def explode(output: Any, names: Names | None = None) -> Any:
    """Write a tensor's graph out as the scalar engine's: return a `tensorgrad.scalar.Value`.

    Every number of every leaf becomes a Value, with a label such as `w[0, 1]` where `names` (a
    module, or a dict of tensors by name) has one; every operation is done once more on these. So
    `backward()` of the result gives each leaf Value the gradient that the tensor has in that place.
    For a tensor with axes, the result is an array of Values of its shape.

    Raises TypeError for an operation that the scalar engine does not have, ValueError for a graph
    of more than 2,000 numbers, and GraphError where a leaf's tensor no longer exists, so that its
    numbers are not known.

    >>> w = tg.Tensor([1.0, -2.0], requires_grad=True)
    >>> loss = tg.viz.explode(np.sum(np.tanh(w) ** 2), {"w": w})
    >>> loss.backward()
    >>> print(tg.viz.graph(loss))
    +, data 1.509, grad 1
    ├ ** 2, data 0.58, grad 1
    │ └ tanh, data 0.7616, grad 1.523
    │   └ w[0], data 1, grad 0.6397
    └ ** 2, data 0.9293, grad 1
      └ tanh, data -0.964, grad -1.928
        └ w[1], data -2, grad -0.1362
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"explode: a tensor is written out, not {type(output).__name__}")
    if output._node is None:
        raise GraphError("explode: this tensor has no graph: nothing that it comes from needs grad")
    recorded = Recorded(output._node, {} if names is None else names)
    count = sum(node.size for node in recorded.nodes)
    if count > LIMIT:
        raise ValueError(
            f"explode: the graph has {count:,} numbers; at most {LIMIT:,} can be read: take fewer "
            "samples, or a smaller network"
        )
    made: dict[Node, Any] = {}
    for node in recorded.nodes:
        made[node] = _leaf(node, recorded) if node.rule is None else _again(node, made, recorded)
    result = made[output._node]
    return result[()] if isinstance(result, np.ndarray) and not result.ndim else result


def _leaf(node: Node, recorded: Recorded) -> Any:
    """An array of Values, with labels, for a leaf."""
    if node not in recorded.values:
        raise GraphError(f"explode: the tensor of {node} does not exist any more: keep it")
    name = recorded.name_of(node)
    values = np.empty(node.shape, object)
    for index, number in np.ndenumerate(recorded.values[node]):
        where = f"[{', '.join(map(str, index))}]" if index and name else ""
        values[index] = Value(number.item(), label=f"{name}{where}")
    return values


def _again(node: Node, made: dict[Node, Any], recorded: Recorded) -> Any:
    """The operation of a node, on arrays of Values."""
    rule, parents = node.rule, node.parents or ()
    assert rule is not None
    args = [
        arg if parent is None else made[parent]
        for arg, parent in itertools.zip_longest(node.args, parents[: len(node.args)])
    ]
    if any(isinstance(arg, Spec) for arg in args):
        args = _with_the_unsaved(node, args, recorded)
    fun = _SCALAR.get(rule.fun, rule.fun)
    try:
        return np.asarray(fun(*args, **node.kwargs), object)
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(
            f"explode: {node.name} (called at {node.place}) has no form in scalars; the scalar "
            "engine has + - * / ** exp log tanh sigmoid relu, and sums and products of these"
        ) from error


def _with_the_unsaved(node: Node, args: Sequence[Any], recorded: Recorded) -> list[Any]:
    """The arguments of a sum or difference, with the array that was not saved: it is the rest."""
    known = [recorded.values.get(parent) for parent in node.parents or () if parent is not None]
    total, sign = recorded.values.get(node), _SIGNS.get(node.rule and node.rule.fun)
    if total is None or sign is None or len(known) != 1 or known[0] is None:
        raise GraphError(
            f"explode: an array in {node} is not known, as no derivative reads it: make it a "
            "tensor with requires_grad=True, and keep that"
        )
    rest = {
        (False, 1): total - known[0],
        (False, -1): known[0] - total,
        (True, 1): total - known[0],
        (True, -1): total + known[0],
    }[isinstance(args[0], Spec), sign]
    return [rest if isinstance(arg, Spec) else arg for arg in args]


_SIGNS: dict[Any, int] = {np.add: 1, np.subtract: -1}  # of the second operand


def _mapped(name: str) -> Any:
    return np.frompyfunc(lambda value: getattr(value, name)(), 1, 1)


_SCALAR: dict[Any, Any] = {
    relu: _mapped("relu"),
    sigmoid: _mapped("sigmoid"),
    np.square: lambda a: a**2,
    np.sqrt: lambda a: a**0.5,
    np.reciprocal: lambda a: 1 / a,
}
