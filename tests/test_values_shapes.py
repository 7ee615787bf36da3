"""Shapes, indexing, sorting: ties, layouts, operands of other kinds, and what is refused."""

import time
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.rules.indexing import scatter

from .oracles import leaf

INF, NAN = np.inf, np.nan
windows = np.lib.stride_tricks.sliding_window_view


def weights(shape: Any) -> Any:
    """The cotangent 1, 2, 3, ..."""
    return np.arange(1.0, np.prod(shape, dtype=int) + 1).reshape(shape)


# -- ties, zeros, infinities and NaNs


@pytest.mark.parametrize(
    ("fun", "args", "gradients"),
    [
        # the first of equal elements comes first
        (np.sort, [[2.0, 1.0, 2.0, 1.0]], [[3, 1, 4, 2]]),
        (np.sort, [[NAN, 1.0, -INF, NAN]], [[3, 2, 1, 4]]),
        (np.sort, [[0.0, -0.0, 0.0]], [[1, 2, 3]]),
        (lambda x: np.partition(x, 2)[2], [[2.0, 1.0, 2.0]], [[0, 0, 1]]),
        (np.unique, [[2.0, 1.0, 2.0]], [[2, 1, 0]]),
        (np.unique, [[NAN, 1.0, NAN]], [[2, 1, 0]]),
        (lambda x: np.unique(x, equal_nan=False), [[NAN, 1.0, NAN]], [[2, 1, 3]]),
        (np.unique_values, [[NAN, 1.0, NAN, 1.0]], [[2, 1, 3, 0]]),
        (np.union1d, [[1.0, 2.0], [2.0, 3.0]], [[1, 2], [0, 3]]),
        (np.intersect1d, [[1.0, 2.0], [2.0, 3.0]], [[0, 1], [0, 0]]),
        (np.setdiff1d, [[1.0, NAN, NAN], [1.0]], [[0, 1, 0], [0]]),
        (lambda x: np.setdiff1d(x, [2.0], assume_unique=True), [[3.0, 3.0, 2.0]], [[1, 2, 0]]),
        (lambda x: np.pad(x, 1, "maximum"), [[1.0, 1.0]], [[4.5, 5.5]]),
        (lambda x: np.pad(x, 1, "mean", stat_length=3), [[1.0, 3.0]], [[4.5, 5.5]]),
        (lambda x: np.pad(x, 2, "reflect", reflect_type="odd"), [[5.0]], [[15]]),
        # pieces that overlap, along the last axis
        (lambda x: np.concatenate(np.array_split(x, [2, 1], axis=1), axis=1),
         [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]], [[[1, 5, 4], [5, 13, 8]]]),
        # zeros in the middle keep their gradient, zeros at the ends have none
        (np.trim_zeros, [[0.0, 3.0, 0.0, NAN, 0.0]], [[0, 1, 2, 3, 0]]),
        (lambda x: np.trim_zeros(x, "f"), [[0.0, -0.0, 2.0, 0.0]], [[0, 0, 1, 2]]),
        # what is not taken has no gradient, whatever its value
        (np.tril, [[[1.0, NAN], [INF, 2.0]]], [[[1, 0], [3, 4]]]),
        (lambda x: np.select([x > 0], [x], 7.0), [[NAN, INF, -1.0]], [[0, 2, 0]]),
        (lambda x, y: np.choose([1, 0], [x, y]), [[NAN, 2.0], [3.0, INF]], [[0, 2], [1, 0]]),
        (lambda x: np.pad(x, 1)[1:-1], [[NAN, INF]], [[1, 2]]),
        (lambda x: np.repeat(x, [0, 2]), [[INF, NAN]], [[0, 3]]),
        (lambda x: x[[0, 0, -2]], [[INF, NAN]], [[6, 0]]),
    ],
)  # fmt: skip
def test_value_without_a_derivative(fun: Any, args: list[Any], gradients: list[Any]) -> None:
    leaves = [leaf(a) for a in args]
    out = fun(*leaves)
    assert_array_equal(out.data, fun(*map(np.asarray, args)))
    out.backward(weights(out.shape))
    for x, expected in zip(leaves, gradients, strict=True):
        assert_array_equal(x.grad, expected)


