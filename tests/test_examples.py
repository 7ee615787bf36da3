"""Networks trained for real, to what they must reach. Each is a function of how long it trains."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.training import accuracy, evaluate

from .depth import one_in


def train(model: Any, loss: Any, batches: Any, epochs: int, lr: float) -> tg.History:
    """AdamW, with a rate that falls to 0 over the training."""
    optimizer = tg.optim.AdamW(model.parameters(), lr=lr)
    schedule = tg.optim.CosineAnnealingLR(optimizer, epochs)
    return tg.fit(
        model,
        loss,
        batches,
        optimizer=optimizer,
        schedule=schedule,
        epochs=epochs,
        progress=False,
    )


def accuracy_of(model: Any, x: Any, y: Any) -> float:
    return evaluate(model, nn.cross_entropy, [(x, y)], [accuracy])["accuracy"]


# -- points in the plane


def learn_moons(epochs: int) -> tuple[Any, float]:
    rng = np.random.default_rng(0)
    x, y = tg.data.moons(500, noise=0.1, rng=rng)
    x_train, x_test, y_train, y_test = tg.data.train_test_split(x, y, rng=rng, stratify=y)
    model = nn.MLP(2, [16, 16, 2], output_activation="linear", rng=rng)
    batches = tg.data.batches((x_train, y_train), 25, shuffle=True, rng=rng)
    train(model, nn.cross_entropy, batches, epochs, lr=0.02)
    return model, accuracy_of(model, x_test, y_test)


def test_moons() -> None:
    assert learn_moons(30)[1] >= 0.99


# -- handwritten digits


def digits(rng: np.random.Generator) -> list[Any]:
    """Scikit-learn's 1,797 images of 8 x 8, a quarter of them for the test."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    return tg.data.train_test_split((x / 16).astype(np.float32), y, rng=rng, stratify=y)


def learn_digits(epochs: int) -> tuple[Any, float]:
    rng = np.random.default_rng(0)
    x_train, x_test, y_train, y_test = digits(rng)
    model = nn.Sequential(
        nn.Linear(64, 256, dtype=np.float32, rng=rng),
        nn.ReLU(),
        nn.Dropout(0.5, rng=rng),
        nn.Linear(256, 10, dtype=np.float32, rng=rng),
    )
    batches = tg.data.batches((x_train, y_train), 32, shuffle=True, rng=rng)
    train(model, nn.cross_entropy, batches, epochs, lr=0.003)
    return model, accuracy_of(model, x_test, y_test)


def test_digits() -> None:
    start = time.perf_counter()
    assert learn_digits(60)[1] >= 0.97
    assert time.perf_counter() - start < 20


def learn_digits_as_images(epochs: int) -> tuple[Any, float]:
    rng = np.random.default_rng(0)
    x_train, x_test, y_train, y_test = digits(rng)
    options: dict[str, Any] = {"dtype": np.float32, "rng": rng}
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, **options),
        nn.BatchNorm2d(32, dtype=np.float32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, **options),
        nn.BatchNorm2d(32, dtype=np.float32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5, rng=rng),
        nn.Linear(512, 10, **options),
    )

    def smooth_loss(scores: Any, classes: Any) -> Any:
        return nn.cross_entropy(scores, classes, label_smoothing=0.1)

    x_train, x_test = (x.reshape(-1, 1, 8, 8) for x in (x_train, x_test))
    batches = tg.data.batches((x_train, y_train), 32, shuffle=True, rng=rng)
    train(model, smooth_loss, batches, epochs, lr=0.003)
    return model, accuracy_of(model, x_test, y_test)


def test_digits_as_images() -> None:
    assert learn_digits_as_images(20)[1] >= 0.985


# -- text, character by character

NOUNS, VERBS = ["cat", "dog", "owl", "fox"], ["sees", "eats"]
SENTENCES = [f"{a} {v} {a} or {b}\n" for a in NOUNS for v in VERBS for b in NOUNS]
ALPHABET = sorted({*"".join(SENTENCES)})
LENGTH = len(SENTENCES[0])


def encode(sentences: list[str]) -> tuple[Any, Any]:
    """Each character's number, and that of the character before it: target and input."""
    target = np.array([[ALPHABET.index(c) for c in sentence] for sentence in sentences])
    return np.roll(target, 1, axis=1), target


class Recurrent(nn.Module):
    """Scores of each next character: by a gated recurrent unit."""

    def __init__(self, rng: np.random.Generator) -> None:
        options: dict[str, Any] = {"dtype": np.float32, "rng": rng}
        self.embedding = nn.Embedding(len(ALPHABET), 16, **options)
        self.gru = nn.GRU(16, 64, batch_first=True, **options)
        self.head = nn.Linear(64, len(ALPHABET), **options)

    def __call__(self, characters: Any) -> Any:
        return np.moveaxis(self.head(self.gru(self.embedding(characters))[0]), -1, 1)


