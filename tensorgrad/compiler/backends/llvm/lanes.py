"""Numbers in the lanes of vectors, with Python's operators: formulas in LLVM's code read as usual.

>>> from llvmlite import ir
>>> vector = ir.VectorType(ir.FloatType(), 8)
>>> f = ir.Function(ir.Module(), ir.FunctionType(vector, [vector]), "f")
>>> x = Lanes(ir.IRBuilder(f.append_basic_block()), f.args[0])
>>> (x * x + 1).type == vector
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from llvmlite import ir

from .loops import splat

Operand: TypeAlias = "Lanes | float"  # a number stands for itself in every lane


def typed(element: ir.Type, like: ir.Type) -> ir.Type:
    """The type of an element's, with as many lanes as another type has."""
    return ir.VectorType(element, like.count) if isinstance(like, ir.VectorType) else element


def element_of(kind: ir.Type) -> ir.Type:
    """The type of one lane."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def bits_of(element: ir.Type) -> int:
    """The number of bits of an integer or a floating-point number."""
    if isinstance(element, ir.IntType):
        return int(element.width)
    return 32 if isinstance(element, ir.FloatType) else 64


def suffix(kind: ir.Type) -> str:
    """The name of a type in those of LLVM's intrinsic functions, such as v8f32."""
    element = element_of(kind)
    letter = "i" if isinstance(element, ir.IntType) else "f"
    lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    return f"{lanes}{letter}{bits_of(element)}"


def constant(kind: ir.Type, number: float) -> ir.Constant:
    """The number in every lane, rounded to the type."""
    element = element_of(kind)
    one = ir.Constant(element, int(number) if isinstance(element, ir.IntType) else float(number))
    return ir.Constant(kind, [one] * kind.count) if isinstance(kind, ir.VectorType) else one


