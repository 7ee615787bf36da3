"""Imports go one way, and `import tensorgrad` needs NumPy and Python alone."""

import ast
import builtins
import functools
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import tensorgrad
from tensorgrad.errors import optional

PACKAGE = Path(tensorgrad.__file__).parent

# A file imports from the lines above its own, or from its own subpackage. A new file needs a place.
LAYERS = [
    {"approximations", "errors", "version", "scalar", "doctor", "guide", "tree", "tables"},
    {"engine", "mpi"},
    {"namespaces"},
    {"special", "data", "fft", "interop", "storage"},
    {"linearization"},
    {"rules", "transforms", "checkpoint", "diagnostics", "samples"},
    {"bodies"},
    {"control_flow", "mapping"},
    {"gradcheck", "nn", "array_api", "optim", "compiler", "scipy", "solvers"},
    {"viz", "parallel"},
    {"training", "support"},
    {"__init__", "estimators", "playground"},
    {"tour"},
    {"__main__", "examples"},
]
# The same inside of the compiler, whose other files come last: a pass asks `ops` what is legal, and
# never a back end.
COMPILER_LAYERS = [
    {"ir", "functions", "ops", "strides", "costs"},
    {"passes"},
    {"buffers", "code"},
    {"backends"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The file or the subpackage that a file belongs to, right below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports(path: Path) -> set[Path]:
    """The files of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "tensorgrad"]
            targets = [PACKAGE.parent.joinpath(*name.split(".")) for name in names]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level:
                base = path.parents[node.level - 1].joinpath(*module)
            elif module and module[0] == "tensorgrad":
                base = PACKAGE.parent.joinpath(*module)
            else:
                continue
            # What is imported from a package may be a file in it, or a name in its __init__.
            targets = [t if is_module(t := base / alias.name) else base for alias in node.names]
        else:
            continue
        found |= {t.with_suffix(".py") if not t.is_dir() else t / "__init__.py" for t in targets}
    return found


def is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_imports_point_upward(subtests: pytest.Subtests) -> None:
    for path in FILES:
        with subtests.test(path=path):
            name = name_of(path)
            assert name in RANK, f"give {name} a place in LAYERS"
            for imported in imports(path):
                assert imported.is_file(), f"{imported} is not in the package"
                other = name_of(imported)
                inside = path.parent != PACKAGE and imported.parent != PACKAGE and other == name
                assert inside or RANK[other] < RANK[name], f"{name} must not import {other}"


def test_what_the_compiler_does_first_imports_nothing_of_what_it_does_later(
    subtests: pytest.Subtests,
) -> None:
    folder = PACKAGE / "compiler"
    ranks = {name: rank for rank, layer in enumerate(COMPILER_LAYERS) for name in layer}

    def rank(path: Path) -> int:
        name = path.relative_to(folder).parts[0].removesuffix(".py")
        return ranks.get(name, len(COMPILER_LAYERS))

    for path in folder.rglob("*.py"):
        with subtests.test(path=path):
            later = [p for p in imports(path) if folder in p.parents and rank(p) > rank(path)]
            assert not later, f"{path.name} must not import {later}"
    assert ranks.keys() <= {p.stem for p in folder.iterdir()}


def test_imports_inside_subpackages_make_no_cycle() -> None:
    graph = {path: {p for p in imports(path) if p.parent != PACKAGE} - {path} for path in FILES}
    while leaves := [path for path, needed in graph.items() if not needed]:
        for path in leaves:
            del graph[path]
        for needed in graph.values():
            needed.difference_update(leaves)
    assert sorted(graph) == []


def test_every_layer_still_exists() -> None:
    assert set(RANK) == {name_of(path) for path in FILES}


def test_scalar_imports_nothing_of_ours_and_no_numpy() -> None:
    path = PACKAGE / "scalar.py"
    assert imports(path) == set()
    assert "numpy" not in path.read_text()


def test_importing_needs_numpy_alone_and_loads_nothing_that_only_saving_needs() -> None:
    script = (
        "import sys; before = {*sys.modules}; import tensorgrad; print(*{*sys.modules} - before); "
        "print(*[m for m in {*sys.modules} - before if hasattr(sys.modules[m], '__file__')])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded, from_files = ({*line.split()} for line in out.stdout.splitlines())
    assert {name.split(".")[0] for name in from_files} <= {
        "numpy",
        "tensorgrad",
        *sys.stdlib_module_names,
    }
    assert {"hashlib", "json", "pathlib", "shutil", "zipfile"}.isdisjoint(loaded)


MODULES = ["data", "fft", "nn", "optim", "scalar", "special", "storage", "training", "tree"]
NAMESPACES = ["", *(f".{name}" for name in MODULES)]


@pytest.mark.parametrize("path", NAMESPACES)
def test_what_a_namespace_shows_is_public(path: str) -> None:
    namespace = importlib.import_module(f"tensorgrad{path}")
    shown = {name for name in dir(namespace) if not name.startswith("_")}
    assert shown >= {*namespace.__all__}
    if path != ".special":  # which shows SciPy's, too, and imports them when they are asked for
        assert shown - {*namespace.__all__} <= {*dir(builtins)}
    for name in {*namespace.__all__} - {"newaxis"}:  # None
        assert getattr(namespace, name).__doc__
    taken: dict[str, Any] = {}
    exec(f"from {namespace.__name__} import *", taken)
    assert not {*taken} & {*dir(builtins)} - {"__builtins__"}
    assert not {name for name in taken if name.startswith("_")} - {"__builtins__"}


def test_the_version_is_that_of_the_distribution() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", tensorgrad.__version__)
    assert "__version__" in dir(tensorgrad)
    assert tomllib.loads(Path("pyproject.toml").read_text())["tool"]["hatch"]["version"] == {
        "path": "tensorgrad/version.py"
    }


def test_nobody_is_told_to_install_a_package_of_another_author() -> None:
    """What the package index has under the name of `tensorgrad` is not this library."""
    pages = [*PACKAGE.rglob("*.md"), *Path(".github").rglob("*.md")]
    texts = ["README.md", *pages, *Path("benchmarks").rglob("*.py"), *FILES]
    for path in map(Path, texts):
        assert "tensorgrad[" not in path.read_text(), path


@pytest.mark.parametrize(
    ("module", "library"), [("nowhere.at.all", "nowhere"), ("sklearn.nowhere", "scikit-learn")]
)
def test_a_missing_library_is_named_as_it_is_installed(module: str, library: str) -> None:
    with pytest.raises(ImportError, match=f"^it needs {library}: python -m pip install {library}$"):
        optional(module, "it")


def test_dir_lists_what_is_public() -> None:
    import tensorgrad.data
    import tensorgrad.optim
    import tensorgrad.parallel
    import tensorgrad.scipy
    import tensorgrad.solvers
    import tensorgrad.training

    modules = [tensorgrad.data, tensorgrad.optim, tensorgrad.nn, tensorgrad.parallel]
    modules += [tensorgrad.training, tensorgrad.scipy, tensorgrad.solvers]
    modules += [getattr(tensorgrad.scipy, name) for name in dir(tensorgrad.scipy)]
    for module in modules:
        assert {*module.__all__} <= {*dir(module)}, module.__name__
        assert not {"np", "annotations", "__doc__"} & {*dir(module)}, module.__name__
