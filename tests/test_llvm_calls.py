"""Calls of NumPy's that native code makes by other ones, or in an order of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg

from .depth import one_in
from .oracles import assert_same

pytest.importorskip("llvmlite")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6))
WITH_NAN = np.array([[1.0, np.nan, 3.0], [3.0, 3.0, np.inf], [-0.0, 0.0, -np.inf]])
WHOLE = RNG.integers(-9, 9, (4, 6))
BYTES = np.arange(256, dtype=np.uint8).reshape(4, 64)
K, L = np.array([0, -1, 3, 2, 0]), np.array([5, -6, 0, 1, 5])
ALONG = RNG.integers(-6, 6, (4, 6))

# What native code gives is the same to the last bit, but where sums or functions are rounded.
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "clip": (lambda x: (np.clip(x, -1, 1), x.clip(0), np.clip(x, None, 0.5)), (X,)),
    "clip by arrays": (np.clip, (WITH_NAN, WITH_NAN[::-1], WITH_NAN.T)),
    "clip of bytes": (lambda x: np.clip(x, 100, 200), (BYTES,)),
    "any and all": (lambda x: (np.any(x, axis=0), np.all(x), np.any(x > 0, axis=1)), (WITH_NAN,)),
    "remainders": (lambda x: (x % 3, x // 3, np.fmod(x, -4), x % 0, x // 0), (WHOLE,)),
    "argmax": (
        lambda x: (np.argmax(x, axis=1), x.argmin(0), np.argmax(x), x.argmax(-1, keepdims=True)),
        (WITH_NAN,),
    ),
    "argmax by columns": (lambda x: (np.argmax(x), np.argmin(x, 0)), (np.asfortranarray(X),)),
    "argmax of bytes": (lambda x: (np.argmax(x, axis=0), np.argmin(x)), (BYTES[::-1],)),
    "cumulative": (
        lambda x: (np.cumsum(x, 0), x.cumprod(1), np.maximum.accumulate(x), np.cumsum(x[0])),
        (X,),
    ),
    "cumulative by columns": (lambda x: np.cumsum(x, 1), (np.asfortranarray(X),)),
    "cumulative of NaN": (lambda x: (np.cumsum(x, 1), np.minimum.accumulate(x, 1)), (WITH_NAN,)),
    "cumulative of one": (lambda x: np.cumsum(x, 1), (X[:, :1],)),
    "cumulative of integers": (
        lambda x: (np.cumsum(x, 1), np.add.accumulate(x, 0)), (WHOLE.astype(np.int32),),
    ),
    "logaddexp": (
        lambda x: (np.logaddexp.accumulate(x, 1), np.logaddexp.reduce(x, axis=0)), (X,),
    ),
    "several indices": (
        lambda x, k, i: (x[k, i], x[k[:, None], i], x[:, ::2][k, i // 4]), (X, K, L),
    ),
    "indices of planes": (lambda x, k, i: x[k, i], (RNG.normal(size=(4, 6, 3)), K, L)),
    "take_along_axis": (lambda x, i: np.take_along_axis(x, i, axis=1), (X, ALONG)),
    "take_along_axis of rows": (
        lambda x, i: np.take_along_axis(x, i, axis=1), (X[:1], ALONG[:, :2]),
    ),
    "products of integers": (
        lambda x: (x @ x.T, x[0] @ x.T, x @ x[1], np.dot(x[0], x[1]), np.inner(x, x)), (WHOLE,),
    ),
    "products of two dtypes": (lambda x, y: x.astype(np.float32) @ y, (X, X.T)),
    "derivatives": (
        lambda x, k, i: tg.grad(
            lambda x: np.sum(np.cumsum(x, 1) ** 2 * np.clip(x, -1, 1)) + np.sum(np.sin(x[k, i]))
        )(x),
        (X, K, L),
    ),
    "derivatives along an axis": (
        lambda x, i: tg.grad(lambda x: np.sum(np.take_along_axis(np.cumprod(x, 1), i, 1) ** 2))(x),
        (X, ALONG),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", one_in(3, [*CALLS]))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_call_is_native(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORGRAD_VERIFY", "1")
    f, args = CALLS[name]
    compiled = tg.compile(f, backend="llvm")
    assert "not native" not in str(compiled.lower(*args))
    compiled(*args)
    roundings = 0 if name.startswith(("clip", "arg", "any", "remain", "several", "take")) else 64
    assert_same(compiled(*args), f(*args), roundings=roundings, least=1.0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, i: x[i, i], "getitem: index 4 is out of bounds for axis 0 with size 4"),
        (lambda x, i: x[i - i, i + 2], "getitem: index 6 is out of bounds for axis 1 with size 6"),
        (lambda x, i: np.take_along_axis(x, i[None], 1), "take_along_axis: index 6 .* axis 1"),
    ],
)
def test_each_of_several_indices_is_checked(function: Any, message: str) -> None:
    f = tg.compile(function, backend="llvm")
    x, good = np.arange(24.0).reshape(4, 6), np.array([0, 1])
    f(x, good)
    bad = good + (6 if "along" in message else 4)
    with pytest.raises(IndexError, match=message):
        f(x, bad)
