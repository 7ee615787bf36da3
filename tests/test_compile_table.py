"""Every row of the table of operations, and random programs: compiled equals eager.

Each function is called several times, with other numbers each time: the first call is traced, and
the others must not repeat what it saw.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tensorgrad as tg

from .laws import Laws, at_a_small_shape, at_each_shape, size
from .layouts import LAYOUTS
from .operations import CONSTANT, NOT_COMPLEX, OPERATIONS, Op, Shape
from .oracles import assert_same
from .strategies import arguments
from .test_programs import SMOOTH, Step, numbers, programs, run

CALLS = 3
ULPS = 4  # of the largest element: where sums are made by BLAS, or several factors are one

# Rows whose results have shapes, or that take decisions, that depend on elements.
MASKS = {"where=", "x[x > 0]", "extract"}
SELECTIONS = {
    "trim_zeros", "trim_zeros b", "trim_zeros all", "unique", "unique of repeats", "unique counts",
    "unique axis", "unique_values", "unique_all", "unique_counts", "unique_inverse", "union1d",
    "intersect1d", "setdiff1d", "setxor1d", "roots", "roots, real and complex",
    # its function gets the elements where a condition holds
    "safe_where x > 0",
}  # fmt: skip
REFUSED = MASKS | SELECTIONS
# A text is that of the traced call: it is there to be looked at.
TEXTS = {"array_repr", "array_str", "array2string"}
# Sums that tie up to roundings: which of them is the largest, a last digit decides.
TIES = {"cond 1"}
# With overwrite_input, NumPy itself writes into its argument, unless that is tracked.
OVERWRITTEN = {"percentile"}
# And others write into plain arrays, too.
REFUSING = {*OVERWRITTEN, "nan_to_num copy=False", "copyto zeros"}
ROWS = [op for op in OPERATIONS if op.name not in REFUSED | TIES]


def differentiated(fun: Callable[..., Any]) -> Callable[..., Any]:
    """The function's value at its arguments, and the pullback of the first one."""

    def value_and_pullback(seed: Any, *args: Any) -> Any:
        value, pullback = tg.vjp(fun, *args)
        return value, pullback(seed)

    return value_and_pullback


def drawn(op: Op, shapes: tuple[Shape, ...], dtype: Any, call: int) -> list[Any]:
    """A cotangent, or zeros for a shape that depends on elements, and arguments."""
    rng = np.random.default_rng(call)
    args = [np.asarray(a, dtype) for a in op.draw(rng, shapes)]
    out = np.asarray(op.fun(*args))
    return [np.asarray(rng.normal(size=out.shape)).astype(out.dtype), *args]


def assert_replays_agree(f: Callable[..., Any], calls: Sequence[Sequence[Any]]) -> None:
    compiled = tg.compile(f)
    for i, args in enumerate(calls):
        expected, before = f(*args), [np.copy(a) for a in args]
        try:
            assert_same(compiled(*args), expected, roundings=ULPS)
        except BaseException as error:
            error.add_note(f"in call {i}")
            raise
        for a, b in zip(args, before, strict=True):
            np.testing.assert_array_equal(a, b)


law = Laws()


@pytest.mark.parametrize("op", ROWS, ids=repr)
def test_laws(op: Op, request: pytest.FixtureRequest, subtests: pytest.Subtests) -> None:
    law.check(op, request, subtests)


def in_both_dtypes(op: Op) -> list[Any]:
    """At each shape in double precision, and at the last one in single precision."""
    *_, last = doubles = [case | {"dtype": np.float64} for case in at_each_shape(op)]
    return [*doubles, last | {"dtype": np.float32}]


@law(in_both_dtypes, one_row_in=6)
def value_and_pullback(op: Op, shapes: tuple[Shape, ...], dtype: Any) -> None:
    calls = [drawn(op, shapes, dtype, call) for call in range(CALLS)]
    assert_replays_agree(differentiated(op.fun), calls)


