"""Modules: what they hold, by which names, and how it is kept, restored, frozen and shown."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn

from .depth import one_in
from .oracles import leaf


class Block(nn.Module):
    """Everything a module can hold."""

    buffer_names = ("mean",)

    def __init__(self, rng: Any = None) -> None:
        rng = np.random.default_rng(rng)
        self.first = nn.Linear(2, 3, rng=rng)
        self.blocks = [nn.Linear(3, 3, rng=rng), {"inner": nn.Linear(3, 1, rng=rng)}]
        self.scale = leaf(rng.normal(size=3), np.float32)
        self.mean = tg.Tensor([1.0, 2.0])
        self.count = tg.Tensor(7)
        self.computed = self.scale * 2
        self.activation = np.tanh
        self.name = "block"

    def __call__(self, x: Any) -> Any:
        h = self.activation(self.first(x))
        return self.blocks[1]["inner"](self.blocks[0](h) * self.scale)


PARAMETERS = [
    "first.weight", "first.bias", "blocks.0.weight", "blocks.0.bias",
    "blocks.1.inner.weight", "blocks.1.inner.bias", "scale",
]  # fmt: skip


# -- names


def test_names_of_parameters_modules_and_state() -> None:
    block = Block()
    assert [name for name, _ in block.named_parameters()] == PARAMETERS
    assert block.named_modules() == [
        ("", block),
        ("first", block.first),
        ("blocks.0", block.blocks[0]),
        ("blocks.1.inner", block.blocks[1]["inner"]),
    ]
    assert block.modules() == [module for _, module in block.named_modules()]
    assert list(block.state_dict()) == [*PARAMETERS, "mean", "count"]


def test_what_is_shared_is_listed_once_and_kept_by_each_name() -> None:
    net = nn.Sequential(nn.Linear(2, 2), np.tanh, nn.Linear(2, 2))
    net[2].weight = net[0].weight
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    layer = nn.Linear(2, 2)
    twice = nn.Sequential(layer, layer)
    assert twice.modules() == [twice, layer]
    assert list(twice.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    twice.load_state_dict(twice.state_dict())


def test_a_module_that_holds_itself() -> None:
    net = nn.MLP(1, [1])
    net.parent = {"of": [net]}  # type: ignore[attr-defined]
    assert net.modules() == [net, net.layers[0]]
    assert list(net.state_dict()) == ["layers.0.weight", "layers.0.bias"]

    class Ring(nn.Module):
        def __init__(self) -> None:
            self.ring = [self]

    ring: Any = Ring()
    ring.loop = [1, ring.ring]
    assert (ring.parameters(), ring.state_dict(), ring.modules()) == ([], {}, [ring])
    assert "..." in repr(ring)


# -- the state


def test_a_state_is_a_copy() -> None:
    block = Block()
    state = block.state_dict()
    for array in state.values():
        array[...] = 0
    assert any(a.any() for a in block.state_dict().values())
    assert state["scale"].dtype == np.float32
    assert state["count"].dtype == np.int64


def test_loading_a_state_makes_outputs_equal_and_keeps_handles() -> None:
    one, other = Block(1), Block(2)
    other.mean.data += 1
    x = np.ones((4, 2))
    assert not np.allclose(one(x).data, other(x).data)
    kept = one.parameters(), one.mean, one.mean.data
    one.load_state_dict(other.state_dict())
    assert_array_equal(one(x).data, other(x).data)
    assert all(p is q for p, q in zip(one.parameters(), kept[0], strict=True))
    assert one.mean is kept[1] and one.mean.data is kept[2]
    assert_array_equal(one.mean.data, [2, 3])
    one(x).backward(np.ones((4, 1)))
    assert not any(
        np.shares_memory(p.data, q.data) for p, q in zip(one.parameters(), other.parameters())
    )


def test_a_state_may_hold_tensors_numbers_and_other_dtypes() -> None:
    layer = nn.Linear(2, 1, dtype=np.float32)
    layer.load_state_dict({"weight": leaf([[1.0, 2.0]]), "bias": [3]})
    assert (layer.weight.dtype, layer.bias.dtype) == (np.float32, np.float32)
    assert_array_equal(layer([1.0, 1.0]).data, [6])


def test_pytorchs_state_loads() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    ours = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    x = np.random.default_rng(0).normal(size=(5, 2))
    for state in theirs.state_dict(), dict(theirs.named_parameters()):
        ours.load_state_dict(state)
        expected = theirs(torch.tensor(x, dtype=torch.float32)).detach().numpy()
        assert_allclose(ours(x).data, expected, rtol=1e-5, atol=1e-6)


def test_one_error_lists_every_fault_and_nothing_is_loaded() -> None:
    block = Block()
    before = block.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    del state["first.bias"], state["mean"]
    state |= {"scale": np.ones((3, 1)), "blocks.0.bias": np.ones(3, complex), "extra": np.ones(2)}
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    for line in (
        "missing: first.bias", "missing: mean", "unexpected: extra",
        "of another shape: scale is (3, 1), not (3,)",
        "of another dtype: blocks.0.bias is complex128, not float64",
    ):  # fmt: skip
        assert f"\n  {line}" in str(caught.value)
    assert "Block" in str(caught.value) and "strict=False" in str(caught.value)
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state, strict=False)
    assert "missing" not in str(caught.value) and "scale" in str(caught.value)
    assert all(np.array_equal(a, before[name]) for name, a in block.state_dict().items())


@pytest.mark.parametrize("buffer", ["mean", "count"])
def test_nothing_is_loaded_where_an_array_is_read_only(buffer: str) -> None:
    block = Block(1)
    before = block.state_dict()
    getattr(block, buffer).data.flags.writeable = False
    with pytest.raises(ValueError, match=rf"\n  read-only: {buffer}.*guard\(\)"):
        block.load_state_dict({name: array + 1 for name, array in before.items()})
    assert all(np.array_equal(a, before[name]) for name, a in block.state_dict().items())


def test_nothing_is_loaded_into_a_module_that_a_transform_traces() -> None:
    def loss(net: Any) -> Any:
        mean = net.mean.data.copy()
        with pytest.raises(ValueError, match="computed by a transform"):
            net.load_state_dict({name: a + 1 for name, a in net.state_dict().items()})
        assert_array_equal(net.mean.data, mean)
        return np.sum(net(np.ones(2)))

    tg.grad(loss)(Block())


def test_a_state_of_views_of_the_module_itself() -> None:
    net = nn.BatchNorm1d(3)
    statistics = net.running_mean.data, net.running_var.data
    state = net.state_dict()
    state |= {"running_mean": statistics[1], "running_var": statistics[0]}
    net.load_state_dict(state)
    assert_array_equal(net.running_mean.data, np.ones(3))
    assert_array_equal(net.running_var.data, np.zeros(3))


def test_without_strict_what_fits_is_loaded() -> None:
    layer = nn.Linear(2, 1)
    bias = layer.bias.data.copy()
    found = layer.load_state_dict({"weight": np.ones((1, 2)), "other": 0}, strict=False)
    assert found == (found.missing_keys, found.unexpected_keys) == (["bias"], ["other"])
    assert layer.load_state_dict(layer.state_dict()) == ([], [])
    assert_array_equal(layer.weight.data, 1)
    assert_array_equal(layer.bias.data, bias)


def test_a_graph_refuses_backward_after_loading() -> None:
    layer = nn.Linear(2, 1)
    y = layer(leaf([1.0, 2.0]))
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(tg.errors.GraphError, match="changed"):
        y.backward()


# -- training, using, freezing


def test_train_and_eval_reach_every_module() -> None:
    net = nn.Sequential(nn.Dropout(0.5), Block())
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert net.train() is net
    assert all(module.training for module in net.modules())
    assert not any(module.training for module in net.train(False).modules())
    assert nn.Linear(1, 1).training


def test_zero_grad() -> None:
    block = Block()
    block(np.ones(2)).backward()
    assert all(p.grad is not None for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())


def test_freezing_and_thawing() -> None:
    block = Block()
    names = list(block.state_dict())
    x, expected = np.ones(2), block(np.ones(2)).data
    assert block.requires_grad_(False) is block
    assert block.parameters() == []
    assert list(block.state_dict()) == names
    out = block(x)
    assert not out.requires_grad
    assert_array_equal(out.data, expected)  # to the last bit, as arrays lie as they did
    assert block.first.weight.data.flags.fnc
    block.blocks[1]["inner"].requires_grad_()
    assert [n for n, _ in block.named_parameters()] == PARAMETERS[4:6]
    block(x).backward()
    block.load_state_dict(Block(5).state_dict())
    assert_array_equal(block(x).data, Block(5)(x).data)
    block.requires_grad_(True)
    assert [n for n, _ in block.named_parameters()] == PARAMETERS
    assert not block.mean.requires_grad and not block.count.requires_grad


def test_running_statistics_are_never_parameters() -> None:
    layer = nn.BatchNorm1d(3).requires_grad_(False).requires_grad_(True)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


# -- Sequential


def test_sequential_is_a_sequence() -> None:
    layers: list[Any] = [nn.Linear(2, 3, rng=0), np.tanh, nn.Linear(3, 1, rng=0)]
    net = nn.Sequential(*layers)
    assert (len(net), list(net)) == (3, layers)
    assert net[0] is layers[0] and net[-1] is layers[2]
    x = np.ones((4, 2))
    assert_array_equal(net(x).data, layers[2](np.tanh(layers[0](x))).data)
    tail = net[1:]
    assert isinstance(tail, nn.Sequential)
    assert [name for name, _ in tail.named_parameters()] == ["2.weight", "2.bias"]
    assert tail[1] is layers[2]
    assert nn.Sequential()(x) is x
    with pytest.raises(IndexError):
        net[3]
    with pytest.raises(TypeError, match="1 is a int"):
        nn.Sequential(np.tanh, 3)  # type: ignore[arg-type]


def test_sequential_of_names() -> None:
    net = nn.Sequential({"hidden": nn.Linear(2, 3), "act": nn.ReLU(), "out": nn.Linear(3, 1)})
    assert list(net.state_dict()) == ["hidden.weight", "hidden.bias", "out.weight", "out.bias"]
    net.extra = leaf(1.0)  # type: ignore[attr-defined]
    assert net.named_parameters()[-1][0] == "extra"


def test_a_step_by_the_name_of_an_attribute() -> None:
    net = nn.Sequential({"training": nn.Linear(2, 3), "steps": nn.Linear(3, 1)}).eval()
    names = ["training.weight", "training.bias", "steps.weight", "steps.bias"]
    assert [name for name, _ in net.named_parameters()] == names
    assert net.training is False and net(np.ones(2)).shape == (1,)


@pytest.mark.parametrize(
    "value", [np.ones((2, 3)), 1.0, [[1.0]], "weight", lambda x: x, tg.nn.Linear(3, 2)]
)
@pytest.mark.parametrize("name", ["weight", "running_mean"])
def test_a_tensor_is_not_lost_by_assigning_something_else(name: str, value: Any) -> None:
    net = tg.nn.Sequential(tg.nn.BatchNorm1d(3))[0]
    before, state = dict(vars(net)), net.state_dict()
    kind = type(value).__name__
    with pytest.raises(TypeError, match=rf"BatchNorm1d\.{name} .*{kind}.*{name}\.data = "):
        setattr(net, name, value)
    assert vars(net) == before and net.state_dict().keys() == state.keys()


def test_a_parameter_is_not_lost_by_assigning_a_computed_tensor() -> None:
    net = tg.nn.Linear(3, 2)
    with pytest.raises(TypeError, match=r"Linear\.weight .*computed tensor.*weight\.data = "):
        net.weight = net.weight * 0.5
    assert [name for name, _ in net.named_parameters()] == ["weight", "bias"]


def test_what_may_be_assigned_over_a_tensor() -> None:
    class Memory(tg.nn.Module):
        def __init__(self) -> None:
            self.state = tg.Tensor(np.zeros(2))
            self.gain = tg.Tensor(1.0, requires_grad=True)

        def __call__(self, x: Any) -> Any:
            self.state = np.tanh(
                self.state + self.gain * x
            )  # in place of a tensor that is no parameter
            return self.state

    memory = Memory()
    np.sum(memory(np.ones(2)) + memory(np.ones(2))).backward()
    assert memory.gain.grad != 0
    memory.state = memory.state.detach()
    first, second = tg.nn.Linear(3, 2), tg.nn.Linear(3, 2)
    first.weight = second.weight  # one parameter in both
    first.bias = None
    assert first.parameters() == [second.weight]
    second.weight = tg.Tensor(np.ones((2, 3)))  # frozen
    assert second.parameters() == [second.bias]
    second.weight = tg.Tensor(np.ones((2, 3)), requires_grad=True)
    assert len(second.parameters()) == 2


def test_inside_a_transform_a_parameter_may_be_computed() -> None:
    net = tg.nn.Linear(3, 1, bias=False)

    def halved(net: Any) -> Any:
        net.weight = net.weight * 0.5
        return np.sum(net(np.ones(3)))

    assert_array_equal(tg.grad(halved)(net).weight.data, np.full((1, 3), 0.5))


def test_derivatives_by_a_module() -> None:
    net = nn.Sequential(
        nn.Conv1d(1, 2, 2, rng=0), nn.BatchNorm1d(2), nn.Flatten(), nn.Linear(6, 1, rng=0)
    )
    x = np.random.default_rng(0).normal(size=(3, 1, 4))

    def loss(network: Any) -> Any:
        return np.sum(network(x) ** 2)

    gradients = tg.grad(loss)(net)
    loss(net).backward()
    for name, p in net.named_parameters():
        assert_allclose(
            dict(gradients.named_parameters())[name].data, p.grad, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_modules_copy_and_pickle(twin: Any) -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5, rng=0), np.tanh)
    other = twin(net)
    assert repr(other) == repr(net)
    x = np.random.default_rng(0).normal(size=(5, 2))
    assert_array_equal(other(x).data, net(x).data)
    assert_array_equal(other[1].running_mean.data, net[1].running_mean.data)
    assert not {id(t) for t in other.parameters()} & {id(t) for t in net.parameters()}


# -- for the reader


def test_repr_shows_shapes_and_counts() -> None:
    assert (
        repr(Block())
        == """\
