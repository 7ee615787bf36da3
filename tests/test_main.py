"""`python -m tensorgrad`, as a user runs it."""

import base64
import io
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tensorgrad
from tensorgrad.__main__ import main
from tensorgrad.tour import lessons
from tensorgrad.tour.report import Report

from .depth import full_run_only, one_in

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `main`, and returns its status and what it prints and reports."""

    def call(*args: str) -> tuple[int, str, str]:
        status: Any = 0
        try:
            main(args)
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return (1, out, f"{err}{status}\n") if isinstance(status, str) else (status, out, err)

    return call


@pytest.fixture(scope="module")
def output() -> str:
    command = [sys.executable, "-W", "error", "-m", "tensorgrad", "--no-plots"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def losses(section: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"^ +\d+ +(\d+\.\d{5})", section, re.MULTILINE)]


def test_the_four_samples_are_learned(output: str) -> None:
    section = output.partition("One neuron")[0]
    assert "MLP(3 -> 4 tanh -> 4 tanh -> 1 tanh)" in section
    falling = losses(section)
    assert len(falling) == 11
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 0.05
    table = re.findall(r"\[(.*)\] +(-?1\.0|unseen) +(-?\d\.\d{4})\n", section)
    assert [row[:2] for row in table] == [
        ("2.0, 8.0, -1.0", "1.0"),
        ("3.0, -1.0, 0.5", "-1.0"),
        ("0.5, 7.0, 8.0", "-1.0"),
        ("1.0, 1.0, -9.0", "1.0"),
        ("2.0, 3.0, -1.0", "unseen"),
    ]
    squares = [(float(y) - float(target)) ** 2 for _, target, y in table[:4]]
    assert_allclose(sum(squares), falling[-1], atol=1e-4)
    assert -1 < float(table[4][2]) < 1


def two_moons(output: str) -> str:
    return output.partition("Two moons")[2]


def accuracies(output: str) -> list[float]:
    return [float(a) for a in re.findall(r"(\d+\.\d)%$", two_moons(output), re.MULTILINE)]


def test_the_two_moons_are_told_apart(output: str) -> None:
    section = two_moons(output)
    assert "100 points" in section
    assert "MLP(2 -> 16 tanh -> 16 tanh -> 1 linear)" in section
    assert len(accuracies(output)) == len(losses(section)) == 11
    assert accuracies(output)[0] < 99 < accuracies(output)[-1]
    assert losses(section)[-1] < 0.1 < losses(section)[0]
    picture = [line for line in section.splitlines() if re.fullmatch("[ .ox]{66}", line)]
    assert len(picture) == 16
    assert set("".join(picture)) == set(" .ox")
    assert "  o  class 0\n  x  class 1\n  .  where the network predicts class 1\n" in section


def test_a_neuron_is_shown_number_by_number(output: str) -> None:
    tree = output.partition("One neuron")[2].partition("Two moons")[0]
    found = re.findall(r"([wxb]\d?|tanh), data (\S+), grad (\S+)", tree)
    data = {name: float(number) for name, number, _ in found}
    grad = {name: float(number) for name, _, number in found}
    total = data["b"] + sum(data[f"w{i}"] * data[f"x{i}"] for i in (1, 2, 3))
    assert_allclose(data["tanh"], np.tanh(total), rtol=2e-3)
    for i in (1, 2, 3):
        slope = 1 - np.tanh(total) ** 2
        assert_allclose(grad[f"w{i}"], slope * data[f"x{i}"], rtol=2e-3)
        assert_allclose(grad[f"x{i}"], slope * data[f"w{i}"], rtol=2e-3)


def test_the_ways_to_take_a_step_are_compared(output: str) -> None:
    rows = re.findall(r"^  (\w.*?) +([\d.]+) ms +([\d,]+)$", output, re.MULTILINE)
    assert [name for name, *_ in rows][:3] == ["scalar engine", "tensors", "compiled"]
    slow = float(rows[0][1])
    for _, time, ratio in rows:
        assert_allclose(float(ratio.replace(",", "")), slow / float(time), rtol=0.2)
    assert slow > float(rows[1][1])


def test_ways_with_different_losses_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "steps_of", lambda _moons: {"one": lambda: 1.0, "two": lambda: 2})
    moons: Any = None
    with pytest.raises(AssertionError, match=r"two: losses of \[2, 2\], not \[1.0, 1.0\]"):
        lessons.compare_engines(Report(80, None), moons, quick=True)


@full_run_only
def test_the_same_seed_prints_the_same(
    output: str, run: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the times; the picture is as wide as the terminal."""

    def learned(text: str) -> list[str]:
        return re.findall(r"^  .*\d", text.partition("The same step")[0], re.MULTILINE)

    monkeypatch.setenv("COLUMNS", "60")
    again, other = run("--no-plots")[1], run("--no-plots", "--seed", "1")[1]
    assert learned(again) == learned(output) != learned(other)
    assert {len(line) for line in re.findall("^[ .ox]{30,}$", again, re.MULTILINE)} == {60}


