"""Trees: nested containers, taken apart into their leaves and put together again.

Lists, tuples, named tuples, dicts and None are containers; so are modules, and objects of classes
that are registered with `register`. Everything else is a leaf. Transforms, compiled functions and
`tg.save` take trees of arrays, tensors and numbers.

A path says where a leaf is, as in Python code: in `{"w": [a, b]}`, the path of `b` is `['w'][1]`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np

__all__ = [
    "TreeDef",
    "flatten",
    "leaves",
    "leaves_with_path",
    "map_with_path",
    "register",
    "structure",
    "unflatten",
]


def __dir__() -> list[str]:
    return [*__all__, "map"]


C = TypeVar("C", bound=type)
IsLeaf = Callable[[Any], bool]


class TreeDef:
    """The structure of a tree: its containers, without the leaves.

    `kind` is the class of the outermost container, or None if the tree is one leaf; `keys` are the
    indices, keys or attribute names of its `children`, which are structures themselves. `metadata`
    is the rest that a registered class needs to make an equal object.

    Structures are equal if they make equal trees of the same leaves, so the order of a dict's keys
    counts. They can be printed and hashed; a leaf is printed as `*`.

    >>> tg.tree.structure({"w": np.ones(3), "layers": [(1.0, 2.0), None]})
    TreeDef({'w': *, 'layers': [(*, *), None]})
    >>> tg.tree.structure([1, 2]) == tg.tree.structure(["a", "b"])
    True
    """

    __slots__ = ("children", "keys", "kind", "metadata")

    def __init__(
        self,
        kind: type | None = None,
        keys: Sequence[Any] = (),
        children: tuple[TreeDef, ...] = (),
        metadata: Any = None,
    ) -> None:
        self.kind = kind
        self.keys = keys
        self.children = children
        self.metadata = metadata

    @property
    def num_leaves(self) -> int:
        """The number of leaves."""
        return 1 if self.kind is None else sum(child.num_leaves for child in self.children)

    @property
    def is_flat(self) -> bool:
        """Whether it is a container of leaves alone."""
        return self.kind is not None and all(child.kind is None for child in self.children)

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """Return the tree with this structure and these leaves."""
        leaves = iter(leaves)
        try:
            tree = self._build(leaves)
        except StopIteration:
            raise ValueError(f"unflatten: too few leaves, {self.num_leaves} are needed") from None
        for _ in leaves:
            raise ValueError(f"unflatten: too many leaves, {self.num_leaves} are needed")
        return tree

    def _build(self, leaves: Iterator[Any]) -> Any:
        if self.kind is None:
            return next(leaves)
        children = [
            next(leaves) if child.kind is None else child._build(leaves) for child in self.children
        ]
        container = CONTAINERS[self.kind]
        assert container is not None
        return container.unflatten(self.keys, self.metadata, children)

    def paths(self) -> list[str]:
        """Return the path of each leaf."""
        if self.kind is None:
            return [""]
        parts = zip(self._segments(), self.children, strict=True)
        return [segment + path for segment, child in parts for path in child.paths()]

    def _segments(self) -> list[str]:
        container = CONTAINERS[self.kind] if self.kind else None
        return [container.segment(key) for key in self.keys] if container else []

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, TreeDef)
            and self.kind is other.kind
            and self.keys == other.keys
            and self.children == other.children
            and bool(self.metadata == other.metadata)
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.keys, self.children, self.metadata))

    def __reduce__(self) -> tuple[Any, ...]:
        return TreeDef, (self.kind, self.keys, self.children, self.metadata)

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        if self.kind is type(None):
            return "None"
        name = self.kind.__name__
        if issubclass(self.kind, dict):
            parts = [f"{k!r}: {child}" for k, child in zip(self.keys, self.children, strict=True)]
            text = f"{{{', '.join(parts)}}}"
            return text if name == "dict" else f"{name}({text})"
        parts = [
            f"{segment[1:]}={child}" if segment.startswith(".") else f"{child}"
            for segment, child in zip(self._segments(), self.children, strict=True)
        ]
        if self.metadata is not None:
            parts.append(repr(self.metadata))
        if name == "list":
            return f"[{', '.join(parts)}]"
        if name == "tuple":
            return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"
        return f"{name}({', '.join(parts)})"

    def __repr__(self) -> str:
        return f"TreeDef({self})"


LEAF = TreeDef()


# -- which classes are containers, and how they are taken apart


class Container(NamedTuple):
    """How the objects of a class are taken apart and put together.

    `flatten(tree)` returns the keys of the children, the children, and metadata.
    `unflatten(keys, metadata, children)` makes an object of them. `segment(key)` is the part of a
    path that leads to a child. Compiled and checkpointed functions do not take apart objects of a
    `stateful` class.
    """

    flatten: Callable[[Any], tuple[Sequence[Any], Iterable[Any], Any]]
    unflatten: Callable[[Sequence[Any], Any, list[Any]], Any]
    segment: Callable[[Any], str]
    stateful: bool = False


_item: Callable[[Any], str] = "[{!r}]".format


def _attribute(name: str) -> str:
    """The path of an attribute, or of a module's parameter: ".layers[0].w" for "layers.0.w"."""
    return re.sub(r"\.(\d+)(?![^.])", r"[\1]", f".{name}")