class Lanes:
    """A scalar, or a vector of numbers, of one type; what is computed goes to the builder's block.

    The operators need operands of the same type, or numbers. Integers have signs; `>>` fills with
    zeros. Comparisons return lanes of one bit; those of floats are false for NaN.
    """

    __slots__ = ("builder", "value")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value

    @property
    def type(self) -> ir.Type:
        """The type of LLVM's."""
        return self.value.type

    @property
    def element(self) -> ir.Type:
        """The type of one lane."""
        return element_of(self.type)

    @property
    def bits(self) -> int:
        """The number of bits of one lane."""
        return bits_of(self.element)

    @property
    def is_float(self) -> bool:
        """Whether it has floating-point numbers, not integers."""
        return not isinstance(self.element, ir.IntType)

    def like(self, number: Operand) -> Lanes:
        """The number in lanes of this type; what has lanes already stays as it is."""
        if isinstance(number, Lanes):
            return number
        return self._new(constant(self.type, number))

    def _new(self, value: ir.Value) -> Lanes:
        return Lanes(self.builder, value)

    def _binary(self, of_floats: str | None, of_integers: str | None, other: Operand) -> Lanes:
        name = of_floats if self.is_float else of_integers
        return self._new(getattr(self.builder, str(name))(self.value, self.like(other).value))

    def __add__(self, other: Operand) -> Lanes:
        return self._binary("fadd", "add", other)

    def __sub__(self, other: Operand) -> Lanes:
        return self._binary("fsub", "sub", other)

    def __mul__(self, other: Operand) -> Lanes:
        return self._binary("fmul", "mul", other)

    def __truediv__(self, other: Operand) -> Lanes:
        return self._binary("fdiv", None, other)

    def __radd__(self, other: float) -> Lanes:
        return self.like(other) + self

    def __rsub__(self, other: float) -> Lanes:
        return self.like(other) - self

    def __rmul__(self, other: float) -> Lanes:
        return self.like(other) * self

    def __rtruediv__(self, other: float) -> Lanes:
        return self.like(other) / self

    def __neg__(self) -> Lanes:
        return self._new(self.builder.fneg(self.value)) if self.is_float else 0 - self

    def __and__(self, other: Operand) -> Lanes:
        return self._binary(None, "and_", other)

    def __or__(self, other: Operand) -> Lanes:
        return self._binary(None, "or_", other)

    def __xor__(self, other: Operand) -> Lanes:
        return self._binary(None, "xor", other)

    def __invert__(self) -> Lanes:
        return self ^ -1

    def __lshift__(self, count: Operand) -> Lanes:
        return self._binary(None, "shl", count)

    def __rshift__(self, count: Operand) -> Lanes:
        return self._binary(None, "lshr", count)

    def compare(self, operator: str, other: Operand) -> Lanes:
        """Compare by one of `==`, `!=`, `<`, `<=`, `>`, `>=`; only `!=` is true for NaN."""
        other = self.like(other)
        if self.is_float:
            ordered = operator != "!="
            compare = self.builder.fcmp_ordered if ordered else self.builder.fcmp_unordered
        else:
            compare = self.builder.icmp_signed if self.bits > 1 else self.builder.icmp_unsigned
        return self._new(compare(operator, self.value, other.value))

    def __lt__(self, other: Operand) -> Lanes:
        return self.compare("<", other)

    def __le__(self, other: Operand) -> Lanes:
        return self.compare("<=", other)

    def __gt__(self, other: Operand) -> Lanes:
        return self.compare(">", other)

    def __ge__(self, other: Operand) -> Lanes:
        return self.compare(">=", other)

    def is_nan(self) -> Lanes:
        """Whether it is no number."""
        return self._new(self.builder.fcmp_unordered("uno", self.value, self.value))

    def as_integers(self) -> Lanes:
        """The bits of floating-point numbers, as integers."""
        return self._new(self.builder.bitcast(self.value, typed(ir.IntType(self.bits), self.type)))

    def as_floats(self) -> Lanes:
        """The floating-point numbers of these bits."""
        element = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        return self._new(self.builder.bitcast(self.value, typed(element, self.type)))

    def as_numbers(self) -> Lanes:
        """Integers as floating-point numbers with as many bits."""
        element = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        return self._new(self.builder.sitofp(self.value, typed(element, self.type)))

    def resized(self, bits: int) -> Lanes:
        """Integers of another number of bits: the lowest ones, or more of them with the sign."""
        to = typed(ir.IntType(bits), self.type)
        resize = self.builder.trunc if bits < self.bits else self.builder.sext
        return self if bits == self.bits else self._new(resize(self.value, to))

    def repeated(self, like: Lanes) -> Lanes:
        """A scalar in as many lanes as another number has."""
        if not isinstance(like.type, ir.VectorType):
            return self
        return self._new(splat(self.builder, self.value, like.type.count))

    def divided_by(self, other: Operand) -> Lanes:
        """The quotient of integers with a sign, rounded towards 0."""
        return self._binary(None, "sdiv", other)

    def intrinsic(self, name: str, *others: Operand) -> Lanes:
        """Call one of LLVM's functions whose arguments and result have the same type."""
        operands = [self, *map(self.like, others)]
        full = f"llvm.{name}.{suffix(self.type)}"
        fun = self.builder.module.globals.get(full)
        if fun is None:
            of = ir.FunctionType(self.type, [self.type] * len(operands))
            fun = ir.Function(self.builder.module, of, full)
        return self._new(self.builder.call(fun, [operand.value for operand in operands]))

    def __abs__(self) -> Lanes:
        return self.intrinsic("fabs") if self.is_float else select(self < 0, -self, self)

    def with_sign_of(self, other: Operand) -> Lanes:
        """The same magnitude, and the sign of another number."""
        return self.intrinsic("copysign", other)

    def times_plus(self, factor: Operand, term: Operand) -> Lanes:
        """`self * factor + term`, rounded once."""
        return self.intrinsic("fma", factor, term)

    def at_most(self, bound: Operand) -> Lanes:
        """The lesser number; NaN stays NaN."""
        return select(self > bound, bound, self)

    def at_least(self, bound: Operand) -> Lanes:
        """The greater number; NaN stays NaN."""
        return select(self < bound, bound, self)

    def widened(self) -> Lanes:
        """The numbers of float32 in float64."""
        return self._new(self.builder.fpext(self.value, typed(ir.DoubleType(), self.type)))

    def narrowed(self) -> Lanes:
        """The numbers of float64, rounded to float32."""
        return self._new(self.builder.fptrunc(self.value, typed(ir.FloatType(), self.type)))


