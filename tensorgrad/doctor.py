"""`python -m tensorgrad doctor`: what NumPy multiplies matrices with, and if it could be faster.

OpenBLAS, the library of products in most builds of NumPy, holds a kernel for each family of
processors. It picks one as it is loaded, at times a slow one, unless the variable OPENBLAS_CORETYPE
of the environment names another. So each kernel gets a child process: this file, run as a script.
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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import geometric_mean
from typing import Any, NamedTuple

import numpy as np

VARIABLE = "OPENBLAS_CORETYPE"

# The kernels worth a try: an older one than these is not faster where one of these runs.
X86_64 = ("SapphireRapids", "Cooperlake", "SkylakeX", "Zen", "Haswell")
ARM64 = ("NEOVERSEV1", "NEOVERSEN2", "NEOVERSEN1", "ARMV8SVE", "ARMV8")
FAMILIES = {"x86_64": X86_64, "amd64": X86_64, "aarch64": ARM64, "arm64": ARM64}

# Few: a turn must outlast the 30 ms for which idle threads of the turn before it may still spin.
ROUNDS = 4

# A kernel must take less than this of the present one's time: on a quiet machine, a kernel measured
# again came within 2% of itself.
WORTHWHILE = 0.95

WINDOWS_ILLEGAL_INSTRUCTION = 0xC000001D


class Blas(NamedTuple):
    """NumPy's BLAS; the kernel and the threads are None where it does not tell."""

    name: str
    version: str
    kernel: str | None
    threads: int | None


class Product(NamedTuple):
    """The product of two square matrices; `threads` is None where BLAS does not tell how many."""

    dtype: str
    threads: int | None

    def __str__(self) -> str:
        count = "all" if self.threads is None else self.threads
        return f"{self.dtype}, {count} thread{'' if count == 1 else 's'}"


class Kernel(NamedTuple):
    """The seconds of each product with one kernel of BLAS.

    `setting` is the value of OPENBLAS_CORETYPE that selects it, None for the environment as it is;
    `name` is None where BLAS does not tell.
    """

    setting: str | None
    name: str | None
    seconds: dict[Product, float]


class Kernels(NamedTuple):
    """The measured kernels, the present one first; and why others, by setting, are passed over."""

    measured: list[Kernel]
    passed_over: dict[str, str]


def blas() -> Blas:
    """What NumPy multiplies matrices with, in this process.

    >>> from tensorgrad import doctor
    >>> doctor.blas().threads != 0
    True
    """
    config: Any = np.show_config(mode="dicts")
    built = config["Build Dependencies"].get("blas", {})  # NumPy leaves out what it does not know
    built = built.get("name", "unknown"), built.get("version", "")
    name, threads = _openblas("get_corename"), _openblas("get_num_threads")
    if name is None or threads is None:
        return Blas(*built, None, None)
    name.restype = ctypes.c_char_p
    return Blas(*built, name().decode(), threads())


def _openblas(name: str) -> Any:
    """A function of the OpenBLAS that NumPy has loaded; None where there is no such.

    The extension that needs the library finds its symbols, wherever it lies, but not on Windows:
    there it lies beside NumPy.
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
    """The processor's name, as far as the system tells."""
    with suppress(OSError, StopIteration):  # Linux
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    with suppress(OSError, subprocess.SubprocessError):  # macOS
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


class PassedOverError(Exception):
    """A child process cannot measure; the message says why."""


