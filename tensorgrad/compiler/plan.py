"""A program as one flat function of Python: the lines of a back end, and those around them."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..engine.graph import Node
from ..engine.typing import Function
from ..tables import Table
from .arguments import Arguments
from .backends import Loop, lines_of
from .buffers import Buffers
from .code import Code, function, indented
from .functions import MakesNew
from .ir import Call, Program, Storage, Value
from .ops import is_of_numbers
from .report import Profile, Step, Undo, listing, step_of
from .results import Results, Source
from .stages import Stage, run_passes
from .strides import whose_strides_count
from .tracing import Trace
from .wrapper import (
    MISS,
    answer,
    apart_from_state,
    arrays_of_gradients,
    conditions,
    earlier_gradients,
    effects,
    names,
    same_strides,
)

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 1 << 12  # bytes: larger results get memory of their own at each call, smaller are copied


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """A block without garbage collection: it makes many objects, and no garbage."""
    was_enabled = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if was_enabled:
            gc.enable()


class Plan:
    """The flat program for one signature of a compiled function.

    `run(*arrays)` makes one call, for whoever holds the `token`; `replay(args)` takes the token
    itself, and the arguments as they come. Both return MISS where the plan does not fit. `source`
    and `assembly` are the code, `steps` are the calls, `peak_bytes` the memory that temporary
    arrays take, and `lower_bound` what no plan could do without. The body of a loop gets arrays in
    C order, and computes each result right where it is to be. `stages` has the program as it was
    traced, and as each pass left it, if they are asked for.
    """

    @_collector_paused()
    def __init__(
        self,
        trace: Trace,
        results: Results,
        arguments: Arguments,
        token: list[None],
        with_stages: bool = False,
        is_body: bool = False,
    ) -> None:
        self.checks = trace.checks
        self._backend = trace.backend
        earlier = {node: v for node, v in trace.earlier.items() if v is not None}
        arrays = dict(zip(trace.inputs, arguments.arrays))
        inputs = [*arrays, *earlier.values()]
        counting = [] if is_body else whose_strides_count(trace.calls, inputs, results.values)
        traced = Program(inputs, trace.calls, results.values)
        program = self._after_passes(traced, trace, with_stages)
        if with_stages:
            self._source = Source(arguments.name, traced, results, trace.parameters, trace.labels)
        self._results = results = results.replaced(program.outputs)
        buffers = self._buffers(program, results, earlier, 1 if is_body else LARGE)
        self._code = code = Code(names(token), trace.inputs)
        self._inputs = [*map(code.text, trace.inputs)]
        taken = earlier_gradients(code, earlier, results, buffers.calls)
        _name_outside(code, [*results.values, *(v for c in buffers.calls for v in c.reads)])
        trace.progress(f"writing {len(program.calls):,} lines of Python")
        self._segments = self._backend.segments(code, buffers)
        self._holds = conditions(code, trace)
        self._layouts = same_strides(code, {v: arrays[v] for v in counting if v in arrays})
        tested = self._tested(results)
        others = [v for v in trace.inputs if v not in tested]
        self._begin = [
            *taken,
            *same_strides(code, {v: v for v in counting if v not in arrays}),
            *apart_from_state(code, trace, others, buffers.calls, results),
        ]
        self._effects = effects(code, results, trace)
        self._adds_up = bool(taken)
        self.turns = trace.turns
        lines = [
            f"if not ({self._holds}): return MISS",
            *self._counted(),
            *(*self._layouts, *self._begin, *lines_of(self._segments), *self._effects),
            *answer(code, results, buffers.fresh),
        ]
        self._lines = function("run", self._inputs, lines)
        self.replay = self._entry(arguments, lines, {*map(code.text, tested)})
        self._undo = Undo(trace, buffers.calls, arrays_of_gradients(code, results))

    def _after_passes(self, program: Program, trace: Trace, with_stages: bool) -> Program:
        """The program after all passes; `stages` has those in between, if they are asked for."""
        self.stages: list[Stage] = []
        for stage in run_passes(program, trace.passes, trace.progress, trace.labels):
            program = stage.program
            if with_stages:
                self.stages.append(stage)
        self._remarks = program.remarks
        return program

    def _buffers(
        self, program: Program, results: Results, earlier: Mapping[Node, Value], large: int
    ) -> Buffers:
        """The memory of a program; results of `large` bytes or more get their own at each call."""
        takes_out = {c for c in program.calls if self._backend.takes_out(c)}
        new = [c for c in program.calls if c in takes_out or isinstance(c.fun, MakesNew)]
        fresh = _fresh(results, {r: c for c in new for r in c.results}, large)
        gradients = results.gradients.items()
        apart = [v for node, v in gradients if node in earlier and v is not None]
        buffers = Buffers(program.calls, takes_out, results.values, apart, fresh)
        self._offsets = buffers.offsets
        self.peak_bytes, self.lower_bound = buffers.peak_bytes, buffers.lower_bound
        return buffers

    @property
    def is_over(self) -> bool:
        """Whether native code is to take over."""
        return self.turns is not None and self.turns.are_over

    def _counted(self) -> list[str]:
        """Lines that return MISS once native code is to take over."""
        if self.turns is None:
            return []
        self.turns.start(len(self.steps), sum(step.bytes for step in self.steps))
        return [f"if next({self._code.name(self.turns.tokens, 'turns')}): return MISS"]

    @functools.cached_property
    def run(self) -> Function:
        """Make one call: most calls come by `replay`, so it is defined when it is needed."""
        return self._code.defined(self._lines)

    @functools.cached_property
    def steps(self) -> list[Step]:
        """The calls, with their lines, and what they make."""
        return [step_of(segment, self._offsets) for segment in self._segments if segment.lines]

    @property
    def source(self) -> str:
        """The code: lines of Python, and the LLVM IR of native functions that they call."""
        native = self._code.native
        return self._lines if native is None else f"{self._lines}\n\n{native.ir}"

    @property
    def assembly(self) -> str:
        """The machine code of native functions, as text."""
        return "" if self._code.native is None else self._code.native.assembly

    def _tested(self, results: Results) -> Collection[Value]:
        """The inputs that the first line tests, before anything else looks at them."""
        first = next((segment for segment in self._segments if segment.lines), None)
        if first is None or self._layouts:
            return ()
        returned = {v.storage for v in results.values}
        return {v for v in first.tested if v.storage not in returned}

    def _entry(
        self, arguments: Arguments, lines: Sequence[str], tested: Collection[str]
    ) -> Function:
        """`replay`: `run` for a tuple of arguments, after a test whether they fit.

        The lines test some of them themselves.
        """
        checks = arguments.entrance(self._code, self._inputs, tested)
        if checks is None:
            return no_entry
        start = [
            "if get() is not current: return MISS",
            *checks,
            *("try:", "    take()", "except IndexError:", "    return MISS"),
            *("except BaseException:", "    give(None)", "    raise"),  # Ctrl-C, after it is taken
        ]
        body = ["try:", *indented(lines), "finally:", "    give(None)"]
        return self._code.defined(function("replay", ["args"], [*start, *body]))

    @functools.cached_property
    def scan(self) -> Function:
        """`scan(arrays, results, done)` makes a call with each item of the arrays.

        The leaves of the results go to the arrays in `results`. `done` holds the number of items
        that are done, before and after; after an error, too.
        """
        begin = [line.replace("return MISS", "return") for line in self._begin]
        end = self._effects if self._adds_up else []  # gradients, to the next call
        outputs = [o.value for o in self._results.outputs]
        loop = Loop(self._inputs, outputs, begin, end)
        first = [f"{a} = arrays[{k}][0, ...]" for k, a in enumerate(self._inputs) if self._layouts]
        lines = [
            f"if not ({self._holds}): return",
            *first,  # whose strides are those of all items
            *(line.replace("return MISS", "return") for line in self._layouts),
            "i = start = done[0]",
            *("try:", *indented(self._backend.loop(self._code, self._segments, loop))),
            *("except Diverged:", "    pass"),
            *("finally:", *indented(["done[0] = i", *self._effects])),
        ]
        return self._code.defined(function("scan", ["arrays", "results", "done"], lines))

    @property
    def table(self) -> Table:
        """The calls: what they make, where that lies, and the lines they are due to."""
        memory = f"{self.peak_bytes:,} bytes of memory for temporary arrays"
        total = f"{len(self.steps)} calls by {self._backend.name}, {memory}"
        return listing(self.steps, [total, *self._remarks])

    def __str__(self) -> str:
        return str(self.table)

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        weights: Literal["inside", "argument"] = "inside",
        target: str | None = None,
        cpu: str | None = None,
        features: str | None = None,
        threads: bool = True,
    ) -> list[Path]:
        """Write an object file and a C header; return their paths. Only for plans of `lower`.

        `path` is that of the files, without `.o` and `.h`. The C function has its last part as its
        `name`, if no other one is given. It gets pointers to the arguments of the Python function,
        arrays by rows, and then to the results; sizes are constants in the header. It needs neither
        Python nor NumPy.

        Parameters and other arrays from outside lie in the object file, with the elements that they
        have now. With `weights="argument"` they are written to a third file, `.weights`, and the C
        function gets a pointer to its content as the last argument.

        `target` is the triple of another system, such as "aarch64-linux-gnu", `cpu` its processor,
        and `features` more or fewer instructions, such as "+avx2,-fma", in the words of LLVM. By
        default, the code is for this machine; with a target, for every processor of that kind.
        Temporary arrays lie in memory of the thread. Without `threads`, which some systems do not
        have, they lie in static memory, and only one call can run at a time.

        Raises a TraceError that names the line if a call cannot become native code, draws random
        numbers, or changes an array: call `eval()` on a network before `lower`. Raises ValueError
        for a target that LLVM does not know. The page Deploy of the documentation has a whole
        program in C.
        """
        from .export import Files, export  # it imports pathlib, which takes a while

        return export(self._source, Files.of(path, name, weights, threads), target, cpu, features)

    def profile(self, n: int = 100) -> Profile:
        """Return the least time of each call in `n` runs, on arguments like the first ones.

        Nothing is changed: arrays are restored, and calls of Python with effects left out.
        """
        steps = [step for step in self.steps if step.is_timed]
        lines = [
            line
            for i, step in enumerate(steps)
            for line in ("start = clock()", *step.settled, f"times[{i}] = clock() - start")
        ]
        timed = self._code.defined(function("timed", [*self._inputs, "times"], lines))
        times = [0.0] * len(steps)
        least = [float("inf")] * len(steps)
        with self._undo as arguments:
            for _ in range(n):
                timed(*arguments, times)
                least = [*map(min, least, times)]
        return Profile([(t, step) for t, step in zip(least, steps, strict=True)])


def _name_outside(code: Code, values: Iterable[Value]) -> None:
    """Give names to the arrays from outside, which stay where they are."""
    for v in values:
        if v.storage.home in ("state", "constant") and not code.knows(v):
            code.bind(v, v.array)


def _fresh(results: Results, made: Mapping[Value, Call], large: int) -> set[Storage]:
    """The memory of results that are new at each call, not copied: `large` ones, and numbers."""
    counts = Counter(v.storage for v in results.values)
    return {
        v.storage
        for v in results.returned
        if v.storage.home == "temporary"
        and counts[v.storage] == 1
        and v in made
        and v.is_whole
        and v.is_contiguous
        and (v.nbytes >= large or is_of_numbers(made[v]))
    }


def no_entry(_args: Any) -> Any:
    """Return MISS, as of a plan that cannot be called in this way."""
    return MISS
