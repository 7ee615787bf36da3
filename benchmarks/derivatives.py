"""Derivatives of small functions: in tensorgrad, HIPS autograd, JAX, and PyTorch for some."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .timing import (
    Table,
    compare,
    installed,
    introduce,
    note,
    require_equal,
    turn_of,
)

TOLERANCE = 1e-10  # all compute in float64
PER_SAMPLE = "gradient of each sample"
NETWORKS = (((2, 16, 16, 1), 100), ((64, 128, 10), 64))  # widths, batch


class Engine(NamedTuple):
    """A library: its NumPy, its transforms by name, and how it converts and waits for arrays."""

    numpy: Any
    transforms: dict[str, Callable[[Any], Any]]  # of each, f -> the derivative as a function
    array: Callable[[Any], Any] = lambda a: a  # its own form of an array or a number
    ready: Callable[[Any], Any] = lambda a: a  # waits for a result


class Problem(NamedTuple):
    """A derivative of the function that `define` makes with an engine's NumPy, at `args`."""

    name: str
    transform: str
    define: Callable[[Any], Callable[..., Any]]
    args: tuple[Any, ...]

    def prepare(self, engine: Engine) -> Callable[[], Any]:
        derivative = engine.transforms[self.transform](self.define(engine.numpy))
        args = [_nested(engine.array, a) for a in self.args]
        return lambda: engine.ready(derivative(*args))

    def __str__(self) -> str:
        return f"{self.transform}: {self.name}"


def _nested(fun: Callable[[Any], Any], a: Any) -> Any:
    """Convert an array, or those in a dict."""
    return {key: fun(part) for key, part in a.items()} if isinstance(a, dict) else fun(a)


def leaves(a: Any) -> list[Any]:
    """The arrays of a result: those of a dict in the order of its keys."""
    return [a[key] for key in sorted(a)] if isinstance(a, dict) else [a]


# -- the engines


def _tensorgrad(compiled: Callable[[Any], Any], array: Callable[[Any], Any]) -> Engine:
    import tensorgrad as tg

    transforms = {
        "grad": tg.grad,
        "grad of grad": lambda f: tg.grad(tg.grad(f)),
        "elementwise_grad": tg.elementwise_grad,
        "jacobian": tg.jacobian,
        "wide jacobian": tg.jacobian,
        "hessian": tg.hessian,
        "hvp": lambda f: lambda x, v: tg.hvp(f, (x,), (v,)),
        PER_SAMPLE: lambda f: tg.vmap(tg.grad(f), in_axes=(None, 0, 0)),
    }
    return Engine(
        np, {name: lambda f, t=t: compiled(t(f)) for name, t in transforms.items()}, array
    )


def tensorgrad() -> Engine:
    return _tensorgrad(lambda f: f, lambda a: a)


def tensorgrad_compiled() -> Engine:
    import tensorgrad as tg

    return _tensorgrad(lambda f: tg.compile(f, backend="numpy"), np.asarray)


def tensorgrad_native() -> Engine:
    import llvmlite  # noqa: F401 (the engine is left out without it)

    import tensorgrad as tg

    return _tensorgrad(lambda f: tg.compile(f, backend="llvm"), np.asarray)


def hips_autograd() -> Engine:
    import autograd
    from autograd import numpy as anp

    return Engine(
        anp,
        {
            "grad": autograd.grad,
            "grad of grad": lambda f: autograd.grad(autograd.grad(f)),
            "elementwise_grad": autograd.elementwise_grad,
            "jacobian": autograd.jacobian,
            "wide jacobian": autograd.jacobian,
            "hessian": autograd.hessian,
            "hvp": autograd.hessian_vector_product,
            PER_SAMPLE: lambda f: _looped(autograd.grad(f)),
        },
    )


