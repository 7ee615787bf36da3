"""Trees as JSON and named arrays, and trees into which saved ones are loaded."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import tree
from ..engine.modes import plain
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..errors import CheckpointError
from .formats import fault_of_name, is_dtype

Arrays: TypeAlias = dict[str, Array]
Node: TypeAlias = Any  # in JSON: a plain value, a list, or a dict whose one key is the kind

# -- into JSON


def packed(value: Any, arrays: Arrays, path: str = "") -> Node:
    """The value as JSON can hold it; its arrays are added to `arrays` by name."""

    def inner(part: Any, key: Any) -> Node:
        return packed(part, arrays, _join(path, key))

    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is complex:
        return {"complex": [packed(value.real, arrays), packed(value.imag, arrays)]}
    if isinstance(value, Tensor):
        is_parameter = value.requires_grad and value.is_leaf
        return {"parameter" if is_parameter else "tensor": _put(value.data, path, arrays)}
    if isinstance(value, np.generic):
        return {"scalar": _put(np.asarray(value), path, arrays)}
    if isinstance(value, np.ndarray):
        return {"array": _put(value, path, arrays)}
    if _is_generator(value):
        return {"generator": inner(value.bit_generator.state, "state")}
    if has_state(value):
        state = value._arrays() if _is_module(value) else value.state_dict()
        generators = [[name, inner(g, name)] for name, g in _generators(value).items()]
        return {"object": [_class_of(value), packed(state, arrays, path), generators]}
    if not tree.is_container(value):
        raise TypeError(
            f"{_saved(path)}: {type(value).__name__} cannot be saved: give it the methods "
            "state_dict() and load_state_dict(), register it with tensorgrad.tree.register, or "
            "save its arrays and numbers"
        )
    for key in _parts(value):
        if key is not None and type(key) not in (bool, int, str):
            raise TypeError(f"{_saved(path)}: the key {key!r} is neither text nor int")
    parts = [[key, inner(part, key)] for key, part in _parts(value).items()]
    if isinstance(value, (list, tuple)):
        items = [part for _, part in parts]
        return items if isinstance(value, list) else {"tuple": items}
    return {"dict": parts} if isinstance(value, dict) else {"tree": [type(value).__name__, parts]}


def _put(array: Any, path: str, arrays: Arrays) -> str:
    """Add an array under a unique name, and return the name."""
    if type(array) not in (np.ndarray, np.memmap) or not is_dtype(array.dtype.str):
        raise TypeError(
            f"{_saved(path)}: {type(array).__name__} of dtype {array.dtype} cannot be saved: "
            "convert it to a plain array of numbers, text or dates"
        )
    name = path or "array"
    while name in arrays:  # such as "a.b", if "a" has a "b" too
        name += "_"
    if fault := fault_of_name(name):
        raise ValueError(f"save: {name!r} cannot name an array: it {fault}")
    arrays[name] = array
    return name


def _saved(path: str) -> str:
    """How an error of `save` begins; the path of the whole tree is empty."""
    return f"save: {path!r}" if path else "save"


def _is_generator(value: Any) -> bool:
    return hasattr(value, "bit_generator")


def has_state(value: Any) -> bool:
    """Whether it is an object with methods to save and restore its state."""
    return hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def _is_module(value: Any) -> bool:
    return hasattr(value, "named_generators")


def _generators(value: Any) -> dict[str, Any]:
    return dict(value.named_generators()) if _is_module(value) else {}


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


# -- from JSON


@dataclass(frozen=True)
class _Saved:
    """A saved tensor, generator or object: its array or state; or a tree: its children by name.

    `name` is the class of an object or a tree; `generators` are those of a module, by path.
    """

    kind: str
    state: Any
    name: str = ""
    generators: dict[str, _Saved] = field(default_factory=dict)


def parsed(node: Node, arrays: Arrays) -> Any:
    """The value of a node, with a `_Saved` for each object; removes its arrays from `arrays`."""

    def inner(part: Node) -> Any:
        return parsed(part, arrays)

    if isinstance(node, list):
        return [*map(inner, node)]
    if not isinstance(node, dict):
        return node
    match [*node.items()]:
        case [("float", "nan" | "inf" | "-inf" as text)]:
            return float(text)
        case [("complex", [real, imag])]:
            return complex(inner(real), inner(imag))
        case [("array", str(name))]:
            return arrays.pop(name)
        case [("scalar", str(name))]:
            return arrays.pop(name)[()]
        case [("tensor" | "parameter" as kind, str(name))]:
            return _Saved(kind, arrays.pop(name))
        case [("generator", state)]:
            return _Saved("generator", inner(state))
        case [("object", [str(name), state, list(pairs)])]:
            generators = _dictionary(pairs, inner)
            if all(isinstance(g, _Saved) and g.kind == "generator" for g in generators.values()):
                return _Saved("object", inner(state), name, generators)
        case [("dict", list(pairs))]:
            return _dictionary(pairs, inner)
        case [("tree", [str(name), list(pairs)])]:
            return _Saved("tree", _dictionary(pairs, inner), name)
        case [("tuple", list(parts))]:
            return tuple(map(inner, parts))
    raise CheckpointError(None, "a value in the header", f"{node!r:.100}")


def _dictionary(pairs: list[Any], inner: Callable[[Node], Any]) -> dict[Any, Any]:
    result = {key: inner(part) for key, part in pairs}
    if len(result) < len(pairs):
        raise CheckpointError(None, "keys of a dict, each once", f"{[*result]!r:.100} and others")
    return result


def public(value: Any) -> Any:
    """The value that `parsed` returned, with tensors and states instead of `_Saved`."""

    def converted(leaf: Any) -> Any:
        if not isinstance(leaf, _Saved):
            return leaf
        if leaf.kind in ("tensor", "parameter"):
            return Tensor(leaf.state, requires_grad=leaf.kind == "parameter")
        return public(leaf.state)

    return tree.map(converted, value)


# -- into existing objects


class _Change(NamedTuple):
    """A change to a part of the target, and the old state, to which it can be undone."""

    path: str
    put: Callable[[Any], Any]
    new: Any
    old: Any


def restore(saved: Any, target: Any) -> Any:
    """Restore the parts of the target in place, all or none; return the whole tree."""
    changes: list[_Change] = []
    is_dict = isinstance(target, dict) and not has_state(target)
    result = (_match_parts if is_dict else _matched)(saved, target, "", changes)
    for i, change in enumerate(changes):
        try:
            change.put(change.new)
        except BaseException as error:
            for done in reversed(changes[: i + 1]):
                with contextlib.suppress(Exception):  # the one that failed may fail again
                    done.put(done.old)
            if isinstance(error, Exception):
                raise CheckpointError(change.path, "a state that fits", str(error)) from error
            raise
    return result


def _matched(saved: Any, target: Any, path: str, changes: list[_Change]) -> Any:
    """The saved value with the parts of the target in it; adds what to change to `changes`."""
    if isinstance(target, (Tensor, np.ndarray)):
        array, own = saved.state if isinstance(saved, _Saved) else saved, plain(target)
        if not isinstance(array, np.ndarray) or _described(array) != _described(own):
            raise CheckpointError(path, _described(own), _described(array))
        if not own.flags.writeable:
            raise CheckpointError(path, "an array to load into", "a read-only one")
        put = functools.partial(_write, target)
        changes.append(_Change(path, put, array, own.copy(order="K")))
    elif _is_generator(target):
        _match_generator(saved, target.bit_generator, path, changes)
    elif has_state(target):
        _match_object(saved, target, path, changes)
    elif _holds_parts(target):
        return _match_parts(saved, target, path, changes)
    elif isinstance(target, (list, dict)):
        if not isinstance(saved, list if isinstance(target, list) else dict):
            raise CheckpointError(path, _described(target), _described(saved))
        put = functools.partial(_refill, target)
        changes.append(_Change(path, put, public(saved), target.copy()))
    elif (target is None) != (saved is None):
        raise CheckpointError(path, _described(target), _described(saved))
    else:
        return public(saved)
    return target


def _match_generator(saved: Any, target: Any, path: str, changes: list[_Change]) -> None:
    own, state = target.state, getattr(saved, "state", None)
    name = state.get("bit_generator") if isinstance(state, dict) else None
    if name != own["bit_generator"]:
        found = _described(saved) if name is None else f"one of {name}"
        raise CheckpointError(path, f"a generator of {own['bit_generator']}", found)
    changes.append(_Change(path, functools.partial(setattr, target, "state"), state, own))


def _class_of(value: Any) -> str:
    """The name of an object's class in files: where the class has `saved_as`, that."""
    return getattr(value, "saved_as", type(value).__name__)


