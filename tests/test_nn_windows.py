"""Transposed convolution, padding, folding and shuffles: what the stored results do not show."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn

from .oracles import assert_same, leaf

IMAGE = np.ones((1, 2, 5, 5))
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("options", [(1, 0, 0, 1, 2), (2, 1, 1, 2, 1), (3, 0, 2, 1, 1), (1, 3)])
def test_a_transposed_convolution_is_the_transpose(options: tuple[int, ...]) -> None:
    """The inner products of outputs and of inputs are equal."""
    stride, padding, _, groups, dilation = *options, *(0, 1, 1)[len(options) - 2 :]
    x, w = RNG.normal(size=(2, 4, 6, 7)), RNG.normal(size=(4, 3, 3, 3))
    y = nn.conv_transpose2d(x, w, None, *options)
    other = RNG.normal(size=y.shape)
    pulled = nn.conv2d(other, w, None, stride, padding, dilation, groups)
    assert_allclose(np.sum(y * other), np.sum(x * pulled), rtol=1e-10)


def test_layers_of_transposed_convolution_choose_a_size_that_fits() -> None:
    layer = nn.ConvTranspose2d(2, 1, 3, stride=3, rng=0)
    x = RNG.normal(size=(1, 2, 2, 2))
    y = layer(x)
    assert y.shape == (1, 1, 6, 6)
    for size in (6, 7), (1, 1, 8, 6):
        out = layer(x, size)
        assert out.shape[2:] == size[-2:]
        assert_allclose(out.data[..., :6, :6], y.data, rtol=1e-12)
        assert_array_equal(out.data[..., 6:, :], layer.bias.data[0])
    with pytest.raises(ValueError, match=r"output_size=\(9, 6\).*sizes from \(6, 6\) to \(8, 8\)"):
        layer(x, (9, 6))


def test_float16_transposed_convolutions_add_up_in_float32() -> None:
    x = np.ones((1, 1, 4096), np.float16)
    for stride in 1, 2:
        y = nn.conv_transpose1d(x, np.ones((1, 1, 4096), np.float16), None, stride)
        assert y.dtype == np.float16
        assert_allclose(np.max(y), 4096 / stride, rtol=2e-3)


def test_negative_padding_removes_elements_after_the_padding() -> None:
    x = np.arange(5.0)
    assert_array_equal(nn.pad(x, (-2, 1)), [2, 3, 4, 0])
    assert_array_equal(nn.pad(x, (3, -4), "circular"), [2, 3, 4, 0])
    weight = leaf(x)
    np.sum(nn.pad(weight, (-1, -1)) ** 2).backward()
    assert_array_equal(weight.grad, [0, 2, 4, 6, 0])


def test_folding_counts_the_windows_that_an_element_is_in() -> None:
    x = RNG.normal(size=(2, 3, 5, 4))
    parameters = (3, 2), 1, (1, 0), (2, 1)
    counts = nn.fold(nn.unfold(np.ones_like(x), *parameters), (5, 4), *parameters)
    assert_allclose(nn.fold(nn.unfold(x, *parameters), (5, 4), *parameters), counts * x)


def test_shuffles_undo_each_other() -> None:
    x = RNG.normal(size=(2, 12, 3, 2))
    assert_same(nn.pixel_unshuffle(nn.pixel_shuffle(x, 2), 2), x)
    assert_same(nn.channel_shuffle(nn.channel_shuffle(x, 3), 4), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.ConvTranspose2d(2, 3, 2, output_padding=1), "output_padding=1 must be less"),
        (lambda: nn.ConvTranspose2d(2, 3, 2, 2, groups=2), "ConvTranspose2d(2, 3): channels must"),
        (lambda: nn.ConvTranspose1d(2, 3, 2)(IMAGE), "shape (n, 2, length), or one"),
        (lambda: nn.ConvTranspose1d(2, 3, 2, padding=4)(np.ones((2, 3))), "gives sizes of (-4,)"),
        (lambda: nn.conv_transpose1d(np.ones((1, 3)), np.ones((1, 1))), "it must have 3 axes"),
        (lambda: nn.conv_transpose2d(IMAGE, np.ones((2, 1, 1, 1)), groups=3), "2 input channels"),
        (lambda: nn.conv_transpose2d(IMAGE, np.ones((2, 1, 1, 1)), [1.0] * 2), "bias of shape (2"),
        (lambda: nn.Conv3d(2, 3, 2)(IMAGE), "(n, 2, depth, height, width)"),
        (lambda: nn.Conv2d(1, 1, 1, padding_mode="same"), "padding_mode='same'; pass one of"),
        (lambda: nn.pad(np.ones(3), (1, 1, 1, 1)), "pad: pad=(1, 1, 1, 1) for an input of shape"),
        (lambda: nn.pad(np.ones(3), (1, 1), "edge"), "mode='edge'; pass one of 'constant', 'ref"),
        (lambda: nn.ZeroPad2d((1, 2, 3)), "ZeroPad2d: padding=(1, 2, 3); pass an integer, or 4"),
        (lambda: nn.ZeroPad1d(1)(IMAGE), "ZeroPad1d((1, 1)): an input of shape (1, 2, 5, 5)"),
        (lambda: nn.pad(IMAGE, 1), "pad: pad=1 for an input of shape (1, 2, 5, 5); pass two"),  # type: ignore[arg-type]
        (lambda: nn.pad(IMAGE, (0.5, 1)), "pad: pad=(0.5, 1) for an input"),  # type: ignore[arg-type]
        (lambda: nn.pad(IMAGE, (0, 0, -8, 2)), "pad=(0, 0, -8, 2) removes more than an input of"),
        (lambda: nn.Conv2d(2, 1, 2.5), "Conv2d(2, 1): kernel_size=2.5; pass an integer of at"),  # type: ignore[arg-type]
        (lambda: nn.ConvTranspose1d(2, 1, 3, padding="same"), "padding='same'; pass integers"),
        (lambda: nn.unfold(np.ones(3), 2), "unfold: an input of shape (3,)"),
        (lambda: nn.Unfold(6)(IMAGE), "smaller than one window of (6, 6)"),
        (lambda: nn.fold(np.ones((3, 4)), 3, 2), "(n, a multiple of 4, 4)"),
        (lambda: nn.fold(np.ones((4, 4)), 1, 2), "smaller than one window"),
        (lambda: nn.PixelShuffle(2)(IMAGE), "PixelShuffle(2): an input of shape (1, 2, 5, 5)"),
        (lambda: nn.PixelUnshuffle(2)(IMAGE), "with multiples of 2 as height and width"),
        (lambda: nn.channel_shuffle(IMAGE, 3), "groups=3; pass one of shape (n, a multiple of 3"),
    ],
)  # fmt: skip
def test_errors_name_the_operation_the_shapes_and_the_cure(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    "call",
    [
        "Conv2d(2, 4, kernel_size=(3, 3), padding=1, padding_mode='reflect')",
        "ConvTranspose2d(4, 2, kernel_size=(3, 3), stride=2, output_padding=1, bias=False)",
        "ConvTranspose1d(4, 2, kernel_size=(3,), groups=2, dilation=2)",
        "ConstantPad1d((2, 1), 0.5)",
        "Fold(4, 2, stride=2)",
        "Unfold((2, 3), padding=1)",
    ],
)
def test_a_repr_is_the_call_that_made_the_layer(call: str) -> None:
    assert repr(eval(call, vars(nn))) == call


def test_layers_of_padding_are_compiled() -> None:
    net = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(1, 2, 3, rng=0), nn.PixelUnshuffle(2))
    x = RNG.normal(size=(1, 1, 4, 4))
    assert_allclose(tg.compile(net)(x), net(x).data, rtol=1e-12)