def _looped(gradient: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient of each sample, for a library without a vmap."""

    def each(p: Any, xs: Any, ts: Any) -> Any:
        gradients = [gradient(p, x, t) for x, t in zip(xs, ts, strict=True)]
        return {name: np.stack([g[name] for g in gradients]) for name in p}

    return each


def _jax(compiled: Callable[[Any], Any]) -> Engine:
    import jax

    jax.config.update("jax_enable_x64", True)

    def hvp(f):
        return lambda x, v: jax.jvp(jax.grad(f), (x,), (v,))[1]

    transforms = {
        "grad": jax.grad,
        "grad of grad": lambda f: jax.grad(jax.grad(f)),
        "elementwise_grad": lambda f: jax.grad(lambda x: f(x).sum()),
        "jacobian": jax.jacrev,
        "wide jacobian": jax.jacfwd,
        "hessian": jax.hessian,
        "hvp": hvp,
        PER_SAMPLE: lambda f: jax.vmap(jax.grad(f), in_axes=(None, 0, 0)),
    }
    return Engine(
        jax.numpy,
        {name: lambda f, t=t: compiled(t(f)) for name, t in transforms.items()},
        jax.numpy.asarray,
        jax.block_until_ready,
    )


def jax() -> Engine:
    return _jax(lambda f: f)


def jax_jit() -> Engine:
    import jax

    return _jax(jax.jit)


def torch() -> Engine:
    import torch
    from torch.func import grad, vmap

    return Engine(
        torch,
        {"grad": grad, PER_SAMPLE: lambda f: vmap(grad(f), in_dims=(None, 0, 0))},
        lambda a: torch.as_tensor(np.asarray(a)),
    )


ENGINES: dict[str, Callable[[], Engine]] = {
    "tensorgrad": tensorgrad,
    "compiled": tensorgrad_compiled,
    "native": tensorgrad_native,
    "HIPS autograd": hips_autograd,
    "JAX": jax,
    "JAX jit": jax_jit,
    "torch.func": torch,
}

# -- the problems


def _rosenbrock(np: Any) -> Callable[..., Any]:
    return lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _bump(np: Any) -> Callable[..., Any]:
    return lambda x: np.tanh(x) * np.exp(-x * x)


def _network(np: Any) -> Callable[..., Any]:
    def net(p, x):
        for i in range(1, len(p) // 2 + 1):
            x = np.tanh(x @ p[f"w{i}"] + p[f"b{i}"])
        return x

    return net


def _loss(np: Any) -> Callable[..., Any]:
    net = _network(np)
    return lambda p, x, t: np.mean((net(p, x) - t) ** 2)


def _flow(steps: int, np: Any) -> Callable[..., Any]:
    """Euler's method."""

    def end(y, a):
        for _ in range(steps):
            y = y + 0.02 * np.sin(a @ y)
        return y

    return end


def _energy(np: Any) -> Callable[..., Any]:
    end = _flow(50, np)
    return lambda y, a: np.sum(end(y, a) ** 2)


def _layers(normal: Callable[..., Any], *widths: int) -> dict[str, Any]:
    return {
        name: part
        for i, (m, n) in enumerate(itertools.pairwise(widths), 1)
        for name, part in ((f"w{i}", normal((m, n)) / m**0.5), (f"b{i}", normal(n)))
    }


def network_problem(widths: Sequence[int], count: int, transform: str) -> Problem:
    """A derivative of the loss of a network by its parameters, for a batch of `count` samples."""
    normal = np.random.default_rng(0).standard_normal
    x, t = normal((count, widths[0])), normal((count, widths[-1]))
    name = f"loss of {'-'.join(map(str, widths))}, batch {count}"
    return Problem(name, transform, _loss, (_layers(normal, *widths), x, t))


def _problems() -> Iterator[Problem]:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal

    for n in (2, 10, 100):
        x, v = normal(n), normal(n)
        for transform, args in (("grad", (x,)), ("hvp", (x, v)), ("hessian", (x,))):
            yield Problem(f"Rosenbrock, {n}", transform, _rosenbrock, args)
    yield Problem(
        "loss of a network 2-16-1", "grad", _loss, (_layers(normal, 2, 16, 1), *_data(normal, 2))
    )
    yield Problem("loss of 8-64-1", "grad", _loss, (_layers(normal, 8, 64, 1), *_data(normal, 8)))
    for widths, count in NETWORKS:
        for transform in ("grad", PER_SAMPLE):
            yield network_problem(widths, count, transform)
    for widths, transform in (
        ((5, 8, 5), "jacobian"),
        ((20, 40, 100), "wide jacobian"),
        ((100, 40, 20), "jacobian"),
    ):
        net = functools.partial(_of_inputs, _layers(normal, *widths))
        name = f"network {'-'.join(map(str, widths))}"
        yield Problem(name, transform, net, (normal(widths[0]),))
    yield Problem("tanh(x) exp(-x²), a number", "grad", _bump, (0.3,))
    yield Problem("tanh(x) exp(-x²), a number", "grad of grad", _bump, (0.3,))
    yield Problem("tanh(x) exp(-x²), 100", "elementwise_grad", _bump, (normal(100),))
    a = normal((3, 3))
    yield Problem("50 steps of Euler's method", "grad", _energy, (normal(3), a))
    yield Problem(
        "50 steps of Euler's method", "jacobian", functools.partial(_flow, 50), (normal(3), a)
    )


def _data(normal: Callable[..., Any], nin: int) -> tuple[Any, Any]:
    return normal((20, nin)), normal((20, 1))


def _of_inputs(parameters: dict[str, Any], np: Any) -> Callable[..., Any]:
    net = _network(np)
    return lambda x: net(parameters, x)


# -- measuring


def run(quick: bool, output: Path) -> None:
    introduce(
        "Derivatives of small functions of float64: microseconds (ratio to tensorgrad), the",
        "shortest of rounds in which the engines take turns. Results are checked to be equal.",
    )
    engines = dict(installed(ENGINES))
    table = Table(
        {"": 60} | dict.fromkeys(engines, 16),
        output / "derivatives.json",
        ["problem", "engine", "microseconds", "ratio to tensorgrad"],
    )
    for problem in _problems():
        calls = {}
        for name, engine in engines.items():
            if problem.transform not in engine.transforms:
                continue
            note(f"checking {problem} by {name}")
            calls[name] = problem.prepare(engine)
        expected = leaves(calls["tensorgrad"]())
        for name, call in calls.items():
            for got, value in zip(leaves(call()), expected, strict=True):
                require_equal(f"{problem} by {name}", got, value, TOLERANCE)
        compare(
            table,
            problem,
            {name: turn_of(call) for name, call in calls.items()},
            seconds=0.5 if quick else 5.0,
        )
