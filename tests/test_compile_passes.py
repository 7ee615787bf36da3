"""Each pass alone: programs before and after, written as the printer writes them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tensorgrad as tg
from tensorgrad.compiler import costs
from tensorgrad.compiler.costs import Bias, Product, Work
from tensorgrad.compiler.functions import assign_at, attribute, getitem
from tensorgrad.compiler.interpreter import interpret
from tensorgrad.compiler.ir import Call, Program, Storage, Value, mapped
from tensorgrad.compiler.passes import (
    PASSES,
    assign_layouts,
    eliminate_common_subexpressions,
    eliminate_dead_code,
    fold_biases,
    fold_constants,
    fuse_horizontally,
    fuse_loops,
    hoist_decisions,
    loop_fusion,
    materialize_broadcasts,
    merge_scalings,
    sum_by_products,
)
from tensorgrad.compiler.printing import text_of
from tensorgrad.compiler.verifier import verify
from tensorgrad.engine.registry import name_of

from .test_programs import SMOOTH, Step, programs, run

pytestmark = pytest.mark.numpy_program

X = np.arange(6.0).reshape(2, 3)


class Builder:
    """Writes programs down: `b(np.sin, x)` is the value that a call makes."""

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.calls: list[Call] = []
        self.arrays: dict[Value, Any] = {}  # what the values are for the inputs of now
        self.errors: dict[str, str] | None = None  # the settings of the calls to come

    def value(self, array: Any, home: Any) -> Value:
        array = np.array(array, float)  # in the order that it has
        value = self.named(array, Storage.of(array, home))
        if home == "input":
            self.inputs.append(value)
        return value

    def named(self, array: Any, storage: Storage) -> Value:
        value = Value.of(array, storage)
        self.arrays[value] = array
        return value

    def view(self, array: Any, of: Value) -> Value:
        """A value in the memory of another one, which no call makes."""
        return self.named(array, of.storage)

    def __call__(self, fun: Any, *args: Any, kind: Any = "pure", **kwargs: Any) -> Value:
        plain, options = mapped((args, kwargs), Value, self.arrays.__getitem__)
        array = np.asarray(fun(*plain, **options))
        storage = args[0].storage if kind == "view" else Storage.of(array, "temporary")
        value = self.named(array, storage)
        self.calls.append(Call(kind, fun, args, kwargs, results=[value], errors=self.errors))
        return value

    def write(self, target: Value, value: Value) -> None:
        self.calls.append(Call("write", assign_at, (target, ..., value), target=target))

    def decide(self, value: Value) -> None:
        self.calls.append(Call("guard", bool, (value, bool(self.arrays[value]))))

    def program(self, *outputs: Value) -> Program:
        return Program(self.inputs, self.calls, outputs)


def calls_of(program: Program) -> list[str]:
    """The calls of a program, as they are printed, without the shapes."""
    lines = [line for line in text_of(program).split("\n") if "(" in line or " = " in line]
    return [re.sub(r"(v\d+): \[.*?\]", r"\1", line) for line in lines]


CASES: dict[str, tuple[Callable[[Program], Program], Any, list[str]]] = {}


def case(transform: Callable[[Program], Program], after: str) -> Any:
    """A function that writes a program down and returns its outputs; and its calls afterwards."""

    def add(build: Any) -> Any:
        CASES[build.__name__] = transform, build, [line.strip() for line in after.split("\n")]
        return build

    return add


@case(fold_constants, "v0 = add(a0, c0)")
def constants_of_constants_are_constants(b: Builder, x: Value) -> Any:
    return b(np.add, x, b(np.sin, b.value([1.0, 2.0, 3.0], "constant")))


@case(fold_constants, "v0 = sin(a0)")
def nothing_else_is_constant(b: Builder, x: Value) -> Any:
    return b(np.sin, x)


@case(eliminate_common_subexpressions, "v0 = sin(a0)\nv1 = add(v0, v0)")
def a_call_is_made_once(b: Builder, x: Value) -> Any:
    return b(np.add, b(np.sin, x), b(np.sin, x))


@case(eliminate_common_subexpressions, "v0 = sin(a0)\nv1 = sin(a0)\nv2 = add(v0, v1)")
def a_call_in_two_error_settings_is_made_twice(b: Builder, x: Value) -> Any:
    first = b(np.sin, x)
    b.errors = {"over": "raise"}
    return b(np.add, first, b(np.sin, x))


@case(eliminate_common_subexpressions, "v0 = sin(a0)\nv1 = add(v0, a0)")
def copies_and_products_with_one_are_the_value(b: Builder, x: Value) -> Any:
    one = b.value(1.0, "constant")
    return b(np.add, b(np.copy, b(np.multiply, b(np.sin, x), one)), x)


@case(
    eliminate_common_subexpressions,
    "v0 = sin(a0)\nv1 by columns = v0.mT\nv2 by columns = add(v1, v1)",
)
def views_of_the_same_are_the_same(b: Builder, x: Value) -> Any:
    views = [b(attribute("mT"), b(np.sin, x), kind="view") for _ in range(2)]
    return b(np.add, *views)


@case(
    eliminate_common_subexpressions,
    "v0 = sin(s0)\ns0[...] = v0\nv1 = sin(s0)\nv2 = add(v0, v1)",
)
def what_is_written_to_is_read_again(b: Builder, _x: Value) -> Any:
    state = b.value(X, "state")
    first = b(np.sin, state)
    b.write(state, first)
    return b(np.add, first, b(np.sin, state))


@case(eliminate_dead_code, "v0 = sin(a0)")
def what_nobody_uses_is_left_out(b: Builder, x: Value) -> Any:
    y = b(np.sin, x)
    b(np.exp, b(np.cos, x))
    return y


@case(eliminate_dead_code, "v0 = cos(a0)\ns0[...] = v0\nv1 = sin(a0)")
def what_changes_the_state_is_not(b: Builder, x: Value) -> Any:
    b.write(b.value(X, "state"), b(np.cos, x))
    return b(np.sin, x)


@case(
    hoist_decisions,
    """v0 = sin(a0)
    v1 = max(v0)
    require bool(v1) is True
    s0[...] = a0
    v2 = cos(a0)""",
)
def decisions_come_first(b: Builder, x: Value) -> Any:
    b.write(b.value(X, "state"), x)
    y = b(np.cos, x)
    b.decide(b(np.max, b(np.sin, x)))
    return y


@case(
    hoist_decisions,
    """v0 = sin(a0)
    v1 = add(v0, 1)
    v2 = cos(a0)
    v0[...] = v2
    v3 = max(v0)
    require bool(v3) is True
    s0[...] = a0""",
)
def who_reads_before_a_write_goes_before_it(b: Builder, x: Value) -> Any:
    b.write(b.value(X, "state"), x)
    y = b(np.sin, x)
    before = b(np.add, y, 1)
    b.write(y, b(np.cos, x))
    b.decide(b(np.max, y))
    return before


@case(merge_scalings, "v0 = multiply(a0, 2.0)\nv1 = multiply(a0, 6.0)\nv2 = multiply(a0, 24.0)")
def several_scalings_are_one(b: Builder, x: Value) -> Any:
    return b(np.multiply, 4.0, b(np.multiply, b(np.multiply, x, 2.0), 3.0))


@case(merge_scalings, "v0 = multiply(a0, 2.0)\nv1 = multiply(v0, 3.0)\nv2 = add(v0, v1)")
def a_scaling_that_is_used_elsewhere_is_made_once(b: Builder, x: Value) -> Any:
    y = b(np.multiply, x, 2.0)
    return b(np.add, y, b(np.multiply, y, 3.0))


@case(merge_scalings, "v0 = multiply(a0, 1e+200)\nv1 = multiply(v0, 1e-200)")
def scalings_that_overflow_are_not_merged(b: Builder, x: Value) -> Any:
    return b(np.multiply, b(np.multiply, x, 1e200), 1e-200)


@case(merge_scalings, "v0 = multiply(a0, 2.0)\nv1 = multiply(v0, 3.0)")
def scalings_in_two_error_settings_are_not_merged(b: Builder, x: Value) -> Any:
    y = b(np.multiply, x, 2.0)
    b.errors = {"over": "raise"}
    return b(np.multiply, y, 3.0)


@case(
    sum_by_products, "v0 = square(a0)\nv1 = reshape(a0, -1)\nv2 = reshape(a0, -1)\nv3 = dot(v1, v2)"
)
def a_sum_of_squares_is_a_product(b: Builder, x: Value) -> Any:
    return b(np.add.reduce, b(np.multiply, x, x), axis=None)


@case(sum_by_products, "v0 = add.reduce(a0, axis=None)")
def a_long_sum_is_numpys_which_rounds_less(b: Builder, _x: Value) -> Any:
    return b(np.add.reduce, b.value(np.zeros((1 << 16) + 1), "input"), axis=None)


@case(materialize_broadcasts, "v0 = spread(a0, (2, 3))\nv1 = add(a1, v0)")
def a_row_is_spread_out(b: Builder, x: Value) -> Any:
    return b(np.add, x, b.value([1.0, 2.0, 3.0], "input"))


@case(fuse_loops, "v0 = chain(a0)\nv1 = add.reduce(v0)")
def element_wise_calls_are_one_loop(b: Builder, x: Value) -> Any:
    return b(np.add.reduce, b(np.exp, b(np.sin, x)))


@case(fuse_loops, "v0 = sin(a0)\nv1 = exp(v0)")
def calls_in_two_error_settings_are_two_loops(b: Builder, x: Value) -> Any:
    y = b(np.sin, x)
    b.errors = {"over": "raise"}
    return b(np.exp, y)


@case(fuse_loops, "v0 = chain(a0, a1)")
def rows_may_have_an_array_in_common(b: Builder, x: Value) -> Any:
    return b(np.exp, b(np.add, x, b.value([1.0, 2.0, 3.0], "input")))


@case(fuse_loops, "v0 = add(a0, a1)\nv1 = exp(v0)")
def an_array_with_a_number_for_each_row_is_not_in_common(b: Builder, x: Value) -> Any:
    return b(np.exp, b(np.add, x, b.value([[1.0], [2.0]], "input")))


@case(fuse_loops, "v0 by columns = add(a0, a1)\nv1 by columns = exp(v0)")
def a_loop_by_columns_has_no_rows(b: Builder, _x: Value) -> Any:
    by_columns = b.value(np.asfortranarray(X), "input")
    return b(np.exp, b(np.add, by_columns, b.value([1.0, 2.0, 3.0], "input")))


@case(
    fuse_horizontally,
    """v0 = sin(a0)
    v1 = cos(a0)
    v3 = exp(v2)
    v4 = part(v3, 0, (2, 3), 'C')
    v5 = part(v3, 6, (2, 3), 'C')
    v6 = add(v4, v5)""",
)
def the_same_call_on_two_arrays_is_one(b: Builder, x: Value) -> Any:
    first, second = b(np.sin, x), b(np.cos, x)
    return b(np.add, b(np.exp, first), b(np.exp, second))


@case(
    fuse_horizontally,
    "v0 = sin(a0)\nv1 = cos(a0)\nv2 = exp(v0)\nv3 = exp(v1)\nv4 = add(v2, v3)",
)
def calls_in_two_error_settings_are_not_one(b: Builder, x: Value) -> Any:
    first, second = b(np.sin, x), b(np.cos, x)
    left = b(np.exp, first)
    b.errors = {"over": "raise"}
    right = b(np.exp, second)
    b.errors = None
    return b(np.add, left, right)


@case(
    fuse_horizontally,
    """v0 = sin(a0)
    v1 = cos(a0)
    v2 = exp(v0)
    v0[...] = a0
    v3 = exp(v1)
    v4 = add(v2, v3)""",
)
def an_array_that_is_written_to_stays_where_it_is(b: Builder, x: Value) -> Any:
    first, second = b(np.sin, x), b(np.cos, x)
    left = b(np.exp, first)
    b.write(first, x)
    return b(np.add, left, b(np.exp, second))


def layer(b: Builder, x: Value, nout: int) -> Value:
    """A layer whose bias lies just after its weights."""
    nin = x.shape[1]
    flat = b.value(np.arange((nin + 1.0) * nout), "state")
    w = b.view(flat.array[: nin * nout].reshape(nin, nout), flat)
    bias = b.view(flat.array[nin * nout :], flat)
    return b(np.add, b(np.matmul, x, w), bias)


@case(
    assign_layouts,
    """v0 by columns = matmul(a0, s0)
    v1 by columns = add(v0, s1)
    v2 by columns = tanh(v1)
    v3 = matmul(v2, s2)
    v4 = add(v3, s3)""",
)
def inputs_of_layers_and_what_they_are_made_of_lie_by_columns(b: Builder, x: Value) -> Any:
    return layer(b, b(np.tanh, layer(b, x, 4)), 2)


@case(
    assign_layouts,
    """v0 = sin(a0)
    v1 = matmul(v0, s0)
    v2 = add(v1, s1)
    v3 = v0[0:1]
    v4 = add(v2, v3)""",
)
def what_other_calls_use_stays_as_it_is(b: Builder, x: Value) -> Any:
    y = b(np.sin, x)
    return b(np.add, layer(b, y, 3), b(getitem, y, slice(0, 1), kind="view"))


def by_costs(columns: float) -> Callable[[Program], Program]:
    """Layout assignment, if products with arrays by columns take so many seconds, all else 1."""

    def costs(works: Iterable[Work]) -> dict[Work, float]:
        return {w: columns if isinstance(w, Product) and "F" in w.orders else 1.0 for w in works}

    return lambda program: assign_layouts(program, costs)


def larger_layers(b: Builder) -> Value:
    """Two layers, of which the second one is large enough to be measured."""
    return layer(b, b(np.tanh, layer(b, b.value(np.ones((64, 3)), "input"), 32)), 16)


BY_COLUMNS = """v0 by columns = matmul(a0, s0)
    v1 by columns = add(v0, s1)
    v2 by columns = tanh(v1)
    v3 = matmul(v2, s2)
    v4 = add(v3, s3)"""


@case(by_costs(columns=3.0), BY_COLUMNS.replace(" by columns", ""))
def products_that_take_longer_by_columns(b: Builder, _x: Value) -> Any:
    return larger_layers(b)


@case(by_costs(columns=1.7), BY_COLUMNS)
def a_gain_of_less_than_a_tenth_does_not_count(b: Builder, _x: Value) -> Any:
    return larger_layers(b)


@case(assign_layouts, "v0 = sin(a0)\nv1 = matmul(v0, v0)\nv2 = add(v1, s0)")
def a_product_of_no_weights_is_no_layer(b: Builder, _x: Value) -> Any:
    y = b(np.sin, b.value(np.ones((3, 3)), "input"))
    return b(np.add, b(np.matmul, y, y), b.value([1.0, 2.0, 3.0], "state"))


@case(
    fold_biases,
    """v0 = copy(a0)
    v1 = with_ones(v0)
    v2 = matmul(v1, s0)
    v3 = tanh(v2)""",
)
def a_bias_is_a_row_of_the_weights(b: Builder, x: Value) -> Any:
    return b(np.tanh, layer(b, x, 4))


@case(
    fold_biases,
    """v0 by columns = tanh(s0)
    v1 by columns = with_ones(v0)
    v2 = matmul(v1, s1)""",
)
def an_input_by_columns_gets_ones_behind_it(b: Builder, _x: Value) -> Any:
    return layer(b, b(np.tanh, b.value(np.asfortranarray(X), "state")), 4)


@case(fold_biases, "v0 = tanh(a0)\nv1 = matmul(v0, s0)\nv2 = add(v1, s1)")
def an_input_by_rows_gets_none(b: Builder, x: Value) -> Any:
    return layer(b, b(np.tanh, x), 4)


@case(
    fold_biases,
    """v0 = copy(a0)
    v1 = with_ones(v0)
    v2 = matmul(v1, s0)
    v3 = cos(v2)
    v4 by columns = v3.mT
    v5 by columns = v1.mT
    v6 = matmul(v5, v3)
    v7 = v6[:-1]
    v8 by columns = v7.mT
    v9 = v6[-1]
    s1[...] = v6""",
)
def one_product_makes_both_gradients(b: Builder, x: Value) -> Any:
    g = b(np.cos, layer(b, x, 4))
    gradients = b.value(np.zeros(16), "state")
    by_columns = b.view(gradients.array[:12].reshape(3, 4).T, gradients)
    by_weights = b(np.matmul, b(attribute("mT"), g, kind="view"), x)
    by_bias = b(np.add.reduce, g, axis=0)
    b.write(by_columns, by_weights)
    b.write(b.view(gradients.array[12:], gradients), by_bias)
    return g


@pytest.mark.parametrize("name", CASES)
def test_before_and_after(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_fusion, "LARGE", 6)
    transform, build, expected = CASES[name]
    builder = Builder()
    program = builder.program(build(builder, builder.value(X, "input")))
    before = text_of(program)
    after = transform(program)
    assert calls_of(after) == expected
    assert text_of(program) == before
    verify(after, program)


def test_a_decision_that_depends_on_what_has_changed_is_refused() -> None:
    b = Builder()
    state = b.value(X, "state")
    b.write(state, b(np.sin, b.value(X, "input")))
    b.decide(b(np.max, state))
    with pytest.raises(tg.TraceError, match="change it later"):
        hoist_decisions(b.program())


def test_what_is_measured_is_remarked() -> None:
    b = Builder()
    program = by_costs(columns=3.0)(b.program(larger_layers(b)))
    (remark,) = program.remarks
    assert remark.endswith(
        "float64[64, 32] lies by rows, as its products take 7000000.0 us by columns, "
        "4000000.0 by rows"
    )
    assert fold_biases(program).remarks == program.remarks


def test_small_products_are_not_measured() -> None:
    b = Builder()
    program = b.program(layer(b, b(np.tanh, layer(b, b.value(X, "input"), 4)), 2))
    assert by_costs(columns=3.0)(program).remarks == ()


def test_measured_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    works: list[Work] = [
        Product(4, 3, 2, orders, np.dtype(dtype))
        for orders in itertools.product("CF", repeat=3)
        for dtype in "fd"
    ]
    works.append(Bias(4, 2, np.dtype("f")))
    assert costs.seconds(works) == {}  # as the tests run with TENSORGRAD_TUNE=0
    monkeypatch.setenv("TENSORGRAD_TUNE", "1")
    monkeypatch.setattr(costs, "_measured", {})
    found = costs.seconds(works)
    assert [*found] == works
    assert min(found.values()) > 0
    assert costs.seconds(works[:3]) == {w: found[w] for w in works[:3]}  # not measured again


def test_a_plan_tells_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tg.MLP(3, [32, 16], rng=0)
    x = np.ones((64, 3))
    tg.optim.SGD(net.parameters(), lr=0.1)
    function = tg.compile(lambda x: net(x).data)
    assert "by columns, " not in str(function.lower(x))
    monkeypatch.setenv("TENSORGRAD_TUNE", "1")
    assert re.search(
        r"py:\d+: float64\[64, 32\] lies by (rows|columns), as its products take [\d.]+ us by "
        r"columns, [\d.]+ by rows$",
        str(function.lower(x)),
    )
    np.testing.assert_allclose(function(x), net(x).data, 1e-12)


# -- all of them


def assert_passes_keep_results(function: Any, *args: Any) -> None:
    """Each pass: the interpreter's results, what it is given, and that the program is sound."""
    stages = tg.compile(function).lower(*args).stages
    assert [stage.name for stage in stages] == ["trace", *map(name_of, PASSES)]
    program = stages[0].program
    with np.errstate(all="ignore"):
        outputs, state = interpret(program, args)
        for transform in PASSES:
            before = text_of(program)
            after = transform(program)
            assert text_of(program) == before
            verify(after, program)
            found, left = interpret(after, args)
            assert left.keys() == state.keys()
            pairs = [*zip(found, outputs, strict=True), *((left[s], state[s]) for s in state)]
            for a, b in pairs:
                np.testing.assert_allclose(a, b, 1e-9, 1e-12, err_msg=name_of(transform))
            program = after


