"""The library's own errors. Each is also a subclass of the built-in error that is closest to it."""

from __future__ import annotations

import importlib
from typing import Any

# The end of messages that first name a function with a gradient.
OR_DETACH = "or take t.detach(), through which no gradient goes"


class TensorgradError(Exception):
    """The base of every error defined here."""


class GraphError(TensorgradError, RuntimeError):
    """`backward` is impossible: there is no graph, it was freed, or a leaf was changed since."""


class NoRuleError(TensorgradError, TypeError):
    """A function was called on a tracked tensor in a way that has no derivative rule."""


class PrecedenceError(TensorgradError, TypeError):
    """The class of an operand takes precedence over tensors, but cannot compute with them."""


class GradcheckError(TensorgradError, AssertionError):
    """An analytic and a numeric derivative disagree."""


class AnomalyError(TensorgradError, FloatingPointError):
    """An operation returned a NaN or an infinity for finite numbers."""


class TraceError(TensorgradError, TypeError):
    """A function cannot be compiled; the message names the reason and the cure."""


class CheckpointError(TensorgradError, ValueError):
    """A file cannot be loaded: it is damaged, or its content does not match.

    `file`, and `array` or another part of it, say where; `expected` and `found` say why.
    """

    def __init__(self, array: str | None, expected: str, found: str, file: str = "") -> None:
        super().__init__(array, expected, found, file)
        self.array = array or None
        self.expected, self.found, self.file = expected, found, file

    def __str__(self) -> str:
        where = self.file if self.array is None else f"{self.file}: {self.array!r}"
        return f"{where}: expected {self.expected}, found {self.found}"


# The names under which libraries are installed, where they are not those of their modules.
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def optional(module: str, who: str) -> Any:
    """Import a module of an optional library, or raise an ImportError that says how to install it.

    `who` is what needs the library: the message begins with it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        library = _DISTRIBUTIONS.get(package, package)
        raise ImportError(f"{who} needs {library}: python -m pip install {library}") from error
