"""What a long compilation is doing, on a terminal."""

from __future__ import annotations

import sys
import time

PATIENCE = 2.0  # seconds, after which somebody may wonder
OFTEN = 1 << 10  # calls, after which a trace tells how far it is


class Progress:
    """One line on stderr, if that is a terminal: from two seconds on, until the block ends.

    `name` is that of the function that is compiled.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = time.monotonic()
        self._is_shown = False

    def __call__(self, text: str) -> None:
        """Say what is being done now."""
        late = time.monotonic() - self._start >= PATIENCE
        if late and sys.stderr is not None and sys.stderr.isatty():
            self._is_shown = True
            self._write(f"compiling {self._name}: {text}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._is_shown:
            self._write("")

    def _write(self, text: str) -> None:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
