"""What the tour shows: text that is printed at once, and a page that gathers it with pictures."""

from __future__ import annotations

import base64
import html
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import optional
from ..version import __version__

PAUSE = 0.01  # seconds: a class should see the lines that do not stay
# What an encoding that lacks these characters shows in their places.
_PLAIN = str.maketrans({"├": "|", "└": "`", "│": "|", "█": "#", "…": "~"})


class Report:
    """Prints text, and collects it for the page, if there is a folder to write it to.

    The folder is made at once, so that one that cannot be written is known before the work.
    """

    def __init__(self, width: int, folder: Path | None) -> None:
        self.width = width
        self._folder = folder
        self._is_terminal = sys.stdout.isatty()
        self._is_live = False  # the line of the cursor
        self._blocks: list[str] = []
        self._lines: list[str] = []  # of the text that is not in a block yet
        self._missing: dict[str, list[str]] = {}
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OSError(
                    f"the tour cannot make the folder {folder}: {error.strerror}: pass --out with "
                    "another one, or --no-plots"
                ) from error

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._print(f"{chr(10) * 2 if self._blocks else ''}{text}\n")
        self._add("h2", text)

    def say(self, text: str) -> None:
        """Show a paragraph."""
        self._print(f"{textwrap.fill(text, min(self.width, 80))}\n")
        self._add("p", text)

    def show(self, text: str, *, page: bool = True) -> None:
        """Show lines in columns, also on the page; those of calls in a row belong together."""
        self._print(text)
        if page:
            self._lines.append(text)

    def live(self, text: str) -> None:
        """Show a line, on a terminal alone, until the next one is printed."""
        if self._is_terminal:
            self._print(text[: self.width - 1], end="")
            time.sleep(PAUSE)

    def code(self, text: str, source: str) -> None:
        """Show a sentence and Python code, on the page alone."""
        self._add("p", text)
        self._lines.append(source)
        self._close()

    def picture(self, name: str, description: str, draw: Callable[[Path], Any]) -> bool:
        """Let `draw` write a picture to a path in the folder; return whether it could.

        A library or program that is missing is named at the end.
        """
        if self._folder is None:
            return False
        path = self._folder / f"{name}.svg"
        try:
            draw(path)
        except (ImportError, RuntimeError) as error:
            self._missing.setdefault(str(error), []).append(path.name)
            return False
        data = base64.b64encode(path.read_bytes()).decode()
        source = f'src="data:image/svg+xml;base64,{data}"'
        self._close()
        self._blocks.append(
            f'<figure><div tabindex="0"><img alt="{html.escape(description)}" {source}></div>'
            f"<figcaption>{html.escape(description)}</figcaption></figure>"
        )
        return True

    def plot(self, name: str, description: str, draw: Callable[[Any], Any], **size: Any) -> bool:
        """Let `draw` draw on an empty figure of matplotlib, as `picture` does."""

        def write(path: Path) -> None:
            figure = optional("matplotlib.figure", "the tour").Figure(layout="constrained", **size)
            draw(figure)
            figure.savefig(path)

        return self.picture(name, description, write)

    def finish(self) -> None:
        """Write the page, and say where it is and what could not be drawn."""
        if self._folder is None:
            return
        self._close()
        path = self._folder / "index.html"
        path.write_text(_PAGE.format(version=__version__, body="\n".join(self._blocks)), "utf-8")
        self._print(f"\n\nThe page with the pictures: {path}")
        for reason, names in self._missing.items():
            self._print(f"Not drawn: {', '.join(names)}: {reason}")

    def _print(self, text: str, end: str = "\n") -> None:
        encoding = sys.stdout.encoding or "utf-8"
        if text.encode(encoding, "replace").decode(encoding) != text:
            text = text.translate(_PLAIN)
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        if self._is_live:
            print(f"\r{'':{self.width - 1}}\r", end="")
        self._is_live = not end
        print(text, end=end, flush=True)

    def _add(self, tag: str, text: str) -> None:
        self._close()
        self._blocks.append(f"<{tag}>{html.escape(text)}</{tag}>")

    def _close(self) -> None:
        """Make a block of the lines."""
        text = textwrap.dedent("\n".join(self._lines)).strip("\n")
        self._lines.clear()
        if text:
            self._blocks.append(f'<pre tabindex="0">{html.escape(text)}</pre>')


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A tour of tensorgrad</title>
<style>
:root {{
  color-scheme: light dark;
  --text: #1b1f24; --page: #fff; --code: #f3f4f6; --line: #d6d9de;
}}
@media (prefers-color-scheme: dark) {{
  :root {{ --text: #e3e6ea; --page: #15181c; --code: #20252b; --line: #3a414a }}
}}
body {{
  margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 52rem;
  font: 1.05rem/1.55 system-ui, sans-serif; color: var(--text); background: var(--page);
}}
h1, h2 {{ line-height: 1.2 }}
h2 {{ margin-top: 3rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }}
pre {{
  overflow-x: auto; padding: .8rem 1rem; border-radius: .5rem; background: var(--code);
  font: .85rem/1.35 ui-monospace, "DejaVu Sans Mono", monospace;
}}
figure {{ margin: 1.5rem 0 }}
figure div {{ overflow-x: auto }}
img {{
  display: block; box-sizing: border-box; margin: 0 auto; min-width: 34rem; max-width: 100%;
  padding: .5rem; border-radius: .5rem; background: #fff;
}}
figcaption {{ margin-top: .5rem; text-align: center; font-size: .9rem; opacity: .8 }}
</style>
</head>
<body>
<main>
<h1>A tour of tensorgrad</h1>
<p>What <code>python -m tensorgrad</code> did, with version {version}.</p>
{body}
</main>
</body>
</html>
"""
