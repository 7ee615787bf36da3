"""The graph: modes, nodes, rules, and the walk back through them.

A `Node` is one recorded operation. A `Rule` holds the derivatives of one function, written in NumPy
and keyed by the NumPy function they belong to; this module knows none of them. `propagate` carries
cotangents from an output's node back to the leaves. It never imports `Tensor`.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import itertools
import math
import operator
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import CodeType, TracebackType
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from .errors import OR_DETACH, GraphError, NoRuleError
from .lending import loans, use, written

Array: TypeAlias = NDArray[Any]
Function: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Function)
Line: TypeAlias = tuple[CodeType, int]  # some code, and the position in it


# --------------------------------------------------------------------------------------------
# Modes: what is recorded, in this thread and this asyncio task


class Mode(NamedTuple):
    """What happens beside computing: a graph is recorded, and hooks are shown what happens.

    Each of `hooks` is called with a new node and the arrays that went in and came out; each of
    `backward_hooks` with a node, the cotangent of its output, and that of one of its arguments.
    `trace` is that of the compiler, while it writes down what a function does, or None. `line` is
    where the user asked for the derivative that is being recorded: it is not inherited.
    """

    recording: bool = True
    hooks: tuple[Callable[[Node, Sequence[Any]], None], ...] = ()
    backward_hooks: tuple[Callable[[Node, Any, Any], None], ...] = ()
    trace: Any = None
    outer: Mode | None = None
    line: Line | None = None


mode = contextvars.ContextVar("tensorgrad mode", default=Mode())  # noqa: B039 (immutable)


class set_mode:  # noqa: N801 (used like a function)
    """Change the current `Mode` within a `with` block or a decorated function; hooks are added."""

    def __init__(
        self,
        recording: bool | None = None,
        hooks: tuple[Function, ...] = (),
        backward_hooks: tuple[Function, ...] = (),
        trace: Any = None,
        line: Line | None = None,
    ) -> None:
        self._change = recording, hooks, backward_hooks, trace, line

    def __enter__(self) -> None:
        outer = mode.get()
        recording, hooks, backward_hooks, trace, line = self._change
        mode.set(
            Mode(
                outer.recording if recording is None else recording,
                outer.hooks + hooks,
                outer.backward_hooks + backward_hooks,
                outer.trace if trace is None else trace,
                outer,
                line,
            )
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        mode.set(mode.get().outer or Mode())

    def __call__(self, fun: F) -> F:
        """Decorate a function: each of its calls runs in the changed mode."""
        kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
        if any(is_kind(fun) for is_kind in kinds):
            raise TypeError(
                f"cannot decorate {fun.__name__}(): its body runs after the call returns; "
                "use a with statement inside it"
            )

        @functools.wraps(fun)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return fun(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


@overload
def no_grad() -> set_mode: ...
@overload
def no_grad(fun: F) -> F: ...
def no_grad(fun: F | None = None) -> set_mode | F:
    """Compute without recording a graph, within a `with` block or a decorated function.

    The mode belongs to the running thread or asyncio task, and exceptions restore it. A computed
    tensor that is changed in place here, by one element even, has no graph afterwards.

    >>> w = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.no_grad():
    ...     (w * 2).requires_grad
    False
    """
    change = set_mode(recording=False)
    return change if fun is None else change(fun)


@overload
def enable_grad() -> set_mode: ...
@overload
def enable_grad(fun: F) -> F: ...
def enable_grad(fun: F | None = None) -> set_mode | F:
    """Record a graph again, inside a `no_grad` block or function.

    >>> w = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.no_grad(), tg.enable_grad():
    ...     (w * 2).requires_grad
    True
    """
    change = set_mode(recording=True)
    return change if fun is None else change(fun)


def each_time(fun: Function, *args: Any) -> Any:
    """Call a function that takes decisions by elements, or has effects of its own, on arrays.

    In a compiled function it is called, with the arrays of then, at this point of each call.
    """
    trace = mode.get().trace
    return fun(*args) if trace is None else trace.host(fun, *args)


changes = [0]
"""How often what compiled functions rely on has changed: where tensors' arrays lie, and modules.

