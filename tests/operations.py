"""The table of operations: one row each, which test_operations.py puts to every test.

A row names an operation and gives it as a function of arrays, written in plain NumPy; then one
domain for each of its arguments, the set that their values are taken from. Where the arguments'
shapes matter, `shapes` lists what to try: a shape for a function of one array, else a tuple of
shapes. A function that is not complex-analytic says so: it is then checked by differences alone.

    Op("tanh", np.tanh, reals)
    Op("true_divide", np.true_divide, reals, nonzero)
    Op("sum axis 1", lambda x: np.sum(x, axis=1), reals, shapes=[(2, 3), (2, 0, 3)])
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

import tensorgrad as tg
from tensorgrad.rules.linear_algebra import affine

Shape: TypeAlias = tuple[int, ...]


class Domain(NamedTuple):
    """Values that an argument may take, all of them sums of few powers of two.

    They keep a distance of 1/32 at least from the points where a function has no derivative. With
    `distinct`, no two elements of an array are equal.
    """

    values: tuple[float, ...]
    distinct: bool = False

    def draw(self, rng: np.random.Generator, shape: Shape) -> Any:
        return np.asarray(rng.choice(self.values, shape, replace=not self.distinct))


def grid(low: float, high: float, step: float = 1 / 16) -> tuple[float, ...]:
    """The multiples of `step` from `low` to `high`, nearest to zero first."""
    count = round((high - low) / step)
    return tuple(sorted((low + i * step for i in range(count + 1)), key=abs))


reals = Domain(grid(-2, 2))
positive = Domain(grid(0.25, 3))
nonzero = Domain(grid(0.25, 3) + grid(-3, -0.25))
distinct = Domain(grid(-2, 2), distinct=True)
halfway = Domain(grid(-2 + 1 / 32, 2 - 1 / 32), distinct=True)  # never equal to one of `distinct`
divisors = Domain((1.0, -1.0, 2.0, -2.0))
fractions = Domain(tuple(n + f for n in (-3, -2, -1, 0, 1, 2) for f in (0.25, 0.4375, 0.75)))

ELEMENTWISE: list[Any] = [(), (0,), (3,), (2, 3), (2, 0, 3)]
PAIRS: list[Any] = [
    ((), ()), ((3,), ()), ((), (2, 3)), ((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)),
    ((1,), (2, 1, 3)), ((0,), (1,)), ((2, 0), (1, 1)),
]  # fmt: skip
TRIPLES: list[Any] = [((), (), ()), ((3,), (2, 3), (2, 1)), ((2, 2), (2, 2), (2, 2))]
VECTORS: list[Any] = [(3,), (1,)]
MATRICES: list[Any] = [(2, 3), (3, 1), (1, 1)]
CUBES: list[Any] = [(2, 3, 2), (1, 2, 3)]


class Op:
    """A row of the table."""

    def __init__(
        self,
        name: str,
        fun: Callable[..., Any],
        *domains: Domain,
        shapes: Sequence[Any] = (),
        analytic: bool = True,
    ) -> None:
        self.name = name
        self.fun = fun
        self.domains = domains
        self.analytic = analytic
        default = {1: ELEMENTWISE, 2: PAIRS, 3: TRIPLES}
        given = list(shapes) or default[len(domains)]
        self.shapes: list[tuple[Shape, ...]] = [(s,) for s in given] if len(domains) == 1 else given

    def draw(self, rng: np.random.Generator, shapes: tuple[Shape, ...]) -> list[Any]:
        return [domain.draw(rng, shape) for domain, shape in zip(self.domains, shapes, strict=True)]

    def __repr__(self) -> str:
        return self.name


def at(*index: Any) -> Callable[[Any], Any]:
    """The function `x -> x[index]`."""
    return operator.itemgetter(index[0] if len(index) == 1 else index)


def put(*index: Any) -> Callable[[Any, Any], Any]:
    """The function `x, value -> x`, after `x[index] = value`."""

    def assigned(x: Any, value: Any) -> Any:
        x = _own(x, value)
        x[index[0] if len(index) == 1 else index] = value
        return x

    return assigned


def in_place(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The function `x, y -> x`, after `x += y` or another operator like it."""
    return lambda x, y: operation(_own(x, y), y)


