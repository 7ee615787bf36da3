"""Calls in terms of others that native code knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....engine.typing import Function
from ...ir import Call, Value, constant, new_value
from .registers import is_register

_EXTREMA: Mapping[Function, np.ufunc] = {
    np.argmax: np.maximum, np.ndarray.argmax: np.maximum,
    np.argmin: np.minimum, np.ndarray.argmin: np.minimum,
}  # fmt: skip


def expanded(call: Call) -> Sequence[Call]:
    """The calls that do the work of one: itself, if there is no other way."""
    if call.fun not in _EXTREMA or len(call.results) != 1:
        return [call]
    names = "a", "axis", "out", "keepdims"
    given = {"axis": None, "out": None, "keepdims": False}
    given |= dict(zip(names, call.args)) | {**call.kwargs}
    x, axis, keepdims = given["a"], given["axis"], given["keepdims"]
    if given["out"] is not None or not isinstance(x, Value) or not (x.size and x.ndim):
        return [call]
    return _first_extremum(call, x, axis, bool(keepdims)) if is_register(x.dtype) else [call]


def _first_extremum(call: Call, x: Value, axis: Any, keepdims: bool) -> list[Call]:
    """The least index of the elements that are the extremum, or NaN if that is."""
    calls: list[Call] = []
    axes = range(x.ndim) if axis is None else (axis % x.ndim,)
    counted = tuple(n if i in axes else 1 for i, n in enumerate(x.shape))
    count = int(np.prod(counted))

    def made(
        fun: Function, *args: Any, dtype: Any = bool, shape: Any = x.shape, **options: Any
    ) -> Value:
        result = new_value(shape, np.dtype(dtype), location=call.location)
        added = Call("pure", fun, args, options, results=[result], location=call.location)
        calls.append(added)
        return result

    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    extremum = _EXTREMA[call.fun].reduce
    best = made(extremum, x, dtype=x.dtype, shape=kept, axis=axis, keepdims=True)
    attained = made(np.equal, x, best)
    if x.dtype.kind == "f":
        attained = made(np.bitwise_or, attained, made(np.not_equal, x, x))
    (result,) = call.results
    indices = constant(np.arange(count, dtype=result.dtype).reshape(counted))
    limit = constant(np.array(count, result.dtype))
    chosen = made(np.where, attained, indices, limit, dtype=result.dtype)
    options = {"axis": axis, "keepdims": keepdims}
    least = Call(
        "pure", np.minimum.reduce, (chosen,), options, results=[result], location=call.location
    )
    return [*calls, least]
