"""The figures in the README and in the documentation are those of the committed results."""

import json
import os
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import report, timing
from benchmarks.__main__ import BENCHMARKS

COMMITTED = sorted(report.RESULTS.glob("*.json"))
OUTPUTS = dict(report.outputs(report.Results()))
DESCRIBED = {
    "processor",
    "cores",
    "threads",
    "clock",
    "python",
    "blas",
    "versions",
    "date",
    "commit",
}


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: path.name)
def test_figures_are_those_of_the_results(path: Path) -> None:
    hint = f"run python -m benchmarks.report, which writes {path.name}"
    assert path.read_text(encoding="utf-8") == OUTPUTS[path], hint


def test_other_results_give_other_figures(tmp_path: Path) -> None:
    """Each file of results that the report reads counts."""
    names = "peers", "peers_operations", "derivatives", "optimizers", "scalar", "digits"
    for name in (*names, "convolution", "vmap", "layers", "solvers"):
        for path in COMMITTED:
            (tmp_path / path.name).write_bytes(path.read_bytes())
        content = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        content["rows"] = [[_tripled(value) for value in row] for row in content["rows"]]
        for row in content["rows"][::2]:  # ratios of two engines change, too
            row[:] = [_tripled(value) for value in row]
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        assert dict(report.outputs(report.Results(tmp_path))) != OUTPUTS, name


def _tripled(value: Any) -> Any:
    return 3 * value if isinstance(value, float) else value


def test_every_part_is_used_and_none_is_unknown() -> None:
    used = {
        name
        for path in OUTPUTS
        for name in re.findall(r"<!-- results: (\w+) -->", path.read_text(encoding="utf-8"))
    }
    assert used == {*report.PARTS}


@pytest.mark.parametrize("path", report.PAGES, ids=lambda path: path.name)
def test_no_other_speed_is_claimed(path: Path) -> None:
    """A figure that is in no file of results would not be renewed."""
    text = " ".join(report.PART.sub("", path.read_text(encoding="utf-8")).split())
    claim = r"\b(?:[\d.,]+|two|three|ten|a hundred|a thousand) times (?:as (?:fast|long)|faster)"
    assert re.findall(claim, text) == []


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_results_say_what_they_depend_on(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert {*content} >= DESCRIBED
    assert (content["threads"], content["clock"]) == (1, "CPU time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", content["date"])
    assert re.fullmatch(r"[0-9a-f]{12}", content["commit"]), "measure a commit, not changed sources"
    assert {len(row) for row in content["rows"]} == {len(content["fields"])}
    assert path.stem.partition("_")[0] in BENCHMARKS


def test_a_file_of_results_is_whole_after_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "OPENBLAS_NUM_THREADS", "1")
    path = tmp_path / "made_up.json"
    table = timing.Table({"work": 8, "seconds": 8}, path, ["work", "seconds"])
    table.line("tanh", "0.1")
    assert capsys.readouterr().out.splitlines()[-1] == "tanh           0.1"
    for expected in ([["tanh", 0.1235]], [["tanh", 0.1235], ["exp", 2]]):
        table.record([("tanh", 0.123456)] if len(expected) == 1 else [("exp", 2)])
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["rows"] == expected
    assert content["fields"] == ["work", "seconds"]
    assert content["versions"]["numpy"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.034, "0.03"),
        (0.996, "1.0"),
        (1.04, "1.0"),
        (9.94, "9.9"),
        (9.96, "10"),
        (1234.0, "1,200"),
    ],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert report.short(number) == text


@pytest.mark.parametrize(
    ("count", "share", "stops"), [("2", 0.6, True), ("2", 0.99, False), ("1", 0.1, False)]
)
def test_several_threads_are_measured_on_quiet_machines_alone(
    count: str, share: float, stops: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = []
    monkeypatch.setitem(os.environ, "OPENBLAS_NUM_THREADS", count)
    monkeypatch.setattr(timing, "share_of_cores", lambda _count: share)
    monkeypatch.setattr(
        timing.importlib,
        "import_module",
        lambda *_: SimpleNamespace(run=lambda *args: ran.append(args)),
    )
    with (
        pytest.raises(SystemExit, match=r"2 threads get only 0\.60 of a core each")
        if stops
        else nullcontext()
    ):
        timing.run("memory", True, tmp_path)
    assert len(ran) == (not stops)


def test_a_thread_gets_no_more_than_a_core() -> None:
    assert 0 < timing.share_of_cores(2, 0.02) < 1.1
