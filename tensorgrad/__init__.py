"""NumPy with gradients: a small automatic-differentiation library."""

from . import array_api, data, interop, nn, optim, rules, special, training
from .array_api import *  # noqa: F403
from .checkpoint import checkpoint
from .compiler import compile  # noqa: A004 (as in PyTorch)
from .diagnostics import detect_anomaly, profile
from .errors import (
    AnomalyError,
    GradcheckError,
    GraphError,
    NoRuleError,
    TensorgradError,
    TraceError,
)
from .gradcheck import gradcheck
from .graph import enable_grad, no_grad
from .guard import guard
from .nn import MLP, Layer, Neuron
from .rules.selection import safe_where
from .tensor import Tensor, differentiable
from .training import EarlyStopping, History, fit
from .transforms import (
    elementwise_grad,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    ravel,
    value_and_grad,
    vjp,
)

__all__ = [
    *array_api.__all__,
    "MLP",
    "AnomalyError",
    "EarlyStopping",
    "GradcheckError",
    "GraphError",
    "History",
    "Layer",
    "Neuron",
    "NoRuleError",
    "Tensor",
    "TensorgradError",
    "TraceError",
    "checkpoint",
    "compile",
    "data",
    "detect_anomaly",
    "differentiable",
    "elementwise_grad",
    "enable_grad",
    "fit",
    "grad",
    "gradcheck",
    "guard",
    "hessian",
    "hvp",
    "interop",
    "jacobian",
    "jvp",
    "nn",
    "no_grad",
    "optim",
    "profile",
    "ravel",
    "rules",
    "safe_where",
    "special",
    "training",
    "value_and_grad",
    "vjp",
]
