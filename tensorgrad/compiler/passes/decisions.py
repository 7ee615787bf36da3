"""Decisions by elements come before what changes."""

from __future__ import annotations

from ...errors import TraceError
from ..ir import Call, Program, Storage


def hoist_decisions(program: Program) -> Program:
    """Make decisions by elements, as far as can be, before anything that outlives the call changes.

    s0 += x                  a = any(x < 0)
    a = any(x < 0)           if a: give up
    if a: give up            s0 += x

    Where a decision is another one, the program stops, and must not have changed anything.
    """
    calls = program.calls
    first = next((i for i, call in enumerate(calls) if call.has_effects), len(calls))
    before, moved, after = [*calls[:first]], list[Call](), list[Call]()
    needed: dict[Storage, Call] = {}  # what calls that move read, and the decision that needs it
    written: dict[Storage, Call] = {}  # what they write to: who reads it before, moves with them
    for call in reversed(calls[first:]):
        reads = [v.storage for v in call.reads]
        changed = [v.storage for v in (*call.results, call.target) if v is not None]
        decisions = [call] if call.kind == "guard" else []
        decisions += [needed[s] for s in changed if s in needed]
        decisions += [written[s] for s in reads if s in written]
        if not decisions:
            after.append(call)
            continue
        if call.has_effects:
            raise TraceError(
                f"{decisions[0].location}: an operation here decides by elements that depend on "
                f"what {calls[first].location} changes for later calls: change it later"
            )
        moved.append(call)
        needed |= dict.fromkeys(reads, decisions[0])
        if call.target is not None:
            written[call.target.storage] = decisions[0]
    return program._replace(calls=[*before, *moved[::-1], *after[::-1]])
