"""The arguments of a compiled function: what of them is the signature, and where the arrays are."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import tree
from ..engine.modes import mode
from ..engine.registry import name_of
from ..engine.tensor import Tensor
from ..engine.typing import Array, Function
from ..engine.variable import tensor_of
from ..errors import TraceError
from ..tree import TreeDef, flatten, is_stateful
from .code import Code
from .tracing import Trace


class Arguments:
    """The arguments of one call of the function `name`, taken apart.

    `arrays` are those that may differ at each call; `key` is all else, the signature. `argnums` and
    `argnames` say which arguments are part of it as they are.
    """

    def __init__(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        argnums: Iterable[int],
        argnames: Collection[str],
    ) -> None:
        self.name = name
        static = {i + len(args) if i < 0 else i for i in argnums}
        given = (
            tuple([_Static(a) if i in static else a for i, a in enumerate(args)]),
            {k: _Static(a) if k in argnames else a for k, a in kwargs.items()},
        )
        self.leaves, self._structure = flatten(given, is_stateful)
        self.arrays: list[Array] = []
        self.is_tracked = False
        self._kinds = [self._kind(leaf) for leaf in self.leaves]
        self.key = mode.get().recording, self._structure, *self._kinds

    def _kind(self, leaf: Any) -> Any:
        kind = type(leaf)  # an attribute of the leaf itself may raise any error
        if issubclass(kind, Tensor) and leaf._node is None:
            return self._input(leaf._array, is_tensor=True)
        if issubclass(kind, Tensor):
            self.is_tracked = self.is_tracked or not leaf.is_leaf
            return _Same(leaf)
        if issubclass(kind, np.ndarray):
            return self._input(leaf)
        if issubclass(kind, np.generic):
            return self._input(np.asarray(leaf), is_number=True)
        if kind is _Static:
            value = leaf.value
            by_value = _compares(value) and not issubclass(type(value), Tensor)
            return (type(value), value) if by_value else _Same(value)
        if issubclass(kind, (float, complex)):
            return kind, repr(leaf)  # 0.0 is not -0.0
        return (kind, leaf) if _is_plain(leaf) else _Same(leaf)

    def _input(self, array: Any, is_tensor: bool = False, is_number: bool = False) -> _Input:
        if type(array) is not np.ndarray or array.dtype.kind not in "fciub":
            raise TraceError(
                f"{self.name}: an argument that is a {type(array).__name__} of dtype "
                f"{getattr(array, 'dtype', None)} cannot be compiled: pass an "
                "array of numbers, or name it in static_argnums"
            )
        self.arrays.append(array)
        return _Input(is_tensor, array.shape, array.dtype, is_number)

    @property
    def things(self) -> list[Any]:
        """The arguments that are no inputs of the program, static ones among them."""
        return [
            leaf.value if type(leaf) is _Static else leaf
            for leaf, kind in zip(self.leaves, self._kinds, strict=True)
            if not isinstance(kind, _Input)
        ]

    def labels(self, fun: Function) -> list[str]:
        """For each array, an expression for it by the names of a function's parameters."""
        by_position, by_name = self._structure.children
        names = [*_positional(fun, len(by_position.children)), *by_name.keys]
        parts = [*by_position.children, *by_name.children]
        labels = [name + path for name, part in zip(names, parts) for path in part.paths()]
        return [a for a, kind in zip(labels, self._kinds) if isinstance(kind, _Input)]

    def traced(self, trace: Trace) -> tuple[Any, list[tuple[Tensor, Any]]]:
        """The arguments as the traced function gets them; and the tensors among them."""
        arrays = iter(self.arrays)
        tensors: list[tuple[Tensor, Any]] = []
        leaves: list[Any] = []
        for leaf, kind in zip(self.leaves, self._kinds, strict=True):
            if not isinstance(kind, _Input):
                leaves.append(leaf.value if type(leaf) is _Static else leaf)
                continue
            tracer = trace.input(next(arrays))
            tracer.is_number = kind.is_number
            leaves.append(tensor_of(tracer, None) if kind.is_tensor else tracer)
            if kind.is_tensor:
                tensors.append((leaves[-1], tracer))
        return self._structure.unflatten(leaves), tensors

    def entrance(
        self, code: Code, names: Iterable[str], tested: Collection[str] = ()
    ) -> list[str] | None:
        """Lines that find the arrays in a tuple `args`, or return MISS for another signature.

        `names` are those that the arrays get; those `tested` are not looked at, as other lines do
        that. None is returned where lines cannot do it: for
        arguments by name, and in containers other than Python's own.
        """
        by_position, by_name = self._structure.children
        if by_name.children:
            return None
        lines = _unpacked(code, by_position, "args", iter(self._kinds), iter(names))
        tests = tuple(f"if type({name}) is not ndarray" for name in tested)
        return lines and [line for line in lines if not line.startswith(tests)]


