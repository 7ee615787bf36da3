"""`fit` against the loop written by hand, and all that can end a training."""

import inspect
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.compiler import compiled, costs
from tensorgrad.engine.interpreter import eager
from tensorgrad.engine.modes import mode
from tensorgrad.training import accuracy, compilation, evaluate

from .depth import one_in
from .oracles import leaf

X, Y = tg.data.moons(40, rng=0)


def network() -> tg.MLP:
    return tg.MLP(2, [8, 2], output_activation="linear", rng=0)


def moons_batches() -> Any:
    return tg.data.batches((X, Y), 16, shuffle=True, rng=1)


def fit(model: Any, loss: Any = nn.cross_entropy, data: Any = None, **options: Any) -> tg.History:
    data = moons_batches() if data is None else data
    return tg.fit(model, loss, data, **{"epochs": 3, "progress": False, **options})


def weights(model: nn.Module) -> list[Any]:
    return [p.data.copy() for p in model.parameters()]


class Line(nn.Module):
    """A number `w`, whose loss `w` falls by the rate in each step."""

    def __init__(self) -> None:
        self.w = leaf(0.0)
        self.modes: list[bool] = []

    def __call__(self, x: Any) -> Any:
        self.modes.append(self.training)
        return self.w * np.sum(x)


def slope(y: Any, _target: Any) -> Any:
    return y


ONE = [(np.ones(1), np.zeros(1))]  # a batch: the gradient of `slope` is 1


def descend(line: Line, loss: Any = slope, **options: Any) -> tg.History:
    """Train by steps of -1."""
    optimizer = tg.optim.SGD(line.parameters(), lr=1.0)
    return fit(line, loss, **{"data": ONE, "optimizer": optimizer, "epochs": 10, **options})


# -- the loop


def test_fit_is_the_loop_written_by_hand() -> None:
    by_hand, fitted = network(), network()
    optimizer = tg.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    schedule = tg.optim.ExponentialLR(optimizer, gamma=0.9)
    data = moons_batches()
    for _ in range(3):
        for x, y in data:
            loss = nn.cross_entropy(by_hand(x), y)
            optimizer.zero_grad()
            loss.backward()
            tg.optim.clip_grad_norm(by_hand.parameters(), 0.5)
            optimizer.step()
        schedule.step()
    optimizer = tg.optim.SGD(fitted.parameters(), lr=0.1, momentum=0.9)
    schedule = tg.optim.ExponentialLR(optimizer, gamma=0.9)
    history = fit(fitted, optimizer=optimizer, schedule=schedule, clip=0.5, compile=False)
    for a, b in zip(weights(by_hand), weights(fitted), strict=True):
        assert_array_equal(a, b)
    assert history.stopped == "epochs"
    assert history["loss"][2] < history["loss"][0]


def test_the_same_twice() -> None:
    first, second = network(), network()
    assert fit(first) == fit(second)
    for a, b in zip(weights(first), weights(second), strict=True):
        assert_array_equal(a, b)


def test_the_default_optimizer_is_adam() -> None:
    default, given = network(), network()
    fit(default)
    fit(given, optimizer=tg.optim.Adam(given.parameters()))
    for a, b in zip(weights(default), weights(given), strict=True):
        assert_array_equal(a, b)


def test_the_history_holds_means_over_samples() -> None:
    model = network()
    frozen = tg.optim.SGD(model.parameters(), lr=0.0)
    history = fit(
        model,
        optimizer=frozen,
        metrics={"accuracy": accuracy},
        validation=tg.data.batches((X[:30], Y[:30]), 20),
    )
    assert [*history] == ["loss", "accuracy", "val_loss", "val_accuracy"]
    whole, part = (evaluate(model, nn.cross_entropy, [b]) for b in [(X, Y), (X[:30], Y[:30])])
    assert_allclose(history["loss"], [whole["loss"]] * 3)
    assert_allclose(history["val_loss"], [part["loss"]] * 3)
    right = np.argmax(model(X).data, axis=1) == Y
    assert_allclose(history["accuracy"], [right.mean()] * 3)
    assert_allclose(history.last()["val_accuracy"], right[:30].mean())
    assert "3 epochs, stopped by epochs, loss 0." in repr(history)


def test_models_of_several_inputs_and_outputs() -> None:
    class Twice(Line):
        def __call__(self, a: Any, b: Any) -> Any:  # type: ignore[override]
            return self.w * np.sum(a), self.w * np.sum(b)

    seen: list[Any] = []

    def spread(y: Any, target: Any) -> float:
        seen.append((y, target))
        return float(y[1] - y[0])

    batch = (np.ones(2), np.ones(3), np.zeros(2))
    history = fit(Twice(), lambda y, _: y[0] + y[1], [batch], metrics=[spread], epochs=1)
    assert history["spread"] == [0.0]
    outputs, target = seen[0]
    assert type(outputs) is tuple and not outputs[0].requires_grad
    assert target is batch[2]


def test_training_and_evaluation_mode() -> None:
    line = Line().eval()
    descend(line, epochs=2, validation=ONE)
    assert line.modes == [True, False, True, False]
    assert not line.training
    assert evaluate(line.train(), slope, ONE) == {"loss": -2.0}
    assert line.modes[-1] is False and line.training
    with pytest.raises(ZeroDivisionError):
        descend(line.eval(), callbacks=[lambda _: 1 / 0])
    assert not line.training


