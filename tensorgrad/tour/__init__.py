"""The tour of `python -m tensorgrad`: two networks learn, and are looked at.

It prints what happens, and gathers it in one page with pictures. Pictures are drawn by
`tensorgrad.viz`; where a library is missing, the tour says so and does all the rest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .lessons import compare_engines, learn_four_samples, learn_two_moons, look_at_a_neuron
from .report import Report


def tour(seed: int = 0, out: Path | None = None, width: int = 96, quick: bool = False) -> None:
    """Print the tour, and write its page and its pictures into the folder `out`, if one is given.

    `width` is that of the text in columns; `seed` that of all random numbers. A quick tour takes
    fewer steps.
    """
    report = Report(width, out)
    rng = np.random.default_rng(seed)
    net = learn_four_samples(report, rng, 20 if quick else 100)
    look_at_a_neuron(report, net)
    moons = learn_two_moons(report, rng, 100 if quick else 300)
    compare_engines(report, moons, quick)
    report.finish()
