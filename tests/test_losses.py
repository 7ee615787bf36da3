"""Losses against PyTorch's, stored and live, and where a formula alone is not enough."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.engine.graph import Node
from tensorgrad.engine.modes import set_mode

from .oracles import leaf

X = [[0.5, -1.0, 2.0], [-0.25, 1.5, 0.0]]
T = [[0.5, 1.0, -1.0], [0.25, 1.0, 1.5]]
P = [[0.25, 0.0, 1.0], [0.5, 0.875, 0.125]]
Q = [[0.5, 1.0, 1.0], [0.0, 1.0, 0.25]]
Y = [2, 0]
S = [1, -1]
W = [0.5, 2.0, 1.0]
V = [3.0, 1.0, 0.5]
VAR = [[0.5, 2.0, 1.0], [0.25, 1e-9, 3.0]]
COUNTS = [[0.0, 3.0, 1.0], [2.0, 0.0, 5.0]]
SIGNS = [[1, -1, 1], [1, 1, -1]]
LABELS = [[1, -1, 2], [0, 2, -1]]

INTEGERS = Y, S, SIGNS, LABELS

# What PyTorch 2.13 returns in float64, to seven digits: the loss, and its sum's gradient by the
# first argument; test_pytorch_says_the_same compares with the PyTorch that is installed.
CASES: list[Any] = [
    ("mse_loss", (X, T), {},
     [2.625], [0.0, -0.6666667, 1.0, -0.1666667, 0.1666667, -0.5]),
    ("mse_loss", (X, T), {"reduction": "sum"},
     [15.75], [0.0, -4.0, 6.0, -1.0, 1.0, -3.0]),
    ("l1_loss", (X, T), {},
     [1.25], [0.0, -0.1666667, 0.1666667, -0.1666667, 0.1666667, -0.1666667]),
    ("huber_loss", (X, T), {},
     [0.875], [0.0, -0.1666667, 0.1666667, -0.08333333, 0.08333333, -0.1666667]),
    ("huber_loss", (X, T), {"delta": 0.5},
     [0.5208333], [0.0, -0.08333333, 0.08333333, -0.08333333, 0.08333333, -0.08333333]),
    ("smooth_l1_loss", (X, T), {},
     [0.875], [0.0, -0.1666667, 0.1666667, -0.08333333, 0.08333333, -0.1666667]),
    ("smooth_l1_loss", (X, T), {"beta": 0.5},
     [1.041667], [0.0, -0.1666667, 0.1666667, -0.1666667, 0.1666667, -0.1666667]),
    ("cross_entropy", (X, Y), {},
     [1.162785], [0.0876452, 0.01955629, -0.1072015, -0.4378003, 0.3579344, 0.07986595]),
    ("cross_entropy", (X, Y), {"weight": W},
     [0.855627], [0.1168603, 0.02607505, -0.1429353, -0.2918669, 0.2386229, 0.05324397]),
    ("cross_entropy", (X, Y), {"label_smoothing": 0.25},
     [1.266952], [0.04597853, -0.02211038, -0.02386815, -0.354467, 0.3162677, 0.03819929]),
    ("cross_entropy", (X, Y), {"weight": W, "label_smoothing": 0.25},
     [1.260581], [0.09395166, -0.0839496, -0.01000206, -0.2224892, 0.2070528, 0.0154364]),
    ("cross_entropy", (X, Y), {"ignore_index": 2},
     [2.084258], [0.0, 0.0, 0.0, -0.8756007, 0.7158688, 0.1597319]),
    ("cross_entropy", (X, P), {"weight": W},
     [0.8971372], [0.03610085, 0.02200082, -0.05810167, 0.007174295, -0.1143894, 0.1072152]),
    ("cross_entropy", (X, P), {"label_smoothing": 0.25},
     [1.23506], [-0.031338, -0.01844358, 0.04978157, -0.1436421, 0.1223681, 0.02127402]),
    ("nll_loss", (X, Y), {},
     [-0.875], [0.0, 0.0, -0.5, -0.5, 0.0, 0.0]),
    ("nll_loss", (X, Y), {"weight": W},
     [-1.25], [0.0, 0.0, -0.6666667, -0.3333333, 0.0, 0.0]),
    ("nll_loss", (X, Y), {"weight": W, "reduction": "sum"},
     [-1.875], [0.0, 0.0, -1.0, -0.5, 0.0, 0.0]),
    ("binary_cross_entropy", (P, Q), {},
     [17.04728], [-0.2222222, -166666700000.0, 0.0, 0.3333333, -0.1904762, -0.1904762]),
    ("binary_cross_entropy_with_logits", (X, P), {},
     [0.5120444], [0.06207656, 0.04482357, -0.01986715, -0.01036275, -0.009570921, 0.0625]),
    ("binary_cross_entropy_with_logits", (X, P), {"weight": W, "pos_weight": V},
     [0.5706894], [0.01530742, 0.08964714, -0.009933577, -0.05202942, -0.01914184, 0.06770833]),
    ("kl_div", (X, P), {"reduction": "sum"},
     [-4.382417], [-0.25, -0.0, -1.0, -0.5, -0.875, -0.125]),
    ("kl_div", (X, T), {"reduction": "sum", "log_target": True},
     [10.33833], [-1.648721, -2.718282, -0.3678794, -1.284025, -2.718282, -4.481689]),
    ("kl_div", (X, P), {"reduction": "batchmean"},
     [-2.191209], [-0.125, -0.0, -0.5, -0.25, -0.4375, -0.0625]),
    ("cosine_similarity", (X, T), {},
     [-0.8001323, 0.5193846], [0.2216817, 0.138551, 0.0138551, 0.1464774, 0.02441291, 0.5419665]),
    ("cosine_embedding_loss", (X, T, S), {},
     [1.159758], [-0.1108408, -0.06927552, -0.006927552, 0.07323872, 0.01220645, 0.2709833]),
    ("cosine_embedding_loss", (X, T, S), {"margin": -0.5},
     [1.409758], [-0.1108408, -0.06927552, -0.006927552, 0.07323872, 0.01220645, 0.2709833]),
    ("gaussian_nll_loss", (X, T, VAR), {},
     [20833.22], [0.0, -0.1666667, 0.5, -0.3333333, 83333.33, -0.08333333]),
    ("gaussian_nll_loss", (X, T, VAR), {"full": True, "reduction": "sum"},
     [125004.8], [0.0, -1.0, 3.0, -2.0, 500000.0, -0.5]),
    ("poisson_nll_loss", (X, P), {},
     [2.058941], [0.2331202, 0.06131324, 1.064843, 0.0464668, 0.6011148, 0.1458333]),
    ("poisson_nll_loss", (P, COUNTS), {"log_input": False, "full": True},
     [12.83038], [0.1666667, -50000000.0, 1.666667e-09, -0.5, 0.1666667, -6.499999]),
    ("soft_margin_loss", (X, SIGNS), {},
     [0.4391278], [-0.06292344, 0.04482357, -0.01986715, -0.09369608, -0.03040425, 0.08333333]),
    ("hinge_embedding_loss", (X, SIGNS), {"margin": 0.75},
     [1.041667], [0.1666667, -0.1666667, 0.1666667, 0.1666667, 0.1666667, -0.1666667]),
    ("margin_ranking_loss", (X, T, SIGNS), {"margin": 0.25},
     [0.1666667], [-0.1666667, 0.0, -0.0, -0.1666667, -0.0, 0.0]),
    ("multi_margin_loss", (X, Y), {},
     [0.6666667], [0.0, 0.0, 0.0, -0.3333333, 0.1666667, 0.1666667]),
    ("multi_margin_loss", (X, Y), {"p": 2, "margin": 0.5, "weight": W},
     [0.46875], [0.0, 0.0, 0.0, -0.5, 0.375, 0.125]),
    ("multilabel_margin_loss", (X, LABELS), {},
     [1.958333], [0.1666667, -0.3333333, 0.1666667, -0.1666667, 0.3333333, -0.1666667]),
    ("multilabel_soft_margin_loss", (X, Q), {"weight": W},
     [0.7499056], [0.01020494, -0.2436862, -0.01986715, 0.03648529, -0.06080851, 0.04166667]),
    ("triplet_margin_loss", (X, T, P), {},
     [2.421736], [-0.08703903, 0.07080498, 0.06786964, 0.2302445, -0.1667449, -0.3887674]),
    ("triplet_margin_loss", (X, P, T), {"p": 1.0, "swap": True, "margin": 3.0},
     [2.375001], [0.5, -0.5, 0.5, -0.5, 0.5, -0.5]),
    ("pairwise_distance", (X, T), {},
     [3.605552, 1.658311],
     [2.773501e-07, -0.5546999, 0.8320505, -0.3015109, 0.3015121, -0.9045339]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options", "value", "gradient"), CASES)
def test_loss_and_gradient_are_pytorchs(
    name: str, args: Any, options: Any, value: Any, gradient: Any
) -> None:
    loss, x_grad = ours(name, args, options)
    assert_allclose(np.ravel(loss), value, rtol=1e-6)
    assert_allclose(np.ravel(x_grad), gradient, rtol=1e-6, atol=1e-12)
    plain = getattr(nn, name)(np.array(args[0]), *args[1:], **options)  # arrays and lists
    assert not isinstance(plain, tg.Tensor)
    assert_array_equal(plain, loss)


def ours(name: str, args: Any, options: Any) -> tuple[Any, Any]:
    x = leaf(args[0])
    loss = getattr(nn, name)(x, *map(np.array, args[1:]), **options)
    np.sum(loss).backward()
    return loss.data, x.grad


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [case[:3] for case in CASES if case[0] != "binary_cross_entropy"],  # has kinks at P
)
def test_compiled_losses_and_second_derivatives(name: str, args: Any, options: Any) -> None:
    def loss(x: Any) -> Any:
        return np.sum(getattr(nn, name)(x, *map(np.array, args[1:]), **options))

    x = np.array(args[0]) + 0.01  # away from kinks
    assert tg.gradcheck(tg.grad(loss), [x])
    assert_allclose(tg.compile(tg.grad(loss))(x), tg.grad(loss)(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "args", "options"), [case[:3] for case in CASES])
def test_pytorch_says_the_same(name: str, args: Any, options: Any) -> None:
    torch = pytest.importorskip("torch")
    x, *others = [torch.tensor(a if a in INTEGERS else np.array(a)) for a in args]
    x.requires_grad_()
    weights = {k: torch.tensor(np.array(v)) if v in (W, V) else v for k, v in options.items()}
    theirs = getattr(torch.nn.functional, name)(x, *others, **weights)
    theirs.sum().backward()
    loss, x_grad = ours(name, args, options)
    assert_allclose(loss, theirs.detach(), rtol=1e-8)
    assert_allclose(x_grad, x.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, np.array(W)])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_more_axes_and_ignored_classes_are_as_in_pytorch(
    name: str, weight: Any, reduction: str
) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for shape in (3,), (4, 3), (2, 3, 5), (2, 3, 4, 2):
        scores = rng.normal(size=shape)
        classes = rng.integers(0, 3, shape[:1][: len(shape) - 1] + shape[2:])
        for smoothing in [{}, {"label_smoothing": 0.1}] if name == "cross_entropy" else [{}]:
            options: dict[str, Any] = {"reduction": reduction, "ignore_index": 1, **smoothing}
            x, u = leaf(scores), torch.tensor(scores, requires_grad=True)
            loss = getattr(nn, name)(x, classes, weight, **options)
            w = None if weight is None else torch.tensor(weight)
            theirs = getattr(torch.nn.functional, name)(u, torch.tensor(classes), w, **options)
            assert_allclose(loss.data, theirs.detach(), rtol=1e-12, atol=1e-14)
            np.sum(loss).backward()
            theirs.sum().backward()
            assert_allclose(x.grad, u.grad, rtol=1e-12, atol=1e-14)


# -- reductions, shapes and dtypes

PAIRS = [
    nn.mse_loss,
    nn.l1_loss,
    nn.huber_loss,
    nn.smooth_l1_loss,
    nn.binary_cross_entropy,
    nn.binary_cross_entropy_with_logits,
    nn.hinge_loss,
    nn.kl_div,
]


@pytest.mark.parametrize("loss", [*PAIRS, nn.cross_entropy, nn.nll_loss])
def test_reductions_agree(loss: Any) -> None:
    target = Y if loss in (nn.cross_entropy, nn.nll_loss) else np.ones((2, 3))
    losses = loss(np.array(P), target, reduction="none")
    assert losses.shape == np.shape(target)
    assert_allclose(loss(np.array(P), target), losses.mean())
    assert_allclose(loss(np.array(P), target, reduction="sum"), losses.sum())
    with pytest.raises(ValueError, match='"mean", "sum" or "none", not \'average\''):
        loss(np.array(P), target, reduction="average")


@pytest.mark.parametrize("loss", PAIRS)
def test_pairs_of_two_shapes_are_refused(loss: Any) -> None:
    for prediction, target in ((3, 1), (3,)), ((3,), ()), ((2, 3), (3,)):
        with pytest.raises(ValueError, match="the shapes must be equal") as caught:
            loss(leaf(np.ones(prediction)), np.ones(target))
        assert f"{loss.__name__}: a prediction of shape {prediction}" in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_is_the_predictions(dtype: Any) -> None:
    p = np.array(P, dtype)
    for options in {}, {"weight": W}, {"label_smoothing": 0.1}, {"reduction": "none"}:
        losses = [nn.cross_entropy(leaf(p), Y, **options)]
        if "label_smoothing" not in options:
            losses += [loss(leaf(p), np.ones_like(p)) for loss in PAIRS]
            losses += [nn.nll_loss(leaf(p), Y, **options)]
            losses += [nn.binary_cross_entropy(leaf(p), np.array(Q, dtype), **options)]
        for loss in losses:
            assert loss.dtype == dtype
            np.sum(loss).backward()


@pytest.mark.parametrize(
    "call", [lambda x: nn.mse_loss(x, X), lambda x: nn.cross_entropy(x, Y, weight=W)]
)
def test_the_losses_of_most_steps_are_one_operation(call: Any) -> None:
    nodes: list[Node] = []
    x = leaf(X)
    with set_mode(hooks=(lambda node, _arrays: nodes.append(node),)):
        call(x)
    assert len(nodes) == 1


@pytest.mark.parametrize("loss", PAIRS)
@pytest.mark.parametrize("target", [np.ones(3, int), np.ones(3, bool), np.ones(3, np.uint8)])
def test_targets_of_integers_do_not_widen_the_loss(loss: Any, target: Any) -> None:
    prediction = np.array([0.5, 0.25, 1.0], np.float32)
    for t in target, tg.Tensor(target), target.tolist():
        losses = loss(prediction, t, reduction="none")
        assert losses.dtype == np.float32
        expected = loss(prediction, np.ones(3, np.float32), reduction="none")
        assert_array_equal(tg.asarray(losses).data, expected)


def test_predictions_of_integers_round_nothing() -> None:
    assert nn.mse_loss([1, 2], [0.5, 1.5]) == 0.25
    assert_allclose(nn.mse_loss(np.array([1, 2], np.uint8), np.array([3, 1])), 2.5)
    scores, target = [[1, 2]], [0]
    options: dict[str, Any] = {"weight": [0.5, 1.5], "reduction": "sum"}
    assert_allclose(
        nn.cross_entropy(scores, target, **options),
        nn.cross_entropy(np.array(scores, float), target, **options),
    )


# -- corners


def test_where_there_is_no_derivative() -> None:
    for loss, prediction, target, expected in (
        (nn.l1_loss, [1.0, 2.0], [1.0, 1.0], [0.0, 1.0]),
        (nn.smooth_l1_loss, [1.0, 2.0], [1.0, 1.0], [0.0, 1.0]),
        (nn.huber_loss, [2.0, np.inf], [1.0, 1.0], [1.0, 1.0]),
        (nn.hinge_loss, [1.0, 0.5], [1.0, 1.0], [0.0, -1.0]),
    ):
        x = leaf(prediction)
        loss(x, np.array(target), reduction="sum").backward()
        assert_array_equal(x.grad, expected)
    zero = leaf([[0.0, 0.0]])
    similarity = nn.cosine_similarity(zero, np.array([[3.0, 4.0]]), eps=0.5)
    similarity.backward([1.0])
    assert_array_equal(similarity.data, [0])
    assert_allclose(zero.grad, [[1.2, 1.6]])  # the norm is constant there


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_scores_are_exact_and_silent(dtype: Any) -> None:
    x = leaf([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], dtype)
    with np.errstate(all="raise"):
        loss = nn.cross_entropy(x, [0, 1], reduction="none")
        loss.backward(np.ones(2))
        assert_array_equal(loss.data, [0, 2e4])
        assert_array_equal(x.grad, [[0, 0, 0], [1, -1, 0]])
        smooth = leaf(x.data)
        nn.cross_entropy(smooth, [0, 1], label_smoothing=0.5).backward()
        assert np.isfinite(smooth.grad).all()
        y = leaf([1e4, -1e4, 1e4, -1e4], dtype)
        loss = nn.binary_cross_entropy_with_logits(
            y, np.array([1, 0, 0, 1], dtype), reduction="none"
        )
        loss.backward(np.ones(4))
    assert_array_equal(loss.data, [0, 0, 1e4, 1e4])
    assert_array_equal(y.grad, [0, 0, 1, -1])


def test_scores_far_below_zero_keep_their_digits() -> None:
    loss = nn.binary_cross_entropy_with_logits(np.array([-40.0]), [0.0])
    assert_allclose(loss, np.log1p(np.exp(-40.0)), rtol=1e-14)


def test_a_class_without_a_chance_costs_nothing_elsewhere() -> None:
    x = leaf([[-np.inf, 0.0, 0.0], [0.0, 0.0, -np.inf]])
    nn.cross_entropy(x, [1, 0]).backward()
    assert_array_equal(x.grad, [[0, -0.25, 0.25], [-0.25, 0.25, 0]])
    assert nn.cross_entropy(x, [0, 0], reduction="none")[0].item() == np.inf


INF = np.inf
# A loss of x with an infinite term of probability or weight 0, and which of x is infinite.
NOTHING: dict[str, tuple[Any, Any]] = {
    "soft targets": (lambda x: nn.cross_entropy(x, [[0.0, 0.25, 0.75]]), [[-INF, 0.5, 1.0]]),
    "a class of weight 0": (
        lambda x: nn.cross_entropy(x, [[0.5, 0.25, 0.25]], weight=[0.0, 1.0, 2.0]),
        [[-INF, 0.5, 1.0]],
    ),
    "a sample of weight 0": (
        lambda x: nn.cross_entropy(x, [0, 2], weight=[0.0, 1.0, 2.0]),
        [[-INF, 0.5, 1.0], [0.5, 0.0, 1.0]],
    ),
    "nll_loss": (
        lambda x: nn.nll_loss(x, [0, 2], weight=[0.0, 1.0, 2.0]),
        [[-INF, -0.5, -1.0], [-0.5, 0.0, -1.0]],
    ),
    "logits": (
        lambda x: nn.binary_cross_entropy_with_logits(x, [0.0, 1.0, 0.5]),
        [-INF, INF, 0.5],
    ),
    "weighted logits": (
        lambda x: nn.binary_cross_entropy_with_logits(x, [1.0, 1.0], weight=[0.0, 2.0]),
        [-INF, 0.5],
    ),
    "logits of pos_weight 0": (
        lambda x: nn.binary_cross_entropy_with_logits(x, [1.0, 0.0], pos_weight=[0.0, 2.0]),
        [-INF, 0.5],
    ),
    "kl_div": (lambda x: nn.kl_div(x, [0.0, 0.25, 0.75]), [-INF, -0.5, -1.0]),
    "kl_div of logarithms": (
        lambda x: nn.kl_div(x, [-INF, -0.5, -1.0], log_target=True),
        [-INF, -0.25, -2.0],
    ),
}


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("compiled", [False, True])
def test_what_has_no_weight_counts_nothing_however_large_it_is(name: str, compiled: bool) -> None:
    """A large finite number in place of infinity gives what is expected."""
    loss, x = NOTHING[name]
    derivative = tg.value_and_grad(loss)
    if compiled:
        derivative = tg.compile(derivative)
    with np.errstate(all="raise"):
        for _ in range(2):
            value, gradient = derivative(np.array(x))
    expected = tg.value_and_grad(loss)(np.clip(x, -1e6, 1e6))
    assert_allclose(value, expected[0], rtol=1e-14)
    assert_allclose(gradient, expected[1], rtol=1e-14)
    assert np.all(np.isfinite(tg.hessian(loss)(np.array(x))))


def test_a_probability_above_0_of_what_cannot_be_costs_infinitely_much() -> None:
    assert nn.cross_entropy(np.array([-INF, 0.0]), [0.5, 0.5]) == INF
    assert nn.binary_cross_entropy_with_logits(np.array([-INF]), [0.5]) == INF
    assert nn.kl_div(np.array([-INF]), [0.5]) == INF


def test_no_target_of_0_hides_a_nan() -> None:
    x = np.array([np.nan, 0.0])
    assert np.isnan(nn.cross_entropy(x, [0.0, 1.0]))
    assert np.isnan(nn.binary_cross_entropy_with_logits(x, [0.0, 1.0]))
    assert np.isnan(nn.kl_div(x, [0.0, 1.0]))


def test_ignored_samples() -> None:
    x = leaf([[np.nan, np.nan], [0.0, 0.0], [np.inf, 0.0]])
    for loss in nn.cross_entropy, nn.nll_loss:
        x.zero_grad()
        losses = loss(x, [-100, 1, -100], reduction="none")
        losses.backward(np.ones(3))
        assert_array_equal(losses.data[[0, 2]], 0)
        assert_array_equal(x.grad[[0, 2]], 0)
        assert loss(x, [-100] * 3, reduction="sum").item() == 0
        assert_array_equal(loss(x, [-100] * 3, reduction="none").data, np.zeros(3))
        assert loss(leaf([0.0, 1.0]), -100, reduction="none").item() == 0
        rest = loss(np.array([[1.0, 3.0]]), [1])
        assert loss(np.array([[5.0, 1.0], [1.0, 3.0]]), [0, 1], ignore_index=0) == rest
    assert np.isnan(nn.cross_entropy(x, [-100] * 3).item())  # the mean of nothing


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, np.array(W)])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.25])
@pytest.mark.parametrize("ignored", [0, 2, -100])
def test_ignoring_a_class_is_leaving_its_samples_out(
    ignored: int, label_smoothing: float, weight: Any, reduction: Any
) -> None:
    rng = np.random.default_rng(0)
    scores, classes = rng.normal(size=(8, 3)), np.array([0, 1, 2, 1, 0, 2, 2, 1])
    known = classes != ignored
    options = {"reduction": reduction, "label_smoothing": label_smoothing}

    def loss(scores: Any, classes: Any) -> Any:
        return nn.cross_entropy(scores, classes, weight, ignored, **options)

    def gradient(scores: Any, classes: Any) -> Any:
        return tg.grad(lambda s: np.sum(loss(s, classes)))(scores)

    expected = loss(scores[known], classes[known])
    for f in loss, tg.compile(loss):
        got = f(scores, classes)
        if reduction == "none":
            assert_array_equal(got[~known], 0)
            got = got[known]
        assert_allclose(got, expected, rtol=1e-12)
    expected = gradient(scores[known], classes[known])
    for f in gradient, tg.compile(gradient):
        got = f(scores, classes)
        assert_array_equal(got[~known], 0)
        assert_allclose(got[known], expected, rtol=1e-10, atol=1e-14)


def test_the_mean_of_no_elements_is_nan_with_an_empty_gradient() -> None:
    x = leaf(np.zeros((0, 3)))
    with pytest.warns(RuntimeWarning):
        loss = nn.mse_loss(x, np.zeros((0, 3)))
    assert np.isnan(loss.item())
    loss.backward()
    assert x.grad.shape == (0, 3)


def test_sure_and_wrong_probabilities() -> None:
    p = leaf([0.0, 1.0, 0.0])
    losses = nn.binary_cross_entropy(p, [1.0, 0.0, 0.0], reduction="none")
    losses.backward(np.ones(3))
    assert_array_equal(losses.data, [100, 100, 0])
    assert_allclose(p.grad, [-1e12, 1e12, 0])


# -- mistakes


@pytest.mark.parametrize("loss", [nn.cross_entropy, nn.nll_loss])
@pytest.mark.parametrize("wrong", [-1, 3, -99])
def test_a_class_that_there_is_not(loss: Any, wrong: int) -> None:
    with pytest.raises(IndexError) as caught:
        loss(leaf(np.ones((4, 3))), [0, 1, wrong, 2])
    assert f"{loss.__name__}: target {wrong} at index (2,), of 3 classes" in str(caught.value)
    loss(leaf(np.ones((4, 3))), [0, 1, wrong, 2], ignore_index=wrong)


def test_targets_that_do_not_fit_are_refused() -> None:
    scores = np.ones((4, 3))
    for target, match in (
        (np.zeros((4, 1), int), r"target of classes of shape \(4,\), not \(4, 1\)"),
        (np.zeros(4), r"target of probabilities of shape \(4, 3\), not \(4,\); .*astype\(int\)"),
        (np.zeros((4, 3), int), r"of shape \(4,\), not \(4, 3\)"),
    ):
        with pytest.raises(ValueError, match=match):
            nn.cross_entropy(scores, target)
    with pytest.raises(TypeError, match="dtype bool"):
        nn.cross_entropy(scores, np.zeros(4, bool))
    with pytest.raises(TypeError, match="must hold classes"):
        nn.nll_loss(scores, scores)
    with pytest.raises(ValueError, match="an axis of classes"):
        nn.cross_entropy(1.0, 0)
    with pytest.raises(ValueError, match=r"a weight of shape \(2,\) for 3 classes"):
        nn.cross_entropy(scores, [0, 1, 2, 0], weight=[1.0, 2.0])


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="use binary_cross_entropy_with_logits"):
        nn.binary_cross_entropy(leaf([0.5, 1.5]), [1.0, 1.0])
    with pytest.raises(ValueError, match="delta must be positive, not 0"):
        nn.huber_loss(leaf([0.5]), [1.0], delta=0)
    with pytest.raises(ValueError, match="smooth_l1_loss: beta must be at least 0, not -1"):
        nn.smooth_l1_loss(leaf([0.5]), [1.0], beta=-1)
    for smoothing in -0.1, 1.5, np.nan:
        with pytest.raises(ValueError, match=f"label_smoothing of {smoothing}, not from 0 to 1"):
            nn.cross_entropy(leaf(X), Y, label_smoothing=smoothing)
    with pytest.raises(ValueError, match="cosine_embedding_loss: a target other than -1 and 1"):
        nn.cosine_embedding_loss(leaf(X), X, [0, 1])


def test_arrays_that_are_no_vectors_of_one_length_are_refused() -> None:
    calls = {
        r"pairwise_distance: arrays of shapes \(\), \(\)": lambda: nn.pairwise_distance(1.0, 2.0),
        r"pairwise_distance: .*\(2,\), \(3,\); pass vectors, whose shapes broadcast": (
            lambda: nn.pairwise_distance([1.0, 2.0], [1.0, 2.0, 3.0])
        ),
        r"triplet_margin_loss: arrays of shapes \(2, 2\), \(3,\)": (
            lambda: nn.triplet_margin_loss(np.ones((2, 2)), np.ones(3), 1.0)
        ),
        "cosine_similarity: axis 1 is out of bounds": lambda: nn.cosine_similarity([1.0], [2.0]),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_cosine_similarity_broadcasts_before_it_takes_norms() -> None:
    got = nn.cosine_similarity(np.ones((1, 2)), np.ones((2, 2)), axis=0)
    assert_allclose(got, [1, 1])
    assert tg.gradcheck(
        lambda a, b: nn.cosine_similarity(a, b, axis=0), [np.ones((1, 3)), np.array(T)]
    )


def test_no_class_of_probabilities_is_ignored() -> None:
    with pytest.raises(ValueError, match="ignore_index=1 is for a target of classes"):
        nn.cross_entropy(np.ones((2, 3)), np.full((2, 3), 1 / 3), ignore_index=1)
