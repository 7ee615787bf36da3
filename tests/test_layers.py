"""Layers compute what PyTorch's of the same name do, and say clearly what they cannot."""

import copy
import pickle
import re
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.nn import convolution

from .layer_references import CASES, Case, cotangent, reference, stored
from .oracles import assert_same, leaf

# -- PyTorch's results

each_case = pytest.mark.parametrize("name", CASES)
STORED = stored()


def assert_reproduced(
    name: str, case: Case, expected: dict[str, Any], dtype: Any = np.float64
) -> None:
    """Our results for the state before are those expected."""
    tolerance = 1e-10 if dtype == np.float64 else 2e-5
    wanted = dict(expected)

    def check(result: str, actual: Any) -> None:
        message = f"{name}: {result}"
        assert_allclose(actual, wanted.pop(result), tolerance, tolerance, err_msg=message)

    network = in_dtype(case.build(nn), dtype)
    names = [key for key in expected if key.startswith("before ")]
    network.load_state_dict({key.removeprefix("before "): wanted.pop(key) for key in names})
    x = tg.Tensor(case.input().astype(dtype) if case.below is None else case.input())
    x.requires_grad = case.below is None
    y = network(x)
    assert y.dtype == dtype
    y.backward(cotangent(y.shape).astype(dtype))
    check("output", y.data)
    if case.below is None:
        check("gradient", x.grad)
    for path, p in network.named_parameters():
        assert p.grad.dtype == dtype
        check(f"gradient {path}", p.grad)
    for path, array in network.state_dict().items():
        if f"after {path}" in wanted:
            check(f"after {path}", array)
    other = case.input(1)
    out = network.eval()(other.astype(dtype) if case.below is None else other)
    check("output in use", out.data if isinstance(out, tg.Tensor) else out)
    assert wanted == {}


def in_dtype(network: nn.Module, dtype: Any) -> nn.Module:
    for module in network.modules():
        for name, value in vars(module).items():
            if isinstance(value, tg.Tensor) and value.dtype.kind == "f":
                setattr(module, name, tg.Tensor(value.data, dtype, value.requires_grad))
    return network


@each_case
def test_results_are_those_stored_of_pytorch(name: str) -> None:
    assert_reproduced(name, CASES[name], STORED[name])
    assert_reproduced(name, CASES[name], STORED[name], np.float32)


@each_case
def test_results_are_pytorchs(name: str) -> None:
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch: padding="same" may copy
        expected = reference(CASES[name])
    assert_reproduced(name, CASES[name], expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CELU", (0.5,)), ("ELU", (0.5,)), ("GELU", ()), ("Hardsigmoid", ()), ("Hardswish", ()),
        ("Hardtanh", (-0.5, 0.7)), ("Identity", ()), ("LeakyReLU", (0.1,)), ("LogSigmoid", ()),
        ("LogSoftmax", (1,)), ("Mish", ()), ("ReLU", ()), ("ReLU6", ()), ("SELU", ()),
        ("SiLU", ()), ("Sigmoid", ()), ("Softmax", (0,)), ("Softplus", (2.0,)), ("Softsign", ()),
        ("Tanh", ()), ("Tanhshrink", ()),
    ],
)  # fmt: skip
def test_activations_are_pytorchs(name: str, arguments: Any) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(4, 5)) * 3
    theirs = getattr(torch.nn, name)(*arguments)(torch.tensor(x)).numpy()
    ours = getattr(nn, name)(*arguments)
    assert_allclose(ours(x), theirs, 1e-7 if "Hard" in name else 1e-12, 1e-14)
    assert repr(pickle.loads(pickle.dumps(ours))) == repr(ours)


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (nn.CELU(), {"alpha": 0.5}),
        (nn.ELU(2.0), {"alpha": 0.5}),
        (nn.GELU(), {"approximate": "tanh"}),
        (nn.Hardtanh(), {"min_val": -0.5, "max_val": 0.25}),
        (nn.LeakyReLU(), {"negative_slope": 0.5}),
        (nn.LogSoftmax(), {"dim": 0}),
        (nn.Softmax(1), {"dim": 0}),
        (nn.Softplus(), {"beta": 2.0}),
    ],
)
def test_options_of_activations_are_attributes_that_can_be_changed(
    layer: Any, options: dict[str, Any]
) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    compiled = tg.compile(lambda x: layer(x))
    before, _ = layer(x), compiled(x)
    for name, value in options.items():
        assert getattr(layer, name) != value
        setattr(layer, name, value)
    twin = type(layer)(**options)
    assert repr(layer) == repr(twin)
    assert not np.allclose(before, layer(x))
    assert_array_equal(layer(x), twin(x))
    assert_array_equal(copy.deepcopy(layer)(x), twin(x))
    assert_allclose(compiled(x), twin(x), rtol=1e-12)


