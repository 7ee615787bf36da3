"""Batches, splits, scaling, one-hot vectors, and generated data sets."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad.data import (
    batches,
    blobs,
    circles,
    moons,
    one_hot,
    spirals,
    standardize,
    train_test_split,
)

# -- batches


def test_batches_in_order_are_views() -> None:
    x, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    epoch = list(batches((x, y), 2))
    assert [type(batch) for batch in epoch] == [tuple] * 3
    assert_array_equal(np.concatenate([b[0] for b in epoch]), x)
    assert [b[1].tolist() for b in epoch] == [[0, 1], [2, 3], [4]]
    assert all(np.shares_memory(b[0], x) and np.shares_memory(b[1], y) for b in epoch)
    assert [len(b) for b in batches(y, 2, drop_last=True)] == [2, 2]
    assert list(batches(np.ones((0, 2)), 2)) == []
    assert type(next(iter(batches([[1, 2], [3, 4]], 1)))) is tuple


@given(n=st.integers(0, 20), size=st.integers(1, 7), drop=st.booleans(), seed=st.integers(0, 99))
def test_shuffled_batches_are_a_permutation_of_the_samples(
    n: int, size: int, drop: bool, seed: int
) -> None:
    x = np.arange(n)
    data = batches((x, -x), size, shuffle=True, rng=seed, drop_last=drop)
    for _ in range(2):
        epoch = list(data)
        assert len(epoch) == len(data)
        assert all(len(a) == size for a, _ in (epoch if drop else epoch[:-1]))
        assert all(np.array_equal(a, -b) for a, b in epoch)
        seen = sorted(int(i) for a, _ in epoch for i in a)
        assert len(seen) == len(set(seen)) == (n // size * size if drop else n)
    again = batches((x, -x), size, shuffle=True, rng=seed, drop_last=drop)
    assert [b.tolist() for b, _ in again] == [b.tolist() for b, _ in batches(
        (x, x), size, shuffle=True, rng=np.random.default_rng(seed), drop_last=drop
    )]  # fmt: skip


def test_each_epoch_has_its_own_order_and_leaves_the_arrays() -> None:
    x = np.arange(50)
    data = batches(x, 50, shuffle=True, rng=0)
    (first,), (second,) = data, data
    assert not np.array_equal(first, second)
    assert_array_equal(x, np.arange(50))


@given(
    n=st.integers(1, 20),
    size=st.integers(1, 7),
    shuffle=st.booleans(),
    before=st.integers(0, 30),
)
@example(n=20, size=3, shuffle=True, before=0)
@example(n=20, size=3, shuffle=True, before=7)
def test_batches_go_on_where_they_stopped(n: int, size: int, shuffle: bool, before: int) -> None:
    def stream(data: Any) -> Any:
        while True:
            yield from data

    data = batches(np.arange(n), size, shuffle=shuffle, rng=1)
    whole = stream(data)
    for _ in range(before):
        next(whole)
    state = pickle.loads(pickle.dumps(data.state_dict()))
    expected = [next(whole).tolist() for _ in range(10)]
    resumed = batches(np.arange(n), size, shuffle=shuffle, rng=2)
    resumed.load_state_dict(state)
    rest = stream(resumed)
    assert [next(rest).tolist() for _ in range(10)] == expected


def test_attributes_can_be_changed_between_epochs() -> None:
    x = np.arange(50)
    changed = batches(x, 50)
    (first,) = changed
    changed.shuffle, changed.rng, changed.batch_size, changed.drop_last = True, 3, 20, True
    assert_array_equal(first, x)
    for batch, expected in zip(changed, batches(x, 20, True, 3, True), strict=True):
        assert_array_equal(batch, expected)
    state = changed.state_dict()
    resumed = batches(x, 20, shuffle=True, drop_last=True)
    resumed.load_state_dict(state)
    for batch, expected in zip(changed, resumed, strict=True):
        assert_array_equal(batch, expected)
    changed.shuffle = False
    assert_array_equal(next(iter(changed)), x[:20])


def test_a_state_of_the_other_kind_is_refused() -> None:
    state = batches(np.arange(3), 2).state_dict()
    with pytest.raises(ValueError, match="shuffled"):
        batches(np.arange(3), 2, shuffle=True).load_state_dict(state)


def test_a_state_of_another_generator_changes_nothing() -> None:
    def data(kind: Any) -> Any:
        return batches(np.arange(9), 2, shuffle=True, rng=np.random.Generator(kind(0)))

    other, ours, twin = data(np.random.MT19937), data(np.random.PCG64), data(np.random.PCG64)
    for each in other, ours, twin:
        next(iter(each))
    before = ours.state_dict()
    with pytest.raises(ValueError, match="PCG64"):
        ours.load_state_dict(other.state_dict())
    assert ours.state_dict() == before
    for batch, expected in zip(ours, twin, strict=True):
        assert_array_equal(batch, expected)


def test_batches_of_tensors_and_lists() -> None:
    t = tg.Tensor(np.arange(4.0), requires_grad=True)
    for shuffle in False, True:
        for x, y in batches((t, [[1], [2], [3], [4]]), 2, shuffle=shuffle, rng=0):
            assert isinstance(x, tg.Tensor) and x.requires_grad
            assert_array_equal(x.data + 1, y[:, 0])


def test_batches_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"batches: arrays of different lengths: \[3, 4\]"):
        batches((np.ones(3), np.ones(4)), 2)
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        batches(np.ones(3), 0)
    with pytest.raises(ValueError, match="no samples"):
        batches(np.float64(1.0), 1)
    with pytest.raises(ValueError, match="no arrays"):
        batches((), 1)


# -- preparation


@given(
    n=st.integers(2, 40),
    share=st.floats(0.01, 0.9),
    kinds=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_a_split_has_every_sample_once_in_proportion(
    n: int, share: float, kinds: int, seed: int
) -> None:
    x, y = np.arange(n), np.arange(n) % kinds
    count = int(np.ceil(share * n))
    if count == n:
        count, share = n - 1, n - 1
    for stratify in None, y:
        x_train, x_test, y_train, y_test = train_test_split(
            x, y, test_size=share, rng=seed, stratify=stratify
        )
        assert len(x_test) == count
        assert sorted([*x_train, *x_test]) == x.tolist()
        assert_array_equal(y_train, x_train % kinds)
        assert_array_equal(y_test, x_test % kinds)
    for kind in range(kinds):
        assert abs(np.sum(y_test == kind) - np.sum(y == kind) * count / n) <= 1


def test_a_split_is_random_as_asked() -> None:
    x = np.arange(100)
    train, test = train_test_split(x, rng=0)
    assert (len(train), len(test)) == (75, 25)
    assert_array_equal(test, train_test_split(x, rng=np.random.default_rng(0))[1])
    assert not np.array_equal(test, train_test_split(x, rng=1)[1])
    assert not np.array_equal(np.sort(test), test)
    for kind in np.float16, np.float32, np.float64:
        assert len(train_test_split(x, test_size=kind(0.25))[1]) == 25
    assert len(train_test_split(x, test_size=np.int8(30))[1]) == 30
    train, test = train_test_split(x, test_size=30, rng=0, stratify=x % 2)
    assert np.any(np.diff(test % 2) == 0)  # the classes do not take turns


def test_impossible_splits_are_refused() -> None:
    for size in 0.0, 1.0, 0, 4, -1, np.nan:
        with pytest.raises(ValueError, match=f"test_size={size} of 4 samples"):
            train_test_split(np.ones(4), test_size=size)
    with pytest.raises(ValueError, match="different lengths"):
        train_test_split(np.ones(4), np.ones(5))
    with pytest.raises(ValueError, match=r"stratify of shape \(3,\), not \(4,\)"):
        train_test_split(np.ones(4), stratify=[0, 1, 0])


def test_rare_classes_do_not_displace_a_common_one() -> None:
    y = np.repeat([0, 1, 2, 3], [97, 1, 1, 1])
    for seed in range(5):
        _, test = train_test_split(y, test_size=25, rng=seed, stratify=y)
        assert len(test) == 25
        assert 24 <= np.sum(test == 0) <= 25  # 97 / 4, up to one sample


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardize(dtype: Any) -> None:
    x = np.random.default_rng(0).normal(3, 2, (50, 3)).astype(dtype)
    x[:, 1] = 7
    scale = standardize(x)
    z = scale(x)
    assert z.dtype == scale.inverse(z).dtype == dtype
    assert_allclose(z.mean(axis=0), 0, atol=1e-5)
    assert_allclose(z.std(axis=0), [1, 0, 1], rtol=1e-5)
    assert_allclose(scale.inverse(z), x, rtol=1e-5)
    assert_allclose(scale(x[:2] + 1), z[:2] + 1 / scale.std, rtol=1e-4)  # the scale of the first x
    assert_allclose(standardize([1, 3])([5]), [3])
    constants = [np.full((n, 1), 0.1, dtype) for n in range(1, 40)]
    assert any(x.mean(axis=0) != x[0] for x in constants)  # by rounding
    for constant in constants:
        assert_array_equal(standardize(constant)(constant), 0 * constant)
        assert_array_equal(standardize(constant).std, [1])
    t = tg.Tensor(x, requires_grad=True)
    np.sum(scale(t)).backward()
    assert_allclose(t.grad[0], 1 / scale.std)
    with pytest.raises(ValueError, match="no samples"):
        standardize(np.ones((0, 3)))


def test_one_hot() -> None:
    assert_array_equal(one_hot([[0], [2]]), [[[1, 0, 0]], [[0, 0, 1]]])
    assert one_hot([1], 4, np.float32).tolist() == [[0, 1, 0, 0]]
    assert one_hot([1], dtype=np.float32).dtype == np.float32
    assert one_hot(np.zeros(0, int), 3).shape == (0, 3)
    for wrong in -1, 3:
        with pytest.raises(IndexError, match=rf"target {wrong} at index \(1,\), of 3 classes"):
            one_hot([0, wrong], 3)
    for wrong in [0.0, 1.0], [np.nan], [True]:
        with pytest.raises(TypeError, match=r"one_hot: classes of dtype .*astype"):
            one_hot(wrong, 3)
    with pytest.raises(ValueError, match="pass num_classes"):
        one_hot(np.zeros(0, int))


# -- generated data sets


def test_moons_lie_on_two_half_circles() -> None:
    points, classes = moons(50, noise=0.0, rng=0)
    assert (points.shape, classes.shape, points.dtype) == ((50, 2), (50,), np.float64)
    assert_array_equal(classes, np.arange(50) % 2)
    upper, lower = points[classes == 0], points[classes == 1] - (1, 0.5)
    assert_allclose(np.linalg.norm(upper, axis=1), 1)
    assert_allclose(np.linalg.norm(lower, axis=1), 1)
    assert upper[:, 1].min() >= 0 >= lower[:, 1].max()
    assert (np.ptp(upper[:, 0]), np.ptp(lower[:, 0])) > (1.5, 1.5)


def test_circles_lie_on_two_circles() -> None:
    points, classes = circles(500, noise=0.0, rng=0, factor=0.25)
    assert_allclose(np.linalg.norm(points, axis=1), np.where(classes == 0, 1, 0.25))
    assert np.ptp(np.arctan2(*points.T)) > 6


def test_spirals_are_one_arm_rotated() -> None:
    points, classes = spirals(60, noise=0.0, rng=0, arms=3, turns=1.5)
    radius = np.linalg.norm(points, axis=1)
    turned = np.exp(-2j * np.pi * (1.5 * radius + classes / 3)) * (points @ [1, 1j])
    assert_allclose(turned, radius, atol=1e-12)
    assert sorted(set(classes.tolist())) == [0, 1, 2]
    assert radius.max() <= 1
    many = np.linalg.norm(spirals(4000, noise=0.0, rng=0)[0], axis=1)
    assert_allclose(np.quantile(many, [0.25, 0.75]) ** 2, [0.25, 0.75], atol=0.03)  # per area


def test_blobs_lie_around_their_centers() -> None:
    centers = np.array([[0.0, 5.0, 0.0], [9.0, 0.0, 1.0]])
    points, classes = blobs(2000, centers, rng=0, cluster_std=0.5)
    for i, center in enumerate(centers):
        assert_allclose(points[classes == i].mean(axis=0), center, atol=0.1)
        assert_allclose(points[classes == i].std(axis=0), 0.5, rtol=0.1)
    points, classes = blobs(9, 4, rng=0, n_features=5, cluster_std=0.0, center_box=(2, 3))
    assert points.shape == (9, 5)
    assert classes.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert_array_equal(points[0], points[4])
    assert 2 <= points.min() < points.max() <= 3


def test_numbers_of_arms_and_centers() -> None:
    assert_array_equal(blobs(4, np.int64(3), rng=0)[0], blobs(4, 3, rng=0)[0])
    with pytest.raises(ValueError, match="spirals: arms must be at least 1, not 0"):
        spirals(4, arms=0)
    for centers in 0, [1.0, 2.0]:
        with pytest.raises(ValueError, match="blobs: centers of shape"):
            blobs(4, centers)


@pytest.mark.parametrize("generate", [moons, circles, spirals])
def test_generated_points_are_random_as_asked(generate: Any) -> None:
    assert_array_equal(generate(10, rng=3)[0], generate(10, rng=np.random.default_rng(3))[0])
    assert not np.array_equal(generate(10, rng=3)[0], generate(10, rng=4)[0])
    clean, noisy = generate(2000, noise=0.0, rng=0)[0], generate(2000, noise=0.2, rng=0)[0]
    assert_allclose(np.std(noisy - clean, axis=0), 0.2, rtol=0.1)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_stacks_hold_the_batches(shuffle: bool, drop_last: bool) -> None:
    """All of them, in their order, also where a state is loaded in between."""
    x, y = np.arange(46.0).reshape(23, 2), np.arange(23)

    def made() -> Any:
        return tg.data.batches((x, y), 3, shuffle=shuffle, rng=0, drop_last=drop_last)

    expected = list(made())
    most = iter([2, 1, 100, 100])
    found, data = list[Any](), made()
    for stack in data.stacks(lambda: next(most)):
        found += zip(*stack, strict=True)
        if len(found) == 3:
            other = made()
            other.load_state_dict(data.state_dict())
            rest = [pair for stack in other.stacks(3) for pair in zip(*stack, strict=True)]
    for pairs in found, found[:3] + rest:
        assert len(pairs) == len(expected) == (7 if drop_last else 8)
        for pair, same in zip(pairs, expected, strict=True):
            for a, b in zip(pair, same, strict=True):
                assert_array_equal(a, b)
    assert [stack.shape for stack in tg.data.batches(x, 10).stacks(2)] == [(2, 10, 2), (1, 3, 2)]
