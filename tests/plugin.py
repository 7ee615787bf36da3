"""What every doctest of the package and of the README sees, loaded with `-p tests.plugin`."""

import contextlib
import gc
import os
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any

# Before NumPy reads it: on small matrices more threads only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

import tensorgrad

NEED_SCIPY = (
    "tensorgrad.optim.lbfgs.LBFGS",
    "tensorgrad.solvers.",
    "tensorgrad.scipy.",
    "solvers.md",
    "scipy.md",
)
NEED_SKLEARN = ("estimators.md",)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--law", help="check this law alone of each operation: see tests/laws.py")


def pytest_collection_finish() -> None:
    gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> None:
    """Take all that pytest and earlier tests hold from the collector: most lives to the end."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _names_in_doctests(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(np=np, tg=tensorgrad, tensorgrad=tensorgrad)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    if not isinstance(item, pytest.DoctestItem):
        return (yield)
    if item.name.startswith(NEED_SCIPY):
        pytest.importorskip("scipy")
    if item.name.startswith(NEED_SKLEARN):
        pytest.importorskip("sklearn")
    with TemporaryDirectory() as folder, contextlib.chdir(folder):  # examples write files
        return (yield)
