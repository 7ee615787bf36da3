"""Activations as modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from ..engine.tensor import Tensor
from . import activations
from .activations import Activation
from .module import Module, as_input, called


class _Activation(Module):
    """A function of a tensor as a module. The function's options are attributes of the module."""

    function: ClassVar[Callable[..., Any]]
    defaults: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _, *parameters = inspect.signature(cls.function).parameters.values()
        cls.defaults = {parameter.name: parameter.default for parameter in parameters}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        if kwargs.pop("inplace", False):
            raise TypeError(f"{name}: inplace=True is not supported: leave it out")
        try:
            bound = inspect.signature(self.function).bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        for option, default in self.defaults.items():
            setattr(self, option, bound.arguments.get(option, default))

    def __call__(self, x: Any) -> Tensor:
        """Return the function of `x`."""
        return self.function(as_input(x), **{name: getattr(self, name) for name in self.defaults})

    def __repr__(self) -> str:
        options = {name: getattr(self, name) for name in self.defaults}
        return called(self, **{k: v for k, v in options.items() if v != self.defaults[k]})


def _module(name: str, function: Activation, computes: str = "") -> type[_Activation]:
    """A class of that name, whose instances call `function`."""
    has_options = len(inspect.signature(function).parameters) > 1
    same = f"`{function.__name__}`" + ", and takes the same options" * has_options
    members = {"function": staticmethod(function), "__module__": __name__}
    members["__doc__"] = f"A layer that computes {computes or same}."
    return type(name, (_Activation,), members)


class GELU(_Activation):
    """A layer that computes `gelu`, and takes the same option."""

    function = staticmethod(activations.gelu)

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        activations.gelu_of(approximate)  # raises for an unknown approximation
        super().__init__(approximate)


def _log_softmax(x: Any, dim: int = -1) -> Any:
    return activations.log_softmax(x, dim)


def _softmax(x: Any, dim: int = -1) -> Any:
    return activations.softmax(x, dim)


def _tanh(x: Any) -> Any:
    return np.tanh(x)


CELU = _module("CELU", activations.celu)
ELU = _module("ELU", activations.elu)
Hardsigmoid = _module("Hardsigmoid", activations.hardsigmoid)
Hardswish = _module("Hardswish", activations.hardswish)
Hardtanh = _module("Hardtanh", activations.hardtanh)
Identity = _module("Identity", activations.linear)
LeakyReLU = _module("LeakyReLU", activations.leaky_relu)
LogSigmoid = _module("LogSigmoid", activations.log_sigmoid)
LogSoftmax = _module("LogSoftmax", _log_softmax, "`log_softmax` along the axis `dim`")
Mish = _module("Mish", activations.mish)
ReLU = _module("ReLU", activations.relu)
ReLU6 = _module("ReLU6", activations.relu6)
SELU = _module("SELU", activations.selu)
SiLU = _module("SiLU", activations.silu)
Sigmoid = _module("Sigmoid", activations.sigmoid)
Softmax = _module("Softmax", _softmax, "`softmax` along the axis `dim`")
Softplus = _module("Softplus", activations.softplus)
Softsign = _module("Softsign", activations.softsign)
Tanh = _module("Tanh", _tanh, "`numpy.tanh`")
Tanhshrink = _module("Tanhshrink", activations.tanhshrink)
