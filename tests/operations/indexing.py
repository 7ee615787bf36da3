"""Reading and writing by index."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

import tensorgrad as tg

from .row import *

S = np.s_
MASK = np.array([[True, False, True], [False, False, True]])


def at(*index: Any) -> Callable[[Any], Any]:
    """The function `x -> x[index]`."""
    return operator.itemgetter(index[0] if len(index) == 1 else index)


def put(*index: Any) -> Callable[[Any, Any], Any]:
    """The function `x, value -> x`, after `x[index] = value`."""

    def assigned(x: Any, value: Any) -> Any:
        x = own(x, value)
        x[index[0] if len(index) == 1 else index] = value
        return x

    return assigned


def by(fun: Callable[..., Any], arguments: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """The function `x, y -> x`, after `fun(x, *arguments(y))`."""

    def written(x: Any, y: Any) -> Any:
        x = own(x, y)
        x = x * 1 if isinstance(x, tg.Tensor) else x  # a leaf cannot be written to
        fun(x, *arguments(y))
        return x

    return written


def put_into_zeros(y: Any) -> Any:
    """Zeros of a tensor's kind, with `y` written into them."""
    x = own(np.zeros((2, 3), y.dtype), y)
    np.copyto(x, y)
    return x


def _twice(x: Any, y: Any) -> Any:
    y = x * y
    y[0] = y[1] * x[0]
    y[1:] += y[0]
    return y


