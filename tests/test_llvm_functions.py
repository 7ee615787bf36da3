"""Element-wise functions in native code: exact ones bit for bit as NumPy's, the others in ulp.

The reference of float32 is NumPy's function in float64, that of float64 NumPy's in long double.
"""

import ctypes
import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from llvmlite import ir

from tensorgrad.compiler.backends.llvm import functions, runtime
from tensorgrad.compiler.backends.llvm.loops import loop, vector_type
from tests.depth import FULL

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

SAMPLES = 1 << (16 if FULL else 12)  # of each kind
# Where long double is float64 itself, the reference is not exact either.
REFERENCE_ERROR = 0 if np.finfo(np.longdouble).nmant > 60 else 1
FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]


def native(fun: Any, arrays: list[np.ndarray], dtype: np.dtype[Any], lanes: int) -> np.ndarray:
    """Compute a function, or convert to a dtype where it is None, so many elements at a time."""
    pointer = ir.PointerType()
    module = ir.Module()
    kind = ir.FunctionType(ir.VoidType(), [pointer] * (len(arrays) + 1))
    function = ir.Function(module, kind, "kernel")
    builder = ir.IRBuilder(function.append_basic_block())
    wanted = arrays[0].size
    size = -(-wanted // lanes) * lanes
    arrays = [np.resize(a, size) for a in arrays]
    out = np.empty(size, dtype)

    def memory(of: np.dtype[Any]) -> ir.Type:
        return ir.IntType(8) if of.kind == "b" else functions.type_of(of)

    def place(pointer: ir.Value, index: ir.Value, of: np.dtype[Any]) -> ir.Value:
        return builder.gep(pointer, [index], source_etype=memory(of))

    def body(index: ir.Value, _carried: Any) -> list[ir.Value]:
        operands = []
        for argument, array in zip(function.args, arrays):
            at = place(argument, index, array.dtype)
            value = builder.load(at, typ=vector_type(memory(array.dtype), lanes), align=1)
            if array.dtype.kind == "b":
                value = builder.trunc(value, vector_type(ir.IntType(1), lanes))
            operands.append(value)
        if fun is None:
            result = functions.cast(builder, operands[0], dtype)
        else:
            result = functions.emit(builder, fun, *operands)
        if dtype.kind == "b":
            result = builder.zext(result, vector_type(memory(dtype), lanes))
        builder.store(result, place(function.args[-1], index, dtype), align=1)
        return []

    loop(builder, size, lanes, [], body)
    builder.ret_void()
    library = runtime.compile(module)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(function.args))
    call(library.address("kernel"))(*[a.ctypes.data for a in (*arrays, out)])
    return out[:wanted]


def numbers(dtype: np.dtype[Any], seed: int = 0) -> np.ndarray:
    """All kinds of numbers: random bits, the usual ones, those at the limits of exp, and limits."""
    draw = np.random.default_rng(seed)
    bits = draw.integers(0, 1 << 8 * dtype.itemsize, SAMPLES, f"u{dtype.itemsize}").view(dtype)
    signs = draw.choice([-1.0, 1.0], SAMPLES)
    parts = [
        bits,
        draw.standard_normal(SAMPLES),
        draw.uniform(-110, 110, SAMPLES),
        draw.uniform(-750, 750, SAMPLES),
        draw.uniform(-2, 2, SAMPLES),
        1 + draw.standard_normal(SAMPLES) / 100,
        signs * np.exp(draw.uniform(-50, 30, SAMPLES)),
        signs * draw.integers(0, 2000, SAMPLES),
        LIMITS[dtype],
    ]
    return draw.permutation(np.concatenate([part.astype(dtype) for part in parts]))


def limits(dtype: np.dtype[Any]) -> np.ndarray:
    info = np.finfo(dtype)
    positive = [
        0, 0.25, 0.5, 1, 1.5, 2, 3, 10, 1e30, np.inf, info.max, info.tiny, info.smallest_subnormal,
        np.nextafter(info.tiny, 0), 1 + info.eps, 1 - info.epsneg, np.pi, np.pi / 2, np.e,
    ]  # fmt: skip
    values = np.array([*positive, np.nan], dtype)
    return np.concatenate([values, -values])


LIMITS = {dtype: limits(dtype) for dtype in FLOATS}


