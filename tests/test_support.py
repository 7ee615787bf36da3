"""The table of what becomes of each NumPy function, against what does become of them."""

import inspect
import operator
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import support
from tensorgrad.__main__ import main
from tensorgrad.engine import dispatch, tensor

from .operations import CONSTANT, OPERATIONS, Op
from .oracles import leaf

TABLE = support.support()
FUNCTIONS = support.functions()
# Public functions that the oldest or the newest NumPy does not have.
NOT_IN_EVERY_NUMPY = {"in1d", "trapz", "row_stack", "matvec", "vecmat"}


def test_each_function_is_in_one_class() -> None:
    """A new NumPy brings new functions: give them a rule, or list them in support.py."""
    count = Counter(name for names in TABLE.values() for name in names)
    assert {name: count[name] for name in FUNCTIONS if count[name] != 1} == {}
    assert set(count) == set(FUNCTIONS)


def test_each_listed_name_exists() -> None:
    listed = " ".join(
        [support.DIFFERENTIABLE, support.CONSTANT, *support.NOT_SUPPORTED.values()]
    ).split()
    assert len(set(listed)) == len(listed)
    assert set(listed) - set(FUNCTIONS) <= NOT_IN_EVERY_NUMPY


def called(rows: Sequence[Op]) -> set[Any]:
    """The functions that pass through `apply` when tracked tensors go through rows of the table."""
    seen = set()
    apply = dispatch.apply

    def noting(fun: Any, args: Any, kwargs: Any = dispatch.NO_KWARGS) -> Any:
        seen.add(fun)
        return apply(fun, args, kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "apply", noting)
        patch.setattr(tensor, "apply", noting)
        for op in rows:
            args = op.draw(np.random.default_rng(0), op.shapes[0])
            op.fun(*map(leaf, args))
    return seen


def test_each_differentiable_function_has_a_row() -> None:
    reached = called(OPERATIONS)
    missing = [n for n in TABLE["differentiable"] if FUNCTIONS[n] not in reached]
    assert set(missing) <= set(support.DIFFERENTIABLE.split())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", set(support.DIFFERENTIABLE.split()) & {*FUNCTIONS})
def test_an_alias_that_numpy_does_not_hand_over_works(name: str) -> None:
    x = leaf([1.0, 2.0])
    np.sum(FUNCTIONS[name]([x, x])).backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_each_constant_function_has_a_row() -> None:
    reached = called(CONSTANT)
    names = [*TABLE["piecewise constant"], *TABLE["constant"]]
    missing = [n for n in names if FUNCTIONS[n] not in reached]
    assert set(missing) <= set(support.CONSTANT.split())


# Calls of functions written in C, whose arguments their signatures do not tell in every NumPy.
C_CALLS: dict[str, Any] = {
    "bincount": lambda x: np.bincount(x),
    "busday_count": lambda x: np.busday_count(x, x),
    "busday_offset": lambda x: np.busday_offset(x, 1),
    "ix_": lambda x: np.ix_(x, x),
    "ravel_multi_index": lambda x: np.ravel_multi_index((x,), (2,)),
    "unravel_index": lambda x: np.unravel_index(x, (2,)),
    "full": lambda x: np.full(2, x),
    "kaiser": lambda x: np.kaiser(3, x),
    "bmat": lambda x: np.bmat([[x, x]]),
}


