"""The tensor: an array that can remember how it was computed."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..errors import GraphError, PrecedenceError
from ..guide import check_keywords, guide, guided
from ..tables import WIDTH
from .arrays import as_array, conjugated, require_castable
from .backward import backpropagate, of_leaf
from .dispatch import apply, apply_numpy_function
from .exposed import UNUSED, expose, exposed, forget_unused, references
from .frames import warn
from .graph import ancestors, node_of
from .hooks import RemovableHandle, add_hook
from .interpreter import epoch
from .methods import NumpyMethods
from .modes import is_traced, mode, plain
from .mutation import become, restore_layout, set_item, share_memory_again
from .operands import (
    PLAIN,
    as_operand,
    is_operand,
    overridden,
    overrides,
    plain_index,
    precedence_error,
    without_graph,
)
from .primitives import POWERS, reshape
from .randomness import running
from .registry import COMPOSITES, RULES
from .typing import Array, Function
from .variable import Variable, tensor_of
from .views import layout_of

_Operator: TypeAlias = "Callable[[Tensor, Any], Tensor]"


def _operators(fun: Function) -> tuple[_Operator, _Operator, _Operator]:
    """Return the methods of one binary operator: plain, reflected and in place."""

    def binary(self: Tensor, other: Any) -> Tensor:
        if type(other) in PLAIN or isinstance(other, Tensor) or is_operand(other):
            return apply(fun, (self, other))
        if self._node is not None and hasattr(type(other), "todense"):  # it holds numbers only
            raise precedence_error(fun, other)
        return NotImplemented

    def reflected(self: Tensor, other: Any) -> Tensor:
        return apply(fun, (other, self))

    def in_place(self: Tensor, other: Any) -> Tensor:
        return become(self, fun, (self, other))

    return binary, reflected, in_place


@guide
class Tensor(Variable, NumpyMethods):
    """An array that can remember how it was computed, and take gradients.

    `data` (anything that `np.array` accepts, or another library's array that speaks NumPy's
    protocols) is copied; `asarray(data, copy=False)` shares it. Without `dtype`, NumPy chooses it.
    Only a floating or complex tensor can require a gradient. NumPy functions and Python operators
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

    __slots__ = ()
    __pandas_priority__ = 5000  # above its own classes: their columns are operands

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
        operand = as_operand(without_graph(data), "Tensor")
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
        through an earlier graph raise an error. A leaf in an optimizer keeps its memory.

        Writing an element (`t.data[0] = 1`) counts as a change too if the array was read while a
        graph needed it; such a read copies the array. A change goes unnoticed if the array was read
        earlier, or if the tensor is untracked: graphs use its array without a copy, as they use
        plain arrays. `guard` finds these changes.
        """
        node, family = self._node, self._family
        has_views = family is not None and len(family) > 1
        if has_views:
            share_memory_again(self)
        is_used = node is not None and (node.rule is not None or references(node) > UNUSED)
        if (is_used or has_views) and not is_traced():
            expose(self)
        return mode.get().interpreter.array(self)

    @data.setter
    def data(self, value: ArrayLike | Tensor) -> None:
        node = self._node
        if node is not None and node.rule is not None:
            raise GraphError(
                f"cannot assign the data of a computed tensor, {node}: detach() it first; after "
                "`t.data += x` its array has changed already, so compute it again"
            )
        mode.get().interpreter.assign(self, without_graph(value))

    @property
    def grad(self) -> Array | Any:  # not `| None`: checkers would demand a test for it at each use
        """The gradient that backward passes have summed up, of the data's shape and dtype, or None.

        Only leaves have one, and tensors on which `retain_grad()` was called. Reading it from
        another tensor after a backward pass gives a UserWarning.
        """
        node = self._node
        if node is None:
            return None
        g = mode.get().interpreter.grad(node)
        if g is None and not node.keeps_grad and node.passed:
            warn(
                f"grad of a computed tensor, {node}, is None: only leaves keep theirs. Call its "
                "retain_grad() before backward(). To update a parameter, change its data: "
                "w.data -= lr * w.grad"
            )
        return g

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if self._node is None:
            raise GraphError("cannot assign grad: the tensor does not require grad")
        if value is not None:
            if np.shape(value) not in ((), self.shape):
                raise ValueError(f"cannot assign grad of shape {np.shape(value)} to a {self._node}")
            value = np.full_like(plain(self), value)
        mode.get().interpreter.set_grad(self._node, value)

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
        if value and self._array.dtype.kind not in "fc":
            raise TypeError(
                f"only floating and complex tensors can require grad, not {self._array.dtype}: "
                "pass dtype=numpy.float64, or x.astype(float)"
            )
        if value and self._node is None:
            self._node = node_of(self._array.shape, self._array.dtype)
            epoch[0] += 1
        elif not value and self._node is not None:
            self._node = None
            layout = None if self._family is None else layout_of(self._array)
            self._array = self._array.copy("K")  # graphs that hold the old one see no change
            if layout is not None:
                restore_layout(self, layout)
            epoch[0] += 1

    @guided
    def backward(self, gradient: ArrayLike | None = None, retain_graph: bool = False) -> None:
        """Add the derivative of this tensor to the `grad` of every leaf it was computed from.

        `gradient` holds a weight for each element, in this tensor's shape; a real tensor of one
        element needs none. Of a complex leaf z, it is the direction of steepest ascent: the
        derivative by the real part of z, plus 1j times that by its imaginary part. `gradient` is
        such a direction too, for the loss as a function of this tensor. The graph is freed on the
        way unless `retain_graph`. Raises GraphError without a graph, for a graph already freed, and
        for a leaf whose data was changed since it was used.

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
                raise TypeError(
                    "backward: a complex output needs a gradient: make it real, say by numpy.abs, "
                    "or pass one"
                )
            if self.size != 1:
                raise ValueError(
                    f"backward: an output of shape {self.shape} needs a gradient of that shape; "
                    "or reduce it to one element first, say by numpy.sum"
                )
            seed = np.ones_like(plain(self))
        else:
            seed = as_array(without_graph(gradient), "backward")
            if seed.shape != self.shape:
                raise ValueError(
                    f"backward: gradient of shape {seed.shape} for an output of shape {self.shape}"
                )
            require_castable(seed.dtype, self.dtype, "backward: the gradient", "the output")
            seed = conjugated(seed.astype(self.dtype))
        nodes = ancestors(self._node)
        targets = {node for node in nodes if node.keeps_grad}
        if retain_graph:
            for node in nodes:
                node.retained = True
        found = backpropagate(nodes, {self._node: seed}, targets, free=not retain_graph)
        if running.get():
            found = {node: of_leaf(node, g) for node, g in found.items()}
        mode.get().interpreter.accumulate(
            {node: g if g.dtype.kind == "f" else conjugated(g) for node, g in found.items()}
        )
        if exposed:
            del nodes, targets, found
            forget_unused()

    def zero_grad(self) -> None:
        """Forget the gradient: `grad` is None again."""
        if self._node is not None:
            mode.get().interpreter.set_grad(self._node, None)

    def retain_grad(self) -> None:
        """Let a computed tensor keep its `grad`, as a leaf does."""
        if self._node is None:
            raise GraphError("retain_grad: the tensor does not require grad")
        self._node.keeps_grad = True

    def register_hook(self, hook: Callable[[Any], Any]) -> RemovableHandle:
        """Call `hook` with the gradient of this tensor in each backward pass.

        It gets a copy of the whole gradient, an array, and may return another one of the same
        shape, which goes on in its place; within a transform that is differentiated again, it is a
        tensor. The hooks of a leaf are called before the gradient is added to `grad`. `remove()` of
        the handle that is returned takes the hook away. Copies of a tensor have no hooks.

        >>> w = tg.Tensor([1.0, 2.0], requires_grad=True)
        >>> with w.register_hook(lambda g: np.clip(g, -1, 1)):
        ...     np.sum(w**3).backward()
        >>> w.grad
        array([1., 1.])
        """
        if self._node is None:
            raise GraphError("register_hook: the tensor does not require grad")
        return add_hook(self._node, hook)

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

        Unlike in PyTorch, the new order of all axes is an argument: its `x.transpose(0, 1)` is
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
        return np.astype(self, np.dtype(dtype), copy=copy)  # type: ignore[call-overload]

    def copy(self, order: Literal["C", "F", "A", "K"] = "C") -> Tensor:
        """Return a copy, to which the gradient passes; in row-major order by default."""
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
        return self.__array_namespace__().nn.relu(self)

    def sigmoid(self) -> Tensor:
        """Return `tg.nn.sigmoid` of this tensor: 1 / (1 + exp(-t))."""
        return self.__array_namespace__().nn.sigmoid(self)

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
        return float(without_graph(self))

    def __int__(self) -> int:
        return int(without_graph(self))

    def __complex__(self) -> complex:
        return complex(without_graph(self))

    def __index__(self) -> int:
        return operator.index(without_graph(self))

    def __round__(self, ndigits: int | None = None) -> float:
        return round(float(self), ndigits)

    def __repr__(self) -> str:
        text = repr(self._array).replace("array", "Tensor", 1).replace("\n", "\n ")
        if not self.requires_grad:
            return text
        room = WIDTH - (len(text) - text.rfind("\n") - 1)
        end = f"requires_grad=True{text[-1]}"
        return f"{text[:-1]}, {end}" if len(end) < room else f"{text[:-1]},\n       {end}"

    def _repr_html_(self) -> str:
        """Shape and dtype, the elements, and the size of the gradient, for notebooks."""
        facts = f"Tensor of shape {self.shape}, {self.dtype}"
        facts += ", requires_grad=True" if self.requires_grad else ""
        grad = self._node.grad if self._node is not None else None
        if grad is not None:
            facts += f", with a gradient of norm {np.linalg.norm(grad):.4g}"
        return f"<div>{facts}</div><pre>{self._array}</pre>"

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
        return np.array(without_graph(self), dtype, copy=copy)

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
                return overridden(ufunc, method, inputs, kwargs)
        if any(overrides(type(a)) for a in inputs):
            return overridden(ufunc, method, inputs, kwargs)
        fun: Function = getattr(ufunc, method)
        if fun in RULES:
            return apply(fun, inputs, {k: without_graph(v) for k, v in kwargs.items()})
        if fun in COMPOSITES:
            return apply(fun, inputs, kwargs)
        return apply(getattr(np.ufunc, method), (ufunc, *inputs), kwargs)  # what all have in common

    def __array_function__(self, func: Function, types: Any, args: Any, kwargs: Any) -> Any:
        if len(types) > 1 and any(map(overrides, types)):
            return NotImplemented
        return apply_numpy_function(func, args, kwargs)

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
        return without_graph(self).__dlpack__(
            stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
        )

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    # -- indexing, and assignment, which gives the handle a new value

    def __getitem__(self, index: Any) -> Tensor:
        index = plain_index(index)
        part: Tensor = apply(operator.getitem, (self, index))
        if type(self._array) is not np.ndarray:
            mode.get().interpreter.selected(self, index, part)
        return part

    def __setitem__(self, index: Any, value: Any) -> None:
        set_item(self, index, value)

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


Variable._of_results = Tensor


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
