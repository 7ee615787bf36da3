"""The time to compile functions, from small to long, beside that of an eager call."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tensorgrad as tg

from .timing import Table, clock, digits, introduce, note, require_equal

TOLERANCE = 1e-10
REPEATED = 0.1  # seconds of calls, at least


class Case(NamedTuple):
    """A function, its arguments, and how often a part of it is repeated."""

    name: str
    sizes: tuple[int, ...]
    make: Callable[[int], tuple[Callable[..., Any], tuple[Any, ...]]]


def run(quick: bool, output: Path) -> None:
    introduce(
        "The seconds that compiling takes, which are to grow with the number of calls of the",
        "program, and not faster; those of a call that is not compiled, and of one that is; and",
        "the memory for temporary arrays over what is in use at the same time, at most.",
    )
    columns = {"calls": 9, "compile": 9, "us per call": 11, "eager": 9, "compiled": 9, "memory": 7}
    table = Table({"": 26, **columns}, output / "compile.json", ["what", "times", *columns])
    for case in CASES:
        for times in case.sizes[:2] if quick else case.sizes:
            note(f"measuring {case.name} of {times}")
            function, args = case.make(times)
            compiled = tg.compile(function, backend="numpy")
            eager, expected = _timed(function, args)
            seconds, plan = _timed(compiled.lower, args)
            compiled(*args)
            replay, result = _timed(compiled, args)
            require_equal(f"{case.name} of {times}", result, expected, TOLERANCE)
            calls = len(plan.steps)
            memory = plan.peak_bytes / max(plan.lower_bound, 1)
            row = calls, seconds, 1e6 * seconds / calls, eager, replay, memory
            table.line(f"{case.name}, {times}", *map(digits, row))
            table.record([(case.name, times, *row)])


def _timed(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[float, Any]:
    """The least seconds of a call, of some if it is short, and the last result."""
    least, total, result = math.inf, 0.0, None
    while total < REPEATED:
        gc.collect()
        start = clock()
        result = function(*args)
        seconds = clock() - start
        least, total = min(least, seconds), total + seconds
    return least, result


def _runge_kutta(steps: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The gradient of a loss along a solution of the Lotka-Volterra equations."""

    def slope(x: Any, theta: Any) -> Any:
        a, b, c, d = theta
        return np.stack([a * x[0] - b * x[0] * x[1], c * x[0] * x[1] - d * x[1]])

    def loss(theta: Any) -> Any:
        x, h, total = np.array([1.0, 0.5]), 0.01, 0.0
        for _ in range(steps):
            k1 = slope(x, theta)
            k2 = slope(x + h / 2 * k1, theta)
            k3 = slope(x + h / 2 * k2, theta)
            k4 = slope(x + h * k3, theta)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            total = total + np.sum(x**2)
        return total

    return tg.grad(loss), (np.array([1.0, 0.5, 0.4, 0.9]),)


def _lstm(steps: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The gradients of an LSTM over a sequence."""
    lstm = tg.nn.LSTM(4, 16, rng=0)
    return _step(lstm, lambda x: lstm(x)[0]), (np.random.default_rng(0).normal(size=(steps, 8, 4)),)


def _layers(depth: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The gradients of a deep network."""
    net = tg.MLP(8, [8] * depth, rng=0)
    return _step(net, net), (np.random.default_rng(0).normal(size=(4, 8)),)


def _step(net: Any, forward: Callable[[Any], Any]) -> Callable[..., Any]:
    """What gives the parameters of a network their gradients, and returns one of them."""

    def step(x: Any) -> Any:
        net.zero_grad()
        np.sum(forward(x) ** 2).backward()
        return net.parameters()[0].grad

    return step


CASES = (
    Case("Runge-Kutta steps", (5, 25, 200), _runge_kutta),
    Case("LSTM over a sequence", (5, 25, 200), _lstm),
    Case("layers of a network", (5, 40, 320), _layers),
)