def test_a_frozen_part_stays_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2, rng=0), nn.BatchNorm1d(2))
    frozen, _, free = model
    frozen.eval()
    statistics = [norm.running_mean.data.copy() for norm in (frozen, free)]
    evaluate(model, nn.cross_entropy, [(X, Y)])
    fit(model, validation=[(X, Y)], callbacks=[lambda _: model.eval()])
    assert_array_equal(frozen.running_mean.data, statistics[0])
    assert np.all(free.running_mean.data != statistics[1])
    assert free.num_batches_tracked.item() == 9
    assert [m.training for m in model.modules()] == [True, False, True, True]


def test_nothing_is_recorded_in_evaluation() -> None:
    def loss(y: Any, _target: Any) -> Any:
        assert not y.requires_grad
        return y

    evaluate(Line(), loss, ONE)


# -- a run of PyTorch: the same network, data and optimizer


def wavy(*shape: int) -> Any:
    return np.sin(1.0 + np.arange(np.prod(shape))).reshape(shape) / 2


WAVES = 3 * wavy(24, 2)
SIGNS = (WAVES[:, 0] * WAVES[:, 1] > 0).astype(int)


# What `curve_of_pytorch` returned with PyTorch 2.13.
STORED = [
    0.838111920351, 0.676858783031, 0.667428493636,
    0.66230554991, 0.640125236127, 0.610041694908,
]  # fmt: skip


@pytest.mark.parametrize("live", [False, True])
def test_the_curve_is_pytorchs(live: bool) -> None:
    expected = curve_of_pytorch(pytest.importorskip("torch")) if live else STORED
    model = network()
    for p in model.parameters():
        p.data = wavy(*p.shape)
    data = tg.data.batches((WAVES, SIGNS), 8)
    adam = tg.optim.Adam(model.parameters(), lr=0.05)
    history = fit(model, data=data, optimizer=adam, epochs=6)
    assert_allclose(history["loss"], expected, rtol=1e-10)


def curve_of_pytorch(torch: Any) -> list[float]:
    """The mean loss of each epoch."""
    layers = torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
    model = torch.nn.Sequential(*layers).double()
    for p in model.parameters():
        p.data = torch.tensor(wavy(*p.shape))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    curve = []
    for _ in range(6):
        losses = []
        for x, y in tg.data.batches((WAVES, SIGNS), 8):
            loss = torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curve.append(float(np.mean(losses)))
    return curve


# -- schedules


def test_schedules_step_by_epoch_or_by_step() -> None:
    line = Line()
    optimizer = tg.optim.SGD(line.parameters(), lr=1.0)
    rates: list[float] = []

    def note(_history: Any) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    data = ONE * 3
    halving = tg.optim.ExponentialLR(optimizer, gamma=0.5)
    descend(line, optimizer=optimizer, data=data, schedule=halving, callbacks=[note], epochs=2)
    assert (rates, line.w.item()) == ([0.5, 0.25], -4.5)
    rates.clear()
    descend(
        line,
        optimizer=optimizer,
        data=data,
        schedule=halving,
        schedule_every="step",
        callbacks=[note],
        epochs=1,
    )
    assert rates == [1 / 32]
    with pytest.raises(ValueError, match="not 'batch'"):
        descend(line, schedule=halving, schedule_every="batch")


def test_a_plateau_is_one_of_what_early_stopping_watches() -> None:
    line = Line()
    optimizer = tg.optim.SGD(line.parameters(), lr=1.0)
    plateau = tg.optim.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    descend(
        line,
        optimizer=optimizer,
        schedule=plateau,
        validation=ONE,
        epochs=4,
    )
    assert plateau.best == -4.0
    line, rates = Line(), []
    optimizer = tg.optim.SGD(line.parameters(), lr=1.0)
    plateau = tg.optim.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    descend(
        line,
        optimizer=optimizer,
        schedule=plateau,
        early_stopping=tg.EarlyStopping(9, monitor="rising", mode="min"),
        metrics={"rising": lambda y, _: -y},
        callbacks=[lambda _: rates.append(optimizer.param_groups[0]["lr"])],
        epochs=3,
    )
    assert rates == [1.0, 0.5, 0.25]


# -- what ends a training


def bowl(bottom: float) -> Callable[[Any, Any], Any]:
    """A loss whose gradient in training is 1, and whose value is least at `bottom`."""

    def loss(y: Any, _target: Any) -> Any:
        return y if y.requires_grad else (y - bottom) ** 2

    return loss


def test_early_stopping_restores_the_best_weights() -> None:
    line = Line()
    history = descend(line, loss=bowl(-3.0), validation=ONE, early_stopping=2)
    assert history["val_loss"] == [4.0, 1.0, 0.0, 1.0, 4.0]
    assert (history.stopped, history.best_epoch) == ("early stopping", 3)
    assert line.w.item() == -3.0
    line = Line()
    history = descend(line, loss=bowl(-3.0), validation=ONE, early_stopping=2, epochs=4)
    assert (history.stopped, history.best_epoch, line.w.item()) == ("epochs", 3, -3.0)


