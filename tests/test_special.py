"""Activations and special functions: tails, corners, dtypes, and SciPy's functions."""

import functools
import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal, assert_array_max_ulp

import tensorgrad as tg
from tensorgrad import approximations, nn, special
from tensorgrad.engine.registry import RULES
from tensorgrad.rules.selection import masked

from .oracles import leaf
from .special_values import VALUES, VALUES_OF_TWO

INF, NAN = np.inf, np.nan
DTYPES = [np.float16, np.float32, np.float64]


def value_and_gradient(fun: Any, x: Any, dtype: Any = None) -> tuple[Any, Any]:
    tensor = leaf(x, dtype)
    out = fun(tensor)
    out.backward(np.ones(out.shape, out.dtype))
    return out.data, tensor.grad


# -- far out

TAILS = [
    (nn.sigmoid, [0, 1], [0, 0]),
    (nn.log_sigmoid, [-1e4, 0], [1, 0]),
    (nn.softplus, [0, 1e4], [0, 1]),
    (lambda x: nn.softplus(x, beta=3), [0, 1e4], [0, 1]),
    (nn.silu, [0, 1e4], [0, 1]),
    (nn.mish, [0, 1e4], [0, 1]),
    (nn.elu, [-1, 1e4], [0, 1]),
    (lambda x: nn.elu(x, alpha=2), [-2, 1e4], [0, 1]),
    (lambda x: nn.celu(x, alpha=2), [-2, 1e4], [0, 1]),
    (lambda x: nn.gelu(x, approximate="tanh"), [0, 1e4], [0, 1]),
    (nn.softmax, [0, 1], [0, 0]),
    (nn.log_softmax, [-2e4, 0], [1, -1]),
    (nn.logsumexp, 1e4, [0, 1]),
    (lambda x: nn.logsumexp(x, b=np.array([3, 1], x.dtype)), 1e4, [0, 1]),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("fun", "value", "gradient"), TAILS)
def test_far_out_everything_is_exact_and_silent(
    fun: Any, value: Any, gradient: Any, dtype: Any
) -> None:
    with np.errstate(all="raise"):
        y, slope = value_and_gradient(fun, [-1e4, 1e4], dtype)
        second = tg.grad(lambda x: np.sum(tg.grad(lambda x: np.sum(fun(x)))(x)))(
            np.array([-1e4, 1e4], dtype)
        )
    assert y.dtype == slope.dtype == dtype
    assert_array_equal(y, value)
    assert_array_equal(slope, gradient)
    assert_array_equal(second, [0, 0])


GRID = np.concatenate([np.linspace(-40, 40, 321), [-700.0, 700.0, 1e-300, -1e-20]])
LONG = np.longdouble
SELU_SCALE, SELU_ALPHA = LONG("1.05070098735548049342"), LONG("1.67326324235437728482")


