"""The meaning of a program: its calls, one after another, by NumPy.

It uses no planned memory and no generated code, and is slow. Passes are tested by it: a program has
the same results before and after a pass.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from ..engine.typing import Array, Function
from ..engine.views import layout_of, view_in
from .functions import Kernel
from .ir import Call, Program, Storage, Value, array_in, arrays_in, mapped


def interpret(
    program: Program, inputs: Sequence[Array]
) -> tuple[list[Array], dict[Storage, Array]]:
    """Run a program; return its outputs, and the states it changes.

    Everything is computed in copies: the states themselves stay as they are. Random numbers come
    from copies of the generators. No other effects are made, and no guards tested.

    >>> import tensorgrad as tg
    >>> stages = tg.compile(lambda x: np.sum(x * x)).lower(np.ones(3)).stages
    >>> [interpret(stage.program, [np.ones(3)])[0][0].item() for stage in (stages[0], stages[-1])]
    [3.0, 3.0]
    """
    memory = _Memory()
    for value, array in zip(program.inputs, inputs, strict=True):
        memory.array(value)[...] = array
    memory.run(program.calls)
    states = [storage for storage in program.written() if storage.home == "state"]
    outputs = [memory.array(v) for v in program.outputs]
    return outputs, {storage: memory.state(storage) for storage in states}


class _Memory:
    """A copy of each storage of a program: bytes, which are zeros before they are computed."""

    def __init__(self) -> None:
        self._bytes: dict[Storage, Array] = {}
        self._generators: dict[int, np.random.Generator] = {}

    def array(self, v: Value) -> Array:
        """The array of a value, which views the copy of its storage."""
        is_new = v.storage not in self._bytes
        memory = self._copy(v.storage)
        if is_new and v.storage.home == "padded":
            memory.view(v.dtype).fill(1)
        return array_in(memory, v)

    def state(self, storage: Storage) -> Array:
        """The array of a state as it is now."""
        return view_in(self._copy(storage), layout_of(storage.array))

    def _copy(self, storage: Storage) -> Array:
        if storage not in self._bytes:
            self._bytes[storage] = np.zeros(storage.nbytes, np.uint8)
            if storage.array is not None:
                self.state(storage)[...] = storage.array
        return self._bytes[storage]

    def run(self, calls: Sequence[Call]) -> None:
        """Make calls, in their order."""
        for call in calls:
            if isinstance(call.fun, Kernel):
                self.run(call.fun.calls)
            elif call.kind == "effect" and call.results:
                self._make(call, self._copied(call.fun))
            elif call.kind not in ("effect", "guard"):
                self._make(call, call.fun)

    def _make(self, call: Call, fun: Function) -> None:
        args, kwargs = mapped((call.args, call.kwargs), Value, self.array)
        with np.errstate(**(call.errors or {})):
            out = fun(*args, **kwargs)
        if call.kind != "write":
            for r, a in zip(call.returned, arrays_in(out), strict=True):
                self.array(r)[...] = a

    def _copied(self, draw: Function) -> Function:
        """The same method of a copy of a generator."""
        generator: np.random.Generator = getattr(draw, "__self__")  # noqa: B009
        if id(generator) not in self._generators:
            self._generators[id(generator)] = copy.deepcopy(generator)
        method: Function = getattr(self._generators[id(generator)], draw.__name__)
        return method
