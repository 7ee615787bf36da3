"""The report on NumPy's BLAS: real kernels in child processes, and ones that are made to fail."""

import ctypes
import functools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tensorgrad import doctor
from tensorgrad.__main__ import main
from tensorgrad.doctor import Blas, Kernel, Product, advice, best_kernel, blas, kernels

from .depth import full_run_only

BLAS = blas()
# A kernel that any processor of the family runs, and which none of today prefers.
OTHER = {"x86_64": "Nehalem", "amd64": "Nehalem"}.get(platform.machine().lower(), "ARMV8")

openblas = pytest.mark.skipif(
    BLAS.kernel in (None, OTHER, OTHER.lower())
    or "DYNAMIC_ARCH" not in str(np.show_config(mode="dicts")),
    reason="NumPy's BLAS has no kernels to choose from",
)


@pytest.fixture
def in_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has child processes run some code as they start."""

    def run(code: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(
            f"import os\nsetting = os.environ.get({doctor.VARIABLE!r})\n{code}"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return run


@openblas
@pytest.mark.parametrize("setting", [None, OTHER])
def test_the_kernel_is_the_one_that_openblas_says_it_took(setting: str | None) -> None:
    environment = os.environ | {"OPENBLAS_VERBOSE": "2", "OPENBLAS_NUM_THREADS": "1"}
    if setting:
        environment[doctor.VARIABLE] = setting
    script = "from tensorgrad.doctor import blas; print(*blas()[2:])"
    out = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    told = re.findall(r"^Core: (\S+)", out.stdout + out.stderr, re.MULTILINE)
    assert [*told[-1:], "1"] == out.stdout.split()[-2:]


@full_run_only
@openblas
def test_each_kernel_is_measured_in_both_dtypes_on_one_and_on_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    threads = min(2, os.cpu_count() or 1)
    measured, skipped = kernels(256, 0.03, [OTHER])
    assert [(k.setting, (k.name or "").lower()) for k in measured] == [
        (None, (BLAS.kernel or "").lower()),
        (OTHER, OTHER.lower()),
    ]
    assert skipped == {}
    expected = {(dtype, n) for dtype in ("float32", "float64") for n in (1, threads)}
    for kernel in measured:
        assert set(kernel.seconds) == expected
        assert all(1e-5 < s < 1 for s in kernel.seconds.values())  # 34 million operations
    present, other = (kernel.seconds[Product("float64", 1)] for kernel in measured)
    assert other > present  # of Nehalem: it has half, or a quarter, of the width


@openblas
def test_kernels_that_cannot_be_measured_are_skipped(
    in_children: Callable[[str], None],
) -> None:
    in_children(f"""
import signal, sys
if setting == "Illegal":
    os.kill(os.getpid(), signal.SIGILL) if os.name == "posix" else os._exit(0xC000001D)
if setting == "Silent":
    os._exit(3)
if setting == "Failing":
    sys.exit("no such thing")
if setting == "Chatty":
    print("hello", flush=True)
if setting == {OTHER!r}:
    import numpy as np
    matmul = np.matmul
    def wrong(x, y, out):
        matmul(x, y, out=out)
        out[0, 0] += 1
    np.matmul = wrong
""")
    names = ["Illegal", "Silent", "Failing", "Chatty", "Imaginary", OTHER]
    measured, skipped = kernels(16, 0.01, names)
    assert [kernel.setting for kernel in measured] == [None]
    assert skipped == {
        "Illegal": "the processor lacks its instructions",
        "Silent": "it ended with status 3",
        "Failing": "SystemExit: no such thing",
        "Chatty": "it printed 'hello'",
        "Imaginary": skipped["Imaginary"],
        OTHER: "its float32 products are wrong",
    }
    assert re.fullmatch(r"OpenBLAS uses \w+ instead", skipped["Imaginary"])


def test_a_child_that_ends_between_two_turns_is_skipped() -> None:
    with doctor._Child(None, 16) as child:
        child.answer()
        child.kill()
        child.wait()
        child.request(0.01)
        with pytest.raises(doctor.SkippedError, match="it ended with status"):
            child.answer()


def test_the_present_setting_has_to_work(
    in_children: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    in_children("raise SystemExit('numpy is broken')")
    with pytest.raises(SystemExit, match=r"^error: NumPy cannot be measured .*: numpy is broken$"):
        main(["doctor"])
    assert f"NumPy      {np.__version__}\n" in capsys.readouterr().out


def test_one_thread_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    if BLAS.threads is None:
        pytest.skip("NumPy's BLAS does not tell its threads")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    measured, _ = kernels(16, 0.01, [])
    assert list(measured[0].seconds) == [("float32", 1), ("float64", 1)]


def made_up(setting: str | None, *seconds: float) -> Kernel:
    products = [Product("float32", 1), Product("float64", 1), Product("float32", 8)]
    return Kernel(setting, setting or "Haswell", dict(zip(products, seconds)))


PRESENT = made_up(None, 1e-3, 2e-3, 5e-4)


@pytest.mark.parametrize(
    ("others", "setting", "says"),
    [
        ([], None, "no other kernel was found"),
        ([made_up("Slow", 2e-3, 4e-3, 1e-3)], None, "the present setting is the best"),
        ([made_up("Same", 0.97e-3, 1.94e-3, 0.48e-3)], None, "the present setting is the best"),
        ([made_up("Uneven", 5e-4, 2e-3, 11e-4)], None, "the present setting is the best"),
        (
            [made_up("Fast", 5e-4, 1e-3, 25e-5)],
            "Fast",
            "Set OPENBLAS_CORETYPE=Fast before Python starts",
        ),
        ([made_up("Fast", 5e-4, 1e-3, 25e-5)], "Fast", "products take 0.50 of the time"),
        (
            [made_up("Fast", 4e-4, 1e-3, 25e-5), made_up("Best", 5e-4, 5e-4, 25e-5)],
            "Best",
            "take 0.40 of",
        ),
    ],
)
def test_advice(others: list[Kernel], setting: str | None, says: str) -> None:
    measured = [PRESENT, *others]
    assert best_kernel(measured).setting == setting
    assert says in advice(measured)


@pytest.mark.parametrize(
    ("one", "two", "lines"),
    [
        (7.1e-3, 31e-3, ["float64: 2 threads take 31.0 ms, 1 thread takes 7.1 ms."]),
        (1e-3, 1.04e-3, []),  # repeated measurements differ by as much
        (2e-3, 1e-3, []),
    ],
)
def test_threads_that_slow_products_down(
    one: float, two: float, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {
        Product("float32", 1): 2.0,
        Product("float64", 1): one,
        Product("float32", 2): 1.0,
        Product("float64", 2): two,
    }
    found = doctor.Kernels([Kernel(None, "Haswell", seconds)], {})
    monkeypatch.setattr(doctor, "kernels", lambda *_: found)
    _, after = "\n".join(doctor.report()).split("Nothing to set")
    _, *said = after.split("\n")
    assert said[:-1] == lines
    assert all(line.startswith("Set OPENBLAS_NUM_THREADS=1 ") for line in said[-1:])


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.Kernels([PRESENT, made_up("SkylakeX", 5e-4, 9e-4, 3e-4)], {"Zen": "it is not"})
    monkeypatch.setattr(doctor, "kernels", lambda *_: found)
    assert (
        "\n".join(doctor.report(300)).partition("\n\n")[2]
        == """\