@given(programs(SMOOTH, 3), st.integers(0, 100))
def test_random_programs(program: list[Step], seed: int) -> None:
    def value_and_gradients(*xs: Any) -> Any:
        return tg.value_and_grad(lambda *xs: np.sum(np.tanh(run(program, xs))), (0, 1, 2))(*xs)

    assert_passes_keep_results(
        value_and_gradients, *np.random.default_rng(seed).normal(size=(3, 2))
    )


@pytest.mark.parametrize("widths", [[4, 4, 1], [16, 16, 3], [3], [1, 1]])
def test_training_steps(widths: list[int]) -> None:
    net = tg.MLP(3, widths, rng=0)
    optimizer = tg.optim.Adam(net.parameters())

    def step(x: Any, y: Any) -> Any:
        loss = tg.nn.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    x, y = np.random.default_rng(0).normal(size=(5, 3)), np.zeros((5, widths[-1]))
    step(x, y)
    assert "copy" not in str(tg.compile(step).lower(x, y).stages[0])  # each gradient is made once
    assert_passes_keep_results(step, x, y)


def large_chains() -> Any:
    """A function that loop fusion changes where arrays of six elements are large."""
    return lambda x: np.add.reduce(np.exp(np.sin(x) * 2.0), axis=0)


def test_chains_are_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_fusion, "LARGE", 6)
    assert "chain(" in str(tg.compile(large_chains()).lower(X).stages[-1])
    assert_passes_keep_results(large_chains(), X)


