"""Parameters as views of one vector, so that an optimizer's step is a few NumPy calls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..engine.arrays import aligned, order_of, working_dtype
from ..engine.graph import now
from ..engine.interpreter import Tracing, epoch
from ..engine.modes import mode
from ..engine.mutation import move
from ..engine.tensor import Tensor
from ..engine.typing import Array

# Elements. The arrays of one block fit into the cache together, so that only the first call reads
# them from memory: a step of Adam on 2,000,000 numbers of float64 takes 0.65 of the time. Shorter
# blocks save less than their additional calls cost.
BLOCK = 1 << 15
MOST = 8  # coefficients of an update


def listed(parameters: Iterable[Any], name: str) -> list[Any]:
    """Return parameters as a list; raise a TypeError that starts with `name` if they are none."""
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        raise TypeError(
            f"{name}: parameters must be a list of tensors, as from net.parameters(), "
            f"not a {type(parameters).__name__}"
        )
    return [*parameters]


def distinct(parameters: Iterable[Tensor], name: str) -> list[Tensor]:
    """Return each parameter once; raise a TypeError or ValueError if one is no parameter."""
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
    if type(p._array) is not np.ndarray or p.dtype.kind not in "fc":
        raise TypeError(
            f"{name}: parameters must be floating or complex arrays of NumPy, "
            f"not {type(p._array).__name__} of dtype {p.dtype}"
        )


def require_untraced(name: str) -> None:
    """Raise a TraceError in a compiled function, which would do this only in its first call."""
    mode.get().interpreter.require_eager(
        f"{name} cannot be compiled: call it outside the compiled function"
    )


def by_dtype(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Group the parameters by dtype, and keep their order."""
    groups: dict[Any, list[Tensor]] = {}
    for p in parameters:
        groups.setdefault(p.dtype, []).append(p)
    return list(groups.values())


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of the real and the imaginary part of a number."""
    return np.zeros((), dtype).real.dtype


def bounds(arrays: Sequence[Array]) -> list[int]:
    """Where each array starts in a vector of them all, and where the last one ends.

    The vector is real: a complex number takes two of its elements.
    """
    sizes = (a.size * (2 if a.dtype.kind == "c" else 1) for a in arrays)
    return list(itertools.accumulate(sizes, initial=0))


def views(vector: Array, arrays: Sequence[Array]) -> list[Array]:
    """Cut a real vector into views with the shapes and the memory orders of the arrays.

    Those of complex arrays are complex.
    A layer's weight in column-major order and the bias after it form one matrix, (nin + 1, nout).
    """
    edges = bounds(arrays)
    as_complex = np.result_type(vector.dtype, np.complex64).newbyteorder(vector.dtype.byteorder)
    return [
        vector[start:stop]
        .view(as_complex if a.dtype.kind == "c" else vector.dtype)
        .reshape(a.shape, order=order_of(a))
        for a, start, stop in zip(arrays, edges, edges[1:])
    ]


class Vectors(dict[str, Array]):
    """Vectors of one length and dtype, by name."""

    def __init__(self, size: int, dtype: np.dtype[Any]) -> None:
        self.size = size
        self.dtype = dtype

    def find(self, name: str, start: float = 0.0) -> Array:
        """Return the vector of that name; a new one is filled with `start`."""
        if name not in self:
            self[name] = aligned(self.size, self.dtype)
            self[name][...] = start
        return self[name]


class Flat:
    """Parameters of one dtype as views of one vector, `data`, and their gradients in another.

    The vectors are real: those of complex parameters hold the real and the imaginary parts, which
    an optimizer updates as numbers of their own, as PyTorch's do.
    A parameter can leave the vector: its array can be replaced, or another optimizer can adopt it.
    `gather` notices that, and makes it a view again. `parts` are runs of neighbouring parameters
    that have taken the same number of steps: one run, unless some parameters had no gradient in
    some steps.
    """

    def __init__(self, parameters: list[Tensor], name: str, options: Mapping[str, Any]) -> None:
        dtype = real_dtype(parameters[0].dtype)
        work = working_dtype(dtype)
        self.name = name
        self.parameters = parameters
        arrays = [p._array for p in parameters]
        self.bounds = bounds(arrays)
        self.size = self.bounds[-1]
        self.data = aligned(self.size, dtype)
        self.grad = aligned(self.size, work)
        self.scratch = aligned(min(self.size, BLOCK), work)
        self._scalars = [np.zeros((), work) for _ in range(MOST)]
        self._numbers: Sequence[float] = (0.0,) * MOST  # their values
        self._views = views(self.data, arrays)
        self._members = [*zip(parameters, self._views, views(self.grad, arrays))]
        self.vectors = Vectors(self.size, work)
        self.step_arrays = StepArrays(options, work)
        self.parts = [Part(self, 0, len(parameters), 0)]
        self.adopt()

    def adopt(self) -> None:
        """Make all parameters that require grad views of the vector."""
        for p, view in zip(self.parameters, self._views):
            if p._array is not view:
                self._adopt(p, view)

    def _require_alike(self, p: Tensor, view: Array) -> None:
        _require_parameter(p, self.name)
        if (p.shape, p.dtype) != (view.shape, view.dtype):
            raise ValueError(
                f"{self.name}: a parameter of shape {view.shape}, dtype {view.dtype}, has become "
                f"one of shape {p.shape}, dtype {p.dtype}: make a new optimizer"
            )

    def _adopt(self, p: Tensor, view: Array) -> None:
        self._require_alike(p, view)
        if p._node is not None:
            view[...] = p._array
            move(p, view)  # from now on, assigning p.data writes into the view

    def gather(self) -> list[Part]:
        """Copy the gradients into `grad`, and return the parts that have gradients.

        Mark their parameters as changed. Many small copies take half the time of one
        numpy.concatenate.
        """
        interpreter = mode.get().interpreter
        if isinstance(interpreter, Tracing):
            return self._gather_traced(interpreter)
        if not self.data.base.flags.writeable:  # type: ignore[union-attr]
            raise ValueError(
                f"{self.name}: a graph recorded under guard() still uses the parameters: "
                "call its backward(), or drop it, before the step"
            )
        gaps = False
        stamp = now()
        for p, view, grad in self._members:
            if p._array is not view:
                self._adopt(p, view)
            node = p._node
            if node is None or node.grad is None:
                gaps = True
            else:
                g = node.grad
                if g.base is grad.base:  # a compiled step left it here, and an update may change it
                    node.grad = g.copy("K")
                grad[...] = g
                node.serial = stamp
        return self._present() if gaps else self.parts

    def _gather_traced(self, trace: Tracing) -> list[Part]:
        """Record the same in the compiled program."""
        for p, view, grad in self._members:
            if p._array is not view:
                array = trace.array(p)
                self._require_alike(p, view)
                if p._node is not None:
                    trace.state(view)[...] = array
                    trace.move(p, view)
            g = p.grad
            if g is not None:
                trace.array(p)
                trace.state(grad)[...] = g
                trace.touch(p._node)
        present = self._present()
        trace.guard(self, "parts")
        return present

    def _present(self) -> list[Part]:
        """Return the parts that have gradients; split those in which only some parameters do."""
        absent = {i for i, p in enumerate(self.parameters) if p.grad is None}
        if not absent:
            return self.parts
        parts = [piece for part in self.parts for piece in part.split(self, absent)]
        if parts != self.parts:
            self.parts = parts
            epoch[0] += 1
        return [part for part in self.parts if part.first not in absent]

    def touch(self) -> None:
        """Mark the parameters as changed."""
        for p, view in zip(self.parameters, self._views):
            if p._array is view and p._node is not None:
                p._node.touch()

    def scalars(self, numbers: Sequence[float]) -> list[Array]:
        """Write the numbers into 0-d arrays, with which NumPy is faster, and return those."""
        if numbers != self._numbers:
            if len(numbers) != len(self._numbers):  # other coefficients: write all of them
                self._numbers = (math.nan,) * len(numbers)
            for scalar, number, last in zip(self._scalars, numbers, self._numbers):
                if number != last:
                    scalar[...] = number
            self._numbers = numbers
        return self._scalars[: len(numbers)]

    def state(self) -> list[dict[str, Any]]:
        """For each parameter, its count of steps, and copies of its parts of the vectors."""
        steps = [part.steps for part in self.parts for _ in range(part.first, part.last)]
        pieces = {name: views(v, self._views) for name, v in self.vectors.items()}
        return [
            {"step": n} | {name: piece[i].copy() for name, piece in pieces.items()}
            for i, n in enumerate(steps)
        ]

    def load(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take over what `state` returned; parts of vectors that it lacks become zero.

        If the names of the vectors are the same, the vectors keep their memory.
        """
        steps = [state["step"] for state in states]
        runs = [_ends(run) for _, run in itertools.groupby(range(len(steps)), steps.__getitem__)]
        names = {name: None for state in states for name in state if name != "step"}
        if names.keys() != self.vectors.keys():
            self.vectors.clear()
        if not self.vectors or runs != [(part.first, part.last) for part in self.parts]:
            self.parts = [Part(self, *run, 0) for run in runs]
            epoch[0] += 1
        for part in self.parts:
            part.count[()] = steps[part.first]
        for name in names:
            vector = self.vectors.find(name)
            vector[...] = 0
            for piece, state in zip(views(vector, self._views), states):
                if name in state:
                    piece[...] = state[name]


