"""The scalar engine: against mathematics, and exactly."""

import gc
import math
import pickle
import random
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from pytest import approx

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.scalar import ACTIVATIONS, MLP, Layer, Neuron, Value

from .depth import DEEP
from .test_programs import Dual


def gradients(f: Callable[..., Any], *args: Any) -> tuple[Any, list[Any]]:
    values = [Value(a) for a in args]
    out = f(*values)
    out.backward()
    return out.data, [v.grad for v in values]


# -- operations

# Two ways to the same function of positive numbers.
IDENTITIES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (lambda x, y: x + y, lambda x, y: y + x),
    "subtract": (lambda x, y: x - y, lambda x, y: x + (-1) * y),
    "negative": (lambda x, y: -x * y, lambda x, y: (0 - x) * y),
    "multiply": (lambda x, y: x * y, lambda x, y: (x.log() + y.log()).exp()),
    "divide": (lambda x, y: x / y, lambda x, y: x * y**-1),
    "power": (lambda x, y: x**y, lambda x, y: (y * x.log()).exp()),
    "square": (lambda x, y: x**2 * y, lambda x, y: x * x * y),
    "root": (lambda x, y: x**0.5 * y, lambda x, y: (x * y * y) ** 0.5),
    "reflected add": (lambda x, y: 3 + x * y, lambda x, y: x * y + 3),
    "reflected subtract": (lambda x, y: 3 - x * y, lambda x, y: -(x * y - 3)),
    "reflected multiply": (lambda x, y: 3 * x * y, lambda x, y: x * y + x * y + x * y),
    "reflected divide": (lambda x, y: 3 / x / y, lambda x, y: (x * y / 3) ** -1),
    "reflected power": (lambda x, y: 3**x * y, lambda x, y: (x * math.log(3)).exp() * y),
    "exp, log": (lambda x, y: x.log().exp() * y, lambda x, y: x * y),
    "tanh": (
        lambda x, y: (x - y).tanh(),
        lambda x, y: 1 - 2 / ((2 * (x - y)).exp() + 1),
    ),
    "sigmoid": (
        lambda x, y: (x - y).sigmoid(),
        lambda x, y: ((x - y) / 2).tanh() / 2 + 0.5,
    ),
    "relu": (
        lambda x, y: (x - 2 * y).relu() - (2 * y - x).relu(),
        lambda x, y: x - y - y,
    ),
}


@pytest.mark.parametrize("name", IDENTITIES)
@given(x=st.floats(0.1, 4), y=st.floats(0.1, 4).map(lambda y: y + 1e-3))
def test_identities_hold_for_values_and_derivatives(name: str, x: float, y: float) -> None:
    left, right = (gradients(f, x, y) for f in IDENTITIES[name])
    kink = name == "relu" and x == 2 * y
    assert left[0] == approx(right[0], rel=1e-9, abs=1e-9)
    assert kink or left[1] == approx(right[1], rel=1e-9, abs=1e-9)


def test_a_first_session() -> None:
    a, b = Value(-4.0), Value(2.0)
    c = (a + b) ** 2 + a * b + b**3
    d = (c * 0.5 - a / b).relu() + 10.0 / c
    d.backward()
    # c = 4, d = 2 + 2 + 2.5; dd/dc = 0.5 - 10/16; dc/da = 2(a + b) + b, dc/db = 2(a + b) + a + 3bb
    assert (c.data, d.data) == (4.0, 6.5)
    assert (d.grad, c.grad) == (1, -0.125)
    assert (a.grad, b.grad) == (-0.125 * -2 - 0.5, -0.125 * 4 - 1.0)


@pytest.mark.parametrize(
    ("f", "args", "value", "slopes"),
    [
        (lambda x: x**0, [0.0], 1, [0]),
        (lambda x: x**1, [0.0], 0, [1]),
        (lambda x: x**2, [0.0], 0, [0]),
        (lambda x, p: x**p, [0.0, 2.0], 0, [0, 0]),
        (lambda x, p: x**p, [0.0, 0.0], 1, [0, 0]),
        (lambda x, p: x**p, [-2.0, 3.0], -8, [12, math.nan]),
        (lambda x: x.relu(), [0.0], 0, [0]),
        (lambda x: x.relu(), [-1.0], 0, [0]),
        (lambda x: x.relu(), [-math.inf], 0, [0]),
        (lambda x: x.relu(), [math.inf], math.inf, [1]),
        (lambda x: x.sigmoid(), [1000.0], 1, [0]),
        (lambda x: x.sigmoid(), [-1000.0], 0, [0]),
        (lambda x: x.sigmoid(), [-100.0], math.exp(-100), [math.exp(-100)]),
        (lambda x, y: x / y, [1e-200, 1e-200], 1, [1e200, -1e200]),
    ],
)
def test_special_points(f: Any, args: list[float], value: float, slopes: list[float]) -> None:
    assert gradients(f, *args) == (
        approx(value, rel=1e-15),
        [approx(s, nan_ok=True) for s in slopes],
    )


