"""Biases folded into products, and small arrays that lie by columns: what comes of it, and when."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tensorgrad as tg
from tensorgrad import nn, optim
from tensorgrad.compiler.passes import bias_folding, horizontal_fusion, layout_assignment

from .depth import one_in
from .oracles import assert_same, leaf
from .test_compile_training import BATCH, Net, Training, assert_steps_agree, plans, twins

pytestmark = pytest.mark.numpy_program


class Layers(nn.Module):
    """Linear layers of these widths; `body` computes the output with them."""

    def __init__(self, widths: tuple[int, ...], body: Callable[..., Any], rng: Any) -> None:
        self.layers = [nn.Linear(a, b, rng=rng) for a, b in itertools.pairwise(widths)]
        self.body = body

    def __call__(self, x: Any) -> Any:
        return self.body(x, *self.layers)


def net(widths: tuple[int, ...], body: Callable[..., Any], width: int | None = None) -> Net:
    """Of inputs of a `width`, or the first one of the layers."""
    return Net(lambda rng: Layers(widths, body, rng), (width or widths[0],))


def in_turn(activation: Callable[..., Any]) -> Callable[..., Any]:
    """A body of layers one after the other, with an activation between them."""

    def body(x: Any, *layers: Any) -> Any:
        for layer in layers[:-1]:
            x = activation(layer(x))
        return layers[-1](x)

    return body


def lines(network: Net) -> list[str]:
    """The calls of a step of a network."""
    training = Training(network)
    plan = tg.compile(training.step).lower(*training.batch(0))
    return [line for step in plan.steps for line in step.lines]


def additions(network: Net) -> int:
    """How often a step adds something, as a bias to a product."""
    return sum(line.startswith("add(") for line in lines(network))


SMALL = 4, 5, 5, 3

# -- which calls are left


@pytest.mark.parametrize("activation", [np.tanh, nn.relu, nn.sigmoid, lambda h: h])
def test_no_bias_is_added_and_none_summed(activation: Any) -> None:
    calls = lines(net(SMALL, in_turn(activation)))
    assert sum("dot(" in line for line in calls) == 3 + 3 + 2 + 1  # with the loss
    assert additions(net(SMALL, in_turn(np.tanh))) == 0


@pytest.mark.parametrize(
    ("file", "name", "limit", "added"),
    [
        (layout_assignment, "SMALL", BATCH * 5, 0),
        (layout_assignment, "SMALL", BATCH * 5 - 1, 2),  # only the argument has ones behind it
        (bias_folding, "COPIED", BATCH * 4, 0),
        (bias_folding, "COPIED", BATCH * 4 - 1, 1),
    ],
)
def test_what_is_larger_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, file: Any, name: str, limit: int, added: int
) -> None:
    monkeypatch.setattr(file, name, limit)
    network = net(SMALL, in_turn(np.tanh))
    assert additions(network) == added
    assert_steps_agree(*twins(network))


def test_an_argument_wider_than_the_layer_is_not_copied() -> None:
    assert additions(net((6, 5, 3), in_turn(np.tanh))) == 1


@pytest.mark.parametrize("few", [3, 4])
def test_few_columns_are_copied_in_either_order(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(bias_folding, "FEW", few)
    assert_steps_agree(*twins(net(SMALL, in_turn(np.tanh))))


@pytest.mark.parametrize("widths", [SMALL, (1, 1, 1, 3), (4, 1, 7, 3), (20, 17, 3)])
@pytest.mark.parametrize("activation", [np.tanh, nn.relu])
def test_gradients_are_made_where_the_optimizer_keeps_them(widths: Any, activation: Any) -> None:
    training = Training(net(widths, in_turn(activation)))
    step = tg.compile(training.step)
    for i in range(2):
        step(*training.batch(i))
    (flat,) = training.optimizer._flats[0]
    for p, (_, _, view) in zip(training.trained, flat._members, strict=True):
        assert (p.grad.ctypes.data, p.grad.shape) == (view.ctypes.data, view.shape)
        assert np.shares_memory(p.grad, flat.grad)


# -- the ones behind arrays


def test_ones_stay_whatever_lies_before_them() -> None:
    eager, compiled = twins(net(SMALL, in_turn(np.tanh)))
    step = tg.compile(compiled.step)
    for i in range(6):
        x, t = eager.batch(i)
        if i in (2, 3):
            x[1:3] = np.nan, np.inf, -np.inf, 0
            start = eager.model.state_dict()
            with np.errstate(all="ignore"):
                assert_same(step(x, t), eager.step(x, t), f"result {i} ")
            for training in eager, compiled:
                training.model.load_state_dict(start)
        else:
            assert_same(step(x, t), eager.step(x, t), f"result {i} ")
            assert_same(compiled.everything(), eager.everything(), f"after step {i} ")


@pytest.mark.parametrize("slope", [np.log, np.reciprocal, lambda a: a**-1.5, lambda a: a / a])
def test_slopes_that_are_singular_at_one_warn_of_nothing(slope: Any) -> None:
    """Calls that are bundled go through the ones, too; warnings are errors in all tests."""

    @tg.differentiable(lambda g, h, _z: g * slope(1 - h))
    def activation(z: Any) -> Any:
        return 0.5 * np.tanh(z)

    assert_steps_agree(*twins(net(SMALL, in_turn(activation))))


# -- networks that are none of layers one after the other

BODIES: dict[str, Callable[..., Any]] = {
    "part of an argument": lambda x, f, g: g(np.tanh(f(x[:, 1:4]))),
    "argument in reverse": lambda x, f, g: g(np.tanh(f(x[::-1, 2::-1]))),
    "argument used twice": lambda x, f, g: g(np.tanh(f(x[:, :3]))) + np.sum(x[:, 1:4]),
    "layer twice": lambda x, f, g: g(np.tanh(f(np.tanh(f(x[:, :3])[:, :3])))),
    "two heads": lambda x, f, g: g(h := np.tanh(f(x[:, :3]))) * g(h * h),
    "residual": lambda x, f, g: g((h := np.tanh(f(x[:, :3]))) + np.tanh(h)) + h[:, :1],
    "transposed": lambda x, f, g: g(h := np.tanh(f(x[:, :3]))) + np.sum(h.T.T * 2.0 * h),
    "reshaped": lambda x, f, g: g(h := np.tanh(f(x[:, :3]))) + np.sum(h.reshape(-1)[::2] ** 3),
    "softmax": lambda x, f, g: g(h := f(x[:, :3])) + nn.softmax(h) @ nn.softmax(h.T)[:, :1],
    "sorted": lambda x, f, g: g(h := np.tanh(f(x[:, :3]))) + np.cumsum(np.sort(h, 0), 1)[:, :1],
    "one dimension more": lambda x, f, g: g(
        np.squeeze((h := np.tanh(f(x[:, :3])))[:, None], 1) + h
    ),
    "without an activation": lambda x, f, g: g(f(x[:, :3])),
    "split": lambda x, f, g: g(np.split(np.tanh(f(x[:, :3])), indices_or_sections=1, axis=0)[0]),
}


@pytest.mark.parametrize("width", one_in(2, [5, 1]))
@pytest.mark.parametrize("body", BODIES)
def test_bodies(body: str, width: int) -> None:
    if body == "layer twice":
        width = 3
    eager, compiled = twins(net((3, width, 3), BODIES[body], 4))
    assert_steps_agree(eager, compiled)
    predict = tg.compile(lambda x: compiled.model(x))  # without a gradient, more lies by columns
    for i in range(3):
        x, _ = eager.batch(i)
        assert_same(predict(x), eager.model(x))


@pytest.mark.parametrize(
    "view",
    [
        lambda h: np.expand_dims(h, axis=0),
        lambda h: np.transpose(h, axes=(1, 0)),
        lambda h: np.reshape(h, (-1,), order="F"),
        lambda h: np.ravel(h, order="K"),
        lambda h: np.moveaxis(h, source=0, destination=1),
        lambda h: np.diagonal(h, axis1=1, axis2=0),
        lambda h: np.split(h, indices_or_sections=1, axis=0)[0],
    ],
)
def test_views_of_single_columns(view: Any) -> None:
    """These lie as they did, with ones behind them; options of calls that view them count."""

    def body(x: Any, f: Any, g: Any, last: Any) -> Any:
        h = np.tanh(f(x))
        k = np.tanh(g(h))
        return last(k) + np.mean(view(h) ** 3) + np.mean(view(k) ** 3)

    assert_steps_agree(*twins(net((1, 1, 1, 3), body)))


@pytest.mark.parametrize(
    "options",
    [{}, {"where": np.arange(6)[:, None] > 2}, {"where": False}, {"initial": 1.0}],
)
def test_only_a_sum_of_all_rows_is_the_gradient_of_a_bias(options: dict[str, Any]) -> None:
    @tg.differentiable(
        lambda g, _z, _x, w, _b: g @ w,
        lambda g, _z, x, _w, _b: np.matmul(g.mT, x, order="F"),
        lambda g, _z, _x, _w, _b: np.add.reduce(g, axis=0, **options),
    )
    def layer(x: Any, w: Any, b: Any) -> Any:
        return np.inner(x, w) + b

    runs = []
    for way in (lambda f: f), tg.compile:
        w, b = leaf(np.ones((4, 3), order="F")), leaf(np.ones(4))
        optimizer = optim.SGD([w, b], lr=0.1)

        @way
        def step(x: Any, w: Any = w, b: Any = b, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            np.mean(np.tanh(layer(x, w, b))).backward()
            optimizer.step()

        for i in range(3):
            step(np.random.default_rng(i).normal(size=(6, 3)))
        runs.append([w.data, b.data, w.grad, b.grad])
    assert_same(runs[1], runs[0])


def parameters_in_a_row(*widths: int) -> tuple[list[Any], Any]:
    """Weights that are to be on the right of products, and biases, of one optimizer."""
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=ab), rng.normal(size=ab[1])) for ab in itertools.pairwise(widths)]
    found = [leaf(a) for pair in pairs for a in pair]
    return found, optim.SGD(found, lr=0.1)


def assert_results_agree(make: Callable[[], Callable[..., Any]]) -> None:
    """Of a function that is made for each way, in some calls."""
    eager, compiled = make(), tg.compile(make())
    for i in range(3):
        x = np.random.default_rng(i).normal(size=(6, 3))
        assert_same(compiled(x), eager(x), f"result {i} ")


def test_a_product_that_is_used_elsewhere_too() -> None:
    def make() -> Any:
        (w, b), _ = parameters_in_a_row(3, 4)
        return lambda x: ((y := x @ w) + b, y)

    assert_results_agree(make)


def test_weights_that_change_between_product_and_sum() -> None:
    def make() -> Any:
        (w, b), optimizer = parameters_in_a_row(3, 4)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            np.mean((x @ w + b) ** 2).backward()
            y = x[:, ::-1] @ w.data
            optimizer.step()
            return y + b.data

        return step

    assert_results_agree(make)


def test_an_array_that_is_written_to_between_layers() -> None:
    def make() -> Any:
        (w, b, v, c), _ = parameters_in_a_row(3, 4, 2)

        def predict(x: Any) -> Any:
            h = np.tanh(x @ w.data + b.data)
            y = h @ v.data + c.data
            h[1] = 0
            return y, h @ v.data + c.data

        return predict

    assert_results_agree(make)


# -- all of it at once: random programs of layers of one width

WIDTHS = [1, 2, 4]

# Each keeps the shape and the scale; h is a value, k another one or the same.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "tanh": lambda h, _k: np.tanh(h),
    "softplus": lambda h, _k: nn.softplus(h) - 1,
    "gelu": lambda h, _k: nn.gelu(h),
    "sine of square": lambda h, _k: np.sin(h * h),
    "mean": lambda h, k: (h + k) * 0.5,
    "product": lambda h, k: np.tanh(h * k),
    "where": lambda h, k: np.where(np.arange(h.shape[1]) % 2 == 0, h, k),
    "softmax": lambda h, _k: nn.softmax(h),
    "softmax over the batch": lambda h, k: nn.softmax(h, axis=0) * k,
    "centred": lambda h, k: np.tanh(h - np.mean(k, axis=0)),
    "norm of rows": lambda h, k: h / (1 + np.sqrt(np.sum(k * k, axis=1, keepdims=True) + 1)),
    "transposed": lambda h, k: (h.T * 0.5 + np.tanh(k).T).T * 0.5,
    "in reverse": lambda h, k: h[::-1] * 0.5 + k[:, ::-1] * 0.5,
    "joined": lambda h, k: np.concatenate([h[:, :1], k[:, 1:]], axis=1),
    "reshaped": lambda h, _k: h.reshape(-1)[::-1].reshape(h.shape),
    "correlated": lambda h, k: np.tanh(h @ (k.T @ h)),
}
LAYERS = ["f", "g", "relu f", "leaky g", "dropout", "clipped f"]


class Program(nn.Module):
    """Values computed one after the other, each from two of the last ones; the first is `x`."""

    def __init__(self, width: int, steps: list[tuple[str, int, int]], rng: Any) -> None:
        self.steps = tuple(steps)
        self.f, self.g = nn.Linear(width, width, rng=rng), nn.Linear(width, width, rng=rng)
        self.head = nn.Linear(width, 3, rng=rng)
        self.dropout = nn.Dropout(0.25, rng=1)

    def values(self, x: Any) -> list[Any]:
        """All of them."""
        found = [x]
        for name, i, k in self.steps:
            found.append(self.apply(name, found[-1 - i % len(found)], found[-1 - k % len(found)]))
        return found

    def apply(self, name: str, h: Any, k: Any) -> Any:
        """One of them."""
        # Functions with kinks are of what no rounding takes from one side to the other.
        layers: dict[str, Callable[[], Any]] = {
            "f": lambda: self.f(h), "g": lambda: self.g(h), "dropout": lambda: self.dropout(h),
            "relu f": lambda: nn.relu(self.f(h)), "leaky g": lambda: nn.leaky_relu(self.g(h)),
            "clipped f": lambda: np.clip(self.f(h), -0.5, 0.25),
        }  # fmt: skip
        return OPERATIONS[name](h, k) if name in OPERATIONS else layers[name]()


class Run(Training):
    """A training of a random program, whose steps return some of its values, too."""

    def __init__(self, given: list[int], again: bool, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.given = given
        self.again = again

    def step(self, x: Any, t: Any) -> Any:
        values = self.model.values(x)
        loss = self.loss(self.model.head(values[-1]), t)
        if not self.accumulate:
            self.optimizer.zero_grad()
        loss.backward()
        norm = self.clip(self.trained) if self.clip else None
        self.optimizer.step()
        after = self.model.head(self.model.values(x)[-1]) if self.again else None
        return loss, norm, after, [values[i % len(values)] for i in self.given]


@given(
    width=st.sampled_from(WIDTHS),
    steps=st.lists(
        st.tuples(
            st.sampled_from([*LAYERS, *OPERATIONS]) | st.sampled_from(LAYERS),
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        max_size=9,
    ),
    samples=st.sampled_from([1, 2, 5]),
    given=st.lists(st.integers(0, 9), max_size=2),
    again=st.booleans(),
    limits=st.tuples(*[st.sampled_from([0, 3, 9, 1 << 14])] * 3),
    options=st.fixed_dictionaries({
        "optimizer": st.sampled_from(["SGD", "SGD momentum", "SGD nesterov"]),
        "clip": st.sampled_from([None, None, "norm", "value"]),
        "accumulate": st.booleans(),
        "frozen": st.booleans(),
        "groups": st.booleans(),
        "dtype": st.sampled_from([np.float64, np.float32]),
        "seed": st.integers(0, 9),
    }),
)  # fmt: skip
def test_random_programs(
    width: int,
    steps: list[tuple[str, int, int]],
    samples: int,
    given: list[int],
    again: bool,
    limits: tuple[int, int, int],
    options: dict[str, Any],
) -> None:
    network = Net(lambda rng: Program(width, steps, rng), (width,))
    eager, compiled = (Run(given, again, network, **options) for _ in range(2))
    step = tg.compile(compiled.step)
    small, copied, bundle = limits
    with (
        mock.patch.object(layout_assignment, "SMALL", small),
        mock.patch.object(bias_folding, "COPIED", copied),
        mock.patch.object(horizontal_fusion, "SMALL", bundle),
    ):
        for i in range(3):
            x, t = (a[:samples] for a in eager.batch(i))
            assert_same(step(x, t), eager.step(x, t), "", 1 << 20, 1.0)
            assert_same(compiled.everything(), eager.everything(), "", 1 << 20, 1.0)
    assert plans(step) in (1, 2)
