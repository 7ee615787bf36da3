"""Lets einops take tensors, although it knows the libraries it serves by name.

NumPy's protocols and the array API standard are enough for other libraries. einops looks for a
subclass of its own backend class, which cannot exist before einops is imported, and it asks the
tensor nothing before it has found one. So the subclass is made when einops is imported, before or
after this package. Until then einops is neither imported nor looked for on disk.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import numpy as np

from .engine.tensor import Tensor, asarray

_EINOPS = "einops._backends"


def _serve_einops(backends: ModuleType) -> None:
    class TensorBackend(backends.NumpyBackend):  # type: ignore[misc, name-defined]
        """einops' way of calling NumPy, which passes the call on to the tensor."""

        framework_name = "tensorgrad"

        def is_appropriate_type(self, tensor: Any) -> bool:
            return isinstance(tensor, Tensor)

        def from_numpy(self, x: Any) -> Tensor:
            return asarray(x)

        def to_numpy(self, x: Tensor) -> Any:
            return x.numpy()

        def reduce(self, x: Tensor, operation: str, axes: Sequence[int]) -> Any:
            return getattr(np, operation)(x, axis=tuple(axes))

    backends.TensorBackend = TensorBackend  # type: ignore[attr-defined]  # lists of subclasses are weak


class _EinopsFinder:
    """Finds einops' backends as Python does, and adds ours once they have been executed."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == _EINOPS else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _serve_einops(module)
                sys.meta_path[:] = [f for f in sys.meta_path if f is not _EinopsFinder]

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if _EINOPS in sys.modules:
    _serve_einops(sys.modules[_EINOPS])
else:
    sys.meta_path.insert(0, _EinopsFinder)
