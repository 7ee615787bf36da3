"""The passes: each makes of a program another one that does the same, in less time.

They change nothing in the program that they are given. `docs/add-a-pass.md` says how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..ir import Program
from .algebra import merge_scalings, sum_by_products
from .bias_folding import fold_biases
from .broadcasting import materialize_broadcasts
from .common_subexpressions import eliminate_common_subexpressions
from .constant_folding import fold_constants
from .dead_code import eliminate_dead_code
from .decisions import hoist_decisions
from .horizontal_fusion import fuse_horizontally
from .layout_assignment import assign_layouts, assign_layouts_by_rule
from .loop_fusion import fuse_loops

Pass: TypeAlias = Callable[[Program], Program]

# Those that gain whatever the back end is; the others serve NumPy's.
ALGEBRAIC: tuple[Pass, ...] = (
    fold_constants,
    eliminate_common_subexpressions,
    eliminate_dead_code,
    hoist_decisions,
    merge_scalings,
    eliminate_dead_code,
)
PASSES: tuple[Pass, ...] = (
    *ALGEBRAIC,
    sum_by_products,
    eliminate_dead_code,
    assign_layouts,
    fold_biases,
    materialize_broadcasts,
    fuse_loops,
    fuse_horizontally,
)


def repeatable(passes: Sequence[Pass]) -> Sequence[Pass]:
    """The passes, without measured costs: so that each process makes the same programs."""
    return [assign_layouts_by_rule if p is assign_layouts else p for p in passes]
