"""Names from other libraries, and what to write here instead: the table that errors quote.

Each cure is a line of Python, which may end in a comment, or just a comment. In it, `t` is a
tensor, `a` a square matrix, `net` a module, `x` and `y` are arrays, and `f` is a function of
arrays.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from opcode import opmap
from types import FrameType
from typing import Any, NoReturn, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C")

_CPU = "# leave it out: tensors are NumPy arrays, on the CPU"
_DTYPE = "t.astype(np.{})"
_RNG = "tg.Tensor(np.random.default_rng(0).{})"
_PARAMETER = "tg.Tensor(np.zeros(3), requires_grad=True)  # an attribute of a module"
_LOSS = "tg.nn.{}  # a function of prediction and target"
_LAMBDA = "tg.optim.LambdaLR(optimizer, lambda t: 1 / (1 + t))  # any function of the step"
_BATCHES = "tg.data.batches((x, y), batch_size=32, shuffle=True)"
_SCALAR = "tensorgrad.scalar.{}  # one number at a time; tg.Tensor is for arrays"

CURES: dict[str, dict[str, str]] = {
    "Tensor": {
        # shapes
        "view view_as reshape_as": "t.reshape(-1, 4)",
        "unsqueeze": "np.expand_dims(t, axis=0)",
        "permute": "t.transpose(2, 0, 1)",
        "t": "t.T",
        "H mH adjoint": "np.conj(t).mT",
        "movedim": "np.moveaxis(t, 0, -1)",
        "expand expand_as": "np.broadcast_to(t, (5, 2, 3, 4))",
        "repeat_interleave": "t.repeat(2, axis=0)",
        "unflatten": "t.reshape(2, 3, 2, 2)",
        "chunk": "np.array_split(t, 3, axis=-1)",
        "split tensor_split": "np.split(t, [1, 3], axis=-1)  # the indices of the cuts, not sizes",
        "unbind": "np.unstack(t, axis=0)",
        "dim ndimension": "t.ndim",
        "numel nelement": "t.size",
        "contiguous is_contiguous": "# leave it out: operations copy if they must",
        "stride": "t.data.strides  # t.data is the array",
        "narrow": "t[:, 1:3]",
        "select": "t[:, 1]",
        "index_select": "t.take([0, 1], axis=0)",
        "gather take_along_dim": "np.take_along_axis(t, index, axis=0)",
        "scatter scatter_ put_ index_copy_": "t[0] = 1.0  # an index may be an array",
        "scatter_add scatter_add_ index_add index_add_": (
            "np.eye(5)[[0, 0, 2]].T @ t[0]  # adds the three rows to rows 0, 0 and 2"
        ),
        "at": "t[0] = 1.0  # of t.copy(), if the old value is needed",
        "masked_fill": "np.where(t > 0, 0.0, t)",
        "masked_fill_": "t[t > 0] = 0.0",
        "masked_select": "t[t > 0]",
        "where": "np.where(t > 0, t, 0.0)",
        "flat": "t.reshape(-1)  # a view where possible",
        "unfold": "np.lib.stride_tricks.sliding_window_view(t, 2, axis=-1)",
        # memory
        "clone": "t.copy()",
        "cpu cuda pin_memory share_memory_ is_cuda to_sparse block_until_ready layout "
        "devices": _CPU,
        "to": "t.astype(np.float32)  # tensors are NumPy arrays, on the CPU",
        "float": _DTYPE.format("float32"),
        "double": _DTYPE.format("float64"),
        "half": _DTYPE.format("float16"),
        "long": _DTYPE.format("int64"),
        "int": _DTYPE.format("int32"),
        "bool": _DTYPE.format("bool"),
        "type type_as": "t.astype(np.float32)",
        "is_floating_point": "t.dtype.kind == 'f'",
        "is_complex": "t.dtype.kind == 'c'",
        "angle": "np.angle(t)",
        "sgn": "np.sign(t)",
        "resolve_conj conj_physical": "t.conj()",
        "element_size": "t.itemsize",
        "strides flags base ctypes": "t.data.strides  # t.data is the array",
        "tobytes data_ptr storage": "t.data.tobytes()  # t.data is the array",
        "new_zeros": "tg.zeros(3, dtype=t.dtype)",
        "new_ones": "tg.ones(3, dtype=t.dtype)",
        "new_tensor": "tg.Tensor([1.0, 2.0], dtype=t.dtype)",
        # gradients
        "requires_grad_": "w.requires_grad = True",
        "grad_fn": "t.is_leaf  # False if an operation computed it",
        "detach_": "t = t.detach()",
        # in place
        "add_": "t += 1.0",
        "sub_": "t -= 1.0",
        "mul_": "t *= 2.0",
        "div_": "t /= 2.0",
        "pow_": "t **= 2.0",
        "clamp_ clip_": "t[...] = t.clip(0.0, 1.0)",
        "zero_": "t.fill(0.0)",
        "fill_": "t.fill(1.0)",
        "copy_": "t[...] = 1.0",
        "normal_": "w.data = rng.normal(size=w.shape)",
        "uniform_": "w.data = rng.uniform(-1, 1, size=w.shape)",
        # products and other functions
        "mm bmm mv matmul": "t @ t.mT",
        "norm": "np.linalg.norm(t)",
        "clamp": "t.clip(0.0, 1.0)",
        "clamp_min": "np.maximum(t, 0.0)",
        "clamp_max": "np.minimum(t, 1.0)",
        "add": "t + 1.0",
        "sub": "t - 1.0",
        "mul": "t * 2.0",
        "div": "t / 2.0",
        "pow": "t**2",
        "neg": "-t",
        "rsqrt": "t**-0.5",
        "eq": "t == 1.0",
        "ne": "t != 1.0",
        "lt": "t < 1.0",
        "le": "t <= 1.0",
        "gt": "t > 1.0",
        "ge": "t >= 1.0",
        "topk": "tg.argsort(t, axis=-1, descending=True)[..., :2]  # the indices",
        "msort": "np.sort(t, axis=0)",
        "logsumexp": "tg.nn.logsumexp(t, axis=1)",
        "softmax": "tg.nn.softmax(t, axis=1)",
        "log_softmax": "tg.nn.log_softmax(t, axis=1)",
        "amax": "t.max(axis=1)",
        "amin": "t.min(axis=1)",
        **{name: f"np.{name}(t)" for name in (
            "abs", "absolute", "acos", "arccos", "arcsin", "arctan", "argwhere", "asin", "atan",
            "average", "ceil", "cos", "cosh", "count_nonzero", "diff", "exp2", "expm1", "flip",
            "floor", "gradient", "isfinite", "isinf", "isnan", "log10", "log1p", "log2",
            "logical_not", "median", "nan_to_num", "nanmean", "nansum", "reciprocal", "sign",
            "sin", "sinc", "sinh", "sqrt", "square", "tan", "tril", "triu", "trunc", "unique",
        )},
        **{name: f"np.{name}(t, t)" for name in (
            "allclose", "arctan2", "array_equal", "atan2", "copysign", "divide", "floor_divide",
            "fmod", "heaviside", "hypot", "inner", "isclose", "kron", "logaddexp", "logical_and",
            "logical_or", "maximum", "minimum", "multiply", "outer", "remainder", "subtract",
            "true_divide",
        )},
        **{name: f"np.{name}(t, 2)" for name in ("percentile", "roll", "tile")},
        "quantile": "np.quantile(t, 0.5)",
        "diag": "np.diag(a)",
        "cov": "np.cov(a)",
        "inverse inv": "np.linalg.inv(a)",
        "det": "np.linalg.det(a)",
        "svd": "np.linalg.svd(a)",
        "cholesky": "np.linalg.cholesky(a)",
        **{f"{name}_": f"t[...] = np.{name}(t)" for name in (
            "abs", "ceil", "cos", "exp", "floor", "log", "round", "sin", "sqrt", "square", "tanh",
        )},
        "neg_": "t *= -1",
        "relu_": "t[...] = t.relu()",
        "sigmoid_": "t[...] = t.sigmoid()",
        **{name: f"tg.nn.{name}(t)" for name in ("gelu", "leaky_relu", "elu", "silu", "softplus")},
        **{name: f"tg.special.{name}(t)" for name in ("erf", "erfc", "digamma", "logit")},
        "lgamma": "tg.special.gammaln(t)",
    },
    "Module": {
        "cpu cuda": _CPU,
        "to type": "net = net.astype(np.float32)  # a copy, on the CPU as all are",
        "float": "net = net.astype(np.float32)  # a copy",
        "double": "net = net.astype(np.float64)  # a copy",
        "half": "net = net.astype(np.float16)  # a copy",
        "add_module register_module": "net.head = tg.nn.Linear(3, 2)  # an attribute is enough",
        "register_backward_hook": (
            "net.register_full_backward_hook(lambda module, grad_input, grad_output: None)"
        ),
        "init": "[m for m in net.modules() if isinstance(m, tg.nn.Linear)]",
        "fit": "tg.fit(net, tg.nn.mse_loss, batches, epochs=1, progress=False)",
        "predict": "net.eval()(x)",
        "score": "tg.training.accuracy(net(x), np.zeros(12, int))",
        "evaluate": "tg.training.evaluate(net, tg.nn.mse_loss, batches)",
        "compile": "tg.compile(step)  # a function of a training step; tg.fit compiles by itself",
        "get_weights": "net.state_dict()",
        "load": "net.load_state_dict(net.state_dict())  # or net.load_state('net.npz')",
        "set_weights load_weights": "net.load_state_dict(net.state_dict())",
        "trainable_variables trainable_weights": "net.parameters()",
        "count_params": "print(net)  # the number of parameters is in the last line",
    },
    "Sequential": {
        "append extend insert add": "net = tg.nn.Sequential(*net, tg.nn.ReLU())",
    },
    "LRScheduler": {
        "get_lr": "schedule.get_last_lr()",
    },
    "Optimizer": {
        "lr learning_rate": "optimizer.param_groups[0]['lr'] = 0.01",
        "minimize apply_gradients": "optimizer.step()  # after zero_grad() and loss.backward()",
        "init update": "optimizer.step()  # updates the parameters in place",
    },
    "History": {
        "history loss epoch": "history['loss']  # a list with one value for each epoch",
    },
    "tensorgrad": {
        # PyTorch
        "tensor": "tg.Tensor([1.0, 2.0], requires_grad=True)",
        "as_tensor": "tg.asarray([1.0, 2.0])",
        "from_numpy": "tg.asarray(x, copy=False)",
        "FloatTensor": "tg.Tensor([1.0, 2.0], dtype=np.float32)",
        "DoubleTensor": "tg.Tensor([1.0, 2.0], dtype=np.float64)",
        "LongTensor": "tg.Tensor([1, 2], dtype=np.int64)",
        "float": "tg.float32",
        "double": "tg.float64",
        "long": "tg.int64",
        "int": "tg.int32",
        "cat": "tg.concat([t, t], axis=0)",
        "rand": _RNG.format("uniform(size=(2, 3))"),
        "randn normal": _RNG.format("normal(size=(2, 3))"),
        "randint": _RNG.format("integers(0, 10, size=(2, 3))"),
        "randperm": "np.random.default_rng(0).permutation(10)",
        "bernoulli": "np.random.default_rng(0).random((2, 3)) < 0.5",
        "manual_seed seed": "rng = np.random.default_rng(0)  # pass it, or a seed, as rng=",
        "random PRNGKey": "rng = np.random.default_rng(0)  # pass it, or a seed, as rng=",
        "Generator": "np.random.default_rng(0)",
        "set_grad_enabled": "tg.enable_grad()  # or tg.no_grad()",
        "inference_mode": "tg.no_grad()",
        "is_tensor": "isinstance(t, tg.Tensor)",
        "autograd": "tg.grad(f)  # or t.backward(); tg.differentiable in place of a Function",
        "set_default_dtype": "tg.Tensor([1.0], dtype=np.float32)  # and dtype= of layers",
        "device cuda device_put backends": _CPU,
        "functional F": "tg.nn.softmax(t, axis=1)  # functions are in tg.nn",
        "view": "t.reshape(-1, 4)",
        "unsqueeze": "tg.expand_dims(t, axis=0)",
        "permute": "tg.permute_dims(t, (2, 0, 1))",
        "clamp": "tg.clip(t, 0.0, 1.0)",
        "clone": "t.copy()",
        "numel": "t.size",
        "mm bmm mv": "t @ t.mT",
        "mul": "t * 2.0",
        "div": "t / 2.0",
        "sub": "t - 1.0",
        "neg": "-t",
        "rsqrt": "t**-0.5",
        "norm": "np.linalg.norm(t)",
        "topk": "tg.argsort(t, axis=-1, descending=True)[..., :2]  # the indices",
        "gather": "tg.take_along_axis(t, index, axis=0)",
        "scatter": "t[0] = 1.0  # an index may be an array",
        "masked_select": "t[t > 0]",
        "chunk": "np.array_split(t, 3, axis=-1)",
        "sgn": "tg.sign(t)",
        "Parameter": _PARAMETER,
        "utils": "tg.data.batches((x, y), batch_size=32)  # or tg.optim.clip_grad_norm",
        # JAX, HIPS autograd, others
        "jit": "tg.compile(f)",
        "pmap": "tg.vmap(f)",
        "custom_vjp custom_jvp primitive custom_gradient": (
            "tg.differentiable(lambda g, out, x: g * np.cos(x))(np.sin)"
        ),
        "defvjp defjvp": "tg.differentiable(lambda g, out, x: g * np.cos(x))(np.sin)",
        "view_as_real": "np.stack([np.real(t), np.imag(t)], axis=-1)",
        "view_as_complex": "t[..., 0] + 1j * t[..., 1]",
        "polar": "t * np.exp(1j * t)",
        "holomorphic_grad": "tg.grad(f, holomorphic=True)",
        "make_vjp": "tg.vjp(f, t)",
        "make_jvp": "tg.linearize(f, x)",
        "make_hvp hessian_vector_product": "tg.hvp(f, (x,), (x,))",
        "remat": "tg.checkpoint(f)",
        "make_jaxpr eval_shape": "print(tg.compile(f).lower(x))",
        "disable_jit": "# call the function itself, not the result of tg.compile",
        "pure_callback": "tg.differentiable(lambda g, out, x: g * np.cos(x))(np.sin)",
        "block_until_ready devices default_backend": _CPU,
        "Array": "tg.Tensor([1.0, 2.0])",
        "func deriv": "tg.grad(f)",
        "flatten": "t.reshape(len(t), -1)",
        "ravel_pytree flatten_util": "tg.ravel({'w': x})",
        "tree_map tree_util pytree": (
            "tg.tree.map(lambda w: w - 0.1 * w, {'w': x})  # and tg.tree.register for classes"
        ),
        "lax": "tg.scan(lambda c, v: (c + v, c), x[0], x)  # and tg.cond, tg.while_loop",
        "switch": "tg.cond(np.sum(x) > 0, np.sin, np.cos, x)  # nested for more cases",
        "numpy": "import numpy as np  # its functions take tensors",
        "np": "import numpy as np  # its functions take tensors",
        "Value": _SCALAR.format("Value"),
        "GradientTape": "t.backward()  # operations are always recorded",
        "Variable": _PARAMETER,
        "constant": "tg.Tensor([1.0, 2.0])",
        "layers models losses": "tg.nn.Linear(3, 2)  # layers and losses are in tg.nn",
        "optimizers": "tg.optim.Adam(net.parameters(), lr=0.001)",
        "metrics": "tg.training.accuracy",
        "callbacks": "tg.EarlyStopping(patience=3)  # callbacks= of tg.fit are functions",
        "keras": "tg.nn.Sequential(tg.nn.Linear(3, 8), tg.nn.ReLU(), tg.nn.Linear(8, 1))",
    },
    "tensorgrad.nn": {
        "functional F": "tg.nn.softmax(t, axis=1)  # functions are in tg.nn itself",
        "Parameter": _PARAMETER,
        "initializers": "w.data = rng.normal(0, 0.02, size=w.shape)",
        "utils": "tg.optim.clip_grad_norm(net.parameters(), 1.0)  # and tg.nn.pad_sequence",
        "pack_padded_sequence pad_packed_sequence pack_sequence PackedSequence": (
            "tg.nn.LSTM(3, 4)(np.ones((5, 2, 3)), lengths=[5, 3])"
        ),
        "Dense": "tg.nn.Linear(3, 2)",
        "LazyLinear": "tg.nn.Linear(3, 2)  # with the sizes",
        "tanh": "np.tanh(t)",
        "swish": "tg.nn.silu(t)",
        "logsigmoid": "tg.nn.log_sigmoid(t)",
        "FractionalMaxPool2d FractionalMaxPool3d fractional_max_pool2d fractional_max_pool3d": (
            "tg.nn.AdaptiveMaxPool2d(1)  # whose windows are fixed"
        ),
        "upsample upsample_nearest upsample_bilinear": "tg.nn.interpolate(t, scale_factor=2)",
        "multi_head_attention_forward": "tg.nn.MultiheadAttention(4, num_heads=2)",
        "linear_cross_entropy": "tg.nn.cross_entropy(net(x), np.zeros(12, int))",
        "relu_ elu_ selu_ celu_ leaky_relu_ hardtanh_ threshold_": "t[...] = tg.nn.relu(t)",
        "TripletMarginWithDistanceLoss": _LOSS.format("triplet_margin_with_distance_loss"),
        "LazyConv2d LazyBatchNorm2d": "tg.nn.Conv2d(3, 8, 3)  # with the sizes",
        "Buffer": "net.register_buffer('mean', np.zeros(3))",
        "SyncBatchNorm": "tg.nn.BatchNorm2d(3)",
        "normalize": "t / np.linalg.norm(t, axis=1, keepdims=True)",
        "DataParallel": _CPU,
        "CrossEntropyLoss": _LOSS.format("cross_entropy"),
        "CTCLoss": "tg.nn.ctc_loss  # a function of log_probs, targets and their lengths",
        "NLLLoss": _LOSS.format("nll_loss"),
        "MSELoss": _LOSS.format("mse_loss"),
        "L1Loss": _LOSS.format("l1_loss"),
        "HuberLoss": _LOSS.format("huber_loss"),
        "SmoothL1Loss": _LOSS.format("smooth_l1_loss"),
        "BCELoss": _LOSS.format("binary_cross_entropy"),
        "BCEWithLogitsLoss": _LOSS.format("binary_cross_entropy_with_logits"),
        "KLDivLoss": _LOSS.format("kl_div"),
        "HingeEmbeddingLoss": _LOSS.format("hinge_embedding_loss"),
        "CosineEmbeddingLoss": "tg.nn.cosine_embedding_loss  # a function of pairs and targets",
        "GaussianNLLLoss": _LOSS.format("gaussian_nll_loss"),
        "PoissonNLLLoss": _LOSS.format("poisson_nll_loss"),
        "MarginRankingLoss": _LOSS.format("margin_ranking_loss"),
        "SoftMarginLoss": _LOSS.format("soft_margin_loss"),
        "MultiMarginLoss": _LOSS.format("multi_margin_loss"),
        "MultiLabelMarginLoss": _LOSS.format("multilabel_margin_loss"),
        "MultiLabelSoftMarginLoss": _LOSS.format("multilabel_soft_margin_loss"),
        "TripletMarginLoss": _LOSS.format("triplet_margin_loss"),
        "PairwiseDistance": "tg.nn.pairwise_distance(t, t)",
        "CosineSimilarity": "tg.nn.cosine_similarity(t, t, axis=1)",
    },
    "tensorgrad.optim": {
        "lr_scheduler": "tg.optim.StepLR(optimizer, 10)  # schedules are in tg.optim itself",
        "clip_grad_norm_": "tg.optim.clip_grad_norm(net.parameters(), 1.0)",
        "clip_grad_value_": "tg.optim.clip_grad_value(net.parameters(), 1.0)",
        "swa_utils AveragedModel": "tg.optim.ExponentialMovingAverage(net.parameters())",
        "Adamax NAdam RAdam Adadelta": "tg.optim.Adam(net.parameters(), lr=0.001)",
        "LambdaScheduler PolynomialLR MultiplicativeLR CyclicLR ConstantLR": _LAMBDA,
        "ChainedScheduler": "# call step() of each: their factors multiply",
        "sgd": "tg.optim.SGD(net.parameters(), lr=0.1)",
        "adam": "tg.optim.Adam(net.parameters(), lr=0.001)",
        "adamw": "tg.optim.AdamW(net.parameters(), lr=0.001)",
        "apply_updates": "optimizer.step()",
    },
    "tensorgrad.data": {
        "DataLoader": _BATCHES,
        "Dataset TensorDataset": _BATCHES + "  # arrays are enough",
        "random_split": "tg.data.train_test_split(x, y, rng=0)",
        "utils": _BATCHES,
        "make_moons": "tg.data.moons(100, rng=0)",
        "make_blobs": "tg.data.blobs(100, rng=0)",
        "make_circles": "tg.data.circles(100, rng=0)",
        "StandardScaler": "tg.data.standardize(x)",
    },
    "tensorgrad.training": {
        "Trainer": "tg.fit(net, tg.nn.mse_loss, batches, epochs=1, progress=False)",
        "accuracy_score": "tg.training.accuracy",
    },
}  # fmt: skip


# Methods that exist in PyTorch, too, but mean here what they mean in NumPy.
MEANINGS = {
    "T": "all axes are reversed; PyTorch's `x.mT` is `t.mT`",
    "argsort": "in descending order it is `tg.argsort(t, descending=True)`",
    "flatten": "the result has one axis; PyTorch's `x.flatten(1)` is `t.reshape(len(t), -1)`",
    "max": "only the values are returned; PyTorch's indices are `t.argmax(axis=1)`",
    "min": "only the values are returned; PyTorch's indices are `t.argmin(axis=1)`",
    "nonzero": "an array for each axis; PyTorch's matrix is `np.argwhere(t)`",
    "repeat": "each element is repeated; PyTorch's `x.repeat(2, 1, 1)` is `np.tile(t, (2, 1, 1))`",
    "size": "the number of elements; PyTorch's `x.size()` is `t.shape`",
    "sort": "sorts in place, and returns None; PyTorch's `x.sort()` is `np.sort(t), t.argsort()`",
    "std": "`ddof` is 0; PyTorch's is `t.std(ddof=1)`",
    "transpose": "takes all axes; PyTorch's `x.transpose(0, 1)` is `t.swapaxes(0, 1)`",
    "var": "`ddof` is 0; PyTorch's is `t.var(ddof=1)`",
}  # fmt: skip

KEYWORDS = {
    "dim dims": "use axis=, as in NumPy",
    "keepdim": "use keepdims=, as in NumPy",
    "unbiased": "use ddof=1, or ddof=0, as in NumPy",
    "descending": "use tg.sort or tg.argsort, which have it",
    "random_state seed": "use rng=, a seed or a NumPy Generator",
    "argnum": "use argnums=",
    "donate_argnums donate_argnames": "leave it out: compiled functions reuse their memory",
    "inplace": "leave it out: the result is a new tensor",
    "set_to_none": "leave it out: grad is None after zero_grad()",
    "start_dim end_dim": "use t.reshape(len(t), -1) to keep the first axis",
    "create_graph": "use tg.grad(tg.grad(f)), tg.hessian(f) or tg.hvp for second derivatives",
    "batch_size": "use tg.data.batches((x, y), batch_size=32) as the data",
    "lr learning_rate": "use optimizer=tg.optim.Adam(model.parameters(), lr=0.01)",
    "validation_data validation_split": "use validation=[(x_test, y_test)], or other batches",
    "verbose": "use progress=",
    "num_epochs n_epochs": "use epochs=",
    "num_workers pin_memory persistent_workers": "leave it out: batches are made in this process",
}
_CURE_OF_KEYWORD = {name: cure for names, cure in KEYWORDS.items() for name in names.split()}


def check_keywords(name: str, keywords: Iterable[str], known: Collection[str] = ()) -> None:
    """Raise a TypeError with the cure if a keyword belongs to another library."""
    for wrong in keywords:
        if wrong in _CURE_OF_KEYWORD and wrong not in known:
            raise TypeError(
                f"{name}() got an unexpected keyword argument {wrong!r}: {_CURE_OF_KEYWORD[wrong]}"
            )


# Functions of SciPy's that iterate plain arrays, and those here that give derivatives.
_SOLVERS = {
    "solve_ivp odeint quad root root_scalar fixed_point minimize least_squares": "",
    "fsolve broyden1 broyden2 newton_krylov anderson": "root",
    "brentq brenth bisect ridder toms748 newton": "root_scalar",
    "minimize_scalar fmin fmin_bfgs fmin_cg fmin_l_bfgs_b fmin_ncg fmin_powell": "minimize",
    "leastsq curve_fit": "least_squares",
    "quad_vec dblquad tplquad nquad": "quad",
}
_SOLVER_OF = {name: cure or name for names, cure in _SOLVERS.items() for name in names.split()}


def instead_of_scipy(frame: FrameType | None) -> str:
    """Return a sentence that names the function here, if SciPy's calls this frame; else ""."""
    found = ""
    while frame is not None:
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module.startswith(("tensorgrad.solvers.", "tensorgrad.scipy.")):  # which call SciPy's
            return ""
        if module.startswith("scipy."):
            if name in _SOLVER_OF:
                here = f"solvers.{_SOLVER_OF[name]}"
            else:
                here = _of_scipy(name, frame.f_locals)
            found = f"Instead of SciPy's {name}, call tensorgrad.{here}. " if here else found
        frame = frame.f_back
    return found


