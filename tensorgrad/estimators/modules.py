"""`NetClassifier` and `NetRegressor`: any module as an estimator, trained by `tg.fit`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import data, nn
from ..engine.modes import no_grad
from ..engine.typing import Array
from ..nn import Module
from ..optim import Adam
from ..optim.base import arguments
from ..training import EarlyStopping, fit
from ..training.metrics import as_array
from .checks import (
    CLASS_WEIGHT,
    FLAG,
    RANDOM_STATE,
    SAMPLES,
    VERBOSE,
    Rule,
    dense,
    either,
    integer,
    number,
    require_classes,
    require_parameters,
    weights_of_samples,
)

FEW = 100  # steps, in which a compiled step saves as much time as it takes to compile one


def _none_or_function(x: Any) -> bool:
    return x is None or callable(x)


class _Net(BaseEstimator):  # type: ignore[misc]
    """The parameters and the training of both estimators."""

    _rules: ClassVar[dict[str, Rule]] = {
        "module": ("None, a tg.nn.Module, or a function that makes one", _none_or_function),
        "loss": ("None or a function, such as tg.nn.huber_loss", _none_or_function),
        "optimizer": ("None or a function, such as tg.optim.SGD", _none_or_function),
        "lr": either(("None", lambda x: x is None), number("above 0", lambda x: x > 0)),
        "batch_size": integer(1),
        "max_iter": integer(1),
        "shuffle": FLAG,
        "random_state": RANDOM_STATE,
        "verbose": VERBOSE,
        "warm_start": FLAG,
        "early_stopping": (
            "True, False, a number of epochs, or a tg.EarlyStopping",
            lambda x: isinstance(x, (bool, EarlyStopping)) or integer(1)[1](x),
        ),
        "validation_fraction": number("between 0 and 1", lambda x: 0 < x < 1),
        "callbacks": (
            "a list or tuple of functions",
            lambda x: isinstance(x, (list, tuple)) and all(map(callable, x)),
        ),
    }

    def __init__(
        self,
        module: Any = None,
        loss: Any = None,
        optimizer: Any = None,
        *,
        lr: float | None = None,
        batch_size: int = 100,
        max_iter: int = 50,
        shuffle: bool = True,
        random_state: Any = None,
        verbose: bool = False,
        warm_start: bool = False,
        early_stopping: bool | int | EarlyStopping = False,
        validation_fraction: float = 0.1,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self.__dict__.update(arguments(locals()))

    def _goes_on(self, once: bool) -> bool:
        """Whether a fit goes on with the module and the optimizer."""
        return hasattr(self, "module_") and (once or self.warm_start)

    def _samples(self, x: Any, goes_on: bool) -> Array:
        """Samples as the module takes them: dense, and of the dtype of those it saw first."""
        if not goes_on:
            self._dtype = x.dtype
        return dense(x).astype(self._dtype, copy=False)

    def _begin(self, x: Array, n_outputs: int) -> None:
        """Make the module and the optimizer."""
        random = check_random_state(self.random_state)
        self._rng = np.random.default_rng(random.randint(1 << 31))
        self.module_ = self._made(x[:1], n_outputs)
        rate = {} if self.lr is None else {"lr": self.lr}
        self.optimizer_ = (self.optimizer or Adam)(self.module_.parameters(), **rate)

    def _train(self, x: Array, y: Array, weight: Array | None, loss: Any, once: bool) -> None:
        """Train for all epochs, or for one."""
        arrays: Sequence[Array] = [a for a in (x, y, weight) if a is not None]
        held_out = None
        if self.early_stopping and not once:
            arrays, held_out = self._split(arrays)
        model, loss_of = self.module_.train(), self.loss or loss
        if weight is not None:
            model, loss_of = _WithTargets(self.module_), _Weighted(loss_of)
        batches, epochs = self._batches(arrays, self.shuffle), 1 if once else int(self.max_iter)
        stopping: Any = EarlyStopping() if self.early_stopping is True else self.early_stopping
        try:
            self.history_ = fit(
                model,
                loss_of,
                batches,
                optimizer=self.optimizer_,
                epochs=epochs,
                validation=held_out,
                early_stopping=stopping if held_out else None,
                callbacks=self.callbacks,
                compile=None if epochs * len(batches) > FEW else False,
                progress=bool(self.verbose),
            )
        finally:
            self.module_.eval()
        self.n_iter_ = len(self.history_["loss"])

    def _split(self, arrays: Sequence[Array]) -> tuple[Sequence[Array], Any]:
        """The arrays to train with, and batches to validate with; each class is in both."""
        y = arrays[1]
        parts = train_test_split(
            *arrays,
            test_size=self.validation_fraction,
            random_state=check_random_state(self.random_state),
            stratify=y if is_classifier(self) else None,
        )
        return parts[::2], self._batches(parts[1::2], shuffle=False)

    def _batches(self, arrays: Sequence[Array], shuffle: bool) -> Any:
        size = min(int(self.batch_size), len(arrays[0]))
        return data.batches(tuple(arrays), size, shuffle=bool(shuffle), rng=self._rng)

    def _made(self, x: Array, n_outputs: int) -> Module:
        """The module to train, which nobody else has, for samples like `x`."""
        n_features, rng = x.shape[1], self._rng
        if isinstance(self.module, Module):
            made: Any = copy.deepcopy(self.module)
        elif self.module is None:
            made = nn.Sequential(
                nn.Linear(n_features, 100, rng=rng), nn.ReLU(), nn.Linear(100, n_outputs, rng=rng)
            )
        else:
            made = self.module(n_features, n_outputs, rng)
        if not isinstance(made, Module):
            raise TypeError(
                f"{type(self).__name__}: module must return a tg.nn.Module, not a "
                f"{type(made).__name__}"
            )
        return made.astype(x.dtype)

    def _outputs(self, x: Any) -> Array:
        check_is_fitted(self)
        x = self._samples(validate_data(self, x, **SAMPLES, reset=False), goes_on=True)
        return _outputs_of(self.module_, x)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _outputs_of(module: Module, x: Array) -> Array:
    with no_grad():
        return np.asarray(as_array(module(x)))


class _WithTargets(Module):
    """A module whose output comes with the targets, so that the loss gets both, and weights."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def __call__(self, x: Any, y: Any) -> tuple[Any, Any]:
        return self.module(x), y


