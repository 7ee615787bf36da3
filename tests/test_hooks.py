"""Hooks of tensors and of modules: what they see and replace, as in PyTorch, also compiled."""

import copy
import gc
import pickle
import warnings
import weakref
from itertools import chain
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.engine.hooks import hooked

from .oracles import leaf

X = np.random.default_rng(0).normal(size=(4, 3))

# -- of tensors


def test_a_hook_sees_the_whole_gradient_once_and_may_replace_it() -> None:
    w = leaf([1.0, 2.0])
    y = w * 3
    seen: list[Any] = []
    handle = y.register_hook(seen.append)
    np.sum(y * y + y).backward(retain_graph=True)  # two paths lead to y
    assert_array_equal(seen, [[7, 13]])
    assert_array_equal(w.grad, [21, 39])
    handle.remove()
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: g + 1)
    w.zero_grad()
    np.sum(y * y + y).backward()
    assert len(seen) == 1
    assert_array_equal(y.grad, [71, 131])
    assert_array_equal(w.grad, [213, 393])


def test_a_hook_of_a_leaf_comes_before_its_grad() -> None:
    w = leaf([1.0, 2.0], np.float32)
    seen: list[Any] = []

    def hook(g: Any) -> Any:
        seen.append(g.copy())
        g[...] = -1  # its own copy
        return [10.0, 20.0]

    with w.register_hook(hook):
        for _ in range(2):
            np.sum(w * w * np.ones(2, np.float32)).backward()
    assert_array_equal(seen, [[2, 4]] * 2)
    assert_array_equal(w.grad, [20, 40])
    assert w.grad.dtype == np.float32
    np.sum(w).backward()
    assert_array_equal(w.grad, [21, 41])


def test_no_gradient_shares_memory_with_what_a_hook_got_or_returned() -> None:
    w, v, kept = leaf([1.0, 2.0]), leaf([1.0, 2.0]), np.array([5.0, 6.0])
    seen: list[Any] = []
    w.register_hook(lambda _: kept)
    v.register_hook(seen.append)
    np.sum(w + v).backward()
    kept[...] = 0
    seen[0][...] = 0
    assert_array_equal(w.grad, [5, 6])
    assert_array_equal(v.grad, [1, 1])


def test_hooks_of_other_leaves_are_not_called_by_transforms() -> None:
    w = leaf(2.0)
    w.register_hook(lambda _: pytest.fail("called"))
    assert tg.grad(lambda x: x * w)(3.0) == 2


def test_hooks_hold_at_every_order_and_for_each_sample() -> None:
    def f(x: Any) -> Any:
        y = x * x
        y.register_hook(lambda g: 2 * g)
        return np.sum(y)

    x = np.array([1.0, 3.0])
    assert_array_equal(tg.grad(f)(x), 4 * x)
    assert_array_equal(tg.compile(tg.grad(f))(x), 4 * x)
    assert_array_equal(tg.vmap(tg.grad(f))(x[:, None]), 4 * x[:, None])
    assert_array_equal(tg.hessian(f)(x), 4 * np.eye(2))


def test_hooks_go_with_their_graph_and_copies_have_none() -> None:
    gc.disable()
    try:
        before = len(hooked)
        y = leaf(1.0) * 2
        handle = y.register_hook(lambda g: g * 0)
        reference = weakref.ref(y._node)  # type: ignore[arg-type]
        assert len(hooked) == before + 1
        del y
        assert reference() is None and len(hooked) == before
        handle.remove()
    finally:
        gc.enable()
    w = leaf(1.0)
    handle = w.register_hook(lambda g: g * 5)
    for twin in copy.deepcopy(w), pickle.loads(pickle.dumps(w)):
        (twin * 1).backward()
        assert twin.grad == 1
    handle.remove()
    handle.remove()
    (w * 1).backward()
    assert w.grad == 1


def test_errors_of_hooks_of_tensors() -> None:
    with pytest.raises(tg.errors.GraphError, match="register_hook: the tensor does not require"):
        tg.Tensor(1.0).register_hook(print)
    w = leaf([1.0, 2.0])
    with (
        w.register_hook(lambda _: np.ones(3)),
        pytest.raises(ValueError, match=r"shape \(3,\) for a leaf .*must return one of shape \(2,"),
    ):
        np.sum(w).backward()
    assert w.grad is None


