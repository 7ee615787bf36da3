"""Training a classifier of digits until it is good: one engine, in a process of its own.

`python -m benchmarks.digits_engines NAME SEED PATH` prints the seconds of the training, compilation
included, those of the whole process, and the number of epochs, as JSON. All engines begin with the
same weights and take the same batches, but for scikit-learn, which draws its own. The file has the
arrays of the data.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Data: TypeAlias = tuple[Array, Array, Array, Array]  # x_train, x_test, y_train, y_test

WIDTHS = 64, 64, 10
BATCH = 32
RATE = 3e-3
BETAS, EPSILON = (0.9, 0.999), 1e-8
GOOD = 0.97  # of the test images are classified correctly
EPOCHS = 100  # at most

# Trains with a seed until the accuracy is good; returns the number of epochs.
Trainer: TypeAlias = Callable[[Data, int], int]


def initial(seed: int) -> list[Array]:
    """The weights of each layer, and its biases."""
    rng, arrays = np.random.default_rng(seed), list[Array]()
    for nin, nout in itertools.pairwise(WIDTHS):
        bound = 1 / math.sqrt(nin)
        arrays += rng.uniform(-bound, bound, (nout, nin)), rng.uniform(-bound, bound, nout)
    return [a.astype(np.float32) for a in arrays]


def shuffled(x: Array, y: Array, seed: int) -> Iterator[tuple[Array, Array]]:
    """The data of each epoch, in the order of `tg.data.batches`, without a smaller last batch."""
    rng, size = np.random.default_rng(seed), len(x) // BATCH * BATCH
    for _ in range(EPOCHS):
        order = np.random.default_rng(int(rng.integers(1 << 63))).permutation(len(x))[:size]
        yield x[order], y[order]


def tensorgrad() -> Trainer:
    """`fit`, as it is."""
    import tensorgrad as tg

    def train(data: Data, seed: int) -> int:
        x, x_test, y, y_test = data
        model = tg.MLP(
            WIDTHS[0], WIDTHS[1:], activation="relu", output_activation="linear", dtype=np.float32
        )
        for p, a in zip(model.parameters(), initial(seed), strict=True):
            p.data = a
        history = tg.fit(
            model,
            tg.nn.cross_entropy,
            tg.data.batches((x, y), BATCH, shuffle=True, rng=seed, drop_last=True),
            optimizer=tg.optim.Adam(model.parameters(), lr=RATE),
            epochs=EPOCHS,
            callbacks=[lambda _: tg.training.accuracy(model(x_test), y_test) >= GOOD],
            progress=False,
        )
        return len(history["loss"])

    return train


def pytorch(compiles: bool = False) -> Trainer:
    """A loop over slices of shuffled tensors, and the fused Adam."""
    import torch
    import torch._dynamo  # which the first step of an optimizer would import

    torch.set_num_threads(1)

    def train(data: Data, seed: int) -> int:
        x, x_test, y, y_test = data
        model = torch.nn.Sequential(
            torch.nn.Linear(*WIDTHS[:2]), torch.nn.ReLU(), torch.nn.Linear(*WIDTHS[1:])
        )
        with torch.no_grad():
            for p, a in zip(model.parameters(), initial(seed), strict=True):
                p.copy_(torch.from_numpy(a))
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
        forward: Any = torch.compile(model) if compiles else model
        images, labels = torch.from_numpy(x_test), torch.from_numpy(y_test)
        for epoch, arrays in enumerate(shuffled(x, y, seed), 1):
            for inputs, targets in zip(*(torch.from_numpy(a).split(BATCH) for a in arrays)):
                loss = torch.nn.functional.cross_entropy(forward(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                if (model(images).argmax(1) == labels).float().mean().item() >= GOOD:
                    return epoch
        return EPOCHS

    return train


def jax(scans: bool = False) -> Trainer:
    """A jitted step, by hand; or a jitted `lax.scan` of it over all batches of an epoch."""
    import jax
    import jax.numpy as jnp

    jax.devices()  # else the first array would look for them

    def scores(weights, x):
        w, b, v, c = weights
        return jax.nn.relu(x @ w.T + b) @ v.T + c

    def loss_of(weights, x, y):
        log_p = jax.nn.log_softmax(scores(weights, x))
        return -jnp.mean(jnp.take_along_axis(log_p, y[:, None], 1))

    def step(state, batch):
        weights, means, squares, k = state
        loss, gradients = jax.value_and_grad(loss_of)(weights, *batch)
        (beta1, beta2), k = BETAS, k + 1
        means = [beta1 * m + (1 - beta1) * g for m, g in zip(means, gradients)]
        squares = [beta2 * s + (1 - beta2) * g * g for s, g in zip(squares, gradients)]
        root = jnp.sqrt(1 - beta2**k)
        rate = RATE * root / (1 - beta1**k)
        weights = [
            w - rate * m / (jnp.sqrt(s) + EPSILON * root)
            for w, m, s in zip(weights, means, squares)
        ]
        return (weights, means, squares, k), loss

    accuracy = jax.jit(lambda weights, x, y: jnp.mean(scores(weights, x).argmax(1) == y))
    compiled = jax.jit(
        (lambda state, batches: jax.lax.scan(step, state, batches)) if scans else step
    )

    def train(data: Data, seed: int) -> int:
        x, x_test, y, y_test = data
        weights = [jnp.asarray(a) for a in initial(seed)]
        zeros = [jnp.zeros_like(w) for w in weights]
        state: Any = weights, zeros, zeros, jnp.float32(0)
        for epoch, (images, labels) in enumerate(shuffled(x, y, seed), 1):
            batches = images.reshape(-1, BATCH, WIDTHS[0]), labels.reshape(-1, BATCH)
            if scans:
                state, _ = compiled(state, batches)
            else:
                for batch in zip(*batches, strict=True):
                    state, _ = compiled(state, batch)
            if accuracy(state[0], x_test, y_test) >= GOOD:
                return epoch
        return EPOCHS

    return train


def scikit_learn() -> Trainer:
    """An epoch is a call of `partial_fit`."""
    from sklearn.neural_network import MLPClassifier

    def train(data: Data, seed: int) -> int:
        x, x_test, y, y_test = data
        model = MLPClassifier(
            WIDTHS[1:-1], batch_size=BATCH, learning_rate_init=RATE, alpha=0, random_state=seed
        )
        classes = np.arange(WIDTHS[-1])
        for epoch in range(1, EPOCHS + 1):
            model.partial_fit(x, y, classes=classes)
            if model.score(x_test, y_test) >= GOOD:
                return epoch
        return EPOCHS

    return train


# By name, what loads an engine, and the library that it needs.
ENGINES: dict[str, tuple[Callable[[], Trainer], str]] = {
    "tensorgrad": (tensorgrad, "numpy"),
    "scikit-learn": (scikit_learn, "sklearn"),
    "PyTorch": (pytorch, "torch"),
    "PyTorch compiled": (lambda: pytorch(compiles=True), "torch"),
    "JAX jit": (jax, "jax"),
    "JAX scan": (lambda: jax(scans=True), "jax"),
}


def seconds() -> float:
    """The CPU time of this process and of those that it has started, such as compilers."""
    try:
        import resource
    except ImportError:  # on Windows
        return time.process_time()
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, who))


if __name__ == "__main__":
    name, number, path = sys.argv[1:]
    with np.load(path) as arrays:
        data = tuple(arrays[key] for key in ("x_train", "x_test", "y_train", "y_test"))
    train = ENGINES[name][0]()
    start = seconds()
    epochs = train(data, int(number))  # type: ignore[arg-type]
    end = seconds()
    print(json.dumps([end - start, end, epochs]))
