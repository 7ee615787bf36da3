"""Dead code elimination."""

from __future__ import annotations

from ..ir import Call, Program


def eliminate_dead_code(program: Program) -> Program:
    """Leave out the calls whose results nobody uses.

    a = sin(x)               a = sin(x)
    b = cos(x)
    return a                 return a
    """
    used = {v.storage for v in program.outputs}
    left: list[Call] = []
    for call in reversed(program.calls):
        target = call.target and call.target.storage
        if (
            any(r.storage in used for r in call.results)
            or target in used
            or call.kind == "guard"
            or call.has_effects
        ):
            used.update(v.storage for v in call.reads)
            left.append(call)
    return program._replace(calls=left[::-1])