def call(fun: Any, x: Any) -> Any:
    """Call `fun` with `x` for each argument that it needs."""
    if isinstance(fun, np.ufunc):
        return fun(*[x] * fun.nin)
    try:
        parameters = inspect.signature(fun).parameters.values()
    except ValueError:
        return fun(x)
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return fun(*[x] * max(len(needed), 1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("name", TABLE["not supported"])
def test_what_is_not_supported_is_refused(name: str) -> None:
    fun = C_CALLS.get(name, lambda x: call(FUNCTIONS[name], x))
    with pytest.raises(TypeError) as caught:
        fun(leaf([1.0, 2.0]))
    if not isinstance(caught.value, tg.NoRuleError):
        assert "that requires grad" in str(caught.value)
    else:
        assert str(caught.value).startswith(FUNCTIONS[name].__name__)


def test_the_report_names_every_function(capsys: pytest.CaptureFixture[str]) -> None:
    main(["support"])
    report = capsys.readouterr().out
    assert f"The {len(FUNCTIONS)} functions of NumPy {np.__version__}" in report
    words = Counter(report.partition("Methods of the ufuncs")[0].split())
    assert set(FUNCTIONS) <= set(words)
    for kind, names in TABLE.items():
        assert f"{kind.capitalize()} ({len(names)})" in report
    assert max(map(len, report.splitlines())) <= 100


def test_conventions_are_told_of_functions_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    main(["support"])
    told = capsys.readouterr().out.partition("Conventions of derivatives:")[2]
    assert "(g + g.mT) / 2" in told
    for names in support.CONVENTIONS.values():
        for name in names.split():
            assert name.partition("(")[0] in TABLE["differentiable"] and name in told


def test_attributes_that_a_tensor_lacks_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main(["support"])
    lacking = capsys.readouterr().out.partition("Attributes of ndarray")[2].split(":")[1].split()
    x = leaf([1.0])
    assert [name for name in lacking if hasattr(x, name) or not hasattr(x.data, name)] == []
    assert {"view", "strides", "ctypes"} <= set(lacking)


# -- the names of operations


def test_operations_have_the_names_of_public_functions() -> None:
    """In a fresh interpreter, as tests and examples define operations of their own."""
    script = (
        "import tensorgrad\n"
        "try: import scipy.special, tensorgrad.rules.special\n"
        "except ImportError: pass\n"
        "for rule in tensorgrad.engine.registry.RULES.values(): print(rule.name)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    places = [
        np, np.linalg, np.fft, np.lib.stride_tricks, np.ndarray, operator,
        tg, tg.nn, tg.special, tg.scipy.linalg, tg.scipy.signal,
    ]  # fmt: skip
    public = {name for place in places for name in dir(place) if not name.startswith("_")}
    public |= {f"{name}.{method}" for name in public for method in dir(np.ufunc)}
    public.add("argument")  # of a function whose derivative is taken
    names = out.stdout.splitlines()
    assert len(names) > 200
    assert {name for name in names if not {*re.split(", | or ", name)} <= public} == set()


def test_messages_name_what_the_user_called() -> None:
    x = leaf([[2.0, 1.0], [1.0, 3.0]])
    spread = np.linalg.svd(x)[1]
    assert str(spread._node).startswith("svd (shape (2,)")
    with pytest.raises(TypeError, match="its gradient would be lost") as caught:
        np.array(tg.nn.mse_loss(x, x.data))
    assert "mse_loss (shape ()" in str(caught.value)
    y = x * 1
    y[0] = 0
    assert str(y._node).startswith("setitem (shape (2, 2)")
    seen = []
    tg.grad(lambda v: (seen.append(str(v._node)), v.sum())[1])(np.ones(3))
    assert seen[0].startswith("argument (shape (3,)")


@pytest.mark.parametrize(
    "name", ["scipy.optimize.root", "scipy.integrate.quad", "tg.solvers.odeint"]
)
def test_solvers_are_found_by_scipys_names(name: str) -> None:
    found = support.about(name)
    assert found.startswith(f"tensorgrad.solvers.{name.rpartition('.')[2]}: differentiable; ")


@pytest.mark.parametrize("name", ["scipy.linalg.expm", "tg.scipy.linalg.expm", "expm"])
def test_scipys_functions_are_found_by_their_names(name: str) -> None:
    assert support.about(name).startswith("tensorgrad.scipy.linalg.expm: differentiable; it needs")
