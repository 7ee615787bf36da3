"""What PyTorch's layers compute, for comparison: `python -m tests.layer_references` stores it.

A case builds one network from either library's `nn`, for an input of a shape, or of integers below
a bound. The results are the state before and after a training step, outputs in training and in
use, and gradients, all of them float64.
"""

import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STORED = Path(__file__).parent / "data" / "layers.npz"


class Case(NamedTuple):
    build: Callable[[Any], Any]
    shape: tuple[int, ...]
    below: int | None = None

    def input(self, seed: int = 0) -> Any:
        rng = np.random.default_rng(seed)
        return (
            rng.normal(size=self.shape)
            if self.below is None
            else rng.integers(self.below, size=self.shape)
        )


def conv_net(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


CASES: dict[str, Case] = {
    "Linear": Case(lambda nn: nn.Linear(3, 2), (4, 3)),
    "Linear without bias": Case(lambda nn: nn.Linear(3, 2, bias=False), (2, 2, 3)),
    "Conv1d": Case(lambda nn: nn.Conv1d(2, 3, 3), (2, 2, 6)),
    "Conv1d options": Case(lambda nn: nn.Conv1d(2, 4, 2, 2, 1, 2, 2, False), (2, 2, 7)),
    "Conv1d same": Case(lambda nn: nn.Conv1d(1, 2, 4, padding="same"), (1, 1, 6)),
    "Conv2d": Case(lambda nn: nn.Conv2d(2, 3, 3), (2, 2, 4, 5)),
    "Conv2d wide": Case(lambda nn: nn.Conv2d(1, 2, 2), (2, 1, 3, 9)),
    "Conv2d of one sample": Case(lambda nn: nn.Conv2d(2, 1, (1, 3), padding="valid"), (2, 2, 4)),
    "Conv2d options": Case(lambda nn: nn.Conv2d(2, 4, (3, 2), (2, 1), (1, 2), 2, 2), (1, 2, 6, 5)),
    "Conv2d same": Case(lambda nn: nn.Conv2d(1, 1, (2, 3), padding="same"), (1, 1, 4, 4)),
    "Conv2d grouped": Case(lambda nn: nn.Conv2d(4, 6, 3, 1, 1, 1, 2), (2, 4, 4, 3)),
    "Conv2d depthwise": Case(lambda nn: nn.Conv2d(3, 6, 3, 2, 1, 1, 3), (2, 3, 5, 4)),
    "Conv2d with too much padding": Case(lambda nn: nn.Conv2d(1, 2, 2, 1, 3), (1, 1, 2, 2)),
    "Conv2d reflect": Case(
        lambda nn: nn.Conv2d(1, 2, 3, padding=(2, 1), padding_mode="reflect"), (1, 1, 4, 4)
    ),
    "Conv2d replicate": Case(
        lambda nn: nn.Conv2d(1, 2, (2, 3), padding="same", padding_mode="replicate"), (1, 1, 3, 4)
    ),
    "Conv1d circular": Case(
        lambda nn: nn.Conv1d(1, 2, 3, padding=2, padding_mode="circular"), (2, 1, 4)
    ),
    "Conv3d": Case(
        lambda nn: nn.Conv3d(2, 4, (1, 2, 3), (1, 2, 1), (0, 1, 2), (1, 1, 2), 2), (1, 2, 2, 3, 4)
    ),
    "ConvTranspose1d": Case(lambda nn: nn.ConvTranspose1d(2, 3, 3, 2, 1, 1), (2, 2, 4)),
    "ConvTranspose1d of one sample": Case(
        lambda nn: nn.ConvTranspose1d(2, 3, 3, padding=3), (2, 6)
    ),
    "ConvTranspose2d": Case(lambda nn: nn.ConvTranspose2d(2, 3, 3), (2, 2, 3, 2)),
    "ConvTranspose2d options": Case(
        lambda nn: nn.ConvTranspose2d(4, 6, (3, 2), (2, 1), (0, 1), (1, 1), 2, False, (1, 2)),
        (1, 4, 3, 4)
    ),
    "ConvTranspose3d": Case(lambda nn: nn.ConvTranspose3d(1, 2, (1, 2, 3), 2), (1, 1, 2, 1, 2)),
    "ZeroPad2d": Case(lambda nn: nn.ZeroPad2d((1, 2, 0, -1)), (2, 1, 3, 2)),
    "ConstantPad1d": Case(lambda nn: nn.ConstantPad1d(2, -1.5), (2, 3)),
    "ConstantPad3d": Case(lambda nn: nn.ConstantPad3d((0, 1, 2, 0, 1, 1), 0.5), (1, 2, 1, 2, 2)),
    "ReflectionPad2d": Case(lambda nn: nn.ReflectionPad2d((2, 1, 0, 1)), (1, 2, 3, 3)),
    "ReplicationPad3d": Case(lambda nn: nn.ReplicationPad3d((2, 1, 0, 1, 1, 0)), (1, 1, 2, 2, 2)),
    "CircularPad1d": Case(lambda nn: nn.CircularPad1d((1, 3)), (2, 2, 3)),
    "Unfold": Case(lambda nn: nn.Unfold((2, 3), (2, 1), (1, 0), (1, 2)), (2, 2, 3, 5)),
    "Fold": Case(lambda nn: nn.Fold((3, 5), (2, 3), (2, 1), (1, 0), (1, 2)), (2, 12, 6)),
    "PixelShuffle": Case(lambda nn: nn.PixelShuffle(2), (2, 8, 2, 3)),
    "PixelUnshuffle": Case(lambda nn: nn.PixelUnshuffle(3), (1, 2, 3, 6)),
    "ChannelShuffle": Case(lambda nn: nn.ChannelShuffle(3), (2, 6, 2)),
    "MaxPool1d": Case(lambda nn: nn.MaxPool1d(2), (2, 1, 5)),
    "MaxPool2d": Case(lambda nn: nn.MaxPool2d(2), (2, 2, 4, 5)),
    "MaxPool2d overlapping": Case(lambda nn: nn.MaxPool2d(3, 1, 1), (1, 2, 4, 3)),
    "MaxPool2d ceil": Case(lambda nn: nn.MaxPool2d(2, 3, 1, (1, 2), ceil_mode=True), (1, 1, 6, 7)),
    "AvgPool1d": Case(lambda nn: nn.AvgPool1d(3, 2, 1), (1, 2, 6)),
    "AvgPool2d": Case(lambda nn: nn.AvgPool2d(2), (2, 2, 4, 5)),
    "AvgPool2d ceil": Case(lambda nn: nn.AvgPool2d(3, 2, 1, True), (1, 1, 6, 7)),
    "AvgPool2d not padding": Case(lambda nn: nn.AvgPool2d(3, 2, 1, True, False), (1, 1, 6, 7)),
    "AdaptiveAvgPool1d": Case(lambda nn: nn.AdaptiveAvgPool1d(3), (2, 1, 7)),
    "AdaptiveAvgPool2d": Case(lambda nn: nn.AdaptiveAvgPool2d((2, None)), (1, 2, 3, 2)),
    "MaxPool3d": Case(lambda nn: nn.MaxPool3d((1, 2, 2), 1, (0, 1, 0)), (1, 2, 2, 3, 3)),
    "MaxPool2d positional": Case(lambda nn: nn.MaxPool2d(2, 2, 1, 1, False, True), (1, 1, 4, 5)),
    "AvgPool3d": Case(lambda nn: nn.AvgPool3d(2, 1, 1, False, False), (1, 1, 2, 3, 2)),
    "LPPool1d": Case(lambda nn: nn.LPPool1d(2, 3, 2, True), (2, 2, 6)),
    "LPPool2d": Case(lambda nn: nn.LPPool2d(4.0, (2, 1)), (2, 1, 4, 3)),
    "LPPool3d": Case(lambda nn: nn.LPPool3d(2, 2), (1, 1, 2, 2, 4)),
    "AdaptiveAvgPool3d": Case(lambda nn: nn.AdaptiveAvgPool3d((1, 2, None)), (1, 2, 2, 3, 2)),
    "AdaptiveMaxPool1d": Case(lambda nn: nn.AdaptiveMaxPool1d(3), (2, 1, 7)),
    "AdaptiveMaxPool2d": Case(lambda nn: nn.AdaptiveMaxPool2d((2, None)), (1, 2, 3, 2)),
    "AdaptiveMaxPool3d": Case(lambda nn: nn.AdaptiveMaxPool3d((2, 1, 3)), (1, 1, 3, 2, 4)),
    "Upsample": Case(lambda nn: nn.Upsample((2, 7)), (1, 2, 3, 4)),
    "UpsamplingNearest2d": Case(lambda nn: nn.UpsamplingNearest2d(scale_factor=2), (1, 1, 2, 3)),
    "UpsamplingBilinear2d": Case(lambda nn: nn.UpsamplingBilinear2d((3, 5)), (2, 1, 2, 3)),
    "BatchNorm1d": Case(lambda nn: nn.BatchNorm1d(3), (5, 3)),
    "BatchNorm1d length": Case(lambda nn: nn.BatchNorm1d(2, 1e-3, 0.3), (3, 2, 4)),
    "BatchNorm1d mean of batches": Case(lambda nn: nn.BatchNorm1d(2, momentum=None), (4, 2)),
    "BatchNorm2d": Case(lambda nn: nn.BatchNorm2d(2), (2, 2, 3, 2)),
    "BatchNorm2d not affine": Case(lambda nn: nn.BatchNorm2d(2, affine=False), (2, 2, 2, 2)),
    "BatchNorm2d not tracking": Case(
        lambda nn: nn.BatchNorm2d(2, 0.1, 0.1, True, False), (2, 2, 2, 2)
    ),
    "LayerNorm": Case(lambda nn: nn.LayerNorm(4), (2, 3, 4)),
    "LayerNorm of matrices": Case(lambda nn: nn.LayerNorm((2, 3), bias=False), (2, 2, 3)),
    "LayerNorm not affine": Case(lambda nn: nn.LayerNorm(3, 0.1, False), (2, 3)),
    "Embedding": Case(lambda nn: nn.Embedding(5, 2), (3, 4), 5),
    "Embedding with padding": Case(lambda nn: nn.Embedding(4, 2, -1), (3, 3), 4),
    "EmbeddingBag": Case(lambda nn: nn.EmbeddingBag(5, 2), (3, 4), 5),
    "EmbeddingBag sums": Case(
        lambda nn: nn.EmbeddingBag(5, 2, mode="sum", padding_idx=1), (3, 4), 5
    ),
    "EmbeddingBag maxima": Case(lambda nn: nn.EmbeddingBag(9, 2, mode="max"), (2, 3), 9),
    "GroupNorm": Case(lambda nn: nn.GroupNorm(2, 4), (2, 4, 3)),
    "GroupNorm not affine": Case(lambda nn: nn.GroupNorm(3, 3, 0.1, False), (2, 3)),
    "InstanceNorm1d": Case(lambda nn: nn.InstanceNorm1d(2), (2, 2, 4)),
    "InstanceNorm2d": Case(lambda nn: nn.InstanceNorm2d(2, 1e-3, 0.3, True, True), (3, 2, 2, 3)),
    "InstanceNorm3d": Case(lambda nn: nn.InstanceNorm3d(1, affine=True), (2, 1, 2, 1, 2)),
    "RMSNorm": Case(lambda nn: nn.RMSNorm(4), (2, 3, 4)),
    "RMSNorm of matrices": Case(lambda nn: nn.RMSNorm((2, 3), 0.1, False), (2, 2, 3)),
    "LocalResponseNorm": Case(lambda nn: nn.LocalResponseNorm(3, 0.5, 0.75, 2.0), (2, 4, 3)),
    "LocalResponseNorm even": Case(lambda nn: nn.LocalResponseNorm(2, 1.0), (1, 3, 2, 2)),
    "BatchNorm3d": Case(lambda nn: nn.BatchNorm3d(2), (2, 2, 2, 1, 3)),
    "PReLU": Case(lambda nn: nn.PReLU(), (3, 4)),
    "PReLU of channels": Case(lambda nn: nn.PReLU(3, 0.5), (2, 3, 4)),
    "GLU": Case(lambda nn: nn.GLU(1), (2, 4, 3)),
    "Hardshrink": Case(lambda nn: nn.Hardshrink(0.75), (4, 5)),
    "Softshrink": Case(lambda nn: nn.Softshrink(0.25), (4, 5)),
    "Softmin": Case(lambda nn: nn.Softmin(0), (4, 3)),
    "Softmax2d": Case(lambda nn: nn.Softmax2d(), (2, 3, 2, 2)),
    "Threshold": Case(lambda nn: nn.Threshold(0.25, -3.0), (4, 5)),
    "convolutional network": Case(conv_net, (3, 1, 4, 4)),
}  # fmt: skip


def reference(case: Case) -> dict[str, Any]:
    """The results of PyTorch, by name."""
    import torch

    torch.manual_seed(0)
    network = case.build(torch.nn).double()
    with torch.no_grad():  # weights of 1 and biases of 0 would hide mistakes
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    x = torch.tensor(case.input(), requires_grad=case.below is None)
    results = {f"before {name}": a.numpy().copy() for name, a in network.state_dict().items()}
    y = network(x)
    y.backward(torch.tensor(cotangent(y.shape)))
    results["output"] = y.detach().numpy()
    if case.below is None:
        results["gradient"] = x.grad.numpy()
    results |= {f"gradient {name}": p.grad.numpy() for name, p in network.named_parameters()}
    results |= {f"after {name}": a.numpy() for name, a in network.named_buffers()}
    results["output in use"] = network.eval()(torch.tensor(case.input(1))).detach().numpy()
    return results


def cotangent(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(2).normal(size=shape)


def store() -> None:
    """Keep the results of every case: all numbers in one array, whose parts have names, shapes."""
    results = {
        (name, result): array
        for name, case in CASES.items()
        for result, array in reference(case).items()
    }
    np.savez_compressed(
        STORED,
        names=np.array(list(results)),
        shapes=np.array([str(array.shape) for array in results.values()]),
        numbers=np.concatenate([array.ravel() for array in results.values()]),
    )


def stored() -> dict[str, dict[str, Any]]:
    """The results of every case, as they were kept."""
    cases: dict[str, dict[str, Any]] = {name: {} for name in CASES}
    start = 0
    with np.load(STORED) as kept:
        numbers = kept["numbers"]
        for (name, result), shape in zip(kept["names"], kept["shapes"], strict=True):
            sizes = ast.literal_eval(str(shape))
            end = start + math.prod(sizes)
            dtype = np.int64 if result.endswith("num_batches_tracked") else np.float64
            cases[str(name)][str(result)] = numbers[start:end].reshape(sizes).astype(dtype)
            start = end
    return cases


if __name__ == "__main__":
    store()