def require_parameters(fun: Function, argnums: Iterable[int], argnames: Iterable[str]) -> None:
    """Raise a ValueError that names positions and names that no argument of a function has."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):  # of functions that are not written in Python
        return
    kinds = {p.kind for p in parameters}
    by_position = [p.name for p in parameters if p.kind in _BY_POSITION]
    by_name = [p.name for p in parameters if p.kind in _BY_NAME]
    count = len(by_position)
    numbers = [i for i in argnums if not -count <= i < count]
    names = [name for name in argnames if name not in by_name]
    if numbers and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise ValueError(
            f"compile: static_argnums {numbers} are not positions of {name_of(fun)}'s {count} "
            f"arguments, {by_position}"
        )
    if names and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise ValueError(
            f"compile: static_argnames {names} are not among {name_of(fun)}'s arguments, {by_name}"
        )


def require_call(method: str, fun: Function, args: Sequence[Any], kwargs: Any) -> None:
    """Raise a TypeError if a function does not take arguments like these."""
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = name_of(fun)
        is_method = next(iter(signature.parameters), "") == "self"
        cure = f": for a method, write tg.compile(obj.{name}).{method}(...)" if is_method else ""
        raise TypeError(f"{method}: {name}{signature} cannot be called so: {error}{cure}") from None


_BY_POSITION = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
_BY_NAME = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD


def _positional(fun: Function, count: int) -> list[str]:
    """Names for arguments by position: those of the parameters, as far as there are any."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):  # of functions that are not written in Python
        return [f"x{i}" for i in range(count)]
    names = [p.name for p in parameters if p.kind in _BY_POSITION][:count]
    return names + [f"x{i}" for i in range(len(names), count)]


class _Input(NamedTuple):
    """What is known of an argument that is an array, a tensor, or a number of NumPy's."""

    is_tensor: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_number: bool


class _Static:
    """An argument that is part of the signature."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Same:
    """An object, equal to itself only."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __repr__(self) -> str:
        return repr(self.thing)


def _compares(value: Any) -> bool:
    """Whether a signature can compare a value with ==, instead of the object with `is`."""
    try:
        return (hash(value), value == value)[1] is True
    except Exception:
        return False


def _is_plain(leaf: Any) -> bool:
    """Whether a value, and not the object, is what counts."""
    kind = type(leaf)
    if issubclass(kind, (tuple, frozenset)):
        return all(map(_is_plain, leaf))
    return issubclass(kind, (bool, int, float, complex, str, bytes, type(None), np.dtype, type))


def difference(old: Any, new: Any) -> str:
    """In what two keys of arguments differ."""
    for a, b in zip(old[2:], new[2:]):
        if a != b:
            return f"an argument, from {_described(a)} to {_described(b)},"
    return "the number or the nesting of its arguments"


def _described(kind: Any) -> str:
    if isinstance(kind, _Input):
        name = "a tensor" if kind.is_tensor else "an array"
        return f"{name} of shape {kind.shape}, dtype {kind.dtype}"
    return repr(kind[1] if isinstance(kind, tuple) else kind)


def require_untouched(
    name: str, before: Sequence[Any], after: Any, tensors: Iterable[tuple[Tensor, Any]]
) -> None:
    """Raise a TraceError if a function has changed its arguments themselves."""
    now = tree.leaves(after, is_stateful)
    if len(now) != len(before) or any(a is not b for a, b in zip(now, before)):
        raise TraceError(
            f"{name} changes a list or dict among its arguments: return the new one instead"
        )
    for t, tracer in tensors:
        if t._array is not tracer:
            raise TraceError(
                f"{name} changes an argument, a tensor of shape {t.shape}, in place: return the "
                "new one instead"
            )


def _unpacked(
    code: Code, structure: TreeDef, text: str, kinds: Iterator[Any], names: Iterator[str]
) -> list[str] | None:
    """The lines for nested arguments; `text` is an expression for these, `kinds` are of leaves."""
    if structure.kind is None:
        return _found(code, text, next(kinds), names)
    if structure.kind is type(None):
        return [f"if {text} is not None: return MISS"]
    if structure.kind not in (tuple, list, dict):
        return None
    keys = structure.keys
    by_key = structure.kind is dict
    tests = [f"(*{text},) != {code.name(keys)}" if by_key else f"len({text}) != {len(keys)}"]
    if text != "args":  # which is a tuple
        tests.insert(0, f"type({text}) is not {structure.kind.__name__}")
    lines = [f"if {' or '.join(tests)}: return MISS"]
    for key, part in zip(keys, structure.children, strict=True):
        inner = f"{text}[{code.name(key) if by_key else key}]"
        if part.kind is not None:  # look it up once
            name = f"{text.partition('[')[0]}_{len(lines)}"
            lines.append(f"{name} = {inner}")
            inner = name
        more = _unpacked(code, part, inner, kinds, names)
        if more is None:
            return None
        lines += more
    return lines


def _found(code: Code, text: str, kind: Any, names: Iterator[str]) -> list[str]:
    """Lines that take one array from the arguments, or check what else is part of a signature."""
    if isinstance(kind, _Input):
        name, shape, dtype = next(names), code.name(kind.shape), code.name(kind.dtype)
        lines = [f"{name} = {text}"]
        if kind.is_tensor:
            lines += [
                f"if type({name}) is not Tensor or {name}._node is not None: return MISS",
                f"{name} = {name}._array",
            ]
        return [
            *lines,
            f"if type({name}) is not ndarray or {name}.shape != {shape} "
            f"or {name}.dtype is not {dtype}: return MISS",
        ]
    if isinstance(kind, tuple):
        shown = f"repr({text})" if kind[0] in (float, complex) else text
        same_type = f"type({text}) is {code.name(kind[0])}"
        return [f"if not ({same_type} and {shown} == {code.name(kind[1])}): return MISS"]
    return [f"if {text} is not {code.name(kind.thing)}: return MISS"]
