"""Laws that each row of the table of operations must keep; one test for each row checks them all.

A law is a function of a row and of a case, which is most often the shapes of the arguments. It
fails as a subtest, with its name and the case.

    python -m pytest tests/test_operations.py -k tanh                 # one row, in all cases
    python -m pytest tests/test_operations.py -k tanh --law gradient  # one law of it

Runs with `CI=1`, of few tests, or of one law, check every case. Others check one case of each law:
the rows take turns, so that each case is checked of some.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest

from .depth import FULL
from .operations import Op

FEW = 100  # tests
Case: TypeAlias = dict[str, Any]  # arguments of a law
Cases: TypeAlias = Callable[[Op], Sequence[Case]]


class Laws:
    """The laws in one file of tests."""

    def __init__(self) -> None:
        self.laws: dict[str, tuple[Callable[..., None], Cases, int]] = {}

    def __call__(self, cases: Cases, one_row_in: int = 1) -> Callable[..., Any]:
        """Let the decorated function be a law of the rows that have such cases.

        With `one_row_in`, a run that does not check every case leaves out the other rows.
        """

        def register(law: Callable[..., None]) -> Callable[..., None]:
            self.laws[law.__name__] = law, cases, one_row_in
            return law

        return register

    def check(self, op: Op, request: pytest.FixtureRequest, subtests: pytest.Subtests) -> None:
        """Put a row to all laws, or to the one that `--law` names."""
        wanted = request.config.getoption("law")
        full = FULL or wanted or len(request.session.items) <= FEW
        if wanted and wanted not in self.laws:
            pytest.skip(f"--law: there is no {wanted!r} here, but {', '.join(self.laws)}")
        for name in [wanted] if wanted else self.laws:
            law, cases, one_row_in = self.laws[name]
            turn, chosen = zlib.crc32(f"{op} {name}".encode()), cases(op)
            if not full:
                chosen = [] if turn % one_row_in else one_of(chosen, turn // one_row_in)
            for case in chosen:
                try:
                    law(op, **case)
                except Exception:  # to open a subtest for each law takes longer than most laws
                    with subtests.test(name, **case):
                        raise


def once(_op: Op) -> list[Case]:
    """The case of a law that itself chooses what to check."""
    return [{}]


def at_each_shape(op: Op) -> list[Case]:
    return [{"shapes": shapes} for shapes in op.shapes]


def at_a_small_shape(op: Op) -> list[Case]:
    """At the shapes with nearest to four elements."""
    return [min(at_each_shape(op), key=lambda case: abs(size(case) - 4))]


def one_of(cases: Sequence[Case], turn: int) -> Sequence[Case]:
    """One of the cases: in two of three turns, one that is large enough to tell axes apart."""
    if len(cases) > 1 and turn % 3:
        cases = [case for case in cases if size(case) > 3] or cases
    return cases and [cases[turn // 3 % len(cases)]]


def size(case: Case) -> int:
    """How many elements the arguments have together."""
    return sum(int(np.prod(shape)) for shape in case["shapes"])
