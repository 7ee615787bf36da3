"""`fit`: the loop over epochs and batches."""

from __future__ import annotations

import cmath
import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Literal

import numpy as np

from ..compiler import Stacked
from ..diagnostics import detect_anomaly
from ..engine.interpreter import Requirement
from ..engine.modes import mode, plain
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..errors import AnomalyError
from ..guide import guided
from ..nn import Module
from ..optim import LBFGS, Adam, Optimizer, ReduceLROnPlateau, clip_grad_norm
from ..parallel import DistributedOptimizer
from ..storage import Checkpoint
from ..storage.atomic import PathLike
from .compilation import CompiledStep
from .evaluation import (
    Means,
    Metric,
    Metrics,
    by_name,
    evaluate_batch,
    modes_kept,
    require_functions,
    samples_of,
    validate,
)
from .history import EarlyStopping, History, Monitor
from .interrupts import Interrupts, undone_by_interrupt
from .metrics import as_array
from .progress import Progress
from .ranks import Ranks
from .resuming import Position, Saves, number_of_steps, remaining, require_every, with_state
from .stacks import Pace, can_stack


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
    comm: Any = None,
) -> History:
    """Train a module, and return the history of its loss and metrics.

    Each epoch goes through `data` once. A batch is a tuple of the model's inputs and, last, the
    target: `tg.data.batches` makes such batches. A step computes `loss(model(*inputs), target)` and
    its gradients, clips them to the norm `clip`, and lets `optimizer`, by default Adam, change the
    parameters. After each epoch, the model is evaluated on the batches of `validation`. If the
    model is in evaluation mode, all of it is put into training mode; if only parts of it are, they
    stay in evaluation mode. At the end, and after callbacks, each part is in its earlier mode.

    - `metrics`: functions of prediction and target, in a list, or in a dict by name.
    - `schedule`: one of `tg.optim`. Its `step()` is called after each epoch or each step, as
      `schedule_every` says. ReduceLROnPlateau gets the value that early stopping monitors.
    - `callbacks`: called with the history after each epoch. If one returns True, the training ends.
    - `early_stopping`: an `EarlyStopping`, or its patience. At the end of the training, unless it
      ends with an error, the model gets the weights of the best epoch.
    - `compile`: whether to compile steps as `tg.compile` does. By default, they are compiled if
      that is possible and saves time: steps of at most 1,000 NumPy calls always, longer ones if
      enough batches of the same shape follow (100 to 500). Otherwise `History.not_compiled` is the
      reason, which is also logged if `progress` is on. True always compiles, and raises TraceError
      if that is impossible. Where llvmlite is installed, they become native code if that saves
      time: the number of steps and the size of the program decide, so that each run decides alike.
      A small network needs some 10,000 steps for it, 784-256-128-10 some 300. Compiled steps give
      the same results up to the last digits. They overwrite the arrays of `grad`, and run Python
      code in model and loss, such as a `print`, only for the first batch of each shape.
    - `progress`: shows a bar if tqdm is installed, and else a line for each epoch, on stderr.
      "tqdm" raises ImportError if it is not installed.
    - `checkpoint`: a folder, or a `Checkpoint` with further objects, such as averages of weights.
      If it holds a state, the training resumes from it: with the same arguments, on the same
      machine, the results are the same bit for bit as without the interruption. A state includes
      data, validation, loss, schedule and callbacks if they have `state_dict()` and
      `load_state_dict()`. Pass other objects that change, such as an average that a callback
      updates, to the `Checkpoint`. Data without these methods must come in the same order in each
      epoch.
    - `checkpoint_every`: when to save: a number of steps, or a `datetime.timedelta`; by default
      after each epoch. A state is also saved at the end and on Ctrl-C.
    - `comm`: a communicator of MPI, `tg.parallel.world()`: its ranks train one model together.
      They start with the first rank's parameters, and average their gradients. Each takes its share
      of the batches of `tg.data.batches`, as by `tg.parallel.shard`; other data are a rank's own
      batches, the same number on each rank. Results are those of all ranks. The first rank alone
      shows progress, and saves the checkpoints, which all ranks must be able to read. An exception
      on one rank, or Ctrl-C, ends all of them, without a last save. Options and data that are
      not the same on all ranks raise ValueError.

    Batches of `tg.data.batches` are taken many at once by one call of a compiled program, for some
    hundredths of a second, with the same results. Ctrl-C ends the training after the current step,
    or after those taken at once (or before it, while it is being compiled), and `fit` returns the
    history so far; a second Ctrl-C interrupts the step. If the loss or a gradient
    is not finite, the step is not taken, and an AnomalyError names it and the first operation that
    went wrong. Arguments that do not fit together raise ValueError or TypeError before the first
    step.

    >>> x, y = tg.data.moons(200, rng=0)
    >>> model = tg.MLP(2, [16, 2], output_activation="linear", rng=0)
    >>> batches = tg.data.batches((x, y), 20, shuffle=True, rng=0)
    >>> adam = tg.optim.Adam(model.parameters(), lr=0.05)
    >>> history = tg.fit(model, tg.nn.cross_entropy, batches, optimizer=adam, epochs=20,
    ...                  metrics=[tg.training.accuracy], progress=False)
    >>> history["accuracy"][-1] > 0.95
    True
    """
    metrics = by_name("fit", metrics)
    require_functions("fit", model, loss)
    optimizer = Adam(model.parameters()) if optimizer is None else optimizer
    _require_fit(model, optimizer, schedule, schedule_every)
    ranks = Ranks("fit", comm)
    require_every(checkpoint, checkpoint_every, ranks)
    monitor = Monitor(early_stopping, metrics, validation is not None)
    data, validation = ranks.share(data), ranks.share_to_evaluate(validation)
    ranks.start(model, optimizer)
    ranks.require_alike(
        epochs=epochs,
        validation=type(validation).__name__,
        metrics=[*metrics],
        schedule=type(schedule).__name__,
        schedule_every=schedule_every,
        early_stopping=repr(early_stopping),
        clip=clip,
        optimizer=" ".join(repr(optimizer).split()),
        checkpoint=checkpoint is not None,
        checkpoint_every=checkpoint_every,
    )
    take = Step(model, loss, optimizer, clip, schedule if schedule_every == "step" else None, ranks)
    take.returns_output = bool(metrics)
    training = _Training(take, data, epochs, validation, metrics, monitor, schedule, callbacks)
    saves = Saves(checkpoint, checkpoint_every, training.position, training.means, ranks)
    training.run(compile, progress, saves)
    return training.history


