"""Batches: a call on a batch is the call on each of its arrays, and most calls take all at once."""

from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tensorgrad.engine import batching
from tensorgrad.engine.batching import Batch, Level, NotBatchedError

COUNT = 5
LEVEL = Level(COUNT, 1)
VALUES = {
    name: np.random.default_rng(seed).normal(size=(COUNT, *shape))
    for seed, (name, shape) in enumerate(
        {"x": (3, 4), "v": (4,), "s": (), "m": (4, 4), "t": (2, 3, 4)}.items()
    )
} | {"k": np.random.default_rng(0).integers(0, 3, (COUNT, 2))}
PLAIN = {
    "np": np,
    "a": np.arange(12.0).reshape(3, 4),
    "i": np.array([2, 0, 2]),
    "b": np.ones(4),
    "e": np.eye(4),
}

AT_ONCE = """
    np.exp(x)                         x + v                             v * x + s
    np.add(a, v)                      np.maximum(t, x)                  np.divmod(x, 2.0)
    np.sum(x)                         np.sum(x, axis=0)                 np.sum(x, axis=-1)
    np.sum(t, axis=(0, -1))           np.sum(x, 1, keepdims=True)       np.mean(t, axis=(1,))
    np.any(x > 0, axis=1)             np.flip(x)                        np.flip(t, axis=(0, 2))
    np.flip(x, axis=range(2))         x.sum()                           x.sum(1, keepdims=True)
    np.add.reduce(x)                  np.add.reduce(x, None)       np.add.reduce(t, (0, 2))
    np.add.reduce(s)                  np.maximum.reduce(x, axis=1)      np.multiply.reduce(t, -1)
    np.add.accumulate(x)              np.multiply.accumulate(t, -1)     np.take(x, i, axis=0)
    np.take(t, i, axis=-1)            np.roll(x, 1, axis=0)             np.roll(t, (1, 2), (0, 2))
    np.repeat(x, 2, axis=0)           np.fft.fft(x, axis=0)             np.fft.irfft(x)
    x @ m                             v @ m                             x @ v
    v @ v                             t @ m                             a @ v
    a @ m                             x @ b                             np.dot(x, v)
    np.dot(s, x)                      np.inner(x, v)                    np.inner(x, a)
    np.linalg.solve(m, v)             np.linalg.solve(m, x.T)           np.linalg.solve(e, v)
    np.concatenate([x, a])            np.concatenate([a, x], axis=-1)   np.concatenate((x, m), 0)
    np.stack([x, a])                  np.stack([a, x], axis=-1)         np.stack((v, v), 1)
    np.reshape(x, -1)                 x.reshape(4, -1)                  x.reshape((2, 6))
    x.ravel()                         np.transpose(t)                   np.transpose(t, (1, 0, -1))
    x.T                               t.mT                              np.matrix_transpose(t)
    np.swapaxes(t, 0, -1)             np.swapaxes(t, 1, 1)              np.moveaxis(t, 0, -1)
    np.moveaxis(t, (0, 1), (2, 0))    np.expand_dims(x, 0)              np.expand_dims(x, (0, -1))
    np.broadcast_to(v, (3, 4))        np.broadcast_to(s, 3)             np.zeros_like(x)
    np.zeros_like(x, shape=(2,))      np.tril(x)                        np.triu(t, 1)
    np.real(x)                        np.imag(x)                        np.copy(x)
    np.astype(x, np.float32)          x.astype(int)                     x.copy()
    x[1]                              x[:, -1]                          x[..., 0]
    x[None]                           x[i]                              x[:, i]
    x[[0, 2]]                         x[1:, ::-1]                       x[i, 1:]
    x[k]                              x[..., 0][k]                      x[k, k]
    x[k, 1:]                          np.linalg.det(m)                  np.linalg.svd(x)
    np.diff(x)                        np.take(x, i)                     np.repeat(x, 2)
    np.einsum('ij,j->i', x, b)        np.sort(x, None)                  np.argmax(x)
    np.std(x, 0)                      np.ptp(x, 0)                      np.cumsum(t, 1)
"""
ONE_BY_ONE = """
    np.roll(x, 1)                     x[:2, 0][k > -1]                    x[:, k]
    np.sum(x, where=x > 0)            np.concatenate([x, v], None)      x[i, 1]
    x[i, i]                           x[True]                           np.tril(v)
    np.triu(v)                        np.dot(t, m)                      np.kron(m, e)
    np.diff(x, prepend=s)             np.add.reduceat(x, [0, 1])        np.add.outer(v, b)
    np.tile(x, 2)                     np.mean(a, where=x > 0)           np.sum(x, 0, where=x > 0)
"""


