"""Compiled training steps against the same in eager mode: all that they leave behind is equal."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn, optim
from tensorgrad.compiler.ir import Program, Value, arrays_in, mapped

from .depth import one_in
from .oracles import ROUNDINGS, assert_same, leaf

# Odd: the signs of an even number of samples, of which an l1 loss makes the gradient of a bias, can
# cancel up to roundings, of which some optimizers make whole steps.
BATCH = 7

# -- networks, with the shape of a sample, or the count of classes of integers in it


class Net(NamedTuple):
    build: Callable[[np.random.Generator], nn.Module]
    shape: tuple[int, ...]
    below: int | None = None


class Last(nn.Module):
    """A recurrent network's output at the last step, through a linear layer."""

    def __init__(self, walk: Any, out: int, rng: Any) -> None:
        self.walk = walk
        self.head = nn.Linear(walk.hidden_size * (1 + walk.bidirectional), out, rng=rng)

    def __call__(self, x: Any) -> Any:
        return self.head(self.walk(x)[0][:, -1])


class Mean(nn.Module):
    """A linear layer on the mean over the steps of what a network makes of a sequence."""

    def __init__(self, body: Any, width: int, rng: Any) -> None:
        self.body = body
        self.head = nn.Linear(width, 3, rng=rng)

    def __call__(self, x: Any) -> Any:
        y = self.body(x)
        return self.head(np.mean(y, axis=1))


def attention(r: np.random.Generator) -> nn.Module:
    layer = nn.MultiheadAttention(4, 2, dropout=0.25, batch_first=True, rng=r)
    return Mean(Applied(layer), 4, r)


