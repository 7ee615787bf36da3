"""The intermediate representation of the compiler: calls of functions, on values in memory.

A `Value` is an array, of which all is known but the elements; values that are views of one another
share a `Storage`. A `Call` reads values and makes new ones, or writes into one. The order of calls
is the order in which they were made. Nothing of it ever changes: passes make new programs.
"""

from __future__ import annotations

import functools
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ..engine.arrays import Spec
from ..engine.registry import name_of
from ..engine.typing import Array, Function
from ..engine.views import Layout, layout_of, owner_of, view_in

# "input": an argument, another array at each call. "state": an array that lies outside of the plan
# and stays where it is. "constant": an array that is the same in every call, such as what was
# computed from constants. "temporary": what each call computes. "padded": the same, with ones
# behind it that stay.
Home: TypeAlias = Literal["input", "state", "constant", "temporary", "padded"]

# "pure": its results depend on its arguments alone. "view": a pure one whose results lie in the
# memory of its arguments. "write": it changes the memory of `target`. "effect": it calls Python
# that has effects of its own, and is neither dropped, repeated nor moved; it may change `writes`.
# "guard": `bool` of an element; where that is another one than while tracing, the program ends.
Kind: TypeAlias = Literal["pure", "view", "write", "effect", "guard"]

Order: TypeAlias = Literal["C", "F"]

# The folder of this package: what its code does is due to the line of the user's that called it.
PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")

# What a call returns that is data: arrays, and numbers in place of 0-d arrays.
ARRAYS = (np.ndarray, np.generic, bool, int, float, complex)


class Diverged(Exception):  # noqa: N818 (no error: the plan is for another case)
    """A decision by elements is not the one of the traced call."""


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """A block of memory of `nbytes` bytes, in which values lie.

    Only what lies outside of the program, a state or a constant, has its memory already: `array`
    owns it.
    """

    home: Home
    nbytes: int
    array: Array | None = field(default=None, repr=False)

    @classmethod
    def of(cls, owner: Array, home: Home) -> Storage:
        """The memory of an array that owns it, or memory of that size."""
        nbytes = owner.nbytes if owner.base is None else layout_of(owner).nbytes
        return cls(home, nbytes, owner if home in ("state", "constant") else None)


@dataclass(frozen=True, eq=False, slots=True)
class Value(Spec):
    """An array of the program, whose first element lies `offset` bytes behind the storage's start.

    `strides` are the bytes from one element to the next, along each axis. `location` is the user's
    line that made it. `scalar` says that NumPy returned a number of its own, not an array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...]
    storage: Storage
    offset: int = 0
    location: str = "?"
    scalar: bool = False

    @classmethod
    def of(cls, array: Array, storage: Storage, location: str = "?", scalar: bool = False) -> Value:
        """The value that lies in a storage as the array does in its memory."""
        start = 0 if array.base is None else layout_of(array).start
        return cls(array.shape, array.dtype, array.strides, storage, start, location, scalar)

    @property
    def itemsize(self) -> int:
        """The number of bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """The number of bytes of all elements."""
        return self.size * self.dtype.itemsize

    @property
    def bounds(self) -> tuple[int, int]:
        """The first byte of its storage that it covers, and the one after the last."""
        if 0 in self.shape:
            return 0, 0
        before, after = _reach(self.shape, self.strides)
        return self.offset - before, self.offset + after + self.dtype.itemsize

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
    def is_whole(self) -> bool:
        """Whether the elements fill the storage."""
        is_large = self.nbytes == self.storage.nbytes
        return is_large and _is_dense(self.shape, self.strides, self.itemsize)

    @property
    def order(self) -> Order:
        """The order of a contiguous array in memory."""
        return "F" if self.is_f_contiguous and not self.is_c_contiguous else "C"

    @property
    def axes(self) -> Sequence[int]:
        """The axes, from the one with the largest stride to the one with the smallest."""
        return sorted(range(self.ndim), key=lambda i: -abs(self.strides[i]))

    @property
    def is_constant(self) -> bool:
        """Whether it is the same in every call, wherever the program is used."""
        return self.storage.home == "constant"

    @property
    def array(self) -> Array:
        """The array that a state or a constant is, in the memory of its storage."""
        memory = self.storage.array
        if memory is None:
            raise ValueError(f"{self} has no elements: it is {self.storage.home}")
        alike = (memory.shape, memory.dtype, memory.strides, 0)
        if alike == (self.shape, self.dtype, self.strides, self.offset):
            return memory
        return array_in(memory, self)

    def placed(self, other: Value) -> Value:
        """The same value where another one lies."""
        return replace(self, strides=other.strides, storage=other.storage, offset=other.offset)

    def transposed(self) -> Value:
        """A view with the axes in reverse order."""
        return replace(self, shape=self.shape[::-1], strides=self.strides[::-1])


