"""The derivative rules, one file per family of NumPy functions; importing them registers them."""

from . import (  # noqa: F401
    bessel,
    constants,
    cumulative,
    decompositions,
    elementwise,
    indexing,
    linear_algebra,
    norms,
    reductions,
    shapes,
    signals,
    sorting,
    statistics,
    ufuncs,
)
