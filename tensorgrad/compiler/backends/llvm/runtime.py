"""LLVM's target machine and JIT compiler, and what native code needs of Python and NumPy.

`compile` makes a `Library` of a module of IR; `builtin` makes a Python function of one of the
library's C functions. The helpers that write IR, such as `array_data`, do what a C extension does
by macros. The C API of Python is called at the addresses that `ctypes.pythonapi` knows: neither
headers nor symbols of other libraries are needed.

Everything here may be called from several threads. A process may fork: the fork waits for the end
of a compilation, since a child could not finish it. Ctrl-C may come at any time: LLVM runs in a
thread of its own, which finishes.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import subprocess
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ....errors import optional

if TYPE_CHECKING:
    from llvmlite import binding, ir

Result = TypeVar("Result")
_METH_FASTCALL = 0x80
# Every call of LLVM is made with this lock, the freeing of objects too: a fork inside of a call of
# another thread would leave llvmlite's own lock locked in the child. The lock is recursive, since
# the garbage collector can free a library while another one is compiled.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


@functools.cache
def _llvm() -> Any:
    """Return llvmlite.binding, ready to make code for this processor."""
    llvm = optional("llvmlite.binding", "native code")
    with _lock:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def _ir() -> Any:
    return optional("llvmlite.ir", "native code")


@functools.cache
def why_not() -> str | None:
    """Return why native code cannot be used in this process, or None if it can."""
    if sys.implementation.name != "cpython":
        return f"native code needs CPython, not {sys.implementation.name}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "native code is not made for free-threaded builds of Python"
    try:
        with _lock:
            _llvm().check_jit_execution()
    except (ImportError, OSError) as error:
        return str(error)
    if not host().fma:
        return "native code needs a processor with fused multiply-add instructions"
    if not _arrays_are_as_expected():
        return f"the arrays of NumPy {np.__version__} have another layout in memory than expected"
    return None


class _ArrayFields(ctypes.Structure):
    """What native code reads of an array, from its type on: NumPy's PyArrayObject_fields."""

    _fields_ = (
        ("type", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("ndim", ctypes.c_int),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("base", ctypes.c_void_p),
        ("dtype", ctypes.c_void_p),
    )


def _arrays_are_as_expected() -> bool:
    """Tell whether NumPy's arrays have the fields that native code reads, where it reads them."""
    whole = np.zeros((4, 6), np.float32)
    arrays = [whole, whole[1:, ::2], whole.T, np.array(1.0), np.zeros((0, 3))]
    before = object.__basicsize__ - ctypes.sizeof(ctypes.c_void_p)
    for array in arrays:
        found = _ArrayFields.from_address(id(array) + before)
        scalars = found.type, found.data, found.ndim, found.dtype
        if scalars != (id(np.ndarray), array.ctypes.data, array.ndim, id(array.dtype)):
            return False
        lengths = found.shape[: array.ndim], found.strides[: array.ndim]
        if lengths != ([*array.shape], [*array.strides]):
            return False
    return True


@dataclass(frozen=True)
class Target:
    """A processor for which code is made, in LLVM's names."""

    triple: str
    cpu: str
    features: str
    data_layout: str
    vector_bytes: int
    registers: int  # vector registers
    fma: bool  # it multiplies and adds in one instruction
    alone: bool = False  # the code runs without Python and NumPy, in a program of its own

    def lanes(self, dtype: np.dtype[Any]) -> int:
        """Return the number of elements of a vector."""
        return self.vector_bytes // dtype.itemsize


@functools.cache
def host() -> Target:
    """Return the processor of this machine."""
    llvm = _llvm()
    with _lock:
        triple, cpu = llvm.get_process_triple(), llvm.get_host_cpu_name()
        features = llvm.get_host_cpu_features()
        with _machine(triple, cpu, features.flatten()) as machine:
            layout = str(machine.target_data)
    size, registers, fma = 16, 32, True  # of ARM and others
    if triple.startswith(("x86_64", "i386", "i686")):
        wide, fma = features.get("avx512vl"), features.get("fma", False)
        # Twice as fast as 32 bytes in products where a processor has the units, never slower.
        size, registers = (64, 32) if wide else (32, 16)
    return Target(triple, cpu, features.flatten(), layout, size, registers, fma)


_other: ContextVar[Target | None] = ContextVar("_other", default=None)


def target() -> Target:
    """Return the processor for which code is written: this machine's, or that of `made_for`."""
    return _other.get() or host()


@contextlib.contextmanager
def made_for(other: Target) -> Iterator[None]:
    """A block that writes code for another processor."""
    token = _other.set(other)
    try:
        yield
    finally:
        _other.reset(token)


@functools.cache
def target_of(triple: str | None, cpu: str | None, features: str | None) -> Target:
    """Return a processor in LLVM's names, by default this machine's, for code that runs alone.

    With a triple or a `cpu`, the others are by default the least that LLVM knows. Raises ValueError
    for names that it does not know.
    """
    if triple is None and cpu is None and features is None:
        return replace(host(), alone=True)
    triple, cpu, features = triple or host().triple, cpu or "", features or ""
    # LLVM writes its complaints to stderr, and some names end the process: not this one.
    names = "llvm", triple, cpu, features
    found = subprocess.run([sys.executable, "-c", _PROBE, *names], capture_output=True, text=True)
    if found.returncode or found.stderr:
        version = ".".join(map(str, _llvm().llvm_version_info))
        said = [s for s in found.stderr.splitlines() if s and not s.startswith((" ", "Traceback"))]
        raise ValueError(
            f"LLVM {version}, which llvmlite has, makes no code for {triple!r}, cpu={cpu!r}, "
            f"features={features!r}: {'; '.join(dict.fromkeys(said))}"
        )
    layout, _, assembly = found.stdout.partition("\n")
    if layout.startswith("E"):
        raise ValueError(f"the target {triple!r} stores the highest byte first: not supported")
    with _lock:
        _llvm().initialize_all_targets()
        _llvm().initialize_all_asmprinters()
    size = 64 if "zmm" in assembly else 32 if "ymm" in assembly else 16
    few = [n for name, n in _REGISTERS.items() if triple.startswith(name)]
    registers = few[0] if few and size < 64 else 32
    has_fma = "fmaf" not in assembly  # the function of C
    return Target(triple, cpu, features, layout, size, registers, has_fma, alone=True)


# Of vectors of 16 or 32 bytes; without vector instructions, LLVM makes four of 32 small ones.
_REGISTERS = {"x86_64": 16, "i386": 8, "i686": 8, "arm": 16, "thumb": 8, "riscv": 8}
# Prints how data lies in memory, and code whose instructions say what a processor has.
_PROBE = """
import sys
from llvmlite import binding as llvm
triple, cpu, features = sys.argv[2:]
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
target = llvm.Target.from_triple(triple)
machine = target.create_target_machine(cpu=cpu, features=features)
print(machine.target_data)
vector = "<16 x float>"
print(machine.emit_assembly(llvm.parse_assembly(f'''
declare {vector} @llvm.fma.v16f32({vector}, {vector}, {vector})
define void @probe(ptr %p) {{
  %x = load {vector}, ptr %p
  %y = call {vector} @llvm.fma.v16f32({vector} %x, {vector} %x, {vector} %x)
  store {vector} %y, ptr %p
  ret void
}}''')))
"""


def _machine(triple: str, cpu: str, features: str, jit: bool = True) -> binding.TargetMachine:
    """LLVM's machine; its code runs in this process, or lies in a file that can be linked."""
    made = _llvm().Target.from_triple(triple)
    if jit:
        return made.create_target_machine(cpu=cpu, features=features, opt=2, jit=True)
    is_fixed = triple.startswith("wasm") or "-none" in triple  # at an address known to the linker
    model = "static" if is_fixed else "pic"
    return made.create_target_machine(
        cpu=cpu, features=features, opt=3, reloc=model, codemodel="default"
    )


@functools.cache
def _passes() -> binding.ModulePassManager:
    """Return the passes over a module: few, since the IR is written as it is to run."""
    with _lock:
        passes = _llvm().create_new_module_pass_manager()
        passes.add_always_inliner_pass()
        passes.add_sroa_pass()
        passes.add_instruction_combine_pass()
        passes.add_simplify_cfg_pass()
    return passes


def _apart(fun: Callable[[], Result]) -> Result:
    """Call a function in another thread, where no Ctrl-C comes: LLVM's objects need an order.

    A module that is freed after its context, or an engine after its module, crashes the process.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(fun())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors.pop()
    return results.pop()


@contextlib.contextmanager
def _optimized(
    text: str, target: Target
) -> Iterator[tuple[binding.ModuleRef, binding.TargetMachine]]:
    """Parse, verify and optimise a module; free it at the end."""
    llvm = _llvm()
    with (
        _lock,
        llvm.create_context() as context,
        llvm.parse_assembly(text, context) as module,
        _machine(target.triple, target.cpu, target.features, not target.alone) as machine,
    ):
        module.verify()
        # A builder serves one run: it keeps pointers to what lives no longer than the run.
        with (
            llvm.create_pipeline_tuning_options() as options,
            llvm.create_pass_builder(machine, options) as builder,
        ):
            _passes().run(module, builder)
        yield module, machine


class Library:
    """Machine code in this process, made of the text of a module. It is freed with this object."""

    def __init__(self, text: str, target: Target) -> None:
        self.ir = text
        self._target = target
        with _optimized(text, target) as (module, machine):
            engine = _llvm().create_mcjit_compiler(module, machine)
            weakref.finalize(self, _close, engine)
            functions = [*module.functions]
            for function in functions:
                if function.is_declaration and not function.name.startswith("llvm."):
                    engine.add_global_mapping(function, _c_api_address(function.name))
            engine.finalize_object()
            self._addresses: dict[str, int] = {
                function.name: engine.get_function_address(function.name)
                for function in functions
                if not function.is_declaration and function.linkage.name == "external"
            }
            engine.remove_module(module)

    def address(self, name: str) -> int:
        """Return the address of a function of the module that is visible from outside."""
        return self._addresses[name]

    @property
    def assembly(self) -> str:
        """The machine code as text. It is made anew each time."""

        def emit() -> str:
            with _optimized(self.ir, self._target) as (module, machine):
                return str(machine.emit_assembly(module))

        return _apart(emit)


def _close(engine: binding.ExecutionEngine) -> None:
    with _lock:
        engine.close()


def _c_api_address(name: str) -> int:
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    return address


def compile(module: ir.Module) -> Library:
    """Compile a module for this machine.

    A function that the module declares without a body is one of Python's C API: see `c_api`.
    """
    target = host()
    module.triple, module.data_layout = target.triple, target.data_layout
    return _apart(lambda: Library(str(module), target))


def compiled_for(module: ir.Module, target: Target) -> tuple[bytes, str]:
    """Return an object file of a module, for a target, and the same code as text."""
    module.triple, module.data_layout = target.triple, target.data_layout

    def emit() -> tuple[bytes, str]:
        with _optimized(str(module), target) as (optimized, machine):
            return machine.emit_object(optimized), str(machine.emit_assembly(optimized))

    return _apart(emit)


class _MethodDef(ctypes.Structure):
    """PyMethodDef of the C API."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class _Owner:
    """The `__self__` of a built-in function: it owns what has to live as long as the function."""

    def __init__(self, definition: _MethodDef, library: Library, keep: tuple[object, ...]) -> None:
        self.owned = definition, library, keep


_new_builtin = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p
)(("PyCFunction_NewEx", ctypes.pythonapi))


