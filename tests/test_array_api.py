"""`tensorgrad` is a namespace of the array API standard; einops and SciPy work on tensors.

The standard's own test suite goes deeper: the README says how to run it.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import Tensor, array_api, gradcheck

NAMES = [
    *array_api.__all__, "__array_api_version__", "__array_namespace_info__",
    "abs", "all", "any", "bool", "max", "min", "pow", "round", "sum",
]  # fmt: skip
DTYPES = {name for name in dir(np) if name.rstrip("0123456789") in {"int", "uint"}} & set(NAMES) | {
    "bool",
    "float32",
    "float64",
    "complex64",
    "complex128",
}
CONSTANTS = {"e", "inf", "nan", "newaxis", "pi"}
NO_FUNCTIONS = {"__array_api_version__", "linalg", "fft"} | DTYPES | CONSTANTS
FUNCTIONS = sorted(set(NAMES) - NO_FUNCTIONS)
LINALG = [
    "cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul", "matrix_norm",
    "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve",
    "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip
DEFINED_HERE = {
    "arange", "argsort", "asarray", "broadcast_arrays", "clip", "empty", "eye", "fft", "finfo",
    "from_dlpack", "full", "iinfo", "linspace", "meshgrid", "ones", "sort", "stack", "zeros",
}  # fmt: skip

x = np.array([[0.5, -1.5, 2.0], [1.0, 0.25, -0.75]])
numbers = np.array([[3, 1, 2], [2, 5, 1]])
flags = numbers > 1
square = x.T @ x + np.eye(3)

# The arguments of functions that do not take one or two arrays of floats.
CALLS: dict[str, tuple[Any, ...]] = {
    "__array_namespace_info__": (),
    **dict.fromkeys(["ones", "zeros"], ((2, 3),)),
    **dict.fromkeys(["bitwise_and", "bitwise_or", "bitwise_xor"], (numbers, flags)),
    **dict.fromkeys(["bitwise_left_shift", "bitwise_right_shift"], (numbers, numbers)),
    **dict.fromkeys(["tril", "triu", "matrix_transpose", "mean", "std", "var"], (x,)),
    **dict.fromkeys(["concat", "stack"], ([x, x],)),
    **dict.fromkeys(["log", "log2", "log10", "log1p", "sqrt", "atanh"], (np.abs(x) / 3,)),
    **dict.fromkeys(["acos", "asin"], (x / 3,)),
    "acosh": (x * x + 1,),
    "arange": (3,),
    "astype": (x, np.float32),
    "bitwise_invert": (numbers,),
    "broadcast_arrays": (x, x[:1]),
    "broadcast_to": (x, (4, 2, 3)),
    "can_cast": (np.int8, np.float64),
    "clip": (x, -1, 1),
    "cumulative_prod": (x[0],),
    "cumulative_sum": (x[0],),
    "eye": (2, 3),
    "expand_dims": (x, 1),
    "full": (3, 2.5),
    "full_like": (x, 2.5),
    "isdtype": (np.dtype(np.float32), "real floating"),
    "linspace": (0, 1, 5),
    "matmul": (x, square),
    "meshgrid": (x[0], x[1]),
    "moveaxis": (x, 0, 1),
    "permute_dims": (x, (1, 0)),
    "pow": (np.abs(x), x),
    "repeat": (x, np.array([1, 0, 2, 1, 1, 3])),
    "reshape": (x, (3, 2)),
    "roll": (x, 2),
    "searchsorted": (np.sort(x[0]), x[1]),
    "squeeze": (x[:1], 0),
    "take": (x, np.array([2, 0, 2]), 1),
    "take_along_axis": (x, np.argsort(x), 1),
    "tensordot": (x, square, 1),
    "tile": (x, (2, 1)),
    "vecdot": (x, x),
    "where": (flags, x, numbers),
}
CALLS_LINALG: dict[str, tuple[Any, ...]] = {
    "cross": (x, x[::-1]),
    "diagonal": (x,),
    "matrix_power": (square, 3),
    "outer": (x[0], x[1]),
    "qr": (x,),
    "solve": (square, x.T),
    "svd": (x,),
    "vecdot": (x, x),
    **dict.fromkeys(["matmul", "tensordot"], (square, square)),
}


def as_tensors(value: Any) -> Any:
    if isinstance(value, list):
        return [as_tensors(v) for v in value]
    return tg.asarray(value) if isinstance(value, np.ndarray) else value


def assert_same(result: Any, expected: Any) -> None:
    if isinstance(expected, (tuple, list)):
        assert len(result) == len(expected)
        for r, e in zip(result, expected, strict=True):
            assert_same(r, e)
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert isinstance(result, Tensor)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result.numpy(), expected)
    else:
        assert result == expected


def call_both(namespace: Any, numpys: Any, name: str, args: tuple[Any, ...]) -> None:
    result = getattr(namespace, name)(*map(as_tensors, args))
    assert_same(result, getattr(numpys, name)(*args))


def test_the_namespace_is_complete() -> None:
    assert tg.__array_api_version__ == "2024.12"
    assert len(FUNCTIONS) == 134
    assert len(DTYPES) == 13
    assert set(NAMES) <= set(dir(tg))
    assert all(callable(getattr(tg.linalg, name)) for name in LINALG)
    assert len(tg.fft.__all__) == 14
    assert all(isinstance(getattr(tg, name), float) for name in CONSTANTS - {"newaxis"})


def test_names_are_numpys_own() -> None:
    for name in {*NAMES} - {"__array_api_version__"}:  # NumPy's says which it follows, if any
        assert (getattr(tg, name) is getattr(np, name)) == (name not in DEFINED_HERE), name


def arguments(name: str) -> tuple[Any, ...]:
    if name in CALLS:
        return CALLS[name]
    fun = getattr(np, name)
    return (x, x[::-1]) if isinstance(fun, np.ufunc) and fun.nin == 2 else (x,)


@pytest.mark.parametrize(
    "name", [n for n in FUNCTIONS if n not in {"empty", "empty_like", "finfo", "iinfo"}]
)
def test_functions_take_and_return_tensors(name: str) -> None:
    if name == "__array_namespace_info__":
        assert tg.__array_namespace_info__().default_device() == tg.ones(1).device
    else:
        call_both(tg, np, name, arguments(name))


@pytest.mark.parametrize("name", LINALG)
def test_linalg_takes_and_returns_tensors(name: str) -> None:
    call_both(tg.linalg, np.linalg, name, CALLS_LINALG.get(name, (square,)))


@pytest.mark.parametrize("name", tg.fft.__all__)
def test_fft_takes_and_returns_tensors(name: str) -> None:
    call_both(tg.fft, np.fft, name, (5,) if "freq" in name else (x,))


def test_creation_gives_tensors_of_the_dtype_asked_for() -> None:
    for create in (tg.ones, tg.zeros, tg.empty):
        assert create((2, 3), dtype=tg.float32, device="cpu").dtype == np.float32
    assert tg.empty_like(tg.ones((2, 3), dtype=tg.int8)).dtype == np.int8
    assert tg.fft.fftfreq(4, dtype=tg.float32).dtype == np.float32
    assert isinstance(tg.full_like(tg.Tensor(1.0, requires_grad=True), 2.0), Tensor)
    with pytest.raises(ValueError, match="gpu"):
        tg.zeros(3, device="gpu")


@pytest.mark.parametrize("shape", [3, (2, 3), ()])
@pytest.mark.parametrize("dtype", [None, np.float32])
def test_full_of_a_tensor_carries_its_gradient(shape: Any, dtype: Any) -> None:
    x = tg.Tensor(2.0, requires_grad=True)
    full = tg.full(shape, x, dtype=dtype)
    assert np.all(full.numpy() == np.full(shape, 2.0))
    assert full.dtype == (dtype or np.float64)
    np.sum(full).backward()
    assert x.grad == full.size
    row = tg.full((2, 2), [x, 1.0])
    np.sum(row).backward()
    assert x.grad == full.size + 2
    assert np.all(tg.full((2, 2), [1, 2]).numpy() == np.full((2, 2), [1, 2]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_finfo_holds_python_numbers(dtype: Any) -> None:
    for kind in (dtype, np.dtype(dtype), tg.ones(2, dtype=dtype), np.ones(2, dtype)):
        info, expected = tg.finfo(kind), np.finfo(dtype)
        for field in ("eps", "max", "min", "smallest_normal"):
            assert type(getattr(info, field)) is float
            assert getattr(info, field) == getattr(expected, field)
        assert (info.bits, info.dtype) == (expected.bits, expected.dtype)


def test_iinfo_takes_arrays() -> None:
    assert tg.iinfo(tg.ones(2, dtype=tg.uint8)).max == tg.iinfo(np.uint8).max == 255


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_descending_order_is_stable(axis: int) -> None:
    a = np.random.default_rng(0).integers(3, size=(7, 8))
    order = tg.argsort(tg.asarray(a), axis=axis, descending=True)
    np.testing.assert_array_equal(order.numpy(), np.argsort(-a, axis=axis, stable=True))
    ordered = tg.sort(tg.asarray(a), axis=axis, descending=True)
    np.testing.assert_array_equal(ordered.numpy(), -np.sort(-a, axis=axis))


def test_clip_keeps_the_dtype() -> None:
    t = tg.Tensor(np.arange(4, dtype=np.float32), requires_grad=True)
    clipped = tg.clip(t, np.array(1.0), np.array(2.0))
    assert clipped.dtype == np.float32
    clipped.backward(np.ones(4))
    assert t.grad is not None
    np.testing.assert_array_equal(t.grad, [0, 1, 1, 0])


# Calls as the standard spells them, with its keywords.
DIFFERENTIABLE: dict[str, Callable[[Any, Any], Any]] = {
    "astype": lambda xp, t: xp.astype(t, xp.float64, copy=False),
    "broadcast_arrays": lambda xp, t: xp.broadcast_arrays(t, t[:1])[1],
    "clip": lambda xp, t: xp.clip(t, min=-1, max=1.5),
    "concat": lambda xp, t: xp.concat([t, t], axis=None),
    "cumulative_prod": lambda xp, t: xp.cumulative_prod(t, axis=1, include_initial=True),
    "cumulative_sum": lambda xp, t: xp.cumulative_sum(t, axis=1, include_initial=True),
    "diff": lambda xp, t: xp.diff(t, axis=0, n=1, prepend=t[:1]),
    "flip": lambda xp, t: xp.flip(t, axis=(0, 1)),
    "max": lambda xp, t: xp.max(t, axis=1, keepdims=True),
    "mean": lambda xp, t: xp.mean(t, axis=(0, 1)),
    "meshgrid": lambda xp, t: xp.meshgrid(t[0], t[1], indexing="ij")[1],
    "moveaxis": lambda xp, t: xp.moveaxis(t, 0, -1),
    "permute_dims": lambda xp, t: xp.permute_dims(t, axes=(1, 0)),
    "prod": lambda xp, t: xp.prod(t, axis=1, dtype=xp.float64),
    "repeat": lambda xp, t: xp.repeat(t, 2, axis=1),
    "reshape": lambda xp, t: xp.reshape(t, shape=(3, -1), copy=True),
    "roll": lambda xp, t: xp.roll(t, shift=(1, 2), axis=(0, 1)),
    "sort": lambda xp, t: xp.sort(t, axis=0, descending=True, stable=False),
    "squeeze": lambda xp, t: xp.squeeze(t[:1], axis=0),
    "stack": lambda xp, t: xp.stack([t, t], axis=1),
    "std": lambda xp, t: xp.std(t, axis=1, correction=1.0),
    "sum": lambda xp, t: xp.sum(t, axis=0, dtype=xp.float64, keepdims=True),
    "take": lambda xp, t: xp.take(t, xp.asarray([0, 2, 0]), axis=1),
    "take_along_axis": lambda xp, t: xp.take_along_axis(t, xp.argsort(t, axis=1), axis=1),
    "tensordot": lambda xp, t: xp.tensordot(t, t, axes=((0,), (0,))),
    "tile": lambda xp, t: xp.tile(t, (2, 1, 2)),
    "tril": lambda xp, t: xp.tril(t, k=1),
    "unique_values": lambda xp, t: xp.unique_values(t),
    "unstack": lambda xp, t: xp.unstack(t, axis=1)[2],
    "var": lambda xp, t: xp.var(t, axis=0, correction=0.5, keepdims=True),
    "vecdot": lambda xp, t: xp.vecdot(t, t[::-1], axis=0),
    "where": lambda xp, t: xp.where(t > 0, t, 2 * t),
    "linalg.cross": lambda xp, t: xp.linalg.cross(t, t[::-1], axis=-1),
    "linalg.diagonal": lambda xp, t: xp.linalg.diagonal(t, offset=1),
    "linalg.matrix_norm": lambda xp, t: xp.linalg.matrix_norm(t, keepdims=True, ord="nuc"),
    "linalg.outer": lambda xp, t: xp.linalg.outer(t[0], t[1]),
    "linalg.pinv": lambda xp, t: xp.linalg.pinv(t, rtol=1e-9),
    "linalg.qr": lambda xp, t: xp.linalg.qr(t.mT, mode="reduced").R,
    "linalg.solve": lambda xp, t: xp.linalg.solve(t @ t.mT, t),
    "linalg.svd": lambda xp, t: xp.linalg.svd(t, full_matrices=False).S,
    "linalg.trace": lambda xp, t: xp.linalg.trace(t, offset=1),
    "linalg.vector_norm": lambda xp, t: xp.linalg.vector_norm(t, axis=1, keepdims=True, ord=3),
    "fft.fft": lambda xp, t: xp.real(xp.fft.fft(t, n=4, axis=1, norm="ortho")),
    "fft.irfftn": lambda xp, t: xp.fft.irfftn(xp.fft.rfftn(t, axes=(0, 1)), s=(2, 3), axes=(0, 1)),
    "fft.fftshift": lambda xp, t: xp.fft.fftshift(t, axes=1),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_standard_calls_carry_gradients(name: str) -> None:
    assert gradcheck(lambda t: DIFFERENTIABLE[name](t.__array_namespace__(), t), [x])


def test_a_standard_function_of_many_steps_carries_gradients() -> None:
    def attention(q: Any, k: Any, v: Any) -> Any:
        xp = q.__array_namespace__(api_version="2024.12")
        scores = xp.matmul(q, xp.matrix_transpose(k)) / k.shape[-1] ** 0.5
        weights = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
        mixed = xp.matmul(weights / xp.sum(weights, axis=-1, keepdims=True), v)
        centred = mixed - xp.mean(mixed, axis=-1, keepdims=True)
        return centred / xp.sqrt(xp.var(mixed, axis=-1, keepdims=True) + 1e-3)

    assert gradcheck(attention, list(np.random.default_rng(0).normal(size=(3, 4, 5))))


# -- the array object


def test_the_namespace_of_a_tensor_is_the_package() -> None:
    assert tg.ones(1).__array_namespace__() is tg
    assert tg.ones(1).__array_namespace__(api_version="2021.12") is tg
    with pytest.raises(ValueError, match=r"1999\.01"):
        tg.ones(1).__array_namespace__(api_version="1999.01")


def test_dlpack_shares_memory_both_ways() -> None:
    t = tg.arange(3.0)
    array = np.from_dlpack(t)
    assert type(array) is np.ndarray
    assert np.shares_memory(array, t.numpy())
    back = tg.from_dlpack(t)
    assert isinstance(back, Tensor)
    assert np.shares_memory(back.numpy(), t.numpy())
    assert not np.shares_memory(tg.from_dlpack(t, copy=True).numpy(), t.numpy())
    assert t.__dlpack_device__() == array.__dlpack_device__()


def test_dlpack_never_drops_a_graph() -> None:
    with pytest.raises(TypeError, match="detach"):
        np.from_dlpack(tg.Tensor([1.0], requires_grad=True))


def test_devices() -> None:
    t = tg.Tensor([1.0], requires_grad=True)
    assert t.to_device(t.device) is t
    assert tg.asarray(t, device="cpu") is t
    for move in (t.to_device, lambda device: tg.asarray(t, device=device)):
        with pytest.raises(ValueError, match="'cpu' to 'gpu'"):
            move("gpu")
    with pytest.raises(ValueError, match="gpu"):
        tg.asarray([1.0], device="gpu")


def test_asarray_makes_the_dtype_at_once() -> None:
    assert tg.asarray(2**70, dtype=tg.float64).item() == 2.0**70
    assert tg.asarray([2**63], dtype=tg.uint64).item() == 2**63
    with pytest.raises(ValueError, match="copy"):
        tg.asarray([1.0], copy=False)


def test_an_empty_mask_is_a_mask() -> None:
    t = tg.ones((0, 2))
    assert t[tg.ones((0, 2), dtype=tg.bool)].shape == (0,)


# -- other libraries


def run(script: str, **environment: str) -> None:
    """Run a script in a fresh interpreter, in which warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", script]
    subprocess.run(
        command, env={**os.environ, **environment}, check=True, cwd=Path(__file__).parent
    )


