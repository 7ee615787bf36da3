"""Functions without a derivative: piecewise constant ones, and those that ignore the values."""

import operator

import numpy as np

from ..engine.registry import piecewise_constant
from ..engine.typing import Function

piecewise_constant(
    # comparisons and logic
    operator.eq, operator.ne,
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.logical_and, np.logical_or, np.logical_xor, np.logical_not,
    np.isnan, np.isinf, np.isfinite, np.isneginf, np.isposinf, np.iscomplex, np.isreal, np.signbit,
    np.isclose, np.allclose, np.array_equal, np.array_equiv, np.all, np.any, np.isin,
    # rounding
    np.floor, np.ceil, np.trunc, np.rint, np.round, np.around, np.fix, np.floor_divide, np.spacing,
    # positions and counts
    np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.argpartition, np.lexsort,
    np.argwhere, np.nonzero, np.flatnonzero, np.count_nonzero, np.searchsorted, np.digitize,
    np.linalg.matrix_rank,
)  # fmt: skip

# Functions whose results do not depend on the values, or are not arrays.
DESCRIPTIONS: set[Function] = {
    np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj,
    np.result_type, np.common_type, np.min_scalar_type, np.can_cast,
    np.may_share_memory, np.shares_memory, np.einsum_path,
    # arrays and indices for an array's shape
    np.zeros_like, np.ones_like, np.empty_like,
    np.diag_indices_from, np.tril_indices_from, np.triu_indices_from,
    # text and files
    np.array_repr, np.array_str, np.array2string,
    np.save, np.savez, np.savez_compressed, np.savetxt,
}  # fmt: skip
piecewise_constant(*DESCRIPTIONS)
