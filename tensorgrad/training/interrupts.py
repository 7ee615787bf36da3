"""Ctrl-C during training."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..storage.nesting import has_state


class Interrupts:
    """Delays Ctrl-C to the end of a step, so that each step is done completely or not at all.

    It is not delayed while `at_once` is true, nor is a second Ctrl-C.
    """

    def __init__(self) -> None:
        self.at_once = False
        self._pending = False
        self._handler: Any = None

    def __enter__(self) -> Interrupts:
        handler = signal.getsignal(signal.SIGINT)
        is_default = handler is signal.default_int_handler  # which raises KeyboardInterrupt
        if is_default and threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if kind is None:
            self.check()

    def _note(self, _number: int, _frame: Any) -> None:
        is_delayed = not (self._pending or self.at_once)
        self._pending = True
        if not is_delayed:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if one is pending."""
        if self._pending:
            raise KeyboardInterrupt

    def between(self, data: Iterable[Any]) -> Iterator[Any]:
        """Yield batches; between two of them, raise KeyboardInterrupt if one is pending."""
        for batch in data:
            yield batch
            self.check()


@contextmanager
def undone_by_interrupt(data: Any) -> Iterator[None]:
    """Restore the earlier state of data if Ctrl-C ends the block."""
    state = data.state_dict() if has_state(data) else None
    try:
        yield
    except KeyboardInterrupt:
        if has_state(data):
            data.load_state_dict(state)
        raise
