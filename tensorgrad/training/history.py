"""What a training reports, and when it stops early."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from .. import viz
from ..guide import guide
from ..nn import Module
from ..tables import Table, wrapped


class EarlyStopping(NamedTuple):
    """When `fit` stops early: after `patience` epochs in a row without a new best value.

    A value is a new best if it improves the earlier one by more than `min_delta`. `monitor` is the
    column of the history to watch: by default the validation loss, or the training loss without
    validation. `mode` is "min" if smaller values are better and "max" if larger ones are; for a
    loss, the default is "min".

    >>> tg.EarlyStopping(patience=3, monitor="val_accuracy", mode="max")
    EarlyStopping(patience=3, min_delta=0.0, monitor='val_accuracy', mode='max')
    """

    patience: int = 5
    min_delta: float = 0.0
    monitor: str | None = None
    mode: Literal["min", "max"] | None = None


@guide
class History(dict[str, list[float]]):
    """What `fit` returns: the columns of a table with one row per epoch.

    "loss" and the metrics are means over the training batches, taken while the model was trained.
    Columns that start with "val_" come from the validation after the epoch. `stopped` is the reason
    for the end: "epochs", "early stopping", "callback" or "interrupt"; it is None during training.
    `best_epoch`, counted from 1, is the epoch whose weights the model has after early stopping.
    `not_compiled` is the reason why `fit` ran steps without compiling them, or None.
    `pandas.DataFrame(history)` makes a table.
    """

    stopped: str | None = None
    best_epoch: int | None = None
    not_compiled: str | None = None

    def __missing__(self, name: object) -> NoReturn:
        is_of_validation = isinstance(name, str) and name.startswith("val_")
        hint = ": pass validation= to fit" if is_of_validation and "val_loss" not in self else ""
        raise KeyError(f"the history has no column {name!r}, only {[*self]}{hint}")

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the columns and of the other attributes."""
        columns = {name: [*column] for name, column in self.items()}
        return {"columns": columns} | vars(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.clear()
        self.update({name: [*column] for name, column in state["columns"].items()})
        vars(self).clear()
        vars(self).update({name: value for name, value in state.items() if name != "columns"})

    def append(self, row: Mapping[str, float]) -> None:
        """Add the row of an epoch."""
        for name, value in row.items():
            self.setdefault(name, []).append(value)

    def last(self) -> dict[str, float]:
        """Return the row of the last epoch."""
        return {name: column[-1] for name, column in self.items()}

    def plot(self, column: str = "loss", *, ax: Any = None) -> Any:
        """Draw a column, and that of the validation, by epochs: see `tensorgrad.viz.history`.

        Returns the axes of matplotlib, which it needs.
        """
        return viz.history(self, column, ax=ax)

    def __repr__(self) -> str:
        epochs = len(self.get("loss", []))
        parts = ["1 epoch" if epochs == 1 else f"{epochs} epochs"]
        if self.stopped is not None:
            parts.append(f"stopped by {self.stopped}")
        if self.best_epoch is not None:
            parts.append(f"best epoch {self.best_epoch}")
        parts += [f"{name} {value:.4g}" for name, value in self.last().items()]
        return wrapped("History(", parts)

    def _repr_html_(self) -> str:
        """A table for notebooks: the last ten epochs."""
        names, count = [*self], max(map(len, self.values()), default=0)
        epochs = range(count)[-10:]
        rows = [[str(i + 1), *(f"{self[name][i]:.4g}" for name in names)] for i in epochs]
        notes = [] if self.stopped is None else [f"stopped by {self.stopped}"]
        notes += [] if self.best_epoch is None else [f"best epoch {self.best_epoch}"]
        return Table([["epoch", *names], *rows], ">" * (len(names) + 1), notes)._repr_html_()


class Monitor:
    """Finds the best epoch, and keeps its weights, if early stopping is asked for."""

    def __init__(
        self, stopping: EarlyStopping | int | None, metrics: Iterable[str], has_validation: bool
    ) -> None:
        rule = _early_stopping(stopping)
        self.column = rule.monitor or ("val_loss" if has_validation else "loss")
        self.best_state: Any = None
        self._enabled = stopping is not None
        self._patience, self._min_delta = rule.patience, rule.min_delta
        self._sign = -1 if rule.mode == "max" else 1
        self._best = math.inf
        names = ["loss", *metrics]
        names += ["val_" + name for name in names] if has_validation else []
        if self.column not in names:
            raise ValueError(f"fit: early stopping cannot monitor {self.column!r}, only {names}")
        if rule.mode is None and self.column not in ("loss", "val_loss"):
            raise ValueError(
                f"fit: are smaller or larger values of {self.column} better? Pass "
                'EarlyStopping(..., mode="min") or mode="max"'
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the weights of its epoch."""
        return {"best": self._best, "best_state": self.best_state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self._best, self.best_state = state["best"], state["best_state"]

    def should_stop(self, history: History, model: Module) -> bool:
        """Look at the last epoch, and return whether the training should stop."""
        if not self._enabled:
            return False
        column = history[self.column]
        value = self._sign * column[-1]
        if value < self._best - self._min_delta:
            self._best, self.best_state = value, model.state_dict()
            history.best_epoch = len(column)
        return len(column) - (history.best_epoch or 0) >= self._patience


def _early_stopping(option: Any) -> EarlyStopping:
    if option is None:
        return EarlyStopping()
    if isinstance(option, (int, np.integer)) and not isinstance(option, bool):
        option = EarlyStopping(int(option))
    if not isinstance(option, EarlyStopping):
        raise TypeError(
            f"fit: early_stopping must be an EarlyStopping, its patience, or None, not {option!r}"
        )
    if not (option.patience >= 1 and option.min_delta >= 0 and option.mode in (None, "min", "max")):
        raise ValueError(
            f"fit: {option}: patience must be at least 1, min_delta must not be negative, and mode "
            'must be "min" or "max"'
        )
    return option
