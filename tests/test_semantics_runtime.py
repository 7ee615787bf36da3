"""What is right, line by line: threads, exceptions, randomness, memory."""

import asyncio
import contextlib
import contextvars
import gc
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import tensorgrad as tg
from tensorgrad.engine import modes
from tensorgrad.engine.modes import mode

from .depth import FULL
from .oracles import leaf


def recording() -> bool:
    return (leaf(1.0) * 2).requires_grad


def in_threads(*work: Callable[[], Any]) -> list[Any]:
    """The results of functions that run at the same time; an exception in one is raised."""
    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result() for future in [pool.submit(f) for f in work]]


# -- no_grad


def test_no_grad_and_enable_grad_nest() -> None:
    with tg.no_grad():
        assert not recording()
        with tg.enable_grad():
            assert recording()
            with tg.no_grad():
                assert not recording()
            assert recording()
        assert not recording()
    assert recording()


def test_no_grad_computes_the_same_values_and_types() -> None:
    x = leaf([1.0, 2.0])
    with tg.no_grad():
        y = np.tanh(x) @ x
    assert type(y) is tg.Tensor and y.is_leaf and not y.requires_grad
    assert y.item() == (np.tanh(x) @ x).item()


def test_no_grad_is_restored_by_exceptions() -> None:
    for error in ValueError, KeyboardInterrupt, GeneratorExit:
        with pytest.raises(error), tg.no_grad():
            raise error
        assert recording()
        with tg.no_grad():
            with pytest.raises(error), tg.enable_grad():
                raise error
            assert not recording()


@pytest.mark.parametrize("form", ["block", "decorator"])
def test_ctrl_c_at_any_moment_of_an_inner_mode_does_not_outlast_the_outer_one(form: str) -> None:
    off = tg.no_grad()

    def inner() -> None:
        if form == "decorator":
            off(lambda: None)()
        else:
            with tg.no_grad():
                pass

    @off
    def outer(moment: int) -> bool:
        return interrupted_at(moment, inner)

    def in_block(moment: int) -> bool:
        with tg.enable_grad():
            return interrupted_at(moment, inner)

    for run in outer, in_block:
        moments = 0
        while run(moments):
            moments += 1
            assert recording()
        assert moments > 20


