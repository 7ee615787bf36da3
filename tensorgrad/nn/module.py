"""What the parts of a network have in common: they hold parameters."""

from collections.abc import Iterable
from typing import Any

from ..graph import RULES
from ..structure import CONTAINERS
from ..tensor import Tensor, alias, apply, asarray, tensor_of


class Module:
    """A part of a network: an object whose attributes hold its parameters.

    A parameter is a tensor, not a computed one, that requires grad. It is found wherever it is: in
    an attribute, in another module there, or in a list, tuple or dict of them.

    >>> class Line(tg.nn.Module):
    ...     def __init__(self):
    ...         self.slope = tg.Tensor(1.0, requires_grad=True)
    ...         self.shifts = [tg.Tensor(0.0, requires_grad=True)]
    ...
    ...     def __call__(self, x):
    ...         return self.slope * x + self.shifts[0]
    >>> [name for name, parameter in Line().named_parameters()]
    ['slope', 'shifts.0']
    """

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Every parameter once, with the dotted path on which it is found first."""
        found: list[tuple[str, Tensor]] = []
        _collect(self, "", set(), found)
        return found

    def parameters(self) -> list[Tensor]:
        """Every parameter once, in the order in which the attributes were set."""
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget the gradient of every parameter: `grad` is None again."""
        for parameter in self.parameters():
            parameter.zero_grad()


def _collect(holder: Any, path: str, seen: set[int], found: list[tuple[str, Tensor]]) -> None:
    if isinstance(holder, Tensor):
        if _is_parameter(holder) and id(holder) not in seen:
            seen.add(id(holder))
            found.append((path, holder))
        return
    items: Iterable[tuple[Any, Any]]
    if isinstance(holder, Module):
        items = vars(holder).items()
    elif isinstance(holder, dict):
        items = holder.items()
    elif isinstance(holder, (list, tuple)):
        items = enumerate(holder)
    else:
        return
    if id(holder) not in seen:
        seen.add(id(holder))
        for key, value in items:
            _collect(value, f"{path}.{key}" if path else str(key), seen, found)


def _is_parameter(tensor: Tensor) -> bool:
    """Whether it requires grad and was not computed, but perhaps by a transform, from a leaf."""
    node = tensor._node
    return node is not None and (node.rule is None or node.rule is RULES[alias])


def _with_parameters(module: Module, values: list[Any]) -> Module:
    """A copy of a module that has other parameters; they require grad, as parameters do."""
    copies: dict[int, Any] = {}
    for parameter, value in zip(module.parameters(), values, strict=True):
        new = asarray(value)
        if new.requires_grad:
            new = new if _is_parameter(new) else apply(alias, (new,))
        else:
            new = tensor_of(new.data, None)
            new.requires_grad = True
        copies[id(parameter)] = new
    copy: Module = _replaced(module, copies)
    return copy


def _replaced(holder: Any, copies: dict[int, Any]) -> Any:
    """A copy of what holds parameters; `copies` has the new objects by the ids of the old ones."""
    if id(holder) in copies:
        return copies[id(holder)]
    if isinstance(holder, Module):
        copy = copies[id(holder)] = object.__new__(type(holder))
        vars(copy).update({key: _replaced(v, copies) for key, v in vars(holder).items()})
        return copy
    if isinstance(holder, dict):
        return type(holder)({key: _replaced(v, copies) for key, v in holder.items()})
    if hasattr(holder, "_fields"):
        return type(holder)(*(_replaced(v, copies) for v in holder))
    if isinstance(holder, (list, tuple)):
        return type(holder)([_replaced(v, copies) for v in holder])
    return holder


# Derivatives by a module are those by its parameters.
CONTAINERS[Module] = (lambda module: dict(module.named_parameters()), _with_parameters)
