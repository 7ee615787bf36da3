"""Kernels: what native code computes in one go. A kernel is the function of a call of a program.

A `Nest` is a loop nest: for each index of its shape it runs a list of instructions on registers.
A `Product` multiplies two matrices, and a `Contraction` along any axes. They address memory by
numbered pointers, each of which stands for a value of the program: kernels that differ in these
values alone share their code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ....engine.interpreter import Requirement
from ....engine.registry import name_of
from ....engine.typing import Array, Function
from ... import functions
from ...ir import Call, Value

DType = np.dtype[Any]


class Access(NamedTuple):
    """Elements of one dtype, at a pointer and so many elements further for each step of an axis."""

    pointer: int
    dtype: DType
    strides: tuple[int, ...]


class Load(NamedTuple):
    """A register with an element of memory."""

    access: Access

    @property
    def dtype(self) -> DType:
        """The dtype of the element."""
        return self.access.dtype


class Gather(NamedTuple):
    """A register with the element of an axis that an index chooses.

    The axis has `size` elements, `step` elements of memory apart. An index less than 0 counts from
    the end; or, where it is clipped, it is 0, and a larger one the last.
    """

    access: Access  # along the other axes
    chosen: int  # the register with the index
    size: int
    step: int
    clips: bool

    @property
    def dtype(self) -> DType:
        """The dtype of the element."""
        return self.access.dtype


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


class Scatter(NamedTuple):
    """A register that a binary function combines with the element that an index chooses.

    `chosen` is the register with the index.
    """

    access: Access  # along the other axes
    register: int
    chosen: int
    size: int
    step: int
    fun: np.ufunc


class Reduction(NamedTuple):
    """The values of a register along some axes, combined by a binary function."""

    access: Access  # whose strides are 0 along these axes
    register: int
    fun: np.ufunc
    axes: tuple[int, ...]


def _span(v: Value, shape: Sequence[int], strides: Sequence[int]) -> functions.Span:
    """The bytes around a value's first element that so many steps along some axes reach."""
    reach = [(n - 1) * step * v.itemsize for n, step in zip(shape, strides, strict=True)]
    low, high = (sum(r for r in reach if (r < 0) == is_low) for is_low in (True, False))
    return functions.Span(v, v.offset + low, v.offset + high + v.itemsize)


_INDEXED = (Gather, Scatter)
Instruction = Load | Gather | Number | Cast | Operation


