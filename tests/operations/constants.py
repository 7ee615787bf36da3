"""Operations whose derivatives are zero wherever they exist: the results are untracked."""

import io
import operator

import numpy as np

from .row import *

ROWS = [
    *(Op(f.__name__, f, distinct, halfway) for f in (
        np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
        np.logical_and, np.logical_or, np.logical_xor, np.isclose, np.allclose, np.isin,
        np.array_equal, np.array_equiv,
        operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
        np.result_type, np.common_type, np.may_share_memory, np.shares_memory,
    )),
    *(Op(f.__name__, f, fractions) for f in (
        np.logical_not, np.isnan, np.isinf, np.isfinite, np.isneginf, np.isposinf, np.iscomplex,
        np.isreal, np.signbit, np.sign, np.floor, np.ceil, np.trunc, np.rint, np.round, np.around,
        np.fix, np.spacing, np.all, np.any, np.argsort, np.argwhere, np.flatnonzero,
        np.count_nonzero,
        np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj, np.min_scalar_type,
        np.zeros_like, np.ones_like,
        np.array_repr, np.array_str, np.array2string,
    )),
    *(Op(f.__name__, f, distinct, shapes=VECTORS) for f in (
        np.argmax, np.argmin, np.nanargmax, np.nanargmin,
    )),
    *(Op(f.__name__, f, reals, shapes=[(3, 3), (1, 1)]) for f in (
        np.nonzero, np.linalg.matrix_rank,
        np.diag_indices_from, np.tril_indices_from, np.triu_indices_from,
    )),
    *(Op(f.__name__, lambda x, f=f: f(io.BytesIO(), x), reals, shapes=VECTORS) for f in (
        np.save, np.savez, np.savez_compressed, np.savetxt,
    )),
    Op("argpartition", lambda x: np.argpartition(x, 1), distinct, shapes=[(3,), (2, 3)]),
    Op("lexsort", lambda x, y: np.lexsort((x, y)), reals, reals, shapes=[((3,), (3,))]),
    Op("searchsorted", lambda x: np.searchsorted(np.arange(3.0), x), reals),
    Op("searchsorted in x", lambda x, y: np.searchsorted(np.sort(x), y), reals, reals,
       shapes=[((3,), (2,)), ((0,), ())]),
    Op("digitize", lambda x: np.digitize(x, [-1.0, 1.0]), fractions),
    Op("empty_like", lambda x: np.empty_like(x).shape, reals),
    Op("can_cast", lambda x: np.can_cast(x, np.float64), reals),
    Op("einsum_path", lambda x: np.einsum_path("ii", x)[1], reals, shapes=[(2, 2)]),
    Op("//", operator.floordiv, fractions, divisors),
    Op("5 // x", lambda x: 5 // x, nonzero),
    Op("divmod [0]", lambda x, y: divmod(x, y)[0], fractions, divisors),
    Op("astype int", lambda x: x.astype(np.int64), fractions),
]  # fmt: skip
