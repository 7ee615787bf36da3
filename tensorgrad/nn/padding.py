"""Padding of the last axes, by constants or by the elements of the input.

Names, parameters and their order are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.tensor import Tensor
from .module import Module, as_input, called

# PyTorch's names, and NumPy's.
MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(x: Any, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pad the last axes of an array; `np.pad` with PyTorch's parameters.

    `pad` has two integers for each axis, the last axis first: the elements to add before and after
    it. Negative ones remove elements. `mode` is "constant", for elements of this `value`, or one of
    "reflect", "replicate" and "circular": `np.pad` calls these "reflect", "edge" and "wrap".

    >>> x = np.array([[1.0, 2.0, 3.0]])
    >>> tg.nn.pad(x, (1, 2))
    array([[0., 1., 2., 3., 0., 0.]])
    >>> tg.nn.pad(x, (2, -1), "reflect")
    array([[3., 2., 1., 2.]])
    """
    return padded("pad", x, pad, mode, value)


def padded(who: Any, x: Any, pad: Sequence[int], mode: str, value: float = 0.0) -> Any:
    """Pad an array; `who` is the function or layer that errors name."""
    x = as_input(x)
    pads: list[Any] = [pad] if np.ndim(pad) == 0 else [*pad]
    are_whole = all(hasattr(amount, "__index__") for amount in pads)
    pairs = list(zip(pads[::2], pads[1::2]))[::-1]
    sizes = x.shape[x.ndim - len(pairs) :]
    if len(pads) % 2 or len(pads) > 2 * x.ndim or not are_whole:
        raise ValueError(
            f"{who}: pad={pad} for an input of shape {x.shape}; pass two integers for each axis to "
            "pad, the last axis first"
        )
    if any(n + sum(pair) < 0 for n, pair in zip(sizes, pairs)):
        raise ValueError(f"{who}: pad={pad} removes more than an input of shape {x.shape} has")
    check_mode(who, "mode", mode, MODES)
    widths = [(0, 0)] * (x.ndim - len(pairs)) + [(max(0, a), max(0, b)) for a, b in pairs]
    options = {"constant_values": value} if mode == "constant" else {}
    y: Any = np.pad(x, widths, MODES[mode], **options)  # type: ignore[call-overload]
    if any(min(pair) < 0 for pair in pairs):
        sizes = y.shape[x.ndim - len(pairs) :]
        y = y[(..., *[slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(sizes, pairs)])]
    return y


def check_mode(who: Any, name: str, mode: Any, modes: Any) -> None:
    """Raise a ValueError that lists the modes if this one is not among them."""
    if mode not in modes:
        raise ValueError(f"{who}: {name}={mode!r}; pass one of {', '.join(map(repr, modes))}")


# -- as layers


class _Pad(Module):
    axes: ClassVar[int]
    mode: ClassVar[str]
    value = 0.0

    def __init__(self, padding: int | Sequence[int]) -> None:
        both = 2 * self.axes
        self.padding = (padding,) * both if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != both:
            raise ValueError(
                f"{type(self).__name__}: padding={padding}; pass an integer, or {both} of "
                "them, two for each axis, the last axis first"
            )

    def __call__(self, x: Any) -> Tensor:
        """Return the padded input, of shape (n, channels, *sizes) or (channels, *sizes)."""
        x = as_input(x)
        if x.ndim not in (self.axes + 1, self.axes + 2):
            raise ValueError(
                f"{self}: an input of shape {x.shape}; it must have {self.axes + 2} axes, samples "
                f"and channels first, or {self.axes + 1} for one sample"
            )
        return padded(self, x, self.padding, self.mode, self.value)

    def __repr__(self) -> str:
        return called(self, self.padding)


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def __repr__(self) -> str:
        return called(self, self.padding, self.value)


class ConstantPad1d(_ConstantPad):
    """A layer that pads signals by elements of this value, as `pad` does.

    >>> tg.nn.ConstantPad1d(1, 2.5)(np.ones((2, 3, 4))).shape
    (2, 3, 6)
    """

    axes = 1


