"""Constant folding: what is the same in each call is computed once."""

from __future__ import annotations

from ..ops import op_of
from ..program import Call, Program, Storage, Value, latest, settled


def fold_constants(program: Program) -> Program:
    """Leave out the calls whose results are the same each time: these are constants.

    a = sin(c0)
    b = a + x                b = c1 + x
    """
    new: dict[Value, Value] = {}
    constants: dict[Storage, Storage] = {}
    left: list[Call] = []
    for call in program.calls:
        call = settled(call, new)
        if call.kind not in ("pure", "view"):
            left.append(call)
        elif all(r.storage.home == "state" for r in call.results):
            pass  # a view of what stays where it is was taken while tracing
        elif _is_constant(call):
            for r in call.results:
                constant = Storage("constant", r.storage.owner)
                new[r] = r.moved(r.array, constants.setdefault(r.storage, constant))
        else:
            left.append(call)
    return program._replace(calls=left, outputs=[latest(v, new) for v in program.outputs])


def _is_constant(call: Call) -> bool:
    # Of an array of zeros like another one, the shape counts alone.
    reads = call.reads[1:] if op_of(call.fun).pattern == "fill" else call.reads
    return all(v.is_constant for v in reads) and not any(r.storage.writes for r in call.results)
