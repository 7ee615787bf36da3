"""Drawings: graphs, stages of programs, curves."""

import builtins
import io
import math
import re
import shutil
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn, scalar, viz
from tensorgrad.scalar import Value

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")


class Residual(nn.Module):
    def __init__(self) -> None:
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)

    def __call__(self, x: Any) -> Any:
        hidden = np.tanh(self.first(x))
        return hidden + self.second(hidden)


def titles(graph: viz.Graph) -> list[str]:
    return [box.title for box in graph.boxes]


def box_of(graph: viz.Graph, title: str) -> Any:
    (box,) = [box for box in graph.boxes if box.title == title]
    return box


def plain_lines(text: str) -> list[str]:
    lines = text.splitlines()
    assert lines
    assert all(len(line) <= 80 for line in lines)
    return lines


# -- graphs


def test_a_graph_has_names_shapes_values_and_the_gradients_of_a_later_backward() -> None:
    w, b = (tg.Tensor(a, requires_grad=True) for a in ([[1.0, -2.0]], [0.5]))
    x, target = np.array([[3.0, 4.0]]), np.float32([1.0])
    loss = np.sum((np.inner(x, w) + b - target) ** 2, axis=1)[0]
    graph = viz.graph(loss, {"w": w, "b": b, "x": x})
    assert titles(graph)[-1] == "getitem 0"
    assert box_of(graph, "w").lines == ["w", "(1, 2) = [[1.0, -2.0]]"]
    assert [p.title for p in box_of(graph, "inner").parents] == ["x", "w"]
    assert box_of(graph, "square").kind == "operation"
    assert box_of(graph, "sum axis=1").facts == ["(1,) = [30.25]"]
    loss.backward()
    assert box_of(graph, "b").lines[-1] == "grad [-11.0]"
    assert any(
        "w, (1, 2)" in line and "grad [[-33.0, -44.0]]" in line for line in plain_lines(str(graph))
    )
    with pytest.raises(tg.GraphError, match="retain_graph"):
        viz.graph(loss)


def test_values_are_computed_again_where_no_tensor_holds_them() -> None:
    w = tg.Tensor([1.0, 2.0], requires_grad=True)
    loss = np.sum((w + 1) - w * 3)  # neither + nor - saves anything
    facts = [box.facts[0] for box in viz.graph(loss).boxes if box.title in ("add 1", "subtract")]
    assert facts == ["(2,) = [2.0, 3.0]", "(2,) = [-1.0, -3.0]"]


def test_operations_of_several_results_are_drawn_with_each_result() -> None:
    a = tg.Tensor(np.diag([3.0, 2.0]), requires_grad=True)
    u, s, vt = np.linalg.svd(a)
    graph = viz.graph(np.sum(u) + np.sum(s) + np.sum(vt))
    parts = [title for title in titles(graph) if "result" in title]
    assert parts == ["svd, result 0", "svd, result 1", "svd, result 2"]
    assert box_of(graph, "svd, result 1").facts == ["(2,) = [3.0, 2.0]"]


def test_modules_frame_their_operations() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    loss = nn.mse_loss(model(np.ones((5, 3))), np.zeros((5, 1)))
    graph = viz.graph(loss, {"net": model})
    assert {box.title: box.group for box in graph.boxes if box.kind == "operation"} == {
        "Linear": "net.2",
        "tanh": "net.0",
        "mse_loss": "",
    }
    residual = Residual()
    groups = [b.group for b in viz.graph(np.sum(residual(np.ones(3))), {"r": residual}).boxes]
    assert groups.count("r.first") == 3
    assert groups.count("r.second") == 3
    assert groups.count("r") == 2  # tanh and the sum, in the module's own __call__