def _none(_kind: type) -> Container:
    return Container(lambda _: ((), (), None), lambda *_: None, _item)


def _list(kind: type) -> Container:
    make = _maker(kind)
    return Container(lambda x: (range(len(x)), x, None), lambda _k, _m, parts: make(parts), _item)


def _tuple(kind: Any) -> Container:
    names = getattr(kind, "_fields", None)
    if names is None:
        return _list(kind)
    return Container(
        lambda x: (names, x, None), lambda _k, _m, parts: kind._make(parts), _attribute
    )


def _dict(kind: type) -> Container:
    make = _maker(kind)

    def unflatten(keys: Sequence[Any], _metadata: Any, children: list[Any]) -> Any:
        return make(dict(zip(keys, children)))

    return Container(lambda x: (tuple(x), x.values(), None), unflatten, _item)


def _defaultdict(kind: Any) -> Container:
    def unflatten(keys: Sequence[Any], metadata: Any, children: list[Any]) -> Any:
        return kind(metadata, zip(keys, children))

    return Container(lambda x: (tuple(x), x.values(), x.default_factory), unflatten, _item)


def _maker(kind: type) -> Callable[[Any], Any]:
    """The constructor of a list, tuple or dict class, with a helpful error if it fails."""
    if kind.__module__ == "builtins":
        return kind

    def make(items: Any) -> Any:
        try:
            return kind(items)
        except TypeError as error:
            raise TypeError(
                f"{kind.__name__}(items) failed: {error}; define how a {kind.__name__} is made: "
                f"tensorgrad.tree.register({kind.__name__}, flatten, unflatten)"
            ) from error

    return make


_CLASSES: dict[type, Callable[[type], Container]] = {
    type(None): _none,
    list: _list,
    tuple: _tuple,
    dict: _dict,
    defaultdict: _defaultdict,
}
_BUILTIN = frozenset(_CLASSES)


class _Containers(dict[type, "Container | None"]):
    """How objects of each class are taken apart: as its nearest registered base; None for leaves.

    Looking a class up takes half the time of a cached function.
    """

    def __missing__(self, kind: type) -> Container | None:
        if len(self) >= 1000:  # the keys keep classes alive
            self.clear()
        base = next((base for base in kind.__mro__ if base in _CLASSES), None)
        container = self[kind] = _CLASSES[base](kind) if base else None
        return container


CONTAINERS = _Containers()


