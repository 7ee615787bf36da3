"""Loops and conditions as functions: in a compiled function, their bodies are traced once.

In eager mode they are Python's `for`, `while` and `if`, and each step is recorded. In a compiled
function a loop is one call of a program of its own, with a rule: the derivative of a scan is a scan
in the other direction, over the carries that the first one has saved. The derivative of that is a
scan again, and so on. So no program grows with the number of steps, at any order.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from types import CellType, FunctionType
from typing import Any, NoReturn

import numpy as np

from .engine.arrays import Spec, as_array, spec_of
from .engine.backward import backpropagate, saved
from .engine.batching import Batch, NotBatchedError, enter, leave, levels_of
from .engine.dispatch import apply, parts_of, revive
from .engine.frames import users_line
from .engine.graph import Node, ancestors, node_of, now
from .engine.interpreter import Body, Tracing
from .engine.modes import enable_grad, is_traced, mode, no_grad, plain
from .engine.primitives import alias
from .engine.randomness import running
from .engine.registry import RULES, Rule, Together
from .engine.tensor import Tensor
from .engine.typing import Function
from .engine.variable import tensor_of
from .errors import GraphError
from .samples import select, while_of_all
from .tree import MismatchError, TreeDef, flatten, flatten_up_to, require_arrays

# -- scan and fori_loop


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Call `f(carry, x)` for each item of the arrays `xs`; return the last carry, and all ys.

    `f` returns `(carry, y)`. The first carry is `init`; each further one is what `f` has returned
    before. `xs`, the carry and y are trees of arrays, tensors and numbers, or None. Arrays in `xs`
    have the steps along their first axis; so have the stacked ys that are returned. With `reverse`,
    the last item comes first. `length` is the number of steps, needed if `xs` holds no arrays.

    The carry keeps its structure, shapes and dtypes: a TypeError names the step and the part that
    changes. A number in `init` takes the dtype that it has after the first step. If there are no
    steps, `f` is called once with zeros to find what y is.

    Gradients of every order reach `init`, `xs` and all tensors that `f` uses. A compiled function
    traces `f` a few times, regardless of the number of steps. For the derivative it saves the carry
    before each step, and computes everything else again; so a GraphError is raised if what `f` uses
    has changed by then. There, `f` can neither draw random numbers nor change anything outside. To
    save fewer carries, nest two scans: a `checkpoint` of the inner one saves nothing of its steps.

    >>> def step(total, x):
    ...     return total + x, total * x
    >>> tg.scan(step, 0.0, np.array([1.0, 2.0, 3.0]))
    (array(6.), array([0., 2., 9.]))
    >>> power = lambda x: tg.scan(lambda c, _: (c * x, None), 1.0, length=3)[0]
    >>> tg.compile(tg.grad(power))(np.array(2.0))  # the derivative of x**3
    array(12.)
    """
    return _scan("scan", f, init, xs, length, reverse)


def fori_loop(lower: int, upper: int, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """Return the last result of `value = body(i, value)` for i from `lower` to `upper - 1`.

    It is a `scan` without xs and ys; the first value is `init`. `i` is an array of int64 without
    axes: it takes an item of a tensor, `tg.asarray(a)[i]`, but in a compiled function none of a
    plain array. The bounds are integers of Python's: for others use `while_loop`.

    >>> tg.fori_loop(0, 5, lambda i, x: x + i, np.array(0.0))
    array(10.)
    """
    try:
        steps = range(operator.index(lower), operator.index(upper))
    except Exception as error:
        error.add_note(
            "fori_loop: the bounds are Python's integers: use tensorgrad.while_loop for others"
        )
        raise
    numbers = np.arange(steps.start, max(steps.start, steps.stop))
    return _scan("fori_loop", lambda value, i: (body(i, value), None), init, numbers)[0]


def _scan(
    name: str,
    f: Function,
    init: Any,
    xs: Any,
    length: int | None = None,
    reverse: bool = False,
    is_users: bool = True,
) -> tuple[Any, Any]:
    carry = _Carry(name, init)
    items, treedef = flatten(xs)
    require_arrays(items, treedef, name, "xs{}".format, "pass it in init")
    items = [as_array(x, name) for x in items]
    length = _length(name, items, treedef, length)

    def step(value: Any, x: Any, i: int | None = None) -> tuple[Any, Any]:
        result = f(value, x)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"{name}: the function must return a pair, (carry, y), not a "
                f"{type(result).__name__}; y may be None"
            )
        return carry.checked(result[0], "" if i is None else f"step {i}: "), result[1]

    interpreter = mode.get().interpreter
    if not length:
        return carry.value, _no_ys(name, step, carry.value, items, treedef)
    if isinstance(interpreter, Tracing) and not running.get():  # in a vmap, steps are unrolled
        f = _as_of_now(f)
        traced = _TracedScan(name, step, carry, (items, treedef), length, reverse)
        return traced.run(interpreter, [f] * is_users)
    rows = [[*x] if isinstance(x, Tensor) else [x[i, ...] for i in range(length)] for x in items]
    value, ys = init, []
    for i in reversed(range(length)) if reverse else range(length):
        value, y = step(value, treedef.unflatten([row[i] for row in rows]), i)
        ys.append(y)
    return value, _stacked(name, ys[::-1] if reverse else ys)