def _of_scipy(name: str, held: Mapping[str, Any]) -> str:
    """The name in `tensorgrad.scipy` of a function or method with these local variables; or ""."""
    namespace = importlib.import_module("tensorgrad.scipy")
    owner = held.get("self")
    kind = getattr(owner, "name", type(owner).__name__.removesuffix("_gen"))
    wrapped = getattr(held.get("f"), "__name__", "")  # by one of SciPy's decorators
    for part in namespace.__all__:
        module = getattr(namespace, part)
        for public in name.strip("_"), wrapped, kind:
            if public in module.__all__:
                is_method = hasattr(getattr(module, public), name) and not name.startswith("_")
                method = f".{name}" if is_method else ""
                return f"scipy.{part}.{public}{method}"
    return ""


def guided(fun: F) -> F:
    """Decorate a function: its error for a keyword of another library then names the cure."""
    known = inspect.signature(fun).parameters

    @functools.wraps(fun)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            check_keywords(fun.__name__, kwargs, known)
        return fun(*args, **kwargs)

    return checked  # type: ignore[return-value]


def cures(where: str) -> Iterator[tuple[str, str]]:
    """Yield the absent names of a class or a module, with the cure for each."""
    for names, cure in CURES[where].items():
        for name in names.split():
            yield name, cure


