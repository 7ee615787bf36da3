"""One training step, and one small operation, in tensorgrad and in other libraries."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .engines import ENGINES, Engine, by_hand
from .timing import (
    Table,
    Turn,
    UnequalError,
    compare,
    installed,
    introduce,
    note,
    require_equal,
    turn_of,
)

CHECKED_STEPS = 3
TOLERANCE = 1e-3  # for float32, whose roundings add up over the steps


class Training(NamedTuple):
    """A training step of a network with layers of these widths, the inputs first."""

    widths: tuple[int, ...]
    batch: int

    def __str__(self) -> str:
        first, *others = self.widths
        equal = set(others) == {first}
        layers = f"{first}x{len(others)}" if equal else "-".join(map(str, self.widths))
        return f"{layers}, batch {self.batch}"

    def prepare(self, engine: Engine) -> Callable[[], Any]:
        """The step, once its losses and weights were found to be those of float64 by hand."""
        step, losses, changes = self._run(engine, np.float32)
        _, expected_losses, expected_changes = self._run(by_hand(), np.float64)
        require_equal("losses", losses, expected_losses, TOLERANCE)
        for i, (change, expected) in enumerate(zip(changes, expected_changes)):
            require_equal(f"change of parameter {i}", change, expected, TOLERANCE)
        return step

    def _run(self, engine: Engine, dtype: Any) -> tuple[Callable[[], Any], list[float], list[Any]]:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, self.widths[0]), np.float32)
        t = rng.uniform(-1, 1, (self.batch, self.widths[-1])).astype(np.float32)
        weights = []
        for nin, nout in itertools.pairwise(self.widths):
            w = rng.standard_normal((nout, nin), np.float32) / np.float32(nin**0.5)
            weights += [w, np.zeros(nout, np.float32)]
        start = [w.astype(dtype) for w in weights]
        step, current = engine.training(start, x.astype(dtype), t.astype(dtype))
        losses = [float(step()) for _ in range(CHECKED_STEPS)]
        return step, losses, [np.asarray(now) - w for now, w in zip(current(), weights)]


class Operation(NamedTuple):
    """The forward and the backward pass of one operation on a few elements."""

    text: str
    field: str  # of Engine
    size: int

    def __str__(self) -> str:
        return f"{self.text}, {self.size} elements"

    def prepare(self, engine: Engine) -> Callable[[], Any]:
        """The operation, once its gradient was found to be right."""
        x = np.linspace(-1, 1, self.size, dtype=np.float32)
        call = getattr(engine, self.field)(x)
        require_equal("gradient", call(), 2 * x, TOLERANCE)
        return call


SMALL = [
    Training((3, 4, 4, 1), 4),
    Training((2, 16, 16, 1), 100),
    Training((64, 128, 10), 64),
    Training((784, 256, 128, 10), 128),
]
LARGE = [Training((512,) * 5, 256), Training((1024,) * 5, 1024)]
OPERATIONS = [Operation("x * x", "square", 8), Operation("(x * x).sum()", "square_sum", 8)]


def run(quick: bool, output: Path) -> None:
    introduce(
        "One step of gradient descent on the mean squared error of a tanh network, and the forward",
        "and backward pass of one small operation, in float32: microseconds (ratio to tensorgrad).",
        "Minimum over rounds in which the engines take turns, once their results were found equal.",
    )
    engines = dict(installed(ENGINES))
    if len(engines) < len(ENGINES):
        print()
    table = Table(
        {"": 24} | dict.fromkeys(engines, 15),
        output / "peers.csv",
        ["work", "engine", "microseconds", "ratio to tensorgrad"],
    )
    for work in SMALL + ([] if quick else LARGE) + OPERATIONS:
        turns: dict[str, Turn] = {}
        for name, engine in engines.items():
            note(f"checking {work} by {name}")
            try:
                turns[name] = turn_of(work.prepare(engine))
            except UnequalError as error:
                raise UnequalError(f"{work} by {name}: {error}") from None
        compare(table, work, turns, seconds=1.0 if quick else 10.0)