def test_early_stopping_by_a_margin_or_upwards() -> None:
    line = Line()
    stopping = tg.EarlyStopping(patience=1, min_delta=2.0)
    history = descend(line, loss=bowl(-3.0), validation=ONE, early_stopping=stopping)
    assert (history["val_loss"], history.best_epoch) == ([4.0, 1.0, 0.0], 2)
    line = Line()
    stopping = tg.EarlyStopping(patience=3, monitor="height", mode="max")
    history = descend(
        line, metrics={"height": lambda y, _: 9 - (y + 4) ** 2}, early_stopping=stopping
    )
    assert history["height"] == [-7.0, 0.0, 5.0, 8.0, 9.0, 8.0, 5.0, 0.0]
    assert (history.best_epoch, line.w.item()) == (5, -5.0)


def test_a_validation_that_is_not_a_number_is_never_the_best() -> None:
    values = iter([np.nan, 2.0, np.nan, 3.0, 1.0])
    line = Line()
    stopping = tg.EarlyStopping(patience=2, monitor="odd", mode="min")
    history = descend(line, metrics={"odd": lambda *_: next(values)}, early_stopping=stopping)
    assert (history.best_epoch, line.w.item()) == (2, -2.0)


def test_what_early_stopping_cannot_watch() -> None:
    with pytest.raises(ValueError, match=r"cannot monitor 'val_loss', only \['loss', 'm'\]"):
        descend(Line(), early_stopping=tg.EarlyStopping(monitor="val_loss"), metrics={"m": slope})
    with pytest.raises(ValueError, match="are smaller or larger values of m better"):
        descend(Line(), early_stopping=tg.EarlyStopping(monitor="m"), metrics={"m": slope})


def test_callbacks_see_the_history_and_can_end_it() -> None:
    seen: list[Any] = []

    def third(history: tg.History) -> bool:
        seen.append(history.last())
        return len(history["loss"]) == 3

    assert descend(Line(), callbacks=[lambda _: np.bool(True)]).stopped == "callback"
    history = descend(Line(), callbacks=[third, lambda _: 1])
    assert history.stopped == "callback"
    assert seen == [{"loss": 0.0}, {"loss": -1.0}, {"loss": -2.0}]


def test_a_history_has_no_reason_to_stop_during_the_training() -> None:
    shown: list[str] = []
    history = descend(Line(), callbacks=[lambda history: shown.append(repr(history))], epochs=2)
    assert shown == ["History(1 epoch, loss 0)", "History(2 epochs, loss -1)"]
    assert repr(history) == "History(2 epochs, stopped by epochs, loss -1)"


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_the_training_after_the_step() -> None:
    steps: list[str] = []

    class Slow(tg.optim.SGD):
        def step(self, _closure: Any = None) -> None:
            steps.append("begun")
            if len(steps) == 9:
                interrupt()
            super().step()
            steps.append("done")

    line = Line()
    handler = signal.getsignal(signal.SIGINT)
    history = descend(line, data=ONE * 2, optimizer=Slow(line.parameters(), lr=1.0))
    assert history.stopped == "interrupt"
    assert len(history["loss"]) == 2
    assert steps == ["begun", "done"] * 5
    assert line.w.item() == -5.0
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_does_not_wait() -> None:
    def loss(_y: Any, _target: Any) -> Any:
        interrupt()
        interrupt()
        raise AssertionError

    line = Line()
    assert descend(line, loss=loss).stopped == "interrupt"
    assert line.w.item() == 0.0


def test_an_interrupted_training_has_the_best_weights() -> None:
    def third(history: tg.History) -> None:
        if len(history["loss"]) == 5:
            raise KeyboardInterrupt

    line = Line()
    history = descend(line, loss=bowl(-3.0), validation=ONE, early_stopping=9, callbacks=[third])
    assert (history.stopped, history.best_epoch, line.w.item()) == ("interrupt", 3, -3.0)


def test_other_handlers_and_threads_are_left_alone() -> None:
    seen: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        history = descend(Line(), epochs=2, callbacks=[lambda _: interrupt()])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (history.stopped, seen) == ("epochs", [signal.SIGINT] * 2)
    histories: list[tg.History] = []
    thread = threading.Thread(target=lambda: histories.append(descend(Line(), epochs=2)))
    thread.start()
    thread.join()
    assert histories[0]["loss"] == [0.0, -1.0]


# -- what is saved, and gone on from


class Averager:
    """A callback that averages the weights, and counts."""

    def __init__(self, model: nn.Module) -> None:
        self.average = tg.optim.ExponentialMovingAverage(model.parameters(), 0.5)
        self.calls = 0

    def __call__(self, _history: tg.History) -> None:
        self.average.update()
        self.calls += 1

    def state_dict(self) -> Any:
        return {"average": self.average.state_dict(), "calls": self.calls}

    def load_state_dict(self, state: Any) -> None:
        self.average.load_state_dict(state["average"])
        self.calls = state["calls"]


