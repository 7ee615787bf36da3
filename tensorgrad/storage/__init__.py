"""Saving and loading: trees, models and whole trainings, in files that are checked when read.

A file holds arrays by name, and a header in JSON: the structure of the tree, all other values, and
the dtype, shape and CRC-32 of each array. `numpy.load` reads the arrays of an `.npz` file, other
tools those of a `.safetensors` file. Neither contains pickle, and nothing in a file is executed.
"""

from .checkpoints import Checkpoint
from .files import load, read_metadata, save

__all__ = ["Checkpoint", "load", "read_metadata", "save"]


def __dir__() -> list[str]:
    return __all__
