"""Layers of pooling and unpooling. Names, parameters and their order are PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..engine.tensor import Tensor
from .module import Module, called
from .pooling import adaptive_avg_pool, adaptive_max_pool, avg_pool, lp_pool, max_pool
from .unpooling import max_unpool
from .windows import Size, windows_of

_WINDOWS = "stride", "padding", "dilation", "return_indices", "ceil_mode"
_OPTIONS = *_WINDOWS, "count_include_pad", "divisor_override"


class _Pool(Module):
    axes: ClassVar[int]

    def __init__(self, kernel_size: Size, stride: Size | None, padding: Size | None = None) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        if padding is not None:
            self.padding = padding
        windows_of(type(self).__name__, self.axes, kernel_size, self.stride, padding or 0, 1)

    def _required(self) -> tuple[Any, ...]:
        return (self.kernel_size,)

    def __repr__(self) -> str:
        options = {name: vars(self)[name] for name in _OPTIONS if name in vars(self)}
        if self.stride == self.kernel_size:
            options["stride"] = None
        return called(self, *self._required(), **options)


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def __call__(self, x: Any) -> Any:
        """Return the largest element in each window, and its index if asked for."""
        parameters = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        return max_pool(self, self.axes, x, *parameters, return_indices=self.return_indices)


class MaxPool1d(_MaxPool):
    """A layer that computes `max_pool1d`.

    >>> tg.nn.MaxPool1d(2)(np.ones((5, 3, 8))).shape
    (5, 3, 4)
    """

    axes = 1


class MaxPool2d(_MaxPool):
    """A layer that computes `max_pool2d`.

    >>> tg.nn.MaxPool2d(2)(np.ones((5, 3, 8, 8))).shape
    (5, 3, 4, 4)
    """

    axes = 2


class MaxPool3d(_MaxPool):
    """A layer that computes `max_pool3d`.

    >>> tg.nn.MaxPool3d(2)(np.ones((5, 3, 8, 8, 8))).shape
    (5, 3, 4, 4, 4)
    """

    axes = 3


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def __call__(self, x: Any) -> Tensor:
        """Return the mean of each window."""
        sizes = self.kernel_size, self.stride, self.padding
        counted = self.ceil_mode, self.count_include_pad, self.divisor_override
        return avg_pool(self, self.axes, x, *sizes, *counted)


class AvgPool1d(_AvgPool):
    """A layer that computes `avg_pool1d`.

    >>> tg.nn.AvgPool1d(2)(np.ones((5, 3, 8))).shape
    (5, 3, 4)
    """

    axes = 1


class AvgPool2d(_AvgPool):
    """A layer that computes `avg_pool2d`.

    >>> tg.nn.AvgPool2d(2)(np.ones((5, 3, 8, 8))).shape
    (5, 3, 4, 4)
    """

    axes = 2


class AvgPool3d(_AvgPool):
    """A layer that computes `avg_pool3d`.

    >>> tg.nn.AvgPool3d(2)(np.ones((5, 3, 8, 8, 8))).shape
    (5, 3, 4, 4, 4)
    """

    axes = 3


class _LPPool(_Pool):
    def __init__(
        self,
        norm_type: float,
        kernel_size: Size,
        stride: Size | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride)
        self.norm_type = norm_type
        self.ceil_mode = ceil_mode

    def _required(self) -> tuple[Any, ...]:
        return self.norm_type, self.kernel_size

    def __call__(self, x: Any) -> Tensor:
        """Return the root of the sum of powers in each window."""
        sizes = self.kernel_size, self.stride, self.ceil_mode
        return lp_pool(self, self.axes, x, self.norm_type, *sizes)


class LPPool1d(_LPPool):
    """A layer that computes `lp_pool1d`.

    >>> tg.nn.LPPool1d(2, 4)(np.ones((5, 3, 8))).shape
    (5, 3, 2)
    """

    axes = 1


class LPPool2d(_LPPool):
    """A layer that computes `lp_pool2d`.

    >>> tg.nn.LPPool2d(2, 4)(np.ones((5, 3, 8, 8))).shape
    (5, 3, 2, 2)
    """

    axes = 2


class LPPool3d(_LPPool):
    """A layer that computes `lp_pool3d`.

    >>> tg.nn.LPPool3d(2, 4)(np.ones((5, 3, 8, 8, 8))).shape
    (5, 3, 2, 2, 2)
    """

    axes = 3


class _MaxUnpool(_Pool):
    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__(kernel_size, stride, padding)

    def __call__(self, x: Any, indices: Any, output_size: Sequence[int] | None = None) -> Tensor:
        """Return an array with the elements at these places."""
        sizes = self.kernel_size, self.stride, self.padding, output_size
        return max_unpool(self, self.axes, x, indices, *sizes)


class MaxUnpool1d(_MaxUnpool):
    """A layer that computes `max_unpool1d`.

    >>> tg.nn.MaxUnpool1d(2)(np.ones((5, 3, 4)), np.zeros((5, 3, 4), int)).shape
    (5, 3, 8)
    """

    axes = 1


class MaxUnpool2d(_MaxUnpool):
    """A layer that computes `max_unpool2d`.

    >>> tg.nn.MaxUnpool2d(2)(np.ones((5, 3, 4, 4)), np.zeros((5, 3, 4, 4), int)).shape
    (5, 3, 8, 8)
    """

    axes = 2


class MaxUnpool3d(_MaxUnpool):
    """A layer that computes `max_unpool3d`.

    >>> tg.nn.MaxUnpool3d(2)(np.ones((5, 3, 4, 4, 4)), np.zeros((5, 3, 4, 4, 4), int)).shape
    (5, 3, 8, 8, 8)
    """

    axes = 3


class _AdaptivePool(Module):
    axes: ClassVar[int]

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        self.output_size = output_size

    def __repr__(self) -> str:
        return called(self, self.output_size)


class _AdaptiveAvgPool(_AdaptivePool):
    def __call__(self, x: Any) -> Tensor:
        """Return the means of the parts."""
        return adaptive_avg_pool(self, self.axes, x, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """A layer that computes `adaptive_avg_pool1d`.

    >>> tg.nn.AdaptiveAvgPool1d(3)(np.ones((5, 3, 8))).shape
    (5, 3, 3)
    """

    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """A layer that computes `adaptive_avg_pool2d`.

    >>> tg.nn.AdaptiveAvgPool2d(3)(np.ones((5, 3, 8, 8))).shape
    (5, 3, 3, 3)
    """

    axes = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """A layer that computes `adaptive_avg_pool3d`.

    >>> tg.nn.AdaptiveAvgPool3d(3)(np.ones((5, 3, 8, 8, 8))).shape
    (5, 3, 3, 3, 3)
    """

    axes = 3


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(
        self, output_size: int | Sequence[int | None] | None, return_indices: bool = False
    ) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def __call__(self, x: Any) -> Any:
        """Return the largest element of each part, and its index if asked for."""
        return adaptive_max_pool(self, self.axes, x, self.output_size, self.return_indices)

    def __repr__(self) -> str:
        return called(self, self.output_size, return_indices=self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """A layer that computes `adaptive_max_pool1d`.

    >>> tg.nn.AdaptiveMaxPool1d(3)(np.ones((5, 3, 8))).shape
    (5, 3, 3)
    """

    axes = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """A layer that computes `adaptive_max_pool2d`.

    >>> tg.nn.AdaptiveMaxPool2d(3)(np.ones((5, 3, 8, 8))).shape
    (5, 3, 3, 3)
    """

    axes = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """A layer that computes `adaptive_max_pool3d`.

    >>> tg.nn.AdaptiveMaxPool3d(3)(np.ones((5, 3, 8, 8, 8))).shape
    (5, 3, 3, 3, 3)
    """

    axes = 3
