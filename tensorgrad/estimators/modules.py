"""`NetClassifier` and `NetRegressor`: any module as an estimator, trained by `tg.fit`."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import data, nn
from ..engine.modes import no_grad
from ..engine.typing import Array
from ..nn import Module
from ..optim import Adam
from ..training import fit
from ..training.metrics import as_array
from .checks import Rule, integer, require_parameters

_DTYPES = np.float64, np.float32
_FUNCTION: Rule = "None or a function", lambda x: x is None or callable(x)


class _Net(BaseEstimator):  # type: ignore[misc]
    """The parameters and the training of both estimators."""

    _rules: ClassVar[dict[str, Rule]] = {
        "module": ("None, a tg.nn.Module, or a function that makes one", _FUNCTION[1]),
        "loss": _FUNCTION,
        "optimizer": _FUNCTION,
        "batch_size": integer(1),
        "max_iter": integer(1),
    }

    def __init__(
        self,
        module: Any = None,
        loss: Any = None,
        optimizer: Any = None,
        *,
        batch_size: int = 100,
        max_iter: int = 50,
        shuffle: bool = True,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.module = module
        self.loss = loss
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.verbose = verbose

    def _train(self, x: Array, y: Array, n_outputs: int, loss: Any) -> None:
        seed = check_random_state(self.random_state).randint(1 << 31)
        rng = np.random.default_rng(seed)
        module = self._made(x.shape[1], n_outputs, rng).astype(x.dtype)
        optimizer = (self.optimizer or Adam)(module.parameters())
        batches = data.batches(
            (x, y), min(int(self.batch_size), len(x)), shuffle=bool(self.shuffle), rng=rng
        )
        self.history_ = fit(
            module,
            self.loss or loss,
            batches,
            optimizer=optimizer,
            epochs=int(self.max_iter),
            progress=bool(self.verbose),
        )
        self.module_, self.n_iter_ = module.eval(), len(self.history_["loss"])

    def _made(self, n_features: int, n_outputs: int, rng: np.random.Generator) -> Module:
        """The module that is trained, which nobody else has."""
        if isinstance(self.module, Module):
            return copy.deepcopy(self.module)
        if self.module is None:
            return nn.Sequential(
                nn.Linear(n_features, 100, rng=rng), nn.ReLU(), nn.Linear(100, n_outputs, rng=rng)
            )
        made = self.module(n_features, n_outputs, rng)
        if not isinstance(made, Module):
            raise TypeError(
                f"{type(self).__name__}: module must return a tg.nn.Module, not a "
                f"{type(made).__name__}"
            )
        return made

    def _outputs(self, x: Any) -> Array:
        check_is_fitted(self)
        x = validate_data(self, x, dtype=_DTYPES, reset=False)
        with no_grad():
            return np.asarray(as_array(self.module_(x.astype(self._dtype, copy=False))))


class NetClassifier(ClassifierMixin, _Net):  # type: ignore[misc]
    """Any module of `tg.nn` as a classifier of scikit-learn, trained by `tg.fit`.

    - `module`: a module, of which each fit trains a copy; or a function of the numbers of features
      and classes and of a `np.random.Generator`, which returns one; by default a hidden layer of
      100 units. It takes samples of shape (n, features) and returns a score for each class.
    - `loss`: a function of scores and class indices, by default `tg.nn.cross_entropy`.
    - `optimizer`: a function of the parameters, by default `tg.optim.Adam`; with options, such as
      `functools.partial(tg.optim.SGD, lr=0.1)`.
    - `batch_size` samples take a step, in `max_iter` epochs. With `shuffle`, each has an order of
      its own. `random_state` seeds it and the initial weights. With `verbose`, progress is shown.

    After `fit`, `module_` is the trained module in evaluation mode, `history_` what `tg.fit`
    returned, and `classes_` has the labels, which are numbers or strings. Probabilities are the
    softmax of the scores. Raises ValueError for wrong parameters, AnomalyError if the training
    diverges.

    >>> x, y = tg.data.moons(200, rng=0)
    >>> adam = lambda parameters: tg.optim.Adam(parameters, lr=0.01)
    >>> model = NetClassifier(optimizer=adam, max_iter=100, random_state=0)
    >>> model.fit(x, y).score(x, y) > 0.95
    True
    """

    def fit(self, X: Any, y: Any) -> NetClassifier:  # noqa: N803
        """Fit to samples `X` of shape (n, features), and labels of shape (n,)."""
        require_parameters(self, self._rules)
        x, y = validate_data(self, X, y, dtype=_DTYPES)
        check_classification_targets(y)
        self._dtype = x.dtype
        self.classes_, indices = np.unique(y, return_inverse=True)
        self._train(x, indices, len(self.classes_), nn.cross_entropy)
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803
        """Return the classes with the largest scores, of shape (n,)."""
        scores = self._outputs(X)
        labels: Array = self.classes_[np.argmax(scores, axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the probabilities of `classes_`, of shape (n, classes)."""
        return np.asarray(nn.softmax(self._outputs(X), -1))


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

    def fit(self, X: Any, y: Any) -> NetRegressor:  # noqa: N803
        """Fit to samples `X` of shape (n, features), and targets of shape (n,) or (n, outputs)."""
        require_parameters(self, self._rules)
        x, y = validate_data(self, X, y, dtype=_DTYPES, multi_output=True, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._dtype = x.dtype
        targets = y.reshape(len(y), -1).astype(x.dtype)
        self._train(x, targets, targets.shape[1], nn.mse_loss)
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803
        """Return predictions, of shape (n,) or (n, outputs)."""
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
