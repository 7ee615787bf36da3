"""The array that a traced function sees: what is done with it is noted."""

# ruff: noqa: D102 (what a traced array has, an array has too, under the same names)

from __future__ import annotations

import functools
import os
import sys
import traceback
import weakref
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..engine.batching import Batch
from ..engine.primitives import POWERS
from ..engine.registry import NO_KWARGS, name_of, signature
from ..engine.tensor import Tensor
from ..engine.typing import Array, Function
from ..engine.views import owner_of
from ..errors import TraceError
from .functions import assign_at, attribute, getitem
from .ir import PACKAGE, Kind, Value, mapped
from .ops import op_of

TOGETHER = "put arrays together by numpy.stack or write them into tensorgrad.zeros(n)"

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
    if given.get("where") is True:
        del given["where"]
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


class Records(Protocol):
    """What notes the calls of traced arrays: a `Recorder`."""

    tracers: list[weakref.ref[Tracer]]
    arrays: dict[Value, Array]

    def record(
        self,
        fun: Function,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] = NO_KWARGS,
        target: Any = None,
        kind: Kind | None = None,
    ) -> Any:
        """Call a function on the arrays themselves, and note the call; return traced results."""

    def share(self, array: Tracer, index: Any, part: Tracer) -> None:
        """Let two arrays change together, since NumPy's `array[index]` is a view."""

    def assume(self, value: Value) -> bool:
        """Decide by an element, and note that."""


class Tracer(NDArrayOperatorsMixin):
    """An array, as the traced function sees it: what is done with it is noted.

    What would need its elements, to choose among branches or to make a number, raises a TraceError.
    """

    __slots__ = ("__weakref__", "_trace", "is_number", "value")

    def __init__(self, trace: Records, value: Value, is_number: bool = False) -> None:
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
        return self._trace.arrays[self.value]

    @property
    def base(self) -> None:
        """None, as of an array that owns its memory: whether it needs a copy is planned later."""

    def __len__(self) -> int:
        return len(self.concrete)

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
        op = op_of(fun)
        if op.result == "fact":
            facts = mapped((args, kwargs), Tracer, lambda t: t.concrete)
            return fun(*facts[0], **facts[1])
        lowered = _LOWERED.get(fun)
        if lowered is not None:
            return lowered(*args, **kwargs)
        if _is_shaped_by_traced(fun, args, kwargs) or (fun is np.where and len(args) == 1):
            _refuse(
                f"{name_of(fun)}, whose result has a shape that depends on elements,", ShapeError
            )
        if op.result == "python":
            _refuse("a text of it")
        if op.result == "write":
            return self._trace.record(fun, args, kwargs, args[0])
        if kwargs.get("out") is not None:
            self._trace.record(fun, args, kwargs, kwargs["out"])
            return kwargs["out"]
        result = self._trace.record(fun, args, kwargs)
        return self._numbered(result) if op.keeps_numbers else result

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(np.ndarray, name, None)
        kind = op_of(found).result
        if kind == "python":
            return lambda *_args, **_kwargs: _refuse(f"{name}()")
        if found is None or kind == "absent" or name.startswith("__"):
            raise AttributeError(f"a traced array has no attribute {name!r}")
        if name == "strides":
            self._trace.record(attribute(name), (self,))
            return self.value.strides
        if not callable(found):  # T, mT, real, imag, flags ...
            return self._numbered(self._trace.record(attribute(name), (self,)))
        function = getattr(np, name, None)
        if function in _LOWERED:
            return functools.partial(function, self)
        target = self if kind == "write" else None

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
        numbered = selects_by_numbers(index)
        index = _checked_index(index)
        part = self._trace.record(getitem, (self, index))
        if numbered and not part.is_number:
            self._trace.share(self, index, part)
        return part

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, Tensor):
            value = value.data
        if isinstance(value, Tracer) and _is_part(value.concrete, self.concrete, index):
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
        return _refuse("a plain array of it", cure=f"{TOGETHER}, return the array")

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
    count = op_of(fun).shaped_by
    if not count:
        return False
    given = [*signature(fun).bind(*args, **kwargs).arguments.values()]
    found: list[Any] = []
    mapped(given[:count], Tracer, found.append)
    return bool(found)


def _is_part(part: Array, array: Array, index: Any) -> bool:
    """Whether an array is a view of another one, at an index of it."""
    if owner_of(part) is not owner_of(array) or not isinstance(
        index, (int, slice, tuple, type(...))
    ):
        return False
    own = array[mapped(index, Tracer, lambda t: t.concrete)]
    return isinstance(own, np.ndarray) and own.__array_interface__ == part.__array_interface__


def selects_by_numbers(index: Any) -> bool:
    """Whether NumPy would return a view: some parts are traced numbers, and none is an array."""
    parts = index if isinstance(index, tuple) else (index,)
    traced = [part for part in parts if not isinstance(part, _BASIC)]
    return bool(traced) and all(
        part.is_number if isinstance(part, Tracer) else isinstance(part, Tensor) and not part.ndim
        for part in traced
    )


_BASIC = (int, np.integer, slice, type(None), type(...))


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