def test_hardtanh_has_no_derivative_at_its_bounds_and_beyond() -> None:
    for f, low, high in (nn.hardtanh, -1, 1), (nn.relu6, 0, 6):
        x = leaf([low - 1.0, low, low + 0.5, high - 0.5, high, high + 1.0])
        f(x).backward(np.ones(6))
        assert_array_equal(x.grad, [0, 0, 1, 1, 0, 0])


def test_gelu_by_tanh_is_its_formula_far_out() -> None:
    x = np.linspace(-40, 40, 161)
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    exact = x / (1 + np.exp(-2 * np.clip(inner, -300, 300)))  # x * (1 + tanh(inner)) / 2
    assert_allclose(nn.gelu(x, "tanh"), exact, rtol=1e-12, atol=1e-100)


def test_activations_take_the_parameters_of_their_functions() -> None:
    x = np.array([-2.0, 3.0])
    assert_array_equal(nn.LeakyReLU(0.5)(x), nn.leaky_relu(x, 0.5))
    assert_array_equal(nn.LeakyReLU(negative_slope=0.5)(x), nn.leaky_relu(x, 0.5))
    assert_array_equal(nn.Softmax(dim=0)(x), nn.softmax(x))
    assert repr(nn.LeakyReLU(0.5)) == "LeakyReLU(negative_slope=0.5)"
    assert nn.ReLU()([leaf(1.0), leaf(-1.0)]).requires_grad
    with pytest.raises(TypeError, match="inplace"):
        nn.ReLU(inplace=True)


# -- initial values

STARTS = [
    (lambda rng: nn.Linear(100, 50, rng=rng), 0.1),
    (lambda rng: nn.Conv1d(8, 50, 10, groups=2, rng=rng), 40**-0.5),
    (lambda rng: nn.Conv2d(4, 50, 5, rng=rng), 0.1),
]


@pytest.mark.parametrize(("build", "bound"), STARTS)
def test_initial_weights_are_uniform_as_pytorchs(build: Any, bound: float) -> None:
    layer = build(0)
    for array, count in (layer.weight.data, 2000), (layer.bias.data, 50):
        assert array.size >= count
        assert np.abs(array).max() <= bound
        assert_allclose(np.abs(array).max(), bound, rtol=0.1)
        assert_allclose(array.std(), bound / 3**0.5, rtol=4 / count**0.5)


def test_embeddings_start_normal_and_padding_zero() -> None:
    weight = nn.Embedding(100, 50, padding_idx=-2, rng=0).weight.data
    assert_array_equal(weight[98], 0)
    assert_allclose([weight.mean(), weight.std()], [0, 1], atol=0.03)


@pytest.mark.parametrize(
    "build",
    [
        *[build for build, _ in STARTS],
        lambda rng: nn.Embedding(5, 3, rng=rng),
        lambda rng: nn.MLP(3, [4, 1], rng=rng),
    ],
)
def test_a_seed_gives_the_same_bits_and_dtype_is_kept(build: Any) -> None:
    def numbers(rng: Any) -> Any:
        return [p.data.tobytes() for p in build(rng).parameters()]

    assert numbers(3) == numbers(3) == numbers(np.random.default_rng(3))
    assert numbers(3) != numbers(4)
    assert numbers(None) != numbers(None)


