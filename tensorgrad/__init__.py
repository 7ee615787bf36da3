"""NumPy with gradients: a small automatic-differentiation library."""

from . import rules as _rules
from .errors import GradcheckError, GraphError, NoRuleError, TensorgradError
from .graph import enable_grad, no_grad
from .tensor import Tensor, asarray, differentiable

__all__ = [
    "GradcheckError",
    "GraphError",
    "NoRuleError",
    "Tensor",
    "TensorgradError",
    "asarray",
    "differentiable",
    "enable_grad",
    "no_grad",
]