def _ends(run: Iterable[int]) -> tuple[int, int]:
    numbers = [*run]
    return numbers[0], numbers[-1] + 1


class Part:
    """Parameters `first` to `last` - 1 of a `Flat`, all of which have taken `count` steps.

    The count is an array of float64, which compiled steps read and write.
    """

    def __init__(self, flat: Flat, first: int, last: int, steps: int) -> None:
        self.first = first
        self.last = last
        self.count = np.array(steps, np.float64)
        start, stop = flat.bounds[first], flat.bounds[last]
        self.blocks = [Block(flat, a, min(a + BLOCK, stop)) for a in range(start, stop, BLOCK)]

    @property
    def steps(self) -> int:
        """The number of steps."""
        return int(self.count)

    def split(self, flat: Flat, absent: Collection[int]) -> list[Part]:
        """Split it into runs of parameters that are all absent, or all present."""
        runs = itertools.groupby(range(self.first, self.last), absent.__contains__)
        ends = [_ends(run) for _, run in runs]
        if len(ends) == 1:
            return [self]
        return [Part(flat, first, last, self.steps) for first, last in ends]


class StepArrays:
    """What compiled steps read of the options of a group, in arrays without axes, which stay.

    `constants` are the coefficients that are the same in all steps, in the dtype of the updates;
    `options` are those from which the others are computed, by name, in float64.
    """

    def __init__(self, options: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
        self.constants = [np.zeros((), dtype) for _ in range(MOST)]
        self.options = {
            name: [np.zeros(()) for _ in _tuple(option)] for name, option in options.items()
        }

    def write(self, options: Mapping[str, Any], constants: Sequence[float]) -> None:
        """Write the present options and coefficients."""
        for name, arrays in self.options.items():
            for array, number in zip(arrays, _tuple(options[name]), strict=True):
                array[()] = float(number)
        for array, number in zip(self.constants, constants):
            array[()] = number

    def first(self, count: int) -> list[Array]:
        """The arrays of so many coefficients, and those of the options."""
        return [*self.constants[:count], *itertools.chain(*self.options.values())]

    def ahead(self, options: Mapping[str, Any], constants: Sequence[Any]) -> list[Array | None]:
        """What `write` would write to the arrays of `first` in many steps; None where they stay.

        What changes is an array with a number for each step.
        """
        numbers = [*constants, *itertools.chain(*(_tuple(options[name]) for name in self.options))]
        return [
            number.astype(array.dtype) if isinstance(number, np.ndarray) else None
            for array, number in zip(self.first(len(constants)), numbers, strict=True)
        ]

    def numbers(self, trace: Tracing) -> dict[str, Any]:
        """The options as numbers that a trace computes with."""
        numbers = {name: tuple(map(trace.number, a)) for name, a in self.options.items()}
        return {name: n if len(n) > 1 else n[0] for name, n in numbers.items()}


def _tuple(option: Any) -> tuple[Any, ...]:
    return tuple(option) if isinstance(option, (tuple, list)) else (option,)


class Block:
    """The same range of all vectors of a `Flat`, short enough for the cache."""

    def __init__(self, flat: Flat, start: int, stop: int) -> None:
        self.data = flat.data[start:stop]
        self.grad = flat.grad[start:stop]
        self.scratch = flat.scratch[: stop - start]
        self._vectors = flat.vectors
        self._range = slice(start, stop)
        self._views: dict[str, Array] = {}

    def state(self, name: str, start: float = 0.0) -> Array:
        """Return the range of the vector of that name; a new vector is filled with `start`."""
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = self._vectors.find(name, start)[self._range]
        return view
