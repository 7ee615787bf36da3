"""What is right, line by line: writes through views change what they change in NumPy."""

import copy
import itertools
import operator
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from numpy.lib.array_utils import byte_bounds
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.engine import mutation
from tensorgrad.engine.views import layout_of, view_in

from .operations import OPERATIONS
from .oracles import complex_step, leaf

# -- random programs of views and writes, on arrays and on tensors


def is_broadcast(h: Any) -> bool:
    """Whether an array repeats elements; a traced one does not show it."""
    h = h.numpy() if isinstance(h, tg.Tensor) else h
    return any(n > 1 and not step for n, step in zip(h.shape, getattr(h, "strides", ())))


VIEWS: dict[str, Callable[[Any, int], Any]] = {
    "head": lambda h, k: h[: 1 + k % 2],
    "tail": lambda h, k: h[k % 3 :],
    "every other": lambda h, k: h[..., k % 2 :: 2],
    "row": lambda h, k: h[k % len(h)],
    "last of each": lambda h, _k: h[..., -1],
    "all": lambda h, _k: h[...],
    "backwards": lambda h, _k: h[::-1],
    "flip": lambda h, _k: np.flip(h),
    "T": lambda h, _k: h.T,
    "swapaxes": lambda h, _k: np.swapaxes(h, 0, -1),
    "moveaxis": lambda h, _k: np.moveaxis(h, 0, -1),
    "reshape": lambda h, _k: h.reshape(-1),
    "reshape 2": lambda h, _k: h.reshape(2, -1) if h.size % 2 == 0 else h,
    "reshape F": lambda h, _k: np.reshape(h, -1, "F"),
    "ravel": lambda h, _k: h.ravel(),
    "ravel K": lambda h, _k: np.ravel(h, "K") if not is_broadcast(h) else h,
    "flatten": lambda h, _k: h.flatten(),
    "squeeze": lambda h, _k: np.squeeze(h),
    "expand_dims": lambda h, k: np.expand_dims(h, k % (h.ndim + 1)),
    "newaxis": lambda h, _k: h[:, None],
    "atleast_2d": lambda h, _k: np.atleast_2d(h),
    "split": lambda h, k: np.array_split(h, 2)[k % 2],
    "unstack": lambda h, k: np.unstack(h)[k % len(h)],
    "iteration": lambda h, k: [*h][k % len(h)],
    "rot90": lambda h, k: np.rot90(h, k) if h.ndim > 1 else h,
    "diagonal": lambda h, _k: np.diagonal(h) if h.ndim > 1 else h,
    "einsum": lambda h, _k: np.einsum("ii->i", h[:2, :2]) if h.ndim == 2 else h,
    "broadcast_to": lambda h, _k: np.broadcast_to(h, (2, *h.shape)),
    "windows": lambda h, _k: sliding_window_view(h, 2, 0),
    "real": lambda h, _k: h.real if h.dtype.kind == "f" else h[...],
    "a copy": lambda h, _k: h.copy(),
    "rows by number": lambda h, k: h[[0, k % len(h)]],
    "a mask": lambda h, _k: h[np.arange(len(h)) % 2 == 0],
    "computed": lambda h, _k: h * 0.5,
}  # fmt: skip


def rows_in_turn(h: Any, v: Any) -> None:
    for row in h if h.ndim > 1 else [h]:
        row *= 0.5
        row += v


def item(index: Callable[[Any], Any], operation: Callable[[Any, Any], Any]) -> Any:
    def write(h: Any, v: Any) -> None:
        i = index(h)
        h[i] = operation(h[i], v)

    return write


WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda h, v: operator.setitem(h, ..., v),
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "**=": lambda h, _v: operator.ipow(h, 2),
    "[0] =": lambda h, v: operator.setitem(h, 0, v),
    "[-1] +=": item(lambda _h: -1, operator.iadd),
    "[1:] -=": item(lambda _h: slice(1, None), operator.isub),
    "[1:] = [:-1]": lambda h, _v: operator.setitem(h, slice(1, None), h[:-1]),
    "[::-1] = self": lambda h, _v: operator.setitem(h, slice(None, None, -1), h),
    "[mask] *=": item(lambda h: np.arange(len(h)) % 2 == 1, operator.imul),
    "[numbers] +=": item(lambda _h: [0, -1], operator.iadd),
    "[0][0] =": lambda h, v: operator.setitem(h[0], 0, v) if h.ndim > 1 else None,
    "fill": lambda h, _v: h.fill(3.0),
    "sort": lambda h, _v: h.sort(),
    "copyto": lambda h, v: np.copyto(h, v, where=np.arange(h.shape[-1]) % 2 == 0),
    "put": lambda h, v: np.put(h, [0, -1], np.stack([v, v * 2])),
    "place": lambda h, v: np.place(h, np.ones(h.shape, bool), np.stack([v])),
    "putmask": lambda h, v: np.putmask(h, np.arange(h.size).reshape(h.shape) % 2 == 0, v),
    "fill_diagonal": lambda h, _v: np.fill_diagonal(h, 0.5) if h.ndim == 2 else None,
    "rows in turn": rows_in_turn,
    "data of another": lambda h, v: operator.imul(h, h * v),
}  # fmt: skip

Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from([*VIEWS]) | st.sampled_from([*WRITES]),
        st.integers(0, 50),
        st.integers(0, 5),
    ),
    min_size=2,
    max_size=8,
)
starts = st.sampled_from([(6,), (2, 3), (3, 4), (2, 2, 2), (1, 4), (4, 1)])


def run(program: list[Step], x: Any, log: list[Any] | None = None, start: Any = None) -> list[Any]:
    """The arrays that are left at the end of a program; what raised goes to the log."""
    handles = [x * 1.0 if start is None else start]
    for name, which, k in program:
        h = handles[which % len(handles)]
        try:
            if name in VIEWS:
                h = VIEWS[name](h, k)
                if h.ndim and h.size:
                    handles.append(h)
            elif h.ndim and h.size:
                WRITES[name](h, np.sum(handles[k % len(handles)]) * 0.125 + x.reshape(-1)[k % 4])
        except ValueError as error:
            if log is not None:
                log.append((name, type(error)))
    return handles


def value(program: list[Step], x: Any) -> Any:
    """One number that depends on each element of each array that is left."""
    total = 0.0
    for h in run(program, x):
        total = total + np.sum(h * np.cos(np.arange(h.size)).reshape(h.shape))
    return total


@given(steps, starts)
def test_random_programs(program: list[Step], shape: tuple[int, ...]) -> None:
    x = (np.arange(np.prod(shape)).reshape(shape) * 0.37 + 0.2) % 1.7
    log: list[Any] = []
    expected = run(program, x, log)
    for argument in tg.Tensor(x), tg.Tensor(x, requires_grad=True):
        raised: list[Any] = []
        got = run(program, argument, raised)
        assert raised == log
        for a, b in zip(got, expected, strict=True):
            assert_allclose(a.numpy(), b, rtol=1e-12, atol=1e-12, strict=True)
            assert not a.requires_grad or argument.requires_grad
    slope = tg.grad(lambda x: value(program, x))(x)
    assert_allclose(slope, complex_step(lambda x: value(program, x), [x], 0), 1e-9, 1e-9)


@example([("T", 0, 0), ("+=", 1, 0), ("=", 0, 0)], (2, 3))  # a view of memory by columns
@given(steps, starts)
def test_random_programs_compiled(program: list[Step], shape: tuple[int, ...]) -> None:
    x = (np.arange(np.prod(shape)).reshape(shape) * 0.37 + 0.2) % 1.7
    results = tg.compile(lambda x: tuple(run(program, x)))
    slope = tg.compile(tg.grad(lambda x: value(program, x)))
    try:
        results(tg.Tensor(x)), slope(x)
    except tg.TraceError:
        return  # a mask, or a read-only array: refused before anything has changed
    for x in x * 0.9, x * 1.1:  # noqa: B020
        for a, b in zip(results(tg.Tensor(x)), run(program, x), strict=True):
            assert_allclose(a.numpy(), b, rtol=1e-12, atol=1e-12)
        assert_allclose(slope(x), tg.grad(lambda x: value(program, x))(x), 1e-12, 1e-12)


