"""NumPy's back end: each call becomes its cheapest line of Python.

For small arrays, the time depends on how a call is written. For 4x4 in float32, in nanoseconds:
`a.dot(b, out)` takes 280, `np.matmul` 830; an operation with a 0-d array 350, with a number of
Python's 790; `ones.dot(g, out)` 320, `np.add.reduce(g)` 740.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...engine.registry import name_of, position_of_out
from ...engine.typing import Array, Function
from ...errors import TraceError
from ..buffers import Buffers, Recycled
from ..code import Code
from ..functions import Attribute, MakesNew, array_of, assign_at, getitem, power, spread
from ..ir import Call, Value, arrays_in, mapped, values_in
from ..ops import is_of_numbers, is_product, op_of
from ..passes.loop_fusion import Chain
from . import Backend, Segment
from .numpy_blocks import lines_in_blocks
from .numpy_ufuncs import ufunc_line

RECYCLED = 1 << 24  # bytes: larger results lie where earlier ones did, if nobody has these
NARROW = 32  # columns
MANY = 16  # rows


class NumpySource(Backend):
    """A line for each call, by NumPy."""

    name = "numpy"

    def segments(self, code: Code, buffers: Buffers) -> list[Segment]:
        """The lines of each call."""
        segments, late = [], False
        for call in buffers.calls:
            if not is_taken_now(code, call):
                segments.append(segment_of(code, buffers, call, late))
            late = late or call.has_effects
        return segments


NUMPY = NumpySource()


def segment_of(code: Code, buffers: Buffers, call: Call, late: bool) -> Segment:
    """The lines of one call; `late` says whether what outlives the program has changed before."""
    for v in call.reads:
        array = None if code.knows(v) else buffers.array_of(v)
        if array is not None:
            code.bind(v, array)
    new: dict[Value, str] = {}
    if call in buffers.takes_out:
        lines = _lines_into_memory(code, call, buffers, new)
    else:
        lines = [*_plain_lines(code, call), *_shape_checks(code, call, late)]
    return Segment([call], lines, in_rows(new))


def in_rows(new: Mapping[Value, str]) -> dict[Value, str]:
    """The lines that make new arrays, those of arrays that can be rows of larger ones."""
    return {v: line for v, line in new.items() if v.ndim and v.is_c_contiguous}


def is_taken_now(code: Code, call: Call) -> bool:
    """Take the views of an array that stays in place, once for all calls; return if it does."""
    sources = call.reads
    if call.kind != "view" or len(sources) != 1 or code.fixed(sources[0]) is None:
        return False
    args, kwargs = mapped((tuple(call.args), dict(call.kwargs)), Value, code.fixed)
    views: list[Array] = []
    mapped(call.fun(*args, **kwargs), np.ndarray, views.append)
    if not all(v.size == 0 or np.may_share_memory(v, code.fixed(sources[0])) for v in views):
        return False
    for result, view in zip(call.results, views, strict=True):
        if not code.knows(result):
            code.bind(result, view)
    return True


def _lines_into_memory(
    code: Code, call: Call, buffers: Buffers, new: dict[Value, str]
) -> list[str]:
    """Lines that write results into arrays; among them, those that make these arrays: `new`."""
    if is_of_numbers(call) and buffers.array_of(call.results[0]) is None:
        number = _arithmetic(code, call)
        return [f"{code.local(call.results[0])} = {code.function(np.asarray)}({number})"]
    outs = named_results(code, call, buffers, new)
    if isinstance(call.fun, Chain):
        return [*new.values(), *lines_in_blocks(code, call, outs)]
    return [*new.values(), *_selected(code, call, *outs)]


def named_results(code: Code, call: Call, buffers: Buffers, new: dict[Value, str]) -> list[str]:
    """Names for the arrays of a call's results; lines make those that are `new` in each call."""
    for result in call.results:
        array = buffers.array_of(result)
        if array is not None:
            code.bind(result, array)
        else:
            new[result] = f"{code.local(result)} = {_new(code, result)}"
    return [code.text(result) for result in call.results]


def _new(code: Code, result: Value) -> str:
    """An expression for a new array, in the same order in memory as the traced one."""
    order = result.order
    if result.nbytes >= RECYCLED:
        return f"{code.name(Recycled(result.shape, result.dtype, order), 'recycled')}()"
    return f"empty({code.text(result.shape)}, {code.name(result.dtype)}, {order!r})"


