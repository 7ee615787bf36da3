"""The time to train a classifier of digits from a cold start, here and in other libraries."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .digits_engines import BATCH, ENGINES, EPOCHS, GOOD, RATE, WIDTHS
from .timing import Table, UnequalError, digits, introduce, note

TEST = 453  # images; 1,344 are left to train with, which are whole batches
SEEDS = 7
ALIKE = "tensorgrad", "PyTorch", "JAX jit"  # which take the same steps


def run(quick: bool, output: Path) -> None:
    from sklearn.datasets import load_digits

    introduce(
        f"The time until {GOOD:.0%} of {TEST} test images of scikit-learn's digits are classified",
        f"correctly: layers of {'-'.join(map(str, WIDTHS))} with ReLU, cross-entropy, Adam with a",
        f"rate of {RATE}, batches of {BATCH}, float32. Each training runs in a new process, where",
        "nothing has been compiled before. Seconds, medians over seeds.",
    )
    columns = {"training": 10, "process": 10, "epochs": 7}
    fields = ["engine", "training", "process", "epochs", "seeds"]
    table = Table({"": 18, **columns}, output / "digits.json", fields)
    images, labels = load_digits(return_X_y=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.npz"
        _save(path, images, labels)
        epochs: dict[str, list[float]] = {}
        for name, (_, library) in ENGINES.items():
            if importlib.util.find_spec(library) is None:
                print(f"{name} is left out: {library} is not installed")
                continue
            count = 1 if quick else SEEDS
            if quick and name == "PyTorch compiled":  # it takes a minute
                continue
            rows = [_measured(name, seed, path) for seed in range(count)]
            training, process, epochs[name] = map(list, zip(*rows, strict=True))
            medians = [*map(statistics.median, (training, process, epochs[name]))]
            table.line(name, *map(digits, medians))
            table.record([(name, *medians, count)])
        _require_alike(epochs)


def _save(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write the images, from 0 to 1, and the labels, in a random order, cut into two parts."""
    order = np.random.default_rng(0).permutation(len(images))
    x, y = (images[order] / 16).astype(np.float32), labels[order].astype(np.int64)
    np.savez(path, x_train=x[TEST:], x_test=x[:TEST], y_train=y[TEST:], y_test=y[:TEST])


def _measured(name: str, seed: int, path: Path) -> tuple[float, float, int]:
    """The seconds of the training and of the whole process, and the number of epochs."""
    note(f"training by {name} with seed {seed}")
    command = [sys.executable, "-m", "benchmarks.digits_engines", name, str(seed), str(path)]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
        done = subprocess.run(
            command, cwd=Path(__file__).parents[1], env=environment, check=True, text=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
    training, process, epochs = json.loads(done.stdout.splitlines()[-1])
    if epochs == EPOCHS:
        raise UnequalError(f"{name} with seed {seed}: it has not learned enough")
    return training, process, epochs


def _require_alike(epochs: dict[str, list[float]]) -> None:
    """Raise an UnequalError unless engines need about the same epochs: they differ by roundings."""
    found = {name: statistics.median(epochs[name]) for name in ALIKE if name in epochs}
    if max(found.values()) > 1.5 * min(found.values()):
        raise UnequalError(f"the numbers of epochs are {found}")