def _said(cure: str) -> str:
    return cure.removeprefix("# ") if cure.startswith("#") else f"use {cure}"


class _Absent:
    """A descriptor in place of an absent attribute: reading it raises an AttributeError.

    Unlike `__getattr__`, it costs nothing if the attribute exists.
    """

    def __init__(self, name: str, cure: str) -> None:
        self.name, self.cure = name, cure

    def __get__(self, instance: Any, owner: type) -> Any:
        for found in _found(self.name, owner):  # a base class may have it
            return found.__get__(instance, owner) if hasattr(found, "__get__") else found
        message = f"{owner.__name__!r} object has no attribute {self.name!r}: {_said(self.cure)}"
        raise AttributeError(message, name=self.name)  # no obj: no suggestions

    def __repr__(self) -> str:
        return f"<not here: {_said(self.cure)}>"


def guide(cls: type[C]) -> type[C]:
    """Decorate a class: its errors for absent attributes then name the cure."""
    for name, cure in cures(cls.__name__):
        if not hasattr(cls, name):
            setattr(cls, name, _Absent(name, cure))
    every = cls.__dir__

    def present(self: Any) -> list[str]:
        held = vars(self) if hasattr(self, "__dict__") else {}
        return [name for name in every(self) if name in held or [*_found(name, type(self))]]

    cls.__dir__ = present  # type: ignore[method-assign]
    return cls


