"""The tensor, and `apply`, the one place that every operation on tensors passes through."""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import ref

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .batching import Batch, call
from .errors import OR_DETACH, GraphError, NoRuleError, PrecedenceError
from .graph import (
    COMPOSITES,
    CONSTANTS,
    IN_PLACE,
    NO_KWARGS,
    OF_SEQUENCES,
    PART,
    RULES,
    Array,
    F,
    Form,
    Function,
    Line,
    Node,
    Spec,
    accumulate,
    ancestors,
    as_array,
    changes,
    enable_grad,
    mode,
    name_of,
    propagate,
    rule,
    rule_together,
    shown_as,
    signature,
)
from .guide import check_keywords, guide, guided, not_callable
from .lending import UNUSED, lend, loans, references, settle
from .methods import Axis as Axis, NumpyMethods
from .views import (
    Layout,
    coincide,
    concrete,
    filled,
    layout_of,
    overlaid as _overlaid,
    owner_of,
    part as _part,
    places,
    seen,
)

# --------------------------------------------------------------------------------------------
# apply: every operation on tensors passes through here

_ndarray, _new = np.ndarray, object.__new__
_OWN = {  # the files of this package
    os.path.join(folder, name)
    for folder, _, names in os.walk(os.path.dirname(__file__))
    for name in names
}
_PLAIN = frozenset({np.ndarray, bool, int, float, complex})
_NESTED = frozenset({list, tuple})
_NO_TENSOR = _PLAIN | {slice, tuple, str, type(None)}


def apply(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any] = NO_KWARGS) -> Tensor:
    """Call the NumPy function `fun` on arguments, some of them tensors; record it if tracked."""
    known = RULES.get(fun)
    if known is None:
        return _apply_without_rule(fun, args, kwargs)  # type: ignore[no-any-return]
    arrays: list[Any] = []
    parents: list[Node | None] = []
    tracked, bit, arity = 0, 1, known.arity
    for a in args:
        node = None
        if isinstance(a, Tensor):
            node = a._node
            a = a._array
            if node is not None:
                tracked += bit
            elif len(arrays) >= arity:
                a = a.copy()
        elif len(arrays) >= arity:
            a = _frozen(a)
        elif type(a) not in _PLAIN:
            if type(fun) is np.ufunc and overrides(type(a)):
                raise precedence_error(fun, a)
            a = as_operand(a, known.name)
            if isinstance(a, Tensor):
                node, a = a._node, a._array
                if node is not None:
                    tracked += bit
        arrays.append(a)
        parents.append(node)
        bit += bit
    recording, hooks, _, trace, _, line = mode.get()  # which takes less time than by name
    if trace is not None:
        fun = trace.caller(fun, args, arrays)
    if not (tracked and recording):
        results = _wrap(fun(*arrays, **kwargs), known.name)
        if known.views:
            relate(results, args)
        return results  # type: ignore[no-any-return]
    if kwargs:
        kwargs = {name: _frozen(value) for name, value in kwargs.items()}
        unread, out_is_read = known.plan(tracked + bit, kwargs)
        out = fun(*arrays, **kwargs)
    else:
        unread, out_is_read = known.plans.get(tracked + bit) or known.plan(tracked + bit)
        out = fun(*arrays)
    several = None
    if type(out) is not _ndarray:
        if isinstance(out, tuple):
            several = out = _like(out, [as_array(o, known.name) for o in out])
        else:
            out = as_array(out, known.name)
    if several is None:
        dtype = out.dtype
        if dtype.kind not in "fc":
            return tensor_of(as_array(out, known.name), None)
        kept = out if out_is_read else None
        node = Node(out.shape, dtype, known, parents, arrays, kwargs, kept)
    else:
        kept = out if out_is_read else tuple([_spec(o) for o in out])
        node = Node((), np.dtype(float), known, parents, arrays, kwargs, kept)
    frame: Any = sys._getframe(2)  # all callers are in this package; a skipped frame costs nothing
    code = frame.f_code
    node.line = line or users_line(frame) if code.co_filename in _OWN else (code, frame.f_lasti)
    operands = hooks and (*arrays, *(several or (out,)))
    for i in unread:
        arrays[i] = parents[i] or _spec(arrays[i])
    for hook in hooks:
        hook(node, operands)
    if several is not None:
        parts = parts_of(node, out)
        if known.views:
            relate(parts, args)
        return parts  # type: ignore[no-any-return]
    tensor: Tensor = _new(Tensor)
    tensor._array = out
    tensor._node = node
    tensor._family = None
    if known.views:
        relate(tensor, args)
    return tensor


def users_line(frame: FrameType) -> Line:
    """Where the first frame from this one outwards is that is not of this package, or the last."""
    while frame.f_code.co_filename in _OWN and (outer := frame.f_back) is not None:
        frame = outer
    return frame.f_code, frame.f_lasti


def warn(message: str) -> None:
    """Give a UserWarning at the user's line: the first frame outside of this package."""
    frame: FrameType | None = sys._getframe()
    level = 1
    while frame is not None and frame.f_code.co_filename in _OWN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def parts_of(call: Node, results: Any) -> Any:
    """The results of a recorded call that returns several, as tensors."""
    parts = []
    for i, o in enumerate(results):
        node = Node(o.shape, o.dtype, PART, (call,), (i,)) if o.dtype.kind in "fc" else None
        parts.append(tensor_of(o, node))
    return _like(results, parts)


def _like(several: Any, values: Sequence[Any]) -> Any:
    """Values in a tuple, named tuple or list as another one's."""
    return type(several)(*values) if hasattr(several, "_fields") else type(several)(values)


