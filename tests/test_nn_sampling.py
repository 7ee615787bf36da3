"""Pooling with indices, unpooling, interpolation and sampling compute what PyTorch's do."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn

from .oracles import leaf
from .sampling_references import CASES, cotangent, reference, stored

IMAGE = np.ones((1, 2, 5, 5))
STORED = stored()


@pytest.mark.parametrize("name", CASES)
def test_functions_compute_what_pytorchs_do(name: str) -> None:
    inputs = [leaf(x) for x in CASES[name].inputs()]
    y = CASES[name].call(nn, *inputs)
    y.backward(cotangent(y.shape))
    gradients = [np.zeros(x.shape) if x.grad is None else x.grad for x in inputs]
    results = {"output": y.data} | {f"gradient {i}": g for i, g in enumerate(gradients)}
    assert results.keys() == STORED[name].keys()
    for result, expected in STORED[name].items():
        assert_allclose(results[result], expected, 1e-10, 1e-10, err_msg=result)


@pytest.mark.parametrize("name", CASES)
def test_the_stored_results_are_pytorchs(name: str) -> None:
    pytest.importorskip("torch")
    for result, array in reference(CASES[name]).items():
        assert_allclose(STORED[name][result], array, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_dtype_is_that_of_the_input(mode: str) -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 3, 4)).astype(np.float32)
    assert nn.interpolate(x, 5, mode=mode).dtype == np.float32
    grid = nn.affine_grid(np.ones((1, 2, 3), np.float32), (1, 1, 2, 2))
    assert grid.dtype == nn.grid_sample(x, grid, mode).dtype == np.float32
    assert nn.interpolate(np.arange(3).reshape(1, 1, 3), 2).tolist() == [[[0, 1]]]


def test_infinities_stay_where_they_are() -> None:
    x = np.zeros((1, 1, 8))
    x[0, 0, 0] = np.inf
    for mode in "nearest", "linear", "area":
        assert_array_equal(nn.interpolate(x, 4, mode=mode)[0, 0, 1:], 0)


def test_maxima_are_found_where_they_are() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 6))
    for pooled, indices in (
        nn.max_pool2d(x, 3, 2, 1, 2, return_indices=True),
        nn.adaptive_max_pool2d(x, (3, 4), return_indices=True),
        nn.MaxPool2d(2, 1, return_indices=True, ceil_mode=True)(x),
    ):
        found = np.take_along_axis(x.reshape(2, 3, -1), indices.reshape(2, 3, -1), -1)
        assert_array_equal(found.reshape(pooled.shape), pooled)
    assert_array_equal(nn.max_pool2d(x, 3, 2, 1, 2), nn.max_pool2d(x, 3, 2, 1, 2, False, True)[0])


def test_indices_are_of_the_first_of_equal_elements_and_of_nans() -> None:
    x = leaf([[1.0, 1.0, np.nan, np.nan, 0.0, 0.0]])
    y, indices = nn.max_pool1d(x, 2, return_indices=True)
    assert_array_equal(indices, [[0, 2, 4]])
    assert not indices.requires_grad
    y.backward(np.ones((1, 3)))
    assert_array_equal(x.grad, [[1, 0, 1, 0, 1, 0]])


def test_power_means_of_zeros_have_a_gradient_of_zero() -> None:
    x = leaf([[0.0, 0.0, 3.0, 4.0]])
    y = nn.lp_pool1d(x, 2, 2)
    y.backward(np.ones((1, 2)))
    assert_allclose(y.data, [[0, 5]])
    assert_allclose(x.grad, [[0, 0, 0.6, 0.8]])


def test_sampling_by_the_identity_is_the_image() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    identity = np.tile(np.eye(2, 3), (2, 1, 1))
    for corners in False, True:
        grid = nn.affine_grid(identity, x.shape, corners)
        assert_allclose(nn.grid_sample(x, grid, align_corners=corners), x, rtol=1e-12, atol=1e-12)


def test_layers_of_pooling_and_sampling_are_compiled() -> None:
    pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    up = nn.Upsample(scale_factor=2, mode="bicubic")

    def f(x: Any) -> Any:
        y, indices = pool(x)
        return up(unpool(y, indices))

    x = np.random.default_rng(0).normal(size=(1, 2, 4, 4))
    assert_allclose(tg.compile(f)(x), f(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.interpolate(IMAGE, 3, 2), "size=3 and scale_factor=2 for an input of sizes"),
        (lambda: nn.interpolate(IMAGE, scale_factor=0.1), "that leave at least one element"),
        (lambda: nn.interpolate(IMAGE, (1, 2, 3)), "size=(1, 2, 3); pass an integer"),
        (lambda: nn.interpolate(IMAGE, 3, mode="linear"), "mode='linear'; it must have 3 axes"),
        (lambda: nn.interpolate(IMAGE, 3, mode="cubic"), "mode='cubic'; pass one of 'nearest'"),
        (lambda: nn.interpolate(IMAGE, 3, align_corners=True), "align_corners is for the modes"),
        (lambda: nn.interpolate(IMAGE, 3, mode="bilinear", antialias=True), "no antialias=True"),
        (lambda: nn.Upsample(4, mode="trilinear")(IMAGE), "Upsample(size=4, mode='trilinear'): an"),
        (lambda: nn.affine_grid(np.ones((1, 2, 2)), (1, 1, 2, 2)), "theta of shape (1, 2, 2)"),
        (lambda: nn.grid_sample(IMAGE, np.ones((2, 2, 2, 2))), "a grid of shape (2, 2, 2, 2)"),
        (lambda: nn.grid_sample(IMAGE, np.ones((1, 2, 2, 2)), "linear"), "mode='linear'; pass one"),
        (lambda: nn.grid_sample(np.ones((1, 1, 2, 2, 2)), np.ones((1, 2, 2, 2, 3)), "bicubic"),
         "mode='bicubic' is for images"),
        (lambda: nn.max_unpool2d(IMAGE, np.zeros(3, int), 2), "indices of shape (3,)"),
        (lambda: nn.interpolate(IMAGE, 2.5), "size=2.5; pass an integer of at least 1, or 2 of"),  # type: ignore[arg-type]
        (lambda: nn.MaxUnpool2d(2)(IMAGE, IMAGE.astype(int), (8, 10)), "differ from (10, 10) by"),
        (lambda: nn.max_pool1d(np.ones((1, 2)), 2, 1, 1, 3, False, True), "no element but padding"),
        (lambda: nn.lp_pool1d(np.ones((1, 3)), 0, 2), "norm_type=0; pass a positive number"),
        (lambda: nn.adaptive_max_pool2d(np.ones((2, 2)), 1), "shape (2, 2) needs 3 or 4 axes"),
    ],
)  # fmt: skip
def test_errors_name_the_operation_the_shapes_and_the_cure(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("wrong", [-1, 4])
def test_unpooling_refuses_indices_that_there_are_not(wrong: int) -> None:
    indices = np.array([[[[wrong]]]])
    with pytest.raises(
        IndexError, match=rf"max_unpool2d: indices .* {wrong} for sizes of \(2, 2\)"
    ):
        nn.max_unpool2d(np.ones((1, 1, 1, 1)), indices, 2)
    with pytest.raises(IndexError, match=f"MaxUnpool2d.*: indices .* to {wrong}"):
        tg.compile(nn.MaxUnpool2d(2))(np.ones((1, 1, 1, 1)), indices)
    with pytest.raises(TypeError, match="indices of dtype float64; they must be integers"):
        nn.max_unpool2d(np.ones((1, 1, 1, 1)), indices * 1.0, 2)


def test_integers_are_interpolated_in_float64() -> None:
    x = np.array([[[[0, 255, 3]]]], np.uint8)
    for mode in "bilinear", "bicubic":
        y = nn.interpolate(x, (1, 7), mode=mode)
        assert_allclose(y, nn.interpolate(x * 1.0, (1, 7), mode=mode), rtol=1e-12, strict=True)


@pytest.mark.parametrize(
    "call",
    [
        "MaxPool3d(2, stride=1, return_indices=True)",
        "LPPool2d(2, (2, 1), ceil_mode=True)",
        "MaxUnpool2d(3, stride=2, padding=1)",
        "AdaptiveMaxPool1d(3, return_indices=True)",
        "Upsample(scale_factor=2, mode='bilinear', align_corners=True)",
        "UpsamplingNearest2d(size=(3, 4))",
    ],
)
def test_a_repr_is_the_call_that_made_the_layer(call: str) -> None:
    assert repr(eval(call, vars(nn))) == call
