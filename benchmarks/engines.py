"""The engines that `peers` compares: the same work, each in its library's own best idiom.

Every entry of `ENGINES` is a function that imports its library and returns an `Engine`; to compare
one more, write that function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
RATE = 0.1  # of gradient descent


class Engine(NamedTuple):
    """What an engine can do; each function prepares the work and returns what is to be timed."""

    # (weights, x, t) -> (step, current): step() makes one training step of the network with the
    # weights w1, b1, w2, b2 ... (w of shape (nout, nin)) and tanh after each layer, by gradient
    # descent on the mean squared error of its outputs for x against t, and returns the loss;
    # current() returns the weights as they have become.
    training: Callable[
        [Sequence[Array], Array, Array], tuple[Callable[[], Any], Callable[[], Sequence[Any]]]
    ]
    # x -> a function that computes x * x, then its gradient given ones, and returns that.
    square: Callable[[Array], Callable[[], Any]]
    # x -> a function that computes (x * x).sum(), then its gradient, and returns that.
    square_sum: Callable[[Array], Callable[[], Any]]


def tensorgrad() -> Engine:
    import tensorgrad as tg

    def training(weights, x, t):
        net = tg.MLP(x.shape[1], [len(b) for b in weights[1::2]], dtype=x.dtype)
        parameters = net.parameters()
        for parameter, weight in zip(parameters, weights):
            parameter.data = weight

        def step():
            loss = tg.nn.mse_loss(net(x), t)
            loss.backward()
            for p in parameters:
                p.data += -RATE * p.grad
                p.zero_grad()
            return loss.data

        return step, lambda: [p.data for p in parameters]

    def square(x):
        x, ones = tg.Tensor(x, requires_grad=True), np.ones_like(x)

        def call():
            x.zero_grad()
            (x * x).backward(ones)
            return x.grad

        return call

    def square_sum(x):
        x = tg.Tensor(x, requires_grad=True)

        def call():
            x.zero_grad()
            (x * x).sum().backward()
            return x.grad

        return call

    return Engine(training, square, square_sum)


def by_hand() -> Engine:
    def training(weights, x, t):
        weights = [w.copy() for w in weights]
        layers = list(zip(weights[::2], weights[1::2]))

        def step():
            ys = [x]
            for w, b in layers:
                ys.append(np.tanh(ys[-1] @ w.T + b))
            error = ys[-1] - t
            loss = (error * error).mean()
            g = error * (2 / error.size)
            for i in reversed(range(len(layers))):
                w, b = layers[i]
                g = g * (1 - ys[i + 1] * ys[i + 1])
                dw, db = g.T @ ys[i], g.sum(axis=0)
                if i:
                    g = g @ w
                w -= RATE * dw
                b -= RATE * db
            return loss

        return step, lambda: weights

    def square(x):
        ones = np.ones_like(x)

        def call():
            _ = x * x
            return 2 * x * ones

        return call

    def square_sum(x):
        def call():
            _ = (x * x).sum()
            return 2 * x

        return call

    return Engine(training, square, square_sum)


def pytorch() -> Engine:
    import torch
    from torch.nn import functional

    def training(weights, x, t):
        x, t = torch.tensor(x), torch.tensor(t)
        parameters = [torch.tensor(w, requires_grad=True) for w in weights]
        layers = list(zip(parameters[::2], parameters[1::2]))

        def step():
            y = x
            for w, b in layers:
                y = torch.tanh(functional.linear(y, w, b))
            loss = functional.mse_loss(y, t)
            loss.backward()
            with torch.no_grad():
                for p in parameters:
                    p.add_(p.grad, alpha=-RATE)
                    p.grad = None
            return loss.detach()

        return step, lambda: [p.detach().numpy() for p in parameters]

    def square(x):
        x = torch.tensor(x, requires_grad=True)
        ones = torch.ones_like(x)

        def call():
            x.grad = None
            (x * x).backward(ones)
            return x.grad

        return call

    def square_sum(x):
        x = torch.tensor(x, requires_grad=True)

        def call():
            x.grad = None
            (x * x).sum().backward()
            return x.grad

        return call

    return Engine(training, square, square_sum)


def pytorch_modules() -> Engine:
    import torch
    from torch import nn

    def training(weights, x, t):
        x, t = torch.tensor(x), torch.tensor(t)
        layers = [nn.Linear(w.shape[1], w.shape[0]) for w in weights[::2]]
        net = nn.Sequential(*(module for layer in layers for module in (layer, nn.Tanh())))
        parameters = list(net.parameters())
        with torch.no_grad():
            for parameter, weight in zip(parameters, weights):
                parameter.copy_(torch.tensor(weight))
        loss_of = nn.MSELoss()
        optimizer = torch.optim.SGD(parameters, lr=RATE)

        def step():
            optimizer.zero_grad()
            loss = loss_of(net(x), t)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step, lambda: [p.detach().numpy() for p in parameters]

    return pytorch()._replace(training=training)


def hips_autograd() -> Engine:
    import autograd
    from autograd import numpy as anp

    def training(weights, x, t):
        weights = [w.copy() for w in weights]

        def loss(weights):
            y = x
            for w, b in zip(weights[::2], weights[1::2]):
                y = anp.tanh(anp.dot(y, w.T) + b)
            return anp.mean((y - t) ** 2)

        loss_and_gradients = autograd.value_and_grad(loss)

        def step():
            value, gradients = loss_and_gradients(weights)
            for w, g in zip(weights, gradients):
                w -= RATE * g
            return value

        return step, lambda: weights

    def square(x):
        make_vjp, ones = autograd.make_vjp(lambda x: x * x), np.ones_like(x)

        def call():
            vjp, _ = make_vjp(x)
            return vjp(ones)

        return call

    def square_sum(x):
        gradient = autograd.grad(lambda x: anp.sum(x * x))
        return lambda: gradient(x)

    return Engine(training, square, square_sum)


def mygrad() -> Engine:
    import mygrad as mg

    mg.turn_memory_guarding_off()  # as its documentation advises for speed

    def training(weights, x, t):
        parameters = [mg.tensor(w) for w in weights]
        layers = list(zip(parameters[::2], parameters[1::2]))

        def step():
            y = x
            for w, b in layers:
                y = mg.tanh(mg.matmul(y, w.T) + b)
            loss = mg.mean((y - t) ** 2)
            loss.backward()
            for p in parameters:
                p.data -= RATE * p.grad
                p.null_grad()
            return loss.data

        return step, lambda: [p.data for p in parameters]

    def square(x):
        x, ones = mg.tensor(x), np.ones_like(x)

        def call():
            (x * x).backward(ones)
            return x.grad

        return call

    def square_sum(x):
        x = mg.tensor(x)

        def call():
            (x * x).sum().backward()
            return x.grad

        return call

    return Engine(training, square, square_sum)


def jax_jit() -> Engine:
    import jax
    from jax import numpy as jnp

    def training(weights, x, t):
        x, t = jnp.asarray(x), jnp.asarray(t)
        weights = [jnp.asarray(w) for w in weights]

        def loss(weights, x, t):
            y = x
            for w, b in zip(weights[::2], weights[1::2]):
                y = jnp.tanh(y @ w.T + b)
            return jnp.mean((y - t) ** 2)

        @jax.jit
        def update(weights, x, t):
            value, gradients = jax.value_and_grad(loss)(weights, x, t)
            return value, [w - RATE * g for w, g in zip(weights, gradients)]

        def step():
            nonlocal weights
            value, weights = update(weights, x, t)
            return value.block_until_ready()

        return step, lambda: weights

    def square(x):
        x, ones = jnp.asarray(x), jnp.ones_like(x)

        @jax.jit
        def gradient(x, g):
            y, vjp = jax.vjp(lambda x: x * x, x)
            return y, vjp(g)[0]

        return lambda: gradient(x, ones)[1].block_until_ready()

    def square_sum(x):
        x = jnp.asarray(x)
        gradient = jax.jit(jax.value_and_grad(lambda x: (x * x).sum()))
        return lambda: gradient(x)[1].block_until_ready()

    return Engine(training, square, square_sum)


ENGINES: dict[str, Callable[[], Engine]] = {
    "tensorgrad": tensorgrad,
    "NumPy by hand": by_hand,
    "PyTorch eager": pytorch,
    "PyTorch nn, SGD": pytorch_modules,
    "HIPS autograd": hips_autograd,
    "MyGrad": mygrad,
    "JAX jit": jax_jit,
}
