"""One training of the playground, and what the page shows of it."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..engine.modes import no_grad
from .program import definitions
from .settings import RANGE, Settings

SIDE = 50  # points along each side of the picture of the output
SMALL = 20  # and of the pictures of neurons


class Training:
    """A network that learns, as the program of its settings says.

    `steps` counts the steps since the start. `history` has the losses of training and test at some
    of them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.steps = 0
        self.microseconds = 0.0
        self._scope: dict[str, Any] = {}
        exec(compile(definitions(settings), "<the program on the page>", "exec"), self._scope)
        self._batches = self._forever()
        self._grids = [self._grid(side) for side in (SIDE, SMALL)]

    def _forever(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(itertools.repeat(self._scope["batches"]))

    @staticmethod
    def _grid(side: int) -> Any:
        """The points of a picture, from the top left to the bottom right."""
        across = np.linspace(-RANGE, RANGE, side)
        return np.stack(np.meshgrid(across, -across), axis=-1).reshape(-1, 2)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to learn from: no points of the user's."""
        return not len(self._scope["train"])

    def advance(self, steps: int) -> None:
        """Take so many steps, and measure what one costs."""
        if self.is_empty or not steps:
            return
        step = self._scope["step"]
        batches = [*itertools.islice(self._batches, steps)]
        start = time.perf_counter()
        with np.errstate(all="ignore"):  # a rate that is too large is shown, not reported
            for batch in batches:
                step(*batch)
        taken = 1e6 * (time.perf_counter() - start) / steps
        few = self.steps < 100  # steps, of which the first ones compile
        self.steps += steps
        self.microseconds = taken if few else 0.9 * self.microseconds + 0.1 * taken

    def points(self) -> dict[str, Any]:
        """The points, their targets, and which of them belong to the training."""
        scope = self._scope
        return {
            "points": np.round(scope["points"], 3).tolist(),
            "targets": np.round(scope["targets"][:, 0], 3).tolist(),
            "train": scope["train"].tolist(),
        }

    def frame(self) -> dict[str, Any]:
        """What the page draws: losses, pictures of all outputs, weights and gradients."""
        scope, model = self._scope, self._scope["model"]
        with np.errstate(all="ignore"), no_grad():
            losses = [] if self.is_empty else scope["losses"]()
            large, small = (scope["features"](grid) for grid in self._grids)
            pictures = [small.T]
            hidden = small
            for layer in model.layers:
                hidden = layer(hidden)
                pictures.append(hidden.numpy().T)
            output = model(large).numpy()[:, 0]
            layers = [
                {name: _listed(array) for name, array in _arrays(layer).items()}
                for layer in model.layers
            ]
        return {
            "steps": self.steps,
            "epochs": self.steps // max(1, len(scope["batches"])),
            "losses": [loss if np.isfinite(loss) else None for loss in losses],
            "microseconds": round(self.microseconds, 2),
            "output": _picture(output),
            "neurons": [[_picture(a) for a in pictures_of] for pictures_of in pictures],
            "layers": layers,
        }


def _arrays(layer: Any) -> dict[str, Any]:
    """Weights and biases of a layer, and their gradients."""
    zero = np.zeros_like
    weight, bias = layer.weight, layer.bias
    return {
        "weight": weight.numpy(),
        "bias": bias.numpy(),
        "weight_grad": zero(weight.numpy()) if weight.grad is None else weight.grad,
        "bias_grad": zero(bias.numpy()) if bias.grad is None else bias.grad,
    }


def _listed(array: Any) -> Any:
    """Numbers in four digits, as lists; those that are not finite as 0."""
    finite = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    return np.vectorize(lambda x: float(f"{x:.4g}"))(finite).tolist()


def _picture(values: Any) -> str:
    """Values from -1 to 1 as bytes from 0 to 254, in base64."""
    finite = np.clip(np.nan_to_num(values, nan=0.0), -1, 1)
    return base64.b64encode(np.rint(127 * finite + 127).astype(np.uint8).tobytes()).decode()