def _found(name: str, cls: type) -> Iterator[Any]:
    """The attributes of that name in a class and its bases, without `_Absent`."""
    members = (vars(kind) for kind in cls.__mro__)
    return (m[name] for m in members if name in m and not isinstance(m[name], _Absent))


def of_module(module: str) -> Callable[[str], NoReturn]:
    """Return the `__getattr__` of a module: it raises an error that names the cure."""

    def absent(name: str) -> NoReturn:
        cure = None if name.startswith("_") else _cure(module, name)
        message = f"module {module!r} has no attribute {name!r}"
        if cure is None:
            raise AttributeError(message, name=name, obj=sys.modules[module])
        message = f"{message}: {_said(cure)}"
        if _is_from_import(sys._getframe(1)):
            raise ImportError(message, name=module)  # Python would replace an AttributeError
        raise AttributeError(message, name=name)

    return absent


_NAMESPACES = (
    "", ".nn", ".optim", ".data", ".training", ".special", ".solvers", ".scipy.interpolate",
    ".scipy.linalg", ".scipy.signal", ".scipy.sparse", ".scipy.stats",
)  # fmt: skip


def _cure(module: str, name: str) -> str | None:
    tables = {where: dict(cures(where)) for where in CURES if where.startswith("tensorgrad")}
    if name in tables.get(module, ()):
        return tables[module][name]
    for namespace in _NAMESPACES:
        other = f"tensorgrad{namespace}"
        if other != module and name in importlib.import_module(other).__all__:
            return f"tg{namespace}.{name}"
    elsewhere = (table[name] for table in tables.values() if name in table)
    in_numpy = f"np.{name}  # NumPy functions take tensors" if name in np.__all__ else None
    return next(elsewhere, in_numpy)


def _is_from_import(frame: FrameType) -> bool:
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]
