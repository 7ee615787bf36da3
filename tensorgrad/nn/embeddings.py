"""Embeddings: tables of vectors, which integers look up, one by one or in bags."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from ..data import RNG, within
from ..engine.custom import differentiable
from ..engine.interpreter import Requirement
from ..engine.modes import mode as current_mode, plain
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..rules.indexing import scatter
from ..rules.selection import masked
from .module import Module, as_input, called, require_sizes


def embedding(index: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """Return the rows of `weight`, shape (count, size), at the indices in an array of integers.

    The result has shape (*index.shape, size). The row `padding_idx` gets no gradient. Raises
    IndexError for an index that is negative or too large.

    >>> tg.nn.embedding([[0, 2]], np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    array([[[1., 2.],
            [5., 6.]]])
    """
    return _looked_up("embedding", index, weight, padding_idx)


def _looked_up(name: str, index: Any, weight: Any, padding_idx: int | None) -> Any:
    index = as_input(plain(index))
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name}: an index of dtype {index.dtype}; it must be of integers")
    if np.ndim(weight) != 2:
        raise ValueError(
            f"{name}: a weight of shape {np.shape(weight)}; it must be of shape (count, size)"
        )
    count = len(weight)

    def check(index: Any) -> None:
        if not within(index, count):
            raise IndexError(
                f"{name}: an index from {index.min()} to {index.max()} into {count} rows"
            )

    requirement = Requirement(check, lambda i: (i >= 0) & (i < count))
    current_mode.get().interpreter.effect(requirement, index)
    return _rows_at(weight, index, _row(name, padding_idx, count))


def _row(name: str, padding_idx: int | None, count: int) -> int | None:
    """The row of the padding, counted from the start."""
    if padding_idx is None or -count <= padding_idx < count:
        return padding_idx if padding_idx is None else padding_idx % count
    raise IndexError(f"{name}: padding_idx={padding_idx} is not one of {count} rows")


def _rows_at_back(g: Any, _y: Any, _weight: Any, index: Any, padding_idx: int | None) -> Any:
    if padding_idx is not None:
        g = masked(g, (index != padding_idx)[..., np.newaxis])
    return scatter(g, index, _weight.shape)


@differentiable(_rows_at_back, form="linear")
@shown_as("embedding")
def _rows_at(weight: Any, index: Any, _padding_idx: int | None) -> Any:
    return np.take(weight, index, axis=0, mode="clip")  # the index has been checked


class Embedding(Module):
    """A table of vectors: it replaces each integer by the row of the weight with that index.

    The weight has shape (num_embeddings, embedding_dim), and starts standard normal, as in PyTorch.
    The row `padding_idx`, which may be negative to count from the end, starts as zeros and gets no
    gradient. `rng` is a NumPy Generator or a seed.

    >>> table = tg.nn.Embedding(10, 3, padding_idx=0, rng=0)
    >>> table, table([[1, 2, 0], [4, 0, 0]]).shape, table(0)
    (Embedding(10, 3, padding_idx=0), (2, 3, 3), Tensor([0., 0., 0.], requires_grad=True))
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        require_sizes(type(self).__name__, num_embeddings, embedding_dim)
        rows = np.random.default_rng(rng).normal(size=(num_embeddings, embedding_dim))
        self.padding_idx = _row(type(self).__name__, padding_idx, num_embeddings)
        if padding_idx is not None:
            rows[padding_idx] = 0
        self.weight = Tensor(rows, dtype, requires_grad=True)

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None
    ) -> Self:
        """Return a table with these vectors, shape (count, size), not trained if `freeze`.

        >>> tg.nn.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])([1])
        Tensor([[3., 4.]])
        """
        return _pretrained(cls(1, 1), embeddings, freeze, padding_idx)

    def __call__(self, index: Any) -> Tensor:
        """Return the vectors for an array or list of integers."""
        return embedding(index, self.weight, self.padding_idx)

    def __repr__(self) -> str:
        return called(self, *self.weight.shape, padding_idx=self.padding_idx)


T = TypeVar("T", bound="Embedding | EmbeddingBag")


def _pretrained(table: T, embeddings: Any, freeze: bool, padding_idx: int | None) -> T:
    rows, name = as_input(plain(embeddings)), f"{type(table).__name__}.from_pretrained"
    if rows.ndim != 2:
        raise ValueError(f"{name}: vectors of shape {rows.shape}; they must be (count, size)")
    table.padding_idx = _row(name, padding_idx, len(rows))
    table.weight = Tensor(rows, requires_grad=not freeze)
    return table


# -- bags

BagMode: TypeAlias = Literal["sum", "mean", "max"]


