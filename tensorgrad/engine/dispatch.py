"""`apply`: the one function that every operation on tensors passes through."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..errors import OR_DETACH, NoRuleError
from ..guide import check_keywords
from .arrays import Spec, as_array, spec_of
from .batching import Batch, NotBatchedError, call, one_by_one
from .families import relate
from .frames import OWN_FILES, PACKAGE, users_line
from .graph import Node, node_of, note_levels
from .interpreter import eager
from .modes import Mode, mode, plain
from .operands import (
    NESTED,
    PLAIN,
    any_tracked,
    as_operand,
    holds_tensors,
    overrides,
    precedence_error,
    tensors_in,
    without_graph,
)
from .registry import (
    COMPOSITES,
    CONSTANTS,
    IN_PLACE,
    NO_KWARGS,
    OF_SEQUENCES,
    PART,
    RULES,
    Reads,
    Rule,
    name_of,
    position_of_out,
    rule_of,
    signature,
)
from .typing import Function
from .variable import Variable, tensor_of

_ndarray, _new = np.ndarray, object.__new__


def apply(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any] = NO_KWARGS) -> Any:
    """Call the NumPy function `fun` on arguments, some of them tensors; record it if tracked."""
    rule = RULES.get(fun) or rule_of(fun)
    if rule is None:
        return _apply_without_rule(fun, args, kwargs)
    arrays: list[Any] = []
    parents: list[Node | None] = []
    pattern, bit, arity = 0, 1, rule.arity  # `pattern` has a bit for each tracked argument
    for a in args:
        if isinstance(a, Variable):
            node, a = a._node, a._array
            if node is None and len(arrays) >= arity:
                a = a.copy()
        elif len(arrays) >= arity:
            node, a = None, _frozen(a)
        elif type(a) in PLAIN:
            node = None
        else:
            node, a = _operand(a, fun, rule.name)
        if node is not None:
            pattern += bit
        arrays.append(a)
        parents.append(node)
        bit += bit
    current = mode.get()
    if current.interpreter is not eager:  # its calls would take 60 ns of a microsecond
        arrays = [plain(a) if isinstance(a, Variable) else array for a, array in zip(args, arrays)]
        fun = functools.partial(current.interpreter.call, fun)
    reads: Reads | None = None
    if pattern and current.recording:  # what has no derivative is refused before it is called
        if kwargs:
            kwargs = {name: _frozen(value) for name, value in kwargs.items()}
            reads = rule.reads(pattern + bit, kwargs)
        else:
            reads = rule.known_reads.get(pattern + bit) or rule.reads(pattern + bit)
    try:
        out = fun(*arrays, **kwargs) if kwargs else fun(*arrays)
    except NotBatchedError:
        out = call(rule.fun, arrays, kwargs, fun)
    if reads is None:
        results = _wrap(out, rule.name)
    else:
        results = _record(rule, out, arrays, kwargs, parents, reads, current)
    if rule.views:
        relate(results, args)
    return results


def _operand(a: Any, fun: Function, name: str) -> tuple[Node | None, Any]:
    """Return the node and the array of an operand that is neither a tensor nor a plain array."""
    if type(a) is Batch:
        return None, a
    if type(fun) is np.ufunc and overrides(type(a)):
        raise precedence_error(fun, a)
    a = as_operand(a, name)
    return (a._node, a._array) if isinstance(a, Variable) else (None, a)


def _frozen(parameter: Any) -> Any:
    """Return an axis, a shape or an index that nobody can change before the backward pass."""
    if type(parameter) in NESTED:
        return type(parameter)([_frozen(p) for p in parameter])
    return parameter.copy() if isinstance(parameter, np.ndarray) else parameter


def _record(
    rule: Rule,
    out: Any,
    arrays: list[Any],
    kwargs: Mapping[str, Any],
    parents: list[Node | None],
    reads: Reads,
    current: Mode,
) -> Any:
    """Record a call with the output `out` as a node; return the output as a tensor, or several."""
    several = type(out) is not _ndarray and isinstance(out, tuple)
    saved: Any
    if several:
        out = like(out, [as_array(o, rule.name) for o in out])
        saved = out if reads.out_is_read else tuple([spec_of(o) for o in out])
        node = node_of((), np.dtype(float), rule, parents, arrays, kwargs, saved)
    else:
        kind = type(out)
        if kind is not _ndarray and kind is not Batch:
            out = as_array(out, rule.name)
        dtype = out.dtype
        if dtype.kind not in "fc":
            return _wrap(out, rule.name)
        saved = out if reads.out_is_read else None
        node = node_of(out.shape, dtype, rule, parents, arrays, kwargs, saved)
        if kind is not _ndarray:
            note_levels(node, out)
    frame: Any = sys._getframe(3)  # what called the method that called `apply`
    code = frame.f_code
    is_own = code.co_filename in OWN_FILES
    node.line = current.line or (users_line(frame) if is_own else (code, frame.f_lasti))
    operands = current.hooks and (*arrays, *(out if several else (out,)))
    for i in reads.unread:
        arrays[i] = parents[i] or spec_of(arrays[i])
    for hook in current.hooks:
        hook(node, operands)
    if several:
        return parts_of(node, out)
    tensor = _new(Variable._of_results)  # like tensor_of, without the call
    tensor._array = out
    tensor._node = node
    tensor._family = None
    return tensor


def parts_of(call: Node, results: Any) -> Any:
    """Return the results of a recorded call that returns several, as tensors."""
    parts = []
    for i, o in enumerate(results):
        node = node_of(o.shape, o.dtype, PART, (call,), (i,)) if o.dtype.kind in "fc" else None
        if node is not None:
            note_levels(node, o)
        parts.append(tensor_of(o, node))
    return like(results, parts)


def like(several: Any, values: Sequence[Any]) -> Any:
    """Return values in a tuple, named tuple or list of the same class as `several`."""
    return type(several)(*values) if hasattr(several, "_fields") else type(several)(values)


def revive(node: Node) -> tuple[Any, list[Any]]:
    """Return the output and the arguments of a node as the tensors they were."""
    out = node.out
    if isinstance(out, tuple):
        out = parts_of(node, out) if out and not isinstance(out[0], Spec) else out
    elif out is not None:
        out = tensor_of(out, node)
    return node if out is None else out, [
        a if parent is None or isinstance(a, Spec) else tensor_of(a, parent)
        for a, parent in zip(node.args, node.parents or ())
    ]


# -- functions without a rule


def _apply_without_rule(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if fun in IN_PLACE:
        args, kwargs = stack_lists(fun, args, kwargs)
        try:
            return IN_PLACE[fun](*args, **kwargs)
        except NotBatchedError:
            return _write_one_by_one(fun, args, kwargs)
    if type(fun) is np.ufunc:
        for a in args:
            if not isinstance(a, Variable) and type(a) not in PLAIN and overrides(type(a)):
                raise precedence_error(fun, a)
    recording = mode.get().recording
    tracked = recording and (any_tracked(args) or (kwargs and any_tracked(kwargs.values())))
    if not tracked or fun in CONSTANTS:
        arrays = [tree.map(plain, a) for a in args]
        out = fun(*arrays, **{name: tree.map(plain, value) for name, value in kwargs.items()})
        results = _wrap(out, name_of(fun))
        is_new = type(fun) is np.ufunc or isinstance(out, np.generic)  # it shares no memory
        if not is_new and (tensors := [*tensors_in((args, *kwargs.values()))]):
            relate(results, tensors)
        return results
    if fun in COMPOSITES:
        return _apply_composite(fun, args, kwargs)
    if _late_rules_loaded():
        return apply(fun, args, kwargs)
    shown = f"({', '.join(f'{name}=' for name in kwargs)})" if kwargs else ""
    raise NoRuleError(
        f"{name_of(fun)}{shown} has no derivative rule: write its derivative with "
        f"tensorgrad.differentiable, {OR_DETACH}"
    )


def _write_one_by_one(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Call a function that writes into its first argument for each sample of a batch."""

    def written(target: Any, *others: Any, **options: Any) -> Any:
        target = np.copy(target)
        fun(target, *others, **options)
        return target

    args[0][...] = one_by_one(written, args, kwargs)


