"""Tables: text in aligned columns, which notebooks show as HTML."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from typing import Self

WIDTH = 80  # columns of the plain forms that notebooks and consoles show


class Table(str):
    """Rows of texts in aligned columns, the first of them a header; then notes, a line each.

    `sides` has "<" or ">" for each column: on which side its texts are aligned. It is text, but a
    notebook shows a table, and a console shows it without quotation marks, in 80 columns.

    >>> from tensorgrad.tables import Table
    >>> Table([("name", "size"), ("weight", "12"), ("bias", "4")], "<>", ["2 parameters"])
    name    size
    weight    12
    bias       4
    2 parameters
    """

    _rows: Sequence[Sequence[str]]
    _sides: str
    _notes: Sequence[str]

    def __new__(cls, rows: Sequence[Sequence[str]], sides: str, notes: Iterable[str] = ()) -> Self:
        """Lay the rows out."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                f"{cell:{side}{width}}"
                for cell, side, width in zip(row, sides, widths, strict=True)
            ).rstrip()
            for row in rows
        ]
        notes = [*notes]
        self = super().__new__(cls, "\n".join([*lines, *notes]))
        self._rows, self._sides, self._notes = rows, sides, notes
        return self

    def __repr__(self) -> str:
        return cut(self)

    def _repr_html_(self) -> str:
        """A table, in the colours of the page."""
        tags = ["th", *["td"] * (len(self._rows) - 1)]
        first, *others = [
            "".join(
                f'<{tag} style="text-align:{_ALIGN[side]};white-space:pre">'
                f"{html.escape(cell)}</{tag}>"
                for cell, side in zip(row, self._sides, strict=True)
            )
            for tag, row in zip(tags, self._rows, strict=True)
        ]
        body = "".join(f"<tr>{row}</tr>" for row in others)
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes)
        return f"<table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>{notes}"


_ALIGN = {"<": "left", ">": "right"}


def cut(text: str) -> str:
    """The text, with lines of at most 80 columns: the ends of longer ones are left out."""
    lines = text.split("\n")
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines)


def wrapped(start: str, parts: Sequence[str], end: str = ")") -> str:
    """`start` and `end` around parts with commas, in lines of at most 80 columns."""
    text = f"{start}{', '.join(parts)}{end}"
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
