"""SciPy's functions on tensors, under SciPy's names: `tg.scipy.linalg.expm(a)`.

`tg.scipy.special` is `tg.special`. SciPy is imported when a function that needs it is called.
"""

from .. import special
from . import interpolate, linalg, signal, sparse, stats

__all__ = ["interpolate", "linalg", "signal", "sparse", "special", "stats"]
