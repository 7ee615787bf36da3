"""What a row of the table is, and the domains and shapes that rows share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

import tensorgrad as tg

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

    def draw_complex(self, rng: np.random.Generator, shapes: tuple[Shape, ...]) -> list[Any]:
        """Complex arguments; their real parts keep away from branch cuts as far as real ones do."""
        real, imaginary = self.draw(rng, shapes), self.draw(rng, shapes)
        return [a + 0.3j * b for a, b in zip(real, imaginary, strict=True)]

    def __repr__(self) -> str:
        return self.name


def own(x: Any, other: Any) -> Any:
    """A copy of x that can be changed in place, also by a tensor."""
    return tg.asarray(x, copy=True) if isinstance(other, tg.Tensor) else np.copy(x)
