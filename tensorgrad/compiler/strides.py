"""The strides of arrays, as far as NumPy's results depend on them.

A reshape of an array in C order is a view of it; of one in Fortran order it is a copy, which later
writes to the array do not reach. A trace shows what functions did with the strides of that time. So
the arrays of a program have the strides of the trace, and if a call depends on the strides of an
argument, the plan holds for such strides only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..engine.typing import Array
from .ir import Call, Value
from .ops import is_bits, op_of


def pattern(array: Array | Value) -> tuple[int, ...]:
    """Strides, in elements, that NumPy's functions treat like those of the array.

    They tell the order of the axes, their directions, and between which there is a gap: a gap of
    one element stands for any. The stride of an axis of one or of repeated elements is 0.
    """
    strides = [0] * array.ndim
    end, packed_end = array.itemsize, 1  # where the next axis outwards continues without a gap
    for i in sorted(range(array.ndim), key=lambda i: (abs(array.strides[i]), -i)):
        n, stride = array.shape[i], array.strides[i]
        if n > 1 and stride:
            step = packed_end + (abs(stride) != end)
            strides[i] = step if stride > 0 else -step
            end, packed_end = abs(stride) * n, step * n
    return tuple(strides)


def copied(array: Array) -> Array:
    """A copy with the strides of the array, but for the size of gaps."""
    if array.flags.forc:
        return array.copy("K")
    strides = [step * array.itemsize for step in pattern(array)]
    spans = [(n - 1) * stride for n, stride in zip(array.shape, strides, strict=True)]
    start = -sum(span for span in spans if span < 0)
    memory = np.empty(sum(map(abs, spans)) + array.itemsize, np.uint8)
    copy: Array = np.ndarray(array.shape, array.dtype, memory, start, strides)
    copy[...] = array
    return copy


def whose_strides_count(
    calls: Sequence[Call], inputs: Iterable[Value], returned: Iterable[Value]
) -> list[Value]:
    """The inputs whose strides matter: to a call, or in the values that are `returned`.

    An input's strides also matter if those of a value made of it do.
    """
    counting = {v for v in returned if v.ndim > 1}
    for call in reversed(calls):
        made = (r for r in call.results if r in counting and r.size > 1)
        if not _is_regardless(call) or not all(_lies_by_rows(call, r) for r in made):
            counting.update(call.reads)
    return [v for v in inputs if v.size > 1 and v in counting]


def _lies_by_rows(call: Call, result: Value) -> bool:
    """Whether a call makes a new array that lies by rows, as its arguments may or may not."""
    return call.kind == "pure" and (
        result.ndim == 1 or (result.ndim == 2 and op_of(call.fun).pattern == "product")
    )


def _is_regardless(call: Call) -> bool:
    """Whether a call returns a view, or a new array, regardless of its arguments' strides."""
    if call.target is not None or call.kind in ("effect", "guard"):
        return True
    ordered = "order" in call.kwargs or any(isinstance(a, str) for a in call.args)
    by_ufunc = isinstance(getattr(call.fun, "__self__", call.fun), np.ufunc)
    known = op_of(call.fun).result in ("new", "view", "sealed")
    return by_ufunc or is_bits(call) or (known and not ordered)


def bounds_of(array: Array) -> tuple[int, int]:
    """The addresses of the first byte of an array, and after its last."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return int(low), int(high)
