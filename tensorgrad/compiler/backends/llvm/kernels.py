"""Kernels: what native code computes in one go. A kernel is the function of a call of a program.

A `Nest` is a loop nest: for each index of its shape it runs a list of instructions on registers.
A `Product` multiplies two matrices. Both address memory by numbered pointers, each of which stands
for a value of the program: kernels that differ in these values alone share their code.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ....engine.registry import name_of
from ....engine.typing import Function
from ... import functions
from ...program import Value

DType = np.dtype[Any]


class Access(NamedTuple):
    """Elements of one dtype, at a pointer and so many elements further for each step of an axis."""

    pointer: int
    dtype: DType
    strides: tuple[int, ...]


class Load(NamedTuple):
    """A register with an element of memory."""

    access: Access


class Number(NamedTuple):
    """A register with a number that is always the same, given by its bits: -0.0 is not 0.0."""

    bits: bytes
    dtype: DType

    @property
    def number(self) -> Any:
        """The number, as Python's."""
        return np.frombuffer(self.bits, self.dtype)[0].item()


class Cast(NamedTuple):
    """A register with the value of another, in a dtype."""

    register: int
    dtype: DType


class Operation(NamedTuple):
    """A register with the result of an element-wise function."""

    fun: Function
    registers: tuple[int, ...]
    dtype: DType


class Store(NamedTuple):
    """A register that is written to memory."""

    access: Access
    register: int


class Reduction(NamedTuple):
    """The values of a register along some axes, combined by a binary function."""

    access: Access  # whose strides are 0 along these axes
    register: int
    fun: np.ufunc
    axes: tuple[int, ...]


Instruction = Load | Number | Cast | Operation


class Nest(functions.Kernel):
    """A loop nest over a shape; all indices are independent but for the reductions."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__([])
        self.shape = shape
        self.pointers: list[Value] = []
        self.instructions: list[Instruction] = []
        self.stores: list[Store] = []
        self.reductions: list[Reduction] = []

    def keep_stores(self, stores: Iterable[Store]) -> None:
        """Let these be its stores, and forget pointers that nothing uses any more."""
        self.stores = [*stores]
        used = sorted({access.pointer for access in self.accesses})
        new = {old: i for i, old in enumerate(used)}
        self.pointers = [self.pointers[old] for old in used]

        def moved(part: Any) -> Any:
            access = part.access
            return part._replace(access=access._replace(pointer=new[access.pointer]))

        self.instructions = [moved(i) if isinstance(i, Load) else i for i in self.instructions]
        self.stores, self.reductions = [*map(moved, self.stores)], [*map(moved, self.reductions)]

    @property
    def __name__(self) -> str:
        """The names of its functions."""
        funs = [i.fun for i in self.instructions if isinstance(i, Operation)]
        names = [name_of(fun) for fun in (*funs, *(r.fun.reduce for r in self.reductions))]
        return f"nest[{', '.join(names or ['copy'])}]"

    @property
    def key(self) -> Hashable:
        """What decides its code."""
        code = (*self.instructions, *self.stores, *self.reductions)
        return "nest", self.shape, tuple((type(part), part) for part in code)

    @property
    def accesses(self) -> list[Access]:
        """All places in memory that it uses."""
        loads = [i.access for i in self.instructions if isinstance(i, Load)]
        return [*loads, *(s.access for s in self.stores), *(r.access for r in self.reductions)]

    @property
    def loaded(self) -> list[Value]:
        """The values that it reads."""
        loads = [i.access for i in self.instructions if isinstance(i, Load)]
        return [self.pointers[access.pointer] for access in loads]

    @property
    def written(self) -> list[Value]:
        """The values that it writes."""
        accesses = [*(s.access for s in self.stores), *(r.access for r in self.reductions)]
        return [self.pointers[access.pointer] for access in accesses]


class Product(functions.Kernel):
    """A matrix product: the pointers are the two operands, and the result."""

    __name__ = "product"

    def __init__(
        self, left: Matrix, right: Matrix, result: Matrix, pointers: Sequence[Value]
    ) -> None:
        super().__init__([])
        self.left, self.right, self.result = left, right, result
        self.pointers = pointers
        self.dtype = pointers[0].dtype

    @property
    def key(self) -> Hashable:
        """What decides its code."""
        return "product", self.left, self.right, self.result, self.dtype

    @property
    def loaded(self) -> Sequence[Value]:
        """The values that it reads."""
        return self.pointers[:2]

    @property
    def written(self) -> Sequence[Value]:
        """The values that it writes."""
        return self.pointers[2:]


class Matrix(NamedTuple):
    """A matrix in memory: the numbers of rows and columns, and the elements between them."""

    shape: tuple[int, int]
    strides: tuple[int, int]


Kernel = Nest | Product