class Step:
    """A training step: forward, backward, and a step of the optimizer."""

    def __init__(
        self,
        model: Module,
        loss: Metric,
        optimizer: Optimizer,
        clip: float | None,
        schedule: Any,
        ranks: Ranks,
    ) -> None:
        self.returns_output = True
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.clip, self.schedule, self.ranks = clip, schedule, ranks

    def take(self, batch: Any) -> tuple[Any, Any]:
        """Take a step for a batch; return the loss and, if `returns_output`, the output."""
        output, value = evaluate_batch("fit", self.model, self.loss, batch)
        if not (isinstance(value, Tensor) and value.requires_grad):
            raise TypeError(
                f"fit: the loss is a {type(value).__name__} without a graph: compute it from the "
                "model's output, without float(), item() or detach()"
            )
        self.optimizer.zero_grad()
        value.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        mode.get().interpreter.effect(_FINITE, plain(value), *gradients)
        self.ranks.average(samples_of(batch))
        if self.clip is not None:
            clip_grad_norm(parameters, self.clip)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return value, output if self.returns_output else None

    def other_parameters(self) -> list[Tensor]:
        """The parameters of the optimizer that are not the model's."""
        own = {id(p) for p in self.model.parameters()}
        groups = self.optimizer.param_groups
        return [p for group in groups for p in group["params"] if id(p) not in own]


