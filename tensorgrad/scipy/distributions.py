"""What families of distributions have in common: their arguments, bounds, and derived functions."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..engine.typing import Function
from .operands import operand

_quiet = np.errstate(all="ignore")  # infinities and NaNs are results here


def within(value: Any, low: float, high: float = math.inf) -> Any:
    """A parameter, or NaN where it is not above `low`, or is above `high`.

    >>> from tensorgrad.scipy.distributions import within
    >>> within(np.array([-1.0, 2.0]), 0)
    array([nan,  2.])
    """
    if isinstance(value, (int, float)):  # which does not set the dtype of the results
        return float(value) if low < value <= high else math.nan
    return np.where((value > low) & (value <= high), value, math.nan)


def constant(fun: Function, *parameters: Any) -> Any:
    """A function of parameters, as a Python number if they are: it sets no dtype.

    >>> from tensorgrad.scipy.distributions import constant
    >>> constant(np.log, 1.0)
    0.0
    """
    value = fun(*parameters)
    return float(value) if all(isinstance(p, (int, float)) for p in parameters) else value


def log_of(p: Any, rest: Any) -> Any:
    """The logarithm of a probability, from `rest`, which is `1 - p`, if that is the smaller one.

    >>> from tensorgrad.scipy.distributions import log_of
    >>> log_of(np.array([0.25, 1.0]), np.array([0.75, 1e-20]))
    array([-1.38629436e+00, -1.00000000e-20])
    """
    small = p < 0.5
    near_0, near_1 = np.log(np.where(small, p, 0.5)), np.log1p(-np.where(small, 0.5, rest))
    return np.where(small, near_0, near_1)


def _bounded(values: Any, under: Any, below: float, over: Any, above: float) -> Any:
    """The values, but `below` and `above` outside of the support."""
    return np.where(under, below, np.where(over, above, values))


def _invalid(shapes: Any) -> Any:
    """NaN where a shape is NaN, else 0."""
    return sum([shape * 0.0 for shape in shapes])


class Family:
    """A family of distributions: its functions take a point, then SciPy's parameters in order.

    The parameters are those of the shape, then `loc`, then `scale` of continuous families. All
    arguments broadcast. Where a parameter is outside of its range, the results are NaN.
    """

    shapes: tuple[str, ...] = ()
    scaled = True

    def __init__(self) -> None:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        order = [inspect.Parameter(name, kind) for name in self.shapes]
        order.append(inspect.Parameter("loc", kind, default=0))
        if self.scaled:
            order.append(inspect.Parameter("scale", kind, default=1))
        self._signature = inspect.Signature(order)
        self._name = type(self).__name__.strip("_").lower()

    def _bound(self, method: str, x: Any, args: Any, kwargs: Any) -> list[Any]:
        """The point, the shapes, the location and the scale of a call, in one floating dtype."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}.{method}: {error}, of {self._signature}") from None
        bound.apply_defaults()
        parameters = [
            a if isinstance(a, (int, float)) else operand(a, self._name)
            for a in bound.arguments.values()
        ]
        values = [operand(x, self._name), *parameters]
        dtype = np.result_type(*[v.dtype for v in values if hasattr(v, "dtype")], 1.0)
        return [v if getattr(v, "dtype", dtype) == dtype else v.astype(dtype) for v in values]

    def _range(self, *shapes: Any) -> tuple[Any, ...]:
        """The shapes, with NaN for those outside of their range."""
        return tuple([within(shape, 0) for shape in shapes])

    # What a family defines, for points in its support, beside `_logpdf` or `_logpmf`:

    def _cdf(self, x: Any, *shapes: Any) -> Any:
        raise NotImplementedError

    def _sf(self, x: Any, *shapes: Any) -> Any:
        raise NotImplementedError

    # and may define, if it has better ones:

    def _logcdf(self, x: Any, *shapes: Any) -> Any:
        return log_of(self._cdf(x, *shapes), self._sf(x, *shapes))

    def _logsf(self, x: Any, *shapes: Any) -> Any:
        return log_of(self._sf(x, *shapes), self._cdf(x, *shapes))

    def _evaluate(
        self, method: str, x: Any, args: Any, kwargs: Any, below: float, above: float
    ) -> Any:
        raise NotImplementedError

    def cdf(self, x: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the probability of values up to `x`."""
        return self._evaluate("cdf", x, args, kwargs, 0.0, 1.0)  # type: ignore[no-any-return]

    def logcdf(self, x: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logarithm of `cdf`."""
        return self._evaluate("logcdf", x, args, kwargs, -math.inf, 0.0)  # type: ignore[no-any-return]

    def sf(self, x: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the probability of values above `x`, `1 - cdf`, with all its digits."""
        return self._evaluate("sf", x, args, kwargs, 1.0, 0.0)  # type: ignore[no-any-return]

    def logsf(self, x: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logarithm of `sf`."""
        return self._evaluate("logsf", x, args, kwargs, 0.0, -math.inf)  # type: ignore[no-any-return]


class Continuous(Family):
    """A continuous family: `logpdf`, `pdf`, `cdf`, `logcdf`, `sf`, `logsf` and `ppf`.

    `tg.scipy.stats.gamma.logpdf(x, a, loc, scale)` has derivatives by all four, if there are any.
    Outside of the support, the density is 0, and has the derivative 0.
    """

    support = (-math.inf, math.inf)
    closed = True  # whether the density is defined at the ends of the support
    inside = 0.5  # a point in the support

    def _ppf(self, q: Any, *shapes: Any) -> Any:
        raise NotImplementedError

    @_quiet
    def _evaluate(
        self, method: str, x: Any, args: Any, kwargs: Any, below: float, above: float
    ) -> Any:
        x, *given, loc, scale = self._bound(method, x, args, kwargs)
        shapes, scale = self._range(*given), within(scale, 0)
        y = (x - loc) / scale
        fun, (low, high) = getattr(self, f"_{method}"), self.support
        if low == -math.inf:
            values = fun(y, *shapes)
        else:
            under, over = y < low if self.closed else y <= low, y > high
            values = fun(np.where(under | over, self.inside, y), *shapes)
        if method == "logpdf":
            values = values - constant(np.log, scale)
        if low > -math.inf:
            values = _bounded(values, under, below, over, above)
        return values + _invalid(shapes) if shapes else values

    def logpdf(self, x: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logarithm of the density at `x`."""
        return self._evaluate(  # type: ignore[no-any-return]
            "logpdf", x, args, kwargs, -math.inf, -math.inf
        )

    def pdf(self, x: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the density at `x`."""
        return np.exp(self.logpdf(x, *args, **kwargs))  # type: ignore[return-value]

    @_quiet
    def ppf(self, q: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the point up to which there is the probability `q`: the inverse of `cdf`."""
        q, *given, loc, scale = self._bound("ppf", q, args, kwargs)
        shapes = self._range(*given)
        q = np.where((q >= 0) & (q <= 1), q, math.nan) + _invalid(shapes)
        return self._ppf(q, *shapes) * within(scale, 0) + loc  # type: ignore[no-any-return]


class Discrete(Family):
    """A discrete family: `logpmf`, `pmf`, `cdf`, `logcdf`, `sf` and `logsf`.

    There are derivatives by the parameters, and none by the point `k`.
    """

    scaled = False

    def _support(self, *_shapes: Any) -> tuple[Any, Any]:
        return 0, math.inf

    @_quiet
    def _evaluate(
        self, method: str, x: Any, args: Any, kwargs: Any, below: float, above: float
    ) -> Any:
        x, *given, loc = self._bound(method, x, args, kwargs)
        shapes = self._range(*given)
        moved = x - loc
        k = np.floor(moved)  # which has no derivative
        low, high = self._support(*shapes)
        under, over = k < low, k > high
        if method == "logpmf":
            under = under | ((k != moved) & (moved == moved))
        else:
            over = k >= high
        values = getattr(self, f"_{method}")(np.where(under | over, low, k), *shapes)
        return _bounded(values, under, below, over, above) + _invalid(shapes)

    def logpmf(self, k: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logarithm of the probability of `k`: -inf if it is no whole number."""
        return self._evaluate(  # type: ignore[no-any-return]
            "logpmf", k, args, kwargs, -math.inf, -math.inf
        )

    def pmf(self, k: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the probability of `k`."""
        return np.exp(self.logpmf(k, *args, **kwargs))  # type: ignore[return-value]
