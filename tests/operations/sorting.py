"""Sorting, searching and selecting."""

from typing import Any

ROWS: list[Any] = []
