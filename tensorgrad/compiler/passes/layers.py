"""Layers in programs: `x @ w + b`, and the calls that make the gradients of w and b."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from ..functions import Attribute
from ..ir import Call, Program, Value
from ..ops import is_product
from .algebra import sums_along


class Layer(NamedTuple):
    """The calls of `x @ w + b`, and w and b as one matrix of which b is the last row."""

    product: Call
    add: Call
    x: Value
    weights: Value


class Gradient(NamedTuple):
    """The calls `g.T @ x` and `sum(g, axis=0)`, of one layer."""

    product: Call
    total: Call
    x: Value
    g: Value


def find_layers(program: Program) -> list[Layer]:
    """The layers whose biases lie just after the weights, as optimizers put them."""
    calls, uses = program.calls, program.uses()
    makers = {r: (i, call) for i, call in enumerate(calls) for r in call.results}
    changes = [*accumulate(c.target is not None or c.kind == "effect" for c in calls)]  # so far
    layers = []
    for j, call in enumerate(calls):
        if call.fun is not np.add or call.kwargs or call.kind != "pure":
            continue
        for y, b in (call.args, call.args[::-1]):
            if not isinstance(y, Value) or y not in makers or uses[y] != 1:
                continue
            i, product = makers[y]
            if not is_product(product) or product.errors != call.errors:
                continue
            x, w = product.args
            weights = together(w, b, product.fun is np.inner)
            if x.ndim == 2 and weights is not None and changes[i] == changes[j]:
                layers.append(Layer(product, call, x, weights))
    return layers


def together(w: Value, b: Any, transposed: bool) -> Value | None:
    """The weights and the bias as one matrix of shape (nin + 1, nout), if they lie so.

    If `transposed`, the weights are a matrix of shape (nout, nin).
    """
    if not (isinstance(b, Value) and b.storage is w.storage and w.storage.home == "state"):
        return None
    if w.ndim != 2:
        return None
    nin, nout = w.shape[::-1] if transposed else w.shape
    if not (
        b.shape == (nout,)
        and b.dtype == w.dtype
        and (w.is_f_contiguous if transposed else w.is_c_contiguous)
        and b.is_c_contiguous
        and b.offset == w.offset + w.nbytes
    ):
        return None
    return replace(w, shape=(nin + 1, nout), strides=(nout * w.itemsize, w.itemsize))


def find_gradients(program: Program) -> Iterator[Gradient]:
    """The gradients of weights and biases, where both are made of the same values."""
    makers = program.makers()
    sums = {call.args[0]: call for call in program.calls if sums_rows(call)}
    for product in program.calls:
        if not is_product(product) or product.fun is np.inner:
            continue
        transposed, x = product.args
        turning = makers.get(transposed)
        total = sums.get(turning.args[0]) if turning and transposes(turning) else None
        if total is not None and total.errors == product.errors:
            yield Gradient(product, total, x, total.args[0])


def sums_rows(call: Call) -> bool:
    """Whether a call adds up the rows of a matrix."""
    return sums_along(call, 0, (0,))


def transposes(call: Call) -> bool:
    """Whether a call views a matrix transposed."""
    return isinstance(call.fun, Attribute) and call.fun.__name__ in ("T", "mT")
