"""Loops and conditions as functions: in a compiled function, their bodies are traced once.

In eager mode they are Python's `for`, `while` and `if`, and each step is recorded. In a compiled
function a loop is one call of a program of its own, with a rule: the derivative of a scan is a scan
in the other direction, over the carries that the first one has saved. The derivative of that is a
scan again, and so on. So no program grows with the number of steps, at any order.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from .bodies import (
    Call,
    Rows,
    TracedBody,
    as_of_now,
    as_tensors,
    is_number,
    is_recorded,
    of_floats,
    or_zeros,
    sources_of,
    sum_of,
    unless_zero,
)
from .engine.arrays import Spec, as_array, spec_of
from .engine.batching import Batch
from .engine.graph import Node, now
from .engine.interpreter import Body, Tracing
from .engine.modes import is_traced, mode, no_grad, plain
from .engine.randomness import running
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
        f = as_of_now(f)
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
    dtypes = [y.dtype for y in column if not is_number(y)]
    dtype = np.result_type(*dtypes) if dtypes else None
    return [np.asarray(y, dtype) if is_number(y) else y for y in column]


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
            (a.shape, None if is_number(leaf) else a.dtype)
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
        cond, body = as_of_now(cond), as_of_now(body)
        value, sources = _traced_repeated(interpreter, cond, body, carry)
    else:
        value, sources = _repeated(cond, body, carry, init)
    leaves, treedef = flatten(value)
    call = Call("while_loop", sources, carry.leaves)
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
        sources |= dict.fromkeys(sources_of(flatten(value)[0], start))
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
    branches = [as_of_now(true_fun), as_of_now(false_fun)]
    return _TracedCond(pred, branches, operands).run(interpreter, branches * is_users)


# -- in a compiled function: bodies are programs of their own


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
        if any(map(is_number, init)):
            init = _with_dtypes(init, program.results)
            body, program = self._traced(trace, init)
        call = Call(self.name, body.sources, [*init, *self.items])
        if call.is_tracked:
            body.watch(program, used)
        last, before, ys = program.scan(
            [*map(plain, init)],
            [*map(plain, self.items)],
            self.length,
            self.reverse,
            call.is_tracked,
        )
        results = as_tensors([*last, *ys], body.is_tensor)
        args = [*map(spec_of, init), *map(plain, self.items)]
        results = call.results(results, before, args, self._pullback(body))
        carry, stacked = body.treedef.unflatten(results)
        return carry, stacked

    def _traced(self, trace: Tracing, init: Sequence[Any]) -> tuple[TracedBody, Body]:
        body = TracedBody(self.name, self.step, [*init, *self.items], self.arguments)
        first = -1 if self.reverse else 0
        items = [getattr(plain(x), "concrete", plain(x))[first, ...] for x in self.items]
        arrays = [plain(a) for a in init if not is_number(a)]
        return body, body.traced(trace, [*arrays, *items])

    def _pullback(self, body: TracedBody) -> Function:
        size, length, reverse = self.size, self.length, not self.reverse

        def pullback(g: Sequence[Any], out: Sequence[Any], *args: Any) -> list[Any]:
            before, items = out[:size], args[len(body.sources) + size :]
            recorded = is_recorded(g, out, items)
            rows = Rows(g, recorded)
            of_before, of_last, of_ys = g[:size], g[size : 2 * size], g[2 * size :]

            def step(bars: Any, x: Any) -> Any:
                of_carry, of_sources = map(rows.inside, bars)
                cotangents = [*of_carry, *rows.inside(x["ys"])]
                found, shares = body.pull([*x["before"], *x["xs"]], cotangents, recorded)
                of_carry = [
                    None if g is None else or_zeros(sum_of(share, more), g)
                    for g, share, more in zip(of_carry, found, rows.inside(x["of_before"]))
                ]
                of_sources = [sum_of(g, share) for g, share in zip(of_sources, shares)]
                of_xs = of_floats(found[size:], x["xs"])
                return (rows.outside(of_carry), rows.outside(of_sources)), rows.outside(of_xs)

            pairs = zip(of_last, before, strict=True)
            init = (
                rows.outside(g if a.dtype.kind in "fc" else None for g, a in pairs),
                rows.outside(np.zeros(node.shape, node.dtype) for node in body.sources),
            )
            xs = {
                "before": [*before],
                "xs": [*items],
                "ys": rows.outside(map(unless_zero, of_ys), axis=1),
                "of_before": rows.outside(map(unless_zero, of_before), axis=1),
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

    def traced(f: Function, leaves: Sequence[Any]) -> tuple[TracedBody, Body]:
        traced = TracedBody(name, f, leaves, arguments)
        return traced, traced.traced(trace, [plain(a) for a in leaves if not is_number(a)])

    init = carry.leaves
    stepped, program = traced(step, init)
    if any(map(is_number, init)):
        init = _with_dtypes(init, program.results)
        stepped, program = traced(step, init)
    arrays = program.repeat(traced(test, init)[1], [*map(plain, init)])
    return carry.treedef.unflatten(as_tensors(arrays, stepped.is_tensor)), stepped.sources


def _with_dtypes(leaves: Sequence[Any], specs: Sequence[Spec]) -> list[Any]:
    """The leaves, in which numbers are arrays of these dtypes."""
    return [np.asarray(a, spec.dtype) if is_number(a) else a for a, spec in zip(leaves, specs)]


class _TracedCond:
    """A condition in a compiled function."""

    def __init__(self, pred: Any, branches: Sequence[Function], operands: Sequence[Any]) -> None:
        self.pred = pred
        self.leaves, arguments = flatten(tuple(operands))
        require_arrays(self.leaves, arguments, "cond", "operands{}".format, "leave it out")
        self.arrays = [a for a in self.leaves if not is_number(a)]
        self.bodies = [TracedBody("cond", f, self.leaves, arguments) for f in branches]

    def run(self, trace: Tracing, used: Sequence[Function]) -> Any:
        """The result of the function that is chosen; `used` are the user's functions."""
        programs = [body.traced(trace, [*map(plain, self.arrays)]) for body in self.bodies]
        self._require_same(*[program.results for program in programs])
        sources = [*dict.fromkeys(node for body in self.bodies for node in body.sources)]
        call = Call("cond", sources, self.arrays)
        for body, program in zip(self.bodies, programs) if call.is_tracked else ():
            body.watch(program, used)
        arrays = [*map(plain, self.arrays)]
        results = programs[0].choose(programs[1], self.pred, arrays)
        is_tensor = [any(pair) for pair in zip(*[body.is_tensor for body in self.bodies])]
        results = call.results(as_tensors(results, is_tensor), [], arrays, self._pullback(sources))
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
            recorded = is_recorded(g, operands)
            rows = Rows(g, recorded)

            def pulled(body: TracedBody) -> Function:
                def pull(arrays: Sequence[Any], cotangents: Sequence[Any]) -> Any:
                    found, shares = body.pull(arrays, rows.inside(cotangents), recorded)
                    of_node = dict(zip(body.sources, shares, strict=True))
                    of_sources = [or_zeros(of_node.get(node), node) for node in sources]
                    return rows.outside(of_sources), rows.outside(of_floats(found, arrays))

                return pull

            cotangents = rows.outside(map(unless_zero, g))
            if_true, if_false = map(pulled, bodies)
            given = [[*operands], cotangents]
            of_sources, of_operands = _cond(pred, if_true, if_false, given, is_users=False)
            return [*rows.inside(of_sources), *rows.inside(of_operands)]

        return pullback
