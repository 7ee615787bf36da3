"""Random programs, written in NumPy, which tensors, values, dual and plain numbers all run."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st
from numpy.testing import assert_allclose

import tensorgrad as tg
from tensorgrad.scalar import Value

# Each takes two operands, keeps away from poles, and grows slowly enough.
RATIONAL = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "reflected": lambda x, y: 2 - x * 3 + y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / (y * y + 1),
    "reciprocal": lambda x, y: 1 / (x**2 + 1) - y,
    "cube": lambda x, y: -(x**3) + y,
    "inverse square": lambda x, y: (x * x + 1) ** -2 * y,
}
SMOOTH = RATIONAL | {
    "tanh": lambda x, y: np.tanh(x) * y,
    "exp": lambda x, y: np.exp(np.tanh(x)) - y,
    "log": lambda x, y: np.log(x * x + 1) + y,
    "root": lambda x, y: (x * x + 1) ** 0.5 - y,
    "power": lambda x, y: (x * x + 1) ** (y / (y * y + 1)),
    "exponential": lambda x, y: 2.0 ** np.tanh(x) * y,
}


class Step(NamedTuple):
    name: str
    left: int
    right: int


def programs(operations: Any, inputs: int) -> st.SearchStrategy[list[Step]]:
    """Up to eight steps, each of which takes two of the inputs and the earlier results."""
    names = st.sampled_from(sorted(operations))

    def step(k: int) -> st.SearchStrategy[Step]:
        earlier = st.integers(0, inputs + k - 1)
        return st.builds(Step, names, earlier, earlier)

    return st.integers(1, 8).flatmap(lambda n: st.tuples(*map(step, range(n))).map(list))


def run(program: Sequence[Step], inputs: Sequence[Any]) -> Any:
    """The sum of the last two results, so that every input can matter."""
    values = list(inputs)
    for name, left, right in program:
        values.append(SMOOTH[name](values[left], values[right]))
    return values[-1] + values[-2]


class Dual(NamedTuple):
    """A number and its derivative: forward mode, exact on fractions."""

    value: Any
    slope: Any

    def __add__(self, other: Any) -> Dual:  # type: ignore[override]
        other = dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def __mul__(self, other: Any) -> Dual:  # type: ignore[override]
        other = dual(other)
        slope = self.slope * other.value + self.value * other.slope
        return Dual(self.value * other.value, slope)

    def __pow__(self, n: int) -> Dual:
        if n < 0:
            power = self**-n
            return Dual(1 / power.value, -power.slope / power.value**2)
        return self * self ** (n - 1) if n > 1 else self

    def __sub__(self, other: Any) -> Dual:
        return self + -dual(other)

    def __rsub__(self, other: Any) -> Dual:
        return -self + other

    def __truediv__(self, other: Any) -> Dual:
        return self * dual(other) ** -1

    def __rtruediv__(self, other: Any) -> Dual:
        return dual(other) * self**-1


def dual(x: Any) -> Dual:
    return x if isinstance(x, Dual) else Dual(x, Fraction(0))


numbers = st.integers(-16, 16).map(lambda n: n / 8)


def scalar_gradients(program: Sequence[Step], inputs: Sequence[Any]) -> tuple[Any, list[Any]]:
    values = [Value(x) for x in inputs]
    out = run(program, values)
    out.backward()
    return out.data, [v.grad for v in values]


def tensor_gradients(program: Sequence[Step], inputs: Sequence[Any]) -> tuple[Any, list[Any]]:
    tensors = [tg.Tensor(x, requires_grad=True) for x in inputs]
    out = run(program, tensors)
    out.backward(np.ones(out.shape))
    return out.data, [np.zeros(t.shape) if t.grad is None else t.grad for t in tensors]


@given(programs(SMOOTH, 3), st.tuples(*[numbers] * 3))
def test_scalar_and_tensor_engine_agree(program: list[Step], inputs: tuple[float, ...]) -> None:
    expected, gradients = scalar_gradients(program, inputs)
    assume(max(map(abs, [expected, *gradients])) < 1e8)
    actual, actual_gradients = tensor_gradients(program, inputs)
    assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)
    assert_allclose(actual_gradients, gradients, rtol=1e-9, atol=1e-7)


@given(programs(SMOOTH, 2), st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_arrays_are_many_numbers(program: list[Step], points: list[tuple[float, float]]) -> None:
    expected = [scalar_gradients(program, point) for point in points]
    assume(max(abs(x) for y, gradients in expected for x in (y, *gradients)) < 1e8)
    actual, actual_gradients = tensor_gradients(program, np.array(points).T)
    assert_allclose(actual, [y for y, _ in expected], rtol=1e-9, atol=1e-9)
    assert_allclose(np.array(actual_gradients).T, [g for _, g in expected], rtol=1e-9, atol=1e-7)


@given(programs(SMOOTH, 2), st.tuples(numbers, numbers))
def test_gradients_are_those_of_the_complex_step_and_of_differences(
    program: list[Step], inputs: tuple[float, float]
) -> None:
    _, gradients = tensor_gradients(program, inputs)
    assume(max(np.max(np.abs(g)) for g in gradients) < 1e3)
    tiny, small = 1e-30, 1e-5
    for i, gradient in enumerate(gradients):
        unit = np.eye(2)[i]
        complex_step = np.imag(run(program, np.asarray(inputs) + 1j * tiny * unit)) / tiny
        assert_allclose(gradient, complex_step, rtol=1e-9, atol=1e-9)
        above, below = (run(program, np.asarray(inputs) + s * small * unit) for s in (1, -1))
        assert_allclose(gradient, (above - below) / (2 * small), rtol=1e-3, atol=1e-3)


@given(programs(RATIONAL, 3), st.tuples(*[numbers] * 3))
def test_rational_programs_are_exact_on_fractions(
    program: list[Step], inputs: tuple[float, ...]
) -> None:
    fractions = [Fraction(x) for x in inputs]
    value, gradients = scalar_gradients(program, fractions)
    assert type(value) is Fraction
    for i, gradient in enumerate(gradients):
        exact = run(program, [Dual(x, Fraction(i == j)) for j, x in enumerate(fractions)])
        assert (value, gradient) == exact
    assume(max(map(abs, [value, *gradients])) < 10**8)
    actual, actual_gradients = tensor_gradients(program, inputs)
    assert_allclose(actual, float(value), rtol=1e-9, atol=1e-9)
    assert_allclose(actual_gradients, [float(g) for g in gradients], rtol=1e-9, atol=1e-7)


@given(programs(SMOOTH, 1), numbers)
def test_second_derivatives_are_differences_of_the_first(program: list[Step], x: float) -> None:
    def f(v: Any) -> Any:
        return run(program, [v])

    first, second = tg.grad(f), tg.grad(tg.grad(f))
    assume(abs(second(x)) < 1e3)
    coarse, fine = ((first(x + h) - first(x - h)) / (2 * h) for h in (2e-4, 1e-4))
    assume(abs(coarse - fine) < 1e-4 * (1 + abs(fine)))  # else differences know too little
    assert_allclose(second(x), fine, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_every_operation_of_the_programs_is_differentiable(name: str) -> None:
    assert tg.gradcheck(SMOOTH[name], [np.array([0.3, -1.2]), np.array([1.1, 0.7])])
