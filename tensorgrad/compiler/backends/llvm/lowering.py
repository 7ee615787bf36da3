"""Lowering: the calls of a program become kernels, as far as native code knows how.

Element-wise calls over one shape go into one loop nest, together with broadcasts and views, which
are strides there, and with reductions of what the nest computes. What else there is remains a call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np

from ....engine.registry import name_of
from ....engine.typing import Function
from ...functions import assign_at
from ...ir import Call, Program, Storage, Value
from ...ops import op_of
from .bodies import (
    Body,
    Index,
    Indexed,
    Place,
    Unknown,
    body_of,
    number_of,
    overlap,
    part_of,
    place_of,
)
from .expansions import expanded
from .kernels import (
    KERNELS,
    Access,
    Cast,
    Check,
    Contraction,
    DType,
    Gather,
    Guard,
    Instruction,
    Kernel,
    Load,
    Nest,
    Number,
    Operation,
    Product,
    Reduction,
    Scatter,
    Store,
    bounds_check,
)
from .windows import contraction_of

_INDEX = np.dtype(np.int64)
LONGEST = 48  # instructions that end a nest: the time to compile one grows with their square


def lower(program: Program) -> Program:
    """The program with kernels in place of calls, as far as native code knows how."""
    lowering = _Lowering(program)
    for call in program.calls:
        for part in expanded(call):
            lowering.add(part)
    return program._replace(calls=lowering.calls(), remarks=(*program.remarks, *lowering.remarks))


def is_of_floats(call: Call, floats: Container[Value]) -> bool:
    """Whether a call reads what another one, made by Python, returns as a number of Python's."""
    return any(v in floats for v in call.reads)


def repeating(values: Iterable[Value]) -> set[Storage]:
    """The memory of values that repeat elements: no array with other elements lies like them."""
    bounds = ((v, *v.bounds) for v in values)
    return {v.storage for v, low, high in bounds if high - low < v.nbytes}


def kernel_of(call: Call) -> Call:
    """A call as a kernel of its own; if it stays a call, Unknown is raised, which says why."""
    if isinstance(call.fun, KERNELS):
        return call
    if call.fun is not assign_at:
        raise Unknown("native code does not know it")
    body = body_of(call)
    item = _Item(call, Nest(body.shape))
    _Builder(item).add(body)
    item.calls.append(call)
    return _kernel_call(item, set())


