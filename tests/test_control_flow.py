"""Loops and conditions as functions, against Python's own, eager and compiled, at every order."""

import itertools
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.compiler.nested import Body
from tensorgrad.compiler.tracing import Trace

from .depth import one_in
from .oracles import central_differences, leaf

Function = Callable[..., Any]


def unrolled(
    f: Function, init: Any, xs: Any, length: int | None = None, reverse: bool = False
) -> Any:
    """`scan` as one would write it by hand, for arrays and tensors in lists and tuples."""
    steps = range(len(tg.tree.leaves(xs)[0]) if length is None else length)
    carry, ys = init, []
    for i in reversed(steps) if reverse else steps:
        carry, y = f(carry, tg.tree.map(lambda a, i=i: a[i], xs))
        ys.append(y)
    return carry, tg.tree.map(lambda *rows: np.stack(rows), *(ys[::-1] if reverse else ys))


class Program(NamedTuple):
    """A function of arrays that gets what scans as its first argument."""

    fun: Function
    args: tuple[Any, ...]


def values(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def rnn(scan: Function, h: Any, xs: Any, w: Any) -> Any:
    """The weights are taken from outside; y has several parts."""

    def step(h: Any, x: Any) -> Any:
        h = np.tanh(w @ h + x)
        return h, (h * 2, np.sum(h))

    h, (doubled, sums) = scan(step, h, xs)
    return np.sum(h**2) + np.sum(doubled**3) + sums @ np.arange(len(sums))


def nested_containers(scan: Function, a: Any, b: Any, xs: Any) -> Any:
    """The parts of the carry change places, and one part of xs has no gradient."""

    def step(carry: Any, x: Any) -> Any:
        left, right = carry["pair"]
        y = left * np.sin(x["x"]) + x["number"]
        return {"pair": (right, y), "none": None}, {"y": [y, left]}

    given = {"x": xs, "number": np.arange(len(xs))}
    carry, ys = scan(step, {"pair": (a, b), "none": None}, given, reverse=True)
    return np.sum(carry["pair"][0] * carry["pair"][1]) + np.sum(ys["y"][0] ** 2 * ys["y"][1])


def without_xs(scan: Function, x: Any) -> Any:
    return np.sum(scan(lambda c, _: (c * np.cos(x + c), None), x, None, length=4)[0])


def without_a_carry(scan: Function, xs: Any, w: Any) -> Any:
    return np.sum(scan(lambda _, x: (None, np.exp(x * w)), None, xs)[1] ** 2)


def nested_loops(scan: Function, c: Any, xs: Any) -> Any:
    def outer(c: Any, x: Any) -> Any:
        def inner(d: Any, z: Any) -> Any:
            return d * np.cos(z * c[0]), d

        d, ys = scan(inner, c, x)
        return d, np.sum(ys**2)

    c, ys = scan(outer, c, xs)
    return np.sum(c) + np.sum(ys)


def derivative_inside(scan: Function, c: Any, xs: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        return c - 0.1 * tg.grad(lambda v: np.sum((v - x) ** 4))(c), np.sum(c)

    c, ys = scan(step, c, xs)
    return np.sum(c**2) + np.sum(ys**2)


def the_same_several_times(scan: Function, c: Any, xs: Any) -> Any:
    """Carries and results that are one array."""

    def step(carry: Any, x: Any) -> Any:
        c, _ = carry
        y = np.sin(c * x)
        return (y, y), [c, c, y, x, x]

    (c, d), ys = scan(step, (c, c), xs)
    return np.sum(c * d) + sum(np.sum(y ** (i + 1)) for i, y in enumerate(ys))


def checkpointed(scan: Function, c: Any, xs: Any, w: Any) -> Any:
    """Only the carries between two inner loops are saved."""
    inner = tg.checkpoint(lambda c, xs: scan(lambda c, x: (np.tanh(c @ w + x), None), c, xs)[0])
    return np.sum(scan(lambda c, xs: (inner(c, xs), None), c, xs.reshape(2, 2, 2))[0] ** 2)


def unused(scan: Function, c: Any, xs: Any) -> Any:
    """Gradients that are zero: of what is not used, and through what is thrown away."""
    c, (first, _) = scan(lambda c, x: (c, (c * 2, x * c)), c, xs)
    return np.sum(c) + np.sum(first[0] ** 2)


def products_of_matrices(scan: Function, c: Any, xs: Any) -> Any:
    c, ys = scan(lambda c, x: (np.linalg.solve(x + 3 * np.eye(2), c), np.linalg.det(x)), c, xs)
    return np.sum(c**2) + np.sum(ys**2)


PROGRAMS = {
    "rnn": Program(rnn, (values(3), values(4, 3), values(3, 3))),
    "nested containers": Program(nested_containers, (values(2), values(2, seed=1), values(3, 2))),
    "without xs": Program(without_xs, (values(3),)),
    "without a carry": Program(without_a_carry, (values(3, 2), values(2))),
    "nested loops": Program(nested_loops, (values(2), values(3, 2))),
    "derivative inside": Program(derivative_inside, (values(2), values(3, 2))),
    "checkpointed": Program(checkpointed, (values(2), values(4, 2), values(2, 2))),
    "the same": Program(the_same_several_times, (values(2), values(3, 2))),
    "unused": Program(unused, (values(2), values(3, 2))),
    "matrices": Program(products_of_matrices, (values(2), values(3, 2, 2))),
    "one step": Program(rnn, (values(3), values(1, 3), values(3, 3))),
}
each_program = pytest.mark.parametrize("name", PROGRAMS)


def of_all(transform: Function) -> Function:
    """A transform of a function by all of its arguments."""
    return lambda f: lambda *args: transform(f, tuple(range(len(args))))(*args)


def along_ones(f: Function) -> Function:
    return lambda *args: tg.jvp(f, args, tg.tree.map(np.ones_like, args))


def squared_gradient(f: Function) -> Function:
    """A scalar of which the gradient has second derivatives."""
    return lambda *args: sum(np.sum(g**2) for g in of_all(tg.grad)(f)(*args))


DERIVATIVES: dict[str, Function] = {
    "value": lambda f: f,
    "grad": of_all(tg.grad),
    "jvp": along_ones,
    "hessian": of_all(tg.hessian),
    "jacobian forward": of_all(lambda f, i: tg.jacobian(f, i, mode="forward")),
    "gradient of the squared gradient": lambda f: of_all(tg.grad)(squared_gradient(f)),
    "jvp of the gradient": lambda f: along_ones(of_all(tg.grad)(f)),
}


def assert_close(actual: Any, expected: Any) -> None:
    found, wanted = tg.tree.leaves(actual), tg.tree.leaves(expected)
    assert tg.tree.structure(actual) == tg.tree.structure(expected)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "derivative"), one_in(24, itertools.product(PROGRAMS, DERIVATIVES))
)
def test_scan_is_the_loop(name: str, derivative: str) -> None:
    fun, args = PROGRAMS[name]
    by_hand = DERIVATIVES[derivative](lambda *args: fun(unrolled, *args))
    scanned = DERIVATIVES[derivative](lambda *args: fun(tg.scan, *args))
    expected = by_hand(*args)
    assert_close(scanned(*args), expected)
    assert_close(tg.compile(scanned)(*args), expected)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@each_program
