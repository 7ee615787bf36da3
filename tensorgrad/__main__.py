"""`python -m tensorgrad`: a tour, in a few seconds: two networks learn, and are looked at.

`python -m tensorgrad support [NAME ...]`: list which NumPy functions have derivatives.

`python -m tensorgrad playground`: train a small network in a page of the browser.

`python -m tensorgrad doctor`: measure NumPy's matrix products, and say how to speed them up.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__, doctor, support
from .playground.server import main as serve
from .tour import tour

# The exit statuses that shells report for a program that a signal ended: Ctrl-C, or a closed pipe.
INTERRUPTED, NO_READER = 130, 141


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tour or print a report; `argv` is the list of command-line arguments."""
    try:
        try:
            answer(argv)
        finally:
            print(end="", flush=True)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at exit
        sys.exit(NO_READER if isinstance(error, BrokenPipeError) else f"error: {error}")


def answer(argv: Sequence[str] | None) -> None:
    """Do what the arguments ask for."""
    parser = argument_parser()
    arguments = parser.parse_args(argv)
    width = max(shutil.get_terminal_size((96, 24)).columns, 24)
    if arguments.report == "support":
        print_support(arguments.names, min(width, 96))
    elif arguments.report == "playground" and not 0 <= arguments.port < 1 << 16:
        parser.error(f"argument --port: {arguments.port} is not from 0 to 65535")
    elif arguments.report == "playground":
        playground(arguments.port, not arguments.no_browser)
    elif arguments.report == "doctor":
        print_doctor(width)
    elif arguments.seed < 0:
        parser.error(f"argument --seed: {arguments.seed} is negative")
    else:
        out = None if arguments.no_plots else arguments.out
        tour(arguments.seed, out, width, quick=arguments.quick)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tensorgrad",
        description="A tour: train two small networks, look at them, and time a training step.",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all random numbers (default: 0)"
    )
    files = parser.add_mutually_exclusive_group()
    files.add_argument(
        "--out",
        type=Path,
        default=Path("tensorgrad-tour"),
        metavar="FOLDER",
        help="where to write the pictures, and index.html with all of them (default: %(default)s)",
    )
    files.add_argument("--no-plots", action="store_true", help="print only, and write no files")
    parser.add_argument("--quick", action="store_true", help="take fewer steps")
    parser.add_argument("--version", action="version", version=f"tensorgrad {__version__}")
    reports = parser.add_subparsers(dest="report", title="or print a report")
    named = reports.add_parser("support", help="which NumPy functions have derivatives")
    named.add_argument(
        "names", nargs="*", metavar="NAME", help="a function, such as tanh or numpy.linalg.svd"
    )
    reports.add_parser("doctor", help="how fast NumPy multiplies matrices, and how to speed it up")
    page = reports.add_parser("playground", help="train a small network in the browser")
    page.add_argument(
        "--port", type=int, default=8123, metavar="N", help="of the server (default: %(default)s)"
    )
    page.add_argument("--no-browser", action="store_true", help="open no browser")
    return parser


def playground(port: int, opens_browser: bool) -> None:
    """Serve the playground until Ctrl-C."""
    try:
        serve(port, opens_browser)
    except ImportError as error:
        sys.exit(f"error: {error}")


def print_doctor(width: int) -> None:
    """Print which kernel multiplies matrices fastest."""
    try:
        for line in doctor.report(width=width):
            print(line, flush=True)
    except RuntimeError as error:
        sys.exit(f"error: {error}")


def print_support(names: Sequence[str], width: int) -> None:
    """Print which functions have derivatives, by default for all functions of NumPy."""
    if not names:
        print(support.report(width))
        return
    try:
        for name in names:
            print(support.about(name))
    except LookupError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
