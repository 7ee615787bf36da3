"""Learning rate schedules: the learning rate as a function of the number of steps.

A schedule sets the learning rate of each group of an optimizer when it is made, and at each
`step()`, which is called after the optimizer's. If anything else changes a learning rate meanwhile,
such as another schedule or an assignment, the schedule is scaled by the same factor from then on.
So the factors of two schedules multiply. For a group that is added later, the schedule continues
from the learning rate that the group has then.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from ..engine.interpreter import Timetable, Tracing
from ..engine.modes import mode
from ..engine.registry import shown_as
from ..engine.typing import Array
from ..guide import guide
from ..tables import Table, wrapped
from .base import Optimizer


class Schedule:
    """The checks and the saved state that all schedules share."""

    read_once: ClassVar[tuple[str, ...]] = ()
    """The arguments that only the constructor reads: they are no attributes."""

    optimizer: Optimizer
    last_epoch: int

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.read_once:
            raise AttributeError(
                f"{type(self).__name__}: {name} is only read when the schedule is made, and an "
                "assignment would be ignored: make a new schedule"
            )
        super().__setattr__(name, value)

    def _each_time(self, *args: Any) -> None:
        """Call `_advance`: now and, in a compiled function, at this point of each call."""
        interpreter = mode.get().interpreter
        if isinstance(interpreter, Tracing):
            interpreter.effect(self._traced(), *args, writes=self.optimizer._arrays())
        else:
            self._advance(*args)

    def _advance(self, *args: Any) -> None:
        raise NotImplementedError

    def _traced(self) -> Callable[..., None]:
        """What a compiled program calls."""
        return self._advance_traced

    @shown_as("schedule")
    def _advance_traced(self, *args: Any) -> None:
        """Let the steps that follow in the same program see the new options."""
        self._advance(*args)
        self.optimizer._refresh()

    def _require(self, rule: bool, text: str) -> None:
        if not rule:
            raise ValueError(f"{type(self).__name__}: {text}")

    def _facts(self) -> dict[str, str]:
        """The options, the steps or epochs so far, and the learning rate of each group."""
        hidden = "optimizer", "base_lrs"
        facts = {k: str(v) for k, v in vars(self).items() if not (k in hidden or k[0] == "_")}
        rates = [float(f"{group['lr']:.4g}") for group in self.optimizer.param_groups]
        return facts | {"lr": str(rates)}

    def __repr__(self) -> str:
        facts = [f"{name}={value}" for name, value in self._facts().items()]
        return wrapped(f"{type(self).__name__}(", facts)

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        facts = self._facts()
        table = Table([[*facts], [*facts.values()]], ">" * len(facts))
        return f"{type(self).__name__}{table._repr_html_()}"

    def _require_optimizer(self, optimizer: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: needs an optimizer, not a {type(optimizer).__name__}"
            )

    def _for_each(self, name: str, values: Sequence[Any]) -> list[Any]:
        """Return a value for each group of the optimizer; a single value is that of all groups."""
        count = len(self.optimizer.param_groups)
        self._require(
            len(values) in (1, count),
            f"{len(values)} of {name} for {count} groups: needs a {name} or {count} of them",
        )
        return [*values] * (count // len(values))

    def _group_lrs(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that later learning rates depend on, but functions and the optimizer."""
        copies = _copies(vars(self))
        return {k: v for k, v in copies.items() if k not in ("optimizer", "lr_lambdas", "max_lrs")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Raises ValueError, and changes nothing, for the state of another kind of schedule, or for
        another number of groups.
        """
        self._require_own(state)
        self._restore(state)

    def _require_own(self, state: Mapping[str, Any]) -> None:
        names = self.state_dict().keys()
        self._require(
            state.keys() == names,
            f"the state of another schedule was not loaded: it has {[*state]}, and must have "
            f"{[*names]}",
        )
        t = state["last_epoch"]
        self._require(isinstance(t, int) and t >= 0, f"last_epoch {t!r} is not a count of steps")
        groups = len(self.optimizer.param_groups)
        for name in names & {"base_lrs", "_last_lr", "min_lrs"}:
            self._require(
                len(state[name]) == groups or (name == "min_lrs" and len(state[name]) == 1),
                f"a state of {len(state[name])} groups was not loaded: the optimizer has {groups}",
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        vars(self).update(_copies(state))


class _Ahead(Timetable):
    """The steps of a schedule that depends on their number alone."""

    __name__ = "schedule"

    def __init__(self, schedule: LRScheduler) -> None:
        self._schedule = schedule

    def ahead(self, count: int) -> Sequence[Array | None] | None:
        """Return what the arrays of the optimizer would hold after each of so many steps."""
        schedule = self._schedule
        try:
            schedule._follow()
            first = schedule.last_epoch + 1
            changes = [
                {name: _columns(numbers) for name, numbers in options.items()}
                for options in schedule._options_at(range(first, first + count))
            ]
            return schedule.optimizer._arrays_ahead(changes)
        except Exception:  # steps one by one raise it at its time
            return None

    def advance(self, count: int) -> None:
        """Take so many steps."""
        self._schedule._advance_traced(count)


def _columns(values: Sequence[Any]) -> Any:
    """A vector of numbers; a tuple of vectors, of tuples."""
    if isinstance(values[0], tuple):
        return tuple(map(_columns, zip(*values, strict=True)))
    return np.array(values, np.float64)


def _copies(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: [*v] if isinstance(v, list) else v for name, v in state.items()}


@guide
class LRScheduler(Schedule):
    """The base class of schedules that are functions of the number of steps.

    A subclass defines `_lr(base, t)`: the learning rate after `t` steps, if it is `base` at first.
    It must be linear in `base`.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._require_optimizer(optimizer)
        self.optimizer = optimizer
        self.base_lrs = self._group_lrs()
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

    def _options_at(self, times: Sequence[int]) -> list[dict[str, Sequence[Any]]]:
        """The options of each group after these numbers of steps, unless something else sets any.

        The schedule has followed what has set them until now.
        """
        rates = [self._lrs(self.base_lrs, t) for t in times]
        return [{"lr": column} for column in zip(*rates, strict=True)]

    def _follow(self) -> None:
        """Where something else set a learning rate, or added a group, find the base for it."""
        rates, known = self._group_lrs(), len(self._last_lr)
        self._require(
            known <= len(rates), f"{len(rates)} groups are left of {known}: make a new schedule"
        )
        if rates == self._last_lr:
            return
        # A learning rate is a linear function of its base: solve for the base of the new one.
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
        """Count one more step, or epoch, and set the learning rates of the next one."""
        self._each_time()

    def _traced(self) -> Callable[..., None]:
        return _Ahead(self)

    def _advance(self, count: int = 1) -> None:
        self._follow()
        self.last_epoch += count
        self._last_lr = self._lrs(self.base_lrs, self.last_epoch)
        self._write()

    def get_last_lr(self) -> list[float]:
        """The learning rates that were set last, one for each group."""
        return [*self._last_lr]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, and set the learning rates.

        Raises ValueError, and changes nothing, for the state of another kind of schedule, or for
        another number of groups.
        """
        super().load_state_dict(state)
        self._write()


class LambdaLR(LRScheduler):
    """The first learning rate times `lr_lambda(t)`, where t is the number of steps.

    `lr_lambda` can also be a list of functions, one for each group. Nothing but t may decide what
    they return: where steps are native code, they are called for many steps at once.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.LambdaLR(optimizer, lambda t: 1 / (1 + t))
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    read_once = ("lr_lambda",)

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
    ) -> None:
        self.lr_lambdas = [lr_lambda] if callable(lr_lambda) else [*lr_lambda]
        super().__init__(optimizer)

    def _lrs(self, bases: Sequence[float], t: int) -> list[float]:
        functions = self._for_each("function", self.lr_lambdas)
        return [base * factor(t) for base, factor in zip(bases, functions)]


