"""The reference engine: networks trained one number at a time, in plain Python.

It is slow, but so short that it is easy to see that it is correct, and the tensor engine is tested
against it. It computes with floats, or exactly with `fractions.Fraction`.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any, TypeAlias

__all__ = ["MLP", "Layer", "Neuron", "Value"]


def __dir__() -> list[str]:
    return __all__


_NUMBERS = float, int, Number  # the first two only make isinstance faster

_Operator: TypeAlias = "Callable[[Value, Any], Value]"


def _operators(
    symbol: str,
    fun: Callable[[Any, Any], Any],
    left: Callable[[Any, Any, Any], Any],
    right: Callable[[Any, Any, Any], Any],
) -> tuple[_Operator, _Operator]:
    """The operator z = fun(x, y) and its reflection, from dz/dx = left(x, y, z) and dz/dy."""

    def plain(self: Value, other: Any) -> Any:
        x = self.data
        if isinstance(other, Value):
            y = other.data
            z = fun(x, y)
            return Value(z, (self, other), (left(x, y, z), right(x, y, z)), (symbol,))
        if not isinstance(other, _NUMBERS):
            return NotImplemented  # an array then calls this for each of its elements
        z = fun(x, other)
        return Value(z, (self,), (left(x, other, z),), (symbol, other))

    def reflected(self: Value, other: Any) -> Any:
        if not isinstance(other, _NUMBERS):
            return NotImplemented
        z = fun(other, self.data)
        return Value(z, (self,), (right(other, self.data, z),), (other, symbol))

    return plain, reflected


def _power_exponent(x: Any, _p: Any, z: Any) -> Any:
    if x > 0:
        return z * math.log(x)
    return 0 if x == 0 else math.nan


class Value:
    """A number that records how it was computed, and has a gradient.

    A computed value holds its parents, its derivative with respect to each of them, and the
    operation: its name, and the number beside it, as in `("**", 2)`. `label` is the name of a value
    in drawings (`tensorgrad.viz.graph`).

    >>> from tensorgrad.scalar import Value
    >>> a, b = Value(2.0), Value(-3.0)
    >>> c = (a * b + b**2).relu()
    >>> c.backward()
    >>> c, a.grad, b.grad
    (Value(data=3.0, grad=1), -3.0, -4.0)

    Fractions give exact results, and NumPy functions call the methods of the values:

    >>> from fractions import Fraction
    >>> x = Value(Fraction(1, 3))
    >>> (1 / x - x).backward()
    >>> x.grad
    Fraction(-10, 1)
    >>> np.tanh(Value(0.0)) + np.inner([Value(1.0), Value(2.0)], [3.0, 4.0])
    Value(data=11.0, grad=0)
    """

    __slots__ = ("_parents", "_slopes", "data", "grad", "label", "operation")

    def __init__(
        self,
        data: Any,
        parents: tuple[Value, ...] = (),
        slopes: tuple[Any, ...] = (),
        operation: tuple[Any, ...] = (),
        label: str = "",
    ) -> None:
        self.data = data
        self.grad: Any = 0
        self.operation, self.label = operation, label
        self._parents = parents
        self._slopes = slopes

    def backward(self) -> None:
        """Add the derivative of this value to the `grad` of every value it was computed from.

        Several calls accumulate in the values that were not computed, until their `grad` is set to
        0. In computed values, each call starts at 0.
        """
        graph, uses = [self], {self: 0}
        for value in graph:
            if value._parents:
                value.grad = 0
            for parent in value._parents:
                if parent not in uses:
                    uses[parent] = 0
                    graph.append(parent)
                uses[parent] += 1
        self.grad += 1
        ready = [self]
        for value in ready:
            for parent, slope in zip(value._parents, value._slopes):
                parent.grad += slope * value.grad
                uses[parent] -= 1
                if not uses[parent]:
                    ready.append(parent)

    __add__, __radd__ = _operators("+", operator.add, lambda _x, _y, _z: 1, lambda _x, _y, _z: 1)
    __sub__, __rsub__ = _operators("-", operator.sub, lambda _x, _y, _z: 1, lambda _x, _y, _z: -1)
    __mul__, __rmul__ = _operators("*", operator.mul, lambda _x, y, _z: y, lambda x, _y, _z: x)
    __truediv__, __rtruediv__ = _operators(
        "/",
        operator.truediv,
        lambda _x, y, z: type(z)(1) / y,  # a fraction stays one if y is an int
        lambda _x, y, z: -z / y,
    )
    __pow__, __rpow__ = _operators(
        "**", operator.pow, lambda x, p, _z: p * x ** (p - 1) if p else 0, _power_exponent
    )

    def __neg__(self) -> Value:
        return Value(-self.data, (self,), (-1,), ("neg",))

    def exp(self) -> Value:
        """The exponential function."""
        y = math.exp(self.data)
        return Value(y, (self,), (y,), ("exp",))

    def log(self) -> Value:
        """The natural logarithm."""
        return Value(math.log(self.data), (self,), (1 / self.data,), ("log",))

    def tanh(self) -> Value:
        """The hyperbolic tangent."""
        y = math.tanh(self.data)
        return Value(y, (self,), (1 - y * y,), ("tanh",))

    def sigmoid(self) -> Value:
        """The logistic function, 1 / (1 + exp(-x))."""
        e = math.exp(-abs(self.data))  # cannot overflow
        y = (1 if self.data >= 0 else e) / (1 + e)
        return Value(y, (self,), (y * (1 - y),), ("sigmoid",))

    def relu(self) -> Value:
        """The larger of this value and 0; at 0 the derivative is 0."""
        return Value(max(self.data, type(self.data)(0)), (self,), (int(self.data > 0),), ("relu",))

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"


def linear(x: Value) -> Value:
    """Return the value as it is: no activation."""
    return x


Activation: TypeAlias = Callable[[Value], Value]

ACTIVATIONS: dict[str, Activation] = {
    "tanh": Value.tanh,
    "relu": Value.relu,
    "sigmoid": Value.sigmoid,
    "linear": linear,
}


def activation_name(function: Any, known: Mapping[str, Any]) -> str:
    """Return the name of an activation among the known ones, or else the function's own."""
    names = (name for name, other in known.items() if other is function)
    return next(names, getattr(function, "__name__", repr(function)))


