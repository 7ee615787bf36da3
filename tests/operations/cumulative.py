"""Running sums and products, differences, and integrals of samples."""

from typing import Any

ROWS: list[Any] = []
