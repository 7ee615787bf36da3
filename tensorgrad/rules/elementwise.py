"""Element-wise functions. In a vjp, `g` is the cotangent of the output `z` or `y`."""

from typing import Any

import numpy as np

from ..graph import composite, rule

rule(np.positive, lambda g, _y, _x: g)
rule(np.negative, lambda g, _y, _x: -g)
rule(np.copy, lambda g, _y, _x: g)
rule(np.astype, lambda g, _y, _x, _dtype: g)

rule(np.add, lambda g, _z, _x, _y: g, lambda g, _z, _x, _y: g)
rule(np.subtract, lambda g, _z, _x, _y: g, lambda g, _z, _x, _y: -g)
rule(np.multiply, lambda g, _z, _x, y: g * y, lambda g, _z, x, _y: g * x)
rule(np.true_divide, lambda g, _z, _x, y: g / y, lambda g, z, _x, y: -g * z / y)
rule(np.remainder, lambda g, _z, _x, _y: g, lambda g, _z, x, y: -g * np.floor_divide(x, y))

rule(np.reciprocal, lambda g, y, _x: -g * y * y)
rule(np.square, lambda g, _y, x: (g + g) * x)
rule(np.sqrt, lambda g, y, _x: g * 0.5 / y)
rule(np.exp, lambda g, y, _x: g * y)
rule(np.log, lambda g, _y, x: g / x)
rule(np.tanh, lambda g, y, _x: g * (1 - y * y))
rule(np.real, lambda g, _y, _z: g)
rule(np.conjugate, lambda g, _y, _z: np.conjugate(g))


def _absolute_back(g: Any, _y: Any, x: Any) -> Any:
    if x.dtype.kind == "c":
        return g * np.conjugate(x) / np.where(x == 0, 1, np.absolute(x))
    return g * np.sign(x)


rule(np.absolute, _absolute_back)


@composite(np.divmod)
def _divmod(x: Any, y: Any) -> Any:
    return np.floor_divide(x, y), np.remainder(x, y)


def _power_base(g: Any, _z: Any, x: Any, p: Any) -> Any:
    if isinstance(p, (int, float)):
        return g * (p * x ** (p - 1)) if p else np.zeros_like(x)
    # x**0 is constant also where x**-1 is infinite or NaN; elsewhere the factor p makes it 0.
    flat = (p == 0) & ~(np.absolute(x) > 0)
    return g * np.where(flat, 0, p * x ** np.where(flat, 1, p - 1))


def _power_exponent(g: Any, z: Any, x: Any, p: Any) -> Any:
    if np.iscomplexobj(x):
        return g * z * np.log(x)
    # The limits at 0: 0**p is 0 (so is its derivative) for p > 0, and infinite for p < 0.
    at_zero = np.where(p < 0, -np.inf, 0)
    log = np.where(x < 0, np.nan, np.log(np.where(x > 0, x, 1)))
    return g * np.where(x == 0, at_zero, z * log)


rule(np.power, _power_base, _power_exponent)


def _chosen(g: Any, z: Any, x: Any, y: Any) -> Any:
    """The part of `g` that belongs to `x`, when `z` is the larger or the smaller of `x` and `y`.

    The chosen one is the one that equals z, or is NaN; two that are chosen share equally.
    """
    x_chosen, y_chosen = (x == z) | (x != x), (y == z) | (y != y)
    return np.where(x_chosen, np.where(y_chosen, g * 0.5, g), 0)


for _choice in (np.maximum, np.minimum):
    rule(_choice, _chosen, lambda g, z, x, y: _chosen(g, z, y, x))

rule(
    np.where,
    None,
    lambda g, _z, condition, _x, _y: np.where(condition, g, 0),
    lambda g, _z, condition, _x, _y: np.where(condition, 0, g),
)
