"""What `MLPClassifier` and `MLPRegressor` share: their parameters and their training."""

from __future__ import annotations

import os
import warnings
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from ..compiler import Compiled
from ..engine.typing import Array
from ..transforms import value_and_grad
from .batches import Batches, stays_sparse
from .checks import (
    FLAG,
    RANDOM_STATE,
    SAMPLES,
    VERBOSE,
    Rule,
    dense,
    either,
    integer,
    number,
    one_of,
    require_parameters,
)
from .network import ACTIVATIONS, Network
from .trainers import Kind, Steps, Trainer, borrowed

_FRACTION = number("from 0 to below 1", lambda x: 0 <= x < 1)
_NOT_NEGATIVE = number("of at least 0", lambda x: x >= 0)
_POSITIVE = number("above 0", lambda x: x > 0)
RULES: dict[str, Rule] = {
    "hidden_layer_sizes": (
        "> 0: an integer, or a sequence of integers",
        lambda x: (
            np.ndim(x) < 2
            and (np.size(x) == 0 or (np.asarray(x).dtype.kind in "iu" and np.min(x) > 0))
        ),
    ),
    "activation": one_of(*ACTIVATIONS),
    "solver": one_of("lbfgs", "sgd", "adam"),
    "alpha": _NOT_NEGATIVE,
    "batch_size": either(one_of("auto"), integer(1)),
    "learning_rate": one_of("constant", "invscaling", "adaptive"),
    "learning_rate_init": _POSITIVE,
    "power_t": _NOT_NEGATIVE,
    "max_iter": integer(1),
    "shuffle": FLAG,
    "random_state": RANDOM_STATE,
    "tol": _NOT_NEGATIVE,
    "verbose": VERBOSE,
    "warm_start": FLAG,
    "momentum": number("from 0 to 1", lambda x: 0 <= x <= 1),
    "nesterovs_momentum": FLAG,
    "early_stopping": FLAG,
    "validation_fraction": _FRACTION,
    "beta_1": _FRACTION,
    "beta_2": _FRACTION,
    "epsilon": _POSITIVE,
    "n_iter_no_change": either(integer(1), number("that is inf", lambda x: x == np.inf)),
    "max_fun": integer(1),
}
SMALLEST_RATE = 1e-6  # at which an adaptive learning rate ends the training
BATCH = 200  # samples in a batch, unless the user says otherwise


