"""Operations whose derivatives are zero wherever they exist: the results are untracked."""

import operator

import numpy as np

from .row import *

ROWS = [
    *(Op(f.__name__, f, distinct, halfway) for f in (
        np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
        np.logical_and, np.logical_or, np.logical_xor, np.isclose, np.array_equal, np.array_equiv,
        operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
    )),
    *(Op(f.__name__, f, fractions) for f in (
        np.logical_not, np.isnan, np.isinf, np.isfinite, np.signbit, np.sign, np.floor, np.ceil,
        np.trunc, np.rint, np.round, np.all, np.any, np.argsort, np.argwhere, np.count_nonzero,
        np.zeros_like, np.ones_like, np.flatnonzero, np.iscomplexobj, np.isrealobj,
    )),
    Op("argmax", np.argmax, distinct, shapes=VECTORS),
    Op("argmin", np.argmin, distinct, shapes=VECTORS),
    Op("nonzero", np.nonzero, reals, shapes=MATRICES),
    Op("allclose", np.allclose, distinct, halfway),
    Op("searchsorted", lambda x: np.searchsorted(np.arange(3.0), x), reals),
    Op("//", operator.floordiv, fractions, divisors),
    Op("5 // x", lambda x: 5 // x, nonzero),
    Op("divmod [0]", lambda x, y: divmod(x, y)[0], fractions, divisors),
    Op("astype int", lambda x: x.astype(np.int64), fractions),
]  # fmt: skip