They look at all that they rely on when this has grown.
"""


# --------------------------------------------------------------------------------------------
# The graph


_FLOATS = frozenset({np.float64, np.float32})  # what NumPy returns instead of 0-d arrays


def as_array(a: Any, name: str) -> Any:
    """Return an operand or a result as a numeric array, or raise a TypeError that names `name`."""
    if type(a) in _FLOATS:
        return np.asarray(a)
    if a is None:
        raise TypeError(f"{name}: None instead of an array")
    if not hasattr(a, "__array_function__"):
        a = np.asarray(a)
    elif type(a) is not np.ndarray:
        if isinstance(a, np.ma.MaskedArray):
            raise TypeError(f"{name}: masked arrays are not supported; use a.filled(value)")
        if isinstance(a, np.ndarray):
            a = np.asarray(a)
        elif hasattr(a, "as_array"):  # a traced one
            a = a.as_array()
    if a.dtype.kind not in "fciub":
        raise TypeError(
            f"{name}: arrays of dtype {a.dtype} are not supported; convert to a numeric dtype"
        )
    return a


ALIGNMENT = 64  # bytes: of 8,192 numbers, NumPy multiplies aligned ones in half of the time


def aligned(size: int, dtype: Any) -> Array:
    """A vector of zeros that starts at a cache line."""
    gap = ALIGNMENT // np.dtype(dtype).itemsize
    block: Array = np.zeros(size + gap, dtype)
    start = -block.ctypes.data % ALIGNMENT // block.itemsize
    return block[start : start + size]


def order_of(array: Array) -> Literal["C", "F"]:
    """The order in memory of a contiguous array: "F", by columns, or "C", by rows."""
    return "F" if array.flags.fnc else "C"


class Spec:
    """What stays known of an array that is not kept: its shape and its dtype."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"shape {self.shape}, dtype {self.dtype}"


NO_KWARGS: Mapping[str, Any] = {}
_serial = itertools.count(1)
_by_serial = operator.attrgetter("serial")


def now() -> int:
    """A serial number that is greater than those of all nodes so far."""
    return next(_serial)


class Node(Spec):
    """One recorded operation, or a leaf (`rule` None); as a `Spec`, it describes its own output.

    `args` are the operation's arguments, of which the arrays that the rule does not read are
    replaced by a `Spec`; `out` is the output if the rule reads it. A node never refers to its own
    Tensor, so that dropping the last Tensor frees the graph at once. `parents` is None once the
    graph is freed. Serial numbers grow in the order of computation, so that a leaf younger than an
    operation on it has had its data changed since. `line` is where the user called the operation:
    the code and the position in it. `retained` is there once a backward pass went through the node
    that did not free the graph. Of a leaf, `out` is None, or the array in which its data must
    stay, as it is a view of an optimizer's vector.
    """

    __slots__ = (
        "__weakref__", "args", "grad", "keeps_grad", "kwargs", "line", "out", "parents",
        "retained", "rule", "serial",
    )  # fmt: skip
    line: Line
    retained: bool

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        rule: Rule | None = None,
        parents: Sequence[Node | None] | None = (),
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = NO_KWARGS,
        out: Any = None,
    ) -> None:
        if loans:
            use(parents or ())
        self.shape = shape
        self.dtype = dtype
        self.rule = rule
        self.parents = parents
        self.args = args
        self.kwargs = kwargs
        self.out = out
        self.serial = next(_serial)
        self.grad: Array | None = None
        self.keeps_grad = rule is None

    def __str__(self) -> str:
        where = f", called at {self.place}" if hasattr(self, "line") else ""
        return f"{self.name} ({super().__str__()}{where})"

    @property
    def name(self) -> str:
        """The name of the operation; of a part of several results, that of the call."""
        if self.rule is PART and self.parents and self.parents[0]:
            return self.parents[0].name
        return "leaf" if self.rule is None else self.rule.name

    @property
    def place(self) -> str:
        """The file and the line of the call, or `"?"`."""
        if not hasattr(self, "line"):
            return "?"
        code, position = self.line
        return f"{code.co_filename}:{[*code.co_positions()][position // 2][0]}"

    @property
    def passed(self) -> bool:
        """Whether a backward pass went through it, and it is no leaf."""
        return not self.has_graph or hasattr(self, "retained")

    def touch(self) -> None:
        """Make a leaf younger than every operation on it: its data has changed."""
        self.serial = now()

    @property
    def has_graph(self) -> bool:
        """Whether its graph has not been freed."""
        return self.parents is not None

    @property
    def leads_to_leaves(self) -> bool:
        """Whether a gradient can go through it to leaves: no part of its graph was freed."""
        found = [self]
        seen = {self}
        for node in found:
            if not node.has_graph:
                return False
            new = {parent for parent in node.parents or () if parent is not None} - seen
            seen |= new
            found += new
        return True

    def free(self) -> None:
        """Let go of everything that the backward pass needed."""
        self.parents = self.out = None
        self.args = ()
        self.kwargs = NO_KWARGS


