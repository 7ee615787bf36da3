"""The parts of the tour."""

from __future__ import annotations

import importlib.util
import inspect
import math
import timeit
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import compiler, scalar, viz
from ..data import moons
from ..engine.modes import no_grad
from ..engine.typing import Array
from ..nn import MLP, hinge_loss
from ..viz.curves import COLORS
from .report import Report

XS = [
    [2.0, 8.0, -1.0],
    [3.0, -1.0, 0.5],
    [0.5, 7.0, 8.0],
    [1.0, 1.0, -9.0],
]
YS = [1.0, -1.0, -1.0, 1.0]
UNSEEN = [2.0, 3.0, -1.0]


class Moons(NamedTuple):
    """The network of the moons, as it was before the training, and its points."""

    start: scalar.MLP
    points: Array
    targets: Array


def descend(net: Any, loss: Any, rate: float) -> None:
    """Take one step of gradient descent, on either engine."""
    net.zero_grad()
    loss.backward()
    for p in net.parameters():
        p.data += -rate * p.grad


def learn_four_samples(report: Report, rng: np.random.Generator, steps: int) -> MLP:
    """Fit four samples, one prediction at a time, and predict a fifth."""
    net = MLP(3, [4, 4, 1], rng=rng)
    report.heading("Four samples")
    report.say(
        "A network learns to give four samples the values 1 and -1: it follows the gradient of the "
        "sum of squared errors downhill."
    )
    report.show(f"  {net}\n\n   step      loss")
    losses: list[float] = []
    for step in range(steps + 1):
        predictions = [net(x) for x in XS]
        loss: Any = sum((prediction - y) ** 2 for prediction, y in zip(predictions, YS))
        losses.append(loss.item())
        line = f"  {step:5}  {losses[-1]:8.5f}  {bar(losses[-1] / losses[0], report.width - 20)}"
        (report.live if step % (steps // 10) else report.show)(line.rstrip())
        if step < steps:
            descend(net, loss, rate=0.05)
    report.show("\n  sample               target  prediction")
    for x, y, prediction in zip(XS, YS, predictions):
        report.show(f"  {x!s:19}  {y:6.1f}  {prediction:10.4f}")
    report.show(f"  {UNSEEN!s:19}  unseen  {net(UNSEEN):10.4f}")
    report.plot("losses", "The loss falls with each step.", lambda f: draw_losses(f, losses))
    report.code("One step, as the tour takes it:", inspect.getsource(descend))
    return net


def bar(fraction: float, room: int) -> str:
    """A bar that fills a fraction of the room, of up to 40 columns."""
    return "█" * math.ceil(max(min(room, 40), 0) * min(fraction, 1))


def draw_losses(figure: Any, losses: list[float]) -> None:
    """Draw the loss after each step; the first of the losses is that before all steps."""
    viz.history({"loss": losses[1:]}, ax=figure.subplots()).set(xlabel="step")


def look_at_a_neuron(report: Report, net: MLP) -> None:
    """Show the graph of the first neuron, number by number."""
    neuron = net.to_scalar().layers[0].neurons[0]
    inputs = [scalar.Value(x, label=f"x{i}") for i, x in enumerate(UNSEEN, 1)]
    for i, weight in enumerate(neuron.w, 1):
        weight.label = f"w{i}"
    neuron.b.label = "b"
    output = neuron(inputs)
    output.backward()
    graph = viz.graph(output)
    report.heading("One neuron")
    report.say(
        "This is how the first neuron of the trained network computes tanh(w1 x1 + w2 x2 + w3 x3 + "
        "b). The gradient of a number says how fast the output changes with it: backward() finds "
        "all of them in one pass, from the output to the inputs."
    )
    drawn = report.picture("neuron", "Each box is a number: its data and its gradient.", graph.save)
    report.show(str(graph), page=not drawn)


def learn_two_moons(report: Report, rng: np.random.Generator, steps: int) -> Moons:
    """Classify points of two classes."""
    points, classes = moons(100, noise=0.1, rng=rng)
    targets = 2.0 * classes[:, np.newaxis] - 1
    net = MLP(2, [16, 16, 1], output_activation="linear", rng=rng)
    start = net.to_scalar()
    stages = {0: net.state_dict()}
    report.heading("Two moons")
    report.say(
        f"Another network learns to tell {len(points)} points of two classes apart, all of them in "
        "each step, as one array."
    )
    report.show(f"  {net}\n\n   step      loss  accuracy")
    losses: list[float] = []
    for step in range(steps + 1):
        scores = net(points)
        loss = hinge_loss(scores, targets)
        losses.append(loss.item())
        accuracy = np.mean((scores.data > 0) == (targets > 0))
        line = f"  {step:5}  {losses[-1]:8.5f}  {accuracy:8.1%}"
        (report.live if step % (steps // 10) else report.show)(line)
        if step in (steps // 50, steps // 10, steps):
            stages[step] = net.state_dict()
        if step < steps:
            descend(net, loss, rate=1.0)
    drawn = report.plot(
        "moons",
        "Where the network predicts which class, before, during and after the training.",
        lambda figure: draw_stages(figure, net, stages, points, classes),
        figsize=(9, 7),
    )
    picture = draw(net, points, classes, min(report.width - 2, 64))
    report.show(f"\n{picture}\n\n{LEGEND}", page=not drawn)
    return Moons(start, points, targets)


LEGEND = "  o  class 0\n  x  class 1\n  .  where the network predicts class 1"


def draw_stages(
    figure: Any, net: MLP, stages: dict[int, Any], points: Array, classes: Array
) -> None:
    """Draw the boundary of the network after some numbers of steps."""
    trained = net.state_dict()
    for axes, (step, state) in zip(figure.subplots(2, 2).flat, stages.items()):
        net.load_state_dict(state)
        viz.decision_boundary(net, points, classes, ax=axes)
        axes.set(title=f"after {step} steps")
    net.load_state_dict(trained)


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


def compare_engines(report: Report, moons: Moons, quick: bool) -> None:
    """Time the same training step in each way; all must compute the same losses."""
    report.heading("The same step, faster")
    report.say(
        "One training step on all points of the moons: number by number with the scalar engine, "
        "with tensors, and with tensors and tg.compile. The losses are equal."
    )
    steps = steps_of(moons)
    losses = [[step() for _ in range(2)] for step in steps.values()]
    for name, found in zip(steps, losses):  # the second loss depends on all gradients of the first
        if not np.allclose(found, losses[0], rtol=1e-9, atol=0):
            raise AssertionError(f"{name}: losses of {found}, not {losses[0]}")
    times = {
        name: best_time(step, 1 if name == SCALAR else 20 if quick else 200)
        for name, step in steps.items()
    }
    report.show(f"  {'':20}{'step':>10}  times as fast")
    for name, seconds in times.items():
        report.show(f"  {name:20}{seconds * 1e3:7.3f} ms  {times[SCALAR] / seconds:13,.0f}")
    report.plot(
        "times",
        "The time of a step. Each line of the axis is ten times the one before.",
        lambda figure: draw_times(figure, times),
        figsize=(6.4, 2.4),
    )


SCALAR = "scalar engine"


def steps_of(moons: Moons) -> dict[str, Callable[[], float]]:
    """A training step that returns the loss, in each way that is installed, by its name."""
    reference, points, targets = moons
    xs, ts = points.tolist(), targets[:, 0].tolist()

    def scalar_step() -> float:
        losses = [(1 - t * reference(x)).relu() for x, t in zip(xs, ts)]
        loss: Any = sum(losses) / len(losses)
        descend(reference, loss, rate=0.01)
        return float(loss.data)

    def tensor_step(wrap: Callable[[Any], Any] = lambda f: f) -> Callable[[], float]:
        net = MLP.from_scalar(reference)

        def step(points: Array) -> Any:
            loss = hinge_loss(net(points), targets)
            descend(net, loss, rate=0.01)
            return loss

        wrapped = wrap(step)
        return lambda: float(wrapped(points).item())

    steps = {
        SCALAR: scalar_step,
        "tensors": tensor_step(),
        "compiled": tensor_step(lambda f: compiler.compile(f, backend="numpy")),
    }
    if importlib.util.find_spec("llvmlite"):
        steps["compiled, native"] = tensor_step(lambda f: compiler.compile(f, backend="llvm"))
    return steps


def best_time(step: Callable[[], Any], number: int) -> float:
    """Return the seconds of a step: the shortest of three means over `number` steps."""
    return min(timeit.repeat(step, number=number, repeat=3)) / number


def draw_times(figure: Any, times: dict[str, float]) -> None:
    """Draw a bar for each time, on a logarithmic axis."""
    axes = figure.subplots()
    bars = axes.barh([*times], [seconds * 1e3 for seconds in times.values()], color=COLORS[0])
    axes.bar_label(bars, fmt=" {:.3g} ms")
    axes.set(xscale="log", xlabel="milliseconds")
    axes.margins(x=0.2)
    axes.invert_yaxis()
