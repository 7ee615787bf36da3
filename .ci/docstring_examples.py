"""Mark the examples in docstrings as code, for the documentation site."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> (?:.+\n?)+", re.MULTILINE)  # up to an empty line


class FencedExamples(griffe.Extension):
    """Put fences around the examples, which docstrings write as Python's doctest reads them."""

    def on_object(self, *, obj: griffe.Object, **_other: Any) -> None:
        """Change the docstring of an object that was found in the sources."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub("```pycon\n\\g<0>\n```\n", obj.docstring.value)
