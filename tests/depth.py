"""How much a run of the tests does: a part of everything while you work, all of it with `CI=1`."""

import os

import pytest
from hypothesis import settings

FULL = bool(os.environ.get("CI")) or settings.get_current_profile_name() == "thorough"
full_run_only = pytest.mark.skipif(not FULL, reason="takes long: CI=1 runs it")

DEEP = 100_000 if FULL else 10_000  # operations in a graph: 1,000 nested calls are Python's limit
