"""What a plan tells of itself: a table of its calls, and how long each of them takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..engine.registry import name_of
from ..engine.typing import Array
from ..tables import Table
from .backends import Segment, lines_of
from .functions import made_by
from .ir import Call, Storage
from .printing import spec
from .strides import copied
from .tracing import Trace


class Step(NamedTuple):
    """One call of a plan: its lines of Python, what it makes, and the user's line it is due to.

    `offset` is where the result lies in the plan's memory: None, if it lies elsewhere. `settled`
    are the lines with their floating-point error settings; `is_timed` says whether `profile` makes
    the call. A step whose lines make several calls has them as its `parts`.
    """

    lines: list[str]
    result: str
    bytes: int
    offset: int | None
    location: str
    settled: list[str]
    is_timed: bool
    parts: Sequence[Step] = ()


def step_of(segment: Segment, offsets: Mapping[Storage, int]) -> Step:
    """What is known of a segment, given where the memory of temporary arrays lies."""
    calls = segment.calls
    changed = [v for c in calls for v in (*c.changes, *c.results)]
    parts = [Segment([call], [name_of(call.fun)], {}) for call in calls] if len(calls) > 1 else []
    return Step(
        segment.lines,
        ", ".join(map(spec, changed)),
        sum(v.nbytes for v in changed),
        offsets.get(changed[0].storage) if changed else None,
        calls[0].location,
        lines_of([segment]),
        all(c.kind not in ("effect", "guard") or c.results for c in calls),
        [step_of(part, offsets) for part in parts],
    )


def listing(steps: Sequence[Step], notes: Iterable[str]) -> Table:
    """A table of the calls: what they make, where that lies, and the lines they are due to."""
    rows = [("", "call", "makes", "bytes", "at byte", "for")]
    for i, step in enumerate(steps):
        rows.append((str(i), step.lines[0], *_made(step)))
        rows += [("", line, "", "", "", "") for line in step.lines[1:]]
        rows += [("", f"  {line}", *_made(part)) for part in step.parts for line in part.lines]
    return Table(rows, "><<>><", notes)


def _made(step: Step) -> tuple[str, str, str, str]:
    """What a step makes, where that lies, and for which line; its parts say that themselves."""
    if step.parts:
        return "", "", "", ""
    at = "" if step.offset is None else f"{step.offset:,}"
    return step.result, f"{step.bytes:,}", at, step.location


class Profile(NamedTuple):
    """The seconds that each step of a plan takes."""

    steps: list[tuple[float, Step]]

    @property
    def seconds(self) -> float:
        """The time of all calls."""
        return sum(seconds for seconds, _ in self.steps)

    @property
    def table(self) -> Table:
        """The calls, the slowest ones first."""
        rows = [("us", "share", "call", "makes", "for")]
        for seconds, step in sorted(self.steps, key=lambda row: -row[0]):
            share = f"{seconds / (self.seconds or 1):.1%}"
            text = "; ".join(step.lines)
            rows.append((f"{seconds * 1e6:.2f}", share, text, step.result, step.location))
        return Table(rows, ">><<<", [f"{self.seconds * 1e6:.1f} us in {len(self.steps)} calls"])

    def __str__(self) -> str:
        return str(self.table)

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


class Undo:
    """The arguments of the traced call, to run the calls again; what they change is restored."""

    def __init__(self, trace: Trace, calls: Sequence[Call], held: Sequence[Array]) -> None:
        self._arguments = [trace.arrays[v] for v in trace.inputs]
        targets = [v.storage for c in calls for v in c.changes]
        self._arrays = [s.array for s in dict.fromkeys(targets) if s.array is not None]
        self._arrays += held
        draws = [c.fun for c in made_by(calls) if c.kind == "effect" and c.results]
        self._generators = [getattr(fun, "__self__").bit_generator for fun in draws]  # noqa: B009
        self._before: tuple[list[Array], list[Any]] = [], []

    def __enter__(self) -> list[Array]:
        self._before = [a.copy() for a in self._arrays], [g.state for g in self._generators]
        return [copied(a) for a in self._arguments]

    def __exit__(self, *_error: object) -> None:
        arrays, states = self._before
        for array, before in zip(self._arrays, arrays, strict=True):
            array[...] = before
        for generator, state in zip(self._generators, states, strict=True):
            generator.state = state
