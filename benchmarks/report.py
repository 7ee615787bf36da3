"""Write the measured figures of the README and of the documentation from the files of results.

Run it after the benchmarks: `python -m benchmarks.report`. In each Markdown file, it replaces what
stands between `<!-- results: NAME -->` and `<!-- end -->` by what the function NAME of `PARTS`
returns. A test fails where a file differs from what this would write.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
DOCS = ROOT / "tensorgrad" / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PART = re.compile(r"(<!-- results: (\w+) -->)(.*?)(<!-- end -->)", re.DOTALL)

BASE, NATIVE = "tensorgrad compiled", "tensorgrad native"
SMALL, MEDIUM, LARGE = "2-16-16-1, 100", "64-128-10, 64", "784-256-128-10, 128"
NETWORKS = ("3-4-4-1, 4", SMALL, MEDIUM, LARGE, "512x4, 256", "1024x4, 1024")
_LAYERS, _BATCHES = zip(*(network.split(", ") for network in NETWORKS))
OPERATIONS = ("x * x, 8", "sum(x * x), 8", "tanh-GELU, 10,000,000")

# The engines of the benchmark `peers`, and what the reader sees.
NAMES = {
    BASE: "tensorgrad, compiled",
    NATIVE: "tensorgrad, native code",
    "tensorgrad": "tensorgrad, not compiled",
    "NumPy by hand": "NumPy by hand",
    "JAX jit": "`jax.jit`",
    "PyTorch compiled": "`torch.compile`",
    "PyTorch": "PyTorch, plain tensors",
    "PyTorch nn, optim": "PyTorch, `nn` and `optim`",
    "MyGrad": "MyGrad",
    "HIPS autograd": "HIPS autograd",
    "flat program": "all NumPy calls by hand, optimized",
    "matrix products": "the matrix products alone",
    "multiply-adds": "their multiply-adds, on registers",
    "memory": "the parameters, read and written once",
}
DRAWN = ("NumPy by hand", "JAX jit", "PyTorch compiled", "PyTorch", "MyGrad", "HIPS autograd")
# The engines of the benchmark `digits`.
LEARNERS = {
    "tensorgrad": "`tg.fit`",
    "scikit-learn": "scikit-learn's `MLPClassifier`",
    "PyTorch": "PyTorch",
    "PyTorch compiled": "`torch.compile`",
    "JAX jit": "`jax.jit`",
    "JAX scan": "`lax.scan`",
}
DISTRIBUTIONS = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "jax": "JAX",
    "autograd": "autograd",
    "mygrad": "MyGrad",
    "llvmlite": "llvmlite",
}

Row: TypeAlias = dict[str, Any]
Cell: TypeAlias = tuple[Any, ...]


class Results:
    """The files of results in a folder."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self._folder = folder

    @functools.cache  # noqa: B019 (there are a few of them, for a moment)
    def file(self, name: str) -> dict[str, Any]:
        """The content of a file."""
        content: dict[str, Any] = json.loads((self._folder / f"{name}.json").read_text("utf-8"))
        return content

    def rows(self, name: str) -> list[Row]:
        """The rows of a file, with the names of its columns."""
        content = self.file(name)
        return [dict(zip(content["fields"], row, strict=True)) for row in content["rows"]]

    def steps(self, work: str = "float32, SGD") -> dict[tuple[str, str], float]:
        """(network, engine) -> the time of a training step, over that of the compiled step."""
        return {
            (network, row["engine"]): row[f"ratio to {BASE}"]
            for row in self.rows("peers")
            for network in NETWORKS
            if row["work"] == f"{network}, {work}"
        }


def short(number: float) -> str:
    """The number with two digits, or with all of its integer part."""
    if number >= 9.95:
        return f"{float(f'{number:.2g}'):,.0f}"
    return f"{number:.1f}" if number >= 0.995 else f"{number:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, on lines of its own."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


# -- parts of text


def machine(results: Results) -> str:
    """What the figures were measured on, in a sentence."""
    about = results.file("peers")
    versions = about["versions"]
    libraries = [f"{text} {versions[name]}" for name, text in DISTRIBUTIONS.items()]
    return (
        f"Measured on {about['date']} at commit {about['commit']}: {about['processor']}, "
        f"{about['threads']} thread, {about['clock']}, Python {about['python']}, "
        f"{', '.join(libraries)}; NumPy multiplies with {about['blas']}."
    )


def training(results: Results) -> str:
    """Training steps of all networks in all engines."""
    steps = results.steps()
    measured = [e for e in NAMES if (NETWORKS[0], e) in steps]
    engines = ([NAMES[e], *(short(steps[n, e]) for n in NETWORKS)] for e in measured)
    return table(["layers", *_LAYERS], [["batch size", *_BATCHES], *engines])


def scan(results: Results) -> str:
    """Many steps in one call."""
    steps = results.steps()
    engines = {"tensorgrad scan": "`scan`", f"{NATIVE} scan": "`scan`, native code"}
    ratios = (
        [f"{text} / `lax.scan`", *(short(steps[n, e] / steps[n, "JAX scan"]) for n in NETWORKS)]
        for e, text in engines.items()
    )
    return table(["layers", *_LAYERS], [["batch size", *_BATCHES], *ratios])


