"""Training steps, and small and long operations, in tensorgrad and in other libraries."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .engines import ENGINES, RATE, Array, Engine, Problem, Training, by_hand
from .timing import (
    Table,
    Turn,
    UnequalError,
    digits,
    fastest,
    installed,
    introduce,
    note,
    require_equal,
    turn_of,
)

BASE = "tensorgrad compiled"  # what the others are compared with
RATIOS = (
    ("PyTorch", BASE),
    ("PyTorch nn, optim", BASE),
    ("PyTorch compiled", BASE),
    ("JAX jit", BASE),
    (BASE, "flat program"),
    (BASE, "matrix products"),
    ("tensorgrad scan", "JAX scan"),
    ("JAX jit", "tensorgrad native"),
    ("JAX scan", "tensorgrad native scan"),
    ("tensorgrad native scan", "multiply-adds"),
)
CHECKED_STEPS = 3
TOLERANCE = {"float32": 1e-3, "float64": 1e-8}  # roundings add up over the steps
SCANNED = 100, 1 << 23  # at most so many steps, and numbers as arguments, in a call


class Network(NamedTuple):
    """A network with layers of these widths, the inputs first, and the size of its batches."""

    widths: tuple[int, ...]
    batch: int

    def __str__(self) -> str:
        first, *others = self.widths
        equal = set(others) == {first}
        layers = f"{first}x{len(others)}" if equal else "-".join(map(str, self.widths))
        return f"{layers}, {self.batch}"


class Work(NamedTuple):
    """Training a network by an optimizer."""

    network: Network
    dtype: str
    optimizer: str

    def __str__(self) -> str:
        return f"{self.network}, {self.dtype}, {self.optimizer}"

    def suits(self, engine: Engine) -> bool:
        """Whether the engine can do the work in reasonable time."""
        return max(self.network.widths) <= engine.widest

    def prepare(self, engine: Engine) -> tuple[Turn, int]:
        """Check the losses and the weights; return a turn, and its number of steps in a call."""
        training, losses, changes = self.start(engine)
        if engine.equal:
            right_losses, right_changes = _right(self.network, self.optimizer)
            require_equal("losses", losses, right_losses, TOLERANCE[self.dtype])
            for i, (change, right) in enumerate(zip(changes, right_changes, strict=True)):
                require_equal(f"change of parameter {i}", change, right, TOLERANCE[self.dtype])
        if not engine.scans:
            return turn_of(training.step, *map(training.array, self._batch())), 1
        most, numbers = SCANNED
        steps = min(most, numbers // (self.network.batch * self.network.widths[0]))
        return turn_of(training.step, *_stacked(training, self._batch(), steps)), steps

    def _batch(self) -> tuple[Array, Array]:
        (nin, *_, nout), batch = self.network
        rng = np.random.default_rng(0)
        x, t = rng.standard_normal((batch, nin)), rng.uniform(-1, 1, (batch, nout))
        return x.astype(np.float32).astype(self.dtype), t.astype(np.float32).astype(self.dtype)

    def start(self, engine: Engine) -> tuple[Training, list[float], list[Array]]:
        """The training after a few steps, their losses, and the changes of the weights."""
        rng = np.random.default_rng(1)
        weights = []
        for nin, nout in itertools.pairwise(self.network.widths):
            w = rng.standard_normal((nout, nin), np.float32) / np.float32(nin**0.5)
            weights += [w.astype(self.dtype), np.zeros(nout, self.dtype)]
        problem = Problem([w.copy() for w in weights], self.network.batch, self.optimizer)
        training = engine.training(problem)
        if engine.scans:
            losses = training.step(*_stacked(training, self._batch(), CHECKED_STEPS))
        else:
            batch = [training.array(a) for a in self._batch()]
            losses = [training.step(*batch) for _ in range(CHECKED_STEPS)]
        changes = [np.asarray(now) - w for now, w in zip(training.weights(), weights)]
        return training, [float(loss) for loss in losses] if engine.equal else [], changes


@functools.cache
def _right(network: Network, optimizer: str) -> tuple[list[float], list[Array]]:
    """The correct losses and changes of the weights, computed by hand in float64."""
    _, losses, changes = Work(network, "float64", optimizer).start(by_hand())
    return losses, changes


def _stacked(training: Training, batch: Iterable[Array], steps: int) -> list[Any]:
    return [training.array(np.stack([a] * steps)) for a in batch]


class Operation(NamedTuple):
    """The forward and the backward pass of a function of some numbers of float32."""

    text: str
    function: Callable[[Any, Any], Any]  # of NumPy, or the like, and the numbers
    derivative: Callable[[Array], Array]  # of the sum of the results
    size: int

    def __str__(self) -> str:
        return f"{self.text}, {self.size:,}"

    def suits(self, engine: Engine) -> bool:
        """Whether the engine can do the work."""
        return engine.gradient is not None

    def prepare(self, engine: Engine) -> tuple[Turn, int]:
        """Check the gradient; return a turn, and its number of steps in a call."""
        x = np.linspace(-3, 3, self.size, dtype=np.float32)
        call = engine.gradient(self.function, x)
        require_equal("gradient", call(), self.derivative(x.astype(float)), TOLERANCE["float32"])
        return turn_of(call), 1


GELU = math.sqrt(2 / math.pi), 0.044715


def _gelu(np: Any, x: Any) -> Any:
    c, a = GELU
    return 0.5 * x * (1 + np.tanh(c * (x + a * (x * x * x))))


def _gelu_derivative(x: Array) -> Array:
    c, a = GELU
    y = np.tanh(c * (x + a * x**3))
    return 0.5 * (1 + y) + 0.5 * x * (1 - y * y) * c * (1 + 3 * a * x * x)


def _operations(quick: bool) -> list[Operation]:
    return [
        Operation("x * x", lambda _, x: x * x, lambda x: 2 * x, 8),
        Operation("sum(x * x)", lambda np, x: np.sum(x * x), lambda x: 2 * x, 8),
        Operation("tanh-GELU", _gelu, _gelu_derivative, 100_000 if quick else 10_000_000),
    ]


NETWORKS = [
    Network((3, 4, 4, 1), 4),
    Network((2, 16, 16, 1), 100),
    Network((64, 128, 10), 64),
    Network((784, 256, 128, 10), 128),
    Network((512,) * 5, 256),
    Network((1024,) * 5, 1024),
]


def run(quick: bool, output: Path) -> None:
    introduce(
        "One training step of a tanh network on the mean squared error, for layers of these widths",
        f"and batches of that size: microseconds (ratio to {BASE}). Shortest of the rounds",
        "in which the engines take turns. Their losses and weights are checked to be equal.",
    )
    engines = dict(installed(ENGINES))
    networks = NETWORKS[:3:2] if quick else NETWORKS
    fields = ["work", "engine", "microseconds", f"ratio to {BASE}"]

    def table(path: str, columns: Iterable[Any]) -> Table:
        print()
        widths = {"": 36} | {str(column): 16 for column in columns}
        return Table(widths, output / f"{path}.json", fields)

    def measured(works: Iterable[Any]) -> dict[Any, dict[str, float]]:
        return {work: _measured(work, engines, 0.3 if quick else 10.0) for work in works}

    training = table("peers", networks)
    ratios: dict[tuple[str, str], list[list[float]]] = {}
    for dtype, optimizer in itertools.product(TOLERANCE, RATE):
        columns = measured(Work(network, dtype, optimizer) for network in networks)
        _report(training, f"{dtype}, {optimizer}", columns, engines)
        for a, b in RATIOS:
            if a in engines and b in engines:
                ratio = [micro[a] / micro[b] for micro in columns.values()]
                ratios.setdefault((a, b), []).append(ratio)
    training.line("ratios, the least and the greatest", *[""] * len(networks))
    for (a, b), rows in ratios.items():
        training.line(f"{a} / {b}", *(f"{min(r):.2f} to {max(r):.2f}" for r in zip(*rows)))

    columns = measured(_operations(quick))
    _report(table("peers_operations", columns), "float32, and the gradient", columns, engines)


def _measured(work: Any, engines: Mapping[str, Engine], seconds: float) -> dict[str, float]:
    """The microseconds that a step of the work takes each engine."""
    turns, steps = {}, {}
    for name, engine in engines.items():
        if not work.suits(engine):
            continue
        note(f"checking {work} by {name}")
        try:
            turns[name], steps[name] = work.prepare(engine)
        except UnequalError as error:
            raise UnequalError(f"{work} by {name}: {error}") from None
    note(f"measuring {work}")
    return {name: t * 1e6 / steps[name] for name, (t,) in fastest(turns, seconds).items()}


def _report(
    table: Table, title: str, columns: Mapping[Any, dict[str, float]], engines: Iterable[str]
) -> None:
    """Print and record a line for each engine; cells that were not measured are empty."""
    table.line(title, *[""] * len(columns))
    for name in engines:
        rows = [
            (str(work), name, us[name], us[name] / us[BASE])
            for work, us in columns.items()
            if name in us
        ]
        cells = {work: f"{digits(us)} ({ratio:.2f})" for work, _, us, ratio in rows}
        if cells:
            table.line(f"  {name}", *(cells.get(str(work), "") for work in columns))
            table.record(rows)