class _Lowering:
    def __init__(self, program: Program) -> None:
        self._outputs = program.outputs
        self._repeating = repeating(program.inputs)
        self._items: list[_Item] = []
        self._floor = 0  # nothing moves to before the item of this number
        self._fence = 0  # nor do element-wise calls, unless they can use registers there
        self._nests: dict[tuple[int, ...], list[int]] = {}
        self._floats: set[Value] = set()
        self._copies: dict[Storage, Value] = {}  # what whole storages are copies of
        self._copied: dict[Storage, set[Storage]] = {}  # the copies of what lies in a storage
        self._products: dict[Storage, int] = {}  # the items that make them
        self._dropped: set[int] = set()  # the items that others do the work of
        self._reads = Counter(
            v.storage for call in program.calls if call.kind != "view" for v in {*call.reads}
        ) + Counter(v.storage for v in program.outputs)
        self.remarks: list[str] = []
        self._uses: dict[Storage, list[tuple[int, int, int, bool]]] = {}

    def add(self, call: Call) -> None:
        """Let a call be a part of a kernel, a kernel of its own, or what it is."""
        if call.kind == "view":
            self._items.append(_Item(call))
            return
        try:
            if is_of_floats(call, self._floats):
                raise Unknown("it reads a number of Python's")
            if not self._repeating.isdisjoint(v.storage for v in call.reads):
                raise Unknown("it reads an array that repeats elements, and need not in each call")
            part = self._contraction(call) or part_of(call)
        except Unknown as reason:
            self.remarks.append(f"not native: {name_of(call.fun)} at {call.location}: {reason}")
            self._plain(call)
            return
        if not isinstance(part, list):
            self._append(_Item(call, part, [call]), part.loaded, part.written)
            self._fence = len(self._items)
            if isinstance(part, (Product, Contraction)):
                self._products |= dict.fromkeys((r.storage for r in call.results), self._fence - 1)
            if isinstance(part, (Guard, Check)):
                self._floor = len(self._items)
        elif _may_go(call):
            self._plain(call)
        else:
            self._put(call, part)

    def _contraction(self, call: Call) -> Contraction | None:
        """A product of copies as one of what they are copies of; or one that is added in place."""
        if op_of(call.fun).pattern == "product":
            sources = self._sources(call)
            return contraction_of(call, sources) if sources else None
        if call.fun is not np.add or call.target is None or call.args[0] is not call.target:
            return None
        target, made = call.args
        number = self._products.get(made.storage) if isinstance(made, Value) else None
        if number is None or self._reads[made.storage] > 1 or made.shape != target.shape:
            return None
        product = self._items[number].call
        if not (made.is_c_contiguous and made.is_whole):
            return None
        sources = self._sources(product) | {made.storage: target}
        kernel = contraction_of(product, sources, adds=True)
        if kernel is None or self._changed_since(number, *kernel.pointers[:2]):
            return None
        self._dropped.add(number)
        return kernel

    def _sources(self, call: Call) -> dict[Storage, Value]:
        """What the operands of a call are copies of."""
        storages = (v.storage for v in call.reads)
        return {s: self._copies[s] for s in storages if s in self._copies}

    def _changed_since(self, number: int, *values: Value) -> bool:
        """Whether an item after that of a number writes to values."""
        return any(
            is_write and other > number and low < stop and start < high
            for low, high, storage in ((*v.bounds, v.storage) for v in values)
            for other, start, stop, is_write in self._uses.get(storage, ())
        )

    def _plain(self, call: Call) -> None:
        if op_of(call.fun).pattern == "number":
            self._floats.update(call.results)
        self._repeating |= repeating(call.results)
        self._append(_Item(call), call.reads, [*call.results, *call.changes])
        self._fence = len(self._items)
        if call.kind in ("effect", "guard"):
            self._floor = len(self._items)

    def _append(self, item: _Item, reads: Iterable[Value], writes: Iterable[Value]) -> None:
        self._items.append(item)
        self._note(len(self._items) - 1, reads, writes)

    def _note(self, number: int, reads: Iterable[Value], writes: Iterable[Value]) -> None:
        for v in reads:
            self._uses.setdefault(v.storage, []).append((number, *v.bounds, False))
        for v in writes:  # earlier uses of the same bytes come before: what heeds this heeds them
            low, high = v.bounds
            uses = self._uses.get(v.storage, ())
            others = [use for use in uses if use[1] < low or high < use[2]]
            self._uses[v.storage] = [*others, (number, low, high, True)]
            self._forget_copies(v)

    def _forget_copies(self, changed: Value) -> None:
        """A value changes: what lies there, and copies of it, are no copies any more."""
        self._copies.pop(changed.storage, None)
        copies = self._copied.get(changed.storage, set())
        for storage in {*copies}:
            source = self._copies.get(storage)
            if source is None or overlap(source, changed):
                self._copies.pop(storage, None)
                copies.remove(storage)

    def _earliest(self, reads: Iterable[Value], writes: Iterable[Value]) -> int:
        """The number of the last item that what reads and writes so must not come before."""
        last = self._floor
        for values, is_write in ((reads, False), (writes, True)):
            for v in values:
                low, high = v.bounds
                for number, start, stop, writes_too in self._uses.get(v.storage, ()):
                    if number > last and (is_write or writes_too) and low < stop and start < high:
                        last = number
        return last

    def _put(self, call: Call, bodies: Sequence[Body]) -> None:
        """Put what a call computes into the nests where it saves most, or into new ones."""
        for body in bodies:
            for a in (*body.operands, body.scatter):
                if not isinstance(a, Indexed) or a.clips:
                    continue
                for index in a.indices:
                    check = bounds_check(index.value, index.size, index.axis, call)
                    self._append(_Item(call, check), check.loaded, ())
                    self._floor = self._fence = len(self._items)
        first = max(self._earliest(body.reads, [body.target]) for body in bodies)
        for body in bodies:
            number = self._nest_for(call, body, first)
            builder = _Builder(self._items[number])
            builder.add(body)
            if body is bodies[0]:  # the others add to what this one makes
                builder.item.calls.append(call)
                first = number
            self._note(number, body.reads, [body.target])
            if _is_copy(body) and call.results and body.target.is_whole:
                source = body.operands[0]
                self._copies[body.target.storage] = source
                self._copied.setdefault(source.storage, set()).add(body.target.storage)

    def _nest_for(self, call: Call, body: Body, first: int) -> int:
        """The number of a nest that can do a body, not before another item."""
        if body.reduce is None and body.shape:
            first = max(first, self._fence)
        for number in self._nests.get(body.shape, ())[-4:]:
            nest = self._items[number].kernel
            alike = isinstance(nest, Nest) and nest.sequence == body.sequence
            if alike and number >= first and _Builder(self._items[number]).fits(body):
                return number
        self._items.append(_Item(call, Nest(body.shape, body.sequence), []))
        self._nests.setdefault(body.shape, []).append(len(self._items) - 1)
        return len(self._items) - 1

    def calls(self) -> list[Call]:
        """The calls that there are in the end."""
        items = [item for i, item in enumerate(self._items) if i not in self._dropped]
        needed = {v.storage for v in self._outputs}
        for item in items:
            if item.kernel is not None:
                needed.update(v.storage for v in item.kernel.loaded)
            elif item.call.kind != "view":
                needed.update(v.storage for v in item.call.reads)
        calls: list[Call] = []
        named = {*self._outputs}  # values that Python's lines name
        for item in reversed(items):
            call = item.call
            if item.kernel is not None:
                call = _kernel_call(item, needed)
                if not call.fun.written and isinstance(call.fun, Nest):
                    continue
            elif call.kind == "view" and named.isdisjoint(call.results):
                continue
            else:
                named.update(call.reads)
            calls.append(call)
        return calls[::-1]


