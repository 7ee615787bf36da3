"""What a trace writes down: calls of NumPy functions, the values they read and write, the memory.

A `Value` is an array; values that are views of one another share a `Storage`. A `Call` reads values
and makes new ones, or writes into one. The order of calls is the order in which they were made.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ..engine.arrays import Spec
from ..engine.registry import name_of
from ..engine.typing import Array, Function

# "input": an argument, another array at each call. "state": an array that lies outside of the plan
# and stays where it is. "constant": what a call computed from constants. "temporary": everything
# that is computed, and nobody sees. "padded": the same, with ones behind it that stay. "result":
# what is given away, an array of its own each time.
Home: TypeAlias = Literal["input", "state", "constant", "temporary", "padded", "result"]

# "pure": its results depend on its arguments alone. "view": a pure one whose result lies in the
# memory of an argument. "write": it changes the memory of `target`. "effect": it calls Python that
# has effects of its own, and is neither dropped, repeated nor moved; it may change `writes`.
# "guard": `bool` of an element; where that is another one than while tracing, the program ends.
Kind: TypeAlias = Literal["pure", "view", "write", "effect", "guard"]


# The folder of this package: what its code does is due to the line of the user's that called it.
PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")

# What a call returns that is data: arrays, and numbers in place of 0-d arrays.
ARRAYS = (np.ndarray, np.generic, bool, int, float, complex)


class Storage:
    """The memory that one array owns, and others may view."""

    __slots__ = ("home", "owner", "writes")

    def __init__(self, home: Home, owner: Array) -> None:
        self.home = home
        self.owner = owner
        self.writes = 0

    def __repr__(self) -> str:
        return f"{self.home} of {self.owner.nbytes} bytes, written {self.writes} times"


class Value(Spec):
    """An array of the program; `array` is the one that it was while tracing.

    `location` is the user's line that made it. `scalar` says that NumPy returned a number of its
    own, not an array.
    """

    __slots__ = ("array", "location", "scalar", "storage")

    def __init__(
        self, array: Array, storage: Storage, location: str = "?", scalar: bool = False
    ) -> None:
        super().__init__(array.shape, array.dtype)
        self.array = array
        self.storage = storage
        self.location = location
        self.scalar = scalar

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """The bytes from one element to the next, along each axis."""
        return self.array.strides

    @property
    def offset(self) -> int:
        """The bytes from the first element of its storage's owner to its own."""
        return int(self.array.ctypes.data - self.storage.owner.ctypes.data)

    @property
    def itemsize(self) -> int:
        """The number of bytes of an element."""
        return self.dtype.itemsize

    @property
    def is_c_contiguous(self) -> bool:
        """Whether the elements lie side by side, row by row."""
        return _contiguity(self.shape, self.strides, self.itemsize)[0]

    @property
    def is_f_contiguous(self) -> bool:
        """Whether the elements lie side by side, column by column."""
        return _contiguity(self.shape, self.strides, self.itemsize)[1]

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie side by side, in one of these orders."""
        return any(_contiguity(self.shape, self.strides, self.itemsize))

    @property
    def order(self) -> Literal["C", "F"]:
        """The order of a contiguous array in memory."""
        return "F" if self.is_f_contiguous and not self.is_c_contiguous else "C"

    @property
    def is_constant(self) -> bool:
        """Whether it is the same in every call, wherever the program is used."""
        return self.storage.home == "constant"

    def moved(self, array: Array, storage: Storage) -> Value:
        """The same value in other memory."""
        return Value(array, storage, self.location, self.scalar)


class Call:
    """One call: `fun(*args, **kwargs)`, in whose arguments values stand for arrays.

    `results` are the values that it makes, `target` is the one that it writes to, `writes` are the
    states that an effect writes to. What it returns, which may be `nested` in tuples or lists, are
    `returned` values: beside the results, arguments that it hands on. `errors` are the
    floating-point error settings in which it runs, if other than the caller's. Once traced, a call
    does not change: passes make others.
    """

    __slots__ = (
        "_reads", "args", "errors", "fun", "kind", "kwargs", "location", "nested", "results",
        "returned", "target", "writes",
    )  # fmt: skip

    def __init__(
        self,
        kind: Kind,
        fun: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] = {},
        results: Sequence[Value] = (),
        target: Value | None = None,
        location: str = "?",
        errors: Mapping[str, Any] | None = None,
        writes: Sequence[Value] = (),
    ) -> None:
        self.kind: Kind = kind
        self.nested = False
        self.fun = fun
        self.args = args
        self.kwargs = kwargs
        self.results = self.returned = results
        self.target = target
        self.location = location
        self.errors = errors
        self.writes = writes
        self._reads: Sequence[Value] | None = None

    @property
    def reads(self) -> Sequence[Value]:
        """The values among the arguments; the target too, as most calls change what is there."""
        if self._reads is None:
            found = values_in((self.args, self.kwargs)) if self.kwargs else values_in(self.args)
            self._reads = found if self.target is None else [*found, self.target]
        return self._reads

    @property
    def is_elementwise(self) -> bool:
        """Whether each element of the result depends on one of each argument."""
        return isinstance(self.fun, np.ufunc) and self.fun.signature is None

    @property
    def is_bits(self) -> bool:
        """Whether it views an array in another dtype, element by element."""
        if self.fun is not np.ndarray.view:
            return False
        return bool(self.args[0].dtype.itemsize == self.returned[0].dtype.itemsize)

    @property
    def has_effects(self) -> bool:
        """Whether it changes what outlives the program."""
        writes_outside = self.target is not None and self.target.storage.home == "state"
        return writes_outside or self.kind == "effect"

    def instead(self, fun: Any, args: Sequence[Any], kwargs: Mapping[str, Any] = {}) -> Call:
        """A call of another function that makes the same results."""
        return self._with(fun, args, kwargs, self.results, self.returned, self.target)

    def substituted(self, new: Mapping[Value, Value]) -> Call:
        """The call with other values in place of some."""
        if new.keys().isdisjoint(self.reads) and new.keys().isdisjoint(self.returned):
            return self
        args, kwargs, results, returned, target = mapped(
            (self.args, self.kwargs, self.results, self.returned, self.target),
            Value,
            lambda v: latest(v, new),
        )
        return self._with(self.fun, args, kwargs, results, returned, target)

    def _with(
        self, fun: Any, args: Any, kwargs: Any, results: Any, returned: Any, target: Any
    ) -> Call:
        location, errors, writes = self.location, self.errors, self.writes
        call = Call(self.kind, fun, args, kwargs, results, target, location, errors, writes)
        call.nested, call.returned = self.nested, returned
        return call

    def __repr__(self) -> str:
        return f"{self.kind} {name_of(self.fun)}"


class Program(NamedTuple):
    """Calls in their order, and the values that are needed after them.

    `remarks` say what passes have decided, and why, where that is not the same everywhere.
    """

    calls: Sequence[Call]
    outputs: Sequence[Value]
    remarks: tuple[str, ...] = ()

    def makers(self) -> dict[Value, Call]:
        """The call that makes each value."""
        return {r: call for call in self.calls for r in call.results}

    def uses(self) -> Counter[Value]:
        """How often each value is read."""
        return Counter([*(v for call in self.calls for v in call.reads), *self.outputs])

    def substituted(self, new: Mapping[Value, Value]) -> Program:
        """The program with other values in place of some; views of these are taken anew."""
        known = {**new}
        calls = [settled(call, known) for call in self.calls]
        return self._replace(calls=calls, outputs=[latest(v, known) for v in self.outputs])


@functools.lru_cache(maxsize=1 << 12)
def _contiguity(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> tuple[bool, bool]:
    """Whether an array is contiguous in C order, and in Fortran order."""
    if 0 in shape:
        return True, True

    def is_dense(axes: Iterable[tuple[int, int]]) -> bool:  # from the innermost on
        step = itemsize
        for n, stride in axes:
            if n > 1 and stride != step:
                return False
            step *= n
        return True

    axes = [*zip(shape, strides, strict=True)]
    return is_dense(axes[::-1]), is_dense(axes)


def latest(value: Value, new: Mapping[Value, Value]) -> Value:
    """What stands for a value in the end."""
    while value in new:
        value = new[value]
    return value


def settled(call: Call, new: dict[Value, Value]) -> Call:
    """The call with other values in place of some.

    What it views may lie in other memory now: then its results are other values, too, which are
    added to `new`.
    """
    call = call.substituted(new)
    if call.kind != "view" or all(r.storage is call.reads[0].storage for r in call.results):
        return call
    args, kwargs = mapped((call.args, call.kwargs), Value, lambda v: v.array)
    arrays: list[Array] = []
    mapped(call.fun(*args, **kwargs), np.ndarray, arrays.append)
    storage = call.reads[0].storage
    own = {*call.results}
    made = {
        r: r.moved(array, storage)
        for r, array in zip(call.returned, arrays, strict=True)
        if r in own
    }
    new.update(made)
    return call.substituted(made)


def mapped(nested: Any, kind: type | tuple[type, ...], function: Function) -> Any:
    """Nested lists, tuples, dicts and slices, with `function` applied to what is of a kind."""
    if isinstance(nested, kind):
        return function(nested)
    if type(nested) in _ATOMS:
        return nested
    if isinstance(nested, (list, tuple)):
        parts = [mapped(part, kind, function) for part in nested]
        return type(nested)(*parts) if hasattr(nested, "_fields") else type(nested)(parts)
    if isinstance(nested, Mapping):
        return {key: mapped(part, kind, function) for key, part in nested.items()}
    if isinstance(nested, slice):
        parts = [mapped(part, kind, function) for part in (nested.start, nested.stop, nested.step)]
        return slice(*parts)
    return nested


def values_in(nested: Any) -> list[Value]:
    """The values in nested lists, tuples, dicts and slices."""
    found: list[Value] = []
    _collect((nested,), found)
    return found


def _collect(parts: Iterable[Any], found: list[Value]) -> None:
    for part in parts:
        kind = type(part)
        if kind is Value:
            found.append(part)
        elif kind in _ATOMS:
            pass
        elif isinstance(part, (list, tuple)):
            _collect(part, found)
        elif isinstance(part, Mapping):
            _collect(part.values(), found)
        elif kind is slice:
            _collect((part.start, part.stop, part.step), found)


# What most arguments are that hold nothing: to find that out by abstract base classes is slow.
_ATOMS = frozenset({bool, int, float, complex, str, type(None), type(...), type, np.ndarray})


def make_writeable(arrays: Iterable[Array]) -> None:
    """Undo what made arrays read-only; owners of memory come first, as views need them."""
    for array in sorted(arrays, key=lambda a: a.base is not None):
        array.flags.writeable = True
