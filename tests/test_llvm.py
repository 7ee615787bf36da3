"""Native code does what NumPy's calls do: compiled by LLVM equals eager."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.compiler import Compiled
from tensorgrad.compiler.verifier import verify
from tensorgrad.engine.arrays import aligned

from .depth import one_in
from .laws import Laws
from .operations import Op, Shape
from .oracles import assert_same
from .test_compile_table import ROWS, differentiated, drawn, in_both_dtypes

pytest.importorskip("llvmlite")
from tensorgrad.compiler.backends.llvm.segments import Module

ULPS = 64  # of the largest number: sums are made in another order, functions differ by 2

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: tg.optim.SGD(p, lr=0.05),
    "momentum": lambda p: tg.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: tg.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: tg.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "RMSprop": lambda p: tg.optim.RMSprop(p, lr=0.01),
    "Adagrad": lambda p: tg.optim.Adagrad(p, lr=0.01),
}
NETWORKS = [((3, 4, 4, 1), 4), ((2, 16, 16, 1), 100), ((64, 128, 10), 64)]


def training(sizes: Any, optimizer: str, dtype: Any) -> tuple[Any, Callable[..., Any]]:
    """A network, and a function that makes a step."""
    net = tg.MLP(sizes[0], [*sizes[1:]], rng=0, dtype=dtype)
    own = OPTIMIZERS[optimizer]([*net.parameters()])

    def step(x: Any, y: Any) -> Any:
        loss = tg.nn.mse_loss(net(x), y)
        own.zero_grad()
        loss.backward()
        own.step()
        return loss

    return net, step


def batches(sizes: Any, count: int, batch: int, dtype: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, batch, sizes[0])).astype(dtype)
    return x, np.tanh(rng.normal(size=(count, batch, sizes[-1]))).astype(dtype)


CASES = [
    (*network, optimizer, dtype)
    for optimizer in OPTIMIZERS
    for network in NETWORKS
    for dtype in (np.float32, np.float64)
]


@pytest.mark.parametrize(("sizes", "batch", "optimizer", "dtype"), one_in(5, CASES))
def test_training(sizes: Any, batch: int, optimizer: str, dtype: Any) -> None:
    """Steps one by one and in a loop leave what eager steps leave: losses, weights, gradients."""
    x, y = batches(sizes, 9, batch, dtype)
    eager, step = training(sizes, optimizer, dtype)
    losses = np.stack([step(*pair).numpy() for pair in zip(x, y, strict=True)])
    native, same_step = training(sizes, optimizer, dtype)
    compiled = tg.compile(same_step, backend="llvm")
    first = [compiled(x[i], y[i]).numpy() for i in range(3)]
    rest = compiled.scan(x[3:], y[3:]).numpy()
    scale = 1 << 10  # roundings that steps add up
    assert_same(np.concatenate([first, rest]), losses, roundings=scale)
    for p, q in zip(native.parameters(), eager.parameters(), strict=True):
        assert_same(p.numpy(), q.numpy(), roundings=scale, least=0.1)
        assert_same(p.grad, q.grad, roundings=scale, least=0.1)


def test_a_training_step_is_one_native_function() -> None:
    x, y = batches((3, 4, 4, 1), 1, 4, np.float32)
    _, step = training((3, 4, 4, 1), "SGD", np.float32)
    plan = tg.compile(step, backend="llvm").lower(x[0], y[0])
    assert len(plan.steps) == 1
    assert "define" in plan.source and "native_0" in plan.assembly
    assert "nest[add, tanh]" in str(plan)


def test_a_long_chain_is_several_nests() -> None:
    def chain(x: Any) -> Any:
        for _ in range(200):
            x = np.sin(x)
        return x

    compiled, x = tg.compile(chain, backend="llvm"), np.linspace(-1, 1, 20)
    assert_same(compiled(x), chain(x), roundings=8)
    plan = compiled.lower(x)
    assert len(plan.steps) == 1
    assert 4 <= str(plan).count("nest[sin") <= 10
    assert plan.source.count('define internal void @"nest') == 2  # the last one, and the others


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.bool_])
@pytest.mark.parametrize("columns", [1, 3, 16, 20, 33, 70, 300])
def test_reductions_of_columns(columns: int, dtype: Any) -> None:
    """Registers collect those of a few columns; memory those of many."""

    def reduced(x: Any) -> Any:
        y = x + x
        return np.max(y, 0), np.sum(y, 0), np.min(y, (0, 1)), np.max(y, 1), np.sum(y, 2), np.sum(y)

    x = np.random.default_rng(0).integers(-9, 9, (4, 5, columns)).astype(dtype)
    assert_same(tg.compile(reduced, backend="llvm")(x), reduced(x))


def test_calls_that_are_not_native_are_named() -> None:
    f = tg.compile(lambda x: np.exp(np.linalg.inv(np.exp(x))), backend="llvm")
    x = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert_same(f(x), np.exp(np.linalg.inv(np.exp(x))), roundings=16)
    plan = f.lower(x)
    assert [step.lines[0][:7] for step in plan.steps] == ["native_", "v2 = in", "native_"]
    assert "not native: inv" in str(plan)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "by columns": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "with gaps": lambda x: np.repeat(x, 2, 1)[:, ::2],
    "not aligned": lambda x: (
        np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    ),
    "repeated": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_arguments_lie_in_memory_in_any_way(name: str) -> None:
    f = tg.compile(lambda x: (np.exp(x) + x.T, np.sum(x, 0)), backend="llvm")
    rows = tg.compile(lambda x: np.exp(x) - 1, backend="llvm")
    x = np.random.default_rng(0).normal(size=(5, 5))
    f(x), rows(x)
    other = LAYOUTS[name](x)
    assert_same(f(other), (np.exp(other) + other.T, np.sum(other, 0)), roundings=4)
    assert_same(rows.scan(np.stack([other] * 3)), np.stack([np.exp(other) - 1] * 3), roundings=4)
    assert_same(rows.scan(other[np.newaxis]), (np.exp(other) - 1)[np.newaxis], roundings=4)


ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "the state": lambda total: total.data,
    "a view of the state": lambda total: total.data[::-1],
    "the gradient": lambda total: total.grad,
    "another shape": lambda _: np.arange(3.0)[:, np.newaxis],
    "another dtype": lambda _: np.arange(6).reshape(3, 2),
    "another dtype of this size": lambda _: np.arange(6, dtype=np.int64).reshape(3, 2),
    "by columns": lambda _: np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    "a tensor": lambda _: tg.Tensor(np.arange(6.0).reshape(3, 2)),
    "a subclass": lambda _: np.ma.masked_less(np.arange(6.0).reshape(3, 2), 2).data,
    "a number": lambda _: np.float64(2.0),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_all_kinds(name: str) -> None:
    """The program notices what is not like the array that it was made for."""

    def run(backend: str) -> list[Any]:
        total = tg.Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)

        def add(x: Any) -> Any:
            total.grad = None
            y = np.sum(total * total)
            y.backward()
            with tg.no_grad():
                total.data[...] = total.data * 2.0
                return total.data + x * 1.0

        compiled = tg.compile(add, backend=backend)
        compiled(np.ones((3, 2)))
        plain = np.ones((3, 2))
        outputs = [compiled(ARGUMENTS[name](total)), compiled(plain), compiled(plain[:])]
        return [*outputs, total.data, total.grad]

    assert_same(run("llvm"), run("numpy"), roundings=4)


def test_a_loop_over_memory_that_it_changes() -> None:
    """A batch that is the state itself is read as it is when its turn comes."""

    def run(backend: str) -> tuple[Any, Any]:
        total = tg.Tensor(np.arange(6.0).reshape(3, 2))

        def add(x: Any) -> Any:
            total.data[...] += x
            return total.data * 1.0

        return tg.compile(add, backend=backend).scan(total.data), total

    (actual, total), (expected, same) = run("llvm"), run("numpy")
    assert_same(actual, expected)
    assert_same(total.numpy(), same.numpy())


def test_random_numbers_between_native_calls() -> None:
    def outputs(backend: str) -> list[Any]:
        drop = tg.nn.Dropout(0.5, rng=0)
        f = tg.compile(lambda x: np.tanh(drop(np.exp(x))), backend=backend)
        return [f(np.ones((3, 4))).copy() for _ in range(3)]

    assert_same(outputs("llvm"), outputs("numpy"), roundings=4)


@pytest.mark.parametrize("shape", [(3,), (17,), (2, 3), (5, 33), (2, 3, 4), (1, 7, 1, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reductions(shape: tuple[int, ...], dtype: Any) -> None:
    """Along any axes, of what is computed and of an argument."""
    axes = [None, *range(len(shape)), tuple(range(len(shape)))[::2], (-1,)]

    def f(x: Any) -> Any:
        y = x * x - x
        return [
            (np.sum(y, a), np.max(y, a, keepdims=True), np.min(x, a), np.sum(x, a, keepdims=True))
            for a in axes
        ] + [(np.max(x > 0, a), np.min(x > 0, a)) for a in axes]

    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    compiled = tg.compile(f, backend="llvm")
    assert "not native" not in str(compiled.lower(x))
    assert_same(compiled(x), f(x), roundings=64, least=1.0)
    for bad in np.nan, np.inf:
        x.flat[1] = bad
        with np.errstate(invalid="ignore"):
            assert_same(compiled(x), f(x), roundings=64, least=1.0)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize(
    "shape", [(1,), (3,), (1, 1), (1, 9), (9, 1), (2, 9), (9, 2), (1, 4, 1), (2, 3, 17)]
)
def test_signs_of_zeros_and_numbers(shape: tuple[int, ...], backend: Any) -> None:
    def f(x: Any) -> Any:
        sums = *(np.sum(x, axis=i) for i in range(x.ndim)), np.sum(x), np.mean(x, axis=0)
        return *sums, np.cumsum(x, axis=0), x * -0.0, x + 0.0, np.maximum(x, -0.0)

    compiled, x = tg.compile(f, backend=backend), np.full(shape, -0.0)
    for _ in range(2):
        for actual, expected in zip(compiled(x), f(x), strict=True):
            np.testing.assert_array_equal(np.signbit(actual), np.signbit(expected))


# -- the table of operations

law = Laws()


@pytest.mark.parametrize("op", ROWS, ids=repr)
def test_laws(op: Op, request: pytest.FixtureRequest, subtests: pytest.Subtests) -> None:
    law.check(op, request, subtests)


@law(in_both_dtypes, one_row_in=24)
def value_and_pullback(op: Op, shapes: tuple[Shape, ...], dtype: Any) -> None:
    """Within some roundings of the largest number that occurs."""
    f = differentiated(op.fun)
    compiled = tg.compile(f, backend="llvm")
    for call in range(2):
        args = drawn(op, shapes, dtype, call)
        expected = f(*args)
        scale = max(float(np.max(np.abs(a), initial=0)) for a in [*args, expected[0]])
        assert_same(compiled(*args), expected, roundings=ULPS, least=scale)


# -- the choice of a back end


def is_native(compiled: Any) -> bool:
    """Whether the latest plan has native code."""
    return "native_0" in compiled.replay.__globals__


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code takes over after a few calls."""
    monkeypatch.delenv("TENSORGRAD_BACKEND", raising=False)
    monkeypatch.setattr("tensorgrad.compiler.turns.SECONDS", 3e-5)


