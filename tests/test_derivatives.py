"""Transforms: to any order, of nested structures, forward and backward."""

import tracemalloc
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.engine.modes import set_mode

from .depth import FULL
from .oracles import assert_same, leaf
from .test_programs import SMOOTH, Step, programs, run

X = np.array([0.5, -1.0, 2.0])


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrocks_hessian(x: Any) -> Any:
    n = len(x)
    h = np.zeros((n, n))
    for i in range(n - 1):
        h[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        h[i + 1, i + 1] += 200
        h[i, i + 1] = h[i + 1, i] = -400 * x[i]
    return h


# -- orders


def forward(f: Any) -> Any:
    """The derivative of a function of one number, by jvp."""
    return lambda x: tg.jvp(f, (x,), (1.0,))[1]


@given(
    program=programs(SMOOTH, 2),
    at=st.tuples(st.sampled_from([-0.75, -0.25, 0.5, 1.0]), st.sampled_from([-1.0, 0.25, 0.75])),
    ways=st.lists(st.sampled_from([tg.grad, forward]), min_size=3, max_size=3),
)
def test_three_orders_of_random_programs(
    program: list[Step], at: tuple[float, float], ways: list[Any]
) -> None:
    """Each derivative, forward or backward, against differences of the one below it."""
    slope, start = at

    def f(t: Any) -> Any:
        return run(program, [start + slope * t, start - t * t])

    h = 2.0**-9
    for way in ways:
        derivative = way(f)
        near, far = (float(f(k * h)) - float(f(-k * h)) for k in (1, 2))
        actual = float(derivative(0.0))
        assert_allclose(actual, (8 * near - far) / (12 * h), rtol=1e-3, atol=1e-3 * scale(f))
        f = derivative


def scale(f: Any) -> float:
    return max(1.0, *(abs(float(f(t))) for t in (-0.01, 0.0, 0.01)))


def test_forward_and_backward_nest_in_every_order() -> None:
    f = lambda x: np.exp(np.tanh(x)) * x**3  # noqa: E731
    for ways in np.ndindex(2, 2, 2):
        nested = f
        for way in ways:
            nested = (tg.grad, forward)[way](nested)
        reference = tg.grad(tg.grad(tg.grad(f)))(0.7)
        assert_allclose(nested(0.7), reference, rtol=1e-13)


def test_no_perturbation_is_taken_for_another() -> None:
    assert tg.grad(lambda x: x * tg.grad(lambda y: x * y)(x))(3.0) == 6
    assert forward(lambda x: x * forward(lambda y: x * y)(x))(3.0) == 6
    assert forward(lambda x: x * tg.grad(lambda y: x + y)(1.0))(5.0) == 1
    assert tg.grad(lambda x: x * forward(lambda y: x + y)(1.0))(5.0) == 1


def test_rosenbrocks_hessian_is_exact() -> None:
    x = np.array([1.0, 2.0, 3.0, -1.0])
    assert_array_equal(tg.hessian(rosenbrock)(x), rosenbrocks_hessian(x))
    for mode in "reverse", "forward":
        assert_array_equal(tg.jacobian(tg.grad(rosenbrock), mode=mode)(x), rosenbrocks_hessian(x))


@given(program=programs(SMOOTH, 3))
def test_hessians_of_random_programs_are_symmetric(program: list[Step]) -> None:
    h = tg.hessian(lambda x: run(program, [x[0], x[1], x[2]]))(X)
    assert_allclose(h, h.T, rtol=1e-9, atol=1e-9 * np.abs(h).max())


@given(program=programs(SMOOTH, 3))
def test_hvp_is_the_hessian_times_the_vector(program: list[Step]) -> None:
    f = lambda x: run(program, [x[0], x[1], x[2]])  # noqa: E731
    v = np.array([1.0, -2.0, 0.5])
    expected = tg.hessian(f)(X) @ v
    assert_allclose(tg.hvp(f, (X,), (v,)), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_hvp_of_several_arguments() -> None:
    f = lambda a, b: np.sum(a**2 * b)  # noqa: E731
    products = tg.hvp(f, (X, X), (X, np.ones(3)))
    assert_allclose(products[0], 2 * X * X + 2 * X)
    assert_allclose(products[1], 2 * X * X)


# -- structures


class Pair(NamedTuple):
    first: Any
    second: Any


NESTED = {"w": [np.ones((2, 2)), 2.0], "p": Pair(np.array([1.0, 2.0]), (3.0, None))}


def total(s: Any) -> Any:
    return np.sum(s["w"][0] * s["w"][1]) + np.sum(s["p"].first) * s["p"].second[0] ** 2


def test_gradients_have_the_structure_of_the_argument() -> None:
    value, g = tg.value_and_grad(total)(NESTED)
    assert value == 8 + 27
    assert type(g["p"]) is Pair and type(g["w"]) is list and g["p"].second[1] is None
    assert_array_equal(g["w"][0], np.full((2, 2), 2.0))
    assert (g["w"][1], g["p"].second[0]) == (4, 18)
    assert_array_equal(g["p"].first, [9, 9])


def test_jvp_of_structures() -> None:
    _, gradient = tg.value_and_grad(total)(NESTED)
    y, slope = tg.jvp(lambda s: {"a": [total(s)], "b": 1.0}, (NESTED,), (gradient,))
    assert y["a"][0] == 35 and y["b"] == 1
    flat, _ = tg.ravel(gradient)
    assert slope["a"][0] == flat @ flat and slope["b"] == 0


def test_jacobian_of_structures() -> None:
    j = tg.jacobian(lambda s: [s["a"] * s["b"], np.sum(s["a"])])({"a": X, "b": 2 * X})
    assert_array_equal(j[0]["a"], np.diag(2 * X))
    assert_array_equal(j[0]["b"], np.diag(X))
    assert_array_equal(j[1]["a"], np.ones(3))
    assert_array_equal(j[1]["b"], np.zeros(3))


def test_a_tangent_of_another_structure_or_shape_is_an_error() -> None:
    message = r"jvp: .*: primals\[0\] is a list of length 1, but tangents\[0\] is an ndarray"
    with pytest.raises(TypeError, match=message):
        tg.jvp(lambda s: s[0], ([X],), (X,))
    message = r"primals\[0\] is a leaf, but tangents\[0\] is a list of length 1"
    with pytest.raises(TypeError, match=message):
        tg.jvp(np.sum, (X,), ([X],))
    message = r"jvp: primals\[0\] has shape \(3,\), but tangents\[0\] has shape \(2,\)"
    with pytest.raises(ValueError, match=message):
        tg.jvp(np.sum, (X,), (np.ones(2),))
    _, pullback = tg.vjp(lambda x: (x, x), X)
    message = "vjp: .*: output is a tuple of length 2, but cotangent is an ndarray"
    with pytest.raises(TypeError, match=message):
        pullback(X)


def test_an_output_given_twice_counts_twice() -> None:
    _, pullback = tg.vjp(lambda x: (x * x, [x * x, x]), X)
    y = X * X
    assert_array_equal(pullback((y, [y, X]))[0], 4 * X**3 + X)
    _, pullback = tg.vjp(lambda x: (x, x), X)
    assert_array_equal(pullback((X, X))[0], 2 * X)


def test_derivatives_by_a_module_are_a_module() -> None:
    net = tg.MLP(2, [3, 1], rng=0)
    x = np.random.default_rng(0).normal(size=(5, 2))

    def loss(net: Any) -> Any:
        return np.mean(net(x) ** 2) + sum(np.sum(p * p) for p in net.parameters())

    value, gradient = tg.value_and_grad(loss)(net)
    expected = loss(net)
    expected.backward()
    assert value.item() == expected.item()
    assert type(gradient) is tg.MLP
    for p, g in zip(net.parameters(), gradient.parameters(), strict=True):
        assert_allclose(g.data, p.grad)
    with tg.no_grad():
        _, plain = tg.value_and_grad(loss)(net)
    flat = tg.ravel(gradient)[0].data
    assert_allclose(tg.ravel(plain)[0].data, flat)
    _, slope = tg.jvp(loss, (net,), (gradient,))
    assert_allclose(slope.item(), flat @ flat)


def test_has_aux() -> None:
    f = lambda x: (np.sum(x * x), {"twice": 2 * x, "name": "aux"})  # noqa: E731
    (value, aux), g = tg.value_and_grad(f, has_aux=True)(X)
    assert value == 5.25 and aux["name"] == "aux"
    assert type(aux["twice"]) is np.ndarray
    assert_array_equal(g, 2 * X)
    g, aux = tg.grad(f, has_aux=True)(X)
    assert_array_equal(aux["twice"], g)
    _, pullback, aux = tg.vjp(f, X, has_aux=True)  # type: ignore[misc]
    assert_array_equal(pullback(1.0)[0], aux["twice"])
    with pytest.raises(TypeError, match=r"must return \(result, aux\), not Tensor"):
        tg.grad(np.sum, has_aux=True)(X)
    with pytest.raises(TypeError, match=r"must return \(result, aux\), not 3 values"):
        tg.vjp(lambda x: (x, x, x), X, has_aux=True)


def test_elementwise_grad() -> None:
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    assert_allclose(tg.elementwise_grad(np.tanh)(x), 1 - np.tanh(x) ** 2)
    second = tg.elementwise_grad(tg.elementwise_grad(lambda x: x**3))
    assert_allclose(second(x), 6 * x)
    assert_allclose(tg.elementwise_grad(lambda a, b: a * b, 1)(x, x), x)
    several = tg.elementwise_grad(lambda x: {"sin": np.sin(x), "more": [3 * x, 1.0]})
    assert_allclose(several(x), np.cos(x) + 3)
    with pytest.raises(TypeError, match=r"elementwise_grad: .* real float, not complex128"):
        tg.elementwise_grad(lambda x: x * 1j)(x)


def test_ravel_goes_both_ways_with_gradients() -> None:
    flat, unravel = tg.ravel(NESTED)
    assert flat.shape == (8,)
    assert_array_equal(tg.ravel(unravel(flat))[0], flat)
    gradient = tg.grad(lambda v: total(unravel(v)))(flat)
    assert_array_equal(gradient, tg.ravel(tg.grad(total)(NESTED))[0])
    with pytest.raises(ValueError, match=r"\(3,\), not \(8,\)"):
        unravel(X)
    assert tg.ravel([])[0].shape == (0,)
    single, unravel = tg.ravel([np.ones(2, np.float32), 1.0])
    assert [a.dtype for a in unravel(single)] == [np.float32, np.float64]


# -- what is outside


def test_a_gradient_penalty_reaches_the_parameters() -> None:
    w = leaf([[1.0, 2.0], [3.0, 4.0]])
    x = np.array([0.5, -0.5])
    net = lambda x: np.sum(np.tanh(w @ x))  # noqa: E731
    np.sum(tg.grad(net)(x) ** 2).backward()

    def penalty(values: Any) -> Any:
        y = 1 - np.tanh(values @ x) ** 2
        return np.sum((values.T @ y) ** 2)

    h = 1e-6
    for i in np.ndindex(2, 2):
        step = np.zeros((2, 2))
        step[i] = h
        numeric = (penalty(w.data + step) - penalty(w.data - step)) / (2 * h)
        assert_allclose(w.grad[i], numeric, rtol=1e-6)


@pytest.mark.parametrize("transform", [tg.jacobian, tg.hessian])
def test_matrices_of_tracked_functions_can_be_differentiated(transform: Any) -> None:
    w = leaf(X)
    f = {tg.jacobian: lambda x: np.tanh(x * w), tg.hessian: lambda x: np.sum(np.tanh(x * w))}
    matrix = transform(f[transform])(X)
    matrix.sum().backward()
    expected = tg.grad(lambda v: np.sum(transform(lambda x: f_of(transform, x, v))(X)))(X)
    assert_allclose(w.grad, expected)


def f_of(transform: Any, x: Any, w: Any) -> Any:
    return np.tanh(x * w) if transform is tg.jacobian else np.sum(np.tanh(x * w))


def test_jvp_of_a_function_of_outside_tensors_is_tracked() -> None:
    w = leaf(X)
    _, slope = tg.jvp(lambda x: np.tanh(x * w), (X,), (np.ones(3),))
    np.sum(slope).backward()
    t = np.tanh(X * X)
    assert_allclose(w.grad, (1 - t * t) * (1 - 2 * X * X * t))


# -- Jacobians in one pass


def test_rows_or_columns_whichever_are_fewer() -> None:
    calls = []

    @tg.differentiable(lambda g, _y, _x: calls.append(np.shape(g)) or g)
    def watched(x: Any) -> Any:
        return x * 1.0

    tall = tg.jacobian(lambda x: np.concatenate([watched(x), x, x]))(X)
    wide = tg.jacobian(lambda x: watched(x)[:1])(X)
    assert tall.shape == (9, 3) and wide.shape == (1, 3)
    with pytest.raises(ValueError, match="sideways"):
        tg.jacobian(np.sum, mode="sideways")  # type: ignore[arg-type]


def test_one_pass_carries_all_rows() -> None:
    shapes = []

    @tg.differentiable(lambda g, _y, _x: shapes.append(g.shape) or 2 * g)
    def twice(x: Any) -> Any:
        return 2 * x

    j = tg.jacobian(lambda x: twice(np.tanh(x)), mode="reverse")(X)
    assert_allclose(j, np.diag(2 * (1 - np.tanh(X) ** 2)))
    assert shapes == [(3,)]


def test_a_rule_that_needs_plain_arrays_goes_row_by_row() -> None:
    @tg.differentiable(lambda g, _y, _x: np.array([2 * float(v) for v in np.asarray(g)]))
    def twice(x: Any) -> Any:
        return 2 * x

    assert_array_equal(tg.jacobian(lambda x: twice(x))(X), 2 * np.eye(3))


def test_large_jacobians_go_in_chunks() -> None:
    n = 2100  # squared, more than one chunk holds
    x = np.linspace(-1, 1, n)
    j = tg.jacobian(np.tanh, mode="reverse")(x)
    assert_allclose(j.diagonal(), 1 - np.tanh(x) ** 2)
    assert np.count_nonzero(j) == n


# -- checkpoint


def test_checkpoint_changes_no_gradient() -> None:
    w = leaf([[0.5, -1.0], [2.0, 0.25]])
    block = lambda x: np.tanh(w @ np.exp(-x * x))  # noqa: E731
    x = np.array([0.3, -0.6])
    for f in (block, tg.checkpoint(block)):
        w.zero_grad()
        x_leaf = leaf(x)
        np.sum(f(f(x_leaf)) ** 2).backward()
        if f is block:
            expected = w.grad, x_leaf.grad
    assert_array_equal(w.grad, expected[0])
    assert_array_equal(x_leaf.grad, expected[1])
    replayed = tg.hessian(lambda x: np.sum(tg.checkpoint(block)(x)))(x)
    assert_same(replayed, tg.hessian(lambda x: np.sum(block(x)))(x))


def test_checkpoint_of_an_input_and_of_what_was_computed_from_it() -> None:
    w = leaf(X)
    square = w * w
    arguments = tg.checkpoint(lambda a, b: np.sin(a) + b)(w, square)
    outside = tg.checkpoint(lambda: w * square)()
    np.sum(arguments + outside).backward()
    assert_allclose(w.grad, np.cos(X) + 2 * X + 3 * X**2)


def test_checkpoint_of_several_results() -> None:
    @tg.checkpoint
    def f(x: Any, k: float = 1.0) -> Any:
        return {"sin": np.tanh(x) * k, "const": 3, "pair": (x * x, np.ones(3))}

    x = leaf(X)
    out = f(x, k=2.0)
    assert out["const"] == 3 and type(out["pair"][1]) is np.ndarray
    np.sum(out["sin"] * out["pair"][0]).backward()
    expected = tg.grad(lambda x: np.sum(2 * np.tanh(x) * x * x))(X)
    assert_allclose(x.grad, expected)
    with tg.no_grad():
        assert not f(x)["sin"].requires_grad
    assert type(f(X)["sin"]) is np.ndarray


def test_checkpoint_halves_the_memory_of_a_deep_chain() -> None:
    def peak(wrap: Any) -> int:
        @wrap
        def block(x: Any) -> Any:
            for _ in range(8):
                x = np.tanh(x)
            return x

        x = leaf(np.full(20_000, 0.5))
        tracemalloc.start()
        try:
            y = x
            for _ in range(8):
                y = block(y)
            np.sum(y).backward()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(tg.checkpoint) < 0.5 * peak(lambda f: f)


def test_checkpoint_uses_the_values_that_its_arguments_had() -> None:
    x, factor, computed = leaf(X), tg.Tensor(X), leaf(X) * 2
    out = np.sum(tg.checkpoint(lambda x, a, b: x * a * b)(x, factor, computed))
    factor[0] = 100.0
    computed *= 100.0
    out.backward()
    assert_array_equal(x.grad, 2 * X**2)


def test_checkpoint_notices_that_it_computes_something_else() -> None:
    rng = np.random.default_rng(0)
    noisy = tg.checkpoint(lambda x: x * rng.normal(size=3))
    with pytest.raises(tg.GraphError, match="something else"):
        np.sum(noisy(leaf(X))).backward()


# -- diagnostics


def test_an_anomaly_names_the_operation_and_the_users_line() -> None:
    x = leaf([1.0, 0.0])
    with np.errstate(all="ignore"):
        where = r"forward: log .*test_derivatives.py:\d+"
        with pytest.raises(tg.AnomalyError, match=where), tg.detect_anomaly():
            np.log(x)
        what = r"backward: .*sqrt.*inf at index \(1,\)"
        with pytest.raises(tg.AnomalyError, match=what), tg.detect_anomaly():
            np.sum(np.sqrt(x) * 2).backward()
        with pytest.raises(tg.AnomalyError, match=what), tg.detect_anomaly(), tg.enable_grad():
            np.sum(np.sqrt(x) * 2).backward()  # an inner mode keeps the hooks
        assert x.grad is None
        with tg.detect_anomaly():
            np.sum(np.tanh(x)).backward()
        np.log(x)  # outside of the block, nothing is said


def test_errors_in_the_backward_pass_name_the_users_line() -> None:
    @tg.differentiable(lambda _g, _y, _x: 1 / 0)
    def broken(x: Any) -> Any:
        return x * 1.0

    y = broken(leaf(X))
    with pytest.raises(ZeroDivisionError) as caught:
        np.sum(y).backward()
    assert any("broken" in n and "test_derivatives.py:" in n for n in caught.value.__notes__)
    y = np.tanh(leaf(X))
    np.sum(y).backward()
    with pytest.raises(tg.GraphError, match=r"tanh.*test_derivatives.py:\d+.*retain_graph"):
        np.sum(y).backward()


def test_profile_lists_what_was_recorded() -> None:
    w = leaf(np.ones((3, 2)))
    report = tg.profile(lambda x: np.sum(np.tanh(x @ w) * 2))(np.ones((5, 3)))
    assert report.result.shape == ()
    names = [o.name for o in report.operations]
    assert names == ["matmul", "tanh", "multiply", "sum"]
    assert [o.bytes for o in report.operations] == [0, 80, 0, 0]
    assert all(o.forward > 0 and o.backward > 0 for o in report.operations)
    assert all("test_derivatives.py" in o.place for o in report.operations)
    table = str(report).splitlines()
    assert len(table) == 6 and table[-1].startswith("total")
    assert "no operation was recorded" in str(tg.profile(np.sum)(np.ones(3)))


def test_what_a_derivative_records_has_the_line_that_asked_for_it() -> None:
    def slope(x: Any) -> Any:
        return tg.grad(lambda x: np.sum(tg.checkpoint(np.tanh)(x) ** 3))(x)

    report = tg.profile(slope)(tg.Tensor(X, requires_grad=True))
    first = slope.__code__.co_firstlineno
    assert {o.place.rpartition(":")[2] for o in report.operations} == {str(first + 1)}


def test_what_an_inner_mode_in_a_derivative_records_has_its_own_line() -> None:
    def derivative(g: Any, _y: Any, x: Any) -> Any:
        with tg.enable_grad():
            return g * np.cos(x)

    sine = tg.differentiable(derivative)(np.sin)
    report = tg.profile(tg.grad(sine))(leaf(0.5))
    (line,) = {o.place.rpartition(":")[2] for o in report.operations if o.name == "cos"}
    assert int(line) == derivative.__code__.co_firstlineno + 2


# -- gradcheck


def test_gradcheck_divides_by_the_step_that_was_made() -> None:
    assert tg.gradcheck(lambda x: x - 1e8, 1e8 + 0.3)


def test_gradcheck_of_equal_infinite_derivatives() -> None:
    with np.errstate(over="ignore"):
        assert tg.gradcheck(lambda x: x * 1e308 * 10, 0.0)


def test_gradcheck_of_second_order() -> None:
    @tg.differentiable(
        lambda g, _y, x: g * 3 * x.detach() ** 2 if isinstance(x, tg.Tensor) else g * 3 * x**2
    )
    def cube(x: Any) -> Any:  # its first derivative is right, and said to be constant
        return x**3

    assert tg.gradcheck(lambda x, y: np.tanh(x * y) @ x, [X, X + 1], order=2)
    assert tg.gradcheck(cube, X)
    with pytest.raises(tg.GradcheckError):
        tg.gradcheck(cube, X, order=2)
    assert not tg.gradcheck(cube, X, order=2, raise_exception=False)
    with pytest.raises(ValueError, match="order"):
        tg.gradcheck(np.tanh, X, order=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("f", "point", "name"),
    [
        (np.abs, np.array([1.0, 1e-9]), r"absolute at index \(1,\)"),
        (lambda x: np.maximum(x, x[::-1] * 2), np.array([2.0, 1 + 1e-9]), r"maximum at index"),
        (np.max, np.array([1.0, 3.0, 3 + 1e-9]), r"maximum.reduce at index"),
        (np.min, np.array([3.0, 1 + 1e-9, 1.0]), r"minimum.reduce at index"),
        (tg.nn.relu, np.array([-1.0, 0.0]), r"relu at index \(1,\)"),
    ],
)
def test_gradcheck_says_that_the_point_is_at_a_kink(f: Any, point: Any, name: str) -> None:
    with pytest.raises(tg.GradcheckError, match=f"within eps of a kink of {name}.*test_"):
        tg.gradcheck(lambda x: f(x), point)
    assert tg.gradcheck(lambda x: f(x), point + np.linspace(0.1, 0.2, point.size))


def _symmetric(g: Any, _y: Any, a: Any) -> Any:
    h = tg.grad(lambda a: np.sum(np.linalg.cholesky(a) * g))(a)
    return (h + h.mT) / 2


SYMMETRIC = np.array([[4.0, 1], [1, 3]])


@pytest.mark.parametrize(
    ("f", "point", "method", "hint"),
    [
        (tg.differentiable(_symmetric)(np.linalg.cholesky), SYMMETRIC, "central",
         r"\(g \+ g.T\) / 2 agrees: .*one triangle"),
        (np.linalg.cholesky, SYMMETRIC, "complex", 'at .*test_.*conjugate.*method="central"'),
        (lambda a: np.linalg.eigh(a)[1], np.diag([2.0, 1]), "central", "at .*test_.*signs"),
        (lambda a: np.linalg.svd(a)[0], np.eye(2), "central", "at .*test_.*of equal values"),
        (lambda a: np.linalg.qr(a)[0], SYMMETRIC - np.diag([4, 0]), "central", "signs"),
    ],
)  # fmt: skip
def test_gradcheck_says_that_a_convention_may_be_the_cause(
    f: Any, point: Any, method: Any, hint: str
) -> None:
    with pytest.raises(tg.GradcheckError, match=hint):
        tg.gradcheck(lambda a: f(a), point, method=method)


@pytest.mark.parametrize("a", [SYMMETRIC, np.diag([4.0, 3]), np.array([[4.0, 9], [1, 3]])])
def test_gradcheck_of_a_matrix_of_which_one_triangle_is_read(a: Any) -> None:
    assert tg.gradcheck(np.linalg.cholesky, a, order=2)
    assert tg.gradcheck(np.linalg.eigvalsh, a, order=2)


# -- examples


def test_an_implicit_function_has_a_derivative_of_its_own() -> None:
    """The root y of y + exp(y) = x, found by Newton's method; dy/dx = 1 / (1 + exp(y))."""

    @tg.differentiable(lambda g, y, _x: g / (1 + np.exp(y)))
    def root(x: Any) -> Any:
        y = np.zeros_like(x)
        for _ in range(50):
            y = y - (y + np.exp(y) - x) / (1 + np.exp(y))
        return y

    y = root(X)
    assert_allclose(y + np.exp(y), X)
    assert tg.gradcheck(root, X, order=2)


def test_a_double_pendulum_conserves_its_energy() -> None:
    """Its accelerations follow from the Lagrangian by Euler's equation."""

    def kinetic(q: Any, v: Any) -> Any:
        return v[0] ** 2 + v[1] ** 2 / 2 + v[0] * v[1] * np.cos(q[0] - q[1])

    def potential(q: Any) -> Any:
        return -9.81 * (2 * np.cos(q[0]) + np.cos(q[1]))

    def lagrangian(q: Any, v: Any) -> Any:
        return kinetic(q, v) - potential(q)

    force = tg.grad(lagrangian, 0)
    mass = tg.hessian(lagrangian, 1)
    coupling = tg.jacobian(tg.grad(lagrangian, 1), 0)

    def slope(state: Any) -> Any:
        q, v = state
        return np.array([v, np.linalg.solve(mass(q, v), force(q, v) - coupling(q, v) @ v)])

    def energy(state: Any) -> float:
        return float(kinetic(*state) + potential(state[0]))

    state, dt = np.array([[2.0, 1.0], [0.0, 0.5]]), 0.005
    start = energy(state)
    for _ in range(200 if FULL else 100):
        a = slope(state)
        b = slope(state + dt / 2 * a)
        c = slope(state + dt / 2 * b)
        d = slope(state + dt * c)
        state = state + dt / 6 * (a + 2 * b + 2 * c + d)
    assert abs(state[0, 0] - 2.0) > 0.5  # it moved
    assert abs(energy(state) - start) < 1e-6 * abs(start)


def test_scipys_optimizers_take_the_derivatives() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    start = np.array([-1.2, 1.0, 0.5])
    found = optimize.minimize(tg.value_and_grad(rosenbrock), start, jac=True, method="BFGS")
    assert_allclose(found.x, 1, atol=1e-5)
    found = optimize.minimize(
        tg.value_and_grad(rosenbrock),
        start,
        jac=True,
        hessp=lambda x, v: tg.hvp(rosenbrock, (x,), (v,)),
        method="Newton-CG",
    )
    assert_allclose(found.x, 1, atol=1e-5)
    flat, unravel = tg.ravel({"a": 1.0, "b": np.zeros(2)})
    loss = lambda v: (unravel(v)["a"] - 3) ** 2 + np.sum((unravel(v)["b"] - 1) ** 2)  # noqa: E731
    found = optimize.minimize(tg.value_and_grad(loss), flat, jac=True)
    assert_allclose(found.x, [3, 1, 1], atol=1e-6)


# -- what a review found


def test_jacobian_of_a_complex_output_goes_forward() -> None:
    rotation = lambda x: np.exp(1j * x)  # noqa: E731
    assert_allclose(tg.jacobian(rotation)(X), np.diag(1j * np.exp(1j * X)))
    with pytest.raises(TypeError, match="forward"):
        tg.jacobian(rotation, mode="reverse")(X)


@pytest.mark.parametrize("f", [lambda x: x, lambda x: (x, 2 * x), lambda x: {"x": x, "y": [x]}])
def test_checkpoint_of_a_function_that_returns_its_input(f: Any) -> None:
    def total(y: Any) -> Any:
        return sum(np.sum(leaf**2) for leaf in tg.tree.leaves(y))

    x = leaf(X)
    total(tg.checkpoint(f)(x)).backward()
    expected = tg.grad(lambda x: total(f(x)))(X)
    assert_array_equal(x.grad, expected)
    assert_array_equal(tg.grad(lambda x: total(tg.checkpoint(f)(x)))(X), expected)


def test_decorators_that_look_keep_those_outside() -> None:
    guarded = tg.guard()(lambda x: np.log(x))
    with np.errstate(all="ignore"), pytest.raises(tg.AnomalyError), tg.detect_anomaly():
        guarded(leaf([0.0]))
    looked_at = tg.detect_anomaly()(lambda x: np.log(x))
    with np.errstate(all="ignore"):
        np.log(leaf([0.0]))
        with pytest.raises(tg.AnomalyError):
            looked_at(leaf([0.0]))


def test_profile_of_a_function_that_calls_backward() -> None:
    w = leaf(X)
    report = tg.profile(lambda x: np.sum(np.tanh(x * w)).backward())(X)
    assert [o.name for o in report.operations] == ["multiply", "tanh", "sum"]


def test_what_transforms_return_is_the_callers_own() -> None:
    a, b = tg.grad(lambda a, b: np.sum(np.exp(a + b)), (0, 1))(tg.Tensor(X), tg.Tensor(X))
    a += 1
    assert_array_equal(b.data, np.exp(2 * X))
    t = np.ones(3)
    _, slope = tg.jvp(lambda x: x, (X,), (t,))
    assert not np.shares_memory(slope, t)
    j = tg.jacobian(lambda x: x + 1)(X)
    j[0, 0] = 5.0


def test_a_pullback_under_no_grad_notices_a_changed_primal() -> None:
    w = leaf(X)
    with tg.no_grad():
        _, pullback = tg.vjp(lambda w: w * w, w)
        w.data += 10
        with pytest.raises(tg.GraphError, match="changed"):
            pullback(X)


@pytest.mark.parametrize(
    ("f", "point"),
    [
        (lambda x: np.logaddexp(x[0], x[1]), [1.0, 1.0]),
        (lambda x: np.logaddexp2(x[0], x[1]), [1.0, 1.0]),
        (lambda x: np.sum(np.logaddexp.accumulate(x)), [1.0, 1.0, 1.0]),
        (lambda x: np.logaddexp.reduce(x), [1.0, 1.0, 1.0]),
        (lambda x: tg.special.xlogy(x[0], x[1]), [0.0, 2.0]),
        (lambda x: tg.special.xlog1py(x[0], x[1]), [0.0, 2.0]),
        (lambda x: tg.special.logsumexp(x[:2], b=x[2:]), [1.0, 2.0, 0.0, 1.0]),
        (np.prod, [0.0, 2.0, 0.0]),
        (lambda x: np.sum(np.cumprod(x)), [2.0, 0.0, 3.0]),
        (np.sinc, [0.0]),
        (lambda x: np.linalg.det(x.reshape(2, 2)), [1.0, 2.0, 2.0, 4.0]),
        (lambda x: x[0] ** x[1], [2.0, 0.0]),
    ],
)
def test_hessians_where_a_formula_could_take_a_branch(f: Any, point: list[float]) -> None:
    """Smooth functions, at points where two arguments are equal, or one is zero."""
    x, h = np.array(point), 1e-5
    hessian = tg.hessian(lambda x: np.sum(f(x)))(x)
    gradient = tg.grad(lambda x: np.sum(f(x)))
    steps = h * np.eye(len(x))
    numeric = np.array([(gradient(x + s) - gradient(x - s)) / (2 * h) for s in steps])
    assert_allclose(hessian, numeric, rtol=1e-6, atol=1e-8)
    assert_allclose(hessian, hessian.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("f", [np.add.reduceat, np.multiply.reduceat, np.logaddexp.accumulate])
def test_no_node_for_each_row(f: Any) -> None:
    nodes = []
    x = leaf(np.linspace(1, 2, 400))
    with set_mode(hooks=(lambda node, _: nodes.append(node),)):
        f(x, *([np.arange(0, 400, 2)] if f.__name__ == "reduceat" else []))
    assert len(nodes) < 10
