"""SciPy's solvers of initial value problems, with derivatives of the solution."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from ..bodies import Call, is_recorded
from ..engine.modes import mode, no_grad, plain
from ..engine.operands import any_tracked
from ..engine.tensor import Tensor, asarray
from ..engine.typing import Array, Function
from ..errors import OR_DETACH, GraphError, NoRuleError, optional
from ..tree import leaves
from . import adjoints, tangents
from .captured import (
    Captured,
    Recording,
    as_real,
    is_batched,
    of_samples,
    require_one,
    returned,
)
from .complex_states import solve_complex
from .steps import Stages, Steps, Tableau, recorder, replayed

Adjoint: TypeAlias = Literal["discrete", "continuous"]
_WITH_JACOBIAN = ("Radau", "BDF", "LSODA")
_METHODS = ("RK23", "RK45", "DOP853", *_WITH_JACOBIAN)
_INSTEAD = {  # of arguments of SciPy's odeint
    "h0": "first_step=",
    "hmax": "max_step=",
    "hmin": "min_step=",
    "Dfun": "jac=, a function of the time, the state and args",
    "full_output": "solvers.solve_ivp, whose result has more fields",
}
_OF_DERIVATIVES = ("rtol", "atol", "max_step")  # options that hold for their equations, too


def solve_ivp(
    fun: Callable[..., Any],
    t_span: Any,
    y0: Any,
    method: Any = "RK45",
    t_eval: Any = None,
    dense_output: bool = False,
    events: Any = None,
    args: Any = (),
    *,
    adjoint: Adjoint | None = None,
    **options: Any,
) -> Any:
    """Return `scipy.integrate.solve_ivp`'s result, whose `y` has derivatives.

    It solves dy/dt = `fun(t, y, *args)`. `y0` may have any shape, which `fun` gets and returns;
    `y` has one axis more, for the times. Derivatives are those by `y0`, by the times in `t_span`
    and `t_eval`, by tensors in `args`, and by all others that `fun` uses, such as the parameters of
    a module. Without `t_eval`, the times between the ends count as constants. `options` are
    SciPy's, such as `rtol` and `atol`; the methods Radau, BDF and LSODA get the Jacobian from
    `fun`, unless you pass `jac`.

    `adjoint="discrete"` differentiates the steps that were taken: the gradient is that of the
    computed numbers, and there are derivatives of every order. It is for Runge-Kutta methods, RK23,
    RK45 and DOP853, and their default. `adjoint="continuous"` solves the adjoint equation backward
    along the solution, with the same method and tolerances; it suits all methods, and gives first
    derivatives.

    A complex `y0` is solved as its real and imaginary parts, each with the tolerances; `fun` gets
    and returns complex arrays.

    If SciPy has failed, `success` is False, and the derivative raises a GraphError. With
    `dense_output` and `events`, a NoRuleError is raised if there would be a derivative. In a
    `vmap`, samples are solved one by one, and need `t_eval`. Needs SciPy.

    >>> decay = lambda t, y, k: -k * y
    >>> end = lambda k: tg.solvers.solve_ivp(decay, (0, 2), [1.0], args=(k,), rtol=1e-8).y[0, -1]
    >>> np.round(tg.value_and_grad(end)(0.5), 5)  # exp(-2 k) and -2 exp(-2 k)
    array([ 0.36788, -0.73576])
    """
    if options.pop("vectorized", False):
        raise ValueError("solve_ivp: leave out vectorized=: the Jacobian needs no differences")
    if np.iscomplexobj(asarray(y0)):
        given = {"t_span": t_span, "method": method, "t_eval": t_eval, "adjoint": adjoint}
        given |= {"dense_output": dense_output, "events": events, "args": args} | options
        return solve_complex(solve_ivp, fun, y0, given)
    chosen_method = _method(method)
    chosen_adjoint = _adjoint(adjoint, chosen_method)

    def solve(y0: Any, t_span: Any, t_eval: Any, args: Any) -> Any:
        times = _times(t_span, t_eval)
        operands = [as_real("solve_ivp", a) for a in (y0, *times)]
        problem = _Problem(fun, operands, args)
        if problem.is_tracked:
            _require_values_only(dense_output, "dense_output=True", "pass the times in t_eval")
            _require_values_only(events, "events=", "find their times by solvers.root_scalar")
        kept = options | {"dense_output": dense_output, "events": _of_vectors(events, problem)}
        found, y = problem.solve(operands, chosen_method, chosen_adjoint, kept)
        is_tensor = problem.users.uses_tensors or any(isinstance(a, Tensor) for a in (y0, *times))
        fields = {"y": asarray(y) if is_tensor else y}
        if t_eval is not None and isinstance(t_eval, Tensor):
            fields["t"] = operands[3][: len(found.t)]
        return found, fields

    args = () if args is None else tuple(args) if isinstance(args, list) else args
    if t_eval is None and is_batched(*leaves((y0, t_span, args))):
        raise ValueError(
            "solve_ivp: in a vmap, pass t_eval=, the times of the results: without it, each sample "
            "has times of its own"
        )
    found, fields = of_samples("solve_ivp", solve, y0, t_span, t_eval, args)
    found.update(fields)
    return found


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    args: Any = (),
    *,
    tfirst: bool = False,
    rtol: float = 1.49012e-8,
    atol: float = 1.49012e-8,
    method: Any = "LSODA",
    adjoint: Adjoint | None = None,
    **options: Any,
) -> Any:
    """Return the solution of dy/dt = `func(y, t, *args)` at the times t, with derivatives.

    It starts at `t[0]` with `y0`, of any shape, and has the times along its first axis, as
    `scipy.integrate.odeint` has. With `tfirst`, the function is `func(t, y, *args)`. It is solved
    by `solve_ivp`, which explains the rest. A solver that fails raises a RuntimeError. Needs SciPy.

    >>> growth = lambda y, t, rate: rate * y
    >>> t = np.array([0.0, 1.0, 2.0])
    >>> f = lambda rate: tg.solvers.odeint(growth, 1.0, t, (rate,))
    >>> np.round(tg.jacobian(f)(0.5), 5)  # t exp(rate t)
    array([0.     , 1.64872, 5.43656])
    """
    for name in options.keys() & _INSTEAD:
        raise TypeError(f"odeint: instead of {name}=, use {_INSTEAD[name]}")
    shape = as_real("odeint", t).shape
    if len(shape) != 1 or shape[0] < 2:
        raise ValueError(
            "odeint: t must be a vector of two times or more, the first of which is that of y0, "
            f"not an array of shape {shape}"
        )
    fun = func if tfirst else lambda t, y, *args: func(y, t, *args)
    args = args if isinstance(args, tuple) else (args,)
    found = solve_ivp(
        fun, (t[0], t[-1]), y0, method, t, args=args, adjoint=adjoint, rtol=rtol, atol=atol,
        **options,
    )  # fmt: skip
    if not found.success:
        raise RuntimeError(f"odeint: {found.message}")
    return np.moveaxis(found.y, -1, 0)


def _scipy() -> Any:
    return optional("scipy.integrate", "solvers.solve_ivp")


def _times(t_span: Any, t_eval: Any) -> list[Any]:
    """The two ends of the time and, if there are any, the times of the results."""
    try:
        start, end = t_span
    except (TypeError, ValueError):
        raise ValueError(
            f"solve_ivp: t_span must be two times, (start, end), not {t_span!r}"
        ) from None
    return [start, end] if t_eval is None else [start, end, t_eval]


def _method(method: Any) -> Any:
    """The class of a method of SciPy's."""
    integrate = _scipy()
    if isinstance(method, type) and issubclass(method, integrate.OdeSolver):
        return method
    if method not in _METHODS:
        raise ValueError(
            f"solve_ivp: method must be one of {', '.join(_METHODS)}, or a class of SciPy's "
            f"OdeSolver, not {method!r}"
        )
    return getattr(integrate, method)


