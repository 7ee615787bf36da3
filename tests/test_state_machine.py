"""Both engines, side by side, through random sessions of a user's calls."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import tensorgrad as tg
from tensorgrad.scalar import Value

OPERATIONS = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / (y * y + 1),
    "tanh": lambda x, y: np.tanh(x + y),
}


class Pair:
    """A number in both engines, and what a backward pass from it will meet."""

    def __init__(self, tensor: Any, value: Any, parents: tuple["Pair", ...] = ()) -> None:
        self.tensor, self.value = tensor, value
        self.parents = {(p, p.version) for p in parents}
        self.version = 0  # of a leaf: how often its data was changed
        self.freed = False

    def graph(self) -> set["Pair"]:
        found = {self}
        for parent, _ in self.parents:
            found |= parent.graph()
        return found

    def is_intact(self) -> bool:
        return not any(
            pair.freed or any(version != parent.version for parent, version in pair.parents)
            for pair in self.graph()
        )


class Engines(RuleBasedStateMachine):
    leaves = Bundle("leaves")
    results = Bundle("results")

    def __init__(self) -> None:
        super().__init__()
        self.all_leaves: list[Pair] = []

    @rule(target=leaves, x=st.integers(-8, 8))
    def make_leaf(self, x: int) -> Pair:
        leaf = Pair(tg.Tensor(x / 4, requires_grad=True), Value(x / 4))
        self.all_leaves.append(leaf)
        return leaf

    @rule(
        target=results,
        name=st.sampled_from(sorted(OPERATIONS)),
        x=st.one_of(leaves, results),
        y=st.one_of(leaves, results),
    )
    def compute(self, name: str, x: Pair, y: Pair) -> Pair:
        operation = OPERATIONS[name]
        return Pair(operation(x.tensor, y.tensor), operation(x.value, y.value), (x, y))

    @rule(target=results, x=consumes(results), amount=st.integers(-3, 3))
    def change_in_place(self, x: Pair, amount: int) -> Pair:
        tensor = x.tensor
        tensor *= amount
        return Pair(tensor, x.value * amount, (x,))

    @rule(x=results, retain=st.booleans())
    def backward(self, x: Pair, retain: bool) -> None:
        if x.is_intact():
            x.tensor.backward(retain_graph=retain)
            x.value.backward()
            for pair in x.graph():
                pair.freed = pair.freed or (not retain and bool(pair.parents))
        else:
            with pytest.raises(tg.GraphError):
                x.tensor.backward()

    @rule(x=leaves)
    def zero_grad(self, x: Pair) -> None:
        x.tensor.zero_grad()
        x.value.grad = 0

    @rule(x=leaves)
    def update(self, x: Pair) -> None:
        if x.tensor.grad is not None:
            step = -0.1 * np.tanh(x.tensor.grad)
            x.tensor.data += step
            x.value.data += float(step)
            x.version += 1

    @invariant()
    def engines_agree(self) -> None:
        for leaf in self.all_leaves:
            np.testing.assert_allclose(leaf.tensor.item(), leaf.value.data, rtol=1e-9)
            grad = 0 if leaf.tensor.grad is None else leaf.tensor.grad
            np.testing.assert_allclose(grad, leaf.value.grad, rtol=1e-7, atol=1e-9)


TestEngines = Engines.TestCase
