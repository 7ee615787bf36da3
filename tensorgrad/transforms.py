"""Transforms: they take a function and return one that computes derivatives, to any order.

Arguments and results of the functions are arrays, tensors and numbers, or trees of them, such as
lists, tuples, dicts, modules and registered classes. Derivatives have the structure of the
arguments. They are plain arrays; or tensors, where an argument is a tensor, or where the function
used tracked tensors from outside: then they can be differentiated further.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, overload

import numpy as np

from .engine.arrays import as_array, ones, unbroadcast
from .engine.backward import backpropagate, saved
from .engine.batching import Batch, Level, NotBatchedError, levels_of, one_by_one
from .engine.dispatch import apply, revive
from .engine.frames import users_line
from .engine.graph import Node, ancestors, node_of, now, require_unwritten
from .engine.modes import enable_grad, mode, plain, set_mode
from .engine.operands import any_tracked
from .engine.primitives import alias
from .engine.registry import NO_KWARGS, PART, RULES
from .engine.tensor import Tensor, asarray
from .engine.typing import Array, Function
from .engine.variable import tensor_of
from .errors import GraphError
from .guide import guided
from .tree import MismatchError, TreeDef, flatten, flatten_up_to, map as tree_map, require_arrays

Direction = Literal["reverse", "forward"]
P = ParamSpec("P")

# What errors say to do with a leaf that has no derivative:
_OTHER_ARGUMENT = "pass it as an argument that is not differentiated"
_OTHER_OUTPUT = "return it as aux, with has_aux=True, or not at all"

_parents = operator.attrgetter("parents")


class _Linearized:
    """A call of a function, and its derivative in both directions.

    The primals are the arguments at `argnums`; or all of them, if that is None: then errors call
    them `primals`. `ends` are the nodes of their leaves, `roots` those of the results; `nodes` are
    all the nodes between them, newest first.
    """

    def __init__(
        self,
        name: str,
        f: Function,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] = NO_KWARGS,
        argnums: int | Sequence[int] | None = None,
        has_aux: bool = False,
    ) -> None:
        self.name, self.f, self.args, self.argnums = name, f, args, argnums
        self.recording = mode.get().recording
        chosen = args if argnums is None else _choose(name, argnums, args)
        self.primals, self.structure = flatten(chosen)
        inputs = [self._fresh(i, primal) for i, primal in enumerate(self.primals)]
        self.ends: list[Any] = [x._node for x in inputs]
        recorded = f if self.recording else enable_grad()(f)
        chosen = self.structure.unflatten(inputs)
        replaced = chosen if argnums is None else _replaced(args, argnums, chosen)
        try:
            y = recorded(*replaced, **kwargs)
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
        if array.dtype.kind != "f":
            cure = "its real and imaginary part" if array.dtype.kind == "c" else "x.astype(float)"
            if isinstance(primal, int):
                cure = repr(float(primal))
            raise TypeError(
                f"{self.name}: only real floating arguments have derivatives, and "
                f"{self._shown(self.structure.paths()[i])} has dtype {array.dtype}: pass {cure}"
            )
        if isinstance(primal, Tensor) and primal.requires_grad and self.recording:
            return apply(alias, (primal,))
        return tensor_of(array, node_of(array.shape, array.dtype, RULES[alias]))

    def _shown(self, path: str) -> str:
        """The path of a leaf of the primals, as the caller would write it."""
        if self.argnums is None:
            return f"primals{path}"
        position = self.argnums
        if not isinstance(position, (int, np.integer)):  # the path starts with an index into them
            index, _, path = path[1:].partition("]")
            position = position[int(index)]
        return parameter_name(self.f, position % len(self.args)) + path

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
        """Carry cotangents of the results back to the primals; None stands for zeros."""
        recorded = self._recorded(cotangents)
        seeds: dict[Node, Any] = {}
        for root, g in zip(self.roots, cotangents):
            if root is not None and g is not None:
                g = asarray(g) if recorded else plain(g).copy()
                seeds[root] = g if root not in seeds else seeds[root] + g
        ends = set(self.ends)
        if recorded:
            with set_mode(line=users_line(sys._getframe())):
                found = backpropagate(self.nodes, seeds, ends, operands=revive)
        else:
            found = backpropagate(self.nodes, seeds, ends)
        return [found[end] if end in found else np.zeros(end.shape, end.dtype) for end in self.ends]

    def gradient(self) -> Any:
        """The gradient of the sum of the results, which must be real floating."""
        for y in self.results:
            if y.dtype.kind != "f":
                raise TypeError(
                    f"{self.name}: the function must return a real float, not {y.dtype}"
                )
        return self.of_primals(self.pull([ones(y.shape, y.dtype) for y in self.results]))

    def push(self, tangents: Sequence[Any]) -> list[Any]:
        """Carry tangents of the primals forward to the results; None stands for zeros."""
        recorded = self._recorded(tangents)
        found = {
            end: asarray(t) if recorded else plain(t)
            for end, t in zip(self.ends, tangents, strict=True)
            if t is not None
        }
        _push(reversed(self.nodes), found, revive if recorded else saved)
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

    def _recorded(self, values: Sequence[Any]) -> bool:
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
        return _handle(value) if self.tensors or type(value) is Batch else value

    def of_primals(self, values: Sequence[Any]) -> Any:
        """Cotangents in the structure of the primals; those of tensors are tensors."""
        return self.structure.unflatten(
            [
                _handle(v) if isinstance(primal, Tensor) or type(v) is Batch else v
                for v, primal in zip(values, self.primals)
            ]
        )

    def of_results(self, values: Sequence[Any]) -> Any:
        """Tangents in the structure of the output."""
        return self.y_structure.unflatten(map(self._result, values))


def parameter_name(f: Function, position: int) -> str:
    """Return the name of a function's parameter."""
    with contextlib.suppress(TypeError, ValueError):  # a built-in function
        parameters = [*inspect.signature(f).parameters.values()][: position + 1]
        by_position = parameters[-1].POSITIONAL_ONLY, parameters[-1].POSITIONAL_OR_KEYWORD
        if len(parameters) == position + 1 and parameters[-1].kind in by_position:
            return parameters[-1].name
    return f"args[{position}]"