def test_large_graphs_collapse_by_module_and_by_line() -> None:
    layers = [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0) for _ in range(3)]
    model = nn.Sequential(*layers)
    loss = np.sum(model(np.ones((2, 5, 8))) ** 2)
    whole, small = viz.graph(loss, model, collapse=False), viz.graph(loss, model)
    assert len(whole.boxes) > 100 > 30 > len(small.boxes)
    assert {box.title.partition(":")[0].split(".")[0] for box in small.boxes[:-1]} == {
        "0",
        "1",
        "2",
    }
    counted = sum(
        int(n) for box in small.boxes for n in re.findall(r"(\d+) operation", str(box.facts))
    )
    assert counted == sum(box.kind == "operation" for box in whole.boxes)
    x = tg.Tensor(np.ones(3), requires_grad=True)
    y = x
    for _ in range(2000):  # deeper than Python's recursion may go
        y = np.sin(y)
    y = np.sum(y)
    places = [box.title for box in viz.graph(y).boxes]
    assert len(places) == 3
    assert all(place.startswith("test_viz.py:") for place in places[1:])
    assert len(plain_lines(str(viz.graph(y, collapse=False)))) == 2002


def test_a_tree_says_where_a_value_is_used_again() -> None:
    w = tg.Tensor(2.0, requires_grad=True)
    h = np.exp(w)
    lines = plain_lines(str(viz.graph(h * np.sin(h), {"w": w})))
    assert lines == [
        "multiply, () = 6.605",
        "├ exp, () = 7.389",
        "│ └ w, () = 2",
        "└ sin, () = 0.8939",
        "  └ exp, () = 7.389 (as above)",
    ]


def test_what_cannot_be_drawn_is_refused() -> None:
    w = tg.Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(TypeError, match="graph: a tensor or a Value is drawn, not ndarray"):
        viz.graph(np.ones(2))
    for leaf in w, tg.Tensor(1.0):
        with pytest.raises(tg.GraphError, match="nothing to draw"):
            viz.graph(leaf)
    with pytest.raises(TypeError, match=r"names is a module, or a dict .*, not list"):
        viz.graph(np.sum(w), [w])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'graph\.bmp' ends with none of"):
        viz.graph(np.sum(w)).save("graph.bmp")


# -- the scalar engine


def test_values_are_drawn_with_labels_operations_data_and_gradients() -> None:
    a, b = Value(2.0, label="a"), Value(Fraction(1, 2))
    c = (2 / a + b**2).relu()
    c.label = "c"
    c.backward()
    graph = viz.graph(c, {"b": b})
    assert [box.lines for box in graph.boxes] == [
        ["a", "data 2", "grad -0.5"],
        ["2 /", "data 1", "grad 1"],
        ["b", "data 1/2", "grad 1"],
        ["** 2", "data 1/4", "grad 1"],
        ["+", "data 1.25", "grad 1"],
        ["c = relu", "data 1.25", "grad 1"],
    ]
    neuron = scalar.Neuron(2, rng=0)
    deep = neuron([1.0, 2.0])
    for _ in range(5000):
        deep = deep + 1
    assert len(viz.graph(deep).boxes) > 5000


def leaves_of(value: Value) -> Iterator[Value]:
    seen = {value}
    found = [value]
    for item in found:
        new = {*item._parents} - seen
        seen |= new
        found += new
        if not item._parents:
            yield item


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_explode_gives_every_number_of_every_leaf_its_gradient(activation: str) -> None:
    model = tg.MLP(3, [4, 2], activation=activation, rng=1)
    x = np.random.default_rng(2).normal(size=(2, 3))
    weight = tg.Tensor([0.5, 2.0], requires_grad=True)
    loss = np.mean(np.square(model(x) - [[1.0, 0.0]]) * np.sqrt(weight)) / 3
    value = viz.explode(loss, {"net": model, "weight": weight})
    assert math.isclose(value.data, loss.item(), rel_tol=1e-12)
    loss.backward()
    value.backward()
    got = {leaf.label: leaf.grad for leaf in leaves_of(value) if leaf.label}
    named = {f"net.{name}": p for name, p in model.named_parameters()} | {"weight": weight}
    expected = {
        f"{name}[{', '.join(map(str, index))}]": g
        for name, p in named.items()
        for index, g in np.ndenumerate(p.grad)
    }
    assert got == pytest.approx(expected, rel=1e-12)


