"""Functions that give tensors the elements with which a training starts.

They have PyTorch's names and arguments. Each writes into its tensor, a parameter for example, and
returns it; a graph that has used the tensor refuses `backward()`. `generator` is a NumPy Generator,
which advances, or a seed. A weight has shape (fan out, fan in, *sizes of a kernel): the fans are
the numbers of inputs and of outputs of a neuron, each times the elements of a kernel.

>>> layer = tg.nn.Linear(3, 2)
>>> tg.nn.init.constant_(layer.bias, 0.5)
Tensor([0.5, 0.5], requires_grad=True)
>>> _ = tg.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=0)
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from .. import special
from ..data import RNG
from ..engine.tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def __dir__() -> list[str]:
    return __all__


def _write(tensor: Tensor, elements: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tg.nn.init: needs a tensor to write into, not a {type(tensor).__name__}")
    tensor.data = np.broadcast_to(elements, tensor.shape)
    return tensor


def _require(rule: bool, name: str, text: str) -> None:
    if not rule:
        raise ValueError(f"{name}: {text}")


# -- distributions and constants


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: RNG = None) -> Tensor:
    """Draw elements that are uniform from `a` to `b`.

    >>> bool(np.all(tg.nn.init.uniform_(tg.zeros(100), -1, 1, generator=0) < 1))
    True
    """
    _require(a <= b, "uniform_", f"a={a} is greater than b={b}")
    return _write(tensor, np.random.default_rng(generator).uniform(a, b, tensor.shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: RNG = None) -> Tensor:
    """Draw elements from a normal distribution.

    >>> tg.nn.init.normal_(tg.zeros(2), std=0.01, generator=0).shape
    (2,)
    """
    _require(std >= 0, "normal_", f"std={std} is negative")
    return _write(tensor, np.random.default_rng(generator).normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: RNG = None,
) -> Tensor:
    """Draw elements from a normal distribution, those from `a` to `b` of it.

    `a` and `b` are bounds of the elements themselves, not in units of `std`.

    >>> bool(np.all(np.abs(tg.nn.init.trunc_normal_(tg.zeros(100), generator=0)) <= 2))
    True
    """
    _require(a < b, "trunc_normal_", f"a={a} is not below b={b}")
    _require(std > 0, "trunc_normal_", f"std={std} is not positive")
    low, high = (a - mean) / std, (b - mean) / std
    side = -1.0 if low > 0 else 1.0  # the right tail as the left one, where probabilities are exact
    left, right = special.ndtr(np.array(sorted([side * low, side * high])))
    drawn = np.random.default_rng(generator).uniform(left, right, tensor.shape)
    return _write(tensor, np.clip(mean + std * side * special.ndtri(drawn), a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Set each element to `val`.

    >>> tg.nn.init.constant_(tg.zeros(2), 3.0)
    Tensor([3., 3.])
    """
    return _write(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """Set each element to 1.

    >>> tg.nn.init.ones_(tg.zeros(2))
    Tensor([1., 1.])
    """
    return _write(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Set each element to 0.

    >>> tg.nn.init.zeros_(tg.ones(2))
    Tensor([0., 0.])
    """
    return _write(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Set a matrix to the identity: 1 on its diagonal, and 0 elsewhere.

    >>> tg.nn.init.eye_(tg.zeros((2, 3)))
    Tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    _require(tensor.ndim == 2, "eye_", f"a tensor of shape {tensor.shape}; it must be a matrix")
    rows, columns = tensor.shape
    return _write(tensor, np.eye(rows, columns))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Set the weight of a convolution so that each channel is passed on as it is.

    Output channels beyond the input channels are 0. With `groups`, each group of outputs is set.

    >>> tg.nn.init.dirac_(tg.zeros((2, 1, 3)))
    Tensor([[[0., 1., 0.]],
    <BLANKLINE>
            [[0., 0., 0.]]])
    """
    shape = tensor.shape
    _require(
        3 <= len(shape) <= 5,
        "dirac_",
        f"a tensor of shape {shape}; it must have 3 to 5 axes, as the weight of a convolution",
    )
    _require(
        groups > 0 and shape[0] % groups == 0,
        "dirac_",
        f"{shape[0]} output channels cannot be divided into groups={groups}",
    )
    elements = np.zeros(shape)
    rows = shape[0] // groups
    middle = [size // 2 for size in shape[2:]]
    for i in range(shape[0]):
        if i % rows < shape[1]:
            elements[(i, i % rows, *middle)] = 1
    return _write(tensor, elements)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: RNG = None) -> Tensor:
    """Draw a matrix from a normal distribution, with a fraction of each column set to 0.

    `sparsity` is that fraction; the number of zeros is rounded up. Martens, Deep learning via
    Hessian-free optimization, 2010.

    >>> np.count_nonzero(tg.nn.init.sparse_(tg.zeros((10, 2)), 0.7, generator=0), axis=0)
    Tensor([3, 3])
    """
    _require(
        tensor.ndim == 2,
        "sparse_",
        f"a tensor of shape {tensor.shape}; it must be a matrix",
    )
    _require(0 <= sparsity <= 1, "sparse_", f"sparsity={sparsity} is not from 0 to 1")
    rng = np.random.default_rng(generator)
    elements = rng.normal(0, std, tensor.shape)
    zeros = math.ceil(sparsity * len(elements))
    order = rng.permuted(np.tile(np.arange(len(elements))[:, None], tensor.shape[1]), axis=0)
    np.put_along_axis(elements, order[:zeros], 0, axis=0)
    return _write(tensor, elements)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: RNG = None) -> Tensor:
    """Draw a matrix with orthonormal rows or, where there are more rows, columns; times `gain`.

    Axes after the first are taken as one. Saxe and others, Exact solutions to the nonlinear
    dynamics of learning in deep linear neural networks, 2013.

    >>> w = tg.nn.init.orthogonal_(tg.zeros((2, 3)), generator=0)
    >>> bool(np.allclose(w @ w.T, np.eye(2)))
    True
    """
    _require(
        tensor.ndim >= 2,
        "orthogonal_",
        f"a tensor of shape {tensor.shape}; it needs 2 axes or more",
    )
    if not tensor.size:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.size // rows
    drawn = np.random.default_rng(generator).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q = q * np.sign(np.diagonal(r))  # uniform among all such matrices: Mezzadri, 2007
    return _write(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


# -- by the number of inputs and outputs

Nonlinearity = Literal[
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu",
]  # fmt: skip
_GAINS = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


def calculate_gain(nonlinearity: Nonlinearity, param: float | None = None) -> float:
    """Return the factor by which weights before an activation start larger.

    `param` is the slope of "leaky_relu" for negative numbers, by default 0.01.

    >>> tg.nn.init.calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    known = Nonlinearity.__args__  # type: ignore[attr-defined]
    _require(
        nonlinearity in known,
        "calculate_gain",
        f"nonlinearity {nonlinearity!r} is not one of {', '.join(map(repr, known))}",
    )
    return _GAINS.get(nonlinearity, 1.0)


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    """The numbers of inputs and of outputs of a neuron."""
    _require(
        tensor.ndim >= 2,
        name,
        f"a tensor of shape {tensor.shape} has no fan in and fan out; it needs 2 axes or more",
    )
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: RNG = None) -> Tensor:
    """Draw elements that are uniform in +-gain * sqrt(6 / (fan in + fan out)).

    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks,
    2010.

    >>> bool(np.all(np.abs(tg.nn.init.xavier_uniform_(tg.zeros((2, 4)), generator=0)) <= 1))
    True
    """
    bound = gain * math.sqrt(6 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: RNG = None) -> Tensor:
    """Draw normal elements with the deviation gain * sqrt(2 / (fan in + fan out)).

    The source is that of `xavier_uniform_`.

    >>> tg.nn.init.xavier_normal_(tg.zeros((2, 4)), generator=0).shape
    (2, 4)
    """
    std = gain * math.sqrt(2 / sum(_fans("xavier_normal_", tensor)))
    return normal_(tensor, 0, std, generator)


def _kaiming(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: Any) -> float:
    """The standard deviation."""
    fans = dict(zip(("fan_in", "fan_out"), _fans(name, tensor), strict=True))
    _require(mode in fans, name, f'mode must be "fan_in" or "fan_out", not {mode!r}')
    return calculate_gain(nonlinearity, a) / math.sqrt(fans[mode])


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: RNG = None,
) -> Tensor:
    """Draw elements that are uniform in +-gain * sqrt(3 / fan).

    The gain is `calculate_gain(nonlinearity, a)`, and `mode` says which fan. He and others, Delving
    deep into rectifiers, 2015.

    >>> bool(np.all(np.abs(tg.nn.init.kaiming_uniform_(tg.zeros((2, 6)), generator=0)) <= 1))
    True
    """
    bound = math.sqrt(3) * _kaiming("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: RNG = None,
) -> Tensor:
    """Draw normal elements with the deviation gain / sqrt(fan), as in `kaiming_uniform_`.

    >>> tg.nn.init.kaiming_normal_(tg.zeros((2, 6)), mode="fan_out", generator=0).shape
    (2, 6)
    """
    std = _kaiming("kaiming_normal_", tensor, a, mode, nonlinearity)
    return normal_(tensor, 0, std, generator)
