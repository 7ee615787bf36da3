"""Training: `fit`, the loop that one writes by hand, with what one wants around it."""

from __future__ import annotations

import importlib
import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from . import tree
from .compiler import MANY, Compiled, Supervisor
from .diagnostics import detect_anomaly
from .engine.graph import now
from .engine.modes import each_time, no_grad
from .engine.tensor import Tensor
from .engine.typing import Array
from .engine.variable import plain
from .errors import AnomalyError, TraceError, optional
from .guide import guide, guided, of_module
from .nn import Module
from .optim import LBFGS, Adam, Optimizer, ReduceLROnPlateau, clip_grad_norm
from .storage import Checkpoint
from .storage.atomic import PathLike
from .storage.nesting import has_state

__all__ = ["EarlyStopping", "History", "accuracy", "evaluate", "fit"]


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:
    __getattr__ = of_module(__name__)


Metric: TypeAlias = Callable[[Any, Any], Any]
Metrics: TypeAlias = Mapping[str, Metric] | Sequence[Metric]


class EarlyStopping(NamedTuple):
    """When `fit` stops early: after `patience` epochs that were no better than the best before.

    Better is by more than `min_delta`. `monitor` names a column of the history, by default the loss
    of the validation, or that of the training if there is none. `mode` says whether less ("min") or
    more ("max") of it is better; of a loss it is less.

    >>> tg.EarlyStopping(patience=3, monitor="val_accuracy", mode="max")
    EarlyStopping(patience=3, min_delta=0.0, monitor='val_accuracy', mode='max')
    """

    patience: int = 5
    min_delta: float = 0.0
    monitor: str | None = None
    mode: Literal["min", "max"] | None = None


@guide
class History(dict[str, list[float]]):
    """What `fit` returns: the columns of a table with a row for each epoch.

    "loss" and the metrics are means over the batches of the training as it went, those that start
    with "val_" are of the validation after the epoch. `stopped` says why it ended: "epochs", "early
    stopping", "callback" or "interrupt". `best_epoch`, counted from 1, is the one whose weights the
    model has after early stopping. `not_compiled` says why `fit` ran steps uncompiled, and is None
    if it had no reason to. `pandas.DataFrame(history)` makes a table.
    """

    stopped: str = "epochs"
    best_epoch: int | None = None
    not_compiled: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the columns and of the other attributes."""
        columns = {name: [*column] for name, column in self.items()}
        return {"columns": columns} | vars(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned."""
        self.clear()
        self.update({name: [*column] for name, column in state["columns"].items()})
        vars(self).clear()
        vars(self).update({name: value for name, value in state.items() if name != "columns"})

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch."""
        for name, value in row.items():
            self.setdefault(name, []).append(value)

    def last(self) -> dict[str, float]:
        """The last epoch's row."""
        return {name: column[-1] for name, column in self.items()}

    def __repr__(self) -> str:
        epochs = len(self.get("loss", []))
        best = f", best epoch {self.best_epoch}" if self.best_epoch else ""
        row = "".join(f", {name} {value:.4g}" for name, value in self.last().items())
        return f"History({epochs} epochs, stopped by {self.stopped}{best}{row})"