def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 4, 3))


@pytest.mark.parametrize("imports", ["tensorgrad, einops", "einops, tensorgrad"])
def test_einops_finds_tensors_in_either_order_of_import(imports: str) -> None:
    pytest.importorskip("einops")
    run(
        f"import {imports}\n"
        "t = tensorgrad.Tensor([[1.0, 2.0, 3.0]], requires_grad=True)\n"
        "y = einops.rearrange(t, 'a b -> b a')\n"
        "assert type(y) is tensorgrad.Tensor and y.requires_grad and y.shape == (3, 1)\n"
        "assert einops.rearrange(y.numpy(), 'a b -> b a').shape == (1, 3)"
    )


def test_importing_tensorgrad_does_not_look_for_einops() -> None:
    run(
        "import sys; looked = []\n"
        "sys.addaudithook(lambda event, args: looked.append(args) if event == 'open' else None)\n"
        "import tensorgrad\n"
        "assert 'einops' not in sys.modules and looked and 'einops' not in str(looked)"
    )


def test_an_import_of_einops_leaves_nothing_behind() -> None:
    pytest.importorskip("einops")
    run(
        "import sys; before = [*sys.meta_path]; import tensorgrad, einops\n"
        "assert sys.meta_path == before"
    )


EINOPS: dict[str, Callable[[Any, Any], Any]] = {
    "rearrange": lambda einops, t: einops.rearrange(t, "a (b1 b2) c -> (c b1) a b2", b1=2),
    "a list": lambda einops, t: einops.rearrange([t, 2 * t], "n a b c -> b (n a) c"),
    "repeat": lambda einops, t: einops.repeat(t, "a b c -> a (b r) c s", r=2, s=3),
    "einsum": lambda einops, t: einops.einsum(t, t, "a b c, a b d -> c d"),
    "pack": lambda einops, t: einops.pack([t, t[:, 0]], "a * c")[0],
    "unpack": lambda einops, t: einops.unpack(t, [(1,), (3,)], "a * c")[1],
    **{
        name: lambda einops, t, name=name: einops.reduce(t, "a (b k) c -> b c", name, k=2)
        for name in ("sum", "mean", "max", "min", "prod")
    },
    "a function": lambda einops, t: einops.reduce(t, "a b c -> b", np.mean),
}


