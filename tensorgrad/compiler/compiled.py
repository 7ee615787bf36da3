"""`compile`: a function is traced once for each signature of its arguments, and then replayed."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, overload

import numpy as np

from ..engine.interpreter import eager
from ..engine.modes import is_traced, mode, set_mode
from ..engine.randomness import running
from ..engine.registry import name_of
from ..engine.tensor import Tensor
from ..engine.typing import Array, Function
from ..engine.variable import tensor_of
from ..errors import TraceError
from ..guide import guided
from ..tree import flatten, is_stateful, map as tree_map, require_arrays
from .arguments import Arguments, difference, require_call, require_parameters, require_untouched
from .backends import Backend
from .choice import Choice, Way, pays
from .guards import Guards
from .ir import Diverged, make_writeable
from .passes import Pass
from .plan import Plan, no_entry
from .results import Results, Stacked, outputs_of
from .snapshot import Snapshot, require_seeds
from .tracer import TOGETHER, location_of
from .tracing import Trace
from .turns import Turns
from .wrapper import MISS

PLANS = 32  # that are kept, those used last
_REST = "how an argument lies in memory"
MANY = 8  # traces, after which a warning is due
WAIT = 1e-4  # seconds, until a thread looks again if another one is done


P = ParamSpec("P")
R = TypeVar("R")
Result = TypeVar("Result", covariant=True)


class CompiledFunction(Protocol[P, Result]):
    """The type of a compiled function: a function with the methods `scan` and `lower`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call the function."""

    def __get__(self, instance: Any, owner: type | None = None, /) -> Callable[..., Result]:
        """Return it as a method of an object."""

    def scan(self, *batches: Any) -> Result:
        """Call it with each item of the arrays in turn; return the results, stacked."""

    def lower(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """Return the plan for such arguments."""


@overload
def compile(  # noqa: A001 (as in PyTorch)
    fun: Callable[P, R],
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    passes: Iterable[str | Pass] | None = None,
    backend: str | Backend | None = None,
) -> CompiledFunction[P, R]: ...
@overload
def compile(  # noqa: A001
    fun: None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    passes: Iterable[str | Pass] | None = None,
    backend: str | Backend | None = None,
) -> Callable[[Callable[P, R]], CompiledFunction[P, R]]: ...
@guided
def compile(  # noqa: A001
    fun: Function | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    passes: Iterable[str | Pass] | None = None,
    backend: str | Backend | None = None,
) -> Any:
    """Return the function as one flat program of NumPy calls, into memory that is planned once.

    It is called as before. A call whose arguments have new shapes or dtypes is traced: it runs as
    usual, and its operations are recorded; later calls replay them. A call with other strides
    (transposed, reversed, a part of an array) is traced too, if they decide whether a reshape is a
    view, or the strides of a result. The function may compute, differentiate in any way, and take
    whole training steps: parameters, optimizers, generators of dropout and statistics of batches
    are read and changed in place, so that all other code sees the new values. The program
    overwrites the arrays of `grad`. Results of 16 MB or more reuse the memory of earlier results
    that are no longer referenced; the program keeps the memory of at most two.

    Arguments and results are nested lists, tuples and dicts of arrays and tensors. Other arguments,
    numbers among them, and those in `static_argnums` and `static_argnames`, are part of the
    signature: another value is traced anew. So is another mode of a module, training or not.

    What the function has read of Python's state is tested in each call, and if it is another, the
    function is traced anew: global variables and those of outer functions, defaults, attributes of
    objects, classes and modules that its code names, and all items of lists, dicts and other
    containers there. Arrays from outside are read in each call where they meet arguments or
    tensors. What is computed of them alone is computed once, until their elements change: of those
    up to 4 KB, and of those that meet nothing else. Not seen are changes of what installed packages
    and NumPy define, of layers' attributes around `__setattr__` (by `vars(layer)`), of files, the
    time, the environment, and the state of libraries in C.

    What a program cannot repeat raises TraceError with the cure: decisions by elements (`if loss >
    0`, `float(t)`), a number or list of Python's that the function changes, random numbers drawn by
    itself. The call has then changed nothing. A tensor from a compiled function has no graph: take
    the derivatives inside.

    `passes` are the passes that the program goes through: their names, or functions of a program.
    By default it is all of them. A wrong result that goes away without one of them is its fault;
    their names are those of the `stages` that `lower` returns. `backend` is what makes code of the
    program: "numpy", "llvm", or a `Backend` of your own. "llvm" makes native code of what it knows,
    and needs the library llvmlite; to compile a training step takes some tenths of a second. Its
    results differ from NumPy's by roundings: sums are added up in another order, and functions such
    as `exp` are within 2 units in the last place. It does not warn of floating-point errors; where
    `np.errstate` asks for more than warnings, NumPy's program runs. Without a `backend`, it is what
    the environment's TENSORGRAD_BACKEND says, or else NumPy's, and where llvmlite is installed,
    native code after some thousand calls: when they have taken as long as it takes to compile.

    >>> net = tg.MLP(2, [8, 1], rng=0)
    >>> optimizer = tg.optim.SGD(net.parameters(), lr=0.1)
    >>> @tg.compile
    ... def step(x, y):
    ...     loss = tg.nn.mse_loss(net(x), y)
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> x, y = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0], [-1.0]])
    >>> losses = [step(x, y).item() for _ in range(100)]
    >>> losses[-1] < 0.1 * losses[0]
    True
    """
    if fun is None:
        return functools.partial(
            compile,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            passes=passes,
            backend=backend,
        )
    if not callable(fun):
        raise TypeError(f"compile: takes a function, not a {type(fun).__name__}: compile(f)(x)")
    return Compiled(fun, static_argnums, static_argnames, passes=passes, backend=backend).function()


class Supervisor:
    """Decides what is traced and planned; it is entered while that happens. This one allows all.

    `key` is the signature of a call, `calls` the length of its trace. A call that is not traced, or
    whose trace does not become a plan, runs as if the function were not compiled.
    """

    def passes(self, passes: Sequence[Pass]) -> Sequence[Pass]:
        """The passes that programs go through, of those that were chosen."""
        return passes

    def may_trace(self, _key: Any) -> bool:
        """Whether a call that no plan fits is traced."""
        return True

    def may_plan(self, _key: Any, _calls: int) -> bool:
        """Whether the trace becomes a plan."""
        return True

    def turns(self) -> Turns:
        """The calls that a new plan makes until native code takes over."""
        return Turns()

    def has_run(self, _key: Any) -> bool:
        """Whether such a plan has run already, in an earlier process.

        Then the plan computes the result, not the trace, whose last digits can differ.
        """
        return False

    def __enter__(self) -> None:
        """Begin what Ctrl-C may interrupt: everything is then as it was before the call."""

    def __exit__(self, *_error: object) -> None:
        """End it."""


class Compiled:
    """The plans of a compiled function, and which of them a call runs."""

    def __init__(
        self,
        fun: Function,
        static_argnums: int | Sequence[int] = (),
        static_argnames: str | Sequence[str] = (),
        supervisor: Supervisor = Supervisor(),  # noqa: B008 (it has no state)
        passes: Iterable[str | Pass] | None = None,
        backend: str | Backend | None = None,
    ) -> None:
        self.replay: Function = no_entry
        self._fun = self.__wrapped__ = fun
        self._name = name_of(fun)
        self._argnums = {static_argnums} if isinstance(static_argnums, int) else {*static_argnums}
        names = static_argnames
        self._argnames = {names} if isinstance(names, str) else {*names}
        if self._argnums or self._argnames:
            require_parameters(fun, self._argnums, self._argnames)
        # In the order of their last use; Ctrl-C in the `__hash__` of a key breaks an OrderedDict.
        self._plans: dict[Any, list[Plan]] = {}
        self._latest: Plan | None = None
        self._traced = 0
        self._supervisor = supervisor
        self._choice = Choice(backend, passes, supervisor.passes, supervisor.turns)
        # Who takes the token out may run a plan, or change them. A lock costs 0.15 us more.
        self._token = [None]
        self._holder = 0  # the thread that has it, if for more than a replay

    def function(self) -> Function:
        """The compiled function: it tries `replay`, which is the latest plan's, else `dispatch`.

        An object with a `__call__` would take 0.15 us longer.
        """

        def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                try:
                    result = self.replay(args)
                except Diverged:
                    result = MISS
                if result is not MISS:
                    return result
            return self.dispatch(args, kwargs)

        functools.update_wrapper(call, self._fun)
        vars(call).update(scan=self.scan, lower=self.lower)
        return call

    def dispatch(self, args: Any, kwargs: Any) -> Any:
        """Call the function by a plan that fits, or else by a new one."""
        if _is_watched():
            return self._fun(*args, **kwargs)
        call = self._taken_apart(args, kwargs)
        if mode.get().recording and call.is_tracked:
            return self._fun(*args, **kwargs)  # somebody takes the derivative by an argument
        again, result = self._alone(self._dispatched, call, args, kwargs)
        return self.dispatch(args, kwargs) if again else result

    def _dispatched(self, call: Arguments, args: Any, kwargs: Any) -> tuple[bool, Any]:
        """Whether the call must be made anew, now that there is a plan; and else the result."""
        over = None
        for plan in self._plans.get(call.key, ()):
            try:
                result = MISS if plan.is_over else plan.run(*call.arrays)
            except Diverged:
                continue
            if result is not MISS:
                self._put_last(call.key, self._plans[call.key])
                self._latest, self.replay = plan, plan.replay
                return False, result
            over = plan if plan.is_over else over
        if over is not None:
            return self._go_on(call, over)
        if not self._supervisor.may_trace(call.key):
            return False, self._fun(*args, **kwargs)
        has_run = self._supervisor.has_run(call.key)
        new, result = self._trace(call, self._choice.way(), keep=not has_run)
        if new is not None:
            way = self._choice.way_on(new) if new.is_over else None
            native = None if way is None else self._trace(call, way, keep=False)[0]
            self._keep(call, new if native is None else self._better(native, new))
        return has_run, result

    def _go_on(self, call: Arguments, over: Plan) -> tuple[bool, Any]:
        """The same where a plan's turns are over: native code takes over, if it pays."""
        way = self._choice.way_on(over)
        if way is None:
            return True, None
        new, result = self._trace(call, way)
        if new is not None and self._better(new, over) is new:
            self._plans[call.key].remove(over)
            self._keep(call, new)
        return False, result

    def _better(self, native: Plan, over: Plan) -> Plan:
        """The native plan, if it pays, or else the other one, which then makes all calls."""
        if native.turns is not None or pays(native, over):
            return native
        self._choice.stay(over)
        return over

    def _taken_apart(self, args: Any, kwargs: Any) -> Arguments:
        return Arguments(self._name, args, kwargs, self._argnums, self._argnames)

    def _alone(self, fun: Callable[..., R], *args: Any) -> R:
        """Call a function while no other thread runs a plan."""
        taken: list[None] = []
        try:
            while not taken:
                try:  # in one step, which Ctrl-C cannot divide
                    taken.extend(itertools.starmap(self._token.pop, ((),)))
                except IndexError:
                    self._require_elsewhere()
                    time.sleep(WAIT)
            self._holder = threading.get_ident()
            return fun(*args)
        finally:
            if taken:
                self._holder = 0
            self._token += taken  # in one step again

    def _require_elsewhere(self) -> None:
        """Raise a RuntimeError if it is this thread that runs a plan."""
        frame: Any = sys._getframe()
        while frame is not None and frame.f_code is not self.replay.__code__:
            frame = frame.f_back
        if frame is not None or self._holder == threading.get_ident():
            raise RuntimeError(
                f"{self._name}: a compiled call was interrupted by another one of the same function"
            )

    def _put_last(self, key: Any, plans: list[Plan]) -> None:
        """Set the plans of a key, which are the last ones in use, in one step."""
        others = self._plans.copy()
        others.pop(key, None)
        self._plans = others | {key: plans}

    def _keep(self, call: Arguments, plan: Plan) -> None:
        self._put_last(call.key, [plan, *self._plans.get(call.key, ())])
        self._latest, self.replay = plan, plan.replay
        self._traced += 1
        if self._traced == MANY + 1:
            keys, alike = [*self._plans], self._plans[call.key][1:]
            cause = difference(keys[-2], keys[-1]) if len(keys) > 1 else _REST
            if alike:
                cause = alike[0].checks.changed() or _REST
            warnings.warn(
                f"{self._name} was traced {self._traced} times, which costs far more than a call: "
                f"the last time, {cause} had changed. Pass numbers that change as arrays, and "
                "batches of one shape",
                stacklevel=6,
            )
        while sum(map(len, self._plans.values())) > PLANS:
            oldest = next(iter(self._plans))
            self._plans[oldest].pop()
            if not self._plans[oldest]:
                del self._plans[oldest]

    def _trace(
        self, call: Arguments, way: Way, keep: bool = True, with_stages: bool = False
    ) -> tuple[Plan | None, Any]:
        """Run the function once, for its results and effects; return the plan and the results.

        If that fails, or unless the effects are to `keep`, all is as it was before. What is kept
        becomes a plan only where the supervisor says so.
        """
        before = mode.get()
        roots = [self._fun, *call.things]
        trace = Trace(self._name)
        if with_stages:  # before the snapshot: to ask for a signature changes a ufunc
            trace.parameters = call.labels(self._fun)
        snapshot = Snapshot(*roots, call.leaves)
        trace.backend, trace.passes, trace.turns, test = way
        if test is not None:
            trace.require_true(test)
        trace.labels = snapshot.labels() if with_stages else ()
        trace.before_effect, trace.after_effect = snapshot.require_followed, snapshot.note_followed
        for t in snapshot.tensors:
            trace.follow(t)
        (args, kwargs), tensors = call.traced(trace)
        given = flatten((args, kwargs), is_stateful)[0]

        def undo() -> None:
            mode.set(before)
            trace.undo()
            snapshot.restore()

        try:
            with self._supervisor, trace.progress:
                y = self._run(trace, snapshot, args, kwargs)
                require_untouched(self._name, given, (args, kwargs), tensors)
                snapshot.require_unchanged(trace.drawn)
                require_seeds(trace.executed.entropy)
                outputs, structure = outputs_of(trace, y, snapshot.tensors)
                del y, args, kwargs, given, tensors
                results = Results(outputs, structure, trace.settle(snapshot.tensors))
                trace.require_nothing_kept()
                returned, plan = results.traced(trace), None
                if not keep or self._supervisor.may_plan(call.key, len(trace.calls)):
                    trace.require_same(Guards(roots, trace.executed.codes, snapshot, trace.is_read))
                    plan = Plan(trace, results, call, self._token, with_stages)
        except BaseException:  # Ctrl-C among them, at any place
            completed(undo)
            raise
        if not keep:
            completed(undo)
        return plan, returned

    def _run(self, trace: Trace, snapshot: Snapshot, args: Any, kwargs: Any) -> Any:
        try:
            snapshot.protect()
            trace.executed.start()
            with set_mode(interpreter=trace):
                y = self._fun(*args, **kwargs)
                trace.finish()
                return y
        except (ValueError, TypeError) as error:
            if "read-only" in str(error) or "output array" in str(error):
                raise TraceError(
                    f"{location_of(error)}: {self._name} changes an array, which would not change "
                    "in compiled calls: keep it in a tensor's data, or pass it as an argument and "
                    "return the new one"
                ) from error
            if isinstance(
                error.__cause__, TraceError
            ):  # as of a[0] = x[0], from NumPy's float(x[0])
                raise TraceError(
                    f"{location_of(error)}: {self._name} writes into an array that it makes by "
                    f"NumPy, which cannot be compiled: {TOGETHER}"
                ) from error
            if "<traced" in str(error):  # as by NumPy, of a shape
                raise TraceError(
                    f"{location_of(error)}: a shape or another parameter that depends on the "
                    "elements of an array cannot be compiled: leave this part out of the function"
                ) from error
            raise
        finally:
            trace.executed.stop()
            make_writeable([*snapshot.protected, *trace.protected])

    def lower(self, *args: Any, **kwargs: Any) -> Plan:
        """Return the plan for such arguments: nothing is changed, and nothing kept.

        `print(plan)` lists the calls, with the shapes and the memory of what they make, and with
        the lines of the function that they are due to. `plan.source` is the code,
        `plan.peak_bytes` the memory for temporary arrays; `plan.profile()` times each call.
        `plan.export(path)` writes an object file and a header for programs in C.
        `plan.stages` is a list of the program as it was traced, and as each pass left it. A stage
        has a `name` and a `program`; `print(stage)` shows a line for each call.

        >>> plan = tg.compile(lambda x: np.sum(np.exp(x))).lower(np.ones(1000))
        >>> plan.peak_bytes <= 8100
        True
        """
        require_call("lower", self._fun, args, kwargs)
        way = self._choice.way()._replace(turns=None)
        plan, _ = self._alone(self._trace, self._taken_apart(args, kwargs), way, False, True)
        assert plan is not None
        return plan

    def scan(self, *batches: Any) -> Any:
        """Call the function with each item of the arrays in turn; return the results, stacked.

        The arrays, or nested lists, tuples and dicts of them, have the calls along their first
        axis; so do the results. Between the calls no Python is run but that of schedules; in native
        code, the learning rates of many calls are computed before the first of them.

        >>> total = tg.Tensor(0.0)
        >>> @tg.compile
        ... def add(x):
        ...     total.data += x
        ...     return total.data
        >>> add.scan(np.array([1.0, 2.0, 3.0]))
        array([1., 3., 6.])
        """
        require_call("scan", self._fun, batches, {})
        leaves, structure = flatten(batches)
        require_arrays(leaves, structure, "scan", "batches{}".format, "leave it out")
        arrays = [np.asarray(a.data if isinstance(a, Tensor) else a) for a in leaves]
        lengths = {len(a) if a.ndim else 0 for a in arrays}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"scan: arrays of shapes {[a.shape for a in arrays]}: all need a first axis of the "
                "same length, at least 1: each call gets one item of it"
            )
        count, done = lengths.pop(), [0]

        def item(i: int) -> Any:
            return structure.unflatten(
                tensor_of(a[i, ...], None) if isinstance(leaf, Tensor) else a[i, ...]
                for a, leaf in zip(arrays, leaves, strict=True)
            )

        if is_traced():  # another compiled function makes all of the calls
            calls = [self._fun(*item(i)) for i in range(count)]
            return tree_map(lambda *parts: np.stack(parts), *calls)
        results = Stacked(count)
        while done[0] < count:
            plan, result = self.by_plan(item(done[0]))
            results.put(done[0], result)
            done[0] += 1
            if plan is not None:
                self.go_on(plan, arrays, results, done)
        return results.stacked()

    def by_plan(self, args: Any) -> tuple[Plan | None, Any]:
        """Make a call; return a plan that fits such arguments, if there is one, and the result."""
        plan = self._latest
        if plan is not None:
            try:
                result = plan.replay(args)
            except Diverged:
                result = MISS
            if result is not MISS:
                return plan, result
        result = self.dispatch(args, {})
        plan, key = self._latest, self._taken_apart(args, {}).key
        fits = plan in self._plans.get(key, ()) and not _is_watched()
        return (plan if fits else None), result

    def go_on(self, plan: Plan, arrays: Sequence[Array], results: Stacked, done: list[int]) -> None:
        """Make calls by a plan, for items of arrays from `done[0]` on, and count them there.

        It ends where the plan does not fit, or its turns are over. The results have been given one.
        """
        rest = len(arrays[0]) - done[0]
        if rest and (plan.turns is None or plan.turns.scanned(rest)):
            self._alone(plan.scan, arrays, results.arrays, done)


def _is_watched() -> bool:
    """Whether somebody sees each operation: another compiled function, hooks, or samples' own."""
    now = mode.get()
    return bool(now.interpreter is not eager or now.hooks or now.backward_hooks or running.get())


def completed(fun: Callable[[], None]) -> None:
    """Call a function that may be called twice; Ctrl-C is raised after it is done."""
    try:
        fun()
    except KeyboardInterrupt:
        fun()
        raise
