"""What cannot be compiled is refused, with the line and the cure; and nothing has changed then."""

from __future__ import annotations

import inspect
import random
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn, optim
from tensorgrad.engine.modes import mode

from .depth import one_in
from .oracles import assert_same, leaf
from .test_compile_training import MIXED, Training

# -- decisions by elements: each function is refused at the line marked so


def decide(t: Any) -> Any:
    if np.sum(t) > 0:  # refused
        return t
    return -t


def loop(t: Any) -> Any:
    while np.sum(t) < 10:  # refused
        t = t * 2
    return t


def both(t: Any) -> Any:
    return t[0] > 0 and t[1] > 0  # refused


def negate(t: Any) -> Any:
    return not t[0]  # refused


def requirement(t: Any) -> Any:
    assert t[0] > 0  # refused
    return t


def as_float(t: Any) -> Any:
    return t * float(t[0])  # refused


def item(t: Any) -> Any:
    return t * t[0].item()  # refused


def as_int(t: Any) -> Any:
    return t * int(t[0])  # refused


def as_complex(t: Any) -> Any:
    return t * complex(t[0]).real  # refused


def as_list(t: Any) -> Any:
    return t * t.tolist()[0]  # refused


def as_range(t: Any) -> Any:
    return sum(t for _ in range(np.argmax(t)))  # refused


def in_a_list(t: Any) -> Any:
    return [t, -t, 2 * t][np.argmax(t)]  # refused


def as_shape(t: Any) -> Any:
    return np.sum(t) * np.ones(np.argmax(t))  # refused


def as_plain_array(t: Any) -> Any:
    return t * np.asarray(t.data if isinstance(t, tg.Tensor) else t, dtype=object)  # refused


def bound(t: Any) -> Any:
    return np.mean(t[: np.argmax(t)])  # refused


def mask(t: Any) -> Any:
    return np.mean(t[t > 1])  # refused


def mask_in_a_tuple(t: Any) -> Any:
    return np.mean(np.stack([t, t])[:, t > 1])  # refused


def nonzero(t: Any) -> Any:
    return np.nonzero(t)[0]  # refused


def indices_where(t: Any) -> Any:
    return np.mean(np.where(t > 1)[0])  # refused


def distinct(t: Any) -> Any:
    return np.mean(np.unique(t))  # refused


def selected(t: Any) -> Any:
    return np.mean(np.compress(t > 1, t))  # refused


def greatest(t: Any) -> Any:
    return max(t[0], t[1])  # refused


DECISIONS = [
    decide, loop, both, negate, requirement, as_float, item, as_int, as_complex, as_list, as_range,
    in_a_list, as_shape, as_plain_array, bound, mask, mask_in_a_tuple, nonzero, indices_where,
    distinct, selected, greatest,
]  # fmt: skip
NUMBERS = np.array([0.5, 1.5, 2.5])


def marked_line(function: Callable[..., Any]) -> int:
    lines, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(lines) if "# refused" in line)


@pytest.mark.parametrize("given", [np.array, tg.Tensor])
@pytest.mark.parametrize("function", DECISIONS)
def test_decisions_by_elements_are_refused(function: Callable[..., Any], given: Any) -> None:
    compiled = tg.compile(function)
    for _ in range(2):
        with pytest.raises(tg.TraceError, match=r"leave this part out") as caught:
            compiled(given(NUMBERS))
        assert f"{__file__}:{marked_line(function)}:" in str(caught.value)


@pytest.mark.parametrize("function", [decide, loop])
def test_decisions_name_the_functions_that_decide(function: Callable[..., Any]) -> None:
    with pytest.raises(tg.TraceError, match=r"use numpy.where, tensorgrad.cond or .*while_loop"):
        tg.compile(function)(NUMBERS)


def test_the_line_is_the_users_where_the_librarys_code_decides() -> None:
    def function(t: Any) -> Any:
        return nn.huber_loss(t, 0 * t, delta=float(t[0]))  # refused

    with pytest.raises(tg.TraceError) as caught:
        tg.compile(function)(NUMBERS)
    assert f"{__file__}:{marked_line(function)}:" in str(caught.value)


def an_element(x: Any) -> Any:
    a = np.zeros(3)
    a[0] = x[0]  # refused
    return a


def a_row(x: Any) -> Any:
    a = np.zeros((2, 3))
    a[0] = x  # refused
    return a


