"""What is right, line by line: types and operands."""

import array as builtin_array
import copy
import ctypes
import decimal
import fractions
import itertools
import math
import operator
import pickle
import struct
import weakref
from inspect import signature
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.engine.methods import NumpyMethods

from .oracles import leaf

# -- what can require grad


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16, np.bool_])
def test_only_floating_and_complex_tensors_can_require_grad(dtype: Any) -> None:
    with pytest.raises(TypeError, match=str(np.dtype(dtype))):
        tg.Tensor([1, 0], dtype, requires_grad=True)
    t = tg.Tensor([1, 0], dtype)
    with pytest.raises(TypeError, match=str(np.dtype(dtype))):
        t.requires_grad = True
    assert not t.requires_grad
    with pytest.raises(TypeError, match=str(np.dtype(dtype))):
        tg.grad(lambda x: np.sum(x * 1.0))(np.array([1, 0], dtype))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", np.longdouble, ">f4", ">f8", "<f2"])
def test_every_real_floating_dtype_can(dtype: Any) -> None:
    x = leaf([1.0, 2.0], dtype)
    (x * x).backward(np.ones(2))
    assert x.dtype == x.grad.dtype == np.dtype(dtype)
    assert_array_equal(x.grad, [2, 4])


def test_big_endian_matrices_and_sums() -> None:
    x, w = leaf(np.ones((2, 3)), ">f8"), leaf(np.ones((3, 2)), ">f4")
    out = np.sum(np.tanh(x @ w) + np.ones(2, ">f4"), axis=0)
    out.backward(np.ones(2, ">f8"))
    assert x.grad.dtype == np.dtype(">f8") and w.grad.dtype == np.dtype(">f4")
    assert_allclose(x.grad, np.full((2, 3), 2 * (1 - np.tanh(3) ** 2)), rtol=1e-6)


def test_longdouble_keeps_its_digits() -> None:
    x = leaf(np.longdouble(1) / 3)
    (x * x).backward()
    assert x.grad == np.longdouble(2) / 3


def test_requires_grad_can_be_set_and_cleared_on_a_leaf_only() -> None:
    x = tg.Tensor([1.0])
    assert x.is_leaf and not x.requires_grad
    x.requires_grad = True
    y = x * 2
    y.backward()
    x.requires_grad = False
    assert x.grad is None and not (x * 2).requires_grad
    with pytest.raises(tg.GraphError, match="detach"):
        y.requires_grad = False


def test_default_dtype_is_numpys() -> None:
    for data in [1.0, 2.0], [1, 2], [True], np.ones(2, np.float32), 1.0, 1, np.float32(1), [1j], []:
        assert tg.Tensor(data).dtype == np.array(data).dtype
        assert tg.asarray(data).dtype == np.array(data).dtype
    assert tg.Tensor([1, 2], "float32").dtype == np.float32


# -- dtype promotion is NumPy's

SCALARS = [
    2, 2.0, True, np.float32(2), np.float64(2), np.float16(2), np.int8(2), np.int64(2),
    np.bool_(True), np.longdouble(2), np.array(2.0), np.array(2.0, np.float32), np.array([2, 1]),
    [2, 1], [2.0, 1.0], 2j, np.complex64(2j),
]  # fmt: skip
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("operation", BINARY)
def test_values_and_dtypes_beside_scalars_are_numpys(dtype: Any, operation: Any) -> None:
    a = np.array([1.5, 2.0], dtype)
    for other, tracked in itertools.product(SCALARS, [True, False]):
        t = tg.Tensor(a, requires_grad=tracked)
        for out, expected in (
            (operation(t, other), operation(a, other)),
            (operation(other, t), operation(other, a)),
        ):
            assert type(out) is tg.Tensor
            assert out.dtype == expected.dtype, other
            assert_array_equal(out.data, expected)
            if tracked:
                out.backward(np.ones(out.shape))
        assert not tracked or (t.grad.dtype == dtype and np.isfinite(t.grad).all()), other


