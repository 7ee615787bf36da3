"""The registry: which functions have derivatives, and what their derivatives read.

Rules are keyed by the NumPy function that they belong to. This module knows none of them: the files
in `tensorgrad/rules/` register theirs when they are imported.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import OR_DETACH, NoRuleError
from .typing import F, Function

NO_KWARGS: Mapping[str, Any] = {}

# "elementwise": each output element depends on one element of each array, as for every ufunc;
# "linear" in all arrays together, as concatenate; "multilinear": in each of them, as matmul.
Form: TypeAlias = Literal["elementwise", "linear", "multilinear"]


class Rule:
    """The derivatives of one function.

    `vjps[i]` is called as `(g, out, *args, **kwargs)` with the cotangent `g` of the output. It
    returns the cotangent of array argument `i`, up to broadcasting and dtype, which
    `backpropagate` reverses. A parameter whose name starts with an underscore is not read: it
    receives a `Spec` instead of the array, which is not kept alive. `form` says what makes a
    forward derivative cheap. `views` says that a result may be a view of an argument, or the
    argument itself. `jvp`, a forward rule, is called as `(tangents, out, *args, **kwargs)`, with a
    tangent for each array argument; without one, the vjps are transposed.
    """

    def __init__(
        self,
        fun: Function,
        vjps: tuple[Function | None, ...] | Each | Together,
        form: Form | None = None,
        views: bool = False,
        jvp: Function | None = None,
    ) -> None:
        self.fun = fun
        self.name = name_of(fun)
        self.vjps = vjps
        self.form = form
        self.jvp = jvp
        self.arity = len(vjps)
        self.variadic = isinstance(vjps, Each)
        self.views = views
        self.known_reads: dict[Any, Reads] = {}

    def reads(self, pattern: int, kwargs: Mapping[str, Any] = NO_KWARGS) -> Reads:
        """Return what the derivatives of a call read.

        Bit `i` of `pattern` says whether argument `i` is tracked; one more bit, always set, marks
        the end of the arguments. Raises NoRuleError for a call that the vjps would not accept.
        """
        if self.variadic:  # one function serves every position: look at the first
            pattern = 1 << pattern.bit_length() - 1 | 1
        key = (pattern, *kwargs) if kwargs else pattern
        try:
            return self.known_reads[key]
        except KeyError:
            reads = self.known_reads[key] = self._find_reads(pattern, kwargs)
            return reads

    def _find_reads(self, pattern: int, kwargs: Mapping[str, Any]) -> Reads:
        count = pattern.bit_length() - 1
        read: set[Any] = set()
        for i in range(count):
            if pattern >> i & 1:
                read.update(_read(self._bind(i, count, kwargs)))
        if self.jvp is not None:
            bound = inspect.signature(self.jvp).bind(
                "tangents", "out", *range(count), **dict.fromkeys(kwargs)
            )
            read.update(_read(bound.arguments))
        arrays = range(min(count, self.arity))
        return Reads(tuple(i for i in arrays if i not in read), "out" in read)

    def _bind(self, i: int, count: int, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return which parameters of vjp `i` receive "g", "out" and the arguments 0, 1, ..."""
        vjp = self.vjps[i] if i < self.arity else None
        if vjp is None:
            raise NoRuleError(
                f"{self.name} has no derivative for its argument {i}: write one with "
                f"tensorgrad.differentiable, {OR_DETACH}"
            )
        bind = inspect.signature(vjp).bind
        try:
            return bind("g", "out", *range(count), **dict.fromkeys(kwargs)).arguments
        except TypeError as error:
            raise NoRuleError(
                f"{self.name} has no derivative for a call like this ({error}): "
                f"leave that argument out, {OR_DETACH}"
            ) from None


def _read(arguments: Mapping[str, Any]) -> Iterator[Any]:
    """What a derivative with these arguments reads: its parameters without an underscore."""
    for name, value in arguments.items():
        if not name.startswith("_") and not isinstance(value, dict):
            yield from value if isinstance(value, tuple) else (value,)


@dataclass(slots=True, frozen=True)
class Reads:
    """The positions of the arrays that no derivative reads; and whether one reads the output."""

    unread: tuple[int, ...]
    out_is_read: bool


class Each:
    """The vjps of a function of any number of arrays: one function, which gets the position."""

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
"""The rules of NumPy's functions and of the library's own operations."""
COMPOSITES: dict[Function, Function] = {}
IN_PLACE: dict[Function, Function] = {}
CONSTANTS: set[Function] = set()
OF_SEQUENCES: set[Function] = set()


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
    RULES[fun] = Rule(fun, vjps if each is None else Each(each), form, views)


def rule_of(fun: Function) -> Rule | None:
    """Return the rule of a function; that of a user's operation is forgotten with it."""
    return RULES.get(fun) or getattr(fun, "tensorgrad_rule", None)


def composite(*funs: Function, of_sequences: bool = False) -> Callable[[F], F]:
    """Define what `funs` do on tracked tensors in terms of functions that have rules.

    The definition takes NumPy's parameters, without `out`. A list that holds tensors is made one
    tensor before the call, unless the functions are `of_sequences` of arrays.
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


# -- names and signatures


def name_of(fun: Function) -> str:
    """Return the name to show for a function: `tanh`, `add.reduce`, `getitem`."""
    if isinstance(fun, functools.partial):
        return name_of(fun.func)
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


_signature = functools.lru_cache(maxsize=1024)(inspect.signature)


def signature(fun: Function) -> inspect.Signature:
    """Return the signature of a function; none is remembered of users' operations."""
    return inspect.signature(fun) if hasattr(fun, "tensorgrad_rule") else _signature(fun)


def position_of_out(fun: Function) -> int:
    """Return the position of the parameter `out`; a very large number if there is none."""
    return sys.maxsize if hasattr(fun, "tensorgrad_rule") else _position_of_out(fun)


@functools.lru_cache(maxsize=1024)
def _position_of_out(fun: Function) -> int:
    try:
        parameters = [*signature(fun).parameters.values()]
    except ValueError:  # some functions written in C have no signature
        return sys.maxsize
    positions = (
        i for i, p in enumerate(parameters) if p.name == "out" and p.kind != p.KEYWORD_ONLY
    )
    return next(positions, sys.maxsize)


@shown_as("result")
def _part(results: Sequence[Any], i: int) -> Any:
    return results[i]


# The rule of one result of a call that returns several. Its node's parent is the node of the call,
# whose vjps receive tuples as `g` and `out`.
PART = Rule(_part, ())
