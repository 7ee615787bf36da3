"""The programs in tensorgrad/examples: each runs, says so, and computes what is true."""

import contextlib
import functools
import importlib
import io
import itertools
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tensorgrad as tg
import tensorgrad.examples
from tensorgrad.examples import (
    character_model,
    curve_fitting,
    digits,
    double_pendulum,
    gaussian_process as gp,
    hamiltonian_monte_carlo as hmc,
    implicit_differentiation as implicit,
    kalman_filter as kalman,
    per_example_gradients as per_example,
)

from .depth import FULL, one_in

FOLDER = Path(tensorgrad.examples.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
NEED = {"curve_fitting": "scipy"}
BY_MPIEXEC = {"data_parallel"}  # which test_parallel starts
SLOW = {"character_model", "digits_convolutional", "kalman_filter"}
RUN = [name for name in NAMES if (FULL or name not in SLOW) and name not in BY_MPIEXEC]
COMMANDS = RUN if FULL else ["per_example_gradients"]


@functools.cache
def output_of(name: str) -> str:
    """What the example prints."""
    if name in NEED:
        pytest.importorskip(NEED[name])
    with contextlib.redirect_stdout(io.StringIO()) as out:
        importlib.import_module(f"tensorgrad.examples.{name}").main()
    return out.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_is_short(name: str) -> None:
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 60


def test_all_are_listed() -> None:
    out = output_of("__main__")
    commands = [line for line in out.splitlines() if line.startswith("python")]
    assert commands == [f"python -m tensorgrad.examples.{name}" for name in NAMES]


@pytest.mark.parametrize("name", RUN)
def test_runs(name: str) -> None:
    assert output_of(name).endswith("\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_prints_the_same_in_a_process_of_its_own(name: str) -> None:
    expected = output_of(name)
    command = [sys.executable, "-W", "error", "-m", f"tensorgrad.examples.{name}"]
    assert subprocess.run(command, stdout=-1, text=True, check=True).stdout == expected


def test_curve_fitting_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match="curve_fitting needs scipy: python -m pip install scipy"):
        curve_fitting.main()


def test_curve_fitting_is_that_of_curve_fit() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    t, y = curve_fitting.measure(np.random.default_rng(0))
    start = [1.0, 0.1, 4.2, 0.0]
    found, errors = curve_fitting.fit(t, y, start)

    def plain(t: Any, *parameters: float) -> Any:
        return curve_fitting.model(parameters, t)

    expected, covariance = optimize.curve_fit(plain, t, y, start)
    assert_allclose(found, expected, rtol=1e-4)
    assert_allclose(errors, np.sqrt(np.diag(covariance)), rtol=1e-3)
    assert np.all(np.abs(found - curve_fitting.TRUTH) < 4 * errors)


def test_gaussian_process_is_the_conditional_of_a_joint_normal() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.uniform(0, 6, 15), np.linspace(0, 8, 5)
    y = rng.normal(np.sin(x), 0.2)
    p = gp.train(x, y)

    both = np.concatenate([x, new])
    length, scale, noise = (math.exp(v) for v in p.values())
    joint = scale**2 * np.exp(-(((both[:, None] - both) / length) ** 2) / 2)
    joint[: len(x), : len(x)] += noise**2 * np.eye(len(x))
    k, cross, rest = joint[:15, :15], joint[15:, :15], joint[15:, 15:]
    mean, deviation = gp.predict(p, x, y, new)
    assert_allclose(mean, cross @ np.linalg.inv(k) @ y, rtol=1e-8)
    assert_allclose(deviation**2, np.diag(rest - cross @ np.linalg.inv(k) @ cross.T), rtol=1e-7)

    sign, log_determinant = np.linalg.slogdet(2 * math.pi * k)
    direct = (y @ np.linalg.inv(k) @ y + log_determinant) / 2
    assert sign == 1
    assert_allclose(gp.negative_log_likelihood(p, x, y), direct, rtol=1e-10)
    for name, step in itertools.product(p, [-0.1, 0.1]):  # a minimum
        assert gp.negative_log_likelihood({**p, name: p[name] + step}, x, y) > direct


def test_kalman_filter_is_least_squares_on_all_measurements_at_once() -> None:
    n, rng = 30, np.random.default_rng(0)
    measured = rng.normal(size=n).cumsum()
    deviations = np.array([0.4, 1.5])
    state, log_likelihood = kalman.kalman_filter(np.log(deviations), measured)

    # The state at the end is linear in the accelerations: a row of ones, and the steps left.
    left = np.arange(n)[::-1]
    final = np.stack([left + 0.5, np.ones(n)])
    positions = np.clip(np.arange(n)[:, None] - np.arange(n) + 0.5, 0, None)
    system = np.concatenate([positions / deviations[1], np.eye(n) / deviations[0]])
    accelerations = np.linalg.lstsq(system, np.append(measured / deviations[1], np.zeros(n)))[0]
    assert_allclose(state, final @ accelerations, rtol=1e-8)

    covariance = deviations[0] ** 2 * positions @ positions.T + deviations[1] ** 2 * np.eye(n)
    exponent = measured @ np.linalg.solve(covariance, measured)
    expected = -(exponent + np.linalg.slogdet(2 * math.pi * covariance)[1]) / 2
    assert_allclose(log_likelihood, expected, rtol=1e-10)


def test_kalman_filter_learns_the_most_likely_noise() -> None:
    rng = np.random.default_rng(1)
    measured = rng.normal(np.cumsum(np.cumsum(rng.normal(0, 0.3, 30))), 2.0)
    learned = kalman.learn(measured, np.log([0.5, 1.0]))
    best = kalman.log_likelihood(learned, measured)
    for step in itertools.product([-0.05, 0, 0.05], repeat=2):
        assert kalman.log_likelihood(learned + step, measured) <= best


def test_hamiltonian_monte_carlo_has_the_moments_of_the_density() -> None:
    rng = np.random.default_rng(3)
    samples, accepted = hmc.sample(hmc.log_density, rng.normal(size=(100, 2)), 500, rng)
    assert samples.shape == (500, 100, 2)
    assert 0.8 < accepted < 1
    x, y = np.moveaxis(samples[50:], -1, 0)
    for values, expected in [(x, 0), (x**2, 1), (y, 1), (y**2, 4), (x**2 * y, 3)]:
        chains = values.mean(axis=0)  # independent of each other
        error = chains.std() / math.sqrt(len(chains))
        assert abs(chains.mean() - expected) < 4 * error < 1


def test_double_pendulum_follows_the_equations_of_textbooks() -> None:
    (m1, m2), (l1, l2), g = double_pendulum.MASSES, double_pendulum.LENGTHS, double_pendulum.GRAVITY
    a, b = q = np.array([0.7, -1.9])
    u, w = v = np.array([1.5, -0.4])
    c, s = math.cos(a - b), math.sin(a - b)
    mass = [[(m1 + m2) * l1, m2 * l2 * c], [l1 * c, l2]]
    force = [
        -m2 * l2 * w**2 * s - (m1 + m2) * g * math.sin(a),
        l1 * u**2 * s - g * math.sin(b),
    ]
    assert_allclose(double_pendulum.accelerations(q, v), np.linalg.solve(mass, force), rtol=1e-10)


def test_double_pendulum_keeps_its_energy() -> None:
    lines = output_of("double_pendulum").splitlines()
    energies = [float(line.split()[-2]) for line in lines]
    assert len(energies) == 6
    assert_allclose(energies, energies[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "least"), one_in(2, [("digits", 0.92), ("digits_convolutional", 0.97)])
)
def test_digits_are_read(name: str, least: float) -> None:
    last = output_of(name).splitlines()[-1]
    assert float(last.partition("%")[0]) / 100 >= least


def test_digits_are_all_there_and_differ() -> None:
    assert digits.GLYPHS.shape == (7, 10, 5)
    assert len({digits.GLYPHS[:, i].tobytes() for i in range(10)}) == 10
    images, classes = digits.draw(50, np.random.default_rng(0))
    assert images.dtype == np.float32
    ink = digits.GLYPHS.sum(axis=(0, 2))
    assert_allclose(images.sum(axis=(1, 2, 3)), ink[classes], atol=5 * 0.3 * 12)


def test_character_model_knows_more_than_the_last_character() -> None:
    model = character_model.CharacterModel(np.random.default_rng(0))
    character_model.train(model)
    text, codes = character_model.TEXT, character_model.CODES
    loss = tg.nn.cross_entropy(model(codes[:-1])[0], codes[1:]).item()
    pairs, firsts = Counter(itertools.pairwise(text)), Counter(text[:-1])
    entropy = -sum(n * math.log(n / firsts[a]) for (a, _), n in pairs.items()) / len(codes[1:])
    assert 0 < loss < entropy / 10
    assert character_model.recite(model, "How", len(text) - 3) == text


def test_implicit_differentiation_is_that_of_solving_twice() -> None:
    def loss(log_strength: float) -> Any:
        return implicit.log_loss(implicit.train(log_strength), implicit.NEW_X, implicit.NEW_Y)

    at, h = -3.0, 1e-4
    weights = implicit.train(at)
    assert_allclose(implicit.slope(weights, at), 0, atol=1e-12)
    difference = (loss(at + h) - loss(at - h)) / (2 * h)
    assert_allclose(tg.grad(loss)(at), difference, rtol=1e-6)


def test_per_example_gradients_find_the_wrong_labels() -> None:
    wrong, found, _ = output_of("per_example_gradients").splitlines()
    assert wrong.partition(":")[2].strip() == found.partition(":")[2].strip()


def test_per_example_gradients_are_those_of_each_sample_alone() -> None:
    rng = np.random.default_rng(0)
    p, (x, y) = per_example.parameters(rng), per_example.moons(rng, 20)
    each = per_example.per_example_gradients(p, x, y)
    for i in range(len(x)):
        alone = tg.grad(lambda p: per_example.losses(p, x[i], y[i]))(p)  # noqa: B023
        for name, gradient in alone.items():
            assert_allclose(each[name][i], gradient, rtol=1e-10, atol=1e-14)
