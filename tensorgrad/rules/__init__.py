"""The derivative rules, one file per family of NumPy functions; importing them registers them."""

from . import (
    bessel,
    constants,
    cumulative,
    decompositions,
    elementwise,
    indexing,
    linear_algebra,
    reductions,
    shapes,
    signals,
    sorting,
    statistics,
    ufuncs,
)

__all__ = [
    "bessel",
    "constants",
    "cumulative",
    "decompositions",
    "elementwise",
    "indexing",
    "linear_algebra",
    "reductions",
    "shapes",
    "signals",
    "sorting",
    "statistics",
    "ufuncs",
]
