"""`compile`: signatures, results, memory, threads, and what a plan says of itself."""

from __future__ import annotations

import copy
import ctypes
import functools
import inspect
import itertools
import pickle
import re
import threading
import time
import tracemalloc
import types
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import tensorgrad as tg
from tensorgrad import nn, optim
from tensorgrad.compiler.backends import numpy_blocks
from tensorgrad.engine.modes import mode

from .depth import one_in
from .oracles import assert_same, leaf
from .test_compile_training import NETS, Training, behind, plans, twins


def array_of(result: Any) -> Any:
    return result.data if isinstance(result, tg.Tensor) else result


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# -- signatures


def test_a_new_signature_is_traced_anew() -> None:
    f = tg.compile(lambda x: np.sum(x * x, axis=0))
    arguments = [
        numbers(3), numbers(2, 3), numbers(4, 3), numbers(2, 3, dtype=np.float32),
        np.arange(3), np.ones((0, 3)), np.array(2.0)[None], np.arange(3) + 1j, np.array([True]),
    ]  # fmt: skip
    for count, x in enumerate(arguments, 1):
        for given in x, x + x, tg.Tensor(x):
            actual, expected = f(given), np.sum(np.multiply(given, given), axis=0)
            assert_same(actual, expected)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert plans(f) == min(2 * count, 32)
    for x in arguments:  # and all of them are there still
        assert_same(f(x), np.sum(x * x, axis=0))
    assert plans(f) == 2 * len(arguments)


@pytest.fixture(autouse=True)
def many_signatures_are_meant(request: pytest.FixtureRequest) -> Any:
    with warnings.catch_warnings():
        if "warning" not in request.node.name:
            warnings.filterwarnings("ignore", "(?s).*was traced 9 times")
        yield


def test_float64_after_float32_and_back() -> None:
    f = tg.compile(lambda x: np.tanh(x) * 2)
    for _ in range(2):
        for dtype in np.float64, np.float32:
            x = numbers(4, dtype=dtype)
            assert_same(f(x), np.tanh(x) * 2)
            assert f(x).dtype == dtype


def test_numbers_and_texts_are_part_of_the_signature() -> None:
    f = tg.compile(lambda x, n, how="plus": x + n if how == "plus" else x - n)
    x = numbers(3)
    for n in 1, 2, 1.0, 2.5, True, 1j, -0.0:
        for how in "plus", "minus":
            assert_same(f(x, n, how), x + n if how == "plus" else x - n)
            assert_same(f(x, n, how=how), x + n if how == "plus" else x - n)
    assert_same(f(x, np.float64(3)), x + 3)
    assert_same(f(x, np.float64(4)), x + 4)
    with np.errstate(divide="ignore"):
        assert_same(1 / f(np.zeros(1), 0.0), np.array([np.inf]))
        assert_same(1 / f(np.array([-0.0]), -0.0), np.array([-np.inf]))


@pytest.mark.parametrize(
    "options",
    [{"static_argnums": 1}, {"static_argnums": (1,)}, {"static_argnums": -1},
     {"static_argnums": [0, 1], "static_argnames": "n"}],
    ids=str,
)  # fmt: skip
def test_static_arguments(options: Any) -> None:
    f = tg.compile(lambda x, n: x[0] + np.arange(n.stop).sum(), **options)
    x = (numbers(3),) if 0 not in np.atleast_1d(options["static_argnums"]) else Static(numbers(3))
    for n in range(3), range(4), range(3):
        assert_same(f(x, n), x[0] + sum(n))
    assert plans(f) == 2 if isinstance(x, tuple) else plans(f) >= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"static_argnums": 2}, r"static_argnums \[2\] are not positions of add's 2 arguments"),
        (
            {"static_argnums": (0, -3)},
            r"\[-3\] are not positions of add's 2 arguments, \['x', 'y'\]",
        ),
        ({"static_argnames": ["y", "z"]}, r"static_argnames \['z'\] are not among add's arguments"),
    ],
)
def test_arguments_that_there_are_not_are_no_static_ones(options: Any, message: str) -> None:
    def add(x: Any, y: Any = 2) -> Any:
        return x + y

    with pytest.raises(ValueError, match=message):
        tg.compile(add, **options)
    assert_same(tg.compile(add, static_argnums=1)(numbers(3)), numbers(3) + 2)
    open_ended = tg.compile(lambda *args, **_: args[0] * 2, static_argnums=7, static_argnames="k")
    assert_same(open_ended(numbers(3)), numbers(3) * 2)


class Static(tuple[Any, ...]):
    """Something hashable by identity, with an item."""

    def __new__(cls, array: Any) -> Static:
        return super().__new__(cls, (array,))

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def test_static_arguments_by_name() -> None:
    @tg.compile(static_argnames=("power", "deep"))
    def f(x: Any, *, power: int, deep: bool = False) -> Any:
        return f(x, power=power) ** 2 if deep else x**power

    x = numbers(3)
    for power in 2, 3, 2:
        assert_same(f(x, power=power), x**power)
        assert_same(f(x, power=power, deep=True), (x**power) ** 2)


def test_an_optional_argument() -> None:
    f = tg.compile(lambda x, bias=None: x if bias is None else x + bias)
    x = numbers(3)
    for _ in range(2):
        assert_same(f(x), x)
        assert_same(f(x, x), 2 * x)
        assert_same(f(x, bias=3 * x), 4 * x)
        assert_same(f(x, None), x)


class Pair(NamedTuple):
    left: Any
    right: Any


def test_nested_arguments_and_results() -> None:
    def f(data: Any, *others: Any, **named: Any) -> Any:
        total = data["a"][0] + data["a"][1].left * 2 + sum(others) + named["last"][()]
        return {
            "total": total,
            "list": [total, (total * 2, Pair(total, [data["a"][1].right]))],
            "none": None,
            "text": "as it is",
            "number": 3,
            "empty": ((), [], {}),
            "constant": np.arange(3.0),
        }

    compiled = tg.compile(f)
    for seed in range(3):
        x, y, z = (numbers(2, seed=10 * seed + i) for i in range(3))
        given = {"a": [x, Pair(tg.Tensor(y), z)], "b": ()}
        actual = compiled(given, x, y, last=z)
        assert_same(actual, f(given, x, y, last=z))
        assert list(actual) == ["total", "list", "none", "text", "number", "empty", "constant"]
        assert type(actual["list"][1][1]) is Pair
        assert actual["number"] == 3 and actual["none"] is None
    assert plans(compiled) == 1
    compiled({"a": given["a"]}, x, y, last=z)
    assert plans(compiled) == 2


def test_a_dicts_order_does_not_mix_values() -> None:
    f = tg.compile(lambda d: d["a"] - d["b"])
    for seed in range(2):
        x, y = numbers(3, seed=seed), numbers(3, seed=seed + 5)
        assert_same(f({"a": x, "b": y}), x - y)
        assert_same(f({"b": y, "a": x}), x - y)


def test_past_eight_traces_a_warning_names_the_cause() -> None:
    def lengths(x: Any) -> Any:
        return x * 2

    f = tg.compile(lengths)
    for n in range(8):
        f(np.ones(n + 1))
    with pytest.warns(UserWarning, match=r"lengths.*9 times.*shape \(8,\).*shape \(9,\)") as caught:
        f(np.ones(9))
    assert caught[0].filename == __file__
    f(np.ones(10))  # it warns once

    g = tg.compile(lambda x, n: x * n)
    for i in range(8):
        g(np.ones(2), i)
    with pytest.warns(UserWarning, match="from 7 to 8.*Pass numbers that change as arrays"):
        g(np.ones(2), 8)

    h = tg.compile(lambda x: x + 1)
    for n in range(8):
        h(np.ones(n))
    with pytest.warns(UserWarning, match=r"from an array of shape \(7,\).* to a tensor of shape"):
        h(tg.ones(7))


