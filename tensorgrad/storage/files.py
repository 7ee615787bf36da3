"""`save` and `load`: one tree, one file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..engine.typing import Array
from ..errors import CheckpointError
from ..version import __version__
from .atomic import PathLike, replacing
from .formats import FORMAT, format_of, to_json
from .nesting import packed, parsed, public, restore


def save(path: PathLike, tree: Any, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a tree to a file, completely or not at all.

    The leaves are arrays, tensors, NumPy Generators, numbers, text, and objects with
    `state_dict()` and `load_state_dict()`, such as modules, optimizers, schedules and batches. Of
    an object of a class registered with `tg.tree.register`, the children are saved. `metadata` is a
    dict that JSON can hold. The suffix of `path` chooses the format: `.npz`; or `.safetensors`,
    which needs that library, and cannot hold complex128, longdouble, dates and text. Arrays have
    dotted names: those of a module are the names in its `state_dict()`.

    When `save` returns, the file is on the disk. Raises TypeError for values that cannot be saved,
    and OSError if writing fails; an existing file is then unchanged.

    >>> tg.save("run.npz", {"w": np.arange(3.0), "rates": [0.1, 0.01]}, {"made": "today"})
    >>> tg.load("run.npz")
    {'w': array([0., 1., 2.]), 'rates': [0.1, 0.01]}
    >>> tg.storage.read_metadata("run.npz")
    {'made': 'today'}
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"save: the path comes first, save(path, tree), not a {type(path).__name__}"
        )
    import json  # slow, and only needed here

    arrays: dict[str, Array] = {}
    write = format_of(path).write
    try:
        header = {
            "format": FORMAT,
            "tensorgrad": __version__,
            "metadata": json.loads(to_json({**(metadata or {})})),
            "tree": packed(tree, arrays),
        }
        to_json(header)
    except RecursionError:
        raise ValueError("save: the value is nested too deeply, or contains itself") from None
    with replacing(path) as new:
        write(new, arrays, header)


def load(
    path: PathLike, into: Any = None, *, finite: bool = False, max_bytes: int | None = None
) -> Any:
    """Return the tree that `save` wrote, or the arrays of any safetensors file by name.

    Arrays and tensors are equal to the saved ones bit for bit. An object is returned as its state,
    and one of a registered class as a dict of its children. `into` is a tree with the structure of
    the saved one: its arrays, tensors, generators and objects are restored in place. Names, shapes
    and dtypes are compared first; if one does not fit, nothing is changed. Lists and dicts without
    any of these are refilled. Numbers and text are only in the returned tree.

    Raises CheckpointError if the file is damaged or does not fit, if `finite` is true and the file
    contains a NaN or an infinity, or if it declares more than `max_bytes`. bfloat16 becomes
    float32.

    >>> net, other = tg.MLP(2, [3, 1]), tg.MLP(2, [3, 1])
    >>> tg.save("nets.npz", {"net": net, "adam": tg.optim.Adam(net.parameters())})
    >>> _ = tg.load("nets.npz", {"net": other, "adam": tg.optim.Adam(other.parameters())})
    >>> bool(np.all(net(np.ones(2)) == other(np.ones(2))))
    True
    """
    content = read(path, max_bytes)
    for name, array in content.arrays.items():
        if finite and array.dtype.kind in "fc" and not np.isfinite(array).all():
            count = np.count_nonzero(~np.isfinite(array))
            raise CheckpointError(name, "finite numbers", f"{count} others", os.fspath(path))
    if into is None:
        return public(content.tree)
    with naming(path):
        return restore(content.tree, into)


def read_metadata(path: PathLike) -> dict[str, Any]:
    """Return the `metadata` passed to `save`, or the metadata of any safetensors file.

    The file is checked as by `load`.
    """
    return read(path).metadata


class Content(NamedTuple):
    """The content of a file that passed all checks."""

    metadata: dict[str, Any]
    tree: Any
    arrays: dict[str, Array]


def read(path: PathLike, max_bytes: int | None = None) -> Content:
    """Read and check a file; raise a CheckpointError for any fault."""
    form = format_of(path)
    with open(path, "rb") as file, naming(path):
        try:
            header, arrays = form.read(file, max_bytes)
            unused = dict(arrays)
            tree = parsed(header["tree"], unused)
        except (CheckpointError, ImportError, MemoryError):
            raise
        except Exception as error:  # parsers raise errors of many classes
            found = f"{type(error).__name__}: {error}"
            raise CheckpointError(None, "a whole file", found) from error
        for name in unused:
            raise CheckpointError(name, "no such array", "one")
    return Content(header["metadata"], tree, arrays)


@contextmanager
def naming(path: PathLike) -> Iterator[None]:
    """Add the name of the file to CheckpointErrors raised in the block."""
    try:
        yield
    except CheckpointError as error:
        array, expected, found, _ = error.args
        raise CheckpointError(array, expected, found, os.fspath(path)) from error.__cause__