@pytest.mark.parametrize("name", ["Fraction", "Decimal"])
def test_exact_numbers_are_refused_as_operands(name: str) -> None:
    number = {"Fraction": fractions.Fraction(1, 2), "Decimal": decimal.Decimal(2)}[name]
    with pytest.raises(TypeError):
        leaf([1.0]) * number


def test_a_number_too_large_for_the_dtype_is_numpys_error() -> None:
    with pytest.raises(OverflowError):
        leaf([1.0]) * 10**400


# -- NumPy on either side


@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
def test_numpy_on_the_left_gives_tensors_with_gradients(shape: Any) -> None:
    a = np.full(shape, 2.0)
    for f in (
        lambda t: np.float64(2) * t,
        lambda t: np.float32(2) - t,
        lambda t: np.int64(2) / t,
        lambda t: np.bool_(True) + t,
        lambda t: np.float64(2) ** t,
        lambda t: divmod(np.float64(2), t)[1],
        lambda t: np.ones(2) * t,
        lambda t: np.ones((2, 2)) @ t if t.ndim else t * 1,
        lambda t: np.tanh(t),
        lambda t: np.concatenate([t, t]) if t.ndim else np.stack([t, t]),
        lambda t: np.stack([np.ones(shape), t]),
        lambda t: np.where(np.ones(shape, bool), t, 0),
        lambda t: np.sum(a=t),
        lambda t: np.multiply(np.arange(2.0), t),
    ):
        t = leaf(np.full(shape, 1.5))
        out = f(t)
        assert type(out) is tg.Tensor and out.requires_grad
        assert type(out.data) is np.ndarray
        out.backward(np.ones(out.shape))
        assert t.grad.shape == shape
    assert_array_equal(a, np.full(shape, 2.0))


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
def test_comparison_with_numpy_on_the_left(compare: Any) -> None:
    t = leaf([1.0, 2.0, 3.0])
    for other in np.float64(2), np.array([2.0, 2.0, 2.0]), 2, [2, 2, 2]:
        out = compare(other, t)
        assert type(out) is tg.Tensor and not out.requires_grad
        assert_array_equal(out.data, compare(other, t.data))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_numpy_matrix_behaves_as_an_array_and_never_detaches() -> None:
    matrix = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    t = leaf(np.ones((2, 2)))
    out = t * matrix
    assert type(out) is tg.Tensor and type(out.data) is np.ndarray
    assert_array_equal(out.data, matrix.A)
    np.sum(out).backward()
    assert type(t.grad) is np.ndarray
    try:
        left = matrix * t
    except TypeError:
        return
    assert left.requires_grad
    assert type(tg.Tensor(matrix).data) is np.ndarray


def test_results_are_arrays_never_numpy_scalars() -> None:
    for requires_grad in True, False:
        t = tg.Tensor([1.0, 2.0], requires_grad=requires_grad)
        for out in (
            np.sum(t), t[0], t @ t, np.max(t), t.mean(), t[0] * t[1], t[0] ** 2, -t[0],
            np.tanh(t[0]), np.add.reduce(t), np.where(True, t[0], 0), t.sum() == 3,
            np.isnan(t[0]), t[0] // 2,
            divmod(t[0], 2)[1], np.argmax(t), np.square(t[0]), abs(t[0]), t[0].copy(), t[0].T,
        ):  # fmt: skip
            assert type(out) is tg.Tensor
            assert type(out.data) is np.ndarray and out.shape == ()


# -- a tracked tensor is never detached silently


