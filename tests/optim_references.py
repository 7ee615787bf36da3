"""Trajectories of optimizers and schedules, of tensorgrad or of PyTorch, whose names are the same.

`python -m tests.optim_references`, where PyTorch is installed, stores PyTorch's in tests/data.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STORED = Path(__file__).parent / "data" / "optim.npz"


class Library(NamedTuple):
    """A library: its optimizers and schedules, and what makes a parameter, and a gradient."""

    optim: Any
    schedules: Any
    parameter: Callable[[Any], Any]
    gradient: Callable[[Any], Any]


def pytorch() -> Library:
    import torch

    def parameter(array: Any) -> Any:
        return torch.tensor(array, requires_grad=True)

    return Library(torch.optim, torch.optim.lr_scheduler, parameter, torch.as_tensor)


# -- optimizers


def _combinations(**choices: Any) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*([False, value] for value in choices.values())):
        yield {name: value for name, value in zip(choices, values) if value}


def _cases() -> Iterator[tuple[str, dict[str, Any]]]:
    for options in _combinations(
        momentum=0.9, dampening=0.3, nesterov=True, weight_decay=0.1, maximize=True
    ):
        plain = "momentum" not in options
        if not ((plain or "dampening" in options) and "nesterov" in options):
            yield "SGD", {"lr": 0.05, **options}
    yield "SGD", {}
    for name in ("Adam", "AdamW"):
        for options in _combinations(weight_decay=0.1, amsgrad=True, maximize=True):
            yield name, {"lr": 0.05, **options}
        yield name, {"betas": (0.5, 0.75), "eps": 0.01}
        yield name, {}
    for options in _combinations(weight_decay=0.1, momentum=0.9, centered=True, maximize=True):
        yield "RMSprop", options
    yield "RMSprop", {"lr": 0.05, "alpha": 0.5, "eps": 0.01}
    for options in _combinations(
        lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.5, maximize=True
    ):
        yield "Adagrad", {"lr": 0.1, **options}
    yield "Adagrad", {"eps": 0.01}


def title(name: str, options: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"


CASES = {title(*case): case for case in _cases()}
SHAPES = [(3, 2), (2,), ()]
STEPS = 100
KEPT = [0, 29, 99]  # of which steps the results are stored


def trajectory(library: Library, name: str, options: dict[str, Any], seed: int = 0) -> Any:
    """All parameters after each step, shape (STEPS, number of them).

    The last one is in a group with twice the learning rate; the second has no gradient in every
    seventh step; and all rates change on the way.
    """
    rng = np.random.default_rng(seed)
    parameters = [library.parameter(rng.normal(size=shape)) for shape in SHAPES]
    groups = [{"params": parameters[:2]}, {"params": parameters[2:]}]
    if "lr" in options:
        groups[1]["lr"] = 2 * options["lr"]
    optimizer = getattr(library.optim, name)(groups, **options)
    results = []
    for t in range(STEPS):
        for i, p in enumerate(parameters):
            g = np.tanh(3 * p.detach().numpy()) + rng.normal(size=SHAPES[i])
            p.grad = None if i == 1 and t % 7 == 3 else library.gradient(g)
        if t == 50:
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
        optimizer.step()
        results.append(np.concatenate([p.detach().numpy().ravel() for p in parameters]))
    return np.array(results)


# -- schedules: of each, what makes it

SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda s, o: s.StepLR(o, 7),
    "step of 1": lambda s, o: s.StepLR(o, step_size=1, gamma=0.9),
    "several": lambda s, o: s.MultiStepLR(o, [3, 20, 20, 31], gamma=0.5),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 15),
    "cosine to": lambda s, o: s.CosineAnnealingLR(o, T_max=40, eta_min=0.01),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7),
    "longer and longer": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, T_mult=2, eta_min=0.01),
    "warm-up": lambda s, o: s.LinearLR(o),
    "warm-up of 20": lambda s, o: s.LinearLR(o, 0.01, 0.5, 20),
    "lambda": lambda s, o: s.LambdaLR(o, lambda t: 1 / (1 + t)),
    "lambdas": lambda s, o: s.LambdaLR(o, [lambda t: 0.95**t, lambda t: 1 / (1 + t) ** 0.5]),
    "one cycle": lambda s, o: s.OneCycleLR(o, 1.0, total_steps=41),
    "one cycle of three phases": lambda s, o: s.OneCycleLR(
        o, [0.5, 2.0], epochs=5, steps_per_epoch=10, pct_start=0.4, three_phase=True
    ),
    "one linear cycle": lambda s, o: s.OneCycleLR(
        o, 1.0, 60, None, None, 0.2, "linear", True, 0.8, 0.9, 10.0, 100.0
    ),
    "one cycle, momentum as it is": lambda s, o: s.OneCycleLR(o, 1.0, 41, cycle_momentum=False),
    "warm-up, then cosine": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, 1.0, 10), s.CosineAnnealingLR(o, 30)], [10]
    ),
    "three in sequence": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o), s.ExponentialLR(o, 0.8), s.StepLR(o, 3, 0.5)], milestones=[5, 20]
    ),
    "plateau": lambda s, o: s.ReduceLROnPlateau(o, patience=2),
    "plateau of a maximum": lambda s, o: s.ReduceLROnPlateau(
        o, "max", 0.5, 1, threshold=0.05, threshold_mode="abs", cooldown=3, min_lr=0.01
    ),
    "plateau of a relative maximum": lambda s, o: s.ReduceLROnPlateau(
        o, "max", 0.5, 1, threshold=0.05, min_lr=[0.01, 0.02], eps=0.002
    ),
}
EPOCHS = 40


def rates(library: Library, make: Callable[[Any, Any], Any], name: str = "SGD") -> Any:
    """The rates of two groups, and their momentum, at the start and after each step."""
    rng = np.random.default_rng(0)
    groups = [
        {"params": [library.parameter(np.zeros(2))]},
        {"params": [library.parameter(np.zeros(3))], "lr": 0.25},
    ]
    options = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(library.optim, name)(groups, lr=0.1, **options)
    schedule = make(library.schedules, optimizer)
    takes_metric = type(schedule).__name__ == "ReduceLROnPlateau"

    def now() -> list[float]:
        return [
            number
            for group in optimizer.param_groups
            for number in (group["lr"], group.get("momentum", group.get("betas", [0])[0]))
        ]

    results = [now()]
    for t in range(EPOCHS):
        optimizer.step()
        schedule.step(*([np.exp(-t / 5) + 0.1 * rng.uniform()] if takes_metric else []))
        results.append(now())
        assert schedule.get_last_lr() == results[-1][::2]
    return np.array(results)


def main() -> None:
    library = pytorch()
    STORED.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        STORED,
        cases=[*CASES],
        trajectories=[trajectory(library, *case)[KEPT] for case in CASES.values()],
        schedules=[*SCHEDULES],
        rates=[rates(library, make) for make in SCHEDULES.values()],
    )


if __name__ == "__main__":
    main()
