"""Training steps of recurrent, convolutional and attention layers, in tensorgrad and others.

A step is one of gradient descent on the cross-entropy of a model, whose layers have the same names
and weights in tensorgrad and in PyTorch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .timing import Table, compare, installed, introduce, note, require_equal, turn_of

RATE, CLASSES = 0.05, 10
STEPS = 5  # whose losses are compared
TOLERANCE = 1e-3  # all compute in float32, and sums in other orders

Weights: TypeAlias = list[dict[str, Any]]  # of each layer, by their names
Batch: TypeAlias = tuple[Any, Any]
Training: TypeAlias = Callable[[], Any]  # makes one step, and returns the loss


class Problem(NamedTuple):
    """A model: its layers, of a library's module `nn`, and what it computes with them."""

    name: str
    layers: Callable[[Any, Any], list[Any]]  # and of its float32
    forward: Callable[[Sequence[Any], Any], Any]
    jax_forward: Callable[[Weights, Any], Any]  # the same by functions of JAX's
    shape: tuple[int, ...]  # of the inputs
    samples: int

    def batch(self) -> Batch:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, CLASSES, self.samples)
        return rng.normal(size=self.shape).astype(np.float32), labels

    def weights(self) -> Weights:
        """Weights at the start."""
        import tensorgrad as tg

        rng = np.random.default_rng(1)
        shapes = [
            {name: p.shape for name, p in layer.named_parameters()}
            for layer in self.layers(tg.nn, np.float32)
        ]
        return [
            {k: (0.1 * rng.normal(size=shape)).astype(np.float32) for k, shape in layer.items()}
            for layer in shapes
        ]

    def __str__(self) -> str:
        return self.name


# -- the engines: each makes, of a problem, what trains it