def test_gradients_are_central_differences(name: str, backend: Any) -> None:
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    fun, args = PROGRAMS[name]
    compiled = tg.compile(lambda *args: fun(tg.scan, *args))
    gradient = of_all(tg.grad)(lambda *args: fun(tg.scan, *args))
    gradients = tg.compile(gradient, backend=backend)(*args)
    for i, g in enumerate(gradients):
        numeric = central_differences(lambda *args: compiled(*map(np.real, args)), args, i)
        assert_allclose(g, numeric, rtol=1e-5, atol=1e-6)


@given(st.data())
def test_any_linear_recurrence(data: Any) -> None:
    """Lengths, directions, what is tracked, and which outputs count."""
    length, size = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 3))
    reverse, weights = data.draw(st.booleans()), values(3, seed=data.draw(st.integers(0, 9)))
    arguments = data.draw(st.sampled_from([0, 1, 2, (0, 1), (1, 2), (0, 1, 2)]))
    args = values(size), values(length, size), values(size, size)

    def f(c: Any, xs: Any, w: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            return w @ c * x + x, {"c": c, "w": np.sum(w * x)}

        c, ys = tg.scan(step, c, xs, reverse=reverse)
        results = np.sum(c**2), np.sum(ys["c"] ** 2), np.sum(ys["w"] ** 2)
        return sum(weight * y for weight, y in zip(weights.round(), results, strict=True))

    gradient = tg.grad(f, arguments)
    assert_close(tg.compile(gradient)(*args), gradient(*args))


# -- conditions


def branches(x: Any, w: Any) -> Any:
    return np.sum(tg.cond(np.sum(x) > 0, lambda x: np.sin(x) * w, lambda x: np.exp(x) + w * w, x))


def chosen_in_a_loop(c: Any, xs: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        c = tg.cond(x[0] > 0, lambda c: np.tanh(c + x), lambda c: c * x, c)
        return c, c

    c, ys = tg.scan(step, c, xs)
    return np.sum(c) + np.sum(ys**2)


def loop_in_a_branch(x: Any, w: Any) -> Any:
    def loop(x: Any) -> Any:
        return tg.fori_loop(0, 3, lambda i, c: np.sin(c * w) + i, x)

    return np.sum(tg.cond(w[0] > 0, loop, lambda x: x * w, x))


CONDITIONS = [branches, chosen_in_a_loop, loop_in_a_branch]


@pytest.mark.parametrize(("f", "derivative"), one_in(9, itertools.product(CONDITIONS, DERIVATIVES)))
def test_one_of_two_functions_runs(f: Function, derivative: str) -> None:
    transformed = DERIVATIVES[derivative](f)
    compiled = tg.compile(transformed)
    shape = (4, 2) if f is chosen_in_a_loop else (2,)
    for sign in 1, -1, 1:
        args = values(2) + sign, values(*shape) + sign
        assert_close(compiled(*args), transformed(*args))


def test_a_condition_decides_by_a_bool_an_array_or_a_tensor() -> None:
    for pred in True, np.True_, np.array(1.0), np.array([2]), tg.Tensor(True), leaf(3.0):
        assert tg.cond(pred, lambda x: x + 1, lambda x: x - 1, 1) == 2
        assert tg.compile(lambda: tg.cond(pred, lambda x: x + 1, lambda x: x - 1, 1))() == 2  # noqa: B023
    numbers = tg.compile(lambda x: tg.cond(x > 0, lambda: 1, lambda: 2))
    assert [numbers(np.array(1.0)), numbers(np.array(-1.0))] == [1, 2]
    for f in (
        lambda x: tg.cond(x, np.sin, np.cos, x),
        tg.compile(lambda x: tg.cond(x, np.sin, np.cos, x)),
    ):
        with pytest.raises(TypeError, match=r"cond: it takes one element .* shape \(2,\)"):
            f(np.ones(2))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            np.sum,
            r"result of true_fun has shape \(2,\), dtype float64, that of false_fun shape \(\)",
        ),
        (lambda x: x > 0, "that of false_fun shape .*, dtype bool"),
        (lambda x: (x, x), r"structure: true_fun returns \*, false_fun \(\*, \*\)"),
    ],
)
def test_both_branches_return_the_same(other: Function, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tg.compile(lambda x: tg.cond(x[0] > 0, np.sin, other, x))(np.ones(2))


# -- loops whose length is not known, and those that count


def test_while_loop_ends_when_the_condition_is_false() -> None:
    def doubled(x: Any) -> Any:
        return tg.while_loop(
            lambda s: s["x"] < 100, lambda s: {"x": s["x"] * 2, "n": s["n"] + 1}, {"x": x, "n": 0}
        )

    compiled = tg.compile(doubled)
    for start, end in (3.0, (192, 6)), (700.0, (700, 0)), (7.0, (112, 4)):
        for f in doubled, compiled:
            result = f(np.array(start))
            assert (result["x"], result["n"]) == end
    w = leaf(3.0)
    assert (
        tg.compile(lambda x: tg.while_loop(lambda v: v < 100, lambda v: v * w, x).detach())(
            np.ones(())
        )
        == 243
    )


@pytest.mark.parametrize("wrap", [lambda f: f, tg.compile])
def test_while_loop_has_no_derivative(wrap: Function) -> None:
    w = leaf(2.0)

    def f(x: Any) -> Any:
        return tg.while_loop(lambda v: v < 100, lambda v: v * 2, x)

    def by_closure() -> None:
        tg.while_loop(lambda v: v < 100, lambda v: v * w, np.array(3.0)).backward()

    x = np.array(3.0)
    for derivative in tg.grad(f), lambda x: tg.jvp(f, (x,), (x,)):
        with pytest.raises(
            tg.GraphError, match=r"while_loop: it has no derivative, .* use tensorgrad\.scan"
        ):
            wrap(derivative)(x)
    with pytest.raises(tg.GraphError, match="while_loop: it has no derivative"):
        wrap(by_closure)()
    assert wrap(tg.grad(lambda x: x * f(tg.asarray(x).detach())))(x) == 192


def test_fori_loop_counts() -> None:
    table = values(5)

    def f(x: Any) -> Any:
        return tg.fori_loop(1, 4, lambda i, v: v * x + tg.asarray(table)[i] * i, x)

    expected = f_by_hand = 0.5
    for i in range(1, 4):
        expected = expected * f_by_hand + table[i] * i
    for g in f, tg.compile(f):
        assert_allclose(g(np.array(0.5)).data, expected)
    assert tg.fori_loop(3, 1, lambda i, v: v + i, 2.0) == 2
    assert_allclose(tg.compile(tg.grad(f))(0.5), tg.grad(f)(0.5))
    assert tg.gradcheck(f, np.array(0.5), order=2)
    with pytest.raises(TypeError) as caught:
        tg.fori_loop(0, 2.5, lambda _, v: v, 1.0)  # type: ignore[arg-type]
    assert "use tensorgrad.while_loop" in str(getattr(caught.value, "__notes__", ""))


# -- what a body uses


def test_weights_get_their_gradients_in_a_compiled_training() -> None:
    xs = values(5, 3)

    def losses(wrap: Function) -> list[float]:
        net = tg.nn.Linear(3, 3, rng=0)
        optimizer = tg.optim.Adam(net.parameters(), lr=0.1)

        def step(xs: Any) -> Any:
            h, _ = tg.scan(lambda h, x: (np.tanh(net(h) + x), None), tg.zeros(3), xs)
            loss = np.sum(h**2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        stepped = wrap(step)
        return [stepped(xs * i).item() for i in range(1, 6)]

    assert_allclose(losses(tg.compile), losses(lambda f: f), rtol=1e-12)


def test_a_variable_that_a_python_loop_changes() -> None:
    """The derivative is computed after the loop, when the variable has its last value."""
    weights = [leaf(values(3, seed=i)) for i in range(3)]

    def gradients(x: Any) -> Any:
        for w in weights:
            x, _ = tg.scan(lambda c, x: (np.tanh(c * w + x), None), x, np.ones((2, 3)))  # noqa: B023
        for w in weights:
            w.grad = None
        np.sum(x).backward()
        return [w.grad for w in weights]

    assert_close(tg.compile(gradients)(values(3)), gradients(values(3)))


def test_computed_tensors_and_arrays_from_outside() -> None:
    scale = values(3)

    def f(w: Any, x: Any) -> Any:
        computed, constant = np.exp(w), x * 2
        c, _ = tg.scan(lambda c, _: (np.sin(c * computed + constant + scale), None), x, length=3)
        return np.sum(c) * np.sum(computed)

    g = tg.compile(tg.grad(f))
    for i in range(3):
        args = values(3, seed=i), values(3, seed=i + 1)
        assert_close(g(*args), tg.grad(f)(*args))
        scale += 1


def test_state_that_other_code_changes_is_seen() -> None:
    w, options = tg.Tensor(2.0), {"shift": 0.0}

    @tg.compile
    def f(x: Any) -> Any:
        return tg.scan(lambda c, _: (c * w + options["shift"], None), x, length=2)[0]

    assert f(np.array(1.0)).item() == 4
    w.data = np.array(3.0)
    assert f(np.array(1.0)).item() == 9
    options["shift"] = 1.0
    assert f(np.array(1.0)).item() == 13


def test_compiled_functions_in_a_body_and_a_scan_of_batches() -> None:
    inner = tg.compile(lambda c, x: (np.tanh(c * x), c))
    gradient = tg.grad(lambda c, xs: np.sum(tg.scan(inner, c, xs)[0]))
    compiled, args = tg.compile(gradient), (values(2), values(3, 2))
    assert_close(compiled(*args), gradient(*args))
    batches = values(4, 2), values(4, 3, 2)
    rows = [gradient(*batch) for batch in zip(*batches, strict=True)]
    assert_close(compiled.scan(*batches), np.stack(rows))


def test_weak_numbers_take_the_dtype_of_the_first_result() -> None:
    xs = np.ones(3, np.float32)
    for f in (
        lambda xs: tg.scan(lambda c, x: (c + x, c), 0, xs),
        lambda xs: tg.scan(lambda c, x: ((c[0] + x, c[1] + 1), c[0]), (0.0, 0), xs),
    ):
        eager, compiled = f(xs), tg.compile(f)(xs)
        assert [a.dtype for a in tg.tree.leaves(compiled[0])] == [
            a.dtype for a in tg.tree.leaves(eager[0])
        ]
        assert compiled[1].dtype == eager[1].dtype == np.float32
        assert_array_equal(compiled[1], eager[1])


def test_arrays_in_any_order_of_memory() -> None:
    f = tg.compile(lambda c, xs: tg.scan(lambda c, x: (c @ x, x), c, xs))
    c, xs = values(2, 2), values(3, 2, 2)
    for transposed in xs, np.asfortranarray(xs), xs.mT, xs[::-1]:
        assert_close(f(c.T, transposed), tg.scan(lambda c, x: (c @ x, x), c.T, transposed))


def test_without_steps_the_carry_is_returned_and_ys_are_empty() -> None:
    def f(c: Any, xs: Any) -> Any:
        return tg.scan(lambda c, x: (c + 1, {"x": x / 0, "any": np.any(x)}), c, xs)

    for g in f, tg.compile(f):
        carry, ys = g(values(2), np.zeros((0, 3)))
        assert_array_equal(carry, values(2))
        assert ys["x"].shape == (0, 3)
        assert (ys["any"].shape, ys["any"].dtype) == ((0,), bool)


def test_decisions_of_the_library_inside_of_a_body() -> None:
    """Attention asks whether a query has no key at all."""
    rows = np.ones((3, 2, 2), bool)
    none = rows & np.array([[True], [False]])

    def f(x: Any, masks: Any) -> Any:
        def step(c: Any, mask: Any) -> Any:
            return tg.nn.scaled_dot_product_attention(c, c, c, mask), None

        return tg.scan(step, x, masks)[0]

    compiled = tg.compile(f)
    for masks in rows, none, rows:
        assert_close(compiled(values(2, 2), masks), f(values(2, 2), masks))
    with pytest.raises(tg.TraceError, match="decides otherwise at a later step"):
        compiled(values(2, 2), np.concatenate([rows, none]))


def test_a_weight_of_a_recurrent_layer_that_is_replaced() -> None:
    layer = tg.nn.RNN(3, 3, batch_first=True, rng=0)

    def f(xs: Any) -> Any:
        return tg.scan(lambda c, x: (c, layer(x)[0]), 0.0, xs)[1]

    compiled, xs = tg.compile(f), values(2, 2, 5, 3)
    for scale in 1.0, 2.0, 2.0:
        layer.weight_ih_l0 = leaf(np.full((3, 3), scale))
        assert_close(compiled(xs), f(xs).detach())


# -- programs do not grow with the number of steps


@pytest.mark.numpy_program
@pytest.mark.parametrize("derivative", one_in(4, DERIVATIVES))
def test_the_program_is_as_long_for_any_number_of_steps(
    derivative: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[int] = []

    def counted(*args: Any) -> Body:
        body = Body(*args)
        bodies[-1] += len(body._trace.calls)
        return body

    monkeypatch.setattr(Trace, "bodies", staticmethod(counted))
    f = DERIVATIVES[derivative](lambda c: rnn(tg.scan, c, xs, values(2, 2)))
    sources = []
    for length in 2, 50:
        xs = values(length, 2)
        bodies.append(0)
        sources.append(re.sub(r"\d+", "n", tg.compile(f).lower(values(2)).source))
    assert sources[0] == sources[1]
    assert 0 < bodies[0] == bodies[1]


# -- errors

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("wrap", [lambda f: f, tg.compile])
@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (
            lambda x: tg.scan(lambda c, _: ({"h": [np.append(c["h"][0], 1)]}, None), {"h": [x]}, x),
            TypeError,
            r"carry\['h'\]\[0\] must keep .* before, shape \(3,\), .* after, shape \(4,\)",
        ),
        (
            lambda x: tg.scan(lambda c, _: (c > 0, None), x, x),
            TypeError,
            "before, shape .*, dtype float64; after, shape .*, dtype bool: change init, or cast",
        ),
        (
            lambda x: tg.scan(lambda c, _: ((c, c), None), x, x),
            TypeError,
            "must keep its structure: before, carry is a leaf, but after, carry is a tuple",
        ),
        (lambda x: tg.scan(lambda c, _: c, x, x), TypeError, "must return a pair"),
        (lambda x: tg.scan(lambda c, x: (c, x), x), ValueError, "xs holds no arrays: pass length="),
        (
            lambda x: tg.scan(lambda c, x: (c, x), x, {"a": x, "b": x[:2]}),
            ValueError,
            r"xs\['a'\] of shape \(3,\), xs\['b'\] of shape \(2,\): all need a first axis",
        ),
        (lambda x: tg.scan(lambda c, x: (c, x), x, x, length=4), ValueError, "length=4: all need"),
        (lambda x: tg.scan(lambda c, x: (c, x), x, [1.0]), ValueError, r"xs\[0\] of shape \(\)"),
        (lambda x: tg.scan(lambda c, x: (c, x), "c", x), TypeError, "scan: init is a str"),
        (lambda x: tg.scan(lambda c, _: (c, "y"), x, x), TypeError, "is a str, not an array"),
        (
            lambda x: tg.fori_loop(0, 2, lambda _, c: c[:2], x),
            TypeError,
            r"fori_loop: .*carry must",
        ),
        (
            lambda x: tg.while_loop(lambda c: c > 0, lambda c: c, x),
            TypeError,
            "while_loop: it takes one element to decide",
        ),
        (
            lambda x: tg.while_loop(lambda c: c[0] > 0, lambda c: c[:2] * 1, x),
            TypeError,
            "while_loop: .*carry must keep",
        ),
    ],
)
def test_errors_name_the_part_and_the_cure(
    wrap: Function, f: Function, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        wrap(f)(np.ones(3))


def test_errors_of_the_eager_loop_name_the_step() -> None:
    def cast(c: Any, i: Any) -> Any:
        return c.astype(np.float32 if i == 2 else np.float64), None

    with pytest.raises(TypeError, match="scan: step 2: carry must keep its shape and dtype"):
        tg.scan(cast, np.ones(2), np.arange(4))
    with pytest.raises(TypeError, match="at step 0, y is a leaf, but at step 1, y is a tuple"):
        tg.scan(lambda c, i: (c, (c, c) if i else c), np.ones(2), np.arange(2))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda c, _x, _t: tg.nn.dropout(c, rng=RNG), "draws random numbers"),
        (lambda c, x, t: setattr(t, "data", x) or c, "assigns the data of a tensor"),
        (lambda c, x, t: t.__iadd__(x) * c, "that lives on a new value"),
        (lambda c, _x, t: np.sum(leaf(1.0) * t).backward() or c, "the gradient of a leaf"),
    ],
)
def test_what_a_compiled_body_cannot_do(body: Function, message: str) -> None:
    t = tg.Tensor(values(2))

    @tg.compile
    def f(xs: Any) -> Any:
        return tg.scan(lambda c, x: (body(c, x, t), None), tg.zeros(2), xs)[0]

    with pytest.raises(tg.TraceError, match=message):
        f(values(3, 2))
    assert_array_equal(t.data, values(2))
    assert t.data.flags.writeable


