"""What the estimators ask of their parameters and of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.class_weight import compute_sample_weight

from ..engine.typing import Array

# What a parameter must be, in words and as a test.
Rule: TypeAlias = tuple[str, Callable[[Any], bool]]


def number(words: str, test: Callable[[Any], bool] = lambda _x: True) -> Rule:
    """A real number that passes a test."""
    return f"a number {words}", lambda x: isinstance(x, Real) and bool(test(x))


def integer(least: int) -> Rule:
    """An integer of at least so much."""
    words = f"an integer of at least {least}"
    return words, lambda x: isinstance(x, Integral) and int(x) >= least


def one_of(*names: str) -> Rule:
    """One of these strings."""
    return f"one of {', '.join(map(repr, names))}", lambda x: isinstance(x, str) and x in names


def either(*rules: Rule) -> Rule:
    """What fits one of these rules."""
    return " or ".join(words for words, _ in rules), lambda x: any(test(x) for _, test in rules)


CLASS_WEIGHT: Rule = (
    "None, 'balanced' or a dict of weights by class",
    lambda x: x is None or isinstance(x, dict) or (isinstance(x, str) and x == "balanced"),
)


def dense(x: Any) -> Array:
    """Samples as an array, also those of a sparse matrix."""
    return np.asarray(x if isinstance(x, np.ndarray) else x.toarray())


def require_parameters(estimator: Any, rules: Mapping[str, Rule]) -> None:
    """Raise ValueError for the first parameter that breaks its rule."""
    for name, (words, test) in rules.items():
        value = getattr(estimator, name)
        if not test(value):
            raise ValueError(
                f"{type(estimator).__name__}: {name} must be {words}, not {value!r}: change it by "
                f"set_params({name}=...)"
            )


def sample_weights(estimator: Any, weight: Any, x: Any) -> Array | None:
    """The weights of the samples in `x`, as an array of its dtype, or None."""
    if weight is None:
        return None
    if isinstance(weight, Real):
        weight = np.full(x.shape[0], weight)
    weight = check_array(
        weight, ensure_2d=False, dtype=x.dtype, input_name="sample_weight", estimator=estimator
    )
    if weight.ndim != 1:
        raise ValueError(
            f"{type(estimator).__name__}: sample_weight must be a vector, one number for each "
            f"sample, not of shape {weight.shape}"
        )
    check_consistent_length(weight, x)
    if not np.any(weight):
        raise ValueError(
            f"{type(estimator).__name__}: sample_weight must have a number that is not zero"
        )
    return np.asarray(weight)


def with_class_weights(class_weight: Any, y: Any, weight: Array | None, dtype: Any) -> Array | None:
    """The weights of samples times those of their classes."""
    if class_weight is None:
        return weight
    of_classes: Array = compute_sample_weight(class_weight, y).astype(dtype)
    return of_classes if weight is None else of_classes * weight