class Applied(nn.Module):
    """Attention of a sequence to itself, without the weights."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self, x: Any) -> Any:
        return self.layer(x, x, x, need_weights=False)[0]


NETS: dict[str, Net] = {
    "MLP": Net(lambda r: tg.MLP(4, [5, 3], output_activation="linear", rng=r), (4,)),
    "relu MLP": Net(lambda r: tg.MLP(4, [5, 3], activation="relu", rng=r), (4,)),
    "Conv2d, BatchNorm2d, MaxPool2d": Net(
        lambda r: nn.Sequential(
            # Without a bias, whose gradient would be roundings, of which Adam makes steps.
            nn.Conv2d(2, 3, 3, padding=1, bias=False, rng=r), nn.BatchNorm2d(3), nn.ReLU(),
            # Native products of few columns, such as the last one, are made in another way.
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 8, rng=r), nn.Tanh(),
            nn.Linear(8, 3, rng=r),
        ), (2, 4, 4),
    ),
    "Conv2d strides, groups, AvgPool2d": Net(
        lambda r: nn.Sequential(
            nn.Conv2d(2, 4, 2, stride=2, groups=2, rng=r), nn.GELU("tanh"),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3, rng=r),
        ), (2, 4, 4),
    ),
    "Conv1d, BatchNorm1d, AdaptiveAvgPool1d": Net(
        lambda r: nn.Sequential(
            nn.Conv1d(2, 3, 2, rng=r), nn.BatchNorm1d(3, momentum=None), nn.SiLU(),
            nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(6, 3, rng=r),
        ), (2, 6),
    ),
    "Embedding, RNN": Net(
        lambda r: nn.Sequential(
            nn.Embedding(7, 4, padding_idx=0, rng=r),
            Last(nn.RNN(4, 3, batch_first=True, rng=r), 3, r),
        ), (4,), 7,
    ),
    "LSTM": Net(
        lambda r: Last(nn.LSTM(3, 4, num_layers=2, dropout=0.25, batch_first=True, rng=r), 3, r),
        (4, 3),
    ),
    "GRU": Net(
        lambda r: Last(nn.GRU(3, 4, bidirectional=True, batch_first=True, rng=r), 3, r), (4, 3)
    ),
    "MultiheadAttention": Net(attention, (3, 4)),
    "TransformerEncoderLayer": Net(
        lambda r: Mean(nn.TransformerEncoderLayer(4, 2, 8, 0.25, batch_first=True, rng=r), 4, r),
        (3, 4),
    ),
}  # fmt: skip

# Layers that keep four features, for networks of a few of them.
LAYERS: dict[str, Callable[[np.random.Generator], Any]] = {
    "Linear": lambda r: nn.Linear(4, 4, rng=r),
    "Linear without bias": lambda r: nn.Linear(4, 4, bias=False, rng=r),
    "Layer": lambda r: nn.Layer(4, 4, rng=r),
    "LayerNorm": lambda _: nn.LayerNorm(4),
    "BatchNorm1d": lambda _: nn.BatchNorm1d(4),
    "Dropout": lambda r: nn.Dropout(0.25, rng=r),
    **{kind.__name__: lambda _, kind=kind: kind() for kind in (
        nn.Tanh, nn.ReLU, nn.Sigmoid, nn.ELU, nn.SELU, nn.LeakyReLU, nn.Softplus, nn.Mish,
        nn.Hardswish, nn.ReLU6, nn.Softsign, nn.LogSigmoid, nn.Softmax, nn.Tanhshrink,
    )},
}  # fmt: skip


def stacked(names: list[str]) -> Net:
    return Net(
        lambda r: nn.Sequential(*[LAYERS[n](r) for n in names], nn.Linear(4, 3, rng=r)), (4,)
    )


# -- losses, each with a target for predictions of 3 features


def classes(rng: np.random.Generator) -> Any:
    return rng.integers(3, size=BATCH)


def points(rng: np.random.Generator) -> Any:
    return rng.normal(size=(BATCH, 3))


def shares(rng: np.random.Generator) -> Any:
    return rng.uniform(0.1, 0.9, size=(BATCH, 3))


def signs(rng: np.random.Generator) -> Any:
    return rng.choice([-1.0, 1.0], size=(BATCH, 3))


LOSSES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "mse": (nn.mse_loss, points),
    "mse sum": (lambda y, t: nn.mse_loss(y, t, "sum"), points),
    "l1": (nn.l1_loss, points),
    "huber": (nn.huber_loss, points),
    "smooth l1": (nn.smooth_l1_loss, points),
    "cross entropy": (nn.cross_entropy, classes),
    "cross entropy smooth": (lambda y, t: nn.cross_entropy(y, t, label_smoothing=0.25), classes),
    "cross entropy probabilities": (nn.cross_entropy, shares),
    "nll": (lambda y, t: nn.nll_loss(nn.log_softmax(y), t), classes),
    "bce": (lambda y, t: nn.binary_cross_entropy(nn.sigmoid(y), t), shares),
    "bce with logits": (nn.binary_cross_entropy_with_logits, shares),
    "hinge": (nn.hinge_loss, signs),
    "kl": (lambda y, t: nn.kl_div(nn.log_softmax(y), t, "batchmean"), shares),
    "cosine": (lambda y, t: nn.cosine_embedding_loss(y, t, np.resize([1, -1], BATCH)), points),
    "own": (lambda y, t: np.mean((y - t) ** 4) + 0.1 * np.sum(np.abs(y)), points),
}

# -- optimizers

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "SGD": lambda ps: optim.SGD(ps, lr=0.1),
    "SGD momentum": lambda ps: optim.SGD(ps, 0.1, momentum=0.9, dampening=0.25, weight_decay=0.01),
    "SGD nesterov": lambda ps: optim.SGD(ps, 0.1, momentum=0.9, nesterov=True),
    "SGD maximize": lambda ps: optim.SGD(ps, 0.01, weight_decay=0.1, maximize=True),
    "Adam": lambda ps: optim.Adam(ps, lr=0.05),
    "Adam decay, amsgrad": lambda ps: optim.Adam(ps, 0.05, weight_decay=0.01, amsgrad=True),
    "AdamW": lambda ps: optim.AdamW(ps, lr=0.05, weight_decay=0.1),
    "AdamW maximize": lambda ps: optim.AdamW(ps, lr=0.01, maximize=True),
    "RMSprop": lambda ps: optim.RMSprop(ps, lr=0.01),
    "RMSprop all": lambda ps: optim.RMSprop(
        ps, 0.01, centered=True, momentum=0.5, weight_decay=0.1
    ),
    "Adagrad": lambda ps: optim.Adagrad(ps, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
    "Lion": lambda ps: optim.Lion(ps, lr=0.01, weight_decay=0.1),
}

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: optim.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: optim.MultiStepLR(o, [1, 3]),
    "ExponentialLR": lambda o: optim.ExponentialLR(o, 0.9),
    "LinearLR": lambda o: optim.LinearLR(o, total_iters=3),
    "CosineAnnealingLR": lambda o: optim.CosineAnnealingLR(o, 4),
    "LambdaLR": lambda o: optim.LambdaLR(o, lambda t: 1 / (1 + t)),
    "OneCycleLR": lambda o: optim.OneCycleLR(o, 0.1, 9, cycle_momentum=False),
    "SequentialLR": lambda o: optim.SequentialLR(
        o, [optim.LinearLR(o, total_iters=2), optim.ExponentialLR(o, 0.9)], [2]
    ),
}

CLIPS: dict[str, Callable[[Any], Any]] = {
    "norm": lambda ps: optim.clip_grad_norm(ps, 0.1),
    "norm, rarely": lambda ps: optim.clip_grad_norm(ps, 1.0),
    "largest": lambda ps: optim.clip_grad_norm(ps, 0.1, math.inf),
    "value": lambda ps: optim.clip_grad_value(ps, 0.01),
}


def convert(model: nn.Module, dtype: Any) -> None:
    """Give all tensors of floating numbers this dtype."""
    for module in model.modules():
        for name, t in vars(module).items():
            if isinstance(t, tg.Tensor) and t.dtype.kind == "f":
                setattr(module, name, tg.Tensor(t.data, dtype, requires_grad=t.requires_grad))


class Training:
    """A network and what trains it; `step(x, t)` takes a step and returns what it computed."""

    def __init__(
        self,
        net: Net,
        loss: str = "mse",
        optimizer: str = "SGD",
        clip: str | None = None,
        schedule: str | None = None,
        average: bool = False,
        accumulate: bool = False,
        frozen: bool = False,
        spare: bool = False,
        groups: bool = False,
        dtype: Any = np.float64,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.net = net
        self.dtype = dtype
        self.model = net.build(rng)
        convert(self.model, dtype)
        self.loss, self.target = LOSSES[loss]
        parameters = self.parameters = [*self.model.parameters()]
        if frozen:
            parameters[0].requires_grad = False
            parameters = parameters[1:]
        if spare:
            parameters = [*parameters[:1], leaf(np.ones(3), dtype), *parameters[1:]]
        self.trained = parameters
        make = OPTIMIZERS[optimizer]
        if groups and len(parameters) > 1:
            self.optimizer = make(parameters[1:])
            self.optimizer.add_param_group({"params": parameters[:1], "lr": 0.001})
        else:
            self.optimizer = make(parameters)
        self.schedule = SCHEDULES[schedule](self.optimizer) if schedule else None
        self.average = optim.ExponentialMovingAverage(parameters, 0.75) if average else None
        self.clip = CLIPS[clip] if clip else None
        self.accumulate = accumulate

    def step(self, x: Any, t: Any) -> Any:
        y = self.model(x)
        loss = self.loss(y, t)
        if not self.accumulate:
            self.optimizer.zero_grad()
        loss.backward()
        norm = self.clip(self.trained) if self.clip else None
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.average is not None:
            self.average.update()
        return {"loss": loss, "output": y, "norm": norm}

    def batch(self, seed: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(100 + seed)
        shape = (BATCH, *self.net.shape)
        if self.net.below is not None:
            x = rng.integers(self.net.below, size=shape)
        else:
            x = rng.normal(size=shape).astype(self.dtype)
        t = self.target(rng)
        return x, t if t.dtype.kind == "i" else t.astype(self.dtype)

    def everything(self) -> dict[str, Any]:
        """All that a step changes."""
        generators = [
            vars(m)["rng"].bit_generator.state for m in self.model.modules() if "rng" in vars(m)
        ]
        return {
            "model": self.model.state_dict(),
            "data": [p.data.copy() for p in self.trained],
            "grad": [None if p.grad is None else p.grad.copy() for p in self.trained],
            "optimizer": self.optimizer.state_dict(),
            "generators": generators,
            "schedule": self.schedule and self.schedule.state_dict(),
            "average": self.average and self.average.state_dict(),
        }


def twins(*args: Any, **options: Any) -> tuple[Training, Training]:
    return Training(*args, **options), Training(*args, **options)


def plans(compiled: Any) -> int:
    """How many there are."""
    return sum(map(len, behind(compiled)._plans.values()))


def behind(compiled: Any) -> Any:
    """The object that keeps the plans of a compiled function."""
    return compiled.lower.__self__


def assert_steps_agree(
    eager: Training, compiled: Training, steps: int = 4, roundings: float = ROUNDINGS
) -> None:
    step = tg.compile(compiled.step)
    for i in range(steps):
        expected, actual = eager.step(*eager.batch(i)), step(*compiled.batch(i))
        assert_same(actual, expected, f"result {i} ", roundings)
        assert_same(compiled.everything(), eager.everything(), f"after step {i} ", roundings)
    assert plans(step) in (1, 2), "the step was not replayed"


# -- every network, loss, optimizer, schedule and clipping


@pytest.mark.parametrize("dtype", one_in(2, [np.float64, np.float32]))
@pytest.mark.parametrize("net", NETS)
def test_networks(net: str, dtype: Any) -> None:
    loss = "cross entropy" if "Conv" in net else "mse"
    assert_steps_agree(*twins(NETS[net], loss, "SGD", dtype=dtype))


@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer: str) -> None:
    assert_steps_agree(*twins(stacked([layer, "Linear", layer])))


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss: str) -> None:
    for dtype in one_in(2, [np.float32, np.float64]):
        assert_steps_agree(*twins(NETS["MLP"], loss, "SGD", dtype=dtype), steps=3)


@pytest.mark.parametrize("groups", one_in(2, [True, False]))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(optimizer: str, groups: bool) -> None:
    assert_steps_agree(*twins(NETS["MLP"], "mse", optimizer, groups=groups, spare=groups))


@pytest.mark.parametrize("optimizer", one_in(2, ["Adam", "SGD momentum"]))
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule: str, optimizer: str) -> None:
    assert_steps_agree(*twins(NETS["MLP"], "mse", optimizer, schedule=schedule), steps=6)


def test_a_plateau_inside() -> None:
    eager, compiled = twins(NETS["MLP"], "mse", "SGD")
    steps, plateaus = [], []
    for training in eager, compiled:
        plateau = optim.ReduceLROnPlateau(training.optimizer, patience=0, factor=0.5)

        def step(x: Any, t: Any, training: Any = training, plateau: Any = plateau) -> Any:
            result = training.step(x, t)
            plateau.step(result["loss"])
            return result

        steps.append(step)
        plateaus.append(plateau)
    step = tg.compile(steps[1])
    for i in range(6):
        assert_same(step(*compiled.batch(i)), steps[0](*eager.batch(i)))
        assert_same(compiled.everything(), eager.everything())
        assert_same(plateaus[1].state_dict(), plateaus[0].state_dict())
    assert eager.optimizer.param_groups[0]["lr"] < 0.1


def test_gradients_that_are_not_finite_are_refused_in_each_call() -> None:
    eager, compiled = twins(NETS["MLP"], "mse", "Adam", clip="norm")
    step = tg.compile(compiled.step)
    for i in range(5):
        x, t = eager.batch(i)
        if i == 3:
            t = t * np.inf
            for function in eager.step, step:
                with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="norm"):
                    function(x, t)
            eager.optimizer.zero_grad()
            compiled.optimizer.zero_grad()
        else:
            assert_same(step(x, t), eager.step(x, t))
        assert_same(compiled.everything(), eager.everything())


@pytest.mark.parametrize("dtype", one_in(2, [np.float32, np.float64]))
@pytest.mark.parametrize("clip", CLIPS)
def test_clipping(clip: str, dtype: Any) -> None:
    both = twins(NETS["MLP"], "mse sum", "SGD", clip=clip, dtype=dtype)
    assert_steps_agree(*both, steps=5, roundings=2 * ROUNDINGS)  # of larger ones than are left


@pytest.mark.parametrize("order", [1, 2, 3.5, math.inf])
@pytest.mark.parametrize("scale", one_in(2, [1e200, 1e-200, 1.2e308, 0.0, 1.0]))
def test_norms_whose_powers_are_too_large(order: float, scale: float) -> None:
    """Of the largest finite numbers, even the sum is infinite."""
    p, q, g = leaf([1.0, 1.0]), leaf([1.0, 1.0, 1.0]), np.array([0.75, 1, 0, 0, -0.25])

    @tg.compile
    def norm(g: Any) -> Any:
        p.grad, q.grad = g[:2], g[2:]
        return optim.clip_grad_norm([p, q], 0.5, order, error_if_nonfinite=False)

    size = np.linalg.norm(g, order)
    with np.errstate(over="ignore"):
        expected = scale * size
    for _ in range(2):
        assert_allclose(norm(g * scale), expected, rtol=1e-14)
        if expected < math.inf:
            clipped = np.concatenate([p.grad, q.grad])
            assert_allclose(clipped, g * min(0.5 / size, scale), rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"average": True},
        {"accumulate": True},
        {"frozen": True},
        {"spare": True},
        {"average": True, "accumulate": True, "frozen": True, "clip": "norm", "groups": True},
    ],
    ids=" ".join,
)
def test_steps_with(options: dict[str, Any]) -> None:
    assert_steps_agree(*twins(NETS["MLP"], "mse", "Adam", **options))


# A batch's mean takes away the bias of a layer before it, whose gradient is then nothing but
# roundings, of which some optimizers make steps: such a layer comes first here.
BODIES = st.builds(
    lambda first, others: first + others,
    st.sampled_from([[], ["BatchNorm1d"]]),
    st.lists(st.sampled_from([name for name in LAYERS if name != "BatchNorm1d"]), max_size=4),
)


@given(
    layers=BODIES,
    options=st.fixed_dictionaries({
        "loss": st.sampled_from([*LOSSES]),
        "optimizer": st.sampled_from([*OPTIMIZERS]),
        "clip": st.none() | st.sampled_from([*CLIPS]),
        "schedule": st.none() | st.sampled_from([*SCHEDULES]),
        "average": st.booleans(),
        "accumulate": st.booleans(),
        "frozen": st.booleans(),
        "spare": st.booleans(),
        "groups": st.booleans(),
        "dtype": st.sampled_from([np.float64, np.float32]),
        "seed": st.integers(0, 9),
    }),
)  # fmt: skip
def test_random_steps(layers: list[str], options: dict[str, Any]) -> None:
    loss = options.pop("loss")
    optimizer = options.pop("optimizer")
    # Optimizers that divide by a gradient's own size enlarge the roundings of small elements.
    assert_steps_agree(*twins(stacked(layers), loss, optimizer, **options), 3, 1 << 12)


# -- a program is all that a back end needs


def run_call_by_call(program: Program) -> None:
    """Make the calls of a program as they stand, which the simplest back end would do."""
    made: dict[Value, Any] = {}

    def array(value: Value) -> Any:
        return made[value] if value.storage.array is None else value.array

    for call in program.calls:
        args, kwargs = mapped((call.args, call.kwargs), Value, array)
        result = call.fun(*args, **kwargs)
        if call.results:
            made |= zip(call.returned, arrays_in(result), strict=True)


@pytest.mark.parametrize("dtype", one_in(2, [np.float32, np.float64]))
@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [*zip(OPTIMIZERS, itertools.cycle([*SCHEDULES])), *zip(itertools.cycle(OPTIMIZERS), SCHEDULES)],
)
def test_a_program_needs_no_python_but_its_calls(optimizer: str, schedule: str, dtype: Any) -> None:
    options: dict[str, Any] = {"schedule": schedule, "clip": "norm", "average": True}
    eager, other = twins(NETS["MLP"], "mse", optimizer, groups=True, dtype=dtype, **options)
    x, t = eager.batch(0)
    step = tg.compile(lambda: other.step(x, t))
    step()
    eager.step(x, t)
    program = step.lower().stages[0].program
    for _ in range(3):
        eager.step(x, t)
        run_call_by_call(program)
        kept = ("model", "optimizer", "schedule", "average")
        found, expected = ({k: of.everything()[k] for k in kept} for of in (other, eager))
        assert_same(found, expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_coefficients_are_those_of_eager_steps_to_the_last_bit(optimizer: str) -> None:
    eager, compiled = (OPTIMIZERS[optimizer]([leaf(np.ones(3), np.float64)]) for _ in range(2))

    def step(optimizer: Any, g: Any) -> None:
        (p,) = optimizer.param_groups[0]["params"]
        p.grad = g
        optimizer.step()

    replayed = tg.compile(lambda g: step(compiled, g))
    for g in np.random.default_rng(0).normal(size=(50, 3)):
        step(eager, g)
        replayed(g)
    a, b = (o.param_groups[0]["params"][0].data for o in (eager, compiled))
    assert a.tobytes() == b.tobytes()
    assert plans(replayed) == 1


def test_a_schedule_undone_with_a_trace_leaves_the_arrays_of_other_programs() -> None:
    eager, other = (optim.SGD([leaf(np.ones(3), np.float64)], lr=0.5) for _ in range(2))
    schedules = [optim.ExponentialLR(o, 0.5) for o in (eager, other)]

    def step(i: int, fail: bool) -> None:
        optimizer = (eager, other)[i]
        (p,) = optimizer.param_groups[0]["params"]
        p.grad = np.ones(3)
        schedules[i].step()
        optimizer.step()
        if fail:
            raise ZeroDivisionError

    compiled = tg.compile(lambda fail: step(1, fail))
    for fail in False, False, True, False:
        if fail:
            with pytest.raises(ZeroDivisionError):
                compiled(True)
        else:
            step(0, False)
            compiled(False)
        assert_same(other.state_dict(), eager.state_dict())
        assert_same(*(o.param_groups[0]["params"][0].data for o in (other, eager)))


def test_a_learning_rate_of_zero_needs_no_other_program() -> None:
    eager, compiled = twins(NETS["MLP"], "mse", "SGD")
    step = tg.compile(compiled.step)
    for lr in 0.0, 0.1, 0.0, 0.2:
        for training in eager, compiled:
            training.optimizer.param_groups[0]["lr"] = lr
        assert_same(step(*compiled.batch(0)), eager.step(*eager.batch(0)))
        assert_same(compiled.everything(), eager.everything())
    assert plans(step) == 1


# -- the state is shared with eager code


def shrink(t: Training) -> None:
    state = t.model.state_dict()
    t.model.load_state_dict({k: (0.9 * v).astype(v.dtype) for k, v in state.items()})


def set_gradients(t: Training) -> None:
    for p in t.trained:
        if p.requires_grad:
            p.grad = np.ones(p.shape, p.dtype)


ACTIONS: dict[str, Callable[[Training], Any]] = {
    "lr": lambda t: t.optimizer.param_groups[0].update(lr=0.02),
    "decay": lambda t: t.optimizer.param_groups[0].update(weight_decay=0.1),
    "eval": lambda t: t.model.eval(),
    "train": lambda t: t.model.train(),
    "assign": lambda t: setattr(t.trained[0], "data", np.full(t.trained[0].shape, 0.1)),
    "in place": lambda t: t.trained[-1].data.__imul__(0.5),
    "load": shrink,
    "new optimizer": lambda t: setattr(t, "optimizer", optim.Adam(t.trained, lr=0.01)),
    "other optimizer": lambda t: optim.SGD(t.trained, lr=0.01).step(),
    "step again": lambda t: t.optimizer.step(),
    "zero_grad": lambda t: t.optimizer.zero_grad(),
    "set gradients": set_gradients,
    "freeze": lambda t: setattr(t.trained[-1], "requires_grad", False),
    "unfreeze": lambda t: setattr(t.trained[-1], "requires_grad", True),
}
MIXED = stacked(["BatchNorm1d", "Linear", "Dropout", "Tanh"])


@given(
    actions=st.lists(st.sampled_from(["compiled", "compiled", "eager", *ACTIONS]), max_size=12),
    optimizer=st.sampled_from(["SGD momentum", "Adam", "RMSprop all"]),
    accumulate=st.booleans(),
)
def test_eager_and_compiled_steps_mix(actions: list[str], optimizer: str, accumulate: bool) -> None:
    eager, mixed = twins(MIXED, "mse", optimizer, accumulate=accumulate)
    step = tg.compile(mixed.step)
    for i, action in enumerate(["compiled", "compiled", *actions, "compiled", "compiled"]):
        if action in ACTIONS:
            for training in eager, mixed:
                ACTIONS[action](training)
        else:
            expected = eager.step(*eager.batch(i))
            actual = (step if action == "compiled" else mixed.step)(*mixed.batch(i))
            assert_same(actual, expected, f"result {i} ")
        assert_same(mixed.everything(), eager.everything(), f"after {i}, {action} ")


@pytest.mark.numpy_program
def test_a_schedules_function_sees_the_weights_of_its_time() -> None:
    """They get new values after it, though these have been computed before."""
    w = leaf(np.zeros(3))
    seen = []

    def factor(_t: int) -> float:
        seen.append(w.data.copy())
        return 1.0

    schedule = optim.LambdaLR(optim.SGD([w], lr=0.1), factor)

    @tg.compile
    def f(x: Any) -> None:
        new = np.exp(x)
        schedule.step()
        w.data = new

    for i in range(4):
        f(np.full(3, float(i)))
    assert_same(seen[1:], [np.zeros(3), *(np.exp(np.full(3, float(i))) for i in range(3))])


@pytest.mark.parametrize("action", ACTIONS)
def test_a_change_between_two_steps_is_honoured(action: str) -> None:
    test = test_eager_and_compiled_steps_mix.hypothesis.inner_test  # type: ignore[attr-defined]
    for optimizer in one_in(2, ["Adam", "SGD momentum"]):
        test([action, "compiled", "eager", action], optimizer, False)


def test_a_step_is_traced_again_where_a_compiled_one_left_its_gradients() -> None:
    """They lie in memory of the optimizer, which the new program writes to."""
    test = test_eager_and_compiled_steps_mix.hypothesis.inner_test  # type: ignore[attr-defined]
    test(["zero_grad", "compiled", "decay"], "Adam", True)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("optimizer", one_in(2, ["SGD", "Adam", "RMSprop", "Lion"]))
def test_a_step_leaves_the_gradients_of_a_compiled_one_alone(
    optimizer: str, accumulate: bool
) -> None:
    test = test_eager_and_compiled_steps_mix.hypothesis.inner_test  # type: ignore[attr-defined]
    for again in "step again", "eager":
        test(["decay", again, again, "compiled", again], optimizer, accumulate)


def saved(training: Training) -> Any:
    return copy.deepcopy((training.model.state_dict(), training.optimizer.state_dict()))


def load(training: Training, state: Any) -> None:
    training.model.load_state_dict(state[0])
    training.optimizer.load_state_dict(state[1])


@pytest.mark.parametrize("optimizer", one_in(3, OPTIMIZERS))
def test_loading_a_state_between_steps(optimizer: str) -> None:
    """Back to the start, forward to an eager state, and on: as if nothing had been compiled."""
    eager, compiled = twins(MIXED, "mse", optimizer)
    step = tg.compile(compiled.step)
    start, middle = saved(eager), None
    for i in range(6):
        if i == 2:
            middle = saved(eager)
        for state in {3: [start], 5: [middle]}.get(i, []):
            load(eager, state)
            load(compiled, state)
        assert_same(step(*compiled.batch(i)), eager.step(*eager.batch(i)), f"result {i} ")
        assert_same(compiled.everything(), eager.everything(), f"after step {i} ")


def test_two_compiled_functions_share_a_model() -> None:
    eager, compiled = twins(MIXED, "mse", "Adam")
    step, predict = tg.compile(compiled.step), tg.compile(lambda x: compiled.model(x))
    x, _ = eager.batch(9)
    for i in range(4):
        step(*compiled.batch(i))
        eager.step(*eager.batch(i))
        for training in eager, compiled:
            training.model.eval()
        assert_same(predict(x), eager.model(x))
        for training in eager, compiled:
            training.model.train()
    assert_same(compiled.everything(), eager.everything())


def test_forward_and_update_compiled_apart() -> None:
    """Gradients go from one compiled function to another, and through eager code."""
    eager, apart = twins(NETS["MLP"], "mse", "Adam")

    @tg.compile
    def gradients(x: Any, t: Any) -> Any:
        apart.optimizer.zero_grad()
        loss = apart.loss(apart.model(x), t)
        loss.backward()
        return loss

    update = tg.compile(lambda: apart.optimizer.step())
    for i in range(4):
        expected = eager.step(*eager.batch(i))["loss"]
        assert_same(gradients(*apart.batch(i)), expected)
        assert update() is None
        assert_same(apart.everything(), eager.everything(), f"after step {i} ")


def test_two_optimizers_in_one_step() -> None:
    def make() -> tuple[Any, Any]:
        net = tg.MLP(2, [3, 1], rng=0)
        first, *others = net.parameters()
        optimizers = optim.SGD([first], lr=0.1, momentum=0.9), optim.Adam(others, lr=0.01)

        def step(x: Any, t: Any) -> Any:
            loss = nn.mse_loss(net(x), t)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            return loss

        return net, step

    (net, step), (twin, twins_step) = make(), make()
    compiled = tg.compile(step)
    rng = np.random.default_rng(0)
    for _ in range(4):
        x, t = rng.normal(size=(5, 2)), rng.normal(size=(5, 1))
        assert_same(compiled(x, t), twins_step(x, t))
        assert_same(net.state_dict(), twin.state_dict())


def test_generators_of_dropout() -> None:
    """One that is an argument, another one, one put back, one that nobody gave, and a seed."""
    x = np.ones(64)
    by_argument = tg.compile(lambda x, rng: nn.dropout(x, rng=rng))
    pairs = [(np.random.default_rng(seed), np.random.default_rng(seed)) for seed in range(2)]
    for mine, twin in pairs * 3:
        assert_array_equal(by_argument(x, mine), nn.dropout(x, rng=twin))
    layer = nn.Dropout(0.5, rng=0)
    drop = tg.compile(lambda x: layer(x))
    first = [drop(x) for _ in range(3)]
    state = np.random.default_rng(0).bit_generator.state
    layer.rng.bit_generator.state = state
    second = [drop(x) for _ in range(3)]
    layer.rng = np.random.default_rng(0)
    assert_same([second, [drop(x) for _ in range(3)]], [first, first])
    layer.p = 0.0
    assert_array_equal(drop(x), x)
    anew, seeded = (tg.compile(lambda x, rng=rng: nn.dropout(x, rng=rng)) for rng in (None, 3))
    draws = [anew(x) for _ in range(3)]
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(draws))
    for _ in range(3):
        assert_array_equal(seeded(x), nn.dropout(x, rng=3))


def test_gradient_accumulation_over_two_compiled_calls() -> None:
    eager, compiled = twins(NETS["MLP"], "mse", "Adam")
    functions = []
    for training in eager, compiled:

        def add(x: Any, t: Any, training: Training = training) -> Any:
            loss = training.loss(training.model(x), t)
            loss.backward()
            return loss

        def update(training: Training = training) -> None:
            training.optimizer.step()
            training.optimizer.zero_grad()

        functions.append((add, update))
    add, update = map(tg.compile, functions[1])
    for i in range(8):
        expected = functions[0][0](*eager.batch(i))
        assert_same(add(*compiled.batch(i)), expected)
        assert_same(compiled.everything(), eager.everything(), f"after call {i} ")
        if i % 2:
            update()
            functions[0][1]()
            assert_same(compiled.everything(), eager.everything(), f"after update {i} ")


def test_gradients_are_readable_and_writable_after_a_step() -> None:
    eager, compiled = twins(NETS["MLP"], "mse", "SGD")
    step = tg.compile(compiled.step)
    for i in range(3):
        eager.step(*eager.batch(i))
        step(*compiled.batch(i))
        for p, q in zip(compiled.trained, eager.trained, strict=True):
            assert type(p.grad) is np.ndarray and p.grad.flags.writeable
            assert_same(p.grad, q.grad)
            p.grad *= 0  # nothing later depends on them


def test_a_graph_recorded_before_a_compiled_step_refuses_its_backward() -> None:
    training = Training(NETS["MLP"])
    step = tg.compile(training.step)
    x, t = training.batch(0)
    for _ in range(3):
        loss = training.loss(training.model(x), t)
        step(x, t)
        with pytest.raises(tg.GraphError, match="changed"):
            loss.backward()


def test_a_changed_leaf_inside_refuses_its_backward_too() -> None:
    w = leaf([1.0, 2.0])

    @tg.compile
    def wrong(x: Any) -> Any:
        y = np.sum(w * w * x)
        w.data = w.data * 2
        y.backward()
        return y

    with pytest.raises(tg.GraphError, match="changed"):
        wrong(np.ones(2))
    assert_array_equal(w.data, [1.0, 2.0])
    assert w.grad is None


def test_a_step_in_closure_form() -> None:
    eager, compiled = twins(NETS["MLP"], "mse", "Adam")

    def step_of(training: Training) -> Any:
        def step(x: Any, t: Any) -> Any:
            def closure() -> Any:
                training.optimizer.zero_grad()
                loss = training.loss(training.model(x), t)
                loss.backward()
                return loss

            return training.optimizer.step(closure)

        return step

    step, other = tg.compile(step_of(compiled)), step_of(eager)
    for i in range(3):
        assert_same(step(*compiled.batch(i)), other(*eager.batch(i)))
        assert_same(compiled.everything(), eager.everything())


def test_a_functional_step_on_state_that_is_passed() -> None:
    """Parameters as arguments and results, with `value_and_grad`, and no optimizer."""

    def step(params: Any, x: Any, t: Any) -> Any:
        def loss(params: Any) -> Any:
            y = np.tanh(x @ params["w"][0] + params["b"][0])
            return np.mean((y @ params["w"][1] - t) ** 2)

        value, grads = tg.value_and_grad(loss)(params)
        new = {k: [p - 0.1 * g for p, g in zip(params[k], grads[k], strict=True)] for k in params}
        return value, new

    rng = np.random.default_rng(0)
    params = {"w": [rng.normal(size=(2, 3)), rng.normal(size=(3, 1))], "b": [np.zeros(3)]}
    mine, compiled = params, tg.compile(step)
    for _ in range(4):
        x, t = rng.normal(size=(5, 2)), rng.normal(size=(5, 1))
        value, params = step(params, x, t)
        loss, mine = compiled(mine, x, t)
        assert_same((loss, mine), (value, params))


def test_a_changed_decay_of_an_average_needs_no_other_program() -> None:
    results = []
    for way in (lambda f: f), tg.compile:
        w, target = tg.Tensor([0.0], requires_grad=True), tg.Tensor([1.0])
        average = optim.ExponentialMovingAverage([w], decay=0.5)

        def step(x: Any, w: Any = w, average: Any = average, target: Any = target) -> Any:
            w.data = target.data * x
            average.update()
            return w.data + 0

        call = way(step)
        for k, decay in enumerate([0.5, 0.5, 0.9, 0.9]):
            average.decay = decay
            call(np.array([float(k + 1)]))
        results.append(average.state_dict())
    assert_same(*results)
    assert plans(call) == 1


def test_programs_of_several_shapes_share_a_parameter_that_is_frozen_later() -> None:
    model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.Linear(4, 2, rng=0))
    optimizer = optim.Adam(model.parameters())
    model[0].weight.requires_grad = False

    @tg.compile
    def step(x: Any) -> Any:
        loss = np.mean(model(x) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        for n in 4, 3:
            step(np.ones((n, 3)))
    assert plans(step) == 2
