"""Ahead of time: the files of a plan, for programs in C: an object file and a header."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import TraceError, optional
from ..storage.atomic import replacing
from ..version import __version__
from .ir import Value
from .printing import label_of, spec
from .results import Source
from .stages import run_passes

if TYPE_CHECKING:
    from .backends.llvm.export import Exported
    from .backends.llvm.runtime import Target

_C_TYPES = {
    "float32": "float", "float64": "double", "bool": "uint8_t",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
_RESERVED = frozenset({
    "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break",
    "case", "catch", "char", "class", "compl", "const", "const_cast", "constexpr", "continue",
    "decltype", "default", "delete", "do", "double", "dynamic_cast", "else", "enum",
    "explicit", "export", "extern", "false", "float", "for", "friend", "goto", "if", "inline",
    "int", "long", "main", "mutable", "namespace", "new", "noexcept", "not", "not_eq",
    "nullptr", "operator", "or", "or_eq", "private", "protected", "public", "register",
    "reinterpret_cast", "restrict", "return", "short", "signed", "sizeof", "static",
    "static_assert", "static_cast", "struct", "switch", "template", "this", "thread_local",
    "throw", "true", "try", "typedef", "typeid", "typename", "typeof", "union", "unsigned",
    "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq",
})  # fmt: skip


class Files(NamedTuple):
    """The files that are written, and how code is made: see `Plan.export`."""

    path: Path
    name: str
    weights: str
    threads: bool

    @classmethod
    def of(
        cls, path: str | os.PathLike[str], name: str | None, weights: str, threads: bool
    ) -> Files:
        """The files at a path, whose last part is the function's name, if no other is given."""
        given = Path(path)
        stem = given.with_suffix("") if given.suffix in (".o", ".h") else given
        if weights not in ("inside", "argument"):
            raise ValueError(f"export: weights={weights!r}: choose 'inside' or 'argument'")
        return cls(stem, _required(stem.name if name is None else name), weights, threads)

    def beside(self, suffix: str) -> Path:
        """The file with a suffix."""
        return self.path.with_name(self.path.name + suffix)


def export(
    source: Source, files: Files, target: str | None, cpu: str | None, features: str | None
) -> list[Path]:
    """Write the files of a function; return their paths."""
    parameters = _parameters(source)
    optional("llvmlite", "export")
    from .backends.llvm import export as native, runtime  # they import llvmlite

    processor = runtime.target_of(target, cpu, features)
    program = source.program
    with runtime.made_for(processor):
        for stage in run_passes(program, native.PASSES, lambda _: None):
            program = stage.program
    is_inside = files.weights == "inside"
    exported = native.export(program, files.name, processor, is_inside, files.threads)
    content = {
        files.beside(".o"): exported.code,
        files.beside(".h"): _Header(source, files, parameters, exported, processor).text.encode(),
    }
    if exported.weights:
        content[files.beside(".weights")] = exported.weights
    with ExitStack() as written:  # all of them are replaced in the end
        for path, data in content.items():
            Path(written.enter_context(replacing(path))).write_bytes(data)
    return [*content]


# -- names


class _Parameter(NamedTuple):
    """An argument of the C function: an array that it reads, or a result."""

    name: str
    value: Value
    is_result: bool

    def declared(self, restrict: str) -> str:
        """The declaration, with a word for the qualifier."""
        const = "" if self.is_result else "const "
        return f"{const}{_C_TYPES[self.value.dtype.name]} *{restrict} {self.name}"


