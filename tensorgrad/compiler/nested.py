"""Programs within programs: the body of a loop, and the branches of a condition.

A body is traced once, as a program of its own. In the program around it, the loop is one call. What
the body uses of that program, and of the outside, becomes an operand of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from ..engine.arrays import Spec
from ..engine.graph import Node
from ..engine.modes import set_mode
from ..engine.typing import Array, Function
from ..engine.variable import Variable
from ..errors import TraceError
from ..tree import structure
from .arguments import Arguments
from .functions import MakesNew
from .guards import Guards
from .ir import Diverged, Value
from .plan import Plan
from .results import Output, Results
from .snapshot import Snapshot
from .strides import copied
from .tracer import Tracer, location
from .tracing import Trace

# From tensors outside of a body, by their ids, to the arrays that it takes for theirs.
Pinned = dict[int, tuple[Variable, Any]]

_CHUNK = 1 << 18  # bytes of the states that are kept if those of all steps need not be


class Nested(Trace):
    """The trace of a body, inside the trace `parent`.

    `operands` are the arrays that it uses of the parent's, and `places` are where its program reads
    them. A tensor that is in `pinned` has the array that is there; others are added.
    """

    def __init__(self, parent: Trace, pinned: Pinned) -> None:
        super().__init__("")
        self.progress, self.passes = parent.progress, parent.passes
        self.backend = parent.backend
        self.parent: Trace = parent
        parent._undo.append(self.undo)
        self.executed = parent.executed
        self.operands: list[Tracer] = []
        self.places: list[Array] = []
        self.decides = False  # by elements, so that it may fail in a later call
        self._pinned = pinned
        self._captured: dict[Value, Value] = {}

    def value(self, a: Any) -> Value:
        """The value of an array; one from outside becomes an operand."""
        own = a._trace is self if isinstance(a, Tracer) else id(a) in self._values
        if own:
            return super().value(a)
        outer = self.parent.value(a)
        if outer not in self._captured:
            plain = self.parent.arrays[outer]
            stays = outer.storage.home == "state"  # where it is: it need not be copied
            array = plain if stays else copied(plain)
            self.operands.append(Tracer(self.parent, outer))
            self.places.append(array)
            self._captured[outer] = self._arrived(array, "state").value
        return self._captured[outer]

    def array(self, t: Variable) -> Any:
        """The array of a tensor, as the body sees it."""
        if isinstance(t._array, Tracer):
            return t._array
        if id(t) not in self._pinned:
            self._pinned[id(t)] = t, self.parent.array(t)
        return self._pinned[id(t)][1]

    def require(self, owner: Any, attribute: str, otherwise: Callable[[], bool]) -> None:
        """Let the program around it hold only where an attribute, or else a call, is true."""
        self.parent.require(owner, attribute, otherwise)

    def guard(self, owner: Any, *attributes: str) -> None:
        """Let the program around it hold only as long as attributes are what they are now."""
        self.parent.guard(owner, *attributes)

    def assume(self, value: Value) -> bool:
        """A decision by an element."""
        self.decides = True
        return super().assume(value)

    # -- what would have to happen once for each step

    def assign(self, t: Variable, value: Any) -> None:
        """Give a tensor that the body has made new data."""
        if not (isinstance(t._array, Tracer) and t._array._trace is self):
            _refuse(f"assigns the data of a tensor of shape {t.shape}", "return the new value")
        super().assign(t, value)

    def draw(self, _rng: np.random.Generator, _shape: tuple[int, ...], _dtype: Any) -> Tracer:
        """Raise a TraceError."""
        _refuse("draws random numbers", "draw them before, and pass them in xs")

    def grad(self, node: Node) -> Any:
        """Raise a TraceError."""
        _refuse(f"reads or changes the gradient of a {node}", "use tensorgrad.grad in it")

    def set_grad(self, node: Node, _g: Any) -> None:
        """Raise a TraceError."""
        self.grad(node)

    def effect(self, fun: Function, *args: Any, writes: Sequence[Array] = ()) -> Any:
        """Call a Python function at this point of each step; it may not write."""
        if writes:
            self._refuse_changes()
        return super().effect(fun, *args)

    def move(self, _t: Variable, _array: Array) -> None:
        """Raise a TraceError."""
        self._refuse_changes()

    def _refuse_changes(self) -> NoReturn:
        _refuse("changes what outlives it", "do that before or after the loop")


def _refuse(what: str, cure: str) -> NoReturn:
    raise TraceError(
        f"{location()}: the body of scan, fori_loop, while_loop or cond {what}, which a compiled "
        f"one cannot do: {cure}"
    )


class Body:
    """A function of arrays as a program, inside the trace `parent`.

    `fun` is called once, with traced arrays like the `examples`, and returns a sequence of arrays,
    whose specs are `results`. What is returned by the methods are traced arrays of the parent's.
    """

    def __init__(
        self, parent: Trace, fun: Function, examples: Sequence[Any], pinned: Pinned
    ) -> None:
        self.parent = parent
        self._arrays = [np.array(getattr(a, "concrete", a), order="C") for a in examples]
        self._trace = trace = Nested(parent, pinned)
        with trace.executed.apart() as self._codes, set_mode(interpreter=trace):
            self.results = [trace.value(y) for y in fun(*map(trace.input, self._arrays))]
        for t in trace.kept():
            _refuse(f"gives a tensor of shape {t.shape} that lives on a new value", "return it")

    def change_since(self, *roots: Any) -> Callable[[], str | None]:
        """What says, later, what has changed of Python's state that the body has read."""
        checks = Guards(roots, self._codes, Snapshot(*roots), self.parent.is_read).checks
        are_same = checks.function()
        return lambda: None if are_same() else checks.changed()

    def program(self, results: Iterable[Value] | None = None) -> _Program:
        """The program, which returns all results or these."""
        results = [*(self.results if results is None else results)]
        outputs = [Output(np.ndarray, value) for value in results]
        kept = Results(outputs, structure(tuple(results)), {})
        arguments = Arguments("body", tuple(self._arrays), {}, (), ())
        specs = [Spec(v.shape, v.dtype) for v in results]
        self._trace.executed.pause()  # no code of the user's runs here
        try:
            plan = Plan(self._trace, kept, arguments, [None], is_body=True)
        finally:
            self._trace.executed.resume()
        return _Program(plan, self._trace.places, specs)

    def scan(
        self, init: Sequence[Any], xs: Sequence[Any], length: int, reverse: bool, save: bool
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Run a loop: each step gets the state and an item of the xs, and returns a state and ys.

        The state of the first step is `init`. Return the last state; with `save`, the states before
        each step, stacked; and the stacked ys.
        """
        size = len(init)
        states, ys = self.results[:size], self.results[size:]
        # A y that is a state needs no other memory.
        known = {v: (True, i) for i, v in enumerate(self._trace.inputs[:size])}
        known |= {v: (False, i) for i, v in enumerate(states)}
        others = [*dict.fromkeys(y for y in ys if y not in known)]
        known |= {v: (False, size + i) for i, v in enumerate(others)}
        program = self.program([*states, *others])
        wanted = [(True, i) for i in range(size if save else 0)] + [known[y] for y in ys]
        stacks = [*dict.fromkeys(wanted)]
        results = self._called(_Scan(program, size, length, reverse, stacks), [self], init, xs)
        stacked = dict(zip(stacks, results[size:], strict=True))
        found = [stacked[stack] for stack in wanted]
        end = len(found) - len(ys)
        return results[:size], found[:end], found[end:]

    def choose(self, other: Body, pred: Any, operands: Sequence[Any]) -> list[Any]:
        """Run this body where an array of one element is true, and else another one."""
        return self._called(_Choose(self.program(), other.program()), [self, other], pred, operands)

    def repeat(self, test: Body, init: Sequence[Any]) -> list[Any]:
        """Run the body on its results, from `init` on, as long as the test returns true."""
        return self._called(_Repeat(self.program(), test.program()), [self, test], init)

    def _called(self, run: Function, bodies: Sequence[Body], *args: Any) -> list[Any]:
        operands = [body._trace.operands for body in bodies]
        same, *results = self.parent.record(run, (operands, *args))
        if any(body._trace.decides for body in bodies) and not self.parent.assume(same.value):
            raise TraceError(
                f"{location()}: an operation in the body of a compiled {run.__name__} decides by "
                "elements, and decides otherwise at a later step: leave it out of the body"
            )
        return list(results)


Trace.bodies = Body


class _Program:
    """A program of a body, which reads its operands in `places`."""

    def __init__(
        self,
        plan: Plan,
        places: Sequence[Array],
        results: Sequence[Spec],
    ) -> None:
        self.plan = plan
        self.results = results
        self._places = places

    def take(self, operands: Sequence[Array]) -> None:
        """Put the operands where the program reads them."""
        for array, operand in zip(self._places, operands, strict=True):
            if operand is not array:
                np.copyto(array, operand)

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """Make one call."""
        results: Sequence[Array] = self.plan.run(*[np.asarray(a, order="C") for a in arrays])
        return results

    def zeros(self) -> list[Array]:
        """Zeros in place of the results."""
        return [np.zeros(spec.shape, spec.dtype) for spec in self.results]


# What the call of a loop or a condition returns first: whether all decisions by elements were those
# of the trace. If not, the other results have no meaning.
_SAME, _OTHER = np.asarray(True), np.asarray(False)


class _Scan(MakesNew):
    """The call that runs a loop, whose state is the first `size` results of the program.

    It returns the last state, and stacks of results: each is that of the result at a position, or,
    if the first part of the pair is true, of the state before each step.
    """

    __name__ = "scan"

    def __init__(
        self,
        program: _Program,
        size: int,
        length: int,
        reverse: bool,
        stacks: Sequence[tuple[bool, int]],
    ) -> None:
        self.program, self.length, self.reverse, self.stacks = program, length, reverse, stacks
        nbytes = sum(spec.size * spec.dtype.itemsize for spec in program.results[:size])
        keeps = any(i < size for _, i in stacks)
        self.chunk = length if keeps else max(1, min(length, _CHUNK // max(nbytes, 1)))
        self.memory = [  # the shapes and dtypes of stacks of all results
            ((self.chunk + 1 if i < size else length, *spec.shape), spec.dtype)
            for i, spec in enumerate(program.results)
        ]

    def __call__(
        self, operands: Sequence[Sequence[Array]], init: Sequence[Array], xs: Sequence[Array]
    ) -> tuple[Array, ...]:
        self.program.take(operands[0])
        items = [x if x.flags.c_contiguous else np.ascontiguousarray(x) for x in xs]
        rows = [np.empty(shape, dtype) for shape, dtype in self.memory]
        if self.reverse:  # all are in the order of the steps
            items, rows = [[a[::-1] for a in part] for part in (items, rows)]
        for row, start in zip(rows, init):
            row[0] = start
        # A step reads its state in one row, and writes the next one.
        size = len(init)
        before = [row[:-1] for row in rows[:size]]
        after = [row[1:] if i < size else row for i, row in enumerate(rows)]
        same, count = _SAME, 0
        for done in range(0, self.length, self.chunk):
            for row in rows[:size] if done else ():
                row[0] = row[count]
            count = min(self.chunk, self.length - done)
            arrays, results = [*before, *items], after
            if count < self.length:
                now, first = slice(done, done + count), slice(count)
                arrays = [*[a[first] for a in before], *[x[now] for x in items]]
                results = [a[first if i < size else now] for i, a in enumerate(after)]
            made = [0]
            self.program.plan.scan(arrays, results, made)
            if made[0] < count:
                same = _OTHER
                break
        stacks = [before[i] if earlier else after[i] for earlier, i in self.stacks]
        if self.reverse:
            stacks = [a[::-1] for a in stacks]
        return same, *[row[count].copy() for row in rows[:size]], *stacks


class _Choose(MakesNew):
    """The call that runs one of two programs."""

    __name__ = "cond"

    def __init__(self, if_true: _Program, if_false: _Program) -> None:
        self.programs = [if_false, if_true]

    def __call__(
        self, operands: Sequence[Sequence[Array]], pred: Any, arrays: Sequence[Array]
    ) -> tuple[Array, ...]:
        chosen = bool(pred)
        program = self.programs[chosen]
        program.take(operands[not chosen])
        try:
            return _SAME, *program.run(arrays)
        except Diverged:
            return _OTHER, *program.zeros()


class _Repeat(MakesNew):
    """The call that runs a program as long as another one returns true."""

    __name__ = "while_loop"

    def __init__(self, step: _Program, test: _Program) -> None:
        self.step, self.test = step, test

    def __call__(
        self, operands: Sequence[Sequence[Array]], state: Sequence[Array]
    ) -> tuple[Array, ...]:
        self.step.take(operands[0])
        self.test.take(operands[1])
        try:
            while self.test.run(state)[0]:
                state = self.step.run(state)
        except Diverged:
            return _OTHER, *self.step.zeros()
        return _SAME, *map(np.copy, state)