class Run:
    """All that a training of moons has, by a seed; `fit` trains it, `state` is all that changed."""

    def __init__(self, seed: int, make: Any = tg.optim.Adam, data: Any = None, **options: Any):
        self.model = nn.Sequential(
            nn.Linear(2, 8, rng=seed), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3, rng=seed),
            nn.Linear(8, 2, rng=seed),
        )  # fmt: skip
        self.optimizer = make(self.model.parameters(), lr=0.03)
        self.data = tg.data.batches((X, Y), 16, shuffle=True, rng=seed) if data is None else data
        self.validation = tg.data.batches((X[:20], Y[:20]), 8, shuffle=True, rng=seed)
        self.schedule = tg.optim.CosineAnnealingLR(self.optimizer, 20)
        self.averager = Averager(self.model)
        self.options = {"epochs": 3, "early_stopping": 2, "clip": 1.0} | options

    def fit(self, **options: Any) -> Any:
        history = fit(
            self.model,
            data=self.data,
            optimizer=self.optimizer,
            validation=self.validation,
            schedule=self.schedule,
            metrics=[accuracy, tg.training.f1],
            callbacks=[self.averager],
            **self.options | options,
        )
        return self.state(), dict(history), vars(history)

    def state(self) -> Any:
        with_state = self.model, self.optimizer, self.schedule, self.averager, self.validation
        states = [part.state_dict() for part in with_state]
        return [*states, [g.bit_generator.state for _, g in self.model.named_generators()]]


def assert_equal(found: Any, expected: Any) -> None:
    """Raise an AssertionError unless nested values are equal, bit by bit."""
    np.testing.assert_equal(found, expected)


def assert_resumes(tmp_path: Path, run: Callable[[int], Run]) -> None:
    """After each step, or after two, a training that goes on becomes the uninterrupted one."""
    expected = run(0).fit()
    every = tg.Checkpoint(tmp_path / "all", keep=100)
    assert_equal(run(0).fit(checkpoint=every, checkpoint_every=1), expected)
    assert len(every.paths()) == 9
    for path in one_in(8, every.paths()):
        folder = tmp_path / path.stem
        folder.mkdir()
        path.rename(folder / path.name)
        assert_equal(run(1).fit(checkpoint=folder), expected)


OPTIMIZERS = {
    "SGD": lambda p, lr: tg.optim.SGD(p, lr, momentum=0.9, dampening=0.1),
    "Adam": lambda p, lr: tg.optim.Adam(p, lr, amsgrad=True),
    "AdamW": tg.optim.AdamW,
    "RMSprop": lambda p, lr: tg.optim.RMSprop(p, lr, momentum=0.5, centered=True),
    "Adagrad": tg.optim.Adagrad,
    "Lion": tg.optim.Lion,
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"compile": False}) for name in one_in(2, OPTIMIZERS)),
        *((name, {}) for name in one_in(6, OPTIMIZERS)),
    ],
)
def test_a_resumed_training_is_the_uninterrupted_one(
    name: str, options: Any, tmp_path: Path
) -> None:
    assert_resumes(tmp_path, lambda seed: Run(seed, OPTIMIZERS[name], **options))


@pytest.mark.parametrize(
    "options",
    one_in(
        3,
        [
            {"schedule_every": "step"},
            {"compile": True},
            {"early_stopping": None},
            {"data": [(X[i : i + 15], Y[i : i + 15]) for i in range(0, 40, 15)]},
        ],
    ),
    ids=lambda options: next(iter(options)),
)
def test_resumed_with_other_options(options: Any, tmp_path: Path) -> None:
    assert_resumes(tmp_path, lambda seed: Run(seed, **options))