def _match_object(saved: Any, target: Any, path: str, changes: list[_Change]) -> None:
    own = target.state_dict()
    if not (isinstance(saved, _Saved) and saved.kind == "object"):
        raise CheckpointError(path, _described(target), _described(saved))
    state = public(saved.state)
    if _is_module(target):  # the class may have been renamed
        require_state(own, state, path)
        _match_parts(saved.generators, _generators(target), path, changes)
    elif saved.name != _class_of(target):
        raise CheckpointError(path, _described(target), _described(saved))
    else:
        _require_alike(own, state, path)
    changes.append(_Change(path, target.load_state_dict, state, own))


def _match_parts(saved: Any, target: Any, path: str, changes: list[_Change]) -> Any:
    mine = _parts(target)
    kind = next((kind for kind in (dict, list, tuple) if isinstance(target, kind)), None)
    if isinstance(saved, _Saved) and saved.name == type(target).__name__:
        parts = saved.state
    elif kind is not None and isinstance(saved, kind):
        parts = _parts(saved)
    else:
        raise CheckpointError(path, _described(target), _described(saved))
    _require_keys(mine, parts, path)
    matched = [_matched(parts[key], part, _join(path, key), changes) for key, part in mine.items()]
    return tree.with_children(target, matched)


def _require_keys(mine: Mapping[Any, Any], saved: Mapping[Any, Any], path: str) -> None:
    for key in [*mine, *saved]:
        if key not in saved:
            raise CheckpointError(_join(path, key), _described(mine[key]), "nothing")
        if key not in mine:
            raise CheckpointError(_join(path, key), "nothing", _described(saved[key]))


