"""The formats of files: how they are written, read and checked."""

from __future__ import annotations

import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np

from ..engine.arrays import order_of
from ..engine.typing import Array
from ..errors import CheckpointError, optional
from .atomic import PathLike

if TYPE_CHECKING:  # json and zipfile are slow to import: functions import them
    import zipfile

Header: TypeAlias = dict[str, Any]
Arrays: TypeAlias = dict[str, Array]

FORMAT = 1
HEADER = "__metadata__"  # the name of the header, beside those of the arrays


class Format(NamedTuple):
    """How files with one suffix are written and read.

    `read(file, max_bytes)` returns the header and the arrays. For files of other programs, the
    header has only the metadata and the tree.
    """

    write: Callable[[str, Arrays, Header], None]
    read: Callable[[BinaryIO, int | None], tuple[Header, Arrays]]


def format_of(path: PathLike) -> Format:
    """The format for the suffix of a path. Raises ValueError for an unknown one."""
    suffix = os.path.splitext(path)[1]
    if suffix not in _FORMATS:
        known = " or ".join(_FORMATS)
        raise ValueError(f"{os.fspath(path)!r}: the name of the file must end in {known}")
    return _FORMATS[suffix]


# -- names, dtypes, and the header


def fault_of_name(name: str) -> str | None:
    """Why an array cannot have this name, or None: other programs use it as a path."""
    if name == HEADER:
        return "is the name of the header"
    if not 0 < len(name) <= 1000:
        return f"has {len(name)} characters"
    if not name.isprintable() or "\\" in name:
        return "has a character that cannot be printed, or a backslash"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "looks like a path"
    return None


def is_dtype(text: Any) -> bool:
    """Whether it is NumPy's code for a dtype of numbers, text or dates, without fields."""
    pattern = r"\|b1|[|<>][iufcSU]\d+|[<>][mM]8(\[\w+\])?"
    return isinstance(text, str) and re.fullmatch(pattern, text) is not None


