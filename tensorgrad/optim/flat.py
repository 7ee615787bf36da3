"""Parameters as views of one vector, on which an optimizer works with a few calls of NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import Array, aligned, changes, mode, now, order_of
from ..tensor import Tensor, move

# Elements. The arrays of one block fit into the cache together, so that each call but the first
# finds them there: an Adam step of 2,000,000 numbers of float64 takes 0.65 of its time. Shorter
# blocks cost more calls than they save.
BLOCK = 1 << 15


def listed(parameters: Iterable[Any], name: str) -> list[Any]:
    """Parameters as a list; a TypeError, that starts with `name`, for what is no iterable."""
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        raise TypeError(
            f"{name}: parameters must be a list of tensors, as from net.parameters(), "
            f"not a {type(parameters).__name__}"
        )
    return [*parameters]


def distinct(parameters: Iterable[Tensor], name: str) -> list[Tensor]:
    """Each parameter once; a TypeError or ValueError, that starts with `name`, for other things."""
    found = list({id(p): p for p in listed(parameters, name)}.values())
    for p in found:
        _require_parameter(p, name)
    return found


def _require_parameter(p: Tensor, name: str) -> None:
    if not isinstance(p, Tensor):
        hint = ": pass net.parameters()" if hasattr(p, "parameters") else ""
        raise TypeError(f"{name}: parameters must be tensors, not {type(p).__name__}{hint}")
    if not p.is_leaf:
        raise ValueError(f"{name}: a computed tensor, {p._node}, is not a parameter: detach() it")
    if type(p._array) is not np.ndarray or p.dtype.kind != "f":
        raise TypeError(
            f"{name}: parameters must be real floating arrays of NumPy, "
            f"not {type(p._array).__name__} of dtype {p.dtype}"
        )


def by_dtype(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """The parameters of each dtype, in the order in which they come."""
    groups: dict[Any, list[Tensor]] = {}
    for p in parameters:
        groups.setdefault(p.dtype, []).append(p)
    return list(groups.values())


def bounds(arrays: Sequence[Array]) -> list[int]:
    """Where each array starts in a vector of them all, and where the last one ends."""
    return list(itertools.accumulate((a.size for a in arrays), initial=0))


def views(vector: Array, arrays: Sequence[Array]) -> list[Array]:
    """The parts of a vector that belong to the arrays, in their shapes and orders in memory.

    A layer's weight that lies by columns, and its bias after it, are one matrix (nin + 1, nout).
    """
    edges = bounds(arrays)
    return [
        vector[start:stop].reshape(a.shape, order=order_of(a))
        for a, start, stop in zip(arrays, edges, edges[1:])
    ]


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype to compute in: float16 is too short for squares of gradients and for sums."""
    return np.result_type(dtype, np.float32)


class Vectors(dict[str, Array]):
    """Vectors of one length and dtype, by names."""

    def __init__(self, size: int, dtype: np.dtype[Any]) -> None:
        self.size = size
        self.dtype = dtype

    def find(self, name: str, start: float = 0.0) -> Array:
        """The vector of that name; its elements are `start` at first."""
        if name not in self:
            self[name] = aligned(self.size, self.dtype)
            self[name][...] = start
        return self[name]


