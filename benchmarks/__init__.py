"""Measurements of tensorgrad: `python -m benchmarks`."""
