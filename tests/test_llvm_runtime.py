"""Native code: compiled, called as a built-in function, freed; by threads and after a fork."""

import dataclasses
import gc
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorgrad.compiler.backends.llvm import runtime

ir = pytest.importorskip("llvmlite.ir")

F64 = ir.DoubleType()


def sum_of_first_two(name: str = "add", *, without_gil: bool = False) -> ir.Module:
    """A function of two arrays that returns the sum of their first elements as a float."""
    module = ir.Module(name)
    builder, arguments = runtime.builtin_function(module, name)

    def write() -> ir.Value:
        pointers = [runtime.array_data(builder, arguments, k) for k in range(2)]
        return builder.fadd(*[builder.load(pointer, typ=F64) for pointer in pointers])

    if without_gil:
        with runtime.without_gil(builder):
            total = write()
    else:
        total = write()
    builder.ret(runtime.new_float(builder, total))
    return module


def function(**options: Any) -> Callable[..., float]:
    return runtime.builtin(runtime.compile(sum_of_first_two(**options)), "add")


def test_native_code_can_be_used_here() -> None:
    assert runtime.why_not() is None


def test_the_reason_names_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    for cached in (runtime._llvm, runtime.why_not):
        cached.cache_clear()
    reason = runtime.why_not()
    for cached in (runtime._llvm, runtime.why_not):
        cached.cache_clear()
    assert reason == "native code needs llvmlite: python -m pip install llvmlite"


def test_the_reason_names_the_build_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.sysconfig, "get_config_var", lambda name: name == "Py_GIL_DISABLED")
    assert "free-threaded" in str(runtime.why_not.__wrapped__())


def test_the_reason_names_the_layout_of_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_arrays_are_as_expected", lambda: False)
    assert f"NumPy {np.__version__} have another layout" in str(runtime.why_not.__wrapped__())


def test_the_reason_names_an_old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    old = dataclasses.replace(runtime.host(), fma=False)
    monkeypatch.setattr(runtime, "host", lambda: old)
    assert "multiply-add" in str(runtime.why_not.__wrapped__())


@pytest.mark.parametrize("without_gil", [False, True])
def test_a_builtin_function_reads_arrays_and_returns_a_float(without_gil: bool) -> None:
    add = function(without_gil=without_gil)
    a, b = np.arange(6.0)[4:], np.full((2, 2), 0.5)
    assert add(a, b) == 4.5
    assert add(a[1:], b.T) == 5.5
    assert type(add(a, b)) is float


def test_references_are_counted() -> None:
    module = ir.Module("nothing")
    builder, _ = runtime.builtin_function(module, "nothing")
    builder.ret(runtime.none(builder))
    nothing = runtime.builtin(runtime.compile(module), "nothing")
    array = np.zeros(2)
    before = sys.getrefcount(None), sys.getrefcount(array)
    for _ in range(1000):
        assert nothing(array) is None
    after = sys.getrefcount(None), sys.getrefcount(array)
    assert after[1] == before[1]
    assert abs(after[0] - before[0]) < 100


@pytest.mark.usefixtures("no_collector")
def test_the_function_keeps_its_library_and_its_arrays_alive() -> None:
    library, array = runtime.compile(sum_of_first_two()), np.ones(3)
    add = runtime.builtin(library, "add", array)
    kept = weakref.ref(library), weakref.ref(array)
    del library, array
    assert all(reference() is not None for reference in kept)
    assert add(np.ones(1), np.ones(1)) == 2
    del add
    assert all(reference() is None for reference in kept)


def test_memory_does_not_grow_with_compilations() -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not tell this process's memory")

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(20):
        function()
    before = resident()
    for _ in range(400):
        function()
    assert (resident() - before) * 4 < 3000  # KiB; a library takes 16 at least


def test_the_text_of_a_library() -> None:
    library = runtime.compile(sum_of_first_two())
    assert "PyFloat_FromDouble" in library.ir
    assert "PyFloat_FromDouble" in library.assembly
    assert library.assembly == library.assembly
    with pytest.raises(KeyError):
        library.address("subtract")


def test_wrong_code_is_not_compiled() -> None:
    module = ir.Module("wrong")
    runtime.builtin_function(module, "open")  # a block without an end
    with pytest.raises(RuntimeError):
        runtime.compile(module)


def test_threads_compile_and_call_at_the_same_time() -> None:
    results: list[float] = []

    def work(k: int) -> None:
        add = function(without_gil=bool(k % 2))
        results.extend(add(np.full(1, float(k)), np.ones(1)) for _ in range(50))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(k + 1.0 for k in range(6) for _ in range(50))


def test_ctrl_c_while_llvm_works_frees_all_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = pytest.importorskip("llvmlite.binding").ExecutionEngine
    finish = engines.finalize_object

    def interrupted(engine: Any) -> None:
        finish(engine)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(engines, "finalize_object", interrupted)
    with pytest.raises(KeyboardInterrupt):
        function()
    monkeypatch.undo()
    gc.collect()
    one = np.ones(1)
    assert function()(one, one) == 2


def test_other_threads_run_while_native_code_runs() -> None:
    """The function waits for a flag that another thread sets."""
    module = ir.Module("wait")
    builder, arguments = runtime.builtin_function(module, "wait")
    flag = runtime.array_data(builder, arguments, 0)
    with runtime.without_gil(builder):
        again, end = builder.append_basic_block(), builder.append_basic_block()
        builder.branch(again)
        builder.position_at_end(again)
        value = builder.load_atomic(flag, "monotonic", 8, typ=ir.IntType(64))
        builder.cbranch(builder.icmp_signed("!=", value, ir.IntType(64)(0)), end, again)
        builder.position_at_end(end)
    builder.ret(runtime.none(builder))
    wait, array = runtime.builtin(runtime.compile(module), "wait"), np.zeros(1, np.int64)
    threading.Timer(0.01, array.fill, (1,)).start()
    wait(array)
    assert array[0] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_calls_and_compiles() -> None:
    add = function()
    stop = threading.Event()

    def compile_all_the_time() -> None:
        while not stop.is_set():
            function()

    other = threading.Thread(target=compile_all_the_time)
    other.start()
    try:
        for _ in range(3):
            child = multiprocessing.get_context("fork").Process(target=_in_the_child, args=(add,))
            child.start()
            child.join(30)
            assert child.exitcode == 0
    finally:
        stop.set()
        other.join()


def _in_the_child(add: Callable[..., float]) -> None:
    one = np.ones(1)
    assert add(one, one) == function()(one, one) == 2