class Options:
    def __init__(self) -> None:
        self.rate, self.rates, self.array = 0, [0], np.zeros(2)


rate = 0


@pytest.mark.parametrize(
    ("read", "cause"),
    [
        (lambda options: options.rate, r"Options\.rate"),
        (lambda options: options.rates[0], r"list\[0\]"),
        (lambda _: rate, "rate"),
        (lambda options: options.array.sum(), r"ndarray.tobytes\(\)"),
    ],
)
def test_the_warning_names_what_has_changed_of_pythons_state(read: Any, cause: str) -> None:
    global rate
    options = Options()
    f = tg.compile(lambda x: x * read(options))
    with pytest.warns(UserWarning, match=f"9 times.*the last time, {cause}.* had changed"):
        for i in range(9):
            rate = options.rate = options.rates[0] = i
            options.array[:] = i
            assert_array_equal(f(np.ones(2)), [read(options)] * 2)


def test_the_plans_used_last_are_kept() -> None:
    f = tg.compile(lambda x: x + 1)
    f(np.ones(1))
    for n in range(2, 40):
        f(np.ones(n))
        f(np.ones(1))
    assert plans(f) == 32
    before = behind(f)._traced
    f(np.ones(1))
    f(np.ones(39))
    assert behind(f)._traced == before
    f(np.ones(2))
    assert behind(f)._traced == before + 1


def test_a_mode_set_to_what_it_was_needs_no_other_plan() -> None:
    """Before, it is an attribute of the class; then, of the module."""
    net = nn.Sequential(nn.Linear(2, 3, rng=0), nn.Dropout(0.5, rng=0))

    @tg.compile
    def step(x: Any) -> Any:
        net.train()
        return np.sum(net(x))

    for _ in range(3):
        step(np.ones((4, 2)))
        net.train()
    assert behind(step)._traced == 1
    predict = tg.compile(lambda x: net(x))
    kept, used = predict(np.ones((4, 2))), None
    for _ in range(2):
        net.eval()
        used = predict(np.ones((4, 2)))
        net.train()
        predict(np.ones((4, 2)))
    assert np.any(kept.numpy() == 0) and np.all(used.numpy() != 0)
    assert behind(predict)._traced == 2


def test_modes_are_part_of_the_signature() -> None:
    w = leaf([2.0, 3.0])
    f = tg.compile(lambda x: np.sum(w * x))
    for _ in range(2):
        assert f(np.ones(2)).requires_grad
        with tg.no_grad():
            assert not f(np.ones(2)).requires_grad
        net = nn.Dropout(0.5, rng=0)
        g = tg.compile(lambda x, net=net: net(x))
        for training in True, False, True:
            net.train(training)
            twin = copy.deepcopy(net)
            assert_same(g(np.ones(8)), twin(np.ones(8)))


def test_what_a_function_reads_from_outside_is_noticed() -> None:
    """A variable, an attribute, an option: another value is traced anew; a tensor is read."""
    scale = 2.0
    options = {"power": 2}
    net = tg.MLP(2, [3], rng=0)
    bias = tg.Tensor([1.0, 2.0, 3.0])
    f = tg.compile(lambda x: scale * net(x) ** options["power"] + bias)

    def check() -> None:
        x = numbers(4, 2)
        for _ in range(2):
            assert_same(f(x), scale * net(x) ** options["power"] + bias)

    check()
    scale = 3.0
    check()
    net.layers[0].activation = np.sin
    check()
    bias.data = [4.0, 5.0, 6.0]
    check()
    bias = tg.Tensor([7.0, 8.0, 9.0])
    check()
    net = tg.MLP(2, [3], rng=1)
    check()
    options["power"] = 3
    check()


def test_an_array_from_outside_is_read_at_each_call() -> None:
    table = np.arange(3.0)
    f = tg.compile(lambda x: x * table + table)
    for i in range(3):
        table[0] = i
        assert_same(f(numbers(3)), numbers(3) * table + table)


# -- results and arguments


def test_results_share_no_memory() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        return y, y[:2], y.T, x, x[1:], np.zeros(3), tg.Tensor(y), y

    compiled = tg.compile(f)
    for shape in (3,), (200, 30):
        x = numbers(*shape)
        calls = [compiled(x), compiled(x), compiled(-x)]
        kept = copy.deepcopy(calls)
        compiled(3 * x)
        for results, before in zip(calls, kept, strict=True):
            assert_same(results, before, roundings=0)
        arrays = [[array_of(r) for r in results] for results in calls]
        for i, own in enumerate(arrays):
            assert not any(np.shares_memory(*pair) for pair in itertools.combinations(own, 2))
            for a in own:
                assert a.flags.writeable
                assert not np.shares_memory(a, x)
                assert not any(np.shares_memory(a, b) for others in arrays[:i] for b in others)
        for a in itertools.chain(*arrays):
            a[...] = np.nan  # nothing later depends on it
        assert_same(compiled(x), f(x))


def test_a_result_that_is_a_gradient_too_shares_no_memory_with_it() -> None:
    w = leaf(numbers(200, 30))

    @tg.compile
    def f(x: Any) -> Any:
        w.grad = None
        g = np.tanh(x)
        np.sum(w * g).backward()
        return w.grad

    for seed in 1, 2:
        x = numbers(200, 30, seed=seed)
        array_of(f(x))[...] = np.nan
        assert_same(w.grad, np.tanh(x))


def test_parameters_are_not_given_away() -> None:
    w = leaf([1.0, 2.0])
    f = tg.compile(lambda: (w.data, w * 1, w.detach(), w.data[:1], np.sqrt(np.arange(2.0))))
    for _ in range(3):
        for result in f():
            array_of(result)[...] = 0
        assert_array_equal(w.data, [1.0, 2.0])
    assert_array_equal(f()[-1], [0.0, 1.0])


def test_arguments_are_left_alone() -> None:
    f = tg.compile(lambda x, y: (np.exp(x) * y, tg.grad(lambda x: np.sum(np.tanh(x) * y))(x)))
    for _ in range(3):
        x, y = numbers(3, 4), numbers(4)
        x.flags.writeable = False
        before = x.tobytes(), y.tobytes(), str(x.flags), str(y.flags)
        f(x, y)
        assert before == (x.tobytes(), y.tobytes(), str(x.flags), str(y.flags))


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda a: a,
    "fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "every second": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}  # fmt: skip


@pytest.mark.parametrize("first", LAYOUTS)
def test_layouts_do_not_matter(first: str) -> None:
    def f(x: Any, w: Any) -> Any:
        y = np.tanh(x @ w)
        return y, np.sum(y * y, axis=0), x.reshape(-1), x.T @ y, np.cumsum(x), x + 1

    compiled = tg.compile(f)
    x, w = numbers(4, 3), numbers(3, 3)
    for name in [first, *LAYOUTS]:
        a, b = LAYOUTS[name](x), LAYOUTS[name](w)
        assert_same(compiled(a, b), f(a, b))


