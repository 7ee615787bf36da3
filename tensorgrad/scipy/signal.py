"""Convolutions and filters, under the names of `scipy.signal`.

>>> tg.grad(lambda x: np.sum(tg.scipy.signal.convolve(x, [1.0, 2.0]) ** 2))(np.array([1.0, 0.0]))
array([10.,  4.])
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from ..engine.custom import differentiable
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..errors import optional
from ..guide import of_module
from .operands import operand, working_dtype

__all__ = ["convolve", "correlate", "fftconvolve", "lfilter"]


def __dir__() -> list[str]:
    return __all__


__getattr__ = of_module(__name__)

Mode: TypeAlias = Literal["full", "valid", "same"]


def _scipys(name: str) -> Any:
    return getattr(optional("scipy.signal", f"scipy.signal.{name}"), name)


# -- convolutions


def _convolve_back(
    g: Any, _z: Any, x: Any, y: Any, mode: Any = "full", method: Any = "auto"
) -> Any:
    if mode == "full":
        return _convolve(g, np.flip(y), "valid", method), _convolve(g, np.flip(x), "valid", method)
    return _convolve(g, np.flip(y), "full", method), np.flip(
        _convolve(x, np.flip(g), "valid", method)
    )


@differentiable(together=_convolve_back, form="multilinear")
@shown_as("convolve")
def _convolve(x: Any, y: Any, mode: Any = "full", method: Any = "auto") -> Any:
    """The convolution in mode "full", or "valid" if no axis of `x` is shorter than that of `y`."""
    dtype, work = working_dtype(x, y)
    x, y = np.asarray(x, work), np.asarray(y, work)
    return _scipys("convolve")(x, y, mode, method).astype(dtype, copy=False)


def convolve(in1: Any, in2: Any, mode: Mode = "full", method: str = "auto") -> Tensor:
    """Return the convolution of two arrays along all of their axes, of which they have as many.

    `mode` "full" returns all of it, "same" its middle of the shape of `in1`, and "valid" what needs
    no zeros beyond the arrays. `method` is "direct", "fft", or "auto" for the faster one.

    >>> tg.scipy.signal.convolve([1.0, 2.0, 3.0], [1.0, 1.0], mode="valid")
    array([3., 5.])
    """
    x, y = operand(in1, "convolve"), operand(in2, "convolve")
    if x.ndim != y.ndim or 0 in (x.ndim, x.size, y.size):
        raise ValueError(
            "convolve: pass arrays with elements and equally many axes, not shapes "
            f"{x.shape} and {y.shape}"
        )
    if mode == "valid":
        if all(n >= m for n, m in zip(x.shape, y.shape)):
            return _convolve(x, y, mode, method)  # type: ignore[no-any-return]
        if all(n <= m for n, m in zip(x.shape, y.shape)):
            return _convolve(y, x, mode, method)  # type: ignore[no-any-return]
        raise ValueError(
            "convolve: for mode='valid', no axis of one array may be shorter than the other's, but "
            f"the shapes are {x.shape} and {y.shape}"
        )
    if mode not in ("full", "same"):
        raise ValueError(f"convolve: mode={mode!r} must be 'full', 'same' or 'valid'")
    full = _convolve(x, y, "full", method)
    if mode == "full":
        return full  # type: ignore[no-any-return]
    starts = [(total - n) // 2 for total, n in zip(full.shape, x.shape)]
    return full[tuple([slice(i, i + n) for i, n in zip(starts, x.shape)])]  # type: ignore[no-any-return]


def fftconvolve(in1: Any, in2: Any, mode: Mode = "full") -> Tensor:
    """Return `convolve(in1, in2, mode, method="fft")`.

    >>> tg.scipy.signal.fftconvolve([1.0, 2.0], [3.0, 4.0]).round(9)
    array([ 3., 10.,  8.])
    """
    return convolve(in1, in2, mode, "fft")


def correlate(in1: Any, in2: Any, mode: Mode = "full", method: str = "auto") -> Tensor:
    """Return the cross-correlation of two arrays: `convolve` with `in2` reversed and conjugated.

    >>> tg.scipy.signal.correlate([1.0, 2.0, 3.0], [0.0, 1.0])
    array([1., 2., 3., 0.])
    """
    return convolve(in1, np.conjugate(np.flip(operand(in2, "correlate"))), mode, method)


# -- filters


def _filter_back(g: Any, y: Any, b: Any, a: Any, x: Any) -> Any:
    """With the filter 1 / a alone, and reversed in time: both are filters."""
    one = np.ones_like(b[:1])
    by_x = np.flip(_filter(b, a, np.flip(g, -1)), -1)
    driven, fed_back = _filter(one, a, x), _filter(one, a, y)
    return _lags(g, driven, len(b)), -_lags(g, fed_back, len(a)), by_x


def _lags(g: Any, x: Any, count: int) -> Any:
    """The sums of `g[..., n] * x[..., n - k]` over all n, for k from 0 to `count` - 1."""
    length = x.shape[-1]
    rows, others = (z.reshape(-1, length) for z in (g, x))
    longer = np.concatenate([rows, np.zeros_like(rows, shape=(len(rows), count - 1))], axis=-1)
    return _convolve(longer, np.flip(others), "valid")[0]


@differentiable(together=_filter_back)
@shown_as("lfilter")
def _filter(b: Any, a: Any, x: Any) -> Any:
    """The filter along the last axis, where `a[0]` is 1."""
    dtype, work = working_dtype(b, a, x)
    out = _scipys("lfilter")(*[np.asarray(z, work) for z in (b, a, x)])
    return out.astype(dtype, copy=False)


def lfilter(b: Any, a: Any, x: Any, axis: int = -1) -> Tensor:
    """Return `x` filtered along an axis: a[0] y[n] = sum(b[k] x[n-k]) - sum(a[k] y[n-k], k > 0).

    `b` and `a` are vectors, or numbers, and `a[0]` is not 0. There are derivatives by all three.
    Before its first element, `x` is 0: there are no initial conditions `zi`.

    >>> tg.scipy.signal.lfilter([0.5], [1.0, -0.5], np.array([1.0, 0.0, 0.0]))
    array([0.5  , 0.25 , 0.125])
    """
    b, a, x = (operand(z, "lfilter") for z in (b, a, x))
    b, a = b.reshape(-1), a.reshape(-1)
    if not (b.size and a.size and x.size and x.ndim):
        raise ValueError(
            f"lfilter: pass arrays with elements, not shapes {b.shape}, {a.shape}, {x.shape}"
        )
    return np.moveaxis(_filter(b / a[0], a / a[0], np.moveaxis(x, axis, -1)), -1, axis)  # type: ignore[no-any-return]
