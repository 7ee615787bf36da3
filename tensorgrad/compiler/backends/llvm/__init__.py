"""Native code by LLVM: loop nests and whole training loops, without Python in between.

It needs the library llvmlite, which is imported when a program is first compiled so.

    kernels       what native code computes in one go: loop nests and products
    bodies        what a call computes for each index
    expansions    some calls are first made of others
    lowering      calls of a program become kernels
    windows       products whose operands need no copy
    registers     registers of any dtype
    nests         a loop nest becomes LLVM's code
    products      and so does a product of matrices
    matrices      access to their elements, and copies from one layout to another
    contractions  and a product along any axes
    functions     and an element-wise function; elementary, trigonometry, normal, division and
                  lanes are what it consists of
    random        a NumPy generator's random numbers
    loops         counted loops and vectors
    segments      kernels, one after another, become a function that Python calls
    failures      the checks of such a function, and the errors that they raise
    runtime       the code runs on this processor
    native        the back end itself, which the compiler asks
    export        a program becomes an object file instead
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....errors import optional

if TYPE_CHECKING:
    from .native import LLVM


def backend() -> LLVM:
    """The back end. An ImportError says why there is none here, as without llvmlite."""
    optional("llvmlite", 'compile(backend="llvm")')
    from . import runtime  # it imports llvmlite
    from .native import LLVM

    reason = runtime.why_not()
    if reason is not None:
        raise ImportError(f'compile(backend="llvm"): {reason}: choose backend="numpy"')
    return LLVM()
