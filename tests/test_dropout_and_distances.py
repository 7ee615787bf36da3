"""Dropout, bags of embeddings and distances of pairs: laws, PyTorch's results, and errors."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn

from .oracles import leaf

EYE = np.eye(2)

# -- dropout

LAYERS: dict[type[Any], tuple[int, ...]] = {
    nn.Dropout: (40, 30),
    nn.Dropout1d: (40, 30, 3),
    nn.Dropout2d: (40, 30, 2, 2),
    nn.Dropout3d: (40, 30, 2, 1, 2),
    nn.AlphaDropout: (40, 30),
    nn.FeatureAlphaDropout: (40, 30, 3),
}
each_layer = pytest.mark.parametrize("kind", LAYERS)


@each_layer
def test_dropout_of_channels_drops_all_or_nothing(kind: Any) -> None:
    layer, x = kind(0.25, rng=0), np.ones(LAYERS[kind])
    y = layer(x).reshape(1200, -1)
    assert_array_equal(y, y[:, :1] + 0 * y)
    low, high = np.unique(y)
    assert abs(np.mean(y == low) - 0.25) < 5 * (0.25 * 0.75 / 1200) ** 0.5
    if "Alpha" in kind.__name__:
        assert_allclose([0.25 * low + 0.75 * high], [0.75 * (high - low) + low])
    else:
        assert (low, high) == (0, 4 / 3)
    assert not np.array_equal(layer(x), layer(x))
    assert layer.eval()(x) is x
    assert repr(layer) == f"{kind.__name__}(0.25)"
    for twin in copy.deepcopy(layer.train()), pickle.loads(pickle.dumps(layer)):
        state = copy.deepcopy(layer.rng)
        assert_array_equal(twin(x), layer(x))
        layer.rng = state


@each_layer
def test_each_call_of_a_compiled_function_drops_others(kind: Any) -> None:
    layer, x = kind(0.5, rng=0), np.ones(LAYERS[kind], np.float32)
    twin = copy.deepcopy(layer)
    compiled = tg.compile(lambda x: layer(x))
    for _ in range(3):
        y = compiled(x)
        assert y.dtype == np.float32
        assert_array_equal(y, twin(x))
    rows = tg.vmap(lambda row: layer(row))(np.ones((3, *LAYERS[kind])))
    assert not np.array_equal(rows[0], rows[1])


def test_alpha_dropout_keeps_mean_and_deviation() -> None:
    x = np.random.default_rng(0).normal(size=200_000)
    for p in 0.1, 0.5, 0.8:
        y = nn.alpha_dropout(x, p, True, rng=1)
        assert_allclose([y.mean(), y.std()], [0, 1], atol=0.015)
        assert nn.alpha_dropout(x, p) is x
    assert_array_equal(nn.alpha_dropout(x, 1.0, True), 0)
    assert_array_equal(nn.feature_alpha_dropout(x[:, None], 1.0, True), 0)


def test_alpha_dropout_scales_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional.alpha_dropout(torch.ones(1000, dtype=torch.float64), 0.3, True)
    ours = nn.alpha_dropout(np.ones(1000), 0.3, True, rng=0)
    assert_allclose(np.unique(ours), np.unique(theirs.numpy()), rtol=1e-12)


# -- rrelu


def test_slopes_are_random_in_training_alone() -> None:
    x = -np.ones((2, 1000))
    layer = nn.RReLU(0.25, 0.75, rng=0)
    slopes = -layer(x)
    assert 0.25 <= np.min(slopes) < 0.26
    assert 0.74 < np.max(slopes) <= 0.75
    assert_allclose(layer.eval()(x), -0.5 * np.ones((2, 1000)), rtol=1e-15)
    assert_array_equal(nn.rrelu(-x, training=True), -x)
    compiled = tg.compile(lambda x: nn.rrelu(x, 0.25, 0.75, True, rng))
    rng = np.random.default_rng(0)
    assert_array_equal(compiled(x), -slopes)
    with pytest.raises(ValueError, match=r"rrelu: lower=1 is greater than upper=0\.5"):
        nn.rrelu(x, 1, 0.5)


# -- gumbel_softmax


def test_gumbel_softmax_draws_by_the_probabilities() -> None:
    p = np.array([[0.5], [0.2], [0.3]])
    y = nn.gumbel_softmax(np.log(np.broadcast_to(p, (3, 20_000))), hard=True, axis=0, rng=0)
    assert_array_equal(np.unique(y), [0, 1])
    assert_array_equal(y.sum(axis=0), 1)
    assert_allclose(y.mean(axis=1), p[:, 0], atol=0.02)


def test_a_hard_draw_has_the_derivative_of_the_soft_one() -> None:
    logits, g = np.random.default_rng(0).normal(size=(2, 4, 3)), np.arange(24.0).reshape(2, 4, 3)
    for axis in -1, 1:
        gradients = []
        for hard in False, True:
            x = leaf(logits)
            y = nn.gumbel_softmax(x, 0.7, hard, axis, rng=3)
            assert_allclose(y.data.sum(axis), 1)
            y.backward(g)
            gradients.append(x.grad)
        assert_array_equal(gradients[0], gradients[1])
    rng = np.random.default_rng(0)
    compiled = tg.compile(lambda x: nn.gumbel_softmax(x, hard=True, rng=rng))
    assert_array_equal(compiled(logits), nn.gumbel_softmax(logits, hard=True, rng=0))


# -- bags


def test_bags_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    f = torch.nn.functional.embedding_bag
    rng = np.random.default_rng(0)
    table, index = rng.normal(size=(6, 3)), rng.integers(6, size=9)
    for mode in "sum", "mean", "max":
        for offsets, last in ([0, 2, 2, 5], False), ([0, 4, 4, 9], True), ([0], False):
            for padding in None, 2, -1:
                weights = rng.normal(size=9) if mode == "sum" else None
                w, theirs = leaf(table), torch.tensor(table, requires_grad=True)
                given = None if weights is None else torch.tensor(weights)
                expected = f(
                    torch.tensor(index), theirs, torch.tensor(offsets), mode=mode,
                    per_sample_weights=given, include_last_offset=last, padding_idx=padding,
                )  # fmt: skip
                y = nn.embedding_bag(index, w, offsets, mode, weights, last, padding)  # type: ignore[arg-type]
                assert_allclose(y.data, expected.detach(), rtol=1e-12)
                g = rng.normal(size=y.shape)
                y.backward(g)
                expected.backward(torch.tensor(g))
                assert_allclose(w.grad, theirs.grad, rtol=1e-12, atol=1e-14)


def test_a_bag_of_nothing_is_zero_and_finite() -> None:
    for mode in "sum", "mean", "max":
        w = leaf(np.ones((3, 2)))
        y = nn.embedding_bag(np.zeros(0, int), w, [0, 0], mode)  # type: ignore[arg-type]
        y.backward(np.ones((2, 2)))
        assert_array_equal(y.data, 0)
        assert_array_equal(w.grad, 0)
        y = nn.embedding_bag([[1, 1]], w, None, mode, padding_idx=1)  # type: ignore[arg-type]
        assert_array_equal(y.data, 0)


@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
def test_vectors_that_are_trained_already(kind: str) -> None:
    make, rows = getattr(nn, kind).from_pretrained, np.arange(6.0).reshape(3, 2)
    frozen, index = make(rows.astype(np.float32), padding_idx=-1), np.array([[1]])
    assert frozen.parameters() == []
    assert [*frozen.state_dict()] == ["weight"]
    assert frozen.padding_idx == 2
    assert_array_equal(frozen(index).numpy().ravel(), np.float32([2, 3]), strict=True)
    trained = make(rows, freeze=False)
    np.sum(trained(index)).backward()
    assert_array_equal(trained.weight.grad, [[0, 0], [1, 1], [0, 0]])
    with pytest.raises(ValueError, match=rf"{kind}\.from_pretrained: vectors of shape \(3,\)"):
        make(np.ones(3))
    with pytest.raises(IndexError, match=rf"{kind}\.from_pretrained: padding_idx=3 is not one"):
        make(rows, padding_idx=3)


# -- distances


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, np.inf])
def test_distances_are_their_definition(p: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 3)), rng.normal(size=(4, 3))
    expected = [[[np.linalg.norm(a - b, p) for b in y] for a in rows] for rows in x]
    assert_allclose(nn.cdist(x, y, p), expected, rtol=1e-12)
    pairs = [np.linalg.norm(y[i] - y[j], p) for i in range(4) for j in range(i + 1, 4)]
    assert_allclose(nn.pdist(y, p), pairs, rtol=1e-12)
    assert nn.pdist(y[:1], p).shape == (0,)


@pytest.mark.parametrize("p", [0, 1, 2, 3, np.inf])
def test_equal_points_have_derivatives_of_zero(p: float) -> None:
    x = leaf([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]])
    with np.errstate(all="raise"):
        y = nn.pdist(x, p)
        y[0].backward(retain_graph=True) if p else None
        assert p == 0 or not np.any(x.grad)
        gradient = tg.grad(lambda a: np.sum(nn.cdist(a, a.copy(), p)[0]))(x.data)
    assert np.isfinite(gradient).all()
    if p == 2:
        assert_allclose(tg.grad(lambda a: nn.cdist(a, x.data)[0, 2])(x.data)[0], [-0.6, -0.8])
        second = tg.hessian(lambda a: np.sum(nn.cdist(a, x.data)))(x.data)
        assert np.isfinite(second).all()


def test_distances_of_blocks_and_of_points_far_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 5, 3))
    expected = nn.cdist(x, y)
    monkeypatch.setattr("tensorgrad.nn.distances._BLOCK", 40)
    assert_array_equal(nn.cdist(x, y), expected)
    assert_allclose(nn.cdist(x + 2.0**20, y + 2.0**20), expected, rtol=1e-8)
    near = tg.grad(lambda x: np.sum(nn.cdist(x, y)))(x)
    far = tg.grad(lambda x: np.sum(nn.cdist(x, y + 2.0**20)))(x + 2.0**20)
    assert_allclose(far, near, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.dropout1d(np.ones(3)), ValueError, r"dropout1d: .*\(3,\); .* 2 or 3 axes"),
        (lambda: nn.dropout2d(np.ones((2, 2))), ValueError, "must have 3 or 4 axes"),
        (lambda: nn.dropout3d(np.ones(3), 2), ValueError, "dropout3d: p=2 is not a probability"),
        (lambda: nn.Dropout2d(-1), ValueError, "Dropout2d: p=-1 is not"),
        (lambda: nn.feature_alpha_dropout(np.ones(3)), ValueError, r"\(n, channels, \.\.\.\)"),
        (lambda: nn.gumbel_softmax(np.ones(3), 0), ValueError, "tau=0 is not positive"),
        (lambda: nn.gumbel_softmax(np.ones(3), dim=0), TypeError, "use axis="),
        (lambda: nn.embedding_bag([1], np.ones((2, 2))), ValueError, r"\(1,\); it must be \(bags"),
        (lambda: nn.embedding_bag([[1]], np.ones((2, 2)), [0]), ValueError, r"shape \(1, 1\)"),
        (lambda: nn.embedding_bag([[2]], np.ones((2, 2))), IndexError, "_bag: .* 2 into 2 rows"),
        (lambda: nn.embedding_bag([[1]], EYE, padding_idx=3), IndexError, "padding_idx=3 is not"),
        (lambda: nn.glu(np.ones(4), axis=1), IndexError, "glu: axis 1 is out of bounds"),
        (lambda: nn.embedding_bag([1], np.ones((2, 2)), [1]), ValueError, r"offsets \[1\] of 1"),
        (lambda: nn.embedding_bag([1], np.ones((2, 2)), [0, 2]), ValueError, "at most 1"),
        (lambda: nn.embedding_bag([[1]], EYE, None, "min"), ValueError, "'min'"),
        (lambda: nn.embedding_bag([[1]], EYE, None, "max", [[1]]), ValueError, "for mode="),
        (lambda: nn.embedding_bag([[1]], EYE, None, "sum", [1]), ValueError, r"\(1,\)"),
        (lambda: nn.EmbeddingBag(3, 2, "min"), ValueError, "EmbeddingBag: mode must be .* 'min'"),  # type: ignore[arg-type]
        (lambda: nn.cdist(np.ones(3), np.ones((2, 3))), ValueError, r"cdist: shapes \(3,\)"),
        (lambda: nn.cdist(np.ones((2, 2)), np.ones((2, 3))), ValueError, r"\(2, 3\); they"),
        (lambda: nn.cdist(np.ones((2, 2)), np.ones((2, 2)), -1), ValueError, "p=-1"),
        (lambda: nn.pdist(np.ones(3)), ValueError, r"pdist: .*\(3,\); it must be \(n, d\)"),
    ],
)  # fmt: skip
def test_errors_say_what_must_be(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
