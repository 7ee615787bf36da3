"""The table of operations: one row each, which test_operations.py checks by every law.

A row names an operation and gives it as a function of arrays, written in plain NumPy; then one
domain for each of its arguments, the set that their values are taken from. Where the arguments'
shapes matter, `shapes` lists what to try: a shape for a function of one array, else a tuple of
shapes. A function that is not complex-analytic says so: it is then checked by differences alone.

    Op("tanh", np.tanh, reals)
    Op("true_divide", np.true_divide, reals, nonzero)
    Op("sum axis 1", lambda x: np.sum(x, axis=1), reals, shapes=[(2, 3), (2, 0, 3)])
"""

from . import (
    constants,
    cumulative,
    decompositions,
    elementwise,
    indexing,
    linear_algebra,
    losses,
    mapping,
    nn,
    reductions,
    sequences,
    shapes,
    signals,
    sorting,
    special,
    statistics,
    ufuncs,
)
from .row import Domain, Op, Shape

FAMILIES = [
    elementwise,
    special,
    ufuncs,
    reductions,
    cumulative,
    statistics,
    linear_algebra,
    decompositions,
    shapes,
    indexing,
    sorting,
    signals,
    losses,
    nn,
    sequences,
    mapping,
]
OPERATIONS: list[Op] = [row for family in FAMILIES for row in family.ROWS]
CONSTANT = constants.ROWS

__all__ = ["CONSTANT", "OPERATIONS", "Domain", "Op", "Shape"]