@pytest.mark.usefixtures("soon")
def test_native_code_takes_over() -> None:
    """From some call on; where floating-point errors raise, NumPy computes."""
    x, y = batches((3, 4, 4, 1), 12, 4, np.float64)
    _, step = training((3, 4, 4, 1), "Adam", np.float64)
    losses = np.stack([step(*pair).numpy() for pair in zip(x, y, strict=True)])
    _, same_step = training((3, 4, 4, 1), "Adam", np.float64)
    compiled = Compiled(same_step)
    call = compiled.function()
    first = [call(x[i], y[i]).numpy() for i in range(6)]
    assert is_native(compiled)
    with np.errstate(over="raise"):
        first += [call(x[i], y[i]).numpy() for i in (6, 7)]
        assert not is_native(compiled)
    first += [call(x[8], y[8]).numpy()]
    assert is_native(compiled)
    rest = call.scan(x[9:], y[9:]).numpy()
    assert_same(np.concatenate([first, rest]), losses, roundings=1 << 10)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        call(x[0], np.full_like(y[0], 1e308))


@pytest.mark.usefixtures("soon")
def test_a_loop_over_many_batches_is_native_from_the_start() -> None:
    compiled = Compiled(lambda x: np.exp(x) + np.exp(2 * x))
    assert_same(compiled.function().scan(np.ones((50, 2))), np.full((50, 2), np.exp(1) + np.exp(2)))
    assert is_native(compiled)


