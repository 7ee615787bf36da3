"""Derivatives of functions, as functions: they nest to any order and mix with `backward()`.

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
from .engine.batching import Batch, NotBatchedError
from .engine.dispatch import apply, revive
from .engine.frames import users_line
from .engine.graph import Node, ancestors, backpropagate, node_of, require_unwritten, saved
from .engine.modes import enable_grad, mode, set_mode
from .engine.operands import any_tracked
from .engine.primitives import alias
from .engine.registry import NO_KWARGS, PART, RULES
from .engine.tensor import Tensor, asarray
from .engine.typing import Array, Function
from .engine.variable import plain, tensor_of
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
        return _parameter(self.f, position % len(self.args)) + path

    @functools.cached_property
    def tensors(self) -> bool:
        """Whether a primal is a tensor, so that what is computed should be tensors too."""
        return any(isinstance(primal, Tensor) for primal in self.primals)

    @property
    def y(self) -> Any:
        """What the function returned."""
        return self.y_structure.unflatten(map(self._returned, self.results))

    @property
    def aux(self) -> Any:
        """What else the function returned."""
        return tree_map(lambda a: self._returned(a) if isinstance(a, Tensor) else a, self._aux)

    def _returned(self, y: Tensor) -> Any:
        """A tensor that the function returned, as the caller gets it."""
        return y if self.others and self.recording else self._result(y.data)

    def pull(self, cotangents: Sequence[Any]) -> list[Any]:
        """The cotangents of the primals, given those of the results; None stands for zeros."""
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
        """The gradient of the sum of what the function returned, which must be real floating."""
        for y in self.results:
            if y.dtype.kind != "f":
                raise TypeError(
                    f"{self.name}: the function must return a real float, not {y.dtype}"
                )
        return self.of_primals(self.pull([ones(y.shape, y.dtype) for y in self.results]))

    def push(self, tangents: Sequence[Any]) -> list[Any]:
        """The tangents of the results, given those of the primals; None stands for zeros."""
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
        """The nodes of the primals that are tracked tensors, and how old their data is."""
        nodes = [primal._node for primal in self.primals if isinstance(primal, Tensor)]
        return [(node, node.serial) for node in nodes if node is not None]

    def check(self, leaves: list[tuple[Node, int]]) -> None:
        """Raise if the data of a leaf was changed since `leaves` were taken down."""
        for node, serial in leaves:
            require_unwritten(node, self.name)
            if node.serial != serial:
                raise GraphError(f"{self.name}: the data of a primal was changed since the call")
        _ways(self.roots, self.ends)

    def _recorded(self, given: Sequence[Any]) -> bool:
        """Whether somebody outside could ask for the derivative of what is computed now."""
        return mode.get().recording and (self.others or any_tracked(given))

    def cotangents(self, cotangent: Any) -> list[Any]:
        """The leaves of a cotangent, checked against the output."""
        return _like(self.name, "output", self.y_structure, self.results, "cotangent", cotangent)

    def tangents(self, tangents: Any) -> list[Any]:
        """The leaves of tangents, checked against the primals."""
        return _like(self.name, "primals", self.structure, self.ends, "tangents", tangents)

    def _result(self, value: Any) -> Any:
        """A computed array as the caller gets it."""
        return _handle(value) if self.tensors else value

    def of_primals(self, values: Sequence[Any]) -> Any:
        """The cotangents of the primals in their structure: a tensor's is a tensor."""
        return self.structure.unflatten(
            [
                _handle(v) if isinstance(primal, Tensor) else v
                for v, primal in zip(values, self.primals)
            ]
        )

    def of_results(self, values: Sequence[Any]) -> Any:
        return self.y_structure.unflatten(map(self._result, values))


def _parameter(f: Function, position: int) -> str:
    """The name of a function's parameter."""
    with contextlib.suppress(TypeError, ValueError):  # a built-in function
        parameters = [*inspect.signature(f).parameters.values()][: position + 1]
        by_position = parameters[-1].POSITIONAL_ONLY, parameters[-1].POSITIONAL_OR_KEYWORD
        if len(parameters) == position + 1 and parameters[-1].kind in by_position:
            return parameters[-1].name
    return f"args[{position}]"


def _handle(value: Any) -> Tensor:
    """A tensor of its own, so that changing it in place changes no other one."""
    t = asarray(value)
    return tensor_of(plain(t), t._node)


