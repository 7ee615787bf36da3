"""A program as one flat function of Python: a line for each call, and memory for its arrays."""

from __future__ import annotations

import contextlib
import functools
import gc
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.graph import Node, now
from ..engine.modes import epoch, mode
from ..engine.registry import name_of
from ..engine.tensor import Tensor
from ..engine.typing import Array, Function
from ..engine.views import owner_of
from ..errors import TraceError
from ..tree import TreeDef
from .arguments import Arguments
from .buffers import Buffers, Recycled
from .functions import FIXED_SHAPE, MakesNew
from .passes.loop_fusion import Chain
from .printing import spec
from .program import Call, Program, Storage, Value, mapped
from .report import Profile, Step, Undo, listing
from .spelling import (
    Code,
    Spelling,
    arithmetic,
    function,
    indented,
    is_of_numbers,
    plain_lines,
    spelling,
)
from .stages import Stage, run_passes
from .strides import copied, pattern, whose_strides_count
from .tracing import Condition, Trace

LARGE = 1 << 12  # bytes: larger results get memory of their own at each call, smaller are copied
RECYCLED = 1 << 24  # bytes: larger results lie where earlier ones did, if nobody has these
MISS = object()
"""What a plan returns, having done nothing, where it does not fit the call."""


class Diverged(Exception):  # noqa: N818 (no error: the plan is for another case)
    """A decision by elements would be another one than while tracing."""


