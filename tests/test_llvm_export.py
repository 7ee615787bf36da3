"""Ahead of time: a C program that calls an exported function computes what eager mode does."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.compiler.ir import PACKAGE
from tensorgrad.errors import TraceError

from .depth import one_in
from .operations import Op
from .oracles import assert_same
from .test_compile_table import ROWS, differentiated, drawn

pytest.importorskip("llvmlite")
from tensorgrad.compiler.backends.llvm import runtime

CC = shutil.which("cc")
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
LEAST_CPU = "x86-64" if runtime.host().triple.startswith("x86_64") else None  # it has no FMA
needs_cc = pytest.mark.skipif(CC is None, reason="there is no C compiler")
rng = np.random.default_rng(0)


def run(*command: Any, data: bytes = b"") -> bytes:
    found = subprocess.run([*map(str, command)], input=data, capture_output=True, timeout=60)
    assert found.returncode == 0, found.stderr.decode()
    return found.stdout


def program(header: str) -> str:
    """A C program that reads the arguments from stdin, and writes the status and the results."""
    name, given = re.findall(r"^(?:void|int) (\w+)\((.*)\);$", header, re.MULTILINE)[0]
    parameters = [re.findall(r"(const )?(\w+) \*\w+ (\w+)", p) for p in given.split(", ")]
    arrays = [found[0] for found in parameters if found]
    capitals = name.upper()
    lines = ["#include <stdio.h>", f'#include "{name}.h"']
    for _, kind, array in arrays:
        lines.append(f"static {kind} {array}[{capitals}_{array.upper()}_SIZE];")
    names = [array for _, _, array in arrays]
    lines += ["int main(void) {", "    int status = 0;"]
    for const, _, array in arrays:
        if const:
            lines.append(f"    if (!fread({array}, sizeof {array}, 1, stdin)) return 1;")
    if "weights" in given:
        lines[2:2] = [f"static double weights[{capitals}_WEIGHTS_BYTES / 8];"]
        lines += [
            f'    FILE *file = fopen("{name}.weights", "rb");',
            "    if (!file || !fread(weights, sizeof weights, 1, file)) return 1;",
        ]
        names.append("weights")
    call = f"{name}({', '.join(names)});"
    lines.append(f"    status = {call}" if f"int {name}" in header else f"    {call}")
    lines.append("    fwrite(&status, sizeof status, 1, stdout);")
    lines += [f"    fwrite({a}, sizeof {a}, 1, stdout);" for const, _, a in arrays if not const]
    return "\n".join([*lines, "    return 0;", "}", ""])


def called_in_c(
    folder: Path, plan: Any, arrays: Sequence[Any], like: Sequence[Any], **options: Any
) -> tuple[int, list[Any]]:
    """The status and the results of an exported function, in the shapes and dtypes of others."""
    plan.export(folder / "f", **options)
    (folder / "main.c").write_text(program((folder / "f.h").read_text()))
    main, code = folder / "main", folder / "f.o"
    run(CC, "-std=c99", *STRICT, "-o", main, folder / "main.c", code, "-lm")
    found = subprocess.run(
        [main], input=b"".join(a.tobytes() for a in arrays), capture_output=True, cwd=folder
    )
    assert found.returncode == 0
    status, rest = np.frombuffer(found.stdout, np.int32, 1)[0], found.stdout[4:]
    results = []
    for y in like:
        results.append(np.frombuffer(rest, y.dtype, y.size).reshape(y.shape))
        rest = rest[y.nbytes :]
    assert not rest
    return int(status), results


def assert_exported(folder: Path, f: Callable[..., Any], *arrays: Any, **options: Any) -> None:
    expected = [y.numpy() if isinstance(y, tg.Tensor) else y for y in tg.tree.leaves(f(*arrays))]
    plan = tg.compile(f).lower(*arrays)
    status, results = called_in_c(folder, plan, arrays, expected, **options)
    assert status == 0
    assert_same(results, expected, roundings=64)


def digits(dtype: Any) -> Callable[[Any], Any]:
    net = tg.MLP(64, [32, 10], rng=0, dtype=dtype)
    return lambda x: tg.nn.softmax(net(x))


def normalized(dtype: Any) -> Callable[[Any], Any]:
    return tg.nn.Sequential(
        tg.nn.Linear(64, 24, rng=1, dtype=dtype),
        tg.nn.LayerNorm(24, dtype=dtype),
        tg.nn.BatchNorm1d(24, dtype=dtype),
        tg.nn.ReLU(),
        tg.nn.Dropout(0.5, rng=0),
        tg.nn.Linear(24, 3, rng=2, dtype=dtype),
    ).eval()


CASES = [
    (network, dtype, batch, weights, threads)
    for network in (digits, normalized)
    for dtype in (np.float32, np.float64)
    for batch in (1, 7, 32)
    for weights in ("inside", "argument")
    for threads in (True, False)
]


@needs_cc
@pytest.mark.parametrize(("network", "dtype", "batch", "weights", "threads"), one_in(8, CASES))
def test_networks(
    tmp_path: Path, network: Any, dtype: Any, batch: int, weights: str, threads: bool
) -> None:
    x = rng.normal(size=(batch, 64)).astype(dtype)
    assert_exported(tmp_path, network(dtype), x, weights=weights, threads=threads)


@needs_cc
@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3"])
def test_older_processors(tmp_path: Path, cpu: str) -> None:
    """Code for the least processor of a kind runs on this one; without FMA, libm computes it."""
    if not runtime.host().triple.startswith("x86_64"):
        pytest.skip("this is another processor")
    x = rng.normal(size=(5, 64)).astype(np.float32)
    assert_exported(tmp_path, digits(np.float32), x, cpu=cpu)
    header = (tmp_path / "f.h").read_text()
    assert f"{cpu}." in header
    assert ("fmaf" in header) == (cpu == "x86-64")


@needs_cc
def test_several_arguments_and_results(tmp_path: Path) -> None:
    offset = rng.normal(size=4)

    def f(params: Any, x: Any, *, int: Any) -> Any:  # noqa: A002 (a name that C has)
        y = x @ params["w"] + params["b"]
        return {"y": y.T, "same": x, "double": (y > offset, y[1], np.sum(int)), "again": y}

    params = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=4)}
    x, numbers = rng.normal(size=(2, 3)), np.arange(5)
    expected = tg.tree.leaves(f(params, x, int=numbers))
    plan = tg.compile(f).lower(params, x, int=numbers)
    arrays = [*params.values(), x, numbers]
    _, results = called_in_c(tmp_path, plan, arrays, [*map(np.asarray, expected)], threads=False)
    assert_same(results, [*map(np.asarray, expected)])
    header = (tmp_path / "f.h").read_text()
    names = re.findall(r"\*F_RESTRICT (\w+)", header)
    wanted = "params_w params_b x int_ y same double_0 double_1 double_2 again"
    assert names == wanted.split()
    assert "*   int_      int64[5]" in header
    assert "const int64_t *F_RESTRICT int_, double *F_RESTRICT y," in header
    assert "uint8_t *F_RESTRICT double_0" in header


@needs_cc
def test_large_products(tmp_path: Path) -> None:
    """Products that BLAS computes elsewhere are native, too, and alike in each thread."""
    x = rng.normal(size=(300, 600)).astype(np.float32)
    w = rng.normal(size=(600, 400)).astype(np.float32) / 25
    for g in (lambda x: x @ w, lambda x: x @ w.T.copy().T):
        assert_exported(tmp_path, lambda x, g=g: np.tanh(g(x)), x)


@needs_cc
def test_indices_are_checked(tmp_path: Path) -> None:
    table = tg.Tensor(rng.normal(size=(5, 3)))
    plan = tg.compile(lambda i: np.take(table, i, axis=0)).lower(np.array([0, 1]))
    like = [np.zeros((2, 3))]
    status, results = called_in_c(tmp_path, plan, [np.array([4, -5])], like)
    assert status == 0
    assert_same(results, [table.numpy()[[4, 0]]])
    header = (tmp_path / "f.h").read_text()
    assert "0, or 1 if a check fails, such as of an index (test_llvm_export.py:" in header
    for outside in (5, -6):
        assert called_in_c(tmp_path, plan, [np.array([0, outside])], like)[0] == 1


@needs_cc
def test_decisions_are_those_of_the_traced_call(tmp_path: Path) -> None:
    """Code of the library may decide by an element; where it decides otherwise, 1 is returned."""
    names: dict[str, Any] = {}
    decides = "def f(x):\n    return x + 1 if x[0] > 0 else x"
    exec(compile(decides, PACKAGE + "decides.py", "exec"), names)
    plan = tg.compile(names["f"]).lower(np.ones(2))
    for x, expected in ((np.array([0.5, -1.0]), 0), (np.array([-0.5, 1.0]), 1)):
        status, results = called_in_c(tmp_path, plan, [x], [x])
        assert status == expected
        assert status or np.array_equal(results[0], x + 1)


@needs_cc
def test_threads(tmp_path: Path) -> None:
    """Two threads call a function with temporary arrays at once."""
    x = np.linspace(-1, 1, 20_000)
    tg.compile(lambda x: np.tanh(x) / np.sum(np.exp(x))).lower(x).export(tmp_path / "f")
    header = (tmp_path / "f.h").read_text()
    assert "each thread's memory: several threads can call it at once" in header
    (tmp_path / "main.c").write_text(THREADS)
    run(CC, "-std=c99", *STRICT, "-pthread", "-o", *(tmp_path / n for n in ("m", "main.c", "f.o")))
    assert run(tmp_path / "m") == b"0 differ\n"


THREADS = """
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "f.h"
static double x[2][F_X_SIZE], y[2][F_Y_SIZE], expected[2][F_Y_SIZE];
static int differ[2];
static void *work(void *which) {
    int k = *(int *)which;
    for (int i = 0; i < 200; i++) {
        f(x[k], y[k]);
        differ[k] += memcmp(y[k], expected[k], sizeof y[k]) != 0;
    }
    return NULL;
}
int main(void) {
    pthread_t thread[2];
    int which[2] = {0, 1};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < F_X_SIZE; i++) x[k][i] = (k + 1) * 1e-4 * i;
        f(x[k], expected[k]);
    }
    for (int k = 0; k < 2; k++) pthread_create(&thread[k], NULL, work, &which[k]);
    for (int k = 0; k < 2; k++) pthread_join(thread[k], NULL);
    printf("%d differ\\n", differ[0] + differ[1]);
    return 0;
}
"""


@needs_cc
@pytest.mark.parametrize("weights", ["inside", "argument"])
def test_the_header_is_clean(tmp_path: Path, weights: Any) -> None:
    x = np.zeros((1, 64), np.float32)
    header = tmp_path / "f.h"
    tg.compile(digits(np.float32)).lower(x).export(header, weights=weights)
    for standard in ("c99", "c11", "c17"):
        run(CC, f"-std={standard}", *STRICT, "-fsyntax-only", "-x", "c", header)
    if shutil.which("c++") is not None:
        main = tmp_path / "main.cpp"
        main.write_text('#include "f.h"\n#include "f.h"\nint main() { return f == nullptr; }\n')
        run(
            "c++",
            "-std=c++11",
            *STRICT,
            "-Wno-address",
            "-o",
            tmp_path / "m",
            main,
            tmp_path / "f.o",
        )


@needs_cc
def test_the_header_says_what_is_called(tmp_path: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("there is no nm")
    network = digits(np.float64)
    plan = tg.compile(lambda x: np.floor(network(x))).lower(np.zeros((3, 64)))
    for options in ({}, {"threads": False}, {"cpu": "x86-64"}, {"target": "aarch64-linux-gnu"}):
        plan.export(tmp_path / "f", **options)
        undefined = {
            line.split()[-1]
            for line in run("nm", "-u", tmp_path / "f.o").decode().split("\n")
            if line
        }
        text = (tmp_path / "f.h").read_text()
        said = re.findall(r"Functions that it calls: (.*)\.", text)
        assert undefined == {*(said[0].split(", ") if said else ())}
        assert bool(said) != ("It calls no other function" in text)


TARGETS = {
    "aarch64-linux-gnu": (None, None, b"\x7fELF\2\1", 183),
    "armv7-linux-gnueabihf": ("cortex-a9", "+neon", b"\x7fELF\1\1", 40),
    "thumbv7em-none-eabihf": ("cortex-m4", None, b"\x7fELF\1\1", 40),
    "riscv64-linux-gnu": (None, "+d", b"\x7fELF\2\1", 243),
    "wasm32-unknown-unknown": (None, "+simd128", b"\0asm", None),
    "aarch64-apple-macos": (None, None, b"\xcf\xfa\xed\xfe", None),
    "x86_64-pc-windows-msvc": ("haswell", None, b"\x64\x86", None),
}


@pytest.mark.parametrize("triple", one_in(2, TARGETS))
def test_other_targets(tmp_path: Path, triple: str) -> None:
    cpu, features, magic, machine = TARGETS[triple]
    f = digits(np.float32)
    plan = tg.compile(f).lower(np.zeros((1, 64), np.float32))
    plan.export(tmp_path / "f", target=triple, cpu=cpu, features=features, threads=False)
    code = (tmp_path / "f.o").read_bytes()
    assert code.startswith(magic)
    assert machine is None or int.from_bytes(code[18:20], "little") == machine
    assert f"The code is for {triple}: {cpu or 'any processor'}" in (tmp_path / "f.h").read_text()


def test_weights_are_those_of_now(tmp_path: Path) -> None:
    net = tg.nn.Linear(2, 3, rng=0)
    plan = tg.compile(net).lower(np.ones((1, 2)))
    files = plan.export(tmp_path / "f", weights="argument")
    assert [path.name for path in files] == ["f.o", "f.h", "f.weights"]
    assert "from byte 0 on: float64[3, 2]" in files[1].read_text()
    first = files[2].read_bytes()
    net.weight.data += 1
    code = files[0].read_bytes()
    plan.export(tmp_path / "f.o", weights="argument")
    assert files[0].read_bytes() == code
    assert files[2].read_bytes() != first


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    x = np.eye(3)
    net = tg.nn.Linear(3, 3, rng=0)

    def sets_gradients(x: Any) -> Any:
        loss = tg.nn.mse_loss(net(x), x)
        loss.backward()
        return loss

    cases: list[tuple[Any, Any, str]] = [
        (np.linalg.inv, x, r"inv at .* cannot become native code: native code does not know it"),
        (tg.nn.Dropout(0.5, rng=0), x, r"random numbers are drawn.*call eval\(\)"),
        (tg.nn.BatchNorm1d(3), x, r"an array from outside is changed.*call eval\(\)"),
        (lambda x: tg.cond(x[0, 0] > 0, np.sin, np.cos, x), x, "cond at .* cannot become"),
        (sets_gradients, x, "sets gradients"),
        (np.sin, x.T.copy().T[:, :2], "does not lie by rows"),
        (np.abs, x + 1j, "x0? is of complex128"),
        (lambda x: (np.sin(x), "text"), x, r"returns a str at \[1\]"),
    ]
    for f, a, message in cases:
        with pytest.raises(TraceError, match=f"export: .*{message}"):
            tg.compile(f).lower(a).export(tmp_path / "f")
    assert [*tmp_path.iterdir()] == []


def test_files_are_written_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tg.compile(lambda x: np.sin(x)).lower(np.ones(3))
    with pytest.raises(FileNotFoundError, match="missing"):
        plan.export(tmp_path / "missing" / "f")
    files = plan.export(tmp_path / "f")
    before = [path.read_bytes() for path in files]
    write = Path.write_bytes

    def fail(path: Path, data: bytes) -> int:
        if path.name == "f.h":
            raise OSError("the disk is full")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="the disk is full"):
        tg.compile(lambda x: np.cos(x)).lower(np.ones(3)).export(tmp_path / "f")
    assert [path.read_bytes() for path in files] == before
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_options_that_are_wrong(tmp_path: Path) -> None:
    plan = tg.compile(np.sin).lower(np.ones(3))
    cases: list[tuple[str, Any, str]] = [
        (
            "my-net",
            {},
            "'my-net' cannot be the name of a C function: pass another one, name='my_net'",
        ),
        ("2nd", {}, "name='x2nd'"),
        ("f", {"name": "int"}, "name='int_'"),
        ("f", {"weights": "outside"}, "weights='outside': choose 'inside' or 'argument'"),
        ("f", {"target": "pdp11-unix"}, "makes no code for 'pdp11-unix'"),
        ("f", {"cpu": "abacus"}, "'abacus' is not a recognized processor"),
        ("f", {"features": "+abacus"}, "'+abacus' is not a recognized feature"),
        ("f", {"target": "s390x-linux-gnu"}, "stores the highest byte first"),
    ]
    for path, options, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            plan.export(tmp_path / path, **options)
    assert [*tmp_path.iterdir()] == []


@needs_cc
def test_the_page_of_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    page = (Path(tg.__file__).parent / "docs" / "deploy.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(python|c)\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks["python"], "train.py", "exec"), {})
    accuracy = int(re.findall(r"(\d+)% of new digits", capsys.readouterr().out)[0])
    assert accuracy > 90
    Path("main.c").write_text(blocks["c"])
    run(CC, "-std=c99", *STRICT, "-o", "digits", "main.c", "digits.o")
    said = run("./digits").decode().strip()
    assert said == "This is a 0."
    assert f"It prints `{said}`" in page
    declared = re.findall(r"^void digits.*;$|^#define DIGITS_\w+ \d+$", page, re.MULTILINE)
    header = Path("digits.h").read_text().replace("DIGITS_RESTRICT", "restrict")
    assert len(declared) == 3
    assert [line for line in declared if line not in header] == []


@needs_cc
@pytest.mark.parametrize("op", one_in(60, ROWS), ids=repr)
def test_operations(tmp_path: Path, op: Op) -> None:
    """The value and the pullback of an operation, in a shared library; or it is refused by name."""
    args = [np.array(a, order="C") for a in drawn(op, op.shapes[0], np.float64, 0)]
    f = differentiated(op.fun)
    expected = [np.asarray(y) for y in tg.tree.leaves(f(*args))]
    try:
        tg.compile(f).lower(*args).export(tmp_path / "f", cpu=LEAST_CPU)
    except TraceError as error:
        if not re.search(r" at \S+\.py:\d+ cannot become native code: |not computed", str(error)):
            raise
        return
    run(CC, "-shared", "-o", tmp_path / "f.so", tmp_path / "f.o", "-lm")
    results = [np.full(y.shape, 99, y.dtype) for y in expected]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*args, *results)]
    ctypes.CDLL(str(tmp_path / "f.so")).f(*pointers)
    scale = max(float(np.max(np.abs(a), initial=0)) for a in [*args, expected[0]])
    assert_same(results, expected, roundings=64, least=scale)
