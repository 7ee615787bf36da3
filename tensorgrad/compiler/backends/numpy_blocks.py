"""Code for element-wise calls over large arrays: block by block, in one or two threads."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from ...engine.arrays import aligned
from ..code import Code, function, indented
from ..costs import count_of_threads
from ..ir import Call, Value, mapped, values_in
from ..passes.loop_fusion import Chain
from .numpy_ufuncs import ufunc_line

# Bytes of one block, for one thread and for two; the second-level cache holds those of several
# arrays.
BLOCKS = 1 << 17, 1 << 18


def lines_in_blocks(code: Code, call: Call, outs: Sequence[str]) -> list[str]:
    """The loop over blocks; `outs` are the names of the arrays for the results of a chain."""
    return _Blocks(code, call.fun).lines(dict(zip(call.results, outs, strict=True)))


class _Blocks:
    """Writes a loop over the blocks of the arrays of a chain.

    Blocks are of whole rows, for the sake of arrays that all rows have in common; else of elements,
    whatever the shape.
    """

    def __init__(self, code: Code, chain: Chain) -> None:
        self._code = code
        self._calls = calls = chain.calls
        first = calls[0].results[0]
        arrays = [v for c in calls for v in values_in(c.args) if v.ndim]
        self._flat = all(v.shape == first.shape for v in arrays)
        self._order = first.order
        self._rows = first.size if self._flat else first.shape[0]
        self._row = () if self._flat else first.shape[1:]
        self._threads = min(len(BLOCKS), count_of_threads() or 1)
        widest = max(r.dtype.itemsize for c in calls for r in c.results)
        self._step = max(1, BLOCKS[self._threads - 1] // (widest * math.prod(self._row)))
        self._shape = first.shape
        self._before: list[str] = []  # lines before the loop
        self._slices: list[str] = []  # lines that take the present block of each array
        self._blocks: dict[Value, Value] = {}  # a value for the present block of another one
        self._free: list[tuple[Any, str]] = []  # blocks that nobody needs any more, by dtype

    def lines(self, outs: Mapping[Value, str]) -> list[str]:
        """The lines; `outs` are the names of the arrays for the results."""
        made = {r for c in self._calls for r in c.results}
        given = dict.fromkeys(v for c in self._calls for v in values_in(c.args) if v not in made)
        for value in given:
            if value.shape == self._shape:
                self._take_block(value, self._code.text(value))
        for value, out in outs.items():
            self._take_block(value, out)
        lines = self._calls_on_blocks()
        head = f"for low in range(start, stop, {self._step}):"
        body = [f"high = min(low + {self._step}, stop)", *self._slices, *lines]
        chain = function("chain", ["thread", "start", "stop"], [head, *indented(body)])
        if self._threads == 1:
            return [*self._before, *chain.split("\n"), f"chain(0, 0, {self._rows})"]
        middle = self._rows // self._step // 2 * self._step
        both = f"{self._code.function(in_two_threads)}(chain, {middle}, {self._rows})"
        return [*self._before, *chain.split("\n"), both]

    def _take_block(self, value: Value, array: str) -> None:
        """Name the present block of a large array."""
        name = f"{array}_block"
        if self._flat and len(self._shape) > 1:
            fixed = self._code.names.get(array)
            if fixed is None:
                self._before.append(f"{array}_flat = {array}.reshape(-1, order={self._order!r})")
            else:
                self._code.names[f"{array}_flat"] = fixed.reshape(-1, order=self._order)
            array += "_flat"
        self._slices.append(f"{name} = {array}[low:high]")
        self._name_block(value, name)

    def _name_block(self, value: Value, name: str) -> None:
        self._blocks[value] = block = replace(value)
        self._code.local(block, name)

    def _calls_on_blocks(self) -> list[str]:
        """The calls of one block; what is needed in between lies in scratch memory."""
        lines = []
        left = Counter(v for c in self._calls for v in dict.fromkeys(values_in(c.args)))
        scratch: set[Value] = set()
        for call in self._calls:
            (result,) = call.results
            args = mapped(tuple(call.args), Value, lambda v: self._blocks.get(v, v))
            for v in dict.fromkeys(values_in(call.args)):
                left[v] -= 1
                if not left[v] and v in scratch:
                    self._free.append((v.dtype, self._code.text(self._blocks[v])))
            if result not in self._blocks:
                self._name_block(result, self._scratch_block(result))
                scratch.add(result)
            plain = Call("pure", call.fun, args, results=call.results)
            lines.append(ufunc_line(self._code, plain, self._code.text(self._blocks[result])))
        return lines

    def _scratch_block(self, result: Value) -> str:
        """The name of a block of memory that is free, or new."""
        same = [name for dtype, name in self._free if dtype == result.dtype]
        if same:
            self._free.remove((result.dtype, same[-1]))
            return same[-1]
        size = self._step * math.prod(self._row)
        memory = [
            aligned(size, result.dtype).reshape(self._step, *self._row)
            for _ in range(self._threads)
        ]
        whole = self._code.name(memory, "memory")
        self._slices.append(f"{whole}_block = {whole}[thread][: high - low]")
        return f"{whole}_block"


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