def _apply_without_rule(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if fun in IN_PLACE:
        args, kwargs = _gather(fun, args, kwargs)
        return IN_PLACE[fun](*args, **kwargs)
    if type(fun) is np.ufunc:
        for a in args:
            if type(a) is not Tensor and type(a) not in _PLAIN and overrides(type(a)):
                raise precedence_error(fun, a)
    now = mode.get()
    tracked = now.recording and (any_tracked(args) or (kwargs and any_tracked(kwargs.values())))
    if not tracked or fun in CONSTANTS:
        out = fun(*_unwrap(tuple(args)), **_unwrap(dict(kwargs)))
        results = _wrap(out, name_of(fun))
        if not isinstance(out, np.generic):
            relate(results, [*_tensors_in((args, *kwargs.values()))])
        return results
    definition = COMPOSITES.get(fun)
    if definition is None:
        if _late_rules_loaded():
            return apply(fun, args, kwargs)
        given = f"({', '.join(f'{name}=' for name in kwargs)})" if kwargs else ""
        raise NoRuleError(
            f"{name_of(fun)}{given} has no derivative rule: write its derivative with "
            f"tensorgrad.differentiable, {OR_DETACH}"
        )
    if kwargs:
        try:
            signature(definition).bind(*args, **kwargs)
        except TypeError as error:
            raise NoRuleError(
                f"{name_of(fun)} has no derivative for a call like this ({error}): "
                f"leave that argument out, {OR_DETACH}"
            ) from None
    if fun not in OF_SEQUENCES and (_any_nested(args) or (kwargs and _any_nested(kwargs.values()))):
        args, kwargs = _gather(fun, args, kwargs)
    if now.trace is not None:
        return now.trace.composite(definition, fun, args, kwargs)
    return definition(*args, **kwargs)


def _any_nested(values: Iterable[Any]) -> bool:
    """Whether there are lists or tuples among the values that hold more than numbers."""
    for value in values:
        if type(value) in _NESTED and not _PLAIN.issuperset(map(type, value)):
            return True
    return False


def _gather(fun: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """The arguments, with each list or tuple that holds tensors made one tensor."""

    def gathered(a: Any) -> Any:
        return as_operand(a, name_of(fun)) if type(a) in _NESTED and holds_tensors(a) else a

    return [*map(gathered, args)], {name: gathered(a) for name, a in kwargs.items()}


def _late_rules_loaded() -> bool:
    """Load the rules for a library's functions, if the library has been imported meanwhile."""
    late = [
        rules
        for library, rules in {"scipy.special": f"{__package__}.rules.special"}.items()
        if library in sys.modules and rules not in sys.modules
    ]
    for rules in late:
        importlib.import_module(rules)
    return bool(late)


def any_tracked(values: Iterable[Any]) -> bool:
    """Whether a tracked tensor is among the values, or in lists and tuples of them."""
    for value in values:
        if isinstance(value, Tensor):
            if value._node is not None:
                return True
        elif isinstance(value, (list, tuple)) and any_tracked(value):
            return True
    return False


def _tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among the values, and in lists and tuples of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors_in(value)


@shown_as("argument")
def alias(x: Any) -> Any:
    """The same array, as an operation: its result is a tensor that tells its derivatives apart."""
    return x


rule(alias, lambda g, _y, _x: g, form="linear")


def _frozen(parameter: Any) -> Any:
    """An axis, a shape or an index, as nobody can change it until the backward pass."""
    if type(parameter) in (list, tuple):
        return tuple([_frozen(p) for p in parameter])
    return parameter.copy() if isinstance(parameter, np.ndarray) else parameter


def _spec(a: Any) -> Any:
    return Spec(a.shape, a.dtype) if hasattr(a, "shape") else a


def tensor_of(data: Any, node: Node | None) -> Tensor:
    """A tensor around an array, without a copy, with the node that computed it."""
    tensor: Tensor = _new(Tensor)
    tensor._array = data
    tensor._node = node
    tensor._family = None
    return tensor


def _unwrap(value: Any) -> Any:
    """Replace the tensors in nested lists, tuples and dicts by their arrays."""
    if isinstance(value, Tensor):
        return plain(value)
    if isinstance(value, dict):
        return {key: _unwrap(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return _like(value, [_unwrap(v) for v in value])
    return value


def _wrap(out: Any, name: str) -> Any:
    """Make the arrays that an unrecorded function returned untracked tensors."""
    if isinstance(out, (np.ndarray, np.generic)) or hasattr(out, "__array_function__"):
        return tensor_of(as_array(out, name), None)
    if isinstance(out, (tuple, list)):
        return _like(out, [_wrap(o, name) for o in out])
    return out


def revive(node: Node) -> tuple[Any, list[Any]]:
    """The output and the arguments of a node as the tensors they were."""
    out = node.out
    if isinstance(out, tuple):
        out = parts_of(node, out) if out and not isinstance(out[0], Spec) else out
    elif out is not None:
        out = tensor_of(out, node)
    return node if out is None else out, [
        a if parent is None or isinstance(a, Spec) else tensor_of(a, parent)
        for a, parent in zip(node.args, node.parents or ())
    ]


# --------------------------------------------------------------------------------------------
# Tensor


_Operator: TypeAlias = "Callable[[Tensor, Any], Tensor]"


_OPERANDS = frozenset({"numpy", "pandas", "polars", "tensorgrad"})


def overrides(kind: type) -> bool:
    """Whether a class, and not `Tensor`, defines the result of a ufunc of both (NEP 13).

    This holds for classes that wrap arrays and define ufuncs, such as those with units or labels,
    and for sparse arrays. The arrays of libraries that share memory (DLPack), and columns of
    tables, are operands.
    """
    if kind is Tensor:
        return False
    if hasattr(kind, "todense"):
        return True
    ufunc = getattr(kind, "__array_ufunc__", np.ndarray.__array_ufunc__)
    if ufunc is None or ufunc is np.ndarray.__array_ufunc__:
        return ufunc is None
    if issubclass(kind, np.ndarray):
        return True
    return not (hasattr(kind, "__dlpack__") or kind.__module__.partition(".")[0] in _OPERANDS)


def _is_operand(other: Any) -> bool:
    """Whether an operator can take an object as an array, and its class takes no precedence."""
    kind = type(other)
    if isinstance(other, (list, tuple)):
        return True
    if not hasattr(other, "__array__") or overrides(kind):
        return False
    first = getattr(other, "__array_priority__", 0) > 0 and not hasattr(kind, "__array_ufunc__")
    return not first or hasattr(kind, "__dlpack__")


def _operators(fun: Function) -> tuple[_Operator, _Operator, _Operator]:
    """The methods of one binary operator: plain, reflected and in place."""

    def plain(self: Tensor, other: Any) -> Tensor:
        if type(other) in _PLAIN or isinstance(other, Tensor) or _is_operand(other):
            return apply(fun, (self, other))
        if self._node is not None and hasattr(type(other), "todense"):  # it holds numbers only
            raise precedence_error(fun, other)
        return NotImplemented  # type: ignore[no-any-return]

    def reflected(self: Tensor, other: Any) -> Tensor:
        return apply(fun, (other, self))

    def in_place(self: Tensor, other: Any) -> Tensor:
        return self._become(fun, (self, other))

    return plain, reflected, in_place


@guide
class Tensor(NumpyMethods):
    """An array that can remember how it was computed, and take gradients.

    `data` (anything that `np.array` accepts, or another library's array that speaks NumPy's
    protocols) is copied; `asarray(data, copy=False)` shares it. The dtype is NumPy's choice unless
    given; only a real floating tensor can require a gradient. NumPy functions and Python operators
    on a tensor return tensors.

    Writing to a tensor, as in `t[i] = v` or `t += x`, changes it and all views of the same array,
    as in NumPy. Gradients stay exact, and what was computed before keeps its value, as do detached
    tensors and the arrays that `data` and `numpy()` returned.

    >>> w = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> loss = np.sum(w * w)
    >>> loss.backward()
    >>> w.grad
    array([2., 4., 6.])
    """

    __slots__ = ("__weakref__", "_array", "_family", "_node")
    _array: Array
    _node: Node | None
    __pandas_priority__ = 5000  # above its own classes: their columns are operands
    _family: set[ref[Tensor]] | None  # the tensors in the same memory, None if alone

    def __init__(
        self,
        data: ArrayLike | Tensor,
        dtype: DTypeLike | None = None,
        requires_grad: bool = False,
    ) -> None:
        self._family = None
        if isinstance(dtype, int):
            raise TypeError(
                f"Tensor: the second argument is the dtype, not {dtype}; for a tensor of a shape, "
                "use tg.zeros((2, 3)), or tg.Tensor(numpy.zeros((2, 3)), requires_grad=True)"
            )
        operand = as_operand(_untracked(data), "Tensor")
        new = operand.astype(operand.dtype if dtype is None else dtype)
        if not isinstance(new, Tensor):
            self._array, self._node = as_array(new, "Tensor"), None
        elif requires_grad and new.requires_grad:
            raise GraphError(
                "Tensor: a list of tensors that require grad makes a computed tensor, not a leaf: "
                "leave out requires_grad=True, or detach() the tensors"
            )
        else:
            self._array, self._node = new._array, new._node
        if requires_grad:
            self.requires_grad = True

    @property
    def data(self) -> Array:
        """The array itself. Assigning copies the value, unless it is this very array, as in `+=`.

        Assigning to a leaf that requires grad keeps its shape and dtype, and makes `backward()`
        through an earlier graph raise an error. A leaf in an optimizer stays in its memory.

        Writing an element (`t.data[0] = 1`) counts as a change too if the array was read while a
        graph needed it; such a read copies the array. A change goes unnoticed if the array was read
        earlier, or if the tensor is untracked: graphs use its array without a copy, as they use
        plain arrays. `guard` finds these changes.
        """
        trace = mode.get().trace
        node, family = self._node, self._family
        has_views = family is not None and len(family) > 1
        if has_views:
            _reunite(self)
        if trace is not None:
            return trace.tensor(self)  # type: ignore[no-any-return]
        is_used = node is not None and (node.rule is not None or references(node) > UNUSED)
        if is_used or has_views:
            lend(self)
        return self._array

    @data.setter
    def data(self, value: ArrayLike | Tensor) -> None:
        node = self._node
        if node is not None and node.rule is not None:
            raise GraphError(
                f"cannot assign the data of a computed tensor, {node}: detach() it first; after "
                "`t.data += x` its array has changed already, so compute it again"
            )
        trace = mode.get().trace
        if trace is not None:
            trace.assign(self, value)
            return
        if value is not self._array:
            array = as_array(_untracked(value), "data")
            if node is not None and array.shape != node.shape:
                raise ValueError(f"cannot assign data of shape {array.shape} to a {node}")
            if node is None or node.out is None:
                by_columns = node is not None and self._array.flags.fnc  # as is best for a layer
                dtype = array.dtype if node is None else node.dtype
                self._array = array.astype(dtype, order="F" if by_columns else "K")
                self._family = None
                changes[0] += 1
            else:
                node.out[...] = array
        if node is not None:
            node.touch()
            if loans:
                loans.pop(id(node), None)  # all graphs that used it are stale

    @property
    def grad(self) -> Array | Any:  # not `| None`: checkers would demand a test for it at each use
        """The gradient that backward passes have summed up, of the data's shape and dtype, or None.

        Only leaves have one, and tensors on which `retain_grad()` was called. Reading it from
        another tensor after a backward pass gives a UserWarning.
        """
        node, trace = self._node, mode.get().trace
        if node is None:
            return None
        if trace is not None:
            return trace.grad(node)
        if node.grad is None and not node.keeps_grad and node.passed:
            warn(
                f"grad of a computed tensor, {node}, is None: only leaves keep theirs. Call its "
                "retain_grad() before backward(). To update a parameter, change its data: "
                "w.data -= lr * w.grad"
            )
        return node.grad

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if self._node is None:
            raise GraphError("cannot assign grad: the tensor does not require grad")
        if value is not None:
            if np.shape(value) not in ((), self.shape):
                raise ValueError(f"cannot assign grad of shape {np.shape(value)} to a {self._node}")
            value = np.full_like(plain(self), value)
        self._set_grad(value)

    def _set_grad(self, value: Any) -> None:
        node, trace = self._node, mode.get().trace
        if node is not None and trace is None:
            node.grad = value
        elif node is not None:
            trace.set_grad(node, value)

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded; can be set on a leaf.

        Clearing it drops `grad`, and graphs recorded before no longer reach this tensor.
        """
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not self.is_leaf:
            raise GraphError("requires_grad can be set on a leaf only: use detach()")
        if value and self._array.dtype.kind != "f":
            raise TypeError(
                f"only real floating tensors can require grad, not {self._array.dtype}: "
                "pass dtype=numpy.float64, or x.astype(float)"
            )
        if value and self._node is None:
            self._node = Node(self._array.shape, self._array.dtype)
            changes[0] += 1
        elif not value and self._node is not None:
            self._node = None
            layout = None if self._family is None else layout_of(self._array)
            self._array = self._array.copy("K")  # graphs that hold the old one see no change
            if layout is not None:
                _lay(self, layout)
            changes[0] += 1

    @property
    def is_leaf(self) -> bool:
        """Whether the user made this tensor, rather than a recorded operation."""
        return self._node is None or self._node.rule is None

    @guided
    def backward(self, gradient: ArrayLike | None = None, retain_graph: bool = False) -> None:
        """Add the derivative of this tensor to the `grad` of every leaf it was computed from.

        `gradient`, of this tensor's shape, weighs its elements; it may be left out for one element.
        The graph is freed on the way unless `retain_graph`. Raises GraphError without a graph, for
        a graph already freed, and for a leaf whose data was changed since it was used.

        >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
        >>> (x**3).backward([1.0, 10.0])
        >>> x.grad
        array([  3., 120.])
        """
        if self._node is None:
            raise GraphError(
                "backward: this tensor has no graph: no tensor that requires grad went into it, "
                "or it was computed under no_grad() or detached"
            )
        if gradient is None:
            if self.dtype.kind == "c":
                raise TypeError("backward: a complex output needs a gradient, or take numpy.real")
            if self.size != 1:
                raise ValueError(
                    f"backward: an output of shape {self.shape} needs a gradient of that shape; "
                    "or reduce it to one element first, say by numpy.sum"
                )
            seed = np.ones_like(plain(self))
        else:
            seed = as_array(_untracked(gradient), "backward").astype(self.dtype)
            if seed.shape != self.shape:
                raise ValueError(
                    f"backward: gradient of shape {seed.shape} for an output of shape {self.shape}"
                )
        nodes = ancestors(self._node)
        targets = {node for node in nodes if node.keeps_grad}
        if retain_graph:
            for node in nodes:
                node.retained = True
        accumulate(propagate(nodes, {self._node: seed}, targets, free=not retain_graph))
        if loans:
            del nodes, targets
            settle()

    def zero_grad(self) -> None:
        """Forget the gradient: `grad` is None again."""
        self._set_grad(None)

    def retain_grad(self) -> None:
        """Let a computed tensor keep its `grad`, as a leaf does."""
        if self._node is None:
            raise GraphError("retain_grad: the tensor does not require grad")
        self._node.keeps_grad = True

    def detach(self) -> Tensor:
        """Return an untracked tensor that shares this one's array: see `data`."""
        return tensor_of(self.data, None)

    def numpy(self) -> Array:
        """Return the array, shared with the tensor and without its graph."""
        return np.asarray(self.data)

    def item(self, *index: Any) -> Any:
        """Return the only element, or the one at an index, as a Python number."""
        return plain(self).item(*index)

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return plain(self).tolist()

    # -- attributes of the array

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._array.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements; PyTorch's `x.size()` is `t.shape`."""
        return self._array.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the elements."""
        return self._array.dtype

    @property
    def device(self) -> Any:
        """Where the array lives: `"cpu"` for NumPy's."""
        return self._array.device

    @property
    def itemsize(self) -> int:
        """The bytes of one element."""
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self._array.nbytes

    @property
    def real(self) -> Tensor:
        """The real part: of real numbers, they themselves."""
        return apply(np.real, (self,))

    @real.setter
    def real(self, value: Any) -> None:
        apply(np.real, (self,))[...] = value

    @property
    def imag(self) -> Tensor:
        """The imaginary part: of real numbers, zeros."""
        return apply(np.imag, (self,))

    @imag.setter
    def imag(self, value: Any) -> None:
        if self.dtype.kind != "c":
            raise TypeError(f"imag: a tensor of dtype {self.dtype} has no imaginary part to set")
        apply(np.imag, (self,))[...] = value

    @property
    def T(self) -> Tensor:
        """The tensor with all its axes in reverse order; PyTorch's `x.mT` is `t.mT`."""
        return apply(np.transpose, (self,))

    @property
    def mT(self) -> Tensor:
        """The tensor with its last two axes swapped: a stack of transposed matrices."""
        return apply(np.matrix_transpose, (self,))

    # -- methods of the array

    def reshape(
        self, *shape: Any, order: Literal["C", "F", "A"] = "C", copy: bool | None = None
    ) -> Tensor:
        """Return the elements in another shape, of which one length may be -1."""
        shape = shape[0] if len(shape) == 1 else shape
        if order == "C" and copy is None:
            return apply(reshape, (self, shape))
        return np.reshape(self, shape, order=order, copy=copy)  # type: ignore[return-value]

    def transpose(self, *axes: Any) -> Tensor:
        """Return the tensor with its axes permuted, by default reversed.

        Unlike in PyTorch, the order of all axes is given: its `x.transpose(0, 1)` is
        `t.swapaxes(0, 1)`.
        """
        if len(axes) == 2 < self.ndim:
            raise ValueError(
                f"transpose{axes} of {self.ndim} axes: list them all in their new order, or swap "
                f"two with t.swapaxes{axes}"
            )
        return apply(np.transpose, (self, axes[0] if len(axes) == 1 else axes or None))

    def astype(self, dtype: DTypeLike, copy: bool = True) -> Tensor:
        """Return the tensor in another dtype; the gradient is cast back."""
        return np.astype(self, np.dtype(dtype), copy=copy)  # type: ignore[call-overload, no-any-return]

    def copy(self, order: Literal["C", "F", "A", "K"] = "C") -> Tensor:
        """Return a copy, to which the gradient passes; by rows, unless another order is given."""
        return np.copy(self, order)  # type: ignore[return-value]

    @guided
    def flatten(self, order: Literal["C", "F", "A", "K"] = "C") -> Tensor:
        """Return a copy of the tensor with one axis, in this order of the elements.

        PyTorch's `x.flatten(1)` is `t.reshape(len(t), -1)`.
        """
        if isinstance(order, int):
            raise TypeError(
                f"flatten({order}): its only parameter is the order of the elements; to keep the "
                "first axis, use t.reshape(len(t), -1)"
            )
        return np.ravel(self, order).copy()  # type: ignore[return-value]

    def sort(self, *args: Any, **kwargs: Any) -> None:
        """Give this tensor its elements in the order of `numpy.sort`, with the same arguments.

        Unlike in PyTorch, it is done in place and None is returned: PyTorch's `x.sort()` is
        `np.sort(t), t.argsort()`.
        """
        check_keywords("sort", kwargs)
        self[...] = np.sort(self, *args, **kwargs)

    def partition(self, *args: Any, **kwargs: Any) -> None:
        """Give this tensor the order of `numpy.partition`, with the same arguments."""
        self[...] = np.partition(self, *args, **kwargs)

    def fill(self, value: Any) -> None:
        """Give each element this value."""
        self[...] = value

    def relu(self) -> Tensor:
        """Return `tg.nn.relu` of this tensor: the larger of each element and 0."""
        return self.__array_namespace__().nn.relu(self)  # type: ignore[no-any-return]

    def sigmoid(self) -> Tensor:
        """Return `tg.nn.sigmoid` of this tensor: 1 / (1 + exp(-t))."""
        return self.__array_namespace__().nn.sigmoid(self)  # type: ignore[no-any-return]

    def compress(self, condition: ArrayLike, axis: int | None = None) -> Tensor:
        """Return the slices along an axis for which `condition` is true."""
        return np.compress(condition, self, axis)  # type: ignore[arg-type, return-value]

    # -- Python's protocols

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return len(self._array)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return self._rows()

    def _rows(self) -> Iterator[Tensor]:
        rows: list[Any] = [*np.unstack(self)][::-1]
        array = self._array
        for i in range(len(rows)):
            if self._array is not array:  # it was written to
                rows.clear()
            yield rows.pop() if rows else self[i]

    def __contains__(self, value: Any) -> bool:
        return value in plain(self)

    def __bool__(self) -> bool:
        return bool(plain(self))

    def __float__(self) -> float:
        return float(_untracked(self))

    def __int__(self) -> int:
        return int(_untracked(self))

    def __complex__(self) -> complex:
        return complex(_untracked(self))

    def __index__(self) -> int:
        return operator.index(_untracked(self))

    def __round__(self, ndigits: int | None = None) -> float:
        return round(float(self), ndigits)

    def __repr__(self) -> str:
        text = repr(self._array).replace("array", "Tensor", 1).replace("\n", "\n ")
        return f"{text[:-1]}, requires_grad=True)" if self.requires_grad else text

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec and self.size == 1 else str(self._array), spec)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.is_leaf:
            raise GraphError(f"cannot pickle a computed tensor, {self._node}: detach() it first")
        return Tensor, (self._array, self.dtype, self.requires_grad)

    def __copy__(self) -> Tensor:
        """A leaf of its own; of a computed tensor, `numpy.copy`, through which gradients flow."""
        if self.is_leaf:
            return Tensor(plain(self), self.dtype, self.requires_grad)
        return np.copy(self)  # type: ignore[return-value]

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self.__copy__()

    __hash__ = object.__hash__

    # -- NumPy's protocols

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(_untracked(self), dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs or method == "at":
            if method == "at":
                cure = "to add up rows, use np.eye(n)[index].T @ tensor"
            elif any(isinstance(out, Tensor) for out in kwargs["out"]):
                cure = "leave out out=, and assign the result"
            else:
                cure = "instead of `array += tensor`, write `array = array + tensor`"
            raise TypeError(
                f"{ufunc.__name__} cannot write a tensor into an existing array: {cure}"
            )
        if not kwargs and method == "__call__":
            try:
                return apply(ufunc, inputs)
            except PrecedenceError:
                return _overridden(ufunc, method, inputs, kwargs)
        if any(overrides(type(a)) for a in inputs):
            return _overridden(ufunc, method, inputs, kwargs)
        fun: Function = getattr(ufunc, method)
        if fun in RULES:
            return apply(fun, inputs, {k: _untracked(v) for k, v in kwargs.items()})
        if fun in COMPOSITES:
            return apply(fun, inputs, kwargs)
        return apply(getattr(np.ufunc, method), (ufunc, *inputs), kwargs)  # what all have in common

    def __array_function__(self, func: Function, types: Any, args: Any, kwargs: Any) -> Any:
        if len(types) > 1 and any(map(overrides, types)):
            return NotImplemented
        return _enter(func, args, kwargs)

    # -- the array API standard

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
            raise ValueError(f"version {api_version!r} of the array API standard is not supported")
        return sys.modules["tensorgrad"]

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """Return this tensor, which must be on the device already: `"cpu"` for NumPy's arrays."""
        if device != self.device or stream is not None:
            raise ValueError(f"cannot move a tensor from device {self.device!r} to {device!r}")
        return self

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        return _untracked(self).__dlpack__(
            stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
        )

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    # -- indexing, and assignment, which gives the handle a new value

    def __getitem__(self, index: Any) -> Tensor:
        return apply(operator.getitem, (self, _plain_index(index)))

    def __setitem__(self, index: Any, value: Any) -> None:
        index = _plain_index(index)
        place = None if self._family is None else _view_at(self, index)
        kin = isinstance(value, Tensor) and value._family is self._family
        if place is not None and kin and coincide(concrete(plain(value)), place):
            return  # y[i] += x has changed it already
        self._become(assign, (self, value, index), place)

    def _become(self, fun: Function, args: tuple[Any, ...], written: Array | None = None) -> Tensor:
        """Give this tensor the value of `fun(*args)`, and its views the values that follow.

        `written` are the elements that change, if not all. No node and no saved array changes.
        """
        layouts = _overlapping(self, written) if self._family else {}
        for t in layouts or (self,):
            if t._node is not None and t._node.rule is None and mode.get().recording:
                view = f"a view of shape {self.shape}, of "
                raise GraphError(
                    f"cannot change in place {'' if t is self else view}a {t._node} that requires "
                    "grad: do it under no_grad(), assign the tensor's .data, or compute a new "
                    "tensor"
                )
        value = apply(fun, args)
        if value.shape != self.shape:
            raise ValueError(
                f"{name_of(fun)}: a result of shape {value.shape} does not fit in place into "
                f"a tensor of shape {self.shape}"
            )
        if value.dtype != self.dtype:
            if not np.can_cast(value.dtype, self.dtype, "same_kind"):
                raise TypeError(
                    f"{name_of(fun)}: cannot cast {value.dtype} in place to {self.dtype}"
                )
            value = value.astype(self.dtype)
        if layouts or not _lie_alike(self, value):
            _write_through(self, value, layouts or {self: layout_of(self._array)})
        else:
            self._take(value)
        return self

    def _take(self, value: Tensor) -> None:
        """Become what another tensor is; a leaf takes its data alone."""
        if self._node is not None and self._node.rule is None:
            family = self._family
            self.data = value._array
            self._family = family
        else:
            self._array, self._node = value._array, value._node
            changes[0] += 1

    # -- operators

    __add__, __radd__, __iadd__ = _operators(np.add)
    __sub__, __rsub__, __isub__ = _operators(np.subtract)
    __mul__, __rmul__, __imul__ = _operators(np.multiply)
    __truediv__, __rtruediv__, __itruediv__ = _operators(np.true_divide)
    __floordiv__, __rfloordiv__, __ifloordiv__ = _operators(np.floor_divide)
    __mod__, __rmod__, __imod__ = _operators(np.remainder)
    __matmul__, __rmatmul__, __imatmul__ = _operators(np.matmul)
    __and__, __rand__, __iand__ = _operators(np.bitwise_and)
    __or__, __ror__, __ior__ = _operators(np.bitwise_or)
    __xor__, __rxor__, __ixor__ = _operators(np.bitwise_xor)
    __lshift__, __rlshift__, __ilshift__ = _operators(np.left_shift)
    __rshift__, __rrshift__, __irshift__ = _operators(np.right_shift)

    __lt__ = _operators(np.less)[0]
    __le__ = _operators(np.less_equal)[0]
    __gt__ = _operators(np.greater)[0]
    __ge__ = _operators(np.greater_equal)[0]
    if TYPE_CHECKING:

        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]: ...
        def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]: ...

    else:
        __eq__ = _operators(operator.eq)[0]
        __ne__ = _operators(operator.ne)[0]
        __divmod__, __rdivmod__ = _operators(np.divmod)[:2]

    _power, __rpow__, __ipow__ = _operators(np.power)

    def __pow__(self, other: Any) -> Tensor:
        plain_number = type(other) in (int, float) and self.dtype.kind == "f"
        short_form = POWERS.get(other) if plain_number else None
        return self._power(other) if short_form is None else apply(short_form, (self,))

    def __neg__(self) -> Tensor:
        return apply(np.negative, (self,))

    def __pos__(self) -> Tensor:
        return apply(np.positive, (self,))

    def __abs__(self) -> Tensor:
        return apply(np.absolute, (self,))

    def __invert__(self) -> Tensor:
        return apply(np.invert, (self,))


not_callable(__name__)


def precedence_error(fun: Function, operand: Any) -> PrecedenceError:
    """The error for an operand whose class takes precedence, but has no result."""
    kind = type(operand)
    cure = "x.todense()" if hasattr(kind, "todense") else "numpy.asarray(x)"
    return PrecedenceError(
        f"{name_of(fun)}: {kind.__module__}.{kind.__qualname__} takes precedence over a tensor, "
        f"but has no result for this call: convert it to a plain array with {cure}, or write the "
        "operation and its derivative with tensorgrad.differentiable"
    )


def _overridden(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: Any) -> Any:
    """The result of a ufunc by the first class of an operand that takes precedence."""
    first = [a for a in inputs if overrides(type(a))]
    for a in first:
        if getattr(type(a), "__array_ufunc__", None) is not None:
            out = a.__array_ufunc__(ufunc, method, *inputs, **kwargs)
            if out is not NotImplemented:
                return out
    raise precedence_error(ufunc, first[0])


# NumPy's own `array ** number` takes these shorter ways too.
POWERS: dict[float, Function] = {
    -1: np.reciprocal,
    0.5: np.sqrt,
    1: np.positive,
    2: np.square,
}


def reshape(x: Any, shape: Any) -> Any:
    """`np.reshape` in C order, in a third less time."""
    return x.reshape(shape)


@shown_as("setitem")
def assign(x: Any, value: Any, index: Any) -> Any:
    """A copy of the array `x` in which the elements at `index` are `value`."""
    x = x.copy()
    x[index] = value
    return x


def asarray(
    data: ArrayLike | Tensor,
    dtype: DTypeLike | None = None,
    copy: bool | None = None,
    device: Any = None,
) -> Tensor:
    """Return data as a tensor, sharing its memory where possible.

    A tensor keeps its graph. Nested lists may hold tensors beside arrays and numbers: the parts of
    each list have one shape, and gradients reach the tensors. `copy=True` always copies,
    `copy=False` raises ValueError where a copy would be needed. `device` is the one where the data
    is: see `Tensor.to_device`.

    >>> tg.grad(lambda x: np.sum(tg.asarray([[x, 1.0], [x * x, 0.0]]) ** 2))(2.0)
    array(36.)
    >>> a = np.zeros(3)
    >>> t = tg.asarray(a, copy=False)
    >>> a[0] = 1.0
    >>> t
    Tensor([1., 0., 0.])
    """
    if not isinstance(data, Tensor):
        nested = isinstance(data, (list, tuple)) and copy is not False
        if not (nested or hasattr(data, "__array_function__")):
            data = np.asarray(data, dtype, copy=copy)
        data = as_operand(data, "asarray", dtype)
        data = data if isinstance(data, Tensor) else tensor_of(data, None)
    if device is not None:
        data = data.to_device(device)
    if dtype is not None and data.dtype != dtype:
        if copy is False:
            raise ValueError(f"asarray: a copy is needed to convert {data.dtype} to {dtype}")
        return data.astype(dtype)
    return data.copy() if copy else data


def as_operand(value: Any, name: str, dtype: DTypeLike | None = None) -> Any:
    """An operand as a numeric array; or as a tensor, if there are tensors in nested lists."""
    if isinstance(value, (list, tuple)):
        stacked = any_tracked(value)  # NumPy takes a tensor whose graph was freed for a number
        if not stacked:
            try:
                value = np.asarray(value, dtype)
            except (TypeError, ValueError):
                stacked = holds_tensors(value)
                if not stacked:
                    raise
        if stacked:
            value = _stacked(value, name, dtype)
    return as_array(value, name)


def holds_tensors(value: Any) -> bool:
    """Whether nested lists and tuples hold tensors, or arrays of other classes than NumPy's."""
    for part in value:
        if type(part) in _PLAIN:
            continue
        if isinstance(part, (list, tuple)):
            if holds_tensors(part):
                return True
        elif isinstance(part, Tensor) or _is_foreign(part):
            return True
    return False


def _is_foreign(value: Any) -> bool:
    return hasattr(value, "__array_function__") and not isinstance(value, (np.ndarray, np.generic))


def _stacked(value: Any, name: str, dtype: DTypeLike | None, place: str = "") -> Any:
    """Nested lists of arrays and numbers as one array."""
    if not isinstance(value, (list, tuple)):
        return value if _is_foreign(value) else as_array(np.asarray(value, dtype), name)
    parts = [_stacked(part, name, dtype, f"{place}[{i}]") for i, part in enumerate(value)]
    for i, part in enumerate(parts):
        if part.shape != parts[0].shape:
            raise ValueError(
                f"{name}: the parts of a list must have one shape, but {place}[0] has shape "
                f"{parts[0].shape} and {place}[{i}] has shape {part.shape}"
            )
    return np.stack(parts) if parts else np.asarray(parts, dtype)


def plain(value: Any) -> Any:
    """The array of a tensor, tracked or not; anything else, as it is."""
    if not isinstance(value, Tensor):
        return value
    trace = mode.get().trace
    return value._array if trace is None else trace.tensor(value)


def _untracked(value: Any) -> Any:
    """The array of a tensor that no gradient can go through; what is not a tensor, as it is."""
    if not isinstance(value, Tensor):
        return value
    node = value._node
    if node is not None and node.leads_to_leaves:
        raise TypeError(
            f"a tensor that requires grad, {node}, cannot become a plain array or number "
            "unasked. These keep the gradient: tensorgrad.asarray, numpy.stack, numpy.concatenate "
            "to make an array of tensors (not numpy.array or numpy.r_), tensorgrad.zeros to make "
            "one to write tensors into, tensorgrad.differentiable for a function of plain arrays. "
            "These cut it, so that it is 0: .numpy(), .item() and .detach()"
        )
    return plain(value)


def _enter(fun: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
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
        if fun in RULES:
            with contextlib.suppress(ValueError):  # some functions written in C have no signature
                try:
                    bound = signature(fun).bind(*args, **kwargs)
                except TypeError as error:
                    check_keywords(name_of(fun), kwargs)
                    raise TypeError(f"{name_of(fun)}: {error}") from None
                args, kwargs = bound.args, bound.kwargs
            kwargs = {name: _untracked(value) for name, value in kwargs.items()}
    return apply(fun, args, kwargs)


@functools.lru_cache(maxsize=1024)
def position_of_out(fun: Function) -> int:
    """The position of the parameter `out` among the arguments, very large where it has none."""
    try:
        parameters = [*signature(fun).parameters.values()]
    except ValueError:  # some functions written in C have no signature
        return sys.maxsize
    positions = (
        i for i, p in enumerate(parameters) if p.name == "out" and p.kind != p.KEYWORD_ONLY
    )
    return next(positions, sys.maxsize)


def _plain_index(index: Any) -> Any:
    """An index in which lists, ranges and tensors are arrays."""
    if isinstance(index, tuple):
        return tuple([_plain_part(part) for part in index])
    return _plain_part(index)


_BOUNDS = {int, type(None)}


def _plain_part(part: Any) -> Any:
    if type(part) is slice:
        start, stop, step = bounds = part.start, part.stop, part.step
        if type(start) in _BOUNDS and type(stop) in _BOUNDS and type(step) in _BOUNDS:
            return part
        return slice(*[None if b is None else operator.index(b) for b in bounds])
    if part is None or part is ... or isinstance(part, (int, np.integer)):
        return part
    part = _untracked(part)
    array = part if hasattr(part, "__array_function__") else np.asarray(part)
    # The array of an empty list is one of floats, which cannot be an index.
    return array if array.size or isinstance(part, np.ndarray) else array.astype(np.intp)


def differentiable(
    *vjps: Function | None,
    each: Function | None = None,
    together: Function | None = None,
    form: Form | None = None,
) -> Callable[[F], F]:
    """Make a function of arrays an operation on tensors, with these derivatives.

    The function may be written in anything: it receives arrays. There is one vjp per array
    argument, called as `(g, out, *args, **kwargs)` with the cotangent `g` of the output; written in
    NumPy, it holds at every order. Parameters without a derivative come last, or as keywords. Of a
    function that returns a tuple, `g` and `out` are tuples. A parameter whose name starts with an
    underscore is not read, and its array is not kept for the backward pass.

    Where the derivatives share work, one vjp may return them all: `together=`, as many as it has
    arguments without a default after `g` and `out`. `each` and `form` are those of a `Rule`.
    Decorate a function once, not in a loop: operations are never forgotten.

    >>> @tg.differentiable(lambda g, y, _x: g * y * (1 - y))
    ... def logistic(x):
    ...     return 1 / (1 + np.exp(-x))
    >>> x = tg.Tensor(0.0, requires_grad=True)
    >>> logistic(x).backward()
    >>> x.grad
    array(0.25)
    >>> @tg.differentiable(lambda g, y, _x: g[0] * y[1] - g[1] * y[0])
    ... def sin_and_cos(x):
    ...     return np.sin(x), np.cos(x)
    >>> tg.gradcheck(lambda x: np.divide(*sin_and_cos(x)), np.linspace(-1, 1, 5))
    True
    """

    def decorate(fun: F) -> F:
        @functools.wraps(fun)
        def operation(*args: Any, **kwargs: Any) -> Any:
            for a in (*args, *kwargs.values()) if kwargs else args:
                if type(a) in _NO_TENSOR:
                    continue
                if isinstance(a, Tensor):
                    return _enter(operation, args, kwargs) if kwargs else apply(operation, args)
                if type(a) is Batch:
                    return call(operation, args, kwargs)
                if type(a) is list and holds_tensors(a):
                    args, kwargs = _gather(operation, args, kwargs)
                    return operation(*args, **kwargs)
            trace = mode.get().trace
            return fun(*args, **kwargs) if trace is None else trace.call(fun, *args, **kwargs)

        operation.__name__ = name_of(fun)
        if together is None:
            rule(operation, *vjps, each=each, form=form)
        else:
            parameters = signature(together).parameters.values()
            rule_together(operation, together, sum(p.default is p.empty for p in parameters) - 2)
        # Functions from outside may return views; ours return new arrays.
        RULES[operation].views = not str(fun.__module__).startswith(f"{__package__}.")
        return operation  # type: ignore[return-value]

    return decorate


# --------------------------------------------------------------------------------------------
# Views: tensors that share memory, as NumPy's arrays do


def relate(results: Any, args: Sequence[Any]) -> None:
    """Put results into the family of the argument whose memory they share, if there is one."""
    if type(results) is Tensor:
        try:
            base, home = args[0], results._array.base
        except AttributeError:  # another library's array: where it lies, only that library knows
            return
        near = home is not None and type(base) is Tensor  # nearly always, in a third of the time
        if not near or (home is not base._array and home is not base._array.base):
            base = _base(results._array, args)
            if base is None:
                return
        family = base._family
        if family is None:
            family = base._family = set()
            family.add(ref(base, family.discard))
        results._family = family
        family.add(ref(results, family.discard))
    elif isinstance(results, (tuple, list)):
        for y in results:
            relate(y, args)


def _relatives(t: Tensor) -> list[Tensor]:
    """The other tensors in the same memory."""
    found = [reference() for reference in [*(t._family or ())]]
    return [
        other
        for other in found
        if other is not None and other is not t and other._family is t._family
    ]


def _base(array: Any, args: Sequence[Any]) -> Tensor | None:
    """The first tensor among the arguments that lies in the memory of an array."""
    owner = array if array.base is None else array.base
    # Nearly always, the owner of the memory is the base, and it takes no search.
    is_known = type(array) is _ndarray and type(owner) is _ndarray and owner.base is None
    for a in args:
        if isinstance(a, Tensor) and hasattr(a._array, "base"):
            other = a._array
            its = other if other.base is None else other.base
            if its is owner or (
                not (is_known and type(its) is _ndarray and its.base is None)
                and owner_of(concrete(array)) is owner_of(concrete(plain(a)))
            ):
                return a
    return None


def _lie_alike(t: Tensor, value: Tensor) -> bool:
    """Whether a new value has the strides of the old one, or elements of that overlap."""
    array, other = concrete(t._array), concrete(value._array)
    if not hasattr(array, "strides"):  # another library's
        return True
    return array.strides == getattr(other, "strides", None) or layout_of(array).repeats


def _view_at(t: Tensor, index: Any) -> Array | None:
    """The elements of a tensor at an index, if NumPy returns a view of them."""
    for i in index if isinstance(index, tuple) else (index,):
        if not (i is None or i is ... or isinstance(i, (slice, int, np.integer))):
            return None
    array = concrete(plain(t))
    place = array[index]
    if type(place) is np.ndarray and owner_of(place) is owner_of(array):
        return place
    return None


def _overlapping(target: Tensor, written: Array | None) -> dict[Tensor, Layout]:
    """How a tensor lies, and others that lie where elements of it are written, by default all.

    Nothing where all others are gone; else its own layout counts, by which others tell its place.
    """
    own = layout_of(plain(target))
    if own.repeats or not own.writeable:
        raise ValueError(
            f"cannot write into a read-only view of shape {target.shape}, as broadcast_to and "
            "diagonal return: write into a copy, or into the tensor that it is a view of"
        )
    layouts = {target: own}
    place = concrete(plain(target)) if written is None else written
    layout_of_place = layout_of(place)
    relatives = _relatives(target)
    for t in relatives:
        array = concrete(plain(t))
        together = array.base is place.base is not None
        if together and not np.may_share_memory(array, place):
            continue  # most of many rows, in a fifth of the time
        layout = layout_of(array)
        if layout.meets(layout_of_place):
            layouts[t] = layout
    return layouts if relatives else {}


def _write_through(target: Tensor, value: Tensor, layouts: Mapping[Tensor, Layout]) -> None:
    """Give a tensor a new value, and the others in the same memory the values that follow.

    First, the one that fills the memory, or stays in it: the others are made again as parts of it.
    """
    holders = (t for t, layout in layouts.items() if layout.is_whole or _stays(t))
    first = next(holders, target)
    of_first = layouts[first]
    new = value if first is target else _shown(first, value, of_first, layouts[target])
    values = {first: new, target: value} | {
        t: _shown(t, new, layout, of_first)
        for t, layout in layouts.items()
        if t is not first and t is not target
    }
    tracked = [t for t in layouts if not t.is_leaf]
    leaves = [t for t in layouts if t.is_leaf and t.requires_grad]
    with _all_or_none(layouts):
        memory = None
        for t, shown in values.items():
            t._take(shown)
            _lay(t, layouts[t], memory)
            if t is first:
                memory = _memory_of(t)
        for leaf in leaves:  # nothing is being recorded, but the views of a leaf remain its views
            for t in tracked:
                with enable_grad():
                    t._take(_shown(t, leaf, layouts[t], layouts[leaf]))
                _lay(t, layouts[t], memory)


@contextlib.contextmanager
def _all_or_none(tensors: Iterable[Tensor]) -> Iterator[None]:
    """A block that changes all of these tensors, or none if it is interrupted."""
    before = [(t, t._array, t._node, t._family) for t in tensors]
    elements = [(t._array, t._array.copy("K")) for t, *_ in before if _stays(t)]
    try:
        yield
    except BaseException:
        for t, array, node, family in before:
            t._array, t._node, t._family = array, node, family
        for array, earlier in elements:
            array[...] = earlier
        raise


def move(leaf: Tensor, home: Array) -> None:
    """Move a leaf and its views into another array, which has its elements already."""
    old, new = layout_of(leaf._array), layout_of(home)
    relatives = _relatives(leaf)
    with _all_or_none([leaf, *relatives]):
        for t in relatives:
            layout = layout_of(t._array)
            plain_view = type(t._array) is _ndarray and old.covers(layout)
            if plain_view and old.strides == new.strides:
                start = layout.start - old.start + new.start
                t._array = seen(owner_of(home), layout._replace(start=start, nbytes=new.nbytes))
            else:
                t._family = None
        leaf._array = home
    if leaf._node is not None:
        leaf._node.out = home
    changes[0] += 1


def _shown(t: Tensor, over: Tensor, of_t: Layout, of_over: Layout) -> Tensor:
    """The value of a tensor after another one was written into the memory that they share."""
    if of_t.repeats:
        if of_t.dtype != of_over.dtype:
            raise TypeError(
                f"a write would change a view of shape {t.shape} whose elements overlap and are "
                "the real or imaginary part of what is written: make the view a copy"
            )
        numbers = places(of_t, of_over)
        shown: Any = np.where(numbers >= 0, np.ravel(over)[numbers], t)
        return shown  # type: ignore[no-any-return]
    if of_over.is_whole:
        return apply(part, (over, of_t, of_over))
    return apply(overlaid, (t, over, of_t, of_over))


def _lay(t: Tensor, layout: Layout, memory: Any = None) -> None:
    """Let the array of a tensor lie as it did: in this memory, or else in its own."""
    trace = mode.get().trace
    call = (lambda fun, args: fun(*args)) if trace is None else trace.record
    if memory is None and layout_of(plain(t)) != layout:
        memory = call(filled, (plain(t), layout))
    if memory is not None and not _stays(t):
        t._array = call(seen, (memory, layout))
    if not layout.writeable:
        concrete(t._array).flags.writeable = False


def _memory_of(t: Tensor) -> Any:
    """The memory of a tensor, if others can lie in it too: if it has all their elements."""
    trace, array = mode.get().trace, plain(t)
    owner = owner_of(concrete(array))
    if not (owner.flags.writeable and (_stays(t) or layout_of(array).is_whole)):
        return None
    if trace is None:
        return owner
    return trace.state(owner) if _stays(t) else array if concrete(array) is owner else None


def _reunite(t: Tensor) -> None:
    """Let a tensor and others that were views of the same array lie in one memory again.

    An element that is written into the array of one then shows in all.
    """
    kin = [t, *_relatives(t)]
    arrays = [plain(other) for other in kin]
    if len({id(a) if a.base is None else id(a.base) for a in arrays}) == 1:
        return  # nearly always
    memory = next((m for m in map(_memory_of, kin) if m is not None), None)
    for other, array in zip(kin, arrays) if memory is not None else ():
        if owner_of(concrete(array)) is not owner_of(concrete(memory)):
            _lay(other, layout_of(array), memory)
            changes[0] += 1


def _stays(t: Tensor) -> bool:
    """Whether it is a leaf whose data stays where it is, in an optimizer's memory."""
    node = t._node
    return node is not None and node.rule is None and node.out is not None


def _turned(fun: Function, g: Any, to: Layout, of: Layout) -> Any:
    """A part of a cotangent, which are conjugates of what lies in memory."""
    if "c" in (to.dtype.kind, of.dtype.kind):
        return np.conjugate(fun(np.conjugate(g), to, of))
    return fun(g, to, of)


part: Function = differentiable(
    lambda g, _y, _x, of_part, of_x: _turned(part, g, of_x, of_part), form="linear"
)(_part)
overlaid: Function = differentiable(
    lambda g, _y, _under, _over, of_under, of_over: overlaid(g, 0, of_under, of_over),
    lambda g, _y, _under, _over, of_under, of_over: _turned(part, g, of_over, of_under),
    form="linear",
)(_overlaid)
