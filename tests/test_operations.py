"""Every row of the table of operations against NumPy and against numeric derivatives."""

import itertools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.engine.modes import set_mode
from tensorgrad.engine.registry import RULES

from .laws import Laws, at_a_small_shape, at_each_shape, once, size
from .operations import CONSTANT, NOT_COMPLEX, ONCE_BY_COMPLEX, OPERATIONS, Op, Shape
from .oracles import assert_same, backward, central_differences, complex_step, leaf, subsets
from .strategies import arguments

WITHOUT_ROWS = ["tests", "tensorgrad.examples"]
if not find_spec("scipy"):
    WITHOUT_ROWS.append("tensorgrad.scipy")
SHIPPED = [
    rule
    for rule in RULES.values()
    if not str(getattr(rule.vjps[0], "__module__", "")).startswith(tuple(WITHOUT_ROWS))
]
law = Laws()


@pytest.mark.parametrize("op", OPERATIONS, ids=repr)
def test_laws(op: Op, request: pytest.FixtureRequest, subtests: pytest.Subtests) -> None:
    law.check(op, request, subtests)


def draw(op: Op, shapes: tuple[Shape, ...]) -> tuple[list[Any], Any]:
    """Arguments of these shapes, and a random cotangent of the output."""
    rng = np.random.default_rng(0)
    args = op.draw(rng, shapes)
    return args, np.asarray(rng.normal(size=np.shape(op.fun(*args))))


def weighted(f: Callable[..., Any], w: Any) -> Callable[..., Any]:
    """The number `sum(w * f)`, whose gradient is the pullback of w."""
    return lambda *args: np.sum(w * f(*args))


# -- values, and first derivatives


@law(at_each_shape)
def value_is_numpys(op: Op, shapes: tuple[Shape, ...]) -> None:
    for dtype in np.float64, np.float32, np.float16:
        args = [a.astype(dtype) for a in draw(op, shapes)[0]]
        expected = np.asarray(op.fun(*args))
        untracked = op.fun(*map(tg.Tensor, args))
        for tracked in subsets(len(args)):
            out = op.fun(*(leaf(a) if i in tracked else a for i, a in enumerate(args)))
            assert type(out) is tg.Tensor
            for tensor in out, untracked:
                assert type(tensor.data) is np.ndarray
                assert tensor.dtype == expected.dtype
                assert tensor.shape == expected.shape
                assert_ulps(tensor.data, expected)


def assert_ulps(actual: Any, expected: Any) -> None:
    """Equal bit for bit, or up to the last two digits."""
    if expected.dtype.kind == "f":
        np.testing.assert_array_max_ulp(actual, expected, maxulp=2)
    else:
        assert_array_equal(actual, expected)


@law(at_each_shape)
def gradient(op: Op, shapes: tuple[Shape, ...]) -> None:
    args, seed = draw(op, shapes)
    f = weighted(op.fun, seed)
    numeric = [central_differences(f, args, i) for i in range(len(args))]
    exact = [complex_step(f, args, i) for i in range(len(args))] if op.analytic else numeric
    for tracked in subsets(len(args)):
        leaves = backward(op.fun, args, tracked, seed)[1]
        for i, x in zip(tracked, leaves, strict=True):
            assert_allclose(x.grad, numeric[i], rtol=1e-7, atol=1e-7)
            assert_allclose(x.grad, exact[i], rtol=1e-7, atol=1e-12 if op.analytic else 1e-7)


@law(at_each_shape, one_row_in=2)
def gradient_belongs_to_its_leaf(op: Op, shapes: tuple[Shape, ...]) -> None:
    """It has the leaf's dtype and shape, can be written to, and is nobody else's memory."""
    args, seed = draw(op, shapes)
    for tracked in subsets(len(args)):
        out, leaves = backward(op.fun, args, tracked, seed)
        for x in leaves:
            assert type(x.grad) is np.ndarray
            assert (x.grad.dtype, x.grad.shape) == (x.dtype, x.shape)
            assert x.grad.flags.owndata and x.grad.flags.writeable
            others = [*args, seed, out.data, *(y.data for y in leaves)]
            others += [y.grad for y in leaves if y is not x]
            assert not any(np.shares_memory(x.grad, other) for other in others)


