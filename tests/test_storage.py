"""Files of arrays, models and trainings: what is saved comes back, and damage is never loaded."""

import copy
import errno
import io
import json
import os
import platform
import re
import struct
import subprocess
import sys
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_array_equal

import tensorgrad as tg
from tensorgrad import CheckpointError, nn

DATA = Path(__file__).parent / "data"
SUFFIXES = [".npz", ".safetensors"]


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path of each format."""
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"file{request.param}"


def assert_same(found: Any, expected: Any) -> None:
    """Raise an AssertionError unless all is equal: types, dtypes and bits."""
    assert type(found) is type(expected)
    if isinstance(expected, tg.Tensor):
        assert found.requires_grad == expected.requires_grad
        assert_same(found.data, expected.data)
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if expected.dtype.char == "G" or expected.dtype.char == "g":  # has bytes that mean nothing
            assert_array_equal(found, expected)
        else:
            assert found.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert [*found] == [*expected]
        for key, part in expected.items():
            assert_same(found[key], part)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert repr(found) == repr(expected)


def left_over(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".tensorgrad")]


# -- what is saved comes back


EVERYWHERE = "?bBhHiIlLefdF"
IN_NPZ = [*EVERYWHERE, *"qQgDG", "S3", "U4", "m8[s]", "M8[D]"]
BITS = np.random.default_rng(0).integers(0, 256, 64, np.uint8)


def elements(dtype: Any) -> Any:
    """A 3 x 4 array, of NaNs among others."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iufc" and dtype.char not in "gG":
        whole = np.resize(BITS, 12 * dtype.itemsize).view(dtype.newbyteorder("="))
        return whole.reshape(3, 4).astype(dtype)
    return np.arange(12).reshape(3, 4).astype(dtype)


def layouts(a: Any) -> dict[str, Any]:
    return {
        "rows": a,
        "columns": np.asfortranarray(a),
        "transposed": a.T,
        "strided": a[::2, 1:],
        "reversed": a[::-1, ::-1],
        "broadcast": np.broadcast_to(a[0], (2, 3, 4)),
        "swapped": a[None].transpose(1, 2, 0),
        "number": a[0, 0:1].reshape(()),
        "empty": a[:0],
        "view of one": a[1:2, 1:2],
    }


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_dtype_and_layout(path: Path, order: str) -> None:
    names = IN_NPZ if path.suffix == ".npz" else EVERYWHERE
    tree = {name: layouts(elements(np.dtype(name).newbyteorder(order))) for name in names}
    tg.save(path, tree)
    again = tg.load(path)
    assert_same(again, tree)
    assert all(a.flags.writeable and a.flags.owndata for d in again.values() for a in d.values())
    if path.suffix == ".npz":
        assert again["d"]["columns"].flags.fnc


TREE = {
    "numbers": [0, -1, 2**200, True, None, 1.5, -0.0, float("nan"), float("-inf"), 1e-320, 2 - 1j],
    "text": ("", "é\x00\n\ud800", {"nested": [[], {}, ()]}),
    7: {True: 1, None: 2, -3: 3, "1": 4},
    "scalars": [np.float32(0.1), np.bool_(True), np.int8(-1), np.complex64(1j)],
    "tensors": [tg.Tensor([1.0, 2.0]), tg.Tensor(np.float32(3), requires_grad=True)],
    "a.b": np.arange(2),
    "a": {"b": np.arange(3), "b_": np.arange(4)},
}


def test_nested_values(path: Path) -> None:
    tg.save(path, TREE, {"who": "me", "n": [1, 2.5, None], "of": {"x": True}})
    assert_same(tg.load(path), TREE)
    assert tg.storage.read_metadata(path) == {"who": "me", "n": [1, 2.5, None], "of": {"x": True}}


@pytest.mark.parametrize("tree", [np.arange(3), 5, None, [], "text", tg.Tensor(1.0), {}])
def test_a_value_of_any_kind_alone(path: Path, tree: Any) -> None:
    tg.save(path, tree)
    assert_same(tg.load(path), tree)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.complex_numbers()
TREES = st.recursive(
    LEAVES | st.sampled_from([np.arange(3.0), np.float32(1), tg.Tensor([1])]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.integers() | st.from_regex(r"[a-z_. ]{1,8}", fullmatch=True), inner)
    ),
    max_leaves=12,
)


