"""Solving, inverting and decomposing matrices, and their norms."""
