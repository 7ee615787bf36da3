"""A Kalman filter that learns how noisy the process and the measurements are.

It tracks position and velocity from noisy positions. Newton's method maximizes the likelihood.
The gradient and the Hessian are those of a function of all time steps.
"""

from typing import Any

import numpy as np

import tensorgrad as tg

ADVANCE = np.array([[1.0, 1.0], [0.0, 1.0]])  # the position moves on by the velocity
PUSH = np.array([0.5, 1.0])  # what a unit of acceleration adds in one step
TRUTH = np.array([0.3, 2.0])  # standard deviations of acceleration and measurement


def kalman_filter(log_deviations: Any, measured: Any) -> tuple[Any, Any]:
    """Return the state after the last step, and the log likelihood of the measurements."""
    acceleration, noise = np.exp(2 * log_deviations)  # variances
    state, covariance, log_likelihood = np.zeros(2), np.zeros((2, 2)), 0.0
    for y in measured:
        state = ADVANCE @ state
        covariance = ADVANCE @ covariance @ ADVANCE.T + acceleration * np.outer(PUSH, PUSH)
        surprise, variance = y - state[0], covariance[0, 0] + noise
        gain = covariance[:, 0] / variance
        state = state + gain * surprise
        covariance = covariance - np.outer(gain, covariance[0])
        log_likelihood -= (surprise**2 / variance + np.log(2 * np.pi * variance)) / 2
    return state, log_likelihood


def log_likelihood(log_deviations: Any, measured: Any) -> Any:
    """Return only the log likelihood."""
    return kalman_filter(log_deviations, measured)[1]


def learn(measured: Any, p: Any, steps: int = 6) -> Any:
    """Return the log deviations that make the measurements most likely, starting from `p`."""
    slope, curvature = tg.grad(log_likelihood), tg.hessian(log_likelihood)
    for _ in range(steps):
        p = p - np.linalg.solve(curvature(p, measured), slope(p, measured))
    return p


def main() -> None:
    """Learn the noise from measurements alone, and compare it with the truth."""
    rng = np.random.default_rng(0)
    pushes = rng.normal(0, TRUTH[0], size=100)
    positions = np.cumsum(np.cumsum(pushes) - pushes / 2)
    measured = rng.normal(positions, TRUTH[1])
    learned = learn(measured, np.log([0.5, 1.0]))
    estimated = kalman_filter(learned, measured)[0][0]
    print(f"deviations: truth {TRUTH}, learned {np.exp(learned).round(2)}")
    print(f"last position: {positions[-1]:.2f}, {measured[-1]=:.2f}, {estimated=:.2f}")


if __name__ == "__main__":
    main()
