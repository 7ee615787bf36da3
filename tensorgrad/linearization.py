"""The derivative of a call of a function, in both directions: what all transforms share."""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from .engine.arrays import as_array, conjugated, ones, require_castable, unbroadcast
from .engine.backward import backpropagate, saved
from .engine.batching import Batch, NotBatchedError, levels_of, one_by_one
from .engine.dispatch import apply, revive
from .engine.frames import users_line
from .engine.graph import Node, ancestors, node_of, require_unwritten
from .engine.modes import enable_grad, mode, plain, set_mode
from .engine.operands import any_tracked
from .engine.primitives import alias
from .engine.registry import NO_KWARGS, PART, RULES
from .engine.tensor import Tensor, asarray
from .engine.typing import Function
from .engine.variable import tensor_of
from .errors import GraphError
from .tree import MismatchError, TreeDef, flatten, flatten_up_to, map as tree_map, require_arrays

# What errors say to do with a leaf that has no derivative:
_OTHER_ARGUMENT = "pass it as an argument that is not differentiated"
_OTHER_OUTPUT = "return it as aux, with has_aux=True, or not at all"

_parents = operator.attrgetter("parents")


Selection: TypeAlias = int | str | Sequence[int] | Sequence[str]
_Keys: TypeAlias = int | str | tuple[int | str, ...]