def tensorgrad(backend: Literal["numpy", "llvm"] | None = None) -> Callable[[Problem], Training]:
    import tensorgrad as tg

    if backend == "llvm":
        import llvmlite  # noqa: F401 (the engine is left out without it)

    def training(problem: Problem) -> Training:
        layers, batch = problem.layers(tg.nn, np.float32), problem.batch()
        parameters = []
        for layer, weights in zip(layers, problem.weights(), strict=True):
            for name, p in layer.named_parameters():
                p.data = weights[name]
                parameters.append(p)
        optimizer = tg.optim.SGD(parameters, lr=RATE)

        def step(x: Any, y: Any) -> Any:
            loss = tg.nn.cross_entropy(problem.forward(layers, x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        make = step if backend is None else tg.compile(step, backend=backend)
        return functools.partial(make, *batch)

    return training


def pytorch(*, compiled: bool = False) -> Callable[[Problem], Training]:
    import torch

    if compiled:  # it raises RuntimeError if there is no compiler of C++
        torch.compile(torch.neg, fullgraph=True)(torch.ones(1))

    def training(problem: Problem) -> Training:
        layers, (x, y) = problem.layers(torch.nn, torch.float32), map(torch.tensor, problem.batch())
        parameters = []
        for layer, weights in zip(layers, problem.weights(), strict=True):
            layer.load_state_dict({k: torch.tensor(w) for k, w in weights.items()})
            parameters += layer.parameters()
        optimizer = torch.optim.SGD(parameters, lr=RATE)

        def loss_of(x: Any, y: Any) -> Any:
            return torch.nn.functional.cross_entropy(problem.forward(layers, x), y)

        if compiled:
            torch.compiler.reset()
            loss_of = torch.compile(loss_of, dynamic=False)

        def step() -> Any:
            loss = loss_of(x, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    return training


def jax_jit() -> Callable[[Problem], Training]:
    import jax

    def training(problem: Problem) -> Training:
        weights = jax.tree.map(jax.numpy.asarray, problem.weights())
        x, y = map(jax.numpy.asarray, problem.batch())

        def loss_of(weights: Weights, x: Any, y: Any) -> Any:
            logs = jax.nn.log_softmax(problem.jax_forward(weights, x))
            return -jax.numpy.take_along_axis(logs, y[:, None], axis=1).mean()

        @functools.partial(jax.jit, donate_argnums=0)
        def update(weights: Weights, x: Any, y: Any) -> Any:
            loss, gradients = jax.value_and_grad(loss_of)(weights, x, y)
            return jax.tree.map(lambda w, g: w - RATE * g, weights, gradients), loss

        def step() -> Any:
            nonlocal weights
            weights, loss = update(weights, x, y)
            return loss.block_until_ready()

        return step

    return training


ENGINES: dict[str, Callable[[], Callable[[Problem], Training]]] = {
    "tensorgrad": tensorgrad,
    "compiled": functools.partial(tensorgrad, "numpy"),
    "native": functools.partial(tensorgrad, "llvm"),
    "PyTorch": pytorch,
    "PyTorch compiled": functools.partial(pytorch, compiled=True),
    "JAX jit": jax_jit,
}

# -- the problems


def _linear(weights: dict[str, Any], x: Any, name: str = "") -> Any:
    return x @ weights[f"{name}weight"].T + weights[f"{name}bias"]


def _recurrent(hidden: int, steps: int, samples: int) -> Problem:
    def forward(layers: Sequence[Any], x: Any) -> Any:
        recurrent, linear = layers
        return linear(recurrent(x)[0][-1])

    def jax_forward(weights: Weights, x: Any) -> Any:
        import jax

        w, np = weights[0], jax.numpy
        bias = w["bias_ih_l0"] + w["bias_hh_l0"]

        def cell(carry: Any, row: Any) -> Any:
            h, c = carry
            gates = row + h @ w["weight_hh_l0"].T
            i, f, g, o = np.split(gates, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * np.tanh(g)
            h = jax.nn.sigmoid(o) * np.tanh(c)
            return (h, c), None

        start = np.zeros((samples, hidden), x.dtype)
        (h, _), _ = jax.lax.scan(cell, (start, start), x @ w["weight_ih_l0"].T + bias)
        return _linear(weights[1], h)

    return Problem(
        f"LSTM, {steps} steps, {hidden} units",
        lambda nn, t: [nn.LSTM(32, hidden, dtype=t), nn.Linear(hidden, CLASSES, dtype=t)],
        forward,
        jax_forward,
        (steps, samples, 32),
        samples,
    )


def _jax_conv(weights: dict[str, Any], x: Any) -> Any:
    from jax import lax

    y = lax.conv_general_dilated(x, weights["weight"], (1, 1), "SAME")
    return y + weights["bias"][:, None, None]


def _convolutional(samples: int) -> Problem:
    def forward(layers: Sequence[Any], x: Any) -> Any:
        first, second, relu, pool, flatten, linear = layers
        x = pool(relu(first(x)))
        return linear(flatten(pool(relu(second(x)))))

    def jax_forward(weights: Weights, x: Any) -> Any:
        import jax

        for w in weights[:2]:
            x = jax.nn.relu(_jax_conv(w, x))
            window = (1, 1, 2, 2)
            x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, window, "VALID")
        return _linear(weights[-1], x.reshape(len(x), -1))

    def layers(nn: Any, dtype: Any) -> list[Any]:
        convolutions = [
            nn.Conv2d(1, 16, 3, padding=1, dtype=dtype),
            nn.Conv2d(16, 32, 3, padding=1, dtype=dtype),
        ]
        others = [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        return [*convolutions, *others, nn.Linear(128, CLASSES, dtype=dtype)]

    name = f"convolutions 1-16-32 of 8x8, batch {samples}"
    return Problem(name, layers, forward, jax_forward, (samples, 1, 8, 8), samples)


def _convolution(samples: int) -> Problem:
    def forward(layers: Sequence[Any], x: Any) -> Any:
        convolution, pool, flatten, linear = layers
        return linear(flatten(pool(convolution(x))))

    def jax_forward(weights: Weights, x: Any) -> Any:
        return _linear(weights[-1], _jax_conv(weights[0], x).mean(axis=(2, 3)))

    def layers(nn: Any, dtype: Any) -> list[Any]:
        convolution = nn.Conv2d(16, 32, 3, padding=1, dtype=dtype)
        return [
            convolution,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, CLASSES, dtype=dtype),
        ]

    name = f"convolution 16-32 of 28x28, batch {samples}"
    return Problem(name, layers, forward, jax_forward, (samples, 16, 28, 28), samples)


def _attention(width: int, heads: int, length: int, samples: int) -> Problem:
    def forward(layers: Sequence[Any], x: Any) -> Any:
        encoder, linear = layers
        return linear(encoder(x).mean(1))

    def jax_forward(weights: Weights, x: Any) -> Any:
        import jax

        w, np = weights[0], jax.numpy

        def norm(x: Any, name: str) -> Any:
            x = x - x.mean(-1, keepdims=True)
            x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
            return x * w[f"{name}.weight"] + w[f"{name}.bias"]

        projected = x @ w["self_attn.in_proj_weight"].T + w["self_attn.in_proj_bias"]
        q, k, v = np.moveaxis(projected.reshape(samples, length, 3, heads, -1), (2, 3), (0, 2))
        scores = jax.nn.softmax(q @ k.mT / math.sqrt(width // heads))
        attended = np.moveaxis(scores @ v, 1, 2).reshape(samples, length, width)
        x = norm(x + _linear(w, attended, "self_attn.out_proj."), "norm1")
        hidden = jax.nn.relu(_linear(w, x, "linear1."))
        return _linear(weights[1], norm(x + _linear(w, hidden, "linear2."), "norm2").mean(1))

    def layers(nn: Any, dtype: Any) -> list[Any]:
        options = {"dropout": 0.0, "batch_first": True, "dtype": dtype}
        encoder = nn.TransformerEncoderLayer(width, heads, 2 * width, **options)
        return [encoder, nn.Linear(width, CLASSES, dtype=dtype)]

    name = f"Transformer encoder layer, {width} wide, {length} long, batch {samples}"
    return Problem(name, layers, forward, jax_forward, (samples, length, width), samples)


PROBLEMS = [
    _recurrent(hidden=64, steps=64, samples=16),
    _convolutional(samples=32),
    _convolution(samples=32),
    _attention(width=64, heads=4, length=32, samples=16),
]

# -- measuring


def run(quick: bool, output: Path) -> None:
    introduce(
        "Training steps in float32: microseconds (ratio to tensorgrad, not compiled), the shortest",
        f"of rounds in which the engines take turns. The first {STEPS} losses are checked.",
    )
    engines = dict(installed(ENGINES))
    fields = ["problem", "engine", "microseconds", "ratio to tensorgrad"]
    table = Table({"": 58} | dict.fromkeys(engines, 16), output / "layers.json", fields)
    for problem in PROBLEMS:
        steps, losses = {}, {}
        for name, make in engines.items():
            note(f"checking {problem} by {name}")
            steps[name] = make(problem)
            losses[name] = [float(steps[name]()) for _ in range(STEPS)]
            require_equal(f"{problem} by {name}", losses[name], losses["tensorgrad"], TOLERANCE)
        turns = {name: turn_of(step) for name, step in steps.items()}
        compare(table, problem, turns, seconds=0.5 if quick else 10.0)
