"""Products along any axes as LLVM IR, by tiles of the result that stay in registers.

It multiplies where the rows of the left operand are no rows of a matrix, but lie at any steps in
memory: the windows of a convolution need no copy. A tile is that of `products`: the sum of outer
products of some elements of the left operand, each in all lanes of a vector, and vectors of the
right one. If the latter do not lie side by side, they are copied first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from llvmlite import ir

from .kernels import Axis, Contraction
from .loops import INDEX, fma, loop, shuffle, splat, vector_type, zeros
from .matrices import Matrix, Writer
from .products import Vector, block_size, vectors_of
from .registers import memory_kind
from .runtime import target

_CACHED = 1 << 16  # elements of the right operand that one pass over the rows reads
_ROWS = 32  # rows whose places are written into the code, instead of a loop
_UNROLLED = 128  # multiply-adds that are written without a loop


class Places(NamedTuple):
    """Pointers into the two operands and the result."""

    left: ir.Value
    right: ir.Value
    result: ir.Value


def emit(builder: ir.IRBuilder, kernel: Contraction, pointers: Sequence[ir.Value]) -> None:
    """Write the code of a contraction, whose pointers are given."""
    own = target()
    code = _Contraction(
        builder,
        memory_kind(kernel.dtype),
        own.lanes(kernel.dtype),
        own.registers,
        kernel.batch,
        kernel.rows,
        kernel.terms,
        kernel.columns,
        kernel.adds,
    )
    code.run(Places(*pointers))


@dataclass
class _Contraction(Writer):
    registers: int
    batch: Sequence[Axis]
    rows: Sequence[Axis]
    terms: Sequence[Axis]
    columns: Axis
    adds: bool

    def run(self, places: Places) -> None:
        """Write the code."""
        terms = [*self.terms]
        outer: list[Axis] = []
        while len(terms) > 1 and _count(terms) * self.columns.size > _CACHED:
            outer.append(terms.pop(0))
        inner = replace(self, terms=terms, adds=self.adds or bool(outer))
        if outer and not self.adds:
            self._along([*self.batch, *self.rows], places, self._clear)
        self._along(outer, places, inner._products)

    def _along(self, axes: Sequence[Axis], places: Places, body: Callable[[Places], None]) -> None:
        """Write `body` for each index of some axes."""
        if not axes:
            body(places)
            return
        axis, *others = axes
        self.each(axis.size, 1, lambda i: self._along(others, self._moved(places, axis, i), body))

    def _moved(self, places: Places, axis: Axis, index: ir.Value) -> Places:
        steps = axis.left, axis.right, axis.result
        return Places(
            *[self._further(place, index, step) for place, step in zip(places, steps, strict=True)]
        )

    def _further(self, place: ir.Value, index: ir.Value, step: int) -> ir.Value:
        if not step:
            return place
        offset = self.builder.mul(index, INDEX(step))
        return self.builder.gep(place, [offset], source_etype=self.element)

    def _clear(self, places: Places) -> None:
        for v in vectors_of(self.columns.size, self.lanes):
            nothing = zeros(vector_type(self.element, v.used))
            self.store(nothing, self._further(places.result, INDEX(v.column), 1))

    def _products(self, places: Places) -> None:
        """Write the products of the stack; those with the same right operand come together."""
        stacked = [axis for axis in self.batch if axis.right]
        others = [axis for axis in self.batch if not axis.right]
        self._along(
            stacked,
            places,
            lambda places: self._packed(
                places, lambda code, places: code._along(others, places, code._single)
            ),
        )

    def _packed(self, places: Places, body: Callable[[_Contraction, Places], None]) -> None:
        """Write `body` for a right operand whose columns lie side by side."""
        n = self.columns.size
        if self.columns.right == 1 or n == 1:
            body(self, places)
            return
        panel = self.scratch("panel", (_count(self.terms), n))
        *outer, last = self.terms
        terms: list[Axis] = []
        step = n
        for axis in reversed(self.terms):
            terms.insert(0, axis._replace(right=step))
            step *= axis.size

        def copy(axes: Sequence[tuple[Axis, Axis]], source: ir.Value, target: ir.Value) -> None:
            if axes:
                (old, new), *rest = axes
                self.each(
                    old.size,
                    1,
                    lambda i: copy(
                        rest,
                        self._further(source, i, old.right),
                        self._further(target, i, new.right),
                    ),
                )
                return
            shape = last.size, n
            self.copy(
                Matrix(source, shape, (last.right, self.columns.right)),
                Matrix(target, shape, (n, 1)),
            )

        copy([*zip(outer, terms)], places.right, panel.pointer)
        columns = self.columns._replace(right=1)
        code = replace(self, terms=terms, columns=columns)
        body(code, places._replace(right=panel.pointer))

    def _single(self, places: Places) -> None:
        """Write one product, by tiles."""
        vectors = vectors_of(self.columns.size, self.lanes)
        rows = len(self.rows)
        while rows and _count(self.rows[rows - 1 :]) <= _ROWS:
            rows -= 1
        outer, inner = self.rows[:rows], self.rows[rows:]
        for start in range(0, len(vectors), 2):
            panel = vectors[start : start + 2]
            most = (self.registers - 1) // len(panel) - 1
            if inner or not outer:
                tile = self._tiles(inner, most, panel)
                self._along(outer, places, tile)
            else:
                self._along(outer[:-1], places, self._blocks(outer[-1], most, panel))

    def _tiles(
        self, axes: Sequence[Axis], most: int, vectors: Sequence[Vector]
    ) -> Callable[[Places], None]:
        """What writes tiles of all rows along some axes."""
        indices = itertools.product(*[range(axis.size) for axis in axes])
        offsets = [
            tuple(
                sum(i * step for i, step in zip(index, steps, strict=True))
                for steps in ([a.left for a in axes], [a.result for a in axes])
            )
            for index in indices
        ]
        size = block_size(len(offsets), most)

        def write(places: Places) -> None:
            for start in range(0, len(offsets), size):
                self._tile(places, offsets[start : start + size], vectors)

        return write

    def _blocks(self, axis: Axis, most: int, vectors: Sequence[Vector]) -> Callable[[Places], None]:
        """What writes tiles of blocks of rows along an axis of many."""
        size = block_size(axis.size, most)
        whole = axis.size - axis.size % size

        def write(places: Places) -> None:
            def block(i: ir.Value, rows: int) -> None:
                moved = self._moved(places, axis, i)
                offsets = [(k * axis.left, k * axis.result) for k in range(rows)]
                self._tile(moved, offsets, vectors)

            self.each(whole, size, lambda i: block(i, size))
            if whole < axis.size:
                block(INDEX(whole), axis.size - whole)

        return write

    def _tile(
        self, places: Places, rows: Sequence[Sequence[int]], vectors: Sequence[Vector]
    ) -> None:
        """Write the rows at some offsets in the left operand and in the result."""
        builder, one = self.builder, INDEX(1)
        sums: Sequence[ir.Value] = [
            zeros(vector_type(self.element, v.lanes)) for _ in rows for v in vectors
        ]

        def add(left: ir.Value, right: ir.Value, sums: Sequence[ir.Value]) -> list[ir.Value]:
            ys = [self.load(self._further(right, one, v.column), v.lanes, v.used) for v in vectors]
            total = [*sums]
            for i, row in enumerate(rows):  # one after another: registers are scarce
                x = self.load(self._further(left, one, row[0]))
                for j, (v, y) in enumerate(zip(vectors, ys, strict=True), i * len(vectors)):
                    total[j] = fma(builder, splat(builder, x, v.lanes), y, total[j])
            return total

        def along(
            axes: Sequence[Axis], left: ir.Value, right: ir.Value, sums: Sequence[ir.Value]
        ) -> Sequence[ir.Value]:
            if not axes:
                return add(left, right, sums)
            axis, *inner = axes

            def step(i: ir.Value, sums: Sequence[ir.Value]) -> Sequence[ir.Value]:
                further = self._further(left, i, axis.left), self._further(right, i, axis.right)
                return along(inner, *further, sums)

            if not inner and axis.size * len(sums) <= _UNROLLED:
                for i in range(axis.size):
                    sums = step(INDEX(i), sums)
                return sums
            return loop(builder, axis.size, 1, sums, step)

        sums = along(self.terms, places.left, places.right, sums)
        places_of = [(offset, v) for _, offset in rows for v in vectors]
        for (offset, v), value in zip(places_of, sums, strict=True):
            used = shuffle(builder, value, value, range(v.used)) if v.used < v.lanes else value
            at = self._further(places.result, one, offset + v.column)
            self.store(builder.fadd(self.load(at, v.used), used) if self.adds else used, at)


def _count(axes: Sequence[Axis]) -> int:
    """The number of indices of some axes."""
    return math.prod(axis.size for axis in axes)
