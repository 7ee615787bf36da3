"""NumPy arrays: which are accepted, how new ones are made, how broadcasting is reversed."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import numpy as np

from .typing import Array, Axis, Function

_add: Function = np.add.reduce
_FLOATS = frozenset({np.float64, np.float32})  # what NumPy returns instead of 0-d arrays
ALIGNMENT = 64  # bytes; NumPy multiplies 8,192 aligned numbers in half of the time


def as_array(a: Any, name: str) -> Any:
    """Return an operand or a result as a numeric array, or raise a TypeError that names `name`."""
    if type(a) in _FLOATS:
        return np.asarray(a)
    if a is None:
        raise TypeError(f"{name}: None instead of an array")
    if not hasattr(a, "__array_function__"):
        a = np.asarray(a)
    elif type(a) is not np.ndarray:
        if isinstance(a, np.ma.MaskedArray):
            raise TypeError(f"{name}: masked arrays are not supported; use a.filled(value)")
        if isinstance(a, np.ndarray):
            a = np.asarray(a)
        elif hasattr(a, "as_array"):  # a traced one
            a = a.as_array()
    if a.dtype.kind not in "fciub":
        raise TypeError(
            f"{name}: arrays of dtype {a.dtype} are not supported; convert to a numeric dtype"
        )
    return a


def aligned(size: int, dtype: Any) -> Array:
    """Return a vector of zeros that starts at a cache line."""
    gap = ALIGNMENT // np.dtype(dtype).itemsize
    block: Array = np.zeros(size + gap, dtype)
    start = -block.ctypes.data % ALIGNMENT // block.itemsize
    return block[start : start + size]


def require_castable(dtype: np.dtype[Any], target: np.dtype[Any], what: str, of: str) -> None:
    """Raise if a cast would drop imaginary parts."""
    if dtype.kind == "c" and target.kind != "c":
        raise TypeError(
            f"{what} has dtype {dtype}, but {of} has dtype {target}: pass its numpy.real"
        )


def conjugated(g: Any) -> Any:
    """Turn a cotangent into a gradient, or back.

    A cotangent g of an array z carries no conjugate, so that rules read like mathematics: a change
    dz changes the loss by `real(sum(g * dz))`. Its conjugate is the direction of steepest ascent.
    """
    if g.dtype.kind != "c":
        return g
    return as_array(np.conjugate(g), "conjugate").astype(g.dtype, copy=False)  # in its byte order


def ones(shape: Any, dtype: Any) -> Array:
    """Return `np.ones`, in a third of its time."""
    array = np.empty(shape, dtype)
    array.fill(1)
    return array


def order_of(array: Array) -> Literal["C", "F"]:
    """Return the order of a contiguous array in memory: "F", column-major, or "C", row-major."""
    return "F" if array.flags.fnc else "C"


class Spec:
    """The shape and the dtype of an array that is not kept."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"shape {self.shape}, dtype {self.dtype}"


def spec_of(a: Any) -> Any:
    """Return the `Spec` of an array; anything else, as it is."""
    return Spec(a.shape, a.dtype) if hasattr(a, "shape") else a


@functools.cache
def working_dtype(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype to compute in: the common one, but float32 for float16.

    In float16, long sums lose their digits, and squares underflow.
    """
    return np.result_type(*dtypes, np.float32)


def sum_axes(a: Any, axes: Axis, keepdims: bool = False) -> Any:
    """Return the sum over axes, computed in the `working_dtype`."""
    dtype = working_dtype(a.dtype)
    needed = None if dtype == a.dtype else dtype
    return _add(a, axis=axes, dtype=needed, keepdims=keepdims)


# -- broadcasting, reversed


def unbroadcast(g: Any, like: Spec) -> Any:
    """Reverse broadcasting and casting: give a cotangent the shape and the dtype of `like`."""
    shape = like.shape
    if g.shape != shape:
        if g.ndim == 0:
            g = _expand(g, shape)
        elif g.ndim == 2 and g.shape[1:] == shape:
            g = _sum_rows(g)
        else:
            g = _sum_to_shape(g, shape)
    if g.dtype is not like.dtype:
        if g.dtype.kind == "c" and like.dtype.kind != "c":
            g = np.real(g)
        g = g.astype(like.dtype)
    return g


def _expand(scalar: Any, shape: tuple[int, ...]) -> Any:
    if type(scalar) is np.ndarray:  # a view like np.broadcast_to's, in a tenth of its time
        return np.ndarray(shape, scalar.dtype, scalar, strides=(0,) * len(shape))
    return np.broadcast_to(scalar, shape)


def _sum_rows(matrix: Any) -> Any:
    if type(matrix) is np.ndarray and matrix.size <= 1 << 16 and matrix.dtype.char in "fd":
        return _ones(len(matrix), matrix.dtype).dot(matrix)  # BLAS: a sixth of reduce's time
    return sum_axes(matrix, 0)


@functools.lru_cache(maxsize=16)
def _ones(n: int, dtype: np.dtype[Any]) -> Array:
    array = ones(n, dtype)
    array.flags.writeable = False
    return array


def _sum_to_shape(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes that broadcasting added or stretched; expand those that a rule reduced."""
    extra = g.ndim - len(shape)
    if extra >= 0 and all(m in (n, 1) for n, m in zip(g.shape[extra:], shape)):
        stretched = (i for i, m in enumerate(shape, extra) if m != g.shape[i])
        return sum_axes(g, (*range(extra), *stretched), keepdims=True).reshape(shape)
    if extra <= 0 and all(n in (m, 1) for n, m in zip(g.shape, shape[-extra:])):
        return np.broadcast_to(g, shape)
    raise ValueError(f"a derivative of shape {g.shape} for an argument of shape {shape}")
