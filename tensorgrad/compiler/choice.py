"""Which back end makes a plan, where the user leaves that open.

NumPy's is planned in little time, and native code takes some tenths of a second. So a program runs
by NumPy first, and native code is made of it once NumPy's calls have taken about as long as that.
Whether a program is called often is not known before: this takes at most about twice the time of
the better choice.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from .backends import Backend, llvm
from .backends.numpy_source import NUMPY
from .backends.selection import selected_backend
from .error_settings import is_loud, is_quiet
from .passes import Pass
from .plan import Plan
from .stages import selected
from .turns import Turns


class Way(NamedTuple):
    """How a plan is made: by a back end, after passes. Then it holds while a test is true.

    With `turns`, native code takes over some time.
    """

    backend: Backend
    passes: Sequence[Pass]
    turns: Turns | None = None
    test: Callable[[], bool] | None = None


class Choice:
    """Chooses the way of each plan of a compiled function, whose user names a back end and passes.

    `adapted` makes of passes those that run. Where the user leaves the back end open, `turns` make
    the turns of a plan.
    """

    def __init__(
        self,
        backend: str | Backend | None,
        passes: Iterable[str | Pass] | None,
        adapted: Callable[[Sequence[Pass]], Sequence[Pass]],
        turns: Callable[[], Turns],
    ) -> None:
        named = selected_backend(backend)
        self.backend = named or NUMPY
        self._passes = None if passes is None else selected(passes, self.backend.passes)
        self._adapted = adapted
        self._turns = turns
        is_open = named is None and passes is None
        self._switches = is_open and importlib.util.find_spec("llvmlite") is not None

    def way(self) -> Way:
        """The way of a new plan."""
        if self._switches and is_quiet():
            return self._by(self.backend)._replace(turns=self._turns())
        if self.backend.heeds_error_settings and not self._switches:
            return self._by(self.backend)
        return self._native(self.backend) or self._by(NUMPY)._replace(test=is_loud)

    def way_on(self, plan: Plan) -> Way | None:
        """How to go on where a plan's turns are over: by another plan, or None, by the same."""
        way = self._native_way() or (self.way() if self._switches else None)
        if way is None:
            self.stay(plan)
        return way

    def _native_way(self) -> Way | None:
        """The way to native code, if there is one, here and with the present settings."""
        try:
            return self._native(llvm.backend()) if self._switches else None
        except ImportError:
            self._switches = False
        return None

    def stay(self, plan: Plan) -> None:
        """Let a plan make all further calls."""
        assert plan.turns is not None
        plan.turns.go_on()

    def _native(self, backend: Backend) -> Way | None:
        """The way to native code, unless it would not heed the present settings."""
        return self._by(backend)._replace(test=is_quiet) if is_quiet() else None

    def _by(self, backend: Backend) -> Way:
        return Way(backend, self._adapted(self._passes or backend.passes))


def pays(native: Plan, plan: Plan) -> bool:
    """Whether native code replaces most of the calls that another plan makes one by one."""
    return 2 * len(native.steps) <= len(plan.steps)
