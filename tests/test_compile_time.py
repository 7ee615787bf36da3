"""The work to compile grows with the number of calls: eight times the calls, eight times the work.

What is counted is the instructions of Python that the files of the compiler run: no clock is read.
"""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tensorgrad as tg
from tensorgrad import compiler
from tensorgrad.compiler import progress
from tensorgrad.compiler.buffers import (
    Span,
    lower_bound,
    packed,
    packed_by_size,
    packed_in_order,
    packed_in_reverse,
)
from tensorgrad.compiler.passes import loop_fusion

from .depth import one_in

FOLDER = str(Path(compiler.__file__).parent)
X = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
MOST = 10  # times the work, of eight times the calls


def work(function: Callable[[], Any]) -> int:
    """The number of instructions that the compiler's own code runs."""
    count = 0

    def enter(frame: FrameType, _event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    def step(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def unrolled(n: int) -> tuple[Any, Any]:
    """A loop over time steps, differentiated."""

    def loss(theta: Any) -> Any:
        x = np.array([1.0, 0.5])
        for _ in range(n):
            k = np.stack([theta[0] * x[0] - x[0] * x[1], x[0] * x[1] - theta[1] * x[1]])
            x = x + 0.01 * k
        return np.sum(x**2)

    return tg.grad(loss), np.array([0.5, 0.9])


def deep(n: int) -> tuple[Any, Any]:
    """A training step of many layers, whose biases are folded, and whose slopes are bundled."""
    widths = [3 + i % 2 for i in range(n)]
    layers = [tg.nn.Linear(a, b, rng=0) for a, b in zip([3, *widths], widths)]
    net = tg.nn.Sequential(*(m for layer in layers for m in (layer, tg.nn.Tanh())))
    optimizer = tg.optim.Adam(net.parameters())

    def step(x: Any) -> Any:
        loss = np.mean(net(x) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, X


def recurrent(n: int) -> tuple[Any, Any]:
    """A training step of a layer that is used again and again."""
    cell = tg.nn.RNNCell(3, 3, rng=0)
    optimizer = tg.optim.SGD(cell.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        h = tg.Tensor(np.zeros((2, 3)))
        for _ in range(n):
            h = cell(x, h)
        optimizer.zero_grad()
        np.sum(h).backward()
        optimizer.step()

    return step, X


def leaves(n: int) -> tuple[Any, Any]:
    """Many leaves, whose gradients add up, and whose data changes."""
    tensors = [tg.Tensor(np.full((2, 3), 0.1 * i), requires_grad=True) for i in range(n)]
    for t in tensors:
        t.grad = np.ones((2, 3))

    def step(x: Any) -> Any:
        loss = sum(np.sum(np.sin(t * x)) for t in tensors)
        loss.backward()
        for t in tensors:
            t.data = t.data - 0.1 * t.grad
        return loss.detach()

    return step, X


def wide(n: int) -> tuple[Any, Any]:
    """Many arguments, and as many results."""
    return lambda xs: [(x.T * 2).reshape(-1) for x in xs], [X + i for i in range(n)]


def fused(n: int) -> tuple[Any, Any]:
    """Many chains over arrays that count as large."""

    def f(x: Any) -> Any:
        for _ in range(n):
            x = np.sqrt(np.sin(x) ** 2 + 1) - np.max(x)
        return x

    return f, X


def decided(n: int) -> tuple[Any, Any]:
    """Many decisions by elements, which are made before the state changes."""
    w = tg.Tensor(np.ones((2, 3)), requires_grad=True)
    optimizer = tg.optim.SGD([w], lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        np.sum(w * x).backward()
        optimizer.step()
        return sum(x * 2 if 5.0 in tg.Tensor(x[0]) * i else x for i in range(n))

    return step, X


FAMILIES = [unrolled, deep, recurrent, leaves, wide, fused, decided]


@pytest.mark.parametrize("family", one_in(7, reversed(FAMILIES)))
def test_work_is_linear(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_fusion, "LARGE", 6 if family is fused else loop_fusion.LARGE)
    counts = []
    for n in 4, 32:
        fun, x = family(n)
        tg.compile(fun).lower(x)  # what is kept for later calls is there
        counts.append(work(lambda fun=fun, x=x: tg.compile(fun).lower(x)))
    few, many = counts
    assert many <= MOST * few


@pytest.mark.parametrize("family", one_in(2, [unrolled, recurrent]))
def test_work_for_native_code_is_linear(family: Any) -> None:
    pytest.importorskip("llvmlite")
    counts = []
    for n in 4, 32:
        fun, x = family(n)
        native = tg.compile(fun, backend="llvm")
        native.lower(x)  # what is kept for later calls is there
        counts.append(work(lambda native=native, x=x: native.lower(x)))
    few, many = counts
    assert many <= MOST * few


def test_the_count_sees_what_is_not_linear() -> None:
    spans = [Span(64, 0, 1)] * 40
    few, many = (work(lambda n=n: packed_by_size(spans * n)) for n in (1, 8))
    assert many > 2 * MOST * few


# -- packing

spans_of_any_kind = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 30), st.integers(0, 8)).map(
        lambda t: Span(64 * t[0], t[1], t[1] + t[2])
    ),
    max_size=40,
)


@pytest.mark.parametrize("way", [packed_by_size, packed_in_order, packed_in_reverse])
@given(spans=spans_of_any_kind)
def test_spans_of_one_time_do_not_overlap(way: Any, spans: list[Span]) -> None:
    offsets, total = way(spans)
    ends = [offset + span.size for offset, span in zip(offsets, spans, strict=True)]
    assert max(ends, default=0) <= total
    assert lower_bound(spans) <= total <= sum(span.size for span in spans)
    for (a, low, high), (b, start, end) in combinations(zip(spans, offsets, ends, strict=True), 2):
        if a.start <= b.stop and b.start <= a.stop and a.size and b.size:
            assert high <= start or end <= low


@given(spans=spans_of_any_kind)
def test_the_best_way_is_taken(spans: list[Span]) -> None:
    named = dict(enumerate(spans))
    ways = packed_by_size, packed_in_order, packed_in_reverse
    assert packed(named)[1] == min(way(spans)[1] for way in ways)


@given(spans=spans_of_any_kind)
def test_spans_of_one_size_waste_nothing(spans: list[Span]) -> None:
    same = [span._replace(size=128) for span in spans]
    assert packed_in_order(same)[1] == lower_bound(same)


# -- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_compilation_says_on_a_terminal_what_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fun, x = unrolled(40)
    for stream, patience, shows in (
        (Terminal(), 0.0, True),
        (Terminal(), 1e6, False),  # seconds: it was quick
        (io.StringIO(), 0.0, False),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(progress, "PATIENCE", patience)
        tg.compile(fun).lower(x)
        lines = stream.getvalue().split("\r\033[K")
        assert lines[-1] == ""
        if shows:
            assert lines[1] == "compiling loss: 1,024 calls traced"
            assert "lines of Python" in lines[-2]
        else:
            assert lines == [""]


def test_an_error_leaves_no_line_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(x: Any) -> Any:
        for _ in range(1100):
            x = x + 1
        raise KeyError

    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with pytest.raises(KeyError):
        tg.compile(fails)(X)
    assert stream.getvalue().endswith("calls traced\r\033[K")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        tg.compile(np.sin)(X)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
