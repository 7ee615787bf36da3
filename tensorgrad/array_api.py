"""The functions, constants and dtypes of the Python array API standard, version 2024.12.

They are NumPy's own, `tensorgrad.sin is numpy.sin`, because NumPy hands every call on a tensor to
the tensor. Defined here are those that have no tensor among their arguments, and so must make one,
and those in which NumPy's arguments or results differ from the standard's.

Those that Python's builtins have too, as `abs` and `max`, are not in `__all__`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

# isort: off
from numpy import (
    linalg,
    e, inf, nan, newaxis, pi,
    complex64, complex128, float32, float64,
    int8, int16, int32, int64, uint8, uint16, uint32, uint64,
    can_cast, isdtype, result_type,
    nonzero, unique_all, unique_counts, unique_inverse, unstack,
)  # fmt: skip
# isort: on

from . import fft
from .engine.tensor import Tensor, asarray
from .guide import guided

if TYPE_CHECKING:
    # The functions that are imported below: NumPy's stubs say that they return arrays.
    _function: Callable[..., Tensor] = asarray  # any function that returns a tensor
    empty_like = full_like = ones_like = tril = triu = zeros_like = astype = acos = _function
    acosh = add = asin = asinh = atan = atan2 = atanh = bitwise_and = bitwise_invert = _function
    bitwise_left_shift = bitwise_or = bitwise_right_shift = bitwise_xor = ceil = conj = _function
    copysign = cos = cosh = divide = equal = exp = expm1 = floor = floor_divide = _function
    greater = greater_equal = hypot = imag = isfinite = isinf = isnan = less = _function
    less_equal = log = log1p = log2 = log10 = logaddexp = logical_and = logical_not = _function
    logical_or = logical_xor = maximum = minimum = multiply = negative = nextafter = _function
    not_equal = positive = real = reciprocal = remainder = sign = signbit = sin = sinh = _function
    sqrt = square = subtract = tan = tanh = trunc = take = take_along_axis = argmax = _function
    argmin = count_nonzero = searchsorted = where = unique_values = matmul = _function
    matrix_transpose = tensordot = vecdot = broadcast_to = concat = expand_dims = flip = _function
    moveaxis = permute_dims = repeat = reshape = roll = squeeze = tile = cumulative_prod = _function
    cumulative_sum = mean = prod = std = var = diff = abs = all = any = max = min = pow = _function
    round = sum = _function
else:  # isort: off
    from numpy import (
        empty_like, full_like, ones_like, tril, triu, zeros_like, astype, acos, acosh, add, asin,
        asinh, atan, atan2, atanh, bitwise_and, bitwise_invert, bitwise_left_shift, bitwise_or,
        bitwise_right_shift, bitwise_xor, ceil, conj, copysign, cos, cosh, divide, equal, exp,
        expm1, floor, floor_divide, greater, greater_equal, hypot, imag, isfinite, isinf, isnan,
        less, less_equal, log, log1p, log2, log10, logaddexp, logical_and, logical_not,
        logical_or, logical_xor, maximum, minimum, multiply, negative, nextafter, not_equal,
        positive, real, reciprocal, remainder, sign, signbit, sin, sinh, sqrt, square, subtract,
        tan, tanh, trunc, take, take_along_axis, argmax, argmin, count_nonzero, searchsorted,
        where, unique_values, matmul, matrix_transpose, tensordot, vecdot, broadcast_to, concat,
        expand_dims, flip, moveaxis, permute_dims, repeat, reshape, roll, squeeze, tile,
        cumulative_prod, cumulative_sum, mean, prod, std, var, diff, abs, all, any, max, min, pow,
        round, sum,
    )  # fmt: skip
# isort: on

__all__ = [  # noqa: RUF022 (the standard's chapters)
    "fft", "linalg",
    # constants
    "e", "inf", "nan", "newaxis", "pi",
    # dtypes
    "complex64", "complex128", "float32", "float64",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    # creation
    "arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like",
    "linspace", "meshgrid", "ones", "ones_like", "tril", "triu", "zeros", "zeros_like",
    # dtypes of arrays
    "astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type",
    # element by element
    "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and",
    "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "ceil", "clip", "conj", "copysign", "cos", "cosh", "divide", "equal", "exp", "expm1", "floor",
    "floor_divide", "greater", "greater_equal", "hypot", "imag", "isfinite", "isinf", "isnan",
    "less", "less_equal", "log", "log1p", "log2", "log10", "logaddexp", "logical_and",
    "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative",
    "nextafter", "not_equal", "positive", "real", "reciprocal", "remainder", "sign",
    "signbit", "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "trunc",
    # indexing, searching, sorting, sets
    "take", "take_along_axis", "argmax", "argmin", "count_nonzero", "nonzero", "searchsorted",
    "where", "argsort", "sort", "unique_all", "unique_counts", "unique_inverse", "unique_values",
    # linear algebra
    "matmul", "matrix_transpose", "tensordot", "vecdot",
    # shapes
    "broadcast_arrays", "broadcast_to", "concat", "expand_dims", "flip", "moveaxis", "permute_dims",
    "repeat", "reshape", "roll", "squeeze", "stack", "tile", "unstack",
    # statistics and utilities
    "cumulative_prod", "cumulative_sum", "mean", "prod", "std", "var",
    "diff",
]  # fmt: skip

__array_api_version__ = "2024.12"


def _in_a_tensor(create: Callable[..., Any]) -> Callable[..., Tensor]:
    """Let a function that makes a new array return it as a tensor."""

    @functools.wraps(create)
    def creation(*args: Any, **kwargs: Any) -> Tensor:
        if "requires_grad" in kwargs:
            raise TypeError(
                f"{create.__name__}: there is no requires_grad=; for a parameter, write "
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

    The value broadcasts, and may be a tensor, or nested lists of them: gradients reach it.

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
    """Return the coordinates of a grid as a list, where `numpy.meshgrid` returns a tuple.

    >>> [x.shape for x in tg.meshgrid(tg.arange(3), tg.arange(2), indexing="ij")]
    [(3, 2), (3, 2)]
    """
    return list(np.meshgrid(*arrays, indexing=indexing))  # type: ignore[call-overload]


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """Return the arrays in their common shape as a list, where NumPy returns a tuple.

    >>> [x.shape for x in tg.broadcast_arrays(tg.ones(3), tg.ones((2, 1)))]
    [(2, 3), (2, 3)]
    """
    return list(np.broadcast_arrays(*arrays))  # type: ignore[arg-type]


class FloatInfo(NamedTuple):
    """The limits of a floating dtype as Python numbers."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype[Any]


def finfo(kind: Any, /) -> FloatInfo:
    """Return the limits of a floating dtype, or of an array's; of the parts, for a complex one.

    >>> tg.finfo(tg.ones(3, dtype=tg.float32)).eps == 2**-23
    True
    """
    info = np.finfo(result_type(kind))
    eps, largest, least, normal = map(float, (info.eps, info.max, info.min, info.smallest_normal))
    return FloatInfo(info.bits, eps, largest, least, normal, info.dtype)


def iinfo(kind: Any, /) -> np.iinfo[Any]:
    """Return the limits of an integer dtype, or of an array's.

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
    if descending:  # of the reversed array, so that equal elements end up in their first order
        backwards = np.argsort(flip(x, axis=axis), axis=axis, stable=stable)
        return x.shape[axis] - 1 - flip(backwards, axis=axis)  # type: ignore[no-any-return]
    return np.argsort(x, axis=axis, stable=stable)  # type: ignore[return-value]
