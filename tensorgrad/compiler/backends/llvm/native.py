"""The back end that makes native code of a program's kernels, and leaves other calls to NumPy."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.lib.stride_tricks import as_strided

from ....engine.interpreter import Timetable
from ....engine.typing import Array, Function
from ....engine.views import owner_of
from ...buffers import Buffers
from ...code import Code, indented
from ...ir import Call, Storage, Value
from ...ops import op_of
from ...passes import ALGEBRAIC
from .. import Loop, Segment
from ..numpy_source import NumpySource, in_rows, is_taken_now, named_results, segment_of
from . import runtime
from .bodies import Unknown
from .failures import Failures, address_of, rows_laid_out
from .kernels import KERNELS, Draw
from .lowering import is_of_floats, kernel_of, lower, repeating
from .segments import Module, NativeFunction, Span

CHUNK = 0.01  # seconds of a loop, after which Ctrl-C and other threads get their turn


class LLVM(NumpySource):
    """Runs of kernels are native functions; other calls are NumPy's."""

    name = "llvm"
    heeds_error_settings = False
    passes = (*ALGEBRAIC, lower)

    def segments(self, code: Code, buffers: Buffers) -> list[Segment]:
        """One line for each run of kernels; the lines of NumPy for other calls."""
        calls = _timetables_last(_lowered(buffers.calls, code.variables()))
        runs = [[*run] for _, run in groupby(calls, _is_kernel)]
        after = itertools.dropwhile(_is_kernel, calls)
        loops = all(call.kind == "view" or isinstance(call.fun, Timetable) for call in after)
        addresses = _Addresses(buffers)
        roots = _roots(code, buffers, addresses)
        tested = _tested(code, runs, addresses)
        module = Module(addresses.of)
        functions = {
            i: module.add(f"native_{i}", run, roots, loops, {} if i else tested)
            for i, run in enumerate(runs)
            if _is_kernel(run[0])
        }
        library = code.native = runtime.compile(module.module) if functions else None
        found, late = list[Segment](), False
        for i, run in enumerate(runs):
            if i in functions:
                assert library is not None
                found.append(_native(code, buffers, run, functions[i], library, module.failures))
            for call in run:
                if i not in functions and not is_taken_now(code, call):
                    found.append(segment_of(code, buffers, call, late))
                late = late or call.has_effects
        return found

    def loop(self, code: Code, segments: Sequence[Segment], loop: Loop) -> list[str]:
        """A native loop, where each step is one native function; what it leaves is done as usual.

        It leaves everything where a batch may lie in memory that a step changes.
        """
        steps = super().loop(code, segments, loop)
        written = [segment for segment in segments if segment.lines]
        first = written[0] if written else None
        if loop.end or not isinstance(first, NativeSegment) or first.loop is None:
            return steps
        table, timetables = _table(code, first, loop), _timetables(written[1:])
        if table is None or timetables is None:
            return steps
        run = code.name(NativeLoop(first, *table, timetables), "native_loop")
        return [
            *("try:", f"    {run}(arrays, results, done)"),
            *("finally:", "    i = start = done[0]"),
            "if start < len(arrays[0]):",
            *indented(steps),
        ]


@dataclass(frozen=True, eq=False)
class NativeSegment(Segment):
    """A run of kernels, and the function that makes them; `loop` makes many steps."""

    function: NativeFunction
    loop: Function | None
    states: Sequence[Array]
    locks: Sequence[Any]  # of the generators that it draws from
    failures: Failures


def _lowered(calls: Iterable[Call], inputs: Iterable[Value]) -> list[Call]:
    """The calls, copies that are still needed as kernels; views come when they are needed.

    Only Python's lines need them: kernels know how values lie in memory.
    """
    floats: set[Value] = set()
    repeated = repeating(inputs)
    lowered, views = list[Call](), list[Call]()
    for call in calls:
        if op_of(call.fun).pattern == "number":
            floats.update(call.results)
        with contextlib.suppress(Unknown):
            if not is_of_floats(call, floats) and repeated.isdisjoint(
                v.storage for v in call.reads
            ):
                call = kernel_of(call)
        if call.kind == "view":
            views.append(call)
            continue
        if not (_is_kernel(call) or isinstance(call.fun, Timetable)):
            repeated |= repeating(call.results)
            lowered += views
            views.clear()
        lowered.append(call)
    return lowered + views


