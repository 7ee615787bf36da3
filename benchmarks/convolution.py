"""Convolutions forward, and forward and backward, in tensorgrad and in other libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .timing import Table, compare, installed, introduce, require_equal, threads, turn_of

Array = np.ndarray[Any, Any]
Pass = Callable[[], Any]  # returns the output, or with it the gradients of input and weight
TOLERANCE = 1e-5


class Work(NamedTuple):
    """A convolution with windows of 3x3 and padding, in float32."""

    channels: int
    nout: int
    size: int
    groups: int
    batch: int = 32

    def __str__(self) -> str:
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return f"{self.channels} to {self.nout}, {self.size}x{self.size}{groups}"

    def arrays(self) -> list[Array]:
        """The input, the weight and the cotangent of the output."""
        n, c, o, s, groups = self.batch, self.channels, self.nout, self.size, self.groups
        rng = np.random.default_rng(0)
        shapes = (n, c, s, s), (o, c // groups, 3, 3), (n, o, s, s)
        return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


WORKS = [
    Work(1, 32, 28, 1),
    Work(16, 32, 28, 1),
    Work(64, 64, 14, 1),
    Work(64, 64, 28, 4),
    Work(64, 64, 28, 64),
]


def tensorgrad() -> Callable[[Work], tuple[Pass, Pass]]:
    from tensorgrad import Tensor, nn, no_grad

    def make(work: Work) -> tuple[Pass, Pass]:
        x, w, g = work.arrays()
        inputs = [Tensor(a, requires_grad=True) for a in (x, w)]

        def forward() -> Any:
            with no_grad():
                return nn.conv2d(*inputs, padding=1, groups=work.groups).data

        def both() -> Any:
            for a in inputs:
                a.grad = None
            y = nn.conv2d(*inputs, padding=1, groups=work.groups)
            y.backward(g)
            return [y.data, *(a.grad for a in inputs)]

        return forward, both

    return make


def _compiled(backend: str) -> Callable[[], Callable[[Work], tuple[Pass, Pass]]]:
    def load() -> Callable[[Work], tuple[Pass, Pass]]:
        import tensorgrad as tg

        if backend == "llvm":
            import llvmlite  # noqa: F401

        def make(work: Work) -> tuple[Pass, Pass]:
            x, w, g = work.arrays()

            def conv(x: Any, w: Any) -> Any:
                return tg.nn.conv2d(x, w, padding=1, groups=work.groups)

            def with_gradients(x: Any, w: Any, g: Any) -> Any:
                y, pullback = tg.vjp(conv, x, w)
                return [y, *pullback(g)]

            forward = tg.compile(conv, backend=backend)
            both = tg.compile(with_gradients, backend=backend)
            return lambda: forward(x, w), lambda: both(x, w, g)

        return make

    return load


def pytorch() -> Callable[[Work], tuple[Pass, Pass]]:
    import torch

    torch.set_num_threads(threads())

    def make(work: Work) -> tuple[Pass, Pass]:
        *inputs, g = map(torch.tensor, work.arrays())
        conv = torch.nn.functional.conv2d
        for a in inputs:
            a.requires_grad = True

        def forward() -> Any:
            with torch.no_grad():
                return conv(*inputs, padding=1, groups=work.groups).numpy()

        def both() -> Any:
            for a in inputs:
                a.grad = None
            y = conv(*inputs, padding=1, groups=work.groups)
            y.backward(g)
            return [y.detach().numpy(), *(a.grad.numpy() for a in inputs)]

        return forward, both

    return make


ENGINES = {
    "tensorgrad": tensorgrad,
    "compiled": _compiled("numpy"),
    "native": _compiled("llvm"),
    "PyTorch": pytorch,
}


def run(quick: bool, output: Path) -> None:
    introduce(
        "Convolutions of 32 images with windows of 3x3, in float32: microseconds (ratio to",
        "tensorgrad, not compiled). Outputs and gradients are checked to be equal.",
    )
    engines = dict(installed(ENGINES))
    table = Table(
        {"": 44} | dict.fromkeys(engines, 17),
        output / "convolution.json",
        ["work", "engine", "microseconds", "ratio to tensorgrad"],
    )
    for work in WORKS[1::3] if quick else WORKS:
        expected: Any = None
        turns: dict[str, Any] = {"forward": {}, "forward and backward": {}}
        for name, make in engines.items():
            forward, both = make(work)
            results = [forward(), *both()]
            expected = expected or results
            for got, right in zip(results, expected, strict=True):
                require_equal(f"{work} by {name}", got, right, TOLERANCE)
            for what, function in zip(turns, (forward, both)):
                turns[what][name] = turn_of(function)
        for what, taken in turns.items():
            compare(table, f"{work}: {what}", taken, seconds=0.5 if quick else 5.0)