def _ways(
    roots: list[Node | None], ends: Sequence[Node]
) -> tuple[list[Node], list[Node | None], bool]:
    """The nodes on the ways from the roots to the ends, newest first; does anything else join in?

    Roots that are on no way become None. What else could join are tracked tensors that the
    differentiated function took from outside, or the ends' own past.
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


# -- forward: tangents through the nodes, in the order in which they were computed


def _push(nodes: Any, tangents: dict[Node, Any], operands: Function) -> None:
    """Give each node (oldest first) its tangent, if its parents have any."""
    for node in nodes:
        given = {i: tangents[p] for i, p in enumerate(node.parents) if p in tangents}
        if node in tangents or not given:
            continue
        if node.rule is PART:
            tangents[node] = given[0][node.args[0]]
            continue
        out, args = operands(node)
        tangent = _tangent(node, out, args, given)
        tangents[node] = np.asarray(tangent) if isinstance(tangent, np.generic) else tangent


def _tangent(node: Node, out: Any, args: Sequence[Any], given: Mapping[int, Any]) -> Any:
    """The tangent of a node's output, given those of some arguments."""
    known, kwargs = node.rule, node.kwargs
    assert known is not None
    if known.form == "linear":
        arity = min(known.arity, len(args))
        zeros = [given.get(i, _zeros(a)) for i, a in enumerate(args[:arity])]
        options = {name: value for name, value in kwargs.items() if name != "initial"}
        return known.fun(*zeros, *args[arity:], **options)
    total: Any = None
    for i, tangent in given.items():
        vjp = known.vjps[i]
        if vjp is None:
            continue
        if known.form == "multilinear":
            share = known.fun(*args[:i], tangent, *args[i + 1 :], **kwargs)
        elif known.form == "elementwise":  # the Jacobian is diagonal, so it is its own transpose
            g = tangent if tangent.shape == node.shape else np.broadcast_to(tangent, node.shape)
            share = unbroadcast(vjp(g, out, *args, **kwargs), node)
        else:
            share = _transposed(functools.partial(vjp, **kwargs), node, out, args, i, tangent)
        total = share if total is None else _sum(total, share)
    return total


def _sum(a: Any, b: Any) -> Any:
    return tuple(map(_sum, a, b)) if isinstance(a, tuple) else a + b


def _zeros(a: Any) -> Any:
    """Zeros in place of an argument that has no tangent."""
    return np.zeros(a.shape, a.dtype) if hasattr(a, "shape") else a * 0


def _transposed(
    vjp: Function, node: Node, out: Any, args: Sequence[Any], i: int, tangent: Any
) -> Any:
    """The tangent of a node's output: the vjp, a linear function of g, transposed."""
    parent = node.parents[i] if node.parents else None
    assert parent is not None
    specs = out if isinstance(out, tuple) else (node,)
    seeds = [tensor_of(np.zeros(o.shape, o.dtype), node_of(o.shape, o.dtype)) for o in specs]
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
    """Return `f(*primals)`, and the pullback of its cotangent to the cotangents of the primals.

    The primals are real floating. The pullback takes cotangents of the output's structure and
    shapes, returns a tuple with one for each primal, and may be called any number of times. With
    `has_aux`, `f` returns `(output, aux)`, and aux is returned as a third result.

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

    `primals` and `tangents` are tuples, one item for each argument, of the same structures and
    shapes; the derivative has the structure and the shapes of the output. It is carried forward: a
    linear function costs as much again, and of an element-wise one, its rule is evaluated once.

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

    `f` returns one element; with `has_aux`, that and anything else, and the result is
    `((value, aux), gradient)`. The gradient is that of the positional argument `argnums`, or a
    tuple of those of several.

    >>> tg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    >>> loss = lambda p, x: np.mean((p["w"] * x + p["b"]) ** 2)
    >>> tg.value_and_grad(loss)({"w": 2.0, "b": 1.0}, np.array([0.0, 1.0]))
    (array(5.), {'w': array(3.), 'b': array(4.)})
    """

    _require_function("value_and_grad", f, argnums)

    @functools.wraps(f)
    def with_gradient(*args: P.args, **kwargs: P.kwargs) -> tuple[Any, Any]:
        call, gradients = _gradient(f, argnums, has_aux, args, kwargs)
        return ((call.y, call.aux) if has_aux else call.y), gradients

    return with_gradient


def _gradient(
    f: Function, argnums: int | Sequence[int], has_aux: bool, args: tuple[Any, ...], kwargs: Any
) -> tuple[_Linearized, Any]:
    call = _Linearized("grad", f, args, kwargs, argnums, has_aux)
    if len(call.results) != 1 or call.results[0].size != 1:
        shapes = ", ".join(str(y.shape) for y in call.results)
        returned = f"shape {shapes}" if shapes else "None"
        raise ValueError(f"grad: the function must return one element, not {returned}")
    return call, call.gradient()


