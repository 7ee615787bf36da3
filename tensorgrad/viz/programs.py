"""The stages of a compiled program, side by side."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from ..compiler.ir import Call, Program
from ..compiler.printing import Names
from ..tables import cut


class Line(NamedTuple):
    """A call of a program: its text, and whether it is as it was before ("") or new ("+")."""

    mark: str
    text: str


class Column(NamedTuple):
    """The program after a pass. `gone` are the calls that the pass took away."""

    name: str
    lines: Sequence[Line]
    gone: Sequence[str]


class Stages:
    """What each pass made of a program. Notebooks show the stages in columns.

    `print(stages)` writes what each pass took away (-) and added (+), in at most 80 columns.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        """The program as it was traced, and as each pass left it that changed something."""

    def __str__(self) -> str:
        first, *others = self.columns
        text = [f"{first.name}: {len(first.lines)} calls"]
        text += [f"    {line.text}" for line in first.lines]
        for column in others:
            text.append(f"{column.name}: {len(column.lines)} calls")
            text += [f"  - {line}" for line in column.gone]
            text += [f"  + {line.text}" for line in column.lines if line.mark]
        return cut("\n".join(text))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A table with a column for each stage; new calls are bold, and marked with a plus."""
        return (
            '<div style="overflow-x:auto"><table><tr>'
            + "".join(
                f'<th style="text-align:left">{html.escape(c.name)}<br>{len(c.lines)} calls</th>'
                for c in self.columns
            )
            + '</tr><tr style="vertical-align:top">'
            + "".join(f'<td style="text-align:left">{_cell(c)}</td>' for c in self.columns)
            + "</tr></table></div>"
        )


def _cell(column: Column) -> str:
    lines = [
        f"<b>+ {html.escape(line.text)}</b>" if line.mark else f"&nbsp; {html.escape(line.text)}"
        for line in column.lines
    ]
    gone = [f"<s>{html.escape(line)}</s>" for line in column.gone]
    return "".join(f'<code style="white-space:pre">{line}</code><br>' for line in [*lines, *gone])


def program(plan: Any) -> Stages:
    """Draw what each pass of the compiler did to a program: its stages, side by side.

    `plan` is what the `lower` method of a compiled function returns. Passes that changed nothing
    are left out.

    >>> def f(x):
    ...     return np.sum((x * 1.0) ** 2)
    >>> plan = tg.compile(f, backend="numpy").lower(np.ones(3))
    >>> tg.viz.program(plan).columns[0].name
    'trace'
    """
    stages = getattr(plan, "stages", None)
    if not stages:
        raise TypeError(
            f"program: {type(plan).__name__} has no stages: pass tg.compile(f).lower(*args)"
        )
    return Stages([*_columns(stages)])


def _columns(stages: Sequence[Any]) -> Iterator[Column]:
    before: list[Call] = []
    texts: dict[Call, str] = {}
    for stage in stages:
        calls = [*stage.program.calls]
        if before == calls:
            continue
        now = _texts(stage.program)
        kept = {
            id(before[block.a + i])
            for block in SequenceMatcher(None, [*map(id, before)], [*map(id, calls)], False)
            .get_matching_blocks()
            for i in range(block.size)
        }  # fmt: skip
        lines = [Line("" if id(c) in kept or not before else "+", now[c]) for c in calls]
        yield Column(stage.name, lines, [texts[c] for c in before if id(c) not in kept])
        before, texts = calls, now


def _texts(program: Program) -> dict[Call, str]:
    """Each call as a line, with the names that its program's text has."""
    names = Names(program)
    return {call: names.line(call) for call in program.calls}
