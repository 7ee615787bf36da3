"""Schedules: the learning rate as a function of the number of steps.

A schedule sets the rate of each of an optimizer's groups when it is made, and at each `step()`,
which comes after the optimizer's. What else changes a rate meanwhile, another schedule or a line of
the user's, scales this schedule from there on, so that two of them multiply. A group that is added
later joins in from the rate that it has then.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ..graph import each_time
from ..guide import guide
from ..tensor import plain
from .optimizers import Optimizer


@guide
class LRScheduler:
    """What schedules have in common; one needs `_lr`, the rate after `t` steps, of `base` at 0."""

    def __init__(self, optimizer: Optimizer) -> None:
        _require_optimizer(self, optimizer)
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self._restart()

    def _lr(self, base: float, t: int) -> float:
        raise NotImplementedError

    def _lrs(self, bases: Sequence[float], t: int) -> list[float]:
        return [self._lr(base, t) for base in bases]

    def _restart(self) -> None:
        self.last_epoch = 0
        self._last_lr = self._lrs(self.base_lrs, 0)
        self._write()

    def _write(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr

    def _follow(self) -> None:
        """Continue from the rates that the groups, including new ones, have now."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        known = len(self._last_lr)
        _require(
            self, known <= len(rates), f"{len(rates)} groups are left of {known}: make a new one"
        )
        if rates == self._last_lr:
            return
        # A rate is a linear function of its base: solve it for the base that gives the new rate.
        ends = [self._lrs([base] * len(rates), self.last_epoch) for base in (0.0, 1.0)]
        bases = [*self.base_lrs, *rates[known:]]
        for i, (rate, low, high) in enumerate(zip(rates, *ends)):
            if high != low and (i >= known or rate != self._last_lr[i]):
                bases[i] = (rate - low) / (high - low)
        self.base_lrs, self._last_lr = bases[:known], rates
        self._extend(bases)

    def _extend(self, bases: Sequence[float]) -> None:
        """Add the bases of new groups."""
        self.base_lrs += bases[len(self.base_lrs) :]

    def step(self) -> None:
        """Set the rates of the next epoch, or of the next step, whatever is counted."""
        each_time(self._advance)

    def _advance(self) -> None:
        self._follow()
        self.last_epoch += 1
        self._last_lr = self._lrs(self.base_lrs, self.last_epoch)
        self._write()

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one of each group."""
        return [*self._last_lr]

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that later rates depend on; functions are not among it."""
        return _state(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, and set the rates.

        Raises ValueError, and changes nothing, for the state of another kind of schedule, or of
        another number of groups.
        """
        self._require_own(state)
        self._restore(state)
        self._write()

    def _require_own(self, state: Mapping[str, Any]) -> None:
        _require_own(self, state)

    def _restore(self, state: Mapping[str, Any]) -> None:
        vars(self).update(_copies(state))


def _require_optimizer(schedule: Any, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"{type(schedule).__name__}: needs an optimizer, not a {type(optimizer).__name__}"
        )


def _require(schedule: Any, rule: bool, text: str) -> None:
    if not rule:
        raise ValueError(f"{type(schedule).__name__}: {text}")


def _for_each(schedule: Any, name: str, values: Sequence[Any], optimizer: Optimizer) -> list[Any]:
    """A value for each of an optimizer's groups; a single value holds for all."""
    _require_optimizer(schedule, optimizer)
    count = len(optimizer.param_groups)
    _require(
        schedule,
        len(values) in (1, count),
        f"{len(values)} of {name} for {count} groups: needs a {name} or {count} of them",
    )
    return [*values] * (count // len(values))


def _copies(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: [*v] if isinstance(v, list) else v for name, v in state.items()}


def _state(schedule: Any) -> dict[str, Any]:
    """Copies of a schedule's numbers."""
    copies = _copies(vars(schedule))
    return {k: v for k, v in copies.items() if k not in ("optimizer", "lr_lambdas", "max_lrs")}


def _require_own(schedule: Any, state: Mapping[str, Any]) -> None:
    names = schedule.state_dict().keys()
    _require(
        schedule,
        state.keys() == names,
        f"the state of another schedule, of {[*state]}, was not loaded: it must be of {[*names]}",
    )
    t = state["last_epoch"]
    _require(schedule, isinstance(t, int) and t >= 0, f"last_epoch {t!r} is no count of steps")
    groups = len(schedule.optimizer.param_groups)
    for name in names & {"base_lrs", "_last_lr", "min_lrs"}:
        _require(
            schedule,
            len(state[name]) == groups or (name == "min_lrs" and len(state[name]) == 1),
            f"a state of {len(state[name])} groups was not loaded: the optimizer has {groups}",
        )


class LambdaLR(LRScheduler):
    """The base rate times what a function of the number of steps returns.

    `lr_lambda` can be a list of functions, one for each group; a single one holds for all.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.LambdaLR(optimizer, lambda t: 1 / (1 + t))
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
    ) -> None:
        self.lr_lambdas = [lr_lambda] if callable(lr_lambda) else [*lr_lambda]
        super().__init__(optimizer)

    def _lrs(self, bases: Sequence[float], t: int) -> list[float]:
        functions = _for_each(self, "function", self.lr_lambdas, self.optimizer)
        return [base * factor(t) for base, factor in zip(bases, functions)]


class StepLR(LRScheduler):
    """The rate times `gamma` every `step_size` steps.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(5):
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        _require(self, step_size >= 1, f"step_size {step_size} must be at least 1")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def _lr(self, base: float, t: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """The rate times `gamma` at each of the `milestones`, counts of steps.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.MultiStepLR(optimizer, milestones=[2, 30], gamma=0.5)
    >>> for _ in range(5):
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def _lr(self, base: float, t: int) -> float:
        return base * self.gamma ** bisect_right(self.milestones, t)


class ExponentialLR(LRScheduler):
    """The rate times `gamma` at every step.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.ExponentialLR(optimizer, gamma=0.5)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def _lr(self, base: float, t: int) -> float:
        return base * self.gamma**t


class LinearLR(LRScheduler):
    """A warm-up: the rate times a factor that goes straight from `start_factor` to `end_factor`.

    It is there after `total_iters` steps, and stays.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.75]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        _require(
            self,
            0 < start_factor <= 1 and 0 <= end_factor <= 1,
            f"start_factor {start_factor} and end_factor {end_factor} must be at most 1, "
            "and not negative; the first not 0 either",
        )
        _require(self, total_iters >= 1, f"total_iters {total_iters} must be at least 1")
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def _lr(self, base: float, t: int) -> float:
        way = min(t / self.total_iters, 1)
        return base * (self.start_factor + (self.end_factor - self.start_factor) * way)


class CosineAnnealingLR(LRScheduler):
    """The rate along half a cosine, down to `eta_min` after `T_max` steps, and then up again.

    Loshchilov and Hutter, SGDR: Stochastic gradient descent with warm restarts, 2017, without the
    restarts.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.CosineAnnealingLR(optimizer, T_max=2)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803
        _require(self, T_max >= 1, f"T_max {T_max} must be at least 1")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def _lr(self, base: float, t: int) -> float:
        return _cosine(base, self.eta_min, t / self.T_max)


def _cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * way)) / 2


def _line(start: float, end: float, way: float) -> float:
    return start + (end - start) * way


_CURVES = {"cos": _cosine, "linear": _line}


class OneCycleLR(LRScheduler):
    """Up to `max_lr` and down to almost nothing, in `total_steps` steps; momentum the other way.

    The rate starts at max_lr / div_factor, is `max_lr` after a fraction `pct_start` of the steps,
    and ends at max_lr / div_factor / final_div_factor; with `three_phase`, it comes down as it went
    up first. `anneal_strategy`, "cos" or "linear", is the curve. `max_lr` can be a list, one for
    each group. `total_steps` can be given as `epochs` times `steps_per_epoch`; going on after them
    raises ValueError. With `cycle_momentum`, momentum, or the first of `betas`, goes from
    `max_momentum` to `base_momentum` and back. Smith and Topin, Super-convergence, 2018.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], momentum=0.9)
    >>> schedule = tg.optim.OneCycleLR(optimizer, max_lr=1.0, total_steps=11, pct_start=6 / 11)
    >>> for _ in range(5):
    ...     schedule.step()
    >>> schedule.get_last_lr(), optimizer.param_groups[0]["momentum"]
    ([1.0], 0.85)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch
        if total_steps is None or total_steps < 1:
            raise ValueError("OneCycleLR: needs total_steps, or epochs and steps_per_epoch")
        _require(self, 0 <= pct_start <= 1, f"pct_start {pct_start} is not between 0 and 1")
        _require(
            self,
            anneal_strategy in _CURVES,
            f"anneal_strategy {anneal_strategy!r} is not one of {[*_CURVES]}",
        )
        _require_optimizer(self, optimizer)
        groups = optimizer.param_groups
        _require(
            self,
            not cycle_momentum or all("momentum" in g or "betas" in g for g in groups),
            f"{type(optimizer).__name__} has no momentum: pass cycle_momentum=False",
        )
        self.max_lrs = [*max_lr] if isinstance(max_lr, Sequence) else [max_lr]
        peaks = _for_each(self, "max_lr", self.max_lrs, optimizer)
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        # The last step of each phase, where the rate is there over max_lr, and the momentum.
        start, end = 1 / div_factor, 1 / div_factor / final_div_factor
        low, high, top = base_momentum, max_momentum, pct_start * total_steps - 1
        self.phases = [(0.0, start, high), (top, 1.0, low)]
        self.phases += [(2 * top, start, high)] if three_phase else []
        self.phases += [(total_steps - 1.0, end, high)]
        self.optimizer = optimizer
        self.base_lrs = peaks
        self._restart()

    def _at(self, t: int) -> tuple[float, float]:
        count = self.total_steps
        _require(self, t <= count, f"step {t} of total_steps={count}: raise it")
        t = min(t, count - 1)  # a loop's last call comes after the optimizer's last step
        i = next(i for i, phase in enumerate(self.phases) if i and t <= phase[0])
        (first, *start), (last, *end) = self.phases[i - 1], self.phases[i]
        way = (t - first) / (last - first) if last > first else 1.0
        lr, momentum = (_CURVES[self.anneal_strategy](a, b, way) for a, b in zip(start, end))
        return lr, momentum

    def _lr(self, base: float, t: int) -> float:
        return base * self._at(t)[0]

    def _extend(self, _bases: Sequence[float]) -> None:
        super()._extend(_for_each(self, "max_lr", self.max_lrs, self.optimizer))

    def _write(self) -> None:
        super()._write()
        momentum = self._at(self.last_epoch)[1]
        for group in self.optimizer.param_groups if self.cycle_momentum else ():
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum


class SequentialLR(LRScheduler):
    """One schedule after the other: `schedulers[i + 1]` starts at step `milestones[i]`.

    All are made on the same optimizer, and the rate from which each starts is that from before the
    first of them.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.SequentialLR(optimizer, [
    ...     tg.optim.LinearLR(optimizer, start_factor=0.1, total_iters=10),
    ...     tg.optim.CosineAnnealingLR(optimizer, T_max=90),
    ... ], milestones=[10])
    >>> for _ in range(55):
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
    ) -> None:
        _require(
            self,
            len(schedulers) == len(milestones) + 1 and [*milestones] == sorted(milestones),
            f"{len(schedulers)} schedulers need one milestone less, in ascending order, "
            f"not {milestones}",
        )
        for s in schedulers:
            _require(
                self,
                isinstance(s, LRScheduler) and s.optimizer is optimizer,
                f"{type(s).__name__} is not an LRScheduler of this optimizer",
            )
            _require(
                self, not isinstance(s, SequentialLR), "a part is one itself: pass all parts to one"
            )
        self.optimizer = optimizer
        self.schedulers, self.milestones = [*schedulers], [*milestones]
        self.last_epoch = 0
        for s in schedulers:
            if not isinstance(s, OneCycleLR):
                s.base_lrs = [*schedulers[0].base_lrs]
        schedulers[0]._restart()

    def _advance(self) -> None:
        current = self.schedulers[bisect_right(self.milestones, self.last_epoch)]
        current._follow()
        for schedule in self.schedulers:
            schedule._extend(current.base_lrs)
        self.last_epoch += 1
        i = bisect_right(self.milestones, self.last_epoch)
        if self.last_epoch in self.milestones:
            self.schedulers[i]._restart()
        else:
            self.schedulers[i]._advance()

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one of each group."""
        return self.schedulers[bisect_right(self.milestones, self.last_epoch)].get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that later rates depend on; functions are not among it."""
        schedules = [s.state_dict() for s in self.schedulers]
        return {"last_epoch": self.last_epoch, "schedulers": schedules}

    def _require_own(self, state: Mapping[str, Any]) -> None:
        super()._require_own(state)
        saved, count = state["schedulers"], len(self.schedulers)
        _require(self, len(saved) == count, f"a state of {len(saved)} schedules, not of {count}")
        for schedule, part in zip(self.schedulers, saved):
            schedule._require_own(part)

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.last_epoch = state["last_epoch"]
        for schedule, part in zip(self.schedulers, state["schedulers"]):
            schedule._restore(part)

    def _write(self) -> None:
        self.schedulers[bisect_right(self.milestones, self.last_epoch)]._write()