def a_sum(x: Any) -> Any:
    a = np.zeros(3)
    a += x  # refused
    return a


def a_list(x: Any) -> Any:
    return np.array([x[0], x[1]])  # refused


@pytest.mark.parametrize("function", [an_element, a_row, a_sum, a_list])
def test_writes_into_plain_arrays_name_what_to_write_into(function: Callable[..., Any]) -> None:
    with pytest.raises(tg.TraceError, match=r"tensorgrad\.zeros") as caught:
        tg.compile(function)(NUMBERS)
    assert f"{__file__}:{marked_line(function)}:" in str(caught.value)


def test_what_does_not_need_elements(capsys: Any) -> None:
    def function(t: Any) -> Any:
        print(t)
        if t.ndim == 1 and len(t) == 3 and t.shape == (3,) and t.dtype == float and t is not None:
            t = t * t.size
        for row in t:
            t = t + row
        first, *_ = t
        return np.where(t > first, t, -t), np.array([t[0], t[1]]) if type(t) is tuple else t[::-1]

    compiled = tg.compile(function)
    for scale in 1.0, -2.0, 3.0:
        assert_same(compiled(scale * NUMBERS), function(scale * NUMBERS))
    assert "traced" in capsys.readouterr().out
    w = tg.Tensor(2.0, requires_grad=True)
    tg.compile(lambda t: print(w * t))(NUMBERS)
    shown = "<traced Tensor of shape (3,), dtype float64, requires_grad=True>\n"
    assert capsys.readouterr().out == shown


MASK, INDICES = np.array([True, False, True]), np.array([0, 2, 0])
WITH_MASKS: dict[str, Callable[..., Any]] = {
    "sum": lambda t, m: np.sum(t**2, where=m),
    "mean": lambda t, m: np.mean(t**2, where=m),
    "max": lambda t, m: np.max(t**2, where=m, initial=0),
    "prod": lambda t, m: np.prod(t**2, where=m),
    "std": lambda t, m: np.std(t**2, where=m),
    "bincount": lambda t, _: np.sum(np.bincount(INDICES, weights=t) ** 2),
    "compress": lambda t, _: np.sum(np.compress(MASK, t) ** 2),
    "extract": lambda t, _: np.sum(np.extract(MASK, t) ** 2),
    "safe_where": lambda t, _: np.sum(tg.safe_where(MASK, np.log, t)),
}


@pytest.mark.parametrize("name", WITH_MASKS)
def test_masks_as_arguments_and_constant_indices(name: str) -> None:
    function = WITH_MASKS[name]
    compiled = tg.compile(function)
    gradient = tg.compile(lambda t, m: tg.grad(lambda x: function(x, m))(t))
    for mask in MASK, np.ones(3, bool), np.array([False, True, True]):
        for row in NUMBERS, 2 * NUMBERS:
            assert_same(compiled(row, mask), function(row, mask))
            assert_same(gradient(row, mask), tg.grad(lambda t, m=mask: function(t, m))(row))


def test_safe_where_of_a_mask_that_changes_names_the_right_cure() -> None:
    with pytest.raises(tg.TraceError, match=r"np.where\(condition, f\(np.where\("):
        tg.compile(lambda t: tg.safe_where(t > 1, np.log, t))(NUMBERS)


# -- effects that a program cannot repeat

counter = 0


class Counting(nn.Module):
    """A network that counts its calls, in Python."""

    def __init__(self) -> None:
        self.calls = 0
        self.history: list[Any] = []


class World:
    """All that a function could change, beside what a training step changes."""

    def __init__(self) -> None:
        self.training = Training(MIXED, "mse", "Adam", schedule="StepLR")
        self.x, self.t = self.training.batch(0)
        self.count = 0
        self.log: list[Any] = [1]
        self.table: dict[str, Any] = {"a": 1, "nested": [2]}
        self.names = {"a"}
        self.buffer = np.zeros(3)
        self.view = self.buffer[1:]
        self.locked = np.ones(2)
        self.locked.flags.writeable = False
        self.rng = np.random.default_rng(0)
        self.module = Counting()
        self.state = tg.Tensor([1.0, 2.0])
        self.leaf = leaf([1.0, 2.0])
        self.leaf.grad = np.array([3.0, 4.0])

    def everything(self) -> dict[str, Any]:
        arrays = [self.buffer, self.view, self.locked, self.state.data, self.leaf.data]
        arrays += [self.leaf.grad, self.x, self.t]
        return self.training.everything() | {
            "python": (self.count, counter, [*self.log], repr(self.table), sorted(self.names)),
            "module": (self.module.calls, [*self.module.history], self.module.training),
            "arrays": [a.copy() for a in arrays],
            "flags": [str(a.flags) for a in arrays],
            "generators": (self.rng.bit_generator.state, random.getstate()[1]),
            "global": np.random.get_state()[1],  # noqa: NPY002
            "lr": self.training.optimizer.param_groups[0]["lr"],
        }