class Linearized:
    """A call of a function, and its derivative in both directions.

    The primals are the arguments that `by` selects, by position or name; or all of them, if that is
    None: then errors call them `primals`. `ends` are the nodes of their leaves, `roots` those of
    the results; `nodes` are all the nodes between them, newest first.
    """

    def __init__(
        self,
        name: str,
        f: Function,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] = NO_KWARGS,
        by: Selection | None = None,
        has_aux: bool = False,
        holomorphic: bool = False,
    ) -> None:
        self.name, self.f, self.args, self.holomorphic = name, f, args, holomorphic
        self.recording = mode.get().recording
        self.keys = None if by is None else _located(name, f, by, args, kwargs)
        chosen = args if self.keys is None else _chosen(self.keys, args, kwargs)
        self.primals, self.structure = flatten(chosen)
        inputs = [self._fresh(i, primal) for i, primal in enumerate(self.primals)]
        self.ends: list[Any] = [x._node for x in inputs]
        recorded = f if self.recording else enable_grad()(f)
        chosen = self.structure.unflatten(inputs)
        if self.keys is not None:
            chosen, kwargs = _replaced(args, kwargs, self.keys, chosen)
        try:
            y = recorded(*chosen, **kwargs)
        except ValueError as error:
            if isinstance(error.__cause__, TypeError):  # `array[0] = tensor`: NumPy hides our error
                error.add_note(str(error.__cause__))
            raise
        self._aux: Any = None
        if has_aux:
            if not isinstance(y, (tuple, list)) or len(y) != 2:
                found = f"{len(y)} values" if isinstance(y, tuple) else type(y).__name__
                raise TypeError(
                    f"{name}: with has_aux=True, the function must return (result, aux), not "
                    f"{found}"
                )
            y, self._aux = y
        results, self.y_structure = flatten(y)
        try:
            self.results = [y if isinstance(y, Tensor) else asarray(y) for y in results]
        except TypeError:
            require_arrays(results, self.y_structure, name, "output{}".format, _OTHER_OUTPUT)
            raise
        self.nodes, self.roots, self.others = _ways([y._node for y in self.results], self.ends)

    def _fresh(self, i: int, primal: Any) -> Tensor:
        """A tensor with the value of a primal, and a new node, so that nested transforms differ."""
        try:
            array = as_array(plain(primal), self.name)
        except TypeError:
            require_arrays(self.primals, self.structure, self.name, self._shown, _OTHER_ARGUMENT)
            raise
        if array.dtype.kind not in "fc":
            cure = repr(float(primal)) if isinstance(primal, int) else "x.astype(float)"
            raise TypeError(
                f"{self.name}: only floating and complex arguments have derivatives, and "
                f"{self._shown(self.structure.paths()[i])} has dtype {array.dtype}: pass {cure}"
            )
        if self.holomorphic and array.dtype.kind != "c":
            raise TypeError(
                f"{self.name}: with holomorphic=True, arguments are complex, and "
                f"{self._shown(self.structure.paths()[i])} has dtype {array.dtype}: pass "
                "x.astype(complex)"
            )
        if isinstance(primal, Tensor) and primal.requires_grad and self.recording:
            return apply(alias, (primal,))
        return tensor_of(array, node_of(array.shape, array.dtype, RULES[alias]))

    def _shown(self, path: str) -> str:
        """The path of a leaf of the primals, as the caller would write it."""
        if self.keys is None:
            return f"primals{path}"
        key = self.keys
        if isinstance(key, tuple):  # the path starts with an index into them
            index, _, path = path[1:].partition("]")
            key = key[int(index)]
        return (key if isinstance(key, str) else parameter_name(self.f, key)) + path

    @functools.cached_property
    def tensors(self) -> bool:
        """Whether a primal is a tensor, so that what is computed should be tensors too."""
        return any(isinstance(primal, Tensor) for primal in self.primals)

    @property
    def y(self) -> Any:
        """The output of the function."""
        return self.y_structure.unflatten(map(self._returned, self.results))

    @property
    def aux(self) -> Any:
        """The auxiliary output of the function."""
        return tree_map(lambda a: self._returned(a) if isinstance(a, Tensor) else a, self._aux)

    def _returned(self, y: Tensor) -> Any:
        """A tensor of the output as the caller gets it: as an array, unless it has a graph."""
        return y if self.others and self.recording else self._result(y.data)

    def pull(self, cotangents: Sequence[Any]) -> list[Any]:
        """Carry gradients by the results back to the primals; None stands for zeros.

        Of complex numbers, they are directions of steepest ascent, as those of `Tensor.grad`.
        """
        recorded = self.is_recorded(cotangents)
        seeds: dict[Node, Any] = {}
        for root, g in zip(self.roots, cotangents):
            if root is not None and g is not None:
                g = conjugated(asarray(g) if recorded else plain(g).copy())
                seeds[root] = g if root not in seeds else seeds[root] + g
        ends = set(self.ends)
        if recorded:
            with set_mode(line=users_line(sys._getframe())):
                found = backpropagate(self.nodes, seeds, ends, operands=revive)
        else:
            found = backpropagate(self.nodes, seeds, ends)
        return [
            conjugated(found[end]) if end in found else np.zeros(end.shape, end.dtype)
            for end in self.ends
        ]

    def gradient(self) -> Any:
        """The gradient of the sum of the results; of a holomorphic function, its derivative."""
        for y in self.results:
            if self.holomorphic and y.dtype.kind != "c":
                raise TypeError(
                    f"{self.name}: with holomorphic=True, the function must return a complex "
                    f"number, not {y.dtype}"
                )
            if not self.holomorphic and y.dtype.kind != "f":
                cure = (
                    ": make it real, say by numpy.abs, or use tensorgrad.grad with "
                    "holomorphic=True if it is analytic"
                )
                raise TypeError(
                    f"{self.name}: the function must return a real float, not {y.dtype}"
                    + (cure if y.dtype.kind == "c" else "")
                )
        gradients = self.pull([ones(y.shape, y.dtype) for y in self.results])
        return self.of_primals([*map(conjugated, gradients)] if self.holomorphic else gradients)

    def push(self, tangents: Sequence[Any]) -> list[Any]:
        """Carry tangents of the primals forward to the results; None stands for zeros."""
        recorded = self.is_recorded(tangents)
        found = {
            end: asarray(t) if recorded else plain(t)
            for end, t in zip(self.ends, tangents, strict=True)
            if t is not None
        }
        push_tangents(reversed(self.nodes), found, revive if recorded else saved)
        return [
            found[root].copy() if root in found else np.zeros(y.shape, y.dtype)
            for root, y in zip(self.roots, self.results, strict=True)
        ]

    def leaves(self) -> list[tuple[Node, int]]:
        """The nodes of primals that are tracked tensors, with their present serial numbers."""
        nodes = [primal._node for primal in self.primals if isinstance(primal, Tensor)]
        return [(node, node.serial) for node in nodes if node is not None]

    def check(self, leaves: list[tuple[Node, int]]) -> None:
        """Raise a GraphError if the data of a leaf was changed since `leaves()` was called."""
        for node, serial in leaves:
            require_unwritten(node, self.name)
            if node.serial != serial:
                raise GraphError(f"{self.name}: the data of a primal was changed since the call")
        _ways(self.roots, self.ends)

    def is_recorded(self, values: Sequence[Any]) -> bool:
        """Whether a caller can differentiate what is computed now from these values."""
        return mode.get().recording and (self.others or any_tracked(values))

    def cotangents(self, cotangent: Any) -> list[Any]:
        """The leaves of a cotangent, checked against the output."""
        return _like(self.name, "output", self.y_structure, self.results, "cotangent", cotangent)

    def tangents(self, tangents: Any) -> list[Any]:
        """The leaves of tangents, checked against the primals."""
        return _like(self.name, "primals", self.structure, self.ends, "tangents", tangents)

    def _result(self, value: Any) -> Any:
        """A computed array as the caller gets it."""
        return handle(value) if self.tensors or type(value) is Batch else value

    def of_primals(self, values: Sequence[Any]) -> Any:
        """Cotangents in the structure of the primals; those of tensors are tensors."""
        return self.structure.unflatten(
            [
                handle(v) if isinstance(primal, Tensor) or type(v) is Batch else v
                for v, primal in zip(values, self.primals)
            ]
        )

    def of_results(self, values: Sequence[Any]) -> Any:
        """Tangents in the structure of the output."""
        return self.y_structure.unflatten(map(self._result, values))


