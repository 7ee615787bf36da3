"""What users of other libraries look for here: the errors say what to write, and that runs."""

import copy
import inspect
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.guide import CURES, MEANINGS, cures

from .oracles import leaf

TABLE = [(where, name, cure) for where in CURES for name, cure in cures(where)]


def names() -> dict[str, Any]:
    """What the cures speak of."""
    net = tg.nn.Sequential(tg.nn.Linear(3, 8, rng=0), tg.nn.Tanh(), tg.nn.Linear(8, 3, rng=0))
    x = np.random.default_rng(0).uniform(0.1, 0.9, (12, 3))
    t = np.random.default_rng(1).uniform(0.1, 0.9, (2, 3, 4))
    tg.nn.mse_loss(net(x), x).backward()
    optimizer = tg.optim.SGD(net.parameters(), lr=0.1)
    return {
        "np": np, "tg": tg, "tensorgrad": tg, "net": net, "x": x, "y": x, "rng": np.random,
        "a": tg.Tensor(np.eye(2) + 0.1),
        "t": tg.Tensor(t), "w": leaf([1.0, 2.0]), "index": np.zeros((1, 3, 4), int),
        "batches": tg.data.batches((x, x), batch_size=6), "f": lambda v: np.sum(np.sin(v)),
        "optimizer": optimizer, "schedule": tg.optim.StepLR(optimizer, 2),
        "history": tg.training.History(loss=[1.0]), "step": lambda a, b: np.sum(a * b),
    }  # fmt: skip


def holder(where: str) -> Any:
    """An object that lacks what the table has a cure for."""
    if where == "Tensor":
        return tg.Tensor([1.0])
    own = {"Sequential": "net", "LRScheduler": "schedule"}.get(where, where.lower())
    if own in names():
        return names()[own]
    return tg.nn.Linear(2, 1) if where == "Module" else sys.modules[where]


@pytest.mark.parametrize("where", CURES)
def test_what_is_looked_for_is_answered_with_what_runs(
    where: str, subtests: pytest.Subtests
) -> None:
    target = holder(where)
    for name, cure in cures(where):
        with subtests.test(name):
            assert not hasattr(target, name), "the table has a cure for what is there"
            assert name not in dir(target)
            with pytest.raises(AttributeError, match="has no attribute") as caught:
                getattr(target, name)
            assert cure.removeprefix("# ") in str(caught.value)
            given = names()
            if "backward" in cure:
                given["t"] = np.sum(leaf([1.0]))
            exec(cure, given)


def test_the_table_is_large_and_says_each_name_once() -> None:
    assert len(TABLE) > 250
    assert len({(where, name) for where, name, _ in TABLE}) == len(TABLE)


def test_what_another_namespace_has_is_found_there() -> None:
    for namespace, name, cure in (
        (tg, "Linear", "use tg.nn.Linear"),
        (tg, "Adam", "use tg.optim.Adam"),
        (tg, "einsum", "use np.einsum"),
        (tg.nn, "Adam", "use tg.optim.Adam"),
        (tg.nn, "concatenate", "use np.concatenate"),
        (tg.nn, "fit", "use tg.fit"),
        (tg.optim, "Linear", "use tg.nn.Linear"),
        (tg, "CrossEntropyLoss", "use tg.nn.cross_entropy"),
        (tg.nn, "DataLoader", "use tg.data.batches"),
        (tg.special, "one_hot", "use tg.data.one_hot"),
        (tg.training, "Linear", "use tg.nn.Linear"),
    ):
        with pytest.raises(AttributeError) as caught:
            getattr(namespace, name)
        assert cure in str(caught.value)


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("from tensorgrad import jit, vmap", "use tg.compile"),
        ("from tensorgrad.nn import functional as F", "functions are in tg.nn"),
        ("from tensorgrad.optim import lr_scheduler", "schedules are in tg.optim"),
        ("from tensorgrad.data import DataLoader, random_split", "use tg.data.batches"),
        ("from tensorgrad import nonsense", "cannot import name 'nonsense'"),
    ],
)
def test_an_import_says_the_cure_too(line: str, cure: str) -> None:
    with pytest.raises(ImportError, match=cure):
        exec(line, {})
    exec("from tensorgrad import doctor", {})  # a module that nobody has imported before