class _Training:
    """The loop over epochs and batches, and its state."""

    def __init__(
        self,
        step: Step,
        data: Iterable[Any],
        epochs: int,
        validation: Iterable[Any] | None,
        metrics: dict[str, Metric],
        monitor: Monitor,
        schedule: Any,
        callbacks: Sequence[Callable[[History], Any]],
    ) -> None:
        self.step, self.model, self.ranks = step, step.model, step.ranks
        self.data, self.epochs, self.validation = data, epochs, validation
        self.metrics, self.monitor = metrics, monitor
        self.schedule, self.callbacks = schedule, callbacks
        self.history, self.means = History(), Means("fit", metrics)
        self.position = Position()

    def run(self, compiles: bool | None, progress: bool | str, saves: Saves) -> None:
        """Train until the last epoch, or until something stops the training."""
        stopped = "epochs"
        progress = progress if self.ranks.is_first else False
        self.saves, self.pace = saves, Pace(self.data, saves.steps_until_due)
        steps = number_of_steps(self.data, self.epochs)
        try:
            with (
                modes_kept(self.model),
                Progress(progress, self.epochs, steps) as self.progress,
                Interrupts() as self.interrupts,
            ):
                self.compiled = CompiledStep(
                    self.step.take,
                    self.history,
                    self.progress,
                    self.interrupts,
                    bool(compiles),
                    not self.ranks.are_many,
                    steps,
                )
                self._take = self.step.take if compiles is False else self.compiled
                saves.resume(self._parts())
                self.progress.skip(self.position.step)
                if not self.model.training:
                    self.model.train()
                while self.position.epoch < self.epochs and self.history.stopped is None:
                    self._run_epoch()
        except KeyboardInterrupt:
            if self.ranks.are_many:
                raise
            stopped = "interrupt"
        saves.at_end()
        if self.history.stopped is None or stopped == "interrupt":
            self.history.stopped = stopped
        if self.monitor.best_state is not None:
            self.model.load_state_dict(self.monitor.best_state)

    def _parts(self) -> dict[str, Any]:
        """All that changes during the training, for its checkpoints."""
        own = {
            "position": vars(self.position),
            "history": self.history,
            "means": self.means,
            "early_stopping": self.monitor,
            "compiled": self.compiled,
            "validation": with_state(self.validation),
            "loss": with_state(self.step.loss),
            "callbacks": [*map(with_state, self.callbacks)],
            "other_parameters": self.step.other_parameters(),
        }
        return {
            "model": self.model,
            "optimizer": self.step.optimizer,
            "schedule": self.schedule,
            "data": with_state(self.data),
            "fit": own,
        }

    def _run_epoch(self) -> None:
        position = self.position
        steps = number_of_steps(self.data, self.epochs)
        if position.epoch:  # known even for data without a length
            steps = (position.step - position.step_in_epoch) * self.epochs // position.epoch
        self.compiled.steps = steps
        rest: Any = remaining(self.data, position.step_in_epoch)
        run: Callable[[Any], Any] = self._run_step
        if self._take is self.compiled and can_stack(rest):
            rest, run = rest.stacks(self.pace), self._run_stack
        for part in self.interrupts.between(rest):
            before = position.step
            self.saves.half_done = True
            run(part)
            self.saves.half_done = False
            loss = self.means.row()["loss"]
            self.progress.step(position.epoch + 1, loss, position.step - before)
            self.saves.after_step()
        self.means.merge(self.ranks)
        self.ranks.check()
        self.ranks.share_buffers(self.model)
        row = self.means.row() | self._validation()
        self.saves.half_done = True
        self._end_epoch(row)
        self.saves.half_done = False
        self.saves.after_epoch()

    def _run_step(self, batch: Any) -> Any:
        """Take a step; return the loss and the output."""
        self.compiled.step = self.position.step + 1
        try:
            value, output = self._take(batch)
        except _NotFiniteError as error:
            raise self._anomaly(error, batch) from None
        self.means.add(value, output, batch)
        self.position.count(1)
        return value, output

    def _run_stack(self, stack: Sequence[Array]) -> None:
        """Take a step for each batch of a stack, many at once where a plan is there."""
        start = time.perf_counter()
        size, done = len(stack[0]), [0]
        results = Stacked(size)
        while done[0] < size:
            last = self._run_step(tuple([a[done[0]] for a in stack]))
            done[0] += 1
            self._go_on(stack, last, results, done)
        self.pace.note(size, time.perf_counter() - start)

    def _go_on(self, stack: Sequence[Array], last: Any, results: Stacked, done: list[int]) -> None:
        """Take steps by the plan of the last one, and note their results."""
        before = done[0]
        try:
            try:
                self.compiled.go_on(stack, last, results, done)
            finally:
                self.position.count(done[0] - before)
                self.means.add_stack(results, stack, range(before, done[0]))
        except _NotFiniteError as error:
            raise self._anomaly(error, [a[done[0]] for a in stack]) from None

    def _anomaly(self, error: _NotFiniteError, batch: Any) -> AnomalyError:
        position = self.position
        name = f"step {position.step + 1} (epoch {position.epoch + 1})"
        return _anomaly(self.model, self.step.loss, batch, error.loss, name)

    def _validation(self) -> dict[str, float]:
        """The results of the validation, by name."""
        if self.validation is None:
            return {}
        batches = self.interrupts.between(self.validation)
        with undone_by_interrupt(self.validation):
            loss = self.step.loss
            return validate("fit", self.model, loss, batches, self.metrics, "val_", self.ranks)

    def _end_epoch(self, row: dict[str, float]) -> None:
        """Note the results of an epoch, and decide whether the training goes on."""
        self.history.append(row)
        self.progress.epoch(self.position.epoch + 1, row)
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(row[self.monitor.column])
        elif self.schedule is not None and self.step.schedule is None:
            self.schedule.step()
        if self.callbacks:
            with modes_kept(self.model):
                answers = [callback(self.history) for callback in self.callbacks]
            stops = any(isinstance(answer, (bool, np.bool)) and answer for answer in answers)
            if any(self.ranks.gather(stops)):
                self.history.stopped = "callback"
        if self.monitor.should_stop(self.history, self.model):
            self.history.stopped = "early stopping"
        self.means.clear()
        self.position.epoch += 1
        self.position.step_in_epoch = 0


