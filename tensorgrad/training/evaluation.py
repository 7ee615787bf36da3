"""Losses and metrics of a model over batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from .. import tree
from ..compiler import Stacked
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..nn import Module
from .metrics import ExactMetric, as_array
from .ranks import Ranks

Metric: TypeAlias = Callable[[Any, Any], Any]
Metrics: TypeAlias = Mapping[str, Metric] | Sequence[Metric]


def evaluate(
    model: Module, loss: Metric, data: Iterable[Any], metrics: Metrics = (), comm: Any = None
) -> dict[str, float]:
    """Return the mean loss and metrics over batches, by name.

    Each batch is weighted by its number of samples. The model is in evaluation mode meanwhile, and
    nothing is recorded; afterwards each part of the model is in its earlier mode. The arguments are
    those of `fit`: with `comm`, each rank evaluates its share, and gets the results of all.

    >>> x, y = tg.data.moons(100, rng=0)
    >>> model = tg.MLP(2, [2], output_activation="linear", rng=0)
    >>> list(tg.training.evaluate(model, tg.nn.cross_entropy, [(x, y)], [tg.training.accuracy]))
    ['loss', 'accuracy']
    """
    require_functions("evaluate", model, loss)
    named = by_name("evaluate", metrics)
    ranks = Ranks("evaluate", comm)
    ranks.require_alike(metrics=[*named])
    batches = ranks.share_to_evaluate(data)
    return validate("evaluate", model, loss, batches, named, "", ranks)


# -- checks of arguments


def by_name(caller: str, metrics: Metrics) -> dict[str, Metric]:
    """The metrics by name; raise an error for names or values that cannot be used."""
    if isinstance(metrics, Mapping):
        named = [*metrics.items()]
    else:
        if not isinstance(metrics, Sequence):
            raise TypeError(f"{caller}: metrics must be a list of functions, or a dict by name")
        named = [(getattr(metric, "__name__", repr(metric)), metric) for metric in metrics]
    columns = dict(named)
    if len(columns) < len(named):
        raise ValueError(
            f"{caller}: two metrics have one name, of {[name for name, _ in named]}: pass a dict "
            "with different names"
        )
    for name, metric in named:
        if name == "loss" or name.startswith("val_"):
            raise ValueError(
                f'{caller}: a metric cannot be named {name!r}: "loss" and "val_..." are taken'
            )
        if not callable(metric):
            raise TypeError(
                f"{caller}: metric {metric!r} is not a function of prediction and target"
            )
    return columns


def require_functions(caller: str, model: Any, loss: Any) -> None:
    """Raise a TypeError unless these are a module and a function of its output."""
    if not isinstance(model, Module):
        raise TypeError(f"{caller}: the model must be a tg.nn.Module, not {_described(model)}")
    if not callable(loss):
        raise TypeError(
            f"{caller}: the loss must be a function of prediction and target, such as "
            f"tg.nn.mse_loss, not {_described(loss)}; pass arrays x and y as batches: "
            f"{caller}(model, tg.nn.mse_loss, tg.data.batches((x, y), 32))"
        )


def _described(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


# -- evaluation


@contextmanager
def modes_kept(model: Module) -> Iterator[None]:
    """Put each part of a model back into training or evaluation mode at the end of the block."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate_batch(caller: str, model: Module, loss: Metric, batch: Any) -> tuple[Any, Any]:
    """Return the model's output for a batch, and the loss."""
    parts = len(batch) if isinstance(batch, (tuple, list)) else None
    if parts is None or parts < 2:
        kind = type(batch).__name__ + ("" if parts is None else f" of length {parts}")
        raise TypeError(
            f"{caller}: a batch must be a tuple of one or more inputs and a target, not {kind}: "
            "make batches by tg.data.batches((x, y), batch_size)"
        )
    *inputs, target = batch
    output = model(*inputs)
    value = loss(output, target)
    if value is None:
        raise TypeError(f"{caller}: the loss function returned None: it must return the loss")
    if np.size(value) != 1:
        raise ValueError(f"{caller}: the loss must be one number, not of shape {np.shape(value)}")
    return output, value


