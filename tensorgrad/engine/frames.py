"""Where the user called: the first frame outside of this package."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType

from .typing import Line

PACKAGE = __name__.partition(".")[0]
OWN_FILES = frozenset(
    os.path.join(folder, name)
    for folder, _, names in os.walk(os.path.dirname(os.path.dirname(__file__)))
    for name in names
)


def users_line(frame: FrameType) -> Line:
    """Return the line of the first frame, from this one outwards, that is not in this package.

    If all frames are, return that of the outermost.
    """
    while frame.f_code.co_filename in OWN_FILES and (outer := frame.f_back) is not None:
        frame = outer
    return frame.f_code, frame.f_lasti


def warn(message: str) -> None:
    """Give a UserWarning at the user's line."""
    frame: FrameType | None = sys._getframe()
    level = 1
    while frame is not None and frame.f_code.co_filename in OWN_FILES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
