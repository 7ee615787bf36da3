"""The progress of a training, as its user sees it."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import optional


class Progress:
    """A bar of tqdm, or a line for each epoch, or nothing."""

    def __init__(self, progress: bool | str, epochs: int, steps: int | None) -> None:
        self._epochs = epochs
        self._results = ""
        self._bar: Any = None
        self._prints_lines = False
        if progress:
            try:
                with warnings.catch_warnings():  # a notebook without ipywidgets gets a bar of text
                    warnings.filterwarnings("ignore", "IProgress not found")
                    tqdm = optional("tqdm.auto", "fit: the progress bar").tqdm
            except ImportError:
                if progress == "tqdm":
                    raise
                self._prints_lines = True
            else:
                self._bar = tqdm(total=steps, unit="step")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, epoch: int, loss: float, steps: int) -> None:
        """Show that so many steps were taken; `loss` is the mean of the epoch so far."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch}/{self._epochs}", refresh=False)
            self._bar.set_postfix_str(f"loss {loss:.4g}{self._results}", refresh=False)
            self._bar.update(steps)

    def skip(self, steps: int) -> None:
        """Count steps that were taken before the training was resumed."""
        if self._bar is not None:
            self._bar.update(steps)

    def compiling(self) -> None:
        """Show that a step is being compiled."""
        if self._bar is not None:
            self._bar.set_postfix_str("compiling")

    def note(self, text: str) -> None:
        """Log a text, above the bar."""
        if self._bar is not None:
            self._bar.clear()
        if self._bar is not None or self._prints_lines:
            importlib.import_module("logging").getLogger("tensorgrad").warning(text)

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Show the results of an epoch."""
        others = [f", {name} {value:.4g}" for name, value in row.items() if name != "loss"]
        self._results = "".join(others)
        text = f"loss {row['loss']:.4g}{self._results}"
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)  # the bar limits how often it is drawn
        elif self._prints_lines:
            print(f"epoch {epoch}/{self._epochs}: {text}", file=sys.stderr)
