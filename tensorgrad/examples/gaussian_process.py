"""Gaussian process regression whose hyperparameters maximize the marginal likelihood.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, algorithm 2.1.
"""

from typing import Any

import numpy as np

import tensorgrad as tg


def kernel(p: Any, a: Any, b: Any) -> Any:
    """Return the prior covariance of the function's values at `a` and `b`, shape (n, m)."""
    distance = (a[:, np.newaxis] - b) / np.exp(p["log_length"])
    return np.exp(2 * p["log_scale"] - distance**2 / 2)


def factor(p: Any, x: Any) -> Any:
    """Return the lower Cholesky factor of the covariance of noisy observations at `x`."""
    return np.linalg.cholesky(kernel(p, x, x) + np.exp(2 * p["log_noise"]) * np.eye(len(x)))


def negative_log_likelihood(p: Any, x: Any, y: Any) -> Any:
    """Return -log p(y | x) with the function integrated out."""
    lower = factor(p, x)
    z = np.linalg.solve(lower, y)
    return z @ z / 2 + np.sum(np.log(np.diag(lower))) + len(x) / 2 * np.log(2 * np.pi)


def train(x: Any, y: Any, steps: int = 300, rate: float = 0.01) -> dict[str, Any]:
    """Return the hyperparameters that maximize the likelihood, found by gradient descent."""
    p: dict[str, Any] = {"log_length": 0.0, "log_scale": 0.0, "log_noise": 0.0}
    gradient = tg.grad(negative_log_likelihood)
    for _ in range(steps):
        p = {name: p[name] - rate * g for name, g in gradient(p, x, y).items()}
    return p


def predict(p: Any, x: Any, y: Any, new: Any) -> tuple[Any, Any]:
    """Return the posterior mean and standard deviation of the function at `new`."""
    lower = factor(p, x)
    z, v = np.linalg.solve(lower, y), np.linalg.solve(lower, kernel(p, x, new))
    return z @ v, np.sqrt(np.exp(2 * p["log_scale"]) - np.sum(v * v, axis=0))


def main() -> None:
    """Learn sin(x) from 40 noisy points, and predict it inside and outside their range."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 6, 40)
    y = rng.normal(np.sin(x), 0.2)
    p, new = train(x, y), np.arange(10.0)
    print(", ".join(f"{name} = {value:.3f}" for name, value in p.items()))
    for at, mean, deviation in zip(new, *predict(p, x, y, new)):
        print(f"x = {at:.0f}: predicted {mean:6.3f} +- {deviation:.3f}, truth {np.sin(at):6.3f}")


if __name__ == "__main__":
    main()