@guided
def fit(
    model: Module,
    loss: Metric,
    data: Iterable[Any],
    *,
    optimizer: Optimizer | None = None,
    epochs: int = 10,
    validation: Iterable[Any] | None = None,
    metrics: Metrics = (),
    schedule: Any = None,
    schedule_every: Literal["epoch", "step"] = "epoch",
    callbacks: Sequence[Callable[[History], Any]] = (),
    early_stopping: EarlyStopping | int | None = None,
    clip: float | None = None,
    compile: bool | None = None,  # noqa: A002 (the word for it)
    progress: bool | Literal["tqdm"] = True,
    checkpoint: Checkpoint | PathLike | None = None,
    checkpoint_every: int | timedelta | None = None,
) -> History:
    """Train a module, and return the history of its loss and metrics.

    `data` is gone through once an epoch; each batch is a tuple of the model's inputs and, last, the
    target: `tg.data.batches` makes such. A step changes the parameters by `optimizer`, by default
    Adam, to make `loss(model(*inputs), target)` smaller, after their gradients were scaled down to
    the norm `clip`. After each epoch, `validation`, batches too, is evaluated. Where the
    model is in evaluation mode, all of it is put in training mode; where only parts of it are, they
    stay so. In the end, and after callbacks, each part is again in the mode in which it was.

    - `metrics`: functions of prediction and target, in a list, or in a dict by name.
    - `schedule`: one of `tg.optim`; its `step()` is called after each epoch or, as `schedule_every`
      says, each step. That of ReduceLROnPlateau is given the value that early stopping watches.
    - `callbacks`: called with the history after each epoch; if one returns True, that was the last.
    - `early_stopping`: an `EarlyStopping`, or its patience. However the training ends, but by an
      error, the model then has the weights of the best epoch.
    - `compile`: whether to compile steps as `tg.compile` does. By default, they are compiled if
      that is possible and saves time: steps of at most 1,000 NumPy calls always, longer ones if
      enough batches of the same shape follow (100 to 400). Otherwise `History.not_compiled` says
      why, and so does a log entry if `progress` is on. True compiles always, and raises TraceError
      if it cannot. Compiled steps give the same results but for the last digits. They overwrite the
      arrays of `grad`, and run Python code in model and loss, such as a `print`, only for the first
      batch of each shape.
    - `progress`: a bar, of tqdm where it is installed, else a line for each epoch, on stderr.
      "tqdm" insists, and raises ImportError without it.
    - `checkpoint`: a folder, or a `Checkpoint` with further objects, such as averages of weights.
      If it holds a state, the training resumes from it: with the same arguments, on the same
      machine, bit for bit as if it had not been interrupted. A state includes data, validation,
      loss, schedule and callbacks if they have `state_dict()` and `load_state_dict()`. Pass other
      objects that change, such as an average that a callback updates, to the `Checkpoint`. Data
      without these methods must come in the same order in each epoch.
    - `checkpoint_every`: when to save: a number of steps, or a `datetime.timedelta`; by default
      after each epoch. A state is also saved at the end and on Ctrl-C.

    Ctrl-C ends the training after the current step (or before it, while it is being compiled) and
    returns the history so far; a second Ctrl-C does not wait. If the loss or a gradient is not
    finite, the step is not taken, and an AnomalyError names it and the first operation that went
    wrong. Arguments that do not go together raise ValueError or TypeError before the first step.

    >>> x, y = tg.data.moons(200, rng=0)
    >>> model = tg.MLP(2, [16, 2], output_activation="linear", rng=0)
    >>> batches = tg.data.batches((x, y), 20, shuffle=True, rng=0)
    >>> adam = tg.optim.Adam(model.parameters(), lr=0.05)
    >>> history = tg.fit(model, tg.nn.cross_entropy, batches, optimizer=adam, epochs=20,
    ...                  metrics=[tg.training.accuracy], progress=False)
    >>> history["accuracy"][-1] > 0.95
    True
    """
    metrics = _by_name("fit", metrics)
    _require_functions("fit", model, loss)
    optimizer = Adam(model.parameters()) if optimizer is None else optimizer
    _require_fit(model, optimizer, schedule, schedule_every)
    _require_every(checkpoint, checkpoint_every)
    watch = _Watch(early_stopping, metrics, validation is not None)
    take = _Step(model, loss, optimizer, clip, schedule if schedule_every == "step" else None)
    take.returns_output = bool(metrics)
    history, means = History(), _Means("fit", metrics)
    steps = _steps(data, epochs)
    at, interrupted = _Position(), False
    saves = _Saves(checkpoint, checkpoint_every, at)
    try:
        with (
            _modes_kept(model),
            _Progress(progress, epochs, steps) as bar,
            _Interrupts() as interrupts,
        ):
            compiled = _Compiled(take.step, history, bar, interrupts, insists=bool(compile))
            run = take.step if compile is False else compiled
            own = {
                "at": vars(at),
                "history": history,
                "means": means,
                "early_stopping": watch,
                "compiled": compiled,
                "validation": _with_state(validation),
                "loss": _with_state(loss),
                "callbacks": [*map(_with_state, callbacks)],
                "other_parameters": _others(optimizer, model),
            }
            saves.resume(
                {
                    "model": model,
                    "optimizer": optimizer,
                    "schedule": schedule,
                    "data": _with_state(data),
                    "fit": own,
                }
            )
            bar.skip(at.step)
            if not model.training:
                model.train()
            while at.epoch < epochs and history.stopped == "epochs":
                epoch = at.epoch + 1
                if at.epoch:
                    steps = (at.step - at.taken) * epochs // at.epoch
                for batch in interrupts.between(_rest(data, at.taken)):
                    saves.half_done = True
                    compiled.step, compiled.steps = at.step + 1, steps
                    try:
                        value, output = run(batch)
                    except _NotFiniteError as error:
                        what = f"step {at.step + 1} (epoch {epoch})"
                        raise _anomaly(model, loss, batch, error.loss, what) from None
                    means.add(value, output, batch)
                    at.step, at.taken = at.step + 1, at.taken + 1
                    saves.half_done = False
                    bar.step(epoch, means.row()["loss"])
                    saves.after_step()
                row = means.row()
                if validation is not None:
                    batches = interrupts.between(validation)
                    with _undone_by_interrupt(validation):
                        row |= _validate("fit", model, loss, batches, metrics, "val_")
                saves.half_done = True
                history.append(row)
                bar.epoch(epoch, row)
                if isinstance(schedule, ReduceLROnPlateau):
                    schedule.step(row[watch.monitor])
                elif schedule is not None and schedule_every == "epoch":
                    schedule.step()
                with _modes_kept(model):
                    answers = [callback(history) for callback in callbacks]
                if any(isinstance(answer, (bool, np.bool)) and answer for answer in answers):
                    history.stopped = "callback"
                if watch.says_stop(history, model):
                    history.stopped = "early stopping"
                means.clear()
                at.epoch, at.taken = epoch, 0
                saves.half_done = False
                saves.after_epoch()
    except KeyboardInterrupt:
        interrupted = True
    saves.at_end()
    if interrupted:
        history.stopped = "interrupt"
    if watch.best_state is not None:
        model.load_state_dict(watch.best_state)
    return history


