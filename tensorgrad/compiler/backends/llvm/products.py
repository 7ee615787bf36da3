"""Products of small matrices as LLVM IR, by tiles of the result that stay in registers.

The scheme is that of GotoBLAS (K. Goto and R. van de Geijn, Anatomy of high-performance matrix
multiplication, 2008) without its blocks for the caches, which small matrices do not need; only what
a cache could not keep, as its rows or columns exclude each other there, is copied first. A tile
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
from dataclasses import dataclass, replace
from math import ceil, gcd
from typing import Any, Literal, NamedTuple

import numpy as np
from llvmlite import ir

from ...costs import count_of_threads
from .loops import INDEX, fma, loop, shuffle, splat, sum_of_lanes, vector_type, zeros
from .matrices import Matrix, Writer, plus, times
from .runtime import target

# Takes results, and the row and the column of the first: a single one, or a vector of results that
# follow each other in memory along a row, or along a column where columns are contiguous.
Finish = Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]
Method = Literal["direct", "packed", "dots"]

_LATENCY = 8  # multiply-adds in flight that keep the units of a processor busy
# Up to here products took about as long as OpenBLAS's, in several threads and in one. By vectors of
# 32 bytes: 0.4 to 1.1 of its time in one thread, and beyond up to 1.2. By 64 bytes: 0.6 to 1.04 of
# that of its AVX-512 code, and 0.3 to 0.6 of that of its AVX2 code.
_OPERATIONS = {False: (2_000_000, 10_000_000), True: (60_000_000, 2_200_000_000)}
_DEEPEST = 2048  # terms of a sum, of a panel that lies in the second cache
# Of lines whose addresses differ by multiples of so many bytes, the first and the second cache keep
# so many; a processor's are as large, or larger.
_FIRST, _SECOND, _LINE = (1 << 12, 8), (1 << 16, 16), 64
_REUSED = 32  # rows, for which it pays to copy what the cache cannot keep
_UNROLLED = 64  # multiply-adds of a tile that are written without a loop


def pays(m: int, k: int, n: int, dtype: np.dtype[Any]) -> bool:
    """Tell whether the product of an m x k and a k x n matrix is as fast as BLAS makes it.

    Where there is no BLAS, each is.
    """
    if dtype.char not in "fd" or target().alone:
        return dtype.char in "fd"
    operations = 2 * m * k * n
    in_several, in_one = _OPERATIONS[target().vector_bytes == 64]
    if operations <= in_several:
        return True
    return operations <= in_one and k <= _DEEPEST and count_of_threads() == 1


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
    lanes = target().lanes(dtype)
    _, transposed, method = min(_ways(a, b, c, lanes, finish is not None or accumulate))
    if transposed:
        a, b, c = b.T, a.T, c.T
    element = ir.FloatType() if dtype.char == "f" else ir.DoubleType()

    def finished(value: ir.Value, row: ir.Value, column: ir.Value) -> ir.Value:
        if finish is None:
            return value
        return finish(builder, value, *((column, row) if transposed else (row, column)))

    code = _Product(builder, element, lanes, target().registers, a, b, c, accumulate, finished)
    if method == "dots":
        code.dots()
    elif c.contiguous(1):
        code.panels(packed=method == "packed")
    else:
        code.scattered(packed=method == "packed")


def _ways(
    a: Matrix, b: Matrix, c: Matrix, lanes: int, in_place: bool
) -> Iterator[tuple[float, bool, Method]]:
    """Yield the ways to compute a product, with their estimated costs in cycles.

    `in_place` are results that have to be made where they are stored.
    """
    for transposed in (False, True):
        x, y, z = (b.T, a.T, c.T) if transposed else (a, b, c)
        (m, k), n = x.shape, y.shape[1]
        if in_place and z.contiguous(0) and not z.contiguous(1):
            continue
        scattered = 0 if z.contiguous(1) else m * n
        panels = ceil(n / (2 * lanes))
        rounds = k * panels * ceil(m / ((target().registers - 1) // 2 - 1))
        size = target().vector_bytes // lanes
        left = 0 if x.contiguous(1) else _wait(x.strides[1] * size, k)
        tiles = m * k * len(vectors_of(n, lanes)) / 2 + scattered + rounds * left
        if y.contiguous(1):
            yield tiles + rounds * _wait(y.strides[0] * size, k), transposed, "direct"
            yield tiles + 7 * k * panels, transposed, "packed"
        else:
            yield tiles + k * n / 2, transposed, "packed"
        if x.contiguous(1) and y.contiguous(0) and k > 1:
            yield m * n * (ceil(k / lanes) + 4), transposed, "dots"


def _wait(apart: int, count: int) -> int:
    """The cycles that a tile waits for elements of a matrix, `count` of them so many bytes apart.

    What lies a multiple of 4,096 bytes apart shares a set of a cache, which holds about a dozen:
    then each tile loads it anew. It took 18 to 27 cycles; and 1 to 2 at 1,024 bytes.
    """
    return 0 if count < 64 or apart % 1024 else 2 if apart % 4096 else 20


class Vector(NamedTuple):
    """A vector of a row: its first column, its lanes, and how many of them are used."""

    column: int
    lanes: int
    used: int


def vectors_of(n: int, lanes: int) -> list[Vector]:
    """Cut a row into vectors; the last has the least power of two of lanes that holds the rest."""
    full = n - n % lanes
    vectors = [Vector(column, lanes, lanes) for column in range(0, full, lanes)]
    return [*vectors, Vector(full, _power_of_2(n - full), n - full)] if n > full else vectors


def _power_of_2(n: int) -> int:
    """Return the least power of two that is not less."""
    return 1 << (n - 1).bit_length()


def block_size(n: int, most: int) -> int:
    """Return the size of blocks of n rows: a divisor, where there is a large one."""
    return next((r for r in range(min(n, most), most // 2, -1) if n % r == 0), min(n, most))


@dataclass
class _Product(Writer):
    """Writes the code of one product, whose result has contiguous rows."""

    registers: int
    a: Matrix
    b: Matrix
    c: Matrix
    accumulate: bool
    finished: Callable[[ir.Value, ir.Value, ir.Value], ir.Value]

    def panels(self, *, packed: bool) -> None:
        """Write the result by panels: some vectors of columns, of all rows."""
        (m, n), k = self.c.shape, self.b.shape[0]
        vectors = vectors_of(n, self.lanes)
        # Two vectors for each element of the left matrix; more, if a tile has few rows.
        across = min(len(vectors), max(2, _LATENCY // m), (self.registers - 1) // 2)
        packed = packed or (m >= _REUSED and self._collides(self.b.strides[0], _SECOND))
        is_far = self.a.contiguous(0) and self._collides(self.a.strides[1], _FIRST)
        is_far = is_far and len(vectors) >= _REUSED / 4
        height = (self.registers - 1) // across - 1
        left = self._left_packed(height) if is_far else self.a

        def write(column: ir.Value, vectors: Sequence[Vector]) -> None:
            right = self.moved(self.b, INDEX(0), column)
            if packed:
                panel = self.scratch("panel", (k, vectors[-1].column + vectors[-1].used))
                self.copy(right._replace(shape=panel.shape), panel)
                right = panel

            def tile(i: ir.Value, rows: int) -> None:
                block = self._block_of(left, i, rows) if is_far else self.moved(left, i, INDEX(0))
                self._tile(i, column, rows, block, right, vectors)

            most = height if is_far else (self.registers - 1) // len(vectors) - 1
            self._blocks(m, most, tile)

        whole = n // (across * self.lanes)
        width = across * self.lanes
        self.each(whole * width, width, lambda j: write(j, vectors[:across]))
        if rest := vectors[whole * across :]:
            first = rest[0].column
            write(INDEX(first), [v._replace(column=v.column - first) for v in rest])

    def _collides(self, stride: int, cache: tuple[int, int]) -> bool:
        """Whether elements along the sum, so far apart, exclude each other from a cache."""
        (period, ways), size = cache, 4 if self.element == ir.FloatType() else 8
        lines = period // gcd(max(stride * size, _LINE), period)
        return self.a.shape[1] > lines * ways

    def _left_packed(self, height: int) -> Matrix:
        """Copy the left matrix by blocks of rows, each of them by columns."""
        packed = self.scratch("left", self.a.shape)

        def copy(i: ir.Value, rows: int) -> None:
            source, target = self.moved(self.a, i, INDEX(0)), self._block_of(packed, i, rows)

            def column(q: ir.Value) -> None:
                value = self.load(self.at(source, INDEX(0), q), rows)
                self.store(value, self.at(target, INDEX(0), q))

            self.each(self.a.shape[1], 1, column)

        self._blocks(self.a.shape[0], height, copy)
        return packed

    def _block_of(self, packed: Matrix, i: ir.Value, rows: int) -> Matrix:
        """The block of a packed matrix that begins with row i."""
        return Matrix(self.at(packed, i, INDEX(0)), (rows, packed.shape[1]), (1, rows))

    def scattered(self, *, packed: bool) -> None:
        """Write a result whose rows are not contiguous: make it elsewhere and copy it."""
        rows = self.scratch("result", self.c.shape)
        replace(self, c=rows, accumulate=False, finished=lambda v, *_: v).panels(packed=packed)
        if self.c.contiguous(0):
            self.copy(rows.T, self.c.T)
            return

        def single(i: ir.Value, j: ir.Value) -> None:
            self._store(self.load(self.at(rows, i, j)), i, j)

        m, n = self.c.shape
        self.each(m, 1, lambda i: self.each(n, 1, lambda j: single(i, j)))

    def _blocks(self, n: int, most: int, body: Callable[[ir.Value, int], None]) -> None:
        """Write `body` for blocks of n rows or columns: their first one and their size."""
        size = block_size(n, most)
        full = n - n % size
        self.each(full, size, lambda i: body(i, size))
        if n > full:
            body(INDEX(full), n - full)

    def _tile(
        self,
        i: ir.Value,
        j: ir.Value,
        rows: int,
        left: Matrix,
        right: Matrix,
        vectors: Sequence[Vector],
    ) -> None:
        """Write a tile: `rows` rows from row i on, and vectors from column j on.

        Each element of the left matrix is loaded right before it is used: a register less.
        """

        def add(q: ir.Value, sums: Sequence[ir.Value]) -> list[ir.Value]:
            ys = [self.load(self.at(right, q, INDEX(v.column)), v.lanes, v.used) for v in vectors]
            totals = [*sums]
            for row in range(rows):
                x = self.load(self.at(left, INDEX(row), q))
                for place, (v, y) in enumerate(zip(vectors, ys), row * len(vectors)):
                    xs = splat(self.builder, x, v.lanes)
                    totals[place] = fma(self.builder, xs, y, totals[place])
            return totals

        places = [(row, vector) for row in range(rows) for vector in vectors]
        empty = [zeros(vector_type(self.element, v.lanes)) for _, v in places]
        sums = self._sums(self.a.shape[1], empty, add)
        for value, (row, v) in zip(sums, places):
            used = shuffle(self.builder, value, value, range(v.used)) if v.used < v.lanes else value
            at = plus(self.builder, i, INDEX(row)), plus(self.builder, j, INDEX(v.column))
            self._store(used, *at)

    def dots(self) -> None:
        """Write each element of the result as a dot product of two contiguous vectors."""
        (m, k), n = self.a.shape, self.b.shape[1]
        lanes = min(self.lanes, _power_of_2(k))

        def vector(row: Matrix, q: ir.Value, used: int) -> ir.Value:
            at = times(self.builder, q, lanes)
            return self.load(self.at(row, INDEX(0), at), lanes, used)

        def block(i: ir.Value, rows: int) -> None:
            self._blocks(n, 4, lambda j, columns: tile(i, j, rows, columns))

        def tile(i: ir.Value, j: ir.Value, rows: int, columns: int) -> None:
            left = [
                self.moved(self.a, plus(self.builder, i, INDEX(r)), INDEX(0)) for r in range(rows)
            ]
            right = [
                self.moved(self.b.T, plus(self.builder, j, INDEX(c)), INDEX(0))
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
                at = plus(self.builder, i, INDEX(row)), plus(self.builder, j, INDEX(column))
                self._store(sum_of_lanes(self.builder, value), *at)

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
                    plus(self.builder, q, INDEX(chain)), sums[chain * size : (chain + 1) * size]
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

    def _store(self, value: ir.Value, row: ir.Value, column: ir.Value) -> None:
        """Finish and store results that begin at a place."""
        pointer = self.at(self.c, row, column)
        if self.accumulate:
            lanes = value.type.count if isinstance(value.type, ir.VectorType) else 1
            value = self.builder.fadd(self.load(pointer, lanes), value)
        self.store(self.finished(value, row, column), pointer)
