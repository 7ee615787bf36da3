"""NumPy's element-wise functions in LLVM's code, for scalars and vectors.

`emit` writes a function's code where a builder stands; `is_known` tells for which functions and
dtypes it can. Results are NumPy's, bit for bit where IEEE 754 says what they are; the elementary
functions differ from the right value by at most 2 ulp. Neither numbers nor NaNs, infinities,
denormals and the signs of zeros are given up for speed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from . import division, elementary, normal, trigonometry
from .lanes import Lanes, inlined, select, typed

_DTYPES = {
    np.dtype(np.bool): ir.IntType(1),
    np.dtype(np.int32): ir.IntType(32),
    np.dtype(np.int64): ir.IntType(64),
    np.dtype(np.float32): ir.FloatType(),
    np.dtype(np.float64): ir.DoubleType(),
}


class _Function(NamedTuple):
    kinds: str  # of the operands' dtypes
    body: Callable[..., Lanes]


def is_known(fun: Any, dtypes: Sequence[Any]) -> bool:
    """Tell whether `emit` knows a function of operands of these dtypes.

    >>> is_known(np.tanh, [np.float32]), is_known(np.tanh, [np.int64]), is_known(np.sort, ["f4"])
    (True, False, False)
    """
    entry = _entry(fun)
    if entry is None:
        return False
    kinds = [np.dtype(dtype) for dtype in dtypes]
    numbers = kinds[1:] if fun is np.where else kinds
    return (
        all(dtype in _DTYPES for dtype in kinds)
        and len(set(numbers)) == 1
        and numbers[0].kind in entry.kinds
        and (fun is not np.where or kinds[0] == np.bool)
    )


def emit(builder: ir.IRBuilder, fun: Any, *operands: ir.Value) -> ir.Value:
    """Write the code of an element-wise function, and return its result.

    The operands are scalars, or vectors with the same number of lanes; all have one type, except
    for the condition of `np.where`. A bool is an integer of one bit, in results too.
    """
    entry = _entry(fun)
    assert entry is not None, fun
    return entry.body(*[Lanes(builder, value) for value in operands]).value


def type_of(dtype: Any, lanes: int | None = None) -> ir.Type:
    """The LLVM type of a dtype's numbers: of scalars, or of vectors with so many lanes.

    >>> print(type_of(np.float32, 8), type_of(bool))
    <8 x float> i1
    """
    element = _DTYPES[np.dtype(dtype)]
    return element if lanes is None else ir.VectorType(element, lanes)


def cast(builder: ir.IRBuilder, value: ir.Value, dtype: Any) -> ir.Value:
    """Convert to another dtype, as `np.ndarray.astype` does.

    Where NumPy's result depends on the processor, as that of NaN in an integer, so does this one.
    """
    x = Lanes(builder, value)
    to = typed(_DTYPES[np.dtype(dtype)], value.type)
    if to == value.type:
        return value
    if np.dtype(dtype) == np.bool:
        return x.compare("!=", 0).value
    target = Lanes(builder, ir.Constant(to, None))
    if x.is_float and target.is_float:
        return (x.widened() if target.bits > x.bits else x.narrowed()).value
    if x.is_float:
        return builder.fptosi(value, to)
    if target.is_float:
        return (builder.uitofp if x.bits == 1 else builder.sitofp)(value, to)
    if target.bits < x.bits:
        return builder.trunc(value, to)
    return (builder.zext if x.bits == 1 else builder.sext)(value, to)


# -- arithmetic


def _add(x: Lanes, y: Lanes) -> Lanes:
    return x | y if x.bits == 1 else x + y


def _multiply(x: Lanes, y: Lanes) -> Lanes:
    return x & y if x.bits == 1 else x * y


def _sign(x: Lanes) -> Lanes:
    zero_or_nan = abs(x) if x.is_float else x  # NumPy's sign of -0.0 is 0.0
    return select(x > 0, 1, select(x < 0, -1, zero_or_nan))


def _extremum(operator: str, ignores_nan: bool) -> Callable[[Lanes, Lanes], Lanes]:
    """The function that takes `x` where it is so compared with `y`; in doubt, as for zeros, `x`."""

    def extremum(x: Lanes, y: Lanes) -> Lanes:
        first = x.compare(operator, y)
        if x.is_float:
            first = first | (y if ignores_nan else x).is_nan()
        return select(first, x, y)

    return extremum


def _clip(x: Lanes, least: Lanes, most: Lanes) -> Lanes:
    """x within bounds; a bound that is NaN makes the result NaN."""
    larger = select((x >= least) | x.is_nan() if x.is_float else x >= least, x, least)
    return select(
        (larger <= most) | larger.is_nan() if x.is_float else larger <= most, larger, most
    )


def _degrees(x: Lanes) -> Lanes:
    return x * (x.like(180.0) / math.pi)  # the factor is rounded to the format, as NumPy's


def _radians(x: Lanes) -> Lanes:
    return x * (x.like(math.pi) / 180.0)


def _heaviside(x: Lanes, half: Lanes) -> Lanes:
    return select(x > 0, 1, select(x < 0, 0, select(x.is_nan(), x, half)))


def _power(x: Lanes, y: Lanes) -> Lanes:
    """x**y, by simpler code where y is one of the usual constants."""
    if isinstance(y.value, ir.Constant):
        numbers = y.value.constant
        lanes = {c.constant for c in numbers} if isinstance(numbers, list) else {numbers}
        simple = _POWERS.get(lanes.pop()) if len(lanes) == 1 else None
        if simple is not None:
            return simple(x)
    return inlined("power", elementary.power, x, y)


def _sqrt(x: Lanes) -> Lanes:
    return x.intrinsic("sqrt")


_POWERS: dict[float, Callable[[Lanes], Lanes]] = {
    -1.0: lambda x: 1 / x,
    0.5: lambda x: select(x.compare("==", -np.inf), np.inf, _sqrt(x) + 0),
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
}


# -- conditions


def _comparison(operator: str) -> _Function:
    return _Function("bif", lambda x, y: x.compare(operator, y))


def _truth(x: Lanes) -> Lanes:
    return x if x.bits == 1 else x.compare("!=", 0)


def _bitwise(operation: Callable[..., Lanes]) -> _Function:
    return _Function("bi", operation)


def _logical(operation: Callable[..., Lanes]) -> _Function:
    return _Function("bif", lambda *operands: operation(*map(_truth, operands)))


# -- the table


def _entry(fun: Any) -> _Function | None:
    name = fun.__name__ if isinstance(fun, np.ufunc) else ""
    # A program has a function of SciPy's only where that is imported.
    if name in _SCIPYS and fun is getattr(sys.modules.get("scipy.special"), name, None):
        return _SCIPYS[name]
    return _FUNCTIONS.get(fun) if callable(fun) else None


def _division(body: Callable[..., Lanes]) -> _Function:
    return _Function("if", lambda x, y: inlined(body.__name__, body, x, y))


def _elementary(body: Callable[..., Lanes]) -> _Function:
    """A function whose code is long, and therefore written once in a module."""
    return _Function("f", lambda *operands: inlined(body.__name__, body, *operands))


_FUNCTIONS: dict[Any, _Function] = {
    np.positive: _Function("if", lambda x: x),
    np.copy: _Function("bif", lambda x: x),
    np.negative: _Function("if", lambda x: -x),
    np.absolute: _Function("if", abs),
    np.fabs: _Function("f", abs),
    np.sign: _Function("if", _sign),
    np.add: _Function("bif", _add),
    np.subtract: _Function("if", lambda x, y: x - y),
    np.multiply: _Function("bif", _multiply),
    np.true_divide: _Function("f", lambda x, y: x / y),
    np.remainder: _division(division.remainder),
    np.fmod: _division(division.fmod),
    np.floor_divide: _division(division.floor_divide),
    np.square: _Function("if", lambda x: x * x),
    np.reciprocal: _Function("f", lambda x: 1 / x),
    np.sqrt: _Function("f", _sqrt),
    np.maximum: _Function("if", _extremum(">=", ignores_nan=False)),
    np.minimum: _Function("if", _extremum("<=", ignores_nan=False)),
    np.fmax: _Function("if", _extremum(">=", ignores_nan=True)),
    np.fmin: _Function("if", _extremum("<=", ignores_nan=True)),
    np.equal: _comparison("=="),
    np.not_equal: _comparison("!="),
    np.less: _comparison("<"),
    np.less_equal: _comparison("<="),
    np.greater: _comparison(">"),
    np.greater_equal: _comparison(">="),
    np.where: _Function("bif", select),
    np.clip: _Function("if", _clip),
    np.logical_and: _logical(lambda x, y: x & y),
    np.logical_or: _logical(lambda x, y: x | y),
    np.logical_xor: _logical(lambda x, y: x ^ y),
    np.logical_not: _logical(lambda x: ~x),
    np.bitwise_and: _bitwise(lambda x, y: x & y),
    np.bitwise_or: _bitwise(lambda x, y: x | y),
    np.bitwise_xor: _bitwise(lambda x, y: x ^ y),
    np.invert: _bitwise(lambda x: ~x),
    np.isnan: _Function("f", lambda x: x.is_nan()),
    np.isinf: _Function("f", lambda x: abs(x).compare("==", np.inf)),
    np.isfinite: _Function("f", lambda x: abs(x) < np.inf),
    np.signbit: _Function("f", lambda x: x.as_integers() < 0),
    np.copysign: _Function("f", lambda x, y: x.with_sign_of(y)),
    np.floor: _Function("f", lambda x: x.intrinsic("floor")),
    np.ceil: _Function("f", lambda x: x.intrinsic("ceil")),
    np.trunc: _Function("f", lambda x: x.intrinsic("trunc")),
    np.rint: _Function("f", lambda x: x.intrinsic("roundeven")),
    np.exp: _elementary(elementary.exp),
    np.expm1: _elementary(elementary.expm1),
    np.tanh: _elementary(elementary.tanh),
    np.exp2: _elementary(elementary.exp2),
    np.cosh: _elementary(elementary.cosh),
    np.sinh: _elementary(elementary.sinh),
    np.arctanh: _elementary(elementary.arctanh),
    np.log: _elementary(elementary.log),
    np.log1p: _elementary(elementary.log1p),
    np.log2: _elementary(elementary.log2),
    np.log10: _elementary(elementary.log10),
    np.logaddexp: _elementary(elementary.logaddexp),
    np.power: _Function("f", _power),
    np.float_power: _Function("f", _power),
    np.heaviside: _Function("f", _heaviside),
    np.degrees: _Function("f", _degrees),
    np.rad2deg: _Function("f", _degrees),
    np.radians: _Function("f", _radians),
    np.deg2rad: _Function("f", _radians),
    np.arcsinh: _elementary(elementary.arcsinh),
    np.arccosh: _elementary(elementary.arccosh),
    np.cbrt: _elementary(elementary.cbrt),
    np.logaddexp2: _elementary(elementary.logaddexp2),
    np.tan: _elementary(trigonometry.tan),
    np.hypot: _elementary(elementary.hypot),
    np.sin: _elementary(trigonometry.sin),
    np.cos: _elementary(trigonometry.cos),
    np.arctan: _elementary(trigonometry.arctan),
    np.arctan2: _elementary(trigonometry.arctan2),
    np.arcsin: _elementary(trigonometry.arcsin),
    np.arccos: _elementary(trigonometry.arccos),
}

_SCIPYS = {body.__name__: _elementary(body) for body in (normal.erf, normal.erfc, normal.ndtr)}
