"""The methods of a tensor that call a NumPy function, with signatures for type checkers.

A signature lists the usual arguments; a call passes all its arguments on to NumPy.
"""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..guide import MEANINGS, check_keywords
from .typing import Axis

Order: TypeAlias = Literal["C", "F", "A", "K"]
M = TypeVar("M", bound=Callable[..., Any])


def _calls_numpy(declared: M) -> M:
    """Make a method call the NumPy function of the same name, with the same arguments."""
    name = declared.__name__
    fun = getattr(np, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            check_keywords(name, kwargs)
        elif len(args) > 1 and type(args[1]) is bool:  # NumPy takes it for a dtype or out=
            raise TypeError(f"{name}: pass {args[1]} by name, as in keepdims={args[1]}")
        return fun(self, *args, **kwargs)

    functools.update_wrapper(method, declared)
    if name in MEANINGS:
        method.__doc__ = f"{declared.__doc__}\n\nUnlike in PyTorch, {MEANINGS[name]}."
    return method  # type: ignore[return-value]


class NumpyMethods:
    """The methods of `Tensor` that call NumPy's function of the same name."""

    __slots__ = ()

    # -- reductions

    @_calls_numpy
    def sum(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        *,
        keepdims: bool = False,
        initial: ArrayLike = 0,
        where: ArrayLike = True,
    ) -> Self:
        """Return the sum over an axis, over several, or of all elements, as `numpy.sum` does."""

    @_calls_numpy
    def prod(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        *,
        keepdims: bool = False,
        initial: ArrayLike = 1,
        where: ArrayLike = True,
    ) -> Self:
        """Return the product over an axis, over several, or of all, as `numpy.prod` does."""

    @_calls_numpy
    def mean(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        *,
        keepdims: bool = False,
        where: ArrayLike = True,
    ) -> Self:
        """Return the mean over an axis, over several, or of all elements, as `numpy.mean` does."""

    @_calls_numpy
    def std(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        *,
        ddof: float = 0,
        keepdims: bool = False,
        where: ArrayLike = True,
        correction: float = 0,
    ) -> Self:
        """Return the standard deviation over an axis, several, or of all, as `numpy.std` does."""

    @_calls_numpy
    def var(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        *,
        ddof: float = 0,
        keepdims: bool = False,
        where: ArrayLike = True,
        correction: float = 0,
    ) -> Self:
        """Return the variance over an axis, over several, or of all, as `numpy.var` does."""

    @_calls_numpy
    def max(
        self,
        axis: Axis = None,
        *,
        keepdims: bool = False,
        initial: ArrayLike = ...,
        where: ArrayLike = True,
    ) -> Self:
        """Return the largest element along an axis, several, or of all, as `numpy.max` does."""

    @_calls_numpy
    def min(
        self,
        axis: Axis = None,
        *,
        keepdims: bool = False,
        initial: ArrayLike = ...,
        where: ArrayLike = True,
    ) -> Self:
        """Return the smallest element along an axis, several, or of all, as `numpy.min` does."""

    @_calls_numpy
    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Self:
        """Return the position of the largest element, along an axis or of all."""

    @_calls_numpy
    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Self:
        """Return the position of the smallest element, along an axis or of all."""

    @_calls_numpy
    def all(self, axis: Axis = None, *, keepdims: bool = False, where: ArrayLike = True) -> Self:
        """Return whether all elements are true, along an axis, several, or of all."""

    @_calls_numpy
    def any(self, axis: Axis = None, *, keepdims: bool = False, where: ArrayLike = True) -> Self:
        """Return whether an element is true, along an axis, several, or of all."""

    @_calls_numpy
    def cumsum(self, axis: int | None = None, dtype: DTypeLike | None = None) -> Self:
        """Return the sums of the elements up to each, along an axis or of all."""

    @_calls_numpy
    def cumprod(self, axis: int | None = None, dtype: DTypeLike | None = None) -> Self:
        """Return the products of the elements up to each, along an axis or of all."""

    @_calls_numpy
    def trace(
        self, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: DTypeLike | None = None
    ) -> Self:
        """Return the sum along a diagonal, as `numpy.trace` does."""

    @_calls_numpy
    def dot(self, b: ArrayLike) -> Self:
        """Return the product with another array, as `numpy.dot` does."""

    # -- sorting and searching

    @_calls_numpy
    def argsort(
        self, axis: int | None = -1, kind: Any = None, *, stable: bool | None = None
    ) -> Self:
        """Return the positions of the elements in ascending order, as `numpy.argsort` does."""

    @_calls_numpy
    def argpartition(self, kth: int | tuple[int, ...], axis: int | None = -1) -> Self:
        """Return positions, those of the smallest elements first, as `numpy.argpartition` does."""

    @_calls_numpy
    def searchsorted(
        self,
        v: ArrayLike,
        side: Literal["left", "right"] = "left",
        sorter: ArrayLike | None = None,
    ) -> Self:
        """Return where to insert elements to keep the order, as `numpy.searchsorted` does."""

    @_calls_numpy
    def nonzero(self) -> tuple[Self, ...]:
        """Return the indices of the elements that are not 0, a tensor for each axis."""

    # -- shapes and elements

    @_calls_numpy
    def ravel(self, order: Order = "C") -> Self:
        """Return the tensor with one axis, as `numpy.ravel` does."""

    @_calls_numpy
    def squeeze(self, axis: Axis = None) -> Self:
        """Return the tensor without all its axes of length 1, or without the named ones."""

    @_calls_numpy
    def swapaxes(self, axis1: int, axis2: int) -> Self:
        """Return the tensor with two axes interchanged."""

    @_calls_numpy
    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Self:
        """Return the elements on a diagonal, as `numpy.diagonal` does."""

    @_calls_numpy
    def repeat(self, repeats: ArrayLike, axis: int | None = None) -> Self:
        """Return each element several times, along an axis or of the flattened tensor."""

    @_calls_numpy
    def take(self, indices: ArrayLike, axis: int | None = None) -> Self:
        """Return the elements or slices at these indices along an axis, as `numpy.take` does."""

    @_calls_numpy
    def choose(self, choices: Any) -> Self:
        """Return elements of `choices`, with this tensor as index, as `numpy.choose` does."""

    # -- element by element

    @_calls_numpy
    def round(self, decimals: int = 0) -> Self:
        """Return the elements rounded to this number of decimals; the gradient is 0."""

    @_calls_numpy
    def clip(
        self,
        a_min: ArrayLike | None = None,
        a_max: ArrayLike | None = None,
        *,
        min: ArrayLike | None = None,
        max: ArrayLike | None = None,
    ) -> Self:
        """Return the elements limited to an interval, as `numpy.clip` does."""

    @_calls_numpy
    def conj(self) -> Self:
        """Return the complex conjugate of each element."""

    @_calls_numpy
    def conjugate(self) -> Self:
        """Return the complex conjugate of each element."""

    @_calls_numpy
    def exp(self) -> Self:
        """Return the exponential function of each element."""

    @_calls_numpy
    def log(self) -> Self:
        """Return the natural logarithm of each element."""

    @_calls_numpy
    def tanh(self) -> Self:
        """Return the hyperbolic tangent of each element."""
