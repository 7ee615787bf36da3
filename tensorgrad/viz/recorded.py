"""From recorded operations to a drawing: names, values, modules."""

from __future__ import annotations

import dataclasses
import functools
import gc
import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..engine.arrays import Spec
from ..engine.graph import Node, ancestors
from ..engine.modes import plain
from ..engine.registry import PART
from ..engine.tensor import Tensor
from ..engine.variable import Variable
from ..errors import GraphError
from ..nn import Module
from ..scalar import Value
from .drawing import FEW, Box, Graph, shown

Names: TypeAlias = "Module | Mapping[str, Any]"
UNNAMED = "input"  # the title of arrays without a name
MANY = 60  # boxes: with more, modules are collapsed


def graph(output: Any, names: Names | None = None, *, collapse: bool | None = None) -> Graph:
    """Draw how a tensor, or a `tensorgrad.scalar.Value`, was computed.

    A box is an operation with the shape of its result, and its dtype if it is not float64; arrays
    of up to 6 elements are shown. `names` is a module, whose parameters are drawn with their names
    and whose modules frame their operations; or a dict of tensors, arrays and modules by name.
    With `collapse`, each module is one box, and so is each line of code outside of modules; by
    default, where there are more than 60 operations.

    Draw before `backward()`, which frees the graph, or pass it `retain_graph=True`. A drawing shows
    the gradients that its tensors have when it is drawn, so it has those of a later `backward()`.

    Raises TypeError for anything else, and GraphError for a tensor without a graph.

    >>> w = tg.Tensor([1.0, -2.0], requires_grad=True)
    >>> loss = np.sum(np.tanh(w) ** 2)
    >>> drawing = tg.viz.graph(loss, {"w": w})
    >>> loss.backward()
    >>> print(drawing)
    sum, () = 1.509
    └ square, (2,) = [0.58, 0.9293]
      └ tanh, (2,) = [0.7616, -0.964]
        └ w, (2,) = [1.0, -2.0], grad [0.6397, -0.1362]
    """
    if isinstance(output, Value):
        return Graph(_of_values(output, names))
    if not isinstance(output, Tensor):
        raise TypeError(
            f"graph: a tensor or a Value is drawn, not {type(output).__name__}: pass what a "
            "function of tensors returned"
        )
    node = output._node
    if node is None or node.rule is None:
        raise GraphError(
            "graph: this tensor was not computed from one with requires_grad=True, so there is "
            "nothing to draw: pass the result of operations on such tensors"
        )
    recorded = Recorded(node, {} if names is None else names)
    boxes = recorded.boxes()
    groups = [g for g in dict.fromkeys(box.group for box in boxes) if g]
    if collapse is None:
        collapse = sum(box.kind == "operation" for box in boxes) > MANY
    if collapse:
        return Graph(_collapsed(boxes, recorded.modules))
    return Graph(boxes, groups)


class Recorded:
    """The nodes that an output was computed from, with what is known of them."""

    def __init__(self, output: Node, names: Names) -> None:
        self.nodes = [*reversed(ancestors(output))]
        self.modules = dict(_modules(names))
        self._names = dict(_named(names))
        self.values = values_of(self.nodes)
        self._groups = self._find_groups()

    def name_of(self, key: Any) -> str:
        """The user's name of a leaf or an array; an empty string if it has none."""
        return self._names.get(id(key), "")

    def boxes(self) -> list[Box]:
        """A box for each node and each array outside of the graph, in the order of computation."""
        made: dict[int, Box] = {}
        for node in self.nodes:
            parents = [
                made[id(part)] if isinstance(part, Node) else self._input(part, made)
                for part in parts_of(node)
            ]
            leaf = node.rule is None
            name = self.name_of(node)
            made[id(node)] = Box(
                name or ("leaf" if leaf else _title(node)),
                "parameter" if leaf else "operation",
                [] if _is_call(node) else [_facts(node, self.values.get(node))],
                parents,
                functools.partial(getattr, node, "grad"),
                self._groups.get(node, ""),
                os.path.basename(_call_of(node).place),
            )
        return [*made.values()]

    def _input(self, array: Any, made: dict[int, Box]) -> Box:
        """The box of an array that no operation of the graph made."""
        if id(array) not in made:
            value = array if isinstance(array, np.ndarray) else None
            made[id(array)] = Box(self.name_of(array) or UNNAMED, "input", [_facts(array, value)])
        return made[id(array)]

    def _find_groups(self) -> dict[Node, str]:
        """The module in whose call each operation was recorded, as far as it can be known.

        It is the module whose parameters it reads, or that of its arguments, if it comes from the
        same call of the user's code, or one of whose `__call__` is that code.
        """
        paths = {id(node): path for path, node in self._leaves()}
        codes = {
            function.__code__: path
            for path, module in reversed(self.modules.items())
            for function in [getattr(type(module), "__call__")]  # noqa: B004, B009
            if path and hasattr(function, "__code__")
        }
        groups: dict[Node, str] = {}
        owners: dict[Node, str] = {}  # of leaves, and of what is computed from one module's alone
        for node in self.nodes:
            if id(node) in paths:
                owners[node] = groups[node] = paths[id(node)]
                continue
            parts = parts_of(node)
            tracked = [part for part in parts if isinstance(part, Node)]
            owned = [owners[part] for part in tracked if part in owners]
            if owned:
                groups[node] = _common(owned)
                if len(owned) == len(parts):
                    owners[node] = groups[node]
                continue
            line = _line(node)
            near = [p for p in tracked if groups.get(p) and _line(p) == line]
            if near:
                newest = groups[max(near, key=lambda part: part.serial)]
                groups[node] = _common([newest, *(groups[p] for p in near)]) or newest
            elif line is not None and line[0] in codes:
                groups[node] = codes[line[0]]
        return groups

    def _leaves(self) -> Iterable[tuple[str, Node]]:
        for path, module in self.modules.items():
            for name, parameter in module.named_parameters():
                inner = ".".join(filter(None, [path, name])).rpartition(".")[0]
                if parameter._node is not None:
                    yield inner, parameter._node


