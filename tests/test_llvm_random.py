"""Random numbers in native code: the bits of NumPy's generators, and their states afterwards."""

import ctypes
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from llvmlite import ir

from tensorgrad.compiler.backends.llvm import random, runtime
from tests.depth import one_in

GENERATORS = [
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.MT19937,
    np.random.Philox,
    np.random.SFC64,
]


def draw(generator: np.random.Generator, count: int, dtype: Any) -> np.ndarray:
    """Draw numbers in native code, between two that stay as they are."""
    module = ir.Module()
    kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
    function = ir.Function(module, kind, "draw")
    builder = ir.IRBuilder(function.append_basic_block())
    random.emit(builder, generator, function.args[0], count, dtype)
    builder.ret_void()
    library = runtime.compile(module)
    out = np.full(count + 2, 7, dtype)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library.address("draw"))
    with generator.bit_generator.lock:
        call(out[1:].ctypes.data)
    assert out[0] == out[-1] == 7
    return out[1:-1]


@pytest.mark.parametrize("bits", GENERATORS, ids=lambda b: b.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_bits_and_states_are_numpys(bits: Any, dtype: Any) -> None:
    numpy, native = (np.random.Generator(bits(3)) for _ in range(2))
    for count in one_in(2, [5, 4, 0, 1, 2, 3, 1000, 1001, 1, 1, 7, 1000]):
        wanted = numpy.random(count, dtype)
        np.testing.assert_array_equal(draw(native, count, dtype), wanted)
        states = [repr(g.bit_generator.state) for g in (native, numpy)]
        assert states[0] == states[1]
        # Half of a number of 64 bits may be left, or not.
        assert native.integers(0, 100, dtype=np.uint32) == numpy.integers(0, 100, dtype=np.uint32)


@pytest.mark.skipif(sys.platform == "win32", reason="NumPy's PCG64 has no integers of 128 bits")
def test_the_steps_of_pcg64_are_written_out() -> None:
    """Those of others are called."""
    texts = {}
    for bits in (np.random.PCG64, np.random.PCG64DXSM):
        module = ir.Module()
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
        builder = ir.IRBuilder(ir.Function(module, kind, "draw").append_basic_block())
        generator = np.random.Generator(bits(0))
        random.emit(builder, generator, builder.function.args[0], 10, np.float32)
        texts[bits] = str(module)
    assert "call" not in texts[np.random.PCG64]
    assert "call" in texts[np.random.PCG64DXSM]
