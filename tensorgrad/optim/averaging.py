"""Averages of weights over training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..engine.arrays import working_dtype
from ..engine.modes import mode, plain
from ..engine.tensor import Tensor
from ..engine.typing import Array
from .flat import bounds, by_dtype, distinct, real_dtype, require_untraced, views


class ExponentialMovingAverage:
    """An exponential moving average of parameters.

    It starts as a copy of the parameters. Call `update()` after each step of an optimizer; it
    computes average = decay * average + (1 - decay) * parameters. `decay` can be set between
    updates. Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.

    >>> w = tg.Tensor([0.0], requires_grad=True)
    >>> average = tg.optim.ExponentialMovingAverage([w], decay=0.75)
    >>> w.data = [4.0]
    >>> average.update()
    >>> with average.applied():
    ...     w.data.copy()
    array([1.])
    >>> w.data
    array([4.])
    """

    def __init__(self, params: Iterable[Tensor], decay: float = 0.999) -> None:
        groups = by_dtype(distinct(params, type(self).__name__))
        self._parameters = [p for group in groups for p in group]
        self._vectors: list[tuple[Array, Array]] = []
        self._means: list[Array] = []  # views of the averages, one for each parameter
        self._current: list[Array] = []  # and of copies of the parameters
        self._shares: list[Array] = []  # 1 - decay: compiled updates read it, too
        for group in groups:
            arrays = [p._array for p in group]
            dtype = real_dtype(working_dtype(group[0].dtype))
            mean, current = np.empty((2, bounds(arrays)[-1]), dtype)
            self._vectors.append((mean, current))
            self._shares.append(np.zeros((), mean.dtype))
            self._means += views(mean, arrays)
            self._current += views(current, arrays)
        self.decay = decay
        self._gather(self._means)

    def __repr__(self) -> str:
        count = sum(mean.size for mean in self._means)
        return f"ExponentialMovingAverage(decay={self.decay}) of {count:,} numbers"

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "decay":
            self._set_shares(value)
        super().__setattr__(name, value)

    def _set_shares(self, decay: float) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"ExponentialMovingAverage: decay {decay} is not between 0 and 1")
        mode.get().interpreter.require_eager(
            "ExponentialMovingAverage: a decay set by a compiled function would not be set in "
            "later calls: set it outside"
        )
        for share in self._shares:
            share[()] = 1 - decay

    def _gather(self, copies: list[Any]) -> None:
        for p, copy in zip(self._parameters, copies):
            copy[...] = plain(p)

    def update(self) -> None:
        """Move the average towards the parameters."""
        state = mode.get().interpreter.state
        self._gather([*map(state, self._current)])
        for vectors, share in zip(self._vectors, self._shares):
            mean, current = map(state, vectors)
            current -= mean
            current *= state(share)
            mean += current  # mean = mean + (1 - decay) * (current - mean)

    def copy_to(self) -> None:
        """Copy the average into the parameters."""
        for p, mean in zip(self._parameters, self._means):
            p.data = mean

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Copy the average into the parameters for a `with` block; restore them after it."""
        saved = [plain(p).copy() for p in self._parameters]
        self.copy_to()
        try:
            yield
        finally:
            for p, data in zip(self._parameters, saved):
                p.data = data

    def state_dict(self) -> dict[str, Any]:
        """Copies of the average and the decay."""
        require_untraced("ExponentialMovingAverage.state_dict")
        return {"decay": self.decay, "average": [mean.copy() for mean in self._means]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned; ValueError for arrays of other shapes."""
        require_untraced("ExponentialMovingAverage.load_state_dict")
        shapes = [mean.shape for mean in self._means], [np.shape(a) for a in state["average"]]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"load_state_dict: averages of shapes {shapes[1]} for parameters of {shapes[0]}"
            )
        self.decay = state["decay"]
        for mean, saved in zip(self._means, state["average"]):
            mean[...] = saved

    def __getstate__(self) -> Any:
        return self._parameters, self.state_dict()

    def __setstate__(self, state: Any) -> None:
        parameters, saved = state
        ExponentialMovingAverage.__init__(self, parameters, saved["decay"])
        self.load_state_dict(saved)
