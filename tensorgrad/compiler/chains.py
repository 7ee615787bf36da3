"""Chains of element-wise calls over arrays larger than the cache: one pass over memory for all.

Block by block, all calls of the chain are made before the next block: what they hand on stays in
the cache. Ten million numbers take a third of the time; fewer than a million gain nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .memory import aligned
from .program import Call, Value, mapped, values_in
from .spelling import Code, ufunc_line

LARGE = 1 << 20  # elements of the arrays of a chain, at least
BLOCK = 1 << 16  # bytes of one block


class Chain:
    """Element-wise calls over arrays of one size, of which only some results are needed after."""

    __name__ = "chain"

    def __init__(self, calls: Sequence[Call], size: int) -> None:
        self.calls = calls
        self.size = size

    def lines(self, code: Code, call: Call, outs: Sequence[str]) -> list[str]:
        """The loop over blocks; `outs` are the names of the arrays for the results of `call`."""
        step = BLOCK // max(r.dtype.itemsize for c in self.calls for r in c.results)
        before, slices, lines = [], [], []
        blocks: dict[Value, Value] = {}

        def block_of(value: Value, array: str) -> None:
            """Name the present block of a large array."""
            flat, name = f"{array}_flat", f"{array}_block"
            fixed = code.names.get(array)
            if fixed is None:
                before.append(f"{flat} = {array}.reshape(-1)")
            else:
                code.names[flat] = fixed.reshape(-1)
            slices.append(f"{name} = {flat}[i:stop]")
            blocks[value] = Value(value.array, value.storage)
            code.local(blocks[value], name)

        for value in dict.fromkeys(values_in(call.args)):
            if value.size == self.size:
                block_of(value, code.text(value))
        for value, out in zip(call.results, outs, strict=True):
            block_of(value, out)
        left = Counter(v for c in self.calls for v in dict.fromkeys(values_in(c.args)))
        free: list[tuple[Any, str]] = []
        scratch: list[str] = []
        for inner in self.calls:
            (result,) = inner.results
            args = mapped(tuple(inner.args), Value, lambda v: blocks.get(v, v))
            for v in dict.fromkeys(values_in(inner.args)):
                left[v] -= 1
                if not left[v] and code.text(blocks.get(v, v)) in scratch:
                    free.append((v.dtype, code.text(blocks[v])))
            if result not in blocks:
                same = [name for dtype, name in free if dtype == result.dtype]
                if same:
                    free.remove((result.dtype, same[-1]))
                else:
                    name = code.name(aligned(step, result.dtype), "block")
                    scratch.append(name)
                    slices.append(f"{name}_part = {name}[:stop - i]")
                    same = [name + "_part"]
                blocks[result] = Value(result.array, result.storage)
                scratch.append(same[-1])
                code.local(blocks[result], same[-1])
            plain = Call("pure", inner.fun, args, results=inner.results)
            lines.append(ufunc_line(code, plain, code.text(blocks[result])))
        return [
            *before,
            f"for i in range(0, {self.size}, {step}):",
            *("    " + line for line in [f"stop = min(i + {step}, {self.size})", *slices, *lines]),
        ]


def chained(calls: Sequence[Call], kept: Iterable[Value]) -> list[Call]:
    """With each run of element-wise calls over large arrays as one call of a `Chain`."""
    kept = set(kept)
    left: list[Call] = []
    run: list[Call] = []

    def end(rest: Sequence[Call]) -> None:
        if len(run) > 1:
            left.append(_joined(run, kept.union(v for c in rest for v in c.reads)))
        else:
            left.extend(run)
        run.clear()

    for i, call in enumerate(calls):
        if run and not (_is_link(call) and _goes_on(run[-1], call)):
            end(calls[i:])
        (run if _is_link(call) else left).append(call)
    end([])
    return left


def _is_link(call: Call) -> bool:
    """Whether a call is element-wise, over arrays that are large, or of one element."""
    if not (isinstance(call.fun, np.ufunc) and call.fun.signature is None and call.kind == "pure"):
        return False
    if call.kwargs or len(call.results) != 1 or call.results[0].size < LARGE:
        return False
    (result,) = call.results
    return (
        result.storage.writes == 0
        and result.array.flags.c_contiguous
        and all(_fits(v, result) for v in values_in(call.args))
    )


def _fits(v: Value, result: Value) -> bool:
    whole = v.shape == result.shape and bool(v.array.flags.c_contiguous)
    return (whole or v.shape == ()) and v.storage.writes == 0


def _goes_on(last: Call, call: Call) -> bool:
    same = last.results[0].shape == call.results[0].shape
    return same and last.errors == call.errors


def _joined(run: Sequence[Call], wanted: set[Value]) -> Call:
    made = [r for c in run for r in c.results]
    given = [v for v in dict.fromkeys(v for c in run for v in c.reads) if v not in made]
    results = [r for r in made if r in wanted]
    chain = Chain([*run], made[0].size)
    joined = Call("pure", chain, given, results=results, place=run[0].place, errors=run[0].errors)
    for result in results:
        result.call = joined
    return joined
