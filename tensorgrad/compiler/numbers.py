"""Numbers of a traced function that its program computes, such as counts of steps."""

from __future__ import annotations

import math
import operator
from typing import Any, TypeAlias

from ..engine.typing import Function
from .functions import array_of, power
from .ir import Value

Operand: TypeAlias = "Number | float"


class Number:
    """A number of float64, with Python's arithmetic: `record` notes what is done with it.

    Code that computes with Python's numbers can so be traced as it is.
    """

    __slots__ = ("_record", "value")

    def __init__(self, record: Function, value: Value) -> None:
        self._record = record
        self.value = value

    def _called(self, fun: Function, *args: Operand) -> Number:
        given = [a.value if isinstance(a, Number) else float(a) for a in args]
        return Number(self._record, self._record(fun, given).value)

    def __add__(self, other: Operand) -> Number:
        return self._called(operator.add, self, other)

    def __radd__(self, other: Operand) -> Number:
        return self._called(operator.add, other, self)

    def __sub__(self, other: Operand) -> Number:
        return self._called(operator.sub, self, other)

    def __rsub__(self, other: Operand) -> Number:
        return self._called(operator.sub, other, self)

    def __mul__(self, other: Operand) -> Number:
        return self._called(operator.mul, self, other)

    def __rmul__(self, other: Operand) -> Number:
        return self._called(operator.mul, other, self)

    def __truediv__(self, other: Operand) -> Number:
        return self._called(operator.truediv, self, other)

    def __rtruediv__(self, other: Operand) -> Number:
        return self._called(operator.truediv, other, self)

    def __pow__(self, other: Operand) -> Number:
        return self._called(power, self, other)

    def __gt__(self, other: Operand) -> Number:
        return self._called(operator.gt, self, other)

    def sqrt(self) -> Number:
        """The square root."""
        return self._called(math.sqrt, self)

    def as_array(self, dtype: Any) -> Any:
        """A traced array without axes."""
        return self._record(array_of, (self.value, dtype))
