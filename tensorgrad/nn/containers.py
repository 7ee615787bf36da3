"""Modules that hold others, or parameters, as a list or a dict does, and one that calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any, Self

from ..engine.tensor import Tensor
from ..guide import guide
from .module import Module


@guide
class Sequential(Module):
    """Modules, or other functions of one tensor, applied one after another.

    Their names are "0", "1" ..., or the keys if one dict of them is passed. An index returns a
    module, a slice a Sequential.

    >>> net = tg.nn.Sequential(tg.nn.Linear(2, 3, rng=0), np.tanh, tg.nn.Linear(3, 1, rng=0))
    >>> net
    Sequential(
      0: Linear(2, 3)
      1: tanh
      2: Linear(3, 1)
    )  # 13 parameters
    >>> net(np.ones((5, 2))).shape, len(net), net[-1]
    ((5, 1), 3, Linear(3, 1))
    >>> list(net.state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    inlined = "steps"

    def __init__(self, *modules: Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            self.steps: dict[str, Any] = dict(modules[0])
        else:
            self.steps = {str(i): module for i, module in enumerate(modules)}
        for name, step in self.steps.items():
            if not callable(step):
                hint = ": pass modules one by one, Sequential(*modules)" * isinstance(step, list)
                raise TypeError(
                    f"Sequential: {name} is a {type(step).__name__}, not a function{hint}"
                )
            if isinstance(step, type):
                raise TypeError(f"Sequential: {name} is a class: make one, {step.__name__}()")

    def __call__(self, x: Any) -> Tensor:
        """Return the output of the last module."""
        for step in self.steps.values():
            x = step(x)
        return x

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.steps.values())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(dict([*self.steps.items()][index]))
        return [*self.steps.values()][index]


class _Holder(Module):
    """What the lists and the dicts share: the check of an item."""

    inlined = "items_held"

    def _checked(self, value: Any) -> Any:
        raise NotImplementedError

    def _require_iterable(self, values: Any, what: str) -> None:
        if not isinstance(values, Iterable):
            name = type(self).__name__
            raise TypeError(f"{name}: needs {what} of items, not one {type(values).__name__}")


class _OfModules(_Holder):
    def _checked(self, value: Any) -> Module:
        if isinstance(value, Module):
            return value
        what = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{type(self).__name__}: an item must be a Module, not {what}")


class _OfParameters(_Holder):
    def _checked(self, value: Any) -> Tensor:
        if isinstance(value, Tensor) and value.requires_grad:
            if value.is_leaf:
                return value
            raise TypeError(
                f"{type(self).__name__}: an item is a computed tensor, which is no parameter"
            )
        return Tensor(value, requires_grad=True)


class _List(_Holder, MutableSequence[Any]):
    """A list whose items are named by their indices."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._require_iterable(values, "a list")
        self.items_held = [self._checked(value) for value in values]

    def __len__(self) -> int:
        return len(self.items_held)

    def __getitem__(self, index: int | slice) -> Any:
        held = self.items_held[index]
        return type(self)(held) if isinstance(index, slice) else held

    def __setitem__(self, index: int | slice, value: Any) -> None:
        held = [*self.items_held]
        held[index] = (
            [*map(self._checked, value)] if isinstance(index, slice) else self._checked(value)
        )
        self.items_held = held

    def __delitem__(self, index: int | slice) -> None:
        held = [*self.items_held]
        del held[index]
        self.items_held = held

    def insert(self, index: int, value: Any) -> None:
        """Insert an item before the one at the index."""
        held = [*self.items_held]
        held.insert(index, self._checked(value))
        self.items_held = held

    def append(self, value: Any) -> Self:  # type: ignore[override]
        """Add an item at the end; return the list, as PyTorch's does."""
        self.insert(len(self), value)
        return self

    def extend(self, values: Iterable[Any]) -> Self:  # type: ignore[override]
        """Add items at the end; return the list, as PyTorch's does."""
        self.items_held = [*self.items_held, *map(self._checked, values)]
        return self

    def __add__(self, other: Iterable[Any]) -> Any:
        return type(self)([*self, *other])


class _Dict(_Holder, MutableMapping[str, Any]):
    """A dict whose items are named by their keys."""

    __eq__ = Module.__eq__
    __hash__ = Module.__hash__

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self._require_iterable(values, "a dict")
        self.items_held: dict[str, Any] = {}
        self.update(values)

    def __len__(self) -> int:
        return len(self.items_held)

    def __iter__(self) -> Iterator[str]:
        return iter(self.items_held)

    def __getitem__(self, key: str) -> Any:
        return self.items_held[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"{type(self).__name__}: a key must be a string, not {key!r}")
        self.items_held = {**self.items_held, key: self._checked(value)}

    def __delitem__(self, key: str) -> None:
        held = {**self.items_held}
        del held[key]
        self.items_held = held


class ModuleList(_List, _OfModules):
    """A list of modules, as an attribute of another module; a plain list does as well.

    >>> layers = tg.nn.ModuleList(tg.nn.Linear(3, 3) for _ in range(2))
    >>> layers += [tg.nn.Linear(3, 1)]
    >>> len(layers), layers[-1], list(layers[:1].state_dict())
    (3, Linear(3, 1), ['0.weight', '0.bias'])
    """


class ModuleDict(_Dict, _OfModules):
    """A dict of modules, as an attribute of another module; a plain dict does as well.

    >>> heads = tg.nn.ModuleDict({"mean": tg.nn.Linear(3, 1), "scale": tg.nn.Linear(3, 1)})
    >>> heads["mean"], list(heads.state_dict())[:2]
    (Linear(3, 1), ['mean.weight', 'mean.bias'])
    """


class ParameterList(_List, _OfParameters):
    """A list of parameters, as an attribute of a module; a plain list of them does as well.

    Arrays, numbers and tensors that do not require grad become parameters.

    >>> weights = tg.nn.ParameterList([np.ones(3), np.zeros(2)])
    >>> [(name, w.shape) for name, w in weights.named_parameters()]
    [('0', (3,)), ('1', (2,))]
    """


class ParameterDict(_Dict, _OfParameters):
    """A dict of parameters, as an attribute of a module; a plain dict of them does as well.

    Arrays, numbers and tensors that do not require grad become parameters.

    >>> weights = tg.nn.ParameterDict({"shift": np.zeros(3)})
    >>> weights["shift"]
    Tensor([0., 0., 0.], requires_grad=True)
    """