def embedding_bag(
    index: Any,
    weight: Any,
    offsets: Any = None,
    mode: BagMode = "mean",
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Return the sum, the mean or the maximum of the rows of `weight` that each bag looks up.

    A bag is a row of `index`, shape (bags, n). Or `index` has shape (n,), and bag i starts at
    `offsets[i]` and ends where the next one starts; the last one ends at the end or, with
    `include_last_offset`, at the last offset. `per_sample_weights`, of the shape of `index`,
    multiply the rows, for sums only. Indices equal to `padding_idx` are left out. An empty bag
    gives zeros. Raises IndexError for an index that is negative or too large.

    >>> weight = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> tg.nn.embedding_bag([[0, 2], [1, 1]], weight)
    array([[3., 4.],
           [3., 4.]])
    >>> tg.nn.embedding_bag([0, 2, 1], weight, offsets=[0, 2, 2], mode="sum")
    array([[6., 8.],
           [0., 0.],
           [3., 4.]])
    """
    index = as_input(plain(index))
    _require_mode("embedding_bag", mode)
    _require_bag(index, offsets, mode, per_sample_weights)
    used = np.ones_like(index, bool)
    if offsets is not None:
        positions, used = _positions(len(index), np.asarray(plain(offsets)), include_last_offset)
        index = index[positions]
    rows = _looked_up("embedding_bag", index, weight, padding_idx)
    if padding_idx is not None:
        used = used & (index != _row("embedding_bag", padding_idx, len(weight)))
    used = used[..., None]
    if per_sample_weights is not None:
        weights = as_input(per_sample_weights, rows.dtype)
        rows = rows * (weights if offsets is None else weights[positions])[..., None]
    if mode == "max":
        some = np.any(used, axis=1)
        low = np.max(np.where(used, rows, -np.inf), axis=1, initial=-np.inf)
        return np.where(some, low, 0)  # type: ignore[return-value]
    total = np.sum(np.where(used, rows, 0), axis=1)
    if mode == "sum":
        return total
    return total / np.maximum(np.sum(used, axis=1), 1).astype(rows.dtype)


def _require_mode(name: str, mode: str) -> None:
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f'{name}: mode must be "sum", "mean" or "max", not {mode!r}')


def _require_bag(index: Any, offsets: Any, mode: str, per_sample_weights: Any) -> None:
    if index.ndim != (2 if offsets is None else 1):
        raise ValueError(
            f"embedding_bag: an index of shape {index.shape}; it must be (bags, n), or (n,) "
            "together with offsets"
        )
    if per_sample_weights is None:
        return
    if mode != "sum":
        raise ValueError(f'embedding_bag: per_sample_weights are for mode="sum", not {mode!r}')
    if np.shape(per_sample_weights) != index.shape:
        raise ValueError(
            f"embedding_bag: per_sample_weights of shape {np.shape(per_sample_weights)} for an "
            f"index of shape {index.shape}"
        )


def _positions(count: int, offsets: Any, include_last: bool) -> tuple[Any, Any]:
    """Where the indices of each bag lie, shape (bags, longest); and which of them are there."""
    ends = offsets[1:] if include_last else np.append(offsets[1:], count)
    starts = offsets[: len(ends)]
    lengths = ends - starts
    if (
        offsets.ndim != 1
        or offsets.dtype.kind not in "iu"
        or np.any(offsets[:1] != 0)
        or np.any(lengths < 0)
        or np.any(offsets > count)
    ):
        raise ValueError(
            f"embedding_bag: offsets {offsets.tolist()} of {count} indices; they must be integers "
            f"that start with 0, do not fall and are at most {count}"
        )
    steps = np.arange(int(np.max(lengths, initial=0)))
    return np.minimum(starts[:, None] + steps, count - 1), steps < lengths[:, None]


class EmbeddingBag(Module):
    """A layer that computes `embedding_bag` with its weight, which starts as that of `Embedding`.

    >>> table = tg.nn.EmbeddingBag(10, 3, mode="sum", rng=0)
    >>> table, table([[1, 2, 0], [4, 0, 0]]).shape
    (EmbeddingBag(10, 3, mode='sum'), (2, 3))
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        mode: BagMode = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        _require_mode("EmbeddingBag", mode)
        self.mode: BagMode = mode
        self.include_last_offset = include_last_offset
        table = Embedding(num_embeddings, embedding_dim, padding_idx, dtype, rng)
        self.padding_idx, self.weight = table.padding_idx, table.weight

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        mode: BagMode = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """Return a layer with these vectors, shape (count, size), not trained if `freeze`.

        >>> tg.nn.EmbeddingBag.from_pretrained([[1.0, 2.0], [3.0, 4.0]])([[0, 1]])
        Tensor([[2., 3.]])
        """
        layer = cls(1, 1, mode, include_last_offset)
        return _pretrained(layer, embeddings, freeze, padding_idx)

    def __call__(self, index: Any, offsets: Any = None, per_sample_weights: Any = None) -> Tensor:
        """Return a vector for each bag."""
        return embedding_bag(
            index,
            self.weight,
            offsets,
            self.mode,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def __repr__(self) -> str:
        return called(
            self,
            *self.weight.shape,
            mode=self.mode,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )
