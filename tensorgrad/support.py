"""`python -m tensorgrad support`: which public NumPy functions have derivatives on tensors."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Callable, Iterator
from inspect import isclass, ismodule

import numpy as np

from . import nn, scipy, solvers, special
from .engine.registry import COMPOSITES, CONSTANTS, IN_PLACE, RULES
from .engine.tensor import Tensor
from .engine.typing import Function
from .guide import CURES, cures
from .rules.constants import DESCRIPTIONS

# A deprecated alias of vstack: a call of it reaches tensors as a call of vstack.
DIFFERENTIABLE = "row_stack"

# Functions whose results do not depend on the values of a tensor: they make arrays of numbers or
# of other objects, return information, or configure NumPy.
CONSTANT = """
    arange bartlett blackman diag_indices empty eye fft.fftfreq fft.rfftfreq fromfunction hamming
    hanning identity indices mask_indices ones tri tril_indices triu_indices zeros
    from_dlpack frombuffer fromfile fromiter fromregex fromstring genfromtxt load loadtxt
    base_repr binary_repr broadcast_shapes datetime_data format_float_positional
    format_float_scientific isdtype isfortran isscalar issubdtype iterable mintypecode promote_types
    typename
    frompyfunc get_include get_printoptions getbufsize geterr geterrcall info nested_iters
    printoptions set_printoptions setbufsize seterr seterrcall show_config show_runtime
    test linalg.test fft.test