def calls(table: str) -> list[str]:
    return [
        call for line in table.strip().splitlines() for call in line.strip().split("  ") if call
    ]


def check(call: str) -> None:
    got = eval(call, PLAIN | {name: LEVEL.batch(value) for name, value in VALUES.items()})
    items = [{name: value[k] for name, value in VALUES.items()} for k in range(COUNT)]
    each = [eval(call, PLAIN | item) for item in items]
    if not isinstance(got, tuple):
        got, each = (got,), [(y,) for y in each]
    for batch, *arrays in zip(got, *each, strict=True):
        assert isinstance(batch, Batch) and batch.arrays.dtype == arrays[0].dtype
        assert batch.shape == np.shape(arrays[0]) and batch.ndim == np.ndim(arrays[0])
        assert_allclose(batch.arrays, np.stack(arrays), 1e-12, 1e-12)


@pytest.mark.parametrize("call", calls(AT_ONCE))
def test_a_call_on_all_arrays_at_once_is_that_on_each(call: str) -> None:
    with mock.patch.object(batching, "one_by_one", side_effect=AssertionError("one by one")):
        check(call)


@pytest.mark.parametrize("call", calls(ONE_BY_ONE))
def test_other_calls_are_made_one_by_one(call: str) -> None:
    with mock.patch.object(batching, "one_by_one", wraps=batching.one_by_one) as one_by_one:
        check(call)
    assert one_by_one.called


@pytest.mark.parametrize("index", [1, slice(1, None), (Ellipsis, 0), PLAIN["i"][:2]])
@pytest.mark.parametrize("value", [7.0, "batch"])
def test_writes_are_made_in_each_array(index: Any, value: Any) -> None:
    x, values = VALUES["x"].copy(), [value] * COUNT
    if value == "batch":
        shape = x[0][index].shape[1:]  # which is broadcast
        values = [*np.random.default_rng(0).normal(size=(COUNT, *shape))]
        value = LEVEL.batch(np.stack(values))
    expected = x.copy()
    for array, written in zip(expected, values, strict=True):
        array[index] = written
    LEVEL.batch(x)[index] = value
    assert_allclose(x, expected, 0)


@pytest.mark.parametrize(
    "value", [1.0, np.ones(4), LEVEL.batch(VALUES["v"]), LEVEL.batch(VALUES["x"])]
)
def test_numbers_are_added_at_an_index_of_each_array(value: Any) -> None:
    x, i = VALUES["x"].copy(), PLAIN["i"]
    expected = x.copy()
    for k, array in enumerate(expected):
        np.add.at(array, i, value.arrays[k] if isinstance(value, Batch) else value)
    np.add.at(LEVEL.batch(x), i, value)
    assert_allclose(x, expected, 1e-12)


def test_what_would_need_one_array_or_number_is_refused() -> None:
    x = LEVEL.batch(VALUES["x"])
    for use in bool, float, int, np.asarray, lambda b: np.add.at(np.ones((3, 4)), [0], b[:1]):
        with pytest.raises(NotBatchedError):
            use(x)
    with pytest.raises(NotBatchedError, match="attribute 'strides'"):
        x.strides  # noqa: B018
    assert len(x) == 3 and x.size == 12
