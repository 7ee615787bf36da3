"""How many calls a plan makes until it is time to make native code of its program.

It is decided by numbers of calls and bytes, not by measured times: so each run decides alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat

# Native code of a training step of a small network takes 0.3 s, with the import of llvmlite. Half
# of it is weighed against what the calls to come save: most programs make more of them later.
SECONDS = 0.15
CALL = 0.4e-6  # seconds that a call of NumPy takes
BYTE = 0.1e-9  # seconds for each byte of what a call makes
SAVED = 0.6  # of that time is what native code saves, at least


class Turns:
    """Counts the calls of a plan, until it is time to make native code of its program.

    `next(tokens)` is true from then on, unless all further calls are to be made by this plan. Where
    it is known how many calls are `to_come`, it is time at once if that pays, and else never.
    """

    def __init__(self, to_come: float | None = None) -> None:
        self.are_over = False
        self._to_come = to_come
        self._count = 0
        self._scanned = 0
        self._unlimited = False
        self.tokens = chain.from_iterable(self._parts())

    def start(self, calls: int, made: int) -> None:
        """Begin, for a plan of so many calls, which make so many bytes."""
        seconds = calls * CALL + made * BYTE + CALL
        if self._to_come is None:
            self._count = max(1, round(SECONDS / seconds))
        else:
            self.are_over = self._to_come * seconds * SAVED >= SECONDS
            self._unlimited = not self.are_over

    def scanned(self, calls: int) -> bool:
        """Note that a loop is to make so many calls; return whether the plan may make them."""
        if not self._unlimited:
            self._scanned += calls
            self.are_over = self.are_over or self._scanned >= self._count
        return not self.are_over

    def go_on(self) -> None:
        """Let the plan make all further calls."""
        self._unlimited, self.are_over = True, False

    def _parts(self) -> Iterator[Iterable[bool]]:
        yield repeat(False, self._count)
        while not self._unlimited:
            self.are_over = True
            yield (True,)
        yield repeat(False)
