"""What the library is measured against: derivatives by numbers, which use none of its code."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tensorgrad as tg

Arrays = Sequence[Any]


def leaf(data: Any, dtype: Any = None) -> tg.Tensor:
    return tg.Tensor(data, dtype, requires_grad=True)


def central_differences(f: Callable[..., Any], args: Arrays, i: int) -> Any:
    """The derivative of the number `f(*args)` by the array `args[i]`, of fourth order."""
    h = 2.0**-10

    def moved(index: tuple[int, ...], step: float) -> Any:
        changed = [np.array(a) for a in args]
        changed[i][index] += step
        return f(*changed)

    out = np.zeros_like(args[i])
    for index in np.ndindex(out.shape):
        near = moved(index, h) - moved(index, -h)
        far = moved(index, 2 * h) - moved(index, -2 * h)
        out[index] = (8 * near - far) / (12 * h)
    return out


def complex_step(f: Callable[..., Any], args: Arrays, i: int) -> Any:
    """The same for an analytic f, exact up to rounding: no difference loses digits."""
    h = 2.0**-80
    out = np.zeros_like(args[i])
    for index in np.ndindex(out.shape):
        changed = [np.array(a, np.complex128) for a in args]
        changed[i][index] += 1j * h
        out[index] = np.imag(f(*changed)) / h
    return out


def subsets(count: int) -> list[tuple[int, ...]]:
    """The non-empty choices among so many arguments."""
    sizes = range(1, count + 1)
    return [c for size in sizes for c in itertools.combinations(range(count), size)]


def backward(f: Callable[..., Any], args: Arrays, tracked: Sequence[int], seed: Any) -> Any:
    """The output of f with the chosen arguments as leaves, and these, after a backward pass."""
    mixed = [leaf(a) if i in tracked else a for i, a in enumerate(args)]
    out = f(*mixed)
    out.backward(seed)
    return out, [mixed[i] for i in tracked]
