"""Convolutions in native code: products of windows that nobody copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorgrad as tg

from .depth import one_in
from .oracles import assert_same

pytest.importorskip("llvmlite")

from llvmlite import ir

from tensorgrad.compiler.backends.llvm import contractions, runtime
from tensorgrad.compiler.backends.llvm.kernels import Axis, Contraction
from tensorgrad.compiler.ir import new_value

from .test_llvm_products import guarded

CASES: list[tuple[tuple[int, ...], int, tuple[int, ...], dict[str, Any]]] = [
    # the input, the output channels, the window, and options
    ((2, 3, 6, 6), 8, (3, 3), {}),
    ((2, 4, 7, 5), 8, (3, 3), {"padding": 1}),
    ((2, 4, 9, 9), 9, (3, 3), {"stride": 2, "padding": 1}),
    ((2, 4, 9, 8), 8, (2, 3), {"dilation": 2}),
    ((2, 4, 9, 9), 8, (3, 3), {"groups": 2, "padding": 2}),
    ((2, 8, 5, 5), 8, (3, 3), {"groups": 8, "padding": 1}),
    ((2, 6, 12, 12), 33, (3, 3), {"padding": 1}),
    ((3, 1, 8, 8), 16, (3, 3), {"padding": 1}),
    ((3, 2, 5, 5), 4, (1, 1), {}),
    ((3, 1, 6, 5), 5, (1, 1), {"stride": 2}),
    ((2, 3, 5, 5), 2, (3, 3), {}),
    ((90, 3, 16, 16), 5, (3, 3), {"padding": 2}),
    ((4, 3, 50), 7, (5,), {"stride": 3, "padding": 2}),
    ((2, 3, 40), 17, (4,), {"dilation": 3}),
]


@pytest.mark.parametrize(("shape", "channels", "kernel", "options"), one_in(4, CASES))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolutions_and_their_pullbacks(
    shape: tuple[int, ...], channels: int, kernel: Any, options: Any, dtype: Any
) -> None:
    """They equal those of NumPy's program, and are one native function."""
    conv = tg.nn.conv1d if len(kernel) == 1 else tg.nn.conv2d
    rng = np.random.default_rng(0)
    weight_shape = channels, shape[1] // options.get("groups", 1), *kernel
    x, w, b = (rng.normal(size=size).astype(dtype) for size in (shape, weight_shape, channels))

    def f(x: Any, w: Any, b: Any) -> Any:
        y, pullback = tg.vjp(lambda x, w, b: conv(x, w, b, **options), x, w, b)
        return y, *pullback(np.sin(y))

    native, own = tg.compile(f, backend="llvm"), tg.compile(f, backend="numpy")
    plan = native.lower(x, w, b)
    assert len(plan.steps) == 1
    native(x, w, b), own(x, w, b)
    for found, expected in zip(native(x, w, b), own(x, w, b), strict=True):
        assert_same(found, expected, roundings=64, least=float(np.abs(expected).max()))