def evaluate(
    model: Module, loss: Metric, data: Iterable[Any], metrics: Metrics = ()
) -> dict[str, float]:
    """Return the mean loss and metrics over batches, by name, with the model in evaluation mode.

    Each batch weighs as many samples as it has. Nothing is recorded, and each part of the model is
    then in the mode in which it was. Arguments are those of `fit`.

    >>> x, y = tg.data.moons(100, rng=0)
    >>> model = tg.MLP(2, [2], output_activation="linear", rng=0)
    >>> list(tg.training.evaluate(model, tg.nn.cross_entropy, [(x, y)], [tg.training.accuracy]))
    ['loss', 'accuracy']
    """
    _require_functions("evaluate", model, loss)
    return _validate("evaluate", model, loss, data, _by_name("evaluate", metrics), "")


def accuracy(prediction: Any, target: Any) -> float:
    """Return the fraction of samples whose class has the largest score.

    The prediction has shape (n, C), or (n, C, d1, ...), the target (n,) or (n, d1, ...); ValueError
    for other shapes.

    >>> tg.training.accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    scores, target = _plain(prediction), _plain(target)
    if scores.ndim < 2:
        raise ValueError(
            "accuracy: the prediction must be the scores of all classes, of shape (n, C), not "
            f"{scores.shape}; for one score per sample, use np.mean((scores > 0) == target)"
        )
    found = np.argmax(scores, axis=1)
    if found.shape != target.shape:
        raise ValueError(
            f"accuracy: a target of shape {target.shape} for a prediction of "
            f"{np.shape(prediction)}: it must be classes, of shape {found.shape}"
        )
    return float(np.mean(found == target))


# -- what a step and an epoch consist of


def _by_name(who: str, metrics: Metrics) -> dict[str, Metric]:
    if isinstance(metrics, Mapping):
        named = [*metrics.items()]
    else:
        if not isinstance(metrics, Sequence):
            raise TypeError(f"{who}: metrics must be a list of functions, or a dict by name")
        named = [(getattr(metric, "__name__", repr(metric)), metric) for metric in metrics]
    columns = dict(named)
    if len(columns) < len(named):
        raise ValueError(
            f"{who}: two metrics of one name in {[name for name, _ in named]}: pass a dict by name"
        )
    for name, metric in named:
        if name == "loss" or name.startswith("val_"):
            raise ValueError(f'{who}: {name!r} names no metric: "loss" and "val_..." are taken')
        if not callable(metric):
            raise TypeError(f"{who}: metric {metric!r} is not a function of prediction and target")
    return columns


def _require_functions(who: str, model: Any, loss: Any) -> None:
    """Raise a TypeError unless these are a module and a function of its output."""
    if not isinstance(model, Module):
        raise TypeError(
            f"{who}: the model must be a tg.nn.Module, whose parameters are found, not "
            f"{_shown(model)}"
        )
    if not callable(loss):
        raise TypeError(
            f"{who}: the loss must be a function of prediction and target, such as tg.nn.mse_loss, "
            f"not {_shown(loss)}; pass arrays x and y as batches: "
            f"{who}(model, tg.nn.mse_loss, tg.data.batches((x, y), 32))"
        )


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


def _require_fit(model: Module, optimizer: Any, schedule: Any, schedule_every: str) -> None:
    """Raise an error if these do not go together."""
    if not isinstance(optimizer, Optimizer) or isinstance(optimizer, LBFGS):
        raise TypeError(
            "fit: the optimizer must be one of tg.optim, such as "
            f"tg.optim.Adam(model.parameters(), lr=0.01), not {optimizer!r}; LBFGS needs a "
            "function of all the data: call its step(closure)"
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if held.isdisjoint(map(id, model.parameters())):
        raise ValueError(
            "fit: the optimizer holds none of the model's parameters: make it of model.parameters()"
        )
    if schedule_every not in ("epoch", "step"):
        raise ValueError(f'fit: schedule_every must be "epoch" or "step", not {schedule_every!r}')
    if isinstance(schedule, ReduceLROnPlateau) and schedule_every == "step":
        raise ValueError('fit: ReduceLROnPlateau needs an epoch\'s result: schedule_every="epoch"')
    if getattr(schedule, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            "fit: the schedule is that of another optimizer: pass optimizer=schedule.optimizer"
        )


def _steps(data: Any, epochs: int) -> int | None:
    """The number of steps in all, or None if the data has no length."""
    try:
        return epochs * len(data)
    except TypeError:
        return None


@contextmanager
def _modes_kept(model: Module) -> Iterator[None]:
    """Put each part of a model back in training or evaluation mode, as it was."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _evaluate(who: str, model: Module, loss: Metric, batch: Any) -> tuple[Any, Any]:
    """The model's output for a batch, and the loss."""
    parts = len(batch) if isinstance(batch, (tuple, list)) else None
    if parts is None or parts < 2:
        kind = type(batch).__name__ + ("" if parts is None else f" of length {parts}")
        raise TypeError(
            f"{who}: a batch must be a tuple of one or more inputs and a target, not {kind}: "
            "make batches by tg.data.batches((x, y), batch_size)"
        )
    *inputs, target = batch
    output = model(*inputs)
    value = loss(output, target)
    if value is None:
        raise TypeError(f"{who}: the loss function returned None: it must return the loss")
    if np.size(value) != 1:
        raise ValueError(f"{who}: the loss must be one number, not of shape {np.shape(value)}")
    return output, value


