"""The tensor engine against the scalar one: forward, backward and the whole training step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tensorgrad import nn

from .timing import Table, Turn, clock, digits, fastest, introduce, note, require_equal

RATE = 0.05
STEPS = {"scalar": 1, "tensor": 20}  # in each engine's turn
PHASES = "forward", "backward", "step"

# For each growing size, the width and the batch of the networks 2-width-width-1.
SERIES = {
    "batch": [(16, 1), (16, 3), (16, 10), (16, 30), (16, 100), (16, 300)],
    "width": [(4, 100), (8, 100), (16, 100), (32, 100), (64, 100)],
}
QUICK_SERIES = {"batch": [(16, 1), (16, 10)], "width": [(4, 10), (16, 10)]}


def run(quick: bool, output: Path) -> None:
    introduce(
        "One step of gradient descent on the mean squared error of a tanh network 2-width-width-1",
        "in float64: one number at a time, and as matrices. Milliseconds, the shortest of steps",
        "that the engines take in turns. Losses and gradients are checked to be equal. The garbage",
        "collector is on, as in any program, which costs the scalar engine more time.",
    )
    fields = ["growing", "width", "batch", "phase", "scalar seconds", "tensor seconds", "ratio"]
    widths = dict.fromkeys(["growing", "width", "batch", "phase", "scalar", "tensor", "ratio"], 9)
    table = Table(widths, output / "scalar.json", fields)
    for growing, sizes in (QUICK_SERIES if quick else SERIES).items():
        for width, batch in sizes:
            note(f"measuring width {width}, batch {batch}")
            times = fastest(_turns(width, batch), seconds=0.3 if quick else 3.0)
            for phase, slow, fast in zip(PHASES, times["scalar"], times["tensor"]):
                row = growing, width, batch, phase, slow, fast, slow / fast
                table.line(
                    *map(str, row[:4]), digits(slow * 1e3), digits(fast * 1e3), digits(slow / fast)
                )
                table.record([row])


def _turns(width: int, batch: int) -> dict[str, Turn]:
    """Training steps of the same network in both engines, checked to be the same."""
    rng = np.random.default_rng(0)
    net = nn.MLP(2, [width, width, 1], rng=rng)
    reference = net.to_scalar()
    x, t = rng.standard_normal((batch, 2)), rng.uniform(-1, 1, (batch, 1))
    rows, targets = x.tolist(), t.ravel().tolist()

    def scalar_loss() -> Any:
        return sum((reference(row) - target) ** 2 for row, target in zip(rows, targets)) / batch

    def tensor_loss() -> Any:
        return nn.mse_loss(net(x), t)

    slow, fast = scalar_loss(), tensor_loss()
    slow.backward()
    fast.backward()
    what = f"width {width}, batch {batch}: tensor engine's"
    require_equal(f"{what} loss", fast.data, slow.data, 1e-12)
    gradients = [np.c_[layer.weight.grad, layer.bias.grad].ravel() for layer in net.layers]
    expected = [p.grad for p in reference.parameters()]
    require_equal(f"{what} gradients", np.concatenate(gradients), expected, 1e-12)
    return {
        "scalar": _turn(reference, scalar_loss, STEPS["scalar"]),
        "tensor": _turn(net, tensor_loss, STEPS["tensor"]),
    }


def _turn(net: Any, loss: Callable[[], Any], steps: int) -> Turn:
    """Training steps, the same in both engines, of which the least time of each phase counts."""
    parameters = net.parameters()
    net.zero_grad()

    def step() -> tuple[float, float, float]:
        start = clock()
        value = loss()
        forward = clock()
        value.backward()
        backward = clock()
        for p in parameters:
            p.data += -RATE * p.grad
        net.zero_grad()
        return forward - start, backward - forward, clock() - start

    return lambda: [min(times) for times in zip(*(step() for _ in range(steps)))]
