"""Compiled functions of arrays that lie in memory in any way: what eager mode computes, no less.

A reshape is a view of an array that lies in one way and a copy of one that lies in another; writes
then reach other arrays. So the first call and the later ones get arguments that lie in ways of
their own, and programs write into what may be views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.lib.array_utils import byte_bounds
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal

import tensorgrad as tg
from tensorgrad.compiler.ir import constant, new_value, view
from tensorgrad.compiler.strides import copied, pattern

from .depth import one_in
from .layouts import LAYOUTS
from .oracles import assert_same, leaf
from .test_compile_training import NETS, plans, twins

# -- strides


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (3, 1), (2, 3, 4), (2, 1, 3), (0, 2)])
def test_a_copy_is_viewed_as_the_array_is(name: str, shape: tuple[int, ...]) -> None:
    array = LAYOUTS[name](np.random.default_rng(0).normal(size=shape))
    copy = copied(array)
    assert not np.shares_memory(copy, array)
    assert_array_equal(copy, array)
    assert pattern(copy) == pattern(array)
    for function in (
        lambda a: a.reshape(-1),
        lambda a: np.reshape(a, -1, order="F"),
        lambda a: np.ravel(a, order="K"),
        lambda a: np.swapaxes(a[None], 0, -1).reshape(a.size),
    ):
        assert_array_equal(function(copy), function(array))
        assert np.shares_memory(function(copy), copy) == np.shares_memory(function(array), array)
    assert pattern(copy * 1) == pattern(array * 1)
    assert pattern(np.copy(copy)) == pattern(np.copy(array))
    assert copy.flags.forc == array.flags.forc


def test_a_copy_takes_no_more_memory_than_it_needs() -> None:
    array = np.zeros((1000, 100, 30))[:, 5, ::10]
    copy = copied(array)
    assert copy.base.nbytes < 3 * copy.nbytes
    windows = sliding_window_view(np.arange(6.0), 3)
    assert_array_equal(copied(windows), windows)


# -- values: what is known of arrays without their elements


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (3, 1), (2, 3, 4), (2, 1, 3), (0, 2)])
def test_a_value_lies_as_the_array_does(name: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(LAYOUTS[name](np.random.default_rng(0).normal(size=shape)))
    value, flags = constant(array), array.flags
    assert (value.shape, value.dtype, value.strides) == (array.shape, array.dtype, array.strides)
    assert [value.is_c_contiguous, value.is_f_contiguous, value.is_contiguous, value.order] == [
        flags.c_contiguous, flags.f_contiguous, flags.forc, "F" if flags.fnc else "C",
    ]  # fmt: skip
    assert value.nbytes == array.nbytes
    views: list[Any] = [
        lambda a: a[..., None], lambda a: a.T, lambda a: a[::-1] if a.ndim else a[...],
        lambda a: np.broadcast_to(a, (2, *a.shape)),
    ]  # fmt: skip
    for function in views:
        found, expected = view(function, value), function(array)
        assert_array_equal(found.array, expected)
        if array.size:
            assert np.shares_memory(found.array, array)
            low, high = byte_bounds(expected)
            assert np.subtract(found.bounds, value.offset).tolist() == [
                low - array.ctypes.data,
                high - array.ctypes.data,
            ]


def test_a_value_fills_its_storage_or_does_not() -> None:
    whole = np.arange(24.0).reshape(2, 3, 4)
    for array in whole, whole.T, whole.transpose(1, 2, 0), whole.reshape(6, 1, 4):
        assert constant(array).is_whole
    for array in whole[1:], whole[:, ::2], whole[::-1], np.broadcast_to(whole[0, 0, 0], (24,)):
        assert not constant(array).is_whole


def test_nothing_of_a_program_can_be_changed() -> None:
    program = tg.compile(np.sin).lower(np.ones(3)).stages[0].program
    (value,) = program.outputs
    (call,) = program.calls
    for thing, name in (
        (value, "shape"),
        (value.storage, "home"),
        (call, "args"),
        (program, "calls"),
    ):
        with pytest.raises(AttributeError):
            setattr(thing, name, ())


def test_a_function_that_copies_makes_no_view() -> None:
    value = constant(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"copy makes a copy, not a view, of shape \(2, 3\)"):
        view(np.copy, value)
    with pytest.raises(ValueError, match="has no elements: it is temporary"):
        new_value((2,), np.dtype(float)).array  # noqa: B018


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((3, 2), (64, 16), 0), ((3,), (-16,), 40), ((2, 3), (8, 16), 0)],
)
def test_arrays_in_memory_of_other_objects(shape: Any, strides: Any, offset: int) -> None:
    memory = bytearray(np.arange(24.0).tobytes())
    array: Any = np.ndarray(shape, float, memory, offset, strides)
    compiled = tg.compile(lambda x: x + array + array[::-1])
    for _ in range(3):
        assert_array_equal(compiled(np.ones(array.shape)), 1 + array + array[::-1])


def test_views_by_arrays_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORGRAD_VERIFY", "1")
    order = np.array([2, 0, 1])
    x = np.arange(12.0).reshape(2, 3, 2)
    for function in (
        lambda x: np.transpose(np.copy(x * 1), order),  # the copy is left out: a view of x * 1
        lambda x: np.transpose(np.zeros_like(x), order) + np.transpose(x, order),
        lambda x: np.imag((x[:0] + 1j).T) * 2,
    ):
        compiled = tg.compile(function)
        for _ in range(3):
            assert_array_equal(compiled(x), function(x))


def test_views_of_several_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORGRAD_VERIFY", "1")

    def f(x: Any, y: Any) -> Any:
        a, b = np.broadcast_arrays(np.exp(np.sin(x)), np.exp(np.cos(y)))
        return a * 2 + b

    compiled = tg.compile(f)
    for _ in range(3):
        x, y = np.linspace(-1.0, 1.0, 6).reshape(2, 3), np.ones((1, 3))
        assert_same(compiled(x, y), f(x, y))


# -- networks


@pytest.mark.parametrize("net", one_in(2, NETS))
def test_training(net: str) -> None:
    """Steps whose batches lie as the ones before, and then in other ways."""
    eager, compiled = twins(NETS[net])
    step = tg.compile(compiled.step)
    ways = ["by columns", "by columns", "reversed", "with gaps"]
    for i, way in enumerate(ways):
        x, t = eager.batch(i)
        expected = eager.step(LAYOUTS[way](x), LAYOUTS[ways[i - 1]](t))
        assert_same(step(LAYOUTS[way](x), LAYOUTS[ways[i - 1]](t)), expected)
        assert_same(compiled.everything(), eager.everything())


# -- random programs


class Step(NamedTuple):
    """A call of the function of that name on earlier values, by their numbers from the end."""

    name: str
    first: int
    second: int


def halves(x: Any) -> Any:
    return x.reshape(2, -1) if x.size % 2 == 0 else x.reshape(-1, 1)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "T": lambda x: x.T,
    "ravel": np.ravel,
    "reshape": lambda x: x.reshape(-1),
    "halves": halves,
    "by columns": lambda x: np.reshape(x, -1, order="F"),
    "in memory's order": lambda x: np.ravel(x, order="K"),
    "in this order": lambda x: np.ravel(x, order="A"),
    "flip": np.flip,
    "every second": lambda x: x[::2] if x.ndim else x,
    "last column": lambda x: x[..., -1] if x.ndim else x,
    "swapaxes": lambda x: np.swapaxes(x, 0, -1) if x.ndim else x,
    "broadcast": lambda x: np.broadcast_to(x, (2, *x.shape)),
    "diagonal": lambda x: np.diagonal(x) if x.ndim > 1 else x,
    "unstack": lambda x: np.unstack(x)[-1] if x.ndim else x,
    "split": lambda x: np.array_split(x, 2)[0] if x.ndim else x,
    "squeeze": np.squeeze,
    "expand_dims": lambda x: np.expand_dims(x, 1) if x.ndim else x,
    "astype": lambda x: x.astype(float, copy=False),
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": np.copy,
    ".copy": lambda x: x.copy(),
    "times 1": lambda x: x * 1,
    "astype, copied": lambda x: x.astype(float),
    "flatten": lambda x: x.flatten(),
    "sort": lambda x: np.sort(x, axis=None),
    "take": lambda x: np.take(x, [0, -1]),
    "rows": lambda x: x[np.array([0, -1])] if x.ndim else x * 1,
    "columns": lambda x: x[:, [0, -1]] if x.ndim > 1 else x * 1,
    "median": lambda x: np.median(x, 0) if x.ndim else x * 1,
    "percentile": lambda x: np.percentile(x, 30.0),
    "sin": np.sin,
    "half": lambda x: 0.5 * x,
    "sum": lambda x: np.sum(x, 0) if x.ndim else x * 1,
    "cumsum": lambda x: np.cumsum(x, -1) / 2 if x.ndim else x * 1,
    "zeros_like": lambda x: np.zeros_like(x) + 0.5,
}
OF_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "multiply": lambda x, y: x * y / 2,
    "where": lambda x, y: np.where(x > 0, x, y),
    "maximum": np.maximum,
}


def scale(x: Any, _y: Any) -> None:
    x *= 0.5


def shift(x: Any, y: Any) -> None:
    x += y


def fill(x: Any, y: Any) -> None:
    if x.ndim:
        x[...] = y


def write_row(x: Any, _y: Any) -> None:
    if x.ndim:
        x[0] = x[-1] * 2


def write_element(x: Any, _y: Any) -> None:
    if x.ndim:
        x[(0,) * x.ndim] = 1.5


WRITES = {"scale": scale, "shift": shift, "fill": fill, "row": write_row, "element": write_element}


def programs(names: Sequence[str]) -> st.SearchStrategy[list[Step]]:
    numbers = st.integers(1, 4)
    steps = st.builds(Step, st.sampled_from(names), numbers, numbers)
    return st.lists(steps, min_size=2, max_size=10)


def run(program: Sequence[Step], x: Any) -> Any:
    """The values that a program computes from one array, without those that grow too large.

    What may be a view of the argument is not written to, nor what NumPy makes read-only.
    """
    values, kept = [x], [True]
    for name, first, second in program:
        i, j = max(0, len(values) - first), max(0, len(values) - second)
        a, b = values[i], values[j] if values[j].shape == values[i].shape else values[i]
        if name in WRITES:
            if not kept[i]:
                WRITES[name](a, b)
            continue
        if name in OF_TWO:
            y = OF_TWO[name](a, b)
        else:
            y = (VIEWS | COPIES)[name](a)
        if y.size <= 48:
            values.append(y)
            kept.append(name in VIEWS and (kept[i] or name in ("broadcast", "diagonal")))
    return values


def total(program: Sequence[Step]) -> Callable[[Any], Any]:
    return lambda x: sum(np.sum(np.sin(y + k)) for k, y in enumerate(run(program, x), 1))


READING = [*VIEWS, *COPIES, *OF_TWO]
ways = st.lists(st.sampled_from([*LAYOUTS]), min_size=2, max_size=2)
lengths = st.sampled_from([(2, 3), (4, 2), (3, 2, 2), (6,), (1, 4)])


def assert_agrees(f: Callable[[Any], Any], shape: Any, ways: Sequence[str]) -> None:
    """For a first call and later ones in two ways, with other numbers each time."""
    compiled, rng = tg.compile(f), np.random.default_rng(0)
    first, second = ways
    for name in first, second, second, first:
        x = LAYOUTS[name](rng.normal(size=shape))
        before = x.copy()
        assert_same(compiled(x), f(x), roundings=1 << 10, least=1.0)
        assert_array_equal(x, before)


@given(programs([*READING, *WRITES]), lengths, ways)
def test_programs_of_plain_arrays(program: list[Step], shape: Any, ways: list[str]) -> None:
    assert_agrees(lambda x: run(program, x)[1:], shape, ways)


@given(programs([*READING, *WRITES]), lengths, ways)
def test_programs_of_tensors(program: list[Step], shape: Any, ways: list[str]) -> None:
    assert_agrees(lambda x: run(program, tg.asarray(x))[1:], shape, ways)


DIFFERENTIABLE = [name for name in READING if "order" not in name]  # of broadcast arrays


@given(programs([*DIFFERENTIABLE, *WRITES]), lengths, ways)
def test_gradients_of_programs(program: list[Step], shape: Any, ways: list[str]) -> None:
    assert_agrees(tg.value_and_grad(total(program)), shape, ways)


@given(programs(DIFFERENTIABLE), lengths, ways)
def test_hessians_of_programs(program: list[Step], shape: Any, ways: list[str]) -> None:
    f = total(program)
    assert_agrees(lambda x: tg.hvp(f, (x,), (np.cos(x),)), shape, ways)


# -- what else may lie in another way


@pytest.mark.parametrize("name", LAYOUTS)
def test_numbers_have_no_views(name: str) -> None:
    """A sum of plain arrays is a number of NumPy's: its copies show no writes, nor it theirs."""

    def f(x: Any) -> Any:
        number = np.sum(x)
        same, row = number, np.reshape(number, 1)
        again = np.squeeze(number).reshape(1)
        row += 1
        again *= 2
        number += 5
        return number, same, row, again

    assert_agrees(f, (2, 3), [name, name])


