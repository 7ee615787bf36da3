"""Fit a damped oscillation to noisy measurements with SciPy's least squares.

`tg.jacobian` gives SciPy exact derivatives, and its value at the solution gives the standard
errors of the parameters.
"""

from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad.errors import optional

NAMES = ["amplitude", "decay", "frequency", "phase"]
TRUTH = np.array([2.0, 0.3, 4.0, 0.5])
NOISE = 0.1


def model(parameters: Any, t: Any) -> Any:
    """Return the displacement at the times `t`."""
    amplitude, decay, frequency, phase = parameters
    return amplitude * np.exp(-decay * t) * np.cos(frequency * t + phase)


def measure(rng: np.random.Generator, n: int = 200) -> tuple[Any, Any]:
    """Return `n` times and the displacements measured then, with noise."""
    t = np.linspace(0, 6, n)
    return t, rng.normal(model(TRUTH, t), NOISE)


def fit(t: Any, y: Any, start: Any) -> tuple[Any, Any]:
    """Return the parameters that fit best, and their standard errors."""

    def residuals(parameters: Any) -> Any:
        return model(parameters, t) - y

    optimize = optional("scipy.optimize", "curve_fitting")
    best = optimize.least_squares(residuals, start, jac=tg.jacobian(residuals))
    variance = 2 * best.cost / (len(t) - len(best.x))
    covariance = variance * np.linalg.inv(best.jac.T @ best.jac)
    return best.x, np.sqrt(np.diag(covariance))


def main() -> None:
    """Fit the measurements, and compare the parameters with the true ones."""
    t, y = measure(np.random.default_rng(1))
    best, errors = fit(t, y, start=[1.0, 0.1, 4.2, 0.0])
    print("parameter      truth   estimate and standard error")
    for name, truth, value, error in zip(NAMES, TRUTH, best, errors):
        print(f"{name:<12} {truth:7.3f}   {value:8.4f} +- {error:.4f}")


if __name__ == "__main__":
    main()
