"""Other libraries' objects beside tensors: who takes precedence, and that no gradient is lost."""

import operator
from typing import Any

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg

from .oracles import leaf

ARITHMETIC = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.pow,
]  # fmt: skip
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
A = np.array([1.5, 2.5, 3.5])


class Labelled(NDArrayOperatorsMixin):
    """Anything that computes, with a label that ufuncs keep: as xarray and pint wrap arrays."""

    def __init__(self, held: Any, label: str = "length") -> None:
        self.held = held
        self.label = label

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.held, dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        held = [a.held if isinstance(a, Labelled) else a for a in inputs]
        return Labelled(getattr(ufunc, method)(*held, **kwargs), self.label)

    def __array_function__(self, fun: Any, _types: Any, args: Any, kwargs: Any) -> Any:
        (arrays,) = args
        held = [a.held if isinstance(a, Labelled) else a for a in arrays]
        return Labelled(fun(held, **kwargs), self.label)


class Priority:
    """An array-like of the time before NEP 13, which NumPy's own operators leave to itself."""

    __array_priority__ = 10

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(A, dtype, copy=copy)

    def __rmul__(self, other: Any) -> Labelled:
        return Labelled(other * A)


class Shared(Priority):
    """The array of a library that shares its memory: an operand, whatever its priority."""

    def __dlpack__(self, **options: Any) -> Any:
        return A.__dlpack__(**options)