def test_results_are_of_the_type_of_the_numbers() -> None:
    third = Fraction(1, 3)
    for f in (
        lambda x: x + 1, lambda x: 1 - x, lambda x: 2 * x, lambda x: x / 2, lambda x: 2 / x,
        lambda x: x**-3, lambda x: x**0, lambda x: -x, lambda x: x.relu(), lambda x: (-x).relu(),
    ):  # fmt: skip
        out, (grad,) = gradients(f, third)
        assert type(out) is Fraction
        assert isinstance(grad, (Fraction, int))
    assert gradients(lambda x: x / 3, third) == (Fraction(1, 9), [third])
    assert gradients(lambda x: 2 / x, third) == (6, [-18])
    assert gradients(lambda x: x**-3, third) == (27, [-243])


def test_other_operands_are_refused_or_asked() -> None:
    x = Value(2.0)
    for bad in ("1", None, [1.0], tg.Tensor([1.0, 2.0])):
        with pytest.raises(TypeError):
            x * bad
        with pytest.raises(TypeError):
            bad - x


# -- NumPy runs on values


def test_numpy_functions_call_the_methods() -> None:
    for f, method in ((np.tanh, Value.tanh), (np.exp, Value.exp), (np.log, Value.log)):
        assert gradients(f, 0.5) == gradients(method, 0.5)
    assert gradients(np.square, 3.0) == (9.0, [6.0])


def test_values_in_arrays() -> None:
    w = np.array([[Value(1.0), Value(-2.0)], [Value(0.5), Value(0.0)]])
    out = np.sum(np.tanh(w @ np.array([0.1, 0.3])) * np.array([1.0, 2.0]))
    out.backward()
    tensor = tg.Tensor([[1.0, -2.0], [0.5, 0.0]], requires_grad=True)
    expected = np.sum(np.tanh(tensor @ np.array([0.1, 0.3])) * np.array([1.0, 2.0]))
    expected.backward()
    assert out.data == approx(expected.item())
    assert [v.grad for v in w.flat] == approx(tensor.grad.ravel().tolist())


@pytest.mark.parametrize("two", [np.float64(2), np.float32(2), np.int64(2), np.array(2.0)])
def test_numpy_numbers_as_operands(two: Any) -> None:
    for f in (lambda x: x * two, lambda x: two * x):
        x = Value(3.0)
        out = f(x)
        assert type(out) is Value
        out.backward()
        assert (out.data, x.grad) == (6.0, 2.0)


def test_an_array_meets_a_value_element_by_element() -> None:
    x, a = Value(3.0), np.array([1.0, 2.0])
    out = x * a + a * x
    assert [v.data for v in out] == [6.0, 12.0]


# -- the graph


def test_every_use_of_a_value_counts() -> None:
    assert gradients(lambda x: x * x, 3.0) == (9.0, [6.0])
    assert gradients(lambda x: x / x, 3.0) == (1.0, [0.0])
    assert gradients(lambda x: x - x, 3.0) == (0.0, [0])

    def doubled(y: Value) -> Value:
        for _ in range(60):
            y = y + y
        return y

    assert gradients(doubled, 1.0) == (2.0**60, [2**60])


def test_gradients_accumulate_in_given_values_only() -> None:
    x = Value(2.0)
    shared = x * x
    first, second = shared * 3.0, shared * 5.0
    first.backward()
    assert (x.grad, shared.grad) == (12.0, 3.0)
    second.backward()
    assert (x.grad, shared.grad) == (12.0 + 20.0, 5.0)
    second.backward()
    assert (x.grad, second.grad) == (12.0 + 40.0, 1)
    x.grad = 0
    x.backward()
    x.backward()
    assert x.grad == 2


def test_long_chains_and_many_uses() -> None:
    def chain(y: Value) -> Value:
        for _ in range(DEEP):
            y = y + 1.0
        return y

    def fan(x: Value) -> Value:
        return sum((x for _ in range(DEEP)), Value(0.0))

    assert gradients(chain, 1.0) == (DEEP + 1.0, [1])
    assert gradients(fan, 1.0) == (DEEP, [DEEP])
    unused = chain(Value(1.0))
    del unused  # neither a crash, nor a recursion


def test_reference_counting_frees_a_graph() -> None:
    def count() -> int:
        return sum(type(o) is Value for o in gc.get_objects())

    net = MLP(2, [3, 1], rng=0)
    gc.collect()
    gc.disable()
    try:
        before = count()
        loss = (net([1.0, 2.0]) - 1.0) ** 2
        loss.backward()
        assert count() > before
        del loss
        assert count() == before
    finally:
        gc.enable()


# -- networks


def rational(x: Any) -> Any:
    """An activation of fractions, values and dual numbers."""
    return x / (x * x + 1)


fractions = st.fractions(-3, 3, max_denominator=8)