def _length(name: str, items: Sequence[Any], treedef: TreeDef, length: int | None) -> int:
    """The number of steps."""
    shapes = [x.shape for x in items]
    counts = {shape[0] if shape else -1 for shape in shapes}
    if length is not None:
        counts.add(operator.index(length))
    if len(counts) == 1 and min(counts) >= 0:
        return int(min(counts))
    if not counts:
        raise ValueError(f"{name}: xs holds no arrays: pass length=, the number of steps")
    found = [f"xs{path} of shape {s}" for path, s in zip(treedef.paths(), shapes, strict=True)]
    found += [f"length={length}"] * (length is not None)
    raise ValueError(
        f"{name}: {', '.join(found)}: all need a first axis of one length, along which the steps "
        "are; pass other arrays in init, or use them in the function directly"
    )


def _no_ys(name: str, step: Function, init: Any, items: Sequence[Any], treedef: TreeDef) -> Any:
    """The ys of no step."""
    zeros = treedef.unflatten([np.zeros(x.shape[1:], x.dtype) for x in items])
    with no_grad(), np.errstate(all="ignore"):
        leaves, y_treedef = flatten(step(init, zeros)[1])
    require_arrays(leaves, y_treedef, name, "y{}".format, "leave it out")
    arrays = [as_array(plain(y), name) for y in leaves]
    return y_treedef.unflatten(np.zeros((0, *y.shape), y.dtype) for y in arrays)


def _stacked(name: str, ys: Sequence[Any]) -> Any:
    """The results of all steps, stacked."""
    leaves, treedef = flatten(ys[0])
    require_arrays(leaves, treedef, name, "y{}".format, "leave it out")
    rows = []
    for i, y in enumerate(ys):
        try:
            rows.append(flatten_up_to(treedef, y, exactly=True))
        except MismatchError as error:
            told = error.told("at step 0, y", f"at step {i}, y")
            raise TypeError(f"{name}: y must have one structure: {told}") from None
    return treedef.unflatten([np.stack(_alike(column)) for column in zip(*rows)])


def _alike(column: Sequence[Any]) -> list[Any]:
    """The arrays, and numbers in their dtype, as come from a number in `init`."""
    dtypes = [y.dtype for y in column if not _is_number(y)]
    dtype = np.result_type(*dtypes) if dtypes else None
    return [np.asarray(y, dtype) if _is_number(y) else y for y in column]


def _is_number(leaf: Any) -> bool:
    """Whether it is a number of Python's, which has no dtype of its own."""
    return isinstance(leaf, (int, float, complex)) and not isinstance(leaf, np.generic)


class _Carry:
    """The value that a loop hands on from step to step, with all that it keeps.

    `value` is the first one, in which numbers are arrays; `leaves` are its leaves as they came.
    """

    def __init__(self, name: str, init: Any) -> None:
        self.name = name
        self.leaves, self.treedef = flatten(init)
        require_arrays(self.leaves, self.treedef, name, "init{}".format, "leave it out")
        arrays = [as_array(a, name) for a in self.leaves]
        self.value = self.treedef.unflatten(arrays)
        self._specs = [
            (a.shape, None if _is_number(leaf) else a.dtype)
            for a, leaf in zip(arrays, self.leaves, strict=True)
        ]

    def checked(self, value: Any, where: str) -> Any:
        """The carry that a step returned, if it is like the one before."""
        try:
            leaves = flatten_up_to(self.treedef, value, exactly=True)
        except MismatchError as error:
            told = error.told("before, carry", "after, carry")
            raise TypeError(
                f"{self.name}: {where}the carry must keep its structure: {told}"
            ) from None
        require_arrays(leaves, self.treedef, self.name, "carry{}".format, "leave it out")
        arrays = [as_array(a, self.name) for a in leaves]
        for i, (a, (shape, dtype)) in enumerate(zip(arrays, self._specs, strict=True)):
            if a.shape != shape or (dtype is not None and a.dtype != dtype):
                before = f"shape {shape}" + (f", dtype {dtype}" if dtype else "")
                raise TypeError(
                    f"{self.name}: {where}carry{self.treedef.paths()[i]} must keep its shape and "
                    f"dtype: before, {before}; after, {spec_of(a)}: change init, or cast the result"
                )
            self._specs[i] = shape, a.dtype
        return self.treedef.unflatten(arrays)