@pytest.mark.parametrize("first", [0, 1])
def test_views_whose_base_is_gone_keep_their_places(first: int) -> None:
    def halves(x: Any) -> Any:
        parts = np.split(x * 1.0, 2)
        parts[first] += 1
        parts[first][1:] *= 3
        parts[1 - first][...] *= 2
        return np.sum(parts[0] * parts[1] ** 2)

    x = np.arange(1.0, 5.0)
    for fun in tg.value_and_grad(halves), tg.compile(tg.value_and_grad(halves)):
        for _ in range(2):
            number, slope = fun(x)
            assert_allclose(number, halves(x))
            assert_allclose(slope, complex_step(halves, [x], 0), 1e-12)


def test_views_are_views_after_a_compiled_function_wrote_into_them() -> None:
    base = tg.Tensor(np.zeros((8, 3)))
    rows = list(base)

    @tg.compile
    def write(x: Any) -> Any:
        for row in rows:
            row += x
        return base * 1

    for _ in range(3):
        write(np.arange(3.0))
    rows[2][...] = 7
    base[3] = 8
    want = np.tile(3 * np.arange(3.0), (8, 1))
    want[2:4] = [[7], [8]]
    assert_array_equal(base.data, want)
    assert_array_equal([row.data for row in rows], want)
    assert_array_equal(write(np.ones(3)).data, want + 1)


@given(steps, starts, st.booleans())
def test_random_programs_on_a_leaf(
    program: list[Step], shape: tuple[int, ...], has_optimizer: bool
) -> None:
    x = (np.arange(np.prod(shape)).reshape(shape) * 0.37 + 0.2) % 1.7
    p = leaf(x)
    if has_optimizer:  # the leaf then lies in the optimizer's memory
        tg.optim.SGD([leaf(np.ones(3)), p], lr=0.1)
    with tg.no_grad():
        got = run(program, x, start=p)
    for a, b in zip(got, run(program, x, start=x.copy()), strict=True):
        assert_allclose(a.numpy(), b, rtol=1e-12, atol=1e-12, strict=True)
    assert p.is_leaf and p.requires_grad


# -- one by one


def test_a_write_shows_in_the_base_and_in_other_views_with_exact_gradients() -> None:
    x = leaf(np.arange(6.0).reshape(2, 3))
    y = x * 1
    row, column, flat = y[0], y[:, 1], y.reshape(-1)
    nodes = y._node, row._node, column._node
    saved = y * y
    row *= 10
    assert_array_equal(y.data, [[0, 10, 20], [3, 4, 5]])
    assert_array_equal(column.data, [10, 4])
    assert_array_equal(flat.data, [0, 10, 20, 3, 4, 5])
    column[1] = 7
    assert_array_equal(y.data, [[0, 10, 20], [3, 7, 5]])
    assert_array_equal(saved.data, x.data**2)
    assert all(node is not None and node.shape for node in nodes)
    (np.sum(y) + 100 * np.sum(row) + np.sum(saved)).backward()
    assert_array_equal(x.grad, [[1010, 1012, 1014], [7, 8, 11]])


def test_views_outlive_their_base() -> None:
    x = leaf([1.0, 2.0, 3.0])
    low, high = (lambda y: (y[:2], y[1:]))(x * 1)
    low *= 5
    assert_array_equal(high.data, [10, 3])
    np.sum(high).backward()
    assert_array_equal(x.grad, [0, 5, 1])


def test_rows_in_a_loop() -> None:
    x = leaf(np.ones((3, 2)))
    y = x * 1
    for i, row in enumerate(y):
        row *= i
        y[i] += row  # of the row that was just written
    assert_array_equal(y.data, [[0, 0], [2, 2], [4, 4]])
    for row in y:
        y *= 2  # as in NumPy, later rows have been doubled when it is their turn
        row += 1
    assert_array_equal(y.data, [[4, 4], [18, 18], [33, 33]])
    np.sum(y).backward()
    assert_array_equal(x.grad, [[0, 0], [16, 16], [32, 32]])


def test_views_with_one_more_name() -> None:
    x = leaf([[1.0, 2.0]])
    for same in (
        lambda y: np.atleast_2d(y),
        lambda y: y.astype(float, copy=False),
        lambda y: tg.asarray(y),
        np.real,
        np.squeeze,
        tg.differentiable(lambda g, _y, _x: g)(lambda a: a),
    ):
        y = x * 1
        z = same(y)
        z *= 3
        assert_array_equal(y.data.ravel(), [3, 6])
        x.grad = None
        np.sum(y).backward()
        assert_array_equal(x.grad, [[3, 3]])


@pytest.mark.parametrize("view", [lambda p: p[0], lambda p: p.T, lambda p: p.reshape(-1)[1:]])
@pytest.mark.parametrize("optimizer", [None, tg.optim.SGD])
def test_views_of_a_leaf(view: Any, optimizer: Any) -> None:
    p = leaf(np.arange(4.0).reshape(2, 2))
    if optimizer:
        optimizer([p], lr=1.0)
    expected = p.data.copy()
    v = view(p)
    with pytest.raises(tg.GraphError, match=r"a view of shape .* of a leaf .*no_grad\(\)"):
        v += 1
    with pytest.raises(tg.GraphError, match="view"):
        v[0] = 1
    assert_array_equal(p.data, expected)
    loss = np.sum(p * p)
    w = view(expected)
    with tg.no_grad():
        v += 1
        v[0] = 5
        view(p)[1] *= 2
    w += 1
    w[0] = 5
    w[1] *= 2
    assert_array_equal(p.data, expected)
    assert_array_equal(v.data, w)
    assert p.is_leaf and v.requires_grad
    with pytest.raises(tg.GraphError, match="changed"):
        loss.backward()
    np.sum(v * v).backward()
    seed = np.zeros((2, 2))
    view(seed)[...] = 2 * w
    assert_array_equal(p.grad, seed)


def test_views_that_are_older_than_the_optimizer() -> None:
    p = leaf(np.arange(4.0).reshape(2, 2))
    v = p[1]
    optimizer = tg.optim.SGD([leaf(np.ones(3)), p], lr=1.0)
    with tg.no_grad():
        v *= 10
    assert_array_equal(p.data, [[0, 1], [20, 30]])
    (np.sum(p) * 3 + 2 * v[0]).backward()
    optimizer.step()
    assert_array_equal(p.data, [[-3, -2], [15, 27]])
    p.requires_grad = False
    p[1] = 0
    assert_array_equal(v.data, [0, 0])


def test_views_of_a_leaf_in_an_optimizer_follow_it_after_a_write() -> None:
    p = leaf(np.arange(4.0).reshape(2, 2))
    optimizer = tg.optim.SGD([p], lr=1.0)
    v = p[1]
    with tg.no_grad():
        v[0] = 10.0
    p.grad = np.ones((2, 2))
    optimizer.step()
    assert_array_equal(p.data, [[-1, 0], [9, 2]])
    assert_array_equal(v.data, [9, 2])


@pytest.mark.parametrize("optimizer", [None, tg.optim.SGD])
@pytest.mark.parametrize("write", [lambda v, _p: v.fill(7), lambda _v, p: p.fill(7)])
def test_compiled_functions_that_write_a_leaf_and_return_a_view(write: Any, optimizer: Any) -> None:
    """Afterwards, what changes the leaf's data shows in the view."""
    results = []
    for wrap in (lambda f: f), tg.compile:
        p = leaf(np.arange(6.0).reshape(2, 3))
        if optimizer:
            optimizer([p], lr=1.0)

        @wrap
        def change(x: Any, p: Any = p) -> Any:
            v = p[1:]
            with tg.no_grad():
                write(v, p)
            p.data += x
            return v.detach()

        results.append([(change(np.array(x)).data.copy(), p.data * 1) for x in (0.5, 2.0)])
    for eager, compiled in zip(*results, strict=True):
        assert_array_equal(compiled[0], eager[0])
        assert_array_equal(compiled[1], eager[1])
    assert_array_equal(results[0][0][0], [[7.5] * 3])