@overload
def register(kind: C, /) -> C: ...
@overload
def register(*, static: Iterable[str]) -> Callable[[C], C]: ...
@overload
def register(
    kind: C,
    flatten: Callable[[Any], tuple[Any, Any]],
    unflatten: Callable[[Any, list[Any]], Any],
    /,
    *,
    stateful: bool = False,
) -> C: ...
def register(
    kind: Any = None,
    flatten: Any = None,
    unflatten: Any = None,
    /,
    *,
    static: Iterable[str] = (),
    stateful: bool = False,
) -> Any:
    """Make a class a container; returns the class, so that it can be used as a decorator.

    The children of a dataclass are its fields, except those named in `static`: they are part of the
    structure, and must be hashable. New objects are made without `__init__` and `__post_init__`, so
    they accept any leaves. Attributes that are not fields are not copied.

    For another class, `flatten(x)` returns the children, in a list or in a dict by attribute name,
    and metadata, which is part of the structure, or None. `unflatten(metadata, children)` makes a
    new object from a list of children. These can be any objects, not only arrays. With
    `stateful=True`, `tg.compile` and `tg.checkpoint` do not take objects apart, but follow the
    changes of their tensors, as for modules.

    Subclasses are taken apart in the same way. Registering a class again replaces the earlier
    registration. Raises TypeError if the functions are missing for a class that is not a dataclass,
    and ValueError for names in `static` that are not fields, and for the built-in containers.

    >>> from dataclasses import dataclass
    >>> @tg.tree.register(static=["unit"])
    ... @dataclass
    ... class Length:
    ...     value: float
    ...     unit: str = "m"
    >>> tg.grad(lambda a: a.value**2)(Length(3.0))
    Length(value=array(6.), unit='m')
    >>> class Pair:
    ...     def __init__(self, a, b):
    ...         self.a, self.b = a, b
    >>> _ = tg.tree.register(
    ...     Pair, lambda p: ({"a": p.a, "b": p.b}, None), lambda _, parts: Pair(*parts)
    ... )
    >>> tg.tree.structure([Pair(1.0, 2.0)])
    TreeDef([Pair(a=*, b=*)])
    """
    if kind is None:
        return functools.partial(register, static=static)
    if not isinstance(kind, type):
        raise TypeError(f"tree.register: takes a class, not {kind!r}")
    if kind in _BUILTIN:
        raise ValueError(f"tree.register: {kind.__name__} is registered by tensorgrad")
    if flatten is not None and unflatten is not None:
        container = _functions(flatten, unflatten, stateful)
        _CLASSES[kind] = lambda _: container
    elif flatten is None and unflatten is None and dataclasses.is_dataclass(kind):
        static = tuple(static)
        if unknown := {*static}.difference(_field_names(kind)):
            raise ValueError(f"tree.register: {kind.__name__} has no fields {sorted(unknown)}")
        _CLASSES[kind] = functools.partial(_dataclass, static=static)
    else:
        raise TypeError(
            f"tree.register: {kind.__name__} is not a dataclass: write @dataclass below @register, "
            f"or pass functions, register({kind.__name__}, flatten, unflatten)"
        )
    CONTAINERS.clear()
    return kind


def _field_names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


class _Static(tuple[tuple[str, Any], ...]):
    """The names and values of static fields."""

    def __repr__(self) -> str:
        return ", ".join([f"{name}={value!r}" for name, value in self])


def _require_hashable(value: Any, name: str) -> None:
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{name} is {_described(type(value))}, but static fields must be hashable, like "
            "numbers, text and tuples of these: they are part of the structure"
        ) from None


def _dataclass(kind: type, static: tuple[str, ...]) -> Container:
    names = tuple([name for name in _field_names(kind) if name not in static])

    def flatten(x: Any) -> tuple[Sequence[str], list[Any], Any]:
        metadata = _Static([(name, getattr(x, name)) for name in static]) or None
        for name, value in metadata or ():
            _require_hashable(value, f"{kind.__name__}.{name}")
        return names, [getattr(x, name) for name in names], metadata

    def unflatten(keys: Sequence[str], metadata: Any, children: list[Any]) -> Any:
        x: Any = object.__new__(kind)
        for name, value in (*zip(keys, children), *(metadata or ())):
            object.__setattr__(x, name, value)  # the class may be frozen
        return x

    return Container(flatten, unflatten, _attribute)


def _functions(flatten: Any, unflatten: Any, stateful: bool) -> Container:
    def keyed(x: Any) -> tuple[Sequence[Any], Iterable[Any], Any]:
        children, metadata = flatten(x)
        if isinstance(children, dict):
            return tuple(children), children.values(), metadata
        children = tuple(children)
        return range(len(children)), children, metadata

    def segment(key: Any) -> str:
        return _attribute(key) if isinstance(key, str) else _item(key)

    return Container(
        keyed, lambda _k, metadata, parts: unflatten(metadata, parts), segment, stateful
    )


def is_container(tree: Any) -> bool:
    """Whether it is taken apart, and not a leaf."""
    return CONTAINERS[type(tree)] is not None


def is_stateful(tree: Any) -> bool:
    """Whether it is an object, such as a module, whose tensors are its state."""
    container = CONTAINERS[type(tree)]
    return container is not None and container.stateful


def children(tree: Any) -> tuple[Sequence[Any], Iterable[Any]]:
    """The keys and the children of a container; none of a leaf."""
    container = CONTAINERS[type(tree)]
    return container.flatten(tree)[:2] if container else ((), ())


def with_children(tree: Any, children: list[Any]) -> Any:
    """A container like `tree`, with other children."""
    container = CONTAINERS[type(tree)]
    assert container is not None
    keys, _, metadata = container.flatten(tree)
    return container.unflatten(keys, metadata, children)


# -- apart, and together again


def flatten(tree: Any, is_leaf: IsLeaf | None = None) -> tuple[list[Any], TreeDef]:
    """Return the leaves of a tree, in order, and its structure.

    The leaves of a dict are in the order of its keys. None has no leaves. A container for which
    `is_leaf(container)` is true is a leaf, too.

    >>> tg.tree.flatten({"w": [1.0, 2.0], "b": None})
    ([1.0, 2.0], TreeDef({'w': [*, *], 'b': None}))
    >>> tg.tree.flatten([1.0, None], is_leaf=lambda x: x is None)
    ([1.0, None], TreeDef([*, *]))
    """
    found: list[Any] = []
    return found, _take_apart(tree, found, is_leaf)


