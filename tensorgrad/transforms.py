"""Derivatives of functions, as functions: they nest to any order and mix with `backward()`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .graph import RULES, Function, Node, ancestors, enable_grad, mode, propagate, rule
from .tensor import Tensor, apply, asarray, revive, tensor_of


def _alias(x: Any) -> Any:
    return x


rule(_alias, lambda g, _y, _x: g)


def _fresh(primal: Any) -> Tensor:
    """A tensor of the primal's value with a node of its own, by which nested transforms tell it."""
    x = asarray(primal)
    if x.dtype.kind != "f":
        raise TypeError(
            f"only real floating arguments have derivatives, not {x.dtype}: "
            "convert to numpy.float64"
        )
    if x.requires_grad and mode.get().recording:
        return apply(_alias, (x,))
    return tensor_of(x.data, Node(x.shape, x.dtype, RULES[_alias], (None,), (None,)))


def _ways(root: Node, ends: Sequence[Node]) -> tuple[list[Node], bool]:
    """The nodes on the ways from `root` to `ends`, newest first; and does anything else join in?

    What else could join are tracked tensors that the differentiated function took from outside, or
    the ends' own past.
    """
    since = ends[0].serial
    nodes = ancestors(root, since)
    on_the_way = set(ends)
    others = False
    for node in reversed(nodes):
        parents = node.parents or ()
        if not on_the_way.isdisjoint(parents):
            on_the_way.add(node)
        others = (
            others
            or (node.rule is None and node not in on_the_way)
            or any(parent is not None and parent.serial < since for parent in parents)
        )
    return [node for node in nodes if node in on_the_way], others


def vjp(f: Function, *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return `f(*primals)`, and the pullback of its cotangent to the cotangents of the primals.

    The primals are real floating arrays, tensors or numbers; `f` returns one array. The pullback
    takes a cotangent of the output's shape, and may be called any number of times. Results are
    arrays; or tensors, where a primal is one, or where `f` used tracked tensors from outside: then
    they can be differentiated further.

    >>> y, pullback = tg.vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> y
    array([1., 4.])
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    recording = mode.get().recording
    inputs = [_fresh(primal) for primal in primals]
    ends = [x._node for x in inputs if x._node is not None]
    with enable_grad():
        y = asarray(f(*inputs))
    root = y._node
    nodes, others = _ways(root, ends) if root is not None and ends else ([], False)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        g = asarray(cotangent)
        if g.dtype != y.dtype:
            g = g.astype(y.dtype)
        if g.shape != y.shape:
            raise ValueError(f"pullback: cotangent of shape {g.shape}, output of shape {y.shape}")
        found: dict[Node, Any] = {}
        if root is not None and root in nodes:
            ancestors(root, ends[0].serial)  # raises if the data of a leaf was changed since
            if mode.get().recording and (others or g.requires_grad):
                found = propagate(nodes, {root: g}, ends, operands=revive)
            else:
                found = propagate(nodes, {root: g.data.copy()}, ends)
        results = [found.get(end) for end in ends]
        return tuple(
            _as(
                type(primal) is Tensor, np.zeros(end.shape, end.dtype) if result is None else result
            )
            for primal, end, result in zip(primals, ends, results, strict=True)
        )

    if others and recording:
        return y, pullback
    return _as(Tensor in map(type, primals), y.data), pullback


def _as(tensor: bool, result: Any) -> Any:
    return tensor_of(result, None) if tensor and not isinstance(result, Tensor) else result


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return a function that computes both `f` and its gradient: `(value, gradient)`.

    `f` returns one element. The gradient is that of the positional argument `argnums`, or a tuple
    of those of several. See `vjp` for what arguments and results may be.

    >>> tg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    """
    positions = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)

    @functools.wraps(f)
    def with_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        def of_some(*chosen: Any) -> Any:
            replaced = list(args)
            for i, a in zip(positions, chosen, strict=True):
                replaced[i] = a
            return f(*replaced, **kwargs)

        count = len(args)
        if len({i % count for i in positions if -count <= i < count}) < len(positions):
            raise ValueError(
                f"grad: argnums {argnums} must name distinct ones of the {count} arguments given "
                "by position"
            )
        value, pullback = vjp(of_some, *(args[i] for i in positions))
        if value.size != 1:
            raise ValueError(f"grad: the function must return one element, not shape {value.shape}")
        if value.dtype.kind != "f":
            raise TypeError(f"grad: the function must return a real float, not {value.dtype}")
        gradients = pullback(np.ones(value.shape, value.dtype))
        return value, gradients if isinstance(argnums, Sequence) else gradients[0]

    return with_gradient


def grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return the function that computes the gradient of `f`, which returns one element.

    The gradient is that of the positional argument `argnums`, or a tuple of those of several; zeros
    where `f` does not depend on one. It can be differentiated again.

    >>> cube = lambda x: x**3
    >>> tg.grad(cube)(2.0), tg.grad(tg.grad(cube))(2.0)
    (array(12.), array(12.))
    """
    both = value_and_grad(f, argnums)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient
