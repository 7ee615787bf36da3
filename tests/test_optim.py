"""Optimizers, schedules, clipping and averages: against PyTorch, and where things go wrong."""

import copy
import gc
import inspect
import itertools
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import optim

from .optim_references import (
    CASES,
    KEPT,
    SCHEDULES,
    STEPS,
    STORED,
    Library,
    pytorch,
    rates,
    trajectory,
)
from .oracles import leaf

OURS = Library(optim, optim, leaf, np.asarray)
MAKERS: dict[str, Callable[..., Any]] = {
    "SGD": lambda ps, **o: optim.SGD(ps, **{"lr": 0.05, "momentum": 0.9, **o}),
    "Adam": lambda ps, **o: optim.Adam(ps, **{"lr": 0.05, **o}),
    "AdamW": lambda ps, **o: optim.AdamW(ps, **{"lr": 0.05, "amsgrad": True, **o}),
    "RMSprop": lambda ps, **o: optim.RMSprop(ps, **{"centered": True, "momentum": 0.5, **o}),
    "Adagrad": lambda ps, **o: optim.Adagrad(ps, **{"initial_accumulator_value": 0.1, **o}),
    "Lion": lambda ps, **o: optim.Lion(ps, **{"lr": 0.01, "weight_decay": 0.1, **o}),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def set_gradients(parameters: list[Any], rng: np.random.Generator) -> None:
    for p in parameters:
        p.grad = rng.normal(size=p.shape)


def train(optimizer: Any, parameters: list[Any], rng: np.random.Generator, steps: int) -> None:
    for _ in range(steps):
        set_gradients(parameters, rng)
        optimizer.step()


def leaves(*shapes: tuple[int, ...], dtype: Any = float) -> list[Any]:
    rng = np.random.default_rng(0)
    return [leaf(rng.normal(size=shape), dtype) for shape in shapes]


# -- against PyTorch, and the equations


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    with np.load(STORED) as file:
        return {
            **dict(zip(file["cases"], file["trajectories"], strict=True)),
            **dict(zip(file["schedules"], file["rates"], strict=True)),
        }


@pytest.mark.parametrize("case", CASES)
def test_steps_are_pytorchs(case: str, stored: dict[str, Any]) -> None:
    assert_allclose(trajectory(OURS, *CASES[case])[KEPT], stored[case], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_steps_are_pytorchs_now(case: str) -> None:
    pytest.importorskip("torch")
    for seed in 1, 2:
        expected = trajectory(pytorch(), *CASES[case], seed)
        assert_allclose(trajectory(OURS, *CASES[case], seed), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_pytorchs(schedule: str, stored: dict[str, Any]) -> None:
    assert_allclose(rates(OURS, SCHEDULES[schedule]), stored[schedule], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_schedules_are_pytorchs_now(optimizer: str, schedule: str) -> None:
    pytest.importorskip("torch")
    expected = rates(pytorch(), SCHEDULES[schedule], optimizer)
    got = rates(OURS, SCHEDULES[schedule], optimizer)
    assert_allclose(got, expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"betas": (0.5, 0.75)}])
@pytest.mark.parametrize("maximize", [False, True])
def test_lion_is_its_equations(options: dict[str, Any], maximize: bool) -> None:
    lr, decay = 0.01, options.get("weight_decay", 0)
    beta1, beta2 = options.get("betas", (0.9, 0.99))
    (p,) = leaves((5,))
    w, m = p.data.copy(), np.zeros(5)
    optimizer = optim.Lion([p], lr, **options, maximize=maximize)
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        p.grad = rng.normal(size=5)
        g = -p.grad if maximize else p.grad
        w = w - lr * (np.sign(beta1 * m + (1 - beta1) * g) + decay * w)
        m = beta2 * m + (1 - beta2) * g
        optimizer.step()
    assert_allclose(p.data, w, rtol=1e-12)


def test_arguments_in_pytorchs_order() -> None:
    ps = leaves((2,))
    given = [
        optim.SGD(ps, 1, 2, 0, 4, True),
        optim.Adam(ps, 1, (0.2, 0.3), 4, 5, True),
        optim.AdamW(ps, 1, (0.2, 0.3), 4, 5, True),
        optim.RMSprop(ps, 1, 0.2, 3, 4, 5, True),
        optim.Adagrad(ps, 1, 2, 3, 4, 5),
    ]
    expected = [
        {"lr": 1, "momentum": 2, "dampening": 0, "weight_decay": 4, "nesterov": True},
        {"lr": 1, "betas": (0.2, 0.3), "eps": 4, "weight_decay": 5, "amsgrad": True},
        {"lr": 1, "betas": (0.2, 0.3), "eps": 4, "weight_decay": 5, "amsgrad": True},
        {"lr": 1, "alpha": 0.2, "eps": 3, "weight_decay": 4, "momentum": 5, "centered": True},
        {"lr": 1, "lr_decay": 2, "weight_decay": 3, "initial_accumulator_value": 4, "eps": 5},
    ]
    for optimizer, options in zip(given, expected, strict=True):
        (group,) = optimizer.param_groups
        assert group == {**options, "maximize": False, "params": (ps[0],)}


def test_a_training_run_is_that_of_plain_numpy() -> None:
    net = tg.MLP(2, [8, 1], rng=0)
    xs, classes = tg.data.moons(50, rng=0)
    twin = copy.deepcopy(net)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    for _ in range(20):
        for n in net, twin:
            n.zero_grad()
            tg.nn.mse_loss(n(xs)[:, 0], 2 * classes - 1).backward()
        optimizer.step()
        for p in twin.parameters():
            p.data -= 0.1 * p.grad
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert_array_equal(p.data, q.data)


# -- one flat vector


@every_optimizer
def test_parameters_of_one_dtype_are_views_of_one_vector(make: Any) -> None:
    ps = leaves((3, 2), (), (0, 4), (5,)) + leaves((2,), (3,), dtype=np.float32)
    before = [p.data.copy() for p in ps]
    make(ps)
    for dtype in float, np.float32:
        alike = [p.data for p in ps if p.dtype == dtype]
        assert len({id(a.base) for a in alike}) == 1
        places = sorted((a.ctypes.data, a.nbytes) for a in alike if a.size)
        assert all(a + n == b for (a, n), (b, _) in itertools.pairwise(places))
    for p, data in zip(ps, before):
        assert_array_equal(p.data, data)
        assert p.data.dtype == data.dtype


@every_optimizer
@pytest.mark.parametrize("block", [3, 8])
def test_blocks_change_nothing(make: Any, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def results() -> list[Any]:
        ps = leaves((3, 2), (), (0, 4), (11,))
        train(make(ps), ps, np.random.default_rng(1), 5)
        return [p.data for p in ps]

    expected = results()
    monkeypatch.setattr(optim.flat, "BLOCK", block)
    for got, value in zip(results(), expected, strict=True):
        assert_array_equal(got, value)


@every_optimizer
def test_a_step_is_that_of_each_parameter_by_itself(make: Any) -> None:
    together = leaves((3, 2), (), (0, 4), (5,)) + leaves((2,), dtype=np.float32)
    alone = [leaf(p.data, p.dtype) for p in together]
    one, several = make(together), [make([p]) for p in alone]
    rng = np.random.default_rng(1)
    for t in range(30):
        set_gradients(together, rng)
        for p, q in zip(together, alone):
            q.grad = p.grad
            if (t + q.size) % 4 == 0:
                p.grad = q.grad = None
        one.step()
        for optimizer in several:
            optimizer.step()
    for p, q in zip(together, alone, strict=True):
        assert_array_equal(p.data, q.data)


def test_strided_parameters_and_gradients() -> None:
    base = np.arange(12.0).reshape(3, 4)
    ps = [leaf(base.T), leaf(base[:, ::2]), leaf(np.asfortranarray(base))]
    optim.SGD(ps, lr=1.0)
    assert [p.shape for p in ps] == [(4, 3), (3, 2), (3, 4)]
    assert_array_equal(ps[0].data, base.T)
    optimizer = optim.SGD(ps, lr=1.0)
    np.sum(ps[0].T * base).backward()
    optimizer.step()
    assert_array_equal(ps[0].data, 0 * base.T)
    assert_array_equal(ps[1].data, base[:, ::2])


def test_a_layers_weight_and_bias_are_one_matrix() -> None:
    net = tg.MLP(3, [4, 4, 1], rng=0)
    before = [(layer.weight.data.copy(), layer.bias.data.copy()) for layer in net.layers]
    optim.SGD(net.parameters())
    for layer, (weight, bias) in zip(net.layers, before, strict=True):
        w = layer.weight.data
        shape, strides = (w.shape[1] + 1, w.shape[0]), (w.shape[0] * w.itemsize, w.itemsize)
        together = np.lib.stride_tricks.as_strided(w.T, shape, strides)
        assert np.shares_memory(together[-1], layer.bias.data)
        assert_array_equal(together, [*weight.T, bias])


@every_optimizer
def test_the_order_in_memory_changes_no_values_and_stays(make: Any) -> None:
    base = np.random.default_rng(0).normal(size=(3, 4, 2))
    nested = [base[..., 0], base]
    by_rows = [leaf(np.ascontiguousarray(a)) for a in nested]
    by_columns = [leaf(np.asfortranarray(a)) for a in nested]
    runs = []
    for ps in by_rows, by_columns:
        optimizer = make(ps)
        average = optim.ExponentialMovingAverage(ps, decay=0.5)
        rng = np.random.default_rng(1)
        train(optimizer, ps, rng, 2)
        average.update()
        ps, optimizer, average = pickle.loads(pickle.dumps((ps, optimizer, average)))
        for p in ps:
            p.data = np.ascontiguousarray(p.data)
        state = optimizer.state_dict()
        optimizer.load_state_dict(state)
        train(optimizer, ps, rng, 2)
        average.update()
        assert [p.data.flags.f_contiguous for p in ps] == [ps[0].data.flags.fnc] * 2
        state = optimizer.state_dict()["state"]
        runs.append([*(p.data for p in ps), *average.state_dict()["average"]])
        runs[-1] += [a for number in state for a in state[number].values()]
    assert by_columns[0].data.flags.fnc
    for got, expected in zip(*runs, strict=True):
        assert_array_equal(got, expected)


def change_data(p: Any) -> None:
    p.data = np.full(p.shape, 7.0)


def change_in_place(p: Any) -> None:
    p.data += 7.0 - p.data


def change_element_by_element(p: Any) -> None:
    with tg.no_grad():
        p[...] = 7.0


def change_by_operator(p: Any) -> None:
    with tg.no_grad():
        p *= 0.0
        p += 7.0


def freeze_and_thaw(p: Any) -> None:
    p.requires_grad = False
    p.data = np.full(p.shape, 7.0)
    p.requires_grad = True


def make_another_optimizer(p: Any) -> None:
    optimizer = optim.SGD([p], lr=1.0)
    p.grad = p.data - 7.0
    optimizer.step()


@every_optimizer
@pytest.mark.parametrize(
    "change",
    [change_data, change_in_place, change_element_by_element, change_by_operator, freeze_and_thaw,
     make_another_optimizer],
)  # fmt: skip
def test_a_step_goes_on_from_what_was_assigned(make: Any, change: Any) -> None:
    ps = leaves((3, 2), (), (4,))
    optimizer = make(ps)
    for p in ps:
        change(p)
        assert_allclose(p.data, np.full(p.shape, 7.0))
    expected = [leaf(np.full(p.shape, 7.0)) for p in ps]
    other = make(expected)
    for o, parameters in (optimizer, ps), (other, expected):
        train(o, parameters, np.random.default_rng(1), 3)
    for p, q in zip(ps, expected, strict=True):
        assert_allclose(p.data, q.data, rtol=1e-14)


def test_assigned_data_is_cast_and_copied_and_may_overlap() -> None:
    (p,) = leaves((4,), dtype=np.float32)
    optim.SGD([p])
    home = p.data
    array = np.arange(4.0)
    p.data = array
    array[0] = 9
    p.data = p.data[::-1]
    assert p.data is home
    assert p.data.dtype == np.float32
    assert_array_equal(p.data, [3, 2, 1, 0])
    with pytest.raises(ValueError, match="shape"):
        p.data = np.ones(1)


def test_a_graph_from_before_a_step_is_refused() -> None:
    p, q = leaves((2,), (2,))
    optimizer = optim.SGD([p, q])
    loss, other = np.sum(p * p), np.sum(q * q)
    p.grad = np.ones(2)
    optimizer.step()
    with pytest.raises(tg.GraphError, match="was changed"):
        loss.backward()
    other.backward()  # had no gradient, and did not change


def test_a_guarded_graph_is_not_stepped_over() -> None:
    (p,) = leaves((2,))
    before = p.data.copy()
    optimizer = optim.SGD([p], momentum=0.9)
    with tg.guard():
        loss = np.sum(p * p)
    p.grad = np.ones(2)
    with pytest.raises(ValueError, match="guard"):
        optimizer.step()
    assert_array_equal(p.data, before)
    p.grad = None
    loss.backward()
    optimizer.step()
    assert_array_equal(p.data, before - 1e-3 * 2 * before)


@every_optimizer
def test_a_frozen_parameter_stays_and_keeps_its_state(make: Any) -> None:
    p, q = leaves((2,), (3,))
    alone = leaf(p.data)
    optimizer, single = make([p, q]), make([alone])
    q_before = None
    for t in range(9):
        if t == 3:
            q.requires_grad = False
            q_before = q.data.copy()
        if t == 6:
            assert_array_equal(q.data, q_before)
            q.requires_grad = True
        p.grad = alone.grad = np.full(2, t - 4.0)
        if q.requires_grad:
            q.grad = np.ones(3)
        optimizer.step()
        single.step()
    assert_array_equal(p.data, alone.data)
    assert [s["step"] for s in optimizer.state_dict()["state"].values()] == [9, 6]


def test_an_untracked_parameter_joins_when_it_requires_grad() -> None:
    p = tg.Tensor([1.0, 2.0])
    optimizer = optim.SGD([p], lr=1.0)
    optimizer.step()
    p.data = [3.0, 4.0]
    p.requires_grad = True
    p.grad = [1.0, 1.0]
    optimizer.step()
    assert_array_equal(p.data, [2, 3])


def test_two_optimizers_take_turns_on_a_parameter() -> None:
    (p,) = leaves((3,))
    q = leaf(p.data)
    first, second = optim.SGD([p], lr=0.1), optim.SGD([p], lr=0.01)
    for t in range(6):
        p.grad = np.full(3, t + 1.0)
        (first, second)[t % 2].step()
        q.data -= (0.1, 0.01)[t % 2] * p.grad
    assert_allclose(p.data, q.data, rtol=1e-14)


def test_a_parameter_listed_twice_is_stepped_once() -> None:
    p = leaf([1.0])
    for parameters in ([p, p], [{"params": [p, p]}], iter([p, p])):
        p.data = [1.0]
        p.grad = [1.0]
        optimizer = optim.SGD(parameters, lr=0.5)
        optimizer.step()
        assert p.item() == 0.5
        assert len(optimizer.param_groups[0]["params"]) == 1


def test_float16_is_computed_in_float32() -> None:
    (p,) = leaves((4,), dtype=np.float16)
    optimizer = optim.Adam([p], lr=0.1)
    start = p.data.copy()
    for _ in range(3):
        p.grad = np.full(4, 1e-6)  # its square is 0 in float16
        optimizer.step()
    assert p.dtype == np.float16
    assert_allclose(p.data, start - 0.3, atol=0.01)


def test_state_dies_with_the_optimizer() -> None:
    (p,) = leaves((1000,))
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        optimizer = optim.Adam([p])
        p.grad = np.ones(1000)
        optimizer.step()
        p.grad = None
        del optimizer
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert size < 8000 + 6000  # the parameter's own new memory, 8000, and small things


@every_optimizer
def test_a_step_allocates_nothing(make: Any) -> None:
    ps = leaves(*[(50, 50), (50,)] * 6)
    optimizer = make(ps)
    set_gradients(ps, np.random.default_rng(0))
    optimizer.step()
    optimizer.step()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        optimizer.step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 4000  # no array of the parameters' size: 122,400 bytes


# -- groups, options, state


def test_groups_have_options_of_their_own() -> None:
    p, q, r = leaves((2,), (2,), (2,))
    before = [t.data.copy() for t in (p, q, r)]
    optimizer = optim.SGD([{"params": [p]}, {"params": q, "lr": 0.5}], lr=0.25)
    optimizer.add_param_group({"params": [r], "lr": 1.0})
    for t in p, q, r:
        t.grad = np.ones(2)
    optimizer.step()
    for t, data, lr in zip((p, q, r), before, (0.25, 0.5, 1.0), strict=True):
        assert_array_equal(t.data, data - lr)
    optimizer.param_groups[1]["lr"] = 0.0
    optimizer.step()
    assert_array_equal(q.data, before[1] - 0.5)
    assert repr(optimizer).startswith("SGD(lr=0.25, momentum=0.0, ")
    assert "for 2 numbers; lr=0.0" in repr(optimizer)


def test_momentum_that_is_switched_on_later() -> None:
    p = leaf([0.0])
    optimizer = optim.SGD([p], lr=1.0)
    train(optimizer, [p], np.random.default_rng(0), 2)
    optimizer.param_groups[0]["momentum"] = 0.5
    p.data = [0.0]
    for _ in range(2):
        p.grad = [1.0]
        optimizer.step()
    assert p.item() == -2.5


@every_optimizer
def test_weight_decay_that_is_switched_on_and_off(make: Any) -> None:
    ps, qs = leaves((2, 3), ()), leaves((2, 3), ())
    changed, other = make(ps, weight_decay=0.0), make(qs, weight_decay=0.0)
    for decay in 0.0, 0.5, 0.0:
        changed.param_groups[0]["weight_decay"] = decay
        state = other.state_dict()
        state["param_groups"][0]["weight_decay"] = decay
        other = make(qs)  # another optimizer in each phase
        other.load_state_dict(state)
        for optimizer, parameters in (changed, ps), (other, qs):
            train(optimizer, parameters, np.random.default_rng(1), 2)
    for p, q in zip(ps, qs, strict=True):
        assert_array_equal(p.data, q.data)


def test_every_change_of_an_option_is_noticed() -> None:
    optimizer = optim.SGD(leaves((2,)))
    (group,) = optimizer.param_groups
    changes: list[Callable[[Any], Any]] = [
        lambda g: g.update(lr=0.5),
        lambda g: g.__setitem__("lr", 0.25),
        lambda g: g.__ior__({"lr": 0.125}),
        lambda g: g.pop("dampening"),
        lambda g: g.setdefault("dampening", 0.0),
        lambda g: g.__delitem__("nesterov"),
        lambda g: g.popitem(),
        lambda g: g.clear(),
    ]
    for alike in group, copy.copy(group), copy.deepcopy(group), pickle.loads(pickle.dumps(group)):
        assert type(alike) is type(group)
        assert {**alike, "params": ()} == {**optimizer.defaults, "params": ()}
        if alike is not group:
            for change in changes:
                alike.is_current = True
                change(alike)
                assert not alike.is_current
            assert not alike
    assert type(optimizer.state_dict()["param_groups"][0]) is dict


OPTIMIZERS = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.Lion]


@pytest.mark.parametrize("kind", [*OPTIMIZERS, optim.LBFGS])
def test_an_option_assigned_to_the_optimizer_is_an_error_with_the_cure(kind: Any) -> None:
    (p,) = leaves((2,))
    optimizer = kind([p])
    before = repr(optimizer)
    for name in {"lr", *optimizer.defaults}:
        with pytest.raises(AttributeError) as caught:
            setattr(optimizer, name, 0.5)
        cure = f"optimizer.param_groups[0][{name!r}] = 0.5"
        assert str(caught.value).startswith(kind.__name__) and str(caught.value).endswith(cure)
        assert name not in vars(optimizer)
        if name in optimizer.defaults:
            exec(cure, {"optimizer": optimizer})
            assert optimizer.param_groups[0][name] == 0.5
    assert repr(optimizer) != before
    with pytest.raises(
        AttributeError, match=r"'learning_rate' would have no effect: use .*\['lr'\] = 0\.5"
    ):
        optimizer.learning_rate = 0.5
    optimizer.note = "one's own attribute"


def test_a_subclass_may_have_an_attribute_with_the_name_of_an_option() -> None:
    class WithRate(optim.SGD):
        @property
        def lr(self) -> float:
            return float(self.param_groups[0]["lr"])

        @lr.setter
        def lr(self, value: float) -> None:
            for group in self.param_groups:
                group["lr"] = value

    p = leaf([1.0])
    optimizer = WithRate([p], lr=0.5)
    optimizer.lr = 0.25
    p.grad = [1.0]
    optimizer.step()
    assert (optimizer.lr, p.item()) == (0.25, 0.75)


@pytest.mark.parametrize(
    "add",
    [
        lambda g: g.__setitem__("learning_rate", 0.5),
        lambda g: g.update(lr=0.5, learning_rate=0.5),
        lambda g: g.__ior__(iter([("lr", 0.5), ("learning_rate", 0.5)])),
        lambda g: g.setdefault("learning_rate", 0.5),
    ],
)
def test_a_key_that_no_step_would_read_is_refused_and_changes_nothing(add: Any) -> None:
    (group,) = optim.SGD(leaves((2,)), lr=0.1).param_groups
    before, group.is_current = dict(group), True
    with pytest.raises(ValueError, match=r"ignore \['learning_rate'\]; its options are \['lr', "):
        add(group)
    assert (dict(group), group.is_current) == (before, True)


def test_methods_of_a_group_return_what_those_of_a_dict_return() -> None:
    (group,) = optim.SGD(leaves((2,)), lr=0.1).param_groups
    assert group.setdefault("lr", 5.0) == group.pop("lr") == 0.1
    assert group.pop("lr", "absent") == "absent"
    same = group
    same |= {"lr": 0.25}
    assert same is group
    group.update((name, 0.5) for name in ("lr", "momentum"))
    assert (group["lr"], group["momentum"]) == (0.5, 0.5)
    assert group.popitem() == ("lr", 0.5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_argument_of_a_schedule_is_an_attribute_or_cannot_be_assigned(name: str) -> None:
    groups = [{"params": leaves((2,))}, {"params": leaves((2,))}]
    schedule = SCHEDULES[name](optim, optim.SGD(groups, momentum=0.9))
    before = str(schedule.state_dict())
    for argument in inspect.signature(type(schedule)).parameters:
        if not hasattr(schedule, argument):
            with pytest.raises(AttributeError, match=f"{argument} is only read when the schedule"):
                setattr(schedule, argument, 0.5)
    assert str(schedule.state_dict()) == before
    schedule.note = "one's own attribute"


def test_an_argument_of_a_schedule_that_is_read_at_each_step_can_be_assigned() -> None:
    optimizer = optim.SGD(leaves((2,)), lr=1.0)
    schedule = optim.ExponentialLR(optimizer, gamma=0.5)
    schedule.gamma = 0.25
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_no_option_changes_unseen_by_a_compiled_step() -> None:
    p = leaf([1.0, 2.0])
    optimizer = optim.Adam([p], betas=[0.5, 0.9])  # type: ignore[arg-type]
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.9)
    p.grad = [1.0, 1.0]
    step = tg.compile(lambda: optimizer.step())
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.5}  # type: ignore[call-overload]
    optimizer.step()
    with pytest.raises(tg.TraceError, match="update the groups that are there"):
        step()


def test_zero_grad_and_closures() -> None:
    p, q = leaves((2,), (2,))
    optimizer = optim.SGD([{"params": [p]}, {"params": [q]}], lr=0.5)
    start = p.data.copy()

    def closure() -> Any:
        optimizer.zero_grad()
        loss = np.sum(p * p) / 2
        loss.backward()
        return loss

    with tg.no_grad():
        loss = optimizer.step(closure)
    assert_allclose(loss.data, np.sum(start**2) / 2)
    assert_array_equal(p.data, start / 2)
    optimizer.zero_grad()
    assert p.grad is None
    assert optimizer.step() is None
    assert_array_equal(p.data, start / 2)


def make_all(make: Any) -> tuple[list[Any], Any]:
    ps = leaves((3, 2), (), (0, 4), (5,)) + leaves((2,), dtype=np.float32)
    return ps, make([{"params": [ps[3], ps[4], ps[0]]}, {"params": ps[1:3], "lr": 0.1}])


@every_optimizer
@pytest.mark.parametrize("how", ["state_dict", "pickle", "deepcopy"])
def test_a_saved_run_continues_bit_for_bit(make: Any, how: str) -> None:
    def run(optimizer: Any, ps: list[Any], rng: np.random.Generator, steps: int) -> None:
        for t in range(steps):
            set_gradients(ps, rng)
            if t == 1:
                ps[0].grad = None
            optimizer.step()

    ps, optimizer = make_all(make)
    run(optimizer, ps, np.random.default_rng(1), 3)
    optimizer.param_groups[0]["lr"] = 0.02
    if how == "state_dict":
        qs, other = make_all(make)
        for p, q in zip(ps, qs, strict=True):
            q.data = p.data
        state = optimizer.state_dict()
        other.load_state_dict(pickle.loads(pickle.dumps(state)))
    else:
        duplicate = copy.deepcopy if how == "deepcopy" else lambda x: pickle.loads(pickle.dumps(x))
        qs, other = duplicate((ps, optimizer))
        assert not {id(p) for p in ps} & {id(q) for q in qs}
    for o, parameters in (optimizer, ps), (other, qs):
        run(o, parameters, np.random.default_rng(2), 4)
    for p, q in zip(ps, qs, strict=True):
        assert_array_equal(p.data, q.data)
    assert repr(other) == repr(optimizer)


def test_a_state_dict_is_a_copy_in_pytorchs_layout() -> None:
    ps = leaves((2, 3), ())
    optimizer = optim.Adam(ps)
    train(optimizer, ps, np.random.default_rng(0), 2)
    state = optimizer.state_dict()
    assert state["param_groups"][0]["params"] == [0, 1]
    assert state["state"][0].keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert state["state"][0]["exp_avg"].shape == (2, 3)
    saved = copy.deepcopy(state)
    train(optimizer, ps, np.random.default_rng(0), 2)
    assert_array_equal(state["state"][0]["exp_avg"], saved["state"][0]["exp_avg"])


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad"])
def test_pytorchs_state_dict_is_continued(name: str) -> None:
    torch = pytest.importorskip("torch")
    options = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    ps = leaves((2, 3), ())
    qs = [torch.tensor(p.data, requires_grad=True) for p in ps]
    other = getattr(torch.optim, name)(qs, lr=0.1, **options)

    def steps(optimizers: list[Any]) -> None:
        rng = np.random.default_rng(len(optimizers))
        for _ in range(3):
            for p, q in zip(ps, qs, strict=True):
                p.grad = rng.normal(size=p.shape)
                q.grad = torch.as_tensor(p.grad)
            for optimizer in optimizers:
                optimizer.step()

    steps([other])
    for p, q in zip(ps, qs):
        p.data = q.detach().numpy()
    optimizer = getattr(optim, name)(ps, lr=0.5, **options)
    optimizer.load_state_dict(other.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.1
    steps([other, optimizer])
    for p, q in zip(ps, qs):
        assert_allclose(p.data, q.detach().numpy(), rtol=1e-12)


def adams_lr(state: Any) -> None:
    state["param_groups"][1]["lr"] = -7


def adams_option(state: Any) -> None:
    del state["param_groups"][1]["betas"]


def adams_step(state: Any) -> None:
    state["state"][1]["step"] = -1


def adams_name(state: Any) -> None:
    state["state"][1]["sum"] = np.zeros(2)


def adams_value(state: Any) -> None:
    state["state"][1]["exp_avg"] = np.array(["a", "b"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (adams_lr, "lr=-7 must be finite and not negative"),
        (adams_option, r"no option \['betas'\]: this is not the state of Adam"),
        (adams_step, "step -1 of parameter 1"),
        (adams_name, r"\['sum'\] of parameter 1: this is not the state of Adam"),
        (adams_value, "could not convert"),
    ],
)
def test_a_spoiled_state_changes_nothing(spoil: Any, message: str) -> None:
    parameters = leaves((2,), (2,))
    optimizer = optim.Adam([{"params": p} for p in parameters])
    train(optimizer, parameters, np.random.default_rng(0), 1)
    before, state = optimizer.state_dict(), optimizer.state_dict()
    train(optimizer, parameters, np.random.default_rng(0), 1)
    after = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 0.5
    spoil(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert str(optimizer.state_dict()) == str(after) != str(before)


def test_a_loaded_state_replaces_the_whole_state() -> None:
    """A parameter without a state in what is loaded starts anew."""

    def steps(optimizer: Any, parameters: list[Any], used: list[int]) -> None:
        for i, p in enumerate(parameters):
            p.grad = np.full(p.shape, 0.5) if i in used else None
        optimizer.step()

    first, second, third = (leaves((2,), (3,)) for _ in range(3))
    saved, other, fresh = (optim.Adam(ps, lr=0.1) for ps in (first, second, third))
    steps(saved, first, [0])
    state = saved.state_dict()
    del state["state"][1]
    steps(other, second, [0, 1])
    for p, q in zip(second, third, strict=True):
        q.data = p.data
    for optimizer, parameters in (other, second), (fresh, third):
        optimizer.load_state_dict(state)
        steps(optimizer, parameters, [0, 1])
    for p, q in zip(second, third, strict=True):
        assert_array_equal(p.data, q.data)


def test_a_state_of_another_kind_of_optimizer_is_refused() -> None:
    (p,) = leaves((2,))
    adam = optim.Adam([p])
    with pytest.raises(ValueError, match="not the state of SGD; load it into the kind"):
        optim.SGD([p]).load_state_dict(adam.state_dict())
    train(adam, [p], np.random.default_rng(0), 1)
    with pytest.raises(ValueError, match=r"\['exp_avg_sq'\] of parameter 0: .* of Lion"):
        optim.Lion([p]).load_state_dict(adam.state_dict())


def test_a_bad_rate_of_one_group_stops_the_step_of_all() -> None:
    parameters = leaves((2,), (2,))
    optimizer = optim.SGD([{"params": p} for p in parameters], lr=0.1)
    before = [p.data.copy() for p in parameters]
    set_gradients(parameters, np.random.default_rng(0))
    optimizer.param_groups[1]["lr"] = "much"
    with pytest.raises(ValueError, match="much"):
        optimizer.step()
    assert_array_equal([p.data for p in parameters], before)
    assert [s["step"] for s in optimizer.state_dict()["state"].values()] == [0, 0]


def test_a_state_dict_that_does_not_fit_changes_nothing() -> None:
    ps = leaves((2, 3), (4,))
    optimizer = optim.Adam(ps)
    train(optimizer, ps, np.random.default_rng(0), 2)
    before = optimizer.state_dict()
    for shapes, message in (
        ([(2, 3)], r"groups of \[1\] parameters for an optimizer of \[2\]"),
        ([(2, 3), (5,)], r"exp_avg of shape \(5,\) for parameter 1, of shape \(4,\)"),
    ):
        others = leaves(*shapes)
        other = optim.Adam(others, lr=1.0)
        train(other, others, np.random.default_rng(0), 1)
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(other.state_dict())
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for i in 0, 1:
        assert_array_equal(after["state"][i]["exp_avg"], before["state"][i]["exp_avg"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD([p], lr=-1), r"SGD: lr=-1 must be finite and not negative"),
        (lambda p: optim.Adam([p], lr=float("nan")), "lr=nan"),
        (lambda p: optim.Adam([p], lr=float("inf")), "lr=inf must be finite"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), r"Adam: betas=\(0.9, 1.0\) must be"),
        (lambda p: optim.Adam([p], betas=(0.9,)), "two numbers"),
        (lambda p: optim.AdamW([p], eps=-1e-8), "AdamW: eps"),
        (lambda p: optim.Lion([p], weight_decay=-1), "Lion: weight_decay"),
        (lambda p: optim.RMSprop([p], alpha=1.5), "RMSprop: alpha"),
        (lambda p: optim.Adagrad([p], lr_decay=-1), "Adagrad: lr_decay"),
        (lambda p: optim.SGD([p], momentum=-0.5), "momentum"),
        (lambda p: optim.SGD([p], nesterov=True), "nesterov=True needs momentum"),
        (lambda p: optim.SGD([p], 0.1, 0.9, 0.1, nesterov=True), "no dampening"),
        (lambda p: optim.SGD([{"params": [p], "lr": -1}]), "lr=-1"),
        (lambda _: optim.SGD([]), "SGD: an empty list of parameters: .*requires_grad=True"),
        (lambda p: optim.SGD([{"params": [p], "rate": 1}]), r"not \['rate'\]"),
        (lambda p: optim.SGD([{"lr": 1, "parameters": [p]}]), "a group needs 'params'"),
        (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}]), "more than one group"),
        (lambda p: optim.SGD([p * 2]), "a computed tensor, multiply"),
        (lambda p: optim.LBFGS([{"params": [p]}, {"params": []}]), "one group"),
        (lambda p: optim.LBFGS([p], lr=0.5), "leave both out"),
        (lambda p: optim.ExponentialMovingAverage([p], 1.5), "decay 1.5"),
        (lambda p: optim.ExponentialMovingAverage([p], -0.5), "decay -0.5"),
    ],
)
def test_bad_values_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(leaf([1.0]))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (lambda p: p, "must be a list of tensors, as from net.parameters(), not a Tensor"),
        (lambda _: tg.MLP(2, [1]), "not a MLP"),
        (lambda p: [p.data], "must be tensors, not ndarray"),
        (lambda _: [tg.Tensor([1, 2])], "not ndarray of dtype int64"),
        (lambda p: {"params": [p]}, "not str"),
    ],
)
def test_things_that_are_no_parameters(parameters: Any, message: str) -> None:
    for make in (optim.Adam, optim.ExponentialMovingAverage):
        with pytest.raises(TypeError) as caught:
            make(parameters(leaf([1.0])))
        assert message in str(caught.value)


def test_a_parameter_that_changed_its_shape_is_refused() -> None:
    (p,) = leaves((2,))
    optimizer = optim.SGD([p])
    p.requires_grad = False
    p.data = np.ones(3)
    p.requires_grad = True
    with pytest.raises(ValueError, match=r"shape \(2,\).*shape \(3,\).*new optimizer"):
        optimizer.step()


# -- L-BFGS


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def minimize(loss: Any, parameters: list[Any], steps: int = 5, **options: Any) -> Any:
    optimizer = optim.LBFGS(parameters, **options)

    def closure() -> Any:
        optimizer.zero_grad()
        value = loss(*parameters)
        value.backward()
        return value

    return [optimizer.step(closure) for _ in range(steps)]


def test_lbfgs_finds_the_minimum() -> None:
    pytest.importorskip("scipy")
    p = leaf([-1.2, 1.0])
    first, *_, last = minimize(rosenbrock, [p], max_iter=50)
    assert_allclose(first.data, 24.2)
    assert last.item() < 1e-10
    assert_allclose(p.data, np.ones(2), rtol=1e-5)


def test_lbfgs_of_several_parameters_and_dtypes() -> None:
    pytest.importorskip("scipy")
    a, b, c = leaf([[1.0], [2.0]]), leaf(3.0, np.float32), leaf([5.0])
    minimize(lambda a, b, _c: np.sum((a - 1) ** 2) + (b - 2) ** 4, [a, b, c], max_iter=40)
    assert_allclose(a.data, [[1], [1]], atol=1e-3)
    assert_allclose(b.data, 2, atol=0.05)
    assert c.item() == 5
    assert (a.dtype, b.dtype) == (np.float64, np.float32)


def test_lbfgs_obeys_its_limits_and_leaves_parameters_after_an_error() -> None:
    pytest.importorskip("scipy")
    calls = []
    p = leaf([-1.2, 1.0])

    def loss(x: Any) -> Any:
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return rosenbrock(x)

    minimize(loss, [p], 1, max_iter=4)
    assert 4 <= len(calls) <= 6
    before = p.data.copy()
    with pytest.raises(KeyboardInterrupt):
        minimize(loss, [p], 1, max_iter=100)
    assert_array_equal(p.data, before)
    with pytest.raises(TypeError, match="closure"):
        optim.LBFGS([p]).step()


def test_lbfgs_by_default_evaluates_a_quarter_more_than_it_iterates() -> None:
    options = optim.LBFGS(leaves((2,)), max_iter=20).param_groups[0]
    assert (options["max_iter"], options["max_eval"]) == (20, 25)


def test_lbfgs_takes_no_gradient_of_an_earlier_evaluation() -> None:
    pytest.importorskip("scipy")
    p, q = leaf([1.0]), leaf([1.0])
    optimizer = optim.LBFGS([p, q], max_iter=1)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = np.sum((p - 3) ** 2 + (q - 3) ** 2)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert p.item() == q.item() > 1
    before = q.item()

    def closure_of_p() -> Any:
        optimizer.zero_grad()
        loss = np.sum((p + 3) ** 2)
        loss.backward()
        return loss

    optimizer.step(closure_of_p)
    assert p.item() < 1 and q.item() == before


