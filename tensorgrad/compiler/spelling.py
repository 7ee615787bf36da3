"""The cheapest way to write each call as a line of Python, into an array that is there already.

On small arrays the way decides (4x4, float32, nanoseconds): `a.dot(b, out)` takes 280, `np.matmul`
830; an operand that is a 0-d array 350, a Python number 790; `ones.dot(g, out)` 320,
`np.add.reduce(g)` 740.
"""

from __future__ import annotations

import builtins
import itertools
import keyword
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np

from ..engine.registry import name_of, position_of_out
from ..engine.typing import Array, Function
from .functions import (
    COPIES,
    JOINS,
    LIKE,
    ON_NUMBERS,
    PRODUCTS,
    RESHAPES,
    WITH_OUT,
    Attribute,
    MakesNew,
    array_of,
    assign_at,
    getitem,
    power,
    spread,
)
from .program import ARRAYS, Call, Value, mapped, values_in


class Code:
    """Lines of Python, and the objects that their names stand for."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = dict(names)
        self._by_id = {id(thing): name for name, thing in names.items()}
        self._numbers = itertools.count(1)
        self._values: dict[Value, str] = {}
        self._full: dict[Any, Array] = {}

    def name(self, thing: Any, wish: str = "c") -> str:
        """A name for an object, always the same."""
        name = self._by_id.get(id(thing))
        if name is None:
            wish = wish if wish.isidentifier() else "c"
            name = wish = f"{wish}_" if _is_reserved(wish) else wish
            while name in self.names:
                name = f"{wish}_{next(self._numbers)}"
            self.names[name] = thing
            self._by_id[id(thing)] = name
        return name

    def bind(self, value: Value, array: Array) -> None:
        """Let a value be an array that stays where it is."""
        self._values[value] = self.name(array, "b")

    def local(self, value: Value, name: str | None = None) -> str:
        """Let a value be a local variable."""
        self._values[value] = name or f"v{len(self._values)}"
        return self._values[value]

    def knows(self, value: Value) -> bool:
        """Whether the value has a name."""
        return value in self._values

    def fixed(self, value: Value) -> Array | None:
        """The array that a value always is, or None."""
        return self.names.get(self._values[value])

    def text(self, part: Any) -> str:
        """An expression for an argument."""
        if isinstance(part, Value):
            return self._values[part]
        if part is None or part is ... or type(part) in (bool, int, str):
            return "..." if part is ... else repr(part)
        if type(part) is float and part - part == 0:
            return repr(part)
        if type(part) is slice:
            return f"slice({self.text(part.start)}, {self.text(part.stop)}, {self.text(part.step)})"
        if type(part) in (tuple, list) and values_in(part):
            inner = ", ".join(map(self.text, part))
            return f"[{inner}]" if type(part) is list else f"({inner},)"
        if type(part) is tuple and all(type(p) in (int, type(None)) for p in part):
            return repr(part)
        return self.name(part)

    def vector(self, array: str) -> str:
        """An expression for the elements of a contiguous array, in a row."""
        fixed = self.names.get(array)
        if fixed is None:
            return f"{array}.reshape(-1)"
        return array if fixed.ndim == 1 else self.name(fixed.reshape(-1), "row")

    def full(self, number: Any, like: Value) -> str:
        """A name for an array of a number, in the shape and dtype of a contiguous one."""
        key = like.shape, like.strides, like.dtype, repr(number)
        if key not in self._full:
            self._full[key] = np.full(like.shape, number, like.dtype, like.order)
        return self.name(self._full[key], "all")

    def call(self, fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """An expression for a call."""
        given = [*map(self.text, args), *(f"{k}={self.text(v)}" for k, v in kwargs.items())]
        return f"{self.function(fun)}({', '.join(given)})"

    def function(self, fun: Function) -> str:
        """A name for a function."""
        return self.name(fun, re.sub(r"\W", "_", name_of(fun).strip("<>'")))

    def attribute(self, value: Value, name: str) -> str:
        """An attribute of an array, or of its attribute: a view, or a method.

        If the array stays, it is looked up once.
        """
        array = self.fixed(value)
        if array is None:
            return f"{self.text(value)}.{name}"
        bound = f"{self.text(value)}_{name.replace('.', '_')}"
        self.names.setdefault(bound, attrgetter(name)(array))
        return bound

    def defined(self, source: str) -> Function:
        """The function that the source defines, with all names as its global variables."""
        made: dict[str, Function] = {}
        exec(
            source, {**self.names, "__name__": __name__}, made
        )  # many variables of a closure compile slowly
        return made.popitem()[1]


def function(name: str, parameters: Sequence[str], lines: Sequence[str]) -> str:
    """The source of a function."""
    return "\n".join([f"def {name}({', '.join(parameters)}):", *indented(lines or ["pass"])])


def indented(lines: Sequence[str]) -> list[str]:
    """The lines, one level further in."""
    return ["    " + line for line in lines]


def _is_reserved(name: str) -> bool:
    """Whether the lines of a program may use a name for something else."""
    names = r"[agitv]\d*|args[_\d]*|arrays|base|chain|high|low|results|start|stop|thread|times"
    local = re.fullmatch(names, name)
    return local is not None or keyword.iskeyword(name) or hasattr(builtins, name)


# Lines that write the results of a call into arrays, given the expressions for these.
Spelling: TypeAlias = Callable[..., list[str]]


def spelling(call: Call) -> Spelling | None:
    """How to write the result of a call into an array, or None if that cannot be."""
    if len(call.results) != 1 or len(call.returned) != 1:
        return None
    fun = call.fun
    if call.kind == "effect":  # random numbers
        dtype = call.kwargs["dtype"]
        return lambda code, out: [f"{code.function(fun)}(dtype={code.text(dtype)}, out={out})"]
    if isinstance(fun, np.ufunc) and fun.nout == 1:
        if is_of_numbers(call):
            return lambda code, out: [f"{out}[()] = {arithmetic(code, call)}"]
        if is_product(call):
            return lambda code, out: [_product(code, call, out)]
        if not call.kwargs.keys() - {"dtype", "where", "casting"}:
            return lambda code, out: [ufunc_line(code, call, out)]
        return None
    if fun in PRODUCTS:
        return (lambda code, out: [_product(code, call, out)]) if is_product(call) else None
    if isinstance(owner := getattr(fun, "__self__", None), np.ufunc):
        if owner.nout == 1 and name_of(fun).endswith(".reduce"):
            return lambda code, out: _reduced(code, call, out)
        if owner.nout == 1 and name_of(fun).endswith((".accumulate", ".outer", ".reduceat")):
            return lambda code, out: [_with_out(code, call, out)]
        return None
    if fun in LIKE:
        given = (*call.args[1:2], 0)[0] if fun is np.full_like else int(fun is np.ones_like)
        fill = call.kwargs.get("fill_value", given)
        return lambda code, out: [f"{out}[...] = {code.text(fill)}"]
    if fun is array_of:
        return lambda code, out: [f"{out}[()] = {_number(code, call.args[0])}"]
    if fun is spread:
        return lambda code, out: [f"{out}[...] = {code.text(call.args[0])}"]
    first = call.args[0] if call.args else None
    if fun in COPIES and isinstance(first, Value) and first.shape == call.results[0].shape:
        return lambda code, out: [f"{out}[...] = {code.text(first)}"]
    if fun in RESHAPES and _order(call) == "C" and isinstance(first, Value):
        return lambda code, out: [f"{out}.reshape({first.shape})[...] = {code.text(first)}"]
    if fun is np.where and len(call.args) == 3 and not call.kwargs:
        if not (isinstance(first, Value) and first.dtype.kind == "b"):
            return None
        return lambda code, out: _where(code, call, out)
    if fun in WITH_OUT and not (fun in JOINS and "dtype" in call.kwargs):
        return lambda code, out: [_with_out(code, call, out)]
    return None


def _with_out(code: Code, call: Call, out: str) -> str:
    args = [*map(code.text, call.args)]
    position = position_of_out(call.fun)
    args[position:] = [out, *args[position + 1 :]] if len(args) > position else [f"out={out}"]
    options = [f"{k}={code.text(v)}" for k, v in call.kwargs.items()]
    return f"{code.function(call.fun)}({', '.join([*args, *options])})"


def is_product(call: Call) -> bool:
    """Whether BLAS does it: one product of matrices or vectors of one floating dtype."""
    if call.fun not in PRODUCTS or call.kwargs.keys() - {"order"} or len(call.args) != 2:
        return False
    x, y = call.args
    if not (isinstance(x, Value) and isinstance(y, Value)):
        return False
    (result,) = call.results
    return bool(
        x.dtype == y.dtype == result.dtype
        and x.dtype.char in "fd"
        and {x.ndim, y.ndim} <= {1, 2}
        and result.is_contiguous
    )


def _product(code: Code, call: Call, out: str) -> str:
    (x, y), (result,) = call.args, call.results
    if not result.is_c_contiguous:  # which `dot` asks for: the transposed one is
        right, out = code.attribute(x, "T"), code.attribute(result, "T")
        return f"{code.attribute(y, 'dot' if call.fun is np.inner else 'T.dot')}({right}, {out})"
    right = code.attribute(y, "T") if call.fun is np.inner and y.ndim == 2 else code.text(y)
    return f"{code.attribute(x, 'dot')}({right}, {out})"


_SIGNS = {np.add: "+", np.subtract: "-", np.multiply: "*", np.divide: "/"}


def is_of_numbers(call: Call) -> bool:
    """Whether it is arithmetic of arrays without axes, which NumPy's scalars do in a third."""
    if call.fun not in _SIGNS or call.kwargs or call.kind != "pure":
        return False
    (result,) = call.results
    return (
        result.ndim == 0
        and result.dtype.char in "fd"
        and all(
            a.dtype == result.dtype if isinstance(a, Value) else type(a) in (int, float)
            for a in call.args
        )
    )