def _shape(layers: Sequence[Layer]) -> str:
    """The number of inputs, and that of the neurons of each layer with their activation."""
    parts = [str(len(neuron.w)) for layer in layers[:1] for neuron in layer.neurons[:1]]
    for layer in layers:
        names = [activation_name(neuron.activation, ACTIVATIONS) for neuron in layer.neurons[:1]]
        parts.append(" ".join([str(len(layer.neurons)), *names]))
    return " -> ".join(parts)


class _Module:
    parameters: Callable[[], list[Value]]

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0."""
        for p in self.parameters():
            p.grad = 0


class Neuron(_Module):
    """An activation of a weighted sum of `nin` inputs and a bias.

    The weights `w` and the bias `b` start uniform in +-1/sqrt(nin). `activation` is a name in
    `ACTIVATIONS` or a function of a Value; `rng` is a `random.Random` or a seed.
    """

    def __init__(
        self,
        nin: int,
        activation: str | Activation = "tanh",
        rng: random.Random | int | None = None,
    ) -> None:
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}: use one of {[*ACTIVATIONS]}")
        if nin < 1:
            raise ValueError(f"Neuron({nin}): a neuron needs at least one input")
        rng = _generator(rng)
        bound = nin**-0.5
        self.w = [Value(rng.uniform(-bound, bound)) for _ in range(nin)]
        self.b = Value(rng.uniform(-bound, bound))
        self.activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation

    def __call__(self, x: Sequence[Any]) -> Value:
        """Return the output for one sample: a sequence of numbers or values."""
        if len(x) != len(self.w):
            raise ValueError(f"a neuron with {len(self.w)} inputs cannot take {len(x)} numbers")
        return self.activation(sum((wi * xi for wi, xi in zip(self.w, x)), self.b))

    def __repr__(self) -> str:
        return f"Neuron({len(self.w)} -> {activation_name(self.activation, ACTIVATIONS)})"

    def parameters(self) -> list[Value]:
        """The weights and the bias."""
        return [*self.w, self.b]


class Layer(_Module):
    """A list of `nout` neurons with the same `nin` inputs."""

    def __init__(
        self,
        nin: int,
        nout: int,
        activation: str | Activation = "tanh",
        rng: random.Random | int | None = None,
    ) -> None:
        rng = _generator(rng)
        self.neurons = [Neuron(nin, activation, rng) for _ in range(nout)]

    def __call__(self, x: Any) -> Any:
        """Return the list of the outputs; for a single neuron, return just its output."""
        inputs = [x] if isinstance(x, Value) else x
        outputs = [neuron(inputs) for neuron in self.neurons]
        return outputs[0] if len(outputs) == 1 else outputs

    def __repr__(self) -> str:
        return f"Layer({_shape([self])})"

    def parameters(self) -> list[Value]:
        """The parameters of all neurons, in order."""
        return [p for neuron in self.neurons for p in neuron.parameters()]


class MLP(_Module):
    """A multi-layer perceptron: one `Layer` after another, of `nouts[0]`, `nouts[1]` ... neurons.

    The last layer has the `output_activation`, by default that of the others.

    >>> from tensorgrad.scalar import MLP
    >>> net = MLP(3, [4, 4, 1], rng=0)
    >>> net
    MLP(3 -> 4 tanh -> 4 tanh -> 1 tanh)
    >>> len(net.parameters()), round(net([2.0, 3.0, -1.0]).data, 4)
    (41, -0.5372)
    """

    def __init__(
        self,
        nin: int,
        nouts: Sequence[int],
        activation: str | Activation = "tanh",
        output_activation: str | Activation | None = None,
        rng: random.Random | int | None = None,
    ) -> None:
        rng = _generator(rng)
        if isinstance(nouts, int):
            raise TypeError(f"MLP: pass the sizes of the layers as a list: [{nouts}], not {nouts}")
        activations = [activation] * len(nouts)
        if output_activation is not None:
            activations[-1:] = [output_activation]
        shapes = zip([nin, *nouts], nouts, activations)
        self.layers = [Layer(m, n, function, rng) for m, n, function in shapes]

    def __call__(self, x: Any) -> Any:
        """Return the last layer's output for one sample."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __repr__(self) -> str:
        return f"MLP({_shape(self.layers)})"

    def parameters(self) -> list[Value]:
        """The parameters of all layers, in order."""
        return [p for layer in self.layers for p in layer.parameters()]


def _generator(rng: random.Random | int | None) -> random.Random:
    return rng if isinstance(rng, random.Random) else random.Random(rng)