class Nest(functions.Kernel):
    """A loop nest over a shape; all indices are independent but for the reductions.

    Along the axis `sequence`, if there is one, each index comes after the one before.
    """

    def __init__(self, shape: tuple[int, ...], sequence: int | None = None) -> None:
        super().__init__([])
        self.shape = shape
        self.sequence = sequence
        self.pointers: list[Value] = []
        self.instructions: list[Instruction] = []
        self.stores: list[Store] = []
        self.reductions: list[Reduction] = []
        self.scatters: list[Scatter] = []

    def keep_stores(self, stores: Iterable[Store]) -> None:
        """Let these be its stores, and forget pointers that nothing uses any more."""
        self.stores = [*stores]
        used = sorted({access.pointer for access in self.accesses})
        new = {old: i for i, old in enumerate(used)}
        self.pointers = [self.pointers[old] for old in used]

        def moved(part: Any) -> Any:
            access = part.access
            return part._replace(access=access._replace(pointer=new[access.pointer]))

        in_memory = (Load, Gather)
        self.instructions = [moved(i) if isinstance(i, in_memory) else i for i in self.instructions]
        self.stores, self.reductions = [*map(moved, self.stores)], [*map(moved, self.reductions)]
        self.scatters = [*map(moved, self.scatters)]

    @property
    def __name__(self) -> str:
        """The names of its functions."""
        funs = [i.fun for i in self.instructions if isinstance(i, Operation)]
        funs += [np.take for i in self.instructions if isinstance(i, Gather)]
        funs += [r.fun.reduce for r in self.reductions] + [s.fun.at for s in self.scatters]
        names = [*map(name_of, funs)]
        return f"nest[{', '.join(names or ['copy'])}]"

    @property
    def key(self) -> Hashable:
        """What decides its code."""
        code = (*self.instructions, *self.stores, *self.reductions, *self.scatters)
        return "nest", self.shape, self.sequence, tuple(map(type, code)), code

    @property
    def operations(self) -> int:
        """About how many operations on elements it makes."""
        return math.prod(self.shape) * len(self.instructions)

    @property
    def accesses(self) -> list[Access]:
        """All places in memory that it uses."""
        return [*self._reads, *(part.access for part in self._writes)]

    @property
    def loaded(self) -> list[Value]:
        """The values that it reads."""
        return [self.pointers[access.pointer] for access in self._reads]

    @property
    def written(self) -> list[Value]:
        """The values that it writes."""
        return [self.pointers[part.access.pointer] for part in self._writes]

    @property
    def spans(self) -> list[functions.Span]:
        """What it uses of memory: the strides say how far it gets from the pointers."""
        indexed = [i for i in (*self.instructions, *self.scatters) if isinstance(i, _INDEXED)]
        chosen = [(part.access, (part.size,), (part.step,)) for part in indexed]
        found = []
        for access, more, steps in [*((a, (), ()) for a in self.accesses), *chosen]:
            shape, strides = (*self.shape, *more), (*access.strides, *steps)
            found.append(_span(self.pointers[access.pointer], shape, strides))
        return found

    @property
    def _reads(self) -> list[Access]:
        return [i.access for i in self.instructions if isinstance(i, (Load, Gather))]

    @property
    def _writes(self) -> list[Store | Reduction | Scatter]:
        return [*self.stores, *self.reductions, *self.scatters]


class Product(functions.Kernel):
    """A matrix product: the pointers are the two operands, and the result.

    A stack of products has the axes `batch`; the `steps` are the strides of each operand, and of
    the result, along these.
    """

    def __init__(
        self,
        left: Matrix,
        right: Matrix,
        result: Matrix,
        pointers: Sequence[Value],
        batch: tuple[int, ...] = (),
        steps: tuple[tuple[int, ...], ...] = ((), (), ()),
    ) -> None:
        super().__init__([])
        self.left, self.right, self.result = left, right, result
        self.pointers = pointers
        self.batch, self.steps = batch, steps
        self.dtype = pointers[0].dtype

    __name__ = "product"

    @property
    def key(self) -> Hashable:
        """What decides its code."""
        matrices = self.left, self.right, self.result
        return "product", *matrices, self.batch, self.steps, self.dtype

    @property
    def operations(self) -> int:
        """About how many operations on elements it makes; a multiply-add takes less time."""
        single = self.left.shape[0] * math.prod(self.right.shape) // 4
        return math.prod(self.batch) * single

    @property
    def spans(self) -> list[functions.Span]:
        """What it uses of memory."""
        matrices = zip(self.pointers, (self.left, self.right, self.result), self.steps, strict=True)
        return [
            _span(v, (*self.batch, *matrix.shape), (*steps, *matrix.strides))
            for v, matrix, steps in matrices
        ]

    @property
    def loaded(self) -> Sequence[Value]:
        """The values that it reads."""
        return self.pointers[:2]

    @property
    def written(self) -> Sequence[Value]:
        """The values that it writes."""
        return self.pointers[2:]


class Axis(NamedTuple):
    """An axis of a contraction: its size, and the elements of memory from one index to the next."""

    size: int
    left: int
    right: int
    result: int


