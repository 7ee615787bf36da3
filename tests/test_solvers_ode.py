"""Initial value problems and integrals: derivatives against closed forms and differences."""

import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tensorgrad as tg
from tensorgrad import solvers

from .depth import one_in
from .oracles import central_differences, leaf

integrate = pytest.importorskip("scipy.integrate")
linalg = pytest.importorskip("scipy.linalg")

EXPLICIT = ["RK23", "RK45", "DOP853"]
IMPLICIT = ["Radau", "BDF", "LSODA"]
WAYS = [
    *[(method, "discrete") for method in EXPLICIT],
    *[(method, "continuous") for method in (*EXPLICIT, *IMPLICIT)],
]
TIGHT: Any = {"rtol": 1e-8, "atol": 1e-10}
T = np.array([0.0, 0.3, 1.1, 2.0])
START = np.array([1.0, 0.5])


def decay(_t: Any, y: Any, k: Any) -> Any:
    return -k * y


def oscillator(_t: Any, y: Any, w: Any) -> Any:
    return [y[1], -(w**2) * y[0]]


def oscillation(t: Any, y0: Any, w: Any) -> Any:
    """The solution of `oscillator`, in closed form."""
    position = y0[0] * np.cos(w * t) + y0[1] / w * np.sin(w * t)
    velocity = -y0[0] * w * np.sin(w * t) + y0[1] * np.cos(w * t)
    return np.stack([position, velocity])


def driven(t: Any, y: Any, p: Any) -> Any:
    """Its slope depends on the time, and is not linear."""
    x, v = y
    return np.stack([v, -p[0] * np.sin(x) - p[1] * v + np.cos(p[2] * t)])


# -- first derivatives


@pytest.mark.parametrize("t_eval", one_in(2, [None, T, T[1:3]]))
@pytest.mark.parametrize(("method", "adjoint"), WAYS)
def test_the_derivative_of_exponential_decay(method: str, adjoint: Any, t_eval: Any) -> None:
    def f(k: Any) -> Any:
        options = TIGHT if method != "RK23" else {"rtol": 1e-6, "atol": 1e-8}
        y = solvers.solve_ivp(
            decay, (0, 2), [3.0], method, t_eval, args=(k,), adjoint=adjoint, **options
        ).y
        return y[0, -1]

    t = 2.0 if t_eval is None else t_eval[-1]
    tolerance = 1e-5 if method in ("BDF", "RK23", "LSODA") else 2e-7
    assert_allclose(f(0.5), 3 * np.exp(-0.5 * t), rtol=10 * tolerance)
    assert_allclose(tg.grad(f)(0.5), -3 * t * np.exp(-0.5 * t), rtol=10 * tolerance)