def test_the_same_seed_trains_to_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(40, 1, 6, 6)), rng.normal(size=(40, 2))

    def trained() -> Any:
        rng = np.random.default_rng(1)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, rng=rng),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2, rng=rng),
            nn.Linear(16, 2, rng=rng),
        )
        losses = []
        for _ in range(30):
            net.zero_grad()
            loss = nn.mse_loss(net(x), t)
            loss.backward()
            for p in net.parameters():
                p.data -= 0.1 * p.grad
            losses.append(loss.item())
        return losses, [a.tobytes() for a in net.state_dict().values()]

    losses, state = trained()
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    assert trained() == (losses, state)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_dtypes(dtype: Any) -> None:
    d: Any = {"dtype": dtype}
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, **d),
        nn.BatchNorm2d(2, **d),
        nn.MaxPool2d(2),
        nn.Dropout(0.5, rng=0),
        nn.AvgPool2d(2, 1, 1),
        nn.Conv2d(2, 2, 1, groups=2, **d),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(8, **d),
        nn.Linear(8, 3, **d),
    )
    x = np.random.default_rng(0).normal(size=(4, 1, 4, 6))
    for given in (x.astype(dtype), x.tolist()):
        y = net(given)
        assert y.dtype == dtype
        y.backward(np.ones(y.shape))
    assert {p.dtype for p in net.parameters()} == {p.grad.dtype for p in net.parameters()}
    assert net[1].running_mean.dtype == dtype
    assert nn.Embedding(3, 2, **d)([1]).dtype == dtype


def test_an_axis_is_divided_as_pytorch_does() -> None:
    x = np.arange(24.0).reshape(2, 6, 2)
    assert_array_equal(nn.Unflatten(1, (2, -1))(x), x.reshape(2, 2, 3, 2))
    assert_array_equal(nn.Unflatten(-2, [3, 2])(x), x.reshape(2, 3, 2, 2))
    assert_array_equal(nn.Flatten(1, 2)(nn.Unflatten(1, (6, 1))(x)), x)


# -- convolution and pooling


def naive_convolution(x: Any, w: Any, stride: int, padding: int, dilation: int) -> Any:
    """The definition, one output at a time."""
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    n, (nout, _, rows, columns) = len(x), w.shape
    sizes = [
        (size - dilation * (k - 1) - 1) // stride + 1
        for size, k in zip(x.shape[2:], (rows, columns), strict=True)
    ]
    y = np.zeros((n, nout, *sizes))
    for s, o, i, j in np.ndindex(*y.shape):
        top, left = i * stride, j * stride
        seen = x[
            s,
            :,
            top : top + dilation * rows : dilation,
            left : left + dilation * columns : dilation,
        ]
        y[s, o, i, j] = np.sum(seen * w[o])
    return y


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 0, 2)]
)
def test_convolution_is_its_definition(stride: int, padding: int, dilation: int) -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4, 3, 2, 3))
    for shape in (2, 3, 7, 9), (1, 3, 5, 30), (0, 3, 6, 6):
        x = rng.normal(size=shape)
        expected = naive_convolution(x, w, stride, padding, dilation)
        for layout in "C", "F":
            y = nn.conv2d(np.asarray(x, order=layout), w, None, stride, padding, dilation)
            assert_allclose(y, expected, atol=1e-12)
        last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        assert_allclose(nn.conv2d(last, w, None, stride, padding, dilation), expected, atol=1e-12)


def test_a_large_batch_goes_through_in_blocks_of_samples() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(70, 8, 12, 12)), rng.normal(size=(2, 8, 3, 3))
    together, weight = leaf(x), leaf(w)
    y = nn.conv2d(together, weight)
    y.backward(np.ones(y.shape))
    gradient = np.zeros_like(w)
    for i in range(len(x)):
        one, own = leaf(x[i]), leaf(w)
        y_i = nn.conv2d(one, own)
        y_i.backward(np.ones(y_i.shape))
        assert_allclose(y.data[i], y_i.data, rtol=1e-10, atol=1e-10)
        assert_allclose(together.grad[i], one.grad, rtol=1e-10, atol=1e-10)
        gradient += own.grad
    assert_allclose(weight.grad, gradient, rtol=1e-9, atol=1e-9)


