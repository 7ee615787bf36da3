"""Writing down what a function does: it runs once, on arrays that note each call of NumPy.

A traced call computes, too: its results and its effects are those of the call in eager mode. What
it changed can be undone.
"""

# ruff: noqa: D102 (what a traced array has, an array has too, under the same names)

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import sys
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..engine.arrays import Spec
from ..engine.batching import Batch, NotBatchedError
from ..engine.dispatch import apply
from ..engine.graph import Node
from ..engine.modes import epoch, mode
from ..engine.mutation import move
from ..engine.primitives import POWERS
from ..engine.registry import NO_KWARGS, RULES, name_of, rule_together, signature
from ..engine.tensor import Tensor
from ..engine.typing import Array, Function
from ..engine.views import layout_of, memory_with, owner_of, view_in
from ..errors import TraceError
from ..transforms import vjp
from .checks import Checks
from .executed import executed
from .functions import (
    BY_METHOD,
    FACTS,
    READ_ONLY,
    READING_METHODS,
    REFUSED,
    SHAPED_BY_ELEMENTS,
    TEXTS,
    WRITERS,
    WRITING_METHODS,
    assign_at,
    attribute,
    getitem,
)
from .numbers import Number
from .passes import PASSES, Pass
from .printing import Labels
from .program import (
    ARRAYS,
    PACKAGE,
    Call,
    Kind,
    Storage,
    Value,
    make_writeable,
    mapped,
    values_in,
)
from .progress import OFTEN, Progress
from .strides import copied, pattern

_NUMPY = os.path.join(os.path.dirname(np.__file__), "")


def _reduction(fun: Function, ufunc: np.ufunc) -> Function:
    """What a function of NumPy's does that reduces by a ufunc, without its detours."""

    def reduce(*args: Any, **kwargs: Any) -> Any:
        bound = signature(fun).bind(*args, **kwargs)
        options = {k: v for k, v in bound.arguments.items() if v is not np._NoValue}
        return ufunc.reduce(options.pop("a"), **{"axis": None} | options)

    return reduce