def test_lbfgs_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['scipy'] = None; sys.modules['scipy.optimize'] = None\n"
        "import tensorgrad as tg; from tensorgrad import optim\n"
        "try: optim.LBFGS([tg.Tensor(1.0, requires_grad=True)]).step(lambda: 0)\n"
        "except ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "LBFGS needs scipy: python -m pip install scipy" in out.stdout


# -- schedules


def test_two_schedules_multiply_and_a_changed_rate_stays() -> None:
    optimizer = optim.SGD(leaves((2,)), lr=1.0)
    schedules = [optim.LinearLR(optimizer, 0.5, 1.0, 4), optim.ExponentialLR(optimizer, 0.9)]
    for t in range(1, 9):
        if t == 6:
            optimizer.param_groups[0]["lr"] *= 0.1
        for schedule in schedules:
            schedule.step()
        scale = min(0.5 + t / 8, 1) * 0.9**t * (0.1 if t >= 6 else 1)
        assert_allclose(optimizer.param_groups[0]["lr"], scale, rtol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_saved_schedule_continues(name: str) -> None:
    def made() -> tuple[Any, Any]:
        groups = [{"params": leaves((2,))}, {"params": leaves((2,)), "lr": 0.3}]
        optimizer = optim.SGD(groups, lr=0.1, momentum=0.9)
        return optimizer, SCHEDULES[name](optim, optimizer)

    def run(optimizer: Any, schedule: Any, steps: range) -> list[Any]:
        found = []
        for t in steps:
            plateau = isinstance(schedule, optim.ReduceLROnPlateau)
            schedule.step(*([tg.Tensor(float(t % 3))] if plateau else []))
            found.append([(g["lr"], g["momentum"]) for g in optimizer.param_groups])
        return found

    (optimizer, schedule), (other, twin) = made(), made()
    run(optimizer, schedule, range(17))
    state = copy.deepcopy((schedule.state_dict(), optimizer.state_dict()))
    expected = run(optimizer, schedule, range(17, 40))
    other.load_state_dict(state[1])
    twin.load_state_dict(state[0])
    assert run(other, twin, range(17, 40)) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: optim.StepLR(o, 0), "StepLR: step_size 0"),
        (lambda o: optim.LinearLR(o, 0.0), "LinearLR: start_factor 0.0"),
        (lambda o: optim.LinearLR(o, total_iters=0), "total_iters 0"),
        (lambda o: optim.CosineAnnealingLR(o, 0), "T_max 0"),
        (lambda o: optim.LambdaLR(o, [abs, abs]), "needs a function or 1"),
        (lambda o: optim.OneCycleLR(o, 1.0), "total_steps"),
        (lambda o: optim.OneCycleLR(o, 1.0, 10, pct_start=2.0), "pct_start 2.0"),
        (lambda o: optim.OneCycleLR(o, 1.0, 10, anneal_strategy="sin"), "'sin'"),
        (lambda o: optim.OneCycleLR(o, [1.0, 2.0], 10), "needs a max_lr or 1"),
        (lambda _: optim.OneCycleLR(optim.Adagrad(leaves((2,))), 1.0, 10), "cycle_momentum=False"),
        (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), "factor 1.0"),
        (lambda o: optim.ReduceLROnPlateau(o, "less"), "mode 'less'"),
        (lambda o: optim.ReduceLROnPlateau(o, threshold_mode="x"), "threshold_mode 'x'"),
        (lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)], [3]), "one milestone less"),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1) for _ in range(3)], [5, 3]),
            r"in ascending order, not \[5, 3\]",
        ),
        (
            lambda o: optim.SequentialLR(
                o, [optim.StepLR(o, 1), optim.StepLR(optim.SGD(leaves((1,))), 1)], [3]
            ),
            "of this optimizer",
        ),
        (
            lambda o: optim.SequentialLR(o, [chained(o), optim.StepLR(o, 1)], [3]),
            "pass all parts to one",
        ),
    ],
)
def test_bad_schedules_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(optim.SGD(leaves((2,)), momentum=0.9))


