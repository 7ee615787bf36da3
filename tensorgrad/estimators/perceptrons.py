"""`MLPClassifier` and `MLPRegressor`: scikit-learn's, trained by compiled steps."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels

from ..engine.typing import Array
from ..optim.base import arguments
from .checks import CLASS_WEIGHT, Rule, one_of, require_classes, weights_of_samples
from .perceptron import RULES, Perceptron, is_stochastic


class MLPClassifier(ClassifierMixin, Perceptron):  # type: ignore[misc]
    """A multi-layer perceptron that classifies: scikit-learn's `MLPClassifier`, faster.

    Parameters, methods and attributes are those of `sklearn.neural_network.MLPClassifier`, with the
    same meanings, defaults and random draws, so that loss curves agree up to roundings. Targets are
    numbers or strings of two or more classes, or a matrix of 0 and 1 for several labels of each
    sample. `x` of `fit(x, y, sample_weight)` is a dense or sparse matrix, an array or a data frame;
    float32 stays float32. One more parameter, `class_weight`, is a dict of weights by class or
    "balanced", which gives all classes the same total weight.

    Training steps are compiled, and kept for later fits of the same shape. They become native code
    if llvmlite is installed, and if `max_iter` epochs are enough to save time. Sparse samples
    become dense: batch by batch, or with `solver="lbfgs"` all at once. Those with at least 1,000
    features, of which at most 2 % are not zero, stay sparse, and their steps are not compiled.

    >>> x, y = tg.data.moons(300, rng=0)
    >>> model = MLPClassifier((16, 16), learning_rate_init=0.02, tol=1e-3, random_state=0)
    >>> model.fit(x, y).score(x, y) > 0.95
    True
    >>> model.predict_proba(x[:5]).shape
    (5, 2)
    """

    _rules: ClassVar[dict[str, Rule]] = {
        **RULES,
        "class_weight": CLASS_WEIGHT,
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: Any = None,
    ) -> None:
        self.__dict__.update(arguments(locals()))

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:  # noqa: N803
        """Fit to samples `X` of shape (n, features), and targets of shape (n,) or (n, labels)."""
        self._fit(X, y, sample_weight, incremental=False)
        return self

    @available_if(is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
    ) -> MLPClassifier:
        """Go through the samples once. The first call needs all `classes`; it also sets them."""
        require_classes(self, classes)
        if not hasattr(self, "classes_"):
            self._set_classes(y if type_of_target(y).startswith("multilabel") else classes)
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803
        """Return the classes of samples, of shape (n,), or their labels, of shape (n, labels)."""
        return self._labels(self._outputs(X))

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the probabilities of `classes_`, of shape (n, classes)."""
        p = self._outputs(X)
        return np.hstack([1 - p, p]) if p.shape[1] == 1 else p

    def predict_log_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the logarithms of `predict_proba`."""
        p = self.predict_proba(X)
        return np.log(p, out=p)

    def _labels(self, outputs: Array) -> Array:
        if self.n_outputs_ == 1:
            outputs = outputs.ravel()
        labels: Array = self._label_binarizer.inverse_transform(outputs)
        return labels

    def _output_activation(self) -> str:
        is_multiclass = self._label_binarizer.y_type_ == "multiclass"
        return "softmax" if is_multiclass else "logistic"

    def _set_classes(self, y: Any) -> None:
        self._label_binarizer = LabelBinarizer().fit(y)
        self.classes_ = self._label_binarizer.classes_

    def _validated(
        self, x: Any, y: Any, weight: Any, incremental: bool, first: bool
    ) -> tuple[Any, Array, Array | None]:
        x, y = self._samples_and_targets(x, y, first)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._set_classes(y)
        else:
            self._require_known(unique_labels(y))
        targets = self._label_binarizer.transform(y).astype(bool)
        return x, targets, weights_of_samples(self, weight, x, y)

    def _require_known(self, classes: Array) -> None:
        if self.warm_start and {*classes} != {*self.classes_}:
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {classes}"
            )
        if not {*classes} <= {*self.classes_}:
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {classes}."
            )

    def _targets(self, y: Array, dtype: Any) -> Array:
        return np.argmax(y, axis=1) if self.out_activation_ == "softmax" else y.astype(dtype)

    def _strata(self, y: Array) -> Array | None:
        return y if self.n_outputs_ == 1 else None

    def _score_of(self, outputs: Array, y: Array, weight: Array) -> float:
        if self.out_activation_ == "softmax":
            right = np.argmax(outputs, axis=1) == np.argmax(y, axis=1)
        else:
            right = np.all((outputs > 0.5) == y, axis=1)
        return float(np.average(right, weights=weight.astype(float)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, Perceptron):  # type: ignore[misc]
    """A multi-layer perceptron for numbers: scikit-learn's `MLPRegressor`, faster.

    Parameters, methods and attributes are those of `sklearn.neural_network.MLPRegressor`, with the
    same meanings, defaults and random draws, so that loss curves agree up to roundings. The loss is
    "squared_error", or "poisson" for counts. Targets have shape (n,) or (n, outputs). How steps are
    compiled, and what samples can be, is explained for `MLPClassifier`.

    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.sin(3 * x[:, 0])
    >>> model = MLPRegressor("squared_error", (20,), solver="lbfgs", tol=1e-3, random_state=0)
    >>> model.fit(x, y).score(x, y) > 0.99
    True
    """

    _rules: ClassVar[dict[str, Rule]] = {**RULES, "loss": one_of("squared_error", "poisson")}

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
    ) -> None:
        self.__dict__.update(arguments(locals()))

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:  # noqa: N803
        """Fit to samples `X` of shape (n, features), and targets of shape (n,) or (n, outputs)."""
        self._fit(X, y, sample_weight, incremental=False)
        return self

    @available_if(is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:  # noqa: N803
        """Go through the samples once."""
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803
        """Return predictions, of shape (n,) or (n, outputs)."""
        return self._values(self._outputs(X))

    def _values(self, outputs: Array) -> Array:
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _output_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _validated(
        self, x: Any, y: Any, weight: Any, _incremental: bool, first: bool
    ) -> tuple[Any, Array, Array | None]:
        x, y = self._samples_and_targets(x, y, first, y_numeric=True)
        if self.loss == "poisson" and np.min(y) < 0:
            raise ValueError(
                f'MLPRegressor: loss="poisson" is for counts: y has the negative number {np.min(y)}'
            )
        return x, y.reshape(len(y), -1), weights_of_samples(self, weight, x)

    def _targets(self, y: Array, dtype: Any) -> Array:
        return y.astype(dtype)

    def _strata(self, _y: Array) -> None:
        return None

    def _score_of(self, outputs: Array, y: Array, weight: Array) -> float:
        if not np.isfinite(outputs).all():
            return np.nan
        return float(r2_score(y, outputs, sample_weight=weight))