@pytest.mark.parametrize(
    "fun",
    [
        np.asarray, np.array, np.asanyarray, np.float64, np.float32, float, int, complex,
        operator.index, math.sin, math.floor, math.sqrt, round, memoryview, bytes,
        lambda t: np.array([t, 1.0]),
        lambda t: np.array([1.0, t]),
        lambda t: np.array([[t], [1.0]]),
        lambda t: np.array([t], dtype=object),
        lambda t: np.array(t, copy=False),
        lambda t: np.full(3, t),
        lambda t: np.mean([t, t]),
        lambda t: np.arange(t),
        lambda t: np.random.default_rng(0).normal(t),
        lambda t: np.lib.stride_tricks.as_strided(t),
        lambda t: np.vectorize(lambda v: v)(t),
        lambda t: np.fromiter([t], float),
        "%f".__mod__,
        lambda t: range(t),
        lambda t: [1, 2, 3][t],
        lambda t: math.fsum([t]),
        lambda t: struct.pack("d", t),
        lambda t: builtin_array.array("d", [t]),
        lambda t: ctypes.c_double(t),
        lambda t: np.ma.array([1.0]) * t,
        lambda t: np.ma.add(t, 1.0),
        lambda t: np.ma.masked_array(t),
    ],
)  # fmt: skip
def test_a_tracked_tensor_never_becomes_a_plain_number(fun: Any) -> None:
    with pytest.raises((TypeError, ValueError, struct.error)):
        fun(leaf(1.5))


@pytest.mark.parametrize("fun", [np.asarray, np.array, float, math.sin, np.float64, complex])
def test_the_error_names_the_cures(fun: Any) -> None:
    cures = r"asarray, numpy\.stack.*zeros.*differentiable.*alone, write \.item\(\), \.numpy\(\)"
    with pytest.raises(TypeError, match=cures):
        fun(leaf(1.5))


def test_an_untracked_tensor_converts_freely() -> None:
    t = tg.Tensor(1.5)
    assert float(t) == 1.5 and int(t) == 1 and complex(t) == 1.5 and math.sin(t) == math.sin(1.5)
    assert [1, 2, 3][tg.Tensor(1)] == 2
    assert type(np.asarray(t)) is np.ndarray
    assert np.asarray(t, np.float32).dtype == np.float32
    assert np.array([t, 1.0]).tolist() == [1.5, 1.0]
    v = tg.Tensor([1.0, 2.0])
    assert not np.shares_memory(np.array(v, copy=True), v.data)
    assert np.shares_memory(np.asarray(v), v.data)
    assert leaf(1.5).item() == 1.5 and leaf([1.5]).tolist() == [1.5]
    assert type(leaf(1.5).numpy()) is np.ndarray


@pytest.mark.parametrize(
    "nested",
    [
        lambda t: [t, 1.0],
        lambda t: (1.0, t),
        lambda t: [[t], [1.0]],
        lambda t: [t, t],
        lambda t: [np.ones(()), t],
        lambda t: [[1.0, 2.0], np.stack([t, t])],
        lambda t: np.stack([t, t]),
    ],
)
def test_tensor_of_tensors_stacks_with_gradient_or_refuses(nested: Any) -> None:
    t = leaf(2.0)
    for make in tg.Tensor, tg.asarray:
        try:
            out = make(nested(t))
        except TypeError as error:
            assert "detach" in str(error)
        else:
            assert out.requires_grad


# -- functions without a rule


