"""Namespaces of NumPy's own functions, each named once, for running programs and type checkers."""

import builtins
from types import ModuleType
from typing import Any

from .engine.tensor import Tensor


def numpys(*args: Any, **kwargs: Any) -> Tensor:
    """Stand for the function of the same name in NumPy, until `completed` replaces it.

    It tells type checkers what NumPy's stubs do not: that the result is a tensor.
    """
    raise NotImplementedError


def completed(namespace: dict[str, Any], module: ModuleType) -> list[str]:
    """Replace each `numpys` in the globals of one of our modules by a function of NumPy's module.

    Returns the module's `__all__`: the names that NumPy has too, except Python's builtins.
    """
    names = [name for name in namespace if hasattr(module, name) and not name.startswith("_")]
    for name in names:
        if namespace[name] is numpys:
            namespace[name] = getattr(module, name)
    return [name for name in names if not hasattr(builtins, name)]
