"""Products of arrays.

Derivatives by complex operands are those of an analytic function, without conjugates, except where
the product itself conjugates an operand. The engine takes the real part for a real array.
"""

import functools
import math
import string
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, count
from typing import Any, Literal

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..engine.arrays import Spec, conjugated
from ..engine.batched import outer
from ..engine.custom import differentiable
from ..engine.dispatch import apply
from ..engine.modes import plain
from ..engine.operands import as_operand
from ..engine.registry import composite, rule, shown_as
from ..engine.tensor import asarray
from .indexing import scatter


def _rows(a: Any) -> Any:
    """Reshape an array into a matrix: all axes but the last become one."""
    return a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _product(x: Any, y: Any) -> Any:
    """`x @ y`, by `dot` for plain matrices and vectors: half of the time if they are small."""
    if type(x) is type(y) is np.ndarray and x.ndim <= 2 and y.ndim <= 2:
        return x.dot(y)
    return x @ y


def _matvec(matrices: Any, vectors: Any) -> Any:
    """Products of matrices and vectors, or of stacks of them."""
    if matrices.ndim == 2 and vectors.ndim == 1:
        return _product(matrices, vectors)
    return (matrices @ vectors[..., None])[..., 0]


def _matmul_left(g: Any, _z: Any, _x: Any, y: Any) -> Any:
    if y.ndim == 1:
        return g[..., None] * y
    return _matvec(y, g) if _x.ndim == 1 else _product(g, y.mT)


def _matmul_right(g: Any, _z: Any, x: Any, _y: Any) -> Any:
    if x.ndim == 1:
        return g[..., None] * x if _y.ndim == 1 else outer(x, g)
    if _y.ndim == 1:
        return _matvec(x.mT, g)
    if _y.ndim == 2:  # one product instead of a stack of products and its sum
        return _product(_rows(x).mT, _rows(g))
    return x.mT @ g


rule(np.matmul, _matmul_left, _matmul_right, form="multilinear")


def _inner_left(g: Any, _z: Any, _x: Any, y: Any) -> Any:
    if getattr(y, "ndim", 0) == 2 and _x.ndim:
        return g @ y
    if not (_x.ndim and np.ndim(y)):
        return g * y
    rows = _rows(y)
    return (g.reshape(math.prod(_x.shape[:-1]), len(rows)) @ rows).reshape(_x.shape)


def _inner_right(g: Any, _z: Any, x: Any, _y: Any) -> Any:
    if _y.ndim == 2 and getattr(x, "ndim", 0) == 2:
        return g.mT @ x
    if not (np.ndim(x) and _y.ndim):
        return g * x
    rows = _rows(x)
    return (g.reshape(len(rows), math.prod(_y.shape[:-1])).mT @ rows).reshape(_y.shape)


rule(np.inner, _inner_left, _inner_right, form="multilinear")


# np.dot(x, y) is np.inner(x, y.mT) if x has an axis and y has two


def _dot_left(g: Any, _z: Any, _x: Any, y: Any) -> Any:
    return _inner_left(g, _z, _x, y.mT if _x.ndim and np.ndim(y) > 1 else y)


def _dot_right(g: Any, _z: Any, x: Any, _y: Any) -> Any:
    if not np.ndim(x) or _y.ndim < 2:
        return _inner_right(g, _z, x, _y)
    if _y.ndim == 2:
        return _rows(x).mT @ _rows(g)
    *stack, rows, columns = _y.shape
    return _inner_right(g, _z, x, Spec((*stack, columns, rows), _y.dtype)).mT


rule(np.dot, _dot_left, _dot_right, form="multilinear")


def best_order(shape: tuple[int, ...]) -> Literal["C", "F"]:
    """The fastest memory order of a weight of `affine`, of shape (nout, nin), and of its gradient.

    In column-major order ("F"), the first product of a step, 64x64 by 128, takes 7.5 us. In
    row-major order ("C") it takes 12.3, as this is BLAS's slowest case. In later layers, the
    gradients by the inputs lose what the outputs gain. If the outputs are too few for a SIMD vector
    of the processor, "C" is faster: for 10 outputs of 128 inputs, the three products take 4.7 us in
    row-major order, and 7.2 in column-major order.
    """
    return "C" if len(shape) != 2 or shape[0] < 16 < shape[1] else "F"


def _affine_back_weight(g: Any, _z: Any, x: Any, _weight: Any, _bias: Any) -> Any:
    if best_order(_weight.shape) == "F":
        return np.matmul(_rows(g).mT, _rows(x), order="F")
    return _inner_right(g, _z, x, _weight)