# --------------------------------------------------------------------------------------------
# Rules


# "elementwise": each element of the output depends on one of each array (every ufunc is);
# "linear" in all arrays together, as concatenate; "multilinear": in each of them, as matmul.
Form: TypeAlias = Literal["elementwise", "linear", "multilinear"]


class Rule:
    """The derivatives of one function.

    `vjps[i]` is called as `(g, out, *args, **kwargs)`: given the cotangent `g` of the output, it
    returns the cotangent of array argument `i`, up to broadcasting and dtype, which `propagate`
    reverses. A parameter whose name starts with an underscore is not read: it receives a `Spec` in
    place of the array, which is not kept alive. `form` says what makes a forward derivative cheap,
    `views` that a result may be a view of an argument, or the argument itself.
    """

    def __init__(
        self,
        fun: Function,
        vjps: tuple[Function | None, ...] | _Each | Together,
        form: Form | None = None,
        views: bool = False,
    ) -> None:
        self.fun = fun
        self.name = name_of(fun)
        self.vjps = vjps
        self.form = form
        self.arity = len(vjps)
        self.variadic = isinstance(vjps, _Each)
        self.views = views
        self.plans: dict[Any, Plan] = {}

    def plan(self, pattern: int, kwargs: Mapping[str, Any] = NO_KWARGS) -> Plan:
        """What a call lets go of, that has a tracked argument for each set bit of `pattern`.

        The highest bit marks the end of the arguments. Raises NoRuleError for a call that the vjps
        would not accept.
        """
        if self.variadic:  # one function serves every position: look at the first
            pattern = 1 << pattern.bit_length() - 1 | 1
        key = (pattern, *kwargs) if kwargs else pattern
        try:
            return self.plans[key]
        except KeyError:
            plan = self.plans[key] = self._make_plan(pattern, kwargs)
            return plan

    def _make_plan(self, pattern: int, kwargs: Mapping[str, Any]) -> Plan:
        count = pattern.bit_length() - 1
        read: set[Any] = set()
        for i in range(count):
            if pattern >> i & 1:
                vjp = self.vjps[i] if i < self.arity else None
                if vjp is None:
                    raise NoRuleError(
                        f"{self.name} has no derivative for its argument {i}: write one with "
                        f"tensorgrad.differentiable, {OR_DETACH}"
                    )
                try:  # which parameters receive g, out, and arguments 0, 1, ...
                    bound = inspect.signature(vjp).bind(
                        "g", "out", *range(count), **dict.fromkeys(kwargs)
                    )
                except TypeError as error:
                    raise NoRuleError(
                        f"{self.name} has no derivative for a call like this ({error}): "
                        f"leave that argument out, {OR_DETACH}"
                    ) from None
                for name, value in bound.arguments.items():
                    if not name.startswith("_") and not isinstance(value, dict):
                        read.update(value if isinstance(value, tuple) else (value,))
        arrays = range(min(count, self.arity))
        return Plan(tuple(i for i in arrays if i not in read), "out" in read)


class Plan(NamedTuple):
    """The positions of the arrays that no derivative reads; and whether one reads the output."""

    unread: tuple[int, ...]
    out_is_read: bool


