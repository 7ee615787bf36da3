"""Trees: containers, structures and paths; registered classes in everything that takes trees."""

import copy
import dataclasses
import pickle
import types
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_array_equal

import tensorgrad as tg
from tensorgrad import tree

from .test_compile_training import plans

X = np.array([1.0, -2.0, 0.5])


class Point(NamedTuple):
    x: Any
    y: Any


@tree.register(static=["name"])
@dataclasses.dataclass(frozen=True)
class Line:
    slope: Any
    shift: Any
    name: str = "line"

    def __post_init__(self) -> None:
        assert type(self.slope) is not object, "of objects with other leaves, this is not asked"


@tree.register
@dataclasses.dataclass(slots=True)
class Box:
    content: Any
    index: Any = dataclasses.field(init=False, default=None)


class Pair:
    """A class that is no dataclass: its second child has the name `b`."""

    def __init__(self, a: Any, b: Any, tag: str = "") -> None:
        self.a, self.b, self.tag = a, b, tag


tree.register(
    Pair, lambda p: ({"a": p.a, "b": p.b}, p.tag or None), lambda tag, ab: Pair(*ab, tag or "")
)


class Stack:
    """A class whose children have no names."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


tree.register(Stack, lambda s: (s.parts, None), lambda _, parts: Stack(*parts))


def described(x: Any) -> Any:
    """A tree of plain containers, with the classes of those in `x`, to compare with ==."""
    if not tree.is_container(x) or x is None:
        return x
    keys, children = tree.children(x)
    return type(x), [(key, described(child)) for key, child in zip(keys, children, strict=True)]


TREES: dict[str, tuple[Any, str, list[str]]] = {
    "leaf": (1.0, "*", [""]),
    "none": (None, "None", []),
    "list": ([1, [2], []], "[*, [*], []]", ["[0]", "[1][0]"]),
    "tuple": (((1,), (), 2), "((*,), (), *)", ["[0][0]", "[2]"]),
    "dict": ({"b": 1, "a": [2], 3: 4}, "{'b': *, 'a': [*], 3: *}", ["['b']", "['a'][0]", "[3]"]),
    "named tuple": (Point(1, (2, None)), "Point(x=*, y=(*, None))", [".x", ".y[0]"]),
    "ordered": (OrderedDict(z=1, a=2), "OrderedDict({'z': *, 'a': *})", ["['z']", "['a']"]),
    "default": (defaultdict(list, a=1), "defaultdict({'a': *})", ["['a']"]),
    "counter": (Counter("aab"), "Counter({'a': *, 'b': *})", ["['a']", "['b']"]),
    "dataclass": (Line(1, 2, "l"), "Line(slope=*, shift=*, name='l')", [".slope", ".shift"]),
    "slots": (Box([1]), "Box(content=[*], index=None)", [".content[0]"]),
    "class": (Pair(1, {"k": 2}, "t"), "Pair(a=*, b={'k': *}, 't')", [".a", ".b['k']"]),
    "without names": (Stack(1, (2, 3)), "Stack(*, (*, *))", ["[0]", "[1][0]", "[1][1]"]),
    "leaves of any kind": (
        [{1}, "text", slice(1), np],
        "[*, *, *, *]",
        [f"[{i}]" for i in range(4)],
    ),
}
each_tree = pytest.mark.parametrize(("value", "text", "paths"), TREES.values(), ids=TREES.keys())


@each_tree
def test_a_tree_is_taken_apart_and_put_together(value: Any, text: str, paths: list[str]) -> None:
    leaves, treedef = tree.flatten(value)
    assert described(tree.unflatten(treedef, leaves)) == described(value)
    assert leaves == tree.leaves(value)
    assert treedef == tree.structure(value)
    assert (str(treedef), repr(treedef)) == (text, f"TreeDef({text})")
    assert tree.leaves_with_path(value) == [*zip(paths, leaves, strict=True)]
    assert treedef.num_leaves == len(leaves)
    for path, leaf in tree.leaves_with_path(value):
        assert text.startswith("Stack") or eval(f"value{path}") is leaf
    mapped = tree.map(lambda leaf: [leaf], value, is_leaf=lambda part: part is value) == [value]
    assert mapped or described(tree.map(lambda leaf: leaf, value)) == described(value)


@each_tree
def test_structures_are_values(value: Any, text: str, paths: list[str]) -> None:
    treedef = tree.structure(value)
    for other in copy.copy(treedef), copy.deepcopy(treedef), pickle.loads(pickle.dumps(treedef)):
        assert other == treedef and hash(other) == hash(treedef)
        assert str(other) == text and other.paths() == paths
    different = [tree.structure(v) for v, t, _ in TREES.values() if t != text]
    assert treedef not in different and treedef != text


def test_what_makes_structures_different() -> None:
    same = tree.structure
    assert same([1]) != same((1,)) and same({"a": 1}) != same(OrderedDict(a=1))
    assert same({"a": 1, "b": 2}) != same({"b": 2, "a": 1})  # equal leaves make other dicts
    assert same(Line(1, 2, "a")) != same(Line(1, 2, "b"))
    assert same(Point(1, 2)) != same((1, 2))
    assert same([1, None]) != same([1]) and same(None) != same([])


@given(
    st.recursive(
        st.none() | st.integers(),
        lambda part: (
            st.lists(part)
            | st.tuples(part, part)
            | st.dictionaries(st.text(), part)
            | st.builds(Point, part, part)
            | st.builds(Stack, part, part)
        ),
    )
)
def test_any_tree(value: Any) -> None:
    leaves, treedef = tree.flatten(value)
    assert described(treedef.unflatten(leaves)) == described(value)
    assert treedef.unflatten([0] * len(leaves)) is None or treedef == tree.structure(
        treedef.unflatten([0] * len(leaves))
    )
    assert tree.leaves(tree.map(lambda leaf, other: leaf + other, value, value)) == [
        2 * leaf for leaf in leaves
    ]
    assert len({*treedef.paths()}) == len(leaves)


def test_a_default_factory_is_kept() -> None:
    doubled = tree.map(lambda leaf: 2 * leaf, defaultdict(list, a=1))
    assert doubled == {"a": 2} and doubled["b"] == []


def test_the_number_of_leaves_must_be_right() -> None:
    treedef = tree.structure([1, (2,)])
    with pytest.raises(ValueError, match="too few leaves, 2 are needed"):
        tree.unflatten(treedef, [1])
    with pytest.raises(ValueError, match="too many leaves, 2 are needed"):
        treedef.unflatten(iter([1, 2, None]))


def test_is_leaf() -> None:
    value = {"a": [1, None], "b": (2, 3)}
    assert tree.leaves(value, is_leaf=lambda part: part is None) == [1, None, 2, 3]
    assert tree.leaves(value, is_leaf=lambda part: isinstance(part, tuple)) == [1, (2, 3)]
    assert tree.map(len, value, is_leaf=lambda part: part != value) == {"a": 2, "b": 2}
    added = tree.map(lambda a, b: a + b, [(1,), 2], [(3,), 4], is_leaf=lambda p: type(p) is tuple)
    assert added == [(1, 3), 6]


def test_map_of_several_trees() -> None:
    a, b = {"w": [1, 2], "b": Line(3, 4)}, {"b": Line(30, 40), "w": [10, 20]}
    assert tree.map(lambda x, y: x + y, a, b) == {"w": [11, 22], "b": Line(33, 44)}
    assert [*tree.map(lambda x, y: x + y, a, b)] == ["w", "b"]
    assert tree.map(lambda x, y: (x, y), [1, 2], [[3, None], {"a": 4}]) == [
        (1, [3, None]),
        (2, {"a": 4}),
    ]
    paths = tree.map_with_path(lambda path, x, y: f"{path}: {x + y}", a, b)
    assert paths["w"] == ["['w'][0]: 11", "['w'][1]: 22"] and paths["b"].slope == "['b'].slope: 33"


DIFFERENT: dict[str, tuple[Any, Any, str]] = {
    "class": (
        [(1,)],
        [[1]],
        r"tree[0] is a tuple of length 1, but rest[0][0] is a list of length 1",
    ),
    "length": (
        {"w": [1]},
        {"w": [1, 2]},
        "tree['w'] is a list of length 1, but rest[0]['w'] is a list of length 2",
    ),
    "leaf": (
        {"w": [1]},
        {"w": X},
        "tree['w'] is a list of length 1, but rest[0]['w'] is an ndarray",
    ),
    "none": ([None], [1], "tree[0] is None, but rest[0][0] is an int"),
    "keys": (
        {"a": 1},
        {"b": 1},
        "tree is a dict with keys 'a', but rest[0] is a dict with keys 'b'",
    ),
    "no keys": (
        [{}],
        [{"b": 1}],
        "tree[0] is a dict without keys, but rest[0][0] is a dict with keys 'b'",
    ),
    "many keys": (
        {},
        dict.fromkeys(range(10), 0),
        "but rest[0] is a dict with keys 0, 1, 2, 3, 4, 5, 6, 7, ...",
    ),
    "static": (
        [Line(1, 2)],
        [Line(1, 2, "other")],
        "tree[0] is a Line with name='line', but rest[0][0] is a Line with name='other'",
    ),
    "attribute": (
        Point([1], 2),
        Point((1,), 2),
        "tree.x is a list of length 1, but rest[0].x is a tuple of length 1",
    ),
}


@pytest.mark.parametrize(("first", "second", "message"), DIFFERENT.values(), ids=DIFFERENT.keys())
@pytest.mark.parametrize("function", [tree.map, tree.map_with_path])
def test_an_error_says_where_trees_differ(
    function: Callable[..., Any], first: Any, second: Any, message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        function(lambda *_: 0, first, second)
    assert str(caught.value).startswith(f"tree.{function.__name__}: ")
    assert message in str(caught.value)


# -- registration


def test_subclasses_are_taken_apart_too() -> None:
    @dataclasses.dataclass(frozen=True)
    class Arrow(Line):
        length: Any = 1.0

    arrow = Arrow(1.0, 2.0, "arrow", 3.0)
    assert tree.leaves(arrow) == [1.0, 2.0, 3.0]
    assert tree.map(lambda leaf: -leaf, arrow) == Arrow(-1.0, -2.0, "arrow", -3.0)

    class Mine(list[Any]):
        pass

    assert type(tree.map(abs, Mine([-1]))) is Mine


def test_a_class_that_its_items_do_not_make_says_what_to_do() -> None:
    class Params(dict[str, Any]):
        def __init__(self, w: Any, b: Any) -> None:
            super().__init__(w=w, b=b)

    with pytest.raises(TypeError, match=r"tree.register\(Params, flatten, unflatten\)"):
        tg.grad(lambda p: p["w"] * p["b"])(Params(1.0, 2.0))
    tree.register(Params, lambda p: ([p["w"], p["b"]], None), lambda _, parts: Params(*parts))
    assert tg.grad(lambda p: p["w"] * p["b"])(Params(1.0, 2.0)) == {"w": 2.0, "b": 1.0}


def test_registering_makes_a_leaf_a_container_and_may_be_repeated() -> None:
    class Late:
        def __init__(self, x: Any) -> None:
            self.x = x

    assert len(tree.leaves([Late(1)])) == 1 and not tree.is_container(Late(1))
    for factor in 1, 2:
        tree.register(Late, lambda x, k=factor: ([x.x * k], None), lambda _, parts: Late(*parts))
        assert tree.leaves([Late(1)]) == [factor]


def test_what_cannot_be_registered() -> None:
    class Plain:
        pass

    with pytest.raises(
        TypeError, match="Plain is not a dataclass: write @dataclass below @register"
    ):
        tree.register(Plain)
    with pytest.raises(TypeError, match=r"register\(Plain, flatten, unflatten\)"):
        tree.register(Plain, lambda _: ([], None), None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="takes a class, not <"):
        tree.register(Plain())  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="list is registered by tensorgrad"):
        tree.register(list, lambda x: (x, None), lambda _, x: x)
    with pytest.raises(ValueError, match=r"Line has no fields \['nmae'\]"):
        tree.register(static=["nmae"])(Line)


def test_classes_that_are_gone_are_not_kept() -> None:
    for i in range(1500):
        tree.leaves([type(f"Leaf{i}", (), {})()])
    assert len(tree.CONTAINERS) <= 1000


# -- registered classes where trees are taken

MAKE: dict[str, Callable[[Any, Any], Any]] = {
    "dataclass": lambda a, b: Line(a, b),
    "slots": lambda a, b: Box({"a": a, "b": b}),
    "class": lambda a, b: Pair(a, b, "tag"),
    "without names": lambda a, b: Stack(a, b),
}
registered = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())
Make = Callable[[Any, Any], Any]


def product(p: Any) -> Any:
    a, b = tree.leaves(p)
    return a * b**2


@registered
def test_gradients(make: Make) -> None:
    p = make(3.0, 2.0)
    value, gradient = tg.value_and_grad(product)(p)
    assert value == 12 and type(gradient) is type(p)
    assert described(gradient) == described(make(4.0, 12.0))
    assert described(tg.grad(lambda p: product(p) * 2)(p)) == described(make(8.0, 24.0))
    second = tg.grad(lambda p: tree.leaves(tg.grad(product)(p))[1])(p)
    assert described(second) == described(make(4.0, 6.0))
    gradients, aux = tg.grad(lambda p: (product(p), p), has_aux=True)(p)
    assert described(aux) == described(p) and described(gradients) == described(gradient)


@registered
def test_pullbacks_and_tangents(make: Make) -> None:
    p = make(3.0, 2.0)

    def swapped(p: Any) -> Any:
        a, b = tree.leaves(p)
        return make(b * a, a)

    y, pullback = tg.vjp(swapped, p)
    assert described(y) == described(make(6.0, 3.0))
    (back,) = pullback(make(1.0, 10.0))
    assert described(back) == described(make(12.0, 3.0))
    y, tangent = tg.jvp(swapped, (p,), (make(1.0, 10.0),))
    assert described(tangent) == described(make(32.0, 1.0))
    jacobian = tg.jacobian(swapped)(p)
    assert described(jacobian) == described(make(make(2.0, 3.0), make(1.0, 0.0)))
    assert described(tg.hvp(product, (p,), (make(1.0, 0.0),))) == described(make(0.0, 4.0))
    flat, unravel = tg.ravel(p)
    assert_array_equal(flat, [3.0, 2.0])
    assert described(unravel(2 * flat)) == described(make(6.0, 4.0))


@registered
def test_checkpoint(make: Make) -> None:
    w = tg.Tensor(X, requires_grad=True)
    block = tg.checkpoint(lambda p: make(np.sin(tree.leaves(p)[0]), tree.leaves(p)[1] * 2))
    out = block(make(w, w * w))
    assert type(out) is type(make(w, w))
    sum(np.sum(leaf) for leaf in tree.leaves(out)).backward()
    np.testing.assert_allclose(w.grad, np.cos(X) + 4 * X)


@registered
def test_compiled_functions(make: Make) -> None:
    @tg.compile
    def step(p: Any, x: Any) -> Any:
        a, b = tree.leaves(p)
        return make(a + x, b * x)

    for k in range(4):
        y = step(make(k * X, X), X)
        assert described(tree.map(list, y)) == described(make([*(k * X + X)], [*(X * X)]))
    assert plans(step) == 1
    step(make(X[:2], X[:2]), X[:2])
    assert plans(step) == 2
    totals = tg.compile(lambda p: make(np.sum(tree.leaves(p)[0]), 1.0)).scan(make(X, X))
    assert_array_equal(tree.leaves(totals)[0], X)


def test_static_fields_are_part_of_the_signature_of_a_compiled_function() -> None:
    @tg.compile
    def scaled(line: Any) -> Any:
        return line.slope * len(line.name)

    lines = [Line(np.float64(2), X, name) for name in ("ab", "abc", "ab")]
    assert [float(scaled(line)) for line in lines] == [4, 6, 4]
    assert plans(scaled) == 2
    message = "Line.name is a list, but static fields must be hashable"
    with pytest.raises(TypeError, match=message):
        scaled(Line(np.float64(2), X, []))  # type: ignore[arg-type]


@registered
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_saved_and_loaded(make: Make, tmp_path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"tree{suffix}"
    saved = {"p": make(X, tg.Tensor([1.0])), "n": [make(1, "text")]}
    tg.save(path, saved)
    loaded = tg.load(path)
    keys = [*tree.children(saved["p"])[0]]
    assert [*loaded["p"]] == keys and loaded["n"][0] != make(1, "text")
    target = {"p": make(np.zeros(3), tg.Tensor([0.0])), "n": [make(0, "")]}
    array, tensor = tree.leaves(target["p"])
    result = tg.load(path, target)
    assert_array_equal(array, X)
    assert_array_equal(tensor.data, [1.0])
    assert described(result["n"]) == described(saved["n"])
    assert type(result["p"]) is type(saved["p"]) and tree.leaves(result["p"])[0] is array
    with pytest.raises(tg.CheckpointError, match="p"):
        tg.load(path, {"p": [np.zeros(3), tg.Tensor([0.0])], "n": None})
    with pytest.raises(tg.CheckpointError, match=r"p.*shape \(2,\)"):
        tg.load(path, {"p": make(np.zeros(2), tg.Tensor([0.0])), "n": [make(0, "")]})


def test_a_named_tuple_is_restored_as_one(tmp_path: Path) -> None:
    tg.save(tmp_path / "p.npz", Point(X, 1))
    restored = tg.load(tmp_path / "p.npz", Point(np.zeros(3), 0))
    assert type(restored) is Point and restored.y == 1


def test_parameters_in_registered_classes_are_found() -> None:
    class Net(tg.nn.Module):
        def __init__(self) -> None:
            self.line = Line(tg.Tensor(2.0, requires_grad=True), tg.Tensor(0.5, requires_grad=True))
            self.boxes = [Box(tg.nn.Linear(2, 1, rng=0))]

        def forward(self, x: Any) -> Any:
            return self.line.slope * self.boxes[0].content(x) + self.line.shift

    net = Net()
    names = ["line.slope", "line.shift", "boxes.0.content.weight", "boxes.0.content.bias"]
    assert [name for name, _ in net.named_parameters()] == names
    assert [*net.state_dict()] == names
    assert tree.structure(net).paths() == [
        ".line.slope",
        ".line.shift",
        ".boxes[0].content.weight",
        ".boxes[0].content.bias",
    ]
    gradient = tg.grad(lambda net: np.sum(net(np.ones((3, 2)))))(net)
    assert type(gradient) is Net and type(gradient.line) is Line
    assert gradient.line.shift == 3 and gradient.boxes[0].content.bias.item() == 6


# -- modules, and other objects with state


def test_modules_of_one_class_have_equal_structures() -> None:
    a, b = (tg.nn.Linear(2, 1, rng=seed) for seed in (0, 1))
    assert tree.structure(a) == tree.structure(b) != tree.structure(tg.nn.Linear(2, 1, bias=False))
    assert str(tree.structure([a])) == "[Linear(weight=*, bias=*, ...)]"
    half = tree.map(lambda p, q: (p + q) / 2, a, b)
    assert_array_equal(half.weight.data, (a.weight.data + b.weight.data) / 2)


def test_an_object_with_state_is_not_taken_apart_by_compile_and_checkpoint() -> None:
    class Counted:
        def __init__(self) -> None:
            self.w = tg.Tensor(np.ones(2), requires_grad=True)
            self.total = tg.Tensor(0.0)

    tree.register(Counted, lambda c: ([c.w, c.total], None), lambda *_: Counted(), stateful=True)
    counted = Counted()

    @tg.compile
    def add(state: Any, x: Any) -> Any:
        state.total.data += np.sum(x)
        return state.total * 1

    assert [add(counted, X[:2]).item() for _ in range(3)] == [-1, -2, -3]
    assert counted.total.item() == -3
    y = tg.checkpoint(lambda c, x: np.sum(c.w * x))(counted, X[:2])
    y.backward()
    assert_array_equal(counted.w.grad, X[:2])


# -- what is no array

ERRORS: dict[str, tuple[Callable[[], Any], str]] = {
    "argument": (
        lambda: tg.grad(lambda params: params["w"])({"w": 1.0, "n": ["a"]}),
        r"grad: params\['n'\]\[0\] is a str",
    ),
    "second argument": (
        lambda: tg.grad(lambda a, b: (a, b), 1)(1.0, [{1}]),
        r"grad: b\[0\] is a set",
    ),
    "negative": (
        lambda: tg.grad(lambda a, b: (a, b), -1)(1.0, {"k": "c"}),
        r"grad: b\['k'\] is a str",
    ),
    "several": (
        lambda: tg.grad(lambda a, b: (a, b), (1, 0))([1.0], ["b"]),
        r"grad: b\[0\] is a str",
    ),
    "keyword only": (
        lambda: tg.grad(lambda *args: args[0])(["b"]),
        r"grad: args\[0\]\[0\] is a str",
    ),
    "ufunc": (
        lambda: tg.elementwise_grad(np.sin)("b"),
        r"elementwise_grad: x is a str|args\[0\] is a str",
    ),
    "primals": (lambda: tg.vjp(lambda a: a, {"x": "b"}), r"vjp: primals\[0\]\['x'\] is a str"),
    "output": (
        lambda: tg.jacobian(lambda x: {"x": [x, "b"]})(1.0),
        r"jacobian: output\['x'\]\[1\] is a str",
    ),
    "tangents": (
        lambda: tg.jvp(lambda x: x["x"], ({"x": 1.0},), ({"x": "b"},)),
        r"jvp: tangents\[0\]\['x'\] is a str",
    ),
    "cotangent": (lambda: tg.vjp(lambda x: [x], 1.0)[1](["b"]), r"vjp: cotangent\[0\] is a str"),
    "ravel": (lambda: tg.ravel({"x": "b"}), r"ravel: params\['x'\] is a str"),
    "checkpoint": (
        lambda: tg.checkpoint(lambda _: {"x": "b"})(1.0),
        r"checkpoint: output\['x'\] is a str",
    ),
    "scan": (
        lambda: tg.compile(lambda x: x).scan({"x": "b"}),
        r"scan: batches\[0\]\['x'\] is a str",
    ),
    "a class": (
        lambda: tg.grad(lambda p: p)(types.SimpleNamespace(x=1.0)),
        r"p is a SimpleNamespace.*tensorgrad.tree.register",
    ),
    "a field": (
        lambda: tg.grad(lambda p: p[0].slope)([Line(1.0, "a", "l")]),
        r"p\[0\].shift is a str.*tensorgrad.tree.register\(static=\['shift'\]\)",
    ),
    "integers": (
        lambda: tg.grad(lambda p: p)({"n": np.arange(2)}),
        r"grad: .* p\['n'\] has dtype int64: pass x.astype\(float\)",
    ),
    "an integer of Python's": (
        lambda: tg.hessian(lambda p: p["n"])({"n": 3}),
        r"hessian: .* p\['n'\] has dtype int64: pass 3.0",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_names_the_leaf_that_is_no_array(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()
