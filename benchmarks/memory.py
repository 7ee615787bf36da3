"""A long chain of operations, memory during a long training, and peak memory."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from array import array
from pathlib import Path

import numpy as np

from tensorgrad import Tensor, nn

from .timing import Table, clock, digits, introduce, note, require_equal

WARM_UP = 100  # steps, after which every cache is filled


def run(quick: bool, output: Path) -> None:
    introduce(
        "The seconds that a chain of operations takes; the growth of memory during a training with",
        "the garbage collector off; and the peak memory of a chain of tanh(x @ w + b), divided by",
        "the memory of the arrays that the derivatives read, which are the outputs of tanh.",
    )
    table = Table(
        {"": 46, "measured": 10, "unit": 7, "target": 10},
        output / "memory.json",
        ["quantity", "measured", "unit", "target"],
    )

    def report(quantity: str, measured: float, unit: str, target: str) -> None:
        table.line(quantity, digits(measured), unit, target)
        table.record([(quantity, measured, unit, target)])

    operations = 10_000 if quick else 100_000
    note("measuring a chain of operations")
    forward, backward = _chain(operations)
    report(f"chain of {operations:,} operations: forward", forward, "s", "")
    report(f"chain of {operations:,} operations: backward", backward, "s", "")
    report(f"chain of {operations:,} operations: both", forward + backward, "s", "under 3")

    steps = 1_000 if quick else 10_000
    note("measuring memory over training steps")
    report(f"growth over {steps:,} steps", _growth(steps), "bytes", "0")

    for times in (8, 32) if quick else (8, 16, 32, 64):
        note(f"measuring peak memory, {times} times")
        forward, whole = _peaks(times)
        what = f"peak of {times} times tanh(x @ w + b)"
        report(f"{what}: forward", forward, "ratio", "at most 1.15")
        report(f"{what}: with backward", whole, "ratio", "")


def _chain(operations: int) -> tuple[float, float]:
    """The seconds that the forward and the backward pass of a chain of additions take."""
    x = Tensor(1.0, requires_grad=True)
    start = clock()
    y = x
    for _ in range(operations):
        y = y + 1.0
    forward = clock()
    y.backward()
    backward = clock()
    require_equal("chain of additions: value and gradient", [y.data, x.grad], [1 + operations, 1])
    return forward - start, backward - forward


def _growth(steps: int) -> int:
    """The bytes by which traced memory grows over the steps, without the garbage collector."""
    net = nn.MLP(2, [16, 16, 1], rng=0)
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((100, 2)), rng.uniform(-1, 1, (100, 1))

    def train(steps: int) -> int:
        for _ in itertools.repeat(None, steps):
            nn.mse_loss(net(x), t).backward()
            for p in net.parameters():
                p.data += -0.05 * p.grad
            net.zero_grad()
        return tracemalloc.get_traced_memory()[0]

    before = array("q", [0])  # storing a number here allocates no memory
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before[0] = train(WARM_UP)
        return train(steps) - before[0]
    finally:
        tracemalloc.stop()
        gc.enable()


def _peaks(times: int) -> tuple[float, float]:
    """Peak memory of the forward pass, and of both passes, divided by what the rules need."""
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((1000, 100)))
    w = Tensor(rng.standard_normal((100, 100)) / 10, requires_grad=True)
    b = Tensor(np.zeros(100), requires_grad=True)
    needed = times * x.data.nbytes  # tanh reads its output, the product after it the same array
    tracemalloc.start()
    try:
        y = x
        for _ in range(times):
            y = np.tanh(y @ w + b)
        _, forward = tracemalloc.get_traced_memory()
        np.sum(y).backward()
        _, whole = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return forward / needed, whole / needed
