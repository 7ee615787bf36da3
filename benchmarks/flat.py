"""A training step written by hand: a straight line of NumPy calls that allocate nothing.

It uses every optimization of the compiler, and has the effects of a compiled step: a user can read
the parameters and the gradients in their arrays, and Adam's averages are those of PyTorch. What
makes a call cheaper, with times in nanoseconds for float32 on the processor that was used:

| optimization | for | time | instead of |
|---|---|--:|--:|
| arrays start at multiples of 64 bytes, unlike NumPy's | product of 8192 numbers | 1300 | 2600 |
| matrix products by a bound `dot`, not by `matmul` | small matrices | 290 | 830 |
| sums over the batch as products with ones | 100 rows of 16 | 410 | 2970 |
| weights are transposed, as BLAS is slowest for the other order | 64 rows, 64-128 | 6900 | 11800 |
| other biases of small layers: copied to an array, then added | | 480 | 730 |
| numbers are arrays without axes, set by index, not by `fill` | | 34 | 99 |

* Most calls work in place. Near the size of the cache, that halves their time.
* Weights are not transposed where few outputs have many inputs: there, the other order is faster.
* A bias is one more row of its weights. With a column of ones next to the inputs, one product then
  computes the layer and adds its bias, and one computes the gradients of both. In a narrow network,
  all matrices except the weights are transposed as well. The ones are then a row at the end, and
  element-wise calls work on contiguous memory: 2-16-16-1 takes 0.76 of the time. In other networks,
  the inputs are copied next to ones if they are fewer than the outputs of the first layer:
  64-128-10 takes 0.94 of the time.
* The factor of the gradients is multiplied into the error, which is a small array.
* The outputs of all layers are parts of one vector, so that 1 - y * y takes two calls in total.
  Where the outputs are large, each block of rows takes two calls instead.
* Long vectors are updated block by block, which saves up to a quarter of the time of Adam.

Programs for one purpose can be faster still: with few parameters, both averages of Adam in one
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
NARROW = 32  # outputs of a layer, up to which all layers transpose their matrices
FEW = 2000  # outputs in a batch, up to which a bias is copied to an array, then added
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
        for weight, initial in zip(self.weights, weights):
            weight[...] = initial
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
        """Multiply the derivative with respect to y by that of tanh; this may overwrite y."""
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
        """The line of out = a @ b, or of out.T = b.T @ a.T if out.T is contiguous."""
        if not self._value(out).flags.c_contiguous:
            a, b, out = map(_transposed, (b, a, out))
        return f"{a}.dot({b}, {out})"

    def _bind_outputs(self) -> None:
        """Bind the arrays that have a row for each sample of the batch."""
        widths = self._widths
        columns = [n + self._narrow for n in widths[1:]]
        _, (copy,) = self._matrices([widths[0] + 1])
        y, ys = self._matrices(columns)
        d, ds = self._matrices(
            columns
        )  # slopes of tanh, then derivatives of the loss with respect to x @ w + b
        _, gs = self._matrices(
            columns
        )  # derivatives of the loss with respect to ys; the last is the error
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
        """Bind weights that end with a row of biases, and their parts, which are returned."""
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
        """Bind vectors, and return the lines that update them, block by block if they are long."""
        p = vectors["p"]
        _, (s,) = self._arena([(min(p.size, BLOCK // p.itemsize),)])
        if p.nbytes <= BLOCK:
            self._bind(**vectors, s=s)
            return lines
        blocks = self._blocks(*vectors.values())
        self._bind(parameters=[(*block, s[: block[0].size]) for block in blocks])
        return f"for {', '.join(vectors)}, s in parameters: {lines}"

    def _blocks(self, *arrays: Any) -> list[tuple[Any, ...]]:
        """Cut arrays of equal length into blocks of rows; the blocks of the first fit `BLOCK`."""
        rows = max(1, BLOCK // arrays[0][0].nbytes)
        return [tuple(a[k : k + rows] for a in arrays) for k in range(0, len(arrays[0]), rows)]

    def _matrices(self, columns: Sequence[int]) -> tuple[Any, list[Any]]:
        """A vector of zeros, and its parts: matrices with a row for each sample of the batch."""
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
        """A function of x and t, whose local variables are what it uses, such as y0.T.dot."""
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
