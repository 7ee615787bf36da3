"""Complex leaves: which direction gradients have, what every transform and optimizer does.

Each function of the table with complex inputs is checked by `complex_numbers` in
test_operations.py.
"""

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import optim

from .oracles import leaf

Z = np.array([1 + 2j, -0.5 + 0.25j, 3 - 1j])
W = np.array([0.5 - 1j, 2 + 1j, 1j])


def steepest(f: Any, z: Any, h: float = 1e-6) -> Any:
    """The direction of steepest ascent of a real function, by differences in both parts."""
    out = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        for unit in 1, 1j:
            step = np.zeros_like(z)
            step[index] = h * unit
            out[index] += unit * (f(z + step) - f(z - step)) / (2 * h)
    return out


REAL_FUNCTIONS = [
    lambda z: np.sum(np.abs(z) ** 2),
    lambda z: np.sum(np.abs(z)),
    lambda z: np.sum(np.real(z * z * W)),
    lambda z: np.sum(np.imag(np.exp(z) * np.conjugate(z))),
    lambda z: np.sum(np.angle(z)),
    lambda z: np.real(np.vdot(z, W)) ** 2,
    lambda z: np.linalg.norm(z - W),
]


@pytest.mark.parametrize("f", REAL_FUNCTIONS)
def test_gradient_is_the_direction_of_steepest_ascent(f: Any) -> None:
    z = leaf(Z)
    loss = f(z)
    loss.backward()
    expected = steepest(f, Z)
    assert z.grad.dtype == Z.dtype
    assert_allclose(z.grad, expected, rtol=1e-7, atol=1e-7)
    assert_array_equal(tg.grad(f)(Z), z.grad)
    assert_array_equal(tg.value_and_grad(f)(Z)[1], z.grad)
    z.data -= 1e-3 * z.grad
    assert f(z.data) < loss.item()
    assert tg.gradcheck(f, Z, order=2)


def test_the_derivative_of_a_holomorphic_function() -> None:
    f = lambda z: z**3 + np.exp(z)  # noqa: E731
    z = Z[0]
    assert_allclose(tg.grad(f, holomorphic=True)(z), 3 * z**2 + np.exp(z))
    second = tg.grad(tg.grad(f, holomorphic=True), holomorphic=True)
    assert_allclose(second(z), 6 * z + np.exp(z))
    value, slope = tg.value_and_grad(f, holomorphic=True)(z)
    assert_allclose([value, slope], [f(z), 3 * z**2 + np.exp(z)])
    for jacobian in (tg.jacobian, tg.jacfwd, tg.jacrev):
        found = jacobian(lambda z: f(z) + z[::-1], holomorphic=True)(Z)
        assert_allclose(found, np.diag(3 * Z**2 + np.exp(Z)) + np.eye(3)[::-1])


def test_vjp_conjugates_and_jvp_does_not() -> None:
    f = lambda z: z * z * W  # noqa: E731
    y, pullback = tg.vjp(f, Z)
    assert_allclose(pullback(W)[0], np.conjugate(2 * Z * W) * W)
    assert_allclose(tg.jvp(f, (Z,), (W,))[1], 2 * Z * W * W)
    assert_allclose(tg.linearize(f, Z)[1](W), 2 * Z * W * W)
    z = leaf(Z)
    f(z).backward(W)
    assert_array_equal(z.grad, pullback(W)[0])
    assert type(tg.grad(np.abs)(1j)) is type(tg.vjp(np.exp, 1j)[1](1j)[0]) is np.ndarray
    # a function that conjugates is its own derivative, and its own adjoint
    assert_array_equal(tg.vjp(np.conjugate, Z)[1](W)[0], np.conjugate(W))
    assert_array_equal(tg.jvp(np.conjugate, (Z,), (W,))[1], np.conjugate(W))
    assert y.dtype == Z.dtype


def test_real_and_complex_arguments_together() -> None:
    f = lambda x, z: np.sum(np.abs(x * z - W) ** 2)  # noqa: E731
    x = np.array([1.0, 2.0, -1.0])
    by_x, by_z = tg.grad(f, (0, 1))(x, Z)
    assert by_x.dtype == np.float64 and by_z.dtype == np.complex128
    assert_allclose(by_x, 2 * np.real(np.conjugate(Z) * (x * Z - W)))
    assert_allclose(by_z, 2 * x * (x * Z - W))
    assert tg.gradcheck(f, [x, Z], order=2)


def test_hvp_is_the_change_of_the_gradient() -> None:
    f = lambda z: np.sum(np.abs(z) ** 4 + np.real(z * z))  # noqa: E731
    gradient = tg.grad(f)
    expected = (gradient(Z + 1e-6 * W) - gradient(Z - 1e-6 * W)) / 2e-6
    assert_allclose(tg.hvp(f, (Z,), (W,)), expected, rtol=1e-6)
    assert_allclose(tg.jvp(gradient, (Z,), (W,))[1], expected, rtol=1e-6)