# -- while_loop


def while_loop(cond: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
    """Return the first of `init`, `body(init)`, `body(body(init))` ... for which `cond` is false.

    `cond` returns one bool. The value is a tree of arrays, tensors and numbers that keeps its
    structure, shapes and dtypes. Nothing is saved, so a loop has no derivative: asking for it
    raises a GraphError. Where the number of steps is known, `scan` and `fori_loop` have one.

    >>> tg.while_loop(lambda x: x < 100, lambda x: x * 2, np.array(3.0))
    array(192.)
    """
    if running.get():
        return while_of_all(_while_loop, cond, body, init)
    return _while_loop(cond, body, init)


def _while_loop(cond: Function, body: Function, init: Any) -> Any:
    carry = _Carry("while_loop", init)
    interpreter = mode.get().interpreter
    if isinstance(interpreter, Tracing):
        cond, body = _as_of_now(cond), _as_of_now(body)
        value, sources = _traced_repeated(interpreter, cond, body, carry)
    else:
        value, sources = _repeated(cond, body, carry, init)
    leaves, treedef = flatten(value)
    call = _Call("while_loop", sources, carry.leaves)
    return treedef.unflatten(call.results(leaves, [], [spec_of(a) for a in carry.leaves], _no_vjp))


def _repeated(cond: Function, body: Function, carry: _Carry, value: Any) -> tuple[Any, list[Node]]:
    """The last value of a loop, without a graph, and the nodes from which it was computed."""
    sources: dict[Node, None] = {}
    for i in itertools.count():
        leaves, treedef = flatten(value)
        value = treedef.unflatten(
            [tensor_of(plain(a), None) if isinstance(a, Tensor) else a for a in leaves]
        )
        if not _decision("while_loop", cond(value)):
            return value, [*sources]
        start = now()
        value = carry.checked(body(value), f"step {i}: ")
        sources |= dict.fromkeys(_sources(flatten(value)[0], start))
    raise AssertionError


def _no_vjp(_g: Any, _out: Any, *_args: Any) -> NoReturn:
    raise GraphError(
        "while_loop: it has no derivative, as nothing is saved of its steps: use tensorgrad.scan "
        "or fori_loop with a number of steps, or detach() what goes into the loop"
    )


def _decision(name: str, pred: Any) -> Any:
    """The array of one element that decides, or a bool."""
    pred = plain(pred)
    if np.size(pred) != 1:
        raise TypeError(
            f"{name}: it takes one element to decide, not an array of shape {np.shape(pred)}: use "
            "numpy.any or numpy.all, or numpy.where for a decision about each element"
        )
    return pred


# -- cond


def cond(
    pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any
) -> Any:
    """Return `true_fun(*operands)` if `pred` is true, or else `false_fun(*operands)`.

    Only one of them runs. `pred` is a bool, or an array or a tensor of one element. Operands and
    results are trees of arrays, tensors and numbers. Gradients of every order reach the operands
    and all tensors that the functions use; none reaches `pred`. Where each element decides, use
    `np.where`.

    In a compiled function both functions are traced, and each call runs one of them. There their
    results must have the same structure, shapes and dtypes, or a TypeError is raised; they can
    neither draw random numbers nor change anything outside; and what they use must not change until
    the derivative is computed. If `pred` is a bool of Python's or NumPy's, it is decided while
    tracing.

    >>> f = lambda x: tg.cond(np.sum(x) > 0, np.sqrt, np.negative, x)
    >>> tg.compile(f)(np.array([1.0, 4.0])), f(np.array([-1.0, -4.0]))
    (array([1., 2.]), array([1., 4.]))
    """
    pred = _decision("cond", pred)
    if isinstance(pred, Batch) or (running.get() and is_traced()):
        return select(pred, true_fun(*operands), false_fun(*operands))
    return _cond(pred, true_fun, false_fun, operands)


def _cond(
    pred: Any,
    true_fun: Function,
    false_fun: Function,
    operands: Sequence[Any],
    is_users: bool = True,
) -> Any:
    interpreter = mode.get().interpreter
    if not isinstance(interpreter, Tracing) or isinstance(pred, (bool, np.bool_)):
        return true_fun(*operands) if pred else false_fun(*operands)
    branches = [_as_of_now(true_fun), _as_of_now(false_fun)]
    return _TracedCond(pred, branches, operands).run(interpreter, branches * is_users)


# -- in a compiled function: bodies are programs of their own


def _as_of_now(f: Any, known: dict[Function, Function] | None = None) -> Any:
    """The function with the variables that it has now, and so the functions among these.

    The body is traced again for its derivative, when a Python loop may have changed them.
    """
    known = {} if known is None else known
    if not isinstance(f, FunctionType) or f.__closure__ is None or f in RULES:
        return f
    if f not in known:
        cells = tuple([CellType() for _ in f.__closure__])
        same = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, cells)
        same.__kwdefaults__ = f.__kwdefaults__
        known[f] = same
        vars(same).update({name: _as_of_now(value, known) for name, value in vars(f).items()})
        for own, cell in zip(cells, f.__closure__):
            with contextlib.suppress(ValueError):  # it is not assigned yet
                own.cell_contents = _as_of_now(cell.cell_contents, known)
    return known[f]


