"""Solvers: derivatives against closed forms and against central differences of SciPy's results."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import solvers

from .depth import one_in
from .oracles import central_differences, leaf

optimize = pytest.importorskip("scipy.optimize")

LINEAR = np.array([[4.0, 1.0], [2.0, 3.0]])
POINT = np.array([1.0, 2.0])


def circle_and_line(x: Any, r: Any) -> Any:
    return np.stack([x[0] ** 2 + x[1] ** 2 - r**2, x[0] - x[1]])


def kepler(e: Any, m: Any, ecc: Any) -> Any:
    return e - ecc * np.sin(e) - m


def quartic(x: Any, a: Any) -> Any:
    """Its Hessian is positive definite, and not diagonal."""
    return np.sum((x - a) ** 4) + np.sum(x) ** 2 * a[1] + x @ x


def minimum(a: Any, **options: Any) -> Any:
    return solvers.minimize(quartic, np.zeros(2), a, tol=1e-10, **options)


T = np.linspace(0, 1, 12)


def decay(p: Any, y: Any) -> Any:
    return p[0] * np.exp(-p[1] * T) - y


# -- equations


@pytest.mark.parametrize("linear_solver", ["dense", "gmres"])
@pytest.mark.parametrize("method", ["hybr", "lm", "krylov", "broyden1"])
def test_root_has_the_derivatives_of_the_closed_form(method: str, linear_solver: Any) -> None:
    def f(r: Any) -> Any:
        start = [1.0, 1.1]
        return solvers.root(
            circle_and_line, start, r, method, linear_solver=linear_solver, tol=1e-12
        ).x

    assert_allclose(f(2.0), np.sqrt([2, 2]))
    assert_allclose(tg.jacobian(f)(2.0), np.sqrt([0.5, 0.5]))
    assert_allclose(tg.jvp(f, (2.0,), (2.0,))[1], np.sqrt([2, 2]))
    if method == "hybr":
        assert_allclose(tg.hessian(lambda r: np.sum(f(r) ** 3))(2.0), 6 * 2 * np.sqrt(0.5))


@pytest.mark.parametrize("linear_solver", ["dense", "gmres"])
def test_root_of_linear_equations_is_solve(linear_solver: Any) -> None:
    def f(a: Any, b: Any) -> Any:
        return solvers.root(lambda x: a @ x - b, np.zeros(2), linear_solver=linear_solver).x

    for derive in (tg.jacobian, lambda f, argnums: tg.jacobian(tg.jacobian(f, argnums), argnums)):
        for i in range(2):
            expected = derive(np.linalg.solve, i)(LINEAR, POINT)
            assert_allclose(derive(f, i)(LINEAR, POINT), expected, atol=1e-10)


def test_jacobians_of_the_users_own_or_by_differences() -> None:
    asked = []

    def jac(x: Any, _r: Any) -> Any:
        asked.append(x)
        return [[2 * x[0], 2 * x[1]], [1.0, -1.0]]

    r = leaf(2.0)
    for given in (jac, False):
        found = solvers.root(circle_and_line, [1.0, 1.0], r, jac=given)
        assert_allclose(found.x.data, np.sqrt([2, 2]))
    assert asked
    assert not any(isinstance(x, tg.Tensor) for x in asked)


def test_a_system_without_tensors_is_scipys() -> None:
    found = solvers.root(circle_and_line, [1.0, 1.0], 2.0)
    assert type(found.x) is np.ndarray
    expected = optimize.root(circle_and_line, [1.0, 1.0], 2.0)
    assert found.keys() - {"njev"} == expected.keys()
    assert_allclose(found.x, expected.x)


@pytest.mark.parametrize(
    "options",
    [{"bracket": (0, 4)}, {"x0": 1.0}, {"x0": 1.0, "method": "halley"}, {"x0": 1, "x1": 2}],
)
def test_root_scalar_solves_keplers_equation(options: Any) -> None:
    def f(m: Any, ecc: Any) -> Any:
        return solvers.root_scalar(kepler, (m, ecc), xtol=1e-14, **options).root

    e = f(1.0, 0.5)
    slope = 1 / (1 - 0.5 * np.cos(e))
    assert_allclose(tg.grad(f, (0, 1))(1.0, 0.5), [slope, np.sin(e) * slope])
    assert_allclose(tg.grad(tg.grad(f))(1.0, 0.5), -0.5 * np.sin(e) * slope**3)
    assert_allclose(tg.jvp(f, (1.0, 0.5), (1.0, 0.0))[1], slope)


@pytest.mark.parametrize("linear_solver", ["dense", "gmres"])
def test_fixed_point_of_a_layer(linear_solver: Any) -> None:
    layer = tg.nn.Linear(3, 3, rng=0)
    x = np.linspace(-1, 1, 3)

    def equilibrium(x: Any) -> Any:
        return solvers.fixed_point(
            lambda z, x: np.tanh(layer(z) / 2 + x),
            np.zeros(3), x, xtol=1e-12, method="iteration", linear_solver=linear_solver,
        )  # fmt: skip

    z = x = leaf(x)
    for _ in range(60):
        z = np.tanh(layer(z) / 2 + x)
    expected = tg.grad(lambda x: np.sum(equilibrium(x) ** 2))(x)
    np.sum(z**2).backward()
    assert_allclose(expected.data, x.grad, rtol=1e-8)
    wanted = [p.grad for p in layer.parameters()]
    for p in layer.parameters():
        p.grad = None
    np.sum(equilibrium(x) ** 2).backward()
    for p, g in zip(layer.parameters(), wanted, strict=True):
        assert_allclose(p.grad, g, rtol=1e-8)


# -- optimization


METHODS = [
    None, "Nelder-Mead", "CG", "L-BFGS-B", "Newton-CG", "trust-exact", "trust-krylov", "SLSQP",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_minimize_has_the_derivatives_of_newtons_method(method: str | None) -> None:
    def newton(a: Any) -> Any:
        x = np.zeros(2)
        for _ in range(30):
            x = x - np.linalg.solve(tg.hessian(quartic)(x, a), tg.grad(quartic)(x, a))
        return x

    expected = tg.jacobian(newton)(POINT)
    linear_solver: Any = "cg" if method == "CG" else "dense"
    found = tg.jacobian(lambda a: minimum(a, method=method, linear_solver=linear_solver).x)(POINT)
    assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("linear_solver", one_in(2, ["dense", "gmres", "cg"]))
def test_second_derivatives_of_a_minimum(linear_solver: Any) -> None:
    def f(a: Any) -> Any:
        return minimum(a, method="trust-exact", linear_solver=linear_solver)

    assert tg.gradcheck(lambda a: f(a).x, POINT, order=2, rtol=1e-4)
    assert tg.gradcheck(lambda a: f(a).fun, POINT, order=2, rtol=1e-4)


def test_the_derivative_of_the_minimal_value_is_that_at_a_constant_minimum() -> None:
    a = leaf(POINT)
    found = minimum(a)
    x = found.x.data
    found.fun.backward()
    assert_allclose(a.grad, tg.grad(quartic, 1)(x, POINT), rtol=1e-6)


@pytest.mark.parametrize("method", [None, "SLSQP", "trust-constr", "Nelder-Mead"])
def test_variables_at_a_bound_stay_there(method: str | None) -> None:
    bounds = optimize.Bounds([1.0, -5.0], [np.inf, np.inf])
    options = {"method": method, "bounds": bounds, "tol": 1e-9}
    jacobian = tg.jacobian(lambda a: solvers.minimize(quartic, [1.5, 0.5], a, **options).x)(POINT)

    def second(a: Any) -> Any:
        along = lambda y: quartic(np.stack([np.ones(()), y]), a)  # noqa: E731
        return solvers.root_scalar(lambda y: tg.grad(along)(y), x0=1.0).root

    assert_allclose(jacobian, [np.zeros(2), tg.grad(second)(POINT)], rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "cauchy", "arctan", "huber"])
def test_least_squares_by_central_differences_of_scipys(loss: str) -> None:
    y = 2 * np.exp(-3 * T) + 0.1 * np.cos(5 * T)
    options: Any = {"loss": loss, "f_scale": 1.0 if loss == "arctan" else 0.055} | dict.fromkeys(
        ("xtol", "ftol", "gtol"), 1e-15
    )
    fit = lambda y: solvers.least_squares(decay, [1.5, 2.5], args=(y,), **options)  # noqa: E731
    shift = np.sin(3 * T)

    def along(s: Any) -> Any:
        found = optimize.least_squares(decay, [1.5, 2.5], args=(y + s * shift,), **options)
        return found.x @ [1.0, 2.0]

    numeric = central_differences(along, [np.array(0.0)], 0)
    analytic = tg.jvp(lambda s: fit(y + s * shift).x @ np.array([1.0, 2.0]), (0.0,), (1.0,))[1]
    assert_allclose(analytic, numeric, rtol=2e-3)
    found = fit(leaf(y))
    expected = optimize.least_squares(decay, [1.5, 2.5], args=(y,), **options)
    assert_allclose(found.cost.item(), expected.cost, rtol=1e-6)
    assert_allclose(found.fun.data, expected.fun, atol=1e-6)


def test_least_squares_takes_keywords_and_bounds() -> None:
    def residual(p: Any, y: Any, scale: Any = 1.0) -> Any:
        return (p - y) * scale

    def fit(y: Any) -> Any:
        bounds = ([-1, -1], [1, 1])
        return solvers.least_squares(
            residual, [0.0, 0.0], args=(y,), kwargs={"scale": 3.0}, bounds=bounds
        ).x

    jacobian = tg.jacobian(fit)(np.array([0.5, 2.0]))
    assert_allclose(jacobian, [[1, 0], [0, 0]], atol=1e-12)


# -- what all have in common


def test_gradients_reach_what_the_function_uses_from_outside() -> None:
    layer = tg.nn.Linear(2, 2, rng=0)
    target = np.array([0.3, -0.4])
    found = solvers.root(lambda x: layer(x) - target, np.zeros(2))
    np.sum(found.x).backward()
    solve = lambda w, b: np.sum(np.linalg.solve(w, target - b))  # noqa: E731
    expected = tg.grad(solve, (0, 1))(layer.weight.data, layer.bias.data)
    assert_allclose(layer.weight.grad, expected[0])
    assert_allclose(layer.bias.grad, expected[1])


def test_a_loop_variable_counts_as_it_was() -> None:
    a = leaf(4.0)
    total: Any = 0
    for k in (1.0, 2.0):
        total = total + solvers.root_scalar(lambda x: x**2 - k * a, x0=2.0).root  # noqa: B023
    total.backward()
    assert_allclose(a.grad, (1 / 2 + np.sqrt(2) / 2) / 2)


def test_samples_are_solved_one_by_one() -> None:
    f = lambda m, ecc: solvers.root_scalar(kepler, (m, ecc), bracket=(0, 4)).root  # noqa: E731
    m = np.array([0.5, 1.0, 2.0])
    assert_allclose(tg.vmap(f, (0, None))(m, 0.5), [f(v, 0.5) for v in m])
    slopes = [tg.grad(f)(v, 0.5) for v in m]
    assert_allclose(tg.vmap(tg.grad(f), (0, None))(m, 0.5), slopes)
    total = tg.grad(lambda ecc: np.sum(tg.vmap(f, (0, None))(m, ecc)))(0.5)
    assert_allclose(total, sum(tg.grad(f, 1)(v, 0.5) for v in m))
    nested = tg.vmap(lambda e: tg.vmap(lambda m: f(m, e))(m))(np.array([0.1, 0.5]))
    assert_allclose(nested, [[f(v, e) for v in m] for e in (0.1, 0.5)])


def test_nothing_is_recorded_without_gradients() -> None:
    with tg.no_grad():
        found = solvers.root(circle_and_line, [1.0, 1.0], leaf(2.0))
    assert isinstance(found.x, tg.Tensor)
    assert not found.x.requires_grad


SOLVED: dict[str, Callable[[Any], Any]] = {  # each is the root of a number
    "root": lambda f: solvers.root(f, [1.0]).x[0],
    "root by gmres": lambda f: solvers.root(f, [1.0], linear_solver="gmres").x[0],
    "root_scalar": lambda f: solvers.root_scalar(f, x0=1.0).root,
    "fixed_point": lambda f: solvers.fixed_point(lambda x: x - f(x) / 4, 1.0),
    "minimize": lambda f: solvers.minimize(lambda x: np.sum(f(x) ** 2), [1.0]).x[0],
    "least_squares": lambda f: solvers.least_squares(f, [1.0]).x[0],
}


@pytest.mark.parametrize("solver", SOLVED)
def test_the_derivative_is_that_of_the_function_as_it_was(solver: str) -> None:
    """What it reads may change before the derivative is computed."""
    a, state = leaf(2.0), {"factor": 1.0}
    x = SOLVED[solver](lambda x: x**2 - a * state["factor"])
    state["factor"] = 3.0
    x.backward()
    assert_allclose(a.grad, 1 / np.sqrt(8), rtol=1e-6)


@pytest.mark.parametrize("solver", SOLVED)
def test_complex_values_are_refused(solver: str) -> None:
    a = leaf(2.0)
    for f in (lambda x: x**2 - a * 1j, lambda x: x**2 - 1j):
        with pytest.raises(TypeError, match=r"real numbers.*not complex128|return a real float"):
            SOLVED[solver](f)


def test_a_changed_parameter_is_an_error() -> None:
    r = leaf(2.0)
    x = solvers.root(circle_and_line, [1.0, 1.0], r).x
    r.data = np.array(3.0)
    with pytest.raises(tg.GraphError, match="changed after root"):
        np.sum(x).backward()


def test_without_tensors_the_function_may_be_any_pythons() -> None:
    found = solvers.minimize(lambda x: math.cosh(x[0] - 1), [0.0], jac="2-point")
    assert_allclose(found.x, 1, atol=1e-4)
    found = solvers.least_squares(lambda x: [math.sinh(x[0] - 1)], [0.0], "2-point")
    assert_allclose(found.x, 1, atol=1e-4)
    assert_allclose(solvers.root_scalar(math.sin, bracket=(3, 4)).root, np.pi)


def test_a_start_may_be_tracked_and_gets_no_gradient() -> None:
    a, start = leaf(4.0), leaf(1.0)
    f = lambda x, a: x**2 - a  # noqa: E731
    x = solvers.root(f, [start], a).x[0]
    y = solvers.root_scalar(f, a, bracket=(start, 5.0)).root
    (x + y).backward()
    assert_allclose(a.grad, 0.5)
    assert start.grad is None


def test_a_guard_leaves_arrays_of_scipys_c_code_writeable() -> None:
    a, seen = leaf(2.0), []

    def f(x: Any) -> Any:
        seen.append(x)
        return x**2 - a

    with tg.guard():
        np.sum(solvers.root(f, [1.0]).x).backward()
    assert all(x.flags.writeable for x in seen if isinstance(x, np.ndarray))
    assert_allclose(a.grad, 1 / np.sqrt(8))


# -- refusals


def no_root(x: Any, a: Any) -> Any:
    return x**2 + a


REFUSALS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "not converged": (lambda a: solvers.root(no_root, 1.0, a).x, tg.GraphError, "has failed"),
    "stopped early": (
        lambda a: solvers.minimize(
            lambda x, a: np.sum((x - a) ** 4), [5.0], a, options={"maxiter": 1}
        ).x,
        tg.GraphError, "Maximum number of iterations",
    ),
    "multiple root": (
        lambda a: solvers.root_scalar(lambda x, a: (x - a) ** 3, a, bracket=(0.0, 2.0)).root,
        np.linalg.LinAlgError, "Singular",
    ),
    "constraints": (
        lambda a: solvers.minimize(
            lambda x, a: np.sum((x - a) ** 2), [1.0], a,
            constraints=[{"type": "eq", "fun": lambda x: x[0] - 1}],
        ).x,
        tg.NoRuleError, "tensorgrad.solvers.root",
    ),
    "no such linear solver": (
        lambda a: solvers.root(no_root, 1.0, a, linear_solver="lu").x, ValueError, "'lu'"  # type: ignore[arg-type]
    ),
    "a function that returns its gradient": (
        lambda a: solvers.minimize(lambda x, a: (a * x @ x, a * x), [1.0], a, jac=True).x,
        ValueError, "value alone",
    ),
    "no such loss": (
        lambda a: solvers.least_squares(no_root, 1.0, args=(a,), loss="l1").x, ValueError, "'l1'"
    ),
    "too few equations": (
        lambda a: solvers.root(lambda x, a: x[:1] - a, [1.0, 1.0], a, "krylov").x,
        ValueError, "as many equations",
    ),
    "complex start": (
        lambda a: solvers.root(no_root, [1j], a).x, TypeError, "real numbers"
    ),
    "no function": (lambda a: solvers.root(3, 1.0, a).x, TypeError, "a function first"),  # type: ignore[arg-type]
    "the wrong symmetric solver": (
        lambda a: solvers.root(
            lambda x, a: np.array([[0.0, 1.0], [-1.0, 0.0]]) @ x - a, [0.0, 0.0], a,
            linear_solver="cg",
        ).x,
        np.linalg.LinAlgError, 'or "gmres"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str) -> None:
    f, kind, message = REFUSALS[name]
    with pytest.raises(kind, match=message):
        tg.grad(lambda a: np.sum(f(a)))(1.0)


def test_a_compiled_function_cannot_call_a_solver() -> None:
    with pytest.raises(tg.TraceError, match=r"root calls SciPy.*outside of compiled code"):
        tg.compile(lambda a: solvers.root(circle_and_line, [1.0, 1.0], a).x)(2.0)


def test_a_sample_from_outside_is_refused() -> None:
    with pytest.raises(TypeError, match="pass it in args="):
        tg.vmap(lambda m: solvers.root_scalar(lambda e: kepler(e, m, 0.5), x0=1.0).root)(POINT)


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda a: optimize.brentq(lambda x: x - a, 0, 4), "root_scalar"),
        (lambda a: optimize.minimize(lambda x: np.sum(x**2), np.stack([a, a])), "minimize"),
        (lambda a: optimize.curve_fit(lambda x, p: p * x, T, T * a), "least_squares"),
    ],
)
def test_scipys_own_functions_refuse_tensors_and_name_the_solver(f: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"call tensorgrad.solvers.{name}"):
        f(leaf(1.0))


def test_within_a_solver_no_other_one_is_named() -> None:
    with pytest.raises(TypeError, match=r"numpy\.stack") as caught:
        solvers.root(lambda x: np.array([x[0], x[1]]), [1.0, 1.0])
    assert "Instead of SciPy" not in str(caught.value)


def test_a_failed_solver_returns_what_scipy_does() -> None:
    a = leaf(1.0)
    found = solvers.root(no_root, 1.0, a)
    assert not found.success
    assert_array_equal(found.x.data, optimize.root(no_root, 1.0, 1.0, jac=lambda x, _a: 2 * x).x)