@given(TREES)
def test_any_nesting(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    tg.save(path, tree)
    assert_same(tg.load(path), tree)


def test_numpy_reads_the_arrays(tmp_path: Path) -> None:
    tg.save(tmp_path / "a.npz", {"x": {"y": elements("d").T, "z": [elements("e")[::2]]}})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert set(found) == {"x.y", "x.z.0", "__metadata__"}
        assert_same(found["x.y"], elements("d").T)
        assert_same(found["x.z.0"], elements("e")[::2])
        header = json.loads(found["__metadata__"].tobytes())
    assert header["tensorgrad"] == tg.__version__
    assert len({crc32 for *_, crc32 in header["arrays"].values()}) == 2


def test_safetensors_reads_the_arrays(tmp_path: Path) -> None:
    """Also of those that its own writer takes for others, as they do not lie by rows."""
    library = pytest.importorskip("safetensors.numpy")
    tree = {name: layouts(elements(name)) for name in EVERYWHERE}
    tg.save(tmp_path / "a.safetensors", tree)
    found = library.load_file(tmp_path / "a.safetensors")
    for name, arrays in tree.items():
        for layout, array in arrays.items():
            assert_same(found[f"{name}.{layout}"], array)


def test_files_are_as_readable_as_others(path: Path) -> None:
    tg.save(path, 1)
    ordinary = path.with_name("ordinary")
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_a_link_stays_a_link(path: Path) -> None:
    target = path.with_name("other" + path.suffix)
    path.symlink_to(target)
    tg.save(path, 1)
    assert path.is_symlink()
    assert tg.load(target) == 1


# -- what cannot be saved


class Unknown:
    pass


RING: list[Any] = []
RING.append(RING)

REFUSED = {
    "objects": (np.array([None]), TypeError, "object"),
    "fields": (np.zeros(2, "f8,i4"), TypeError, "dtype .*f0"),
    "masked": (np.ma.masked_array([1, 2], [0, 1]), TypeError, "MaskedArray"),
    "unknown": ({"a": [Unknown()]}, TypeError, "'a.0': Unknown"),
    "a function": (print, TypeError, "^save: builtin_function"),
    "a set": ({1, 2}, TypeError, "set"),
    "bytes": (b"12", TypeError, "bytes"),
    "a key": ({(1, 2): 3}, TypeError, r"key \(1, 2\)"),
    "a path": ({"../x": np.ones(1)}, ValueError, r"'\.\./x' .* like a path"),
    "an absolute path": ({"/x": np.ones(1)}, ValueError, "like a path"),
    "NUL": ({"a\0": np.ones(1)}, ValueError, "cannot be printed"),
    "the header": ({"__metadata__": np.ones(1)}, ValueError, "is the name of the header"),
    "a long name": ({"a" * 2000: np.ones(1)}, ValueError, "2000 characters"),
    "a ring": (RING, ValueError, "contains itself"),
}


@pytest.mark.parametrize(("tree", "kind", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_saved(path: Path, tree: Any, kind: type, text: str) -> None:
    tg.save(path, "earlier")
    with pytest.raises(kind, match=text):
        tg.save(path, tree)
    assert tg.load(path) == "earlier"
    assert os.listdir(path.parent) == [path.name]


def test_metadata_must_be_what_json_holds(path: Path) -> None:
    for wrong in {"a": np.ones(1)}, {"a": float("nan")}:
        with pytest.raises((TypeError, ValueError)):
            tg.save(path, 1, wrong)
    assert not path.exists()


@pytest.mark.parametrize("dtype", ["D", "g", "U3", "M8[s]"])
def test_dtypes_that_safetensors_lacks(tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("safetensors")
    with pytest.raises(TypeError, match=r"'w': safetensors has no dtype .*: save to an .npz file"):
        tg.save(tmp_path / "a.safetensors", {"w": np.zeros(1, dtype)})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", [lambda p: tg.save(p, 1), tg.load], ids=["save", "load"])
def test_other_suffixes(tmp_path: Path, call: Callable[[Path], Any]) -> None:
    for name in ("a.pt", "a", "npz", ".npz"):
        with pytest.raises(ValueError, match=r"must end in \.npz or \.safetensors"):
            call(tmp_path / name)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"12")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"save: a \.safetensors file needs safetensors"):
        tg.save(tmp_path / "a.safetensors", 1)
    with pytest.raises(ImportError, match="python -m pip install safetensors"):
        tg.load(tmp_path / "a.safetensors")
    assert tg.save(tmp_path / "a.npz", 1) is None


def test_a_missing_file_is_no_damaged_one(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tg.load(path)


# -- damaged files


def small(path: Path) -> Any:
    """A file of every kind of value, and what is in it."""
    layer = nn.Sequential(nn.Linear(2, 1, rng=0), nn.Dropout(0.5, rng=1))
    tree = {"net": layer, "n": [1, (2.5, "x")], "t": tg.Tensor([True, False])}
    tg.save(path, tree, {"of": "now"})
    return tg.load(path)


def loads_exactly(path: Path, expected: Any) -> bool:
    """Whether a file loads; if so, then to what was saved."""
    try:
        found = tg.load(path)
    except CheckpointError as error:
        assert error.file == str(path)
        assert error.expected and error.found
        return False
    assert_same(found, expected)
    return True


def test_truncation_at_every_byte(path: Path) -> None:
    expected = small(path)
    for size in reversed(range(path.stat().st_size)):
        os.truncate(path, size)
        assert not loads_exactly(path, expected)


def test_every_flipped_byte(path: Path) -> None:
    expected = small(path)
    whole = path.read_bytes()
    harmless = 0
    with open(path, "rb+", buffering=0) as file:
        for i, byte in enumerate(whole):
            for flipped in (byte ^ 0xFF, byte ^ 1 << i % 8):
                os.pwrite(file.fileno(), bytes([flipped]), i)
                harmless += loads_exactly(path, expected)
            os.pwrite(file.fileno(), bytes([byte]), i)
    assert harmless < 0.2 * 2 * len(whole)  # dates of entries, padding
    assert loads_exactly(path, expected)


def test_added_bytes(path: Path) -> None:
    expected = small(path)
    whole = path.read_bytes()
    for content in whole + b"\0", b"\0" + whole, whole + whole, whole[:-1] + b"\0" + whole[-1:]:
        path.write_bytes(content)
        loads_exactly(path, expected)


def test_a_file_inside_of_a_file_is_not_taken_for_it(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner.npz", tmp_path / "outer.npz"
    tg.save(inner, "inner")
    content = np.frombuffer(inner.read_bytes(), np.uint8)
    tg.save(outer, content)
    whole = outer.read_bytes()
    outer.write_bytes(whole[: whole.index(content.tobytes()) + len(content)])
    with pytest.raises(CheckpointError):
        tg.load(outer)


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    for suffix in SUFFIXES:
        if suffix == ".safetensors":
            pytest.importorskip("safetensors")
        path = tmp_path_factory.getbasetemp() / f"any{suffix}"
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            tg.load(path)


@given(st.data())
def test_any_damage(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Pieces of a file replaced by others: nothing but what was saved is loaded."""
    suffix = data.draw(st.sampled_from(SUFFIXES))
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path_factory.getbasetemp() / f"damage{suffix}"
    expected = small(path)
    whole = path.read_bytes()
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=20)) + whole[stop:])
    loads_exactly(path, expected)


# -- files that were made to mislead

W = np.arange(3.0)


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), (1, 0))
    return buffer.getvalue()


class Crafted:
    """A good npz file of `{"w": W}` in parts, to be changed before it is written."""

    def __init__(self) -> None:
        self.header: Any = {
            "format": 1, "tensorgrad": "1", "metadata": {},
            "tree": {"dict": [["w", {"array": "w"}]]},
            "arrays": {"w": ["<f8", [3], "C", zlib.crc32(npy(W))]},
        }  # fmt: skip
        self.files: list[tuple[str, bytes]] = [("w.npy", npy(W))]
        self.text: str | None = None
        self.compression = zipfile.ZIP_STORED
        self.change_bytes: Callable[[bytes], bytes] = lambda content: content

    def write(self, path: Path) -> None:
        text = json.dumps(self.header) if self.text is None else self.text
        files = [*self.files, ("__metadata__.npy", npy(np.frombuffer(text.encode(), np.uint8)))]
        buffer = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", self.compression) as archive:
            warnings.simplefilter("ignore")  # of names that come twice
            for name, content in files:
                archive.writestr(name, content)
        path.write_bytes(self.change_bytes(buffer.getvalue()))

    # What can be wrong, in short.

    def entry(self, *values: Any) -> None:
        self.header["arrays"]["w"] = [*values]

    def file(self, content: bytes, shape: Any = (3,)) -> None:
        """Another file of the array, with its own checksum."""
        self.files = [("w.npy", content)]
        self.entry("<f8", shape, "C", zlib.crc32(content))

    def header_text(self, text: str) -> None:
        self.text = text

    def metadata_text(self, text: str) -> None:
        self.text = json.dumps(self.header).replace("{}", text)

    def compress(self) -> None:
        self.compression = zipfile.ZIP_DEFLATED

    def bytes_are(self, change: Callable[[bytes], bytes]) -> None:
        self.change_bytes = change

    def tree(self, node: Any) -> None:
        self.header["tree"] = node

    def extra(self, name: str, listed: bool = True) -> None:
        self.files.append((f"{name}.npy", npy(W)))
        if listed:
            self.header["arrays"][name] = ["<f8", [3], "C", zlib.crc32(npy(W))]
            self.header["tree"]["dict"].append([name, {"array": name}])

    def patch(self, old: bytes, new: bytes) -> None:
        self.change_bytes = lambda content: content.replace(old, new)

    def central(self, offset: int, code: str, value: int) -> None:
        """Another number in the directory's entry of the array."""

        def change(content: bytes) -> bytes:
            start = content.index(b"PK\x01\x02") + offset
            packed = struct.pack(code, value)
            return content[:start] + packed + content[start + len(packed) :]

        self.change_bytes = change


CRC = zlib.crc32(npy(W))
NO_ENTRIES = b"PK\5\6" + bytes(18)  # a zip file without any
NESTED = "[" * 100_000
CRAFTED: dict[str, Callable[[Crafted], Any]] = {
    # the header
    "no header": lambda c: c.patch(b"__metadata__", b"__metadatb__"),
    "header no JSON": lambda c: c.header_text("{"),
    "header empty": lambda c: c.header_text(""),
    "header a list": lambda c: c.header_text("[]"),
    "header null": lambda c: c.header_text("null"),
    "header deep": lambda c: c.header_text(NESTED),
    "header NaN": lambda c: c.metadata_text('{"a": NaN}'),
    "header infinite": lambda c: c.metadata_text('{"a":-Infinity}'),
    "header name twice": lambda c: c.header_text(json.dumps(c.header)[:-1] + ', "format": 1}'),
    "header huge number": lambda c: c.metadata_text('{"a":' + "9" * 5000 + "}"),
    "header lacks tree": lambda c: c.header.pop("tree"),
    "header lacks arrays": lambda c: c.header.pop("arrays"),
    "header lacks metadata": lambda c: c.header.pop("metadata"),
    "header lacks version": lambda c: c.header.pop("tensorgrad"),
    "header has more": lambda c: c.header.update(more=1),
    "metadata a list": lambda c: c.header.update(metadata=[]),
    "format 2": lambda c: c.header.update(format=2),
    "format text": lambda c: c.header.update(format="1"),
    "arrays a list": lambda c: c.header.update(arrays=[]),
    "not UTF-8": lambda c: c.patch(b'"metadata"', b'"metadat\xff"'),
    # what it says of an array
    "entry null": lambda c: c.header["arrays"].update(w=None),
    "entry short": lambda c: c.entry("<f8", [3]),
    "entry long": lambda c: c.entry("<f8", [3], "C", CRC, 1),
    "dtype objects": lambda c: c.entry("|O", [3], "C", CRC),
    "dtype fields": lambda c: c.entry("f8,f8", [3], "C", CRC),
    "dtype void": lambda c: c.entry("|V8", [3], "C", CRC),
    "dtype unknown": lambda c: c.entry("<f9", [3], "C", CRC),
    "dtype null": lambda c: c.entry(None, [3], "C", CRC),
    "dtype huge": lambda c: c.entry("<U999999999999", [3], "C", CRC),
    "dtype other": lambda c: c.entry("<i8", [3], "C", CRC),
    "dtype swapped": lambda c: c.entry(">f8", [3], "C", CRC),
    "shape other": lambda c: c.entry("<f8", [4], "C", CRC),
    "shape same size": lambda c: c.entry("<f8", [3, 1], "C", CRC),
    "shape negative": lambda c: c.entry("<f8", [-3], "C", CRC),
    "shape two negative": lambda c: c.entry("<f8", [-3, -1], "C", CRC),
    "shape huge": lambda c: c.entry("<f8", [2**62, 2**62], "C", CRC),
    "shape huge and empty": lambda c: c.file(npy(W)[:128], shape=[0, 2**70]),
    "shape overflows": lambda c: c.entry("<f8", [2**61 + 3], "C", CRC),
    "shape fraction": lambda c: c.entry("<f8", [3.0], "C", CRC),
    "shape boolean": lambda c: c.file(npy(W[:1]), shape=[True]),
    "shape text": lambda c: c.entry("<f8", "3", "C", CRC),
    "shape a number": lambda c: c.entry("<f8", 3, "C", CRC),
    "shape of 100 axes": lambda c: c.entry("<f8", [3, *[1] * 99], "C", CRC),
    "order other": lambda c: c.entry("<f8", [3], "F", CRC),
    "order unknown": lambda c: c.entry("<f8", [3], "K", CRC),
    "CRC-32 other": lambda c: c.entry("<f8", [3], "C", CRC ^ 1),
    "CRC-32 text": lambda c: c.entry("<f8", [3], "C", str(CRC)),
    # the tree
    "tree lacks the array": lambda c: c.tree({"dict": []}),
    "tree has another": lambda c: c.tree({"dict": [["w", {"array": "v"}]]}),
    "tree has it twice": lambda c: c.tree({"dict": [["w", {"array": "w"}], ["v", {"array": "w"}]]}),
    "tree a key twice": lambda c: c.tree({"dict": [["w", {"array": "w"}], ["w", 1]]}),
    "tree unknown kind": lambda c: c.tree({"pickle": "w"}),
    "tree two kinds": lambda c: c.tree({"array": "w", "tuple": []}),
    "tree no kind": lambda c: c.tree({}),
    "tree a list as key": lambda c: c.tree({"dict": [[["w"], {"array": "w"}]]}),
    "tree no pairs": lambda c: c.tree({"dict": ["w"]}),
    "tree dict of null": lambda c: c.tree({"dict": None}),
    "tree name a number": lambda c: c.tree({"dict": [["w", {"array": 1}]]}),
    "tree name a list": lambda c: c.tree({"dict": [["w", {"array": ["w"]}]]}),
    "tree float text": lambda c: c.tree([{"array": "w"}, {"float": "1.5"}]),
    "tree complex of text": lambda c: c.tree([{"array": "w"}, {"complex": ["a", "b"]}]),
    "tree object short": lambda c: c.tree({"object": ["Linear", {"array": "w"}]}),
    "tree object's generators": lambda c: c.tree({"object": ["A", {"array": "w"}, [["a", 1]]]}),
    "tree other value": lambda c: c.tree([{"array": "w"}]),
    "tree a number": lambda c: c.tree({"dict": [["w", 1]]}),
    # the array's file
    "file short": lambda c: c.file(npy(W)[:-1]),
    "file long": lambda c: c.file(npy(W) + b"\0"),
    "file empty": lambda c: c.file(b""),
    "file no npy": lambda c: c.file(b"x" * len(npy(W))),
    "file pickled": lambda c: c.file(npy(W).replace(b"<f8", b"|O8")),
    "file other dtype": lambda c: c.file(npy(W.view("i8"))),
    "file other header": lambda c: c.file(npy(W).replace(b"False", b"True ")),
    "file other version": lambda c: c.file(npy(W).replace(b"NUMPY\x01", b"NUMPY\x02")),
    # the archive
    "entry unknown": lambda c: c.extra("v", listed=False),
    "entry missing": lambda c: setattr(c, "files", []),
    "entry twice": lambda c: c.files.append(("w.npy", npy(W + 1))),
    "header twice": lambda c: c.files.append(("__metadata__.npy", npy(BITS))),
    "entry ../": lambda c: c.extra("../v"),
    "entry a/../v": lambda c: c.extra("a/../v"),
    "entry absolute": lambda c: c.extra("/v"),
    "entry of Windows": lambda c: c.extra("a\\v"),
    "entry a folder": lambda c: c.files.append(("a/", b"")),
    "entry of 5000 letters": lambda c: c.extra("v" * 5000),
    "entry tab": lambda c: c.extra("a\tv"),
    "entry escape": lambda c: c.extra("a\x1b[2J"),
    "entry NUL": lambda c: (c.extra("avv"), c.patch(b"avv", b"a\0v")),
    "entry no npy": lambda c: c.files.append(("v.txt", b"x")),
    "entry nameless": lambda c: c.extra(""),
    "compressed": lambda c: c.compress(),
    "bomb": lambda c: (c.compress(), c.file(npy(np.zeros(10**6)))),
    "method unknown": lambda c: c.central(10, "<H", 99),
    "encrypted": lambda c: c.central(8, "<H", 1),
    "patched": lambda c: c.central(8, "<H", 0x20),
    "directory: size": lambda c: c.central(24, "<I", len(npy(W)) + 8),
    "directory: packed size": lambda c: c.central(20, "<I", len(npy(W)) - 8),
    "directory: huge": lambda c: c.central(24, "<I", 2**32 - 2),
    "directory: CRC-32": lambda c: c.central(16, "<I", 0),
    "directory: start": lambda c: c.central(42, "<I", 10**6),
    "directory: version": lambda c: c.central(6, "<H", 99),
    "directory: name": lambda c: c.central(28, "<H", 10**4),
    "directory: comment": lambda c: c.central(32, "<H", 10**4),
    "overlap": lambda c: (c.extra("v"), c.bytes_are(overlapped)),
    "bytes before": lambda c: c.bytes_are(lambda content: b"#!/bin/sh\n" + content),
    "bytes after": lambda c: c.bytes_are(lambda content: content + NO_ENTRIES),
    "two archives": lambda c: c.bytes_are(lambda content: content * 2),
    "an empty archive": lambda c: c.bytes_are(lambda _: NO_ENTRIES),
    "an empty file": lambda c: c.bytes_are(lambda _: b""),
    "a pickle": lambda c: c.bytes_are(lambda _: b"\x80\x04cos\nsystem\n."),
    "an npy file": lambda c: c.bytes_are(lambda _: npy(W)),
}  # fmt: skip


def overlapped(content: bytes) -> bytes:
    """The second entry of the directory at the bytes of the first."""
    first = content.index(b"PK\x01\x02")
    start = content.index(b"PK\x01\x02", first + 1) + 42
    return content[:start] + struct.pack("<I", 0) + content[start + 4 :]


def test_crafted_files_differ_from_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    Crafted().write(path)
    assert_same(tg.load(path), {"w": W})
    assert len(CRAFTED) >= 60


@pytest.mark.parametrize("change", CRAFTED.values(), ids=CRAFTED)
def test_crafted_npz(tmp_path: Path, change: Callable[[Crafted], Any]) -> None:
    path, crafted = tmp_path / "a.npz", Crafted()
    change(crafted)
    crafted.write(path)
    assert_refused(path)


def assert_refused(path: Path) -> None:
    """A file is refused by all that load it, and nothing has changed then."""
    module = nn.Linear(1, 1)
    target, before = {"w": np.full(3, 7.0)}, module.state_dict()
    with pytest.raises(CheckpointError, match=r"expected .*, found .+") as caught:
        tg.load(path, target)
    assert caught.value.file == str(path)
    with pytest.raises(CheckpointError):
        module.load_state(path)
    assert_array_equal(target["w"], np.full(3, 7.0))
    assert_same(module.state_dict(), before)


def tensors(header: Any, data: bytes = W.tobytes(), size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def of_w(**changed: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F64", "shape": [3], "data_offsets": [0, 24]} | changed}


SAFETENSORS: dict[str, bytes] = {
    "empty": b"",
    "short": b"\1\0\0",
    "no header": tensors(b""),
    "size past the end": tensors(of_w(), size=10**6),
    "size huge": tensors(of_w(), size=2**64 - 1),
    "no JSON": tensors(b"{{"),
    "a list": tensors([]),
    "deep": tensors(NESTED.encode()),
    "not UTF-8": tensors(b'{"\xff": 1}'),
    "twice": tensors(json.dumps(of_w())[:-1].encode() + b", " + json.dumps(of_w())[1:].encode()),
    "data short": tensors(of_w(), W.tobytes()[:-1]),
    "data long": tensors(of_w(), W.tobytes() + b"\0"),
    "offsets past the end": tensors(of_w(shape=[4], data_offsets=[0, 32])),
    "offsets reversed": tensors(of_w(data_offsets=[24, 0])),
    "offsets negative": tensors(of_w(data_offsets=[-24, 0])),
    "offsets missing": tensors({"w": {"dtype": "F64", "shape": [3]}}),
    "a gap": tensors(of_w(data_offsets=[8, 32]), bytes(32)),
    "overlap": tensors(of_w() | {"v": of_w()["w"]}),
    "shape other": tensors(of_w(shape=[4])),
    "shape negative": tensors(of_w(shape=[-3])),
    "shape overflows": tensors(of_w(shape=[2**61 + 3])),
    "shape huge": tensors(of_w(shape=[2**62, 2**62])),
    "dtype unknown": tensors(of_w(dtype="F65")),
    "dtype that NumPy lacks": tensors(of_w(dtype="F8_E4M3", shape=[24])),
    "neither true nor false": tensors(of_w(dtype="BOOL", shape=[24])),
    "name ../": tensors({"../w": of_w()["w"]}),
    "name NUL": tensors({"w\0": of_w()["w"]}),
    "name empty": tensors({"": of_w()["w"]}),
    "metadata of numbers": tensors(of_w() | {"__metadata__": {"a": 1}}),
    "metadata a list": tensors(of_w() | {"__metadata__": []}),
    "a header that is none": tensors(of_w() | {"__metadata__": {"tensorgrad": "x"}}),
    "a header under another name": tensors(of_w() | {"__metadata__": {"a": '"tensorgrad"'}}),
    "of another array": tensors({"v": of_w()["w"]}),
}  # fmt: skip


@pytest.mark.parametrize("content", SAFETENSORS.values(), ids=SAFETENSORS)
def test_crafted_safetensors(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensors(of_w()))
    assert_same(tg.load(path), {"w": W})
    path.write_bytes(content)
    assert_refused(path)


def test_headers_that_do_not_fit_the_arrays(tmp_path: Path) -> None:
    """In safetensors, too, what `save` wrote of each array must be true of it."""
    pytest.importorskip("safetensors")
    path, good = tmp_path / "a.safetensors", ["<f8", [3], "C", zlib.crc32(W.tobytes())]

    def write(entries: dict[str, Any]) -> None:
        crafted = Crafted()
        text = json.dumps(crafted.header | {"arrays": entries})
        both = {"format": "pt", "tensorgrad": f"{zlib.crc32(text.encode()):08x}{text}"}
        path.write_bytes(tensors({"__metadata__": both} | of_w()))

    write({"w": good})
    assert_same(tg.load(path), {"w": W})
    for i, wrong in enumerate(["<i8", [3, 1], "F", 0]):
        write({"w": [*good[:i], wrong, *good[i + 1 :]]})
        assert_refused(path)
    for entries in {}, {"v": good}, {"w": good, "v": good}:
        write(entries)
        assert_refused(path)


def test_limits_and_finite_numbers(path: Path) -> None:
    tg.save(path, {"good": np.ones(100), "w": [np.array([1, np.nan, -np.inf])]})
    assert len(tg.load(path, max_bytes=10_000)) == 2
    with pytest.raises(CheckpointError, match=r"at most max_bytes=100, found \d+ bytes"):
        tg.load(path, max_bytes=100)
    with pytest.raises(CheckpointError, match=r"'w\.0': expected finite numbers, found 2 others"):
        tg.load(path, finite=True)


# -- whole files, or none


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier file stays as it is, wherever the disk is full or breaks."""
    tg.save(path, {"w": W})

    def full(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("mkdir", "chmod", "fsync", "replace"):
        with monkeypatch.context() as context:
            context.setattr(os, name, full)
            with pytest.raises(OSError, match="No space left"):
                tg.save(path, {"w": W + 1})
        assert_same(tg.load(path), {"w": W})
        assert os.listdir(path.parent) == [path.name]


LIMITED = """
import resource, signal, sys, numpy as np, tensorgrad as tg
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    tg.save(sys.argv[1], np.ones(50_000))
except OSError as error:
    print("OSError", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_a_file_larger_than_is_allowed(path: Path) -> None:
    tg.save(path, {"w": W})
    out = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True)
    assert out.stdout.startswith("OSError")
    assert "File too large" in out.stdout
    assert_same(tg.load(path), {"w": W})
    assert os.listdir(path.parent) == [path.name]


SAVES_ALL_THE_TIME = """
import sys, numpy as np, tensorgrad as tg
checkpoint = tg.Checkpoint(sys.argv[1], w=(w := np.zeros(100_000)))
step = checkpoint.load()
print(step, flush=True)
assert (w == step).all()
while True:
    step += 1
    w[...] = step
    checkpoint.save(step)
    tg.save(sys.argv[1] + "/alone.npz", w)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
def test_killed_while_it_saves(tmp_path: Path) -> None:
    """Whenever it is killed, there is a whole file, and the next one clears up."""
    rng, reached, last = np.random.default_rng(), 0, 0.0
    for _ in range(4):
        command = [sys.executable, "-c", SAVES_ALL_THE_TIME, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            reached = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
        if (tmp_path / "alone.npz").exists():
            alone = tg.load(tmp_path / "alone.npz")
            assert (alone == alone[0]).all()
            assert alone[0] >= last
            last = alone[0]
    w = np.zeros(100_000)
    checkpoint = tg.Checkpoint(tmp_path, w=w)
    assert checkpoint.load() == w[0] == w[-1] >= reached
    checkpoint.save(int(w[0]) + 1)
    assert left_over(tmp_path) == []
    assert len(checkpoint.paths()) == 3


def test_who_clears_up_what(path: Path) -> None:
    """Folders of processes that are gone are deleted, and no others."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    host = platform.node()
    mine = ["dead", f"{host}-{process.pid}-0123abcd", f"{host}-{os.getpid()}-0123abcd"]
    others = [f"{host}-{os.getppid()}-0123abcd", "elsewhere-1-0123abcd", "long-ago-1-0123abcd"]
    places = [path.parent / f".tensorgrad-{name}" for name in [*mine, *others]]
    for place in places:
        place.mkdir()
        (place / "file").touch()
    os.utime(places[-1], (0, 0))
    tg.save(path, 1)
    assert [place.exists() for place in places] == [True, False, False, True, True, False]


def test_saves_in_threads(path: Path) -> None:
    def work(number: int) -> None:
        for _ in range(10):
            tg.save(path, np.full(1000, number))

    threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            found = tg.load(path)
            assert (found == found[0]).all()
    for thread in threads:
        thread.join()
    assert os.listdir(path.parent) == [path.name]


# -- models


def network(seed: int | None = None, width: int = 3, dtype: Any = np.float64) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, width, dtype=dtype, rng=seed),
        nn.BatchNorm1d(width, dtype=dtype),
        nn.Dropout(0.5, rng=seed),
    )


def test_a_model_comes_back(path: Path) -> None:
    net, other, third = network(1), network(2), network(3)
    net(np.ones((4, 2)))  # moves the running mean
    net.save(path, {"loss": 0.5})
    assert other.load_state(path).missing_keys == []
    assert_same(other.state_dict(), net.state_dict())
    assert_same(tg.load(path), net.state_dict())
    assert tg.storage.read_metadata(path) == {"loss": 0.5}
    assert tg.load(path, third) is third
    assert third[2].rng.bit_generator.state == net[2].rng.bit_generator.state
    assert other[2].rng.bit_generator.state != net[2].rng.bit_generator.state


def test_weights_keep_their_order_in_memory(path: Path) -> None:
    net = nn.Linear(2, 3)
    assert net.weight.data.flags.fnc
    net.save(path)
    net.load_state(path)
    assert net.weight.data.flags.fnc


def test_a_state_dict_of_ones_own_is_what_is_saved(path: Path) -> None:
    class Renamed(nn.Linear):
        def state_dict(self) -> Any:
            return {f"old_{name}": array for name, array in super().state_dict().items()}

    tg.save(path, Renamed(1, 1))
    assert [*tg.load(path)] == ["old_weight", "old_bias"]


@pytest.mark.parametrize(
    ("other", "array", "expected", "found"),
    [
        (network(width=4), "0.weight", r"float64 of shape \(4, 2\)", r"float64 of shape \(3, 2\)"),
        (network(dtype=np.float32), "0.weight", "float32 of shape", "float64 of shape"),
        (network()[:1], "1.weight", "nothing", "float64 of shape"),
        (nn.Sequential(*network(), nn.Linear(3, 1)), "3.weight", "float64 of shape", "nothing"),
    ],
    ids=["shape", "dtype", "unexpected", "missing"],
)
def test_models_that_do_not_fit(
    path: Path, other: nn.Module, array: str, expected: str, found: str
) -> None:
    network(1).save(path)
    before = other.state_dict()
    for call in (lambda: other.load_state(path), lambda: tg.load(path, other)):
        with pytest.raises(CheckpointError, match=f"'{array}': expected {expected}.*found {found}"):
            call()
    assert_same(other.state_dict(), before)


def test_without_strict(path: Path) -> None:
    network(1).save(path)
    other = nn.Sequential(*network(2)[:1], nn.Identity(), nn.Identity(), nn.Linear(3, 1))
    result = other.load_state(path, strict=False)
    assert result.missing_keys == ["3.weight", "3.bias"]
    assert len(result.unexpected_keys) == 5
    assert_same(other[0].state_dict(), network(1)[0].state_dict())
    with pytest.raises(CheckpointError, match="of shape"):
        network(width=4).load_state(path, strict=False)


def test_no_digits_are_lost(path: Path) -> None:
    """A half-precision file loads into a model of float32, and not the other way round."""
    half, single = network(1, dtype=np.float16), network(2, dtype=np.float32)
    half.save(path)
    single.load_state(path)
    assert_array_equal(single[0].weight.data, half[0].weight.data)
    single.save(path)
    with pytest.raises(CheckpointError, match="expected float16"):
        half.load_state(path)
    half.load_state_dict(tg.load(path))


@pytest.mark.parametrize("tree", [5, [W], {"model": nn.Linear(2, 3)}, {"weight": [1.0]}])
def test_what_is_no_state_of_a_module(path: Path, tree: Any) -> None:
    tg.save(path, tree)
    with pytest.raises(CheckpointError, match="expected arrays by name, of a module"):
        nn.Linear(2, 3).load_state(path)


# -- PyTorch's files, and ours there


def test_files_by_pytorch() -> None:
    pytest.importorskip("safetensors")
    state = tg.load(DATA / "torch_network.safetensors")
    x, y = state.pop("example.input"), state.pop("example.output")
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, dtype=np.float32),
        nn.BatchNorm2d(2, dtype=np.float32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 3, dtype=np.float32),
    )
    net.load_state_dict(state)
    net.eval()
    np.testing.assert_allclose(net(x).numpy(), y, rtol=1e-5, atol=1e-6)
    with pytest.raises(CheckpointError, match=r"'example\.\w+': expected nothing, found float32"):
        net.load_state(DATA / "torch_network.safetensors")
    assert net.load_state(DATA / "torch_network.safetensors", strict=False).missing_keys == []
    assert tg.storage.read_metadata(DATA / "torch_network.safetensors") == {"format": "pt"}


def test_dtypes_by_pytorch() -> None:
    pytest.importorskip("safetensors")
    found = tg.load(DATA / "torch_dtypes.safetensors")
    assert_same(found["bfloat16"], found["float32"])
    assert {name: a.dtype.char for name, a in found.items()} == {
        "bfloat16": "f", "float32": "f", "half": "e", "bool": "?", "long": "l", "transposed": "f",
    }  # fmt: skip
    assert_same(found["transposed"], np.arange(6, dtype="f").reshape(2, 3).T.copy())


def test_exchange_with_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    path, ours, theirs = tmp_path / "a.safetensors", network(1), torch.nn.Linear(2, 3).double()
    ours[0].save(path)
    theirs.load_state_dict(library.load_file(path))
    assert_array_equal(theirs.weight.detach().numpy(), ours[0].weight.data)
    library.save_file(torch.nn.Linear(2, 3).double().state_dict(), path)
    ours[0].load_state(path)
    theirs.load_state_dict(library.load_file(path))
    assert_array_equal(theirs.weight.detach().numpy(), ours[0].weight.data)


# -- into what is there


def everything(seed: int) -> dict[str, Any]:
    net = network(seed)
    optimizer = tg.optim.AdamW(net.parameters(), lr=0.1 * seed)
    return {
        "net": net,
        "optimizer": optimizer,
        "schedule": tg.optim.StepLR(optimizer, 2),
        "parts": (np.full(2, seed), [tg.Tensor(float(seed), requires_grad=True), {"n": seed}]),
        "rng": np.random.default_rng(seed),
        "data": tg.data.batches(np.arange(10), 3, shuffle=True, rng=seed),
        "average": tg.optim.ExponentialMovingAverage(net.parameters()),
        "log": {"losses": [0.1 * seed]},
        "none": None,
    }


def taken(things: dict[str, Any]) -> dict[str, Any]:
    """A step with all of it, so that no state is the first."""
    things["net"].zero_grad()
    things["net"](np.ones((4, 2))).sum().backward()
    things["optimizer"].step()
    things["schedule"].step()
    things["average"].update()
    things["rng"].normal()
    next(iter(things["data"]))
    return things


def states(things: Any) -> Any:
    if hasattr(things, "bit_generator"):
        return things.bit_generator.state
    if isinstance(things, nn.Module):
        return things.state_dict(), [g.bit_generator.state for _, g in things.named_generators()]
    if hasattr(things, "state_dict"):
        return things.state_dict()
    if isinstance(things, dict):
        return {key: states(part) for key, part in things.items()}
    if isinstance(things, (list, tuple)):
        return type(things)([states(part) for part in things])
    return copy.deepcopy(things)


def test_all_kinds_of_state(path: Path) -> None:
    saved, target = taken(everything(2)), everything(3)
    tg.save(path, saved)
    array, tensor, log = target["parts"][0], target["parts"][1][0], target["log"]
    result = tg.load(path, target)
    assert_same(states(result), states(saved))
    assert (array is result["parts"][0], log is result["log"]) == (True, True)
    assert_array_equal([*array, tensor.data, log["losses"][0]], [2, 2, 2.0, 0.2])
    assert_same(states(taken(target)["net"]), states(taken(saved)["net"]))


class Stubborn:
    """An object that takes half of a state before it refuses the rest."""

    def __init__(self, value: int = 0, refuses: bool = False) -> None:
        self.value, self.refuses = value, refuses

    def state_dict(self) -> Any:
        return {"value": self.value}

    def load_state_dict(self, state: Any) -> None:
        self.value = state["value"]
        if self.refuses and self.value:
            raise RuntimeError("no more")


def test_all_or_nothing(path: Path) -> None:
    """What comes last does not fit, and what came before is as it was."""
    tg.save(path, taken(everything(2)) | {"last": Stubborn(5)})
    target = taken(everything(3)) | {"last": Stubborn(0, refuses=True)}
    before = states(target)
    with pytest.raises(CheckpointError, match="'last': expected a state that fits, found no more"):
        tg.load(path, target)
    assert_same(states(target), before)
    assert target["last"].value == 0


def test_computed_tensors_are_not_loaded_into(tmp_path: Path) -> None:
    tg.save(tmp_path / "a.npz", [W, W])
    array, computed = W + 1, tg.Tensor(W + 1, requires_grad=True) * 1
    with pytest.raises(
        CheckpointError, match="'1': expected a state that fits, found cannot assign"
    ):
        tg.load(tmp_path / "a.npz", [array, computed])
    assert_array_equal([array, computed.data], [W + 1, W + 1])


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda things: things.pop(name)


def instead(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda things: things.update({name: value})


PARAMETER = tg.Tensor(1.0, requires_grad=True)
MISFITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "too much": (without("rng"), "'rng': expected nothing, found the state of a generator"),
    "too little": (instead("v", W), r"'v': expected float64 of shape \(3,\), found nothing"),
    "other optimizer": (
        instead("optimizer", tg.optim.SGD([PARAMETER])),
        "'optimizer': expected the state of SGD, found the state of AdamW",
    ),
    "other groups": (
        instead("optimizer", tg.optim.AdamW([PARAMETER])),
        "'optimizer': expected a state that fits, found load_state_dict: groups of",
    ),
    "other generator": (
        instead("rng", np.random.Generator(np.random.MT19937(0))),
        "'rng': expected a generator of MT19937, found one of PCG64",
    ),
    "generator for data": (
        instead("data", np.random.default_rng(0)),
        "'data': expected a generator of PCG64, found the state of Batches",
    ),
    "None for an object": (instead("rng", None), "'rng': expected None, found the state of"),
    "an object for None": (instead("none", Stubborn()), "'none': expected the state of Stubborn"),
    "array for an object": (instead("net", W), r"'net': expected float64 of shape \(3,\)"),
    "other shape": (
        instead("parts", (W, [])),
        r"'parts\.0': .*\(3,\), found int64 of shape \(2,\)",
    ),
    "other length": (instead("parts", (W,)), r"'parts\.1': expected nothing, found a list"),
    "list for a dict": (instead("log", []), "'log': expected a list, found a dict"),
    "dict for a tuple": (instead("parts", {"a": W}), "'parts': expected a dict, found a tuple"),
    "unshuffled data": (
        instead("data", tg.data.batches(np.arange(10), 3)),
        "'data': expected a state that fits, found .*is shuffled",
    ),
}


@pytest.mark.parametrize(("change", "text"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit(tmp_path: Path, change: Callable[[Any], Any], text: str) -> None:
    path, target = tmp_path / "a.npz", taken(everything(3))
    tg.save(path, taken(everything(2)))
    change(target)
    before = states(target)
    with pytest.raises(CheckpointError, match=text):
        tg.load(path, target)
    assert_same(states(target), before)


STATES: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a rate of text": ("optimizer", lambda s: s["param_groups"][0].update(lr="0.1"), "0.lr"),
    "a list of states": ("optimizer", lambda s: s.update(state=[]), "state"),
    "a count of text": ("schedule", lambda s: s.update(last_epoch="3"), "last_epoch"),
    "a negative count": ("schedule", lambda s: s.update(last_epoch=-1), ""),
    "a rate that is a list": ("schedule", lambda s: s.update(gamma=[1]), "gamma"),
    "no rates": ("schedule", lambda s: s.pop("base_lrs"), ""),
    "a decay of text": ("average", lambda s: s.update(decay="0.9"), "decay"),
    "a number for an array": ("average", lambda s: s["average"].insert(0, 1), "average.0"),
    "a place of text": ("data", lambda s: s.update(taken="1"), "taken"),
    "a generator of text": ("data", lambda s: s["generator"].update(state="1"), "generator.state"),
    "a generator without a state": ("data", lambda s: s["generator"].pop("state"), ""),
}


@pytest.mark.parametrize(("name", "change", "part"), STATES.values(), ids=STATES)
def test_states_that_are_none(
    tmp_path: Path, name: str, change: Callable[[Any], Any], part: str
) -> None:
    """Whole files of states that no object has."""
    saved, target, path = taken(everything(2)), taken(everything(3)), tmp_path / "a.npz"
    state = saved[name].state_dict()
    change(state)
    other = type(type(saved[name]).__name__, (), {"state_dict": lambda _: state})()
    other.load_state_dict = None
    tg.save(path, saved | {name: other})
    before = states(target)
    with pytest.raises(CheckpointError, match=rf"'{name}.*{re.escape(part)}': expected"):
        tg.load(path, target)
    assert_same(states(target), before)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(node: Any) -> list[tuple[Any, Any]]:
    """The containers and keys of all that is in a nested value."""
    if not isinstance(node, (dict, list)):
        return []
    keys = range(len(node)) if isinstance(node, list) else [*node]
    inside = [place for key in keys for place in places(node[key])]
    return [(node, key) for key in keys] + inside


@given(st.data())
def test_any_header(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A part of the header is something else: an error that changes nothing, or a value."""
    path = tmp_path_factory.getbasetemp() / "header.npz"
    tg.save(path, taken(everything(2)))
    with zipfile.ZipFile(path) as archive:
        crafted = Crafted()
        crafted.files = [(name, archive.read(name)) for name in archive.namelist()]
    crafted.header = json.loads(crafted.files.pop()[1][128:])
    found = places(crafted.header)
    place, key = found[data.draw(st.integers(0, len(found) - 1))]
    other_place, other_key = found[data.draw(st.integers(0, len(found) - 1))]
    part = data.draw(JSON | st.just(copy.deepcopy(other_place[other_key])))
    if isinstance(place, dict) and data.draw(st.booleans()):
        place[data.draw(st.text(max_size=5))] = place.pop(key)
    else:
        place[key] = part
    crafted.write(path)
    target = taken(everything(3))
    before = states(target)
    try:
        tg.load(path)
        tg.load(path, target)
    except CheckpointError:
        assert_same(states(target), before)


def schedules(optimizer: Any) -> list[Any]:
    return [
        tg.optim.LambdaLR(optimizer, lambda t: 1 / (1 + t)),
        tg.optim.StepLR(optimizer, 2),
        tg.optim.MultiStepLR(optimizer, [2, 4]),
        tg.optim.ExponentialLR(optimizer, 0.9),
        tg.optim.LinearLR(optimizer),
        tg.optim.CosineAnnealingLR(optimizer, 10),
        tg.optim.OneCycleLR(optimizer, 1.0, 20),
        tg.optim.SequentialLR(
            optimizer,
            [tg.optim.LinearLR(optimizer), tg.optim.CosineAnnealingLR(optimizer, 10)],
            [4],
        ),
    ]


@pytest.mark.parametrize("index", range(8))
def test_schedules_of_all_kinds(path: Path, index: int) -> None:
    def made() -> Any:
        optimizer = tg.optim.SGD([tg.Tensor([1.0], requires_grad=True)], 0.1, momentum=0.9)
        return {"optimizer": optimizer, "schedule": schedules(optimizer)[index]}

    one, other = made(), made()
    for _ in range(5):
        one["schedule"].step()
    tg.save(path, one)
    tg.load(path, other)
    for _ in range(5):
        assert one["schedule"].get_last_lr() == other["schedule"].get_last_lr()
        assert_same(states(other), states(one))
        one["schedule"].step()
        other["schedule"].step()


def test_a_plateau_goes_on(path: Path) -> None:
    def made() -> Any:
        optimizer = tg.optim.SGD([tg.Tensor([1.0], requires_grad=True)], 0.1)
        return [optimizer, tg.optim.ReduceLROnPlateau(optimizer, patience=2)]

    one, other = made(), made()
    for step in range(4):
        tg.save(path, one)
        tg.load(path, other)
        assert_same(states(other), states(one))
        one[1].step(float(step))
    assert one[0].param_groups[0]["lr"] != other[0].param_groups[0]["lr"]


def test_generators_of_all_kinds(path: Path) -> None:
    """Their states have whole numbers of 128 bits, and arrays."""
    names = ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"]
    saved = [np.random.Generator(getattr(np.random, name)(1)) for name in names]
    target = [np.random.Generator(getattr(np.random, name)(2)) for name in names]
    for rng in saved:
        rng.integers(10, dtype=np.uint32)  # leaves half of a number
    tg.save(path, saved)
    tg.load(path, target)
    for one, other in zip(saved, target, strict=True):
        assert_array_equal(one.normal(size=5), other.normal(size=5))
        assert one.integers(10, dtype=np.uint32) == other.integers(10, dtype=np.uint32)


def test_read_only_arrays_stay_as_they_are(path: Path) -> None:
    tg.save(path, {"w": W})
    target = np.zeros(3)
    target.flags.writeable = False
    with pytest.raises(CheckpointError, match="'w': expected an array to load into, found a read-"):
        tg.load(path, {"w": target})


# -- checkpoints


def test_the_newest_are_kept(tmp_path: Path) -> None:
    w = np.zeros(2)
    checkpoint = tg.Checkpoint(tmp_path / "a" / "b", keep=2, w=w)
    assert (checkpoint.load(), checkpoint.paths()) == (0, [])
    for step in (1, 9, 10, 200_000_000):
        w[...] = step
        checkpoint.save(step)
    assert [p.name for p in checkpoint.paths()] == ["step-00000010.npz", "step-200000000.npz"]
    w[...] = 0
    assert tg.Checkpoint(tmp_path / "a" / "b", w=w).load() == w[0] == 200_000_000
    checkpoint.save(200_000_000)  # the same step again
    assert len(checkpoint.paths()) == 2


def test_another_training_is_not_overwritten(tmp_path: Path) -> None:
    tg.Checkpoint(tmp_path, w=W.copy()).save(5)
    message = r"step 4 is before .*step-00000005\.npz: load\(\) that first"
    with pytest.raises(ValueError, match=message):
        tg.Checkpoint(tmp_path, w=W.copy()).save(4)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005.npz"]


def test_damaged_files_are_passed_over(tmp_path: Path) -> None:
    w = np.zeros(2)
    checkpoint = tg.Checkpoint(tmp_path, w=w)
    for step in (1, 2, 3):
        w[...] = step
        checkpoint.save(step)
    one, two, three = checkpoint.paths()
    os.truncate(three, 100)
    checkpoint = tg.Checkpoint(tmp_path, w=w)
    message = r"loaded .*-00000002.npz, because of damage: .*-00000003.npz: expected"
    with pytest.warns(UserWarning, match=message):
        assert checkpoint.load() == 2
    assert_array_equal(w, 2)
    checkpoint.keep = 2
    checkpoint.save(2)  # before the damaged one
    assert checkpoint.paths() == [one, two, three]
    checkpoint.save(3)
    assert checkpoint.paths() == [two, three]
    for path in two, three:
        os.truncate(path, 100)
    with pytest.raises(CheckpointError, match="step-00000003"):
        checkpoint.load()
    assert_array_equal(w, 2)


def test_a_checkpoint_that_does_not_fit_is_not_passed_over(tmp_path: Path) -> None:
    tg.Checkpoint(tmp_path, w=np.ones(3)).save(1)
    tg.Checkpoint(tmp_path, w=np.ones(2)).save(2)
    with pytest.raises(CheckpointError, match=r"step-00000002.npz: 'w': expected float64 of shape"):
        tg.Checkpoint(tmp_path, w=np.ones(3)).load()


def test_other_files_in_the_folder_are_let_alone(tmp_path: Path) -> None:
    names = {"notes.txt", "step-1.npz.old", "step-x.npz", "best.npz"}
    for name in names:
        (tmp_path / name).touch()
    checkpoint = tg.Checkpoint(tmp_path, keep=1, w=W.copy())
    assert checkpoint.load() == 0
    checkpoint.save(1)
    checkpoint.save(2)
    assert {p.name for p in tmp_path.iterdir()} == names | {"step-00000002.npz"}


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        ({"keep": 0}, ValueError, "keep must be at least 1"),
        ({"keep": W}, TypeError, "objects by name, such as model=model; keep .* not ndarray"),
        ({"epoch": 3}, TypeError, "'epoch': int cannot be changed in place"),
        ({"a": [W, "text"]}, TypeError, "'a': 1: str cannot be changed in place"),
        ({"f": print}, TypeError, "'f': builtin_function"),
    ],
)
def test_wrong_checkpoints(tmp_path: Path, wrong: Any, kind: type, text: str) -> None:
    with pytest.raises(kind, match=text):
        tg.Checkpoint(tmp_path, **wrong)
    with pytest.raises(ValueError, match="must not be negative"):
        tg.Checkpoint(tmp_path).save(-1)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: tg.optim.SGD(p, 0.1, momentum=0.9, dampening=0.1),
    "Adam": lambda p: tg.optim.Adam(p, 0.1, amsgrad=True),
    "AdamW": lambda p: tg.optim.AdamW(p, 0.1),
    "RMSprop": lambda p: tg.optim.RMSprop(p, 0.1, momentum=0.5, centered=True),
    "Adagrad": lambda p: tg.optim.Adagrad(p, 0.1, initial_accumulator_value=0.1),
    "Lion": lambda p: tg.optim.Lion(p, 0.01),
    "LBFGS": lambda p: tg.optim.LBFGS(p, max_iter=2),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_goes_on_bit_by_bit(tmp_path: Path, make: Callable[[Any], Any]) -> None:
    """Stopped after any step, with dropout, shuffled batches, a schedule and an average."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 2)), rng.normal(size=(10, 1))
    steps = 7  # of 3 in an epoch

    def training(seed: int) -> dict[str, Any]:
        net = nn.Sequential(
            nn.Linear(2, 5, rng=seed), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.4, rng=seed),
            nn.Linear(5, 1, rng=seed),
        )  # fmt: skip
        optimizer = make(net.parameters())
        is_second_order = isinstance(optimizer, tg.optim.LBFGS)
        return {
            "net": net,
            "optimizer": optimizer,
            "schedule": None if is_second_order else tg.optim.CosineAnnealingLR(optimizer, 10),
            "data": tg.data.batches((x, y), 4, shuffle=True, rng=seed),
            "average": tg.optim.ExponentialMovingAverage(net.parameters(), 0.7),
            "losses": [],
        }

    def train(things: dict[str, Any], until: int, checkpoint: Any = None) -> dict[str, Any]:
        net, optimizer, schedule, data, average, losses = things.values()

        def closure(inputs: Any, targets: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.mse_loss(net(inputs), targets)
            loss.backward()
            return loss

        while len(losses) < until:
            for inputs, targets in data:
                losses.append(optimizer.step(partial(closure, inputs, targets)).item())
                average.update()
                if schedule is not None:
                    schedule.step()
                if checkpoint is not None:
                    checkpoint.save(len(losses))
                if len(losses) == until:
                    break
        return things

    if make is OPTIMIZERS["LBFGS"]:
        pytest.importorskip("scipy")
    expected = train(training(0), steps)
    saved = training(0)
    train(saved, steps, tg.Checkpoint(tmp_path, keep=steps, **saved))
    assert_same(states(saved), states(expected))  # saving changes nothing
    for step in range(1, steps):
        resumed = training(1)
        tg.load(tmp_path / f"step-{step:08}.npz", resumed)
        assert_same(states(train(resumed, steps)), states(expected))


def test_files_of_more_than_4_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sizes lie elsewhere, here those of small ones."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    path = tmp_path / "a.npz"
    tg.save(path, {"w": W, "v": elements("d")})
    assert path.read_bytes().count(b"PK\6\6") == 1
    assert_same(tg.load(path), {"w": W, "v": elements("d")})
    with np.load(path) as found:
        assert_same(found["w"], W)


def test_an_error_can_be_pickled_and_says_all() -> None:
    error = CheckpointError("w", "one", "two", "a.npz")
    assert str(copy.copy(error)) == str(error) == "a.npz: 'w': expected one, found two"
    assert isinstance(error, (tg.TensorgradError, ValueError))