def test_jacobians_of_one_complex_side() -> None:
    rows = tg.jacobian(np.abs)(Z)
    assert_allclose(rows, np.diag(Z / np.abs(Z)))
    columns = tg.jacobian(lambda x: np.exp(1j * x))(np.ones(2))
    assert_allclose(columns, 1j * np.exp(1j) * np.eye(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leaf(Z).sum().backward(), "needs a gradient: .* numpy.abs"),
        (lambda: leaf([1.0]).backward([1j]), "gradient has dtype complex128.*numpy.real"),
        (lambda: tg.grad(np.sum)(Z), "numpy.abs, .* holomorphic=True if it is analytic"),
        (lambda: tg.grad(np.exp, holomorphic=True)(1.0), "arguments are complex.*astype"),
        (lambda: tg.grad(np.abs, holomorphic=True)(1j), "complex number, not float64"),
        (lambda: tg.jvp(np.sin, (1.0,), (1j,)), "tangents has dtype complex128"),
        (lambda: tg.vjp(np.abs, 1j)[1](1j), "cotangent has dtype complex128"),
        (lambda: tg.jacobian(np.exp)(Z), "holomorphic=True.*numpy.imag"),
        (lambda: tg.jacfwd(np.abs)(Z), 'mode="reverse"'),
        (lambda: tg.hessian(lambda z: np.sum(np.abs(z)))(Z), r"hessian: .*use tensorgrad\.hvp"),
        (lambda: tg.gradcheck(np.exp, Z.astype("c8")), "complex64.*astype.numpy.complex128"),
        (lambda: tg.gradcheck(np.exp, Z, method="complex"), 'method="central"'),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_gradcheck_finds_a_wrong_part() -> None:
    wrong = tg.differentiable(lambda g, _y, z: 2 * np.real(z) * g)(lambda z: z * z)
    with pytest.raises(
        tg.GradcheckError, match=r"\(1,\), imaginary part, output at index \(1,\), re"
    ):
        tg.gradcheck(wrong, np.array([1.0 + 0j, 1 + 1j]))
    assert not tg.gradcheck(wrong, Z, raise_exception=False)


def test_retained_gradients_follow_the_convention() -> None:
    z = leaf(Z)
    y = z * W
    y.retain_grad()
    np.sum(np.abs(y) ** 2).backward()
    assert_allclose(y.grad, 2 * y.data)
    assert_allclose(z.grad, 2 * y.data * np.conjugate(W))


def test_gradients_accumulate_and_can_be_assigned() -> None:
    z = leaf(Z)
    for _ in range(2):
        np.sum(np.abs(z) ** 2).backward()
    assert_allclose(z.grad, 4 * Z)
    z.grad = W
    assert_array_equal(z.grad, W)


# -- special points

ZEROS = np.zeros(2, complex)


@pytest.mark.parametrize(
    "f",
    [
        lambda z: np.sum(np.abs(z)),
        lambda z: np.linalg.norm(z),
        lambda z: np.sum(np.angle(z)),
        lambda z: np.sum(np.real(np.sign(z))),
        lambda z: np.std(z),
    ],
)
def test_gradients_that_are_0_at_0(f: Any) -> None:
    assert_array_equal(tg.grad(f)(ZEROS), ZEROS)


@pytest.mark.parametrize("below", [0.0, -0.0])
def test_both_sides_of_a_branch_cut(below: float) -> None:
    z = complex(-4, below)
    assert_allclose(tg.grad(np.sqrt, holomorphic=True)(z), 0.5 / np.sqrt(z))
    assert_allclose(tg.grad(np.log, holomorphic=True)(z), -0.25)


def test_powers_at_0() -> None:
    slopes = [tg.grad(lambda z, p=p: z**p, holomorphic=True)(0j) for p in (0, 1, 2, 3.0)]
    assert_array_equal(slopes, [0, 1, 0, 0])


# -- through the rest of the library


def iterated(z: Any) -> Any:
    state, sizes = tg.scan(lambda c, w: (c * z + w, np.abs(c)), z * 0 + 1j, W)
    return np.sum(sizes) + np.abs(state)


def written(z: Any) -> Any:
    y = np.array([1.0, 2.0]) * z
    y[0] = y[1] * 2
    y.real = np.sin(y.imag)
    y.imag[1:] = 1.0
    y *= z
    return np.sum(np.abs(y) ** 2)


@pytest.mark.parametrize(
    "f",
    [
        iterated,
        written,
        lambda z: tg.cond(np.real(z) > 0, lambda z: np.abs(z) ** 3, np.angle, z),
        lambda z: np.abs(tg.checkpoint(lambda z: np.sin(z) * z)(z)),
    ],
)
def test_control_flow_checkpoints_and_writes(f: Any) -> None:
    z = np.array(1.1 + 0.3j)
    assert tg.gradcheck(f, z, order=2)
    assert_allclose(tg.compile(tg.grad(f))(z), tg.grad(f)(z), rtol=1e-12)


def test_native_code_leaves_complex_numbers_to_numpy() -> None:
    pytest.importorskip("llvmlite")

    def step(x: Any, z: Any) -> Any:
        w = np.tanh(x) * 2 + 1
        return tg.value_and_grad(lambda z: np.sum(np.exp(w) * np.abs(z * w) ** 2))(z)

    native = tg.compile(step, backend="llvm")
    for x in np.ones(3), np.array([0.5, -1.0, 2.0]):
        for actual, expected in zip(native(x, Z), step(x, Z), strict=True):
            assert_allclose(actual, expected, rtol=1e-12)


def test_vmap() -> None:
    f = lambda z: np.sum(np.abs(np.exp(z) * W) ** 2)  # noqa: E731
    rows = np.stack([Z, W])
    assert_allclose(tg.vmap(tg.grad(f))(rows), [tg.grad(f)(z) for z in rows])
    w = leaf(W)
    np.sum(tg.vmap(lambda z: np.sum(np.abs(z * w) ** 2))(rows)).backward()
    assert_allclose(w.grad, 2 * W * np.sum(np.abs(rows) ** 2, axis=0))


def test_ravel_of_real_and_complex_arrays() -> None:
    params = {"x": np.ones(2), "z": Z}
    flat, unravel = tg.ravel(params)
    assert_array_equal(flat, [1, 1, *Z])
    again = unravel(flat * (1 + 0j))
    assert again["x"].dtype == np.float64
    assert_array_equal(again["z"], Z)
    loss = lambda p: np.sum(p["x"] ** 2) + np.sum(np.abs(p["z"]) ** 2)  # noqa: E731
    assert_allclose(tg.grad(lambda v: loss(unravel(v)))(flat), 2 * flat)


@pytest.mark.parametrize("dtype", ["c8", "c16", np.clongdouble, ">c8", ">c16"])
def test_dtypes(dtype: Any) -> None:
    z = leaf(Z, dtype)
    optimizer = optim.Adam([z], 0.1)
    np.sum(np.abs(z) ** 2).backward()
    assert z.grad.dtype == np.dtype(dtype)
    assert_allclose(z.grad, 2 * Z, rtol=1e-6)
    optimizer.step()
    assert z.dtype == np.dtype(dtype)
    expected = Z - 0.1 * (np.sign(Z.real) + 1j * np.sign(Z.imag))
    assert_allclose(z.data, expected, rtol=1e-6)


def test_saved_and_pickled(tmp_path: Any) -> None:
    net = Beam(np.complex64)
    net.save(tmp_path / "net.npz")
    other = Beam(np.complex64)
    other.phasor.data = other.phasor.data * 2j
    other.load_state(tmp_path / "net.npz")
    assert_array_equal(other.phasor.data, net.phasor.data)
    assert_array_equal(pickle.loads(pickle.dumps(net)).phasor.data, net.phasor.data)


# -- vectors with a phase of their own: what does not depend on it

A = np.array([[1 + 2j, 0.5, -1j], [2, 1 - 1j, 0.25j], [0.5j, 3, 1 + 1j], [1, 1j, -2 + 0.5j]])


@pytest.mark.parametrize(
    "f",
    [
        lambda a: np.abs(np.linalg.svd(a)[0]),
        lambda a: np.linalg.svd(a[:2].T @ a[:2])[0][:, 2:] @ np.linalg.svd(a)[2][2:],
        lambda a: np.linalg.svd(a[:1], full_matrices=False)[2] * np.linalg.svd(a)[0][0, 0],
        lambda a: np.abs(np.linalg.qr(a, "complete")[0]),
        lambda a: np.linalg.eigh(a[:3])[1],
        lambda a: np.linalg.eigh(a[:3], "U")[1],
    ],
)
def test_vectors_up_to_their_phase(f: Any) -> None:
    assert tg.gradcheck(lambda a: np.abs(f(a)), A)


def parts_of(results: Any) -> Any:
    return np.concatenate([np.ravel(part) for part in results])


@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (6, 2), (3, 4), (2, 6), (2, 3, 2)])
def test_singular_vectors_with_the_phase_of_lapack(shape: Any) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    assert tg.gradcheck(lambda a: parts_of(np.linalg.svd(a, full_matrices=False)), a)


