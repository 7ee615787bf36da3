"""Native code by LLVM: loop nests and whole training loops, without Python in between.

It needs the library llvmlite, which is imported when a program is first compiled so.

    kernels      what native code computes in one go: loop nests and products
    lowering     calls of a program become kernels
    nests        a loop nest becomes LLVM's code
    products     and so does a product of matrices
    functions    and an element-wise function; elementary and lanes are what it consists of
    loops        counted loops and vectors
    segments     kernels, one after another, become a function that Python calls
    runtime      the code runs on this processor
    backend      the back end itself, which the compiler asks
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....errors import optional

if TYPE_CHECKING:
    from .backend import LLVM


def backend() -> LLVM:
    """The back end. It needs llvmlite, or an ImportError says so."""
    optional("llvmlite", 'compile(backend="llvm")')
    from .backend import LLVM  # it imports llvmlite

    return LLVM()
