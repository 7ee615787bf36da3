"""Changes of shape: reordering, joining, splitting, repeating and padding."""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple
from numpy.lib.stride_tricks import sliding_window_view

from ..engine.arrays import working_dtype
from ..engine.custom import differentiable
from ..engine.dispatch import apply
from ..engine.modes import plain
from ..engine.operands import as_operand
from ..engine.primitives import reshape
from ..engine.registry import composite, rule, shown_as
from ..engine.tensor import Tensor, asarray
from ..engine.typing import Axis, Function
from ..engine.views import concrete
from ..errors import OR_DETACH, NoRuleError
from .indexing import along_axis, scatter

# -- one array, in another shape


rule(reshape, lambda g, _y, _x, _shape: g.reshape(_x.shape), form="linear", views=True)


@composite(np.reshape)
def _reshape(a: Any, shape: Any, order: Any = "C", *, copy: bool | None = None) -> Any:
    if order == "C" and copy is None:
        return apply(reshape, (a, shape))
    shape = np.reshape(plain(a), shape, order, copy=copy).shape  # NumPy checks the arguments
    if order in ("F", "f") or (order in ("A", "a") and plain(a).flags.fnc):
        a = np.transpose(apply(reshape, (np.transpose(a), shape[::-1])))
    else:
        a = apply(reshape, (a, shape))
    return a.copy() if copy else a


@composite(np.ravel)
def _ravel(a: Any, order: Any = "C") -> Any:
    if order in ("K", "k"):  # the axes with the longest strides first
        strides = [abs(step) if n > 1 else 0 for step, n in zip(plain(a).strides, a.shape)]
        if a.size and any(n > 1 and not step for step, n in zip(strides, a.shape)):
            raise NoRuleError("ravel has no derivative in order K of a broadcast array: use C")
        a, order = np.transpose(a, np.argsort(np.negative(strides), stable=True)), "C"
    flat = apply(reshape, (a, -1)) if order == "C" else np.reshape(a, -1, order)
    return flat if concrete(plain(flat)).flags.c_contiguous else flat.copy()


rule(np.expand_dims, lambda g, _y, _x, _axis: g.reshape(_x.shape), form="linear", views=True)
rule(np.squeeze, lambda g, _y, _x, _axis=None: g.reshape(_x.shape), form="linear", views=True)
rule(np.broadcast_to, lambda g, _y, _x, _shape, _subok=False: g, form="linear", views=True)


def _define_at_least(fun: Function) -> None:
    @composite(fun)
    def at_least(*arys: Any) -> Any:
        arrays = [*map(asarray, arys)]
        shapes = [fun(plain(a)).shape for a in arrays]
        results = [a if a.shape == s else a.reshape(s) for a, s in zip(arrays, shapes)]
        return results[0] if len(results) == 1 else tuple(results)


for _at_least in np.atleast_1d, np.atleast_2d, np.atleast_3d:
    _define_at_least(_at_least)


@composite(np.broadcast_arrays)
def _broadcast_arrays(*args: Any, subok: bool = False) -> Any:  # noqa: ARG001
    arrays = [*map(asarray, args)]
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    return tuple([np.broadcast_to(a, shape) for a in arrays])


@composite(np.meshgrid)
def _meshgrid(
    *xi: Any,
    copy: bool = True,  # noqa: ARG001
    sparse: bool = False,
    indexing: Any = "xy",
) -> Any:
    arrays = [*map(asarray, xi)]
    grids = np.meshgrid(*[plain(a) for a in arrays], sparse=True, indexing=indexing)
    reshaped = [a.reshape(grid.shape) for a, grid in zip(arrays, grids)]
    return tuple(reshaped) if sparse else np.broadcast_arrays(*reshaped)


@composite(np.full_like)
def _full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "K",  # noqa: ARG001
    subok: bool = True,  # noqa: ARG001
    shape: Any = None,
    *,
    device: Any = None,  # noqa: ARG001
) -> Any:
    full = np.broadcast_to(asarray(fill_value), a.shape if shape is None else shape)
    return full.astype(a.dtype if dtype is None else dtype)


# -- one array, in another order