@pytest.mark.parametrize("wrap", [lambda f: f, tg.compile], ids=["eager", "compiled"])
def test_data_is_given_a_value_without_a_graph(wrap: Any) -> None:
    t, w = tg.Tensor(np.zeros(2)), leaf([1.0, 2.0])

    @wrap
    def f(detached: bool) -> None:
        value = w * 2
        t.data = value.detach() if detached else value

    with pytest.raises(TypeError, match="a tensor that requires grad, multiply"):
        f(detached=False)
    assert_same(t.numpy(), np.zeros(2))
    f(detached=True)
    assert_same(t.numpy(), np.array([2.0, 4.0]))


def test_only_tensors_in_near_memory_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that is assigned is compared with those whose memory overlaps, not with all."""
    compared: list[bool] = []
    real = np.may_share_memory

    def counted(*arrays: Any) -> bool:
        compared.append(real(*arrays))
        return compared[-1]

    vector, pairs = np.zeros(200), np.zeros(6)
    tensors = [tg.asarray(vector[i : i + 2], copy=False) for i in range(0, 200, 2)]
    even, odd = (tg.asarray(pairs[i::2], copy=False) for i in range(2))

    @tg.compile
    def f() -> None:
        for t in (*tensors, even, odd):
            t.data = t.data + 1

    monkeypatch.setattr(np, "may_share_memory", counted)
    f()
    assert len(compared) < 2 * len(tensors)
    f()
    assert_same(np.stack([*map(tg.Tensor.numpy, tensors)]), np.full((100, 2), 2.0))
    assert_same(np.stack([even.numpy(), odd.numpy()]), np.full((2, 3), 2.0))


def test_arguments_that_share_memory_once_and_not_again() -> None:
    f = tg.compile(lambda x, y: x * 2 + y)
    both, x, y = numbers(4), numbers(4, seed=1), numbers(4, seed=2)
    pairs = [(both, both), (x, y), (both[:3], both[1:]), (x[:3], y[:3]), (both, both[::-1])]
    for a, b in [*pairs, *pairs[::-1]]:
        assert_same(f(a, b), a * 2 + b)
    g = tg.compile(lambda x, y: (x, y, x + y))
    t = tg.Tensor(both)
    for a, b in [(t, t), (tg.Tensor(x), tg.Tensor(y))]:
        assert_same(g(a, b), (a, b, a + b))


def test_an_argument_that_is_a_parameter_too() -> None:
    """The same array as an argument and as state, in the first call alone."""
    w = tg.Tensor([1.0, 2.0])

    @tg.compile
    def f(x: Any) -> Any:
        y = x * 2
        w.data = w.data + x
        return y, x + 1

    for x in w, tg.Tensor([5.0, 6.0]), w:
        before, current = x.data.copy(), w.data.copy()
        y, z = f(x)
        assert_same((y, z), (tg.Tensor(before * 2), tg.Tensor(before + 1)))
        assert_same(w.data, current + before)


def test_a_tensor_and_an_array_are_told_apart() -> None:
    f = tg.compile(lambda x: (x, x + 1))
    for _ in range(2):
        assert all(type(y) is np.ndarray for y in f(np.ones(2)))
        assert all(type(y) is tg.Tensor for y in f(tg.Tensor(np.ones(2))))


def test_results_are_arrays_as_in_eager_mode() -> None:
    def f(x: Any) -> Any:
        return tg.value_and_grad(lambda x: np.sum(x * x))(x)

    compiled = tg.compile(f)
    for _ in range(2):
        assert [type(y) for y in compiled(numbers(3))] == [type(y) for y in f(numbers(3))]


def test_pickles() -> None:
    f = tg.compile(lambda x: {"y": x * 2, "t": tg.Tensor(x)})
    for _ in range(2):
        result = f(pickle.loads(pickle.dumps(numbers(3))))
        assert_same(pickle.loads(pickle.dumps(result)), result)
        assert_same(copy.deepcopy(result), result)


# -- functions that write into arrays of their own


def by_items(x: Any) -> Any:
    y = x * 1
    y += 1
    y[0] = x[1]
    z = np.copy(y)
    z *= 2
    y -= z
    return y, z


def by_views(x: Any) -> Any:
    y = x * 1
    part = y[1:]
    part += 10
    square = y.reshape(2, 2)
    square *= 2
    square[:, 0] = -1
    return y, part, square


def by_functions(x: Any) -> Any:
    y = np.zeros_like(x)
    np.add(x, 1, out=y)
    np.copyto(y, 0, where=x > 0)
    np.add.at(y, [0, 0, 2], x[1])
    np.put(y, [3], 7)
    z = np.ones_like(x)
    np.fill_diagonal(z.reshape(2, 2), 5)
    z.sort()
    return y, z


def before_and_after(x: Any) -> Any:
    """A value that is read before and after it is written, and a copy of it."""
    y = x * 2
    before, alias = np.tanh(y), y
    kept = np.copy(y)
    y[1:3] = 0
    return before, np.tanh(y), np.tanh(alias), np.tanh(kept), kept


def by_tensors(x: Any) -> Any:
    y = tg.Tensor(x)
    y += 1
    y[0] = y[1]
    y *= y
    y[y.data.shape[0] - 1 :] = 3
    return y


@pytest.mark.parametrize("f", [by_items, by_views, by_functions, before_and_after, by_tensors])
def test_functions_that_write(f: Callable[..., Any]) -> None:
    compiled = tg.compile(f)
    for seed in range(3):
        x = numbers(4, seed=seed)
        before = x.copy()
        assert_same(compiled(x), f(x))
        assert_array_equal(x, before)


# -- other parts of the library, inside and around


X = numbers(3)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: tg.grad(f),
        lambda f: tg.value_and_grad(f),
        lambda f: tg.jacobian(lambda x: x * f(x)),
        lambda f: tg.jacobian(lambda x: x * f(x), mode="forward"),
        lambda f: tg.hessian(f),
        lambda f: lambda x: tg.hvp(f, (x,), (x + 1,)),
        lambda f: lambda x: tg.jvp(f, (x,), (x + 1,)),
        lambda f: lambda x: tg.vjp(f, x)[1](np.array(2.0)),
        lambda f: tg.grad(lambda x: np.sum(tg.grad(f)(x) ** 2)),
        lambda f: tg.grad(tg.checkpoint(f)),
        lambda f: lambda x: tg.elementwise_grad(np.tanh)(x) * f(x),
    ],
)
def test_transforms_inside_and_outside(transform: Any) -> None:
    def f(x: Any) -> Any:
        return np.sum(np.tanh(x) * x**2)

    inside, outside = tg.compile(transform(f)), transform(tg.compile(f))
    both = tg.compile(transform(tg.compile(f)))
    for seed in range(3):
        x = numbers(3, seed=seed)
        for compiled in inside, outside, both:
            assert_same(compiled(x), transform(f)(x))


def test_backward_through_a_compiled_function_of_a_leaf() -> None:
    f = tg.compile(lambda x: np.sum(x * x))
    for _ in range(3):
        x = leaf(numbers(3)) * 1.0
        w = leaf(numbers(3))
        f(x * w).backward()
        assert_same(w.grad, 2 * w.data * x.data**2)


def test_a_leaf_among_the_arguments_gets_its_gradient() -> None:
    """It is one of those tensors that live on, and which a later call may change."""
    f = tg.compile(lambda w, x: np.sum(w * x).backward())
    w, other = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    for i in range(1, 4):
        f(w, np.ones(2))
        assert_array_equal(w.grad, [i, i])
    f(other, 2 * np.ones(2))
    assert_array_equal(other.grad, [2.0, 2.0])
    assert_array_equal(w.grad, [3.0, 3.0])


def test_a_result_has_no_graph() -> None:
    w = leaf([1.0, 2.0])
    f = tg.compile(lambda x: np.sum(w * x))
    for _ in range(2):
        with pytest.raises(tg.GraphError, match="take the gradient, inside"):
            f(np.ones(2)).backward()
        loss = f(np.ones(2))
        array = loss.data
        assert loss.data is array and array == 3


def test_compiled_functions_inside_of_compiled_ones() -> None:
    inner = tg.compile(lambda x: np.tanh(x) * 2)
    outer = tg.compile(lambda x: inner(x) + inner(x + 1))
    for seed in range(3):
        x = numbers(3, seed=seed)
        assert_same(outer(x), np.tanh(x) * 2 + np.tanh(x + 1) * 2)
    eager, nested = twins(NETS["MLP"], "mse", "Adam")
    step = tg.compile(nested.step)
    twice = tg.compile(lambda x, t: [step(x, t), step(x, t)])
    for i in range(3):
        x, t = eager.batch(i)
        assert_same(twice(x, t), [eager.step(x, t), eager.step(x, t)])
        assert_same(nested.everything(), eager.everything())


def test_diagnostics_see_the_function() -> None:
    f = tg.compile(lambda x: np.log(x))
    w = leaf([1.0, -1.0])
    step = tg.compile(lambda: np.sum(np.sqrt(w)).backward())
    with np.errstate(all="ignore"):
        step()
        step()
        with tg.detect_anomaly(), pytest.raises(tg.AnomalyError, match="sqrt"):
            step()
        assert np.isnan(f(np.array([-1.0])))
    assert "tanh" in str(tg.profile(tg.compile(lambda x: np.tanh(x)))(leaf([1.0])))


def test_custom_rules() -> None:
    @tg.differentiable(lambda g, y, _x: 3 * g * y)
    def cube(x: Any) -> Any:
        return np.einsum("i,i,i->i", x, x, x)

    f = tg.compile(lambda x: tg.value_and_grad(lambda x: np.sum(cube(x)))(x))
    for seed in range(3):
        x = numbers(3, seed=seed)
        assert_same(f(x), (np.sum(x**3), 3 * x**3))


@pytest.mark.numpy_program
def test_floating_point_errors_are_the_callers() -> None:
    f = tg.compile(lambda x: np.log(x))
    g = tg.compile(lambda x: quiet(x))

    def quiet(x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(x)

    for x in np.ones(2), np.zeros(2), np.zeros(2):
        with np.errstate(divide="ignore"):
            f(x)
        g(x)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        f(np.zeros(2))
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        f(np.zeros(2))
    assert_array_equal(f(np.ones(2)), [0, 0])


def test_scan_and_lower_of_a_method_name_the_cure() -> None:
    model = Model(2.0)
    for method, args in (("scan", (np.ones((3, 1)),)), ("lower", (np.ones(1),))):
        with pytest.raises(TypeError, match=rf"tg.compile\(obj.step\).{method}\(...\)"):
            getattr(model.step, method)(*args)
        getattr(tg.compile(model.step), method)(*args)


class Model:
    """Methods, each object's own."""

    def __init__(self, w: float) -> None:
        self.w = leaf([w])

    @tg.compile
    def step(self, x: Any) -> Any:
        """Take a step."""
        loss = np.sum(self.w * x)
        loss.backward()
        self.w.data = self.w.data - self.w.grad
        self.w.grad = None
        return loss

    @tg.compile(static_argnames="n")
    def times(self, x: Any, n: int = 2) -> Any:
        return self.w * x * n