def test_random_numbers_are_those_of_the_generators_copy() -> None:
    dropout = tg.nn.Dropout(0.5, rng=0)
    assert_passes_keep_results(lambda x: dropout(np.sin(x)) * dropout(np.cos(x)), X)
    program = tg.compile(dropout).lower(X).stages[-1].program
    (found,), _ = interpret(program, [X])
    np.testing.assert_array_equal(found, dropout(X))
    assert not np.array_equal(found, dropout(X))


def test_what_is_not_sound() -> None:
    b = Builder()
    x, state = b.value(X, "input"), b.value(X, "state")
    y = b(np.cos, b(np.sin, x))
    first, second = b.calls
    verify(b.program(y))
    with pytest.raises(AssertionError, match=r"v0 is read before it is made: v1: .* = cos\(v0\)"):
        verify(Program([x], [second, first], [y]))
    with pytest.raises(AssertionError, match="v1 is returned, but never made"):
        verify(Program([x], [first], [y]))
    with pytest.raises(AssertionError, match="a0 is read before it is made"):
        verify(Program([], b.calls, [y]))
    result = b.value(X, "temporary")
    for outside in (
        replace(state, offset=8),
        replace(state, offset=-8),
        replace(state, strides=(24, -8)),
        replace(state, shape=(2, 4)),
    ):
        with pytest.raises(AssertionError, match="does not lie inside its storage"):
            verify(Program([], [Call("pure", np.sin, (outside,), results=[result])], []))
    with pytest.raises(AssertionError, match="a view does not lie in the memory of its operand"):
        verify(Program([x], [Call("view", np.copy, (x,), results=[result])], []))
    one = b.value(X, "constant")
    with pytest.raises(AssertionError, match="a constant is written to"):
        verify(Program([x], [Call("write", assign_at, (one, ..., x), target=one)], []))
    effects = [Call("effect", fun, ()) for fun in (print, input)]
    with pytest.raises(AssertionError, match="were print, input, and are now input, print"):
        verify(Program([], effects[::-1], []), Program([], effects, []))
    guard = Call("guard", bool, (x, True))
    write = Call("write", assign_at, (state, ..., x), target=state)
    verify(Program([x], [guard, write], []), Program([x], [write, guard], []))
    with pytest.raises(AssertionError, match="a guard has moved behind a change"):
        verify(Program([x], [write, guard], []), Program([x], [guard, write], []))