def operations(results: Results) -> str:
    """Small and long operations."""
    times = {
        (row["work"], row["engine"]): row[f"ratio to {BASE}"]
        for row in results.rows("peers_operations")
    }
    engines = [engine for engine in NAMES if (OPERATIONS[0], engine) in times]
    return table(
        ["function, numbers", *OPERATIONS],
        ([NAMES[e], *(short(times[operation, e]) for operation in OPERATIONS)] for e in engines),
    )


def _over(
    benchmark: str, head: str, base: str, engines: dict[str, str]
) -> Callable[[Results], str]:
    """A part that is a table: the times of engines, over that of one of them, for each problem."""

    def part(results: Results) -> str:
        micro: dict[str, dict[str, float]] = {}
        for row in results.rows(benchmark):
            micro.setdefault(next(iter(row.values())), {})[row["engine"]] = row["microseconds"]
        measured = [e for e in engines if any(e in times for times in micro.values())]
        ratios = (
            [p, *(short(t[e] / t[base]) if e in t else "" for e in measured)]
            for p, t in micro.items()
        )
        return table([head, *(engines[e] for e in measured)], ratios)

    return part


def samples(results: Results) -> str:
    """The gradient of each sample: the time, and its ratio to the gradient of the whole batch."""
    engines = {
        "native": "tensorgrad, native code",
        "compiled": "tensorgrad, compiled",
        "tensorgrad": "tensorgrad, not compiled",
        "JAX jit": "`jax.jit`",
        "JAX": "JAX, not compiled",
        "torch.func": "`torch.func`",
        "HIPS autograd": "HIPS autograd, a loop",
        "memory": "writing as many numbers",
    }
    cells: dict[str, list[str]] = {name: [] for name in engines}
    works: dict[str, None] = {}
    for row in results.rows("vmap"):
        each, whole = row["gradient of each sample"], row["gradient of the batch"]
        works[row["network"].removeprefix("loss of ")] = None
        ratio = "" if whole is None else f" ({short(each / whole)})"
        cells[row["engine"]].append(short(each) + ratio)
    return table(["", *works], ([text, *cells[name]] for name, text in engines.items()))


def optimizers(results: Results) -> str:
    """A step of Adam, over the same step by hand on one vector."""
    ratios = {
        (row["parameters"], row["engine"]): row["ratio to by hand"]
        for row in results.rows("optimizers")
        if row["dtype"] == "float32"
    }
    engines = ("tensorgrad", "PyTorch", "PyTorch foreach", "PyTorch fused")
    works = dict.fromkeys(parameters for parameters, _ in ratios)
    return table(
        ["parameters", *engines],
        ([work, *(short(ratios[work, engine]) for engine in engines)] for work in works),
    )


def digits(results: Results) -> str:
    """A training from a cold start, over that of tensorgrad."""
    engines = {row["engine"]: row for row in results.rows("digits")}
    ours = engines["tensorgrad"]
    columns = {"training": "the training", "process": "with imports"}
    return table(
        ["engine", *columns.values(), "epochs"],
        (
            [
                LEARNERS[name],
                *(short(row[c] / ours[c]) for c in columns),
                f"{row['epochs']:g}",
            ]
            for name, row in engines.items()
        ),
    )


def digits_seconds(results: Results) -> str:
    """The seconds of a training from a cold start."""
    (seconds,) = (r["training"] for r in results.rows("digits") if r["engine"] == "tensorgrad")
    return short(seconds)


def scalar(results: Results) -> str:
    """The tensor engine against the scalar one, for growing widths."""
    rows = [
        row for row in results.rows("scalar") if (row["growing"], row["phase"]) == ("width", "step")
    ]
    return table(
        ["width of 2-width-width-1, 100 points", *(str(row["width"]) for row in rows)],
        [["scalar engine / tensor engine", *(short(row["ratio"]) for row in rows)]],
    )


def parallel(results: Results) -> str:
    """How many times as much two ranks do as one, for each network."""
    speedups = {
        (row["network"], row["scaling"]): row["speedup"]
        for row in results.rows("parallel")
        if row["ranks"] == 2
    }
    networks = dict.fromkeys(network for network, _ in speedups)
    kinds = {"strong": "1,024 samples, divided", "weak": "1,024 samples for each rank"}
    return table(
        ["two ranks over one", *networks],
        ([text, *(short(speedups[n, kind]) for n in networks)] for kind, text in kinds.items()),
    )


def _ratio(network: str, engine: str) -> Callable[[Results], str]:
    """A part that is one number: an engine's time at a network, over that of the compiled step."""
    return lambda results: short(results.steps()[network, engine])


def scalar_ratio(results: Results) -> str:
    """How many times as fast as the scalar engine the tensor engine is at width 16."""
    (ratio,) = (
        row["ratio"]
        for row in results.rows("scalar")
        if (row["growing"], row["width"], row["phase"]) == ("width", 16, "step")
    )
    return short(ratio)