def count_in_a_global(_world: World, _x: Any) -> None:
    global counter
    counter += 1


def count_in_an_attribute(world: World, _x: Any) -> None:
    world.count += 1


def append(world: World, _x: Any) -> None:
    world.log.append(2)


def pop(world: World, _x: Any) -> None:
    world.log.pop()


def keep_a_result(world: World, x: Any) -> None:
    world.log.append(x)


def set_an_item(world: World, _x: Any) -> None:
    world.table["a"] = 2


def add_an_item(world: World, _x: Any) -> None:
    world.table["b"] = 2


def append_to_a_nested_list(world: World, _x: Any) -> None:
    world.table["nested"].append(2)


def add_to_a_set(world: World, _x: Any) -> None:
    world.names.add("b")


def change_a_module(world: World, _x: Any) -> None:
    world.module.calls += 1


def add_to_a_modules_list(world: World, _x: Any) -> None:
    world.module.history.append(1)


def switch_the_mode(world: World, _x: Any) -> None:
    world.module.eval()


def replace_a_tensor(world: World, x: Any) -> None:
    world.state = tg.Tensor(x[0])


def replace_an_array(world: World, _x: Any) -> None:
    world.buffer = np.ones(3)


def add_to_an_array(world: World, _x: Any) -> None:
    world.buffer += 1


def write_into_an_array(world: World, _x: Any) -> None:
    world.buffer[0] = 1


def write_a_result_into_an_array(world: World, x: Any) -> None:
    world.buffer[0] = x[0, 0]


def write_by_out(world: World, _x: Any) -> None:
    np.add(world.locked[0], 1, out=world.buffer)


def write_into_a_view(world: World, _x: Any) -> None:
    world.view[...] = 1


def draw(world: World, _x: Any) -> None:
    world.rng.normal(size=3)


def draw_from_numpys_global(_world: World, _x: Any) -> None:
    np.random.normal(size=3)  # noqa: NPY002


def draw_from_pythons_global(_world: World, _x: Any) -> None:
    random.random()


def change_an_argument(_world: World, x: Any) -> None:
    x += 1


def write_into_an_argument(_world: World, x: Any) -> None:
    x[0] = 1


def set_an_option(w: Any, _x: Any) -> None:
    w.training.optimizer.param_groups[0]["lr"] *= 0.5


EFFECTS: dict[Callable[..., None], str] = {
    count_in_a_global: "counter",
    count_in_an_attribute: "count",
    append: "log",
    pop: "log",
    keep_a_result: "log",
    set_an_item: r"table\['a'\]",
    add_an_item: r"table\['b'\]",
    append_to_a_nested_list: r"table\['nested'\]\[1\]",
    add_to_a_set: "names",
    change_a_module: r"module\.calls",
    add_to_a_modules_list: r"module\.history",
    switch_the_mode: "training",
    replace_a_tensor: "state",
    replace_an_array: "buffer",
    add_to_an_array: "changes an array",
    write_into_an_array: "changes an array",
    write_a_result_into_an_array: "array",
    write_by_out: "changes an array",
    write_into_a_view: "changes an array",
    set_an_option: "an option of an optimizer",
    draw: "rng.*random|random numbers",
    draw_from_numpys_global: "random numbers from the global",
    draw_from_pythons_global: "random numbers from the global",
    change_an_argument: "argument",
    write_into_an_argument: "argument",
}
CURES = "tensor|return|outside|copy it|argument"