Block(
  first: Linear(2, 3)
  blocks.0: Linear(3, 3)
  blocks.1.inner: Linear(3, 1)
  scale: parameter of shape (3,)
  mean: tensor of shape (2,)
  count: tensor of shape ()
  computed: tensor of shape (3,)
  activation: tanh
)  # 28 parameters"""
    )
    nested = nn.Sequential(nn.Sequential(nn.Linear(1, 1)), nn.ReLU())
    assert (
        repr(nested)
        == """\
Sequential(
  0: Sequential(
    0: Linear(1, 1)
  )  # 2 parameters
  1: ReLU()
)  # 2 parameters"""
    )
    assert repr(nn.Module()) == "Module()"


def test_summary() -> None:
    assert (
        Block().summary()
        == """\
path            module  parameters
                Block            3
first           Linear           9
blocks.0        Linear          12
blocks.1.inner  Linear           4
total                           28"""
    )
    table = Block().summary(np.ones((5, 2)))
    assert "first           Linear  (5, 3)           9" in table


def test_summary_changes_nothing() -> None:
    net = nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40), nn.Dropout(0.5, rng=0))
    before = net.state_dict(), net[2].rng.bit_generator.state
    assert "1,240" in net.summary(np.ones((2, 30)))
    assert before[1] == net[2].rng.bit_generator.state
    assert all(np.array_equal(a, before[0][name]) for name, a in net.state_dict().items())
    assert net.training and type(net[0]) is nn.Linear


