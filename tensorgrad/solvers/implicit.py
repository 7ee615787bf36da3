"""Derivatives of the solution of equations, by the implicit function theorem.

Where f(x, p) = 0 defines x, the derivative of x by p is -(df/dx)^-1 df/dp, whichever steps a solver
has taken. One cotangent of x takes one linear system with the transposed Jacobian, df/dx.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from ..bodies import Call, is_recorded
from ..engine.modes import no_grad, plain
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..engine.variable import tensor_of
from ..errors import GraphError, optional
from ..transforms import jacobian, vjp
from .captured import Captured, Recording, require_one

LinearSolver: TypeAlias = Literal["dense", "cg", "gmres"]
_TOLERANCE = 1e-10  # of the residual of an iterative linear solver, relative to the cotangent
_NEGLIGIBLE = 1e-6  # a step of Newton's method from a solution, relative to the solution


def solution(
    equations: Captured, x: Array, linear_solver: LinearSolver = "dense", failure: str | None = None
) -> Any:
    """Return a solution of `equations(x) = 0`, as many as x has elements, with derivatives.

    It is a tensor if the equations use tensors. `failure` is why a solver has failed: then the
    derivative raises a GraphError, unless x solves the equations nevertheless.
    """
    name = equations.name
    if linear_solver not in ("dense", "cg", "gmres"):
        raise ValueError(
            f'{name}: linear_solver must be "dense", "cg" or "gmres", not {linear_solver!r}'
        )
    equations.find_sources(x)
    if not equations.sources:
        return _result(equations, x)
    at_x = Recording(equations, [x])  # kept: what the function reads may change before the pullback
    if at_x.y.size != x.size:
        raise ValueError(
            f"{name}: the function must return as many equations as there are unknowns, {x.size}, "
            f"not an array of shape {at_x.y.shape}"
        )

    def pullback(g: Any, out: Any, *_sources: Any) -> list[Any]:
        (x, *_), total = out, g[0] + g[1]
        if failure is not None:
            _require_solved(at_x, plain(x), failure)
        if linear_solver != "dense":
            require_one(total)
        if is_recorded(g, out):
            weights = _recorded_weights(equations, at_x, x, total, linear_solver)
            return Recording(equations, [x]).pull_to_sources(-weights)
        return at_x.pull_to_sources(-_weights(at_x, total, linear_solver))

    call = Call(name, equations.sources, [])
    return _result(equations, call.results([x], [x], [], pullback)[0])


def _result(equations: Captured, x: Any) -> Any:
    """A solution, as a tensor if the equations use tensors."""
    return tensor_of(x, None) if equations.uses_tensors and not isinstance(x, Tensor) else x


def _require_solved(at_x: Recording, x: Array, failure: str) -> None:
    """Raise a GraphError unless a step of Newton's method would hardly change x."""
    try:
        step = np.linalg.solve(at_x.jacobian(), np.ravel(plain(at_x.y)))
    except np.linalg.LinAlgError:
        step = np.array([np.inf])
    if not np.linalg.norm(step) <= _NEGLIGIBLE * (1 + np.linalg.norm(np.ravel(x))):
        raise GraphError(
            f"{at_x.name}: there is no derivative, as the solver has failed: {failure}: start "
            "closer to the solution, or pass another method or other tolerances"
        )


def _weights(at_x: Recording, g: Any, solver: LinearSolver) -> Any:
    """The solution w of J^T w = g, for the Jacobian J of a recorded call."""
    if solver == "dense":
        with no_grad():
            return _solve(at_x.name, at_x.jacobian(), g)
    return _krylov(at_x.name, at_x.pull, plain(g), solver)


def _recorded_weights(f: Captured, at_x: Recording, x: Any, g: Any, solver: LinearSolver) -> Any:
    """The same, with derivatives of its own: w is a solution, too."""
    if solver == "dense":
        return _solve(f.name, np.reshape(jacobian(f)(x), (x.size, x.size)), g)

    def residual(w: Any) -> Any:
        return vjp(f, x)[1](w)[0] - g

    return solution(Captured(f.name, residual), _weights(at_x, g, solver), solver)


def _solve(name: str, jacobian: Any, g: Any) -> Any:
    """The solution w of J^T w = g, in the shape of g."""
    try:
        return np.reshape(np.linalg.solve(np.transpose(jacobian), np.reshape(g, (-1,))), g.shape)
    except np.linalg.LinAlgError as error:
        error.add_note(
            f"{name}: the Jacobian at the solution is singular, so that the solution has no "
            "derivative: it is not isolated, or it is a multiple root"
        )
        raise


def _krylov(name: str, product: Callable[[Array], Array], g: Array, solver: LinearSolver) -> Array:
    linalg = optional("scipy.sparse.linalg", f"{name}(linear_solver={solver!r})")
    operator = linalg.LinearOperator(
        (g.size, g.size), lambda v: np.ravel(product(np.reshape(v, g.shape))), dtype=float
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # cg, if it breaks down
        weights, info = getattr(linalg, solver)(operator, np.ravel(g), rtol=_TOLERANCE, atol=0.0)
    if info or not np.all(np.isfinite(weights)):
        raise np.linalg.LinAlgError(
            f"{name}: {solver} did not solve the linear system of the derivative: "
            'pass linear_solver="dense"'
            + (', or "gmres" if the Jacobian is not symmetric' if solver == "cg" else "")
        )
    return np.reshape(weights, g.shape)
