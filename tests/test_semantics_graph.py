"""What is right, line by line: the graph."""

import gc
import sys
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import tensorgrad as tg
from tensorgrad.engine.modes import set_mode

from .depth import DEEP
from .oracles import leaf


def chain(x: Any, length: int) -> Any:
    y = x
    for _ in range(length):
        y = y + 0.0
    return y


# -- size


def test_doubling_sixty_times_is_exact() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad == 2**60


def test_a_long_chain() -> None:
    x = leaf(1.0)
    chain(x, DEEP).backward()
    assert x.grad == 1.0


def test_functional_gradient_of_a_long_chain() -> None:
    assert tg.grad(lambda x: chain(x, DEEP))(1.0) == 1.0


@pytest.mark.parametrize("drop", ["unused", "after backward", "with retained graph", "guarded"])
def test_dropping_a_deep_graph_does_not_overflow_the_stack(drop: str) -> None:
    def run() -> None:
        x = leaf(1.0)
        if drop == "guarded":
            with tg.guard():
                y = chain(x, DEEP)
        else:
            y = chain(x, DEEP)
        if drop == "after backward":
            y.backward()
        elif drop == "with retained graph":
            y.backward(retain_graph=True)
        del y
        done.append(True)

    done: list[bool] = []
    # From Python 3.13 on, objects that free one another nest until its own limit: some megabytes.
    size = threading.stack_size(1 << 18 if sys.version_info < (3, 13) else 1 << 24)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(size)
    thread.join()
    assert done


