"""What the processor needs for a training step at least: its multiply-adds, and its memory.

Both run in native code, beside the engines: by the clock of the processor that they get, too.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir

from tensorgrad.compiler.backends.llvm import runtime
from tensorgrad.compiler.backends.llvm.loops import INDEX, fma, loop, vector_type
from tensorgrad.compiler.backends.llvm.registers import kind


def multiply_adds(widths: Sequence[int], batch: int, dtype: np.dtype) -> Callable[[], object]:
    """A function that makes as many multiply-adds as a step's products, on registers alone.

    Forward, and for the gradients of the weights, there is one for each weight and each sample; for
    the gradients of the layers' inputs as well, but for the first layer.
    """
    sizes = [a * b for a, b in itertools.pairwise(widths)]
    total = batch * (3 * sum(sizes) - sizes[0])
    target = runtime.target()
    lanes, chains = target.lanes(dtype), target.registers - 4
    module = ir.Module("limits")
    builder, arguments = runtime.builtin_function(module, "multiply_adds")
    pointer = runtime.array_data(builder, arguments, 0)
    vector = vector_type(kind(dtype), lanes)
    x = builder.load(pointer, align=dtype.itemsize, typ=vector)
    begun = [builder.fadd(x, ir.Constant(vector, [float(i)] * lanes)) for i in range(chains)]
    rounds = math.ceil(total / (lanes * chains))
    sums = loop(builder, rounds, 1, begun, lambda _, sums: [fma(builder, s, x, x) for s in sums])
    result = functools.reduce(builder.fadd, sums)  # so that none is left out
    builder.store(result, pointer, align=dtype.itemsize)
    builder.ret(runtime.none(builder))
    function = runtime.builtin(runtime.compile(module), "multiply_adds")
    numbers = np.full(lanes, 0.5, dtype)
    return lambda: function(numbers)


def memory(moved: int) -> Callable[[], object]:
    """A function that reads and writes so many bytes, as an update does with the parameters."""
    module = ir.Module("limits")
    builder, arguments = runtime.builtin_function(module, "memory")
    pointers = [runtime.array_data(builder, arguments, i) for i in range(2)]
    never = ir.IntType(1)(0)  # volatile
    given = [*pointers, INDEX(moved), never]
    copy = ir.FunctionType(ir.VoidType(), [value.type for value in given])
    builder.call(ir.Function(module, copy, "llvm.memcpy.p0.p0.i64"), given)
    builder.ret(runtime.none(builder))
    function = runtime.builtin(runtime.compile(module), "memory")
    target, source = np.zeros(moved, np.uint8), np.ones(moved, np.uint8)
    return lambda: function(target, source)
