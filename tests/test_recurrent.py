"""Recurrent cells and layers: against PyTorch, by their own laws, and where things go wrong."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.nn import recurrent

from .depth import one_in
from .oracles import assert_same, leaf
from .sequence_references import CASES, SEEDS, STORED, Case, Library, pytorch, results

OURS = Library(nn, np.float64, np.asarray, leaf)
LAYERS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
each_kind = pytest.mark.parametrize("kind", LAYERS)


def values(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


def states(last: Any) -> tuple[Any, ...]:
    return last if isinstance(last, tuple) else (last,)


# -- against PyTorch


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_as_pytorch_once_did(name: str, seed: int) -> None:
    with np.load(STORED) as arrays:
        expected = arrays[f"{name} {seed}"]
    assert_allclose(results(OURS, CASES[name], seed), expected, rtol=1e-12, atol=1e-13)


@each_kind
def test_as_pytorch_does(kind: str) -> None:
    pytest.importorskip("torch")
    torch = pytorch()
    switches = itertools.product((1, 2), *[(False, True)] * 5, ("tanh", "relu"))
    for layers, two_ways, batch_first, bias, single, starts, nonlinearity in switches:
        options = {"num_layers": layers, "bidirectional": two_ways}
        options |= {"batch_first": batch_first, "bias": bias}
        if kind == "RNN":
            options["nonlinearity"] = nonlinearity
        elif nonlinearity == "relu":
            continue
        state: Any = (layers * (1 + two_ways), *[4 if batch_first else 3] * (not single), 5)
        x = (4, 2) if single else (4, 3, 2)
        inputs = (x, (state, state) if kind == "LSTM" else state)[: 1 + starts]
        case = Case(kind, (2, 5), options, inputs)
        expected = results(torch, case, 2)
        assert_allclose(results(OURS, case, 2), expected, rtol=1e-11, atol=1e-12, err_msg=str(case))


@each_kind
def test_state_and_shapes_are_pytorchs(kind: str) -> None:
    torch = pytest.importorskip("torch")
    for bias in False, True:
        options = {"num_layers": 2, "bidirectional": True, "bias": bias}
        theirs = getattr(torch.nn, kind)(2, 3, **options)
        ours = LAYERS[kind](2, 3, **options, dtype=np.float32)
        ours.load_state_dict(theirs.state_dict())
        assert list(ours.state_dict()) == list(theirs.state_dict())
        x = values(5, 4, 2).astype(np.float32)
        expected = theirs(torch.tensor(x))[0]
        y = ours(x)[0]
        assert y.dtype == np.float32
        assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)


# -- laws


@each_kind
def test_a_layer_is_its_cell_repeated(kind: str) -> None:
    layer = LAYERS[kind](2, 3, rng=0)
    cell = getattr(nn, f"{kind}Cell")(2, 3)
    cell.load_state_dict({name[:-3]: array for name, array in layer.state_dict().items()})
    x, state = values(4, 5, 2), None
    outputs, last = layer(x)
    for step, output in zip(x, outputs.numpy(), strict=True):
        state = cell(step, state)
        assert_same(states(state)[0].numpy(), output)
    for of_layer, of_cell in zip(states(last), states(state), strict=True):
        assert_same(of_layer[0], of_cell)


@each_kind
def test_a_sequence_can_be_read_in_parts(kind: str) -> None:
    layer = LAYERS[kind](2, 3, num_layers=2, rng=0)
    x = leaf(values(6, 2, 2))
    whole, _ = layer(x)
    first, state = layer(x[:2])
    rest, _ = layer(x[2:], state)
    parts = np.concatenate([first, rest])
    assert_same(parts, whole)
    weights = values(6, 2, 3, seed=1)
    np.sum(weights * whole).backward()
    expected, x.grad = x.grad, None
    np.sum(weights * parts).backward()
    assert_same(x.grad, expected)


@each_kind
def test_both_ways_read_the_reverse_alike(kind: str) -> None:
    layer = LAYERS[kind](2, 3, bidirectional=True, rng=0)
    forward = {k: v for k, v in layer.state_dict().items() if not k.endswith("_reverse")}
    layer.load_state_dict(forward | {f"{name}_reverse": array for name, array in forward.items()})
    x = values(4, 2, 2)
    there, back = layer(x)[0].numpy(), layer(x[::-1])[0].numpy()
    assert_same(there[..., :3], back[::-1, :, 3:])


@each_kind
def test_derivatives_of_first_and_second_order(kind: str) -> None:
    layer = LAYERS[kind](2, 2, num_layers=2, bidirectional=True, rng=0)

    def everything(x: Any) -> Any:
        output, last = layer(x)
        return np.concatenate([output.ravel(), *[h.ravel() for h in states(last)]])

    assert tg.gradcheck(everything, values(3, 2, 2), order=2)


@each_kind
def test_large_values_neither_overflow_nor_warn(kind: str) -> None:
    layer = LAYERS[kind](2, 3, rng=0)
    x = leaf(np.full((3, 1, 2), 1e6))
    with np.errstate(all="raise", under="ignore"):
        np.sum(layer(x)[0]).backward()
    assert np.isfinite(x.grad).all()


@each_kind
def test_memory_is_freed_with_the_graph(kind: str) -> None:
    layer = LAYERS[kind](2, 3, rng=0)
    output, _ = layer(values(4, 2, 2))
    loss = np.sum(output)
    node = output._node.parents[0]
    loss.backward()
    assert node.out is None and not node.args


# -- starts, randomness, copies


@each_kind
def test_initial_weights_are_uniform_and_belong_to_the_seed(kind: str) -> None:
    make = LAYERS[kind]
    layer = make(30, 25, num_layers=2, bidirectional=True, rng=0)
    for name, parameter in layer.named_parameters():
        assert parameter.dtype == np.float64, name
        assert 0.15 < np.abs(parameter.data).max() <= 0.2, name
        assert abs(parameter.data.mean()) < 0.06, name
    twin, other = make(30, 25, 2, bidirectional=True, rng=0), make(30, 25, 2, rng=1)
    assert_array_equal(layer.weight_hh_l1.data, twin.weight_hh_l1.data)
    assert not np.array_equal(layer.weight_hh_l0.data, other.weight_hh_l0.data)


@each_kind
def test_dropout_between_layers_in_training_alone(kind: str) -> None:
    layer = LAYERS[kind](2, 8, num_layers=2, dropout=0.5, rng=0)
    twin = copy.deepcopy(layer)
    x = values(4, 3, 2)
    first, second, again = layer(x)[0].numpy(), layer(x)[0].numpy(), twin(x)[0].numpy()
    assert_array_equal(first, again)
    assert not np.allclose(first, second)
    used = layer.eval()(x)[0].numpy()
    assert_array_equal(used, layer(x)[0].numpy())
    plain = LAYERS[kind](2, 8, num_layers=2)
    plain.load_state_dict(layer.state_dict())
    assert_array_equal(used, plain(x)[0].numpy())


@each_kind
def test_inputs_may_be_lists_and_a_batch_empty(kind: str) -> None:
    layer = LAYERS[kind](2, 3, dtype=np.float32)
    assert layer([[1.0, 2.0], [3.0, 4.0]])[0].dtype == np.float32
    output, last = layer(np.zeros((4, 0, 2), np.float32))
    assert output.shape == (4, 0, 3)
    assert all(h.shape == (1, 0, 3) for h in states(last))
    np.sum(output).backward()
    assert not layer.weight_hh_l0.grad.any()
    with tg.no_grad():
        assert not layer(np.zeros((4, 1, 2), np.float32))[0].requires_grad


# -- errors

FAULTS: list[tuple[Callable[[], Any], str]] = [
    (lambda: nn.LSTM(2, 3)(np.ones((4, 5))), r"LSTM\(2, 3\): an input of shape \(4, 5\)"),
    (lambda: nn.GRU(2, 3, batch_first=True)(np.ones(2)), r"\(batch, length, 2\), or one"),
    (lambda: nn.RNN(2, 3)(np.ones((0, 1, 2))), "length 0"),
    (
        lambda: nn.RNN(2, 3)(np.ones((5, 4, 2)), np.ones((1, 3))),
        r"\(1, 3\).* be of shape \(1, 4, 3\)",
    ),
    (lambda: nn.LSTM(2, 3)(np.ones((5, 4, 2)), np.ones((1, 4, 3))), r"pair .* \(1, 4, 3\)"),
    (lambda: nn.GRUCell(2, 3)(np.ones((5, 4, 2))), r"GRUCell\(2, 3\): .* \(5, 4, 2\)"),
    (lambda: nn.LSTMCell(2, 3)(np.ones(2), (np.ones(3), np.ones(2))), "LSTMCell.* pair"),
    (lambda: nn.RNNCell(0, 3), r"RNNCell\(0, 3\): every size"),
    (lambda: nn.RNN(2, 3, 0), "num_layers=0 must be"),
    (lambda: nn.RNN(2, 3, nonlinearity="gelu"), '"tanh" or "relu", not \'gelu\''),
    (lambda: nn.RNN(2, 3, dropout=2.0), "Dropout: p=2.0 is not a probability"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_errors_name_the_layer_the_shapes_and_the_cure(
    fault: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fault()


@each_kind
def test_dropout_in_one_layer_warns_at_the_users_line(kind: str) -> None:
    with pytest.warns(UserWarning, match=f"{kind}: dropout=0.5 acts between layers") as caught:
        layer = LAYERS[kind](2, 3, dropout=0.5)
    x = values(4, 3, 2)
    assert_array_equal(layer(x)[0].numpy(), layer(x)[0].numpy())
    assert caught[0].filename == __file__


def test_a_repr_shows_what_was_chosen() -> None:
    options = {"num_layers": 2, "nonlinearity": "relu", "bidirectional": True}
    shown = "RNN(2, 3, num_layers=2, nonlinearity='relu', bidirectional=True)"
    assert repr(nn.RNN(2, 3, **options)) == shown
    assert repr(nn.GRU(2, 3, 2, dropout=0.5)) == "GRU(2, 3, num_layers=2, dropout=0.5)"
    assert repr(nn.LSTMCell(2, 3, bias=False)) == "LSTMCell(2, 3, bias=False)"


# -- long sequences, which are loops in compiled functions


@pytest.mark.parametrize("kind", one_in(3, LAYERS))
def test_a_long_sequence_is_a_loop_in_a_compiled_function(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = getattr(tg.nn, kind)(2, 3, bidirectional=True, rng=0)

    def losses(x: Any) -> Any:
        outputs, last = net(x)
        return np.sum(outputs**2) + sum(np.sum(state**3) for state in states(last))

    def step(x: Any) -> Any:
        for parameter in net.parameters():
            parameter.grad = None
        losses(x).backward()
        return [parameter.grad for parameter in net.parameters()]

    sizes = [len(tg.compile(step).lower(values(n, 2, 2)).steps) for n in (200, 250)]
    assert max(sizes) < 200
    x = values(200, 2, 2)
    for actual, expected in zip(tg.compile(step)(x), step(x), strict=True):
        assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)
    monkeypatch.setattr(recurrent, "_LONG", 2)
    for parameter in net.parameters():
        parameter.requires_grad = False
    x = values(3, 1, 2)
    for derivative in tg.grad(losses), tg.hessian(losses), tg.jacobian(lambda x: net(x)[0]):
        assert_allclose(tg.compile(derivative)(x), derivative(x), rtol=1e-11, atol=1e-12)


# -- sequences of several lengths


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_each_sequence_is_as_if_it_were_alone(kind: str, batch_first: bool) -> None:
    lengths, rng = [4, 1, 3], np.random.default_rng(0)
    net = getattr(nn, kind)(2, 3, 2, bidirectional=True, batch_first=batch_first, rng=0)
    rows = [rng.normal(size=(n, 2)) for n in lengths]
    g, states = rng.normal(size=(4, 3, 6)), rng.normal(size=(2, 4, 3, 3))
    weights = 2 if kind == "LSTM" else 1
    x = leaf(nn.pad_sequence(rows, batch_first, padding_value=np.nan))
    hx = [leaf(h) for h in states[:weights]]
    y, last = net(x, tuple(hx) if weights > 1 else hx[0], lengths=np.array(lengths))
    y = np.swapaxes(y, 0, 1) if batch_first else y
    last = last if weights > 1 else (last,)
    np.sum(y * g + sum(np.sum(h * h) for h in last)).backward()
    found = [p.grad for p in net.parameters()]
    net.zero_grad()
    for i, (row, n) in enumerate(zip(rows, lengths, strict=True)):
        own, before = leaf(row), [leaf(h[:, i]) for h in states[:weights]]
        alone, ends = net(own, tuple(before) if weights > 1 else before[0])
        ends = ends if weights > 1 else (ends,)
        assert_allclose(y.data[:n, i], alone.data, rtol=1e-12)
        assert not y.data[n:, i].any()
        for mine, other in zip(ends, last, strict=True):
            assert_allclose(other.data[:, i], mine.data, rtol=1e-12)
        np.sum(alone * g[:n, i] + sum(72 / n / 6 * np.sum(h * h) for h in ends)).backward()
        gradient = x.grad[i, :n] if batch_first else x.grad[:n, i]
        assert_allclose(gradient, own.grad, rtol=1e-9, atol=1e-12)
        for mine, other in zip(before, hx, strict=True):
            assert_allclose(other.grad[:, i], mine.grad, rtol=1e-9, atol=1e-12)
    for p, expected in zip(net.parameters(), found, strict=True):
        assert_allclose(p.grad, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_packed_sequences_are_pytorchs(kind: str) -> None:
    torch = pytest.importorskip("torch")
    pack, unpack = (
        torch.nn.utils.rnn.pack_padded_sequence,
        torch.nn.utils.rnn.pad_packed_sequence,
    )
    theirs = getattr(torch.nn, kind)(2, 3, 2, bidirectional=True).double()
    ours = getattr(nn, kind)(2, 3, 2, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    x, lengths = np.random.default_rng(0).normal(size=(5, 4, 2)), [2, 5, 1, 5]
    t = torch.tensor(x, requires_grad=True)
    packed, last = theirs(pack(t, lengths, enforce_sorted=False))
    expected, _ = unpack(packed)
    mine = leaf(x)
    y, ends = ours(mine, lengths=lengths)
    assert_allclose(y.data, expected.detach(), rtol=1e-9, atol=1e-12)
    for a, b in zip(ends, last, strict=True):
        assert_allclose(a.data, b.detach(), rtol=1e-9, atol=1e-12)
    (expected**2).sum().backward()
    np.sum(y**2).backward()
    assert_allclose(mine.grad, t.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_states_do_not_grow_over_the_padding(bidirectional: bool) -> None:
    net = nn.RNN(1, 1, nonlinearity="relu", bidirectional=bidirectional, rng=0)
    for weight in net.parameters():
        weight.data = np.full(weight.shape, 9.0)
    gradients = []
    for length in 2, 400:  # 9.0**400 would be infinite
        y, last = net(np.ones((length, 1, 1)), lengths=[2])
        net.zero_grad()
        (np.sum(y) + np.sum(last)).backward()
        gradients.append([p.grad for p in net.parameters()])
    assert_allclose(
        np.concatenate([g.ravel() for g in gradients[1]]),
        np.concatenate([g.ravel() for g in gradients[0]]),
        rtol=1e-12,
    )


def test_lengths_are_compiled_batched_and_differentiated_twice() -> None:
    net = nn.GRU(2, 2, bidirectional=True, rng=0)
    x = np.random.default_rng(0).normal(size=(3, 2, 2))

    def f(x: Any, lengths: Any) -> Any:
        y, last = net(x, lengths=lengths)
        return np.sum(y * y) + np.sum(last)

    compiled = tg.compile(tg.value_and_grad(f))
    for lengths in [3, 1], [2, 3], [1, 1]:
        expected = tg.value_and_grad(f)(x, np.array(lengths))
        assert_same(compiled(x, np.array(lengths)), expected)
    with pytest.raises(ValueError, match="lengths from 0 to 3"):
        compiled(x, np.array([0, 3]))
    both, many = np.stack([x, 2 * x]), np.array([[3, 1], [2, 2]])
    each = [f(a, n).data for a, n in zip(both, many, strict=True)]
    assert_allclose(tg.vmap(f)(both, many).data, each, rtol=1e-12)
    assert tg.gradcheck(lambda x: net(x, lengths=[3, 1])[0], [x], order=2)


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (np.ones((3, 2, 2)), [3], r"of shape \(1,\) .* integers of shape \(2,\)"),
        (np.ones((3, 2, 2)), [3.0, 1.0], "dtype float64; they must be integers"),
        (np.ones((3, 2)), [3, 1], "one for each sequence of a batch"),
        (np.ones((3, 2, 2)), [4, 1], "from 1 to 4; they must be from 1 to 3"),
        (np.ones((3, 2, 2)), [3, 0], "from 0 to 3"),
    ],
)
def test_wrong_lengths_are_refused(x: Any, lengths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^RNN\(2, 3\): lengths .*{message}"):
        nn.RNN(2, 3)(x, lengths=lengths)


def test_what_cannot_be_padded() -> None:
    wrong: list[Any]
    for wrong in [], [1.0], [np.ones((2, 3)), np.ones((2, 2))]:
        with pytest.raises(ValueError, match="pad_sequence: sequences of shapes"):
            nn.pad_sequence(wrong)
    with pytest.raises(AttributeError, match="lengths="):
        _ = nn.pack_padded_sequence
