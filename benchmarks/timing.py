"""What the benchmarks share: a start, a timer, a check, the machine's description, tables, CSV."""

from __future__ import annotations

import csv
import gc
import importlib
import itertools
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from tensorgrad import doctor

# Seconds. An idle thread of the engine before may spin for this long, until it goes to sleep;
# caches and the processor's clock are slow at first; threads that slept take time to wake up.
WARM_UP = 30e-3
MEASURE = 30e-3  # after that, in each turn
SAMPLE = 2e-3  # long beside the clock's resolution, short beside what other programs do

Turn: TypeAlias = Callable[[], Sequence[float]]
E = TypeVar("E")


def run(benchmark: str, quick: bool, output: Path) -> None:
    """Run a benchmark, in a process that has not loaded its engines yet."""
    try:
        importlib.import_module(f".{benchmark}", __package__).run(quick, output)
    except UnequalError as error:
        sys.exit(f"error: not timed, for the work is not equal: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the rows above are in the CSV file")


def fastest(turns: dict[str, Turn], seconds: float) -> dict[str, list[float]]:
    """The least of the times that each turn returns, when all are taken in rounds for `seconds`.

    What disturbs the machine meets all of them alike, and the least time of each is the one that
    nothing disturbed.
    """
    gc.collect()
    gc.freeze()  # the collector stays on, but need not walk the objects of whatever is loaded
    start = time.perf_counter()
    best = {name: list(turn()) for name, turn in turns.items()}
    while time.perf_counter() - start < seconds:
        for name, turn in turns.items():
            best[name] = list(map(min, best[name], turn()))
    return best


def turn_of(function: Callable[..., Any], *args: Any) -> Turn:
    """A turn of many calls, which returns the least time of one of them: a mean over a sample."""

    def seconds_of(calls: int) -> float:
        start = time.perf_counter()
        for _ in itertools.repeat(None, calls):
            function(*args)
        return time.perf_counter() - start

    def turn() -> Sequence[float]:
        calls, warm = 0, 0.0
        while warm < WARM_UP:
            warm += seconds_of(1)
            calls += 1
        calls = max(1, round(calls * SAMPLE / warm))
        samples = [seconds_of(calls)]
        while sum(samples) < MEASURE:
            samples.append(seconds_of(calls))
        return [min(samples) / calls]

    return turn


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
    blas = doctor.blas()
    return ", ".join(
        [
            f"NumPy {np.__version__}",
            f"{blas.name} {blas.version}" + (f" as {blas.kernel}" if blas.kernel else ""),
            f"{os.environ['OPENBLAS_NUM_THREADS']} thread(s)",
            f"Python {platform.python_version()}",
            f"{doctor.processor()} ({os.cpu_count()} cores)",
        ]
    )


def introduce(*lines: str) -> None:
    """Print what is measured, how, on what machine, and whether it was in use."""
    print(*lines, machine(), sep="\n", flush=True)
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.5:
        print(f"The machine was busy (load {load:.1f}): expect noise, and more of it with threads.")
    print()


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


def installed(engines: Mapping[str, Callable[[], E]]) -> Iterator[tuple[str, E]]:
    """The engines whose libraries are installed, loaded; of the others it is said."""
    for name, load in engines.items():
        note(f"loading {name}")
        try:
            yield name, load()
        except (ImportError, OSError, RuntimeError) as error:  # the latter two: it has no compiler
            note("")
            print(f"{name} is left out: {error}")


def compare(table: Table, work: Any, turns: dict[str, Turn], seconds: float) -> None:
    """Measure the engines' turns at some work: a line of microseconds (ratio to tensorgrad)."""
    note(f"measuring {work}")
    micro = {name: time * 1e6 for name, (time,) in fastest(turns, seconds).items()}
    rows = [(str(work), name, us, us / micro["tensorgrad"]) for name, us in micro.items()]
    table.line(str(work), *(f"{digits(us)} ({ratio:.2f})" for *_, us, ratio in rows))
    table.record(rows)


def note(text: str) -> None:
    """Say on the terminal, if there is one, what is being measured; an empty text clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def digits(number: float) -> str:
    """The number with three digits; with all of its integer part, and of an integer with all."""
    whole = isinstance(number, int) or number >= 99.95
    return f"{number:,.0f}" if whole else f"{number:#.3g}"