class _Step:
    """What a step of training consists of."""

    def __init__(
        self, model: Module, loss: Metric, optimizer: Optimizer, clip: float | None, schedule: Any
    ) -> None:
        self.returns_output = True
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.clip, self.schedule = clip, schedule

    def step(self, batch: Any) -> tuple[Any, Any]:
        """Take a step for a batch; return the loss and, if asked, the output."""
        output, value = _evaluate("fit", self.model, self.loss, batch)
        if not (isinstance(value, Tensor) and value.requires_grad):
            raise TypeError(
                f"fit: the loss is a {type(value).__name__} without a graph: compute it from the "
                "model's output, without float(), item() or detach()"
            )
        self.optimizer.zero_grad()
        value.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        each_time(_require_finite, plain(value), *gradients)
        if self.clip is not None:
            clip_grad_norm(parameters, self.clip)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return value, output if self.returns_output else None


# Planning takes 0.1 ms for each call of NumPy, which does not matter for few calls. In each step, a
# plan saves 5 us an operation, and 0.25 us a call. So most networks need 100 steps to gain from it,
# long LSTMs 400.
FEW_CALLS = 1000


def _steps_that_pay(calls: int, operations: int) -> int:
    """The number of steps that saves as much time as planning one takes."""
    return 0 if calls <= FEW_CALLS else round(100 * calls / (5 * operations + 0.25 * calls))


