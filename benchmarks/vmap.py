"""The gradient of each sample by `vmap`, over that of the whole batch, in each library."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .derivatives import (
    ENGINES,
    NETWORKS,
    PER_SAMPLE,
    TOLERANCE,
    Engine,
    leaves,
    network_problem,
)
from .timing import (
    Table,
    Turn,
    digits,
    fastest,
    installed,
    introduce,
    note,
    require_equal,
    turn_of,
)

WHOLE = "gradient of the batch"
MEMORY = "memory"


def run(quick: bool, output: Path) -> None:
    introduce(
        "Gradients of each sample, in float64: microseconds (ratio to the same library's gradient",
        "of the whole batch). The last column is the time to write as many numbers once, into",
        "memory that is there already. Results are checked to be equal.",
    )
    engines = dict(installed(ENGINES))
    table = Table(
        {"": 32} | dict.fromkeys((*engines, MEMORY), 14),
        output / "vmap.json",
        ["network", "engine", PER_SAMPLE, WHOLE],
    )
    for network in NETWORKS:
        name = network_problem(*network, PER_SAMPLE).name
        turns = _turns(*network, engines)
        note(f"measuring {name}")
        best = fastest(turns, seconds=1.0 if quick else 10.0)
        micro = {key: [1e6 * second for second in times] for key, times in best.items()}
        table.line(name, *map(_cell, micro.values()))
        table.record([name, engine, *(*times, None)[:2]] for engine, times in micro.items())


def _turns(widths: tuple[int, ...], count: int, engines: dict[str, Engine]) -> dict[str, Turn]:
    """The turns of the engines, which measure both gradients, when their results are equal."""
    expected = None
    turns: dict[str, Turn] = {}
    for name, engine in engines.items():
        problem = network_problem(widths, count, PER_SAMPLE)
        whole = network_problem(widths, count, "grad")
        note(f"checking {problem} by {name}")
        calls = [problem.prepare(engine), whole.prepare(engine)]
        found = leaves(calls[0]())
        expected = expected or found
        for got, value in zip(found, expected, strict=True):
            require_equal(f"{problem} by {name}", got, value, TOLERANCE)
        turns[name] = _in_turn([turn_of(call) for call in calls])
    assert expected is not None
    turns[MEMORY] = turn_of(np.empty(sum(g.size for g in expected)).fill, 1.0)
    return turns


def _in_turn(turns: list[Turn]) -> Turn:
    """One turn of several calls, each measured by itself."""
    return lambda: [seconds for turn in turns for seconds in turn()]


def _cell(times: list[float]) -> str:
    ratio = f" ({times[0] / times[1]:.2f})" if len(times) > 1 else ""
    return digits(times[0]) + ratio
