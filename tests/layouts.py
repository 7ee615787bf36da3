"""Ways in which an array may lie in memory, as functions that lay an array out anew."""

from collections.abc import Callable
from typing import Any

import numpy as np


def with_gaps(a: Any) -> Any:
    return np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a


def constant(a: Any) -> Any:
    """The same along the first axis, whose stride is 0."""
    return np.broadcast_to(a[:1], a.shape) if a.ndim else a


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "by rows": np.copy,
    "by columns": lambda a: np.copy(a, order="F"),
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "with gaps": with_gaps,
    "by columns, with gaps": lambda a: with_gaps(a.T).T,
    "middle first": lambda a: np.swapaxes(np.swapaxes(a, 0, -1).copy(), 0, -1) if a.ndim else a,
    "constant": constant,
}
