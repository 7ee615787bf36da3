"""`python -m tensorgrad doctor`: which BLAS NumPy multiplies matrices with, and how to speed it up.

OpenBLAS, the BLAS of most builds of NumPy, has kernels for several families of processors. When it
is loaded, it selects one, sometimes a slow one, unless the environment variable OPENBLAS_CORETYPE
names another. So each kernel is measured in a child process, which runs this file as a script.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import geometric_mean
from typing import Any, NamedTuple

import numpy as np

VARIABLE = "OPENBLAS_CORETYPE"

# The kernels to try. Older ones are not faster on processors that can run one of these.
X86_64 = ("SapphireRapids", "Cooperlake", "SkylakeX", "Zen", "Haswell")
ARM64 = ("NEOVERSEV1", "NEOVERSEN2", "NEOVERSEN1", "ARMV8SVE", "ARMV8")
FAMILIES = {"x86_64": X86_64, "amd64": X86_64, "aarch64": ARM64, "arm64": ARM64}

# Few rounds, so that each turn takes long: threads of the turn before may still spin for 30 ms.
ROUNDS = 4

# A kernel is recommended if it takes less than this fraction of the present kernel's time. On a
# quiet machine, repeated measurements of one kernel differ by up to 2%.
WORTHWHILE = 0.95

WINDOWS_ILLEGAL_INSTRUCTION = 0xC000001D


class Blas(NamedTuple):
    """NumPy's BLAS; the kernel and the number of threads are None if they are unknown."""

    name: str
    version: str
    kernel: str | None
    threads: int | None


class Product(NamedTuple):
    """A product of two square matrices; `threads` is None if their number is unknown."""

    dtype: str
    threads: int | None

    def __str__(self) -> str:
        count = "all" if self.threads is None else self.threads
        return f"{self.dtype}, {count} thread{'' if count == 1 else 's'}"


class Kernel(NamedTuple):
    """The seconds that each product takes with one kernel of the BLAS.

    `setting` is the value of OPENBLAS_CORETYPE that selects it, or None for the present
    environment. `name` is None if it is unknown.
    """

    setting: str | None
    name: str | None
    seconds: dict[Product, float]


class Kernels(NamedTuple):
    """The measured kernels, the present one first, and why others, by setting, were skipped."""

    measured: list[Kernel]
    skipped: dict[str, str]


def blas() -> Blas:
    """Return the BLAS that NumPy multiplies matrices with, in this process.

    >>> from tensorgrad import doctor
    >>> doctor.blas().threads != 0
    True
    """
    config: Any = np.show_config(mode="dicts")
    built = config["Build Dependencies"].get("blas", {})  # absent if NumPy does not know it
    built = built.get("name", "unknown"), built.get("version", "")
    name, threads = _openblas("get_corename"), _openblas("get_num_threads")
    if name is None or threads is None:
        return Blas(*built, None, None)
    name.restype = ctypes.c_char_p
    return Blas(*built, name().decode(), threads())


def _openblas(name: str) -> Any:
    """Return a function of the OpenBLAS that NumPy has loaded, or None.

    Except on Windows, the symbols are found through NumPy's own extension module, wherever the
    library is. On Windows, the library is in a folder next to NumPy's.
    """
    extension = sys.modules["numpy._core._multiarray_umath"].__file__
    beside = Path(np.__file__).parents[1].glob("numpy.libs/*openblas*")
    for path in (extension, *beside):
        with suppress(OSError):  # not a library of this platform
            library = ctypes.CDLL(str(path))
            for prefix, suffix in itertools.product(["scipy_openblas", "openblas"], ["64_", ""]):
                if function := getattr(library, f"{prefix}_{name}{suffix}", None):
                    return function
    return None


def processor() -> str:
    """Return the processor's name, as far as the system knows it."""
    with suppress(OSError, StopIteration):  # Linux
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    with suppress(OSError, subprocess.SubprocessError):  # macOS
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


class SkippedError(Exception):
    """A kernel cannot be measured; the message says why."""


