"""`differentiable` makes any function of arrays an operation, whatever it is written in."""

import ctypes
import ctypes.util
import gc
import pickle
import re
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg

from .oracles import leaf

X = np.array([0.3, 1.0, -2.0])
RNG = np.random.default_rng(0)


def second_order(f: Any, x: Any) -> bool:
    """Whether the gradient of the sum of f is differentiable, and right, itself."""
    return tg.gradcheck(lambda x: tg.grad(lambda x: np.sum(f(x)))(x), [x])


def kepler_slope(big_e: Any, e: Any) -> Any:
    return 1 / (1 - e * np.cos(big_e))


@tg.differentiable(
    lambda g, big_e, _m, e: g * kepler_slope(big_e, e),
    lambda g, big_e, _m, e: g * np.sin(big_e) * kepler_slope(big_e, e),
)
def kepler(m: Any, e: Any) -> Any:
    """The solution of E - e sin(E) = m, by an iteration that is not differentiated."""
    big_e = m
    for _ in range(30):
        big_e = big_e - (big_e - e * np.sin(big_e) - m) * kepler_slope(big_e, e)
    return big_e


def test_several_arguments_at_every_order() -> None:
    m = np.linspace(0, 3, 4)
    e = np.array([[0.1], [0.5]])
    assert tg.gradcheck(kepler, [m, e])
    assert second_order(lambda m: kepler(m, e), m)
    assert second_order(lambda e: kepler(m, e), e)
    assert tg.gradcheck(lambda e: tg.grad(lambda m: np.sum(kepler(m, e)))(m), [e])  # mixed
    third = tg.grad(tg.grad(tg.grad(lambda m: kepler(m, 0.5))))
    step = 1e-4
    second = tg.grad(tg.grad(lambda m: kepler(m, 0.5)))
    assert_allclose(third(1.0), (second(1 + step) - second(1 - step)) / (2 * step), rtol=1e-6)


def test_plain_arrays_stay_plain() -> None:
    assert type(kepler(np.ones(2), 0.5)) is np.ndarray
    assert not kepler(tg.Tensor([1.0]), 0.5).requires_grad
    assert pickle.loads(pickle.dumps(kepler)) is kepler
    assert kepler.__name__ == "kepler" and "iteration" in (kepler.__doc__ or "")


def test_a_compiled_function() -> None:
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    libm.erf.restype, libm.erf.argtypes = ctypes.c_double, [ctypes.c_double]

    def erf_back(g: Any, _y: Any, x: Any) -> Any:
        return g * 2 / np.sqrt(np.pi) * np.exp(-x * x)

    erf = tg.differentiable(erf_back)(np.vectorize(libm.erf))
    assert_allclose(erf(leaf(X)).data, erf(X), rtol=0)
    assert tg.gradcheck(erf, X)
    assert second_order(erf, X)
    x = leaf(0.0)
    tg.differentiable(erf_back)(libm.erf)(x).backward()  # its result is a Python number
    assert x.grad == 2 / np.sqrt(np.pi)


def test_a_vectorized_function_with_branches() -> None:
    step = np.vectorize(lambda a: a**3 if a > 0 else 0.0, otypes=[float])
    cubed = tg.differentiable(lambda g, _y, x: g * 3 * x * x * (x > 0))(step)
    assert tg.gradcheck(cubed, X)
    assert second_order(cubed, X)


def test_a_function_of_scipys_with_a_rule_of_ones_own() -> None:
    sp = pytest.importorskip("scipy.special")

    @tg.differentiable(lambda g, _y, x: g * np.log(x) / (1 - x))
    def dilogarithm(x: Any) -> Any:
        return sp.spence(x)

    x = np.linspace(1.5, 3, 5)
    assert tg.gradcheck(dilogarithm, x)
    assert second_order(dilogarithm, x)
    with pytest.raises(tg.NoRuleError, match=r"spence has no derivative rule.*differentiable"):
        sp.spence(leaf(x))


def test_a_solver_of_scipys_with_a_keyword() -> None:
    linalg = pytest.importorskip("scipy.linalg")

    def matrix_back(g: Any, y: Any, a: Any, _b: Any, lower: bool = False) -> Any:
        triangle = np.tri(len(y)) if lower else np.tri(len(y)).T
        return -np.outer(solve(a.T, g, lower=not lower), y) * triangle

    def vector_back(g: Any, _y: Any, a: Any, _b: Any, lower: bool = False) -> Any:
        return solve(a.T, g, lower=not lower)

    solve = tg.differentiable(matrix_back, vector_back)(linalg.solve_triangular)
    a, b = np.array([[2.0, 9, 9], [1, 3, 9], [4, 5, 6]]), np.array([1.0, -1, 2])
    for lower in True, False:
        assert tg.gradcheck(lambda a, b, lower=lower: solve(a, b, lower=lower), [a, b])
    assert second_order(lambda a: np.sum(solve(a, b, lower=True) ** 2), a)
    x = leaf(b)
    assert_array_equal(solve(a, b=x, lower=True).data, linalg.solve_triangular(a, b, lower=True))


