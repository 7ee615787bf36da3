"""What is right, line by line: mutation never gives a silently wrong gradient."""

import operator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import tensorgrad as tg
from tensorgrad.engine.exposed import exposed

from .oracles import leaf

# -- what is copied, and what is shared


@pytest.mark.parametrize("make", [np.copy, np.asfortranarray, lambda a: a[::-1], lambda a: a.T])
def test_tensor_copies_its_array(make: Any) -> None:
    array = make(np.arange(4.0).reshape(2, 2))
    before = array.copy()
    x = tg.Tensor(array, requires_grad=True)
    array[...] = 9
    assert_array_equal(x.data, before)
    assert x.data.flags.owndata and x.data.flags.writeable


def test_tensor_copies_a_tensors_array() -> None:
    first = tg.Tensor([1.0, 2.0])
    second = tg.Tensor(first)
    first.data[0] = 9
    assert_array_equal(second.data, [1, 2])


def test_tensor_copies_a_read_only_and_an_overlapping_array() -> None:
    array = np.arange(4.0)
    array.flags.writeable = False
    x = leaf(array)
    x.data += 1
    assert_array_equal(array, np.arange(4.0))
    windows = np.lib.stride_tricks.sliding_window_view(np.arange(4.0), 2)
    x = leaf(windows)
    x.data[0, 1] = 9
    assert_array_equal(x.data, [[0, 9], [1, 2], [2, 3]])


def test_asarray_shares_memory_where_it_can() -> None:
    array = np.arange(3.0)
    for t in tg.asarray(array, copy=False), tg.asarray(array):
        assert np.shares_memory(t.data, array)
    assert not np.shares_memory(tg.asarray(array, copy=True).data, array)
    with pytest.raises(ValueError, match="copy"):
        tg.asarray(array, np.float32, copy=False)
    with pytest.raises(ValueError, match="copy"):
        tg.asarray([1.0, 2.0], copy=False)
    with pytest.raises(ValueError, match="copy"):
        tg.asarray(tg.Tensor(array), np.float32, copy=False)


def test_asarray_of_a_tensor_keeps_its_graph() -> None:
    x = leaf([1.0, 2.0])
    for t in tg.asarray(x), tg.asarray(x, np.float64), tg.asarray(x, copy=True):
        assert t.requires_grad
    np.sum(tg.asarray(x, np.float32)).backward()
    assert_array_equal(x.grad, [1, 1])
    assert x.grad.dtype == np.float64


# -- indices are copied when they are recorded


def change_mask(a: Any) -> None:
    a[:] = ~a


def change_numbers(a: Any) -> None:
    a[...] = 0


def change_list(a: Any) -> None:
    a[:] = [0, 0]


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (np.array([2, 1]), change_numbers),
        (np.array(2), change_numbers),
        (np.array([True, False, True]), change_mask),
        ([2, 1], change_list),
        (slice(np.array(1), None), lambda s: change_numbers(s.start)),
        (slice(None, None, np.array(2)), lambda s: s.step.__setitem__(..., 1)),
        ((np.array([2, 1]),), lambda t: change_numbers(t[0])),
        (([2, 1],), lambda t: change_list(t[0])),
        (tg.Tensor([2, 1]), lambda t: change_numbers(t.data)),
    ],
)
def test_index_changed_after_use(index: Any, change: Any) -> None:
    x, y = leaf([1.0, 2.0, 3.0]), leaf([1.0, 2.0, 3.0])
    plain = index.data if isinstance(index, tg.Tensor) else index
    expected = np.zeros(3)
    expected[plain] = 1
    out = x[index]
    z = y * 1
    z[index] = 0.0
    change(index)
    out.backward(np.ones(out.shape))
    z.backward(np.ones(3))
    assert_array_equal(x.grad, expected)
    assert_array_equal(y.grad, 1 - expected)