@pytest.mark.parametrize(("few", "many"), one_in(2, [(0, 6), (0, 3), (200, 3)]))
def test_resumed_steps_are_compiled_as_before(
    few: int, many: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where some shapes are compiled, and others not; then an epoch is more than 3 steps."""
    monkeypatch.setattr(compilation, "steps_that_pay", lambda calls, _: many if calls > few else 0)
    assert_resumes(tmp_path, Run)


def test_a_state_without_the_steps_expected_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As earlier versions saved it."""
    with monkeypatch.context() as patch:
        state_dict = compilation.CompiledStep.state_dict

        def earlier(self: Any) -> Any:
            state = state_dict(self)
            del state["expected"]
            return state

        patch.setattr(compilation.CompiledStep, "state_dict", earlier)
        Run(0).fit(epochs=2, checkpoint=tmp_path)
    expected = Run(0).fit()
    assert_equal(Run(1).fit(checkpoint=tmp_path), expected)


def test_early_stopping_is_resumed(tmp_path: Path) -> None:
    """The best weights, and how long ago they were; and a training that has ended stays so."""

    def run(seed: int) -> Run:
        return Run(seed, lambda p, lr: tg.optim.SGD(p, 20 * lr), epochs=40)

    expected = run(0).fit()
    stopped = expected[2]
    assert stopped["stopped"] == "early stopping"
    for until in one_in(2, [1, stopped["best_epoch"], stopped["best_epoch"] + 1, 40]):
        folder = tmp_path / f"{until}"
        run(0).fit(checkpoint=folder, epochs=until)
        assert_equal(run(1).fit(checkpoint=folder), expected)


def test_a_training_goes_on_for_more_epochs(tmp_path: Path) -> None:
    run = Run(0)
    run.fit(epochs=2, checkpoint=tmp_path)
    _, history, _ = run.fit(epochs=3, checkpoint=tmp_path)
    assert len(history["loss"]) == 3
    before = run.state()
    assert len(run.fit(epochs=3, checkpoint=tmp_path)[1]["loss"]) == 3
    assert_equal(run.state(), before)


@pytest.mark.parametrize("place", ["train", "validate", "callback"])
@pytest.mark.parametrize("call", [1, 2, 4])
def test_ctrl_c_saves(place: str, call: int, tmp_path: Path) -> None:
    """Wherever it comes; what is under way then is not saved, or repeated."""

    class Watched(nn.Sequential):
        def __call__(self, x: Any) -> Any:
            count("train" if self.training else "validate")
            return super().__call__(x)

    class Watching(Averager):
        def __call__(self, history: tg.History) -> None:
            count("callback")
            super().__call__(history)

    calls = Counter[str]()

    def count(now: str) -> None:
        calls[now] += 1
        if (now, calls[now]) == (place, call):
            interrupt()

    def watched(seed: int) -> Run:
        run = Run(seed, compile=False, epochs=5, early_stopping=None)
        run.model.__class__ = Watched
        run.averager = Watching(run.model)
        return run

    *_, stopped = watched(0).fit(checkpoint=tmp_path)
    assert stopped["stopped"] == "interrupt"
    resumed = watched(1).fit(checkpoint=tmp_path)
    place = "nowhere"
    assert_equal(resumed, watched(0).fit())


def test_when_states_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    now = 0.0

    def tick(*_args: Any) -> Any:
        nonlocal now
        now += 20
        return slope(*_args)

    monkeypatch.setattr(tg.Checkpoint, "save", lambda _self, step: saved.append(step))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for every, steps in [
        (None, [3, 6, 9]),
        (2, [2, 4, 6, 8, 9]),
        (100, [9]),
        (timedelta(minutes=1), [3, 6, 9, 9]),  # the last time, after the epoch
        (timedelta(seconds=70), [4, 8, 9]),
        (timedelta(seconds=1), [*range(1, 10), 9]),
    ]:
        saved.clear()
        options = {"checkpoint": tmp_path / "none", "checkpoint_every": every, "compile": False}
        descend(Line(), tick, data=ONE * 3, epochs=3, **options)
        assert saved == steps


def test_further_objects_are_saved_with_a_training(tmp_path: Path) -> None:
    run, average = Run(0), Averager(network())
    average(tg.History())
    run.fit(checkpoint=tg.Checkpoint(tmp_path, keep=1, more=average, model=run.model), epochs=2)
    (path,) = tmp_path.iterdir()
    saved = tg.load(path)
    assert {*saved} == {"model", "optimizer", "schedule", "data", "fit", "more"}
    assert_equal(saved["more"], average.state_dict())
    with pytest.raises(
        ValueError, match="'model' in the checkpoint is not the object passed to fit"
    ):
        run.fit(checkpoint=tg.Checkpoint(tmp_path, model=network()))


def test_what_else_is_trained_or_called_back_is_saved(tmp_path: Path) -> None:
    """A parameter outside of the model, and an object whose method is called."""

    def run(seed: float, epochs: int, folder: Path | None) -> Any:
        line, bias, average = Line(), leaf(seed), Averager(network())
        optimizer = tg.optim.SGD([line.w, bias], lr=0.1)
        fit(
            line,
            lambda y, _target: (y + bias) ** 2,
            ONE,
            optimizer=optimizer,
            epochs=epochs,
            callbacks=[average.__call__],
            checkpoint=folder,
        )
        return line.w.data, bias.data, average.calls

    expected = run(1.0, 4, None)
    run(1.0, 2, tmp_path)
    assert_equal(run(2.0, 4, tmp_path), expected)


def test_a_state_of_another_training_changes_nothing(tmp_path: Path) -> None:
    Run(0).fit(checkpoint=tmp_path, epochs=1)
    other = Run(1, tg.optim.SGD)
    before = other.state()
    with pytest.raises(tg.CheckpointError, match=r"expected the state of SGD, found .* Adam"):
        other.fit(checkpoint=tmp_path)
    assert_equal(other.state(), before)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint_every": 3}, ValueError, "needs checkpoint=, the folder"),
        ({"checkpoint": "x", "checkpoint_every": 0}, ValueError, "must be positive, not 0"),
        ({"checkpoint": "x", "checkpoint_every": timedelta()}, ValueError, "must be positive"),
        ({"checkpoint": "x", "checkpoint_every": 1.5}, TypeError, "steps or a timedelta, not 1.5"),
        ({"checkpoint": "x", "checkpoint_every": True}, TypeError, "steps or a timedelta"),
    ],
)
def test_wrong_times_to_save(options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fit(network(), **options)


# -- compiled steps


class Norm(nn.Module):
    """A module of a user's own, with modules in a list."""

    def __init__(self) -> None:
        self.parts = [nn.Linear(2, 8, rng=0), nn.BatchNorm1d(8), nn.Dropout(0.2, rng=0)]
        self.head = nn.Linear(8, 2, rng=1)

    def __call__(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return self.head(x if self.training else x * 1.0)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many steps were traced, and how many plans were made of them."""
    counts: Counter[str] = Counter()
    for what, kind in {"traces": compiled.Trace, "plans": compiled.Plan}.items():

        def counting(*args: Any, what: str = what, kind: Any = kind) -> Any:
            counts[what] += 1
            return kind(*args)

        monkeypatch.setattr(compiled, kind.__name__, counting)
    return counts


FITS: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "alone": lambda _model, _adam: {},
    "validation": lambda _model, _adam: {"validation": [(X, Y)], "early_stopping": 9},
    "metrics": lambda _model, _adam: {"metrics": [accuracy], "clip": 1.0},
    "a schedule": lambda _model, adam: {"schedule": tg.optim.CosineAnnealingLR(adam, 9)},
    "a schedule of steps": lambda _model, adam: {
        "schedule": tg.optim.OneCycleLR(adam, 0.1, total_steps=9), "schedule_every": "step"
    },
    "modes": lambda model, _adam: {"callbacks": [lambda _: model.eval(), lambda _: model.train()]},
    "an average": lambda model, _adam: {"callbacks": [averaging(model)]},
    "a state": lambda model, _adam: {
        "callbacks": [lambda _: model.load_state_dict(model.state_dict())]
    },
}  # fmt: skip


def averaging(model: nn.Module) -> Callable[[Any], None]:
    average = tg.optim.ExponentialMovingAverage(model.parameters(), 0.9)

    def callback(_history: Any) -> None:
        average.update()
        with average.applied():
            evaluate(model, nn.cross_entropy, [(X, Y)])

    return callback


@pytest.mark.parametrize("options", FITS)
@pytest.mark.parametrize("make", one_in(2, [Norm, network]))
def test_a_fresh_model_is_traced_once(make: Any, options: str, traces: Counter[str]) -> None:
    model = make()
    adam = tg.optim.Adam(model.parameters())
    data = tg.data.batches((X[:32], Y[:32]), 16)
    history = fit(model, data=data, optimizer=adam, **FITS[options](model, adam))
    assert traces == {"traces": 1, "plans": 1}
    assert history.not_compiled is None


def test_each_shape_is_traced_once(traces: Counter[str]) -> None:
    model = network()
    fit(model, data=tg.data.batches((X, Y), 16, shuffle=True, rng=0))
    assert traces["traces"] == 2
    sizes = [2, *range(1, 12)]
    history = fit(model, data=[(X[:n], Y[:n]) for n in sizes])
    assert traces["traces"] == 2 + 8
    assert history.not_compiled == "there are batches of more than 8 shapes"


class Unsized:
    """Data that does not know its length, as that of a loader over a stream."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        raise TypeError

    def __iter__(self) -> Any:
        return iter(self._data)


@pytest.mark.parametrize(
    ("data", "epochs", "options", "expected"),
    [
        (ONE * 2, 3, {}, {"traces": 1}),
        (ONE * 2, 5, {}, {"traces": 1, "plans": 1}),
        (ONE * 2, 3, {"compile": True}, {"traces": 1, "plans": 1}),
        (Unsized(ONE * 9), 1, {}, {"traces": 2, "plans": 1}),
        (Unsized(ONE), 9, {}, {"traces": 2, "plans": 1}),
        ([*ONE * 4, (np.ones(2), np.zeros(1))], 4, {}, {"traces": 2, "plans": 1}),
        ([*ONE * 4, (np.ones(2), np.zeros(1))], 8, {}, {"traces": 2, "plans": 2}),
    ],
)
def test_many_calls_are_compiled_where_that_pays(
    data: Any, epochs: int, options: Any, expected: Any, traces: Counter[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(compilation, "steps_that_pay", lambda _calls, _operations: 6)
    line, eager = Weight(), Weight()
    history = descend(line, data=data, epochs=epochs, **options)
    assert traces == expected
    if traces["traces"] != traces["plans"]:
        assert "NumPy calls, so compiling it pays only if at least 6" in history.not_compiled
    assert descend(eager, data=data, epochs=epochs, compile=False) == history
    assert line.w.item() == eager.w.item()


def test_so_many_steps_pay() -> None:
    assert compilation.steps_that_pay(1000, 10) == 0
    assert compilation.steps_that_pay(5000, 1000) == 141
    assert compilation.steps_that_pay(5000, 10) == 469


def test_a_long_recurrence_is_compiled_only_for_many_steps(traces: Counter[str]) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            self.lstm = nn.LSTM(2, 4, batch_first=True, rng=0)
            self.head = nn.Linear(4, 1, rng=0)

        def __call__(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    batch = np.ones((3, 100, 2)), np.zeros((3, 1))
    history = fit(Last(), nn.mse_loss, [batch], epochs=2)
    assert traces == {"traces": 1} and len(history["loss"]) == 2
    fit(network(), data=tg.data.batches((X[:32], Y[:32]), 16), epochs=4)
    assert traces == {"traces": 2, "plans": 1}


class Weight(nn.Module):
    """What `Line` is, without a list that grows."""

    def __init__(self) -> None:
        self.w = leaf(0.0)

    def __call__(self, x: Any) -> Any:
        return self.w * np.sum(x)


def test_why_steps_are_not_compiled_is_said_once(caplog: Any, capsys: Any) -> None:
    def decides(y: Any, _target: Any) -> Any:
        return y if y > 0 else 2 * y

    for progress, count in (True, 1), (False, 0):
        caplog.clear()
        history = descend(Line(), decides, data=ONE * 2, progress=progress)
        assert len(caplog.messages) == count
    assert caplog.records == []
    where = f"{__file__}:{decides.__code__.co_firstlineno + 1}"
    assert history.not_compiled.startswith(f"{where}: a decision")
    descend(Line(), decides, progress=True)
    assert caplog.messages == [f"fit: steps are not compiled: {history.not_compiled}"]
    assert descend(Line(), data=[([1.0], 0.0)]).not_compiled == (
        "a batch holds something other than arrays and tensors"
    )
    assert descend(Line(), decides, compile=False).not_compiled is None
    with pytest.raises(tg.TraceError, match="a decision"):
        descend(Line(), decides, compile=True)
    assert "compiling" not in capsys.readouterr().out


def test_the_bar_says_that_it_compiles(capsys: Any) -> None:
    pytest.importorskip("tqdm")
    fit(network(), progress=True)
    assert "compiling" in capsys.readouterr().err


def everything(model: Any, optimizer: Any, schedule: Any) -> str:
    """All that a step changes, as a text."""
    leaves = [(p.grad, p.data.flags.writeable, type(p._array)) for p in model.parameters()]
    rng = model.parts[2].rng.bit_generator.state
    return repr((model.state_dict(), optimizer.state_dict(), schedule.state_dict(), leaves, rng))


@pytest.mark.usefixtures("no_collector")  # Python ignores an exception in its callbacks, too
@pytest.mark.parametrize("part", one_in(7, np.linspace(0.02, 0.95, 13)))
def test_ctrl_c_does_not_wait_for_the_compiler(part: float) -> None:
    """It comes at some call of a function, on the way through the first step."""

    def trained(interrupted_at: int) -> tuple[str, str, tg.History, int]:
        model = Norm()
        adam = tg.optim.Adam(model.parameters(), lr=0.1)
        schedule = tg.optim.ExponentialLR(adam, gamma=0.9)
        before, calls = everything(model, adam, schedule), 0

        def interrupt_once(frame: Any, event: str, _argument: Any) -> None:
            nonlocal calls
            calls += event == "call"
            # Python ignores an exception in what runs as an object goes: a generator, a callback.
            ignored = frame.f_code.co_flags & inspect.CO_GENERATOR or "<" in frame.f_code.co_name
            if event == "call" and 0 < interrupted_at <= calls and not ignored:
                sys.setprofile(None)
                interrupt()

        options = {"optimizer": adam, "clip": 1.0, "schedule": schedule, "schedule_every": "step"}
        sys.setprofile(interrupt_once)
        try:
            history = fit(model, data=[(X, Y)], epochs=1, **options)
        finally:
            sys.setprofile(None)
        return before, everything(model, adam, schedule), history, calls

    trained(-1)  # fills caches
    before, after, _, calls = trained(-1)
    assert after != before
    _, kept, history, _ = trained(int(part * calls))
    assert (history.stopped, history) == ("interrupt", {})
    assert kept == before
    assert mode.get().interpreter is eager
    assert trained(-1)[1] == after


# -- numbers that are not finite


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda y, _: np.log(y + 2), r"the loss is -inf: forward: log .*test_training.py:\d+\) "),
        (lambda y, _: np.sqrt(y + 2), "a gradient is not finite: backward: the derivative of sqrt"),
    ],
)
def test_the_first_bad_operation_is_named(loss: Any, message: str) -> None:
    def until(y: Any, target: Any) -> Any:
        return loss(y, target) if y.item() == -2 else y

    line = Line()
    with np.errstate(all="ignore"), pytest.raises(tg.AnomalyError, match=message) as caught:
        descend(line, loss=until, data=ONE * 2)
    assert "fit: step 3 (epoch 2) was not taken" in str(caught.value)
    assert line.w.item() == -2.0


def test_what_was_not_finite_before_is_named() -> None:
    with pytest.raises(
        tg.AnomalyError, match=r"the loss is nan: the batch was not finite before; backward"
    ):
        descend(Line(), data=[(np.array([np.nan]), np.zeros(1))])
    line = Line()
    line.w.data = np.inf
    with pytest.raises(
        tg.AnomalyError, match=r"step 1 .* the loss is inf: w was not finite before"
    ):
        descend(line)


def test_what_does_not_happen_again() -> None:
    values = iter([np.inf, 1.0])
    with pytest.raises(tg.AnomalyError, match="it did not happen again"):
        descend(Line(), loss=lambda y, _: y + next(values))


def test_the_second_look_does_not_count_in_statistics() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2, rng=0))
    with np.errstate(all="ignore"), pytest.raises(tg.AnomalyError, match="forward: log"):
        fit(model, lambda y, _: np.sum(np.log(y * 0)), compile=False)
    assert model[0].num_batches_tracked.item() == 1