def test_explode_keeps_the_shape_of_its_tensor() -> None:
    w = tg.Tensor([[1.0, 2.0]], requires_grad=True)
    values = viz.explode(np.exp(w))
    assert values.shape == (1, 2)
    assert all(isinstance(value, Value) for value in values.flat)


def test_explode_names_what_it_cannot_write_out() -> None:
    a = tg.Tensor(np.eye(2), requires_grad=True)
    with pytest.raises(TypeError, match=r"explode: sin \(called at .*has no form in scalars"):
        viz.explode(np.sum(np.sin(a)))
    with pytest.raises(TypeError, match=r"explode: slogdet .*has no form"):
        viz.explode(np.linalg.slogdet(a)[1])
    with pytest.raises(ValueError, match="2,049 numbers; at most 2,000"):
        viz.explode(np.sum(np.exp(tg.Tensor(np.ones(1024), requires_grad=True))))
    with pytest.raises(tg.GraphError, match="has no graph"):
        viz.explode(tg.Tensor(1.0))


# -- programs


def test_stages_show_what_each_pass_took_away_and_added() -> None:
    def f(x: Any) -> Any:
        return np.sum((x * 1.0) ** 2)

    plan = tg.compile(f, backend="numpy").lower(np.ones(3))
    stages = viz.program(plan)
    first, *others = stages.columns
    assert first.name == "trace"
    assert not any(line.mark for line in first.lines)
    calls = [line.text for line in first.lines]
    for column in others:  # what is gone and new explains the whole difference
        for line in column.gone:
            calls.remove(line)
        assert len(column.lines) == len(calls) + sum(line.mark == "+" for line in column.lines)
        calls = [line.text for line in column.lines]
    text = plain_lines(str(stages))
    assert any(line.startswith("  - ") and "multiply" in line for line in text)
    html = stages._repr_html_()
    assert html.count("<td") == len(stages.columns)
    assert all(column.name in html for column in stages.columns)
    with pytest.raises(TypeError, match=r"float has no stages: pass tg\.compile\(f\)\.lower"):
        viz.program(1.0)


# -- files


def missing(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def find(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == module:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", find)


def test_without_graphviz_a_graph_is_a_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    missing("graphviz", monkeypatch)
    w = tg.Tensor(np.ones(2), requires_grad=True)
    graph = viz.graph(np.sum(w))
    with pytest.raises(ImportError, match=r"tensorgrad\.viz\.graph needs graphviz: python -m pip"):
        graph.source  # noqa: B018
    forms = graph._repr_mimebundle_()
    assert [*forms] == ["text/plain"]
    assert "sum, () = 2" in forms["text/plain"]
    assert "pip install graphviz" in forms["text/plain"]
    assert graph.save(tmp_path / "g.txt").read_text(encoding="utf-8") == f"{graph}\n"


def test_without_dot_a_graph_is_saved_as_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    pytest.importorskip("graphviz")
    monkeypatch.setattr("shutil.which", lambda _: None)
    w = tg.Tensor(np.ones(2), requires_grad=True)
    graph = viz.graph(np.sum(np.exp(w)), {'a \\ "quoted" <w>': w})
    source = graph.save(tmp_path / "g.dot").read_text(encoding="utf-8")
    assert source == graph.source
    assert source.count("->") == 2
    assert r"a \\ \"quoted\" <w>" in source
    with pytest.raises(RuntimeError, match="install Graphviz from https"):
        graph.save(tmp_path / "g.png")
    assert "install Graphviz" in graph._repr_mimebundle_()["text/plain"]


@needs_dot
def test_graphs_are_rendered_with_their_labels(tmp_path: Any) -> None:
    pytest.importorskip("graphviz")
    image = pytest.importorskip("matplotlib.image")
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    loss = nn.mse_loss(model(np.ones((5, 3))), np.zeros((5, 1)))
    graph = viz.graph(loss, {"net": model})
    loss.backward()
    svg = graph._repr_mimebundle_()["image/svg+xml"]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"net.0", "net.0.weight", "(4, 3)", "tanh", "mse_loss", "net.2.bias"} <= {*texts}
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)"', svg)]
    assert min(sizes) >= 10
    pixels = image.imread(graph.save(tmp_path / "graph.png"))
    height, width = pixels.shape[:2]
    assert 100 < height < 1000 < width < 3000
    assert 0.02 < np.mean(pixels[..., :3].mean(axis=-1) < 0.97) < 0.6  # neither blank nor full


