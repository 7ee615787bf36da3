"""The windows of convolution, pooling and unfolding: where they are in an input that is padded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

Size: TypeAlias = int | Sequence[int]
Padding: TypeAlias = Size | Literal["same", "valid"]


class Windows(NamedTuple):
    """The windows of a convolution or pooling: one number for each axis, or two of padding.

    Element k of the window of output p is at `p * stride + k * dilation` in the padded input.
    Negative padding leaves out elements.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    def outputs(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The number of windows along each axis of an input."""
        return tuple(
            [
                (n + sum(pad) - d * (k - 1) - 1) // s + 1
                for n, k, s, pad, d in zip(sizes, *self, strict=True)
            ]
        )

    def inputs(self, outputs: Sequence[int]) -> tuple[int, ...]:
        """The least sizes of an input with so many windows along each axis."""
        return tuple(
            [
                (p - 1) * s + d * (k - 1) + 1 - sum(pad)
                for p, k, s, pad, d in zip(outputs, *self, strict=True)
            ]
        )

    def positions(self, axes: int | None = None) -> Iterator[tuple[int, ...]]:
        """The positions of the elements in a window, in C order, along all or the first axes."""
        return itertools.product(*map(range, self.kernel[:axes]))

    def elements(self, position: Sequence[int], outputs: Sequence[int]) -> tuple[slice, ...]:
        """The index of the elements at this position of every window, in the padded input."""
        return tuple(
            [
                slice(k * d, k * d + (p - 1) * s + 1, s)
                for k, p, s, d in zip(position, outputs, self.stride, self.dilation)
            ]
        )

    def padded(self, x: Any, fill: float = 0) -> Any:
        """The input with its padding."""
        if not any(map(any, self.padding)):
            return x
        lead = x.shape[: x.ndim - len(self.kernel)]
        sizes = x.shape[len(lead) :]
        shape = [n + sum(pad) for n, pad in zip(sizes, self.padding)]
        out: Any = np.full_like(x, fill, order="C", shape=(*lead, *shape))
        kept = [slice(max(0, -a), n + min(0, b)) for n, (a, b) in zip(sizes, self.padding)]
        ends = [slice(max(0, a), m - max(0, b)) for m, (a, b) in zip(shape, self.padding)]
        out[(..., *ends)] = x[(..., *kept)]
        return out

    def inside(self, sizes: Sequence[int]) -> tuple[Any, ...]:
        """The index of the input in the padded input."""
        return (..., *[slice(pad[0], pad[0] + n) for n, pad in zip(sizes, self.padding)])

    def reversed(self, sizes: Sequence[int], outputs: Sequence[int]) -> Windows:
        """The windows of the outputs, with stride 1, that each element of an input is in."""
        padding = []
        for n, p, k, _, (before, _), d in zip(sizes, outputs, *self, strict=True):
            padding.append((d * (k - 1) - before, n - p + before))
        return self._replace(padding=tuple(padding))


def sizes_of(who: Any, count: int, name: str, value: Any, least: int) -> tuple[int, ...]:
    """The parameter of this name as `count` integers of at least `least`, from one or several."""
    values = (value,) * count if np.ndim(value) == 0 else tuple(value)
    are_whole = all(hasattr(value, "__index__") for value in values)
    if len(values) != count or not are_whole or min(values) < least:
        raise ValueError(
            f"{who}: {name}={value!r}; pass an integer of at least {least}, or {count} of them"
        )
    return values


def windows_of(
    who: Any, count: int, kernel: Size, stride: Size, padding: Padding, dilation: Size
) -> Windows:
    """Make windows from parameters that are one number, or one for each of `count` axes."""
    kernel = sizes_of(who, count, "kernel_size", kernel, 1)
    stride = sizes_of(who, count, "stride", stride, 1)
    dilation = sizes_of(who, count, "dilation", dilation, 1)
    if padding == "same":
        if max(stride) > 1:
            raise ValueError(f"{who}: padding='same' needs stride 1, not {stride}")
        totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
        pads = tuple([(total // 2, total - total // 2) for total in totals])
    elif isinstance(padding, str) and padding != "valid":
        raise ValueError(f"{who}: padding={padding!r}; pass 'same', 'valid' or integers")
    else:
        amounts = sizes_of(who, count, "padding", 0 if isinstance(padding, str) else padding, 0)
        pads = tuple([(amount, amount) for amount in amounts])
    return Windows(kernel, stride, pads, dilation)


def check_fit(who: Any, windows: Windows, shape: tuple[int, ...]) -> None:
    """Raise a ValueError if an input is smaller than one window."""
    if min(windows.outputs(shape[-len(windows.kernel) :])) < 1:
        raise ValueError(
            f"{who}: an input of shape {shape}, with padding {windows.padding}, is smaller than "
            f"one window of {windows.kernel} with dilation {windows.dilation}: pass a larger input "
            "or more padding"
        )
