"""Measure tensorgrad: each benchmark checks its results, prints a table and writes it as JSON.

To renew the figures in the README and in the documentation, install the extra `peers` and run, on a
machine that does nothing else:

    python -m benchmarks scalar peers derivatives vmap optimizers digits convolution \\
        --output benchmarks/results
    python -m benchmarks.report
"""

import argparse
import contextlib
import itertools
import multiprocessing
import os
import sys
from pathlib import Path

from tensorgrad import doctor

from .timing import run

# One module each, with a function run(quick, output).
BENCHMARKS = {
    "scalar": "the tensor engine against the scalar one, for growing batch and width",
    "peers": "training steps, and small and long operations, in tensorgrad and in other libraries",
    "derivatives": "grad, jacobian and hessian of small functions, and in other libraries",
    "vmap": "the gradient of each sample, over that of the whole batch, and in other libraries",
    "layers": "training steps with LSTM, convolutions and attention, and in other libraries",
    "optimizers": "one step of Adam over 6 and 60 parameters, by hand, and in PyTorch",
    "digits": "training a classifier from a cold start, and in other libraries",
    "convolution": "3x3 convolutions forward and backward, and in PyTorch",
    "compile": "how long compiling takes, for small and long programs, beside the calls themselves",
    "solvers": "the gradient of a fit of a differential equation, and in other libraries",
    "estimators": "fits of a classifier and a regressor, and by scikit-learn",
    "parallel": "training by two processes, and a model of what more would do",
    "memory": "a long chain of operations, memory during a long training, and peak memory",
}

# What NumPy's BLAS, PyTorch, XLA and tinygrad read when they are loaded.
THREADS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
    "NPROC",
    "NUM_CPU_THREADS",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="\n".join(f"{name:11} {text}" for name, text in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmarks", nargs="+", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a few seconds")
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[1],
        metavar="N",
        help="for every library's matrix products, one run for each N (default: 1)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/benchmarks"),
        metavar="DIR",
        help="where the files of results go (default: build/benchmarks, which git ignores)",
    )
    options = parser.parse_args()
    if min(options.threads) < 1:
        parser.error(f"--threads must be at least 1, not {min(options.threads)}")
    _choose_kernel(seconds=1.0 if options.quick else 6.0)
    for count, benchmark in itertools.product(options.threads, options.benchmarks):
        several = len(options.threads) > 1
        output = options.output / f"threads_{count}" if several else options.output
        output.mkdir(parents=True, exist_ok=True)
        # In a new process, because NumPy and the others read the environment when they are loaded.
        os.environ.update(dict.fromkeys(THREADS, str(count)))
        arguments = benchmark, options.quick, output
        process = multiprocessing.get_context("spawn").Process(target=run, args=arguments)
        process.start()
        with contextlib.suppress(KeyboardInterrupt):  # the process gets one as well
            process.join()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)
        print()


def _choose_kernel(seconds: float) -> None:
    """Set the fastest kernel of NumPy's BLAS for the benchmarks, unless one is set already."""
    if doctor.VARIABLE in os.environ or doctor.blas().kernel is None:
        return
    os.environ.update(dict.fromkeys(THREADS, "1"))  # other programs disturb one thread least
    measured, _ = doctor.kernels(seconds=seconds)
    best = doctor.best_kernel(measured)
    if best.setting is not None:
        os.environ[doctor.VARIABLE] = best.setting
    names = ", ".join(str(kernel.name) for kernel in measured)
    print(
        f"NumPy's BLAS multiplies with {best.name}, the best of its kernels {names}.\n", flush=True
    )


if __name__ == "__main__":
    main()
