"""The cheapest line of Python for a call of a ufunc."""

from __future__ import annotations

import numpy as np

from ..code import Code
from ..ir import Call, Value
from ..ops import fits, ufunc_dtypes


def ufunc_line(code: Code, call: Call, out: str) -> str:
    """A call of a ufunc, with numbers as 0-d arrays of the dtype in which it computes."""
    fun, args = call.fun, call.args
    dtypes = ufunc_dtypes(fun, args, call.kwargs.get("dtype"))
    operands = [
        code.text(a) if isinstance(a, Value) or not fits(a, d) else code.name(np.asarray(a, d))
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