class StepLR(LRScheduler):
    """The learning rate is multiplied by `gamma` every `step_size` steps.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(5):
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self._require(step_size >= 1, f"step_size {step_size} must be at least 1")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def _lr(self, base: float, t: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """The learning rate is multiplied by `gamma` at each of the `milestones`, counts of steps.

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
    """The learning rate is multiplied by `gamma` at every step.

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
    """A warm-up: the first learning rate times a factor that changes linearly.

    The factor goes from `start_factor` to `end_factor` in `total_iters` steps, and then stays.

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
        self._require(
            0 < start_factor <= 1 and 0 <= end_factor <= 1,
            f"start_factor {start_factor} and end_factor {end_factor} must be from 0 to 1, and "
            "start_factor must not be 0",
        )
        self._require(total_iters >= 1, f"total_iters {total_iters} must be at least 1")
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def _lr(self, base: float, t: int) -> float:
        return base * _linear(self.start_factor, self.end_factor, min(t / self.total_iters, 1))


class CosineAnnealingLR(LRScheduler):
    """The learning rate follows a cosine: down to `eta_min` in `T_max` steps, then up again.

    Loshchilov and Hutter, SGDR: Stochastic gradient descent with warm restarts, 2017, here without
    restarts.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.CosineAnnealingLR(optimizer, T_max=2)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803
        self._require(T_max >= 1, f"T_max {T_max} must be at least 1")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def _lr(self, base: float, t: int) -> float:
        return _cosine(base, self.eta_min, t / self.T_max)


class CosineAnnealingWarmRestarts(LRScheduler):
    """The learning rate falls along a cosine to `eta_min`, and starts again, several times.

    The first fall takes `T_0` steps, and each other one `T_mult` times as many as the last.
    Loshchilov and Hutter, SGDR: Stochastic gradient descent with warm restarts, 2017.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = tg.optim.CosineAnnealingWarmRestarts(optimizer, T_0=2, T_mult=2)
    >>> rates = []
    >>> for _ in range(6):
    ...     schedule.step()
    ...     rates += schedule.get_last_lr()
    >>> [round(rate, 2) for rate in rates]
    [0.5, 1.0, 0.85, 0.5, 0.15, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,  # noqa: N803
        T_mult: int = 1,  # noqa: N803
        eta_min: float = 0.0,
    ) -> None:
        self._require(
            T_0 >= 1 and T_mult >= 1 and int(T_0) == T_0 and T_mult == int(T_mult),
            f"T_0 {T_0} and T_mult {T_mult} must be integers of at least 1",
        )
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer)

    def _lr(self, base: float, t: int) -> float:
        length = self.T_0
        if self.T_mult == 1:
            t %= length
        while t >= length:
            t -= length
            length *= self.T_mult
        return _cosine(base, self.eta_min, t / length)


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


