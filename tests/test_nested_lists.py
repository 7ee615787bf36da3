"""Tensors in nested lists: an array of them carries their gradients, or the error says how to."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg

from .oracles import central_differences, leaf

Q = np.array([1.0, 2.0, 3.0])
A = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 4.0]])


def asarray(data: Any) -> Any:
    """Of numbers, the plain array, for the numeric derivative; of tensors, the tensor."""
    t = tg.asarray(data)
    return t if t.requires_grad else np.array(data)


# Functions of a vector, that pass on lists of its elements.
CALLS: dict[str, Callable[[Any], Any]] = {
    "asarray": lambda q: asarray([q[0], q[1] * 2, 3.0]),
    "asarray of rows": lambda q: asarray([[q[0], 1.0], (q[1], q[2])]),
    "asarray of arrays": lambda q: asarray([q, q * q, np.ones(3)]),
    "asarray, deep": lambda q: asarray([[[q[0]], [2]], [[q[1]], [q[0] * q[2]]]]),
    "Tensor": lambda q: tg.Tensor([q[0], 1.0, q[2]]) + 0.0,
    "stack": lambda q: tg.stack([[q[0], q[1]], [q[2], 1.0]], axis=1),
    "np.stack": lambda q: np.stack([q, [q[0], 2.0, q[0]]]),
    "np.concatenate": lambda q: np.concatenate([q, [q[0], 1.0]]),
    "np.hstack": lambda q: np.hstack([q[0], [q[1], q[2]]]),
    "full": lambda q: tg.full((2, 2), q[0] * q[1]),
    "full of a row": lambda q: tg.full((2, 2), [q[0], q[1]]),
    "np.full_like": lambda q: np.full_like(q, [q[2], q[1], q[1]]),
    "np.block": lambda q: np.block([[q[0], q[1]], [q[2], 1.0]]),
    "np.append": lambda q: np.append(q, [q[0], 1.0]),
    "np.insert": lambda q: np.insert(q, 1, [q[0], 1.0]),
    "operator": lambda q: q * [q[1], q[2], 1.0],
    "operator, reflected": lambda q: (q[1], q[2], 1.0) - q,
    "operator, in place": lambda q: (q * 1).__iadd__([q[1], q[2], 1.0]),
    "matrix product": lambda q: [[q[0], 1.0, q[1]], [0.0, q[2], 1.0]] @ q,
    "np.multiply": lambda q: np.multiply([q[1], q[2], 1.0], q),
    "np.add, keyword": lambda q: np.add(q, [q[1], q[2], 1.0], dtype=np.float64),
    "np.hypot.outer": lambda q: np.hypot.outer(q, [q[1], 1.0]),
    "np.dot": lambda q: np.dot(q, [q[1], 0.0, q[0]]),
    "np.einsum": lambda q: np.einsum("i,i->i", q, [q[0], 1.0, q[1]]),
    "np.linalg.solve": lambda q: np.linalg.solve([[q[0], 1.0], [0.5, q[1]]], q[:2]),
    "np.linalg.multi_dot": lambda q: np.linalg.multi_dot([q, A, [[q[0]], [1.0], [q[1]]]]),
    "np.cross": lambda q: np.cross(q, [q[0], 1.0, q[1]]),
    "np.where": lambda q: np.where([True, False, True], q, [q[1], q[2], q[2]]),
    "np.pad": lambda q: np.pad(q, 1, constant_values=(q[0], 0)),
    "np.select": lambda q: np.select([q > 2.5, q > 1.5], [[q[1], q[2], q[0]], q]),
    "np.clip": lambda q: np.clip(q, [q[1], 0.0, 0.0], [5.0, 1.5, q[0] * 2.5]),
    "np.clip, keyword": lambda q: np.clip(q, min=[q[1], 0.0, 0.0]),
    "np.average": lambda q: np.average(q * q, weights=[q[0], q[1], 1.0]),
    "np.interp": lambda q: np.interp([q[0] * 0.4, 3.0], [0.0, 2.0, 4.0], q),
    "np.polyval": lambda q: np.polyval([q[0], q[1]], q),
    "np.diff": lambda q: np.diff(q * q, prepend=[q[2]]),
    "np.linspace": lambda q: np.linspace([q[0], 1.0], q[1], 3),
    "np.apply_along_axis": lambda q: np.apply_along_axis(lambda r: asarray([r[1], r[0]]), 0, q),
    "item assignment": lambda q: filled(q),
    "np.put": lambda q: put(q),
    "softmax": lambda q: tg.nn.softmax([q[0], q[1], 0.5]),
    "tanh of a loss": lambda q: tg.nn.mse_loss([q[0], q[1]], [0.5, q[2]]),
    "safe_where": lambda q: tg.safe_where([True, False, True], np.log, [q[0], -1.0, q[2]]),
    "comprehension": lambda q: asarray([[x * y for x in q] for y in q]),
}  # fmt: skip


def filled(q: Any) -> Any:
    t = tg.zeros(3)
    t[1:] = [q[0], q[1]]
    return t


def put(q: Any) -> Any:
    t = tg.ones(3)
    np.put(t, [2, 0], [q[0], q[1] * q[2]])
    return t


@pytest.mark.parametrize("name", CALLS)
def test_gradients_reach_tensors_in_lists(name: str) -> None:
    fun = CALLS[name]

    def loss(q: Any) -> Any:
        out = fun(q)
        return np.sum(np.cos(np.arange(1.0, np.size(out) + 1)).reshape(np.shape(out)) * out**2)

    def number(q: Any) -> float:
        return float(loss(q).item())

    expected = central_differences(number, [Q], 0)
    gradient, hessian = tg.grad(loss)(Q), tg.hessian(loss)(Q)
    assert_allclose(gradient, expected, rtol=1e-7, atol=1e-9)
    assert_allclose(tg.jvp(loss, (Q,), (Q,))[1], expected @ Q, rtol=1e-7, atol=1e-9)
    x = leaf(Q)
    loss(x).backward()
    assert_array_equal(x.grad, gradient)
    assert_allclose(tg.hvp(loss, (Q,), (Q,)), hessian @ Q, rtol=1e-10, atol=1e-10)
    compiled = tg.compile(tg.grad(loss))
    for point in Q, Q + 0.125, Q:
        assert_allclose(compiled(point), tg.grad(loss)(point), rtol=1e-13, atol=1e-13)


def test_a_derivative_may_be_written_with_lists() -> None:
    @tg.differentiable(lambda g, _y, x: tg.asarray([g[0] * 2, g[1] * 3 * x[1] ** 2]))
    def f(x: Any) -> Any:
        return np.array([x[0] * 2, x[1] ** 3])

    a = np.array([1.0, 2.0])
    assert_array_equal(tg.jacobian(f)(a), np.diag([2, 12]))
    assert_array_equal(tg.grad(lambda x: np.sum(f(x) ** 2))(a), [8, 192])
    assert_array_equal(tg.hessian(lambda x: np.sum(f(x)))(a), np.diag([0, 12]))
    assert_array_equal(tg.compile(tg.grad(lambda x: np.sum(f(x))))(a), [2, 12])
    x = leaf(a)
    np.sum(f(x)).backward()
    assert type(x.grad) is np.ndarray


# -- shapes and dtypes


@pytest.mark.parametrize("make", [tg.asarray, tg.Tensor])
@pytest.mark.parametrize("untracked", [True, False])
def test_dtypes_are_numpys(make: Any, untracked: bool) -> None:
    parts = [np.float32(1.5), np.float16(2.0), np.float64(0.5), 2, 2.5, np.int64(3), True]
    for first in parts[:3]:
        for second in parts:
            expected = np.array([[first, second]])
            t = tg.Tensor(first) if untracked else leaf(first)
            assert t.dtype == np.asarray(first).dtype
            out = make([[t, second]])
            assert out.dtype == expected.dtype and out.requires_grad is not untracked
            assert_array_equal(out.detach(), expected)
            assert make([[t, second]], np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("parts", "place", "shape"),
    [
        (lambda q: [q[0], [q[1]]], r"\[0\].*\(\).*\[1\]", r"\(1,\)"),
        (lambda q: [[q[0], 1.0], [q[1]]], r"\[0\].*\(2,\).*\[1\]", r"\(1,\)"),
        (lambda q: [1.0, [q[1], q[2]]], r"\[0\].*\(\).*\[1\]", r"\(2,\)"),
        (lambda q: [[q, q], [q, q[:2]]], r"\[1\]\[0\].*\(3,\).*\[1\]\[1\]", r"\(2,\)"),
        (lambda q: [q, []], r"\[0\].*\(3,\).*\[1\]", r"\(0,\)"),
    ],
)
@pytest.mark.parametrize("make", [tg.asarray, tg.Tensor, lambda a: np.ones(3) * leaf(Q) * a])
def test_parts_of_other_shapes_are_named(parts: Any, place: str, shape: str, make: Any) -> None:
    with pytest.raises(ValueError, match=rf"one shape, but {place}.*{shape}"):
        make(parts(leaf(Q)))


def test_a_list_of_tensors_makes_no_leaf() -> None:
    x = leaf(2.0)
    with pytest.raises(tg.GraphError, match="requires_grad=True"):
        tg.Tensor([x, 1.0], requires_grad=True)
    with pytest.raises(ValueError, match="copy"):
        tg.asarray([1.0, tg.Tensor(2.0)], copy=False)
    with tg.no_grad():
        assert not tg.asarray([x, 1.0]).requires_grad
    assert tg.Tensor([tg.Tensor(2.0), 1.0], requires_grad=True).is_leaf
    assert tg.Tensor([x.detach(), 1.0], requires_grad=True).is_leaf


@pytest.mark.parametrize("value", [None, "a", {}, object()])
def test_what_is_no_number_is_refused_beside_tensors(value: Any) -> None:
    for make in tg.asarray, tg.Tensor:
        with pytest.raises(TypeError):
            make([leaf(1.0), value])


def test_lists_in_compiled_functions_of_plain_arrays() -> None:
    def f(x: Any) -> Any:
        return tg.asarray([x[0] * 2, 1.0, x[1]]) + tg.nn.softmax([x[0], x[1], x[2]])

    compiled = tg.compile(f)
    for a in Q, Q + 1, Q:
        assert_allclose(compiled(a), f(a), rtol=1e-15)


# -- where NumPy does not ask, the error says what keeps the gradient


@pytest.mark.parametrize(
    "fun",
    [
        lambda q: np.array([q[0], q[1]]),
        lambda q: np.asarray([q[0], 1.0]),
        lambda q: np.mean([q[0], q[1]]),
        lambda q: np.std([q[0], q[1]]),
        lambda q: np.linalg.norm([q[0], q[1]]),
        lambda q: np.append([q[0]], [q[1]]),
        lambda q: np.full(3, q[0]),
        lambda q: np.r_[q[0], q[1]],
        lambda q: np.c_[q, q],
        lambda q: np.zeros(3).__setitem__(slice(2), q[:2]),
        lambda q: np.zeros((2, 3)).__setitem__(0, q),
        lambda q: np.zeros(3).put([0], q[:1]),
        lambda q: np.ones(3).dot(q),
    ],
)
def test_refusals_name_first_what_keeps_the_gradient(fun: Any) -> None:
    cures = (
        r"tensorgrad\.asarray, numpy\.stack or numpy\.concatenate.*tensorgrad\.zeros.*"
        r"tensorgrad\.differentiable.*For the value alone, write \.item\(\).*\.detach\(\)"
    )
    with pytest.raises(TypeError, match=cures):
        tg.grad(lambda q: np.sum(fun(q) ** 2))(Q)


@pytest.mark.parametrize("write", [lambda b, t: b.__setitem__(0, t), lambda b, t: b.fill(t)])
def test_an_element_of_a_plain_array_is_no_place_for_a_tensor(write: Any) -> None:
    """NumPy replaces the error by its own, ours stays as its cause; and nothing is written."""
    b = np.zeros(2)
    with pytest.raises(ValueError, match="sequence") as caught:
        write(b, leaf(3.0))
    assert isinstance(caught.value.__cause__, TypeError)
    assert "tensorgrad.zeros" in str(caught.value.__cause__)
    assert_array_equal(b, 0)
    with pytest.raises(ValueError, match="sequence") as caught:
        tg.grad(lambda q: write(b, q))(3.0)
    assert "tensorgrad.zeros" in caught.value.__notes__[-1]  # Python shows it last
