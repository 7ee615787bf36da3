"""What consoles and notebooks show of objects."""

import functools
import html.parser
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.tables import Table


@functools.cache
def objects() -> dict[str, Any]:
    """Objects whose forms are looked at, by their names."""
    x, y = tg.data.moons(50, rng=0)
    model = nn.Sequential(nn.Linear(2, 30, rng=0), nn.Tanh(), nn.Linear(30, 2, rng=1))
    optimizer = tg.optim.AdamW(model.parameters(), lr=0.01)
    schedule = tg.optim.OneCycleLR(optimizer, max_lr=0.1, total_steps=500)
    batches = tg.data.batches((x, y), 8, shuffle=True, rng=0)
    history = tg.fit(
        model, nn.cross_entropy, batches, optimizer=optimizer, epochs=12, progress=False,
        metrics={f"a_metric_with_a_long_name_{i}": tg.training.accuracy for i in range(4)},
    )  # fmt: skip

    def compiled(x: Any) -> Any:
        return np.sum(np.tanh(x @ x.T)) + np.mean(x)

    def loss(x: Any) -> Any:
        return np.sum(nn.relu(model(x)))

    plan = tg.compile(compiled, backend="numpy").lower(x)
    model[0].weight.grad = np.ones((30, 2))
    return {
        "tensor": model[0].weight,
        "long tensor": tg.Tensor(np.linspace(0, 1, 100), requires_grad=True),
        "module": model,
        "summary": model.summary(x),
        "optimizer": optimizer,
        "schedule": schedule,
        "step schedule": tg.optim.StepLR(optimizer, 10),
        "plateau": tg.optim.ReduceLROnPlateau(optimizer),
        "batches": batches,
        "history": history,
        "plan": plan,
        "plan's profile": plan.profile(2),
        "profile": tg.profile(loss)(x),
        "empty profile": tg.profile(np.sum)(x),
        "scalar network": tg.scalar.MLP(2, [3, 1], output_activation="linear"),
        "scalar layer": tg.scalar.Layer(2, 0),
        "scalar neuron": tg.scalar.Neuron(2, np.tanh),
        "average": tg.optim.ExponentialMovingAverage(model.parameters()),
        "checkpoint": tg.Checkpoint("run", **{f"model_with_a_name_{i}": model for i in range(5)}),
        "stages": tg.viz.program(plan),
        "graph": tg.viz.graph(nn.cross_entropy(model(x), y), model),
    }