class Output(NamedTuple):
    """One leaf of what the function returns: a value; or, without one, the object itself.

    A value is returned as a new `leaf`: a tensor, with that node, or an array.
    """

    leaf: Any
    value: Value | None
    node: Node | None = None


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """A block that makes many objects and no garbage, for which the collector looks in vain."""
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
    is the code, `steps` are the calls, `peak_bytes` the memory that temporary arrays take, and
    `lower_bound` what no plan could do without. The body of a loop gets arrays in C order, and
    computes each result right where it is to be. `stages` has the program as it was traced, and as
    each pass left it, if they are asked for.
    """

    @_collector_paused()
    def __init__(
        self,
        trace: Trace,
        outputs: Sequence[Output],
        structure: TreeDef,
        final: Mapping[Node, Value | None],
        arguments: Arguments,
        token: list[None],
        with_stages: bool = False,
        is_body: bool = False,
    ) -> None:
        earlier = {node: v for node, v in trace.earlier.items() if v is not None}
        inputs: dict[Value, Array | Value] = {}
        inputs |= dict(zip(trace.inputs, arguments.arrays))
        inputs |= {v: v for v in earlier.values()}
        kept = _values([*(o.value for o in outputs), *final.values()])
        counting = [] if is_body else whose_strides_count(trace.calls, inputs, kept)
        self.stages: list[Stage] = []
        traced = Program(trace.calls, kept)
        for stage in run_passes(traced, trace.passes, trace.progress, trace.labels):
            self.stages = [*self.stages, stage] if with_stages else []
        calls, same = stage.program.calls, dict(zip(kept, stage.program.outputs, strict=True))
        self.outputs = [o._replace(value=o.value and same[o.value]) for o in outputs]
        final = {node: v and same[v] for node, v in final.items()}
        given, gradients = _values(o.value for o in self.outputs), _values(final.values())
        kept = [*given, *gradients]

        spellings = {c: s for c in calls if c.kind != "view" and (s := _spelling(c)) is not None}
        makers = [c for c in calls if c in spellings or isinstance(c.fun, MakesNew)]
        new = {r: c for c in makers for r in c.results}
        _give_away(given, gradients, new, 1 if is_body else LARGE)
        apart = _values(v for node, v in final.items() if node in earlier)
        buffers = Buffers(calls, spellings, kept, apart)
        self.peak_bytes, self.lower_bound = buffers.peak_bytes, buffers.lower_bound

        self._code = code = Code(_names(token))
        self._inputs = [code.local(v, f"a{i}") for i, v in enumerate(trace.inputs)]
        taken = _earlier_gradients(code, earlier, final, given, buffers.calls)
        for v in [*kept, *(v for call in buffers.calls for v in call.reads)]:
            if v.storage.home in ("state", "constant") and not code.knows(v):
                code.bind(v, v.array)
        trace.progress(f"writing {len(calls):,} lines of Python")
        body, late = [], False
        made: dict[Value, str] = {}
        for call in buffers.calls:
            body.append((call, _lines(code, call, spellings, buffers, late, made)))
            late = late or call.has_effects
        self.steps = [_step(call, lines, buffers) for call, lines in body if lines]
        self.checks = trace.checks
        self._holds = _conditions(code, trace)
        self._begin = [
            *taken,
            *_same_strides(code, {v: inputs[v] for v in counting}),
            *_apart_from_state(code, trace, buffers, given, gradients),
        ]
        self._adds_up = bool(taken)
        self._body = _in_settings(body)
        self._made = {  # the results that are made in C order, by their names, with these lines
            code.text(v): line for v, line in made.items() if v.ndim and v.is_c_contiguous
        }
        self._effects = _effects(code, final, trace)

        lines = [
            f"if not ({self._holds}): return MISS",
            *self._begin,
            *self._body,
            *self._effects,
            *_answer(code, self.outputs, structure),
        ]
        self.source = function("run", self._inputs, lines)
        self.replay = self._entry(arguments, lines)
        self._scan: Function | None = None
        held = [array for v in gradients if (array := code.fixed(v)) is not None]
        self._undo = Undo(trace.inputs, buffers.calls, held)
        for call in () if with_stages else buffers.calls:
            _forget(call)

    @functools.cached_property
    def run(self) -> Function:
        """Make one call: most calls come by `replay`, so it is defined when it is needed."""
        return self._code.defined(self.source)

    def _entry(self, arguments: Arguments, lines: Sequence[str]) -> Function:
        """`run` for a tuple of arguments, which have the plan's signature, or MISS is returned."""
        checks = arguments.entrance(self._code, self._inputs)
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

    def scan(self, arrays: Sequence[Array], results: Sequence[Any], start: int) -> int:
        """Make a call with each item of the arrays, from `start` on; return how many are done then.

        The leaves of the results go to the arrays in `results`.
        """
        if self._scan is None:
            self._scan = self._code.defined(self._source_of_scan())
        return self._scan(arrays, results, start)  # type: ignore[no-any-return]

    def _source_of_scan(self) -> str:
        items = "".join(f"{a}, " for a in self._inputs)
        inputs = "".join(f"rows(arrays[{i}][start:]), " for i in range(len(self._inputs)))
        kept, body = [], [*self._body]
        for i, output in enumerate(self.outputs):
            name = "" if output.value is None else self._code.text(output.value)
            if self._made.get(name) in body:  # let the row be the array
                body.remove(self._made[name])
                items += f"{name}, "
                inputs += f"results[{i}][start:], "
            elif name:
                kept.append(f"results[{i}][i] = {name}")
        begin = [line.replace("return MISS", "return i") for line in self._begin]
        handed_on = self._effects if self._adds_up else []  # gradients, to the next call
        loop = [*begin, *body, *handed_on, *kept]
        head = f"for i, {items}in zip(range(start, len(arrays[0])), {inputs}strict=True):"
        lines = [
            f"if not ({self._holds}): return start",
            "i = start",
            *["try:", *indented([head, *indented(loop), "i += 1"])],
            *["except Diverged:", "    pass"],
            *self._effects,
            "return i",
        ]
        return function("scan", ["arrays", "results", "start"], lines)

    def __str__(self) -> str:
        """A table of the calls: what they make, where that lies, and the lines they are due to."""
        memory = f"{self.peak_bytes:,} bytes of memory for temporary arrays"
        return f"{listing(self.steps)}\n{len(self.steps)} calls, {memory}"

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