def test_one_sample_may_be_larger_than_a_block() -> None:
    x = np.arange(300_000.0)
    assert_array_equal(nn.conv1d(x[None], np.ones((1, 1, 2))), [x[1:] + x[:-1]])


@pytest.mark.parametrize(
    ("layer", "most"),
    [
        (lambda x: nn.conv1d(x, np.ones((1, 1, 2500), np.float16)), 2500),
        (lambda x: nn.avg_pool1d(x, 2500, 1) * 2500, 2500),
        (lambda x: nn.max_pool1d(x, 2500, 1), 2500),
    ],
)
def test_float16_gradients_of_windows_add_up(layer: Any, most: int) -> None:
    x = leaf(np.zeros((1, 4999)), np.float16)
    x.data[0, 2499] = 1
    y = layer(x)
    y.backward(np.ones(y.shape, np.float16))
    assert x.grad.dtype == np.float16
    assert_allclose(x.grad.max(), most, rtol=2e-3)


def test_a_window_of_ceil_mode_starts_inside_the_input() -> None:
    assert_array_equal(nn.max_pool1d(np.array([[1.0, 2.0, 3.0]]), 2, 3, ceil_mode=True), [[2]])


def test_max_pooling_gives_ties_and_nans_to_the_first() -> None:
    x = leaf([[[1.0, 1.0, 0.0], [1.0, np.nan, np.nan]]])
    y = nn.max_pool2d(x, 2, 1)
    assert np.isnan(y.data).all()
    y.backward(np.ones(y.shape))
    assert_array_equal(x.grad, [[[0, 0, 0], [0, 2, 0]]])
    x = leaf([[2.0, 2.0, 2.0, -np.inf, -np.inf]])
    nn.max_pool1d(x, 2, padding=1).backward(np.ones((1, 3)))
    assert_array_equal(x.grad, [[1, 1, 0, 1, 0]])


def test_max_pooling_of_windows_of_more_than_255_elements() -> None:
    x = leaf(np.arange(16.0 * 17).reshape(1, 16, 17))
    nn.max_pool2d(x, (16, 17)).backward(np.ones((1, 1, 1)))
    assert_array_equal(np.argwhere(x.grad), [[0, 15, 16]])


def test_average_pooling_counts_padding_but_not_what_lies_beyond_it() -> None:
    y = nn.avg_pool1d(np.ones((1, 5)), 4, 2, 2, ceil_mode=True)
    assert_allclose(y, [[2 / 4, 4 / 4, 3 / 4, 1 / 3]])


def test_sums_of_windows_are_divided_by_another_number() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    for options in {"padding": 1}, {"ceil_mode": True, "count_include_pad": False}:
        sums = nn.AvgPool2d(3, **options, divisor_override=1)(x)
        assert_allclose(nn.avg_pool2d(x, 3, **options, divisor_override=-2), sums / -2, rtol=1e-12)
    assert_allclose(nn.avg_pool2d(x, 2, divisor_override=4), nn.avg_pool2d(x, 2), rtol=1e-12)
    with pytest.raises(ValueError, match=r"AvgPool3d\(2, .*\): divisor_override=0; pass another"):
        nn.AvgPool3d(2, divisor_override=0)(np.ones((1, 2, 2, 2)))


def test_float16_gradients_of_a_convolution_add_up_in_float32(monkeypatch: Any) -> None:
    monkeypatch.setattr(convolution, "_BLOCK", 1)
    weight = leaf([[[1.0]]], np.float16)
    y = nn.conv1d(np.ones((4096, 1, 1), np.float16), weight)
    y.backward(np.ones(y.shape, np.float16))
    assert weight.grad is not None and weight.grad.item() == 4096


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: nn.layer_norm(x, 4),
        lambda x: nn.batch_norm(x, training=True),
        lambda x: nn.dropout(x, 0.25, rng=0),
        lambda x: nn.avg_pool2d(x, 2, padding=1, count_include_pad=False),
        lambda x: nn.adaptive_avg_pool2d(x, 3),
        lambda x: nn.max_pool2d(x, 2, padding=1),
    ],
)
def test_integers_are_as_floating_numbers(layer: Any) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (2, 3, 4, 4))
    assert_allclose(layer(x), layer(x.astype(float)), rtol=1e-12, atol=1e-12)


