"""The Transformer: layers of attention, stacked to encoders and decoders of sequences.

Vaswani and others, Attention Is All You Need, 2017.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..data import RNG
from ..engine.tensor import Tensor
from .activations import Activation, activation_of
from .attention import MultiheadAttention
from .dropout import Dropout
from .init import xavier_uniform_
from .layers import Linear
from .module import Module, as_input, require_count
from .normalization import LayerNorm


class _Layer(Module):
    """What layers of encoders and decoders share: each part adds its result to its input."""

    linear1: Linear
    linear2: Linear
    dropout: Dropout
    norm_first: bool
    activation: Activation

    def _fed_forward(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _added(self, x: Any, part: Callable[[Any], Any], norm: LayerNorm, drop: Dropout) -> Any:
        """The sum of `x` and what a part makes of it, with the norm before or after that."""
        return x + drop(part(norm(x))) if self.norm_first else norm(x + drop(part(x)))


class TransformerEncoderLayer(_Layer):
    """Self-attention, then two linear layers; the result of each part is added to its input.

    `d_model` features are shared by `nhead` heads. The two linear layers have `dim_feedforward`
    features between them, and there the `activation`, a name in `ACTIVATIONS` or any function. A
    `LayerNorm` with `layer_norm_eps` normalizes each sum or, with `norm_first`, the input of each
    part. In training, elements of the attention weights, of the features between the linear layers
    and of the results that are added are dropped with probability `dropout`. `rng` is a NumPy
    Generator, which draws the weights and which all dropouts share, or a seed.

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
        """Return the encoded sequence, in its shape; the masks are `MultiheadAttention`'s."""
        masks = src_key_padding_mask, False, src_mask, True, is_causal
        x = as_input(src, self.linear1.weight.dtype)
        x = self._added(x, lambda x: self.self_attn(x, x, x, *masks)[0], self.norm1, self.dropout1)
        return self._added(x, self._fed_forward, self.norm2, self.dropout2)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the output of an encoder, then two linear layers.

    The arguments are those of `TransformerEncoderLayer`.

    >>> layer = tg.nn.TransformerDecoderLayer(6, nhead=2, dim_feedforward=8, batch_first=True)
    >>> layer(np.ones((5, 3, 6)), np.ones((5, 4, 6)), tgt_is_causal=True).shape
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
        self.self_attn, self.multihead_attn = [
            MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, rng=rng
            )
            for _ in range(2)
        ]
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype, rng)
        self.dropout = Dropout(dropout, rng)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype, rng)
        self.norm1, self.norm2, self.norm3 = [
            LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype) for _ in range(3)
        ]
        self.dropout1, self.dropout2, self.dropout3 = [Dropout(dropout, rng) for _ in range(3)]
        self.activation = activation_of(activation)
        self.norm_first = norm_first

    def __call__(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return the decoded sequence, in the shape of `tgt`; `memory` is the encoder's output.

        The masks are `MultiheadAttention`'s: those of `tgt` are for the self-attention, those of
        `memory` for the attention to it.
        """
        own = tgt_key_padding_mask, False, tgt_mask, True, tgt_is_causal
        other = memory_key_padding_mask, False, memory_mask, True, memory_is_causal

        def to_memory(x: Any) -> Any:
            return self.multihead_attn(x, memory, memory, *other)[0]

        x = as_input(tgt, self.linear1.weight.dtype)
        x = self._added(x, lambda x: self.self_attn(x, x, x, *own)[0], self.norm1, self.dropout1)
        x = self._added(x, to_memory, self.norm2, self.dropout2)
        return self._added(x, self._fed_forward, self.norm3, self.dropout3)


# -- stacks of layers


def _copies(layer: Any, kind: type[_Layer], count: int, name: str) -> list[Any]:
    """Copies of a layer, whose dropouts share its Generator: their own would drop the same."""
    if not isinstance(layer, kind):
        raise TypeError(f"{name}: needs a {kind.__name__}, not a {type(layer).__name__}")
    require_count(name, "num_layers", count)
    shared = [m.rng for m in layer.modules() if isinstance(m, Dropout)]
    return [copy.deepcopy(layer, {id(rng): rng for rng in shared}) for _ in range(count)]


class TransformerEncoder(Module):
    """A stack of `num_layers` copies of an encoder layer, followed by `norm` unless it is None.

    The copies start with the weights of `encoder_layer`, and their dropouts share its Generator.
    `encoder_layer` itself is not part of the stack.

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
        self.layers = _copies(
            encoder_layer, TransformerEncoderLayer, num_layers, "TransformerEncoder"
        )
        self.norm = norm

    def __call__(
        self,
        src: Any,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return the last layer's output; all layers take the same masks."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """A stack of `num_layers` copies of a decoder layer: as `TransformerEncoder`.

    >>> layer = tg.nn.TransformerDecoderLayer(6, nhead=2, dim_feedforward=8, batch_first=True)
    >>> decoder = tg.nn.TransformerDecoder(layer, num_layers=2)
    >>> decoder(np.ones((5, 3, 6)), np.ones((5, 4, 6)), tgt_is_causal=True).shape
    (5, 3, 6)
    """

    def __init__(
        self,
        decoder_layer: TransformerDecoderLayer,
        num_layers: int,
        norm: Callable[[Any], Any] | None = None,
    ) -> None:
        self.layers = _copies(
            decoder_layer, TransformerDecoderLayer, num_layers, "TransformerDecoder"
        )
        self.norm = norm

    def __call__(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return the last layer's output; all layers take the same memory and the same masks."""
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        for layer in self.layers:
            tgt = layer(tgt, memory, *masks, tgt_is_causal, memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder of one sequence, and a decoder of another one that attends to its output.

    Both end in a `LayerNorm`. `custom_encoder` and `custom_decoder` are modules to take in their
    place. Matrices start uniform with Glorot's bound, as `tg.nn.init.xavier_uniform_` draws them.
    The other arguments are those of `TransformerEncoderLayer`.

    >>> net = tg.nn.Transformer(6, 2, 1, 1, dim_feedforward=8, batch_first=True)
    >>> net(np.ones((5, 4, 6)), np.ones((5, 3, 6)), tgt_is_causal=True).shape
    (5, 3, 6)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        rng = np.random.default_rng(rng)
        arguments: Any = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps)
        arguments = (*arguments, batch_first, norm_first, bias, dtype, rng)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*arguments), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*arguments), num_decoder_layers, norm()
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                xavier_uniform_(parameter, generator=rng)

    def __call__(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool = False,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return the decoded sequence, in the shape of `tgt`; the masks are the parts'."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        return self.decoder(tgt, memory, *masks, tgt_is_causal, memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(size: int, dtype: DTypeLike = np.float32) -> Any:
        """Return the mask with which step i attends to steps 0 to i: -inf for the others, and 0.

        In float32, which holds both exactly, it changes the dtype of neither float32 nor float64.

        >>> tg.nn.Transformer.generate_square_subsequent_mask(2)
        array([[  0., -inf],
               [  0.,   0.]], dtype=float32)
        """
        return np.triu(np.full((size, size), -np.inf, dtype), 1)