@pytest.mark.parametrize("f", [np.linalg.eigh, lambda a: np.linalg.eigh(a, "U"), np.linalg.qr])
def test_other_vectors_with_the_phase_of_lapack(f: Any) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2, 3, 3)) + 1j * rng.normal(size=(2, 3, 3))
    assert tg.gradcheck(lambda a: parts_of(f(a)), a)


@pytest.mark.parametrize(
    "last", [lambda a: np.linalg.qr(a, "complete")[0][0, 3], lambda a: np.linalg.svd(a)[0][0, 3]]
)
def test_a_phase_that_is_not_determined_has_no_derivative(last: Any) -> None:
    assert np.isnan(tg.grad(lambda a: np.imag(last(a)))(A)).any()
    assert np.isfinite(tg.grad(lambda a: np.abs(last(a)))(A)).all()


# -- parameters


class Beam(tg.nn.Module):
    def __init__(self, dtype: Any) -> None:
        self.phasor = leaf(np.ones((2, 3), dtype), dtype)
        self.gain = leaf(np.ones(3, np.finfo(dtype).dtype))

    def forward(self, target: Any) -> Any:
        return np.sum(np.abs(self.phasor * self.gain - target) ** 2)


TARGET = np.array([Z, W])


def trained(make: Any, dtype: Any, compiled: bool, steps: int = 5) -> Beam:
    net = Beam(dtype)
    optimizer = make(net.parameters())

    def step() -> Any:
        optimizer.zero_grad()
        loss = net(TARGET.astype(dtype))
        loss.backward()
        optim.clip_grad_norm(net.parameters(), 10.0)
        optimizer.step()
        return loss

    run = tg.compile(step) if compiled else step
    for _ in range(steps):
        run()
    return net


