"""Reading and writing elements by index."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..engine.arrays import as_array, working_dtype
from ..engine.custom import differentiable
from ..engine.dispatch import apply
from ..engine.modes import plain
from ..engine.operands import as_operand
from ..engine.primitives import assign
from ..engine.registry import composite, in_place, name_of, rule, shown_as, signature
from ..engine.tensor import Tensor, asarray
from ..engine.typing import F, Function
from ..errors import OR_DETACH

# -- x[index], and x[index] = value


@differentiable(lambda g, _y, _values, index, _shape: g[index], form="linear")
@shown_as("setitem")
def scatter(values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of a shape, with `values` added at `index`: repeated elements accumulate.

    >>> from tensorgrad.rules.indexing import scatter
    >>> scatter(np.array([5.0, 6.0, 7.0]), np.array([2, 0, 2]), (4,))
    array([ 6.,  0., 12.,  0.])
    """
    if type(index) in (int, slice) or _is_unique(index):
        plain = type(values) is np.ndarray  # np.zeros takes a fifth of the time of np.zeros_like
        out = np.zeros(shape, values.dtype) if plain else np.zeros_like(values, shape=shape)
        out[index] = values
        return out
    out = np.zeros_like(values, shape=shape, dtype=working_dtype(values.dtype), order="C")
    flat = _flat_index(index, shape, values.size)
    if flat is None:
        np.add.at(out, index, values)
    else:
        np.add.at(out.reshape(-1), flat.reshape(-1), values.reshape(-1))
    return out.astype(values.dtype, copy=False)


def _is_unique(index: Any) -> bool:
    """Whether no element is selected twice, as far as can be told without looking at integers."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        not hasattr(part, "dtype") or part.dtype.kind == "b" or part.size < 2 for part in parts
    )


def _flat_index(index: Any, shape: tuple[int, ...], count: int) -> Any:
    """The flat index, in C order, of the `count` elements at `index`, or None if it is no faster.

    `np.add.at` with a flat index takes a third of the time if an integer array selects whole rows,
    as in an embedding; the same time if it selects single elements; more if they are few.
    """
    if count < 512 or len(shape) < 2:
        return None
    *before, rows = index if isinstance(index, tuple) else (index,)
    if hasattr(rows, "dtype") and all(type(p) is slice and p == slice(None) for p in before):
        axis = len(before)
        step = math.prod(shape[axis + 1 :])
        rows = rows.astype(np.intp)
        rows = np.where(rows < 0, rows + shape[axis], rows) * step
        first = np.arange(0, math.prod(shape), step * shape[axis]).reshape(-1, *[1] * rows.ndim, 1)
        return first + rows[..., None] + np.arange(step)
    return None


def _assign_back(g: Any, _y: Any, _x: Any, _value: Any, index: Any) -> Any:
    """The cotangent of the assigned values, 0 for those that a repeated index overwrote."""
    part = g[index]
    if not _is_unique(index):
        numbers = np.arange(part.size).reshape(part.shape)
        written = np.empty(g.shape, numbers.dtype)
        written[index] = numbers
        part = np.where(written[index] == numbers, part, 0)
    extra = np.ndim(_value) - part.ndim  # axes of length 1 that the assignment ignored
    return part.reshape((1,) * extra + part.shape) if extra > 0 else part


rule(
    operator.getitem,
    lambda g, _y, _x, index: scatter(g, index, _x.shape),
    form="linear",
    views=True,
)
rule(assign, lambda g, _y, _x, _value, index: assign(g, 0, index), _assign_back)


# -- reading along an axis


def along_axis(axis: int, indices: Any) -> tuple[Any, ...]:
    """The index that selects `indices` along an axis, and everything along the others."""
    return (slice(None),) * axis + (indices,)


def _take_back(
    g: Any,
    _y: Any,
    _a: Any,
    indices: Any,
    axis: int | None = None,
    _out: None = None,
    mode: Any = "raise",
) -> Any:
    shape = (_a.size,) if axis is None else _a.shape or (1,)
    axis = normalize_axis_index(axis or 0, len(shape))
    indices = _within(as_array(indices, "take"), shape[axis], mode)
    share = scatter(g, along_axis(axis, indices), shape)
    return (
        share if shape == _a.shape else share.reshape(_a.shape)
    )  # a reshaped view would be copied


def _within(indices: Any, n: int, mode: Any) -> Any:
    """The indices that a mode of `np.take` replaces those beyond the length `n` by."""
    if mode == "raise":
        return indices
    return np.mod(indices, n) if mode == "wrap" else np.clip(indices, 0, n - 1)


rule(np.take, _take_back, form="linear")


@composite(np.compress)
def _compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    a = asarray(a)
    numbers = np.arange(a.size if axis is None else a.shape[axis])
    return np.take(a, np.compress(plain(as_operand(condition, "compress")), numbers), axis)


@composite(np.extract)
def _extract(condition: Any, arr: Any) -> Any:
    return np.take(asarray(arr), np.flatnonzero(plain(as_operand(condition, "extract"))))


def _aligned_index(shape: tuple[int, ...], indices: Any, axis: int) -> tuple[Any, ...]:
    """The index of `indices` along an axis, aligned with all positions along the others."""
    axis = normalize_axis_index(axis, len(shape))
    if indices.dtype.kind not in "iu":
        raise IndexError(f"indices of dtype {indices.dtype} must be integers")
    if indices.ndim != len(shape):
        raise ValueError(
            f"indices of shape {indices.shape} must have as many axes as an array of shape {shape}"
        )
    index = list(np.ogrid[tuple([slice(n) for n in shape])])
    index[axis] = indices
    return tuple(index)


@composite(np.take_along_axis)
def _take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    if axis is None:
        arr, axis = np.ravel(arr), 0
    return arr[_aligned_index(arr.shape, as_array(indices, "take_along_axis"), axis)]


# -- functions that only move elements


def spread(values: Any, origins: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of a shape, with each value added at its origin: 1, 2, ... in C order.

    Values with the origin 0 are dropped.

    >>> from tensorgrad.rules.indexing import spread
    >>> spread(np.array([5.0, 6.0, 7.0]), np.array([3, 0, 3]), (2, 2))
    array([[ 0.,  0.],
           [12.,  0.]])
    """
    return scatter(values, origins, (math.prod(shape) + 1,))[1:].reshape(shape)


