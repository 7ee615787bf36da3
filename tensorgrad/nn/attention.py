"""Attention, whose outputs are weighted means of values.

Vaswani and others, Attention Is All You Need, 2017.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..data import RNG
from ..engine.batching import Batch
from ..engine.modes import plain
from ..engine.tensor import Tensor
from ..rules.linear_algebra import affine
from .activations import softmax
from .dropout import Dropout, dropout
from .layers import Linear
from .module import Module, are_sizes, as_input, called, floating, uniform_weight


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    rng: RNG = None,
) -> Tensor:
    """Return softmax(scale * query @ key.T) @ value: for each query, a weighted mean of the values.

    Shapes (..., L, E), (..., S, E) and (..., S, Ev) give (..., L, Ev). `scale` is 1/sqrt(E) by
    default. `attn_mask` broadcasts to (..., L, S): a boolean mask is true where a query may attend
    to a key; a floating mask is added to the scores. With `is_causal`, query i attends to keys 0 to
    i only; together with a mask it raises ValueError, as in PyTorch. A query that may attend to no
    key gives NaN; its derivatives are 0, and those of other queries are not affected. Attention
    weights are dropped with probability `dropout_p`; `rng` is a NumPy Generator or a seed.

    With `enable_gqa`, shapes are (..., heads, L, E), and keys and values have fewer heads, each of
    which serves as many heads of the queries in a row. Ainslie and others, GQA: Training
    Generalized Multi-Query Transformer Models, 2023.

    >>> query, key = np.array([[0.0, 0.0]]), np.eye(2)
    >>> tg.nn.scaled_dot_product_attention(query, key, np.array([[1.0], [3.0]]))
    array([[2.]])
    >>> tg.nn.scaled_dot_product_attention(query, key, np.array([[1.0], [3.0]]), is_causal=True)
    array([[1.]])
    """
    query = as_input(query)
    key, value = [as_input(x, floating(query.dtype)) for x in (key, value)]
    if min(query.ndim, key.ndim, value.ndim) < 2 or not (
        query.shape[-1] == key.shape[-1] and key.shape[-2] == value.shape[-2]
    ):
        raise ValueError(
            f"scaled_dot_product_attention: shapes {query.shape}, {key.shape} and {value.shape} "
            "do not match: they must be (..., L, E), (..., S, E) and (..., S, Ev)"
        )
    if is_causal and attn_mask is not None:
        raise ValueError(
            "scaled_dot_product_attention: pass is_causal=True or attn_mask, not both; a boolean "
            "mask and is_causal together are attn_mask & numpy.tri(L, S, dtype=bool)"
        )
    if enable_gqa:
        key, value = _of_heads(query, key), _of_heads(query, value)
    masks = [] if attn_mask is None else [_checked_mask("attn_mask", attn_mask)]
    weights, keyless = _weights(query, key, masks, is_causal, scale)
    return _nan_where(keyless, dropout(weights, dropout_p, rng=rng) @ value)


def _of_heads(query: Any, x: Any) -> Any:
    """Keys or values with as many heads as the queries: each is repeated."""
    heads = (query.shape[-3], x.shape[-3]) if min(query.ndim, x.ndim) > 2 else None
    if heads is None or not heads[1] or heads[0] % heads[1]:
        raise ValueError(
            f"scaled_dot_product_attention: queries of shape {query.shape} and keys or values of "
            f"shape {x.shape}; with enable_gqa, the number of heads, the axis -3, must be a "
            "multiple of theirs"
        )
    return np.repeat(x, heads[0] // heads[1], axis=-3)


def _checked_mask(name: str, mask: Any) -> Any:
    mask = as_input(mask)
    if mask.dtype.kind not in "bf":
        raise TypeError(f"{name}: a mask of dtype {mask.dtype}; it must be boolean or floating")
    return mask


def _weights(
    query: Any, key: Any, masks: Sequence[Any], is_causal: bool, scale: float | None = None
) -> tuple[Any, Any]:
    """Return the attention weights, and which queries may attend to no key, or None if none.

    A boolean mask is true where a query may attend to a key. The weights of queries without keys
    are finite, so that a cotangent of 0 gives derivatives of 0.
    """
    scores = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.mT
    if is_causal:
        masks = [*masks, np.tri(*scores.shape[-2:], dtype=bool)]
    if not masks:
        return softmax(scores), None
    for mask in masks:
        if mask.dtype == bool:
            scores = np.where(mask, scores, -np.inf)
        else:  # a mask of float64 leaves scores of float32 what they are
            scores = scores + mask.astype(scores.dtype, copy=False)
    allowed = [plain(mask) if mask.dtype == bool else plain(mask) != -np.inf for mask in masks]
    seen = np.atleast_1d(functools.reduce(np.logical_and, allowed))
    keyless = ~np.any(seen, axis=-1, keepdims=True)
    any_keyless = np.any(keyless)
    if isinstance(any_keyless, Batch) or any_keyless:
        keyless = np.broadcast_to(keyless, (*scores.shape[:-1], 1))
        return softmax(np.where(keyless, 0, scores)), keyless
    return softmax(scores), None


def _nan_where(keyless: Any, x: Any) -> Any:
    return x if keyless is None else np.where(keyless, np.nan, x)


class MultiheadAttention(Module):
    """Attention with several heads, each of which has its own projections of the inputs.

    `num_heads` heads share `embed_dim` features equally. Keys have `kdim` features and values
    `vdim`; both are `embed_dim` by default. The weights of the three input projections are stacked
    in `in_proj_weight`, shape (3 * embed_dim, embed_dim); if `kdim` or `vdim` differs, they are
    `q_proj_weight`, `k_proj_weight` and `v_proj_weight`. They start uniform with Glorot's bound
    sqrt(6 / (rows + columns)), and biases start at zero. `out_proj` is a `Linear`. In training,
    attention weights are dropped with probability `dropout`. `rng` is a NumPy Generator, which the
    dropout shares, or a seed.

    >>> attention = tg.nn.MultiheadAttention(6, num_heads=2, batch_first=True)
    >>> x, memory = np.ones((5, 3, 6)), np.ones((5, 4, 6))
    >>> output, weights = attention(x, memory, memory)
    >>> output.shape, weights.shape
    ((5, 3, 6), (5, 3, 4))
    """

    in_proj_weight: Tensor
    q_proj_weight: Tensor
    k_proj_weight: Tensor
    v_proj_weight: Tensor

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        if not are_sizes(embed_dim, num_heads) or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: {embed_dim} features cannot be divided equally among "
                f"{num_heads} heads"
            )
        rng = np.random.default_rng(rng)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        for name, shape in self._projection_shapes().items():
            setattr(self, name, uniform_weight(rng, math.sqrt(6 / sum(shape)), shape, dtype))
        zeros = np.zeros(3 * embed_dim)
        self.in_proj_bias = Tensor(zeros, dtype, requires_grad=True) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype, rng)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data = zeros[:embed_dim]
        self.dropout = Dropout(dropout, rng)

    def _projection_shapes(self) -> dict[str, tuple[int, int]]:
        size = self.embed_dim
        if self.kdim == self.vdim == size:
            return {"in_proj_weight": (3 * size, size)}
        sizes = {"q": size, "k": self.kdim, "v": self.vdim}
        return {f"{name}_proj_weight": (size, columns) for name, columns in sizes.items()}

    def __call__(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Any]:
        """Return the output and the attention weights, or None if not `need_weights`.

        Queries are (L, batch, embed_dim), with `batch_first` (batch, L, embed_dim), or
        (L, embed_dim) for one sequence; keys and values likewise, with S instead of L. The output
        has the layout of the queries. The weights are the mean over the heads, (batch, L, S), or
        those of each head, (batch, num_heads, L, S).

        A boolean mask is true where a query may *not* attend to a key; a floating mask is added to
        the scores. `key_padding_mask` is (batch, S) or (S,), and `attn_mask` is (L, S) or
        (batch * num_heads, L, S). With `is_causal`, query i attends to keys 0 to i only. A query
        that may attend to no key gives NaN.
        """
        arrays = [as_input(x, self.out_proj.weight.dtype) for x in (query, key, value)]
        single = arrays[0].ndim == 2
        inputs = self._batched(arrays)
        masks = self._masks(attn_mask, key_padding_mask, inputs, single)
        q, k, v = map(self._heads, inputs, self._in_weights(), self._in_biases())
        weights, keyless = _weights(q, k, masks, is_causal)
        weights = self.dropout(weights)
        y = self._merged(weights @ v, keyless)
        if need_weights:
            weights = _nan_where(keyless, weights)
            weights = np.mean(weights, axis=1) if average_attn_weights else weights
        if single:
            y, weights = y[0], weights[0]
        elif not self.batch_first:
            y = np.swapaxes(y, 0, 1)
        return y, weights if need_weights else None

    def _batched(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """The inputs as (n, L, embed_dim), (n, S, kdim) and (n, S, vdim)."""
        batched: Sequence[Any] = []
        if all(x.ndim == 2 for x in inputs):
            batched = [x[None] for x in inputs]
        elif all(x.ndim == 3 for x in inputs):
            batched = inputs if self.batch_first else [np.swapaxes(x, 0, 1) for x in inputs]
        if batched:
            (n, length, _), count = batched[0].shape, batched[1].shape[1]
            features = (length, self.embed_dim), (count, self.kdim), (count, self.vdim)
            if [x.shape for x in batched] == [(n, *sizes) for sizes in features]:
                return batched
        layout = "(batch, {0}, {1})" if self.batch_first else "({0}, batch, {1})"
        sizes = ("L", self.embed_dim), ("S", self.kdim), ("S", self.vdim)
        raise ValueError(
            f"{self}: query, key and value of shapes {', '.join([str(x.shape) for x in inputs])}; "
            f"they must be {', '.join([layout.format(*pair) for pair in sizes])}, or all of them "
            "without the batch"
        )

    def _masks(
        self, attn_mask: Any, key_padding_mask: Any, inputs: Sequence[Any], single: bool
    ) -> list[Any]:
        """The masks, in shapes that broadcast to (n, heads, L, S)."""
        (n, length, _), count = inputs[0].shape, inputs[1].shape[1]
        masks = []
        if attn_mask is not None:
            each = (n * self.num_heads, length, count)
            mask = self._mask("attn_mask", attn_mask, [each[1:], each])
            masks.append(mask.reshape(n, -1, *each[1:]) if mask.ndim > 2 else mask)
        if key_padding_mask is not None:
            shape = (count,) if single else (n, count)
            mask = self._mask("key_padding_mask", key_padding_mask, [shape])
            masks.append(mask.reshape(n, 1, 1, count))
        return masks

    def _mask(self, name: str, mask: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
        """The mask; a boolean one is true in the result where a query may attend to a key."""
        mask = _checked_mask(name, mask)
        if mask.shape not in shapes:
            raise ValueError(
                f"{self}: {name} of shape {mask.shape}; with these inputs it must be "
                f"{' or '.join(map(str, shapes))}"
            )
        return ~mask if mask.dtype == bool else mask

    def _in_weights(self) -> Sequence[Any]:
        if "in_proj_weight" in self._projection_shapes():
            return np.split(self.in_proj_weight, 3)
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def _in_biases(self) -> Sequence[Any]:
        return [0] * 3 if self.in_proj_bias is None else np.split(self.in_proj_bias, 3)

    def _heads(self, x: Any, weight: Any, bias: Any) -> Any:
        """Project (n, length, features) to (n, heads, length, features of a head)."""
        n, length, features = x.shape
        rows = affine(x.reshape(n * length, features), weight, bias)
        heads = rows.reshape(n, length, self.num_heads, self.embed_dim // self.num_heads)
        return np.swapaxes(heads, 1, 2)

    def _merged(self, heads: Any, keyless: Any) -> Any:
        """Project the outputs of all heads, (n, heads, length, features), to the output."""
        n, _, length, _ = heads.shape
        rows = np.swapaxes(heads, 1, 2).reshape(n * length, self.embed_dim)
        y: Any = self.out_proj(rows)
        y = y.reshape(n, length, self.embed_dim)
        # The projection mixes the heads: one without keys makes the whole output NaN.
        return y if keyless is None else _nan_where(np.any(keyless, axis=1), y)

    def __repr__(self) -> str:
        return called(
            self,
            self.embed_dim,
            self.num_heads,
            dropout=self.dropout.p,
            bias=self.in_proj_bias is not None,
            kdim=None if self.kdim == self.embed_dim else self.kdim,
            vdim=None if self.vdim == self.embed_dim else self.vdim,
            batch_first=self.batch_first,
        )
