"""`python -m tensorgrad [--seed N]`: train two networks, in a few seconds.

`python -m tensorgrad support [NAME ...]`: list which NumPy functions have derivatives.

`python -m tensorgrad doctor`: measure NumPy's matrix products, and say how to speed them up.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import timeit
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import __version__, doctor, no_grad, scalar, support
from .data import moons
from .engine.typing import Array
from .nn import MLP, hinge_loss

# The exit statuses that shells report for a program that a signal ended: Ctrl-C, or a closed pipe.
INTERRUPTED, NO_READER = 130, 141


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tour or print a report; `argv` is the list of command-line arguments."""
    try:
        try:
            answer(argv)
        finally:
            print(end="", flush=True)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at exit
        sys.exit(NO_READER if isinstance(error, BrokenPipeError) else f"error: {error}")


def answer(argv: Sequence[str] | None) -> None:
    """Do what the arguments ask for."""
    parser = argument_parser()
    arguments = parser.parse_args(argv)
    width = max(shutil.get_terminal_size((96, 24)).columns, 24)
    if arguments.report == "support":
        print_support(arguments.names, min(width, 96))
    elif arguments.report == "doctor":
        print_doctor(width)
    elif arguments.seed < 0:
        parser.error(f"argument --seed: {arguments.seed} is negative")
    else:
        rng = np.random.default_rng(arguments.seed)
        learn_four_samples(rng)
        learn_two_moons(rng, min(width - 2, 64))


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tensorgrad", description="Train two small networks, and print the results."
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all random numbers (default: 0)"
    )
    parser.add_argument("--version", action="version", version=f"tensorgrad {__version__}")
    reports = parser.add_subparsers(dest="report", title="or print a report")
    named = reports.add_parser("support", help="which NumPy functions have derivatives")
    named.add_argument(
        "names", nargs="*", metavar="NAME", help="a function, such as tanh or numpy.linalg.svd"
    )
    reports.add_parser("doctor", help="how fast NumPy multiplies matrices, and how to speed it up")
    return parser


def print_doctor(width: int) -> None:
    """Print which kernel multiplies matrices fastest."""
    try:
        for line in doctor.report(width=width):
            print(line, flush=True)
    except RuntimeError as error:
        sys.exit(f"error: {error}")


def print_support(names: Sequence[str], width: int) -> None:
    """Print which functions have derivatives, by default for all functions of NumPy."""
    if not names:
        print(support.report(width))
        return
    try:
        for name in names:
            print(support.about(name))
    except LookupError as error:
        sys.exit(f"error: {error}")


def learn_four_samples(rng: np.random.Generator, steps: int = 100) -> None:
    """Fit four samples, one prediction at a time, and predict a fifth."""
    xs = [
        [2.0, 8.0, -1.0],
        [3.0, -1.0, 0.5],
        [0.5, 7.0, 8.0],
        [1.0, 1.0, -9.0],
    ]
    ys = [1.0, -1.0, -1.0, 1.0]
    net = MLP(3, [4, 4, 1], rng=rng)
    print(f"Four samples\n\n  {net}\n\n   step      loss")
    for step in range(steps + 1):
        predictions = [net(x) for x in xs]
        loss: Any = sum((prediction - y) ** 2 for prediction, y in zip(predictions, ys))
        if step % (steps // 10) == 0:
            print(f"  {step:5}  {loss:8.5f}", flush=True)
        if step < steps:
            descend(net, loss, rate=0.05)
    print("\n  sample               target  prediction")
    for x, y, prediction in zip(xs, ys, predictions):
        print(f"  {x!s:19}  {y:6.1f}  {prediction:10.4f}")
    unseen = [2.0, 3.0, -1.0]
    print(f"  {unseen!s:19}  unseen  {net(unseen):10.4f}")


def learn_two_moons(rng: np.random.Generator, width: int, steps: int = 1000) -> None:
    """Classify points of two classes, and compare the speed of the two engines."""
    points, classes = moons(100, noise=0.1, rng=rng)
    targets = 2.0 * classes[:, np.newaxis] - 1
    net = MLP(2, [16, 16, 1], output_activation="linear", rng=rng)
    reference = net.to_scalar()
    print(f"\n\nTwo moons, {len(points)} points\n\n  {net}\n\n   step      loss  accuracy")
    for step in range(steps + 1):
        scores = net(points)
        loss = hinge_loss(scores, targets)
        if step % (steps // 10) == 0:
            accuracy = np.mean((scores.data > 0) == (targets > 0))
            print(f"  {step:5}  {loss:8.5f}  {accuracy:8.1%}", flush=True)
        if step < steps:
            descend(net, loss, rate=1.0)
    print(f"\n{draw(net, points, classes, width)}\n")
    compare_engines(reference, points, targets)


def descend(net: Any, loss: Any, rate: float) -> None:
    """Take one step of gradient descent, on either engine."""
    net.zero_grad()
    loss.backward()
    for p in net.parameters():
        p.data += -rate * p.grad


def draw(net: MLP, points: Array, classes: Array, width: int, height: int = 16) -> str:
    """Draw class 0 as `o`, class 1 as `x`, and dots where the network predicts class 1."""
    low, high = points.min(axis=0) - 0.2, points.max(axis=0) + 0.2
    across, down = np.linspace(low[0], high[0], width), np.linspace(high[1], low[1], height)
    with no_grad():
        scores = net(np.stack(np.meshgrid(across, down), axis=-1))
    cells = np.where(scores.numpy()[..., 0] > 0, ".", " ")
    column, row = np.rint((points - low) / (high - low) * (width - 1, height - 1)).astype(int).T
    cells[height - 1 - row, column] = np.where(classes == 0, "o", "x")
    return "\n".join("  " + "".join(line) for line in cells)


def compare_engines(reference: scalar.MLP, points: Array, targets: Array) -> None:
    """Time the same training step on both engines; both must compute the same loss."""
    net = MLP.from_scalar(reference)
    xs, ts = points.tolist(), targets[:, 0].tolist()

    def tensor_step() -> float:
        loss = hinge_loss(net(points), targets)
        descend(net, loss, rate=0.01)
        return float(loss.item())

    def scalar_step() -> float:
        losses = [(1 - t * reference(x)).relu() for x, t in zip(xs, ts)]
        loss: Any = sum(losses) / len(losses)
        descend(reference, loss, rate=0.01)
        return float(loss.data)

    for _ in range(2):  # the second loss depends on every gradient of the first
        loss, expected = tensor_step(), scalar_step()
        if not math.isclose(loss, expected, rel_tol=1e-9):
            raise AssertionError(f"the engines compute different losses: {loss} and {expected}")
    slow, fast = best_time(scalar_step, 1), best_time(tensor_step, 200)
    print("  The same step on all points, with equal losses:")
    print(f"  scalar engine {slow * 1e3:.0f} ms, tensor engine {fast * 1e3:.3f} ms: ", end="")
    print(f"{slow / fast:,.0f} times faster")


def best_time(step: Callable[[], Any], number: int) -> float:
    """Return the seconds of a step: the shortest of three means over `number` steps."""
    return min(timeit.repeat(step, number=number, repeat=3)) / number


if __name__ == "__main__":
    main()