def test_adaptive_pooling_takes_little_memory_and_keeps_infinity_in_its_part() -> None:
    x = np.zeros((1, 150, 150))
    x[0, 0, 0] = np.inf
    tracemalloc.start()
    y = nn.adaptive_avg_pool2d(x, 70)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * x.nbytes
    assert y[0, 0, 0] == np.inf
    assert not y.ravel()[1:].any()


# -- normalization and dropout


def test_weights_of_norms_may_be_lists_and_sizes_numpys() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    weight, bias = [0.5, 1.0, 2.0, -1.0], [1.0, 0.0, 0.25, 0.0]
    for norm in (
        (lambda *p: nn.layer_norm(x, np.int64(4), *p)),
        (lambda *p: nn.batch_norm(x, None, None, *p)),
    ):
        y = norm(weight, bias)
        assert y.dtype == np.float32
        assert_same(y, norm() * np.float32(weight) + np.float32(bias), roundings=8)
    assert repr(nn.LayerNorm(np.int64(4))) == "LayerNorm(4)"
    assert_allclose(nn.layer_norm([[0, 2]], 2, [0.5, 0.5], eps=0), [[-0.5, 0.5]])


def test_the_padding_of_max_pooling_is_never_the_maximum_of_whole_numbers() -> None:
    for dtype, least in (np.int8, -128), (np.uint8, 0), (np.bool_, False):
        x = np.full((1, 1, 3), least, dtype)
        assert_same(nn.max_pool1d(x, 3, 1, 1), x)


def test_log_softmax_is_a_layer() -> None:
    x = np.array([[1.0, 2.0], [3.0, 3.0]])
    for dim in 0, 1:
        assert_same(nn.LogSoftmax(dim)(x), nn.log_softmax(x, dim))
        assert_allclose(np.exp(nn.LogSoftmax(dim)(x)).sum(axis=dim), 1)


def test_batch_norm_trains_and_is_used() -> None:
    layer = nn.BatchNorm1d(2)
    x = np.random.default_rng(0).normal(3, 2, (50, 2))
    statistics = layer.running_mean.data, layer.running_var.data
    y = layer(x)
    assert_allclose(y.data.mean(0), 0, atol=1e-12)
    assert_allclose(y.data.var(0), 1, rtol=1e-4)
    assert layer.running_mean.data is statistics[0] and layer.running_var.data is statistics[1]
    assert_allclose(statistics[0], 0.1 * x.mean(0))
    assert_allclose(statistics[1], 0.9 + 0.1 * x.var(0, ddof=1))
    assert layer.num_batches_tracked.item() == 1
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    before = layer.state_dict()
    alone = layer.eval()(x[:1])
    assert_allclose(alone.data, (x[:1] - statistics[0]) / np.sqrt(statistics[1] + 1e-5))
    assert all(np.array_equal(before[name], a) for name, a in layer.state_dict().items())


def test_training_after_use_does_not_change_the_gradient_of_use() -> None:
    layer = nn.BatchNorm1d(2)
    x = leaf(np.random.default_rng(0).normal(size=(5, 2)))
    loss = np.sum(layer.eval()(x) ** 2)
    layer.train()(x.data * 7 + 5)
    loss.backward()
    used = copy.deepcopy(x)
    expected = nn.BatchNorm1d(2).eval()
    np.sum(expected(used) ** 2).backward()
    assert_allclose(x.grad, used.grad)


def test_normalization_of_large_numbers_is_exact() -> None:
    x = np.array([[1e8 + 1, 1e8 + 3], [1e8 - 1, 1e8 + 1]])
    assert_allclose(nn.layer_norm(x, 2, eps=0), [[-1, 1], [-1, 1]])
    assert_allclose(nn.batch_norm(x, training=True, eps=0), [[1, 1], [-1, -1]])