ROWS = [
    # reading by index
    Op("x[1]", at(1), reals, shapes=[(3,), (2, 3), (2, 0)]),
    Op("x[-1, 0]", at(-1, 0), reals, shapes=[*MATRICES, *CUBES]),
    Op("x[()]", at(()), reals),
    Op("x[...]", at(...), reals),
    Op("x[None]", at(None), reals),
    Op("x[..., None, 0]", at(..., None, 0), reals, shapes=[*VECTORS, *MATRICES, *CUBES]),
    Op("x[1:]", at(S[1:]), reals, shapes=[(3,), (1,), (2, 3), (0,)]),
    Op("x[::-1]", at(S[::-1]), reals, shapes=[(3,), (2, 3), (0,)]),
    Op("x[::-2, 1:]", at(S[::-2, 1:]), reals, shapes=[(2, 3), (5, 2)]),
    Op("x[:, None, ::2]", at(S[:, None, ::2]), reals, shapes=MATRICES),
    Op("x[2:0]", at(S[2:0]), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[numpy integer]", at(np.int32(-1)), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[0-d array]", at(np.array(0)), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[[0, 0, -1]]", at([0, 0, -1]), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[[]]", at([]), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[array of repeats]", at(np.array([[0, 1], [1, 1]])), reals, shapes=[(3,), (2, 3)]),
    Op("x[(0, 0), 1]", at((0, 0), 1), reals, shapes=[(2, 3)]),
    Op("x[(0, 0), ]", operator.itemgetter(((0, 0),)), reals, shapes=[(2,), (2, 3)]),
    Op("x[range]", at(range(-2, 2)), reals, shapes=[(2,), (2, 3)]),
    Op("x[mask]", at(MASK), reals, shapes=[(2, 3), (2, 3, 2)]),
    Op("x[mask of rows]", at(np.array([False, True])), reals, shapes=[(2,), (2, 3)]),
    Op("x[list of bools]", at([True, False]), reals, shapes=[(2,), (2, 3)]),
    Op("x[True]", at(True), reals),
    Op("x[[0, 0], [1, 2]]", at([0, 0], [1, 2]), reals, shapes=[(2, 3)]),
    Op("x[[[0], [1]], [0, 0]]", at([[0], [1]], [0, 0]), reals, shapes=[(2, 3)]),
    Op("x[1, [0, 0]]", at(1, [0, 0]), reals, shapes=[(2, 3), (2, 1)]),
    Op("x[:, [0, 0]]", at(S[:], [0, 0]), reals, shapes=[*MATRICES, *CUBES]),
    Op("x[[0, 0], :, [0, 1]]", at([0, 0], S[:], [0, 1]), reals, shapes=[(2, 3, 2), (1, 3, 2)]),
    Op("x[..., [0, 0], None]", at(..., [0, 0], None), reals, shapes=[*MATRICES, *CUBES]),
    Op("x[mask, 1:]", at(np.array([True, True]), S[1:]), reals, shapes=[(2, 3)]),
    Op("x[mask, [0, 0]]", at(np.array([True, True]), [0, 0]), reals, shapes=[(2, 3)]),
    Op("x[tensor]", lambda x: x[tg.Tensor([0, 0]) if isinstance(x, tg.Tensor) else [0, 0]], reals,
       shapes=[(2,), (2, 3)]),
    Op("x[x > 0]", lambda x: x[x > 0], nonzero, shapes=[(), (3,), (2, 3)]),
    Op("iteration", lambda x: np.stack([row * row for row in x]), reals, shapes=MATRICES),
    # writing by index
    Op("x[1] = y", put(1), reals, reals, shapes=[((3,), ()), ((2, 3), (3,)), ((2, 3), (1,))]),
    Op("x[...] = y", put(...), reals, reals, shapes=[((), ()), ((2, 3), (1, 1, 3)), ((0,), ())]),
    Op("x[::-2] = y", put(S[::-2]), reals, reals, shapes=[((5,), (3,)), ((3, 2), (2, 1))]),
    Op("x[:, 1:] = y", put(S[:], S[1:]), reals, reals, shapes=[((2, 3), (2, 2)), ((2, 3), ())]),
    Op("x[[0, 2]] = y", put([0, 2]), reals, reals, shapes=[((3,), (2,)), ((3, 2), (2,))]),
    Op("x[[0, 0]] = y", put([0, 0]), reals, reals, shapes=[((3,), (2,)), ((2, 2), (2, 2))]),
    Op("x[(0, 0), ] = y", put((0, 0), ...), reals, reals, shapes=[((3,), (2,)), ((2, 2), (2, 2))]),
    Op("x[:, [1, 1]] = y", put(S[:], [1, 1]), reals, reals, shapes=[((2, 3), (2, 2))]),
    Op("x[mask] = y", put(MASK), reals, reals, shapes=[((2, 3), (3,)), ((2, 3), ())]),
    Op("x[None, 0] = y", put(None, 0), reals, reals, shapes=[((3,), ()), ((2, 3), (1, 3))]),
    Op("x[1] = 0", lambda x: put(1)(x * 1, np.zeros(())), reals, shapes=[(3,), (2, 3)]),
    Op("several writes", _twice, reals, reals, shapes=[((3,), (3,)), ((2, 3), (3,))]),
    # reading along an axis
    Op("take", lambda x: np.take(x, [0, 2, 2]), reals, shapes=[(3,), (2, 3)]),
    Op("take a number", lambda x: np.take(x, -1, axis=0), reals, shapes=[(3,), (2, 3), (2, 0)]),
    Op("take of a number", lambda x: np.take(x, [[0, 0]]), reals, shapes=[()]),
    Op("take axis", lambda x: np.take(x, np.array([[0, 1], [1, -1]]), axis=1), reals,
       shapes=[(1, 2), (2, 3, 2), (0, 2)]),
    Op("take wrap", lambda x: np.take(x, [7, -9, 1], axis=-1, mode="wrap"), reals,
       shapes=[(3,), (2, 3)]),
    Op("take clip", lambda x: np.take(x, [7, -9, 1], mode="clip"), reals, shapes=[(3,), (2, 3)]),
    Op("take rows", lambda x: np.take(x, np.arange(300) * 7 % 5, 0), reals, shapes=[(5, 2)]),
    Op("x[:, many]", lambda x: x[:, np.arange(-150, 150) % 3 - 2], reals,
       shapes=[(2, 3), (1, 3, 2)]),
    Op("take_along_axis", lambda x: np.take_along_axis(x, np.array([[0, 1, 1]]), axis=0), reals,
       shapes=[(2, 3), (2, 1)]),
    Op("take_along_axis None", lambda x: np.take_along_axis(x, np.array([0, -1, 0]), None), reals,
       shapes=[(), (3,), (2, 3)]),
    Op("compress", lambda x: np.compress([0, 1], x), reals, shapes=[(3,), (2, 3)]),
    Op("compress axis", lambda x: x.compress([True, False], axis=0), reals,
       shapes=[(3,), (2, 3), (2, 0)]),
    Op("extract", lambda x: np.extract(x > 0, x), nonzero),
    # writing by function
    Op("put", by(np.put, lambda y: ([0, -1, 0], y)), reals, reals,
       shapes=[((3,), (2,)), ((2, 2), ()), ((2, 2), (4,))]),
    Op("put wrap", by(np.put, lambda y: ([5, 1], y, "wrap")), reals, reals,
       shapes=[((), ()), ((2, 2), (2,))]),
    Op("place", by(np.place, lambda y: (MASK, y)), reals, reals,
       shapes=[((2, 3), (2,)), ((2, 3), ()), ((3, 2), (5,))]),
    Op("putmask", by(np.putmask, lambda y: (MASK, y)), reals, reals,
       shapes=[((2, 3), (2, 3)), ((2, 3), ()), ((2, 3), (2,))]),
    Op("copyto", by(np.copyto, lambda y: (y,)), reals, reals,
       shapes=[((), ()), ((2, 3), (3,)), ((3,), (1, 3)), ((0,), ())]),
    Op("copyto where", by(np.copyto, lambda y: (y, "same_kind", MASK)), reals, reals,
       shapes=[((2, 3), (3,)), ((2, 3), ())]),
    Op("fill_diagonal", by(np.fill_diagonal, lambda y: (y,)), reals, reals,
       shapes=[((2, 2), ()), ((3, 2), (2,)), ((2, 2, 2), (2,)), ((5, 2), (3,))]),
    Op("fill_diagonal wrap", by(np.fill_diagonal, lambda y: (y, True)), reals, reals,
       shapes=[((5, 2), (3,))]),
    Op("put_along_axis", by(np.put_along_axis, lambda y: (np.array([[1], [0]]), y, 1)), reals,
       reals, shapes=[((2, 3), ()), ((2, 2), (2, 1))]),
    Op("put_along_axis None", by(np.put_along_axis, lambda y: (np.array([1, 0]), y, None)), reals,
       reals, shapes=[((2, 2), ()), ((2,), (2,))]),
    Op("copyto zeros", put_into_zeros, reals, shapes=[(), (3,)]),
]  # fmt: skip
