"""Changes of shape, and joining arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import composite, rule
from ..tensor import apply

rule(np.reshape, lambda g, _y, _x, _shape: g.reshape(_x.shape))
rule(np.expand_dims, lambda g, _y, _x, _axis: g.reshape(_x.shape))
rule(np.squeeze, lambda g, _y, _x, _axis=None: g.reshape(_x.shape))
rule(np.broadcast_to, lambda g, _y, _x, _shape: g)
rule(np.matrix_transpose, lambda g, _y, _x: g.mT)
rule(np.swapaxes, lambda g, _y, _x, i, j: np.swapaxes(g, i, j))
rule(np.moveaxis, lambda g, _y, _x, source, to: np.moveaxis(g, to, source))


def _transpose_back(g: Any, _y: Any, _x: Any, axes: Sequence[int] | None = None) -> Any:
    return np.transpose(g, None if axes is None else np.argsort([i % g.ndim for i in axes]))


rule(np.transpose, _transpose_back)


@composite(np.ravel)
def _ravel(a: Any) -> Any:
    return a.reshape(-1)


def concatenate(*arrays: Any, axis: int) -> Any:
    """`np.concatenate` with its arrays as arguments, so that each has a derivative."""
    return np.concatenate(arrays, axis)


def _part(i: int, g: Any, _y: Any, *_arrays: Any, axis: int) -> Any:
    start = sum(a.shape[axis] for a in _arrays[:i])
    part = slice(start, start + _arrays[i].shape[axis])
    return g[(slice(None),) * (axis % g.ndim) + (part,)]


def stack(*arrays: Any, axis: int) -> Any:
    """`np.stack` with its arrays as arguments, so that each has a derivative."""
    return np.stack(arrays, axis)


rule(concatenate, each=_part)
rule(stack, each=lambda i, g, _y, *_arrays, axis: np.moveaxis(g, axis, 0)[i])


@composite(np.concatenate)
def _concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    if axis is None:
        arrays, axis = [np.ravel(a) for a in arrays], 0
    return apply(concatenate, tuple(arrays), {"axis": axis})


@composite(np.stack)
def _stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    return apply(stack, tuple(arrays), {"axis": axis})