def test_a_compiled_step_refuses_a_hook_of_a_leaf_and_sees_it_come_and_go() -> None:
    w = leaf([1.0, 2.0])

    @tg.compile
    def step() -> Any:
        w.zero_grad()
        np.sum(w * w).backward()
        return w.grad

    assert_array_equal(step(), [2, 4])
    handle = w.register_hook(lambda g: 5 * g)
    with pytest.raises(tg.errors.TraceError, match="a hook of a leaf was registered outside"):
        step()
    handle.remove()
    assert_array_equal(step(), [2, 4])


# -- of modules


def recorded(library: Any, tensor: Any, array: Any) -> list[Any]:
    """What hooks of each kind see and change, in a network of either library."""
    seen: list[Any] = []

    def note(kind: str) -> Any:
        def hook(module: Any, *rest: Any) -> None:
            shown = [[None if a is None else array(a) for a in part] for part in rest]
            seen.append((kind, type(module).__name__, shown))

        return hook

    net = library.Sequential(library.Linear(3, 2), library.Tanh(), library.Linear(2, 1))
    if library is not nn:
        net.double()
    weights = np.random.default_rng(1)
    net.load_state_dict(
        {k: tensor(weights.normal(size=tuple(a.shape))) for k, a in net.state_dict().items()}
    )
    handles = [
        net[0].register_forward_pre_hook(lambda _, args: args[0] * 2),
        net[0].register_forward_pre_hook(note("before")),
        net[0].register_forward_hook(lambda _, _args, y: y + 1),
        net[0].register_full_backward_hook(note("backward")),
        net[1].register_forward_hook(lambda _m, _args, _y: None, prepend=True),
        net[1].register_full_backward_hook(lambda _, gi, _go: (gi[0] * 3,)),
        net[1].register_full_backward_hook(note("after the replacement")),
        net[2].register_full_backward_pre_hook(lambda _, go: (go[0] * 5,)),
        net[2].register_full_backward_hook(note("backward")),
        net.register_forward_hook(note("whole")),
    ]
    first = leaf(X) if library is nn else tensor(X).requires_grad_()
    for x in first, tensor(X):
        out = net(x)
        out.sum().backward()
        seen.append(array(out))
        seen += [array(p.grad) for p in net.parameters()]
    seen.append(array(first.grad))
    for handle in handles:
        handle.remove()
    seen.append(array(net(tensor(X))))
    return seen


def test_hooks_see_and_change_what_pytorchs_do() -> None:
    torch = pytest.importorskip("torch")
    warnings.simplefilter("ignore")  # of PyTorch, for an input without a graph
    theirs = recorded(torch.nn, torch.tensor, lambda t: t.detach().numpy().copy())
    ours = recorded(nn, np.asarray, lambda t: np.array(t.data if isinstance(t, tg.Tensor) else t))
    assert len(theirs) == len(ours)
    for expected, actual in zip(theirs, ours, strict=True):
        if isinstance(expected, tuple):
            assert actual[:2] == expected[:2]
            pairs = zip(chain(*expected[2]), chain(*actual[2]), strict=True)
            assert all(
                e is None if a is None else a == pytest.approx(e, rel=1e-10) for e, a in pairs
            )
        else:
            assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


class Two(nn.Module):
    """A module of two inputs, one of them by name, and two outputs and a number."""

    def __init__(self) -> None:
        self.scale = leaf(2.0)

    def forward(self, a: Any, n: int, b: Any = None) -> Any:
        return a * self.scale, n, a + b


def test_several_inputs_and_outputs() -> None:
    module, seen = Two(), []
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    module.register_full_backward_hook(lambda _, gi, go: seen.append((gi, go)))
    module.register_forward_pre_hook(
        lambda _, args, kwargs: ((args[0], args[1] + 1), {"b": kwargs["b"] * 2}), with_kwargs=True
    )
    module.register_forward_hook(
        lambda _, _args, kwargs, y: (*y, kwargs["b"].data), with_kwargs=True
    )
    x, n, y, doubled = module(a, 3, b=b)
    assert n == 4
    assert_array_equal(doubled, [6, 8])
    np.sum(x + 3 * y).backward()
    ((grad_input, grad_output),) = seen
    assert_array_equal(grad_input[0], [5, 5])
    assert grad_input[1] is None and len(grad_input) == 2
    assert_array_equal(grad_output[0], [1, 1])
    assert_array_equal(grad_output[2], [3, 3])
    assert grad_output[1] is grad_output[3] is None
    assert_array_equal(b.grad, [6, 6])
    assert module.scale.grad == 3