class _Each:
    """The vjps of a function of any number of arrays: one function, told the position first."""

    def __init__(self, vjp: Function) -> None:
        self._vjp = vjp

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, i: int) -> Function:
        return functools.partial(self._vjp, i)

    def __iter__(self) -> Iterator[Function]:
        return map(self.__getitem__, itertools.count())


class Together:
    """The vjps of a function whose cotangents share work: one function returns those of all."""

    def __init__(self, vjp: Function, count: int) -> None:
        self.vjp = vjp
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> Function:
        @functools.wraps(self.vjp)
        def one(*args: Any, **kwargs: Any) -> Any:
            return self.vjp(*args, **kwargs)[i]

        return one

    def __iter__(self) -> Iterator[Function]:
        return map(self.__getitem__, range(self._count))


RULES: dict[Function, Rule] = {}
COMPOSITES: dict[Function, Function] = {}
IN_PLACE: dict[Function, Function] = {}
CONSTANTS: set[Function] = set()
OF_SEQUENCES: set[Function] = set()


def name_of(fun: Function) -> str:
    """The name to show for a function: `tanh`, `add.reduce`, `getitem`."""
    owner = getattr(fun, "__self__", None)
    prefix = f"{owner.__name__}." if isinstance(owner, np.ufunc) else ""
    return prefix + str(getattr(fun, "__name__", fun))


def shown_as(name: str) -> Callable[[F], F]:
    """Show an operation to users under the name of the public function that uses it.

    If two use it, "or" stands between their names.
    """

    def rename(fun: F) -> F:
        fun.__name__ = name
        return fun

    return rename


signature = functools.lru_cache(maxsize=1024)(inspect.signature)


def rule(
    fun: Function,
    *vjps: Function | None,
    each: Function | None = None,
    form: Form | None = None,
    views: bool = False,
) -> None:
    """Set the derivatives of `fun`: one vjp per array argument, in order (see `Rule`).

    None stands for an argument that has no derivative. `each` serves a function of any number of
    arrays, `fun(*arrays)`: it is called with the argument's position before the rest.
    """
    if isinstance(fun, np.ufunc) and fun.signature is None and fun.nout == 1:
        form = "elementwise"
    RULES[fun] = Rule(fun, vjps if each is None else _Each(each), form, views)


def rule_together(fun: Function, vjp: Function, count: int) -> None:
    """Set the derivatives of `fun` by its first `count` arguments: one vjp returns them all."""
    RULES[fun] = Rule(fun, Together(vjp, count))


def composite(*funs: Function, of_sequences: bool = False) -> Callable[[F], F]:
    """Define what `funs` do on tracked tensors in terms of functions that have rules.

    The definition takes NumPy's parameters, without `out`. Lists with tensors in them become one
    tensor before, unless the functions are `of_sequences` of arrays.
    """
    if of_sequences:
        OF_SEQUENCES.update(funs)
    return _registers(COMPOSITES, funs)


def in_place(*funs: Function) -> Callable[[F], F]:
    """Define what `funs`, which change their first argument, do when that is a tensor."""
    return _registers(IN_PLACE, funs)


def _registers(table: dict[Function, Function], funs: Sequence[Function]) -> Callable[[F], F]:
    def register(definition: F) -> F:
        table.update(dict.fromkeys(funs, definition))
        return definition

    return register


def piecewise_constant(*funs: Function) -> None:
    """Declare functions whose derivative is zero or does not exist: their results are untracked."""
    CONSTANTS.update(funs)


@shown_as("result")
def _part(results: Sequence[Any], i: int) -> Any:
    return results[i]


# The rule of one result of a call that returns several. Its node's parent is the node of the call,
# whose vjps receive a tuple of cotangents as `g`, and as `out` a tuple of arrays or descriptions.
PART = Rule(_part, ())


# --------------------------------------------------------------------------------------------
# The backward pass