def test_what_the_optimizer_holds_is_cleared_checked_and_clipped() -> None:
    line, other = Line(), leaf(0.0)
    optimizer = tg.optim.SGD([line.w, other], lr=1.0)
    descend(line, lambda y, _: 3 * y + 4 * other, optimizer=optimizer, clip=1.0, epochs=2)
    assert_allclose([line.w.item(), other.item()], [-1.2, -1.6], rtol=1e-6)
    with np.errstate(all="ignore"), pytest.raises(tg.AnomalyError, match="derivative of sqrt"):
        descend(line, lambda y, _: y + np.sqrt(other - other.item()), optimizer=optimizer)
    assert_allclose([line.w.item(), other.item()], [-1.2, -1.6], rtol=1e-6)


def test_gradients_whose_square_overflows_are_fine() -> None:
    line = Line()
    big = [(np.array([1e200]), np.zeros(1))]
    descend(line, data=big, epochs=1)
    assert line.w.item() == -1e200


# -- progress


def test_a_bar_shows_loss_and_metrics(capsys: Any) -> None:
    pytest.importorskip("tqdm")
    fit(network(), progress=True, metrics=[accuracy], validation=[(X, Y)])
    shown = capsys.readouterr().err
    assert "epoch 3/3: 100%" in shown
    assert "9/9" in shown
    for name in "loss 0.", "accuracy 0.", "val_loss 0.", "val_accuracy 0.":
        assert name in shown