@law(at_each_shape, one_row_in=2)
def nothing_is_written_to(op: Op, shapes: tuple[Shape, ...]) -> None:
    """Arguments and seed keep their bytes and their flags, also those that are shared."""
    args, seed = draw(op, shapes)
    everything = [*args, seed]
    before = [(a.tobytes(), str(a.flags)) for a in everything]
    for tracked in subsets(len(args)):
        mixed = [tg.asarray(a, copy=False) if i in tracked else a for i, a in enumerate(args)]
        for i in tracked:
            mixed[i].requires_grad = True
        op.fun(*mixed).backward(seed)
        assert before == [(a.tobytes(), str(a.flags)) for a in everything]


@law(at_each_shape, one_row_in=2)
def float32_gradient_is_close_to_float64s(op: Op, shapes: tuple[Shape, ...]) -> None:
    args, seed = draw(op, shapes)
    tracked = range(len(args))
    leaves = backward(op.fun, args, tracked, seed)[1]
    short = backward(op.fun, [a.astype(np.float32) for a in args], tracked, seed)[1]
    expected = [x.grad.astype(np.float32) for x in leaves]
    assert_same([x.grad for x in short], expected, roundings=1 << 10, least=1.0)


@law(at_each_shape, one_row_in=3)
def memory_layout_does_not_matter(op: Op, shapes: tuple[Shape, ...]) -> None:
    def read_only(a: Any) -> Any:
        a = a.copy()
        a.flags.writeable = False
        return a

    def reversed_twice(a: Any) -> Any:
        back = (slice(None, None, -1),) * a.ndim
        return a[back].copy()[back]

    def every_second(a: Any) -> Any:
        wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), 99.0)
        wide[..., ::2] = a
        return wide[..., ::2]

    def fortran(a: Any) -> Any:
        return np.array(a, order="F")

    args, seed = draw(op, shapes)
    tracked = range(len(args))
    expected = backward(op.fun, args, tracked, seed)[1]
    for layout in read_only, fortran, reversed_twice, every_second:
        mixed = [tg.asarray(layout(a) if a.ndim else a, copy=False) for a in args]
        for x in mixed:
            x.requires_grad = True
        op.fun(*mixed).backward(seed)
        gradients, wanted = ([x.grad for x in xs] for xs in (mixed, expected))
        assert_same(gradients, wanted, roundings=1 << 12, least=1.0)


def nested(x: Any) -> Any:
    return [nested(part) for part in x] if x.ndim else x


@law(lambda op: at_each_shape(op) if len(op.domains) > 1 else [], one_row_in=4)
def no_list_loses_its_gradient(op: Op, shapes: tuple[Shape, ...]) -> None:
    """A list of tensors in place of an array: the same value and gradients, or an error."""
    args = op.draw(np.random.default_rng(0), shapes)
    for i, a in enumerate(args):
        if not (a.ndim and a.size):
            continue
        xs, ys = ([leaf(b) for b in args] for _ in range(2))
        expected = op.fun(*xs)
        try:
            out = op.fun(*[nested(y) if j == i else y for j, y in enumerate(ys)])
        except (TypeError, AttributeError, ValueError):
            continue  # Python's own lists, or a function that NumPy does not hand over
        assert_array_equal(out.detach(), expected.detach())
        if expected.requires_grad:
            expected.backward(np.ones(expected.shape))
            out.backward(np.ones(out.shape))
            for x, y in zip(xs, ys, strict=True):
                zero = np.zeros(x.shape)
                grads = [zero if t.grad is None else t.grad for t in (x, y)]
                assert_allclose(*grads, rtol=1e-12, atol=1e-12)


