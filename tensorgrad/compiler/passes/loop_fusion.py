"""Loop fusion: one pass over memory for a chain of element-wise calls, on arrays past the cache.

Block by block, all calls of the chain are made before the next block: what they hand on stays in
the cache. Ten million numbers take a third of the time; fewer than a million gain nothing. Where
NumPy's products take two threads or more, a second one makes the latter half of the blocks: GELU
and its gradient then take 0.7 of the time, in larger blocks, with which threads seldom have to wait
for each other.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from ...engine.arrays import aligned
from ..program import Call, Program, Value, mapped, values_in
from ..spelling import Code, function, indented, ufunc_line

LARGE = 1 << 20  # elements of the arrays of a chain, at least
# Bytes of one block, for one thread and for two; the second-level cache holds those of several
# arrays.
BLOCKS = 1 << 17, 1 << 18


class Chain:
    """Element-wise calls over arrays of one shape, of which only some results are needed after."""

    __name__ = "chain"

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        first = calls[0].results[0]
        arrays = [v for c in calls for v in values_in(c.args) if v.ndim]
        # Blocks are of whole rows, for the sake of arrays that all rows have in common; else of
        # elements, whatever the shape.
        self._flat = all(v.shape == first.shape for v in arrays)
        self._order = first.order
        self._rows = first.size if self._flat else first.shape[0]
        self._row = () if self._flat else first.shape[1:]
        self._threads = _count_of_threads()
        widest = max(r.dtype.itemsize for c in calls for r in c.results)
        self._step = max(1, BLOCKS[self._threads - 1] // (widest * math.prod(self._row)))
        self._shape = first.shape

    def lines(self, code: Code, call: Call, outs: Sequence[str]) -> list[str]:
        """The loop over blocks; `outs` are the names of the arrays for the results of `call`."""
        before, slices, lines = [], [], []
        blocks: dict[Value, Value] = {}

        def block_of(value: Value, array: str) -> None:
            """Name the present block of a large array."""
            name = f"{array}_block"
            if self._flat and len(self._shape) > 1:
                fixed = code.names.get(array)
                if fixed is None:
                    before.append(f"{array}_flat = {array}.reshape(-1, order={self._order!r})")
                else:
                    code.names[f"{array}_flat"] = fixed.reshape(-1, order=self._order)
                array += "_flat"
            slices.append(f"{name} = {array}[low:high]")
            blocks[value] = Value(value.array, value.storage)
            code.local(blocks[value], name)

        for value in dict.fromkeys(values_in(call.args)):
            if value.shape == self._shape:
                block_of(value, code.text(value))
        for value, out in zip(call.results, outs, strict=True):
            block_of(value, out)
        left = Counter(v for c in self.calls for v in dict.fromkeys(values_in(c.args)))
        free: list[tuple[Any, str]] = []  # blocks of memory, by dtype, that nobody needs any more
        scratch: set[str] = set()
        for inner in self.calls:
            (result,) = inner.results
            args = mapped(tuple(inner.args), Value, lambda v: blocks.get(v, v))
            for v in dict.fromkeys(values_in(inner.args)):
                left[v] -= 1
                if not left[v] and v in blocks and code.text(blocks[v]) in scratch:
                    free.append((v.dtype, code.text(blocks[v])))
            if result not in blocks:
                same = [name for dtype, name in free if dtype == result.dtype]
                if same:
                    name = same[-1]
                    free.remove((result.dtype, name))
                else:
                    size = self._step * math.prod(self._row)
                    memory = [
                        aligned(size, result.dtype).reshape(self._step, *self._row)
                        for _ in range(self._threads)
                    ]
                    whole = code.name(memory, "memory")
                    name = f"{whole}_block"
                    slices.append(f"{name} = {whole}[thread][: high - low]")
                    scratch.add(name)
                blocks[result] = Value(result.array, result.storage)
                code.local(blocks[result], name)
            plain = Call("pure", inner.fun, args, results=inner.results)
            lines.append(ufunc_line(code, plain, code.text(blocks[result])))
        head = f"for low in range(start, stop, {self._step}):"
        body = [f"high = min(low + {self._step}, stop)", *slices, *lines]
        chain = function("chain", ["thread", "start", "stop"], [head, *indented(body)])
        if self._threads == 1:
            return [*before, *chain.split("\n"), f"chain(0, 0, {self._rows})"]
        middle = self._rows // self._step // 2 * self._step
        both = f"{code.function(in_two_threads)}(chain, {middle}, {self._rows})"
        return [*before, *chain.split("\n"), both]


def _count_of_threads() -> int:
    from ... import doctor  # it imports much that is needed for nothing else

    return min(len(BLOCKS), doctor.blas().threads or 1)


def in_two_threads(chain: Callable[[int, int, int], None], middle: int, stop: int) -> None:
    """Call the function for the numbers up to the middle, and in another thread for the others."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            chain(1, middle, stop)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=copy_context().run, args=(work,))  # with NumPy's errstate
    thread.start()
    try:
        chain(0, 0, middle)
        thread.join()
    finally:  # and after Ctrl-C, as it works on arrays of the plan
        thread.join()
    if errors:
        raise errors[0]


def fuse_loops(program: Program) -> Program:
    """Make each run of element-wise calls over large arrays one call of a `Chain`.

    a = sin(x)               b = chain(x)
    b = a * 2
    """
    calls = program.calls
    last = {v: i for i, call in enumerate(calls) for v in call.reads}  # that reads a value
    last |= dict.fromkeys(program.outputs, len(calls))
    left: list[Call] = []
    run: list[Call] = []

    def end(stop: int) -> None:
        """Join the calls of the run, which ends before the call with that number."""
        if len(run) > 1:
            left.append(_joined(run, [r for c in run for r in c.results if last.get(r, 0) >= stop]))
        else:
            left.extend(run)
        run.clear()

    for i, call in enumerate(calls):
        is_link = _is_link(call)
        if run and not (is_link and _goes_on(run[-1], call)):
            end(i)
        (run if is_link else left).append(call)
    end(len(calls))
    return program._replace(calls=left)


def _is_link(call: Call) -> bool:
    """Whether a call is element-wise, over arrays that are large, or of one element."""
    if not call.is_elementwise or call.kind != "pure" or call.kwargs:
        return False
    if len(call.results) != 1 or call.results[0].size < LARGE:
        return False
    (result,) = call.results
    return (
        result.storage.writes == 0
        and result.is_contiguous
        and all(_fits(v, result) for v in values_in(call.args))
    )


def _fits(v: Value, result: Value) -> bool:
    by_rows = result.is_c_contiguous
    order = v.is_c_contiguous if by_rows else v.is_f_contiguous
    whole = v.shape == result.shape and order
    in_each_row = by_rows and (v.ndim < result.ndim or v.shape[0] == 1 != result.shape[0])
    return v.storage.writes == 0 and bool(whole or in_each_row or v.ndim == 0)


def _goes_on(last: Call, call: Call) -> bool:
    (a,), (b,) = last.results, call.results
    same = a.shape == b.shape and a.order == b.order
    return same and last.errors == call.errors


def _joined(run: Sequence[Call], results: Sequence[Value]) -> Call:
    made = {r for c in run for r in c.results}
    given = [v for v in dict.fromkeys(v for c in run for v in c.reads) if v not in made]
    errors = run[0].errors
    return Call(
        "pure", Chain([*run]), given, results=results, location=run[0].location, errors=errors
    )