@pytest.mark.parametrize(
    ("fun", "name"),
    [
        (np.histogram, "histogram"),
        (np.frompyfunc(abs, 1, 1), "abs"),
        (lambda t: np.linalg.qr(np.stack([t, t]), "raw"), "qr"),
    ],
)
def test_a_function_without_a_rule_fails_at_the_forward_call(fun: Any, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        fun(leaf([1.0, 2.0]))


@pytest.mark.parametrize("fun", [np.spacing, np.histogram, np.frexp])
def test_functions_without_a_rule_work_on_untracked_tensors(fun: Any) -> None:
    a = np.array([1.0, 2.0])
    out, expected = fun(tg.Tensor(a)), fun(a)
    for actual, wanted in zip(out, expected) if isinstance(out, tuple) else [(out, expected)]:
        assert type(actual) is tg.Tensor
        assert_array_equal(actual.data, wanted)
    with tg.no_grad():
        assert not any(o.requires_grad for o in np.modf(leaf(a)))


@pytest.mark.parametrize(
    "fun",
    [
        lambda t: np.sum(t, where=[True, False]),
        lambda t: np.sum(t, initial=1.0),
        lambda t: np.max(t, initial=1.0),
        lambda t: np.mean(t, where=[True, False]),
        lambda t: np.add(t, 1.0, where=[True, False]),
    ],
)
def test_an_argument_without_a_derivative_works_or_is_refused_by_name(fun: Any) -> None:
    try:
        out = fun(leaf([1.0, 2.0]))
    except tg.NoRuleError as error:
        assert any(name in str(error) for name in ("sum", "max", "mean", "add"))
    else:
        assert out.requires_grad


def test_numpy_makes_tensors_like_a_tensor() -> None:
    for requires_grad in False, True:
        t = tg.Tensor([1.0, 2.0], requires_grad=requires_grad)
        for y, expected in [
            (np.zeros(3, like=t), np.zeros(3)),  # type: ignore[call-overload]
            (np.array([1, 2], like=t), np.array([1, 2])),  # type: ignore[call-overload]
            (np.eye(2, like=t), np.eye(2)),  # type: ignore[call-overload]
        ]:
            assert type(y) is tg.Tensor and not y.requires_grad and y.dtype == expected.dtype
            assert_array_equal(y, expected)


def test_tracked_condition_or_index_is_refused_or_untracked() -> None:
    t = leaf([1.0, 0.0])
    np.sum(np.where(t, 1.0, 2.0) * t).backward()
    assert_array_equal(t.grad, [1, 2])  # the condition has no share in it
    with pytest.raises((TypeError, IndexError)):
        np.arange(3)[t]
    with pytest.raises(TypeError, match="detach"):
        t[t]


# -- arrays of other kinds

OTHERS = {
    "object": np.array([1.0, 2.0], dtype=object),
    "string": np.array(["a", "b"]),
    "bytes": np.array([b"a", b"b"]),
    "datetime": np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
    "timedelta": np.array([1, 2], dtype="timedelta64[s]"),
    "structured": np.array([(1.0,), (2.0,)], dtype=[("x", float)]),
    "masked": np.ma.array([1.0, 2.0], mask=[False, True]),
    "record": np.rec.array([(1.0,), (2.0,)], dtype=[("x", float)]),
    "string dtype": np.array(["a", "b"], dtype=np.dtypes.StringDType()),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_arrays_of_other_kinds_are_type_errors(kind: str) -> None:
    other, t = OTHERS[kind], leaf([1.0, 2.0])
    for fun in (
        tg.Tensor,
        tg.asarray,
        lambda a: t * a,
        lambda a: a * t,
        lambda a: np.add(a, t),
        lambda a: np.where([True, False], t, a),
        lambda a: np.concatenate([t, a]),
        lambda a: np.stack([a, t]),
        lambda a: t.backward(a),
        lambda a: setattr(t, "data", a),
    ):
        with pytest.raises(TypeError):
            fun(other)


@pytest.mark.parametrize(
    "value", [None, "a", object(), {}, {1.0}, b"a", [None], ["a"], [[1], [1, 2]]]
)
def test_other_python_values_are_refused(value: Any) -> None:
    for fun in tg.Tensor, tg.asarray, lambda v: leaf([1.0]) * v, lambda v: v * leaf([1.0]):
        with pytest.raises((TypeError, ValueError)):
            fun(value)


def test_other_classes_may_take_the_operation_over() -> None:
    class Other:
        def __radd__(self, _other: Any) -> str:
            return "taken over"

    class OptedOut:
        __array_ufunc__ = None

        def __rmul__(self, _other: Any) -> str:
            return "taken over"

    assert leaf([1.0]) + Other() == "taken over"
    assert leaf([1.0]) * OptedOut() == "taken over"


def test_an_object_that_becomes_an_array_is_an_operand() -> None:
    class Column:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.array([3.0, 4.0], dtype)

    t = leaf([1.0, 2.0])
    np.sum(t * Column() + Column() * t).backward()
    assert_array_equal(t.grad, [6, 8])


def test_lists_are_indices_as_in_numpy() -> None:
    t = tg.Tensor([1.0, 2.0, 3.0])
    assert_array_equal(t[[True, False, True]], [1, 3])
    assert_array_equal(t[[2, 0]], [3, 1])
    assert_array_equal(t[[]], [])
    with pytest.raises(IndexError):
        t[np.array([])]


def test_comparison_with_something_else_is_false_as_numpys() -> None:
    t = tg.Tensor([1.0, 2.0])
    for other in "a", None:
        assert not np.asarray(t == other).any()
        assert np.asarray(t != other).all()


# -- float16


def test_float16_means_and_sums_of_gradients_accumulate_in_float32() -> None:
    x = leaf(np.full(5000, 16.0), np.float16)
    mean = np.mean(x)
    assert mean.dtype == np.float16 and mean.item() == 16
    mean.backward(np.float16(500))
    assert x.grad.dtype == np.float16
    assert_allclose(x.grad, 0.1, rtol=1e-3)
    rows = leaf(np.ones((4096, 2)), np.float16)
    assert_array_equal(np.mean(rows, axis=0).data, [1, 1])
    bias = leaf([0.0, 0.0], np.float16)
    out = rows + bias
    out.backward(np.full((4096, 2), 1.0, np.float16))
    assert_array_equal(bias.grad, [4096, 4096])


# -- complex constants; complex leaves are in test_complex.py


def test_complex_arrays_flow_as_constants() -> None:
    c = np.array([1 + 2j, 3 - 1j])
    x = leaf([2.0, 3.0])
    z = x * c
    assert z.requires_grad and z.dtype == np.complex128
    np.sum(np.real(z * c)).backward()
    assert_allclose(x.grad, (c * c).real)
    x.grad = None
    np.sum(np.abs(x * c)).backward()
    assert_allclose(x.grad, np.abs(c))
    t = tg.Tensor(c)
    assert (t * 2).dtype == np.complex128 and not (t * 2).requires_grad


def test_backward_from_a_complex_output_without_gradient_is_an_error() -> None:
    x = leaf(2.0)
    with pytest.raises((TypeError, ValueError), match="complex"):
        (x * 1j).backward()


# -- Python's protocols


def test_bool_of_several_elements_is_an_error() -> None:
    for t in leaf([1.0, 2.0]), tg.Tensor([True, True]), tg.Tensor(np.zeros(0)):
        with pytest.raises(ValueError):
            bool(t)
    assert bool(leaf(1.0)) and not bool(tg.Tensor([[0.0]]))


def test_equality_is_elementwise_and_hash_is_by_identity() -> None:
    x, y = leaf([1.0, 2.0]), leaf([1.0, 3.0])
    assert_array_equal((x == y).data, [True, False])
    assert_array_equal((x != y).data, [False, True])
    assert_array_equal((x == np.array([1.0, 0.0])).data, [True, False])
    assert_array_equal((np.array([1.0, 0.0]) == x).data, [True, False])
    assert len({x, y, x}) == 2 and {x: 1}[x] == 1


def test_len_and_iteration() -> None:
    for t in leaf(1.0), tg.Tensor(1.0):
        with pytest.raises(TypeError, match="0-d"):
            len(t)
        with pytest.raises(TypeError, match="0-d"):
            iter(t)
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    first, second = x
    (first * 2 + second).backward([1.0, 1.0])
    assert len(x) == 2
    assert_array_equal(x.grad, [[2, 2], [1, 1]])
    assert list(leaf(np.zeros((0, 2)))) == []
    assert 2.0 in tg.Tensor([1.0, 2.0])


def test_formatting() -> None:
    loss = leaf(0.123456, np.float64)
    assert f"{loss:.3f}" == "0.123"
    assert f"{leaf([[0.5]]):6.2f}" == "  0.50"
    assert f"{tg.Tensor(3):d}" == "3"
    assert f"{leaf([1.0, 2.0])}" == str(np.array([1.0, 2.0]))
    with pytest.raises((TypeError, ValueError)):
        f"{leaf([1.0, 2.0]):.3f}"


def test_repr_is_numpys() -> None:
    assert repr(tg.Tensor([1.0, 2.0])) == "Tensor([1., 2.])"
    assert repr(leaf([1.0], np.float32)) == "Tensor([1.], dtype=float32, requires_grad=True)"
    assert repr(leaf(1.0)) == "Tensor(1., requires_grad=True)"
    assert repr(tg.Tensor(np.eye(2))) == "Tensor([[1., 0.],\n        [0., 1.]])"
    assert repr(tg.Tensor(np.zeros((0, 2)))).startswith("Tensor([]")


def test_attributes_are_the_arrays() -> None:
    a = np.ones((2, 3), np.float32)
    t = leaf(a)
    assert (t.shape, t.ndim, t.size, t.dtype, t.device) == (a.shape, 2, 6, a.dtype, a.device)
    assert t.T.shape == t.mT.shape == (3, 2)
    assert leaf(1.0).T.shape == ()
    with pytest.raises(ValueError):
        _ = leaf([1.0]).mT


def test_axis_may_be_a_numpy_integer_or_negative() -> None:
    x = leaf(np.ones((2, 3)))
    np.sum(np.sum(x, axis=np.int64(1)) * np.max(x, axis=-1)).backward()
    assert x.grad.shape == (2, 3)
    with pytest.raises(ValueError, match="axis"):
        np.sum(x, axis=2)


# -- copying and pickling


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))]
)
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "f2", np.longdouble])
def test_leaves_copy_and_pickle_with_dtype_and_requires_grad(copied: Any, dtype: Any) -> None:
    for requires_grad in True, False:
        for data in [[1.0, 2.0]], 3.0, []:
            t = tg.Tensor(data, dtype, requires_grad)
            u = copied(t)
            assert type(u) is tg.Tensor and u.dtype == t.dtype and u.is_leaf
            assert u.requires_grad == requires_grad
            assert_array_equal(u.data, t.data)
            assert not np.shares_memory(u.data, t.data)
    assert copied(tg.Tensor([1, 2])).dtype == np.int64


