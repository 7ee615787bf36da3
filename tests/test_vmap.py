"""`vmap`: what the law of the table does not show."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.engine import batching

from .oracles import leaf

RNG = np.random.default_rng(0)
X, Y, W = RNG.normal(size=(5, 3)), RNG.normal(size=5), RNG.normal(size=3)
INDEX = np.array([0, 2, 1, 1, 0])


def loss(w: Any, x: Any, y: Any) -> Any:
    return (np.tanh(w @ x) - y) ** 2


PER_SAMPLE = np.stack([tg.grad(loss)(W, x, y) for x, y in zip(X, Y, strict=True)])


# -- axes and trees


class Pair(NamedTuple):
    first: Any
    second: Any


def test_axes_are_trees_that_start_like_arguments_and_results() -> None:
    def f(params: Any, pair: Pair, scale: float, *, shift: Any) -> Any:
        out = params["w"] * pair.first + pair.second[0] * scale + shift
        return {"out": out, "rest": [params["w"].sum(), pair.first]}

    w, first, second, shift = X.T, W, [X[..., None]], Y
    got = tg.vmap(f, ({"w": 1}, Pair(None, 0), None), {"out": 1, "rest": (0)})(
        {"w": w}, Pair(first, second), 2.0, shift=shift
    )
    each = [f({"w": X[i]}, Pair(W, [X[i][:, None]]), 2.0, shift=Y[i]) for i in range(5)]
    assert_allclose(got["out"], np.stack([y["out"] for y in each], 1))
    assert_allclose(got["rest"][0], [y["rest"][0] for y in each])
    assert_array_equal(got["rest"][1], np.tile(W, (5, 1)))


def test_an_output_that_all_samples_share_has_no_axis_with_none() -> None:
    x, w = tg.vmap(lambda x: (x, W * 2), out_axes=(0, None))(X)
    assert_array_equal(x, X)
    assert_array_equal(w, W * 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tg.vmap(loss, (None, 0, 0))(W, X, Y[:3]), "x has 5 along axis 0, y has 3 along"),
        (lambda: tg.vmap(loss)(W, X, 1.0), "y is a number, without an axis 0 of samples"),
        (lambda: tg.vmap(lambda x: x, 2)(X), "x has shape (5, 3), without an axis 2"),
        (lambda: tg.vmap(loss, (0, 0))(W, X, Y), "in_axes must start like the arguments"),
        (lambda: tg.vmap(loss, None)(W, X, Y), "no argument has samples"),
        (lambda: tg.vmap(loss, "a")(W, X, Y), "must hold numbers of axes and None, not 'a'"),
        (lambda: tg.vmap(lambda x: x, 0, None)(X), "each sample has a value of its own"),
        (lambda: tg.vmap(lambda x: x, 0, 2)(X), "out_axes is 2 for output, but with the samples"),
        (lambda: tg.vmap(lambda x: [x], 0, (0, 0))(X), "out_axes must start like the output"),
        (lambda: tg.vmap(lambda _: "text")(X), "output is a str, not an array"),
        (lambda: tg.vmap(lambda x, *, k: x * k)(X, k=Y[:2]), "k has 2 along axis 0"),
        (lambda: tg.vmap(3), "takes a function"),
        (lambda: tg.vmap(lambda x: x if x[0] > 0 else -x)(X), "use numpy.where, or tensorgrad.con"),
        (lambda: tg.vmap(lambda x: x * float(x[0]))(X), "a Python number"),
        (lambda: tg.vmap(lambda x: np.asarray(x))(X), "a plain array of it"),
        (lambda: tg.vmap(lambda x: x[x > 0])(X), "arrays of different shapes"),
        (lambda: tg.vmap(np.matmul)(Y, Y), "matmul: takes arrays of one axis at least"),
        (lambda: tg.vmap(np.matmul)(X, Y), "not of shapes (3,) and ()"),
    ],
)
def test_errors_name_the_cause_and_the_cure(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call()


def test_no_samples() -> None:
    assert tg.vmap(lambda x: np.linalg.det(np.outer(x, x) + np.eye(3)))(X[:0]).shape == (0,)
    assert tg.vmap(np.unique)(X[:0]).dtype == X.dtype


# -- derivatives


def test_per_sample_gradients_are_computed_at_once() -> None:
    with mock.patch.object(batching, "one_by_one", side_effect=AssertionError("one by one")):
        got = tg.vmap(tg.grad(loss), (None, 0, 0))(W, X, Y)
    assert type(got) is np.ndarray
    assert_allclose(got, PER_SAMPLE)


def test_a_tensor_that_the_function_uses_gets_the_sum() -> None:
    w = leaf(W)
    out = tg.vmap(lambda x, y: loss(w, x, y))(X, Y)
    np.sum(out).backward()
    assert_allclose(w.grad, PER_SAMPLE.sum(0))
    again = leaf(W)

    def step(x: Any, y: Any) -> Any:
        value = loss(again, x, y)
        value.backward()
        return value.detach()

    tg.vmap(step)(X, Y)
    assert_allclose(again.grad, w.grad)


def test_a_leaf_of_the_function_gets_the_gradient_of_each_sample() -> None:
    def gradient(x: Any, y: Any) -> Any:
        w = leaf(W)
        loss(w * 1, x, y).backward()
        return w.grad

    assert_allclose(tg.vmap(gradient)(X, Y), PER_SAMPLE)


def test_higher_derivatives_around_and_inside() -> None:
    def norms(gradients: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda w: np.sum(np.sin(gradients(w)))

    mapped = norms(lambda w: tg.vmap(tg.grad(loss), (None, 0, 0))(w, X, Y))
    loop = norms(lambda w: np.stack([tg.grad(loss)(w, x, y) for x, y in zip(X, Y, strict=True)]))
    assert_allclose(tg.grad(mapped)(W), tg.grad(loop)(W))
    assert_allclose(tg.hessian(mapped)(W), tg.hessian(loop)(W), atol=1e-12)
    assert_allclose(tg.jvp(mapped, (W,), (W,))[1], tg.jvp(loop, (W,), (W,))[1])
    assert_allclose(
        tg.grad(lambda w: tg.jvp(mapped, (w,), (W,))[1])(W),
        tg.grad(lambda w: tg.jvp(loop, (w,), (W,))[1])(W),
        atol=1e-12,
    )
    hessians = tg.vmap(tg.hessian(loss), (None, 0, 0))(W, X, Y)
    assert_allclose(hessians[2], tg.hessian(loss)(W, X[2], Y[2]))


def test_jacobians_of_and_by_a_vmap() -> None:
    def f(x: Any) -> Any:
        return np.sin(x) * x.sum()

    def mapped(x: Any) -> Any:
        return tg.vmap(f)(x)

    expected = tg.jacobian(lambda x: np.stack([f(row) for row in x]))(X)
    assert_allclose(tg.jacobian(mapped, mode="reverse")(X), expected)
    assert_allclose(tg.jacobian(mapped, mode="forward")(X), expected)
    pullback = tg.vjp(mapped, X)[1]
    assert_allclose(
        tg.vmap(pullback)(np.eye(15).reshape(15, 5, 3))[0].reshape(expected.shape), expected
    )
    inside = tg.vmap(tg.jacobian(f))(X)
    assert_allclose(inside, np.einsum("iaib->iab", expected))
    pushed = tg.vmap(lambda x, t: tg.jvp(f, (x,), (t,))[1])(X, X[::-1])
    assert_allclose(pushed, np.einsum("iab,ib->ia", inside, X[::-1]))


def test_an_index_of_each_sample_and_its_gradient() -> None:
    table = leaf(RNG.normal(size=(4, 2)))
    with mock.patch.object(batching, "one_by_one", side_effect=AssertionError("one by one")):
        got = tg.vmap(lambda x, i: x[i] * table[i])(X, INDEX)
        np.sum(got).backward()
    assert_allclose(got.data, X[np.arange(5), INDEX][:, None] * table.data[INDEX])
    expected = np.zeros((4, 1))
    np.add.at(expected[:, 0], INDEX, X[np.arange(5), INDEX])
    assert_allclose(table.grad, np.tile(expected, (1, 2)))


# -- writes


def rows(x: Any, y: Any) -> Any:
    x = np.copy(x)
    row = x[1]
    row[...] = y
    row += 1
    return x * x


def made_here(x: Any, y: Any) -> Any:
    out = tg.zeros((3, 2))
    row, column = out[2], out[:, 1]
    row[0] = y[1] * y[0]
    out[0] = y
    column *= 2
    row += x[0]
    return out * column[:, None]


def transposed(x: Any, y: Any) -> Any:
    x = x + 0
    t = x.T
    t[0] = t[1] * 2
    x[0] = y
    return np.concatenate([x.ravel(), t.ravel()])


@pytest.mark.parametrize("f", [rows, made_here, transposed])
@pytest.mark.parametrize("axes", [(0, 0), (2, 0), (None, 0), (0, None)])
def test_writes_into_arrays_and_their_views(f: Callable[..., Any], axes: Any) -> None:
    xs, ys = RNG.normal(size=(5, 3, 2)), RNG.normal(size=(5, 2))
    x = xs[0] if axes[0] is None else np.moveaxis(xs, 0, axes[0])
    y = ys[0] if axes[1] is None else ys
    each = [
        (xs[i if axes[0] is not None else 0], ys[i if axes[1] is not None else 0]) for i in range(5)
    ]

    def value(x: Any, y: Any) -> Any:
        return f(tg.asarray(x), tg.asarray(y))

    def number(x: Any, y: Any) -> Any:
        return np.sum(np.sin(value(x, y)))

    kept = x.copy(), y.copy()
    assert_allclose(tg.vmap(value, axes)(x, y), np.stack([value(*s).data for s in each]))
    expected = [tg.grad(number, (0, 1))(*sample) for sample in each]
    got = tg.vmap(tg.grad(number, (0, 1)), axes)(x, y)
    compiled = tg.compile(tg.vmap(tg.grad(number, (0, 1)), axes))
    compiled(x, y)
    for gradients in got, compiled(x, y):
        assert_allclose(gradients[0], np.stack([g for g, _ in expected]))
        assert_allclose(gradients[1], np.stack([g for _, g in expected]))
    assert_array_equal(x, kept[0])
    assert_array_equal(y, kept[1])


@pytest.mark.parametrize("axes", [0, (0, None)])
def test_writes_stay_inside_also_where_arguments_are_plain_arrays(axes: Any) -> None:
    def f(x: Any, w: Any) -> Any:
        w[0] = x[1]
        w *= np.sum(x)
        return w

    w = X * 2 if axes == 0 else W
    each = [f(x, (w if axes else w[i]).copy()) for i, x in enumerate(X)]
    kept = w.copy()
    assert_allclose(tg.vmap(f, axes)(X, w), each)
    assert_array_equal(w, kept)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x,
        lambda x: x.T[::-1],
        lambda _: W,
        lambda _: 1.0,
        tg.grad(np.sum),
        lambda x: tg.jvp(lambda y: y, (x,), (x,)),
        lambda x: [x + 1] * 2,
    ],
)
def test_results_can_be_written_and_share_no_memory(f: Callable[..., Any]) -> None:
    x = X.copy()
    results = tg.tree.leaves(tg.vmap(f)(x))
    for i, y in enumerate(results):
        y[...] = i  # fails for an array that cannot be written
    assert all((y == i).all() for i, y in enumerate(results))
    assert_array_equal(x, X)


def test_what_print_shows_of_samples() -> None:
    shown = []
    tg.vmap(lambda x: shown.append(str(x)) or x)(X)
    assert shown == ["Tensor(<5 samples of shape (3,)>, dtype=float64)"]


@pytest.mark.parametrize("f", [np.sort, lambda x: x[np.argmax(x)], lambda x: x[np.argsort(x)[:1]]])
def test_an_index_of_the_inner_samples_and_a_cotangent_of_the_outer_ones(f: Any) -> None:
    def gradient(x: Any, y: Any) -> Any:
        return tg.grad(lambda x: np.sum(f(x) * y))(x)

    xs = RNG.normal(size=(2, 5, 3))
    got = tg.vmap(tg.vmap(gradient, (0, None)))(xs, Y[:2])
    each = [[gradient(x, y) for x in of_y] for of_y, y in zip(xs, Y[:2], strict=True)]
    assert_allclose(got, np.array(each))


# -- modules, random numbers, compiled functions


def test_modules_and_their_per_sample_gradients() -> None:
    model = tg.nn.Sequential(tg.nn.Linear(3, 4, rng=0), tg.nn.Tanh(), tg.nn.Linear(4, 1, rng=1))

    def of_model(m: Any, x: Any) -> Any:
        return np.sum(m(x) ** 2)

    assert_allclose(tg.vmap(model)(X).data, model(X).data)
    got = tg.vmap(tg.grad(of_model), (None, 0))(model, X)
    for i, x in enumerate(X):
        for a, b in zip(got.parameters(), tg.grad(of_model)(model, x).parameters(), strict=True):
            assert_allclose(a[i].data, b.data)
    stacked = tg.tree.map(lambda p: np.stack([p.data, p.data * 2]), model)
    both = tg.vmap(lambda m, x: m(x), (0, None))(stacked, X)
    assert_allclose(both.data[0], model(X).data)


def test_random_layers_draw_for_each_sample() -> None:
    layer = tg.nn.Dropout(0.5, rng=1)
    got = tg.vmap(layer)(np.ones((50, 4)))
    assert len(np.unique(got, axis=0)) > 4
    assert_array_equal(got, tg.nn.Dropout(0.5, rng=1)(np.ones((50, 4))).data)


@pytest.mark.parametrize("keys", [np.arange(5), "generator"])
def test_a_generator_or_a_seed_for_each_sample(keys: Any) -> None:
    def f(x: Any, rng: Any) -> Any:
        return tg.nn.dropout(x, 0.5, rng=rng)

    generator = keys is not None and isinstance(keys, str)
    given = np.random.default_rng(3) if generator else keys
    got = tg.vmap(f)(X, given)
    each = np.random.default_rng(3).spawn(5) if generator else map(int, keys)
    assert_array_equal(got, np.stack([f(x, key).data for x, key in zip(X, each, strict=True)]))


def test_a_generator_of_each_sample_has_numpys_methods() -> None:
    got = tg.vmap(lambda x, rng: x * rng.normal(size=2))(Y, np.random.default_rng(3))
    each = [rng.normal(size=2) for rng in np.random.default_rng(3).spawn(5)]
    assert_allclose(got, Y[:, None] * np.stack(each))


def test_compiled_functions_draw_again() -> None:
    step = tg.compile(tg.vmap(tg.nn.Dropout(0.5, rng=1)))
    first, second = step(np.ones((9, 9))), step(np.ones((9, 9)))
    assert (first != second).any()


def test_compiled_per_sample_gradients() -> None:
    step = tg.compile(tg.vmap(tg.grad(loss), (None, 0, 0)))
    for scale in 1, 2, 3:
        expected = np.stack([tg.grad(loss)(W * scale, x, y) for x, y in zip(X, Y, strict=True)])
        assert_allclose(step(W * scale, X, Y), expected)


# -- loops and conditions

LOOPS: list[Callable[[Any], Any]] = [
    lambda x: tg.cond(x.sum() > 0, lambda x: np.sin(x) * W, lambda x: x**3, x),
    lambda x: tg.cond(x.sum() > 0, lambda: np.sin(x), lambda: x**3),
    lambda x: tg.cond(np.asarray(W.sum() > 0), np.sin, np.cos, x),
    lambda x: np.stack(tg.scan(lambda c, t: (c * W + t * x[0], c * t), x, x)[1]),
    lambda x: tg.fori_loop(0, 3, lambda i, c: c * tg.asarray(W)[i] + x[i], x),
    lambda x: tg.vmap(
        lambda s: tg.cond(s > 0, np.sin, lambda s: tg.fori_loop(0, 2, lambda _, c: c * s, s), s)
    )(x),
]


@pytest.mark.parametrize("f", LOOPS)
def test_loops_and_conditions(f: Callable[..., Any]) -> None:
    def number(x: Any) -> Any:
        return np.sum(f(x) ** 2)

    gradient = tg.vmap(tg.grad(number))
    expected = np.stack([tg.grad(number)(x) for x in X])
    assert_allclose(tg.vmap(f)(X), np.stack([f(tg.Tensor(x)).data for x in X]))
    compiled = tg.compile(gradient)
    compiled(X + 1)
    for got in gradient(X), compiled(X), tg.grad(lambda x: np.sum(tg.vmap(f)(x) ** 2))(X):
        assert_allclose(got, expected)


def test_a_while_loop_runs_as_often_as_each_sample_needs() -> None:
    def of_one(x: Any) -> Any:
        return tg.while_loop(lambda c: np.max(np.abs(c)) < 10, lambda c: c * 2 + x, x)

    def of_elements(x: Any) -> Any:
        return tg.vmap(lambda s: tg.while_loop(lambda c: np.abs(c) < 10, lambda c: c * 2, s))(x)

    for f in of_one, of_elements:
        expected = np.stack([f(x) for x in X])
        compiled = tg.compile(tg.vmap(f))
        compiled(X + 1)
        assert_allclose(tg.vmap(f)(X), expected)
        assert_allclose(compiled(X), expected)


# -- with the rest of the library


def net(x: Any) -> Any:
    return np.sum(np.sin(x) * W)


def test_compiled_and_checkpointed_functions_of_samples() -> None:
    compiled, saving = tg.compile(net), tg.checkpoint(net)
    compiled(tg.Tensor(X[0]))
    expected = np.stack([tg.grad(net)(x) for x in X])
    for f in compiled, saving:
        assert_allclose(tg.vmap(f)(X), [net(x) for x in X])
        assert_allclose(tg.vmap(tg.grad(f))(X), expected)
    assert_allclose(tg.grad(lambda x: np.sum(tg.vmap(saving)(x)))(X), expected)
    with tg.detect_anomaly():
        assert_allclose(tg.vmap(tg.grad(net))(X), expected)


def test_per_sample_gradients_of_a_classifier() -> None:
    model = tg.nn.Sequential(
        tg.nn.Conv2d(1, 2, 3, rng=0), tg.nn.ReLU(), tg.nn.MaxPool2d(2), tg.nn.Flatten(),
        tg.nn.Linear(8, 3, rng=1),
    )  # fmt: skip
    images, classes = RNG.normal(size=(4, 1, 6, 6)), np.array([0, 2, 1, 1])

    def of_one(model: Any, x: Any, y: Any) -> Any:
        return tg.nn.cross_entropy(model(x[None]), y[None], ignore_index=5)

    got = tg.vmap(tg.grad(of_one), (None, 0, 0))(model, images, classes)
    each = [tg.grad(of_one)(model, x, y) for x, y in zip(images, classes, strict=True)]
    for i, p in enumerate(got.parameters()):
        assert_allclose(p.data, np.stack([g.parameters()[i].data for g in each]), atol=1e-12)


def test_a_write_into_what_samples_share_is_refused() -> None:
    layer = tg.nn.BatchNorm1d(3)
    with pytest.raises(TypeError, match="would write a value for each sample into one array"):
        tg.vmap(layer)(RNG.normal(size=(4, 6, 3)))


def test_a_function_of_one_sample_at_a_time_uses_no_tensor_of_them_all() -> None:
    def by_argument(w: Any, x: Any) -> Any:
        return np.sum(tg.safe_where(x > 0, np.sqrt, x) * w)

    def by_closure(w: Any, x: Any) -> Any:
        return np.sum(tg.safe_where(x > 0, lambda v: v * w, x))

    got = tg.vmap(tg.grad(by_argument), (None, 0))(2.0, X)
    assert_allclose(got, [tg.grad(by_argument)(2.0, x) for x in X])
    with pytest.raises(TypeError, match="safe_where takes the samples one by one"):
        tg.vmap(tg.grad(by_closure), (None, 0))(2.0, X)
    w = leaf(2.0)
    np.sum(tg.vmap(lambda x: by_closure(w, x))(X)).backward()
    assert_allclose(w.grad, X[X > 0].sum())