@differentiable(
    lambda g, _z, _x, weight, _bias: _inner_left(g, _z, _x, weight),
    _affine_back_weight,
    lambda g, _z, _x, _weight, _bias: g,
)
@shown_as("Linear")
def affine(x: Any, weight: Any, bias: Any) -> Any:
    """Return `inner(x, weight) + bias`, the value of a linear layer, as one operation.

    `weight` has shape (nout, nin) or (nin,), `bias` (nout,) or (), and `x` (..., nin).

    >>> from tensorgrad.rules.linear_algebra import affine
    >>> affine(np.ones(2), np.ones((3, 2)), np.zeros(3))
    array([2., 2., 2.])
    """
    if getattr(x, "ndim", 0) > 2 == weight.ndim:  # BLAS needs matrices: a tenth of the time
        return (np.inner(_rows(x), weight) + bias).reshape(*x.shape[:-1], len(weight))
    return np.inner(x, weight) + bias


# -- stacks of vectors; vecdot and vecmat conjugate the first operand

rule(
    np.vecdot,
    lambda g, _z, _x, y: np.conjugate(g[..., None] * y),
    lambda g, _z, x, _y: g[..., None] * np.conjugate(x),
    form="multilinear",
)
_GUFUNCS = [np.matmul, np.vecdot]
if hasattr(np, "matvec"):  # since NumPy 2.2
    rule(
        np.matvec,
        lambda g, _z, _x, y: g[..., None] * y[..., None, :],
        lambda g, _z, x, _y: _matvec(x.mT, g),
        form="multilinear",
    )
    rule(
        np.vecmat,
        lambda g, _z, _x, y: np.conjugate(_matvec(y, g)),
        lambda g, _z, x, _y: np.conjugate(x)[..., None] * g[..., None, :],
        form="multilinear",
    )
    _GUFUNCS += [np.matvec, np.vecmat]


def _along(ufunc: np.ufunc, *arrays: Any, dtype: Any = None, **options: Any) -> Any:
    """A product of stacks with the keywords `axes`, `axis` and `keepdims`."""
    operands: list[Any] = [asarray(a) for a in arrays]
    # With arrays of one element, NumPy raises its errors for wrong axes.
    ufunc(*[np.ones((1,) * a.ndim, a.dtype) for a in operands], dtype=dtype, **options)
    keepdims = options.get("keepdims", False)
    axes = options.get("axes") or [options.get("axis", -1)] * (len(arrays) + keepdims)
    if dtype is not None:
        operands = [a.astype(dtype) for a in operands]
    z: Any = apply(
        ufunc, [np.moveaxis(a, i, range(-np.size(i), 0)) for a, i in zip(operands, axes)]
    )
    z = z[..., None] if keepdims else z
    for i in axes[len(arrays) :]:
        z = np.moveaxis(z, range(-np.size(i), 0), i)
    return z


for _ufunc in _GUFUNCS:
    composite(_ufunc.__call__)(functools.partial(_along, _ufunc))


@composite(np.linalg.matmul)
def _linalg_matmul(x1: Any, x2: Any) -> Any:
    return np.matmul(x1, x2)


@composite(np.linalg.vecdot)
def _linalg_vecdot(x1: Any, x2: Any, *, axis: int = -1) -> Any:
    return _along(np.vecdot, x1, x2, axis=axis)


# -- products in terms of those above


@composite(np.vdot)
def _vdot(a: Any, b: Any) -> Any:
    return np.inner(conjugated(np.ravel(a)), np.ravel(b))


@composite(np.outer)
def _outer(a: Any, b: Any) -> Any:
    return np.ravel(a)[:, None] * np.ravel(b)


@composite(np.linalg.outer)
def _linalg_outer(x1: Any, x2: Any) -> Any:
    if not np.ndim(x1) == np.ndim(x2) == 1:
        raise ValueError(f"linalg.outer: pass vectors, not shapes {np.shape(x1)}, {np.shape(x2)}")
    return np.outer(x1, x2)


@composite(np.tensordot, np.linalg.tensordot)
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = asarray(a), asarray(b)
    left, right = axes if np.iterable(axes) else (range(-axes, 0), range(axes))
    left, right = normalize_axis_tuple(left, a.ndim), normalize_axis_tuple(right, b.ndim)
    summed = [a.shape[i] for i in left]
    if summed != [b.shape[i] for i in right]:
        raise ValueError(
            f"tensordot: shapes {a.shape} and {b.shape} do not match along {left} and {right}"
        )
    n, size = len(left), math.prod(summed)
    a, b = np.moveaxis(a, left, range(-n, 0)), np.moveaxis(b, right, range(n))
    rows, columns = a.shape[: a.ndim - n], b.shape[n:]
    z = np.dot(a.reshape(math.prod(rows), size), b.reshape(size, math.prod(columns)))
    return z.reshape(rows + columns)


@composite(np.kron)
def _kron(a: Any, b: Any) -> Any:
    a, b = asarray(a), asarray(b)
    n = max(a.ndim, b.ndim)
    a, b = (x.reshape((1,) * (n - x.ndim) + x.shape) for x in (a, b))
    blocks = np.expand_dims(a, [*range(1, 2 * n, 2)]) * np.expand_dims(b, [*range(0, 2 * n, 2)])
    return blocks.reshape([i * j for i, j in zip(a.shape, b.shape)])


