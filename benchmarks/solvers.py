"""The gradient of a fit of a differential equation: tensorgrad's, and that of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .timing import Table, Turn, compare, installed, introduce, note, require_equal, turn_of

TOLERANCES = {"rtol": 1e-6, "atol": 1e-8}  # of every solver
EQUAL = 1e-3  # the gradients of methods with other steps, relative to their norm


class Problem(NamedTuple):
    """dy/dt = slope(numpy, t, y, parameters) from `start`, measured at some times."""

    name: str
    slope: Callable[..., Any]
    start: Any
    times: Any
    parameters: list[Any]

    def __str__(self) -> str:
        return self.name


def _lotka_volterra(np: Any, _t: Any, z: Any, p: Any) -> Any:
    hares, lynxes = z[0], z[1]
    (p,) = p
    return np.stack([p[0] * hares - p[1] * hares * lynxes, p[2] * hares * lynxes - p[3] * lynxes])


def _network(np: Any, _t: Any, z: Any, p: Any) -> Any:
    w, b, v, c = p
    return np.tanh(z @ w + b) @ v + c


def problems(quick: bool) -> list[Problem]:
    rng = np.random.default_rng(0)
    rates = np.array([1.5, 1.0, 1.0, 3.0])
    neural = [rng.normal(size=s) / np.sqrt(s[0]) for s in ((2, 32), (32,), (32, 2), (2,))]
    times = np.linspace(0, 5 if quick else 10, 21)
    return [
        Problem("Lotka-Volterra, 4 rates", _lotka_volterra, np.array([10.0, 5.0]), times, [rates]),
        Problem("neural, 162 parameters", _network, np.array([1.0, -0.5]), times, neural),
        Problem("neural, batch of 32", _network, rng.normal(size=(32, 2)), times, neural),
    ]


# -- the engines: of a problem, a function that returns the gradients of the loss by the parameters

Gradients = Callable[[], list[Any]]
Engine = Callable[[Problem], Gradients]


def _loss(y: Any) -> Any:
    return (y**2).mean()


def scipy() -> Engine:
    """The forward solution alone, without a gradient."""
    from scipy.integrate import solve_ivp

    def make(problem: Problem) -> Gradients:
        shape, p = problem.start.shape, problem.parameters
        span = problem.times[0], problem.times[-1]

        def slope(t: Any, y: Any) -> Any:
            return problem.slope(np, t, y.reshape(shape), p).ravel()

        def solve() -> Any:
            start = problem.start.ravel()
            return [solve_ivp(slope, span, start, t_eval=problem.times, **TOLERANCES).y]

        return solve

    return make


def _tensorgrad(**options: Any) -> Engine:
    import tensorgrad as tg

    def make(problem: Problem) -> Gradients:
        span = problem.times[0], problem.times[-1]

        def loss(p: Any) -> Any:
            return _loss(
                tg.solvers.solve_ivp(
                    lambda t, y, p: problem.slope(np, t, y, p), span, problem.start,
                    t_eval=problem.times, args=(p,), **TOLERANCES, **options,
                ).y
            )  # fmt: skip

        gradient = tg.grad(loss)
        return lambda: gradient(problem.parameters)

    return make


def tensorgrad() -> Engine:
    return _tensorgrad()


def tensorgrad_continuous() -> Engine:
    return _tensorgrad(adjoint="continuous")


def hips_autograd() -> Engine:
    import autograd
    import autograd.numpy as anp
    from autograd.builtins import tuple as boxed
    from autograd.scipy.integrate import odeint

    def make(problem: Problem) -> Gradients:
        if problem.start.ndim > 1:
            raise NotImplementedError("a state with several axes")

        def slope(y: Any, t: Any, *p: Any) -> Any:
            return problem.slope(anp, t, y, p)

        def loss(p: Any) -> Any:
            return _loss(odeint(slope, problem.start, problem.times, boxed(p), **TOLERANCES))

        gradient = autograd.grad(loss)
        return lambda: gradient(problem.parameters)

    return make


def jax() -> Engine:
    import jax
    import jax.numpy as jnp
    from jax.experimental.ode import odeint

    jax.config.update("jax_enable_x64", True)

    def make(problem: Problem) -> Gradients:
        def slope(y: Any, t: Any, *p: Any) -> Any:
            return problem.slope(jnp, t, y, p)

        @jax.jit
        @jax.grad
        def gradient(p: Any) -> Any:
            return _loss(odeint(slope, jnp.array(problem.start), times, *p, **TOLERANCES))

        times = jnp.array(problem.times)
        parameters = [jnp.array(p) for p in problem.parameters]
        return lambda: jax.block_until_ready(gradient(parameters))

    return make


def torchdiffeq() -> Engine:
    import torch
    import torchdiffeq

    def make(problem: Problem) -> Gradients:
        parameters = [torch.tensor(p, requires_grad=True) for p in problem.parameters]
        start, times = torch.tensor(problem.start), torch.tensor(problem.times)

        def slope(t: Any, y: Any) -> Any:
            return problem.slope(torch, t, y, parameters)

        def gradient() -> list[Any]:
            loss = _loss(torchdiffeq.odeint(slope, start, times, **TOLERANCES))
            return [*torch.autograd.grad(loss, parameters)]

        return gradient

    return make


ENGINES: dict[str, Callable[[], Engine]] = {
    "SciPy, no gradient": scipy,
    "tensorgrad": tensorgrad,
    "continuous adjoint": tensorgrad_continuous,
    "autograd": hips_autograd,
    "JAX, jit": jax,
    "torchdiffeq": torchdiffeq,
}


def run(quick: bool, output: Path) -> None:
    introduce(
        "The gradient of a mean square of a solution: microseconds (ratio to tensorgrad, by the",
        "discrete adjoint). Compiling is not in the time.",
    )
    engines = dict(installed(ENGINES))
    table = Table(
        {"": 26} | dict.fromkeys(engines, 19),
        output / "solvers.json",
        ["problem", "engine", "microseconds", "ratio to tensorgrad"],
    )
    for problem in problems(quick):
        turns = dict(_turns(problem, engines))
        compare(table, problem, turns, seconds=2.0 if quick else 20.0)


def _turns(problem: Problem, engines: dict[str, Engine]) -> Iterator[tuple[str, Turn]]:
    """The turns of engines that can solve the problem, when their results were found equal."""
    expected = None
    for name, make in engines.items():
        note(f"solving {problem} by {name}")
        try:
            gradient = make(problem)
        except NotImplementedError:
            continue
        if name != "SciPy, no gradient":
            found = np.concatenate([np.ravel(g) for g in gradient()])
            expected = found if expected is None else expected
            require_equal(f"{problem} by {name}", found, expected, EQUAL)
        yield name, turn_of(gradient)
