"""Samples in batches, as compiled steps take them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from ..engine.typing import Array

AT_ONCE = 1 << 22  # numbers of samples that are gathered at once

# Sparse samples of so many features, with so few numbers that are not zero, stay sparse: products
# of them take less time than a compiled step of dense ones.
MANY_FEATURES, FEW_NUMBERS = 1000, 0.02


def stays_sparse(x: Any) -> bool:
    """Whether steps for these samples are not compiled, since they are sparse."""
    n_samples, n_features = x.shape
    few = FEW_NUMBERS * n_samples * n_features
    return bool(issparse(x) and n_features >= MANY_FEATURES and x.nnz <= few)


class Part(NamedTuple):
    """Some of the batches of an epoch, all of the same size."""

    positions: Array  # in the order of an epoch; the number of samples stands for a filler
    counts: Array  # of samples in each batch, without fillers
    batches: int  # of this size in an epoch


class Batches:
    """Samples, targets and weights, in batches of a size.

    The last batch is filled up to a power of two, at most to the size, with samples of no weight:
    so steps are compiled for few sizes.
    """

    def __init__(self, x: Any, y: Array, weight: Array, size: int, alpha: float) -> None:
        self._stays_sparse = stays_sparse(x)
        x = x.tocsr() if issparse(x) else x
        self._x, self._y, self._weight, self._alpha = x, y, weight, alpha
        self._length = len(weight)
        self._parts = []
        for positions in _positions(self._length, size):
            counts = np.sum(positions < self._length, axis=1)
            at_once = max(1, AT_ONCE // (positions.shape[1] * x.shape[1]))
            for first in range(0, len(positions), at_once):
                which = slice(first, first + at_once)
                self._parts.append(Part(positions[which], counts[which], len(positions)))

    def epoch(self, order: Array) -> Iterator[tuple[Part, list[Any]]]:
        """Yield parts, with arrays for the steps: batches of samples, targets, shares and decays.

        A share is the weight of a sample over the sum in its batch, and a decay is alpha over that
        sum. A batch without weights has zeros of both. Samples that stay sparse are a list.
        """
        order = np.append(order, order[-1])
        for part in self._parts:
            rows = order[part.positions]
            weight = np.where(part.positions < self._length, self._weight[rows], 0)
            total = np.sum(weight, axis=1, keepdims=True)
            total[total == 0] = np.inf
            arrays = [self._y[rows], weight / total, self._alpha / total[:, 0]]
            yield part, [self._samples(rows), *arrays]

    def _samples(self, rows: Array) -> Any:
        if isinstance(self._x, np.ndarray):
            return self._x.take(rows, axis=0)
        if self._stays_sparse:
            return [self._x[batch] for batch in rows]
        return self._x[rows.ravel()].toarray().reshape(*rows.shape, -1)


def _positions(length: int, size: int) -> Iterator[Array]:
    """The positions of samples, a batch in each row: those of full batches, then the last one."""
    rest = length % size
    room = min(size, 1 << (rest - 1).bit_length()) if rest else 0
    positions = np.append(np.arange(length), np.full(room - rest, length))
    full = len(positions) - len(positions) % size
    for part in np.split(positions, [full]):
        if len(part):
            yield part.reshape(-1, min(size, len(part)))