# -- curves


@pytest.fixture
def axes() -> Iterator[Any]:
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"backend": "Agg"}):
        pyplot = pytest.importorskip("matplotlib.pyplot")
        yield pyplot.subplots(figsize=(6, 4))[1]
        pyplot.close("all")


def texts_of(ax: Any) -> str:
    """All text of the axes, after they were rendered: the picture is not blank."""
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, format="rgba", dpi=100)
    pixels = np.frombuffer(buffer.getvalue(), np.uint8).reshape(400, 600, 4)
    assert 0.01 < np.mean(pixels[..., :3].min(axis=-1) < 240) < 0.95
    for label in [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label]:
        assert label.get_fontsize() >= 8
    parts = [ax.get_xlabel(), ax.get_ylabel(), *(t.get_text() for t in ax.texts)]
    parts += [t.get_text() for t in ax.get_yticklabels()]
    legend = ax.get_legend()
    parts += [] if legend is None else [t.get_text() for t in legend.get_texts()]
    return "|".join(parts)


def test_a_history_is_drawn_by_epochs(axes: Any) -> None:
    history = tg.History()
    for loss in 1.0, 0.5, 0.2:
        history.append({"loss": loss, "val_loss": loss + 0.1, "accuracy": 1 - loss})
    history.best_epoch = 2
    assert history.plot(ax=axes) is axes
    text = texts_of(axes)
    assert all(part in text for part in ("epoch", "loss", "training", "validation", "epoch, 2"))
    lines = axes.get_lines()
    assert [*lines[0].get_xdata()] == [1, 2, 3]
    assert [*lines[1].get_ydata()] == history["val_loss"]
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(lines)
    with pytest.raises(KeyError, match="no column 'f1'"):
        history.plot("f1", ax=axes)
    assert axes.figure is history.plot("accuracy", ax=axes).figure


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_a_decision_boundary_lies_where_the_model_changes_its_mind(axes: Any, outputs: int) -> None:
    x = np.array([[-1.0, 0.0], [1.0, 0.0], [0.5, 1.0]])
    y = np.array(["left", "right", "right"] if outputs < 3 else ["a", "b", "c"])
    model = nn.Sequential(nn.Linear(2, outputs), nn.Dropout(0.5))
    model.train()
    model[0].weight.data = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 5.0]])[:outputs]
    if outputs == 2:
        model[0].weight.data = np.array([[-1.0, 0.0], [1.0, 0.0]])
    model[0].bias.data = np.zeros(outputs)
    assert viz.decision_boundary(model, x, y, ax=axes, steps=21) is axes
    assert model.training
    assert model[1].training
    assert f"class {y[0]}" in texts_of(axes)
    if outputs < 3:
        border = axes.collections[-3 if outputs < 3 else 0].get_paths()[0].vertices
        assert np.allclose(border[:, 0], 0, atol=0.15)


def test_a_boundary_of_two_classes_is_smooth_and_scores_may_be_infinite(axes: Any) -> None:
    x, y = np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([0, 1])
    viz.decision_boundary(lambda p: p[:, 0] + 0.3 * p[:, 1], x, y, ax=axes, steps=20)
    line = axes.collections[-3].get_paths()[0].vertices
    assert np.allclose(line @ [1, 0.3], 0, atol=1e-9)  # on the line, not only near it
    axes.clear()
    with np.errstate(divide="ignore"):
        viz.decision_boundary(lambda p: 1 / np.trunc(p[:, 0]), x, y, ax=axes, steps=20)
    assert texts_of(axes)


