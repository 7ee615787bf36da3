"""Checking derivatives numerically: by central differences, or by the complex step."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np

from .engine.graph import Node
from .engine.modes import enable_grad, no_grad, plain, set_mode
from .engine.tensor import Tensor, asarray
from .engine.typing import Array, Function
from .errors import GradcheckError
from .rules.selection import attains
from .transforms import grad, ravel, vjp


@no_grad()
def gradcheck(
    f: Function,
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    method: Literal["central", "complex"] = "central",
    raise_exception: bool = True,
    order: Literal[1, 2] = 1,
) -> bool:
    """Return whether the derivatives of `f` agree with numeric derivatives at `inputs`.

    `inputs` is one array, or a list or tuple of arguments: arrays, tensors or numbers. Those of
    float64 and complex128 are checked. Integers and booleans are constants. Shorter floats have too
    few digits, and raise a TypeError. `f` must return one array.

    A complex number counts as two real ones, its parts: each is moved on its own. The gradient of
    each part of an output is the direction of steepest ascent (see `grad`), the derivative by the
    real part of an input plus 1j times that by its imaginary part.

    Every element of the Jacobian must satisfy `|analytic - numeric| <= atol + rtol * |numeric|`.
    Otherwise a GradcheckError names the worst element, or, with `raise_exception=False`, the result
    is False. If the step crosses a kink, such as that of `abs` at 0, the error says so. With
    `order=2`, the derivatives of a randomly weighted sum of the first derivatives are checked too.

    The numeric derivative is `(f(x + eps) - f(x - eps)) / (2 eps)`. With `method="complex"` it is
    `imag(f(x + i eps)) / eps`, which loses no digits (Squire and Trapp, SIAM Review 40, 1998), but
    needs an analytic `f` that accepts complex arrays. It is computed with plain arrays, so that it
    depends on NumPy alone, or with untracked tensors if `f` raises an error for arrays. The results
    for arrays and tensors must agree within the same bounds.

    >>> tg.gradcheck(lambda x, y: np.tanh(x @ y), [np.ones((2, 3)), np.ones(3)])
    True
    """
    if method not in ("central", "complex"):
        raise ValueError(f'gradcheck: method must be "central" or "complex", not {method!r}')
    arguments = [
        np.array(plain(x)) for x in (inputs if isinstance(inputs, (list, tuple)) else [inputs])
    ]
    checked = [i for i, a in enumerate(arguments) if a.dtype.kind not in "biu"]
    for i in checked:
        kind = arguments[i].dtype.kind
        if kind not in "fc" or np.finfo(arguments[i].dtype).eps > np.finfo(np.float64).eps:
            raise TypeError(
                f"gradcheck: input {i} is {arguments[i].dtype}, which has too few digits: pass "
                f"x.astype(numpy.{'complex128' if kind == 'c' else 'float64'})"
            )
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order must be 1 or 2, not {order!r}")
    if not checked:
        raise TypeError(
            "gradcheck: no input has a floating dtype: pass at least one as x.astype(float)"
        )

    def with_checked(*values: Any) -> Any:
        replaced = dict(zip(checked, values, strict=True))
        return f(*(replaced.get(i, Tensor(a)) for i, a in enumerate(arguments)))

    points = [arguments[i] for i in checked]
    plainly = _of_arrays(f, arguments, checked)
    if method == "complex" and any(np.iscomplexobj(a) for a in (*points, plainly(*points))):
        raise TypeError(
            "gradcheck: the complex step is one of real inputs to real outputs: use "
            'method="central" for complex numbers'
        )
    difference = _difference(with_checked, plainly, points, atol, rtol)
    if difference and raise_exception:
        raise GradcheckError(difference)
    if difference:
        return False
    for i, analytic, numeric in zip(
        checked,
        _analytic(with_checked, points),
        _numeric(plainly, points, eps, method),
        strict=True,
    ):
        with np.errstate(invalid="ignore"):
            error = np.abs(analytic - numeric) - (atol + rtol * np.abs(numeric))
        error[analytic == numeric] = -np.inf
        failed = ~(error <= 0)
        if failed.any():
            if not raise_exception:
                return False
            row, column = (int(k) for k in np.unravel_index(np.argmax(error), error.shape))
            raise GradcheckError(
                f"gradcheck: input {i} at {_located(arguments[i], column)}, output at "
                f"{_located(plainly(*points), row)}: "
                f"analytic {analytic[row, column]:.10g}, numeric {numeric[row, column]:.10g} "
                f"({failed.sum()} of {failed.size} derivatives disagree)"
                + (
                    _kinks(with_checked, points, checked.index(i), column, eps)
                    or _triangle(analytic, numeric, arguments[i])
                    or _choice(with_checked, points, method)
                )
            )
    if order == 2:
        first = _weighted_derivatives(with_checked, points)
        return gradcheck(first, points, eps, atol, rtol, raise_exception=raise_exception)
    return True


def _parts(a: Array) -> Array:
    """The numbers of an array as a vector; of a complex one, the real and imaginary parts."""
    a = np.ascontiguousarray(a).reshape(-1)
    return a.view(np.finfo(a.dtype).dtype) if a.dtype.kind == "c" else a


def _located(a: Array, k: int) -> str:
    """The index of the element that number k of `_parts` belongs to, and the name of the part."""
    part = ""
    if a.dtype.kind == "c":
        k, imaginary = divmod(k, 2)
        part = ", imaginary part" if imaginary else ", real part"
    return f"index {tuple(int(i) for i in np.unravel_index(k, a.shape))}{part}"


def _moved(x: Array, k: int, step: float) -> Array:
    """A copy of an array in which number k of its `_parts` has been moved by a step."""
    moved = _parts(x.copy("C"))
    moved[k] += step
    return moved.view(x.dtype).reshape(x.shape)


def _of_arrays(f: Function, arguments: list[Array], checked: list[int]) -> Function:
    """Make `f` a function of the checked arguments as plain arrays that returns an array.

    It may write into the arrays. If `f` raises an error for arrays, it receives tensors.
    """

    def calling(wrap: Function, values: tuple[Array, ...]) -> Array:
        replaced = dict(zip(checked, values, strict=True))
        y = f(*(wrap(replaced.get(i, a)) for i, a in enumerate(arguments)))
        return np.asarray(plain(asarray(y)))

    try:
        calling(np.array, tuple(arguments[i] for i in checked))
    except Exception:
        return lambda *values: calling(Tensor, values)
    return lambda *values: calling(np.array, values)


def _difference(
    f: Function, plainly: Function, points: list[Array], atol: float, rtol: float
) -> str:
    """The message if `f` returns different results for tensors and for arrays, else ''."""
    got, wanted = np.asarray(plain(asarray(f(*map(Tensor, points))))), plainly(*points)
    if got.shape != wanted.shape:
        return (
            f"gradcheck: the function returns shape {got.shape} for tensors, and shape "
            f"{wanted.shape} for plain arrays"
        )
    differs = ~np.isclose(got, wanted, rtol, atol, equal_nan=True)
    if not differs.any():
        return ""
    index = tuple(np.argwhere(differs)[0].tolist())
    return (
        f"gradcheck: the function returns {got[index]:.10g} for tensors, and {wanted[index]:.10g} "
        f"for plain arrays, at index {index} of the result ({differs.sum()} of "
        f"{differs.size} elements differ)"
    )


def _weighted_derivatives(f: Function, points: list[Array]) -> Function:
    """The gradient of a randomly weighted sum of what `f` returns, as one vector."""
    y = asarray(f(*map(Tensor, points)))
    weights: Any = np.random.default_rng(0).uniform(0.5, 1.5, y.shape)
    if y.dtype.kind == "c":  # so that both parts count
        weights = weights * (1 + 1j)
    gradient = grad(lambda *x: np.real(np.sum(weights * f(*x))), tuple(range(len(points))))
    return lambda *x: ravel(gradient(*x))[0]


def _where_extreme(extremum: Function, x: Array, axis: Any = 0, **_options: Any) -> Any:
    return attains(x, extremum(x, axis=axis, keepdims=True))


def _sign(x: Array) -> Array:
    """The sides of 0; complex numbers have none, and as a kink 0 is symmetric to them."""
    return np.zeros(x.shape) if np.iscomplexobj(x) else np.asarray(np.sign(x))


# For operations with a kink, by name: on which side of it each element is.
_SIDES: dict[str, Function] = {
    **dict.fromkeys(("absolute", "fabs", "relu", "leaky_relu", "elu"), _sign),
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin", "clip"), lambda x, y: np.sign(x - y)),
    **dict.fromkeys(("maximum.reduce", "fmax.reduce"), partial(_where_extreme, np.max)),
    **dict.fromkeys(("minimum.reduce", "fmin.reduce"), partial(_where_extreme, np.min)),
}


def _kinks(f: Function, points: list[Array], k: int, number: int, eps: float) -> str:
    """The hint if a step of one number to either side crosses a kink, else ''."""

    def sides(step: float) -> list[tuple[Node, Any]]:
        found = []

        def note(node: Node, arrays: Any) -> None:
            side = _SIDES.get(node.name)
            if side is not None:
                found.append((node, side(*arrays[: len(node.args)], **node.kwargs)))

        moved = [
            Tensor(_moved(x, number, step) if i == k else x, requires_grad=True)
            for i, x in enumerate(points)
        ]
        with enable_grad(), set_mode(hooks=(note,)):
            f(*moved)
        return found

    for (node, below), (_, above) in zip(sides(-eps), sides(eps)):
        if np.shape(below) == np.shape(above) and np.any(below != above):
            at = tuple(np.argwhere(below != above)[0].tolist())
            return (
                f"; the point lies within eps of a kink of {node.name} at index "
                f"{at}, called at {node.place}: move the point, or pass a smaller eps"
            )
    return ""


def _triangle(analytic: Array, numeric: Array, x: Array) -> str:
    """The hint if the two agree for symmetric matrices, else ''."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        return ""
    a, n = (
        np.ascontiguousarray(j).view(x.dtype).reshape(-1, *x.shape) for j in (analytic, numeric)
    )
    if not np.allclose(a + np.conjugate(a).mT, n + np.conjugate(n).mT, rtol=1e-4, atol=1e-5):
        return ""
    return (
        "; (g + g.T) / 2 agrees: numpy.linalg.cholesky and eigh read one triangle of a symmetric "
        "matrix, so the whole derivative is in that triangle"
    )