def _require_fit(model: Module, optimizer: Any, schedule: Any, schedule_every: str) -> None:
    """Raise an error if these options do not fit together."""
    if isinstance(optimizer, DistributedOptimizer):
        raise TypeError("fit: pass the optimizer of this DistributedOptimizer, and comm=")
    if not isinstance(optimizer, Optimizer) or isinstance(optimizer, LBFGS):
        raise TypeError(
            "fit: the optimizer must be one of tg.optim, such as "
            f"tg.optim.Adam(model.parameters(), lr=0.01), not {optimizer!r}; LBFGS needs a "
            "function of all the data: call its step(closure)"
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if held.isdisjoint(map(id, model.parameters())):
        raise ValueError(
            "fit: the optimizer has none of the model's parameters: make it from model.parameters()"
        )
    if schedule_every not in ("epoch", "step"):
        raise ValueError(f'fit: schedule_every must be "epoch" or "step", not {schedule_every!r}')
    if isinstance(schedule, ReduceLROnPlateau) and schedule_every == "step":
        raise ValueError('fit: ReduceLROnPlateau needs an epoch\'s result: schedule_every="epoch"')
    if getattr(schedule, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            "fit: the schedule is that of another optimizer: pass optimizer=schedule.optimizer"
        )


# -- values that are not finite


class _NotFiniteError(Exception):
    """The loss of a step, or one of its gradients, is not finite."""

    def __init__(self, loss: float) -> None:
        self.loss = loss


def _require_finite(loss: Array, *gradients: Array) -> None:
    """Raise _NotFiniteError unless all are finite; for most gradients, the squares tell."""
    number, flat = loss.item(), [g.ravel("K") for g in gradients]
    squares = map(np.vdot, flat, flat)
    if not math.isfinite(number) or not (
        all(map(cmath.isfinite, squares)) or all(np.isfinite(g).all() for g in flat)
    ):
        raise _NotFiniteError(number)


_FINITE = Requirement(_require_finite, lambda x: abs(x) < math.inf)


def _anomaly(model: Module, loss: Metric, batch: Any, value: float, step: str) -> AnomalyError:
    """Run the step again to find its first operation that went wrong; return the error."""
    what = "a gradient is not finite" if math.isfinite(value) else f"the loss is {value}"
    arrays = [*(("the batch", part) for part in batch), *model.named_parameters()]
    causes = [f"{name} was not finite before" for name, a in arrays if _has_not_finite(a)][:1]
    state = model.state_dict()  # a BatchNorm changes with each call
    try:
        with detect_anomaly(), np.errstate(all="ignore"):
            evaluate_batch("fit", model, loss, batch)[1].backward()
    except AnomalyError as error:
        causes.append(str(error))
    finally:
        model.load_state_dict(state)
    cause = "; ".join(causes) or "it did not happen again"
    return AnomalyError(f"fit: {step} was not taken, because {what}: {cause}")


def _has_not_finite(value: Any) -> bool:
    return (
        hasattr(value, "dtype")
        and value.dtype.kind in "fc"
        and not np.isfinite(as_array(value)).all()
    )