# -- pages


PICTURES = ["losses.svg", "moons.svg", "neuron.svg", "times.svg"]


def check_page(page: str) -> None:
    """It is one file that needs no other, and has all parts of the tour."""
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Four samples",
        "One neuron",
        "Two moons",
        "The same step, faster",
    ]
    assert all(link.startswith("data:") for link in re.findall('(?:src|href)="(.*?)"', page))
    assert "def descend(net: Any" in page


def test_without_libraries_a_page_has_the_text(
    run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is missing is named at the end."""
    for library in "matplotlib", "matplotlib.figure", "graphviz":
        monkeypatch.setitem(sys.modules, library, None)
    folder = tmp_path / "of" / "tour"
    status, out, _ = run("--quick", "--out", str(folder))
    page = (folder / "index.html").read_text("utf-8")
    assert status == 0
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    check_page(page)
    assert "└ +, data" in page and "where the network predicts class 1" in page
    assert out.endswith(
        f"The page with the pictures: {folder / 'index.html'}\n"
        "Not drawn: losses.svg, moons.svg, times.svg: the tour needs matplotlib: "
        "python -m pip install matplotlib\n"
        "Not drawn: neuron.svg: tensorgrad.viz.graph needs graphviz: "
        "python -m pip install graphviz\n"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning:matplotlib")
def test_a_page_gathers_the_pictures(run: Call, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("graphviz")
    if shutil.which("dot") is None:
        pytest.skip("the program dot is missing")
    status, out, _ = run("--quick", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text("utf-8")
    assert status == 0 and "Not drawn" not in out
    check_page(page)
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == PICTURES
    pictures = re.findall(r'<img alt="[A-Z].*?\." src="data:image/svg\+xml;base64,(.*?)"', page)
    drawn = [base64.b64decode(picture).decode() for picture in pictures]
    assert sorted(drawn) == sorted(path.read_text("utf-8") for path in tmp_path.glob("*.svg"))


def test_the_page_can_be_seen_and_read_out(browser: Any, run: Call, tmp_path: Path) -> None:
    for module in "matplotlib", "graphviz":
        pytest.importorskip(module)
    axe = pytest.importorskip("axe_selenium_python").Axe
    run("--quick", "--out", str(tmp_path))
    browser.get((tmp_path / "index.html").as_uri())
    sizes = "return [...document.images].map(image => [image.naturalWidth, image.clientWidth])"
    shown = browser.execute_script(sizes)
    assert len(shown) >= 3
    assert all(natural > 0 and width > 50 for natural, width in shown)
    checker = axe(browser)
    checker.inject()
    found = checker.run()["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_a_folder_that_cannot_be_written_is_known_before_the_work(
    run: Call, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    status, out, report = run("--out", str(file))
    assert (status, out) == (1, "")
    assert report == (
        f"error: the tour cannot make the folder {file}: File exists: pass --out with another one, "
        "or --no-plots\n"
    )


def test_ascii_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    Report(80, None).show("├ +\n│ └ a…  ██  \N{SNOWMAN}")
    stream.seek(0)
    assert stream.read().splitlines() == ["| +", "| ` a~  ##  \\u2603"]


def test_a_terminal_shows_steps_between_the_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a line that is printed takes the place of the last one."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    report = Report(24, None)
    report.live("step 1")
    report.live("step 2, which is too long")
    report.show("step 3")
    report.show("step 4")
    gone = f"\r{'':23}\r"
    assert capsys.readouterr().out == f"step 1{gone}step 2, which is too lo{gone}step 3\nstep 4\n"


@full_run_only
@pytest.mark.parametrize("seed", [2, 3])
def test_other_seeds_learn_too(seed: int, run: Call) -> None:
    output = run("--no-plots", "--seed", str(seed))[1]
    first, *_, last = losses(output.partition("One neuron")[0])
    assert last < first
    assert accuracies(output)[-1] > 99


@pytest.mark.parametrize("value", ["-1", "x", "1.5"])
def test_a_bad_seed_is_a_usage_error(value: str, run: Call) -> None:
    status, _, report = run(f"--seed={value}")
    assert status == 2
    assert "usage: python -m tensorgrad" in report and "--seed" in report


# -- what can end it, and where it runs


@pytest.mark.parametrize("args", one_in(3, [["support"], ["--no-plots"], ["doctor"]]))
def test_a_reader_may_leave(args: list[str]) -> None:
    """As `head` does."""
    command = [sys.executable, "-m", "tensorgrad", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("args", one_in(2, [["--no-plots"], ["doctor"]]))
def test_ctrl_c_ends_it_quietly(args: list[str]) -> None:
    command = [sys.executable, "-u", "-m", "tensorgrad", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
    assert process.returncode == 130


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full disk to offer")
def test_a_full_disk_is_an_error_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tensorgrad", "support"]
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert re.fullmatch("error: .*No space left.*\n", result.stderr)


@pytest.mark.parametrize(("columns", "width"), [("40", 40), ("1", 24), ("400", 96)])
def test_the_table_is_as_wide_as_the_terminal(
    columns: str, width: int, run: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = run("support")[1].splitlines()
    assert width - 20 < max(len(line) for line in lines if line.count(" ") > 6) <= width


# -- support for one function


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("tanh", "numpy.tanh: differentiable"),
        (
            "np.linalg.svd",
            "numpy.linalg.svd: differentiable\n  with hermitian=True, only one triangle ",
        ),
        ("numpy.fft.rfft", "numpy.fft.rfft: differentiable"),
        ("floor", "numpy.floor: piecewise constant: the result requires no grad"),
        ("shape", "numpy.shape: constant: the result does not depend on the values"),
        ("gcd", "numpy.gcd: not supported: an error on a tensor that requires grad; made for wh"),
        ("add.reduce", "numpy.add.reduce: differentiable"),
        ("diagonal", "numpy.diagonal: differentiable\nnumpy.linalg.diagonal: differentiable"),
        ("tg.nn.relu", "tensorgrad.nn.relu: differentiable"),
        ("scipy.special.logsumexp", "tensorgrad.special.logsumexp: differentiable\n"),
        ("tg.special.jv", "tensorgrad.special.jv: differentiable; it needs SciPy: python -m pip"),
    ],
)
def test_support_of_one_function(name: str, answer: str, run: Call) -> None:
    assert run("support", name)[1].startswith(answer)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("tanhh", "; similar names: numpy.tanh,"),
        ("np.linalg.svf", "numpy.linalg.svd"),
        ("?", "'?'"),
        ("torch.unsqueeze", "; here it is np.expand_dims(t, axis=0)\n"),
    ],
)
def test_support_of_what_is_no_function(name: str, close: str, run: Call) -> None:
    status, out, report = run("support", name)
    assert (status, out) == (1, "")
    assert report.startswith("error: no function") and close in report


@pytest.mark.parametrize(
    "args",
    [["suport"], ["doctor", "x"], ["support", "--all"], ["--seed"], ["--out=x", "--no-plots"]],
)
def test_a_wrong_argument_is_a_usage_error(args: list[str], run: Call) -> None:
    status, _, report = run(*args)
    assert status == 2 and "usage: python -m tensorgrad" in report


def test_the_version(run: Call) -> None:
    assert run("--version") == (0, f"tensorgrad {tensorgrad.__version__}\n", "")