def test_dropping_a_deep_and_wide_graph_unused() -> None:
    """Two interleaved chains, each node with two parents."""
    x, y = leaf(1.0), leaf(2.0)
    a, b = x, y
    for _ in range(DEEP // 2):
        a, b = a + b * 0.0, b + a * 0.0
    alive = weakref.ref(a.data)
    del a, b
    assert alive() is None


@pytest.mark.usefixtures("no_collector")  # it looks at all objects of all tests before
def test_time_is_linear_in_the_number_of_uses_of_one_leaf() -> None:
    def seconds(uses: int) -> float:
        x = leaf(1.0)
        start = time.process_time()
        total = x * 0.0
        for _ in range(uses):
            total = total + x
        total.backward()
        assert x.grad == uses
        return time.process_time() - start

    assert seconds(DEEP) < 60 * seconds(DEEP // 20)  # a quadratic algorithm takes 400 times as long


def test_each_operation_is_visited_once() -> None:
    visits = []

    @tg.differentiable(lambda g, _y, _x: (visits.append(1), g)[1])
    def identity(x: Any) -> Any:
        return x + 0

    x = leaf(1.0)
    y = x
    for _ in range(20):
        y = identity(y) + identity(y)
    y.backward()
    assert (x.grad, len(visits)) == (2**20, 40)


# -- the same tensor twice


@pytest.mark.parametrize(
    ("fun", "expected"),
    [
        (lambda x: x * x, [4, 6]),
        (lambda x: x / x, [0, 0]),
        (lambda x: x - x, [0, 0]),
        (lambda x: x @ x, [4, 6]),
        (lambda x: np.concatenate([x, x]), [2, 2]),
        (lambda x: np.stack([x, x, x]), [3, 3]),
        (lambda x: np.maximum(x, x), [1, 1]),
        (lambda x: np.where([True, False], x, x), [1, 1]),
        (lambda x: np.inner(x, x), [4, 6]),
    ],
)
def test_both_uses_of_the_same_tensor_count(fun: Any, expected: Any) -> None:
    x = leaf([2.0, 3.0])
    np.sum(fun(x)).backward()
    assert_array_equal(x.grad, expected)


# -- .grad


def test_grad_accumulates_over_backward_calls() -> None:
    x = leaf([1.0, 2.0])
    for times in 1, 2, 3:
        np.sum(3 * x).backward()
        assert_array_equal(x.grad, [3 * times] * 2)
    x.zero_grad()
    assert x.grad is None


def test_accumulating_leaves_the_earlier_gradient_array_alone() -> None:
    x = leaf([1.0])
    np.sum(x).backward()
    first = x.grad
    np.sum(x).backward()
    assert first == 1 and x.grad == 2


def test_grad_is_kept_by_leaves_only() -> None:
    x = leaf(2.0)
    y = x * 3
    z = y * y
    z.backward()
    assert x.grad == 36.0
    for computed in y, z:
        with pytest.warns(UserWarning, match="retain_grad"):
            assert computed.grad is None
    assert x.is_leaf and not y.is_leaf


def test_retain_grad_keeps_an_intermediates_gradient() -> None:
    x = leaf(2.0)
    y = x * 3
    z = y * y
    y.retain_grad()
    z.retain_grad()
    z.backward()
    assert (x.grad, y.grad, z.grad) == (36.0, 12.0, 1.0)
    assert not np.shares_memory(y.grad, z.grad)


def test_retain_grad_without_a_graph_is_an_error() -> None:
    with pytest.raises(tg.GraphError, match="does not require grad"):
        tg.Tensor(1.0).retain_grad()


def test_an_unused_leaf_keeps_none_and_grad_gives_zeros() -> None:
    x, unused = leaf([1.0]), leaf([1.0, 2.0])
    np.sum(x).backward()
    assert unused.grad is None
    zeros = tg.grad(lambda _x, y: np.sum(y))(np.ones((2, 3), np.float32), np.ones(1))
    assert_array_equal(zeros, np.zeros((2, 3)))
    assert zeros.dtype == np.float32


def test_gradient_of_a_0_d_leaf_stays_an_array() -> None:
    x = leaf(3.0)
    (x * x).backward()
    assert type(x.grad) is np.ndarray
    (x * 2).backward()
    assert type(x.grad) is np.ndarray and x.grad == 8
    x.grad[...] = 0
    assert x.grad == 0


def test_grad_can_be_assigned_and_is_copied() -> None:
    x, g = leaf([1.0, 2.0], np.float32), np.ones(2)
    x.grad = g
    g[0] = 9
    assert x.grad.dtype == np.float32
    assert_array_equal(x.grad, [1, 1])
    x.grad += 1
    assert_array_equal(x.grad, [2, 2])
    x.grad = None
    assert x.grad is None
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        x.grad = np.ones(3)
    with pytest.raises(tg.GraphError, match="does not require grad"):
        tg.Tensor(1.0).grad = 1.0


# -- gradients are nobody else's memory


def shared(*arrays: Any) -> bool:
    pairs = [(a, b) for i, a in enumerate(arrays) for b in arrays[:i]]
    return any(np.shares_memory(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: (x + 0) + (y + 0),
        lambda x, y: np.reshape(x + y, (4, 1)),
        lambda x, y: (x[::-1] + y).T,
        lambda x, y: np.concatenate([x, y]),
        lambda x, y: np.stack([x, y], axis=1),
        lambda x, y: np.sum(x + y),
        lambda x, y: np.broadcast_to(x + y, (3, 4)),
        lambda x, y: (+x).copy() + np.where(True, y, 0),
    ],
)
def test_gradients_share_no_memory_with_each_other_or_the_seed(fun: Any) -> None:
    x, y = leaf(np.ones(4)), leaf(np.ones(4))
    out = fun(x, y)
    seed = np.ones(out.shape)
    out.backward(seed)
    assert not shared(x.grad, y.grad, seed, x.data, y.data, out.data)
    x.grad[:] = 7
    assert_array_equal(seed, np.ones(out.shape))
    assert not (y.grad == 7).any()


def test_backward_from_a_leaf_copies_the_seed() -> None:
    x, seed = leaf([1.0, 2.0]), np.ones(2)
    x.backward(seed)
    seed[0] = 9
    assert_array_equal(x.grad, [1, 1])


def test_retained_gradients_share_no_memory() -> None:
    x = leaf([1.0, 2.0])
    y = x + 0
    z = np.reshape(y, (2, 1))
    w = z + 0
    for t in y, z, w:
        t.retain_grad()
    w.backward([[1.0], [2.0]])
    assert not shared(*(t.grad for t in (x, y, z, w)))


@pytest.mark.parametrize(
    "source", ["the output", "an argument", "an array of its own", "the cotangent"]
)
def test_whatever_array_a_custom_rule_returns_the_gradient_is_not_it(source: str) -> None:
    constant = np.ones(2)

    def vjp(g: Any, out: Any, x: Any, _y: Any) -> Any:
        return {"the output": out, "an argument": x, "the cotangent": g}.get(source, constant)

    @tg.differentiable(vjp, vjp)
    def product(x: Any, y: Any) -> Any:
        return x * y

    x, y = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    out, seed = product(x, y), np.ones(2)
    out.backward(seed)
    assert not shared(x.grad, y.grad, out.data, x.data, y.data, seed, constant)


# -- errors


def test_backward_of_several_elements_without_gradient_names_the_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        (leaf(np.ones((2, 3))) * 2).backward()


@pytest.mark.parametrize("shape", [(1, 1), (), (1,)])
def test_backward_of_one_element_needs_no_gradient(shape: Any) -> None:
    x = leaf(np.ones(shape))
    (x * 2).backward()
    assert_array_equal(x.grad, np.full(shape, 2.0))


def test_backward_of_no_elements_without_gradient_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(0,\)"):
        (leaf(np.ones(0)) * 2).backward()


@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, 2), (1, 2, 3), (2, 1)])
def test_seed_of_another_shape_names_both_and_is_not_broadcast(shape: Any) -> None:
    x = leaf(np.ones((2, 3)))
    with pytest.raises(ValueError) as error:
        (x * 2).backward(np.ones(shape))
    assert str(shape) in str(error.value) and "(2, 3)" in str(error.value)
    assert x.grad is None


