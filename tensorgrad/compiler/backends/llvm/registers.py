"""Registers of any dtype: those that `functions` knows, and integers of other sizes or no sign.

LLVM's integers have no signs: functions compare them as signed ones. With the highest bit turned,
numbers without a sign are in the same order as signed ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from ....engine.typing import Function
from . import functions
from .kernels import DType
from .lanes import constant
from .loops import vector_type

_ORDERED = frozenset({
    np.maximum, np.minimum, np.clip, np.less, np.less_equal, np.greater, np.greater_equal,
})  # fmt: skip
# They do the same to integers of each size, and but for the order, with or without a sign.
_INTEGER = _ORDERED | {
    np.add, np.subtract, np.multiply, np.equal, np.not_equal, np.where, np.copy, np.square,
    np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.logical_and, np.logical_or,
    np.logical_xor, np.logical_not,
}  # fmt: skip


@functools.lru_cache(maxsize=1 << 10)
def is_known(fun: Function, dtypes: tuple[DType, ...]) -> bool:
    """Whether `emit` knows a function of operands of these dtypes."""
    if all(dtype.kind not in "iu" for dtype in dtypes):
        return functions.is_known(fun, dtypes)
    numbers = {*dtypes[1:]} if fun is np.where else {*dtypes}
    if fun in _INTEGER:
        alike = [np.dtype(np.int64) if dtype.kind in "iu" else dtype for dtype in dtypes]
        return len(numbers) == 1 and numbers.pop().isnative and functions.is_known(fun, alike)
    return functions.is_known(fun, dtypes)


def is_register(dtype: DType) -> bool:
    """Whether a register can hold a number of a dtype."""
    return is_known(np.copy, (dtype,))


def kind(dtype: DType, lanes: int = 1) -> ir.Type:
    """The type of a register."""
    is_other = dtype.kind in "iu"
    single = ir.IntType(8 * dtype.itemsize) if is_other else functions.type_of(dtype)
    return vector_type(single, lanes)


def memory_kind(dtype: DType) -> ir.Type:
    """The type of an element in memory, where a bool takes a byte."""
    return ir.IntType(8) if dtype.kind == "b" else kind(dtype)


def emit(
    builder: ir.IRBuilder, fun: Function, dtype: DType, operands: Sequence[ir.Value]
) -> ir.Value:
    """Write the code of a function whose last operand has a dtype."""
    if dtype.kind != "u" or fun not in _ORDERED:
        return functions.emit(builder, fun, *operands)
    highest = constant(operands[0].type, 1 << (8 * dtype.itemsize - 1))
    turned = [builder.xor(operand, highest) for operand in operands]
    result = functions.emit(builder, fun, *turned)
    return builder.xor(result, highest) if fun in (np.maximum, np.minimum, np.clip) else result


def cast(builder: ir.IRBuilder, value: ir.Value, old: DType, new: DType) -> ir.Value:
    """Convert a register to another dtype, as `np.ndarray.astype` does."""
    lanes = value.type.count if isinstance(value.type, ir.VectorType) else 1
    target = kind(new, lanes)
    if new.kind == "u" and old.kind == "f":
        return _unsigned(builder, value, target)
    if new.kind == "i" and old.kind == "f":
        return builder.fptosi(value, target)
    if new.kind == "f" and old.kind in "iu":
        return (builder.sitofp if old.kind == "i" else builder.uitofp)(value, target)
    if new.kind not in "iu":
        return functions.cast(builder, value, new)
    if old.kind != "b" and new.itemsize == old.itemsize:
        return value
    if old.kind != "b" and new.itemsize < old.itemsize:
        return builder.trunc(value, target)
    return (builder.sext if old.kind == "i" else builder.zext)(value, target)


def _unsigned(builder: ir.IRBuilder, value: ir.Value, target: ir.Type) -> ir.Value:
    """Convert floats to unsigned integers; negative ones wrap around, as in NumPy's code."""
    lanes = value.type.count if isinstance(value.type, ir.VectorType) else 1
    wide, bits = vector_type(ir.IntType(64), lanes), getattr(target, "element", target).width
    if bits < 64:
        return builder.trunc(builder.fptosi(value, wide), target)
    half = constant(value.type, 2.0**63)
    is_high = builder.fcmp_ordered(">=", value, half)
    low = builder.fptosi(builder.select(is_high, builder.fsub(value, half), value), wide)
    return builder.select(is_high, builder.xor(low, constant(wide, 1 << 63)), low)
