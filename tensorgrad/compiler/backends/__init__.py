"""Back ends: what makes code of a program. `docs/add-a-back-end.md` says how to add one.

A back end gets a program after its passes, and the memory that each array has. It returns segments:
lines of Python for one call, or one line that makes many calls. The plan writes the lines around
them, which are the same for each back end: whether the arguments fit, gradients, results.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..buffers import Buffers
from ..code import Code, indented
from ..ir import Call, Value
from ..ops import takes_out
from ..passes import PASSES, Pass


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive calls of a program, and the lines of Python that make them.

    The calls have the same floating-point error settings. `new` has those of the lines that make
    an array in C order for a result, by that result: in a loop, the array is a row of a larger one.
    `tested` are inputs that nothing else reads: before the lines change anything, they raise
    `Diverged` unless these are arrays of the right shape and dtype, and they copy those that lie in
    memory that they change.
    """

    calls: Sequence[Call]
    lines: list[str]
    new: Mapping[Value, str]
    tested: Collection[Value] = field(default=(), kw_only=True)


class Loop(NamedTuple):
    """What a loop consists of besides the calls of its program.

    Each step gets the items of `arrays` under the names `inputs`, and puts the `outputs` into the
    items of `results`; for None, there is nothing to put. The lines `begin` come before the calls,
    the lines `end` after them.
    """

    inputs: Sequence[str]
    outputs: Sequence[Value | None]
    begin: Sequence[str]
    end: Sequence[str]


class Backend(ABC):
    """Makes code of programs.

    `name` is printed with its plans, and `passes` are those that a program goes through. Unless
    it `heeds_error_settings`, NumPy's runs where floating-point errors are to raise.
    """

    name: str
    passes: Sequence[Pass] = PASSES
    heeds_error_settings = True

    def takes_out(self, call: Call) -> bool:
        """Whether it writes the results of a call into the arrays that `buffers` have for them.

        If not, they are new in each call.
        """
        return takes_out(call)

    @abstractmethod
    def segments(self, code: Code, buffers: Buffers) -> list[Segment]:
        """The lines for all of `buffers.calls`, in their order.

        `code` has a name for each value from outside, and each result needs one: `code.bind(value,
        array)` names the array that `buffers.array_of` has for it, `code.local(value)` a variable
        to which the lines assign a new one. Lines may raise `Diverged` or a TraceError.
        """

    def loop(self, code: Code, segments: Sequence[Segment], loop: Loop) -> list[str]:
        """Lines that make the calls with each item of `arrays`, from the one with the number `i`.

        They leave in `i` how many items are done, also if they raise an error.
        """
        items = "".join(f"{a}, " for a in loop.inputs)
        inputs = "".join(f"rows(arrays[{i}][start:]), " for i in range(len(loop.inputs)))
        lines, kept = lines_of(segments), []
        new = {code.text(v): line for segment in segments for v, line in segment.new.items()}
        for i, value in enumerate(loop.outputs):
            name = "" if value is None else code.text(value)
            if new.get(name) in lines:  # let the row be the array
                lines.remove(new[name])
                items += f"{name}, "
                inputs += f"results[{i}][start:], "
            elif name:
                kept.append(f"results[{i}][i] = {name}")
        return [
            f"for i, {items}in zip(range(start, len(arrays[0])), {inputs}strict=True):",
            *indented([*loop.begin, *lines, *loop.end, *kept]),
            "i += 1",
        ]


def lines_of(segments: Sequence[Segment]) -> list[str]:
    """The lines of segments, those in other floating-point error settings in a `with` block."""
    lines: list[str] = []
    current = None
    for segment in segments:
        if segment.lines:
            errors = segment.calls[0].errors
            if errors != current and errors:
                options = ", ".join(f"{k}={v!r}" for k, v in errors.items())
                lines.append(f"with errstate({options}):")
            current = errors
            lines += indented(segment.lines) if current else segment.lines
    return lines