@pytest.mark.parametrize("take", [np.take, lambda x, i: np.take(a=x, indices=i)])
@pytest.mark.parametrize("kind", [np.array, tg.Tensor])
def test_indices_to_take_changed_after_use(take: Any, kind: Any) -> None:
    x, indices = leaf([1.0, 2.0, 3.0]), kind([2, 1])
    out = take(x, indices)
    change_numbers(np.asarray(indices))
    assert_array_equal(indices, [0, 0])
    out.backward([1.0, 10.0])
    assert_array_equal(x.grad, [0, 10, 1])


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, axes: np.transpose(x, axes),
        lambda x, axes: np.moveaxis(x, [0, 1, 2], axes),
        lambda x, axes: np.moveaxis(x, axes, [0, 1, 2]),
        lambda x, axes: x.transpose(axes),
    ],
)
@pytest.mark.parametrize("kind", [list, np.array])
def test_list_of_axes_changed_after_use(fun: Any, kind: Any) -> None:
    axes = kind([1, 2, 0])
    a, w = np.zeros((2, 2, 2)), np.arange(8.0).reshape(2, 2, 2)
    x, y = leaf(a), leaf(a)
    fun(y, [1, 2, 0]).backward(w)
    out = fun(x, axes)
    axes[:] = [0, 1, 2]
    out.backward(w)
    assert_array_equal(x.grad, y.grad)


def test_list_of_tensors_changed_after_use() -> None:
    x, y = leaf([1.0]), leaf([2.0])
    both = [x, y]
    out = np.concatenate(both)
    both[:] = [y, x]
    out.backward([1.0, 10.0])
    assert (x.grad, y.grad) == (1, 10)


# -- data and grad, assigned


def test_assigned_data_keeps_the_order_of_the_memory() -> None:
    for order in "CF":
        p = leaf(np.ones((2, 3), order=order))  # type: ignore[call-overload]
        p.data = np.ones((2, 3), order="C")
        assert p.data.flags[f"{order}_CONTIGUOUS"]


def test_a_number_assigned_to_grad_fills_it() -> None:
    p = leaf(np.ones(3, np.float32))
    p.grad = 2.0
    assert p.grad.dtype == np.float32
    assert_array_equal(p.grad, [2, 2, 2])
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        p.grad = [1.0]
    assert_array_equal(p.grad, [2, 2, 2])


# -- data of a leaf, changed between forward and backward


def add_in_place(p: Any) -> None:
    p.data += 1.0


def assign(p: Any) -> None:
    p.data = np.zeros(2)


def assign_itself(p: Any) -> None:
    p.data = p.data


@tg.no_grad()
def operator_under_no_grad(p: Any) -> None:
    p += 1.0


@tg.no_grad()
def index_under_no_grad(p: Any) -> None:
    p[0] = 1.0


changes = pytest.mark.parametrize(
    "change",
    [add_in_place, assign, assign_itself, operator_under_no_grad, index_under_no_grad],
)


@changes
def test_data_changed_between_forward_and_backward(change: Any) -> None:
    p, q = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    loss = np.sum(p * q)
    change(p)
    with pytest.raises(tg.GraphError, match=r"leaf.*shape \(2,\).*changed"):
        loss.backward()
    assert p.grad is None and q.grad is None
    np.sum(p * q).backward()
    assert_array_equal(p.grad, [3, 4])
    assert_array_equal(q.grad, p.data)


@changes
def test_data_changed_before_a_second_backward(change: Any) -> None:
    p = leaf([1.0, 2.0])
    loss = np.sum(p * p)
    loss.backward(retain_graph=True)
    change(p)
    with pytest.raises(tg.GraphError, match="changed"):
        loss.backward()
    assert_array_equal(p.grad, [2, 4])


# -- elements of the data, written between forward and backward


def subtract_at(p: Any) -> None:
    p.data[0] -= 0.5


def add_into(p: Any) -> None:
    np.add(p.data, 1, out=p.data)


def zeros_through_numpy(p: Any) -> None:
    p.numpy()[...] = 0


def through_detach(p: Any) -> None:
    p.detach().numpy().fill(7)


def through_a_view(p: Any) -> None:
    p.data.reshape(1, -1).T[1] *= 3


def sort_in_place(p: Any) -> None:
    p.data[::-1].sort()


@tg.no_grad()
def under_no_grad(p: Any) -> None:
    p.data[1] = np.nan


def sign_of_zero(p: Any) -> None:
    p.data[2] = -0.0


element_writes = pytest.mark.parametrize(
    "write",
    [
        subtract_at, add_into, zeros_through_numpy, through_detach, through_a_view, sort_in_place,
        under_no_grad, sign_of_zero,
    ],
)  # fmt: skip


@element_writes
@pytest.mark.parametrize("length", [3, 1100])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_elements_written_between_forward_and_backward(write: Any, dtype: Any, length: int) -> None:
    p = leaf(np.resize([1.0, 2.0, 0.0], length), dtype)
    q = leaf(np.resize([3.0, 4.0, 5.0], length), dtype)
    loss = np.sum(p * q)
    write(p)
    for _ in range(2):
        with pytest.raises(tg.GraphError, match=r"leaf.*shape.*changed"):
            loss.backward()
    assert p.grad is None and q.grad is None
    np.sum(p * q).backward()
    assert_array_equal(p.grad, q.data)
    assert_array_equal(q.grad, p.data)


@element_writes
def test_elements_written_before_a_second_backward(write: Any) -> None:
    p = leaf([1.0, 2.0, 0.0])
    loss = np.sum(p * p)
    loss.backward(retain_graph=True)
    grad = p.grad.copy()
    write(p)
    with pytest.raises(tg.GraphError, match="changed"):
        loss.backward()
    assert_array_equal(p.grad, grad)


def test_data_read_between_forward_and_backward_is_no_change() -> None:
    p = leaf([1.0, np.nan, -0.0])
    loss = np.sum(p * p)
    norm, array, shared = np.linalg.norm(p.data), p.numpy(), p.detach()
    loss.backward(retain_graph=True)
    loss.backward()
    assert np.isnan(norm) and array is p.data and shared.data is array
    assert_array_equal(p.grad, 4 * array)


def test_elements_written_back_are_no_change() -> None:
    p = leaf([1.0, 2.0])
    loss = np.sum(p * p)
    p.data[0] += 1
    p.data[0] -= 1
    loss.backward()
    assert_array_equal(p.grad, [2, 4])


def test_only_what_was_computed_before_a_write_is_stale() -> None:
    p = leaf([1.0, 2.0])
    earlier = np.sum(p * p)
    array = p.data
    between = np.sum(p * p)
    array[0] = 5.0
    later = np.sum(p * p)
    later.backward()
    assert_array_equal(p.grad, [10, 4])
    for stale in earlier, between:
        with pytest.raises(tg.GraphError, match="changed"):
            stale.backward()
    assert_array_equal(p.grad, [10, 4])


def test_elements_written_in_the_middle_of_a_forward_pass() -> None:
    p = leaf([1.0, 2.0])
    y = p * p
    p.data[0] = 5.0
    with pytest.raises(tg.GraphError, match="changed"):
        np.sum(y + p * p).backward()


def test_elements_written_after_an_optimizer_moved_a_leaf_that_was_read() -> None:
    p = leaf([1.0, 2.0])
    earlier = np.sum(p * p)
    assert_array_equal(p.data, [1, 2])
    tg.optim.SGD([p], lr=0.1)
    later = np.sum(p * p)
    p.data[0] = 5.0
    for stale in earlier, later:
        with pytest.raises(tg.GraphError, match="changed"):
            stale.backward()


