"""SciPy's solvers for functions of tensors, with derivatives of their results.

They have SciPy's names, arguments and results. What SciPy iterates is plain arrays; derivatives
come from the equations that a result solves, not from the steps. SciPy is imported when a solver is
first called.
"""

from .optimize import fixed_point, least_squares, minimize, root, root_scalar

__all__ = ["fixed_point", "least_squares", "minimize", "root", "root_scalar"]
