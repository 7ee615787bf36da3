"""The compiler: a function becomes one flat program of NumPy calls."""

from .compiled import Compiled, compile

__all__ = ["Compiled", "compile"]
