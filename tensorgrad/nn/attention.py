"""Attention: outputs that are weighted means of values, and the Transformer's encoder.

Vaswani and others, Attention Is All You Need, 2017.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..data import RNG
from ..engine.tensor import Tensor
from ..engine.variable import plain
from ..rules.linear_algebra import affine
from .activations import Activation, activation_of, softmax
from .layers import Dropout, Linear, dropout
from .module import Module, as_input, called, floating, uniform_weight
from .normalization import LayerNorm


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    rng: RNG = None,
) -> Tensor:
    """Return softmax(scale * query @ key.T) @ value: for each query a weighted mean of the values.

    Shapes (..., L, E), (..., S, E) and (..., S, Ev) give (..., L, Ev). `scale` is 1/sqrt(E) unless
    given. `attn_mask`, which broadcasts to (..., L, S), says where it is boolean which keys take
    part; a floating one is added to the scores. With `is_causal`, query i sees the keys 0 to i
    alone; both together raise ValueError, as in PyTorch. A query that no key is left for gives NaN,
    which has no derivative and changes no other one. Weights are dropped with the probability
    `dropout_p`, by `rng`, a NumPy Generator or a seed.

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
            "scaled_dot_product_attention: pass is_causal=True or attn_mask, not both; for a "
            "boolean mask, attn_mask & numpy.tri(L, S, dtype=bool) is both"
        )
    masks = [] if attn_mask is None else [_checked_mask("attn_mask", attn_mask)]
    weights, keyless = _weights(query, key, masks, is_causal, scale)
    return _spoilt(dropout(weights, dropout_p, rng=rng) @ value, keyless)


def _checked_mask(name: str, mask: Any) -> Any:
    mask = as_input(mask)
    if mask.dtype.kind not in "bf":
        raise TypeError(f"{name}: a mask of dtype {mask.dtype}; it must be boolean or floating")
    return mask


def _weights(
    query: Any, key: Any, masks: Sequence[Any], is_causal: bool, scale: float | None = None
) -> tuple[Any, Any]:
    """The softmax of the scores, with those left out where a boolean mask is false.

    And which queries no key is left for, or None; their weights are finite, so that in derivatives
    those times 0 are 0.
    """
    scores = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.mT
    if is_causal:
        masks = [*masks, np.tri(*scores.shape[-2:], dtype=bool)]
    if not masks:
        return softmax(scores), None
    for mask in masks:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    left = [plain(mask) if mask.dtype == bool else plain(mask) != -np.inf for mask in masks]
    seen = np.atleast_1d(functools.reduce(np.logical_and, left))
    keyless = ~np.any(seen, axis=-1, keepdims=True)
    if np.any(keyless):
        keyless = np.broadcast_to(keyless, (*scores.shape[:-1], 1))
        return softmax(np.where(keyless, 0, scores)), keyless
    return softmax(scores), None


def _spoilt(x: Any, keyless: Any) -> Any:
    return x if keyless is None else np.where(keyless, np.nan, x)


