"""`differentiable`: operations that users define, and that the library defines on its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import batched  # noqa: F401 (registers what a batch computes at once)
from .batching import Batch, call
from .dispatch import apply, apply_numpy_function, stack_lists
from .frames import PACKAGE
from .modes import mode
from .operands import PLAIN, holds_tensors
from .registry import RULES, Form, name_of, rule, rule_together, signature
from .typing import F, Function
from .variable import Variable

_NO_TENSOR = PLAIN | {slice, tuple, str, type(None)}


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
        if together is None:
            rule(operation, *vjps, each=each, form=form)
        else:
            parameters = signature(together).parameters.values()
            rule_together(operation, together, sum(p.default is p.empty for p in parameters) - 2)
        # Functions from outside may return views; ours return new arrays.
        RULES[operation].views = not str(fun.__module__).startswith(f"{PACKAGE}.")
        return operation  # type: ignore[return-value]

    return decorate
