"""A training step written by hand: a straight line of NumPy calls that allocate nothing.

It knows every trick that the compiler knows, and does all that a compiled step does: parameters and
gradients can be read where they lie, and Adam's averages are PyTorch's. What makes a call cheaper,
in nanoseconds of float32 on the processor where this was tried:

* Arrays start at multiples of 64 bytes, which NumPy does not see to: the product of 8192 numbers
  takes 1300 instead of 2600. Most calls work in place: near the size of the cache in half the time.
* A matrix product by a bound `dot` takes 290 where `matmul` takes 830. Sums over the batch are
  products with ones: 320 instead of 740, and 410 instead of 2970 for 100 rows of 16.
* The weights lie transposed, which saves BLAS its slowest kind of product: 6900 instead of 11800
  for 64 rows through 64-128. Only where few outputs have many inputs, it is the other way round.
* A bias lies behind its weights, as one more row of them. With a column of ones beside the inputs,
  one product does the layer and its bias, and one the gradients of both. In a narrow network,
  all matrices but the weights are transposed too, so that the ones are a row behind the rest, and
  what is worked on element by element has no gaps: 2-16-16-1 takes 0.76 of the time. In others, the
  inputs of the network are copied beside ones where they are fewer than what is made of them:
  64-128-10 takes 0.94 of the time.
* Other biases of small layers are spread over an array, then added: 480 instead of 730.
* Numbers are arrays without axes; to set one takes 34 by index, and 99 by `fill`. What scales the
  gradients is put into the error, which is small.
* All outputs lie in one vector, so that 1 - y * y is two calls for all layers; where these are
  large, there are two calls for each block of rows instead.
* Updates go through long vectors block by block, which saves up to a quarter of Adam's.

Programs for one purpose can do better still: where parameters are few, both averages of Adam in one
vector save three calls.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

ALIGNMENT = 64  # bytes
NARROW = 32  # numbers, up to which all layers of a network transpose what they work on
FEW = 2000  # numbers, up to which a bias is spread before it is added
BLOCK = 1 << 18  # bytes of each array, of up to five

DESCENT = "multiply(g, rate, s); subtract(p, s, p)"
ADAM = (
    "multiply(m, keep1, m); multiply(g, share1, s); add(m, s, m); "
    "multiply(v, keep2, v); square(g, s); multiply(s, share2, s); add(v, s, v); "
    "sqrt(v, s); add(s, epsilon, s); divide(m, s, s); multiply(s, rate, s); subtract(p, s, p)"
)


class Flat:
    """The step of a network with tanh after each layer, on the mean squared error.

    `weights` are w0, b0, w1, b1 ... with w of shape (nout, nin). `rate` is that of gradient
    descent, or of Adam if there are `betas`.
    """

    def __init__(
        self,
        weights: Sequence[Any],
        batch: int,
        rate: float,
        betas: tuple[float, float] | None = None,
        epsilon: float = 1e-8,
    ) -> None:
        self._dtype = weights[0].dtype
        self._batch = batch
        self._widths = widths = [weights[0].shape[1], *map(len, weights[1::2])]
        self._layers = range(len(widths) - 1)
        self._narrow = max(widths) <= NARROW
        self._folded = [self._narrow or (i == 0 and widths[0] < widths[1]) for i in self._layers]
        self._names: dict[str, Any] = {
            f.__name__: f
            for f in (np.add, np.subtract, np.multiply, np.divide, np.square, np.sqrt, np.tanh)
        }
        self._bind_outputs()
        shapes = [(nin + 1, nout) for nin, nout in itertools.pairwise(widths)]
        p, parameters = self._arena(shapes)
        g, gradients = self._arena(shapes)
        self.weights = self._bind_parameters(parameters, gradients)
        for mine, given in zip(self.weights, weights):
            mine[...] = given
        if betas is None:
            self._bind(rate=self._number(rate))
            self._update = [self._updated(DESCENT, p=p, g=g)]
        else:
            self._update = self._adam(p, g, rate, betas, epsilon)

    def step(self) -> Callable[[Any, Any], Any]:
        """A function that makes a step on a batch and returns the loss."""
        last = self._layers[-1]
        lines = ["x0[...] = x" if self._folded[0] else "x0 = x"]
        for i in self._layers:
            lines += [self._forward(i), *self._activation(i)]
        lines += [f"subtract(y{last}, t, g{last})", "error.dot(error, total)"]
        lines += ["loss = total[()] * mean", "multiply(error, scale, error)"]
        if not self._long:
            lines += ["square(y, d)", "subtract(one, d, d)"]
        for i in reversed(self._layers):
            lines += [self._slope(i), *self._backward(i)]
            lines += [] if self._folded[i] else [f"ones.dot(d{i}, gb{i})"]
        return self._function([*lines, *self._update, "return loss"])

    def products(self) -> Callable[[Any, Any], Any]:
        """A function that computes only the matrix products of a step."""
        lines = [] if self._folded[0] else ["x0 = x"]
        lines += map(self._forward, self._layers)
        lines += itertools.chain(*map(self._backward, self._layers))
        return self._function(lines)

    def _forward(self, i: int) -> str:
        if self._folded[i]:
            return self._product(f"xo{i}", f"wb{i}", f"y{i}")
        return self._product(f"x{i}", f"w{i}.T", f"y{i}")

    def _activation(self, i: int) -> list[str]:
        if self._long:
            bias = "" if self._folded[i] else f"add(a, b{i}, a); "
            return [f"for a, _ in blocks{i}: {bias}tanh(a, a)"]
        lines = [f"tanh(y{i}, y{i})"]
        if self._folded[i]:
            return lines
        if self._names[f"y{i}"].size <= FEW:
            return [f"d{i}[...] = b{i}", f"add(y{i}, d{i}, y{i})", *lines]
        return [f"add(y{i}, b{i}, y{i})", *lines]

    def _slope(self, i: int) -> str:
        """Multiply the derivative by y with that of tanh; after it, y is not needed any more."""
        if self._long:
            return f"for a, c in blocks{i}: square(a, a); subtract(one, a, a); multiply(c, a, c)"
        return f"multiply(g{i}, d{i}, d{i})"

    def _backward(self, i: int) -> list[str]:
        if self._folded[i]:
            lines = [self._product(f"xo{i}.T", f"d{i}", f"gwb{i}")]
        else:
            lines = [self._product(f"x{i}.T", f"d{i}", f"gw{i}.T")]
        return [*lines, self._product(f"d{i}", f"w{i}", f"g{i - 1}")] if i else lines

    def _product(self, a: str, b: str, out: str) -> str:
        """The line of out = a @ b; of out.T = b.T @ a.T, if that is what lies in rows."""
        if not self._value(out).flags.c_contiguous:
            a, b, out = map(_transposed, (b, a, out))
        return f"{a}.dot({b}, {out})"

    def _bind_outputs(self) -> None:
        """Bind what has a row for each of the batch."""
        widths = self._widths
        columns = [n + self._narrow for n in widths[1:]]
        _, (copy,) = self._matrices([widths[0] + 1])
        y, ys = self._matrices(columns)
        d, ds = self._matrices(columns)  # slopes of tanh, then the loss's derivatives by arguments
        _, gs = self._matrices(columns)  # the loss's derivatives by ys; the last one is the error
        self._long = max(y.nbytes for y in ys) > BLOCK
        if self._long:
            ds = gs
        for i, (n, x) in enumerate(zip(widths, [copy, *ys])):
            x[:, n:] = 1
            if i or self._folded[0]:  # else x0 is the argument
                self._bind(i, xo=x, x=x[:, :n])
        for i, n in enumerate(widths[1:]):
            y_i, d_i, g_i = (a[i][:, :n] for a in (ys, ds, gs))
            self._bind(i, y=y_i, d=d_i, g=g_i, blocks=self._blocks(y_i, g_i))
        error = gs[-1][:, : widths[-1]].ravel("K")
        self._bind(y=y, d=d, error=error, total=self._number(0), one=self._number(1))
        self._bind(mean=self._dtype.type(1 / error.size), scale=self._number(2 / error.size))
        self._bind(ones=np.ones(self._batch, self._dtype))

    def _bind_parameters(self, matrices: list[Any], gradients: list[Any]) -> list[Any]:
        """Bind weights with a row of biases behind them, and their parts, which are returned."""
        parts = []
        for i, (wb, gwb) in enumerate(zip(matrices, gradients)):
            nin, nout = self._widths[i : i + 2]
            by_rows = nout < 16 < nin and not self._narrow
            w, gw = (a[:-1].reshape(nout, nin) if by_rows else a[:-1].T for a in (wb, gwb))
            self._bind(i, wb=wb, w=w, b=wb[-1], gwb=gwb, gw=gw, gb=gwb[-1])
            parts += [w, wb[-1]]
        return parts

    def _adam(
        self, p: Any, g: Any, rate: float, betas: tuple[float, float], epsilon: float
    ) -> list[str]:
        _, (m, v) = self._arena([p.shape] * 2)
        for i, beta in enumerate(betas, 1):
            self._bind(i, keep=self._number(beta), share=self._number(1 - beta))
        update = self._updated(ADAM, p=p, g=g, m=m, v=v)
        self._bind(count=itertools.count(1), rate=self._number(0), epsilon=self._number(0))
        return [
            f"k = next(count); root = (1 - {betas[1]!r} ** k) ** 0.5",
            f"rate[()] = {rate!r} * root / (1 - {betas[0]!r} ** k)",
            f"epsilon[()] = {epsilon!r} * root",
            update,
        ]

    def _updated(self, lines: str, **vectors: Any) -> str:
        """Bind vectors, and return the lines for them, block by block where they are long."""
        p = vectors["p"]
        _, (s,) = self._arena([(min(p.size, BLOCK // p.itemsize),)])
        if p.nbytes <= BLOCK:
            self._bind(**vectors, s=s)
            return lines
        blocks = self._blocks(*vectors.values())
        self._bind(parameters=[(*block, s[: block[0].size]) for block in blocks])
        return f"for {', '.join(vectors)}, s in parameters: {lines}"

    def _blocks(self, *arrays: Any) -> list[tuple[Any, ...]]:
        """Arrays of equal length in parts, each a row, or as many as a block of the first holds."""
        rows = max(1, BLOCK // arrays[0][0].nbytes)
        return [tuple(a[k : k + rows] for a in arrays) for k in range(0, len(arrays[0]), rows)]

    def _matrices(self, columns: Sequence[int]) -> tuple[Any, list[Any]]:
        """A vector of zeros, and its parts with so many columns and a row for each of the batch."""
        if not self._narrow:
            return self._arena([(self._batch, n) for n in columns])
        vector, parts = self._arena([(n, self._batch) for n in columns])
        return vector, [part.T for part in parts]

    def _arena(self, shapes: Sequence[tuple[int, ...]]) -> tuple[Any, list[Any]]:
        """A vector of zeros, and its parts in these shapes, each aligned."""
        end = sum(map(self._padded, shapes))
        vector = np.zeros(end + ALIGNMENT, self._dtype)
        skip = -vector.ctypes.data % ALIGNMENT // self._dtype.itemsize
        vector = vector[skip : skip + end]
        starts = itertools.accumulate(map(self._padded, shapes), initial=0)
        return vector, [vector[i : i + math.prod(s)].reshape(s) for i, s in zip(starts, shapes)]

    def _padded(self, shape: tuple[int, ...]) -> int:
        line = ALIGNMENT // self._dtype.itemsize
        return -(-math.prod(shape) // line) * line

    def _number(self, x: float) -> Any:
        return np.array(x, self._dtype)

    def _bind(self, layer: int | str = "", **names: Any) -> None:
        self._names.update({f"{name}{layer}": value for name, value in names.items()})

    def _value(self, expression: str) -> Any:
        return eval(expression, dict(self._names))

    def _function(self, lines: list[str]) -> Callable[[Any, Any], Any]:
        """A function of x and t; what it uses, as y0.T.dot, is bound to its local variables."""
        bound = {}

        def bind(found: re.Match[str]) -> str:
            if found[1] not in self._names:
                return found[0]
            name = found[0].replace(".", "_")
            bound[name] = self._value(found[0])
            return name

        body = re.sub(r"\b([a-z]\w*)(\.T)?(\.dot)?", bind, "\n    ".join(lines))
        exec(f"def step(x, t, {', '.join(f'{name}={name}' for name in bound)}):\n    {body}", bound)
        return bound["step"]


def _transposed(matrix: str) -> str:
    return matrix.removesuffix(".T") if matrix.endswith(".T") else f"{matrix}.T"
