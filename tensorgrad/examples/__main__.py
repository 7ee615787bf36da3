"""`python -m tensorgrad.examples`: list the examples, each with the command that runs it."""

import ast
from pathlib import Path


def main() -> None:
    """Print the command and the first line of the docstring of every example."""
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        print(f"python -m tensorgrad.examples.{path.stem}\n    {docstring.splitlines()[0]}")


if __name__ == "__main__":
    main()