def moves(*funs: Function, arity: int = 1) -> None:
    """Set the derivatives of functions whose results hold elements of their arrays, and zeros.

    The first `arity` arguments are the arrays. To find the origin of each element of the result,
    the function is called with the numbers 1, 2, ... instead of the elements.
    """

    def derivative(fun: Function, i: int) -> Function:
        def vjp(g: Any, _y: Any, *_args: Any, **kwargs: Any) -> Any:
            arrays, parameters = _args[:arity], _args[arity:]
            numbers = [
                np.arange(1, a.size + 1).reshape(a.shape) if i == j else np.zeros(np.shape(a), int)
                for j, a in enumerate(arrays)
            ]
            return spread(g, fun(*numbers, *parameters, **kwargs), arrays[i].shape)

        return vjp

    for fun in funs:
        rule(fun, *(derivative(fun, i) for i in range(arity)), form="linear", views=True)


moves(
    np.diag, np.diagflat, np.diagonal, np.linalg.diagonal, np.delete, np.resize, np.rollaxis,
)  # fmt: skip


def insert(arr: Any, values: Any, obj: Any, axis: int | None) -> Any:
    """`np.insert` with its arrays first."""
    return np.insert(arr, obj, values, axis)


moves(insert, arity=2)


@composite(np.insert)
def _insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    return apply(insert, (arr, values, obj, axis))


# -- functions that write into their first argument


def _writes(fun: Function) -> Callable[[F], F]:
    """Define what `fun` does to a tensor; the definition receives all arguments, by position."""

    def register(definition: F) -> F:
        parameters = signature(definition)

        @in_place(fun)
        def write(*args: Any, **kwargs: Any) -> None:
            bound = parameters.bind(*args, **kwargs)
            bound.apply_defaults()
            target = bound.args[0]
            arrays = [plain(a) for a in bound.args]
            if isinstance(target, Tensor):
                fun(
                    plain(target).copy(), *arrays[1:]
                )  # raises NumPy's errors before anything is written
                definition(*bound.args)
            elif any(isinstance(a, Tensor) and a.requires_grad for a in bound.args):
                raise TypeError(
                    f"{name_of(fun)}: cannot write a tensor that requires grad into an array: "
                    f"create the array with tensorgrad.zeros, {OR_DETACH}"
                )
            else:
                fun(*arrays)

        return definition

    return register


def _write_in_turn(target: Any, indices: Any, values: Any) -> None:
    """Write values at flat indices, in C order; if there are fewer values, they are repeated."""
    if indices.size and np.size(values):
        flat = target.flatten()
        flat[indices] = np.resize(values, indices.size)
        target[...] = flat.reshape(target.shape)


@_writes(np.put)
def _put(a: Any, ind: Any, v: Any, mode: Any = "raise") -> None:
    _write_in_turn(a, _within(np.ravel(np.asarray(ind)), a.size, mode), v)


@_writes(np.place)
def _place(arr: Any, mask: Any, vals: Any) -> None:
    _write_in_turn(arr, np.flatnonzero(plain(mask)), vals)


@_writes(np.putmask)
def _putmask(a: Any, mask: Any, values: Any) -> None:
    indices = np.flatnonzero(plain(mask))
    if np.size(values):
        _write_in_turn(a, indices, np.resize(values, a.size)[indices])


@_writes(np.fill_diagonal)
def _fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    mask = np.zeros(a.shape, bool)
    np.fill_diagonal(mask, True, wrap)
    _write_in_turn(a, np.flatnonzero(mask), val)


@_writes(np.copyto)
def _copyto(
    dst: Any,
    src: Any,
    casting: str = "same_kind",  # noqa: ARG001 (NumPy has checked it)
    where: Any = True,
) -> None:
    dst[...] = np.where(plain(where), src, dst)


@_writes(np.put_along_axis)
def _put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    indices = as_array(indices, "put_along_axis")
    if axis is None:
        _write_in_turn(arr, indices, np.broadcast_to(asarray(values), indices.shape))
    else:
        arr[_aligned_index(arr.shape, indices, axis)] = values
