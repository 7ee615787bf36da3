"""Recurrent layers: networks that read a sequence step by step and remember.

The product with the input is taken for all steps at once, and what remains, the walk through time,
is one recorded operation. Its derivative computes the gates again, for all steps at once, so that
only a short linear recurrence is left to walk back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from ..rules.linear_algebra import affine
from ..rules.selection import masked
from ..tensor import Tensor, differentiable
from .layers import RNG, Dropout, as_input
from .module import Module

# -- the walk through time: x is (length, batch, gates * hidden), and a state (batch, hidden)


class _Walk(tuple[Any, ...]):
    """The states after each step, one array (length, batch, hidden) per kind of state.

    All arguments share the walk back; the cotangents of the one taken last are remembered here.
    """

    back: tuple[Any, Any] = (None, None)


def _share(walk_back: Callable[..., Any], i: int) -> Callable[..., Any]:
    """The vjp that takes the i-th result of `walk_back`, which is called once for all of them."""

    @functools.wraps(walk_back)
    def vjp(g: Any, out: Any, *args: Any) -> Any:
        if out.back[0] is not g:
            out.back = g, walk_back(g, out, *args)
        return out.back[1][i]

    return vjp


def _before(start: Any, states: Any) -> Any:
    """The states before each step, of those after each."""
    return np.concatenate([start[None], states[:-1]])


def _rows(a: Any) -> Any:
    return a.reshape(-1, a.shape[-1])


def _times(a: Any, weight: Any) -> Any:
    """The product of stacked rows with a matrix, as one product of matrices."""
    return (_rows(a) @ weight).reshape(*a.shape[:-1], weight.shape[-1])


def _sigmoid(x: Any) -> Any:
    return np.tanh(x * 0.5) * 0.5 + 0.5


def _rnn_back(g: Any, out: Any, _x: Any, h: Any, weight: Any, rectify: bool) -> Any:
    (g,), (states,) = g, out
    slope = states > 0 if rectify else 1 - states * states
    shares: list[Any] = []
    back: Any = np.zeros_like(h)
    for t in reversed(range(len(g))):
        total = g[t] + back
        shares.append(masked(total, slope[t]) if rectify else total * slope[t])
        back = shares[-1] @ weight
    x_share = np.stack(shares[::-1])
    return x_share, back, _rows(x_share).mT @ _rows(_before(h, states))


@differentiable(*[_share(_rnn_back, i) for i in range(3)])
def rnn_walk(x: Any, h: Any, weight: Any, rectify: bool) -> Any:
    """Return the states h = tanh(x + weight h), or with `rectify` max(x + weight h, 0)."""
    transposed, states = weight.mT, []
    for step in x:
        h = step + h @ transposed
        h = np.maximum(h, 0) if rectify else np.tanh(h)
        states.append(h)
    return _Walk([np.stack(states)])


def _gru_back(g: Any, out: Any, x: Any, h: Any, weight: Any, bias: Any) -> Any:
    (g,), (states,) = g, out
    before = _before(h, states)
    hidden = _times(before, weight.mT) + bias
    (xr, xz, xn), (hr, hz, hn) = np.split(x, 3, -1), np.split(hidden, 3, -1)
    r, z = _sigmoid(xr + hr), _sigmoid(xz + hz)
    n = np.tanh(xn + r * hn)
    by_n = (1 - z) * (1 - n * n)
    by_r, by_z = by_n * hn * r * (1 - r), (before - n) * z * (1 - z)
    by_hidden = np.stack([by_r, by_z, by_n * r], 2)
    shares: list[Any] = []
    back: Any = np.zeros_like(h)
    for t in reversed(range(len(g))):
        total = (g[t] + back)[:, None]
        shares.append((total * by_hidden[t]).reshape(x.shape[1:]))
        back = total[:, 0] * z[t] + shares[-1] @ weight
        ...