class Checker(html.parser.HTMLParser):
    """Collects the text, and sees that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, _attributes: Any) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def text_of(item: Any) -> str:
    checker = Checker()
    checker.feed(item._repr_html_())
    assert not checker.open
    return checker.text


def test_a_console_shows_lines_of_at_most_80_columns(subtests: pytest.Subtests) -> None:
    for name, item in objects().items():
        with subtests.test(name):
            text = repr(item)
            assert max(map(len, text.split("\n"))) <= 80
            assert "object at 0x" not in text
            assert r"\n" not in text


HTML = {
    "tensor": ["shape (30, 2), float64", "requires_grad=True", "norm 7.746"],
    "module": ["Sequential", "Linear", "90", "total", "152"],
    "summary": ["output", "(50, 30)"],
    "optimizer": ["AdamW", "lr", "0.01", "152"],
    "schedule": ["OneCycleLR", "last_epoch", "lr", "[0.004]"],
    "batches": ["shape", "(50, 2)", "int64", "7 batches, batch_size=8, shuffle=True"],
    "history": ["epoch", "12", "loss", "a_metric_with_a_long_name_3", "stopped by epochs"],
    "plan": ["call", "makes", "calls by numpy"],
    "plan's profile": ["share", "tanh"],
    "profile": ["backward us", "relu", "total"],
    "empty profile": ["no operation was recorded"],
    "stages": ["trace", "matmul"],
}


@pytest.mark.parametrize("name", HTML)
def test_a_notebook_shows_html_with_the_facts(name: str) -> None:
    text = text_of(objects()[name])
    assert all(part in text for part in HTML[name]), text


def test_plain_forms_have_the_facts() -> None:
    assert repr(objects()["batches"]) == (
        "7 batches of ((50, 2) float64, (50,) int64, batch_size=8, shuffle=True)"
    )
    assert repr(objects()["step schedule"]) == (
        "StepLR(step_size=10, gamma=0.1, last_epoch=0, lr=[0.004])"
    )
    assert "OneCycleLR(" in repr(objects()["schedule"])
    assert repr(objects()["long tensor"]).endswith("\n       requires_grad=True)")
    assert repr(objects()["scalar network"]) == "MLP(2 -> 3 tanh -> 1 linear)"
    assert repr(objects()["scalar layer"]) == "Layer(0)"
    assert repr(objects()["scalar neuron"]) == "Neuron(2 -> tanh)"
    assert repr(objects()["average"]) == "ExponentialMovingAverage(decay=0.999) of 152 numbers"
    assert "\n  model_with_a_name_2, " in repr(objects()["checkpoint"])
    assert len(repr(tg.History())) < 20
    assert "epoch" in text_of(tg.History())


def test_html_escapes_what_users_name() -> None:
    history = tg.History()
    history.append({"loss": 1.0, "<script>&": 2.0})
    assert "<script>" not in history._repr_html_()
    assert "<script>&" in text_of(history)


def test_a_table_is_text_in_columns() -> None:
    table = Table([("a", "b"), ("long", "1"), ("x", "22")], "<>", ["total 23"])
    assert table == "a      b\nlong   1\nx     22\ntotal 23"
    assert repr(table) == str(table)
    assert [*map(len, repr(Table([("a" * 50, "b" * 50)], "<<")).split("\n"))] == [80]


CELLS = {
    "import numpy as np, tensorgrad as tg": None,
    "model = tg.MLP(2, [8, 2], rng=0)\nmodel": "text/html",
    "model.summary(np.ones((5, 2)))": "text/html",
    "x, y = tg.data.moons(64, rng=0)\ntg.data.batches((x, y), 8)": "text/html",
    "history = tg.fit(\n"
    "    model, tg.nn.cross_entropy, tg.data.batches((x, y), 8),\n"
    "    optimizer=tg.optim.Adam(model.parameters()), epochs=30,\n"
    ")\nhistory": "text/html",
    "tg.compile(lambda x: np.sum(np.tanh(x))).lower(x)": "text/html",
    "tg.Tensor([1.0, 2.0], requires_grad=True)": "text/html",
    "tg.viz.graph(tg.nn.cross_entropy(model(x), y), model)": "text/plain",
}


def run_notebook() -> Any:
    """A notebook with these cells, after it was run."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, CELLS)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's libraries
def test_a_real_notebook_shows_the_objects_and_one_line_of_progress() -> None:
    notebook = run_notebook()
    for cell, (source, form) in zip(notebook.cells, CELLS.items(), strict=True):
        results = [output.data for output in cell.outputs if output.output_type == "execute_result"]
        assert [form in data for data in results] == ([] if form is None else [True]), source
        assert not any("object at 0x" in str(data) for data in results)
    (fit,) = [cell for cell in notebook.cells if "tg.fit" in cell.source]
    streams = [output.text for output in fit.outputs if output.output_type == "stream"]
    assert "Warning" not in "".join(streams)
    assert len(streams) < 20  # not one for each of 240 steps, nor of 30 epochs
    shown = "".join(streams).split("\r")[-1] or shown_by_widgets(notebook)
    assert all(part in shown for part in ["epoch 30/30", "100%", "240/240", "loss"]), shown


def shown_by_widgets(notebook: Any) -> str:
    """The text of the widgets, which are there if ipywidgets is installed."""
    widgets = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    texts = [w["state"]["value"] for w in widgets.values() if w["model_name"] == "HTMLModel"]
    return " ".join(texts).replace("\N{FIGURE SPACE}", " ")
