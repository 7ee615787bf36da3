"""The documentation is complete, and names what is there. Its examples run as doctests."""

import functools
import importlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tensorgrad as tg

from .test_imports import NAMESPACES

ROOT = Path(tg.__file__).parents[1]
DOCS = ROOT / "tensorgrad" / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OTHERS = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md"))]

# What the pages say not to write.
ABSENT = {"tg.nn.CrossEntropyLoss", "tg.jit"}


def resolve(path: str) -> Any:
    """The object with a dotted path, such as `tensorgrad.nn.Linear`."""
    first, *rest = path.split(".")
    return functools.reduce(getattr, rest, importlib.import_module(first))


def documented(page: Path) -> Iterator[Any]:
    """The objects that a page of the reference describes, or names in a table."""
    if page.stem == "estimators" and find_spec("sklearn") is None:
        return
    if page.stem in ("estimators", "parallel"):  # tensorgrad alone does not load them
        importlib.import_module(f"tensorgrad.{page.stem}")
    text = page.read_text(encoding="utf-8")
    yield from map(resolve, re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    if page.stem == "array-api":
        standard, fourier = text.split("## Fourier transforms")
        yield from (getattr(tg, n) for n in re.findall(r"`(\w+)`", standard) if hasattr(tg, n))
        yield from (getattr(tg.fft, n) for n in re.findall(r"^\| `(\w+)`", fourier, re.MULTILINE))


@functools.cache
def reference() -> dict[int, Any]:
    pages = (DOCS / "reference").glob("*.md")
    return {id(found): found for page in pages for found in documented(page)}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_every_public_name_is_in_the_reference(namespace: str) -> None:
    module = importlib.import_module(f"tensorgrad{namespace}")
    public = {name: getattr(module, name) for name in module.__all__}
    missing = [
        name
        for name, value in public.items()
        if id(value) not in reference() and not isinstance(value, ModuleType)
    ]
    assert missing == []


def test_the_glossary_explains_terms_of_the_source() -> None:
    text = tg.__doc__ or ""
    terms = re.findall(r"^\| (\w+) \|", text, re.MULTILINE)[1:]
    assert 10 < len(terms) <= 25
    sources = [
        path for path in Path(tg.__file__).parent.rglob("*.py") if path.name != "__init__.py"
    ]
    source = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    words = {*re.findall(r"[a-z]+", source.lower())}
    assert [term for term in terms if term not in words] == []


def test_files_of_the_source_that_the_documentation_names_exist() -> None:
    text = (DOCS / "the-idea.md").read_text(encoding="utf-8").partition("## In the source")[2]
    named = re.findall(r"`(\w+(?:\.py|/))`", text)
    assert len(named) > 10
    assert [n for n in named if n != "tensorgrad/" and not (DOCS.parent / n).exists()] == []


def test_the_failures_in_the_standards_tests_are_those_listed() -> None:
    text = (DOCS / "other-libraries.md").read_text(encoding="utf-8")
    listed = (ROOT / "tests" / "array_api_xfails.txt").read_text(encoding="utf-8")
    (commit,) = re.findall(r"commit (\w+)", listed)
    failures = len(re.findall(r"^array_api_tests/", listed, re.MULTILINE))
    assert f"(commit {commit}, April 2026), {failures} fail" in text


def test_each_namespace_has_a_page() -> None:
    headings = {page.read_text(encoding="utf-8").partition("\n")[0] for page in PAGES}
    assert headings >= {f"# tensorgrad{name}" for name in NAMESPACES if name != ".fft"}


def test_each_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / ".zensical.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == [page.relative_to(DOCS).as_posix() for page in PAGES]


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    files = [link for link in links if "://" not in link]
    assert [link for link in files if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_the_text_exist(page: Path) -> None:
    names = {*re.findall(r"\btg(?:\.\w+)+", page.read_text(encoding="utf-8"))} - ABSENT
    for name in names:
        resolve(re.sub(r"^tg\b", "tensorgrad", name))


def test_the_functions_listed_under_pytorchs_names_are_all_there_is_of_them() -> None:
    text = (DOCS / "from-pytorch.md").read_text(encoding="utf-8")
    section = text.partition("## `torch.nn.functional`")[2].partition("\n## ")[0]
    same, others = section.split("The others:")
    rows = re.findall(r"^\| [a-z, ]+ \| (`.+) \|$", same, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(names) == len({*names}) > 90
    assert [name for name in names if name not in tg.nn.__all__] == []
    absent = [
        n for row in re.findall(r"^\| (.+?) \|", others, re.M) for n in re.findall(r"`(\w+)", row)
    ]
    assert len(absent) > 15 and not {*absent} & {*tg.nn.__all__}


def test_every_example_is_described() -> None:
    files = (ROOT / "tensorgrad" / "examples").glob("[!_]*.py")
    table = (DOCS / "examples.md").read_text(encoding="utf-8")
    names = sorted(file.stem for file in files)
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == names
    source = (DOCS / "examples-source.md").read_text(encoding="utf-8")
    assert re.findall(r'^--8<-- "tensorgrad/examples/(\w+).py"$', source, re.MULTILINE) == names
