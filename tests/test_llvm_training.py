"""Training steps in native code: `scan` makes them in one native loop, with the same results."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.training import stacks

from .depth import FULL, one_in
from .oracles import assert_same
from .test_compile_training import CLIPS, NETS, OPTIMIZERS, SCHEDULES, Training, twins

pytest.importorskip("llvmlite")
native = pytest.importorskip("tensorgrad.compiler.backends.llvm.native")

STEPS = 7
ROUNDINGS = 1 << 16  # of 8 steps, some of which divide by a gradient's own size
DTYPES = [np.float32, np.float32, np.float64, np.float64]


@pytest.fixture
def in_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of steps that native loops make."""
    found: list[int] = []
    call = native.NativeLoop.__call__

    def counted(self: Any, arrays: Any, results: Any, done: list[int]) -> None:
        before = done[0]
        try:
            call(self, arrays, results, done)
        finally:
            found.append(done[0] - before)

    monkeypatch.setattr(native.NativeLoop, "__call__", counted)
    yield found


def batches(training: Training) -> tuple[Any, Any]:
    x, t = zip(*(training.batch(i) for i in range(STEPS)), strict=True)
    return np.stack(x), np.stack(t)


def unstacked(results: Any, count: int) -> list[Any]:
    return [tg.tree.map(lambda a, i=i: a[i, ...], results) for i in range(count)]


def assert_one_loop(in_loops: list[int], optimizer: str, **options: Any) -> None:
    """A scan agrees with steps one by one, and all but the first step are those of one loop."""
    eager, compiled = twins(NETS["MLP"], "mse", optimizer, **options)
    expected = [eager.step(*eager.batch(i)) for i in range(STEPS)]
    found = tg.compile(compiled.step, backend="llvm").scan(*batches(compiled))
    assert in_loops == [STEPS - 1]
    assert_same(unstacked(found, STEPS), expected, "results ", ROUNDINGS)
    assert_same(compiled.everything(), eager.everything(), "state ", ROUNDINGS)


OTHERS: list[dict[str, Any]] = [{"clip": clip} for clip in CLIPS]
OTHERS += [{"average": True}]


ALL = {"clip": "norm", "average": True, "groups": True}
OTHERS += [{"schedule": schedule} | (ALL if i % 2 else {}) for i, schedule in enumerate(SCHEDULES)]


@pytest.mark.parametrize("dtype", one_in(2, [np.float64, np.float32]))
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [*itertools.product(OPTIMIZERS, OTHERS)]
    if FULL
    else [*zip(itertools.cycle(OPTIMIZERS), OTHERS)][::3],
)
def test_steps_are_one_native_loop(
    optimizer: str, options: Any, dtype: Any, in_loops: list[int]
) -> None:
    assert_one_loop(in_loops, optimizer, dtype=dtype, **options)


@pytest.mark.parametrize(("net", "dtype"), one_in(2, zip(NETS, itertools.cycle(DTYPES))))
def test_networks(net: str, dtype: Any) -> None:
    """What each of two steps leaves is the same, and what a loop of others does."""
    loss = "cross entropy" if "Conv" in net else "mse"
    eager, compiled = twins(NETS[net], loss, "SGD momentum", dtype=dtype)
    step, rest = tg.compile(compiled.step, backend="llvm"), batches(compiled)
    for i in range(2):
        assert_same(step(*compiled.batch(i)), eager.step(*eager.batch(i)), "result ", 1 << 10)
        assert_same(compiled.everything(), eager.everything(), f"after step {i} ", 1 << 10)
    expected = [eager.step(*eager.batch(i)) for i in range(2, STEPS)]
    found = step.scan(*(a[2:] for a in rest))
    assert_same(unstacked(found, STEPS - 2), expected, "results ", ROUNDINGS)
    assert_same(compiled.everything(), eager.everything(), "state ", ROUNDINGS)


# -- schedules that native loops run through at once


def scanned(backend: str, steps: int, schedules: Any, make: Any, bad: int = -1) -> Any:
    """The error, the last loss, and the states that a scan leaves; one batch can be `bad`."""
    net = tg.MLP(2, [3, 1], rng=0)
    optimizer = make(net.parameters())
    optimizer.add_param_group({"params": [tg.Tensor(np.ones(2), requires_grad=True)], "lr": 0.01})
    made = [schedule(optimizer) for schedule in schedules]
    extra = optimizer.param_groups[1]["params"][0]

    @functools.partial(tg.compile, backend=backend)
    def step(x: Any) -> Any:
        loss = np.mean((net(x) - x @ extra) ** 2)
        optimizer.zero_grad()
        loss.backward()
        tg.optim.clip_grad_norm(net.parameters(), 1.0)
        optimizer.step()
        for schedule in made:
            schedule.step(*[loss] * isinstance(schedule, tg.optim.ReduceLROnPlateau))
        return loss

    x = np.random.default_rng(0).normal(size=(steps, 4, 2))
    if bad >= 0:
        x[bad] = np.nan
    message = ""
    try:
        step.scan(x)
    except (ValueError, FloatingPointError) as error:
        message = str(error)
    return message, [part.state_dict() for part in (net, optimizer, *made)]


def sgd(ps: Any) -> Any:
    return tg.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.01)


def in_turns(o: Any) -> Any:
    parts = [
        tg.optim.LinearLR(o, total_iters=3),
        tg.optim.CosineAnnealingWarmRestarts(o, 3, 2),
        tg.optim.OneCycleLR(o, 0.05, 40),
        tg.optim.StepLR(o, 2),
    ]
    return tg.optim.SequentialLR(o, parts, [1, 20, 30])