def test_passes_are_verified_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop_everything(program: Program) -> Program:
        return program._replace(calls=[])

    f = tg.compile(lambda x: np.sin(x) * 2, passes=[drop_everything])
    monkeypatch.setenv("TENSORGRAD_VERIFY", "1")
    with pytest.raises(AssertionError, match="is returned, but never made") as caught:
        f(X)
    assert caught.value.__notes__ == ["after the pass drop_everything"]
    np.testing.assert_allclose(tg.compile(lambda x: np.sin(x) * 2)(X), np.sin(X) * 2)


# -- some of them


def _training_step() -> tuple[Any, list[Any]]:
    net = tg.MLP(3, [4, 4, 1], rng=0)
    optimizer = tg.optim.Adam(net.parameters())

    def step(x: Any, y: Any) -> Any:
        loss = tg.nn.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), [p.data.copy() for p in net.parameters()]

    return step, [np.random.default_rng(0).normal(size=(5, 3)), np.zeros((5, 1))]


def _scaled_sums() -> tuple[Any, list[Any]]:
    row = np.arange(3.0)

    def f(x: Any) -> Any:
        y = np.exp(2.0 * (np.sin(x) * 3.0 + row))
        return np.sum(y * y), np.exp(np.sin(x)), np.sum(np.cos(row))

    return f, [X]


