"""Common subexpression elimination, and copy elision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any, TypeGuard

import numpy as np

from ..ir import Call, Program, Storage, Value, latest, settled
from ..ops import op_of
from ..strides import pattern

_SMALL = 16  # elements: constants up to this size are compared by what they hold


def eliminate_common_subexpressions(program: Program) -> Program:
    """Leave out calls that were made before, copies that nobody needs, and products with 1.

    a = sin(x)               a = sin(x)
    b = sin(x)
    c = copy(b)
    d = c + y                d = a + y
    """
    new: dict[Value, Value] = {}
    known: dict[Hashable, Call] = {}
    versions: Counter[Storage] = Counter()
    epoch, written = 0, program.written()
    left: list[Call] = []
    for call in program.calls:
        call = settled(call, new)
        if call.target is not None:
            versions[call.target.storage] += 1
        elif call.kind == "effect":  # it may write to any state
            epoch += 1
        elif call.kind != "guard" and written.isdisjoint(r.storage for r in call.results):
            source = _source(call)
            if source is not None and source.storage not in written:
                new[call.results[0]] = source
                continue
            key = _key(call, versions, epoch)
            if key in known:
                new.update(zip(call.results, known[key].results, strict=True))
                continue
            known[key] = call
        left.append(call)
    return program._replace(calls=left, outputs=[latest(v, new) for v in program.outputs])


def _source(call: Call) -> Value | None:
    """The value of which a call makes a needless copy, if it does."""
    (first, *others), (result, *more) = call.args or (None,), call.results
    is_copy = op_of(call.fun).pattern == "copy" or (call.fun is np.positive and not call.kwargs)
    candidates: list[object] = [first] if is_copy else []
    if call.fun is np.multiply and not call.kwargs:
        candidates = [x for x, y in ((first, others[0]), (others[0], first)) if _is_one(y)]
    like = [x for x in candidates if not more and _is_same(x, result)]
    return like[0] if like else None


def _is_same(x: object, result: Value) -> TypeGuard[Value]:
    """Whether a value can replace another one; views of both are alike, too."""
    if not isinstance(x, Value) or (x.shape, x.dtype) != (result.shape, result.dtype):
        return False
    return pattern(x) == pattern(result)


def _is_one(factor: object) -> bool:
    if isinstance(factor, Value):
        return factor.is_constant and bool(np.all(factor.array == 1))
    return isinstance(factor, (int, float)) and factor == 1


def _key(call: Call, versions: Counter[Storage], epoch: int) -> Hashable:
    """What calls have in common that return the same."""

    def frozen(part: Any) -> Hashable:
        if isinstance(part, Value):
            if part.is_constant and part.size <= _SMALL:
                return part.dtype, part.shape, part.array.tobytes()
            return id(part), versions[part.storage], part.storage.home == "state" and epoch
        if isinstance(part, (list, tuple)):
            return type(part), *map(frozen, part)
        if isinstance(part, dict):
            return tuple((name, frozen(p)) for name, p in part.items())
        if isinstance(part, slice):
            return slice, frozen(part.start), frozen(part.stop), frozen(part.step)
        if isinstance(part, (bool, int, float, complex, np.generic)):
            return type(part), repr(part)
        return id(part) if part.__hash__ is None else part

    errors = tuple((call.errors or {}).items())
    return call.fun, frozen(call.args), frozen(dict(call.kwargs)), errors
