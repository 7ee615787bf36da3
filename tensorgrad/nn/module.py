"""`Module` and `Sequential`: objects that hold parameters, and know their names."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from .. import tree
from ..engine.dispatch import apply
from ..engine.interpreter import epoch
from ..engine.modes import no_grad, plain
from ..engine.operands import as_operand
from ..engine.primitives import alias
from ..engine.registry import RULES
from ..engine.tensor import Tensor, asarray
from ..engine.typing import Array
from ..engine.variable import tensor_of
from ..guide import guide
from ..rules.linear_algebra import best_order
from ..storage.atomic import PathLike
from ..storage.files import load, naming, save
from ..storage.nesting import require_state
from ..tree import CONTAINERS

State: TypeAlias = dict[str, Array]


class IncompatibleKeys(NamedTuple):
    """The names that a state lacks, and the names that a module lacks, as in PyTorch."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        missing, unexpected = self
        if not missing and not unexpected:
            return "<all keys matched>"
        return f"IncompatibleKeys(missing_keys={missing}, unexpected_keys={unexpected})"


@guide
class Module:
    """A part of a network: an object whose attributes hold its parameters.

    A parameter is a tensor that requires grad and was not computed. Parameters are found in
    attributes, in other modules there, and in lists, tuples, dicts and other containers of them;
    nothing needs to be registered. Other tensors are saved and restored with the parameters, but
    not trained. A class defines `forward`, as in PyTorch, or `__call__`: both are then names of the
    same method.

    >>> class Line(tg.nn.Module):
    ...     def __init__(self):
    ...         self.slope = tg.Tensor(1.0, requires_grad=True)
    ...         self.shifts = [tg.Tensor(0.0, requires_grad=True)]
    ...
    ...     def __call__(self, x):
    ...         return self.slope * x + self.shifts[0]
    >>> [name for name, parameter in Line().named_parameters()]
    ['slope', 'shifts.0']
    >>> Line()
    Line(
      slope: parameter of shape ()
      shifts.0: parameter of shape ()
    )  # 2 parameters
    """

    training: bool = True
    """Whether the module is in training mode. In evaluation mode, dropout does nothing."""

    buffers: ClassVar[tuple[str, ...]] = ()
    """The names of attributes that hold tensors which are never parameters."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        names = {"forward", "__call__"}
        kind = next(kind for kind in cls.__mro__ if names & vars(kind).keys())
        own = [vars(kind)[name] for name in names if name in vars(kind)]
        inherited: Any = super(kind, cls)
        # A class may define both, with a `__call__` that calls forward.
        if len(own) == 1 and inherited.forward is inherited.__call__:
            cls.forward = cls.__call__ = own[0]  # type: ignore[method-assign]

    def forward(self, *_inputs: Any, **_options: Any) -> Any:
        """Return the output, as a call of the module does. A class defines this or `__call__`."""
        raise TypeError(
            f"{type(self).__name__} cannot be called: define forward(self, x) in the class"
        )

    __call__ = forward

    def __setattr__(self, name: str, value: Any) -> None:
        held = vars(self).get(name)
        if isinstance(held, Tensor) and value is not None:
            _require_replaceable(f"{type(self).__name__}.{name}", held, value)
        super().__setattr__(name, value)
        epoch[0] += 1

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        epoch[0] += 1

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Return every parameter once, with the dotted path on which it is found first."""
        return [(path, p) for path, p in _found(self, Tensor) if _is_parameter(p)]

    def parameters(self) -> list[Tensor]:
        """Return every parameter once, in the order in which the attributes were set."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_modules(self) -> list[tuple[str, Module]]:
        """Return this module, with the path `""`, and every one in it, with its first path."""
        return _found(self, Module)

    def modules(self) -> list[Module]:
        """Return this module and every one in it, each once."""
        return [module for _, module in self.named_modules()]

    def zero_grad(self) -> None:
        """Set the `grad` of every parameter to None."""
        for parameter in self.parameters():
            parameter.zero_grad()

    # -- what training changes

    def train(self, mode: bool = True) -> Self:
        """Put this module and those in it into training mode, or evaluation mode (False)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and those in it into evaluation mode."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze (True) the floating tensors of this module and of those in it.

        A frozen parameter is not listed by `parameters()`, but stays in the state. Tensors that a
        class names in `buffers` are not changed.

        >>> net = tg.nn.MLP(3, [4, 1])
        >>> _ = net.layers[0].requires_grad_(False)
        >>> [name for name, _ in net.named_parameters()]
        ['layers.1.weight', 'layers.1.bias']
        """
        never = {
            id(getattr(module, name, None)) for module in self.modules() for name in module.buffers
        }
        for _, tensor in _found(self, Tensor):
            if tensor.is_leaf and tensor.dtype.kind in "fc" and id(tensor) not in never:
                tensor.requires_grad = requires_grad
        return self

    # -- the state

    def state_dict(self) -> State:
        """Return copies of the arrays of all tensors that were not computed, by dotted path.

        A tensor found on several paths is listed under each of them, as in PyTorch.

        >>> {name: a.shape for name, a in tg.nn.Linear(3, 2).state_dict().items()}
        {'weight': (2, 3), 'bias': (2,)}
        """
        return {path: plain(tensor).copy() for path, tensor in _state(self)}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Load the arrays of a state: all of them or, if one does not fit, none.

        The values are arrays or tensors, also PyTorch's; they are cast to the module's dtypes.
        Raises a ValueError that lists all names that are missing or unexpected, all arrays with
        other shapes or with dtypes that cannot be cast, and all tensors whose array is read-only.
        Without `strict`, missing and unexpected names are ignored, and returned.

        >>> net, other = tg.nn.Linear(3, 2), tg.nn.Linear(3, 2)
        >>> net.load_state_dict(other.state_dict())
        <all keys matched>
        >>> net.load_state_dict({"weight": np.ones((2, 3)), "scale": 1.0}, strict=False)
        IncompatibleKeys(missing_keys=['bias'], unexpected_keys=['scale'])
        >>> net.load_state_dict(other.state_dict()).missing_keys
        []
        >>> bool(np.all(net(np.ones(3)) == other(np.ones(3))))
        True
        """
        own = dict(_state(self))
        arrays = {name: np.array(_plain(value)) for name, value in state.items() if name in own}
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        faults = [f"missing: {name}" for name in missing if strict]
        faults += [f"unexpected: {name}" for name in unexpected if strict]
        for name, array in arrays.items():
            wanted = own[name]
            if array.shape != wanted.shape:
                faults.append(f"of another shape: {name} is {array.shape}, not {wanted.shape}")
            elif not np.can_cast(array.dtype, wanted.dtype, "same_kind"):
                faults.append(f"of another dtype: {name} is {array.dtype}, not {wanted.dtype}")
            elif not (wanted.requires_grad or plain(wanted).flags.writeable):
                faults.append(f"read-only: {name}, perhaps while a graph recorded in guard() lives")
            elif wanted.requires_grad and not wanted.is_leaf:
                faults.append(f"computed by a transform, so it cannot be set: {name}")
        if faults:
            raise ValueError(
                f"load_state_dict: the state is not that of this {type(self).__name__}, and "
                "nothing was loaded; "
                + ("strict=False ignores missing and unexpected names" if strict else "")
                + "".join(f"\n  {fault}" for fault in faults)
            )
        for name, array in arrays.items():
            if own[name].requires_grad:
                own[name].data = array
            else:
                plain(own[name])[...] = array
        return IncompatibleKeys(missing, unexpected)

    def named_generators(self) -> list[tuple[str, Any]]:
        """Return every NumPy Generator, such as that of dropout, with its first dotted path.

        >>> [name for name, _ in tg.nn.Sequential(tg.nn.Dropout(0.5)).named_generators()]
        ['0.rng']
        """
        return _found(self, np.random.Generator)

    def _arrays(self) -> State:
        """The state that `state_dict` returns, without copying the arrays."""
        if type(self).state_dict is not Module.state_dict:
            return self.state_dict()
        return {path: tensor.data for path, tensor in _state(self)}

    def save(self, path: PathLike, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the state of the module and its generators to a file, as `tensorgrad.save` does.

        >>> net, other = tg.nn.Linear(3, 2), tg.nn.Linear(3, 2)
        >>> net.save("net.npz")
        >>> other.load_state("net.npz")
        <all keys matched>
        >>> bool(np.all(net(np.ones(3)) == other(np.ones(3))))
        True
        """
        save(path, self, metadata)

    def load_state(self, path: PathLike, strict: bool = True) -> IncompatibleKeys:
        """Load the arrays of a file by `save`, or a `.safetensors` file by PyTorch: all, or none.

        Raises CheckpointError if the file is damaged, if names are missing or unexpected, if shapes
        differ, or if dtypes would lose digits: `load_state_dict(tg.load(path))` converts those. If
        `strict` is false, missing and unexpected names are ignored, and returned.
        """
        state = load(path)
        with naming(path):
            require_state(dict(_state(self)), state, strict=strict)
        return self.load_state_dict(state, strict)

    # -- as text

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        parts = "".join(f"  {path}: {_described(part)}\n" for path, part in _parts(self))
        name = type(self).__name__
        return f"{name}(\n{parts})  # {_count(self):,} parameters" if parts else f"{name}()"

    def summary(self, *inputs: Any) -> str:
        """Return a table of the modules: path, type, shape of the output, number of parameters.

        For the shapes, a copy of the network is called on the example `inputs`, in evaluation mode;
        without inputs, the column is left out. The parameters of a module are its own, without
        those of the modules in it.

        >>> net = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh(), tg.nn.Linear(4, 1))
        >>> print(net.summary(np.ones((8, 3))))
        path  module      output  parameters
              Sequential  (8, 1)           0
        0     Linear      (8, 4)          16
        1     Tanh        (8, 4)           0
        2     Linear      (8, 1)           5
        total                             21
        """
        named = self.named_modules()
        counts = {path: 0 for path, _ in named}
        for path, parameter in self.named_parameters():
            while path not in counts:
                path = path.rpartition(".")[0]
            counts[path] += parameter.size
        rows = [[path, type(m).__name__, f"{counts[path]:,}"] for path, m in named]
        rows = [["path", "module", "parameters"], *rows, ["total", "", f"{_count(self):,}"]]
        if inputs:
            shapes = ["output", *_output_shapes(self, inputs), ""]
            for row, shape in zip(rows, shapes, strict=True):
                row.insert(2, shape)
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join(
            "  ".join([*map(str.ljust, row[:-1], widths), row[-1].rjust(widths[-1])])
            for row in rows
        )


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


# -- finding what a module holds


def _items(holder: Any) -> Iterable[tuple[Any, Any]]:
    """The children of a module or another container, by name."""
    if not isinstance(holder, Module):
        return zip(*tree.children(holder))
    if isinstance(holder, Sequential):
        return [*holder.steps.items(), *[i for i in vars(holder).items() if i[0] != "steps"]]
    return vars(holder).items()


def _found(
    module: Module, kinds: Any, again: bool = False, inside: bool = True
) -> list[tuple[str, Any]]:
    """The objects of some classes in a module, itself among them, with their dotted paths.

    Each is there once or, with `again`, on every path; a path ends where it comes back to an object
    on it. Other modules are searched if `inside` is true.
    """
    found = [("", module)] if isinstance(module, kinds) else []
    seen = {id(module)} if inside else set()  # a part that is the module is not searched
    _search(module, "", kinds, again, inside, seen, found)
    return found


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
            if container is not None and (inside or not isinstance(value, Module)):
                _search(value, name, kinds, again, inside, seen, found)
            if again:
                seen.remove(id(value))


def _state(module: Module) -> list[tuple[str, Tensor]]:
    """The tensors that are saved and restored, on every path."""
    return [(path, t) for path, t in _found(module, Tensor, again=True) if _is_kept(t)]


def _is_parameter(tensor: Tensor) -> bool:
    """Whether it requires grad, and was not computed, except by a transform from a leaf."""
    node = tensor._node
    return node is not None and (node.rule is None or node.rule is RULES[alias])


def _is_kept(tensor: Tensor) -> bool:
    return not tensor.requires_grad or _is_parameter(tensor)


def _require_replaceable(name: str, held: Tensor, value: Any) -> None:
    """Raise a TypeError if assigning a value would silently remove a tensor from the module."""
    computed = isinstance(value, Tensor) and not _is_kept(value)
    if (held.requires_grad and held.is_leaf) if computed else not isinstance(value, Tensor):
        what = "a computed tensor" if computed else f"an object of type {type(value).__name__}"
        raise TypeError(
            f"{name} is a {_described(held)}, and assigning {what} would remove it from the "
            f"module: write `{name.rpartition('.')[2]}.data = ...` to change its elements, or "
            "assign tensorgrad.Tensor(..., requires_grad=True)"
        )


def _plain(value: Any) -> Array:
    """An array or tensor, also PyTorch's, as an array."""
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def _parts(module: Module) -> list[tuple[str, Any]]:
    """The tensors, functions and modules that a module holds, by their paths in it."""
    return _found(module, (Tensor, Callable), again=True, inside=False)[1:]


