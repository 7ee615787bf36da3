"""Attention and the Transformer: against PyTorch, by their own laws, and errors."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn

from .oracles import assert_same, leaf
from .sequence_references import Case, Library, pytorch, results

OURS = Library(nn, np.float64, np.asarray, leaf)
MASKS: dict[str, Any] = {
    "none": lambda _shape, _rng: None,
    "boolean": lambda shape, rng: (rng.random(shape) < 0.4) & (np.arange(shape[-1]) > 0),
    "floating": lambda shape, rng: rng.normal(size=shape),
}


def values(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


# -- against PyTorch; what it once computed is tested with the recurrent layers


@pytest.mark.parametrize("mask", MASKS)
def test_attention_as_pytorch_computes_it(mask: str) -> None:
    pytest.importorskip("torch")
    torch = pytorch()
    rng = np.random.default_rng(0)
    switches = itertools.product(*[(False, True)] * 6)
    for batch_first, bias, single, mean, each_head, other_sizes in switches:
        options: dict[str, Any] = {"batch_first": batch_first, "bias": bias}
        options |= {"kdim": 5, "vdim": 3} if other_sizes else {}
        sizes = (2, 4), (3, 5 if other_sizes else 4), (3, 3 if other_sizes else 4)
        n = 1 if single else 2
        inputs = tuple(
            (length, size) if single else (n, length, size) if batch_first else (length, n, size)
            for length, size in sizes
        )
        constants = {
            "attn_mask": MASKS[mask]((n * 2, 2, 3) if each_head else (2, 3), rng),
            "key_padding_mask": MASKS[mask]((3,) if single else (n, 3), rng),
            "average_attn_weights": mean,
        }
        case = Case("MultiheadAttention", (4, 2), options, inputs, constants)
        expected = results(torch, case, 2)
        assert_allclose(results(OURS, case, 2), expected, rtol=1e-10, atol=1e-12, err_msg=str(case))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_an_encoder_layer_as_pytorch_computes_it(activation: str) -> None:
    pytest.importorskip("torch")
    torch = pytorch()
    for batch_first, norm_first, bias, causal in itertools.product(*[(False, True)] * 4):
        options = {"dim_feedforward": 3, "dropout": 0.0, "activation": activation, "bias": bias}
        options |= {"batch_first": batch_first, "norm_first": norm_first}
        mask = np.triu(np.full((3, 3), True), 1) if causal else None
        shape = (2, 3, 4) if batch_first else (3, 2, 4)
        case = Case("TransformerEncoderLayer", (4, 2), options, (shape,), {"src_mask": mask})
        expected = results(torch, case, 2)
        assert_allclose(results(OURS, case, 2), expected, rtol=1e-9, atol=1e-11, err_msg=str(case))


def test_an_encoder_of_pytorchs_weights() -> None:
    torch = pytest.importorskip("torch")
    sizes, options = (4, 2), {"dim_feedforward": 3, "dropout": 0.0, "batch_first": True}
    theirs = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(*sizes, **options), 2, torch.nn.LayerNorm(4)
    )
    layer = nn.TransformerEncoderLayer(*sizes, **options, dtype=np.float32)
    ours = nn.TransformerEncoder(layer, 2, nn.LayerNorm(4, dtype=np.float32))
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = values(2, 3, 4).astype(np.float32)
    later = torch.triu(torch.ones(3, 3, dtype=bool), 1)
    expected = theirs(torch.tensor(x), later).detach().numpy()
    assert_allclose(ours(x, is_causal=True).numpy(), expected, rtol=1e-4, atol=1e-5)


# -- laws


def test_attention_is_a_weighted_mean() -> None:
    q, k, v = values(2, 3), values(4, 3, seed=1), values(4, 2, seed=2)
    weights = np.exp(q @ k.T / np.sqrt(3))
    expected = weights @ v / weights.sum(-1, keepdims=True)
    assert_allclose(nn.scaled_dot_product_attention(q, k, v), expected, rtol=1e-12)
    assert type(nn.scaled_dot_product_attention(q, k, v)) is np.ndarray
    assert_allclose(nn.scaled_dot_product_attention(q, k, v, scale=0), [v.mean(0)] * 2, rtol=1e-12)


def test_a_causal_query_does_not_depend_on_what_comes_later() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, rng=0).eval()
    encoder = nn.TransformerEncoder(layer, 2)
    x = leaf(values(1, 5, 4))
    np.sum(encoder(x, is_causal=True)[:, 2] * values(4)).backward()
    assert x.grad[:, :3].all() and not x.grad[:, 3:].any()


def test_causal_attention_of_a_batch_whose_keys_outnumber_its_queries() -> None:
    q, k, v = values(2, 3, 4), values(2, 5, 4, seed=1), values(2, 5, 2, seed=2)
    mask = np.tri(3, 5, dtype=bool)
    y = nn.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert_array_equal(y, nn.scaled_dot_product_attention(q, k, v, mask))
    assert_allclose(y[:, 0], v[:, 0], rtol=1e-12)  # the first query attends to the first key only


def test_a_masked_key_is_as_if_it_were_not_there() -> None:
    module = nn.MultiheadAttention(4, 2, batch_first=True, rng=0)
    q, k = values(2, 3, 4), values(2, 5, 4, seed=1)
    padding = np.arange(5) > [[2]] * 2
    y, weights = module(q, k, k, key_padding_mask=padding)
    expected, kept = module(q, k[:, :3], k[:, :3])
    assert_same((y, weights), (expected, np.pad(kept, [(0, 0), (0, 0), (0, 2)])))
    blocked = np.broadcast_to(padding[:, None], (2, 3, 5)).repeat(2, 0)
    assert_array_equal(module(q, k, k, attn_mask=blocked)[0].numpy(), y.numpy())


def test_a_query_without_keys_is_nan_and_no_other() -> None:
    q, mask = leaf(values(3, 2)), np.array([[True] * 3, [False] * 3, [False, True, False]])
    with np.errstate(all="raise"):
        y = nn.scaled_dot_product_attention(q, values(3, 2), values(3, 2), mask)
    assert_array_equal(np.isnan(y.numpy()).all(-1), [False, True, False])
    assert np.isfinite(y.numpy()[[0, 2]]).all()
    np.sum(y[::2]).backward()
    assert np.isfinite(q.grad[[0, 2]]).all()


LEFT_ALONE = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0]], bool)


@pytest.mark.parametrize("mask", [LEFT_ALONE, np.where(LEFT_ALONE, 0.5, -np.inf)])
def test_a_query_without_keys_leaves_all_gradients_as_they_are(mask: Any) -> None:
    arrays = [values(3, 2, seed=i) for i in range(3)]
    seed = values(3, 2, seed=3) * [[1], [0], [1]]
    with_it, without_it = [leaf(a) for a in arrays], [leaf(a) for a in arrays]
    y = nn.scaled_dot_product_attention(*with_it, mask)
    assert_array_equal(np.isnan(y.numpy()).all(-1), [False, True, False])
    y.backward(seed)
    query, key, value = without_it
    nn.scaled_dot_product_attention(query[::2], key, value, mask[::2]).backward(seed[::2])
    for t, expected in zip(with_it, without_it, strict=True):
        assert_allclose(t.grad, expected.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("each_head", [False, True])
def test_heads_without_keys_leave_all_gradients_as_they_are(each_head: bool) -> None:
    module, x = nn.MultiheadAttention(4, 2, rng=0), values(3, 4)
    seed = values(3, 4, seed=1)
    mask = np.stack([~LEFT_ALONE, np.zeros((3, 3), bool)]) if each_head else ~LEFT_ALONE

    def gradients(rows: Any) -> tuple[Any, Any, Any]:
        module.zero_grad()
        y, weights = module(x[rows], x, x, attn_mask=mask[..., rows, :])
        used = np.where(np.isnan(y.numpy()), 0, seed[rows])
        y.backward(used)
        return y.numpy(), weights.numpy(), [p.grad for p in module.parameters()]

    y, weights, all_rows = gradients([0, 1, 2])
    y_kept, weights_kept, kept_rows = gradients([0, 2])
    assert np.isnan(y[1]).all() and np.isnan(weights[1]).all()
    assert_same((y[::2], weights[::2], all_rows), (y_kept, weights_kept, kept_rows))


def test_a_repr_shows_what_was_chosen() -> None:
    options = "dropout=0.5, bias=False, kdim=3, batch_first=True"
    assert repr(eval(f"nn.MultiheadAttention(4, 2, {options})")) == (
        f"MultiheadAttention(4, 2, {options})"
    )
    assert repr(nn.MultiheadAttention(4, 2)) == "MultiheadAttention(4, 2)"


def test_lists_of_integers_do_not_round_the_others() -> None:
    y = nn.scaled_dot_product_attention([[0, 0]], [[1.5, 0.5]], [[0.25]])
    assert_array_equal(y, [[0.25]])


@pytest.mark.parametrize("norm_first", [False, True])
def test_derivatives_of_first_and_second_order(norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(
        2, 2, 3, activation=np.tanh, batch_first=True, norm_first=norm_first, rng=0
    )
    layer.eval()
    assert tg.gradcheck(lambda x: layer(x, is_causal=True), 4 * values(1, 2, 2), order=2)

    def by_weights(weight: Any, bias: Any) -> Any:
        module = nn.MultiheadAttention(2, 1, rng=0)
        module.in_proj_weight, module.in_proj_bias = weight, bias
        y, weights = module(values(2, 1, 2), values(3, 1, 2), values(3, 1, 2, seed=1))
        return np.concatenate([y.ravel(), weights.ravel()])

    assert tg.gradcheck(by_weights, [values(6, 2), values(6)], order=2)


# -- starts, randomness, dtypes


def test_initial_weights_belong_to_the_seed() -> None:
    module, twin = (nn.MultiheadAttention(12, 3, rng=7) for _ in range(2))
    assert_array_equal(module.in_proj_weight.data, twin.in_proj_weight.data)
    bound = np.sqrt(6 / (12 + 36))
    assert 0.95 * bound < np.abs(module.in_proj_weight.data).max() <= bound
    assert not module.in_proj_bias.data.any() and not module.out_proj.bias.data.any()
    other = nn.MultiheadAttention(12, 3, kdim=6, rng=7)
    assert other.k_proj_weight.shape == (12, 6)
    assert 0.9 * np.sqrt(6 / 18) < np.abs(other.k_proj_weight.data).max() <= np.sqrt(6 / 18)


def test_dropout_in_training_alone_and_by_one_generator() -> None:
    x = values(2, 3, 4)

    def outputs() -> list[Any]:
        layer = nn.TransformerEncoderLayer(4, 2, 8, 0.5, batch_first=True, rng=3)
        encoder = nn.TransformerEncoder(layer, 2)
        return [encoder(x).numpy(), encoder(x).numpy(), encoder.eval()(x).numpy()]

    first, second, used = outputs()
    assert not np.allclose(first, second) and not np.allclose(first, used)
    for output, again in zip((first, second, used), outputs(), strict=True):
        assert_array_equal(output, again)


def test_copies_of_a_layer_do_not_drop_the_same_elements() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.5, rng=3), 2)
    first, second = (layer.dropout(np.ones(64)) for layer in encoder.layers)
    assert not np.array_equal(first, second)
    assert encoder.layers[0].linear1.weight is not encoder.layers[1].linear1.weight


def test_weights_are_dropped_by_the_given_generator() -> None:
    q, v = np.zeros((1, 1)), np.ones((64, 1))
    y, again = (nn.scaled_dot_product_attention(q, v, v, None, 0.5, rng=0) for _ in range(2))
    assert y == again
    assert y != 1 and y * 32 == np.round(y * 32)


def test_float32_stays_float32_and_batches_may_be_empty() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, norm_first=True, batch_first=True, dtype="float32")
    encoder = nn.TransformerEncoder(layer, 1)
    assert encoder(values(2, 3, 4).astype(np.float32), is_causal=True).dtype == np.float32
    assert encoder(np.zeros((0, 3, 4), np.float32)).shape == (0, 3, 4)
    assert encoder([[1.0, 2.0, 3.0, 4.0]]).dtype == np.float32


# -- errors


def attend(*shapes: tuple[int, ...], batch_first: bool = False, **masks: Any) -> Any:
    module = nn.MultiheadAttention(4, 2, batch_first=batch_first)
    return module(*map(np.zeros, shapes), **masks)


ONE = [(3, 4), (2, 4), (2, 4)]
FAULTS: list[tuple[Callable[[], Any], str]] = [
    (lambda: nn.MultiheadAttention(5, 2), "5 features cannot be divided equally among 2 heads"),
    (lambda: nn.MultiheadAttention(4, 0), "4 features cannot be divided equally among 0 heads"),
    (lambda: nn.MultiheadAttention(4, -2), "4 features .* among -2 heads"),
    (lambda: nn.MultiheadAttention(0, 2), "0 features"),
    (lambda: attend((3, 5), (2, 4), (2, 4)), r"shapes \(3, 5\), .* must be \(L, batch, 4\)"),
    (lambda: attend((3, 1, 4), (2, 4), (2, 4)), r"\(3, 1, 4\), \(2, 4\), \(2, 4\)"),
    (lambda: attend((3, 4), (2, 4), (3, 4)), r"\(3, 4\), \(2, 4\), \(3, 4\)"),
    (lambda: attend((3, 2, 4), *[(2, 3, 4)] * 2, batch_first=True), r"be \(batch, L, 4\)"),
    (lambda: attend(*ONE, attn_mask=np.ones((2, 3), bool)), r"attn_mask .*\(3, 2\) or \(2, 3, 2\)"),
    (lambda: attend(*ONE, key_padding_mask=np.ones((1, 2), bool)), r"must be \(2,\)"),
    (lambda: nn.scaled_dot_product_attention(*map(np.zeros, [(2, 3), (2, 4), (2, 3)])), "do not"),
    (lambda: nn.scaled_dot_product_attention(*map(np.zeros, [(2, 3), (2, 3), (3, 3)])), "do not"),
    (lambda: nn.scaled_dot_product_attention(*map(np.zeros, [(3,), (2, 3), (2, 3)])), "do not"),
    (lambda: nn.scaled_dot_product_attention(*map(np.zeros, [(2, 3), (3,), (3,)])), "do not"),
    (lambda: nn.scaled_dot_product_attention(*map(np.zeros, [(2, 3), (2, 3), (2,)])), "do not"),
    (lambda: nn.TransformerEncoderLayer(4, 2, activation="swish"), "use one of .*relu.*gelu"),
    (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2), -1),
        "num_layers=-1 must be an integer of at least 1",
    ),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_errors_name_the_layer_the_shapes_and_the_cure(
    fault: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fault()


def test_two_masks_at_once_are_refused() -> None:
    x = np.ones((1, 2, 3))
    for mask in np.ones((2, 2), bool), np.zeros((2, 2)):
        with pytest.raises(ValueError, match="is_causal=True or attn_mask, not both"):
            nn.scaled_dot_product_attention(x, x, x, mask, is_causal=True)


def test_a_mask_of_integers_is_an_error() -> None:
    with pytest.raises(TypeError, match="attn_mask: a mask of dtype int"):
        attend(*ONE, attn_mask=np.ones((3, 2), int))


def test_grouped_queries_share_keys_and_values() -> None:
    q, k, v = values(2, 6, 3, 4), values(2, 3, 5, 4, seed=1), values(2, 2, 5, 2, seed=2)
    y = nn.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    expected = nn.scaled_dot_product_attention(
        q, np.repeat(k, 2, 1), np.repeat(v, 3, 1), is_causal=True
    )
    assert_array_equal(y, expected)
    for query, key in ((5, 2, 2), (2, 2, 2)), ((2, 2), (2, 2)), ((2, 2, 2), (0, 2, 2)):
        with pytest.raises(ValueError, match="with enable_gqa, the number of heads"):
            nn.scaled_dot_product_attention(
                np.ones(query), np.ones(key), np.ones(key), enable_gqa=True
            )


def test_a_transformer_is_its_encoder_and_its_decoder() -> None:
    net = nn.Transformer(4, 2, 2, 2, 3, batch_first=True, rng=0).eval()
    src, tgt, padding = values(2, 5, 4), values(2, 3, 4, seed=1), np.arange(5) > [[3], [4]]
    memory = net.encoder(src, src_key_padding_mask=padding)
    expected = net.decoder(tgt, memory, memory_key_padding_mask=padding, tgt_is_causal=True)
    y = net(
        src,
        tgt,
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
        tgt_is_causal=True,
    )
    assert_array_equal(y.data, expected.data)
    shorter = net(src[:1, :4], tgt[:1, :2], tgt_is_causal=True)
    assert_allclose(y.data[:1, :2], shorter.data, rtol=1e-12)  # without padding and what is later
    for p in net.parameters():
        if p.ndim > 1:
            bound = (6 / sum(p.shape)) ** 0.5
            assert 0.5 * bound < np.abs(p.data).max() <= bound
    shared = {id(m.rng) for m in net.modules() if isinstance(m, nn.Dropout)}
    assert len(shared) == 1
    assert_allclose(tg.compile(lambda a, b: net(a, b))(src, tgt).data, net(src, tgt).data)
    own = nn.Transformer(4, 2, custom_encoder=nn.Identity(), num_decoder_layers=1, batch_first=True)
    assert isinstance(own.encoder, nn.Identity)


def test_the_mask_of_later_steps_is_that_of_is_causal() -> None:
    net = nn.Transformer(4, 2, 1, 1, 3, batch_first=True, rng=0).eval()
    src, tgt = values(2, 3, 4), values(2, 4, 4, seed=1)
    mask = net.generate_square_subsequent_mask(4)
    assert net.astype(np.float32)(np.float32(src), np.float32(tgt), tgt_mask=mask).dtype == "f4"
    assert net.generate_square_subsequent_mask(4, np.float16).dtype == np.float16
    y = net(src, tgt, tgt_mask=mask)
    assert_allclose(y.data, net(src, tgt, tgt_is_causal=True).data, rtol=1e-12)


def test_a_transformer_of_pytorchs_weights() -> None:
    torch = pytest.importorskip("torch")
    options: Any = {"dim_feedforward": 3, "batch_first": True, "dropout": 0.0}
    theirs = torch.nn.Transformer(4, 2, 1, 2, **options).double().train()
    ours = nn.Transformer(4, 2, 1, 2, **options).eval()
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    src, tgt = values(2, 3, 4), values(2, 2, 4, seed=1)
    expected = theirs(torch.tensor(src), torch.tensor(tgt)).detach().numpy()
    assert_allclose(ours(src, tgt).numpy(), expected, rtol=1e-9, atol=1e-11)


def test_grouped_queries_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    q, k = values(2, 4, 3, 2), values(2, 2, 5, 2, seed=1)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.tensor, (q, k, k)), enable_gqa=True
    )
    ours = nn.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    assert_allclose(ours, theirs.numpy(), rtol=1e-12)


def test_a_decoder_needs_a_layer() -> None:
    layer = nn.TransformerDecoderLayer(4, 2, 3)
    with pytest.raises(ValueError, match="TransformerDecoder: num_layers=0 must be"):
        nn.TransformerDecoder(layer, 0)


def test_a_mask_leaves_the_dtype_of_the_scores() -> None:
    x, mask = np.ones((1, 3, 4), np.float32), np.zeros((3, 3))
    assert nn.scaled_dot_product_attention(x, x, x, mask).dtype == np.float32
    layer = nn.MultiheadAttention(4, 2, batch_first=True, dtype=np.float32)
    assert layer(x, x, x, attn_mask=mask)[0].dtype == np.float32