@pytest.mark.usefixtures("soon")
def test_numpy_goes_on_where_little_would_be_native() -> None:
    compiled = Compiled(lambda x: np.linalg.inv(np.sort(np.linalg.inv(np.exp(x)))))
    x = np.array([[1.0, 0.0], [0.0, 2.0]])
    results = [compiled.function()(x) for _ in range(100)]
    assert not is_native(compiled)
    assert_same(results, [np.linalg.inv(np.sort(np.linalg.inv(np.exp(x))))] * 100, roundings=16)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_the_environment_chooses(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORGRAD_BACKEND", backend)
    compiled = Compiled(lambda x: np.exp(x) + 1)
    for _ in range(3):
        assert_same(compiled.function()(np.zeros(3)), np.full(3, 2.0))
    assert is_native(compiled) == (backend == "llvm")


def test_importing_the_library_does_not_import_llvmlite() -> None:
    script = "import sys, tensorgrad; assert 'llvmlite' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


# -- elements that indices choose


def classification(backend: str) -> tuple[Any, Any]:
    net = tg.nn.Sequential(tg.nn.Embedding(7, 5, rng=0), tg.nn.Linear(5, 4, rng=0))
    optimizer = tg.optim.Adam(net.parameters(), lr=0.01)

    def step(tokens: Any, labels: Any) -> Any:
        loss = tg.nn.cross_entropy(net(tokens), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return net, tg.compile(step, backend=backend)


def test_class_indices_and_embeddings() -> None:
    """One by one and in a loop; a label that is none raises, and changes nothing."""
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(0, 7, (8, 12)), rng.integers(0, 4, (8, 12))
    (net, step), (same, native) = classification("numpy"), classification("llvm")
    for call in step, native:
        call(tokens[0], labels[0])
    assert_same(
        native.scan(tokens, labels), step.scan(tokens, labels), roundings=1 << 10, least=1.0
    )
    for p, q in zip(same.parameters(), net.parameters(), strict=True):
        assert_same(p.numpy(), q.numpy(), roundings=1 << 10, least=1.0)
    before = same.state_dict()
    labels[4, 3] = 4
    with pytest.raises(IndexError, match="class"):
        native(tokens[4], labels[4])
    with pytest.raises(IndexError, match="class"):
        native.scan(tokens[4:], labels[4:])
    for name, array in same.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def layers_to_train(name: str, rng: Any) -> tuple[list[Any], Any, Any]:
    """Layers, what they compute, and a batch."""
    nn, options = tg.nn, {"dtype": np.float32, "rng": 0}
    if name == "convolution":
        conv, flat = nn.Conv2d(2, 6, 3, padding=1, **options), nn.Linear(54, 3, **options)
        x = rng.normal(size=(5, 2, 6, 6)).astype(np.float32)
        return [conv, flat], lambda x: flat(nn.max_pool2d(conv(x), 2).reshape(len(x), -1)), x
    if name == "embedding":
        table, linear = nn.Embedding(9, 4, padding_idx=1, **options), nn.Linear(4, 3, **options)
        return [table, linear], lambda x: linear(table(x).mean(1)), rng.integers(0, 9, (5, 6))
    if name == "recurrent":
        lstm, linear = nn.LSTM(3, 4, **options), nn.Linear(4, 3, **options)
        x = rng.normal(size=(6, 5, 3)).astype(np.float32)
        return [lstm, linear], lambda x: linear(lstm(x)[0][-1]), x
    shape = {"nhead": 2, "dim_feedforward": 8, "batch_first": True}
    encoder, linear = nn.TransformerEncoderLayer(4, **shape, **options), nn.Linear(4, 3, **options)
    x = rng.normal(size=(5, 3, 4)).astype(np.float32)
    return [encoder, linear], lambda x: linear(encoder(x).mean(1)), x


@pytest.mark.parametrize("name", ["convolution", "embedding", "recurrent", "attention"])
def test_a_step_of_other_layers_is_one_native_function(name: str) -> None:
    found, rng = [], np.random.default_rng(0)
    labels = rng.integers(0, 3, (4, 5))
    for backend in ("numpy", "llvm"):
        layers, forward, x = layers_to_train(name, np.random.default_rng(1))
        parameters = [p for layer in layers for p in layer.parameters()]
        # No Adam: the key's bias has no gradient but roundings, which that would make as large.
        optimizer = tg.optim.SGD(parameters, lr=0.1, momentum=0.9)

        def step(x: Any, labels: Any) -> Any:
            loss = tg.nn.cross_entropy(forward(x), labels)  # noqa: B023
            optimizer.zero_grad()  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023
            return loss

        compiled = tg.compile(step, backend=backend)
        first = compiled(x, labels[0]).numpy()
        losses = compiled.scan(np.stack([x] * 3), labels[1:]).numpy()
        found.append([first, losses, *(p.numpy() for p in parameters)])
        if backend == "llvm":
            assert len(compiled.lower(x, labels[0]).steps) == 1
    assert_same(found[1], found[0], roundings=1 << 10, least=1.0)


def test_an_embedding_of_an_index_that_is_none_raises() -> None:
    f = tg.compile(lambda i, w: tg.nn.embedding(i, w) * 2, backend="llvm")
    w = np.arange(6.0).reshape(3, 2)
    assert_same(f(np.array([0, 2]), w), 2 * w[[0, 2]])
    for bad in (3, -1):
        with pytest.raises(IndexError, match="into 3 rows"):
            f(np.array([0, bad]), w)
    assert_same(f(np.array([1, 2]), w), 2 * w[[1, 2]])


def test_indices_out_of_bounds_raise() -> None:
    x = np.arange(6.0).reshape(3, 2)
    f = tg.compile(lambda x, i: (np.take(x, i, axis=0), x[i], np.take(x, i)), backend="llvm")
    i = np.array([0, 2, -1, -3])
    for _ in range(2):
        assert_same(f(x, i), (np.take(x, i, axis=0), x[i], np.take(x, i)))
    for bad in (3, -4):
        message = rf"take: index {bad} is out of bounds for axis 0 with size 3: .*test_llvm"
        with pytest.raises(IndexError, match=message):
            f(x, np.array([0, bad, 0, 0]))
    assert_same(f.scan(np.stack([x, x]), np.stack([i, i]))[1], np.stack([x[i]] * 2))
    with pytest.raises(IndexError, match="out of bounds"):
        f.scan(np.stack([x, x]), np.stack([i, i + 3]))


def test_integers_of_all_kinds() -> None:
    def f(x: Any, y: Any) -> Any:
        return x + y, x * y, np.maximum(x, y), x < y, np.max(x), np.sum(y), x.astype(float)

    compiled = tg.compile(f, backend="llvm")
    for dtype in "bBhHiIlL":
        x = np.array([1, 100, 3]).astype(dtype)
        y = np.array([-2, 7, 250]).astype(np.int64).astype(dtype)
        with np.errstate(over="ignore"):
            for _ in range(2):
                assert_same(compiled(x, y), f(x, y))


# -- safety


def test_the_verifier_knows_what_kernels_address() -> None:
    plan = tg.compile(lambda x: np.exp(x[1:]) + 1, backend="llvm").lower(np.ones(5))
    program = plan.stages[-1].program
    verify(program)
    (call,) = program.calls
    call.fun.shape = (5,)  # one more than there is
    with pytest.raises(AssertionError, match="leaves the storage"):
        verify(program)


@pytest.mark.parametrize("op", one_in(20, ROWS), ids=repr)
def test_nothing_around_the_buffers_is_written(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory before and after the program's own stays as it was; each stage is verified."""
    blocks = []

    def surrounded(size: int, dtype: Any) -> Any:
        block = aligned(size * np.dtype(dtype).itemsize + 512, np.uint8)
        block[...] = 0xA5
        blocks.append(block)
        return block[256:-256].view(dtype)

    monkeypatch.setattr("tensorgrad.compiler.buffers.aligned", surrounded)
    monkeypatch.setenv("TENSORGRAD_VERIFY", "1")
    args = drawn(op, op.shapes[-1], np.float32, 0)
    compiled = tg.compile(differentiated(op.fun), backend="llvm")
    compiled(*args), compiled(*args)
    for block in blocks:
        assert np.all(block[:256] == 0xA5) and np.all(block[-256:] == 0xA5)


def test_ctrl_c_ends_a_loop_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters, their gradients and the count are those of one and the same step."""
    sizes = (3, 4, 4, 1)
    x, y = batches(sizes, 200, 4, np.float64)
    native, same_step = training(sizes, "SGD", np.float64)
    count = tg.Tensor(0.0)

    def counted(x: Any, y: Any) -> Any:
        count.data += 1.0
        return same_step(x, y)

    compiled = tg.compile(counted, backend="llvm")
    compiled.scan(x[:2], y[:2])
    readings = iter([0.0, 0.1, 0.1, 0.2])  # of the clock, before and after each part

    def clock() -> float:
        for now in readings:
            return now
        raise KeyboardInterrupt

    monkeypatch.setattr("tensorgrad.compiler.backends.llvm.native.time.perf_counter", clock)
    with pytest.raises(KeyboardInterrupt):
        compiled.scan(x, y)
    monkeypatch.undo()
    done = int(count.numpy()) - 2
    assert 2 < done < 200
    eager, step = training(sizes, "SGD", np.float64)
    for pair in [*zip(x[:2], y[:2], strict=True), *zip(x[:done], y[:done], strict=True)]:
        step(*pair)
    for p, q in zip(native.parameters(), eager.parameters(), strict=True):
        assert_same(p.numpy(), q.numpy(), roundings=1 << 10, least=0.1)
        assert_same(p.grad, q.grad, roundings=1 << 10, least=0.1)


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_long_calls_let_other_threads_run(size: int) -> None:
    plan = tg.compile(lambda x: np.exp(x) + 1, backend="llvm").lower(np.ones(size))
    call = plan.source[plan.source.index('@"native_0"(') :]
    assert ("PyEval_SaveThread" in call[: call.index("}")]) == (size > 10)


# -- random numbers, joined arrays, sums of products


def test_dropout_in_a_native_loop_draws_as_numpy() -> None:
    """The same numbers, and the same state of the generator afterwards."""

    def run(backend: str) -> tuple[Any, Any, Any]:
        drop = tg.nn.Dropout(0.5, rng=np.random.default_rng(3))
        w = tg.Tensor(np.ones(6), requires_grad=True)
        optimizer = tg.optim.SGD([w], lr=0.1)

        def step(x: Any) -> Any:
            loss = np.sum(drop(x * w) ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        compiled = tg.compile(step, backend=backend)
        x = np.random.default_rng(0).normal(size=(20, 5, 6))
        first = compiled(x[0])
        plan = compiled.lower(x[0])
        plan.profile(2)
        assert (len(plan.steps) == 1) == (backend == "llvm")
        losses = compiled.scan(x)
        return (first, losses, w.numpy()), drop.rng.bit_generator.state, None

    (actual, state, _), (expected, same_state, _) = run("llvm"), run("numpy")
    assert_same(actual, expected, roundings=1 << 8)
    assert state == same_state


def test_arrays_side_by_side() -> None:
    def f(x: Any, y: Any) -> Any:
        return (
            np.concatenate([x * 2, y, x], axis=1),
            np.stack([x, x + 1], axis=-1),
            np.concatenate([x.T, np.exp(x).T]),
            (x.T).reshape(-1) + 1,
        )

    x, y = np.random.default_rng(0).normal(size=(2, 3, 4))
    compiled = tg.compile(f, backend="llvm")
    assert "not native" not in str(compiled.lower(x, y))
    for _ in range(2):
        assert_same(compiled(x, y), f(x, y), roundings=8)


@pytest.mark.parametrize("subscripts", ["ij,ij->j", "ij,j->i", "ij->ji", "ij->", "ij,ij->ij"])
def test_sums_of_products(subscripts: str) -> None:
    x = np.random.default_rng(0).normal(size=(5, 4))
    y = x[0] if subscripts.split("->")[0].endswith(",j") else x + 1
    args = (x, y) if "," in subscripts else (x,)
    compiled = tg.compile(lambda *args: np.einsum(subscripts, *args) * 1.0, backend="llvm")
    assert "not native" not in str(compiled.lower(*args))
    for _ in range(2):
        assert_same(compiled(*args), np.einsum(subscripts, *args), roundings=16, least=1.0)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3, 4), (2, 4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (5, 4, 1)),
        ((2, 7, 3, 8), (8, 2)),
    ],
)
def test_stacks_of_products(shapes: Any) -> None:
    """Also with a transposed operand, and after a maximum along rows, as in attention."""
    x, y = (np.random.default_rng(0).normal(size=shape) for shape in shapes)

    def f(x: Any, y: Any) -> Any:
        z = x @ y
        w = np.exp(z - np.max(z, axis=-1, keepdims=True, initial=-np.inf))
        return w, np.swapaxes(w, -1, -2) @ x

    compiled = tg.compile(f, backend="llvm")
    assert "not native" not in str(compiled.lower(x, y))
    for _ in range(2):
        assert_same(compiled(x, y), f(x, y), roundings=64, least=1.0)


def test_layers_are_native() -> None:
    """What normalizes, drops and attends leaves no call to NumPy in a training step."""
    f = tg.nn
    net = f.Sequential(
        f.Linear(6, 8, rng=0), f.LayerNorm(8), f.GELU(), f.BatchNorm1d(8), f.Dropout(0.1, rng=0)
    )
    optimizer = tg.optim.Adam(net.parameters(), lr=0.01)

    def step(x: Any, y: Any) -> Any:
        loss = f.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    x, y = np.random.default_rng(0).normal(size=(5, 6)), np.array([0, 1, 7, 3, 2])
    assert len(tg.compile(step, backend="llvm").lower(x, y).steps) == 1


def test_a_long_program_shares_the_code_of_its_kernels() -> None:
    """The gradient through steps of a method of Runge and Kutta: elements, slices, stacks."""

    def solved(steps: int) -> Callable[..., Any]:
        def f(y: Any, a: Any) -> Any:
            return np.stack([y[1], -a * np.sin(y[0])])

        def loss(y: Any, a: Any) -> Any:
            for _ in range(steps):
                k = f(y, a)
                y = y + 0.05 * f(y + 0.025 * k, a)
            return np.sum(y[:1] * y[-1:])

        return tg.grad(loss, (0, 1))

    args = np.array([1.0, 0.1]), np.array(2.0)
    lengths = []
    for steps in 4, 12:
        compiled = tg.compile(solved(steps), backend="llvm")
        plan = compiled.lower(*args)
        assert len(plan.steps) == 1
        lengths.append(plan.source.count("define"))
        for _ in range(2):
            assert_same(compiled(*args), solved(steps)(*args), roundings=64, least=1.0)
    assert lengths[0] == lengths[1]


def test_sums_of_many_numbers_are_as_exact_as_numpys() -> None:
    x = np.random.default_rng(0).random(3_000_001, np.float32)
    compiled = tg.compile(lambda x: np.sum(x * x), backend="llvm")
    compiled(x)
    exact = np.sum(x.astype(float) * x)
    assert abs(float(compiled(x)) - exact) < 4e-6 * exact


@pytest.mark.parametrize("is_long", [False, True])
def test_fit_makes_native_code_of_long_trainings(
    is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of steps decides, so that a training that is resumed decides alike."""
    monkeypatch.delenv("TENSORGRAD_BACKEND", raising=False)
    monkeypatch.setattr("tensorgrad.compiler.turns.SECONDS", 1e-5 if is_long else 1e-2)
    made: list[Any] = []
    add = Module.add
    monkeypatch.setattr(Module, "add", lambda *args: made.append(args) or add(*args))
    x, y = batches((3, 4, 4, 1), 4, 4, np.float64)
    data = [*zip(x, y, strict=True)]

    def trained(compiles: bool | None) -> Any:
        net, _ = training((3, 4, 4, 1), "SGD", np.float64)
        optimizer = tg.optim.Adam(net.parameters(), lr=0.01)
        tg.fit(
            net, tg.nn.mse_loss, data, optimizer=optimizer, epochs=4, compile=compiles,
            progress=False,
        )  # fmt: skip
        return [p.numpy() for p in net.parameters()]

    assert_same(trained(None), trained(False), roundings=1 << 10, least=1.0)
    assert bool(made) == is_long


def test_an_argument_repeats_elements_in_the_first_call_alone() -> None:
    f = tg.compile(lambda x: np.exp(x) + np.sum(x), backend="llvm")
    x = np.arange(6.0).reshape(2, 3)
    windows = np.lib.stride_tricks.sliding_window_view(np.arange(4.0), 3)
    for a in (
        np.broadcast_to(x[:1], x.shape),
        x,
        x[::-1],
        windows,
        np.broadcast_to(x[1:], x.shape),
    ):
        assert_same(f(a), np.exp(a) + np.sum(a), roundings=8)


def test_what_comes_before_an_index_out_of_bounds_is_done_once() -> None:
    """As without compilation: calls, loops, and arguments that are copied first."""

    def made(backend: str | None) -> tuple[Any, ...]:
        rng = np.random.default_rng(0)
        count, table, dropout = tg.zeros(3), tg.arange(5.0), tg.nn.Dropout(0.5, rng=rng)

        def f(i: Any, x: Any) -> Any:
            count.data[...] += 1
            return dropout(x).sum() + table[i].sum()

        return rng, count, f if backend is None else tg.compile(f, backend=backend)

    def after_errors(backend: str | None) -> Any:
        rng, count, f = made(backend)
        good, bad = np.array([0, 1]), np.array([0, 9])
        x = np.ones((3, 4))
        for _ in range(2):
            f(good, x)
        for argument in x, np.ones((4, 3)).T:
            with pytest.raises(IndexError, match="out of bounds"):
                f(bad, argument)
        indices = np.stack([good, good, bad])
        with pytest.raises(IndexError, match="out of bounds"):
            if backend is None:
                for i in indices:
                    f(i, x)
            else:
                f.scan(indices, np.ones((3, 3, 4)))
        return count.numpy(), rng.random()

    assert_same(after_errors("llvm"), after_errors(None))


@pytest.mark.parametrize("shift", [slice(None, None, -1), slice(2, 3), [0, 1, 1, 0]])
def test_writes_of_what_overlaps_read_everything_first(shift: Any) -> None:
    def f(x: Any) -> Any:
        y, z = x + 0, x + 1
        y[...] = y[shift]
        z[1:] += z[:-1]
        return y, z, y + z

    compiled = tg.compile(f, backend="llvm")
    for x in (np.arange(68.0).reshape(4, 17), np.arange(68.0).reshape(17, 4).T):
        for _ in range(2):
            assert_same(compiled(x), f(x))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("size", [1, 3, 37])
def test_floats_less_than_zero_as_unsigned_integers(dtype: Any, size: int) -> None:
    """They wrap around, as NumPy's do on the usual processors."""
    f = tg.compile(lambda x: (x + 0).astype(dtype), backend="llvm")
    for number in (-3.7, -129.0, 5.0, np.iinfo(dtype).max // 3 * 2):
        x = np.full(size, number)
        wrapped = np.trunc(x).astype(np.int64).astype(dtype) if number < 2**63 else x.astype(dtype)
        for _ in range(2):
            assert_same(f(x), wrapped)


def test_threads_that_draw_from_the_same_generators_in_another_order() -> None:
    """Each call holds the locks of both; neither thread waits for the other for ever."""
    a, b = (tg.nn.Dropout(0.5, rng=seed) for seed in (0, 1))
    x = np.ones((30, 30))
    calls = [
        tg.compile(lambda x, p=p, q=q: p(x) + q(x), backend="llvm") for p, q in ((a, b), (b, a))
    ]

    def repeat(f: Any) -> None:
        for _ in range(2000):
            f(x)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for f in calls:
            f(x)
        threads = [threading.Thread(target=repeat, args=(f,), daemon=True) for f in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    finally:
        sys.setswitchinterval(interval)