def _sources(results: Iterable[Any], start: int) -> list[Node]:
    """The nodes older than `start` from which results were computed, in a fixed order."""
    roots = [y._node for y in results if isinstance(y, Tensor) and y._node is not None]
    return [node for node in ancestors(*roots, since=start) if node.serial < start]


class _Body:
    """A function that is traced as a program of its own, and its pullback.

    It takes the leaves of its arguments, and returns those of its result; `leaves` are examples of
    which numbers are fixed. Once it is traced, `sources` are the nodes that it uses from outside,
    `treedef` and `is_tensor` describe its result.
    """

    def __init__(self, name: str, f: Function, leaves: Sequence[Any], arguments: TreeDef) -> None:
        self.name = name
        self.sources: list[Node] = []
        self.treedef = arguments
        self.is_tensor: list[bool] = []
        self._f = f
        self._arguments = arguments
        self._leaves = [leaf if _is_number(leaf) else None for leaf in leaves]
        self._are_tensors = [isinstance(a, Tensor) for a in leaves if not _is_number(a)]
        self._pinned: dict[int, Any] = {}
        self._change: Callable[[], str | None] = lambda: None

    def __call__(self, arrays: Iterable[Any]) -> list[Any]:
        given = iter(arrays)
        leaves = [next(given) if leaf is None else leaf for leaf in self._leaves]
        results, self.treedef = flatten(self._f(*self._arguments.unflatten(leaves)))
        require_arrays(results, self.treedef, self.name, "result{}".format, "leave it out")
        return [as_array(y, self.name) for y in results]

    def traced(self, trace: Tracing, examples: Sequence[Any]) -> Body:
        """The program, for arguments like the examples."""

        def run(*arrays: Any) -> list[Any]:
            pairs = zip(arrays, self._are_tensors, strict=True)
            start = now()
            results = self([tensor_of(a, None) if is_tensor else a for a, is_tensor in pairs])
            self.sources = _sources(results, start)
            self.is_tensor = [isinstance(y, Tensor) for y in results]
            return [*map(plain, results)]

        return trace.body(run, examples, self._pinned)

    def watch(self, program: Body, used: Sequence[Function]) -> None:
        """Let the derivative require that what the user's functions have read stays as it is."""
        if used:
            self._change = program.change_since(*used)

    def pull(
        self, arrays: Sequence[Any], cotangents: Sequence[Any], recorded: bool
    ) -> tuple[list[Any], list[Any]]:
        """The cotangents of the arguments and of the sources, given those of the results.

        None stands for the cotangent of an array that has none, and for zeros.
        """
        if (change := self._change()) is not None:
            raise GraphError(
                f"{self.name}: {change} has changed before the derivative is computed, where a "
                "compiled function traces the body again: change a copy"
            )
        fresh = [_fresh(a) if a.dtype.kind in "fc" else a for a in arrays]
        ends: list[Any] = [x._node if x.dtype.kind in "fc" else None for x in fresh]
        start = now()
        with enable_grad():
            results = self(fresh)
        seeds: dict[Node, Any] = {}
        for y, g in zip(results, cotangents, strict=True):
            if g is not None and isinstance(y, Tensor) and y._node is not None:
                seeds[y._node] = seeds[y._node] + g if y._node in seeds else g
        targets: set[Any] = {*ends, *self.sources} - {None}
        nodes = ancestors(*seeds, since=start)
        if any(node.serial < start and node not in targets for node in nodes):
            raise GraphError(
                f"{self.name}: the function uses other tensors for the derivative than before: "
                "what it uses must not change until then"
            )
        operands = revive if recorded else saved
        found = backpropagate(nodes, seeds, targets, operands=operands, since=start)
        return [found.get(end) for end in ends], [found.get(node) for node in self.sources]


