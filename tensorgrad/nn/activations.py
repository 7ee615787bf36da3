"""Activations: functions of a tensor or an array, element by element. Tanh is `numpy.tanh`."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ..tensor import differentiable

Activation: TypeAlias = Callable[[Any], Any]


# Not g * (y > 0), which is nan where g is infinite.
@differentiable(lambda g, y, _x: np.where(y <= 0, 0, g))
def relu(x: Any) -> Any:
    """Return the larger of `x` and 0; at 0 the derivative is 0.

    >>> tg.nn.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return np.maximum(x, 0)


@differentiable(lambda g, y, _x: g * (y * (1 - y)))
def sigmoid(x: Any) -> Any:
    """Return the logistic function, 1 / (1 + exp(-x)).

    >>> tg.nn.sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    with np.errstate(over="ignore", under="ignore"):  # exp gives inf or 0, and both are right here
        return 1 / (1 + np.exp(-x))


def linear(x: Any) -> Any:
    """Return `x` as it is: no activation."""
    return x


ACTIVATIONS: dict[str, Activation] = {
    "tanh": np.tanh,
    "relu": relu,
    "sigmoid": sigmoid,
    "linear": linear,
}