def _described(part: Any) -> str:
    if isinstance(part, Tensor):
        return f"{'parameter' if _is_parameter(part) else 'tensor'} of shape {part.shape}"
    if isinstance(part, Module):
        return repr(part).replace("\n", "\n  ")
    return str(getattr(part, "__name__", part))


def _count(module: Module) -> int:
    return sum(parameter.size for parameter in module.parameters())


def _output_shapes(module: Module, inputs: tuple[Any, ...]) -> list[str]:
    """The shapes that `module.modules()` return when the module is called."""
    shapes: dict[int, str] = {}

    def watched(kind: type[Module]) -> type[Module]:
        """A subclass that records the shapes of its results."""

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            out = kind.__call__(self, *args, **kwargs)
            results = out if isinstance(out, (tuple, list)) else (out,)
            shapes[id(self)] = ", ".join(str(r.shape) for r in results if hasattr(r, "shape"))
            return out

        return type(kind.__name__, (kind,), {"__call__": call})

    copy = _copied(module, {}, watched).eval()
    with no_grad():
        copy(*inputs)
    return [shapes.get(id(m), "") for m in copy.modules()]


# -- copies


class _Original:
    """The module that a tree structure was taken from; compares equal to any other one."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Original)

    def __hash__(self) -> int:
        return hash(_Original)

    def __repr__(self) -> str:
        return "..."


def _with_parameters(original: _Original, values: list[Any]) -> Module:
    """A copy of a module with other parameters, which require grad, as parameters do."""
    copies: dict[int, Any] = {}
    for parameter, value in zip(original.module.parameters(), values, strict=True):
        new = asarray(value)
        if new.requires_grad:
            new = new if _is_parameter(new) else apply(alias, (new,))
        else:
            new = tensor_of(plain(new), None)
            new.requires_grad = True
        copies[id(parameter)] = new
    copy: Module = _copied(original.module, copies)
    return copy


def _same(kind: type[Module]) -> type[Module]:
    return kind


def _copied(
    part: Any, copies: dict[int, Any], kind: Callable[[type[Module]], type[Module]] = _same
) -> Any:
    """A copy of a module, or another part; `copies` has the new objects by the ids of the old ones.

    The copy of each module is of the class that `kind` returns for its own.
    """
    if id(part) in copies:
        return copies[id(part)]
    if isinstance(part, Module):
        copy = copies[id(part)] = object.__new__(kind(type(part)))
        vars(copy).update({name: _copied(held, copies, kind) for name, held in vars(part).items()})
        return copy
    container = CONTAINERS[type(part)]
    if container is None:
        return part
    keys, children, metadata = container.flatten(part)
    return container.unflatten(keys, metadata, [_copied(c, copies, kind) for c in children])


# A derivative by a module is one by its parameters.
tree.register(
    Module,
    lambda module: (dict(module.named_parameters()), _Original(module)),
    _with_parameters,
    stateful=True,
)


# -- what layers share


def as_input(x: Any, dtype: DTypeLike | None = None) -> Any:
    """Return lists of numbers as an array of `dtype`, and lists of tensors stacked.

    Tensors and arrays are returned unchanged.
    """
    if hasattr(x, "__array_function__"):
        return x
    return as_operand(x, "input", dtype) if isinstance(x, (list, tuple)) else np.asarray(x, dtype)


def floating(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype of quotients of numbers of `dtype`: `dtype` itself, if it is floating."""
    return np.result_type(dtype, np.float16)


def uniform(
    rng: np.random.Generator, bound: float, shape: tuple[int, ...], dtype: DTypeLike
) -> Tensor:
    """A parameter whose elements are uniform in +-bound."""
    return Tensor(rng.uniform(-bound, bound, shape), dtype, requires_grad=True)


def uniform_weight(
    rng: np.random.Generator, bound: float, shape: tuple[int, ...], dtype: DTypeLike
) -> Tensor:
    """A weight for `affine`, uniform in +-bound, in the fastest memory order."""
    elements = np.asarray(rng.uniform(-bound, bound, shape), order=best_order(shape))
    return Tensor(elements, dtype, requires_grad=True)


def called(module: Module, *required: Any, **options: Any) -> str:
    """The call that makes such a module: required arguments, and options that are not the default.

    `dtype` and `rng`, which only concern the parameters, are left out.
    """
    defaults = {
        name: parameter.default
        for kind in reversed(type(module).__mro__[:-1])
        for name, parameter in inspect.signature(kind).parameters.items()
    }
    shown = [f"{k}={v!r}" for k, v in options.items() if k not in defaults or v != defaults[k]]
    return f"{type(module).__name__}({', '.join([*map(str, required), *shown])})"
