"""The discrete Fourier transforms of the array API standard: NumPy's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from .engine.tensor import Tensor, asarray
from .namespaces import completed, numpys

fft = fftn = fftshift = hfft = ifft = ifftn = ifftshift = ihfft = irfft = irfftn = numpys
rfft = rfftn = numpys


def fftfreq(
    n: int, /, *, d: float = 1.0, dtype: DTypeLike | None = None, device: Any = None
) -> Tensor:
    """Return the frequency of each element of `fft`, for `n` samples `d` apart.

    >>> tg.fft.fftfreq(4, d=0.5)
    Tensor([ 0. ,  0.5, -1. , -0.5])
    """
    return asarray(np.fft.fftfreq(n, d, device=device), dtype)


def rfftfreq(
    n: int, /, *, d: float = 1.0, dtype: DTypeLike | None = None, device: Any = None
) -> Tensor:
    """Return the frequency of each element of `rfft`, for `n` samples `d` apart.

    >>> tg.fft.rfftfreq(4, d=0.5)
    Tensor([0. , 0.5, 1. ])
    """
    return asarray(np.fft.rfftfreq(n, d, device=device), dtype)


if not TYPE_CHECKING:  # type checkers take every name without an underscore
    __all__ = completed(globals(), np.fft)

    def __dir__() -> list[str]:
        return __all__