@law(once, one_row_in=40)
def gradient_at_random_values(op: Op) -> None:
    oracle = complex_step if op.analytic else central_differences

    @given(arguments(op))
    def check(args: list[Any]) -> None:
        seed = np.asarray(np.random.default_rng(1).normal(size=np.shape(op.fun(*args))))
        leaves = backward(op.fun, args, range(len(args)), seed)[1]
        for i, x in enumerate(leaves):
            numeric = oracle(weighted(op.fun, seed), args, i)
            assert_allclose(x.grad, numeric, rtol=1e-6, atol=1e-7)

    check()


# -- second derivatives, and the functional form


@law(at_each_shape, one_row_in=3)
def second_derivative(op: Op, shapes: tuple[Shape, ...]) -> None:
    """How the gradient along one random direction changes along another, against differences."""
    args, seed = draw(op, shapes)
    rng = np.random.default_rng(2)
    directions, moves = ([rng.normal(size=a.shape) for a in args] for _ in range(2))
    everything = tuple(range(len(args)))
    # Bent, so that several results, or two uses of one, meet in the second derivative.
    gradient = tg.grad(lambda *xs: np.sum(np.tanh(seed * op.fun(*xs) / 4 + 0.3)), everything)

    def along(*points: Any) -> Any:
        return sum(np.sum(g * v) for g, v in zip(gradient(*points), directions, strict=True))

    second = tg.grad(along, everything)(*args)
    for i, (actual, move) in enumerate(zip(second, moves, strict=True)):

        def moved(h: Any, i: int = i, move: Any = move) -> Any:
            return along(*args[:i], args[i] + h * move, *args[i + 1 :])

        assert type(actual) is np.ndarray and actual.shape == args[i].shape
        numeric = central_differences(moved, [np.zeros(())], 0)
        assert_allclose(np.sum(actual * move), numeric, rtol=1e-6, atol=1e-6)


@law(at_each_shape, one_row_in=2)
def functional_gradient_equals_backwards(op: Op, shapes: tuple[Shape, ...]) -> None:
    args, seed = draw(op, shapes)
    value, pullback = tg.vjp(op.fun, *args)
    out, leaves = backward(op.fun, args, range(len(args)), seed)
    assert_array_equal(value, out.data)
    assert_same(pullback(seed), tuple(x.grad for x in leaves))


# -- forward derivatives, and many at once


@law(at_each_shape, one_row_in=2)
def jvp_and_vjp_are_adjoint(op: Op, shapes: tuple[Shape, ...]) -> None:
    args, seed = draw(op, shapes)
    rng = np.random.default_rng(3)
    tangents = tuple(np.asarray(rng.normal(size=a.shape)) for a in args)
    y, tangent = tg.jvp(op.fun, tuple(args), tangents)
    _, pullback = tg.vjp(op.fun, *args)
    assert type(tangent) is np.ndarray
    assert (tangent.shape, tangent.dtype) == (y.shape, y.dtype)
    backward = sum(np.sum(g * t) for g, t in zip(pullback(seed), tangents, strict=True))
    assert_allclose(np.sum(seed * tangent), backward, rtol=1e-9, atol=1e-9)


def where_it_is_quick(op: Op) -> list[Any]:
    """At the first shape, and at those of at most eight elements."""
    first, *others = at_each_shape(op)
    return [first, *(case for case in others if size(case) <= 8)]


@law(where_it_is_quick, one_row_in=4)
def jacobian_of_many_rows_at_once(op: Op, shapes: tuple[Shape, ...]) -> None:
    """Rows and columns carried together are those carried one by one."""
    args, _ = draw(op, shapes)
    y, pullback = tg.vjp(op.fun, *args)
    units = np.eye(y.size).reshape(y.size, *y.shape).astype(y.dtype)
    rows = [pullback(unit) for unit in units]
    everything = tuple(range(len(args)))
    for mode in "reverse", "forward":
        blocks = tg.jacobian(op.fun, everything, mode)(*args)
        for i, block in enumerate(blocks):
            assert block.shape == y.shape + args[i].shape
            assert block.flags.writeable
            expected = np.array([row[i] for row in rows]).reshape(block.shape)
            assert_allclose(block, expected, rtol=1e-9, atol=1e-9)