def test_elements_of_a_primal_written_before_the_pullback() -> None:
    p, q = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    for f in (lambda x: x * x), (lambda x: x * q):
        _, pullback = tg.vjp(f, p)
        pullback(np.ones(2))
        q.data[0] += 1
        p.data[0] += 1
        with pytest.raises(tg.GraphError, match="changed"):
            pullback(np.ones(2))


@pytest.mark.parametrize(
    "use", [lambda y: np.sum(np.sin(y)), lambda y: y[0], lambda y: np.sum(y.reshape(1, 2) ** 3)]
)
def test_elements_of_a_computed_tensor_written_before_backward(use: Any) -> None:
    """An error where the graph needs the elements, the right gradient where it does not."""
    x = leaf([1.0, 2.0])
    y = np.exp(x)
    loss = use(y)
    y.data[1] = 9.0
    with pytest.raises(tg.GraphError, match=r"exp.*changed.*copy"):
        loss.backward()
    assert x.grad is None
    y = x * 2
    loss = np.sum(y + 1)
    y.data[0] = 9.0
    loss.backward()
    assert_array_equal(x.grad, [2, 2])


@pytest.mark.parametrize(
    "view", [lambda x: x[1:], lambda x: x.reshape(2, 3), lambda x: np.flip(x), np.unstack]
)
@pytest.mark.parametrize("computed", [True, False])
@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("from_view", [True, False])
def test_elements_written_through_a_view(
    view: Any, computed: bool, tracked: bool, from_view: bool
) -> None:
    """A graph that needs the memory refuses, by whichever of the tensors there it is written."""
    x = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    y = np.exp(x) if computed else x
    with tg.enable_grad() if tracked else tg.no_grad():
        part = view(y)
    part = part[-1] if isinstance(part, tuple) else part
    loss = np.sum(y * y if from_view else part * part)
    (part if from_view else y).data[...] = 9.0
    if not (from_view or tracked):
        return  # no graph was recorded
    with pytest.raises(tg.GraphError, match="changed"):
        loss.backward()


def test_writing_what_vjp_returned_is_an_error_where_the_pullback_needs_it() -> None:
    y, pullback = tg.vjp(np.exp, np.array([1.0, 2.0]))
    y[0] = 0.0
    with pytest.raises(tg.GraphError, match="changed"):
        pullback(np.ones(2))


def test_an_optimizers_steps_are_no_element_writes() -> None:
    """Nor are assignments. The data may be read at any time, and other graphs may live."""
    p = leaf([1.0, 2.0])
    optimizer = tg.optim.SGD([p], lr=0.5)
    alive = []
    for step in range(4):
        loss = np.sum(p * p)
        _ = p.data, loss.data
        optimizer.zero_grad()
        loss.backward()
        optimizer.step() if step % 2 else setattr(p, "data", p.data - 0.5 * p.grad)
        alive.append(np.sum(p * p))
        assert_array_equal(p.data, 0.0)
        p.data += 1
    with pytest.raises(tg.GraphError, match="changed"):
        alive[-1].backward()


def test_data_read_and_written_in_several_threads() -> None:
    """The graphs of a thread are its own: none is refused for what another does to its leaf."""

    def train(seed: int) -> None:
        p = leaf([1.0 + seed, 2.0])
        for _ in range(100):
            loss = np.sum(np.exp(p) * p)
            assert np.isfinite(p.data).all() and np.isfinite(loss.data)
            loss.backward()
            p.data[:] = [1.0 + seed, 2.0]
        loss = np.sum(p * p)
        p.data[0] += 1
        with pytest.raises(tg.GraphError, match="changed"):
            loss.backward()

    with ThreadPoolExecutor(4) as pool:
        for result in [pool.submit(train, seed) for seed in range(4)]:
            result.result()


def test_nothing_stays_lent_once_no_graph_needs_it() -> None:
    exposed.clear()
    p = leaf([1.0, 2.0])
    loss = np.sum(np.exp(p))
    _ = p.data
    assert len(exposed) == 1
    loss.backward()
    assert not exposed
    p.data += 1
    assert not exposed
    y = np.exp(p)
    _ = p.data, y.data
    assert len(exposed) == 2
    del y, p, loss
    assert not exposed