def _handle(value: Any) -> Tensor:
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
    return [
        t if t.dtype == spec.dtype else t.astype(spec.dtype)
        for t, spec in zip(tensors, specs, strict=True)
    ]


# -- forward mode: tangents of the nodes, in the order in which they were computed


def _push(nodes: Any, tangents: dict[Node, Any], operands: Function) -> None:
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
        tangents[node] = np.asarray(tangent) if isinstance(tangent, np.generic) else tangent


def _tangent(node: Node, out: Any, args: Sequence[Any], tangents: Mapping[int, Any]) -> Any:
    """The tangent of a node's output; `tangents` are those of its arguments, by position."""
    rule, kwargs = node.rule, node.kwargs
    assert rule is not None
    if rule.form == "linear":
        arity = min(rule.arity, len(args))
        all_tangents = [tangents.get(i, _zeros(a)) for i, a in enumerate(args[:arity])]
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


# -- the transforms


def vjp(
    f: Function, *primals: Any, has_aux: bool = False
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return `f(*primals)`, and the function that pulls a cotangent of it back to the primals.

    The primals are real floating. The pullback takes a cotangent with the structure and the shapes
    of the output, and returns a tuple with a cotangent for each primal. It may be called any number
    of times. With `has_aux`, `f` returns `(output, aux)`, and aux is the third result.

    >>> y, pullback = tg.vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> y
    array([1., 4.])
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    call = _Linearized("vjp", f, primals, has_aux=has_aux)
    leaves = call.leaves()

    def pullback(cotangent: Any) -> Any:
        call.check(leaves)
        return call.of_primals(call.pull(call.cotangents(cotangent)))

    return (call.y, pullback, call.aux) if has_aux else (call.y, pullback)  # type: ignore[return-value]


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return `f(*primals)`, and its derivative along the tangents, `J @ tangents`.

    `primals` and `tangents` are tuples with an item for each argument, of the same structures and
    shapes. The derivative has the structure and the shapes of the output. It is carried forward: a
    linear operation is applied once more, and the rule of an element-wise one is evaluated once.

    >>> tg.jvp(np.sin, (np.array([0.0, np.pi]),), (np.array([1.0, 2.0]),))[1]
    array([ 1., -2.])
    """
    _require_tuples("jvp", primals, tangents)
    call = _Linearized("jvp", f, tuple(primals))
    return call.y, call.of_results(call.push(call.tangents(tuple(tangents))))


@guided
def value_and_grad(
    f: Callable[P, Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[P, tuple[Any, Any]]:
    """Return a function that computes both `f` and its gradient: `(value, gradient)`.

    `f` returns one element; with `has_aux`, it returns `(value, aux)`, and the result is
    `((value, aux), gradient)`. `argnums` is the position of the argument to differentiate by; for
    a tuple of positions, the gradient is a tuple.

    >>> tg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    >>> loss = lambda p, x: np.mean((p["w"] * x + p["b"]) ** 2)
    >>> tg.value_and_grad(loss)({"w": 2.0, "b": 1.0}, np.array([0.0, 1.0]))
    (array(5.), {'w': array(3.), 'b': array(4.)})
    """

    _require_function("value_and_grad", f, argnums)

    @functools.wraps(f)
    def with_gradient(*args: P.args, **kwargs: P.kwargs) -> tuple[Any, Any]:
        call, gradients = _gradient("value_and_grad", f, argnums, has_aux, args, kwargs)
        return ((call.y, call.aux) if has_aux else call.y), gradients

    return with_gradient


def _gradient(
    name: str,
    f: Function,
    argnums: int | Sequence[int],
    has_aux: bool,
    args: tuple[Any, ...],
    kwargs: Any,
) -> tuple[_Linearized, Any]:
    call = _Linearized(name, f, args, kwargs, argnums, has_aux)
    if len(call.results) != 1 or call.results[0].size != 1:
        shapes = ", ".join(str(y.shape) for y in call.results)
        returned = (
            f"shape {shapes}: reduce it, say by numpy.sum, or use tensorgrad.jacobian"
            if shapes
            else "None"
        )
        raise ValueError(f"{name}: the function must return one element, not {returned}")
    return call, call.gradient()


@guided
def grad(
    f: Callable[P, Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[P, Any]:
    """Return the function that computes the gradient of `f`, which returns one element.

    `argnums` is the position of the argument to differentiate by; for a tuple of positions, the
    gradient is a tuple. It is zero where `f` does not depend on an argument. With `has_aux`, `f`
    returns `(value, aux)`, and the result is `(gradient, aux)`.

    >>> cube = lambda x: x**3
    >>> tg.grad(cube)(2.0), tg.grad(tg.grad(cube))(2.0)
    (array(12.), array(12.))
    """

    _require_function("grad", f, argnums)

    @functools.wraps(f)
    def gradient(*args: P.args, **kwargs: P.kwargs) -> Any:
        call, gradients = _gradient("grad", f, argnums, has_aux, args, kwargs)
        return (gradients, call.aux) if has_aux else gradients

    return gradient


@overload
def elementwise_grad(f: np.ufunc, argnums: int | Sequence[int] = 0) -> Function: ...
@overload
def elementwise_grad(f: Callable[P, Any], argnums: int | Sequence[int] = 0) -> Callable[P, Any]: ...
def elementwise_grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return the function that computes the derivative of an element-wise function.

    For an `f` that works element by element, it is the gradient of the sum of the output.

    >>> tg.elementwise_grad(np.sin)(np.array([0.0, np.pi]))
    array([ 1., -1.])
    """

    _require_function("elementwise_grad", f, argnums)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return _Linearized("elementwise_grad", f, args, kwargs, argnums).gradient()

    return gradient


@overload
def jacobian(
    f: np.ufunc, argnums: int | Sequence[int] = 0, mode: Direction | None = None
) -> Function: ...
@overload
def jacobian(
    f: Callable[P, Any], argnums: int | Sequence[int] = 0, mode: Direction | None = None
) -> Callable[P, Any]: ...
def jacobian(
    f: Function, argnums: int | Sequence[int] = 0, mode: Direction | None = None
) -> Function:
    """Return the function that computes the Jacobian of `f`.

    These are the derivatives of each output element by each input element. For an output of shape
    `s` and an argument of shape `t`, the Jacobian has shape `s + t`. For trees, it is a tree with
    the structure of the output, in which each leaf is a tree with the structure of the argument.
    The mode is "reverse" (rows are carried backward) or "forward" (columns are carried forward); by
    default, the one with fewer rows or columns. Many are carried at once.

    >>> tg.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    _require_function("jacobian", f, argnums)
    if mode not in (None, "reverse", "forward"):
        raise ValueError(f'jacobian: mode must be "reverse" or "forward", not {mode!r}')
    return _jacobian("jacobian", f, argnums, mode)


def _jacobian(
    name: str, f: Function, argnums: int | Sequence[int], mode: Direction | None = None
) -> Function:
    @functools.wraps(f)
    def matrix(*args: Any, **kwargs: Any) -> Any:
        call = _Linearized(name, f, args, kwargs, argnums)
        rows, columns = (sum(a.size for a in side) for side in (call.results, call.ends))
        is_complex = any(y.dtype.kind == "c" for y in call.results)
        if is_complex and mode == "reverse":
            raise TypeError(
                "jacobian: a cotangent carries the real part of a complex output's derivative: "
                'use mode="forward", or return numpy.real and numpy.imag'
            )
        if mode == "reverse" or (mode is None and rows <= columns and not is_complex):
            blocks = [
                [
                    block.reshape(y.shape + x.shape)
                    for x, block in zip(call.ends, carried, strict=True)
                ]
                for y, carried in zip(
                    call.results, _all_units(call, call.pull, call.results), strict=True
                )
            ]
        else:
            by_columns = _all_units(call, call.push, call.ends)
            blocks = [
                [
                    np.moveaxis(carried[k], 0, -1).reshape(y.shape + x.shape)
                    for x, carried in zip(call.ends, by_columns, strict=True)
                ]
                for k, y in enumerate(call.results)
            ]
        return call.y_structure.unflatten(map(call.of_primals, blocks))

    return matrix


def _all_units(
    call: _Linearized, carry: Callable[[Sequence[Any]], list[Any]], sides: Sequence[Any]
) -> list[list[Any]]:
    """The results for each unit vector of each side, stacked along a first axis."""
    largest = max(map(math.prod, {node.shape for node in call.nodes}), default=1)
    step = max(1, (1 << 22) // max(largest, 1))  # 32 MB of float64 in one array

    def stacked(k: int, units: Array) -> list[Any]:
        """Carry unit vectors of side k, and zeros of the others."""

        def carried(unit: Any) -> list[Any]:
            return carry([unit if i == k else None for i in range(len(sides))])

        if not len(units):
            return [np.zeros((0, *out.shape), out.dtype) for out in carried(None)]
        if not call._recorded(()):
            level = Level(len(units), now())
            try:
                return [level.stacked(out) for out in carried(level.batch(units))]
            except NotBatchedError:
                pass
        return [np.stack(outs) for outs in zip(*map(carried, units), strict=True)]

    def of_side(k: int) -> list[Any]:
        side = sides[k]
        units = np.eye(side.size, dtype=side.dtype).reshape(side.size, *side.shape)
        chunks = [stacked(k, units[i : i + step]) for i in range(0, max(side.size, 1), step)]
        return list(map(np.concatenate, zip(*chunks)))  # in memory of its own

    return [of_side(k) for k in range(len(sides))]


def hessian(f: Callable[P, Any], argnums: int | Sequence[int] = 0) -> Callable[P, Any]:
    """Return the function that computes the second derivatives of `f`, which returns one element.

    For an argument of shape `s` they have shape `s + s`.

    >>> tg.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    _require_function("hessian", f, argnums)

    @functools.wraps(f)
    def gradient(*args: P.args, **kwargs: P.kwargs) -> Any:
        return _gradient("hessian", f, argnums, False, args, kwargs)[1]

    return _jacobian("hessian", gradient, argnums)


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Return the product of the Hessian of `f` at `primals` with `tangents`, without the Hessian.

    `f` returns one element. `primals` and `tangents` are tuples with an item for each argument. So
    is the product, unless there is only one argument.

    >>> f = lambda x: x[0] ** 2 * x[1]
    >>> tg.hvp(f, (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    array([4., 2.])
    """
    _require_tuples("hvp", primals, tangents)
    everything = tuple(range(len(primals)))
    # The Hessian is symmetric: pulling back the gradient is cheaper than pushing it forward.
    call = _Linearized(
        "hvp", lambda *args: _gradient("hvp", f, everything, False, args, {})[1], tuple(primals)
    )
    product = call.of_primals(call.pull(call.tangents(tuple(tangents))))
    return product if len(primals) > 1 else product[0]


def _require_function(name: str, f: Any, argnums: Any) -> None:
    """Raise a TypeError unless `f` is a function and `argnums` are positions of its arguments."""
    positions = argnums if isinstance(argnums, (tuple, list)) else (argnums,)
    integers = all(isinstance(i, (int, np.integer)) and type(i) is not bool for i in positions)
    if not (callable(f) and integers):
        raise TypeError(
            f"{name}: takes a function and argnums, the positions of arguments, such as 0 or "
            f"(0, 1), and returns a function: write {name}(f)(x)"
        )


def _require_tuples(name: str, primals: Any, tangents: Any) -> None:
    for kind, values in (("primals", primals), ("tangents", tangents)):
        if not isinstance(values, (tuple, list)):
            raise TypeError(
                f"{name}: {kind} must be a tuple of the function's arguments, such as (x,), not a "
                f"{type(values).__name__}"
            )


def _choose(name: str, argnums: int | Sequence[int], args: tuple[Any, ...]) -> Any:
    """The argument `argnums`, or a tuple of those."""
    alone = isinstance(argnums, (int, np.integer))
    positions: Any = (argnums,) if alone else argnums
    count = len(args)
    if len({i % count for i in positions if -count <= i < count}) < len(positions):
        raise ValueError(
            f"{name}: argnums={argnums} must be different positions of arguments, but the call has "
            f"{count} positional arguments (those passed by keyword do not count)"
        )
    return args[positions[0]] if alone else tuple([args[i] for i in positions])


def _replaced(args: tuple[Any, ...], argnums: int | Sequence[int], chosen: Any) -> list[Any]:
    """The arguments, with those at `argnums` replaced."""
    replaced = [*args]
    if isinstance(argnums, (int, np.integer)):
        replaced[argnums] = chosen
    else:
        for i, a in zip(argnums, chosen):
            replaced[i] = a
    return replaced


def ravel(params: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the elements of a tree of arrays as one vector, and the function that undoes this.

    Both directions carry gradients. Of a module, the vector holds the parameters; the function
    returns a copy of the module.

    >>> flat, unravel = tg.ravel({"w": np.ones((2, 2)), "b": 0.0})
    >>> flat
    array([1., 1., 1., 1., 0.])
    >>> unravel(flat * 2)["w"]
    array([[2., 2.],
           [2., 2.]])
    """
    leaves, structure = flatten(params)
    require_arrays(leaves, structure, "ravel", "params{}".format, "leave it out")
    arrays = [a if isinstance(a, Tensor) else as_array(a, "ravel") for a in leaves]
    sizes = [math.prod(a.shape) for a in arrays]
    flat = np.concatenate([np.reshape(a, -1) for a in arrays]) if arrays else np.zeros(0)

    def unravel(vector: Any) -> Any:
        if vector.shape != (sum(sizes),):
            raise ValueError(f"unravel: a vector of shape {vector.shape}, not ({sum(sizes)},)")
        stops = np.cumsum(sizes)
        return structure.unflatten(
            vector[stop - size : stop].reshape(a.shape).astype(a.dtype)
            for a, size, stop in zip(arrays, sizes, stops, strict=True)
        )

    return flat, unravel