def test_summary_counts_what_is_shared_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    rows = net.summary().splitlines()
    assert [row.split()[-1] for row in rows] == ["parameters", "0", "6", "2", "8"]


# -- forward and __call__


class Doubled(nn.Module):
    def forward(self, x: Any) -> Any:
        return 2 * x


class Called(nn.Module):
    def __call__(self, x: Any) -> Any:
        return 3 * x


class Squared(nn.Linear):
    def forward(self, x: Any) -> Any:
        return super().forward(x) ** 2


class SquaredAgain(Squared):
    def __call__(self, x: Any) -> Any:
        return super().__call__(x) ** 2


class Template(nn.Module):
    def __call__(self, x: Any) -> Any:
        return self.forward(x) + 1

    def forward(self, x: Any) -> Any:
        return x


class Filled(Template):
    def forward(self, x: Any) -> Any:
        return 5 * x


class Mixin:
    def forward(self, x: Any) -> Any:
        return 7 * x


class Mixed(Mixin, nn.Linear):
    pass


def test_forward_and_call_are_one_method() -> None:
    line = nn.Linear(1, 1, rng=0)
    y = line([2.0]).item()
    for make, expected in (
        (Doubled, 4),
        (Called, 6),
        (lambda: Squared(1, 1, rng=0), y**2),
        (lambda: SquaredAgain(1, 1, rng=0), y**4),
        (lambda: Mixed(1, 1), 14),
        (lambda: line, y),
    ):
        module = make()
        x = np.array([2.0])
        assert_allclose(tg.asarray(module(x)).data, [expected], rtol=1e-12)
        assert_allclose(tg.asarray(module.forward(x)).data, [expected], rtol=1e-12)
        copied = copy.deepcopy(module)
        assert_allclose(tg.asarray(tg.compile(copied)(x)).data, [expected], rtol=1e-12)
    assert "Squared" in nn.Sequential(Squared(1, 1), np.tanh).summary(np.ones((5, 1)))


