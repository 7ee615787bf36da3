"""Activations as modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike

from ..data import RNG
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


class RReLU(Module):
    """A layer that computes `rrelu`, with random slopes in training.

    `rng` is a NumPy Generator, which several layers may share, or a seed.

    >>> tg.nn.RReLU(0.25, 0.5).eval()(np.array([-1.0, 2.0]))
    array([-0.375,  2.   ])
    """

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, rng: RNG = None) -> None:
        self.lower = lower
        self.upper = upper
        self.rng = np.random.default_rng(rng)

    def __call__(self, x: Any) -> Tensor:
        """Return `rrelu(x, lower, upper)`."""
        return activations.rrelu(x, self.lower, self.upper, self.training, self.rng)

    def __repr__(self) -> str:
        return called(self, lower=self.lower, upper=self.upper)


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


class GLU(_Activation):
    """A layer that computes `glu` along the axis `dim`."""

    def __init__(self, dim: int = -1, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.dim = dim

    def __call__(self, x: Any) -> Tensor:
        """Return `glu(x, axis=dim)`."""
        return activations.glu(as_input(x), self.dim)


class Hardshrink(_Activation):
    """A layer that computes `hardshrink`."""

    def __init__(self, lambd: float = 0.5, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.lambd = lambd

    def __call__(self, x: Any) -> Tensor:
        """Return `hardshrink(x, lambd)`."""
        return activations.hardshrink(as_input(x), self.lambd)


class Softshrink(_Activation):
    """A layer that computes `softshrink`."""

    def __init__(self, lambd: float = 0.5, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.lambd = lambd

    def __call__(self, x: Any) -> Tensor:
        """Return `softshrink(x, lambd)`."""
        return activations.softshrink(as_input(x), self.lambd)


class Softmin(_Activation):
    """A layer that computes `softmin` along the axis `dim`."""

    def __init__(self, dim: int = -1, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.dim = dim

    def __call__(self, x: Any) -> Tensor:
        """Return `softmin(x, axis=dim)`."""
        return activations.softmin(as_input(x), self.dim)


class Threshold(_Activation):
    """A layer that computes `threshold`."""

    def __init__(self, threshold: float, value: float, *, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.threshold = threshold
        self.value = value

    def __call__(self, x: Any) -> Tensor:
        """Return `threshold(x, threshold, value)`."""
        return activations.threshold(as_input(x), self.threshold, self.value)


class Softmax2d(_Activation):
    """A layer that computes `softmax` over the channels of inputs (n, channels, height, width)."""

    def __call__(self, x: Any) -> Tensor:
        """Return `softmax(x, axis=-3)`."""
        x = as_input(x)
        if x.ndim not in (3, 4):
            raise ValueError(
                f"{self}: an input of shape {x.shape}; it must be (channels, height, width) or "
                "(n, channels, height, width)"
            )
        return activations.softmax(x, -3)


class PReLU(Module):
    """A layer that computes `prelu`; its weight, of shape (num_parameters,), starts as `init`.

    `num_parameters` is 1, or the number of channels.

    >>> tg.nn.PReLU()([-4.0, 4.0])
    Tensor([-1.,  4.], requires_grad=True)
    """

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, dtype: DTypeLike = np.float64
    ) -> None:
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Tensor(np.full(num_parameters, init), dtype, requires_grad=True)

    def __call__(self, x: Any) -> Tensor:
        """Return `prelu(x, weight)`."""
        return activations.prelu(as_input(x, self.weight.dtype), self.weight)

    def __repr__(self) -> str:
        return called(self, num_parameters=self.num_parameters, init=self.init)


class Hardsigmoid(_Activation):
    """A layer that computes `hardsigmoid`."""

    function = staticmethod(activations.hardsigmoid)


class Hardswish(_Activation):
    """A layer that computes `hardswish`."""

    function = staticmethod(activations.hardswish)


class Identity(_Activation):
    """A layer that returns its input."""

    function = staticmethod(activations.identity)


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