def _in_space(a: Any) -> Any:
    """Append a component 0 to vectors of two components."""
    return a if a.shape[-1] == 3 else np.concatenate([a, np.zeros_like(a[..., :1])], -1)


@differentiable(
    lambda g, _c, _a, b: np.cross(_in_space(b), g)[..., : _a.shape[-1]],
    lambda g, _c, a, _b: np.cross(g, _in_space(a))[..., : _b.shape[-1]],
    form="multilinear",
)
def cross(a: Any, b: Any) -> Any:
    """`np.cross` of vectors along the last axis; at least one operand has three components."""
    return np.cross(a, b)


@composite(np.cross)
def _cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = asarray(a), asarray(b)
    a, b = np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)
    if a.shape[-1] == b.shape[-1] == 2:
        return cross(a, _in_space(b))[..., 2]
    return np.moveaxis(cross(a, b), -1, axisc)


@composite(np.linalg.cross)
def _linalg_cross(x1: Any, x2: Any, *, axis: int = -1) -> Any:
    if not np.shape(x1)[axis] == np.shape(x2)[axis] == 3:
        raise ValueError(
            f"linalg.cross: pass vectors of 3 components along axis {axis}, "
            f"not shapes {np.shape(x1)}, {np.shape(x2)}"
        )
    return np.cross(x1, x2, axis=axis)


@composite(np.trace)
def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@composite(np.linalg.trace)
def _linalg_trace(x: Any, *, offset: int = 0, dtype: Any = None) -> Any:
    return _trace(x, offset, -2, -1, dtype)


# -- einsum


@functools.lru_cache(maxsize=1024)
def _terms(subscripts: str, *ranks: int) -> list[list[int]]:
    """A label, from 0 on, for each axis of the operands and of the result, in `np.einsum`'s sense.

    The axes of an ellipsis are labelled by their distance from its end, as broadcasting aligns
    them.
    """
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    names = inputs.split(",")
    widths = [n - len(term.replace("...", "")) for term, n in zip(names, ranks)]
    if not arrow:
        once = (c for c, n in Counter(inputs).items() if n == 1 and c.isalpha())
        result = "..." + "".join(sorted(once))
    label: dict[str | int, int] = defaultdict(count().__next__)

    def labels(term: str, width: int) -> list[int]:
        before, dots, after = term.partition("...")
        return [label[c] for c in (*before, *(range(-width, 0) if dots else ()), *after)]

    return [*map(labels, names, widths), labels(result, max(widths))]


def _einsum_back(
    i: int,
    g: Any,
    _z: Any,
    *operands: Any,
    subscripts: str,
    optimize: Any = False,
    **_dtype_order_and_casting: Any,
) -> Any:
    *terms, result = _terms(subscripts, *map(np.ndim, operands))
    lengths = dict(zip(terms[i], operands[i].shape))
    others = [(g, result), *((x, t) for j, (x, t) in enumerate(zip(operands, terms)) if j != i)]
    found = {label for _, term in others for label in term}
    kept = [label for label, n in lengths.items() if label in found and n != 1]
    share = np.einsum(*chain(*others), kept, optimize=bool(optimize))
    # Axes that only this operand has, or that were broadcast, have length 1 here.
    share = np.expand_dims(share, [k for k, label in enumerate(lengths) if label not in kept])
    if len(lengths) == len(terms[i]):
        return share
    # A label twice in one operand is a diagonal.
    grid = dict(zip(lengths, np.ix_(*map(np.arange, lengths.values()))))
    return scatter(share, tuple([grid[label] for label in terms[i]]), operands[i].shape)


def einsum(*operands: Any, subscripts: str, **options: Any) -> Any:
    """`np.einsum` with only the arrays as arguments, so that each has a derivative."""
    return np.einsum(subscripts, *operands, **options)


rule(einsum, each=_einsum_back, form="multilinear", views=True)
_LETTERS: dict[Any, str] = dict(enumerate(string.ascii_uppercase + string.ascii_lowercase))


@composite(np.einsum)
def _einsum(*operands: Any, **options: Any) -> Any:
    if isinstance(operands[0], str):
        subscripts, *arrays = operands
    else:  # array, axes, array, axes, ..., and optionally the result's axes

        def term(axes: Sequence[Any]) -> str:
            return "".join(["..." if i is Ellipsis else _LETTERS.get(i, "?") for i in axes])

        arrays = list(operands[:-1:2])
        subscripts = ",".join(map(term, operands[1::2]))
        if len(operands) % 2:
            subscripts += "->" + term(operands[-1])
    return apply(einsum, arrays, {"subscripts": subscripts, **options})


# -- sums of weights


@differentiable(lambda g, _y, _weights, x, _minlength: g[x], form="linear")
def bincount(weights: Any, x: Any, minlength: int) -> Any:
    """`np.bincount`, whose result is linear in the weights."""
    return np.bincount(x, weights, minlength)


@composite(np.bincount)
def _bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    return bincount(weights, plain(as_operand(x, "bincount")), minlength)
