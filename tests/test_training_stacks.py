"""`fit` takes many steps at once: the results are those of one step after the other."""

import importlib.util
import itertools
import math
import re
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.compiler import Compiled
from tensorgrad.training import accuracy, stacks

from .depth import one_in

HAS_LLVM = importlib.util.find_spec("llvmlite") is not None
BACKENDS = ["numpy", *(["llvm"] if HAS_LLVM else [])]
X, Y = tg.data.moons(75, rng=0)


def batches() -> Any:
    """Nine batches of 8 samples, and one of 3."""
    return tg.data.batches((X, Y), 8, shuffle=True, rng=1)


class OneByOne:
    """The same batches, of which `fit` does not know that they can be stacked."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._data)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 8, rng=0),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.2, rng=1),
        nn.Linear(8, 2, rng=2),
    )


def trained(data: Any, schedule: bool = False, **options: Any) -> tuple[Any, Any, Any]:
    """The history, the parameters and the statistics, and a dropout's next random number."""
    model = network()
    optimizer = tg.optim.Adam(model.parameters(), lr=0.05)
    if schedule:
        options["schedule"] = tg.optim.ExponentialLR(optimizer, 0.99)
    history = tg.fit(
        model, nn.cross_entropy, data, optimizer=optimizer, progress=False,
        **{"epochs": 4} | options,
    )  # fmt: skip
    return history, model.state_dict(), model[3].rng.random()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of steps that are taken at once."""
    found: list[int] = []
    go_on = Compiled.go_on

    def counted(self: Any, plan: Any, arrays: Any, results: Any, done: Any) -> None:
        before = done[0]
        try:
            go_on(self, plan, arrays, results, done)
        finally:
            found.append(done[0] - before)

    monkeypatch.setattr(Compiled, "go_on", counted)
    return found


OPTIONS: list[dict[str, Any]] = [
    {},
    {"metrics": [accuracy], "validation": [(X, Y)], "early_stopping": 1},
    {"clip": 0.1, "schedule": True, "schedule_every": "step"},
    {"schedule": True, "callbacks": [lambda history: len(history["loss"]) == 2]},
    {"compile": True},
]


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        *itertools.product(["numpy"], OPTIONS),
        *one_in(len(OPTIONS), [*itertools.product(BACKENDS[1:], OPTIONS)]),
    ],
)
def test_the_same_as_step_by_step(
    backend: str, options: Any, at_once: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, as both take their steps by the same code."""
    monkeypatch.setenv("TENSORGRAD_BACKEND", backend)
    expected, state, number = trained(OneByOne(batches()), **options)
    assert not at_once
    history, same_state, same_number = trained(batches(), **options)
    assert max(at_once) > 1
    assert (history, history.stopped, number) == (expected, expected.stopped, same_number)
    assert all(math.isfinite(loss) for loss in history["loss"])
    for name, array in state.items():
        assert_array_equal(same_state[name], array, name)


def test_the_pace_makes_no_difference(at_once: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    fast = trained(batches())[0]
    monkeypatch.setattr(stacks, "MOMENT", 0.0)
    at_once.clear()
    assert trained(batches())[0] == fast
    assert not any(at_once)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_that_fails_is_named_and_not_taken(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORGRAD_BACKEND", backend)
    x = np.ones((40, 3))
    x[30] = np.inf  # in step 8 of an epoch
    models = []
    for data in (x[:28], x):
        model = nn.Linear(3, 1, rng=0)
        optimizer = tg.optim.SGD(model.parameters(), lr=0.01)
        models.append(model)
        arrays = tg.data.batches((data, np.ones((len(data), 1))), 4)
        if len(data) == 28:
            tg.fit(model, nn.mse_loss, arrays, optimizer=optimizer, epochs=1, progress=False)
        else:
            expected = pytest.raises(tg.AnomalyError, match=r"step 8 \(epoch 1\).*the batch was")
            with np.errstate(invalid="ignore"), expected:
                tg.fit(model, nn.mse_loss, arrays, optimizer=optimizer, epochs=1, progress=False)
    assert_array_equal(models[0].weight.numpy(), models[1].weight.numpy())


@pytest.mark.parametrize("is_native", [False, True][: len(BACKENDS)])
@pytest.mark.parametrize("every", one_in(3, [4, 1, 7]))
def test_states_are_saved_on_time(
    every: int, is_native: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a training that goes on from one is the uninterrupted one."""
    monkeypatch.delenv("TENSORGRAD_BACKEND", raising=False)
    monkeypatch.setattr("tensorgrad.compiler.turns.SECONDS", 1e-5 if is_native else 1.0)
    checkpoint = tg.Checkpoint(tmp_path, keep=100)
    expected = trained(batches(), checkpoint=checkpoint, checkpoint_every=every)
    saved = checkpoint.paths()
    steps = [*range(every, 41, every), *([40] if 40 % every else [])]
    assert [int(re.sub(r"\D", "", path.stem)) for path in saved] == steps
    for path in saved[len(saved) // 2 :]:
        path.unlink()
    history, state, number = trained(batches(), checkpoint=tmp_path, checkpoint_every=every)
    assert (history, number) == (expected[0], expected[2])
    for name, array in expected[1].items():
        assert_array_equal(state[name], array, name)


def test_ctrl_c_waits_for_the_steps_at_once(
    tmp_path: Any, at_once: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the state is saved, from which the training goes on as if nothing had happened."""
    monkeypatch.setattr(stacks, "MOMENT", 10.0)
    expected, state, number = trained(batches())
    go_on = Compiled.go_on

    def interrupted(self: Any, plan: Any, arrays: Any, results: Any, done: Any) -> None:
        if len(arrays[0]) > 3:
            signal.raise_signal(signal.SIGINT)
        go_on(self, plan, arrays, results, done)

    with monkeypatch.context() as patch:
        patch.setattr(Compiled, "go_on", interrupted)
        history, *_ = trained(batches(), checkpoint=tmp_path)
    assert history.stopped == "interrupt"
    assert at_once[-1] >= 3
    history, same_state, same_number = trained(batches(), checkpoint=tmp_path)
    assert (history, same_number) == (expected, number)
    for name, array in state.items():
        assert_array_equal(same_state[name], array, name)


@pytest.mark.parametrize(
    "arrays",
    [
        [(X, Y)],
        (np.asfortranarray(X), Y),
        (X.astype(object), Y),
        (tg.Tensor(X), Y),
        (X[:, :0], Y),
    ],
)
def test_what_cannot_be_stacked_goes_one_by_one(arrays: Any) -> None:
    assert stacks.can_stack(tg.data.batches((X, Y), 8))
    assert not stacks.can_stack(tg.data.batches(arrays, 8) if type(arrays) is tuple else arrays)
    assert not stacks.can_stack(tg.data.batches(X, 8))


def test_a_scan_is_watched_like_calls() -> None:
    """Hooks that look at each operation see those of all items."""

    @tg.compile
    def f(x: Any) -> Any:
        return np.log(tg.Tensor(x, requires_grad=True)).detach()

    x = np.ones((5, 2))
    f.scan(x)
    x[3] = -1.0
    with tg.detect_anomaly(), np.errstate(invalid="ignore"), pytest.raises(tg.AnomalyError):
        f.scan(x)
