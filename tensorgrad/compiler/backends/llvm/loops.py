"""Counted loops and vectors, written with an IRBuilder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

INDEX = ir.IntType(64)


def loop(
    builder: ir.IRBuilder,
    count: int,
    step: int,
    carried: Sequence[ir.Value],
    body: Callable[[ir.Value, Sequence[ir.Value]], Sequence[ir.Value]],
) -> Sequence[ir.Value]:
    """Write `for index in range(0, count, step): carried = body(index, carried)`.

    A single round is written without a loop. Returns what the last round carries.
    """
    if count <= step:
        return body(INDEX(0), carried) if count else carried
    before, head = builder.block, builder.append_basic_block("loop")
    builder.branch(head)
    builder.position_at_end(head)
    phis = [builder.phi(value.type) for value in (INDEX(0), *carried)]
    results = body(phis[0], phis[1:])
    following = builder.add(phis[0], INDEX(step), flags=("nuw", "nsw"))
    for phi, first, next_ in zip(phis, (INDEX(0), *carried), (following, *results), strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(next_, builder.block)
    end = builder.append_basic_block("end")
    builder.cbranch(builder.icmp_unsigned("<", following, INDEX(count)), head, end)
    builder.position_at_end(end)
    return results


def vector_type(element: ir.Type, lanes: int) -> ir.Type:
    """Return the type of a vector; one lane is a scalar."""
    return element if lanes == 1 else ir.VectorType(element, lanes)


def zeros(kind: ir.Type) -> ir.Constant:
    """Return zero, in all lanes."""
    return ir.Constant(kind, None if isinstance(kind, ir.VectorType) else 0.0)


def splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """Return a vector with a scalar in all lanes."""
    if lanes == 1:
        return value
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    return shuffle(builder, first, first, [0] * lanes)


def shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: Sequence[int]) -> ir.Value:
    """Return a vector of lanes of two vectors, those of the second after those of the first."""
    return builder.shuffle_vector(
        a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), [*lanes])
    )


def fma(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """Return x * y + z of scalars or vectors, rounded once where the processor has FMA."""
    kind = x.type
    single, lanes = (
        (kind.element, f"v{kind.count}") if isinstance(kind, ir.VectorType) else (kind, "")
    )
    name = f"llvm.fmuladd.{lanes}{'f32' if single == ir.FloatType() else 'f64'}"
    signature = ir.FunctionType(kind, [kind] * 3)
    function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
    return builder.call(function, [x, y, z])


def sum_of_lanes(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return the sum of the lanes of a vector, whose number is a power of two."""
    while isinstance(value.type, ir.VectorType):
        half = value.type.count // 2
        low, high = [*range(half)], [*range(half, 2 * half)]
        if half == 1:
            first, second = (builder.extract_element(value, ir.IntType(32)(k)) for k in (0, 1))
            return builder.fadd(first, second)
        value = builder.fadd(
            shuffle(builder, value, value, low), shuffle(builder, value, value, high)
        )
    return value


def all_lanes(builder: ir.IRBuilder, truth: ir.Value) -> ir.Value:
    """Return whether all lanes of a vector of bits are true."""
    if not isinstance(truth.type, ir.VectorType):
        return truth
    bits = ir.IntType(truth.type.count)
    return builder.icmp_unsigned("==", builder.bitcast(truth, bits), bits(-1))
