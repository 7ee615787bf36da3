"""Numbers of NumPy's as arguments: compiled functions treat them as NumPy does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg

from .depth import one_in

Arrays = tuple[Any, ...]


def read_then_change(x: Any, i: Any) -> Arrays:
    v, w = x[i], x[i, :1]
    x[1] = 7.0
    return v, w, x


def change_a_part(x: Any, i: Any) -> Arrays:
    x[i][0] = 9.0
    return (x,)


def change_part_and_whole(x: Any, i: Any) -> Arrays:
    v = x[i]
    v += 1
    w = v[1:]
    x[1] = 5.0
    w *= 2
    return v, w, x


def change_in_place(x: Any, i: Any) -> Arrays:
    x[i] += 1
    x[i] *= 2
    return x, x[i]


def replace_the_whole(x: Any, i: Any) -> Arrays:
    v = x[i]
    v[0] = 3.0
    x = x * x
    v[1] = 4.0
    return v, x


def change_parts_that_cross(x: Any, i: Any) -> Arrays:
    v, u = x[:, i], x[i]
    v[0] = 3.0
    u[i] = 8.0
    x[2] = -1.0
    return v, u, x


def change_another_view(x: Any, i: Any) -> Arrays:
    y, v = x.T, x[i]
    y[0] = 11.0
    v[1] = 12.0
    return v, x, y


FUNCTIONS = [
    read_then_change, change_a_part, change_part_and_whole, change_in_place,
    replace_the_whole, change_parts_that_cross, change_another_view,
]  # fmt: skip
NUMBERS: list[Callable[[], Any]] = [
    lambda: 1, lambda: np.int64(1), lambda: np.array(1), lambda: tg.Tensor(1),
]  # fmt: skip


def arrays_of(fun: Callable[..., Arrays], x: Any, i: Any) -> list[Any]:
    return [np.asarray(a).tolist() for a in fun(x, i)]


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("kind", [np.asarray, tg.Tensor], ids=["array", "Tensor"])
@pytest.mark.parametrize("number", NUMBERS, ids=["int", "int64", "array", "Tensor"])
@pytest.mark.parametrize("fun", FUNCTIONS)
def test_a_part_at_a_number_is_a_view_where_it_is_numpys(
    fun: Any, number: Any, kind: Any, backend: Any
) -> None:
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    x = np.arange(6.0).reshape(3, 2)
    expected = arrays_of(fun, kind(x.copy()), number())
    compiled = tg.compile(lambda x, i: fun(x * 1.0, i), backend=backend)
    for _ in range(2):  # it is traced, and then replayed
        assert arrays_of(compiled, kind(x), number()) == expected


@pytest.mark.parametrize("fun", one_in(2, FUNCTIONS))
def test_so_are_gradients(fun: Any) -> None:
    def gradient(x: Any, i: Any) -> Any:
        return tg.grad(lambda x: sum((a * a).sum() for a in fun(x * 1.0, i)))(x)

    x = np.arange(6.0).reshape(3, 2)
    compiled = tg.compile(gradient)
    for _ in range(2):
        assert np.array_equal(compiled(x, np.int64(1)), gradient(x, np.int64(1)))


def test_a_number_that_is_changed_in_place_is_another_one() -> None:
    @tg.compile
    def f(i: Any) -> Any:
        j = i
        i += 1
        return i * 10 + j

    for n in range(3):
        assert f(np.int64(n)) == (n + 1) * 10 + n
