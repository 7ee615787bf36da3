"""Activations as modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from ..engine.tensor import Tensor
from . import activations
from .module import Module, as_input, called


class _Activation(Module):
    """The base class of activations; their options are attributes."""

    function: ClassVar[Callable[..., Any]]

    def __init__(self, *, inplace: bool = False) -> None:
        if inplace:
            raise TypeError(f"{type(self).__name__}: inplace=True is not supported: leave it out")

    def __call__(self, x: Any) -> Tensor:
        """Return the function of `x`."""
        return self.function(as_input(x))

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self)).parameters if name != "inplace"]
        return called(self, **{name: getattr(self, name) for name in names})


class CELU(_Activation):
    """A layer that computes `celu`."""

    def __init__(self, alpha: float = 1.0, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.alpha = alpha

    def __call__(self, x: Any) -> Tensor:
        """Return `celu(x, alpha)`."""
        return activations.celu(as_input(x), self.alpha)


class ELU(_Activation):
    """A layer that computes `elu`."""

    def __init__(self, alpha: float = 1.0, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.alpha = alpha

    def __call__(self, x: Any) -> Tensor:
        """Return `elu(x, alpha)`."""
        return activations.elu(as_input(x), self.alpha)


class GELU(_Activation):
    """A layer that computes `gelu`."""

    def __init__(
        self, approximate: Literal["none", "tanh"] = "none", *, inplace: bool = False
    ) -> None:
        super().__init__(inplace=inplace)
        activations.gelu_of(approximate)  # raises for an unknown approximation
        self.approximate = approximate

    def __call__(self, x: Any) -> Tensor:
        """Return `gelu(x, approximate)`."""
        return activations.gelu(as_input(x), self.approximate)


class Hardtanh(_Activation):
    """A layer that computes `hardtanh`."""

    def __init__(
        self, min_val: float = -1.0, max_val: float = 1.0, *, inplace: bool = False
    ) -> None:
        super().__init__(inplace=inplace)
        self.min_val = min_val
        self.max_val = max_val

    def __call__(self, x: Any) -> Tensor:
        """Return `hardtanh(x, min_val, max_val)`."""
        return activations.hardtanh(as_input(x), self.min_val, self.max_val)


class LeakyReLU(_Activation):
    """A layer that computes `leaky_relu`."""

    def __init__(self, negative_slope: float = 0.01, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.negative_slope = negative_slope

    def __call__(self, x: Any) -> Tensor:
        """Return `leaky_relu(x, negative_slope)`."""
        return activations.leaky_relu(as_input(x), self.negative_slope)


class LogSoftmax(_Activation):
    """A layer that computes `log_softmax` along the axis `dim`."""

    def __init__(self, dim: int = -1, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.dim = dim

    def __call__(self, x: Any) -> Tensor:
        """Return `log_softmax(x, axis=dim)`."""
        return activations.log_softmax(as_input(x), self.dim)


class Softmax(_Activation):
    """A layer that computes `softmax` along the axis `dim`."""

    def __init__(self, dim: int = -1, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.dim = dim

    def __call__(self, x: Any) -> Tensor:
        """Return `softmax(x, axis=dim)`."""
        return activations.softmax(as_input(x), self.dim)


class Softplus(_Activation):
    """A layer that computes `softplus`."""

    def __init__(self, beta: float = 1.0, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.beta = beta

    def __call__(self, x: Any) -> Tensor:
        """Return `softplus(x, beta)`."""
        return activations.softplus(as_input(x), self.beta)


class Hardsigmoid(_Activation):
    """A layer that computes `hardsigmoid`."""

    function = staticmethod(activations.hardsigmoid)


class Hardswish(_Activation):
    """A layer that computes `hardswish`."""

    function = staticmethod(activations.hardswish)


class Identity(_Activation):
    """A layer that returns its input."""

    function = staticmethod(activations.linear)


class LogSigmoid(_Activation):
    """A layer that computes `log_sigmoid`."""

    function = staticmethod(activations.log_sigmoid)


class Mish(_Activation):
    """A layer that computes `mish`."""

    function = staticmethod(activations.mish)


class ReLU(_Activation):
    """A layer that computes `relu`."""

    function = staticmethod(activations.relu)


class ReLU6(_Activation):
    """A layer that computes `relu6`."""

    function = staticmethod(activations.relu6)


class SELU(_Activation):
    """A layer that computes `selu`."""

    function = staticmethod(activations.selu)


class SiLU(_Activation):
    """A layer that computes `silu`."""

    function = staticmethod(activations.silu)


class Sigmoid(_Activation):
    """A layer that computes `sigmoid`."""

    function = staticmethod(activations.sigmoid)


class Softsign(_Activation):
    """A layer that computes `softsign`."""

    function = staticmethod(activations.softsign)


class Tanh(_Activation):
    """A layer that computes `numpy.tanh`."""

    function = np.tanh


class Tanhshrink(_Activation):
    """A layer that computes `tanhshrink`."""

    function = staticmethod(activations.tanhshrink)
