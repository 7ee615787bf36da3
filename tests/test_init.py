"""What tensors start with: distributions by their bounds and moments, PyTorch's gains, errors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.nn import init

from .oracles import leaf

SHAPE = (60, 40, 2)  # fan in 80, fan out 120
MANY = math.prod(SHAPE)


def drawn(f: Callable[..., Any], *args: Any, shape: Any = SHAPE, **options: Any) -> Any:
    return f(tg.zeros(shape), *args, **options, generator=0).data


@pytest.mark.parametrize(
    ("array", "low", "high"),
    [
        (drawn(init.uniform_), 0, 1),
        (drawn(init.uniform_, -3.0, 1.0), -3, 1),
        (drawn(init.xavier_uniform_, 2.0), -2 * (6 / 200) ** 0.5, 2 * (6 / 200) ** 0.5),
        (drawn(init.kaiming_uniform_), -((6 / 80) ** 0.5), (6 / 80) ** 0.5),
        (drawn(init.kaiming_uniform_, 2.0, "fan_out"), -((6 / 600) ** 0.5), (6 / 600) ** 0.5),
        (drawn(init.kaiming_uniform_, nonlinearity="linear"), -((3 / 80) ** 0.5), (3 / 80) ** 0.5),
    ],
)
def test_uniform_distributions_fill_their_interval(array: Any, low: float, high: float) -> None:
    assert low <= array.min() and array.max() <= high
    deviation = (high - low) / 12**0.5
    assert_allclose(array.mean(), (low + high) / 2, atol=5 * deviation / MANY**0.5)
    assert_allclose(array.std(), deviation, rtol=5 / MANY**0.5)


@pytest.mark.parametrize(
    ("array", "mean", "std"),
    [
        (drawn(init.normal_, 2.0, 0.5), 2, 0.5),
        (drawn(init.xavier_normal_, 3.0), 0, 3 * (2 / 200) ** 0.5),
        (drawn(init.kaiming_normal_, mode="fan_out"), 0, (2 / 120) ** 0.5),
        (drawn(init.kaiming_normal_, nonlinearity="tanh"), 0, 5 / 3 / 80**0.5),
        (drawn(init.trunc_normal_, 1.0, 0.1, -9.0, 9.0), 1, 0.1),
    ],
)
def test_normal_distributions_have_their_moments(array: Any, mean: float, std: float) -> None:
    assert_allclose(array.mean(), mean, atol=5 * std / MANY**0.5)
    assert_allclose(array.std(), std, rtol=5 / MANY**0.5)
    z = (array - mean) / std
    assert_allclose(np.mean(np.abs(z) < 1), 0.6827, atol=5 * 0.47 / MANY**0.5)


@pytest.mark.parametrize(
    ("low", "high"), [(-2.0, 2.0), (-0.5, 3.0), (1.0, 1.5), (6.0, 9.0), (-30.0, -20.0)]
)
def test_truncated_distributions_have_the_moments_of_their_density(low: float, high: float) -> None:
    x = np.linspace(low, high, 200_001)
    density = np.exp((min(abs(low), abs(high), 0 if low < 0 < high else np.inf) ** 2 - x * x) / 2)
    mean = np.sum(x * density) / np.sum(density)
    std = np.sqrt(np.sum((x - mean) ** 2 * density) / np.sum(density))
    array = drawn(init.trunc_normal_, 1.0, 2.0, 1 + 2 * low, 1 + 2 * high)
    assert low <= (array.min() - 1) / 2 and (array.max() - 1) / 2 <= high
    assert_allclose((array.mean() - 1) / 2, mean, atol=5 * std / MANY**0.5)
    assert_allclose(array.std() / 2, std, rtol=10 / MANY**0.5)


def test_constants_identities_and_what_passes_channels_on() -> None:
    assert_array_equal(init.constant_(tg.zeros((2, 2)), 3).data, 3)
    assert_array_equal(init.ones_(tg.zeros(3)).data, 1)
    assert_array_equal(init.zeros_(tg.ones(3)).data, 0)
    assert_array_equal(init.eye_(tg.ones((2, 3))).data, np.eye(2, 3))
    x = np.random.default_rng(0).normal(size=(1, 4, 5))
    weight = init.dirac_(tg.ones((6, 2, 3)), groups=2).data
    expected = np.concatenate([x[:, :2], 0 * x[:, :1], x[:, 2:], 0 * x[:, :1]], 1)
    assert_array_equal(tg.nn.conv1d(x, weight, padding=1, groups=2), expected)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (3, 2, 2), (1, 5), (5, 1)])
def test_orthogonal_rows_or_columns(shape: Any) -> None:
    w = drawn(init.orthogonal_, 3.0, shape=shape).reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    assert_allclose(product, 9 * np.eye(len(product)), atol=1e-12)
    assert init.orthogonal_(tg.zeros((0, 3))).shape == (0, 3)


def test_sparse_columns() -> None:
    w = drawn(init.sparse_, 0.25, 2.0, shape=(50, 300))
    assert_array_equal(np.count_nonzero(w, axis=0), 37)
    assert np.count_nonzero(w, axis=1).min() > 190  # zeros lie anywhere
    assert_allclose(w[w != 0].std(), 2, rtol=0.05)


def test_a_parameter_keeps_its_dtype_place_and_generator() -> None:
    w = leaf(np.zeros((3, 2)), np.float32)
    y = np.sum(w * w)
    rng = np.random.default_rng(1)
    assert init.normal_(w, generator=rng) is w and w.dtype == np.float32 and w.requires_grad
    first = w.data.copy()
    init.normal_(w, generator=rng)
    assert not np.array_equal(w.data, first)
    init.normal_(w, generator=1)
    assert_array_equal(w.data, first)
    with pytest.raises(tg.errors.GraphError, match="changed"):
        y.backward()
    with pytest.raises(tg.errors.GraphError, match="computed"):
        init.zeros_(w * 2)


def test_an_array_is_refused() -> None:
    for f in init.uniform_, init.zeros_, init.eye_, init.orthogonal_, init.kaiming_uniform_:
        with pytest.raises(TypeError, match="needs a tensor to write into, not a ndarray"):
            f(np.ones((2, 2)))  # type: ignore[operator]


def test_gains_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    for name in init.Nonlinearity.__args__:  # type: ignore[attr-defined]
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.5) == torch.nn.init.calculate_gain("leaky_relu", 0.5)
    w = torch.nn.init.dirac_(torch.empty(5, 2, 3, 4), 1).numpy()
    assert_array_equal(init.dirac_(tg.zeros(w.shape)).data, w)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.uniform_(tg.zeros(2), 1, 0), "uniform_: a=1 is greater than b=0"),
        (lambda: init.normal_(tg.zeros(2), 0, -1), "normal_: std=-1 is negative"),
        (lambda: init.trunc_normal_(tg.zeros(2), a=2), "a=2 is not below b=2.0"),
        (lambda: init.trunc_normal_(tg.zeros(2), std=0), "std=0 is not positive"),
        (lambda: init.eye_(tg.zeros(2)), r"eye_: a tensor of shape \(2,\)"),
        (lambda: init.dirac_(tg.zeros((2, 2))), r"dirac_: .*\(2, 2\); it must have 3 to 5 axes"),
        (lambda: init.dirac_(tg.zeros((3, 2, 2)), 2), "3 output channels .* groups=2"),
        (lambda: init.sparse_(tg.zeros((3, 2)), 1.5), "sparsity=1.5"),
        (lambda: init.sparse_(tg.zeros(3), 0.5), "must be a matrix"),
        (lambda: init.orthogonal_(tg.zeros(3)), "needs 2 axes"),
        (lambda: init.xavier_uniform_(tg.zeros(())), r"xavier_uniform_: .*\(\) has no fan in"),
        (lambda: init.kaiming_normal_(tg.zeros(3)), r"kaiming_normal_: .*\(3,\) has no fan in"),
        (lambda: init.kaiming_normal_(tg.zeros((3, 2)), mode="fan"), "mode must be .* not 'fan'"),  # type: ignore[arg-type]
        (lambda: init.calculate_gain("gelu"), "'gelu' is not one of 'linear'"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_errors_say_what_must_be(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
