"""`python -m tensorgrad`, as a user runs it."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose

import tensorgrad
from tensorgrad.__main__ import main

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
    command = [sys.executable, "-W", "error", "-m", "tensorgrad"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def losses(section: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"^ +\d+ +(\d+\.\d{5})", section, re.MULTILINE)]


def test_the_four_samples_are_learned(output: str) -> None:
    section = output.partition("Two moons")[0]
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
    assert section.startswith(", 100 points")
    assert "MLP(2 -> 16 tanh -> 16 tanh -> 1 linear)" in section
    assert len(accuracies(output)) == len(losses(section)) == 11
    assert accuracies(output)[0] < 99 < accuracies(output)[-1]
    assert losses(section)[-1] < 0.1 < losses(section)[0]
    picture = [line for line in section.splitlines() if re.fullmatch("[ .ox]{66}", line)]
    assert len(picture) == 16
    assert set("".join(picture)) == set(" .ox")


def test_the_engines_are_compared(output: str) -> None:
    pattern = r"scalar engine (\d+) ms, tensor engine (\d+\.\d{3}) ms: ([\d,]+) times faster"
    slow, fast, ratio = re.search(pattern, output).groups()  # type: ignore[union-attr]
    assert_allclose(float(ratio.replace(",", "")), float(slow) / float(fast), rtol=0.05)
    assert float(slow) > float(fast)


def test_the_same_seed_prints_the_same(
    output: str, run: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the picture is as wide as the terminal."""
    widths = []

    def only_the_width(_rng: Any, width: int) -> None:
        widths.append(width)

    monkeypatch.setattr("tensorgrad.__main__.learn_two_moons", only_the_width)
    monkeypatch.setenv("COLUMNS", "40")
    assert output.startswith(run("--seed", "0")[1])
    assert not output.startswith(run("--seed", "1")[1])
    assert widths == [38, 38]


@full_run_only
def test_the_same_seed_prints_the_same_twice(
    output: str, run: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the times; the picture is as wide as the terminal."""

    def numbers(text: str) -> list[str]:
        return [x for x in text.splitlines() if "times faster" not in x and not picture(x)]

    monkeypatch.setenv("COLUMNS", "40")
    again = run("--seed", "0")[1]
    assert numbers(again) == numbers(output)
    assert {len(line) for line in picture(two_moons(again))} == {40}


def picture(text: str) -> list[str]:
    return re.findall("^[ .ox]{30,}$", text, re.MULTILINE)


@full_run_only
@pytest.mark.parametrize("seed", [2, 3])
def test_other_seeds_learn_too(seed: int, run: Call) -> None:
    output = run("--seed", str(seed))[1]
    first, *_, last = losses(output.partition("Two moons")[0])
    assert last < first
    assert accuracies(output)[-1] > 99


@pytest.mark.parametrize("value", ["-1", "x", "1.5"])
def test_a_bad_seed_is_a_usage_error(value: str, run: Call) -> None:
    status, _, report = run(f"--seed={value}")
    assert status == 2
    assert "usage: python -m tensorgrad" in report and "--seed" in report


# -- what can end it, and where it runs


@pytest.mark.parametrize("args", one_in(3, [["support"], [], ["doctor"]]))
def test_a_reader_may_leave(args: list[str]) -> None:
    """As `head` does."""
    command = [sys.executable, "-m", "tensorgrad", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("args", one_in(2, [[], ["doctor"]]))
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


@pytest.mark.parametrize("args", [["suport"], ["doctor", "x"], ["support", "--all"], ["--seed"]])
def test_a_wrong_argument_is_a_usage_error(args: list[str], run: Call) -> None:
    status, _, report = run(*args)
    assert status == 2 and "usage: python -m tensorgrad" in report


def test_the_version(run: Call) -> None:
    assert run("--version") == (0, f"tensorgrad {tensorgrad.__version__}\n", "")
