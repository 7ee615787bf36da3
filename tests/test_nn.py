"""Networks of tensors: they agree with the scalar engine, and run as the user writes."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn, scalar

NAMES = sorted(scalar.ACTIVATIONS)


def leaf(data: Any, dtype: Any = None) -> tg.Tensor:
    return tg.Tensor(data, dtype, requires_grad=True)


# -- both engines agree

names = st.sampled_from(NAMES)
seeds = st.integers(0, 2**32)


@st.composite
def networks(draw: Any) -> nn.MLP:
    nouts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    return nn.MLP(
        draw(st.integers(1, 4)),
        nouts,
        activation=draw(names),
        output_activation=draw(st.none() | names),
        rng=draw(seeds),
    )


def scalar_loss(net: scalar.MLP, xs: Any, ts: Any) -> Any:
    """The sum of squares over samples and outputs."""
    outputs = [net(x) for x in xs.tolist()]
    rows = [y if isinstance(y, list) else [y] for y in outputs]
    return sum(
        (y - t) ** 2 for row, targets in zip(rows, ts.tolist()) for y, t in zip(row, targets)
    )


def rows_of_gradients(net: nn.MLP) -> list[float]:
    """In the scalar engine's order: neuron by neuron, the weights and then the bias."""
    layers = [np.column_stack([layer.weight.grad, layer.bias.grad]) for layer in net.layers]
    return [g for layer in layers for g in layer.ravel().tolist()]