def test_seed_may_be_a_tensor_a_list_or_another_dtype() -> None:
    for seed in [1, 2], np.array([1, 2], np.float32), tg.Tensor([1.0, 2.0]):
        x = leaf([1.0, 1.0])
        (x * 2).backward(seed)
        assert_array_equal(x.grad, [2, 4])
        assert x.grad.dtype == np.float64


def test_a_tracked_seed_is_refused() -> None:
    with pytest.raises(TypeError, match="detach"):
        (leaf(1.0) * 2).backward(leaf(1.0))


def test_backward_without_a_graph_is_an_error() -> None:
    x = leaf(1.0)
    with tg.no_grad():
        untracked = x * 2
    for t in tg.Tensor(1.0), untracked, x.detach(), tg.Tensor(1.0) * 2:
        with pytest.raises(tg.GraphError, match="no graph"):
            t.backward()


def test_second_backward_names_retain_graph() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(tg.GraphError, match="retain_graph=True"):
        y.backward()
    assert x.grad == 4


def test_backward_through_a_freed_shared_part_names_retain_graph() -> None:
    x = leaf(2.0)
    common = x * x
    first, second = common * 2, common * 3 + x
    first.backward()
    with pytest.raises(tg.GraphError, match="retain_graph=True"):
        second.backward()
    assert x.grad == 8


def test_an_operation_on_a_freed_result_fails_at_backward_too() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward()
    for fun in (
        lambda y: y + 1,
        lambda y: np.sum(np.stack([y, 1.0])),
        lambda y: np.sum(tg.asarray([[y, 1.0]])),
        lambda y: np.sum(tg.Tensor([y, 1.0])),
        lambda y: np.sum(tg.stack([[y, 1.0]])),
        lambda y: np.sum(tg.nn.relu([y, 1.0])),
    ):
        later = fun(y) + x  # the way through y is gone, and the other one is not the gradient
        with pytest.raises(tg.GraphError, match="retain_graph=True"):
            later.backward()
    assert x.grad == 4


