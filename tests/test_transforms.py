"""Transforms, the gradient check and custom operations, at the edges of what they take."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.engine.registry import RULES
from tensorgrad.rules.shapes import stack

from .oracles import leaf


def test_argnums_may_be_negative_or_several() -> None:
    def f(a: Any, b: Any) -> Any:
        return a * b * b

    assert tg.grad(f, -1)(1.0, 3.0) == 6
    assert tg.grad(f, np.int64(1))(1.0, 3.0) == 6
    assert tg.grad(f, (1, 0))(1.0, 3.0) == (6, 9)
    for wrong in 2, -3, (0, 0), (0, -2):
        with pytest.raises(ValueError, match="argnums"):
            tg.grad(f, wrong)(1.0, 3.0)


def test_value_and_grad_gives_the_value_first() -> None:
    value, gradients = tg.value_and_grad(lambda a, b: np.sum(a * b), (0, 1))(np.ones(2), 3.0)
    assert value == 6
    assert_array_equal(gradients[0], [3, 3])
    assert gradients[1] == 2


@pytest.mark.parametrize("output", [lambda x: x * 1j, lambda x: x > 0])
def test_grad_of_something_that_is_not_a_real_float_is_an_error(output: Any) -> None:
    with pytest.raises(TypeError, match="real float"):
        tg.grad(output)(3.0)


def test_grad_of_several_elements_names_the_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2,\)"):
        tg.grad(lambda x: x * 2)(np.ones(2))


def test_integers_have_no_gradient() -> None:
    with pytest.raises(TypeError, match="int64"):
        tg.grad(np.sum)(np.array([1, 2]))


def test_a_leaf_changed_before_the_pullback_is_an_error() -> None:
    w = leaf([2.0])
    _, pullback = tg.vjp(lambda x: x * w, np.ones(1))
    w.data += 10
    with pytest.raises(tg.GraphError, match="changed"):
        pullback(np.ones(1))


def test_a_pullback_can_be_called_again_and_keeps_the_dtype() -> None:
    _, pullback = tg.vjp(lambda x: x, leaf(np.ones(2, np.float32)))
    for _ in range(2):
        (g,) = pullback(np.ones(2))
        assert g.dtype == np.float32
        assert_array_equal(g.data, [1, 1])


def test_a_transform_inside_no_grad_still_differentiates() -> None:
    with tg.no_grad():
        assert tg.grad(lambda x: x * x)(3.0) == 6
        assert not tg.grad(lambda x: x * x)(leaf(3.0)).requires_grad


def test_results_without_a_graph_are_plain_arrays() -> None:
    w = leaf(2.0)
    with tg.no_grad():
        value, gradient = tg.value_and_grad(lambda x: x * w)(3.0)
    assert type(value) is type(gradient) is np.ndarray and (value, gradient) == (6, 2)
    unused = tg.value_and_grad(lambda x, _y: x**2, (0, 1))(3.0, 1.0)
    assert all(type(y) is np.ndarray for y in (unused[0], *unused[1])) and unused == (9, (6, 0))


def test_derivatives_that_are_tensors_can_be_changed_one_by_one() -> None:
    g = tg.Tensor([1.0, 2.0])
    _, pullback = tg.vjp(lambda x, y: x + y, leaf(np.zeros(2)), leaf(np.zeros(2)))
    first, second = pullback(g)
    first *= 10.0
    for t, expected in (first, [10, 20]), (second, [1, 2]), (g, [1, 2]):
        assert type(t) is tg.Tensor
        assert_array_equal(t, expected)


def test_a_derivative_never_shares_the_memory_of_the_callers_array() -> None:
    x, g = np.zeros(2), np.ones(2)
    for f in (lambda x: x), (lambda x: x + 1.0), np.transpose:
        (gradient,) = tg.vjp(f, x)[1](g)
        _, derivative = tg.jvp(f, (x,), (g,))
        assert not np.shares_memory(gradient, g) and not np.shares_memory(derivative, g)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_jacobian_has_the_axes_of_the_output_before_those_of_the_input(mode: Any) -> None:
    x, weights = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 2, 2)
    jacobian = tg.jacobian(lambda x: np.sin(x)[None, :, :2] * weights, mode=mode)
    expected = np.zeros((3, 2, 2, 2, 3))
    for k, i, j in np.ndindex(3, 2, 2):
        expected[k, i, j, i, j] = np.cos(x[i, j]) * weights[k, i, j]
    assert_allclose(jacobian(x), expected)


def test_a_gradient_penalty_reaches_the_parameters() -> None:
    net = tg.MLP(2, [3, 1], rng=0)
    x = np.array([[0.5, -1.0], [0.2, 0.3]])

    def penalty() -> Any:
        return np.sum(tg.grad(lambda v: np.sum(net(v)))(x) ** 2)

    penalty().backward()
    weight = net.layers[0].weight
    gradient, step = weight.grad.copy(), 1e-6
    for index in np.ndindex(weight.shape):
        values = []
        for sign in 1, -1:
            changed = weight.data.copy()
            changed[index] += sign * step
            before, weight.data = weight.data, changed
            values.append(penalty().item())
            weight.data = before
        assert_allclose(gradient[index], (values[0] - values[1]) / (2 * step), rtol=1e-6)


def test_perturbations_are_not_confused() -> None:
    assert tg.grad(lambda x: x * tg.grad(lambda y: x * y)(x))(3.0) == 6
    assert tg.grad(lambda x: x * tg.grad(lambda y: x + y)(2.0))(5.0) == 1


def test_mixed_second_derivative_of_a_power_at_exponent_zero() -> None:
    def slope(p: Any, x: float = 2.0) -> Any:
        return tg.grad(lambda v: v**p)(x)

    assert slope(np.array(0.0)) == 0
    assert slope(np.array(0.0), 0.0) == 0
    assert tg.grad(slope)(0.0) == 0.5  # of p x**(p - 1) by p: x**(p - 1) (1 + p log x)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: tg.grad(f)(x),
        lambda f, x: tg.value_and_grad(f)(x),
        lambda f, x: tg.elementwise_grad(f)(x),
        lambda f, x: tg.jacobian(f)(x),
        lambda f, x: tg.hessian(f)(x),
        lambda f, x: tg.vjp(f, x),
        lambda f, x: tg.jvp(f, (x,), (x,)),
        lambda f, x: tg.hvp(f, (x,), (x,)),
        lambda f, x: tg.gradcheck(f, x),
        lambda _f, x: tg.Tensor(x, requires_grad=True),
    ],
)
@pytest.mark.parametrize("x", [np.arange(2), np.array([True, False]), 3])
def test_integers_are_refused_with_the_cure(transform: Any, x: Any) -> None:
    with pytest.raises(TypeError, match=r"x\.astype\(float\)|pass 3\.0"):
        transform(np.sum, x)


# -- gradcheck


def test_gradcheck_names_the_place_and_both_values() -> None:
    @tg.differentiable(lambda g, _y, x: g * 3 * x)
    def square(x: Any) -> Any:
        return x * x

    with pytest.raises(tg.GradcheckError, match=r"input 1 at index \(1,\).*analytic 6.*numeric 4"):
        tg.gradcheck(lambda _k, x: square(x)[1], [np.arange(2), np.array([1.0, 2.0])])
    assert not tg.gradcheck(square, np.ones(2), raise_exception=False)
    assert not tg.gradcheck(square, np.ones(2), method="complex", raise_exception=False)


def test_gradcheck_refuses_short_floats_with_the_cure() -> None:
    with pytest.raises(TypeError, match=r"float32.*astype\(numpy.float64\)"):
        tg.gradcheck(np.tanh, np.ones(2, np.float32))


@pytest.mark.parametrize("method", ["central", "complex"])
def test_gradcheck_takes_any_shape(method: Any) -> None:
    for shape in (), (0,), (2, 3), (2, 0):
        assert tg.gradcheck(lambda x: np.exp(x) * 2, np.full(shape, 0.3), method=method)
    with pytest.raises(ValueError, match="method"):
        tg.gradcheck(np.exp, 1.0, method="forward")  # type: ignore[arg-type]


def of_tensors_only(x: Any) -> Any:
    return x.exp() * 2  # plain arrays have no such method


def doubled_on_tensors(x: Any) -> Any:
    return np.sin(x) * (2 if isinstance(x, tg.Tensor) else 1)


def steeper_on_tensors(x: Any) -> Any:
    return np.sin(x) + (x - x.detach() if isinstance(x, tg.Tensor) else 0)


def written_to(x: Any) -> Any:
    x[0] = x[1] ** 2
    return x * x


@pytest.mark.parametrize("order", [1, 2])
def test_gradcheck_compares_with_plain_arrays(order: Any) -> None:
    x = np.array([0.3, 0.7])
    assert tg.gradcheck(of_tensors_only, x, order=order)
    assert tg.gradcheck(written_to, x, order=order)
    assert_array_equal(x, [0.3, 0.7])
    with pytest.raises(tg.GradcheckError, match=r"0\.59.* for tensors.*0\.29.* for plain arrays"):
        tg.gradcheck(doubled_on_tensors, x, order=order)
    with pytest.raises(tg.GradcheckError, match=r"shape .* for tensors"):
        tg.gradcheck(lambda x: x[: 1 + isinstance(x, tg.Tensor)], x, order=order)
    with pytest.raises(tg.GradcheckError, match=r"analytic 1\.76.*numeric 0\.76"):
        tg.gradcheck(steeper_on_tensors, x, order=order)
    for wrong in doubled_on_tensors, steeper_on_tensors:
        assert not tg.gradcheck(wrong, x, order=order, raise_exception=False)


# -- custom operations


def test_a_tensor_given_by_keyword_is_tracked() -> None:
    @tg.differentiable(lambda g, _y, _x: g)
    def straight_through(x: Any) -> Any:
        return np.round(x)

    x = leaf([0.4, 1.6])
    np.sum(straight_through(x=x)).backward()
    assert_array_equal(x.grad, [1, 1])
    assert type(straight_through(np.ones(2))) is np.ndarray


def test_a_vjp_may_take_keywords_together() -> None:
    @tg.differentiable(lambda g, _y, _x, **options: g * options["k"])
    def scaled(x: Any, *, k: float) -> Any:
        return x * k

    assert tg.gradcheck(lambda x: scaled(x, k=3.0), np.ones(2))


def test_joining_looks_up_its_reads_once_for_each_number_of_arrays() -> None:
    reads = RULES[stack].known_reads
    before = len(reads)
    for k in range(16):
        np.stack([leaf(1.0) if k >> i & 1 else 1.0 for i in range(4)] * 5)
    assert len(reads) <= before + 1


# -- arguments by name, and other names of the field


def test_arguments_by_name_may_be_passed_by_keyword_or_by_position() -> None:
    def f(x: Any, w: Any, *, shift: Any) -> Any:
        return np.sum(w * x**2 + shift * x)

    x, w, shift = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([0.5, 0.25])
    by_x = 2 * w * x + shift
    assert_allclose(tg.grad(f, argnames="x")(x, w, shift=shift), by_x)
    assert_allclose(tg.grad(f, argnames="x")(w=w, x=x, shift=shift), by_x)
    for got in (
        tg.grad(f, argnames=("shift", "x"))(x, w=w, shift=shift),
        tg.value_and_grad(f, argnames=("shift", "x"))(x, w, shift=shift)[1],
        tg.jacobian(f, argnames=("shift", "x"))(x, w, shift=shift),
        tg.elementwise_grad(f, argnames=("shift", "x"))(x, w, shift=shift),
    ):
        assert_allclose(got, (x, by_x))
    assert_allclose(tg.hessian(f, argnames="x")(w=w, x=x, shift=shift), np.diag(2 * w))
    assert_allclose(tg.jacfwd(f, argnames="w")(x, w, shift=shift), x**2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: tg.grad(f, argnames="z")(1.0, b=2.0), "argnames='z'.*the call has a, b"),
        (lambda f: tg.grad(f, argnames=("a", "a"))(1.0, b=2.0), "different names"),
        (lambda f: tg.grad(f, argnums=1, argnames="a"), "in place of argnums"),
        (lambda f: tg.grad(f, argnames=0), "must be a name"),
        (
            lambda f: tg.grad(f, argnames="b")(1.0, b=2),
            "complex arguments.*and b has dtype int",
        ),
    ],
)
def test_wrong_names(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make(lambda a, b: a * b)


def test_jacobians_in_the_direction_of_their_name() -> None:
    x = np.array([1.0, 2.0, 3.0])
    expected = tg.jacobian(lambda x: x[:2] * x[1])(x)
    assert_allclose(tg.jacfwd(lambda x: x[:2] * x[1])(x), expected)
    assert_allclose(tg.jacrev(lambda x: x[:2] * x[1])(x), expected)


def test_linearize_calls_the_function_once() -> None:
    calls = []

    def f(p: Any, x: Any) -> Any:
        calls.append(x)
        return {"y": np.sin(p["w"]) * x}

    primals = {"w": np.array([1.0, 2.0])}, np.array([3.0, 4.0])
    y, pushforward = tg.linearize(f, *primals)
    assert len(calls) == 1
    assert_allclose(y["y"], np.sin(primals[0]["w"]) * primals[1])
    for tangents in (primals, ({"w": np.ones(2)}, np.zeros(2))):
        assert_allclose(pushforward(*tangents)["y"], tg.jvp(f, primals, tangents)[1]["y"])
    assert len(calls) == 3
    mapped = tg.vmap(lambda t: pushforward(*primals[:0], {"w": t}, t)["y"])(np.eye(2))
    assert_allclose(mapped, np.diag(tg.jvp(f, primals, ({"w": np.ones(2)}, np.ones(2)))[1]["y"]))


def test_no_gradient_passes_where_it_is_stopped() -> None:
    x = np.array([1.0, 2.0])
    assert tg.stop_gradient(x) is x
    got = tg.grad(lambda x: np.sum(x * tg.stop_gradient({"a": [x * x, 3]})["a"][0]))(x)
    assert_allclose(got, x * x)
