"""Functions whose result is piecewise constant, or no array at all: nothing to differentiate."""

import operator

import numpy as np

from ..graph import piecewise_constant

piecewise_constant(
    # comparisons and logic
    operator.eq, operator.ne,
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.logical_and, np.logical_or, np.logical_xor, np.logical_not,
    np.isnan, np.isinf, np.isfinite, np.signbit, np.isclose, np.allclose,
    np.array_equal, np.array_equiv, np.all, np.any, np.iscomplexobj, np.isrealobj,
    # rounding
    np.sign, np.floor, np.ceil, np.trunc, np.rint, np.round, np.floor_divide,
    # positions and counts
    np.argmax, np.argmin, np.argsort, np.argwhere, np.nonzero, np.flatnonzero, np.count_nonzero,
    np.searchsorted,
    # descriptions, and arrays like another
    np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.may_share_memory,
    np.shares_memory, np.zeros_like, np.ones_like, np.empty_like,
    # text
    np.array_repr, np.array_str, np.array2string,
)  # fmt: skip
