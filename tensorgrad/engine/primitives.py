"""Operations that NumPy has no function for, or only a slower one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .batching import Batch, call
from .registry import rule, shown_as
from .typing import Function


@shown_as("argument")
def alias(x: Any) -> Any:
    """Return the same array: as an operation, a tensor with a node of its own."""
    return x


rule(alias, lambda g, _y, _x: g, form="linear")


def reshape(x: Any, shape: Any) -> Any:
    """Return `np.reshape` in C order, in a third less time."""
    return x.reshape(shape)


@shown_as("setitem")
def assign(x: Any, value: Any, index: Any) -> Any:
    """Return a copy of the array `x` in which the elements at `index` are `value`."""
    parts = index if type(index) is tuple else (index,)
    if type(value) is Batch or Batch in map(type, parts):
        return call(assign, (x, value, index), {})
    x = x.copy()
    x[index] = value
    return x


# What `x ** number` calls, as NumPy does: faster functions than `np.power`.
POWERS: dict[float, Function] = {
    -1: np.reciprocal,
    0.5: np.sqrt,
    1: np.positive,
    2: np.square,
}
