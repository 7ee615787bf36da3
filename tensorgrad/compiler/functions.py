"""What the compiler knows of functions: NumPy's, by what they do, and those that it calls itself.

A function of NumPy's that has no place in a table is called as it is, which is right, but slower.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from ..engine.primitives import alias
from ..engine.registry import shown_as
from ..engine.typing import Array, Function

# -- while tracing: what a traced array does when one of these is called

# What of an array is known without its elements, and functions that ask for no more.
FACTS = frozenset({
    np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.iscomplexobj, np.isrealobj,
    np.common_type, np.may_share_memory, np.shares_memory,
})  # fmt: skip
# The shape of their results depends on the elements of so many first arguments.
SHAPED_BY_ELEMENTS = dict.fromkeys([
    np.nonzero, np.argwhere, np.flatnonzero, np.unique, np.unique_all, np.unique_counts,
    np.unique_inverse, np.unique_values, np.compress, np.extract, np.trim_zeros, np.bincount,
    np.roots, np.poly1d,
], 1) | dict.fromkeys([np.union1d, np.intersect1d, np.setdiff1d, np.setxor1d], 2)  # fmt: skip
TEXTS = frozenset({np.array_repr, np.array_str, np.array2string})
# What changes its first argument, and what does so among the methods of an array.
WRITERS = frozenset({
    np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis,
})  # fmt: skip
WRITING_METHODS = frozenset({"fill", "sort", "partition", "put"})
# They call the method of that name, which for a number returns a number, not a view.
BY_METHOD = frozenset({np.squeeze, np.transpose, np.real, np.imag})
# They return views that always stay read-only.
READ_ONLY = frozenset({
    np.diagonal, np.ndarray.diagonal, np.linalg.diagonal, np.diag, np.broadcast_to,
    sliding_window_view,
})  # fmt: skip
# Methods that need the elements, and what no traced array has.
READING_METHODS = frozenset({
    "item", "tolist", "tobytes", "tofile", "dump", "dumps", "nonzero", "argwhere",
})  # fmt: skip
REFUSED = frozenset({"flat", "resize", "setflags", "setfield", "byteswap", "data", "ctypes"})

# -- while rewriting and spelling

# What depends on the shape and the dtype of an array, not on its elements.
LIKE = frozenset({np.zeros_like, np.ones_like, np.full_like})
# What returns the elements of its argument as they are, or in another dtype.
COPIES = frozenset({
    np.copy, np.ndarray.copy, np.ndarray.astype, np.astype, np.positive, alias,
    np.ascontiguousarray,
})  # fmt: skip
PRODUCTS = frozenset({np.matmul, np.dot, np.ndarray.dot, np.inner})
RESHAPES = frozenset({
    np.reshape, np.ndarray.reshape, np.ravel, np.ndarray.ravel, np.ndarray.flatten,
})  # fmt: skip
JOINS = frozenset({np.concatenate, np.stack})
# What writes its result into `out` as it goes.
WITH_OUT = frozenset({
    np.concatenate, np.stack, np.einsum, np.clip, np.cumsum, np.cumprod, np.sum, np.prod, np.mean,
    np.max, np.min, np.any, np.all, np.argmax, np.argmin, np.var, np.std, np.trace, np.outer,
    np.round, np.ndarray.sum, np.ndarray.mean, np.ndarray.max, np.ndarray.min, np.ndarray.any,
    np.ndarray.all, np.ndarray.cumsum, np.ndarray.prod, np.ndarray.clip,
})  # fmt: skip


def getitem(array: Any, index: Any) -> Any:
    """`array[index]`."""
    return array[index]


@shown_as("setitem")
def assign_at(array: Any, index: Any, value: Any) -> None:
    """`array[index] = value`."""
    array[index] = value


def spread(array: Array, shape: tuple[int, ...]) -> Array:
    """The array, repeated along axes up to a shape."""
    return np.broadcast_to(array, shape).copy()


def part(array: Array, start: int, shape: tuple[int, ...], order: Any = "C") -> Array:
    """The array of that shape that starts at an element of a vector."""
    return array[start : start + math.prod(shape)].reshape(shape, order=order)


def with_ones(array: Array) -> Array:
    """A matrix with the column that follows it in memory, of ones."""
    (rows, columns), (down, right) = array.shape, array.strides
    if array.flags.f_contiguous:  # of a single column, the stride could be anything
        right = rows * array.itemsize
    return as_strided(array, (rows, columns + 1), (down, right))


class Attribute:
    """The function that takes an attribute of an array."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, array: Any) -> Any:
        """`array.name`."""
        return getattr(array, self.__name__)


@functools.cache
def attribute(name: str) -> Function:
    """The same function for the same name, so that two calls of it are seen to be alike."""
    return Attribute(name)


def power(x: Any, y: Any) -> float:
    """`x ** y` by C's `pow`, as Python has it; NumPy's own differs in the last digit."""
    result: float = float(x) ** float(y)
    return result


# What is done with numbers: arrays of float64 without axes, which a program may keep as Python's
# floats between these calls. Unlike NumPy's functions, they do not heed `errstate`.
ON_NUMBERS = frozenset({
    operator.add, operator.sub, operator.mul, operator.truediv, operator.gt, power, math.sqrt,
})  # fmt: skip


def array_of(number: Any, dtype: Any) -> Array:
    """A number as an array without axes."""
    return np.array(number, dtype)


# What is called as it is, and returns a shape that follows from those of its arguments.
FIXED_SHAPE = frozenset({
    getitem, np.ndarray.reshape, np.reshape, np.ndarray.transpose, np.transpose, np.ndarray.view,
    np.ndarray.swapaxes, np.swapaxes, np.moveaxis, np.expand_dims, np.squeeze, np.ndarray.squeeze,
    np.ndarray.astype, np.astype, np.ndarray.copy, np.copy, np.ravel, np.ndarray.ravel,
    np.ndarray.take, np.take, np.take_along_axis, np.broadcast_to, np.concatenate, np.stack,
}) | ON_NUMBERS  # fmt: skip
# They always return a view, or always a new array, regardless of their arguments' strides.
REGARDLESS = PRODUCTS | LIKE | JOINS | {
    getitem, np.where, np.take, np.ndarray.take, np.take_along_axis, np.cumsum, np.copy,
    np.ndarray.copy, np.ndarray.astype, np.astype, np.broadcast_to, np.expand_dims, np.squeeze,
    np.ndarray.squeeze, np.transpose, np.ndarray.transpose, np.matrix_transpose, np.swapaxes,
    np.ndarray.swapaxes, np.moveaxis, attribute("T"), attribute("mT"), attribute("real"),
    attribute("imag"),
}  # fmt: skip


class MakesNew:
    """A function that returns a tuple of new arrays, always of the same shapes."""