RAGGED = {"x[x > 0]", "extract"}  # the result's shape differs from sample to sample


def of_samples(op: Op) -> list[Any]:
    return [] if op.name in RAGGED else at_each_shape(op)


@law(of_samples, one_row_in=2)
def vmap_equals_the_loop(op: Op, shapes: tuple[Shape, ...]) -> None:
    """The value, and the gradient of each sample, also where samples share an argument."""
    rng = np.random.default_rng(0)
    samples = [op.draw(rng, shapes) for _ in range(3)]
    together = [np.stack(arrays) for arrays in zip(*samples, strict=True)]
    f = weighted(op.fun, np.asarray(rng.normal(size=np.shape(op.fun(*samples[0])))))
    everything = tuple(range(len(together)))
    for shared in (None, *everything[:-1]):
        args, axes = [*together], [0] * len(together)
        if shared is not None:
            args[shared], axes[shared] = samples[0][shared], None  # type: ignore[call-overload]
        loop = [
            [a if axis is None else a[i, ...] for a, axis in zip(args, axes, strict=True)]
            for i in range(len(samples))
        ]
        expected = [op.fun(*map(tg.Tensor, sample)).data for sample in loop]
        assert_near(tg.vmap(op.fun, axes)(*args), np.stack(expected))
        gradients = zip(*(tg.grad(f, everything)(*sample) for sample in loop), strict=True)
        mapped = tg.vmap(tg.grad(f, everything), axes)(*args)
        for actual, each in zip(mapped, gradients, strict=True):
            assert_near(actual, np.stack(each))


@law(lambda op: [] if op.name in RAGGED else at_a_small_shape(op), one_row_in=4)
def vmap_of_vmap_equals_the_loops(op: Op, shapes: tuple[Shape, ...]) -> None:
    rng = np.random.default_rng(0)
    samples = [[op.draw(rng, shapes) for _ in range(2)] for _ in range(3)]
    f = weighted(op.fun, np.asarray(rng.normal(size=np.shape(op.fun(*samples[0][0])))))
    everything = tuple(range(len(shapes)))
    gradient = tg.grad(f, everything)
    together = [np.stack([np.stack([s[i] for s in row]) for row in samples]) for i in everything]
    mapped = tg.vmap(tg.vmap(gradient))(*together)
    for i, actual in enumerate(mapped):
        assert_near(actual, np.stack([np.stack([gradient(*s)[i] for s in row]) for row in samples]))


def assert_near(actual: Any, expected: Any) -> None:
    assert type(actual) is np.ndarray
    assert actual.dtype == expected.dtype
    assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max(initial=1))


@law(at_a_small_shape, one_row_in=4)
def derivative_of_a_forward_derivative(op: Op, shapes: tuple[Shape, ...]) -> None:
    args, seed = draw(op, shapes)
    rng = np.random.default_rng(4)
    tangents = tuple(np.asarray(rng.normal(size=a.shape)) for a in args)
    everything = tuple(range(len(args)))

    def forward(*xs: Any) -> Any:
        return np.sum(np.sin(seed * tg.jvp(op.fun, xs, tangents)[1]))

    def backward(*xs: Any) -> Any:  # the same by the transpose of the transpose
        _, pullback = tg.vjp(op.fun, *xs)
        slope = tg.grad(
            lambda g: sum(np.sum(b * t) for b, t in zip(pullback(g), tangents, strict=True))
        )
        return np.sum(np.sin(seed * slope(np.zeros(seed.shape))))

    for a, b in zip(
        tg.grad(forward, everything)(*args), tg.grad(backward, everything)(*args), strict=True
    ):
        assert_allclose(a, b, rtol=1e-8, atol=1e-8)