class _Compiled(Supervisor):
    """A step that is compiled if that saves time or, if `insists` is true, always.

    It decides by counting calls and steps, not by measuring time, so that each run decides alike.
    """

    def __init__(
        self,
        take: Callable[[Any], tuple[Any, Any]],
        history: History,
        bar: _Progress,
        interrupts: _Interrupts,
        insists: bool,
    ) -> None:
        self.step = 0  # the one under way
        self.steps: int | None = None  # in all, as far as known
        self._take, self._insists = take, insists
        self._history, self._bar, self._interrupts = history, bar, interrupts
        self._compiled: Any = Compiled(take, supervisor=self).function()
        # By signatures, as text:
        self._needed: dict[str, int] = {}  # how many steps pay
        self._missed: Counter[str] = Counter()  # steps for which there was no plan
        self._plans: Counter[str] = Counter()
        self._earlier: Counter[str] = Counter()  # plans in an earlier process, not yet made here
        self._gave_up = False
        self._begun = 0  # the number of operations before the step

    def state_dict(self) -> dict[str, Any]:
        """What the decisions depend on, so that a resumed training decides alike."""
        numbers = {"needed": self._needed, "missed": self._missed, "plans": self._plans}
        return {name: {**counts} for name, counts in numbers.items()} | {"gave_up": self._gave_up}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._needed, self._missed = {**state["needed"]}, Counter(state["missed"])
        self._plans, self._earlier = Counter(state["plans"]), Counter(state["plans"])
        self._gave_up = state["gave_up"]

    def __call__(self, batch: Any) -> tuple[Any, Any]:
        if self._insists:
            return self._compiled(batch)  # type: ignore[no-any-return]
        if self._gave_up:
            return self._take(batch)
        if not _holds_arrays(batch):
            self._leave_off("a batch holds something other than arrays and tensors")
            return self._take(batch)
        try:
            return self._compiled(batch)  # type: ignore[no-any-return]
        except TraceError as error:
            self._leave_off(str(error))
            self._gave_up = True
            return self._take(batch)

    def may_trace(self, key: Any) -> bool:
        key = repr(key)
        if self._earlier[key]:
            return True
        self._missed[key] += 1
        if self._insists or (self._plans.total() < MANY and self._pays(key)):
            return True
        if self._plans.total() == MANY:
            self._leave_off(f"there are batches of more than {MANY} shapes")
        return False

    def may_plan(self, key: Any, calls: int) -> bool:
        self._interrupts.check()
        key = repr(key)
        self._needed[key] = _steps_that_pay(calls, now() - self._begun)
        if self._insists or self._pays(key):
            self._plans[key] += 1
            return True
        self._leave_off(
            f"a step makes {calls:,} calls of NumPy, and compiling it pays only if at least "
            f"{self._needed[key]} more of its shape follow"
        )
        return False

    def has_run(self, key: Any) -> bool:
        key = repr(key)
        found = self._earlier[key] > 0
        self._earlier[key] -= found
        return found

    def _pays(self, key: str) -> bool:
        """Whether enough steps of its kind follow to save time.

        If the data has no length, as many are expected to follow as there have been.
        """
        to_come = self.step if self.steps is None else self.steps - self.step
        return to_come * self._missed[key] / self.step >= self._needed.get(key, 0)

    def __enter__(self) -> None:
        self._bar.compiling()
        self._begun = now()
        self._interrupts.at_once = True
        self._interrupts.check()

    def __exit__(self, *_error: object) -> None:
        self._interrupts.at_once = False

    def _leave_off(self, reason: str) -> None:
        """Say why steps are not compiled, once."""
        if self._history.not_compiled is None:
            self._history.not_compiled = reason
            self._bar.note(f"fit: steps are not compiled: {reason}")


