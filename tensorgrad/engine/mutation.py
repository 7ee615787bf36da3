"""Writes to a tensor: it and the tensors that share its memory get new values.

A write never changes existing memory or a node. Each affected tensor gets a new array, in the same
layout, and a new node.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import GraphError
from .batching import (
    AT_ONCE,
    Batch,
    Level,
    levels_of,
    with_levels_of,
    without_levels,
)
from .custom import differentiable
from .dispatch import apply
from .families import relatives
from .interpreter import epoch
from .modes import enable_grad, mode, plain
from .operands import plain_index
from .primitives import assign
from .registry import name_of, shown_as
from .typing import Array, Function
from .variable import Variable
from .views import Layout, coincide, concrete, layout_of, memory_with, owner_of, view_in


def become(target: Variable, fun: Function, args: tuple[Any, ...], written: Any = None) -> Any:
    """Give a tensor the value of `fun(*args)`, and its views the values that follow; return it.

    `written` is the view of its elements that change, if not all do.
    """
    layouts = _overlapping(target, written) if target._family else {}
    for t in layouts or (target,):
        if t.is_leaf and t._node is not None and mode.get().recording:
            view = "" if t is target else f"a view of shape {target.shape}, of "
            raise GraphError(
                f"cannot change in place {view}a {t._node} that requires grad: do it under "
                "no_grad(), assign the tensor's .data, or compute a new tensor"
            )
    value = apply(fun, args)
    if type(value._array) is Batch and target._family:
        for level in levels_of(value._array):
            _enter(target, level)
        layouts = _overlapping(target, None)
    if value.shape != target.shape:
        raise ValueError(
            f"{name_of(fun)}: a result of shape {value.shape} does not fit in place into "
            f"a tensor of shape {target.shape}"
        )
    if value.dtype != target.dtype:
        if not np.can_cast(value.dtype, target.dtype, "same_kind"):
            raise TypeError(f"{name_of(fun)}: cannot cast {value.dtype} in place to {target.dtype}")
        value = value.astype(target.dtype)
    if layouts or not _same_layout(target, value):
        _write_through(target, value, layouts or {target: layout_of(target._array)})
    else:
        _take(target, value)
    if type(target._array) is not np.ndarray:
        mode.get().interpreter.changed(layouts or (target,))
    return target


def _enter(target: Variable, level: Level) -> None:
    """Give a tensor, and those that share its memory, an array for each sample of a level."""
    family = [target, *relatives(target)]
    if level in levels_of(target._array):
        return
    call, memory = mode.get().interpreter.call_whole, None
    for t in family:
        layout = layout_of(plain(t))
        batch = level.batch(np.copy(level.stacked(plain(t))))
        everywhere = layout.of_samples(batch)
        if memory is None:
            memory = call(memory_with, without_levels(batch), everywhere)
        view = call(view_in, memory, everywhere)
        view[...] = without_levels(batch)
        t._array = with_levels_of(batch, view)


def set_item(target: Variable, index: Any, value: Any) -> None:
    """Give the elements of a tensor at an index a new value."""
    index = plain_index(index)
    view = None if target._family is None else _view_at(target, index)
    is_relative = isinstance(value, Variable) and value._family is target._family
    if view is not None and is_relative and coincide(concrete(plain(value)), view):
        return  # y[i] += x has changed it already
    become(target, assign, (target, value, index), view)


def _take(t: Any, value: Variable) -> None:
    """Give a tensor the array and the node of another one; a leaf takes the data alone."""
    if t.is_leaf and t._node is not None:
        family = t._family
        t.data = value._array
        t._family = family
    else:
        t._array, t._node = value._array, value._node
        epoch[0] += 1


def _same_layout(t: Variable, value: Variable) -> bool:
    """Return whether a new value has the strides of the old one, or the old elements overlap."""
    if isinstance(t._array, Batch) is not isinstance(value._array, Batch):  # t has no views
        return True
    array, other = concrete(t._array), concrete(value._array)
    if not hasattr(array, "strides"):  # another library's
        return True
    return array.strides == getattr(other, "strides", None) or layout_of(array).repeats


def _view_at(t: Variable, index: Any) -> Array | None:
    """Return the elements of a tensor at an index if NumPy returns a view of them, else None."""
    for i in index if isinstance(index, tuple) else (index,):
        if not (i is None or i is ... or isinstance(i, (slice, int, np.integer))):
            return None
    array = concrete(plain(t))
    view = array[index]
    if type(view) is np.ndarray and owner_of(view) is owner_of(array):
        return view
    return None


def _overlapping(target: Variable, written: Array | None) -> dict[Variable, Layout]:
    """Return the layouts of a tensor and of those that share the elements that are written.

    `written` is the view of these elements; None stands for all. Without other tensors in the same
    memory, the result is empty.
    """
    own = layout_of(plain(target))
    if own.repeats or not own.writeable:
        raise ValueError(
            f"cannot write into a read-only view of shape {target.shape}, as broadcast_to and "
            "diagonal return: write into a copy, or into the tensor that it is a view of"
        )
    layouts = {target: own}
    view = concrete(plain(target)) if written is None else written
    layout_of_view = layout_of(view)
    others = relatives(target)
    for t in others:
        array = concrete(plain(t))
        together = array.base is view.base is not None
        if together and not np.may_share_memory(array, view):
            continue  # most of many rows, in a fifth of the time
        layout = layout_of(plain(t))
        if layout.meets(layout_of_view):
            layouts[t] = layout
    return layouts if others else {}


def _write_through(target: Variable, value: Variable, layouts: Mapping[Variable, Layout]) -> None:
    """Give a tensor a new value, and those that share its memory the values that follow.

    The first to change is one that fills the memory, or must keep it. The others become parts of
    it.
    """
    holders = (t for t, layout in layouts.items() if layout.is_whole or _keeps_memory(t))
    first = next(holders, target)
    of_first = layouts[first]
    new = value if first is target else _value_after(first, value, of_first, layouts[target])
    values = {first: new, target: value} | {
        t: _value_after(t, new, layout, of_first)
        for t, layout in layouts.items()
        if t is not first and t is not target
    }
    tracked = [t for t in layouts if not t.is_leaf]
    leaves = [t for t in layouts if t.is_leaf and t._node is not None]
    with _all_or_none(layouts):
        memory = None
        for t, shown in values.items():
            _take(t, shown)
            restore_layout(t, layouts[t], memory)
            if t is first:
                memory = _whole_memory(t)
        for leaf in leaves:  # without recording, the views of a leaf are still recorded as such
            for t in tracked:
                with enable_grad():
                    _take(t, _value_after(t, leaf, layouts[t], layouts[leaf]))
                restore_layout(t, layouts[t], memory)


@contextlib.contextmanager
def _all_or_none(tensors: Iterable[Variable]) -> Iterator[None]:
    """Run a block that changes all of these tensors; if it fails, none is changed."""
    before = [(t, t._array, t._node, t._family) for t in tensors]
    elements = [(t._array, t._array.copy("K")) for t, *_ in before if _keeps_memory(t)]
    try:
        yield
    except BaseException:
        for t, array, node, family in before:
            t._array, t._node, t._family = array, node, family
        for array, earlier in elements:
            array[...] = earlier
        raise


def move(leaf: Variable, home: Array) -> None:
    """Move a leaf and its views into another array, which holds its elements already."""
    old, new = layout_of(leaf._array), layout_of(home)
    others = relatives(leaf)
    with _all_or_none([leaf, *others]):
        for t in others:
            layout = layout_of(t._array)
            plain_view = type(t._array) is np.ndarray and old.covers(layout)
            if plain_view and old.strides == new.strides:
                start = layout.start - old.start + new.start
                t._array = view_in(owner_of(home), layout._replace(start=start, nbytes=new.nbytes))
            else:
                t._family = None
        leaf._array = home
    if leaf._node is not None:
        leaf._node.out = home
    epoch[0] += 1


def _value_after(t: Any, over: Any, of_t: Layout, of_over: Layout) -> Any:
    """Return the value of a tensor after another one was written into their common memory."""
    if of_t.repeats:
        if of_t.dtype != of_over.dtype:
            raise TypeError(
                f"a write would change a view of shape {t.shape} whose elements overlap and are "
                "the real or imaginary part of what is written: make the view a copy"
            )
        numbers = positions(of_t, of_over)
        return np.where(numbers >= 0, np.ravel(over)[numbers], t)
    if of_over.is_whole:
        return apply(part, (over, of_t, of_over))
    return apply(overlaid, (t, over, of_t, of_over))


def restore_layout(t: Variable, layout: Layout, memory: Any = None) -> None:
    """Give the array of a tensor this layout, in `memory` or else in memory of its own."""
    interpreter = mode.get().interpreter
    array = plain(t)
    everywhere = layout.of_samples(array)
    if memory is None and layout_of(array) != layout:
        memory = interpreter.call_whole(memory_with, without_levels(array), everywhere)
    if memory is not None and not _keeps_memory(t):
        t._array = with_levels_of(array, interpreter.call_whole(view_in, memory, everywhere))
    if not layout.writeable:
        concrete(t._array).flags.writeable = False


def _whole_memory(t: Variable) -> Any:
    """Return the memory of a tensor if the tensor fills it or must keep it, else None."""
    array = plain(t)
    owner = owner_of(concrete(array))
    if not (owner.flags.writeable and (_keeps_memory(t) or layout_of(array).is_whole)):
        return None
    if _keeps_memory(t):
        return mode.get().interpreter.state(owner)
    array = without_levels(array)
    if concrete(array) is array:
        return owner
    return array if concrete(array) is owner else None


def share_memory_again(t: Variable) -> None:
    """Give a tensor and its relatives arrays in one memory again, if a write separated them.

    Then all of them show an element that the user writes into the array of one.
    """
    kin = [t, *relatives(t)]
    arrays = [plain(other) for other in kin]
    if len({id(a) if a.base is None else id(a.base) for a in arrays}) == 1:
        return  # nearly always
    memory = next((m for m in map(_whole_memory, kin) if m is not None), None)
    for other, array in zip(kin, arrays) if memory is not None else ():
        if owner_of(concrete(array)) is not owner_of(concrete(memory)):
            restore_layout(other, layout_of(array), memory)
            epoch[0] += 1


def _keeps_memory(t: Variable) -> bool:
    """Return whether it is a leaf whose data must stay in an optimizer's vector."""
    node = t._node
    return node is not None and node.rule is None and node.out is not None


