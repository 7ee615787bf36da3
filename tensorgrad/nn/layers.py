"""Layers of neurons, as matrix operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from .. import scalar
from ..rules.linear_algebra import affine
from ..tensor import Tensor
from .activations import ACTIVATIONS, Activation
from .module import Module

RNG: TypeAlias = "np.random.Generator | int | None"  # a string: numpy.random is slow to import


def as_input(x: Any, dtype: DTypeLike | None) -> Any:
    """Lists of numbers become an array of `dtype`; lists with tensors in them are stacked.

    Tensors and arrays stay as they are.
    """
    if hasattr(x, "__array_function__"):
        return x
    if _holds_tensors(x):
        return np.stack([as_input(part, dtype) for part in x])
    return np.asarray(x, dtype)


def _holds_tensors(x: Any) -> bool:
    return isinstance(x, Tensor) or (isinstance(x, (list, tuple)) and any(map(_holds_tensors, x)))


class _Affine(Module):
    """An activation of `inner(x, weight) + bias`, shapes (*shape, nin) and `shape`."""

    def __init__(
        self,
        shape: tuple[int, ...],
        nin: int,
        activation: str | Activation,
        dtype: DTypeLike,
        rng: RNG,
    ) -> None:
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}: use one of {[*ACTIVATIONS]}")
        if min(nin, *shape, 1) < 1:
            raise ValueError(
                f"{type(self).__name__}({', '.join(map(str, (nin, *shape)))}): "
                "every size must be at least 1"
            )
        rng = np.random.default_rng(rng)
        bound = nin**-0.5
        self.weight = Tensor(rng.uniform(-bound, bound, (*shape, nin)), dtype, requires_grad=True)
        self.bias = Tensor(rng.uniform(-bound, bound, shape), dtype, requires_grad=True)
        self.activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation

    def __call__(self, x: Any) -> Any:
        """Return the output for a sample, shape (nin,), or a batch, shape (n, nin)."""
        x = as_input(x, self.weight.dtype)
        nin = self.weight.shape[-1]
        if x.shape[-1:] != (nin,):
            raise ValueError(
                f"{self}: an input of shape {x.shape}; pass one sample, of shape ({nin},), "
                f"or a batch of shape (n, {nin})"
            )
        return self.activation(affine(x, self.weight, self.bias))

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, reversed(self.weight.shape)))
        return f"{type(self).__name__}({sizes}, activation={_name(self.activation)!r})"

    def _set_rows(self, rows: Any) -> Self:
        """Take weights and biases from one array, in the last column of which are the biases."""
        rows = np.array(rows, self.weight.dtype)
        self.weight.data, self.bias.data = rows[..., :-1], rows[..., -1]
        return self

    def _rows(self) -> Any:
        return np.concatenate([self.weight.data, self.bias.data[..., None]], axis=-1).tolist()


class Neuron(_Affine):
    """A neuron: an activation of a weighted sum of `nin` inputs and a bias.

    The weight, shape (nin,), and the bias, shape (), start uniform in +-1/sqrt(nin). `activation`
    is a name in `ACTIVATIONS` or any function of a tensor, `rng` a NumPy Generator or a seed.
    A sample of shape (nin,) gives a tensor of shape (), a batch (n, nin) one of shape (n,).

    >>> tg.nn.Neuron(3, activation="relu", rng=0)([[2.0, 3.0, -1.0], [1.0, -8.0, 2.0]]).shape
    (2,)
    """

    def __init__(
        self,
        nin: int,
        activation: str | Activation = "tanh",
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        super().__init__((), nin, activation, dtype, rng)

    @classmethod
    def from_scalar(cls, neuron: scalar.Neuron, dtype: DTypeLike = np.float64) -> Self:
        """Return the tensor twin of a `tensorgrad.scalar.Neuron`: same weights and activation."""
        activation = _counterpart(neuron.activation, scalar.ACTIVATIONS, ACTIVATIONS)
        twin = cls(len(neuron.w), activation, dtype)
        return twin._set_rows([p.data for p in neuron.parameters()])

    def to_scalar(self) -> scalar.Neuron:
        """Return the scalar twin: same weights, and an activation that must also take a Value."""
        activation = _counterpart(self.activation, ACTIVATIONS, scalar.ACTIVATIONS)
        return _fill(scalar.Neuron(self.weight.size, activation), self._rows())


class Layer(_Affine):
    """A layer: `nout` neurons that see the same `nin` inputs.

    The weight has shape (nout, nin), row i being neuron i; the bias has shape (nout,). Both start
    uniform in +-1/sqrt(nin). `activation` is a name in `ACTIVATIONS` or any function of a tensor,
    `rng` a NumPy Generator or a seed. Inputs are tensors, arrays, or lists of numbers or tensors; a
    sample of shape (nin,) gives a tensor of shape (nout,), a batch (n, nin) one of shape (n, nout).

    >>> layer = tg.nn.Layer(3, 4)
    >>> layer, layer([2.0, 3.0, -1.0]).shape, layer(np.ones((5, 3))).shape
    (Layer(3, 4, activation='tanh'), (4,), (5, 4))
    """

    def __init__(
        self,
        nin: int,
        nout: int,
        activation: str | Activation = "tanh",
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        super().__init__((nout,), nin, activation, dtype, rng)

    @classmethod
    def from_scalar(cls, layer: scalar.Layer, dtype: DTypeLike = np.float64) -> Self:
        """Return the tensor twin of a `tensorgrad.scalar.Layer`: same weights and activation.

        Raises ValueError if its neurons have different activations.
        """
        first, *others = layer.neurons
        if any(neuron.activation != first.activation for neuron in others):
            raise ValueError("from_scalar: the neurons of a layer must have the same activation")
        activation = _counterpart(first.activation, scalar.ACTIVATIONS, ACTIVATIONS)
        twin = cls(len(first.w), len(layer.neurons), activation, dtype)
        return twin._set_rows([[p.data for p in neuron.parameters()] for neuron in layer.neurons])

    def to_scalar(self) -> scalar.Layer:
        """Return the scalar twin: same weights, and an activation that must also take a Value."""
        nout, nin = self.weight.shape
        activation = _counterpart(self.activation, ACTIVATIONS, scalar.ACTIVATIONS)
        twin = scalar.Layer(nin, nout, activation)
        for neuron, row in zip(twin.neurons, self._rows()):
            _fill(neuron, row)
        return twin


class MLP(Module):
    """A multi-layer perceptron: layers of `nouts[0]`, `nouts[1]` ... neurons, one after another.

    The last layer has `output_activation`; by default, that of the others. Further arguments,
    inputs and outputs are those of `Layer`.

    >>> net = tg.nn.MLP(3, [4, 4, 1], output_activation="linear")
    >>> net
    MLP(3 -> 4 tanh -> 4 tanh -> 1 linear)
    >>> net([2.0, 3.0, -1.0]).shape
    (1,)
    """

    def __init__(
        self,
        nin: int,
        nouts: Sequence[int],
        activation: str | Activation = "tanh",
        output_activation: str | Activation | None = None,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        rng = np.random.default_rng(rng)
        activations = [activation] * len(nouts)
        if output_activation is not None:
            activations[-1:] = [output_activation]
        shapes = zip([nin, *nouts], nouts, activations)
        self.layers = [Layer(m, n, function, dtype, rng) for m, n, function in shapes]

    def __call__(self, x: Any) -> Any:
        """Return the last layer's output for a sample or a batch."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __repr__(self) -> str:
        inputs = [str(layer.weight.shape[1]) for layer in self.layers[:1]]
        outputs = [f"{len(layer.weight)} {_name(layer.activation)}" for layer in self.layers]
        return f"MLP({' -> '.join(inputs + outputs)})"

    @classmethod
    def from_scalar(cls, mlp: scalar.MLP, dtype: DTypeLike = np.float64) -> Self:
        """Return the tensor twin of a `tensorgrad.scalar.MLP`: same weights and activations.

        >>> from tensorgrad import scalar
        >>> reference = scalar.MLP(3, [4, 4, 1], rng=0)
        >>> x = [2.0, 3.0, -1.0]
        >>> bool(np.isclose(tg.nn.MLP.from_scalar(reference)(x).item(), reference(x).data))
        True
        """
        twin = cls(1, [])
        twin.layers = [Layer.from_scalar(layer, dtype) for layer in mlp.layers]
        return twin

    def to_scalar(self) -> scalar.MLP:
        """Return the scalar twin: same weights, and activations that must also take a Value."""
        twin = scalar.MLP(1, [])
        twin.layers = [layer.to_scalar() for layer in self.layers]
        return twin


def _name(function: Activation) -> str:
    return next(
        (name for name, known in ACTIVATIONS.items() if known is function),
        getattr(function, "__name__", repr(function)),
    )


def _counterpart(function: Any, known: Mapping[str, Any], counterparts: Mapping[str, Any]) -> Any:
    """The other engine's activation of the same name; a function without a name is shared."""
    for name, candidate in known.items():
        if candidate is function:
            return counterparts.get(name, function)
    return function


def _fill(neuron: scalar.Neuron, row: Sequence[float]) -> scalar.Neuron:
    for parameter, value in zip(neuron.parameters(), row, strict=True):
        parameter.data = value
    return neuron
