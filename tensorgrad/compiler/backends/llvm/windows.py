"""Products of calls whose operands need no copy: they become contractions.

A convolution multiplies the windows of its input as the rows of a matrix, for which NumPy copies
them; its derivative adds the rows of a product to windows. As a contraction has any axes, it reads
and writes such elements where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from ...ir import Call, Storage, Value
from ...ops import op_of
from .bodies import overlap
from .kernels import Axis, Contraction

# Axes that together are one: of each, the outermost first, its size and the elements of memory from
# one index to the next. A size of 1 is left out.
Parts: TypeAlias = list[tuple[int, int]]

_LEAST_COLUMNS = 4  # fewer leave most of a vector empty


class _Operand(NamedTuple):
    value: Value
    axes: Sequence[Parts]

    def parts(self, axis: int) -> Parts | None:
        """The parts of an axis, counted from the last; None for one that it is repeated along."""
        if axis > len(self.axes) or not self.axes[-axis]:
            return None
        return self.axes[-axis]


def contraction_of(
    call: Call, sources: Mapping[Storage, Value], *, adds: bool = False
) -> Contraction | None:
    """A stack of products of matrices as a contraction, or None if it cannot be one.

    Dense arrays in the memory of the keys are copies of the `sources`, in the order of their axes;
    these are read instead, and the result is written there.
    """
    if op_of(call.fun).pattern != "product" or call.kwargs.keys() - {"order", "out"}:
        return None
    result = call.results[0] if call.results else call.target
    values = (*call.args, result)
    if len(values) != 3 or not all(isinstance(v, Value) and v.ndim >= 2 for v in values):
        return None
    x, y, result = values
    alike = x.dtype == y.dtype == result.dtype and result.dtype.char in "fd"
    is_stack = max(x.ndim, y.ndim) > 2
    if not alike or not (x.size and y.size) or (is_stack and call.fun is not np.matmul):
        return None
    if call.fun is np.inner:
        y = y.transposed()
    own = {k: v for k, v in sources.items() if k is not y.storage}
    for known in (sources, own) if y.storage in sources else (own,):
        left, right, made = (_operand(v, known.get(v.storage)) for v in (x, y, result))
        if left is None or right is None or made is None:
            continue
        kernel = _contraction(left, right, made, result.ndim, adds)
        # A right operand is copied into a panel, where its columns do not lie side by side.
        if kernel and (kernel.columns.right == 1 or known is own):
            return kernel
    return None


def _contraction(
    left: _Operand, right: _Operand, made: _Operand, count: int, adds: bool
) -> Contraction | None:
    rows = _axes(left.parts(2), None, made.parts(2))
    terms = _axes(left.parts(1), right.parts(2), None)
    columns = _axes(None, right.parts(1), made.parts(1))
    batch = [_axes(*(o.parts(axis) for o in (left, right, made))) for axis in range(count, 2, -1)]
    found = [rows, terms, columns, *batch]
    if any(axes is None for axes in found) or columns is None or len(columns) != 1:
        return None
    (column,) = columns
    if column.result != 1 or column.size < _LEAST_COLUMNS:
        return None
    if any(overlap(made.value, operand.value) for operand in (left, right)):
        return None
    stack = tuple(axis for axes in batch for axis in axes or ())
    added = _joined(terms or [Axis(1, 0, 0, 0)])  # a sum of one term
    pointers = left.value, right.value, made.value
    return Contraction(_joined(stack), _joined(rows or ()), added, column, pointers, adds)


def _operand(v: Value, source: Value | None) -> _Operand | None:
    """How an operand lies, or what it is a copy of; None if its axes are no axes of that."""
    axes: list[Parts] = []
    for n, stride in zip(v.shape, v.strides, strict=True):
        step = stride // v.itemsize
        parts = [(n, step)] if source is None else _parts(source, n, step)
        if parts is None or stride % v.itemsize:
            return None
        axes.append([(n, step) for n, step in parts if n > 1])
    if source is None:
        return _Operand(v, axes)
    return _Operand(source, axes) if v.offset == 0 else None


def _parts(source: Value, n: int, step: int) -> Parts | None:
    """The axes of an array that an axis of its dense copy goes along."""
    parts: Parts = []
    within = 1  # elements of the copy that lie between two indices of the source's axis
    for size, stride in zip(reversed(source.shape), reversed(source.strides)):
        if n > 1 and 0 < step < within * size:
            indices = step // within  # of the source's axis for one of this one
            count = min(n, size // indices)
            if step % within or size % indices or n % count or stride % source.itemsize:
                return None
            parts.insert(0, (count, indices * stride // source.itemsize))
            n, step = n // count, step * count
        within *= size
    return parts if n == 1 else None


def _axes(*sides: Parts | None) -> list[Axis] | None:
    """The axes along which all sides go on by steps; None where they are cut in different ways."""
    left = [None if side is None else [*side] for side in sides]
    axes: list[Axis] = []
    while any(left):
        size = min(side[-1][0] for side in left if side)
        steps = []
        for side in left:
            if side is None:
                steps.append(0)
                continue
            if not side or side[-1][0] % size:
                return None
            n, step = side.pop()
            if n > size:
                side.append((n // size, step * size))
            steps.append(step)
        axes.insert(0, Axis(size, *steps))
    return axes


def _joined(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes; two are one if every operand goes on from one to the next without a gap."""
    found: list[Axis] = []
    for axis in axes:
        size, *steps = axis
        if found and [*found[-1][1:]] == [size * step for step in steps]:
            axis = Axis(found.pop().size * size, *steps)
        found.append(axis)
    return tuple(found)
