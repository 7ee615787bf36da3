"""`save` and `load`: one nested value, one file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..errors import CheckpointError
from ..graph import Array
from ..version import __version__
from .atomic import PathLike, replacing
from .formats import FORMAT, format_of, to_json
from .nesting import packed, parsed, public, restore


def save(path: PathLike, tree: Any, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a nested value to a file, whole or not at all: an earlier file is replaced at the end.

    The value is a list, tuple or dict of others, an array, a Tensor, a NumPy Generator, a number,
    text, None, or an object with `state_dict()` and `load_state_dict()`, as modules, optimizers,
    schedules and batches have them. `metadata` is what JSON can hold. The suffix of `path` says the
    format: `.npz`; or `.safetensors`, which needs that library, and has no complex128, longdouble,
    dates and text. Arrays have dotted names: those of a module are the names in its `state_dict()`.

    When `save` returns, the file is on the disk. Raises TypeError for values that cannot be saved,
    and OSError where writing fails; then an earlier file is as it was.

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
    """Return the nested value that `save` wrote, or the arrays of any safetensors file by name.

    Arrays and tensors come back equal bit by bit, and objects as their states. With `into`, a value
    nested as the saved one, its arrays, tensors, generators and objects are given what was saved,
    in place, after all names, shapes and dtypes were compared: all of them or, if something does
    not fit, none. Lists and dicts in it that hold no such things get what is in the file; numbers
    and text are found in the result.

    A file that is damaged, or not what is wanted, raises a CheckpointError; with `finite`, so does
    a NaN or an infinity, and with `max_bytes`, a file that declares more. bfloat16 becomes float32.

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
    """Return the `metadata` that `save` was given; of others' safetensors files, the texts there.

    The file is checked as by `load`.
    """
    return read(path).metadata


class Content(NamedTuple):
    """What a file holds, once all of it was found to fit together."""

    metadata: dict[str, Any]
    tree: Any
    arrays: dict[str, Array]


def read(path: PathLike, max_bytes: int | None = None) -> Content:
    """Read and check a file; whatever is wrong with it is a CheckpointError."""
    form = format_of(path)
    with open(path, "rb") as file, naming(path):
        try:
            header, arrays = form.read(file, max_bytes)
            unused = dict(arrays)
            tree = parsed(header["tree"], unused)
        except (CheckpointError, ImportError, MemoryError):
            raise
        except Exception as error:  # of many kinds, by whatever parses the file
            found = f"{type(error).__name__}: {error}"
            raise CheckpointError(None, "a whole file", found) from error
        for name in unused:
            raise CheckpointError(name, "no such array", "one")
    return Content(header["metadata"], tree, arrays)


@contextmanager
def naming(path: PathLike) -> Iterator[None]:
    """A block whose CheckpointErrors name the file."""
    try:
        yield
    except CheckpointError as error:
        array, expected, found, _ = error.args
        raise CheckpointError(array, expected, found, os.fspath(path)) from error.__cause__