@pytest.mark.parametrize(
    ("fun", "formula"),
    [
        (nn.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (nn.log_sigmoid, lambda x: -np.log1p(np.exp(-x))),
        (nn.softplus, lambda x: np.log1p(np.exp(x))),
        (lambda x: nn.softplus(x, 0.5), lambda x: np.log1p(np.exp(x / 2)) * 2),
        (nn.silu, lambda x: x / (1 + np.exp(-x))),
        (nn.mish, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        (nn.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
        (nn.selu, lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x))),
        (lambda x: nn.celu(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2))),
        (nn.softsign, lambda x: x / (1 + abs(x))),
        (nn.relu6, lambda x: np.clip(x, 0, 6)),
        (nn.hardsigmoid, lambda x: np.clip(x + 3, 0, 6) / 6),
        (nn.hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
        (nn.hardtanh, lambda x: np.clip(x, -1, 1)),
        (lambda x: nn.leaky_relu(x, 0.25), lambda x: np.where(x > 0, x, x / 4)),
    ],
)  # fmt: skip
def test_values_have_all_their_digits(fun: Any, formula: Any) -> None:
    with np.errstate(over="ignore", under="ignore"):
        expected = formula(GRID.astype(LONG)).astype(float)
    assert_allclose(fun(GRID), expected, rtol=2e-15, atol=1e-307)


def test_gelu_by_tanh_has_the_digits_that_exp_leaves_it() -> None:
    x = GRID[np.abs(GRID) < 20].astype(LONG)
    exact = x / (1 + np.exp(-2 * np.sqrt(2 / LONG(np.pi)) * (x + LONG("0.044715") * x**3)))
    assert_allclose(nn.gelu(x.astype(float), "tanh"), exact.astype(float), rtol=3e-13)


def test_logit_has_all_its_digits() -> None:
    x = np.array([1e-300, 1e-10, 0.1, 0.25, 0.3, 0.5 - 1e-12, 0.5 + 1e-12, 0.75, 0.9, 1 - 1e-12])
    exact = np.log(x.astype(LONG)) - np.log1p(-x.astype(LONG))
    assert_allclose(special.logit(x), exact.astype(float), rtol=2e-15)


# -- corners and poles


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("fun", "x", "value", "gradient"),
    [
        (nn.relu, [-0.0, NAN, INF, -INF], [0, NAN, INF, 0], [0, 1, 1, 0]),
        (nn.leaky_relu, [0.0, INF, -INF], [0, INF, -INF], [0.01, 1, 0.01]),
        (lambda x: nn.leaky_relu(x, 2), [0.0, 1, -1], [0, 1, -2], [2, 1, 2]),
        (lambda x: nn.leaky_relu(x, 0), [0.0, INF, -1], [0, INF, 0], [0, 1, 0]),
        (nn.hardtanh, [-1.0, 1, 0, INF, NAN], [-1, 1, 0, 1, NAN], [0, 0, 1, 0, 0]),
        (nn.relu6, [0.0, 6, 3], [0, 6, 3], [0, 0, 1]),
        (nn.hardsigmoid, [-3.0, 3], [0, 1], [0, 0]),
        (nn.hardswish, [-3.0, 3, 4], [0, 3, 4], [0, 1, 1]),
        (lambda x: nn.elu(x, 2), [0.0, INF, -INF], [0, INF, -2], [2, 1, 0]),
        (lambda x: nn.celu(x, 2), [0.0, INF, -INF], [0, INF, -2], [1, 1, 0]),
        (nn.softsign, [0.0], [0], [1]),
        (nn.softplus, [INF, -INF, NAN], [INF, 0, NAN], [1, 0, NAN]),
        (nn.log_sigmoid, [INF, -INF], [0, -INF], [0, 1]),
        (special.logit, [0.0, 1], [-INF, INF], [INF, INF]),
        (special.entr, [-1.0, 0, INF], [-INF, 0, -INF], [NAN, INF, -INF]),
        (lambda x: special.xlogy(x, [0.0, 2, -1, NAN]), [0.0] * 4,
         [0, 0, 0, NAN], [-INF, np.log(2), NAN, NAN]),
        (lambda y: special.xlogy(0.0, y), [0.0, 2, -1, NAN], [0, 0, 0, NAN], [0, 0, 0, 0]),
        (lambda y: special.xlogy([0.0, 2], y), [INF, 0], [0, -INF], [0, INF]),
        (lambda x: special.xlog1py(x, [-1.0, 1]), [0.0, 0], [0, 0], [-INF, np.log(2)]),
        (lambda y: special.xlog1py(0.0, y), [-1.0, 1], [0, 0], [0, 0]),
        (lambda x: special.rel_entr(x, [1.0, 0, 0, NAN]), [0.0, 0, 1, 1], [0, 0, INF, NAN],
         [-INF, NAN, INF, NAN]),
        (lambda y: special.rel_entr([0.0, 0, 1, -1], y), [1.0, -1, 0, 1], [0, INF, INF, INF],
         [0, 0, -INF, 1]),
        (lambda x: special.kl_div(x, [2.0, 0, 0]), [0.0, 0, 1], [2, 0, INF], [-INF, NAN, INF]),
        (lambda x: special.multigammaln(x, 2), [0.5], [NAN], [NAN]),
    ],
)  # fmt: skip
def test_corners(fun: Any, x: Any, value: Any, gradient: Any) -> None:
    y, slope = value_and_gradient(fun, x)
    assert_array_equal(y, value)
    assert_array_equal(slope, gradient)


