"""NumPy with gradients: a small automatic-differentiation library.

`dir(tensorgrad)` shows the public names. `from tensorgrad import *` takes those in `__all__`: all
but the names of Python's builtins, as `sum`, `max` and `compile`, and those with underscores.
"""

import builtins as _builtins
from typing import TYPE_CHECKING

from numpy import __array_namespace_info__ as __array_namespace_info__, bool as bool

from . import (
    array_api,
    data,
    guide as _guide,
    interop,  # noqa: F401 (registers what it defines, as rules do)
    nn,
    optim,
    rules,  # noqa: F401
    special,
    storage,
    training,
    tree,
)
from .array_api import *  # noqa: F403
from .array_api import (
    __array_api_version__ as __array_api_version__,
    abs as abs,
    all as all,
    any as any,
    max as max,
    min as min,
    pow as pow,
    round as round,
    sum as sum,
)
from .checkpoint import checkpoint
from .compiler import compile as compile
from .diagnostics import detect_anomaly, profile
from .engine.custom import differentiable
from .engine.guard import guard
from .engine.modes import enable_grad, no_grad
from .engine.tensor import Tensor
from .errors import (
    AnomalyError,
    CheckpointError,
    GradcheckError,
    GraphError,
    NoRuleError,
    PrecedenceError,
    TensorgradError,
    TraceError,
)
from .gradcheck import gradcheck
from .nn import MLP, Layer, Neuron
from .rules.selection import safe_where
from .storage import Checkpoint, load, save
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
from .version import __version__ as __version__

__all__ = [
    *array_api.__all__,  # type: ignore[attr-defined]
    "MLP",
    "AnomalyError",
    "Checkpoint",
    "CheckpointError",
    "EarlyStopping",
    "GradcheckError",
    "GraphError",
    "History",
    "Layer",
    "Neuron",
    "NoRuleError",
    "PrecedenceError",
    "Tensor",
    "TensorgradError",
    "TraceError",
    "checkpoint",
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
    "jacobian",
    "jvp",
    "load",
    "nn",
    "no_grad",
    "optim",
    "profile",
    "ravel",
    "safe_where",
    "save",
    "special",
    "storage",
    "training",
    "tree",
    "value_and_grad",
    "vjp",
]


def __dir__() -> list[str]:
    return [
        name
        for name in globals()
        if name in __all__ or name.startswith("__") or hasattr(_builtins, name)
    ]


if not TYPE_CHECKING:
    __getattr__ = _guide.of_module(__name__)