def test_a_decision_boundary_refuses_other_shapes(axes: Any) -> None:
    with pytest.raises(ValueError, match=r"x of shape \(3, 3\) and y of shape \(3,\)"):
        viz.decision_boundary(lambda x: x, np.ones((3, 3)), np.ones(3), ax=axes)
    with pytest.raises(ValueError, match=r"for 3 classes, the model returned shape \(10000, 2\)"):
        viz.decision_boundary(lambda x: x, np.ones((3, 2)), np.arange(3), ax=axes)
    assert not axes.collections


def test_gradients_mark_vanishing_and_exploding_ones(axes: Any) -> None:
    model = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(5)))
    with pytest.raises(ValueError, match=r"call loss\.backward\(\) first"):
        viz.gradients(model, ax=axes)
    for scale, parameter in zip([1e-5, 1.0, 2.0, 1e4, np.nan], model.parameters()):
        parameter.grad = np.full((3, 3), scale)
    viz.gradients(model, ax=axes)
    marked = {round(t.xy[1]): t.get_text().strip() for t in axes.texts}
    assert marked == {0: "vanishing", 3: "exploding", 4: "exploding"}
    assert "4.weight" in texts_of(axes)
    assert len({(bar.get_hatch(), bar.get_facecolor()) for bar in axes.patches}) == 3


def test_weights_are_drawn_with_a_row_for_each_output(axes: Any) -> None:
    layer = nn.Linear(4, 2)
    viz.weights(layer, ax=axes)
    (picture,) = axes.images
    assert np.array_equal(picture.get_array(), layer.weight.data)
    assert picture.get_clim() == (-abs(layer.weight.data).max(), abs(layer.weight.data).max())
    assert f"{layer.weight.data[1, 3]:.2g}" in texts_of(axes)
    viz.weights(nn.Conv2d(2, 5, 3), ax=axes)
    assert axes.images[-1].get_array().shape == (5, 18)
    with pytest.raises(TypeError, match="Tanh has no weight"):
        viz.weights(nn.Tanh(), ax=axes)


def test_profiles_are_drawn_in_microseconds(axes: Any) -> None:
    w = tg.Tensor(np.ones((3, 2)), requires_grad=True)
    report = tg.profile(lambda x: np.sum(np.tanh(x @ w)))(np.ones((5, 3)))
    viz.profile(report, ax=axes)
    text = texts_of(axes)
    assert all(part in text for part in ("microseconds", "tanh (5, 2)", "forward", "backward"))
    lengths = sum(bar.get_width() for bar in axes.patches)
    assert math.isclose(lengths, sum(1e6 * (o.forward + o.backward) for o in report.operations))
    plan = tg.compile(lambda x: np.sum(np.tanh(x)), backend="numpy").lower(np.ones(3))
    axes.clear()
    viz.profile(plan.profile(2), ax=axes)
    assert "tanh" in texts_of(axes)
    with pytest.raises(TypeError, match="is drawn, not list"):
        viz.profile([], ax=axes)


def test_curves_name_the_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    missing("matplotlib", monkeypatch)
    with pytest.raises(ImportError, match=r"tensorgrad\.viz\.history needs matplotlib: python"):
        viz.history({"loss": [1.0]})


def test_what_curves_cannot_show_is_named(axes: Any) -> None:
    x, y = np.ones((4, 2)), np.arange(4) % 2
    with pytest.raises(ValueError, match="there is no epoch to draw"):
        viz.history(tg.History(), ax=axes)
    with pytest.raises(TypeError, match="or a dict of columns, is drawn, not list"):
        viz.history([1.0, 2.0], ax=axes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="x has a NaN or an infinity"):
        viz.decision_boundary(lambda x: x[:, 0], x * np.nan, y, ax=axes)
    with pytest.raises(TypeError, match="those of a Module are drawn, not of list"):
        viz.gradients([tg.Tensor(1.0)], ax=axes)  # type: ignore[arg-type]