def _fresh(a: Any) -> Any:
    """A tensor with the value of an array or tensor, and a new node."""
    if isinstance(a, Tensor) and a.requires_grad and mode.get().recording:
        return apply(alias, (a,))
    return tensor_of(plain(a), node_of(a.shape, a.dtype, RULES[alias]))


def _total(g: Any, share: Any) -> Any:
    """The sum of two cotangents, None standing for zeros."""
    return share if g is None else g if share is None else g + share


def _or_zeros(g: Any, like: Any) -> Any:
    return np.zeros(like.shape, like.dtype) if g is None else g


def _of_floats(found: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """The cotangents of those arrays that have one; None for the others."""
    pairs = zip(found, arrays, strict=True)
    return [_or_zeros(g, a) if a.dtype.kind in "fc" else None for g, a in pairs]


class _Rows:
    """The rows of a Jacobian, whose cotangents a body carries back in one pass.

    Inside of the body, a cotangent is a batch; outside it is an array with an axis for the rows.
    """

    def __init__(self, cotangents: Sequence[Any], recorded: bool) -> None:
        levels = {level for g in cotangents for level in levels_of(plain(g))}
        if len(levels) > 1 or (levels and recorded):
            raise NotBatchedError("a loop or a condition in a compiled function")
        self._level = next(iter(levels), None)

    def inside(self, arrays: Iterable[Any], axis: int = 0) -> list[Any]:
        """Batches in place of arrays."""
        if self._level is None:
            return [*arrays]
        return [None if a is None else enter(a, self._level, axis) for a in arrays]

    def outside(self, batches: Iterable[Any], axis: int = 0) -> list[Any]:
        """Arrays in place of batches."""
        if self._level is None:
            return [*batches]
        return [None if a is None else leave(a, self._level, axis) for a in batches]


def _unless_zero(g: Any) -> Any:
    """A cotangent, or None for zeros that a backward pass has filled in."""
    return None if type(g) is np.ndarray and not g.any() else g


class _Call:
    """A call of a loop or a condition, which becomes a node if it is tracked.

    Its parents are the nodes that the body uses from outside, and those of the operands.
    """

    def __init__(self, name: str, sources: Sequence[Node], operands: Sequence[Any]) -> None:
        self.name = name
        self.parents = [*sources, *[a._node if isinstance(a, Tensor) else None for a in operands]]
        self.sources = sources
        self.is_tracked = mode.get().recording and any(self.parents)

    def results(
        self, results: Sequence[Any], kept: Sequence[Any], args: Sequence[Any], vjp: Function
    ) -> list[Any]:
        """The results, recorded if the call is tracked.

        `vjp(g, out, *args)` returns the cotangents of the parents; `g` are those of what is `kept`
        for it, which `out` begins with, and of the results. `args` are the operands, or specs of
        those that it does not read.
        """
        if not self.is_tracked:
            return [*results]

        def named(*args: Any) -> Any:
            return vjp(*args)

        named.__name__ = self.name
        arrays = [*map(plain, results)]
        call = node_of(
            (),
            np.dtype(float),
            Rule(named, Together(named, len(self.parents))),
            self.parents,
            [*self.sources, *args],
            out=(*kept, *map(spec_of, arrays)),
        )
        call.line = users_line(sys._getframe())
        return list(parts_of(call, (*kept, *arrays))[len(kept) :])


def _is_recorded(*given: Sequence[Any]) -> bool:
    """Whether a derivative is computed with tensors, so that it can be differentiated again."""
    return any(isinstance(a, Tensor) for arrays in given for a in arrays)


def _as_tensors(arrays: Sequence[Any], is_tensor: Sequence[bool]) -> list[Any]:
    return [tensor_of(a, None) if t else a for a, t in zip(arrays, is_tensor, strict=True)]


class _TracedScan:
    """A scan in a compiled function. The leaves of the carry come before those of the xs."""

    def __init__(
        self,
        name: str,
        step: Function,
        carry: _Carry,
        xs: tuple[Sequence[Any], TreeDef],
        length: int,
        reverse: bool,
    ) -> None:
        self.name, self.step, self.carry = name, step, carry
        self.items, treedef = xs
        self.arguments = TreeDef(tuple, range(2), (carry.treedef, treedef))
        self.length, self.reverse = length, reverse
        self.size = len(carry.leaves)

    def run(self, trace: Tracing, used: Sequence[Function]) -> tuple[Any, Any]:
        """The last carry, and the stacked ys; `used` are the user's functions."""
        init = self.carry.leaves
        body, program = self._traced(trace, init)
        if any(map(_is_number, init)):
            init = _with_dtypes(init, program.results)
            body, program = self._traced(trace, init)
        call = _Call(self.name, body.sources, [*init, *self.items])
        if call.is_tracked:
            body.watch(program, used)
        last, before, ys = program.scan(
            [*map(plain, init)],
            [*map(plain, self.items)],
            self.length,
            self.reverse,
            call.is_tracked,
        )
        results = _as_tensors([*last, *ys], body.is_tensor)
        args = [*map(spec_of, init), *map(plain, self.items)]
        results = call.results(results, before, args, self._pullback(body))
        carry, stacked = body.treedef.unflatten(results)
        return carry, stacked

    def _traced(self, trace: Tracing, init: Sequence[Any]) -> tuple[_Body, Body]:
        body = _Body(self.name, self.step, [*init, *self.items], self.arguments)
        first = -1 if self.reverse else 0
        items = [getattr(plain(x), "concrete", plain(x))[first, ...] for x in self.items]
        arrays = [plain(a) for a in init if not _is_number(a)]
        return body, body.traced(trace, [*arrays, *items])

    def _pullback(self, body: _Body) -> Function:
        size, length, reverse = self.size, self.length, not self.reverse

        def pullback(g: Sequence[Any], out: Sequence[Any], *args: Any) -> list[Any]:
            before, items = out[:size], args[len(body.sources) + size :]
            recorded = _is_recorded(g, out, items)
            rows = _Rows(g, recorded)
            of_before, of_last, of_ys = g[:size], g[size : 2 * size], g[2 * size :]

            def step(bars: Any, x: Any) -> Any:
                of_carry, of_sources = map(rows.inside, bars)
                cotangents = [*of_carry, *rows.inside(x["ys"])]
                found, shares = body.pull([*x["before"], *x["xs"]], cotangents, recorded)
                of_carry = [
                    None if g is None else _or_zeros(_total(share, more), g)
                    for g, share, more in zip(of_carry, found, rows.inside(x["of_before"]))
                ]
                of_sources = [_total(g, share) for g, share in zip(of_sources, shares)]
                of_xs = _of_floats(found[size:], x["xs"])
                return (rows.outside(of_carry), rows.outside(of_sources)), rows.outside(of_xs)

            pairs = zip(of_last, before, strict=True)
            init = (
                rows.outside(g if a.dtype.kind in "fc" else None for g, a in pairs),
                rows.outside(np.zeros(node.shape, node.dtype) for node in body.sources),
            )
            xs = {
                "before": [*before],
                "xs": [*items],
                "ys": rows.outside(map(_unless_zero, of_ys), axis=1),
                "of_before": rows.outside(map(_unless_zero, of_before), axis=1),
            }
            (of_carry, of_sources), of_xs = _scan(
                self.name, step, init, xs, length, reverse, is_users=False
            )
            found = [*rows.inside(of_sources), *rows.inside(of_carry)]
            return [*found, *rows.inside(of_xs, axis=1)]

        return pullback


def _traced_repeated(
    trace: Tracing, cond: Function, body: Function, carry: _Carry
) -> tuple[Any, list[Node]]:
    """The last value of a loop in a compiled function, and the nodes that its body uses."""
    name, arguments = "while_loop", TreeDef(tuple, range(1), (carry.treedef,))

    def step(value: Any) -> Any:
        return carry.checked(body(value), "")

    def test(value: Any) -> Any:
        return _decision(name, cond(value))

    def traced(f: Function, leaves: Sequence[Any]) -> tuple[_Body, Body]:
        traced = _Body(name, f, leaves, arguments)
        return traced, traced.traced(trace, [plain(a) for a in leaves if not _is_number(a)])

    init = carry.leaves
    stepped, program = traced(step, init)
    if any(map(_is_number, init)):
        init = _with_dtypes(init, program.results)
        stepped, program = traced(step, init)
    arrays = program.repeat(traced(test, init)[1], [*map(plain, init)])
    return carry.treedef.unflatten(_as_tensors(arrays, stepped.is_tensor)), stepped.sources


def _with_dtypes(leaves: Sequence[Any], specs: Sequence[Spec]) -> list[Any]:
    """The leaves, in which numbers are arrays of these dtypes."""
    return [np.asarray(a, spec.dtype) if _is_number(a) else a for a, spec in zip(leaves, specs)]


class _TracedCond:
    """A condition in a compiled function."""

    def __init__(self, pred: Any, branches: Sequence[Function], operands: Sequence[Any]) -> None:
        self.pred = pred
        self.leaves, arguments = flatten(tuple(operands))
        require_arrays(self.leaves, arguments, "cond", "operands{}".format, "leave it out")
        self.arrays = [a for a in self.leaves if not _is_number(a)]
        self.bodies = [_Body("cond", f, self.leaves, arguments) for f in branches]

    def run(self, trace: Tracing, used: Sequence[Function]) -> Any:
        """The result of the function that is chosen; `used` are the user's functions."""
        programs = [body.traced(trace, [*map(plain, self.arrays)]) for body in self.bodies]
        self._require_same(*[program.results for program in programs])
        sources = [*dict.fromkeys(node for body in self.bodies for node in body.sources)]
        call = _Call("cond", sources, self.arrays)
        for body, program in zip(self.bodies, programs) if call.is_tracked else ():
            body.watch(program, used)
        arrays = [*map(plain, self.arrays)]
        results = programs[0].choose(programs[1], self.pred, arrays)
        is_tensor = [any(pair) for pair in zip(*[body.is_tensor for body in self.bodies])]
        results = call.results(_as_tensors(results, is_tensor), [], arrays, self._pullback(sources))
        return self.bodies[0].treedef.unflatten(results)

    def _require_same(self, of_true: Sequence[Spec], of_false: Sequence[Spec]) -> None:
        """Raise a TypeError unless both functions return the same structure, shapes and dtypes."""
        treedef, other = [body.treedef for body in self.bodies]
        if treedef != other:
            raise TypeError(
                f"cond: both functions must return the same structure: true_fun returns {treedef}, "
                f"false_fun {other}"
            )
        for path, a, b in zip(treedef.paths(), of_true, of_false, strict=True):
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                raise TypeError(
                    "cond: both functions must return the same shapes and dtypes: result"
                    f"{path} of true_fun has {Spec.__str__(a)}, that of false_fun "
                    f"{Spec.__str__(b)}"
                )

    def _pullback(self, sources: Sequence[Node]) -> Function:
        pred, bodies = self.pred, self.bodies

        def pullback(g: Sequence[Any], _out: Any, *args: Any) -> list[Any]:
            operands = args[len(sources) :]
            recorded = _is_recorded(g, operands)
            rows = _Rows(g, recorded)

            def pulled(body: _Body) -> Function:
                def pull(arrays: Sequence[Any], cotangents: Sequence[Any]) -> Any:
                    found, shares = body.pull(arrays, rows.inside(cotangents), recorded)
                    of_node = dict(zip(body.sources, shares, strict=True))
                    of_sources = [_or_zeros(of_node.get(node), node) for node in sources]
                    return rows.outside(of_sources), rows.outside(_of_floats(found, arrays))

                return pull

            cotangents = rows.outside(map(_unless_zero, g))
            if_true, if_false = map(pulled, bodies)
            given = [[*operands], cotangents]
            of_sources, of_operands = _cond(pred, if_true, if_false, given, is_users=False)
            return [*rows.inside(of_sources), *rows.inside(of_operands)]

        return pullback