OPTIMIZERS = [
    lambda p: optim.SGD(p, 0.01, momentum=0.9, weight_decay=0.1),
    lambda p: optim.Adam(p, 0.1, amsgrad=True),
    lambda p: optim.AdamW(p, 0.1),
    lambda p: optim.RMSprop(p, 0.1, centered=True),
    lambda p: optim.Adagrad(p, 0.1),
    lambda p: optim.Lion(p, 0.1),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_optimizers_see_two_real_numbers(make: Any, dtype: Any) -> None:
    net = trained(make, dtype, compiled=False)
    assert net.phasor.dtype == dtype

    gain = leaf(np.ones(3, np.finfo(dtype).dtype))
    parts = leaf(np.stack([np.ones((2, 3)), np.zeros((2, 3))], -1), gain.dtype)
    optimizer = make([parts, gain])
    for _ in range(5):
        optimizer.zero_grad()
        z = parts[..., 0] + 1j * parts[..., 1]
        np.sum(np.abs(z * gain - TARGET.astype(dtype)) ** 2).backward()
        optim.clip_grad_norm([parts, gain], 10.0)
        optimizer.step()
    tolerance = 64 * np.finfo(dtype).eps
    assert_allclose(net.phasor.data, parts.data[..., 0] + 1j * parts.data[..., 1], tolerance)
    assert_allclose(net.gain.data, gain.data, tolerance)
    compiled = trained(make, dtype, compiled=True)
    assert_allclose(compiled.phasor.data, net.phasor.data, tolerance)


def test_state_of_modules_and_optimizers() -> None:
    net, other = Beam(np.complex128), Beam(np.complex128)
    first, second = (optim.Adam(n.parameters(), 0.1) for n in (net, other))
    net(TARGET).backward()
    first.step()
    other.load_state_dict(net.state_dict())
    second.load_state_dict(first.state_dict())
    moment = first.state_dict()["state"][0]["exp_avg"]
    assert moment.dtype == np.complex128 and moment.shape == (2, 3)
    for n, o in (net, first), (other, second):
        o.zero_grad()
        n(TARGET).backward()
        o.step()
    assert_array_equal(net.phasor.data, other.phasor.data)


def test_clipping() -> None:
    z, x = leaf(Z), leaf([3.0])
    z.grad, x.grad = Z, [4.0]
    expected = np.sqrt(np.sum(np.abs(Z) ** 2) + 16)
    assert_allclose(optim.clip_grad_norm([z, x], 1.0), expected)
    assert_allclose(z.grad, Z / expected, rtol=1e-6)
    z.grad = Z
    assert_allclose(optim.clip_grad_norm([z], 1.0, np.inf), np.max(np.abs(Z)))
    z.grad = Z
    optim.clip_grad_value([z], 1.0)
    assert_array_equal(z.grad, [1 + 1j, -0.5 + 0.25j, 1 - 1j])


def test_average_of_complex_parameters() -> None:
    z = leaf(Z)
    average = optim.ExponentialMovingAverage([z], decay=0.5)
    z.data = W
    average.update()
    average.copy_to()
    assert_array_equal(z.data, (Z + W) / 2)
