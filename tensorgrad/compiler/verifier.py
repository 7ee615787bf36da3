"""What must be true of every program, whatever pass has made it."""

from __future__ import annotations

from ..engine.registry import name_of
from ..engine.typing import Function
from .functions import Kernel, made_by
from .ir import Call, Program, Value
from .printing import Names


def verify(program: Program, before: Program | None = None) -> None:
    """Raise an AssertionError, which names the call, unless a program is sound.

    What a call reads comes from outside, or an earlier call makes it; so do the outputs. Each value
    lies inside its storage, and a view in that of its operand. A kernel addresses nothing outside
    of them. No call writes to a constant. Compared with the program `before` a pass, the effects
    are the same in the same order, and no guard has moved behind a change of what outlives the
    call.

    >>> import numpy as np, tensorgrad as tg
    >>> for stage in tg.compile(np.sin).lower(np.ones(3)).stages:
    ...     verify(stage.program)
    """
    names = Names(program)
    made = {v.storage for v in program.inputs}

    def require(holds: bool, what: str, call: Call | None = None) -> None:
        if not holds:
            line = "" if call is None else f": {names.line(call)}  # {call.location}"
            raise AssertionError(f"{what}{line}")

    def is_defined(v: Value) -> bool:
        return v.storage in made or v.storage.home in ("state", "constant")

    for call in program.calls:
        for v in call.reads:
            require(is_defined(v), f"{names.name(v)} is read before it is made", call)
        for v in (*call.reads, *call.results):
            require(_is_inside(v), f"{names.name(v)} does not lie inside its storage", call)
        for v, start, stop in call.fun.spans if isinstance(call.fun, Kernel) else ():
            inside = start >= 0 and stop <= v.storage.nbytes
            require(inside, f"a kernel leaves the storage of {names.name(v)}", call)
        if call.kind == "view":
            operands = {v.storage for v in call.reads}
            shared = any(r.storage in operands for r in call.results)
            require(shared, "a view does not lie in the memory of its operand", call)
        for v in call.changes:
            require(not v.is_constant, "a constant is written to", call)
        made.update(r.storage for r in call.results)
    for v in program.outputs:
        require(is_defined(v), f"{names.name(v)} is returned, but never made")
    if before is not None:
        _verify_effects(program, before)


def _verify_effects(program: Program, before: Program) -> None:
    """Raise an AssertionError unless a pass has kept the effects, and guards before changes."""
    old, new = _effects(before), _effects(program)
    if old != new:
        raise AssertionError(f"the effects were {_listed(old)}, and are now {_listed(new)}")
    if _guards_come_first(before) and not _guards_come_first(program):
        raise AssertionError("a guard has moved behind a change of what outlives the call")


def _is_inside(v: Value) -> bool:
    low, high = v.bounds
    return low >= 0 and high <= v.storage.nbytes


def _effects(program: Program) -> list[Function]:
    return [call.fun for call in made_by(program.calls) if call.kind == "effect"]


def _listed(effects: list[Function]) -> str:
    return ", ".join(map(name_of, effects)) or "none"


def _guards_come_first(program: Program) -> bool:
    changed = False
    for call in program.calls:
        if changed and call.kind == "guard":
            return False
        changed = changed or call.has_effects
    return True