rule(np.flip, lambda g, _y, _x, axis=None: np.flip(g, axis), form="linear", views=True)
rule(np.fliplr, lambda g, _y, _x: np.fliplr(g), form="linear", views=True)
rule(np.flipud, lambda g, _y, _x: np.flipud(g), form="linear", views=True)
rule(np.tril, lambda g, _y, _x, k=0: np.tril(g, k), form="linear")
rule(np.triu, lambda g, _y, _x, k=0: np.triu(g, k), form="linear")
for _matrix_transpose in np.matrix_transpose, np.linalg.matrix_transpose:
    rule(_matrix_transpose, lambda g, _y, _x: g.mT, form="linear", views=True)
rule(np.swapaxes, lambda g, _y, _x, i, j: np.swapaxes(g, i, j), form="linear", views=True)
rule(
    np.moveaxis, lambda g, _y, _x, source, to: np.moveaxis(g, to, source), form="linear", views=True
)
rule(
    np.roll,
    lambda g, _y, _x, shift, axis=None: np.roll(g, np.negative(shift), axis),
    form="linear",
)
rule(
    np.rot90,
    lambda g, _y, _x, k=1, axes=(0, 1): np.rot90(g, np.negative(k), axes),
    form="linear",
    views=True,
)


def _transpose_back(g: Any, _y: Any, _x: Any, axes: Any = None) -> Any:
    return np.transpose(g, None if axes is None else np.argsort(normalize_axis_tuple(axes, g.ndim)))


rule(np.transpose, _transpose_back, form="linear", views=True)

# -- joining


def concatenate(*arrays: Any, axis: int, starts: Any, **options: Any) -> Any:  # noqa: ARG001
    """`np.concatenate` of its arguments; the derivative reads where each one `starts`."""
    return np.concatenate(arrays, axis, **options)


def _concatenate_back(
    i: int, g: Any, _y: Any, *_arrays: Any, axis: int, starts: Any, **_options: Any
) -> Any:
    return g[along_axis(axis, slice(starts[i], starts[i + 1]))]


def stack(*arrays: Any, axis: int, **options: Any) -> Any:
    """`np.stack` of its arguments."""
    return np.stack(arrays, axis, **options)


rule(concatenate, each=_concatenate_back, form="linear")
rule(
    stack,
    each=lambda i, g, _y, *_arrays, axis, **_options: g[along_axis(axis, i)],
    form="linear",
)

_MOST = 256  # arrays joined at once: each derivative receives all, so time grows as the square


def _joined(join: Function, arrays: Sequence[Any], axis: int, options: dict[str, Any]) -> Any:
    """Join the arrays along an axis, first in groups if they are many."""
    if len(arrays) > _MOST:
        groups = [arrays[i : i + _MOST] for i in range(0, len(arrays), _MOST)]
        return _concatenate([_joined(join, group, axis, options) for group in groups], axis)
    if join is concatenate:
        lengths = [math.prod(a.shape[axis : axis + 1]) for a in arrays]
        options = {"starts": (0, *itertools.accumulate(lengths)), **options}
    return apply(join, arrays, {"axis": axis, **options})


def _items(arrays: Any) -> Sequence[Any]:
    """The arrays to join: the items of a sequence, or of a tensor along its first axis."""
    if isinstance(arrays, Tensor):
        return np.unstack(arrays)
    return [as_operand(a, "concatenate") for a in arrays]


@composite(np.concatenate, of_sequences=True)
def _concatenate(arrays: Any, axis: int | None = 0, **options: Any) -> Any:
    arrays = _items(arrays)
    if axis is None:
        arrays, axis = [np.ravel(a) for a in arrays], 0
    return _joined(concatenate, arrays, normalize_axis_index(axis, arrays[0].ndim), options)


@composite(np.stack, of_sequences=True)
def _stack(arrays: Any, axis: int = 0, **options: Any) -> Any:
    arrays = _items(arrays)
    return _joined(stack, arrays, normalize_axis_index(axis, arrays[0].ndim + 1), options)


@composite(np.hstack, of_sequences=True)
def _hstack(tup: Any, **options: Any) -> Any:
    arrays = [np.atleast_1d(a) for a in _items(tup)]
    return np.concatenate(arrays, min(arrays[0].ndim - 1, 1), **options)


@composite(np.vstack, of_sequences=True)
def _vstack(tup: Any, **options: Any) -> Any:
    return np.concatenate([np.atleast_2d(a) for a in _items(tup)], 0, **options)


