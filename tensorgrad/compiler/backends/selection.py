"""Which back end a name stands for."""

from __future__ import annotations

import os
from collections.abc import Callable

from . import Backend, llvm
from .numpy_source import NUMPY

BACKENDS: dict[str, Callable[[], Backend]] = {"numpy": lambda: NUMPY, "llvm": llvm.backend}


def selected_backend(backend: str | Backend | None) -> Backend | None:
    """The back end of a name, or the one that is given; None, if that is left open.

    For None, the environment's TENSORGRAD_BACKEND decides.
    """
    if isinstance(backend, Backend):
        return backend
    name = os.environ.get("TENSORGRAD_BACKEND") or None if backend is None else backend
    if name is None:
        return None
    if not isinstance(name, str) or name not in BACKENDS:
        raise ValueError(
            f"compile: there is no back end {name!r}: choose from {', '.join(BACKENDS)}, or pass "
            "an instance of tensorgrad.compiler.backends.Backend"
        )
    return BACKENDS[name]()