@pytest.mark.parametrize("wrap", [lambda f: f, tg.compile])
@pytest.mark.parametrize("optimizer", [None, tg.optim.SGD])
def test_data_written_after_a_view_was_shows_in_the_other_views(optimizer: Any, wrap: Any) -> None:
    p = leaf(np.arange(6.0).reshape(2, 3))
    if optimizer:
        optimizer([p], lr=1.0)

    @wrap
    def change(x: Any) -> Any:
        first, second = p[0], p[1]
        with tg.no_grad():
            second *= 2
        p.data += x
        second.data[0] = x
        return p * 1, first * 1, second * 1

    expected = p.data.copy()
    for x in 1.0, 2.0, 3.0:
        expected[1] *= 2
        expected += x
        expected[1, 0] = x
        whole, first, second = change(np.array(x))
        assert_array_equal(whole.data, expected)
        assert_array_equal(first.data, expected[0])
        assert_array_equal(second.data, expected[1])
        assert_array_equal(p.data, expected)


@pytest.mark.parametrize("wrap", [lambda f: f, tg.compile])
def test_data_written_after_a_view_was_shows_in_views_from_outside(wrap: Any) -> None:
    whole = tg.Tensor(np.arange(6.0).reshape(3, 2))
    first, rest = whole[0], whole[1:]

    @wrap
    def change(x: Any) -> Any:
        rest[...] = rest * 0.5
        first.data += x
        return whole * 1

    expected = whole.data.copy()
    for x in 1.0, 2.0, 3.0:
        expected[1:] *= 0.5
        expected[0] += x
        assert_array_equal(change(np.array(x)).data, expected)
        assert_array_equal(whole.data, expected)
        assert_array_equal(first.data, expected[0])
        assert_array_equal(rest.data, expected[1:])


