"""Diagnostics: which operation made the first NaN, and what each operation costs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec

import numpy as np

from . import tree
from .engine.backward import saved
from .engine.batching import without_levels
from .engine.graph import Node
from .engine.modes import plain, set_mode
from .errors import AnomalyError
from .tables import Table

P = ParamSpec("P")


def detect_anomaly() -> set_mode:
    """Raise an AnomalyError where a NaN or an infinity first appears, forward or backward.

    The error names the operation and the line that called it. Use it in a `with` block, or as a
    decorator of a function. There, the results of every recorded operation and of every step of
    `backward()` are checked, which takes time.

    >>> x = tg.Tensor([0.0, 1.0], requires_grad=True)
    >>> try:
    ...     with tg.detect_anomaly(), np.errstate(divide="ignore"):
    ...         np.sum(np.sqrt(x)).backward()
    ... except tg.AnomalyError as error:
    ...     print(str(error)[:34], "...", str(error)[-44:])
    backward: the derivative of sqrt ( ... is inf at index (0,) for a finite cotangent
    """
    return set_mode(hooks=(_look_forward,), backward_hooks=(_look_backward,))


def _look_forward(node: Node, arrays: Sequence[Any]) -> None:
    inputs, results = arrays[: len(node.args)], arrays[len(node.args) :]
    for out in results:
        if not _finite(out) and all(map(_finite, inputs)):
            raise AnomalyError(f"forward: {node} returned {_first(out)} for finite arguments")


def _look_backward(node: Node, g: Any, share: Any) -> None:
    if not _finite(share) and all(map(_finite, g if isinstance(g, tuple) else (g,))):
        raise AnomalyError(
            f"backward: the derivative of {node} is {_first(share)} for a finite cotangent"
        )


def _finite(value: Any) -> bool:
    value = without_levels(plain(value))
    return getattr(value, "dtype", np.dtype(bool)).kind not in "fc" or bool(
        np.isfinite(value).all()
    )


def _first(array: Any) -> str:
    """The first element that is not finite, and its index."""
    array = plain(array)
    index = np.argwhere(~np.isfinite(array))[0]
    return f"{array[tuple(index)]} at index {tuple(index.tolist())}"


class Operation(NamedTuple):
    """One recorded operation: its seconds forward and backward, and the bytes that it saves.

    `place` is the line of the call, and `shape` the shape of the result.
    """

    name: str
    place: str
    shape: tuple[int, ...]
    forward: float
    backward: float
    bytes: int


class Profile(NamedTuple):
    """The report of `profile`: the function's result, and its operations in order."""

    result: Any
    operations: list[Operation]

    @property
    def table(self) -> Table:
        """The operations: microseconds, bytes, and the line of the call."""
        if not self.operations:
            text = "no operation was recorded: none was on a tensor with requires_grad=True"
            return Table([[text]], "<")
        rows: list[tuple[str, ...]] = [
            ("operation", "shape", "forward us", "backward us", "saved bytes", "called at")
        ]
        total = Operation(
            "total",
            "",
            (),
            *[sum(column) for column in zip(*(o[3:] for o in self.operations), strict=True)],
        )
        for o in [*self.operations, total]:
            times = [f"{seconds * 1e6:.1f}" for seconds in (o.forward, o.backward)]
            shape = str(o.shape) if o is not total else ""
            rows.append((o.name, shape, *times, f"{o.bytes:,}", o.place))
        return Table(rows, "<<>>><")

    def __str__(self) -> str:
        return str(self.table)

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def profile(f: Callable[P, Any], repeats: int = 5) -> Callable[P, Profile]:
    """Return a function that calls `f` and reports what each recorded operation costs.

    After the call, each operation and its derivative are run `repeats` times by themselves, and the
    shortest time counts. The bytes are those of the arrays that an operation saves for its
    derivative, without the arguments of `f` and leaves; an array that several operations save
    counts for the first of them. Operations are recorded for tensors that require grad: arguments
    of `f`, or tensors that it uses, such as parameters.

    >>> w = tg.Tensor(np.ones((3, 2)), requires_grad=True)
    >>> report = tg.profile(lambda x: np.sum(np.tanh(x @ w)))(np.ones((5, 3)))
    >>> [(o.name, o.shape, o.bytes) for o in report.operations]
    [('matmul', (5, 2), 0), ('tanh', (5, 2), 80), ('sum', (), 0)]
    """

    def profiled(*args: P.args, **kwargs: P.kwargs) -> Profile:
        nodes: list[Node] = []
        operands: list[Sequence[Any]] = []

        def note(node: Node, arrays: Sequence[Any]) -> None:
            nodes.append(copy.copy(node))  # a backward pass in `f` frees the node itself
            operands.append(arrays)

        with set_mode(hooks=(note,)):
            result = f(*args, **kwargs)
        leaves = tree.leaves((args, kwargs))
        seen = {id(_owner(plain(a))) for a in leaves if hasattr(plain(a), "dtype")}
        operations = []
        with np.errstate(all="ignore"):
            for node, arrays in zip(nodes, operands, strict=True):
                operations.append(_cost(node, arrays, repeats, seen))
        return Profile(result, operations)

    return profiled


def _cost(node: Node, arrays: Sequence[Any], repeats: int, seen: set[int]) -> Operation:
    known = node.rule
    assert known is not None
    parents = node.parents or ()
    inputs, results = arrays[: len(node.args)], arrays[len(node.args) :]
    out, args = saved(node)
    seeds = tuple([np.ones(o.shape, o.dtype) for o in results])
    g = seeds if isinstance(out, tuple) else seeds[0]

    def backward() -> None:
        for vjp, parent in zip(known.vjps, parents):
            if vjp is not None and parent is not None:
                vjp(g, out, *args, **node.kwargs)

    leaves = {id(_owner(a)) for a, p in zip(args, parents) if p is not None and p.rule is None}
    new = {
        id(owner): owner.nbytes
        for a in (*args, *(out if isinstance(out, tuple) else (out,)))
        if isinstance(a, np.ndarray)
        for owner in [_owner(a)]
        if id(owner) not in seen and id(owner) not in leaves
    }
    seen.update(leaves, new)
    return Operation(
        node.name,
        node.place,
        results[0].shape,
        _least(lambda: known.fun(*inputs, **node.kwargs), repeats),
        _least(backward, repeats),
        sum(new.values()),
    )


def _least(call: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _owner(array: Any) -> Any:
    """The array whose memory an array is a view of."""
    while isinstance(getattr(array, "base", None), np.ndarray):
        array = array.base
    return array
