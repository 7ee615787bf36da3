"""The gradient of each sample by itself, in one pass: it shows which labels are wrong.

After training on data with a few wrong labels, these samples have the longest gradients.
Differentially private training adds up the same gradients, after it has clipped each of them.
"""

from typing import Any

import numpy as np

import tensorgrad as tg

WRONG = np.arange(10)  # the samples whose labels are flipped


def losses(p: Any, x: Any, y: Any) -> Any:
    """Return the loss of each sample, shape (n,), of a network with parameters `p`."""
    hidden = np.tanh(x @ p["w1"] + p["b1"])
    scores = hidden @ p["w2"] + p["b2"]
    return np.logaddexp(0, -y * scores)


per_example_gradients = tg.jacobian(losses)  # one gradient for each element of the result


def parameters(rng: np.random.Generator, width: int = 16) -> dict[str, Any]:
    """Return the parameters of a network of two inputs and one hidden layer."""
    w1, w2 = rng.normal(size=(2, width)), rng.normal(size=width) / width**0.5
    return {"w1": w1, "b1": np.zeros(width), "w2": w2, "b2": np.array(0.0)}


def moons(rng: np.random.Generator, n: int = 200) -> tuple[Any, Any]:
    """Return points, shape (n, 2), and classes -1 and 1, a few of which are wrong."""
    x, classes = tg.data.moons(n, noise=0.1, rng=rng)
    y = 2.0 * classes - 1
    y[WRONG] *= -1
    return x, y


def main() -> None:
    """Train on all samples, and list those with the longest gradients."""
    rng = np.random.default_rng(1)
    p, (x, y) = parameters(rng), moons(rng)
    gradient = tg.compile(tg.grad(lambda p: np.mean(losses(p, x, y))))
    for _ in range(600):
        p = {name: p[name] - g for name, g in gradient(p).items()}
    each = per_example_gradients(p, x, y).values()  # of shapes (n, *parameter.shape)
    lengths = np.sqrt(sum(np.sum(g.reshape(len(x), -1) ** 2, axis=1) for g in each))
    longest = np.argsort(-lengths)[: len(WRONG)]
    print(f"wrong labels: {WRONG.tolist()}")
    print(f"found:        {sorted(longest.tolist())}")
    others = np.delete(lengths, longest)
    print(
        f"gradient lengths: {lengths[longest].min():.1f} or more; others up to {others.max():.1f}"
    )


if __name__ == "__main__":
    main()