def test_infinite_cotangents_pass_or_vanish() -> None:
    for fun, expected in (
        (nn.relu, [0, 0, INF, NAN]),
        (lambda x: nn.hardtanh(x, 0, 9), [0, 0, INF, NAN]),
        (lambda x: nn.leaky_relu(x, 2), [NAN, -INF, INF, NAN]),
    ):
        x = leaf([-1.0, -1.0, 2.0, 2.0])
        fun(x).backward([NAN, -INF, INF, NAN])
        assert_array_equal(x.grad, expected)


@pytest.mark.parametrize("dtype", [*DTYPES, np.longdouble, np.complex64, np.complex128, ">f8"])
def test_masked_is_where(dtype: Any) -> None:
    x = np.array([[-1.5, -0.0, INF], [NAN, 2.0, -INF]]).astype(dtype)
    mask = np.array([[True, False, True], [False, True, False]])
    for a in x, x.T.copy().T, np.broadcast_to(x[0], (2, 3)), x[0, 2]:
        assert_array_equal(masked(a, mask), np.where(mask, a, 0))
        assert masked(a, mask).dtype == a.dtype


# -- sums of exponentials


def test_rows_that_are_masked_leave_the_others_alone() -> None:
    x = [[-INF, -INF], [1.0, 1.0], [-INF, 0.0]]
    with np.errstate(all="raise"):
        y, slope = value_and_gradient(lambda x: nn.softmax(x)[:, 0], x)
        assert_array_equal(y, [NAN, 0.5, 0])
        assert_array_equal(slope, [[NAN, NAN], [0.25, -0.25], [0, 0]])
        y, slope = value_and_gradient(lambda x: nn.log_softmax(x)[:, 1], x)
        assert_array_equal(slope, [[NAN, NAN], [-0.5, 0.5], [0, 0]])
        y, slope = value_and_gradient(lambda x: nn.logsumexp(x, axis=1), x)
        assert_array_equal(y, [-INF, 1 + np.log(2), 0])
        assert_array_equal(slope, [[NAN, NAN], [0.5, 0.5], [0, 1]])


def test_logsumexp_of_infinities() -> None:
    assert_array_equal(nn.logsumexp(np.array([INF, 0.0])), INF)
    assert_array_equal(nn.logsumexp(np.array([INF, -INF])), INF)
    assert_array_equal(nn.logsumexp(np.array([NAN, 0.0])), NAN)
    y, slope = value_and_gradient(nn.logsumexp, [INF, 0.0])
    assert y == INF and slope[1] == 0


def test_logsumexp_of_nothing_adds_nothing() -> None:
    assert_array_equal(nn.logsumexp(np.zeros((2, 0)), axis=1), [-INF, -INF])
    assert nn.softmax(np.zeros((2, 0))).shape == (2, 0)
    assert value_and_gradient(nn.softmax, np.zeros((0, 3)))[1].shape == (0, 3)


