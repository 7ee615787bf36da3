"""NumPy with gradients: a small automatic-differentiation library."""

from . import data, nn, rules
from .errors import GradcheckError, GraphError, NoRuleError, TensorgradError
from .gradcheck import gradcheck
from .graph import enable_grad, no_grad
from .guard import guard
from .nn import MLP, Layer, Neuron
from .tensor import Tensor, asarray, differentiable
from .transforms import grad, value_and_grad, vjp

__all__ = [
    "MLP",
    "GradcheckError",
    "GraphError",
    "Layer",
    "Neuron",
    "NoRuleError",
    "Tensor",
    "TensorgradError",
    "asarray",
    "data",
    "differentiable",
    "enable_grad",
    "grad",
    "gradcheck",
    "guard",
    "nn",
    "no_grad",
    "rules",
    "value_and_grad",
    "vjp",
]
