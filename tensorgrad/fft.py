"""The discrete Fourier transforms of the array API standard: NumPy's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from .engine.tensor import Tensor, asarray

if TYPE_CHECKING:
    # The functions that are imported below: NumPy's stubs say that they return arrays.
    _function: Callable[..., Tensor] = asarray  # any function that returns a tensor
    fft = fftn = fftshift = hfft = ifft = ifftn = ifftshift = ihfft = irfft = _function
    irfftn = rfft = rfftn = _function
else:
    from numpy.fft import (
        fft,
        fftn,
        fftshift,
        hfft,
        ifft,
        ifftn,
        ifftshift,
        ihfft,
        irfft,
        irfftn,
        rfft,
        rfftn,
    )

__all__ = [
    "fft",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfftn",
    "rfft",
    "rfftfreq",
    "rfftn",
]


def __dir__() -> list[str]:
    return __all__


def fftfreq(
    n: int, /, *, d: float = 1.0, dtype: DTypeLike | None = None, device: Any = None
) -> Tensor:
    """Return the frequency of each element of `fft`, for `n` samples at distance `d`.

    >>> tg.fft.fftfreq(4, d=0.5)
    Tensor([ 0. ,  0.5, -1. , -0.5])
    """
    return asarray(np.fft.fftfreq(n, d, device=device), dtype)


def rfftfreq(
    n: int, /, *, d: float = 1.0, dtype: DTypeLike | None = None, device: Any = None
) -> Tensor:
    """Return the frequency of each element of `rfft`, for `n` samples at distance `d`.

    >>> tg.fft.rfftfreq(4, d=0.5)
    Tensor([0. , 0.5, 1. ])
    """
    return asarray(np.fft.rfftfreq(n, d, device=device), dtype)