def new_value(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: Iterable[int] | None = None,
    home: Home = "temporary",
    location: str = "?",
) -> Value:
    """A value that fills a storage of its own; `axes` are from the outermost in memory on."""
    strides = dense_strides(shape, dtype.itemsize, range(len(shape)) if axes is None else axes)
    storage = Storage(home, math.prod(shape) * dtype.itemsize)
    return Value(shape, dtype, strides, storage, location=location)


def constant(array: Array) -> Value:
    """A value that is always this array."""
    return Value.of(array, Storage.of(owner_of(array), "constant"))


def dense_strides(shape: Sequence[int], itemsize: int, axes: Iterable[int]) -> tuple[int, ...]:
    """The strides without gaps; `axes` are from the outermost in memory to the innermost."""
    strides = [0] * len(shape)
    if 0 in shape:  # as NumPy has it
        return tuple(strides)
    for axis in reversed([*axes]):
        strides[axis], itemsize = itemsize, itemsize * shape[axis]
    return tuple(strides)


def array_in(memory: Array, value: Value, start: int = 0) -> Array:
    """The array of a value in memory, in which its storage starts at a byte."""
    first = start + value.offset if value.size else 0  # else it may lie outside of the memory
    return view_in(memory, Layout(value.shape, value.strides, value.dtype, first, 0, True))


def viewed(
    fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any] = {}
) -> list[Value | None]:
    """What a function returns: values that are views of its arguments, and None for others.

    To find out how they lie, it is called. What lies outside of the program, such as an order of
    axes, is there already; the contents of other memory do not count.
    """
    memory = {
        s: np.empty(s.nbytes, np.uint8) if s.array is None else s.array
        for s in {v.storage for v in values_in((args, kwargs))}
    }
    args, kwargs = mapped((args, kwargs), Value, lambda v: array_in(memory[v.storage], v))
    by_owner = {id(array): s for s, array in memory.items()}
    found = [(a, by_owner.get(id(owner_of(a)))) for a in arrays_in(fun(*args, **kwargs))]
    return [None if s is None else Value.of(array, s) for array, s in found]


def view(fun: Function, *args: Any) -> Value:
    """The value that a function returns which makes a view of its argument."""
    (value,) = viewed(fun, args)
    if value is None:
        raise ValueError(f"{name_of(fun)} makes a copy, not a view, of {args[0]} as it lies")
    return value


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """One call: `fun(*args, **kwargs)`, in whose arguments values stand for arrays.

    `results` are the values that it makes, `target` is the one that it writes to, `writes` are the
    states that an effect writes to. What it returns, which may be `nested` in tuples or lists, are
    `returned` values: the results, unless arguments are among them. `errors` are the floating-point
    error settings in which it runs, if other than the caller's. `reads` are the values among the
    arguments; the target too, as most calls change what is there.
    """

    kind: Kind
    fun: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[Value] = ()
    target: Value | None = None
    location: str = "?"
    errors: Mapping[str, Any] | None = None
    writes: Sequence[Value] = ()
    returned: Sequence[Value] = ()
    nested: bool = False
    reads: Sequence[Value] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = values_in((self.args, self.kwargs)) if self.kwargs else values_in(self.args)
        reads = found if self.target is None else [*found, self.target]
        object.__setattr__(self, "reads", reads)
        object.__setattr__(self, "returned", self.returned or self.results)

    @property
    def changes(self) -> Sequence[Value]:
        """The values that it writes to."""
        return self.writes if self.target is None else (self.target,)

    @property
    def has_effects(self) -> bool:
        """Whether it changes what outlives the program."""
        writes_outside = any(v.storage.home == "state" for v in self.changes)
        return writes_outside or self.kind == "effect"

    def instead(self, fun: Any, args: Sequence[Any], kwargs: Mapping[str, Any] = {}) -> Call:
        """A call of another function that makes the same results."""
        return replace(self, fun=fun, args=args, kwargs=kwargs)

    def substituted(self, new: Mapping[Value, Value]) -> Call:
        """The call with other values in place of some."""
        if new.keys().isdisjoint(self.reads) and new.keys().isdisjoint(self.returned):
            return self

        def put(part: Any) -> Any:
            if type(part) in _ATOMS:
                return part
            if type(part) is Value:
                return latest(part, new)
            return mapped(part, Value, lambda v: latest(v, new))

        results = [*map(put, self.results)]
        return Call(  # `dataclasses.replace` takes twice as long
            self.kind,
            self.fun,
            tuple(map(put, self.args)),
            put(self.kwargs) if self.kwargs else self.kwargs,
            results,
            put(self.target),
            self.location,
            self.errors,
            self.writes,
            results if self.returned is self.results else [*map(put, self.returned)],
            self.nested,
        )

    def __repr__(self) -> str:
        return f"{self.kind} {name_of(self.fun)}"


