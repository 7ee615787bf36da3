"""The optimizers. Each computes the coefficients of a step, and then updates vectors in place.

Comments in the updates give each line as a formula. `s` is scratch memory; `g` may be overwritten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..engine.typing import Array
from .base import Number, Optimizer, Options, Parameters, State, arguments


def _sqrt(x: Number) -> Number:
    return x.sqrt() if hasattr(x, "sqrt") else math.sqrt(x)


def _average(mean: Array, beta: Array, x: Array, share: Array, s: Array) -> None:
    mean *= beta
    mean += np.multiply(x, share, s)  # mean = beta * mean + share * x


def _over_root(x: Array, v: Array, eps: Array, s: Array) -> Array:
    np.sqrt(v, s)
    s += eps
    return np.divide(x, s, s)  # x / (sqrt(v) + eps)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: b = momentum * b + g, then p -= lr * b.

    `weight_decay * p` is added to the gradient g. From the second step on, `dampening` reduces g by
    that fraction where it is added to b. With `nesterov`, p -= lr * (g + momentum * b): Sutskever
    and others, On the importance of initialization and momentum in deep learning, 2013. With
    `maximize`, the loss is maximized.

    >>> p = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([p], lr=0.1)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([0.8, 1.6], requires_grad=True)
    """

    vectors = ("momentum_buffer",)
    options_of_step = ("dampening",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(**arguments(locals()))

    def _check(self, options: Options) -> None:
        super()._check(options)
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            self._refuse(options, "nesterov", "needs momentum, and no dampening")

    def _coefficients(self, o: Options) -> Sequence[float]:
        lr, momentum = o["lr"], o["momentum"]
        return (lr, momentum) if o["dampening"] else (lr, momentum, 1.0)

    def _coefficients_of_step(self, o: Options, n: Options, t: Number) -> Sequence[Number]:
        return (1.0 - n["dampening"] * (t > 1),) if o["dampening"] else ()

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State,
        lr: Array, momentum: Array, share: Array,
    ) -> None:  # fmt: skip
        if o["momentum"]:
            b = state("momentum_buffer")
            _average(b, momentum, g, share, s)  # b = momentum * b + share * g
            g = np.add(g, np.multiply(b, momentum, s), s) if o["nesterov"] else b
        p -= np.multiply(g, lr, s)  # p = p - lr * g


class Adam(Optimizer):
    """Adaptive moments: p -= lr * m / (sqrt(v) + eps), which moves each parameter by about `lr`.

    m and v are the moving averages of g and g², with the decay rates `betas`, and corrected for the
    bias of their start at 0. Kingma and Ba, Adam: A method for stochastic optimization, 2015.
    `weight_decay * p` is added to the gradient g. With `amsgrad`, v is replaced by its largest
    value so far: Reddi and others, On the convergence of Adam and beyond, 2018. With `maximize`,
    the loss is maximized.

    >>> p = tg.Tensor([1.0, 200.0], requires_grad=True)
    >>> optimizer = tg.optim.Adam([p], lr=0.1)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([  0.9, 199.9], requires_grad=True)
    """

    vectors = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    options_of_step = ("lr", "betas", "eps")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(**arguments(locals()))

    def _coefficients(self, o: Options) -> Sequence[float]:
        beta1, beta2 = o["betas"]
        return beta1, 1 - beta1, beta2, 1 - beta2

    def _coefficients_of_step(self, _o: Options, n: Options, t: Number) -> Sequence[Number]:
        beta1, beta2 = n["betas"]
        root = _sqrt(1 - beta2**t)
        return n["eps"] * root, n["lr"] * root / (1 - beta1**t)

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State,
        beta1: Array, share1: Array, beta2: Array, share2: Array, eps: Array, lr: Array,
    ) -> None:  # fmt: skip
        m, v = state("exp_avg"), state("exp_avg_sq")
        _average(m, beta1, g, share1, s)  # m = beta1 * m + (1 - beta1) * g
        _average(v, beta2, np.multiply(g, g, s), share2, s)  # v = beta2 * v + (1 - beta2) * g²
        if o["amsgrad"]:
            largest = state("max_exp_avg_sq")
            v = np.maximum(largest, v, out=largest)
        p -= np.multiply(_over_root(m, v, eps, s), lr, s)  # p = p - lr * m / (sqrt(v) + eps)


class AdamW(Adam):
    """Adam with decoupled weight decay: p -= lr * weight_decay * p, apart from the gradient.

    Loshchilov and Hutter, Decoupled weight decay regularization, 2019.

    >>> p = tg.Tensor([1.0], requires_grad=True)
    >>> p.grad = [0.0]
    >>> tg.optim.AdamW([p], lr=0.1, weight_decay=0.5).step()
    >>> p
    Tensor([0.95], requires_grad=True)
    """

    decoupled = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(**arguments(locals()))


