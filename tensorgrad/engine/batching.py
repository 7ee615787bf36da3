"""`Batch`: many arrays that NumPy code treats as one, to compute with all of them in one pass."""
# ruff: noqa: D102 (the attributes of a batch are those of an array)

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.lib.mixins import NDArrayOperatorsMixin

from .. import tree
from .frames import PACKAGE
from .registry import IN_PLACE, name_of, rule, rule_of, shown_as
from .typing import F, Function

_ALL = slice(None)
_PLAIN = frozenset({np.ndarray, bool, int, float, complex, type(None)})  # no batch, no tensor
_BASIC = frozenset({int, slice, type(None), type(...)})  # parts of an index that are no arrays


class NotBatchedError(TypeError, AttributeError):
    """An operation does not work on a batch: apply it to the arrays one by one."""


class Level:
    """An axis that NumPy code does not see: of the samples of a `vmap`, or the rows of a Jacobian.

    `count` is its length. Of nested levels, that with the greater serial number is the inner one.
    While the function runs, cotangents are those of each sample. After it has `ended`, they are
    summed for nodes that have one value for all samples.
    """

    __slots__ = ("count", "ended", "serial")

    def __init__(self, count: int, serial: int) -> None:
        self.count = count
        self.serial = serial
        self.ended = False

    def batch(self, arrays: Any) -> Batch:
        """The batch of arrays stacked along a first axis."""
        return Batch(arrays, self)

    def owns(self, value: Any) -> bool:
        """Whether a value has an array for each sample of this level."""
        return type(value) is Batch and value.level is self

    def aligned(self, values: Sequence[Any], ndim: int = 0) -> list[Any]:
        """The values, with arrays in place of batches, so that they broadcast as one sample's do.

        The arrays get new axes after that of the samples: as many axes as the value with the most
        axes has, and at least `ndim`.
        """
        aligned: list[Any] = []
        for value in values:
            if type(value) is Batch and value.level is self:
                value = value.arrays
                own = value.ndim - 1
            else:
                own = ndim_of(value)
            aligned.append(value)
            if own > ndim:
                ndim = own
        for i, value in enumerate(values):
            a = aligned[i]
            if a is not value and a.ndim <= ndim:
                aligned[i] = a.reshape(len(a), *(1,) * (ndim + 1 - a.ndim), *a.shape[1:])
        return aligned

    def stacked(self, value: Any) -> Any:
        """The arrays of a batch; another array, repeated for each sample."""
        if self.owns(value):
            return value.arrays
        return np.broadcast_to(value, (self.count, *np.shape(value)))

    def sum(self, g: Any) -> Any:
        """The sum over all samples."""
        return np.add.reduce(leave(g, self, 0), axis=0)


