"""What users of other libraries look for here: the errors say what to write, and that runs."""

import copy
import inspect
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.guide import CURES, cures

from .oracles import leaf

CLASSES: dict[str, type] = {"Tensor": tg.Tensor, "Module": tg.nn.Module}
TABLE = [(where, name, cure) for where in CURES for name, cure in cures(where)]


def names() -> dict[str, Any]:
    """What the cures speak of."""
    net = tg.nn.Sequential(tg.nn.Linear(3, 8, rng=0), tg.nn.Tanh(), tg.nn.Linear(8, 3, rng=0))
    x = np.random.default_rng(0).uniform(0.1, 0.9, (12, 3))
    t = np.random.default_rng(1).uniform(0.1, 0.9, (2, 3, 4))
    loss = tg.nn.mse_loss(net(x), x)
    loss.backward()
    return {
        "np": np, "tg": tg, "tensorgrad": tg, "net": net, "x": x, "y": x, "rng": np.random,
        "t": tg.Tensor(t), "w": leaf([1.0, 2.0]), "index": np.zeros((1, 3, 4), int),
        "batches": tg.data.batches((x, x), batch_size=6), "f": lambda v: np.sum(np.sin(v)),
        "optimizer": tg.optim.SGD(net.parameters(), lr=0.1), "step": lambda a, b: np.sum(a * b),
    }  # fmt: skip


def holder(where: str) -> Any:
    """An object that lacks what the table has a cure for."""
    if where == "Tensor":
        return tg.Tensor([1.0])
    return tg.nn.Linear(2, 1) if where == "Module" else sys.modules[where]


@pytest.mark.parametrize(("where", "name", "cure"), TABLE)
def test_what_is_looked_for_is_answered_with_what_runs(where: str, name: str, cure: str) -> None:
    if (where, name) == ("tensorgrad", "tensor"):
        with pytest.raises(TypeError, match=r"use tg\.Tensor\("):
            tg.tensor([1.0])
    else:
        target = holder(where)
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
    for code, ending in (
        ("tg.Tensor([1.0]).bacward", "'bacward'. Did you mean: 'backward'?"),
        ("tg.jacobain", "'jacobain'. Did you mean: 'jacobian'?"),
        ("tg.nn.Linear(1, 1).wieght", "'wieght'. Did you mean: 'weight'?"),
        ("tg.Tensor([1.0]).view(1)", "use t.reshape(-1, 4)"),
        ("tg.cat", "use tg.concat([t, t], axis=0)"),
    ):
        command = [sys.executable, "-c", f"import tensorgrad as tg; {code}"]
        out = subprocess.run(command, capture_output=True, text=True, check=False)
        assert out.stderr.rstrip().endswith(ending)


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
    for thing in net, leaf([1.0, 2.0]):
        for twin in copy.copy(thing), copy.deepcopy(thing):
            assert type(twin) is type(thing)
    linear = tg.nn.Linear(2, 1)
    assert repr(pickle.loads(pickle.dumps(linear))) == repr(linear)
    assert not hasattr(tg.Tensor, "view")
    assert "_Absent" not in str([*map(repr, inspect.getmembers(tg.ones((2, 2))))])