def test_gradients_from_before_the_call() -> None:
    """They are arguments, too, and lie as whoever made them laid them."""
    w = leaf(np.zeros((2, 3)))

    def f() -> Any:
        doubled = w.grad * 2
        flat = doubled.reshape(-1)
        doubled += 1
        return flat

    compiled, rng = tg.compile(f), np.random.default_rng(0)
    for name in ["by rows", "by columns", "by columns", "reversed", "by rows"]:
        w._node.grad = LAYOUTS[name](rng.normal(size=(2, 3)))
        assert_array_equal(compiled(), f())


def assign(t: tg.Tensor, x: Any) -> None:
    t.data = x


def write_all(t: tg.Tensor, x: Any) -> None:
    t[...] = x


def multiply(t: tg.Tensor, _x: Any) -> None:
    t *= 0.5


def assign_another_kind(t: tg.Tensor, x: Any) -> None:
    t.data = x[:, :2].astype(np.float32)


@pytest.mark.parametrize("change", [assign, assign_another_kind, write_all, multiply])
@pytest.mark.parametrize("first", ["by rows", "by columns"])
@pytest.mark.parametrize("second", one_in(2, [name for name in LAYOUTS if name != "constant"]))
def test_tensors_from_outside(change: Any, first: str, second: str) -> None:
    """They lie as what they are given; what was seen of them, or shares their memory, stays."""
    worlds = []
    for _ in range(2):
        t = tg.asarray(LAYOUTS[first](np.arange(6.0).reshape(2, 3)))
        worlds.append((t, t.detach()))

    def f(t: tg.Tensor, shared: tg.Tensor, x: Any) -> Any:
        before, flat = t.T, t.reshape(-1)
        change(t, x)
        return before, flat, t * 2, np.ravel(t, order="K"), shared * 1

    mine, twins = worlds
    compiled = tg.compile(lambda x: f(*mine, x))
    for call in range(4):
        x = LAYOUTS[second](np.random.default_rng(call).normal(size=(2, 3)))
        assert_same(compiled(x), f(*twins, x))
        for actual, expected in zip(mine, twins, strict=True):
            assert_array_equal(actual.data, expected.data)
            assert pattern(actual.data) == pattern(expected.data)


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", ["by rows", "by columns"])
def test_results_lie_as_in_eager_mode(first: str, second: str) -> None:
    def f(x: Any) -> Any:
        return x * 2, np.sin(x).T, np.swapaxes(x, 0, 1).copy(), x

    compiled, x = tg.compile(f), np.arange(24.0).reshape(2, 3, 4)
    for name in first, second, second:
        given = LAYOUTS[name](x)
        for actual, expected in zip(compiled(given), f(given), strict=True):
            assert pattern(actual) == pattern(np.copy(expected))