def _holds_arrays(batch: Any) -> bool:
    leaves = tree.leaves(batch)
    return tree.is_container(batch) and all(isinstance(a, (np.ndarray, Tensor)) for a in leaves)


def _validate(
    who: str,
    model: Module,
    loss: Metric,
    data: Iterable[Any],
    metrics: Mapping[str, Metric],
    prefix: str,
) -> dict[str, float]:
    means = _Means(who, metrics)
    with _modes_kept(model), no_grad():
        model.eval()
        for batch in data:
            output, value = _evaluate(who, model, loss, batch)
            means.add(value, output, batch)
    return means.row(prefix)


class _Means:
    """The means of loss and metrics over batches, each of which weighs as much as it is long."""

    def __init__(self, who: str, metrics: Mapping[str, Metric]) -> None:
        self._who = who
        self._metrics = metrics
        self.clear()

    def clear(self) -> None:
        """Begin another epoch."""
        self._sums = dict.fromkeys(("loss", *self._metrics), 0.0)
        self._count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {**self._sums}, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums, self._count = {**state["sums"]}, state["count"]

    def add(self, loss: Any, output: Any, batch: Any) -> None:
        first = batch[0]
        n = len(first) if hasattr(first, "__len__") and getattr(first, "shape", None) != () else 1
        self._count += n
        self._sums["loss"] += n * _plain(loss).item()
        if self._metrics:
            output = tree.map(lambda y: y.detach() if isinstance(y, Tensor) else y, output)
            for name, metric in self._metrics.items():
                self._sums[name] += n * float(metric(output, batch[-1]))

    def row(self, prefix: str = "") -> dict[str, float]:
        if not self._count:
            raise ValueError(
                f"{self._who}: no samples in the data: it must be iterable anew each time, "
                "like a list or tg.data.batches; a generator is used up after once"
            )
        return {prefix + name: total / self._count for name, total in self._sums.items()}


class _Watch:
    """Finds the best epoch, and keeps its weights, if there is to be early stopping."""

    def __init__(
        self, stopping: EarlyStopping | int | None, metrics: Mapping[str, Metric], validates: bool
    ) -> None:
        wanted = _early_stopping(stopping)
        self.monitor = wanted.monitor or ("val_loss" if validates else "loss")
        self.best_state: Any = None
        self._enabled = stopping is not None
        self._patience, self._min_delta = wanted.patience, wanted.min_delta
        self._sign = -1 if wanted.mode == "max" else 1
        self._best = math.inf
        names = ["loss", *metrics]
        names += ["val_" + name for name in names] if validates else []
        if self.monitor not in names:
            raise ValueError(f"fit: early stopping cannot monitor {self.monitor!r}, only {names}")
        if wanted.mode is None and self.monitor not in ("loss", "val_loss"):
            raise ValueError(f'fit: is less {self.monitor} better, or more? mode="min" or "max"')

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "best_state": self.best_state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self.best_state = state["best"], state["best_state"]

    def says_stop(self, history: History, model: Module) -> bool:
        if not self._enabled:
            return False
        column = history[self.monitor]
        value = self._sign * column[-1]
        if value < self._best - self._min_delta:
            self._best, self.best_state = value, model.state_dict()
            history.best_epoch = len(column)
        return len(column) - (history.best_epoch or 0) >= self._patience