class Contraction(functions.Kernel):
    """A stack of products whose rows and terms lie along any axes: the sums of `left * right`.

    The pointers are the two operands, and the result. Its columns lie side by side. It `adds` to
    what is there.
    """

    __name__ = "contraction"

    def __init__(
        self,
        batch: tuple[Axis, ...],
        rows: tuple[Axis, ...],
        terms: tuple[Axis, ...],
        columns: Axis,
        pointers: Sequence[Value],
        adds: bool = False,
    ) -> None:
        super().__init__([])
        self.batch, self.rows, self.terms, self.columns = batch, rows, terms, columns
        self.pointers = pointers
        self.adds = adds
        self.dtype = pointers[0].dtype

    @property
    def _axes(self) -> list[Axis]:
        return [*self.batch, *self.rows, *self.terms, self.columns]

    @property
    def key(self) -> Hashable:
        """What decides its code."""
        axes = self.batch, self.rows, self.terms, self.columns
        return "contraction", axes, self.adds, self.dtype

    @property
    def operations(self) -> int:
        """About how many operations on elements it makes; a multiply-add takes less time."""
        return math.prod(axis.size for axis in self._axes) // 4

    @property
    def spans(self) -> list[functions.Span]:
        """What it uses of memory."""
        sizes, *steps = zip(*self._axes, strict=True)
        return [_span(v, sizes, own) for v, own in zip(self.pointers, steps, strict=True)]

    @property
    def loaded(self) -> Sequence[Value]:
        """The values that it reads."""
        return self.pointers if self.adds else self.pointers[:2]

    @property
    def written(self) -> Sequence[Value]:
        """The values that it writes."""
        return self.pointers[2:]


class Guard(functions.Kernel):
    """Ends the function, for another program, unless an element is true, or false."""

    __name__ = "guard"

    def __init__(self, value: Value, decision: bool, calls: Sequence[Call]) -> None:
        super().__init__(calls)
        self.pointers = self.loaded = [value]
        self.written: list[Value] = []
        self.decision = decision
        self.operations = 1

    @property
    def key(self) -> Hashable:
        """What decides its code."""
        return "guard", self.pointers[0].dtype, self.decision


class Draw(functions.Kernel):
    """Random numbers from 0 to 1, as `generator.random` draws them; its lock must be held."""

    __name__ = "random"

    def __init__(self, generator: np.random.Generator, result: Value, calls: Sequence[Call]):
        super().__init__(calls)
        self.generator = generator
        self.pointers = self.written = [result]
        self.loaded: list[Value] = []
        self.operations = 4 * result.size

    @property
    def key(self) -> Hashable:
        """What decides its code."""
        (result,) = self.pointers
        return "random", id(self.generator), result.size, result.dtype

    @property
    def spans(self) -> list[functions.Span]:
        """What it uses of memory."""
        (v,) = self.pointers
        return [functions.Span(v, v.offset, v.offset + v.nbytes)]


class Check(functions.Kernel):
    """Ends the function, with an error, unless all elements of its values fulfil a requirement."""

    __name__ = "check"

    def __init__(
        self, values: Sequence[Value], requirement: Requirement, calls: Sequence[Call] = ()
    ) -> None:
        super().__init__(calls)
        self.pointers = self.loaded = [*values]
        self.written: list[Value] = []
        self.requirement = requirement
        self.operations = sum(v.size for v in values)

    @property
    def key(self) -> Hashable:
        """What decides its code."""
        layouts = [(v.shape, v.strides, v.dtype) for v in self.pointers]
        return "check", self.requirement.holds, *layouts


def bounds_check(indices: Value, size: int, axis: int, call: Call) -> Check:
    """The check that all indices are of elements of an axis that a call chooses from."""

    def check(indices: Array) -> None:
        wrong = indices[(indices < -size) | (indices >= size)]
        raise IndexError(
            f"{name_of(call.fun)}: index {wrong[0]} is out of bounds for axis {axis} with size "
            f"{size}: {call.location}"
        )

    return Check([indices], Requirement(check, _within(size)))


@cache
def _within(size: int) -> Callable[[Any], Any]:
    return lambda index: (index >= -size) & (index < size)


class Matrix(NamedTuple):
    """A matrix in memory: the numbers of rows and columns, and the elements between them."""

    shape: tuple[int, int]
    strides: tuple[int, int]


Kernel = Nest | Product | Contraction | Guard | Check | Draw
KERNELS = (Nest, Product, Contraction, Guard, Check, Draw)
