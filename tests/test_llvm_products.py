"""Products of small matrices in native code, against NumPy's in float64.

Every matrix lies directly beside a page of memory that may not be touched: an access outside of it
ends the process.
"""

import ctypes
import itertools
import mmap
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from llvmlite import ir

from tensorgrad.compiler.backends.llvm import products, runtime
from tests.depth import one_in

PAGE = mmap.PAGESIZE
NOBODY = 0  # may read or write: PROT_NONE
Layout = Callable[[int, int, np.dtype[Any], bool], np.ndarray]


def guarded(size: int, dtype: np.dtype[Any], at_end: bool) -> np.ndarray:
    """An array whose last element, or else its first, lies beside a forbidden page."""
    pages = max(1, -(-size * dtype.itemsize // PAGE))
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    if sys.platform != "win32":
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (0, pages + 1):
            protected = ctypes.CDLL(None).mprotect(
                ctypes.c_void_p(start + page * PAGE), ctypes.c_size_t(PAGE), NOBODY
            )
            assert protected == 0
    offset = PAGE + (pages * PAGE - size * dtype.itemsize if at_end else 0)
    return np.frombuffer(memory, dtype, size, offset)


def by_rows(m: int, n: int, dtype: np.dtype[Any], at_end: bool) -> np.ndarray:
    return guarded(m * n, dtype, at_end).reshape(m, n)


def by_columns(m: int, n: int, dtype: np.dtype[Any], at_end: bool) -> np.ndarray:
    return by_rows(n, m, dtype, at_end).T


def part_of_rows(m: int, n: int, dtype: np.dtype[Any], at_end: bool) -> np.ndarray:
    return by_rows(m, n + 3, dtype, at_end)[:, 3 if at_end else 0 :][:, :n]


def scattered(m: int, n: int, dtype: np.dtype[Any], at_end: bool) -> np.ndarray:
    return by_rows(2 * m, 3 * n, dtype, at_end)[::2, ::3]


def reversed_(m: int, n: int, dtype: np.dtype[Any], at_end: bool) -> np.ndarray:
    return by_rows(m, n, dtype, at_end)[::-1, ::-1]


LAYOUTS: list[Layout] = [by_rows, by_columns, part_of_rows, scattered, reversed_]


def native(a: np.ndarray, b: np.ndarray, c: np.ndarray, **options: Any) -> runtime.Library:
    """Compute c = a @ b by native code; return the library."""
    module = ir.Module("products")
    builder, arguments = runtime.builtin_function(module, "product")
    matrices = [
        products.Matrix(
            runtime.array_data(builder, arguments, k),
            x.shape,
            (x.strides[0] // x.itemsize, x.strides[1] // x.itemsize),
        )
        for k, x in enumerate((a, b, c))
    ]
    products.emit(builder, *matrices, a.dtype, **options)
    builder.ret(runtime.none(builder))
    library = runtime.compile(module)
    runtime.builtin(library, "product")(a, b, c)
    return library


def filled(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    array[...] = rng.standard_normal(array.shape)
    return array


def check(
    shape: tuple[int, int, int],
    layouts: tuple[Layout, Layout, Layout] = (by_rows, by_rows, by_rows),
    dtype: Any = np.float32,
    at_end: bool = True,
    **options: Any,
) -> None:
    """Compare with NumPy; the bound is that of a sum in any order."""
    (m, k, n), rng = shape, np.random.default_rng(0)
    sizes = (m, k), (k, n), (m, n)
    a, b, c = (
        filled(layout(*size, np.dtype(dtype), at_end), rng) for layout, size in zip(layouts, sizes)
    )
    old, kept = c.astype(np.float64), (a.copy(), b.copy())
    native(a, b, c, **options)
    wanted, scale = a.astype(np.float64) @ b, abs(a).astype(np.float64) @ abs(b)
    if options.get("accumulate"):
        wanted, scale = wanted + old, scale + abs(old)
    error = abs(c - wanted)
    bound = (k + 1) * np.finfo(dtype).eps * scale
    assert np.all(error <= bound), (shape, layouts, dtype, at_end)
    assert np.array_equal(a, kept[0]) and np.array_equal(b, kept[1])


STEPS = [  # of networks: the forward product, and the gradients of its operands
    shape
    for batch, *sizes in [(4, 3, 4, 4, 1), (100, 2, 16, 16, 1), (64, 64, 128, 10)]
    for i, o in itertools.pairwise(sizes)
    for shape in ((batch, i, o), (batch, o, i), (i, batch, o))
]


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("shape", one_in(4, STEPS), ids=str)
def test_products_of_networks(shape: tuple[int, int, int], dtype: str) -> None:
    check(shape, dtype=dtype)


@pytest.mark.parametrize(
    "shape", one_in(60, itertools.product([1, 3, 7, 12, 17, 40], repeat=3)), ids=str
)
def test_odd_shapes_by_rows_and_columns(shape: tuple[int, int, int]) -> None:
    for k, layouts in enumerate(itertools.product([by_rows, by_columns], repeat=3)):
        check(shape, layouts, "fd"[k % 2], at_end=bool(k // 2 % 2))


@pytest.mark.parametrize(
    "layouts",
    one_in(12, itertools.product(LAYOUTS, repeat=3)),
    ids=lambda layouts: "-".join(layout.__name__ for layout in layouts),
)
def test_strides(layouts: tuple[Layout, Layout, Layout]) -> None:
    for shape, at_end in (((5, 9, 21), True), ((21, 2, 4), False)):
        check(shape, layouts, at_end=at_end)


@pytest.mark.parametrize(
    ("vector_bytes", "registers"), [(16, 32), (16, 16), (16, 8), (32, 16), (64, 32)]
)
@pytest.mark.parametrize("shape", [(1, 20, 270), *one_in(2, [(13, 11, 37), (37, 64, 2)])], ids=str)
def test_vectors_of_other_processors(
    shape: tuple[int, int, int], vector_bytes: int, registers: int
) -> None:
    other = replace(runtime.host(), vector_bytes=vector_bytes, registers=registers)
    with runtime.made_for(other):
        for layout in (by_rows, by_columns):
            check(shape, (by_rows, layout, layout))


@pytest.mark.parametrize("shape", one_in(3, [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)]), ids=str)
def test_nothing_to_add(shape: tuple[int, int, int]) -> None:
    check(shape)


def test_a_sum_of_nothing_is_zero() -> None:
    for layout in (by_rows, by_columns):
        check((5, 0, 3), (layout, layout, layout))


@pytest.mark.parametrize("layout", [by_rows, by_columns, scattered])
@pytest.mark.parametrize("shape", one_in(2, [(7, 5, 19), (1, 40, 1), (30, 4, 3)]), ids=str)
def test_accumulate(shape: tuple[int, int, int], layout: Layout) -> None:
    check(shape, (by_rows, by_rows, layout), accumulate=True)


def test_equal_rows_by_a_stride_of_zero() -> None:
    rng = np.random.default_rng(0)
    a, b = np.broadcast_to(rng.standard_normal(6), (5, 6)), rng.standard_normal((6, 11))
    native(a, b, c := np.zeros((5, 11)))
    assert np.allclose(c, a @ b, rtol=0, atol=1e-13)


@pytest.mark.parametrize("layout", [by_rows, by_columns])
@pytest.mark.parametrize("shape", [(3, 20, 21), (2, 33, 2)], ids=str)
def test_not_a_number_reaches_its_row_and_its_column_alone(
    shape: tuple[int, int, int], layout: Layout
) -> None:
    (m, k, n), dtype = shape, np.dtype("f")
    for value in (np.nan, np.inf):
        a, b, c = by_rows(m, k, dtype, True), layout(k, n, dtype, True), by_rows(m, n, dtype, True)
        a[...], b[...] = 1, 1
        a[1, k - 1] = b[k - 2, 1] = value
        native(a, b, c)
        wanted = np.where((np.arange(m)[:, None] == 1) | (np.arange(n) == 1), value, k)
        assert np.array_equal(c, wanted, equal_nan=True)


@pytest.mark.parametrize("layout", [by_rows, by_columns, scattered])
@pytest.mark.parametrize("shape", [(5, 3, 19), (9, 40, 1), (1, 3, 6)], ids=str)
def test_finish_sees_each_result_once_and_where_it_is(
    shape: tuple[int, int, int], layout: Layout
) -> None:
    """The results are doubled, and 1000 * row + column of the first lane is added to the lanes."""
    (m, k, n), rng, dtype = shape, np.random.default_rng(0), np.dtype("d")
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    c = layout(m, n, dtype, True)
    along = 1000 if m > 1 and c.strides[0] == 8 else 1

    def finish(builder: ir.IRBuilder, value: ir.Value, row: ir.Value, column: ir.Value) -> ir.Value:
        index = ir.IntType(64)
        at = builder.add(builder.mul(row, index(1000)), column)
        at = builder.sitofp(at, ir.DoubleType())
        lanes = value.type.count if isinstance(value.type, ir.VectorType) else 0
        doubled = builder.fadd(value, value)
        if not lanes:
            return builder.fadd(doubled, at)
        total = ir.Constant(value.type, ir.Undefined)
        for q in range(lanes):
            place = builder.fadd(at, ir.DoubleType()(float(along * q)))
            total = builder.insert_element(total, place, ir.IntType(32)(q))
        return builder.fadd(doubled, total)

    native(a, b, c, finish=finish)
    places = 1000.0 * np.arange(m)[:, None] + np.arange(n)
    assert np.allclose(c, 2 * (a @ b) + places, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("rows", [48, 61])
def test_lines_that_exclude_each_other_from_a_cache(rows: int, dtype: str) -> None:
    """Columns of the left matrix, and rows of the right one, lie multiples of 64 KB apart."""
    rng, k, n = np.random.default_rng(0), 20, 140
    columns, right = (rng.standard_normal((k, 1 << 14)).astype(dtype) for _ in range(2))
    a, b, c = columns[:, :rows].T, right[:, :n], np.zeros((rows, n), dtype)
    library = native(a, b, c)
    assert '@"left.' in library.ir and '@"panel.' in library.ir
    scale = (k + 1) * np.finfo(dtype).eps * (abs(a).astype(float) @ abs(b))
    assert np.all(abs(c - a.astype(float) @ b) <= scale)


def test_equal_products_share_a_function() -> None:
    module = ir.Module("twice")
    builder, arguments = runtime.builtin_function(module, "product")
    a, b, c, d = (runtime.array_data(builder, arguments, k) for k in range(4))
    square = (6, 6), (6, 1)
    for result in (c, d):
        left, right, to = (products.Matrix(pointer, *square) for pointer in (a, b, result))
        products.emit(builder, left, right, to, np.dtype("f"))
    builder.ret(runtime.none(builder))
    assert str(module).count("define internal") == 1
    arrays = [np.full((6, 6), value, np.float32) for value in (2, 3, 0, 0)]
    runtime.builtin(runtime.compile(module), "product")(*arrays)
    assert np.all(arrays[2] == 36) and np.all(arrays[3] == 36)


def test_products_pay_up_to_some_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert products.pays(64, 64, 128, np.dtype("f"))
    in_several, in_one = products._OPERATIONS[runtime.host().vector_bytes == 64]
    between = (in_several + in_one) // 8000, 20, 100
    for threads, pays in [(1, True), (2, False), (None, False)]:
        monkeypatch.setattr(products, "count_of_threads", lambda threads=threads: threads)
        assert products.pays(*between, np.dtype("f")) == pays
        assert not products.pays(2000, 2000, 2000, np.dtype("f"))
    assert not products.pays(4, 4, 4, np.dtype("i"))
