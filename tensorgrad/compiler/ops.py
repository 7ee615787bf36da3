"""What the compiler knows of functions, in one table.

It says whether a call may be rewritten or moved, and whether it can write into other memory. A
function without a row is called as it is, which is right, but slower.

>>> op_of(np.concatenate)
Op(pattern='join', result='new', static_shape=True, out=True, shaped_by=0, keeps_numbers=False)
>>> op_of(np.tanh).pattern, op_of(np.add.reduce).pattern, op_of(np.sort) == Op()
('elementwise', 'reduction', True)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..engine.primitives import alias
from ..engine.registry import name_of
from ..engine.typing import Function
from .functions import Kernel, MakesNew, array_of, assign_at, attribute, getitem, power, spread
from .ir import Call, Value

# What a function does with elements. "copy": it returns those of its first argument, or casts them;
# "reshape": the same, in another shape. "fill": each is one number. "join": those of several
# arrays, one after another. "number": arithmetic of arrays of float64 without axes, which a program
# may keep as Python's floats in between; unlike NumPy's functions, it does not heed `errstate`.
Pattern: TypeAlias = Literal[
    "elementwise", "reduction", "product", "copy", "reshape", "fill", "select", "join", "number",
    "other",
]  # fmt: skip

# "new" arrays. A "view" of the first argument, or a new array where another argument, such as an
# index or `copy=True`, asks for that; "sealed": the same, and a view stays read-only. "either": the
# strides of the arguments may decide which of them it is. "write": it changes its first argument.
# "fact": what shapes and dtypes say. "python": a text, a list or a number made of elements.
# "absent": what no traced array has.
Result: TypeAlias = Literal["new", "view", "either", "sealed", "write", "fact", "python", "absent"]


class Op(NamedTuple):
    """What is known of a function; the defaults are right for any.

    `static_shape` says that the shape of the result follows from the shapes of the arguments, `out`
    that the result can be written into an array as it is computed. The elements of the first
    `shaped_by` arguments decide the shape of the result. A function that `keeps_numbers` makes a
    number of a number of NumPy's, where it makes a view of an array.
    """

    pattern: Pattern = "other"
    result: Result = "either"
    static_shape: bool = False
    out: bool = False
    shaped_by: int = 0
    keeps_numbers: bool = False


_ROWS: Sequence[tuple[Op, Sequence[Function]]] = [
    # -- new arrays
    (Op("copy", "new", static_shape=True, out=True), [np.copy, np.ndarray.copy]),
    (Op("fill", "new", static_shape=True, out=True), [np.zeros_like, np.ones_like, np.full_like]),
    (Op("product", "new", static_shape=True, out=True), [
        np.matmul, np.dot, np.ndarray.dot, np.inner,
    ]),
    (Op("select", "new", static_shape=True, out=True), [np.where]),
    (Op("join", "new", static_shape=True, out=True), [np.concatenate, np.stack]),
    (Op("reduction", "new", static_shape=True, out=True), [
        np.sum, np.prod, np.mean, np.max, np.min, np.any, np.all, np.argmax, np.argmin, np.var,
        np.std, np.trace, np.ndarray.sum, np.ndarray.mean, np.ndarray.max, np.ndarray.min,
        np.ndarray.any, np.ndarray.all, np.ndarray.prod,
    ]),
    (Op("number", "new", static_shape=True), [
        operator.add, operator.sub, operator.mul, operator.truediv, operator.gt, power, math.sqrt,
    ]),
    (Op("other", "new", static_shape=True, out=True), [
        array_of, spread, np.clip, np.ndarray.clip, np.cumsum, np.ndarray.cumsum, np.cumprod,
        np.outer, np.round,
    ]),
    (Op("other", "new", static_shape=True), [np.take, np.ndarray.take, np.take_along_axis]),
    # -- views, and what may be one
    (Op("copy", "view", static_shape=True, out=True), [np.astype, np.ndarray.astype]),
    (Op("other", "view", static_shape=True), [
        getitem, np.expand_dims, np.ndarray.squeeze, np.ndarray.transpose, np.matrix_transpose,
        np.swapaxes, np.ndarray.swapaxes, np.moveaxis, attribute("T"), attribute("mT"),
        attribute("real"), attribute("imag"),
    ]),
    (Op("other", "view", static_shape=True, keeps_numbers=True), [np.squeeze, np.transpose]),
    (Op("other", "sealed", static_shape=True), [
        np.broadcast_to, np.diagonal, np.ndarray.diagonal, np.linalg.diagonal, np.diag,
        sliding_window_view,
    ]),
    (Op("reshape", "either", static_shape=True, out=True), [
        np.reshape, np.ndarray.reshape, np.ravel, np.ndarray.ravel, np.ndarray.flatten,
    ]),
    (Op("copy", "either", static_shape=True, out=True), [np.ascontiguousarray, alias]),
    (Op("other", "either", static_shape=True, out=True), [np.einsum]),
    (Op("other", "either", static_shape=True), [np.ndarray.view]),
    (Op("other", "either", static_shape=True, keeps_numbers=True), [np.real, np.imag]),
    # -- what changes an array
    (Op("other", "write"), [
        assign_at, np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis,
        np.ndarray.fill, np.ndarray.sort, np.ndarray.partition, np.ndarray.put,
    ]),
    # -- what no program can repeat, or need not
    (Op("other", "fact"), [
        np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.iscomplexobj, np.isrealobj,
        np.common_type, np.may_share_memory, np.shares_memory,
    ]),
    (Op("other", "either", shaped_by=1), [
        np.nonzero, np.argwhere, np.flatnonzero, np.unique, np.unique_all, np.unique_counts,
        np.unique_inverse, np.unique_values, np.compress, np.extract, np.trim_zeros, np.bincount,
        np.roots, np.poly1d,
    ]),
    (Op("other", "either", shaped_by=2), [
        np.union1d, np.intersect1d, np.setdiff1d, np.setxor1d,
    ]),
    (Op("other", "python"), [
        np.array_repr, np.array_str, np.array2string, np.ndarray.item, np.ndarray.tolist,
        np.ndarray.tobytes, np.ndarray.tofile, np.ndarray.dump, np.ndarray.dumps,
        np.ndarray.nonzero,
    ]),
    (Op("other", "absent"), [
        np.ndarray.flat, np.ndarray.resize, np.ndarray.setflags, np.ndarray.setfield,
        np.ndarray.byteswap, np.ndarray.data, np.ndarray.ctypes,
    ]),
]  # fmt: skip
OPS = {fun: op for op, functions in _ROWS for fun in functions}
ARITHMETIC = frozenset({np.add, np.subtract, np.multiply, np.divide})

# Kinds of functions.
_NEW = Op("other", "new", static_shape=True)
_INTO = Op("other", "new", static_shape=True, out=True)
_ELEMENTWISE = Op("elementwise", "new", static_shape=True, out=True)
_METHODS = {  # of ufuncs
    "reduce": Op("reduction", "new", static_shape=True, out=True),
    "accumulate": _INTO,
    "outer": _INTO,
    "reduceat": _INTO,
    "at": Op("other", "write"),
}
_UNKNOWN = Op()


def op_of(fun: Function) -> Op:
    """What is known of a function."""
    op = OPS.get(fun)
    return _kind_of(fun) if op is None else op


def _kind_of(fun: Function) -> Op:
    """What is known of a function without a row."""
    if isinstance(fun, np.ufunc):
        return _ELEMENTWISE if fun.signature is None else _INTO
    if isinstance(getattr(fun, "__self__", None), np.ufunc):
        return _METHODS.get(name_of(fun).rpartition(".")[2], _UNKNOWN)
    if isinstance(fun, Kernel):
        return _INTO
    return _NEW if isinstance(fun, MakesNew) else _UNKNOWN


OPS |= {
    fun: _kind_of(fun) for fun in vars(np).values() if isinstance(fun, np.ufunc) and fun not in OPS
}


def is_elementwise(call: Call) -> bool:
    """Whether each element of the result depends on one of each argument."""
    return op_of(call.fun).pattern == "elementwise"


def is_bits(call: Call) -> bool:
    """Whether a call views an array in another dtype, element by element."""
    if call.fun is not np.ndarray.view:
        return False
    return bool(call.args[0].dtype.itemsize == call.returned[0].dtype.itemsize)


def takes_out(call: Call) -> bool:
    """Whether the results of a call can be written into arrays that are there already."""
    fun, kind = call.fun, call.kind
    if kind == "view" or len(call.results) != 1 or len(call.returned) != 1:
        return isinstance(fun, Kernel)
    if isinstance(fun, np.ufunc):
        options = call.kwargs
        return not options or not options.keys() - {"dtype", "where", "casting"} or is_product(call)
    if kind == "effect":  # it draws random numbers
        return True
    op = op_of(fun)
    first = call.args[0] if call.args else None
    match op.pattern:
        case "product":
            return is_product(call)
        case "copy":
            return isinstance(first, Value) and first.shape == call.results[0].shape
        case "reshape":
            return isinstance(first, Value) and _order(call) == "C"
        case "select":
            is_mask = isinstance(first, Value) and first.dtype.kind == "b"
            return is_mask and len(call.args) == 3 and not call.kwargs
        case "join":
            return "dtype" not in call.kwargs
    return op.out


def ufunc_dtypes(fun: Any, operands: Sequence[Any], dtype: Any) -> tuple[np.dtype[Any], ...]:
    """The dtypes in which a ufunc of one result computes: of its operands, and of the result.

    `dtype` is the option of that name, or None.
    """
    weak = int, float, complex
    kinds = [
        type(a) if type(a) in weak else getattr(a, "dtype", None) or np.asarray(a).dtype
        for a in operands
    ]
    signature = {} if dtype is None else {"signature": (*[None] * len(kinds), np.dtype(dtype))}
    dtypes: tuple[np.dtype[Any], ...] = fun.resolve_dtypes((*kinds, None), **signature)
    return dtypes


def fits(operand: object, dtype: np.dtype[Any]) -> bool:
    """Whether a dtype holds an operand: uint8 does not hold -1, with which NumPy compares it."""
    if type(operand) is not int or dtype.kind not in "iu":
        return True
    info = np.iinfo(dtype)
    return info.min <= operand <= info.max


def _order(call: Call) -> str:
    orders = [a for a in call.args if isinstance(a, str)]
    return str(call.kwargs.get("order", orders[0] if orders else "C"))


def is_product(call: Call) -> bool:
    """Whether BLAS does it: one product of matrices or vectors of one floating dtype."""
    if op_of(call.fun).pattern != "product" or call.kwargs.keys() - {"order"}:
        return False
    if len(call.args) != 2 or not all(isinstance(a, Value) for a in call.args):
        return False
    (x, y), (result,) = call.args, call.results
    return bool(
        x.dtype == y.dtype == result.dtype
        and x.dtype.char in "fd"
        and {x.ndim, y.ndim} <= {1, 2}
        and result.is_contiguous
    )


def is_of_numbers(call: Call) -> bool:
    """Whether it is arithmetic of arrays without axes: NumPy's scalars take a third of the time."""
    if call.fun not in ARITHMETIC or call.kwargs or call.kind != "pure":
        return False
    (result,) = call.results
    return (
        result.ndim == 0
        and result.dtype.char in "fd"
        and all(
            a.dtype == result.dtype if isinstance(a, Value) else type(a) in (int, float)
            for a in call.args
        )
    )