def is_stochastic(estimator: Any) -> bool:
    """Whether the solver goes through batches; raise AttributeError if it does not."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
        )
    return True


class Perceptron(BaseEstimator):  # type: ignore[misc]
    """The base of both estimators; their attributes are named as in scikit-learn."""

    _rules: ClassVar[dict[str, Rule]]
    _optimizer_state: tuple[str, Any] = "", None  # the solver and its state, for partial_fit

    def _fit(self, x: Any, y: Any, weight: Any, incremental: bool) -> None:
        require_parameters(self, self._rules)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        x, y, weight = self._validated(x, y, weight, incremental, first)
        if weight is None:
            weight = np.ones(x.shape[0], x.dtype)
        self.n_outputs_ = y.shape[1]
        self._random_state = check_random_state(self.random_state)
        if first:
            self._initialize(x.shape[1], x.dtype)
        self._require_units(self._network(x.shape[1]).units)
        if self.solver == "lbfgs":
            self._fit_lbfgs(x, self._targets(y, x.dtype), weight)
        else:
            self._start_records(first)
            self._fit_stochastic(x, y, weight, incremental)
        if not all(np.isfinite(w).all() for w in chain(self.coefs_, self.intercepts_)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )

    def _initialize(self, n_features: int, dtype: Any) -> None:
        """Draw weights, and set the attributes of a training that begins."""
        self.out_activation_ = self._output_activation()
        self.n_iter_ = self.t_ = 0
        self.coefs_, self.intercepts_ = self._network(n_features).initial(self._random_state, dtype)
        self.n_layers_ = len(self.coefs_) + 1

    def _require_units(self, units: tuple[int, ...]) -> None:
        known = (len(self.coefs_[0]), *map(len, self.intercepts_))
        if units != known:
            raise ValueError(
                f"{type(self).__name__}: the network has layers of {known} units, but "
                f"hidden_layer_sizes and the data ask for {units}: to train another network, use "
                "clone(estimator) of scikit-learn, or warm_start=False"
            )

    def _start_records(self, first: bool) -> None:
        """Begin the records of epochs, where a training has none, or none of this kind."""
        stops = self.early_stopping
        begins = first or not hasattr(self, "loss_curve_")
        if begins:
            self.loss_curve_: list[float] = []
        if begins or stops != (self.best_loss_ is None):  # early_stopping may have been changed
            self._no_improvement_count = 0
            self.validation_scores_: Any = [] if stops else None
            self.best_validation_score_: Any = -np.inf if stops else None
            self.best_loss_: Any = None if stops else np.inf
            self._best = self.coefs_, self.intercepts_

    def _network(self, n_features: int) -> Network:
        hidden = map(int, np.atleast_1d(self.hidden_layer_sizes))
        units = (n_features, *hidden, self.n_outputs_)
        return Network(units, self.activation, self.out_activation_)

    def _samples_and_targets(self, x: Any, y: Any, first: bool, **options: Any) -> tuple[Any, Any]:
        """The samples and the targets as scikit-learn checks them; a column is a vector."""
        x, y = validate_data(self, x, y, **SAMPLES, multi_output=True, reset=first, **options)
        x = x if first else x.astype(self.coefs_[0].dtype, copy=False)
        return x, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _outputs(self, x: Any) -> Array:
        """The activations of the last layer, of shape (n, outputs)."""
        check_is_fitted(self)
        x = validate_data(self, x, **SAMPLES, reset=False)
        return self._network(x.shape[1]).predict(self.coefs_, self.intercepts_, x)

    # -- lbfgs

    def _fit_lbfgs(self, x: Any, y: Array, weight: Array) -> None:
        network = self._network(x.shape[1])

        def loss(vector: Any, x: Any, y: Any, share: Any) -> Any:
            return network.losses(*network.split(vector), x, y, share, decay)[0]

        total = np.sum(weight)
        share, decay = weight / total, float(self.alpha / total)
        both = value_and_grad(loss)
        if not stays_sparse(x):
            x, both = dense(x), Compiled(both, supervisor=Steps(self.max_iter)).function()

        def value_and_gradient(vector: Array) -> tuple[float, Array]:
            value, gradient = both(vector.astype(x.dtype), x, y, share)
            return value.item(), np.array(gradient, np.float64)

        result = minimize(
            value_and_gradient,
            np.concatenate([w.ravel() for w in chain(self.coefs_, self.intercepts_)], dtype=float),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
        )
        self.n_iter_, self.loss_ = min(result.nit, self.max_iter), result.fun
        self.coefs_, self.intercepts_ = network.split(result.x.astype(x.dtype))
        if self.verbose:
            print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
        if result.status:
            warnings.warn(
                f"{type(self).__name__}: lbfgs ended after {self.n_iter_} iterations before it "
                f"converged ({result.message}): raise max_iter or max_fun, or scale the data",
                ConvergenceWarning,
                stacklevel=4,
            )

    # -- sgd and adam

    def _fit_stochastic(self, x: Any, y: Array, weight: Array, incremental: bool) -> None:
        validation = None
        if self.early_stopping:
            (x, y, weight), validation = self._split(x, y, weight)
        options = self._solver_options()
        kind = Kind(
            self._network(x.shape[1]),
            x.dtype.name,
            self.solver,
            tuple(name for name, value in options.items() if value),
            os.environ.get("TENSORGRAD_BACKEND", ""),
        )
        size = self._batch_size(len(weight), incremental)
        batches = Batches(x, self._targets(y, x.dtype), weight, size, float(self.alpha))
        with borrowed(kind) as trainer:
            trainer.start(self.coefs_, self.intercepts_)
            solver, state = self._optimizer_state
            state = state if incremental and solver == self.solver else None
            trainer.start_optimizer(state, options)
            self.coefs_, self.intercepts_ = trainer.weights
            try:
                self._run_epochs(trainer, batches, len(weight), validation, incremental)
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=4)
            finally:
                best = self._best if self.early_stopping else trainer.weights
                self.coefs_, self.intercepts_ = _copies(best)
                self._optimizer_state = self.solver, trainer.optimizer.state_dict()

    def _split(self, x: Any, y: Array, weight: Array) -> tuple[list[Any], list[Any]]:
        """The data to train with, and that to validate with."""
        parts = train_test_split(
            x,
            y,
            weight,
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=self._strata(y),
        )
        if len(parts[-1]) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        return parts[::2], parts[1::2]

    def _batch_size(self, n_samples: int, incremental: bool) -> int:
        """The size of batches: in `fit`, one batch of all samples is not filled up."""
        size = BATCH if self.batch_size == "auto" else int(self.batch_size)
        if size > n_samples and self.batch_size != "auto":
            warnings.warn(
                f"{type(self).__name__}: batch_size={size} is clipped to the number of samples, "
                f"{n_samples}",
                stacklevel=5,
            )
        return size if incremental else min(size, n_samples)

    def _solver_options(self) -> dict[str, Any]:
        if self.solver == "adam":
            betas = (self.beta_1, self.beta_2)
            return {"lr": self.learning_rate_init, "betas": betas, "eps": self.epsilon}
        nesterov = bool(self.nesterovs_momentum and self.momentum > 0)
        return {"lr": self.learning_rate_init, "momentum": self.momentum, "nesterov": nesterov}

    def _run_epochs(
        self, trainer: Trainer, batches: Batches, n_samples: int, validation: Any, once: bool
    ) -> None:
        order = np.arange(n_samples)
        options = trainer.optimizer.param_groups[0]
        self.n_iter_ = 0
        for _ in range(self.max_iter):
            if self.shuffle:
                order = order[self._random_state.permutation(n_samples)]
            total = 0.0
            for part, arrays in batches.epoch(order):
                steps = self.max_iter * (1 if once else part.batches)
                total += float(np.dot(trainer.run(arrays, steps), part.counts))
            self.n_iter_ += 1
            self.t_ += n_samples
            self.loss_ = total / n_samples
            self.loss_curve_.append(self.loss_)
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            self._count_no_improvement(validation)
            if self.solver == "sgd" and self.learning_rate == "invscaling":
                options["lr"] = self.learning_rate_init / (self.t_ + 1) ** self.power_t
            if self._no_improvement_count > self.n_iter_no_change:
                if self._stops(options):
                    return
                self._no_improvement_count = 0
            if once:
                return
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
            "optimization hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=5,
        )

    def _count_no_improvement(self, validation: Any) -> None:
        if validation is None:
            loss = self.loss_curve_[-1]
            improved = not loss > self.best_loss_ - self.tol
            if loss < self.best_loss_:
                self.best_loss_ = loss
        else:
            x, y, weight = validation
            outputs = self._network(x.shape[1]).predict(self.coefs_, self.intercepts_, x)
            score = self._score_of(outputs, y, weight)
            self.validation_scores_.append(score)
            if self.verbose:
                print(f"Validation score: {score:f}")
            improved = not score < self.best_validation_score_ + self.tol
            if score > self.best_validation_score_:
                self.best_validation_score_ = score
                self._best = _copies((self.coefs_, self.intercepts_))
        self._no_improvement_count = 0 if improved else self._no_improvement_count + 1

    def _stops(self, options: Any) -> bool:
        """Whether the training ends without improvement, or goes on with a smaller rate."""
        what = "Validation score" if self.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
            "consecutive epochs."
        )
        is_adaptive = self.solver == "sgd" and self.learning_rate == "adaptive"
        if is_adaptive and options["lr"] > SMALLEST_RATE:
            options["lr"] /= 5
            end = f"Setting learning rate to {options['lr']:f}"
        else:
            end = "Learning rate too small. Stopping." if is_adaptive else "Stopping."
        if self.verbose:
            print(message, end)
        return end.endswith("Stopping.")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _copies(weights: Any) -> tuple[list[Array], list[Array]]:
    coefs, intercepts = weights
    return [w.copy() for w in coefs], [b.copy() for b in intercepts]
