"""What the benchmarks share: a start, a timer, a check, tables, and files of results."""

from __future__ import annotations

import datetime
import gc
import importlib
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from tensorgrad import doctor

# Seconds. Idle threads of the engine that ran before may spin for this long. Caches and the clock
# of the processor are slow at first, and threads that slept take time to wake up.
WARM_UP = 30e-3
MEASURE = 30e-3  # after that, in each turn
QUIET = 0.95  # of a core for each thread, at least, or else the machine is busy
SAMPLE = 2e-3  # long compared with the resolution of the clock, short for other programs

# Distributions whose versions are recorded, where they are installed.
LIBRARIES = (
    "numpy", "scipy", "torch", "torchdiffeq", "jax", "autograd", "mygrad", "tinygrad", "llvmlite",
)  # fmt: skip

Turn: TypeAlias = Callable[[], Sequence[float]]
E = TypeVar("E")


def run(benchmark: str, quick: bool, output: Path) -> None:
    """Run a benchmark, in a process that has not loaded its engines yet.

    On several threads, only while no other program uses the cores: else all figures would be noise,
    as each product waits for its slowest thread.
    """
    if threads() > 1 and (share := share_of_cores(threads())) < QUIET:
        sys.exit(
            f"error: not timed, because {threads()} threads get only {share:.2f} of a core each: "
            "measure on one thread, or while no other program runs"
        )
    try:
        importlib.import_module(f".{benchmark}", __package__).run(quick, output)
    except UnequalError as error:
        sys.exit(f"error: not timed, because the results are not equal: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the rows above are in the file of results")


def threads() -> int:
    """The number of threads that every library was told to use."""
    return int(os.environ["OPENBLAS_NUM_THREADS"])


def share_of_cores(count: int, seconds: float = 1.0) -> float:
    """The part of a core that each of so many busy threads gets."""
    start, used = time.perf_counter(), time.process_time()
    stop = start + seconds

    def work(numbers: Any) -> None:
        while time.perf_counter() < stop:
            np.sqrt(numbers, numbers)  # which lets other threads run meanwhile

    busy = [threading.Thread(target=work, args=(np.ones(1 << 16),)) for _ in range(count)]
    for thread in busy:
        thread.start()
    for thread in busy:
        thread.join()
    return (time.process_time() - used) / (time.perf_counter() - start) / count


def clock() -> float:
    """Seconds: of CPU time with one thread, which other programs disturb least; else elapsed."""
    return time.process_time() if threads() == 1 else time.perf_counter()


def fastest(turns: dict[str, Turn], seconds: float) -> dict[str, list[float]]:
    """Take all turns in rounds for `seconds`, and return the shortest times of each.

    Other programs disturb all turns alike, and the shortest times least.
    """
    gc.collect()
    gc.freeze()  # the collector stays on, but skips the objects of the loaded libraries
    start = time.perf_counter()
    best = {name: list(turn()) for name, turn in turns.items()}
    while time.perf_counter() - start < seconds:
        for name, turn in turns.items():
            best[name] = list(map(min, best[name], turn()))
    return best


def turn_of(function: Callable[..., Any], *args: Any) -> Turn:
    """A turn of many calls, which returns the time of a call, as the mean of the best sample."""

    def seconds_of(calls: int) -> float:
        start = clock()
        for _ in itertools.repeat(None, calls):
            function(*args)
        return clock() - start

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


def environment() -> dict[str, Any]:
    """What the measurements depend on."""
    blas = doctor.blas()
    return {
        "processor": doctor.processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "threads": threads(),
        "clock": "CPU time" if threads() == 1 else "elapsed time",
        "python": platform.python_version(),
        "blas": f"{blas.name} {blas.version}" + (f" as {blas.kernel}" if blas.kernel else ""),
        "versions": dict(_versions()),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def _commit() -> str | None:
    """The commit that is checked out, with a `+` if sources differ from it; None without git."""

    def git(*command: str) -> str:
        result = subprocess.run(
            ["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
        return result.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/*.py")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def introduce(*lines: str) -> None:
    """Print what is measured, how, on what machine, and whether it was in use."""
    about = environment()
    machine = [f"NumPy {np.__version__}", about["blas"], f"{threads()} thread(s), {about['clock']}"]
    machine += [f"Python {about['python']}", f"{about['processor']} ({about['cores']} cores)"]
    print(*lines, ", ".join(machine), sep="\n", flush=True)
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.5:
        print(f"The machine was busy (load {load:.1f}): expect noise, and more of it with threads.")
    print()


class Table:
    """Lines printed aligned as they are measured, and the figures behind them in a file of results.

    `widths` gives each column's heading and width; the first column is aligned left, the others
    right. The file is JSON with its own columns, `fields`, and what the figures depend on.
    """

    def __init__(self, widths: dict[str, int], path: Path, fields: Sequence[str]) -> None:
        self.columns = [*widths][1:]
        self._widths = [max(width, len(name)) for name, width in widths.items()]
        self._path = path
        self._head = environment() | {"fields": list(fields)}
        self._rows: list[str] = []
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
        """Add rows to the file. It is written again, so that it is whole after each call."""
        self._rows += [json.dumps([_rounded(value) for value in row]) for row in rows]
        head = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in self._head.items()]
        rows = ' "rows": [\n  ' + ",\n  ".join(self._rows) + "\n ]"
        text = ",\n".join([*head, rows])
        self._path.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """The value; of a float, four digits, as more are noise."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def installed(engines: Mapping[str, Callable[[], E]]) -> Iterator[tuple[str, E]]:
    """Load the engines whose libraries are installed, and print which others are left out."""
    for name, load in engines.items():
        note(f"loading {name}")
        try:
            yield name, load()
        except (ImportError, OSError, RuntimeError) as error:  # the last two: it finds no compiler
            note("")
            print(f"{name} is left out: {error}")


def compare(table: Table, work: Any, turns: dict[str, Turn], seconds: float) -> None:
    """Measure the turns, and print a line of microseconds, each with its ratio to tensorgrad."""
    note(f"measuring {work}")
    micro = {name: time * 1e6 for name, (time,) in fastest(turns, seconds).items()}
    rows = [(str(work), name, us, us / micro["tensorgrad"]) for name, us in micro.items()]
    cells = {name: f"{digits(us)} ({ratio:.2f})" for _, name, us, ratio in rows}
    table.line(str(work), *(cells.get(name, "") for name in table.columns))
    table.record(rows)


def note(text: str) -> None:
    """Show on the terminal, if there is one, what is being measured. An empty text clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def digits(number: float) -> str:
    """The number with three digits, or with all digits of its integer part."""
    whole = isinstance(number, int) or number >= 99.95
    return f"{number:,.0f}" if whole else f"{number:#.3g}"