def test_methods() -> None:
    first, second = Model(1.0), Model(10.0)
    for i in range(3):
        assert first.step(np.ones(1)).item() == 1.0 - i
        assert second.step(np.ones(1)).item() == 10.0 - i
        assert first.times(np.ones(1)).item() == -2.0 * i
        assert first.times(np.ones(1), n=3).item() == -3.0 * i
    assert Model.step.__doc__ == "Take a step."
    assert Model.step.__name__ == "step"


def test_it_is_called_as_the_function_is() -> None:
    def named(x: Any, y: Any = 1) -> Any:
        """Do something."""
        return x + y

    f = tg.compile(named)
    assert (f.__name__, f.__doc__, f.__wrapped__) == ("named", "Do something.", named)
    assert inspect.signature(f) == inspect.signature(named)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"named\(\) missing 1 required positional argument"):
            f()
        with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
            f(X, z=1)
        assert_same(f(x=X, y=X), X + X)


def test_errors_in_the_function_are_its_own() -> None:
    f = tg.compile(lambda x: x @ np.ones((4, 1)))
    for _ in range(2):
        with pytest.raises(ValueError, match="matmul"):
            f(np.ones((2, 3)))
    assert plans(f) == 0


# -- several steps a call


@pytest.mark.parametrize("net", ["MLP", "Conv2d, BatchNorm2d, MaxPool2d", "LSTM"])
@pytest.mark.parametrize("schedule", [None, "CosineAnnealingLR"])
def test_scan_is_the_loop(net: str, schedule: str | None) -> None:
    eager, scanned = twins(NETS[net], "mse", "Adam", schedule=schedule)
    step = tg.compile(scanned.step)
    for start in 0, 5, 10:
        batches = [eager.batch(start + i) for i in range(5)]
        expected = [eager.step(x, t) for x, t in batches]
        actual = step.scan(*map(np.array, zip(*batches, strict=True)))
        assert_same([*actual["loss"].data], [e["loss"].data[()] for e in expected])
        assert_same(actual["output"].data, np.array([e["output"].data for e in expected]))
        assert_same(scanned.everything(), eager.everything())


def test_scan_over_nested_batches() -> None:
    f = tg.compile(lambda batch, scale: {"sum": batch["x"][0] + scale, "pair": (scale, batch["t"])})
    x, t, scale = numbers(4, 2), tg.Tensor(numbers(4, 3)), numbers(4)
    out = f.scan({"x": [x], "t": t}, scale)
    assert_same(out, {"sum": x + scale[:, None], "pair": (scale, t)})


def test_scan_has_no_carry_but_state() -> None:
    total = tg.Tensor(0.0)

    @tg.compile
    def add(x: Any) -> Any:
        total.data += x
        return total.data

    assert_array_equal(add.scan(np.arange(1.0, 5.0)), [1, 3, 6, 10])
    assert_array_equal(add.scan(np.arange(1.0, 2.0)), [11])
    assert add(np.array(9.0)) == total.data == 20


@pytest.mark.parametrize(
    "batches", [(np.ones(2), np.ones(3)), (np.ones(()),), (np.ones((0, 2)),), ()]
)
def test_scan_needs_arrays_of_one_length(batches: Any) -> None:
    with pytest.raises(ValueError, match="scan: arrays of shapes"):
        tg.compile(lambda *xs: sum(xs)).scan(*batches)


# -- threads, and the life of plans


