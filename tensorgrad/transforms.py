"""Transforms: they take a function and return one that computes derivatives, to any order.

Arguments and results of the functions are arrays, tensors and numbers, or trees of them, such as
lists, tuples, dicts, modules and registered classes. Derivatives have the structure of the
arguments. They are plain arrays; or tensors, where an argument is a tensor, or where the function
used tracked tensors from outside: then they can be differentiated further.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn, ParamSpec, TypeAlias, overload

import numpy as np

from .engine.arrays import as_array
from .engine.batching import Level, NotBatchedError
from .engine.graph import now
from .engine.tensor import Tensor
from .engine.typing import Array, Function
from .guide import guided
from .linearization import Linearized, Selection
from .tree import flatten, leaves, map as tree_map, require_arrays

Direction = Literal["reverse", "forward"]
P = ParamSpec("P")
Names: TypeAlias = str | Sequence[str]

# -- the transforms


def vjp(
    f: Function, *primals: Any, has_aux: bool = False
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return `f(*primals)`, and the function that pulls a cotangent of it back to the primals.

    The primals are floating or complex. The pullback takes a cotangent with the structure and the
    shapes of the output, and returns a tuple with a cotangent for each primal. It may be called any
    number of times. With `has_aux`, `f` returns `(output, aux)`, and aux is the third result.

    Cotangents of complex numbers are directions of steepest ascent, as in PyTorch: where `f` has
    the complex derivative d, the pullback returns `conj(d) * cotangent`.

    >>> y, pullback = tg.vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> y
    array([1., 4.])
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    call = Linearized("vjp", f, primals, has_aux=has_aux)
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
    >>> tg.jvp(np.conjugate, (1 + 2j,), (1j,))[1]
    array(0.-1.j)
    """
    _require_tuples("jvp", primals, tangents)
    call = Linearized("jvp", f, tuple(primals))
    return call.y, call.of_results(call.push(call.tangents(tuple(tangents))))


