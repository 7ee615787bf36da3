"""Outputs and gradients of recurrent layers and attention, in tensorgrad or in PyTorch.

`python -m tests.sequence_references`, where PyTorch is installed, stores PyTorch's in tests/data.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SEEDS = (0, 1)
STORED = Path(__file__).parent / "data" / "sequences.npz"


class Library(NamedTuple):
    """A library: modules, dtype, and what makes a constant and a leaf that requires grad."""

    nn: Any
    float64: Any
    constant: Callable[[Any], Any]
    leaf: Callable[[Any], Any]


def pytorch() -> Library:
    import torch

    def leaf(array: Any) -> Any:
        return torch.tensor(array, requires_grad=True)

    return Library(torch.nn, torch.float64, torch.tensor, leaf)


class Case(NamedTuple):
    """A module, the shapes of its inputs (a tuple of inputs where it takes one), and constants."""

    kind: str
    sizes: tuple[int, ...]
    options: dict[str, Any]
    inputs: tuple[Any, ...]
    constants: dict[str, Any] = {}  # noqa: RUF012 (never written to)


PADDED = np.array([[False, False, True], [False, False, False]])
LATER = np.triu(np.full((3, 3), True), 1)
NUDGES = np.linspace(-1, 1, 6).reshape(2, 3)
TWO_WAYS = {"num_layers": 2, "bidirectional": True}
BLOCK = {"dim_feedforward": 3, "dropout": 0.0}

CASES = {
    "RNN": Case("RNN", (2, 3), {}, ((4, 2, 2),)),
    "RNN, relu, both ways": Case(
        "RNN", (2, 2), {"nonlinearity": "relu", **TWO_WAYS}, ((3, 2, 2), (4, 2, 2))
    ),
    "GRU": Case("GRU", (2, 3), {}, ((4, 2, 2), (1, 2, 3))),
    "GRU, both ways": Case("GRU", (2, 2), TWO_WAYS | {"batch_first": True}, ((2, 3, 2),)),
    "LSTM": Case("LSTM", (2, 3), {}, ((4, 2, 2), ((1, 2, 3), (1, 2, 3)))),
    "LSTM, both ways, no bias": Case("LSTM", (2, 2), TWO_WAYS | {"bias": False}, ((3, 2),)),
    "RNNCell": Case("RNNCell", (2, 3), {}, ((2, 2), (2, 3))),
    "GRUCell": Case("GRUCell", (2, 3), {}, ((2,), (3,))),
    "LSTMCell": Case("LSTMCell", (2, 3), {}, ((2, 2), ((2, 3), (2, 3)))),
    "MultiheadAttention": Case(
        "MultiheadAttention",
        (4, 2),
        {},
        ((2, 2, 4), (3, 2, 4), (3, 2, 4)),
        {"key_padding_mask": PADDED},
    ),
    "MultiheadAttention, kdim, vdim": Case(
        "MultiheadAttention",
        (4, 2),
        {"kdim": 3, "vdim": 2, "batch_first": True},
        ((2, 2, 4), (2, 3, 3), (2, 3, 2)),
        {"attn_mask": NUDGES, "average_attn_weights": False},
    ),
    "TransformerEncoderLayer": Case(
        "TransformerEncoderLayer", (4, 2), BLOCK, ((3, 2, 4),), {"src_mask": LATER}
    ),
    "TransformerEncoderLayer, norm first": Case(
        "TransformerEncoderLayer",
        (2, 1),
        BLOCK | {"norm_first": True, "batch_first": True},
        ((2, 3, 2),),
        {"src_key_padding_mask": PADDED},
    ),
}

CASES |= {
    f"TransformerDecoderLayer{title}": Case(
        "TransformerDecoderLayer",
        (4, 2),
        BLOCK | options,
        ((3, 2, 4), (4, 2, 4)),
        {"tgt_mask": LATER, "memory_key_padding_mask": np.pad(PADDED, [(0, 0), (1, 0)])},
    )
    for title, options in {"": {}, ", norm first": {"norm_first": True, "bias": False}}.items()
}
CASES["Transformer"] = Case(
    "Transformer",
    (4, 2, 2, 1),
    BLOCK | {"batch_first": True, "activation": "gelu"},
    ((2, 3, 4), (2, 2, 4)),
    {"src_key_padding_mask": PADDED, "memory_key_padding_mask": PADDED, "tgt_mask": LATER[:2, :2]},
)


def results(library: Library, case: Case, seed: int) -> Any:
    """The outputs, and the gradients of their weighted sum by the inputs and by all parameters.

    The elements of all of them are in one array.
    """
    rng = np.random.default_rng(seed)
    module = getattr(library.nn, case.kind)(*case.sizes, **case.options, dtype=library.float64)
    shapes = {name: tuple(array.shape) for name, array in module.state_dict().items()}
    module.load_state_dict({k: library.constant(rng.normal(size=s)) for k, s in shapes.items()})
    leaves: list[Any] = []

    def drawn(shape: Any) -> Any:
        if isinstance(shape[0], tuple):
            return tuple(map(drawn, shape))
        leaves.append(library.leaf(rng.normal(size=shape)))
        return leaves[-1]

    masks = {
        name: library.constant(value) if isinstance(value, np.ndarray) else value
        for name, value in case.constants.items()
    }
    outputs = _flat(module(*map(drawn, case.inputs), **masks))
    weights = [library.constant(rng.normal(size=tuple(y.shape))) for y in outputs]
    sum([(w * y).sum() for w, y in zip(weights, outputs, strict=True)]).backward()
    leaves += module.parameters()
    arrays = [y.detach().numpy() for y in outputs] + [np.asarray(x.grad) for x in leaves]
    return np.concatenate([a.reshape(-1) for a in arrays])


def _flat(outputs: Any) -> list[Any]:
    return [y for part in outputs for y in _flat(part)] if isinstance(outputs, tuple) else [outputs]


if __name__ == "__main__":
    library = pytorch()
    np.savez_compressed(
        STORED,
        **{
            f"{name} {seed}": results(library, CASES[name], seed)
            for name in CASES
            for seed in SEEDS
        },
    )