def test_python_suggests_the_nearest_name_and_nothing_beside_a_cure() -> None:
    endings = {
        "tg.Tensor([1.0]).bacward": "'bacward'. Did you mean: 'backward'?",
        "tg.jacobain": "'jacobain'. Did you mean: 'jacobian'?",
        "tg.nn.Linear(1, 1).wieght": "'wieght'. Did you mean: 'weight'?",
        "tg.Tensor([1.0]).view(1)": "use t.reshape(-1, 4)",
        "tg.cat": "use tg.concat([t, t], axis=0)",
    }
    script = f"""
import sys, tensorgrad as tg
for code in {[*endings]}:
    try:
        eval(code)
    except AttributeError as error:
        sys.__excepthook__(type(error), error.with_traceback(None), None)
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for line, ending in zip(out.stderr.splitlines(), endings.values(), strict=True):
        assert line.endswith(ending)


def test_attributes_that_are_there_are_as_they_were() -> None:
    class Net(tg.nn.Module):
        to = 3

        def __init__(self) -> None:
            self.device = self.cpu = "cpu"
            self.cuda = tg.Tensor([1.0], requires_grad=True)

        @property
        def apply(self) -> Any:
            raise AttributeError("of the user's own")

    net = Net()
    assert (net.to, net.cpu, net.device) == (3, "cpu", "cpu")
    assert [name for name, _ in net.named_parameters()] == ["cuda"]
    assert {"to", "cpu", "cuda", "apply"} <= {*dir(net)}
    with pytest.raises(AttributeError, match="of the user's own"):
        _ = net.apply

    class Estimator:
        steps = 5

        def fit(self) -> int:
            return self.steps

        @property
        def score(self) -> float:
            return 0.5

    class Both(Net, Estimator):
        def __getattr__(self, name: str) -> Any:
            if name == "half":
                return "of the user's own"
            raise AttributeError(name)

    both = Both()
    assert (both.fit(), both.score, both.half) == (5, 0.5, "of the user's own")
    assert {"fit", "score", "steps"} <= {*dir(both)} and "evaluate" not in dir(both)
    for thing in net, both, leaf([1.0, 2.0]):
        for twin in copy.copy(thing), copy.deepcopy(thing):
            assert type(twin) is type(thing)
    linear = tg.nn.Linear(2, 1)
    assert repr(pickle.loads(pickle.dumps(linear))) == repr(linear)
    assert not hasattr(tg.Tensor, "view")
    assert "_Absent" not in str([*map(repr, inspect.getmembers(tg.ones((2, 2))))])


# -- keywords, and names with another meaning


def functions_along_an_axis() -> dict[str, Any]:
    """Our functions, and a tensor's methods, that take NumPy's `axis`."""
    t = tg.Tensor([[3.0, 1.0], [2.0, 4.0]])
    found = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in (tg, tg.nn, tg.special)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
        and getattr(module, name).__module__.startswith("tensorgrad")
        and "axis" in inspect.signature(getattr(module, name)).parameters
    }
    methods = "sum mean prod std var max min argmax argmin all any cumsum cumprod argsort sort"
    return found | {f"t.{name}": getattr(t, name) for name in methods.split()}


ALONG_AN_AXIS = functions_along_an_axis()


def test_functions_along_an_axis_are_found() -> None:
    expected = {"tensorgrad.sort", "tensorgrad.nn.softmax", "tensorgrad.nn.cosine_similarity"}
    assert {*ALONG_AN_AXIS} >= expected | {"tensorgrad.special.log_softmax", "t.sum"}


@pytest.mark.parametrize("name", ALONG_AN_AXIS)
def test_pytorchs_keywords_are_answered_with_numpys(name: str) -> None:
    args = [] if name.startswith("t.") else [tg.Tensor([[3.0, 1.0], [2.0, 4.0]])] * 2
    args = args[: 2 if "similarity" in name else 1]
    for keywords, cure in (
        ({"dim": 1}, "'dim': use axis="),
        ({"axis": 1, "keepdim": True}, "'keepdim': use keepdims="),
        ({"unbiased": False}, "'unbiased': use ddof=1"),
    ):
        with pytest.raises(TypeError, match=cure):
            ALONG_AN_AXIS[name](*args, **keywords)


def test_what_is_unlike_pytorchs_says_so_and_how_to_write_it() -> None:
    """In the docstring, and in the documentation; what is written there runs."""
    page = Path("tensorgrad/docs/from-pytorch.md").read_text()
    for name, meaning in MEANINGS.items():
        *_, ours = re.findall("`([^`]+)`", meaning)
        exec(ours, names())
        documented = getattr(tg.Tensor, name).__doc__.replace("\n", " ")
        assert ours in re.sub(" +", " ", documented), name
        assert ours in page, name


def test_micrograds_expressions_run_on_tensors_of_no_axis() -> None:
    """What its tests and notebooks do, with `Tensor(value, requires_grad=True)` for `Value`."""

    def expressions(of: Any) -> Any:
        a, b = of(-4.0), of(2.0)
        c = a + b
        d = a * b + b**3
        c += c + 1
        c += 1 + c + (-a)
        d += d * 2 + (b + a).relu()
        d += 3 * d + (b - a).relu()
        g = (c - d) ** 2 / 2.0
        g += 10.0 / g
        h = (b / 8).tanh() + (b / 8).exp() + (b / 8 - 3).relu() + b.log() + (a / 8).sigmoid()
        (g + h).backward()
        return (g + h).data, a.grad, b.grad

    assert_allclose(expressions(leaf), expressions(tg.scalar.Value), rtol=1e-12)
    x = leaf([-1.0, 0.0, 2.0])
    for ours, function in (
        (tg.Tensor.relu, tg.nn.relu),
        (tg.Tensor.tanh, np.tanh),
        (tg.Tensor.exp, np.exp),
        (tg.Tensor.sigmoid, tg.nn.sigmoid),
    ):
        assert_array_equal(ours(x).data, function(x.data))
        assert_array_equal(tg.elementwise_grad(ours)(x.data), tg.elementwise_grad(function)(x.data))


# -- calls that other libraries' users write

NET = tg.nn.Sequential(tg.nn.Linear(2, 1, rng=0))
X, Y = np.ones((4, 2)), np.ones((4, 1))
BATCHES = [(X, Y)]
CALLS: list[tuple[Any, str]] = [
    (lambda: tg.MLP(3, 4), r"\[4\], not 4"),
    (lambda: tg.scalar.MLP(3, 4), r"\[4\], not 4"),
    (lambda: tg.fit(NET, X, Y), "must be a function of prediction and target.*not a ndarray"),
    (lambda: tg.fit(NET, "mse", BATCHES), "as tg.nn.mse_loss, not 'mse'"),
    (lambda: tg.fit(NET, lambda *_: None, BATCHES, progress=False), "returned None"),
    (lambda: tg.fit(NET, lambda *_: 3.0, BATCHES, progress=False), "without a graph"),
    (lambda: tg.fit(np.sin, tg.nn.mse_loss, BATCHES), "must be a tg.nn.Module"),
    (lambda: tg.fit(NET, tg.nn.mse_loss, X, progress=False), r"tg.data.batches\(\(x, y\)"),
    (lambda: tg.fit(NET, tg.nn.mse_loss, (X, Y), progress=False), r"tg.data.batches\(\(x, y\)"),
    (lambda: tg.fit(NET, tg.nn.mse_loss, BATCHES, optimizer="adam"), r"tg.optim.Adam\(model.par"),
    (lambda: tg.fit(NET, tg.nn.mse_loss, BATCHES, lr=0.1), r"optimizer=tg.optim.Adam\("),
    (lambda: tg.fit(NET, tg.nn.mse_loss, (X, Y), batch_size=2), "batch_size=32"),
    (lambda: tg.training.evaluate(NET, "mse", BATCHES), "as tg.nn.mse_loss, not 'mse'"),
    (lambda: tg.data.batches(X, Y, 2), r"one tuple: batches\(\(x, y\), 32\)"),
    (lambda: tg.data.train_test_split(X, random_state=0), "use rng="),
    (lambda: tg.optim.SGD(NET, lr=0.1), r"not Linear: pass net.parameters\(\)"),
    (lambda: tg.zeros(2, 3), r"pass the shape as a tuple, \(2, 3\)"),
    (lambda: tg.ones((2, 3), requires_grad=True), r"tg.Tensor\(np.ones\(...\), requires_grad=True"),
    (lambda: tg.ones((2, 3)).sum(1, True), "keepdims=True"),
    (lambda: tg.ones((2, 3)).flatten(1), r"t.reshape\(len\(t\), -1\)"),
    (lambda: tg.ones((2, 3)).flatten(start_dim=1), r"t.reshape\(len\(t\), -1\)"),
    (lambda: tg.optim.SGD(NET.parameters(), lr=0.1).zero_grad(set_to_none=True), "grad is None"),
    (lambda: tg.compile(np.sin, donate_argnums=0), "leave it out"),
    (lambda: tg.grad(np.sin, argnum=0), "use argnums="),
    (lambda: tg.nn.relu(leaf([1.0]), inplace=True), r"relu\(\).*'inplace': leave it out"),
    (lambda: tg.nn.relu(leaf([1.0]), nonsense=True), "relu: .*'nonsense'"),
    (lambda: tg.nn.cross_entropy(X, np.array(["a", "b", "a", "b"])), r"use np\.unique\(target"),
    (lambda: tg.save({"w": X}, "w.npz"), r"save\(path, tree\), not a dict"),
    (lambda: np.multiply(leaf([1.0]), 2, out=tg.zeros(1)), "leave out out=, and assign"),
    (lambda: np.add.at(tg.zeros(2), [0, 0], 1.0), r"np\.eye\(n\)\[index\]\.T @ tensor"),
    (lambda: tg.ones((2, 3, 4)).sort(descending=True), "tg.sort"),
    (lambda: np.sum(leaf([1.0])).backward(create_graph=True), r"use tg.grad\(tg.grad\(f\)\)"),
    (lambda: tg.nn.ReLU(inplace=True), "ReLU: inplace=True is not supported: leave it out"),
    (lambda: tg.nn.GELU(tanh=True), "GELU.*unexpected keyword argument 'tanh'"),
    (
        lambda: tg.nn.LeakyReLU(slope=1.0),
        r"LeakyReLU.__init__\(\) got an unexpected keyword argument 'slope'",
    ),
    (lambda: tg.nn.Sequential([tg.nn.ReLU()]), r"Sequential\(\*modules\)"),
    (lambda: tg.nn.Sequential(tg.nn.ReLU), r"make one, ReLU\(\)"),
    (lambda: tg.MLP(2, [1], activation=tg.nn.ReLU), r"make one, ReLU\(\)"),
    (lambda: tg.optim.StepLR(0.1, 1), "StepLR: needs an optimizer, not a float"),
    (lambda: tg.optim.OneCycleLR(NET.parameters(), 0.1, 10), "OneCycleLR: needs an optimizer"),
    (
        lambda: tg.fit(NET, tg.nn.mse_loss, BATCHES, metrics=tg.training.accuracy),
        "must be a list of functions",
    ),
    (
        lambda: tg.optim.SGD(NET.parameters(), lr=0.1).step(leaf(1.0)),
        r"loss.backward\(\) first",
    ),
    (lambda: tg.compile(X), r"takes a function, not a ndarray: compile\(f\)\(x\)"),
    (lambda: tg.Tensor(2, 3), r"tg.zeros\(\(2, 3\)\)"),
    (lambda: tg.jvp(np.sin, 1.0, 1.0), r"as \(x,\), not a float"),
    (lambda: tg.hvp(np.sum, (X,), X), r"tangents must be a tuple .*, not a ndarray"),
    (lambda: tg.grad(np.sum, X), r"write grad\(f\)\(x\)"),
    (lambda: tg.grad(np.sum, "x"), r"positions of arguments, such as 0 or \(0, 1\)"),
    (lambda: tg.hessian(np.sum, X), r"write hessian\(f\)\(x\)"),
    (lambda: tg.jacobian(X), r"write jacobian\(f\)\(x\)"),
    (lambda: tg.value_and_grad(np.sum, True), r"write value_and_grad\(f\)\(x\)"),
    (lambda: tg.elementwise_grad(np.sin, X), r"write elementwise_grad\(f\)\(x\)"),
]


@pytest.mark.parametrize(("call", "cure"), CALLS)
def test_a_call_that_is_not_ours_says_how_to_write_it(call: Any, cure: str) -> None:
    with pytest.raises(TypeError, match=cure):
        call()


def test_other_calls_that_are_not_ours() -> None:
    with pytest.raises(ValueError, match=r"t\.swapaxes\(0, 1\)"):
        tg.ones((2, 3, 4)).transpose(0, 1)
    with pytest.raises(ValueError, match=r"of shape \(n, C\), not \(2,\); .*binary_accuracy"):
        tg.training.accuracy(np.array([0.2, 0.8]), np.array([0, 1]))
    with pytest.raises(ValueError, match="must return one element, not None"):
        tg.grad(lambda _: None)(1.0)
    with pytest.raises(ValueError, match=r"hessian: .* not shape \(4, 2\): .* tensorgrad.jacobian"):
        tg.hessian(np.sin)(X)
    with pytest.raises(ValueError, match=r"the call has 0 positional arguments \(those"):
        tg.grad(lambda x: x)(x=1.0)
    with pytest.raises(ValueError, match=r"use target.astype\(float\)"):
        tg.nn.cross_entropy(np.zeros((2, 3)), np.eye(3, dtype=int)[:2])
    optimizer = tg.optim.SGD(NET.parameters(), lr=0.1)
    assert "get_lr" not in dir(tg.optim.StepLR(optimizer, 1))
    with pytest.raises(AttributeError, match=r"schedule.get_last_lr\(\)"):
        tg.optim.StepLR(optimizer, 1).get_lr()
    assert len(tg.nn.Sequential(*NET, tg.nn.ReLU(inplace=False))) == 2


def test_a_mode_decorates_with_and_without_parentheses() -> None:
    x = leaf([1.0])
    for decorate in tg.no_grad, tg.no_grad():
        assert not decorate(lambda: (x * 2).requires_grad)()
    with tg.no_grad():
        for decorate in tg.enable_grad, tg.enable_grad():
            assert decorate(lambda: (x * 2).requires_grad)()


def test_a_list_of_losses_is_plotted_once_their_graphs_are_gone() -> None:
    pyplot = pytest.importorskip("matplotlib.figure")
    losses = [np.sum(leaf([1.0, 2.0]) * i) for i in range(3)]
    axes = pyplot.Figure().subplots()
    with pytest.raises(TypeError, match=r"\.item\(\)"):
        axes.plot(losses)
    for loss in losses:
        loss.backward()
    (line,) = axes.plot(losses)
    assert_array_equal(line.get_ydata(), [0, 3, 6])


# -- numbers

NUMBERS: list[tuple[Any, Any]] = [
    (float, 1.5625),
    (int, 1),
    (complex, 1.5625 + 0j),
    (lambda t: round(t, 2), 1.56),
    (round, 2),
    (math.isnan, False),
    (math.sqrt, 1.25),
    (math.floor, 1),
    (lambda t: "%.3f" % t, "1.562"),  # noqa: UP031
    (np.asarray, np.array(1.5625)),
    (lambda t: np.array([t, t]), np.array([1.5625, 1.5625])),
    (lambda t: tg.Tensor(t).data, np.array(1.5625)),
]
EXPLICIT: list[tuple[Any, Any]] = [
    (lambda t: t.item(), 1.5625),
    (lambda t: t.tolist(), 1.5625),
    (lambda t: t.numpy(), np.array(1.5625)),
    (lambda t: f"{t:.3f}", "1.562"),
    (bool, True),
]


@pytest.mark.parametrize(("convert", "expected"), NUMBERS + EXPLICIT)
def test_numbers_are_made_of_what_no_gradient_can_go_through(convert: Any, expected: Any) -> None:
    x = leaf(1.25)
    live, retained, freed = (np.square(x) for _ in range(3))
    freed.backward()
    retained.backward(retain_graph=True)
    with tg.no_grad():
        unrecorded = np.square(x)
    for t in tg.Tensor(1.5625), unrecorded, live.detach(), freed:
        assert_array_equal(convert(t), expected)
        assert type(convert(t)) is type(expected)
    for t in live, retained:
        if (convert, expected) in EXPLICIT:
            assert_array_equal(convert(t), expected)
        else:
            with pytest.raises(TypeError, match=r"\.item\(\)"):
                convert(t)
    if (convert, expected) not in EXPLICIT:
        with pytest.raises(TypeError, match=r"\.item\(\)"):
            convert(x)
        for transform in tg.grad, tg.value_and_grad, tg.hessian:
            with pytest.raises(TypeError, match=r"\.item\(\)"):
                transform(lambda v: v * convert(v))(2.0)


def test_a_loop_that_prints_and_keeps_its_losses() -> None:
    net = tg.nn.Linear(2, 1, rng=0)
    optimizer = tg.optim.SGD(net.parameters(), lr=0.1)
    losses, lines = [], []
    for _ in range(3):
        loss = tg.nn.mse_loss(net(np.ones((4, 2))), np.zeros((4, 1)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss)
        lines.append("%.3f %s" % (loss, math.isnan(loss)))  # noqa: UP031
    assert lines == [f"{loss:.3f} False" for loss in losses]
    assert np.array(losses).shape == (3,) and min(losses) is losses[-1]
    mean = sum(losses) / 3
    assert f"{float(mean):.9f}" == "%.9f" % mean == f"{np.mean(losses).item():.9f}"  # noqa: UP031
    with pytest.raises(tg.GraphError):
        mean.backward()
    with pytest.raises(TypeError, match=r"\.item\(\)"):
        float(tg.nn.mse_loss(net(np.ones((4, 2))), np.zeros((4, 1))) * 2)


def test_the_loss_of_a_compiled_step_is_a_number_too() -> None:
    net = tg.nn.Linear(2, 1, rng=0)

    @tg.compile
    def step(x: Any) -> Any:
        net.zero_grad()
        loss = np.mean(net(x) ** 2)
        loss.backward()
        return loss, net(x)

    for _ in range(3):
        loss, output = step(np.ones((4, 2)))
        assert "%.3f" % loss == f"{loss:.3f}" and round(loss, 3) == round(float(loss), 3)  # noqa: UP031
        assert np.asarray(output).shape == (4, 1)
        with pytest.warns(UserWarning, match=r"retain_grad\(\)"):
            assert output.grad is None


# -- the grad of what was computed


def test_the_grad_of_a_computed_tensor_says_why_it_is_none() -> None:
    for options in {}, {"retain_graph": True}:
        x = leaf([1.0, 2.0])
        y = x * 2
        kept = x * 3
        kept.retain_grad()
        z = np.sum(y * kept)
        assert y.grad is None  # nothing went through it yet
        z.backward(**options)
        for t in y, z:
            with pytest.warns(UserWarning, match=r"Call its retain_grad\(\)") as caught:
                assert t.grad is None
            assert caught[0].filename == __file__
        assert_array_equal(kept.grad, 2 * x.data)
        assert_array_equal(x.grad, 12 * x.data)
        assert tg.Tensor([1.0]).grad is None and leaf([1.0]).grad is None
        with tg.no_grad():
            assert (x * 2).grad is None