def arithmetic(code: Code, call: Call) -> str:
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


def ufunc_line(code: Code, call: Call, out: str) -> str:
    """A call of a ufunc, with numbers as 0-d arrays of the dtype in which it computes."""
    fun: Any = call.fun
    args, dtype = call.args, call.kwargs.get("dtype")
    weak = int, float, complex
    kinds = [
        type(a) if type(a) in weak else getattr(a, "dtype", None) or np.asarray(a).dtype
        for a in args
    ]
    signature = {} if dtype is None else {"signature": (*[None] * len(args), np.dtype(dtype))}
    dtypes = fun.resolve_dtypes((*kinds, None), **signature)
    operands = [
        code.text(a) if isinstance(a, Value) or d is None else code.name(np.asarray(a, d))
        for a, d in zip(args, dtypes)
    ]
    if fun in (np.maximum, np.minimum) and _gains_by_arrays(call):
        like = call.results[0]
        operands = [
            text if isinstance(a, Value) else code.full(a, like) for a, text in zip(args, operands)
        ]
    options = "".join(f", {k}={code.text(v)}" for k, v in call.kwargs.items())
    by_name = "out=" if fun in (np.maximum, np.minimum) else ""  # where else is deprecated
    return f"{code.function(fun)}({', '.join(operands)}, {by_name}{out}{options})"


