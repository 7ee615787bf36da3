"""`Module`: an object that holds parameters, and knows their names."""

from __future__ import annotations

import copy
import inspect
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from .. import tree
from ..engine.dispatch import apply
from ..engine.interpreter import epoch
from ..engine.modes import no_grad, plain
from ..engine.operands import as_operand
from ..engine.primitives import alias
from ..engine.tensor import Tensor, asarray
from ..engine.typing import Array
from ..engine.variable import tensor_of
from ..guide import guide
from ..rules.linear_algebra import best_order
from ..storage.atomic import PathLike
from ..storage.files import load, naming, save
from ..storage.nesting import require_state
from ..tables import Table
from ..tree import CONTAINERS
from .contents import found, is_kept, is_parameter, named_in, state_of
from .hooks import Hooked

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
class Module(Hooked):
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
            f"{type(self).__name__} cannot be called: define forward(self, x) in the class, "
            "or call the modules in a list or dict one by one"
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
        return [(path, p) for path, p in found(self, Tensor) if is_parameter(p)]

    def parameters(self) -> list[Tensor]:
        """Return every parameter once, in the order in which the attributes were set."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_modules(self) -> list[tuple[str, Module]]:
        """Return this module, with the path `""`, and every one in it, with its first path."""
        return found(self, Module)

    def modules(self) -> list[Module]:
        """Return this module and every one in it, each once."""
        return [module for _, module in self.named_modules()]

    def named_children(self) -> list[tuple[str, Module]]:
        """Return the modules right in this one, without those in them, by their paths.

        >>> net = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh())
        >>> net.named_children()
        [('0', Linear(3, 4)), ('1', Tanh())]
        """
        return [(path, m) for path, m in found(self, Module, inside=False) if m is not self]

    def children(self) -> list[Module]:
        """Return the modules right in this one, without those in them."""
        return [module for _, module in self.named_children()]

    def get_submodule(self, target: str) -> Module:
        """Return the module with a dotted path; `""` is that of this module itself."""
        return self._at(target, "module", found(self, Module, again=True))

    def get_parameter(self, target: str) -> Tensor:
        """Return the parameter with a dotted path.

        >>> tg.nn.Sequential(tg.nn.Linear(3, 2)).get_parameter("0.bias").shape
        (2,)
        """
        tensors = found(self, Tensor, again=True)
        return self._at(target, "parameter", [pair for pair in tensors if is_parameter(pair[1])])

    def get_buffer(self, target: str) -> Tensor:
        """Return the tensor with a dotted path that is no parameter."""
        tensors = found(self, Tensor, again=True)
        return self._at(target, "buffer", [pair for pair in tensors if not pair[1].requires_grad])

    def _at(self, path: str, what: str, named: list[tuple[str, Any]]) -> Any:
        if path in (parts := dict(named)):
            return parts[path]
        names = ", ".join(repr(name) for name in parts if name) or "none"
        raise AttributeError(f"{type(self).__name__} has no {what} {path!r}; it has {names}")

    # -- buffers, and what is set by name

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """Return every tensor that does not require grad, with its first path.

        They are buffers, such as running statistics, and parameters that are frozen.
        """
        return [(path, t) for path, t in found(self, Tensor) if not t.requires_grad]

    def buffers(self) -> list[Tensor]:
        """Return every tensor that does not require grad."""
        return [tensor for _, tensor in self.named_buffers()]

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Set an attribute to a tensor that is never a parameter, not even if all are unfrozen.

        An array or a number becomes a tensor; None is for no tensor yet. Unless `persistent`, the
        tensor is no part of the state. An assigned tensor is a buffer anyway, and a class can list
        the names in `buffer_names`.

        >>> net = tg.nn.Linear(3, 2)
        >>> net.register_buffer("mean", np.zeros(3), persistent=False)
        >>> [name for name, _ in net.named_buffers()], list(net.state_dict())
        (['mean'], ['weight', 'bias'])
        """
        self._require_free(name, "register_buffer")
        value = None if tensor is None else asarray(tensor)
        if value is not None and value.requires_grad:
            raise TypeError(f"register_buffer: {name} requires grad: detach() it")
        setattr(self, name, value)
        self.buffer_names = (*self.buffer_names, name)
        if not persistent:
            self.non_persistent = (*self.non_persistent, name)

    def register_parameter(self, name: str, param: Tensor | None) -> None:
        """Set an attribute to a parameter: a tensor that requires grad, or None for none yet."""
        self._require_free(name, "register_parameter")
        if not (param is None or (isinstance(param, Tensor) and is_parameter(param))):
            raise TypeError(
                f"register_parameter: {name} must be a tensor that requires grad and was not "
                "computed: tensorgrad.Tensor(..., requires_grad=True)"
            )
        setattr(self, name, param)

    def _require_free(self, name: str, method: str) -> None:
        if not name.isidentifier():
            raise ValueError(f"{method}: {name!r} is not the name of an attribute")
        if getattr(self, name, None) is not None:
            raise ValueError(f"{method}: {type(self).__name__}.{name} exists: assign to it")

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

        A frozen parameter is not listed by `parameters()`, but stays in the state. Buffers that are
        registered, or that a class names in `buffer_names`, are not changed.

        >>> net = tg.nn.MLP(3, [4, 1])
        >>> _ = net.layers[0].requires_grad_(False)
        >>> [name for name, _ in net.named_parameters()]
        ['layers.1.weight', 'layers.1.bias']
        """
        never = named_in(self, "buffer_names")
        for _, tensor in found(self, Tensor):
            if tensor.is_leaf and tensor.dtype.kind in "fc" and id(tensor) not in never:
                tensor.requires_grad = requires_grad
        return self

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` with every module, each after those in it, and return this one.

        >>> def set_bias(module):
        ...     if isinstance(module, tg.nn.Linear):
        ...         tg.nn.init.zeros_(module.bias)
        >>> net = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Linear(4, 1)).apply(set_bias)
        >>> net[0].bias
        Tensor([0., 0., 0., 0.], requires_grad=True)
        """
        order: dict[Module, None] = {}
        ahead: list[Module] = [self]
        while ahead:
            module = ahead.pop()
            if module not in order:
                order[module] = None
                ahead += module.children()
        for module in reversed(order):
            fn(module)
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a copy of the module whose floating tensors have another dtype.

        Complex tensors get another one only if it is complex, too. Unlike PyTorch's `double()`, it
        does not change the module itself, whose parameters an optimizer may hold: make the
        optimizer after it.

        >>> net = tg.nn.Linear(3, 2).astype(np.float32)
        >>> net(np.ones(3, np.float32)).dtype
        dtype('float32')
        """
        kind = np.dtype(dtype).kind
        if kind not in "fc":
            raise TypeError(
                f"{type(self).__name__}.astype: parameters need a floating or complex dtype, not "
                f"{np.dtype(dtype)}"
            )
        copies = {
            id(t): Tensor(plain(t), dtype, t.requires_grad)
            for _, t in found(self, Tensor)
            if is_kept(t) and t.dtype.kind in ("f", kind)
        }
        return copy.deepcopy(self, copies)

    # -- the state

    def state_dict(self) -> State:
        """Return copies of the arrays of all tensors that were not computed, by dotted path.

        A tensor found on several paths is listed under each of them, as in PyTorch.

        >>> {name: a.shape for name, a in tg.nn.Linear(3, 2).state_dict().items()}
        {'weight': (2, 3), 'bias': (2,)}
        """
        return {path: plain(tensor).copy() for path, tensor in state_of(self)}

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
        own = dict(state_of(self))
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
        return found(self, np.random.Generator)

    def _arrays(self) -> State:
        """The state that `state_dict` returns, without copying the arrays."""
        if type(self).state_dict is not Module.state_dict:
            return self.state_dict()
        return {path: tensor.data for path, tensor in state_of(self)}

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
            require_state(dict(state_of(self)), state, strict=strict)
        return self.load_state_dict(state, strict)

    # -- as text

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        parts = "".join(f"  {path}: {_described(part)}\n" for path, part in _parts(self))
        name = type(self).__name__
        return f"{name}(\n{parts})  # {_count(self):,} parameters" if parts else f"{name}()"

    def _repr_html_(self) -> str:
        """The table of `summary()`, for notebooks."""
        return self.summary()._repr_html_()

    def summary(self, *inputs: Any) -> Table:
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
        return Table(rows, "<" * (len(rows[0]) - 1) + ">")


# -- what may be assigned, and how it is shown


def _require_replaceable(name: str, held: Tensor, value: Any) -> None:
    """Raise a TypeError if assigning a value would silently remove a tensor from the module."""
    computed = isinstance(value, Tensor) and not is_kept(value)
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
    return found(module, (Tensor, Callable), again=True, inside=False)[1:]


def _described(part: Any) -> str:
    if isinstance(part, Tensor):
        return f"{'parameter' if is_parameter(part) else 'tensor'} of shape {part.shape}"
    if isinstance(part, Module):
        return repr(part).replace("\n", "\n  ")
    return str(getattr(part, "__name__", part))


def _count(module: Module) -> int:
    return sum(parameter.size for parameter in module.parameters())


def _output_shapes(module: Module, inputs: tuple[Any, ...]) -> list[str]:
    """The shapes that `module.modules()` return when the module is called."""
    shapes: dict[int, str] = {}

    def note(module: Module, _args: Any, out: Any) -> None:
        results = out if isinstance(out, (tuple, list)) else (out,)
        shapes[id(module)] = ", ".join(str(r.shape) for r in results if hasattr(r, "shape"))

    modules = _copied(module, {}).eval().modules()
    for part in modules:
        part.register_forward_hook(note)
    with no_grad():
        modules[0](*inputs)
    return [shapes.get(id(part), "") for part in modules]


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
            new = new if is_parameter(new) else apply(alias, (new,))
        else:
            new = tensor_of(plain(new), None)
            new.requires_grad = True
        copies[id(parameter)] = new
    copy: Module = _copied(original.module, copies)
    return copy


def _copied(part: Any, copies: dict[int, Any]) -> Any:
    """A copy of a module, or another part; `copies` has new objects by the ids of the old ones."""
    if id(part) in copies:
        return copies[id(part)]
    if isinstance(part, Module):
        copy = copies[id(part)] = object.__new__(type(part))
        vars(copy).update({name: _copied(held, copies) for name, held in vars(part).items()})
        return copy
    container = CONTAINERS[type(part)]
    if container is None:
        return part
    keys, children, metadata = container.flatten(part)
    return container.unflatten(keys, metadata, [_copied(c, copies) for c in children])


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


def are_sizes(*sizes: Any) -> bool:
    """Whether all are integers of at least 1."""
    return all(hasattr(size, "__index__") and size >= 1 for size in sizes)


def require_sizes(who: Any, *sizes: Any) -> None:
    """Raise a ValueError unless all are integers of at least 1; `who(*sizes)` is what it names."""
    if not are_sizes(*sizes):
        given = ", ".join(map(repr, sizes))
        raise ValueError(f"{who}({given}): every size must be an integer of at least 1")


def require_count(who: Any, name: str, value: Any) -> None:
    """Raise a ValueError unless the option of this name is an integer of at least 1."""
    if not are_sizes(value):
        raise ValueError(f"{who}: {name}={value!r} must be an integer of at least 1")


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