def interrupted_at(moment: int, run: Callable[[], None]) -> bool:
    """Press Ctrl-C before one call, line or return in the file of the modes, if it has so many."""
    count = 0

    def trace(frame: FrameType, _event: str, _arg: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != modes.__file__:
            return None
        count += 1
        if count > moment:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_leaving_a_mode_that_was_left_already_changes_nothing() -> None:
    def generator() -> Iterator[None]:
        with tg.no_grad():
            yield

    with tg.enable_grad():
        started = generator()
        next(started)
    with tg.no_grad():
        started.close()
        assert not recording()
    assert recording()


def test_no_grad_as_a_decorator() -> None:
    @tg.no_grad()
    def evaluate(fail: bool = False) -> bool:
        """Evaluate."""
        if fail:
            raise ValueError
        return recording()

    assert not evaluate() and recording()
    with pytest.raises(ValueError):
        evaluate(fail=True)
    assert recording()
    assert (evaluate.__name__, evaluate.__doc__) == ("evaluate", "Evaluate.")


def test_no_grad_decorates_recursive_functions_methods_and_lambdas() -> None:
    @tg.no_grad()
    def depth(n: int) -> list[bool]:
        return [recording(), *depth(n - 1)] if n else []

    class Model:
        @tg.no_grad()
        def evaluate(self) -> bool:
            return recording()

        @staticmethod
        @tg.no_grad()
        def static() -> bool:
            return recording()

    assert depth(5) == [False] * 5
    assert not Model().evaluate() and not Model.static() and not tg.no_grad()(lambda: recording())()
    assert recording()


def test_no_grad_refuses_generators_and_coroutines_with_the_cure() -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def coroutine() -> None: ...

    async def asynchronous_generator() -> Any:
        yield 1

    for fun in generator, coroutine, asynchronous_generator:
        for decorator in tg.no_grad(), tg.enable_grad():
            with pytest.raises(TypeError, match="with"):
                decorator(fun)


def test_one_no_grad_object_can_be_entered_again() -> None:
    off = tg.no_grad()
    with off:
        with off:
            assert not recording()
        assert not recording()
    assert recording()
    with off:
        assert not recording()
    assert recording()


def test_one_no_grad_object_serves_several_threads() -> None:
    off = tg.no_grad()
    one_is_in, two_is_in, one_is_out = threading.Event(), threading.Event(), threading.Event()

    def one() -> list[bool]:
        with off:
            one_is_in.set()
            two_is_in.wait(5)
            inside = recording()
        one_is_out.set()
        return [inside, recording()]

    def two() -> list[bool]:
        one_is_in.wait(5)
        before = recording()
        with off:
            two_is_in.set()
            one_is_out.wait(5)
            inside = recording()
        return [before, inside, recording()]

    assert in_threads(one, two) == [[False, True], [True, False, True]]


def test_no_grad_is_per_thread() -> None:
    inside, done = threading.Event(), threading.Event()

    def off() -> bool:
        with tg.no_grad():
            inside.set()
            done.wait()
            return recording()

    def on() -> bool:
        inside.wait()
        try:
            return recording()
        finally:
            done.set()

    assert in_threads(off, on) == [False, True]
    with tg.no_grad():
        assert in_threads(recording) == [True]
        assert not contextvars.copy_context().run(recording)


def test_no_grad_is_per_asyncio_task() -> None:
    async def off(entered: asyncio.Event, leave: asyncio.Event) -> bool:
        with tg.no_grad():
            entered.set()
            await leave.wait()
            return recording()

    async def on(entered: asyncio.Event, leave: asyncio.Event) -> bool:
        await entered.wait()
        try:
            return recording()
        finally:
            leave.set()

    async def main() -> list[bool]:
        events = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(off(*events), on(*events))

    assert asyncio.run(main()) == [False, True]
    assert recording()


def test_one_no_grad_object_serves_several_asyncio_tasks() -> None:
    off = tg.no_grad()

    async def work(steps: int) -> list[bool]:
        seen = []
        with off:
            for _ in range(steps):
                await asyncio.sleep(0)
                seen.append(recording())
        return [*seen, recording()]

    async def main() -> list[list[bool]]:
        return await asyncio.gather(work(1), work(3), work(2))

    assert asyncio.run(main()) == [[*[False] * n, True] for n in (1, 3, 2)]


def test_a_with_statement_inside_a_generator_ends_with_it() -> None:
    def generator() -> Iterator[bool]:
        with tg.no_grad():
            yield recording()
            yield recording()

    assert list(generator()) == [False, False]
    assert recording()
    unfinished = generator()
    next(unfinished)
    unfinished.close()
    assert recording()


def test_transforms_record_under_no_grad() -> None:
    with tg.no_grad():
        assert tg.grad(lambda x: x**3)(2.0) == 12
        assert tg.grad(tg.grad(lambda x: x**3))(2.0) == 12
        assert tg.gradcheck(np.tanh, np.ones(2))
        assert not recording()


def test_the_mode_is_left_as_it_was_by_everything() -> None:
    before = mode.get()
    with pytest.raises(ZeroDivisionError):
        tg.grad(lambda x: x * (1 // 0))(1.0)
    with pytest.raises(tg.GradcheckError):
        tg.gradcheck(lambda x: x.detach() * x, np.ones(2))
    assert mode.get() == before


# -- threads


def test_threads_that_accumulate_into_one_leaf_give_the_exact_sum() -> None:
    x, rounds = leaf(np.zeros(100)), 200

    def work() -> None:
        for _ in range(rounds):
            (x * 2.0).backward(np.ones(100))

    in_threads(*[work] * 8)
    assert_array_equal(x.grad, np.full(100, 8 * rounds * 2.0))


def test_threads_build_and_walk_graphs_of_their_own() -> None:
    def work(k: int) -> Any:
        x = leaf(np.full(3, float(k)))
        y = x
        for _ in range(300):
            y = y + x
        y.backward(np.ones(3))
        return x.grad

    for g in in_threads(*[lambda k=k: work(k) for k in range(8)]):
        assert_array_equal(g, np.full(3, 301.0))


def test_threads_may_walk_a_shared_retained_graph() -> None:
    x = leaf(2.0)
    y = x
    for _ in range(200):
        y = y * 1.0 + 0.0

    in_threads(*[lambda: [y.backward(retain_graph=True) for _ in range(20)]] * 4)
    assert x.grad == 80


# -- exceptions in the middle of backward


def failing(error: type[BaseException], when: list[bool]) -> Any:
    def vjp(g: Any, _y: Any, _x: Any) -> Any:
        if when[0]:
            raise error
        return g * 3

    return tg.differentiable(vjp)(lambda x: x * 3)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError, SystemExit])
@pytest.mark.parametrize("retain_graph", [True, False])
def test_an_exception_in_backward_leaves_every_grad_as_it_was(
    error: Any, retain_graph: bool
) -> None:
    when = [True]
    triple = failing(error, when)
    first, second, fresh = leaf([1.0]), leaf([1.0, 2.0]), leaf(1.0)
    (np.sum(first) + np.sum(second)).backward()
    held = first.grad, second.grad

    def loss() -> Any:
        y = second * 2
        y.retain_grad()
        return np.sum(first) + np.sum(triple(first)) + np.sum(y * fresh), y

    out, y = loss()
    with pytest.raises(error):
        out.backward(retain_graph=retain_graph)
    assert first.grad is held[0] and second.grad is held[1]
    assert_array_equal(first.grad, [1])
    assert_array_equal(second.grad, [1, 1])
    assert fresh.grad is None and y.grad is None
    when[0] = False
    if retain_graph:
        out.backward()
    else:
        with pytest.raises(tg.GraphError, match="retain_graph"):
            out.backward()
        assert_array_equal(first.grad, [1])
        loss()[0].backward()
    assert_array_equal(first.grad, [5])
    assert_array_equal(second.grad, [3, 3])
    assert fresh.grad == 6


@pytest.mark.usefixtures("no_collector")  # Python ignores an exception in its callbacks
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timer signals")
def test_an_interrupt_at_any_moment_reaches_every_leaf_or_none() -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def add_up() -> None:
        np.sum(np.stack(leaves)).backward()

    leaves = [leaf(0.0) for _ in range(50)]
    add_up()
    start = time.perf_counter()
    add_up()
    duration = time.perf_counter() - start
    interrupted = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # hypothesis' callback on collections would swallow the interrupt
    try:
        for delay in np.linspace(0.05, 1.2, 200) * duration:
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    add_up()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert len({x.grad.item() for x in leaves}) == 1
    finally:
        gc.enable()
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    assert leaves[0].grad.item() <= 202


def test_an_exception_in_backward_frees_the_accumulation_for_others() -> None:
    triple = failing(KeyboardInterrupt, [True])
    with pytest.raises(KeyboardInterrupt):
        triple(leaf(1.0)).backward()
    x = leaf(1.0)
    in_threads(lambda: (x * 2).backward())
    assert x.grad == 2


def test_a_vjp_that_returns_a_wrong_shape_is_an_error_that_changes_nothing() -> None:
    wrong = tg.differentiable(lambda _g, _y, _x: np.ones(7))(lambda x: x * 1)
    x, y = leaf(np.ones(3)), leaf(np.ones(3))
    with pytest.raises(Exception, match=r"shape|broadcast"):
        np.sum(wrong(x) + y).backward()
    assert x.grad is None and y.grad is None


def test_an_exception_in_forward_leaves_no_trace() -> None:
    x = leaf(np.ones((2, 3)))
    with pytest.raises(ValueError):
        x @ x
    y = x * 2
    before = y.data
    with pytest.raises(ValueError):
        y += np.ones(7)
    with pytest.raises(ValueError):
        y[0] = np.ones(7)
    assert y.data is before
    np.sum(y).backward()
    assert_array_equal(x.grad, np.full((2, 3), 2.0))


# -- randomness


def test_numpys_global_random_state_is_never_touched() -> None:
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    x = leaf(np.ones((2, 2)))
    np.sum(np.tanh(x @ x)).backward()
    tg.gradcheck(np.tanh, np.ones(3))
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert before["state"]["pos"] == after["state"]["pos"]
    assert_array_equal(before["state"]["key"], after["state"]["key"])


def test_the_same_seed_gives_the_same_bits() -> None:
    def run() -> bytes:
        rng = np.random.default_rng(7)
        x, w = leaf(rng.normal(size=(20, 30))), leaf(rng.normal(size=(30, 10)))
        for _ in range(5):
            np.mean(np.tanh(x @ w) ** 2).backward()
            w.data += -0.1 * w.grad
        return w.data.tobytes()

    assert run() == run() == in_threads(run, run)[1]


def test_no_warning_where_numpy_gives_none() -> None:
    with np.errstate(all="raise"):
        x = leaf([0.0, 1e-3, 1e3])
        np.sum(np.maximum(x, 0) + np.abs(x) + np.tanh(x)).backward()


# -- memory


def step(x: Any, w: Any, b: Any) -> None:
    loss = np.mean((np.tanh(x @ w + b) - 1.0) ** 2)
    loss.backward()
    for p in w, b:
        p.data += -0.01 * p.grad
        p.zero_grad()


def test_memory_does_not_grow_over_many_steps_without_the_garbage_collector() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(4, 3)), leaf(rng.normal(size=(3, 2))), leaf(np.zeros(2))
    steps = 10_000 if FULL else 1_000
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            step(x, w, b)
        tracemalloc.start()
        step(x, w, b)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(steps):
            step(x, w, b)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert grown < steps  # a byte for each


