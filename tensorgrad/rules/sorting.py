"""Sorting, searching and selecting."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.batching import require_one_sample
from ..engine.modes import mode, plain
from ..engine.operands import as_operand
from ..engine.registry import composite, signature
from ..engine.tensor import asarray
from ..engine.typing import Function

# -- sorting, stable: equal elements keep their order


@composite(np.sort)
def _sort(
    a: Any,
    axis: int | None = -1,
    kind: str | None = None,  # noqa: ARG001
    order: Any = None,
    *,
    stable: bool | None = None,  # noqa: ARG001
) -> Any:
    a, axis = _axis_of_sort(a, axis)
    return np.take_along_axis(a, np.argsort(plain(a), axis, order=order, stable=True), axis)


@composite(np.sort_complex)
def _sort_complex(a: Any) -> Any:
    return np.sort(a).astype(np.sort_complex(plain(a)).dtype)


@composite(np.partition)
def _partition(
    a: Any, kth: Any, axis: int | None = -1, kind: Any = "introselect", order: Any = None
) -> Any:
    a, axis = _axis_of_sort(a, axis)
    values = np.partition(plain(a), kth, axis, kind, order)
    origins = np.empty(values.shape, np.intp)
    order, order_of_a = [np.argsort(x, axis, stable=True) for x in (values, plain(a))]
    np.put_along_axis(origins, order, order_of_a, axis)
    return np.take_along_axis(a, origins, axis)


def _axis_of_sort(a: Any, axis: int | None) -> tuple[Any, int]:
    return (np.ravel(a), 0) if axis is None else (a, axis)


# -- sets


def _origins(values: Any, elements: Any) -> Any:
    """The index of each value in `elements`: of equal values, the first has the first index.

    >>> from tensorgrad.rules.sorting import _origins
    >>> _origins(np.array([7.0, 5.0, 7.0]), np.array([7.0, 7.0, 5.0, 7.0]))
    array([0, 2, 1])
    """
    order = np.argsort(elements, stable=True)
    rank = np.argsort(values, stable=True)
    ordered = values[rank]
    copies = np.arange(ordered.size) - np.searchsorted(ordered, ordered)
    origins = np.empty(values.shape, np.intp)
    origins[rank] = order[np.searchsorted(elements[order], ordered) + copies]
    return origins


def _picks(*funs: Function, arity: int = 1) -> None:
    """Define functions whose (first) result consists of elements of their first `arity` arguments.

    Of equal elements, the first is selected.
    """

    def definition_of(fun: Function) -> Function:
        def definition(*args: Any, **kwargs: Any) -> Any:
            bound = signature(fun).bind(*args, **kwargs)
            arrays, options = bound.args[:arity], bound.args[arity:]
            elements = np.concatenate([*map(np.ravel, map(asarray, arrays))])
            results = fun(*[plain(asarray(a)) for a in arrays], *options, **bound.kwargs)
            several = isinstance(results, tuple)
            values, *others = results if several else (results,)
            picked = elements[_origins(values, plain(elements))].astype(values.dtype)
            if not several:
                return picked
            kind = getattr(type(results), "_make", tuple)
            return kind([picked, *map(asarray, others)])

        return definition

    for fun in funs:
        composite(fun)(definition_of(fun))


_picks(np.unique_values, np.unique_all, np.unique_counts, np.unique_inverse)
_picks(np.union1d, np.intersect1d, np.setdiff1d, np.setxor1d, arity=2)


@composite(np.unique)
def _unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    **options: Any,
) -> Any:
    options = {"return_inverse": return_inverse, "return_counts": return_counts, **options}
    _, index, *others = np.unique(plain(ar), return_index=True, axis=axis, **options)
    values = np.take(ar, index, axis)
    others = [index, *others] if return_index else others
    return (values, *map(asarray, others)) if others else values


# -- choices


@composite(np.select, of_sequences=True)
def _select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    conditions = [plain(asarray(c)) for c in condlist]
    choices = [as_operand(c, "select") if type(c) is list else c for c in choicelist]
    like = np.select(conditions, [*map(plain, choices)], plain(default))
    result = default
    for condition, choice in zip(reversed(conditions), reversed(choices)):
        result = np.where(condition, choice, result)
    return asarray(result).astype(like.dtype, copy=False)


@composite(np.choose, of_sequences=True)
def _choose(a: Any, choices: Sequence[Any], _out: None = None, mode: Any = "raise") -> Any:
    choices = [as_operand(c, "choose") if type(c) is list else c for c in choices]
    a = plain(asarray(a))
    np.choose(
        a, [*map(plain, choices)], mode=mode
    )  # raises NumPy's error for an index out of bounds
    a = np.arange(len(choices)).take(a, mode=mode)
    return np.select([a == i for i in range(len(choices))], choices)


@composite(np.piecewise, of_sequences=True)
def _piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Any:
    mode.get().interpreter.require_eager(
        "piecewise cannot be compiled, as the number of elements that each function receives "
        "depends on the values: use numpy.where or numpy.select"
    )
    require_one_sample(x, condlist)
    x = asarray(x)
    received: dict[int, Any] = {}  # the numbers of the elements that each function receives

    def noting(i: int) -> Function:
        return lambda numbers: received.setdefault(i, numbers)

    conditions = [*map(plain, condlist)] if type(condlist) is list else plain(condlist)
    numbers = np.arange(x.size).reshape(x.shape)
    np.piecewise(numbers, conditions, [noting(i) for i in range(len(funclist))])
    y = np.where(False, np.ravel(x), np.zeros((), x.dtype))  # tracked, as x is
    for i, numbers in received.items():
        fun = funclist[i]
        y[numbers] = fun(np.ravel(x)[numbers], *args, **kw) if callable(fun) else fun
    return y.reshape(x.shape)