def test_data_changed_keeps_grad_and_requires_grad() -> None:
    p = leaf([1.0, 2.0])
    np.sum(p * p).backward()
    p.data += -0.5 * p.grad
    assert_array_equal(p.data, [0, 0])
    assert_array_equal(p.grad, [2, 4])
    assert p.requires_grad and p.is_leaf


def test_data_assigned_is_copied_into_shape_and_dtype() -> None:
    p, array = leaf([1.0, 2.0], np.float32), np.array([3.0, 4.0])
    p.data = array
    array[0] = 9
    assert_array_equal(p.data, [3, 4])
    assert p.dtype == np.float32
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        p.data = np.zeros(3)
    with pytest.raises(tg.GraphError, match="computed"):
        (p * 2).data = array
    with pytest.raises(TypeError, match="detach"):
        p.data = leaf([1.0, 2.0])


def test_data_of_a_constant_tensor_changed_between_forward_and_backward() -> None:
    """An error, or the gradient for the value that was used; never one for the new value."""
    x, c = leaf([1.0, 2.0]), tg.Tensor([3.0, 4.0])
    loss = np.sum(x * c)
    c.data = np.array([9.0, 9.0])
    loss.backward()
    assert_array_equal(x.grad, [3, 4])


# -- in-place operators give the handle a new value

IN_PLACE = [
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.imod, operator.ipow,
    operator.ifloordiv,
]  # fmt: skip


@pytest.mark.parametrize("operation", IN_PLACE)
def test_in_place_operators_change_no_other_tensor_and_no_saved_array(operation: Any) -> None:
    x = leaf([2.0, 3.0])
    y = x * x
    other, saved, array = y * 1, np.exp(y * 0) * y, y.data
    before = y.data.copy()
    handle = y
    y = operation(y, 2.0)
    assert y is handle
    for kept in other.data, saved.data, array:
        assert_array_equal(kept, before)
    np.sum(saved).backward()
    assert_array_equal(x.grad, 2 * x.data)


def test_a_saved_operand_survives_in_place_changes_of_its_tensor() -> None:
    x = leaf([2.0, 3.0])
    y = x * 1
    z = y * y
    y[0] = 100.0
    y *= 7
    np.sum(z).backward()
    assert_array_equal(x.grad, [4, 6])


def test_in_place_on_an_untracked_tensor_leaves_shared_memory_alone() -> None:
    array = np.ones(2)
    t = tg.asarray(array, copy=False)
    u = t.detach()
    t += 1
    t[0] = 7.0
    assert_array_equal(array, [1, 1])
    assert_array_equal(u.data, [1, 1])
    assert_array_equal(t.data, [7, 2])


def test_in_place_chain_is_exact() -> None:
    x, v = leaf([1.0, 2.0, 3.0]), leaf(10.0)
    y = x * 2
    y[1] = v
    y *= y
    y[0] += v * 3
    y[1:] = y[:2]
    out = np.sum(y * np.array([1.0, 10.0, 100.0]))
    # y is (4 x0^2 + 3 v, 4 x0^2 + 3 v, v^2)
    assert out.item() == 11 * (4 + 30) + 100 * 100
    out.backward()
    assert_array_equal(x.grad, [11 * 8, 0, 0])
    assert v.grad == 11 * 3 + 100 * 20


def test_repeated_index_in_assignment_gives_gradient_to_the_written_element_only() -> None:
    x, v = leaf([1.0, 2.0]), leaf([10.0, 20.0, 30.0])
    y = x * 1
    y[[0, 0, 0]] = v
    written = np.flatnonzero(v.data == y.data[0])
    y.backward([1.0, 1.0])
    assert_array_equal(x.grad, [0, 1])
    expected = np.zeros(3)
    expected[written] = 1
    assert_array_equal(v.grad, expected)