class Batch(NDArrayOperatorsMixin):
    """Arrays of one shape, stacked along the first axis of `arrays`: the samples of a level.

    Its shape is that of one array, and NumPy functions are applied to each array: to all at once if
    they are element-wise or in the table of `batched`, else one by one.
    """

    __slots__ = ("arrays", "level")

    def __init__(self, arrays: Any, level: Level) -> None:
        self.arrays = arrays
        self.level = level

    @property
    def shape(self) -> tuple[int, ...]:
        return self.arrays.shape[1:]  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self.arrays.ndim - 1  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays.dtype  # type: ignore[no-any-return]

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def base(self) -> None:
        """None, as for an array that owns its memory."""

    @property
    def T(self) -> Any:
        return np.transpose(self)

    @property
    def mT(self) -> Any:
        if self.ndim < 2:
            raise ValueError("matrix transpose with fewer than two axes")
        return self.level.batch(self.arrays.mT)

    @property
    def real(self) -> Any:
        return np.real(self)

    @property
    def imag(self) -> Any:
        return np.imag(self)

    def reshape(self, *shape: Any) -> Any:
        return AT_ONCE[np.reshape](self.level, self, shape[0] if len(shape) == 1 else shape)

    def ravel(self) -> Any:
        return self.reshape(-1)

    def astype(self, dtype: Any, order: str = "K", copy: bool = True) -> Batch:  # noqa: ARG002
        return self.level.batch(self.arrays.astype(dtype, copy=copy))

    def view(self, dtype: Any) -> Batch:
        if np.dtype(dtype).itemsize != self.itemsize:
            raise NotBatchedError("a view with other shapes")
        return self.level.batch(self.arrays.view(dtype))

    def copy(self, order: str = "C") -> Batch:  # noqa: ARG002
        return self.level.batch(self.arrays.copy())

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return np.add.reduce(self, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]

    def take(self, indices: Any, axis: Any = None, mode: Any = "raise") -> Any:
        return np.take(self, indices, axis, mode=mode)

    def all(self, axis: Any = None) -> Any:
        return np.all(self, axis=axis)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"array(<{len(self.arrays)} samples of shape {self.shape}>, dtype={self.dtype})"

    def as_array(self) -> Batch:
        """Return the batch itself, which is an array for the engine."""
        return self

    def __getitem__(self, index: Any) -> Any:
        parts = index if type(index) is tuple else (index,)
        if _BASIC.issuperset(map(type, parts)):
            return self.level.batch(self.arrays[(_ALL, *parts)])
        return call(operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        call(operator.setitem, (self, index, value), {})

    def __array__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise NotBatchedError(_shown("a plain array of it"))

    def __bool__(self) -> NoReturn:
        raise NotBatchedError(
            _shown(
                "a decision (if, while, and, or, not, bool)",
                "use numpy.where, or tensorgrad.cond and tensorgrad.while_loop",
            )
        )

    def _number(self) -> NoReturn:
        raise NotBatchedError(_shown("a Python number (float, int, index, range, item)"))

    __int__ = __float__ = __complex__ = __index__ = item = tolist = _number

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        level = self.level
        for a in inputs:
            kind = type(a)
            if kind is Batch:
                if a.level.serial > level.serial:
                    level = a.level
            elif kind not in _PLAIN and _is_tensor(a):
                return NotImplemented
        if method == "__call__" and not kwargs:
            if ufunc.signature is None:
                out = ufunc(*level.aligned(inputs))
                return tuple(map(level.batch, out)) if isinstance(out, tuple) else level.batch(out)
            if ufunc is np.matmul:
                return AT_ONCE[ufunc](level, *inputs)
        if method == "at" and not level_of(inputs).owns(inputs[0]):  # an index may be a tuple
            raise NotBatchedError(_shared(f"{ufunc.__name__}.at"))
        return call(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, fun: Function, types: Any, args: Any, kwargs: Any) -> Any:
        if any(hasattr(kind, "_node") for kind in types):
            return NotImplemented
        return call(fun, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        raise NotBatchedError(f"the samples of a vmap have no attribute {name!r}")


def _shown(what: str, cure: str = "use NumPy's functions, or do this outside of the vmap") -> str:
    return f"vmap: {what} is asked for, where each sample has a value of its own: {cure}"


def _shared(name: str) -> str:
    return (
        f"vmap: {name} would write a value for each sample into one array, which they share: "
        "return the values, or write into an array that the function makes"
    )


def _is_tensor(value: Any) -> bool:
    """Whether it is a tensor, whose class decides first; it is defined above this file."""
    return hasattr(type(value), "_node")


def ndim_of(value: Any) -> int:
    """Return `np.ndim`, in a fraction of the time for arrays."""
    kind = type(value)
    if kind is np.ndarray or kind is Batch:
        return value.ndim  # type: ignore[no-any-return]
    return 0 if kind in _PLAIN else np.ndim(value)


# -- levels


def levels_of(array: Any) -> Iterator[Level]:
    """Yield the levels of nested batches, the innermost first."""
    while type(array) is Batch:
        yield array.level
        array = array.arrays


def level_of(values: Iterable[Any]) -> Level:
    """Return the innermost level of the batches among values, and in lists and tuples of them."""
    batches = _batches(values)
    level = next(batches).level
    for batch in batches:
        if batch.level.serial > level.serial:
            level = batch.level
    return level


def _batches(values: Iterable[Any]) -> Iterator[Batch]:
    for value in values:
        kind = type(value)
        if kind is Batch:
            yield value
        elif kind is tuple or kind is list:
            yield from _batches(value)
        elif _is_tensor(value) and type(value._array) is Batch:
            yield value._array


def require_one_sample(*values: Any) -> None:
    """Raise NotBatchedError if there is a batch among values, so that samples come one by one."""
    if next(_batches(values), None) is not None:
        raise NotBatchedError("a function that looks at elements")


@shown_as("vmap")
def enter(x: Any, level: Level, axis: int) -> Any:
    """Make an axis of an array that of the samples."""
    if _is_tensor(x):
        return x.__array_function__(enter, (), (x, level, axis), {})
    axis = normalize_axis_index(axis, x.ndim)
    if type(x) is Batch and x.level.serial > level.serial:
        return x.level.batch(enter(x.arrays, level, axis + 1))
    return level.batch(np.moveaxis(x, axis, 0) if axis else x)


@shown_as("vmap")
def leave(x: Any, level: Level, axis: int) -> Any:
    """Make the samples of a level an axis of an array: the inverse of `enter`."""
    if _is_tensor(x):
        return x.__array_function__(leave, (), (x, level, axis), {})
    if axis:
        axis = normalize_axis_index(axis, ndim_of(x) + 1)
    if type(x) is Batch and x.level.serial > level.serial:
        return x.level.batch(leave(x.arrays, level, axis + 1))
    arrays = level.stacked(x)
    return np.moveaxis(arrays, 0, axis) if axis else arrays


rule(enter, lambda g, _y, _x, level, axis: leave(g, level, axis), form="linear")
rule(leave, lambda g, _y, _x, level, axis: enter(g, level, axis), form="linear")


def without_levels(array: Any) -> Any:
    """Return the array in nested batches, with an axis for each level in front."""
    while type(array) is Batch:
        array = array.arrays
    return array


def with_levels_of(like: Any, array: Any) -> Any:
    """Return the batch of an array, as `like` is one of `without_levels(like)`."""
    if type(like) is Batch:
        return like.level.batch(with_levels_of(like.arrays, array))
    return array


# -- calls

AT_ONCE: dict[Function, Callable[..., Any]] = {}
"""Functions of a level and the arguments of a call, which compute all samples at once."""


def call(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any], one: Any = None) -> Any:
    """Call a function with batches among its arguments; `one` is what to call for one sample."""
    level = level_of((*args, *kwargs.values()))
    at_once = AT_ONCE.get(fun)
    if "out" in kwargs:
        return _write(level, fun, args, **kwargs)
    if (fun in IN_PLACE or fun is operator.setitem) and not level.owns(args[0]):
        raise NotBatchedError(_shared(name_of(fun)))
    if kwargs and next(_batches(kwargs.values()), None) is not None:
        at_once = None
    elif at_once is not None:
        try:
            return at_once(level, *args, **kwargs)
        except NotBatchedError:
            pass  # contextlib.suppress would take a microsecond
    elif _is_elementwise(fun) and "where" not in kwargs:
        return level.batch(fun(*level.aligned(args), **kwargs))
    elif str(getattr(fun, "__module__", "")).startswith(f"{PACKAGE}."):
        body = getattr(fun, "__wrapped__", None)  # the body of our own operation is NumPy code
        if body is not None:
            with contextlib.suppress(NotBatchedError):
                return body(*args, **kwargs)
    return one_by_one(one or fun, args, kwargs)


def _is_elementwise(fun: Function) -> bool:
    own = rule_of(fun)
    return own is not None and own.form == "elementwise"


def _write(level: Level, fun: Function, args: Any, out: Any, **kwargs: Any) -> Any:
    """Call a function that writes its result into `out`."""
    (target,) = out if isinstance(out, tuple) else (out,)
    if not level.owns(target):
        raise NotBatchedError(_shared(name_of(fun)))
    target[...] = fun(*args, **kwargs)
    return target


def one_by_one(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call `fun` for each sample of the innermost level, and stack the results."""
    leaves, structure = tree.flatten((tuple(args), dict(kwargs)))
    level = level_of(leaves)
    # The derivative by a tensor that all samples share differs from sample to sample.
    leaves = [
        leave(x, level, 0)
        if level in _levels_in(x) or (_is_tensor(x) and x._node is not None)
        else _Same(x)
        for x in leaves
    ]
    results = []
    for i in range(level.count):
        items = [x.value if type(x) is _Same else x[i, ...] for x in leaves]
        results.append(_of_one(fun, *structure.unflatten(items)))
    if not results:  # call it once for the shapes
        items = [x.value if type(x) is _Same else np.ones(x.shape[1:], x.dtype) for x in leaves]
        result = _of_one(fun, *structure.unflatten(items))
        return tree.map(lambda y: level.batch(np.stack([y])[:0]), result)

    _require_given(name_of(fun), level, results, leaves)

    def together(*parts: Any) -> Any:
        shapes = {np.shape(part) for part in parts}
        if len(shapes) > 1:
            raise ValueError(
                f"vmap: {name_of(fun)} gives the samples arrays of different shapes, "
                f"{', '.join(map(str, sorted(shapes)))}: use a mask and numpy.where instead"
            )
        return enter(np.stack(parts), level, 0)

    return tree.map(together, *results)


def _of_one(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call `fun` for a sample, which may be a batch of an outer level."""
    try:
        return fun(*args, **kwargs)
    except NotBatchedError:
        if next(_batches(tree.leaves((args, kwargs))), None) is None:
            raise
        return one_by_one(fun, args, kwargs)


def _require_given(name: str, level: Level, results: Any, given: Sequence[Any]) -> None:
    """Raise a TypeError if results depend on a leaf that the call was not given, as an argument.

    While a vmap runs, the gradient of its leaves is that of each sample; here it would be the sum.
    """
    seen = {x._node for x in given if _is_tensor(x)}
    found = [] if level.ended else [y._node for y in tree.leaves(results) if _is_tensor(y)]
    while found:
        node = found.pop()
        if node is None or node in seen or node.serial < level.serial:
            continue
        seen.add(node)
        if not node.parents and level not in getattr(node, "levels", ()):
            raise TypeError(
                f"vmap: {name} takes the samples one by one, and a function among its arguments "
                "uses a tensor that is differentiated, from outside: write it with numpy.where"
            )
        found += node.parents or ()


def per_sample(fun: F) -> F:
    """Let a function that looks at elements take samples one by one."""

    @functools.wraps(fun)
    def each(*args: Any, **kwargs: Any) -> Any:
        if next(_batches((*args, *kwargs.values())), None) is None:
            return fun(*args, **kwargs)
        return one_by_one(fun, args, kwargs)

    return each  # type: ignore[return-value]


class _Same:
    """A value that all samples share."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _levels_in(value: Any) -> Iterator[Level]:
    return levels_of(value._array if _is_tensor(value) else value)