@guided
def grad(
    f: Callable[P, Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[P, Any]:
    """Return the function that computes the gradient of `f`, which returns one element.

    The gradient is that of the positional argument `argnums`, or a tuple of those of several; zeros
    where `f` does not depend on one. With `has_aux`, `f` returns `(value, aux)`, and the result is
    `(gradient, aux)`.

    >>> cube = lambda x: x**3
    >>> tg.grad(cube)(2.0), tg.grad(tg.grad(cube))(2.0)
    (array(12.), array(12.))
    """

    _require_function("grad", f, argnums)

    @functools.wraps(f)
    def gradient(*args: P.args, **kwargs: P.kwargs) -> Any:
        call, gradients = _gradient(f, argnums, has_aux, args, kwargs)
        return (gradients, call.aux) if has_aux else gradients

    return gradient


@overload
def elementwise_grad(f: np.ufunc, argnums: int | Sequence[int] = 0) -> Function: ...
@overload
def elementwise_grad(f: Callable[P, Any], argnums: int | Sequence[int] = 0) -> Callable[P, Any]: ...
def elementwise_grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return the function that computes the derivative of each output element by its input's.

    That is the gradient of the sum of the outputs: for an `f` that works element by element.

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
    """Return the function that computes all the derivatives of each output by each input.

    For an output of shape `s` and an argument of shape `t` the Jacobian has shape `s + t`; for
    nested ones it is the output's structure of the arguments' structure of such arrays. Rows are
    carried backward ("reverse") or columns forward ("forward"), by default whichever are fewer, and
    many of them at once.

    >>> tg.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    _require_function("jacobian", f, argnums)
    if mode not in (None, "reverse", "forward"):
        raise ValueError(f'jacobian: mode must be "reverse" or "forward", not {mode!r}')

    @functools.wraps(f)
    def matrix(*args: Any, **kwargs: Any) -> Any:
        call = _Linearized("jacobian", f, args, kwargs, argnums)
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
    """What each unit vector of each side is carried to, stacked along a first axis."""
    largest = max(map(math.prod, {node.shape for node in call.nodes}), default=1)
    step = max(1, (1 << 22) // max(largest, 1))  # 32 MB of float64 in one array

    def stacked(k: int, units: Array) -> list[Any]:
        """Carry unit vectors of side k, and zeros of the others."""

        def carried(unit: Any) -> list[Any]:
            return carry([unit if i == k else None for i in range(len(sides))])

        if not len(units):
            return [np.zeros((0, *out.shape), out.dtype) for out in carried(None)]
        if not call._recorded(()):
            try:
                return [
                    out.arrays
                    if isinstance(out, Batch)
                    else np.broadcast_to(out, (len(units), *out.shape))
                    for out in carried(Batch(units))
                ]
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
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Return the product of the Hessian of `f` at `primals` with `tangents`, without the Hessian.

    `f` returns one element. Primals and tangents are tuples, one item for each argument; so is the
    product, unless there is one argument only.

    >>> f = lambda x: x[0] ** 2 * x[1]
    >>> tg.hvp(f, (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    array([4., 2.])
    """
    _require_tuples("hvp", primals, tangents)
    everything = tuple(range(len(primals)))
    # The Hessian is symmetric: pulling back the gradient is cheaper than pushing it forward.
    call = _Linearized(
        "hvp", lambda *given: _gradient(f, everything, False, given, {})[1], tuple(primals)
    )
    product = call.of_primals(call.pull(call.tangents(tuple(tangents))))
    return product if len(primals) > 1 else product[0]


def _require_function(name: str, f: Any, argnums: Any) -> None:
    """Raise a TypeError for what is no function, or an argument of it in place of a position."""
    positions = argnums if isinstance(argnums, (tuple, list)) else (argnums,)
    integers = all(isinstance(i, (int, np.integer)) and type(i) is not bool for i in positions)
    if not (callable(f) and integers):
        raise TypeError(
            f"{name}: takes a function, and the positions of arguments, and returns a function: "
            f"write {name}(f)(x)"
        )


def _require_tuples(name: str, primals: Any, tangents: Any) -> None:
    for kind, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(
                f"{name}: {kind} must be a tuple of the function's arguments, such as (x,), not a "
                f"{type(given).__name__}"
            )


def _choose(name: str, argnums: int | Sequence[int], args: tuple[Any, ...]) -> Any:
    """The argument `argnums`, or a tuple of those."""
    alone = isinstance(argnums, (int, np.integer))
    positions: Any = (argnums,) if alone else argnums
    count = len(args)
    if len({i % count for i in positions if -count <= i < count}) < len(positions):
        raise ValueError(
            f"{name}: argnums {argnums} must name different ones of the {count} positional "
            "arguments"
        )
    return args[positions[0]] if alone else tuple([args[i] for i in positions])


def _replaced(args: tuple[Any, ...], argnums: int | Sequence[int], chosen: Any) -> list[Any]:
    """The arguments, with others in place of those at `argnums`."""
    replaced = [*args]
    if isinstance(argnums, (int, np.integer)):
        replaced[argnums] = chosen
    else:
        for i, a in zip(argnums, chosen):
            replaced[i] = a
    return replaced


def ravel(params: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the elements of nested arrays as one vector, and the function that undoes this.

    Both ways carry gradients. Of a module, these are its parameters; undoing it gives a copy.

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