def chained(optimizer: Any) -> Any:
    parts = [optim.LinearLR(optimizer), optim.ExponentialLR(optimizer, 0.5)]
    return optim.SequentialLR(optimizer, parts, [2])


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (
            lambda o: optim.StepLR(o, 2),
            {"gama": 1},
            "the state of another schedule .* it has .*'gama'",
        ),
        (lambda o: optim.StepLR(o, 2), {"_last_lr": [1.0, 2.0]}, "a state of 2 groups"),
        (lambda o: optim.StepLR(o, 2), {"last_epoch": "x"}, "'x' is not a count of steps"),
        (optim.ReduceLROnPlateau, {"min_lrs": []}, "a state of 0 groups"),
        (optim.ReduceLROnPlateau, {"worst": 3}, "the state of another schedule"),
        (chained, {"schedulers": []}, "a state of 0 schedules, not of 2"),
        (chained, {"gamma": 3}, "SequentialLR: the state of another schedule"),
    ],
)
def test_a_state_that_is_not_the_schedules_changes_nothing(
    make: Any, change: Any, message: str
) -> None:
    optimizer = optim.SGD(leaves((2,)), lr=1.0)
    schedule = make(optimizer)
    before = schedule.state_dict()
    with pytest.raises(ValueError, match=message):
        schedule.load_state_dict(before | {"last_epoch": 7} | change)
    assert schedule.state_dict() == before


