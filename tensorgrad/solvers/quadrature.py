"""SciPy's quadrature, with derivatives: that of an integral is the integral of the derivative."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..bodies import Call, is_recorded
from ..engine.modes import no_grad, plain
from ..engine.operands import any_tracked
from ..engine.tensor import Tensor, asarray
from ..engine.typing import Array, Function
from ..errors import OR_DETACH, NoRuleError, optional
from .captured import Captured, Recording, as_real, of_samples, require_one

_TOLERANCES = {"epsabs": 1.49e-8, "epsrel": 1.49e-8}
_OF_VECTORS = ("epsabs", "epsrel", "limit", "points")  # options that integrals of vectors have, too


def quad(func: Callable[..., Any], a: Any, b: Any, args: Any = (), **options: Any) -> Any:
    """Return `scipy.integrate.quad`'s tuple, whose first item, the integral, has derivatives.

    It is that of `func(x, *args)`, which returns one number, from `a` to `b`; both may be infinite.
    Derivatives of every order are those by the limits, by tensors in `args`, and by all others that
    `func` uses; they are integrals with the same tolerances. `options` are SciPy's; with `weight`,
    a NoRuleError is raised if there would be a derivative. With `complex_func=True`, `func` may
    return complex numbers; then the tuple is the integral and its error. In a `vmap`, samples are
    integrated one by one. Needs SciPy.

    >>> gauss = lambda s: tg.solvers.quad(lambda x: np.exp(-s * x * x), -np.inf, np.inf)[0]
    >>> np.round(tg.value_and_grad(gauss)(1.0), 6)  # sqrt(pi / s) and its derivative
    array([ 1.772454, -0.886227])
    """
    integrate = optional("scipy.integrate", "solvers.quad")
    if options.pop("complex_func", False):
        of_real, of_imaginary = (
            quad(lambda x, *args, part=part: part(func(x, *args)), a, b, args, **options)
            for part in (np.real, np.imag)
        )
        return of_real[0] + 1j * of_imaginary[0], of_real[1] + 1j * of_imaginary[1]

    def solve(a: Any, b: Any, args: Any) -> Any:
        f = Captured("quad", func, args)
        limits = [as_real("quad", x) for x in (a, b)]
        with no_grad():
            found = integrate.quad(f.number, *(float(plain(x)) for x in limits), **options)
        kept = _TOLERANCES | {name: options[name] for name in _OF_VECTORS if name in options}
        y = _integral(f, limits, np.asarray(found[0]), kept)
        if "weight" in options and isinstance(y, Tensor) and y.requires_grad:
            raise NoRuleError(
                "quad: there is no derivative of an integral with weight=: write the weight into "
                f"the function, {OR_DETACH}"
            )
        is_tensor = f.uses_tensors or any(isinstance(x, Tensor) for x in (a, b, y))
        return found, {"y": asarray(y) if is_tensor else found[0]}

    found, fields = of_samples("quad", solve, a, b, args)
    return (fields["y"], *found[1:])


def _integral(f: Captured, limits: list[Any], value: Array, options: Any) -> Any:
    """The integral of a function, numbers or vectors, with its derivatives."""
    f.find_sources(_inside(*(float(plain(x)) for x in limits)))

    are_tracked = [any_tracked([x]) for x in limits]

    def pullback(g: Any, _out: Any, *args: Any) -> list[Any]:
        f.require_unchanged()
        a, b = args[len(f.sources) :]
        recorded = is_recorded(g, [a, b])
        g = g[0]
        require_one(g)
        with contextlib.nullcontext() if recorded else no_grad():
            of_a, of_b = (
                _of_limit(f, x, g) if tracked else np.zeros(())
                for x, tracked in zip((a, b), are_tracked)
            )

        def derivative(x: Any) -> Any:
            parts = Recording(f, [x]).pull_to_sources(g)
            return np.concatenate([np.reshape(part, (-1,)) for part in parts])

        of_sources: list[Any] = []
        if f.sources:
            integrand = Captured(f.name, derivative)
            total: Any = _vector(integrand.values, float(plain(a)), float(plain(b)), options)
            if recorded:
                total = _integral(integrand, [a, b], total, options)
            ends = np.cumsum([node.size for node in f.sources])[:-1]
            parts = np.split(total, ends)
            of_sources = [np.reshape(p, node.shape) for p, node in zip(parts, f.sources)]
        return [*of_sources, -of_a, of_b]

    call = Call(f.name, f.sources, limits)
    return call.results([value], [], [*map(plain, limits)], pullback)[0]


def _vector(values: Function, a: float, b: float, options: Any) -> Array:
    """The integral of a function that returns vectors."""
    integrate = optional("scipy.integrate", "solvers.quad")
    with no_grad():
        return integrate.quad_vec(values, a, b, **options)[0]  # type: ignore[no-any-return]


def _of_limit(f: Captured, x: Any, g: Any) -> Any:
    """The cotangent of the upper limit: the value there, which is 0 at infinity."""
    if not np.isfinite(plain(x)):
        return np.zeros(())
    return np.sum(g * f(x))


def _inside(a: float, b: float) -> float:
    """A point between the limits."""
    low, high = min(a, b), max(a, b)
    if np.isinf(low):
        return 0.0 if np.isinf(high) else high - 1.0
    return low + 1.0 if np.isinf(high) else (low + high) / 2
