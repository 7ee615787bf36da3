"""Bias folding: biases as one more row of the weights, for inputs that end in a column of ones.

Where a bias lies just after its weights in memory, as optimizers put those of a layer, `x @ w + b`
is one product of [x, 1] and both; and one product makes the gradients of both, too. The ones stay
where they are. Results are not those of separate calls to the last bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from ..functions import assign_at, attribute, getitem, with_ones
from ..ir import Call, Order, Program, Value, new_value, view
from .algebra import made_view
from .layers import Layer, find_gradients, find_layers, together
from .layout_assignment import is_free

COPIED = 1 << 14  # elements of an argument that is copied, to be followed by ones; at most
FEW = 32  # columns of an argument, at most, whose copy by columns takes no longer than by rows


def fold_biases(program: Program) -> Program:
    """Make products that include the biases, for inputs by columns and for small arguments.

    y = x @ w                x1 = [x, 1]
    z = y + b                z = x1 @ [w, b]
    """
    layers = find_layers(program)
    makers = program.makers()
    taken = program.written().union(v.storage for v in program.outputs)
    moved: dict[Value, Value] = {}
    extended: dict[Value, Value] = {}  # the inputs of layers, as they lie now, with their ones
    # Copies of arguments, and views with ones, by the calls that they come after.
    more: dict[Call | None, list[Call]] = defaultdict(list)
    for x, layer in {layer.x: layer for layer in layers}.items():
        later = more[makers.get(x)]
        if is_free(x, makers.get(x)) and x.is_f_contiguous and x.storage not in taken:
            moved[x] = padded = _with_room(x, "F")
        elif _is_worth_a_copy(layer):
            few = x.shape[1] <= FEW
            padded = _with_room(x, layer.add.results[0].order if few else "C")
            location = layer.product.location
            later.append(Call("pure", np.copy, (x,), results=(padded,), location=location))
        else:
            continue
        extended[moved.get(x, x)] = made_view(later, with_ones, padded)
    instead: dict[Call, list[Call]] = {}
    for layer in layers:
        whole = extended.get(moved.get(layer.x, layer.x))
        if whole is not None:
            instead[layer.product] = []
            instead[layer.add] = [layer.add.instead(np.matmul, (whole, layer.weights))]
    if not instead:
        return program
    left = [*more[None]]
    for call in program.calls:
        left += instead.get(call, [call])
        left += more.get(call, [])
    return _fold_gradients(program._replace(calls=left).substituted(moved), extended)


def _is_worth_a_copy(layer: Layer) -> bool:
    """Whether the input is an argument that is smaller than the output."""
    x, result = layer.x, layer.add.results[0]
    return x.storage.home == "input" and x.size <= min(COPIED, result.size)


def _with_room(value: Value, order: Order) -> Value:
    """The value in memory where ones follow it, which stay."""
    rows, columns = value.shape
    axes = (0, 1) if order == "C" else (1, 0)
    whole = new_value((rows, columns + 1), value.dtype, axes, "padded")
    return value.placed(view(getitem, whole, (slice(None), slice(-1))))


def _fold_gradients(program: Program, extended: Mapping[Value, Value]) -> Program:
    """Make one product for the gradients by weights and bias, where they go to one place.

    s0 = g.T @ x             s = [x, 1].T @ g
    s1 = add.reduce(g, 0)
    """
    calls = program.calls
    numbers = {call: i for i, call in enumerate(calls)}
    readers = defaultdict(list)
    for call in calls:
        for v in call.reads:
            readers[v].append(call)
    instead: dict[Call, list[Call]] = {}
    views: dict[Value, Value] = {}
    for product, total, x, g in find_gradients(program):
        (by_weights,), (by_bias,) = product.results, total.results
        copies = [*readers[by_weights], *readers[by_bias]]
        if x not in extended or len(copies) != 2 or not all(map(_fills, copies)):
            continue
        place = together(copies[0].args[0], copies[1].args[0], transposed=True)
        first, last = sorted(copies, key=numbers.__getitem__)
        other, final = sorted((product, total), key=numbers.__getitem__)
        between = calls[numbers[first] : numbers[last]]
        if place is None or numbers[first] < numbers[final] or not all(map(_fills, between)):
            continue
        whole = new_value(place.shape, by_weights.dtype, location=product.location)
        made: list[Call] = []
        args = made_view(made, attribute("mT"), extended[x]), g
        results, errors = (whole,), product.errors
        made.append(Call("pure", np.matmul, args, {}, results, None, product.location, errors))
        rows = made_view(made, getitem, whole, slice(-1))
        views[by_weights] = made_view(made, attribute("mT"), rows)
        views[by_bias] = made_view(made, getitem, whole, -1)
        instead[other], instead[final] = [], made
        instead[first] = [Call("write", assign_at, (place, ..., whole), target=place)]
        instead[last] = []
    left = [new for call in calls for new in instead.get(call, [call])]
    return program._replace(calls=left).substituted(views)


def _fills(call: Call) -> bool:
    """Whether a call copies a value to all of a place."""
    return call.fun is assign_at and call.args[1] is ... and isinstance(call.args[2], Value)