def _loop() -> tuple[Any, list[Any]]:
    def f(x: Any) -> Any:
        return tg.scan(lambda c, row: (np.tanh(c * 2.0 * 3.0 + row), np.sum(c * c)), x[0], x)[0]

    return tg.value_and_grad(lambda x: np.sum(f(x))), [X]


def _views_and_writes() -> tuple[Any, list[Any]]:
    def f(x: Any) -> Any:
        y = np.sin(x)
        y[0] += y[1]
        y = y.astype(y.dtype, copy=False)  # the same array: no call
        np.linalg.cholesky(y @ y.T + 9 * np.eye(2))
        return y.T.reshape(-1), y * 1

    return f, [X]


PROGRAMS = [_training_step, _scaled_sums, _loop, _views_and_writes]
NAMES = [name_of(transform) for transform in PASSES]
CHOICES = {
    **{f"without {name}": [n for n in NAMES if n != name] for name in NAMES},
    **{f"the first {i}": NAMES[:i] for i in range(len(NAMES))},
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("make", PROGRAMS)
def test_passes_left_out(make: Any, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_fusion, "LARGE", 6)
    (eager, args), (function, _) = make(), make()
    compiled = tg.compile(function, passes=CHOICES[choice])
    for _ in range(3):
        expected, found = tg.tree.leaves(eager(*args)), tg.tree.leaves(compiled(*args))
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), 1e-9, 1e-12)
    names = [stage.name for stage in compiled.lower(*args).stages[1:]]
    assert [n for n in names if n != "hoist_decisions"] == [
        n for n in CHOICES[choice] if n != "hoist_decisions"
    ]


