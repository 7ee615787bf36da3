"""What PyTorch's functions of sampling compute: `python -m tests.sampling_references` stores it.

A case calls one function of either library, of arrays of these shapes. The results are the output,
and the gradients by the arrays, all of them float64.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STORED = Path(__file__).parent / "data" / "sampling.npz"


class Case(NamedTuple):
    call: Callable[..., Any]  # of the namespace of functions, and the arrays
    shapes: tuple[tuple[int, ...], ...]

    def inputs(self) -> list[Any]:
        rng = np.random.default_rng(0)
        return [rng.normal(size=shape) for shape in self.shapes]


LINE, IMAGE, VOLUME = (2, 1, 5), (1, 2, 3, 5), (1, 1, 2, 3, 4)
PLACES, POINTS = (1, 4, 3, 2), (1, 2, 2, 2, 3)


def _interpolated(shape: tuple[int, ...], *args: Any, **kwargs: Any) -> Case:
    return Case(lambda nn, x: nn.interpolate(x, *args, **kwargs), (shape,))


def _sampled(shape: tuple[int, ...], grid: tuple[int, ...], *args: Any) -> Case:
    return Case(lambda nn, x, places: nn.grid_sample(x, places, *args), (shape, grid))


def _unpooled(dims: int, shape: tuple[int, ...], *sizes: Any) -> Case:
    def call(nn: Any, x: Any) -> Any:
        pooled, indices = getattr(nn, f"max_pool{dims}d")(x, *sizes, return_indices=True)
        unpool = getattr(nn, f"max_unpool{dims}d")
        return unpool(pooled, indices, *sizes, output_size=x.shape) + indices.sum() / 64

    return Case(call, (shape,))


CASES: dict[str, Case] = {
    "nearest": _interpolated(LINE, 7),
    "nearest by a factor": _interpolated(IMAGE, None, (2.0, 0.7)),
    "nearest of volumes": _interpolated(VOLUME, (3, 2, 4)),
    "nearest-exact": _interpolated(IMAGE, (2, 7), mode="nearest-exact"),
    "linear": _interpolated(LINE, 3, mode="linear"),
    "linear by a factor": _interpolated(LINE, None, 1.7, "linear", None),
    "linear by a factor of sizes": _interpolated(LINE, None, 1.7, "linear", None, True),
    "bilinear": _interpolated(IMAGE, (4, 3), mode="bilinear"),
    "bilinear at corners": _interpolated(IMAGE, (1, 9), mode="bilinear", align_corners=True),
    "trilinear": _interpolated(VOLUME, (3, 2, 7), mode="trilinear"),
    "bicubic": _interpolated(IMAGE, (5, 4), mode="bicubic"),
    "bicubic at corners": _interpolated(IMAGE, None, 2, "bicubic", True),
    "area": _interpolated(IMAGE, (2, 4), mode="area"),
    "grid of images": Case(lambda nn, a: nn.affine_grid(a, [2, 1, 3, 2], False), ((2, 2, 3),)),
    "grid of corners": Case(lambda nn, a: nn.affine_grid(a, [1, 1, 1, 4], True), ((1, 2, 3),)),
    "grid of volumes": Case(lambda nn, a: nn.affine_grid(a, [1, 3, 2, 3, 2], False), ((1, 3, 4),)),
    **{
        f"sampled {mode} {padding} {corners}": _sampled(shape, grid, mode, padding, corners)
        for padding in ("zeros", "border", "reflection")
        for corners in (False, True)
        for mode, shape, grid in (
            ("bilinear", IMAGE, PLACES),
            ("nearest", IMAGE, PLACES),
            ("bicubic", IMAGE, PLACES),
            ("bilinear", VOLUME, POINTS),
        )
    },
    "unpooled": _unpooled(1, LINE, 2, 2),
    "unpooled padding": _unpooled(2, (2, 1, 4, 5), 2, 2, 1),
    "unpooled volumes": _unpooled(3, (1, 1, 2, 4, 2), 2, 2),
}


def reference(case: Case) -> dict[str, Any]:
    """The results of PyTorch, by name."""
    import torch

    inputs = [torch.tensor(x, requires_grad=True) for x in case.inputs()]
    y = case.call(torch.nn.functional, *inputs)
    y.backward(torch.tensor(cotangent(tuple(y.shape))))
    gradients = {f"gradient {i}": x.grad.numpy() for i, x in enumerate(inputs)}
    return {"output": y.detach().numpy()} | gradients


def cotangent(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(1).normal(size=shape)


def stored() -> dict[str, dict[str, Any]]:
    """The results of every case, as they were kept."""
    cases: dict[str, dict[str, Any]] = {name: {} for name in CASES}
    with np.load(STORED) as kept:
        for name, array in kept.items():
            case, result = name.split(": ")
            cases[case][result] = array
    return cases


if __name__ == "__main__":
    results = {
        f"{name}: {result}": array
        for name, case in CASES.items()
        for result, array in reference(case).items()
    }
    np.savez_compressed(STORED, **results)
