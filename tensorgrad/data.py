"""Data: batches, splits, scaling, one-hot vectors, and generated data sets.

The source of randomness, `rng`, is a NumPy Generator or a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .engine.interpreter import Requirement
from .engine.modes import mode, plain
from .engine.typing import Array
from .guide import guided, of_module
from .tables import Table, wrapped

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
    """Arrays of one length, cut into batches: what `batches` returns.

    Its attributes can be changed between epochs. `len()` is the number of batches in an epoch.
    """

    def __init__(
        self,
        arrays: Any,
        batch_size: int,
        shuffle: bool = False,
        rng: RNG = None,
        drop_last: bool = False,
    ) -> None:
        self.is_tuple = isinstance(arrays, (tuple, list))  # whether a batch is one
        self.arrays = _of_one_length("batches", arrays if self.is_tuple else [arrays])
        if not isinstance(batch_size, (int, np.integer)):
            raise TypeError(
                f"batches: batch_size must be an integer, not {type(batch_size).__name__}; pass "
                "several arrays as one tuple: batches((x, y), 32)"
            )
        if batch_size < 1:
            raise ValueError(f"batches: batch_size must be at least 1, not {batch_size}")
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.shuffle = shuffle
        self.rng = rng
        self._seed = 0  # of the order of this epoch
        self._taken = 0  # the number of batches taken in this epoch
        self._resumes = False
        if shuffle:
            self._generator()

    def _options(self) -> list[str]:
        given = [name for name in ("shuffle", "drop_last") if getattr(self, name)]
        return [f"batch_size={self.batch_size}", *(f"{name}=True" for name in given)]

    def __repr__(self) -> str:
        arrays = [f"{np.shape(a)} {np.asarray(a[:0]).dtype}" for a in self.arrays]
        return wrapped(f"{len(self)} batches of (", [*arrays, *self._options()])

    def _repr_html_(self) -> str:
        """A table for notebooks: the arrays, and how they are divided."""
        rows = [(str(np.shape(a)), str(np.asarray(a[:0]).dtype)) for a in self.arrays]
        notes = [f"{len(self)} batches, {', '.join(self._options())}"]
        return Table([("shape", "dtype"), *rows], "<<", notes)._repr_html_()

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        n = len(self.arrays[0])
        return n // self.batch_size if self.drop_last else math.ceil(n / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch, or continue the one that `load_state_dict` set."""
        order = self._order()
        while self._taken < len(self):
            batch = self._next(order, 1)
            yield tuple(batch) if self.is_tuple else batch[0]

    def stacks(self, most: int | Callable[[], int]) -> Iterator[Any]:
        """Begin or continue an epoch, with `most` batches at once, stacked along a first axis.

        It is what `scan` of a compiled function takes. A stack has fewer batches at the end of the
        epoch, and a smaller last batch is a stack of its own. `most` may be a function, which is
        called before each stack.

        >>> batches = tg.data.batches(np.arange(7.0), 2)
        >>> [stack.tolist() for stack in batches.stacks(2)]
        [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0]], [[6.0]]]
        """
        order = self._order()
        while self._taken < len(self):
            before = self._taken
            rows = self._next(order, most() if callable(most) else most)
            count = self._taken - before
            stack = [np.reshape(a, (count, -1, *np.shape(a)[1:])) for a in rows]
            yield tuple(stack) if self.is_tuple else stack[0]

    def _order(self) -> Any:
        """Begin or continue an epoch; return its order, if it is shuffled."""
        if not self._resumes:
            self._taken = 0
            if self.shuffle:
                self._seed = int(self._generator().integers(1 << 63))
        self._resumes = False
        n = len(self.arrays[0])
        return np.random.default_rng(self._seed).permutation(n) if self.shuffle else None

    def _next(self, order: Any, most: int) -> list[Any]:
        """Take the next batches, at most so many, of one size; return their samples."""
        n, size = len(self.arrays[0]), self.batch_size
        count = max(1, min(most, n // size - self._taken))
        first, self._taken = self._taken * size, self._taken + count
        part = self._places(first, count, min(size, n - first))
        return [_rows(a, part if order is None else order[part]) for a in self.arrays]

    def _places(self, first: int, count: int, size: int) -> Any:
        """The places, in the order of the epoch, of `count` batches of one size from `first` on."""
        return slice(first, first + count * size)

    def _generator(self) -> np.random.Generator:
        """Return `rng` as a Generator; where it is a seed, replace it."""
        self.rng = np.random.default_rng(self.rng)
        return self.rng

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain numbers for `load_state_dict`."""
        generator = self._generator().bit_generator.state if self.shuffle else None
        return {"taken": self._taken, "seed": self._seed, "generator": generator}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to a saved position: the next iteration starts with the batch that came next.

        After the last batch of an epoch, that is the first batch of a new epoch. Raises ValueError,
        and changes nothing, if only one of the two is shuffled, or for another kind of Generator.
        """
        taken, seed, generator = state["taken"], state["seed"], state["generator"]
        if (generator is not None) != self.shuffle:
            raise ValueError("load_state_dict: only one of the two, batches and state, is shuffled")
        if self.shuffle:
            self._generator().bit_generator.state = generator  # raises for another kind
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

    A tuple or a list of arrays gives batches that are tuples. Each iteration is an epoch. By
    default, batches are views, in the order of the arrays; with `shuffle`, they are copies, in an
    order that is drawn from `rng` for each epoch. The last batch may be shorter; with `drop_last`,
    it is then left out. `state_dict()` and `load_state_dict()` save and restore the position, so
    that training can continue exactly in the middle of an epoch. Raises ValueError for arrays of
    different lengths.

    >>> x = np.arange(5.0)
    >>> [batch for batch in tg.data.batches(x, 2)]
    [array([0., 1.]), array([2., 3.]), array([4.])]
    >>> shuffled = tg.data.batches((x, x > 2), 2, shuffle=True, rng=0)
    >>> len(shuffled), len(list(shuffled)), len(list(shuffled)[0])
    (3, 3, 2)
    """
    return Batches(arrays, batch_size, shuffle, rng, drop_last)


def _rows(array: Any, part: Any) -> Any:
    """The rows of an array at a slice or at an array of indices."""
    # It takes a tenth to a half of the time of `array[part]`, and gives the same array.
    takes = type(array) is np.ndarray and array.flags.c_contiguous and not isinstance(part, slice)
    return array.take(part, 0) if takes else array[part]


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
    """Return the training samples and the test samples of each array, all in one random order.

    `test_size` is a fraction, which is rounded up to a number of samples, or a number of samples.
    `stratify` holds a class for each sample: then both parts have the classes in the same
    proportions, up to one sample of each class. The results are in scikit-learn's order: x_train,
    x_test, y_train, y_test. Raises ValueError for different lengths, and for an empty part.

    >>> x, y = np.arange(8.0), np.array([0, 1] * 4)
    >>> x_train, x_test, y_train, y_test = tg.data.train_test_split(x, y, rng=0, stratify=y)
    >>> x_train.shape, sorted(y_test)
    ((6,), [np.int64(0), np.int64(1)])
    """
    samples = _of_one_length("train_test_split", arrays)
    n = len(samples[0])
    is_fraction = isinstance(test_size, (float, np.floating))
    count = np.ceil(test_size * n) if is_fraction else test_size
    if not 0 < count < n:
        raise ValueError(
            f"train_test_split: test_size={test_size} of {n} samples leaves a part empty"
        )
    order = np.random.default_rng(rng).permutation(n)
    is_test = np.arange(n) < count
    if stratify is not None:
        classes = np.asarray(stratify)
        if classes.shape != (n,):
            raise ValueError(f"train_test_split: stratify of shape {classes.shape}, not {(n,)}")
        is_test = np.argsort(np.argsort(_quantiles(classes[order]), kind="stable")) < count
    return [a[order[part]] for a in samples for part in (~is_test, is_test)]


def _quantiles(classes: Array) -> Array:
    """The rank of each sample within its class, scaled to between 0 and 1."""
    _, number, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    by_class = np.argsort(number, kind="stable")
    rank = np.empty(len(classes))
    rank[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return (rank + 0.5) / sizes[number]


class Standard(NamedTuple):
    """A linear scale for each feature: what `standardize` returns."""

    mean: Array
    std: Array

    def __call__(self, x: Any) -> Any:
        """Convert data to this scale."""
        return (x - self.mean) / self.std

    def inverse(self, z: Any) -> Any:
        """Convert data from this scale back to the original units."""
        return z * self.std + self.mean


def standardize(x: ArrayLike) -> Standard:
    """Return a function that scales each feature of `x` to mean 0 and standard deviation 1.

    The first axis is that of the samples. Compute it from the training data, and apply it to all
    inputs of the model. Its `inverse` converts back. A constant feature becomes 0.

    >>> scale = tg.data.standardize([[1.0, 5.0], [3.0, 5.0]])
    >>> scale(np.array([[1.0, 5.0], [5.0, 6.0]]))
    array([[-1.,  0.],
           [ 3.,  1.]])
    """
    x = np.asarray(x)
    if not (x.ndim and len(x)):
        raise ValueError(f"standardize: no samples in an array of shape {x.shape}")
    constant = np.ptp(x, axis=0) == 0  # its std may be above 0, by rounding
    return Standard(np.where(constant, x[0], x.mean(axis=0)), np.where(constant, 1, x.std(axis=0)))


def one_hot(classes: ArrayLike, num_classes: int | None = None, dtype: DTypeLike = float) -> Array:
    """Return a vector for each class, along a new last axis: 1 at the class, and 0 elsewhere.

    Classes are integers from 0 to `num_classes` - 1, by default to the largest class. Raises
    IndexError for a class out of range, TypeError for other dtypes, and ValueError for an empty
    array without `num_classes`.

    >>> tg.data.one_hot([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    array: Any = classes if hasattr(classes, "__array_function__") else np.asarray(classes)
    if array.dtype.kind not in "iu":
        raise TypeError(f"one_hot: classes of dtype {array.dtype}; use classes.astype(int)")
    if num_classes is None:
        if not array.size:
            raise ValueError(
                "one_hot: there are no classes to find the largest of: pass num_classes"
            )
        num_classes = int(array.max()) + 1
    check_classes("one_hot", array, num_classes)
    is_class: Array = array[..., None] == np.arange(num_classes)
    return is_class.astype(dtype)


def check_classes(name: str, classes: Array, count: int) -> None:
    """Raise IndexError unless all classes are from 0 to `count` - 1."""

    def check(classes: Array) -> None:
        if not within(classes, count):
            index = tuple(np.argwhere((classes < 0) | (classes >= count))[0].tolist())
            raise IndexError(
                f"{name}: target {classes[index]} at index {index}, of {count} classes: "
                f"they are numbered from 0 to {count - 1}"
            )

    requirement = Requirement(check, lambda c: (c >= 0) & (c < count))
    mode.get().interpreter.effect(requirement, plain(classes))


def within(numbers: Any, count: int) -> Any:
    """Whether all integers of an array are from 0 to `count` - 1."""
    # As an unsigned integer, a negative number is a large one.
    bits = numbers.view(f"u{numbers.dtype.itemsize}")
    return not numbers.size or np.maximum.reduce(bits, axis=None) < count


# -- generated data sets


def moons(n: int, noise: float = 0.1, rng: RNG = None) -> tuple[Array, Array]:
    """Return `n` points on two interleaved half circles, and the class of each.

    The points have shape (n, 2) and dtype float64. The classes, 0 and 1 alternately, have shape
    (n,). Class 0 is the upper half of the unit circle, and class 1 the lower half of the unit
    circle around (1, 0.5). Normal noise with standard deviation `noise` is added to each
    coordinate.

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
    return _noisy(points, noise, rng), classes


def circles(
    n: int,
    noise: float = 0.05,
    rng: RNG = None,
    factor: float = 0.8,
) -> tuple[Array, Array]:
    """Return `n` points on two concentric circles, and the class of each.

    Class 0 is the unit circle, and class 1 the circle of radius `factor`. All else is as in
    `moons`.

    >>> points, classes = tg.data.circles(4, noise=0.0, rng=0, factor=0.5)
    >>> np.round(np.hypot(*points.T), 3), classes
    (array([1. , 0.5, 1. , 0.5]), array([0, 1, 0, 1]))
    """
    rng = np.random.default_rng(rng)
    classes = np.arange(n) % 2
    points = _polar(np.where(classes == 0, 1, factor), rng.uniform(0, 2 * np.pi, n))
    return _noisy(points, noise, rng), classes


def spirals(
    n: int,
    noise: float = 0.05,
    rng: RNG = None,
    arms: int = 2,
    turns: float = 1.0,
) -> tuple[Array, Array]:
    """Return `n` points on spirals that start at the origin, and the class of each, its arm.

    Each of the `arms` reaches the unit circle after `turns` turns. The arms are rotated copies of
    one spiral. The classes 0 to `arms` - 1 alternate. All else is as in `moons`.

    >>> points, classes = tg.data.spirals(6, noise=0.0, rng=0, arms=3)
    >>> bool(np.max(np.hypot(*points.T)) < 1), classes
    (True, array([0, 1, 2, 0, 1, 2]))
    """
    if arms < 1:
        raise ValueError(f"spirals: arms must be at least 1, not {arms}")
    rng = np.random.default_rng(rng)
    classes = np.arange(n) % arms
    radius = np.sqrt(rng.uniform(0, 1, n))  # a constant density per area
    points = _polar(radius, 2 * np.pi * (turns * radius + classes / arms))
    return _noisy(points, noise, rng), classes


def blobs(
    n: int,
    centers: int | ArrayLike = 3,
    rng: RNG = None,
    n_features: int = 2,
    cluster_std: float = 1.0,
    center_box: tuple[float, float] = (-10.0, 10.0),
) -> tuple[Array, Array]:
    """Return `n` normally distributed points around centers, and the class of each, its center.

    `centers` holds the centers, shape (centers, features), or is a number of centers. These are
    then drawn uniformly: each of their `n_features` coordinates from the range `center_box`. The
    classes alternate. `cluster_std` is the standard deviation of each coordinate.

    >>> points, classes = tg.data.blobs(4, [[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]], rng=0)
    >>> points.shape, classes, points.mean(axis=1) > 4
    ((4, 3), array([0, 1, 0, 1]), array([False,  True, False,  True]))
    """
    rng = np.random.default_rng(rng)
    if isinstance(centers, (int, np.integer)):
        centers = rng.uniform(*center_box, (centers, n_features))
    centers = np.asarray(centers, float)
    if centers.ndim != 2 or not len(centers):
        raise ValueError(
            f"blobs: centers of shape {centers.shape}; pass a matrix with a center in each row"
        )
    classes = np.arange(n) % len(centers)
    return rng.normal(centers[classes], cluster_std), classes


def _noisy(points: Array, noise: float, rng: np.random.Generator) -> Array:
    return points + rng.normal(0, noise, points.shape)


def _polar(radius: Array, angle: Array) -> Array:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