def _common(paths: Iterable[str]) -> str:
    """The path of the innermost module around those with these paths."""
    parts = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(names[0] for names in itertools.takewhile(lambda p: len({*p}) == 1, parts))


def _named(names: Names, prefix: str = "") -> Iterable[tuple[int, str]]:
    """The ids of the nodes and arrays that have names, and these."""
    if isinstance(names, Module):
        for name, parameter in names.named_parameters():
            yield id(parameter._node), prefix + name
        return
    for name, item in _mapping(names).items():
        if isinstance(item, Module):
            yield from _named(item, f"{prefix}{name}.")
        elif isinstance(item, Tensor) and item._node is not None:
            yield id(item._node), prefix + name
        else:
            yield id(plain(item)), prefix + name


def _mapping(names: Any) -> Mapping[str, Any]:
    if names is None:
        return {}
    if not isinstance(names, Mapping):
        raise TypeError(
            "graph: names is a module, or a dict of tensors, arrays and modules by name, not "
            f"{type(names).__name__}"
        )
    return names


def _modules(names: Names) -> Iterable[tuple[str, Module]]:
    if isinstance(names, Module):
        yield from names.named_modules()
        return
    for name, item in _mapping(names).items():
        if isinstance(item, Module):
            for path, module in item.named_modules():
                yield ".".join(filter(None, [name, path])), module


def parts_of(node: Node) -> list[Any]:
    """What a node was computed from: nodes, and arrays or specs that were not tracked."""
    found: list[Any] = []
    parents: Sequence[Node | None] = node.parents or ()
    if node.rule is PART:
        return [*parents]
    for i, arg in enumerate(node.args):
        parent = parents[i] if i < len(parents) else None
        if parent is not None:
            found.append(parent)
        elif isinstance(arg, (np.ndarray, Spec)) and arg.shape:
            found.append(arg)
    return found


def values_of(nodes: Sequence[Node]) -> dict[Node, Any]:
    """The values of nodes, oldest first, as far as they are known.

    They are those of tensors that still exist, those that a node saved for its derivative, or
    computed once more from such ones.
    """
    wanted = {*nodes}
    alive = gc.get_referrers(*nodes)
    values: dict[Node, Any] = {
        item._node: item._array
        for item in alive
        if isinstance(item, Variable) and item._node in wanted
    } | {
        parent: arg
        for node in nodes
        for parent, arg in zip(node.parents or (), node.args)
        if parent is not None and isinstance(arg, np.ndarray)
    }
    for node in nodes:
        if node in values:
            continue
        if node.out is not None and not _has_specs(node.out):
            values[node] = node.out
        elif node.rule is PART and node.parents and node.parents[0] in values:
            values[node] = values[node.parents[0]][node.args[0]]
        elif node.rule is not None and node.rule is not PART:
            args = _arguments(node, values)
            if args is not None:
                values[node] = plain(node.rule.fun(*args, **node.kwargs))
    return values


def _arguments(node: Node, values: Mapping[Node, Any]) -> list[Any] | None:
    """The arguments of a call as arrays; None if one is not known."""
    parents = node.parents or ()
    args = []
    for i, arg in enumerate(node.args):
        parent = parents[i] if i < len(parents) else None
        if isinstance(arg, Spec):
            if parent is None or parent not in values:
                return None
            arg = values[parent]
        args.append(arg)
    return args


