"""Saving and loading: values, models and whole trainings, in files that are checked when read.

A file holds arrays by name, and a header in JSON: how they are nested, what else there is, and of
each array its dtype, shape and CRC-32. Any NumPy reads the arrays of an `.npz` file, other tools
those of a `.safetensors` file. There is no pickle in either, and nothing in a file is run.
"""

from .checkpoints import Checkpoint
from .files import load, read_metadata, save

__all__ = ["Checkpoint", "load", "read_metadata", "save"]


def __dir__() -> list[str]:
    return __all__
