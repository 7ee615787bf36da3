"""The functions, constants and dtypes of the Python array API standard, version 2024.12.

Most are NumPy's own, `tensorgrad.sin is numpy.sin`, because NumPy passes a call with a tensor to
the tensor. Two kinds are defined here: functions without a tensor argument, which NumPy would
return as arrays, and functions whose parameters or results differ from the standard in NumPy.

Each name is written once. `__all__` has all names except Python's builtins, such as `abs`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

# isort: off
from numpy import (
    linalg as linalg,
    # constants
    e as e, inf as inf, nan as nan, newaxis as newaxis, pi as pi,
    # dtypes
    complex64 as complex64, complex128 as complex128, float32 as float32, float64 as float64,
    int8 as int8, int16 as int16, int32 as int32, int64 as int64,
    uint8 as uint8, uint16 as uint16, uint32 as uint32, uint64 as uint64,
    # functions that return no tensors, or several
    can_cast as can_cast, isdtype as isdtype, result_type as result_type, nonzero as nonzero,
    unique_all as unique_all, unique_counts as unique_counts, unique_inverse as unique_inverse,
    unstack as unstack,
)  # fmt: skip
# isort: on

from . import fft as fft
from .engine.tensor import Tensor, asarray as asarray
from .guide import guided
from .namespaces import completed, numpys

# -- NumPy's functions

# creation, and dtypes of arrays
empty_like = full_like = ones_like = zeros_like = tril = triu = astype = numpys
# element by element
acos = acosh = add = asin = asinh = atan = atan2 = atanh = bitwise_and = bitwise_invert = numpys
bitwise_left_shift = bitwise_or = bitwise_right_shift = bitwise_xor = ceil = conj = numpys
copysign = cos = cosh = divide = equal = exp = expm1 = floor = floor_divide = greater = numpys
greater_equal = hypot = imag = isfinite = isinf = isnan = less = less_equal = log = numpys
log1p = log2 = log10 = logaddexp = logical_and = logical_not = logical_or = logical_xor = numpys
maximum = minimum = multiply = negative = nextafter = not_equal = positive = real = numpys
reciprocal = remainder = sign = signbit = sin = sinh = sqrt = square = subtract = numpys
tan = tanh = trunc = abs = pow = round = numpys
# indexing, searching and sets
take = take_along_axis = argmax = argmin = count_nonzero = searchsorted = where = numpys
unique_values = numpys
# linear algebra
matmul = matrix_transpose = tensordot = vecdot = numpys
# shapes
broadcast_to = concat = expand_dims = flip = moveaxis = permute_dims = repeat = reshape = numpys
roll = squeeze = tile = numpys
# statistics and utilities
all = any = cumulative_prod = cumulative_sum = diff = max = mean = min = prod = std = sum = numpys
var = numpys

__array_api_version__ = "2024.12"

# -- functions defined here


def _in_a_tensor(create: Callable[..., Any]) -> Callable[..., Tensor]:
    """Make a function that creates an array return a tensor."""

    @functools.wraps(create)
    def creation(*args: Any, **kwargs: Any) -> Tensor:
        if "requires_grad" in kwargs:
            raise TypeError(
                f"{create.__name__}: requires_grad= is not a parameter; for a leaf, write "
                f"tg.Tensor(np.{create.__name__}(...), requires_grad=True)"
            )
        if create in (np.empty, np.ones, np.zeros) and len(args) > 1 and isinstance(args[1], int):
            shape = ", ".join(map(str, args))
            raise TypeError(f"{create.__name__}({shape}): pass the shape as a tuple, ({shape})")
        return asarray(create(*args, **kwargs), copy=False)

    creation.__doc__ = f"Return what `numpy.{create.__name__}` returns, as a tensor."
    return creation


arange = _in_a_tensor(np.arange)
empty = _in_a_tensor(np.empty)
eye = _in_a_tensor(np.eye)
from_dlpack = _in_a_tensor(np.from_dlpack)
linspace = _in_a_tensor(np.linspace)
ones = _in_a_tensor(np.ones)
zeros = _in_a_tensor(np.zeros)


def full(shape: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Return a new tensor of this shape, filled with `fill_value`.

    The value broadcasts. If it is a tensor, or nested lists of tensors, gradients flow to it.

    >>> tg.grad(lambda x: np.sum(tg.full((2, 3), x)))(0.5)
    array(6.)
    """
    value = asarray(fill_value, dtype)
    return np.full_like(value, value, shape=shape, device=device)  # type: ignore[return-value]