def ancestors(*roots: Node, since: int = 0) -> list[Node]:
    """The nodes that the roots were computed from, themselves included, newest first.

    Nodes older than the serial number `since` are found, but not what they were computed from.
    """
    seen = set(roots)
    found = list(seen)
    for node in found:
        if node.serial < since:
            continue
        if node.parents is None:
            raise GraphError(
                f"backward: the graph at {node} was freed by an earlier backward(), or by one that "
                "failed; pass retain_graph=True to the earlier one to use the graph again"
            )
        for parent in node.parents:
            if parent is None:
                continue
            if parent.serial > node.serial:
                raise GraphError(
                    f"backward: the data of a leaf tensor, {parent}, was changed after {node} was "
                    "computed from it, so the gradient would be wrong: change it after backward(), "
                    "or compute the output again"
                )
            if parent not in seen:
                seen.add(parent)
                found.append(parent)
    if loans:
        for node in found:
            require_unwritten(node, "backward")
    found.sort(key=_by_serial, reverse=True)
    return found


def require_unwritten(node: Node, name: str) -> None:
    """Raise if a user has written an element into an array that the graph needs."""
    if written(node) is not None:
        what = "leaf tensor" if node.rule is None else "computed tensor"
        cure = (
            "change it after backward(), or compute the output again"
            if node.rule is None
            else "write into the tensor itself, or into a copy of its data"
        )
        raise GraphError(
            f"{name}: elements of the data of a {what}, {node}, were changed after it was used, so "
            f"the gradient would be wrong: {cure}"
        )


def kept(node: Node) -> tuple[Any, Sequence[Any]]:
    """A node's output and arguments: arrays as far as they are kept, else a `Spec` each."""
    return node if node.out is None else node.out, node.args


def propagate(
    nodes: Sequence[Node],
    seeds: Mapping[Node, Any],
    targets: Collection[Node],
    *,
    operands: Callable[[Node], tuple[Any, Sequence[Any]]] = kept,
    free: bool = False,
) -> dict[Node, Any]:
    """Carry cotangents back through `nodes` (newest first); return those of the target nodes.

    The rules run on the arrays that the nodes kept, or on what else `operands` makes of a node:
    tensors, for results that can be differentiated again. With `free`, each node is freed as soon
    as it has been visited.
    """
    cotangents: dict[Node, Any] = dict.fromkeys(nodes)
    cotangents.update(seeds)
    results: dict[Node, Any] = {}
    plain = operands is kept
    now = mode.get()
    hooks, trace = now.backward_hooks, now.trace
    for node in nodes:
        g = cotangents.pop(node)
        known = node.rule
        if g is not None:
            if node in targets:
                results[node] = g
            if known is PART:
                (whole,) = node.parents or ()
                if whole in cotangents:
                    parts = cotangents[whole] = cotangents[whole] or {}
                    i = node.args[0]
                    parts[i] = parts[i] + g if i in parts else g
            elif known is not None:
                out, args = (node.out, node.args) if plain else operands(node)
                if out is None:
                    out = node
                if type(g) is dict:
                    g = tuple(
                        [g[i] if i in g else np.zeros(o.shape, o.dtype) for i, o in enumerate(out)]
                    )
                kwargs, vjps = node.kwargs, known.vjps
                try:
                    if type(vjps) is Together:
                        together = vjps.vjp if trace is None else trace.at(node, vjps.vjp)
                        vjps = tuple(map(_constantly, together(g, out, *args, **kwargs)))
                    for vjp, parent in zip(vjps, node.parents or ()):
                        if vjp is None or parent is None or parent not in cotangents:
                            continue
                        if trace is not None:
                            vjp = trace.at(node, vjp)
                        share = vjp(g, out, *args, **kwargs) if kwargs else vjp(g, out, *args)
                        if type(share) is not np.ndarray and (plain or not hasattr(share, "shape")):
                            # A rule may be written with tensors, too.
                            share = as_array(getattr(share, "_array", share), known.name)
                        if share.shape != parent.shape or share.dtype is not parent.dtype:
                            share = fit(share, parent)
                        if hooks:
                            for hook in hooks:
                                hook(node, g, share)
                        earlier = cotangents[parent]
                        if earlier is not None:
                            share = earlier + share
                            if plain and share.dtype is not parent.dtype:
                                share = share.astype(parent.dtype)
                            if plain and type(share) is not np.ndarray:
                                share = as_array(share, known.name)
                        elif (
                            plain
                            and parent in targets
                            and (share.base is not None or sys.getrefcount(share) > _REFERENCES)
                        ):
                            share = share.copy()  # it may lie in another array's memory
                        cotangents[parent] = share
                except Exception as error:
                    error.add_note(f"backward: in the derivative of {node}")
                    raise
        if free and known is not None:
            node.free()
    return results


