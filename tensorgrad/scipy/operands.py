"""What functions on tensors do with their arguments before SciPy gets them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.operands import as_operand
from ..engine.typing import Function


def operand(x: Any, name: str) -> Any:
    """Return an array or a tensor as it is, and lists and numbers as an array."""
    return x if hasattr(x, "dtype") else as_operand(x, name)


def working_dtype(*arrays: Any) -> Any:
    """The dtype of a result, and the one to compute in: float32 for float16, which SciPy lacks."""
    dtype = np.result_type(*arrays, 1.0)
    return dtype, np.float32 if dtype.char == "e" else dtype


def each_matrix(fun: Function, *stacks: Any) -> Any:
    """Call a function on each matrix of stacks of them, which broadcast; return stacks.

    The matrices have one floating dtype. The function may return a tuple of arrays.

    >>> from tensorgrad.scipy.operands import each_matrix
    >>> each_matrix(np.trace, np.ones((4, 2, 2)))
    array([2., 2., 2., 2.])
    """
    dtype, work = working_dtype(*stacks)
    arrays = [np.asarray(a, work) for a in stacks]
    shape = np.broadcast_shapes(*[a.shape[:-2] for a in arrays])
    whole = [np.broadcast_to(a, (*shape, *a.shape[-2:])) for a in arrays]
    outs = [fun(*[a[i] for a in whole]) for i in np.ndindex(*shape)]
    # Identity matrices are in the domain of all functions: an empty stack has results of a shape.
    samples = outs or [fun(*[np.eye(*a.shape[-2:], dtype=work) for a in arrays])]

    def stacked(*parts: Any) -> Any:
        out = np.stack(parts)[: len(outs)].reshape(*shape, *np.shape(parts[0]))
        return out.astype(dtype) if dtype.char == "e" and out.dtype.kind == "f" else out

    if isinstance(samples[0], tuple):
        return tuple(map(stacked, *samples))
    return stacked(*samples)


def require_square(name: str, *arrays: Any) -> None:
    """Raise an error for arrays that are not square matrices, or stacks of them."""
    for a in arrays:
        if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
            raise np.linalg.LinAlgError(f"{name}: pass square matrices, not shape {a.shape}")
