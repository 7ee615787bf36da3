"""Operands: what a call may pass beside tensors, and how it becomes arrays."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import PrecedenceError
from ..guide import instead_of_scipy
from .arrays import as_array
from .modes import plain
from .registry import name_of
from .typing import Function
from .variable import Variable

PLAIN = frozenset({np.ndarray, bool, int, float, complex})  # classes that need no conversion
NESTED = frozenset({list, tuple})


def as_operand(value: Any, name: str, dtype: DTypeLike | None = None) -> Any:
    """Return an operand as a numeric array; nested lists that hold tensors, as one tensor."""
    if isinstance(value, (list, tuple)):
        stacked = any_tracked(value)  # NumPy takes a tensor whose graph was freed for a number
        if not stacked:
            try:
                value = np.asarray(value, dtype)
            except (TypeError, ValueError):
                stacked = holds_tensors(value)
                if not stacked:
                    raise
        if stacked:
            value = _stacked(value, name, dtype)
    return as_array(value, name)


def any_tracked(values: Iterable[Any]) -> bool:
    """Return whether a tracked tensor is among the values, or in lists and tuples of them."""
    for value in values:
        if isinstance(value, Variable):
            if value._node is not None:
                return True
        elif isinstance(value, (list, tuple)) and any_tracked(value):
            return True
    return False


def tensors_in(values: Iterable[Any]) -> Iterator[Variable]:
    """Yield the tensors among the values, and in lists and tuples of them."""
    for value in values:
        if isinstance(value, Variable):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def holds_tensors(value: Any) -> bool:
    """Return whether nested lists and tuples hold tensors, or arrays of other libraries."""
    for part in value:
        if type(part) in PLAIN:
            continue
        if isinstance(part, (list, tuple)):
            if holds_tensors(part):
                return True
        elif isinstance(part, Variable) or _is_foreign(part):
            return True
    return False


def _is_foreign(value: Any) -> bool:
    return hasattr(value, "__array_function__") and not isinstance(value, (np.ndarray, np.generic))


def _stacked(value: Any, name: str, dtype: DTypeLike | None, path: str = "") -> Any:
    """Return nested lists of arrays and numbers as one array."""
    if not isinstance(value, (list, tuple)):
        return value if _is_foreign(value) else as_array(np.asarray(value, dtype), name)
    parts = [_stacked(part, name, dtype, f"{path}[{i}]") for i, part in enumerate(value)]
    for i, part in enumerate(parts):
        if part.shape != parts[0].shape:
            raise ValueError(
                f"{name}: the parts of a list must have one shape, but {path}[0] has shape "
                f"{parts[0].shape} and {path}[{i}] has shape {part.shape}"
            )
    return np.stack(parts) if parts else np.asarray(parts, dtype)


def without_graph(value: Any) -> Any:
    """Return the array of a tensor through which no gradient can pass; anything else, as it is.

    Raises TypeError for a tensor through which one can.
    """
    if not isinstance(value, Variable):
        return value
    node = value._node
    if node is not None and node.leads_to_leaves:
        solver = instead_of_scipy(sys._getframe())
        raise TypeError(
            f"a tensor that requires grad, {node}, does not become a plain array or number, as its "
            f"gradient would be lost. {solver}To keep the gradient, use NumPy's functions, not "
            "those of math or methods such as array.dot; tensorgrad.asarray, numpy.stack or "
            "numpy.concatenate, not numpy.array or numpy.r_, to make an array of tensors; "
            "tensorgrad.zeros to make an array to write tensors into; tensorgrad.differentiable "
            "for a function of plain arrays. For the value alone, write .item(), .numpy() or "
            ".detach()"
        )
    return plain(value)


def plain_index(index: Any) -> Any:
    """Return an index in which lists, ranges and tensors are arrays."""
    if isinstance(index, tuple):
        return tuple([_plain_part(part) for part in index])
    return _plain_part(index)


_BOUNDS = {int, type(None)}


def _plain_part(part: Any) -> Any:
    if type(part) is slice:
        start, stop, step = bounds = part.start, part.stop, part.step
        if type(start) in _BOUNDS and type(stop) in _BOUNDS and type(step) in _BOUNDS:
            return part
        return slice(*[None if b is None else operator.index(b) for b in bounds])
    if part is None or part is ... or isinstance(part, (int, np.integer)):
        return part
    part = without_graph(part)
    array = part if hasattr(part, "__array_function__") else np.asarray(part)
    # The array of an empty list is one of floats, which cannot be an index.
    return array if array.size or isinstance(part, np.ndarray) else array.astype(np.intp)


# -- precedence: whose class defines the result of an operation on both

# Packages whose arrays and columns are operands, although they define ufuncs.
_OPERANDS = frozenset({"numpy", "pandas", "polars", "tensorgrad"})


def overrides(kind: type) -> bool:
    """Return whether a class, and not `Tensor`, defines the result of a ufunc of both (NEP 13).

    This holds for classes that wrap arrays and define ufuncs, such as those with units or labels,
    and for sparse arrays. Arrays of libraries that share memory (DLPack) are operands, and so are
    columns of tables.
    """
    if issubclass(kind, Variable):
        return False
    if hasattr(kind, "todense"):
        return True
    ufunc = getattr(kind, "__array_ufunc__", np.ndarray.__array_ufunc__)
    if ufunc is None or ufunc is np.ndarray.__array_ufunc__:
        return ufunc is None
    if issubclass(kind, np.ndarray):
        return True
    return not (hasattr(kind, "__dlpack__") or kind.__module__.partition(".")[0] in _OPERANDS)


def is_operand(other: Any) -> bool:
    """Return whether an operator takes an object as an array: its class has no precedence."""
    kind = type(other)
    if isinstance(other, (list, tuple)):
        return True
    if not hasattr(other, "__array__") or overrides(kind):
        return False
    first = getattr(other, "__array_priority__", 0) > 0 and not hasattr(kind, "__array_ufunc__")
    return not first or hasattr(kind, "__dlpack__")


def precedence_error(fun: Function, operand: Any) -> PrecedenceError:
    """Return the error for an operand whose class takes precedence, but has no result."""
    kind = type(operand)
    cure = "x.todense()" if hasattr(kind, "todense") else "numpy.asarray(x)"
    product = fun is np.matmul and kind.__module__.startswith("scipy.sparse")
    instead = "call tensorgrad.scipy.sparse.matmul, or " if product else ""
    return PrecedenceError(
        f"{name_of(fun)}: {kind.__module__}.{kind.__qualname__} takes precedence over a tensor, "
        f"but has no result for this call: {instead}convert it to a plain array with {cure}, or "
        "write the operation and its derivative with tensorgrad.differentiable"
    )


def overridden(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: Any) -> Any:
    """Return the result of a ufunc by the first class of an operand that takes precedence."""
    first = [a for a in inputs if overrides(type(a))]
    for a in first:
        if getattr(type(a), "__array_ufunc__", None) is not None:
            out = a.__array_ufunc__(ufunc, method, *inputs, **kwargs)
            if out is not NotImplemented:
                return out
    raise precedence_error(ufunc, first[0])