def test_dropout() -> None:
    x = np.ones((200, 100))
    layer = nn.Dropout(0.2, rng=0)
    y = layer(x)
    assert set(np.unique(y)) == {0.0, 1 / (1 - 0.2)}
    assert_allclose(np.mean(y == 0), 0.2, atol=0.01)
    assert not np.array_equal(layer(x), y)
    assert_array_equal(nn.Dropout(0.2, rng=0)(x.astype(np.float32)) > 0, y > 0)
    assert nn.Dropout(0.2, rng=0)(x.astype(np.float32)).dtype == np.float32
    assert layer.eval()(x) is x
    assert_array_equal(nn.dropout(x, 1.0), 0)
    assert nn.dropout(x, 0.0) is x
    t = leaf(np.ones(1000))
    out = nn.dropout(t, 0.5, rng=1)
    out.backward(np.ones(1000))
    assert_array_equal(t.grad, out.data)


def test_layers_that_share_a_generator_list_it_once() -> None:
    rng = np.random.default_rng(0)
    network = nn.Sequential(nn.Dropout(0.5, rng=rng), nn.Dropout(0.5, rng=rng))
    assert network.named_generators() == [("0.rng", rng)]


def test_dropout_leaves_the_global_generator_alone() -> None:
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    nn.Dropout()(np.ones(10))
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_embedding_adds_up_repeated_rows_and_never_trains_padding() -> None:
    table = nn.Embedding(4, 2, padding_idx=1, rng=0)
    index = np.array([[0, 1, 3], [3, 1, 3]])
    y = table(index)
    assert_array_equal(y.data, table.weight.data[index])
    y.backward(np.ones(y.shape))
    assert_array_equal(table.weight.grad, [[1, 1], [0, 0], [0, 0], [3, 3]])
    assert table(tg.Tensor(index)).shape == (2, 3, 2)
    assert table(np.zeros((0, 3), int)).shape == (0, 3, 2)
    weight = leaf(np.ones((4, 2)))
    nn.embedding(index, weight, padding_idx=-1).backward(np.ones(y.shape))
    assert_array_equal(weight.grad, [[1, 1], [2, 2], [0, 0], [0, 0]])


# -- errors