class _Weighted:
    """The mean of a loss over samples with weights."""

    def __init__(self, loss: Any) -> None:
        self._loss = loss

    def __call__(self, output: tuple[Any, Any], weight: Any) -> Any:
        try:
            losses = self._loss(*output, reduction="none")
        except TypeError as error:
            error.add_note("sample_weight and class_weight need a loss that takes reduction='none'")
            raise
        losses = np.mean(np.reshape(losses, (len(weight), -1)), axis=1)
        total = np.sum(weight)
        return np.sum(weight * losses) / np.where(total == 0, np.inf, total)


class NetClassifier(ClassifierMixin, _Net):  # type: ignore[misc]
    """Any module of `tg.nn` as a classifier of scikit-learn, trained by `tg.fit`.

    - `module`: a module, of which each fit trains a copy; or a function of the numbers of features
      and classes and of a `np.random.Generator`, which returns one; by default a hidden layer of
      100 units. It takes samples of shape (n, features) and returns a score for each class.
    - `loss`: a function of scores and class indices, by default `tg.nn.cross_entropy`.
    - `optimizer`: a function of the parameters, by default `tg.optim.Adam`; with options, such as
      `functools.partial(tg.optim.SGD, momentum=0.9)`. It gets `lr`, the learning rate, if that is
      not None: so a search can try several.
    - `batch_size` samples take a step, in `max_iter` epochs. With `shuffle`, each has an order of
      its own. `random_state` seeds it and the initial weights. With `verbose`, progress is shown.
    - With `early_stopping`, `validation_fraction` of the samples are held out, and `fit` stops and
      restores the best weights as `tg.fit` does; True stands for `tg.EarlyStopping()`. `callbacks`
      are those of `tg.fit`. With `warm_start`, `fit` goes on with the module and the optimizer.
    - `class_weight`: "balanced", or a dict of weights by class. It and `sample_weight` need a loss
      that takes `reduction="none"`, as those of `tg.nn` do. Sparse samples become dense.

    After `fit`, `module_` is the trained module in evaluation mode, `optimizer_` its optimizer,
    `history_` what `tg.fit` returned, and `classes_` has the labels, which are numbers or strings.
    Probabilities are the
    softmax of the scores. Raises ValueError for wrong parameters, AnomalyError if the training
    diverges.

    >>> x, y = tg.data.moons(200, rng=0)
    >>> adam = lambda parameters: tg.optim.Adam(parameters, lr=0.01)
    >>> model = NetClassifier(optimizer=adam, max_iter=100, random_state=0)
    >>> model.fit(x, y).score(x, y) > 0.95
    True
    """

    _rules: ClassVar[dict[str, Rule]] = {**_Net._rules, "class_weight": CLASS_WEIGHT}

    def __init__(
        self,
        module: Any = None,
        loss: Any = None,
        optimizer: Any = None,
        *,
        lr: float | None = None,
        batch_size: int = 100,
        max_iter: int = 50,
        shuffle: bool = True,
        random_state: Any = None,
        verbose: bool = False,
        warm_start: bool = False,
        early_stopping: bool | int | EarlyStopping = False,
        validation_fraction: float = 0.1,
        callbacks: Sequence[Any] = (),
        class_weight: Any = None,
    ) -> None:
        self.__dict__.update(arguments(locals()))

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetClassifier:  # noqa: N803
        """Fit to samples `X` of shape (n, features), and labels of shape (n,)."""
        return self._fit(X, y, sample_weight, None, once=False)

    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
    ) -> NetClassifier:
        """Go through the samples once. The first call needs all `classes`."""
        require_classes(self, classes)
        return self._fit(X, y, sample_weight, classes, once=True)

    def _fit(self, x: Any, y: Any, weight: Any, classes: Any, once: bool) -> NetClassifier:
        require_parameters(self, self._rules)
        goes_on = self._goes_on(once)
        x, y = validate_data(self, x, y, **SAMPLES, reset=not goes_on)
        check_classification_targets(y)
        if not goes_on:
            self.classes_: Array = unique_labels(y if classes is None else classes)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"NetClassifier: y has the classes {unknown}, which are not among {self.classes_}"
            )
        x = self._samples(x, goes_on)
        weight = weights_of_samples(self, weight, x, y)
        if not goes_on:
            self._begin(x, len(self.classes_))
        indices = np.searchsorted(self.classes_, y)
        self._train(x, indices, weight, nn.cross_entropy, once)
        return self

    def _made(self, x: Array, n_outputs: int) -> Module:
        module = super()._made(x, n_outputs)
        shape = _outputs_of(module.eval(), x).shape
        if shape != (1, n_outputs):
            raise ValueError(
                f"NetClassifier: the module returns an array of shape {shape} for one sample, but "
                f"a score for each of {n_outputs} classes has shape {(1, n_outputs)}: change its "
                "last layer"
            )
        return module

    def predict(self, X: Any) -> Array:  # noqa: N803
        """Return the classes with the largest scores, of shape (n,)."""
        scores = self._outputs(X)
        labels: Array = self.classes_[np.argmax(scores, axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the probabilities of `classes_`, of shape (n, classes)."""
        return np.asarray(nn.softmax(self._outputs(X), -1))

    def predict_log_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the logarithms of `predict_proba`."""
        return np.asarray(nn.log_softmax(self._outputs(X), -1))


class NetRegressor(RegressorMixin, _Net):  # type: ignore[misc]
    """Any module of `tg.nn` as a regressor of scikit-learn, trained by `tg.fit`.

    Targets have shape (n,) or (n, outputs). The module takes samples of shape (n, features) and
    returns outputs of shape (n, outputs), which `loss`, by default `tg.nn.mse_loss`, compares with
    targets of that shape. The parameters are those of `NetClassifier`, which explains them.

    >>> x = np.linspace(-1, 1, 100)[:, None]
    >>> net = tg.MLP(1, [20, 1], activation="tanh", output_activation="linear", rng=0)
    >>> adam = lambda parameters: tg.optim.Adam(parameters, lr=0.02)
    >>> model = NetRegressor(net, optimizer=adam, batch_size=20, max_iter=150, random_state=0)
    >>> model.fit(x, np.sin(3 * x[:, 0])).score(x, np.sin(3 * x[:, 0])) > 0.95
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetRegressor:  # noqa: N803
        """Fit to samples `X` of shape (n, features), and targets of shape (n,) or (n, outputs)."""
        return self._fit(X, y, sample_weight, once=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetRegressor:  # noqa: N803
        """Go through the samples once."""
        return self._fit(X, y, sample_weight, once=True)

    def _fit(self, x: Any, y: Any, weight: Any, once: bool) -> NetRegressor:
        require_parameters(self, self._rules)
        goes_on = self._goes_on(once)
        options = {"multi_output": True, "y_numeric": True, "reset": not goes_on}
        x, y = validate_data(self, x, y, **SAMPLES, **options)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        x = self._samples(x, goes_on)
        weight = weights_of_samples(self, weight, x)
        targets = y.reshape(len(y), -1).astype(x.dtype)
        if not goes_on:
            self._begin(x, targets.shape[1])
        self._train(x, targets, weight, nn.mse_loss, once)
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803
        """Return predictions, of shape (n,) or (n, outputs)."""
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
