"""`differentiable`: operations that users define, and that the library defines on its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from . import batched  # noqa: F401 (registers what a batch computes at once)
from .batching import Batch, call
from .dispatch import apply, apply_numpy_function, stack_lists
from .frames import PACKAGE
from .modes import mode
from .operands import PLAIN, holds_tensors
from .registry import RULES, Each, Form, Rule, Together, name_of
from .typing import F, Function
from .variable import Variable

_NO_TENSOR = PLAIN | {slice, tuple, str, type(None)}


def differentiable(
    *vjps: Function | None,
    each: Function | None = None,
    together: Function | None = None,
    form: Form | None = None,
    jvp: Function | None = None,
) -> Callable[[F], F]:
    """Make a function of arrays an operation on tensors, with these derivatives.

    The function may be written in anything: it receives arrays. There is one vjp per array
    argument, called as `(g, out, *args, **kwargs)` with the cotangent `g` of the output; written in
    NumPy, it holds at every order. Parameters without a derivative come last, or as keywords. Of a
    function that returns a tuple, `g` and `out` are tuples. A parameter whose name starts with an
    underscore is not read, and its array is not kept for the backward pass. Of complex numbers, `g`
    carries no conjugate: a change dz of the output changes the loss by `real(sum(g * dz))`.

    Where the derivatives share work, one vjp may return them all: `together=`, as many as it has
    arguments without a default after `g` and `out`. `each` and `form` are those of a `Rule`.

    Forward mode transposes the vjps, which must be NumPy code for that. If they call compiled code,
    pass a forward rule, `jvp(tangents, out, *args, **kwargs)`: it gets a tuple with a tangent for
    each array argument, and returns the tangent of the output.

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
    >>> import math
    >>> @tg.differentiable(
    ...     lambda g, _y, x: g * math.cos(x), jvp=lambda t, _y, x: t[0] * math.cos(x)
    ... )
    ... def sine(x):
    ...     return math.sin(x)
    >>> tg.jvp(sine, (0.0,), (2.0,))[1]
    array(2.)
    """

    derivatives: Any = vjps if each is None else Each(each)
    if together is not None:
        parameters = inspect.signature(together).parameters.values()
        derivatives = Together(together, sum(p.default is p.empty for p in parameters) - 2)
    if jvp is not None and not len(derivatives):
        raise TypeError("differentiable: jvp= is for forward mode: pass the vjps, too")

    def decorate(fun: F) -> F:
        if not callable(fun):
            raise TypeError(
                "differentiable: takes the derivatives, and then the function: write "
                "@differentiable(lambda g, out, x: ...) above the function of x"
            )

        @functools.wraps(fun)
        def operation(*args: Any, **kwargs: Any) -> Any:
            may_be_traced = False
            for a in (*args, *kwargs.values()) if kwargs else args:
                if type(a) in _NO_TENSOR:
                    continue
                if isinstance(a, Variable):
                    return (
                        apply_numpy_function(operation, args, kwargs)
                        if kwargs
                        else apply(operation, args)
                    )
                if type(a) is Batch:
                    return call(operation, args, kwargs)
                if type(a) is list and holds_tensors(a):
                    args, kwargs = stack_lists(operation, args, kwargs)
                    return operation(*args, **kwargs)
                may_be_traced = True
            if may_be_traced:
                return mode.get().interpreter.call(fun, *args, **kwargs)
            return fun(*args, **kwargs)

        operation.__name__ = name_of(fun)
        is_own = str(fun.__module__).startswith(f"{PACKAGE}.")
        # Functions from outside may return views; ours return new arrays.
        rule = Rule(operation, derivatives, form, views=not is_own, jvp=jvp)
        if is_own:
            RULES[operation] = rule
        else:  # it is forgotten with the operation
            operation.tensorgrad_rule = rule  # type: ignore[attr-defined]
        return operation  # type: ignore[return-value]

    return decorate