class Attentive(nn.Module):
    """Scores of each next character: by a Transformer."""

    def __init__(self, rng: np.random.Generator) -> None:
        options: dict[str, Any] = {"dtype": np.float32, "rng": rng}
        self.embedding = nn.Embedding(len(ALPHABET), 32, **options)
        self.position = nn.Embedding(LENGTH, 32, **options)
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, dropout=0.0, batch_first=True, norm_first=True, **options
        )
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, len(ALPHABET), **options)

    def __call__(self, characters: Any) -> Any:
        x = self.embedding(characters) + self.position(np.arange(LENGTH))
        return np.moveaxis(self.head(self.encoder(x, is_causal=True)), -1, 1)


def learn_text(network: Callable[[np.random.Generator], Any]) -> Callable[[int], Any]:
    def learn(epochs: int) -> tuple[Any, float]:
        rng = np.random.default_rng(0)
        text = [SENTENCES[i] for i in rng.integers(len(SENTENCES), size=512)]
        model = network(rng)
        batches = tg.data.batches(encode(text), 16, shuffle=True, rng=rng)
        train(model, nn.cross_entropy, batches, epochs, lr=0.01)
        return model, evaluate(model, nn.cross_entropy, [encode(SENTENCES)])["loss"]

    return learn


@pytest.mark.parametrize(("network", "epochs"), one_in(2, [(Attentive, 6), (Recurrent, 20)]))
def test_text(network: Any, epochs: int) -> None:
    """The loss comes close to the entropy: ln 32 a sentence, as one of 32 is drawn.

    Without a memory of the first noun, its second mention would cost another ln 4.
    """
    _, loss = learn_text(network)(epochs)
    entropy = np.log(len(SENTENCES)) / LENGTH
    assert entropy < loss < entropy + 0.25 * np.log(4) / LENGTH


# -- regression with uncertainty


def learn_noise(epochs: int) -> tuple[Any, Any]:
    """Predict the mean and the logarithm of the variance of sin(3 x), with noise that grows."""
    rng = np.random.default_rng(0)

    def sample(n: int) -> tuple[Any, Any, Any]:
        x = rng.uniform(-1, 1, (n, 1))
        sigma = 0.05 + 0.2 * (x + 1)
        return x, sigma, rng.normal(np.sin(3 * x), sigma)

    def negative_log_likelihood(prediction: Any, y: Any) -> Any:
        mean, log_variance = prediction[:, :1], prediction[:, 1:]
        return np.mean(log_variance + (y - mean) ** 2 * np.exp(-log_variance)) / 2

    x, _, y = sample(2000)
    model = nn.MLP(1, [32, 32, 2], output_activation="linear", rng=rng)
    batches = tg.data.batches((x, y), 100, shuffle=True, rng=rng)
    train(model, negative_log_likelihood, batches, epochs, lr=0.01)
    return model, sample(4000)


def test_regression_knows_its_uncertainty() -> None:
    model, (x, sigma, y) = learn_noise(60)
    with tg.no_grad():
        mean, log_variance = model(x).numpy().T[..., None]
    predicted = np.exp(log_variance / 2)
    assert np.mean(np.abs(predicted / sigma - 1)) < 0.15
    assert np.sqrt(np.mean((mean - np.sin(3 * x)) ** 2)) < 0.04
    z = np.abs(y - mean) / predicted
    assert_allclose([np.mean(z < k) for k in (1, 2)], [0.683, 0.954], atol=0.03)


# -- a table in a file


@pytest.mark.parametrize("reader", ["numpy", "pandas"])
def test_wine_from_a_csv_file(reader: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    path = tmp_path / "wine.csv"
    wine = datasets.load_wine()
    table = np.column_stack([wine.data, wine.target])
    header = ",".join([*wine.feature_names, "cultivar"])
    np.savetxt(path, table, "%.10g", delimiter=",", header=header, comments="")

    if reader == "pandas":
        frame = pytest.importorskip("pandas").read_csv(path)
        x, y = frame.drop(columns="cultivar").to_numpy(), frame["cultivar"].to_numpy().astype(int)
    else:
        columns = np.genfromtxt(path, delimiter=",", skip_header=1)
        x, y = columns[:, :-1], columns[:, -1].astype(int)

    x_train, x_test, y_train, y_test = tg.data.train_test_split(x, y, rng=0, stratify=y)
    scale = tg.data.standardize(x_train)
    model = nn.MLP(13, [16, 3], "relu", "linear", rng=0)
    history = tg.fit(
        model,
        nn.cross_entropy,
        tg.data.batches((scale(x_train), y_train), 16, shuffle=True, rng=0),
        validation=[(scale(x_test), y_test)],
        metrics=[accuracy],
        optimizer=tg.optim.Adam(model.parameters(), lr=0.01),
        early_stopping=5,
        epochs=100,
        progress=False,
    )
    best = (history.best_epoch or 0) - 1
    assert history["val_loss"][best] == min(history["val_loss"])
    assert accuracy_of(model, scale(x_test), y_test) == history["val_accuracy"][best] >= 0.95


# -- all of them


@pytest.mark.parametrize(
    "learn",
    one_in(
        2,
        [
            learn_moons,
            learn_digits,
            learn_text(Attentive),
            learn_digits_as_images,
            learn_noise,
            learn_text(Recurrent),
        ],
    ),
)
def test_the_same_seed_gives_the_same_bits(learn: Any) -> None:
    first, second = learn(1)[0].state_dict(), learn(1)[0].state_dict()
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert_array_equal(array, second[name])
