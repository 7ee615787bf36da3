"""Back ends: a program has the same results by each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.compiler.backends import Backend, Loop, Segment
from tensorgrad.compiler.buffers import Buffers
from tensorgrad.compiler.code import Code
from tensorgrad.compiler.ir import Call, Value, arrays_in, mapped
from tensorgrad.compiler.wrapper import Diverged

from .depth import one_in
from .oracles import assert_same
from .test_compile_training import NETS, twins


class Body:
    """All calls of a program as one function."""

    def __init__(self, code: Code, calls: Sequence[Call]) -> None:
        self.calls = calls
        reads = dict.fromkeys(v for call in calls for v in call.reads)
        self.given = [v for v in reads if code.knows(v)]
        self.made = [r for call in calls for r in call.results]

    def __call__(self, *arrays: Any) -> list[Any]:
        known = dict(zip(self.given, arrays, strict=True))
        for call in self.calls:
            args, kwargs = mapped((call.args, call.kwargs), Value, known.__getitem__)
            if call.kind == "guard":
                if bool(args[0]) is not args[1]:
                    raise Diverged
                continue
            result = call.fun(*args, **kwargs)
            known |= zip(call.returned, arrays_in(result)) if call.results else {}
        return [known[v] for v in self.made]


class Whole(Backend):
    """One function for all calls of a program, and for whole loops, as native code has it."""

    name = "whole"
    passes = ()

    def __init__(self) -> None:
        self.steps = 0  # of loops, made here
        self.bodies: dict[Code, Body] = {}

    def takes_out(self, _call: Call) -> bool:
        return False

    def segments(self, code: Code, buffers: Buffers) -> list[Segment]:
        body = self.bodies[code] = Body(code, buffers.calls)
        line = f"{code.name(body, 'whole')}({', '.join(map(code.text, body.given))})"
        names = "".join(f"{code.local(r)}, " for r in body.made)
        return [Segment(buffers.calls, [f"{names}= {line}" if names else line], {})]

    def loop(self, code: Code, segments: Sequence[Segment], loop: Loop) -> list[str]:
        if loop.begin or loop.end:
            return super().loop(code, segments, loop)
        body = self.bodies[code]
        names = [code.text(v) for v in body.given]

        def steps(arrays: Sequence[Any], results: Sequence[Any], start: int) -> int:
            for i in range(start, len(arrays[0])):
                items = {name: a[i, ...] for name, a in zip(loop.inputs, arrays, strict=True)}
                given = [items[name] if name in items else code.names[name] for name in names]
                try:
                    known = dict(zip([*body.given, *body.made], [*given, *body(*given)]))
                except Diverged:
                    return i
                for output, result in zip(loop.outputs, results, strict=True):
                    if output is not None:
                        result[i] = known[output]
                self.steps += 1
            return len(arrays[0])

        return [f"i = {code.name(steps)}(arrays, results, start)"]


@pytest.mark.parametrize(("net", "optimizer"), one_in(2, [("MLP", "Adam"), ("LSTM", "SGD")]))
def test_a_training_step_by_another_back_end(net: str, optimizer: str) -> None:
    eager, other = twins(NETS[net], "mse", optimizer)
    step = tg.compile(other.step, backend=Whole())
    for i in range(3):
        assert_same(step(*other.batch(i)), eager.step(*eager.batch(i)))
    assert_same(other.everything(), eager.everything())
    plan = step.lower(*other.batch(0))
    assert len(plan.steps) == 1
    assert "1 calls by whole, " in str(plan)


def test_a_loop_by_another_back_end() -> None:
    backend, total = Whole(), tg.Tensor(np.zeros(3))

    @tg.compile(backend=backend)
    def add(x: Any) -> Any:
        y = np.tanh(x)
        total.data += y
        return np.sum(y), total.data

    x = np.linspace(-1.0, 1.0, 12).reshape(4, 3)
    sums, totals = add.scan(x)
    assert_same(sums, np.sum(np.tanh(x), axis=1))
    assert_same(totals, np.cumsum(np.tanh(x), axis=0))
    assert backend.steps == 3  # the first one is traced


def test_loops_of_a_program_have_its_back_end() -> None:
    backend = Whole()
    f = tg.compile(lambda x: tg.scan(lambda c, a: (c * a, c), 1.0, x)[0], backend=backend)
    assert_same(f(np.arange(1.0, 5.0)), 24.0)
    f(np.arange(2.0, 6.0))
    assert backend.steps > 0


def test_an_unknown_back_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="no back end 'fast': choose from numpy"):
        tg.compile(np.sin, backend="fast")