def _adjoint(adjoint: Adjoint | None, method: Any) -> Adjoint:
    """The adjoint of a method: the given one, or the default."""
    if adjoint not in (None, "discrete", "continuous"):
        raise ValueError(f'solve_ivp: adjoint must be "discrete" or "continuous", not {adjoint!r}')
    integrate = _scipy()
    has_steps = issubclass(method, (integrate.RK23, integrate.RK45, integrate.DOP853))
    if adjoint == "discrete" and not has_steps:
        raise ValueError(
            'solve_ivp: adjoint="discrete" is for RK23, RK45 and DOP853, not '
            f'{method.__name__}: use adjoint="continuous"'
        )
    return adjoint or ("discrete" if has_steps else "continuous")


def _require_values_only(used: Any, what: str, cure: str) -> None:
    if used:
        raise NoRuleError(f"solve_ivp: {what} has no derivative: {cure}, {OR_DETACH}")


def _of_vectors(events: Any, problem: _Problem) -> Any:
    """The events as SciPy gets them, with their attributes: functions of vectors."""
    if events is None:
        return None

    def on_vectors(event: Function) -> Function:
        number = Captured("solve_ivp", event, problem.args).number
        of_vector = lambda t, y: number(t, y.reshape(problem.shape))  # noqa: E731
        vars(of_vector).update(getattr(event, "__dict__", {}))
        return of_vector

    return on_vectors(events) if callable(events) else [*map(on_vectors, events)]