class Program(NamedTuple):
    """A function: its arguments, its calls in their order, and the values that are its results.

    Beside the inputs, it reads states and constants. `remarks` say what passes have decided, and
    why, where that is not the same everywhere.
    """

    inputs: Sequence[Value]
    calls: Sequence[Call]
    outputs: Sequence[Value]
    remarks: tuple[str, ...] = ()

    def makers(self) -> dict[Value, Call]:
        """The call that makes each value."""
        return {r: call for call in self.calls for r in call.results}

    def uses(self) -> Counter[Value]:
        """How often each value is read."""
        return Counter([*(v for call in self.calls for v in call.reads), *self.outputs])

    def written(self) -> set[Storage]:
        """The memory that calls write to, once it has been made."""
        return {v.storage for call in self.calls for v in call.changes}

    def substituted(self, new: Mapping[Value, Value]) -> Program:
        """The program with other values in place of some; views of these are taken anew."""
        known = {**new}
        calls = [settled(call, known) for call in self.calls]
        return self._replace(calls=calls, outputs=[latest(v, known) for v in self.outputs])


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
    if call.kind != "view":
        return call
    storages = {v.storage for v in call.reads}
    if all(r.storage in storages for r in call.results):
        return call
    places = zip(call.returned, viewed(call.fun, call.args, call.kwargs), strict=True)
    own = {*call.results}
    made = {r: r.placed(place) for r, place in places if r in own and place is not None}
    new.update(made)
    return call.substituted(made)


@functools.lru_cache(maxsize=1 << 12)
def _reach(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """How many bytes before the first element others start, and how many behind it."""
    steps = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    return -sum(s for s in steps if s < 0), sum(s for s in steps if s > 0)


@functools.lru_cache(maxsize=1 << 12)
def _contiguity(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> tuple[bool, bool]:
    """Whether an array is contiguous in C order, and in Fortran order."""
    axes = [*zip(shape, strides, strict=True)]
    return _has_no_gaps(axes[::-1], itemsize), _has_no_gaps(axes, itemsize)


@functools.lru_cache(maxsize=1 << 12)
def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Whether the elements lie side by side, in whatever order of the axes."""
    axes = sorted(zip(shape, strides, strict=True), key=itemgetter(1))
    return _has_no_gaps(axes, itemsize)


def _has_no_gaps(axes: Sequence[tuple[int, int]], step: int) -> bool:
    """Whether axes, given by lengths and strides from the innermost on, lie side by side."""
    for n, stride in axes:
        if n > 1 and stride != step:
            return any(n == 0 for n, _ in axes)
        step *= n
    return True


def arrays_in(result: Any) -> list[Array]:
    """The arrays and numbers in nested tuples, lists and dicts, as arrays."""
    found: list[Array] = []
    mapped(result, ARRAYS, lambda a: found.append(np.asarray(a)))
    return found


def mapped(nested: Any, kind: type | tuple[type, ...], function: Function) -> Any:
    """Nested lists, tuples, dicts and slices, with `function` applied to what is of a kind."""
    own = type(nested)
    if own is tuple or own is list:  # most parts need no call of their own
        parts = []
        for part in nested:
            if isinstance(part, kind):
                part = function(part)
            elif type(part) not in _ATOMS:
                part = mapped(part, kind, function)
            parts.append(part)
        return own(parts)
    if isinstance(nested, kind):
        return function(nested)
    if own in _ATOMS:
        return nested
    if isinstance(nested, (list, tuple)):
        parts = [mapped(part, kind, function) for part in nested]
        return own(*parts) if hasattr(nested, "_fields") else own(parts)
    if own is dict or isinstance(nested, Mapping):
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
        elif kind is slice:
            _collect((part.start, part.stop, part.step), found)
        elif isinstance(part, Mapping):
            _collect(part.values(), found)


# What most arguments are that hold nothing: to find that out by abstract base classes is slow.
_ATOMS = frozenset({bool, int, float, complex, str, type(None), type(...), type, np.ndarray})


def make_writeable(arrays: Iterable[Array]) -> None:
    """Undo what made arrays read-only; owners of memory come first, as views need them."""
    for array in sorted(arrays, key=lambda a: a.base is not None):
        array.flags.writeable = True