class _Child(subprocess.Popen[str]):
    """A new Python process with a setting of the BLAS, which measures products on request."""

    def __init__(self, setting: str | None, size: int) -> None:
        super().__init__(
            [
                sys.executable,
                "-P",
                __file__,
                str(size),
            ],  # -P: no file in this folder may hide a standard module
            env=os.environ | ({} if setting is None else {VARIABLE: setting}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def request(self, seconds: float) -> None:
        """Ask it to measure for `seconds`; it answers with a list of [dtype, threads, seconds]."""
        assert self.stdin is not None
        try:
            print(seconds, file=self.stdin, flush=True)
        except OSError:  # the process has ended, and answer() says how
            with suppress(OSError):
                self.stdin.close()

    def answer(self) -> Any:
        """Read the next line that it prints, as JSON. The first is the name of its kernel."""
        assert self.stdout is not None and self.stderr is not None
        if line := self.stdout.readline():
            try:
                return json.loads(line)
            except ValueError:
                raise SkippedError(f"it printed {line.strip()!r}") from None
        last_words = self.stderr.read().strip().rpartition("\n")[2]
        status = self.wait()
        if status in (-signal.SIGILL, WINDOWS_ILLEGAL_INSTRUCTION):
            raise SkippedError("the processor lacks its instructions")
        raise SkippedError(last_words or f"it ended with status {status}")


def kernels(size: int = 512, seconds: float = 6.0, names: Sequence[str] | None = None) -> Kernels:
    """Measure products of `size` x `size` matrices with each kernel for this kind of processor.

    Products are measured in float32 and float64, on one thread and on all threads that the BLAS
    uses. The kernels take turns, for about `seconds` in total, and the shortest time of each
    counts. `names` are the values of OPENBLAS_CORETYPE to try, by default those for the family of
    the processor. If the BLAS is not OpenBLAS, only the present setting is measured.

    Raises RuntimeError if products fail, or are wrong, with the present setting.

    >>> from tensorgrad import doctor
    >>> measured, skipped = doctor.kernels(size=16, seconds=0.01, names=["Imaginary"])
    >>> [kernel.setting for kernel in measured], list(skipped)
    ([None], ['Imaginary'])
    """
    if blas().kernel is None:
        names = ()
    elif names is None:
        names = FAMILIES.get(platform.machine().lower(), ())
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        children = {name: stack.enter_context(_Child(name, size)) for name in (None, *names)}
        measured = _distinct_kernels(children, skipped)
        turn = seconds / ROUNDS / len(measured)
        for kernel in measured * ROUNDS:
            if kernel.setting not in skipped:
                with _skipping(kernel.setting, skipped):
                    _measure(kernel, children[kernel.setting], turn)
    return Kernels([k for k in measured if k.setting not in skipped], skipped)


@contextmanager
def _skipping(setting: str | None, skipped: dict[str, str]) -> Iterator[None]:
    """Note why a setting is skipped; the present one cannot be."""
    try:
        yield
    except SkippedError as error:
        if setting is None:
            raise RuntimeError(f"NumPy cannot be measured as it is set up: {error}") from error
        skipped[setting] = str(error)


def _distinct_kernels(
    children: Mapping[str | None, _Child], skipped: dict[str, str]
) -> list[Kernel]:
    """The kernels of the child processes, each once."""
    found: list[Kernel] = []
    for setting, child in children.items():
        with _skipping(setting, skipped):
            name = child.answer()
            if setting is not None and name.lower() != setting.lower():
                raise SkippedError(f"OpenBLAS uses {name} instead")
            if name not in [kernel.name for kernel in found]:
                found.append(Kernel(setting, name, {}))
    return found


def _measure(kernel: Kernel, child: _Child, seconds: float) -> None:
    child.request(seconds)
    for dtype, threads, shortest in child.answer():
        product = Product(dtype, threads)
        kernel.seconds[product] = min(kernel.seconds.get(product, math.inf), shortest)


def share(kernel: Kernel, present: Kernel) -> float:
    """The time of a kernel over that of the present one: the geometric mean over all products.

    >>> from tensorgrad.doctor import Kernel, share
    >>> haswell = Kernel(None, "Haswell", {("float32", 1): 4.0, ("float64", 1): 8.0})
    >>> share(Kernel("SkylakeX", "SkylakeX", {("float32", 1): 2.0, ("float64", 1): 4.0}), haswell)
    0.5
    """
    return geometric_mean(kernel.seconds[p] / present.seconds[p] for p in present.seconds)


def best_kernel(measured: Sequence[Kernel]) -> Kernel:
    """Return the fastest kernel, or the present one if no other is clearly faster.

    `measured` is the list from `kernels()`. Set OPENBLAS_CORETYPE to the kernel's `setting` before
    Python starts; if that is None, leave the environment as it is.

    >>> from tensorgrad.doctor import Kernel, best_kernel
    >>> haswell = Kernel(None, "Haswell", {("float32", 1): 3.3, ("float64", 1): 6.8})
    >>> skylake = Kernel("SkylakeX", "SkylakeX", {("float32", 1): 1.7, ("float64", 1): 3.8})
    >>> best_kernel([haswell, skylake]).setting
    'SkylakeX'
    """
    present = measured[0]
    best = min(measured, key=lambda kernel: share(kernel, present))
    return best if share(best, present) < WORTHWHILE else present


def advice(measured: Sequence[Kernel]) -> str:
    """Say in a sentence what to set, and how much faster products become."""
    present, best = measured[0], best_kernel(measured)
    if best is not present:
        gain = f"products take {share(best, present):.2f} of the time"
        return f"Set {VARIABLE}={best.setting} before Python starts: {gain}."
    if len(measured) == 1:
        return "Nothing to set: no other kernel was found for this processor."
    return "Nothing to set: the present setting is the best."


def slow_threads(kernel: Kernel) -> list[str]:
    """Say for which dtypes several threads take longer than one, and what to do.

    >>> from tensorgrad.doctor import Kernel, Product, slow_threads
    >>> seconds = {Product("float64", 1): 7.1e-3, Product("float64", 2): 31e-3}
    >>> slow_threads(Kernel(None, "Haswell", seconds))[0]
    'float64: 2 threads take 31.0 ms, 1 thread takes 7.1 ms.'
    """
    lines = []
    for (dtype, threads), several in kernel.seconds.items():
        one = kernel.seconds.get(Product(dtype, 1), math.inf)
        if threads is not None and one < WORTHWHILE * several:
            took = f"{threads} threads take {several * 1e3:.1f} ms, 1 thread takes {one * 1e3:.1f}"
            lines.append(f"{dtype}: {took} ms.")
    if lines:
        lines.append(
            "Set OPENBLAS_NUM_THREADS=1 before Python starts, unless other programs were busy just "
            "now: then measure again."
        )
    return lines


def report(size: int = 512, seconds: float = 6.0, width: int = 100) -> Iterator[str]:
    """Yield the lines that `python -m tensorgrad doctor` prints, each as soon as it is known.

    If the table is wider than `width` characters, each number gets a line.
    """
    library, setting = blas(), os.environ.get(VARIABLE)
    yield f"Python     {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield f"NumPy      {np.__version__}"
    yield f"BLAS       {library.name} {library.version}"
    yield f"Kernel     {library.kernel or 'unknown'}"
    yield f"Setting    {VARIABLE}{' is not set' if setting is None else f'={setting}'}"
    yield f"Threads    {library.threads or 'unknown'}"
    yield f"Processor  {processor()}, {os.cpu_count()} logical cores"
    yield f"\nProducts of {size} x {size} matrices: milliseconds (ratio to the present kernel)\n"
    measured, skipped = kernels(size, seconds)
    yield from _table(measured, width)
    yield ""
    if library.kernel is None:
        yield "NumPy's BLAS does not name its kernel: only the present setting was measured."
    yield from (f"{setting} was skipped: {why}." for setting, why in skipped.items())
    yield advice(measured)
    yield from slow_threads(best_kernel(measured))


def _table(measured: Sequence[Kernel], width: int) -> list[str]:
    present = measured[0].seconds
    rows = [("kernel", *map(str, present))]
    rows += [
        (
            kernel.name or "unknown",
            *(f"{s * 1e3:.3f} ({s / present[p]:.2f})" for p, s in kernel.seconds.items()),
        )
        for kernel in measured
    ]
    lines = ["  ".join([f"{first:14}", *(f"{cell:>19}" for cell in rest)]) for first, *rest in rows]
    if len(lines[0]) <= width:
        return lines
    return [
        line
        for kernel, *cells in rows[1:]
        for line in (kernel, *(f"  {p:19} {cell}" for p, cell in zip(rows[0][1:], cells)))
    ]


def _shortest_time(x: Any, y: Any, out: Any, seconds: float) -> float:
    """Compute x @ y repeatedly for `seconds`; return the shortest time of one product."""
    shortest, stop = math.inf, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        np.matmul(x, y, out=out)
        end = time.perf_counter()
        shortest = min(shortest, end - start)
        if end >= stop:
            return shortest


def _serve(size: int) -> None:
    """Run as a child process: print the kernel, then shortest times for each line of seconds."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 9, (2, size, size))
    v = rng.integers(-8, 9, size)
    a_b_v = a @ (b @ v)  # integer products do not use BLAS; a @ b is exact even in float32
    kernel, threads = blas()[2:]
    set_threads = _openblas("set_num_threads")
    counts = [None] if threads is None else sorted({1, threads})
    factors = {dtype: (a.astype(dtype), b.astype(dtype)) for dtype in ("float32", "float64")}
    products = list(itertools.product(counts, factors))
    print(json.dumps(kernel), flush=True)
    for line in sys.stdin:
        times = []
        for count, dtype in products:
            if count is not None:
                set_threads(count)
            out = np.empty_like(factors[dtype][0])
            shortest = _shortest_time(*factors[dtype], out, float(line) / len(products))
            if not np.array_equal(out.astype(np.int64) @ v, a_b_v):
                sys.exit(f"its {dtype} products are wrong")
            times.append([dtype, blas().threads, shortest])
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