def _values(values: Iterable[Value | None]) -> list[Value]:
    return [v for v in values if v is not None]


def _names(token: list[None]) -> dict[str, Any]:
    """What the lines of a plan use beside the arrays and functions of its calls."""
    return {
        "MISS": MISS, "Diverged": Diverged, "Tensor": Tensor, "ndarray": np.ndarray,
        "new": object.__new__, "empty": np.empty, "errstate": np.errstate, "now": now,
        "get": mode.get, "current": mode.get(), "take": token.pop, "give": token.append,
        "rows": _rows, "clock": time.perf_counter,
    }  # fmt: skip


def _forget(call: Call) -> None:
    """Let go of the arrays of the traced call."""
    for v in (*call.reads, *call.results):
        if v.storage.home not in ("state", "constant"):
            v.array = v.storage.owner = _NOTHING


_NOTHING = np.empty(0)


def _rows(array: Array) -> Any:
    """The items along the first axis, as arrays."""
    return array if array.ndim > 1 else [array[i, ...] for i in range(len(array))]


def _spelling(call: Call) -> Spelling | None:
    chain = call.fun
    if isinstance(chain, Chain):
        return lambda code, *outs: chain.lines(code, call, outs)
    return spelling(call)


def _lines(
    code: Code,
    call: Call,
    spellings: Mapping[Call, Spelling],
    buffers: Buffers,
    late: bool,
    made: dict[Value, str],
) -> list[str]:
    """The lines of a call; among them, those that make new arrays are noted in `made`.

    Views of memory that stays in place are taken now.
    """
    sources = call.reads
    if call.kind == "view" and len(sources) == 1 and code.fixed(sources[0]) is not None:
        args, kwargs = mapped((tuple(call.args), dict(call.kwargs)), Value, code.fixed)
        views: list[Array] = []
        mapped(call.fun(*args, **kwargs), np.ndarray, views.append)
        if all(v.size == 0 or np.may_share_memory(v, code.fixed(sources[0])) for v in views):
            for result, view in zip(call.results, views, strict=True):
                if not code.knows(result):
                    code.bind(result, view)
            return []
    for v in sources:
        array = None if code.knows(v) else buffers.array_of(v)
        if array is not None:
            code.bind(v, array)
    spell = spellings.get(call)
    if spell is None:
        return [*plain_lines(code, call), *_shape_checks(code, call, late)]
    if is_of_numbers(call) and call.results[0].storage.home == "result":
        number = arithmetic(code, call)
        return [f"{code.local(call.results[0])} = {code.function(np.asarray)}({number})"]
    lines, outs = [], []
    for result in call.results:
        array = buffers.array_of(result)
        if array is not None:
            code.bind(result, array)
        else:
            made[result] = f"{code.local(result)} = {_new(code, result)}"
            lines.append(made[result])
        outs.append(code.text(result))
    return [*lines, *spell(code, *outs)]


def _new(code: Code, result: Value) -> str:
    """An expression for a new array, in the same order in memory as the traced one."""
    order = result.order
    if result.nbytes >= RECYCLED:
        return f"{code.name(Recycled(result.shape, result.dtype, order), 'recycled')}()"
    return f"empty({code.text(result.shape)}, {code.name(result.dtype)}, {order!r})"


def _same_strides(code: Code, inputs: Mapping[Value, Array | Value]) -> list[str]:
    """Lines that return MISS if an input has other strides than in the trace."""
    lines = []
    for v, array in inputs.items():
        name, same = code.text(v), code.name(pattern(array))
        other = f"{name}.strides != {code.text(array.strides)}"
        lines.append(f"if {other} and {code.function(pattern)}({name}) != {same}: return MISS")
    return lines


