"""Optimizers, learning rate schedules, gradient clipping, and averages of parameters.

Names, arguments, defaults and formulas are those of `torch.optim`, as far as it has them.

>>> net = tg.MLP(2, [8, 1], rng=0)
>>> xs, classes = tg.data.moons(100, rng=0)
>>> optimizer = tg.optim.Adam(net.parameters(), lr=0.05)
>>> schedule = tg.optim.CosineAnnealingLR(optimizer, T_max=100)
>>> for _ in range(100):
...     loss = tg.nn.mse_loss(net(xs)[:, 0], 2 * classes - 1)
...     optimizer.zero_grad()
...     loss.backward()
...     norm = tg.optim.clip_grad_norm(net.parameters(), max_norm=1.0)
...     optimizer.step()
...     schedule.step()
>>> loss.item() < 0.2
True
"""

from typing import TYPE_CHECKING

from ..guide import of_module
from .averaging import ExponentialMovingAverage
from .base import Optimizer
from .clipping import clip_grad_norm, clip_grad_value
from .lbfgs import LBFGS
from .optimizers import SGD, Adagrad, Adam, AdamW, Lion, RMSprop
from .plateau import ReduceLROnPlateau
from .schedules import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "ExponentialMovingAverage",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "Lion",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm",
    "clip_grad_value",
]


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:
    __getattr__ = of_module(__name__)