def _early_stopping(given: Any) -> EarlyStopping:
    if given is None:
        return EarlyStopping()
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        given = EarlyStopping(int(given))
    if not isinstance(given, EarlyStopping):
        raise TypeError(
            f"fit: early_stopping must be an EarlyStopping, its patience, or None, not {given!r}"
        )
    if not (given.patience >= 1 and given.min_delta >= 0 and given.mode in (None, "min", "max")):
        raise ValueError(
            f"fit: {given}: patience must be at least 1, min_delta not negative, "
            'and mode "min" or "max"'
        )
    return given


# -- checkpoints


@dataclass
class _Position:
    """The epochs done, the steps taken, and the steps taken in this epoch."""

    epoch: int = 0
    step: int = 0
    taken: int = 0


class _Saves:
    """Saves the states of a training, if there is a checkpoint, and resumes from one.

    While a step, or the end of an epoch, is `half_done`, the state cannot be saved.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | PathLike | None,
        every: int | timedelta | None,
        at: _Position,
    ) -> None:
        self.half_done = False
        self._checkpoint, self._every = checkpoint, every
        self._at, self._saved = at, replace(at)
        self._time = time.monotonic()

    def resume(self, parts: dict[str, Any]) -> None:
        """Resume from the newest state, if there is one; save these parts from now on."""
        given = self._checkpoint
        if given is None:
            return
        if not isinstance(given, Checkpoint):
            given = Checkpoint(given)
        for name in given.objects.keys() & parts.keys():
            if given.objects[name] is not parts[name]:
                raise ValueError(f"fit: {name!r} in the checkpoint is not the object passed to fit")
        self._checkpoint = Checkpoint(given.directory, given.keep, **(given.objects | parts))
        self._checkpoint.load()
        self._saved = replace(self._at)

    def after_step(self) -> None:
        if isinstance(self._every, int):
            is_due = self._at.step % self._every == 0
        else:
            is_due = self._is_time()
        if is_due:
            self._save()

    def after_epoch(self) -> None:
        if self._every is None or self._is_time():
            self._save()

    def at_end(self) -> None:
        if not self.half_done and self._saved != self._at:
            self._save()

    def _is_time(self) -> bool:
        every = self._every
        return (
            isinstance(every, timedelta) and time.monotonic() - self._time >= every.total_seconds()
        )

    def _save(self) -> None:
        if isinstance(self._checkpoint, Checkpoint):
            self._checkpoint.save(self._at.step)
        self._saved = replace(self._at)
        self._time = time.monotonic()


def _require_every(checkpoint: Any, every: int | timedelta | None) -> None:
    """Raise an error if these do not go together."""
    if every is None:
        return
    if checkpoint is None:
        raise ValueError("fit: checkpoint_every= needs checkpoint=, the folder to save in")
    if isinstance(every, bool) or not isinstance(every, (int, timedelta)):
        raise TypeError(
            f"fit: checkpoint_every must be a number of steps or a timedelta, not {every!r}"
        )
    if not (every > timedelta() if isinstance(every, timedelta) else every >= 1):
        raise ValueError(f"fit: checkpoint_every must be positive, not {every!r}")


def _with_state(value: Any) -> Any:
    """The value, or the object whose method it is, if that has a state; else None."""
    value = getattr(value, "__self__", value)
    return value if has_state(value) else None


def _others(optimizer: Optimizer, model: Module) -> list[Tensor]:
    """The parameters of an optimizer that are not the model's."""
    own = {id(p) for p in model.parameters()}
    return [p for group in optimizer.param_groups for p in group["params"] if id(p) not in own]


@contextmanager
def _undone_by_interrupt(data: Any) -> Iterator[None]:
    """Put data back in its earlier state if Ctrl-C ends the block."""
    state = data.state_dict() if has_state(data) else None
    try:
        yield
    except KeyboardInterrupt:
        if has_state(data):
            data.load_state_dict(state)
        raise


def _rest(data: Iterable[Any], taken: int) -> Iterable[Any]:
    """The remaining batches of an epoch, after `taken` of them."""
    if not has_state(data):
        return islice(data, taken, None) if taken else data
    return () if taken and taken == _steps(data, 1) else data  # which goes on by itself


# -- what can go wrong


