"""`vmap`: a function of one sample becomes a function of many."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from .engine.batching import Level, enter, leave, levels_of
from .engine.graph import now
from .engine.modes import mode, plain
from .engine.randomness import Generators, running
from .engine.tensor import Tensor, asarray
from .engine.variable import tensor_of
from .engine.views import owner_of
from .linearization import parameter_name
from .tree import MismatchError, TreeDef, flatten, flatten_up_to, require_arrays

F = TypeVar("F", bound=Callable[..., Any])


def vmap(f: F, in_axes: Any = 0, out_axes: Any = 0) -> F:
    """Return the function that calls `f` for each sample, and stacks the results.

    `f` is a function of one sample. The new function gets all samples at once: each array argument
    has one axis more, the one that `in_axes` names, and so has each result, where `out_axes` says.
    Both are a number; or None, for what all samples share; or a tree of these that starts like the
    arguments or the results, such as `(None, 0)` or `({"w": None, "x": 0}, 1)`. Keyword arguments
    have the samples in their first axis. NumPy computes all samples in one call where it can, and
    one by one where it cannot. Results are arrays; tensors, if an argument is one, or if they can
    be differentiated.

    A random layer draws other numbers for each sample. A NumPy Generator with an axis in `in_axes`
    gives each sample a generator of its own, by `spawn`. A decision by a value of a sample raises a
    TypeError: use `numpy.where`, `tg.cond` or `tg.while_loop`.

    >>> tg.vmap(np.dot)(np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones((2, 2)))
    array([3., 7.])
    >>> loss = lambda w, x, y: (np.tanh(w @ x) - y) ** 2
    >>> per_sample = tg.vmap(tg.grad(loss), in_axes=(None, 0, 0))
    >>> per_sample(np.zeros(2), np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 0.5]))
    array([[-2., -4.],
           [-3., -4.]])
    """
    if not callable(f):
        raise TypeError("vmap: takes a function, and returns a function: write vmap(f)(x)")

    @functools.wraps(f)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = flatten((args, kwargs))
        of_args, of_kwargs = structure.children
        axes = _spread(in_axes, args, of_args, "in_axes", "the arguments")
        axes += [0] * of_kwargs.num_leaves
        count = _count(leaves, axes, lambda i: _shown(f, structure.paths()[i]))
        level = Level(count, now())
        token = running.set((*running.get(), level))
        try:
            given, by_name = structure.unflatten(
                [_given(x, axis, level) for x, axis in zip(leaves, axes)]
            )
            tree = f(*given, **by_name)
            results, y_structure = flatten(tree)
        finally:
            running.reset(token)
            level.ended = True
        keep = any(isinstance(x, Tensor) for x in leaves)
        require_arrays(results, y_structure, "vmap", "output{}".format, "leave it out")
        axes = _spread(out_axes, tree, y_structure, "out_axes", "the output")
        for i, (y, axis) in enumerate(zip(results, axes)):
            _require_axis(y, axis, level, y_structure, i)
        results = [_result(y, axis, level, keep) for y, axis in zip(results, axes)]
        return y_structure.unflatten(results if keep else _apart(results, leaves))

    return mapped  # type: ignore[return-value]


def _given(value: Any, axis: int | None, level: Level) -> Any:
    """What `f` gets for an argument's leaf that has the samples along an axis, or for all."""
    if axis is None:  # an array as a tensor, so that writes to it stay inside
        is_array = type(value) is np.ndarray and value.dtype.kind in "fciub"
        return tensor_of(value, None) if is_array else value
    if isinstance(value, np.random.Generator):
        return Generators(level, value)
    x = asarray(value)
    if x.requires_grad:
        return enter(x, level, normalize_axis_index(axis, x.ndim))
    return tensor_of(enter(plain(x), level, axis), None)


