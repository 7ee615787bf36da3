"""Training steps in native code: `scan` makes them in one native loop, with the same results."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg

from .depth import FULL, one_in
from .oracles import assert_same
from .test_compile_training import CLIPS, NETS, OPTIMIZERS, Training, twins

pytest.importorskip("llvmlite")
native = pytest.importorskip("tensorgrad.compiler.backends.llvm.native")

STEPS = 7
ROUNDINGS = 1 << 16  # of 8 steps, some of which divide by a gradient's own size


@pytest.fixture
def in_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of steps that native loops make."""
    found: list[int] = []
    call = native.NativeLoop.__call__

    def counted(self: Any, arrays: Any, results: Any, done: list[int]) -> None:
        before = done[0]
        try:
            call(self, arrays, results, done)
        finally:
            found.append(done[0] - before)

    monkeypatch.setattr(native.NativeLoop, "__call__", counted)
    yield found


def batches(training: Training) -> tuple[Any, Any]:
    x, t = zip(*(training.batch(i) for i in range(STEPS)), strict=True)
    return np.stack(x), np.stack(t)


def assert_one_loop(in_loops: list[int], optimizer: str, **options: Any) -> None:
    """A scan agrees with steps one by one, and all but the first step are those of one loop."""
    eager, compiled = twins(NETS["MLP"], "mse", optimizer, **options)
    expected = [eager.step(*eager.batch(i)) for i in range(STEPS)]
    found = tg.compile(compiled.step, backend="llvm").scan(*batches(compiled))
    assert in_loops == [STEPS - 1]
    steps = [tg.tree.map(lambda a, i=i: a[i, ...], found) for i in range(STEPS)]
    assert_same(steps, expected, "results ", ROUNDINGS)
    assert_same(compiled.everything(), eager.everything(), "state ", ROUNDINGS)


OTHERS: list[dict[str, Any]] = [{"clip": clip} for clip in CLIPS]
OTHERS += [{"average": True}, {"clip": "norm", "average": True, "groups": True}]


@pytest.mark.parametrize("dtype", one_in(2, [np.float64, np.float32]))
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [*itertools.product(OPTIMIZERS, OTHERS)]
    if FULL
    else [*zip(itertools.islice(OPTIMIZERS, 0, None, 2), OTHERS, strict=True)],
)
def test_steps_are_one_native_loop(
    optimizer: str, options: Any, dtype: Any, in_loops: list[int]
) -> None:
    assert_one_loop(in_loops, optimizer, dtype=dtype, **options)