# -- complex numbers


def random_like(rng: np.random.Generator, like: Any) -> Any:
    x = rng.normal(size=like.shape)
    return np.asarray(x + 1j * rng.normal(size=like.shape) if np.iscomplexobj(like) else x)


def dot(a: Any, b: Any) -> Any:
    """The product of two arrays as vectors of real numbers."""
    return np.sum(np.real(np.conjugate(a) * b))


def slope(f: Callable[[float], Any]) -> Any:
    """The derivative of f at 0, by differences of fourth order."""
    h = 2.0**-12
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def complex_shapes(op: Op) -> list[Any]:
    return [] if op.name in NOT_COMPLEX else at_each_shape(op)


@law(complex_shapes, one_row_in=4)
def complex_numbers(op: Op, shapes: tuple[Shape, ...]) -> None:
    """Value, gradient, forward derivative and second derivative by complex arguments.

    Along random directions, against differences of NumPy's results. What NumPy refuses for complex
    numbers is refused.
    """
    rng = np.random.default_rng(5)
    args = op.draw_complex(rng, shapes)
    try:
        expected = np.asarray(op.fun(*args))
    except (TypeError, np.exceptions.ComplexWarning):
        if all(a.size for a in args):
            with pytest.raises((TypeError, np.exceptions.ComplexWarning)):
                op.fun(*map(leaf, args))
        return
    seed, everything = random_like(rng, expected), tuple(range(len(args)))
    out, leaves = backward(op.fun, args, everything, seed)
    assert (out.dtype, out.shape) == (expected.dtype, expected.shape)
    assert_allclose(out.data, expected, rtol=1e-12, atol=1e-13)
    moves = [random_like(rng, a) for a in args]
    for move in moves, [1j * m for m in moves]:
        numeric = slope(lambda h, move=move: op.fun(*(a + h * m for a, m in zip(args, move))))
        tangent = tg.jvp(op.fun, tuple(args), tuple(move))[1]
        assert_allclose(tangent, numeric, rtol=1e-6, atol=1e-6)
        total = sum(dot(x.grad, m) for x, m in zip(leaves, move, strict=True))
        assert_allclose(total, dot(seed, numeric), rtol=1e-6, atol=1e-6)
    if op.name in ONCE_BY_COMPLEX:
        return

    gradient = tg.grad(
        lambda *xs: np.sum(np.tanh(np.real(seed * op.fun(*xs)) / 4 + 0.3)), everything
    )

    def along(*points: Any) -> Any:
        return sum(dot(g, 1j * m) for g, m in zip(gradient(*points), moves, strict=True))

    second = tg.grad(along, everything)(*args)
    total = sum(dot(g, m) for g, m in zip(second, moves, strict=True))
    numeric = slope(lambda h: along(*(a + h * m for a, m in zip(args, moves))))
    assert_allclose(total, numeric, rtol=1e-5, atol=1e-5)


def complex_samples(op: Op) -> list[Any]:
    return [] if op.name in RAGGED else complex_shapes(op)


@law(complex_samples, one_row_in=16)
def vmap_of_complex_numbers(op: Op, shapes: tuple[Shape, ...]) -> None:
    rng = np.random.default_rng(6)
    samples = [op.draw_complex(rng, shapes) for _ in range(3)]
    try:
        expected = np.stack([np.asarray(op.fun(*sample)) for sample in samples])
    except (TypeError, np.exceptions.ComplexWarning):
        return
    seed, everything = random_like(rng, expected[0]), tuple(range(len(shapes)))
    together = [np.stack(arrays) for arrays in zip(*samples, strict=True)]
    assert_near(tg.vmap(op.fun)(*together), expected)
    gradient = tg.grad(lambda *xs: dot(seed, op.fun(*xs)), everything)
    each = zip(*(gradient(*sample) for sample in samples), strict=True)
    for actual, wanted in zip(tg.vmap(gradient)(*together), each, strict=True):
        assert_near(actual, np.stack(wanted))


