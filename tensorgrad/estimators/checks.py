"""What the estimators ask of their parameters and of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import unique_labels

from ..engine.typing import Array

# What samples may be, for `validate_data`.
SAMPLES: dict[str, Any] = {"accept_sparse": ["csr", "csc"], "dtype": (np.float64, np.float32)}

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


FLAG: Rule = "True or False", lambda x: isinstance(x, (bool, np.bool))
VERBOSE = either(FLAG, integer(0))
RANDOM_STATE: Rule = (
    "None, an integer from 0 to 2**32 - 1, or a np.random.RandomState",
    lambda x: (
        x is None
        or isinstance(x, np.random.RandomState)
        or (isinstance(x, Integral) and 0 <= int(x) < 1 << 32)
    ),
)
CLASS_WEIGHT: Rule = (
    "None, 'balanced' or a dict of finite numbers by class",
    lambda x: (
        x is None
        or (isinstance(x, str) and x == "balanced")
        or (isinstance(x, dict) and all(isinstance(w, Real) and isfinite(w) for w in x.values()))
    ),
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


def require_classes(estimator: Any, classes: Any) -> None:
    """Raise ValueError unless `partial_fit` gets all classes at first, and the same ones later."""
    known = getattr(estimator, "classes_", None)
    if known is None and classes is None:
        raise ValueError("classes must be passed on the first call to partial_fit.")
    if (
        known is not None
        and classes is not None
        and not np.array_equal(known, unique_labels(classes))
    ):
        raise ValueError(
            f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}"
        )
    if isinstance(estimator.class_weight, str) and estimator.class_weight == "balanced":
        raise ValueError(
            f"{type(estimator).__name__}: partial_fit cannot balance classes that it has not seen: "
            "pass a dict of weights as class_weight"
        )


def weights_of_samples(estimator: Any, weight: Any, x: Any, y: Any = None) -> Array | None:
    """The weights of the samples `x`, times those of their classes `y`, as an array, or None."""
    class_weight = getattr(estimator, "class_weight", None)
    if weight is None and class_weight is None:
        return None
    if weight is None or isinstance(weight, Real):
        weight = np.full(x.shape[0], 1 if weight is None else weight)
    weight = check_array(
        weight, ensure_2d=False, dtype=x.dtype, input_name="sample_weight", estimator=estimator
    )
    if weight.ndim != 1:
        raise ValueError(
            f"{type(estimator).__name__}: sample_weight must be a vector, one number for each "
            f"sample, not of shape {weight.shape}"
        )
    check_consistent_length(weight, x)
    if class_weight is not None:
        weight = weight * compute_sample_weight(class_weight, y).astype(x.dtype)
    if not np.any(weight):
        raise ValueError(
            f"{type(estimator).__name__}: all samples have a weight of zero: change sample_weight "
            "or class_weight"
        )
    return np.asarray(weight)