def _earlier_gradients(
    code: Code,
    earlier: Mapping[Node, Value],
    final: Mapping[Node, Value | None],
    given: Sequence[Value],
    calls: Sequence[Call],
) -> list[str]:
    """Lines that take the gradients which leaves have from before the call."""
    made: dict[Storage, int] = {}  # the number of the first call that makes something in it
    read: dict[Storage, int] = {}  # the number of the last call that reads something of it
    for i, call in enumerate(calls if earlier else ()):
        read |= dict.fromkeys((v.storage for v in call.reads), i)
        for r in call.results:
            made.setdefault(r.storage, i)
    read |= dict.fromkeys((v.storage for v in given), len(calls))
    lines = []
    for i, (node, v) in enumerate(earlier.items()):
        lines.append(f"{code.local(v, f'g{i}')} = {code.name(node, 'node')}.grad")
        lines.append(f"if g{i} is None: return MISS")
        new = final.get(node)
        if new is not None and made.get(new.storage, len(calls)) < read.get(v.storage, 0):
            lines.append(f"g{i} = {code.function(copied)}(g{i})")
    return lines


def _apart_from_state(
    code: Code, trace: Trace, buffers: Buffers, given: Sequence[Value], gradients: Sequence[Value]
) -> list[str]:
    """Lines that copy arguments which lie where the program writes before it last reads them."""
    first: dict[int, int] = {}  # the number of the first call that changes what lies in an array
    last = {v.storage: i for i, call in enumerate(buffers.calls) for v in call.reads}
    last |= {v.storage: len(buffers.calls) for v in given}
    for i, call in enumerate(buffers.calls):
        for v in call.results if call.target is None else [call.target]:
            array = code.fixed(v) if code.knows(v) else None
            if array is not None:
                first.setdefault(id(owner_of(array)), i)
    owners = [owner_of(array) for _, array, _ in trace.tensors.values()]
    owners += [owner_of(a) for v in gradients if (a := code.fixed(v)) is not None]
    lines = []
    for v in trace.inputs:
        name, done = code.text(v), last.get(v.storage, -1)
        changed = {id(o): o for o in owners if first.get(id(o), done + 1) <= done}.values()
        same = [o for o in changed if (o.shape, o.dtype) == (v.shape, v.dtype)]
        copy = f"{name} = {code.function(copied)}({name})"
        lines += [f"if {name} is {code.name(o, 'owner')}: {copy}" for o in same]
        if changed:
            views = " or ".join(f"base is {code.name(o, 'owner')}" for o in changed)
            lines += [
                f"base = {name}.base",
                f"if base is not None and ({views}): {copy}",
            ]
    return lines


def _shape_checks(code: Code, call: Call, late: bool) -> list[str]:
    """Lines that give up where a result has another shape than while tracing.

    If it is too `late` for another program to take over, that is an error.
    """
    if (
        call.kind == "effect"
        or call.fun in FIXED_SHAPE
        or isinstance(call.fun, (np.ufunc, MakesNew))
    ):
        return []
    error = TraceError(
        f"{call.location}: {name_of(call.fun)} returned another shape than while tracing, and what "
        "outlives the call has changed already: leave it out of the compiled function"
    )
    way_out = code.name(error, "error") if late else "Diverged"
    return [
        f"if {code.text(r)}.shape != {code.text(r.shape)}: raise {way_out}" for r in call.results
    ]


def _step(call: Call, lines: list[str], buffers: Buffers) -> Step:
    changed = [call.target] if call.target is not None else call.results
    made = ", ".join(map(spec, changed))
    first = changed[0] if changed else None
    return Step(
        lines,
        made,
        sum(v.nbytes for v in changed),
        None if first is None else buffers.offsets.get(first.storage),
        call.location,
        _in_settings([(call, lines)]),
        call.kind not in ("effect", "guard") or bool(call.results),
    )