def ulps(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The distance from the exact result in units in the last place; infinite for a wrong limit."""
    right = exact.astype(found.dtype)
    info = np.finfo(found.dtype)
    unit = np.spacing(np.maximum(np.abs(right), info.tiny)).astype(np.longdouble)
    distance = np.abs(found - exact.astype(np.longdouble)) / unit
    same = (found == right) | (np.isnan(found) & np.isnan(right))
    return np.where(same & ~np.isfinite(right), 0, np.where(np.isnan(distance), np.inf, distance))


def exact(fun: Any, *arrays: np.ndarray) -> np.ndarray:
    """The function in the next larger format."""
    double = arrays[0].dtype == np.float64
    return fun(*[a.astype(np.longdouble if double else np.float64) for a in arrays])


def assert_same_bits(found: np.ndarray, wanted: np.ndarray) -> None:
    """NaNs are all alike."""
    np.testing.assert_array_equal(found, wanted)
    if wanted.dtype.kind == "f":
        signs = np.isnan(wanted) | (np.signbit(found) == np.signbit(wanted))
        assert signs.all(), wanted[~signs]


def operands(fun: np.ufunc, dtype: np.dtype[Any]) -> list[np.ndarray]:
    """Numbers for each operand, and before them each limit beside each."""
    pairs = [side.ravel() for side in np.meshgrid(LIMITS[dtype], LIMITS[dtype])]
    return [np.concatenate([pairs[i], numbers(dtype, i)]) for i in range(fun.nin)]


ELEMENTARY = [
    np.exp, np.exp2, np.expm1, np.log, np.log2, np.log10, np.log1p, np.sinh, np.cosh, np.tanh,
    np.sin, np.cos, np.arcsin, np.arccos, np.arctan, np.arctan2, np.power, np.hypot, np.arctanh,
    np.tan, np.cbrt, np.arcsinh, np.arccosh, np.float_power,
]  # fmt: skip


@pytest.mark.parametrize("fun", ELEMENTARY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_an_elementary_function_is_right_to_2_ulp(fun: np.ufunc, dtype: np.dtype[Any]) -> None:
    arrays = operands(fun, dtype)
    found = native(fun, arrays, dtype, runtime.host().lanes(dtype))
    right = exact(fun, *arrays)
    error = ulps(found, right)
    worst = error.argmax()
    assert error[worst] <= 2 + REFERENCE_ERROR, ([a[worst] for a in arrays], found[worst])
    assert_same_bits(found[right == 0], fun(*arrays)[right == 0])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_logaddexp_is_right_to_the_last_digits_of_its_operands(dtype: np.dtype[Any]) -> None:
    x, y = operands(np.logaddexp, dtype)
    found, right = native(np.logaddexp, [x, y], dtype, 4), exact(np.logaddexp, x, y)
    scale = np.maximum(1, np.maximum(np.abs(x), np.abs(y))).astype(np.longdouble)
    near = np.abs(found - right) <= 4 * np.finfo(dtype).eps * scale
    same = (found == right) | (np.isnan(found) & np.isnan(right))
    assert (near | same).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("exponent", [-1.0, 0.5, 1.0, 2.0, 3.0, 2.5])
def test_power_of_a_constant_exponent(exponent: float, dtype: np.dtype[Any]) -> None:
    """The most usual ones have code of their own."""
    module = ir.Module()
    kind = functions.type_of(dtype, 4)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.PointerType()] * 2), "kernel")
    builder = ir.IRBuilder(function.append_basic_block())
    x = builder.load(function.args[0], typ=kind, align=1)
    power = functions.emit(builder, np.power, x, ir.Constant(kind, [kind.element(exponent)] * 4))
    builder.store(power, function.args[1], align=1)
    builder.ret_void()
    assert any("power" in name for name in module.globals) == (exponent == 2.5)
    library = runtime.compile(module)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.address("kernel"))
    values = np.resize(LIMITS[dtype], (10, 4))
    for row in values:
        out = np.empty_like(row)
        call(row.ctypes.data, out.ctypes.data)
        right = exact(np.power, row, np.full_like(row, exponent))
        assert (ulps(out, right) <= 2).all(), (row, out)
        assert_same_bits(out[right == 0], right[right == 0].astype(dtype))


EXACT = [
    np.positive, np.negative, np.absolute, np.fabs, np.sign, np.square, np.reciprocal, np.sqrt,
    np.isnan, np.isinf, np.isfinite, np.signbit, np.floor, np.ceil, np.trunc, np.rint,
    np.logical_not, np.add, np.subtract, np.multiply, np.true_divide, np.maximum, np.minimum,
    np.fmax, np.fmin, np.copysign, np.equal, np.not_equal, np.less, np.less_equal, np.greater,
    np.greater_equal, np.logical_and, np.logical_or, np.logical_xor, np.remainder, np.fmod,
    np.floor_divide, np.heaviside, np.degrees, np.radians, np.deg2rad, np.rad2deg,
]  # fmt: skip


@pytest.mark.parametrize("fun", EXACT, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_other_functions_of_floats_are_numpys(fun: np.ufunc, dtype: np.dtype[Any]) -> None:
    arrays = operands(fun, dtype)
    wanted = fun(*arrays)
    found = native(fun, arrays, wanted.dtype, 8)
    if fun in (np.maximum, np.minimum, np.fmax, np.fmin):
        found, wanted = found + 0, wanted + 0  # of two zeros, NumPy takes either
    assert_same_bits(found, wanted)


@pytest.mark.parametrize("dtype", [np.bool, np.int32, np.int64], ids=lambda d: d.__name__)
def test_functions_of_integers_and_bools_are_numpys(dtype: Any, subtests: Any) -> None:
    draw = np.random.default_rng(0)
    arrays = [draw.integers(-5, 6, 1000).astype(dtype) for _ in range(2)]
    others = [np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert]
    known = [fun for fun in EXACT + others if functions.is_known(fun, [dtype] * fun.nin)]
    assert len(known) > (10 if dtype is np.bool else 20)
    for fun in known:
        with subtests.test(fun=fun.__name__):
            wanted = fun(*arrays[: fun.nin])
            found = native(fun, arrays[: fun.nin], wanted.dtype, 4)
            assert_same_bits(found, wanted)


def test_where_takes_a_condition() -> None:
    draw = np.random.default_rng(0)
    condition, (x, y) = draw.random(64) < 0.5, draw.standard_normal((2, 64), np.float32)
    assert functions.is_known(np.where, [bool, np.float32, np.float32])
    assert not functions.is_known(np.where, [np.float32] * 3)
    found = native(np.where, [condition, x, y], x.dtype, 8)
    assert_same_bits(found, np.where(condition, x, y))


@pytest.mark.parametrize("to", [np.bool, np.int32, np.int64, np.float32, np.float64])
def test_casts_are_numpys(to: Any, subtests: Any) -> None:
    for of in (np.bool, np.int32, np.int64, np.float32, np.float64):
        with subtests.test(of=of.__name__):
            x = np.array([0, 1, -1, 7.75, -7.75, 2e9, -2e9, 123456789.0]).astype(of)
            if np.dtype(of).kind == "f" and np.dtype(to).kind in "bf":
                x = np.concatenate([x, LIMITS[np.dtype(of)]])
            assert_same_bits(native(None, [x], np.dtype(to), 1), x.astype(to))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_results_do_not_depend_on_the_number_of_lanes(dtype: np.dtype[Any]) -> None:
    for fun in ELEMENTARY:
        arrays = [numbers(dtype, seed)[: 16 * 3 * 5] for seed in range(fun.nin)]
        one = native(fun, arrays, dtype, 1)
        np.testing.assert_array_equal(native(fun, arrays, dtype, 3), one)
        np.testing.assert_array_equal(native(fun, arrays, dtype, 16), one)


def test_what_is_not_known() -> None:
    assert not functions.is_known(np.tanh, [np.int64])
    assert not functions.is_known(np.add, [np.float32, np.float64])
    assert not functions.is_known(np.add, [np.complex64] * 2)
    assert not functions.is_known(np.sort, [np.float64])


def test_a_module_has_a_function_once() -> None:
    module = ir.Module()
    kind = functions.type_of(np.float32, 8)
    function = ir.Function(module, ir.FunctionType(kind, [kind]), "twice")
    builder = ir.IRBuilder(function.append_basic_block())
    inner = functions.emit(builder, np.exp, function.args[0])
    builder.ret(functions.emit(builder, np.exp, inner))
    assert sum("exp" in name for name in module.globals) == 1


ERFC = {  # the complementary error function at some places, by mpmath in 40 digits
    -5.5: 1.9999999999999927, -1.25: 1.9229001282564582, -0.3125: 1.341468633501595,
    0.1875: 0.7908823229406241, 0.607421875: 0.39032713512051553, 0.84375: 0.23277433876765838,
    1.230551260413356: 0.08181297386514796, 1.9921875: 0.004841741752687067,
    3.4375: 1.1658253489741942e-06, 6.0625: 1.0023862905439418e-17, 13.5: 2.949433113257988e-81,
    26.125: 8.342216136917842e-299,
}  # fmt: skip
NORMAL = {  # the distribution function at some places, by mpmath in 40 digits
    -37.5: 4.605353009581955e-308, -20.25: 1.77619986494957e-91, -5.125: 1.4876887318776628e-07,
    -2.16796875: 0.015080532138357193, -1.0043448095383178: 0.15760622109783204,
    -1.0625: 0.14400437900197094, -0.5: 0.3085375387259869,
    0.25: 0.5987063256829237, 1.5: 0.9331927987311419, 8.0: 0.9999999999999993,
}  # fmt: skip


@pytest.mark.parametrize("name", ["erf", "erfc", "ndtr"])
def test_scipys_functions_of_the_normal_distribution(name: str) -> None:
    fun = getattr(pytest.importorskip("scipy.special"), name)
    references = {
        "erf": math.erf,
        "erfc": math.erfc,
        "ndtr": lambda x: math.erfc(-x * math.sqrt(0.5)) / 2,
    }
    for dtype in FLOATS:
        draw = np.random.default_rng(0)
        x = [draw.uniform(-40, 40, SAMPLES), draw.standard_normal(SAMPLES), LIMITS[dtype]]
        x = np.concatenate([part.astype(dtype) for part in x])
        if dtype == np.float64 and name != "erf":  # the C library's is wrong by some ulps
            table = ERFC if name == "erfc" else NORMAL
            x, right = np.array([*table]), np.array([*table.values()])
        else:
            right = np.array([references[name](float(v)) for v in x])
        found = native(fun, [x], dtype, 4)
        bound = 0.6 if dtype == np.float32 else 3  # the reference may be wrong by 1 ulp, too
        error = ulps(found, right)
        assert error.max() <= bound, (x[error.argmax()], error.max())
        assert_same_bits(found[x == 0], fun(x)[x == 0])
