"""A loop nest as LLVM IR: explicit vectors along the innermost axis, a shorter one at its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from .kernels import Access, Cast, DType, Gather, Load, Nest, Number, Reduction, Scatter
from .lanes import constant
from .loops import INDEX, loop, shuffle, splat
from .registers import cast, emit as emit_function, kind, memory_kind
from .runtime import target

_PART = 256  # vectors that are added up by themselves: rounding errors do not grow with the number
_UNROLLED = 64  # instructions for the last axis, up to which they are written without a loop
_VECTORS = 2  # processor vectors that make one of the code: two chains of operations hide latency


def emit(builder: ir.IRBuilder, nest: Nest, pointers: Sequence[ir.Value]) -> None:
    """Write the code of a nest, whose pointers are given."""
    _Emitter(builder, nest).run(pointers)


def _order(nest: Nest) -> list[int]:
    """The axes of more than one index, outermost first: so that memory is gone through in order."""

    def weight(axis: int) -> int:
        steps = [abs(a.strides[axis]) * a.dtype.itemsize for a in nest.accesses]
        stores = [abs(s.access.strides[axis]) * s.access.dtype.itemsize for s in nest.stores]
        return -sum(steps) - sum(stores)

    axes = (i for i, n in enumerate(nest.shape) if n > 1)
    return sorted(axes, key=lambda i: (i != nest.sequence, weight(i)))


class _Emitter:
    def __init__(self, builder: ir.IRBuilder, nest: Nest) -> None:
        self._builder = builder
        self._nest = nest
        accesses = nest.accesses
        order = _order(nest)
        sizes = [nest.shape[i] for i in order]
        steps = [[a.strides[i] for a in accesses] for i in order]  # by axis
        reduced = [[i in r.axes for r in nest.reductions] for i in order]
        in_sequence = bool(order) and order[0] == nest.sequence
        i = len(sizes) - 1
        while (
            i > in_sequence
        ):  # two axes are one if every access goes on from row to row without a gap
            joins = all(outer == inner * sizes[i] for outer, inner in zip(steps[i - 1], steps[i]))
            if joins and reduced[i - 1] == reduced[i]:
                sizes[i - 1 : i + 1] = [sizes[i - 1] * sizes[i]]
                del steps[i - 1], reduced[i - 1]
            i -= 1
        self._sizes = sizes
        self._strides = {a: [step[k] for step in steps] for k, a in enumerate(accesses)}
        self._reduced = {
            id(r): [flags[k] for flags in reduced] for k, r in enumerate(nest.reductions)
        }
        # By reduction, and start on the last axis.
        self._totals: dict[tuple[int, int], ir.Value] = {}
        self._depths = self._depths_of_registers()
        itemsizes = [self._dtype(i).itemsize for i in range(len(nest.instructions))]
        vectors = _VECTORS if not self._indexed else 1
        self._lanes = vectors * target().vector_bytes // max(4, *itemsizes)
        if in_sequence and len(sizes) == 1:
            self._lanes = 1

    @property
    def _indexed(self) -> bool:
        """Whether indices choose elements: each of them is then an instruction of its own."""
        gathers = (isinstance(i, Gather) for i in self._nest.instructions)
        return bool(self._nest.scatters) or any(gathers)

    def _dtype(self, register: int) -> DType:
        return self._nest.instructions[register].dtype

    def _depths_of_registers(self) -> list[int]:
        """How many loops each instruction has to lie in."""
        depths: list[int] = []
        for instruction in self._nest.instructions:
            if isinstance(instruction, (Load, Gather)):
                strides = self._strides[instruction.access]
                depth = max((i + 1 for i, s in enumerate(strides) if s), default=0)
                if isinstance(instruction, Gather):
                    depth = max(depth, depths[instruction.chosen])
                depths.append(depth)
            elif isinstance(instruction, Number):
                depths.append(0)
            elif isinstance(instruction, Cast):
                depths.append(depths[instruction.register])
            else:
                depths.append(max((depths[i] for i in instruction.registers), default=0))
        return depths

    def _start(self, reduction: Reduction) -> int:
        """How many loops lie around those in which registers collect a reduction."""
        flags = self._reduced[id(reduction)]
        kept = [i + 1 for i, is_reduced in enumerate(flags) if not is_reduced]
        return max(kept, default=0)

    def run(self, pointers: Sequence[ir.Value]) -> None:
        """Write the code."""
        places = {a: pointers[a.pointer] for a in self._nest.accesses}
        self._level(0, places, {}, [], [])

    def _level(
        self,
        depth: int,
        places: dict[Access, ir.Value],
        outer: dict[int, ir.Value],
        indices: list[ir.Value],
        collected: Sequence[ir.Value],
    ) -> Sequence[ir.Value]:
        """Write what lies in so many loops; `collected` are reductions that began further out."""
        registers = {**outer}
        last = len(self._sizes)
        if depth == last:  # there is no loop at all
            self._block(1, INDEX(0), places, registers, indices, [])
            return collected
        self._instructions(depth, 1, INDEX(0), places, registers)
        here = [r for r in self._nest.reductions if self._start(r) == depth]
        lanes = min(self._lanes, self._sizes[-1])
        begun = [_identity(r, lanes) for r in here]

        def inside(index: ir.Value, values: Sequence[ir.Value]) -> Sequence[ir.Value]:
            moved = {
                a: self._moved(place, a, self._strides[a][depth], index)
                for a, place in places.items()
            }
            return self._level(depth + 1, moved, registers, [*indices, index], values)

        values = [*collected, *begun]
        if depth == last - 2:
            self._begin_totals()
        if depth < last - 1:
            values = [*loop(self._builder, self._sizes[depth], 1, values, inside)]
            if depth == last - 2:
                self._end_totals(places, indices)
        else:
            values = [*self._innermost(places, registers, indices, values)]
        for r, value in zip(here, values[len(collected) :], strict=True):
            total = _across(self._builder, r, value)
            self._combine(r, 1, total, places[r.access], 0, indices)
        return values[: len(collected)]

    def _begin_totals(self) -> None:
        """Let registers have what reductions along the last axis but one combine, for a short last.

        The code has allocated memory for them, which LLVM replaces by registers.
        """
        lanes, size = min(self._lanes, self._sizes[-1]), self._sizes[-1]
        starts = range(0, size, lanes)
        if len(starts) * len(self._nest.instructions) > _UNROLLED:
            return
        for r in self._nest.reductions:
            if self._start(r) == len(self._sizes) and self._reduced[id(r)][-2]:
                for start in starts:
                    identity = _identity(r, min(lanes, size - start))
                    with self._builder.goto_entry_block():
                        total = self._builder.alloca(identity.type)
                    total.type = ir.PointerType()  # llvmlite gives it a pointer type of its own
                    self._builder.store(identity, total)
                    self._totals[id(r), start] = total

    def _end_totals(self, places: dict[Access, ir.Value], indices: list[ir.Value]) -> None:
        """Write to memory what they have combined."""
        lanes, size = min(self._lanes, self._sizes[-1]), self._sizes[-1]
        reductions = {id(r): r for r in self._nest.reductions}
        for (name, start), total in self._totals.items():
            r, count = reductions[name], min(lanes, size - start)
            value = self._builder.load(total, typ=kind(r.access.dtype, count))
            stride = self._strides[r.access][-1]
            place = self._moved(places[r.access], r.access, stride, INDEX(start))
            self._combine(r, count, value, place, stride, indices)
        self._totals.clear()

    def _moved(self, place: ir.Value, a: Access, stride: int, index: ir.Value) -> ir.Value:
        """A pointer so many steps further."""
        if not stride:
            return place
        offset = index if stride == 1 else self._builder.mul(index, INDEX(stride))
        return self._builder.gep(place, [offset], source_etype=memory_kind(a.dtype))

    def _innermost(
        self,
        places: dict[Access, ir.Value],
        registers: dict[int, ir.Value],
        indices: list[ir.Value],
        collected: Sequence[ir.Value],
    ) -> Sequence[ir.Value]:
        builder, size = self._builder, self._sizes[-1]
        lanes = min(self._lanes, size)
        whole, part = size // lanes * lanes, _PART * lanes

        def block(index: ir.Value, values: Sequence[ir.Value]) -> Sequence[ir.Value]:
            return self._block(lanes, index, places, registers, indices, values)

        def sums_of_part(start: ir.Value, totals: Sequence[ir.Value]) -> Sequence[ir.Value]:
            begun = [_identity(r, lanes) for r in self._collected]
            parts = loop(builder, part, lanes, begun, lambda i, v: block(builder.add(start, i), v))
            return [
                emit_function(builder, r.fun, r.access.dtype, [total, value])
                for r, total, value in zip(self._collected, totals, parts, strict=True)
            ]

        if self._totals:
            for start in range(0, size, lanes):
                count = min(lanes, size - start)
                collected = self._block(count, INDEX(start), places, registers, indices, collected)
            return collected
        done = whole // part * part if collected else 0
        collected = loop(builder, done, part, collected, sums_of_part)
        offset = INDEX(done)
        collected = loop(
            builder, whole - done, lanes, collected, lambda i, v: block(builder.add(i, offset), v)
        )
        if whole < size:
            rest = size - whole
            collected = self._block(rest, INDEX(whole), places, registers, indices, collected)
        return collected

    @property
    def _collected(self) -> list[Reduction]:
        """The reductions whose values registers collect, in the order in which they begin."""
        inside = [r for r in self._nest.reductions if self._start(r) < len(self._sizes)]
        return sorted(inside, key=self._start)

    def _block(
        self,
        lanes: int,
        index: ir.Value,
        places: dict[Access, ir.Value],
        outer: dict[int, ir.Value],
        indices: list[ir.Value],
        collected: Sequence[ir.Value],
    ) -> Sequence[ir.Value]:
        """Write the instructions for some lanes, from an index of the innermost axis on."""
        last, registers = len(self._sizes), {**outer}
        self._instructions(last, lanes, index, places, registers)
        wide: dict[int, ir.Value] = {}

        def vector(register: int) -> ir.Value:
            if register not in wide:
                value = registers[register]
                is_wide = self._depths[register] == last
                wide[register] = value if is_wide else splat(self._builder, value, lanes)
            return wide[register]

        for store in self._nest.stores:
            access = store.access
            stride = self._strides[access][-1] if last else 0
            place = self._moved(places[access], access, stride, index)
            self._store(vector(store.register), place, access.dtype, stride, lanes)
        grown = []
        for r, value in zip(self._collected, collected, strict=True):
            full = value.type.count if isinstance(value.type, ir.VectorType) else 1
            padded = _padded(self._builder, r, vector(r.register), lanes, full)
            grown.append(emit_function(self._builder, r.fun, r.access.dtype, [value, padded]))
        for r in self._nest.reductions:
            total = self._totals.get((id(r), index.constant)) if self._totals else None
            if total is not None:
                value = vector(r.register)
                earlier = self._builder.load(total, typ=value.type)
                value = emit_function(self._builder, r.fun, r.access.dtype, [earlier, value])
                self._builder.store(value, total)
            elif self._start(r) == last:
                stride = self._strides[r.access][-1] if last else 0
                place = self._moved(places[r.access], r.access, stride, index)
                self._combine(r, lanes, vector(r.register), place, stride, indices)
        for s in self._nest.scatters:
            stride = self._strides[s.access][-1] if last else 0
            place = self._moved(places[s.access], s.access, stride, index)
            self._scatter(s, vector(s.register), registers[s.chosen], place, stride, lanes)
        return grown

    def _instructions(
        self,
        depth: int,
        lanes: int,
        index: ir.Value,
        places: dict[Access, ir.Value],
        registers: dict[int, ir.Value],
    ) -> None:
        """Write the instructions that lie in so many loops; those from further out are scalars."""
        last = len(self._sizes)
        wide: dict[int, ir.Value] = {}

        def operand(register: int) -> ir.Value:
            if self._depths[register] == depth or lanes == 1:
                return registers[register]
            if register not in wide:
                wide[register] = splat(self._builder, registers[register], lanes)
            return wide[register]

        for i, instruction in enumerate(self._nest.instructions):
            if self._depths[i] != depth:
                continue
            if isinstance(instruction, Load):
                access = instruction.access
                stride = self._strides[access][-1] if depth == last and last else 0
                place = self._moved(places[access], access, stride, index)
                registers[i] = self._load(place, access.dtype, stride, lanes)
            elif isinstance(instruction, Gather):
                stride = self._strides[instruction.access][-1] if depth == last and last else 0
                place = self._moved(places[instruction.access], instruction.access, stride, index)
                chosen = registers[instruction.chosen]
                registers[i] = self._gather(instruction, place, chosen, stride, lanes)
            elif isinstance(instruction, Number):
                registers[i] = constant(kind(instruction.dtype, lanes), instruction.number)
            elif isinstance(instruction, Cast):
                value = operand(instruction.register)
                old = self._dtype(instruction.register)
                registers[i] = cast(self._builder, value, old, instruction.dtype)
            else:
                dtype = self._dtype(instruction.registers[-1])
                operands = [*map(operand, instruction.registers)]
                registers[i] = emit_function(self._builder, instruction.fun, dtype, operands)

    def _gather(
        self, gather: Gather, place: ir.Value, chosen: ir.Value, stride: int, lanes: int
    ) -> ir.Value:
        """The elements that indices choose; `place` is that of the first one."""
        builder, dtype = self._builder, gather.access.dtype
        element = memory_kind(dtype)
        chosen = _inside(builder, chosen, gather)
        if not isinstance(chosen.type, ir.VectorType):
            offset = builder.mul(chosen, INDEX(gather.step))
            at = builder.gep(place, [offset], source_etype=element)
            return self._load(at, dtype, stride, lanes)
        value = ir.Constant(ir.VectorType(kind(dtype), lanes), ir.Undefined)
        for lane in range(lanes):
            at = self._chosen(place, chosen, gather, stride, lane)
            single = self._load(at, dtype, 0, 1)
            value = builder.insert_element(value, single, ir.IntType(32)(lane))
        return value

    def _chosen(
        self, place: ir.Value, chosen: ir.Value, axis: Gather | Scatter, stride: int, lane: int
    ) -> ir.Value:
        """A pointer to the element that one lane of the indices chooses."""
        builder = self._builder
        if isinstance(chosen.type, ir.VectorType):
            chosen = builder.extract_element(chosen, ir.IntType(32)(lane))
        offset = builder.add(builder.mul(chosen, INDEX(axis.step)), INDEX(lane * stride))
        return builder.gep(place, [offset], source_etype=memory_kind(axis.access.dtype))

    def _scatter(
        self,
        s: Scatter,
        value: ir.Value,
        chosen: ir.Value,
        place: ir.Value,
        stride: int,
        lanes: int,
    ) -> None:
        """Combine elements that indices choose with others; one may be chosen several times."""
        builder, dtype = self._builder, s.access.dtype
        chosen = _inside(builder, chosen, s)
        if not isinstance(chosen.type, ir.VectorType) and (stride or lanes == 1):
            at = self._chosen(place, chosen, s, stride, 0)
            earlier = self._load(at, dtype, stride, lanes)
            result = emit_function(builder, s.fun, dtype, [earlier, value])
            self._store(result, at, dtype, stride, lanes)
            return
        for lane in range(lanes):
            at = self._chosen(place, chosen, s, stride, lane)
            single = builder.extract_element(value, ir.IntType(32)(lane))
            earlier = self._load(at, dtype, 0, 1)
            self._store(emit_function(builder, s.fun, dtype, [earlier, single]), at, dtype, 0, 1)

    def _load(self, place: ir.Value, dtype: DType, stride: int, lanes: int) -> ir.Value:
        builder, element = self._builder, memory_kind(dtype)
        if stride == 1 and lanes > 1:
            whole = ir.VectorType(element, lanes)
            value = builder.load(place, align=dtype.itemsize, typ=whole)
        elif lanes == 1:
            value = builder.load(place, align=dtype.itemsize, typ=element)
        else:
            value = ir.Constant(ir.VectorType(element, lanes), ir.Undefined)
            for lane in range(lanes):
                at = builder.gep(place, [INDEX(lane * stride)], source_etype=element)
                single = builder.load(at, align=dtype.itemsize, typ=element)
                value = builder.insert_element(value, single, ir.IntType(32)(lane))
        if dtype.kind == "b":
            return builder.trunc(value, kind(dtype, lanes))
        return value

    def _store(
        self, value: ir.Value, place: ir.Value, dtype: DType, stride: int, lanes: int
    ) -> None:
        builder, element = self._builder, memory_kind(dtype)
        if dtype.kind == "b":
            value = builder.zext(value, element if lanes == 1 else ir.VectorType(element, lanes))
        if lanes == 1 or stride == 1:
            builder.store(value, place, align=dtype.itemsize)
            return
        for lane in range(lanes):
            at = builder.gep(place, [INDEX(lane * stride)], source_etype=element)
            single = builder.extract_element(value, ir.IntType(32)(lane))
            builder.store(single, at, align=dtype.itemsize)

    def _combine(
        self,
        r: Reduction,
        lanes: int,
        value: ir.Value,
        place: ir.Value,
        stride: int,
        indices: list[ir.Value],
    ) -> None:
        """Write a part of a reduction to memory, or combine it with what is there already."""
        builder, dtype = self._builder, r.access.dtype
        flags = self._reduced[id(r)][: self._start(r)]
        around = [index for index, is_reduced in zip(indices, flags) if is_reduced]
        if around:
            firsts = [builder.icmp_unsigned("==", index, INDEX(0)) for index in around]
            first = firsts[0]
            for other in firsts[1:]:
                first = builder.and_(first, other)
            earlier = self._load(place, dtype, stride, lanes)
            earlier = builder.select(first, _identity(r, lanes), earlier)
            value = emit_function(builder, r.fun, dtype, [earlier, value])
        elif not any(self._reduced[id(r)]):  # along axes of length 1: 0.0 + -0.0 is 0.0
            value = emit_function(builder, r.fun, dtype, [_identity(r, lanes), value])
        self._store(value, place, dtype, stride, lanes)


def _inside(builder: ir.IRBuilder, chosen: ir.Value, axis: Gather | Scatter) -> ir.Value:
    """Indices of elements that an axis has."""
    zero, size = constant(chosen.type, 0), constant(chosen.type, axis.size)
    is_negative = builder.icmp_signed("<", chosen, zero)
    if not (isinstance(axis, Gather) and axis.clips):
        return builder.select(is_negative, builder.add(chosen, size), chosen)
    last = constant(chosen.type, axis.size - 1)
    chosen = builder.select(is_negative, zero, chosen)
    return builder.select(builder.icmp_signed(">", chosen, last), last, chosen)


def _identity(r: Reduction, lanes: int) -> ir.Constant:
    """What a reduction of nothing is."""
    dtype, number = r.access.dtype, 0.0
    if r.fun is np.add:
        number = 0  # not -0.0: NumPy's sums of negative zeros are positive
    elif r.fun is np.multiply:
        number = 1
    else:
        bounds: tuple[float, float] = (-np.inf, np.inf)
        if dtype.kind == "b":
            bounds = False, True
        elif dtype.kind != "f":
            bounds = np.iinfo(dtype).min, np.iinfo(dtype).max
        number = bounds[r.fun is np.minimum]
    return constant(kind(dtype, lanes), number)


def _padded(
    builder: ir.IRBuilder, r: Reduction, value: ir.Value, lanes: int, full: int
) -> ir.Value:
    """A vector of fewer lanes, filled up so that the reduction does not change."""
    if lanes == full:
        return value
    if lanes == 1:
        return builder.insert_element(_identity(r, full), value, ir.IntType(32)(0))
    chosen = [*range(lanes), *[lanes] * (full - lanes)]
    return shuffle(builder, value, _identity(r, lanes), chosen)


def _across(builder: ir.IRBuilder, r: Reduction, value: ir.Value) -> ir.Value:
    """The lanes of a vector, combined: one half with the other."""
    if not isinstance(value.type, ir.VectorType):
        return value
    count = value.type.count
    half = 1 << (count - 1).bit_length() - 1
    low = _lanes_of(builder, value, range(half))
    high = _lanes_of(builder, value, range(half, count))
    if count < 2 * half:
        low, high = _across(builder, r, low), _across(builder, r, high)
    return _across(builder, r, emit_function(builder, r.fun, r.access.dtype, [low, high]))


def _lanes_of(builder: ir.IRBuilder, value: ir.Value, lanes: Sequence[int]) -> ir.Value:
    if len(lanes) == 1:
        return builder.extract_element(value, ir.IntType(32)(lanes[0]))
    return shuffle(builder, value, value, lanes)
