"""Hooks of modules: functions that are called with what goes in and comes out, and with gradients.

A module with hooks is of a subclass of its class, whose `__call__` calls them. So a module without
hooks takes no more time.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ..engine.hooks import RemovableHandle, tied
from ..engine.modes import mode
from ..engine.tensor import Tensor
from .contents import Holder

_Hooks: TypeAlias = Mapping[str, Mapping[int, tuple[Callable[..., Any], bool]]]
_numbers = itertools.count()


class Hooked(Holder):
    """What registers hooks: a base class of `Module`."""

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before each call of this module.

        If it returns something other than None, that replaces the arguments: a tuple of them, or
        the only one. `with_kwargs` calls `hook(module, args, kwargs)`, which may return a pair of
        both; `prepend` calls it before the other hooks. The handle's `remove()` takes it away.

        >>> layer = tg.nn.Tanh()
        >>> with layer.register_forward_pre_hook(lambda module, args: args[0] * 0):
        ...     layer(np.ones(2))
        array([0., 0.])
        """
        return _add(self, "before", hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after each call of this module.

        If it returns something other than None, that replaces the output. `with_kwargs` calls
        `hook(module, args, kwargs, output)`. All else is as in `register_forward_pre_hook`. In a
        compiled function, a hook is traced as the rest.

        >>> net = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh())
        >>> shapes = []
        >>> handle = net[0].register_forward_hook(lambda module, args, y: shapes.append(y.shape))
        >>> _ = net(np.ones((5, 3)))
        >>> shapes
        [(5, 4)]
        >>> handle.remove()
        """
        return _add(self, "after", hook, prepend, with_kwargs)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_output)` in each backward pass, before that of the module.

        If it returns something other than None, that replaces the gradients of the outputs. All
        else is as in `register_full_backward_hook`.
        """
        return _add(self, "before backward", hook, prepend, False)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` in each backward pass through the module.

        Both are tuples of arrays, or of tensors where they are differentiated again: a gradient for
        each positional argument that is a tensor with a graph, None for the others, and one for
        each output. If the hook returns something other than None, that replaces `grad_input`. If
        no argument has a graph, it is called with the gradients of the outputs, and its result is
        ignored. The outputs are a tensor, or a tuple or list with tensors in it.

        >>> layer = tg.nn.Linear(3, 1)
        >>> def double(module, grad_input, grad_output):
        ...     return tuple(2 * g for g in grad_input)
        >>> handle = layer.register_full_backward_hook(double)
        >>> x = tg.Tensor(np.zeros(3), requires_grad=True)
        >>> layer(x).backward()
        >>> bool(np.all(x.grad == 2 * layer.weight.data))
        True
        """
        return _add(self, "backward", hook, prepend, False)


def _add(
    module: Any, when: str, hook: Callable[..., Any], prepend: bool, with_kwargs: bool
) -> RemovableHandle:
    if not callable(hook):
        raise TypeError(f"a hook must be a function, not {hook!r}")
    number, new = next(_numbers), (hook, with_kwargs)
    held = module._hooks
    of_kind = held.get(when, {})
    of_kind = {number: new, **of_kind} if prepend else {**of_kind, number: new}
    _set_hooks(module, {**held, when: of_kind})
    return RemovableHandle(functools.partial(_remove, weakref.ref(module), when, number))


def _remove(reference: Callable[[], Any], when: str, number: int) -> None:
    module = reference()
    held = {} if module is None else module._hooks
    if number in held.get(when, {}):
        left = {key: hook for key, hook in held[when].items() if key != number}
        _set_hooks(module, {**held, when: left})


def _set_hooks(module: Any, hooks: _Hooks) -> None:
    """Give a module other hooks, in a new dict: compiled functions compare which one it is."""
    kind: Any = type(module)
    if "_hooks" in vars(module):
        kind = kind.__base__
    if any(hooks.values()):
        module._hooks = hooks
        module.__class__ = _with_hooks(kind)
    else:
        del module._hooks
        module.__class__ = kind


def _with_hooks(kind: Any) -> Any:
    """The subclass of a class of modules that calls hooks; the class keeps it."""
    if "_with_hooks" not in vars(kind):
        names = ("__module__", "__qualname__", "__doc__", "forward")
        own = {name: getattr(kind, name) for name in names}
        kind._with_hooks = type(
            kind.__name__, (kind,), {**own, "__call__": _call, "__reduce__": _reduce}
        )
    return kind._with_hooks


def _reduce(module: Any) -> Any:
    """How a module with hooks is copied and pickled: by its own class, which has a name."""
    return _new, (type(module).__base__,), vars(module)


def _new(kind: Any) -> Any:
    return object.__new__(_with_hooks(kind))


# -- the call of a module with hooks


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Call the module, and its hooks."""
    mode.get().interpreter.guard(self, "_hooks")
    hooks = self._hooks
    for hook, with_kwargs in hooks.get("before", {}).values():
        new = hook(self, args, kwargs) if with_kwargs else hook(self, args)
        if new is not None and with_kwargs:
            args, kwargs = new
        elif new is not None:
            args = new if isinstance(new, tuple) else (new,)
    backward = _Backward(self, hooks, args) if _any_backward(hooks) else None
    kind: Any = type(self).__base__
    out = kind.__call__(self, *(backward.args if backward else args), **kwargs)
    for hook, with_kwargs in hooks.get("after", {}).values():
        new = hook(self, args, kwargs, out) if with_kwargs else hook(self, args, out)
        out = out if new is None else new
    return backward.outputs(out) if backward else out


def _any_backward(hooks: _Hooks) -> bool:
    return bool(hooks.get("before backward") or hooks.get("backward"))


class _Backward:
    """One call of a module whose gradients hooks see."""

    def __init__(self, module: Any, hooks: _Hooks, args: tuple[Any, ...]) -> None:
        self.module, self.hooks = module, hooks
        self.positions = _tracked(args)
        self.count = len(args)
        self.grad_output: tuple[Any, ...] = ()
        self.args: Sequence[Any] = _replaced(args, self.positions, self._leave)

    def outputs(self, out: Any) -> Any:
        """Return the outputs, behind the operation that starts the backward pass of the module."""
        if isinstance(out, (tuple, list)):
            new = _replaced(out, _tracked(out), functools.partial(self._enter, len(out)))
            return type(out)(*new) if hasattr(out, "_fields") else type(out)(new)
        return _replaced([out], _tracked([out]), functools.partial(self._enter, 1))[0]

    def _enter(self, count: int, positions: Sequence[int], g: tuple[Any, ...]) -> Any:
        grad_output = _spread(g, positions, count)
        for hook, _ in self.hooks.get("before backward", {}).values():
            grad_output = _answer(hook(self.module, grad_output), grad_output)
        self.grad_output = grad_output
        if not self.positions:
            self._leave([], ())
        return [grad_output[i] for i in positions]

    def _leave(self, positions: Sequence[int], g: tuple[Any, ...]) -> Any:
        grad_input = _spread(g, positions, self.count)
        for hook, _ in self.hooks.get("backward", {}).values():
            new = hook(self.module, grad_input, self.grad_output)
            grad_input = _answer(new, grad_input)
        return [grad_input[i] for i in positions]


def _tracked(values: Sequence[Any]) -> list[int]:
    return [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]


def _replaced(values: Sequence[Any], positions: list[int], back: Callable[..., Any]) -> list[Any]:
    """The values, with the tensors at these positions tied together."""
    new = [*values]
    if positions:
        same = tied([values[i] for i in positions], functools.partial(back, positions))
        for i, t in zip(positions, same, strict=True):
            new[i] = t
    return new


def _spread(g: Sequence[Any], positions: Sequence[int], count: int) -> tuple[Any, ...]:
    found = dict(zip(positions, g, strict=True))
    return tuple([found.get(i) for i in range(count)])


def _answer(new: Any, old: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a hook returned, in place of the gradients that it got."""
    if new is None:
        return old
    new = new if isinstance(new, tuple) else (new,)
    shapes = [[None if g is None else g.shape for g in gradients] for gradients in (old, new)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"a hook returned gradients of shapes {shapes[1]}; it must return a tuple with those "
            f"of shapes {shapes[0]}, or None"
        )
    return new
