"""NumPy with gradients: a small automatic-differentiation library."""

from . import rules as _rules
from .errors import GradcheckError, GraphError, NoRuleError, TensorgradError
from .gradcheck import gradcheck
from .graph import enable_grad, no_grad
from .guard import guard
from .tensor import Tensor, asarray, differentiable
from .transforms import grad, value_and_grad, vjp

__all__ = [
    "GradcheckError",
    "GraphError",
    "NoRuleError",
    "Tensor",
    "TensorgradError",
    "asarray",
    "differentiable",
    "enable_grad",
    "grad",
    "gradcheck",
    "guard",
    "no_grad",
    "value_and_grad",
    "vjp",
]
