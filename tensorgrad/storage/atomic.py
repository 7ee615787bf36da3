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
_DAY = 86400  # in seconds; then a temporary folder of another machine is considered left over
_own: set[str] = set()  # the names of temporary folders that this process uses


@contextmanager
def replacing(path: PathLike) -> Iterator[str]:
    """Yield the path of a new file, which replaces the one at `path` if the block succeeds.

    The new file is in a temporary folder next to `path`. If the process is killed, the folder
    remains; the next call for a file in the same folder deletes it.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    _delete_left_over(folder)
    name = f".tensorgrad-{platform.node()}-{os.getpid()}-{os.urandom(4).hex()}"
    temporary = os.path.join(folder, name)
    _own.add(name)
    try:
        os.mkdir(temporary)
        new = os.path.join(temporary, os.path.basename(path))
        with open(new, "xb") as file:
            mode = os.fstat(file.fileno()).st_mode
        yield new
        os.chmod(new, mode)  # safetensors makes files that only their owner can read
        with open(new, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        _delete(temporary)
        _own.discard(name)
    sync_folder(folder)


def sync_folder(folder: PathLike) -> None:
    """Write the names in a folder to the disk; Windows does that by itself."""
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
            temporary = os.path.join(folder, name)
            if match["host"] == platform.node():
                is_left = not _is_alive(int(match["process"]))
            else:
                is_left = time.time() - _time_of_change(temporary) > _DAY
            if is_left:
                _delete(temporary)


def _delete(folder: str) -> None:
    import shutil  # slow to import

    shutil.rmtree(folder, ignore_errors=True)


def _time_of_change(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:  # its process has just deleted it
        return math.inf


def _is_alive(process: int) -> bool:
    """Whether another process has this number; never on Windows, where open files stay."""
    if process == os.getpid() or os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True