def _gains_by_arrays(call: Call) -> bool:
    """Whether to compare with an array of a number, rather than the number: in half of the time."""
    (result,) = call.results
    return bool(
        1 < result.size <= 1 << 18  # more would no longer stay in the cache
        and result.is_contiguous
        and not call.kwargs
        and all(
            a.strides == result.strides and a.dtype == result.dtype
            for a in call.args
            if isinstance(a, Value)
        )
        and any(type(a) in (int, float) for a in call.args)
    )


def _reduced(code: Code, call: Call, out: str) -> list[str]:
    """A reduction, its options by position, which is faster; or what is faster still.

    BLAS sums a (64, 10) array by rows in 0.5 us, by columns in 0.4, where NumPy takes 3.7 and 1.5.
    The maximum of each row takes 8.2, that of each column of a transposed copy 1.5.
    """
    given = {"axis": 0, "dtype": None} | dict(zip(("array", "axis", "dtype"), call.args))
    given |= call.kwargs
    keepdims = bool(given.pop("keepdims", False))
    x = call.args[0]
    if not isinstance(x, Value) or given.keys() != {"array", "axis", "dtype"}:
        return [_with_out(code, call, out)]
    ufunc = call.fun.__self__
    plain = x.ndim == 2 and x.dtype.char in "fd" and given["dtype"] in (None, x.dtype)
    by_columns, by_rows = (plain and given["axis"] in (i, (i,), i - 2) for i in (0, 1))
    narrow = x.ndim == 2 and 0 < x.shape[1] <= NARROW and x.size <= 1 << 16
    if by_columns and ufunc is np.add and not keepdims:
        return [f"{code.name(np.ones(x.shape[0], x.dtype).dot, 'ones_dot')}({code.text(x)}, {out})"]
    if by_rows and narrow and ufunc is np.add:
        ones = code.name(np.ones(x.shape[1], x.dtype), "ones")
        return [f"{code.attribute(x, 'dot')}({ones}, {code.vector(out)})"]
    if by_rows and narrow and ufunc in (np.maximum, np.minimum):
        turned = code.name(np.empty(x.shape[::-1], x.dtype), "turned")
        function = code.function(call.fun)
        return [
            f"{turned}[...] = {code.attribute(x, 'T')}",
            f"{function}({turned}, 0, None, {code.vector(out)})",
        ]
    axis, dtype = code.text(given["axis"]), code.text(given["dtype"])
    keep = ", True" if keepdims else ""
    return [f"{code.function(call.fun)}({code.text(x)}, {axis}, {dtype}, {out}{keep})"]


NARROW = 32  # columns


def _order(call: Call) -> str:
    orders = [a for a in call.args if isinstance(a, str)]
    return str(call.kwargs.get("order", orders[0] if orders else "C"))


def _where(code: Code, call: Call, out: str) -> list[str]:
    condition, x, y = map(code.text, call.args)
    return [f"{out}[...] = {y}", f"{code.function(np.copyto)}({out}, {x}, 'unsafe', {condition})"]


def plain_lines(code: Code, call: Call) -> list[str]:
    """A call as it was made: what it returns is new each time."""
    fun, args = call.fun, call.args
    if fun is assign_at:
        return [_assignment(code, call)]
    if fun in ON_NUMBERS:
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


def arrays_in(result: Any) -> list[Array]:
    """The arrays and numbers in nested tuples, lists and dicts, as arrays."""
    found: list[Array] = []
    mapped(result, ARRAYS, lambda a: found.append(np.asarray(a)))
    return found


def _assignment(code: Code, call: Call) -> str:
    array, index, value = call.args
    fixed = code.fixed(array)
    basic = not values_in(index)
    if fixed is not None and basic:
        view = fixed[index]
        if isinstance(view, np.ndarray) and np.may_share_memory(view, fixed):
            return f"{code.name(view, 'part')}[...] = {code.text(value)}"
    return f"{code.text(array)}[{code.text(index)}] = {code.text(value)}"
