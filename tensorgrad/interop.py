"""Makes einops accept tensors.

Other libraries need only NumPy's protocols and the array API standard. einops, however, looks for a
subclass of its own backend class, which cannot be defined before einops is imported. So the
subclass is defined when einops is imported, before or after this package. Until then, einops is
neither imported nor searched for on disk.
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
        """einops' backend for NumPy, whose functions pass calls on to the tensor."""

        framework_name = "tensorgrad"

        def is_appropriate_type(self, tensor: Any) -> bool:
            return isinstance(tensor, Tensor)

        def from_numpy(self, x: Any) -> Tensor:
            return asarray(x)

        def to_numpy(self, x: Tensor) -> Any:
            return x.numpy()

        def reduce(self, x: Tensor, operation: str, axes: Sequence[int]) -> Any:
            return getattr(np, operation)(x, axis=tuple(axes))

    backends.TensorBackend = TensorBackend  # type: ignore[attr-defined]  # else it would be deleted


class _EinopsFinder:
    """An import hook: finds einops' backends as Python does, and adds ours after they have run."""

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
