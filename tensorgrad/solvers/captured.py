"""The functions that solvers get: their values for SciPy, and their derivatives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..bodies import as_of_now, fresh, or_zeros, sources_of
from ..engine.backward import backpropagate, saved
from ..engine.batching import Batch, NotBatchedError, levels_of, one_by_one
from ..engine.dispatch import revive
from ..engine.graph import Node, ancestors, now
from ..engine.modes import enable_grad, mode, no_grad, plain
from ..engine.operands import holds_tensors
from ..engine.tensor import Tensor, asarray
from ..engine.typing import Array, Function
from ..errors import GraphError
from ..linearization import handle, push_tangents
from ..mapping import vmap
from ..transforms import jacobian
from ..tree import flatten, is_stateful, leaves

_SAME = 1e-6  # relative difference of values that may be the same, rounded differently


class Captured:
    """A user's function with its further arguments, as they are when the solver is called.

    SciPy gets its `values`: plain arrays, computed from plain arrays. `sources` are the nodes of
    tracked tensors that it uses: those in `args`, and others, such as parameters of a module, once
    it has been called by `find_sources`.
    """

    def __init__(self, name: str, f: Function, args: Any = ()) -> None:
        if not callable(f):
            raise TypeError(f"{name}: takes a function first, not a {type(f).__name__}")
        self.name = name
        self.f = as_of_now(f)
        found, structure = flatten(args if isinstance(args, tuple) else (args,), is_stateful)
        tensors = [a for a in found if isinstance(a, Tensor)]
        self.args = structure.unflatten(handle(a) if isinstance(a, Tensor) else a for a in found)
        self.plain_args = structure.unflatten(map(plain, found))
        self.uses_tensors = bool(tensors)
        nodes = [a._node for a in tensors if mode.get().recording]
        self.sources: list[Node] = [*dict.fromkeys(node for node in nodes if node is not None)]
        self._first_call: tuple[tuple[Any, ...], Array] | None = None

    def values(self, *arrays: Any) -> Array:
        """The value of the function at plain arrays, or numbers, as an array."""
        y = self.f(*arrays, *self.plain_args)
        if type(y) is not np.ndarray:
            y = self._array_of(y)
        if y.dtype.kind == "c":
            as_real(self.name, y)
        return y  # type: ignore[no-any-return]

    def _array_of(self, y: Any) -> Array:
        if isinstance(y, (list, tuple)):
            y = asarray(y) if holds_tensors(y) else np.asarray(y)
        if isinstance(y, Tensor):
            y = plain(y)
            self.uses_tensors = True
            if type(y) is Batch:
                raise TypeError(
                    f"{self.name}: in a vmap, the function must get what differs from sample to "
                    "sample as an argument: pass it in args=, not from outside"
                )
        return np.asarray(returned(self.name, y))

    def number(self, *arrays: Any) -> float:
        """The value of a function that returns one element."""
        y = self.values(*arrays)
        if y.size != 1:
            raise ValueError(
                f"{self.name}: the function must return one number, not an array of shape {y.shape}"
            )
        return float(y.item())

    def jacobian(self, *arrays: Any) -> Array:
        """The Jacobian by the last argument, as a plain array."""
        *others, x = arrays
        with no_grad():
            by_last = jacobian(self, len(others))
            return np.asarray(plain(by_last(*others, np.asarray(x, float))))

    def __call__(self, *arrays: Any) -> Tensor:
        """The value of the function as a tensor, recorded by what is tracked."""
        try:
            return as_real(self.name, returned(self.name, self.f(*arrays, *self.args)))
        except ValueError as error:
            if isinstance(error.__cause__, TypeError):  # `array[0] = tensor`: NumPy hides our error
                error.add_note(f"{self.name}: {error.__cause__}")
            raise

    def find_sources(self, *arrays: Any) -> None:
        """Add the nodes that a call with plain arrays uses from outside to the sources."""
        if mode.get().recording:
            start = now()
            y = self(*arrays)
            found = sources_of([y], start)
            self.sources += [node for node in found if node not in self.sources]
            self._first_call = arrays, plain(y)

    def require_unchanged(self) -> None:
        """Raise a GraphError if the call of `find_sources` has another value now."""
        if self._first_call is not None:
            arrays, before = self._first_call
            with no_grad():
                self.require_same(plain(self(*arrays)), before)

    def require_same(self, now: Array, before: Array) -> None:
        """Raise a GraphError if values of the function now are not those of before."""
        scale = np.max(np.abs(before), initial=0)
        if not np.allclose(now, before, _SAME, _SAME * scale, equal_nan=True):
            raise GraphError(
                f"{self.name}: the function computed something else before: what it uses must not "
                "change until the derivative is computed, nor be random"
            )


class Recording:
    """A recorded call of a function, through which cotangents can be carried back many times."""

    def __init__(self, f: Captured, arrays: Sequence[Any]) -> None:
        self._f, self.name = f, f.name
        self._recorded = any(isinstance(a, Tensor) for a in arrays)
        inputs = [fresh(as_real(f.name, a)) for a in arrays]
        self._ends: list[Any] = [x._node for x in inputs]
        self._start = now()
        with enable_grad():
            self.y = f(*inputs)
        self.sources = [n for n in sources_of([self.y], self._start) if n not in self._ends]
        node = self.y._node
        self._nodes = [] if node is None else ancestors(node, since=self._start)
        self._ways: dict[tuple[Node, ...], list[Node]] = {}

    def pull(self, g: Any) -> Any:
        """The cotangent of the last argument, from that of the result."""
        return self._carried(g, self._ends[-1:])[0]

    def jacobian(self) -> Array:
        """The Jacobian by the last argument, as a plain matrix."""
        units = np.eye(self.y.size).reshape(-1, *self.y.shape)
        with no_grad():
            try:
                rows = plain(vmap(self.pull)(units))
            except NotBatchedError:
                rows = np.stack([*map(self.pull, units)])
        return np.reshape(rows, (self.y.size, -1))

    def pull_to_sources(self, g: Any) -> list[Any]:
        """The cotangents of the sources of the function, from that of the result."""
        return self._carried(g, self._sources())

    def pull_to_all(self, g: Any) -> tuple[list[Any], list[Any]]:
        """The cotangents of the arguments, and those of the sources."""
        found = self._carried(g, [*self._ends, *self._sources()])
        return found[: len(self._ends)], found[len(self._ends) :]

    def push(self, of_last: Any, of_sources: Sequence[Any]) -> Any:
        """The tangent of the result, from those of the last argument and of the sources.

        None stands for zeros.
        """
        return self.push_all([*[None] * (len(self._ends) - 1), of_last], of_sources)

    def push_all(self, of_arguments: Sequence[Any], of_sources: Sequence[Any]) -> Any:
        """The tangent of the result, from those of all arguments and of the sources."""
        given = zip([*self._ends, *self._sources()], [*of_arguments, *of_sources], strict=True)
        tangents: dict[Node, Any] = {node: t for node, t in given if t is not None}
        recorded = self._recorded or any(isinstance(t, Tensor) for t in tangents.values())
        nodes = self._leading_to(tuple(tangents))
        push_tangents(reversed(nodes), tangents, revive if recorded else saved)
        y = self.y
        found = None if y._node is None else tangents.get(y._node)
        return np.zeros(y.shape, y.dtype) if found is None else found

    def _sources(self) -> list[Node]:
        known = self._f.sources
        if not set(self.sources) <= set(known):
            raise GraphError(
                f"{self._f.name}: the function uses a tracked tensor that it did not use in its "
                "first call, so that its gradient would be missing: pass it in args="
            )
        return known

    def _carried(self, g: Any, targets: Sequence[Any]) -> list[Any]:
        recorded = self._recorded or isinstance(g, Tensor)
        g = asarray(g, self.y.dtype) if recorded else plain(g).astype(self.y.dtype, copy=False)
        nodes = self._leading_to(tuple(targets))
        seeds = {nodes[0]: g} if nodes else {}
        found = backpropagate(
            nodes, seeds, {*targets}, operands=revive if recorded else saved, since=self._start
        )
        return [or_zeros(found.get(node), node) for node in targets]

    def _leading_to(self, targets: tuple[Node, ...]) -> list[Node]:
        """The nodes between the result and some targets, newest first."""
        if targets not in self._ways:
            on_the_way = set(targets)
            for node in reversed(self._nodes):
                if node.serial >= self._start and not on_the_way.isdisjoint(node.parents or ()):
                    on_the_way.add(node)
            self._ways[targets] = [node for node in self._nodes if node in on_the_way]
        nodes = self._ways[targets]
        return nodes if nodes and nodes[0] is self.y._node else []


def is_batched(*values: Any) -> bool:
    """Whether there is a batch among arrays and tensors."""
    return any(type(plain(a)) is Batch for a in values)


def require_one(*cotangents: Any) -> None:
    """Raise NotBatchedError for a batch of cotangents, so that they are carried one by one."""
    if any(level for g in cotangents for level in levels_of(plain(g))):
        raise NotBatchedError("the derivative of a solver")


def of_samples(
    name: str, solve: Callable[..., tuple[Any, dict[str, Any]]], *operands: Any
) -> tuple[Any, dict[str, Any]]:
    """Call a solver; in a `vmap`, one sample after another, of the operands that have samples.

    `solve` returns SciPy's result and those of its fields that have derivatives; so does this.
    """
    mode.get().interpreter.require_eager(
        f"{name} calls SciPy, whose steps depend on values: call it outside of compiled code"
    )
    found: list[Any] = []
    fields = _each(solve, found, *operands)
    return found[0] if len(found) == 1 else _of_all(found), fields


def _each(solve: Function, found: list[Any], *operands: Any) -> dict[str, Any]:
    """The fields of the result, of all samples; SciPy's results are added to `found`."""
    if is_batched(*leaves(operands)):
        each = functools.partial(_each, solve, found)
        return one_by_one(each, operands, {})  # type: ignore[no-any-return]
    result, fields = solve(*operands)
    found.append(result)
    return fields  # type: ignore[no-any-return]


def as_real(name: str, a: Any) -> Tensor:
    """A tensor of an array, a number or a list, with a real floating dtype."""
    t = asarray(a)
    if t.dtype.kind == "c":
        raise TypeError(
            f"{name}: only real numbers are supported, not {t.dtype}: pass and return the real and "
            "the imaginary part as two numbers"
        )
    return t if t.dtype.kind == "f" else asarray(t, float)


def returned(name: str, y: Any) -> Any:
    """What a function has returned; raise TypeError if that is None."""
    if y is None:
        raise TypeError(f"{name}: the function returned None: write `return` before its result")
    return y


def _of_all(results: Sequence[Any]) -> Any:
    """SciPy's results for all samples: whether all succeeded, and the first message if not."""
    failed = [result for result in results if not getattr(result, "success", True)]
    return failed[0] if failed else results[0]