def select(condition: Lanes, x: Operand, y: Operand) -> Lanes:
    """`x` where the condition is true, `y` elsewhere; one of them must have lanes."""
    like = x if isinstance(x, Lanes) else y
    assert isinstance(like, Lanes)  # else there is no type
    chosen = condition.builder.select(condition.value, like.like(x).value, like.like(y).value)
    return Lanes(condition.builder, chosen)


def polynomial(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """The polynomial with these coefficients, lowest power first.

    The even and the odd powers are summed side by side, which halves the time until the sum is
    known: it counts where there are few numbers.
    """
    if len(coefficients) < 5:
        return _horner(x, coefficients)
    square = x * x
    return _horner(square, coefficients[1::2]).times_plus(x, _horner(square, coefficients[::2]))


def _horner(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    *others, total = map(x.like, coefficients)
    for c in reversed(others):
        total = total.intrinsic("fmuladd", x, c)  # rounded twice where a processor has no FMA
    return total


def inlined(name: str, body: Callable[..., Lanes], *operands: Lanes) -> Lanes:
    """Call a function of the module by its name, which is made of `body` when first needed.

    Its result has the type of the first operand. LLVM copies it to where it is called: constants
    then stay in registers, and a call would cost more than most bodies.
    """
    return _called("alwaysinline", name, body, *operands)


def outlined(name: str, body: Callable[..., Lanes], *operands: Lanes) -> Lanes:
    """Call the same, as a function of its own, since it is long and seldom needed."""
    return _called("noinline", name, body, *operands)


def each_lane(name: str, body: Callable[[Lanes], Lanes], x: Lanes) -> Lanes:
    """Call a function of scalars, which is made of `body`, for one lane after the other."""
    if not isinstance(x.type, ir.VectorType):
        return _called("noinline", name, body, x)
    result = ir.Constant(x.type, ir.Undefined)
    for i in range(x.type.count):
        lane = ir.IntType(32)(i)
        one = Lanes(x.builder, x.builder.extract_element(x.value, lane))
        one = _called("noinline", name, body, one)
        result = x.builder.insert_element(result, one.value, lane)
    return Lanes(x.builder, result)


def _called(attribute: str, name: str, body: Callable[..., Lanes], *operands: Lanes) -> Lanes:
    builder = operands[0].builder
    types = [operand.type for operand in operands]
    full = ".".join([name, *map(suffix, types)])
    function = builder.module.globals.get(full)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(types[0], types), full)
        function.linkage = "internal"
        function.attributes.add(attribute)
        inner = ir.IRBuilder(function.append_basic_block())
        inner.ret(body(*[Lanes(inner, argument) for argument in function.args]).value)
    return Lanes(builder, builder.call(function, [operand.value for operand in operands]))


def select_rare(condition: Lanes, x: Callable[[], Lanes], y: Lanes) -> Lanes:
    """`select(condition, x(), y)`, where `x` is not computed if no condition is true."""
    builder, any_lane = condition.builder, condition.value
    if isinstance(condition.type, ir.VectorType):
        bits = ir.IntType(condition.type.count)
        any_lane = builder.icmp_unsigned("!=", builder.bitcast(any_lane, bits), bits(0))
    before = builder.block
    with builder.if_then(any_lane, likely=False):
        chosen = select(condition, x(), y)
        rare = builder.block
    result = builder.phi(y.type)
    result.add_incoming(y.value, before)
    result.add_incoming(chosen.value, rare)
    return Lanes(builder, result)
