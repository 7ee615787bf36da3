"""The compiler: a function becomes one flat program of NumPy calls."""

from .compiled import Compiled, compile  # noqa: A004 (as in PyTorch)

__all__ = ["Compiled", "compile"]
