"""Reading and writing elements by index."""

import math
import operator
from typing import Any

import numpy as np

from ..graph import Function, rule
from ..tensor import assign, differentiable


@differentiable(lambda g, _y, _values, index, _shape: g[index])
def scatter(values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of the given shape, with `values` added at `index`, as often as it names an element."""
    out = np.zeros_like(values, shape=shape)
    if _names_elements_once(index):
        out[index] = values
    else:
        np.add.at(out, index, values)
    return out


def _names_elements_once(index: Any) -> bool:
    """Whether the index holds no array of integers, the only kind that could repeat itself."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(not isinstance(part, np.ndarray) or part.dtype.kind == "b" for part in parts)


def _last_written(g: Any, _y: Any, _x: Any, _value: Any, index: Any) -> Any:
    """The cotangent of the assigned values: of those that a repeated index overwrote, zero."""
    part = g[index]
    if _names_elements_once(index):
        return part
    numbers = np.arange(part.size).reshape(part.shape)
    written = np.empty(g.shape, numbers.dtype)
    written[index] = numbers
    return np.where(written[index] == numbers, part, 0)


rule(operator.getitem, lambda g, _y, _x, index: scatter(g, index, _x.shape))
rule(assign, lambda g, _y, _x, _value, index: assign(g, 0, index), _last_written)


# -- functions that only move elements


@differentiable(lambda g, _y, _values, places, _shape: gather(g, places))
def spread(values: Any, places: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of that shape, with each value added at its place: 1, 2, ... in C order, or 0, nowhere.

    >>> from tensorgrad.rules.indexing import spread
    >>> spread(np.array([5.0, 6.0, 7.0]), np.array([3, 0, 3]), (2, 2))
    array([[ 0.,  0.],
           [12.,  0.]])
    """
    size = math.prod(shape)

    def added(weights: Any) -> Any:
        return np.bincount(places.ravel(), weights.ravel(), size + 1)[1:]

    if values.dtype.kind == "c":
        out = added(values.real) + 1j * added(values.imag)
    else:
        out = added(values)
    return out.astype(values.dtype).reshape(shape)


@differentiable(lambda g, _y, _x, places: spread(g, places, _x.shape))
def gather(x: Any, places: Any) -> Any:
    """The elements of `x` at the given places: 1, 2, ... in C order, and zero for 0.

    >>> from tensorgrad.rules.indexing import gather
    >>> gather(np.array([[5.0, 6.0], [7.0, 8.0]]), np.array([3, 0, 3]))
    array([7., 0., 7.])
    """
    return np.concatenate([np.zeros(1, x.dtype), x.ravel()])[places]


def moves(*funs: Function, arity: int = 1) -> None:
    """Set the derivatives of functions whose results hold elements of their arrays, and zeros.

    The first `arity` arguments are the arrays. Where each element went is found by moving the
    numbers 1, 2, ... of their places instead.
    """

    def derivative(fun: Function, i: int) -> Function:
        def vjp(g: Any, _y: Any, *_args: Any, **kwargs: Any) -> Any:
            arrays, parameters = _args[:arity], _args[arity:]
            places = [
                np.arange(1, a.size + 1).reshape(a.shape) if i == j else np.zeros(np.shape(a), int)
                for j, a in enumerate(arrays)
            ]
            return spread(g, fun(*places, *parameters, **kwargs), arrays[i].shape)

        return vjp

    for fun in funs:
        rule(fun, *(derivative(fun, i) for i in range(arity)))
