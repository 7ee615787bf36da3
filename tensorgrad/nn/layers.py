"""Dense layers, and a layer that flattens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import DTypeLike

from .. import scalar
from ..data import RNG
from ..engine.modes import plain
from ..engine.tensor import Tensor
from ..rules.linear_algebra import affine
from .activations import ACTIVATIONS, Activation, activation_of, identity
from .module import Module, as_input, called, require_sizes, uniform, uniform_weight


class _Affine(Module):
    """activation(x @ weight.T + bias); the bias has `shape`, and the weight (*shape, nin)."""

    bias: Tensor | None

    def __init__(
        self,
        shape: tuple[int, ...],
        nin: int,
        activation: str | Activation,
        bias: bool,
        dtype: DTypeLike,
        rng: RNG,
    ) -> None:
        require_sizes(type(self).__name__, nin, *shape)
        rng = np.random.default_rng(rng)
        self.weight = uniform_weight(rng, nin**-0.5, (*shape, nin), dtype)
        self.bias = uniform(rng, nin**-0.5, shape, dtype) if bias else None
        self.activation = activation_of(activation)

    def __call__(self, x: Any) -> Tensor:
        """Return the output for a sample, shape (nin,), or a batch, shape (n, nin)."""
        x = as_input(x, self.weight.dtype)
        nin = self.weight.shape[-1]
        if x.shape[-1:] != (nin,):
            raise ValueError(
                f"{self}: an input of shape {x.shape}; pass one sample, of shape ({nin},), "
                f"or a batch of shape (n, {nin})"
            )
        bias = 0 if self.bias is None else self.bias
        return self.activation(affine(x, self.weight, bias))

    def __repr__(self) -> str:
        return called(
            self,
            *self.weight.shape[::-1],
            f"activation={scalar.activation_name(self.activation, ACTIVATIONS)!r}",
        )

    def _set_rows(self, rows: Any) -> Self:
        """Load weights and biases from one array, whose last column is the biases."""
        rows = np.array(rows, self.weight.dtype)
        self.load_state_dict({"weight": rows[..., :-1], "bias": rows[..., -1]})
        return self

    def _rows(self) -> Any:
        bias = np.zeros(self.weight.shape[:-1]) if self.bias is None else plain(self.bias)
        return np.concatenate([plain(self.weight), bias[..., np.newaxis]], axis=-1).tolist()


class Neuron(_Affine):
    """A neuron: activation(x @ weight + bias), for `nin` inputs.

    The weight, shape (nin,), and the bias, shape (), start uniform in +-1/sqrt(nin). `activation`
    is a name in `ACTIVATIONS` or any function of a tensor. `rng` is a NumPy Generator or a seed.
    A sample of shape (nin,) gives shape (), and a batch of shape (n, nin) gives shape (n,).

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
        super().__init__((), nin, activation, True, dtype, rng)

    @classmethod
    def from_scalar(cls, neuron: scalar.Neuron, dtype: DTypeLike = np.float64) -> Self:
        """Convert a `tensorgrad.scalar.Neuron`; weights and activation stay the same."""
        activation = _counterpart(neuron.activation, scalar.ACTIVATIONS, ACTIVATIONS)
        twin = cls(len(neuron.w), activation, dtype)
        return twin._set_rows([p.data for p in neuron.parameters()])

    def to_scalar(self) -> scalar.Neuron:
        """Return the same neuron for the scalar engine; a custom activation must take a Value."""
        activation = _counterpart(self.activation, ACTIVATIONS, scalar.ACTIVATIONS)
        return _fill(scalar.Neuron(self.weight.size, activation), self._rows())


