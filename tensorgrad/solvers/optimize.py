"""SciPy's solvers of equations and optimizers, with implicit derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.modes import no_grad, plain
from ..engine.tensor import Tensor, asarray
from ..engine.typing import Array, Function
from ..errors import OR_DETACH, NoRuleError, optional
from ..transforms import grad, hessian, hvp, value_and_grad
from .captured import Captured, as_real, of_samples
from .implicit import LinearSolver, solution

# What SciPy's methods take of derivatives.
_ROOT_WITH_JACOBIAN = {"hybr", "lm"}
_WITHOUT_GRADIENT = {"nelder-mead", "powell", "cobyla", "cobyqa"}
_WITH_HESSIAN = {"dogleg", "trust-exact"}
_WITH_HESSIAN_PRODUCT = {"newton-cg", "trust-ncg", "trust-krylov"}

# Of least squares: a residual r adds s^2 rho((r / s)^2) / 2 to the cost, where s is `f_scale`.
_LOSSES: dict[str, Function] = {
    "linear": lambda z: z,
    "soft_l1": lambda z: 2 * (np.sqrt(1 + z) - 1),
    "huber": lambda z: np.where(z <= 1, z, 2 * np.sqrt(np.maximum(z, 1)) - 1),
    "cauchy": np.log1p,
    "arctan": np.arctan,
}


def _scipy(name: str) -> Any:
    return optional("scipy.optimize", f"solvers.{name}")


def _start(name: str, x0: Any) -> Array:
    """Where an iteration starts, as a plain array."""
    return plain(as_real(name, x0))  # type: ignore[no-any-return]


def _failure(result: Any) -> str | None:
    """Why there is no derivative of a result, if its solver has failed."""
    return None if result.success else str(result.message)


# -- equations


def root(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str = "hybr",
    jac: Any = None,
    *,
    linear_solver: LinearSolver = "dense",
    **options: Any,
) -> Any:
    """Return `scipy.optimize.root`'s result, whose `x` has derivatives of every order.

    `fun(x, *args)` returns as many equations as x has elements. Derivatives are those by the
    implicit function theorem, by tensors in `args` and by all others that `fun` uses; none goes to
    the start `x0`. The Jacobian comes from `fun`, also for the methods that use one; `jac=False`
    lets SciPy take differences, and a function is SciPy's `jac`. `options` are SciPy's.

    The linear system of the derivative is solved with the whole Jacobian, or with products alone:
    `linear_solver="gmres"`, or `"cg"` if the Jacobian is symmetric and definite. A LinAlgError says
    if it is singular. If SciPy has failed, `success` is False, and the derivative raises a
    GraphError. In a `vmap`, samples are solved one by one, and fields without derivatives are those
    of one sample. Needs SciPy.

    >>> circle_and_line = lambda x, r: np.stack([x[0] ** 2 + x[1] ** 2 - r**2, x[0] - x[1]])
    >>> tg.jacobian(lambda r: tg.solvers.root(circle_and_line, [1.0, 1.0], r).x)(2.0)
    array([0.70710678, 0.70710678])
    """

    def solve(x0: Any, args: Any) -> Any:
        f = Captured("root", fun, args)
        given = _users("root", jac, args)
        if jac is None and method.lower() in _ROOT_WITH_JACOBIAN:
            given = f.jacobian
        start = _start("root", x0)
        with no_grad():
            found = _scipy("root").root(f.values, start, method=method, jac=given, **options)
        return found, {"x": solution(f, found.x, linear_solver, _failure(found))}

    return _updated(*of_samples("root", solve, x0, args))


def root_scalar(
    f: Callable[..., Any],
    args: Any = (),
    method: str | None = None,
    bracket: Any = None,
    fprime: Any = None,
    fprime2: Any = None,
    x0: Any = None,
    x1: Any = None,
    **options: Any,
) -> Any:
    """Return `scipy.optimize.root_scalar`'s result, whose `root` has derivatives of every order.

    `f(x, *args)` returns one number. Arguments, derivatives and failures are those of `root`; here
    the flag is `converged`. Newton's and Halley's methods get the derivatives of `f`, and Newton's
    is used if there is only an `x0`. Needs SciPy.

    >>> kepler = lambda e, m, ecc: e - ecc * np.sin(e) - m
    >>> tg.grad(lambda m: tg.solvers.root_scalar(kepler, (m, 0.5), bracket=(0, 4)).root)(1.0)
    array(1.03736202)
    """
    if method is None and bracket is None and x1 is None:
        method = "newton"

    def solve(args: Any, bracket: Any, x0: Any, x1: Any) -> Any:
        g = Captured("root_scalar", f, args)
        derivatives = [_users("root_scalar", given, args) for given in (fprime, fprime2)]
        if method in ("newton", "halley") and fprime is None:
            derivatives[0] = _number_of(grad(g))
        if method == "halley" and fprime2 is None:
            derivatives[1] = _number_of(grad(grad(g)))
        ends = bracket if bracket is None else [float(_start("root_scalar", x)) for x in bracket]
        starts = [x if x is None else _start("root_scalar", x) for x in (x0, x1)]
        with no_grad():
            found = _scipy("root_scalar").root_scalar(
                g.number, (), method, ends, *derivatives, *starts, **options
            )
        failure = None if found.converged else str(found.flag)
        x = solution(g, np.asarray(found.root), failure=failure)
        return found, {"root": x if isinstance(x, Tensor) else found.root}

    return _updated(*of_samples("root_scalar", solve, args, bracket, x0, x1))


def _number_of(f: Function) -> Function:
    """A function of a number, without a graph, that returns one."""

    def number(x: Any) -> float:
        with no_grad():
            return float(f(float(x)))

    return number


def fixed_point(
    func: Callable[..., Any],
    x0: Any,
    args: Any = (),
    xtol: float = 1e-8,
    maxiter: int = 500,
    method: str = "del2",
    *,
    linear_solver: LinearSolver = "dense",
) -> Any:
    """Return the `x` for which `func(x, *args) = x`, with derivatives of every order.

    It is found by `scipy.optimize.fixed_point`, which raises a RuntimeError if it does not
    converge. `method="iteration"` suits vectors, "del2" accelerates each element by itself. The
    derivatives and `linear_solver` are those of `root`. Needs SciPy.

    >>> tg.grad(lambda a: tg.solvers.fixed_point(lambda x: np.cos(a * x), 0.5))(1.0)
    array(-0.29747434)
    """

    def solve(x0: Any, args: Any) -> Any:
        f = Captured("fixed_point", func, args)
        with no_grad():
            x = _scipy("fixed_point").fixed_point(
                f.values, _start("fixed_point", x0), xtol=xtol, maxiter=maxiter, method=method
            )
        equations = Captured("fixed_point", lambda x, *args: asarray(func(x, *args)) - x, args)
        equations.uses_tensors |= f.uses_tensors
        return None, {"x": solution(equations, np.asarray(x, float), linear_solver)}

    return of_samples("fixed_point", solve, x0, args)[1]["x"]


# -- optimization


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str | None = None,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    *,
    linear_solver: LinearSolver = "dense",
    **options: Any,
) -> Any:
    """Return `scipy.optimize.minimize`'s result; `x` and `fun` have derivatives of every order.

    `fun(x, *args)` returns one number. Its gradient, its Hessian or products with it go to the
    methods that use them, unless you pass SciPy's `jac`, `hess` or `hessp`. The derivatives are
    those of the point where the gradient is zero; so the Hessian must not be singular there.
    Variables at a bound stay there. With `constraints`, a NoRuleError is raised if there would be a
    derivative. For the rest, see `root`; here `linear_solver="cg"` fits, as a Hessian is symmetric.
    Needs SciPy.

    >>> cost = lambda x, a: np.sum((x - a) ** 2) + x[0] ** 2
    >>> tg.jacobian(lambda a: tg.solvers.minimize(cost, np.zeros(2), a).x)(np.array([1.0, 2.0]))
    array([[0.5, 0. ],
           [0. , 1. ]])
    """
    known = "" if method is None or callable(method) else method.lower()

    def solve(x0: Any, args: Any) -> Any:
        f, start = Captured("minimize", fun, args), _start("minimize", x0)
        users = {"jac": jac, "hess": hess, "hessp": hessp}
        given = {name: _users("minimize", users[name], args) for name in users}
        value: Function = f.number
        if jac is None and known not in _WITHOUT_GRADIENT:
            value, given["jac"] = _value_and_gradient(f), True
        if hess is None and hessp is None:
            if known in _WITH_HESSIAN:
                given["hess"] = _plain_of(hessian(f))
            elif known in _WITH_HESSIAN_PRODUCT:
                given["hessp"] = _plain_of(lambda x, v: hvp(f, (x,), (v,)))
        with no_grad():
            found = _scipy("minimize").minimize(
                value, start, method=method, bounds=bounds, constraints=constraints,
                **given, **options,
            )  # fmt: skip
        pairs = bounds is not None and not hasattr(bounds, "lb")
        sides = np.array([*bounds], float).T if pairs else bounds  # None becomes NaN
        x = _stationary(f, fun, args, found, sides, linear_solver)
        if constraints and isinstance(x, Tensor) and x.requires_grad:
            raise NoRuleError(
                "minimize: there is no derivative of a minimum with constraints: solve its "
                f"equations by tensorgrad.solvers.root, {OR_DETACH}"
            )
        return found, {"x": x, **({"fun": f(x)} if isinstance(x, Tensor) else {})}

    return _updated(*of_samples("minimize", solve, x0, args))


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    jac: Any = None,
    bounds: Any = (-np.inf, np.inf),
    *,
    args: Any = (),
    kwargs: Any = None,
    loss: str = "linear",
    f_scale: float = 1.0,
    linear_solver: LinearSolver = "dense",
    **options: Any,
) -> Any:
    """Return `scipy.optimize.least_squares`'s result; `x`, `fun` and `cost` have derivatives.

    `fun(x, *args, **kwargs)` returns a vector of residuals. Their Jacobian comes from `fun`, unless
    you pass SciPy's `jac`. All of SciPy's named losses have derivatives. Variables at a bound stay
    there. For the rest, see `minimize`. Needs SciPy.

    >>> t = np.linspace(0, 1, 20)
    >>> residual = lambda p, y: p[0] * np.exp(-p[1] * t) - y
    >>> fit = lambda y: tg.solvers.least_squares(residual, [1.0, 1.0], args=(y,)).x
    >>> np.round(tg.jacobian(fit)(2 * np.exp(-3 * t)) @ np.exp(-3 * t), 6)
    array([1., 0.])
    """
    if loss not in _LOSSES:
        raise ValueError(f"least_squares: loss must be one of {', '.join(_LOSSES)}, not {loss!r}")
    if kwargs:
        plain_fun, keywords = fun, dict(kwargs)
        fun = lambda x, *args: plain_fun(x, *args, **keywords)  # noqa: E731

    def cost(x: Any, *args: Any) -> Any:
        z = (asarray(fun(x, *args)) / f_scale) ** 2
        return f_scale**2 * np.sum(_LOSSES[loss](z)) / 2

    def solve(x0: Any, args: Any) -> Any:
        f = Captured("least_squares", fun, args)
        given = f.jacobian if jac is None else _users("least_squares", jac, args)
        start = _start("least_squares", x0)
        with no_grad():
            found = _scipy("least_squares").least_squares(
                f.values, start, given, bounds, loss=loss, f_scale=f_scale, **options
            )
        total = Captured("least_squares", cost, args)
        x = _stationary(total, cost, args, found, bounds, linear_solver)
        is_tensor = isinstance(x, Tensor)
        return found, {"x": x, **({"fun": f(x), "cost": total(x)} if is_tensor else {})}

    return _updated(*of_samples("least_squares", solve, x0, args))


def _stationary(
    f: Captured, fun: Function, args: Any, found: Any, bounds: Any, linear_solver: LinearSolver
) -> Any:
    """A minimum of a function that SciPy has found, as the solution of gradient = 0.

    A variable keeps its value if a step against the gradient would take it beyond its bounds, a
    lower and an upper one.
    """
    x = found.x
    f.find_sources(x)
    if not f.sources:
        return asarray(x) if f.uses_tensors else x
    fixed = np.zeros(x.shape, bool)
    if bounds is not None:
        low, high = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
        beyond = x - _plain_of(grad(f))(x)
        fixed = (beyond <= low) | (beyond >= high)

    def gradient(y: Any, *args: Any) -> Any:
        g = grad(fun)(y, *args)
        return np.where(fixed, y - x, g) if np.any(fixed) else g

    return solution(Captured(f.name, gradient, args), x, linear_solver, _failure(found))


def _users(name: str, given: Any, args: Any) -> Any:
    """What SciPy gets for a derivative that the user passes: its values, if it is a function."""
    if given is True:
        raise ValueError(f"{name}: the function must return its value alone, not a derivative, too")
    return Captured(name, given, args).values if callable(given) else given


def _plain_of(f: Function) -> Function:
    """A function of arrays that returns an array, without a graph."""

    def values(*arrays: Any) -> Array:
        with no_grad():
            return np.asarray(plain(f(*arrays)))

    return values


def _value_and_gradient(f: Captured) -> Callable[[Array], tuple[float, Array]]:
    compute = value_and_grad(f)

    def both(x: Array) -> tuple[float, Array]:
        with no_grad():
            value, gradient = compute(np.asarray(x, float))
        return float(plain(value).item()), np.asarray(plain(gradient))

    return both


def _updated(result: Any, fields: dict[str, Any]) -> Any:
    """SciPy's result with fields that have derivatives."""
    result.update(fields)
    return result
