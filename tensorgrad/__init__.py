"""NumPy with gradients: a small automatic-differentiation library.

`dir(tensorgrad)` lists the public names. `from tensorgrad import *` imports those in `__all__`:
all except names that start with an underscore or hide a builtin of Python, such as `sum`.

The terms of the source code:

| term | meaning |
|---|---|
| leaf | a tensor that the user made, not an operation |
| tracked | (of a tensor) computed from a leaf with `requires_grad=True` |
| operand | an argument of an operation that counts as an array |
| node | one recorded operation, or a leaf |
| graph | the nodes that lead from a result back to the leaves |
| serial | the number of a node; nodes are numbered in the order of computation |
| rule | the derivatives of one function: a vjp for each array argument |
| vjp | vector-Jacobian product: from the cotangent of a result to that of an argument |
| jvp | Jacobian-vector product: from the tangent of an argument to that of the result |
| cotangent | the derivative of the final result with respect to this one; `g` in the rules |
| tangent | the derivative of a value along a direction of the arguments |
| primal | a value at which a derivative is taken |
| composite | a function written with other functions, from which its derivatives follow |
| saved | kept in a node for the backward pass: the arrays that the rule reads |
| spec | the shape and dtype of an array that is not saved |
| backpropagate | carry cotangents from the node of a result to the leaves |
| unbroadcast | sum a cotangent to the shape that its argument had before broadcasting |
| mode | what happens besides computing: recording, hooks, tracing |
| hook | a function that is called with each new node |
| layout | the offset, shape and strides of an array in the memory that it shares |
| family | the tensors that share one memory |
| batch | many arrays that NumPy code treats as one; its level says whose samples they are |
| trace | the NumPy calls of a compiled function, written down in its first call |
| epoch | a number that grows when something changes that compiled functions rely on |
| tree | nested lists, tuples, dicts and modules of arrays |
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
    scipy,
    solvers,
    special,
    storage,
    training,
    tree,
    viz,
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
from .control_flow import cond, fori_loop, scan, while_loop
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
from .mapping import vmap
from .nn import MLP, Layer, Neuron
from .rules.selection import safe_where
from .storage import Checkpoint, load, save
from .training import EarlyStopping, History, fit
from .transforms import (
    elementwise_grad,
    grad,
    hessian,
    hvp,
    jacfwd,
    jacobian,
    jacrev,
    jvp,
    linearize,
    ravel,
    stop_gradient,
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
    "cond",
    "data",
    "detect_anomaly",
    "differentiable",
    "elementwise_grad",
    "enable_grad",
    "fit",
    "fori_loop",
    "grad",
    "gradcheck",
    "guard",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "load",
    "nn",
    "no_grad",
    "optim",
    "profile",
    "ravel",
    "safe_where",
    "save",
    "scan",
    "scipy",
    "solvers",
    "special",
    "stop_gradient",
    "storage",
    "training",
    "tree",
    "value_and_grad",
    "viz",
    "vjp",
    "vmap",
    "while_loop",
]


def __dir__() -> list[str]:
    return [
        name
        for name in globals()
        if name in __all__ or name.startswith("__") or hasattr(_builtins, name)
    ]


if not TYPE_CHECKING:
    __getattr__ = _guide.of_module(__name__)
