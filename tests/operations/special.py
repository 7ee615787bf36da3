"""Special functions and activations."""

from typing import Any

ROWS: list[Any] = []