def test_retain_graph_allows_backward_again() -> None:
    x = leaf(2.0)
    y = x * x
    for times in 1, 2, 3:
        y.backward(retain_graph=True)
        assert x.grad == 4 * times
    y.backward()
    assert x.grad == 16


def test_a_leaf_can_be_backwarded_again_and_again() -> None:
    x = leaf(2.0)
    x.backward()
    x.backward()
    assert x.grad == 2


# -- memory


def arrays_of(f: Any) -> tuple[Any, list[weakref.ref[Any]]]:
    """What f returns, and weak references to the arrays of all operations in it."""
    seen: list[weakref.ref[Any]] = []

    def note(_node: Any, arrays: Any) -> None:
        seen.extend(weakref.ref(a) for a in arrays if isinstance(a, np.ndarray))

    with set_mode(hooks=(note,)):
        return f(), seen


@pytest.mark.usefixtures("no_collector")
def test_a_loss_kept_after_backward_keeps_no_arrays_alive() -> None:
    def loss() -> Any:
        x = leaf(np.ones((3, 3)))
        return np.mean(np.tanh(x @ x + np.ones(3)) ** 2)

    kept, arrays = arrays_of(loss)
    kept.backward()
    alive = [a() for a in arrays if a() is not None and a() is not kept.data]
    assert alive == []


@pytest.mark.usefixtures("no_collector")
def test_dropping_the_last_tensor_frees_the_graph_at_once() -> None:
    def loss() -> Any:
        x = leaf(np.ones((3, 3)))
        y = np.tanh(x @ x)
        y[0] = 1.0
        return np.sum(np.concatenate([y, y[[0, 0]]]))

    kept, arrays = arrays_of(loss)
    del kept
    assert [a() for a in arrays if a() is not None] == []


@pytest.mark.usefixtures("no_collector")
def test_there_are_no_reference_cycles() -> None:
    def step(x: Any) -> None:
        y = np.tanh(x @ x)
        y[0] = y[1]
        y += 1
        first, second = divmod(y, 2.5)
        loss = np.mean(np.stack([first, second]) ** 2) + np.max(np.where(y > 0, y, 0))
        loss.backward()
        x.data += -0.1 * x.grad
        x.grad = None
        tg.grad(lambda v: np.sum(tg.grad(lambda u: np.sum(u**3))(v)))(np.ones(3))
        with tg.no_grad(), tg.guard():
            loss * 2

    x = leaf(np.ones((3, 3)))
    step(x)  # fills caches
    gc.collect()
    for _ in range(3):
        step(x)
    assert gc.collect() == 0


@pytest.mark.usefixtures("no_collector")
def test_activations_that_no_rule_reads_are_freed_during_the_forward_pass() -> None:
    x, w, b = leaf(np.ones((2, 2))), leaf(np.ones((2, 2))), leaf(np.ones(2))
    product = x @ w
    shifted = product + b
    gone = weakref.ref(product.data), weakref.ref(shifted.data)
    y = np.tanh(shifted)
    del product, shifted
    assert [array() for array in gone] == [None, None]
    y.backward(np.ones((2, 2)))


def test_constant_operands_get_no_vjp_call() -> None:
    """Only the gradients that are asked for are computed."""
    calls = []

    def vjp(position: int) -> Any:
        return lambda g, _z, _x, _y: (calls.append(position), g)[1]

    @tg.differentiable(vjp(0), vjp(1))
    def add(x: Any, y: Any) -> Any:
        return x + y

    add(leaf(1.0), 2.0).backward()
    add(tg.Tensor(1.0), leaf(2.0)).backward()
    assert calls == [0, 1]
    tg.vjp(lambda x: add(x, leaf(1.0)), 1.0)[1](1.0)
    assert calls == [0, 1, 0]