IMAGE = np.ones((1, 2, 5, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 8, 3)(IMAGE), ValueError, r"Conv2d\(3, 8, kernel_size=\(3, 3\)\): "
         r"an input of shape \(1, 2, 5, 5\); pass one of shape \(n, 3, height, width\)"),
        (lambda: nn.Conv1d(2, 8, 3)(np.ones(4)), ValueError, r"shape \(4,\).*\(n, 2, length\)"),
        (lambda: nn.Conv2d(2, 8, 6)(IMAGE), ValueError, r"smaller than one window of \(6, 6\)"),
        (lambda: nn.Conv2d(2, 8, 3, 2, "same"), ValueError, "padding='same' needs stride 1"),
        (lambda: nn.Conv2d(2, 8, 3, padding="full"), ValueError, "padding='full'; pass 'same'"),
        (lambda: nn.Conv2d(2, 8, (3, 3, 3)), ValueError, "kernel_size=.*at least 1, or 2 of them"),
        (lambda: nn.Conv2d(2, 8, 3, stride=0), ValueError, "stride=0"),
        (lambda: nn.Conv2d(2, 3, 3, groups=2), ValueError, r"Conv2d\(2, 3\): .*groups=2"),
        (lambda: nn.conv2d(IMAGE, np.ones((2, 2, 3))), ValueError, "conv2d: a weight of shape"),
        (lambda: nn.conv2d(IMAGE, np.ones((3, 1, 3, 3)), groups=2), ValueError, "3 output chan"),
        (lambda: nn.conv2d(IMAGE, np.ones((3, 2, 3, 3)), groups=0), ValueError, "for 0 groups"),
        (lambda: nn.conv2d(IMAGE, np.ones((3, 2, 3, 3)), np.ones(1)), ValueError,
         r"bias of shape \(1,\), not \(3,\)"),
        (lambda: nn.MaxPool2d(2)(np.ones((5, 5))), ValueError, r"MaxPool2d\(2\): .*\(5, 5\)"),
        (lambda: nn.MaxPool2d(2, padding=2)(IMAGE), ValueError, "more than half"),
        (lambda: nn.AvgPool1d(7)(np.ones((1, 5))), ValueError, "smaller than one window"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3))(IMAGE), ValueError, "output_size"),
        (lambda: nn.BatchNorm2d(3)(IMAGE), ValueError, r"BatchNorm2d\(3\): .*\(n, 3, height, wid"),
        (lambda: nn.BatchNorm1d(3)(np.ones((1, 3))), ValueError, r"1 values per.*call eval\(\)"),
        (lambda: nn.LayerNorm(3)(IMAGE), ValueError, r"LayerNorm\(3\): .*\(1, 2, 5, 5\)"),
        (lambda: nn.LayerNorm(4.5), ValueError, "every size must be"),
        (lambda: nn.layer_norm(IMAGE, 5, 2.0), ValueError, r"shape \(\); it must be \(5,"),
        (lambda: nn.layer_norm(IMAGE, 5, None, np.ones((5, 5))), ValueError, "a bias of shape"),
        (lambda: nn.layer_norm(IMAGE, (5, 5), np.ones(25)), ValueError, r"\(25,\); it must"),
        (lambda: nn.batch_norm(IMAGE, weight=np.ones(1)), ValueError, r"it must be \(2,\)"),
        (lambda: nn.batch_norm(np.ones(3)), ValueError, r"batch_norm: .*\(3,\); it must be"),
        (lambda: nn.dropout(np.ones(3), 1.5), ValueError, "dropout: p=1.5 is not a probability"),
        (lambda: nn.GELU("foo"), ValueError, "approximate must be .* not 'foo'"),
        (lambda: nn.Linear(3, 4)(IMAGE), ValueError, r"Linear\(3, 4\): .*\(3,\)"),
        (lambda: nn.Dropout(1.5), ValueError, "Dropout: p=1.5 is not a probability"),
        (lambda: nn.Unflatten(1, (2, 2))(np.ones((2, 6))), ValueError,
         r"Unflatten\(1, \(2, 2\)\): an input of shape \(2, 6\)"),
        (lambda: nn.Unflatten(1, (-1, 4))(np.ones((2, 6))), ValueError, r"axis 1 cannot be"),
        (lambda: nn.Unflatten(2, (2, 3))(np.ones((2, 6))), IndexError, r"Unflatten.*axis 2 is out"),
        (lambda: nn.Flatten(2)(np.ones((2, 3))), ValueError, r"Flatten.*shape \(2, 3\)"),
        (lambda: nn.Embedding(3, 2)([0.5]), TypeError, "float64"),
        (lambda: nn.Embedding(3, 2)([True]), TypeError, "bool; it must be of integers"),
        (lambda: nn.MLP(3, 4), TypeError, r"sizes of the layers as a list: \[4\], not 4"),
        (lambda: nn.Embedding(3, 2)([0, 3]), IndexError, "from 0 to 3 into 3 rows"),
        (lambda: nn.Embedding(3, 2)(-1), IndexError, "from -1 to -1 into 3 rows"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), IndexError, "Embedding: padding_idx=3 is not"),
    ],
)  # fmt: skip
def test_errors_name_the_layer_the_shapes_and_the_cure(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        "BatchNorm1d(3, eps=0.1, momentum=None, affine=False, track_running_stats=False)",
        "LayerNorm((2, 3), eps=0.1, elementwise_affine=False)",
        "LayerNorm(3, bias=False)",
        "Conv1d(2, 4, kernel_size=(3,), stride=2, padding='valid', dilation=2, groups=2, "
        "bias=False)",
        "MaxPool2d(3, stride=(2, 1), padding=1, dilation=2, ceil_mode=True)",
        "AvgPool1d(3, count_include_pad=False)",
        "AvgPool2d(3, divisor_override=2)",
        "AdaptiveAvgPool2d((1, None))",
        "Flatten()",
        "Unflatten(1, (2, 3))",
        "RReLU(upper=0.5)",
        "Flatten(end_dim=2)",
        "Embedding(5, 2, padding_idx=4)",
        "GELU(approximate='tanh')",
        "GELU()",
        "Linear(2, 3, bias=False)",
    ],
)
def test_a_repr_is_the_call_that_made_the_layer(call: str) -> None:
    assert repr(eval(call, vars(nn))) == call