def _timetables_last(calls: Sequence[Call]) -> list[Call]:
    """The calls, those of timetables after kernels that do without what they write."""
    first, last = list[Call](), list[Call]()
    for call in calls:
        if isinstance(call.fun, Timetable):
            last.append(call)
            continue
        used = {v.storage for v in (*call.reads, *call.results, *call.changes)}
        written = {v.storage for other in last for v in other.writes}
        if not used.isdisjoint(written) or not (_is_kernel(call) or call.kind == "view"):
            first += last
            last.clear()
        first.append(call)
    return first + last


def _timetables(segments: Sequence[Segment]) -> list[tuple[Timetable, list[Array]]] | None:
    """The timetables that segments consist of, and what they write, or None for other segments.

    None, too, where two write to the same arrays, as neither is known ahead then.
    """
    calls = [call for segment in segments for call in segment.calls]
    if not all(isinstance(call.fun, Timetable) for call in calls):
        return None
    written = [v.storage for call in calls for v in call.writes]
    if len({*written}) < len(written):
        return None
    return [(call.fun, [v.array for v in call.writes]) for call in calls]


def _is_kernel(call: Call) -> bool:
    return isinstance(call.fun, KERNELS)


def _roots(code: Code, buffers: Buffers, addresses: _Addresses) -> dict[Storage, Value]:
    """The values that are variables, by their storages: the first one of each."""
    made = [r for call in buffers.calls for r in call.results]
    roots: dict[Storage, Value] = {}
    for v in [*code.variables(), *made]:
        if not addresses.knows(v):
            roots.setdefault(v.storage, v)
    return roots