@composite(np.dstack, of_sequences=True)
def _dstack(tup: Any) -> Any:
    return np.concatenate([np.atleast_3d(a) for a in _items(tup)], 2)


@composite(np.column_stack, of_sequences=True)
def _column_stack(tup: Any) -> Any:
    columns = [a if a.ndim > 1 else np.reshape(a, (-1, 1)) for a in _items(tup)]
    return np.concatenate(columns, 1)


@composite(np.append)
def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return np.concatenate([asarray(arr), asarray(values)], axis)


@composite(np.block, of_sequences=True)
def _block(arrays: Any) -> Any:
    depth, first = 0, arrays
    while isinstance(first, list):
        depth, first = depth + 1, first[0]

    ndim = np.block(_plain(arrays)).ndim  # raises NumPy's errors
    blocks = _nested(arrays, -depth, ndim)
    return blocks if depth else blocks.copy()


def _plain(part: Any) -> Any:
    """Replace the tensors in nested lists by their arrays."""
    return [*map(_plain, part)] if isinstance(part, list) else plain(asarray(part))


def _nested(part: Any, axis: int, ndim: int) -> Any:
    """Concatenate nested lists: the outermost list along `axis`, those in it along the next."""
    if axis:
        return np.concatenate([_nested(p, axis + 1, ndim) for p in part], axis)
    part = asarray(part)
    return part.reshape((1,) * (ndim - part.ndim) + part.shape)


# -- splitting


@shown_as("split")
def pieces(x: Any, indices_or_sections: Any, axis: int) -> Any:
    """`np.array_split`, as a tuple."""
    return tuple(np.array_split(x, indices_or_sections, axis))


def _pieces_back(g: Any, _y: Any, _x: Any, indices_or_sections: Any, axis: int) -> Any:
    joined = np.concatenate(g, axis)
    numbers = np.arange(_x.shape[axis])
    origins = np.concatenate(np.array_split(numbers, indices_or_sections))
    if np.array_equal(origins, numbers):
        return joined
    return scatter(joined, along_axis(axis % _x.ndim, origins), _x.shape)  # pieces overlap


rule(pieces, _pieces_back, form="linear", views=True)
rule(np.unstack, lambda g, _y, _x, *, axis=0: np.stack(g, axis), form="linear", views=True)


@composite(np.array_split)
def _array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    return [*apply(pieces, (ary, indices_or_sections, axis))]


@composite(np.split)
def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    np.split(plain(ary), indices_or_sections, axis)  # NumPy checks the arguments, on views
    return np.array_split(ary, indices_or_sections, axis)


def _split_along(fun: Function, axis: int, ary: Any, indices_or_sections: Any) -> Any:
    fun(plain(ary), indices_or_sections)
    return np.array_split(ary, indices_or_sections, axis % ary.ndim)


composite(np.hsplit)(partial(_split_along, np.hsplit, 1))
composite(np.vsplit)(partial(_split_along, np.vsplit, 0))
composite(np.dsplit)(partial(_split_along, np.dsplit, 2))


# -- repeating


def _repeat_back(g: Any, _y: Any, _a: Any, repeats: Any, axis: int | None = None) -> Any:
    shape = (_a.size,) if axis is None else _a.shape or (1,)
    axis = normalize_axis_index(axis or 0, len(shape))
    if np.size(repeats) != 1:
        origins = np.repeat(np.arange(shape[axis]), repeats)
        return scatter(g, along_axis(axis, origins), shape).reshape(_a.shape)
    each = (*shape[: axis + 1], np.ravel(repeats)[0], *shape[axis + 1 :])
    return np.sum(g.reshape(each), axis + 1, dtype=working_dtype(g.dtype)).reshape(_a.shape)


rule(np.repeat, _repeat_back, form="linear")


@composite(np.tile)
def _tile(A: Any, reps: Any) -> Any:  # noqa: N803
    reps = np.atleast_1d(reps).tolist()
    ndim = max(A.ndim, len(reps))
    shape = (1,) * (ndim - A.ndim) + A.shape
    pairs = [*zip([1] * (ndim - len(reps)) + reps, shape)]
    ones = [length for n in shape for length in (1, n)]
    tiled = np.broadcast_to(A.reshape(ones), [length for pair in pairs for length in pair])
    return tiled.copy().reshape([repeats * n for repeats, n in pairs])