def test_what_the_law_of_complex_numbers_leaves_out_is_in_the_table() -> None:
    names = {name for name in NOT_COMPLEX.keys() | ONCE_BY_COMPLEX if "scipy" not in name}
    assert names <= {op.name for op in OPERATIONS}


# -- operations without a derivative


@pytest.mark.parametrize("op", CONSTANT, ids=repr)
def test_piecewise_constant_results_are_untracked(op: Op) -> None:
    def parts(value: Any) -> tuple[Any, ...]:
        return value if isinstance(value, tuple) else (value,)

    for shapes in op.shapes:
        args = op.draw(np.random.default_rng(0), shapes)
        expected = op.fun(*args)
        for tracked in subsets(len(args)):
            out = op.fun(*(leaf(a) if i in tracked else a for i, a in enumerate(args)))
            for actual, wanted in zip(parts(out), parts(expected), strict=True):
                assert not getattr(actual, "requires_grad", False)
                actual = actual.data if isinstance(actual, tg.Tensor) else actual
                assert_array_equal(actual, wanted)
                assert np.asarray(actual).dtype == np.asarray(wanted).dtype


# -- the table itself


def test_every_derivative_has_a_row() -> None:
    """Each vjp of each rule is reached by a row, or by the derivative of one."""
    reached = set()

    def note(node: Any, _arrays: Any) -> None:
        reached.update((id(node.rule), i) for i, p in enumerate(node.parents) if p is not None)

    with set_mode(hooks=(note,)):
        for op in OPERATIONS:
            args, seed = draw(op, **max(at_each_shape(op), key=size))
            everything = tuple(range(len(args)))
            gradient = tg.grad(weighted(op.fun, seed), everything)
            tg.vjp(lambda *xs, f=gradient: sum(map(np.sum, f(*xs))), *args)
    missing = [
        f"{rule.name}, argument {i}"
        for rule in SHIPPED
        for i in range(min(rule.arity, 3))
        if rule.vjps[i] is not None and (id(rule), i) not in reached
    ]
    assert missing == []


def test_names_are_unique() -> None:
    names = [op.name for op in OPERATIONS]
    assert len(set(names)) == len(names)


# -- kinks and ties: the value that was agreed on