def _count(leaves: list[Any], axes: list[int | None], path: Callable[[int], str]) -> int:
    """How many samples the arguments have; `path(i)` names a leaf in errors."""
    counts: dict[int, int] = {}  # by the leaf's position
    for i, (value, axis) in enumerate(zip(leaves, axes)):
        if axis is None or isinstance(value, np.random.Generator):
            continue
        shape = np.shape(value)
        if not -len(shape) <= axis < len(shape):
            what = f"has shape {shape}" if shape else "is a number"
            raise ValueError(
                f"vmap: {path(i)} {what}, without an axis {axis} of samples: pass None for it in "
                "in_axes, if it is the same for all"
            )
        counts[i] = shape[axis]
    different = {*counts.values()}
    if len(different) > 1:
        told = ", ".join(f"{path(i)} has {n} along axis {axes[i]}" for i, n in counts.items())
        raise ValueError(f"vmap: the arguments differ in their number of samples: {told}")
    if not different:
        raise ValueError("vmap: no argument has samples: in_axes must name an axis of an array")
    return different.pop()


def _spread(axes: Any, tree: Any, structure: TreeDef, name: str, own: str) -> list[int | None]:
    """The axis of each leaf of a tree, from a tree of axes that starts like it."""
    if type(axes) is int:
        return [axes] * structure.num_leaves
    if isinstance(axes, list) and structure.kind is tuple:
        axes = tuple(axes)
    found, start = flatten(axes, lambda a: a is None)
    for axis in found:
        if not (axis is None or (isinstance(axis, (int, np.integer)) and type(axis) is not bool)):
            raise TypeError(f"vmap: {name} must hold numbers of axes and None, not {axis!r}")
    if start.is_flat and start.kind is structure.kind is tuple and start.keys == structure.keys:
        counts = [child.num_leaves for child in structure.children]  # nearly always
    else:
        try:
            parts = flatten_up_to(start, tree)
        except MismatchError as error:
            told = error.told(name, own)
            raise ValueError(f"vmap: {name} must start like {own}: {told}") from None
        counts = [len(flatten(part)[0]) for part in parts]
    return [axis for axis, count in zip(found, counts) for _ in range(count)]


def _shown(f: Any, path: str) -> str:
    """The path of a leaf of `(args, kwargs)`, as the caller would write it."""
    index, _, rest = path[4:].partition("]")
    if path.startswith("[1]"):
        return index.strip("'\"") + rest
    return parameter_name(f, int(index)) + rest


def _require_axis(y: Any, axis: int | None, level: Level, structure: TreeDef, i: int) -> None:
    """Raise a ValueError if a result, the leaf `i`, cannot have its samples along an axis."""
    if axis is None and level in levels_of(plain(y)):
        raise ValueError(
            f"vmap: out_axes is None for output{structure.paths()[i]}, but each sample has a value "
            "of its own: name the axis for the samples"
        )
    if axis and not -(ndim := np.ndim(y) + 1) <= axis < ndim:
        raise ValueError(
            f"vmap: out_axes is {axis} for output{structure.paths()[i]}, but with the samples it "
            f"has {ndim} axes: name one from {-ndim} to {ndim - 1}"
        )


def _result(y: Any, axis: int | None, level: Level, keep: bool) -> Any:
    """A result with its samples along an axis: a tensor if it is tracked, or with `keep`."""
    if isinstance(y, Tensor) and y.requires_grad and mode.get().recording:
        return y if axis is None else leave(y, level, axis)
    y = plain(y) if axis is None else leave(plain(y), level, axis)
    return tensor_of(y, None) if keep else y


def _apart(results: list[Any], arguments: list[Any]) -> list[Any]:
    """The results, copied where they share memory: with arguments, each other or themselves."""
    owners = {id(owner_of(x)) for x in arguments if type(x) is np.ndarray}
    apart = []
    for y in results:
        if type(y) is np.ndarray:
            if not y.flags.writeable or id(owner_of(y)) in owners:
                y = y.copy()
            owners.add(id(owner_of(y)))
        apart.append(y)
    return apart