def test_other_results_of_unique_are_untracked() -> None:
    x = leaf([3.0, 1.0, 3.0])
    options = {"return_index": True, "return_inverse": True, "return_counts": True}
    for results in np.unique(x, **options), np.unique_all(x):
        for actual, expected in zip(results, np.unique(x.data, **options), strict=True):
            assert_array_equal(actual.data, expected)
        assert [r.requires_grad for r in results] == [True, False, False, False]
    assert type(np.unique_counts(x)) is type(np.unique_counts(x.data))


# -- the memory layout, where NumPy's result depends on it


LAYOUTS: list[Any] = [
    lambda a: a, lambda a: a.T, lambda a: a[::-1], lambda a: a[:, ::2], lambda a: a[:, :1].T,
    lambda a: np.array(a, order="F"), lambda a: np.moveaxis(a, 0, -1)[::-1, :, ::2],
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", ["C", "F", "A", "K"])
def test_order(layout: Any, order: Any) -> None:
    a = layout(np.arange(24.0).reshape(2, 3, 4))
    calls: list[Any] = [lambda x: np.ravel(x, order), lambda x: np.ravel(x, order=order.lower())]
    if order != "K":
        calls += [lambda x: np.reshape(x, (-1, 2), order), lambda x: np.reshape(x, -1, order=order)]
    for fun in calls:
        x = tg.asarray(a, copy=False)
        x.requires_grad = True
        y = fun(x)
        assert_array_equal(y.data, fun(a))
        (y * y).backward(np.ones(y.shape))
        assert_array_equal(x.grad, 2 * a)


def test_reshape_copies_as_asked() -> None:
    x = leaf(np.ones((2, 3)))
    assert not np.shares_memory(np.reshape(x, 6, copy=True).data, x.data)
    assert np.shares_memory(np.reshape(x, 6, copy=False).data, x.data)
    with pytest.raises(ValueError, match="copy"):
        np.reshape(x.T, 6, copy=False)


# -- indices


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
@pytest.mark.parametrize("shape", [(200,), (100, 3), (3, 100, 2)])
def test_many_repeated_indices(dtype: Any, shape: Any) -> None:
    """The ways to add up many gradients agree, also with types too short for the places."""
    rng = np.random.default_rng(0)
    for axis in range(len(shape)):
        rows = rng.integers(0, shape[axis], (40, 15)).astype(dtype)
        rows = rows if dtype is np.uint8 else rows - dtype(shape[axis] // 2)
        for index in (slice(None),) * axis + (rows,), (*(slice(None),) * axis, rows, ...):
            values = rng.normal(size=np.zeros(shape)[index].shape)
            expected = np.zeros(shape)
            np.add.at(expected, index, values)
            for given in values, np.array(values, order="F"), values[..., ::-1].copy()[..., ::-1]:
                assert_allclose(scatter(given, index, shape), expected, rtol=1e-12, atol=1e-12)


def test_many_pairs_of_indices() -> None:
    x, rows = leaf(np.zeros((600, 3))), np.arange(600)
    x[rows, rows % 3].backward(np.ones(600))
    assert_array_equal(x.grad, np.eye(3)[rows % 3])


def test_float16_gradients_add_up() -> None:
    x = leaf(np.zeros((2, 2)), np.float16)
    np.repeat(np.take(x, [1] * 5000, axis=0), 1).backward(np.ones(10_000, np.float16))
    assert_array_equal(x.grad, [[0, 0], [5000, 5000]])
    x.grad = None
    np.repeat(x, 5000, axis=0).backward(np.ones((10_000, 2), np.float16))
    assert_array_equal(x.grad, 5000)
    y = leaf(np.zeros(5000), np.float16)
    windows(y, 2500).backward(np.ones((2501, 2500), np.float16))
    assert y.grad.max() == 2500


def test_a_copy_is_a_tensor_of_its_own() -> None:
    """Writing to it leaves the argument as it was."""
    x = leaf([1.0, 2.0])
    for fun in (
        lambda x: np.pad(x, 0, "edge"), lambda x: np.tile(x, 1), np.block, lambda x: np.roll(x, 0),
        lambda x: np.repeat(x, 1), lambda x: np.concatenate([x]),
    ):  # fmt: skip
        y = fun(x)
        y[0] = 7.0
        assert_array_equal(x.data, [1, 2])


# -- other operands: numbers, lists, arrays of other dtypes

JOINED: list[Any] = [
    lambda x: np.append(x, 1.0), lambda x: np.append([1, 2], x), lambda x: np.stack([x[0], 2.0]),
    lambda x: np.hstack([x, 1.0]), lambda x: np.vstack([x, [1, 2, 3]]), lambda x: np.block([x, 1]),
    lambda x: np.concatenate([x, np.arange(3)]),
    lambda x: np.concatenate([x, x], dtype=np.float16, casting="unsafe"),
    lambda x: np.where([True, False, True], x, [1, 2, 3]), lambda x: np.where(x > 0, x, 1.5),
    lambda x: np.select([x > 5, x > 0], [1.0, x]), lambda x: np.select([x > 0], [2], x),
    lambda x: np.choose([0, 1, 0], [x, 1.0]), lambda x: np.choose([0, 1, 0], [x, [1, 2, 3]]),
    lambda x: np.insert(x, 1, 2.5), lambda x: np.pad(x, 1, constant_values=0.1),
    lambda x: np.pad(x, 1, "linear_ramp", end_values=0.1),
    lambda x: np.pad(x, 1, "mean", stat_length=None),
    lambda x: np.full_like(x, x[0], dtype=np.float64), lambda x: np.union1d(x, [7, 8]),
    lambda x: np.setdiff1d(x, np.array([0.5])), lambda x: np.piecewise(x, [x > 1], [np.exp, 0.1]),
]  # fmt: skip


@pytest.mark.parametrize("fun", JOINED)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_value_and_dtype_are_numpys(fun: Any, dtype: Any) -> None:
    a = np.array([0.5, 1.0, 2.0], dtype)
    out, expected = fun(leaf(a)), fun(a)
    assert out.requires_grad or fun is JOINED[11]  # NumPy looks at the default of select last
    assert out.dtype == expected.dtype
    assert_array_equal(out.data, expected)


def test_many_arrays_are_joined_in_linear_time() -> None:
    def seconds(join: Any, count: int) -> float:
        x = leaf([1.0, 2.0])
        start = time.perf_counter()
        out = join([x] * count)
        out.backward(np.ones(out.shape))
        assert_array_equal(x.grad, [count, count])
        return time.perf_counter() - start

    for join in np.concatenate, np.stack, np.hstack:
        assert min(seconds(join, 8000) for _ in range(3)) < 40 * seconds(join, 800)


def test_the_order_of_many_arrays() -> None:
    x = leaf(np.zeros(513))
    parts = np.split(x, 513)  # joined in groups, of which one has one array
    for join in np.concatenate, lambda a: np.stack(a, -1), np.column_stack:
        x.grad = None
        out = join(parts)
        out.backward(weights(out.shape), retain_graph=True)
        assert_array_equal(x.grad, np.arange(1, 514))


# -- writing into arrays, and what is refused


@pytest.mark.parametrize(
    "write",
    [
        lambda a, v: np.copyto(a, v),
        lambda a, v: np.put(a, [0], v),
        lambda a, v: np.place(a, np.eye(2) > 0, v),
        lambda a, v: np.putmask(a, np.eye(2) > 0, values=v),
        lambda a, v: np.fill_diagonal(a, v),
        lambda a, v: np.put_along_axis(a, np.array([[0], [1]]), v, 1),
    ],
)
def test_writing_into_an_array(write: Any) -> None:
    a = np.zeros((2, 2))
    with pytest.raises(TypeError, match=r"tensorgrad\.zeros|plain array"):
        write(a, leaf([3.0]))
    assert_array_equal(a, 0)
    with pytest.raises(tg.GraphError, match="in place"):
        write(leaf(a), [3.0])


def test_writing_untracked_values() -> None:
    for a in np.zeros(2), tg.Tensor([0.0, 0.0]):
        np.put(a, [1], tg.Tensor([3.0]))
        np.copyto(src=2, dst=a, where=[True, False])
        np.put(a, [0], [])
        assert_array_equal(np.asarray(a), [2, 3])
    with pytest.raises(TypeError, match="same_kind"):
        np.copyto(tg.Tensor([1, 2]), [0.5, 0.5])
    with pytest.raises(IndexError):
        np.put(tg.Tensor([1.0]), [5], 1)
    with pytest.raises(ValueError, match="empty"):
        np.place(tg.Tensor([1.0]), [True], [])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: np.pad(x, 1, lambda *_: None), tg.NoRuleError),
        (lambda x: np.pad(x, -1), ValueError),
        (lambda x: np.pad(x, 0.5, "edge"), ValueError),
        (lambda x: np.pad(x[:0], 1, "edge"), ValueError),
        (lambda x: np.pad(x, 1, end_values=1), ValueError),
        (lambda x: np.split(x, 2), ValueError),
        (lambda x: np.vsplit(x, 1), ValueError),
        (lambda x: np.hsplit(x[0], 1), ValueError),
        (lambda x: np.block([[x], x]), ValueError),
        (lambda x: np.block([x, []]), ValueError),
        (lambda x: np.choose([0, 2, 0], [x, x]), ValueError),
        (lambda x: np.select([x], [x]), TypeError),
        (lambda x: np.select([x > 0], []), ValueError),
        (lambda x: np.concatenate([x, x[0]]), ValueError),
        (lambda x: np.concatenate([x, x], 1), ValueError),
        (lambda x: np.concatenate([x[None], x], 1), ValueError),
        (lambda x: np.stack([x, x[:1]]), ValueError),
        (lambda x: np.take(x, 3), IndexError),
        (lambda x: np.take_along_axis(x, np.array([[0]]), 0), ValueError),
        (lambda x: np.take_along_axis(x, np.array([True, False, True]), 0), IndexError),
        (lambda x: np.reshape(x, 3, order="X"), ValueError),
        (lambda x: np.reshape(x, 2), ValueError),
        (lambda x: np.compress([[True]], x), ValueError),
        (lambda x: np.sort(x[0]), ValueError),
        (lambda x: np.sort(x, order="a"), ValueError),
        (lambda x: np.trim_zeros(x, "x"), ValueError),
        (lambda x: np.apply_along_axis(np.sum, 0, x.reshape(3, 1)[:, :0]), ValueError),
        (lambda x: np.apply_over_axes(lambda x, _i: x[0, 0], x.reshape(3, 1), 0), ValueError),
        (lambda x: np.lib.stride_tricks.as_strided(x, (2,), (8,)), TypeError),
        (lambda x: np.vectorize(abs)(x), TypeError),
        (lambda x: np.ix_(x), tg.NoRuleError),
        (lambda x: np.ravel(np.broadcast_to(x, (2, 3)), "K"), tg.NoRuleError),
        (lambda x: np.reshape([x, x], -1), TypeError),
        (lambda x: np.repeat(2, x), TypeError),
        (lambda x: np.tile(x, x), TypeError),
        (lambda x: np.rot90(x), ValueError),
    ],
)
def test_what_is_refused(call: Any, error: Any) -> None:
    with pytest.raises(error):
        call(leaf([1.0, 2.0, 3.0]))
