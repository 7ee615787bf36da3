"""Data: batches, splits, scaling, one-hot vectors, and generated data sets.

Wherever something is random, `rng` is a NumPy Generator or a seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .engine.modes import each_time
from .engine.typing import Array
from .engine.variable import plain
from .guide import guided, of_module

__all__ = [
    "Batches",
    "Standard",
    "batches",
    "blobs",
    "circles",
    "moons",
    "one_hot",
    "spirals",
    "standardize",
    "train_test_split",
]


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:
    __getattr__ = of_module(__name__)


RNG: TypeAlias = "np.random.Generator | int | None"  # a string: numpy.random is slow to import

# -- batches


class Batches:
    """Arrays of one length, cut into batches: what `batches` returns. It has a length."""

    def __init__(
        self,
        arrays: Any,
        batch_size: int,
        shuffle: bool = False,
        rng: RNG = None,
        drop_last: bool = False,
    ) -> None:
        self._alone = not isinstance(arrays, (tuple, list))
        self.arrays = _of_one_length("batches", [arrays] if self._alone else arrays)
        if not isinstance(batch_size, (int, np.integer)):
            raise TypeError(
                f"batches: batch_size must be an integer, not {type(batch_size).__name__}; pass "
                "several arrays as one tuple: batches((x, y), 32)"
            )
        if batch_size < 1:
            raise ValueError(f"batches: batch_size must be at least 1, not {batch_size}")
        self.batch_size = batch_size
        self.drop_last = drop_last
        self._rng = np.random.default_rng(rng) if shuffle else None
        self._seed = 0  # of the order of this epoch
        self._taken = 0  # batches of this epoch
        self._resumes = False

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        n = len(self.arrays[0])
        return n // self.batch_size if self.drop_last else math.ceil(n / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch, or go on with the one that `load_state_dict` set."""
        if not self._resumes:
            self._taken = 0
            if self._rng is not None:
                self._seed = int(self._rng.integers(1 << 63))
        self._resumes = False
        n = len(self.arrays[0])
        order = None if self._rng is None else np.random.default_rng(self._seed).permutation(n)
        for i in range(self._taken, len(self)):
            part: Any = slice(i * self.batch_size, (i + 1) * self.batch_size)
            part = part if order is None else order[part]
            self._taken = i + 1
            yield self.arrays[0][part] if self._alone else tuple([a[part] for a in self.arrays])

    def state_dict(self) -> dict[str, Any]:
        """The position: plain numbers, that `load_state_dict` takes."""
        generator = None if self._rng is None else self._rng.bit_generator.state
        return {"taken": self._taken, "seed": self._seed, "generator": generator}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a position: the next iteration goes on with the batch that came next then.

        After the last batch of an epoch, this is the first of a new one.
        """
        taken, seed, generator = state["taken"], state["seed"], state["generator"]
        if (generator is None) != (self._rng is None):
            raise ValueError("load_state_dict: only one of the two, batches and state, is shuffled")
        if self._rng is not None:
            self._rng.bit_generator.state = generator  # refuses that of another kind
        self._taken, self._seed = taken, seed
        self._resumes = 0 < taken < len(self)


@guided
def batches(
    arrays: Any,
    batch_size: int,
    shuffle: bool = False,
    rng: RNG = None,
    drop_last: bool = False,
) -> Batches:
    """Return an iterable of the batches of an array, or of several arrays of one length.

    A tuple or a list of arrays gives tuples. Each iteration is an epoch, in the order of the arrays
    with views of them, or with `shuffle` in a new order, drawn from `rng`. The last batch may be
    shorter, unless `drop_last`. `state_dict()` and `load_state_dict()` save and restore the
    position, so that training continues bit for bit in the middle of an epoch. Raises ValueError
    for arrays of different lengths.

    >>> x = np.arange(5.0)
    >>> [batch for batch in tg.data.batches(x, 2)]
    [array([0., 1.]), array([2., 3.]), array([4.])]
    >>> shuffled = tg.data.batches((x, x > 2), 2, shuffle=True, rng=0)
    >>> len(shuffled), len(list(shuffled)), len(list(shuffled)[0])
    (3, 3, 2)
    """
    return Batches(arrays, batch_size, shuffle, rng, drop_last)


def _of_one_length(name: str, arrays: Sequence[Any]) -> list[Any]:
    arrays = [a if hasattr(a, "__array_function__") else np.asarray(a) for a in arrays]
    if not arrays:
        raise ValueError(f"{name}: no arrays")
    if not all(a.ndim for a in arrays):
        raise ValueError(f"{name}: an array of shape () has no samples")
    if len({len(a) for a in arrays}) > 1:
        raise ValueError(f"{name}: arrays of different lengths: {[len(a) for a in arrays]}")
    return arrays


# -- preparation


@guided
def train_test_split(
    *arrays: Any,
    test_size: float = 0.25,
    rng: RNG = None,
    stratify: ArrayLike | None = None,
) -> list[Any]:
    """Return each array's training samples and its test samples, in one random order for all.

    `test_size` is a share (rounded up) or a number of samples. `stratify`, a class for each sample,
    makes both parts hold the classes in the same proportions, up to one sample of each. The results
    are in scikit-learn's order. Raises ValueError for different lengths, and for an empty part.

    >>> x, y = np.arange(8.0), np.array([0, 1] * 4)
    >>> x_train, x_test, y_train, y_test = tg.data.train_test_split(x, y, rng=0, stratify=y)
    >>> x_train.shape, sorted(y_test)
    ((6,), [np.int64(0), np.int64(1)])
    """
    given = _of_one_length("train_test_split", arrays)
    n = len(given[0])
    is_share = isinstance(test_size, (float, np.floating))
    count = np.ceil(test_size * n) if is_share else test_size
    if not 0 < count < n:
        raise ValueError(f"train_test_split: test_size {test_size} of {n} samples: an empty part")
    order = np.random.default_rng(rng).permutation(n)
    is_test = np.arange(n) < count
    if stratify is not None:
        classes = np.asarray(stratify)
        if classes.shape != (n,):
            raise ValueError(f"train_test_split: stratify of shape {classes.shape}, not {(n,)}")
        is_test = np.argsort(np.argsort(_quantiles(classes[order]), kind="stable")) < count
    return [a[order[part]] for a in given for part in (~is_test, is_test)]


def _quantiles(classes: Array) -> Array:
    """How far down its class each sample comes, between 0 and 1."""
    _, number, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    by_class = np.argsort(number, kind="stable")
    rank = np.empty(len(classes))
    rank[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return (rank + 0.5) / sizes[number]


class Standard(NamedTuple):
    """The scale of each feature: what `standardize` returns."""

    mean: Array
    std: Array

    def __call__(self, x: Any) -> Any:
        """Return data on this scale."""
        return (x - self.mean) / self.std

    def inverse(self, z: Any) -> Any:
        """Return data from this scale in its own units."""
        return z * self.std + self.mean


def standardize(x: ArrayLike) -> Standard:
    """Return the function that gives each feature of `x` the mean 0 and the standard deviation 1.

    Samples lie along the first axis. Call it on the training data and on all that the model is to
    see; its `inverse` leads back. A feature that never changes becomes 0.

    >>> scale = tg.data.standardize([[1.0, 5.0], [3.0, 5.0]])
    >>> scale(np.array([[1.0, 5.0], [5.0, 6.0]]))
    array([[-1.,  0.],
           [ 3.,  1.]])
    """
    x = np.asarray(x)
    if not (x.ndim and len(x)):
        raise ValueError(f"standardize: no samples in an array of shape {x.shape}")
    constant = np.ptp(x, axis=0) == 0  # rounding may leave it a deviation
    return Standard(np.where(constant, x[0], x.mean(axis=0)), np.where(constant, 1, x.std(axis=0)))


def one_hot(classes: ArrayLike, num_classes: int | None = None, dtype: DTypeLike = float) -> Array:
    """Return a vector for each class, along a new last axis: 1 at the class, and 0 elsewhere.

    Classes are integers from 0 to `num_classes` - 1; by default, to the largest there is. Raises
    IndexError for another one, TypeError for other dtypes, and ValueError for no classes at all.

    >>> tg.data.one_hot([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    array: Any = classes if hasattr(classes, "__array_function__") else np.asarray(classes)
    if array.dtype.kind not in "iu":
        raise TypeError(f"one_hot: classes of dtype {array.dtype}; use classes.astype(int)")
    if num_classes is None:
        if not array.size:
            raise ValueError("one_hot: no classes, of which to find the largest: pass num_classes")
        num_classes = int(array.max()) + 1
    check_classes("one_hot", array, num_classes)
    is_class: Array = array[..., None] == np.arange(num_classes)
    return is_class.astype(dtype)


def check_classes(name: str, classes: Array, count: int) -> None:
    """Raise IndexError if not all of an array of classes lie from 0 to `count` - 1."""

    def check(classes: Array) -> None:
        if not within(classes, count):
            place = tuple(np.argwhere((classes < 0) | (classes >= count))[0].tolist())
            raise IndexError(
                f"{name}: target {classes[place]} at index {place}, of {count} classes: "
                f"they are numbered from 0 to {count - 1}"
            )

    each_time(check, plain(classes))


def within(numbers: Any, count: int) -> Any:
    """Whether all of an array of integers lie from 0 to `count` - 1."""
    # The bits of a negative number are those of a large one.
    bits = numbers.view(f"u{numbers.dtype.itemsize}")
    return not numbers.size or np.maximum.reduce(bits, axis=None) < count


# -- generated data sets


def moons(n: int, noise: float = 0.1, rng: RNG = None) -> tuple[Array, Array]:
    """Return `n` points on two interleaved half circles, and the class of each.

    The points have shape (n, 2), dtype float64; the classes, 0 and 1 in turn, shape (n,). Class 0
    lies on the upper half of the unit circle, class 1 on the lower half of the unit circle around
    (1, 0.5). `noise` is the standard deviation of what is added to every coordinate.

    >>> points, classes = tg.data.moons(4, noise=0.0, rng=0)
    >>> classes
    array([0, 1, 0, 1])
    >>> np.hypot(*points[0]), np.hypot(*(points[1] - [1.0, 0.5]))
    (np.float64(1.0), np.float64(1.0))
    """
    rng = np.random.default_rng(rng)
    classes = np.arange(n) % 2
    angles = rng.uniform(0, np.pi, n)
    upper = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.where(classes[:, np.newaxis] == 0, upper, (1, 0.5) - upper)
    return points + rng.normal(0, noise, points.shape), classes


def circles(
    n: int,
    noise: float = 0.05,
    rng: RNG = None,
    factor: float = 0.8,
) -> tuple[Array, Array]:
    """Return `n` points on the unit circle and on one inside of it, and the class of each.

    Class 0 lies on the unit circle, class 1 on that of radius `factor`. The rest is as for `moons`.

    >>> points, classes = tg.data.circles(4, noise=0.0, rng=0, factor=0.5)
    >>> np.round(np.hypot(*points.T), 3), classes
    (array([1. , 0.5, 1. , 0.5]), array([0, 1, 0, 1]))
    """
    rng = np.random.default_rng(rng)
    classes = np.arange(n) % 2
    points = _polar(np.where(classes == 0, 1, factor), rng.uniform(0, 2 * np.pi, n))
    return points + rng.normal(0, noise, points.shape), classes


def spirals(
    n: int,
    noise: float = 0.05,
    rng: RNG = None,
    arms: int = 2,
    turns: float = 1.0,
) -> tuple[Array, Array]:
    """Return `n` points on spirals that start at the origin, and the class of each: its arm.

    The arms, equal up to a rotation, end on the unit circle after so many `turns`. Classes come in
    turn. The rest is as for `moons`.

    >>> points, classes = tg.data.spirals(6, noise=0.0, rng=0, arms=3)
    >>> bool(np.max(np.hypot(*points.T)) < 1), classes
    (True, array([0, 1, 2, 0, 1, 2]))
    """
    if arms < 1:
        raise ValueError(f"spirals: arms must be at least 1, not {arms}")
    rng = np.random.default_rng(rng)
    classes = np.arange(n) % arms
    radius = np.sqrt(rng.uniform(0, 1, n))  # as dense at the ends as at the origin
    points = _polar(radius, 2 * np.pi * (turns * radius + classes / arms))
    return points + rng.normal(0, noise, points.shape), classes


def blobs(
    n: int,
    centers: int | ArrayLike = 3,
    rng: RNG = None,
    n_features: int = 2,
    cluster_std: float = 1.0,
    center_box: tuple[float, float] = (-10.0, 10.0),
) -> tuple[Array, Array]:
    """Return `n` normally distributed points around centers, and the class of each: its center.

    `centers`, if a number, are drawn within `center_box`, uniformly along each of `n_features`
    axes; else they are points, shape (centers, features). Classes come in turn.

    >>> points, classes = tg.data.blobs(4, [[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]], rng=0)
    >>> points.shape, classes, points.mean(axis=1) > 4
    ((4, 3), array([0, 1, 0, 1]), array([False,  True, False,  True]))
    """
    rng = np.random.default_rng(rng)
    if isinstance(centers, (int, np.integer)):
        centers = rng.uniform(*center_box, (centers, n_features))
    centers = np.asarray(centers, float)
    if centers.ndim != 2 or not len(centers):
        raise ValueError(f"blobs: centers of shape {centers.shape}; pass one at least, in rows")
    classes = np.arange(n) % len(centers)
    return rng.normal(centers[classes], cluster_std), classes


def _polar(radius: Array, angle: Array) -> Array:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
