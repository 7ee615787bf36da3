"""A schedule that follows a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from ..engine.modes import plain
from .base import Optimizer
from .schedules import Schedule


class ReduceLROnPlateau(Schedule):
    """Multiply the learning rate by `factor` if a metric has not improved for `patience` steps.

    To improve is to fall with `mode="min"`, and to rise with `"max"`, by more than `threshold`:
    with `threshold_mode="rel"`, that is a fraction of the absolute value of the best metric so far,
    with `"abs"`, a difference. The `cooldown` steps after a reduction do not count. The learning
    rate stays at or above `min_lr`, a number or a list with one for each group. A reduction by
    `eps` or less is not made.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.1]
    """

    read_once = ("min_lr",)

    def __init__(
        self,
        optimizer: Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self._require_optimizer(optimizer)
        self._require(0 <= factor < 1, f"factor {factor} must be from 0 to below 1")
        self._require(mode in ("min", "max"), f'mode {mode!r} must be "min" or "max"')
        self._require(
            threshold_mode in ("rel", "abs"),
            f'threshold_mode {threshold_mode!r} must be "rel" or "abs"',
        )
        self.optimizer = optimizer
        self.min_lrs = [*min_lr] if isinstance(min_lr, Sequence) else [min_lr]
        self._for_each("min_lr", self.min_lrs)
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.num_bad_epochs = self.cooldown_counter = 0

    def _better(self, metric: float) -> bool:
        if math.isinf(self.best):  # a fraction of infinity would be no margin
            return metric < self.best if self.mode == "min" else metric > self.best
        margin = self.threshold * (abs(self.best) if self.threshold_mode == "rel" else 1)
        return metric < self.best - margin if self.mode == "min" else metric > self.best + margin

    def step(self, metrics: Any) -> None:
        """Take the metric of an epoch, a number or a tensor of one, and reduce if it is time."""
        self._each_time(plain(metrics))

    def _advance(self, metrics: Any) -> None:
        metric = float(metrics.item() if hasattr(metrics, "item") else metrics)
        self.last_epoch += 1
        if self._better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _reduce(self) -> None:
        floors = self._for_each("min_lr", self.min_lrs)
        for group, floor in zip(self.optimizer.param_groups, floors):
            lr = max(group["lr"] * self.factor, floor)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The learning rates, one for each group."""
        return self._group_lrs()
