"""Fits of `tensorgrad.estimators`, beside those of scikit-learn's own multi-layer perceptron."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from .timing import Table, Turn, clock, compare, introduce, note, require_equal

EQUAL = 1e-6  # loss curves, relative to their norm
NOISE = 0.01  # scores


class Engine(NamedTuple):
    """A module with estimators, and variables of the environment meanwhile."""

    module: Any
    environment: dict[str, str]


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


def _fitted(engine: Engine, problem: Problem, rows: slice) -> Any:
    # Every fit takes all epochs, whatever the loss does.
    options = {"max_iter": problem.epochs, "n_iter_no_change": problem.epochs + 1}
    estimator = getattr(engine.module, problem.kind)(random_state=0, **options)
    with warnings.catch_warnings(), mock.patch.dict(os.environ, engine.environment):
        warnings.simplefilter("ignore")  # the training has not converged
        return estimator.fit(problem.x[rows], problem.y[rows])


def _turn(engine: Engine, problem: Problem) -> Turn:
    def turn() -> list[float]:
        start = clock()
        _fitted(engine, problem, slice(None))
        return [clock() - start]

    return turn


def _engines() -> dict[str, Engine]:
    from sklearn import neural_network

    from tensorgrad import estimators

    return {
        "tensorgrad": Engine(estimators, {}),
        "NumPy alone": Engine(estimators, {"TENSORGRAD_BACKEND": "numpy"}),
        "scikit-learn": Engine(neural_network, {}),
    }


def run(quick: bool, output: Path) -> None:
    introduce(
        "A fit of scikit-learn's estimator and of tensorgrad's, also without native code:",
        "microseconds (ratio to tensorgrad). A step that is already compiled is used again, as in",
        "a search. Loss curves are checked to be equal, and scores of a tenth that is held out.",
    )
    engines = _engines()
    table = Table(
        {"": 26} | dict.fromkeys(engines, 22),
        output / "estimators.json",
        ["problem", "engine", "microseconds", "ratio to tensorgrad"],
    )
    for problem in problems(quick):
        turns = {name: _turn(engine, problem) for name, engine in engines.items()}
        _require_equal_results(engines, problem)
        compare(table, problem, turns, seconds=2.0 if quick else 20.0)


def _require_equal_results(engines: dict[str, Engine], problem: Problem) -> None:
    held_out = len(problem.x) // 10
    expected: Any = None
    for name, engine in engines.items():
        note(f"fitting {problem} by {name}")
        fitted = _fitted(engine, problem, slice(held_out, None))
        score = fitted.score(problem.x[:held_out], problem.y[:held_out])
        print(f"{problem}, score of the held-out tenth by {name}: {score:.4f}")
        expected = expected or (fitted.loss_curve_, score)
        require_equal(f"{problem} by {name}", fitted.loss_curve_, expected[0], EQUAL)
        require_equal(f"score of {problem} by {name}", score, expected[1], NOISE)