@pytest.mark.parametrize("backward", one_in(2, [True, False]))
@pytest.mark.parametrize(
    ("method", "adjoint"), [w for w in WAYS if w[0] in ("RK45", "DOP853", "Radau")]
)
def test_derivatives_by_start_times_and_parameters(
    method: str, adjoint: Any, backward: bool
) -> None:
    times = T[1:][::-1] if backward else T[1:]
    ends = [T[-1] + 0.1, 0.1] if backward else [0.1, T[-1] + 0.1]

    def exact(w: Any, y0: Any, span: Any, t: Any) -> Any:
        return oscillation(t - span[0], y0, w)

    def f(w: Any, y0: Any, span: Any, t: Any) -> Any:
        return solvers.solve_ivp(
            oscillator, span, y0, method, t, args=(w,), adjoint=adjoint, rtol=1e-9, atol=1e-9
        ).y

    args = (1.3, START, np.array(ends), times)
    weights = np.random.default_rng(0).normal(size=(2, 3))
    tangents = (0.3, np.array([1.0, -2.0]), np.array([0.2, 0.5]), np.array([1.0, 0.0, -1.0]))
    found, expected = (tg.jvp(h, args, tangents)[1] for h in (f, exact))
    assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
    for i in range(4):
        found, expected = (
            tg.grad(lambda *a, h=h: np.sum(weights * h(*a)), i)(*args) for h in (f, exact)
        )
        assert_allclose(found, expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(("method", "adjoint"), [("RK45", "discrete"), ("LSODA", "continuous")])
def test_the_last_step_moves_with_the_end(method: str, adjoint: Any) -> None:
    def f(t0: Any, t1: Any) -> Any:
        y = solvers.solve_ivp(
            oscillator, (t0, t1), START, method, args=(1.3,), adjoint=adjoint, **TIGHT
        ).y
        return y[:, -1] @ np.array([1.0, 2.0])

    position, velocity = oscillation(1.0, START, 1.3)
    slope = velocity - 2 * 1.3**2 * position
    assert_allclose(tg.grad(f, (0, 1))(0.5, 1.5), [-slope, slope], rtol=1e-5)
    assert_allclose(tg.jvp(f, (0.5, 1.5), (1.0, 2.0))[1], slope, rtol=1e-5)


@pytest.mark.parametrize("method", EXPLICIT)
def test_the_discrete_adjoint_is_the_derivative_of_the_computed_numbers(method: str) -> None:
    """With few, fixed steps: the numbers are far from the solution, and the derivative is exact."""
    options: Any = {"rtol": 1e3, "atol": 1e3, "first_step": 0.4, "max_step": 0.4}
    t = np.array([0.1, 0.55, 1.4, 2.0])
    p = np.array([2.0, 0.3, 1.7])

    def numbers(p: Any, y0: Any) -> Any:
        return integrate.solve_ivp(driven, (0, 2), y0, method, t, args=(p,), **options).y

    def f(p: Any, y0: Any) -> Any:
        return solvers.solve_ivp(driven, (0, 2), y0, method, t, args=(p,), **options).y

    assert_allclose(f(p, START), numbers(p, START), rtol=1e-12)
    weights = np.random.default_rng(0).normal(size=(2, 4))
    for i in range(2):
        numeric = central_differences(lambda *a: np.sum(weights * numbers(*a)), (p, START), i)
        found = tg.grad(lambda *a: np.sum(weights * f(*a)), i)(p, START)
        assert_allclose(found, numeric, rtol=1e-8, atol=1e-9)


def test_many_unknowns_and_a_function_that_decides_by_time_take_the_same_derivative() -> None:
    matrix = np.random.default_rng(0).normal(size=(20, 20)) / 5

    def switched(t: Any, y: Any, a: Any) -> Any:
        return a @ y if t < 0.5 else np.tanh(a @ y)

    def smooth(_t: Any, y: Any, a: Any) -> Any:
        return np.tanh(a @ y)

    for f, n in ((smooth, 20), (switched, 3), (smooth, 3)):
        options: Any = {"rtol": 1e3, "atol": 1e3, "first_step": 0.25, "max_step": 0.25}
        a, y0 = matrix[:n, :n], np.linspace(-1, 1, n)
        solve = lambda a: solvers.solve_ivp(f, (0, 1), y0, args=(a,), **options).y  # noqa: B023, E731
        shift = np.random.default_rng(1).normal(size=(n, n))
        along = lambda s: np.sum(np.sin(solve(a + s * shift)))  # noqa: B023, E731
        numeric = central_differences(along, [np.array(0.0)], 0)
        assert_allclose(tg.grad(along)(0.0), numeric, rtol=1e-8)
        assert_allclose(tg.jvp(along, (0.0,), (1.0,))[1], numeric, rtol=1e-8)


def test_kepler_orbit_closes() -> None:
    """The state after one period is the start; its derivative by the semi-major axis is known."""

    def newton(_t: Any, y: Any) -> Any:
        return np.concatenate([y[2:], -y[:2] / np.sum(y[:2] ** 2) ** 1.5])

    def after(a: Any, ecc: Any) -> Any:
        speed = np.sqrt((1 + ecc) / (a * (1 - ecc)))
        zero = np.zeros(())
        y0 = np.stack([a * (1 - ecc), zero, zero, speed])
        return solvers.solve_ivp(newton, (0, 2 * np.pi), y0, "DOP853", **TIGHT).y[:, -1]

    ecc = 0.3
    d_a, d_ecc = tg.jacobian(after, (0, 1), mode="reverse")(1.0, ecc)
    start = np.array([1 - ecc, 0, 0, np.sqrt((1 + ecc) / (1 - ecc))])
    assert_allclose(after(1.0, ecc), start, atol=1e-6)
    slope = np.array([0, start[3], -1 / start[0] ** 2, 0])
    # The period is 2 pi a^1.5, so that the orbit falls behind by 3 pi.
    assert_allclose(d_a, [start[0], 0, 0, -start[3] / 2] - 3 * np.pi * slope, atol=1e-5)
    assert_allclose(d_ecc, [-1, 0, 0, 1 / ((1 - ecc) ** 2 * start[3])], atol=1e-5)


@pytest.mark.parametrize("adjoint", ["discrete", "continuous"])
def test_a_stiff_or_neural_problem_has_the_gradients_of_its_parameters(adjoint: Any) -> None:
    model = tg.MLP(2, [8, 2], output_activation="linear", rng=0)
    y0 = np.random.default_rng(0).normal(size=(5, 2))

    def loss(**options: Any) -> Any:
        found = solvers.solve_ivp(lambda _t, y: model(y), (0, 1), y0, **options)
        assert found.y.shape[:2] == (5, 2)
        return np.sum(found.y[..., -1] ** 2)

    def gradients(**options: Any) -> list[Any]:
        for p in model.parameters():
            p.grad = None
        loss(**options).backward()
        return [p.grad for p in model.parameters()]

    found = gradients(adjoint=adjoint, **TIGHT)
    for p, g in zip(model.parameters(), found, strict=True):
        data, shift = p.data.copy(), np.sin(np.arange(p.size)).reshape(p.shape)

        def along(s: Any, p: Any = p, data: Any = data, shift: Any = shift) -> Any:
            p.data = data + s * shift
            with tg.no_grad():
                return loss(method="DOP853", rtol=1e-12, atol=1e-12).item()

        numeric = central_differences(along, [np.array(0.0)], 0)
        p.data = data
        assert_allclose(np.sum(g * shift), numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", one_in(3, IMPLICIT[::-1]))
def test_a_stiff_problem(method: str) -> None:
    """Robertson's, where integration backward in time would explode."""

    def robertson(_t: Any, y: Any, k: Any) -> Any:
        a, b, c = y
        fast, slow = k[1] * b * c, k[2] * b * b
        return [-k[0] * a + fast, k[0] * a - fast - slow, slow]

    k = np.array([0.04, 1e4, 3e7])

    def end(k: Any, solve: Any = solvers.solve_ivp) -> Any:
        return solve(
            robertson, (0, 10), [1.0, 0, 0], method, [10.0], args=(k,), rtol=1e-7, atol=1e-10
        ).y[0, 0]

    def radau(s: Any) -> Any:
        options: Any = {"rtol": 1e-10, "atol": 1e-13, "t_eval": [10.0], "args": (k * (1 + s),)}
        return integrate.solve_ivp(robertson, (0, 10), [1.0, 0, 0], "Radau", **options).y[0, 0]

    h = 1e-4
    numeric = [(radau(h * e) - radau(-h * e)) / (2 * h) for e in np.eye(3)]
    assert_allclose(tg.grad(end)(k) * k, numeric, rtol=2e-3)


# -- higher derivatives, and in which modes


@pytest.mark.parametrize("method", one_in(2, ["RK45", "DOP853"]))
def test_second_derivatives_and_forward_mode(method: str) -> None:
    weights = np.array([1.0, -0.5])

    def expected(w: Any, y0: Any, t: Any) -> Any:
        return np.sum(weights @ oscillation(t - 0.2, y0, w))

    def f(w: Any, y0: Any, t: Any) -> Any:
        y = solvers.solve_ivp(
            oscillator, (0.2, 1.6), y0, method, t, args=(w,), rtol=1e-7, atol=1e-7
        ).y
        return np.sum(weights @ y)

    args = (1.3, START, np.array([0.7, 1.5]))
    for i in range(3):
        assert_allclose(tg.hessian(f, i)(*args), tg.hessian(expected, i)(*args), atol=2e-4)
    tangents = (1.0, np.array([0.2, -1.0]), np.array([0.5, 1.0]))
    found, wanted = (tg.jvp(h, args, tangents)[1] for h in (f, expected))
    assert_allclose(found, wanted, rtol=1e-4)
    along = lambda h: lambda s: tg.jvp(lambda w: h(w, *args[1:]), (s,), (1.0,))[1]  # noqa: E731
    for derive in (tg.grad, lambda g: lambda s: tg.jvp(g, (s,), (1.0,))[1]):
        assert_allclose(derive(along(f))(1.3), derive(along(expected))(1.3), rtol=1e-3)


@pytest.mark.parametrize("method", ["RK45", "DOP853"])
def test_a_fit_by_the_jacobian_finds_the_parameters(method: str) -> None:
    truth = np.array([2.0, 0.3, 1.7])
    options: Any = {"t_eval": np.linspace(0.1, 2, 8), "rtol": 1e-6, "atol": 1e-8}

    def simulate(p: Any) -> Any:
        return solvers.solve_ivp(driven, (0, 2), START, method, args=(p,), **options).y

    forward, reverse = (tg.jacobian(simulate, mode=mode)(truth) for mode in ("forward", "reverse"))
    assert_allclose(forward, reverse, rtol=1e-10, atol=1e-12)
    measured = simulate(truth)
    fit = solvers.least_squares(lambda p: np.reshape(simulate(p) - measured, -1), truth * 0.9)
    assert_allclose(fit.x, truth, rtol=1e-6)


def test_derivatives_by_the_ends_of_second_order() -> None:
    def f(t0: Any, t1: Any, k: Any) -> Any:
        return solvers.solve_ivp(decay, (t0, t1), [1.0], args=(k,), **TIGHT).y[0, -1]

    exact = lambda t0, t1, k: np.exp(-k * (t1 - t0))  # noqa: E731
    for i in range(3):
        for j in range(i + 1):
            found, wanted = (tg.grad(tg.grad(h, i), j)(0.5, 2.0, 0.7) for h in (f, exact))
            assert_allclose(found, wanted, rtol=1e-5)


def test_samples_are_solved_one_by_one() -> None:
    def end(k: Any, y0: Any) -> Any:
        return solvers.solve_ivp(decay, (0, 1), y0, t_eval=[1.0], args=(k,), **TIGHT).y[0, 0]

    k = np.array([0.5, 1.0, 2.0])
    y0 = np.ones((3, 1)) * 2
    assert_allclose(tg.vmap(end)(k, y0), 2 * np.exp(-k), rtol=1e-6)
    assert_allclose(tg.vmap(tg.grad(end))(k, y0), -2 * np.exp(-k), rtol=1e-6)


def test_odeint_has_scipys_results_and_order_of_arguments() -> None:
    t = np.linspace(0, 2, 5)
    slope = lambda y, t, w: oscillator(t, y, w)  # noqa: E731
    expected = integrate.odeint(slope, START, t, (1.3,))
    assert_allclose(solvers.odeint(slope, START, t, (1.3,)), expected, atol=1e-6)
    first = solvers.odeint(oscillator, START, t, (1.3,), tfirst=True)
    assert_allclose(first, expected, atol=1e-6)
    found = tg.jacobian(lambda w: solvers.odeint(slope, START, t, (w,)))(1.3)
    wanted = tg.jacobian(lambda w: oscillation(t, START, w).T)(1.3)
    assert_allclose(found, wanted, atol=1e-5)


def test_without_tensors_the_result_is_scipys() -> None:
    events = [lambda _t, y, _w: y[0]]
    events[0].terminal = True  # type: ignore[attr-defined]
    kwargs: Any = {"args": (1.3,), "events": events, "dense_output": True}
    found = solvers.solve_ivp(oscillator, (0, 5), START, **kwargs)
    expected = integrate.solve_ivp(oscillator, (0, 5), START, **kwargs)
    assert type(found.y) is np.ndarray
    assert found.status == 1
    for name in ("t", "y"):
        assert_allclose(found[name], expected[name])
    assert_allclose(found.t_events[0], expected.t_events[0])
    assert_allclose(found.sol(0.3), expected.sol(0.3))


def test_without_tensors_the_function_may_be_any_pythons() -> None:
    def slope(t: float, y: Any) -> Any:
        found = np.empty(1)
        found[0] = math.cos(t) * y[0]
        return found

    y = solvers.solve_ivp(slope, (0, 1), [1.0], **TIGHT).y
    assert_allclose(y[0, -1], np.exp(np.sin(1)), rtol=1e-6)
    assert_allclose(solvers.quad(math.sin, 0, 1)[0], 1 - np.cos(1))


def test_a_given_jacobian_and_no_gradient_of_times_that_have_none() -> None:
    asked = []

    def jac(_t: Any, _y: Any, k: Any) -> Any:
        asked.append(k)
        return [[-k]]

    k = leaf(0.5)
    found = solvers.solve_ivp(decay, (0, leaf(2.0)), [1.0], "BDF", args=(k,), jac=jac, **TIGHT)
    found.y[0, -1].backward()
    assert asked
    assert_allclose(k.grad, -2 * np.exp(-1), rtol=1e-4)


def test_nothing_is_recorded_without_gradients_and_nothing_outlives_a_result() -> None:
    k = leaf(0.5)
    with tg.no_grad():
        assert not solvers.solve_ivp(decay, (0, 1), [1.0], args=(k,)).y.requires_grad
    found = solvers.solve_ivp(decay, (0, 1), [1.0], args=(k,))
    node = weakref.ref(found.y._node)
    del found
    assert node() is None


# -- refusals


def solve(fun: Any, k: Any, *args: Any, **options: Any) -> Any:
    return solvers.solve_ivp(fun, (0, 2), [1.0], *args, args=(k,), **options).y


REFUSALS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "explosion": (lambda k: solve(lambda _t, y, k: k * y**2, k), tg.GraphError, "has failed"),
    "dense output": (lambda k: solve(decay, k, dense_output=True), tg.NoRuleError, "t_eval"),
    "events": (
        lambda k: solve(decay, k, events=lambda _t, y, _k: y[0] - 0.5),
        tg.NoRuleError, "root_scalar",
    ),
    "steps of LSODA": (lambda k: solve(decay, k, "LSODA", adjoint="discrete"), ValueError, "RK45"),
    "no such adjoint": (lambda k: solve(decay, k, adjoint="backward"), ValueError, "'backward'"),
    "no such method": (lambda k: solve(decay, k, "dopri5"), ValueError, "'dopri5'"),
    "vectorized": (lambda k: solve(decay, k, vectorized=True), ValueError, "leave out"),
    "another shape": (lambda k: solve(lambda _t, _y, k: k, k), ValueError, r"shape of y0, \(1,\)"),
    "complex with a Jacobian": (
        lambda k: solvers.solve_ivp(decay, (0, 2), [1j], args=(k,), jac=[[1.0]]).y,
        TypeError, "leave out jac=",
    ),
    "complex dense output": (
        lambda k: solvers.solve_ivp(decay, (0, 2), [1j], args=(k,), dense_output=True).y,
        TypeError, "t_eval in place of dense_output",
    ),
    "complex slopes": (lambda k: solve(lambda _t, y, k: 1j * k * y, k), TypeError, "real numbers"),
    "no result": (lambda k: solve(lambda _t, _y, _k: None, k), TypeError, "returned None"),
    "one time": (
        lambda k: solvers.solve_ivp(decay, 2.0, [1.0], args=(k,)).y, ValueError, "two times"
    ),
    "samples without times": (
        lambda k: tg.vmap(lambda k: solve(decay, k))(np.stack([k, k])), ValueError, "pass t_eval"
    ),
    "odeint of one time": (lambda k: solvers.odeint(decay, k, [0.0]), ValueError, r"shape \(1,\)"),
    "arguments of SciPy's odeint": (
        lambda k: solvers.odeint(decay, k, [0, 1], hmax=0.1), TypeError, "use max_step="
    ),
    "complex integrand": (
        lambda k: solvers.quad(lambda x: np.exp(1j * k * x), 0, 1)[0], TypeError, "real numbers"
    ),
    "an integrand of vectors": (
        lambda k: solvers.quad(lambda x: x * np.stack([k, k]), 0, 1)[0], ValueError, "one number"
    ),
    "array of tensors": (
        lambda k: solve(lambda _t, y, k: np.array([k * y[0]]), k), TypeError, "numpy.stack"
    ),
    "second derivatives": (
        lambda k: tg.grad(lambda k: np.sum(solve(decay, k, "LSODA")))(k), tg.NoRuleError, "discrete"
    ),
    "weight": (
        lambda k: solvers.quad(lambda x: k * x, 0, 1, weight="cos", wvar=1.0)[0],
        tg.NoRuleError, "write the weight",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str) -> None:
    f, kind, message = REFUSALS[name]
    with pytest.raises(kind, match=message):
        tg.grad(lambda k: np.sum(f(k)))(1.0)


def test_a_parameter_that_only_later_times_use_must_be_an_argument() -> None:
    early, late = leaf(0.5), leaf(0.25)

    def slope(t: Any, y: Any, *args: Any) -> Any:
        return -early * y if t < 1 else -(args[0] if args else late) * y

    with pytest.raises(tg.GraphError, match="pass it in args="):
        solvers.solve_ivp(slope, (0, 2), [1.0]).y[0, -1].backward()
    y = solvers.solve_ivp(slope, (0, 2), [1.0], args=(late,), max_step=0.1, **TIGHT).y[0, -1]
    y.backward()
    assert_allclose([early.grad, late.grad], -np.exp(-0.75) * np.ones(2), rtol=1e-3)


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("adjoint", ["discrete", "continuous"])
def test_a_function_that_has_changed_since_is_an_error(adjoint: Any, count: int) -> None:
    k, state = leaf(0.5), {"factor": 1.0}
    f = lambda _t, y: -k * state["factor"] * y  # noqa: E731
    found = solvers.solve_ivp(f, (0, 1), np.ones(count), adjoint=adjoint).y
    integral = solvers.quad(lambda x: f(0, x), 0, 1)[0]
    state["factor"] = 1.01
    for y in (np.sum(found), integral):
        with pytest.raises(tg.GraphError, match="computed something else before"):
            y.backward()


def test_the_callers_arrays_may_change_after_the_call() -> None:
    k, start, times = leaf(0.5), np.ones(1), np.array([0.5, 1.0])
    y = solvers.solve_ivp(decay, (0, 1), start, t_eval=times, args=(k,), **TIGHT).y[0, -1]
    start[:], times[:] = 5.0, 0.1
    y.backward()
    assert_allclose(k.grad, -np.exp(-0.5), rtol=1e-6)


def test_constant_limits_need_no_value_there() -> None:
    f = lambda p: solvers.quad(lambda x: x**-p, 0, 1)[0]  # noqa: E731
    assert_allclose(tg.grad(f)(0.5), 4)


def test_args_may_be_a_list_as_in_scipy_or_a_single_argument() -> None:
    k = leaf(0.5)
    for args in ([k], (k,), k):
        y = solvers.solve_ivp(decay, (0, 1), [1.0], t_eval=[1.0], args=args).y
        assert_allclose(y.data, np.exp(-0.5), rtol=1e-3)


def test_odeint_that_fails_raises() -> None:
    with pytest.raises(RuntimeError, match="odeint: "):
        solvers.odeint(lambda y, _t: y**2, 1.0, np.array([0.0, 2.0]), method="RK45")


# -- quadrature


def test_an_integral_over_all_numbers() -> None:
    def gauss(s: Any) -> Any:
        return solvers.quad(lambda x: np.exp(-s * x * x), -np.inf, np.inf)[0]

    value = np.sqrt(np.pi / 1.7)
    assert_allclose(gauss(1.7), value)
    assert_allclose(tg.grad(gauss)(1.7), -value / (2 * 1.7))
    assert_allclose(tg.grad(tg.grad(gauss))(1.7), 3 * value / (4 * 1.7**2))
    assert_allclose(tg.jvp(gauss, (1.7,), (2.0,))[1], -value / 1.7)


@pytest.mark.parametrize(
    "limits", one_in(2, [(1.5, 0.2), (0.2, 1.5), (-np.inf, 0.2), (0.2, np.inf)])
)
def test_derivatives_by_limits_and_parameters(limits: Any) -> None:
    def f(a: Any, b: Any, p: Any) -> Any:
        g = lambda x, p: p[0] * x * np.exp(-p[1] * x * x)  # noqa: E731
        return solvers.quad(g, a, b, (p,), epsabs=1e-11, epsrel=1e-11)[0]

    def exact(a: Any, b: Any, p: Any) -> Any:
        at = lambda x: np.exp(-p[1] * x * x) if np.all(np.isfinite(x)) else 0.0  # noqa: E731
        return p[0] / (2 * p[1]) * (at(a) - at(b))

    args = (*limits, np.array([2.0, 0.7]))
    assert_allclose(f(*args), exact(*args))
    for i in range(3):
        assert_allclose(tg.grad(f, i)(*args), tg.grad(exact, i)(*args), atol=1e-9)
        assert_allclose(tg.hessian(f, i)(*args), tg.hessian(exact, i)(*args), atol=1e-8)


def test_integrals_nest_and_take_samples() -> None:
    def inner(x: Any, s: Any) -> Any:
        return solvers.quad(lambda y: np.exp(-s * y), 0, x)[0]

    def double(s: Any) -> Any:
        return solvers.quad(lambda x: inner(x, s), 0, 1)[0]

    exact = lambda s: 1 / s - (1 - np.exp(-s)) / s**2  # noqa: E731
    assert_allclose(double(0.7), exact(0.7))
    assert_allclose(tg.grad(double)(0.7), tg.grad(exact)(0.7))
    b = np.array([0.5, 1.0])
    assert_allclose(tg.vmap(lambda b: solvers.quad(np.sin, 0, b)[0])(b), 1 - np.cos(b))


def test_quad_returns_what_scipy_does() -> None:
    assert solvers.quad(np.sin, 0, 1) == integrate.quad(np.sin, 0, 1)
    y, error, info = solvers.quad(np.sin, 0, leaf(1.0), full_output=1)
    assert (y.item(), error) == integrate.quad(np.sin, 0, 1)
    assert info["neval"] == 21


# -- complex states


def turning(_t: Any, y: Any, k: Any) -> Any:
    """Two coupled oscillators, as of a quantum system."""
    return -1j * np.stack([k * y[..., 0] + y[..., 1], y[..., 0] - k * y[..., 1]], axis=-1)


COMPLEX = np.array([1.0 + 0.5j, 0.25j])


@pytest.mark.parametrize("method", ["RK45", "DOP853", "BDF"])
def test_complex_states_are_scipys(method: str) -> None:
    options = {"rtol": 1e-8, "atol": [1e-8, 1e-9], "t_eval": [0.0, 0.3, 2.0]}
    expected = integrate.solve_ivp(turning, (0, 2), COMPLEX, method, args=(0.7,), **options)
    found = solvers.solve_ivp(turning, (0, 2), COMPLEX, method, args=(0.7,), **options)
    assert type(found.y) is np.ndarray
    assert_allclose(found.y, expected.y, rtol=2e-5)
    shaped = solvers.solve_ivp(turning, (0, 2), COMPLEX[np.newaxis], method, args=(0.7,), **options)
    assert shaped.y.shape == (1, 2, 3)
    along = solvers.odeint(lambda y, t, k: turning(t, y, k), COMPLEX, options["t_eval"], (0.7,))
    assert_allclose(along, expected.y.T, rtol=2e-5)


@pytest.mark.parametrize("adjoint", ["discrete", "continuous"])
def test_derivatives_of_complex_states(adjoint: Any) -> None:
    def population(k: Any, start: Any) -> Any:
        found = solvers.solve_ivp(
            turning, (0, 1), start, args=(k,), adjoint=adjoint, rtol=1e-10, atol=1e-10
        )
        return np.abs(found.y[0, -1]) ** 2

    matrix = lambda k: linalg.expm(-1j * np.array([[k, 1.0], [1.0, -k]]))  # noqa: E731
    exact = lambda k, start: np.abs((matrix(k) @ start)[0]) ** 2  # noqa: E731
    of_k, of_start = tg.grad(population, (0, 1))(0.7, COMPLEX)
    h = 1e-6
    assert_allclose(of_k, (exact(0.7 + h, COMPLEX) - exact(0.7 - h, COMPLEX)) / (2 * h), rtol=1e-6)
    for move in np.array([1.0, 0.0]), np.array([0.0, 1j]), np.array([1j, 0.5]):
        slope = (exact(0.7, COMPLEX + h * move) - exact(0.7, COMPLEX - h * move)) / (2 * h)
        assert_allclose(np.sum(np.real(np.conj(of_start) * move)), slope, rtol=1e-6)
        tangent = tg.jvp(lambda start: population(0.7, start), (COMPLEX,), (move,))[1]
        assert_allclose(tangent, slope, rtol=1e-6)


def test_events_of_complex_states() -> None:
    event = lambda _t, y, _k: np.real(y[0])  # noqa: E731
    event.terminal = True  # type: ignore[attr-defined]
    found = solvers.solve_ivp(
        lambda _t, y, k: 1j * k * y, (0, 5), [1.0 + 0j], args=(2.0,), events=event, rtol=1e-8
    )
    assert found.status == 1
    assert_allclose(found.t_events[0], [np.pi / 4], rtol=1e-4)
    assert_allclose(found.y_events[0], [[1j]], atol=1e-3)


def test_integrals_of_complex_functions() -> None:
    wave = lambda x, k: np.exp(1j * k * x)  # noqa: E731
    expected = integrate.quad(wave, 0, 1, (2.0,), complex_func=True)
    found = solvers.quad(wave, 0, 1, (2.0,), complex_func=True)
    assert_allclose(found, expected, rtol=1e-12)
    slope = tg.grad(lambda k: np.real(solvers.quad(wave, 0, 1, (k,), complex_func=True)[0]))(2.0)
    assert_allclose(slope, np.cos(2.0) / 2 - np.sin(2.0) / 4, rtol=1e-9)
