"""Measured costs: the seconds that calls take here, for choices that depend on the processor.

Each is measured once in a process, for each number of BLAS threads. Figures differ from process to
process, and with them the choices: with `TENSORGRAD_TUNE=0` in the environment, nothing is
measured, and passes choose by fixed rules.

Most rules of the compiler need no measuring, since they gain time, or lose next to none, wherever
they were tried: with OpenBLAS' Nehalem, Sandybridge, Haswell and SkylakeX kernels, and with NumPy's
loops with AVX512 and without, on an AMD EPYC, in one thread, for float32 and float64:

| rule | time without it / with it |
|---|--:|
| sums over rows by products with ones, 1 to 1,000,000 elements | 1.03 to 28 |
| sums of narrow rows by products with ones | 1.08 to 74 |
| sums of all elements, and of squares, by products | 0.97 to 6.1 |
| maxima of narrow rows by a transposed copy, 16 rows or more | 1.05 to 19 |
| maximum with an array of a number, not the number | 1.01 to 3.8 |
| broadcasts in advance, up to 4096 elements | 0.94 to 1.53 |
| ones behind small arguments, in whole steps | 0.99 to 1.09 |
| horizontal fusion, in whole steps | 1.00 to 1.13 |
| loop fusion in other blocks, a fourth to four times as large | 0.94 to 1.31 |

Which arrays lie by columns is measured: see `passes/layout_assignment.py`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..engine.arrays import aligned
from ..engine.typing import Array
from .ir import Order

# Other programs on the same core halve the speed for milliseconds. So all calls are measured in
# rounds: such a time then hits all of them alike, or only some of the rounds.
_ROUNDS = 6
_CHUNK = 1e-5  # seconds of calls between two looks at the clock, long compared with the look


class Product(NamedTuple):
    """A product of matrices, (m, k) @ (k, n), by the orders of both and of the result."""

    m: int
    k: int
    n: int
    orders: tuple[Order, Order, Order]
    dtype: np.dtype[Any]

    def prepared(self) -> Callable[[], object]:
        """A function that makes the call, as generated code does."""
        m, k, n, orders, dtype = self
        shapes = (m, k), (k, n), (m, n)
        x, w, y = (_ones(s, order, dtype) for s, order in zip(shapes, orders, strict=True))
        if y.flags.c_contiguous:
            return lambda dot=x.dot: dot(w, y)  # type: ignore[misc]
        right, out = x.T, y.T
        return lambda dot=w.T.dot: dot(right, out)  # type: ignore[misc]


class Bias(NamedTuple):
    """The sum of a matrix of shape (m, n) and a row."""

    m: int
    n: int
    dtype: np.dtype[Any]

    def prepared(self) -> Callable[[], object]:
        """A function that makes the call."""
        m, n, dtype = self
        y, b = _ones((m, n), "C", dtype), _ones((n,), "C", dtype)
        return lambda: np.add(y, b, y)


Work: TypeAlias = Product | Bias

_measured: dict[tuple[int | None, Work], float] = {}  # by the number of threads, too


def seconds(works: Iterable[Work]) -> Mapping[Work, float]:
    """The least time that each of them takes; nothing, with `TENSORGRAD_TUNE=0`."""
    if os.environ.get("TENSORGRAD_TUNE", "1") in ("", "0"):
        return {}
    works = [*dict.fromkeys(works)]
    threads = count_of_threads()
    new = [work for work in works if (threads, work) not in _measured]
    found = _least([work.prepared() for work in new], threads)
    _measured.update({(threads, work): time for work, time in zip(new, found, strict=True)})
    return {work: _measured[threads, work] for work in works}


def _least(functions: list[Callable[[], object]], threads: int | None) -> list[float]:
    """The least time of each; in one thread, of the processor, which others disturb less."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    calls, least = [1] * len(functions), [math.inf] * len(functions)
    for _ in range(_ROUNDS):
        for i, function in enumerate(functions):
            start = clock()
            for _ in range(calls[i]):
                function()
            least[i] = min(least[i], (clock() - start) / calls[i])
            calls[i] = max(1, round(_CHUNK / least[i]))
    return least


def _ones(shape: tuple[int, ...], order: Order, dtype: np.dtype[Any]) -> Array:
    """An array of ones that is aligned as those of plans are."""
    array = aligned(math.prod(shape), dtype).reshape(shape, order=order)
    array[...] = 1
    return array


def count_of_threads() -> int | None:
    """The number of threads that BLAS uses, or None if it is unknown."""
    from .. import doctor  # it imports much that is needed for nothing else

    return doctor.blas().threads