@pytest.mark.parametrize("name", EINOPS)
def test_einops_carries_gradients(name: str) -> None:
    einops = pytest.importorskip("einops")
    call = EINOPS[name]
    result = call(einops, tg.asarray(image()))
    assert_same(result, call(einops, image()))
    assert gradcheck(lambda t: call(einops, t), [image()])


def test_einops_on_numbers_without_gradient() -> None:
    einops = pytest.importorskip("einops")
    t = tg.asarray(image())
    assert_same(einops.reduce(t > 0, "a b c -> a", "any"), (image() > 0).any((1, 2)))
    assert einops.asnumpy(t) is t.numpy()
    assert einops.parse_shape(t, "a _ c") == {"a": 2, "c": 3}


@pytest.mark.parametrize("name", ["rearrange", "repeat", "pack", "unpack", "mean"])
def test_the_array_api_of_einops_carries_gradients(name: str) -> None:
    pytest.importorskip("einops")
    einops = pytest.importorskip("einops.array_api")
    assert gradcheck(lambda t: EINOPS[name](einops, t), [image()])


SCIPY = """
import numpy as np, tensorgrad as tg
from scipy import integrate, optimize, special, stats
from scipy.spatial.transform import Rotation

calls = dict(
    logsumexp=lambda t: special.logsumexp(t, axis=1),
    softmax=lambda t: special.softmax(t, axis=1),
    log_softmax=lambda t: special.log_softmax(t, axis=0),
    xlogy=lambda t: special.xlogy(t, t),
    erf=special.erf,
    gammaln=special.gammaln,
    trapezoid=lambda t: integrate.trapezoid(t, axis=0),
    cumulative_trapezoid=lambda t: integrate.cumulative_trapezoid(t, axis=0),
    rosen=optimize.rosen,
    zscore=lambda t: stats.zscore(t, axis=1),
    gmean=lambda t: stats.gmean(t, axis=None),
    skew=lambda t: stats.skew(t, axis=1),
    kurtosis=lambda t: stats.kurtosis(t, axis=1),
    pearsonr=lambda t: stats.pearsonr(t, t[::-1] ** 2, axis=1).statistic,
    rotation=lambda t: Rotation.from_rotvec(t[:, :3]).as_matrix(),
)
x = np.random.default_rng(0).uniform(0.1, 0.9, (4, 5))
for name, call in calls.items():
    result = call(tg.asarray(x))
    assert type(result) is tg.Tensor, name
    np.testing.assert_allclose(result.numpy(), call(x), rtol=1e-12, err_msg=name)
    assert tg.gradcheck(call, [x]), name
"""


def test_scipy_in_array_api_mode_carries_gradients() -> None:
    pytest.importorskip("scipy")
    run(SCIPY, SCIPY_ARRAY_API="1")
