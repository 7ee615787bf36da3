"""Layout assignment: which small matrices lie by columns.

Ones behind an array that lies by columns follow it in memory, so that element-wise calls need not
know of them. Bias folding needs such ones, and saves two calls in each layer: a step of 2-16-16-1
for 100 samples takes 11.1 us by columns, and 12.8 by rows. In products, it depends on the
processor's kernels, the shape and the dtype whether columns or rows are faster. With OpenBLAS'
Nehalem, Sandybridge and Haswell kernels, whole steps take as long by columns or up to a fifth less;
so do most with SkylakeX kernels, but 100-100-100-10 in float64 takes 1.12 times as long, and the
products of a layer 64-1 for 256 samples 2.6 times. So larger products are measured; a gain of less
than a tenth does not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ..costs import Bias, Product, Work, seconds
from ..ir import Call, Order, Program, Value, new_value
from ..ops import is_bits, is_elementwise, is_product, takes_out
from .layers import Layer, find_gradients, find_layers, sums_rows, transposes

SMALL = 1 << 14  # elements of arrays that may lie by columns; larger ones gain nothing
# Multiplications of the largest product of a group that is measured. With fewer, the calls that
# columns save count more than the kernels; with more, measuring takes long.
MEASURED = range(1 << 15, 1 << 21)
WORTHWHILE = 0.9

Costs: TypeAlias = Callable[[Iterable[Work]], Mapping[Work, float]]


def assign_layouts(program: Program, costs: Costs = seconds) -> Program:
    """Let the inputs of layers, and what is computed with them, lie by columns.

    h = tanh(z)              h = tanh(z)             # z and h by columns
    y = h @ w                y = h @ w

    That is so of small matrices that only products, sums over rows and element-wise calls use. If
    their products take less time by rows, they stay as they are, and a remark says so.
    """
    layers = find_layers(program)
    groups = _groups(program, {layer.x for layer in layers})
    if not groups:
        return program
    by_rows, remarks = _measured(program, layers, groups, costs)
    turned = [v for i, group in enumerate(groups) if i not in by_rows for v in group]
    program = program._replace(remarks=(*program.remarks, *remarks))
    return program.substituted({v: _by_columns(v) for v in turned})


def assign_layouts_by_rule(program: Program) -> Program:
    """Do as `assign_layouts` does, but without measured costs."""
    return assign_layouts(program, lambda _works: {})


def _by_columns(value: Value) -> Value:
    return value.placed(new_value(value.shape, value.dtype, (1, 0)))


def _groups(program: Program, inputs: Collection[Value]) -> list[list[Value]]:
    """The values that may lie by columns, with inputs of layers among them.

    Those of a group lie alike, as element-wise calls compute them with one another.
    """
    alike: dict[Value, Value] = {}  # each leads to another one that lies as it does, or to itself

    def leader(v: Value) -> Value:
        while alike.setdefault(v, v) is not v:
            alike[v] = v = alike[alike[v]]
        return v

    makers = program.makers()

    def seen(v: Value) -> Value:
        """The array of which a value may be the bits."""
        while v in makers and is_bits(makers[v]):
            v = makers[v].args[0]
        return v

    barred = program.written().union(v.storage for v in program.outputs)
    for call in program.calls:
        values = [v for v in (*call.reads, *call.results) if v.ndim == 2]
        if call.kind == "pure" and (is_elementwise(call) or call.fun is np.where):
            (result, *_) = call.results
            for v in values:
                if v.shape == result.shape and 1 not in v.shape:  # else columns lie as rows do
                    alike[leader(seen(v))] = leader(result)
        elif not (is_product(call) or sums_rows(call) or transposes(call) or is_bits(call)):
            barred.update(v.storage for v in values if 1 not in v.shape)
    groups = defaultdict(list)
    for v in dict.fromkeys([*alike, *inputs]):
        groups[leader(v)].append(v)
    return [
        groups[first]
        for first in dict.fromkeys(map(leader, inputs))
        if all(is_free(v, makers.get(v)) and v.storage not in barred for v in groups[first])
    ]


def _measured(
    program: Program, layers: Sequence[Layer], groups: Sequence[Sequence[Value]], costs: Costs
) -> tuple[set[int], list[str]]:
    """The numbers of the groups that take less time by rows, and what was measured."""
    numbers = {v: i for i, group in enumerate(groups) for v in group}
    candidates = _candidates(layers, numbers)
    if not candidates:
        return set(), []
    products = _Products(program, layers, numbers)
    choices = {}
    for i in candidates:
        calls = products.of(groups[i])
        choices[i] = products.works(calls), products.works(calls, by_rows=i)
    works = [work for choice in choices.values() for side in choice for work in side]
    known = costs(works)
    by_rows, remarks = set(), []
    for i, choice in choices.items() if known else ():
        columns, rows = (sum(known[work] for work in side) for side in choice)
        gains = rows < WORTHWHILE * columns
        if gains:
            by_rows.add(i)
        v = groups[i][0]
        remarks.append(
            f"{v.location}: {v.dtype}{[*v.shape]} lies by {'rows' if gains else 'columns'}, as its "
            f"products take {columns * 1e6:.1f} us by columns, {rows * 1e6:.1f} by rows"
        )
    return by_rows, remarks


def _candidates(layers: Iterable[Layer], numbers: Mapping[Value, int]) -> list[int]:
    """The numbers of the groups whose largest product is measured.

    The gradients of a layer take as many multiplications as the layer itself.
    """
    largest: dict[int, int] = defaultdict(int)
    for layer in layers:
        count = layer.x.shape[0] * layer.weights.size
        for i in {numbers[v] for v in (layer.x, *layer.product.results) if v in numbers}:
            largest[i] = max(largest[i], count)
    return [i for i, count in largest.items() if count in MEASURED]


class _Products:
    """The products of matrices in a program, and what they cost for each layout.

    `numbers` are those of the groups of values that may lie by columns.
    """

    def __init__(
        self, program: Program, layers: Sequence[Layer], numbers: Mapping[Value, int]
    ) -> None:
        self._makers = program.makers()
        self._numbers = numbers
        self._layers = {layer.product: layer.x for layer in layers}
        self._gradients = {g.product: g.x for g in find_gradients(program)}
        self._by_value: dict[Value, list[Call]] = defaultdict(list)
        for call in program.calls:
            values = (*call.args, *call.results) if is_product(call) else ()
            if all(v.ndim == 2 for v in values):
                for v in values:
                    self._by_value[self._seen(v)[0]].append(call)

    def of(self, group: Iterable[Value]) -> list[Call]:
        """The products that read or make a value of a group."""
        return [*dict.fromkeys(call for v in group for call in self._by_value[v])]

    def works(self, calls: Iterable[Call], by_rows: int | None = None) -> list[Work]:
        """The products, and what else layers do with biases, if one group lies by rows."""
        found: list[Work] = []
        for call in calls:
            (x, w), (y,) = call.args, call.results
            (m, k), n = x.shape, y.shape[1]
            a, b, c = (self._order(v, by_rows) for v in (x, w, y))
            if call in self._gradients:
                if self._lies_by_columns(self._gradients[call], by_rows):
                    # [x, 1].T @ g in place of g.T @ x, and no sum
                    found.append(Product(n + 1, k, m, (_turned(b), _turned(a), "C"), x.dtype))
                    continue
                found.append(Product(1, k, m, ("C", _turned(a), "C"), x.dtype))
            if call in self._layers:
                if self._lies_by_columns(self._layers[call], by_rows):
                    k += 1
                else:
                    found.append(Bias(m, n, x.dtype))
            orders = a, _turned(b) if call.fun is np.inner else b, c
            found.append(Product(m, k, n, orders, x.dtype))
        return found

    def _seen(self, value: Value) -> tuple[Value, bool]:
        """The value that a value views, and whether transposed."""
        is_transposed = False
        while value in self._makers and transposes(self._makers[value]):
            value, is_transposed = self._makers[value].args[0], not is_transposed
        return value, is_transposed

    def _order(self, value: Value, by_rows: int | None) -> Order:
        seen, is_transposed = self._seen(value)
        order = "F" if self._lies_by_columns(seen, by_rows) else seen.order
        return _turned(order) if is_transposed else order

    def _lies_by_columns(self, value: Value, by_rows: int | None) -> bool:
        """Whether a value is of a group, and not of the one that lies by rows."""
        return self._numbers.get(value, by_rows) != by_rows


def _turned(order: Order) -> Order:
    return "C" if order == "F" else "F"


def is_free(v: Value, maker: Call | None) -> bool:
    """Whether a small value may get memory of its own, laid out in another way."""
    return (
        v.size <= SMALL
        and v.storage.home == "temporary"
        and v.is_whole
        and maker is not None
        and maker.kind == "pure"
        and takes_out(maker)
    )