def linearize(f: Function, *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """Return `f(*primals)`, and the function that carries tangents of the primals forward.

    It takes a tangent for each primal, and may be called any number of times: `f` is not called
    again. `jvp` computes the same once.

    >>> y, pushforward = tg.linearize(np.sin, np.array([0.0, np.pi]))
    >>> pushforward(np.array([1.0, 1.0])), pushforward(np.array([0.0, 2.0]))
    (array([ 1., -1.]), array([ 0., -2.]))
    """
    call = Linearized("linearize", f, primals)
    leaves = call.leaves()

    def pushforward(*tangents: Any) -> Any:
        call.check(leaves)
        return call.of_results(call.push(call.tangents(tangents)))

    return call.y, pushforward


def stop_gradient(tree: Any) -> Any:
    """Return the same values, through which no gradient passes: tensors are detached.

    Arrays and numbers in the tree stay as they are.

    >>> tg.grad(lambda x: x * tg.stop_gradient(x))(3.0)
    array(3.)
    """
    return tree_map(lambda a: a.detach() if isinstance(a, Tensor) else a, tree)


@guided
def value_and_grad(
    f: Callable[P, Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    argnames: Names | None = None,
    holomorphic: bool = False,
) -> Callable[P, tuple[Any, Any]]:
    """Return a function that computes both `f` and its gradient: `(value, gradient)`.

    `f` returns one element; with `has_aux`, it returns `(value, aux)`, and the result is
    `((value, aux), gradient)`. `argnums` is the position of the argument to differentiate by; for
    a tuple of positions, the gradient is a tuple. `argnames` is a name, or a tuple of names.
    `holomorphic` is that of `grad`.

    >>> tg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    >>> loss = lambda p, x: np.mean((p["w"] * x + p["b"]) ** 2)
    >>> tg.value_and_grad(loss)({"w": 2.0, "b": 1.0}, np.array([0.0, 1.0]))
    (array(5.), {'w': array(3.), 'b': array(4.)})
    """

    by = _selection("value_and_grad", f, argnums, argnames)

    @functools.wraps(f)
    def with_gradient(*args: P.args, **kwargs: P.kwargs) -> tuple[Any, Any]:
        call, gradients = _gradient("value_and_grad", f, by, args, kwargs, has_aux, holomorphic)
        return ((call.y, call.aux) if has_aux else call.y), gradients

    return with_gradient


def _gradient(
    name: str,
    f: Function,
    by: Selection,
    args: tuple[Any, ...],
    kwargs: Any,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> tuple[Linearized, Any]:
    call = Linearized(name, f, args, kwargs, by, has_aux, holomorphic)
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
    f: Callable[P, Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    argnames: Names | None = None,
    holomorphic: bool = False,
) -> Callable[P, Any]:
    """Return the function that computes the gradient of `f`, which returns one element.

    `argnums` is the position of the argument to differentiate by; for a tuple of positions, the
    gradient is a tuple. `argnames` is its name instead, or a tuple of names: so it may be passed by
    keyword. The gradient is zero where `f` does not depend on an argument. With `has_aux`, `f`
    returns `(value, aux)`, and the result is `(gradient, aux)`.

    By a complex argument z, the gradient of a real `f` is the direction of steepest ascent, as in
    PyTorch: the derivative by `z.real` plus 1j times that by `z.imag`. With `holomorphic`, `f` has
    complex arguments and a complex result, and is analytic; the result is its complex derivative.

    >>> cube = lambda x: x**3
    >>> tg.grad(cube)(2.0), tg.grad(tg.grad(cube))(2.0)
    (array(12.), array(12.))
    >>> tg.grad(lambda x, power: x**power, argnames="x")(power=3, x=2.0)
    array(12.)
    >>> tg.grad(lambda z: np.abs(z) ** 2)(3 + 4j), tg.grad(np.square, holomorphic=True)(3 + 4j)
    (array(6.+8.j), array(6.+8.j))
    """

    by = _selection("grad", f, argnums, argnames)

    @functools.wraps(f)
    def gradient(*args: P.args, **kwargs: P.kwargs) -> Any:
        call, gradients = _gradient("grad", f, by, args, kwargs, has_aux, holomorphic)
        return (gradients, call.aux) if has_aux else gradients

    return gradient


@overload
def elementwise_grad(
    f: np.ufunc, argnums: int | Sequence[int] = 0, argnames: Names | None = None
) -> Function: ...
@overload
def elementwise_grad(
    f: Callable[P, Any], argnums: int | Sequence[int] = 0, argnames: Names | None = None
) -> Callable[P, Any]: ...
def elementwise_grad(
    f: Function, argnums: int | Sequence[int] = 0, argnames: Names | None = None
) -> Function:
    """Return the function that computes the derivative of an element-wise function.

    For an `f` that works element by element, it is the gradient of the sum of the output.

    >>> tg.elementwise_grad(np.sin)(np.array([0.0, np.pi]))
    array([ 1., -1.])
    """

    by = _selection("elementwise_grad", f, argnums, argnames)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return Linearized("elementwise_grad", f, args, kwargs, by).gradient()

    return gradient


@overload
def jacobian(
    f: np.ufunc,
    argnums: int | Sequence[int] = 0,
    mode: Direction | None = None,
    argnames: Names | None = None,
    holomorphic: bool = False,
) -> Function: ...
@overload
def jacobian(
    f: Callable[P, Any],
    argnums: int | Sequence[int] = 0,
    mode: Direction | None = None,
    argnames: Names | None = None,
) -> Callable[P, Any]: ...
def jacobian(
    f: Function,
    argnums: int | Sequence[int] = 0,
    mode: Direction | None = None,
    argnames: Names | None = None,
    holomorphic: bool = False,
) -> Function:
    """Return the function that computes the Jacobian of `f`.

    These are the derivatives of each output element by each input element. For an output of shape
    `s` and an argument of shape `t`, the Jacobian has shape `s + t`. For trees, it is a tree with
    the structure of the output, in which each leaf is a tree with the structure of the argument.
    The mode is "reverse" (rows are carried backward) or "forward" (columns are carried forward); by
    default, the one with fewer rows or columns. Many are carried at once.

    By complex arguments, the rows of a real `f` are the gradients of its elements (see `grad`), in
    reverse mode alone. A complex `f` of complex arguments has a Jacobian of complex numbers only
    where it is analytic: pass `holomorphic=True`. Else, take the Jacobian of its real and imaginary
    part by those of the arguments. A complex `f` of real arguments is carried forward.

    >>> tg.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    by = _selection("jacobian", f, argnums, argnames)
    if mode not in (None, "reverse", "forward"):
        raise ValueError(f'jacobian: mode must be "reverse" or "forward", not {mode!r}')
    return _jacobian("jacobian", f, by, mode, holomorphic)


def jacfwd(
    f: Function,
    argnums: int | Sequence[int] = 0,
    argnames: Names | None = None,
    holomorphic: bool = False,
) -> Function:
    """Return the `jacobian` of `f` with columns carried forward: for few inputs, as in JAX.

    >>> tg.jacfwd(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return _jacobian(
        "jacfwd", f, _selection("jacfwd", f, argnums, argnames), "forward", holomorphic
    )


def jacrev(
    f: Function,
    argnums: int | Sequence[int] = 0,
    argnames: Names | None = None,
    holomorphic: bool = False,
) -> Function:
    """Return the `jacobian` of `f` with rows carried backward: for few outputs, as in JAX.

    >>> tg.jacrev(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return _jacobian(
        "jacrev", f, _selection("jacrev", f, argnums, argnames), "reverse", holomorphic
    )


def _jacobian(
    name: str,
    f: Function,
    by: Selection,
    mode: Direction | None = None,
    holomorphic: bool = False,
) -> Function:
    @functools.wraps(f)
    def matrix(*args: Any, **kwargs: Any) -> Any:
        call = Linearized(name, f, args, kwargs, by, holomorphic=holomorphic)
        if _direction(call, mode) == "reverse":
            by_rows = _all_units(call, call.pull, call.results)
            if holomorphic:
                by_rows = [[*map(np.conjugate, carried)] for carried in by_rows]
            blocks = [
                [
                    block.reshape(y.shape + x.shape)
                    for x, block in zip(call.ends, carried, strict=True)
                ]
                for y, carried in zip(call.results, by_rows, strict=True)
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


def _direction(call: Linearized, mode: Direction | None) -> Direction:
    """The mode that a Jacobian is computed in; raise if it does not exist in this mode, or at all.

    The derivative of a complex number by another one is four real numbers. Two of them are one
    complex number if it is analytic, or if one of the two is real: then, in one mode.
    """
    rows, columns = (sum(a.size for a in side) for side in (call.results, call.ends))
    quicker: Direction = "reverse" if rows <= columns else "forward"
    if call.holomorphic:
        return mode or quicker
    complex_output, complex_input = (
        any(a.dtype.kind == "c" for a in side) for side in (call.results, call.ends)
    )
    if complex_output and complex_input:
        raise TypeError(
            f"{call.name}: a complex output of complex arguments has a Jacobian of complex numbers "
            "where it is analytic: then pass holomorphic=True; else return numpy.real and "
            "numpy.imag of it, or use tensorgrad.jvp"
        )
    if complex_output and mode == "reverse":
        raise TypeError(
            f"{call.name}: a cotangent carries the real part of a complex output's derivative: "
            'use jacobian with mode="forward", or return numpy.real and numpy.imag'
        )
    if complex_input and mode == "forward":
        raise TypeError(
            f"{call.name}: a tangent is a change of one part of a complex argument: use jacobian "
            'with mode="reverse", or pass holomorphic=True if the function is analytic'
        )
    if complex_output or complex_input:
        return "forward" if complex_output else "reverse"
    return mode or quicker


def _all_units(
    call: Linearized, carry: Callable[[Sequence[Any]], list[Any]], sides: Sequence[Any]
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
        if not call.is_recorded(()):
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


def hessian(
    f: Callable[P, Any], argnums: int | Sequence[int] = 0, argnames: Names | None = None
) -> Callable[P, Any]:
    """Return the function that computes the second derivatives of `f`, which returns one element.

    For an argument of shape `s` they have shape `s + s`.

    >>> tg.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    by = _selection("hessian", f, argnums, argnames)

    @functools.wraps(f)
    def gradient(*args: P.args, **kwargs: P.kwargs) -> Any:
        found = _gradient("hessian", f, by, args, kwargs)[1]
        if any(g.dtype.kind == "c" for g in leaves(found)):
            raise TypeError(
                "hessian: only real arguments have a Hessian: take it by the real and the "
                "imaginary part, or use tensorgrad.hvp"
            )
        return found

    return _jacobian("hessian", gradient, by)


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
    call = Linearized(
        "hvp", lambda *args: _gradient("hvp", f, everything, args, {})[1], tuple(primals)
    )
    product = call.of_primals(call.pull(call.tangents(tuple(tangents))))
    return product if len(primals) > 1 else product[0]


def _selection(name: str, f: Any, argnums: Any, argnames: Any) -> Selection:
    """The positions or names of the arguments to differentiate by."""
    if not callable(f):
        _refuse(name)
    if argnames is None:
        positions = argnums if isinstance(argnums, (tuple, list)) else (argnums,)
        if any(not isinstance(i, (int, np.integer)) or type(i) is bool for i in positions):
            _refuse(name)
        return argnums
    names = argnames if isinstance(argnames, (tuple, list)) else (argnames,)
    if argnums != 0 or not all(isinstance(key, str) for key in names):
        raise TypeError(
            f"{name}: argnames={argnames!r} must be a name of an argument, or a tuple of names, in "
            "place of argnums"
        )
    return argnames


def _refuse(name: str) -> NoReturn:
    raise TypeError(
        f"{name}: takes a function and argnums, the positions of arguments, such as 0 or (0, 1), "
        f"and returns a function: write {name}(f)(x)"
    )


def _require_tuples(name: str, primals: Any, tangents: Any) -> None:
    for kind, values in (("primals", primals), ("tangents", tangents)):
        if not isinstance(values, (tuple, list)):
            raise TypeError(
                f"{name}: {kind} must be a tuple of the function's arguments, such as (x,), not a "
                f"{type(values).__name__}"
            )


def ravel(params: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the elements of a tree of arrays as one vector, and the function that undoes this.

    Both directions carry gradients. If an array is complex, so is the vector; real arrays take its
    real parts. Of a module, the vector holds the parameters; the function
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
        parts = (vector[stop - size : stop] for size, stop in zip(sizes, stops, strict=True))
        return structure.unflatten(
            (part if a.dtype.kind == "c" else np.real(part)).reshape(a.shape).astype(a.dtype)
            for a, part in zip(arrays, parts, strict=True)
        )

    return flat, unravel