class _Child(subprocess.Popen[str]):
    """A fresh Python, with a BLAS of that setting, which multiplies matrices when told to."""

    def __init__(self, setting: str | None, size: int) -> None:
        super().__init__(
            [sys.executable, "-P", __file__, str(size)],  # -P: no module here hides one of Python's
            env=os.environ | ({} if setting is None else {VARIABLE: setting}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tell(self, seconds: float) -> None:
        """Have it measure for so long; the answer is a list of [dtype, threads, seconds]."""
        assert self.stdin is not None
        try:
            print(seconds, file=self.stdin, flush=True)
        except OSError:  # it has ended, and its answer() says how
            with suppress(OSError):
                self.stdin.close()

    def answer(self) -> Any:
        """The next line it prints, read as JSON; the first one is the name of its kernel."""
        assert self.stdout is not None and self.stderr is not None
        if line := self.stdout.readline():
            try:
                return json.loads(line)
            except ValueError:
                raise PassedOverError(f"it printed {line.strip()!r}") from None
        last_words = self.stderr.read().strip().rpartition("\n")[2]
        status = self.wait()
        if status in (-signal.SIGILL, WINDOWS_ILLEGAL_INSTRUCTION):
            raise PassedOverError("the processor lacks its instructions")
        raise PassedOverError(last_words or f"it ended with status {status}")


def kernels(size: int = 512, seconds: float = 6.0, names: Sequence[str] | None = None) -> Kernels:
    """Measure products of matrices of `size` x `size` with each kernel of this processor's family.

    They are float32 and float64, on one thread and on as many as BLAS takes at present. The kernels
    take turns for about `seconds` altogether, and what counts is the least time of each. `names`
    are the values of OPENBLAS_CORETYPE to try, by default those of the processor's family. Where
    BLAS is not OpenBLAS, only the present setting is measured, on its own number of threads.

    Raises RuntimeError if a fresh Python cannot multiply, or multiplies wrongly, as things are set.

    >>> from tensorgrad import doctor
    >>> measured, passed_over = doctor.kernels(size=16, seconds=0.01, names=["Imaginary"])
    >>> [kernel.setting for kernel in measured], list(passed_over)
    ([None], ['Imaginary'])
    """
    if blas().kernel is None:
        names = ()
    elif names is None:
        names = FAMILIES.get(platform.machine().lower(), ())
    measured: list[Kernel] = []
    passed_over: dict[str, str] = {}

    def pass_over(setting: str | None, error: PassedOverError) -> None:
        if setting is None:
            raise RuntimeError(f"NumPy cannot be measured as it is set up: {error}") from error
        passed_over[setting] = str(error)

    with ExitStack() as stack:
        children = {name: stack.enter_context(_Child(name, size)) for name in (None, *names)}
        for setting, child in children.items():
            try:
                name = child.answer()
                if setting is not None and name.lower() != setting.lower():
                    raise PassedOverError(f"OpenBLAS takes {name} in its place")
            except PassedOverError as error:
                pass_over(setting, error)
            else:
                if name not in [kernel.name for kernel in measured]:
                    measured.append(Kernel(setting, name, {}))
        turn = seconds / ROUNDS / len(measured)
        for kernel in measured * ROUNDS:
            if kernel.setting in passed_over:
                continue
            try:
                children[kernel.setting].tell(turn)
                for dtype, threads, least in children[kernel.setting].answer():
                    product = Product(dtype, threads)
                    kernel.seconds[product] = min(kernel.seconds.get(product, math.inf), least)
            except PassedOverError as error:
                pass_over(kernel.setting, error)
    return Kernels([k for k in measured if k.setting not in passed_over], passed_over)


def share(kernel: Kernel, present: Kernel) -> float:
    """The share of the present kernel's time that products take: the geometric mean over them.

    >>> from tensorgrad.doctor import Kernel, share
    >>> haswell = Kernel(None, "Haswell", {("float32", 1): 4.0, ("float64", 1): 8.0})
    >>> share(Kernel("SkylakeX", "SkylakeX", {("float32", 1): 2.0, ("float64", 1): 4.0}), haswell)
    0.5
    """
    return geometric_mean(kernel.seconds[p] / present.seconds[p] for p in present.seconds)


def best_kernel(measured: Sequence[Kernel]) -> Kernel:
    """The kernel with the fastest products, the present one unless another is clearly faster.

    `measured` are those of `kernels()`. The `setting` of the best is the value to give to
    OPENBLAS_CORETYPE before Python starts; None means to leave the environment alone.

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
    """What to set and what it gains, in a sentence."""
    present, best = measured[0], best_kernel(measured)
    if best is not present:
        gain = f"products take {share(best, present):.2f} of their time"
        return f"Set {VARIABLE}={best.setting} before Python starts: {gain}."
    if len(measured) == 1:
        return "Nothing to set: no other kernel was found for this processor."
    return "Nothing to set: the present setting is the best."


def report(size: int = 512, seconds: float = 6.0, width: int = 100) -> Iterator[str]:
    """The lines of what `python -m tensorgrad doctor` prints, each as soon as it is known.

    Where the table is wider than `width` characters, each number has a line.
    """
    library, asked = blas(), os.environ.get(VARIABLE)
    yield f"Python     {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield f"NumPy      {np.__version__}"
    yield f"BLAS       {library.name} {library.version}"
    yield f"Kernel     {library.kernel or 'unknown'}"
    yield f"Setting    {VARIABLE}{' is not set' if asked is None else f'={asked}'}"
    yield f"Threads    {library.threads or 'unknown'}"
    yield f"Processor  {processor()}, {os.cpu_count()} logical cores"
    yield f"\nProducts of {size} x {size} matrices: milliseconds (share of the present kernel's)\n"
    measured, passed_over = kernels(size, seconds)
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
    if len(lines[0]) > width:
        lines = [
            line
            for kernel, *cells in rows[1:]
            for line in (kernel, *(f"  {p:19} {cell}" for p, cell in zip(rows[0][1:], cells)))
        ]
    yield from lines
    yield ""
    if library.kernel is None:
        yield "NumPy has no OpenBLAS that tells its kernel: only the present setting was measured."
    yield from (f"{setting} is passed over: {why}." for setting, why in passed_over.items())
    yield advice(measured)


def _least_seconds(x: Any, y: Any, out: Any, seconds: float) -> float:
    """The least time of x @ y, of those done in so many seconds."""
    least, stop = math.inf, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        np.matmul(x, y, out=out)
        end = time.perf_counter()
        least = min(least, end - start)
        if end >= stop:
            return least


def _serve(size: int) -> None:
    """Be a child: print the kernel, then the least times of products for each line of seconds."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 9, (2, size, size))
    v = rng.integers(-8, 9, size)
    a_b_v = a @ (b @ v)  # integers take no BLAS, and a @ b is exact even in float32
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
            least = _least_seconds(*factors[dtype], out, float(line) / len(products))
            if not np.array_equal(out.astype(np.int64) @ v, a_b_v):
                sys.exit(f"its {dtype} products are wrong")
            times.append([dtype, blas().threads, least])
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