@law(lambda op: [] if op.name in NOT_COMPLEX else at_a_small_shape(op), one_row_in=24)
def complex_value_and_pullback(op: Op, shapes: tuple[Shape, ...]) -> None:
    """The same of complex numbers, where NumPy takes them."""
    calls = []
    for call in range(2):
        rng = np.random.default_rng(call)
        args = op.draw_complex(rng, shapes)
        try:
            out = np.asarray(op.fun(*args))
        except (TypeError, np.exceptions.ComplexWarning):
            return
        seed = np.asarray(rng.normal(size=out.shape)).astype(out.dtype)
        calls.append([seed * (1 + 1j) if np.iscomplexobj(out) else seed, *args])
    with np.errstate(invalid="ignore"):
        assert_replays_agree(differentiated(op.fun), calls)


def of_arrays_that_are_left_alone(op: Op) -> list[Any]:
    return [] if op.name in OVERWRITTEN else at_each_shape(op)[-1:]


@law(of_arrays_that_are_left_alone, one_row_in=12)
def value_alone(op: Op, shapes: tuple[Shape, ...]) -> None:
    """Without a graph other functions are called: those of NumPy itself."""
    calls = [drawn(op, shapes, np.float64, call)[1:] for call in range(CALLS)]
    assert_replays_agree(lambda *args: op.fun(*map(tg.Tensor, args)), calls)


@law(lambda op: at_a_small_shape(op) if op.analytic else [], one_row_in=24)
def second_derivative(op: Op, shapes: tuple[Shape, ...]) -> None:
    everything = tuple(range(len(op.domains)))

    def second(seed: Any, *args: Any) -> Any:
        gradient = tg.grad(lambda *xs: np.sum(np.tanh(seed * op.fun(*xs) / 4 + 0.3)), everything)
        return tg.grad(lambda *xs: sum(np.sum(g * g) for g in gradient(*xs)), everything)(*args)

    calls = [drawn(op, shapes, np.float64, call) for call in range(2)]
    compiled = tg.compile(second)
    for args in calls:
        assert_same(compiled(*args), second(*args), roundings=1 << 12)


def laid_out(op: Op, call: int, args: Sequence[Any]) -> list[Any]:
    """The arguments, each in a way that the row and the number of the call decide."""
    names = [*LAYOUTS]
    start = zlib.crc32(op.name.encode()) + call
    return [LAYOUTS[names[(start + 3 * i) % len(names)]](a) for i, a in enumerate(args)]


def with_most_axes(op: Op) -> list[Any]:
    """At the largest shapes of those with the most axes."""
    return [max(at_each_shape(op), key=lambda case: (sum(map(len, case["shapes"])), size(case)))]


@law(with_most_axes, one_row_in=24)
def layouts(op: Op, shapes: tuple[Shape, ...]) -> None:
    """Of plain arrays, and of tensors and their derivatives, that lie in another way each time."""
    rng = np.random.default_rng(0)

    def f(seed: Any, *args: Any) -> Any:
        plain = None if op.name in REFUSING else op.fun(*args)
        return plain, differentiated(op.fun)(seed, *args)

    compiled = tg.compile(f)
    for call in 0, 1, 1:
        args = laid_out(op, call, [np.asarray(a, float) for a in op.draw(rng, shapes)])
        with np.errstate(all="ignore"):
            try:
                out = np.asarray(op.fun(*map(np.array, args)))
                seed = np.asarray(rng.normal(size=out.shape)).astype(out.dtype)
                expected = f(seed, *args)
            except (np.linalg.LinAlgError, ValueError):  # equal rows; views that are read-only
                continue
            actual = compiled(seed, *args)
        scale = max(float(np.max(np.abs(a), initial=0)) for a in [seed, out, *args])
        assert_same(actual, expected, least=scale if np.isfinite(scale) else 0.0)


@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.name in REFUSED], ids=repr)
def test_rows_that_are_refused(op: Op) -> None:
    """Each of them is, at one of its shapes at least; if not, it belongs to the others."""
    refusals = 0
    for shapes in op.shapes:
        args = drawn(op, shapes, np.float64, 0)
        try:
            tg.compile(differentiated(op.fun))(*args)
        except tg.TraceError as error:
            assert re.match(r".*tests/.*\.py:\d+: ", str(error))
            refusals += 1
    assert refusals


