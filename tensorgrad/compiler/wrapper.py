"""The lines of Python around the calls of a program, the same for each back end.

Before the calls: whether the plan fits, and what it takes from outside. After them: the gradients
of leaves, and the results.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..engine.graph import Node, now
from ..engine.interpreter import epoch
from ..engine.modes import mode
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..engine.views import owner_of
from .code import Code
from .ir import Call, Diverged, Storage, Value
from .results import Output, Results
from .strides import copied, pattern
from .tracing import Condition, Trace

MISS = object()
"""What a plan returns, having done nothing, where it does not fit the call."""


def names(token: list[None]) -> dict[str, Any]:
    """What the lines of a plan use beside the arrays and functions of its calls."""
    return {
        "MISS": MISS, "Diverged": Diverged, "Tensor": Tensor, "ndarray": np.ndarray,
        "new": object.__new__, "empty": np.empty, "errstate": np.errstate, "now": now,
        "get": mode.get, "current": mode.get(), "take": token.pop, "give": token.append,
        "rows": _rows, "clock": time.perf_counter,
    }  # fmt: skip


def _rows(array: Array) -> Any:
    """The items along the first axis, as arrays."""
    return array if array.ndim > 1 else [array[i, ...] for i in range(len(array))]


def same_strides(code: Code, inputs: Mapping[Value, Array | Value]) -> list[str]:
    """Lines that return MISS if an input has other strides than in the trace."""
    lines = []
    for v, array in inputs.items():
        name, same = code.text(v), code.name(pattern(array))
        other = f"{name}.strides != {code.text(array.strides)}"
        lines.append(f"if {other} and {code.function(pattern)}({name}) != {same}: return MISS")
    return lines


def earlier_gradients(
    code: Code, earlier: Mapping[Node, Value], results: Results, calls: Sequence[Call]
) -> list[str]:
    """Lines that take the gradients which leaves have from before the call."""
    made: dict[Storage, int] = {}  # the number of the first call that makes something in it
    read: dict[Storage, int] = {}  # the number of the last call that reads something of it
    for i, call in enumerate(calls if earlier else ()):
        read |= dict.fromkeys((v.storage for v in call.reads), i)
        for r in call.results:
            made.setdefault(r.storage, i)
    read |= dict.fromkeys((v.storage for v in results.returned), len(calls))
    lines = []
    for i, (node, v) in enumerate(earlier.items()):
        lines.append(f"{code.local(v, f'g{i}')} = {code.name(node, 'node')}.grad")
        lines.append(f"if g{i} is None: return MISS")
        new = results.gradients.get(node)
        if new is not None and made.get(new.storage, len(calls)) < read.get(v.storage, 0):
            lines.append(f"g{i} = {code.function(copied)}(g{i})")
    return lines


def apart_from_state(
    code: Code, trace: Trace, inputs: Iterable[Value], calls: Sequence[Call], results: Results
) -> list[str]:
    """Lines that copy inputs which lie where the program writes before it last reads them."""
    first: dict[int, int] = {}  # the number of the first call that changes what lies in an array
    last = {v.storage: i for i, call in enumerate(calls) for v in call.reads}
    last |= {v.storage: len(calls) for v in results.returned}
    for i, call in enumerate(calls):
        for v in (*call.results, *call.changes):
            array = code.fixed(v) if code.knows(v) else None
            if array is not None:
                first.setdefault(id(owner_of(array)), i)
    owners = [owner_of(array) for _, array, _ in trace.tensors.values()]
    owners += map(owner_of, arrays_of_gradients(code, results))
    lines = []
    for v in inputs:
        name, done = code.text(v), last.get(v.storage, -1)
        changed = {id(o): o for o in owners if first.get(id(o), done + 1) <= done}.values()
        same = [o for o in changed if (o.shape, o.dtype) == (v.shape, v.dtype)]
        copy = f"{name} = {code.function(copied)}({name})"
        lines += [f"if {name} is {code.name(o, 'owner')}: {copy}" for o in same]
        if changed:
            views = " or ".join(f"base is {code.name(o, 'owner')}" for o in changed)
            lines += [
                f"base = {name}.base",
                f"if base is not None and ({views}): {copy}",
            ]
    return lines


def arrays_of_gradients(code: Code, results: Results) -> list[Array]:
    """The arrays of gradients that stay where they are."""
    return [array for v in results.set_gradients if (array := code.fixed(v)) is not None]


def conditions(code: Code, trace: Trace) -> str:
    """An expression that is true as long as all that the plan relies on is what it was."""
    tensors, attributes = [*trace.tensors.values()], trace.attributes
    settled = trace.checks.settled()
    seen = [-1]  # not yet looked

    def look() -> bool:
        now = [*epoch]
        same = (
            all(t._array is array and t._node is node for t, array, node in tensors)
            and all(getattr(owner, name) is value for owner, name, value in attributes)
            and settled()
        )
        if same:
            seen[:] = now
        return same

    # They may change what `look` sees, so they come first.
    tests = [_condition(code, condition) for condition in trace.conditions]
    tests += [
        f"({code.name(epoch, 'epoch')} == {code.name(seen, 'seen')} or {code.name(look, 'look')}())"
    ]
    tests += [f"{code.function(test)}()" for test in trace.tests]
    tests += [
        f"{code.name(node, 'node')}.grad is None" for node, v in trace.earlier.items() if v is None
    ]
    return " and ".join(tests)


def _condition(code: Code, condition: Condition) -> str:
    """An expression for a condition."""
    owner, attribute, otherwise = condition
    return f"({code.name(owner, 'owner')}.{attribute} or {code.function(otherwise)}())"


def effects(code: Code, results: Results, trace: Trace) -> list[str]:
    """Lines that set the leaves' gradients, and mark as changed those whose data has."""
    lines = [
        f"{code.name(node, 'node')}.grad = {'None' if v is None else code.text(v)}"
        for node, v in results.gradients.items()
    ]
    if trace.touched:
        stamps = " = ".join(f"{code.name(node, 'node')}.serial" for node in trace.touched)
        lines.append(f"{stamps} = now()")
    return lines


def _returned(
    code: Code, i: int, output: Output, fresh: Collection[Storage]
) -> tuple[list[str], str]:
    """Lines that make a leaf of the result, and an expression for it."""
    value = output.value
    if value is None:
        return [], code.name(output.leaf, "leaf")
    text = code.text(value)
    if value.storage not in fresh:
        order = "" if value.is_c_contiguous else "'K'"
        text = f"{code.attribute(value, 'copy')}({order})"
    if output.leaf is not Tensor:
        return [], text
    node = code.name(output.node, "node")
    return [
        f"t{i} = new(Tensor)",
        f"t{i}._array = {text}",
        f"t{i}._node = {node}",
        f"t{i}._family = None",
    ], f"t{i}"


def answer(code: Code, results: Results, fresh: Collection[Storage]) -> list[str]:
    """Lines that return the result; what lies in `fresh` memory need not be copied."""
    made = [_returned(code, i, output, fresh) for i, output in enumerate(results.outputs)]
    structure = results.structure
    leaves = [text for _, text in made]
    if structure.kind is None:
        (built,) = leaves
    elif structure.kind is tuple and structure.is_flat:
        built = f"({''.join(leaf + ', ' for leaf in leaves)})"
    else:
        built = f"{code.name(structure.unflatten, 'unflatten')}([{', '.join(leaves)}])"
    return [*(line for lines, _ in made for line in lines), f"return {built}"]
