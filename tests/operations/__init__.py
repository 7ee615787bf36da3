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
    scipy,
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
    scipy,
    losses,
    nn,
    sequences,
    mapping,
]
OPERATIONS: list[Op] = [row for family in FAMILIES for row in family.ROWS]
CONSTANT = constants.ROWS

# Rows that do not get complex inputs, and why. Others do, unless NumPy or SciPy refuses them.
NOT_COMPLEX = {
    "unique_values": "NumPy finds them by their hashes, in no order",
    "svd": "the last column of a whole basis has any phase: test_complex.py has what is unique",
    "qr complete": "so has the last column of a whole basis",
    "logsumexp axes": "the empty maximum is a complex infinity, and its difference to itself NaN",
    "psi": "its derivative is a polygamma function, which SciPy has for real numbers alone",
    "psi < 0": "as psi",
    "scipy ive": "it is scaled by exp(-|x.real|), and refused",
}
# Rows without a second derivative by complex inputs: it is a polygamma function.
ONCE_BY_COMPLEX = {
    "gamma", "gamma < 0", "rgamma", "rgamma < 0", "rgamma at the poles of gamma", "scipy loggamma",
}  # fmt: skip

__all__ = ["CONSTANT", "NOT_COMPLEX", "ONCE_BY_COMPLEX", "OPERATIONS", "Domain", "Op", "Shape"]