def test_assigning_a_number_or_an_array_stops_the_gradient_there() -> None:
    x = leaf([1.0, 2.0, 3.0])
    y = x * 2
    y[0] = 5
    y[1:2] = [7.0]
    y.backward(np.ones(3))
    assert_array_equal(x.grad, [0, 0, 2])


def test_assigning_a_tracked_value_into_an_untracked_tensor_tracks_it() -> None:
    v, t = leaf(2.0), tg.Tensor(np.zeros(3))
    t[1] = v
    assert t.requires_grad
    t.backward([1.0, 10.0, 100.0])
    assert v.grad == 10


@pytest.mark.parametrize("operation", [*IN_PLACE, operator.imatmul])
def test_in_place_on_a_leaf_is_an_error_with_the_cure(operation: Any) -> None:
    p = leaf(np.eye(2))
    with pytest.raises(tg.GraphError, match=r"no_grad\(\)"):
        operation(p, np.eye(2))
    with pytest.raises(tg.GraphError, match=r"no_grad\(\)"):
        p[0] = 1.0
    assert_array_equal(p.data, np.eye(2))
    with tg.no_grad():
        handle = operation(p, np.eye(2) + 1)
        p[0] = 1.0
    assert handle is p and p.is_leaf and p.requires_grad
    assert_array_equal(p.data[0], [1, 1])


def test_in_place_cannot_change_shape_or_kind() -> None:
    y = leaf([1.0, 2.0]) * 1
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(2,\)"):
        y += np.ones((2, 2))
    n = tg.Tensor([1, 2])
    with pytest.raises(TypeError, match=r"float64.*int64"):
        n += 0.5
    short = leaf([1.0], np.float32) * 1
    short += np.ones(1)
    assert short.dtype == np.float32


# -- arrays on the left


@pytest.mark.parametrize("operation", [operator.iadd, operator.imul, operator.isub, operator.ipow])
@pytest.mark.parametrize("tracked", [True, False])
def test_array_in_place_with_a_tensor_is_a_type_error_with_the_cure(
    operation: Any, tracked: bool
) -> None:
    array, t = np.ones(2), tg.Tensor([1.0, 2.0], requires_grad=tracked)
    with pytest.raises(TypeError, match=r"array = array \+ tensor"):
        operation(array, t)
    assert_array_equal(array, [1, 1])


def test_writing_a_tensor_into_an_array_is_a_type_error() -> None:
    array, t = np.ones(2), leaf([1.0, 2.0])
    with pytest.raises(TypeError):
        np.add(t, 1, out=array)
    with pytest.raises(TypeError):
        np.add.at(array, [0, 0], t)
    with pytest.raises(TypeError):
        np.add.reduce(t, out=np.zeros(()))
    with pytest.raises(TypeError):
        np.sum(t, out=np.zeros(()))
    with pytest.raises(TypeError):
        np.copyto(array, t)
    with pytest.raises(TypeError):
        array[:] = t
    with pytest.raises(ValueError) as error:  # NumPy's own, with the reason as its cause
        array[0] = t[0]
    assert "detach" in str(error.value.__cause__)
    assert_array_equal(array, [1, 1])


# -- borrowed arrays, and the guard


def test_guard_makes_borrowed_arrays_read_only_until_the_graph_is_freed() -> None:
    x, array = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    with tg.guard():
        loss = np.sum(x * array)
    for borrowed in array, x.data, x.numpy(), x.detach().data:
        with pytest.raises(ValueError, match="read-only"):
            borrowed[0] = 9
    with pytest.raises(ValueError, match="read-only"):
        x.data += 1
    loss.backward()
    array[0], x.data[0] = 9, 9
    assert_array_equal(x.grad, [3, 4])


