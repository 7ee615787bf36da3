"""Training: `fit`, the usual loop over epochs and batches, with validation and checkpoints."""

from typing import TYPE_CHECKING

from ..guide import of_module
from .evaluation import evaluate
from .history import EarlyStopping, History
from .loop import fit
from .metrics import (
    ExactMetric,
    accuracy,
    binary_accuracy,
    confusion_matrix,
    f1,
    mean_absolute_error,
    mean_squared_error,
    precision,
    r2,
    recall,
    root_mean_squared_error,
    top_k_accuracy,
)

__all__ = [
    "EarlyStopping",
    "ExactMetric",
    "History",
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "evaluate",
    "f1",
    "fit",
    "mean_absolute_error",
    "mean_squared_error",
    "precision",
    "r2",
    "recall",
    "root_mean_squared_error",
    "top_k_accuracy",
]


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:
    __getattr__ = of_module(__name__)