class ConstantPad2d(_ConstantPad):
    """A layer that pads images by elements of this value, as `pad` does.

    >>> tg.nn.ConstantPad2d(1, 2.5)(np.ones((2, 3, 4, 4))).shape
    (2, 3, 6, 6)
    """

    axes = 2


class ConstantPad3d(_ConstantPad):
    """A layer that pads volumes by elements of this value, as `pad` does.

    >>> tg.nn.ConstantPad3d(1, 2.5)(np.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 6, 6, 6)
    """

    axes = 3


class ZeroPad1d(_Pad):
    """A layer that pads signals by zeros, as `pad` does.

    >>> tg.nn.ZeroPad1d(1)(np.ones((2, 3, 4))).shape
    (2, 3, 6)
    """

    axes = 1
    mode = "constant"


class ZeroPad2d(_Pad):
    """A layer that pads images by zeros, as `pad` does.

    >>> tg.nn.ZeroPad2d(1)(np.ones((2, 3, 4, 4))).shape
    (2, 3, 6, 6)
    """

    axes = 2
    mode = "constant"


class ZeroPad3d(_Pad):
    """A layer that pads volumes by zeros, as `pad` does.

    >>> tg.nn.ZeroPad3d(1)(np.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 6, 6, 6)
    """

    axes = 3
    mode = "constant"


class ReflectionPad1d(_Pad):
    """A layer that pads signals by reflecting them at both ends, as `pad` does.

    >>> tg.nn.ReflectionPad1d(1)(np.ones((2, 3, 4))).shape
    (2, 3, 6)
    """

    axes = 1
    mode = "reflect"


class ReflectionPad2d(_Pad):
    """A layer that pads images by reflecting them at both ends, as `pad` does.

    >>> tg.nn.ReflectionPad2d(1)(np.ones((2, 3, 4, 4))).shape
    (2, 3, 6, 6)
    """

    axes = 2
    mode = "reflect"


class ReflectionPad3d(_Pad):
    """A layer that pads volumes by reflecting them at both ends, as `pad` does.

    >>> tg.nn.ReflectionPad3d(1)(np.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 6, 6, 6)
    """

    axes = 3
    mode = "reflect"


class ReplicationPad1d(_Pad):
    """A layer that pads signals by their first and their last element, as `pad` does.

    >>> tg.nn.ReplicationPad1d(1)(np.ones((2, 3, 4))).shape
    (2, 3, 6)
    """

    axes = 1
    mode = "replicate"


class ReplicationPad2d(_Pad):
    """A layer that pads images by their first and their last element, as `pad` does.

    >>> tg.nn.ReplicationPad2d(1)(np.ones((2, 3, 4, 4))).shape
    (2, 3, 6, 6)
    """

    axes = 2
    mode = "replicate"


class ReplicationPad3d(_Pad):
    """A layer that pads volumes by their first and their last element, as `pad` does.

    >>> tg.nn.ReplicationPad3d(1)(np.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 6, 6, 6)
    """

    axes = 3
    mode = "replicate"


class CircularPad1d(_Pad):
    """A layer that pads signals by their other end, as `pad` does.

    >>> tg.nn.CircularPad1d(1)(np.ones((2, 3, 4))).shape
    (2, 3, 6)
    """

    axes = 1
    mode = "circular"


class CircularPad2d(_Pad):
    """A layer that pads images by their other end, as `pad` does.

    >>> tg.nn.CircularPad2d(1)(np.ones((2, 3, 4, 4))).shape
    (2, 3, 6, 6)
    """

    axes = 2
    mode = "circular"


class CircularPad3d(_Pad):
    """A layer that pads volumes by their other end, as `pad` does.

    >>> tg.nn.CircularPad3d(1)(np.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 6, 6, 6)
    """

    axes = 3
    mode = "circular"
