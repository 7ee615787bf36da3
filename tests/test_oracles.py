"""How equal results must be: what `assert_same` takes for the same, and what not."""

from typing import Any

import numpy as np
import pytest

import tensorgrad as tg

from .oracles import assert_same

EPS = float(np.finfo(float).eps)
NOISE = np.array([3e-17, -1e-17])
GRADIENTS = {"grad": [np.array([0.5, 0.25]), NOISE], "loss": np.array(1e-9), "rate": 0.1}


def changed(**parts: Any) -> dict[str, Any]:
    return GRADIENTS | parts


@pytest.mark.parametrize(
    "actual",
    [
        changed(grad=[np.array([0.5, 0.25]), -NOISE]),  # roundings of the other gradient
        changed(grad=[np.array([0.5, 0.25 + 16 * EPS]), NOISE]),
        changed(loss=np.array(1e-9 * (1 + 32 * EPS))),
        changed(rate=np.array(0.1)),  # a number, which a compiled function returns as an array
    ],
)
def test_the_same(actual: Any) -> None:
    assert_same(actual, GRADIENTS)


@pytest.mark.parametrize(
    "actual",
    [
        changed(grad=[np.array([0.5, 0.25 + 128 * EPS]), NOISE]),
        changed(grad=[np.array([0.5, 0.25]), NOISE + 128 * EPS]),
        changed(grad=[np.array([0.5, np.nan]), NOISE]),
        changed(grad=[np.array([0.5, 0.25])]),
        changed(grad=(np.array([0.5, 0.25]), NOISE)),
        changed(grad=[np.array([0.5, 0.25], np.float32), NOISE]),
        changed(grad=[np.array([[0.5, 0.25]]), NOISE]),
        changed(grad=[tg.Tensor([0.5, 0.25]), NOISE]),
        changed(loss=np.array(1e-9 * (1 + 128 * EPS))),  # of another name: it has digits of its own
        changed(rate=0.1 * (1 + 128 * EPS)),
        changed(more=1),
    ],
)
def test_not_the_same(actual: Any) -> None:
    with pytest.raises(AssertionError):
        assert_same(actual, GRADIENTS)


def test_how_many_digits_is_the_tests_choice() -> None:
    x = np.array([1.0, 2.0])
    with pytest.raises(AssertionError):
        assert_same(x + 4 * EPS, x, roundings=1)
    with pytest.raises(AssertionError):
        assert_same(x + EPS, x, roundings=0)
    assert_same(np.array([100 * EPS]), np.array([0.0]), least=2.0)
    assert_same(np.array([np.inf, np.nan]), np.array([np.inf, np.nan]))
