"""What the compiler's table says of NumPy's functions, compared with what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import tensorgrad as tg
from tensorgrad.compiler.functions import array_of, getitem, spread
from tensorgrad.compiler.ops import _ROWS, OPS, Op, op_of
from tensorgrad.engine.registry import name_of

Function = Callable[..., Any]
MASK = np.array([[True, False, True, False]] * 3)
PICK = np.array([2, 0])

# The other arguments of functions that need some; each gets a (3, 4) array first.
OTHERS: dict[Function, tuple[Any, ...]] = {
    np.astype: ("float32",), np.ndarray.astype: ("float32",), np.matmul: (np.ones((4, 2)),),
    np.dot: (np.ones((4, 2)),), np.ndarray.dot: (np.ones((4, 2)),), np.inner: (np.ones((2, 4)),),
    np.full_like: (2.0,), spread: ((2, 3, 4),), np.outer: (np.ones(2),), np.clip: (0.0, 1.0),
    np.ndarray.clip: (0.0, 1.0), np.take: (PICK,), np.ndarray.take: (PICK,),
    np.take_along_axis: (np.zeros((1, 4), int), 0), getitem: (np.s_[1:, ::2],),
    np.expand_dims: (1,), np.swapaxes: (0, 1), np.ndarray.swapaxes: (0, 1), np.moveaxis: (0, 1),
    np.broadcast_to: ((2, 3, 4),), sliding_window_view: ((2, 2),), np.reshape: ((4, 3),),
    np.ndarray.reshape: (4, 3), np.ndarray.view: (np.int64,),
}  # fmt: skip
# Calls of those that take something else; `more` may be an array `out`.
CALLS: dict[Function, Callable[..., Any]] = {
    np.where: lambda x: np.where(MASK, x, 0.0),
    np.concatenate: lambda x, **more: np.concatenate([x, x], **more),
    np.stack: lambda x, **more: np.stack([x, x], **more),
    np.einsum: lambda x, **more: np.einsum("ij->ji", x, **more),
    array_of: lambda x: array_of(x[0, 0], x.dtype),
}
ROWS = [(fun, op) for op, functions in _ROWS for fun in functions]
RETURNING = [fun for fun, op in ROWS if op.result in ("new", "view", "sealed", "either")]
CASES = [f for f in RETURNING if not OPS[f].shaped_by and OPS[f].pattern != "number"]
UFUNCS = [np.tanh, np.add.reduce, np.maximum.accumulate]
INTO = [f for f in CASES if OPS[f].out and OPS[f].pattern in ("reduction", "join", "other")]


def called(fun: Function, x: Any, **more: Any) -> Any:
    return np.asarray(
        CALLS[fun](x, **more) if fun in CALLS else fun(x, *OTHERS.get(fun, ()), **more)
    )


def layouts() -> list[Any]:
    """The same elements by rows, by columns, from the last to the first, and with gaps."""
    x = np.arange(12.0).reshape(3, 4)
    gaps = np.zeros((6, 8))
    gaps[::2, ::2] = x
    return [x, np.asfortranarray(x), np.flip(np.flip(x).copy()), gaps[::2, ::2]]


def test_a_function_has_one_row() -> None:
    counts = Counter(fun for fun, _ in ROWS)
    assert [name_of(fun) for fun, count in counts.items() if count > 1] == []


def test_nothing_is_assumed_of_other_functions() -> None:
    assert op_of(lambda x: x) == op_of(np.linalg.svd) == Op()


@pytest.mark.parametrize("fun", [*CASES, *UFUNCS], ids=name_of)
def test_whether_strides_decide_what_a_function_returns(fun: Function) -> None:
    result = op_of(fun).result
    results = [(np.may_share_memory(x, y), y) for x in layouts() for y in [called(fun, x)]]
    shares = {is_view for is_view, _ in results}
    assert result == "either" or len(shares) == 1
    assert result != "new" or shares == {False}
    assert result != "sealed" or not any(is_view and y.flags.writeable for is_view, y in results)


@pytest.mark.parametrize(
    "fun", [f for f in [*CASES, *UFUNCS] if op_of(f).static_shape], ids=name_of
)
def test_elements_do_not_decide_a_static_shape(fun: Function) -> None:
    x = layouts()[0]
    assert len({called(fun, y).shape for y in (x, np.zeros_like(x), np.full_like(x, np.nan))}) == 1


@pytest.mark.parametrize("fun", [f for f in INTO if f not in (array_of, spread)], ids=name_of)
def test_a_result_can_be_written_into_an_array(fun: Function) -> None:
    x = layouts()[0]
    expected = called(fun, x)
    out = np.full_like(expected, 7)
    assert called(fun, x, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("number", [-1, 256, 2**70])
def test_numbers_that_a_dtype_does_not_hold_are_compared(backend: str, number: int) -> None:
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    x = np.array([0, 255], np.uint8)
    compiled = tg.compile(lambda x: (x < number, np.equal(number, x)), backend=backend)
    for _ in range(2):
        for got, expected in zip(compiled(x), (x < number, x == number), strict=True):
            np.testing.assert_array_equal(got, expected)
