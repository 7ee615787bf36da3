"""Algebra: products and sums by cheaper calls, which differ from the others in the last digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from ...engine.typing import Function
from ..ir import Call, Program, Value, constant, view

_BY_BLAS = 1 << 16  # elements: NumPy adds up more than that with less rounding, and as fast


def merge_scalings(program: Program) -> Program:
    """Multiply by one number in place of several on end.

    a = x * 2                a = x * 2
    b = a * 3                b = x * 6
    """
    uses, written = program.uses(), program.written()
    makers: dict[Value, Call] = {}
    left: list[Call] = []
    for call in program.calls:
        outer = _scaled(call)
        maker = makers.get(outer[0]) if outer is not None and uses[outer[0]] == 1 else None
        inner = _scaled(maker) if maker is not None and maker.errors == call.errors else None
        if outer is not None and inner is not None:
            (x, factor), (_, other) = inner, outer
            plain = all(2**-32 < abs(n) < 2**32 for n in (factor, other))
            if plain and x.storage not in written and x.shape == call.results[0].shape:
                product = np.asarray(factor * other, call.results[0].dtype)
                call = call.instead(call.fun, (x, constant(product)))
        makers |= dict.fromkeys(call.results, call)
        left.append(call)
    return program._replace(calls=left)


def _scaled(call: Call) -> tuple[Value, Any] | None:
    """The array and the number of a product of such two."""
    if call.fun is np.multiply and not call.kwargs and call.target is None:
        for x, factor in (call.args, call.args[::-1]):
            number = _number(factor)
            if number is not None and _is_like(x, call.results[0]) and x.dtype.kind == "f":
                return x, number
    return None


def _number(factor: object) -> Any:
    """The number of Python's or NumPy's that a factor is, or None."""
    if isinstance(factor, Value):
        single = factor.is_constant and factor.size == 1 and factor.dtype.kind == "f"
        return factor.array.reshape(())[()] if single else None
    return factor if type(factor) in (int, float) else None


def sum_by_products(program: Program) -> Program:
    """Add up all elements by BLAS, in a third of the time; square in place of products with itself.

    a = x * x
    b = add.reduce(a)        b = dot(x, x)
    """
    uses = program.uses()
    makers: dict[Value, Call] = {}
    left: list[Call] = []
    for call in program.calls:
        if _is_square(call):
            call = call.instead(np.square, call.args[:1])
        x = call.args[0] if call.fun == np.add.reduce and call.target is None else None
        if isinstance(x, Value) and x.size <= _BY_BLAS and _sums_all(call, x):
            maker = makers.get(x)
            factors: Sequence[Value] = (x, constant(np.ones(x.size, x.dtype)))
            if maker is not None and uses[x] == 1 and maker.fun in (np.square, np.multiply):
                inner = (*maker.args, *maker.args)[:2]
                if not maker.kwargs and all(map(_is_flat, inner, (x, x))):
                    factors = inner
            call = call.instead(np.dot, [_flattened(a, left) for a in factors])
        makers |= dict.fromkeys(call.results, call)
        left.append(call)
    return program._replace(calls=left)


def _is_square(call: Call) -> bool:
    if call.fun is not np.multiply or call.kwargs or call.args[0] is not call.args[1]:
        return False
    return bool(call.args[0].dtype.kind in "fciu")  # the square of a bool is a number


def sums_along(call: Call, *axes: Any) -> bool:
    """Whether a call adds up an array along one of these axes, and does no more."""
    if call.fun != np.add.reduce or not isinstance(call.args[0], Value) or len(call.args) > 2:
        return False
    options = dict(zip(("axis",), call.args[1:])) | {**call.kwargs}
    plain = all(v is None or v is False for k, v in options.items() if k not in ("axis", "where"))
    return plain and "where" not in options and options.get("axis", 0) in axes


def _sums_all(call: Call, x: Value) -> bool:
    (result,) = call.results
    return (
        result.ndim == 0
        and sums_along(call, None, *((0, -1, (0,), (-1,)) if x.ndim == 1 else ()))
        and x.dtype == result.dtype
        and x.dtype.char in "fd"
        and x.size > 1  # a product with 1 would keep -0.0, of which the sum is 0.0
        and _is_flat(x, x)
    )


def _is_flat(factor: object, like: Value) -> bool:
    return _is_like(factor, like) and factor.is_c_contiguous


def _flattened(a: Value, calls: list[Call]) -> Value:
    """A vector of the elements, as a view."""
    return a if a.ndim == 1 else made_view(calls, np.ndarray.reshape, a, -1)


def made_view(calls: list[Call], fun: Function, a: Value, *args: Any) -> Value:
    """A view of a value, by a call that is added; what stays where it is needs no call for that."""
    value = view(fun, a, *args)
    if a.storage.home not in ("state", "constant"):
        calls.append(Call("view", fun, (a, *args), results=(value,)))
    return value


def _is_like(x: object, result: Value) -> TypeGuard[Value]:
    return isinstance(x, Value) and x.shape == result.shape and x.dtype == result.dtype