def _apply_composite(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    definition = COMPOSITES[fun]
    if kwargs:
        try:
            signature(definition).bind(*args, **kwargs)
        except TypeError as error:
            raise NoRuleError(
                f"{name_of(fun)} has no derivative for a call like this ({error}): "
                f"leave that argument out, {OR_DETACH}"
            ) from None
    if fun not in OF_SEQUENCES and (_any_nested(args) or (kwargs and _any_nested(kwargs.values()))):
        args, kwargs = stack_lists(fun, args, kwargs)
    try:
        return mode.get().interpreter.composite(definition, fun, args, kwargs)
    except NotBatchedError:
        return one_by_one(fun, args, kwargs)


def _any_nested(values: Iterable[Any]) -> bool:
    """Return whether there are lists or tuples among the values that hold more than numbers."""
    return any(type(v) in NESTED and not PLAIN.issuperset(map(type, v)) for v in values)


def stack_lists(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the arguments, with one tensor instead of each list or tuple that holds tensors."""

    def stacked(a: Any) -> Any:
        return as_operand(a, name_of(fun)) if type(a) in NESTED and holds_tensors(a) else a

    return [*map(stacked, args)], {name: stacked(a) for name, a in kwargs.items()}


def _late_rules_loaded() -> bool:
    """Load the rules of `scipy.special` if it has been imported since; return whether it was."""
    rules = f"{PACKAGE}.rules.special"
    is_late = "scipy.special" in sys.modules and rules not in sys.modules
    if is_late:
        importlib.import_module(rules)
    return is_late


def _wrap(out: Any, name: str) -> Any:
    """Return what an unrecorded function returned, with its arrays as untracked tensors."""
    if isinstance(out, (np.ndarray, np.generic)) or hasattr(out, "__array_function__"):
        return tensor_of(as_array(out, name), None)
    if isinstance(out, (tuple, list)):
        return like(out, [_wrap(o, name) for o in out])
    return out


# -- NumPy's protocol


def apply_numpy_function(fun: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Apply a function that NumPy handed over; one with a rule gets its arguments by position."""
    if kwargs or len(args) > 1:
        out = kwargs.get("out")
        if out is None and len(args) > (position := position_of_out(fun)):
            out = args[position]
        if out is not None:
            raise TypeError(
                f"{name_of(fun)} cannot write a tensor into an existing array: leave out= away"
            )
    if kwargs:
        kwargs = {name: value for name, value in kwargs.items() if name != "out"}
        if rule_of(fun) is not None:
            with contextlib.suppress(ValueError):  # some functions written in C have no signature
                try:
                    bound = signature(fun).bind(*args, **kwargs)
                except TypeError as error:
                    check_keywords(name_of(fun), kwargs)
                    raise TypeError(f"{name_of(fun)}: {error}") from None
                args, kwargs = bound.args, bound.kwargs
            kwargs = {name: without_graph(value) for name, value in kwargs.items()}
    return apply(fun, args, kwargs)
