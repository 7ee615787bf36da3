"""Measure tensorgrad: each benchmark checks its results, prints a table and writes it as CSV."""

import argparse
import importlib
import os
import sys
from pathlib import Path

# One module each, with a function run(quick, output).
BENCHMARKS = {
    "scalar": "the tensor engine against the scalar one, for growing batch and width",
    "peers": "one training step, and one small operation, in tensorgrad and in other libraries",
    "derivatives": "grad, jacobian and hessian of small functions, beside other libraries",
    "optimizers": "one step of Adam over 6 and 60 parameters, beside one by hand and PyTorch's",
    "memory": "a long chain, memory over many steps, and peak memory against what rules need",
}

# What NumPy's BLAS, PyTorch and XLA read when they are loaded.
THREADS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
    "NPROC",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="\n".join(f"{name:11} {text}" for name, text in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmark", nargs="?", choices=BENCHMARKS, default="scalar")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a few seconds")
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count(),
        metavar="N",
        help="for every library's matrix products (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent / "results",
        metavar="DIR",
        help="where the CSV files and pictures go (default: benchmarks/results)",
    )
    options = parser.parse_args()
    if options.threads < 1:
        parser.error(f"--threads must be at least 1, not {options.threads}")
    os.environ.update(dict.fromkeys(THREADS, str(options.threads)))

    # Imported only now: NumPy and the others read the environment as they load.
    benchmark = importlib.import_module(f".{options.benchmark}", __package__)
    from .timing import UnequalError

    options.output.mkdir(parents=True, exist_ok=True)
    try:
        benchmark.run(options.quick, options.output)
    except UnequalError as error:
        sys.exit(f"error: not timed, for the work is not equal: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the rows above are in the CSV file")


if __name__ == "__main__":
    main()
