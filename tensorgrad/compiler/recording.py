"""The calls of a trace: which functions were called on which arrays."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..engine.arrays import Spec
from ..engine.batching import Batch
from ..engine.graph import Node
from ..engine.interpreter import Tracing
from ..engine.modes import mode
from ..engine.registry import NO_KWARGS, name_of
from ..engine.tensor import Tensor
from ..engine.typing import Array, Function
from ..engine.variable import Variable
from ..engine.views import is_writeable, owner_of
from ..errors import TraceError
from .executed import executed
from .ir import ARRAYS, Call, Home, Kind, Storage, Value, make_writeable, mapped, values_in
from .ops import op_of
from .progress import OFTEN, Progress
from .strides import copied
from .tracer import Tracer, location


class Recorder(Tracing):
    """Notes the calls of NumPy functions, the values that they read and write, and their memory."""

    def __init__(self, name: str) -> None:
        self.progress = Progress(name)
        self.parent: Recorder | None = None  # of the trace of a body, the one around it
        self.calls: list[Call] = []
        self.inputs: list[Value] = []
        # By id, the tensors whose arrays were used, with the arrays and nodes that they had.
        self.tensors: dict[int, tuple[Variable, Array, Node | None]] = {}
        # Those that live outside of the function, likewise, and what is assigned to them: threads
        # that are not traced see the arrays that they had.
        self._outside: dict[int, tuple[Variable, Array, Node | None]] = {}
        self.assigned: dict[int, Tracer] = {}
        self.tracers: list[weakref.ref[Tracer]] = []  # all traced arrays
        # Arrays, indices and copies of the parts there, where NumPy has views.
        self._shared: list[tuple[Value, Any, Value]] = []
        self.renewing: set[int] = set()  # by id, such triples of which a part is being written
        self._kept: dict[Value, Value] = {}  # copies of what the end of the call overwrites
        self.followed: set[int] = set()  # by id, the arrays that may be written to
        self.arrays: dict[Value, Array] = {}  # what the values are during the trace
        self._storages: dict[int, Storage] = {}  # by the id of the owner
        self._values: dict[int, Value] = {}  # by the id of the array
        self.protected: list[Array] = []  # that were made read-only
        self._read_only: list[Array] = []  # during one call
        self._undo: list[Callable[[], Any]] = []
        self._saved: set[int] = set()
        self._errors = np.geterr()
        self.executed = executed()
        self._location: str | None = None  # of the node whose derivative is being computed

    # -- arrays that come from outside

    def input(self, array: Array) -> Tracer:
        """An argument: another array at each call.

        It is copied, as memory that an argument shares with others now, it need not share later.
        """
        return self._arrived(copied(array), "input")

    def _arrived(self, array: Array, home: Home) -> Tracer:
        value = self._named(array, self._storage(owner_of(array), home))
        if home == "input":
            self.inputs.append(value)
        return Tracer(self, value)

    def _storage(self, owner: Array, home: Home) -> Storage:
        """The memory that an array owns."""
        storage = self._storages.get(id(owner))
        if storage is None:
            storage = self._storages[id(owner)] = Storage.of(owner, home)
        return storage

    def _named(
        self, array: Array, storage: Storage, location: str = "?", scalar: bool = False
    ) -> Value:
        """A new value, which is this array during the trace."""
        value = self._values[id(array)] = Value.of(array, storage, location, scalar)
        self.arrays[value] = array
        return value

    def value(self, a: Any) -> Value:
        """The value of a traced array, or of a plain one, which is read where it lies."""
        if isinstance(a, Tracer):
            return self._kept.get(a.value, a.value)
        if id(a) not in self._values:
            if id(owner_of(a)) not in self.followed:
                self._protect(a)
            return self._arrived(a, "state").value
        return self._values[id(a)]

    def _protect(self, array: Array) -> None:
        """Let nobody change a plain array until the trace ends: no program could follow."""
        for a in (array, owner_of(array)):
            if is_writeable(a):
                self.protected.append(a)
                a.flags.writeable = False

    def _given(self, a: Any) -> Any:
        if isinstance(a, Node):
            return Spec(a.shape, a.dtype)
        return self.value(self.array(a) if isinstance(a, Tensor) else a)

    def _viewable(self, a: Tracer) -> Tracer:
        """An array as it is, a number as a copy: numbers have no views."""
        return self.record(np.copy, (a,)) if a.is_number else a

    def state(self, array: Array) -> Tracer:
        """An array that may be written to as well, since whoever owns it keeps it where it is."""
        self.followed.add(id(owner_of(array)))
        return Tracer(self, self.value(array))

    def array(self, t: Variable) -> Any:
        """The array of a tensor, as the traced function sees it."""
        array = t._array
        if isinstance(array, (Tracer, Batch)):
            return array
        if type(array) is not np.ndarray:
            raise TraceError(
                f"{location()}: a tensor of a {type(array).__name__}, not a NumPy array, cannot be "
                "compiled: leave it out of the compiled function"
            )
        if id(t) not in self.tensors:
            self.tensors[id(t)] = t, array, t._node
        if id(t) in self.assigned:
            return self.assigned[id(t)]
        return Tracer(self, self.value(array))

    def follow(self, t: Tensor) -> None:
        """Let the function change the data of a tensor, which outlives the call."""
        self._outside[id(t)] = t, t._array, t._node
        if type(t._array) is np.ndarray:
            self.followed.add(id(owner_of(t._array)))

    def record(
        self,
        fun: Function,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] = NO_KWARGS,
        target: Any = None,
        kind: Kind | None = None,
    ) -> Any:
        """Call a function on the arrays themselves, and note the call; return traced results."""
        current = mode.get().interpreter
        if current is not self:
            if isinstance(current, Recorder) and self.surrounds(current):
                return current.record(fun, args, kwargs, target, kind)
            raise TraceError(
                f"{location()}: {name_of(fun)} of a traced array, where nothing is traced: the "
                "array was kept beyond the call, or a function keeps it that is called as a whole"
            )
        self.executed.pause()  # what runs in here runs in each call
        try:
            return self._record(fun, args, kwargs, target, kind)
        finally:
            self.executed.resume()

    def surrounds(self, other: Recorder | None) -> bool:
        """Whether another trace is that of a body inside of this one."""
        while other is not None and other is not self:
            other = other.parent
        return other is self

    def _record(
        self,
        fun: Function,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        target: Any,
        kind: Kind | None,
    ) -> Any:
        kinds = (Tracer, np.ndarray, Tensor, Node)
        if target is None and not isinstance(fun, np.ufunc) and fun is not np.copy:
            args, kwargs = mapped((tuple(args), dict(kwargs)), Tracer, self._viewable)
        given = mapped((tuple(args), dict(kwargs)), kinds, self._given)
        reads = values_in(given)
        arrays = [self.arrays[v] for v in reads]
        sealed = op_of(fun).result == "sealed" or any(map(_is_sealed, arrays))
        written = None if target is None else self.value(target)
        if written is not None:
            self._before_writing(written, name_of(fun))
        out = self._made(fun, given, arrays if written is None else ())
        line, made, returned = self._location or location(), list[Value](), list[Value]()
        result = None
        if written is None:
            result = mapped(out, ARRAYS, lambda a: self._result(a, line, made, returned, sealed))
            storages = {v.storage for v in reads}
            kind = kind or ("view" if any(r.storage in storages for r in made) else "pure")
            if not made and kind in ("pure", "view"):
                return result  # the arguments themselves
        self.calls.append(
            Call(
                kind or "write",
                fun,
                given[0],
                given[1],
                results=made,
                target=written,
                location=line,
                errors=None if (errors := np.geterr()) == self._errors else errors,
                returned=returned,
                nested=isinstance(out, (tuple, list, dict)),
            )
        )
        if not len(self.calls) % OFTEN:
            self.progress(f"{len(self.calls):,} calls traced")
        if written is not None:
            self.renew_shared(written)
        return result

    def _made(self, fun: Function, given: Any, read: Iterable[Array]) -> Any:
        """What a call returns; it cannot write to arrays that it should only read."""
        args, kwargs = mapped(given, Value, self.arrays.__getitem__)
        self._read_only = [a for a in read if is_writeable(a) and is_writeable(owner_of(a))]
        for array in self._read_only:
            array.flags.writeable = False
        try:
            return fun(*args, **kwargs)
        finally:
            make_writeable(self._read_only)

    def _result(
        self, a: Any, line: str, made: list[Value], returned: list[Value], sealed: bool
    ) -> Tracer:
        array = np.asarray(a)
        value = self._values.get(id(array)) if array is a else None
        if value is None:
            owner = owner_of(array)
            if array is not owner and is_writeable(owner) and not sealed:
                with contextlib.suppress(ValueError):  # some views are read-only for good
                    array.flags.writeable = True
            storage = self._storage(owner, "temporary")
            value = self._named(array, storage, line, scalar=array is not a)
            made.append(value)
        returned.append(value)
        return Tracer(self, value, array is not a)

    def share(self, array: Tracer, index: Any, part: Tracer) -> None:
        """Let two arrays change together, since NumPy's `array[index]` is a view.

        By a number that is traced, the part is a copy: its place differs from call to call.
        """
        index = mapped(index, Tracer, lambda t: t.value)
        self._shared.append((array.value, index, part.value))

    def renew_shared(self, written: Value) -> None:
        """Write what was written to all arrays that would be views of the same memory."""
        for shared in self._shared:
            array, index, part = (mapped(v, Value, lambda v: Tracer(self, v)) for v in shared)
            if id(shared) in self.renewing:
                continue
            self.renewing.add(id(shared))
            if written.storage is part.value.storage:
                array[index] = part
            elif written.storage is array.value.storage:
                part[...] = array[index]
            self.renewing.remove(id(shared))

    def _before_writing(self, value: Value, name: str) -> None:
        if value.storage.home == "temporary":
            return
        if value.storage.home == "input":
            raise TraceError(f"{location()}: {name} would write into an argument: copy it first")
        owner = owner_of(self.arrays[value])
        if id(owner) not in self.followed:
            raise TraceError(
                f"{location()}: {name} writes into an array of shape {value.shape} that a compiled "
                "function cannot follow: keep it in a tensor's data, make it inside by "
                "tensorgrad.zeros, or pass it as an argument and return the new one"
            )
        self.save(owner)

    def save(self, array: Array) -> None:
        """Note an array as it is now, to be restored by `undo`."""
        owner = owner_of(array)
        if id(owner) not in self._saved:
            self._saved.add(id(owner))
            self._undo.append(functools.partial(np.copyto, owner, owner.copy()))

    def assume(self, value: Value) -> bool:
        """Decide by an element, for one of the library's own functions, and note that as a guard.

        Where a later call would decide otherwise, it needs another program.
        """
        decision = bool(self.arrays[value])
        self.calls.append(
            Call("guard", bool, (value, decision), location=self._location or location())
        )
        return decision


def _is_sealed(array: Array) -> bool:
    """Whether an array is a view that always stays read-only."""
    return not is_writeable(array) and is_writeable(owner_of(array))