Products of 300 x 300 matrices: milliseconds (ratio to the present kernel)

kernel            float32, 1 thread    float64, 1 thread   float32, 8 threads
Haswell                1.000 (1.00)         2.000 (1.00)         0.500 (1.00)
SkylakeX               0.500 (0.50)         0.900 (0.45)         0.300 (0.60)

Zen was skipped: it is not.
Set OPENBLAS_CORETYPE=SkylakeX before Python starts: products take 0.51 of the time."""
    )


def quick(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setattr(doctor, "report", functools.partial(doctor.report, 128, 0.03))
    main(["doctor"])
    return capsys.readouterr().out.splitlines()


def test_a_narrow_report(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Product("float32", 1), Product("float64", 2)
    measured = Kernel(None, "Haswell", {one: 1e-3, two: 2e-3})
    monkeypatch.setattr(doctor, "kernels", lambda *_: doctor.Kernels([measured], {}))
    assert [*doctor.report(width=40)][8:11] == [
        "Haswell",
        "  float32, 1 thread   1.000 (1.00)",
        "  float64, 2 threads  2.000 (1.00)",
    ]


@full_run_only
@openblas
def test_the_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(doctor.VARIABLE, OTHER)  # of the children; this process has the other kernel
    family = {platform.machine().lower(): ["Imaginary", OTHER, BLAS.kernel]}
    monkeypatch.setattr(doctor, "FAMILIES", family)
    lines = quick(monkeypatch, capsys)
    facts = dict(re.split(" {2,}", line, maxsplit=1) for line in lines[:7])
    assert facts == {
        "Python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "NumPy": np.__version__,
        "BLAS": f"{BLAS.name} {BLAS.version}",
        "Kernel": BLAS.kernel,
        "Setting": f"OPENBLAS_CORETYPE={OTHER}",
        "Threads": str(BLAS.threads),
        "Processor": f"{doctor.processor()}, {os.cpu_count()} logical cores",
    }
    head, first, second, gap = (re.split(" {2,}", line) for line in lines[10:14])
    assert head[:3] == ["kernel", "float32, 1 thread", "float64, 1 thread"]
    assert [first[0].lower(), second[0]] == [OTHER.lower(), BLAS.kernel]
    assert len(first) == len(second) == len(head)
    assert gap == [""]
    *_, skipped, advised = (line for line in lines if "thread" not in line.lower())
    assert re.fullmatch(r"Imaginary was skipped: OpenBLAS uses \w+ instead\.", skipped)
    assert re.match(r"Nothing to set|Set OPENBLAS_CORETYPE=", advised)


def test_without_openblas_the_present_setting_alone_is_measured(
    in_children: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    in_children("import ctypes\nctypes.CDLL = str")  # has no symbol of OpenBLAS
    monkeypatch.setattr(ctypes, "CDLL", str)
    assert blas() == Blas(BLAS.name, BLAS.version, None, None)
    lines = quick(monkeypatch, capsys)
    assert "Kernel     unknown" in lines
    assert "Threads    unknown" in lines
    assert re.split(" {2,}", lines[10])[1:] == ["float32, all threads", "float64, all threads"]
    assert lines[11].startswith("unknown")
    assert lines[-2].startswith("NumPy's BLAS does not name its kernel")
    assert lines[-1].startswith("Nothing to set: no other kernel")
