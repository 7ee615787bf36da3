"""What the engine knows of a tensor: its array, its node, and the tensors in the same memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar
from weakref import ref

import numpy as np

from .graph import Node
from .modes import mode
from .typing import Array
from .views import concrete, owner_of

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


def plain(value: Any) -> Any:
    """Return the array of a tensor, tracked or not; anything else, as it is."""
    if not isinstance(value, Variable):
        return value
    trace = mode.get().trace
    return value._array if trace is None else trace.tensor(value)


# -- families: tensors that share memory, as NumPy's views do


def relate(results: Any, args: Sequence[Any]) -> None:
    """Put results into the family of the argument whose memory they share, if there is one."""
    if isinstance(results, Variable):
        try:
            base, home = args[0], results._array.base
        except AttributeError:  # another library's array, whose memory is unknown
            return
        near = home is not None and isinstance(base, Variable)  # nearly always; no search
        if not near or (home is not base._array and home is not base._array.base):
            base = _base(results._array, args)
            if base is None:
                return
        family = base._family
        if family is None:
            family = base._family = set()
            family.add(ref(base, family.discard))
        results._family = family
        family.add(ref(results, family.discard))
    elif isinstance(results, (tuple, list)):
        for y in results:
            relate(y, args)


def relatives(t: Variable) -> list[Any]:
    """Return the other tensors in the same memory."""
    found = [reference() for reference in [*(t._family or ())]]
    return [
        other
        for other in found
        if other is not None and other is not t and other._family is t._family
    ]


def _base(array: Any, args: Sequence[Any]) -> Variable | None:
    """Return the first tensor among the arguments that shares the memory of an array."""
    owner = array if array.base is None else array.base
    # Nearly always, the owner of the memory is the base, and it takes no search.
    is_known = type(array) is _ndarray and type(owner) is _ndarray and owner.base is None
    for a in args:
        if isinstance(a, Variable) and hasattr(a._array, "base"):
            other = a._array
            its = other if other.base is None else other.base
            if its is owner or (
                not (is_known and type(its) is _ndarray and its.base is None)
                and owner_of(concrete(array)) is owner_of(concrete(plain(a)))
            ):
                return a
    return None