class Entry(NamedTuple):
    """The header's entry for an array; `order` is that of its elements, "C" or "F"."""

    dtype: str
    shape: tuple[int, ...]
    order: str
    crc32: int

    def __str__(self) -> str:
        return f"{np.dtype(self.dtype)} of shape {self.shape}, CRC-32 {self.crc32:08x}"

    @property
    def nbytes(self) -> int:
        """The number of bytes of the elements."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def array(self, data: bytes, start: int = 0) -> Array:
        """The array with these bytes as its elements."""
        dtype = np.dtype(self.dtype)
        if dtype.kind == "b" and (np.frombuffer(data, np.uint8, offset=start) > 1).any():
            raise ValueError("bytes that are neither true nor false")
        order: Any = self.order
        array: Array = np.ndarray(self.shape, dtype, data, start, order=order)
        return array.copy(order="K")


def _parsed_entry(name: str, values: Any) -> Entry:
    match values:
        case [dtype, list(shape), "C" | "F" as order, crc32] if is_dtype(dtype):
            if all(type(n) is int and n >= 0 for n in [*shape, crc32]):
                return Entry(dtype, tuple(shape), order, crc32)
    raise CheckpointError(name, "dtype, shape, order and CRC-32", f"{values!r:.100}")


def _parsed_header(text: bytes) -> Header:
    """The header of a file that `save` wrote; everything except the tree is checked."""
    header: Header = from_json(text)
    match header:
        case {"format": int(number), "tensorgrad": str(version)} if number != FORMAT:
            found = f"{number}, written by tensorgrad {version}"
            raise CheckpointError(None, f"a file of format {FORMAT}", found)
        case {"format": int(), "tensorgrad": str(), "metadata": dict(), "arrays": dict(entries)}:
            if header.keys() == {"format", "tensorgrad", "metadata", "arrays", "tree"}:
                parsed = {name: _parsed_entry(name, values) for name, values in entries.items()}
                return header | {"arrays": parsed}
    raise CheckpointError(None, "a header", f"{text!r:.100}")


def to_json(value: Any) -> str:
    """The JSON text of a value."""
    import json

    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def from_json(text: bytes) -> Any:
    """The value of a JSON text. Repeated names, NaN and infinities raise ValueError."""
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            raise ValueError(f"a repeated name, of {[*value]!r:.100}")
        return value

    def refuse(text: str) -> Any:
        raise ValueError(f"{text} instead of a number")

    return json.loads(text.decode(), object_pairs_hook=unique, parse_constant=refuse)


def _require_names(found: Mapping[str, Any], listed: Mapping[str, Any]) -> None:
    """Raise a CheckpointError unless a file has exactly the arrays that its header lists."""
    for name in [*found, *listed]:
        if name not in listed:
            raise CheckpointError(name, "no such array", "one")
        if name not in found:
            raise CheckpointError(name, "an array", "none")


def _require_name(name: str) -> None:
    if fault := fault_of_name(name):
        raise CheckpointError(name, "the name of an array", f"one that {fault}")


def _require_size(size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise CheckpointError(None, f"at most max_bytes={max_bytes}", f"{size} bytes")


def _bytes_of(array: Array) -> memoryview:
    """The bytes of the elements, in the memory order of the array, or else row by row."""
    order = order_of(array)
    elements: Any = np.asarray(array, order=order).reshape(-1, order=order)
    return memoryview(elements.view(np.uint8) if elements.nbytes else b"")


# -- NumPy's: a zip file of npy files that are not compressed


def _write_npz(path: str, arrays: Arrays, header: Header) -> None:
    import zipfile

    entries = {}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = Entry(array.dtype.str, array.shape, order_of(array), 0)
            crc32 = _add(archive, name, _npy_start(entry), _bytes_of(array))
            entries[name] = entry._replace(crc32=crc32)
        text = to_json(header | {"arrays": entries}).encode()
        _add(archive, HEADER, _npy_start(_text_entry(len(text))), memoryview(text))


def _add(archive: zipfile.ZipFile, name: str, start: bytes, data: memoryview) -> int:
    """Add an npy file to an archive, and return its CRC-32."""
    import zipfile

    info = zipfile.ZipInfo(f"{name}.npy")
    info.file_size = len(start) + len(data)  # zipfile chooses the width of its fields by it
    info.external_attr = 0o644 << 16
    with archive.open(info, "w") as file:
        file.write(start)
        file.write(data)
    return info.CRC


def _text_entry(length: int) -> Entry:
    return Entry("|u1", (length,), "C", 0)


def _npy_start(entry: Entry) -> bytes:
    """The start of an npy file of version 1.0, before the elements."""
    dtype, shape, order, _ = entry
    text = f"{{'descr': {dtype!r}, 'fortran_order': {order == 'F'}, 'shape': {shape!r}, }}"
    length = -(-(10 + len(text) + 1) // 64) * 64 - 10
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + f"{text:{length - 1}}\n".encode()


def _read_npz(file: BinaryIO, max_bytes: int | None) -> tuple[Header, Arrays]:
    import zipfile

    with zipfile.ZipFile(file) as archive:
        infos = _infos(archive)
        _require_size(sum(info.file_size for info in infos.values()), max_bytes)
        if HEADER not in infos:
            raise CheckpointError(None, "the header that tensorgrad.save writes", "none")
        text = archive.read(infos.pop(HEADER))
        length = len(text) - len(_npy_start(_text_entry(len(text))))
        start = _npy_start(_text_entry(length))
        if not text.startswith(start):
            raise CheckpointError(None, "a header in an array of bytes", f"{text!r:.100}")
        header = _parsed_header(text[len(start) :])
        entries = header["arrays"]
        _require_names(infos, entries)
        return header, {
            name: _read_npy(archive, infos[name], name, entries[name]) for name in infos
        }


def _infos(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries of an archive by array name; raises an error if they overlap in the file."""
    import zipfile

    found: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        name = info.orig_filename.removesuffix(".npy")
        if name in found:
            raise CheckpointError(name, "one such array", "two")
        if name != HEADER:
            _require_name(name)
        if info.filename != f"{name}.npy":
            raise CheckpointError(name, "a name that ends in .npy", info.filename)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise CheckpointError(name, "uncompressed bytes", "compressed ones")
        if info.header_offset < end or (info.header_offset and not found):
            raise CheckpointError(name, f"a start at {end}", f"{info.header_offset}")
        end = info.header_offset + 30 + len(info.filename.encode()) + info.file_size
        if end > archive.start_dir:
            raise CheckpointError(name, f"{info.file_size} bytes", "the end of the file")
        found[name] = info
    return found


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, entry: Entry) -> Array:
    start = _npy_start(entry)
    if info.file_size != len(start) + entry.nbytes:
        left = info.file_size - len(start)
        raise CheckpointError(name, f"{entry.nbytes} bytes: {entry}", f"{left}")
    if entry.crc32 != info.CRC:
        raise CheckpointError(name, f"CRC-32 {entry.crc32:08x}", f"{info.CRC:08x}")
    try:
        data = archive.read(info)
        if not data.startswith(start):
            raise ValueError(f"{data[: len(start)]!r}")
        return entry.array(data, len(start))
    except Exception as error:  # zipfile raises errors of many classes
        found = f"{type(error).__name__}: {error}"
        raise CheckpointError(name, str(entry), found) from error


