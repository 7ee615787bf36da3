"""Whether NumPy's settings for floating-point errors ask for more than native code gives."""

from __future__ import annotations

from typing import Any

import numpy as np

_core: Any = getattr(np, "_core", None)
_settings = getattr(getattr(_core, "umath", None), "_extobj_contextvar", None)
_quiet: list[Any] = [object()]  # the settings that were last found to be quiet


def is_quiet() -> bool:
    """Whether no floating-point error is to raise or to be logged.

    `np.geterr` takes 1 us: where NumPy has a new object for new settings, it is called for these.
    """
    if _settings is None:
        return _look()
    return _settings.get(None) is _quiet[0] or _look()


def _look() -> bool:
    """The same, by looking at the settings."""
    quiet = {*np.geterr().values()} <= {"ignore", "warn"}
    if quiet and _settings is not None:
        _quiet[0] = _settings.get(None)
    return quiet


def is_loud() -> bool:
    """Whether a floating-point error may raise or be logged."""
    return not is_quiet()