def test_weights_of_logsumexp() -> None:
    a = leaf([1000.0, 1.0, INF, 2.0])
    b = leaf([0.0, 2.0, 0.0, -0.5])
    y = nn.logsumexp(a, b=b)
    total = 2 * np.e - 0.5 * np.e**2
    assert_allclose(y.item(), np.log(total), rtol=1e-15)
    y.backward()
    assert_allclose(a.grad, [0, 2 * np.e / total, 0, -0.5 * np.e**2 / total])
    assert_allclose(b.grad, [INF, np.e / total, INF, np.e**2 / total])
    assert np.isnan(nn.logsumexp(np.zeros(2), b=[1, -2]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_gradients_of_large_numbers_add_up(dtype: Any) -> None:
    """Where y has no digits behind the point, exp(a - y) alone would be far from a probability."""
    x = np.array([10000, 10000, 10000], dtype)
    assert_allclose(value_and_gradient(nn.logsumexp, x)[1], [1 / 3] * 3, rtol=1e-3)
    weighted = value_and_gradient(lambda x: nn.logsumexp(x, b=[1, 1, 2]), x)[1]
    assert_allclose(weighted, [0.25, 0.25, 0.5], rtol=1e-3)


def test_long_rows_of_float16_add_up_in_float32() -> None:
    x = leaf(np.zeros(70_000), np.float16)
    y = nn.softmax(x)
    assert y.dtype == np.float16 and y.data[0] == np.float16(1 / 70_000)
    y.backward(np.ones(70_000, np.float16))
    assert_array_equal(x.grad, np.zeros(70_000))
    assert nn.logsumexp(x).data == np.float16(np.log(70_000))


# -- operands

THRESHOLD = {"threshold": 1, "value": 7}


@pytest.mark.parametrize(
    "fun",
    [f for f in vars(nn).values() if getattr(f, "__module__", "") == "tensorgrad.nn.activations"],
)
def test_activations_take_integers_lists_and_numbers(fun: Any) -> None:
    if fun in (nn.tanhshrink, nn.glu, nn.gumbel_softmax):
        pytest.skip("plain arithmetic in NumPy's dtype, not of single elements, or random")
    if fun in (nn.prelu, nn.threshold):
        fun = functools.partial(fun, **{"weight": 0.5} if fun is nn.prelu else THRESHOLD)
    x = [[1, 200], [3, 0]]
    expected = fun(np.array(x, float))
    for a in np.array(x), np.array(x, np.uint8):
        assert_array_equal(fun(a), expected)
        assert_array_equal(fun(tg.Tensor(a)).data, expected)
        assert not fun(tg.Tensor(a)).requires_grad
    assert fun(tg.Tensor(2.5)).shape == ()


def test_special_functions_take_numbers_and_keep_dtypes() -> None:
    x = leaf([1.0, 2.0], np.float32)
    for y in special.xlogy(x, 2), special.xlogy(2.5, x), special.xlog1py(x, np.float16(1)):
        assert y.dtype == np.float32
    assert special.xlogy(x, np.ones(2)).dtype == np.float64
    assert special.xlogy(2, 1) == 0 and special.expit(0) == 0.5 and special.expit(True) > 0.7
    assert_array_equal(special.xlogy([0, 1], [0, 1]), [0, 0])
    assert_array_equal(nn.softmax([[1, 1]]), [[0.5, 0.5]])
    with pytest.raises(TypeError, match="masked"):
        special.expit(tg.asarray(np.ma.masked_array([1.0], [True])))


def test_softmax_is_over_the_axis_its_users_expect() -> None:
    x = np.ones((2, 2))
    assert_array_equal(nn.softmax(x), special.softmax(x, axis=-1))
    assert_array_equal(special.softmax(x), nn.softmax(x, axis=None))
    assert_array_equal(nn.softmax(x, axis=(0, 1)), np.full((2, 2), 0.25))
    assert nn.sigmoid is special.expit and nn.log_sigmoid is special.log_expit


def test_gelu_knows_two_forms() -> None:
    with pytest.raises(ValueError, match='"none" or "tanh", not \'erf\''):
        nn.gelu(np.ones(2), approximate="erf")  # type: ignore[arg-type]


# -- safe_where


def test_safe_where_never_sees_what_is_not_selected() -> None:
    seen = []

    def f(x: Any) -> Any:
        seen.append(x.shape)
        return np.log(x)

    x = leaf([[-1.0, 0.0, 1.0], [INF, NAN, 2.0]])
    with np.errstate(all="raise"):
        y = tg.safe_where(x > 0, f, x, -7)
        y.backward([[NAN, INF, INF], [1, -INF, 1]])
    assert_array_equal(y.data, [[-7, -7, 0], [INF, -7, np.log(2)]])
    assert_array_equal(x.grad, [[0, 0, INF], [0, 0, 0.5]])
    assert seen == [(3,)]


def test_safe_where_at_second_order() -> None:
    def f(x: Any) -> Any:
        return np.sum(tg.safe_where(x > 0, np.sqrt, x))

    second = tg.grad(lambda x: np.sum(tg.grad(f)(x)))(np.array([0.0, -1.0, 4.0]))
    assert_array_equal(second, [0, 0, -1 / 32])


def test_safe_where_of_arrays_and_numbers() -> None:
    out = tg.safe_where([True, False], np.log, np.float32([1, -1]), 0.5)
    assert type(out) is np.ndarray and out.dtype == np.float32
    assert_array_equal(out, [0, 0.5])
    assert_array_equal(tg.safe_where([True, False], np.exp, 0.0), [1, 0])
    assert_array_equal(tg.safe_where(False, np.log, leaf(-1.0)).data, 0)
    with pytest.raises(ValueError, match=r"f returned shape \(\) for an array of shape \(1,\)"):
        tg.safe_where(True, np.sum, leaf(1.0))


# -- SciPy's functions


def python(script: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_without_scipy_the_error_names_it() -> None:
    out = python(
        "import sys; sys.modules['scipy'] = None; import tensorgrad as tg\n"
        "for name in 'jv', 'gammainc':\n"
        "    try: getattr(tg.special, name)\n"
        "    except ImportError as error: print(error)\n"
        "try: tg.special.erf(1j)\n"
        "except TypeError as error: print(error)\n"
    )
    who = ["jv", "gammainc", "erf of complex numbers"]
    assert out.splitlines() == [f"{w} needs scipy: python -m pip install scipy" for w in who]


def test_without_scipy_approximations_stand_for_its_functions() -> None:
    """They are operations: of tensors of any order, of lists and numbers, and of no warning."""
    out = python(
        "import sys; sys.modules['scipy'] = None; import numpy as np, tensorgrad as tg\n"
        "for name in tg.approximations.__all__:\n"
        "    fun = getattr(tg.special, name)\n"
        "    args = [[1.25, 0.75], 0.5] if name in ('beta', 'betaln') else [[0.25, 0.75]]\n"
        "    assert fun(*args).dtype == float and fun(*args).shape == (2,), name\n"
        "    assert tg.gradcheck(fun, [np.array(a) for a in args], order=2), name\n"
        "    x = np.array([np.inf, -np.inf, np.nan, 0.0, -1.0, 1e300, -1e300])\n"
        "    with np.errstate(all='raise'):\n"
        "        tg.vjp(fun, *[x] * len(args))[1](np.ones(7))\n"
        "print(tg.nn.gelu([1.0]), f'{tg.special.polygamma(1, 2.0):.6f}')\n"
        "assert tg.special.psi is tg.special.digamma and 'scipy.special' not in sys.modules\n"
    )
    assert out == "[0.84134475] 0.644934\n"


# Bounds in units of the last digit, 2**-52: half of it is for other exponentials and logarithms
# than those that NumPy has for one processor.
DIGITS = 8 * 2.0**-52


def assert_digits(actual: Any, expected: Any, size: Any = 0.0) -> None:
    """Equal up to `DIGITS` of the value or, where that is larger, of its terms."""
    bound = DIGITS * np.maximum(np.abs(expected), size)
    assert_array_equal(np.abs(actual - expected) <= np.maximum(bound, 5e-324), True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", VALUES)
def test_approximations_have_all_their_digits(name: str) -> None:
    x, expected = map(np.array, VALUES[name])
    size = {"gammaln below 0": np.abs(x), "digamma below 0": 10.0}.get(name, 0.0)
    fun = getattr(approximations, name.split()[0])
    assert_digits(fun(x), expected, size)
    assert_digits(fun(x[::-1].reshape(1, -1, 1))[0, ::-1, 0], expected, size)
    many = (3, 10_000)  # in blocks
    assert_digits(fun(np.resize(x, many)), np.resize(expected, many), np.resize(size, many))
    short = fun(x.astype(np.float32))
    assert short.dtype == np.float32
    exact = np.float32(fun(x.astype(np.float32).astype(float)))
    assert_array_max_ulp(short, exact, 1)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", VALUES_OF_TWO)
def test_approximations_of_two_arguments_have_all_their_digits(name: str) -> None:
    x, y, expected = map(np.array, VALUES_OF_TWO[name])
    size = {"betaln": 10.0, "beta": np.abs(expected) * (1 + np.abs(np.log(np.abs(expected))))}
    fun = getattr(
        special if name in special.__all__ and name != "polygamma" else approximations, name
    )
    assert_digits(fun(x, y), expected, size.get(name, 0.0))
    if name in ("beta", "betaln"):
        many = fun(np.resize(x, 20_000).astype(np.float32), np.asarray(y[0], np.float32))
        assert many.dtype == np.float32
        assert_allclose(
            many[: x.size], fun(np.float32(x).astype(float), float(np.float32(y[0]))), 1e-7
        )


CORNERS = [0.0, -0.0, 1.0, -1.0, -2.0, 2.0, 8.0, 20.0, INF, -INF, NAN, 1e308, -1e308, 1e16, -180.5]
PAIRS = [
    (-2, 2), (-3, 2), (-2, 3), (-3, 1.5), (0, 1), (0, 0), (1, 0), (INF, 1), (2, INF), (1, NAN),
    (-0.5, 200), (-100.5, 50), (-300.5, 2), (1e10, 1e10),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", approximations.__all__)
def test_corners_of_approximations_are_those_of_scipys(name: str) -> None:
    theirs = getattr(pytest.importorskip("scipy.special"), name)
    args = np.transpose(PAIRS) if name in ("beta", "betaln") else [np.array(CORNERS)]
    expected = theirs(*args)
    if name in ("i0", "i1"):  # SciPy's are NaN at both infinities
        expected[np.isinf(args)[0]] = [INF, INF if name == "i0" else -INF]
    assert_allclose(getattr(approximations, name)(*args), expected, rtol=1e-11)


@pytest.mark.parametrize("name", ["erf", "erfinv", "i1", "i1e"])
def test_odd_functions_keep_the_sign_of_zero(name: str) -> None:
    assert np.signbit(getattr(approximations, name)(np.array([-0.0, 0.0]))).tolist() == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    "imports",
    [
        "import tensorgrad as tg; import scipy.special as sp",
        "import scipy.special as sp; import tensorgrad as tg",
        "import tensorgrad as tg; tg.special.erfc; import scipy; sp = scipy.special",
    ],
)
def test_scipys_functions_take_tensors_whatever_is_imported_first(imports: str) -> None:
    pytest.importorskip("scipy")
    out = python(
        f"{imports}; x = tg.Tensor(0.0, requires_grad=True); sp.erf(x).backward(); print(x.grad)"
    )
    assert_allclose(float(out), 2 / np.sqrt(np.pi))


def test_scipy_is_imported_when_wanted() -> None:
    assert python("import sys, tensorgrad; print('scipy' in sys.modules)") == "False\n"


def test_every_name_has_a_rule() -> None:
    sp = pytest.importorskip("scipy.special")
    importlib.import_module("tensorgrad.rules.special")
    for name in dir(special):
        fun = getattr(special, name)
        if isinstance(fun, np.ufunc):
            assert fun is getattr(sp, name) and fun in RULES
    assert {"erf", "gammaln", "digamma"} <= set(dir(special))
    with pytest.raises(AttributeError, match="no attribute 'errf'"):
        special.errf  # noqa: B018


def test_functions_of_ours_are_scipys() -> None:
    sp = pytest.importorskip("scipy.special")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40, 30)) * 20
    p = rng.uniform(size=1000)
    for fun, args in (
        ("expit", [x]), ("log_expit", [x]), ("logit", [p]), ("entr", [x]),
        ("xlogy", [x, abs(y)]), ("xlog1py", [x, abs(y)]), ("polygamma", [2, p]),
        ("rel_entr", [x, y]), ("kl_div", [p, 1 + p]), ("rel_entr", [p, p * (1 + 1e-9)]),
        ("rel_entr", [p * 1e308, p[::-1] * 1e-308]), ("multigammaln", [p + 2, 5]),
        *((f, [x, axis]) for axis in (None, 0, -1, (0, 1)) for f in ("softmax", "log_softmax")),
        *(("logsumexp", [x, axis, b]) for axis in (None, 0, -1, (0, 1)) for b in (None, abs(y))),
    ):  # fmt: skip
        assert_array_max_ulp(getattr(special, fun)(*args), getattr(sp, fun)(*args), maxulp=4)


@pytest.mark.parametrize(
    ("name", "x", "gradient"),
    [
        ("erf", [0.0, INF, 1e200], [2 / np.sqrt(np.pi), 0, 0]),
        ("erfinv", [-1.0, 0, 1], [INF, np.sqrt(np.pi) / 2, INF]),
        ("gammaln", [0.0, -1, INF], [-INF, NAN, INF]),
        ("digamma", [0.0, -1], [INF, INF]),
        ("ndtri", [0.0, 1], [INF, INF]),
        ("log_ndtr", [-1e4, -INF, INF], [1.00000000999999980e4, INF, 0]),
        ("erfcx", [0.0, 1e3, 1e8],
         [-2 / np.sqrt(np.pi), -5.6418873726549667e-7, -5.641895835477563e-17]),
        ("i1", [0.0], [0.5]),
        ("i0e", [0.0], [0]),
        ("rgamma", [0.0, -1, -2, INF], [1, -1, 2, NAN]),
    ],
)  # fmt: skip
def test_gradients_at_poles_and_in_tails(name: str, x: Any, gradient: Any) -> None:
    with np.errstate(all="raise"):
        assert_allclose(value_and_gradient(getattr(special, name), x)[1], gradient, rtol=1e-13)


def test_erfcx_keeps_its_digits_where_its_terms_cancel() -> None:
    x = [0.5, 5, 11.9, 12.1, 15, 19.9, 20.1, 30, 100]
    slopes = [
        -0.5126888229025867, -0.02133278976482631, -0.0039426339742260288, -0.0038146694715053243,
        -0.0024909754403396015, -0.0014193225647191463, -0.0013913213114440527,
        -0.00062583541050748407, -5.6410497625993185e-5,
    ]  # fmt: skip
    assert_allclose(value_and_gradient(special.erfcx, x)[1], slopes, rtol=4e-13)
    assert_allclose(value_and_gradient(special.erfcx, x, np.float32)[1], slopes, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_far_out(dtype: Any) -> None:
    with np.errstate(all="raise"):
        y, slope = value_and_gradient(nn.gelu, [-1e4, 0, 1e4], dtype)
    assert y.dtype == slope.dtype == dtype
    assert_array_equal(y, [0, 0, 1e4])
    assert_array_equal(slope, [0, 0.5, 1])
    # where 1 + erf(x / sqrt(2)) has lost all its digits
    assert_allclose(nn.gelu(-12.0), -12 * 1.7764821120776790e-33, rtol=1e-13)


def test_orders_of_bessel_functions_are_constants() -> None:
    sp = pytest.importorskip("scipy.special")
    with pytest.raises(tg.NoRuleError, match="jv has no derivative for its argument 0"):
        sp.jv(leaf(1.0), 2.0)
    x = leaf(2.0)
    sp.jv(np.uint8(0), x).backward()
    assert_allclose(x.grad, -sp.j1(2.0))


def test_methods_and_keywords_of_scipys_ufuncs() -> None:
    sp = pytest.importorskip("scipy.special")
    x = leaf([0.5, 1.0])
    sp.erf(x, where=[True, False]).backward(np.ones(2))
    assert_allclose(x.grad, [2 / np.sqrt(np.pi) * np.exp(-0.25), 0])
    with pytest.raises(tg.NoRuleError, match="agm has no derivative rule"):
        sp.agm(x, 1.0)


@pytest.mark.parametrize("fun", [nn.hardshrink, nn.softshrink, lambda x: nn.threshold(x, 0.5, 0.0)])
def test_what_is_not_a_number_remains(fun: Any) -> None:
    x = tg.Tensor([np.nan, 0.25, np.inf], requires_grad=True)
    y = fun(x)
    y.backward(np.ones(3))
    assert_array_equal(y.data, [np.nan, 0, np.inf])
    assert_array_equal(x.grad, [1, 0, 1])
