"""What every doctest of the package and of the README sees, loaded with `-p tests.plugin`."""

from typing import Any

import numpy as np
import pytest

import tensorgrad


@pytest.fixture(autouse=True)
def _names_in_doctests(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(np=np, tg=tensorgrad, tensorgrad=tensorgrad)