class _NotFiniteError(Exception):
    """A loss, or one of its gradients, that is not finite."""

    def __init__(self, loss: float) -> None:
        self.loss = loss


def _require_finite(loss: Array, *gradients: Array) -> None:
    """Raise _NotFiniteError unless all are finite; most often one product tells."""
    number = loss.item()
    if not math.isfinite(number) or not all(
        math.isfinite(np.vdot(g, g)) or bool(np.isfinite(g).all()) for g in gradients
    ):
        raise _NotFiniteError(number)


def _anomaly(model: Module, loss: Metric, batch: Any, value: float, step: str) -> AnomalyError:
    """Take the step again, looking at each operation, and say what is wrong."""
    what = "a gradient is not finite" if math.isfinite(value) else f"the loss is {value}"
    arrays = [*(("the batch", part) for part in batch), *model.named_parameters()]
    causes = [f"{name} was not finite before" for name, a in arrays if _is_sick(a)][:1]
    state = model.state_dict()  # each call of a BatchNorm counts
    try:
        with detect_anomaly(), np.errstate(all="ignore"):
            _evaluate("fit", model, loss, batch)[1].backward()
    except AnomalyError as error:
        causes.append(str(error))
    finally:
        model.load_state_dict(state)
    cause = "; ".join(causes) or "it did not happen again"
    return AnomalyError(f"fit: {step} was not taken, for {what}: {cause}")


def _is_sick(value: Any) -> bool:
    return (
        hasattr(value, "dtype")
        and value.dtype.kind in "fc"
        and not np.isfinite(_plain(value)).all()
    )


def _plain(value: Any) -> Any:
    return plain(value) if isinstance(value, Tensor) else np.asarray(value)


class _Interrupts:
    """Makes Ctrl-C wait for the end of a step, so that no step is half done.

    While `at_once` is true, it does not wait, nor does a second Ctrl-C.
    """

    def __init__(self) -> None:
        self.at_once = False
        self._pending = False
        self._handler: Any = None

    def __enter__(self) -> _Interrupts:
        handler = signal.getsignal(signal.SIGINT)
        ours = handler is signal.default_int_handler  # which raises KeyboardInterrupt
        if ours and threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if kind is None:
            self.check()

    def _note(self, _number: int, _frame: Any) -> None:
        waits = not (self._pending or self.at_once)
        self._pending = True
        if not waits:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if one is waiting."""
        if self._pending:
            raise KeyboardInterrupt

    def between(self, data: Iterable[Any]) -> Iterator[Any]:
        """Yield batches, and raise KeyboardInterrupt between two if one is waiting."""
        for batch in data:
            yield batch
            self.check()


class _Progress:
    """A bar of tqdm, or lines, or nothing."""

    def __init__(self, progress: bool | str, epochs: int, steps: int | None) -> None:
        self._epochs = epochs
        self._results = ""
        self._bar: Any = None
        self._prints_lines = False
        if progress:
            try:
                tqdm = optional("tqdm.auto", "fit: the progress bar").tqdm
            except ImportError:
                if progress == "tqdm":
                    raise
                self._prints_lines = True
            else:
                self._bar = tqdm(total=steps, unit="step")

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, epoch: int, loss: float) -> None:
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch}/{self._epochs}", refresh=False)
            self._bar.set_postfix_str(f"loss {loss:.4g}{self._results}", refresh=False)
            self._bar.update()

    def skip(self, steps: int) -> None:
        """Count steps that were taken earlier."""
        if self._bar is not None:
            self._bar.update(steps)

    def compiling(self) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str("compiling")

    def note(self, text: str) -> None:
        """Log something, above the bar."""
        if self._bar is not None:
            self._bar.clear()
        if self._bar is not None or self._prints_lines:
            importlib.import_module("logging").getLogger(__package__).warning(text)

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        others = [f", {name} {value:.4g}" for name, value in row.items() if name != "loss"]
        self._results = "".join(others)
        text = f"loss {row['loss']:.4g}{self._results}"
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        elif self._prints_lines:
            print(f"epoch {epoch}/{self._epochs}: {text}", file=sys.stderr)