def test_a_bar_of_data_without_a_length(capsys: Any) -> None:
    pytest.importorskip("tqdm")

    class Endless:
        def __iter__(self) -> Any:
            return iter(ONE)

    descend(Line(), data=Endless(), progress="tqdm")
    assert "10step" in capsys.readouterr().err


def test_lines_where_there_is_no_tqdm(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    descend(Line(), progress=True, epochs=2, validation=ONE)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/2: loss 0, val_loss -1",
        "epoch 2/2: loss -1, val_loss -2",
    ]
    with pytest.raises(ImportError, match="bar needs tqdm: python -m pip install tqdm"):
        descend(Line(), progress="tqdm")
    descend(Line(), progress=False)
    assert capsys.readouterr() == ("", "")


# -- mistakes


def test_data_that_can_be_read_once_is_refused() -> None:
    with pytest.raises(ValueError, match="iterable more than once"):
        fit(network(), data=((x, y) for x, y in moons_batches()))


def test_data_that_is_not_in_batches_is_refused() -> None:
    with pytest.raises(TypeError, match=r"not ndarray: make batches by tg.data.batches\(\(x, y\)"):
        fit(network(), data=(X, Y))


LINE = Line()
RATE = tg.optim.SGD(LINE.parameters(), lr=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early_stopping": False}, "its patience, or None, not False"),
        ({"early_stopping": 0}, "patience must be at least 1"),
        ({"early_stopping": tg.EarlyStopping(mode="maximum")}, 'mode must be "min" or "max"'),  # type: ignore[arg-type]
        ({"metrics": {"loss": slope}}, "a metric cannot be named 'loss'"),
        ({"metrics": [lambda *_: 0, lambda *_: 1]}, "two metrics have one name"),
        ({"metrics": ["accuracy"]}, "'accuracy' is not a function"),
        ({"optimizer": tg.optim.SGD([leaf(0.0)])}, "none of the model's parameters"),
        ({"optimizer": tg.optim.LBFGS(LINE.parameters())}, r"call its step\(closure\)"),
        ({"schedule": tg.optim.ExponentialLR(RATE, 0.5)}, "optimizer=schedule.optimizer"),
        (
            {
                "optimizer": RATE,
                "schedule": tg.optim.ReduceLROnPlateau(RATE),
                "schedule_every": "step",
            },
            "needs an epoch's result",
        ),
        ({"loss": lambda y, _: float(y.item())}, "the loss is a float without a graph"),
        ({"loss": lambda y, _: np.stack([y, y])}, r"must be one number, not of shape \(2,\)"),
    ],
)
def test_arguments_that_do_not_go_together(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        descend(LINE, **options)
    assert LINE.w.item() == 0.0


def test_errors_of_batches_say_who_and_what() -> None:
    with pytest.raises(TypeError, match=r"evaluate: a batch .* not tuple of length 1"):
        evaluate(network(), nn.cross_entropy, [(X,)])
    with pytest.raises(ValueError, match="evaluate: no samples"):
        evaluate(network(), nn.cross_entropy, [])


def test_a_batch_weighs_as_much_as_its_inputs_are_long() -> None:
    batches = [(np.ones(3), 1.0), (np.ones(1), 5.0)]
    assert evaluate(Line(), lambda _y, target: target, batches) == {"loss": 2.0}


def test_accuracy() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 1\) for .* of shape \(3,\)"):
        accuracy(np.eye(3), [[0], [1], [2]])
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert accuracy(tg.Tensor(scores), tg.Tensor([1, 0, 0, 0])) == 0.75
    assert accuracy(np.moveaxis([[scores, scores]], -1, 1), np.zeros((1, 2, 4))) == 0.5


@pytest.mark.numpy_program
def test_fit_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that each process computes the same bits."""

    def measured(*_args: Any) -> Any:
        raise AssertionError("measured")

    monkeypatch.setenv("TENSORGRAD_TUNE", "1")
    monkeypatch.setattr(costs, "_measured", {})
    monkeypatch.setattr(costs, "_least", measured)
    x, y = np.ones((64, 3)), np.ones((64, 16))
    net = tg.MLP(3, [32, 16], rng=0)
    data = tg.data.batches((x, y), 64)
    tg.fit(net, nn.mse_loss, data, epochs=2, compile=True, progress=False)
    with pytest.raises(AssertionError, match="measured"):
        tg.compile(net)(x)


def test_a_column_that_is_not_there_is_named() -> None:
    history = descend(Line(), epochs=1)
    with pytest.raises(KeyError, match=r"no column 'val_loss', only \['loss'\]: pass validation="):
        history["val_loss"]
    with pytest.raises(KeyError, match=r"no column 'f1', only \['loss'\]\""):
        history["f1"]
    assert "f1" not in history
    assert history.get("f1") is None
