"""The files of results that the benchmarks write."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import timing


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
