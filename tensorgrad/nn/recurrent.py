"""Recurrent layers, which read a sequence step by step and remember.

The input's products are taken for all steps at once. What remains, the walk through time, is one
recorded operation: its derivative computes the gates again, for all steps at once, and walks back
through a short linear recurrence.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..rules.linear_algebra import affine
from ..rules.selection import masked
from ..tensor import Tensor, differentiable
from .module import Module

# -- the walk through time: x is (length, batch, gates * hidden), and a state (batch, hidden)


class _States(tuple[Any, ...]):
    """The states after each step, (length, batch, hidden), and the last walk back from them."""

    walked: tuple[Any, Any] = (None, None)


def _shares(walk_back: Callable[..., Any], count: int) -> list[Callable[..., Any]]:
    """One vjp for each of the results of `walk_back`, which is called once for all of them."""

    def vjp(i: int) -> Callable[..., Any]:
        @functools.wraps(walk_back)
        def share(g: Any, out: Any, *args: Any) -> Any:
            if out.walked[0] is not g:
                out.walked = g, walk_back(g, out, *args)
            return out.walked[1][i]

        return share

    return [vjp(i) for i in range(count)]


def _before(start: Any, states: Any) -> Any:
    """The states before each step, from those after."""
    return np.concatenate([start[None], states[:-1]])


def _rows(a: Any) -> Any:
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _times(a: Any, matrix: Any) -> Any:
    """The matrix product, of all steps as one."""
    return (_rows(a) @ matrix).reshape(*a.shape[:-1], matrix.shape[-1])


def _sigmoid(x: Any) -> Any:
    return np.tanh(0.5 * x) * 0.5 + 0.5  # exact to rounding, and neither overflows nor warns


def _rnn_back(g: Any, out: Any, _x: Any, h: Any, weight: Any, rectify: bool) -> Any:
    (g,), (states,) = g, out
    slope = None if rectify else 1 - states * states
    back: Any = np.zeros_like(h)
    shares: list[Any] = []
    for t in reversed(range(len(states))):
        back = g[t] + back
        shares.append(masked(back, states[t] > 0) if slope is None else back * slope[t])
        back = shares[-1] @ weight
    share = np.stack(shares[::-1])
    return share, back, _rows(share).mT @ _rows(_before(h, states))


@differentiable(*_shares(_rnn_back, 3))
def rnn_walk(x: Any, h: Any, weight: Any, rectify: bool = False) -> Any:
    """Return the states after each step, of h = tanh(x + weight h) or, to `rectify`, relu."""
    transposed, states = weight.mT, []
    for step in x:
        h = step + h @ transposed
        h = np.maximum(h, 0) if rectify else np.tanh(h)
        states.append(h)
    return _States([np.stack(states)])


def _gru_back(g: Any, out: Any, x: Any, h: Any, weight: Any, bias: Any) -> Any:
    (g,), (states,) = g, out
    before = _before(h, states)
    xr, xz, xn = np.split(x, 3, -1)
    hr, hz, hn = np.split(_times(before, weight.mT) + bias, 3, -1)
    r, z = _sigmoid(xr + hr), _sigmoid(xz + hz)
    n = np.tanh(xn + r * hn)
    new = (1 - z) * (1 - n * n)
    slopes = np.stack([new * hn * r * (1 - r), (before - n) * z * (1 - z), new * r], -2)
    back: Any = np.zeros_like(h)
    totals: list[Any] = []
    for t in reversed(range(len(states))):
        back = g[t] + back
        totals.append(back)
        back = back * z[t] + (back[:, None] * slopes[t]).reshape(x.shape[1:]) @ weight
    total = np.stack(totals[::-1])
    share = _rows((total[:, :, None] * slopes).reshape(x.shape))
    x_share = np.concatenate([share[:, : -h.shape[1]], _rows(total * new)], -1).reshape(x.shape)
    return x_share, back, share.mT @ _rows(before), share


@differentiable(*_shares(_gru_back, 4))
def gru_walk(x: Any, h: Any, weight: Any, bias: Any) -> Any:
    """Return the states after each step, of h = (1 - z) n + z h.

    The gates r, z = sigmoid(x + weight h + bias) and n = tanh(x + r (weight h + bias)) lie one
    after the other on the last axis of `x`.
    """
    transposed, size, states = weight.mT, h.shape[1], []
    for gates, new in zip(*np.split(x, [2 * size], -1)):
        hidden = h @ transposed + bias
        gates = _sigmoid(gates + hidden[:, : 2 * size])
        n = np.tanh(new + gates[:, :size] * hidden[:, 2 * size :])
        h = n + gates[:, size:] * (h - n)
        states.append(h)
    return _States([np.stack(states)])


def _lstm_back(g: Any, out: Any, x: Any, h: Any, c: Any, weight: Any) -> Any:
    (gh, gc), (states, cells) = g, out
    before_h, before_c = _before(h, states), _before(c, cells)
    i, f, n, o = np.split(x + _times(before_h, weight.mT), 4, -1)
    i, f, n, o = _sigmoid(i), _sigmoid(f), np.tanh(n), _sigmoid(o)
    y = np.tanh(cells)
    by_cell = o * (1 - y * y)
    parts = [n * i * (1 - i), before_c * f * (1 - f), i * (1 - n * n), y * o * (1 - o)]
    slopes = np.concatenate(parts, -1)
    back_h: Any = np.zeros_like(h)
    back_c: Any = np.zeros_like(c)
    shares: list[Any] = []
    for t in reversed(range(len(states))):
        back_h = gh[t] + back_h
        back_c = gc[t] + back_c + back_h * by_cell[t]
        shares.append(np.concatenate([back_c, back_c, back_c, back_h], 1) * slopes[t])
        back_h, back_c = shares[-1] @ weight, back_c * f[t]
    share = np.stack(shares[::-1])
    return share, back_h, back_c, _rows(share).mT @ _rows(before_h)


@differentiable(*_shares(_lstm_back, 4))
def lstm_walk(x: Any, h: Any, c: Any, weight: Any) -> Any:
    """Return the states after each step, of h = o tanh(c) and c = f c + i n.

    The gates i, f, n, o lie one after the other on the last axis of `x`: the sigmoid of
    x + weight h, but for n, its tanh.
    """
    # All gates by one tanh: sigmoid(x) = tanh(x / 2) / 2 + 1 / 2
    slope = np.repeat(np.array([0.5, 0.5, 1, 0.5], x.dtype), h.shape[1])
    shift = slope * (slope < 1)
    transposed, states, cells = (weight * slope[:, None]).mT, [], []
    for step in x * slope:
        i, f, n, o = np.split(np.tanh(step + h @ transposed) * slope + shift, 4, -1)
        c = f * c + i * n
        h = o * np.tanh(c)
        states.append(h)
        cells.append(c)
    return _States([np.stack(states), np.stack(cells)])


# -- the kinds of cells: how many gates and states they have, and how they walk


def _projected(x: Any, weight: Any, bias: Any) -> Any:
    rows = affine(_rows(x), weight, bias)  # of three axes, numpy.inner takes ten times as long
    return rows.reshape(*x.shape[:-1], len(weight))


class _Kind(Module):
    """What cells and layers share: sizes, weights, and the checks of input and state."""

    gates: int
    states: int = 1
    input_size: int
    hidden_size: int
    bias: bool

    def _walk(self, x: Any, states: Any, w_ih: Any, w_hh: Any, b_ih: Any = 0, b_hh: Any = 0) -> Any:
        """The states after each step of `x`, (length, batch, input_size)."""
        raise NotImplementedError

    def _add_weights(self, suffix: str, inputs: int, dtype: DTypeLike, rng: Any) -> None:
        """Make the weights, uniform in +-1/sqrt(hidden_size)."""
        rows, bound = self.gates * self.hidden_size, self.hidden_size**-0.5
        shapes = [(rows, inputs), (rows, self.hidden_size), (rows,), (rows,)]
        for name, shape in zip(self._names(suffix), shapes):
            start = rng.uniform(-bound, bound, shape)
            setattr(self, name, Tensor(start, dtype, requires_grad=True))

    def _names(self, suffix: str) -> list[str]:
        names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
        return [name + suffix for name in names[: 4 if self.bias else 2]]

    def _weights(self, suffix: str) -> list[Tensor]:
        return [getattr(self, name) for name in self._names(suffix)]