def _shape_checks(code: Code, call: Call, late: bool) -> list[str]:
    """Lines that give up where a result has another shape than while tracing.

    If it is too `late` for another program to take over, that is an error.
    """
    if call.kind == "effect" or op_of(call.fun).static_shape:
        return []
    error = TraceError(
        f"{call.location}: {name_of(call.fun)} returned another shape than while tracing, and what "
        "outlives the call has changed already: leave it out of the compiled function"
    )
    way_out = code.name(error, "error") if late else "Diverged"
    return [
        f"if {code.text(r)}.shape != {code.text(r.shape)}: raise {way_out}" for r in call.results
    ]


# -- instruction selection


def _selected(code: Code, call: Call, out: str) -> list[str]:
    """Lines that write the result of a call into an array."""
    fun, pattern = call.fun, op_of(call.fun).pattern
    if call.kind == "effect":  # random numbers
        return [f"{code.function(fun)}(dtype={code.text(call.kwargs['dtype'])}, out={out})"]
    if is_of_numbers(call):
        return [f"{out}[()] = {_arithmetic(code, call)}"]
    if is_product(call):
        return [_product(code, call, out)]
    if isinstance(fun, np.ufunc):
        return [ufunc_line(code, call, out)]
    if pattern == "reduction" and isinstance(getattr(fun, "__self__", None), np.ufunc):
        return _reduced(code, call, out)
    if fun is array_of:
        return [f"{out}[()] = {_number(code, call.args[0])}"]
    if pattern == "fill":
        given = (*call.args[1:2], 0)[0] if fun is np.full_like else int(fun is np.ones_like)
        return [f"{out}[...] = {code.text(call.kwargs.get('fill_value', given))}"]
    if pattern == "copy" or fun is spread:
        return [f"{out}[...] = {code.text(call.args[0])}"]
    if pattern == "reshape":
        (x, *_) = call.args
        return [f"{out}.reshape({x.shape})[...] = {code.text(x)}"]
    if pattern == "select":
        mask, x, y = map(code.text, call.args)
        copy = f"{code.function(np.copyto)}({out}, {x}, 'unsafe', {mask})"
        return [f"{out}[...] = {y}", copy]
    return [_with_out(code, call, out)]


def _with_out(code: Code, call: Call, out: str) -> str:
    args = [*map(code.text, call.args)]
    position = position_of_out(call.fun)
    args[position:] = [out, *args[position + 1 :]] if len(args) > position else [f"out={out}"]
    options = [f"{k}={code.text(v)}" for k, v in call.kwargs.items()]
    return f"{code.function(call.fun)}({', '.join([*args, *options])})"


def _product(code: Code, call: Call, out: str) -> str:
    (x, y), (result,) = call.args, call.results
    if not result.is_c_contiguous:  # which `dot` asks for: the transposed one is
        right, out = code.attribute(x, "T"), code.attribute(result, "T")
        return f"{code.attribute(y, 'dot' if call.fun is np.inner else 'T.dot')}({right}, {out})"
    right = code.attribute(y, "T") if call.fun is np.inner and y.ndim == 2 else code.text(y)
    return f"{code.attribute(x, 'dot')}({right}, {out})"


_SIGNS = {np.add: "+", np.subtract: "-", np.multiply: "*", np.divide: "/"}


def _arithmetic(code: Code, call: Call) -> str:
    """An expression for the result of a call that `is_of_numbers`, a number of NumPy's."""
    dtype = call.results[0].dtype.type
    x, y = [
        f"{code.text(a)}[()]" if isinstance(a, Value) else code.name(dtype(a)) for a in call.args
    ]
    return f"{x} {_SIGNS[call.fun]} {y}"


_OF_FLOATS: Mapping[Function, str] = {
    operator.add: "{} + {}", operator.sub: "{} - {}", operator.mul: "{} * {}",
    operator.truediv: "{} / {}", operator.gt: "{} > {}", power: "{} ** {}",
}  # fmt: skip


def _of_floats(code: Code, call: Call) -> str:
    """A line for a call on numbers, whose result is a float of Python's: in a tenth of the time."""
    operands = [_number(code, a) for a in call.args]
    if call.fun is math.sqrt:
        right = f"{code.function(math.sqrt)}({operands[0]})"
    else:
        right = _OF_FLOATS[call.fun].format(*operands)
    return f"{code.local(call.results[0])} = {right}"


