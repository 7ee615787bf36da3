"""What the parts of a network have in common: they hold parameters."""

from collections.abc import Iterable
from typing import Any

from ..tensor import Tensor


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
        if holder.requires_grad and holder.is_leaf and id(holder) not in seen:
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
