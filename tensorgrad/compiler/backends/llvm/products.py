"""Products of small matrices as LLVM IR, by tiles of the result that stay in registers.

The scheme is that of GotoBLAS (K. Goto and R. van de Geijn, Anatomy of high-performance matrix
multiplication, 2008) without its blocks for the caches, which small matrices do not need: a tile
of some rows and some vectors of columns is the sum of outer products of a column of the left
matrix, each element in all lanes of a vector, and a row of the right one. Where the rows of the
right matrix are not contiguous, a panel of its columns is copied first. Where both matrices are
contiguous along the sum and the product is too small to pay for the copy, each element of the
result is a dot product by vectors.

Shapes and strides are known when the code is made. Nothing outside of the matrices is read or
written: vectors at the end of a row are shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, NamedTuple

import numpy as np
from llvmlite import ir

from .loops import INDEX, fma, loop, shuffle, splat, sum_of_lanes, vector_type, zeros
from .runtime import host

# Takes results, and the row and the column of the first: a single one, or a vector of results that
# follow each other in memory along a row, or along a column where columns are contiguous.
Finish = Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]
Method = Literal["direct", "packed", "dots"]

_LATENCY = 8  # multiply-adds in flight that keep the units of a processor busy
_UNROLLED = 64  # multiply-adds of a tile that are written without a loop


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


def pays(m: int, k: int, n: int, dtype: np.dtype[Any]) -> bool:
    """Tell whether the product of an m x k and a k x n matrix is as fast as BLAS makes it."""
    return dtype.char in "fd" and 2 * m * k * n <= 2_000_000


def emit(
    builder: ir.IRBuilder,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    dtype: np.dtype[Any],
    *,
    accumulate: bool = False,
    finish: Finish | None = None,
) -> None:
    """Write c = a @ b, or c += a @ b.

    `finish` is applied to the results before they are stored; it may be called several times, with
    vectors of several lengths. A product without it is a function of the module, which products of
    the same shapes and strides share.
    """
    if 0 in c.shape:
        return
    if finish is not None:
        _write(builder, a, b, c, dtype, accumulate, finish)
        return
    matrices = (a, b, c)
    name = "_".join(
        ["product", dtype.name, *(str(s) for m in matrices for s in (*m.shape, *m.strides))]
        + ["accumulated"] * accumulate
    )
    function = builder.module.globals.get(name)
    if function is None:
        pointer = ir.PointerType()
        signature = ir.FunctionType(ir.VoidType(), [pointer] * 3)
        function = ir.Function(builder.module, signature, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        for argument in function.args:
            argument.add_attribute("noalias")
        inside = ir.IRBuilder(function.append_basic_block("entry"))
        a, b, c = (m._replace(pointer=p) for m, p in zip(matrices, function.args))
        _write(inside, a, b, c, dtype, accumulate, None)
        inside.ret_void()
    builder.call(function, [m.pointer for m in matrices])


def _write(
    builder: ir.IRBuilder,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    dtype: np.dtype[Any],
    accumulate: bool,
    finish: Finish | None,
) -> None:
    target = host()
    lanes = target.lanes(dtype)
    _, transposed, method = min(_ways(a, b, c, lanes))
    if transposed:
        a, b, c = b.T, a.T, c.T
    element = ir.FloatType() if dtype.char == "f" else ir.DoubleType()

    def finished(value: ir.Value, row: ir.Value, column: ir.Value) -> ir.Value:
        if finish is None:
            return value
        return finish(builder, value, *((column, row) if transposed else (row, column)))

    writer = _Writer(builder, a, b, c, element, lanes, target.registers, accumulate, finished)
    if method == "dots":
        writer.dots()
    else:
        writer.panels(packed=method == "packed")


def _ways(a: Matrix, b: Matrix, c: Matrix, lanes: int) -> Iterator[tuple[float, bool, Method]]:
    """Yield the ways to compute a product, with their estimated costs in cycles."""
    for transposed in (False, True):
        x, y, z = (b.T, a.T, c.T) if transposed else (a, b, c)
        (m, k), n = x.shape, y.shape[1]
        scattered = 0 if z.contiguous(1) else 2 * m * n
        tiles = m * k * sum(1 for _ in _vectors(n, lanes)) / 2 + scattered
        if y.contiguous(1):
            yield tiles, transposed, "direct"
        else:
            yield tiles + k * n, transposed, "packed"
        if x.contiguous(1) and y.contiguous(0) and k > 1:
            yield m * n * (ceil(k / lanes) + 4), transposed, "dots"


class _Vector(NamedTuple):
    """A vector of a row: its first column, its lanes, and how many of them are used."""

    column: int
    lanes: int
    used: int


def _vectors(n: int, lanes: int) -> list[_Vector]:
    """Cut a row into vectors; the last has the least power of two of lanes that holds the rest."""
    full = n - n % lanes
    vectors = [_Vector(column, lanes, lanes) for column in range(0, full, lanes)]
    return [*vectors, _Vector(full, _power_of_2(n - full), n - full)] if n > full else vectors


def _power_of_2(n: int) -> int:
    """Return the least power of two that is not less."""
    return 1 << (n - 1).bit_length()


def _block(n: int, most: int) -> int:
    """Return the size of blocks of n rows: a divisor, where there is a large one."""
    return next((r for r in range(min(n, most), most // 2, -1) if n % r == 0), min(n, most))


@dataclass
class _Writer:
    """The code of one product."""

    builder: ir.IRBuilder
    a: Matrix
    b: Matrix
    c: Matrix
    element: ir.Type
    lanes: int
    registers: int
    accumulate: bool
    finished: Callable[[ir.Value, ir.Value, ir.Value], ir.Value]

    def panels(self, *, packed: bool) -> None:
        """Write the result by panels: some vectors of columns, of all rows."""
        m, n = self.c.shape
        vectors = _vectors(n, self.lanes)
        # Two vectors for each element of the left matrix; more, if a tile has few rows.
        across = min(len(vectors), max(2, _LATENCY // m))

        def panel(column: ir.Value, vectors: Sequence[_Vector]) -> None:
            right = self._moved(self.b, INDEX(0), column)
            if packed:
                right = self._packed(right, vectors[-1].column + vectors[-1].used)
            most = (self.registers - 1) // len(vectors) - 1
            self._blocks(m, most, lambda i, rows: self._tile(i, column, rows, right, vectors))

        whole = n // (across * self.lanes)
        width = across * self.lanes
        self._each(whole * width, width, lambda j: panel(j, vectors[:across]))
        if rest := vectors[whole * across :]:
            first = rest[0].column
            panel(INDEX(first), [v._replace(column=v.column - first) for v in rest])

    def _blocks(self, n: int, most: int, body: Callable[[ir.Value, int], None]) -> None:
        """Write `body` for blocks of n rows or columns: their first one and their size."""
        size = _block(n, most)
        full = n - n % size
        self._each(full, size, lambda i: body(i, size))
        if n > full:
            body(INDEX(full), n - full)

    def _each(self, count: int, step: int, body: Callable[[ir.Value], None]) -> None:
        """Write `body` for every index that is a multiple of `step`."""

        def round_(index: ir.Value, _: Sequence[ir.Value]) -> Sequence[ir.Value]:
            body(index)
            return ()

        loop(self.builder, count, step, (), round_)

    def _packed(self, right: Matrix, width: int) -> Matrix:
        """Copy a panel of the right matrix: its rows become contiguous."""
        k = right.shape[0]
        copy = Matrix(self._scratch(k * width), (k, width), (width, 1))

        def element(i: ir.Value, j: ir.Value) -> None:
            self._store(self._load(self._at(right, i, j), 1, 1), self._at(copy, i, j))

        self._each(k, 1, lambda i: self._each(width, 1, lambda j: element(i, j)))
        return copy

    def _scratch(self, size: int) -> ir.Value:
        """Return memory of the module, which all of its products use in turn."""
        module, name = self.builder.module, f"panel.{self.element}"
        panel = module.globals.get(name)
        if panel is None:
            panel = ir.GlobalVariable(module, ir.ArrayType(self.element, size), name)
            panel.type = ir.PointerType()  # llvmlite gives globals a pointer type of their own
            panel.linkage, panel.align = "internal", 64
        if size >= panel.value_type.count:
            panel.value_type = ir.ArrayType(self.element, size)
            panel.initializer = ir.Constant(panel.value_type, None)
        return panel

    def _tile(
        self, i: ir.Value, j: ir.Value, rows: int, right: Matrix, vectors: Sequence[_Vector]
    ) -> None:
        """Write a tile: `rows` rows from row i on, and vectors from column j on."""
        left = self._moved(self.a, i, INDEX(0))

        def add(q: ir.Value, sums: Sequence[ir.Value]) -> list[ir.Value]:
            ys = [self._load(self._at(right, q, INDEX(v.column)), v.lanes, v.used) for v in vectors]
            xs = [self._load(self._at(left, INDEX(row), q), 1, 1) for row in range(rows)]
            terms = [(splat(self.builder, x, v.lanes), y) for x in xs for v, y in zip(vectors, ys)]
            return [fma(self.builder, x, y, s) for (x, y), s in zip(terms, sums)]

        places = [(row, vector) for row in range(rows) for vector in vectors]
        empty = [zeros(vector_type(self.element, v.lanes)) for _, v in places]
        sums = self._sums(self.a.shape[1], empty, add)
        for value, (row, v) in zip(sums, places):
            used = shuffle(self.builder, value, value, range(v.used)) if v.used < v.lanes else value
            at = self.builder.add(i, INDEX(row)), self.builder.add(j, INDEX(v.column))
            self._finish(used, *at)

    def dots(self) -> None:
        """Write each element of the result as a dot product of two contiguous vectors."""
        (m, k), n = self.a.shape, self.b.shape[1]
        lanes = min(self.lanes, _power_of_2(k))

        def vector(row: Matrix, q: ir.Value, used: int) -> ir.Value:
            at = self.builder.mul(q, INDEX(lanes))
            return self._load(self._at(row, INDEX(0), at), lanes, used)

        def block(i: ir.Value, rows: int) -> None:
            self._blocks(n, 4, lambda j, columns: tile(i, j, rows, columns))

        def tile(i: ir.Value, j: ir.Value, rows: int, columns: int) -> None:
            left = [
                self._moved(self.a, self.builder.add(i, INDEX(r)), INDEX(0)) for r in range(rows)
            ]
            right = [
                self._moved(self.b.T, self.builder.add(j, INDEX(c)), INDEX(0))
                for c in range(columns)
            ]

            def add(q: ir.Value, sums: Sequence[ir.Value], used: int = lanes) -> list[ir.Value]:
                xs, ys = ([vector(row, q, used) for row in side] for side in (left, right))
                terms = ((x, y) for x in xs for y in ys)
                return [fma(self.builder, x, y, s) for (x, y), s in zip(terms, sums)]

            empty = [zeros(vector_type(self.element, lanes))] * (rows * columns)
            sums = self._sums(k // lanes, empty, add)
            if k % lanes:
                sums = add(INDEX(k // lanes), sums, k % lanes)
            for place, value in enumerate(sums):
                row, column = divmod(place, columns)
                at = self.builder.add(i, INDEX(row)), self.builder.add(j, INDEX(column))
                self._finish(sum_of_lanes(self.builder, value), *at)

        self._blocks(m, self.registers // 8, block)

    def _sums(
        self,
        rounds: int,
        empty: Sequence[ir.Value],
        add: Callable[[ir.Value, Sequence[ir.Value]], Sequence[ir.Value]],
    ) -> Sequence[ir.Value]:
        """Write the rounds that add to sums. Few sums are split, since each waits for itself."""
        size = len(empty)
        chains = ceil(_LATENCY / size) if rounds >= 2 * _LATENCY else 1

        def step(q: ir.Value, sums: Sequence[ir.Value]) -> list[ir.Value]:
            return [
                value
                for chain in range(chains)
                for value in add(
                    self.builder.add(q, INDEX(chain)), sums[chain * size : (chain + 1) * size]
                )
            ]

        full = rounds - rounds % chains
        sums: Sequence[ir.Value] = [*empty] * chains
        if rounds * size <= _UNROLLED:
            for q in range(0, full, chains):
                sums = step(INDEX(q), sums)
        else:
            sums = loop(self.builder, full, chains, sums, step)
        total = sums[:size]
        for q in range(full, rounds):
            total = add(INDEX(q), total)
        for chain in range(1, chains):
            others = sums[chain * size : (chain + 1) * size]
            total = [self.builder.fadd(x, y) for x, y in zip(total, others)]
        return total

    def _finish(self, value: ir.Value, row: ir.Value, column: ir.Value) -> None:
        """Finish and store results that begin at a place; one by one if they are scattered."""
        builder, vector = self.builder, isinstance(value.type, ir.VectorType)
        if vector and not self.c.contiguous(1):
            for q in range(value.type.count):
                single = builder.extract_element(value, ir.IntType(32)(q))
                self._finish(single, row, builder.add(column, INDEX(q)))
            return
        pointer = self._at(self.c, row, column)
        if self.accumulate:
            lanes = value.type.count if vector else 1
            value = builder.fadd(self._load(pointer, lanes, lanes), value)
        self._store(self.finished(value, row, column), pointer)

    def _moved(self, matrix: Matrix, row: ir.Value, column: ir.Value) -> Matrix:
        return matrix._replace(pointer=self._at(matrix, row, column))

    def _at(self, matrix: Matrix, row: ir.Value, column: ir.Value) -> ir.Value:
        """Return the pointer to an element."""
        down, across = (
            self.builder.mul(index, INDEX(stride))
            for index, stride in zip((row, column), matrix.strides)
        )
        return self.builder.gep(
            matrix.pointer, [self.builder.add(down, across)], source_etype=self.element
        )

    def _load(self, pointer: ir.Value, lanes: int, used: int) -> ir.Value:
        """Load `used` elements; the other lanes are zero."""
        kind = vector_type(self.element, used)
        value = self.builder.load(pointer, align=self._size(), typ=kind)
        if used == lanes:
            return value
        if used == 1:
            nothing = zeros(vector_type(self.element, lanes))
            return self.builder.insert_element(nothing, value, ir.IntType(32)(0))
        return shuffle(self.builder, value, zeros(kind), [min(q, used) for q in range(lanes)])

    def _store(self, value: ir.Value, pointer: ir.Value) -> None:
        self.builder.store(value, pointer, align=self._size())

    def _size(self) -> int:
        return 4 if self.element == ir.FloatType() else 8
