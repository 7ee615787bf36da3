"""Run pymanopt's own tests with tensorgrad in place of HIPS autograd and of TensorFlow.

    python -m tests.suites.pymanopt

It downloads the source distribution from the package index. pymanopt optimizes on manifolds of real
and complex matrices; `pymanopt_backend.py` is the whole adapter. The tests' files are changed only
in what they import, and in the name of the back end.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REQUIREMENT = "pymanopt==2.2.1"
BACKEND = Path(__file__).with_name("pymanopt_backend.py")
# The tests of the other back ends, and the examples, which take two minutes, are left out.
LEFT_OUT = ["test_jax.py", "test_pytorch.py", "test_tensorflow.py", "test_examples.py"]
REPLACED = {
    r"import autograd\.numpy as": "import numpy as",
    r"from autograd import": "from tensorgrad import",
    r"function\.(autograd|tensorflow)\(": "function.tensorgrad(",
    r"\n(import|from) (matplotlib|tensorflow|torch)\b.*": "",
    r"\n *(matplotlib|torch|tf)\.(use|manual_seed|random).*": "",
    r"\btf\.reduce_sum\b": "np.sum",
    r"\btf\.exp\b": "np.exp",
}


def adapted(folder: Path) -> None:
    """Let pymanopt know the back end, and its tests use it."""
    for name in LEFT_OUT:
        next((folder / "tests").rglob(name)).unlink()
    source = folder / "src" / "pymanopt"
    (source / "tensorgrad_backend.py").write_text(BACKEND.read_text())
    function = source / "function.py"
    function.write_text(
        function.read_text() + "from pymanopt.tensorgrad_backend import tensorgrad\n"
    )
    for file in [*(folder / "tests").rglob("*.py"), source / "tools" / "testing.py"]:
        text = file.read_text()
        for pattern, replacement in REPLACED.items():
            text = re.sub(pattern, replacement, text)
        file.write_text(text)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = ["download", "--quiet", "--no-deps", "--no-binary", "pymanopt", "--dest", folder]
        subprocess.run([sys.executable, "-m", "pip", *command, REQUIREMENT], check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        (root,) = (path.parent for path in Path(folder).glob("*/src"))
        adapted(root)
        paths = [str(root / "src"), str(Path(__file__).parents[2])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(root)]
        run = [sys.executable, "-m", "pytest", *options, str(root / "tests")]
        return subprocess.run(run, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
