"""Fits of `tensorgrad.estimators`, beside those of scikit-learn's own multi-layer perceptron."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .timing import Table, Turn, clock, compare, introduce, note, require_equal

EQUAL = 1e-6  # loss curves, relative to their norm


class Problem(NamedTuple):
    """Data, the kind of estimator, and its epochs."""

    name: str
    kind: str
    x: Any
    y: Any
    epochs: int

    def __str__(self) -> str:
        return self.name


def problems(quick: bool) -> list[Problem]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2_000 if quick else 20_000, 50))
    target = np.sin(features[:, 0]) + features[:, 1] * features[:, 2]
    epochs = 10 if quick else 200
    return [
        Problem("digits, adam, (100,)", "MLPClassifier", x / 16, y, epochs),
        Problem(f"{len(target):,} x 50, (100,)", "MLPRegressor", features, target, epochs // 10),
    ]


def _fitted(module: Any, problem: Problem) -> Any:
    # Every fit takes all epochs, whatever the loss does.
    options = {"max_iter": problem.epochs, "n_iter_no_change": problem.epochs + 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training has not converged
        return getattr(module, problem.kind)(random_state=0, **options).fit(problem.x, problem.y)


def _turn(module: Any, problem: Problem) -> Turn:
    def turn() -> list[float]:
        start = clock()
        _fitted(module, problem)
        return [clock() - start]

    return turn


def run(quick: bool, output: Path) -> None:
    introduce(
        "A fit of scikit-learn's estimator and of tensorgrad's: microseconds (ratio to",
        "tensorgrad). A step that is already compiled is used again, as in a search.",
    )
    engines = ["tensorgrad", "scikit-learn"]
    table = Table(
        {"": 26} | dict.fromkeys(engines, 22),
        output / "estimators.json",
        ["problem", "engine", "microseconds", "ratio to tensorgrad"],
    )
    for problem in problems(quick):
        compare(table, problem, dict(_turns(problem)), seconds=2.0 if quick else 20.0)


def _turns(problem: Problem) -> Iterator[tuple[str, Turn]]:
    """The turns of both, when their loss curves were found equal."""
    from sklearn import neural_network

    from tensorgrad import estimators

    modules: dict[str, Any] = {"tensorgrad": estimators, "scikit-learn": neural_network}
    expected: Any = None
    for name, module in modules.items():
        note(f"fitting {problem} by {name}")
        curve = _fitted(module, problem).loss_curve_
        expected = curve if expected is None else expected
        require_equal(f"{problem} by {name}", curve, expected, EQUAL)
        yield name, _turn(module, problem)
