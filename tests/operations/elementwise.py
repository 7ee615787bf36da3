"""Operators and element-wise functions."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

import tensorgrad as tg

from .row import *

MASK = np.array([[True, False, True], [False, False, True]])
SAME: list[Any] = [((), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 0), (2, 0))]


def in_place(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The function `x, y -> x`, after `x += y` or another operator like it."""
    return lambda x, y: operation(own(x, y), y)


ROWS = [
    # operators, as functions, reflected, and with a constant on either side
    Op("positive", operator.pos, reals),
    Op("negative", operator.neg, reals),
    Op("absolute", abs, nonzero, analytic=False),
    Op("add", np.add, reals, reals),
    Op("subtract", np.subtract, reals, reals),
    Op("multiply", np.multiply, reals, reals),
    Op("true_divide", np.true_divide, reals, nonzero),
    Op("remainder", np.remainder, fractions, divisors, analytic=False),
    Op("+", operator.add, reals, reals),
    Op("-", operator.sub, reals, reals),
    Op("*", operator.mul, reals, reals),
    Op("/", operator.truediv, reals, nonzero),
    Op("%", operator.mod, fractions, divisors, analytic=False),
    Op("divmod [1]", lambda x, y: divmod(x, y)[1], fractions, divisors, analytic=False),
    Op("np.divmod [1]", lambda x, y: np.divmod(x, y)[1], fractions, divisors, analytic=False),
    Op("x + 2", lambda x: x + 2, reals),
    Op("x - 2.5", lambda x: x - 2.5, reals),
    Op("x * 2", lambda x: x * 2, reals),
    Op("x / 4", lambda x: x / 4, reals),
    Op("x % 1", lambda x: x % 1, fractions, analytic=False),
    Op("2 + x", lambda x: 2 + x, reals),
    Op("2.5 - x", lambda x: 2.5 - x, reals),
    Op("2 * x", lambda x: 2 * x, reals),
    Op("4 / x", lambda x: 4 / x, nonzero),
    Op("5 % x", lambda x: 5 % x, Domain((0.75, -0.75, 1.125, -1.125, 2.25)), analytic=False),
    Op("divmod(5, x)", lambda x: divmod(5, x)[1], Domain((0.75, -0.75, 2.25)), analytic=False),
    Op("float64 * x", lambda x: np.float64(1.5) * x, reals),
    Op("x - float32", lambda x: x - np.float32(1.5), reals),
    Op("list - x", lambda x: [1.0, 2.0, 3.0] - x, reals, shapes=[(), (3,), (2, 3)]),
    Op("array / x", lambda x: np.arange(3.0) / x, nonzero, shapes=[(), (3,), (2, 3)]),
    Op("integers * x", lambda x: np.arange(3) * x, reals, shapes=[(), (3,), (2, 3)]),
    Op("booleans * x", lambda x: MASK * x, reals, shapes=[(), (3,), (2, 3)]),
    Op("x + x", lambda x: x + x, reals),
    Op("x * x", lambda x: x * x, reals),
    Op("x / x", lambda x: x / x, nonzero),
    Op("+=", in_place(operator.iadd), reals, reals, shapes=SAME),
    Op("-=", in_place(operator.isub), reals, reals, shapes=SAME),
    Op("*=", in_place(operator.imul), reals, reals, shapes=SAME),
    Op("/=", in_place(operator.itruediv), reals, nonzero, shapes=SAME),
    Op("%=", in_place(operator.imod), fractions, divisors, shapes=SAME, analytic=False),
    Op("**=", in_place(operator.ipow), positive, reals, shapes=SAME),
    Op("@=", in_place(operator.imatmul), reals, reals, shapes=[((2, 2), (2, 2)), ((0, 3), (3, 3))]),
    # powers
    Op("power", np.power, positive, reals),
    Op("**", operator.pow, positive, reals),
    Op("x ** 0", lambda x: x**0, reals),
    Op("x ** 1", lambda x: x**1, reals),
    Op("x ** 2", lambda x: x**2, reals),
    Op("x ** 3", lambda x: x**3, reals),
    Op("x ** 3.0", lambda x: x**3.0, reals),
    Op("x ** -1", lambda x: x**-1, nonzero),
    Op("x ** -2", lambda x: x**-2, nonzero),
    Op("x ** 0.5", lambda x: x**0.5, positive),
    Op("x ** 1.5", lambda x: x**1.5, positive),
    Op("x ** -0.5", lambda x: x**-0.5, positive),
    Op("x ** float64", lambda x: x ** np.float64(2.5), positive),
    Op("x ** [0, 1, 2, -1]", lambda x: x ** np.array([0.0, 1, 2, -1]), nonzero, shapes=[(), (4,)]),
    Op("x ** integers", lambda x: x ** np.array([0, 1, 2, 3]), reals, shapes=[(), (2, 4)]),
    Op("2 ** x", lambda x: 2**x, reals),
    Op("2.5 ** x", lambda x: 2.5**x, reals),
    Op("array ** x", lambda x: np.array([0.5, 1.0, 3.0]) ** x, reals, shapes=[(), (3,), (2, 3)]),
    Op("x ** x", lambda x: x**x, positive),
    # functions of each element
    Op("reciprocal", np.reciprocal, nonzero),
    Op("square", np.square, reals),
    Op("sqrt", np.sqrt, positive),
    Op("exp", np.exp, reals),
    Op("log", np.log, positive),
    Op("relu", tg.nn.relu, nonzero, analytic=False),
    Op("sigmoid", tg.nn.sigmoid, reals),
    Op("tanh", np.tanh, reals),
    Op("abs", np.abs, nonzero, analytic=False),
    Op("copy", np.copy, reals),
    Op(".copy()", lambda x: x.copy(), reals),
    Op("real", np.real, reals, analytic=False),
    Op("|complex * x|", lambda x: np.abs((1 + 2j) * x), nonzero, analytic=False),
    Op("real(complex * x)", lambda x: np.real((1 + 2j) * x * x), nonzero, analytic=False),
    Op("real(complex ** x)", lambda x: np.real((1 + 2j) ** x), reals, analytic=False),
    Op("real(x ** complex)", lambda x: np.real(x ** (1 + 2j)), positive, analytic=False),
    Op("astype float64", lambda x: x.astype(np.float64), reals, analytic=False),
    Op("np.astype", lambda x: np.astype(x, np.float64), reals, analytic=False),
    # choices
    Op("maximum", np.maximum, distinct, halfway),
    Op("minimum", np.minimum, distinct, halfway),
    Op("maximum(x, 0)", lambda x: np.maximum(x, 0), nonzero),
    Op("minimum(0.0, x)", lambda x: np.minimum(0.0, x), nonzero),
    Op("where", lambda x, y: np.where(MASK, x, y), reals, reals,
       shapes=[((), ()), ((2, 3), (3,)), ((2, 1), (1, 3)), ((4, 2, 3), (1, 1))]),
    Op("where(c, x, 0)", lambda x: np.where(MASK[0], x, 0), reals, shapes=[(), (3,), (2, 3)]),
    Op("where(c, 1.5, x)", lambda x: np.where(MASK, 1.5, x), reals, shapes=[(), (3,), (2, 3)]),
    Op("where(x > y, x, y)", lambda x, y: np.where(x > y, x, y * y), distinct, halfway),
]  # fmt: skip
