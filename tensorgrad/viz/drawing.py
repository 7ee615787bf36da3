"""A graph that can be drawn: boxes, by the graphviz library, or as a tree of plain text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import optional
from ..tables import cut

if TYPE_CHECKING:
    from pathlib import Path

FEW = 6  # elements: the values of larger arrays are not shown
GET_DOT = "the program `dot` is missing: install Graphviz from https://graphviz.org/download"

# Shapes tell the kinds apart in black and white; the colours are light, and safe for the
# colour-blind.
_STYLES = {
    "parameter": {"shape": "box", "style": "rounded,filled", "fillcolor": "#fde3b8"},
    "input": {"shape": "box", "style": "rounded,dashed,filled", "fillcolor": "#d7ebf8"},
    "operation": {"shape": "box", "style": "filled", "fillcolor": "#ffffff"},
    "module": {"shape": "box3d", "style": "filled", "fillcolor": "#e9e9e9"},
}
_FONT = {"fontname": "Helvetica,Arial,sans-serif", "fontsize": "11"}


@dataclass(eq=False)
class Box:
    """One value of a graph: what computed it, its facts, a line each, and its parents.

    `gradient` returns the gradient that it has now, or None. `group` is the path of its module, and
    `place` the line of the user's code.
    """

    title: str
    kind: Literal["parameter", "input", "operation", "module"] = "operation"
    facts: Sequence[str] = ()
    parents: Sequence[Box] = ()
    gradient: Callable[[], Any] = lambda: None
    group: str = ""
    place: str = ""

    @property
    def lines(self) -> list[str]:
        """The title, the facts and the gradient."""
        grad = self.gradient()
        return [self.title, *self.facts, *([] if grad is None else [f"grad {shown(grad)}"])]


def shown(value: Any) -> str:
    """A number, or an array of a few elements, in four digits; the norm of a larger one."""
    array = np.asarray(value)
    if array.dtype == object:
        return str(value)
    if array.size > FEW:
        return f"of norm {np.linalg.norm(array.ravel()):.4g}"
    if array.ndim == 0:
        return f"{array[()]:.4g}"
    return str(np.vectorize(lambda x: float(f"{x:.4g}"))(array).tolist())


class Graph:
    """A drawing of how a value was computed. Notebooks show it as a picture.

    `print(graph)` writes it as a tree of at most 80 columns, which needs no library; `source` is
    its text in the DOT language, and `save(path)` writes a file. Gradients are those at the time of
    drawing.
    """

    def __init__(self, boxes: Sequence[Box], groups: Sequence[str] = ()) -> None:
        self.boxes = boxes
        """The boxes, each after its parents; the last one is the output."""
        self._groups = groups

    @property
    def source(self) -> str:
        """The text in the DOT language. Needs the graphviz library, not the program `dot`."""
        return str(self._digraph().source)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a file, and return its path: `.svg`, `.png`, `.pdf`, or text as `.dot` or `.txt`.

        Pictures need the graphviz library and the program `dot`.
        """
        from pathlib import Path  # it and shutil take a while to import

        path = Path(path)
        form = path.suffix.removeprefix(".").lower()
        if form == "txt":
            path.write_text(f"{self}\n", encoding="utf-8")
        elif form in ("dot", "gv"):
            path.write_text(self.source, encoding="utf-8")
        elif form in ("svg", "png", "pdf"):
            path.write_bytes(self._rendered(form))
        else:
            raise ValueError(
                f"save: {path.name!r} ends with none of .svg, .png, .pdf, .dot and .txt"
            )
        return path

    def _rendered(self, form: str) -> bytes:
        import shutil

        digraph = self._digraph()
        if shutil.which("dot") is None:
            raise RuntimeError(
                f"save: {GET_DOT}; until then, save the graph as .dot or .txt, or print it"
            )
        picture: bytes = digraph.pipe(form)
        return picture

    def _repr_mimebundle_(self, **_which: Any) -> dict[str, str]:
        """For notebooks: a picture, if the library and the program are there; and the tree."""
        forms = {"text/plain": str(self)}
        try:
            forms["image/svg+xml"] = self._rendered("svg").decode()
        except (ImportError, RuntimeError) as error:
            forms["text/plain"] += f"\n\n(as text: {error})"
        return forms

    def _digraph(self) -> Any:
        graphviz = optional("graphviz", "tensorgrad.viz.graph")
        digraph = graphviz.Digraph(
            graph_attr={"rankdir": "LR", "nodesep": "0.15", "ranksep": "0.3"} | _FONT,
            node_attr={"height": "0", "margin": "0.08,0.05"} | _FONT,
            edge_attr={"arrowsize": "0.6"},
        )
        names = {box: f"n{i}" for i, box in enumerate(self.boxes)}
        inside: dict[str, list[Box]] = {}
        for box in self.boxes:
            inside.setdefault(box.group, []).append(box)
        for group, boxes in inside.items():
            target = graphviz.Digraph(f"cluster {group}") if group in self._groups else digraph
            for box in boxes:
                style = dict(_STYLES[box.kind])
                if box is self.boxes[-1]:
                    style["penwidth"] = "2"
                target.node(names[box], graphviz.escape("\n".join(box.lines)), **style)
            if target is not digraph:
                target.attr(label=graphviz.escape(group), color="#777777", style="dashed")
                digraph.subgraph(target)
        for box in self.boxes:
            for parent in box.parents:
                digraph.edge(names[parent], names[box])
        return digraph

    def __str__(self) -> str:
        """A tree, from the output down to the inputs, of at most 80 columns."""
        return cut("\n".join(self._tree()))

    __repr__ = __str__

    def _tree(self) -> Iterator[str]:
        seen: set[Box] = set()
        waiting = [(self.boxes[-1], "", "")]
        while waiting:
            box, first, rest = waiting.pop(0)
            again = box in seen and bool(box.parents)
            yield first + ", ".join(box.lines) + (" (as above)" if again else "")
            if again:
                continue
            seen.add(box)
            last = len(box.parents) - 1
            waiting[:0] = [
                (parent, rest + ("└ " if i == last else "├ "), rest + ("  " if i == last else "│ "))
                for i, parent in enumerate(box.parents)
            ]
