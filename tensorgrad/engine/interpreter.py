"""The interpreter: what computes. The eager one computes at once; a compiled function has its own.

Code that means something else while a compiled function is traced asks the interpreter of the
current mode, `mode.get().interpreter`; so it is written once. The design is that of JAX's
"Autodidax2".
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from .arrays import Spec, as_array
from .batching import NotBatchedError, one_by_one
from .exposed import exposed
from .graph import Node
from .registry import NO_KWARGS, name_of
from .typing import Array, Function
from .variable import Variable

_accumulation = threading.Lock()


class Interpreter:
    """Computes at once: the interpreter of eager mode. Compiled functions override its methods.

    "Each call" is each call of the compiled function. Where an array is `Any`, it may be traced.
    """

    # -- operations

    def call(self, fun: Function, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function of arrays."""
        return fun(*args, **kwargs)

    def call_whole(self, fun: Function, /, *args: Any) -> Any:
        """Call a function of arrays as one operation, whatever it calls itself."""
        return fun(*args)

    def composite(
        self, definition: Function, _fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call a function by its definition in terms of functions with rules."""
        return definition(*args, **kwargs)

    def at(self, _node: Node, vjp: Function) -> Function:
        """Return what calls a derivative of a node."""
        return vjp

    # -- tensors

    def array(self, t: Variable) -> Any:
        """Return the array of a tensor."""
        return t._array

    def assign(self, t: Variable, value: Any) -> None:
        """Give a leaf, or an untracked tensor, new data."""
        node = t._node
        if value is not t._array:
            array = as_array(value, "data")
            if node is not None and array.shape != node.shape:
                raise ValueError(f"cannot assign data of shape {array.shape} to a {node}")
            if node is None or node.out is None:
                column_major = node is not None and t._array.flags.fnc  # as is best for a layer
                dtype = array.dtype if node is None else node.dtype
                t._array = array.astype(dtype, order="F" if column_major else "K")
                t._family = None
                epoch[0] += 1
            else:
                node.out[...] = array
        if node is not None:
            node.touch()
            if exposed:
                exposed.pop(id(node), None)  # all graphs that used it are stale

    def grad(self, node: Node) -> Any:
        """Return the gradient of a leaf, or None."""
        return node.grad

    def set_grad(self, node: Node, g: Any) -> None:
        """Replace the gradient of a leaf."""
        node.grad = g

    def accumulate(self, gradients: Mapping[Node, Any]) -> None:
        """Add to the gradients of leaves: of all of them or, if interrupted, of none."""
        with _accumulation:
            sums = [
                g if node.grad is None else as_array((node.grad + g).astype(node.dtype), "backward")
                for node, g in gradients.items()
            ]
            # One call into C, in the middle of which Python handles no signal.
            deque(map(setattr, gradients, itertools.repeat("grad"), sums), maxlen=0)

    def selected(self, t: Variable, index: Any, part: Variable) -> None:
        """Note that a tensor is the part of another one at an index."""

    def changed(self, tensors: Iterable[Variable]) -> None:
        """Note that tensors have been changed in place."""

    # -- effects

    def state(self, array: Array) -> Any:
        """Return an array that outlives the function, to be read or written in each call."""
        return array

    def effect(self, fun: Function, /, *args: Any, writes: Sequence[Array] = ()) -> Any:  # noqa: ARG002
        """Call a function that decides by elements, or changes more than arrays; so in each call.

        It gets the arrays of that call, and changes those in `writes`.
        """
        try:
            return fun(*args)
        except NotBatchedError:
            return one_by_one(fun, args, NO_KWARGS)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Draw random numbers from 0 to 1, other ones in each call."""
        return rng.random(shape, dtype)  # type: ignore[arg-type]

    def guard(self, owner: Any, *attributes: str) -> None:
        """Let a program hold only as long as attributes are what they are now.

        Whoever sets them counts that in `epoch`.
        """

    def require_eager(self, reason: str) -> None:
        """Raise a TraceError with this reason in a compiled function."""


class Requirement:
    """What all elements of some arrays must fulfil: `check` raises an error where one does not.

    It is called as an `effect`. `holds` says the same of elements, by operators, `&`, `|`, `~`,
    comparisons and `abs` alone: native code applies it, and calls `check` only to raise its error.
    """

    def __init__(self, check: Callable[..., None], holds: Callable[[Any], Any]) -> None:
        self.check, self.holds = check, holds
        self.__name__ = name_of(check)

    def __call__(self, *arrays: Any) -> None:
        """Check the arrays."""
        self.check(*arrays)


class Timetable(ABC):
    """An effect that is known ahead, as nothing that a program computes decides what it writes.

    It is called as an `effect` without arguments. Native code makes many steps without it: it reads
    what they would write from arrays.
    """

    __name__ = "timetable"

    @abstractmethod
    def ahead(self, count: int) -> Sequence[Array | None] | None:
        """Return what so many calls would write: one number for each call, for each array in turn.

        For arrays that stay as they are, None; and None where it is not known.
        """

    @abstractmethod
    def advance(self, count: int) -> None:
        """Do what so many calls do."""

    def __call__(self) -> None:
        """Make one call."""
        self.advance(1)


eager = Interpreter()


class Tracing(Interpreter):
    """The interpreter while a compiled function is traced: it computes, and writes a program."""

    def number(self, array: Array) -> Any:
        """Return the number in an array without axes of float64, which each call reads."""
        raise NotImplementedError

    def write_number(self, array: Array, number: Any) -> None:
        """Write a number into an array without axes, now and in each call."""
        raise NotImplementedError

    def move(self, t: Variable, array: Array) -> None:
        """Let the data of a leaf lie in another array, which has been given its elements."""
        raise NotImplementedError

    def touch(self, node: Node | None) -> None:
        """Note that the data of a leaf has changed."""
        raise NotImplementedError

    def require(self, owner: Any, attribute: str, otherwise: Callable[[], bool]) -> None:
        """Let the program hold only where an attribute of an object, or else a call, is true."""
        raise NotImplementedError

    def body(self, fun: Function, examples: Sequence[Any], pinned: dict[int, Any]) -> Body:
        """Trace a function of arrays like the examples as a program of its own.

        `pinned` has the arrays that it takes for those of tensors, by their ids; others are added.
        """
        raise NotImplementedError


class Body(Protocol):
    """The body of a loop, or a branch of a condition, as a program of its own.

    Its methods return arrays of the program around it.
    """

    @property
    def results(self) -> Sequence[Spec]:
        """The shapes and dtypes of what it returns."""

    def scan(
        self, init: Sequence[Any], xs: Sequence[Any], length: int, reverse: bool, save: bool
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Return the last state of a loop, with `save` all states before steps, and the ys."""

    def choose(self, other: Any, pred: Any, operands: Sequence[Any]) -> list[Any]:
        """Run this body where an array of one element is true, and else another one."""

    def change_since(self, *roots: Any) -> Callable[[], str | None]:
        """Return a function that says what has changed since now of what the body has read.

        It is looked for in Python's objects within reach of the `roots`.
        """

    def repeat(self, test: Any, init: Sequence[Any]) -> list[Any]:
        """Run the body on its results, from `init` on, as long as the test returns true."""


epoch = [0]
"""The number of changes to what compiled functions rely on: modules, and the memory of tensors.

A compiled function checks what it relies on if the number has grown since its last call.
"""