class RMSprop(Optimizer):
    """Gradients over their root mean square: p -= lr * g / (sqrt(v) + eps).

    v is the moving average of g², with the decay rate `alpha`. With `centered`, the square of the
    moving average of g is subtracted from v: Graves, Generating sequences with recurrent neural
    networks, 2013. With `momentum`, b = momentum * b + g / (sqrt(v) + eps), then p -= lr * b.
    Tieleman and Hinton, Lecture 6.5, 2012. `weight_decay` and `maximize` are those of `SGD`.

    >>> p = tg.Tensor([1.0, 200.0], requires_grad=True)
    >>> optimizer = tg.optim.RMSprop([p], lr=0.01, alpha=0.75)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([  0.98, 199.98], requires_grad=True)
    """

    vectors = ("square_avg", "grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(**arguments(locals()))

    def _coefficients(self, o: Options) -> Sequence[float]:
        return o["lr"], o["alpha"], 1 - o["alpha"], o["eps"], o["momentum"]

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State,
        lr: Array, alpha: Array, share: Array, eps: Array, momentum: Array,
    ) -> None:  # fmt: skip
        v = state("square_avg")
        _average(v, alpha, np.multiply(g, g, s), share, s)  # v = alpha * v + (1 - alpha) * g²
        if o["centered"]:
            m = state("grad_avg")
            _average(m, alpha, g, share, s)  # m = alpha * m + (1 - alpha) * g
            v = np.subtract(v, np.multiply(m, m, s), s)  # the variance, v - m²
        g = _over_root(g, v, eps, s)  # g / (sqrt(v) + eps)
        if o["momentum"]:
            b = state("momentum_buffer")
            b *= momentum
            b += g  # b = momentum * b + g
            g = b
        p -= np.multiply(g, lr, s)  # p = p - lr * g


class Adagrad(Optimizer):
    """Gradients over the root of the sum of their squares: p -= lr * g / (sqrt(v) + eps).

    v, the sum so far, starts at `initial_accumulator_value`. The learning rate of step t is
    lr / (1 + (t - 1) * lr_decay). Duchi, Hazan and Singer, Adaptive subgradient methods, 2011.
    `weight_decay` and `maximize` are those of `SGD`.

    >>> p = tg.Tensor([1.0, 200.0], requires_grad=True)
    >>> optimizer = tg.optim.Adagrad([p], lr=0.1)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([  0.9, 199.9], requires_grad=True)
    """

    vectors = ("sum",)
    options_of_step = ("lr", "lr_decay")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(**arguments(locals()))

    def _coefficients(self, o: Options) -> Sequence[float]:
        return (o["eps"],)

    def _coefficients_of_step(self, _o: Options, n: Options, t: Number) -> Sequence[Number]:
        return (n["lr"] / (1 + (t - 1) * n["lr_decay"]),)

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State, eps: Array, lr: Array
    ) -> None:
        v = state("sum", o["initial_accumulator_value"])
        v += np.multiply(g, g, s)  # v = v + g²
        p -= np.multiply(_over_root(g, v, eps, s), lr, s)  # p = p - lr * g / (sqrt(v) + eps)


class Lion(Optimizer):
    """Steps of exactly `lr`, by the sign of a mean of the gradient g and its moving average m.

    p -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p), and then
    m = beta2 * m + (1 - beta2) * g. Chen and others, Symbolic discovery of optimization algorithms,
    2023; they advise a learning rate of a third to a tenth of AdamW's. With `maximize`, the loss is
    maximized.

    >>> p = tg.Tensor([1.0, -200.0], requires_grad=True)
    >>> optimizer = tg.optim.Lion([p], lr=0.1)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([   0.9, -199.9], requires_grad=True)
    """

    vectors = ("exp_avg",)
    decoupled = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(**arguments(locals()))

    def _coefficients(self, o: Options) -> Sequence[float]:
        lr, (beta1, beta2) = o["lr"], o["betas"]
        return lr, beta1 / (1 - beta1), beta2, 1 - beta2

    def _update(
        self, _o: Options, p: Array, g: Array, s: Array, state: State,
        lr: Array, ratio: Array, beta2: Array, share: Array,
    ) -> None:  # fmt: skip
        m = state("exp_avg")
        np.multiply(m, ratio, s)  # beta1 / (1 - beta1) * m + g has the sign of the mean
        s += g
        p -= np.multiply(np.sign(s, s), lr, s)  # p = p - lr * sign(s)
        _average(m, beta2, g, share, s)  # m = beta2 * m + (1 - beta2) * g