def test_a_module_with_hooks_is_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(3, 2, rng=0), nn.LSTM(2, 2, rng=1))
    shown, state, kind = repr(net), net.state_dict(), type(net[0])
    handle = net[0].register_forward_hook(double)
    assert isinstance(net[0], nn.Linear) and repr(net) == shown
    assert net[0].children() == [] and list(net.state_dict()) == list(state)
    out, _ = net(X)
    handle.remove()
    assert type(net[0]) is kind and vars(net[0]).keys() == vars(nn.Linear(1, 1)).keys()
    plain, _ = net(X)
    assert not np.allclose(out, plain)
    net[0].register_forward_hook(double)
    for twin in copy.deepcopy(net), copy.copy(net), pickle.loads(pickle.dumps(net)):
        assert_array_equal(twin(X)[0].data, out.data)
        assert repr(twin) == shown
    assert "(4, 2)" in net.summary(X)
    assert_array_equal(net.astype(np.float64)(X)[0].data, out.data)


def double(_module: Any, _args: Any, y: Any) -> Any:
    return y * 2


def test_transforms_call_hooks() -> None:
    net = nn.Sequential(nn.Linear(3, 1, rng=0))
    plain = tg.grad(lambda net: np.sum(net(X)))(net)
    net[0].register_forward_hook(double)
    net[0].register_full_backward_hook(lambda *_: None)
    doubled = tg.grad(lambda net: np.sum(net(X)))(net)
    for p, q in zip(plain.parameters(), doubled.parameters(), strict=True):
        assert_allclose(q.data, 2 * p.data)
    assert_allclose(tg.vmap(lambda row: net(row))(X).data, net(X).data)
    assert tg.gradcheck(lambda x: net(x), [X], order=2)


def test_compiled_functions_trace_hooks_and_see_them_change() -> None:
    net = nn.Sequential(nn.Linear(3, 4, rng=0), nn.Tanh(), nn.Linear(4, 1, rng=1))
    factor = {"of": 3.0}

    def step(x: Any) -> Any:
        net.zero_grad()
        out = net(x)
        np.sum(out).backward()
        return out, net[0].weight.grad

    compiled = tg.compile(step)

    def check() -> None:
        expected = step(X)
        for _ in range(2):
            for actual, wanted in zip(compiled(X), expected, strict=True):
                assert_allclose(actual, wanted, rtol=1e-12)

    check()
    handles = [net[0].register_forward_hook(double)]
    check()
    handles += [net[2].register_full_backward_hook(lambda _, gi, _go: gi[0] * factor["of"])]
    check()
    factor["of"] = 7.0
    check()
    handles += [net[0].register_forward_hook(double)]
    check()
    handles[0].remove()
    check()
    for handle in handles:
        handle.remove()
    check()
    outputs: list[Any] = []
    net[0].register_forward_hook(lambda _m, _args, y: outputs.append(y))
    with pytest.raises(tg.errors.TraceError, match="outputs"):
        compiled(X)


def test_a_handle_does_not_keep_its_module() -> None:
    gc.disable()
    try:
        net = nn.Linear(1, 1)
        handle, reference = net.register_forward_hook(double), weakref.ref(net)
        del net
        assert reference() is None
        handle.remove()
    finally:
        gc.enable()


def test_errors_of_hooks_of_modules() -> None:
    net = nn.Linear(3, 1)
    with pytest.raises(TypeError, match="a hook must be a function, not 3"):
        net.register_forward_hook(3)  # type: ignore[arg-type]
    with (
        net.register_full_backward_hook(lambda *_: (np.ones(2),)),
        pytest.raises(ValueError, match=r"shapes \[\(2,\)\]; it must .* of shapes \[\(3,\)\]"),
    ):
        net(leaf(np.ones(3))).backward()