def _take_apart(tree: Any, leaves: list[Any], is_leaf: IsLeaf | None) -> TreeDef:
    container = CONTAINERS[type(tree)]
    if container is None or (is_leaf is not None and is_leaf(tree)):
        leaves.append(tree)
        return LEAF
    keys, children, metadata = container.flatten(tree)
    parts = []
    for child in children:
        if CONTAINERS[type(child)] is None:  # most often: without a call
            leaves.append(child)
            parts.append(LEAF)
        else:
            parts.append(_take_apart(child, leaves, is_leaf))
    return TreeDef(type(tree), keys, tuple(parts), metadata)


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> Any:
    """Return the tree with this structure and these leaves: the inverse of `flatten`.

    Raises ValueError unless there are as many leaves as the structure has.

    >>> leaves, treedef = tg.tree.flatten({"w": [1.0, 2.0], "b": None})
    >>> tg.tree.unflatten(treedef, [10 * leaf for leaf in leaves])
    {'w': [10.0, 20.0], 'b': None}
    """
    return treedef.unflatten(leaves)


def structure(tree: Any, is_leaf: IsLeaf | None = None) -> TreeDef:
    """Return the structure of a tree; `is_leaf` is that of `flatten`.

    >>> tg.tree.structure(([1.0, 2.0], 3.0))
    TreeDef(([*, *], *))
    """
    return flatten(tree, is_leaf)[1]