def _mean(*args: Any, **kwargs: Any) -> Any:
    """The sum over the count, which is what `numpy.mean` is where it does no more."""
    bound = signature(np.mean).bind(*args, **kwargs)
    given = {k: v for k, v in bound.arguments.items() if v is not np._NoValue and v is not None}
    a = given.pop("a")
    if isinstance(a, Tracer) and a.dtype.char in "fdFD" and given.keys() <= {"axis", "keepdims"}:
        total = np.add.reduce(a, **{"axis": None} | given)
        return total / (a.size // max(total.size, 1))
    traced = next(t for t in (a, given.get("out")) if isinstance(t, Tracer))
    return traced._trace.record(np.mean, (a,), given, given.get("out"))


# Functions that NumPy has written in Python, in terms of what they call in the end.
_LOWERED: dict[Function, Function] = {
    np.sum: _reduction(np.sum, np.add),
    np.prod: _reduction(np.prod, np.multiply),
    np.max: _reduction(np.max, np.maximum),
    np.min: _reduction(np.min, np.minimum),
    np.any: _reduction(np.any, np.logical_or),
    np.all: _reduction(np.all, np.logical_and),
    np.mean: _mean,
}


class ShapeError(TraceError):
    """The shape of a result depends on elements: no program can follow."""


class Tracer(NDArrayOperatorsMixin):
    """An array, as the traced function sees it: what is done with it is noted.

    What would need its elements, to choose among branches or to make a number, raises a TraceError.
    """

    __slots__ = ("__weakref__", "_trace", "is_number", "value")

    def __init__(self, trace: Trace, value: Value, is_number: bool = False) -> None:
        self._trace = trace
        self.value = value
        self.is_number = is_number  # a NumPy number: it has no views, and never changes
        trace.tracers.append(weakref.ref(self))

    # -- facts

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def itemsize(self) -> int:
        return self.value.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.value.nbytes

    @property
    def concrete(self) -> Array:
        """The array during the trace."""
        return self.value.array

    @property
    def base(self) -> None:
        """None, as of an array that owns its memory: whether it needs a copy is planned later."""

    def __len__(self) -> int:
        return len(self.value.array)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<traced array of shape {self.shape}, dtype {self.dtype}>"

    # -- NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(a, (Tensor, Batch)) for a in inputs):
            return NotImplemented
        fun = ufunc if method == "__call__" else getattr(ufunc, method)
        if method == "at":
            return self._trace.record(fun, inputs, kwargs, inputs[0])
        out = kwargs.get("out")
        if out is None:
            return self._trace.record(fun, inputs, kwargs)
        if isinstance(out[0], Tracer) and out[0].is_number:  # `number += x` makes a new number
            return self._trace.record(fun, inputs, {k: v for k, v in kwargs.items() if k != "out"})
        if len(out) != 1 or out[0] is None:
            raise TraceError(
                f"{location()}: {name_of(fun)} with out= for several results cannot be compiled: "
                "use what it returns"
            )
        self._trace.record(fun, inputs, kwargs | {"out": out[0]}, out[0])
        return out[0]

    def __array_function__(self, fun: Function, types: Any, args: Any, kwargs: Any) -> Any:
        if any(issubclass(kind, (Tensor, Batch)) for kind in types):
            return NotImplemented
        if fun in FACTS:
            facts = mapped((args, kwargs), Tracer, lambda t: t.value.array)
            return fun(*facts[0], **facts[1])
        lowered = _LOWERED.get(fun)
        if lowered is not None:
            return lowered(*args, **kwargs)
        if _is_shaped_by_traced(fun, args, kwargs) or (fun is np.where and len(args) == 1):
            _refuse(
                f"{name_of(fun)}, whose result has a shape that depends on elements,", ShapeError
            )
        if fun in TEXTS:
            _refuse("a text of it")
        if fun in WRITERS:
            return self._trace.record(fun, args, kwargs, args[0])
        if kwargs.get("out") is not None:
            self._trace.record(fun, args, kwargs, kwargs["out"])
            return kwargs["out"]
        result = self._trace.record(fun, args, kwargs)
        return self._numbered(result) if fun in BY_METHOD else result

    def __getattr__(self, name: str) -> Any:
        if name in READING_METHODS:
            return lambda *_args, **_kwargs: _refuse(f"{name}()")
        found = getattr(np.ndarray, name, None)
        if found is None or name in REFUSED or name.startswith("__"):
            raise AttributeError(f"a traced array has no attribute {name!r}")
        if name == "strides":
            self._trace.record(attribute(name), (self,))
            return self.value.array.strides
        if not callable(found):  # T, mT, real, imag, flags ...
            return self._numbered(self._trace.record(attribute(name), (self,)))
        function = getattr(np, name, None)
        if function in _LOWERED:
            return functools.partial(function, self)
        target = self if name in WRITING_METHODS else None

        def method(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("out") is not None:
                return self._trace.record(found, (self, *args), kwargs, kwargs["out"])
            return self._numbered(self._trace.record(found, (self, *args), kwargs, target))

        return method

    def _numbered(self, result: Any) -> Any:
        """The result of a method; a scalar result of a number is a number too."""
        if self.is_number and isinstance(result, Tracer) and result.ndim == 0:
            result.is_number = True
        return result

    def as_array(self) -> Tracer:
        """The tracer in a tensor: a number becomes an array without axes."""
        return Tracer(self._trace, self.value) if self.is_number else self

    def __getitem__(self, index: Any) -> Any:
        return self._trace.record(getitem, (self, _checked_index(index)))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, Tensor):
            value = value.data
        if isinstance(value, Tracer) and _is_part(value.value.array, self.value.array, index):
            return  # a[i] += x has changed it already
        self._trace.record(assign_at, (self, _checked_index(index), value), target=self)

    def __pow__(self, other: Any) -> Any:
        """The power, by the shorter ways that NumPy's own arrays take."""
        number = type(other) in (int, float) and self.dtype.kind in "fc"
        short = POWERS.get(other) if number else None
        return np.power(self, other) if short is None else short(self)

    # -- numbers

    def __bool__(self) -> bool:
        caller: Any = sys._getframe(1)
        if caller.f_code.co_name == "__bool__":  # a tensor's
            caller = caller.f_back
        if caller.f_code.co_filename.startswith(PACKAGE):
            return self._trace.assume(self.value)
        return _refuse(
            "a decision (if, while, and, or, not, bool)",
            cure="use numpy.where, tensorgrad.cond or tensorgrad.while_loop",
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return _refuse("a plain array of it")

    def __float__(self) -> float:
        return _refuse("float()")

    def __int__(self) -> int:
        return _refuse("int()")

    def __index__(self) -> int:
        return _refuse("an index or a range")

    def __complex__(self) -> complex:
        return _refuse("complex()")


def _refuse(
    what: str,
    error: type[TraceError] = TraceError,
    cure: str = "return the array from the compiled function",
) -> NoReturn:
    raise error(
        f"{location()}: {what} needs the elements of an array that another call will change, so it "
        f"cannot be compiled: {cure}, or leave this part out of the compiled function"
    )


def location() -> str:
    """The file and the line of the user's call that is under way."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_back is not None:
        name = frame.f_code.co_filename
        if not name.startswith((PACKAGE, _NUMPY, "<")):
            break
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def location_of(error: BaseException) -> str:
    """The file and the line of the user's code in which an error was raised."""
    found = "?"
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if not name.startswith((PACKAGE, _NUMPY, "<")):
            found = f"{name}:{line}"
    return found


def _is_shaped_by_traced(fun: Function, args: Any, kwargs: Any) -> bool:
    """Whether elements of a traced array decide which shape the result has."""
    if fun not in SHAPED_BY_ELEMENTS:
        return False
    given = [*signature(fun).bind(*args, **kwargs).arguments.values()]
    found: list[Any] = []
    mapped(given[: SHAPED_BY_ELEMENTS[fun]], Tracer, found.append)
    return bool(found)


def _is_alike(a: Array, b: Array) -> bool:
    """Whether an array can replace another one: equal shape, dtype and order of strides."""
    return (a.shape, a.dtype, pattern(a)) == (b.shape, b.dtype, pattern(b))


def _is_part(part: Array, array: Array, index: Any) -> bool:
    """Whether an array is a view of another one, at an index of it."""
    if owner_of(part) is not owner_of(array) or not isinstance(
        index, (int, slice, tuple, type(...))
    ):
        return False
    own = array[mapped(index, Tracer, lambda t: t.value.array)]
    return isinstance(own, np.ndarray) and own.__array_interface__ == part.__array_interface__


def _is_sealed(value: Value) -> bool:
    """Whether an array is a view that always stays read-only."""
    return not value.array.flags.writeable and value.storage.owner.flags.writeable


def _checked_index(index: Any) -> Any:
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, Tensor):
            part = part.data
        if isinstance(part, Tracer) and part.dtype.kind == "b":
            _refuse(
                "selecting by a boolean mask, which may select more or fewer,",
                ShapeError,
                "use numpy.where",
            )
        if isinstance(part, slice) and any(
            isinstance(bound, (Tracer, Tensor)) for bound in (part.start, part.stop, part.step)
        ):
            _refuse("a bound of a slice", ShapeError)
    return mapped(index, Tensor, lambda t: t.data)


class _Gap:
    """The place of a tensor among arguments."""


class Condition(NamedTuple):
    """Holds where an attribute of an object is true or, else, where `otherwise` returns true."""

    owner: Any
    attribute: str
    otherwise: Callable[[], bool]


class Trace:
    """All that one call of a function did: its calls, what they rely on, and what they change."""

    nested: ClassVar[Callable[..., Any]]
    """What traces the bodies of loops and branches as programs of their own: `nested.Body`."""

    def __init__(self, name: str) -> None:
        self.progress = Progress(name)
        self.passes: Sequence[Pass] = PASSES  # that the program goes through
        self.labels: Labels = ()  # what the user calls the arrays from outside, to be printed
        self.parent: Trace | None = None  # of the trace of such a body, the one around it
        self.calls: list[Call] = []
        self.inputs: list[Value] = []
        # By id, the tensors whose arrays were used, with the arrays and nodes that they had.
        self.tensors: dict[int, tuple[Tensor, Array, Node | None]] = {}
        # Those that live outside of the function, likewise, and what they are given: threads that
        # are not traced see the arrays that they had. And all traced arrays.
        self._outside: dict[int, tuple[Tensor, Array, Node | None]] = {}
        self.assigned: dict[int, Tracer] = {}
        self.tracers: list[weakref.ref[Tracer]] = []
        self._kept: dict[Value, Value] = {}  # copies of what the end of the call overwrites
        # The leaves whose `grad` was read or set, with those that they had; of those whose `grad`
        # was read first, what stands for it; and the leaves whose data changed, in order.
        self.gradients: dict[Node, Any] = {}
        self.earlier: dict[Node, Value | None] = {}
        self.touched: dict[Node, None] = {}
        # What must be so for the program to hold: conditions and tests for each call; and, for when
        # `epoch` has grown, attributes that must be what they are: an object, a name and a value.
        self.conditions: list[Condition] = []
        self.tests: list[Callable[[], bool]] = []
        self.attributes: list[tuple[Any, str, Any]] = []
        self.checks = Checks()  # of Python's state
        # By id, the generators drawn from, and the arrays that may be written to.
        self.drawn: set[int] = set()
        self.followed: set[int] = set()
        self._storages: dict[int, Storage] = {}  # by the id of the owner
        self._values: dict[int, Value] = {}  # by the id of the array
        self.protected: list[Array] = []  # that were made read-only
        self._lent: list[Array] = []  # those that are read-only during one call
        self._undo: list[Callable[[], Any]] = []
        self._saved: set[int] = set()
        self._errors = np.geterr()
        self.executed = executed()
        # Called before and after Python that may change optimizers and schedules.
        self.before_effect: Callable[[], None] = lambda: None
        self.after_effect: Callable[[], None] = lambda: None
        self._location: str | None = None  # of the node whose derivative is being computed

    # -- arrays that come from outside

    def input(self, array: Array) -> Tracer:
        """An argument: another array at each call.

        It is copied, as memory that an argument shares with others now, it need not share later.
        """
        return self._arrived(copied(array), "input")

    def _arrived(self, array: Array, home: Any) -> Tracer:
        owner = owner_of(array)
        storage = self._storages.setdefault(id(owner), Storage(home, owner))
        value = self._values[id(array)] = Value(array, storage)
        if home == "input":
            self.inputs.append(value)
        return Tracer(self, value)

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
            if a.flags.writeable:
                self.protected.append(a)
                a.flags.writeable = False

    def _given(self, a: Any) -> Any:
        if isinstance(a, Node):
            return Spec(a.shape, a.dtype)
        return self.value(self.tensor(a) if isinstance(a, Tensor) else a)

    def _viewable(self, a: Tracer) -> Tracer:
        """An array as it is, a number as a copy: numbers have no views."""
        return self.record(np.copy, (a,)) if a.is_number else a

    def state(self, array: Array) -> Tracer:
        """An array that may be written to as well, since whoever owns it keeps it where it is."""
        self.followed.add(id(owner_of(array)))
        return Tracer(self, self.value(array))

    def tensor(self, t: Tensor) -> Any:
        """The array of a tensor, as the traced function sees it."""
        array = t._array
        if isinstance(array, Tracer):
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

    # -- operations

    def caller(self, fun: Function, args: Sequence[Any], arrays: list[Any]) -> Function:
        """What calls `fun` on `arrays`, in which those of the tensors among `args` are traced."""
        for i, a in enumerate(args):
            if isinstance(a, Tensor):
                arrays[i] = self.tensor(a)
        return functools.partial(self.call, fun)

    def call(self, fun: Function, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function on traced arrays: call by call or, if it needs elements, as a whole."""
        before = len(self.calls)
        try:
            return fun(*args, **kwargs)
        except (NotBatchedError, ShapeError):
            raise
        except Exception:
            found: list[Any] = []
            mapped((args, kwargs), (Tensor, Batch), found.append)
            if found:
                if isinstance(found[0], Batch):
                    raise NotBatchedError("a function that needs elements") from None
                raise
            del self.calls[before:]
            return self.record(self._as_a_whole(fun), args, kwargs)

    def _as_a_whole(self, fun: Function) -> Function:
        """The function, without recording the calls that it makes.

        What it returns is new: elements may decide whether it would be a view of an argument.
        """

        @functools.wraps(fun)
        def whole(*args: Any, **kwargs: Any) -> Any:
            with _untraced():
                return mapped(fun(*args, **kwargs), np.ndarray, np.copy)

        return whole

    def composite(self, definition: Function, fun: Function, args: Any, kwargs: Any) -> Any:
        """Call a definition, in terms of functions with rules.

        If it needs elements, call `fun` and its derivative as a whole.
        """
        before = len(self.calls)
        try:
            return definition(*args, **kwargs)
        except (NotBatchedError, ShapeError):
            raise
        except Exception:
            del self.calls[before:]
            return self._whole(fun, args, kwargs)

    def _whole(self, fun: Function, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Call a function of tensors as one operation, and its derivative, at any order, as one."""
        tensors: list[Tensor] = []
        mapped((args, kwargs), Tensor, tensors.append)
        moving = [i for i, t in enumerate(tensors) if t.requires_grad]
        count = len(tensors)
        gaps = mapped((args, kwargs), Tensor, lambda _: _Gap())  # caches keep the operation

        def operation(*arrays: Any) -> Any:
            rest = iter(arrays)
            given = mapped(gaps, _Gap, lambda _: next(rest))
            return fun(*given[0], **given[1])

        def pulled(g: Any, *arrays: Any) -> Any:
            def of_moving(*chosen: Any) -> Any:
                given = dict(enumerate(arrays)) | dict(zip(moving, chosen, strict=True))
                return operation(*given.values())

            return vjp(of_moving, *[arrays[i] for i in moving])[1](g)

        def back(g: Any, _out: Any, *arrays: Any) -> Any:
            recorded = any(isinstance(a, Tensor) for a in (g, *arrays))
            pull = self._whole if recorded else lambda f, given, _: self._as_a_whole(f)(*given)
            shares = dict(zip(moving, pull(pulled, (g, *arrays), {}), strict=True))
            return tuple([shares.get(i) for i in range(count)])

        operation.__name__ = name_of(fun)
        rule_together(operation, back, count)
        try:
            return apply(operation, tensors)
        finally:
            del RULES[operation]

    def at(self, node: Node, vjp: Function) -> Function:
        """What calls a derivative of a node, and says that this is due to the node's own line."""

        def derivative(*args: Any, **kwargs: Any) -> Any:
            outer, self._location = self._location, node.place
            try:
                return self.call(vjp, *args, **kwargs)
            finally:
                self._location = outer

        return derivative

    def record(
        self,
        fun: Function,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] = NO_KWARGS,
        target: Any = None,
        kind: Kind | None = None,
    ) -> Any:
        """Call a function on the arrays themselves, and note the call; return traced results."""
        current = mode.get().trace
        if current is not self:
            if self.surrounds(current):
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

    def surrounds(self, other: Trace | None) -> bool:
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
        plain_args, plain_kwargs = mapped(given, Value, lambda v: v.array)
        written = None if target is None else self.value(target)
        if written is not None:
            self._before_writing(written, name_of(fun))
        sealed = fun in READ_ONLY or any(map(_is_sealed, values_in(given)))
        with self._read_only(given if written is None else ()):  # the function may write after all
            out = fun(*plain_args, **plain_kwargs)
        errors = np.geterr()
        call = Call(
            kind or ("pure" if written is None else "write"),
            fun,
            given[0],
            given[1],
            target=written,
            location=self._location or location(),
            errors=None if errors == self._errors else errors,
        )
        self.calls.append(call)
        if not len(self.calls) % OFTEN:
            self.progress(f"{len(self.calls):,} calls traced")
        if written is not None:
            return None
        call.results, call.returned = made, returned = list[Value](), list[Value]()
        call.nested = isinstance(out, (tuple, list, dict))
        return mapped(out, ARRAYS, lambda a: self._result(a, call, made, returned, sealed))

    @contextlib.contextmanager
    def _read_only(self, nested: Any) -> Iterator[None]:
        """Make the arrays of values read-only."""
        given = [v.array for v in values_in(nested)]
        arrays = [a for a in given if a.flags.writeable and owner_of(a).flags.writeable]
        self._lent = arrays
        for array in arrays:
            array.flags.writeable = False
        try:
            yield
        finally:
            make_writeable(arrays)

    def _result(
        self, a: Any, call: Call, made: list[Value], returned: list[Value], sealed: bool
    ) -> Tracer:
        array = np.asarray(a)
        value = self._values.get(id(array)) if array is a else None
        if value is None:
            owner = owner_of(array)
            if owner.flags.writeable and not sealed:
                with contextlib.suppress(ValueError):  # some views are read-only for good
                    array.flags.writeable = True
            storage = self._storages.get(id(owner))
            if storage is None:
                storage = self._storages[id(owner)] = Storage("temporary", owner)
            elif call.kind == "pure" and all(v.storage is not storage for v in made):
                call.kind = "view"  # of an argument, not of another result
            value = Value(array, storage, call.location, scalar=array is not a)
            self._values[id(array)] = value
            made.append(value)
        returned.append(value)
        return Tracer(self, value, array is not a)

    def _before_writing(self, value: Value, name: str) -> None:
        storage = value.storage
        storage.writes += 1
        owner = storage.owner
        if storage.home == "temporary":
            return
        if storage.home == "input":
            raise TraceError(f"{location()}: {name} would write into an argument: copy it first")
        if id(owner) not in self.followed:
            raise TraceError(
                f"{location()}: {name} writes into an array of shape {value.shape} that a compiled "
                "function cannot follow: keep it in a tensor's data, make it inside, or pass it as "
                "an argument and return the new one"
            )
        self.save(owner)

    def save(self, array: Array) -> None:
        """Note an array as it is now, to be restored by `undo`."""
        owner = owner_of(array)
        if id(owner) not in self._saved:
            self._saved.add(id(owner))
            self._undo.append(functools.partial(np.copyto, owner, owner.copy()))

    def assume(self, value: Value) -> bool:
        """A decision that one of the library's own functions takes by an element: noted as a check.

        Where a later call would decide otherwise, it needs another program.
        """
        decision = bool(value.array)
        self.calls.append(
            Call("guard", bool, (value, decision), location=self._location or location())
        )
        return decision

    # -- what is not an operation

    def effect(self, fun: Function, *args: Any, writes: Sequence[Array] = ()) -> Any:
        """Call a Python function now and, with the arrays of then, at this point of each call.

        `writes` are the arrays that it changes.
        """
        self.before_effect()
        given = mapped(args, (Tracer, np.ndarray), self.value)
        written = [self.state(array).value for array in writes]
        for value in written:
            self.save(value.array)
            value.storage.writes += 1
        self.executed.pause()
        try:
            with _untraced():
                result = fun(*mapped(given, Value, lambda v: v.array))
        finally:
            self.executed.resume()
        self.after_effect()
        line = self._location or location()
        self.calls.append(Call("effect", fun, given, location=line, writes=written))
        return result

    def number(self, array: Array) -> Number:
        """The number in an array without axes of float64, which the program reads in each call."""
        return Number(self.record, self.state(array).value)

    def write_number(self, array: Array, number: Number) -> None:
        """Write a number into an array without axes, now and in each call."""
        target = self.state(array)
        self.record(assign_at, (target, (), number.value), target=target)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Tracer:
        """Random numbers from 0 to 1, other ones at each call."""
        if id(rng) not in self.drawn:
            self.drawn.add(id(rng))
            self.executed.entropy[-1:] = []  # if it was made for this
            state = rng.bit_generator.state
            self._undo.append(lambda: setattr(rng.bit_generator, "state", state))
        out: Tracer = self.record(rng.random, (shape,), {"dtype": dtype}, kind="effect")
        return out

    def require(self, owner: Any, attribute: str, otherwise: Callable[[], bool]) -> None:
        """Let the program hold only where an attribute of an object, or else a call, is true."""
        self.conditions.append(Condition(owner, attribute, otherwise))

    def require_true(self, test: Callable[[], bool]) -> None:
        """Let the program hold only where a function returns true."""
        self.tests.append(test)

    def refuse(self, reason: str) -> NoReturn:
        """Raise a TraceError that names the user's line."""
        raise TraceError(f"{location()}: {reason}")

    def is_read(self, array: Array) -> bool:
        """Whether the program reads an array from outside in each call."""
        return id(owner_of(array)) in self._storages

    def watch(self, t: Tensor) -> None:
        """Let the program hold only as long as a tensor has its array and its node."""
        self.tensors.setdefault(id(t), (t, t._array, t._node))

    def guard(self, owner: Any, attribute: str) -> None:
        """Let the program hold only as long as an attribute is what it is now.

        Whoever sets it counts that in `changes`.
        """
        self.attributes.append((owner, attribute, getattr(owner, attribute)))

    # -- leaves

    def assign(self, t: Tensor, value: Any) -> None:
        """Give a leaf, or an untracked tensor, new data."""
        target, node = self.tensor(t), t._node
        value = value.data if isinstance(value, Tensor) else value
        if not (isinstance(value, Tracer) and value.value is target.value):
            if node is not None and np.shape(value) != target.shape:
                raise ValueError(f"cannot assign data of shape {np.shape(value)} to {target}")
            if node is not None and node.out is not None:
                target[...] = value  # an optimizer's memory, where the data stays
            else:  # whoever has the array that the tensor had keeps its elements
                by_columns = node is not None and target.value.array.flags.fnc
                options = {} if node is None else {"dtype": node.dtype}
                new = self.record(np.array, (value,), options | {"order": "FK"[not by_columns]})
                alike = _is_alike(new.value.array, target.value.array)
                outside = id(t) in self._outside
                if outside:
                    self._undo.append(functools.partial(setattr, t, "_family", t._family))
                t._family = None  # its views keep their values
                if alike and outside and not isinstance(t._array, Tracer):
                    self.assigned[id(t)] = new
                else:
                    t._array = new
        self.touch(t._node)

    def finish(self) -> None:
        """Write the values assigned to tensors from outside into their memory."""
        given = []
        for t, array, before in self._outside.values():
            node = t._node
            if node is not before and node is not None and node.rule is not None:
                raise TraceError(
                    f"{node.place}: a tensor of shape {t.shape} from outside the compiled function "
                    f"gets a value with a graph, {node}, which ends with the call: write "
                    "value.detach() into the tensor, or make the tensor inside the function"
                )
            new = t._array if isinstance(t._array, Tracer) else self.assigned.get(id(t))
            if new is not None:
                given.append((t, array, new))
        # What was read from their memory keeps the values from before.
        owners = {id(owner_of(array)) for _, array, _ in given}
        for tracer in [made() for made in self.tracers]:
            if tracer is not None and id(tracer.value.storage.owner) in owners:
                self._kept[tracer.value] = self.record(np.copy, (tracer,)).value
        for t, array, new in given:
            value = self.value(new)
            if _is_alike(value.array, array) and self._is_alone(t, array):
                t._array = array
                self.record(assign_at, (array, ..., Tracer(self, value)), target=array)
            else:  # it gets a new array, which the next trace uses
                self._undo.append(functools.partial(setattr, t, "_array", array))
                layout = layout_of(value.array)
                if t._family is None or layout.is_whole:
                    t._array = copied(value.array)
                else:  # a view keeps its place in the memory of what it is a view of
                    t._array = view_in(memory_with(value.array, layout), layout)
                epoch[0] += 1
                self.require_true(_never)

    def _is_alone(self, t: Tensor, array: Array) -> bool:
        """Whether no other tensor from outside shares the memory of a tensor's array."""
        return not any(
            other is not t and type(other._array) is np.ndarray and np.may_share_memory(a, array)
            for other, a, _ in self._outside.values()
        )

    def require_nothing_kept(self) -> None:
        """Raise a TraceError if a tensor that the function made, but did not return, lives on."""
        for t in self.kept():
            value = self.value(t._array)
            t._array = value.array.copy("K")
            raise TraceError(
                f"{value.location}: a tensor of shape {t.shape} is still in use after the call, "
                "but compiled calls would not update it: return it, or write it into a tensor that "
                "exists before the call"
            )

    def kept(self) -> list[Tensor]:
        """The tensors that live on with a traced array."""
        if all(made() is None for made in self.tracers):
            return []
        gc.collect()
        alive = [tracer for made in self.tracers if (tracer := made()) is not None]
        return [t for t in gc.get_referrers(*alive) if isinstance(t, Tensor)] if alive else []

    def move(self, t: Tensor, array: Array) -> None:
        """Let the data of a leaf lie in another array, which has been given its elements."""
        self._undo.append(functools.partial(move, t, t._array))
        self.effect(_Move(t, array))

    def touch(self, node: Node | None) -> None:
        """Note that the data of a leaf has changed."""
        if node is not None:
            self.touched[node] = None
            node.touch()

    def grad(self, node: Node) -> Any:
        """The gradient of a leaf: a traced array, or None."""
        if node not in self.gradients:
            self._remember(node)
            g = node.grad
            self.earlier[node] = None
            if g is not None:
                storage = self._storages.setdefault(id(owner_of(g)), Storage("input", owner_of(g)))
                value = self.earlier[node] = self._values.setdefault(id(g), Value(g, storage))
                node.grad = Tracer(self, value)  # type: ignore[assignment]
        return node.grad

    def set_grad(self, node: Node, g: Any) -> None:
        """Change the gradient of a leaf."""
        if node not in self.gradients:
            self._remember(node)
        node.grad = g

    def _remember(self, node: Node) -> None:
        self.gradients[node] = node.grad

    def accumulate(self, gradients: Mapping[Node, Any]) -> None:
        """Add to the gradients of leaves."""
        for node, g in gradients.items():
            earlier = self.grad(node)
            if earlier is not None:
                g = earlier + g
            elif not isinstance(g, Tracer):  # the same at each call
                g = Tracer(self, self.value(g))
            self.set_grad(node, g if g.dtype == node.dtype else g.astype(node.dtype))

    # -- afterwards

    def undo(self) -> None:
        """Make all arrays, gradients and generators what they were before the trace."""
        self.executed.stop()
        make_writeable([*self._lent, *self.protected])
        for restore in reversed(self._undo):
            restore()
        for t, array, before in self._outside.values():
            if isinstance(t._array, Tracer) or t._node is not before:
                t._array, t._node = array, before
        for node, g in self.gradients.items():
            node.grad = g

    def settle(self, outside: Iterable[Tensor]) -> dict[Node, Value | None]:
        """Forget the tensors that have died with the call; return what gradients are then.

        `outside` are tensors that live on. Gradients become arrays again.
        """
        for key, (t, _, _) in list(self.tensors.items()):
            if sys.getrefcount(t) <= 3:  # here, in the dict, and as the argument
                del self.tensors[key]
        alive = {t._node for t in (*outside, *(t for t, _, _ in self.tensors.values()))}
        final: dict[Node, Value | None] = {}
        for node in self.gradients:
            if node in alive:
                g: Any = node.grad
                final[node] = None if g is None else self.value(g)
                node.grad = None if g is None else copied(self.value(g).array)
        return final


def _never() -> bool:
    return False


class _Move:
    """Lets the data of a leaf lie in another array, when it is called."""

    __name__ = "move"

    def __init__(self, t: Tensor, array: Array) -> None:
        self._t, self._array = t, array

    def __call__(self) -> None:
        move(self._t, self._array)


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """A block whose calls are not written down."""
    token = mode.set(dataclasses.replace(mode.get(), trace=None))
    try:
        yield
    finally:
        mode.reset(token)
