"""The names of a rule's parameters are its memory plan: what is kept is read, and the rest is not.

Every derivative that a row of the table reaches is called once more, with arrays that note whether
somebody asks for their values.
"""

import inspect
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from tensorgrad.engine.arrays import Spec
from tensorgrad.engine.batching import Batch
from tensorgrad.engine.graph import Node
from tensorgrad.engine.modes import set_mode
from tensorgrad.engine.registry import Rule

from .operations import OPERATIONS
from .oracles import leaf, subsets

DESCRIPTIONS = {"shape", "ndim", "dtype", "size"}
DESCRIBING = {np.shape, np.ndim, np.size, np.zeros_like, np.ones_like, np.empty_like, np.full_like}


class Watched(np.ndarray):
    """An array that adds its name to `log` when its values are used, not its shape or dtype."""

    label: Any
    log: set[Any]

    def __getattribute__(self, attribute: str) -> Any:
        if not attribute.startswith("__") and attribute not in {*DESCRIPTIONS, "label", "log"}:
            note(self)
        return super().__getattribute__(attribute)

    def __getitem__(self, index: Any) -> Any:
        note(self)
        return plain(self)[index]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        inputs = tuple(plain(note(a)) for a in inputs)
        return getattr(ufunc, method)(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func not in DESCRIBING:
            for a in args:
                for part in a if isinstance(a, (list, tuple)) else [a]:
                    note(part)
        return super().__array_function__(func, types, args, kwargs)


def note(a: Any) -> Any:
    if type(a) is Watched and "log" in vars(a):
        vars(a)["log"].add(vars(a)["label"])
    return a


def plain(a: Any) -> Any:
    return np.ndarray.view(a, np.ndarray) if type(a) is Watched else a


def watch(a: Any, label: Any, log: set[Any]) -> Any:
    if not isinstance(a, np.ndarray):
        return a
    watched = a.view(Watched)
    watched.label, watched.log = label, log
    return watched


def parameters(rule: Rule, position: int, node: Node) -> dict[Any, str]:
    """The names of the parameters that receive the output and the array arguments."""
    vjp: Any = rule.vjps[position]
    bound = inspect.signature(vjp).bind(
        "g", "out", *range(len(node.args)), **dict.fromkeys(node.kwargs)
    )
    return {
        label: name
        for name, value in bound.arguments.items()
        for label in (value if isinstance(value, tuple) else (value,))
        if label == "out" or (isinstance(label, int) and label < rule.arity)
    }


@pytest.fixture(scope="module")
def recorded() -> list[Node]:
    """A node of every call that the table makes, with one argument tracked, and with all."""
    nodes: list[Node] = []
    rng = np.random.default_rng(0)
    with set_mode(hooks=(lambda node, _arrays: nodes.append(node),)):
        for op in OPERATIONS:
            args = op.draw(rng, op.shapes[-1])
            for tracked in subsets(len(args)):
                op.fun(*(leaf(a) if i in tracked else a for i, a in enumerate(args)))
    empty = [node for node in nodes if isinstance(node.out, tuple) and not node.out]
    return [node for node in nodes if node not in empty]  # nothing to differentiate


def test_every_kept_array_is_read(recorded: list[Node]) -> None:
    read: dict[tuple[str, int, str], bool] = defaultdict(bool)
    for node in recorded:
        assert node.rule is not None and node.parents is not None
        for position, parent in enumerate(node.parents):
            if parent is None:
                continue
            log: set[Any] = set()
            args = [watch(a, i, log) for i, a in enumerate(node.args)]
            if isinstance(node.out, tuple):
                out = tuple(watch(o, "out", log) for o in node.out)
                g = tuple(np.ones(o.shape, o.dtype) for o in node.out)
            else:
                out = node if node.out is None else watch(node.out, "out", log)
                g = np.ones(node.shape, node.dtype)
            with np.errstate(all="ignore"):
                node.rule.vjps[position](g, out, *args, **node.kwargs)  # type: ignore[misc]
            for label, name in parameters(node.rule, position, node).items():
                is_array = label == "out" or label < node.rule.arity
                kept = out if label == "out" else args[label]
                kept = kept[0] if isinstance(kept, tuple) else kept
                if is_array and isinstance(kept, Watched) and not name.startswith("_"):
                    read[node.rule.name, position, name] |= label in log
    assert [place for place, was_read in read.items() if not was_read] == []
    assert len(read) > 20


def test_arrays_that_are_not_read_are_not_kept(recorded: list[Node]) -> None:
    """An underscore's argument arrives as a description, unless another derivative reads it."""
    for node in recorded:
        assert node.rule is not None and node.parents is not None
        wanted: set[Any] = set()
        for position, parent in enumerate(node.parents):
            if parent is not None:
                names = parameters(node.rule, position, node)
                wanted |= {label for label, name in names.items() if not name.startswith("_")}
        out = node.out[0] if isinstance(node.out, tuple) else node.out
        assert isinstance(out, (np.ndarray, Batch)) == ("out" in wanted)
        for i, a in enumerate(node.args[: node.rule.arity]):
            assert not isinstance(a, (np.ndarray, Batch)) or i in wanted, (node.rule.name, i)


def test_a_description_has_no_values() -> None:
    spec = Spec((2, 3), np.dtype(np.float32))
    assert {n for n in dir(spec) if not n.startswith("_")} == DESCRIPTIONS
    assert (spec.ndim, spec.size) == (2, 6)
    with pytest.raises(TypeError):
        np.asarray(spec, float)


def test_the_watch_sees_what_it_should() -> None:
    a = np.ones((2, 2))
    for use in (
        lambda w: w * 2, lambda w: 2 * w, lambda w: w[0], lambda w: w.T,
        lambda w: np.where(w, 1, 2),
        lambda w: np.concatenate([w, w]), lambda w: w.mT @ w, lambda w: -w, lambda w: w.reshape(4),
        lambda w: w == 1, lambda w: np.sum(w),
    ):  # fmt: skip
        log: set[Any] = set()
        use(watch(a, "a", log))
        assert log == {"a"}
    for use in (
        lambda w: w.shape, lambda w: (w.ndim, w.size, w.dtype), np.zeros_like, np.shape,
    ):  # fmt: skip
        log = set()
        use(watch(a, "a", log))
        assert log == set()


@pytest.mark.parametrize(
    ("fun", "args", "kept"),
    [
        (np.add, (2, 2), []),
        (np.subtract, (2, 2), []),
        (np.multiply, (2, 2), [0, 1]),
        (np.tanh, (2,), ["out"]),
        (np.exp, (2,), ["out"]),
        (np.log, (2,), [0]),
        (np.sum, (2,), []),
        (np.transpose, (2,), []),
        (np.maximum, (2, 2), ["out", 0, 1]),
    ],
)
def test_what_is_kept(fun: Any, args: Any, kept: Any) -> None:
    nodes: list[Node] = []
    with set_mode(hooks=(lambda node, _arrays: nodes.append(node),)):
        fun(*(leaf(np.ones(n)) for n in args))
    (node,) = nodes
    actual = ["out"] * (node.out is not None)
    assert [*actual, *(i for i, a in enumerate(node.args) if isinstance(a, np.ndarray))] == kept


def test_a_constant_partner_needs_only_the_constant() -> None:
    nodes: list[Node] = []
    with set_mode(hooks=(lambda node, _arrays: nodes.append(node),)):
        leaf([1.0]) * np.ones(1)
    assert [type(a) for a in nodes[0].args] == [Node, np.ndarray]