def leaves(tree: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """Return the leaves of a tree, in order; `is_leaf` is that of `flatten`.

    >>> sum(leaf.size for leaf in tg.tree.leaves({"w": np.ones((2, 3)), "b": [np.ones(2)]}))
    8
    """
    return flatten(tree, is_leaf)[0]


def leaves_with_path(tree: Any, is_leaf: IsLeaf | None = None) -> list[tuple[str, Any]]:
    """Return the path and the value of each leaf, in order; `is_leaf` is that of `flatten`.

    >>> tg.tree.leaves_with_path({"w": [1.0, 2.0], "b": 3.0})
    [("['w'][0]", 1.0), ("['w'][1]", 2.0), ("['b']", 3.0)]
    >>> [path for path, _ in tg.tree.leaves_with_path(tg.nn.MLP(2, [1]))]
    ['.layers[0].weight', '.layers[0].bias']
    """
    found, treedef = flatten(tree, is_leaf)
    return [*zip(treedef.paths(), found, strict=True)]


def map(  # noqa: A001 (the usual name)
    f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None
) -> Any:
    """Return the tree of `f(leaf)` for each leaf, or of `f(leaf, *others)` with trees in `rest`.

    Trees in `rest` have the structure of `tree`; the order of a dict's keys may differ. Where
    `tree` has a leaf, they may have a container: `f` gets all of it. Raises ValueError with the
    first path at which structures differ. `is_leaf` is that of `flatten`, for `tree`.

    >>> params, grads = {"w": [1.0, 2.0], "b": 3.0}, {"b": 1.0, "w": [1.0, 1.0]}
    >>> tg.tree.map(lambda p, g: p - 0.5 * g, params, grads)
    {'w': [0.5, 1.5], 'b': 2.5}
    """
    if not rest:
        return _mapped(f, tree, is_leaf)
    found, treedef = flatten(tree, is_leaf)
    others = [_of_rest("map", treedef, other, i) for i, other in enumerate(rest)]
    return treedef.unflatten([f(*parts) for parts in zip(found, *others, strict=True)])


def _mapped(f: Callable[[Any], Any], tree: Any, is_leaf: IsLeaf | None) -> Any:
    container = CONTAINERS[type(tree)]
    if container is None or (is_leaf is not None and is_leaf(tree)):
        return f(tree)
    keys, children, metadata = container.flatten(tree)
    return container.unflatten(
        keys,
        metadata,
        [
            f(child) if CONTAINERS[type(child)] is None else _mapped(f, child, is_leaf)
            for child in children
        ],
    )


def map_with_path(
    f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None
) -> Any:
    """Return the tree of `f(path, leaf, *others)` for each leaf, as `map` does.

    >>> tg.tree.map_with_path(lambda path, p: 0.0 if "'b'" in path else p, {"w": 1.0, "b": 2.0})
    {'w': 1.0, 'b': 0.0}
    """
    found, treedef = flatten(tree, is_leaf)
    others = [_of_rest("map_with_path", treedef, other, i) for i, other in enumerate(rest)]
    parts = zip(treedef.paths(), found, *others, strict=True)
    return treedef.unflatten([f(*part) for part in parts])


def _of_rest(name: str, treedef: TreeDef, tree: Any, i: int) -> list[Any]:
    try:
        return flatten_up_to(treedef, tree)
    except MismatchError as error:
        raise ValueError(f"tree.{name}: {error.told('tree', f'rest[{i}]')}") from None


# -- trees that must be alike


class MismatchError(Exception):
    """Two trees differ at `path`: there, the first is `first`, and the second is `second`."""

    def __init__(self, path: str, first: str, second: str) -> None:
        super().__init__(path, first, second)
        self.path, self.first, self.second = path, first, second

    def told(self, first: str, second: str) -> str:
        """The difference in words, with these names of the trees."""
        return f"{first}{self.path} is {self.first}, but {second}{self.path} is {self.second}"


def flatten_up_to(treedef: TreeDef, tree: Any, exactly: bool = False) -> list[Any]:
    """Return the part of a tree at each leaf of a structure; with `exactly`, all must be leaves.

    Raises MismatchError where the tree differs from the structure.
    """
    found, own = flatten(tree)
    if own == treedef:
        return found
    parts: list[Any] = []
    _match(treedef, tree, exactly, "", parts)
    return parts


def _match(treedef: TreeDef, tree: Any, exactly: bool, path: str, parts: list[Any]) -> None:
    """Append the part of a tree at each leaf of a structure to `parts`."""
    container = CONTAINERS[type(tree)]
    if treedef.kind is None and not (exactly and container):
        parts.append(tree)
        return
    if container is None or type(tree) is not treedef.kind:
        first = "a leaf" if treedef.kind is None else _described(treedef.kind, treedef.keys)
        keys = container.flatten(tree)[0] if container else None
        raise MismatchError(path, first, _described(type(tree), keys))
    keys, children, metadata = container.flatten(tree)
    found = dict(zip(keys, children, strict=True))
    if found.keys() != {*treedef.keys}:
        raise MismatchError(
            path, _described(treedef.kind, treedef.keys), _described(treedef.kind, keys)
        )
    if metadata != treedef.metadata:
        name = treedef.kind.__name__
        raise MismatchError(path, *[f"a {name} with {m}" for m in (treedef.metadata, metadata)])
    for key, child in zip(treedef.keys, treedef.children, strict=True):
        _match(child, found[key], exactly, path + container.segment(key), parts)


def _described(kind: type, keys: Sequence[Any] | None = None) -> str:
    """A container in words or, if `keys` is None, a leaf."""
    name = kind.__name__
    name = f"{'an' if name[0] in 'aeiouAEIOU' or name == 'ndarray' else 'a'} {name}"
    if kind is type(None):
        return "None"
    if keys is None:
        return name
    if isinstance(keys, range):
        return f"{name} of length {len(keys)}"
    what = "keys" if issubclass(kind, dict) else "children"
    shown = ", ".join([repr(key) for key in keys[:8]] + ["..."] * (len(keys) > 8))
    return f"{name} with {what} {shown}" if keys else f"{name} without {what}"


def require_arrays(
    leaves: Iterable[Any], treedef: TreeDef, operation: str, shown: Callable[[str], str], cure: str
) -> None:
    """Raise a TypeError if a leaf is neither an array, a tensor nor a number.

    `shown(path)` is the leaf as the message names it; `cure` is what the message says to do.
    """
    for i, leaf in enumerate(leaves):
        kind = type(leaf)
        if not (issubclass(kind, _NUMERIC) or hasattr(leaf, "__array__")):
            if kind.__module__ != "builtins":
                cure += f", or make {kind.__name__} a container with tensorgrad.tree.register"
            holder, key = _holder(treedef, i)
            if dataclasses.is_dataclass(holder):
                cure += f", or make the field static: tensorgrad.tree.register(static=[{key!r}])"
            raise TypeError(
                f"{operation}: {shown(treedef.paths()[i])} is {_described(kind)}, not an array, a "
                f"tensor or a number: {cure}"
            )


def _holder(treedef: TreeDef, i: int) -> tuple[type | None, Any]:
    """The class of the container that holds leaf i, and the key of the leaf there."""
    for key, child in zip(treedef.keys, treedef.children, strict=True):
        if i < child.num_leaves:
            return (treedef.kind, key) if child.kind is None else _holder(child, i)
        i -= child.num_leaves
    return None, None


_NUMERIC = (np.ndarray, np.generic, int, float, complex)
