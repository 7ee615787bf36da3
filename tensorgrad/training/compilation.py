"""Whether `fit` compiles a training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..compiler import MANY, Compiled, Plan, Stacked, Supervisor, Turns
from ..compiler.passes import Pass, repeatable
from ..engine.graph import now
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..errors import TraceError
from .history import History
from .interrupts import Interrupts
from .progress import Progress

# Planning takes 120 us for each NumPy call, which does not matter for few calls. In each step, a
# plan saves 3 us for each operation, and 0.25 us for each call. So most networks need 100 to 150
# steps to gain from it.
FEW_CALLS = 1000


def steps_that_pay(calls: int, operations: int) -> int:
    """The number of steps that saves as much time as planning one takes."""
    return 0 if calls <= FEW_CALLS else round(120 * calls / (3 * operations + 0.25 * calls))


class CompiledStep(Supervisor):
    """A training step that is compiled if that saves time; always, if `insists` is true.

    It decides by numbers of calls and steps, not by measured times, so that each run of a training
    decides alike. A step of several ranks is not repeatable: who took it again, to make a plan,
    would exchange gradients with the next step of the others.
    """

    def __init__(
        self,
        take: Callable[[Any], tuple[Any, Any]],
        history: History,
        progress: Progress,
        interrupts: Interrupts,
        insists: bool,
        is_repeatable: bool,
        all_steps: int | None,
    ) -> None:
        self.step = 0  # the number of the current step
        self.steps: int | None = None  # in all epochs, as far as known
        self._take, self._insists, self._is_repeatable = take, insists, is_repeatable
        self._all_steps = all_steps  # in all epochs, if the data has a length
        self._history, self._progress, self._interrupts = history, progress, interrupts
        self._compiled = Compiled(take, supervisor=self)
        self._plan: Plan | None = None  # that fits the last batch
        # By signature, as text:
        self._needed: dict[str, int] = {}  # how many steps pay
        self._missed: Counter[str] = Counter()  # steps without a plan
        self._expected: dict[str, float] = {}  # how many steps follow, when it was last traced
        self._plans: Counter[str] = Counter()
        self._earlier: Counter[str] = Counter()  # plans of an earlier process, not yet made here
        self._gave_up = False
        self._key = ""  # the signature of the step that is traced
        self._start = 0  # the number of operations before the step

    def state_dict(self) -> dict[str, Any]:
        """Return what the decisions depend on, so that a resumed training decides alike."""
        numbers: dict[str, Mapping[str, float]] = {
            "needed": self._needed,
            "missed": self._missed,
            "expected": self._expected,
            "plans": self._plans,
        }
        return {name: {**counts} for name, counts in numbers.items()} | {"gave_up": self._gave_up}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self._needed, self._missed = {**state["needed"]}, Counter(state["missed"])
        self._expected = {**state.get("expected", {})}  # checkpoints of earlier versions lack it
        self._plans, self._earlier = Counter(state["plans"]), Counter(state["plans"])
        self._gave_up = state["gave_up"]

    def __call__(self, batch: Any) -> tuple[Any, Any]:
        """Take a step for a batch; return the loss and the output, as `take` does."""
        self._plan = None
        if self._gave_up:
            return self._take(batch)
        if not (self._insists or _holds_arrays(batch)):
            self._note("a batch holds something other than arrays and tensors")
            return self._take(batch)
        try:
            self._plan, result = self._compiled.by_plan((batch,))
            return result  # type: ignore[no-any-return]
        except TraceError as error:
            if self._insists:
                raise
            self._note(str(error))
            self._gave_up = True
            return self._take(batch)

    def go_on(self, stack: Sequence[Array], last: Any, results: Stacked, done: list[int]) -> None:
        """Take steps for the batches of a stack from `done[0]` on, as far as the last plan fits.

        `last` is the result of the last step. `done[0]` counts, also where a step fails.
        """
        if self._plan is not None:
            results.put(done[0] - 1, last)
            self._compiled.go_on(self._plan, stack, results, done)

    def passes(self, passes: Sequence[Pass]) -> Sequence[Pass]:
        """Return the passes of a program, none of which measures times."""
        return repeatable(passes)

    def turns(self) -> Turns:
        """Return what decides about native code: how many steps of this shape are to come."""
        if not self._is_repeatable:
            return Turns()
        return Turns(self._expected.get(self._key, 0) if self._all_steps is not None else 0)

    def may_trace(self, key: Any) -> bool:
        """Return whether the step may be traced for batches of this signature."""
        self._key = key = repr(key)
        if self._earlier[key]:
            return True
        self._missed[key] += 1
        self._expected[key] = self._to_come(key)
        if self._insists or (self._plans.total() < MANY and self._pays(key)):
            return True
        if self._plans.total() == MANY:
            self._note(f"there are batches of more than {MANY} shapes")
        return False

    def may_plan(self, key: Any, calls: int) -> bool:
        """Return whether a plan may be made of the step, which makes so many NumPy calls."""
        self._interrupts.check()
        key = repr(key)
        self._needed[key] = steps_that_pay(calls, now() - self._start)
        if self._insists or self._pays(key):
            self._plans[key] += 1
            return True
        self._note(
            f"a step makes {calls:,} NumPy calls, so compiling it pays only if at least "
            f"{self._needed[key]} more steps of its shape follow"
        )
        return False

    def has_run(self, key: Any) -> bool:
        """Return whether an earlier process had a plan that is not yet made here."""
        key = repr(key)
        found = self._is_repeatable and self._earlier[key] > 0
        self._earlier[key] -= found
        return found

    def _pays(self, key: str) -> bool:
        """Whether enough steps of its signature follow to save time.

        If the data has no length, as many are expected to follow as there have been.
        """
        return self._to_come(key) >= self._needed.get(key, 0)

    def _to_come(self, key: str) -> float:
        """How many steps of this signature are expected to follow."""
        to_come = self.step if self.steps is None else self.steps - self.step
        return to_come * self._missed[key] / self.step

    def __enter__(self) -> None:
        self._progress.compiling()
        self._start = now()
        self._interrupts.at_once = True
        self._interrupts.check()

    def __exit__(self, *_error: object) -> None:
        self._interrupts.at_once = False

    def _note(self, reason: str) -> None:
        """Note why steps are not compiled; the first reason is kept."""
        if self._history.not_compiled is None:
            self._history.not_compiled = reason
            self._progress.note(f"fit: steps are not compiled: {reason}")


def _holds_arrays(batch: Any) -> bool:
    leaves = tree.leaves(batch)
    return tree.is_container(batch) and all(isinstance(a, (np.ndarray, Tensor)) for a in leaves)
