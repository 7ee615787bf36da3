"""Which back end a name stands for."""

from __future__ import annotations

from collections.abc import Callable

from . import Backend, llvm
from .numpy_source import NUMPY

BACKENDS: dict[str, Callable[[], Backend]] = {"numpy": lambda: NUMPY, "llvm": llvm.backend}


def selected_backend(backend: str | Backend | None) -> Backend:
    """The back end of a name, or the one that is given; for None, NumPy's."""
    if isinstance(backend, Backend):
        return backend
    name = NUMPY.name if backend is None else backend
    if not isinstance(name, str) or name not in BACKENDS:
        raise ValueError(
            f"compile: there is no back end {name!r}: choose from {', '.join(BACKENDS)}, or pass "
            "an instance of tensorgrad.compiler.backends.Backend"
        )
    return BACKENDS[name]()