def _required(name: str) -> str:
    """The name of a C function, or a ValueError is raised."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name in _RESERVED:
        raise ValueError(
            f"export: {name!r} cannot be the name of a C function: pass another one, name="
            f"{_identifier(name)!r}"
        )
    return name


def _identifier(text: str) -> str:
    """A name in C made of the letters and digits of a text, such as `params['w']`."""
    name = "_".join(re.findall(r"[A-Za-z0-9]+", text)) or "x"
    return f"{name}_" if name in _RESERVED else f"x{name}" if name[0].isdigit() else name


def _parameters(source: Source) -> list[_Parameter]:
    """The arguments of the C function, or a TraceError is raised, which names the cure."""
    results, who = source.results, f"export: {source.function}"
    if results.gradients:
        raise TraceError(f"{who} sets gradients: export a function that only returns arrays")
    outputs = [*zip(results.structure.paths(), results.outputs, strict=True)]
    for path, output in outputs:
        if output.value is None:
            kind, place = type(output.leaf).__name__, f" at {path}" if path else ""
            raise TraceError(
                f"{who} returns a {kind}{place}, which is not computed from its arguments: return "
                "arrays that are"
            )
    if not outputs:
        raise TraceError(f"{who} returns no array: return what the C function is to compute")
    for label, v in zip(source.parameters, source.program.inputs, strict=True):
        if not v.is_c_contiguous:
            raise TraceError(
                f"{who} was traced for {label}, {spec(v)}, that does not lie by rows in memory: "
                "call lower() with np.ascontiguousarray of it"
            )
    found = [(label, v, False) for label, v in zip(source.parameters, source.program.inputs)]
    makes = source.program.outputs
    found += [(_result(path), v, True) for (path, _), v in zip(outputs, makes, strict=True)]
    for label, v, _ in found:
        if v.dtype.name not in _C_TYPES:
            known = ", ".join(_C_TYPES)
            raise TraceError(f"{who}: {label} is of {v.dtype}, which is none of {known}")
    taken = {"weights"}
    return [_Parameter(_unique(label, taken), v, is_result) for label, v, is_result in found]


def _result(path: str) -> str:
    """A name for the result at a path: y, y0, y1 ... or the key of a dict."""
    name = "_".join(re.findall(r"[A-Za-z0-9]+", path))
    return f"y{name}" if not name or name[0].isdigit() else name


def _unique(label: str, taken: set[str]) -> str:
    """A name in C; constants have it in capitals, so that letters alone distinguish it."""
    name = _identifier(label)
    while name.lower() in taken:
        name += "_"
    taken.add(name.lower())
    return name


# -- the header


class _Header:
    """The C header of a function."""

    def __init__(
        self,
        source: Source,
        files: Files,
        parameters: Sequence[_Parameter],
        exported: Exported,
        target: Target,
    ) -> None:
        self._source, self._files, self._parameters = source, files, parameters
        self._exported, self._target = exported, target

    @property
    def text(self) -> str:
        """The header."""
        capitals = self._files.name.upper()
        kind = "int" if self._exported.checks else "void"
        declared = [p.declared(f"{capitals}_RESTRICT") for p in self._parameters]
        sizes = [
            f"#define {capitals}_{p.name.upper()}_SIZE {p.value.size}" for p in self._parameters
        ]
        if self._exported.weights:
            declared.append("const void *weights")
            sizes.append(f"#define {capitals}_WEIGHTS_BYTES {len(self._exported.weights)}")
        comment = "\n".join(f" * {line}".rstrip() for line in self._comment())
        lines = [
            "/*\n" + comment.replace("*/", "* /") + "\n */",
            *(f"#ifndef {capitals}_H", f"#define {capitals}_H", ""),
            *("#include <stdint.h>", "", *sizes, ""),
            *("#ifdef __cplusplus", 'extern "C" {', f"#define {capitals}_RESTRICT", "#else"),
            *(f"#define {capitals}_RESTRICT restrict", "#endif", ""),
            f"{kind} {self._files.name}({', '.join(declared)});",
            *("", f"#undef {capitals}_RESTRICT", "#ifdef __cplusplus", "}", "#endif", "#endif"),
        ]
        return "\n".join([*lines, ""])

    def _comment(self) -> Iterator[str]:
        """What the user of the function has to know."""
        exported, target = self._exported, self._target
        yield f"{self._files.name}: {self._source.function}, made by tensorgrad {__version__}"
        yield ""
        rows = [(p.name, spec(p.value), p.is_result) for p in self._parameters]
        width = max(len(name) for name, _, _ in rows)
        for name, shown, is_result in rows:
            yield f"  {name:{width}}  {shown}{', a result' if is_result else ''}"
        yield ""
        yield "Arrays lie by rows, and do not overlap."
        if exported.checks:
            where = ", ".join(map(os.path.basename, exported.checks))
            yield f"The function returns 0, or 1 if a check fails, such as of an index ({where}):"
            yield "the results are undefined then."
        yield from self._about_memory()
        called = ", ".join(exported.calls)
        yield f"Functions that it calls: {called}." if called else "It calls no other function."
        features = [f[1:] for f in target.features.split(",") if f.startswith("+")]
        cpu = f"{target.cpu or 'any processor'}{', with ' if features else ''}{' '.join(features)}"
        yield from textwrap.wrap(f"The code is for {target.triple}: {cpu}.", 90)

    def _about_memory(self) -> Iterator[str]:
        exported = self._exported
        scratch = f"Temporary arrays lie in {exported.scratch:,} bytes of"
        if exported.scratch and self._files.threads:
            yield f"{scratch} each thread's memory: several threads can call it at once."
        elif exported.scratch:
            yield f"{scratch} static memory: only one call can run at a time."
        else:
            yield "Several threads can call it at once."
        if exported.weights:
            file = self._files.beside(".weights").name
            yield f"weights points to the content of {file}, at a multiple of 8 bytes:"
            for v, start in exported.places.items():
                order = "" if v.is_c_contiguous else ", by columns" if v.is_f_contiguous else ""
                label = label_of(v, self._source.labels)
                yield f"  from byte {start:,} on: {spec(v)}{order}  {label}".rstrip()
