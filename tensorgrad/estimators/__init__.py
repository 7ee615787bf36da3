"""Estimators for scikit-learn: networks that fit, predict and score as its own do.

They work in pipelines, searches over parameters and cross-validation. scikit-learn must be
installed.
"""

from ..errors import optional

optional("sklearn", "tensorgrad.estimators")

from .modules import NetClassifier, NetRegressor  # noqa: E402
from .perceptrons import MLPClassifier, MLPRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor", "NetClassifier", "NetRegressor"]


def __dir__() -> list[str]:
    return __all__
