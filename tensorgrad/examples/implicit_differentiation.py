"""Tune a regularizer by the derivative of the validation loss, through the whole training.

For a strength s, training ends at weights w(s) where the gradient of the loss by w is zero. By the
implicit function theorem, dw/ds = -H^-1 (d2 loss / dw ds), whichever steps the solver took.
"""

from typing import Any

import numpy as np

import tensorgrad as tg

RNG = np.random.default_rng(0)
X, NEW_X = RNG.normal(size=(2, 60, 30))  # many features, of which only five matter
Y, NEW_Y = (np.sign(np.sum(x[:, :5], axis=1) + RNG.normal(size=60)) for x in (X, NEW_X))


def log_loss(w: Any, x: Any, y: Any) -> Any:
    """Return the loss of logistic regression for classes -1 and 1."""
    return np.mean(np.logaddexp(0, -y * (x @ w)))


def objective(w: Any, log_strength: Any) -> Any:
    """Return what training minimizes: the loss and a penalty for large weights."""
    return log_loss(w, X, Y) + np.exp(log_strength) * w @ w / 2


slope, curvature = tg.grad(objective), tg.hessian(objective)


def implicit(g: Any, w: Any, log_strength: Any) -> Any:
    """Return the derivative by `log_strength` from the derivative by the weights, `g`."""
    return -tg.jacobian(slope, 1)(w, log_strength) @ np.linalg.solve(curvature(w, log_strength), g)


@tg.differentiable(implicit)
def train(log_strength: Any) -> Any:
    """Return the best weights, by Newton's method, which needs no derivative of its own."""
    w = np.zeros(X.shape[1])
    for _ in range(8):
        w = w - np.linalg.solve(curvature(w, log_strength), slope(w, log_strength))
    return w


def main() -> None:
    """Descend the validation loss by the strength of the regularizer."""
    validate = tg.value_and_grad(lambda s: log_loss(train(s), NEW_X, NEW_Y))
    log_strength = np.array(-6.0)
    for _ in range(10):
        loss, gradient = validate(log_strength)
        print(f"strength {np.exp(log_strength):.4f}: {loss=:.4f}, {gradient=:8.4f}")
        log_strength = log_strength - 4 * gradient


if __name__ == "__main__":
    main()