# -- windows


@differentiable(
    lambda g, _y, _windows, window, axes, _shape: sliding_window_view(g, window, axes),
    form="linear",
)
@shown_as("sliding_window_view")
def _overlaid(windows: Any, window: Any, axes: Any, shape: tuple[int, ...]) -> Any:
    """Add each window to an array of zeros at the position that it was taken from."""
    out = np.zeros(shape, working_dtype(windows.dtype))
    lengths = windows.shape[: len(shape)]
    for offsets in np.ndindex(*window):
        starts = [0] * len(shape)
        for axis, offset in zip(axes, offsets):
            starts[axis] += offset
        part = tuple([slice(start, start + n) for start, n in zip(starts, lengths)])
        out[part] += windows[(..., *offsets)]
    return out.astype(windows.dtype, copy=False)


def _sliding_window_back(
    g: Any, _y: Any, _x: Any, _window_shape: Any, axis: Axis = None, **_options: Any
) -> Any:
    axes = normalize_axis_tuple(range(_x.ndim) if axis is None else axis, _x.ndim, "axis", True)
    return _overlaid(g, g.shape[_x.ndim :], axes, _x.shape)


rule(sliding_window_view, _sliding_window_back, form="linear", views=True)


# -- padding


@shown_as("pad")
def padded(x: Any, widths: Any, mode: Any, **options: Any) -> Any:
    """`np.pad` with constants, or without initializing the padding."""
    return np.pad(x, widths, mode, **options)


def _unpadded(g: Any, _y: Any, _x: Any, widths: Any, _mode: Any, **_options: Any) -> Any:
    starts = np.broadcast_to(widths, (_x.ndim, 2))[:, 0].tolist()
    return g[tuple([slice(start, start + n) for start, n in zip(starts, _x.shape)])]


rule(padded, _unpadded)

# The functions for the other modes, and for tracked constants, pad the first axis of a tensor x.


def _filled(x: Any, widths: Any, values: Any) -> Any:
    """Pad with two values, or two rows of values: the first before `x`, the second after it."""
    before, after = [
        np.broadcast_to(asarray(value).astype(x.dtype), (width, *x.shape[1:]))
        for width, value in zip(widths, values)
    ]
    return np.concatenate([before, x, after])


def _constant(x: Any, widths: Any, constant_values: Any = (0, 0)) -> Any:
    return _filled(x, widths, constant_values)


def _ramps(x: Any, widths: Any, end_values: Any = (0, 0)) -> Any:
    def ramp(width: int, end: Any, edge: Any) -> Any:
        edge = edge.astype(np.result_type(edge.dtype, np.float64))
        steps = np.arange(width).reshape(-1, *[1] * (x.ndim - 1))
        return (steps * ((edge - end) / max(width, 1)) + end).astype(x.dtype)

    before, after = map(ramp, widths, end_values, (x[:1], x[-1:]))
    return np.concatenate([before, x, after[::-1]])


def _statistic(fun: Function, x: Any, widths: Any, stat_length: Any = None) -> Any:
    wanted = (len(x), len(x)) if stat_length is None else stat_length
    lengths = [min(int(n), len(x)) for n in wanted]
    rows = x[: lengths[0]], x[len(x) - lengths[1] :]
    return _filled(x, widths, [fun(part, axis=0, keepdims=True) for part in rows])


def _moved(mode: Any, x: Any, widths: Any) -> Any:
    return np.take(x, np.pad(np.arange(len(x)), widths, mode), 0)


def _reflected(mode: str, x: Any, widths: Any, reflect_type: str = "even") -> Any:
    if reflect_type != "odd" or len(x) == 1:
        return _moved(mode, x, widths)
    before, after = widths
    edge = 1 if mode == "reflect" else 0  # the elements at each end that are not repeated
    period = len(x) - edge
    while before or after:
        reach = (len(x) - edge) // period * period
        left, right = min(before, reach), min(after, reach)
        end = len(x) - edge
        x = np.concatenate(
            [
                2 * x[:1] - x[edge : edge + left][::-1],
                x,
                2 * x[-1:] - x[end - right : end][::-1],
            ]
        )
        before, after = before - left, after - right
    return x


