"""Layouts: which part of memory an array covers.

NumPy decides which results are views, and of which part of the memory. A write gives each affected
tensor new memory with the same layout (see `mutation`). So the layouts of all views of one array
can be compared at any time.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .batching import Batch, levels_of, without_levels
from .typing import Array


def owner_of(array: Array) -> Array:
    """Return the array that owns the memory of an array."""
    base: Any = array.base
    while base is not None:
        if isinstance(base, np.ndarray):
            array = base
        elif not hasattr(base, "base"):  # as_strided has another object in between
            break
        base = base.base
    return array


def concrete(array: Any) -> Array:
    """Return the array itself; for a traced one, the array that it stood for while tracing.

    For a batch, it is the first sample.
    """
    if type(array) is Batch:
        whole = concrete(without_levels(array))
        return whole[(0,) * (whole.ndim - array.ndim)] if whole.size else np.empty(array.shape)
    return array if type(array) is np.ndarray else getattr(array, "concrete", array)


_WRITEABLE = 0x0400  # NPY_ARRAY_WRITEABLE of NumPy's C API


def is_writeable(array: Array) -> bool:
    """Return whether NumPy lets an array be written to.

    Of a result of `np.broadcast_arrays`, to read `flags.writeable` is a warning.
    """
    return bool(array.flags.num & _WRITEABLE)


class Layout(NamedTuple):
    """The position of an array in memory of `nbytes` bytes; `start` is that of its first element.

    If it is not `writeable`, NumPy made it a read-only view.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int
    nbytes: int
    writeable: bool

    def meets(self, other: Layout) -> bool:
        """Return whether the elements of two arrays may overlap."""
        (a, b), (c, d) = _reach(self), _reach(other)
        return a < d and c < b and 0 not in self.shape and 0 not in other.shape

    def covers(self, other: Layout) -> bool:
        """Return whether this array's first to last byte include all elements of another array."""
        (a, b), (c, d) = _reach(self), _reach(other)
        return a <= c and d <= b

    def of_sample(self) -> Layout:
        """Return the layout of the first of many samples, in a memory of its own if it has one."""
        count, stride = self.shape[0], self.strides[0]
        nbytes = stride if stride * count == self.nbytes else self.nbytes
        return self._replace(shape=self.shape[1:], strides=self.strides[1:], nbytes=nbytes)

    def of_samples(self, array: Any) -> Layout:
        """Return the layout of all samples of a batch, one after the other, if each has this."""
        layout = self
        for level in levels_of(array):
            shape, strides = (level.count, *layout.shape), (layout.nbytes, *layout.strides)
            nbytes = level.count * layout.nbytes
            layout = layout._replace(shape=shape, strides=strides, nbytes=nbytes)
        return layout

    @property
    def repeats(self) -> bool:
        """Whether two elements may share memory, as in a broadcast array."""
        return 0 not in self.shape and _repeats(self.shape, self.strides, self.dtype.itemsize)

    @property
    def is_whole(self) -> bool:
        """Whether the elements fill the memory."""
        return math.prod(self.shape) * self.dtype.itemsize == self.nbytes and not self.repeats

    def as_integers(self) -> Layout:
        """Return the same layout for 64-bit integers instead of elements."""
        size, kind = self.dtype.itemsize, np.dtype(np.int64)
        start, nbytes, *strides = (
            n * kind.itemsize // size for n in (self.start, self.nbytes, *self.strides)
        )
        return Layout(self.shape, tuple(strides), kind, start, nbytes, self.writeable)


def _reach(layout: Layout) -> tuple[int, int]:
    """Return the first byte of the elements, and the byte after the last one."""
    low, high = layout.start, layout.start + layout.dtype.itemsize
    for n, stride in zip(layout.shape, layout.strides):
        if stride < 0:
            low += (n - 1) * stride
        else:
            high += (n - 1) * stride
    return low, high


@lru_cache(maxsize=1024)
def _repeats(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> bool:
    for stride, n in sorted(zip(map(abs, strides), shape)):
        if n > 1:
            if stride < size:
                return True
            size += (n - 1) * stride
    return False


def layout_of(array: Any) -> Layout:
    """Return the layout of an array in its own memory, or in that of the array it is a view of.

    For a batch, it is that of the first sample.
    """
    if type(array) is Batch:
        layout = layout_of(without_levels(array))
        for _ in levels_of(array):
            layout = layout.of_sample()
        return layout
    array = concrete(array)
    shape, strides, dtype = array.shape, array.strides, array.dtype
    if array.base is None:
        return Layout(shape, strides, dtype, 0, array.nbytes, True)
    owner = owner_of(array)
    first, nbytes = _address(owner), owner.nbytes
    if not owner.flags.owndata:  # what owns the memory is not an array
        first, end = byte_bounds(owner)
        nbytes = end - first
    # `guard` makes the owner read-only for a time, and its views with it.
    writeable = is_writeable(array) or not is_writeable(owner)
    return Layout(shape, strides, dtype, _address(array) - first, nbytes, writeable)


def coincide(a: Array, b: Array) -> bool:
    """Return whether two arrays have the same layout, each in its own memory, and are writeable."""
    if (a.shape, a.strides, a.dtype) != (b.shape, b.strides, b.dtype):
        return False
    if a.base is b.base and is_writeable(a):
        return _address(a) == _address(b)
    layout = layout_of(a)
    return layout == layout_of(b) and layout.writeable and not layout.repeats


def _address(array: Array) -> int:
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


def view_in(memory: Array, layout: Layout) -> Array:
    """Return the array with this layout in memory."""
    is_read_only = not is_writeable(memory)
    if not memory.flags.c_contiguous:
        memory = np.asarray(_Bytes(memory))
    array: Array = np.ndarray(layout.shape, layout.dtype, memory, layout.start, layout.strides)
    if is_read_only:
        array.flags.writeable = False
    return array


class _Bytes:
    """The bytes of an array, which may be in any order, with gaps.

    They are writeable even while the array is not: else no view of them could become writeable
    again with the array. NumPy's protocol for such objects:
    https://numpy.org/doc/stable/reference/arrays.interface.html
    """

    def __init__(self, memory: Array) -> None:
        self.base = memory
        first, end = byte_bounds(memory)
        self.__array_interface__ = {
            "version": 3,
            "shape": (end - first,),
            "typestr": "|u1",
            "data": (first, False),
        }


def memory_with(array: Any, layout: Layout) -> Array:
    """Return new memory with the elements of an array in this layout, and zeros elsewhere."""
    memory = np.zeros(layout.nbytes, np.uint8)
    view_in(memory, layout)[...] = array
    return memory
