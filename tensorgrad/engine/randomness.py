"""Random numbers: each sample of a `vmap` draws its own."""

from __future__ import annotations

import contextvars
from typing import Any

import numpy as np

from .batching import Batch, Level, one_by_one
from .modes import mode, plain
from .typing import Function
from .variable import tensor_of

running: contextvars.ContextVar[tuple[Level, ...]] = contextvars.ContextVar(
    "tensorgrad levels", default=()
)
"""The levels of the calls of `vmap` that run now, the outermost first."""


class Generators:
    """A NumPy Generator for each sample: its methods draw from each, and stack the numbers."""

    def __init__(self, level: Level, parent: np.random.Generator) -> None:
        self._level = level
        self._generators = parent.spawn(level.count)

    def __getattr__(self, name: str) -> Function:
        def draw(*args: Any, **kwargs: Any) -> Any:
            drawn = [getattr(rng, name)(*args, **kwargs) for rng in self._generators]
            return tensor_of(self._level.batch(np.stack(drawn)), None)

        return draw


def draw_uniform(rng: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Draw an array of numbers from 0 to 1: for each sample that is computed, its own.

    `rng` is a Generator, or one for each sample, or a seed. A compiled function draws again in each
    call, except from a seed.
    """
    if isinstance(rng, Generators):
        return plain(rng.random(shape, dtype))
    rng = plain(rng)
    if type(rng) is Batch:  # a seed for each sample
        return one_by_one(lambda seed: draw_uniform(int(seed), shape, dtype), (rng,), {})
    generator = np.random.default_rng(rng)
    if isinstance(rng, (int, np.integer)):
        return generator.random(shape, dtype)
    levels = running.get()
    shape = (*[level.count for level in levels], *shape)
    drawn = mode.get().interpreter.draw(generator, shape, dtype)
    for level in levels:
        drawn = level.batch(drawn)
    return drawn
