"""Laws that each row of the table of operations must keep; one test for each row checks them all.

A law is a function of a row and a case, which is usually the shapes of the arguments. Each failure
is a failed subtest with the name of the law and the case.

    python -m pytest tests/test_operations.py -k tanh                 # one row, in all cases
    python -m pytest tests/test_operations.py -k tanh --law gradient  # one law of it

Runs with `CI=1`, of few tests, or of one law check every case. Other runs check one case of each
law: the rows take turns, so that each case is checked for some of them.
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
        """Make the decorated function a law; `cases` returns the cases of a row.

        A run that does not check every case checks the law for one row in `one_row_in`.
        """

        def register(law: Callable[..., None]) -> Callable[..., None]:
            self.laws[law.__name__] = law, cases, one_row_in
            return law

        return register

    def check(self, op: Op, request: pytest.FixtureRequest, subtests: pytest.Subtests) -> None:
        """Check all laws for a row, or the one that `--law` names."""
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