class Polar(NamedTuple):
    r: Any
    angle: Any


def polar_back(i: int) -> Any:
    def vjp(g: Any, out: Any, _x: Any, _y: Any) -> Any:
        c, s = np.cos(out.angle), np.sin(out.angle)
        by_r, by_angle = ((c, -s / out.r), (s, c / out.r))[i]
        return g[0] * by_r + g[1] * by_angle

    return vjp


@tg.differentiable(polar_back(0), polar_back(1))
def polar(x: Any, y: Any) -> Polar:
    return Polar(np.hypot(x, y), np.arctan2(y, x))


@pytest.mark.parametrize("part", ["r", "angle"])
def test_several_results(part: str) -> None:
    x, y = np.array([1.0, -0.5]), np.array([2.0, 1.5])
    assert tg.gradcheck(lambda x, y: getattr(polar(x, y), part), [x, y])
    assert second_order(lambda x: getattr(polar(x, y), part), x)


def test_several_results_share_one_derivative() -> None:
    x = np.array([1.0, -0.5])
    out = polar(leaf(x), 2.0)
    assert type(out) is Polar and type(polar(x, 2.0)) is Polar
    assert tg.gradcheck(lambda x: polar(x, 2.0).r * polar(x, x + 1).angle, [x])
    there_and_back = tg.grad(lambda x: np.sum((lambda p: p.r * np.cos(p.angle))(polar(x, 2.0))))
    assert_allclose(there_and_back(x), [1, 1], rtol=1e-12)


def test_parameters_may_be_keywords_or_not() -> None:
    @tg.differentiable(lambda g, _y, _x, k=2, **_shift: g * k)
    def scaled(x: Any, k: int = 2, *, shift: float = 0.0) -> Any:
        return x * k + shift

    for call in (
        lambda x: scaled(x, 3),
        lambda x: scaled(x, k=3, shift=1.0),
        lambda x: scaled(shift=1.0, k=3, x=x),
    ):
        x = leaf(X)
        call(x).backward(np.ones(3))
        assert_array_equal(x.grad, [3, 3, 3])
    with pytest.raises(tg.NoRuleError, match="scaled has no derivative for its argument 1"):
        scaled(X, leaf(2.0))
    with pytest.raises(TypeError, match="requires grad"):
        scaled(leaf(X), shift=leaf(1.0))


def test_the_derivatives_come_before_the_function() -> None:
    @tg.differentiable
    def square(x: Any) -> Any:
        return x * x

    with pytest.raises(TypeError, match="takes the derivatives, and then the function"):
        square(2.0)  # type: ignore[type-var]


def test_any_number_of_arguments() -> None:
    @tg.differentiable(each=lambda i, g, y, *xs: g * y / xs[i])
    def product(*xs: Any) -> Any:
        return np.prod(np.broadcast_arrays(*xs), axis=0)

    assert tg.gradcheck(product, [X, 2.0, X[:, None]])


def test_an_argument_without_a_derivative() -> None:
    @tg.differentiable(None, lambda g, _y, n, x: g * n * x ** (n - 1))
    def monomial(n: Any, x: Any) -> Any:
        return x**n

    assert tg.gradcheck(lambda x: monomial(3, x), X)
    with pytest.raises(tg.NoRuleError, match="monomial has no derivative for its argument 0"):
        monomial(leaf(3.0), X)


def test_results_that_are_not_floats_are_untracked() -> None:
    @tg.differentiable(lambda g, _y, _x: g)
    def rounded(x: Any) -> Any:
        return np.rint(x).astype(int)

    assert not rounded(leaf(X)).requires_grad


def test_too_few_rules_or_parameters_are_errors_of_the_forward_call() -> None:
    @tg.differentiable(lambda g, _z, _x, y: g * y)
    def product(x: Any, y: Any) -> Any:
        return x * y

    with pytest.raises(tg.NoRuleError, match="product has no derivative for its argument 1"):
        product(leaf(X), leaf(X))
    product(leaf(X), X).backward(X)

    @tg.differentiable(lambda g, _z, _x: g)
    def total(x: Any, y: Any) -> Any:
        return x + y

    with pytest.raises(tg.NoRuleError, match=r"total has no derivative.*too many positional"):
        total(leaf(X), X)


def test_no_rule_at_all() -> None:
    @tg.differentiable()
    def opaque(x: Any) -> Any:
        return x + 1

    assert_array_equal(opaque(tg.Tensor(X)).data, X + 1)
    with pytest.raises(tg.NoRuleError, match="opaque has no derivative for its argument 0"):
        opaque(leaf(X))


@pytest.mark.parametrize("shape", [(5,), (2, 2)])
def test_a_derivative_of_another_shape_is_an_error(shape: Any) -> None:
    operation = tg.differentiable(lambda g, _y, _x: np.ones(shape, g.dtype))(lambda x: x * 2)
    x = leaf(X)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        operation(x).backward(np.ones(3))
    assert x.grad is None


def test_gradcheck_finds_a_wrong_rule() -> None:
    wrong = tg.differentiable(lambda g, y, _x: g * y)(np.tanh)
    with pytest.raises(tg.GradcheckError, match="analytic"):
        tg.gradcheck(wrong, X)