# Why numeric derivatives of an operation, by its name, may differ.
_VECTORS = (
    "the signs of vectors, and the vectors of equal values, are not unique, and NumPy may choose "
    "others a step away: move the point, or check a function that does not depend on the choice, "
    "such as v * w @ v.T"
)
_CHOICES = {"central": dict.fromkeys(("eigh", "eig", "svd", "qr"), _VECTORS)}
_CHOICES["complex"] = {
    **_CHOICES["central"],
    "cholesky or eigh": (
        'NumPy reads one triangle and conjugates it for the other: use method="central"'
    ),
}


def _choice(f: Function, points: list[Array], method: str) -> str:
    """The hint if `f` calls a function whose result is not unique, else ''."""
    found: list[Node] = []
    with enable_grad(), set_mode(hooks=(lambda node, _: found.append(node),)):
        f(*(Tensor(x, requires_grad=True) for x in points))
    for node in found:
        reason = _CHOICES[method].get(node.name)
        if reason is not None:
            return f"; at {node.place}, {reason}"
    return ""


def _analytic(f: Function, points: list[Array]) -> list[Array]:
    """The Jacobians of `f`, one for each argument: a row per output number, a column per input."""
    y, pullback = vjp(f, *points)
    units = np.eye(_parts(y).size).view(y.dtype)
    rows = [pullback(unit.reshape(y.shape)) for unit in units]
    return [
        np.array([_parts(row[k]) for row in rows]).reshape(len(units), _parts(x).size)
        for k, x in enumerate(points)
    ]


def _numeric(f: Function, points: list[Array], eps: float, method: str) -> list[Array]:
    def at(k: int, moved: Array) -> Array:
        return f(*(moved if i == k else x for i, x in enumerate(points)))  # type: ignore[no-any-return]

    def column(k: int, number: int) -> Array:
        x = points[k]
        if method == "complex":
            moved = x.astype(np.result_type(x, 1j), "C")
            moved.reshape(-1)[number] += 1j * eps
            return np.asarray(np.imag(at(k, moved)).reshape(-1) / eps)
        above, below = _moved(x, number, eps), _moved(x, number, -eps)
        distance = _parts(above)[number] - _parts(below)[number]  # exactly
        return np.asarray((_parts(at(k, above)) - _parts(at(k, below))) / distance)

    def jacobian(k: int, x: Array) -> Array:
        columns = [column(k, number) for number in range(_parts(x).size)]
        return np.array(columns).reshape(_parts(x).size, outputs).T

    outputs = _parts(f(*points)).size
    return [jacobian(k, x) for k, x in enumerate(points)]
