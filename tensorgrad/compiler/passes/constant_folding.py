"""Constant folding: what is the same in each call is computed once."""

from __future__ import annotations

import numpy as np

from ...engine.typing import Array
from ...engine.views import owner_of
from ..ir import (
    Call,
    Program,
    Storage,
    Value,
    array_in,
    arrays_in,
    latest,
    mapped,
    settled,
)
from ..ops import op_of


def fold_constants(program: Program) -> Program:
    """Leave out the calls whose results are the same each time: these are constants.

    a = sin(c0)
    b = a + x                b = c1 + x
    """
    written = program.written()
    new: dict[Value, Value] = {}
    left: list[Call] = []
    for call in program.calls:
        call = settled(call, new)
        if call.kind not in ("pure", "view"):
            left.append(call)
        elif all(r.storage.home in ("state", "constant") for r in call.results):
            pass  # a view of what stays where it is needs no call
        elif _is_constant(call) and written.isdisjoint(r.storage for r in call.results):
            new |= _computed(call)
        else:
            left.append(call)
    return program._replace(calls=left, outputs=[latest(v, new) for v in program.outputs])


def _is_constant(call: Call) -> bool:
    # Of an array of zeros like another one, the shape counts alone.
    reads = call.reads[1:] if op_of(call.fun).pattern == "fill" else call.reads
    return all(v.is_constant for v in reads)


def _computed(call: Call) -> dict[Value, Value]:
    """The results of a call, each with the constant that it is."""

    def array_of(v: Value) -> Array:
        return v.array if v.is_constant else array_in(np.zeros(v.storage.nbytes, np.uint8), v)

    args, kwargs = mapped((call.args, call.kwargs), Value, array_of)
    with np.errstate(all="ignore"):  # the traced call has warned already
        arrays = arrays_in(call.fun(*args, **kwargs))
    own = {*call.results}
    storages: dict[int, Storage] = {}
    made: dict[Value, Value] = {}
    for r, array in zip(call.returned, arrays, strict=True):
        owner = owner_of(array)
        storage = storages.setdefault(id(owner), Storage.of(owner, "constant"))
        if r in own:
            made[r] = Value.of(array, storage, r.location, r.scalar)
    return made
