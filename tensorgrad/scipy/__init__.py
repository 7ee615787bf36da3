"""SciPy's functions on tensors, under SciPy's names: `tg.scipy.linalg.expm(a)`.

`tg.scipy.special` is `tg.special`. SciPy is imported when a function that needs it is called.
"""

import sys

from .. import special
from . import interpolate, linalg, signal, sparse, stats

sys.modules[f"{__name__}.special"] = special  # for `from tensorgrad.scipy.special import gammaln`

__all__ = ["interpolate", "linalg", "signal", "sparse", "special", "stats"]


def __dir__() -> list[str]:
    return __all__
