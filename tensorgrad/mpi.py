"""The ranks of MPI: processes that work together, and end together.

All exchanges between ranks start with `meet`. A rank that ends meets the others once more: so they
notice that it has ended, and do not wait for it.
"""

from __future__ import annotations

import atexit
import sys
import time
import traceback
from types import TracebackType
from typing import Any

import numpy as np

from .errors import optional

PATIENCE = 1.0  # seconds, within which the first ranks can report an error that all ranks have


def world() -> Any:
    """Return the communicator of all ranks, and let a failure of one of them end the whole job.

    Without this, the others would wait for the failed rank for ever. A failure is an exception that
    nothing catches, or the end of a rank while others train. Started without `mpiexec`, a program
    has one rank.
    """
    comm = mpi().COMM_WORLD
    end_together(comm)
    return comm


def mpi() -> Any:
    """The module of MPI."""
    return optional("mpi4py.MPI", "tensorgrad.parallel")


# -- exchanges


STEP, GATHER, SEND, END = range(4)
DOING = "takes a step", "gathers results", "shares the first rank's values", "has ended"


def meet(comm: Any, doing: int, samples: int = 0) -> int:
    """Wait for all ranks, and return the sum of their samples.

    Raises RuntimeError, on all ranks, unless all are about to do the same.
    """
    total, everyones = _meet(comm, doing, samples)
    for rank, other in enumerate(everyones):
        if other != everyones[0]:
            raise RuntimeError(
                f"rank 0 {DOING[everyones[0]]}, and rank {rank} {DOING[other]}: all ranks must "
                "take the same number of steps; to end all of them, raise an exception"
            )
    return total


def _meet(comm: Any, doing: int, samples: int = 0) -> tuple[int, list[int]]:
    """Wait for all ranks; return the sum of their samples and, if they differ, what all do."""
    own = np.array([samples, *(doing == i for i in range(len(DOING)))], np.int64)
    sums = np.empty_like(own)
    comm.Allreduce(own, sums)
    total, *ranks_doing = sums.tolist()
    return total, [] if ranks_doing[doing] == comm.size else comm.allgather(doing)


def gather(comm: Any, value: Any) -> list[Any]:
    """Return the values of all ranks, on each of them."""
    meet(comm, GATHER)
    return comm.allgather(value)  # type: ignore[no-any-return]


def of_first(comm: Any, value: Any) -> Any:
    """Return the first rank's value on all ranks."""
    meet(comm, SEND)
    return comm.bcast(value if comm.rank == 0 else None)


def require_alike(comm: Any, values: dict[str, Any], where: str, cure: str) -> None:
    """Raise a ValueError, on all ranks, unless these named values are the same on all ranks."""
    first, *others = gather(comm, values)
    for rank, other in enumerate(others, 1):
        for name in first | other:
            if (there := other.get(name)) != (here := first.get(name)):
                raise ValueError(
                    f"{where}: {name} is {there} on rank {rank}, and {here} on rank 0: {cure}"
                )


# -- the end

_joined: set[int] = set()  # the communicators whose ranks end together


def end_together(comm: Any) -> None:
    """Let an exception that nothing catches, or the end of one rank alone, end all ranks."""
    if comm.size == 1 or comm.handle in _joined:
        return
    _joined.add(comm.handle)
    atexit.register(_end, comm)

    def end_all(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        time.sleep(PATIENCE * comm.rank / comm.size)
        traceback.print_exception(kind, error, at)
        print(f"rank {comm.rank} of {comm.size} ends all ranks", file=sys.stderr, flush=True)
        comm.Abort(1)

    sys.excepthook = end_all


def _end(comm: Any) -> None:
    """Wait until all ranks end; meanwhile, those that do not are told so."""
    while not mpi().Is_finalized() and comm and _meet(comm, END)[1]:
        pass