class ReduceLROnPlateau:
    """The rate times `factor` when a metric has not become better for `patience` steps.

    Better is less with `mode="min"`, more with `"max"`, by `threshold`: a fraction of the absolute
    value of the best so far with `threshold_mode="rel"`, else absolute. After a reduction
    `cooldown` steps do not count. The rate stays at least `min_lr`, a number or one for each group;
    reductions by less than `eps` are not made.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.1]
    """

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
        _require(self, 0 <= factor < 1, f"factor {factor} must be from 0 to below 1")
        _require(self, mode in ("min", "max"), f'mode {mode!r} must be "min" or "max"')
        _require(
            self,
            threshold_mode in ("rel", "abs"),
            f'threshold_mode {threshold_mode!r} must be "rel" or "abs"',
        )
        self.min_lrs = [*min_lr] if isinstance(min_lr, Sequence) else [min_lr]
        _for_each(self, "min_lr", self.min_lrs, optimizer)
        self.optimizer = optimizer
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.num_bad_epochs = self.cooldown_counter = 0

    def _better(self, metric: float) -> bool:
        if math.isinf(self.best):  # a fraction of infinity is no margin
            return metric < self.best if self.mode == "min" else metric > self.best
        margin = self.threshold * (abs(self.best) if self.threshold_mode == "rel" else 1)
        return metric < self.best - margin if self.mode == "min" else metric > self.best + margin

    def step(self, metrics: Any) -> None:
        """Take the metric of an epoch, a number or a tensor of one, and perhaps lower the rates."""
        each_time(self._advance, plain(metrics))

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
            least_of_each = _for_each(self, "min_lr", self.min_lrs, self.optimizer)
            for group, least in zip(self.optimizer.param_groups, least_of_each):
                lr = max(group["lr"] * self.factor, least)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def get_last_lr(self) -> list[float]:
        """The rates, one of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that later rates depend on, besides those of now."""
        return _state(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Raises ValueError, and changes nothing, for another schedule's state, or that of another
        number of groups.
        """
        _require_own(self, state)
        vars(self).update(_copies(state))