def test_a_chains_state_is_checked_to_the_last_part() -> None:
    schedule = chained(optim.SGD(leaves((2,)), lr=1.0))
    before, state = schedule.state_dict(), schedule.state_dict()
    state["last_epoch"] = state["schedulers"][0]["last_epoch"] = 5
    del state["schedulers"][1]["gamma"]
    with pytest.raises(ValueError, match="ExponentialLR: the state of another schedule"):
        schedule.load_state_dict(state)
    assert schedule.state_dict() == before


def test_a_plateaus_state_is_a_copy() -> None:
    schedule = optim.ReduceLROnPlateau(optim.SGD(leaves((2,))), min_lr=[0.1])
    state = schedule.state_dict()
    schedule.load_state_dict(state)
    state["min_lrs"][0] = 0.5
    assert schedule.min_lrs == [0.1]


def test_a_cycle_ends() -> None:
    schedule = optim.OneCycleLR(optim.SGD(leaves((2,)), momentum=0.9), 1.0, 3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(ValueError, match="total_steps=3"):
        schedule.step()


def test_a_cycle_can_start_at_its_peak() -> None:
    optimizer = optim.SGD(leaves((2,)), momentum=0.9)
    schedule = optim.OneCycleLR(optimizer, 2.0, 10, pct_start=0.1)
    assert schedule.get_last_lr() == [2.0]
    assert optimizer.param_groups[0]["momentum"] == 0.85
    schedule.step()
    assert 1.8 < schedule.get_last_lr()[0] < 2


def added(make: Any, before: int = 3, after: int = 4) -> list[Any]:
    """Both groups' rates at each step after a second group was added, with the rate 0.5."""
    optimizer = optim.SGD(leaves((2,)), lr=1.0, momentum=0.9)
    schedule = make(optimizer)
    for _ in range(before):
        schedule.step()
    optimizer.add_param_group({"params": leaves((3,)), "lr": 0.5})
    found = []
    for _ in range(after):
        schedule.step()
        found.append([group["lr"] for group in optimizer.param_groups])
    assert schedule.get_last_lr() == found[-1]
    assert len({group["momentum"] for group in optimizer.param_groups}) == 1
    return found


def half_cosine(t: int) -> float:
    return float((1 + np.cos(np.pi * t / 10)) / 2)


LATER: list[Any] = [  # a schedule, and the rate at step t as a part of the one at step 3
    (lambda o: optim.LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: 4 / (1 + t)),
    (lambda o: optim.StepLR(o, 2, 0.5), lambda t: 0.5 ** (t // 2 - 1)),
    (lambda o: optim.MultiStepLR(o, [2, 5], 0.5), lambda t: 0.5 if t >= 5 else 1.0),
    (lambda o: optim.ExponentialLR(o, 0.9), lambda t: 0.9 ** (t - 3)),
    (lambda o: optim.LinearLR(o, 0.1, 1.0, 6), lambda t: min(0.1 + 0.15 * t, 1) / 0.55),
    (lambda o: optim.CosineAnnealingLR(o, 10), lambda t: half_cosine(t) / half_cosine(3)),
    (
        lambda o: optim.SequentialLR(
            o, [optim.ExponentialLR(o, 0.9), optim.CosineAnnealingLR(o, 10)], [5]
        ),
        lambda t: (0.9**t if t < 5 else half_cosine(t - 5)) / 0.9**3,
    ),
]


@pytest.mark.parametrize(("make", "part"), LATER)
def test_a_group_added_later_joins_in_from_its_rate(make: Any, part: Any) -> None:
    steps = range(4, 8)
    found = np.array(added(make))
    assert_allclose(found[:, 1], [0.5 * part(t) for t in steps], rtol=1e-12)
    assert_allclose(found[:, 0] / found[0, 0], [part(t) / part(4) for t in steps], rtol=1e-12)


def test_a_group_added_later_has_the_cosines_least_rate() -> None:
    found = added(lambda o: optim.CosineAnnealingLR(o, 7, eta_min=0.25))
    assert_allclose(found[-1], [0.25, 0.25])


def test_a_group_added_later_has_the_cycles_rates_and_momentum() -> None:
    for make in (
        lambda o: optim.OneCycleLR(o, 2.0, 9),
        lambda o: optim.SequentialLR(o, [optim.StepLR(o, 9), optim.OneCycleLR(o, 2.0, 9)], [5]),
    ):
        rates = added(make)[-1]
        assert rates[0] == rates[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: optim.LambdaLR(o, [abs, abs]),
        lambda o: optim.OneCycleLR(o, [1.0, 2.0], 10),
        lambda o: optim.ReduceLROnPlateau(o, patience=0, min_lr=[0.1, 0.2]),
    ],
)
def test_lists_of_one_for_each_group_do_not_hold_for_a_group_added_later(make: Any) -> None:
    optimizer = optim.SGD([{"params": leaves((2,))}, {"params": leaves((2,))}], momentum=0.9)
    schedule = make(optimizer)
    optimizer.add_param_group({"params": leaves((3,))})
    state, rates = schedule.state_dict(), [group["lr"] for group in optimizer.param_groups]
    with pytest.raises(ValueError, match=r"2 of \w+ for 3 groups"):
        for value in (1.0, 2.0):
            schedule.step(*([value] if "best" in state else []))
    assert rates == [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("best", [-8.0, 8.0, 0.0])
def test_better_is_by_a_part_of_the_absolute_value(
    best: float, mode: Any, threshold_mode: Any
) -> None:
    margin = 0.125 * (abs(best) if threshold_mode == "rel" else 1)
    sign = 1 if mode == "min" else -1
    for value, bad in (
        (best, 1),
        (best - sign * margin, 1),
        (best - sign * (margin + 0.01), 0),
        (best + sign, 1),
    ):
        schedule = optim.ReduceLROnPlateau(
            optim.SGD(leaves((2,))), mode, threshold=0.125, threshold_mode=threshold_mode
        )
        schedule.step(best)
        assert schedule.best == best
        schedule.step(value)
        assert schedule.num_bad_epochs == bad, value


def test_a_plateau_makes_no_reduction_of_eps_or_less() -> None:
    for eps, expected in (0.5, 1.0), (0.25, 0.5):
        optimizer = optim.SGD(leaves((2,)), lr=1.0)
        schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, eps=eps)
        for _ in range(2):
            schedule.step(1.0)
        assert optimizer.param_groups[0]["lr"] == expected


def test_a_plateau_lowers_a_group_added_later() -> None:
    optimizer = optim.SGD(leaves((2,)), lr=1.0)
    schedule = optim.ReduceLROnPlateau(optimizer, patience=0, min_lr=0.02)
    optimizer.add_param_group({"params": leaves((3,)), "lr": 0.5})
    for value in (-1.0, -1.0, -1.0, -1.0):
        schedule.step(value)
    assert_allclose(schedule.get_last_lr(), [0.02, 0.02])


def test_a_schedule_says_so_where_groups_were_removed() -> None:
    optimizer = optim.SGD([{"params": leaves((2,))}, {"params": leaves((2,))}])
    schedule = optim.StepLR(optimizer, 1)
    del optimizer.param_groups[1]
    with pytest.raises(ValueError, match="1 groups are left of 2"):
        schedule.step()


def test_an_average_goes_on_where_its_parameter_joins_a_group_later() -> None:
    first, second = leaves((2,)), leaves((3,))
    optimizer = optim.SGD(first, lr=1.0)
    average = optim.ExponentialMovingAverage([*first, *second], decay=0.5)
    optimizer.add_param_group({"params": second})
    second[0].data += 2.0
    average.update()
    with average.applied():
        assert_allclose(second[0].data, leaves((3,))[0].data + 1)


# -- clipping


@pytest.mark.parametrize("norm_type", [1, 2.0, 3, np.inf])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 100.0])
def test_clip_grad_norm(norm_type: float, max_norm: float) -> None:
    ps = [*leaves((3, 2), (), (0,)), *leaves((4,), dtype=np.float32), leaf([1.0])]
    set_gradients(ps[:-1], np.random.default_rng(0))
    together = np.concatenate([p.grad for p in ps[:-1]], axis=None)
    norm = np.sum(np.abs(together) ** norm_type) ** (1 / norm_type)
    norm = norm if norm_type < np.inf else np.abs(together).max()
    expected = together * min(max_norm / (norm + 1e-6), 1)
    got = optim.clip_grad_norm([*ps, ps[0]], max_norm, norm_type)
    assert type(got) is float
    assert_allclose(got, norm, rtol=1e-6)
    clipped = np.concatenate([p.grad for p in ps[:-1]], axis=None)
    assert_allclose(clipped, expected, rtol=1e-6)
    assert ps[3].grad.dtype == np.float32
    assert ps[-1].grad is None
    if max_norm == 100:
        assert_array_equal(clipped, together)