def test_a_layout_is_traced_once_and_only_where_it_counts() -> None:
    x = np.arange(6.0).reshape(2, 3)
    careless = tg.compile(lambda x: np.sum(np.tanh(x), axis=0) * 2)
    careful = tg.compile(lambda x: np.tanh(x).reshape(-1))
    for _ in range(2):
        for name in LAYOUTS:
            careless(LAYOUTS[name](x))
            careful(LAYOUTS[name](x))
    assert plans(careless) == 1
    assert plans(careful) == len({pattern(layout(x)) for layout in LAYOUTS.values()})
    wide = np.zeros((2, 10))
    for columns in range(2, 8):  # another stride, but the same order and a gap
        careful(wide[:, :3] if columns == 2 else np.zeros((2, columns + 2))[:, :3])
    assert plans(careful) == len({pattern(layout(x)) for layout in LAYOUTS.values()}) + 1


def test_an_operation_may_return_its_argument() -> None:
    """Where elements decide that, later calls return something else."""

    @tg.differentiable(lambda g, _y, x: g * np.sign(x))
    def magnitude(x: Any) -> Any:
        return x if np.all(x >= 0) else np.abs(x)

    compiled = tg.compile(lambda x: magnitude(x * 1))
    for x in np.ones(3), -np.ones(3), np.array([-1.0, 2.0, 3.0]):
        assert_array_equal(compiled(x), np.abs(x))


def test_results_of_broadcast_arrays_are_read_without_a_warning() -> None:
    def widened() -> Any:
        return np.broadcast_arrays(np.arange(3.0), np.ones((2, 3)))[0]

    outside = widened()

    def f(x: Any) -> Any:
        zeros, ones = np.broadcast_arrays(np.zeros_like(x[0]), np.ones((2, 3)))
        return np.sum((x * widened() + zeros) * outside * ones)

    assert_array_equal(tg.compile(tg.grad(f))(widened()), widened() ** 2)
