"""The version, which files that are saved carry, too."""

__version__ = "0.1.0"
