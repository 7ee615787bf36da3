"""Ctrl-C may come at any time: what is traced is undone, and every later call works."""

from __future__ import annotations

import dis
import functools
import opcode
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.engine.modes import mode

from .depth import FULL, one_in
from .oracles import assert_same, leaf

# After these operations, Python looks whether a signal has come.
NAMES = ("CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "RESUME")
LOOKS = {opcode.opmap[name] for name in NAMES if name in opcode.opmap}


@functools.cache
def handlers(code: CodeType) -> Any:
    """Where errors in a code are handled, by ranges of its operations."""
    return dis._parse_exception_table(code)  # type: ignore[attr-defined]


def is_caught_alike(frame: FrameType, i: int) -> bool:
    """Whether an error at the next operation is handled as one at operation `i`."""
    ranges = [(entry.start, entry.end) for entry in handlers(frame.f_code)]
    return all((start <= i < end) == (start <= frame.f_lasti < end) for start, end in ranges)


def interrupted(call: Callable[..., Any], world: World, place: float) -> int | None:
    """Raise KeyboardInterrupt at the place of this number; return how many there are, or None."""
    count = 0

    def step(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        code, i = frame.f_code.co_code, frame.f_lasti - 2
        while i > 0 and code[i] == 0:  # an inline cache
            i -= 2
        if event == "opcode" and i >= 0 and code[i] in LOOKS and is_caught_alike(frame, i):
            count += 1
            if count == place:
                sys.settrace(None)
                raise KeyboardInterrupt
        return step

    outer = sys.gettrace()
    sys.settrace(step)
    try:
        call(world)
    except KeyboardInterrupt:
        return None
    finally:
        sys.settrace(outer)
    return count


class World:
    """A step of training, and all that it could leave behind."""

    def __init__(self) -> None:
        self.weight = leaf([1.0, 2.0, 3.0])
        self.weight.grad = np.ones(3)
        self.optimizer = tg.optim.SGD([self.weight], lr=0.1, momentum=0.9)
        self.schedule = tg.optim.StepLR(self.optimizer, 1)
        self.dropout = tg.nn.Dropout(0.5, rng=0)
        self.constant = np.array([1.0, 2.0, 3.0])
        self.part = self.constant[1:]
        self.state = tg.Tensor([1.0, 2.0, 3.0])
        self.x = np.array([3.0, 4.0, 5.0])
        self.compiled = tg.compile(self.step)

    def step(self, x: Any) -> Any:
        y = self.dropout(x * self.constant) * self.weight + self.state + np.sum(self.part)
        loss = np.sum(y**2)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.state.data = self.state.data * 0.5
        return loss.detach()

    def everything(self) -> Any:
        return (
            self.weight.data, self.weight.grad, self.state.data, self.schedule.last_epoch,
            self.optimizer.state_dict(), self.dropout.rng.bit_generator.state,
        )  # fmt: skip

    def arrays(self) -> list[Any]:
        (flat,) = self.optimizer._flats[0]
        own = [self.weight._array, self.state._array, self.constant, self.part, self.x]
        return [*own, flat.data, flat.grad, *flat.vectors.values()]


PHASES: dict[str, Callable[[World], Any]] = {
    "trace": lambda world: world.compiled(world.x),
    "lower": lambda world: world.compiled.lower(world.x),
    "replay": lambda world: world.compiled(world.x),
    "scan": lambda world: world.compiled.scan(np.stack([world.x] * 3)),
}
TRACES = 12 if FULL else 4
PLACES = {"trace": TRACES, "lower": TRACES, "replay": 1000, "scan": 50}  # at most, of the many


@pytest.mark.parametrize("phase", one_in(2, PHASES))
def test_ctrl_c_leaves_nothing_behind(phase: str) -> None:
    world = World()
    traces = phase in ("trace", "lower")
    before, now = World().everything(), mode.get()
    stepped = World()
    stepped.compiled(stepped.x)
    after = stepped.everything()
    for _ in range(3):  # the first calls fill caches, and trace
        count = interrupted(PHASES[phase], World() if traces else world, float("inf"))
    assert count is not None
    place, step = 1, max(count // PLACES[phase], 1)
    while interrupted(PHASES[phase], world, place) is None:
        place += step
        assert mode.get() is now and sys.getprofile() is None
        assert all(type(a) is np.ndarray and a.flags.writeable for a in world.arrays())
        if traces:  # all or nothing: the last interrupts come when the call is complete
            steps = world.optimizer.state_dict()["state"][0]["step"]
            assert_same(world.everything(), after if steps else before, roundings=0)
        assert world.compiled(world.x).shape == ()
        world = World() if traces else world
    assert place > 3 * step