def test_memory_does_not_grow_with_other_uses_either() -> None:
    """Transforms, failures, graphs dropped unused, in-place changes, the guard."""

    def use() -> None:
        x = leaf(np.ones((4, 4)))
        tg.grad(lambda v: np.sum(tg.grad(lambda u: np.sum(np.tanh(u)))(v)))(np.ones(3))
        with tg.guard():
            y = x * 2
            y[0] = y[1]
            y += x
        y.retain_grad()
        np.sum(y[[0, 0]]).backward(retain_graph=True)
        with contextlib.suppress(ValueError):
            y.backward()
        np.concatenate([y, np.stack([x[0], x[1]])])

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        grown = []
        for _ in range(16 if FULL else 4):
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(100):
                use()
            grown.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
        gc.enable()
    assert min(grown) < 1000  # a leak grows in every round; Python's free lists fill up once


def test_peak_memory_of_a_deep_network_is_what_its_rules_read() -> None:
    n, depth = 256, 20
    x, w, b = np.ones((n, n)), leaf(np.eye(n)), leaf(np.zeros(n))
    tracemalloc.start()
    try:
        h = tg.Tensor(x)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(depth):
            h = np.tanh(h @ w + b)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # One activation a layer, and two temporary arrays.
    assert peak < 1.15 * (depth + 2) * n * n * 8


def test_time_of_a_step_does_not_grow() -> None:
    x, w, b = np.ones((4, 3)), leaf(np.ones((3, 2))), leaf(np.zeros(2))

    def seconds(steps: int) -> float:
        start = time.process_time()
        for _ in range(steps):
            step(x, w, b)
        return time.process_time() - start

    seconds(100)
    early = min(seconds(300) for _ in range(3))
    seconds(2000)
    assert min(seconds(300) for _ in range(3)) < 4 * early