def test_a_body_that_uses_something_else_for_the_derivative() -> None:
    weights = {"w": leaf(1.0), "v": leaf(2.0)}

    @tg.compile
    def f(x: Any) -> None:
        names = iter("wv")
        y, _ = tg.scan(lambda c, _: (c * weights[next(names)], None), x, length=2)
        y.backward()

    with pytest.raises(tg.GraphError, match="uses other tensors for the derivative"):
        f(np.ones(()))


JACOBIANS: dict[str, Function] = {
    "the ys of a scan": lambda x: tg.scan(lambda c, u: (np.tanh(c * u), c * x), x, x[:, None])[1],
    "the carry": lambda x: tg.fori_loop(0, 3, lambda i, c: np.tanh(c + x[i]), x),
    "a scan in a scan": lambda x: tg.scan(
        lambda c, u: (tg.scan(lambda d, v: (np.sin(d * v), None), c, x)[0] + u, c), x, x
    )[1],
    "a condition in a scan": lambda x: tg.scan(
        lambda c, u: (tg.cond(np.sum(c) > 0.5, np.sin, lambda d: d * u, c), c), x, x
    )[0],
    "a condition": lambda x: tg.cond(np.sum(x) > 0.0, lambda y: np.cumsum(y) * x, np.sin, x),
    "what is carried one by one": lambda x: tg.fori_loop(
        0, 2, lambda _, c: np.linalg.solve(np.diag(c + 2), c), x
    ),
}


