"""The derivative rules, one file per family of NumPy functions; importing them registers them."""

from . import constants, elementwise, indexing, linear_algebra, reductions, shapes

__all__ = ["constants", "elementwise", "indexing", "linear_algebra", "reductions", "shapes"]
