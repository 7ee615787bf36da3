"""The meaning of a program: its calls, one after another, by NumPy.

It uses no planned memory and no generated code, and is slow. Passes are tested by it: a program has
the same results before and after a pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..engine.typing import Array
from .functions import Kernel, arrays_in
from .program import Call, Program, Storage, Value, mapped


def interpret(program: Program) -> tuple[list[Array], dict[Storage, Array]]:
    """Run a program with the arrays of its trace; return its outputs, and the states it changes.

    Everything is computed in copies: the states themselves stay as they are. Effects of Python are
    not repeated: they return what they returned while tracing. Checks are not made.

    >>> import tensorgrad as tg
    >>> stages = tg.compile(lambda x: np.sum(x * x)).lower(np.ones(3)).stages
    >>> [interpret(stage.program)[0][0].item() for stage in (stages[0], stages[-1])]
    [3.0, 3.0]
    """
    memory = _Memory()
    memory.run(program.calls)
    targets = {call.target.storage for call in program.calls if call.target is not None}
    states = {storage: memory.whole(storage) for storage in targets if storage.home == "state"}
    return [memory.array(v) for v in program.outputs], states


class _Memory:
    """A copy of each storage of a program."""

    def __init__(self) -> None:
        self._copies: dict[Storage, Array] = {}

    def whole(self, storage: Storage) -> Array:
        """The copy of a storage; where it is computed, there are zeros before."""
        if storage not in self._copies:
            copy = storage.owner.copy("K")
            if storage.home == "temporary":
                copy.fill(np.zeros((), copy.dtype)[()])
            self._copies[storage] = copy
        return self._copies[storage]

    def array(self, v: Value) -> Array:
        """The array of a value, which views the copy of its storage."""
        whole, owner = self.whole(v.storage), v.storage.owner
        if v.array is owner:
            return whole
        start = v.array.ctypes.data - owner.ctypes.data
        return np.ndarray(v.shape, v.dtype, whole.ravel("K"), start, v.array.strides)

    def run(self, calls: Sequence[Call]) -> None:
        """Make calls, in their order."""
        for call in calls:
            if call.kind == "effect":
                for r in call.results:
                    self.array(r)[...] = r.array
            elif isinstance(call.fun, Kernel):
                self.run(call.fun.calls)
            elif call.kind != "guard":
                self._make(call)

    def _make(self, call: Call) -> None:
        args, kwargs = mapped((call.args, call.kwargs), Value, self.array)
        with np.errstate(**(call.errors or {})):
            out = call.fun(*args, **kwargs)
        if call.kind == "pure":
            for r, a in zip(call.returned, arrays_in(out), strict=True):
                self.array(r)[...] = a
