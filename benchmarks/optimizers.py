"""One step of Adam: tensorgrad's, by hand on one vector, and PyTorch's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .timing import Table, digits, fastest, introduce, note, require_equal, turn_of

Shapes = list[tuple[int, ...]]
Step = Callable[[], Any]
Result = Callable[[], Any]  # all parameters as one vector

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
STEPS = 3  # after which all results must be equal


def _layers(*widths: int) -> Shapes:
    return [shape for m, n in itertools.pairwise(widths) for shape in ((n, m), (n,))]


NETWORKS = {
    "6 parameters, 2-16-16-1": _layers(2, 16, 16, 1),
    "6 parameters, 784-256-128-10": _layers(784, 256, 128, 10),
    "60 parameters, 30 layers of 16": _layers(*[16] * 31),
    "60 parameters, 30 layers of 64": _layers(*[64] * 31),
    "60 parameters, 30 layers of 256": _layers(*[256] * 31),
}


def tensorgrad(parameters: list[Any], gradients: list[Any]) -> tuple[Step, Result]:
    from tensorgrad import Tensor, optim

    tensors = [Tensor(p, requires_grad=True) for p in parameters]
    for t, g in zip(tensors, gradients):
        t.grad = g
    optimizer = optim.Adam(tensors)
    return optimizer.step, lambda: np.concatenate([t.data for t in tensors], axis=None)


def by_hand_gathered(parameters: list[Any], gradients: list[Any]) -> tuple[Step, Result]:
    """The step by hand, after the gradients are copied into the vector."""
    views: list[Any] = []
    update, result = by_hand(parameters, gradients, views)

    def step() -> None:
        for view, g in zip(views, gradients):
            view[...] = g
        update()

    return step, result


def by_hand(
    parameters: list[Any], gradients: list[Any], views: list[Any] | None = None
) -> tuple[Step, Result]:
    """In place, with numbers as arrays. Views of the gradients are appended to `views`."""
    p, g = (np.concatenate(arrays, axis=None) for arrays in (parameters, gradients))
    if views is not None:
        ends = itertools.accumulate(a.size for a in gradients)
        views += [g[end - a.size : end].reshape(a.shape) for a, end in zip(gradients, ends)]
    m, v, s = np.zeros_like(p), np.zeros_like(p), np.empty_like(p)
    numbers = 0.9, 0.1, 0.999, 0.001, 0.0, 0.0
    keep1, share1, keep2, share2, eps, lr = (np.array(x, p.dtype) for x in numbers)
    t = 0

    def step() -> None:
        nonlocal m, v, s, p, t
        t += 1
        root = math.sqrt(1 - 0.999**t)
        eps[...] = 1e-8 * root
        lr[...] = 1e-3 * root / (1 - 0.9**t)
        m *= keep1
        m += np.multiply(g, share1, s)
        v *= keep2
        np.multiply(g, g, s)
        s *= share2
        v += s
        np.sqrt(v, s)
        s += eps
        np.divide(m, s, s)
        s *= lr
        p -= s

    return step, lambda: p


def _pytorch(**options: bool) -> Callable[[list[Any], list[Any]], tuple[Step, Result]]:
    def make(parameters: list[Any], gradients: list[Any]) -> tuple[Step, Result]:
        import torch

        tensors = [torch.tensor(p, requires_grad=True) for p in parameters]
        for t, g in zip(tensors, gradients):
            t.grad = torch.tensor(g)
        optimizer = torch.optim.Adam(tensors, **options)
        return optimizer.step, lambda: np.concatenate(
            [t.detach().numpy() for t in tensors], axis=None
        )

    return make


ENGINES = {
    "by hand": by_hand,
    "by hand, gathered": by_hand_gathered,
    "tensorgrad": tensorgrad,
    "PyTorch": _pytorch(foreach=False),
    "PyTorch foreach": _pytorch(foreach=True),
    "PyTorch fused": _pytorch(fused=True),
}


def run(quick: bool, output: Path) -> None:
    introduce(
        "One step of Adam: microseconds (ratio to the same step by hand, on one vector that holds",
        "the gradients already; the other engines first collect them from the parameters).",
    )
    table = Table(
        {"": 40} | dict.fromkeys(ENGINES, 17),
        output / "optimizers.json",
        ["parameters", "dtype", "engine", "microseconds", "ratio to by hand"],
    )
    for network, shapes in NETWORKS.items():
        for dtype in TOLERANCE:
            what = f"{network}, {dtype}"
            note(f"measuring {what}")
            turns = {name: turn_of(step) for name, step in _steps(what, shapes, dtype)}
            times = fastest(turns, seconds=0.5 if quick else 5.0)
            micro = {name: time * 1e6 for name, (time,) in times.items()}
            rows = [(network, dtype, name, us, us / micro["by hand"]) for name, us in micro.items()]
            cells = {name: f"{digits(us)} ({ratio:.2f})" for _, _, name, us, ratio in rows}
            table.line(what, *(cells.get(name, "") for name in ENGINES))
            table.record(rows)


def _steps(what: str, shapes: Shapes, dtype: str) -> Iterator[tuple[str, Step]]:
    """The step of each engine that is installed, when its results were found equal."""
    expected = None
    for name, make in ENGINES.items():
        rng = np.random.default_rng(0)
        parameters = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        gradients = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        try:
            step, result = make(parameters, gradients)
        except ModuleNotFoundError:
            continue
        for _ in range(STEPS):
            step()
        expected = result().copy() if expected is None else expected
        require_equal(f"{what} by {name}", result(), expected, TOLERANCE[dtype])
        yield name, step