class Flat:
    """Parameters of one dtype as views of one vector, beside vectors of what belongs to them.

    `gather` notices a parameter that has got another array since, or another owner, and brings it
    home. `parts` are the stretches of parameters that have been stepped equally often: one, unless
    some had no gradient at times.
    """

    def __init__(self, parameters: list[Tensor], name: str) -> None:
        dtype = parameters[0].dtype
        work = working_dtype(dtype)
        self.name = name
        self.parameters = parameters
        arrays = [p._array for p in parameters]
        self.bounds = bounds(arrays)
        self.size = self.bounds[-1]
        self.data = aligned(self.size, dtype)
        self.grad = aligned(self.size, work)
        self.scratch = aligned(min(self.size, BLOCK), work)
        self._scalars = [np.zeros((), work) for _ in range(8)]
        self._numbers: Sequence[float] = (0.0,) * 8  # what is in them
        self._homes = views(self.data, arrays)
        self._places = [*zip(parameters, self._homes, views(self.grad, arrays))]
        self.vectors = Vectors(self.size, work)
        self.parts = [Part(self, 0, len(parameters), 0)]
        self.adopt()

    def adopt(self) -> None:
        """Make views of the vector of all parameters that require grad."""
        for p, home in zip(self.parameters, self._homes):
            if p._array is not home:
                self._adopt(p, home)

    def _require_alike(self, p: Tensor, home: Array) -> None:
        _require_parameter(p, self.name)
        if (p.shape, p.dtype) != (home.shape, home.dtype):
            raise ValueError(
                f"{self.name}: a parameter of shape {home.shape}, dtype {home.dtype}, has become "
                f"one of shape {p.shape}, dtype {p.dtype}: make a new optimizer"
            )

    def _adopt(self, p: Tensor, home: Array) -> None:
        self._require_alike(p, home)
        if p._node is not None:
            home[...] = p._array
            move(p, home)  # it stays there when p.data is assigned

    def gather(self) -> list[Part]:
        """Copy the gradients into `grad`, and return the parts that have some.

        Their parameters count as changed from now on. Copies one by one take half the time of one
        numpy.concatenate, where there are many small ones.
        """
        trace = mode.get().trace
        if trace is not None:
            return self._gather_traced(trace)
        if not self.data.base.flags.writeable:  # type: ignore[union-attr]
            raise ValueError(
                f"{self.name}: a graph recorded under guard() still uses the parameters: "
                "call its backward(), or drop it, before the step"
            )
        gaps = False
        stamp = now()
        for p, home, place in self._places:
            if p._array is not home:
                self._adopt(p, home)
            node = p._node
            if node is None or node.grad is None:
                gaps = True
            else:
                g = node.grad
                if g.base is place.base:  # a compiled step left it here, which an update may change
                    node.grad = g.copy("K")
                place[...] = g
                node.serial = stamp
        return self._present() if gaps else self.parts

    def _gather_traced(self, trace: Any) -> list[Part]:
        """The same, written down by the compiler."""
        for p, home, place in self._places:
            if p._array is not home:
                there = trace.tensor(p)
                self._require_alike(p, home)
                if p._node is not None:
                    trace.state(home)[...] = there
                    trace.move(p, home)
            g = p.grad
            if g is not None:
                trace.tensor(p)
                trace.state(place)[...] = g
                trace.touch(p._node)
        present = self._present()
        trace.guard(self, "parts")
        return present

    def _present(self) -> list[Part]:
        """The parts that have gradients, split where only some of their parameters have one."""
        absent = {i for i, p in enumerate(self.parameters) if p.grad is None}
        if not absent:
            return self.parts
        self.parts = [piece for part in self.parts for piece in part.split(self, absent)]
        changes[0] += 1
        return [part for part in self.parts if part.first not in absent]

    def touch(self) -> None:
        """Mark the parameters as changed."""
        for p, home in zip(self.parameters, self._homes):
            if p._array is home and p._node is not None:
                p._node.touch()

    def scalars(self, numbers: Sequence[float]) -> list[Array]:
        """The numbers as arrays, always the same ones, with which NumPy is faster."""
        if numbers != self._numbers:
            for scalar, number, last in zip(self._scalars, numbers, self._numbers):
                if number != last:
                    scalar[...] = number
            self._numbers = numbers
        return self._scalars[: len(numbers)]

    def state(self) -> list[dict[str, Any]]:
        """Copies of what belongs to each parameter: the steps it took, its parts of the vectors."""
        steps = [part.steps for part in self.parts for _ in range(part.first, part.last)]
        pieces = {name: views(v, self._homes) for name, v in self.vectors.items()}
        return [
            {"step": n} | {name: piece[i].copy() for name, piece in pieces.items()}
            for i, n in enumerate(steps)
        ]

    def load(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take what `state` returned; vectors that are left out are as at the start.

        The vectors stay where they are, if they are the same ones.
        """
        steps = [state["step"] for state in states]
        runs = [_ends(run) for _, run in itertools.groupby(range(len(steps)), steps.__getitem__)]
        names = {name: None for state in states for name in state if name != "step"}
        if names.keys() != self.vectors.keys():
            self.vectors.clear()
        if not self.vectors or runs != [(part.first, part.last) for part in self.parts]:
            self.parts = [Part(self, *run, 0) for run in runs]
            changes[0] += 1
        for part in self.parts:
            part.steps = steps[part.first]
        for name in names:
            vector = self.vectors.find(name)
            vector[...] = 0
            for piece, state in zip(views(vector, self._homes), states):
                if name in state:
                    piece[...] = state[name]


def _ends(run: Iterable[int]) -> tuple[int, int]:
    numbers = [*run]
    return numbers[0], numbers[-1] + 1


class Part:
    """Neighbours in a `Flat`, parameters `first` to `last`, that have taken equally many steps."""

    def __init__(self, flat: Flat, first: int, last: int, steps: int) -> None:
        self.first = first
        self.last = last
        self.steps = steps
        start, stop = flat.bounds[first], flat.bounds[last]
        self.blocks = [Block(flat, a, min(a + BLOCK, stop)) for a in range(start, stop, BLOCK)]

    def split(self, flat: Flat, absent: Collection[int]) -> list[Part]:
        """The runs of parameters all of which are absent, or none."""
        runs = itertools.groupby(range(self.first, self.last), absent.__contains__)
        ends = [_ends(run) for _, run in runs]
        if len(ends) == 1:
            return [self]
        return [Part(flat, first, last, self.steps) for first, last in ends]


class Block:
    """A stretch of the vectors of a `Flat`, short enough for the cache."""

    def __init__(self, flat: Flat, start: int, stop: int) -> None:
        self.data = flat.data[start:stop]
        self.grad = flat.grad[start:stop]
        self.scratch = flat.scratch[: stop - start]
        self._vectors = flat.vectors
        self._range = slice(start, stop)
        self._views: dict[str, Array] = {}

    def state(self, name: str, start: float = 0.0) -> Array:
        """The stretch of the vector of that name; its elements are `start` at first."""
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = self._vectors.find(name, start)[self._range]
        return view