@pytest.mark.parametrize("given", one_in(2, [tg.Tensor, np.array]))
@pytest.mark.parametrize("effect", EFFECTS, ids=lambda f: f.__name__)
def test_effects_that_cannot_be_repeated_are_refused(effect: Any, given: Any) -> None:
    world = World()

    @tg.compile
    def function(x: Any, t: Any) -> Any:
        result = world.training.step(x, t)
        effect(world, x)
        return result

    before, x, t = world.everything(), given(world.x), world.t
    for _ in range(2):
        with pytest.raises(tg.TraceError, match=EFFECTS[effect]) as caught:
            function(x, t)
        assert any(cure in str(caught.value) for cure in CURES.split("|"))
        assert_same(world.everything(), before, roundings=0)
    assert_same(x.data if given is tg.Tensor else x, before["arrays"][-2], roundings=0)


def test_a_nonlocal_variable_is_refused() -> None:
    total = 0

    def function(x: Any) -> Any:
        nonlocal total
        total += 1
        return x

    with pytest.raises(tg.TraceError, match=r"total.*keep it in a tensor"):
        tg.compile(function)(NUMBERS)
    assert total == 0


def test_a_default_that_collects_is_refused() -> None:
    def function(x: Any, seen: list[Any] = []) -> Any:  # noqa: B006
        seen.append(1)
        return x

    with pytest.raises(tg.TraceError):
        tg.compile(function)(NUMBERS)
    assert function.__defaults__ == ([],)


def test_a_changed_list_among_the_arguments_is_refused() -> None:
    def function(xs: Any) -> Any:
        xs.append(xs[0])
        return xs[0] * 2

    xs = [NUMBERS]
    with pytest.raises(tg.TraceError):
        tg.compile(function)(xs)
    assert len(xs) == 1


class Stateful(nn.Module):
    def __init__(self) -> None:
        self.calls = 0
        self.seen: list[int] = []
        self.rng = np.random.default_rng(0)

    def count(self, x: Any) -> Any:
        self.calls += 1
        return x

    def note(self, x: Any) -> Any:
        self.seen.append(1)
        return x

    def draw(self, x: Any) -> Any:
        return x + self.rng.normal()

    def draw_from_the_global(self, x: Any) -> Any:
        return x + np.random.normal()  # noqa: NPY002


def test_the_first_random_numbers_of_a_process() -> None:
    script = """
import numpy as np, tensorgrad as tg
compiled = tg.compile(lambda x: tg.nn.dropout(x, 0.5, rng=0))
assert np.array_equal(compiled(np.ones(9)), tg.nn.dropout(np.ones(9), 0.5, rng=0))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    script = """
import numpy as np, tensorgrad as tg
try:
    tg.compile(lambda x: x + np.random.normal())(np.ones(9))
except tg.TraceError as error:
    assert "from the global generator" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("count", "the function changes calls"),
        ("note", r"the function changes seen\[0\]"),
        ("draw", "the function draws random numbers from rng"),
        ("draw_from_the_global", "the function draws random numbers from the global"),
    ],
)
def test_what_changes_pythons_state_is_named_with_its_line(name: str, message: str) -> None:
    method = getattr(Stateful(), name)
    place = f"{re.escape(__file__)}:{method.__code__.co_firstlineno + 1}"
    with pytest.raises(tg.TraceError, match=f"^{place}: {message}"):
        tg.compile(method)(np.ones(2))


# -- an exception anywhere leaves everything as it was


class Stop(BaseException):
    pass


@pytest.mark.parametrize(
    "error", one_in(3, [ZeroDivisionError, Stop, KeyboardInterrupt, ValueError])
)
@pytest.mark.parametrize("replayed", [False, True])
def test_an_exception_while_tracing_changes_nothing(error: Any, replayed: bool) -> None:
    """Wherever it comes: `where` counts the places in the function."""
    for place in range(9):
        world = World()
        second = optim.SGD([world.leaf], lr=0.1, momentum=0.9)
        norm = nn.BatchNorm1d(4)
        dropout = nn.Dropout(0.5, rng=1)

        @tg.compile
        def function(
            x: Any, t: Any, place: int, world: Any = world, second: Any = second,
            norm: Any = norm, dropout: Any = dropout,
        ) -> Any:  # fmt: skip
            places = iter(range(10))

            def here() -> None:
                if next(places) == place:
                    raise error("here")

            here()
            y = dropout(x)
            here()
            y = norm(y)
            here()
            loss = np.sum(world.leaf) * np.sum(y)
            loss.backward()
            here()
            second.step()
            here()
            world.state.data = world.state.data * 2
            here()
            result = world.training.step(x, t)
            here()
            mode.get().interpreter.effect(
                world.training.optimizer.param_groups[0].update, {"lr": 0.5}
            )
            world.count += 1
            world.log.append(1)
            here()
            world.training.model.eval()
            here()
            return result

        def everything(
            world: Any = world, second: Any = second, norm: Any = norm, dropout: Any = dropout
        ) -> Any:
            return world.everything(), (
                second.state_dict(),
                norm.state_dict(),
                dropout.rng.bit_generator.state,
            )

        if replayed:  # other plans of the same function are there already
            plain = tg.compile(lambda x, t, world=world: world.training.step(x, t))
            plain(world.x, world.t)
        before = everything()
        with pytest.raises(error, match="here"):
            function(world.x, world.t, place)
        assert_same(everything(), before, roundings=0)


