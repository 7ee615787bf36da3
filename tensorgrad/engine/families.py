"""Families: tensors that share memory, as NumPy's views do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

import numpy as np

from .modes import plain
from .variable import Variable
from .views import concrete, owner_of

_ndarray = np.ndarray


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