POOLS: list[tuple[Any, dict[str, Any]]] = [
    (tg.nn.max_pool2d, {"kernel_size": 2}),
    (tg.nn.max_pool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    (tg.nn.max_pool2d, {"kernel_size": 2, "dilation": 2, "stride": 1}),
    (tg.nn.avg_pool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    (tg.nn.avg_pool2d, {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
    (tg.nn.adaptive_avg_pool2d, {"output_size": 3}),
]


@pytest.mark.parametrize(("pool", "options"), one_in(3, POOLS))
def test_pooling_is_one_native_function(pool: Any, options: Any) -> None:
    """And so are its derivatives, the second ones too; equal elements and NaN are as usual."""
    x = np.random.default_rng(0).integers(-2, 3, (2, 3, 7, 7)).astype(np.float64)
    x[0, 0, 0, 0] = np.nan

    def f(x: Any, v: Any) -> Any:
        gradient = tg.grad(lambda x: np.sum(np.sin(pool(x, **options))))
        return pool(x, **options), *tg.jvp(gradient, (x,), (v,))

    native, own = tg.compile(f, backend="llvm"), tg.compile(f, backend="numpy")
    v = np.cos(np.arange(x.size)).reshape(x.shape)
    assert len(native.lower(x, v).steps) == 1
    for _ in range(2):
        assert_same(native(x, v), own(x, v), roundings=16, least=1.0)


def test_a_copy_that_is_changed_is_no_view() -> None:
    """The product is that of the copy as it was, or of the array as it was copied."""

    def f(x: Any, w: Any) -> Any:
        z = x * 1.0
        rows = np.reshape(z.T, (6, 4))
        first = rows @ w
        z[0] = 0.0
        second = rows @ w
        rows[1] = 1.0
        return first, second, rows @ w

    x, w = np.arange(24.0).reshape(4, 3, 2), np.ones((4, 4))
    assert_native_is(f, x, w)


def test_a_sum_of_one_term() -> None:
    x, w = np.arange(24.0).reshape(4, 3, 2), np.arange(10.0)[np.newaxis, ::2]
    assert_native_is(lambda x, w: np.reshape(x.T, (24, 1)) @ w, x, w)


def test_a_copy_that_the_same_loop_changes_is_no_view() -> None:
    """Pooling copies the first elements of windows, and takes the maximum with others in place."""
    x, w = np.random.default_rng(0).normal(size=(8, 6, 4, 4)), np.ones((24, 5))

    def f(x: Any, w: Any) -> Any:
        rows = np.moveaxis(np.moveaxis(x, 1, 3).copy(), 3, 1)  # channels innermost in memory
        return tg.nn.max_pool2d(rows, 2).reshape(8, -1) @ w, tg.nn.max_pool2d(x, 2)

    assert_native_is(f, x, w)

    def maximum(x: Any, w: Any) -> Any:
        y = x[::2].copy()
        np.maximum(y, x[1::2], out=y)
        return y @ w

    assert_native_is(maximum, x[0, 0] @ np.ones((4, 6)), np.ones((6, 5)))


def assert_native_is(f: Any, x: Any, w: Any) -> None:
    native = tg.compile(f, backend="llvm")
    native(x, w)
    assert_same(native(x, w), f(x, w), roundings=4)


# -- the code itself


def strided(axes: list[tuple[int, int]], dtype: Any, at_end: bool) -> np.ndarray:
    """An array with these sizes and steps, beside a page of memory that may not be touched."""
    size = 1 + sum((n - 1) * step for n, step in axes)
    memory = guarded(size, np.dtype(dtype), at_end)
    memory[...] = np.random.default_rng(size).integers(-4, 5, size)
    strides = [step * memory.itemsize for _, step in axes]
    return np.lib.stride_tricks.as_strided(memory, [n for n, _ in axes], strides)


PRODUCTS: list[tuple[list[Axis], list[Axis], list[Axis], Axis]] = [
    ([], [Axis(5, 7, 0, 9)], [Axis(3, 2, 9, 0)], Axis(9, 0, 1, 1)),
    ([Axis(2, 40, 0, 64)], [Axis(4, 8, 0, 16)], [Axis(3, 8, 32, 0), Axis(2, 1, 8, 0)],
     Axis(7, 0, 1, 1)),
    ([Axis(2, 9, 70, 900)], [Axis(45, 3, 0, 18)], [Axis(2, 1, 1, 0)], Axis(17, 0, 2, 1)),
    ([], [Axis(3, 9, 0, 600), Axis(3, 1, 0, 200), Axis(7, 0, 0, 20)], [Axis(4, 3, 40, 0)],
     Axis(20, 0, 2, 1)),
    ([], [Axis(3, 4, 0, 70)], [Axis(3, 9000, 40 * 700, 0), Axis(700, 2, 40, 0)],
     Axis(40, 0, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(PRODUCTS)))
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("at_end", [False, True])
def test_nothing_around_the_operands_is_touched(number: int, adds: bool, at_end: bool) -> None:
    batch, rows, terms, columns = PRODUCTS[number]
    dtype = (np.float32, np.float64)[number % 2]
    sides = []
    for field in ("left", "right", "result"):
        axes = [(a.size, getattr(a, field)) for a in (*batch, *rows, *terms, columns)]
        sides.append(strided(axes, dtype, at_end))
    count = len(batch) + len(rows)
    left, right, result = sides
    before = result.copy()
    kernel = Contraction(
        tuple(batch), tuple(rows), tuple(terms), columns, [new_value((1,), np.dtype(dtype))] * 3,
        adds,
    )  # fmt: skip
    module = ir.Module("contraction")
    builder, arguments = runtime.builtin_function(module, "contraction")
    pointers = [runtime.array_data(builder, arguments, k) for k in range(3)]
    contractions.emit(builder, kernel, pointers)
    builder.ret(runtime.none(builder))
    runtime.builtin(runtime.compile(module), "contraction")(left, right, result)
    axes = tuple(range(count, count + len(terms)))
    exact = np.sum(left.astype(np.float64) * right, axis=axes, keepdims=True)
    expected = np.broadcast_to(exact + (before if adds else 0), result.shape)
    first = (slice(None),) * count + (0,) * len(terms)
    np.testing.assert_array_equal(result[first], expected[first])
