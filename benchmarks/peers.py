"""One training step, and one small operation, in tensorgrad and in other libraries."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .engines import ENGINES, Array, Engine, by_hand
from .timing import Table, digits, interleaved, introduce, note, require_equal

# The widths of the layers, and the batch; the last two are left out of a quick run.
NETWORKS = [
    ((3, 4, 4, 1), 4),
    ((2, 16, 16, 1), 100),
    ((64, 128, 10), 64),
    ((784, 256, 128, 10), 128),
    ((512,) * 5, 256),
    ((1024,) * 5, 1024),
]
CHECKED_STEPS = 3
TOLERANCE = 1e-3  # for float32, whose roundings add up over the steps


def run(quick: bool, output: Path) -> None:
    introduce(
        "One step of gradient descent on the mean squared error of a tanh network, and the forward",
        "and backward pass of one small operation, in float32: microseconds (ratio to tensorgrad).",
        "Minimum over rounds in which the engines take turns, once their results were found equal.",
    )
    engines = dict(_installed())
    table = Table(
        {"": 24} | dict.fromkeys(engines, 15),
        output / "peers.csv",
        ["work", "engine", "microseconds", "ratio to tensorgrad"],
    )
    for work, prepare in _works(NETWORKS[:-2] if quick else NETWORKS):
        note(f"checking {work}")
        calls = {name: prepare(name, engine) for name, engine in engines.items()}
        note(f"measuring {work}")
        times = interleaved(calls, seconds=0.5 if quick else 4.0)
        micro = {name: time * 1e6 for name, time in times.items()}
        ratios = {name: time / times["tensorgrad"] for name, time in times.items()}
        table.line(work, *(f"{digits(micro[name])} ({ratios[name]:.2f})" for name in engines))
        table.record((work, name, micro[name], ratios[name]) for name in engines)


def _installed():
    for name, make in ENGINES.items():
        note(f"loading {name}")
        try:
            yield name, make()
        except ModuleNotFoundError as error:
            note("")
            print(f"{name} is left out: {error.name} is not installed")


def _works(networks):
    """The name of each piece of work, and a function (name, engine) -> what is to be timed."""
    for widths, batch in networks:
        yield f"{_layers(widths)}, batch {batch}", _training(widths, batch)
    x = np.linspace(-1, 1, 8, dtype=np.float32)
    for text, kind in ("x * x", "square"), ("(x * x).sum()", "square_sum"):

        def prepare(name, engine, kind=kind, text=text):
            call = getattr(engine, kind)(x)
            require_equal(f"{text} by {name}: gradient", call(), 2 * x, TOLERANCE)
            return call

        yield f"{text}, 8 elements", prepare


def _layers(widths: Sequence[int]) -> str:
    if len(set(widths)) == 1:
        return f"{widths[0]}x{len(widths) - 1}"
    return "-".join(map(str, widths))


def _training(widths: Sequence[int], batch: int) -> Callable[[str, Engine], Callable[[], Any]]:
    """A training step of this network, checked against the hand-written one in float64."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, widths[0]))
    t = rng.uniform(-1, 1, (batch, widths[-1]))
    weights: list[Array] = []
    for nin, nout in itertools.pairwise(widths):
        weights += [rng.standard_normal((nout, nin)) / np.sqrt(nin), np.zeros(nout)]
    x, t, *weights = (a.astype(np.float32) for a in (x, t, *weights))

    def steps(engine: Engine, dtype: Any = np.float32):
        step, current = engine.training(
            [w.astype(dtype) for w in weights], x.astype(dtype), t.astype(dtype)
        )
        losses = [float(step()) for _ in range(CHECKED_STEPS)]
        changes = [np.asarray(now) - w for now, w in zip(current(), weights)]
        return step, losses, changes

    _, expected_losses, expected_changes = steps(by_hand(), np.float64)

    def prepare(name: str, engine: Engine) -> Callable[[], Any]:
        step, losses, changes = steps(engine)
        what = f"{_layers(widths)} by {name} after {CHECKED_STEPS} steps"
        require_equal(f"{what}: losses", losses, expected_losses, TOLERANCE)
        for i, (change, expected) in enumerate(zip(changes, expected_changes)):
            require_equal(f"{what}: change of parameter {i}", change, expected, TOLERANCE)
        return step

    return prepare