def test_a_repr_of_a_class_with_its_own_call() -> None:
    class Down(nn.Conv2d):
        def __init__(self, channels: int, stride: int = 2) -> None:
            super().__init__(channels, channels, 3, stride)

    assert repr(Down(4)) == "Down(4, 4, kernel_size=(3, 3))"


@pytest.mark.parametrize("name", CASES)
def test_layers_show_how_they_were_made_and_copy(name: str) -> None:
    layer = CASES[name].build(nn)
    if "\n" not in repr(layer):
        assert repr(eval(repr(layer), vars(nn))) == repr(layer)
    for twin in pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer):
        assert repr(twin) == repr(layer)
        x = CASES[name].input()
        assert_array_equal(tg.asarray(twin(x)).data, tg.asarray(layer(x)).data)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.adaptive_avg_pool2d(np.ones((2, 2)), 1), "shape (2, 2) needs 3 or 4 axes"),
        (lambda: nn.adaptive_avg_pool1d(np.ones(3), 1), "shape (3,) needs 2 or 3 axes"),
        (lambda: nn.hardtanh(np.ones(2), 0.5, -0.5), "min_val=0.5 is greater than max_val=-0.5"),
        (lambda: nn.embedding([1], np.array(1.0)), "a weight of shape ()"),
    ],
)
def test_wrong_shapes_and_bounds_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


# -- sizes and counts


@pytest.mark.parametrize("wrong", [2.0, 0, "2"])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: nn.Linear(n, 3), lambda n: nn.Bilinear(3, n, 2), lambda n: tg.MLP(2, [n]),
        lambda n: nn.Embedding(n, 3), lambda n: nn.LSTM(2, n), lambda n: nn.GRU(2, 2, num_layers=n),
        lambda n: nn.LayerNorm((3, n)), lambda n: nn.RMSNorm(n), lambda n: nn.BatchNorm1d(n),
        lambda n: nn.GroupNorm(n, 4), lambda n: nn.InstanceNorm1d(n, affine=True),
        lambda n: nn.LocalResponseNorm(n),
        lambda n: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2), n),
        lambda n: nn.Conv2d(n, 1, 3), lambda n: nn.ConvTranspose1d(1, n, 3),
        lambda n: nn.pixel_shuffle(np.ones((4, 2, 2)), n),
        lambda n: nn.pixel_unshuffle(np.ones((1, 2, 2)), n),
        lambda n: nn.channel_shuffle(np.ones((1, 4, 2)), n),
        lambda n: nn.adaptive_avg_pool2d(np.ones((1, 4, 4)), n),
    ],
)  # fmt: skip
def test_a_size_that_is_none_is_named(make: Any, wrong: Any) -> None:
    error = TypeError if isinstance(wrong, str) else ValueError
    with pytest.raises((ValueError, error), match=r"integer|channels must be positive"):
        make(wrong)


def test_a_stack_is_of_layers_of_its_kind() -> None:
    encoder, decoder = nn.TransformerEncoderLayer(4, 2), nn.TransformerDecoderLayer(4, 2)
    with pytest.raises(TypeError, match="TransformerDecoder: needs a TransformerDecoderLayer, not"):
        nn.TransformerDecoder(encoder, 2)
    with pytest.raises(TypeError, match="TransformerEncoder: needs a TransformerEncoderLayer, not"):
        nn.TransformerEncoder(decoder, 2)


def test_lists_return_themselves() -> None:
    layers = nn.ModuleList()
    assert layers.append(nn.Linear(1, 2)).extend([nn.Linear(2, 1)]) is layers
    assert [layer.weight.shape for layer in layers] == [(2, 1), (1, 2)]
