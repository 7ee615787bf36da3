"""Lists and dicts of modules and of parameters; buffers; what is found, set and cast by name."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn

from .oracles import leaf


class Heads(nn.Module):
    def __init__(self, n: int = 2) -> None:
        self.layers = nn.ModuleList(nn.Linear(2, 2, rng=i) for i in range(n))
        self.heads = nn.ModuleDict({"mean": nn.Linear(2, 1, rng=7), "scale": nn.Linear(2, 1)})
        self.shifts = nn.ParameterList([np.ones(2), leaf(np.zeros(2))])
        self.gains = nn.ParameterDict({"all": 2.0})
        self.register_buffer("mean", np.zeros(2))
        self.register_buffer("seen", 0, persistent=False)

    def forward(self, x: Any) -> Any:
        for layer, shift in zip(self.layers, self.shifts, strict=True):
            x = np.tanh(layer(x - self.mean) + shift)
        return self.heads["mean"](x) * self.gains["all"]


NAMES = [
    "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias", "heads.mean.weight",
    "heads.mean.bias", "heads.scale.weight", "heads.scale.bias", "shifts.0", "shifts.1",
    "gains.all",
]  # fmt: skip


def test_names_are_those_of_a_plain_list_and_dict() -> None:
    net = Heads()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert list(net.state_dict()) == [*NAMES, "mean"]
    assert [name for name, _ in net.named_buffers()] == ["mean", "seen"]
    assert net.buffers() == [net.mean, net.seen]  # type: ignore[comparison-overlap]
    plain = nn.Module()
    plain.layers = [nn.Linear(2, 2), nn.Linear(2, 2)]  # type: ignore[attr-defined]
    listed = nn.Module()
    listed.layers = nn.ModuleList(plain.layers)  # type: ignore[attr-defined]
    assert list(plain.state_dict()) == list(listed.state_dict())


def test_names_and_values_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            tnn = torch.nn
            self.layers = tnn.ModuleList(tnn.Linear(2, 2) for _ in range(2))
            self.heads = tnn.ModuleDict({"mean": tnn.Linear(2, 1), "scale": tnn.Linear(2, 1)})
            self.shifts = tnn.ParameterList([torch.ones(2), torch.zeros(2)])
            self.gains = tnn.ParameterDict({"all": torch.tensor(2.0)})
            self.register_buffer("mean", torch.zeros(2))
            self.register_buffer("seen", torch.tensor(0), persistent=False)

        forward = Heads.forward

    theirs, ours = Theirs(), Heads()
    assert set(theirs.state_dict()) == set(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).normal(size=(3, 2))
    expected = torch.tanh(torch.tanh(theirs.layers[0](torch.tensor(x).float()) + 1))
    assert_allclose(np.tanh(np.tanh(ours.layers[0](x) + 1)).data, expected.detach(), rtol=1e-5)
    assert [type(m).__name__ for m in theirs.children()] == [
        type(m).__name__ for m in ours.children()
    ]


def test_it_trains_compiles_copies_and_is_kept(tmp_path: Path) -> None:
    net, x = Heads(), np.random.default_rng(0).normal(size=(5, 2))
    optimizer = tg.optim.SGD(net.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        loss = np.mean(net(x) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    compiled = tg.compile(step)
    losses = [step(x).item(), *[compiled(x).item() for _ in range(3)]]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]
    out = net(x).data
    for twin in copy.deepcopy(net), pickle.loads(pickle.dumps(net)):
        assert_array_equal(twin(x).data, out)
        assert list(twin.state_dict()) == list(net.state_dict())
    net.save(tmp_path / "net.npz")
    other = Heads()
    assert other.load_state(tmp_path / "net.npz") == ([], [])
    assert_array_equal(other(x).data, out)
    gradients = tg.grad(lambda net: np.sum(net(x)))(net)
    np.sum(net(x)).backward(retain_graph=True)
    assert isinstance(gradients, Heads)
    rows = tg.vmap(lambda row: net(row))(x)
    assert_allclose(rows.data, out, rtol=1e-12)


def test_a_list_of_modules_is_a_list() -> None:
    a, b, c = (nn.Linear(1, 1, rng=i) for i in range(3))
    layers = nn.ModuleList([a])
    layers.append(b)
    layers.insert(0, c)
    assert list(layers) == [c, a, b] and layers[-1] is b and len(layers) == 3
    layers[0] = b
    del layers[-1]
    layers += [c]
    assert list(layers) == [b, a, c] and c in layers
    assert [*(layers + nn.ModuleList([b]))] == [b, a, c, b]
    assert type(layers[1:]) is nn.ModuleList and list(layers[1:]) == [a, c]
    layers[1:] = [c]
    assert list(layers) == [b, c] and layers.pop() is c and layers.index(b) == 0
    layers.extend([c, a])
    assert list(reversed(layers)) == [a, c, b]
    with pytest.raises(TypeError, match="ModuleList: an item must be a Module, not function"):
        layers.append(lambda x: x)
    with pytest.raises(TypeError, match="ModuleList: needs a list of items, not one Linear"):
        nn.ModuleList(a)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ModuleDict: needs a dict of items, not one Linear"):
        nn.ModuleDict(a)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not the class Linear"):
        nn.ModuleList([nn.Linear])
    with pytest.raises(TypeError, match="ModuleList cannot be called"):
        layers(np.ones(1))
    assert list(layers) == [b, c, a]


def test_a_dict_of_modules_is_a_dict() -> None:
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    parts = nn.ModuleDict([("a", a)])
    parts["b"] = b
    parts.update({"c": a})
    assert [*parts] == ["a", "b", "c"] and [*parts.values()] == [a, b, a]
    assert "b" in parts and parts.pop("c") is a and [*parts.items()] == [("a", a), ("b", b)]
    del parts["a"]
    assert parts.modules() == [parts, b] and {parts: 1}[parts] == 1
    assert parts != nn.ModuleDict(parts)
    with pytest.raises(TypeError, match="ModuleDict: a key must be a string, not 3"):
        parts[3] = a  # type: ignore[index]
    with pytest.raises(KeyError):
        parts["missing"]


def test_what_becomes_a_parameter() -> None:
    w = leaf([1.0, 2.0])
    weights = nn.ParameterList([w, tg.Tensor([3.0]), 4.0, np.ones(2, np.float32)])
    assert weights[0] is w and weights.parameters() == [*weights]
    assert [p.dtype for p in weights] == [np.float64] * 3 + [np.float32]
    with pytest.raises(TypeError, match="ParameterList: an item is a computed tensor"):
        weights.append(w * 2)
    with pytest.raises(TypeError, match="int64"):
        nn.ParameterDict({"count": [1]})


def test_a_compiled_function_sees_a_changed_list() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2, rng=0)])

    @tg.compile
    def f(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    x = np.ones(2)
    for _ in range(2):
        assert_array_equal(f(x).data, layers[0](x).data)
    layers.append(nn.Linear(2, 3, rng=1))
    assert_array_equal(f(x).data, layers[1](layers[0](x)).data)


# -- buffers and names


def test_buffers_are_never_unfrozen_and_may_be_left_out() -> None:
    net = Heads()
    net.requires_grad_(False).requires_grad_(True)
    assert [name for name, _ in net.named_parameters()] == NAMES
    state = net.state_dict()
    net.mean = tg.Tensor(np.ones(2))
    net.seen = tg.Tensor(3)
    assert net.load_state_dict(state) == ([], [])
    assert_array_equal(net.mean.data, 0)
    assert net.seen.item() == 3
    assert nn.Linear(1, 1).buffer_names == ()
    net.register_buffer("later", None)
    net.later = tg.Tensor(1.0)  # type: ignore[attr-defined]
    assert "later" in net.state_dict() and not net.requires_grad_().later.requires_grad  # type: ignore[attr-defined]


def test_what_cannot_be_registered() -> None:
    net = Heads()
    with pytest.raises(ValueError, match=r"register_buffer: Heads\.mean exists"):
        net.register_buffer("mean", np.ones(1))
    with pytest.raises(ValueError, match=r"'a\.b' is not the name of an attribute"):
        net.register_buffer("a.b", np.ones(1))
    with pytest.raises(TypeError, match=r"w requires grad: detach\(\)"):
        net.register_buffer("w", leaf(1.0))
    for wrong in tg.Tensor(1.0), np.ones(1), leaf(1.0) * 2:
        with pytest.raises(TypeError, match="register_parameter: w must be"):
            net.register_parameter("w", wrong)  # type: ignore[arg-type]
    net.register_parameter("w", None)
    net.register_parameter("w", w := leaf(1.0))
    assert net.get_parameter("w") is w and not hasattr(Heads(), "w")


def test_what_lies_at_a_path() -> None:
    net = Heads()
    assert net.get_submodule("") is net
    assert net.get_submodule("layers.1") is net.layers[1]
    assert net.get_parameter("heads.mean.bias") is net.heads["mean"].bias
    assert net.get_buffer("seen") is net.seen
    with pytest.raises(AttributeError, match=r"Heads has no module 'layers\.2'; it has 'layers'"):
        net.get_submodule("layers.2")
    with pytest.raises(AttributeError, match="no parameter 'mean'"):
        net.get_parameter("mean")
    with pytest.raises(AttributeError, match="Linear has no buffer 'weight'; it has none"):
        nn.Linear(1, 1).get_buffer("weight")


def test_children_are_direct_and_apply_visits_them_first() -> None:
    net = Heads(1)
    assert net.named_children() == [
        (name, getattr(net, name)) for name in ("layers", "heads", "shifts", "gains")
    ]
    assert nn.MLP(1, [2, 1]).named_children()[1][0] == "layers.1"
    visited: list[nn.Module] = []
    assert net.apply(visited.append) is net
    layers, heads = net.layers, net.heads
    assert visited == [
        layers[0], layers, heads["mean"], heads["scale"], heads, net.shifts, net.gains, net,
    ]  # fmt: skip
    shared = nn.Linear(1, 1)
    visited.clear()
    twice = nn.Sequential(shared, shared).apply(visited.append)
    assert visited == [shared, twice]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, "f8"])
def test_a_copy_in_another_dtype(dtype: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5, rng=0))
    net[0].bias.requires_grad = False
    state = net.state_dict()
    new = net.astype(dtype)
    assert {p.dtype for p in new.parameters()} == {np.dtype(dtype)}
    assert new[1].running_mean.dtype == dtype and new[1].num_batches_tracked.dtype == np.int64
    assert not new[0].bias.requires_grad and new[0].weight.requires_grad
    assert new(np.ones((2, 3), dtype)).dtype == dtype
    assert all(np.array_equal(a, state[name]) for name, a in net.state_dict().items())
    assert net[0].weight.dtype == np.float64 and net[0].weight is not new[0].weight
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    cast = tied.astype(dtype)
    assert cast[0].weight is cast[1].weight


def test_a_dtype_of_no_parameters_is_refused() -> None:
    net = nn.ParameterList([1.0, 1j])
    assert [p.dtype for p in net.astype(np.float32)] == [np.float32, np.complex128]
    assert [p.dtype for p in net.astype(np.complex64)] == [np.complex64] * 2
    for dtype in int, bool, object:
        with pytest.raises(TypeError, match=r"Linear\.astype: .* not "):
            nn.Linear(1, 1).astype(dtype)
