"""What the engine knows of a tensor: its array, its node, and the tensors in the same memory."""

from __future__ import annotations

from typing import Any, ClassVar
from weakref import ref

import numpy as np

from .graph import Node
from .typing import Array

_ndarray, _new = np.ndarray, object.__new__


class Variable:
    """An array with its node, which is None if it is not tracked: the base class of `Tensor`."""

    __slots__ = ("__weakref__", "_array", "_family", "_node")
    _array: Array
    _node: Node | None
    _family: set[ref[Variable]] | None  # the tensors in the same memory; None if there is one
    _of_results: ClassVar[type[Any]]  # the class of the results of operations: `Tensor`

    @property
    def is_leaf(self) -> bool:
        """Whether the user made this tensor, rather than a recorded operation."""
        return self._node is None or self._node.rule is None

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._array.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements; PyTorch's `x.size()` is `t.shape`."""
        return self._array.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the elements."""
        return self._array.dtype

    @property
    def device(self) -> Any:
        """Where the array lives: `"cpu"` for NumPy's."""
        return self._array.device

    @property
    def itemsize(self) -> int:
        """The bytes of one element."""
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self._array.nbytes


def tensor_of(data: Any, node: Node | None) -> Any:
    """Return a tensor around an array, without a copy, with the node that computed it."""
    tensor = _new(Variable._of_results)
    tensor._array = data
    tensor._node = node
    tensor._family = None
    return tensor
