"""Hypothesis strategies for the arguments of operations."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from .operations import Domain, Op, Shape


def arrays(domain: Domain, shape: Shape, dtype: Any = np.float64) -> st.SearchStrategy[Any]:
    """Arrays of values of the domain, which keeps away from kinks and, if it says so, from ties."""
    elements = st.sampled_from(domain.values)
    return hnp.arrays(dtype, shape, elements=elements, unique=domain.distinct)


def arguments(op: Op) -> st.SearchStrategy[list[Any]]:
    """Arguments for an operation, of one of the shapes in its row."""

    def of_shapes(shapes: tuple[Shape, ...]) -> st.SearchStrategy[list[Any]]:
        pairs = zip(op.domains, shapes, strict=True)
        return st.tuples(*(arrays(domain, shape) for domain, shape in pairs)).map(list)

    return st.sampled_from(op.shapes).flatmap(of_shapes)