class _Item:
    """A call that stays, or a kernel, whose state while it grows is kept here."""

    def __init__(self, call: Call, kernel: Kernel | None = None, calls: Sequence[Call] = ()):
        self.call = call
        self.kernel = kernel
        self.calls = [*calls]
        self.registers: dict[Place | Instruction, int] = {}  # what is in them
        self.stores: dict[Place, Store] = {}
        self.written: dict[Storage, dict[Place, Value]] = {}
        self.read: dict[Storage, dict[Place, Value]] = {}


def _kernel_call(item: _Item, needed: set[Storage]) -> Call:
    """A kernel as a call. Results that nobody reads from memory are not stored."""
    kernel, first = item.kernel, (item.calls or [item.call])[0]
    assert kernel is not None
    kernel.calls = item.calls
    made = {r.storage: r for call in reversed(item.calls) for r in call.results}
    if isinstance(kernel, Nest):
        kernel.keep_stores(
            store
            for store in item.stores.values()
            if (storage := kernel.pointers[store.access.pointer].storage) not in made
            or storage in needed
        )
    written = dict.fromkeys(kernel.written)
    results = [*dict.fromkeys(made[v.storage] for v in written if v.storage in made)]
    writes = [v for v in written if v.storage not in made]
    reads = [*dict.fromkeys([*kernel.loaded, *writes])]
    return Call(
        "write" if writes else "pure",
        kernel,
        reads,
        results=results,
        location=first.location,
        writes=writes,
    )