def one_cycle(o: Any) -> Any:
    return tg.optim.OneCycleLR(o, [0.1, 0.2], 40, three_phase=True)


def by_groups(o: Any) -> Any:
    return tg.optim.LambdaLR(o, [lambda t: 1 / (1 + t), lambda t: 0.5**t])


def exponential(o: Any) -> Any:
    return tg.optim.ExponentialLR(o, 0.9)


def plateau(o: Any) -> Any:
    return tg.optim.ReduceLROnPlateau(o, patience=1)


def assert_as_numpys_program(*args: Any, **options: Any) -> str:
    """Return the error; steps of NumPy's program call schedules one by one."""
    (error, found), (same, expected) = (scanned(b, *args, **options) for b in ("llvm", "numpy"))
    assert error == same
    assert_same(found, expected, "state ", ROUNDINGS)
    groups = [state[1]["param_groups"] for state in (found, expected)]
    assert groups[0] == groups[1]  # to the last bit
    return error


@pytest.mark.parametrize("make", one_in(3, [sgd, tg.optim.AdamW, tg.optim.Lion]))
@pytest.mark.parametrize("schedule", [in_turns, one_cycle, by_groups])
def test_long_schedules(
    schedule: Any, make: Any, in_loops: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken in several parts, as long loops are."""
    monkeypatch.setattr(native, "CHUNK", 1e-9)
    assert_as_numpys_program(40, [schedule], make)
    assert in_loops == [39]


def test_a_schedule_that_ends_raises_at_its_step(in_loops: list[int]) -> None:
    assert "raise total_steps" in assert_as_numpys_program(44, [one_cycle], sgd)
    assert 0 < sum(in_loops) <= 40


@pytest.mark.parametrize("bad", one_in(2, [5, 0, 1]))
def test_a_step_that_fails_takes_no_step_of_the_schedule(bad: int) -> None:
    with np.errstate(invalid="ignore"):
        error = assert_as_numpys_program(8, [exponential], sgd, bad=bad)
    assert "the norm of the gradients is nan" in error


@pytest.mark.parametrize("schedules", [[exponential, by_groups], [plateau], [plateau, one_cycle]])
def test_schedules_that_are_not_known_ahead(schedules: Any, in_loops: list[int]) -> None:
    """As another one changes the same optimizer, or a loss decides."""
    assert_as_numpys_program(8, schedules, sgd)
    assert not in_loops


def rates_where_another_is_set(backend: str) -> list[Any]:
    w = tg.Tensor(np.ones(3), requires_grad=True)
    optimizer = tg.optim.SGD([w], lr=0.5)
    schedule = exponential(optimizer)

    @functools.partial(tg.compile, backend=backend)
    def step(x: Any) -> None:
        w.grad = x
        optimizer.step()
        schedule.step()

    rates = []
    for _ in range(3):
        step.scan(np.ones((5, 3)))
        optimizer.param_groups[0]["lr"] *= 2
        rates.append((schedule.get_last_lr(), schedule.last_epoch, w.data.copy()))
    return rates


def test_a_rate_that_is_set_is_followed() -> None:
    """As steps one by one do."""
    assert_same(rates_where_another_is_set("llvm"), rates_where_another_is_set("numpy"))


def test_schedules_of_two_optimizers_and_gradients_of_parts(in_loops: list[int]) -> None:
    """What comes after a schedule, and does not read its rates, may come before it."""
    nets = [tg.MLP(2, [3, 2], rng=seed) for seed in range(2)]
    optimizers = [tg.optim.Adam(net.parameters()) for net in nets]
    schedules = [exponential(optimizer) for optimizer in optimizers]

    @functools.partial(tg.compile, backend="llvm")
    def step(x: Any) -> None:
        for net, optimizer, schedule in zip(nets, optimizers, schedules, strict=True):
            optimizer.zero_grad()
            for part in x[:2], x[2:]:
                np.mean((net(part) - 1) ** 2).backward()
            optimizer.step()
            schedule.step()

    step.scan(np.random.default_rng(0).normal(size=(8, 4, 2)))
    assert in_loops == [7]
    assert [schedule.last_epoch for schedule in schedules] == [8, 8]


# -- fit


@pytest.mark.parametrize("make", one_in(len(OPTIMIZERS), OPTIMIZERS))
def test_fit_takes_all_of_its_options_into_the_loop(
    make: str, in_loops: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses, outputs for metrics, clipping, dropout, statistics of batches, and a schedule."""
    monkeypatch.setenv("TENSORGRAD_BACKEND", "llvm")
    monkeypatch.setattr(stacks, "MOMENT", 10.0)
    x, y = tg.data.moons(48, rng=0)
    model = tg.nn.Sequential(
        tg.nn.Linear(2, 8, rng=0), tg.nn.BatchNorm1d(8), tg.nn.Tanh(),
        tg.nn.Dropout(0.2, rng=1), tg.nn.Linear(8, 2, rng=2),
    )  # fmt: skip
    optimizer = OPTIMIZERS[make](model.parameters())
    tg.fit(
        model, tg.nn.cross_entropy, tg.data.batches((x, y), 8, shuffle=True, rng=1),
        optimizer=optimizer, epochs=5, progress=False, metrics=[tg.training.accuracy], clip=0.5,
        schedule=tg.optim.CosineAnnealingLR(optimizer, 30), schedule_every="step",
    )  # fmt: skip
    # Of 30 steps, one is traced, one finds the pace, and one begins each stack.
    assert sum(in_loops) == 24