def _constantly(value: Any) -> Function:
    return lambda *_args, **_kwargs: value


def _references_to_a_new_array() -> int:
    share = np.empty(0)
    return sys.getrefcount(share)


_REFERENCES = _references_to_a_new_array()


def fit(g: Any, like: Spec) -> Any:
    """Reverse broadcasting and casting: give `g` the shape and the dtype of `like`."""
    shape = like.shape
    if g.shape != shape:
        if g.ndim == 0:
            g = _expand(g, shape)
        elif g.ndim == 2 and g.shape[1:] == shape:
            g = _sum_rows(g)
        else:
            g = _unbroadcast(g, shape)
    if g.dtype is not like.dtype:
        if g.dtype.kind == "c" and like.dtype.kind != "c":
            g = np.real(g)
        g = g.astype(like.dtype)
    return g


def _expand(scalar: Any, shape: tuple[int, ...]) -> Any:
    if type(scalar) is np.ndarray:  # a view like np.broadcast_to's, in a tenth of its time
        return np.ndarray(shape, scalar.dtype, scalar, strides=(0,) * len(shape))
    return np.broadcast_to(scalar, shape)


def _sum_rows(matrix: Any) -> Any:
    if type(matrix) is np.ndarray and matrix.size <= 1 << 16 and matrix.dtype.char in "fd":
        return _ones(len(matrix), matrix.dtype).dot(matrix)  # BLAS: a sixth of reduce's time
    return np.add.reduce(matrix, axis=0, dtype=_wide(matrix))


def _unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    pairs = list(zip(g.shape[::-1], shape[::-1]))
    larger, smaller = all(m in (n, 1) for n, m in pairs), all(n in (m, 1) for n, m in pairs)
    if not ((larger and g.ndim >= len(shape)) or (smaller and g.ndim <= len(shape))):
        raise ValueError(f"a derivative of shape {g.shape} for an argument of shape {shape}")
    extra = max(g.ndim - len(shape), 0)
    aligned = enumerate(zip(g.shape[extra:], shape[len(shape) - g.ndim + extra :]), extra)
    axes = (*range(extra), *(i for i, (n, wanted) in aligned if wanted == 1 != n))
    if axes:
        g = np.add.reduce(g, axis=axes, dtype=_wide(g), keepdims=True)
        g = g.reshape(g.shape[extra:])
    return g if g.shape == shape else np.broadcast_to(g, shape)


def ones(shape: Any, dtype: Any) -> Array:
    """`np.ones`, in a third of its time."""
    array = np.empty(shape, dtype)
    array.fill(1)
    return array


@functools.lru_cache(maxsize=16)
def _ones(n: int, dtype: np.dtype[Any]) -> Array:
    array = ones(n, dtype)
    array.flags.writeable = False
    return array


def _wide(g: Any) -> Any:
    """The dtype to add up in: float16 is too short for long sums."""
    return np.float32 if g.dtype.char == "e" else None


_accumulation = threading.Lock()
_set_grad: Callable[[Node, Any], None] = vars(Node)["grad"].__set__


def accumulate(gradients: Mapping[Node, Any]) -> None:
    """Add to the `grad` of each node: of all of them or, if interrupted, of none."""
    trace = mode.get().trace
    if trace is not None:
        trace.accumulate(gradients)
        return
    with _accumulation:
        sums = [
            g if node.grad is None else as_array((node.grad + g).astype(node.dtype), "backward")
            for node, g in gradients.items()
        ]
        # One call into C, in the middle of which Python handles no signal.
        deque(map(_set_grad, gradients, sums), maxlen=0)