class _Addresses:
    """The addresses of values that stay where they are."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._starts: dict[Storage, int] = {}

    def of(self, v: Value) -> int:
        """The address of the first element."""
        if v.storage not in self._starts:
            self._starts[v.storage] = address_of(self._array(v)) - v.offset
        return self._starts[v.storage] + v.offset

    def knows(self, v: Value) -> bool:
        """Whether the value stays where it is."""
        return v.storage.array is not None or self._buffers.array_of(v) is not None

    def memory(self, v: Value) -> Span:
        """All of the memory that the value is a part of."""
        return Span(*byte_bounds(owner_of(self._array(v))))

    def _array(self, v: Value) -> Array:
        array = self._buffers.array_of(v)
        return v.array if array is None else array


def _tested(
    code: Code, runs: Sequence[Sequence[Call]], addresses: _Addresses
) -> dict[Value, list[Span]]:
    """The parameters that the first run can test, and the memory that they must not lie in.

    No other run reads them, and NumPy has one object for their dtype.
    """
    first, *others = runs or [[]]
    later = {v.storage for run in others for call in run for v in call.reads}
    made = (v for call in first if _is_kernel(call) for v in call.fun.written)
    memory = sorted({addresses.memory(v) for v in made if addresses.knows(v)})
    own = (v for v in code.parameters if v.storage not in later)
    return {v: memory for v in own if v.dtype is np.dtype(v.dtype.char)}


def _native(
    code: Code,
    buffers: Buffers,
    calls: Sequence[Call],
    function: NativeFunction,
    library: runtime.Library,
    failures: Failures,
) -> NativeSegment:
    """The line of a run of kernels."""
    new: dict[Value, str] = {}
    for call in calls:
        named_results(code, call, buffers, new)
    values = {v for call in calls for v in (*call.reads, *call.results)}
    arrays = [buffers.array_of(v) if v.storage.array is None else v.storage.array for v in values]
    plain = runtime.builtin(library, function.name, *arrays, failures)
    name = code.name(plain, function.name)
    otherwise = code.name(function.otherwise(plain, failures), f"{function.name}_otherwise")
    given = ", ".join(map(code.text, function.arguments))
    line = f"{name}({given}) or {otherwise}({given})"
    draws = [call.fun.generator for call in calls if isinstance(call.fun, Draw)]
    found = {id(lock): lock for lock in (g.bit_generator.lock for g in draws)}
    locks = [found[i] for i in sorted(found)]  # in one order everywhere: threads wait in no circle
    lines = [line]
    if locks:
        lines = [f"with {', '.join(code.name(lock, 'lock') for lock in locks)}:", f"    {line}"]
    loop = runtime.builtin(library, function.loop, plain) if function.loop else None
    changed = [v.array for call in calls for v in call.changes if v.storage.home == "state"]
    lines = [*new.values(), *lines]
    return NativeSegment(
        calls, lines, in_rows(new), function, loop, changed, locks, failures, tested=function.tested
    )


def _table(
    code: Code, segment: NativeSegment, loop: Loop
) -> tuple[list[tuple[int, int]], list[tuple[int, Array]]] | None:
    """Where a native loop finds what a step takes and gives, or None where it cannot.

    For each argument: whether it is one of the arrays or of the results, and which; and for other
    results their number, and the array that a step leaves them in.
    """
    sources: list[tuple[int, int]] = []
    outputs = [*loop.outputs]
    for v in segment.function.arguments:
        name = code.text(v)
        if name in loop.inputs:
            sources.append((0, loop.inputs.index(name)))
        elif v in outputs and v in segment.new and outputs.count(v) == 1:
            sources.append((1, outputs.index(v)))
        else:
            return None
    copies = []
    for i, output in enumerate(outputs):
        if output is not None and (1, i) not in sources:
            array = code.fixed(output)
            if array is None or not array.size or not array.flags.c_contiguous:
                return None
            copies.append((i, array))
    return sources, copies


class NativeLoop:
    """Makes steps of a loop, in parts that take a moment, between which Ctrl-C is heard."""

    __name__ = "native_loop"

    def __init__(
        self,
        segment: NativeSegment,
        sources: Sequence[tuple[int, int]],
        copies: Sequence[tuple[int, Array]],
        timetables: Sequence[tuple[Timetable, Sequence[Array]]],
    ) -> None:
        assert segment.loop is not None
        self._loop, self._locks = segment.loop, segment.locks
        self._arguments, self._failures = segment.function.arguments, segment.failures
        self._sources = [*zip(sources, segment.function.arguments, strict=True)]
        self._copies = [(i, _repeated(array)) for i, array in copies]
        self._timetables = [(t, [*map(_repeated, arrays)]) for t, arrays in timetables]
        owners = {id(owner): owner for owner in map(owner_of, segment.states)}
        self._states = [*owners.values()]
        self._count = 1  # steps that take a moment

    def __call__(self, arrays: Sequence[Array], results: Sequence[Array], done: list[int]) -> None:
        """Make steps from `done[0]` on, all that it can, and count them there."""
        if any(np.may_share_memory(a, state) for a in arrays for state in self._states):
            return
        given = [rows_laid_out((arrays, results)[which][i], v) for (which, i), v in self._sources]
        stop = len(arrays[0])
        while done[0] < stop:
            start, count = done[0], min(self._count, stop - done[0])
            before = time.perf_counter()
            ahead = self._ahead(count)
            if ahead is None:
                break
            copies = [a for i, array in self._copies for a in (array, results[i][start:])]
            self._make(count, [*(a[start:] for a in given), *ahead, *copies], done)
            if done[0] < start + count:  # a check has failed, or a guard does not hold
                self._failures.raise_last(self._arguments, [a[done[0], ...] for a in given])
                break
            seconds = time.perf_counter() - before
            self._count = max(1, int(count * min(CHUNK / max(seconds, 1e-9), 64)))

    def _ahead(self, count: int) -> list[Array] | None:
        """What timetables would write in so many steps, and where, in pairs for the loop."""
        pairs: list[Array] = []
        for timetable, arrays in self._timetables:
            columns = timetable.ahead(count)
            if columns is None:
                return None
            for column, array in zip(columns, arrays, strict=True):
                pairs += () if column is None else (column, array)
        return pairs

    def _make(self, count: int, given: Sequence[Array], done: list[int]) -> None:
        """Make so many steps, or less, and count them."""
        made: list[int] = []
        try:
            with contextlib.ExitStack() as locked:
                for lock in self._locks:
                    locked.enter_context(lock)
                # In one step, which Ctrl-C cannot divide.
                made.extend(itertools.starmap(self._loop, [(count, *given)]))
        finally:
            steps = sum(made)
            done[0] += steps
            if steps:
                for timetable, _ in self._timetables:
                    timetable.advance(steps)


def _repeated(array: Array) -> Array:
    """An array all of whose rows are the same array."""
    return as_strided(array[np.newaxis], strides=(0, *array.strides))
