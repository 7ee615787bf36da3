"""What the benchmark `parallel` runs on each rank: it prints its times as JSON, on rank 0."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import nn, parallel

NETWORKS = {
    "64-128-10": (64, 128, 10),
    "784-256-128-10": (784, 256, 128, 10),
    "1024x4": (1024,) * 5,
}
BATCH = 1024  # samples of all ranks together, or of each one
SIZES = (1 << 4, 1 << 12, 1 << 17, 1 << 20)  # float32 numbers of an Allreduce


def least(call: Callable[[], Any], comm: Any, seconds: float) -> float:
    """The shortest elapsed time of a call that all ranks make together."""
    best, end, goes_on = float("inf"), time.perf_counter() + seconds, True
    while goes_on:
        comm.Barrier()
        start = time.perf_counter()
        call()
        best = min(best, comm.allreduce(time.perf_counter() - start, op=_greatest()))
        goes_on = comm.bcast(time.perf_counter() < end)
    return best


def _greatest() -> Any:
    from mpi4py import MPI

    return MPI.MAX


def _in_place() -> Any:
    from mpi4py import MPI

    return MPI.IN_PLACE


def steps(widths: tuple[int, ...], batch: int, comm: Any) -> tuple[Callable[[], Any], int]:
    """A training step on so many samples of this rank, and the numbers that it averages."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, widths[0])).astype(np.float32)
    y = rng.normal(size=(batch, widths[-1])).astype(np.float32)
    hidden = {"activation": "tanh", "output_activation": "linear"}
    model = tg.MLP(widths[0], [*widths[1:]], **hidden, rng=0).astype(np.float32)  # type: ignore[arg-type]
    parallel.broadcast(model, comm)
    optimizer = parallel.DistributedOptimizer(tg.optim.SGD(model.parameters(), lr=1e-3), comm)

    @tg.compile
    def step(x: Any, y: Any) -> Any:
        loss = nn.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(len(x))
        return loss

    return partial(step, x, y), sum(p.size for p in model.parameters())


def main() -> None:
    comm, seconds = parallel.world(), float(sys.argv[1])
    reductions = []
    for size in SIZES:
        vector = np.zeros(size, np.float32)
        call = lambda vector=vector: comm.Allreduce(_in_place(), vector)  # noqa: E731
        reductions.append((4 * size, least(call, comm, seconds)))
    times = {}
    for name, widths in NETWORKS.items():
        for kind, batch in ("strong", BATCH // comm.size), ("weak", BATCH):
            step, size = steps(widths, batch, comm)
            for _ in range(30):  # it is compiled meanwhile
                step()
            times[name, kind] = least(step, comm, 4 * seconds), size
    if comm.rank == 0:
        rows = [[*key, *value] for key, value in times.items()]
        print(json.dumps({"reductions": reductions, "steps": rows}))


if __name__ == "__main__":
    main()