def test_a_call_of_ones_own_that_calls_forward_is_kept() -> None:
    assert (Template()(1), Filled()(1), Filled().forward(1)) == (2, 6, 5)


def test_a_module_that_defines_neither_says_what_to_define() -> None:
    class Net(nn.Module):
        pass

    for call in Net(), Net().forward:
        with pytest.raises(TypeError, match=r"Net cannot be called: define forward\(self, x\)"):
            call(np.ones(3))


LAYERS: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: nn.Linear(4, 3), (2, 4)),
    (lambda: nn.MLP(4, [3, 2]), (2, 4)),
    (lambda: nn.Conv1d(4, 3, 2), (2, 4, 5)),
    (lambda: nn.LayerNorm(4), (2, 4)),
    (lambda: nn.BatchNorm1d(4), (3, 4)),
    (lambda: nn.RNN(4, 3, num_layers=2, bidirectional=True), (5, 2, 4)),
    (lambda: nn.GRU(4, 3), (5, 2, 4)),
    (lambda: nn.TransformerEncoderLayer(4, 2, 3, dropout=0.0), (5, 2, 4)),
]


@pytest.mark.parametrize(("build", "shape"), one_in(3, LAYERS))
def test_a_compiled_call_notices_each_replaced_parameter(build: Any, shape: Any) -> None:
    layer, rng = build(), np.random.default_rng(0)

    def output(x: Any) -> Any:
        y = layer(x)
        return y[0] if isinstance(y, tuple) else y

    x = rng.normal(size=shape)
    for path, p in layer.named_parameters():
        compiled = tg.compile(output)
        before = compiled(x)
        owner, _, name = path.rpartition(".")
        new = tg.Tensor(p.data + rng.normal(size=p.shape), requires_grad=True)
        setattr(dict(layer.named_modules())[owner], name, new)
        assert_allclose(compiled(x).data, output(x).data, rtol=1e-10)
        assert not np.allclose(compiled(x).data, before.data)
