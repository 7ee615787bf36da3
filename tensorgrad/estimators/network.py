"""The multi-layer perceptron of the estimators, as a function of its weights, and its losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy.sparse import issparse

from .. import nn, special
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..scipy.sparse import matmul

Weights: TypeAlias = Sequence[Any]

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x,
    "logistic": nn.sigmoid,
    "tanh": np.tanh,
    "relu": nn.relu,
}
OUTPUTS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda z: z,
    "exp": np.exp,
    "logistic": nn.sigmoid,
    "softmax": lambda z: nn.softmax(z, -1),
}


class Network(NamedTuple):
    """Layers of `units`, with an activation in between and one, `output`, at the end."""

    units: tuple[int, ...]
    activation: str
    output: str

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the coefs, and then of the intercepts."""
        return [*pairwise(self.units), *zip(self.units[1:])]

    def split(self, vector: Any) -> tuple[list[Any], list[Any]]:
        """The coefs and intercepts that a vector has one after the other."""
        ends = np.cumsum([prod(shape) for shape in self.shapes])[:-1]
        parts = [w.reshape(shape) for w, shape in zip(np.split(vector, ends), self.shapes)]
        half = len(parts) // 2
        return parts[:half], parts[half:]

    def initial(self, random: np.random.RandomState, dtype: Any) -> tuple[list[Array], list[Array]]:
        """Draw coefs and intercepts: Glorot and Bengio, 2010, as scikit-learn draws them."""
        coefs, intercepts = [], []
        factor = 2.0 if self.activation == "logistic" else 6.0
        for n_inputs, n_outputs in pairwise(self.units):
            bound = np.sqrt(factor / (n_inputs + n_outputs))
            coefs.append(random.uniform(-bound, bound, (n_inputs, n_outputs)).astype(dtype))
            intercepts.append(random.uniform(-bound, bound, n_outputs).astype(dtype))
        return coefs, intercepts

    def scores(self, coefs: Weights, intercepts: Weights, x: Any) -> Any:
        """What the last layer computes, before its activation, of shape (n, outputs).

        Samples can be sparse.
        """
        activation = ACTIVATIONS[self.activation]
        for w, b in zip(coefs[:-1], intercepts[:-1]):
            x = activation(_product(x, w) + b)
        return _product(x, coefs[-1]) + intercepts[-1]

    def predict(self, coefs: Weights, intercepts: Weights, x: Any) -> Array:
        """The activations of the last layer, as an array."""
        return np.asarray(OUTPUTS[self.output](self.scores(coefs, intercepts, x)))

    def losses(
        self, coefs: Weights, intercepts: Weights, x: Any, y: Any, share: Any, decay: Any
    ) -> tuple[Any, Any]:
        """The loss to minimize, and the one that loss curves show.

        It is a mean over the samples, each with its `share`, of the sum over the outputs, and half
        of the squared coefs times `decay`. Loss curves show the mean over the outputs of a squared
        error, as those of scikit-learn do.
        """
        data = share @ self._losses(self.scores(coefs, intercepts, x), y)
        penalty = 0.5 * decay * sum(np.sum(np.square(w)) for w in coefs)
        shown = data / self.units[-1] if self.output == "identity" else data
        return data + penalty, shown + penalty

    def _losses(self, z: Any, y: Any) -> Any:
        """The loss of each sample; for softmax, `y` is a vector of classes, else a matrix."""
        if self.output == "softmax":
            return nn.cross_entropy(z, y, reduction="none")
        if self.output == "logistic":
            losses = nn.binary_cross_entropy_with_logits(z, y, reduction="none")
        elif self.output == "exp":  # half of the Poisson deviance
            losses = np.exp(z) - y * z + (special.xlogy(y, y) - y)
        else:
            losses = 0.5 * (z - y) ** 2
        return np.sum(losses, axis=1)


def _product(x: Any, w: Any) -> Any:
    return matmul(x, w) if issparse(x) and isinstance(w, Tensor) else x @ w