def _linear(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * fraction


_CURVES = {"cos": _cosine, "linear": _linear}


def _with_momentum(group: Mapping[str, Any], momentum: float) -> dict[str, Any]:
    """The option of a group that is its momentum."""
    if "betas" in group:
        return {"betas": (momentum, group["betas"][1])}
    return {"momentum": momentum}


class OneCycleLR(LRScheduler):
    """One cycle of `total_steps`: the learning rate rises to `max_lr` and falls to almost 0.

    It starts at max_lr / div_factor, reaches `max_lr` after the fraction `pct_start` of the steps,
    and ends at max_lr / div_factor / final_div_factor. With `three_phase`, it first falls to its
    start as long as it rose, and then to its end. `anneal_strategy`, "cos" or "linear", is the
    curve. `max_lr` can be a list, one for each group. Instead of `total_steps`, `epochs` and
    `steps_per_epoch` can be passed. More steps raise ValueError.

    With `cycle_momentum`, `momentum`, or the first of `betas`, falls from `max_momentum` to
    `base_momentum` while the learning rate rises, and rises again while that falls. Smith and
    Topin, Super-convergence, 2018.

    >>> optimizer = tg.optim.SGD([tg.Tensor(1.0, requires_grad=True)], momentum=0.9)
    >>> schedule = tg.optim.OneCycleLR(optimizer, max_lr=1.0, total_steps=11, pct_start=6 / 11)
    >>> for _ in range(5):
    ...     schedule.step()
    >>> schedule.get_last_lr(), optimizer.param_groups[0]["momentum"]
    ([1.0], 0.85)
    """

    read_once = (
        "max_lr", "epochs", "steps_per_epoch", "pct_start", "base_momentum", "max_momentum",
        "div_factor", "final_div_factor", "three_phase",
    )  # fmt: skip

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
        self._require_optimizer(optimizer)
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch
        self.optimizer = optimizer
        self.max_lrs = [*max_lr] if isinstance(max_lr, Sequence) else [max_lr]
        self.total_steps = total_steps or 0
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self._check(pct_start)
        # Of each phase: its last step, and there the learning rate over max_lr, and the momentum.
        start, end = 1 / div_factor, 1 / div_factor / final_div_factor
        low, high, peak = base_momentum, max_momentum, pct_start * self.total_steps - 1
        self.phases = [(0.0, start, high), (peak, 1.0, low)]
        self.phases += [(2 * peak, start, high)] if three_phase else []
        self.phases += [(self.total_steps - 1.0, end, high)]
        self.base_lrs = self._for_each("max_lr", self.max_lrs)
        self._restart()

    def _check(self, pct_start: float) -> None:
        self._require(self.total_steps >= 1, "needs total_steps, or epochs and steps_per_epoch")
        self._require(0 <= pct_start <= 1, f"pct_start {pct_start} is not between 0 and 1")
        self._require(
            self.anneal_strategy in _CURVES,
            f"anneal_strategy {self.anneal_strategy!r} is not one of {[*_CURVES]}",
        )
        groups = self.optimizer.param_groups
        self._require(
            not self.cycle_momentum or all("momentum" in g or "betas" in g for g in groups),
            f"{type(self.optimizer).__name__} has no momentum: pass cycle_momentum=False",
        )

    def _at(self, t: int) -> tuple[float, float]:
        """The learning rate over max_lr, and the momentum, after `t` steps."""
        count = self.total_steps
        self._require(t <= count, f"step {t} of total_steps={count}: raise total_steps")
        t = min(t, count - 1)  # a loop's last call comes after the optimizer's last step
        i = next(i for i, phase in enumerate(self.phases) if i and t <= phase[0])
        (first, *start), (last, *end) = self.phases[i - 1], self.phases[i]
        fraction = (t - first) / (last - first) if last > first else 1.0
        lr, momentum = (_CURVES[self.anneal_strategy](a, b, fraction) for a, b in zip(start, end))
        return lr, momentum

    def _lr(self, base: float, t: int) -> float:
        return base * self._at(t)[0]

    def _extend(self, _bases: Sequence[float]) -> None:
        super()._extend(self._for_each("max_lr", self.max_lrs))

    def _write(self) -> None:
        super()._write()
        momentum = self._at(self.last_epoch)[1]
        for group in self.optimizer.param_groups if self.cycle_momentum else ():
            for name, value in _with_momentum(group, momentum).items():
                group[name] = value

    def _options_at(self, times: Sequence[int]) -> list[dict[str, Sequence[Any]]]:
        options = super()._options_at(times)
        momenta = [self._at(t)[1] for t in times]
        for group, own in zip(self.optimizer.param_groups, options if self.cycle_momentum else ()):
            changes = [_with_momentum(group, momentum) for momentum in momenta]
            own.update({name: [change[name] for change in changes] for name in changes[0]})
        return options


class SequentialLR(LRScheduler):
    """Schedules one after another: `schedulers[i + 1]` starts at step `milestones[i]`.

    All must be schedules of this optimizer. Each scales the learning rate that the optimizer had
    before the first of them was made.

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
        self._require(
            len(schedulers) == len(milestones) + 1 and [*milestones] == sorted(milestones),
            f"{len(schedulers)} schedulers need one milestone less, in ascending order, not "
            f"{milestones}",
        )
        for s in schedulers:
            self._require(
                isinstance(s, LRScheduler) and s.optimizer is optimizer,
                f"{type(s).__name__} is not an LRScheduler of this optimizer",
            )
            self._require(
                not isinstance(s, SequentialLR), "a part is one itself: pass all parts to one"
            )
        self.optimizer = optimizer
        self.schedulers, self.milestones = [*schedulers], [*milestones]
        self.last_epoch = 0
        for s in schedulers:
            if not isinstance(s, OneCycleLR):
                s.base_lrs = [*schedulers[0].base_lrs]
        schedulers[0]._restart()

    def _current(self) -> LRScheduler:
        return self.schedulers[bisect_right(self.milestones, self.last_epoch)]

    def _follow(self) -> None:
        current = self._current()
        current._follow()
        for schedule in self.schedulers:
            schedule._extend(current.base_lrs)

    def _advance(self, count: int = 1) -> None:
        self._follow()
        later = bisect_right(self.milestones, self.last_epoch)
        milestone = [*self.milestones, math.inf][later]
        steps = int(min(count, milestone - self.last_epoch - 1))
        if steps:
            self._current()._advance(steps)
            self.last_epoch += steps
        if steps < count:
            self.last_epoch += 1
            self._current()._restart()
            if steps + 1 < count:
                self._advance(count - steps - 1)

    def _options_at(self, times: Sequence[int]) -> list[dict[str, Sequence[Any]]]:
        current, start = self._current(), self.last_epoch
        found: list[dict[str, list[Any]]] = [
            {name: [] for name in group if name in ("lr", "momentum", "betas")}
            for group in self.optimizer.param_groups
        ]
        last: list[Mapping[str, Any]] = [*self.optimizer.param_groups]
        for i, part in itertools.groupby(times, lambda t: bisect_right(self.milestones, t)):
            schedule = self.schedulers[i]
            begin = start - current.last_epoch if schedule is current else self.milestones[i - 1]
            local = [t - begin for t in part]
            for k, options in enumerate(schedule._options_at(local)):
                for name, column in found[k].items():
                    column += options.get(name, [last[k][name]] * len(local))
                last[k] = {name: column[-1] for name, column in found[k].items()}
        return [{**options} for options in found]

    def get_last_lr(self) -> list[float]:
        """The learning rates that were set last, one for each group."""
        return self._current().get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that later learning rates depend on, but functions and the optimizer."""
        schedules = [s.state_dict() for s in self.schedulers]
        return {"last_epoch": self.last_epoch, "schedulers": schedules}

    def _require_own(self, state: Mapping[str, Any]) -> None:
        super()._require_own(state)
        saved, count = state["schedulers"], len(self.schedulers)
        self._require(len(saved) == count, f"a state of {len(saved)} schedules, not of {count}")
        for schedule, part in zip(self.schedulers, saved):
            schedule._require_own(part)

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.last_epoch = state["last_epoch"]
        for schedule, part in zip(self.schedulers, state["schedulers"]):
            schedule._restore(part)

    def _write(self) -> None:
        self._current()._write()
