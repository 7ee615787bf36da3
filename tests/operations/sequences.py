"""Recurrent networks' walks through time, and attention."""

import numpy as np

from tensorgrad import nn
from tensorgrad.nn.recurrent import gru_walk, lstm_walk, rnn_walk

from .row import *

ROWS = [
    Op("rnn_walk", lambda x, h, w: rnn_walk(x, h, w)[0], reals, reals, reals, shapes=[((3, 2, 2), (2, 2), (2, 2)), ((1, 0, 1), (0, 1), (1, 1))]),
    Op("rnn_walk relu", lambda x, h, w: rnn_walk(x, h, w, True)[0], fractions, divisors, divisors, shapes=[((1, 2, 2), (2, 2), (2, 2))], analytic=False),
    Op("gru_walk", lambda x, h, w, b: gru_walk(x, h, w, b)[0], reals, reals, reals, reals, shapes=[((2, 2, 6), (2, 2), (6, 2), (6,)), ((1, 0, 3), (0, 1), (3, 1), (3,))]),
    Op("gru_walk no bias", lambda x, h, w: gru_walk(x, h, w, 0)[0], reals, reals, reals, shapes=[((2, 1, 3), (1, 1), (3, 1))]),
    Op("lstm_walk", lambda x, h, c, w: np.concatenate([*lstm_walk(x, h, c, w)]), reals, reals, reals, reals, shapes=[((2, 2, 4), (2, 1), (2, 1), (4, 1)), ((1, 0, 4), (0, 1), (0, 1), (4, 1))]),
    Op("lstm_walk outputs", lambda x, w: lstm_walk(x, np.zeros((1, 2), x.dtype), np.zeros((1, 2), x.dtype), w)[0], reals, reals, shapes=[((3, 1, 8), (8, 2))]),
    Op("scaled_dot_product_attention", nn.scaled_dot_product_attention, reals, reals, reals, shapes=[((2, 2), (3, 2), (3, 1)), ((2, 1, 2), (1, 2, 2), (2, 2)), ((0, 2), (1, 2), (1, 2))], analytic=False),
    Op("scaled_dot_product_attention masks", lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, [[True, False, True], [False, True, True]], scale=2.0), reals, reals, reals, shapes=[((2, 2), (3, 2), (3, 1))], analytic=False),
    Op("scaled_dot_product_attention causal", lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, is_causal=True), reals, reals, reals, shapes=[((2, 2), (3, 2), (3, 1))], analytic=False),
    Op("scaled_dot_product_attention grouped", lambda q, k: nn.scaled_dot_product_attention(q, k, k, enable_gqa=True), reals, reals, shapes=[((4, 2, 1), (2, 2, 1))], analytic=False),
    Op("scaled_dot_product_attention by a mask", lambda q, m: nn.scaled_dot_product_attention(q, q, q, m), reals, reals, shapes=[((3, 2), (3, 3)), ((2, 1, 2), (1, 1))], analytic=False),
    Op("ctc_loss", lambda x: nn.ctc_loss(nn.log_softmax(x), [1, 2], 3, 2), reals, shapes=[(3, 3)], analytic=False),
    Op("ctc_loss of a batch", lambda x: nn.ctc_loss(nn.log_softmax(x), [[1, 1], [2, 0]], [4, 2], [2, 1], reduction="none"), reals, shapes=[(4, 2, 3)], analytic=False),
]  # fmt: skip
