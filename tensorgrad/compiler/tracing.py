"""Tracing: a function runs once, on arrays that note each call of NumPy.

A traced call computes, too: its results and its effects are those of the call in eager mode. What
it changed can be undone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import operator
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeAlias

import numpy as np
from numpy.lib.array_utils import byte_bounds

from ..engine.arrays import conjugated
from ..engine.batching import Batch, NotBatchedError, one_by_one
from ..engine.dispatch import apply
from ..engine.graph import Node
from ..engine.hooks import leaf_hooks
from ..engine.interpreter import Body, eager, epoch
from ..engine.modes import mode
from ..engine.mutation import become, move
from ..engine.primitives import assign
from ..engine.registry import NO_KWARGS, Rule, Together, name_of
from ..engine.tensor import Tensor
from ..engine.typing import Array, Function
from ..engine.variable import Variable
from ..engine.views import layout_of, memory_with, owner_of, view_in
from ..errors import GraphError, TraceError
from ..transforms import vjp
from ..tree import map as tree_map
from .backends import Backend
from .backends.numpy_source import NUMPY
from .checks import Checks
from .functions import assign_at
from .guards import Guards
from .ir import Call, Value, make_writeable, mapped
from .numbers import Number
from .passes import Pass
from .printing import Labels
from .recording import Recorder
from .strides import copied, pattern
from .tracer import ShapeError, Tracer, location, selects_by_numbers
from .turns import Turns


def _is_alike(a: Array | Value, b: Array | Value) -> bool:
    """Whether an array can replace another one: equal shape, dtype and order of strides."""
    return (a.shape, a.dtype, pattern(a)) == (b.shape, b.dtype, pattern(b))


class _Gap:
    """The place of a tensor among arguments."""


_Reference: TypeAlias = "weakref.ref[Variable]"


class Condition(NamedTuple):
    """Holds where an attribute of an object is true or, else, where `otherwise` returns true."""

    owner: Any
    attribute: str
    otherwise: Callable[[], bool]


class Trace(Recorder):
    """All that one call of a function did: its calls, what they rely on, and what they change."""

    bodies: ClassVar[Callable[[Trace, Function, Sequence[Any], dict[int, Any]], Body]]
    """What traces the bodies of loops and branches as programs of their own: `nested.Body`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.backend: Backend = NUMPY
        self.turns: Turns | None = None  # until native code takes over
        self.passes: Sequence[Pass] = NUMPY.passes  # that the program goes through
        self.labels: Labels = ()  # what the user calls the arrays from outside, to be printed
        self.parameters: Sequence[str] = ()  # and, if a C function may be made, the arguments
        # The leaves whose `grad` was read or set, with those that they had; of those whose `grad`
        # was read first, what stands for it; and the leaves whose data changed, in order.
        self.gradients: dict[Node, Any] = {}
        self.earlier: dict[Node, Value | None] = {}
        self.touched: dict[Node, None] = {}
        # What must be so for the program to hold: conditions and tests for each call; and, for when
        # `epoch` has grown, attributes that must be what they are: an object, a name and a value.
        self.conditions: list[Condition] = []
        self.tests: list[Callable[[], bool]] = []
        self.attributes: list[tuple[Any, str, Any]] = []
        self.checks = Checks()  # of Python's state
        self.drawn: set[int] = set()  # by id, the generators drawn from
        # Tensors, indices and the parts there, which change together.
        self._parts: list[tuple[_Reference, Any, _Reference]] = []
        # Called before and after Python that may change optimizers and schedules.
        self.before_effect: Callable[[], None] = lambda: None
        self.after_effect: Callable[[], None] = lambda: None

    # -- operations

    def call(self, fun: Function, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function on traced arrays: call by call or, if it needs elements, as a whole."""
        before = len(self.calls)
        try:
            return fun(*args, **kwargs)
        except (NotBatchedError, ShapeError, GraphError):
            raise
        except Exception:
            found: list[Any] = []
            mapped((args, kwargs), (Tensor, Batch), found.append)
            if found:
                if isinstance(found[0], Batch):
                    raise NotBatchedError("a function that needs elements") from None
                raise
            del self.calls[before:]
            return self.record(self._as_a_whole(fun), args, kwargs)

    def _as_a_whole(self, fun: Function) -> Function:
        """The function, without recording the calls that it makes.

        What it returns is new: elements may decide whether it would be a view of an argument.
        """

        @functools.wraps(fun)
        def whole(*args: Any, **kwargs: Any) -> Any:
            with _untraced():
                return mapped(fun(*args, **kwargs), np.ndarray, np.copy)

        return whole

    def composite(self, definition: Function, fun: Function, args: Any, kwargs: Any) -> Any:
        """Call a definition, in terms of functions with rules.

        If it needs elements, call `fun` and its derivative as a whole.
        """
        before = len(self.calls)
        try:
            return definition(*args, **kwargs)
        except (NotBatchedError, ShapeError, GraphError):
            raise
        except Exception:
            del self.calls[before:]
            return self._as_operation(fun, args, kwargs)

    def _as_operation(self, fun: Function, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Call a function of tensors as one operation, and its derivative, at any order, as one."""
        tensors: list[Tensor] = []
        mapped((args, kwargs), Tensor, tensors.append)
        moving = [i for i, t in enumerate(tensors) if t.requires_grad]
        count = len(tensors)
        gaps = mapped((args, kwargs), Tensor, lambda _: _Gap())  # caches keep the operation

        def operation(*arrays: Any) -> Any:
            rest = iter(arrays)
            given = mapped(gaps, _Gap, lambda _: next(rest))
            return fun(*given[0], **given[1])

        def pulled(g: Any, *arrays: Any) -> Any:
            def of_moving(*chosen: Any) -> Any:
                given = dict(enumerate(arrays)) | dict(zip(moving, chosen, strict=True))
                return operation(*given.values())

            pullback = vjp(of_moving, *[arrays[i] for i in moving])[1]
            return tree_map(conjugated, pullback(tree_map(conjugated, g)))

        def back(g: Any, _out: Any, *arrays: Any) -> Any:
            recorded = any(isinstance(a, Tensor) for a in (g, *arrays))
            pull = (
                self._as_operation if recorded else lambda f, given, _: self._as_a_whole(f)(*given)
            )
            shares = dict(zip(moving, pull(pulled, (g, *arrays), {}), strict=True))
            return tuple([shares.get(i) for i in range(count)])

        operation.__name__ = name_of(fun)
        operation.tensorgrad_rule = Rule(operation, Together(back, count))  # type: ignore[attr-defined]
        return apply(operation, tensors)

    def at(self, node: Node, vjp: Function) -> Function:
        """What calls a derivative of a node, and says that this is due to the node's own line."""

        def derivative(*args: Any, **kwargs: Any) -> Any:
            outer, self._location = self._location, node.place
            try:
                return self.call(vjp, *args, **kwargs)
            finally:
                self._location = outer

        return derivative

    def call_whole(self, fun: Function, /, *args: Any) -> Any:
        """Call a function of arrays as one operation."""
        return self.record(fun, args)

    def body(self, fun: Function, examples: Sequence[Any], pinned: dict[int, Any]) -> Body:
        """Trace a function of arrays as a program of its own."""
        return type(self).bodies(self, fun, examples, pinned)

    # -- what is not an operation

    def effect(self, fun: Function, *args: Any, writes: Sequence[Array] = ()) -> Any:
        """Call a Python function now and, with the arrays of then, at this point of each call.

        `writes` are the arrays that it changes.
        """
        if Batch in map(type, args):
            return one_by_one(self.effect, (fun, *args), NO_KWARGS)
        self.before_effect()
        given = mapped(args, (Tracer, np.ndarray), self.value)
        written = [self.state(array).value for array in writes]
        for value in written:
            self.save(self.arrays[value])
        self.executed.pause()
        try:
            with _untraced():
                result = fun(*mapped(given, Value, self.arrays.__getitem__))
        finally:
            self.executed.resume()
        self.after_effect()
        line = self._location or location()
        self.calls.append(Call("effect", fun, given, location=line, writes=written))
        for value in written:
            self.renew_shared(value)
        return result

    def number(self, array: Array) -> Number:
        """The number in an array without axes of float64, which the program reads in each call."""
        return Number(self.record, self.state(array).value)

    def write_number(self, array: Array, number: Number) -> None:
        """Write a number into an array without axes, now and in each call."""
        target = self.state(array)
        self.record(assign_at, (target, (), number.value), target=target)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Tracer:
        """Random numbers from 0 to 1, other ones at each call."""
        if id(rng) not in self.drawn:
            self.drawn.add(id(rng))
            self.executed.entropy[-1:] = []  # if it was made for this
            state = rng.bit_generator.state
            self._undo.append(lambda: setattr(rng.bit_generator, "state", state))
        out: Tracer = self.record(rng.random, (shape,), {"dtype": dtype}, kind="effect")
        return out

    def require(self, owner: Any, attribute: str, otherwise: Callable[[], bool]) -> None:
        """Let the program hold only where an attribute of an object, or else a call, is true."""
        self.conditions.append(Condition(owner, attribute, otherwise))

    def require_true(self, test: Callable[[], bool]) -> None:
        """Let the program hold only where a function returns true."""
        self.tests.append(test)

    def require_same(self, guards: Guards) -> None:
        """Let the program hold only as long as Python's state is what the guards compare with."""
        for t in guards.tensors:
            self.watch(t)
        self.require_true(guards.checks.function())
        self.checks = guards.checks

    def require_eager(self, reason: str) -> NoReturn:
        """Raise a TraceError that names the user's line."""
        raise TraceError(f"{location()}: {reason}")

    def is_read(self, array: Array) -> bool:
        """Whether the program reads an array from outside in each call."""
        return id(owner_of(array)) in self._storages

    def watch(self, t: Tensor) -> None:
        """Let the program hold only as long as a tensor has its array and its node."""
        self.tensors.setdefault(id(t), (t, t._array, t._node))

    def guard(self, owner: Any, *attributes: str) -> None:
        """Let the program hold only as long as attributes are what they are now."""
        self.attributes += [(owner, name, getattr(owner, name)) for name in attributes]

    # -- leaves

    def assign(self, t: Variable, value: Any) -> None:
        """Give a leaf, or an untracked tensor, new data."""
        target, node = self.array(t), t._node
        value = value.data if isinstance(value, Tensor) else value
        if not (isinstance(value, Tracer) and value.value is target.value):
            if node is not None and np.shape(value) != target.shape:
                raise ValueError(f"cannot assign data of shape {np.shape(value)} to {target}")
            if node is not None and node.out is not None:
                target[...] = value  # an optimizer's memory, where the data stays
            else:  # whoever has the array that the tensor had keeps its elements
                by_columns = node is not None and target.value.order == "F"
                options = {} if node is None else {"dtype": node.dtype}
                new = self.record(np.array, (value,), options | {"order": "FK"[not by_columns]})
                alike = _is_alike(new.value, target.value)
                outside = id(t) in self._outside
                if outside:
                    self._undo.append(functools.partial(setattr, t, "_family", t._family))
                t._family = None  # its views keep their values
                if alike and outside and not isinstance(t._array, Tracer):
                    self.assigned[id(t)] = new
                else:
                    t._array = new
        self.touch(t._node)

    def finish(self) -> None:
        """Write the values assigned to tensors from outside into their memory."""
        given = []
        for t, array, before in self._outside.values():
            node = t._node
            if node is not before and node is not None and node.rule is not None:
                raise TraceError(
                    f"{node.place}: a tensor of shape {t.shape} from outside the compiled function "
                    f"gets a value with a graph, {node}, which ends with the call: write "
                    "value.detach() into the tensor, or make the tensor inside the function"
                )
            new = t._array if isinstance(t._array, Tracer) else self.assigned.get(id(t))
            if new is not None:
                given.append((t, array, new))
        # What was read from their memory keeps the values from before.
        owners = {id(owner_of(array)) for _, array, _ in given}
        for tracer in [made() for made in self.tracers]:
            if tracer is not None and id(owner_of(tracer.concrete)) in owners:
                self._kept[tracer.value] = self.record(np.copy, (tracer,)).value
        neighbours = self._neighbours() if given else {}
        for t, array, new in given:
            value = self.value(new)
            if _is_alike(value, array) and _is_alone(t, array, neighbours.get(id(t), ())):
                t._array = array
                self.record(assign_at, (array, ..., Tracer(self, value)), target=array)
            else:  # it gets a new array, which the next trace uses
                self._undo.append(functools.partial(setattr, t, "_array", array))
                plain = self.arrays[value]
                layout = layout_of(plain)
                if t._family is None or layout.is_whole:
                    t._array = copied(plain)
                else:  # a view keeps its place in the memory of what it is a view of
                    t._array = view_in(memory_with(plain, layout), layout)
                epoch[0] += 1
                self.require_true(_never)

    def _neighbours(self) -> dict[int, list[tuple[Variable, Array]]]:
        """By the id of a tensor from outside, those whose memory may overlap, with their arrays."""
        found: dict[int, list[tuple[Variable, Array]]] = {}
        group: list[tuple[Variable, Array]] = []
        end = 0
        arrays = [(t, a) for t, a, _ in self._outside.values() if type(a) is np.ndarray]
        for t, a in sorted(arrays, key=lambda pair: byte_bounds(pair[1])):
            low, high = byte_bounds(a)
            group = group if low < end else []
            group.append((t, a))
            found[id(t)] = group
            end = max(end, high)
        return found

    def require_nothing_kept(self) -> None:
        """Raise a TraceError if a tensor that the function made, but did not return, lives on."""
        for t in self.kept():
            value = self.value(t._array)
            t._array = self.arrays[value].copy("K")
            raise TraceError(
                f"{value.location}: a tensor of shape {t.shape} is still in use after the call, "
                "but compiled calls would not update it: return it, or write it into a tensor that "
                "exists before the call"
            )

    def kept(self) -> list[Tensor]:
        """The tensors that live on with a traced array."""
        if all(made() is None for made in self.tracers):
            return []
        gc.collect()
        alive = [tracer for made in self.tracers if (tracer := made()) is not None]
        return [t for t in gc.get_referrers(*alive) if isinstance(t, Tensor)] if alive else []

    def move(self, t: Variable, array: Array) -> None:
        """Let the data of a leaf lie in another array, which has been given its elements."""
        self._undo.append(functools.partial(move, t, t._array))
        self.effect(_Move(t, array))

    def touch(self, node: Node | None) -> None:
        """Note that the data of a leaf has changed."""
        if node is not None:
            self.touched[node] = None
            node.touch()

    def selected(self, t: Variable, index: Any, part: Variable) -> None:
        """Let two tensors change together, where a number that is traced selects a part.

        NumPy's part is a view; the traced one is a copy, as its place differs from call to call.
        """
        if selects_by_numbers(index) and part.ndim:
            self._parts.append((weakref.ref(t), index, weakref.ref(part)))

    def changed(self, tensors: Iterable[Variable]) -> None:
        """Change what would be views of tensors that have been changed."""
        changed = {*map(id, tensors)}
        for pair in self._parts:
            t, index, part = pair[0](), pair[1], pair[2]()
            if t is None or part is None or id(pair) in self.renewing:
                continue
            self.renewing.add(id(pair))
            if id(part) in changed:
                become(t, assign, (t, part, index))
            elif id(t) in changed:
                become(part, operator.getitem, (t, index))
            self.renewing.remove(id(pair))

    def grad(self, node: Node) -> Any:
        """The gradient of a leaf: a traced array, or None."""
        if node not in self.gradients:
            self._remember(node)
            g = node.grad
            self.earlier[node] = None
            if g is not None:
                value = self._values.get(id(g))
                if value is None:
                    held = copied(g)  # as an argument is: what shares its memory now need not later
                    value = self._named(held, self._storage(held, "input"))
                self.earlier[node] = value
                node.grad = Tracer(self, value)  # type: ignore[assignment]
        return node.grad

    def set_grad(self, node: Node, g: Any) -> None:
        """Change the gradient of a leaf."""
        if node not in self.gradients:
            self._remember(node)
        node.grad = g

    def _remember(self, node: Node) -> None:
        self.gradients[node] = node.grad

    def accumulate(self, gradients: Mapping[Node, Any]) -> None:
        """Add to the gradients of leaves."""
        self.guard(leaf_hooks, "version")
        for node, g in gradients.items():
            earlier = self.grad(node)
            if earlier is not None:
                g = earlier + g
            elif not isinstance(g, Tracer):  # the same at each call
                g = Tracer(self, self.value(g))
            self.set_grad(node, g if g.dtype == node.dtype else g.astype(node.dtype))

    # -- afterwards

    def undo(self) -> None:
        """Make all arrays, gradients and generators what they were before the trace."""
        self.executed.stop()
        make_writeable([*self._read_only, *self.protected])
        for restore in reversed(self._undo):
            restore()
        for t, array, before in self._outside.values():
            if isinstance(t._array, Tracer) or t._node is not before:
                t._array, t._node = array, before
        for node, g in self.gradients.items():
            node.grad = g

    def settle(self, outside: Iterable[Tensor]) -> dict[Node, Value | None]:
        """Forget the tensors that have died with the call; return what gradients are then.

        `outside` are tensors that live on. Gradients become arrays again.
        """
        for key, (t, _, _) in list(self.tensors.items()):
            if sys.getrefcount(t) <= 3:  # here, in the dict, and as the argument
                del self.tensors[key]
        alive = {t._node for t in (*outside, *(t for t, _, _ in self.tensors.values()))}
        final: dict[Node, Value | None] = {}
        for node in self.gradients:
            if node in alive:
                g: Any = node.grad
                final[node] = None if g is None else self.value(g)
                node.grad = None if g is None else copied(self.arrays[self.value(g)])
        return final


def _is_alone(t: Variable, array: Array, neighbours: Iterable[tuple[Variable, Array]]) -> bool:
    """Whether no other tensor shares the memory of a tensor's array."""
    return not any(
        other is not t and type(other._array) is np.ndarray and np.may_share_memory(a, array)
        for other, a in neighbours
    )


def _never() -> bool:
    return False


class _Move:
    """Lets the data of a leaf lie in another array, when it is called."""

    __name__ = "move"

    def __init__(self, t: Variable, array: Array) -> None:
        self._t, self._array = t, array

    def __call__(self) -> None:
        move(self._t, self._array)


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """A block whose calls are not traced."""
    token = mode.set(dataclasses.replace(mode.get(), interpreter=eager))
    try:
        yield
    finally:
        mode.reset(token)