class Layer(_Affine):
    """A dense layer with an activation: activation(x @ weight.T + bias).

    The weight has shape (nout, nin): row i is neuron i. The bias has shape (nout,). Both start
    uniform in +-1/sqrt(nin). `activation` is a name in `ACTIVATIONS` or any function of a tensor.
    `rng` is a NumPy Generator or a seed. Inputs are tensors, arrays, or lists of numbers or
    tensors. A sample of shape (nin,) gives shape (nout,), and a batch of shape (n, nin) gives shape
    (n, nout).

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
        super().__init__((nout,), nin, activation, True, dtype, rng)

    @classmethod
    def from_scalar(cls, layer: scalar.Layer, dtype: DTypeLike = np.float64) -> Self:
        """Convert a `tensorgrad.scalar.Layer`; weights and activation stay the same.

        Raises ValueError if its neurons have different activations.
        """
        first, *others = layer.neurons
        if any(neuron.activation != first.activation for neuron in others):
            raise ValueError("from_scalar: the neurons of a layer must have the same activation")
        activation = _counterpart(first.activation, scalar.ACTIVATIONS, ACTIVATIONS)
        twin = cls(len(first.w), len(layer.neurons), activation, dtype)
        return twin._set_rows([[p.data for p in neuron.parameters()] for neuron in layer.neurons])

    def to_scalar(self) -> scalar.Layer:
        """Return the same layer for the scalar engine; a custom activation must take a Value."""
        nout, nin = self.weight.shape
        activation = _counterpart(self.activation, ACTIVATIONS, scalar.ACTIVATIONS)
        twin = scalar.Layer(nin, nout, activation)
        for neuron, row in zip(twin.neurons, self._rows()):
            _fill(neuron, row)
        return twin


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """Return `x @ weight.T + bias`.

    The weight has shape (out_features, in_features) or (in_features,), the bias (out_features,) or
    (), and `x` (..., in_features). Raises ValueError for other shapes.

    >>> tg.nn.linear(np.array([1.0, 2.0]), np.ones((3, 2)), np.array([0.0, 1.0, 2.0]))
    array([3., 4., 5.])
    """
    weight = as_input(weight)
    x = as_input(x, weight.dtype)
    bias = 0 if bias is None else as_input(bias, weight.dtype)
    rows, columns = weight.shape[:-1], weight.shape[-1:]
    if weight.ndim not in (1, 2) or x.shape[-1:] != columns or np.shape(bias) not in ((), rows):
        raise ValueError(
            f"linear: an input of shape {x.shape}, a weight of shape {weight.shape} and a bias of "
            f"shape {np.shape(bias)}: they must be (..., in_features), (out_features, in_features) "
            "and (out_features,)"
        )
    return affine(x, weight, bias)


def bilinear(x1: Any, x2: Any, weight: Any, bias: Any = None) -> Tensor:
    """Return x1 @ weight[k] @ x2 + bias[k] for each output feature k.

    The inputs have shapes (..., in1_features) and (..., in2_features), the weight
    (out_features, in1_features, in2_features), and the bias (out_features,).

    >>> tg.nn.bilinear(np.array([1.0, 2.0]), np.array([3.0]), np.ones((1, 2, 1)))
    array([9.])
    """
    weight = as_input(weight)
    x1, x2 = as_input(x1, weight.dtype), as_input(x2, weight.dtype)
    wanted = weight.shape[1:]
    if weight.ndim != 3 or (*x1.shape[-1:], *x2.shape[-1:]) != wanted:
        raise ValueError(
            f"bilinear: inputs of shapes {x1.shape} and {x2.shape} for a weight of shape "
            f"{weight.shape}, which must be (out_features, in1_features, in2_features)"
        )
    y = np.einsum("...i,kij,...j->...k", x1, weight, x2, optimize=True)
    return y if bias is None else y + as_input(bias, weight.dtype)


class Bilinear(Module):
    """A layer that computes `bilinear`; weight and bias start uniform in +-1/sqrt(in1_features).

    >>> layer = tg.nn.Bilinear(3, 2, 4, rng=0)
    >>> layer, layer(np.ones((5, 3)), np.ones((5, 2))).shape
    (Bilinear(3, 2, 4), (5, 4))
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        require_sizes("Bilinear", in1_features, in2_features, out_features)
        rng, bound = np.random.default_rng(rng), in1_features**-0.5
        self.weight = uniform(rng, bound, (out_features, in1_features, in2_features), dtype)
        self.bias = uniform(rng, bound, (out_features,), dtype) if bias else None

    def __call__(self, x1: Any, x2: Any) -> Tensor:
        """Return the output, of shape (..., out_features)."""
        return bilinear(x1, x2, self.weight, self.bias)

    def __repr__(self) -> str:
        outputs, in1, in2 = self.weight.shape
        return called(self, in1, in2, outputs, bias=self.bias is not None)


