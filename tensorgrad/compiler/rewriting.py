"""Making a program shorter: what is constant, the same, or needless is left out.

Each rewrite is exact, but for those that say otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..graph import Array, Function
from ..tensor import alias
from .program import Call, Storage, Value, mapped, values_in
from .tracing import assign_at

# What depends on the shape and the dtype of an array, not on its elements.
LIKE = frozenset({np.zeros_like, np.ones_like, np.full_like})
# What returns the elements of its argument as they are, or in another dtype.
COPIES = frozenset({
    np.copy, np.ndarray.copy, np.ndarray.astype, np.astype, np.positive, alias,
    np.ascontiguousarray,
})  # fmt: skip
_SMALL = 16  # elements: constants up to this size are compared by what they hold


def simplified(
    calls: Sequence[Call], kept: Iterable[Value]
) -> tuple[list[Call], dict[Value, Value]]:
    """The calls that are needed for effects and for `kept` values; and what stands for others."""
    same: dict[Value, Value] = {}
    calls = _merged(_folded(calls), same)
    wanted = [same.get(v, v) for v in kept]
    calls = _needed(calls, wanted)
    calls = _short_chains(calls, wanted)
    return _needed(calls, wanted), same


def is_constant(value: Value) -> bool:
    return value.storage.home == "constant"


def _folded(calls: Iterable[Call]) -> list[Call]:
    """Without the calls whose results are the same each time: they are constants."""
    left = []
    for call in calls:
        if call.kind in ("pure", "view"):
            own = [r for r in call.results if r.call is call]
            if not own or all(r.storage.home == "state" for r in own):
                continue  # a view of what stays where it is was taken while tracing
            reads = [] if call.fun in LIKE else [*values_in((call.args, call.kwargs))]
            if all(map(is_constant, reads)) and not any(r.storage.writes for r in own):
                for r in own:
                    r.storage.home = "constant"
                continue
        left.append(call)
    return left


def _merged(calls: Iterable[Call], same: dict[Value, Value]) -> list[Call]:
    """Without copies that nobody needs, products with 1, and calls made before.

    `same` is told what stands for the results of those left out.
    """
    left = []
    known: dict[Any, Call] = {}
    versions: Counter[Storage] = Counter()
    epoch = 0
    for call in calls:
        call.replace(lambda v: same.get(v, v))
        if call.target is not None:
            versions[call.target.storage] += 1
        elif call.kind == "host":  # it may write to any state
            epoch += 1
        elif not any(r.storage.writes for r in call.results):
            source = _source(call)
            if source is not None:
                same[call.results[0]] = source
                continue
            key = _key(call, versions, epoch)
            if key in known:
                same.update(zip(call.results, known[key].results, strict=True))
                continue
            known[key] = call
        left.append(call)
    return left


def _source(call: Call) -> Value | None:
    """The value of which a call makes a needless copy, if it does."""
    (first, *others), (result, *more) = call.args or (None,), call.results
    if more:
        return None
    if call.fun is np.multiply and not call.kwargs:
        for x, factor in ((first, others[0]), (others[0], first)):
            if _is_like(x, result) and _is_one(factor):
                return _unchanging(x)
    elif call.fun in COPIES and _is_like(first, result):
        return _unchanging(first)
    return None


def _is_like(x: Any, result: Value) -> bool:
    return isinstance(x, Value) and x.shape == result.shape and x.dtype == result.dtype


def _is_one(factor: Any) -> bool:
    if isinstance(factor, Value):
        return is_constant(factor) and bool(np.all(factor.array == 1))
    return isinstance(factor, (int, float)) and factor == 1


def _unchanging(value: Value) -> Value | None:
    return value if value.storage.writes == 0 else None


def _key(call: Call, versions: Counter[Storage], epoch: int) -> Any:
    """What calls have in common that return the same."""

    def frozen(part: Any) -> Any:
        if isinstance(part, Value):
            if is_constant(part) and part.size <= _SMALL:
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


def _needed(calls: Sequence[Call], kept: Iterable[Value]) -> list[Call]:
    """Without the calls whose results nobody uses."""
    used = {v.storage for v in kept}
    left = []
    for call in reversed(calls):
        if (
            call.kind == "host"
            or (call.target is not None and call.target.storage.home == "state")
            or (call.target is not None and call.target.storage in used)
            or any(r.storage in used for r in call.results)
        ):
            used.update(v.storage for v in call.reads)
            left.append(call)
    return left[::-1]


def _short_chains(calls: Sequence[Call], kept: Iterable[Value]) -> list[Call]:
    """With one product by a number in place of several on end: not to the last bit."""
    uses = Counter(v for call in calls for v in call.reads)
    uses.update(kept)
    makers = {r: call for call in calls for r in call.results}
    for call in calls:
        x, factor = _scaled(call)
        inner = makers.get(x) if x is not None else None
        if inner is None or uses[x] != 1 or inner.errors != call.errors:
            continue
        y, other = _scaled(inner)
        if y is not None and _unchanging(y) and y.shape == call.results[0].shape:
            product = np.asarray(factor * other, call.results[0].dtype)
            call.args = y, Value(product, Storage("constant", product))
    return [*calls]


def _scaled(call: Call) -> tuple[Any, Any]:
    """The array and the number of a product of such two, or None twice."""
    if call.fun is np.multiply and not call.kwargs and call.target is None:
        for x, factor in (call.args, call.args[::-1]):
            number = _number(factor)
            if number is not None and _is_like(x, call.results[0]) and x.dtype.kind == "f":
                return x, number
    return None, None


def _number(factor: Any) -> Any:
    if isinstance(factor, Value):
        single = is_constant(factor) and factor.size == 1 and factor.dtype.kind == "f"
        return factor.array.reshape(())[()] if single else None
    return factor if type(factor) in (int, float) else None
