"""Hamiltonian Monte Carlo: sample from any density whose logarithm is written in NumPy.

Many chains run at once, as rows of an array. Neal, MCMC Using Hamiltonian Dynamics, 2011.
"""

from typing import Any

import numpy as np

import tensorgrad as tg

STEP, LEAPS = 0.15, 12


def log_density(q: Any) -> Any:
    """Return the log density of a banana: x is normal, and y is normal around x squared."""
    x, y = q.T
    return -(x**2) / 2 - (y - x**2) ** 2 / 2


def sample(log_density: Any, start: Any, draws: int, rng: np.random.Generator) -> Any:
    """Return draws of all chains, shape (draws, *start.shape), and how many were accepted.

    The chains start at the rows of `start`; `log_density` takes one array of all of them.
    """
    gradient = tg.compile(tg.grad(lambda q: np.sum(log_density(q))))
    q, samples, accepted = np.array(start), [], 0.0
    for _ in range(draws):
        momentum = rng.normal(size=q.shape)
        energy = np.sum(momentum**2, axis=1) / 2 - log_density(q)
        proposal = q
        for _ in range(LEAPS):  # the leapfrog method: half a step, a step, half a step
            momentum = momentum + STEP / 2 * gradient(proposal)
            proposal = proposal + STEP * momentum
            momentum = momentum + STEP / 2 * gradient(proposal)
        change = np.sum(momentum**2, axis=1) / 2 - log_density(proposal) - energy
        accept = np.log(rng.uniform(size=len(q))) < -change
        q = np.where(accept[:, np.newaxis], proposal, q)
        samples.append(q)
        accepted += np.mean(accept) / draws
    return np.stack(samples), accepted


def main() -> None:
    """Sample the banana, and compare its moments with the exact ones."""
    rng = np.random.default_rng(0)
    samples, accepted = sample(log_density, rng.normal(size=(100, 2)), 500, rng)
    x, y = samples[50:].reshape(-1, 2).T  # without the first draws, which depend on the start
    print(f"{accepted:.0%} of the proposals were accepted; moments, and the exact ones:")
    print(f"mean of x {x.mean():6.3f} (0)    mean of y {y.mean():.3f} (1)")
    print(f"variance  {x.var():6.3f} (1)    variance  {y.var():.3f} (3)")


if __name__ == "__main__":
    main()
