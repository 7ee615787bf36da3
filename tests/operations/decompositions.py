"""Solving, inverting and decomposing matrices, and their norms."""

from typing import Any

ROWS: list[Any] = []
