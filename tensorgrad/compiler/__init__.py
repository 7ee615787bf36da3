"""The compiler: a function becomes one flat program of NumPy calls.

What happens when a function is called with arguments of a new kind, file by file:

    program     the calls and values that all others work on
    functions   the functions that programs call besides NumPy's
    ops         what is known of each function, and what may be done with its calls
    numbers     what a traced function computes with numbers, such as counts of steps
    strides     how arrays lie in memory, where that decides between a view and a copy
    tracer      an array that notes what is done with it
    recording   the calls that are noted, the values that they read and write, and the memory
    tracing     the function runs once, on such arrays: the trace is all that it did
    executed    the code that runs meanwhile, and what it names
    objects     what Python's objects hold, found without running code of theirs
    snapshot    what the function changes of Python's, which no program could repeat, is undone
    guards      what it has read of Python's state; checks test that in each call
    progress    long compilations say on a terminal what they are doing
    costs       what calls cost on this processor, measured, for passes that choose by it
    passes      the program becomes another one that takes less time, step by step
    printing    a program as text
    verifier    what must be true of every program
    stages      the passes run one after another, all or those that were chosen
    interpreter a program's results without plan and generated code, to test passes by
    buffers     each array gets a place in one block of memory
    code        lines of Python, and the objects that their names stand for
    backends    the calls become lines, for NumPy the cheapest one for each call
    wrapper     the lines around them: does the plan fit, gradients, results
    plan        all of them become functions; report prints and times the calls
    arguments   what of a call's arguments is its signature, and where the arrays are
    nested      bodies of loops and conditions become programs of their own
    compiled    `compile` itself: which plan fits a call, and when another is needed
"""

from . import nested  # noqa: F401 (loops and conditions use it)
from .compiled import MANY, Compiled, Supervisor, compile  # noqa: A004 (as in PyTorch)

__all__ = ["MANY", "Compiled", "Supervisor", "compile"]