@given(st.data(), st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=2))
def test_networks_are_exact_on_fractions(data: Any, nin: int, nouts: list[int]) -> None:
    net = MLP(nin, nouts, activation=rational)
    numbers = data.draw(st.tuples(*[fractions] * len(net.parameters())))
    xs = data.draw(st.tuples(*[fractions] * nin))

    def sum_of_squares(parameters: Iterable[Any]) -> Any:
        """What the network computes, without it: for forward mode, by dual numbers."""
        rest, x = iter(parameters), list(xs)
        for layer in net.layers:
            rows = [[next(rest) for _ in neuron.parameters()] for neuron in layer.neurons]
            x = [rational(sum((w * xi for w, xi in zip(row, x)), row[-1])) for row in rows]
        return sum((y * y for y in x[1:]), x[0] * x[0])

    for p, number in zip(net.parameters(), numbers):
        p.data = number
    outputs = net(xs)
    loss = sum(y * y for y in (outputs if nouts[-1] > 1 else [outputs]))
    loss.backward()
    for i, p in enumerate(net.parameters()):
        duals = [Dual(number, Fraction(i == j)) for j, number in enumerate(numbers)]
        assert (loss.data, p.grad) == sum_of_squares(duals)


def test_shapes_of_outputs_and_parameters() -> None:
    x = [1.0, -2.0, 3.0]
    assert type(Neuron(3)(x)) is Value
    assert type(Layer(3, 1)(x)) is type(MLP(3, [4, 1])(x)) is Value
    assert [type(y) for y in Layer(3, 2)(x)] == [Value, Value]
    assert len(MLP(3, [4, 2])(x)) == 2
    assert type(MLP(3, [1, 4, 1])(x)) is Value  # a single neuron feeds a layer
    net = MLP(3, [4, 4, 1])
    assert len(net.parameters()) == 16 + 20 + 5
    assert net.parameters()[:4] == [*net.layers[0].neurons[0].w, net.layers[0].neurons[0].b]


def test_a_neuron_is_an_activation_of_a_weighted_sum() -> None:
    x = [1.0, -2.0, 0.5]
    functions = {
        "tanh": math.tanh,
        "relu": lambda z: max(z, 0),
        "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
        "linear": lambda z: z,
    }
    assert set(functions) == set(ACTIVATIONS) == set(nn.ACTIVATIONS) - {"gelu"}
    for name, function in functions.items():
        neuron = Neuron(3, activation=name, rng=1)
        z = sum(w.data * xi for w, xi in zip(neuron.w, x)) + neuron.b.data
        assert neuron(x).data == approx(function(z))
    assert Neuron(3, activation=np.tanh, rng=1)(x).data == approx(Neuron(3, rng=1)(x).data)


def test_activations_of_the_hidden_and_of_the_last_layer() -> None:
    def used(net: MLP) -> list[Any]:
        return [neuron.activation for layer in net.layers for neuron in layer.neurons]

    assert used(MLP(1, [2, 1])) == [Value.tanh] * 3
    assert used(MLP(1, [2, 1], activation="relu")) == [Value.relu] * 3
    mixed = MLP(1, [2, 1], "relu", output_activation="sigmoid")
    assert used(mixed) == [Value.relu] * 2 + [Value.sigmoid]


def test_initial_weights() -> None:
    def numbers(rng: Any) -> list[float]:
        return [p.data for p in MLP(16, [40, 1], rng=rng).parameters()]

    state = random.getstate()
    assert numbers(7) == numbers(7) == numbers(random.Random(7)) != numbers(8)
    assert numbers(None) != numbers(None)
    assert random.getstate() == state
    first = numbers(7)[: 40 * 17]  # uniform in +-1/4
    assert max(map(abs, first)) <= 0.25
    assert (max(first), min(first), np.mean(first)) == approx((0.25, -0.25, 0), abs=0.02)
    assert np.std(first) == approx(0.25 / math.sqrt(3), rel=0.1)


def test_zero_grad_and_training_as_written() -> None:
    net = MLP(2, [3, 1], rng=0)
    losses = []
    for _ in range(50):
        loss = (net([1.0, 2.0]) - 0.5) ** 2 + (net([-1.0, 1.0]) + 0.5) ** 2
        net.zero_grad()
        assert all(p.grad == 0 for p in net.parameters())
        loss.backward()
        for p in net.parameters():
            p.data += -0.1 * p.grad
        losses.append(loss.data)
    assert losses[-1] < 0.01 * losses[0]
    copy = pickle.loads(pickle.dumps(net))
    assert [p.data for p in copy.parameters()] == [p.data for p in net.parameters()]


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="a neuron with 3 inputs cannot take 2 numbers"):
        MLP(3, [4, 1])([1.0, 2.0])
    with pytest.raises(ValueError, match=r"'tahn'.*'tanh', 'relu', 'sigmoid', 'linear'"):
        MLP(3, [4, 1], activation="tahn")
    with pytest.raises(ValueError, match="at least one input"):
        Neuron(0)


def test_repr() -> None:
    x = Value(Fraction(1, 2))
    (x * 3).backward()
    assert repr(x) == "Value(data=1/2, grad=3)"