class _Builder:
    """Adds to a nest."""

    def __init__(self, item: _Item) -> None:
        assert isinstance(item.kernel, Nest)
        self.item, self._nest = item, item.kernel

    def fits(self, body: Body) -> bool:
        """Whether the nest can do this too: no index needs what another one makes."""
        if len(self._nest.instructions) > LONGEST:
            return False
        item, target = self.item, body.target.storage
        for a in (*body.operands, body.scatter):
            pairs: list[tuple[Place, Value]] = []
            if isinstance(a, Indexed):
                pairs = [(a.place, a.value), *((index.place, index.value) for index in a.indices)]
            elif isinstance(a, Value):
                pairs = [(place_of(a, body.shape), a)]
            for place, v in pairs:
                written = item.written.get(v.storage, {}).values()
                if place not in item.registers and any(overlap(v, w) for w in written):
                    return False
        used = item.written.get(target, {}) | item.read.get(target, {})
        if body.reduce is None:
            used.pop(body.place, None)
        return not any(overlap(body.target, v) for v in used.values())

    def add(self, body: Body) -> None:
        """Add the instructions of a body."""
        *given, made = body.dtypes
        registers = tuple(
            self._operand(a, dtype, body.shape)
            for a, dtype in zip(body.operands, given, strict=True)
        )
        target, place = body.target, body.place
        if body.fun is None:
            (register,) = registers
        else:
            register = self._register(Operation(body.fun, registers, made))
        pointer = self._pointer(target)
        access = Access(pointer, target.dtype, place.strides)
        register = self._cast(register, target.dtype)
        if body.scatter is not None and body.reduce is not None:
            s = body.scatter
            chosen = self._chosen(s)
            access = Access(pointer, target.dtype, s.strides)
            scatter = Scatter(access, register, *chosen, body.reduce)
            self._nest.scatters.append(scatter)
        elif body.reduce is not None:
            self._nest.reductions.append(Reduction(access, register, body.reduce, body.axes))
        else:
            self.item.stores[place] = Store(access, register)
            self.item.registers[place] = register
        self.item.written.setdefault(target.storage, {})[place] = target

    def _chosen(self, indexed: Indexed) -> tuple[int, int, int]:
        """The register with an index, and the size and the step of the axis that it belongs to.

        Several indices are one of an axis that has all elements, which it counts from the start.
        """
        registers = [
            self._cast(self._loaded(index.place, index.value), _INDEX) for index in indexed.indices
        ]
        if len(registers) == 1:
            (index,) = indexed.indices
            return registers[0], index.size, index.step
        offsets = [*map(self._offset, registers, indexed.indices)]
        total, *others = offsets
        for offset in others:
            total = self._register(Operation(np.add, (total, offset), _INDEX))
        return total, 1 + sum((index.size - 1) * index.step for index in indexed.indices), 1

    def _offset(self, register: int, index: Index) -> int:
        """The register with the elements of memory before that of an index."""

        def number(n: int) -> int:
            return self._register(Number(np.asarray(n, _INDEX).tobytes(), _INDEX))

        def operation(fun: Function, *registers: int, dtype: DType = _INDEX) -> int:
            return self._register(Operation(fun, registers, dtype))

        negative = operation(np.less, register, number(0), dtype=np.dtype(bool))
        from_end = operation(np.add, register, number(index.size))
        register = operation(np.where, negative, from_end, register)
        return operation(np.multiply, register, number(index.step))

    def _loaded(self, place: Place, v: Value) -> int:
        """The register with what lies at a place."""
        if place not in self.item.registers:
            access = Access(self._pointer(v), v.dtype, place.strides)
            self._nest.instructions.append(Load(access))
            self.item.registers[place] = len(self._nest.instructions) - 1
            self.item.read.setdefault(v.storage, {})[place] = v
        return self.item.registers[place]

    def _operand(self, a: Any, dtype: DType, shape: tuple[int, ...]) -> int:
        if isinstance(a, Indexed):
            access = Access(self._pointer(a.value), a.value.dtype, a.strides)
            gather = Gather(access, *self._chosen(a), a.clips)
            self.item.read.setdefault(a.value.storage, {})[a.place] = a.value
            return self._cast(self._register(gather), dtype)
        number = number_of(a)
        if number is not None:
            return self._register(Number(np.asarray(number, dtype).tobytes(), dtype))
        return self._cast(self._loaded(place_of(a, shape), a), dtype)

    def _cast(self, register: int, dtype: DType) -> int:
        own = self._nest.instructions[register].dtype
        return register if own == dtype else self._register(Cast(register, dtype))

    def _register(self, instruction: Instruction) -> int:
        if instruction not in self.item.registers:
            self._nest.instructions.append(instruction)
            self.item.registers[instruction] = len(self._nest.instructions) - 1
        return self.item.registers[instruction]

    def _pointer(self, value: Value) -> int:
        if value not in self._nest.pointers:
            self._nest.pointers.append(value)
        return self._nest.pointers.index(value)


def _is_copy(body: Body) -> bool:
    """Whether the result has the elements of one array."""
    if body.fun is not None or body.reduce is not None or body.scatter is not None:
        return False
    (operand,) = body.operands
    same = isinstance(operand, Value) and operand.shape == body.target.shape
    return same and operand.dtype == body.target.dtype and body.target.is_c_contiguous


def _may_go(call: Call) -> bool:
    """Whether a copy into the state can be left out, if what it copies is made there at once."""
    if call.fun is not assign_at or not isinstance(call.args[2], Value):
        return False
    return call.args[2].storage.home == "temporary"
