"""A double pendulum, simulated from its energies alone: derivatives give the equations of motion.

With L(q, v) the kinetic minus the potential energy, the accelerations a solve
(d2L/dv2) a = dL/dq - (d2L/dv dq) v.
"""

from typing import Any

import numpy as np

import tensorgrad as tg

GRAVITY, LENGTHS, MASSES = 9.81, np.array([1.0, 0.7]), np.array([1.0, 0.5])  # SI units


def energies(q: Any, v: Any) -> tuple[Any, Any]:
    """Return kinetic and potential energy for the angles `q` and their velocities `v`."""
    vx = np.cumsum(LENGTHS * np.cos(q) * v)  # of both masses; the second hangs on the first
    vy = np.cumsum(LENGTHS * np.sin(q) * v)
    height = np.cumsum(-LENGTHS * np.cos(q))
    return np.sum(MASSES * (vx**2 + vy**2)) / 2, GRAVITY * np.sum(MASSES * height)


def lagrangian(q: Any, v: Any) -> Any:
    """Return the kinetic minus the potential energy."""
    kinetic, potential = energies(q, v)
    return kinetic - potential


@tg.compile
def accelerations(q: Any, v: Any) -> Any:
    """Return the second derivatives of the angles by time."""
    momentum = tg.grad(lagrangian, argnums=1)
    mass_matrix = tg.jacobian(momentum, argnums=1)(q, v)
    _, momentum_change = tg.jvp(lambda q: momentum(q, v), (q,), (v,))
    return np.linalg.solve(mass_matrix, tg.grad(lagrangian)(q, v) - momentum_change)


def step(q: Any, v: Any, dt: float) -> tuple[Any, Any]:
    """Take one step of the classical Runge-Kutta method."""
    a1 = accelerations(q, v)
    a2 = accelerations(q + dt / 2 * v, v + dt / 2 * a1)
    a3 = accelerations(q + dt / 2 * v + dt**2 / 4 * a1, v + dt / 2 * a2)
    a4 = accelerations(q + dt * v + dt**2 / 2 * a2, v + dt * a3)
    return q + dt * v + dt**2 / 6 * (a1 + a2 + a3), v + dt / 6 * (a1 + 2 * a2 + 2 * a3 + a4)


def main() -> None:
    """Let the pendulum fall for five seconds, and watch its energy."""
    q, v, dt = np.array([2.0, 2.5]), np.zeros(2), 0.005
    for i in range(1001):
        if i % 200 == 0:
            energy = sum(energies(q, v))
            print(f"{i * dt:.0f} s: angles {q[0]:6.2f} {q[1]:6.2f}   energy {energy:.6f} J")
        q, v = step(q, v, dt)


if __name__ == "__main__":
    main()
