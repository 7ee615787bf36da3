"""A long chain, memory over many steps, and peak memory against what the rules need."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tensorgrad import Tensor, nn

from .timing import Table, digits, introduce, note, require_equal

WARM_UP = 100  # steps, after which every cache is filled


def run(quick: bool, output: Path) -> None:
    introduce(
        "The seconds that a chain of operations takes; the bytes by which memory grows over training",
        "steps with the garbage collector off; and the peak memory of tanh(x @ w + b), repeated,",
        "over that of the arrays that its derivatives read: the output of each tanh.",
    )
    table = Table(
        {"": 46, "measured": 10, "unit": 7, "target": 10},
        output / "memory.csv",
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
    report("both", forward + backward, "s", "under 3")

    steps = 1_000 if quick else 10_000
    note("measuring memory over training steps")
    report(f"growth over {steps:,} steps", _growth(steps), "bytes", "0")

    for times in (8, 32) if quick else (8, 16, 32, 64):
        note("measuring peak memory")
        forward, whole = _peak(times)
        target = "at most 1.15" if times >= 16 else ""
        report(f"peak of tanh(x @ w + b), {times} times: forward", forward, "ratio", target)
        report(f"peak of tanh(x @ w + b), {times} times: with backward", whole, "ratio", "")