def test_the_norm_of_zeros_is_clipped() -> None:
    p = leaf([1.0, 2.0])
    p.grad = [0.0, 0.0]
    assert optim.clip_grad_norm([p], 1.0) == 0
    assert_array_equal(p.grad, [0, 0])


def test_clip_grad_norm_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    ps = leaves((3, 2), (4,))
    set_gradients(ps, np.random.default_rng(0))
    qs = [torch.tensor(p.data, requires_grad=True) for p in ps]
    for p, q in zip(ps, qs):
        q.grad = torch.tensor(p.grad)
    for norm_type in 1, 2.0, 3, np.inf:
        expected = torch.nn.utils.clip_grad_norm_(qs, 0.5, norm_type)
        assert_allclose(optim.clip_grad_norm(ps, 0.5, norm_type), expected.item(), rtol=1e-12)
        for p, q in zip(ps, qs):
            assert_allclose(p.grad, q.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_norm_that_is_not_finite_raises_and_changes_nothing(bad: float) -> None:
    p, q = leaves((2,), (2,))
    p.grad, q.grad = [1.0, 2.0], [bad, 3.0]
    with pytest.raises(FloatingPointError, match="error_if_nonfinite=False"):
        optim.clip_grad_norm([p, q], 1.0)
    assert_array_equal(p.grad, [1, 2])
    assert_array_equal(q.grad, [bad, 3])
    with np.errstate(invalid="ignore"):
        norm = optim.clip_grad_norm([p, q], 1.0, error_if_nonfinite=False)
    assert not np.isfinite(norm)
    assert_array_equal(p.grad, [0, 0] if np.isinf(bad) else [np.nan, np.nan])


def test_squares_beyond_float32_are_finite() -> None:
    p = leaf([0.0, 0.0], np.float32)
    p.grad = [3e30, 4e30]
    assert_allclose(optim.clip_grad_norm(p, 1.0), 5e30, rtol=1e-6)
    assert_allclose(p.grad, [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("order", [2.0, 3.0])
def test_squares_beyond_float64_are_finite(order: float) -> None:
    (p,) = leaves((2,))
    p.grad = [1e200, 1e200]
    assert_allclose(optim.clip_grad_norm([p], 1.0, order), 1e200 * 2 ** (1 / order))
    assert_allclose(p.grad, [0.5 ** (1 / order)] * 2)


def test_clipping_without_gradients_and_bad_bounds() -> None:
    p = leaf([1.0])
    assert optim.clip_grad_norm([p], 1.0) == optim.clip_grad_norm([], 1.0) == 0
    optim.clip_grad_value([p], 1.0)
    for call in (
        lambda: optim.clip_grad_norm([p], -1.0),
        lambda: optim.clip_grad_norm([p], 1.0, 0),
        lambda: optim.clip_grad_norm([p], np.nan),
        lambda: optim.clip_grad_value([p], -1.0),
        lambda: optim.clip_grad_value([p], np.nan),
    ):
        with pytest.raises(ValueError, match="must"):
            call()


def test_clip_grad_value() -> None:
    p, q, r = leaf([0.0, 0.0, 0.0]), leaf(0.0, np.float32), leaf([1.0])
    p.grad, q.grad = [-5.0, 0.5, np.nan], 7.0
    optim.clip_grad_value([p, q, r, p], 2.0)
    assert_array_equal(p.grad, [-2, 0.5, np.nan])
    assert q.grad == 2
    assert q.grad.dtype == np.float32
    assert r.grad is None


# -- averages


def test_an_average_without_memory_is_the_weights() -> None:
    (p,) = leaves((2,))
    average = optim.ExponentialMovingAverage([p], decay=0)
    p.data = [3.0, 5.0]
    average.update()
    with average.applied():
        assert_array_equal(p.data, [3, 5])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_of_an_average_follows_the_copy_of_the_weights(copied: Any) -> None:
    (p,) = leaves((2,))
    average = optim.ExponentialMovingAverage([p], decay=0.5)
    average.decay = 0.25
    start = p.data.copy()
    q, other = copied((p, average))
    q.data = [3.0, 5.0]
    other.update()
    assert_allclose(other.state_dict()["average"][0], 0.25 * start + 0.75 * np.array([3.0, 5.0]))
    assert_array_equal(average.state_dict()["average"][0], start)


def test_an_average_refuses_a_decay_out_of_its_range_and_keeps_its_own() -> None:
    average = optim.ExponentialMovingAverage(leaves((2,)), decay=0.5)
    with pytest.raises(ValueError, match=r"decay 1\.5 is not between 0 and 1"):
        average.decay = 1.5
    assert average.decay == 0.5


def test_an_average_of_float16_moves_by_less_than_a_rounding() -> None:
    p = leaf([1.0], np.float16)
    average = optim.ExponentialMovingAverage([p], decay=0.9999)
    p.data = [2.0]
    for _ in range(100):
        average.update()
    assert_allclose(average.state_dict()["average"], [[2 - 0.9999**100]], rtol=1e-6)


def test_an_average_follows_the_weights() -> None:
    ps = leaves((3, 2), ()) + leaves((4,), dtype=np.float32) + leaves((0,), dtype=np.float16)
    average = optim.ExponentialMovingAverage(ps, decay=0.8)
    expected = [p.data.astype(float) for p in ps]
    optimizer = optim.Adam(ps, lr=0.1)
    rng = np.random.default_rng(0)
    for _ in range(10):
        train(optimizer, ps, rng, 1)
        average.update()
        expected = [0.8 * e + 0.2 * p.data for e, p in zip(expected, ps)]
    weights = [p.data.copy() for p in ps]
    with pytest.raises(KeyError), average.applied():
        for p, e in zip(ps, expected):
            assert_allclose(p.data, e, rtol=1e-5)
            assert p.dtype in (float, np.float32, np.float16)
        raise KeyError
    for p, w in zip(ps, weights):
        assert_array_equal(p.data, w)

    other = optim.ExponentialMovingAverage(ps)
    other.load_state_dict(pickle.loads(pickle.dumps(average.state_dict())))
    assert other.decay == 0.8
    for a in average, other:
        train(optimizer, ps, np.random.default_rng(1), 1)
        for p, w in zip(ps, weights):
            p.data = w
        a.update()
    average.copy_to()
    copied = [p.data.copy() for p in ps]
    other.copy_to()
    for p, c in zip(ps, copied):
        assert_array_equal(p.data, c)
    train(optimizer, ps, rng, 1)  # goes on in the vector
    with pytest.raises(ValueError, match="shapes"):
        other.load_state_dict({"decay": 0.5, "average": copied[:-1]})
