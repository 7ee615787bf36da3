"""How much a run of the tests does: a part of everything while you work, all of it with `CI=1`."""

import os
from collections.abc import Iterable
from typing import TypeVar

import pytest
from hypothesis import settings

FULL = bool(os.environ.get("CI")) or settings.get_current_profile_name() == "thorough"
full_run_only = pytest.mark.skipif(not FULL, reason="takes long: CI=1 runs it")
T = TypeVar("T")

DEEP = 100_000 if FULL else 10_000  # operations in a graph: 1,000 nested calls are Python's limit


def one_in(n: int, cases: Iterable[T]) -> list[T]:
    """Return every n-th case, beginning with the first; all of them in a full run."""
    return [*cases][:: 1 if FULL else n]
