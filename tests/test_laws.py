"""The laws of a row: each failure counts, and rows take turns in a run that is not full."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from . import laws
from .laws import FEW, Laws, at_each_shape
from .operations import Op
from .operations.row import reals

ROWS = [Op(f"row {i}", np.tanh, reals) for i in range(60)]


class Checked:
    """What the laws `first`, `second` and `rare` were asked, and which subtests failed."""

    def __init__(self, count: int, wanted: str | None = None) -> None:
        self.calls: list[Any] = []
        self.failed: list[Any] = []
        self.request: Any = SimpleNamespace(
            session=SimpleNamespace(items=[None] * count),
            config=SimpleNamespace(getoption={"law": wanted}.get),
        )

    @contextlib.contextmanager
    def test(self, name: str, **case: Any) -> Iterator[None]:
        with contextlib.suppress(ZeroDivisionError):
            yield
            pytest.fail("a subtest for what did not fail")
        self.failed.append((name, case["shapes"]))

    def of(self, rows: list[Op]) -> "Checked":
        law = Laws()

        @law(at_each_shape)
        def first(op: Op, shapes: Any) -> None:
            self.calls.append(("first", op.name, shapes))
            raise ZeroDivisionError

        @law(at_each_shape)
        def second(op: Op, shapes: Any) -> None:
            self.calls.append(("second", op.name, shapes))

        @law(at_each_shape, one_row_in=4)
        def rare(op: Op, shapes: Any) -> None:
            self.calls.append(("rare", op.name, shapes))

        for op in rows:
            law.check(op, self.request, self)  # type: ignore[arg-type]
        return self


def test_a_run_of_few_tests_checks_every_case_and_notes_every_failure() -> None:
    checked = Checked(FEW).of(ROWS[:1])
    assert checked.calls == [
        (name, "row 0", shapes) for name in ("first", "second", "rare") for shapes in ROWS[0].shapes
    ]
    assert checked.failed == [("first", shapes) for shapes in ROWS[0].shapes]


def test_one_law_alone() -> None:
    assert {name for name, *_ in Checked(FEW + 1, "rare").of(ROWS).calls} == {"rare"}
    with pytest.raises(pytest.skip.Exception, match="no 'third' here, but first, second, rare"):
        Checked(1, "third").of(ROWS)


def test_rows_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "FULL", False)
    checked = Checked(FEW + 1).of(ROWS)
    assert len(checked.failed) == len(ROWS)
    by_law = {name: [c[1:] for c in checked.calls if c[0] == name] for name in ("first", "rare")}
    assert [row for row, _ in by_law["first"]] == [op.name for op in ROWS]
    assert {shapes for _, shapes in by_law["first"]} == {*ROWS[0].shapes}
    assert 0 < len(by_law["rare"]) < len(ROWS) / 2
    monkeypatch.setattr(laws, "FULL", True)
    assert len(Checked(FEW + 1).of(ROWS).calls) == 3 * 5 * len(ROWS)
