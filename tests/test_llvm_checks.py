"""Requirements on elements in native code: their errors, in calls and in loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.engine.interpreter import Requirement
from tensorgrad.engine.modes import mode

pytest.importorskip("llvmlite")

STEPS, BATCH = 9, 21  # more elements than vectors have lanes, and not a multiple of them
RNG = np.random.default_rng(0)
NUMBERS = RNG.uniform(0.1, 0.9, (STEPS, BATCH, 3))

# A loss of (w * x, y) for a parameter w = 1; arrays for each step; a bad element of x or y; and
# the error.
Case = tuple[Callable[[Any, Any], Any], Any, Any, tuple[str, Any], type[Exception]]
CASES: dict[str, Case] = {
    "classes": (
        nn.cross_entropy, NUMBERS, RNG.integers(0, 3, (STEPS, BATCH)), ("y", 3), IndexError,
    ),
    "negative classes": (
        nn.cross_entropy, NUMBERS, RNG.integers(0, 3, (STEPS, BATCH)), ("y", -1), IndexError,
    ),
    "unsigned classes": (
        nn.cross_entropy, NUMBERS, RNG.integers(0, 3, (STEPS, BATCH), np.uint8), ("y", 255),
        IndexError,
    ),
    "signs": (
        nn.hinge_loss, NUMBERS, RNG.choice([-1, 1], (STEPS, BATCH, 3)), ("y", 0), ValueError,
    ),
    "signs that are floats": (
        nn.hinge_loss, NUMBERS, RNG.choice([-1.0, 1.0], (STEPS, BATCH, 3)), ("y", np.nan),
        ValueError,
    ),
    "probabilities": (nn.binary_cross_entropy, NUMBERS, NUMBERS, ("x", 1.5), ValueError),
    "variances": (
        lambda x, y: nn.gaussian_nll_loss(x, y, y), NUMBERS, NUMBERS, ("y", -0.1), ValueError,
    ),
    "indices": (
        lambda x, i: x.sum() + nn.embedding(i, x).sum(), NUMBERS,
        RNG.integers(0, BATCH, (STEPS, BATCH)), ("y", BATCH), IndexError,
    ),
}  # fmt: skip


def step_of(loss: Any) -> tuple[list[Any], Callable[[Any, Any], Any]]:
    """What a step changes, and the step: a parameter, a count, and dropout's random numbers."""
    w, count = tg.Tensor(1.0, requires_grad=True), tg.zeros(())
    dropout = nn.Dropout(0.5, rng=np.random.default_rng(0))

    def step(x: Any, y: Any) -> Any:
        count.data[...] += 1
        value = loss(w * x, y) + 0 * dropout(np.ones(3)).sum()
        w.grad = None
        value.backward()
        w.data -= 0.01 * w.grad
        return value.detach()

    return [w, count, dropout.rng], step


def state_of(things: list[Any]) -> list[Any]:
    w, count, rng = things
    return [w.item(), count.item(), rng.bit_generator.state["state"]["state"]]


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_bad_element_raises_the_functions_own_error(name: str, by_columns: bool) -> None:
    loss, x, y, (where, bad), error = CASES[name]
    arrays = {"x": x.copy(), "y": y.copy()}
    arrays[where][-2, BATCH // 2] = bad
    x, y = arrays.values()
    if by_columns:  # what a step gets lies in other ways than row by row
        x, y = (np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) for a in (x, y))
    numpys, step = step_of(loss)
    native, compiled = step_of(loss)
    in_loop, looped = step_of(loss)
    step = tg.compile(step, backend="numpy")
    compiled = tg.compile(compiled, backend="llvm")
    looped = tg.compile(looped, backend="llvm")
    messages = []
    with pytest.raises(error) as caught:
        looped.scan(x, y)
    messages.append(str(caught.value))
    for function in step, compiled:
        for i in range(STEPS - 2):
            function(x[i], y[i])
        with pytest.raises(error) as caught:
            function(x[-2], y[-2])
        messages.append(str(caught.value))
    assert len({*messages}) == 1
    np.testing.assert_allclose(native[0].numpy(), numpys[0].numpy(), rtol=1e-12)
    assert state_of(native) == state_of(in_loop)
    assert state_of(native)[1:] == state_of(numpys)[1:]
    np.testing.assert_allclose(compiled(x[-1], y[-1]), step(x[-1], y[-1]), rtol=1e-12)


def test_a_requirement_of_numbers_that_are_not_finite() -> None:
    """Each element counts, of several arrays and views, and those that are fine pass."""

    def check(*arrays: Any) -> None:
        if not all(np.isfinite(a).all() for a in arrays):
            raise FloatingPointError

    finite = Requirement(check, lambda a: abs(a) < np.inf)

    @tg.compile(backend="llvm")
    def f(x: Any, y: Any) -> Any:
        mode.get().interpreter.effect(finite, 2 * x, y[1:, ::2])
        return x.sum() + y.sum()

    x, y = np.ones(37, np.float32), np.full((4, 5), np.finfo(float).max / 100)
    for _ in range(2):
        assert np.isfinite(f(x, y))
    for i, bad in enumerate((np.inf, -np.inf, np.nan)):
        for array, place in ((x, 36 - i), (x, i), (y, (1 + i, 2))):
            before = array[place]
            array[place] = bad
            with pytest.raises(FloatingPointError):
                f(x, y)
            array[place] = before
    y[0, 0] = y[1, 1] = np.nan  # not among those that must be finite
    assert np.isnan(f(x, y))