def test_after_an_exception_views_are_views_again() -> None:
    t = tg.Tensor([1.0, 2.0, 3.0])
    view = t[1:]

    @tg.compile
    def f(x: Any) -> None:
        t.data = x
        t.data = x * 2
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        f(np.ones(3))
    t[1] = 5.0
    assert_same(view.data, np.array([5.0, 3.0]))


def test_after_an_exception_the_function_can_be_compiled() -> None:
    eager, compiled = Training(MIXED, "mse", "Adam"), Training(MIXED, "mse", "Adam")
    fail = True

    @tg.compile
    def step(x: Any, t: Any) -> Any:
        result = compiled.step(x, t)
        if fail:
            raise ZeroDivisionError
        return result

    for i in range(4):
        fail = True
        if i == 0:
            with pytest.raises(ZeroDivisionError):
                step(*compiled.batch(i))
        fail = False
        assert_same(step(*compiled.batch(i)), eager.step(*eager.batch(i)))
        assert_same(compiled.everything(), eager.everything())


def test_lower_changes_nothing() -> None:
    world = World()
    before = world.everything()
    step = tg.compile(world.training.step)
    for _ in range(2):
        step.lower(world.x, world.t)
        assert_same(world.everything(), before, roundings=0)
    twin = World()
    for i in range(3):
        x, t = twin.training.batch(i)
        assert_same(step(x, t), twin.training.step(x, t))
        after = twin.everything()
        step.lower(x, t)
        assert_same(world.everything(), after)


def test_decisions_of_the_library_are_made_anew() -> None:
    """What it decides by elements is checked in each call, and shapes that follow from them."""

    def function(t: Any) -> Any:
        return np.mean(np.repeat(t, np.sum(t > 1))) + (1.0 if 1.0 in t else 2.0)

    compiled = tg.compile(function)
    for row in NUMBERS, 1 + NUMBERS, NUMBERS[::-1], np.array([1.0, 2.0, 2.5]), NUMBERS:
        assert_same(compiled(tg.Tensor(row)), function(tg.Tensor(row)))


@pytest.mark.parametrize(
    "argument",
    [
        np.array(["text"]),
        np.array([None]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.ma.array([1.0, 2.0], mask=[0, 1]),
        np.recarray((2,), [("a", float)]),
    ],
    ids=lambda a: f"{type(a).__name__} {a.dtype}",
)
def test_what_an_argument_must_not_be(argument: Any) -> None:
    with pytest.raises(tg.TraceError, match="static_argnums"):
        tg.compile(lambda x: x)(argument)
    shape = tg.compile(lambda x: x.shape, static_argnums=0)
    for _ in range(2):
        assert shape(argument) == argument.shape


def test_a_variable_that_is_unbound_before() -> None:
    def make() -> Any:
        def function(x: Any) -> Any:
            nonlocal late
            late = x
            return x * 2

        if False:
            late = 0
        return function

    with pytest.raises(tg.TraceError, match="late"):
        tg.compile(make())(NUMBERS)


def test_an_optimizer_is_made_outside() -> None:
    parameter = tg.Tensor(1.0, requires_grad=True)
    with pytest.raises(tg.TraceError, match=r"Adam: .* make it outside"):
        tg.compile(lambda: tg.optim.Adam([parameter]))()


def test_a_step_of_lbfgs_is_scipys() -> None:
    pytest.importorskip("scipy")
    parameter = tg.Tensor(1.0, requires_grad=True)
    optimizer = tg.optim.LBFGS([parameter])
    with pytest.raises(tg.TraceError, match="LBFGS: a step cannot be compiled"):
        tg.compile(lambda: optimizer.step(lambda: parameter**2))()
    assert parameter.item() == 1
