"""Pictures of graphs, programs and trainings.

Graphs are drawn by the graphviz library, curves by matplotlib; both are imported when they are
needed. Without graphviz, graphs are printed as trees of text.
"""

from .curves import decision_boundary, gradients, history, profile, weights
from .drawing import Graph
from .exploded import explode
from .programs import Stages, program
from .recorded import graph

__all__ = [
    "Graph",
    "Stages",
    "decision_boundary",
    "explode",
    "gradients",
    "graph",
    "history",
    "profile",
    "program",
    "weights",
]


def __dir__() -> list[str]:
    return __all__