def _give_away(
    given: Sequence[Value], gradients: Sequence[Value], made: Mapping[Value, Call], large: int
) -> None:
    """Let results of `large` bytes or more, and numbers, be new at each call, not copied."""
    counts = Counter(v.storage for v in [*given, *gradients])
    for v in given:
        s = v.storage
        gains = v.nbytes >= large or (v in made and is_of_numbers(made[v]))
        plain = v.array is s.owner and v.is_contiguous
        if s.home == "temporary" and counts[s] == 1 and v in made and plain and gains:
            s.home = "result"


def _conditions(code: Code, trace: Trace) -> str:
    """An expression that is true as long as all that the plan relies on is what it was."""
    tensors, attributes = [*trace.tensors.values()], trace.attributes
    settled = trace.checks.settled()
    seen = [-1]  # not yet looked

    def look() -> bool:
        now = [*epoch]
        same = (
            all(t._array is array and t._node is node for t, array, node in tensors)
            and all(getattr(owner, name) is value for owner, name, value in attributes)
            and settled()
        )
        if same:
            seen[:] = now
        return same

    # They may change what `look` sees, so they come first.
    tests = [_condition(code, condition) for condition in trace.conditions]
    tests += [f"({code.name(epoch)} == {code.name(seen)} or {code.name(look)}())"]
    tests += [f"{code.name(test)}()" for test in trace.tests]
    tests += [
        f"{code.name(node, 'node')}.grad is None" for node, v in trace.earlier.items() if v is None
    ]
    return " and ".join(tests)


def _condition(code: Code, condition: Condition) -> str:
    """An expression for a condition."""
    owner, attribute, otherwise = condition
    return f"({code.name(owner)}.{attribute} or {code.name(otherwise)}())"


def _effects(code: Code, final: dict[Node, Any], trace: Trace) -> list[str]:
    """Lines that set the leaves' gradients, and mark as changed those whose data has."""
    lines = [
        f"{code.name(node, 'node')}.grad = {'None' if v is None else code.text(v)}"
        for node, v in final.items()
    ]
    if trace.touched:
        stamps = " = ".join(f"{code.name(node, 'node')}.serial" for node in trace.touched)
        lines.append(f"{stamps} = now()")
    return lines


def _returned(code: Code, i: int, output: Output) -> tuple[list[str], str]:
    """Lines that make a leaf of the result, and an expression for it."""
    value = output.value
    if value is None:
        return [], code.name(output.leaf, "leaf")
    text = code.text(value)
    if value.storage.home != "result":
        order = "" if value.is_c_contiguous else "'K'"
        text = f"{code.attribute(value, 'copy')}({order})"
    if output.leaf is not Tensor:
        return [], text
    node = code.name(output.node, "node")
    return [
        f"t{i} = new(Tensor)",
        f"t{i}._array = {text}",
        f"t{i}._node = {node}",
        f"t{i}._family = None",
    ], f"t{i}"


def _answer(code: Code, outputs: Sequence[Output], structure: TreeDef) -> list[str]:
    """Lines that return the result."""
    made = [_returned(code, i, output) for i, output in enumerate(outputs)]
    leaves = [text for _, text in made]
    if structure.kind is None:
        (built,) = leaves
    elif structure.kind is tuple and structure.is_flat:
        built = f"({''.join(leaf + ', ' for leaf in leaves)})"
    else:
        built = f"{code.name(structure.unflatten, 'unflatten')}([{', '.join(leaves)}])"
    return [*(line for lines, _ in made for line in lines), f"return {built}"]


def _in_settings(body: Sequence[tuple[Call, list[str]]]) -> list[str]:
    """The lines of calls, those in other floating-point error settings in a `with` block."""
    lines: list[str] = []
    current = None
    for call, own in body:
        if own:
            if call.errors != current and call.errors:
                options = ", ".join(f"{k}={v!r}" for k, v in call.errors.items())
                lines.append(f"with errstate({options}):")
            current = call.errors
            lines += indented(own) if current else own
    return lines


def no_entry(_args: Any) -> Any:
    """Return MISS, as of a plan that cannot be called in this way."""
    return MISS