def test_a_pass_of_ones_own_runs_in_the_bodies_of_loops_too() -> None:
    def sines_are_cosines(program: Program) -> Program:
        calls = [c.instead(np.cos, c.args) if c.fun is np.sin else c for c in program.calls]
        return program._replace(calls=calls)

    @tg.compile(passes=["fold_constants", sines_are_cosines])
    def f(x: Any) -> Any:
        return np.sin(x), tg.fori_loop(0, 1, lambda _, y: np.sin(y), x)

    f(X)
    for y in f(X):
        np.testing.assert_allclose(y, np.cos(X))
    names = [stage.name for stage in f.lower(X).stages]
    assert names == ["trace", "hoist_decisions", "fold_constants", "sines_are_cosines"]


@pytest.mark.parametrize(
    ("passes", "error", "message"),
    [
        (["fuse"], ValueError, "no pass 'fuse': choose from fold_constants, "),
        ("fuse_loops", TypeError, r"names or functions: \['fuse_loops'\]"),
        ([3], TypeError, "a name or a function, not a int"),
    ],
)
def test_what_is_no_pass(passes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tg.compile(np.sin, passes=passes)


def test_a_program_is_printed_line_by_line() -> None:
    builder = Builder()
    x = builder.value(X, "input")
    y = builder(np.multiply, builder(np.sin, x), builder.value(2.0, "constant"))
    assert text_of(builder.program(y)).split("\n") == [
        "float64 unless noted",
        "input a0: [2, 3]",
        "v0: [2, 3] = sin(a0)",
        "v1: [2, 3] = multiply(v0, 2.0)",
        "return v1",
    ]
    (line,) = [
        line
        for line in str(tg.compile(lambda x: np.sin(x)).lower(X).stages[0]).split("\n")
        if "sin" in line
    ]
    assert re.fullmatch(r"v0: \[2, 3\] = sin\(a0\)  # test_compile_passes.py:\d+", line)


def test_indices_options_and_other_dtypes_are_printed_as_they_are_written() -> None:
    b = Builder()
    x = b.value(X, "input")
    first = b(getitem, x, (slice(None, -1, 2), 0), kind="view")
    b(np.add.reduce, first, axis=0, dtype=None, keepdims=False)
    b(np.add.reduce, x, axis=None, keepdims=True)
    b(np.argmax, x, axis=1)
    b(np.take, x, np.arange(2), axis=1)
    b(getitem, x, (0,), kind="view")
    b.write(first, x)
    assert text_of(b.program()).split("\n")[2:] == [
        "v0: [1] = a0[:-1:2, 0]",
        "v1: [] = add.reduce(v0, axis=0)",
        "v2: [1, 1] = add.reduce(a0, axis=None, keepdims=True)",
        "v3: int64[2] = argmax(a0, axis=1)",
        "v4: [2, 2] = take(a0, array[2], axis=1)",
        "v5: [3] = a0[0,]",
        "v0[...] = a0",
        "return",
    ]


def test_states_are_named_by_what_the_user_calls_them() -> None:
    net = tg.MLP(3, [4, 1], rng=0)
    optimizer = tg.optim.SGD(net.parameters(), lr=0.1)

    def step(x: Any) -> None:
        optimizer.zero_grad()
        np.sum(net(x)).backward()
        optimizer.step()

    step(X)
    plan = tg.compile(step).lower(X)
    assert "(owner.is_current or refresh_group()) and (epoch == seen or look())" in plan.source
    first, *_, last = map(str, plan.stages)
    assert re.search(
        r"state s0: \[4, 3\] by columns +# net\.layers\[0\]\.weight$", first, re.MULTILINE
    )
    assert re.search(r"# a part of optimizer\..*grad$", last, re.MULTILINE)
    assert re.search(
        r"\[4, 4\] +# net\.layers\[0\]\.weight, net\.layers\[0\]\.bias$", last, re.MULTILINE
    )
    assert re.search(r"\[21\] +# .*weight, .*bias, .*weight and 1 more$", last, re.MULTILINE)


def test_arrays_side_by_side_are_named() -> None:
    b = Builder()
    outputs = the_same_call_on_two_arrays_is_one(b, b.value(X, "input"))
    text = text_of(fuse_horizontally(b.program(outputs)))
    assert re.search(r"^temporary v2: \[12\] +# v0, v1 side by side$", text, re.MULTILINE)