def validate(
    caller: str,
    model: Module,
    loss: Metric,
    data: Iterable[Any],
    metrics: Mapping[str, Metric],
    prefix: str,
    ranks: Ranks,
) -> dict[str, float]:
    """Return the mean loss and metrics over the batches of all ranks, by `prefix` and name."""
    means = Means(caller, metrics)
    with modes_kept(model), no_grad():
        model.eval()
        for batch in data:
            output, value = evaluate_batch(caller, model, loss, batch)
            means.add(value, output, batch)
    means.merge(ranks)
    return means.row(prefix)


class Means:
    """The means of the loss and metrics over batches, each weighted by its number of samples.

    Of an `ExactMetric`, the sum is the state after the batches so far.
    """

    def __init__(self, caller: str, metrics: Mapping[str, Metric]) -> None:
        self._caller = caller
        self._metrics = metrics
        self.clear()

    def clear(self) -> None:
        """Start a new epoch."""
        exact = [name for name, m in self._metrics.items() if isinstance(m, ExactMetric)]
        self._sums: dict[str, Any] = dict.fromkeys(("loss", *self._metrics), 0.0)
        self._sums |= dict.fromkeys(exact)  # None, until there is a batch
        self._count = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the sums so far."""
        return {"sums": {**self._sums}, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self._sums, self._count = {**state["sums"]}, state["count"]

    def add(self, loss: Any, output: Any, batch: Any) -> None:
        """Add a batch, with the loss and the model's output for it."""
        n = samples_of(batch)
        sums: dict[str, Any] = {"loss": n * as_array(loss).item()}
        if self._metrics:
            output = tree.map(lambda y: y.detach() if isinstance(y, Tensor) else y, output)
            for name, metric in self._metrics.items():
                if isinstance(metric, ExactMetric):
                    sums[name] = metric.state(as_array(output), as_array(batch[-1]))
                else:
                    sums[name] = n * float(metric(output, batch[-1]))
        self._add(sums, n)

    def _add(self, sums: Mapping[str, Any], count: int) -> None:
        for name, value in sums.items():
            metric = self._metrics.get(name)
            if not isinstance(metric, ExactMetric):
                self._sums[name] += value
            else:
                self._sums[name] = metric.merge(self._sums[name], value) if self._count else value
        self._count += count

    def merge(self, ranks: Ranks) -> None:
        """Take over the sums of all ranks."""
        if ranks.are_many:
            states = ranks.gather(self.state_dict())
            self.clear()
            for state in states:
                if state["count"]:
                    self._add(state["sums"], state["count"])

    def move_to_first(self, ranks: Ranks) -> None:
        """Let the first rank have the sums of all ranks, as in a checkpoint."""
        self.merge(ranks)
        if not ranks.is_first:
            self.clear()

    def add_stack(self, results: Stacked, stack: Sequence[Any], taken: range) -> None:
        """Add some batches of a stack, with the results of their steps: losses and outputs."""
        if self._metrics:
            for i in taken:
                value, output = results.item(i)
                self.add(value, output, [a[i] for a in stack])
        elif taken:
            losses = results.arrays[0][taken.start : taken.stop].ravel().tolist()
            n = samples_of([a[taken.start] for a in stack])
            self._count += n * len(losses)
            for loss in losses:
                self._sums["loss"] += n * loss

    def row(self, prefix: str = "") -> dict[str, float]:
        """Return the means so far, by name."""
        if not self._count:
            raise ValueError(
                f"{self._caller}: no samples in the data; it must be iterable more than once, like "
                "a list or tg.data.batches: a generator can be used only once"
            )
        return {prefix + name: self._mean(name, total) for name, total in self._sums.items()}

    def _mean(self, name: str, total: Any) -> float:
        metric = self._metrics.get(name)
        if isinstance(metric, ExactMetric):
            return float(metric.value(total))
        return float(total / self._count)


def samples_of(batch: Any) -> int:
    """The number of samples of a batch."""
    first = batch[0]
    return len(first) if hasattr(first, "__len__") and getattr(first, "shape", None) != () else 1