def _located(
    name: str, f: Function, by: Selection, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> _Keys:
    """Where the selected arguments are: their positions, or names if passed by keyword."""
    if type(by) is int and 0 <= by < len(args):
        return by  # nearly always

    def located(key: int | str) -> int | str:
        if isinstance(key, str):
            if key in kwargs:
                return key
            names = _names(f)
            key = names.index(key) if key in names else len(args)
        return key + len(args) if -len(args) <= key < 0 else key

    keys = (by,) if isinstance(by, (int, str, np.integer)) else by
    found = [located(key) for key in keys]
    valid = {key for key in found if isinstance(key, str) or 0 <= key < len(args)}
    if len(valid) < len(found):
        if any(isinstance(key, str) for key in keys):
            raise ValueError(
                f"{name}: argnames={by!r} must be different names of arguments, but the call has "
                f"{', '.join([*_names(f)[: len(args)], *kwargs]) or 'none'}"
            )
        raise ValueError(
            f"{name}: argnums={by} must be different positions of arguments, but the call has "
            f"{len(args)} positional arguments (those passed by keyword do not count)"
        )
    return found[0] if isinstance(by, (int, str, np.integer)) else tuple(found)


def _names(f: Function) -> list[str]:
    """The names of a function's parameters."""
    with contextlib.suppress(TypeError, ValueError):  # a built-in function
        return [*inspect.signature(f).parameters]
    return []


def _chosen(keys: _Keys, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The argument at a key, or a tuple of those at several."""
    if isinstance(keys, tuple):
        return tuple([_chosen(key, args, kwargs) for key in keys])
    return kwargs[keys] if isinstance(keys, str) else args[keys]


def _replaced(
    args: Sequence[Any], kwargs: Mapping[str, Any], keys: _Keys, chosen: Any
) -> tuple[list[Any], Mapping[str, Any]]:
    """The arguments, with those at the keys replaced."""
    if type(keys) is int:
        return [*args[:keys], chosen, *args[keys + 1 :]], kwargs
    arguments: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    pairs = zip(keys, chosen, strict=True) if isinstance(keys, tuple) else [(keys, chosen)]
    arguments.update(pairs)
    return [arguments[i] for i in range(len(args))], {name: arguments[name] for name in kwargs}


def parameter_name(f: Function, position: int) -> str:
    """Return the name of a function's parameter."""
    with contextlib.suppress(TypeError, ValueError):  # a built-in function
        parameters = [*inspect.signature(f).parameters.values()][: position + 1]
        by_position = parameters[-1].POSITIONAL_ONLY, parameters[-1].POSITIONAL_OR_KEYWORD
        if len(parameters) == position + 1 and parameters[-1].kind in by_position:
            return parameters[-1].name
    return f"args[{position}]"


def handle(value: Any) -> Tensor:
    """A new tensor with the same value and graph: changing it in place changes no other one."""
    t = asarray(value)
    return tensor_of(plain(t), t._node)


def _ways(
    roots: list[Node | None], ends: Sequence[Node]
) -> tuple[list[Node], list[Node | None], bool]:
    """The nodes on paths from the roots to the ends, newest first.

    Also returns the roots, with None for those that do not depend on an end, and whether the roots
    depend on anything else: on tracked tensors from outside of the function, or on what the ends
    were computed from.
    """
    tracked = [root for root in roots if root is not None]
    if not (tracked and ends):
        return [], roots, False
    on_the_way = set(ends)
    last = ends[-1].serial
    nodes = ancestors(*tracked, since=last + 1)
    sources = {node for node in nodes if node.serial <= last or node.rule is None}
    if sources <= on_the_way:
        return nodes, roots, any(map(_parents, ends))
    for node in reversed(nodes):
        if not on_the_way.isdisjoint(node.parents or ()):
            on_the_way.add(node)
    nodes = [node for node in nodes if node in on_the_way]
    return nodes, [root if root in on_the_way else None for root in roots], True


def _like(
    name: str, own: str, structure: TreeDef, specs: Sequence[Any], what: str, tree: Any
) -> list[Any]:
    """The leaves of a tree that must have the structure, shapes and dtypes of another one.

    In errors, `what` names the tree, and `own` the other one.
    """
    try:
        leaves = flatten_up_to(structure, tree, exactly=True)
    except MismatchError as error:
        raise TypeError(
            f"{name}: {what} and {own} must have one structure: {error.told(own, what)}"
        ) from None
    try:
        tensors = [asarray(leaf) for leaf in leaves]
    except TypeError:
        require_arrays(leaves, structure, name, f"{what}{{}}".format, "pass an array")
        raise
    for i, (t, spec) in enumerate(zip(tensors, specs, strict=True)):
        if t.shape != spec.shape:
            path = structure.paths()[i]
            raise ValueError(
                f"{name}: {own}{path} has shape {spec.shape}, but {what}{path} has shape {t.shape}"
            )
        require_castable(t.dtype, spec.dtype, f"{name}: {what}", f"{own}")
    return [
        t if t.dtype == spec.dtype else t.astype(spec.dtype)
        for t, spec in zip(tensors, specs, strict=True)
    ]


# -- forward mode: tangents of the nodes, in the order in which they were computed


def push_tangents(nodes: Any, tangents: dict[Node, Any], operands: Function) -> None:
    """Add the tangent of each node (oldest first) that has a parent with a tangent."""
    for node in nodes:
        known = {i: tangents[p] for i, p in enumerate(node.parents) if p in tangents}
        if node in tangents or not known:
            continue
        if node.rule is PART:
            tangents[node] = known[0][node.args[0]]
            continue
        out, args = operands(node)
        try:
            tangent = _tangent(node, out, args, known)
        except NotBatchedError:
            tangent = one_by_one(_tangent, (node, out, args, known), NO_KWARGS)
        except Exception as error:
            error.add_note(
                f"forward: in the derivative of {node}: its rule is transposed, so it must be "
                "written in NumPy; or pass tensorgrad.differentiable a forward rule, jvp="
            )
            raise
        tangents[node] = np.asarray(tangent) if isinstance(tangent, np.generic) else tangent


def _tangent(node: Node, out: Any, args: Sequence[Any], tangents: Mapping[int, Any]) -> Any:
    """The tangent of a node's output; `tangents` are those of its arguments, by position."""
    rule, kwargs = node.rule, node.kwargs
    assert rule is not None
    arity = min(rule.arity, len(args))
    if rule.form == "linear" or rule.jvp is not None:
        all_tangents = [tangents.get(i, _zeros(a)) for i, a in enumerate(args[:arity])]
        if rule.jvp is not None:
            return rule.jvp(tuple(all_tangents), node if out is None else out, *args, **kwargs)
        options = {name: value for name, value in kwargs.items() if name != "initial"}
        return rule.fun(*all_tangents, *args[arity:], **options)
    total: Any = None
    for i, tangent in tangents.items():
        vjp = rule.vjps[i]
        if vjp is None:
            continue
        if rule.form == "multilinear":
            share = rule.fun(*args[:i], tangent, *args[i + 1 :], **kwargs)
        elif rule.form == "elementwise":  # the Jacobian is diagonal, so it is its own transpose
            g = tangent if tangent.shape == node.shape else np.broadcast_to(tangent, node.shape)
            share = unbroadcast(vjp(g, out, *args, **kwargs), node)
        else:
            share = _transposed(functools.partial(vjp, **kwargs), node, out, args, i, tangent)
        total = share if total is None else _sum(total, share)
    return total


def _sum(a: Any, b: Any) -> Any:
    return tuple(map(_sum, a, b)) if isinstance(a, tuple) else a + b


def _zeros(a: Any) -> Any:
    """The tangent of an argument that has none: zeros."""
    return np.zeros(a.shape, a.dtype) if hasattr(a, "shape") else a * 0


def _transposed(
    vjp: Function, node: Node, out: Any, args: Sequence[Any], i: int, tangent: Any
) -> Any:
    """The tangent of a node's output by argument i: the transpose of its vjp, linear in g."""
    parent = node.parents[i] if node.parents else None
    assert parent is not None
    specs = out if isinstance(out, tuple) else (node,)
    seeds = [tensor_of(np.zeros(o.shape, o.dtype), node_of(o.shape, o.dtype)) for o in specs]
    levels = {level for a in (*specs, *args, tangent) for level in levels_of(plain(a))}
    for seed in seeds:
        seed._node.levels = levels
    with enable_grad():
        pulled = asarray(vjp(tuple(seeds) if isinstance(out, tuple) else seeds[0], out, *args))
        pulled = unbroadcast(pulled, parent)
    ends = [seed._node for seed in seeds if seed._node is not None]
    found: dict[Node, Any] = {}
    if pulled._node is not None:
        nodes, (root,), _ = _ways([pulled._node], ends)
        if root is not None:
            operands = revive if isinstance(tangent, Tensor) else saved
            found = backpropagate(nodes, {root: tangent}, ends, operands=operands)
    parts = tuple([found.get(end, np.zeros(end.shape, end.dtype)) for end in ends])
    return parts if isinstance(out, tuple) else parts[0]
