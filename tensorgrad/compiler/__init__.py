"""The compiler: a function becomes one flat program of NumPy calls.

A call of a compiled function, file by file. If no program fits its arguments, one is made:

    compiled     `compile`: which program fits a call, and when another is made
    choice       by which back end: NumPy's first, and native code where it pays (turns), unless
                 NumPy has to report floating-point errors (error_settings)
    arguments    what of a call's arguments is its signature, and where the arrays are
    tracing      the function runs once, on arrays (tracer) whose calls are noted (recording)
    snapshot     what the function changes of Python's, which no program could repeat, is undone
    guards       what it has read of Python's state (executed, objects); checks test it in each call
    results      what the call leaves behind: what the function returns, and gradients
    nested       bodies of loops and conditions become programs of their own
    ir           the result: calls, the values that they read and make, and the memory of these
    ops          what is known of each function that is called, NumPy's and those in functions
    numbers      arithmetic of single numbers, such as counts of steps
    strides      how arrays lie in memory, where that decides between a view and a copy
    passes       the program becomes another one that takes less time, step by step
    costs        what calls cost on this processor, measured, for passes that choose by it
    stages       the passes in their order; each stage can be printed, verified and interpreted
    buffers      each array gets a place in one block of memory
    backends     each call becomes lines of code, written in the names of code
    wrapper      the lines around them: does the program fit, gradients, results
    plan         all of them become functions, for one call and for many; report times the lines

Then, and in each later call with such arguments, `plan.replay` runs: it tests the guards, makes the
calls and returns the results. How to add to it: `docs/add-a-pass.md`, `docs/add-a-back-end.md`.
"""

from . import nested  # noqa: F401 (loops and conditions use it)
from .compiled import MANY, Compiled, Supervisor, compile  # noqa: A004 (as in PyTorch)
from .plan import Plan
from .results import Stacked
from .turns import Turns

__all__ = ["MANY", "Compiled", "Plan", "Stacked", "Supervisor", "Turns", "compile"]