@pytest.mark.parametrize("optimizer", [None, tg.optim.SGD])
@pytest.mark.parametrize("kind", ["leaf", "computed"])
def test_an_interrupted_write_changes_nothing(
    kind: str, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever Ctrl-C comes in: all that lies in the memory changes, or nothing."""
    take, steps = mutation._take, [0]

    def interrupted(t: tg.Tensor, value: tg.Tensor) -> None:
        take(t, value)
        steps[0] -= 1
        if not steps[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(mutation, "_take", interrupted)
    start = np.arange(6.0).reshape(2, 3)
    for fatal in range(1, 10):
        steps[0] = fatal
        p = leaf(start)
        if optimizer:
            optimizer([p], lr=1.0)
        y = p if kind == "leaf" else p * 1
        kin = [y, y[0], y[1], y.T, y.reshape(-1)[2:5]]
        earlier = [t.data.copy() for t in kin]
        try:
            with tg.no_grad():
                kin[2][0] = 99.0
        except KeyboardInterrupt:
            for t, array in zip(kin, earlier, strict=True):
                assert_array_equal(t.data, array)
        else:
            break
    assert fatal > 4
    assert_array_equal(y.data[1], kin[2].data)


def test_an_interrupted_optimizer_leaves_views_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p = leaf(np.arange(6.0).reshape(2, 3))
    views = [p[0], p.T]
    count = itertools.count()

    def interrupted(*args: Any) -> Any:
        if next(count) == 1:  # the second view
            raise KeyboardInterrupt
        return view_in(*args)

    monkeypatch.setattr("tensorgrad.engine.mutation.view_in", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tg.optim.SGD([p], lr=1.0)
    with tg.no_grad():
        p[0] = 5.0
        views[1][0, 1] = 7.0
    assert_array_equal(p.data, [[5, 5, 5], [7, 4, 5]])
    assert_array_equal(views[0].data, p.data[0])
    assert_array_equal(views[1].data, p.data.T)


def test_views_of_a_leaf_follow_it() -> None:
    p = leaf(np.arange(4.0).reshape(2, 2))
    v, constant = p.T, p.detach()
    with tg.no_grad():
        p *= 2
        u = p[1]
        p[1] = 0
    assert_array_equal(v.data, [[0, 0], [2, 0]])
    assert_array_equal(u.data, [0, 0])
    assert_array_equal(constant.data, np.arange(4.0).reshape(2, 2))
    assert not u.requires_grad
    np.sum(v[1]).backward()
    assert_array_equal(p.grad, [[0, 1], [0, 1]])


@pytest.mark.parametrize(
    "view",
    [
        lambda y: np.broadcast_to(y, (2, 3, 3)),
        np.diagonal,
        lambda y: np.diag(y)[1:],
        lambda y: sliding_window_view(y, 2, 0),
    ],
)
def test_views_for_reading(view: Any) -> None:
    x = leaf(np.arange(9.0).reshape(3, 3))
    y = x * 1
    v = view(y)
    for write in lambda: v.fill(1), lambda: operator.iadd(v, 1), lambda: v.__setitem__(0, 1):
        with pytest.raises(ValueError, match=r"view of shape .* copy"):
            write()
    y[1] *= 3
    expected = x.data.copy()
    expected[1] *= 3
    assert_array_equal(v.data, view(expected))
    v.sum().backward()
    ones = np.ones(v.shape)
    assert_allclose(x.grad, tg.grad(lambda a: np.sum(view(a) * ones))(x.data) * [[1], [3], [1]])


def test_real_and_imaginary_parts() -> None:
    def f(x: Any) -> Any:
        z = np.fft.fft(x * 1.0)
        re, im = np.real(z), np.imag(z)
        re *= 2
        im[1:] += re[1:] * 3
        z[0] = x[1] ** 2
        z.imag *= x
        z.real[:2] = im[1:3]
        return np.sum(np.abs(z) ** 2 * np.arange(4)) + np.sum(re**2) + np.sum(im[:2])

    x = np.array([0.3, -0.7, 1.1, 0.4])
    assert_allclose(f(tg.Tensor(x)).numpy(), f(x))
    assert tg.gradcheck(f, x, order=2)


def test_real_numbers_have_no_imaginary_part_to_set() -> None:
    y = leaf([1.0, 2.0]) * 1
    y.real *= 2
    assert_array_equal(y.data, [2, 4])
    with pytest.raises(TypeError, match="no imaginary part"):
        y.imag = 1


def test_a_guarded_array_is_written_to_through_views() -> None:
    x = leaf([1.0, 2.0, 3.0])
    with tg.guard():
        y = x * 2
        v = y[1:]
        loss = np.sum(y * v[0])
        v *= 10
        v[0] = 5
    assert_array_equal(y.data, [2, 5, 60])
    loss.backward()
    assert_array_equal(x.grad, [8, 8 + 24, 8])
    v += 1
    assert_array_equal(y.data, [2, 6, 61])


def test_copies_are_no_views() -> None:
    x = leaf(np.arange(6.0).reshape(2, 3))
    y = x * 1
    for other in y.T.ravel(), y[[0, 1]], y[y > 1], y.flatten(), y.copy(), y.detach(), np.copy(y):
        other *= 0
    assert_array_equal(y.data, x.data)


def leaves(y: Any) -> list[Any]:
    return [a for part in y for a in leaves(part)] if isinstance(y, (tuple, list)) else [y]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tracked", [False, True])
def test_results_are_views_where_numpys_are(tracked: bool) -> None:
    """Of each row of the table: so that a write reaches what it does in NumPy, and no more."""
    wrong = set()
    for op in OPERATIONS:
        for shapes in op.shapes:
            arrays = [np.asarray(a, float) for a in op.draw(np.random.default_rng(0), shapes)]
            tensors = [tg.Tensor(a, requires_grad=tracked) * 1.0 for a in arrays]
            try:
                results = leaves(op.fun(*arrays)), leaves(op.fun(*tensors))
            except (TypeError, ValueError):  # such a row takes no arrays
                continue
            for y, t in zip(*results, strict=True):
                if not (isinstance(t, tg.Tensor) and isinstance(y, np.ndarray) and y.size):
                    continue
                for a, x in zip(arrays, tensors, strict=True):
                    related = t._family is not None and t._family is x._family
                    shared = related and layout_of(t.data).meets(layout_of(x.data))
                    if np.shares_memory(y, a) != (t is x or shared):
                        wrong.add((op.name, shapes))
    assert wrong == set()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_of_computed_tensors_carry_the_gradient(copied: Any) -> None:
    f = lambda x: np.sum(copied(x * 2))  # noqa: E731
    x = np.ones(2)
    assert_array_equal(tg.grad(f)(x), [2, 2])
    assert_array_equal(tg.jvp(f, (x,), (x,))[1], 4)
    assert_array_equal(tg.hessian(lambda x: f(x**3))(x), np.diag([12, 12]))
    compiled = tg.compile(tg.grad(f))
    assert_array_equal(compiled(x), compiled(x + 1))
    y = leaf(x) * 2
    other = copied(y)
    other *= 0
    assert_array_equal(y.data, [2, 2])
    z = copied(leaf(x, np.float32))
    assert z.is_leaf and z.requires_grad and z.dtype == np.float32


@dataclass
class State:
    position: Any
    others: list[Any]


def test_deep_copies_of_containers() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        state = State(y, [y, {"a": x**2}])
        new = copy.deepcopy(state)
        assert new.position is new.others[0] is not y
        new.position *= 10
        new.others[1]["a"][0] = 0
        assert_array_equal(tg.asarray(y).detach().data, [2, 4])
        return np.sum(new.position + new.others[1]["a"] + state.position)

    assert_array_equal(tg.grad(f)(np.array([1.0, 2.0])), [22, 26])


def test_order_in_memory_is_kept() -> None:
    """So that a later reshape is a view where it is one in NumPy."""
    for x in tg.Tensor(np.ones((2, 3)).T), leaf(np.ones((2, 3)).T):
        y = x * 1
        y += np.ones((3, 2))
        y[0] = 5.0
        assert y.data.flags.f_contiguous and not y.data.flags.c_contiguous
        y.ravel()[...] = 0  # a copy
        assert np.all(y.data > 0)
        y.T.ravel()[...] = 0
        assert np.all(y.data == 0)


def test_writing_nothing_changes_nothing() -> None:
    y = leaf(np.ones((1, 2))) * 1
    rows = np.broadcast_to(y[0], (3, 2))
    y[1:] -= 1
    y[:, :0] = 5
    empty = leaf(np.ones((0, 3))) * 1
    empty[:, :2] += 1
    empty.T[...] = 5
    assert_array_equal(y.data, [[1, 1]])
    assert_array_equal(rows.data, np.ones((3, 2)))


LAYOUTS = [
    lambda a: a,
    lambda a: a[1:3],
    lambda a: a[::-1],
    lambda a: a[-2::-2, 1:],
    lambda a: a.T[::-3],
    lambda a: a[2:, ::-1],
    lambda a: a[1, 2, ...],
    lambda a: a[:0],
    lambda a: np.broadcast_to(a[1], (2, 4)),
    lambda a: sliding_window_view(a, 2, 1),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layouts_tell_what_numpy_tells_of_arrays(dtype: Any) -> None:
    memory = np.arange(16, dtype=dtype).reshape(4, 4)
    views = [view(memory) for view in LAYOUTS]
    for a in views:
        layout = layout_of(a)
        assert layout.repeats == (np.unique(a).size < a.size)
        assert layout.is_whole == (np.unique(a).size == memory.size == a.size)
        assert_array_equal(view_in(memory, layout), a)
        numbers = view_in(np.arange(16), layout.as_integers())
        assert_array_equal(numbers, a.astype(int))
        for b in views:
            (low, high), (start, stop) = byte_bounds(a), byte_bounds(b)
            assert layout.meets(layout_of(b)) == np.may_share_memory(a, b)
            if b.size:
                assert layout.covers(layout_of(b)) == (low <= start and stop <= high)


@pytest.mark.parametrize("index", [slice(2, None), slice(None, None, 2), slice(None, None, -1)])
def test_an_optimizer_moves_a_leaf_that_is_a_view_with_its_views(index: Any) -> None:
    base = tg.Tensor(np.arange(6.0))
    p = base[index]
    p.requires_grad = True
    with tg.no_grad():
        view = p[1:]
    before = p.data.copy()
    optimizer = tg.optim.SGD([p], lr=1.0)
    assert_array_equal(p.data, before)
    assert_array_equal(view, before[1:])
    np.sum(p).backward()
    optimizer.step()
    assert_array_equal(p.data, before - 1)
    if index.step is None:
        assert_array_equal(view, before[1:] - 1)


def test_a_read_only_view_stays_so_when_its_base_is_written_to() -> None:
    t = tg.Tensor(np.eye(2))
    diagonal = np.diagonal(t)
    t[0, 0] = 5.0
    assert_array_equal(diagonal, [5, 1])
    assert not diagonal.data.flags.writeable  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="read-only"):
        diagonal[0] = 1.0


def test_views_do_not_follow_new_data() -> None:
    t = tg.Tensor([1.0, 2.0, 3.0])
    v = t[1:]
    t.data = [10.0, 20.0, 30.0]
    v[0] = 5.0
    t[2] = 7.0
    assert_array_equal(t, [10, 20, 7])
    assert_array_equal(v, [5, 3])


def test_writes_to_a_view_of_memory_that_no_array_owns() -> None:
    buffer = bytearray(np.arange(6.0).tobytes())
    array = np.ndarray((3,), float, buffer, 8, (16,))  # [1, 3, 5]
    t = tg.asarray(array, copy=False)
    v = t[1:]
    v[0] = -1.0
    t[2] = -2.0
    assert_array_equal(t, [1, -1, -2])
    assert_array_equal(v, [-1, -2])
    assert_array_equal(array, [1, 3, 5])


# -- in transforms, and in functions of functions


def shifted(x: Any) -> Any:
    y = x * x
    y[1:] -= y[:-1]
    y.reshape(-1)[1:3] *= x[1]
    for row in y[1:]:
        row *= x[0, 1]
    return y


ROWS = np.array([[0.5, 1.5], [2.0, -1.0], [0.3, 0.7]])


@pytest.mark.parametrize("wrap", [lambda f: f, tg.checkpoint, tg.compile])
def test_transforms(wrap: Any) -> None:
    def total(x: Any) -> Any:
        return np.sum(np.sin(wrap(shifted)(x)))

    def flat(x: Any) -> Any:
        return np.ravel(shifted(x.reshape(3, 2)))

    slope = complex_step(lambda x: np.sum(np.sin(shifted(x))), [ROWS], 0)
    assert_allclose(tg.grad(total)(ROWS), slope, 1e-12)
    assert_allclose(tg.jvp(total, (ROWS,), (np.ones((3, 2)),))[1], np.sum(slope), 1e-12)
    x = ROWS.reshape(-1)
    columns = [complex_step(lambda x, k=k: flat(x)[k], [x], 0) for k in range(6)]
    for mode in "reverse", "forward":
        assert_allclose(tg.jacobian(wrap(flat), mode=mode)(x), columns, 1e-12, 1e-12)
    h = tg.hessian(lambda x: total(x.reshape(3, 2)))(x)
    assert_allclose(h, h.T, 1e-12, 1e-12)
    assert_allclose(tg.hvp(total, (ROWS,), (ROWS,)).reshape(-1), h @ x, 1e-12)
    assert tg.gradcheck(total, ROWS, order=2)


def test_checkpoint_returns_views() -> None:
    x = leaf([1.0, 2.0, 3.0])
    y = x * 1
    v = tg.checkpoint(lambda y: y[1:])(y)
    v *= 5
    assert_array_equal(y.data, [1, 10, 15])
    y += v[0]  # what the checkpoint was given is taken as it was
    np.sum(y).backward()
    assert_array_equal(x.grad, [1, 20, 5])


def test_arguments_of_a_transform_are_not_written_to() -> None:
    x = leaf([1.0, 2.0])
    y = x * 1

    def f(z: Any) -> Any:
        z[:1] *= 5
        z.reshape(-1)[1] = 3
        return np.sum(z)

    assert_array_equal(tg.grad(f)(y).data, [5, 0])
    assert_array_equal(y.data, [1, 2])


# -- memory


@pytest.mark.usefixtures("no_collector")
def test_views_leave_nothing_behind() -> None:
    w = leaf(np.ones((3, 3)))
    for _ in range(100):
        (w.T[0].sum()).backward()
    assert w._family is not None and len(w._family) == 1
    y = w * 1
    v = y[0]
    v *= 2
    gone = [weakref.ref(t) for t in (y, v)] + [weakref.ref(y.data)]
    del y, v
    assert all(r() is None for r in gone)


@pytest.mark.usefixtures("no_collector")
def test_a_view_needs_no_tensor_that_is_gone() -> None:
    y = leaf(np.ones(1000)) * 1
    gone = weakref.ref(y)
    v = y[:10]
    del y
    assert gone() is None
    v += 1
    assert np.all(v.data == 2)