PARTS: dict[str, Callable[[Results], str]] = {
    "machine": machine,
    "training": training,
    "scan": scan,
    "operations": operations,
    "derivatives": _over(
        "derivatives",
        "derivative",
        "compiled",
        {
            "tensorgrad": "tensorgrad, not compiled",
            "native": "native code",
            "HIPS autograd": "HIPS autograd",
            "JAX": "JAX, not compiled",
            "JAX jit": "`jax.jit`",
        },
    ),
    "samples": samples,
    "optimizers": optimizers,
    "digits": digits,
    "digits_seconds": digits_seconds,
    "convolutions": _over(
        "convolution",
        "channels, images",
        "PyTorch",
        {
            "tensorgrad": "tensorgrad, not compiled",
            "compiled": "compiled",
            "native": "native code",
        },
    ),
    "layers": _over(
        "layers",
        "layers",
        "native",
        {
            "tensorgrad": "tensorgrad, not compiled",
            "compiled": "compiled",
            "PyTorch": "PyTorch",
            "PyTorch compiled": "`torch.compile`",
            "JAX jit": "`jax.jit`",
        },
    ),
    "solvers": _over(
        "solvers",
        "fit",
        "tensorgrad",
        {
            "SciPy, no gradient": "SciPy, without a gradient",
            "continuous adjoint": "continuous adjoint",
            "autograd": "HIPS autograd",
            "JAX, jit": "`jax.jit`",
            "torchdiffeq": "torchdiffeq",
        },
    ),
    "estimators": _over(
        "estimators",
        "fit, all epochs",
        "tensorgrad",
        {"NumPy alone": "NumPy alone", "scikit-learn": "scikit-learn"},
    ),
    "parallel": parallel,
    "scalar": scalar,
    "scalar_ratio": scalar_ratio,
    "small_pytorch": _ratio(SMALL, "PyTorch"),
    "small_not_compiled": _ratio(SMALL, "tensorgrad"),
    "small_native": _ratio(SMALL, NATIVE),
    "small_native_scan": _ratio(SMALL, f"{NATIVE} scan"),
    "large_not_compiled": _ratio(LARGE, "tensorgrad"),
}


# -- the figure

LABELS, PANEL, GAP, ROW, TOP = 184, 216, 24, 24, 86  # the lengths of the figure, in pixels
OURS, OTHERS = "#5c6bc0", "#a8b1bd"
STYLE = "text{fill:#6e7781}@media(prefers-color-scheme:dark){text{fill:#a3adb8}}"


def figure(results: Results) -> str:
    """Bars for the training steps of three networks, as SVG."""
    steps = results.steps()
    engines = (NATIVE, BASE, "tensorgrad", *DRAWN)
    height = TOP + ROW * len(engines) + 8
    width = LABELS + 3 * PANEL + 2 * GAP
    title = "Time of one training step, as a multiple of tensorgrad's compiled step"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        f'<text x="0" y="18" font-size="15" font-weight="600">{title}</text>',
        f'<text x="{width}" y="18" text-anchor="end">shorter is faster</text>',
    ]
    for i, engine in enumerate(engines):
        weight = ' font-weight="600"' if engine == BASE else ""
        y = TOP + ROW * i + 16
        name = NAMES[engine].replace("`", "")
        lines.append(f'<text x="{LABELS - 10}" y="{y}" text-anchor="end"{weight}>{name}</text>')
    for column, network in enumerate((SMALL, MEDIUM, LARGE)):
        left = LABELS + column * (PANEL + GAP)
        layers, batch = network.replace("-", " → ").split(", ")
        lines.append(f'<text x="{left}" y="54" font-weight="600">{layers}</text>')
        lines.append(f'<text x="{left}" y="72">batches of {batch}</text>')
        longest = max(steps[network, engine] for engine in engines)
        for i, engine in enumerate(engines):
            ratio = steps[network, engine]
            length, y = max(2.0, ratio / longest * (PANEL - 36)), TOP + ROW * i
            color = OURS if engine in {NATIVE, BASE, "tensorgrad"} else OTHERS
            size = f'width="{length:.1f}" height="18" rx="2"'
            lines += [
                f'<rect x="{left}" y="{y}" {size} fill="{color}"/>',
                f'<text x="{left + length + 5:.1f}" y="{y + 14}">{short(ratio)}</text>',
            ]
    return "\n".join([*lines, "</svg>\n"])


# -- writing


def written(text: str, results: Results) -> str:
    """The text with its parts as the results have them."""
    return PART.sub(lambda part: f"{part[1]}{PARTS[part[2]](results)}{part[4]}", text)


def outputs(results: Results) -> Iterator[tuple[Path, str]]:
    """Each file that holds figures, and its text."""
    for path in PAGES:
        text = path.read_text("utf-8")
        if PART.search(text):
            yield path, written(text, results)
    yield DOCS / "images" / "training-step.svg", figure(results)


if __name__ == "__main__":
    for file, content in outputs(Results()):
        file.write_text(content, "utf-8")
        print(file.relative_to(ROOT))
