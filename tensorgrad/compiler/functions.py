"""The functions that programs call besides NumPy's."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..engine.registry import shown_as
from ..engine.typing import Array, Function
from .ir import Call, Value


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


def array_of(number: Any, dtype: Any) -> Array:
    """A number as an array without axes."""
    return np.array(number, dtype)


class MakesNew:
    """A function that returns a tuple of new arrays, always of the same shapes."""


class Kernel:
    """A function that does the work of several `calls`, and writes all results into arrays."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls

    @property
    def spans(self) -> Sequence[Span]:
        """What it uses of memory, if it is code that addresses memory itself."""
        return ()


def made_by(calls: Iterable[Call]) -> list[Call]:
    """The calls, those of kernels one by one."""
    return [
        inner
        for call in calls
        for inner in (call.fun.calls if isinstance(call.fun, Kernel) else [call])
    ]


class Span(NamedTuple):
    """Bytes of a value's storage, from the first one to the one after the last."""

    value: Value
    start: int
    stop: int