def require_state(own: Mapping[str, Any], saved: Any, path: str = "", strict: bool = True) -> None:
    """Raise a CheckpointError unless a saved state fits a module with the state `own`.

    Shapes and, if `strict`, names must be equal, and dtypes must not lose digits.
    """
    if not isinstance(saved, dict) or not all(isinstance(a, np.ndarray) for a in saved.values()):
        raise CheckpointError(path or None, "arrays by name, of a module", _described(saved))
    if strict:
        _require_keys(own, saved, path)
    for name in filter(saved.__contains__, own):
        mine, array = own[name], saved[name]
        if mine.shape != array.shape or not np.can_cast(array.dtype, mine.dtype):
            raise CheckpointError(_join(path, name), _described(mine), _described(array))


_KINDS: tuple[Any, ...] = ((int, float, np.number, np.bool), str, np.ndarray, dict, (list, tuple))


def _require_alike(own: Any, saved: Any, path: str) -> None:
    """Raise a CheckpointError if parts of two states are of different kinds; None fits all."""
    if own is None or saved is None:
        return
    if any(isinstance(own, kind) and not isinstance(saved, kind) for kind in _KINDS):
        raise CheckpointError(path, _described(own), _described(saved))
    if isinstance(own, (dict, list, tuple)):
        mine, parts = _parts(own), _parts(saved)
        for key in filter(parts.__contains__, mine):
            _require_alike(mine[key], parts[key], _join(path, key))


def require_restorable(value: Any, path: str) -> None:
    """Raise a TypeError that starts with `path` if a part cannot be restored in place."""
    if _holds_parts(value):
        for key, part in _parts(value).items():
            require_restorable(part, f"{path}: {key!r}")
    elif not (_is_part(value) or value is None or isinstance(value, (list, dict))):
        raise TypeError(
            f"{path}: {type(value).__name__} cannot be changed in place: put it into a list, a "
            "dict or an array, or give it state_dict() and load_state_dict()"
        )


def _holds_parts(value: Any) -> bool:
    """Whether it is a container that is restored part by part, instead of refilled."""
    if value is None or has_state(value) or not tree.is_container(value):
        return False
    if not isinstance(value, (dict, list, tuple)):
        return True  # of a registered class: files make no objects of it
    return any(_is_part(part) or _holds_parts(part) for part in _parts(value).values())


def _is_part(value: Any) -> bool:
    """Whether it can be restored in place."""
    is_array = isinstance(value, (Tensor, np.ndarray))
    return is_array or _is_generator(value) or has_state(value)


def _parts(value: Any) -> dict[Any, Any]:
    """The children of a container by name; those of a named tuple are numbered, as in a tuple."""
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    return dict(zip(*tree.children(value)))


def _described(value: Any) -> str:
    if isinstance(value, (np.ndarray, Tensor)):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, _Saved):
        return f"the state of {value.name or f'a {value.kind}'}"
    if has_state(value):
        return f"the state of {_class_of(value)}"
    is_plain = value is None or isinstance(value, (bool, int, float, str))
    return f"{value!r:.100}" if is_plain else f"a {type(value).__name__}"


def _write(target: Tensor | Array, array: Array) -> None:
    if isinstance(target, Tensor) and target.requires_grad:
        target.data = array
    else:
        plain(target)[...] = array


def _refill(target: list[Any] | dict[Any, Any], content: Any) -> None:
    target.clear()
    if isinstance(target, list):
        target.extend(content)
    else:
        target.update(content)
