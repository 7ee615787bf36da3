"""Training: `fit`, the usual loop over epochs and batches, with validation and checkpoints."""

from typing import TYPE_CHECKING

from ..guide import of_module
from .evaluation import accuracy, evaluate, r2
from .history import EarlyStopping, History
from .loop import fit

__all__ = ["EarlyStopping", "History", "accuracy", "evaluate", "fit", "r2"]


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:
    __getattr__ = of_module(__name__)
