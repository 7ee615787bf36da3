"""Making a program shorter: what is constant, the same, or needless is left out.

Each rewrite is exact, but for those that say otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..engine.typing import Function
from ..errors import TraceError
from .functions import COPIES, LIKE, spread
from .program import Call, Storage, Value, views_settled
from .strides import pattern

_SMALL = 16  # elements: constants up to this size are compared by what they hold
_BY_BLAS = 1 << 16  # elements: NumPy adds up more than that with less rounding, and as fast
_SPREAD = 4096  # elements of a result whose operands are spread out, at most


def simplified(
    calls: Sequence[Call], kept: Iterable[Value]
) -> tuple[list[Call], dict[Value, Value]]:
    """The calls that are needed for effects and for `kept` values; and what stands for others."""
    same: dict[Value, Value] = {}
    calls = views_settled(_merged(_constants_folded(calls), same))
    wanted = [same.get(v, v) for v in kept]
    calls = _decisions_first(_needed(calls, wanted))
    calls = _needed(_scaled_once(calls, wanted), wanted)
    return _needed(_sums_by_products(calls, wanted), wanted), same


def _constants_folded(calls: Iterable[Call]) -> list[Call]:
    """Without the calls whose results are the same each time: they are constants."""
    left = []
    for call in calls:
        if call.kind in ("pure", "view"):
            own = [r for r in call.results if r.call is call]
            if not own or all(r.storage.home == "state" for r in own):
                continue  # a view of what stays where it is was taken while tracing
            # Of an array of zeros like another one, the shape counts alone.
            reads = call.reads[1:] if call.fun in LIKE else call.reads
            if all(v.is_constant for v in reads) and not any(r.storage.writes for r in own):
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
        if not same.keys().isdisjoint(call.reads):
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
    candidates: list[Any] = [first] if call.fun in COPIES else []
    if call.fun is np.multiply and not call.kwargs:
        candidates = [x for x, y in ((first, others[0]), (others[0], first)) if _is_one(y)]
    like = [x for x in candidates if not more and _is_like(x, result) and _lies_like(x, result)]
    return like[0] if like and not like[0].storage.writes else None


def _is_like(x: Any, result: Value) -> bool:
    return isinstance(x, Value) and x.shape == result.shape and x.dtype == result.dtype


def _lies_like(x: Value, result: Value) -> bool:
    """Whether views of one value are views of the other too."""
    return pattern(x.array) == pattern(result.array)


def _is_one(factor: Any) -> bool:
    if isinstance(factor, Value):
        return factor.is_constant and bool(np.all(factor.array == 1))
    return isinstance(factor, (int, float)) and factor == 1


def _key(call: Call, versions: Counter[Storage], epoch: int) -> Any:
    """What calls have in common that return the same."""

    def frozen(part: Any) -> Any:
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


def _decisions_first(calls: Sequence[Call]) -> list[Call]:
    """With decisions by elements, as far as can be, before anything that outlives the call changes.

    Where a decision is another one, the program stops, and must not have changed anything.
    """
    first = next((i for i, call in enumerate(calls) if has_effects(call)), len(calls))
    before, moved, after = [*calls[:first]], list[Call](), list[Call]()
    needed: dict[Storage, Call] = {}  # what calls that move read, and the decision that needs it
    written: dict[Storage, Call] = {}  # what they write to: who reads it before, moves with them
    for call in reversed(calls[first:]):
        reads = [v.storage for v in call.reads]
        changed = [v.storage for v in (*call.results, call.target) if v is not None]
        decisions = [call] if call.fun is bool else []
        decisions += [needed[s] for s in changed if s in needed]
        decisions += [written[s] for s in reads if s in written]
        if not decisions:
            after.append(call)
            continue
        if has_effects(call):
            raise TraceError(
                f"{decisions[0].place}: a decision by elements cannot be compiled after "
                f"{calls[first].place} has changed what outlives the call, and it depends on that: "
                "change it later"
            )
        moved.append(call)
        needed |= dict.fromkeys(reads, decisions[0])
        if call.target is not None:
            written[call.target.storage] = decisions[0]
    return [*before, *moved[::-1], *after[::-1]]


def has_effects(call: Call) -> bool:
    """Whether a call changes what outlives the program."""
    if call.kind == "host":
        return call.fun is not bool
    return call.target is not None and call.target.storage.home == "state"


def uses_of(calls: Sequence[Call], kept: Iterable[Value]) -> Counter[Value]:
    """How often each value is read."""
    return Counter([*(v for call in calls for v in call.reads), *kept])


def _makers(calls: Sequence[Call]) -> dict[Value, Call]:
    return {r: call for call in calls for r in call.results}


def _scaled_once(calls: Sequence[Call], kept: Iterable[Value]) -> list[Call]:
    """With one product by a number in place of several on end: not to the last bit."""
    uses, makers = uses_of(calls, kept), _makers(calls)
    for call in calls:
        x, factor = _scaled(call)
        inner = makers.get(x) if x is not None else None
        if inner is None or uses[x] != 1 or inner.errors != call.errors:
            continue
        y, other = _scaled(inner)
        plain = y is not None and all(2**-32 < abs(n) < 2**32 for n in (factor, other))
        if plain and not y.storage.writes and y.shape == call.results[0].shape:
            product = np.asarray(factor * other, call.results[0].dtype)
            call.become(call.fun, (y, Value(product, Storage("constant", product))))
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
        single = factor.is_constant and factor.size == 1 and factor.dtype.kind == "f"
        return factor.array.reshape(())[()] if single else None
    return factor if type(factor) in (int, float) else None


def _sums_by_products(calls: Sequence[Call], kept: Iterable[Value]) -> list[Call]:
    """With sums of all elements of products by BLAS, in a third of the time: not to the last bit.

    And with squares in place of products of an array with itself.
    """
    uses, makers = uses_of(calls, kept), _makers(calls)
    left: list[Call] = []
    for call in calls:
        if _is_square(call):
            call.become(np.square, call.args[:1])
        x = call.args[0] if call.fun == np.add.reduce and call.target is None else None
        if isinstance(x, Value) and x.size <= _BY_BLAS and _sums_all(call, x):
            maker = makers.get(x)
            factors: Sequence[Any] = (x, np.ones(x.size, x.dtype))
            if maker is not None and uses[x] == 1 and maker.fun in (np.square, np.multiply):
                inner = (*maker.args, *maker.args)[:2]
                if not maker.kwargs and all(map(_is_flat, inner, (x, x))):
                    factors = inner
            flat = [_flattened(a, left) for a in factors]
            call.become(np.dot, flat)
        left.append(call)
    return left


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
        and _is_flat(x, x)
    )


def _is_flat(factor: Any, like: Value) -> bool:
    return _is_like(factor, like) and bool(factor.array.flags.c_contiguous)


def _flattened(a: Any, calls: list[Call]) -> Value:
    """A vector of the elements, as a view."""
    if isinstance(a, np.ndarray):
        return Value(a, Storage("constant", a))
    if a.ndim == 1:
        return a  # type: ignore[no-any-return]
    return _viewed(np.ndarray.reshape, a, -1, calls)


def _viewed(fun: Function, a: Value, argument: Any, calls: list[Call]) -> Value:
    """A view of a value; what stays where it is needs no call for that."""
    call = Call("view", fun, (a, argument))
    value = Value(fun(a.array, argument), a.storage, call)
    call.results = (value,)
    if a.storage.home not in ("state", "constant"):
        calls.append(call)
    return value


def spread_out(calls: Sequence[Call]) -> list[Call]:
    """With operands of small element-wise calls in the shape of the result.

    NumPy adds a (4, 4) array to another in 0.34 us, to a row in 0.73, and fills an array with a row
    in 0.14; a single element is as fast as a 0-d array.
    """
    left: list[Call] = []
    for call in calls:
        if (
            call.is_elementwise
            and len(call.results) == 1
            and not call.kwargs
            and 1 < call.results[0].size <= _SPREAD
        ):
            (result,) = call.results
            full = any(isinstance(a, Value) and a.shape == result.shape for a in call.args)
            if full:
                args = [
                    _in_shape(a, result, left, call.place) if isinstance(a, Value) else a
                    for a in call.args
                ]
                call.become(call.fun, args)
        left.append(call)
    return left


def _in_shape(a: Value, like: Value, calls: list[Call], at: str) -> Value:
    if a.shape in ((), like.shape):
        return a
    if a.size == 1:
        return _viewed(np.ndarray.reshape, a, (), calls)
    call = Call("pure", spread, (a, like.shape), place=at)
    array = np.empty_like(like.array, a.dtype)
    value = Value(array, Storage("temporary", array), call)
    call.results = (value,)
    calls.append(call)
    return value
