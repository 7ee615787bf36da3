"""A program as one flat function of Python: a line for each call, and memory for its arrays."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import TraceError
from ..graph import Array, Function, Node, mode, now
from ..structure import Structure
from ..tensor import Tensor
from .layout import Layout
from .program import Call, Value, mapped, values_in
from .rewriting import simplified
from .spelling import Code, plain_lines, spelling
from .tracing import Trace

LARGE = 1 << 12  # bytes: larger results get memory of their own at each call, smaller are copied
MISS = object()
"""What a plan returns, and has done nothing, if what it relies on is no longer so."""


class Diverged(Exception):  # noqa: N818 (no error: the plan is for another case)
    """A decision by elements would be another one than while tracing."""


class Output(NamedTuple):
    """One leaf of what the function returns: a value; or, without one, the object itself.

    A value is returned as what `leaf` is: a tensor, with that node, or an array.
    """

    leaf: Any
    value: Value | None
    node: Node | None = None


class Plan:
    """The flat program for one signature of a compiled function.

    `run(*arrays)` makes one call. `source` is its code, `peak_bytes` the memory that its temporary
    arrays take, and `lower_bound` what no plan could do without.
    """

    def __init__(
        self,
        trace: Trace,
        outputs: Sequence[Output],
        structure: Structure,
        final: dict[Node, Any],
        kinds: Sequence[Any],
        lock: Any,
    ) -> None:
        given = [o.value for o in outputs if o.value is not None]
        gradients = [v for v in final.values() if v is not None]
        calls, same = simplified(trace.calls, [*given, *gradients])
        outputs = [o._replace(value=same.get(o.value, o.value)) for o in outputs]
        final = {node: same.get(v, v) for node, v in final.items()}
        given, gradients = [same.get(v, v) for v in given], [same.get(v, v) for v in gradients]
        _require_decisions_first(calls)
        spellings = {c: s for c in calls if c.kind != "view" and (s := spelling(c)) is not None}
        _give_away(given, gradients, {r for c in spellings for r in c.results})
        slots = {node: v for node, v in trace.slots.items() if v is not None}
        apart = [v for node, v in final.items() if v is not None and node in slots]
        self._layout = Layout(calls, spellings, [*given, *gradients], apart)
        self.peak_bytes = self._layout.peak_bytes
        self.lower_bound = self._layout.lower_bound

        code = Code()
        arguments = [code.local(v, f"a{i}") for i, v in enumerate(trace.inputs)]
        begin = [
            line
            for i, (node, v) in enumerate(slots.items())
            for line in (
                f"{code.local(v, f'g{i}')} = {code.name(node, 'node')}.grad",
                f"if g{i} is None: return MISS",
            )
        ]
        for call in self._layout.calls:
            for v in (*call.reads, *given, *gradients):
                if v.storage.home in ("state", "constant") and not code.knows(v):
                    code.bind(v, v.array)
        self._body = [(call, self._lines(code, call, spellings)) for call in self._layout.calls]
        end = _effects(code, final, trace)
        leaves = [_returned(code, i, output, end) for i, output in enumerate(outputs)]
        end.append(f"return {_built(code, structure, leaves)}")
        guards = _guards(code, trace)
        lines = [*guards, *begin, *_in_settings(self._body), *end]
        self.source = "\n".join([f"def run({', '.join(arguments)}):", *_indented(lines)])
        self._names = code.names | {
            "MISS": MISS, "Diverged": Diverged, "now": now, "new": object.__new__,
            "Tensor": Tensor, "empty": np.empty, "errstate": np.errstate,
        }  # fmt: skip
        self.run = _defined(self.source, self._names, "run")
        self.replay = _entry(kinds, self.run, lock)

    def _lines(self, code: Code, call: Call, spellings: Any) -> list[str]:
        """The lines of a call. Views of what stays where it is are taken now."""
        if call.kind == "view" and all(
            code.fixed(v) is not None for v in values_in((call.args, call.kwargs))
        ):
            args, kwargs = mapped((tuple(call.args), dict(call.kwargs)), Value, code.fixed)
            views: list[Array] = []
            mapped(call.fun(*args, **kwargs), np.ndarray, views.append)
            for result, view in zip(call.results, views, strict=True):
                if result.call is call:
                    code.bind(result, view)
            return []
        spell = spellings.get(call)
        if spell is None:
            return plain_lines(code, call)
        (result,) = call.results
        array = self._layout.arrays.get(result.storage)
        if array is not None:
            code.bind(result, array)
            return spell(code, code.text(result))
        shape, dtype = code.text(result.shape), code.name(result.dtype)
        return [f"{code.local(result)} = empty({shape}, {dtype})", *spell(code, code.text(result))]


def _require_decisions_first(calls: Sequence[Call]) -> None:
    changed = None
    for call in calls:
        if call.fun is bool and changed is not None:
            raise TraceError(
                f"{call.place}: a decision by elements cannot be compiled after {changed.place} "
                "has changed what outlives the call: change it later"
            )
        if call.target is not None and call.target.storage.home == "state":
            changed = changed or call


def _give_away(given: Sequence[Value], gradients: Sequence[Value], made: set[Value]) -> None:
    """Let large results have memory of their own at each call, rather than be copied."""
    counts = Counter(v.storage for v in [*given, *gradients])
    for v in given:
        s = v.storage
        if s.home == "temporary" and counts[s] == 1 and v in made and v.nbytes >= LARGE:
            s.home = "result"


def _guards(code: Code, trace: Trace) -> list[str]:
    """Lines that give up where tensors, gradients or objects are not what they were."""
    tests = [("{}._array is {}", (t, array)) for t, array, _ in trace.tensors.values()] + [
        ("{}._node is {}", (t, node)) for t, _, node in trace.tensors.values()
    ]
    tests += [("{}.grad is None", (node,)) for node, v in trace.slots.items() if v is None]
    texts = [
        f"({expression.format(*map(code.name, things))})"
        for expression, things in [*tests, *trace.conditions]
    ]
    return [f"if not ({' and '.join(texts)}): return MISS"] if texts else []


def _effects(code: Code, final: dict[Node, Any], trace: Trace) -> list[str]:
    """Lines that set the leaves' gradients, and mark as changed those whose data has."""
    lines = [
        f"{code.name(node, 'node')}.grad = {'None' if v is None else code.text(v)}"
        for node, v in final.items()
    ]
    if trace.touched:
        stamps = " = ".join(f"{code.name(node, 'node')}.serial" for node in trace.touched)
        lines.append(f"{stamps} = now()")
    return lines


