"""Files that are replaced atomically, and are on the disk afterwards."""

from __future__ import annotations

import math
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

PathLike: TypeAlias = "str | os.PathLike[str]"

_TEMPORARY = re.compile(r"\.tensorgrad-(?P<host>.*)-(?P<process>\d{1,9})-[0-9a-f]{8}")
_DAY = 86400  # seconds, after which a temporary folder of another machine counts as left over
_own: set[str] = set()  # the names of the temporary folders that are in use here


@contextmanager
def replacing(path: PathLike) -> Iterator[str]:
    """Yield the path of a new file, which replaces the one at `path` if the block succeeds.

    The new file is in a temporary folder beside `path`. If the process is killed, the folder stays
    until the next call for a file in the same place deletes it.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    _delete_left_over(folder)
    name = f".tensorgrad-{platform.node()}-{os.getpid()}-{os.urandom(4).hex()}"
    place = os.path.join(folder, name)
    _own.add(name)
    try:
        os.mkdir(place)
        new = os.path.join(place, os.path.basename(path))
        with open(new, "xb") as file:
            mode = os.fstat(file.fileno()).st_mode
        yield new
        os.chmod(new, mode)  # safetensors makes files that only their owner may read
        with open(new, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        _delete(place)
        _own.discard(name)
    sync_folder(folder)


def sync_folder(folder: PathLike) -> None:
    """Flush the names in a folder to the disk, which Windows does by itself."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _delete_left_over(folder: str) -> None:
    """Delete the temporary folders of processes that have ended."""
    for name in os.listdir(folder):
        match = _TEMPORARY.fullmatch(name)
        if match and name not in _own:
            place = os.path.join(folder, name)
            if match["host"] == platform.node():
                is_left = not _is_alive(int(match["process"]))
            else:
                is_left = time.time() - _time_of_change(place) > _DAY
            if is_left:
                _delete(place)


def _delete(folder: str) -> None:
    import shutil  # slow to import

    shutil.rmtree(folder, ignore_errors=True)


def _time_of_change(place: str) -> float:
    try:
        return os.stat(place).st_mtime
    except FileNotFoundError:  # its process has just deleted it
        return math.inf


def _is_alive(process: int) -> bool:
    """Whether another process has that number; on Windows, whose open files stay, never."""
    if process == os.getpid() or os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True
