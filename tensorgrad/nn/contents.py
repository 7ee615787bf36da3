"""Finding what a module holds: tensors, other modules, and the paths on which they lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from .. import tree
from ..engine.primitives import alias
from ..engine.registry import RULES
from ..engine.tensor import Tensor
from ..tree import CONTAINERS


class Holder:
    """The base class of modules: an object whose attributes are searched."""

    buffer_names: tuple[str, ...] = ()
    """The names of attributes that hold tensors which are never parameters."""

    non_persistent: tuple[str, ...] = ()
    """The names of those of them that are no part of the state."""

    _hooks: Mapping[str, Any] = MappingProxyType({})

    inlined: ClassVar[str | None] = None
    """The name of an attribute whose items are named as if they were attributes themselves."""


def _items(holder: Any) -> Iterable[tuple[Any, Any]]:
    """The children of a module or another container, by name."""
    if not isinstance(holder, Holder):
        return zip(*tree.children(holder))
    own = vars(holder)
    if "_hooks" in own:
        own = {name: part for name, part in own.items() if name != "_hooks"}
    if holder.inlined in own:
        others = [item for item in own.items() if item[0] != holder.inlined]
        return [*_items(own[holder.inlined]), *others]
    return own.items()


def found(
    module: Holder, kinds: Any, again: bool = False, inside: bool = True
) -> list[tuple[str, Any]]:
    """The objects of some classes in a module, itself among them, with their dotted paths.

    Each is there once or, with `again`, on every path; a path ends where it comes back to an object
    on it. Other modules are searched if `inside` is true.
    """
    parts = [("", module)] if isinstance(module, kinds) else []
    seen = {id(module)} if inside else set()  # a part that is the module is not searched
    _search(module, "", kinds, again, inside, seen, parts)
    return parts


# Not a function inside of the other one: that would refer to itself, and be garbage in a cycle.
def _search(
    holder: Any,
    path: str,
    kinds: Any,
    again: bool,
    inside: bool,
    seen: set[int],
    found: list[tuple[str, Any]],
) -> None:
    for key, value in _items(holder):
        container = CONTAINERS[type(value)]
        is_found = isinstance(value, kinds)
        if (is_found or container is not None) and id(value) not in seen:
            name = f"{path}.{key}" if path else str(key)
            if is_found:
                found.append((name, value))
            seen.add(id(value))
            if container is not None and (inside or not isinstance(value, Holder)):
                _search(value, name, kinds, again, inside, seen, found)
            if again:
                seen.remove(id(value))


def state_of(module: Holder) -> list[tuple[str, Tensor]]:
    """The tensors that are saved and restored, on every path."""
    left_out = named_in(module, "non_persistent")
    tensors = found(module, Tensor, again=True)
    return [(path, t) for path, t in tensors if is_kept(t) and id(t) not in left_out]


def named_in(module: Holder, names: str) -> set[int]:
    """The ids of what the modules hold in the attributes of the names that an attribute lists."""
    modules = [module for _, module in found(module, Holder)]
    return {id(getattr(m, name, None)) for m in modules for name in getattr(m, names)}


def is_parameter(tensor: Tensor) -> bool:
    """Whether it requires grad, and was not computed, except by a transform from a leaf."""
    node = tensor._node
    return node is not None and (node.rule is None or node.rule is RULES[alias])


def is_kept(tensor: Tensor) -> bool:
    """Whether it was not computed, except by a transform from a leaf."""
    return not tensor.requires_grad or is_parameter(tensor)