# -- operations on arrays in the memory that they share


@differentiable(lambda g, _y, _x, of_part, of_x: _part_of_bytes(g, of_x, of_part), form="linear")
@shown_as("view")
def part(x: Any, of_part: Layout, of_x: Layout) -> Any:
    """Return the array with layout `of_part` in memory that holds `x` with layout `of_x`.

    The rest of the memory holds zeros.

    >>> from tensorgrad.engine.mutation import layout_of, part
    >>> x = np.arange(6.0).reshape(2, 3)
    >>> part(x * 10, layout_of(x.T[1:]), layout_of(x))
    array([[10., 40.],
           [20., 50.]])
    """
    fills = of_x.is_whole and layout_of(x) == of_x
    return view_in(owner_of(x) if fills else memory_with(x, of_x), of_part).copy()


@differentiable(
    lambda g, _y, _under, _over, of_under, of_over: overlaid(g, 0, of_under, of_over),  # type: ignore[has-type]
    lambda g, _y, _under, _over, of_under, of_over: _part_of_bytes(g, of_over, of_under),
    form="linear",
)
@shown_as("setitem")
def overlaid(under: Any, over: Any, of_under: Layout, of_over: Layout) -> Any:
    """Return the value of `under` after `over` was written into the memory that they share.

    >>> from tensorgrad.engine.mutation import layout_of, overlaid
    >>> x = np.arange(6.0).reshape(2, 3)
    >>> overlaid(x, -1.0, layout_of(x), layout_of(x[:, 1]))
    array([[ 0., -1.,  2.],
           [ 3., -1.,  5.]])
    """
    if of_under.is_whole and not of_under.start and layout_of(under) == of_under:
        result = memory = under.copy("K")
    else:
        memory = memory_with(under, of_under)
        result = view_in(memory, of_under)
    view_in(memory, of_over)[...] = over
    return result


def _part_of_bytes(g: Any, of_part: Layout, of_g: Layout) -> Any:
    """Return the `part` of a cotangent whose bytes are read as other numbers: of its conjugate."""
    if "c" in (of_part.dtype.kind, of_g.dtype.kind):
        return np.conjugate(part(np.conjugate(g), of_part, of_g))
    return part(g, of_part, of_g)


def _on_all(fun: Function) -> Function:
    """The function on the memory of all samples at once."""

    def batched(level: Level, *args: Any) -> Any:
        def of_all(a: Any) -> Any:
            if isinstance(a, Layout):
                return a.of_samples(level.batch(()))
            return a if isinstance(a, int) else level.stacked(a)

        return level.batch(fun(*map(of_all, args)))

    return batched


AT_ONCE |= {part: _on_all(part), overlaid: _on_all(overlaid)}


def positions(of_under: Layout, of_over: Layout) -> Array:
    """Return, for each element of `under`, the index of the element of `over` there, or -1."""
    numbers = np.arange(math.prod(of_over.shape)).reshape(of_over.shape)
    none = np.full(of_under.shape, -1)
    return overlaid(none, numbers, of_under.as_integers(), of_over.as_integers())  # type: ignore[no-any-return]