def test_guard_ends_when_the_graph_is_dropped_unused() -> None:
    x, array = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    with tg.guard():
        first, second = x * array, x + array
    del first
    assert not array.flags.writeable
    del second
    assert array.flags.writeable and x.data.flags.writeable


def test_guard_protects_the_array_behind_a_view() -> None:
    base = np.arange(6.0)
    x = leaf([1.0, 2.0])
    with tg.guard():
        y = x * base[1:3]
    with pytest.raises(ValueError, match="read-only"):
        base[1] = 9
    y.backward([1.0, 1.0])
    base[1] = 9


def test_guard_leaves_read_only_arrays_read_only() -> None:
    array = np.ones(2)
    array.flags.writeable = False
    with tg.guard():
        y = leaf([1.0, 2.0]) * array
    y.backward([1.0, 1.0])
    assert not array.flags.writeable


def test_guard_records_nothing_outside_its_block_and_survives_exceptions() -> None:
    array = np.ones(2)
    with pytest.raises(KeyError), tg.guard():
        raise KeyError
    y = leaf([1.0, 2.0]) * array
    assert array.flags.writeable
    y.backward([1.0, 1.0])


def test_guard_keeps_in_place_operators_and_gradients_as_they_are() -> None:
    x = leaf([1.0, 2.0])
    with tg.guard():
        y = x * 2
        y += np.ones(2)
        y[0] = 0.0
        loss = np.sum(y * y)
    loss.backward()
    assert_array_equal(x.grad, [0, 20])
    x.grad += 1
    assert tg.guard()(lambda: 3)() == 3


def test_guard_catches_in_place_changes_of_constant_tensors() -> None:
    x, c = leaf([1.0, 2.0]), tg.Tensor([3.0, 4.0])
    with tg.guard():
        loss = np.sum(x * c)
    with pytest.raises(ValueError, match="read-only"):
        c.data += 1
    loss.backward()
    assert_array_equal(x.grad, [3, 4])


# -- inputs are never written to: test_operations.py asks it of every operation


def test_grad_writes_to_no_input() -> None:
    array = np.array([1.0, 2.0])
    array.flags.writeable = False
    y, pullback = tg.vjp(lambda x: x * x, array)
    seed = np.ones(2)
    seed.flags.writeable = False
    (g,) = pullback(seed)
    assert_array_equal(g, [2, 4])
    assert not np.shares_memory(g, seed) and g.flags.writeable
    y[0] = 9
    g[0] = 9
    assert_array_equal(pullback(seed)[0], [2, 4])
    assert_array_equal(array, [1, 2])


@pytest.mark.parametrize("fun", [lambda x: x, lambda x: x[:], lambda x: x + 0, lambda x: x.T])
def test_what_grad_returns_shares_no_memory(fun: Any) -> None:
    array, seed = np.array([1.0, 2.0]), np.ones(2)
    _, pullback = tg.vjp(lambda x, y: fun(x) + fun(y), array, array)
    first, second = pullback(seed)
    assert not np.shares_memory(first, second)
    assert not any(np.shares_memory(g, a) for g in (first, second) for a in (array, seed))
    (single,) = tg.vjp(fun, array)[1](seed)
    assert not np.shares_memory(single, seed)


def test_freezing_a_leaf_does_not_hide_a_change_of_its_data() -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = np.sum(x * w)
    x.requires_grad = False
    x.data += 10
    y.backward()
    assert_array_equal(w.grad, [1, 2])


def test_an_argument_may_be_changed_in_place_inside_a_transform() -> None:
    def f(x: Any) -> Any:
        x[0] = 5.0
        x *= 2.0
        return np.sum(x * x)

    a = np.array([1.0, 2.0, 3.0])
    assert_array_equal(tg.grad(f)(a), [0, 16, 24])
    assert_array_equal(tg.grad(lambda x: np.sum(tg.grad(f)(x)))(a), [0, 8, 8])
    assert_array_equal(a, [1, 2, 3])
