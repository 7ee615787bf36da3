"""Curves, boundaries and bars, on the axes of matplotlib.

Each function draws on the axes `ax`, or on those of a new figure, and returns them. Lines, markers
and hatches tell things apart without colours; the colours are those of Okabe and Ito, which the
colour-blind can tell apart (https://jfly.uni-koeln.de/color).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import scalar
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import optional
from ..nn import Module

COLORS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"
MARKERS = "osD^vPX"
HATCHES = "", "///", "...", "\\\\\\", "xxx", "ooo", "+++"
LINES = "-", "--", "-.", ":"
RATIO = 1e3  # to the median: where gradients count as vanishing or exploding
ROWS = 20  # of a profile


def history(history: Mapping[str, Sequence[float]], column: str = "loss", *, ax: Any = None) -> Any:
    """Draw a column of the `History` that `fit` returned, and its validation, by epochs.

    `column` is "loss" or the name of a metric. A dotted line marks the epoch whose weights the
    model has after early stopping. Raises KeyError for a column that is not there, and ValueError
    if there is no epoch.

    >>> axes = tg.viz.history({"loss": [1.0, 0.5], "val_loss": [1.1, 0.7]})  # doctest: +SKIP
    """
    if not isinstance(history, Mapping):
        raise TypeError(
            "history: the History of a training, or a dict of columns, is drawn, not "
            f"{type(history).__name__}"
        )
    if not any(map(len, history.values())):
        raise ValueError("history: there is no epoch to draw")
    names = [name for name in (column, f"val_{column}") if name in history]
    if not names:
        raise KeyError(f"history: there is no column {column!r}, only {[*history]}")
    ax = _axes(ax, "history")
    for i, name in enumerate(names):
        values = history[name]
        epochs = np.arange(1, len(values) + 1)
        label = "validation" if name != column else "training" if len(names) > 1 else column
        every = max(1, len(values) // 10)
        style = {"color": COLORS[i], "marker": MARKERS[i], "linestyle": LINES[i]}
        ax.plot(epochs, values, label=label, markersize=4, markevery=every, **style)
    best = getattr(history, "best_epoch", None)
    if best is not None:
        ax.axvline(best, color="#777777", linestyle=":", label=f"best epoch, {best}")
    if column == "loss" and all(np.min(history[name]) > 0 for name in names):
        ax.set_yscale("log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel=column)
    ax.legend()
    return ax


def decision_boundary(model: Any, x: Any, y: Any, *, ax: Any = None, steps: int = 100) -> Any:
    """Draw which class a model predicts in each place of the plane, and the points of a data set.

    `x` has shape (n, 2), and `y` holds the n classes. The model is called without recording, in
    evaluation mode, on arrays of shape (n, 2): its outputs are scores of two classes, of shape (n,)
    or (n, 1), positive for the second one, or scores of all classes, of shape (n, classes). The
    grid has `steps` points along each axis. Raises ValueError for other shapes.
    """
    x, y = np.asarray(x), np.asarray(y).ravel()
    if x.ndim != 2 or x.shape[1] != 2 or len(x) != len(y):
        raise ValueError(
            "decision_boundary: points of shape (n, 2) and n classes can be drawn, not x of shape "
            f"{x.shape} and y of shape {y.shape}"
        )
    if not np.isfinite(x).all():
        raise ValueError("decision_boundary: x has a NaN or an infinity, which has no place")
    classes, numbers = np.unique(y, return_inverse=True)
    low, high = x.min(axis=0), x.max(axis=0)
    margin = 0.1 * np.where(high > low, high - low, 1)
    across, up = np.linspace(low - margin, high + margin, steps).T
    points = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    surface, edges = _surface(model, points, len(classes))
    surface = surface.reshape(steps, steps)
    ax = _axes(ax, "decision_boundary")
    colors = [COLORS[i % len(COLORS)] for i in range(len(edges) - 1)]
    hatches = [HATCHES[i % len(HATCHES)] for i in range(len(edges) - 1)]
    ax.contourf(across, up, surface, edges, colors=colors, alpha=0.2)
    filled = ax.contourf(across, up, surface, edges, colors="none", hatches=hatches)
    filled.set_edgecolor("#00000030")
    if any(surface.min() < edge < surface.max() for edge in edges[1:-1]):
        ax.contour(across, up, surface, edges[1:-1], colors="black", linewidths=1)
    for i, name in enumerate(classes):
        of_class = x[numbers == i].T
        style = {"marker": MARKERS[i % len(MARKERS)], "color": COLORS[i % len(COLORS)]}
        ax.scatter(
            *of_class, label=f"class {name}", s=18, edgecolors="white", linewidths=0.5, **style
        )
    ax.set(xlabel="x[:, 0]", ylabel="x[:, 1]")
    ax.legend(loc="upper right")
    return ax


def _surface(model: Any, points: Any, count: int) -> tuple[Any, list[float]]:
    """What is drawn of each point, and the edges between classes.

    Of two classes, it is the difference of their scores, whose edge is 0; of more, the class's
    number.
    """
    with no_grad():
        if isinstance(model, Module):
            training = [module for module in model.modules() if module.training]
            model.eval()
            try:
                scores = model(points)
            finally:
                for module in training:
                    module.training = True
        elif isinstance(model, scalar.MLP):
            scores = [model(point).data for point in points.tolist()]
        else:
            scores = model(points)
    scores = np.asarray(getattr(scores, "data", scores) if isinstance(scores, Tensor) else scores)
    if scores.shape == (len(points), max(count, 2)):
        if count > 2:
            return scores.argmax(axis=1), [i - 0.5 for i in range(count + 1)]
        scores = scores[:, 1] - scores[:, 0]
    if scores.shape in [(len(points),), (len(points), 1)] and count <= 2:
        scores = np.nan_to_num(scores.ravel(), posinf=1e300, neginf=-1e300)
        largest = 1 + 2 * float(np.abs(scores).max())
        return scores, [-largest, 0.0, largest]
    raise ValueError(
        f"decision_boundary: for {count} classes, the model returned shape {scores.shape} for "
        f"{len(points):,} points: it should return a score of each class, or for two classes one"
    )


def gradients(model: Module, *, ax: Any = None) -> Any:
    """Draw how large the gradients of each parameter are, after a backward pass.

    A bar reaches to the root mean square of the elements; a line goes from the size of the smallest
    tenth to that of the largest tenth. A gradient a thousand times smaller than the median of the
    others is marked as vanishing, one a thousand times larger, or with a NaN or an infinity, as
    exploding. Raises ValueError if no parameter has a gradient.
    """
    if not isinstance(model, Module):
        raise TypeError(f"gradients: those of a Module are drawn, not of {type(model).__name__}")
    named = [(name, p.grad) for name, p in model.named_parameters()]
    found = [(name, np.abs(g).ravel()) for name, g in named if g is not None and g.size]
    if not found:
        raise ValueError("gradients: no parameter has a gradient: call loss.backward() first")
    sizes = np.array([np.sqrt(np.mean(np.square(g, dtype=float))) for _, g in found])
    finite = np.isfinite(sizes)
    usual = np.median(sizes[finite & (sizes > 0)]) if np.any(finite & (sizes > 0)) else 1.0
    ax = _axes(ax, "gradients", height=0.6 + 0.28 * len(found))
    floor = max(sizes[finite & (sizes > 0)].min(initial=usual) / 10, 1e-300)
    for i, ((_, g), size) in enumerate(zip(found, sizes, strict=True)):
        kind = _kind(size, usual)
        color, hatch = _OF_KIND[kind]
        end = max(size if np.isfinite(size) else usual * RATIO, floor)
        ax.barh(i, end, color=color, hatch=hatch, alpha=0.5, edgecolor="black")
        if np.isfinite(size):
            tenths = np.maximum(np.quantile(g, [0.1, 0.9]), floor)
            ax.plot(tenths, [i, i], color="black", marker="|")
            end = max(end, tenths[1])
        if kind:
            ax.annotate(f"  {kind}", (end, i), va="center")
    ax.set_xscale("log")
    ax.set_yticks(range(len(found)), [name for name, _ in found])
    ax.invert_yaxis()
    ax.margins(x=0.25)
    ax.set(xlabel="size of the gradient's elements\n(root mean square; smallest to largest tenth)")
    return ax


_OF_KIND = {
    "": (COLORS[0], ""),
    "vanishing": (COLORS[4], "..."),
    "exploding": (COLORS[1], "///"),
}


def _kind(size: float, usual: float) -> str:
    if not size <= usual * RATIO:  # or a NaN
        return "exploding"
    return "vanishing" if size < usual / RATIO else ""


def weights(layer: Any, *, ax: Any = None) -> Any:
    """Draw the weight of a layer, or a tensor, as a picture: a row for each output.

    Axes after the first are laid side by side. Up to 100 numbers are written into the picture.
    Raises TypeError for a layer without `weight`.
    """
    weight = layer if isinstance(layer, (Tensor, np.ndarray)) else getattr(layer, "weight", None)
    if weight is None:
        raise TypeError(
            f"weights: {type(layer).__name__} has no weight: pass a layer, such as model.layers[0]"
        )
    array = np.atleast_1d(np.asarray(getattr(weight, "data", weight), dtype=float))
    table = array.reshape(len(array), -1)
    largest = np.abs(table).max(initial=0) or 1.0
    ax = _axes(ax, "weights")
    picture = ax.imshow(table, "PuOr", vmin=-largest, vmax=largest, aspect="auto")
    if table.size <= 100:
        for (i, j), number in np.ndenumerate(table):
            color = "white" if abs(number) > 0.7 * largest else "black"
            ax.text(j, i, f"{number:.2g}", ha="center", va="center", color=color, fontsize=8)
    ax.figure.colorbar(picture, ax=ax, label="weight")
    for axis in ax.xaxis, ax.yaxis:
        axis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="input", ylabel="output")
    return ax


def profile(report: Any, *, ax: Any = None) -> Any:
    """Draw what each operation costs, in microseconds: the 20 slowest ones, in order.

    `report` is what a function under `tensorgrad.profile` returned, or `plan.profile()` of a
    compiled function.
    """
    rows = _costs(report)
    if not rows:
        raise ValueError("profile: the report has no operation: none needed a gradient")
    slowest = sorted(range(len(rows)), key=lambda i: -sum(rows[i][1]))[:ROWS]
    rows = [rows[i] for i in sorted(slowest)]
    ax = _axes(ax, "profile", height=0.8 + 0.28 * len(rows))
    left = np.zeros(len(rows))
    kinds = ("forward", "backward") if len(rows[0][1]) == 2 else ("call",)
    for i, kind in enumerate(kinds):
        times = np.array([1e6 * seconds[i] for _, seconds in rows])
        ax.barh(
            range(len(rows)), times, left=left, label=kind, color=COLORS[i], alpha=0.6,
            hatch=HATCHES[i], edgecolor="black",
        )  # fmt: skip
        left += times
    ax.set_yticks(range(len(rows)), [label for label, _ in rows])
    ax.invert_yaxis()
    ax.set(xlabel="microseconds")
    if len(kinds) > 1:
        ax.legend()
    return ax


def _costs(report: Any) -> list[tuple[str, tuple[float, ...]]]:
    """A label and the seconds of each operation of a report, in order."""
    if hasattr(report, "operations"):
        return [
            (f"{o.name} {o.shape}, {os.path.basename(o.place)}", (o.forward, o.backward))
            for o in report.operations
        ]
    if hasattr(report, "steps"):
        return [(f"{step.lines[0][:40]}", (seconds,)) for seconds, step in report.steps]
    raise TypeError(
        f"profile: a report of tensorgrad.profile or of plan.profile() is drawn, not "
        f"{type(report).__name__}"
    )


def _axes(ax: Any, who: str, height: float = 4.0) -> Any:
    """The given axes, or those of a new figure, so many inches high."""
    if ax is not None:
        return ax
    pyplot = optional("matplotlib.pyplot", f"tensorgrad.viz.{who}")
    return pyplot.subplots(figsize=(6.4, max(height, 1.6)), layout="constrained")[1]
