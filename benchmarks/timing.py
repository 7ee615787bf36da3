"""What the benchmarks share: a timer, a check, the machine's description, tables, CSV."""

from __future__ import annotations

import csv
import gc
import itertools
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 2e-3  # seconds that one turn of a function lasts: long beside the clock and a cold cache
ROUNDS = 7  # at least


def interleaved(functions: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The seconds that a call of each function takes, all measured in turns.

    The functions take turns of some milliseconds, in rounds, until `seconds` have passed: what
    disturbs the machine meets all of them alike, and the fastest turn of each is the one
    that nothing disturbed. The garbage collector stays on, as in a user's program.
    """
    gc.collect()
    gc.freeze()  # the collector need not walk the objects of whatever libraries are loaded
    calls = {name: _calls_per_turn(function) for name, function in functions.items()}
    best = dict.fromkeys(functions, math.inf)
    start = time.perf_counter()
    for turn in itertools.count(1):
        for name, function in functions.items():
            best[name] = min(best[name], _turn(function, calls[name]) / calls[name])
        if turn >= ROUNDS and time.perf_counter() - start > seconds:
            return best
    raise AssertionError("unreachable")


def _turn(function: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in itertools.repeat(None, calls):
        function()
    return time.perf_counter() - start


def _calls_per_turn(function: Callable[[], Any]) -> int:
    calls = 1
    while (taken := _turn(function, calls)) < CHUNK / 2:
        calls *= 2
    return max(1, round(calls * CHUNK / taken))


class UnequalError(Exception):
    """Two engines that should do the same work gave different results."""


def require_equal(what: str, got: Any, expected: Any, tolerance: float = 0.0) -> None:
    """Raise UnequalError unless `got` is `expected`, up to `tolerance` times its Euclidean norm."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        raise UnequalError(f"{what}: shape {got.shape} instead of {expected.shape}")
    norm = np.linalg.norm(expected.ravel())
    difference = np.linalg.norm((got - expected).ravel())
    if not difference <= tolerance * norm:
        raise UnequalError(f"{what}: off by {difference:.2g}, where the norm is {norm:.2g}")


def machine() -> str:
    """What the measurements depend on, in one line."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index,call-overload]
    kernel = os.environ.get("OPENBLAS_CORETYPE")
    return ", ".join(
        [
            f"NumPy {np.__version__}",
            f"{blas['name']} {blas['version']}" + (f" as {kernel}" if kernel else ""),
            f"{os.environ['OPENBLAS_NUM_THREADS']} BLAS thread(s)",
            f"Python {platform.python_version()}",
            f"{_processor()} ({os.cpu_count()} cores)",
        ]
    )


def introduce(*lines: str) -> None:
    """Print what is measured, how, and on what machine."""
    print(*lines, machine(), sep="\n", end="\n\n", flush=True)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Table:
    """Lines printed aligned as they are measured, and the figures behind them as CSV.

    `widths` gives each column's heading and width; the first column is aligned left, the others
    right. The CSV file has its own columns, `fields`, and the machine's description.
    """

    def __init__(self, widths: dict[str, int], path: Path, fields: Sequence[str]) -> None:
        self._widths = [max(width, len(name)) for name, width in widths.items()]
        self._path = path
        self._machine = machine()
        with path.open("w", newline="") as file:
            csv.writer(file).writerow([*fields, "machine"])
        self.line(*widths)
        self.line(*("-" * width for width in self._widths))

    def line(self, *cells: str) -> None:
        first, *others = (
            f"{cell:{'>' if i else '<'}{width}}"
            for i, (cell, width) in enumerate(zip(cells, self._widths, strict=True))
        )
        note("")
        print("  ".join([first, *others]), flush=True)

    def record(self, rows: Iterable[Sequence[Any]]) -> None:
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows([*row, self._machine] for row in rows)


def note(text: str) -> None:
    """Say on the terminal, if there is one, what is being measured; an empty text clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def digits(number: float) -> str:
    """The number with three digits; with all of its integer part, and of an integer with all."""
    whole = isinstance(number, int) or number >= 100
    return f"{number:,.0f}" if whole else f"{number:#.3g}"
