"""How hard hypothesis tries: `pytest --hypothesis-profile=thorough` for a long search."""

import os

from hypothesis import HealthCheck, settings

_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _COMMON, max_examples=10)
settings.register_profile("ci", _COMMON, max_examples=30, derandomize=True, print_blob=True)
settings.register_profile("thorough", _COMMON, max_examples=1000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
