"""Recurrent layers, which read a sequence step by step and keep a state.

The products of the input and its weight are computed for all steps at once. The rest, a loop over
the steps, is one recorded operation. Its derivative computes the gates of all steps again, at once,
and then loops back over a short linear recurrence.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike

from ..control_flow import scan
from ..data import RNG
from ..engine.batching import Batch
from ..engine.custom import differentiable
from ..engine.frames import warn
from ..engine.interpreter import Requirement
from ..engine.modes import is_traced, mode, plain
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..engine.typing import Function
from ..rules.linear_algebra import affine
from ..rules.selection import masked
from .activations import identity
from .dropout import Dropout
from .module import (
    Module,
    as_input,
    called,
    require_count,
    require_sizes,
    uniform,
    uniform_weight,
)
from .sequences import Steps

# In a compiled function, so many steps or more are a loop, not as many calls, one after another:
# that takes a tenth of the time to compile. The loop costs 15 us more in each call: 4 % of the time
# of 200 steps of the smallest network, and nothing of that of larger ones.
_LONG = 200

# -- the loops over the steps: x is (length, batch, gates * hidden), and a state (batch, hidden)


def _before(start: Any, states: Any) -> Any:
    """The state before each step, from the states after each step."""
    return np.concatenate([start[None], states[:-1]])


def _rows(a: Any) -> Any:
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _times(a: Any, matrix: Any) -> Any:
    """a @ matrix, as one product for all steps."""
    return (_rows(a) @ matrix).reshape(*a.shape[:-1], matrix.shape[-1])


def _sigmoid(x: Any) -> Any:
    return np.tanh(0.5 * x) * 0.5 + 0.5  # precise, and it never overflows or warns


def run_steps(step: Function, start: Any, xs: Any, reverse: bool = False) -> tuple[Any, list[Any]]:
    """Return the state after the last step, and what else the steps returned, stacked.

    `step(state, items)` gets an item of each of the xs; with `reverse`, the last one comes first.
    It returns a tuple: first the next state, and then more. Each step gets that tuple as its state.
    """
    size = len(start)
    if is_traced() and _is_long(start, xs):

        def body(state: Any, items: Any) -> Any:
            results = step(state, items)
            return results[:size], results[size:]

        return scan(body, start, xs, reverse=reverse)
    items = zip(*(map(reversed, xs) if reverse else xs))
    _, *results = itertools.accumulate(items, step, initial=start)
    columns = [*zip(*(results[::-1] if reverse else results))][size:]
    return results[-1][:size], [*map(_stacked, columns)]


def _stacked(arrays: Any) -> Any:
    """The same as `np.stack(arrays)`, which takes twice the time."""
    return np.concatenate(arrays).reshape(len(arrays), *arrays[0].shape)


def _is_long(start: Any, xs: Any) -> bool:
    """Whether a loop of its own pays in a compiled function."""
    return len(xs[0]) >= _LONG and Batch not in map(type, (*start, *xs))


def _rnn_back(g: Any, out: Any, _x: Any, h: Any, weight: Any, rectify: bool = False) -> Any:
    (g,), (states,) = g, out
    slope = states > 0 if rectify else 1 - states * states

    def step(state: Any, items: Any) -> Any:
        g, slope = items
        back = g + state[0]
        share = masked(back, slope) if rectify else back * slope
        return share @ weight, share

    (back,), (share,) = run_steps(step, (np.zeros_like(h),), (g, slope), reverse=True)
    return share, back, _rows(share).mT @ _rows(_before(h, states))


@differentiable(together=_rnn_back)
@shown_as("RNN")
def rnn_walk(x: Any, h: Any, weight: Any, rectify: bool = False) -> Any:
    """Return the state after each step, h = tanh(x + weight h); with `rectify`, h = relu(...)."""
    transposed = weight.mT

    def step(state: Any, items: Any) -> Any:
        h = items[0] + state[0] @ transposed
        h = np.maximum(h, 0) if rectify else np.tanh(h)
        return h, h

    return tuple(run_steps(step, (h,), (x,))[1])


def _gru_back(g: Any, out: Any, x: Any, h: Any, weight: Any, bias: Any) -> Any:
    (g,), (states,) = g, out
    before = _before(h, states)
    xr, xz, xn = np.split(x, 3, -1)
    hr, hz, hn = np.split(_times(before, weight.mT) + bias, 3, -1)
    r, z = _sigmoid(xr + hr), _sigmoid(xz + hz)
    n = np.tanh(xn + r * hn)
    new = (1 - z) * (1 - n * n)
    slopes = np.stack([new * hn * r * (1 - r), (before - n) * z * (1 - z), new * r], -2)

    def step(state: Any, items: Any) -> Any:
        g, z, slopes = items
        total = g + state[0]
        share = (total[:, None] * slopes).reshape(x.shape[1:])
        return total * z + share @ weight, total

    (back,), (total,) = run_steps(step, (np.zeros_like(h),), (g, z, slopes), reverse=True)
    share = _rows((total[:, :, None] * slopes).reshape(x.shape))
    x_share = np.concatenate([share[:, : -h.shape[1]], _rows(total * new)], -1).reshape(x.shape)
    return x_share, back, share.mT @ _rows(before), share


@differentiable(together=_gru_back)
@shown_as("GRU")
def gru_walk(x: Any, h: Any, weight: Any, bias: Any) -> Any:
    """Return the state after each step, h = (1 - z) n + z h.

    r, z = sigmoid(x + weight h + bias) and n = tanh(x + r (weight h + bias)). The last axis of `x`
    holds the inputs of r, z and n, one after another.
    """
    transposed, size = weight.mT, h.shape[1]

    def step(state: Any, items: Any) -> Any:
        h, (gates, new) = state[0], items
        hidden = h @ transposed + bias
        gates = _sigmoid(gates + hidden[:, : 2 * size])
        n = np.tanh(new + gates[:, :size] * hidden[:, 2 * size :])
        h = n + gates[:, size:] * (h - n)
        return h, h

    return tuple(run_steps(step, (h,), np.split(x, [2 * size], -1))[1])


def _lstm_back(g: Any, out: Any, x: Any, h: Any, c: Any, weight: Any) -> Any:
    (gh, gc), (states, cells) = g, out
    before_h, before_c = _before(h, states), _before(c, cells)
    i, f, n, o = np.split(x + _times(before_h, weight.mT), 4, -1)
    i, f, n, o = _sigmoid(i), _sigmoid(f), np.tanh(n), _sigmoid(o)
    y = np.tanh(cells)
    by_cell = o * (1 - y * y)
    parts = [n * i * (1 - i), before_c * f * (1 - f), i * (1 - n * n), y * o * (1 - o)]
    slopes = np.concatenate(parts, -1)

    def step(state: Any, items: Any) -> Any:
        gh, gc, by_cell, f, slopes = items
        back_h = gh + state[0]
        back_c = gc + state[1] + back_h * by_cell
        share = np.concatenate([back_c, back_c, back_c, back_h], 1) * slopes
        return share @ weight, back_c * f, share

    start, xs = (np.zeros_like(h), np.zeros_like(c)), (gh, gc, by_cell, f, slopes)
    (back_h, back_c), (share,) = run_steps(step, start, xs, reverse=True)
    return share, back_h, back_c, _rows(share).mT @ _rows(before_h)


@differentiable(together=_lstm_back)
@shown_as("LSTM")
def lstm_walk(x: Any, h: Any, c: Any, weight: Any) -> Any:
    """Return the states after each step, c = f c + i n and h = o tanh(c).

    i, f, o = sigmoid(x + weight h) and n = tanh(x + weight h). The last axis of `x` holds the
    inputs of i, f, n and o, one after another.
    """
    # One tanh computes all gates: sigmoid(x) = tanh(x / 2) / 2 + 1 / 2
    size = h.shape[1]
    slope = np.repeat(np.array([0.5, 0.5, 1, 0.5], x.dtype), size)
    shift = slope * (slope < 1)
    transposed = (weight * slope[:, None]).mT

    def step(state: Any, items: Any) -> Any:
        gates = np.tanh(items[0] + state[0] @ transposed) * slope + shift
        c = gates[:, size : 2 * size] * state[1] + gates[:, :size] * gates[:, 2 * size : 3 * size]
        h = gates[:, 3 * size :] * np.tanh(c)
        return h, c, h, c

    return tuple(run_steps(step, (h, c), (x * slope,))[1])


# -- base classes of cells and layers


def _projected(x: Any, weight: Any, bias: Any) -> Any:
    """x @ weight.T + bias, as one product for all steps."""
    return affine(_rows(x), weight, bias).reshape(*x.shape[:-1], len(weight))


_OPTIONS = "num_layers", "nonlinearity", "bias", "batch_first", "dropout", "bidirectional"


class _Recurrent(Module):
    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        require_sizes(type(self).__name__, input_size, hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias

    def walk(
        self, x: Any, start: Any, steps: Any, w_ih: Any, w_hh: Any, b_ih: Any = 0, b_hh: Any = 0
    ) -> Any:
        """Return the states after each step of `x`, whose shape is (length, batch, features).

        Where `steps` says that a sequence has ended, states are not used.
        """
        raise NotImplementedError

    def _names(self, suffix: str) -> list[str]:
        names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
        return [name + suffix for name in names[: 4 if self.bias else 2]]

    def _weights(self, suffix: str) -> list[Tensor]:
        names = self._names(suffix)
        # A compiled function notices by itself only names in the code.
        mode.get().interpreter.guard(self, *names)
        return [getattr(self, name) for name in names]

    def _add_weights(
        self, suffix: str, input_size: int, dtype: DTypeLike, rng: np.random.Generator
    ) -> None:
        rows, bound = self.gates * self.hidden_size, self.hidden_size**-0.5
        shapes = [(rows, input_size), (rows, self.hidden_size), (rows,), (rows,)]
        makers = [uniform_weight, uniform, uniform, uniform]
        for name, shape, make in zip(self._names(suffix), shapes, makers):
            setattr(self, name, make(rng, bound, shape, dtype))

    def _start(self, hx: Any, shape: tuple[int, ...], dtype: DTypeLike) -> list[Any]:
        """The initial states, `hx` or zeros, each of this shape."""
        if hx is None:
            return [np.zeros(shape, dtype)] * self.states
        start = [as_input(h, dtype) for h in (hx if self.states > 1 else [hx])]
        if [h.shape for h in start] != [shape] * self.states:
            wanted = "a pair (h, c), each of" if self.states > 1 else "of"
            raise ValueError(
                f"{self}: initial states of shapes {[h.shape for h in start]}; with this input "
                f"the state must be {wanted} shape {shape}"
            )
        return start

    def __repr__(self) -> str:
        options = {name: getattr(self, name) for name in _OPTIONS if hasattr(self, name)}
        if "dropout" in options:
            options["dropout"] = options["dropout"].p
        return called(self, self.input_size, self.hidden_size, **options)


class _Cell(_Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        self._add_weights("", input_size, dtype, np.random.default_rng(rng))

    def __call__(self, x: Any, hx: Any = None) -> Any:
        """Return the state after one step; the state before it is `hx`, by default zero."""
        weights = self._weights("")
        x = as_input(x, weights[0].dtype)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{self}: an input of shape {x.shape}; pass one step, of shape "
                f"(batch, {self.input_size}) or ({self.input_size},)"
            )
        shape = (*x.shape[:-1], self.hidden_size)
        start = [h.reshape(-1, self.hidden_size) for h in self._start(hx, shape, weights[0].dtype)]
        ends = self.walk(x.reshape(1, -1, self.input_size), start, None, *weights)
        ends = tuple([states.reshape(shape) for states in ends])
        return ends if self.states > 1 else ends[0]


class _Layers(_Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        require_count(type(self).__name__, "num_layers", num_layers)
        rng = np.random.default_rng(rng)
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.bidirectional = bidirectional
        self.dropout = Dropout(dropout, rng=rng)
        if dropout and num_layers == 1:
            warn(
                f"{type(self).__name__}: dropout={dropout} acts between layers, but there is only "
                "one layer: pass num_layers=2 or more, or add a Dropout after it"
            )
        directions = ["", "_reverse"] if bidirectional else [""]
        self._suffixes = [[f"_l{i}{way}" for way in directions] for i in range(num_layers)]
        for suffixes in self._suffixes:
            for suffix in suffixes:
                self._add_weights(suffix, input_size, dtype, rng)
            input_size = hidden_size * len(directions)

    def __call__(self, x: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        """Return the last layer's outputs at all steps, and the last states of all layers.

        `hx` holds the states before the first step, by default zeros. `lengths` has the number of
        steps of each sequence of a batch: what comes after them is not read, the outputs there are
        0, the last states are those after the last step of each, and the backward direction starts
        there.
        """
        weight = self._weights("_l0")[0]
        x = self._checked(as_input(x, weight.dtype))
        single = x.ndim == 2
        if single:
            x = x[:, None]
        elif self.batch_first:
            x = np.swapaxes(x, 0, 1)
        if not len(x):
            raise ValueError(f"{self}: a sequence of length 0; it must have at least one step")
        count, batch = sum(map(len, self._suffixes)), x.shape[1]
        shape = (count, self.hidden_size) if single else (count, batch, self.hidden_size)
        start = self._start(hx, shape, weight.dtype)
        steps = None if lengths is None else self._steps(lengths, x, single)
        x, ends = self._run(x, [h.reshape(count, batch, self.hidden_size) for h in start], steps)
        last = tuple([np.stack(states).reshape(shape) for states in zip(*ends)])
        if single:
            x = x[:, 0]
        elif self.batch_first:
            x = np.swapaxes(x, 0, 1)
        return x, last if self.states > 1 else last[0]

    def _checked(self, x: Any) -> Any:
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            axes = "batch, length" if self.batch_first else "length, batch"
            raise ValueError(
                f"{self}: an input of shape {x.shape}; pass a batch of sequences, of shape "
                f"({axes}, {self.input_size}), or one, of shape (length, {self.input_size})"
            )
        return x

    def _steps(self, lengths: Any, x: Any, single: bool) -> Steps:
        """What the lengths of the sequences say; raises ValueError for wrong ones."""
        lengths, (length, batch, _) = as_input(plain(lengths)), x.shape
        if single or lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
            raise ValueError(
                f"{self}: lengths of shape {lengths.shape} and dtype {lengths.dtype}; they must be "
                f"integers of shape ({batch},), one for each sequence of a batch"
            )

        def check(lengths: Any) -> None:
            if lengths.size and not (lengths.min() >= 1 and lengths.max() <= length):
                raise ValueError(
                    f"{self}: lengths from {lengths.min()} to {lengths.max()}; they must be from "
                    f"1 to {length}, the length of the input"
                )

        requirement = Requirement(check, lambda n: (n >= 1) & (n <= length))
        mode.get().interpreter.effect(requirement, lengths)
        return Steps(length, lengths)

    def _run(self, x: Any, start: list[Any], steps: Steps | None) -> tuple[Any, list[list[Any]]]:
        """Run all layers on (length, batch, features); return the outputs and the last states."""
        ends: list[list[Any]] = []
        cut = identity if steps is None else steps.cut
        x = cut(x)
        for i, suffixes in enumerate(self._suffixes):
            x = self.dropout(x) if i else x
            outputs = []
            for suffix in suffixes:
                flipped = _flipped if steps is None else steps.flipped
                ordered = flipped if suffix.endswith("_reverse") else identity
                before = [h[len(ends)] for h in start]
                states = self.walk(ordered(x), before, steps, *self._weights(suffix))
                ends.append([s[-1] if steps is None else steps.last(s) for s in states])
                outputs.append(ordered(states[0]))
            x = cut(np.concatenate(outputs, -1) if len(outputs) > 1 else outputs[0])
        return x, ends


def _flipped(x: Any) -> Any:
    return np.flip(x, 0)


# -- the three kinds


class _RNN(_Recurrent):
    gates = 1
    nonlinearity: str

    def walk(
        self, x: Any, start: Any, steps: Any, w_ih: Any, w_hh: Any, b_ih: Any = 0, b_hh: Any = 0
    ) -> Any:
        (h,), rectify = start, self.nonlinearity == "relu"
        x = _projected(x, w_ih, b_ih + b_hh)
        if rectify and steps is not None:  # over the padding, states might grow without bound
            x = steps.cut(x, -np.inf)
        return rnn_walk(x, h, w_hh, rectify)


def _check_nonlinearity(name: str, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f'{name}: nonlinearity must be "tanh" or "relu", not {nonlinearity!r}')


class _GRU(_Recurrent):
    gates = 3

    def walk(
        self, x: Any, start: Any, _steps: Any, w_ih: Any, w_hh: Any, b_ih: Any = 0, b_hh: Any = 0
    ) -> Any:
        (h,) = start
        return gru_walk(_projected(x, w_ih, b_ih), h, w_hh, b_hh)


class _LSTM(_Recurrent):
    gates = 4
    states = 2

    def walk(
        self, x: Any, start: Any, _steps: Any, w_ih: Any, w_hh: Any, b_ih: Any = 0, b_hh: Any = 0
    ) -> Any:
        h, c = start
        return lstm_walk(_projected(x, w_ih, b_ih + b_hh), h, c, w_hh)


class RNNCell(_RNN, _Cell):
    """One step of a recurrent network: h = tanh(weight_ih x + bias_ih + weight_hh h + bias_hh).

    With `nonlinearity="relu"`, relu replaces tanh. An input is (batch, input_size) or
    (input_size,), and the state is (batch, hidden_size) or (hidden_size,). `weight_ih` has shape
    (hidden_size, input_size), `weight_hh` (hidden_size, hidden_size), and the biases
    (hidden_size,). All start uniform in +-1/sqrt(hidden_size). Without `bias`, there are only the
    weights. `rng` is a NumPy Generator or a seed.

    >>> cell = tg.nn.RNNCell(3, 4)
    >>> h = cell(np.ones((2, 3)))
    >>> cell(np.ones((2, 3)), h).shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        _check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype, rng)
        self.nonlinearity = nonlinearity