class _Problem:
    """An initial value problem. Its state is a vector for SciPy, and of any shape for the user.

    `operands` are the start, the ends of the time and, if there are any, the times of the results.
    """

    def __init__(self, fun: Function, operands: Sequence[Tensor], args: Any) -> None:
        start, t0, t1, *t_eval = (np.array(plain(a), float) for a in operands)
        self.t0, self.t1 = float(t0), float(t1)
        self.t_eval = t_eval[0] if t_eval else None
        self.start, self.shape, self.args = np.ravel(start), start.shape, args
        self.users = Captured("solve_ivp", fun, args)
        self.f = Captured("solve_ivp", _on_vectors(fun, self.shape), args)
        self.f.find_sources(self.t0, self.start)
        recording = mode.get().recording
        self.has_times = recording and any_tracked(operands[1:])
        self.is_tracked = recording and (bool(self.f.sources) or any_tracked(operands))

    def values(self, t: float, y: Array) -> Array:
        """The function, of vectors."""
        if len(self.shape) == 1:
            return self.users.values(t, y)
        return np.ravel(self.users.values(t, y.reshape(self.shape)))

    def solve(
        self, operands: Sequence[Tensor], method: Any, adjoint: Adjoint, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        """SciPy's result, and its `y` with derivatives."""
        if method.__name__ in _WITH_JACOBIAN:
            jac = options.get("jac")
            users = Captured("solve_ivp", jac, self.args).values if callable(jac) else jac
            options = options | {"jac": self.f.jacobian if jac is None else users}
        steps = Steps([self.t0], [self.start], [], self.t_eval)
        solver = method
        if self.is_tracked and adjoint == "discrete":
            solver = recorder(method, steps)
        elif self.is_tracked:
            options = options | {"dense_output": True}
        span = self.t0, self.t1
        with no_grad():
            found = _scipy().solve_ivp(
                self.values, span, self.start, solver, self.t_eval, **options
            )
        y = np.reshape(found.y, (*self.shape, -1))
        if not self.is_tracked:
            return found, y
        rule: _Derivatives
        if adjoint == "discrete":
            rule = _Discrete(self, found, steps, Tableau(method))
        else:
            rule = _Continuous(self, found, method, options)
            found.sol = None
        call = Call("solve_ivp", self.f.sources, operands)
        arrays = [*map(plain, operands)]
        return found, call.results([y], [], arrays, rule.vjp, rule.jvp)[0]


def _on_vectors(fun: Function, shape: tuple[int, ...]) -> Function:
    """The function of vectors, for a function of states of a shape."""

    def on_vectors(t: Any, y: Any, *args: Any) -> Any:
        slope = asarray(returned("solve_ivp", fun(t, np.reshape(y, shape), *args)))
        if slope.shape != shape:
            raise ValueError(
                f"solve_ivp: the function must return the shape of y0, {shape}, not {slope.shape}"
            )
        return np.reshape(slope, (-1,))

    return on_vectors


class _Derivatives:
    """The derivatives of a solution, in both directions: those of a method are in subclasses.

    `pull` and `push` carry cotangents and tangents between the results, each of which has its own
    column, and the start with the sources of the function.
    """

    def __init__(self, problem: _Problem, found: Any) -> None:
        self.problem = problem
        self.failure = None if found.success else found.message
        self.t, self.y = found.t, found.y

    def pull(self, g: Array) -> tuple[Array, list[Any]]:
        raise NotImplementedError

    def push(self, of_start: Any, of_sources: Sequence[Any]) -> Any:
        raise NotImplementedError

    def recording(self, operands: Sequence[Any]) -> Recording:
        """The solution once more, recorded."""
        raise NotImplementedError

    def vjp(self, g: Sequence[Any], _out: Any, *args: Any) -> list[Any]:
        """The cotangents of the sources and of the operands."""
        operands = self._operands(args)
        if is_recorded(g, operands):
            of_operands, of_sources = self.recording(operands).pull_to_all(g[0])
            return [*of_sources, *of_operands]
        require_one(*g)
        of_results = np.reshape(g[0], self.y.shape)
        with no_grad():
            of_start, of_sources = self.pull(of_results)
            of_times = self._pull_to_times(of_results, of_start)
        return [*of_sources, np.reshape(of_start, self.problem.shape), *of_times]

    def jvp(self, tangents: Sequence[Any], _out: Any, *args: Any) -> tuple[Any]:
        """The tangent of the solution."""
        operands = self._operands(args)
        count = len(self.problem.f.sources)
        of_sources, of_operands = tangents[:count], tangents[count:]
        if is_recorded(tangents, operands):
            return (self.recording(operands).push_all(of_operands, of_sources),)
        of_start, *of_times = of_operands
        with no_grad():
            of_results = self._pushed(np.reshape(of_start, (-1,)), of_sources, of_times)
        return (np.reshape(of_results, (*self.problem.shape, -1)),)

    def _operands(self, args: Sequence[Any]) -> Sequence[Any]:
        if self.failure is not None:
            raise GraphError(
                f"solve_ivp: there is no derivative, as the solver has failed: {self.failure}"
            )
        self.problem.f.require_unchanged()
        return args[len(self.problem.f.sources) :]

    def _pull_to_times(self, g: Array, of_start: Array) -> list[Any]:
        """The cotangents of the times: a later result has moved by its slope."""
        problem = self.problem
        if not problem.has_times:
            return [None] * (2 if problem.t_eval is None else 3)
        moved = np.sum(g * self._slopes(), axis=0)
        before = -of_start @ problem.values(problem.t0, problem.start)
        if problem.t_eval is not None:
            return [before, np.zeros(()), moved]
        return [before + moved[0], moved[-1]]  # the first result is the start itself

    def _pushed(self, of_start: Any, of_sources: Sequence[Any], of_times: Sequence[Any]) -> Any:
        problem = self.problem
        if not problem.has_times:
            return self.push(of_start, of_sources)
        of_t0, of_t1, *of_results = of_times
        start = of_start - problem.values(problem.t0, problem.start) * of_t0
        if not of_results:
            still = np.zeros(len(self.t) - 2)
            of_results = [np.concatenate([np.reshape(of_t0, 1), still, np.reshape(of_t1, 1)])]
        return self.push(start, of_sources) + self._slopes() * of_results[0]

    def _slopes(self) -> Array:
        """The slopes of all results."""
        values = self.problem.values
        return np.transpose([values(t, y) for t, y in zip(self.t, self.y.T, strict=True)])


class _Discrete(_Derivatives):
    """Those of the steps of a Runge-Kutta method."""

    def __init__(self, problem: _Problem, found: Any, steps: Steps, tableau: Tableau) -> None:
        super().__init__(problem, found)
        self.steps, self.tableau = steps, tableau

    @functools.cached_property
    def stages(self) -> Stages:
        return Stages(self.problem.f, self.tableau, self.steps)

    def pull(self, g: Array) -> tuple[Array, list[Any]]:
        return adjoints.discrete(self.stages, g)

    def push(self, of_start: Any, of_sources: Sequence[Any]) -> Any:
        return tangents.discrete(self.stages, len(self.t), of_start, of_sources)

    def recording(self, operands: Sequence[Any]) -> Recording:
        f = self.problem.f

        def results(start: Any, *times: Any) -> Any:
            y = replayed(f, self.tableau, self.steps, np.reshape(start, (-1,)), *times)
            return np.reshape(y, (*self.problem.shape, -1))

        again = Captured(f.name, results)
        again.sources = f.sources
        return Recording(again, operands)


class _Continuous(_Derivatives):
    """Those of the equation, along the solution that the solver interpolates."""

    def __init__(self, problem: _Problem, found: Any, method: Any, options: Any) -> None:
        super().__init__(problem, found)
        self.solution, self.method = found.sol, method
        self.options = {name: options[name] for name in _OF_DERIVATIVES if name in options}

    def pull(self, g: Array) -> tuple[Array, list[Any]]:
        problem = self.problem
        return adjoints.continuous(problem.f, self.solution, self.t, problem.t0, g, self._solved)

    def push(self, of_start: Any, of_sources: Sequence[Any]) -> Any:
        require_one(of_start, *of_sources)
        span = self.problem.t0, self.problem.t1

        def solve(fun: Function, d: Array, jac: Function) -> Array:
            return self._solved(fun, span, d, jac, self.t).y  # type: ignore[no-any-return]

        return tangents.continuous(self.problem.f, self.solution, solve, of_start, of_sources)

    def _solved(
        self, fun: Function, t_span: Any, y0: Array, jac: Function, t_eval: Any = None
    ) -> Any:
        """Solve an equation of the derivatives, as the problem was solved."""
        given = {"jac": jac} if self.method.__name__ in _WITH_JACOBIAN else {}
        found = _scipy().solve_ivp(
            fun, t_span, y0, self.method, t_eval, t_eval is None, **given, **self.options
        )
        if not found.success:
            raise GraphError(
                f"solve_ivp: the equation of the derivatives was not solved: {found.message}"
            )
        return found

    def recording(self, _operands: Sequence[Any]) -> Recording:
        raise NoRuleError(
            'solve_ivp: adjoint="continuous" has first derivatives alone: use adjoint="discrete", '
            "with the method RK45, DOP853 or RK23"
        )
