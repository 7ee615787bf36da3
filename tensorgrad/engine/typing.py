"""The types that annotations name again and again."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, TypeAlias, TypeVar

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Function: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Function)
Line: TypeAlias = tuple[CodeType, int]  # some code, and the position in it
Axis: TypeAlias = int | tuple[int, ...] | None