def _own(x: Any, other: Any) -> Any:
    """A copy of x that can be changed in place, also by a tensor."""
    return tg.asarray(x, copy=True) if isinstance(other, tg.Tensor) else np.copy(x)


def _twice(x: Any, y: Any) -> Any:
    y = x * y
    y[0] = y[1] * x[0]
    y[1:] += y[0]
    return y


S = np.s_
MASK = np.array([[True, False, True], [False, False, True]])
SAME: list[Any] = [((), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 0), (2, 0))]

OPERATIONS = [
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
    # products
    Op("@", operator.matmul, reals, reals, shapes=[
        ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((1, 3), (3, 1)),
        ((3,), (4, 3, 2)), ((4, 2, 3), (3,)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)),
        ((4, 2, 3), (4, 3, 2)), ((2, 1, 2, 3), (5, 3, 2)), ((1, 2, 3), (4, 3, 2)),
        ((3,), (2, 1, 3, 2)),
        ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0,), (0,)), ((0, 2, 3), (3,)),
    ]),
    Op("matmul", np.matmul, reals, reals, shapes=[((2, 3), (3, 2)), ((3,), (3,))]),
    Op("array @ x", lambda x: np.ones((2, 3)) @ x, reals, shapes=[(3,), (3, 2), (4, 3, 2)]),
    Op("list @ x", lambda x: [1.0, 2.0, 3.0] @ x, reals, shapes=[(3,), (3, 2)]),
    Op("x @ x", lambda x: x @ x, reals, shapes=[(3,), (2, 2), (3, 2, 2)]),
    Op("x @ x.T", lambda x: x @ x.T, reals, shapes=[(3,), (2, 3)]),
    Op("inner", np.inner, reals, reals, shapes=[
        ((), ()), ((), (3,)), ((2, 3), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 3)),
        ((2, 3), (4, 3)), ((2, 4, 3), (5, 3)), ((5, 3), (2, 4, 3)), ((0, 3), (2, 3)),
        ((2, 0), (3, 0)),
    ]),
    Op("affine", affine, reals, reals, reals, shapes=[
        ((3,), (2, 3), (2,)), ((4, 3), (2, 3), (2,)), ((2, 4, 3), (2, 3), (2,)), ((3,), (3,), ()),
        ((4, 3), (3,), ()), ((0, 3), (2, 3), (2,)), ((1, 2), (1, 2), (1,)), ((2, 0), (3, 0), (3,)),
    ]),
    Op("inner(x, 2)", lambda x: np.inner(x, 2), reals),
    Op("inner(2.5, x)", lambda x: np.inner(2.5, x), reals),
    Op("mse_loss", tg.nn.mse_loss, reals, reals, shapes=[
        ((), ()), ((3,), (3,)), ((2, 3), (2, 3)),
    ]),
    # reductions
    Op("sum", np.sum, reals),
    Op(".sum()", lambda x: x.sum(), reals),
    Op("sum axis 0", lambda x: np.sum(x, axis=0), reals, shapes=[(), (3,), (2, 3), (0, 2), (2, 0)]),
    Op("sum axis -1", lambda x: np.sum(x, -1), reals, shapes=[(), (3,), (2, 3), (2, 0, 3)]),
    Op("sum axes", lambda x: np.sum(x, axis=(0, -1)), reals, shapes=[(2, 3), (2, 3, 2), (2, 0, 3)]),
    Op("sum axis ()", lambda x: np.sum(x, axis=()), reals),
    Op("sum keepdims", lambda x: np.sum(x, keepdims=True), reals),
    Op("sum axis 1 keepdims", lambda x: np.sum(x, 1, keepdims=True), reals, shapes=MATRICES),
    Op("sum dtype", lambda x: np.sum(x, dtype=np.float64), reals, analytic=False),
    Op("add.reduce", np.add.reduce, reals, shapes=[(), (3,), (2, 3), (0, 2)]),
    Op("add.reduce axis", lambda x: np.add.reduce(x, (0, 2)), reals, shapes=CUBES),
    Op("mean", np.mean, reals, shapes=[(), (3,), (2, 3)]),
    Op(".mean()", lambda x: x.mean(), reals, shapes=[(), (3,), (2, 3)]),
    Op("mean axis 0", lambda x: np.mean(x, axis=0), reals, shapes=[(3,), (2, 3), (2, 0)]),
    Op("mean axes", lambda x: x.mean(axis=(-1, 0), keepdims=True), reals, shapes=CUBES),
    Op("mean dtype", lambda x: np.mean(x, 0, np.float64), reals, shapes=VECTORS, analytic=False),
    Op("max", np.max, distinct, shapes=[(), (3,), (2, 3), (2, 3, 2)]),
    Op("amax", np.amax, distinct, shapes=MATRICES),
    Op(".max()", lambda x: x.max(), distinct, shapes=VECTORS),
    Op("max axis 0", lambda x: np.max(x, axis=0), distinct, shapes=[(), (3,), (2, 3), (2, 0)]),
    Op("max axes", lambda x: np.max(x, axis=(0, -1)), distinct, shapes=CUBES),
    Op("max keepdims", lambda x: x.max(axis=-1, keepdims=True), distinct, shapes=CUBES),
    Op("min", np.min, distinct, shapes=[(), (3,), (2, 3), (2, 3, 2)]),
    Op("amin", np.amin, distinct, shapes=MATRICES),
    Op(".min()", lambda x: x.min(), distinct, shapes=VECTORS),
    Op("min axis -1", lambda x: np.min(x, -1), distinct, shapes=[(3,), (2, 3), (0, 2)]),
    Op("min axes keepdims", lambda x: np.min(x, (1, 2), keepdims=True), distinct, shapes=CUBES),
    Op("maximum.reduce", np.maximum.reduce, distinct, shapes=[(), (3,), (2, 3)]),
    Op("minimum.reduce", lambda x: np.minimum.reduce(x, axis=1), distinct, shapes=MATRICES),
    # shapes
    Op("reshape", lambda x: np.reshape(x, (3, 2)), reals, shapes=[(6,), (2, 3), (1, 2, 3)]),
    Op("reshape shape=", lambda x: np.reshape(x, shape=(-1,)), reals),
    Op(".reshape(-1)", lambda x: x.reshape(-1), reals, shapes=[(), (3,), (2, 3)]),
    Op(".reshape(1, -1)", lambda x: x.reshape(1, -1), reals, shapes=[(), (3,), (2, 3)]),
    Op("ravel", np.ravel, reals),
    Op("expand_dims", lambda x: np.expand_dims(x, -1), reals),
    Op("expand_dims axes", lambda x: np.expand_dims(x, axis=(0, 2)), reals, shapes=VECTORS),
    Op("squeeze", np.squeeze, reals, shapes=[(), (1,), (3,), (1, 2, 1)]),
    Op("squeeze axis", lambda x: np.squeeze(x, axis=-1), reals, shapes=[(1,), (2, 1), (0, 1)]),
    Op("broadcast_to", lambda x: np.broadcast_to(x, (2, 3)), reals, shapes=[(), (3,), (2, 1)]),
    Op("broadcast_to 0", lambda x: np.broadcast_to(x, shape=(0, 3)), reals, shapes=[(3,), (1, 1)]),
    Op("transpose", np.transpose, reals),
    Op("transpose axes", lambda x: np.transpose(x, (1, -1, 0)), reals, shapes=CUBES),
    Op("transpose axes=", lambda x: np.transpose(x, axes=[2, 0, 1]), reals, shapes=CUBES),
    Op(".transpose()", lambda x: x.transpose(), reals),
    Op(".transpose(2, 0, 1)", lambda x: x.transpose(2, 0, 1), reals, shapes=CUBES),
    Op(".T", lambda x: x.T, reals),
    Op(".mT", lambda x: x.mT, reals, shapes=[*MATRICES, *CUBES]),
    Op("matrix_transpose", np.matrix_transpose, reals, shapes=MATRICES),
    Op("swapaxes", lambda x: np.swapaxes(x, 0, -1), reals, shapes=[*VECTORS, *MATRICES, *CUBES]),
    Op("swapaxes axis1=", lambda x: np.swapaxes(x, axis1=0, axis2=1), reals, shapes=CUBES),
    Op("moveaxis", lambda x: np.moveaxis(x, 0, -1), reals, shapes=[*VECTORS, *MATRICES, *CUBES]),
    Op("moveaxis axes", lambda x: np.moveaxis(x, [0, 2], [-1, 0]), reals, shapes=CUBES),
    Op("moveaxis source=", lambda x: np.moveaxis(x, source=0, destination=1), reals, shapes=CUBES),
    # joining
    Op("concatenate", lambda x, y: np.concatenate([x, y]), reals, reals,
       shapes=[((2,), (3,)), ((2, 3), (1, 3)), ((0, 2), (1, 2))]),
    Op("concatenate axis -1", lambda x, y: np.concatenate((x, y), axis=-1), reals, reals,
       shapes=[((2,), (3,)), ((2, 1), (2, 3)), ((2, 2, 1), (2, 2, 0))]),
    Op("concatenate axis 1", lambda x, y, z: np.concatenate([x, y, z], 1), reals, reals, reals,
       shapes=[((2, 1), (2, 2), (2, 1)), ((1, 2, 2), (1, 1, 2), (1, 0, 2))]),
    Op("concatenate axis None", lambda x, y: np.concatenate([x, y], axis=None), reals, reals),
    Op("concatenate [x, x]", lambda x: np.concatenate([x, x]), reals, shapes=[*VECTORS, *MATRICES]),
    Op("concatenate of one", np.concatenate, reals, shapes=MATRICES),
    Op("stack", lambda x, y: np.stack([x, y]), reals, reals,
       shapes=[((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((0,), (0,))]),
    Op("stack axis 1", lambda x, y, z: np.stack((x, y, z), axis=1), reals, reals, reals,
       shapes=[((2,),) * 3, ((2, 3),) * 3]),
    Op("stack axis -1", lambda x: np.stack([x, 2 * x, x], axis=-1), reals),
    Op("stack with a number", lambda x: np.stack([x, 1.5]), reals, shapes=[()]),
    # reading by index
    Op("x[1]", at(1), reals, shapes=[(3,), (2, 3), (2, 0)]),
    Op("x[-1, 0]", at(-1, 0), reals, shapes=[*MATRICES, *CUBES]),
    Op("x[()]", at(()), reals),
    Op("x[...]", at(...), reals),
    Op("x[None]", at(None), reals),
    Op("x[..., None, 0]", at(..., None, 0), reals, shapes=[*VECTORS, *MATRICES, *CUBES]),
    Op("x[1:]", at(S[1:]), reals, shapes=[(3,), (1,), (2, 3), (0,)]),
    Op("x[::-1]", at(S[::-1]), reals, shapes=[(3,), (2, 3), (0,)]),
    Op("x[::-2, 1:]", at(S[::-2, 1:]), reals, shapes=[(2, 3), (5, 2)]),
    Op("x[:, None, ::2]", at(S[:, None, ::2]), reals, shapes=MATRICES),
    Op("x[2:0]", at(S[2:0]), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[numpy integer]", at(np.int32(-1)), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[0-d array]", at(np.array(0)), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[[0, 0, -1]]", at([0, 0, -1]), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[[]]", at([]), reals, shapes=[*VECTORS, *MATRICES]),
    Op("x[array of repeats]", at(np.array([[0, 1], [1, 1]])), reals, shapes=[(3,), (2, 3)]),
    Op("x[(0, 0), 1]", at((0, 0), 1), reals, shapes=[(2, 3)]),
    Op("x[(0, 0), ]", operator.itemgetter(((0, 0),)), reals, shapes=[(2,), (2, 3)]),
    Op("x[range]", at(range(-2, 2)), reals, shapes=[(2,), (2, 3)]),
    Op("x[mask]", at(MASK), reals, shapes=[(2, 3), (2, 3, 2)]),
    Op("x[mask of rows]", at(np.array([False, True])), reals, shapes=[(2,), (2, 3)]),
    Op("x[list of bools]", at([True, False]), reals, shapes=[(2,), (2, 3)]),
    Op("x[True]", at(True), reals),
    Op("x[[0, 0], [1, 2]]", at([0, 0], [1, 2]), reals, shapes=[(2, 3)]),
    Op("x[[[0], [1]], [0, 0]]", at([[0], [1]], [0, 0]), reals, shapes=[(2, 3)]),
    Op("x[1, [0, 0]]", at(1, [0, 0]), reals, shapes=[(2, 3), (2, 1)]),
    Op("x[:, [0, 0]]", at(S[:], [0, 0]), reals, shapes=[*MATRICES, *CUBES]),
    Op("x[[0, 0], :, [0, 1]]", at([0, 0], S[:], [0, 1]), reals, shapes=[(2, 3, 2), (1, 3, 2)]),
    Op("x[..., [0, 0], None]", at(..., [0, 0], None), reals, shapes=[*MATRICES, *CUBES]),
    Op("x[mask, 1:]", at(np.array([True, True]), S[1:]), reals, shapes=[(2, 3)]),
    Op("x[mask, [0, 0]]", at(np.array([True, True]), [0, 0]), reals, shapes=[(2, 3)]),
    Op("x[tensor]", lambda x: x[tg.Tensor([0, 0]) if isinstance(x, tg.Tensor) else [0, 0]], reals,
       shapes=[(2,), (2, 3)]),
    Op("x[x > 0]", lambda x: x[x > 0], nonzero, shapes=[(), (3,), (2, 3)]),
    Op("iteration", lambda x: np.stack([row * row for row in x]), reals, shapes=MATRICES),
    # writing by index
    Op("x[1] = y", put(1), reals, reals, shapes=[((3,), ()), ((2, 3), (3,)), ((2, 3), (1,))]),
    Op("x[...] = y", put(...), reals, reals, shapes=[((), ()), ((2, 3), (1, 1, 3)), ((0,), ())]),
    Op("x[::-2] = y", put(S[::-2]), reals, reals, shapes=[((5,), (3,)), ((3, 2), (2, 1))]),
    Op("x[:, 1:] = y", put(S[:], S[1:]), reals, reals, shapes=[((2, 3), (2, 2)), ((2, 3), ())]),
    Op("x[[0, 2]] = y", put([0, 2]), reals, reals, shapes=[((3,), (2,)), ((3, 2), (2,))]),
    Op("x[[0, 0]] = y", put([0, 0]), reals, reals, shapes=[((3,), (2,)), ((2, 2), (2, 2))]),
    Op("x[(0, 0), ] = y", put((0, 0), ...), reals, reals, shapes=[((3,), (2,)), ((2, 2), (2, 2))]),
    Op("x[:, [1, 1]] = y", put(S[:], [1, 1]), reals, reals, shapes=[((2, 3), (2, 2))]),
    Op("x[mask] = y", put(MASK), reals, reals, shapes=[((2, 3), (3,)), ((2, 3), ())]),
    Op("x[None, 0] = y", put(None, 0), reals, reals, shapes=[((3,), ()), ((2, 3), (1, 3))]),
    Op("x[1] = 0", lambda x: put(1)(x * 1, np.zeros(())), reals, shapes=[(3,), (2, 3)]),
    Op("several writes", _twice, reals, reals, shapes=[((3,), (3,)), ((2, 3), (3,))]),
]  # fmt: skip

# Their derivatives are zero wherever they exist: the results are untracked.
CONSTANT = [
    *(Op(f.__name__, f, distinct, halfway) for f in (
        np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
        np.logical_and, np.logical_or, np.logical_xor, np.isclose, np.array_equal, np.array_equiv,
        operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
    )),
    *(Op(f.__name__, f, fractions) for f in (
        np.logical_not, np.isnan, np.isinf, np.isfinite, np.signbit, np.sign, np.floor, np.ceil,
        np.trunc, np.rint, np.round, np.all, np.any, np.argsort, np.argwhere, np.count_nonzero,
        np.zeros_like, np.ones_like, np.flatnonzero, np.iscomplexobj, np.isrealobj,
    )),
    Op("argmax", np.argmax, distinct, shapes=VECTORS),
    Op("argmin", np.argmin, distinct, shapes=VECTORS),
    Op("nonzero", np.nonzero, reals, shapes=MATRICES),
    Op("allclose", np.allclose, distinct, halfway),
    Op("searchsorted", lambda x: np.searchsorted(np.arange(3.0), x), reals),
    Op("//", operator.floordiv, fractions, divisors),
    Op("5 // x", lambda x: 5 // x, nonzero),
    Op("divmod [0]", lambda x, y: divmod(x, y)[0], fractions, divisors),
    Op("astype int", lambda x: x.astype(np.int64), fractions),
]  # fmt: skip