class Units(np.ndarray):
    """An array that a unit belongs to, and which has no place for a tensor: as astropy's."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if not all(isinstance(a, np.ndarray) for a in inputs):
            return NotImplemented
        plain = [a.view(np.ndarray) for a in inputs]
        return getattr(ufunc, method)(*plain, **kwargs).view(Units)


class Plain(np.ndarray):
    """An array of a class that adds nothing to what ufuncs mean."""


class OnlyArray:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(A, dtype, copy=copy)


def gradient_of(out: Any, x: tg.Tensor) -> Any:
    np.sum(out).backward()
    return x.grad


@pytest.mark.parametrize("fun", ARITHMETIC)
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_container_takes_the_operation_over(fun: Any, left: bool, inside: bool) -> None:
    x, y = leaf([2.0, 3.0, 4.0]), leaf([2.0, 3.0, 4.0])
    other, plain = (Labelled(x * 2), y * 2) if inside else (Labelled(A), A)
    out = fun(x, other) if left else fun(other, x)
    expected = fun(y, plain) if left else fun(plain, y)
    assert type(out) is Labelled and out.label == "length"
    assert_array_equal(out.held.data, expected.data)
    if expected.requires_grad:
        assert_array_equal(gradient_of(out.held, x), gradient_of(expected, y))


@pytest.mark.parametrize("fun", COMPARISONS)
def test_a_container_takes_comparisons_over(fun: Any) -> None:
    t = tg.Tensor([1.0, 2.5, 9.0])
    for out, expected in (
        (fun(t, Labelled(A)), fun(t.data, A)),
        (fun(Labelled(A), t), fun(A, t.data)),
    ):
        assert type(out) is Labelled
        assert_array_equal(np.asarray(out.held), expected)


@pytest.mark.parametrize(
    "fun",
    [
        np.multiply, np.hypot, np.less, np.multiply.outer, lambda a, b: np.add.outer(b, a),
        lambda a, b: np.add(a, b, dtype=np.float64), lambda a, b: np.concatenate([a, b]),
        lambda a, b: np.stack([a, b]),
    ],
)  # fmt: skip
def test_a_container_takes_functions_over(fun: Any) -> None:
    x = leaf([2.0, 3.0, 4.0])
    for pair in (x, Labelled(A)), (Labelled(A), x):
        out = fun(*pair)
        expected = fun(*[a if a is x else A for a in pair])
        assert type(out) is Labelled
        for one, same in zip(np.unstack(out.held), np.unstack(expected), strict=True):
            assert_array_equal(one.detach(), same.detach())


def test_a_container_inside_of_transforms_and_compiled_functions() -> None:
    def f(x: Any) -> Any:
        return np.sum((x * Labelled(A)).held ** 2)

    assert_array_equal(tg.grad(f)(A), 2 * A**3)
    assert_array_equal(tg.jvp(f, (A,), (np.ones(3),))[1], np.sum(2 * A**3))
    assert_array_equal(tg.hessian(f)(A), np.diag(2 * A**2))
    assert_allclose(tg.jacobian(lambda x: (Labelled(A) * x).held)(A), np.diag(A))
    compiled = tg.compile(tg.grad(f))
    for _ in range(3):
        assert_array_equal(compiled(A), 2 * A**3)


def test_array_priority_decides_over_operators_alone() -> None:
    x = leaf(A)
    out = x * Priority()
    assert type(out) is Labelled
    assert_array_equal(gradient_of(out.held, x), A)
    y = leaf(A)
    assert_array_equal(gradient_of(np.multiply(y, Priority()), y), A)


@pytest.mark.parametrize("other", [Shared(), OnlyArray(), A.view(Plain), list(A), tuple(A)])
@pytest.mark.parametrize("fun", [operator.mul, np.multiply])
def test_what_is_only_an_array_is_an_operand(other: Any, fun: Any) -> None:
    for pair in (0, 1), (1, 0):
        x = leaf(A)
        operands = (x, other)
        out = fun(*[operands[i] for i in pair])
        assert type(out) is tg.Tensor
        assert_array_equal(gradient_of(out, x), A)


@pytest.mark.parametrize("fun", [operator.mul, np.multiply, operator.matmul, operator.lt])
def test_units_are_never_dropped(fun: Any) -> None:
    other = A.view(Units)
    for x in leaf(A), tg.Tensor(A):
        for pair in (x, other), (other, x):
            with pytest.raises(tg.PrecedenceError, match=r"Units takes precedence.*asarray"):
                fun(*pair)
    with pytest.raises(tg.PrecedenceError, match="Units"):
        x *= other


def test_operators_of_classes_that_know_no_arrays() -> None:
    with pytest.raises(TypeError):
        leaf(A) * object()


# -- the libraries themselves


def test_xarray_holds_tensors() -> None:
    xr = pytest.importorskip("xarray")
    row = xr.DataArray(A, dims="x", coords={"x": [10, 20, 30]})

    def labelled(x: Any) -> Any:
        return xr.DataArray(x, dims=("t", "x"), coords={"x": [10, 20, 30]})

    a = np.arange(1.0, 7.0).reshape(2, 3)
    for fun, plain in [
        (lambda x: x[0] * row, lambda x: x[0] * A),
        (lambda x: row / x[0], lambda x: A / x[0]),
        (lambda x: x * labelled(x), lambda x: x * x),
        (lambda x: np.multiply(x[1], row), lambda x: x[1] * A),
        (lambda x: (labelled(x) * row).sum("x"), lambda x: np.sum(x * A, 1)),
        (lambda x: (labelled(x) ** 2).mean("t").sel(x=20), lambda x: np.mean(x**2, 0)[1]),
        (lambda x: np.sin(labelled(x)).transpose("x", "t")[0], lambda x: np.sin(x[:, 0])),
        (lambda x: xr.concat([labelled(x), 2 * labelled(x)], "t"), lambda x: 3 * x),
        (lambda x: labelled(x).where(row > 2, 0), lambda x: np.where(A > 2, x, 0)),
    ]:
        x = leaf(a)
        out = fun(x)
        assert type(out) is xr.DataArray
        assert_allclose(
            gradient_of(out.data, x), tg.grad(lambda x, g=plain: np.sum(g(x)))(a), rtol=1e-15
        )
    x = leaf(A)
    table = x * xr.Dataset({"v": row})
    assert_array_equal(gradient_of(table["v"].data, x), A)
    for take in (lambda: labelled(leaf(a)).values, lambda: np.asarray(labelled(leaf(a)))):
        with pytest.raises(TypeError, match="requires grad"):
            take()


def test_pint_holds_tensors() -> None:
    pint = pytest.importorskip("pint")
    units = pint.UnitRegistry()
    length = units.Quantity(A, "m")
    for fun, unit, expected in [
        (lambda x: x * length, "m", A),
        (lambda x: length * x, "m", A),
        (lambda x: length / x, "m", -1 / A),
        (lambda x: np.multiply(x, length), "m", A),
        (lambda x: x * units.Quantity(x, "s"), "s", 2 * A),
        (lambda x: (units.Quantity(x, "m") ** 2).to("cm**2"), "cm**2", 2e4 * A),
        (lambda x: np.sin(units.Quantity(x, "rad")), "", np.cos(A)),
        (lambda x: np.concatenate([units.Quantity(x, "m"), length]), "m", np.ones(3)),
        (lambda x: np.mean(units.Quantity(x, "m")), "m", np.full(3, 1 / 3)),
    ]:
        x = leaf(A)
        out = fun(x)
        assert out.units == units.Unit(unit)
        assert_allclose(gradient_of(out.magnitude, x), expected, rtol=1e-14)
    for mixed in (
        lambda x: x + length,
        lambda x: length - x,
        lambda x: np.concatenate([x, length]),
    ):
        with pytest.raises(pint.DimensionalityError):
            mixed(leaf(A))


def test_tensors_of_another_librarys_arrays() -> None:
    """Which say nothing about where they lie in memory."""
    sparse = pytest.importorskip("sparse")
    matrix = np.arange(6.0).reshape(2, 3)
    t = tg.asarray(sparse.COO.from_numpy(matrix))
    for fun in (
        lambda a: a.T,
        lambda a: a[1],
        lambda a: a.reshape(-1),
        lambda a: np.transpose(a) * 2,
        lambda a: np.sum(a, axis=0),
        lambda a: operator.imul(a, 2),
    ):
        out = fun(t)
        assert type(out) is tg.Tensor
        assert_array_equal(out.data.todense(), fun(matrix.copy()))


def test_sparse_arrays_are_refused_with_the_cure() -> None:
    sparse = pytest.importorskip("sparse")
    matrix = sparse.COO.from_numpy(np.diag(A))
    for fun in (
        lambda t: t * matrix,
        lambda t: matrix * t,
        lambda t: t + matrix,
        lambda t: t @ matrix,
        lambda t: np.multiply(t, matrix),
        lambda t: matrix > t,
    ):
        with pytest.raises(tg.PrecedenceError, match=r"COO .*todense\(\)"):
            fun(leaf(np.ones((3, 3))))


def test_scipys_sparse_arrays_are_refused_with_the_cure() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    for matrix in sparse.csr_array(np.diag(A)), sparse.coo_matrix(np.diag(A)):
        for fun in (
            lambda t, m=matrix: t * m,
            lambda t, m=matrix: t @ m,
            lambda t, m=matrix: t - m,
            lambda t, m=matrix: np.add(m, t),
        ):
            with pytest.raises(tg.PrecedenceError, match=r"scipy\.sparse.*todense\(\)"):
                fun(leaf(np.ones((3, 3))))
        with pytest.raises(TypeError, match="differentiable"):
            matrix @ leaf(np.ones((3, 3)))
        assert_array_equal(tg.Tensor(np.ones((3, 3))) @ matrix, np.ones((3, 3)) @ matrix)


def test_columns_of_tables_are_operands() -> None:
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(A, index=["a", "b", "c"], name="v")
    for other in column, column.array, pandas.Index(A), column.to_frame().T:
        for fun in (lambda x, o=other: x * o), (lambda x, o=other: o * x):
            x = leaf(A)
            out = fun(x)
            assert type(out) is tg.Tensor
            assert_array_equal(gradient_of(out, x), A)
    x = leaf(A)
    assert_array_equal(gradient_of(np.multiply(column, x) + np.multiply(x, column), x), 2 * A)
    x = leaf(np.ones((2, 3)))
    assert_array_equal(gradient_of(x @ column.to_frame(), x), [A, A])
    with pytest.raises(TypeError, match="requires grad"):
        pandas.Series(leaf(A))
