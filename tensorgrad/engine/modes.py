"""Modes: what computes in this thread and this asyncio task, and what is done besides."""

from __future__ import annotations

import contextvars
import functools
import inspect
from dataclasses import dataclass
from types import TracebackType
from typing import Any, overload

from .interpreter import Interpreter, eager
from .typing import F, Function, Line
from .variable import Variable


@dataclass(slots=True, eq=False)  # not frozen, whose construction takes twice the time
class Mode:
    """What computes an operation, and what it does besides: it is recorded, and hooks are called.

    Each of `hooks` is called as `hook(node, arrays)`: a new node, its inputs and its outputs. Each
    of `backward_hooks` is called as `hook(node, g, contribution)`: the cotangent of the node's
    output, and what the node adds to the cotangent of one argument. `line` is where the user asked
    for the derivative that is being recorded; inner modes do not inherit it. `owner` entered the
    mode, which replaced `outer`.
    """

    recording: bool = True
    hooks: tuple[Function, ...] = ()
    backward_hooks: tuple[Function, ...] = ()
    interpreter: Interpreter = eager
    line: Line | None = None
    owner: set_mode | None = None
    outer: Mode | None = None


mode = contextvars.ContextVar("tensorgrad mode", default=Mode())  # noqa: B039 (never changed)


class set_mode:  # noqa: N801 (used like a function)
    """Change the current `Mode` within a `with` block or a decorated function; hooks are added."""

    def __init__(
        self,
        recording: bool | None = None,
        hooks: tuple[Function, ...] = (),
        backward_hooks: tuple[Function, ...] = (),
        interpreter: Interpreter | None = None,
        line: Line | None = None,
    ) -> None:
        self._change = recording, hooks, backward_hooks, interpreter, line

    def __enter__(self) -> None:
        outer = mode.get()
        recording, hooks, backward_hooks, interpreter, line = self._change
        new = Mode(
            outer.recording if recording is None else recording,
            outer.hooks + hooks,
            outer.backward_hooks + backward_hooks,
            outer.interpreter if interpreter is None else interpreter,
            line,
            self,
            outer,
        )
        try:
            mode.set(new)
        except BaseException:  # Ctrl-C right after the call: Python will not call __exit__
            mode.set(outer)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        entered: Mode | None = mode.get()
        while entered is not None and entered.owner is not self:
            entered = entered.outer  # Ctrl-C kept an inner block from restoring its mode
        if entered is not None and entered.outer is not None:
            mode.set(entered.outer)

    def __call__(self, fun: F) -> F:
        """Decorate a function: each of its calls runs in the changed mode."""
        kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
        if any(is_kind(fun) for is_kind in kinds):
            raise TypeError(
                f"cannot decorate {fun.__name__}(): its body runs after the call returns; "
                "use a with statement inside it"
            )

        @functools.wraps(fun)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            outer = mode.get()
            try:
                self.__enter__()
                return fun(*args, **kwargs)
            finally:
                mode.set(outer)

        return wrapper  # type: ignore[return-value]


@overload
def no_grad() -> set_mode: ...
@overload
def no_grad(fun: F) -> F: ...
def no_grad(fun: F | None = None) -> set_mode | F:
    """Compute without recording a graph, within a `with` block or a decorated function.

    The mode belongs to the running thread or asyncio task, and exceptions restore it. A computed
    tensor that is changed in place here, even in one element, has no graph afterwards.

    >>> w = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.no_grad():
    ...     (w * 2).requires_grad
    False
    """
    change = set_mode(recording=False)
    return change if fun is None else change(fun)


@overload
def enable_grad() -> set_mode: ...
@overload
def enable_grad(fun: F) -> F: ...
def enable_grad(fun: F | None = None) -> set_mode | F:
    """Record a graph again, inside a `no_grad` block or function.

    >>> w = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.no_grad(), tg.enable_grad():
    ...     (w * 2).requires_grad
    True
    """
    change = set_mode(recording=True)
    return change if fun is None else change(fun)


def is_traced() -> bool:
    """Return whether a compiled function is being traced, in which no shape depends on elements."""
    return mode.get().interpreter is not eager


def plain(value: Any) -> Any:
    """Return the array of a tensor, tracked or not; anything else, as it is."""
    return mode.get().interpreter.array(value) if isinstance(value, Variable) else value