"""

# Functions that raise an error for a tensor that requires grad, by the reason.
NOT_SUPPORTED = {
    "made for plain arrays: use tensorgrad.asarray, numpy.copy or numpy.stack": """
        array asanyarray asarray asarray_chkfinite ascontiguousarray asfortranarray asmatrix bmat
        full kaiser require""",
    "made for whole numbers, bits or dates": """
        bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or
        bitwise_right_shift bitwise_xor busday_count busday_offset datetime_as_string gcd invert
        is_busday isnat ix_ lcm left_shift packbits ravel_multi_index right_shift unpackbits
        unravel_index""",
    "deprecated: use isin, and trapezoid": "in1d trapz",
    "counts in bins have no useful derivative: use t.detach()": """
        histogram histogram2d histogram_bin_edges histogramdd""",
}

# Conventions of derivatives, and the functions that they are about.
CONVENTIONS = {
    "only one triangle of the matrix is read, so the gradient g is 0 in the other; for symmetric "
    "matrices, use (g + g.mT) / 2, which PyTorch and JAX return": """
        linalg.cholesky linalg.eigh linalg.eigvalsh linalg.pinv(hermitian=True)
        linalg.svd(hermitian=True)""",
    "the signs of vectors are NumPy's choice; results that depend on the vectors of equal values "
    "have the derivative NaN": "linalg.eig linalg.eigh linalg.qr linalg.svd",
}


CLASSES: dict[str, Callable[[str, Function], bool]] = {
    "differentiable": lambda name, fun: (
        fun in RULES or fun in COMPOSITES or fun in IN_PLACE or name in DIFFERENTIABLE.split()
    ),
    "piecewise constant": lambda _, fun: fun in CONSTANTS and fun not in DESCRIPTIONS,
    "constant": lambda name, fun: fun in DESCRIPTIONS or name in CONSTANT.split(),
    "not supported": lambda name, _: any(name in names.split() for names in NOT_SUPPORTED.values()),
}


# What each class means for a tensor.
MEANING = {
    "differentiable": "",
    "piecewise constant": ": the result requires no grad",
    "constant": ": the result does not depend on the values",
    "not supported": ": an error on a tensor that requires grad",
}


def functions() -> dict[str, Function]:
    """The public functions of `numpy`, `numpy.linalg` and `numpy.fft`, by name."""
    modules = {"": np, "linalg.": np.linalg, "fft.": np.fft}
    return {
        prefix + name: fun
        for prefix, module in modules.items()
        for name, fun in sorted(vars(module).items())
        if callable(fun) and not (name.startswith("_") or isclass(fun) or ismodule(fun))
    }


def support() -> dict[str, list[str]]:
    """The names of the functions in each class.

    >>> from tensorgrad.support import support
    >>> table = support()
    >>> [next(kind for kind in table if name in table[kind]) for name in ("tanh", "ceil", "shape")]
    ['differentiable', 'piecewise constant', 'constant']
    """
    return {
        kind: [name for name, fun in functions().items() if belongs(name, fun)]
        for kind, belongs in CLASSES.items()
    }


def about(name: str) -> str:
    """Describe the functions of that name, which may begin with a module.

    Raises LookupError, with similar names, if there is none.

    >>> from tensorgrad.support import about
    >>> print(about("np.ceil"))
    numpy.ceil: piecewise constant: the result requires no grad
    """
    known = _known()
    for short, long in FULL_NAMES.items():
        name = long + name.removeprefix(short) if name.startswith(f"{short}.") else name
    found = [text for full, text in known.items() if f".{full}".endswith(f".{name}")]
    if found:
        return "\n".join(found)
    end = name.rpartition(".")[2]
    cure = next((cure for where in CURES for theirs, cure in cures(where) if theirs == end), None)
    ends = {full.rpartition(".")[2]: full for full in known}
    close = [ends[match] for match in difflib.get_close_matches(end, ends)]
    raise LookupError(
        "no function of numpy, tensorgrad.nn, tensorgrad.scipy, tensorgrad.solvers or "
        f"tensorgrad.special is called {name!r}"
        + (f"; here it is {cure.removeprefix('# ')}" if cure else "")
        + (f"; similar names: {', '.join(close)}" if close and not cure else "")
    )


def _known() -> dict[str, str]:
    """The description of each function, by its full name."""
    kinds = {name: kind for kind, names in support().items() for name in names}
    descriptions = {}
    for name, fun in functions().items():
        kind = kinds[name]
        reasons = [r for r, names in NOT_SUPPORTED.items() if name in names.split()]
        notes = [
            f"with {options.rstrip(')')}, {note}" if options else note
            for note, listed in CONVENTIONS.items()
            for listed_name, _, options in [item.partition("(") for item in listed.split()]
            if listed_name == name
        ]
        description = "; ".join([f"{kind}{MEANING[kind]}", *reasons])
        descriptions[f"numpy.{name}"] = "\n  ".join([f"numpy.{name}: {description}", *notes])
        for method in METHODS if isinstance(fun, np.ufunc) and kind == "differentiable" else ():
            if getattr(np.ufunc, method) in COMPOSITES or getattr(fun, method) in RULES:
                descriptions[f"numpy.{name}.{method}"] = f"numpy.{name}.{method}: differentiable"
    of_scipy = solvers, *(getattr(scipy, name) for name in scipy.__all__ if name != "special")
    for module in nn, special, *of_scipy:
        for name in module.__all__ if module in of_scipy else dir(module):
            if name.islower() and not name.startswith("_"):
                needs = module in of_scipy or (module is special and special.needs_scipy(name))
                note = f"; {NEEDS_SCIPY}" if needs else ""
                descriptions[f"{module.__name__}.{name}"] = (
                    f"{module.__name__}.{name}: differentiable{note}"
                )
    return descriptions


# What the beginning of a name stands for.
FULL_NAMES = {
    "np": "numpy", "tg": "tensorgrad", "scipy.integrate": "tensorgrad.solvers",
    "scipy.optimize": "tensorgrad.solvers", "scipy.special": "tensorgrad.special",
    "scipy": "tensorgrad.scipy",
}  # fmt: skip
NEEDS_SCIPY = "it needs SciPy: python -m pip install scipy"
METHODS = "outer", "reduce", "accumulate", "reduceat", "at"


def report(width: int = 96) -> str:
    """The table as text, in lines of at most `width` characters."""
    lines = [f"The {len(functions())} functions of NumPy {np.__version__}, and their derivatives"]
    for indent, title, names in _sections():
        lines += ["", f"{indent}{title}"]
        lines += [f"    {' '.join(names)}"] if names else []
    return "\n".join(_filled(line, width) for line in lines)


def _sections() -> Iterator[tuple[str, str, list[str]]]:
    """The indent, the title and the names of each section of the report."""
    table = support()
    titles = {k: f"{k[0].upper()}{k[1:]} ({len(table[k])}){MEANING[k]}" for k in table}
    for kind in "differentiable", "piecewise constant", "constant":
        yield "", titles[kind] + (":" if not MEANING[kind] else "."), table[kind]
    yield "", f"{titles['not supported']}.", []
    for reason, listed in NOT_SUPPORTED.items():
        if names := {*listed.split()} & {*table["not supported"]}:
            yield "  ", reason, sorted(names)
    yield "", "Conventions of derivatives:", []
    for convention, listed in CONVENTIONS.items():
        yield "  ", convention, listed.split()
    methods = [m for m in METHODS if getattr(np.ufunc, m) in COMPOSITES]
    yield "", "Methods of ufuncs, also with where= and dtype=; but not at, which writes:", methods
    array = np.empty(0)
    missing = {*dir(array)} - {*dir(Tensor(array))}
    attributes = [a for a in sorted(missing) if not a.startswith("_") and hasattr(array, a)]
    yield "", "Attributes of ndarray that a tensor lacks:", attributes


def _filled(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(
        line.lstrip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
