"""Losses: functions of predictions and targets whose value training makes smaller."""

from typing import Any

import numpy as np

from ..tensor import differentiable
from .activations import relu
from .layers import as_input


def mse_loss(prediction: Any, target: Any) -> Any:
    """Return the mean of the squared differences, for two of one shape.

    Tensors, arrays or lists. Raises ValueError for two shapes, also where NumPy would broadcast.

    >>> tg.nn.mse_loss(np.array([1.0, 2.0]), [1.0, 4.0])
    np.float64(2.0)
    """
    return _mean_square(*_pair("mse_loss", prediction, target))


def _mean_square_back(g: Any, _y: Any, x: Any, t: Any) -> Any:
    return g * (2 / max(x.size, 1)) * (x - t)


@differentiable(_mean_square_back, lambda g, _y, x, t: -_mean_square_back(g, _y, x, t))
def _mean_square(x: Any, t: Any) -> Any:
    difference = x - t
    return np.mean(difference * difference)


def hinge_loss(prediction: Any, target: Any) -> Any:
    """Return the mean of max(0, 1 - target * prediction), for two of one shape.

    A target is the class -1 or 1, and a prediction a score, right with margin if beyond it.
    Tensors, arrays or lists. Raises ValueError for two shapes, and for another target.

    >>> tg.nn.hinge_loss(np.array([-3.0, 0.5]), [-1, 1])
    np.float64(0.25)
    """
    prediction, target = _pair("hinge_loss", prediction, target)
    if not np.all(np.abs(target) == 1):
        raise ValueError(
            "hinge_loss: a target other than -1 and 1; make classes 0 and 1 such by 2 * target - 1"
        )
    return np.mean(relu(1 - target * prediction))


def _pair(name: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    prediction = as_input(prediction, None)
    target = as_input(target, prediction.dtype)
    if prediction.shape != target.shape:
        raise ValueError(
            f"{name}: a prediction of shape {prediction.shape} and a target of shape "
            f"{target.shape}: the shapes must be equal; reshape one of them"
        )
    return prediction, target
