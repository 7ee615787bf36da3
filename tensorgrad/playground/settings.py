"""What can be chosen in the playground, and in which ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

DATA = "moons", "circles", "spirals", "blobs", "exclusive or", "plane", "hills", "own points"
REGRESSIONS = "plane", "hills"  # whose targets are numbers; those of the others are classes
FEATURES = "x1", "x2", "x1^2", "x2^2", "x1 x2", "sin x1", "sin x2"
ACTIVATIONS = "tanh", "relu", "sigmoid", "linear"
LOSSES = "logistic", "hinge", "squared"
OPTIMIZERS = "SGD", "momentum", "RMSprop", "Adam", "AdamW"
PENALTIES = "none", "L1", "L2"
RANGE = 3.0  # of both coordinates: from -RANGE to RANGE
MOST_LAYERS, MOST_NEURONS, MOST_POINTS = 6, 8, 500


class SettingsError(ValueError):
    """A setting that does not exist, or is out of its range. The message is for the user."""


@dataclass(frozen=True)
class Settings:
    """The settings of one training.

    `noise` is the standard deviation of the points, `share` the percentage of samples to train on,
    `layers` the neurons of each hidden layer, `batch` the samples of a step. `points` are the
    user's own, each with its coordinates and its class.

    >>> from tensorgrad.playground.settings import Settings
    >>> Settings.read({"data": "circles", "layers": [4, 2]}).layers
    (4, 2)
    >>> Settings.read({"batch": 0})
    Traceback (most recent call last):
    tensorgrad.playground.settings.SettingsError: batch: 0 is not a whole number from 1 to 100
    """

    data: str = "moons"
    noise: float = 0.2
    samples: int = 200
    share: int = 50
    features: tuple[str, ...] = ("x1", "x2")
    layers: tuple[int, ...] = (6, 4)
    activation: str = "tanh"
    loss: str = "logistic"
    optimizer: str = "Adam"
    rate: float = 0.01
    batch: int = 10
    penalty: str = "none"
    strength: float = 0.001
    seed: int = 0
    points: tuple[tuple[float, float, int], ...] = ()

    @classmethod
    def read(cls, chosen: Any) -> Settings:
        """The settings with these names and values, the others as they are by default.

        Raises SettingsError, which names the setting, its value and what is allowed.
        """
        if not isinstance(chosen, Mapping):
            raise SettingsError("settings: an object with a value for each name is expected")
        unknown = [name for name in chosen if name not in _CHECKS]
        if unknown:
            raise SettingsError(f"{_shown(unknown[0])}: there is no such setting")
        return cls(**{name: _CHECKS[name](name, value) for name, value in chosen.items()})

    @property
    def is_regression(self) -> bool:
        """Whether the targets are numbers, not classes."""
        return self.data in REGRESSIONS

    def as_dict(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self)


def _one_of(*choices: str) -> Any:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise SettingsError(f"{name}: {_shown(value)} is none of {', '.join(choices)}")
        return str(value)

    return check


def whole(low: int, high: int) -> Any:
    """A check of a setting: that it is a whole number in a range."""

    def check(name: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise SettingsError(
                f"{name}: {_shown(value)} is not a whole number from {low} to {high}"
            )
        return value

    return check


def _number(low: float, high: float) -> Any:
    def check(name: str, value: Any) -> float:
        is_number = type(value) in (int, float) and math.isfinite(value)
        if not (is_number and low <= value <= high):
            raise SettingsError(f"{name}: {_shown(value)} is not a number from {low} to {high}")
        return float(value)

    return check


def _each(check: Any, least: int, most: int) -> Any:
    def check_all(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise SettingsError(f"{name}: a list of {least} to {most} items is expected")
        return tuple([check(name, item) for item in value])

    return check_all


def _point(name: str, value: Any) -> tuple[float, float, int]:
    if not isinstance(value, list) or len(value) != 3:
        raise SettingsError(f"{name}: a point is two coordinates and a class, not {_shown(value)}")
    coordinate, of_class = _number(-RANGE, RANGE), whole(0, 1)
    return coordinate(name, value[0]), coordinate(name, value[1]), of_class(name, value[2])


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


_CHECKS: dict[str, Any] = {
    "data": _one_of(*DATA),
    "noise": _number(0, 1),
    "samples": whole(20, MOST_POINTS),
    "share": whole(10, 90),
    "features": _each(_one_of(*FEATURES), 1, len(FEATURES)),
    "layers": _each(whole(1, MOST_NEURONS), 0, MOST_LAYERS),
    "activation": _one_of(*ACTIVATIONS),
    "loss": _one_of(*LOSSES),
    "optimizer": _one_of(*OPTIMIZERS),
    "rate": _number(1e-5, 10),
    "batch": whole(1, 100),
    "penalty": _one_of(*PENALTIES),
    "strength": _number(0, 10),
    "seed": whole(0, 2**31 - 1),
    "points": _each(_point, 0, MOST_POINTS),
}
assert _CHECKS.keys() == {field.name for field in fields(Settings)}