class MultiheadAttention(Module):
    """Attention of several heads, each of which compares and mixes projections of its own.

    `embed_dim` features are divided among `num_heads` heads. Keys have `kdim` features and values
    `vdim`, by default as many as queries. The weights of the three projections lie one below the
    other in `in_proj_weight`, (3 * embed_dim, embed_dim), or, where `kdim` or `vdim` is given, in
    `q_proj_weight`, `k_proj_weight` and `v_proj_weight`; they start uniform with Glorot's bound
    sqrt(6 / (rows + columns)), and biases with zeros. `out_proj` is a `Linear`. In training,
    weights of the means are dropped with the probability `dropout`. `rng` is a NumPy Generator,
    shared with the dropout, or a seed.

    >>> attention = tg.nn.MultiheadAttention(6, num_heads=2, batch_first=True)
    >>> x, memory = np.ones((5, 3, 6)), np.ones((5, 4, 6))
    >>> output, weights = attention(x, memory, memory)
    >>> output.shape, weights.shape
    ((5, 3, 6), (5, 3, 4))
    """

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
        if min(embed_dim, num_heads) < 1 or embed_dim % num_heads:
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
        shapes = {"in_proj_weight": (3 * embed_dim, embed_dim)}
        if not self.kdim == self.vdim == embed_dim:
            sizes = {"q": embed_dim, "k": self.kdim, "v": self.vdim}
            shapes = {f"{name}_proj_weight": (embed_dim, size) for name, size in sizes.items()}
        self._names = [*shapes]
        for name, shape in shapes.items():
            setattr(self, name, uniform_weight(rng, math.sqrt(6 / sum(shape)), shape, dtype))
        zeros = np.zeros(3 * embed_dim)
        self.in_proj_bias = Tensor(zeros, dtype, requires_grad=True) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype, rng)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data = zeros[:embed_dim]
        self.dropout = Dropout(dropout, rng)

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
        """Return the output and the weights of the means, or None if not `need_weights`.

        Queries are (L, batch, embed_dim), with `batch_first` (batch, L, embed_dim), or
        (L, embed_dim) for one sequence; keys and values likewise, with S in place of L. The output
        is like the queries. The weights are (batch, L, S), the mean of all heads', or (batch,
        num_heads, L, S). Where a boolean mask is true, a key does *not* take part; a floating one
        is added to the scores. `key_padding_mask` is (batch, S) or (S,), and `attn_mask` (L, S) or
        (batch * num_heads, L, S). With `is_causal`, query i sees the keys 0 to i alone. A query
        that no key is left for gives NaN.
        """
        inputs = [as_input(x, self.out_proj.weight.dtype) for x in (query, key, value)]
        single = inputs[0].ndim == 2
        inputs = [*self._batched(inputs)]
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
        q, k, v = map(self._heads, inputs, self._in_weights(), self._in_biases())
        weights, keyless = _weights(q, k, masks, is_causal)
        weights = self.dropout(weights)
        y: Any = self.out_proj(np.swapaxes(weights @ v, 1, 2).reshape(n * length, self.embed_dim))
        y = y.reshape(n, length, self.embed_dim)
        if keyless is not None:
            y = _spoilt(y, np.any(keyless, axis=1))  # for the last projection mixes the heads
        if need_weights:
            weights = _spoilt(weights, keyless)
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

    def _mask(self, name: str, mask: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
        """The mask, true where a key takes part if it is boolean."""
        mask = _checked_mask(name, mask)
        if mask.shape not in shapes:
            raise ValueError(
                f"{self}: {name} of shape {mask.shape}; with these inputs it must be "
                f"{' or '.join(map(str, shapes))}"
            )
        return ~mask if mask.dtype == bool else mask

    def _in_weights(self) -> Sequence[Any]:
        weights = [getattr(self, name) for name in self._names]
        return np.split(weights[0], 3) if len(weights) == 1 else weights

    def _in_biases(self) -> Sequence[Any]:
        return [0] * 3 if self.in_proj_bias is None else np.split(self.in_proj_bias, 3)

    def _heads(self, x: Any, weight: Any, bias: Any) -> Any:
        """The projection of (n, length, features) to (n, heads, length, features of each)."""
        n, length, features = x.shape
        rows = affine(x.reshape(n * length, features), weight, bias)
        heads = rows.reshape(n, length, self.num_heads, self.embed_dim // self.num_heads)
        return np.swapaxes(heads, 1, 2)

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


class TransformerEncoderLayer(Module):
    """Attention of a sequence to itself, then two linear layers; each is added to its input.

    `d_model` features are divided among `nhead` heads; there are `dim_feedforward` between the two
    linear layers, where the `activation` is a name in `ACTIVATIONS` or any function. Each sum is
    normalized by a `LayerNorm` with `layer_norm_eps` or, with `norm_first`, the input of each of
    the two parts. In training, elements of what is added, of the weights of attention and of the
    features between the linear layers are dropped with the probability `dropout`, by one Generator.
    `rng` is that Generator or a seed; the initial weights are drawn by it, too.

    >>> layer = tg.nn.TransformerEncoderLayer(6, nhead=2, dim_feedforward=8, batch_first=True)
    >>> layer(np.ones((5, 3, 6)), is_causal=True).shape
    (5, 3, 6)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        rng = np.random.default_rng(rng)
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, rng=rng
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype, rng)
        self.dropout = Dropout(dropout, rng)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype, rng)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout, rng)
        self.dropout2 = Dropout(dropout, rng)
        self.activation = activation_of(activation)
        self.norm_first = norm_first

    def __call__(
        self,
        src: Any,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return what becomes of a sequence, in its shape; the masks are `MultiheadAttention`'s."""
        masks = {"key_padding_mask": src_key_padding_mask, "attn_mask": src_mask}

        def attended(x: Any) -> Any:
            y, _ = self.self_attn(x, x, x, need_weights=False, is_causal=is_causal, **masks)
            return self.dropout1(y)

        def fed_forward(x: Any) -> Any:
            features = self.dropout(self.activation(self.linear1(x)))
            return self.dropout2(self.linear2(features))

        x = as_input(src, self.linear1.weight.dtype)
        if self.norm_first:
            x = x + attended(self.norm1(x))
            return x + fed_forward(self.norm2(x))
        x = self.norm1(x + attended(x))
        return self.norm2(x + fed_forward(x))


class TransformerEncoder(Module):
    """A stack of `num_layers` copies of an encoder layer, and last a `norm`, if one is given.

    The copies start with the same weights, and draw what they drop from one Generator, that of the
    given layer, which itself is not used.

    >>> layer = tg.nn.TransformerEncoderLayer(6, nhead=2, dim_feedforward=8, batch_first=True)
    >>> encoder = tg.nn.TransformerEncoder(layer, num_layers=2, norm=tg.nn.LayerNorm(6))
    >>> encoder(np.ones((5, 3, 6)), is_causal=True).shape
    (5, 3, 6)
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: Callable[[Any], Any] | None = None,
    ) -> None:
        if num_layers < 1:
            raise ValueError(f"TransformerEncoder: num_layers must be at least 1, not {num_layers}")
        # Copies of a Generator would drop the same elements in every layer.
        shared = [m.rng for m in encoder_layer.modules() if isinstance(m, Dropout)]
        self.layers = [
            copy.deepcopy(encoder_layer, {id(rng): rng for rng in shared})
            for _ in range(num_layers)
        ]
        self.norm = norm

    def __call__(
        self,
        src: Any,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return the last layer's output; every layer is called with these masks."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)