_PADDINGS: dict[Any, Function] = {
    "constant": _constant,
    "empty": padded,
    "edge": partial(_moved, "edge"),
    "wrap": partial(_moved, "wrap"),
    "reflect": partial(_reflected, "reflect"),
    "symmetric": partial(_reflected, "symmetric"),
    "linear_ramp": _ramps,
    "maximum": partial(_statistic, np.max),
    "minimum": partial(_statistic, np.min),
    "mean": partial(_statistic, np.mean),
    "median": partial(_statistic, np.median),
}


@composite(np.pad)
def _pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    padding = None if callable(mode) else _PADDINGS.get(mode)
    if padding is None:
        raise NoRuleError(
            f"pad has no derivative in mode {mode!r}: pad with numpy.concatenate, " + OR_DETACH
        )
    if isinstance(pad_width, dict):
        widths, pad_width = pad_width, np.zeros((array.ndim, 2), int)
        for axis, width in widths.items():
            pad_width[axis] = width
    if np.asarray(pad_width).dtype.kind != "i" or np.any(np.less(pad_width, 0)):
        raise ValueError(f"pad: the widths must be integers of 0 or more, not {pad_width}")
    constants = options.get("constant_values")
    if mode == "empty" or (mode == "constant" and not getattr(constants, "requires_grad", False)):
        return apply(padded, (array, pad_width, mode), options)
    pairs = {
        name: np.broadcast_to(asarray(value), (array.ndim, 2))
        for name, value in options.items()
        if name != "reflect_type" and value is not None
    }
    x: Any = array.copy()
    for axis, width in enumerate(np.broadcast_to(pad_width, (array.ndim, 2)).tolist()):
        if any(width):
            if not x.shape[axis] and mode != "constant":
                raise ValueError(f"pad: cannot extend the empty axis {axis} in mode {mode!r}")
            row = {name: value[axis] for name, value in pairs.items()}
            rows = padding(np.moveaxis(x, axis, 0), width, **{**options, **row})
            x = np.moveaxis(rows, 0, axis)
    return x


# -- trimming, and functions along axes


@composite(np.trim_zeros)
def _trim_zeros(filt: Any, trim: str = "fb", axis: Axis = None) -> Any:
    trim = trim.lower()
    if trim not in ("f", "b", "fb", "bf"):
        raise ValueError(f"trim_zeros: trim must be 'f', 'b' or 'fb', not {trim!r}")
    axes = normalize_axis_tuple(range(filt.ndim) if axis is None else axis, filt.ndim)
    nonzero = np.argwhere(plain(filt))
    index = [slice(None)] * filt.ndim
    for i in axes:
        start = nonzero[:, i].min() if len(nonzero) and "f" in trim else 0
        stop = nonzero[:, i].max() + 1 if "b" in trim else filt.shape[i]
        index[i] = slice(start, stop) if len(nonzero) else slice(0, 0)
    return filt[tuple(index)]


@composite(np.apply_along_axis)
def _apply_along_axis(func1d: Function, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    axis = normalize_axis_index(axis, arr.ndim)
    rows = np.moveaxis(arr, axis, -1)
    *outer, length = rows.shape
    if not math.prod(outer):
        raise ValueError(f"apply_along_axis: no slices along axis {axis} of shape {arr.shape}")
    rows = np.unstack(rows.reshape(math.prod(outer), length))
    results: Any = asarray(np.stack([asarray(func1d(row, *args, **kwargs)) for row in rows]))
    results = results.reshape(*outer, *results.shape[1:])
    inner = results.ndim - len(outer)
    return np.moveaxis(results, [*range(-inner, 0)], [*range(axis, axis + inner)])


@composite(np.apply_over_axes)
def _apply_over_axes(func: Function, a: Any, axes: Any) -> Any:
    for axis in np.atleast_1d(axes).tolist():
        axis = normalize_axis_index(axis, a.ndim)
        reduced = func(a, axis)
        if reduced.ndim < a.ndim:
            reduced = np.expand_dims(reduced, axis)
        if reduced.ndim != a.ndim:
            raise ValueError(
                f"apply_over_axes: {func} returned {reduced.ndim} axes for an array of {a.ndim}"
            )
        a = reduced
    return a
