"""Averages, order statistics and covariances."""

from typing import Any

ROWS: list[Any] = []