def test_an_unread_argument_is_not_kept() -> None:
    @tg.differentiable(lambda g, _y, _x: (g + _x.ndim) * _x.size)
    def described(x: Any) -> Any:
        return x

    x = leaf(X)
    described(x).backward(np.zeros(3))
    assert_array_equal(x.grad, [3, 3, 3])


def test_several_results_meet_at_second_order() -> None:
    """What a result gets from its users, and from the derivative that reads it, adds up."""

    @tg.differentiable(lambda g, y, _x: g[0] * y[1] - g[1] * y[0])
    def sin_and_cos(x: Any) -> Any:
        return np.sin(x), np.cos(x)

    def f(x: Any) -> Any:
        s, c = sin_and_cos(x)
        return s**3 + c * s

    def g(x: Any) -> Any:
        return np.sin(x) ** 3 + np.cos(x) * np.sin(x)

    ours, reference = f, g
    for _ in range(4):
        ours, reference = tg.grad(ours), tg.grad(reference)
        np.testing.assert_allclose(ours(1.0), reference(1.0), rtol=1e-13)


# -- forward rules, and operations that are forgotten


def solver(**options: Any) -> Any:
    """The solution of a system of equations; the derivatives call compiled code."""

    def solved(a: Any, b: Any) -> Any:
        return np.linalg.solve(np.asarray(a, float), np.asarray(b, float))

    def by_matrix(g: Any, y: Any, a: Any, _b: Any) -> Any:
        return -np.outer(solved(a.T, g), y)

    def by_vector(g: Any, _y: Any, a: Any, _b: Any) -> Any:
        return solved(a.T, g)

    return tg.differentiable(by_matrix, by_vector, **options)(solved)


def test_a_forward_rule_of_the_users_own() -> None:
    a, b = RNG.normal(size=(3, 3)) + 4 * np.eye(3), RNG.normal(size=3)
    u, v = RNG.normal(size=(3, 3)), RNG.normal(size=3)
    solve = solver(jvp=lambda t, y, a, _b: np.linalg.solve(a, t[1] - t[0] @ y))
    expected = tg.jvp(np.linalg.solve, (a, b), (u, v))[1]
    assert_allclose(tg.jvp(solve, (a, b), (u, v))[1], expected)
    by_b = tg.jvp(lambda b: solve(a, b), (b,), (v,))[1]
    assert_allclose(by_b, np.linalg.solve(a, v))
    assert_allclose(tg.jacfwd(solve, (0, 1))(a, b)[0], tg.jacrev(solve, (0, 1))(a, b)[0])


def test_a_transposed_rule_that_is_no_numpy_code_names_the_cure() -> None:
    with pytest.raises(TypeError) as error:
        tg.jvp(lambda b: solver()(np.eye(3), b), (np.ones(3),), (np.ones(3),))
    assert re.search(
        r"derivative of solved .*pass tensorgrad.differentiable.*jvp=", error.value.__notes__[-1]
    )


def test_a_forward_rule_needs_vjps() -> None:
    with pytest.raises(TypeError, match="pass the vjps, too"):
        tg.differentiable(jvp=lambda t, _y, x: t[0] * x)


def test_operations_are_forgotten_with_their_closures() -> None:
    def make(scale: Any) -> Any:
        @tg.differentiable(lambda g, _y, _x, power=1: g * scale * power)
        def scaled(x: Any, power: float = 1) -> Any:
            return x * scale * power

        return scaled

    def use() -> weakref.ref[Any]:
        scaled = make(np.ones(3))
        gradient = tg.grad(lambda x: np.sum(scaled(x, power=2)))
        assert_allclose(gradient(np.ones(3)), np.full(3, 2.0))
        return weakref.ref(scaled)

    gone = use()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("kind", [np.asarray, tg.Tensor, leaf])
def test_a_list_stays_a_list_that_later_changes_do_not_reach(kind: Any) -> None:
    def back(g: Any, _y: Any, x: Any, rows: Any) -> Any:
        out = np.zeros(x.shape)
        out[rows] = g
        return out

    @tg.differentiable(back)
    def rows_of(x: Any, rows: Any) -> Any:
        return x[rows] * 1.0  # with a tuple, it would be one element

    x, rows = np.arange(6.0).reshape(3, 2), [0, 2]
    y = rows_of(kind(x), rows)
    assert_array_equal(np.asarray(y.detach() if isinstance(y, tg.Tensor) else y), x[[0, 2]])
    compiled = tg.compile(lambda x: rows_of(x, [0, 2]))
    assert_array_equal(compiled(x), compiled(x))
    assert_array_equal(compiled(x), x[[0, 2]])
    loss = tg.grad(lambda x: np.sum(rows_of(x, rows) ** 2))
    assert_array_equal(loss(x), [[0, 2], [0, 0], [8, 10]])
    if kind is leaf:
        t = leaf(x)
        total = np.sum(rows_of(t, rows))
        rows[0] = 1
        total.backward()
        assert_array_equal(t.grad, [[1, 1], [0, 0], [1, 1]])
