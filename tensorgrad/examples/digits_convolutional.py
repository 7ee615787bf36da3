"""Teach a convolutional network to read noisy digits, wherever they are in the image.

It learns from the same images as the network of the example `digits`, and makes far fewer errors.
"""

import numpy as np

from tensorgrad import nn

from .digits import train


def network(rng: np.random.Generator) -> nn.Module:
    """Return a network of two convolutions, each followed by batch normalization."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False, dtype=np.float32, rng=rng),
        nn.BatchNorm2d(16, dtype=np.float32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False, dtype=np.float32, rng=rng),
        nn.BatchNorm2d(32, dtype=np.float32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 3 * 3, 10, dtype=np.float32, rng=rng),
    )


def main() -> None:
    """Train the network, and print its layers and how well it reads in the end."""
    rng = np.random.default_rng(0)
    model = network(rng)
    print(model.summary(np.zeros((1, 1, 12, 12), np.float32)))
    history = train(model, epochs=3, lr=0.01, rng=rng)
    print(f"{history['val_accuracy'][-1]:.1%} of new digits are read correctly")


if __name__ == "__main__":
    main()
