"""The engines that `peers` compares: the same work, each in its library's own best idiom.

Every entry of `ENGINES` is a function that imports its library and returns an `Engine`. To compare
one more library, write such a function. scikit-learn cannot be compared: its MLPRegressor has no
activation after the last layer, and halves the loss.
"""

from __future__ import annotations

import functools
import math
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .flat import Flat

Array: TypeAlias = NDArray[Any]
RATE = {"SGD": 0.1, "Adam": 1e-3}
BETAS = 0.9, 0.999
EPSILON = 1e-8


class Problem(NamedTuple):
    """What to train: a network with tanh after each layer, on the mean squared error."""

    weights: Sequence[Array]  # w0, b0, w1, b1 ... with w of shape (nout, nin)
    batch: int
    optimizer: str  # one of RATE


class Training(NamedTuple):
    """A step that is ready to be timed."""

    step: Callable[[Any, Any], Any]  # (x, t) -> the loss before the step
    weights: Callable[[], Sequence[Any]]  # after the steps so far
    array: Callable[[Array], Any] = lambda a: a  # converts x and t to what the step takes


class Engine(NamedTuple):
    """What an engine can do. Each function prepares the work, and returns the function to time."""

    # With `scans`, a step takes stacked batches, trains on each, and returns their losses.
    training: Callable[[Problem], Training]
    scans: bool = False
    widest: float = math.inf  # the widest layer that it trains in reasonable time
    equal: bool = True  # False if it does only a part of the work
    # (f, x) -> a function that computes y = f(np, x), with np the library's own, and the gradient
    # of y's sum with respect to x, and returns the gradient.
    gradient: Callable[[Callable[[Any, Any], Any], Array], Callable[[], Any]] | None = None


def pairs(weights: Sequence[Any]) -> list[tuple[Any, Any]]:
    """The weights of each layer."""
    return list(zip(weights[::2], weights[1::2]))


def mean_squared_error(np: Any, weights: Sequence[Any], x: Any, t: Any) -> Any:
    """The loss, in terms of a library's functions and operators."""
    for w, b in pairs(weights):
        x = np.tanh(x @ w.T + b)
    return ((x - t) ** 2).mean()


def initial(problem: Problem, array: Callable[[Array], Any]) -> list[tuple[Any, ...]]:
    """Each parameter, with the state of the optimizer for it."""
    kept = 2 if problem.optimizer == "Adam" else 0
    return [(array(w), *(array(np.zeros_like(w)) for _ in range(kept))) for w in problem.weights]


def updated(part: tuple[Any, ...], g: Any, k: Any) -> tuple[Any, ...]:
    """A parameter, and the state of the optimizer for it, after step k = 1, 2, ..."""
    w, *moments = part
    if not moments:
        return (w - RATE["SGD"] * g,)
    (m, v), (beta1, beta2) = moments, BETAS
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    root = (1 - beta2**k) ** 0.5
    return w - (RATE["Adam"] * root / (1 - beta1**k)) * m / (v**0.5 + EPSILON * root), m, v


# -- tensorgrad