# -- safetensors

_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "C64": "<c8", "BOOL": "|b1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip


def _write_safetensors(path: str, arrays: Arrays, header: Header) -> None:
    library = optional("safetensors.numpy", "save: a .safetensors file")
    stored, entries = {}, {}
    for name, array in arrays.items():
        # The library assumes this byte order and memory order.
        rows = np.asarray(array, _little(array.dtype), order="C")
        if rows.dtype.str not in _SAFETENSORS.values():
            raise TypeError(
                f"save: {name!r}: safetensors has no dtype {array.dtype}: save to an .npz file"
            )
        stored[name] = rows
        entries[name] = Entry(array.dtype.str, array.shape, "C", zlib.crc32(_bytes_of(rows)))
    text = to_json(header | {"arrays": entries})
    # Hugging Face's tools ask for a "format".
    metadata = {"format": "pt", "tensorgrad": f"{zlib.crc32(text.encode()):08x}{text}"}
    try:
        library.save_file(stored, path, metadata)
    except Exception as error:
        raise OSError(f"save: {error}") from error


def _read_safetensors(file: BinaryIO, max_bytes: int | None) -> tuple[Header, Arrays]:
    library = optional("safetensors", "load: a .safetensors file")
    _require_size(os.fstat(file.fileno()).st_size, max_bytes)
    data = file.read()
    listed = from_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
    stored = dict(library.deserialize(data))  # copies
    del data
    metadata = listed.pop(HEADER, {})
    header = _header_in(metadata)
    entries = {} if header is None else header["arrays"]
    if header is not None:
        _require_names(listed, entries)
    arrays = {}
    for name in listed:
        _require_name(name)
        arrays[name] = _read_stored(name, stored.pop(name), entries.get(name))
    tree = {"dict": [[name, {"array": name}] for name in arrays]}
    return header or {"metadata": metadata, "tree": tree}, arrays


def _header_in(metadata: dict[str, str]) -> Header | None:
    """The header that `save` wrote, or None for a file of another program."""
    if not any("tensorgrad" in text for pair in metadata.items() for text in pair):
        return None
    text = metadata.get("tensorgrad", "").encode()
    crc32 = f"{zlib.crc32(text[8:]):08x}".encode()
    if metadata.keys() != {"format", "tensorgrad"} or text[:8] != crc32:
        raise CheckpointError(None, "a header and its CRC-32", f"{text!r:.100}")
    return _parsed_header(text[8:])


def _read_stored(name: str, stored: Mapping[str, Any], entry: Entry | None) -> Array:
    code, data = stored["dtype"], stored["data"]
    if code not in _SAFETENSORS:
        raise CheckpointError(name, "a dtype of NumPy, or bfloat16", code)
    found = Entry(_SAFETENSORS[code], tuple(stored["shape"]), "C", zlib.crc32(data))
    wanted = found if entry is None else entry._replace(dtype=_little(np.dtype(entry.dtype)).str)
    if found != wanted or found.nbytes != len(data):
        raise CheckpointError(name, str(wanted), f"{found}, in {len(data)} bytes")
    try:
        array = found.array(data)
    except ValueError as error:
        raise CheckpointError(name, str(found), str(error)) from error
    if entry is not None:
        return array.astype(entry.dtype, copy=False)
    return (array.astype(np.uint32) << 16).view(np.float32) if code == "BF16" else array


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


_FORMATS = {
    ".npz": Format(_write_npz, _read_npz),
    ".safetensors": Format(_write_safetensors, _read_safetensors),
}