@pytest.mark.numpy_program
@pytest.mark.parametrize("name", JACOBIANS)
def test_all_rows_of_a_jacobian_are_carried_back_in_one_loop(name: str) -> None:
    f, sources = JACOBIANS[name], []
    for size in 3, 5:
        x = np.linspace(0.2, 1.0, size)
        compiled = tg.compile(tg.jacobian(f))
        assert_allclose(compiled(x), tg.jacobian(f)(x), rtol=1e-10, atol=1e-14)
        sources.append(len(compiled.lower(x).source.splitlines()))
    assert sources[0] == sources[1]


CHANGES: dict[str, tuple[Function, Function]] = {
    "an item": (lambda s: s.box["k"], lambda s: s.box.update(k=3.0)),
    "an attribute": (lambda s: s.k, lambda s: setattr(s, "k", 3.0)),
    "an element": (lambda s: float(s.array[1]), lambda s: s.array.__setitem__(1, 3.0)),
    "a list": (lambda s: len(s.names), lambda s: s.names.append("c")),
    "nothing that it reads": (lambda s: s.k, lambda s: setattr(s, "other", 3.0)),
}


@pytest.mark.parametrize("loop", ["scan", "fori_loop", "cond"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_body_has_read_stays_until_the_derivative(change: str, loop: str) -> None:
    """The body is traced again for the derivative: a change is refused, and not read."""
    read, write = CHANGES[change]

    def f(x: Any, changes: bool) -> Any:
        x = tg.Tensor(x, requires_grad=True)
        s = SimpleNamespace(box={"k": 2.0}, k=2.0, array=np.arange(3.0), names=["a", "b"], other=1)
        step = lambda c: np.sin(c) * read(s)  # noqa: E731
        loops: dict[str, Function] = {
            "scan": lambda: tg.scan(lambda c, _: (step(c), None), x, length=2)[0],
            "fori_loop": lambda: tg.fori_loop(0, 2, lambda _, c: step(c), x),
            "cond": lambda: tg.cond(np.sum(x) > 0, step, np.negative, x),
        }
        y = loops[loop]()
        if changes:
            write(s)
        y.backward()
        return x.grad

    compiled = tg.compile(f)
    assert_allclose(compiled(1.0, changes=False), f(1.0, changes=False), rtol=1e-12)
    if change == "nothing that it reads":
        assert_allclose(compiled(1.0, changes=True), f(1.0, changes=True), rtol=1e-12)
    else:
        with pytest.raises(tg.GraphError, match="has changed before the derivative"):
            compiled(1.0, changes=True)


def test_stacks_that_share_memory_are_new_arrays() -> None:
    """The pullback reads the states before the steps; the path shows those after them."""

    def end(damping: Any, forces: Any) -> Any:
        def step(carry: Any, force: Any) -> Any:
            position, speed = carry
            speed = damping * speed + 0.01 * force
            position = position + 0.01 * speed
            return (position, speed), position

        return tg.scan(step, (0.0, 1.0), forces)[0][0]

    args = np.array(0.9), np.linspace(-1.0, 1.0, 20)
    compiled = tg.compile(tg.grad(end))
    for _ in range(2):
        assert_allclose(compiled(*args), tg.grad(end)(*args), rtol=1e-12)


def test_the_derivative_of_a_body_sees_the_variables_of_its_call() -> None:
    """The body is traced again for its derivative, after loops have changed what it refers to."""

    def layers(x: Any) -> Any:
        for i, factor in enumerate((0.5, 2.0, -1.0)):

            def cell(c: Any, u: Any) -> Any:
                return np.tanh(factor * c + u) * (i + 1)  # noqa: B023

            def recursive(c: Any, u: Any, n: int = 2) -> Any:
                return cell(c, u) if n == 0 else recursive(c, u, n - 1)

            slope = tg.grad(lambda c: np.sum(cell(c, 0.1) ** 2))
            slopes = lambda c, u: (recursive(c, u), cell(c, u) + slope(c))  # noqa: B023, E731
            _, x = tg.scan(slopes, x[0], x)
        return np.sum(x)

    x = values(4, 2)
    for derivative in (tg.grad(layers), tg.hessian(layers)):
        assert_allclose(tg.compile(derivative)(x), derivative(x), rtol=1e-10)