INF, NAN = np.inf, np.nan


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("fun", "args", "gradients"),
    [
        (np.abs, [[0.0, -0.0]], [[0, 0]]),
        (tg.nn.relu, [[0.0, -0.0, NAN, INF, -INF]], [[0, 0, 1, 1, 0]]),
        (tg.nn.sigmoid, [[1000.0, -1000.0, INF, -INF]], [[0, 0, 0, 0]]),
        (np.maximum, [[1.0, 2.0], [1.0, 3.0]], [[0.5, 0], [0.5, 1]]),
        (np.minimum, [[1.0, 2.0], [1.0, 3.0]], [[0.5, 1], [0.5, 0]]),
        (np.maximum, [[NAN, 1.0, NAN], [1.0, NAN, NAN]], [[1, 0, 0.5], [0, 1, 0.5]]),
        (np.minimum, [[NAN, 1.0], [1.0, NAN]], [[1, 0], [0, 1]]),
        (np.maximum, [[0.0, INF], [-0.0, INF]], [[0.5, 0.5], [0.5, 0.5]]),
        (np.max, [[3.0, 1.0, 3.0]], [[0.5, 0, 0.5]]),
        (np.max, [[[2.0, 2.0], [2.0, 2.0]]], [[[0.25, 0.25], [0.25, 0.25]]]),
        (np.max, [[1.0, NAN, 3.0, NAN]], [[0, 0.5, 0, 0.5]]),
        (np.min, [[1.0, 1.0, 3.0, 1.0]], [[1 / 3, 1 / 3, 0, 1 / 3]]),
        (np.min, [[1.0, NAN]], [[0, 1]]),
        (np.max, [[INF, 1.0, INF]], [[0.5, 0, 0.5]]),
        (np.sqrt, [[0.0]], [[INF]]),
        (np.log, [[0.0, -1.0]], [[INF, -1]]),
        (np.reciprocal, [[0.0]], [[-INF]]),
        (lambda x: x**0, [[0.0, INF, NAN]], [[0, 0, 0]]),
        (lambda x: x**1, [[0.0]], [[1]]),
        (lambda x: x**2, [[0.0]], [[0]]),
        (lambda x: x**0.5, [[0.0]], [[INF]]),
        (lambda x: x**-1, [[0.0]], [[-INF]]),
        (lambda x: x ** np.array([0.0, 1, 2, 0.5, -1]), [[0.0] * 5], [[0, 1, 0, INF, -INF]]),
        (np.power, [[0.0] * 5, [0.0, 1, 2, 0.5, -1]], [[0, 1, 0, INF, -INF], [0, 0, 0, 0, -INF]]),
        (np.power, [[-2.0, -2.0], [3.0, 2.0]], [[12, -4], [NAN, NAN]]),
        (np.mean, [np.zeros((0,))], [np.zeros((0,))]),
        (np.sum, [np.zeros((0, 2))], [np.zeros((0, 2))]),
        (lambda x: np.where(x > 0, np.log(x), 0), [[0.0, 2.0]], [[NAN, 0.5]]),
    ],
)
def test_value_without_a_derivative(fun: Any, args: list[Any], gradients: list[Any]) -> None:
    leaves = [leaf(a) for a in args]
    out = fun(*leaves)
    assert_array_equal(out.data, fun(*map(np.asarray, args)))
    out.backward(np.ones(out.shape))
    for x, expected in zip(leaves, gradients, strict=True):
        assert_array_equal(x.grad, expected)


def test_mean_of_nothing_warns_as_numpys() -> None:
    with pytest.warns(RuntimeWarning, match="Mean of empty slice"), np.errstate(invalid="ignore"):
        assert np.isnan(np.mean(leaf(np.zeros((0, 3)))).item())


@pytest.mark.parametrize("fun", [np.max, np.min, np.maximum.reduce])
def test_max_of_nothing_is_an_error(fun: Any) -> None:
    with pytest.raises(ValueError, match="zero-size"):
        fun(leaf(np.zeros(0)))


def test_a_power_of_a_negative_number_with_a_constant_whole_exponent() -> None:
    x = leaf(-2.0)
    (x**3).backward()
    assert x.grad == 12


def test_max_of_many_tied_float16() -> None:
    x = leaf(np.zeros(70_000), np.float16)
    np.max(x).backward(np.float16(70))
    assert_allclose(x.grad, np.float16(0.001), rtol=1e-2)


@law(at_each_shape, one_row_in=4)
def mixed_second_derivative(op: Op, shapes: tuple[Shape, ...]) -> None:
    """How the derivative by one argument, along v, changes with another one, along u."""
    rng = np.random.default_rng(0)
    args, weights = draw(op, shapes)
    f = weighted(op.fun, weights)

    def check(i: int, j: int) -> None:
        u, v = (np.asarray(rng.normal(size=args[k].shape)) for k in (j, i))

        def slope(b: Any) -> Any:
            tensors = [*map(tg.Tensor, args)]
            tensors[j] = b
            return np.sum(tg.grad(f, i)(*tensors) * v)

        step = 1e-5
        above, below = (np.asarray(slope(tg.Tensor(args[j] + h * u))) for h in (step, -step))
        curvature = np.sum(np.asarray(tg.grad(slope)(args[j])) * u)
        assert_allclose(curvature, (above - below) / (2 * step), rtol=1e-4, atol=1e-4)

    for i, j in itertools.permutations(range(len(args)), 2):
        check(i, j)