def _number(code: Code, operand: Any) -> str:
    """An expression for a number: a float, or the element of an array without axes."""
    is_array = isinstance(operand, Value) and code.fixed(operand) is not None
    text = f"{code.attribute(operand, 'item')}()" if is_array else code.text(operand)
    return f"({text})" if text.startswith("-") else text


def _reduced(code: Code, call: Call, out: str) -> list[str]:
    """A reduction, its options by position, which is faster; or what is faster still.

    BLAS sums a (64, 10) array by rows in 0.5 us, by columns in 0.4, where NumPy takes 3.7 and 1.5.
    The maximum of each row takes 8.2, that of each column of a transposed copy 1.5; if the array
    lies by columns, NumPy takes half as long as by a copy, and for few rows four fifths.
    """
    given = {"axis": 0, "dtype": None} | dict(zip(("array", "axis", "dtype"), call.args))
    given |= call.kwargs
    keepdims = bool(given.pop("keepdims", False))
    x = call.args[0]
    if not isinstance(x, Value) or given.keys() != {"array", "axis", "dtype"}:
        return [_with_out(code, call, out)]
    ufunc = call.fun.__self__
    plain = x.ndim == 2 and x.dtype.char in "fd" and given["dtype"] in (None, x.dtype)
    plain = plain and x.size > 1  # a product of two numbers keeps -0.0, of which the sum is 0.0
    by_columns, by_rows = (plain and given["axis"] in (i, (i,), i - 2) for i in (0, 1))
    narrow = x.ndim == 2 and 0 < x.shape[1] <= NARROW and x.size <= 1 << 16
    if by_columns and ufunc is np.add and not keepdims:
        return [f"{code.name(np.ones(x.shape[0], x.dtype).dot, 'ones_dot')}({code.text(x)}, {out})"]
    if by_rows and narrow and ufunc is np.add:
        ones = code.name(np.ones(x.shape[1], x.dtype), "ones")
        return [f"{code.attribute(x, 'dot')}({ones}, {code.vector(out)})"]
    many = x.ndim == 2 and x.shape[0] >= MANY and x.shape[1] > 1 and x.order == "C"
    if by_rows and narrow and many and ufunc in (np.maximum, np.minimum):
        turned = code.name(np.empty(x.shape[::-1], x.dtype), "turned")
        function = code.function(call.fun)
        return [
            f"{turned}[...] = {code.attribute(x, 'T')}",
            f"{function}({turned}, 0, None, {code.vector(out)})",
        ]
    axis, dtype = code.text(given["axis"]), code.text(given["dtype"])
    keep = ", True" if keepdims else ""
    return [f"{code.function(call.fun)}({code.text(x)}, {axis}, {dtype}, {out}{keep})"]


def _plain_lines(code: Code, call: Call) -> list[str]:
    """A call as it was made: what it returns is new each time."""
    fun, args = call.fun, call.args
    if fun is assign_at:
        return [_assignment(code, call)]
    if op_of(fun).pattern == "number":
        return [_of_floats(code, call)]
    if fun is bool:
        value, decision = args
        return [f"if {'not ' * decision}{code.text(value)}: raise Diverged"]
    if fun is getitem:
        right = f"{code.text(args[0])}[{code.text(args[1])}]"
    elif isinstance(fun, np.ufunc) and call.target is not None and "out" in call.kwargs:
        options = {k: v for k, v in call.kwargs.items() if k != "out"}
        plain = Call("pure", fun, args, options, [call.target])
        return [ufunc_line(code, plain, code.text(call.kwargs["out"]))]
    elif isinstance(fun, Attribute):
        right = code.attribute(args[0], name_of(fun))
    else:
        right = code.call(fun, args, call.kwargs)
    if not call.results:
        return [right]
    names = [code.local(r) if r in call.results else "_" for r in call.returned]
    if not (call.nested or call.returned[0].scalar):
        return [f"{names[0]} = {right}"]
    if isinstance(fun, MakesNew):
        return [f"{', '.join(names)}, = {right}"]
    return [f"{', '.join(names)}, = {code.function(arrays_in)}({right})"]


def _assignment(code: Code, call: Call) -> str:
    array, index, value = call.args
    fixed = code.fixed(array)
    basic = not values_in(index)
    if fixed is not None and basic:
        view = fixed[index]
        if isinstance(view, np.ndarray) and np.may_share_memory(view, fixed):
            return f"{code.name(view, 'part')}[...] = {code.text(value)}"
    return f"{code.text(array)}[{code.text(index)}] = {code.text(value)}"