class Linear(_Affine):
    """A dense layer without an activation: x @ weight.T + bias.

    The weight has shape (out_features, in_features), and the bias (out_features,). Both start
    uniform in +-1/sqrt(in_features), as in PyTorch. Inputs are those of `Layer`.

    >>> layer = tg.nn.Linear(3, 4, bias=False)
    >>> layer, layer([2.0, 3.0, -1.0]).shape, layer(np.ones((5, 3))).shape
    (Linear(3, 4, bias=False), (4,), (5, 4))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        super().__init__((out_features,), in_features, identity, bias, dtype, rng)

    def __repr__(self) -> str:
        return called(self, *self.weight.shape[::-1], bias=self.bias is not None)


class MLP(Module):
    """A multi-layer perceptron: one `Layer` after another, of `nouts[0]`, `nouts[1]` ... neurons.

    The last layer has the `output_activation`, by default that of the others. The other arguments,
    the inputs and the outputs are those of `Layer`.

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
        if isinstance(nouts, int):
            raise TypeError(f"MLP: pass the sizes of the layers as a list: [{nouts}], not {nouts}")
        activations = [activation] * len(nouts)
        if output_activation is not None:
            activations[-1:] = [output_activation]
        shapes = zip([nin, *nouts], nouts, activations)
        self.layers = [Layer(m, n, function, dtype, rng) for m, n, function in shapes]

    def __call__(self, x: Any) -> Tensor:
        """Return the last layer's output for a sample or a batch."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __repr__(self) -> str:
        inputs = [str(layer.weight.shape[1]) for layer in self.layers[:1]]
        outputs = [
            f"{len(layer.weight)} {scalar.activation_name(layer.activation, ACTIVATIONS)}"
            for layer in self.layers
        ]
        return f"MLP({' -> '.join(inputs + outputs)})"

    @classmethod
    def from_scalar(cls, mlp: scalar.MLP, dtype: DTypeLike = np.float64) -> Self:
        """Convert a `tensorgrad.scalar.MLP`; weights and activations stay the same.

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
        """Return the same network for the scalar engine; custom activations must take a Value."""
        twin = scalar.MLP(1, [])
        twin.layers = [layer.to_scalar() for layer in self.layers]
        return twin


def _counterpart(function: Any, known: Mapping[str, Any], counterparts: Mapping[str, Any]) -> Any:
    """Return the other engine's activation of the same name; return any other function itself."""
    for name, candidate in known.items():
        if candidate is function:
            return counterparts.get(name, function)
    return function


def _fill(neuron: scalar.Neuron, row: Sequence[float]) -> scalar.Neuron:
    for parameter, value in zip(neuron.parameters(), row, strict=True):
        parameter.data = value
    return neuron


# -- shapes


class Flatten(Module):
    """A layer that merges the axes from `start_dim` to `end_dim`: by default, all but the first.

    >>> tg.nn.Flatten()(np.ones((5, 3, 4, 4))).shape
    (5, 48)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def __call__(self, x: Any) -> Tensor:
        """Return `x` with fewer axes, its elements in C order."""
        x = as_input(x)
        axes = range(x.ndim)
        if not (-x.ndim <= self.start_dim < x.ndim and -x.ndim <= self.end_dim < x.ndim):
            raise ValueError(
                f"{self}: an input of shape {x.shape} does not have the axes {self.start_dim} and "
                f"{self.end_dim}"
            )
        start, end = axes[self.start_dim], axes[self.end_dim] + 1
        return x.reshape(*x.shape[:start], math.prod(x.shape[start:end]), *x.shape[end:])

    def __repr__(self) -> str:
        return called(self, start_dim=self.start_dim, end_dim=self.end_dim)


class Unflatten(Module):
    """A layer that divides the axis `dim` into axes of the sizes `unflattened_size`.

    >>> tg.nn.Unflatten(1, (3, 4, 4))(np.ones((5, 48))).shape
    (5, 3, 4, 4)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def __call__(self, x: Any) -> Tensor:
        """Return `x` with more axes; one of the sizes may be -1, which is what is left."""
        x = as_input(x)
        axis = normalize_axis_index(self.dim, x.ndim, str(self))
        count, known = x.shape[axis], math.prod(n for n in self.unflattened_size if n != -1)
        is_open = self.unflattened_size.count(-1) == 1
        if known < 1 or (count % known if is_open else count != known):
            raise ValueError(
                f"{self}: an input of shape {x.shape}, whose axis {self.dim} cannot be divided "
                "into these sizes"
            )
        return x.reshape(*x.shape[:axis], *self.unflattened_size, *x.shape[axis + 1 :])

    def __repr__(self) -> str:
        return called(self, self.dim, self.unflattened_size)