def builtin(library: Library, name: str, *keep: object) -> Callable[..., Any]:
    """Make a Python function of a function of the library that `builtin_function` began.

    A call costs what a call of a C extension costs; one by ctypes takes several times as long. The
    function keeps the library alive, and `keep`: the arrays whose addresses are in its code.
    """
    definition = _MethodDef(name.encode(), library.address(name), _METH_FASTCALL, None)
    owner = _Owner(definition, library, keep)
    function: Callable[..., Any] = _new_builtin(ctypes.addressof(definition), owner, None)
    return function


def builtin_function(module: ir.Module, name: str) -> tuple[ir.IRBuilder, ir.Value]:
    """Begin a function that Python calls; return its builder and the pointer to its arguments.

    The code must end with the return of a new reference, such as `none`.
    """
    ir = _ir()
    pointer, size = ir.PointerType(), ir.IntType(8 * ctypes.sizeof(ctypes.c_ssize_t))
    function = ir.Function(module, ir.FunctionType(pointer, [pointer, pointer, size]), name)
    return ir.IRBuilder(function.append_basic_block("entry")), function.args[1]


def array_data(builder: ir.IRBuilder, arguments: ir.Value, index: int) -> ir.Value:
    """Return the data pointer of an argument, which must be an `np.ndarray`."""
    ir = _ir()
    pointer = ir.PointerType()
    size = ir.IntType(8 * ctypes.sizeof(ctypes.c_ssize_t))
    slot = builder.gep(arguments, [size(index)], source_etype=pointer)
    field = builder.gep(
        builder.load(slot, typ=pointer), [size(object.__basicsize__)], source_etype=ir.IntType(8)
    )
    return builder.load(field, typ=pointer)


def c_api(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Call a function of Python's C API."""
    ir = _ir()
    function = builder.module.globals.get(name)
    if function is None:
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        function = ir.Function(builder.module, signature, name)
    return builder.call(function, arguments)


def none(builder: ir.IRBuilder) -> ir.Value:
    """Return a new reference to None."""
    ir = _ir()
    size = ir.IntType(8 * ctypes.sizeof(ctypes.c_ssize_t))
    value = size(id(None)).inttoptr(ir.PointerType())
    c_api(builder, "Py_IncRef", ir.VoidType(), value)
    return value


def new_float(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return a new Python float of a float or double."""
    ir = _ir()
    if value.type == ir.FloatType():
        value = builder.fpext(value, ir.DoubleType())
    return c_api(builder, "PyFloat_FromDouble", ir.PointerType(), value)


@contextlib.contextmanager
def without_gil(builder: ir.IRBuilder) -> Iterator[None]:
    """Let other threads of Python run during the code that is written inside."""
    ir = _ir()
    state = c_api(builder, "PyEval_SaveThread", ir.PointerType())
    yield
    c_api(builder, "PyEval_RestoreThread", ir.VoidType(), state)
