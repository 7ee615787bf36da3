"""Products of SciPy's sparse matrices and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.custom import differentiable
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..guide import of_module
from .operands import operand

__all__ = ["matmul"]


def __dir__() -> list[str]:
    return __all__


__getattr__ = of_module(__name__)


def _product_back(g: Any, _z: Any, _x: Any, matrix: Any) -> Any:
    return _product(g, matrix.T)


@differentiable(_product_back, form="linear")
@shown_as("matmul")
def _product(x: Any, matrix: Any) -> Any:
    """`matrix @ x`, for a sparse matrix and an array of one or two axes."""
    x = np.asarray(x)
    # Sparse matrices have no float16.
    return matrix @ (x.astype(np.float32) if x.dtype.char == "e" else x)


def matmul(a: Any, b: Any) -> Tensor:
    """Return `a @ b`, where one is a sparse matrix of SciPy's, and the other a tensor.

    The tensor has one axis or two. It has a derivative; the sparse matrix is a constant.

    >>> from scipy import sparse
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> tg.scipy.sparse.matmul(sparse.csr_array([[1.0, 2.0], [0.0, 3.0]]), x)
    Tensor([5., 6.], requires_grad=True)
    """
    is_sparse = [hasattr(x, "tocsr") for x in (a, b)]
    if sum(is_sparse) != 1:
        raise TypeError(
            "sparse.matmul: one operand must be a sparse matrix of SciPy's, and the other a "
            f"tensor, not {type(a).__name__} and {type(b).__name__}"
        )
    dense = operand(b if is_sparse[0] else a, "sparse.matmul")
    matrix = a if is_sparse[0] else b.T
    x = dense if is_sparse[0] else dense.T
    if x.ndim not in (1, 2) or matrix.ndim != 2 or x.shape[0] != matrix.shape[1]:
        raise ValueError(f"sparse.matmul: shapes {a.shape} and {b.shape} do not match")
    out = _product(x, matrix)
    return out if is_sparse[0] else out.T  # type: ignore[no-any-return]
