"""Reading and writing elements by index."""

import operator
from typing import Any

import numpy as np

from ..graph import rule
from ..tensor import assign, differentiable


@differentiable(lambda g, _y, _values, index, _shape: g[index])
def scatter(values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of the given shape, with `values` added at `index`, as often as it names an element."""
    out = np.zeros_like(values, shape=shape)
    if _names_elements_once(index):
        out[index] = values
    else:
        np.add.at(out, index, values)
    return out


def _names_elements_once(index: Any) -> bool:
    """Whether the index holds no array of integers, the only kind that could repeat itself."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(not isinstance(part, np.ndarray) or part.dtype.kind == "b" for part in parts)


def _last_written(g: Any, _y: Any, _x: Any, _value: Any, index: Any) -> Any:
    """The cotangent of the assigned values: of those that a repeated index overwrote, zero."""
    part = g[index]
    if _names_elements_once(index):
        return part
    numbers = np.arange(part.size).reshape(part.shape)
    written = np.empty(g.shape, numbers.dtype)
    written[index] = numbers
    return np.where(written[index] == numbers, part, 0)


rule(operator.getitem, lambda g, _y, _x, index: scatter(g, index, _x.shape))
rule(assign, lambda g, _y, _x, _value, index: assign(g, 0, index), _last_written)