def test_a_copied_leaf_is_independent() -> None:
    x = leaf([1.0, 2.0])
    np.sum(x).backward()
    y = copy.deepcopy(x)
    np.sum(y * 5).backward()
    y.data += 1
    assert_array_equal(x.grad, [1, 1])
    assert_array_equal(x.data, [1, 2])


def test_deepcopy_keeps_shared_parameters_shared() -> None:
    x = leaf([1.0])
    first, second = copy.deepcopy([x, x])
    assert first is second


def test_computed_tensors_refuse_to_be_pickled_with_the_cure() -> None:
    with pytest.raises(tg.GraphError, match=r"pickle.*detach\(\)"):
        pickle.dumps(leaf([1.0]) * 2)


def test_copy_method_keeps_the_graph() -> None:
    x = leaf([1.0, 2.0])
    y = x.copy()
    assert not np.shares_memory(y.data, x.data)
    y.backward([1.0, 2.0])
    assert_array_equal(x.grad, [1, 2])


def test_tensors_can_be_weakly_referenced_but_take_no_attributes() -> None:
    x = leaf([1.0])
    with pytest.raises(AttributeError):
        x.datum = 1  # type: ignore[attr-defined]
    assert weakref.ref(x)() is x


@pytest.mark.parametrize("name", [n for n in vars(NumpyMethods) if not n.startswith("_")])
def test_methods_tell_parameters_that_numpys_functions_have(name: str) -> None:
    declared = [*signature(getattr(tg.Tensor, name)).parameters.values()][1:]
    function = getattr(np, name)
    if isinstance(function, np.ufunc):
        assert declared == []
        return
    known = signature(function).parameters
    by_position = [*known][1 : 1 + len(declared)]
    for parameter, place in zip(declared, by_position, strict=False):
        assert parameter.name in known
        assert parameter.kind is parameter.KEYWORD_ONLY or parameter.name == place
        default = known[parameter.name].default
        if default not in (np._NoValue, parameter.empty):
            assert parameter.default == default