def _title(node: Node) -> str:
    """The name of an operation, with the numbers and options of the call."""
    if node.rule is PART:
        return f"{node.name}, result {node.args[0]}"
    parents = node.parents or ()
    numbers = [
        f" {arg:.4g}" if isinstance(arg, float) else f" {arg}"
        for i, arg in enumerate(node.args)
        if (i >= len(parents) or parents[i] is None) and isinstance(arg, (bool, int, float))
    ]
    options = [
        f" {name}={value}"
        for name, value in node.kwargs.items()
        if isinstance(value, (bool, int, float, str, tuple)) and value is not False
    ]
    return _USUAL.get(node.name, node.name) + "".join(numbers + options)


_USUAL = {
    "add.reduce": "sum",
    "multiply.reduce": "prod",
    "maximum.reduce": "max",
    "minimum.reduce": "min",
}


def _has_specs(out: Any) -> bool:
    return isinstance(out, tuple) and any(isinstance(part, Spec) for part in out)


def _line(node: Node) -> Any:
    """Where the user called the operation: the code, and the position in it."""
    return getattr(_call_of(node), "line", None)


def _call_of(node: Node) -> Node:
    """The node of the call that a node is one result of; the node itself, if it has one result."""
    call = node.parents[0] if node.rule is PART and node.parents else None
    return node if call is None else call


def _is_call(node: Node) -> bool:
    """Whether a node is a call of several results, whose parts are nodes of their own."""
    return node.rule is not PART and isinstance(node.out, tuple)


def _facts(spec: Any, value: Any) -> str:
    """The shape; the dtype, if it is not float64; and the value of a small array."""
    dtype = "" if spec.dtype == float else f" {spec.dtype}"
    size = math.prod(spec.shape)
    return f"{spec.shape}{dtype}" + ("" if value is None or size > FEW else f" = {shown(value)}")


def _collapsed(boxes: Sequence[Box], modules: Mapping[str, Module]) -> list[Box]:
    """One box for each module, and for each line of code outside of modules."""
    depth = max(box.group.count(".") + 1 for box in boxes)
    keys = _keys(boxes, depth)
    while depth > 1 and len({*keys.values()}) > MANY // 4:
        depth -= 1
        keys = _keys(boxes, depth)
    members: dict[str, list[Box]] = {}
    for box, key in keys.items():
        members.setdefault(key, []).append(box)
    whole = {key: _box_of(key, inside, modules) for key, inside in members.items()}
    for key, inside in members.items():
        before = [whole[keys[parent]] for box in inside for parent in box.parents]
        whole[key].parents = [box for box in dict.fromkeys(before) if box is not whole[key]]
    last = whole.pop(keys[boxes[-1]])
    return [*whole.values(), last]


def _keys(boxes: Sequence[Box], depth: int) -> dict[Box, str]:
    """What each box becomes a part of: its module, up to so many names of its path; or its line."""
    keys = {}
    for i, box in enumerate(boxes):
        path = ".".join(box.group.split(".")[:depth])
        keys[box] = path or (box.place if box.kind == "operation" else f"{i}")
    for box in boxes:
        for parent in box.parents:
            if parent.kind == "input" and parent.title == UNNAMED:
                keys[parent] = keys[box]
    return keys


def _box_of(key: str, inside: Sequence[Box], modules: Mapping[str, Module]) -> Box:
    """The box that stands for a module or a line, still without its parents."""
    operations = [box for box in inside if box.kind == "operation"]
    if not operations:
        return dataclasses.replace(inside[-1], parents=())
    title = f"{key}: {type(modules[key]).__name__}" if key in modules else key
    count = len(operations)
    facts = [operations[-1].facts[0]] if operations[-1].facts else []
    facts.append("1 operation" if count == 1 else f"{count} operations")
    parameters = sum(box.kind == "parameter" for box in inside)
    if parameters:
        facts.append("1 parameter" if parameters == 1 else f"{parameters} parameters")
    return Box(title, "module", facts)


def _of_values(output: Value, names: Names | None) -> list[Box]:
    """The boxes of a scalar graph, each after its parents."""
    known = {id(value): name for name, value in _mapping(names).items()}
    order, seen, waiting = [], {output}, [(output, iter(output._parents))]
    while waiting:
        value, parents = waiting[-1]
        parent = next(parents, None)
        if parent is None:
            order.append(value)
            waiting.pop()
        elif parent not in seen:
            seen.add(parent)
            waiting.append((parent, iter(parent._parents)))
    boxes: dict[Value, Box] = {}
    for value in order:
        name = known.get(id(value)) or value.label
        operation = " ".join(map(str, value.operation))
        boxes[value] = Box(
            f"{name} = {operation}" if name and operation else name or operation or "value",
            "operation" if value._parents else "parameter",
            [f"data {shown(value.data)}"],
            [boxes[parent] for parent in value._parents],
            functools.partial(getattr, value, "grad"),
        )
    return [*boxes.values()]
