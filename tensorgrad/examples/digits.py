"""Teach a multilayer perceptron to read noisy digits, with `tg.fit`.

The images are drawn here: characters of a dot-matrix display, shifted and covered with noise.
"""

from typing import Any

import numpy as np

import tensorgrad as tg

FONT = """
01110 00100 01110 11111 00010 11111 00110 11111 01110 01110
10001 01100 10001 00010 00110 10000 01000 00001 10001 10001
10011 00100 00001 00100 01010 11110 10000 00010 10001 10001
10101 00100 00010 00010 10010 00001 11110 00100 01110 01111
11001 00100 00100 00001 11111 00001 10001 01000 10001 00001
10001 00100 01000 10001 00010 10001 10001 01000 10001 00010
01110 01110 11111 01110 00010 01110 01110 01000 01110 01100
"""
GLYPHS = np.array([[[*map(int, dots)] for dots in line.split()] for line in FONT.split("\n")[1:-1]])


def draw(n: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return `n` images, shape (n, 1, 12, 12), and the digits in them, shape (n,)."""
    digits = rng.integers(10, size=n)
    images = rng.normal(0, 0.3, size=(n, 1, 12, 12)).astype(np.float32)
    for image, digit, top, left in zip(images, digits, *rng.integers(2, 5, size=(2, n))):
        image[0, top : top + 7, left : left + 5] += GLYPHS[:, digit]
    return images, digits


def train(model: tg.nn.Module, epochs: int, lr: float, rng: np.random.Generator) -> tg.History:
    """Train a model of images on 4,000 of them, and validate it on 1,000 others."""
    return tg.fit(
        model,
        tg.nn.cross_entropy,
        tg.data.batches(draw(4000, rng), 50, shuffle=True, rng=rng),
        optimizer=tg.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1),
        epochs=epochs,
        validation=[draw(1000, rng)],
        metrics=[tg.training.accuracy],
    )


def main() -> None:
    """Train a network with one hidden layer, and print how well it reads in the end."""
    rng = np.random.default_rng(0)
    perceptron = tg.nn.MLP(144, [128, 10], "relu", "linear", dtype=np.float32, rng=rng)
    history = train(tg.nn.Sequential(tg.nn.Flatten(), perceptron), epochs=10, lr=0.003, rng=rng)
    print(f"{history['val_accuracy'][-1]:.1%} of new digits are read correctly")


if __name__ == "__main__":
    main()