def test_every_exception_is_in_the_table() -> None:
    names = {op.name for op in [*OPERATIONS, *CONSTANT]}
    assert names >= REFUSED | TEXTS | TIES | OVERWRITTEN


no_derivative = Laws()


@pytest.mark.parametrize("op", [op for op in CONSTANT if op.name not in TEXTS], ids=repr)
def test_laws_without_a_derivative(
    op: Op, request: pytest.FixtureRequest, subtests: pytest.Subtests
) -> None:
    no_derivative.check(op, request, subtests)


def of_arrays_and_of_tensors(op: Op) -> list[Any]:
    return [case | {"make": make} for case in at_each_shape(op) for make in (np.asarray, tg.Tensor)]


@no_derivative(of_arrays_and_of_tensors)
def each_call_is_right_or_the_first_is_refused(
    op: Op, shapes: tuple[Shape, ...], make: Any
) -> None:
    def f(*args: Any) -> Any:
        return op.fun(*map(make, args))

    compiled = tg.compile(f)
    for call in range(CALLS):
        args = op.draw(np.random.default_rng(call), shapes)
        try:
            actual = compiled(*args)
        except tg.TraceError:
            assert call == 0
            break
        assert_outcomes_agree(actual, f(*args))


def assert_outcomes_agree(actual: Any, expected: Any) -> None:
    if isinstance(expected, (list, tuple, tg.Tensor, np.ndarray, np.generic)):
        assert_same(actual, expected, roundings=ULPS)
    else:
        assert actual == expected


# -- random programs


@given(programs(SMOOTH, 3), st.lists(st.tuples(*[numbers] * 6), min_size=3, max_size=3))
def test_random_programs(program: list[Step], points: list[tuple[float, ...]]) -> None:
    """Their values and gradients, of small arrays."""

    def value_and_gradients(*inputs: Any) -> Any:
        return tg.value_and_grad(lambda *xs: np.sum(run(program, xs) * weights), (0, 1, 2))(*inputs)

    weights = np.array([0.5, -1.5])
    compiled = tg.compile(value_and_gradients)
    for point in points:
        inputs = np.array(point).reshape(3, 2)
        with np.errstate(all="ignore"):
            actual, expected = compiled(*inputs), value_and_gradients(*inputs)
        assert_same(actual, expected, least=1.0)


@given(programs(SMOOTH, 3), st.lists(st.tuples(*[numbers] * 3), min_size=3, max_size=3))
def test_random_programs_by_backward(program: list[Step], points: list[tuple[float, ...]]) -> None:
    """On leaves that live on, whose gradients add up over the calls."""
    leaves, twins = ([tg.Tensor(0.0, requires_grad=True) for _ in range(3)] for _ in range(2))

    def add(tensors: Any) -> Any:
        out = run(program, tensors)
        if out.requires_grad:
            out.backward()
        return out

    compiled = tg.compile(lambda: add(leaves))
    for point in points:
        for leaf, twin, x in zip(leaves, twins, point, strict=True):
            leaf.data = twin.data = x
        with np.errstate(all="ignore"):
            actual, expected = compiled(), add(twins)
        assert_same(actual, expected, least=1.0)
        for leaf, twin in zip(leaves, twins, strict=True):
            if twin.grad is None:
                assert leaf.grad is None
            else:
                assert_same(leaf.grad, twin.grad, least=1.0)


def cases(op: Op) -> st.SearchStrategy[tuple[Op, list[list[Any]]]]:
    return st.tuples(st.just(op), st.lists(arguments(op), min_size=2, max_size=3))


@given(st.sampled_from(ROWS).flatmap(cases))
def test_random_rows_with_arguments_of_random_shapes(case: tuple[Op, list[list[Any]]]) -> None:
    op, calls = case
    compiled = tg.compile(op.fun)
    for args in calls:
        tensors = [tg.Tensor(a) for a in args]
        assert_same(compiled(*tensors), op.fun(*tensors), roundings=ULPS)