@guided
def stack(arrays: Any, /, *, axis: int = 0) -> Tensor:
    """Return `numpy.stack` of the arrays as a tensor; nested lists of tensors count as arrays.

    >>> tg.stack([[tg.asarray(1.0), 2.0], [3.0, 4.0]], axis=1)
    Tensor([[1., 3.],
            [2., 4.]])
    """
    return np.stack([asarray(a) for a in arrays], axis)  # type: ignore[return-value]


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """Return the coordinates of a grid in a list; `numpy.meshgrid` returns a tuple.

    >>> [x.shape for x in tg.meshgrid(tg.arange(3), tg.arange(2), indexing="ij")]
    [(3, 2), (3, 2)]
    """
    return list(np.meshgrid(*arrays, indexing=indexing))  # type: ignore[call-overload]


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """Return the arrays broadcast to their common shape, in a list; NumPy returns a tuple.

    >>> [x.shape for x in tg.broadcast_arrays(tg.ones(3), tg.ones((2, 1)))]
    [(2, 3), (2, 3)]
    """
    return list(np.broadcast_arrays(*arrays))  # type: ignore[arg-type]


class FloatInfo(NamedTuple):
    """The limits of a floating dtype, as Python numbers."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype[Any]


def finfo(kind: Any, /) -> FloatInfo:
    """Return the limits of a floating dtype, or of an array's dtype.

    For a complex dtype, they are those of the real and imaginary parts.

    >>> tg.finfo(tg.ones(3, dtype=tg.float32)).eps == 2**-23
    True
    """
    info = np.finfo(result_type(kind))
    eps, largest, least, normal = map(float, (info.eps, info.max, info.min, info.smallest_normal))
    return FloatInfo(info.bits, eps, largest, least, normal, info.dtype)


def iinfo(kind: Any, /) -> np.iinfo[Any]:
    """Return the limits of an integer dtype, or of an array's dtype.

    >>> tg.iinfo(tg.asarray([1, 2], dtype=tg.int8)).max
    127
    """
    return np.iinfo(result_type(kind))


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """Return `numpy.clip(x, min, max)` in the dtype of `x`.

    >>> tg.clip(tg.asarray([1, 5, 9]), 2, max=6)
    Tensor([2, 5, 6])
    """
    clipped = np.clip(x, min, max)
    return clipped if clipped.dtype == x.dtype else astype(clipped, x.dtype)


@guided
def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return `numpy.sort` along an axis, or the elements in descending order.

    >>> tg.sort(tg.asarray([2.0, 3.0, 1.0]), descending=True)
    Tensor([3., 2., 1.])
    """
    if descending:
        return flip(np.sort(flip(x, axis=axis), axis=axis, stable=stable), axis=axis)
    return np.sort(x, axis=axis, stable=stable)  # type: ignore[return-value]


@guided
def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return the positions of the elements in the order of `sort`; equal ones keep their order.

    >>> tg.argsort(tg.asarray([2, 3, 1, 3]), descending=True)
    Tensor([1, 3, 0, 2])
    """
    if descending:  # sort the reversed array, so that equal elements keep their order
        backwards = np.argsort(flip(x, axis=axis), axis=axis, stable=stable)
        return x.shape[axis] - 1 - flip(backwards, axis=axis)  # type: ignore[no-any-return]
    return np.argsort(x, axis=axis, stable=stable)  # type: ignore[return-value]


if not TYPE_CHECKING:  # type checkers take every name without an underscore
    __all__ = completed(globals(), np)
