"""What the library is measured against: derivatives by numbers, and how equal results must be."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

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


# Which last digits a result has depends on the processor, on what its BLAS adds first, and on
# rewrites that are not exact. More of them do where a mean of squares is divided by its root.
ROUNDINGS = 64


def assert_same(
    actual: Any, expected: Any, path: str = "", roundings: float = ROUNDINGS, least: float = 0.0
) -> None:
    """The same containers, types, shapes and dtypes, and numbers up to so many last digits.

    They are digits of the largest number in all arrays of one name, such as all gradients of a
    step, or of `least`: a gradient whose terms cancel is nothing but roundings of the others.
    """
    found, wanted = dict(parts(actual, path)), dict(parts(expected, path))
    assert [*found] == [*wanted]
    arrays = {where: x for where, x in wanted.items() if is_floating(x)}
    largest: dict[str, float] = {}
    for where, x in arrays.items():
        size = np.max(np.abs(x), where=np.isfinite(x), initial=least)
        largest[name_of(where)] = max(float(size), largest.get(name_of(where), 0.0))
    # A number of Python's is as exact as the arrays beside it.
    coarsest = max((np.finfo(x.dtype).eps for x in arrays.values()), default=np.finfo(float).eps)
    for where, b in wanted.items():
        a = found[where]
        if type(b) is float:  # from a compiled function, it is an array
            close = pytest.approx(b, rel=roundings * float(coarsest), abs=0, nan_ok=True)
            assert float(a) == close, where
        elif isinstance(b, (np.ndarray, np.generic)):
            # NumPy's own functions return a number for an array of no axes.
            assert isinstance(a, np.ndarray) or type(a) is type(b), where
            assert (a.shape, a.dtype) == (b.shape, b.dtype), where
            if np.array_equal(a, b):  # the other comparisons take ten times as long
                continue
            if where in arrays:
                bound = roundings * np.finfo(b.dtype).eps * largest[name_of(where)]
                assert_allclose(a, b, rtol=0, atol=bound, err_msg=where)
            else:
                assert_array_equal(a, b, err_msg=where)
        else:
            assert type(a) is type(b) and a == b, where


def parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What nested containers hold, and their types, each with the way to it."""
    if isinstance(value, (dict, list, tuple)):
        yield path, type(value)
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from parts(item, f"{path}[{key!r}]")
    elif isinstance(value, tg.Tensor):
        yield path, type(value)
        yield f"{path}.data", value.data
    else:
        yield path, value


def name_of(path: str) -> str:
    """A way without its positions, those in lists and those in names such as `layers.0.weight`."""
    return re.sub(r"\[\d+\]|\b\d+\.", "", path)


def is_floating(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fc"