def in_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def safely(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=safely, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_steps_in_several_threads_add_up() -> None:
    total = tg.Tensor(np.zeros(100))

    @tg.compile
    def add(x: Any) -> Any:
        y = np.tanh(x) * 0 + x
        total.data += y
        return y

    in_threads(4, lambda i: [add(np.full(100, float(i))) for _ in range(200)] and None)
    assert_array_equal(total.data, np.full(100, 200.0 * 6))


def test_inference_in_several_threads_is_right() -> None:
    net = tg.MLP(3, [16, 16, 2], rng=0)
    predict = tg.compile(lambda x: net(x).data)

    def work(i: int) -> None:
        for j in range(100):
            x = numbers(5 + j % 2, 3, seed=i)
            expected = expectations[i, j % 2]
            assert_same(predict(x), expected)

    expectations = {(i, k): net(numbers(5 + k, 3, seed=i)).data for i in range(4) for k in range(2)}
    in_threads(4, work)


def test_first_calls_at_the_same_time() -> None:
    eager, shared = twins(NETS["MLP"], "mse", "SGD")
    step = tg.compile(shared.step)
    x, t = shared.batch(0)
    barrier = threading.Barrier(4)

    def work(_i: int) -> None:
        barrier.wait()
        step(x, t)

    in_threads(4, work)
    for _ in range(4):
        eager.step(x, t)
    assert_same(shared.everything(), eager.everything())


def test_another_thread_is_not_traced() -> None:
    """What it does meanwhile is no part of the program, and computes as ever."""
    begun, done = threading.Lock(), threading.Lock()
    begun.acquire()
    done.acquire()
    results: list[Any] = []

    def elsewhere() -> None:
        begun.acquire(timeout=10)
        w = leaf([1.0, 2.0])
        np.sum(w * w).backward()
        results.append(w.grad)
        done.release()

    def meanwhile() -> None:
        if begun.locked() and not results:
            begun.release()
            done.acquire(timeout=10)

    @tg.compile
    def f(x: Any, meanwhile: Any) -> Any:
        y = x * 2
        meanwhile()
        return y + 1

    thread = threading.Thread(target=elsewhere)
    thread.start()
    f(np.ones(2), Opaque(meanwhile))
    thread.join()
    assert_array_equal(results[0], [2.0, 4.0])


def test_a_call_that_another_one_of_it_makes_is_refused() -> None:
    """As of a handler of signals: it would overwrite what the first one works on."""
    interrupted = []

    def interrupt() -> None:
        if interrupted:
            interrupted.clear()
            f(np.ones(2))

    handler = Opaque(interrupt)

    @tg.compile
    def f(x: Any) -> Any:
        mode.get().interpreter.effect(lambda _: handler(), x)
        return np.tanh(x * 2)

    f(np.ones(2))
    f(np.ones(2))
    interrupted.append(True)
    with pytest.raises(RuntimeError, match="f: a compiled call was interrupted by another one"):
        f(np.ones(2))
    assert_array_equal(f(np.ones(2)), np.tanh([2.0, 2.0]))


class Opaque:
    """A function of which the compiler knows nothing."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = ctypes.py_object(function)

    def __call__(self) -> None:
        self.function.value()


def test_plans_die_with_their_function(no_collector: None) -> None:  # noqa: ARG001
    training = Training(NETS["MLP"], "mse", "Adam")
    step = tg.compile(functools.partial(Training.step, training))
    for i in range(3):
        step(*training.batch(i))
    plan = step.lower(*training.batch(0))
    things = [
        weakref.ref(thing)
        for thing in (step, step.__wrapped__, training.model, training.optimizer, plan)
    ]
    del training, step, plan
    assert [thing() for thing in things] == [None] * len(things)


def test_a_plan_that_is_thrown_away_is_freed(no_collector: None) -> None:  # noqa: ARG001
    f = tg.compile(lambda x: np.tanh(x) * 2)
    f(np.ones(1))
    plan = weakref.ref(behind(f)._latest)
    for n in range(2, 40):
        f(np.ones(n))
    assert plan() is None


def test_arguments_and_results_are_not_kept(no_collector: None) -> None:  # noqa: ARG001
    class Array(np.ndarray):
        pass

    f = tg.compile(lambda x: (x * 2, tg.Tensor(x)))
    for _ in range(3):
        x = numbers(1000)
        reference = weakref.ref(x)
        results = f(x)
        references = [weakref.ref(results[0]), weakref.ref(results[1].data)]
        del x, results
        assert reference() is None
        assert [r() for r in references] == [None, None]


# -- memory


@pytest.fixture
def recycling(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A compiled function whose results lie where earlier ones did, though they are small."""
    monkeypatch.setattr(tg.compiler.backends.numpy_source, "RECYCLED", 1 << 12)
    return tg.compile(lambda x: (x * 2, tg.Tensor(x) + 1))


def test_large_results_lie_where_earlier_ones_did_that_nobody_has(recycling: Any) -> None:
    x = numbers(1000)
    recycling(x)

    def places(call: Callable[[], Any]) -> int:
        return len({tuple(array_of(r).ctypes.data for r in call()) for _ in range(6)})

    last: Any = None

    def in_turn() -> Any:
        nonlocal last
        last = recycling(x)
        return last

    results = [recycling(x) for _ in range(6)]
    assert len({array_of(r).ctypes.data for pair in results for r in pair}) == 12
    assert places(lambda: recycling(x)) == 1
    assert places(in_turn) == 2


@pytest.mark.parametrize(
    "holder",
    [
        lambda a: a,
        lambda a: a[::2][:3],
        lambda a: a.reshape(10, -1).T,
        lambda a: memoryview(a)[3:],
        lambda a: np.frombuffer(a),
        lambda a: a.flat,
        lambda a: np.lib.stride_tricks.as_strided(a, (3,), (16,)),
        lambda a: (ctypes.c_double * 1000).from_buffer(a),
    ],
)
def test_results_that_somebody_has_stay_as_they_are(recycling: Any, holder: Any) -> None:
    recycling(np.zeros(1000))
    for _ in range(3):
        held = [holder(array_of(result)) for result in recycling(np.ones(1000))]
        for factor in 0.0, 3.0, 4.0:
            recycling(np.full(1000, factor))
        for part in held:
            assert set(np.ravel(part)) == {2.0}


def test_large_results_as_arguments(recycling: Any) -> None:
    x = expected = numbers(1000)
    for _ in range(6):
        x, y = recycling(x)
        assert_same((x, y), (2 * expected, tg.Tensor(expected + 1)))
        expected = 2 * expected


def test_large_results_in_several_threads(recycling: Any) -> None:
    wrong = []

    def run(n: int) -> None:
        x = np.full(1000, float(n))
        for _ in range(300):
            double, more = recycling(x)
            if not (np.all(double == 2 * n) and np.all(more.data == n + 1)):
                wrong.append(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_large_results_are_arrays_of_their_own(recycling: Any) -> None:
    for _ in range(3):
        double, _ = recycling(numbers(1000))
        double.resize(10, 100, refcheck=False)
        double.flags.writeable = False
        reference = weakref.ref(double)
        del double
        assert reference() is None
    double, _ = recycling(numbers(1000))
    assert double.shape == (1000,) and double.flags.writeable


def allocated(call: Callable[[], Any]) -> int:
    """The bytes that a call needs at most at the same time, beside what is there before.

    Without those of NumPy's iterators, which are no arrays: 8,192 elements where a row is added.
    """
    for _ in range(3):
        call()
    buffered = np.setbufsize(16)
    tracemalloc.start()
    try:
        call()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        np.setbufsize(buffered)


def array_data(call: Callable[[], Any]) -> int:
    """The bytes of NumPy's arrays that a call leaves, of those that it returns."""
    domain = np.lib.tracemalloc_domain
    for _ in range(3):
        call()
    tracemalloc.start()
    try:
        result = call()
        snapshot = tracemalloc.take_snapshot()
        del result
        kept = snapshot.filter_traces([tracemalloc.DomainFilter(True, domain)])
        return sum(trace.size for trace in kept.traces)
    finally:
        tracemalloc.stop()


def mlp_step(sizes: list[int], make: Callable[..., Any], dtype: Any = np.float64) -> Any:
    net = tg.MLP(sizes[0], sizes[1:], output_activation="linear", dtype=dtype, rng=0)
    optimizer = make(net.parameters())

    @tg.compile
    def step(x: Any, t: Any) -> Any:
        loss = nn.mse_loss(net(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


MAKERS: dict[str, Callable[..., Any]] = {
    "SGD": lambda ps: optim.SGD(ps, lr=0.01),
    "momentum": lambda ps: optim.SGD(ps, lr=0.01, momentum=0.9, weight_decay=0.1),
    "Adam": lambda ps: optim.Adam(ps, lr=0.01),
    "AdamW": lambda ps: optim.AdamW(ps, lr=0.01, amsgrad=True),
}


@pytest.mark.parametrize("dtype", one_in(2, [np.float32, np.float64]))
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("sizes", [[20, 60, 50, 30], [64, 128, 10], [200, 400, 200, 40]], ids=str)
def test_a_training_step_allocates_no_array(sizes: list[int], make: Any, dtype: Any) -> None:
    """Nothing but its loss: not the smallest of its arrays, nor all of what Python needs."""
    step = mlp_step(sizes, make, dtype)
    x, t = numbers(64, sizes[0], dtype=dtype), numbers(64, sizes[-1], dtype=dtype)
    smallest = 64 * sizes[-1] * x.itemsize  # of the arrays with a row for each sample
    assert allocated(lambda: step(x, t)) < min(smallest, 2500)
    assert array_data(lambda: step(x, t)) <= 16  # the loss


def test_what_allocates_is_noticed() -> None:
    x = numbers(100, 100)
    assert allocated(lambda: np.tanh(x + 1)) >= 2 * x.nbytes - 100
    assert array_data(lambda: np.tanh(x + 1)) >= x.nbytes


def test_large_results_are_all_that_inference_allocates() -> None:
    net = tg.MLP(50, [100, 100], rng=0)
    predict = tg.compile(lambda x: net(x))
    x = numbers(64, 50)
    assert allocated(lambda: predict(x)) < 64 * 100 * 8 + 2500


def conv_step(x: Any, t: Any) -> Any:
    return Training(NETS["Conv2d, BatchNorm2d, MaxPool2d"], "mse", "Adam").step(x, t)


PLANNED: dict[str, Callable[[], Any]] = {
    "3-4-4-1": lambda: mlp_step([3, 4, 4, 1], MAKERS["SGD"]).lower(numbers(4, 3), numbers(4, 1)),
    "2-16-16-1": lambda: mlp_step([2, 16, 16, 1], MAKERS["Adam"]).lower(
        numbers(100, 2), numbers(100, 1)
    ),
    "64-128-10": lambda: mlp_step([64, 128, 10], MAKERS["SGD"], np.float32).lower(
        numbers(64, 64, dtype=np.float32), numbers(64, 10, dtype=np.float32)
    ),
    "784-256-128-10": lambda: mlp_step([784, 256, 128, 10], MAKERS["Adam"]).lower(
        numbers(128, 784), numbers(128, 10)
    ),
    **{
        net: lambda net=net: (lambda t: tg.compile(t.step).lower(*t.batch(0)))(
            Training(NETS[net], "mse", "Adam", clip="norm")
        )
        for net in NETS
    },
    "a chain": lambda: tg.compile(lambda x: np.tanh(np.exp(np.sin(x) * 2) + 1) * x).lower(
        numbers(1000)
    ),
    "a wide gradient": lambda: tg.compile(
        tg.grad(lambda x: np.sum(np.tanh(x) * np.cumsum(x) + np.sort(x)))
    ).lower(numbers(1000)),
}


@pytest.mark.numpy_program
@pytest.mark.parametrize("name", PLANNED)
def test_the_peak_is_near_its_lower_bound(name: str) -> None:
    plan = PLANNED[name]()
    assert 0 < plan.lower_bound <= plan.peak_bytes <= 1.1 * plan.lower_bound


# -- what a plan says


@pytest.fixture
def planned() -> tuple[Training, Any]:
    training = Training(NETS["MLP"], "mse", "Adam")
    return training, tg.compile(training.step).lower(*training.batch(0))


@pytest.mark.numpy_program
def test_a_plan_lists_its_calls(planned: tuple[Training, Any]) -> None:
    training, plan = planned
    text = str(plan)
    assert "tanh" in text and "dot" in text
    assert re.search(r"test_compile_training\.py:\d+", text)
    calls = int(re.search(r"(\d+) calls", text)[1])  # type: ignore[index]
    assert calls == len(plan.steps) > 10
    assert f"{plan.peak_bytes:,} bytes" in text
    assert f"float64[{len(training.batch(0)[0])}, 5]" in text


@pytest.mark.numpy_program
def test_a_plans_source_is_python(planned: tuple[Training, Any]) -> None:
    _, plan = planned
    compile(plan.source, "plan", "exec")
    assert plan.source.startswith("def run(")
    assert "tanh(" in plan.source and "_dot(" in plan.source
    assert "matmul(" not in plan.source


@pytest.mark.numpy_program
def test_a_profile_times_each_call_and_changes_nothing(planned: tuple[Training, Any]) -> None:
    training, plan = planned
    before = training.everything()
    profile = plan.profile(5)
    assert_same(training.everything(), before, roundings=0)
    assert 0 < profile.seconds < 1
    assert all(seconds >= 0 for seconds, _ in profile.steps)
    assert "tanh" in str(profile) and "us in" in str(profile)
    twin = Training(NETS["MLP"], "mse", "Adam")
    step = tg.compile(training.step)
    for i in range(3):
        assert_same(step(*training.batch(i)), twin.step(*twin.batch(i)))
        step.lower(*training.batch(i)).profile(2)
        assert_same(training.everything(), twin.everything())


@pytest.mark.numpy_program
def test_what_is_done_once_in_a_plan() -> None:
    """Calls nobody needs are left out, equal ones are made once, constants are computed before."""

    def f(x: Any) -> Any:
        np.exp(x)
        constant = np.sqrt(np.arange(4.0)) + 1
        return np.tanh(x) * np.tanh(x) + constant, x**2, x * 1.0

    plan = tg.compile(f).lower(numbers(4))
    assert "exp" not in plan.source
    assert "sqrt" not in plan.source
    assert plan.source.count("tanh(") == 1
    assert "square(" in plan.source and "power(" not in plan.source
    assert_same(plan.run(X4)[0], f(X4)[0])


X4 = numbers(4, seed=3)


@pytest.mark.numpy_program
def test_a_loss_that_nobody_asks_for_is_not_computed() -> None:
    net = tg.MLP(2, [3, 1], rng=0)

    def loss(x: Any) -> Any:
        return np.sum(np.log(np.cosh(net(x))))

    with_loss = tg.compile(lambda x: (y := loss(x)).backward() or y).lower(numbers(4, 2))
    without = tg.compile(lambda x: loss(x).backward()).lower(numbers(4, 2))
    assert "log" in with_loss.source and "log" not in without.source
    assert len(without.steps) < len(with_loss.steps)


@pytest.fixture(params=[1, 2])
def threads(request: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The number of threads for long loop_fusion."""
    monkeypatch.setattr(numpy_blocks, "count_of_threads", lambda: request.param)
    return request.param


@pytest.mark.numpy_program
def test_long_chains_are_run_in_blocks(threads: int) -> None:
    def f(x: Any) -> Any:
        return np.exp(np.tanh(x * 2 + x)) * x

    x = numbers((1 << 20) + 13, dtype=np.float32).reshape(-1, 1)
    compiled = tg.compile(f)
    for given in x, 0.5 * x:
        assert_same(compiled(given), f(given))
    plan = compiled.lower(x)
    assert plan.peak_bytes < x.nbytes / 4
    assert ("in_two_threads" in plan.source) == (threads == 2)
    slope = tg.compile(tg.elementwise_grad(f))
    for given in x, 0.5 * x:
        assert_same(slope(given), tg.elementwise_grad(f)(given))


@pytest.mark.numpy_program
def test_a_long_chain_in_threads_heeds_the_callers_settings(threads: int) -> None:  # noqa: ARG001
    f = tg.compile(lambda x: np.exp(x * 2) * x)
    x = np.zeros((1 << 20) + 13, np.float32)
    assert not f(x).any()
    for i in 0, len(x) - 1:
        x[:] = 0
        x[i] = 100
        with pytest.raises(RuntimeWarning, match="overflow"):
            f(x)
        with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
            f(x)
        with np.errstate(over="ignore"):
            assert f(x)[i] == np.inf


def test_long_chains_with_an_array_that_rows_have_in_common(threads: int) -> None:  # noqa: ARG001
    def f(x: Any, a: Any) -> Any:
        return np.exp(np.tanh(x * 2 + a)) * x

    x = numbers(1025, 1024, dtype=np.float32)
    compiled = tg.compile(f)
    for a in x[1], x[:1], x[:, :1], x[:, ::-1], x[0, 0]:
        assert_same(compiled(x, a), f(x, a))


def test_ctrl_c_waits_for_the_other_thread() -> None:
    begun, worker = threading.Event(), threading.Thread()

    def chain(thread: int, _start: int, _stop: int) -> None:
        nonlocal worker
        if thread:
            worker = threading.current_thread()
            begun.set()
            time.sleep(0.01)
        else:
            begun.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        numpy_blocks.in_two_threads(chain, 1, 2)
    assert begun.is_set() and not worker.is_alive()


@pytest.mark.numpy_program
def test_long_chains_by_columns_are_run_in_blocks(threads: int) -> None:  # noqa: ARG001
    w = tg.Tensor(np.asfortranarray(numbers(1025, 1024, dtype=np.float32)))

    def f(x: Any) -> Any:
        return np.exp(np.tanh(w * 2 + x)) * w

    x = np.asfortranarray(numbers(1025, 1024, seed=1, dtype=np.float32))
    compiled = tg.compile(f)
    for given in x, 0.5 * x, np.ascontiguousarray(x), np.repeat(x, 2, axis=1)[:, ::2]:
        expected = f(given)
        actual = compiled(given)
        assert_same(actual, expected)
        assert actual.data.flags.fnc == expected.data.flags.fnc
    assert plans(compiled) == 3  # one for each way in which the arguments lie
    plan = compiled.lower(x)
    assert plan.peak_bytes < x.nbytes / 4 and "for low in" in plan.source
    assert compiled(x).data.flags.fnc


# -- data that is assigned, and gradients from before the call


def _state(*values: Any, trained: bool = False) -> list[tg.Tensor]:
    return [tg.Tensor(v, float, requires_grad=trained) for v in values]


def rebinding() -> Any:
    (u,) = state = _state([1, 1])

    def f(x: Any) -> Any:
        old = u.data
        u.data = np.tanh(old + x)
        return u.data - old

    return f, state


def swapping() -> Any:
    u, v = state = _state([1, 2], [3, 4])

    def f(x: Any) -> Any:
        u.data, v.data = v.data + x, u.data
        return u.data * 2

    return f, state


def rebinding_inside() -> Any:
    def f(x: Any) -> Any:
        h = tg.Tensor(x * 2)
        old = h.data
        h.data = np.tanh(old)
        return h.data - old

    return f, []


def an_operand_reassigned_before_backward() -> Any:
    (w,), (u,) = _state([1, 2], trained=True), _state([2, 3])

    def f(x: Any) -> Any:
        w.zero_grad()
        y = np.sum(w * u)
        u.data = x
        y.backward()
        return w.grad

    return f, [w, u]


def a_gradient_kept_while_it_accumulates() -> Any:
    (p,) = state = _state([1, 2], trained=True)

    def f(x: Any) -> Any:
        old = p.grad
        np.sum(p * x).backward()
        return p.grad, x * 0 if old is None else old * 1

    return f, state


def descending_by_hand() -> Any:
    (p,) = state = _state([1, 2], trained=True)

    def f(x: Any) -> Any:
        p.zero_grad()
        np.sum(p * p * x).backward()
        p.data = p.data - 0.1 * p.grad
        return p.data + 0

    return f, state


def two_optimizers_of_one_parameter() -> Any:
    (p,) = state = _state([1, 2], trained=True)
    optimizers = tg.optim.SGD([p], lr=0.1), tg.optim.Adam([p], lr=0.1)

    def f(x: Any) -> Any:
        p.zero_grad()
        np.sum(p * p * x).backward()
        for optimizer in optimizers:
            optimizer.step()
        return p.data + 0

    return f, state


@pytest.mark.parametrize(
    "make",
    [
        rebinding,
        swapping,
        rebinding_inside,
        an_operand_reassigned_before_backward,
        a_gradient_kept_while_it_accumulates,
        descending_by_hand,
        two_optimizers_of_one_parameter,
    ],
)
def test_data_that_is_assigned_is_what_it_is_in_eager_mode(make: Any) -> None:
    (eager, expected), (traced, actual) = make(), make()
    compiled = tg.compile(traced)
    for x in [1.0, 2.0], [3.0, -1.0], [0.5, 2.0], [1.0, 2.0]:
        assert_same(compiled(np.array(x)), eager(np.array(x)))
        assert_same(actual, expected)


def test_an_eager_step_of_another_optimizer_comes_between() -> None:
    results = []
    for way in (lambda f: f), tg.compile:
        (p,) = _state([1, 2], trained=True)
        own, other = tg.optim.Adam([p], lr=0.1), tg.optim.SGD([p], lr=0.1)

        def f(x: Any, p: Any = p, own: Any = own) -> Any:
            p.zero_grad()
            np.sum(p * p * x).backward()
            own.step()
            return p.data + 0

        step = way(f)
        rows = []
        for k in range(6):
            rows.append(np.array(step(np.array([1.0, k]))))
            other.step()
        results.append([*rows, p.data.copy()])
    assert_same(*results)


# -- arguments and results of other kinds


def test_a_dict_in_another_order_is_another_signature() -> None:
    f = tg.compile(lambda d: np.stack(list(d.values())))
    a, b = numbers(2), numbers(2, seed=1)
    for d in {"a": a, "b": b}, {"b": b, "a": a}:
        assert_same(f(d), np.stack(list(d.values())))
        assert_same(f(d), np.stack(list(d.values())))


def test_a_static_tensor_is_part_of_the_signature() -> None:
    f = tg.compile(lambda x, t: x * t.data, static_argnums=1)
    t = tg.Tensor([2.0, 3.0])
    for _ in range(2):
        assert_same(f(np.ones(2), t), t.data)


def test_arrays_are_not_returned_in_objects() -> None:
    class Pair:
        def __init__(self, a: Any) -> None:
            self.a = a

    with pytest.raises(tg.TraceError, match="in a Pair: return them in a tuple"):
        tg.compile(lambda x: Pair(x * 2))(np.ones(2))


def test_an_array_from_outside_that_is_a_view_stays_writeable() -> None:
    view = np.arange(6.0)[:3]
    f = tg.compile(lambda x: x * view)
    assert_same(f(np.ones(3)), view)
    view[0] = 5.0
    assert_same(f(np.ones(3)), view)


def test_plain_arrays_that_change_while_tracing_are_refused() -> None:
    def f(x: Any) -> Any:
        mask = np.zeros(3)
        y = x * mask
        mask[0] = 1
        return y + x * mask

    with pytest.raises(tg.TraceError, match=r"test_compile\.py:\d+: f changes an array"):
        tg.compile(f)(np.ones(3))


def test_scan_of_a_chain_over_large_arrays() -> None:
    x = np.linspace(-1, 1, 3 << 20).reshape(3, 1 << 20)
    actual = tg.compile(lambda x: np.sum(np.tanh(x * 2) + 1)).scan(x)
    np.testing.assert_allclose(actual, np.sum(np.tanh(x * 2) + 1, axis=1), rtol=1e-12)


# -- tensors from outside, which get other values


def by_item(t: Any, x: Any) -> Any:
    t[0] = x[0]
    return t * 2


def by_operator(t: Any, x: Any) -> Any:
    t *= 0.5
    t += x
    return t


def by_methods(t: Any, x: Any) -> Any:
    t.fill(x[1])
    t[1:] = x[1:]
    t.sort()
    return np.sum(t)


def by_data_and_item(t: Any, x: Any) -> Any:
    t.data = x * 2
    t[1] = x[2]
    before = t.data
    t.data += 1
    t[2] = before[0]
    return before * t


def under_no_grad(t: Any, x: Any) -> Any:
    t.requires_grad = True
    with tg.no_grad():
        t[0] = x[0]
    return np.sum(t * x)


@pytest.mark.parametrize(
    "change", [by_item, by_operator, by_methods, by_data_and_item, under_no_grad]
)
def test_tensors_from_outside_change_as_in_eager_mode(change: Any) -> None:
    t, twin = tg.Tensor([3.0, 1.0, 2.0]), tg.Tensor([3.0, 1.0, 2.0])
    held = [t]  # in a container, too
    compiled = tg.compile(lambda x: change(held[0], x))
    compiled.lower(numbers(3))
    assert_same(t.data, twin.data)  # nothing has changed yet
    t.requires_grad = twin.requires_grad = t.requires_grad
    for seed in range(4):
        x = numbers(3, seed=seed)
        assert_same(array_of(compiled(x)), array_of(change(twin, x)))
        assert type(t.numpy()) is np.ndarray
        assert_same(t.data, twin.data)
        if seed == 2:  # and eager calls come between
            assert_same(array_of(change(t, x)), array_of(change(twin, x)))


def test_fit_changes_a_tensor_from_outside() -> None:
    """A statistic that a loss keeps, by writing into one element of it."""
    seen = tg.Tensor(np.zeros(2))

    def loss(output: Any, target: Any) -> Any:
        value = nn.mse_loss(output, target)
        seen[0] = value.detach()
        seen[1] += 1
        return value

    x = numbers(8, 2)
    batches = [(x, x[:, :1])]
    model = nn.Linear(2, 1, rng=0)
    history = tg.fit(model, loss, batches, epochs=5, progress=False, compile=True)
    assert type(seen.numpy()) is np.ndarray
    assert_array_equal(seen.data, [history["loss"][-1], 5])


# -- objects that the compiler looks at


def odd_objects() -> dict[str, Any]:
    """Objects that raise what they are asked, by name; made here, as pytest looks at a module's."""

    class Refusing:
        """An object that raises whatever it is asked."""

        def __getattribute__(self, name: str) -> Any:
            raise KeyError(name)

        def _refuse(self, *_args: Any) -> Any:
            raise RuntimeError

        __bool__ = __len__ = __iter__ = __eq__ = __hash__ = __repr__ = __call__ = _refuse  # type: ignore[assignment]

    class RefusingByProperties:
        """Its attributes are properties that raise, what Python asks of each object among them."""

        @property
        def rate(self) -> Any:
            raise RuntimeError

        __dict__ = __class__ = __wrapped__ = _array = rate  # type: ignore[assignment]

    class Nonsense:
        """An object whose answers are of no use."""

        __slots__ = ("__hidden", "rate")
        __module__ = 3  # type: ignore[assignment]

        def __eq__(self, other: object) -> Any:
            return np.ones(3)

        def __hash__(self) -> int:
            return 0

        def __len__(self) -> int:
            return -1

        def __getattr__(self, name: str) -> Any:
            return self

    class RefusingList(list[Any]):
        def __iter__(self) -> Any:
            raise RuntimeError

        __eq__ = __len__ = __iter__  # type: ignore[assignment]

    class RefusingDict(dict[Any, Any]):
        def keys(self) -> Any:
            raise RuntimeError

        __eq__ = __len__ = __iter__ = items = values = keys  # type: ignore[assignment]

    class RefusingMapping(Mapping[Any, Any]):
        def __iter__(self) -> Any:
            raise RuntimeError

        __len__ = __getitem__ = __iter__  # type: ignore[assignment]

    class RefusingIterator:
        def __next__(self) -> Any:
            raise RuntimeError

        __length_hint__ = __repr__ = __iter__ = __next__  # type: ignore[assignment]

    class RefusingNumber(int):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = int.__hash__

    class LazyModule(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise ImportError(name)

    class RefusingMeta(type):
        def __getattr__(cls, name: str) -> Any:
            raise KeyError(name)

    class OfRefusingClass(metaclass=RefusingMeta):
        pass

    return {
        "attributes": Refusing(),
        "properties": RefusingByProperties(),
        "nonsense": Nonsense(),
        "list": RefusingList([1]),
        "dict": RefusingDict(a=1),
        "mapping": RefusingMapping(),
        "iterator": RefusingIterator(),
        "number": RefusingNumber(2),
        "lazy module": LazyModule("lazy"),
        "of an odd class": OfRefusingClass(),
        "odd class": OfRefusingClass,
    }


@pytest.mark.parametrize("name", odd_objects())
def test_objects_may_raise_whatever_they_are_asked(name: str) -> None:
    odd = odd_objects()[name]

    class Holder:
        rate = 1.0

    holder: Any = Holder()
    holder.part, holder.rate = odd, 2.0

    def f(x: Any, default: Any = odd, *, option: Any = odd) -> Any:
        parts = [odd, holder.part, default, option]
        return x * holder.rate * len(parts)

    compiled = tg.compile(f)
    for rate in 2.0, 2.0, 3.0, 3.0:
        holder.rate = rate
        assert_array_equal(compiled(np.ones(2)), [4 * rate] * 2)

    def stops(x: Any) -> Any:
        holder.part = [odd, x]
        raise InterruptedError

    with pytest.raises(InterruptedError):
        tg.compile(stops)(np.ones(2))
    assert holder.part is odd


@pytest.mark.parametrize("name", ["attributes", "properties", "nonsense"])
def test_odd_objects_as_arguments_and_results(name: str) -> None:
    odd = odd_objects()[name]
    for static in (), 1:
        compiled = tg.compile(lambda x, thing: (thing, x * 2), static_argnums=static)
        for _ in range(3):
            thing, doubled = compiled(np.ones(2), odd)
            assert thing is odd
            assert_array_equal(doubled, [2.0, 2.0])
        assert plans(compiled) == 1