@given(networks(), st.integers(1, 5), seeds)
def test_a_batch_gives_the_loss_and_every_gradient_of_the_scalar_engine(
    net: nn.MLP, n: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    xs = rng.normal(size=(n, net.layers[0].weight.shape[1]))
    ts = rng.normal(size=(n, len(net.layers[-1].weight)))
    reference = net.to_scalar()
    expected = scalar_loss(reference, xs, ts)
    expected.backward()
    loss = np.sum((net(xs) - ts) ** 2)
    loss.backward()
    assert_allclose(loss.item(), expected.data, rtol=1e-12)
    gradients = [p.grad for p in reference.parameters()]
    assert_allclose(rows_of_gradients(net), gradients, rtol=1e-9, atol=1e-12)


@given(networks(), seeds)
def test_a_sample_is_a_row_of_a_batch(net: nn.MLP, seed: int) -> None:
    rng = np.random.default_rng(seed)
    xs = rng.normal(size=(3, net.layers[0].weight.shape[1]))
    together = net(xs)
    together.backward(np.ones(together.shape))
    expected = rows_of_gradients(net)
    net.zero_grad()
    for x, row in zip(xs, together.data):
        out = net(x)
        assert_allclose(out.data, row, rtol=1e-12, atol=1e-14)  # terms of size 1 may cancel
        out.backward(np.ones(out.shape))
    assert_allclose(rows_of_gradients(net), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_neuron_is_a_layer_of_one(name: str) -> None:
    xs = np.random.default_rng(0).normal(size=(5, 3))
    neuron, layer = nn.Neuron(3, name, rng=1), nn.Layer(3, 1, name, rng=1)
    layer.weight.data, layer.bias.data = neuron.weight.data[np.newaxis], neuron.bias.data.reshape(1)
    assert_allclose(neuron(xs).data, layer(xs).data[:, 0], rtol=1e-12)
    out, expected = neuron(xs[0]), neuron.to_scalar()(xs[0].tolist())
    assert out.shape == ()
    assert_allclose(out.item(), expected.data, rtol=1e-12)
    out.backward()
    expected.backward()
    layer(xs[0]).backward()
    assert_allclose(neuron.weight.grad, layer.weight.grad[0], rtol=1e-12)
    assert_allclose(neuron.bias.grad, layer.bias.grad[0], rtol=1e-12)


# -- from one engine to the other


@given(networks())
def test_to_scalar_and_back_keeps_every_bit_and_activation(net: nn.MLP) -> None:
    twin = nn.MLP.from_scalar(net.to_scalar())
    assert repr(twin) == repr(net)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert p is not q
        assert_array_equal(p.data, q.data)


def test_from_scalar_and_back() -> None:
    mlp = scalar.MLP(3, [4, 2], "relu", "sigmoid", rng=0)
    for original, cls in (
        (mlp, nn.MLP),
        (mlp.layers[0], nn.Layer),
        (mlp.layers[0].neurons[1], nn.Neuron),
    ):
        tensors = cls.from_scalar(original)
        back = tensors.to_scalar()
        assert type(back) is type(original)
        assert [p.data for p in back.parameters()] == [p.data for p in original.parameters()]
        outputs, expected = tensors([1.0, 2.0, -3.0]), np.ravel([original([1.0, 2.0, -3.0])])
        assert_allclose(outputs.data.ravel(), [v.data for v in expected], rtol=1e-12)
    assert nn.MLP.from_scalar(mlp, dtype=np.float32)(np.ones(3, "f")).dtype == np.float32


def test_a_function_both_engines_run_is_an_activation_of_both() -> None:
    def bump(x: Any) -> Any:
        return np.exp(-x * x)

    net = nn.MLP(2, [3, 1], activation=bump, output_activation=np.tanh, rng=0)
    assert repr(net) == "MLP(2 -> 3 bump -> 1 tanh)"
    reference = net.to_scalar()
    assert_allclose(net([1.0, 2.0]).data, [reference([1.0, 2.0]).data], rtol=1e-12)
    assert repr(nn.MLP.from_scalar(reference)) == repr(net)


def test_a_scalar_layer_of_several_activations_is_refused() -> None:
    layer = scalar.Layer(2, 2)
    layer.neurons[1].activation = scalar.Value.relu
    with pytest.raises(ValueError, match="the same activation"):
        nn.Layer.from_scalar(layer)


# -- the session of a first network, as its author wrote it


@pytest.mark.parametrize("clear", ["grad = 0.0", "zero_grad"])
def test_the_first_network_trains_with_the_loop_as_written(clear: str) -> None:
    xs = [
        [2.0, 8.0, -1.0],
        [3.0, -1.0, 0.5],
        [0.5, 7.0, 8.0],
        [1.0, 1.0, -9.0],
    ]
    ys = [1.0, -1.0, -1.0, 1.0]
    n = tg.MLP(3, [4, 4, 1], rng=1)
    losses = []
    for _ in range(100):
        ypred = [n(x) for x in xs]
        loss = sum((yout - ygt) ** 2 for ygt, yout in zip(ys, ypred))
        if clear == "zero_grad":
            n.zero_grad()
        else:
            for p in n.parameters():
                p.grad = 0.0
        loss.backward()
        for p in n.parameters():
            p.data += -0.05 * p.grad
        losses.append(loss.item())
    assert losses[-1] < 0.05 < losses[0]
    assert [np.sign(y.item()) for y in ypred] == ys
    assert -1 < n([2.0, 3.0, -1.0]).item() < 1


# -- what a layer takes and gives


def test_inputs_of_every_kind_give_the_same_output() -> None:
    layer = nn.Layer(2, 3, rng=0)
    rows = [[1.0, 2.0], [3.0, -4.0]]
    expected = layer(np.array(rows)).data
    assert expected.shape == (2, 3)
    t = leaf(rows)
    inputs: list[Any] = [
        rows,
        tuple(map(tuple, rows)),
        [np.array(row) for row in rows],
        tg.Tensor(rows),
        t,
        [t[0], t[1]],
        [t[0], [3.0, -4.0]],
        [[t[0, 0], 2.0], [3.0, t[1, 1]]],
        [[1, 2], [3, -4]],
        np.array([[1, 2], [3, -4]]),
    ]
    for x in inputs:
        assert_array_equal(layer(x).data, expected)
    assert layer(np.ones((4, 5, 2))).shape == (4, 5, 3)
    assert layer(np.ones((0, 2))).shape == (0, 3)


def test_gradients_reach_tensors_in_lists() -> None:
    layer = nn.Layer(2, 1, "linear", rng=0)
    a, b = leaf(1.0), leaf([2.0, 3.0])
    np.sum(layer([[a, 5.0], b])).backward()
    assert_allclose(a.grad, layer.weight.data[0, 0])
    assert_allclose(b.grad, layer.weight.data[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_dtypes(dtype: Any, name: str) -> None:
    net = nn.MLP(2, [3, 1], name, dtype=dtype, rng=0)
    xs = [[1.0, 2.0], [3.0, 4.0]]
    for x in (xs, xs[0], np.array(xs, dtype), [leaf(xs[0], dtype), xs[1]], [leaf(1, dtype), 2.0]):
        out = net(x)
        assert out.dtype == dtype
        loss = nn.mse_loss(out, np.zeros(out.shape).tolist())
        assert loss.dtype == dtype
        loss.backward()
    assert all(p.dtype == p.grad.dtype == dtype for p in net.parameters())
    assert net(np.array(xs)).dtype == np.float64  # arrays keep NumPy's promotion


def test_shapes_and_order_of_parameters() -> None:
    net = nn.MLP(3, [4, 2])
    shapes = [(name, p.shape) for name, p in net.named_parameters()]
    assert shapes == [
        ("layers.0.weight", (4, 3)),
        ("layers.0.bias", (4,)),
        ("layers.1.weight", (2, 4)),
        ("layers.1.bias", (2,)),
    ]
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    neuron = nn.Neuron(3)
    assert (neuron.weight.shape, neuron.bias.shape) == ((3,), ())
    assert all(p.requires_grad and p.is_leaf for p in neuron.parameters())


def test_initial_weights() -> None:
    def numbers(rng: Any) -> Any:
        return np.concatenate([p.data.ravel() for p in nn.MLP(16, [40, 3], rng=rng).parameters()])

    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert_array_equal(numbers(7), numbers(7))
    assert_array_equal(numbers(7), numbers(np.random.default_rng(7)))
    assert not np.array_equal(numbers(7), numbers(8))
    assert not np.array_equal(numbers(None), numbers(None))
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002
    first = numbers(7)[: 40 * 17]  # uniform in +-1/4
    assert np.abs(first).max() <= 0.25
    assert_allclose([first.max(), first.min(), first.mean()], [0.25, -0.25, 0], atol=0.02)
    assert_allclose(first.std(), 0.25 / 3**0.5, rtol=0.1)
    rng = np.random.default_rng(7)
    assert not np.array_equal(nn.Neuron(3, rng=rng).weight.data, nn.Neuron(3, rng=rng).weight.data)


@pytest.mark.parametrize("nin, nout, by_columns", [(64, 128, True), (3, 4, True), (128, 10, False)])
def test_a_weight_and_its_gradient_lie_in_the_faster_order(
    nin: int, nout: int, by_columns: bool
) -> None:
    layer = nn.Linear(nin, nout, rng=0)
    drawn = np.random.default_rng(0).uniform(-(nin**-0.5), nin**-0.5, (nout, nin))
    assert_array_equal(layer.weight.data, drawn)
    for again in layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)):
        again.load_state_dict(layer.state_dict())
        for x in np.ones((5, nin)), np.ones(nin), np.ones((2, 5, nin)):
            again.zero_grad()
            np.sum(again(x)).backward()
            for a in again.weight.data, again.weight.grad:
                assert a.flags.fnc == by_columns
            assert_array_equal(again.weight.grad, np.full((nout, nin), x.size / nin))


def test_repr_shows_sizes_and_activation() -> None:
    assert repr(nn.Neuron(3)) == "Neuron(3, activation='tanh')"
    assert repr(nn.Layer(3, 4, nn.relu)) == "Layer(3, 4, activation='relu')"
    assert repr(nn.Layer(3, 4, np.sin)) == "Layer(3, 4, activation='sin')"
    assert repr(nn.MLP(3, [4, 1], "relu", "linear")) == "MLP(3 -> 4 relu -> 1 linear)"
    assert repr(nn.MLP(3, [4, 1], "relu")) == "MLP(3 -> 4 relu -> 1 relu)"


def test_errors_name_the_layer_the_shapes_and_the_cure() -> None:
    net = nn.MLP(3, [4, 1])
    for x in (np.ones(2), np.ones((3, 4)), np.float64(1.0), 1.0, [], tg.Tensor(np.ones((5, 1)))):
        with pytest.raises(ValueError) as caught:
            net(x)
        message = str(caught.value)
        assert f"Layer(3, 4, activation='tanh'): an input of shape {np.shape(x)};" in message
        assert "(3,)" in message
        assert "(n, 3)" in message
    with pytest.raises(ValueError, match=r"'tahn'.*'tanh', 'relu', 'sigmoid', 'linear'"):
        nn.Layer(3, 4, activation="tahn")
    with pytest.raises(ValueError, match=r"Layer\(3, 0\): every size must be an integer"):
        nn.MLP(3, [0, 1])
    with pytest.raises(ValueError, match=r"Neuron\(0\)"):
        nn.Neuron(0)
    with pytest.raises(TypeError, match="int64"):
        nn.Layer(3, 4, dtype=np.int64)


# -- modules


class Tangle(nn.Module):
    """Parameters in every kind of holder, some of them twice, and things that are none."""

    def __init__(self) -> None:
        self.scale = leaf(1.0)
        self.nested = {"a": [leaf(2.0), (leaf(3.0),)], 5: nn.Neuron(2)}
        self.shared = self.scale
        self.again = [self.scale, self.nested]
        self.constant = tg.Tensor(1.0)
        self.computed = self.scale * 2.0
        self.array = np.ones(3)
        self.text = "text"
        self.parent = self


def test_parameters_are_found_once_and_in_order() -> None:
    module = Tangle()
    named = module.named_parameters()
    assert [name for name, _ in named] == [
        "scale",
        "nested.a.0",
        "nested.a.1.0",
        "nested.5.weight",
        "nested.5.bias",
    ]
    assert named[0][1] is module.scale
    assert dict(named)["nested.5.bias"] is module.nested[5].bias


def test_a_shared_layer_is_stepped_once() -> None:
    net = nn.MLP(2, [2, 2], "linear", rng=0)
    net.layers[1] = net.layers[0]
    assert len(net.parameters()) == 2
    x = np.array([1.0, 2.0])
    w, b = net.layers[0].weight.data.copy(), net.layers[0].bias.data.copy()
    np.sum(net(x)).backward()
    ones = np.ones(2)
    expected = np.outer(ones, w @ x + b) + np.outer(w.T @ ones, x)  # both uses count
    assert_allclose(net.layers[0].weight.grad, expected)
    for p in net.parameters():
        p.data += -0.1 * p.grad
    assert_allclose(net.layers[0].weight.data, w - 0.1 * expected)


def test_zero_grad_forgets_and_frozen_parameters_are_not_listed() -> None:
    net = nn.MLP(2, [3, 1])
    net([1.0, 2.0]).backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.layers[0].weight.requires_grad = False
    assert next(iter(net.named_parameters()))[0] == "layers.0.bias"


def test_networks_pickle_and_copy() -> None:
    net = nn.MLP(2, [3, 1], "relu", "sigmoid")
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert repr(twin) == repr(net)
        assert_array_equal(twin([1.0, 2.0]).data, net([1.0, 2.0]).data)
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in net.parameters()}


# -- activations


@pytest.mark.parametrize("name", NAMES)
def test_activations_pass_the_gradient_check(name: str) -> None:
    x = np.array([-30.0, -2.0, -0.1, 0.2, 3.0, 30.0])
    assert tg.gradcheck(nn.ACTIVATIONS[name], [x])
    assert tg.gradcheck(tg.grad(lambda x: np.sum(nn.ACTIVATIONS[name](x))), [x])


def test_relu_at_its_corner_and_with_infinite_cotangents() -> None:
    x = leaf([-1.0, 0.0, 2.0, np.inf, -np.inf])
    y = nn.relu(x)
    assert_array_equal(y.data, [0, 0, 2, np.inf, 0])
    y.backward([np.inf, -np.inf, np.inf, 1.0, np.nan])
    assert_array_equal(x.grad, [0, 0, np.inf, 1, 0])
    out = nn.relu(leaf([np.nan]))
    assert np.isnan(out.item())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sigmoid_is_exact_far_out(dtype: Any) -> None:
    x = leaf([-1000.0, 0.0, 1000.0, -np.inf, np.inf], dtype)
    with np.errstate(all="raise"):
        y = nn.sigmoid(x)
        y.backward(np.ones(5))
    assert y.dtype == x.grad.dtype == dtype
    assert_array_equal(y.data, [0, 0.5, 1, 0, 1])
    assert_array_equal(x.grad, [0, 0.25, 0, 0, 0])
    tail = nn.sigmoid(np.array([-40.0, -700.0]))
    assert_allclose(tail, np.exp([-40.0, -700.0]), rtol=1e-14)


def test_activations_of_arrays_are_arrays() -> None:
    x = np.array([-1.0, 2.0])
    for function in map(nn.ACTIVATIONS.get, NAMES):
        assert type(function(x)) is np.ndarray
        assert type(function(tg.Tensor(x))) is tg.Tensor
        assert not function(tg.Tensor(x)).requires_grad
        assert_array_equal(function(tg.Tensor(x)).data, function(x))


# -- losses


def test_mse_loss() -> None:
    y = leaf([1.0, 2.0, 5.0])
    loss = nn.mse_loss(y, [1.0, 4.0, 4.0])
    loss.backward()
    assert_allclose(loss.item(), 5 / 3)
    assert_allclose(y.grad, [0, -4 / 3, 2 / 3])
    ys = [leaf(1.0), leaf(2.0)]  # a list of predictions
    nn.mse_loss(ys, [0.0, 0.0]).backward()
    assert [t.grad for t in ys] == [1.0, 2.0]


def test_hinge_loss() -> None:
    y = leaf([2.0, 0.5, -0.5, 1.0, -3.0])
    target = np.array([1, 1, 1, 1, -1])
    loss = nn.hinge_loss(y, target)
    loss.backward()
    assert_allclose(loss.item(), (0.5 + 1.5) / 5)
    assert_allclose(y.grad, [0, -0.2, -0.2, 0, 0])
    y.zero_grad()
    nn.hinge_loss(y, tg.Tensor(target)).backward()
    assert_allclose(y.grad, [0, -0.2, -0.2, 0, 0])


@pytest.mark.parametrize("loss", [nn.mse_loss, nn.hinge_loss])
def test_losses_refuse_to_broadcast(loss: Any) -> None:
    shapes = [((3, 1), (3,)), ((3,), (3, 1)), ((3,), ()), ((2, 3), (3,)), ((3,), (4,))]
    for prediction, target in shapes:
        for wrap in (np.ones, lambda s: leaf(np.ones(s)), lambda s: np.ones(s).tolist()):
            with pytest.raises(ValueError) as caught:
                loss(wrap(prediction), np.ones(target))
            assert f"{prediction} and a target of shape {target}" in str(caught.value)
            assert loss.__name__ in str(caught.value)


def test_hinge_loss_refuses_classes_zero_and_one() -> None:
    for target in ([0.0, 1.0], np.array([0, 1]), tg.Tensor([1.0, np.nan])):
        with pytest.raises(ValueError, match="2 \\* target - 1"):
            nn.hinge_loss(leaf([1.0, 2.0]), target)
