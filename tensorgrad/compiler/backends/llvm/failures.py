"""The checks of native functions, and the errors that they raise."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....engine.typing import Array
from ...ir import Value
from .kernels import Check


class Failures:
    """The checks of functions, by numbers from 1 on.

    A function whose check fails writes the number to `last`. `address_of` finds the values that
    stay where they are.
    """

    def __init__(self, address_of: Callable[[Value], int]) -> None:
        self.last = np.zeros(1, np.int64)
        self._address_of = address_of
        self._checks: list[Check] = []

    def number_of(self, check: Check) -> int:
        """The number that a check gets."""
        self._checks.append(check)
        return len(self._checks)

    def raise_last(self, arguments: Sequence[Value], arrays: Sequence[Array]) -> None:
        """Raise the error of the check that has failed, if one has; for arrays as arguments."""
        number, self.last[0] = int(self.last[0]), 0
        if not number:
            return
        given = {v.storage: (v, laid_out(a, v)) for v, a in zip(arguments, arrays, strict=True)}

        def elements(v: Value) -> Array:
            if v.storage not in given:
                return _elements_at(self._address_of(v), v)
            argument, array = given[v.storage]
            return _elements_at(address_of(array) + v.offset - argument.offset, v)

        check = self._checks[number - 1]
        check.requirement(*map(elements, check.pointers))


def _elements_at(address: int, v: Value) -> Array:
    """A copy of a value whose first element has an address."""
    low, high = v.bounds
    memory: Any = (ctypes.c_char * (high - low)).from_address(address + low - v.offset)
    return np.ndarray(v.shape, v.dtype, memory, v.offset - low, v.strides).copy()


def address_of(array: Array) -> int:
    """The address of an array's first element."""
    return int(array.ctypes.data)


def is_like(thing: object, v: Value) -> bool:
    """Whether an object is an array of a value's shape and dtype."""
    return type(thing) is np.ndarray and thing.shape == v.shape and thing.dtype == v.dtype


def laid_out(array: Array, v: Value) -> Array:
    """The array, or a copy that lies in memory as a value does."""
    return rows_laid_out(array[np.newaxis], v)[0, ...]


def copied(array: Array, v: Value) -> Array:
    """A copy of an array that lies in memory as a value does."""
    return _rows_copied(array[np.newaxis], v)[0, ...]


def rows_laid_out(array: Array, v: Value) -> Array:
    """An array each of whose rows lies in memory as a value does: the array itself, or a copy."""
    pairs = zip(v.shape, array.strides[1:], v.strides, strict=True)
    if all(a == b for n, a, b in pairs if n > 1) and array.flags.aligned:
        return array
    return _rows_copied(array, v)


def _rows_copied(array: Array, v: Value) -> Array:
    low, high = v.bounds
    size = high - low + -(high - low) % v.itemsize
    memory = np.empty(len(array) * size, np.uint8)
    strides = (size, *v.strides)
    copy: Array = np.ndarray(array.shape, v.dtype, memory, v.offset - low, strides)
    copy[...] = array
    return copy
