"""Matrices in memory: access to their elements, and copies from one layout to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llvmlite import ir

from .loops import INDEX, loop, shuffle, vector_type, zeros


def is_number(index: ir.Value, number: int) -> bool:
    """Whether an index is known when the code is made, and is this number."""
    return isinstance(index, ir.Constant) and bool(index.constant == number)


def plus(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The sum of two indices: an instruction less where they are known is compiled in less time."""
    if isinstance(a, ir.Constant) and isinstance(b, ir.Constant):
        return INDEX(a.constant + b.constant)
    if is_number(a, 0) or is_number(b, 0):
        return b if is_number(a, 0) else a
    return builder.add(a, b)


def times(builder: ir.IRBuilder, index: ir.Value, number: int) -> ir.Value:
    """An index times a number."""
    if isinstance(index, ir.Constant):
        return INDEX(index.constant * number)
    return index if number == 1 else builder.mul(index, INDEX(number))


class Matrix(NamedTuple):
    """A matrix in memory: the strides are numbers of elements."""

    pointer: ir.Value
    shape: tuple[int, int]
    strides: tuple[int, int]

    @property
    def T(self) -> Matrix:  # noqa: N802 (NumPy's name)
        """The transposed matrix."""
        return Matrix(self.pointer, self.shape[::-1], self.strides[::-1])

    def contiguous(self, axis: int) -> bool:
        """Tell whether the elements along an axis follow each other."""
        return self.strides[axis] == 1 or self.shape[axis] == 1


@dataclass
class Writer:
    """Writes code that works with matrices of one type of elements."""

    builder: ir.IRBuilder
    element: ir.Type
    lanes: int  # of the processor's vectors

    def at(self, matrix: Matrix, row: ir.Value, column: ir.Value) -> ir.Value:
        """Return the pointer to an element."""
        steps = zip((row, column), matrix.strides)
        down, across = (times(self.builder, index, stride) for index, stride in steps)
        offset = plus(self.builder, down, across)
        if is_number(offset, 0):
            return matrix.pointer
        return self.builder.gep(matrix.pointer, [offset], source_etype=self.element)

    def moved(self, matrix: Matrix, row: ir.Value, column: ir.Value) -> Matrix:
        """Return a matrix that begins at an element of another one."""
        return matrix._replace(pointer=self.at(matrix, row, column))

    def load(self, pointer: ir.Value, lanes: int = 1, used: int | None = None) -> ir.Value:
        """Load a vector, or only the `used` first elements: the other lanes are zero."""
        used = used or lanes
        kind = vector_type(self.element, used)
        value = self.builder.load(pointer, align=self._alignment, typ=kind)
        if used == lanes:
            return value
        if used == 1:
            nothing = zeros(vector_type(self.element, lanes))
            return self.builder.insert_element(nothing, value, ir.IntType(32)(0))
        return shuffle(self.builder, value, zeros(kind), [min(q, used) for q in range(lanes)])

    def store(self, value: ir.Value, pointer: ir.Value) -> None:
        """Store a scalar or a vector."""
        self.builder.store(value, pointer, align=self._alignment)

    @property
    def _alignment(self) -> int:
        return 4 if self.element == ir.FloatType() else 8

    def each(self, count: int, step: int, body: Callable[[ir.Value], None]) -> None:
        """Write `body` for every index below `count` that is a multiple of `step`."""

        def round_(index: ir.Value, _: Sequence[ir.Value]) -> Sequence[ir.Value]:
            body(index)
            return ()

        loop(self.builder, count, step, (), round_)

    def scratch(self, name: str, shape: tuple[int, int]) -> Matrix:
        """Return a matrix in memory of the module, which all of its functions use in turn."""
        module, name, size = self.builder.module, f"{name}.{self.element}", shape[0] * shape[1]
        memory = module.globals.get(name)
        if memory is None:
            memory = ir.GlobalVariable(module, ir.ArrayType(self.element, size), name)
            memory.type = ir.PointerType()  # llvmlite gives globals a pointer type of their own
            memory.linkage, memory.align = "internal", 64
        memory.value_type = ir.ArrayType(self.element, max(size, memory.value_type.count))
        memory.initializer = ir.Constant(memory.value_type, None)
        return Matrix(memory, shape, (shape[1], 1))

    def copy(self, source: Matrix, target: Matrix) -> None:
        """Copy a matrix to one of another layout, whose rows are contiguous."""
        m, n = source.shape
        if source.contiguous(1):
            height, width = 1, self.lanes
        elif source.contiguous(0):
            height = width = min(8, self.lanes)
        else:
            height = width = 1
        rows, columns = m - m % height, n - n % width

        def block(i: ir.Value, j: ir.Value) -> None:
            if source.contiguous(1):
                self.store(self.load(self.at(source, i, j), width), self.at(target, i, j))
            else:
                self._transpose(self.moved(source, i, j), self.moved(target, i, j), width)

        def single(i: ir.Value, j: ir.Value) -> None:
            self.store(self.load(self.at(source, i, j)), self.at(target, i, j))

        def beyond(i: ir.Value, j: ir.Value) -> None:
            single(i, plus(self.builder, j, INDEX(columns)))

        def below(i: ir.Value, j: ir.Value) -> None:
            single(plus(self.builder, i, INDEX(rows)), j)

        self.each(rows, height, lambda i: self.each(columns, width, lambda j: block(i, j)))
        self.each(rows, 1, lambda i: self.each(n - columns, 1, lambda j: beyond(i, j)))
        self.each(m - rows, 1, lambda i: self.each(n, 1, lambda j: below(i, j)))

    def _transpose(self, source: Matrix, target: Matrix, size: int) -> None:
        """Copy a square whose columns are contiguous to one whose rows are.

        Rows exchange lanes at distances 1, 2, 4 ... (J. O. Eklundh, A fast computer method for
        matrix transposing, 1972).
        """
        rows = [self.load(self.at(source, INDEX(0), INDEX(q)), size) for q in range(size)]
        distance = 1
        while distance < size:
            low = [q if not q & distance else size + q - distance for q in range(size)]
            high = [q + distance if not q & distance else size + q for q in range(size)]
            for q in range(size):
                if not q & distance:
                    pair = rows[q], rows[q + distance]
                    rows[q] = shuffle(self.builder, *pair, low)
                    rows[q + distance] = shuffle(self.builder, *pair, high)
            distance *= 2
        for q, row in enumerate(rows):
            self.store(row, self.at(target, INDEX(q), INDEX(0)))