def _returned(code: Code, i: int, output: Output, lines: list[str]) -> str:
    """An expression for a leaf of the result."""
    value = output.value
    if value is None:
        return code.name(output.leaf, "leaf")
    text = code.text(value)
    if value.storage.home != "result":
        text = f"{code.method(value, 'copy')}()"
    if not isinstance(output.leaf, Tensor):
        return f"{text}[()]" if value.scalar else text
    node = code.name(output.node, "node")
    lines += [f"t{i} = new(Tensor)", f"t{i}._array = {text}", f"t{i}._node = {node}"]
    return f"t{i}"


def _built(code: Code, structure: Structure, leaves: Sequence[str]) -> str:
    if structure.kind is None:
        return leaves[0]
    if structure.kind is tuple and all(part.kind is None for part in structure.parts):
        return f"({''.join(leaf + ', ' for leaf in leaves)})"
    return f"{code.name(structure.build, 'build')}([{', '.join(leaves)}])"


def _in_settings(body: Sequence[tuple[Call, list[str]]]) -> list[str]:
    """The lines of calls, those in other floating-point error settings in a `with` block."""
    lines: list[str] = []
    current = None
    for call, own in body:
        if own:
            if call.errors != current and call.errors:
                options = ", ".join(f"{k}={v!r}" for k, v in call.errors.items())
                lines.append(f"with errstate({options}):")
            current = call.errors
            lines += _indented(own) if current else own
    return lines


def _indented(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]


def _defined(source: str, names: dict[str, Any], name: str) -> Function:
    """The function that the source defines, with these names as variables of its own."""
    inner = _indented([*source.split("\n"), f"return {name}"])
    space: dict[str, Any] = {}
    exec("\n".join([f"def make({', '.join(names)}):", *inner]), space)
    function: Function = space["make"](**names)
    return function


def _entry(kinds: Sequence[Any], run: Function, lock: Any) -> Function:
    """`run` for a tuple of arguments, after a check that they have the plan's signature.

    It knows arguments that are arrays or tensors themselves; for others it returns MISS.
    """
    current = mode.get()
    names: dict[str, Any] = {"ndarray": np.ndarray, "Tensor": Tensor, "MISS": MISS, "run": run}
    names |= {"lock": lock, "get": mode.get, "current": current}
    lines, arrays = [f"if get() is not current or len(args) != {len(kinds)}: return MISS"], []
    if kinds:
        lines.append(f"{''.join(f'a{i}, ' for i in range(len(kinds)))}= args")
    for i, kind in enumerate(kinds):
        if not (isinstance(kind, tuple) and len(kind) == 3):
            return lambda args: MISS
        if kind[0] is Tensor:
            lines.append(f"if type(a{i}) is not Tensor or a{i}._node is not None: return MISS")
            lines.append(f"a{i} = a{i}._array")
        names |= {f"s{i}": kind[1], f"d{i}": kind[2]}
        lines.append(
            f"if type(a{i}) is not ndarray or a{i}.dtype is not d{i} or a{i}.shape != s{i}: "
            "return MISS"
        )
        arrays.append(f"a{i}")
    lines += ["with lock:", f"    return run({', '.join(arrays)})"]
    return _defined("\n".join(["def replay(args):", *_indented(lines)]), names, "replay")
