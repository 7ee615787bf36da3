"""`vmap`: a function of one sample becomes a function of many."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from .engine.batching import Level, enter, leave, levels_of
from .engine.graph import now
from .engine.modes import mode, plain
from .engine.randomness import Generators, running
from .engine.tensor import Tensor, asarray
from .engine.variable import tensor_of
from .linearization import parameter_name
from .tree import MismatchError, flatten, flatten_up_to, require_arrays

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
        axes = [
            *_spread(in_axes, args, "in_axes", "the arguments"),
            *[0] * (len(leaves) - len(flatten(args)[0])),
        ]
        samples = [_Samples(x, axis) for x, axis in zip(leaves, axes, strict=True)]
        level = Level(_count(samples, lambda i: _shown(f, structure.paths()[i])), now())
        token = running.set((*running.get(), level))
        try:
            given, by_name = structure.unflatten(sample.of(level) for sample in samples)
            results, y_structure = flatten(f(*given, **by_name))
        finally:
            running.reset(token)
            level.ended = True
        keep = any(isinstance(x, Tensor) for x in leaves)
        require_arrays(results, y_structure, "vmap", "output{}".format, "leave it out")
        axes = _spread(out_axes, y_structure.unflatten(results), "out_axes", "the output")
        for i, (y, axis) in enumerate(zip(results, axes, strict=True)):
            if axis is None and level in levels_of(plain(y)):
                raise ValueError(
                    f"vmap: out_axes is None for output{y_structure.paths()[i]}, but each sample "
                    "has a value of its own: name the axis for the samples"
                )
        return y_structure.unflatten(
            _result(y, axis, level, keep) for y, axis in zip(results, axes, strict=True)
        )

    return mapped  # type: ignore[return-value]


class _Samples(NamedTuple):
    """An argument's leaf, which has the samples along an axis, or is the same for all."""

    value: Any
    axis: int | None

    def of(self, level: Level) -> Any:
        """What `f` gets for it."""
        if self.axis is None:
            return self.value
        if isinstance(self.value, np.random.Generator):
            return Generators(level, self.value)
        x = asarray(self.value)
        if x.requires_grad:
            return enter(x, level, normalize_axis_index(self.axis, x.ndim))
        return tensor_of(enter(plain(x), level, self.axis), None)

    def number(self, path: Callable[[], str]) -> int | None:
        """How many samples there are; None, if it does not say. `path` names it in errors."""
        if self.axis is None or isinstance(self.value, np.random.Generator):
            return None
        shape = np.shape(self.value)
        if not -len(shape) <= self.axis < len(shape):
            what = f"has shape {shape}" if shape else "is a number"
            raise ValueError(
                f"vmap: {path()} {what}, without an axis {self.axis} of samples: pass None for "
                "it in in_axes, if it is the same for all"
            )
        return int(shape[self.axis])


def _count(samples: list[_Samples], path: Callable[[int], str]) -> int:
    """How many samples the arguments have; `path(i)` names a leaf in errors."""
    counts = [sample.number(functools.partial(path, i)) for i, sample in enumerate(samples)]
    different = {n for n in counts if n is not None}
    if len(different) > 1:
        told = ", ".join(
            f"{path(i)} has {n} along axis {samples[i].axis}"
            for i, n in enumerate(counts)
            if n is not None
        )
        raise ValueError(f"vmap: the arguments differ in their number of samples: {told}")
    if not different:
        raise ValueError("vmap: no argument has samples: in_axes must name an axis of an array")
    return different.pop()


def _spread(axes: Any, tree: Any, name: str, own: str) -> list[int | None]:
    """The axis of each leaf of a tree, from a tree of axes that starts like it."""
    if isinstance(axes, list) and isinstance(tree, tuple):
        axes = tuple(axes)
    found, structure = flatten(axes, lambda a: a is None)
    for axis in found:
        if not (axis is None or (isinstance(axis, (int, np.integer)) and type(axis) is not bool)):
            raise TypeError(f"vmap: {name} must hold numbers of axes and None, not {axis!r}")
    try:
        parts = flatten_up_to(structure, tree)
    except MismatchError as error:
        raise ValueError(f"vmap: {name} must start like {own}: {error.told(name, own)}") from None
    return [axis for axis, part in zip(found, parts, strict=True) for _ in range(_leaves(part))]


def _leaves(tree: Any) -> int:
    return len(flatten(tree)[0])


def _shown(f: Any, path: str) -> str:
    """The path of a leaf of `(args, kwargs)`, as the caller would write it."""
    index, _, rest = path[4:].partition("]")
    if path.startswith("[1]"):
        return index.strip("'\"") + rest
    return parameter_name(f, int(index)) + rest


def _result(y: Any, axis: int | None, level: Level, keep: bool) -> Any:
    """A result with its samples along an axis: a tensor if it is tracked, or with `keep`."""
    if isinstance(y, Tensor) and y.requires_grad and mode.get().recording:
        return y if axis is None else leave(y, level, axis)
    y = plain(y) if axis is None else leave(plain(y), level, axis)
    return tensor_of(y, None) if keep else y