def tensorgrad() -> Engine:
    import tensorgrad as tg

    def training(problem):
        widths = [len(b) for b in problem.weights[1::2]]
        net = tg.MLP(problem.weights[0].shape[1], widths, dtype=problem.weights[0].dtype)
        parameters = net.parameters()
        for parameter, weight in zip(parameters, problem.weights):
            parameter.data = weight
        optimizer = getattr(tg.optim, problem.optimizer)(parameters, lr=RATE[problem.optimizer])

        def step(x, t):
            loss = tg.nn.mse_loss(net(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return Training(step, lambda: [p.data for p in parameters])

    def gradient(f, x):
        ones = np.ones_like(f(np, x))

        def call():
            tensor = tg.Tensor(x, requires_grad=True)
            f(np, tensor).backward(ones)
            return tensor.grad

        return call

    return Engine(training, gradient=gradient)


def tensorgrad_compiled(backend: Literal["numpy", "llvm"] = "numpy") -> Engine:
    import tensorgrad as tg

    if backend == "llvm":
        import llvmlite  # noqa: F401 (the engine is left out without it)
    eager = tensorgrad()

    def training(problem):
        prepared = eager.training(problem)
        return prepared._replace(step=tg.compile(prepared.step, backend=backend))

    def gradient(f, x):
        ones = np.ones_like(f(np, x))

        def call(x):
            y, pullback = tg.vjp(lambda x: f(np, x), x)
            return y, *pullback(ones)

        compiled = tg.compile(call, backend=backend)
        return lambda: compiled(x)[1]

    return Engine(training, gradient=gradient)


def tensorgrad_scan(backend: Literal["numpy", "llvm"] = "numpy") -> Engine:
    compiled = tensorgrad_compiled(backend)

    def training(problem):
        prepared = compiled.training(problem)
        return prepared._replace(step=prepared.step.scan)

    return Engine(training, scans=True)


# -- NumPy


def flat() -> Engine:
    return Engine(lambda problem: _flat(problem, Flat.step))


def products() -> Engine:
    """The matrix products of a step alone: no step takes less time."""
    return Engine(lambda problem: _flat(problem, Flat.products), equal=False)


def _flat(problem: Problem, function: Callable[[Flat], Any]) -> Training:
    adam = (BETAS, EPSILON) if problem.optimizer == "Adam" else ()
    program = Flat(problem.weights, problem.batch, RATE[problem.optimizer], *adam)
    return Training(function(program), lambda: program.weights)


def multiply_adds() -> Engine:
    """A step's multiply-adds on registers alone: no processor core is faster than that."""
    from . import limits

    def training(problem):
        widths = [problem.weights[0].shape[1], *map(len, problem.weights[1::2])]
        function = limits.multiply_adds(widths, problem.batch, problem.weights[0].dtype)
        return Training(lambda *_: function(), list)

    return Engine(training, equal=False)


def memory() -> Engine:
    """Reading and writing the parameters, and what the optimizer keeps of each, once."""
    from . import limits

    def training(problem):
        parts = initial(problem, np.asarray)
        function = limits.memory(sum(array.nbytes for part in parts for array in part))
        return Training(lambda *_: function(), list)

    return Engine(training, equal=False)


def by_hand() -> Engine:
    def training(problem):
        state, k = initial(problem, np.copy), 0

        def step(x, t):
            nonlocal state, k
            layers = pairs([w for w, *_ in state])
            ys = [x]
            for w, b in layers:
                ys.append(np.tanh(ys[-1] @ w.T + b))
            error = ys[-1] - t
            loss = (error * error).mean()
            g = error * (2 / error.size)
            gradients = []
            for i in reversed(range(len(layers))):
                g = g * (1 - ys[i + 1] * ys[i + 1])
                gradients += [g.sum(axis=0), g.T @ ys[i]]
                if i:
                    g = g @ layers[i][0]
            k += 1
            state = [updated(part, g, k) for part, g in zip(state, reversed(gradients))]
            return loss

        return Training(step, lambda: [w for w, *_ in state])

    return Engine(training)


# -- PyTorch


def pytorch() -> Engine:
    """Functions of tensors, and the cheapest update."""
    import torch
    from torch.nn import functional

    def training(problem):
        parameters = [torch.tensor(w, requires_grad=True) for w in problem.weights]
        layers = pairs(parameters)
        adam = torch.optim.Adam(parameters, RATE["Adam"], BETAS, EPSILON, fused=True)

        def descend():
            with torch.no_grad():
                for p in parameters:
                    p.add_(p.grad, alpha=-RATE["SGD"])

        update = adam.step if problem.optimizer == "Adam" else descend

        def step(x, t):
            y = x
            for w, b in layers:
                y = torch.tanh(functional.linear(y, w, b))
            loss = functional.mse_loss(y, t)
            loss.backward()
            update()
            for p in parameters:
                p.grad = None
            return loss.detach()

        return Training(step, lambda: [p.detach().numpy() for p in parameters], torch.tensor)

    def gradient(f, x):
        x = torch.tensor(x, requires_grad=True)
        ones = torch.ones_like(f(torch, x))

        def call():
            x.grad = None
            f(torch, x).backward(ones)
            return x.grad

        return call

    return Engine(training, gradient=gradient)


def pytorch_modules() -> Engine:
    import torch
    from torch import nn

    def training(problem):
        layers = [nn.Linear(*w.shape[::-1]) for w in problem.weights[::2]]
        net = nn.Sequential(*(module for layer in layers for module in (layer, nn.Tanh())))
        parameters = list(net.parameters())
        for parameter, weight in zip(parameters, problem.weights):
            parameter.data = torch.tensor(weight)
        loss_of = nn.MSELoss()
        optimizer = getattr(torch.optim, problem.optimizer)(parameters, RATE[problem.optimizer])

        def step(x, t):
            optimizer.zero_grad()
            loss = loss_of(net(x), t)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return Training(step, lambda: [p.detach().numpy() for p in parameters], torch.tensor)

    return Engine(training)


def pytorch_compiled() -> Engine:
    import torch

    def compiled(f):
        torch.compiler.reset()  # otherwise it stops compiling after a few functions
        return torch.compile(f, fullgraph=True, dynamic=False)

    compiled(torch.neg)(torch.ones(1))  # raises RuntimeError if there is no compiler of C++

    def training(problem):
        state = initial(problem, torch.tensor)
        k = torch.zeros(1, dtype=state[0][0].dtype)  # in float64, () gave wrong steps

        @compiled
        def step(x, t):
            def loss(weights):
                return mean_squared_error(torch, weights, x, t)

            gradients, value = torch.func.grad_and_value(loss)([w for w, *_ in state])
            k.add_(1)
            for part, g in zip(state, gradients):
                for old, new in zip(part, updated(part, g, k)):
                    old.copy_(new)
            return value

        return Training(step, lambda: [w.numpy() for w, *_ in state], torch.tensor)

    def gradient(f, x):
        x = torch.tensor(x)
        ones = torch.ones_like(f(torch, x))

        @compiled
        def call(x):
            y, pullback = torch.func.vjp(lambda x: f(torch, x), x)
            return y, *pullback(ones)

        return lambda: call(x)[1]

    return Engine(training, gradient=gradient)


# -- JAX


def jax_jit() -> Engine:
    jax, start, one_step = _jax()

    def training(problem):
        state = start(problem)
        update = jax.jit(one_step, donate_argnums=0)

        def step(x, t):
            nonlocal state
            state, loss = update(state, (x, t))
            return loss.block_until_ready()

        return Training(step, lambda: [w for w, *_ in state[0]], jax.numpy.asarray)

    def gradient(f, x):
        x = jax.numpy.asarray(x)
        ones = jax.numpy.ones_like(f(jax.numpy, x))

        @jax.jit
        def call(x):
            y, pullback = jax.vjp(lambda x: f(jax.numpy, x), x)
            return y, *pullback(ones)

        return lambda: jax.block_until_ready(call(x))[1]

    return Engine(training, gradient=gradient)


def jax_scan() -> Engine:
    jax, start, one_step = _jax()

    def training(problem):
        state = start(problem)

        @functools.partial(jax.jit, donate_argnums=0)
        def update(state, batches):
            return jax.lax.scan(one_step, state, batches)

        def steps(xs, ts):
            nonlocal state
            state, losses = update(state, (xs, ts))
            return losses.block_until_ready()

        return Training(steps, lambda: [w for w, *_ in state[0]], jax.numpy.asarray)

    return Engine(training, scans=True)


def _jax() -> tuple[Any, Callable[[Problem], Any], Callable[[Any, Any], Any]]:
    """The library, the state at the start, and (state, batch) -> (the next state, the loss)."""
    import jax

    jax.config.update("jax_enable_x64", True)

    def start(problem):
        # Each argument takes time to pass: only Adam gets the count of steps.
        adam = problem.optimizer == "Adam"
        k = jax.numpy.zeros((), problem.weights[0].dtype) if adam else None
        return initial(problem, jax.numpy.asarray), k

    def step(state, batch):
        parts, k = state
        loss, gradients = jax.value_and_grad(
            lambda weights: mean_squared_error(jax.numpy, weights, *batch)
        )([w for w, *_ in parts])
        k = None if k is None else k + 1
        return ([updated(part, g, k) for part, g in zip(parts, gradients)], k), loss

    return jax, start, step


# -- others


def hips_autograd() -> Engine:
    import autograd
    from autograd import numpy as anp

    def training(problem):
        state, k = initial(problem, np.copy), 0

        def loss(weights, x, t):
            for w, b in pairs(weights):
                x = anp.tanh(anp.dot(x, w.T) + b)
            return anp.mean((x - t) ** 2)

        loss_and_gradients = autograd.value_and_grad(loss)

        def step(x, t):
            nonlocal state, k
            value, gradients = loss_and_gradients([w for w, *_ in state], x, t)
            k += 1
            state = [updated(part, g, k) for part, g in zip(state, gradients)]
            return value

        return Training(step, lambda: [w for w, *_ in state])

    def gradient(f, x):
        make_pullback = autograd.make_vjp(lambda x: f(anp, x))
        ones = np.ones_like(f(np, x))

        def call():
            pullback, _ = make_pullback(x)
            return pullback(ones)

        return call

    return Engine(training, gradient=gradient)


def mygrad() -> Engine:
    import mygrad as mg

    mg.turn_memory_guarding_off()  # as its documentation advises for speed

    def training(problem):
        state, k = initial(problem, np.copy), 0
        parameters = [mg.tensor(w) for w, *_ in state]
        layers = pairs(parameters)

        def step(x, t):
            nonlocal state, k
            for w, b in layers:
                x = mg.tanh(mg.matmul(x, w.T) + b)
            loss = mg.mean((x - t) ** 2)
            loss.backward()
            k += 1
            state = [updated(part, p.grad, k) for part, p in zip(state, parameters)]
            for p, (w, *_) in zip(parameters, state):
                p.data = w
                p.null_grad()
            return loss.data

        return Training(step, lambda: [w for w, *_ in state])

    def gradient(f, x):
        x, ones = mg.tensor(x), np.ones_like(f(np, x))

        def call():
            f(mg, x).backward(ones)
            return x.grad

        return call

    return Engine(training, gradient=gradient)


def tinygrad() -> Engine:
    compiler = os.environ.get("CC", "clang")
    if shutil.which(compiler) is None:
        raise ModuleNotFoundError(f"tinygrad needs {compiler}", name=compiler)
    from tinygrad import Tensor, TinyJit

    def array(a):
        return Tensor(a, device="CPU").realize()

    def training(problem):
        state = initial(problem, array)
        # An array without an axis would be a constant of the program.
        k = array(np.zeros(1, problem.weights[0].dtype))

        @TinyJit
        def step(x, t):
            weights = [w for w, *_ in state]
            y = x
            for w, b in pairs(weights):
                y = (y @ w.T + b).tanh()
            loss = ((y - t) ** 2).mean()
            gradients = loss.gradient(*weights)
            k.assign(k + 1).realize()
            changes = [
                old.assign(new)
                for part, g in zip(state, gradients)
                for old, new in zip(part, updated(part, g, k))
            ]
            return loss.realize(*changes)

        return Training(
            lambda x, t: step(x, t).item(), lambda: [w.numpy() for w, *_ in state], array
        )

    return Engine(training, widest=784)  # a step of 1024x4, 1024 took 18 seconds


ENGINES: dict[str, Callable[[], Engine]] = {
    "tensorgrad": tensorgrad,
    "tensorgrad compiled": tensorgrad_compiled,
    "tensorgrad scan": tensorgrad_scan,
    "tensorgrad native": functools.partial(tensorgrad_compiled, "llvm"),
    "tensorgrad native scan": functools.partial(tensorgrad_scan, "llvm"),
    "flat program": flat,
    "matrix products": products,
    "multiply-adds": multiply_adds,
    "memory": memory,
    "NumPy by hand": by_hand,
    "PyTorch": pytorch,
    "PyTorch nn, optim": pytorch_modules,
    "PyTorch compiled": pytorch_compiled,
    "JAX jit": jax_jit,
    "JAX scan": jax_scan,
    "HIPS autograd": hips_autograd,
    "MyGrad": mygrad,
    "tinygrad": tinygrad,
}
