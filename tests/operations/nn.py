"""Layers as functions: convolution, pooling, normalization, embedding, dropout."""

import numpy as np

import tensorgrad as tg
from tensorgrad import nn

from .row import Domain, Op, distinct, halfway, nonzero, positive, reals

wide = distinct._replace(values=tuple(k / 16 for k in range(-80, 81)))
# Places in and outside of an image, not those of its elements.
places = Domain(tuple(k / 32 for k in (-41, -27, -17, 5, 15, 21, 29, 37)))

ROWS = [
    # -- convolution
    Op("conv1d", nn.conv1d, reals, reals, shapes=[((2, 1, 4), (1, 1, 2)), ((2, 3), (3, 2, 2)), ((0, 1, 2), (1, 1, 2))]),
    Op("conv1d bias, stride 2, padding 1", lambda x, w, b: nn.conv1d(x, w, b, 2, 1), reals, reals, reals, shapes=[((2, 2, 5), (3, 2, 3), (3,))]),
    Op("conv1d squared", lambda x, w: nn.conv1d(x, w) ** 2, reals, reals, shapes=[((2, 1, 4), (2, 1, 2))]),
    Op("conv1d same", lambda x, w: nn.conv1d(x, w, padding="same"), reals, reals, shapes=[((1, 1, 4), (1, 1, 2)), ((2, 1, 7), (2, 1, 3))]),
    Op("conv2d", nn.conv2d, reals, reals, shapes=[((1, 2, 3, 3), (2, 2, 2, 2)), ((1, 3, 2), (1, 1, 2, 1))]),
    Op("conv2d bias", nn.conv2d, reals, reals, reals, shapes=[((2, 1, 2, 6), (2, 1, 2, 2), (2,))]),
    Op("conv2d groups, dilation, padding", lambda x, w: nn.conv2d(x, w, None, (1, 2), (1, 0), (2, 1), 2), reals, reals, shapes=[((1, 2, 3, 5), (4, 1, 2, 2))]),
    Op("conv2d stride, one channel per group", lambda x, w: nn.conv2d(x, w, None, 2, 1, 1, 2), reals, reals, shapes=[((1, 2, 4, 3), (2, 1, 3, 2))]),
    Op("conv2d stacked", nn.conv2d, reals, reals, shapes=[((2, 1, 3, 3), (5, 1, 2, 2))]),
    Op("conv3d", lambda x, w: nn.conv3d(x, w, None, (1, 2, 1), (0, 1, 0)), reals, reals, shapes=[((1, 2, 2, 2, 3), (2, 2, 2, 1, 2))]),
    Op("conv_transpose1d", lambda x, w, b: nn.conv_transpose1d(x, w, b, 2, 1, 1), reals, reals, reals, shapes=[((2, 2, 3), (2, 3, 3), (3,)), ((2, 3), (2, 1, 2), (1,))]),
    Op("conv_transpose2d", nn.conv_transpose2d, reals, reals, shapes=[((1, 2, 2, 3), (2, 1, 2, 2)), ((0, 1, 2, 2), (1, 1, 2, 2))]),
    Op("conv_transpose2d options", lambda x, w: nn.conv_transpose2d(x, w, None, (1, 2), (2, 0), (1, 0), 2, (2, 1)), reals, reals, shapes=[((1, 2, 3, 2), (2, 2, 2, 3))]),
    Op("conv_transpose3d", lambda x, w: nn.conv_transpose3d(x, w, None, 2) ** 2, reals, reals, shapes=[((1, 1, 1, 1, 2), (1, 1, 2, 2, 2))]),
    Op("Conv1d circular", lambda x, w, b: _with(nn.Conv1d(1, 2, 3, padding=1, padding_mode="circular", rng=0), w, b)(x), reals, reals, reals, shapes=[((2, 1, 3), (2, 1, 3), (2,))]),
    # -- padding and rearrangement
    Op("nn.pad", lambda x: nn.pad(x, (1, -1, 0, 2), value=0.5), reals, shapes=[(2, 3), (2, 1, 3)]),
    Op("nn.pad reflect", lambda x: nn.pad(x, (2, 1), "reflect") ** 2, reals, shapes=[(2, 3)]),
    Op("unfold", lambda x: nn.unfold(x, (2, 1), 1, (1, 0), 2), reals, shapes=[(2, 1, 3, 2), (1, 2, 3), (0, 1, 2, 2)]),
    Op("fold", lambda x: nn.fold(x, (2, 3), 2, 1, 1, (2, 1)), reals, shapes=[(1, 8, 8), (4, 8), (0, 4, 8)]),
    Op("unfold squared", lambda x: nn.unfold(x, 2) ** 2, reals, shapes=[(1, 3, 3)]),
    Op("pixel_shuffle", lambda x: nn.pixel_shuffle(x, 2), reals, shapes=[(1, 4, 1, 2), (8, 2, 1)]),
    Op("pixel_unshuffle", lambda x: nn.pixel_unshuffle(x, 2), reals, shapes=[(1, 1, 2, 4), (1, 4, 2)]),
    Op("channel_shuffle", lambda x: nn.channel_shuffle(x, 2), reals, shapes=[(1, 4, 2), (2, 2, 1, 1)]),
    # -- pooling
    Op("max_pool1d", lambda x: nn.max_pool1d(x, 2), distinct, shapes=[(1, 5), (2, 1, 4), (0, 2, 2)], analytic=False),
    Op("max_pool2d 3, stride 2, padding 1, squared", lambda x: nn.max_pool2d(x, 3, 2, 1) ** 2, distinct, shapes=[(1, 4, 5)], analytic=False),
    Op("max_pool2d dilation, ceil", lambda x: nn.max_pool2d(x, 2, 2, 0, (2, 1), True), wide, shapes=[(1, 2, 5, 6)], analytic=False),
    Op("max_pool3d", lambda x: nn.max_pool3d(x, (1, 2, 2), 1), distinct, shapes=[(1, 2, 2, 3)], analytic=False),
    Op("max_pool2d with indices", lambda x: nn.max_pool2d(x, 2, 1, 1, 1, False, True)[0] ** 2, distinct, shapes=[(1, 3, 4), (0, 1, 2, 2)], analytic=False),
    Op("adaptive_max_pool2d", lambda x: nn.adaptive_max_pool2d(x, (2, None)) ** 2, distinct, shapes=[(1, 3, 2), (2, 1, 2, 2)], analytic=False),
    Op("max_unpool1d", lambda x: nn.max_unpool1d(x, [[0, 3]], 2), reals, shapes=[(1, 2)]),
    Op("max_unpool2d", lambda x: nn.max_unpool2d(x, [[[3, 1], [8, 12]]], 2, 2, 0, (4, 5)) ** 2, reals, shapes=[(1, 2, 2)]),
    Op("avg_pool3d", lambda x: nn.avg_pool3d(x, (1, 2, 2), 1), reals, shapes=[(1, 1, 2, 2, 3)]),
    Op("lp_pool1d", lambda x: nn.lp_pool1d(x, 2, 2, 1), nonzero, shapes=[(1, 4)], analytic=False),
    Op("lp_pool2d", lambda x: nn.lp_pool2d(x, 3, 2), positive, shapes=[(1, 2, 4)]),
    Op("adaptive_avg_pool3d", lambda x: nn.adaptive_avg_pool3d(x, (1, 2, None)), reals, shapes=[(1, 2, 3, 1)]),
    # -- sampling
    Op("interpolate nearest", lambda x: nn.interpolate(x, (2, 5)) ** 2, reals, shapes=[(1, 1, 3, 2)]),
    Op("interpolate linear", lambda x: nn.interpolate(x, scale_factor=1.5, mode="linear") ** 2, reals, shapes=[(1, 2, 4), (0, 1, 2)]),
    Op("interpolate bicubic", lambda x: nn.interpolate(x, (3, 4), mode="bicubic", align_corners=True), reals, shapes=[(1, 1, 2, 3)]),
    Op("interpolate area", lambda x: nn.interpolate(x, 2, mode="area"), reals, shapes=[(1, 1, 3)]),
    Op("affine_grid", lambda theta: nn.affine_grid(theta, (2, 1, 2, 3)) ** 2, reals, shapes=[(2, 2, 3)]),
    Op("grid_sample", nn.grid_sample, reals, places, shapes=[((1, 2, 3, 4), (1, 2, 1, 2)), ((2, 1, 2, 2, 2), (2, 1, 1, 2, 3))], analytic=False),
    Op("grid_sample bicubic", lambda x, grid: nn.grid_sample(x, grid, "bicubic", "border"), reals, places, shapes=[((1, 1, 3, 3), (1, 1, 2, 2))], analytic=False),
    Op("grid_sample reflection", lambda x, grid: nn.grid_sample(x, grid, "bilinear", "reflection", True), reals, places, shapes=[((1, 1, 3, 4), (1, 1, 2, 2))], analytic=False),
    Op("grid_sample nearest", lambda x: nn.grid_sample(x, [[[[0.3, -0.4], [1.5, 0.0]]]], "nearest"), reals, shapes=[(1, 2, 3, 4)]),
    Op("avg_pool1d", lambda x: nn.avg_pool1d(x, 2, 1), reals, shapes=[(1, 5), (0, 2, 2)]),
    Op("avg_pool2d padding, ceil", lambda x: nn.avg_pool2d(x, 3, 2, 1, True), reals, shapes=[(1, 4, 5)]),
    Op("avg_pool2d padding not counted", lambda x: nn.avg_pool2d(x, 2, 2, 1, count_include_pad=False), reals, shapes=[(1, 2, 3)]),
    Op("adaptive_avg_pool1d", lambda x: nn.adaptive_avg_pool1d(x, 2), reals, shapes=[(1, 5), (0, 1, 2)]),
    Op("adaptive_avg_pool2d", lambda x: nn.adaptive_avg_pool2d(x, (2, None)), reals, shapes=[(1, 3, 2), (2, 1, 2, 2)]),
    Op("avg_pool1d squared", lambda x: nn.avg_pool1d(x, 2) ** 2, reals, shapes=[(1, 4)]),
    # -- normalization
    Op("layer_norm", lambda x: nn.layer_norm(x, x.shape[-1:]), distinct, shapes=[(3,), (2, 3), (0, 2)]),
    Op("layer_norm two axes", lambda x, w, b: nn.layer_norm(x, (2, 2), w, b), distinct, reals, reals, shapes=[((2, 2, 2), (2, 2), (2, 2))]),
    Op("layer_norm weight alone", lambda x, w: nn.layer_norm(x, 3, w, eps=0.1), distinct, reals, shapes=[((2, 3), (3,))]),
    Op("batch_norm", lambda x: nn.batch_norm(x, training=True), distinct, shapes=[(3, 2), (2, 2, 3), (2, 1, 2, 2)]),
    Op("batch_norm weight, bias", lambda x, w, b: nn.batch_norm(x, None, None, w, b, True), distinct, reals, reals, shapes=[((3, 2), (2,), (2,)), ((2, 1, 2), (1,), (1,))]),
    Op("batch_norm bias alone", lambda x, b: nn.batch_norm(x, None, None, None, b), distinct, reals, shapes=[((3, 2), (2,))]),
    Op("batch_norm in use", lambda x, w, b: nn.batch_norm(x, np.ones(2, "e"), np.full(2, 4, "e"), w, b), reals, reals, reals, shapes=[((3, 2), (2,), (2,)), ((0, 2, 1), (2,), (2,))]),
    # -- others
    Op("embedding", lambda w: nn.embedding([[0, 2, 2], [1, 0, 2]], w), reals, shapes=[(3, 2)]),
    Op("embedding_bag sum", lambda w, s: nn.embedding_bag([0, 2, 2, 1], w, [0, 1, 1], "sum", s), reals, reals, shapes=[((3, 2), (4,))]),
    Op("embedding_bag mean", lambda w: nn.embedding_bag([[0, 2, 2], [1, 0, 2]], w, padding_idx=0), reals, shapes=[(3, 2)]),
    Op("embedding_bag max", lambda w: nn.embedding_bag([0, 2, 1, 1], w, [0, 2, 2, 4], "max", include_last_offset=True), distinct, shapes=[(3, 2)], analytic=False),
    Op("dropout", lambda x: nn.dropout(x, 0.5, rng=1), reals),
    Op("dropout1d", lambda x: nn.dropout1d(x, 0.5, rng=1), reals, shapes=[(3, 2), (0, 2, 2)]),
    Op("dropout2d", lambda x: nn.dropout2d(x, 0.25, rng=1), reals, shapes=[(1, 3, 2, 1)]),
    Op("dropout3d", lambda x: nn.dropout3d(x, 0.25, rng=1), reals, shapes=[(3, 1, 2, 1)]),
    Op("alpha_dropout", lambda x: nn.alpha_dropout(x, 0.25, True, rng=1), reals),
    Op("feature_alpha_dropout", lambda x: nn.feature_alpha_dropout(x, 0.25, True, rng=1), reals, shapes=[(2, 3), (2, 2, 2)]),
    # -- distances
    Op("cdist", nn.cdist, distinct, halfway, shapes=[((2, 3), (4, 3)), ((2, 1, 2, 2), (2, 1, 2)), ((0, 2), (3, 2)), ((3, 1), (0, 1))], analytic=False),
    Op("cdist 1", lambda x, y: nn.cdist(x, y, 1), distinct, halfway, shapes=[((2, 3), (2, 3))], analytic=False),
    Op("cdist 3", lambda x, y: nn.cdist(x, y, 3), distinct, halfway, shapes=[((2, 2), (3, 2))], analytic=False),
    Op("cdist inf", lambda x, y: nn.cdist(x, y, np.inf), distinct, halfway, shapes=[((1, 1), (3, 1))], analytic=False),
    Op("pdist", nn.pdist, distinct, shapes=[(3, 2), (1, 2)], analytic=False),
    Op("Linear", lambda x, w, b: _with(nn.Linear(2, 3, rng=0), w, b)(x), reals, reals, reals, shapes=[((2,), (3, 2), (3,)), ((0, 2), (3, 2), (3,)), ((2, 2, 2), (3, 2), (3,))]),
]  # fmt: skip


def _with(layer: nn.Linear, weight: object, bias: object) -> nn.Linear:
    layer.weight, layer.bias = tg.asarray(weight), tg.asarray(bias)
    return layer
