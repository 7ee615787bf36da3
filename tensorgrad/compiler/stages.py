"""The passes one after another, and the program after each of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ..engine.registry import name_of
from .ir import Program
from .passes import PASSES, Pass
from .passes.decisions import hoist_decisions
from .printing import Labels, text_of
from .verifier import verify


class Stage(NamedTuple):
    """The program after a pass; `labels` name the arrays that it uses from outside."""

    name: str
    program: Program
    labels: Labels = ()

    def __str__(self) -> str:
        """The name, and the calls."""
        return f"{self.name}:\n{text_of(self.program, self.labels)}"


def selected(passes: Iterable[str | Pass] | None, default: Sequence[Pass]) -> Sequence[Pass]:
    """The passes with these names, and functions that are passes themselves; or the default ones.

    `hoist_decisions` always runs: without it, a call could stop after it has changed something.
    """
    if passes is None:
        return default
    known = {name_of(transform): transform for transform in (*PASSES, *default)}
    if isinstance(passes, str):
        raise TypeError(f"compile: passes is a list of names or functions: [{passes!r}]")
    found: list[Pass] = []
    for item in passes:
        if isinstance(item, str) and item not in known:
            raise ValueError(f"compile: there is no pass {item!r}: choose from {', '.join(known)}")
        if not isinstance(item, str) and not callable(item):
            raise TypeError(
                f"compile: a pass is a name or a function, not a {type(item).__name__}: choose "
                f"from {', '.join(known)}"
            )
        found.append(known[item] if isinstance(item, str) else item)
    return found if hoist_decisions in found else [hoist_decisions, *found]


def run_passes(
    program: Program,
    passes: Sequence[Pass],
    progress: Callable[[str], None],
    labels: Labels = (),
) -> Iterator[Stage]:
    """The program as it was traced, and as each pass leaves it.

    With `TENSORGRAD_VERIFY=1` in the environment, each of them is verified.
    """
    verifies = os.environ.get("TENSORGRAD_VERIFY", "0") not in ("", "0")
    if verifies:
        verify(program)
    yield Stage("trace", program, labels)
    for transform in passes:
        name = name_of(transform)
        progress(f"{name}, {len(program.calls):,} calls")
        before, program = program, transform(program)
        if verifies:
            try:
                verify(program, before)
            except AssertionError as error:
                error.add_note(f"after the pass {name}")
                raise
        yield Stage(name, program, labels)
