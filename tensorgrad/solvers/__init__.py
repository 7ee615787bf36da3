"""SciPy's solvers for functions of tensors, with derivatives of their results.

They have SciPy's names, arguments and results. What SciPy iterates is plain arrays; derivatives
come from the equations that a result solves, or from the steps of an ODE solver. SciPy is imported
when a solver is first called.
"""

from .ode import odeint, solve_ivp
from .optimize import fixed_point, least_squares, minimize, root, root_scalar
from .quadrature import quad

__all__ = [
    "fixed_point",
    "least_squares",
    "minimize",
    "odeint",
    "quad",
    "root",
    "root_scalar",
    "solve_ivp",
]


def __dir__() -> list[str]:
    return __all__