class GRUCell(_GRU, _Cell):
    """One step of a gated recurrent unit: h = (1 - z) n + z h.

    r = sigmoid(x_r + h_r), z = sigmoid(x_z + h_z) and n = tanh(x_n + r h_n), where x_r, x_z, x_n
    are the thirds of weight_ih x + bias_ih, and h_r, h_z, h_n the thirds of weight_hh h + bias_hh.
    Cho and others, Learning Phrase Representations using RNN Encoder-Decoder, 2014. All else is as
    in `RNNCell`, with three times as many rows in each weight.

    >>> cell = tg.nn.GRUCell(3, 4)
    >>> h = cell(np.ones((2, 3)))
    >>> cell(np.ones((2, 3)), h).shape
    (2, 4)
    """


class LSTMCell(_LSTM, _Cell):
    """One step of a long short-term memory: h = o tanh(c), where c = f c + i n.

    The quarters of weight_ih x + bias_ih + weight_hh h + bias_hh are the inputs of the gates i, f,
    n and o: n is their tanh, and i, f and o are their sigmoid. The state is a pair (h, c).
    Hochreiter and Schmidhuber, Long Short-Term Memory, 1997. All else is as in `RNNCell`, with four
    times as many rows in each weight.

    >>> cell = tg.nn.LSTMCell(3, 4)
    >>> h, c = cell(np.ones((2, 3)))
    >>> h, c = cell(np.ones((2, 3)), (h, c))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """


class RNN(_RNN, _Layers):
    """A recurrent network: layers of an `RNNCell`, each of which reads the outputs of the last.

    An input is (length, batch, input_size), with `batch_first` (batch, length, input_size), or
    (length, input_size) for one sequence. The result is a pair. The first part is the outputs of
    the last layer at all steps, in the layout of the input, with hidden_size features. The second
    part is the states after the last step, which the next call takes as `hx` to continue: shape
    (num_layers, batch, hidden_size), or (num_layers, hidden_size) for one sequence.

    With `bidirectional`, each layer has a second set of weights, which reads the sequence
    backwards. There are twice as many features, first those of the forward direction, and twice as
    many states: layer 0 forward, layer 0 backward, layer 1 forward, and so on.

    In training, elements of the outputs between layers are dropped with probability `dropout`; a
    single layer gives a UserWarning, because nothing is dropped. Names of weights end in the number
    of the layer, as in `weight_ih_l0`, and backwards in `_reverse`. All weights start uniform in
    +-1/sqrt(hidden_size). `rng` is a NumPy Generator or a seed.

    Sequences of several lengths are padded to one length, and `lengths` says how long each is; see
    `pad_sequence`. In PyTorch, that is `pack_padded_sequence` and `pad_packed_sequence`.

    >>> net = tg.nn.RNN(3, 4, num_layers=2, bidirectional=True)
    >>> output, h = net(np.ones((7, 5, 3)), lengths=[7, 2, 4, 4, 1])
    >>> output.shape, h.shape, bool(np.any(output[1:, 4]))
    ((7, 5, 8), (4, 5, 4), False)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float64,
        rng: RNG = None,
    ) -> None:
        _check_nonlinearity("RNN", nonlinearity)
        layers = num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(input_size, hidden_size, *layers, dtype, rng)
        self.nonlinearity = nonlinearity


class GRU(_GRU, _Layers):
    """A network of gated recurrent units: an `RNN` with the steps of a `GRUCell`.

    >>> net = tg.nn.GRU(3, 4, batch_first=True)
    >>> output, h = net(np.ones((5, 7, 3)))
    >>> output.shape, h.shape
    ((5, 7, 4), (1, 5, 4))
    """


class LSTM(_LSTM, _Layers):
    """A network of long short-term memories: an `RNN` with the steps of an `LSTMCell`.

    The states are a pair (h, c). Each has the shape of the states of an `RNN`.

    >>> net = tg.nn.LSTM(3, 4)
    >>> output, (h, c) = net(np.ones((7, 5, 3)))
    >>> output.shape, h.shape, c.shape
    ((7, 5, 4), (1, 5, 4), (1, 5, 4))
    """
